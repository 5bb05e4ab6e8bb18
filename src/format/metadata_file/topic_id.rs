//! The id of a topic: 16 bytes, written as 22 characters of URL-safe base64 (RFC 4648) without
//! padding.
//!
//! A topic that is deleted and created again with the same name has a different id. Example: the
//! bytes 00 to 0f are `AAECAwQFBgcICQoLDA0ODw`.

const TEXT_BYTES: usize = 22;
const DIGIT_BITS: u32 = 6;
/// The number of unused bits: 22 digits have 132 bits, of which the last four are zero.
const SPARE_BITS: u32 = 4;

/// The id of a topic, or of a directory, which has the same form.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct TopicId(pub(crate) [u8; 16]);

impl TopicId {
    /// The value that stands for no id.
    pub(crate) const ZERO: Self = Self([0; 16]);

    /// Makes a version-4 UUID from random bytes.
    ///
    /// Returns `None` if its text would start with `-`, because Kafka's tools would read that as an
    /// option. The caller then tries again with other bytes.
    pub(crate) fn from_random(random: [u8; 16]) -> Option<Self> {
        // The version and variant bits are set, so the id cannot be one of those that Kafka
        // reserves: they have nearly all bits zero.
        let fixed = 0xf000_u128 << 64 | 0b11 << 62;
        let id = u128::from_be_bytes(random) & !fixed | 0x4000 << 64 | 0b10 << 62;
        let id = Self(id.to_be_bytes());
        (!id.to_text().starts_with('-')).then_some(id)
    }

    /// Returns the text of the id, 22 characters.
    pub(crate) fn to_text(self) -> String {
        let id = u128::from_be_bytes(self.0);
        let first_digits = (0..21)
            .rev()
            .map(|place| id >> (place * DIGIT_BITS + DIGIT_BITS - SPARE_BITS));
        first_digits.chain([id << SPARE_BITS]).map(digit).collect()
    }

    /// Parses the text that [`to_text`](Self::to_text) returns.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        if text.len() != TEXT_BYTES {
            return None;
        }
        let (first_digits, last) = text.as_bytes().split_at(TEXT_BYTES - 1);
        let id = first_digits
            .iter()
            .try_fold(0_u128, |id, &byte| Some(id << DIGIT_BITS | value(byte)?))?;
        let last = value(*last.first()?)?;
        let id = id << (DIGIT_BITS - SPARE_BITS) | last >> SPARE_BITS;
        let id = Self(id.to_be_bytes());
        // Nonzero spare bits would be a second text of the same id.
        (last.trailing_zeros() >= SPARE_BITS).then_some(id)
    }
}

/// Returns the digit for the lowest six bits.
fn digit(bits: u128) -> char {
    let [.., low] = bits.to_be_bytes();
    let value = low & 0b11_1111;
    char::from(match value {
        0..26 => b'A' + value,
        26..52 => b'a' + (value - 26),
        52..62 => b'0' + (value - 52),
        62 => b'-',
        _ => b'_',
    })
}

fn value(digit: u8) -> Option<u128> {
    let value = match digit {
        b'A'..=b'Z' => digit - b'A',
        b'a'..=b'z' => digit - b'a' + 26,
        b'0'..=b'9' => digit - b'0' + 52,
        b'-' => 62,
        b'_' => 63,
        _ => return None,
    };
    Some(value.into())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn ids_have_kafkas_text() {
        let id = TopicId(std::array::from_fn(|number| u8::try_from(number).unwrap()));
        assert_eq!(id.to_text(), "AAECAwQFBgcICQoLDA0ODw");
        assert_eq!(TopicId::parse("AAECAwQFBgcICQoLDA0ODw"), Some(id));
        assert_eq!(TopicId::ZERO.to_text(), "A".repeat(22));
        assert_eq!(
            TopicId([0xff; 16]).to_text(),
            format!("{}w", "_".repeat(21))
        );
        assert_eq!(
            TopicId::parse("xZXfW2XjQKC_yEA7NzoSIw").unwrap().0[..4],
            [0xc5, 0x95, 0xdf, 0x5b]
        );
    }

    #[test]
    fn malformed_ids_are_refused() {
        for text in [
            "",
            "AAECAwQFBgcICQoLDA0OD",
            "AAECAwQFBgcICQoLDA0ODwA",
            "AAECAwQFBgcICQoLDA0ODw==",
            "AAECAwQFBgcICQoLDA0ODx",
            "AAECAwQFBgcICQoLDA0+Dw",
            "AAECAwQFBgcICQoLDA0/Dw",
            "AAECAwQFBgcICQoLDA0\u{e9}w",
            "xZXfW2XjQKC yEA7NzoSIw",
        ] {
            assert_eq!(TopicId::parse(text), None, "{text}");
        }
    }

    #[test]
    fn random_ids_have_version_4_and_do_not_start_with_a_dash() {
        let id = TopicId::from_random([0xff; 16]).unwrap();
        assert_eq!((id.0[6], id.0[8]), (0x4f, 0xbf));
        let id = TopicId::from_random([0; 16]).unwrap();
        assert_eq!((id.0[6], id.0[8]), (0x40, 0x80));
        assert_eq!(
            TopicId::from_random([0xf8; 16]),
            None,
            "it would start with a dash"
        );
    }

    proptest! {
        #[test]
        fn ids_round_trip(bytes: [u8; 16]) {
            prop_assert_eq!(TopicId::parse(&TopicId(bytes).to_text()), Some(TopicId(bytes)));
            if let Some(id) = TopicId::from_random(bytes) {
                prop_assert!(!id.to_text().starts_with('-'));
                prop_assert_ne!(id, TopicId::ZERO);
                prop_assert_eq!((id.0[6] >> 4, id.0[8] >> 6), (4, 0b10));
            }
        }

        #[test]
        fn an_id_has_only_one_text(text in "[A-Za-z0-9_-]{22}", other in "\\PC{0,30}") {
            for text in [text, other] {
                if let Some(id) = TopicId::parse(&text) {
                    prop_assert_eq!(id.to_text(), text);
                }
            }
        }
    }
}
