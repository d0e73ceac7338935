//! The strict validator: the first thing that touches a received item.
//!
//! One pass, no allocation, no recursion. What it lets through is well-formed CBOR of definite
//! lengths, within the limits, made of the tags that [`crate::value`] knows, and nothing after it.
//! What it does not do: look for duplicate keys, which needs the keys compared as Python compares
//! them; that happens where a map is opened.

use crate::cbor::{Kind, Reader};
use crate::value::{Leaf, tag, utf8};

/// No item may nest deeper than this, whatever [`Limits::depth_max`] says.
pub const DEPTH_MAX: u32 = 256;

/// Nesting of nearly all items.
const SHALLOW: usize = 32;

/// Bounds of one received item.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// How deep arrays and maps may nest; an item beyond it is refused. A tag is as deep as what it carries. More than
    /// [`DEPTH_MAX`] counts as that.
    pub depth_max: u32,
    /// How many items: nested ones, map keys, and tags themselves included; an item beyond it is refused.
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
    #[error("expected {}, found {}", .0.name(), .1.name())]
    Expected(Kind, Kind),
    /// A number beyond its range.
    #[error("number is not {0}")]
    OutOfRange(&'static str),
    /// A frame that is not one of ours.
    #[error("frame: {0}")]
    Frame(&'static str),
    /// A message of the handshake that is not what it must be.
    #[error("sign-in: {0}")]
    SignIn(&'static str),
    /// A key that occurs twice in a map.
    #[error("key occurs twice in a map")]
    DuplicateKey,
}

/// Validates that `bytes` is exactly one item within `limits`.
///
/// # Errors
/// The first [`Malformed`] found, front to back.
pub fn check(bytes: &[u8], limits: &Limits) -> Result<Checked, Malformed> {
    // Clearing the counters for the deepest nesting would cost a small item more than reading it.
    match walk::<SHALLOW>(bytes, limits) {
        Err(Malformed::TooDeep(_)) if limits.depth_max as usize > SHALLOW => {
            walk::<{ DEPTH_MAX as usize }>(bytes, limits)
        }
        walked => walked,
    }
}

fn walk<const DEPTH: usize>(bytes: &[u8], limits: &Limits) -> Result<Checked, Malformed> {
    let depth_max = DEPTH.min(limits.depth_max as usize);
    let mut reader = Reader::new(bytes);
    let mut checked = Checked::default();
    // Items still to come: in the innermost array or map, and in those around it.
    let mut left: u64 = 1;
    let mut around = [0u64; DEPTH];
    let mut depth = 0;
    loop {
        while left == 0 {
            if depth == 0 {
                return match reader.remaining() {
                    0 => Ok(checked),
                    trailing => Err(Malformed::Trailing(trailing)),
                };
            }
            depth -= 1;
            left = around[depth];
        }
        left -= 1;
        checked.items += 1;
        let first = reader.peek().ok_or(Malformed::Truncated)?;
        let head = reader.head()?;
        let inner = match head.kind {
            Kind::Unsigned | Kind::Negative | Kind::Float => None,
            // False, true, null. `undefined` and the unassigned ones have no meaning here.
            Kind::Simple if matches!(first, 0xf4..=0xf6) => None,
            Kind::Simple => return Err(Malformed::Reserved(first)),
            Kind::Bytes => {
                reader.payload(head.argument)?;
                None
            }
            Kind::Text => {
                utf8(reader.payload(head.argument)?)?;
                None
            }
            Kind::Array => Some(head.argument),
            Kind::Map => Some(head.argument.checked_mul(2).ok_or(Malformed::Truncated)?),
            Kind::Tag => match head.argument {
                tag @ (tag::TUPLE | tag::SET | tag::FROZEN_SET) => {
                    checked.items += 1;
                    Some(reader.array().map_err(|error| carried_by(tag, error))? as u64)
                }
                tag => {
                    let leaf = Leaf::read(&mut reader, tag).map_err(|error| carried_by(tag, error))?;
                    checked.items += leaf.items();
                    checked.tokens |= tag == tag::TOKEN;
                    None
                }
            },
        };
        if checked.items > limits.items_max {
            return Err(Malformed::TooMany(limits.items_max));
        }
        if let Some(inner) = inner {
            // Each item takes a byte at least, so a length that cannot be true is found before it is believed.
            if inner > reader.remaining() as u64 {
                return Err(Malformed::Truncated);
            }
            if depth == depth_max {
                return Err(Malformed::TooDeep(depth_max as u32));
            }
            around[depth] = left;
            depth += 1;
            left = inner;
        }
    }
}

/// Says which tag an unexpected kind of item stood in.
fn carried_by(tag: u64, error: Malformed) -> Malformed {
    match error {
        Malformed::Expected(_, found) => Malformed::BadTag { tag, found: found.name() },
        other => other,
    }
}
