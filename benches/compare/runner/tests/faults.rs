//! Peers that misbehave are shown as such, and the run goes on.

use std::process::{Command, Output};

/// Runs the comparison with one workload and some peers, at the smallest size.
fn compare(workload: &str, peers: &[&str], more: &[&str]) -> Output {
    let scratch = tempfile::tempdir().expect("a directory");
    let mut command = Command::new(env!("CARGO_BIN_EXE_compare"));
    command.args(["--test", "--workload", workload, "--dir"]);
    command.arg(scratch.path()).args(more);
    for peer in peers {
        command.args(["--peer", peer]);
    }
    command.output().expect("the comparison runs")
}

/// Returns the cells of the row whose name begins with `name`.
fn row(output: &Output, name: &str) -> String {
    let printed = String::from_utf8_lossy(&output.stdout);
    let row = printed
        .lines()
        .find(|line| line.starts_with(&format!("| {name}")));
    row.unwrap_or_else(|| panic!("no row {name} in {printed}"))
        .to_owned()
}

#[test]
fn each_fault_is_shown_in_place_of_a_figure() {
    let peers = [
        "fake-sound",
        "fake-loses",
        "fake-reorders",
        "fake-flips",
        "fake-fails",
        "fake-crashes",
    ];
    let output = compare("scan", &peers, &[]);
    assert!(output.status.success(), "{output:?}");
    let shown = |name: &str, expected: &str| {
        let row = row(&output, name);
        assert!(row.contains(expected), "{row}");
        assert_eq!(row.contains("sound |"), expected == "sound |", "{row}");
    };
    shown("fake-sound", "sound |");
    shown("fake-loses", "**lost 1 of 8,000**");
    shown("fake-reorders", "**reordered 1 of 8,000**");
    shown("fake-flips", "**wrong bytes in 1 of 8,000**");
    shown("fake-fails", "**the disk is on fire**");
    shown("fake-crashes", "**crashed (exit status: 101)");
}

#[test]
fn every_workload_finds_a_flipped_bit() {
    for workload in [
        "append-1",
        "durable-1",
        "scan",
        "beside",
        "latency",
        "open-clean",
        "open-killed",
    ] {
        let output = compare(workload, &["fake-flips"], &[]);
        let row = row(&output, "fake-flips");
        assert!(row.contains("**wrong bytes in 1 of "), "{workload}: {row}");
    }
}

#[test]
fn every_workload_finds_a_lost_record() {
    for workload in [
        "append-1000",
        "durable-4",
        "beside",
        "latency",
        "open-clean",
        "open-killed",
    ] {
        let output = compare(workload, &["fake-loses"], &[]);
        let row = row(&output, "fake-loses");
        assert!(row.contains("**lost 1 of "), "{workload}: {row}");
    }
}

#[test]
fn point_reads_find_wrong_records() {
    for (peer, expected) in [
        ("fake-loses", "**lost "),
        ("fake-flips", "**wrong bytes in "),
        ("fake-reorders", "**wrong bytes in "),
    ] {
        let output = compare("point-active", &[peer], &[]);
        let row = row(&output, peer);
        assert!(row.contains(expected), "{row}");
    }
}

#[test]
fn a_peer_that_hangs_is_ended_and_the_others_run() {
    let output = compare("scan", &["fake-hangs", "fake-sound"], &["--timeout", "1"]);
    assert!(output.status.success(), "{output:?}");
    let hung = row(&output, "fake-hangs");
    assert!(hung.contains("**hung: no result after 1 s**"), "{hung}");
    assert!(row(&output, "fake-sound").contains("sound |"));
}

#[test]
fn a_peer_that_cannot_be_built_is_named_and_the_others_run() {
    let output = compare("scan", &["fake-unbuilt", "fake-sound"], &[]);
    assert!(output.status.success(), "{output:?}");
    let unbuilt = row(&output, "fake-unbuilt");
    assert!(
        unbuilt.contains("fake-unbuilt: could not be built: "),
        "{unbuilt}"
    );
    assert!(row(&output, "fake-sound").contains("sound |"));
}

#[test]
fn a_directory_that_cannot_be_written_ends_the_run() {
    let output = compare("scan", &["fake-sound"], &["--dir", "/proc/compare"]);
    assert!(!output.status.success(), "{output:?}");
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(complaint.contains("cannot write in "), "{complaint}");
}

#[test]
fn a_missing_java_is_a_message_and_a_row_without_figures() {
    let scratch = tempfile::tempdir().expect("a directory");
    let output = Command::new(env!("CARGO_BIN_EXE_compare"))
        .args([
            "--test",
            "--workload",
            "scan",
            "--peer",
            "kafka-broker",
            "--dir",
        ])
        .arg(scratch.path())
        .env("JAVA_HOME", scratch.path())
        .output()
        .expect("the comparison runs");
    assert!(output.status.success(), "{output:?}");
    let row = row(&output, "kafka-broker");
    assert!(row.contains("skipped: there is no Java"), "{row}");
    assert!(!row.contains("/s"), "{row}");
}

#[test]
fn an_unknown_option_is_an_error_with_help() {
    for arguments in [
        ["--peer", "nobody"],
        ["--rounds", "0"],
        ["--workload", "scam"],
        ["--fast", "1"],
    ] {
        let output = Command::new(env!("CARGO_BIN_EXE_compare"))
            .args(arguments)
            .output();
        let output = output.expect("the comparison runs");
        assert_eq!(output.status.code(), Some(2), "{output:?}");
        let complaint = String::from_utf8_lossy(&output.stderr);
        assert!(complaint.contains("--workload NAME"), "{complaint}");
    }
}
