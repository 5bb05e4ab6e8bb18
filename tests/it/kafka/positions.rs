//! Positions that were committed in transactions: a broker and annals read the same ones from the
//! same files.

use annals::Log;

use super::{Broker, KafkaTools, copy_dir, fixture};

const PARTITIONS: u32 = 13;

/// Returns the positions of group `g` in `t`, as Kafka's tool prints them.
fn described(broker: &Broker) -> Vec<Option<u64>> {
    let printed = broker.tool(
        "org.apache.kafka.tools.consumer.group.ConsumerGroupCommand",
        &["--describe", "--group", "g"],
    );
    let position = |number: u32| {
        let start = ["g".to_owned(), "t".to_owned(), number.to_string()];
        let row = printed.lines().find(|line| {
            let words = line.split_whitespace().take(3);
            words.eq(start.iter().map(String::as_str))
        });
        row?.split_whitespace().nth(3)?.parse().ok()
    };
    (0..PARTITIONS).map(position).collect()
}

#[test]
fn a_broker_reads_the_same_positions_of_transactions() {
    let Some(tools) = KafkaTools::find() else {
        return;
    };
    let dir = tempfile::tempdir().expect("a directory");
    let (root, own) = (dir.path().join("broker"), dir.path().join("annals"));
    let case = fixture("cases/transactional-commits/root");
    copy_dir(&case, &own);
    let broker = Broker::create(&tools, &root);
    let offsets = "__consumer_offsets-0".to_owned();
    for name in (0..PARTITIONS)
        .map(|number| format!("t-{number}"))
        .chain([offsets])
    {
        copy_dir(&case.join(&name), &root.join(&name));
    }
    broker.create_topic("t", PARTITIONS, &[("retention.ms", "-1")]);
    let found = described(&broker);
    broker.stop();

    let log = Log::open(&own).unwrap();
    let group = log.consumer_group("g").unwrap();
    let position = |number: u32| {
        let next = group.committed(&("t", number).into()).unwrap();
        next.map(|next| next.offset)
    };
    let expected: Vec<_> = (0..PARTITIONS).map(position).collect();
    assert_eq!(found, expected);
    assert_eq!(found.iter().flatten().count(), 10);
}
