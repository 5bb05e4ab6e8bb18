//! Tests of rules that all codecs share. The tests of each framing are in its own file.

use proptest::prelude::*;

use super::*;

/// Two records, compressed by Kafka's own classes with each codec, without the header of the batch.
const FROM_KAFKA: [(Compression, &str); 4] = [
    (
        Compression::Gzip,
        "1f8b08000000000000ff1361606060c93664293364686064606262c9362a4824133000002a70585a4d000000",
    ),
    (
        Compression::Snappy,
        "82534e415050590000000001000000010000001c4d5014000000046b31047631008001000202046b327061da01000000",
    ),
    (
        Compression::Lz4,
        "04224d1860408220000000ff0614000000046b31047631008001000202046b32706101002050616161610000000000",
    ),
    (
        Compression::Zstd,
        "28b52ffd0058e40000b014000000046b31047631008001000202046b327061000100790226010000",
    ),
];

fn is_built(codec: Compression) -> bool {
    !decompress(codec, 2, b"", 0).is_err_and(is_left_out)
}

/// Returns the codecs of this build, including `None`.
fn codecs() -> Vec<Compression> {
    let all = FROM_KAFKA
        .into_iter()
        .map(|(codec, _)| codec)
        .chain([Compression::None]);
    all.filter(|&codec| is_built(codec)).collect()
}

fn hex(text: &str) -> Vec<u8> {
    text.as_bytes()
        .chunks(2)
        .map(|two| u8::from_str_radix(std::str::from_utf8(two).unwrap(), 16).unwrap())
        .collect()
}

fn compressed(codec: Compression, bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    compress(codec, &TopicSettings::default(), bytes, &mut out).unwrap();
    out
}

/// Returns bytes that no codec makes smaller.
fn incompressible(length: usize) -> Vec<u8> {
    let mut state = 1_u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_be_bytes()[3]
    };
    (0..length).map(|_| next()).collect()
}

#[test]
fn kafkas_streams_decode_to_the_same_records() {
    let records = [
        &hex("14000000046b31047631008001000202046b3270")[..],
        &[b'a'; 56],
        b"\0",
    ]
    .concat();
    for (codec, text) in FROM_KAFKA.into_iter().filter(|&(codec, _)| is_built(codec)) {
        assert_eq!(
            decompress(codec, 2, &hex(text), 1000),
            Ok(records.clone()),
            "{codec:?}"
        );
    }
}

#[test]
#[cfg_attr(miri, ignore = "too slow in an interpreter")]
fn sizes_around_block_boundaries_round_trip() {
    let sizes = [
        0, 1, 2, 15, 16, 32_767, 32_768, 32_769, 65_535, 65_536, 65_537, 131_072, 200_000,
    ];
    for codec in codecs() {
        for length in sizes {
            let text: Vec<u8> = b"offset fetch poll "
                .iter()
                .copied()
                .cycle()
                .take(length)
                .collect();
            for bytes in [incompressible(length), text, vec![0; length]] {
                let compressed = compressed(codec, &bytes);
                assert!(
                    compressed.len() <= length + length / 100 + 64,
                    "{codec:?} grows {length} to {}",
                    compressed.len()
                );
                assert_eq!(
                    decompress(codec, 2, &compressed, length).as_ref(),
                    Ok(&bytes),
                    "{codec:?} {length}"
                );
                if length > 0 {
                    assert_eq!(
                        decompress(codec, 2, &compressed, length - 1),
                        Err(TOO_LARGE),
                        "{codec:?} {length}"
                    );
                }
            }
        }
    }
}

#[test]
fn compress_appends_to_the_buffer() {
    for codec in codecs() {
        let mut out = b"header".to_vec();
        compress(codec, &TopicSettings::default(), b"records", &mut out).unwrap();
        assert_eq!(out[..6], *b"header");
        assert_eq!(decompress(codec, 2, &out[6..], 7).unwrap(), b"records");
    }
}

