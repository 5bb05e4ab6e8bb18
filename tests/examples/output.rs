//! The output of an example that has ended.

use std::fs;
use std::path::Path;
use std::process;

use regex_lite::Regex;

#[derive(Debug)]
pub(crate) struct Output {
    command: String,
    status: Option<i32>,
    pub(crate) bytes: Vec<u8>,
    pub(crate) text: String,
    pub(crate) errors: String,
}

impl Output {
    pub(crate) fn new(command: &str, ended: process::Output) -> Self {
        Self {
            command: command.to_owned(),
            status: ended.status.code(),
            text: String::from_utf8_lossy(&ended.stdout).into_owned(),
            bytes: ended.stdout,
            errors: String::from_utf8_lossy(&ended.stderr).into_owned(),
        }
    }

    pub(crate) fn expect_status(&self, status: i32) {
        assert_eq!(self.status, Some(status), "{self:#?}");
    }

    /// Asserts that the example ended with an error.
    pub(crate) fn expect_failure(&self) {
        assert_ne!(self.status, Some(0), "{self:#?}");
    }

    /// Asserts that standard output is this text.
    pub(crate) fn expect(&self, text: &str) {
        assert_eq!(self.text, text, "{} printed this", self.command);
    }

    /// Asserts that standard output is the content of this file.
    pub(crate) fn expect_file(&self, path: &Path) {
        let expected = fs::read_to_string(path).expect("the expected output can be read");
        for (number, (line, expected)) in self.text.lines().zip(expected.lines()).enumerate() {
            assert_eq!(line, expected, "{}, line {number}", self.command);
        }
        assert_eq!(self.text.len(), expected.len(), "{}", self.command);
    }

    pub(crate) fn expect_lines(&self, count: usize) {
        assert_eq!(self.text.lines().count(), count, "{self:#?}");
    }

    /// Asserts that the pattern matches a whole line of standard output.
    pub(crate) fn expect_line(&self, pattern: &str) {
        assert!(self.matching(pattern) > 0, "no line {pattern}: {self:#?}");
    }

    /// Asserts that the pattern matches a whole line of standard error.
    pub(crate) fn expect_error(&self, pattern: &str) {
        assert!(
            lines_like(pattern, &self.errors) > 0,
            "no error {pattern}: {self:#?}"
        );
    }

    /// Returns the number of lines of standard output that the pattern matches as a whole.
    pub(crate) fn matching(&self, pattern: &str) -> usize {
        lines_like(pattern, &self.text)
    }
}

fn lines_like(pattern: &str, text: &str) -> usize {
    let pattern = Regex::new(&format!("^(?:{pattern})$")).expect("the pattern is well formed");
    text.lines().filter(|line| pattern.is_match(line)).count()
}
