//! Shows a value of one of Kafka's schemas as JSON, as Kafka's own tools print it.
//!
//! A schema is a list of fields. [`fields`](crate::format::fields) describes their bytes. A
//! flexible version uses the compact fields, and each of its structs ends with tagged fields.
//!
//! In the JSON, a tagged field is at the place where its schema declares it, and is left out if it
//! has its default. Numbers are plain, ids are text, bytes are base64. Text is not escaped beyond
//! what JSON needs.

use std::fmt::{self, Write as _};

use crate::format::fields::{read, take};
use crate::format::metadata_file::TopicId;
use crate::format::varint;
use crate::inspect::text::Text;

/// The id that stands for none, as it is printed.
pub(super) const NO_UUID: &str = "\"AAAAAAAAAAAAAAAAAAAAAA\"";

/// Protocol types of classic groups are free text. This is the one of consumers.
const CONSUMERS: &str = "consumer";

const LONGEST_TEXT: usize = 0x7fff;

/// The encoding of a field.
#[derive(Clone, Copy, Debug)]
enum Kind {
    I8,
    I16,
    U16,
    I32,
    I64,
    Uuid,
    Text,
    /// Text that is the protocol type of the group.
    ProtocolType,
    Bytes,
    /// Bytes that have a schema of their own if the protocol type is that of consumers.
    Protocol(&'static [Field]),
    Struct(&'static [Field]),
    Array(&'static Self),
    Structs(&'static [Field]),
}

/// A field of a schema.
#[derive(Clone, Copy, Debug)]
pub(super) struct Field {
    /// The name in Kafka's JSON.
    name: &'static str,
    kind: Kind,
    /// The first and the last version that have the field.
    versions: (i16, i16),
    is_nullable: bool,
    /// The tag, and the JSON of the default.
    tag: Option<(u32, &'static str)>,
}

const fn field(name: &'static str, kind: Kind) -> Field {
    Field {
        name,
        kind,
        versions: (i16::MIN, i16::MAX),
        is_nullable: false,
        tag: None,
    }
}

pub(super) const fn int8(name: &'static str) -> Field {
    field(name, Kind::I8)
}

pub(super) const fn int16(name: &'static str) -> Field {
    field(name, Kind::I16)
}

pub(super) const fn uint16(name: &'static str) -> Field {
    field(name, Kind::U16)
}

pub(super) const fn int32(name: &'static str) -> Field {
    field(name, Kind::I32)
}

pub(super) const fn int64(name: &'static str) -> Field {
    field(name, Kind::I64)
}

pub(super) const fn uuid(name: &'static str) -> Field {
    field(name, Kind::Uuid)
}

pub(super) const fn text(name: &'static str) -> Field {
    field(name, Kind::Text)
}

pub(super) const fn protocol_type(name: &'static str) -> Field {
    field(name, Kind::ProtocolType)
}

pub(super) const fn bytes(name: &'static str) -> Field {
    field(name, Kind::Bytes)
}

pub(super) const fn protocol(name: &'static str, fields: &'static [Field]) -> Field {
    field(name, Kind::Protocol(fields))
}

pub(super) const fn structure(name: &'static str, fields: &'static [Field]) -> Field {
    field(name, Kind::Struct(fields))
}

pub(super) const fn int16s(name: &'static str) -> Field {
    field(name, Kind::Array(&Kind::I16))
}

pub(super) const fn int32s(name: &'static str) -> Field {
    field(name, Kind::Array(&Kind::I32))
}

pub(super) const fn texts(name: &'static str) -> Field {
    field(name, Kind::Array(&Kind::Text))
}

pub(super) const fn structs(name: &'static str, fields: &'static [Field]) -> Field {
    field(name, Kind::Structs(fields))
}

impl Field {
    /// Returns the field as one that the versions before `first` lack.
    pub(super) const fn since(mut self, first: i16) -> Self {
        self.versions.0 = first;
        self
    }

    /// Returns the field as one that only one version has.
    pub(super) const fn only(mut self, version: i16) -> Self {
        self.versions = (version, version);
        self
    }

    /// Returns the field as one that may be null.
    pub(super) const fn nullable(mut self) -> Self {
        self.is_nullable = true;
        self
    }

    /// Returns the field as a tagged one. `default` is the JSON of its default.
    pub(super) const fn tagged(mut self, tag: u32, default: &'static str) -> Self {
        self.tag = Some((tag, default));
        self
    }

    fn is_in(&self, version: i16) -> bool {
        (self.versions.0..=self.versions.1).contains(&version)
    }
}

/// The reason why a value cannot be shown. `Display` prints the text of Kafka's exception.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Unreadable {
    /// The bytes end inside a number. Kafka's exception has no text.
    CutShort,
    BytesCutShort {
        length: usize,
        left: usize,
    },
    ArrayCutShort {
        length: usize,
        left: usize,
    },
    Null {
        name: String,
    },
    TextTooLong {
        name: String,
        length: usize,
    },
}

impl fmt::Display for Unreadable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::CutShort => f.write_str("null"),
            Self::BytesCutShort { length, left } => write!(
                f,
                "Error reading byte array of {length} byte(s): only {left} byte(s) available"
            ),
            Self::ArrayCutShort { length, left } => write!(
                f,
                "Tried to allocate a collection of size {length}, but there are only {left} bytes \
                 remaining."
            ),
            Self::Null { name } => {
                write!(f, "non-nullable field {name} was serialized as null")
            }
            Self::TextTooLong { name, length } => {
                write!(f, "string field {name} had invalid length {length}")
            }
        }
    }
}

/// Returns the value as JSON. Bytes after the last field are ignored, as in Kafka.
pub(super) fn to_json(
    fields: &[Field],
    version: i16,
    is_flexible: bool,
    bytes: &[u8],
) -> Result<String, Unreadable> {
    let mut value = Value {
        bytes,
        version,
        is_flexible,
        is_of_consumers: false,
    };
    value.structure(fields)
}

/// A value, of which the first fields were read.
struct Value<'a> {
    bytes: &'a [u8],
    version: i16,
    is_flexible: bool,
    is_of_consumers: bool,
}

