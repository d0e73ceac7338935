//! The strict validator: the first thing that touches a received item.
//!
//! One pass, no allocation, no recursion. What it lets through is well-formed CBOR of definite
//! lengths, within the limits, made of the tags that [`crate::value`] knows, and nothing after it.
//! What it does not do: look for duplicate keys, which needs the keys compared as Python compares
//! them; that happens where a map is opened.

use crate::cbor::Kind;

/// Bounds of one received item.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// How deep arrays, maps and tags may nest; an item beyond it is refused.
    pub depth_max: u32,
    /// How many items, nested ones and map keys included; an item beyond it is refused.
    pub items_max: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self { depth_max: 32, items_max: 65_536 }
    }
}

/// What the validator found out in passing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Checked {
    /// Items, nested ones included.
    pub items: u64,
    /// Whether a token stands anywhere inside.
    pub tokens: bool,
}

/// Why a received item is not accepted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// The bytes end within an item, or a length points past them.
    #[error("item is truncated")]
    Truncated,
    /// Bytes follow the item.
    #[error("{0} bytes follow the item")]
    Trailing(usize),
    /// An indefinite length.
    #[error("indefinite lengths are not accepted")]
    Indefinite,
    /// A reserved or meaningless first byte.
    #[error("byte {0:#04x} does not start a known item")]
    Reserved(u8),
    /// A text string that is not UTF-8.
    #[error("text is not utf-8")]
    NotUtf8,
    /// Nested too deeply.
    #[error("item nests deeper than {0} levels")]
    TooDeep(u32),
    /// Too many items.
    #[error("item holds more than {0} items")]
    TooMany(u64),
    /// A tag that this protocol does not use.
    #[error("tag {0} is not known")]
    UnknownTag(u64),
    /// A known tag around something else than it may carry.
    #[error("tag {tag} carries {found}")]
    BadTag {
        /// The tag.
        tag: u64,
        /// What stands in it.
        found: &'static str,
    },
    /// Another kind of item was needed here.
    #[error("expected {0:?}, found {1:?}")]
    Expected(Kind, Kind),
    /// A frame that is not one of ours.
    #[error("frame: {0}")]
    Frame(&'static str),
    /// A key that occurs twice in a map.
    #[error("key occurs twice in a map")]
    DuplicateKey,
}

/// Validates that `bytes` is exactly one item within `limits`.
///
/// # Errors
/// The first [`Malformed`] found, front to back.
pub fn check(bytes: &[u8], limits: &Limits) -> Result<Checked, Malformed> {
    let _ = (bytes, limits);
    todo!()
}
