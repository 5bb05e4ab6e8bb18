//! A log on disk with a manual clock, for tests in which days pass.

use std::path::PathBuf;

use annals::{Log, LogConfig, ManualClock, Partition, Timestamp, TopicConfig};

pub(crate) struct Bench {
    pub(crate) dir: tempfile::TempDir,
    pub(crate) clock: ManualClock,
    config: LogConfig,
    log: Option<Log>,
}

impl Bench {
    pub(crate) fn new(start: Timestamp) -> Self {
        Self::with(start, LogConfig::new())
    }

    pub(crate) fn with(start: Timestamp, config: LogConfig) -> Self {
        let (dir, clock) = (tempfile::tempdir().unwrap(), ManualClock::at(start));
        let mut bench = Self {
            dir,
            clock,
            config,
            log: None,
        };
        bench.open();
        bench
    }

    pub(crate) fn open(&mut self) {
        let builder = Log::builder(self.dir.path())
            .clock(self.clock.clone())
            .config(self.config.clone());
        self.log = Some(builder.open().unwrap());
    }

    pub(crate) fn log(&self) -> &Log {
        self.log.as_ref().unwrap()
    }

    /// Returns partition 0 of a topic, which is created if it does not exist.
    pub(crate) fn partition(&self, topic: &str, config: TopicConfig) -> Partition {
        self.log()
            .open_topic(topic, 1, config)
            .unwrap()
            .partition(0)
            .unwrap()
    }

    pub(crate) fn close(&mut self) {
        self.log.take().unwrap().close().unwrap();
    }

    /// Closes the log, opens it again, and returns partition 0 of `t`.
    pub(crate) fn reopen(&mut self) -> Partition {
        self.close();
        self.open();
        self.log().topic("t").unwrap().partition(0).unwrap()
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }
}
