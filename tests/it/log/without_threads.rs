//! A system that allows no further thread.

use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;
use std::{env, fs};

use annals::{Durability, Log, ProducerConfig, TopicConfig};

use super::{killed_copy, texts};

/// Where the process with the limit finds its log.
const LIMITED: &str = "ANNALS_TEST_LIMITED";
/// A user without privileges, for whom the limit counts.
const NOBODY: u32 = 65_534;

fn let_everybody_in(path: &Path) {
    fs::set_permissions(path, fs::Permissions::from_mode(0o777)).unwrap();
    if path.is_dir() {
        for entry in fs::read_dir(path).unwrap() {
            let_everybody_in(&entry.unwrap().path());
        }
    }
}

#[test]
fn a_log_opens_where_no_further_thread_is_allowed() {
    let dir = tempfile::tempdir().unwrap();
    let log = Log::open(dir.path()).unwrap();
    let topic = log.create_topic("t", 10, TopicConfig::new()).unwrap();
    for partition in topic.partitions() {
        partition.append("a").unwrap();
    }
    let unclean = killed_copy(dir.path());
    let_everybody_in(unclean.path());
    // The tests may be where others may not go.
    let program = unclean.path().join("limited");
    fs::copy(env::current_exe().unwrap(), &program).unwrap();
    let_everybody_in(&program);
    let limit = "ulimit -u 1 2>/dev/null || ulimit -p 1 || exit 77; exec \"$@\"";
    let mut limited = Command::new("sh");
    limited.args(["-c", limit, "sh"]).arg(&program);
    limited.args([
        "--exact",
        "log::without_threads::in_the_process_with_the_limit",
        "--nocapture",
        "--include-ignored",
    ]);
    limited
        .env(LIMITED, unclean.path())
        .current_dir(unclean.path());
    let user = fs::metadata("/proc/self")
        .map_or(1, |metadata| std::os::unix::fs::MetadataExt::uid(&metadata));
    if user == 0 {
        limited.uid(NOBODY).gid(NOBODY);
    }
    let output = limited.output().unwrap();
    if output.status.code() == Some(77) {
        return;
    }
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && text.contains("opened"),
        "{text} {}",
        String::from_utf8_lossy(&output.stderr)
    );
    let log = Log::open(unclean.path()).unwrap();
    assert!(log.recovery().clean);
    assert_eq!(
        log.topic("t")
            .unwrap()
            .partitions()
            .iter()
            .map(|partition| texts(partition).unwrap().len())
            .sum::<usize>(),
        12
    );
}

#[test]
#[ignore = "runs in the process that another test limits"]
fn in_the_process_with_the_limit() {
    let Some(dir) = env::var_os(LIMITED) else {
        return;
    };
    let log = Log::open(&dir).unwrap();
    assert!(
        log.recovery().thread_refused.is_some(),
        "the limit does not hold"
    );
    assert!(
        !log.recovery().clean && !log.recovery().has_losses(),
        "{:?}",
        log.recovery()
    );
    let topic = log.topic("t").unwrap();
    assert_eq!(topic.partitions().len(), 10);
    topic
        .with_durability(Durability::Synced)
        .append("b")
        .unwrap();
    let producer = log.producer_with(ProducerConfig::new()).unwrap();
    producer.send(&topic, "c").unwrap().wait().unwrap();
    log.maintain().unwrap();
    log.close().unwrap();
    println!("opened");
}