#[test]
#[cfg_attr(miri, ignore = "too slow in an interpreter")]
fn compress_uses_the_levels_of_the_settings() {
    let text: Vec<u8> = (0..50_000_u32)
        .flat_map(|n| (n * n % 7919).to_be_bytes())
        .collect();
    let sizes = |codec: Compression, settings: &TopicSettings| {
        let mut out = Vec::new();
        compress(codec, settings, &text, &mut out).unwrap();
        out.len()
    };
    let fast = TopicSettings {
        compression_gzip_level: 1,
        compression_zstd_level: -50,
        ..TopicSettings::default()
    };
    let small = TopicSettings {
        compression_gzip_level: 9,
        compression_zstd_level: 19,
        ..TopicSettings::default()
    };
    for codec in [Compression::Gzip, Compression::Zstd]
        .into_iter()
        .filter(|&codec| is_built(codec))
    {
        assert!(sizes(codec, &small) < sizes(codec, &fast), "{codec:?}");
    }
}

#[test]
#[cfg_attr(miri, ignore = "too slow in an interpreter")]
fn a_decompression_bomb_stops_at_the_limit() {
    const LIMIT: usize = 100_000;
    let zeros = vec![0; 16 << 20];
    for codec in codecs()
        .into_iter()
        .filter(|&codec| codec != Compression::None)
    {
        let bomb = compressed(codec, &zeros);
        assert!(bomb.len() < zeros.len() / 20, "{codec:?}");
        assert_eq!(
            decompress(codec, 2, &bomb, LIMIT),
            Err(TOO_LARGE),
            "{codec:?}"
        );
    }
}

#[test]
fn the_low_three_bits_of_the_attributes_name_the_codec() {
    let names = [
        Compression::None,
        Compression::Gzip,
        Compression::Snappy,
        Compression::Lz4,
        Compression::Zstd,
    ];
    for (bits, codec) in (0..).zip(names) {
        assert_eq!(codec_of(bits), Ok(codec));
        assert_eq!(codec_of(bits | 0xfff8), Ok(codec));
    }
    for bits in 5..8 {
        assert!(codec_of(bits).is_err());
    }
}

#[test]
fn a_missing_codec_is_distinguished_from_damage() {
    for error in [NO_GZIP, NO_SNAPPY, NO_LZ4, NO_ZSTD] {
        assert!(is_left_out(error), "{error}");
    }
    assert!(!is_left_out(TOO_LARGE));
    for (codec, _) in FROM_KAFKA {
        let refused = decompress(codec, 2, b"damaged", 10).unwrap_err();
        assert_eq!(is_left_out(refused), !is_built(codec));
        if !is_built(codec) {
            let mut out = Vec::new();
            assert_eq!(
                compress(codec, &TopicSettings::default(), b"records", &mut out),
                Err(refused)
            );
            assert!(out.is_empty());
        }
    }
}

proptest! {
    #[test]
    #[cfg_attr(miri, ignore = "too slow in an interpreter")]
    fn any_bytes_round_trip(
        runs in proptest::collection::vec((proptest::collection::vec(any::<u8>(), 0..300), 0_usize..200), 0..20),
        codec in proptest::sample::select(codecs()),
    ) {
        let bytes: Vec<u8> = runs.iter().flat_map(|(run, times)| run.repeat(*times)).collect();
        let compressed = compressed(codec, &bytes);
        prop_assert_eq!(decompress(codec, 2, &compressed, bytes.len()), Ok(bytes));
    }

    #[test]
    fn decoding_any_bytes_does_not_panic_or_pass_the_limit(
        bytes in proptest::collection::vec(any::<u8>(), 0..400),
        front in 0_usize..20,
    ) {
        for (codec, text) in FROM_KAFKA {
            let stream = hex(text);
            let after_a_header = [&stream[..front.min(stream.len())], &bytes].concat();
            for magic in 0..3 {
                for bytes in [&bytes, &after_a_header] {
                    if let Ok(decoded) = decompress(codec, magic, bytes, 10_000) {
                        prop_assert!(decoded.len() <= 10_000);
                    }
                }
            }
        }
    }

    #[test]
    fn decoding_damaged_streams_does_not_panic_or_pass_the_limit(
        length in 0_usize..3000,
        damage in proptest::collection::vec((any::<proptest::sample::Index>(), any::<u8>()), 1..4),
        codec in proptest::sample::select(codecs()),
    ) {
        let mut stream = compressed(codec, &b"0123456789 offset fetch poll".repeat(length / 28 + 1)[..length]);
        for (at, byte) in damage {
            let at = at.index(stream.len().max(1));
            stream.get_mut(at).into_iter().for_each(|old| *old = byte);
        }
        if let Ok(decoded) = decompress(codec, 2, &stream, 5000) {
            prop_assert!(decoded.len() <= 5000);
        }
    }
}
