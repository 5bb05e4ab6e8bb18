//! Checks the examples to learn from.

use std::collections::BTreeMap;
use std::hash::{BuildHasher, RandomState};
use std::io::{BufRead, BufReader, Read};
use std::process::Stdio;
use std::thread;
use std::time::Duration;

use annals::Log;

use crate::shell::Shell;

#[test]
fn quickstart_shows_two_groups_and_resumes() {
    let shell = Shell::new();
    for first in [0, 3] {
        let shown = shell.run("quickstart");
        shown.expect_line(&format!(
            "appended \"paid\" to orders-[01], where it is record {first}"
        ));
        for group in ["billing", "shipping"] {
            for state in ["paid", "packed", "sent"] {
                let line = format!("{group} reads {state} from orders-[01]");
                assert_eq!(shown.matching(&line), 1, "{shown:#?}");
            }
        }
        shown.expect_line("billing has nothing left to read");
        shown.expect_lines(10);
    }
    assert!(shell.path("target/quickstart/orders-0").exists());
    shell.run("quickstart elsewhere");
    assert!(shell.path("elsewhere/orders-0").exists());
}

#[test]
fn consumer_group_loses_no_job() {
    let shown = Shell::new().run("consumer_group");
    shown.expect_line("600 of 600 jobs done, 0 more than once");
    shown.expect_line("group workers is Empty, 0 jobs behind");
    shown.expect_error(".*a bug in a worker.*");
}

#[test]
fn event_sourcing_sells_each_seat_once() {
    let shown = Shell::new().run("event_sourcing");
    shown.expect_line("400 of 400 seats sold, none twice");
    shown.expect_line("[0-9]+ decisions came too late and were made again");
}

#[test]
fn exactly_once_processes_each_order_once_although_it_is_killed() {
    let shell = Shell::new();
    let mut kills_at_work = 0;
    for round in 1..=20 {
        let mut program = shell
            .command(&format!("exactly_once shop --orders {}", 200 * round))
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()
            .unwrap();
        let mut output = BufReader::new(program.stdout.take().unwrap());
        let mut lines = String::new();
        output.read_line(&mut lines).unwrap();
        let moment = RandomState::new().hash_one(round) % 60_000;
        thread::sleep(Duration::from_micros(moment));
        program.kill().unwrap();
        program.wait().unwrap();
        output.read_to_string(&mut lines).unwrap();
        kills_at_work += u32::from(!lines.contains("have a parcel"));
    }
    assert!(kills_at_work >= 10, "{kills_at_work} kills met the work");
    let shown = shell.run("exactly_once shop --orders 4001");
    shown.expect_line("4001 orders have a bill, 0 of them more than one");
    shown.expect_line("4001 orders have a parcel, 0 of them more than one");

    let expected: BTreeMap<u32, u32> = (0..4001).map(|number| (number, 1)).collect();
    for name in ["bill", "parcel"] {
        assert_eq!(effects(&shell, name), expected, "{name}s");
    }
    shell
        .run("exactly_once shop --orders 4001")
        .expect_line("4001 orders have a parcel, 0 of them more than one");
    for wrong in ["exactly_once", "exactly_once shop --orders many"] {
        let refused = shell.end_of(wrong, "");
        refused.expect_status(2);
        refused.expect_error("Usage: exactly_once .*");
    }
}

/// Returns how many bills or parcels each order has, whatever the positions of the group are.
fn effects(shell: &Shell, name: &str) -> BTreeMap<u32, u32> {
    let log = Log::open_read_only(shell.path("shop")).unwrap();
    let mut counts = BTreeMap::new();
    for partition in log.topic(&format!("{name}s")).unwrap().partitions() {
        let mut reader = partition.read(..).unwrap();
        while let Some(record) = reader.next_record().unwrap() {
            let text = record.text();
            let number = text.strip_prefix(&format!("{name} for order ")).unwrap();
            *counts.entry(number.parse().unwrap()).or_default() += 1;
        }
    }
    counts
}

#[test]
fn retention_deletes_by_age() {
    let shown = Shell::new().run("retention");
    shown.expect_line("after day 2: 0 segments deleted, .*");
    shown.expect_line("after day 10: 1 segments deleted, offsets 16 to 20 are left");
    shown.expect_line("still here: 19 second visit of day 10");
}

#[test]
fn work_pipeline_dies_twice_and_resumes() {
    let shell = Shell::new();
    for lines in [13, 30] {
        let died = shell.end_of(&format!("work_pipeline data --crash-after {lines}"), "");
        died.expect_failure();
        died.expect_line(&format!("dies after {lines} lines"));
    }
    for _ in 0..2 {
        shell
            .run("work_pipeline data")
            .expect_line("100 of 100 lines are there, [0-9]+ of them twice");
    }
    shell
        .run("work_pipeline few --lines 7")
        .expect_line("7 of 7 lines are there, 0 of them twice");
    for wrong in [
        "work_pipeline",
        "work_pipeline data --lines many",
        "work_pipeline data more",
    ] {
        let refused = shell.end_of(wrong, "");
        refused.expect_status(2);
        refused.expect_error("Usage: work_pipeline .*");
    }
    shell
        .run("work_pipeline --help")
        .expect_line("Usage: work_pipeline .*");
}

#[test]
fn compacted_topic_keeps_the_latest_value_of_each_key() {
    let shell = Shell::new();
    for round in 1..=20 {
        shell.run(&format!("compacted_topic store set colour blue-{round}"));
        shell.run(&format!("compacted_topic store set size {round}"));
    }
    shell.run("compacted_topic store remove size");
    shell
        .run("compacted_topic store list")
        .expect("colour = blue-20\n");
    shell
        .run("compacted_topic store compact")
        .expect_line("3[0-9] records removed, [0-9]+ bytes are left");
    shell
        .run("compacted_topic store list")
        .expect("colour = blue-20\n");
    shell.run("compacted_topic store set size 7");
    shell
        .run("compacted_topic store list")
        .expect("colour = blue-20\nsize = 7\n");

    shell
        .end_of("compacted_topic no-store list", "")
        .expect_failure();
    assert!(!shell.path("no-store").exists());
    let refused = shell.end_of("compacted_topic store forget colour", "");
    refused.expect_status(2);
    refused.expect_error("Usage: compacted_topic .*");
    shell
        .run("compacted_topic --help")
        .expect_line("Usage: compacted_topic .*");
}
