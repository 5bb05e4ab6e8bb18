//! The list of peers.

/// A program to run. It is a binary of the package `compare-PACKAGE`.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Peer {
    pub(crate) name: &'static str,
    pub(crate) package: &'static str,
    /// The name of the binary, after `compare-`.
    pub(crate) binary: &'static str,
    /// The peer misbehaves, to test the comparison. It only runs when it is named.
    pub(crate) is_fake: bool,
}

/// The name of the row that all ratios refer to.
pub(crate) const LIMIT: &str = "raw limit";
/// The name of the row of a Kafka broker, which is no program of this workspace.
pub(crate) const KAFKA: &str = "kafka-broker";
/// The name of the row that the chart highlights.
pub(crate) const ANNALS: &str = "annals";

/// All peers, in the order of the table.
pub(crate) const ALL: &[Peer] = &[
    peer(ANNALS),
    peer("commitlog"),
    peer("fjall"),
    peer("kafko"),
    peer("krabka-log"),
    peer("okaywal"),
    peer("raft-engine"),
    peer("redb"),
    peer("rewal"),
    peer("rusqlite"),
    peer("seglog"),
    peer("wal-db"),
    peer("walrus"),
    peer("yaque"),
    peer(KAFKA),
    Peer {
        name: LIMIT,
        ..peer("raw")
    },
    Peer {
        name: "raw limit, bytes as annals stores them",
        ..peer("raw-stored")
    },
    fake("fake-sound"),
    fake("fake-loses"),
    fake("fake-reorders"),
    fake("fake-flips"),
    fake("fake-hangs"),
    fake("fake-fails"),
    fake("fake-crashes"),
    Peer {
        package: "fake-that-cannot-be-built",
        ..fake("fake-unbuilt")
    },
];

const fn peer(name: &'static str) -> Peer {
    Peer {
        name,
        package: name,
        binary: name,
        is_fake: false,
    }
}

const fn fake(name: &'static str) -> Peer {
    Peer {
        name,
        package: "fake",
        binary: name,
        is_fake: true,
    }
}

impl Peer {
    pub(crate) fn is_limit(&self) -> bool {
        self.name == LIMIT
    }

    pub(crate) fn is_kafka(&self) -> bool {
        self.name == KAFKA
    }
}
