//! Rules about the text of `src/` that no compiler checks: floors, doors, lengths, asserts and
//! words.
//!
//! Every rule has texts that it must catch and similar ones that it must pass, so a rule that
//! matches no text at all fails.

mod asserts;
mod floors;
mod language;
mod shape;
mod source;
mod vocabulary;

use std::fs;
use std::path::Path;

use floors::Exports;
use source::Source;

/// The line and the complaint.
type Finding = (usize, String);

fn found(line: usize, complaint: &str) -> Vec<Finding> {
    vec![(line, complaint.to_owned())]
}

struct Rule {
    check: fn(&Source) -> Vec<Finding>,
    /// Paths and texts that break the rule.
    caught: &'static [(&'static str, &'static str)],
    /// Similar paths and texts that keep the rule.
    passed: &'static [(&'static str, &'static str)],
}

const RULES: &[Rule] = &[
    Rule {
        check: |source| floors::check_floors(source, &Exports::default()),
        caught: &[
            ("format/batch.rs", "use crate::storage::Storage;"),
            ("segment/mod.rs", "use crate::partition::Partition;"),
            (
                "segment/mod.rs",
                "use crate::{error::Result, partition::{self}};",
            ),
            (
                "segment/index_file.rs",
                "fn f() { super::super::partition::roll(); }",
            ),
            (
                "segment/index_file.rs",
                "mod tests { use super::super::super::topic::Topic; }",
            ),
            ("retention.rs", "fn f() { crate::compaction::clean(); }"),
            ("catalog/load.rs", "use crate::log::open::recover;"),
            (
                "partition/state/cuts.rs",
                "use crate::partition::core::PartitionCore;",
            ),
            (
                "partition/read/seek.rs",
                "use super::super::remove::delete;",
            ),
            ("partition/attic.rs", "use super::state::cuts::Cuts;"),
            (
                "partition/read/seek.rs",
                "use crate::partition::Unexported;",
            ),
            ("producer/mod.rs", "use crate::group::offsets::commit;"),
            ("producer/mod.rs", "use crate::group::commit;"),
            ("group/mod.rs", "use crate::transaction::Transaction;"),
            ("log/mod.rs", "use crate::inspect::dump;"),
            ("partition/mod.rs", "pub(in crate::topic) fn f() {}"),
            ("partition/mod.rs", "use crate::Error;"),
            ("partition/mod.rs", "use crate::*;"),
            ("attic.rs", "fn f() {}"),
        ],
        passed: &[
            (
                "format/batch.rs",
                "use super::record::Record; use crate::error::Result; // crate::log::Log",
            ),
            ("config.rs", "use crate::error::Result;"),
            (
                "segment/mod.rs",
                "use crate::{format::batch, storage::{Storage, StorageFile}};",
            ),
            (
                "log/mod.rs",
                "use self::open::LogBuilder; use crate::group::offsets; mod tests { use super::*; }",
            ),
            (
                "partition/read/seek.rs",
                "use super::batch::Batch; mod tests { use crate::partition::handle::Partition; }",
            ),
            ("producer/mod.rs", "use crate::group::Consumer;"),
            ("transaction/mod.rs", "use crate::group::commit;"),
            ("lib.rs", "pub use log::Log; pub use crate::inspect::dump;"),
        ],
    },
    Rule {
        check: shape::check_doors,
        caught: &[
            ("segment/mod.rs", "use std::{fs::File, io};"),
            ("segment/mod.rs", "fn f() { ::std::fs::read(p); }"),
            ("storage/memory.rs", "use memmap2::Mmap;"),
            ("partition/mod.rs", "fn f() { unsafe { g() } }"),
            ("clock/mod.rs", "fn f() { unsafe { g() } }"),
            ("partition/mod.rs", "use std::time::Instant;"),
            (
                "partition/mod.rs",
                "fn f() { let now = SystemTime::now(); }",
            ),
            ("config.rs", "fn f() { std::env::var(\"A\"); }"),
            ("format/batch.rs", "use std::path::Path;"),
            (
                "log/mod.rs",
                "#[path = \"../group/offsets.rs\"] mod offsets;",
            ),
            ("log/mod.rs", "#[path = \"../group/tests.rs\"] mod tests;"),
        ],
        passed: &[
            (
                "storage/disk.rs",
                "use std::fs; use memmap2::Mmap; fn f() { unsafe { g() } }",
            ),
            ("storage/disk/tests.rs", "use std::fs;"),
            ("clock/mod.rs", "use std::time::Instant;"),
            ("clock/coarse.rs", "fn f() { unsafe { g() } }"),
            (
                "segment/mod.rs",
                "use std::path::Path; use std::io; // std::fs, unsafe, Instant::now",
            ),
            ("lib.rs", "#![deny(unsafe_code)]"),
            (
                "retention.rs",
                "#[path = \"retention/tests.rs\"] mod tests;",
            ),
        ],
    },
    Rule {
        check: shape::check_opening,
        caught: &[
            ("a.rs", "use std::io;"),
            ("a.rs", "// A comment.\n//! Late."),
            ("a.rs", ""),
        ],
        passed: &[(
            "a.rs",
            "//! A reader of files.
use std::io;",
        )],
    },
    Rule {
        check: shape::check_lines,
        caught: &[
            ("a.rs", "// \u{e4}"),
            (
                "a.rs",
                concat!(
                    "// word 0123456789012345678901234567890123456789",
                    "0123456789012345678901234567890123456789",
                    "0123456789012"
                ),
            ),
            ("a.rs", "// TODO: later"),
            ("a.rs", "#[allow(dead_code)] fn f() {}"),
            ("a.rs", "#![expect(dead_code, unused)]"),
        ],
        passed: &[
            (
                "a.rs",
                "#[allow(dead_code, reason = \"a test\")]\n#![expect(unused, reason = \"[x]\")]\nfn allow(x: u8) {}",
            ),
            (
                "a.rs",
                concat!(
                    "// 0123456789012345678901234567890123456789",
                    "0123456789012345678901234567890123456789",
                    "0123456789012345678901234567890123456789"
                ),
            ),
        ],
    },
    Rule {
        check: vocabulary::check_identifiers,
        caught: &[
            ("a.rs", "let lso = 1;"),
            ("a.rs", "fn record_pos() {}"),
            ("a.rs", "struct OffsetManager;"),
            ("a.rs", "fn first_seq() {}"),
            ("a.rs", "fn rotate_segment() {}"),
            ("a.rs", "pub fn trim_tail() {}"),
            ("a.rs", "fn send_message() {}"),
            ("a.rs", "struct MessageSet;"),
            ("a.rs", "let flushed_offset = 1;"),
            ("group/utils.rs", "fn f() {}"),
            ("common/mod.rs", "fn f() {}"),
        ],
        passed: &[
            (
                "a.rs",
                "let position = x.trim().rotate_left(3); y.load(Ordering::SeqCst); out.pos = 1; // pos, lso",
            ),
            (
                "a.rs",
                "fn max_message_bytes() {} fn flush_messages() {} fn message_timestamp_type() {}",
            ),
            ("error/mod.rs", "fn message() {}"),
            ("format/batch/legacy.rs", "struct MessageSet;"),
        ],
    },
    Rule {
        check: vocabulary::check_prose,
        caught: &[
            ("a.rs", "// Raises the LSO."),
            ("a.rs", "/// Rotates the segment."),
            ("a.rs", "// Appends a message."),
            ("a.rs", "// Garbage collection of segments."),
        ],
        passed: &[
            (
                "a.rs",
                "// The error message names `max.message.bytes`; message sets are old. `hwm_x`",
            ),
            ("a.rs", "let lso = \"rotate the message\";"),
            ("error/mod.rs", "//! Each message names the operation."),
        ],
    },
];