impl<'a> Value<'a> {
    fn structure(&mut self, fields: &[Field]) -> Result<String, Unreadable> {
        let mut shown = vec![None; fields.len()];
        for (slot, field) in shown.iter_mut().zip(fields) {
            if field.tag.is_none() && field.is_in(self.version) {
                *slot = Some(self.field(field)?);
            }
        }
        if self.is_flexible {
            self.tagged(fields, &mut shown)?;
        }
        let members: Vec<_> = fields
            .iter()
            .zip(shown)
            .filter_map(|(field, json)| Some(format!("\"{}\":{}", field.name, json?)))
            .collect();
        Ok(format!("{{{}}}", members.join(",")))
    }

    /// Reads the tagged fields. As in Kafka, the size of a known one is not used.
    fn tagged(&mut self, fields: &[Field], shown: &mut [Option<String>]) -> Result<(), Unreadable> {
        for _ in 0..self.varint()? {
            let tag = self.varint()?;
            let length = self.varint()? as usize;
            let known = fields.iter().zip(&mut *shown).find_map(|(field, slot)| {
                let (known, default) = field.tag?;
                (known == tag && field.is_in(self.version)).then_some((field, default, slot))
            });
            let Some((field, default, slot)) = known else {
                self.take(length)?;
                continue;
            };
            let json = self.field(field)?;
            *slot = (json != default).then_some(json);
        }
        Ok(())
    }

    fn field(&mut self, field: &Field) -> Result<String, Unreadable> {
        let Field { name, kind, .. } = field;
        let json = match kind {
            Kind::Struct(fields) => {
                // The only structs that may be null are in flexible schemas.
                let is_null = field.is_nullable
                    && match field.tag {
                        Some(_) => self.varint()?.cast_signed() <= 0,
                        None => i8::from_be_bytes(self.fixed()?) < 0,
                    };
                if is_null {
                    None
                } else {
                    Some(self.structure(fields)?)
                }
            }
            kind => self.value(name, kind)?,
        };
        match json {
            Some(json) => Ok(json),
            None if field.is_nullable => Ok("null".to_owned()),
            None => Err(null(name)),
        }
    }

