//! Kafka's checkpoint files, which are text of version 0.
//!
//! | line | content |
//! | --- | --- |
//! | 1 | `0`, the version |
//! | 2 | the number of entries |
//! | then | `<topic> <partition> <offset>`, or `<epoch> <first offset>` in `leader-epoch-checkpoint` |
//!
//! Every line ends with `\n`. A reader accepts any white space between fields. An empty file has no
//! entries; brokers create such files. Example: `0\n1\norders 0 1012\n`.
//!
//! These files have no checksum, so the decoder refuses a text that is cut anywhere. Callers decide
//! how to treat a missing or malformed checkpoint. A checkpoint may claim less than is true, but
//! never more: a recovery point that is too low costs time, and one that is too high hides damage.

use super::Malformed;

const VERSION: u32 = 0;

/// Encodes lines of the form `<topic> <partition> <offset>`.
pub(crate) fn encode_offsets<'a>(entries: impl IntoIterator<Item = (&'a str, u32, u64)>) -> String {
    encode(
        entries
            .into_iter()
            .map(|(topic, partition, offset)| format!("{topic} {partition} {offset}\n")),
    )
}

/// Decodes lines of the form `<topic> <partition> <offset>`. An empty file has no entries.
pub(crate) fn decode_offsets(bytes: &[u8]) -> Result<Vec<(String, u32, u64)>, Malformed> {
    decode(bytes, |line| {
        let [topic, partition, offset] = fields(line)?;
        Some((
            topic.to_owned(),
            number(partition, i32::MAX)?,
            number(offset, i64::MAX)?,
        ))
    })
}

/// Encodes lines of the form `<epoch> <start offset>`.
pub(crate) fn encode_epochs(entries: &[(i32, u64)]) -> String {
    encode(
        entries
            .iter()
            .map(|(epoch, start_offset)| format!("{epoch} {start_offset}\n")),
    )
}

/// Decodes lines of the form `<epoch> <start offset>`. An empty file has no entries. Returns
/// `Malformed` also if epochs or offsets do not rise strictly.
pub(crate) fn decode_epochs(bytes: &[u8]) -> Result<Vec<(i32, u64)>, Malformed> {
    let entries = decode(bytes, |line| {
        let [epoch, start_offset] = fields(line)?;
        Some((number(epoch, i32::MAX)?, number(start_offset, i64::MAX)?))
    })?;
    if entries.is_sorted_by(|(epoch, start), (next_epoch, next_start)| {
        epoch < next_epoch && start < next_start
    }) {
        Ok(entries)
    } else {
        Err(Malformed("leader epochs are out of order"))
    }
}

fn encode(lines: impl Iterator<Item = String>) -> String {
    let (count, lines) = lines.fold((0_usize, String::new()), |(count, lines), line| {
        (count + 1, lines + &line)
    });
    format!("{VERSION}\n{count}\n{lines}")
}

fn decode<T>(bytes: &[u8], parse: impl Fn(&str) -> Option<T>) -> Result<Vec<T>, Malformed> {
    let text = str::from_utf8(bytes).map_err(|_| Malformed("the checkpoint is not text"))?;
    if text.is_empty() {
        return Ok(Vec::new());
    }
    let text = text
        .strip_suffix('\n')
        .ok_or(Malformed("the checkpoint is cut short"))?;
    let mut lines = text.lines();
    if lines.next().and_then(|line| number(line.trim(), u32::MAX)) != Some(VERSION) {
        return Err(Malformed("the version of the checkpoint is not 0"));
    }
    let count = lines
        .next()
        .and_then(|line| number(line.trim(), usize::MAX))
        .ok_or(Malformed("the checkpoint has no count"))?;
    let entries = lines
        .map(parse)
        .collect::<Option<Vec<T>>>()
        .ok_or(Malformed("a line of the checkpoint is malformed"))?;
    if entries.len() == count {
        Ok(entries)
    } else {
        Err(Malformed(
            "the checkpoint's count differs from its number of lines",
        ))
    }
}

/// Splits a line into exactly `N` fields at white space.
fn fields<const N: usize>(line: &str) -> Option<[&str; N]> {
    let mut fields = line.split_ascii_whitespace();
    let mut found = [""; N];
    for field in &mut found {
        *field = fields.next()?;
    }
    fields.next().is_none().then_some(found)
}

