//! Reading.

use serde::de::value::BorrowedStrDeserializer;
use serde::de::{self, DeserializeSeed, IntoDeserializer, Visitor};
use steward_wire::cbor::{self, Kind, Reader};

use super::{Error, ITEM, tag};
use crate::args::plain_length;

/// Reads items from a slice.
pub(super) struct Deserializer<'de> {
    item: &'de [u8],
    reader: Reader<'de>,
}

impl<'de> Deserializer<'de> {
    pub(super) fn new(item: &'de [u8]) -> Self {
        Self { item, reader: Reader::new(item) }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.reader.is_empty()
    }

    /// The major type of the next item.
    fn major(&self) -> Result<u8, Error> {
        self.reader.peek().map(|first| first >> 5).ok_or(Error::Malformed)
    }

    /// Reads the tag before a sequence or byte string, whose kind is all that matters here.
    fn skip_sequence_tag(&mut self) -> Result<(), Error> {
        if self.major()? == 6 {
            match self.reader.head()?.argument {
                tag::SET | tag::TUPLE | tag::FROZEN_SET | tag::BYTE_ARRAY => {}
                // An integer beyond 64 bits.
                2 | 3 => return Err(Error::Range),
                _ => return Err(Error::Mismatch),
            }
        }
        Ok(())
    }

    fn text(&mut self) -> Result<&'de str, Error> {
        if self.major()? == 3 { Ok(self.reader.text()?) } else { Err(Error::Mismatch) }
    }

    /// Passes an array or map of `left` items or pairs on, and checks that the visitor took all.
    fn items<T>(
        &mut self,
        left: usize,
        visit: impl FnOnce(&mut Items<'_, 'de>) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let mut items = Items { deserializer: self, left };
        let value = visit(&mut items)?;
        if items.left == 0 { Ok(value) } else { Err(Error::Mismatch) }
    }
}

impl<'de> de::Deserializer<'de> for &mut Deserializer<'de> {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.skip_sequence_tag()?;
        match self.major()? {
            0 => visitor.visit_u64(self.reader.u64()?),
            1 => {
                let argument = self.reader.head()?.argument;
                visitor.visit_i64(i64::try_from(argument).map(|argument| -1 - argument).map_err(|_| Error::Range)?)
            }
            2 => visitor.visit_borrowed_bytes(self.reader.bytes()?),
            3 => visitor.visit_borrowed_str(self.reader.text()?),
            4 => {
                let left = self.reader.array()?;
                self.items(left, |items| visitor.visit_seq(items))
            }
            5 => {
                let left = self.reader.map()?;
                self.items(left, |items| visitor.visit_map(items))
            }
            // A tag in a tag.
            6 => Err(Error::Mismatch),
            _ => {
                let head = self.reader.head()?;
                match (head.kind, head.width) {
                    (Kind::Float, 8) => visitor.visit_f64(f64::from_bits(head.argument)),
                    (Kind::Float, 4) => visitor.visit_f64(f32::from_bits(head.argument as u32).into()),
                    (Kind::Float, _) => visitor.visit_f64(half(head.argument as u16)),
                    _ => match head.argument {
                        20 => visitor.visit_bool(false),
                        21 => visitor.visit_bool(true),
                        22 => visitor.visit_unit(),
                        _ => Err(Error::Malformed),
                    },
                }
            }
        }
    }

    fn deserialize_i64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        // As in Python, a truth value is an integer.
        match self.reader.peek() {
            Some(cbor::TRUE | cbor::FALSE) => visitor.visit_u64(self.reader.bool()?.into()),
            _ => self.deserialize_any(visitor),
        }
    }

    fn deserialize_i8<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.deserialize_i64(visitor)
    }

    fn deserialize_i16<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.deserialize_i64(visitor)
    }

    fn deserialize_i32<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.deserialize_i64(visitor)
    }

    fn deserialize_u8<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.deserialize_i64(visitor)
    }

    fn deserialize_u16<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.deserialize_i64(visitor)
    }

    fn deserialize_u32<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.deserialize_i64(visitor)
    }

    fn deserialize_u64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.deserialize_i64(visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        if self.reader.null() { visitor.visit_none() } else { visitor.visit_some(self) }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, name: &'static str, visitor: V) -> Result<V::Value, Error> {
        if name == ITEM {
            // One argument is one item, and mostly plain.
            let is_plain = self.reader.position() == 0 && plain_length(self.item) == Some(self.item.len());
            return visitor.visit_borrowed_bytes(if is_plain {
                self.reader.payload(self.item.len() as u64)?
            } else {
                self.reader.raw()?
            });
        }
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.skip_sequence_tag()?;
        match self.major()? {
            2 => visitor.visit_seq(de::value::SeqDeserializer::new(self.reader.bytes()?.iter().copied())),
            4 => self.deserialize_any(visitor),
            _ => Err(Error::Mismatch),
        }
    }

    fn deserialize_tuple<V: Visitor<'de>>(self, _: usize, visitor: V) -> Result<V::Value, Error> {
        self.deserialize_seq(visitor)
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: usize,
        visitor: V,
    ) -> Result<V::Value, Error> {
        self.deserialize_seq(visitor)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        if self.major()? == 5 {
            if self.reader.map()? != 1 {
                return Err(Error::Mismatch);
            }
            return visitor.visit_enum(Variant(self));
        }
        let name = self.text()?;
        visitor.visit_enum(<&str as IntoDeserializer<'_, Error>>::into_deserializer(name))
    }

    fn deserialize_identifier<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_borrowed_str(self.text()?)
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.reader.raw()?;
        visitor.visit_unit()
    }

    serde::forward_to_deserialize_any! {
        bool i128 u128 f32 f64 char str string bytes byte_buf unit unit_struct map struct
    }
}

