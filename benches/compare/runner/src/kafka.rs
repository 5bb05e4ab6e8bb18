//! A Kafka broker on this machine, measured with its own tools. Java and the jars are those of the
//! tests of this repository.

use std::env;
use std::fs::{self, File};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use harness::{Outcome, Size, Workload, disk_bytes, peak_memory};

use crate::build;
use crate::child;
use crate::options::Options;

/// The time that a broker or a tool may take.
const PATIENCE: Duration = Duration::from_secs(60);
const CLUSTER_ID: &str = "MkU3OEVBNTcwNTJENDM2Qg";
const TOPIC: &str = "compare";

/// Java and the directory of the jars.
#[derive(Clone, Debug)]
struct Tools {
    java: PathBuf,
    jars: PathBuf,
}

/// A running broker. A drop kills it.
#[derive(Debug)]
struct Broker {
    process: Child,
    address: String,
}

impl Drop for Broker {
    fn drop(&mut self) {
        child::end(&mut self.process);
    }
}

impl Tools {
    fn find() -> Result<Self, String> {
        let java = env::var_os("JAVA_HOME")
            .map_or("java".into(), |home| Path::new(&home).join("bin/java"));
        let mut version = Command::new(&java);
        version
            .arg("-version")
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        if !version.status().is_ok_and(|status| status.success()) {
            return Err("skipped: there is no Java".to_owned());
        }
        let root = build::workspace().join("../..");
        let target = env::var_os("CARGO_TARGET_DIR").map_or(root.join("target"), PathBuf::from);
        let jars = env::var_os("ANNALS_KAFKA_JARS").map_or(target.join("kafka"), PathBuf::from);
        let has_jars = jars
            .read_dir()
            .is_ok_and(|mut entries| entries.next().is_some());
        if !has_jars {
            return Err(
                "skipped: there are no jars of Kafka, which .ci/kafka/fetch downloads".to_owned(),
            );
        }
        Ok(Self { java, jars })
    }

    fn version(&self) -> String {
        let entries = self.jars.read_dir().into_iter().flatten().flatten();
        let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
        let mut versions = names.filter_map(|name| {
            Some(
                name.strip_prefix("kafka-clients-")?
                    .strip_suffix(".jar")?
                    .to_owned(),
            )
        });
        versions.next().unwrap_or_else(|| "unknown".to_owned())
    }

    /// Returns a command with the memory that Kafka's own scripts set.
    fn command(&self, class: &str, memory: &str) -> Command {
        let mut command = Command::new(&self.java);
        command
            .arg(memory)
            .args([
                "-XX:+UseG1GC",
                "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
                "-cp",
            ])
            .arg(self.jars.join("*"))
            .arg(class)
            .stdin(Stdio::null());
        command
    }

    /// Runs a tool with a time limit and returns its output.
    fn run(&self, class: &str, arguments: &[&str], output: &Path) -> Result<String, String> {
        let file = File::create(output).map_err(|error| error.to_string())?;
        let mut command = self.command(class, "-Xmx512m");
        command.args(arguments).stdout(file).stderr(Stdio::null());
        let mut process = command.spawn().map_err(|error| format!("java: {error}"))?;
        let status = child::wait(&mut process, PATIENCE).ok_or_else(|| format!("hung: {class}"))?;
        let printed = fs::read_to_string(output).unwrap_or_default();
        if status.success() {
            Ok(printed)
        } else {
            Err(format!(
                "{class} failed: {}",
                printed.lines().next().unwrap_or_default()
            ))
        }
    }
}

/// Returns what a broker promises, or why there is none.
pub(crate) fn about() -> Outcome {
    match Tools::find() {
        Err(error) => Outcome::default().with(Outcome::UNSUPPORTED, error),
        Ok(tools) => Outcome::default()
            .with("version", format!("Apache Kafka {}", tools.version()))
            .with("acknowledged", "page cache")
            .with("checked", "yes")
            .with("meaning", "in the page cache of the broker, over loopback, with `acks=1`")
            .with(
                "notes",
                "`kafka-producer-perf-test`, whose producer makes its own batches, under \"append 100\", and \
                 `kafka-consumer-perf-test` under \"scan\"; the tools count records and do not compare them",
            ),
    }
}

