//! `partition.metadata`: the id of the topic to which a partition's directory belongs.
//!
//! The file has two lines, `version: 0` and `topic_id: <topic id>`. The second has no line feed. A
//! reader accepts any version from 0 on, and ignores everything after the second line.

use crate::format::Malformed;

use super::TopicId;

/// Returns the text of the file.
pub(crate) fn encode_partition_metadata(id: TopicId) -> String {
    format!("version: 0\ntopic_id: {}", id.to_text())
}

/// Decodes the file. The id of zeros is malformed too, because it stands for no id.
pub(crate) fn decode_partition_metadata(bytes: &[u8]) -> Result<TopicId, Malformed> {
    let text =
        str::from_utf8(bytes).map_err(|_| Malformed("the partition's metadata is not text"))?;
    let mut lines = text.lines();
    let mut field = |name| {
        lines
            .next()?
            .strip_prefix(name)?
            .strip_prefix(':')
            .map(str::trim)
    };
    let version = field("version").and_then(|version| version.parse::<u32>().ok());
    version.ok_or(Malformed("the partition's metadata has no version"))?;
    field("topic_id")
        .and_then(TopicId::parse)
        .filter(|id| *id != TopicId::ZERO)
        .ok_or(Malformed("the partition's metadata has no topic id"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_file_has_kafkas_text() {
        let text = "version: 0\ntopic_id: AAECAwQFBgcICQoLDA0ODw";
        let id = TopicId([0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15]);
        assert_eq!(encode_partition_metadata(id), text);
        assert_eq!(decode_partition_metadata(text.as_bytes()), Ok(id));
    }

    #[test]
    fn a_higher_version_with_more_lines_is_accepted() {
        let text = "version:  7\r\ntopic_id:\tAAECAwQFBgcICQoLDA0ODw\nmore: 1\n";
        let id = TopicId([0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15]);
        assert_eq!(decode_partition_metadata(text.as_bytes()), Ok(id));
    }

    #[test]
    fn malformed_files_are_refused() {
        for text in [
            "",
            "\n",
            "version: 0",
            "version: 0\n",
            "version: 0\ntopic_id: ",
            "version: 0\ntopic_id: AAECAwQFBgcICQoLDA0OD",
            "version: 0\ntopic_id: AAAAAAAAAAAAAAAAAAAAAA",
            "version: -1\ntopic_id: AAECAwQFBgcICQoLDA0ODw",
            "version 0\ntopic_id: AAECAwQFBgcICQoLDA0ODw",
            "topic_id: AAECAwQFBgcICQoLDA0ODw\nversion: 0",
        ] {
            assert!(
                decode_partition_metadata(text.as_bytes()).is_err(),
                "{text:?}"
            );
        }
        assert!(decode_partition_metadata(b"version: 0\ntopic_id: \xff").is_err());
    }

    proptest! {
        #[test]
        fn ids_round_trip(bytes: [u8; 16]) {
            prop_assume!(bytes != [0; 16]);
            let text = encode_partition_metadata(TopicId(bytes));
            prop_assert_eq!(decode_partition_metadata(text.as_bytes()), Ok(TopicId(bytes)));
        }

        #[test]
        fn decoding_any_bytes_does_not_panic(bytes in prop::collection::vec(any::<u8>(), 0..80)) {
            let _ = decode_partition_metadata(&bytes);
        }
    }
}
