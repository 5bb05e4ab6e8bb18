//! The id of a topic: 16 bytes, written as 22 characters of URL-safe base64 (RFC 4648) without
//! padding.
//!
//! A topic that is deleted and made again under its name has another id. Example: the bytes 00 to
//! 0f are `AAECAwQFBgcICQoLDA0ODw`.

const TEXT_BYTES: usize = 22;
const DIGIT_BITS: u32 = 6;
/// 22 digits hold 132 bits; the last four are zero.
const SPARE_BITS: u32 = 4;

/// A topic id, or the id of a directory, which is made alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct TopicId(pub(crate) [u8; 16]);

impl TopicId {
    /// No id.
    pub(crate) const ZERO: Self = Self([0; 16]);

    /// Makes a version-4 UUID of random bytes; `None` for those whose text starts with `-`, which
    /// Kafka's tools would take for an option: draw again.
    pub(crate) fn from_random(random: [u8; 16]) -> Option<Self> {
        // Version and variant leave none of the ids that Kafka reserves: those have nearly all bits
        // zero.
        let fixed = 0xf000_u128 << 64 | 0b11 << 62;
        let id = u128::from_be_bytes(random) & !fixed | 0x4000 << 64 | 0b10 << 62;
        let id = Self(id.to_be_bytes());
        (!id.to_text().starts_with('-')).then_some(id)
    }

    /// 22 characters.
    pub(crate) fn to_text(self) -> String {
        let id = u128::from_be_bytes(self.0);
        let first_digits = (0..21)
            .rev()
            .map(|place| id >> (place * DIGIT_BITS + DIGIT_BITS - SPARE_BITS));
        first_digits.chain([id << SPARE_BITS]).map(digit).collect()
    }

    /// Of what [`to_text`](Self::to_text) gives.
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
        // Bits that are spare but not zero would be another text of the same id.
        (last.trailing_zeros() >= SPARE_BITS).then_some(id)
    }
}

/// The digit of the lowest six bits.
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
    fn ids_of_kafka() {
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
    fn what_is_no_id_is_refused() {
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
    fn random_ids_are_of_version_4_and_no_option_of_a_tool() {
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
        fn ids_survive(bytes: [u8; 16]) {
            prop_assert_eq!(TopicId::parse(&TopicId(bytes).to_text()), Some(TopicId(bytes)));
            if let Some(id) = TopicId::from_random(bytes) {
                prop_assert!(!id.to_text().starts_with('-') && id != TopicId::ZERO);
                prop_assert_eq!((id.0[6] >> 4, id.0[8] >> 6), (4, 0b10));
            }
        }

        #[test]
        fn a_text_is_that_of_its_id(text in "[A-Za-z0-9_-]{22}", other in "\\PC{0,30}") {
            for text in [text, other] {
                if let Some(id) = TopicId::parse(&text) {
                    prop_assert_eq!(id.to_text(), text);
                }
            }
        }
    }
}
