//! Checks the tools for the directory of a log.

use std::fs;
use std::io::{Seek, SeekFrom, Write};
use std::path::Path;

use crate::shell::{Shell, fixture, signal};

#[test]
fn tail_follows_another_process_until_it_is_interrupted() {
    let shell = Shell::new();
    shell.run_with("append_lines log", "first\n");
    let mut tail = shell.start("tail log lines --follow", "tailed");
    shell.wait_for_line("tailed", "first");
    shell.run_with("append_lines log", "second\n");
    shell.wait_for_line("tailed", "second");
    signal("INT", tail.id());
    assert!(tail.wait().unwrap().success());

    shell.run("tail log lines --from 1").expect("second\n");
    shell.run("tail log lines --max 1").expect("first\n");
}

#[test]
fn ingest_makes_each_line_a_record() {
    let shell = Shell::new();
    shell.write("a.log", "a\nb\n");
    shell.write("b.log", "c");
    shell
        .run("ingest log lines a.log b.log")
        .expect_line("3 records, 3 bytes, [0-9.]+ seconds, [0-9]+ records per second");
    shell
        .run_with("ingest log lines", b"d\n\xff\n")
        .expect_line("2 records, 2 bytes, .*");
    let exported = shell.run("export log lines");
    exported.expect_lines(5);
    exported.expect_line(".*\"key\":\"YS5sb2c=\",\"value\":\"YQ==\".*");
    exported.expect_line(".*\"key\":\"c3RkaW4=\",\"value\":\"/w==\".*");
}

/// The expected files are what a consumer of a broker printed, for internal topics too.
#[test]
fn export_prints_records_as_a_consumer_read_them() {
    let shell = Shell::new();
    let topics = [
        "plain",
        "shapes",
        "append-time",
        "__consumer_offsets",
        "v0-gzip",
        "v1-none",
    ];
    let mut count = 0;
    for set in ["clean", "legacy"] {
        shell.copy_fixture(&format!("{set}/root"), set);
        for topic in topics {
            let expected = fixture(&format!("{set}/expected/{topic}-0.jsonl"));
            if expected.exists() {
                shell
                    .run(&format!("export {set} {topic} --partition 0"))
                    .expect_file(&expected);
                count += 1;
            }
        }
    }
    assert_eq!(count, 7, "one topic is in both sets");
    shell
        .run("export clean transactions --partition 0 --read-committed")
        .expect_file(&fixture("clean/expected/transactions-0.committed.jsonl"));
    shell.copy_fixture("cases/header-names/root", "names");
    shell.run("export names t").expect_line(
        ".*\"offset\":1,.*\"headers\":\\[\\[\\{\"base64\":\"Y2Fm6Q==\"\\},\"MQ==\"\\]\\]\\}",
    );
}

#[test]
fn export_reports_a_partition_that_is_not_whole() {
    let shell = Shell::new();
    shell.copy_fixture("clean/root", "torn");
    shell.write("torn/plain-0/00000000000000000000.log", "");
    let exported = shell.end_of("export torn plain", "");
    exported.expect_status(1);
    exported.expect_error("plain-0 is not whole in the output: .*");
    exported.expect_error("Error: [^E].*");
}

#[test]
fn import_takes_what_export_prints_with_every_codec() {
    let shell = Shell::new();
    let shapes = fixture("clean/expected/shapes-0.jsonl");
    let lines = fs::read(&shapes).unwrap();
    for codec in ["none", "gzip", "snappy", "lz4", "zstd"] {
        shell.run_with(
            &format!("import log {codec} --codec {codec} --batch 7"),
            &lines,
        );
        shell
            .run(&format!("export log {codec}"))
            .expect_file(&shapes);
    }
    shell.copy_fixture("cases/header-names/root", "names");
    let names = shell.run("export names t"); // a name that is not UTF-8 keeps its bytes
    shell.run_with("import log names", &names.bytes);
    shell.run("export log names").expect(&names.text);

    shell.copy_fixture("clean/root", "broker");
    shell.run_with("import broker plain", &lines);
    shell
        .run("export broker plain")
        .expect_lines(158 + String::from_utf8(lines).unwrap().lines().count());
}

#[test]
fn import_refuses_a_line_that_is_not_a_record() {
    let shell = Shell::new();
    for line in [
        "{}",
        "[]",
        r#"{"key":null}"#,
        r#"{"key":null,"value":"AA==","timestamp":null,"headers":[],"extra":1}"#,
        r#"{"key":null,"value":"AA==","timestamp":1.5,"headers":[]}"#,
        r#"{"key":1,"value":null,"timestamp":null,"headers":[]}"#,
        r#"{"key":null,"value":null,"timestamp":null,"headers":[["a"]]}"#,
    ] {
        let refused = shell.end_of("import log t", line);
        refused.expect_failure();
        refused.expect_error("Error: line 1.*");
    }
}

/// Every timestamp that `export` prints is accepted, and old brokers may have stored such a one.
#[test]
fn import_accepts_a_negative_timestamp() {
    Shell::new().run_with(
        "import log old",
        r#"{"offset":0,"timestamp":-5,"timestamp_type":"CreateTime","key":null,"value":"AA==","headers":[]}"#,
    );
}

