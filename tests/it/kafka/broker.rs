//! A real broker with one node, which listens on loopback and uses a directory of the caller.

use std::fs::{self, File};
use std::io::Write;
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use super::tools::KafkaTools;

/// The longest time that a start or a stop may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(90);
/// The cluster id of a directory that [`Broker::create`] formats. A directory that has a
/// `meta.properties` keeps its own.
const CLUSTER_ID: &str = "MkU3OEVBNTcwNTJENDM2Qg";
/// The name of the file with the output of the broker.
const OUTPUT: &str = "output";

/// A running broker. A drop kills it, and `stop` lets it close its files first.
#[derive(Debug)]
pub(crate) struct Broker {
    tools: KafkaTools,
    process: Child,
    address: String,
    /// Configuration and output, outside the data directory.
    scratch: TempDir,
}

/// A record that Kafka's own consumer read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Consumed {
    pub(crate) offset: u64,
    pub(crate) key: Option<String>,
    pub(crate) value: Option<String>,
}

impl Broker {
    /// Formats the log directory `root` and starts a broker on it. The directory must not contain
    /// the `meta.properties` of another cluster.
    pub(crate) fn create(tools: &KafkaTools, root: &Path) -> Self {
        Self::launch(tools, root, true, free_ports())
    }

    /// Starts a broker on the log directory `root`, which an earlier broker of node 1 has left.
    pub(crate) fn start(tools: &KafkaTools, root: &Path) -> Self {
        Self::launch(tools, root, false, free_ports())
    }

    /// Starts a broker on the log directory `root` at the address of an earlier broker, so that the
    /// clients of that broker continue.
    pub(crate) fn start_at(tools: &KafkaTools, root: &Path, address: &str) -> Self {
        let port = address
            .rsplit(':')
            .next()
            .and_then(|port| port.parse().ok());
        let [_, controller_port] = free_ports();
        let ports = [port.expect("an address of a broker"), controller_port];
        Self::launch(tools, root, false, ports)
    }

    fn launch(tools: &KafkaTools, root: &Path, format: bool, ports: [u16; 2]) -> Self {
        let scratch = tempfile::tempdir().expect("a directory");
        let [port, controller_port] = ports;
        let config = scratch.path().join("server.properties");
        fs::write(&config, properties(root, port, controller_port))
            .expect("the configuration can be written");
        let config = config.to_str().expect("a UTF-8 path");
        if format {
            tools.expect(
                "kafka.tools.StorageTool",
                ["format", "-t", CLUSTER_ID, "-c", config],
            );
        }
        let output =
            File::create(scratch.path().join(OUTPUT)).expect("the output file can be created");
        let process = tools
            .command("kafka.Kafka", "info")
            .arg(config)
            .stdout(output.try_clone().expect("the output file can be shared"))
            .stderr(output)
            .spawn()
            .expect("java runs");
        let mut broker = Self {
            tools: tools.clone(),
            process,
            address: format!("127.0.0.1:{port}"),
            scratch,
        };
        broker.wait_for("started", |broker| {
            broker.output().contains("Kafka Server started")
        });
        broker
    }

    /// Returns the host and port of the broker.
    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    /// Creates a topic with replication factor 1.
    pub(crate) fn create_topic(&self, name: &str, partitions: u32, config: &[(&str, &str)]) {
        let partitions = partitions.to_string();
        let mut arguments = vec![
            "--create",
            "--replication-factor",
            "1",
            "--topic",
            name,
            "--partitions",
            &partitions,
        ];
        let config: Vec<_> = config
            .iter()
            .map(|(key, value)| format!("{key}={value}"))
            .collect();
        arguments.extend(config.iter().flat_map(|entry| ["--config", entry]));
        self.tool("org.apache.kafka.tools.TopicCommand", &arguments);
    }

    /// Returns the end offset of the partition, or `None` if the broker does not know the
    /// partition.
    pub(crate) fn end_offset(&self, topic: &str, partition: u32) -> Option<u64> {
        let printed = self.tool("org.apache.kafka.tools.GetOffsetShell", &["--topic", topic]);
        let line = format!("{topic}:{partition}:");
        printed
            .lines()
            .find_map(|printed| printed.strip_prefix(&line)?.parse().ok())
    }

