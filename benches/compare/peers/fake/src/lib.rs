//! A log in memory and a file, with one fault: the comparison must show it, and no figure.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Mutex;
use std::thread;

use harness::{About, Acknowledged, Batch, Checked, Peer, Result, Setup};

/// No fault.
pub const SOUND: u8 = 0;
/// Loses one record in the middle.
pub const LOSES: u8 = 1;
/// Returns two neighbors in the wrong order.
pub const REORDERS: u8 = 2;
/// Flips a bit of one record.
pub const FLIPS: u8 = 3;
/// Never returns from an append.
pub const HANGS: u8 = 4;
/// Returns an error from an append.
pub const FAILS: u8 = 5;
/// Ends the process in an append.
pub const CRASHES: u8 = 6;

/// The record with the fault.
const PLACE: usize = 70;

/// Runs a fake peer as a program.
pub fn run<const FAULT: u8>() -> ExitCode {
    harness::main::<Fake<FAULT>>()
}

struct Fake<const FAULT: u8> {
    path: PathBuf,
    records: Mutex<Vec<Vec<u8>>>,
    /// Records are in the file after each append, as a killed process leaves them there.
    is_reopened: bool,
}

impl<const FAULT: u8> Fake<FAULT> {
    fn push(&self, batch: Batch<'_>) -> Result<()> {
        match FAULT {
            HANGS => loop {
                thread::park();
            },
            FAILS => return Err("the disk is on fire".into()),
            CRASHES => panic!("a bug"),
            _ => {}
        }
        let mut records = self.records.lock().map_err(|_| "a thread panicked")?;
        records.extend(batch.iter().map(<[u8]>::to_vec));
        if self.is_reopened {
            fs::write(&self.path, records.concat())?;
        }
        Ok(())
    }
}

impl<const FAULT: u8> Peer for Fake<FAULT> {
    type Cursor<'a> = usize;

    fn about() -> About {
        About {
            version: "fake",
            acknowledged: Acknowledged::InProcess,
            checked: Checked::Never,
            meaning: "in memory",
            notes: "it tests the comparison",
        }
    }

    fn open(dir: &Path, setup: &Setup) -> Result<Self> {
        let path = dir.join("records");
        let stored = fs::read(&path).unwrap_or_default();
        Ok(Self {
            path,
            records: Mutex::new(stored.chunks(100).map(<[u8]>::to_vec).collect()),
            is_reopened: setup.is_reopened,
        })
    }

    fn append(&mut self, batch: Batch<'_>) -> Result<()> {
        self.push(batch)
    }

    fn append_shared(&self, _thread: usize, batch: Batch<'_>) -> Result<()> {
        self.push(batch)
    }

    fn close(self) -> Result<()> {
        Ok(())
    }

    fn cursor(&self) -> Result<usize> {
        Ok(0)
    }

    fn read(&self, next: &mut usize, visit: &mut impl FnMut(&[u8])) -> Result<u64> {
        let records = self.records.lock().map_err(|_| "a thread panicked")?;
        let Some(record) = records.get(*next) else {
            return Ok(0);
        };
        let neighbor = records.get(*next + 1);
        let (here, after) = (*next == PLACE, *next == PLACE + 1);
        *next += 1;
        match FAULT {
            LOSES if here => {}
            // The neighbor is there: appends of one record come before any read of this one.
            REORDERS if here => visit(neighbor.unwrap_or(record)),
            REORDERS if after => visit(&records[PLACE]),
            FLIPS if here => visit(&flipped(record)),
            _ => visit(record),
        }
        Ok(1)
    }

    fn get(&self, _: &mut usize, index: u64, visit: &mut impl FnMut(&[u8])) -> Result<()> {
        let records = self.records.lock().map_err(|_| "a thread panicked")?;
        let index = usize::try_from(index)?;
        match FAULT {
            LOSES if index == PLACE => {}
            FLIPS if index == PLACE => visit(&flipped(&records[index])),
            REORDERS if index == PLACE => visit(&records[index + 1]),
            _ => visit(&records[index]),
        }
        Ok(())
    }
}

fn flipped(record: &[u8]) -> Vec<u8> {
    let mut record = record.to_vec();
    if let Some(last) = record.last_mut() {
        *last ^= 1;
    }
    record
}
