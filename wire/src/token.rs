//! Tokens: what names a referent, inside values and out of them.

use std::fmt;

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
