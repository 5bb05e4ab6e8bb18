//! The integration tests, as one binary: each module checks one promise from outside.

mod append_read;
mod architecture;
mod bench;
mod beside;
mod brevity;
mod cases;
mod compaction;
mod concurrency;
mod config;
mod crash;
mod damage;
mod faults;
mod following;
mod front_page;
mod groups;
mod inspect;
mod kafka;
mod limits;
mod log;
mod model;
mod producer;
mod programs;
mod recovery;
mod retention;
mod salvaging;
mod skipping;
