//! The integration tests, built as one binary. Each module checks one promise through the public
//! API.

mod append_read;
mod architecture;
mod bench;
mod brevity;
mod cases;
mod compaction;
mod concurrency;
mod config;
mod crash;
mod damage;
mod faults;
mod following;
mod forking;
mod front_page;
mod groups;
mod inspect;
mod kafka;
mod limits;
mod log;
mod mixture;
mod model;
mod producer;
mod programs;
mod read_only;
mod reading_last;
mod recovery;
mod rerun;
mod retention;
mod salvaging;
mod skipping;
mod snapshots;
mod transactions;
mod unpacking;

use annals::Compression;

/// All codecs, and none.
const CODECS: [Compression; 5] = [
    Compression::None,
    Compression::Gzip,
    Compression::Snappy,
    Compression::Lz4,
    Compression::Zstd,
];
