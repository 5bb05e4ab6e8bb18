//! Checks the examples to learn from.

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
