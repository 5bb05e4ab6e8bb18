//! Checks the rigs, with which a driver writes and reads a log line by line.

use crate::shell::Shell;

#[test]
fn append_lines_acknowledges_each_line() {
    let shell = Shell::new();
    shell
        .run_with("append_lines log", "one\ntwo\n")
        .expect("READY 0\nACK 0\nACK 1\n");
    shell
        .run_with("append_lines log", "three\n")
        .expect("READY 2\nACK 2\n");
}

#[test]
fn append_lines_survives_a_limit_of_the_size_of_files() {
    let shell = Shell::new();
    let lines = (1..=1000)
        .map(|line| format!("{line} of some length\n"))
        .collect::<Vec<_>>()
        .concat();
    let answers = shell.run_limited(20, "append_lines log", lines);
    answers.expect_lines(1001);
    assert_eq!(
        answers.matching("READY 0|ACK [0-9]+|ERR .*"),
        1001,
        "{answers:#?}"
    );
    answers.expect_line("ERR .*");
    let acknowledged = answers.matching("ACK .*");
    assert!(
        acknowledged > 100,
        "only {acknowledged} lines were acknowledged"
    );

    let read = shell.run("read_lines log");
    read.expect_lines(acknowledged + 1);
    read.expect_line(&format!("END {acknowledged}"));
}

#[test]
fn read_lines_prints_what_append_lines_wrote() {
    let shell = Shell::new();
    shell.run_with("append_lines log", "one\ntwo\nthree\n");
    shell
        .run("read_lines log")
        .expect("0\tone\n1\ttwo\n2\tthree\nEND 3\n");
}

/// The writer was killed after it wrote the topic file, before it created the partition.
#[test]
fn read_lines_finds_nothing_in_a_log_that_was_just_begun() {
    let shell = Shell::new();
    shell.run("append_lines log");
    shell.remove("log/lines-0");
    for entry in std::fs::read_dir(shell.path("log")).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        if name.ends_with("-checkpoint") || name == ".kafka_cleanshutdown" {
            std::fs::remove_file(path).unwrap();
        }
    }
    shell.run("read_lines log").expect("END 0\n");
}

#[test]
fn read_lines_reports_a_partition_that_was_lost() {
    let shell = Shell::new();
    shell.run_with("append_lines log", "one\n");
    shell.remove("log/lines-0");
    let read = shell.end_of("read_lines log", "");
    read.expect_status(3);
    read.expect_line("ERROR .*lines-0.* the directory is missing.*");
}

#[test]
fn delete_before_moves_the_log_start() {
    let shell = Shell::new();
    shell.run_with("append_lines log", "one\ntwo\nthree\n");
    shell
        .run("delete_before log 1")
        .expect("the log starts at 1\n");
    shell
        .run("read_lines log")
        .expect("1\ttwo\n2\tthree\nEND 3\n");
}

#[test]
fn commit_lines_acknowledges_each_commit() {
    let shell = Shell::new();
    shell.run_with("append_lines log", "one\ntwo\nthree\n");
    let answers = shell.run_with("commit_lines log", "a 1\nb 3\nnonsense\na 4\na 2\n");
    answers.expect_lines(5);
    assert_eq!(answers.matching("ACK 0"), 3, "{answers:#?}");
    assert_eq!(answers.matching("ERR .*"), 2, "{answers:#?}");
}

#[test]
fn commit_lines_survives_a_limit_of_the_size_of_files() {
    let shell = Shell::new();
    shell.run_with("append_lines log", "one\ntwo\nthree\n");
    let answers = shell.run_limited(8, "commit_lines log", "a 1\n".repeat(300));
    answers.expect_lines(300);
    assert_eq!(answers.matching("ACK 0|ERR .*"), 300, "{answers:#?}");
    answers.expect_line("ERR .*");
}

#[test]
fn committed_prints_the_position_of_each_group() {
    let shell = Shell::new();
    shell.run_with("append_lines log", "one\ntwo\nthree\n");
    shell.run_with("commit_lines log", "a 1\nb 3\na 2\n");
    shell.run("committed log").expect("a\t2\nb\t3\nEND 0\n");
}
