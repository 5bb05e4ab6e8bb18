//! Checks the tool `groups`, which has the columns of `kafka-consumer-groups`.

use crate::shell::Shell;

/// Creates a log in which group `a` is at offset 2 of 3, and group `b` at 3.
fn shell() -> Shell {
    let shell = Shell::new();
    shell.run_with("append_lines log", "one\ntwo\nthree\n");
    shell.run_with("commit_lines log", "a 2\nb 3\n");
    shell
}

#[test]
fn groups_lists_and_describes() {
    let shell = shell();
    shell.run("groups --dir log --list").expect("a\nb\n");
    shell
        .run("groups --dir log --list --state")
        .expect_line("a +Empty");
    let described = shell.run("groups --dir log --describe --group a");
    described.expect_line(
        "GROUP TOPIC PARTITION CURRENT-OFFSET LOG-END-OFFSET LAG CONSUMER-ID HOST CLIENT-ID",
    );
    described.expect_line("a +lines 0 +2 +3 +1 +- +- +-");
    described.expect_error(
        "Consumer group 'a': only the program that writes the log knows whether it has members\\.",
    );
    shell
        .run("groups --dir log --describe --all-groups --verbose")
        .expect_line(
            "GROUP TOPIC PARTITION LEADER-EPOCH CURRENT-OFFSET LOG-END-OFFSET LAG CONSUMER-ID \
             HOST CLIENT-ID",
        );
    let state = shell.run("groups --dir log --describe --group a --state");
    state.expect_line("GROUP COORDINATOR \\(ID\\) ASSIGNMENT-STRATEGY STATE #MEMBERS");
    state.expect_line("a +- +uniform +Empty 0");
    shell
        .run("groups --dir log --describe --group a --members")
        .expect_line("GROUP CONSUMER-ID HOST CLIENT-ID #PARTITIONS");
}

#[test]
fn groups_shows_a_negative_position_as_none() {
    let shell = Shell::new();
    shell.copy_fixture("cases/negative-commit/root", "negative");
    let described = shell.run("groups --dir negative --describe --all-groups");
    described.expect_line("g +t +0 +- +5 +- +- +- +-");
    described.expect_line("h +t +0 +2 +5 +3 +- +- +-");
}

#[test]
fn groups_shows_a_partition_that_cannot_be_opened_and_fails() {
    let shell = shell();
    shell.remove("log/lines-0");
    let described = shell.end_of("groups --dir log --describe --all-groups", "");
    described.expect_failure();
    described.expect_line("a +lines 0 +2 +- +- +- +- +-");
    described.expect_line("b +lines 0 +3 +- +- +- +- +-");
    described.expect_error("Consumer group 'b', lines-0: .*");
}

#[test]
fn groups_resets_only_when_it_is_told_to_execute() {
    let shell = shell();
    let reset = "groups --dir log --reset-offsets";
    shell
        .run(&format!("{reset} --group a --topic lines --to-earliest"))
        .expect_line("a +lines 0 +0");
    shell.run("committed log").expect_line("a\t2");
    shell
        .run(&format!(
            "{reset} --group a --all-topics --shift-by -9 --execute"
        ))
        .expect_line("a +lines 0 +0");
    shell.run(&format!(
        "{reset} --group a --topic lines:0 --by-duration P1D --execute"
    ));
    let plan = shell.run(&format!(
        "{reset} --group a --topic lines --to-latest --export"
    ));
    plan.expect("lines,0,3\n");
    shell.write("plan.csv", &plan.text);
    shell.run(&format!(
        "{reset} --group fresh --from-file plan.csv --execute"
    ));
    shell
        .run("committed log")
        .expect("a\t0\nb\t3\nfresh\t3\nEND 0\n");
}

/// A plan for several groups has a column for the group. A file that is wrong for one group, or in
/// one line, changes no group.
#[test]
fn groups_resets_all_groups_of_a_file_or_none() {
    let shell = shell();
    let reset = "groups --dir log --reset-offsets";
    shell
        .run(&format!(
            "{reset} --group a --group b --topic lines --to-current --export"
        ))
        .expect("a,lines,0,2\nb,lines,0,3\n");
    shell.write("plan.csv", "a,lines,0,1\nb,lines,0,2\n");
    shell.run(&format!(
        "{reset} --group a --group b --from-file plan.csv --execute"
    ));
    shell.write("wrong.csv", "lines,0,3\nlines,7,0\n"); // there is no partition 7
    let to_wrong = format!("{reset} --group a --from-file wrong.csv --execute");
    shell.end_of(&to_wrong, "").expect_failure();
    let to_unnamed = format!("{reset} --group a --group fresh --from-file plan.csv --execute");
    shell.end_of(&to_unnamed, "").expect_failure();
    shell.run("committed log").expect("a\t1\nb\t2\nEND 0\n");
    shell
        .run(&format!("{reset} --group a --from-file plan.csv --export"))
        .expect("lines,0,1\n");
}

#[test]
fn groups_moves_an_offset_outside_the_log_to_its_bounds() {
    let shell = shell();
    let reset = "groups --dir log --reset-offsets --group a --topic lines";
    let high = shell.run(&format!("{reset} --to-offset 99 --export"));
    high.expect("lines,0,3\n");
    high.expect_error(
        "New offset \\(99\\) is higher than latest offset for topic partition lines-0. \
         Value will be set to 3",
    );
    let low = shell.run(&format!("{reset} --shift-by -4 --export"));
    low.expect("lines,0,0\n");
    low.expect_error(
        "New offset \\(-2\\) is lower than earliest offset for topic partition lines-0. \
         Value will be set to 0",
    );
}

/// The records of `plain` begin on 2023-11-14 at 22:13:20 UTC, and are about 96 ms apart.
#[test]
fn groups_resets_to_a_date_and_time() {
    let shell = Shell::new();
    shell.copy_fixture("clean/root", "broker");
    let reset = "groups --dir broker --reset-offsets --group dated --topic plain:0 --to-datetime";
    for (time, offset) in [
        ("2000-02-29T00:00:00.000", 0),
        ("2023-11-14T22:13:20.000", 0),
        ("2023-11-14T22:13:20.001Z", 1),
        ("2023-11-14T23:13:20.001+01:00", 1),
        ("2023-11-14T20:43:20.000-01:30", 0),
        ("2999-12-31T00:00:00.000", 158),
    ] {
        shell
            .run(&format!("{reset} {time} --export"))
            .expect(&format!("plain,0,{offset}\n"));
    }
    for wrong in [
        "2023-02-29T00:00:00.000",
        "2023-11-14T24:00:00.000",
        "2023-11-14",
        "2023-11-14T22:13:20.1",
        "nonsense",
    ] {
        let refused = shell.end_of(&format!("{reset} {wrong}"), "");
        refused.expect_failure();
        refused.expect_error(".*no time like.*");
    }
}

#[test]
fn groups_deletes_positions_and_groups() {
    let shell = shell();
    shell
        .run("groups --dir log --delete-offsets --group b --topic lines")
        .expect_line("lines 0 +Successful");
    shell.run_with("commit_lines log", "b 1\n");
    shell
        .run("groups --dir log --delete --group a --group b")
        .expect_line("Deletion of requested consumer groups \\('a', 'b'\\) was successful\\.");
    let described = shell.end_of("groups --dir log --describe --group a", "");
    described.expect_failure();
    described.expect_error("Error: Consumer group 'a' does not exist.*");
}
