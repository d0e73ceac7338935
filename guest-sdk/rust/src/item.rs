//! Values that stay encoded, and tokens that keep other objects alive.

use std::fmt;
use std::hash::{Hash, Hasher};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use steward_wire::cbor::{self, Reader};
use steward_wire::{Ident, Malformed, Token};

use crate::codec::{self, Error, ITEM};

const TAG_TOKEN: u64 = 54_210;

/// Any value, as its client encoded it.
///
/// A container keeps its elements so: what it does not look into travels unharmed (sets, dates, a client's own pickles),
/// and costs no decoding. Numbers and short texts take no memory beside the item's own. Equality is that of the encodings.
///
/// Tokens inside are held while the item exists: see [`Handle`].
pub struct Item(Kept);

/// An item's bytes.
#[derive(Clone)]
enum Kept {
    /// Few, and without tokens.
    Short { length: u8, bytes: [u8; SHORT_MAX] },
    /// Without tokens.
    Long(Box<[u8]>),
    /// With tokens, which are held.
    Tokens(Box<[u8]>),
}

/// Bytes that an item has room for, whose size they do not change.
const SHORT_MAX: usize = if cfg!(target_pointer_width = "64") { 22 } else { 14 };

const _: () = assert!(size_of::<Item>() <= 24 && (cfg!(target_pointer_width = "64") || size_of::<Item>() == 16));

impl Item {
    /// Encodes a value.
    ///
    /// # Errors
    /// As [`codec::to_vec`].
    pub fn new<T: Serialize + ?Sized>(value: &T) -> Result<Self, Error> {
        codec::to_vec(value).map(|bytes| Self::from_bytes(&bytes))
    }

    /// An item that is encoded already.
    pub(crate) fn from_bytes(item: &[u8]) -> Self {
        if hold_tokens(item) {
            return Self(Kept::Tokens(item.into()));
        }
        if item.len() > SHORT_MAX {
            return Self(Kept::Long(item.into()));
        }
        let mut bytes = [0; SHORT_MAX];
        copy_few(&mut bytes, item);
        Self(Kept::Short { length: item.len() as u8, bytes })
    }

    /// The encoding.
    pub fn as_bytes(&self) -> &[u8] {
        match &self.0 {
            Kept::Short { length, bytes } => bytes.get(..usize::from(*length)).unwrap_or(bytes),
            Kept::Long(bytes) | Kept::Tokens(bytes) => bytes,
        }
    }

    /// Decodes the value.
    ///
    /// # Errors
    /// If it is no `T`.
    pub fn decode<T: DeserializeOwned>(&self) -> Result<T, Error> {
        codec::from_slice(self.as_bytes())
    }
}

impl PartialEq for Item {
    fn eq(&self, other: &Self) -> bool {
        self.as_bytes() == other.as_bytes()
    }
}

impl Eq for Item {}

impl Hash for Item {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.as_bytes().hash(state);
    }
}

impl Clone for Item {
    fn clone(&self) -> Self {
        if let Kept::Tokens(bytes) = &self.0 {
            hold_tokens(bytes);
        }
        Self(self.0.clone())
    }
}

impl Drop for Item {
    fn drop(&mut self) {
        if let Kept::Tokens(bytes) = &self.0 {
            for_each_token(bytes, held::let_go);
        }
    }
}

impl fmt::Debug for Item {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Item(")?;
        self.as_bytes().iter().try_for_each(|byte| write!(f, "{byte:02x}"))?;
        f.write_str(")")
    }
}

/// A token that this object stores: while a handle exists, the object it names stays alive.
///
/// Take one as a parameter and keep it in a field, or drop it: the host learns what is stored more and what less after each
/// step. A handle is also what to return to a client, who gets a proxy.
pub struct Handle(Token);

impl Handle {
    /// The type's name.
    pub fn typeid(&self) -> &str {
        &self.0.typeid
    }

    /// The object's number.
    pub fn ident(&self) -> u64 {
        self.0.ident.0
    }

    /// Where the object's host listens, if that is another one. Such objects are not kept alive.
    pub fn address(&self) -> Option<&str> {
        self.0.address.as_deref()
    }

    fn is_local(&self) -> bool {
        self.0.address.is_none()
    }
}

impl Clone for Handle {
    fn clone(&self) -> Self {
        if self.is_local() {
            held::hold(self.ident());
        }
        Self(self.0.clone())
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        if self.is_local() {
            held::let_go(self.ident());
        }
    }
}

/// Handles are equal when they name the same object.
impl PartialEq for Handle {
    fn eq(&self, other: &Self) -> bool {
        self.0 == other.0
    }
}

