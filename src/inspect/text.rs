//! Bytes as the text that Kafka's tools print for them.
//!
//! Valid UTF-8 is printed as it is, including control characters and line ends. Invalid bytes
//! become U+FFFD. The number of U+FFFD differs from Rust's in one case: an encoded surrogate
//! becomes one, not three.

use std::fmt;
use std::str;

/// Bytes that are displayed as Java decodes them.
#[derive(Clone, Copy)]
pub(super) struct Text<'a>(pub(super) &'a [u8]);

impl fmt::Display for Text<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rest = self.0;
        loop {
            let error = match str::from_utf8(rest) {
                Ok(text) => return f.write_str(text),
                Err(error) => error,
            };
            let (valid, invalid) = rest
                .split_at_checked(error.valid_up_to())
                .unwrap_or_default();
            f.write_str(str::from_utf8(valid).unwrap_or_default())?;
            f.write_str("\u{fffd}")?;
            let skipped = surrogate_bytes(invalid)
                .or(error.error_len())
                .unwrap_or(invalid.len());
            rest = invalid.get(skipped..).unwrap_or_default();
        }
    }
}

/// Returns the length of the surrogate, whole or cut short, at the start of the bytes.
fn surrogate_bytes(bytes: &[u8]) -> Option<usize> {
    match bytes {
        [0xed, 0xa0..=0xbf, 0x80..=0xbf, ..] => Some(3),
        [0xed, 0xa0..=0xbf, ..] => Some(2),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn malformed_bytes_are_replaced_as_in_java() {
        for (bytes, expected) in [
            (&b""[..], ""),
            (b"plain\n\0", "plain\n\0"),
            ("\u{1f980}\u{e9}".as_bytes(), "\u{1f980}\u{e9}"),
            (b"a\xffb", "a\u{fffd}b"),
            (b"\xed\xa0\x80z", "\u{fffd}z"),
            (b"\xed\xbf\xbf", "\u{fffd}"),
            (b"\xed\xa0z", "\u{fffd}z"),
            (b"\xed\xa0", "\u{fffd}"),
            (b"\xed\x9f\xbf", "\u{d7ff}"),
            (b"\xe0\x80\x80", "\u{fffd}\u{fffd}\u{fffd}"),
            (b"\xe2\x82z", "\u{fffd}z"),
            (b"\xf0\x9f\xa6", "\u{fffd}"),
            (b"\xc0\x80", "\u{fffd}\u{fffd}"),
        ] {
            assert_eq!(Text(bytes).to_string(), expected, "{bytes:x?}");
        }
    }
}
