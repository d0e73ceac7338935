//! Tokens: what names a referent, inside values and out of them.

use std::fmt;

use crate::Malformed;
use crate::cbor::{self, Reader};
use crate::value::tag;

/// An object's number within its tenant: never reused, its top 16 bits name a shard (0 for now).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ident(pub u64);

impl Ident {
    /// The host itself, which every session may call: types, objects, shutdown.
    pub const HOST: Self = Self(0);
}

impl fmt::Display for Ident {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "#{}", self.0)
    }
}

/// Names a referent: its typeid, its ident and, outside a session, its host's address.
///
/// Two tokens are equal when ident and address are; inside a session the address is left out, so that
/// idents mean the session's own host whatever name the client dialled.
#[derive(Clone, Debug)]
pub struct Token {
    /// The name of the registered type.
    pub typeid: String,
    /// The object's number.
    pub ident: Ident,
    /// Where its host listens, when it is not the host of the session that carries the token.
    pub address: Option<String>,
}

impl PartialEq for Token {
    fn eq(&self, other: &Self) -> bool {
        self.ident == other.ident && self.address == other.address
    }
}

impl Eq for Token {}

impl std::hash::Hash for Token {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.ident.hash(state);
        self.address.hash(state);
    }
}

impl Token {
    /// The same token, borrowed.
    pub fn as_ref(&self) -> TokenRef<'_> {
        TokenRef { typeid: &self.typeid, ident: self.ident, address: self.address.as_deref() }
    }

    /// Appends the token as an item.
    pub fn encode(&self, out: &mut Vec<u8>) {
        self.as_ref().encode(out);
    }
}

/// A token that borrows its names, from an encoded item for instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TokenRef<'a> {
    /// As [`Token::typeid`].
    pub typeid: &'a str,
    /// As [`Token::ident`].
    pub ident: Ident,
    /// As [`Token::address`].
    pub address: Option<&'a str>,
}

impl<'a> TokenRef<'a> {
    /// The same token, owning its names.
    pub fn to_token(self) -> Token {
        Token { typeid: self.typeid.to_owned(), ident: self.ident, address: self.address.map(str::to_owned) }
    }

    /// Appends the token as an item: its tag around `[typeid, ident, address or null]`.
    pub fn encode(&self, out: &mut Vec<u8>) {
        cbor::put_tag(out, tag::TOKEN);
        cbor::put_array(out, 3);
        cbor::put_text(out, self.typeid);
        cbor::put_u64(out, self.ident.0);
        match self.address {
            Some(address) => cbor::put_text(out, address),
            None => cbor::put_null(out),
        }
    }

    /// Reads what follows the tag.
    pub(crate) fn read(reader: &mut Reader<'a>) -> Result<Self, Malformed> {
        if reader.array()? != 3 {
            return Err(Malformed::BadTag { tag: tag::TOKEN, found: "an array of another length" });
        }
        let (typeid, ident) = (reader.text()?, Ident(reader.u64()?));
        let address = if reader.null() { None } else { Some(reader.text()?) };
        Ok(Self { typeid, ident, address })
    }
}
