//! Values and serde: a user's own types to and from items, and [`Value`] and [`Token`] as parts of such types.
//!
//! Tags pass through serde by ciborium's convention, so [`Value`] and [`Token`] serialize with ciborium only. The
//! one codec is that of [`Value::encode`] and [`Value::decode`]; what is here translates heads to serde's calls and
//! back, one for one. It is the convenient path, not the fast one.

use std::fmt;

use ciborium::tag::Captured;
use serde::de::{self, DeserializeOwned, Deserializer, EnumAccess, MapAccess, SeqAccess, VariantAccess, Visitor};
use serde::ser::{Error as _, SerializeMap, SerializeSeq, Serializer};
use serde::{Deserialize, Serialize};

use super::{Value, utf8};
use crate::cbor::{self, Kind, Reader};
use crate::check::{DEPTH_MAX, Limits, check};
use crate::{Malformed, Token, value::token_of};

/// Why a type does not become an item, or an item not a type.
#[derive(Debug, thiserror::Error)]
pub enum ConvertError {
    /// The type's own `Serialize` failed, or it holds what CBOR cannot say.
    #[error("cannot encode: {0}")]
    Encode(String),
    /// The item is none that this protocol accepts.
    #[error(transparent)]
    Malformed(#[from] Malformed),
    /// The item is another thing than the type asked for.
    #[error("cannot decode: {0}")]
    Decode(String),
}

/// Nesting that the validator lets through, tags and the layers of serde's enums included.
const RECURSION_MAX: usize = 4 * DEPTH_MAX as usize;

const ANY: Limits = Limits { depth_max: DEPTH_MAX, items_max: u64::MAX };

/// Encodes a type of the caller's as one item: structs and maps as maps, sequences and tuples as lists, `None` as null,
/// an enum's variant as its name or as a map from its name. [`check()`] accepts the result.
///
/// # Errors
/// [`ConvertError::Encode`] if the type fails to serialize, [`ConvertError::Malformed`] if it nests deeper than
/// [`DEPTH_MAX`] or holds a tag of its own that this protocol does not know.
pub fn from_serde<T: Serialize + ?Sized>(value: &T) -> Result<Vec<u8>, ConvertError> {
    let mut item = Vec::new();
    put_serde(value, &mut item)?;
    Ok(item)
}

/// Appends what [`from_serde`] gives.
///
/// # Errors
/// As [`from_serde`]; what `out` then ends with is of no use.
pub fn put_serde<T: Serialize + ?Sized>(value: &T, out: &mut Vec<u8>) -> Result<(), ConvertError> {
    let start = out.len();
    write(value, out)?;
    match check(&out[start..], &ANY) {
        Ok(_) => Ok(()),
        // A sequence or map that did not know its length. It does now.
        Err(Malformed::Indefinite) => {
            let known: ciborium::Value = read(&out[start..])?;
            out.truncate(start);
            write(&known, out)?;
            check(&out[start..], &ANY)?;
            Ok(())
        }
        Err(malformed) => Err(malformed.into()),
    }
}

/// Decodes a type of the caller's from one item, which need not have been checked before.
///
/// # Errors
/// [`ConvertError::Malformed`] if the item is not acceptable at all, [`ConvertError::Decode`] if it is not a `T`.
pub fn to_serde<T: DeserializeOwned>(item: &[u8]) -> Result<T, ConvertError> {
    check(item, &ANY)?;
    read(item)
}

fn write<T: Serialize + ?Sized>(value: &T, out: &mut Vec<u8>) -> Result<(), ConvertError> {
    ciborium::into_writer(value, out).map_err(|error| ConvertError::Encode(error.to_string()))
}

fn read<T: DeserializeOwned>(item: &[u8]) -> Result<T, ConvertError> {
    ciborium::de::from_reader_with_recursion_limit(item, RECURSION_MAX)
        .map_err(|error| ConvertError::Decode(error.to_string()))
}

impl Serialize for Value {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        Item(&self.to_vec()).serialize(serializer)
    }
}

impl Serialize for Token {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut item = Vec::new();
        self.encode(&mut item);
        Item(&item).serialize(serializer)
    }
}

/// Decodes exactly what [`Value::decode`] does, but for integers from -2^128 to below -2^127: ciborium refuses to
/// hand those to any type.
impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let Encoded(item) = Encoded::deserialize(deserializer)?;
        Self::decode(&item).map_err(de::Error::custom)
    }
}

impl<'de> Deserialize<'de> for Token {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let Encoded(item) = Encoded::deserialize(deserializer)?;
        let token = token_of(&item).ok_or_else(|| de::Error::custom("expected a token"))?;
        Ok(token.to_token())
    }
}

/// One encoded item, serialized as what it encodes.
struct Item<'a>(&'a [u8]);

