//! The outcome of a run, which a peer prints and the runner reads.

use std::collections::BTreeMap;
use std::fmt;

/// Named figures and texts. On a pipe each is a line `key=value`.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    fields: BTreeMap<String, String>,
}

impl Outcome {
    /// The records did not come back as they were appended.
    pub const WRONG: &'static str = "wrong";
    /// The peer has no such operation.
    pub const UNSUPPORTED: &'static str = "unsupported";
    /// The peer failed.
    pub const FAILED: &'static str = "failed";
    /// The last line of an outcome, so that a peer that ends early is noticed.
    pub const END: &'static str = "end";

    /// Adds a figure or a text.
    #[must_use]
    pub fn with(mut self, key: &str, value: impl ToString) -> Self {
        let value = value.to_string().replace('\n', " ");
        self.fields.insert(key.to_owned(), value);
        self
    }

    /// Adds a complaint about the records, if there is one.
    #[must_use]
    pub fn with_verdict(self, verdict: Option<String>) -> Self {
        match verdict {
            Some(verdict) => self.with(Self::WRONG, verdict),
            None => self,
        }
    }

    pub fn text(&self, key: &str) -> Option<&str> {
        self.fields.get(key).map(String::as_str)
    }

    pub fn number(&self, key: &str) -> Option<f64> {
        self.text(key)?.parse().ok()
    }

    /// Reads the lines that a peer printed. Returns `None` if the last one is missing.
    pub fn parse(printed: &str) -> Option<Self> {
        let mut outcome = Self::default();
        for line in printed.lines() {
            if line == Self::END {
                return Some(outcome);
            }
            if let Some((key, value)) = line.split_once('=') {
                outcome = outcome.with(key, value);
            }
        }
        None
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (key, value) in &self.fields {
            writeln!(f, "{key}={value}")?;
        }
        writeln!(f, "{}", Self::END)
    }
}