impl Eq for Handle {}

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Handle({} {})", self.typeid(), self.0.ident)
    }
}

/// Copies fewer than 32 bytes to where there is room for them. In a guest a copy of unknown length is a call of the host's: for these, more
/// than they are worth.
fn copy_few(to: &mut [u8], from: &[u8]) {
    /// Those at either end, which may meet.
    fn both_ends<const N: usize>(to: &mut [u8], from: &[u8]) -> Option<()> {
        let (first, last) = (from.first_chunk::<N>()?, from.last_chunk::<N>()?);
        *to.first_chunk_mut()? = *first;
        *to.get_mut(..from.len())?.last_chunk_mut()? = *last;
        Some(())
    }
    both_ends::<16>(to, from)
        .or_else(|| both_ends::<8>(to, from))
        .or_else(|| both_ends::<4>(to, from))
        .or_else(|| both_ends::<2>(to, from))
        .or_else(|| both_ends::<1>(to, from));
}

/// Holds the tokens in an item; says whether there are any.
#[inline]
fn hold_tokens(item: &[u8]) -> bool {
    let mut any = false;
    for_each_token(item, |ident| {
        any = true;
        held::hold(ident);
    });
    any
}

/// Calls `each` with the idents of the tokens in an item; those of other hosts are left out. Stops at what is no item.
#[inline]
fn for_each_token(item: &[u8], each: impl FnMut(u64)) {
    // However wide the tag's argument is, it ends like this: most items are through here.
    if item.windows(2).any(|pair| pair == (TAG_TOKEN as u16).to_be_bytes()) {
        walk_tokens(item, each);
    }
}

#[cold]
fn walk_tokens(item: &[u8], mut each: impl FnMut(u64)) {
    let mut walk = || -> Result<(), Malformed> {
        let mut reader = Reader::new(item);
        while let Some(first) = reader.peek() {
            match first >> 5 {
                2 => drop(reader.bytes()?),
                3 => drop(reader.text()?),
                6 => {
                    if reader.head()?.argument == TAG_TOKEN {
                        let token = read_token_body(&mut reader)?;
                        if token.address.is_none() {
                            each(token.ident.0);
                        }
                    }
                }
                _ => drop(reader.head()?),
            }
        }
        Ok(())
    };
    // What is no item has no tokens; whoever decodes it is told.
    let _ = walk();
}

/// Reads `[typeid, ident, address or null]`.
fn read_token_body(reader: &mut Reader<'_>) -> Result<Token, Malformed> {
    if reader.array()? != 3 {
        return Err(Malformed::BadTag { tag: TAG_TOKEN, found: "an array of another length" });
    }
    let typeid = reader.text()?.to_owned();
    let ident = Ident(reader.u64()?);
    let address = if reader.null() { None } else { Some(reader.text()?.to_owned()) };
    Ok(Token { typeid, ident, address })
}

/// Hands an item's bytes through serde undecoded.
struct Raw<'a>(&'a [u8]);

impl Serialize for Raw<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(self.0)
    }
}

/// Takes an item's bytes from serde undecoded.
fn deserialize_raw<'de, D: Deserializer<'de>, T>(
    deserializer: D,
    make: impl FnOnce(&[u8]) -> Option<T>,
) -> Result<T, D::Error> {
    struct Visitor<F>(F);
    impl<T, F: FnOnce(&[u8]) -> Option<T>> serde::de::Visitor<'_> for Visitor<F> {
        type Value = T;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an item of Steward's encoding")
        }

        fn visit_bytes<E: serde::de::Error>(self, bytes: &[u8]) -> Result<T, E> {
            (self.0)(bytes).ok_or_else(|| E::invalid_type(serde::de::Unexpected::Bytes(bytes), &"a token"))
        }
    }
    deserializer.deserialize_newtype_struct(ITEM, Visitor(make))
}

impl Serialize for Item {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_newtype_struct(ITEM, &Raw(self.as_bytes()))
    }
}

impl<'de> Deserialize<'de> for Item {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserialize_raw(deserializer, |bytes| Some(Self::from_bytes(bytes)))
    }
}

impl Serialize for Handle {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut bytes = Vec::new();
        cbor::put_tag(&mut bytes, TAG_TOKEN);
        cbor::put_array(&mut bytes, 3);
        cbor::put_text(&mut bytes, self.typeid());
        cbor::put_u64(&mut bytes, self.ident());
        match self.address() {
            Some(address) => cbor::put_text(&mut bytes, address),
            None => cbor::put_null(&mut bytes),
        }
        serializer.serialize_newtype_struct(ITEM, &Raw(&bytes))
    }
}