impl Serialize for Item<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut reader = Reader::new(self.0);
        let head = reader.head().map_err(S::Error::custom)?;
        match head.kind {
            Kind::Unsigned => serializer.serialize_u64(head.argument),
            Kind::Negative => serializer.serialize_i128(-1 - i128::from(head.argument)),
            Kind::Float => serializer.serialize_f64(head.f64().expect("the head is a float's")),
            Kind::Bytes => serializer.serialize_bytes(reader.payload(head.argument).map_err(S::Error::custom)?),
            Kind::Text => {
                let text = reader.payload(head.argument).and_then(utf8).map_err(S::Error::custom)?;
                serializer.serialize_str(text)
            }
            Kind::Array => {
                let mut items = serializer.serialize_seq(usize::try_from(head.argument).ok())?;
                for _ in 0..head.argument {
                    items.serialize_element(&Item(reader.raw().map_err(S::Error::custom)?))?;
                }
                items.end()
            }
            Kind::Map => {
                let mut pairs = serializer.serialize_map(usize::try_from(head.argument).ok())?;
                for _ in 0..head.argument {
                    let key = reader.raw().map_err(S::Error::custom)?;
                    let value = reader.raw().map_err(S::Error::custom)?;
                    pairs.serialize_entry(&Item(key), &Item(value))?;
                }
                pairs.end()
            }
            Kind::Tag => {
                let inner = reader.raw().map_err(S::Error::custom)?;
                Captured(Some(head.argument), Item(inner)).serialize(serializer)
            }
            Kind::Simple if self.0 == [cbor::NULL] => serializer.serialize_unit(),
            Kind::Simple => serializer.serialize_bool(self.0 == [cbor::TRUE]),
        }
    }
}

/// Any one item, encoded again while it is deserialized.
struct Encoded(Vec<u8>);

impl<'de> Deserialize<'de> for Encoded {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Encoder)
    }
}

struct Encoder;

impl Encoder {
    fn put(write: impl FnOnce(&mut Vec<u8>)) -> Encoded {
        let mut item = Vec::new();
        write(&mut item);
        Encoded(item)
    }
}

impl<'de> Visitor<'de> for Encoder {
    type Value = Encoded;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Encoded, E> {
        Ok(Self::put(|item| cbor::put_bool(item, value)))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Encoded, E> {
        Ok(Self::put(|item| cbor::put_i64(item, value)))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Encoded, E> {
        Ok(Self::put(|item| cbor::put_u64(item, value)))
    }

    fn visit_i128<E>(self, value: i128) -> Result<Encoded, E> {
        Ok(Self::put(|item| Value::BigInt(value.into()).encode(item)))
    }

    fn visit_u128<E>(self, value: u128) -> Result<Encoded, E> {
        Ok(Self::put(|item| Value::BigInt(value.into()).encode(item)))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Encoded, E> {
        Ok(Self::put(|item| cbor::put_f64(item, value)))
    }

    fn visit_str<E>(self, value: &str) -> Result<Encoded, E> {
        Ok(Self::put(|item| cbor::put_text(item, value)))
    }

    fn visit_bytes<E>(self, value: &[u8]) -> Result<Encoded, E> {
        Ok(Self::put(|item| cbor::put_bytes(item, value)))
    }

    fn visit_none<E>(self) -> Result<Encoded, E> {
        Ok(Self::put(cbor::put_null))
    }

    fn visit_unit<E>(self) -> Result<Encoded, E> {
        Ok(Self::put(cbor::put_null))
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Encoded, D::Error> {
        deserializer.deserialize_any(self)
    }

    fn visit_newtype_struct<D: Deserializer<'de>>(self, deserializer: D) -> Result<Encoded, D::Error> {
        deserializer.deserialize_any(self)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Encoded, A::Error> {
        let (mut count, mut inner) = (0, Vec::new());
        while let Some(Encoded(item)) = items.next_element()? {
            count += 1;
            inner.extend_from_slice(&item);
        }
        Ok(Self::put(|item| {
            cbor::put_array(item, count);
            item.extend_from_slice(&inner);
        }))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut pairs: A) -> Result<Encoded, A::Error> {
        let (mut count, mut inner) = (0, Vec::new());
        while let Some((Encoded(key), Encoded(value))) = pairs.next_entry()? {
            count += 1;
            inner.extend_from_slice(&key);
            inner.extend_from_slice(&value);
        }
        Ok(Self::put(|item| {
            cbor::put_map(item, count);
            item.extend_from_slice(&inner);
        }))
    }

    /// Ciborium hands a tag over as an enum's variant with two fields.
    fn visit_enum<A: EnumAccess<'de>>(self, access: A) -> Result<Encoded, A::Error> {
        let (variant, fields): (String, _) = access.variant()?;
        if variant != "@@TAGGED@@" {
            return Err(de::Error::custom("an enum is not a value"));
        }
        fields.tuple_variant(2, Tagged)
    }
}

struct Tagged;

impl<'de> Visitor<'de> for Tagged {
    type Value = Encoded;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a tag and an item")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut fields: A) -> Result<Encoded, A::Error> {
        let tag = fields.next_element()?.ok_or_else(|| de::Error::invalid_length(0, &self))?;
        let Encoded(inner) = fields.next_element()?.ok_or_else(|| de::Error::invalid_length(1, &self))?;
        Ok(Encoder::put(|item| {
            cbor::put_tag(item, tag);
            item.extend_from_slice(&inner);
        }))
    }
}