    /// Reads the first `count` records from the log start, with Kafka's own consumer at
    /// `read_committed`. Returns fewer if the timeout passes first. Keys and values must
    /// be text.
    pub(crate) fn read(&self, topic: &str, partition: u32, count: usize) -> Vec<Consumed> {
        // Control characters that no test writes: between fields, at the end of a record, and for
        // null.
        const FIELD: &str = "\u{1f}";
        const RECORD: &str = "\u{1e}";
        const NULL: &str = "\u{1d}";
        let (partition, count) = (partition.to_string(), count.to_string());
        let formatting = [
            "print.offset=true".to_owned(),
            "print.key=true".to_owned(),
            format!("key.separator={FIELD}"),
            format!("line.separator={RECORD}"),
            format!("null.literal={NULL}"),
        ];
        let mut arguments = vec![
            "--topic",
            topic,
            "--partition",
            &partition,
            "--offset",
            "earliest",
        ];
        arguments.extend([
            "--isolation-level",
            "read_committed",
            "--max-messages",
            &count,
            "--timeout-ms",
            "20000",
        ]);
        arguments.extend(
            formatting
                .iter()
                .flat_map(|property| ["--formatter-property", property]),
        );
        let printed = self.tool(
            "org.apache.kafka.tools.consumer.ConsoleConsumer",
            &arguments,
        );

        let text = |field: &str| (field != NULL).then(|| field.to_owned());
        let records = printed.split_terminator(RECORD).map(|record| {
            let fields: Vec<_> = record.splitn(3, FIELD).collect();
            let [offset, key, value] = fields[..] else {
                panic!("a record must have three fields: {record:?}")
            };
            let offset = offset
                .trim_start_matches("Offset:")
                .parse()
                .expect("an offset");
            Consumed {
                offset,
                key: text(key),
                value: text(value),
            }
        });
        records.collect()
    }

    /// Writes values without keys with Kafka's own producer, and waits until all are acknowledged.
    pub(crate) fn produce(&self, topic: &str, values: &[String]) {
        let mut command = self
            .tools
            .command("org.apache.kafka.tools.ConsoleProducer", "warn");
        command.args([
            "--bootstrap-server",
            &self.address,
            "--topic",
            topic,
            "--producer-property",
            "acks=all",
        ]);
        let mut producer = command
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .expect("java runs");
        let mut input = producer.stdin.take().expect("stdin is piped");
        input
            .write_all((values.join("\n") + "\n").as_bytes())
            .expect("the producer reads its input");
        drop(input);
        assert!(
            producer.wait().is_ok_and(|status| status.success()),
            "the producer failed:\n{}",
            self.output()
        );
    }

    /// Runs one of Kafka's tools against this broker and returns its output.
    pub(crate) fn tool(&self, class: &str, arguments: &[&str]) -> String {
        let server = ["--bootstrap-server", self.address.as_str()];
        self.tools.expect(class, server.iter().chain(arguments))
    }

    /// Returns the output of the broker so far.
    pub(crate) fn output(&self) -> String {
        fs::read_to_string(self.scratch.path().join(OUTPUT)).unwrap_or_default()
    }

    /// Shuts the broker down cleanly.
    pub(crate) fn stop(mut self) {
        let sent = Command::new("sh")
            .arg("-c")
            .arg(format!("kill -TERM {}", self.process.id()))
            .status();
        assert!(
            sent.is_ok_and(|status| status.success()),
            "the broker has ended already:
{}",
            self.output()
        );
        self.wait_for("stopped", |broker| {
            broker
                .process
                .try_wait()
                .is_ok_and(|status| status.is_some())
        });
    }

    fn wait_for(&mut self, what: &str, is_done: impl Fn(&mut Self) -> bool) {
        let until = Instant::now() + PATIENCE;
        while !is_done(self) {
            let has_ended = self.process.try_wait().is_ok_and(|status| status.is_some());
            assert!(
                !has_ended && Instant::now() < until,
                "the broker has not {what}:\n{}",
                self.output()
            );
            thread::sleep(Duration::from_millis(50));
        }
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        // `kill` fails only if the process has ended already.
        drop(self.process.kill());
        drop(self.process.wait());
    }
}

/// Returns two ports that are free at this moment.
fn free_ports() -> [u16; 2] {
    let listeners = [(); 2].map(|()| TcpListener::bind(("127.0.0.1", 0)).expect("a free port"));
    listeners.map(|listener| listener.local_addr().expect("a free port").port())
}

/// Returns the configuration of a node that is broker and controller. Records never expire, and
/// every internal topic has one partition.
fn properties(root: &Path, port: u16, controller_port: u16) -> String {
    format!(
        "process.roles=broker,controller\n\
         node.id=1\n\
         listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller_port}\n\
         advertised.listeners=PLAINTEXT://127.0.0.1:{port}\n\
         controller.listener.names=CONTROLLER\n\
         listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT\n\
         controller.quorum.voters=1@127.0.0.1:{controller_port}\n\
         log.dirs={}\n\
         log.retention.ms=-1\n\
         group.initial.rebalance.delay.ms=0\n\
         offsets.topic.num.partitions=1\n\
         offsets.topic.replication.factor=1\n\
         transaction.state.log.num.partitions=1\n\
         transaction.state.log.replication.factor=1\n\
         transaction.state.log.min.isr=1\n\
         share.coordinator.state.topic.num.partitions=1\n\
         share.coordinator.state.topic.replication.factor=1\n\
         share.coordinator.state.topic.min.isr=1\n",
        root.display()
    )
}