fn sources(dir: &Path, below: &str, into: &mut Vec<Source>) {
    let entries = fs::read_dir(dir).expect("the directory can be listed");
    for entry in entries.map(|entry| entry.expect("the directory can be listed")) {
        let name = entry
            .file_name()
            .into_string()
            .expect("file names are UTF-8");
        let path = format!("{below}{name}");
        if entry.path().is_dir() {
            // Cargo writes generated code there, next to the manifest of a workspace.
            if name != "target" {
                sources(&entry.path(), &format!("{path}/"), into);
            }
        } else if Path::new(&name)
            .extension()
            .is_some_and(|suffix| suffix == "rs")
        {
            into.push(Source::new(
                &path,
                &fs::read_to_string(entry.path()).expect("source is UTF-8"),
            ));
        }
    }
}

fn sources_of(dir: &str) -> Vec<Source> {
    let root = std::env::var_os("CARGO_MANIFEST_DIR").expect("cargo runs this test");
    let mut all = Vec::new();
    sources(&Path::new(&root).join(dir), "", &mut all);
    all.sort_by(|a, b| a.path.cmp(&b.path));
    assert!(
        all.iter().any(|source| source.path == "lib.rs"),
        "the sources must contain lib.rs"
    );
    all
}

#[test]
fn the_sources_keep_the_rules() {
    let all = sources_of("src");
    let exports = Exports::of(&all);
    let mut findings = Vec::new();
    for source in &all {
        findings.extend(
            floors::check_floors(source, &exports)
                .into_iter()
                .map(|(line, complaint)| format!("src/{}:{line}: {complaint}", source.path)),
        );
        for rule in &RULES[1..] {
            findings.extend(
                (rule.check)(source)
                    .into_iter()
                    .map(|(line, complaint)| format!("src/{}:{line}: {complaint}", source.path)),
            );
        }
        findings.extend(
            shape::check_lengths(source)
                .into_iter()
                .map(|(line, complaint)| format!("src/{}:{line}: {complaint}", source.path)),
        );
    }
    assert!(
        findings.is_empty(),
        "{} findings\n{}",
        findings.len(),
        findings.join("\n")
    );
}

