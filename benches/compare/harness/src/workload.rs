//! The workloads and their sizes.

use std::time::Duration;

/// How a figure reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Measure {
    /// Records a second.
    Rate,
    /// Time until a record reaches the reader, as percentiles.
    Latency,
    /// Time of one operation.
    Time,
}

/// The size of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Size {
    /// For figures.
    Full,
    /// For a first impression.
    Quick,
    /// For checks without figures.
    Test,
}

/// A workload: what is done, with how many records.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Workload {
    Append { records: usize, record_bytes: usize },
    Durable { threads: usize },
    Scan,
    PointActive,
    PointSegments,
    Beside,
    Latency,
    OpenClean,
    OpenKilled,
}

impl Workload {
    /// All workloads, in the order of the table.
    pub const ALL: [Self; 16] = [
        Self::append(1, 100),
        Self::append(10, 100),
        Self::append(100, 100),
        Self::append(1_000, 100),
        Self::append(100, 16),
        Self::append(100, 1_024),
        Self::Durable { threads: 1 },
        Self::Durable { threads: 4 },
        Self::Durable { threads: 16 },
        Self::Scan,
        Self::PointActive,
        Self::PointSegments,
        Self::Beside,
        Self::Latency,
        Self::OpenClean,
        Self::OpenKilled,
    ];

    const fn append(records: usize, record_bytes: usize) -> Self {
        Self::Append {
            records,
            record_bytes,
        }
    }

    /// Returns the name on the command line.
    pub fn name(self) -> String {
        match self {
            Self::Append {
                records,
                record_bytes: 100,
            } => format!("append-{records}"),
            Self::Append { record_bytes, .. } => format!("append-{record_bytes}b"),
            Self::Durable { threads } => format!("durable-{threads}"),
            Self::Scan => "scan".to_owned(),
            Self::PointActive => "point-active".to_owned(),
            Self::PointSegments => "point-segments".to_owned(),
            Self::Beside => "beside".to_owned(),
            Self::Latency => "latency".to_owned(),
            Self::OpenClean => "open-clean".to_owned(),
            Self::OpenKilled => "open-killed".to_owned(),
        }
    }

    /// Returns the workload of a name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|workload| workload.name() == name)
    }

    /// Returns the head of its column.
    pub fn title(self) -> String {
        match self {
            Self::Append {
                records,
                record_bytes: 100,
            } => format!("append {records} × 100 B"),
            Self::Append {
                records,
                record_bytes: 1_024,
            } => format!("append {records} × 1 KiB"),
            Self::Append {
                records,
                record_bytes,
            } => format!("append {records} × {record_bytes} B"),
            Self::Durable { threads: 1 } => "durable, 1 thread".to_owned(),
            Self::Durable { threads } => format!("durable, {threads} threads"),
            Self::Scan => "scan".to_owned(),
            Self::PointActive => "point read, active segment".to_owned(),
            Self::PointSegments => "point read, many segments".to_owned(),
            Self::Beside => "writer and reader".to_owned(),
            Self::Latency => "latency at 10 k/s: p50 · p99 · p99.9".to_owned(),
            Self::OpenClean => "open, clean".to_owned(),
            Self::OpenKilled => "open after a kill".to_owned(),
        }
    }

    pub fn measure(self) -> Measure {
        match self {
            Self::Latency => Measure::Latency,
            Self::OpenClean | Self::OpenKilled => Measure::Time,
            _ => Measure::Rate,
        }
    }

    /// Returns the size of each record.
    pub fn record_bytes(self) -> usize {
        match self {
            Self::Append { record_bytes, .. } => record_bytes,
            _ => 100,
        }
    }

    /// Returns the most records of a run.
    pub fn most_records(self, size: Size) -> u64 {
        let full = match self {
            Self::Append {
                record_bytes: 16, ..
            } => 8_000_000,
            Self::Append {
                record_bytes: 1_024,
                ..
            } => 400_000,
            Self::Append { records: 1, .. } => 1_000_000,
            Self::Append { .. } => 4_000_000,
            Self::Durable { .. } => 100_000,
            Self::Scan | Self::Beside => 2_000_000,
            Self::PointActive | Self::PointSegments => 1_000_000,
            Self::Latency => 5_000,
            Self::OpenClean | Self::OpenKilled => 500_000,
        };
        match size {
            Size::Full => full,
            Size::Quick => full / 5,
            Size::Test => match self {
                Self::Durable { .. } => 160,
                Self::Latency => 400,
                _ => 8_000,
            },
        }
    }

    /// Returns the time after which the measured part of a run ends.
    pub fn time(self, size: Size) -> Duration {
        let full = match self {
            Self::Durable { .. } => 400,
            Self::OpenClean | Self::OpenKilled => 5_000,
            _ => 250,
        };
        match size {
            Size::Full => Duration::from_millis(full),
            Size::Quick => Duration::from_millis(full / 2),
            // All records are written and checked, however slow the machine is.
            Size::Test => Duration::from_secs(30),
        }
    }

    /// Returns the bytes that must be free before a run: files of twice the values, and room for
    /// what some peers allocate ahead.
    pub fn space(self, size: Size) -> u64 {
        let ahead = if size == Size::Test {
            600 << 20
        } else {
            2_200 << 20
        };
        self.most_records(size) * self.record_bytes() as u64 * 2 + ahead
    }
}

impl Size {
    pub fn name(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::Quick => "quick",
            Self::Test => "test",
        }
    }

    /// Returns the size of a name.
    pub fn named(name: &str) -> Option<Self> {
        [Self::Full, Self::Quick, Self::Test]
            .into_iter()
            .find(|size| size.name() == name)
    }
}