/// Runs one round: a broker on an empty directory, a producer and a consumer.
pub(crate) fn round(options: &Options) -> Vec<(Workload, Outcome)> {
    let append = Workload::Append {
        records: 100,
        record_bytes: 100,
    };
    let wanted = |workload: &Workload| options.workloads.contains(workload);
    if ![append, Workload::Scan, Workload::OpenClean]
        .iter()
        .any(wanted)
    {
        return Vec::new();
    }
    let Ok(tools) = Tools::find() else {
        return Vec::new();
    };
    let dir = options.dir.join("kafka");
    let found = measured(&tools, &dir, options.size);
    // The next round starts with an empty directory again.
    _ = fs::remove_dir_all(&dir);
    match found {
        Ok([produced, consumed, stored]) => vec![
            (append, produced),
            (Workload::Scan, consumed),
            (Workload::OpenClean, stored),
        ],
        Err(error) => vec![
            (append, child::failed(&error)),
            (Workload::Scan, child::failed(error)),
        ],
    }
    .into_iter()
    .filter(|(workload, _)| wanted(workload))
    .collect()
}

fn measured(tools: &Tools, dir: &Path, size: Size) -> Result<[Outcome; 3], String> {
    let records = match size {
        Size::Full => 2_000_000,
        Size::Quick => 200_000,
        Size::Test => 8_000,
    };
    let count = format!("{records}");
    let broker = start(tools, dir)?;
    let output = dir.join("output");
    let servers = format!("bootstrap.servers={}", broker.address);
    let produced = tools.run(
        "org.apache.kafka.tools.ProducerPerformance",
        &[
            "--topic",
            TOPIC,
            "--num-records",
            &count,
            "--record-size",
            "100",
            "--throughput",
            "-1",
            "--producer-props",
            &servers,
            "acks=1",
        ],
        &output,
    )?;
    let produced = production(&produced, records)?;
    let consumed = tools.run(
        "org.apache.kafka.tools.ConsumerPerformance",
        &[
            "--topic",
            TOPIC,
            "--messages",
            &count,
            "--bootstrap-server",
            &broker.address,
            "--timeout",
            "20000",
        ],
        &output,
    )?;
    let consumed = consumption(&consumed, records)?;
    let memory = peak_memory(&broker.process.id().to_string()).unwrap_or_default();
    drop(broker);
    let disk = disk_bytes(&dir.join("data").join(format!("{TOPIC}-0")))
        .map_err(|error| error.to_string())?;
    // Opening is not measured: a broker does far more than that when it starts.
    let stored = Outcome::default()
        .with(Outcome::UNSUPPORTED, "not measured")
        .with("records", records)
        .with("disk", disk)
        .with("memory", memory);
    Ok([produced, consumed, stored])
}

/// Formats a directory, starts a broker, waits until it listens, and creates the topic.
fn start(tools: &Tools, dir: &Path) -> Result<Broker, String> {
    let data = dir.join("data");
    let complain = |error: std::io::Error| format!("{}: {error}", dir.display());
    if dir.exists() {
        fs::remove_dir_all(dir).map_err(complain)?;
    }
    fs::create_dir_all(&data).map_err(complain)?;
    let [port, controller] = free_ports().map_err(complain)?;
    let config = dir.join("server.properties");
    fs::write(&config, properties(&data, port, controller)).map_err(complain)?;
    let config = config.to_str().ok_or("the path is not UTF-8")?;
    let output = dir.join("output");
    let format = ["format", "-t", CLUSTER_ID, "-c", config];
    tools.run("kafka.tools.StorageTool", &format, &output)?;
    let log = File::create(dir.join("broker")).map_err(complain)?;
    let process = tools
        .command("kafka.Kafka", "-Xmx1g")
        .arg(config)
        .stdout(Stdio::null())
        .stderr(log)
        .spawn()
        .map_err(|error| format!("java: {error}"))?;
    let broker = Broker {
        process,
        address: format!("127.0.0.1:{port}"),
    };
    let begin = Instant::now();
    while std::net::TcpStream::connect(&broker.address).is_err() {
        if begin.elapsed() > PATIENCE {
            return Err("the broker did not start".to_owned());
        }
        thread::sleep(Duration::from_millis(50));
    }
    let topic = [
        "--create",
        "--topic",
        TOPIC,
        "--partitions",
        "1",
        "--replication-factor",
        "1",
        "--bootstrap-server",
        &broker.address,
    ];
    tools.run("org.apache.kafka.tools.TopicCommand", &topic, &output)?;
    Ok(broker)
}

