//! What a member wants to read: a list of topics.
//!
//! A name in the list need not be a topic yet: the member gets its partitions once there is one.

use std::sync::Arc;

/// The topics that a member of a group reads. Made from one name or a list: `"orders"`, `["orders", "refunds"]`, a `Vec<String>`.
///
/// A topic that does not exist (yet) is no error: its partitions are shared out as soon as it is created.
///
/// ```
/// # use annals::Subscription;
/// assert_eq!(Subscription::from("orders"), Subscription::from(["orders", "orders"]));
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Subscription {
    /// In order, each once.
    topics: Vec<Arc<str>>,
}

impl Subscription {
    /// The topics in the order of their names, each once.
    pub fn topics(&self) -> impl ExactSizeIterator<Item = &str> + use<'_> {
        self.topics.iter().map(|topic| &**topic)
    }

    pub(super) fn contains(&self, topic: &str) -> bool {
        self.topics.binary_search_by(|name| (**name).cmp(topic)).is_ok()
    }
}

impl<T: Into<Arc<str>>> FromIterator<T> for Subscription {
    fn from_iter<I: IntoIterator<Item = T>>(names: I) -> Self {
        let mut topics: Vec<Arc<str>> = names.into_iter().map(Into::into).collect();
        topics.sort_unstable();
        topics.dedup();
        Self { topics }
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
    fn a_subscription_is_made_from_what_names_topics() {
        let both = Subscription::from(["b", "a", "b"]);
        assert_eq!(both.topics().collect::<Vec<_>>(), ["a", "b"]);
        assert_eq!(both, vec![String::from("a"), String::from("b")].into());
        assert_eq!(both, ["a", "b"][..].into());
        assert_eq!(Subscription::from("a"), String::from("a").into());
        assert_eq!(Subscription::from("a"), (&String::from("a")).into());
        assert!(both.contains("b") && !both.contains("c"));
        assert_eq!(Subscription::from(Vec::<String>::new()).topics().len(), 0);
    }
}