/// Parses a number from 0 to `max`, the greatest value of Kafka's type, and converts it to our
/// type.
fn number<T: TryFrom<u64>, M: TryInto<u64>>(text: &str, max: M) -> Option<T> {
    let number = text.parse::<u64>().ok()?;
    if number <= max.try_into().ok()? {
        T::try_from(number).ok()
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn checkpoints_have_kafkas_text() {
        assert_eq!(encode_offsets([("t", 0, 1012)]), "0\n1\nt 0 1012\n");
        assert_eq!(
            decode_offsets(b"0\n1\nt 0 1012\n"),
            Ok(vec![("t".to_owned(), 0, 1012)])
        );
        assert_eq!(
            encode_epochs(&[(0, 1000), (3, 1006)]),
            "0\n2\n0 1000\n3 1006\n"
        );
        assert_eq!(
            decode_epochs(b"0\n2\n0 1000\n3 1006\n"),
            Ok(vec![(0, 1000), (3, 1006)])
        );
    }

    #[test]
    fn an_empty_file_and_a_count_of_zero_have_no_entries() {
        assert_eq!(encode_offsets([]), "0\n0\n");
        for empty in [&b""[..], b"0\n0\n"] {
            assert_eq!(decode_offsets(empty), Ok(vec![]));
            assert_eq!(decode_epochs(empty), Ok(vec![]));
        }
    }

    #[test]
    fn any_white_space_separates_fields() {
        assert_eq!(
            decode_offsets(b"0\r\n1\r\n a\t 7   9 \r\n"),
            Ok(vec![("a".to_owned(), 7, 9)])
        );
    }

    #[test]
    fn malformed_checkpoints_are_refused() {
        for text in [
            "\n",
            "0\n",
            "0\n1\n",
            "1\n1\nt 0 1\n",
            "0\n1\nt 0 1",
            "0\n2\nt 0 1\n",
            "0\n0\nt 0 1\n",
            "0\n-1\n",
            "0\n1\nt 0\n",
            "0\n1\nt 0 1 2\n",
            "0\n1\nt x 1\n",
            "0\n1\nt 0 -1\n",
            "0\n1\nt -1 1\n",
            "0\n1\nt 2147483648 1\n",
            "0\n1\nt 0 9223372036854775808\n",
            "0\n1\nt 0 99999999999999999999999\n",
            "0\n18446744073709551615\nt 0 1\n",
        ] {
            assert!(decode_offsets(text.as_bytes()).is_err(), "{text:?}");
        }
        assert!(decode_offsets(b"0\n1\nt\xff 0 1\n").is_err());
        for text in [
            "0\n1\n-1 0\n",
            "0\n2\n1 0\n1 5\n",
            "0\n2\n2 0\n1 5\n",
            "0\n2\n1 5\n2 5\n",
            "0\n1\n2147483648 0\n",
        ] {
            assert!(decode_epochs(text.as_bytes()).is_err(), "{text:?}");
        }
    }

    #[test]
    fn a_checkpoint_that_is_cut_anywhere_is_refused() {
        let whole = encode_offsets([("orders", 0, 1012), ("orders", 1, 77)]);
        for length in 1..whole.len() {
            assert!(
                decode_offsets(&whole.as_bytes()[..length]).is_err(),
                "cut to {length} bytes"
            );
        }
    }

    fn offsets() -> impl Strategy<Value = u64> {
        0..=i64::MAX.unsigned_abs()
    }

    proptest! {
        #[test]
        fn offsets_round_trip(
            entries in prop::collection::vec(("[a-zA-Z0-9._-]{1,20}", 0..=i32::MAX.unsigned_abs(), offsets()), 0..20),
        ) {
            let text = encode_offsets(entries.iter().map(|(topic, partition, offset)| (topic.as_str(), *partition, *offset)));
            prop_assert_eq!(decode_offsets(text.as_bytes()), Ok(entries));
        }

        #[test]
        fn epochs_round_trip(
            epochs in prop::collection::btree_set(0..=i32::MAX, 0..20),
            start in 0_u64..1 << 40,
            step in 1_u64..1 << 20,
        ) {
            let entries: Vec<_> = epochs.into_iter().zip((0..).map(|number| start + number * step)).collect();
            prop_assert_eq!(decode_epochs(encode_epochs(&entries).as_bytes()), Ok(entries));
        }

        #[test]
        fn decoding_any_bytes_does_not_panic(bytes in prop::collection::vec(any::<u8>(), 0..100), text in "[0-9a-z \n-]{0,60}") {
            for bytes in [bytes, text.into_bytes()] {
                drop((decode_offsets(&bytes), decode_epochs(&bytes)));
            }
        }
    }
}
