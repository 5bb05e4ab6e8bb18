//! The topics that a member wants to read: a list, or all topics whose names match a pattern.
//!
//! The topics need not exist yet. The member gets their partitions once they are created.

use std::fmt;
use std::sync::Arc;

use regex_lite::{Regex, RegexBuilder};

use crate::brief::Few;
use crate::error::{Error, Result};
use crate::format::file_name;

/// The topics that a member of a group reads.
///
/// It is made from one name or a list (`"orders"`, `["orders", "refunds"]`, a `Vec<String>`), or
/// from a [`pattern`](Self::pattern).
///
/// A topic that does not exist yet is not an error: its partitions are assigned as soon as it is
/// created.
///
/// ```
/// # use annals::Subscription;
/// # fn main() -> annals::Result<()> {
/// assert_eq!(Subscription::from("orders"), Subscription::from(["orders", "orders"]));
/// let all = Subscription::pattern("orders-.*")?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Subscription {
    /// In order, each once. Empty for a pattern.
    topics: Vec<Arc<str>>,
    pattern: Option<Pattern>,
}

/// A pattern of topic names.
#[derive(Clone, Debug)]
struct Pattern {
    text: Arc<str>,
    /// Anchored, so that it matches whole names only.
    regex: Regex,
}

impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for Pattern {}

impl fmt::Debug for Subscription {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("Subscription");
        match &self.pattern {
            Some(pattern) => shown.field("pattern", &pattern.text),
            None => shown.field("topics", &Few(&self.topics)),
        };
        shown.finish()
    }
}

impl Subscription {
    /// Subscribes to all topics, now and later, whose whole names match a regular expression:
    /// `"orders-.*"`. The syntax is that of the `regex` crate. Kafka's internal topics never match.
    ///
    /// # Errors
    ///
    /// Returns [`Error::InvalidConfig`] if `pattern` is not a regular expression.
    pub fn pattern(pattern: &str) -> Result<Self> {
        let invalid = |error: regex_lite::Error| Error::InvalidConfig {
            key: "subscription pattern".to_owned(),
            reason: format!("{pattern:?}: {error}"),
        };
        // The pattern is checked alone first, so that its parentheses cannot pair with the ones
        // that are added here.
        RegexBuilder::new(pattern).build().map_err(invalid)?;
        let regex = RegexBuilder::new(&format!("^(?:{pattern})$"))
            .build()
            .map_err(invalid)?;
        Ok(Self {
            topics: Vec::new(),
            pattern: Some(Pattern {
                text: pattern.into(),
                regex,
            }),
        })
    }

    /// Returns the topics of a list, in the order of their names, each once; none for a pattern.
    pub fn topics(&self) -> impl ExactSizeIterator<Item = &str> + use<'_> {
        self.topics.iter().map(|topic| &**topic)
    }

    /// Returns whether this is a pattern, which has to be compared with every existing topic.
    pub(in crate::group) fn is_pattern(&self) -> bool {
        self.pattern.is_some()
    }

    /// Returns whether the subscription includes a topic of this name.
    pub fn contains(&self, topic: &str) -> bool {
        match &self.pattern {
            Some(pattern) => !file_name::is_internal_topic(topic) && pattern.regex.is_match(topic),
            None => self
                .topics
                .binary_search_by(|name| (**name).cmp(topic))
                .is_ok(),
        }
    }
}

impl<T: Into<Arc<str>>> FromIterator<T> for Subscription {
    fn from_iter<I: IntoIterator<Item = T>>(names: I) -> Self {
        let mut topics: Vec<Arc<str>> = names.into_iter().map(Into::into).collect();
        topics.sort_unstable();
        topics.dedup();
        Self {
            topics,
            pattern: None,
        }
    }
}

impl From<&str> for Subscription {
    fn from(name: &str) -> Self {
        [name].into()
    }
}

impl From<String> for Subscription {
    fn from(name: String) -> Self {
        [name].into()
    }
}

impl From<&String> for Subscription {
    fn from(name: &String) -> Self {
        name.as_str().into()
    }
}

impl<T: Into<Arc<str>>, const N: usize> From<[T; N]> for Subscription {
    fn from(names: [T; N]) -> Self {
        names.into_iter().collect()
    }
}

impl<T: Into<Arc<str>>> From<Vec<T>> for Subscription {
    fn from(names: Vec<T>) -> Self {
        names.into_iter().collect()
    }
}

impl<T: AsRef<str>> From<&[T]> for Subscription {
    fn from(names: &[T]) -> Self {
        names.iter().map(AsRef::as_ref).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_subscription_is_made_from_one_name_or_a_list() {
        let both = Subscription::from(["b", "a", "b"]);
        assert_eq!(both.topics().collect::<Vec<_>>(), ["a", "b"]);
        assert_eq!(both, vec![String::from("a"), String::from("b")].into());
        assert_eq!(both, ["a", "b"][..].into());
        assert_eq!(Subscription::from("a"), String::from("a").into());
        assert_eq!(Subscription::from("a"), (&String::from("a")).into());
        assert!(both.contains("b"));
        assert!(!both.contains("c"));
        assert_eq!(Subscription::from(Vec::<String>::new()).topics().len(), 0);
    }

    #[test]
    fn a_pattern_matches_whole_names_and_no_internal_topic() {
        let pattern = Subscription::pattern("t-.*|u").unwrap();
        assert!(["t-", "t-1", "u"].iter().all(|name| pattern.contains(name)));
        assert!(
            ["at-1", "u1", "", "t"]
                .iter()
                .all(|name| !pattern.contains(name))
        );
        assert!(
            !Subscription::pattern(".*")
                .unwrap()
                .contains("__consumer_offsets")
        );
        assert_eq!(pattern, Subscription::pattern("t-.*|u").unwrap());
        assert_ne!(pattern, Subscription::pattern("t-.*").unwrap());
        assert!(pattern.is_pattern());
        assert_eq!(pattern.topics().len(), 0);
        for wrong in ["(", "a)(b", "[z-a]"] {
            let refused = Subscription::pattern(wrong);
            assert!(
                matches!(refused, Err(Error::InvalidConfig { key, .. }) if key == "subscription pattern"),
                "{wrong}"
            );
        }
    }
}
