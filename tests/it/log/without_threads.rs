//! Logs in a process that may not start another thread.

use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;
use std::{env, fs};

use annals::{Durability, Log, ProducerConfig, TopicConfig};

use super::{killed_copy, texts};
use crate::rerun::args_of;

/// The variable that marks the process with the limit. Its value is the directory of the log.
const LIMITED: &str = "ANNALS_TEST_LIMITED";
/// The id of a user without privileges, to whom the limit applies.
const NOBODY: u32 = 65_534;

fn allow_all_users(path: &Path) {
    fs::set_permissions(path, fs::Permissions::from_mode(0o777)).unwrap();
    if path.is_dir() {
        for entry in fs::read_dir(path).unwrap() {
            allow_all_users(&entry.unwrap().path());
        }
    }
}

#[test]
fn a_log_opens_if_no_further_thread_is_allowed() {
    let dir = tempfile::tempdir().unwrap();
    let log = Log::open(dir.path()).unwrap();
    let topic = log.create_topic("t", 10, TopicConfig::new()).unwrap();
    for partition in topic.partitions() {
        partition.append("a").unwrap();
    }
    let unclean = killed_copy(dir.path());
    allow_all_users(unclean.path());
    // The test program may be in a directory that other users cannot read.
    let program = unclean.path().join("limited");
    fs::copy(env::current_exe().unwrap(), &program).unwrap();
    allow_all_users(&program);
    let limit = "ulimit -u 1 2>/dev/null || ulimit -p 1 || exit 77; exec \"$@\"";
    let mut limited = Command::new("sh");
    limited.args(["-c", limit, "sh"]).arg(&program);
    limited.args(args_of(
        "log::without_threads::open_and_append_with_the_limit",
    ));
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
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{text} {errors}");
    assert!(text.contains("opened"), "{text} {errors}");
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
fn open_and_append_with_the_limit() {
    let Some(dir) = env::var_os(LIMITED) else {
        return;
    };
    let log = Log::open(&dir).unwrap();
    assert!(
        log.recovery().thread_refused.is_some(),
        "the limit does not apply"
    );
    assert!(!log.recovery().clean);
    assert!(!log.recovery().has_losses(), "{:?}", log.recovery());
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
