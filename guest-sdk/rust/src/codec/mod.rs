//! serde for Steward's dialect of CBOR.
//!
//! Not ciborium: that one writes indefinite lengths and short floats, which the dialect does not have, cannot hand out an item
//! undecoded ([`crate::Item`]), and reads with a scratch buffer that would be an eighth of a guest's stack. Here texts and
//! items are borrowed, and nothing is allocated that the values do not need.
//!
//! What becomes what: a Rust tuple or array is a Python tuple, any other sequence a list; a struct is a map with texts as
//! keys, an enum its variant's name or a map of one pair; `Option` is the value or null. Reading, a sequence takes lists, tuples and
//! sets, `Vec<u8>` takes bytes too, a float takes integers, an integer takes booleans, as in Python.

mod de;
mod ser;

use std::fmt;

use serde::{Deserialize, Serialize};

/// Tags of the dialect that this module looks at: sequences and byte strings that Python tells apart.
mod tag {
    pub(crate) const SET: u64 = 258;
    pub(crate) const TUPLE: u64 = 54_200;
    pub(crate) const FROZEN_SET: u64 = 54_201;
    pub(crate) const BYTE_ARRAY: u64 = 54_202;
}

/// The name by which serde hands an undecoded item through.
pub(crate) const ITEM: &str = "$steward::Item";

/// Encodes `value` as one item.
///
/// # Errors
/// [`Error::Custom`], if a `Serialize` of the value's own refuses.
pub fn to_vec<T: Serialize + ?Sized>(value: &T) -> Result<Vec<u8>, Error> {
    let mut out = Vec::new();
    append(&mut out, value)?;
    Ok(out)
}

/// Appends `value` as one item.
pub(crate) fn append<T: Serialize + ?Sized>(out: &mut Vec<u8>, value: &T) -> Result<(), Error> {
    value.serialize(&mut ser::Serializer::new(out))
}

/// Decodes exactly one item, which may be borrowed from.
///
/// # Errors
/// Every [`Error`].
pub fn from_slice<'de, T: Deserialize<'de>>(item: &'de [u8]) -> Result<T, Error> {
    let mut deserializer = de::Deserializer::new(item);
    let value = T::deserialize(&mut deserializer)?;
    if deserializer.is_empty() { Ok(value) } else { Err(Error::Malformed) }
}

/// Why an item is not a value of the type asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Error {
    /// It is of another kind: a text for a number.
    Mismatch,
    /// It is of the right kind and out of range: 256 for a `u8`.
    Range,
    /// The bytes are no item of the dialect.
    Malformed,
    /// What a type's own `Serialize` or `Deserialize` says.
    Custom(Box<str>),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Mismatch => "wrong type",
            Self::Range => "out of range",
            Self::Malformed => "malformed item",
            Self::Custom(message) => message,
        })
    }
}

impl std::error::Error for Error {}

impl From<steward_wire::Malformed> for Error {
    fn from(_: steward_wire::Malformed) -> Self {
        Self::Malformed
    }
}

impl serde::ser::Error for Error {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self::Custom(message.to_string().into())
    }
}

impl serde::de::Error for Error {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self::Custom(message.to_string().into())
    }

    fn invalid_type(_: serde::de::Unexpected<'_>, _: &dyn serde::de::Expected) -> Self {
        Self::Mismatch
    }

    fn invalid_value(_: serde::de::Unexpected<'_>, _: &dyn serde::de::Expected) -> Self {
        Self::Range
    }
}

/// A byte string: Python's `bytes`. (A `Vec<u8>` is encoded as a list of integers.)
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Bytes(pub Vec<u8>);

impl Serialize for Bytes {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&self.0)
    }
}