#[test]
fn files_do_not_name_each_other_in_circles() {
    assert_eq!(
        floors::circles(&sources_of("src")),
        Vec::<Vec<String>>::new()
    );
}

#[test]
fn a_circle_of_files_that_leads_through_an_export_is_found() {
    let house = |last: &str| {
        let files = [
            ("lib.rs", "mod a;"),
            ("a/mod.rs", "mod b; mod c; mod d; pub use c::Item;"),
            ("a/b.rs", "use super::Item;"),
            ("a/c.rs", "fn f() { crate::a::d::g() }"),
            ("a/d.rs", last),
        ];
        files.map(|(path, text)| Source::new(path, text))
    };
    let circle = ["a::b", "a::c", "a::d"].map(str::to_owned).to_vec();
    assert_eq!(floors::circles(&house("use super::b::Other;")), [circle]);
    assert_eq!(
        floors::circles(&house("mod tests { use super::super::b::Other; }")),
        Vec::<Vec<String>>::new()
    );
}

#[test]
fn each_rule_catches_its_texts_and_passes_similar_ones() {
    for (number, rule) in RULES.iter().enumerate() {
        assert!(!rule.caught.is_empty(), "rule {number}");
        assert!(!rule.passed.is_empty(), "rule {number}");
        for (path, text) in rule.caught {
            assert!(
                !(rule.check)(&Source::new(path, text)).is_empty(),
                "rule {number} missed {path}: {text}"
            );
        }
        for (path, text) in rule.passed {
            assert_eq!(
                (rule.check)(&Source::new(path, text)),
                [],
                "rule {number} must pass {path}: {text}"
            );
        }
    }
}

#[test]
fn files_above_600_lines_and_functions_above_70_are_caught() {
    let of_lines = |count: usize| {
        format!(
            "fn long() -> [u8; 2] {{\n{}}}\n",
            "    step();\n\n    // why\n".repeat(count)
        )
    };
    assert_eq!(
        shape::check_lengths(&Source::new("a.rs", &of_lines(70))),
        []
    );
    assert_eq!(
        shape::check_lengths(&Source::new("a.rs", &of_lines(71))).len(),
        1
    );
    assert_eq!(
        shape::check_lengths(&Source::new("a.rs", &"\n".repeat(600))),
        []
    );
    assert_eq!(
        shape::check_lengths(&Source::new("a.rs", &"\n".repeat(601))).len(),
        1
    );
}

/// Returns the names of tests in the table of failures of a page: `module::of::it::name` or
/// `module::of::it`, one or more in a row.
fn tests_named(page: &str) -> Vec<Vec<&str>> {
    let section = page
        .split("## When something fails")
        .nth(1)
        .and_then(|rest| rest.split("\n## ").next())
        .unwrap_or_default();
    let rows = section
        .lines()
        .filter(|line| line.starts_with("| "))
        .skip(2);
    rows.filter_map(|row| row.trim_end_matches(" |").rsplit_once('|'))
        .flat_map(|(_, names)| names.split(','))
        .map(|name| name.trim_matches([' ', '`']).split("::").collect())
        .collect()
}

fn page(path: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path))
        .expect("the page can be read")
}

/// Returns whether the sources contain such a test, or a module with a test.
fn is_test(name: &[&str]) -> bool {
    let Some((last, modules)) = name.split_last() else {
        return false;
    };
    ["tests/it", "src"].iter().any(|root| {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join(root);
        let text_of = |modules: &[&str]| {
            let path = root.join(modules.join("/"));
            fs::read_to_string(path.with_extension("rs"))
                .or_else(|_| fs::read_to_string(path.join("mod.rs")))
                .unwrap_or_default()
        };
        text_of(modules).contains(&format!("#[test]\nfn {last}()"))
            || text_of(name).contains("#[test]\n")
    })
}

#[test]
fn every_way_to_fail_in_the_readme_names_a_test() {
    for (path, rows) in [("README.md", 6), ("tests/it/README.md", 22)] {
        let page = page(path);
        let names = tests_named(&page);
        assert!(names.len() >= rows, "{path} has only {names:?}");
        let missing: Vec<_> = names.iter().filter(|name| !is_test(name)).collect();
        assert!(
            missing.is_empty(),
            "{path} names no such tests: {missing:?}"
        );
    }
    assert!(!is_test(&["recovery", "no_such_test"]));
    assert!(!is_test(&["no_such_module"]));
}

#[test]
fn the_readme_has_at_most_100_lines() {
    assert!(page("README.md").lines().count() <= 100);
}