    /// Returns a value as JSON, or `None` if it is null.
    fn value(&mut self, name: &str, kind: &Kind) -> Result<Option<String>, Unreadable> {
        Ok(Some(match kind {
            Kind::I8 => i8::from_be_bytes(self.fixed()?).to_string(),
            Kind::I16 => i16::from_be_bytes(self.fixed()?).to_string(),
            Kind::U16 => u16::from_be_bytes(self.fixed()?).to_string(),
            Kind::I32 => i32::from_be_bytes(self.fixed()?).to_string(),
            Kind::I64 => i64::from_be_bytes(self.fixed()?).to_string(),
            Kind::Uuid => format!("\"{}\"", TopicId(self.fixed()?).to_text()),
            Kind::Text | Kind::ProtocolType => {
                let Some(text) = self.text(name)? else {
                    return Ok(None);
                };
                if matches!(kind, Kind::ProtocolType) {
                    self.is_of_consumers = text == CONSUMERS;
                }
                quoted(&text)
            }
            Kind::Bytes | Kind::Protocol(_) => {
                let Some(bytes) = self.bytes()? else {
                    return Ok(None);
                };
                match kind {
                    Kind::Protocol(fields) if self.is_of_consumers => protocol_json(fields, bytes),
                    _ => None,
                }
                .unwrap_or_else(|| format!("\"{}\"", base64(bytes)))
            }
            Kind::Struct(fields) => self.structure(fields)?,
            Kind::Structs(fields) => return self.array(name, &Kind::Struct(fields)),
            Kind::Array(kind) => return self.array(name, kind),
        }))
    }

    fn array(&mut self, name: &str, kind: &Kind) -> Result<Option<String>, Unreadable> {
        let Some(length) = self.length()? else {
            return Ok(None);
        };
        let left = self.bytes.len();
        if length > left {
            return Err(Unreadable::ArrayCutShort { length, left });
        }
        let name = format!("{name} element");
        let mut items = Vec::new();
        for _ in 0..length {
            items.push(self.value(&name, kind)?.ok_or_else(|| null(&name))?);
        }
        Ok(Some(format!("[{}]", items.join(","))))
    }

    fn text(&mut self, name: &str) -> Result<Option<String>, Unreadable> {
        let length = if self.is_flexible {
            self.length()?
        } else {
            usize::try_from(i16::from_be_bytes(self.fixed()?)).ok()
        };
        match length {
            None => Ok(None),
            Some(length) if length > LONGEST_TEXT => Err(Unreadable::TextTooLong {
                name: name.to_owned(),
                length,
            }),
            Some(length) => Ok(Some(Text(self.take(length)?).to_string())),
        }
    }

    fn bytes(&mut self) -> Result<Option<&'a [u8]>, Unreadable> {
        self.length()?.map(|length| self.take(length)).transpose()
    }

    /// Reads the length of bytes or of an array, or `None` for null. As in Kafka, each negative
    /// length means null.
    fn length(&mut self) -> Result<Option<usize>, Unreadable> {
        let length = if self.is_flexible {
            self.varint()?.cast_signed().wrapping_sub(1)
        } else {
            i32::from_be_bytes(self.fixed()?)
        };
        Ok(usize::try_from(length).ok())
    }

    fn varint(&mut self) -> Result<u32, Unreadable> {
        varint::read_u32(&mut self.bytes).map_err(|_| Unreadable::CutShort)
    }

    fn fixed<const SIZE: usize>(&mut self) -> Result<[u8; SIZE], Unreadable> {
        read(&mut self.bytes).map_err(|_| Unreadable::CutShort)
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8], Unreadable> {
        let left = self.bytes.len();
        take(&mut self.bytes, length).map_err(|_| Unreadable::BytesCutShort { length, left })
    }
}