#[test]
fn dump_log_prints_the_lines_of_kafka_dump_log() {
    let shell = Shell::new();
    shell.copy_fixture("clean/root/times-0", "times-0");
    let mut names: Vec<String> = fs::read_dir(shell.path("times-0"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.starts_with(|first: char| first.is_ascii_digit()))
        .collect();
    names.sort();
    let here = format!("{}/", fs::canonicalize(shell.path(".")).unwrap().display());
    let mut dumped = Vec::new();
    for name in names {
        let options = if Path::new(&name).extension() == Some("log".as_ref()) {
            " --print-data-log --deep-iteration"
        } else {
            ""
        };
        let output = shell.run(&format!("dump_log{options} --files times-0/{name}"));
        // The messages name absolute paths; the expected lines have them after the output.
        let messages = output.errors.replace(&here, "");
        dumped.push(format!("== {name}\n{}{messages}", output.text));
    }
    let expected = fs::read_to_string(fixture("clean/expected/times-0.dump.txt")).unwrap();
    assert_eq!(dumped.concat(), expected);
}

#[test]
fn dump_log_decodes_the_records_of_internal_topics() {
    let shell = Shell::new();
    for (topic, option) in [
        ("__consumer_offsets-0", "--offsets-decoder"),
        ("__transaction_state-0", "--transaction-log-decoder"),
    ] {
        shell.copy_fixture(&format!("prepare-commit/root/{topic}"), topic);
        let file = format!("{topic}/00000000000000000000.log");
        let output = shell.run(&format!("dump_log {option} --files {file}"));
        let expected = fixture(&format!("prepare-commit/expected/{topic}.dump.txt"));
        let expected = fs::read_to_string(expected).unwrap();
        let start = "== 00000000000000000000.log\n";
        let rest = expected.strip_prefix(start).unwrap();
        assert!(rest.starts_with(&output.text), "{topic}: {}", output.text);
        assert!(output.text.lines().count() > 15);
    }
}

#[test]
fn salvage_loses_one_batch_for_a_flipped_byte() {
    let shell = Shell::new();
    shell.run_with("append_lines log", "1\n2\n3\n4\n5\n");
    let mut segment = fs::OpenOptions::new()
        .write(true)
        .open(shell.path("log/lines-0/00000000000000000000.log"))
        .unwrap();
    segment.seek(SeekFrom::Start(69 + 68)).unwrap(); // in the value of the second batch
    segment.write_all(b"\xff").unwrap();

    shell.run("salvage log/lines-0 salvaged").expect(
        "4 records in 4 batches, 276 bytes\nlost 1 to 1: the checksum of a batch is wrong\n",
    );
    shell.remove("log/lines-0");
    fs::rename(shell.path("salvaged"), shell.path("log/lines-0")).unwrap();
    shell
        .run("read_lines log")
        .expect("0\t1\n2\t3\n3\t4\n4\t5\nEND 5\n");
    shell
        .run_with("append_lines log", "6\n")
        .expect("READY 5\nACK 5\n");
}

#[test]
fn console_consumer_prints_one_line_for_each_record() {
    let shell = Shell::new();
    shell.run_with("append_lines log", "one\ntwo\nthree\n");
    let all =
        shell.run("console_consumer --dir log --topic lines --from-beginning --timeout-ms 100");
    all.expect("one\ntwo\nthree\n");
    all.expect_error("Processed a total of 3 messages");
    let columns =
        "--property print.offset=true --property print.key=true --property print.headers=true";
    shell
        .run(&format!(
            "console_consumer --dir log --topic lines --partition 0 --offset 1 --max-messages 1 {columns}"
        ))
        .expect("Offset:1\tNO_HEADERS\tnull\ttwo\n");
    shell
        .run("console_consumer --dir log --topic lines --group shell --from-beginning --max-messages 2")
        .expect("one\ntwo\n");
    shell
        .run("console_consumer --dir log --include l.* --group shell --from-beginning --timeout-ms 100")
        .expect("three\n");
}

#[test]
fn console_producer_sends_each_line_as_a_record() {
    let shell = Shell::new();
    let long = "0".repeat(300); // long enough for a codec to make it smaller
    let parsing = "--reader-property parse.headers=true --reader-property parse.key=true \
                   --reader-property null.marker=NULL";
    shell
        .run_with(
            &format!("console_producer --dir log --topic lines --compression-codec {parsing}"),
            format!("a:1,b:NULL\tk\t{long}\n\tNULL\tsecond\n"),
        )
        .expect_lines(0);
    shell
        .run_with(
            "console_producer --dir log --topic lines --sync",
            "plain\n\n",
        )
        .expect_lines(0);
    shell
        .run(
            "console_consumer --dir log --topic lines --from-beginning --timeout-ms 100 \
             --property print.headers=true --property print.key=true",
        )
        .expect(&format!(
            "a:1,b:null\tk\t{long}\nNO_HEADERS\tnull\tsecond\n\
             NO_HEADERS\tnull\tplain\nNO_HEADERS\tnull\t\n"
        ));
    shell
        .run("dump_log --files log/lines-0/00000000000000000000.log")
        .expect_line(
            ".*count: 2 baseSequence: 0 lastSequence: 1 producerId: [0-9]* producerEpoch: 0 .*\
             compresscodec: gzip.*",
        );
}

#[test]
fn console_producer_stops_at_a_line_without_a_key() {
    let shell = Shell::new();
    let options = "--reader-property parse.key=true --reader-property key.separator==";
    let stopped = shell.end_of(
        &format!("console_producer --dir log --topic keyed {options}"),
        "k=v\nno key\nk=w\n",
    );
    stopped.expect_status(1);
    stopped.expect_error(".*line 2: no key.*");
    shell
        .run(
            "console_consumer --dir log --topic keyed --from-beginning --timeout-ms 100 \
             --property print.key=true",
        )
        .expect("k\tv\n");
}

#[test]
fn console_producer_keeps_bytes_that_are_not_utf_8() {
    let shell = Shell::new();
    shell.run_with("console_producer --dir log --topic latin", b"caf\xe9\n");
    shell
        .run("export log latin")
        .expect_line(".*\"value\":\"Y2Fm6Q==\".*");
}