/// Returns the configuration of a broker with one node, in its defaults apart from that.
fn properties(data: &Path, port: u16, controller: u16) -> String {
    format!(
        "process.roles=broker,controller\nnode.id=1\n\
         controller.quorum.voters=1@127.0.0.1:{controller}\n\
         listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}\n\
         advertised.listeners=PLAINTEXT://127.0.0.1:{port}\n\
         controller.listener.names=CONTROLLER\nlog.dirs={}\n\
         offsets.topic.replication.factor=1\noffsets.topic.num.partitions=1\n\
         group.initial.rebalance.delay.ms=0\n",
        data.display()
    )
}

fn free_ports() -> std::io::Result<[u16; 2]> {
    let listeners = [
        TcpListener::bind("127.0.0.1:0")?,
        TcpListener::bind("127.0.0.1:0")?,
    ];
    Ok([
        listeners[0].local_addr()?.port(),
        listeners[1].local_addr()?.port(),
    ])
}

/// Reads the last line of `kafka-producer-perf-test`.
fn production(printed: &str, records: u64) -> Result<Outcome, String> {
    let summary = printed
        .lines()
        .rev()
        .find(|line| line.contains("records sent"));
    let figures = summary.and_then(|line| {
        let sent: u64 = line.split_whitespace().next()?.parse().ok()?;
        let rate = line.split(',').nth(1)?.split_whitespace().next()?;
        Some((sent, rate.parse::<f64>().ok()?))
    });
    let (sent, rate) = figures.ok_or("the producer printed no rate")?;
    let lost = records.saturating_sub(sent);
    let verdict = (lost > 0).then(|| format!("lost {lost} of {records}"));
    Ok(Outcome::default().with("rate", rate).with_verdict(verdict))
}

/// Reads the line of `kafka-consumer-perf-test`: its last field is the rate without the time until
/// the group was ready.
fn consumption(printed: &str, records: u64) -> Result<Outcome, String> {
    let line = printed.lines().rev().find(|line| line.starts_with("20"));
    let fields: Vec<_> = line.unwrap_or_default().split(',').map(str::trim).collect();
    let count = fields.get(4).and_then(|field| field.parse::<u64>().ok());
    let rate = fields.get(9).and_then(|field| field.parse::<f64>().ok());
    let (Some(count), Some(rate)) = (count, rate) else {
        return Err("the consumer printed no rate".to_owned());
    };
    let lost = records.saturating_sub(count);
    let verdict = (lost > 0).then(|| format!("lost {lost} of {records}"));
    Ok(Outcome::default().with("rate", rate).with_verdict(verdict))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_summary_of_a_producer_is_read() {
        let printed = "5000 records sent, 1.0 records/sec\n2000000 records sent, 812345.6 records/sec (77.47 \
                       MB/sec), 12.00 ms avg latency\n";
        let outcome = production(printed, 2_000_000).unwrap();
        assert_eq!(outcome.number("rate"), Some(812_345.6));
        let outcome = production(printed, 2_000_003).unwrap();
        assert_eq!(outcome.text(Outcome::WRONG), Some("lost 3 of 2000003"));
    }

    #[test]
    fn the_line_of_a_consumer_is_read() {
        let printed = "start.time, end.time\n2026-11-30 12:00:00:000, 2026-11-30 12:00:01:000, 190.7, 100.0, \
                       2000000, 900000.0, 300, 700, 272.0, 2857142.9\n";
        let outcome = consumption(printed, 2_000_000).unwrap();
        assert_eq!(outcome.number("rate"), Some(2_857_142.9));
        assert_eq!(outcome.text(Outcome::WRONG), None);
    }

    #[test]
    fn output_without_a_figure_is_an_error() {
        assert!(production("java.lang.OutOfMemoryError", 1).is_err());
        assert!(consumption("WARNING", 1).is_err());
    }
}
