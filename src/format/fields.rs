//! The fields of Kafka's record schemas, which the records of the internal topics are made of.
//!
//! | field | bytes |
//! | --- | --- |
//! | number | big-endian |
//! | string | int16 length, bytes; the length of null is -1 |
//! | compact string, compact array | unsigned varint length + 1, bytes or elements; null is 0 |
//! | tagged fields | unsigned varint count; tag, size and bytes of each, by ascending tag |
//!
//! A schema has versions. The *flexible* ones use the compact fields, and each struct ends with
//! tagged fields. Readers skip tags that they do not know.
//!
//! Example: the string "t1" is `0002 7431`, and `03 7431` if it is compact. Without tagged fields,
//! a struct ends with `00`.

use super::{Malformed, varint};

const CUT_SHORT: Malformed = Malformed("a field is cut short");

/// Reads a field of a fixed size.
pub(crate) fn read<const SIZE: usize>(bytes: &mut &[u8]) -> Result<[u8; SIZE], Malformed> {
    let (value, rest) = bytes.split_first_chunk().ok_or(CUT_SHORT)?;
    *bytes = rest;
    Ok(*value)
}

/// Reads `length` bytes.
pub(crate) fn take<'a>(bytes: &mut &'a [u8], length: usize) -> Result<&'a [u8], Malformed> {
    let (taken, rest) = bytes.split_at_checked(length).ok_or(CUT_SHORT)?;
    *bytes = rest;
    Ok(taken)
}

/// Reads a string, or `None` if it is null. Its bytes may be any.
pub(crate) fn read_string<'a>(bytes: &mut &'a [u8]) -> Result<Option<&'a [u8]>, Malformed> {
    match i16::from_be_bytes(read(bytes)?) {
        -1 => Ok(None),
        length => take(bytes, usize::try_from(length).map_err(|_| CUT_SHORT)?).map(Some),
    }
}

/// Reads a compact string, or `None` if it is null. Its bytes may be any.
pub(crate) fn read_compact_string<'a>(bytes: &mut &'a [u8]) -> Result<Option<&'a [u8]>, Malformed> {
    match read_compact_length(bytes)? {
        None => Ok(None),
        Some(length) => take(bytes, length).map(Some),
    }
}

/// Reads the length of a compact string or array, or `None` if it is null.
pub(crate) fn read_compact_length(bytes: &mut &[u8]) -> Result<Option<usize>, Malformed> {
    varint::read_u32(bytes)?
        .checked_sub(1)
        .map(|length| usize::try_from(length).map_err(|_| CUT_SHORT))
        .transpose()
}

/// Reads the tagged fields at the end of a struct, and calls `visit` with each tag and its bytes.
pub(crate) fn read_tagged<'a>(
    bytes: &mut &'a [u8],
    mut visit: impl FnMut(u32, &'a [u8]) -> Result<(), Malformed>,
) -> Result<(), Malformed> {
    for _ in 0..varint::read_u32(bytes)? {
        let tag = varint::read_u32(bytes)?;
        let size = usize::try_from(varint::read_u32(bytes)?).map_err(|_| CUT_SHORT)?;
        visit(tag, take(bytes, size)?)?;
    }
    Ok(())
}

/// Appends a string.
#[expect(clippy::expect_used, reason = "callers check the length of names")]
pub(crate) fn write_string(out: &mut Vec<u8>, text: &str) {
    let length = i16::try_from(text.len()).expect("names have at most 32767 bytes");
    out.extend_from_slice(&length.to_be_bytes());
    out.extend_from_slice(text.as_bytes());
}

/// Appends a compact string.
pub(crate) fn write_compact_string(out: &mut Vec<u8>, text: &str) {
    write_compact_length(out, text.len());
    out.extend_from_slice(text.as_bytes());
}

/// Appends the length of a compact string or array.
pub(crate) fn write_compact_length(out: &mut Vec<u8>, length: usize) {
    write_count(out, length + 1);
}

/// Appends tagged fields, which are sorted by tag.
pub(crate) fn write_tagged(out: &mut Vec<u8>, fields: &[(u32, &[u8])]) {
    debug_assert!(fields.is_sorted_by(|(one, _), (next, _)| one < next));
    write_count(out, fields.len());
    for (tag, field) in fields {
        varint::write_u32(out, *tag);
        write_count(out, field.len());
        out.extend_from_slice(field);
    }
}

#[expect(clippy::expect_used, reason = "callers check the length of texts")]
fn write_count(out: &mut Vec<u8>, count: usize) {
    varint::write_u32(
        out,
        u32::try_from(count).expect("texts and arrays have less than 4 GiB"),
    );
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn fields_have_kafkas_bytes() {
        let mut out = Vec::new();
        write_string(&mut out, "t1");
        write_compact_string(&mut out, "t1");
        write_compact_length(&mut out, 200);
        assert_eq!(out, b"\0\x02t1\x03t1\xc9\x01");
        let mut rest = &out[..];
        assert_eq!(read_string(&mut rest), Ok(Some(&b"t1"[..])));
        assert_eq!(read_compact_string(&mut rest), Ok(Some(&b"t1"[..])));
        assert_eq!(read_compact_length(&mut rest), Ok(Some(200)));
        assert_eq!(rest, b"");
    }

    #[test]
    fn nulls_are_read() {
        assert_eq!(read_string(&mut &b"\xff\xff"[..]), Ok(None));
        assert_eq!(read_compact_string(&mut &b"\0"[..]), Ok(None));
        assert_eq!(read_compact_length(&mut &b"\0"[..]), Ok(None));
    }

    #[test]
    fn tagged_fields_are_visited_in_order() {
        let mut seen = Vec::new();
        let mut rest = &b"\x02\x00\x01a\x81\x01\x00rest"[..];
        read_tagged(&mut rest, |tag, field| {
            seen.push((tag, field));
            Ok(())
        })
        .unwrap();
        assert_eq!(seen, [(0, &b"a"[..]), (129, b"")]);
        assert_eq!(rest, b"rest");
    }

    #[test]
    fn fields_longer_than_their_bytes_are_refused() {
        assert_eq!(read::<2>(&mut &b"\0"[..]), Err(CUT_SHORT));
        assert_eq!(read_string(&mut &b"\0\x02a"[..]), Err(CUT_SHORT));
        // Lengths below -1 have no meaning.
        assert_eq!(read_string(&mut &b"\xff\xfea"[..]), Err(CUT_SHORT));
        assert_eq!(read_compact_string(&mut &b"\x03a"[..]), Err(CUT_SHORT));
        for tagged in [
            &b""[..],
            b"\x01",
            b"\x01\0",
            b"\x01\0\x01",
            b"\xff\xff\xff\xff\x0f",
        ] {
            assert!(
                read_tagged(&mut &tagged[..], |_, _| Ok(())).is_err(),
                "{tagged:x?}"
            );
        }
    }

    proptest! {
        #[test]
        fn texts_round_trip(text in "\\PC{0,300}") {
            let mut out = Vec::new();
            write_string(&mut out, &text);
            prop_assert_eq!(read_string(&mut &out[..]), Ok(Some(text.as_bytes())));
            out.clear();
            write_compact_string(&mut out, &text);
            prop_assert_eq!(read_compact_string(&mut &out[..]), Ok(Some(text.as_bytes())));
        }
    }
}
