//! Shows the records of Kafka's internal topics, and control records, as JSON.
//!
//! Each record of `__consumer_offsets` and of `__transaction_state` starts its key with the type of
//! the record, and its value with a version. Both are int16.
//!
//! - [`schema`] reads the fields of a schema and prints them.
//! - [`group`] and [`transaction`] have the schemas of the two topics.
//! - [`control`] has those of the control records of a metadata log.

use super::DumpOptions;
use schema::{Field, Unreadable};

pub(super) mod control;
mod group;
mod schema;
#[cfg(test)]
mod tests;
mod transaction;

/// The topic whose records are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Decoder {
    /// `__consumer_offsets`
    Offsets,
    /// `__transaction_state`
    Transactions,
}

/// The text of a record, as Kafka's tool prints it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Shown {
    /// The key, or the reason why the record cannot be shown.
    pub(super) key: String,
    /// Is absent if the record cannot be shown.
    pub(super) value: Option<String>,
}

/// The schemas of a type of record.
#[derive(Clone, Copy, Debug)]
struct RecordType {
    key: &'static [Field],
    value: &'static [Field],
    /// The newest version of the value. Keys have one version.
    newest: i16,
    /// The first version of the value that is flexible. Keys are not.
    flexible_since: i16,
}

impl Decoder {
    /// Returns the decoder that the options name.
    pub(super) fn of(options: &DumpOptions) -> Option<Self> {
        if options.offsets_decoder {
            Some(Self::Offsets)
        } else if options.transaction_log_decoder {
            Some(Self::Transactions)
        } else {
            None
        }
    }

    /// Shows the record at `offset`.
    pub(super) fn show(self, offset: u64, key: Option<&[u8]>, value: Option<&[u8]>) -> Shown {
        match self.decode(key, value) {
            Ok((key, value)) => Shown {
                key,
                value: Some(value),
            },
            Err(Skipped::UnknownType(kind)) => Shown {
                key: format!("Unknown record type {kind} at offset {offset}, skipping."),
                value: None,
            },
            Err(Skipped::Error(reason)) => Shown {
                key: format!("Error at offset {offset}, skipping. {reason}"),
                value: None,
            },
        }
    }

    fn decode(self, key: Option<&[u8]>, value: Option<&[u8]>) -> Result<(String, String), Skipped> {
        // Kafka's tool would end here.
        let key = key.ok_or_else(|| Skipped::Error("The record has no key.".to_owned()))?;
        let (kind, key) = version_of(key, "key")?;
        let record_type = match self {
            Self::Offsets => group::record_type(kind),
            Self::Transactions => transaction::record_type(kind),
        };
        let record_type = record_type.ok_or(Skipped::UnknownType(kind))?;
        let RecordType {
            newest,
            flexible_since,
            ..
        } = record_type;
        let key = schema::to_json(record_type.key, 0, false, key)
            .map_err(|reason| unreadable(kind, "key", &reason))?;
        let key = format!(r#"{{"type":"{kind}","data":{key}}}"#);
        let Some(value) = value else {
            return Ok((key, "<DELETE>".to_owned()));
        };
        let (version, value) = version_of(value, "value")?;
        if !(0..=newest).contains(&version) {
            return Err(Skipped::Error(format!(
                "Found an unknown record version {version} for {kind} type"
            )));
        }
        let is_flexible = version >= flexible_since;
        let value = schema::to_json(record_type.value, version, is_flexible, value)
            .map_err(|reason| unreadable(version, "value", &reason))?;
        Ok((key, format!(r#"{{"version":"{version}","data":{value}}}"#)))
    }
}

/// The reason why a record is not shown.
enum Skipped {
    UnknownType(i16),
    Error(String),
}

fn version_of<'a>(bytes: &'a [u8], part: &str) -> Result<(i16, &'a [u8]), Skipped> {
    let (version, rest) = bytes
        .split_first_chunk()
        .ok_or_else(|| Skipped::Error(format!("Could not read version from {part}'s buffer.")))?;
    Ok((i16::from_be_bytes(*version), rest))
}

fn unreadable(version: i16, part: &str, reason: &Unreadable) -> Skipped {
    Skipped::Error(format!(
        "Could not read record with version {version} from {part}'s buffer due to: {reason}."
    ))
}
