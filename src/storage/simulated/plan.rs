//! The plan of a test: which calls fail, and how.

use std::io;

/// A failure of one call.
#[derive(Debug)]
pub(super) struct Fault {
    pub(super) call: u64,
    pub(super) is_for_good: bool,
    /// Whether a write writes half of its bytes before it fails.
    pub(super) is_short: bool,
    pub(super) error: io::Error,
}

/// The outcome of a call.
#[derive(Debug)]
pub(super) enum Turn {
    Whole,
    Fail { error: io::Error, is_short: bool },
}

/// The number of calls so far, and the failures of later ones.
#[derive(Debug, Default)]
pub(super) struct Plan {
    pub(super) calls: u64,
    pub(super) faults: Vec<Fault>,
    /// The first call without power.
    pub(super) cut_at: Option<u64>,
    /// Whether another disk has taken the place of this one, after a power cut or a killed process.
    pub(super) is_over: bool,
    pub(super) flips: Vec<(u64, usize)>,
    pub(super) capacity: Option<u64>,
}

impl Plan {
    /// Counts a call, and returns its outcome.
    pub(super) fn take_turn(&mut self) -> Turn {
        if self.is_without_power() {
            return Turn::Fail {
                error: io::Error::other("this simulated disk has lost its power"),
                is_short: false,
            };
        }
        let call = self.calls;
        self.calls += 1;
        let hit = self
            .faults
            .iter()
            .find(|fault| call == fault.call || fault.is_for_good && call > fault.call);
        hit.map_or(Turn::Whole, |fault| Turn::Fail {
            error: copy(&fault.error),
            is_short: fault.is_short,
        })
    }

    pub(super) fn is_without_power(&self) -> bool {
        self.is_over || self.cut_at.is_some_and(|at| self.calls >= at)
    }

    /// Returns the bit that the call counted last reads wrong.
    pub(super) fn take_flip(&mut self) -> Option<usize> {
        let place = self
            .flips
            .iter()
            .position(|(call, _)| call + 1 == self.calls)?;
        Some(self.flips.swap_remove(place).1)
    }
}

fn copy(error: &io::Error) -> io::Error {
    error.raw_os_error().map_or_else(
        || io::Error::new(error.kind(), error.to_string()),
        io::Error::from_raw_os_error,
    )
}
