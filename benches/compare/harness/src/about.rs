//! What a peer promises, in the words of its adapter.

use std::fmt;

/// Where the records of an append are when the append returns, in default settings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Acknowledged {
    /// In memory of the process: a killed process loses them.
    InProcess,
    /// In the page cache: only a crash of the machine loses them.
    InPageCache,
    /// On the device.
    OnDevice,
}

/// Whether the peer checks the bytes of a record before it returns them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Checked {
    /// On each read.
    OnRead,
    /// Only when it opens the log.
    OnOpen,
    Never,
}

/// The facts about a peer that are printed next to its figures.
#[derive(Clone, Debug)]
pub struct About {
    /// The crate and its exact version.
    pub version: &'static str,
    pub acknowledged: Acknowledged,
    pub checked: Checked,
    /// What an acknowledgement means, in one line.
    pub meaning: &'static str,
    /// The settings and calls that the adapter chose, in one line.
    pub notes: &'static str,
}

impl fmt::Display for Acknowledged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::InProcess => "process",
            Self::InPageCache => "page cache",
            Self::OnDevice => "device",
        })
    }
}

impl fmt::Display for Checked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::OnRead => "yes",
            Self::OnOpen => "on open",
            Self::Never => "no",
        })
    }
}