fn null(name: &str) -> Unreadable {
    Unreadable::Null {
        name: name.to_owned(),
    }
}

/// Returns the JSON of bytes that start with their version, or `None` if they cannot be read.
fn protocol_json(fields: &[Field], mut bytes: &[u8]) -> Option<String> {
    let version = i16::from_be_bytes(read(&mut bytes).ok()?);
    to_json(fields, version, false, bytes).ok()
}

/// Returns a JSON string.
fn quoted(text: &str) -> String {
    let mut json = String::from('"');
    for character in text.chars() {
        match character {
            '"' | '\\' => json.extend(['\\', character]),
            '\n' => json.push_str("\\n"),
            '\r' => json.push_str("\\r"),
            '\t' => json.push_str("\\t"),
            '\x08' => json.push_str("\\b"),
            '\x0c' => json.push_str("\\f"),
            '\0'..'\x20' => {
                // Writing to a `String` does not fail.
                let _always_ok = write!(json, "\\u{:04X}", u32::from(character));
            }
            _ => json.push(character),
        }
    }
    json.push('"');
    json
}

/// Returns bytes as base64 with padding.
fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let digits = bytes.chunks(3).flat_map(|group| {
        let at = |place: usize| u32::from(group.get(place).copied().unwrap_or(0));
        let bits = at(0) << 16 | at(1) << 8 | at(2);
        (0..4).map(move |place| {
            if place > group.len() {
                return '=';
            }
            let digit = bits >> (18 - 6 * place) & 0x3f;
            DIGITS
                .get(digit as usize)
                .map_or('=', |&digit| digit.into())
        })
    });
    digits.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_become_base64() {
        for (bytes, expected) in [
            (&b""[..], ""),
            (b"f", "Zg=="),
            (b"fo", "Zm8="),
            (b"foo", "Zm9v"),
            (b"\xff\xfe\xfd\x00", "//79AA=="),
        ] {
            assert_eq!(base64(bytes), expected);
        }
    }

    #[test]
    fn text_is_escaped_as_by_kafka() {
        assert_eq!(
            quoted("a\n\t\x01\x08\x0c\r\"\\/\x7f\u{e9}\x1f"),
            "\"a\\n\\t\\u0001\\b\\f\\r\\\"\\\\/\x7f\u{e9}\\u001F\""
        );
    }

    #[test]
    fn tagged_fields_have_their_declared_place_and_no_default() {
        let fields = [
            int64("late").tagged(1, "-1"),
            int8("first"),
            int32s("list").nullable().tagged(0, "[]"),
        ];
        let json = |bytes: &[u8]| to_json(&fields, 0, true, bytes);
        assert_eq!(json(b"\x07\0").unwrap(), r#"{"first":7}"#);
        assert_eq!(
            json(b"\x07\x03\0\x01\0\x01\x08\0\0\0\0\0\0\0\x09\x63\x01\xff").unwrap(),
            r#"{"late":9,"first":7,"list":null}"#
        );
        let defaults = b"\x07\x02\0\x01\x01\x01\x08\xff\xff\xff\xff\xff\xff\xff\xff";
        assert_eq!(json(defaults).unwrap(), r#"{"first":7}"#);
    }

    #[test]
    fn cut_values_are_refused() {
        const ITEM: &[Field] = &[int16("number")];
        let fields = [text("name"), structs("items", ITEM)];
        let value = b"\0\x01a\0\0\0\x02\0\x01\0\x02";
        assert_eq!(
            to_json(&fields, 0, false, value).unwrap(),
            r#"{"name":"a","items":[{"number":1},{"number":2}]}"#
        );
        for length in 0..value.len() {
            assert!(to_json(&fields, 0, false, &value[..length]).is_err());
        }
        let many = [&b"\0\0\x7f\xff\xff\xff"[..], &[0; 9]].concat();
        assert_eq!(
            to_json(&fields, 0, false, &many),
            Err(Unreadable::ArrayCutShort {
                length: 0x7fff_ffff,
                left: 9
            })
        );
    }
}
