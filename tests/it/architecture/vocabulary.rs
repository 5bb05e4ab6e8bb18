//! One word for one idea: a record is never called a message, and a segment rolls and never
//! rotates.

use super::Finding;
use super::source::{Source, words};

/// Parts of identifiers with their replacements.
const PARTS: [(&str, &str); 18] = [
    ("leo", "log end offset"),
    ("lso", "log start or last stable offset"),
    ("hw", "high watermark"),
    ("hwm", "high watermark"),
    ("pos", "position"),
    ("idx", "index"),
    ("seq", "sequence"),
    ("seqs", "sequences"),
    ("msg", "record, or for errors: message"),
    ("msgs", "records"),
    ("mgr", "what it does"),
    ("manager", "what it does"),
    ("helper", "what it does"),
    ("helpers", "what they do"),
    ("util", "what it does"),
    ("utils", "what they do"),
    ("misc", "what they are"),
    ("gc", "clean or delete"),
];

/// Parts of the names of defined functions and types with their replacements. Uses of `str::trim`
/// and `u32::rotate_left` are fine, because the standard library defines them.
const DEFINED: [(&str, &str); 4] = [
    ("rotate", "roll"),
    ("trim", "truncate, delete or cut"),
    ("message", "record"),
    ("messages", "records"),
];

/// Names of Kafka's configuration keys and of its old formats, in which these parts are allowed.
const KEYS: [&str; 6] = [
    "max_message_bytes",
    "flush_messages",
    "message_timestamp",
    "message_format",
    "message_downconversion",
    "message_set",
];

/// Whole identifiers with their replacements.
const WHOLE: [(&str, &str); 2] = [
    ("flushed_offset", "recovery point"),
    ("consumer_id", "member"),
];

/// Words of comments with their replacements.
const PROSE: [(&str, &str); 13] = [
    ("lso", "log start or last stable offset"),
    ("leo", "log end offset"),
    ("hwm", "high watermark"),
    ("rotate", "roll"),
    ("rotates", "rolls"),
    ("rotated", "rolled"),
    ("rotation", "roll"),
    ("garbage", "clean, or say what the bytes are"),
    ("gc", "clean"),
    ("msg", "record"),
    ("message", "record"),
    ("messages", "records"),
    ("skeleton", "what it is"),
];

/// Returns whether the file may use the word: errors have messages, and the old formats consist of
/// message sets.
fn may_say_message(source: &Source) -> bool {
    source.path == "error/mod.rs" || source.path.starts_with("format/batch/legacy")
}

/// Checks the identifiers in the code and the name of the file.
pub(super) fn check_identifiers(source: &Source) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut complain =
        |line, name: &str, word: &str| findings.push((line, format!("`{name}`: say {word}")));
    for part in source.path.trim_end_matches(".rs").split(['/', '_']) {
        if part == "common" {
            complain(1, part, "what it is");
        }
        for (_, instead) in PARTS.iter().filter(|(banned, _)| *banned == part) {
            complain(1, part, instead);
        }
    }
    let mut previous = "";
    for (at, word) in source.words() {
        let line = source.line_of(at);
        let is_definition = matches!(
            previous,
            "fn" | "struct" | "enum" | "trait" | "mod" | "type"
        );
        previous = word;
        // A name after a dot or colons is used and not defined. Only definitions are checked.
        if source.code[..at].ends_with(['.', ':']) {
            continue;
        }
        let parts = parts(word);
        let banned = |list: &[(&str, &'static str)], part: &str| {
            list.iter()
                .find(|(bad, _)| *bad == part)
                .map(|(_, good)| *good)
        };
        let is_key = KEYS.iter().any(|key| word.contains(key)) || may_say_message(source);
        let slip = parts
            .iter()
            .find_map(|part| banned(&PARTS, part))
            .or_else(|| banned(&WHOLE, word))
            .or_else(|| {
                let is_of_text = matches!(word, "trim_start" | "trim_end");
                let applies = is_definition
                    && !is_of_text
                    && !(is_key && word.to_ascii_lowercase().contains("message"));
                applies
                    .then(|| parts.iter().find_map(|part| banned(&DEFINED, part)))
                    .flatten()
            });
        if let Some(instead) = slip {
            complain(line, word, instead);
        }
    }
    findings
}

/// Returns the parts of a name in `snake_case` or `CamelCase`, in lower case.
fn parts(identifier: &str) -> Vec<String> {
    let mut parts = vec![String::new()];
    let mut after_small = false;
    for c in identifier.chars() {
        if c == '_' || (c.is_ascii_uppercase() && after_small) {
            parts.push(String::new());
        }
        after_small = c.is_ascii_lowercase() || c.is_ascii_digit();
        if c != '_' {
            parts
                .last_mut()
                .expect("there is at least one part")
                .push(c.to_ascii_lowercase());
        }
    }
    parts
}

/// Checks the words of the comments.
pub(super) fn check_prose(source: &Source) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (number, line) in source.prose.lines().enumerate() {
        let all: Vec<_> = words(line).collect();
        for (index, (at, word)) in all.iter().enumerate() {
            let word = word.to_ascii_lowercase();
            let Some((_, instead)) = PROSE.iter().find(|(banned, _)| *banned == word) else {
                continue;
            };
            // Kafka's keys contain dots, as in `max.message.bytes`.
            let is_key = line[..*at].ends_with('.')
                || all
                    .get(index + 1)
                    .is_some_and(|(next, _)| line[at + word.len()..*next] == *".");
            let before = index.checked_sub(1).map_or("", |before| all[before].1);
            let after = all.get(index + 1).map_or("", |(_, after)| *after);
            let is_of_an_error = matches!(before, "error" | "panic");
            let is_of_old_formats = matches!(after, "set" | "sets" | "format" | "formats");
            let may_be = word.starts_with("message")
                && (may_say_message(source) || is_of_an_error || is_of_old_formats);
            if !may_be && !is_key {
                findings.push((number + 1, format!("`{word}`: say {instead}")));
            }
        }
    }
    findings
}
