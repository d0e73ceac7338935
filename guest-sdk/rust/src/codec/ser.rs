//! Writing.

use serde::ser::{self, Serialize};
use steward_wire::cbor;

use super::{Error, ITEM, tag};

/// Appends items to a buffer.
pub(super) struct Serializer<'a> {
    out: &'a mut Vec<u8>,
    /// The next byte string is an item of its own and goes out as it is.
    raw: bool,
}

impl<'a> Serializer<'a> {
    pub(super) fn new(out: &'a mut Vec<u8>) -> Self {
        Self { out, raw: false }
    }

    fn variant(&mut self, variant: &str) {
        cbor::put_map(self.out, 1);
        cbor::put_text(self.out, variant);
    }
}

/// Appends an item. In a guest a copy of unknown length is a call of the host's: for a few bytes, more than they are worth.
fn put_raw(out: &mut Vec<u8>, item: &[u8]) {
    if item.len() > 64 {
        return out.extend_from_slice(item);
    }
    let (words, rest) = item.as_chunks::<8>();
    words.iter().for_each(|word| out.extend_from_slice(word));
    rest.iter().for_each(|byte| out.push(*byte));
}

/// A sequence or map under way.
pub(super) struct Compound<'a, 'b> {
    serializer: &'a mut Serializer<'b>,
    /// Where its head belongs and how many items it has so far, if serde did not say how many there will be.
    uncounted: Option<(usize, usize)>,
}

impl Compound<'_, '_> {
    fn item<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Error> {
        if let Some((_, items)) = &mut self.uncounted {
            *items += 1;
        }
        value.serialize(&mut *self.serializer)
    }

    fn finish(self, put_head: fn(&mut Vec<u8>, usize)) {
        if let Some((start, items)) = self.uncounted {
            let mut head = Vec::new();
            put_head(&mut head, items);
            self.serializer.out.splice(start..start, head);
        }
    }
}

impl<'a, 'b> ser::Serializer for &'a mut Serializer<'b> {
    type Ok = ();
    type Error = Error;
    type SerializeSeq = Compound<'a, 'b>;
    type SerializeTuple = Compound<'a, 'b>;
    type SerializeTupleStruct = Compound<'a, 'b>;
    type SerializeTupleVariant = Compound<'a, 'b>;
    type SerializeMap = Compound<'a, 'b>;
    type SerializeStruct = Compound<'a, 'b>;
    type SerializeStructVariant = Compound<'a, 'b>;

    fn serialize_bool(self, value: bool) -> Result<(), Error> {
        cbor::put_bool(self.out, value);
        Ok(())
    }

    fn serialize_i8(self, value: i8) -> Result<(), Error> {
        self.serialize_i64(value.into())
    }

    fn serialize_i16(self, value: i16) -> Result<(), Error> {
        self.serialize_i64(value.into())
    }

    fn serialize_i32(self, value: i32) -> Result<(), Error> {
        self.serialize_i64(value.into())
    }

    fn serialize_i64(self, value: i64) -> Result<(), Error> {
        cbor::put_i64(self.out, value);
        Ok(())
    }

    fn serialize_u8(self, value: u8) -> Result<(), Error> {
        self.serialize_u64(value.into())
    }

    fn serialize_u16(self, value: u16) -> Result<(), Error> {
        self.serialize_u64(value.into())
    }

    fn serialize_u32(self, value: u32) -> Result<(), Error> {
        self.serialize_u64(value.into())
    }

    fn serialize_u64(self, value: u64) -> Result<(), Error> {
        cbor::put_u64(self.out, value);
        Ok(())
    }

    fn serialize_f32(self, value: f32) -> Result<(), Error> {
        self.serialize_f64(value.into())
    }

    fn serialize_f64(self, value: f64) -> Result<(), Error> {
        cbor::put_f64(self.out, value);
        Ok(())
    }

    fn serialize_char(self, value: char) -> Result<(), Error> {
        self.serialize_str(value.encode_utf8(&mut [0; 4]))
    }

    fn serialize_str(self, value: &str) -> Result<(), Error> {
        cbor::put_text(self.out, value);
        Ok(())
    }

    fn serialize_bytes(self, value: &[u8]) -> Result<(), Error> {
        if std::mem::take(&mut self.raw) {
            put_raw(self.out, value);
        } else {
            cbor::put_bytes(self.out, value);
        }
        Ok(())
    }

