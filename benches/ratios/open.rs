//! Opens a clean log, compared with `stat` on its files, and an unclean one, compared with a cold
//! read of them.

use std::time::{Duration, Instant};

use crate::figure::{Aim, measure as measure_pair};
use crate::raw;
use crate::workload;

pub(crate) fn measure() {
    measure_clean();
    measure_unclean();
}

fn measure_clean() {
    let scratch = workload::scratch();
    let dir = scratch.path().join("log");
    let segments = workload::sized(5, 100, 100);
    workload::write_log(&dir, segments, 1 << 20);
    let files = raw::files(&dir);
    let stat = || {
        let start = Instant::now();
        raw::stat(&files);
        start.elapsed()
    };
    let name = format!("open clean, {segments} segments, {} files", files.len());
    measure_pair(&name, Aim::Under(2.0), 51, stat, || {
        workload::time_open(&dir)
    });
}

fn measure_unclean() {
    let scratch = workload::scratch();
    let dir = scratch.path().join("log");
    let megabytes = workload::sized(4, 256, 2_048);
    workload::write_log(
        &dir,
        4,
        u32::try_from(megabytes / 4).expect("a size fits") << 20,
    );
    let mut buffer = vec![0; 1 << 20];
    let cold_read = || -> Duration {
        let files = raw::files(&dir);
        raw::cool(&files);
        let start = Instant::now();
        raw::read(&files, &mut buffer);
        start.elapsed()
    };
    let name = format!("open unclean, {megabytes} MiB, against a cold read");
    measure_pair(&name, Aim::AtLeast(0.8), 7, cold_read, || {
        workload::make_unclean(&dir);
        raw::cool(&raw::files(&dir));
        workload::time_open(&dir)
    });
}