impl<'de> Deserialize<'de> for Handle {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserialize_raw(deserializer, |bytes| {
            let mut reader = Reader::new(bytes);
            let is_token = bytes.first()? >> 5 == 6 && reader.head().ok()?.argument == TAG_TOKEN;
            let token = is_token.then(|| read_token_body(&mut reader).ok()).flatten()?;
            let handle = Self(token);
            if handle.is_local() {
                held::hold(handle.ident());
            }
            Some(handle)
        })
    }
}

/// What came to be held and was let go since the last [`held::take`]: a guest has one thread, and so does each test.
pub(crate) mod held {
    use std::cell::{Cell, RefCell};

    thread_local! {
        static CHANGES: RefCell<(Vec<u64>, Vec<u64>)> = const { RefCell::new((Vec::new(), Vec::new())) };
        static ARE_ANY: Cell<bool> = const { Cell::new(false) };
    }

    pub(crate) fn hold(ident: u64) {
        ARE_ANY.set(true);
        CHANGES.with_borrow_mut(|(held, _)| held.push(ident));
    }

    pub(crate) fn let_go(ident: u64) {
        ARE_ANY.set(true);
        CHANGES.with_borrow_mut(|(_, let_go)| let_go.push(ident));
    }

    /// Takes the changes, if there were any: held and let go, without what was only passing through.
    #[inline]
    pub(crate) fn take() -> Option<(Vec<u64>, Vec<u64>)> {
        ARE_ANY.replace(false).then(settle)
    }

    #[cold]
    fn settle() -> (Vec<u64>, Vec<u64>) {
        let (mut held, mut let_go) = CHANGES.take();
        let_go.retain(|ident| match held.iter().position(|other| other == ident) {
            Some(at) => {
                held.swap_remove(at);
                false
            }
            None => true,
        });
        (held, let_go)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(ident: u64) -> Vec<u8> {
        let mut bytes = b"\xd9\xd3\xc2\x83\x65Queue".to_vec();
        cbor::put_u64(&mut bytes, ident);
        bytes.push(cbor::NULL);
        bytes
    }

    #[test]
    fn handle_is_held_while_it_exists() {
        let handle: Handle = codec::from_slice(&token(7)).unwrap();
        assert_eq!((handle.typeid(), handle.ident(), handle.address()), ("Queue", 7, None));
        assert_eq!(codec::to_vec(&handle).unwrap(), token(7));
        assert_eq!(held::take().unwrap_or_default(), (vec![7], vec![]));
        let copy = handle.clone();
        assert_eq!(held::take().unwrap_or_default(), (vec![7], vec![]));
        drop((handle, copy));
        assert_eq!(held::take().unwrap_or_default(), (vec![], vec![7, 7]));
    }

    #[test]
    fn token_that_passes_through_is_not_held() {
        let _: Handle = codec::from_slice(&token(7)).unwrap();
        assert_eq!(held::take().unwrap_or_default(), (vec![], vec![]));
    }

    #[test]
    fn tokens_deep_in_an_item_are_held_once_each() {
        let bytes = [&[0x82][..], &token(300), &[0x81], &token(9)].concat();
        let item: Item = codec::from_slice(&bytes).unwrap();
        assert_eq!(held::take().unwrap_or_default(), (vec![300, 9], vec![]));
        drop(item);
        assert_eq!(held::take().unwrap_or_default(), (vec![], vec![300, 9]));
    }

    #[test]
    fn items_of_every_length_keep_their_bytes() {
        for length in 0..=3 * SHORT_MAX {
            let text = "x".repeat(length);
            let item = Item::new(&text).unwrap();
            assert_eq!(item.as_bytes(), codec::to_vec(&text).unwrap());
            assert_eq!(item.clone(), item);
            assert_eq!(item.decode::<String>().unwrap(), text);
        }
    }

    #[test]
    fn bytes_that_look_like_a_token_hold_nothing() {
        let text = [&[0x58, token(7).len() as u8][..], &token(7)].concat();
        let item: Item = codec::from_slice(&text).unwrap();
        assert_eq!(item.as_bytes(), text);
        assert_eq!(held::take().unwrap_or_default(), (vec![], vec![]));
    }

    #[test]
    fn what_is_no_token_is_no_handle() {
        for bytes in [&b"\x01"[..], b"\xc2\x41\x01", b"\xd9\xd3\xc2\x80"] {
            assert_eq!(codec::from_slice::<Handle>(bytes), Err(Error::Mismatch));
        }
    }
}
