//! Doors and shape: the only files that may use the disk and the clock, and how files begin and how
//! long they and their functions may be.

use super::source::Source;
use super::{Finding, found};

const FILE_LINES: usize = 600;
const FUNCTION_LINES: usize = 70;
const LINE_COLUMNS: usize = 100;

/// The start of a path and the only files that may name such paths.
const DOORS: [(&[&str], &[&str]); 6] = [
    (&["std", "fs"], &["storage/disk"]),
    (&["memmap2"], &["storage/disk"]),
    (&["rustix"], &["storage/disk"]),
    (&["libc"], &["storage/disk", "clock/coarse"]),
    (&["std", "time", "Instant"], &["clock"]),
    (&["std", "env"], &[]),
];

/// Modules of `std` that `format` may not use: it only converts bytes to values and back.
const IMPURE: [&str; 6] = ["fs", "net", "path", "process", "sync", "thread"];

/// Finds uses of the disk, of `unsafe` and of the clock outside of their files, and impure paths in
/// `format`.
pub(super) fn check_doors(source: &Source) -> Vec<Finding> {
    let is_file = |name: &str| {
        let rest = source.path.strip_prefix(name);
        rest.is_some_and(|rest| rest == ".rs" || rest.starts_with('/'))
    };
    let mut findings = Vec::new();
    for path in source.paths().iter().filter(|path| !path.is_local) {
        let starts_with = |start: &[&str]| {
            path.segments
                .iter()
                .zip(start)
                .filter(|(a, b)| a == b)
                .count()
                == start.len()
        };
        let closed = DOORS
            .iter()
            .any(|(start, files)| starts_with(start) && !files.iter().any(|file| is_file(file)));
        let impure = source.path.starts_with("format/")
            && IMPURE.iter().any(|name| starts_with(&["std", name]));
        if closed || impure {
            findings.push((
                path.line,
                format!(
                    "`{}` may not be used in this file",
                    path.segments.join("::")
                ),
            ));
        }
    }
    for (at, word) in source.words() {
        let rest = &source.code[at + word.len()..];
        let is_closed = match word {
            "unsafe" => !is_file("storage/disk") && !is_file("clock/coarse"),
            "SystemTime" | "Instant" => rest.starts_with("::now") && !is_file("clock"),
            // A path to another folder would put one file on two floors.
            "path" => {
                let line = source
                    .text
                    .lines()
                    .nth(source.line_of(at) - 1)
                    .unwrap_or_default();
                source.code[..at].ends_with("#[")
                    && (line.contains("..") || !line.contains("/tests.rs\""))
            }
            _ => false,
        };
        if is_closed {
            findings.push((
                source.line_of(at),
                format!("`{word}` may not be used in this file"),
            ));
        }
    }
    findings
}

/// Requires that every file begins with its documentation.
pub(super) fn check_opening(source: &Source) -> Vec<Finding> {
    if source.text.starts_with("//! ") {
        Vec::new()
    } else {
        found(1, "the file does not begin with `//! `")
    }
}

/// Checks single lines: the width of comments, ASCII, unfinished work, and lints that are turned
/// off without a reason.
pub(super) fn check_lines(source: &Source) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (number, line) in source.text.lines().enumerate() {
        // `rustfmt` wraps code. Table rows and single long words cannot be wrapped.
        let comment = line
            .trim_start()
            .strip_prefix("//")
            .map(|text| text.trim_start_matches(['/', '!']).trim());
        let can_be_wrapped =
            comment.is_some_and(|text| text.contains(' ') && !text.starts_with('|'));
        let columns = line.chars().count();
        if columns > LINE_COLUMNS && can_be_wrapped {
            findings.push((number + 1, format!("{columns} columns")));
        }
        if !line.is_ascii() {
            findings.push((number + 1, "not ASCII".to_owned()));
        }
        if ["TODO", "FIXME", "XXX"]
            .iter()
            .any(|word| line.contains(word))
        {
            findings.push((number + 1, "unfinished work".to_owned()));
        }
    }
    for (at, word) in source.words() {
        let before = &source.code[..at];
        let is_attribute = matches!(word, "allow" | "expect")
            && (before.ends_with("#[") || before.ends_with("#!["));
        let inside = source.code[at..].split(']').next().unwrap_or_default();
        if is_attribute && !inside.contains("reason") {
            findings.push((
                source.line_of(at),
                "a lint is turned off without a reason".to_owned(),
            ));
        }
    }
    findings
}

/// Finds files and functions that are too long.
pub(super) fn check_lengths(source: &Source) -> Vec<Finding> {
    let mut findings = Vec::new();
    let lines = source.text.lines().count();
    if lines > FILE_LINES {
        findings.push((lines, format!("{lines} lines; the limit is {FILE_LINES}")));
    }
    let all: Vec<_> = source.words().collect();
    for pair in all.windows(2).filter(|pair| pair[0].1 == "fn") {
        let (at, name) = pair[1];
        // A function pointer has a parenthesis between `fn` and the next word.
        if source.code[pair[0].0 + 2..at].trim() != "" {
            continue;
        }
        let Some(body) = source.braced(at) else {
            continue;
        };
        let lines = source.code[body]
            .lines()
            .filter(|line| !line.trim().is_empty())
            .count();
        if lines > FUNCTION_LINES {
            findings.push((
                source.line_of(at),
                format!("`{name}` has {lines} lines; the limit is {FUNCTION_LINES}"),
            ));
        }
    }
    findings
}