/// Items or pairs of an array or map that are not yet read.
struct Items<'a, 'de> {
    deserializer: &'a mut Deserializer<'de>,
    left: usize,
}

impl<'de> de::SeqAccess<'de> for Items<'_, 'de> {
    type Error = Error;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Error> {
        if self.left == 0 {
            return Ok(None);
        }
        self.left -= 1;
        seed.deserialize(&mut *self.deserializer).map(Some)
    }

    fn size_hint(&self) -> Option<usize> {
        // A length that a peer claims: no item takes less than a byte.
        Some(self.left.min(self.deserializer.item.len() - self.deserializer.reader.position()))
    }
}

impl<'de> de::MapAccess<'de> for Items<'_, 'de> {
    type Error = Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Error> {
        de::SeqAccess::next_element_seed(self, seed)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Error> {
        seed.deserialize(&mut *self.deserializer)
    }

    fn size_hint(&self) -> Option<usize> {
        de::SeqAccess::size_hint(self)
    }
}

/// An enum's variant with content: a map of one pair, whose head is read.
struct Variant<'a, 'de>(&'a mut Deserializer<'de>);

impl<'de> de::EnumAccess<'de> for Variant<'_, 'de> {
    type Error = Error;
    type Variant = Self;

    fn variant_seed<V: DeserializeSeed<'de>>(self, seed: V) -> Result<(V::Value, Self), Error> {
        let name = seed.deserialize(BorrowedStrDeserializer::<Error>::new(self.0.text()?))?;
        Ok((name, self))
    }
}

impl<'de> de::VariantAccess<'de> for Variant<'_, 'de> {
    type Error = Error;

    fn unit_variant(self) -> Result<(), Error> {
        Err(Error::Mismatch)
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<T::Value, Error> {
        seed.deserialize(self.0)
    }

    fn tuple_variant<V: Visitor<'de>>(self, items: usize, visitor: V) -> Result<V::Value, Error> {
        de::Deserializer::deserialize_tuple(self.0, items, visitor)
    }

    fn struct_variant<V: Visitor<'de>>(self, _: &'static [&'static str], visitor: V) -> Result<V::Value, Error> {
        de::Deserializer::deserialize_any(self.0, visitor)
    }
}

/// The value of a float of 16 bits (RFC 8949, appendix D).
fn half(bits: u16) -> f64 {
    let (exponent, fraction) = (bits >> 10 & 0x1f, f64::from(bits & 0x3ff));
    let magnitude = match exponent {
        0 => fraction * f64::from_bits((1023 - 24) << 52),
        0x1f if fraction == 0.0 => f64::INFINITY,
        0x1f => f64::NAN,
        _ => (1.0 + fraction / 1024.0) * f64::from_bits((u64::from(exponent) + 1023 - 15) << 52),
    };
    if bits >> 15 == 0 { magnitude } else { -magnitude }
}