    fn serialize_none(self) -> Result<(), Error> {
        self.serialize_unit()
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<(), Error> {
        value.serialize(self)
    }

    fn serialize_unit(self) -> Result<(), Error> {
        cbor::put_null(self.out);
        Ok(())
    }

    fn serialize_unit_struct(self, _: &'static str) -> Result<(), Error> {
        self.serialize_unit()
    }

    fn serialize_unit_variant(self, _: &'static str, _: u32, variant: &'static str) -> Result<(), Error> {
        self.serialize_str(variant)
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(self, name: &'static str, value: &T) -> Result<(), Error> {
        self.raw = name == ITEM;
        value.serialize(self)
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        value: &T,
    ) -> Result<(), Error> {
        self.variant(variant);
        value.serialize(self)
    }

    fn serialize_seq(self, items: Option<usize>) -> Result<Compound<'a, 'b>, Error> {
        let uncounted = items.is_none().then_some((self.out.len(), 0));
        if let Some(items) = items {
            cbor::put_array(self.out, items);
        }
        Ok(Compound { serializer: self, uncounted })
    }

    fn serialize_tuple(self, items: usize) -> Result<Compound<'a, 'b>, Error> {
        cbor::put_tag(self.out, tag::TUPLE);
        self.serialize_seq(Some(items))
    }

    fn serialize_tuple_struct(self, _: &'static str, items: usize) -> Result<Compound<'a, 'b>, Error> {
        self.serialize_tuple(items)
    }

    fn serialize_tuple_variant(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        items: usize,
    ) -> Result<Compound<'a, 'b>, Error> {
        self.variant(variant);
        self.serialize_tuple(items)
    }

    fn serialize_map(self, pairs: Option<usize>) -> Result<Compound<'a, 'b>, Error> {
        let uncounted = pairs.is_none().then_some((self.out.len(), 0));
        if let Some(pairs) = pairs {
            cbor::put_map(self.out, pairs);
        }
        Ok(Compound { serializer: self, uncounted })
    }

    fn serialize_struct(self, _: &'static str, fields: usize) -> Result<Compound<'a, 'b>, Error> {
        self.serialize_map(Some(fields))
    }

    fn serialize_struct_variant(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        fields: usize,
    ) -> Result<Compound<'a, 'b>, Error> {
        self.variant(variant);
        self.serialize_map(Some(fields))
    }
}

impl ser::SerializeSeq for Compound<'_, '_> {
    type Ok = ();
    type Error = Error;

    fn serialize_element<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Error> {
        self.item(value)
    }

    fn end(self) -> Result<(), Error> {
        self.finish(cbor::put_array);
        Ok(())
    }
}

impl ser::SerializeTuple for Compound<'_, '_> {
    type Ok = ();
    type Error = Error;

    fn serialize_element<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Error> {
        self.item(value)
    }

    fn end(self) -> Result<(), Error> {
        Ok(())
    }
}

impl ser::SerializeTupleStruct for Compound<'_, '_> {
    type Ok = ();
    type Error = Error;

    fn serialize_field<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Error> {
        self.item(value)
    }

    fn end(self) -> Result<(), Error> {
        Ok(())
    }
}

impl ser::SerializeTupleVariant for Compound<'_, '_> {
    type Ok = ();
    type Error = Error;

    fn serialize_field<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Error> {
        self.item(value)
    }

    fn end(self) -> Result<(), Error> {
        Ok(())
    }
}

impl ser::SerializeMap for Compound<'_, '_> {
    type Ok = ();
    type Error = Error;

    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Result<(), Error> {
        self.item(key)
    }

    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Error> {
        value.serialize(&mut *self.serializer)
    }

    fn end(self) -> Result<(), Error> {
        self.finish(cbor::put_map);
        Ok(())
    }
}

impl ser::SerializeStruct for Compound<'_, '_> {
    type Ok = ();
    type Error = Error;

    fn serialize_field<T: Serialize + ?Sized>(&mut self, name: &'static str, value: &T) -> Result<(), Error> {
        cbor::put_text(self.serializer.out, name);
        value.serialize(&mut *self.serializer)
    }

    fn end(self) -> Result<(), Error> {
        Ok(())
    }
}

impl ser::SerializeStructVariant for Compound<'_, '_> {
    type Ok = ();
    type Error = Error;

    fn serialize_field<T: Serialize + ?Sized>(&mut self, name: &'static str, value: &T) -> Result<(), Error> {
        ser::SerializeStruct::serialize_field(self, name, value)
    }

    fn end(self) -> Result<(), Error> {
        Ok(())
    }
}
