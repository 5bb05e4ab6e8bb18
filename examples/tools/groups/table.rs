//! The columns of `kafka-consumer-groups`.

use std::collections::BTreeMap;

use annals::{GroupDescription, TopicPartition};

/// Printed for a missing value.
const MISSING: &str = "-";

/// Rows below a header. Each column is as wide as its widest cell.
pub(crate) struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    pub(crate) fn new<const N: usize>(head: [&str; N]) -> Self {
        Self {
            rows: vec![head.map(str::to_owned).to_vec()],
        }
    }

    pub(crate) fn row<const N: usize>(&mut self, cells: [String; N]) {
        self.rows.push(Vec::from(cells));
    }

    pub(crate) fn print(&self) {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        let width = |column: usize| {
            self.rows
                .iter()
                .filter_map(|row| row.get(column))
                .map(String::len)
                .max()
                .unwrap_or(0)
        };
        let widths: Vec<usize> = (0..columns).map(width).collect();
        for row in &self.rows {
            let cells: Vec<String> = row
                .iter()
                .zip(&widths)
                .map(|(cell, width)| format!("{cell:<width$}"))
                .collect();
            println!("{}", cells.join(" ").trim_end());
        }
    }

    /// Removes a column that the short form does not have.
    fn without(mut self, column: usize) -> Self {
        self.rows
            .iter_mut()
            .for_each(|row| drop(row.remove(column)));
        self
    }
}

pub(crate) fn positions(group: &GroupDescription, verbose: bool) -> Table {
    let mut table = Table::new([
        "GROUP",
        "TOPIC",
        "PARTITION",
        "LEADER-EPOCH",
        "CURRENT-OFFSET",
        "LOG-END-OFFSET",
        "LAG",
        "CONSUMER-ID",
        "HOST",
        "CLIENT-ID",
    ]);
    let owned = |member: &Option<String>| {
        group
            .positions
            .iter()
            .filter(|other| other.member == *member)
            .count()
    };
    let mut rows: Vec<_> = group.positions.iter().collect();
    // Members with the most partitions come first, and partitions without an owner last.
    rows.sort_by_key(|position| {
        (
            position.member.is_none(),
            usize::MAX - owned(&position.member),
            position.member.clone(),
        )
    });
    for position in rows {
        let TopicPartition { topic, partition } = &position.partition;
        let committed = position.committed.as_ref().map(|next| next.offset);
        table.row([
            group.group.clone(),
            topic.to_string(),
            partition.to_string(),
            MISSING.to_owned(),
            or_missing(committed),
            or_missing(position.log_end),
            or_missing(position.lag),
            or_missing(position.member.as_ref()),
            MISSING.to_owned(),
            MISSING.to_owned(),
        ]);
    }
    if verbose { table } else { table.without(3) }
}

pub(crate) fn members(group: &GroupDescription, verbose: bool) -> Table {
    let mut table = Table::new([
        "GROUP",
        "CONSUMER-ID",
        "GROUP-INSTANCE-ID",
        "HOST",
        "CLIENT-ID",
        "#PARTITIONS",
        "CURRENT-EPOCH",
        "CURRENT-ASSIGNMENT",
        "TARGET-EPOCH",
        "TARGET-ASSIGNMENT",
    ]);
    for member in &group.members {
        table.row([
            group.group.clone(),
            member.member.clone(),
            or_missing(member.instance_id.as_ref()),
            MISSING.to_owned(),
            MISSING.to_owned(),
            member.assignment.len().to_string(),
            member.epoch.to_string(),
            assignment(&member.assignment),
            group.epoch.to_string(),
            assignment(&member.target),
        ]);
    }
    let columns = if verbose { 0 } else { 4 };
    let table = (0..columns).fold(table, |table, _| table.without(6));
    if group
        .members
        .iter()
        .any(|member| member.instance_id.is_some())
    {
        table
    } else {
        table.without(2)
    }
}

pub(crate) fn state(group: &GroupDescription, verbose: bool) -> Table {
    let mut table = Table::new([
        "GROUP",
        "COORDINATOR (ID)",
        "ASSIGNMENT-STRATEGY",
        "STATE",
        "GROUP-EPOCH",
        "TARGET-ASSIGNMENT-EPOCH",
        "#MEMBERS",
    ]);
    table.row([
        group.group.clone(),
        MISSING.to_owned(),
        group.assignor.clone(),
        super::state_name(group.state),
        group.epoch.to_string(),
        group.epoch.to_string(),
        group.members.len().to_string(),
    ]);
    if verbose {
        table
    } else {
        table.without(5).without(4)
    }
}

fn or_missing(value: Option<impl ToString>) -> String {
    value.map_or_else(|| MISSING.to_owned(), |value| value.to_string())
}

/// Returns partitions as in `t:0,1;u:2`.
fn assignment(partitions: &[TopicPartition]) -> String {
    let mut topics: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for TopicPartition { topic, partition } in partitions {
        topics.entry(topic).or_default().push(partition.to_string());
    }
    let topics: Vec<String> = topics
        .iter()
        .map(|(topic, numbers)| format!("{topic}:{}", numbers.join(",")))
        .collect();
    if topics.is_empty() {
        MISSING.to_owned()
    } else {
        topics.join(";")
    }
}