impl<'de> Deserialize<'de> for Bytes {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl serde::de::Visitor<'_> for Visitor {
            type Value = Bytes;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("bytes")
            }

            fn visit_bytes<E>(self, bytes: &[u8]) -> Result<Bytes, E> {
                Ok(Bytes(bytes.to_vec()))
            }
        }
        deserializer.deserialize_bytes(Visitor)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;
    use serde::de::DeserializeOwned;

    use super::*;

    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    struct Everything {
        flag: bool,
        small: i8,
        whole: u64,
        signed: i64,
        float: f64,
        text: String,
        letter: char,
        maybe: Option<u32>,
        nothing: (),
        list: Vec<i32>,
        map: BTreeMap<String, Vec<bool>>,
        bytes: Bytes,
        choice: Choice,
    }

    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    enum Choice {
        Unit,
        One(u8),
        Two(u8, String),
        Named { a: i64 },
    }

    fn choices() -> impl Strategy<Value = Choice> {
        prop_oneof![
            Just(Choice::Unit),
            any::<u8>().prop_map(Choice::One),
            any::<(u8, String)>().prop_map(|(a, b)| Choice::Two(a, b)),
            any::<i64>().prop_map(|a| Choice::Named { a }),
        ]
    }

    prop_compose! {
        fn everything()(
            (flag, small, whole, signed, text, letter) in any::<(bool, i8, u64, i64, String, char)>(),
            float in -1e300..1e300f64,
            (maybe, list, map, bytes) in any::<(Option<u32>, Vec<i32>, BTreeMap<String, Vec<bool>>, Vec<u8>)>(),
            choice in choices(),
        ) -> Everything {
            let bytes = Bytes(bytes);
            Everything { flag, small, whole, signed, float, text, letter, maybe, nothing: (), list, map, bytes, choice }
        }
    }

    proptest! {
        #[test]
        fn what_is_written_reads_back(value in everything()) {
            prop_assert_eq!(from_slice::<Everything>(&to_vec(&value).unwrap()), Ok(value));
        }

        #[test]
        fn ciborium_reads_what_is_written(mut value in everything()) {
            // A tuple is tagged in the dialect, which ciborium does not take for a sequence.
            if matches!(value.choice, Choice::Two(..)) {
                value.choice = Choice::Unit;
            }
            let bytes = to_vec(&value).unwrap();
            prop_assert_eq!(ciborium::from_reader::<Everything, _>(&bytes[..]).unwrap(), value);
        }

        #[test]
        fn what_ciborium_writes_reads_the_same(value in everything()) {
            let mut bytes = Vec::new();
            ciborium::into_writer(&value, &mut bytes).unwrap();
            prop_assert_eq!(from_slice::<Everything>(&bytes), Ok(value));
        }

        #[test]
        fn garbage_is_an_error_and_never_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            let _ = from_slice::<Everything>(&bytes);
            let _ = from_slice::<Vec<Choice>>(&bytes);
            let _ = from_slice::<(f64, crate::Item)>(&bytes);
        }
    }

    #[track_caller]
    fn check<T: DeserializeOwned + PartialEq + fmt::Debug>(item: &[u8], expected: Result<T, Error>) {
        assert_eq!(from_slice::<T>(item), expected);
    }

    #[test]
    fn python_s_numbers_convert_as_python_converts_them() {
        check(&[0x02], Ok(2.0));
        check(&[0x21], Ok(-2.0));
        check(&[0xf5], Ok(1i64));
        check::<i64>(&[0xfb, 0x40, 0, 0, 0, 0, 0, 0, 0], Err(Error::Mismatch));
        check::<bool>(&[0x01], Err(Error::Mismatch));
        check::<i64>(&[0x61, b'1'], Err(Error::Mismatch));
    }

    #[test]
    fn numbers_beyond_a_type_are_out_of_range() {
        check(&[0x18, 0xff], Ok(255u8));
        check::<u8>(&[0x19, 0x01, 0x00], Err(Error::Range));
        check::<u64>(&[0x20], Err(Error::Range));
        check::<i64>(&[0x3b, 0x80, 0, 0, 0, 0, 0, 0, 0], Err(Error::Range));
        check::<i64>(&[0xc2, 0x49, 1, 0, 0, 0, 0, 0, 0, 0, 0], Err(Error::Range));
    }

    #[test]
    fn floats_of_every_width_are_read_and_the_widest_is_written() {
        check(&[0xf9, 0x3e, 0x00], Ok(1.5));
        check(&[0xf9, 0x00, 0x01], Ok(5.960_464_477_539_063e-8));
        check(&[0xf9, 0xfc, 0x00], Ok(f64::NEG_INFINITY));
        check(&[0xfa, 0x3f, 0xc0, 0, 0], Ok(1.5));
        assert_eq!(to_vec(&1.5f32).unwrap(), [0xfb, 0x3f, 0xf8, 0, 0, 0, 0, 0, 0]);
    }

    #[test]
    fn tuples_lists_and_sets_are_all_sequences() {
        assert_eq!(to_vec(&(1, 2)).unwrap(), [0xd9, 0xd3, 0xb8, 0x82, 1, 2]);
        assert_eq!(to_vec(&vec![1, 2]).unwrap(), [0x82, 1, 2]);
        for prefix in [&[][..], &[0xd9, 0xd3, 0xb8], &[0xd9, 0xd3, 0xb9], &[0xd9, 0x01, 0x02]] {
            let item = [prefix, &[0x82, 1, 2]].concat();
            check(&item, Ok((1, 2)));
            check(&item, Ok(vec![1, 2]));
        }
        check(&[0x42, 1, 2], Ok(vec![1u8, 2]));
    }

    #[test]
    fn lengths_are_definite_even_where_serde_does_not_know_them() {
        #[derive(Serialize)]
        struct Outer {
            a: u8,
            #[serde(flatten)]
            rest: BTreeMap<String, u8>,
        }
        let outer = Outer { a: 1, rest: BTreeMap::from([("b".into(), 2)]) };
        assert_eq!(to_vec(&outer).unwrap(), b"\xa2\x61a\x01\x61b\x02");
    }

    #[test]
    fn trailing_bytes_are_malformed() {
        check::<u8>(&[1, 2], Err(Error::Malformed));
        check::<u8>(&[], Err(Error::Malformed));
    }
}
