//! Values in the output of `Debug`, cut so that they fit on one short line.

use std::fmt;

/// Bytes that `Debug` shows as quoted text, or as an escaped byte string if they are not UTF-8.
///
/// Long values are cut, and their length follows the cut.
pub(crate) struct Excerpt<'a>(pub(crate) &'a [u8]);

impl fmt::Debug for Excerpt<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        /// The greatest number of bytes that are shown.
        const MOST_BYTES: usize = 40;
        let shown = self.0.get(..MOST_BYTES).unwrap_or(self.0);
        let is_cut = shown.len() < self.0.len();
        match str::from_utf8(shown) {
            Ok(text) => write!(f, "{text:?}")?,
            // The cut splits a character, which is left out.
            Err(error) if is_cut && error.error_len().is_none() => {
                let text = shown.get(..error.valid_up_to()).unwrap_or_default();
                write!(f, "{:?}", String::from_utf8_lossy(text))?;
            }
            Err(_) => write!(f, "b\"{}\"", shown.escape_ascii())?,
        }
        if is_cut {
            write!(f, "... ({} bytes)", self.0.len())
        } else {
            Ok(())
        }
    }
}

/// Bytes or null; the bytes appear as an [`Excerpt`].
pub(crate) struct Nullable<'a>(pub(crate) Option<&'a [u8]>);

impl fmt::Debug for Nullable<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(bytes) => Excerpt(bytes).fmt(f),
            None => f.write_str("null"),
        }
    }
}

/// A list of which `{:?}` shows the first items and the number of the others. `{:#?}` shows them
/// all.
pub(crate) struct Few<T>(pub(crate) T);

impl<T> fmt::Debug for Few<T>
where
    T: IntoIterator<IntoIter: ExactSizeIterator, Item: fmt::Debug> + Copy,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        /// The greatest number of items that are shown.
        const MOST: usize = 3;
        let items = self.0.into_iter();
        let more = if f.alternate() {
            0
        } else {
            items.len().saturating_sub(MOST)
        };
        let mut list = f.debug_list();
        list.entries(items.take(if more > 0 { MOST } else { usize::MAX }));
        if more > 0 {
            list.entry(&format_args!("{more} more"));
        }
        list.finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_excerpt_shows_text_or_escapes_and_the_whole_length() {
        for (bytes, shown) in [
            (&b""[..], r#""""#),
            (b"paid", r#""paid""#),
            ("f\u{fc}r \"x\"\n".as_bytes(), "\"f\u{fc}r \\\"x\\\"\\n\""),
            (b"\xffa\"\0", r#"b"\xffa\"\x00""#),
            (b"\xe2\x82", r#"b"\xe2\x82""#),
        ] {
            assert_eq!(format!("{:?}", Excerpt(bytes)), shown);
        }
        assert_eq!(
            format!("{:?}", Excerpt("a".repeat(40).as_bytes())),
            format!("{:?}", "a".repeat(40))
        );
        assert_eq!(
            format!("{:?}", Excerpt("a".repeat(41).as_bytes())),
            format!("{:?}... (41 bytes)", "a".repeat(40))
        );
        let straddling = format!("{}\u{20ac}", "a".repeat(39));
        assert_eq!(
            format!("{:?}", Excerpt(straddling.as_bytes())),
            format!("{:?}... (42 bytes)", "a".repeat(39))
        );
        assert_eq!(
            format!("{:?}", Excerpt(&[0xff; 100])),
            format!("b\"{}\"... (100 bytes)", r"\xff".repeat(40))
        );
    }

    #[test]
    fn null_and_empty_bytes_look_different() {
        assert_eq!(
            format!("{:?} {:?}", Nullable(None), Nullable(Some(b""))),
            r#"null """#
        );
    }

    #[test]
    fn a_long_list_is_cut_unless_it_is_shown_in_full() {
        assert_eq!(format!("{:?}", Few(&[1, 2, 3])), "[1, 2, 3]");
        assert_eq!(
            format!("{:?}", Few(&[1, 2, 3, 4, 5, 6])),
            "[1, 2, 3, 3 more]"
        );
        assert_eq!(format!("{:#?}", Few(&[1, 2, 3, 4, 5])).lines().count(), 7);
    }
}
