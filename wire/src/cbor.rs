//! The heads of CBOR items (RFC 8949, section 3), read and written by hand.
//!
//! Frames have a small fixed header around raw payloads. Reading that header through a general
//! decoder costs an allocation and some thirty times the time, so this module reads and writes heads
//! and leaves payloads where they are. It knows nothing of Steward's tags: [`crate::value`] does.
//!
//! Only definite lengths are known here; [`crate::check()`] refuses the others before any of this runs
//! on a received item. A reader never panics, whatever it is given.

use crate::Malformed;

/// The eight major types, as far as a caller must tell them apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Major type 0.
    Unsigned,
    /// Major type 1; the argument is `-1 - n`.
    Negative,
    /// Major type 2.
    Bytes,
    /// Major type 3.
    Text,
    /// Major type 4.
    Array,
    /// Major type 5.
    Map,
    /// Major type 6.
    Tag,
    /// Major type 7 with a one-byte argument: `false`, `true`, `null` and other simple values.
    Simple,
    /// Major type 7 with two, four or eight bytes: a float. The argument holds its bits.
    Float,
}

impl Kind {
    /// The kind in words, for messages.
    pub fn name(self) -> &'static str {
        match self {
            Self::Unsigned => "an unsigned integer",
            Self::Negative => "a negative integer",
            Self::Bytes => "bytes",
            Self::Text => "text",
            Self::Array => "an array",
            Self::Map => "a map",
            Self::Tag => "a tag",
            Self::Simple => "a simple value",
            Self::Float => "a float",
        }
    }
}

/// One head: its kind, its argument and how many bytes the argument took (0, 1, 2, 4 or 8).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// What follows.
    pub kind: Kind,
    /// The number, length, tag or float bits.
    pub argument: u64,
    /// Width of the argument in bytes; 0 when it sat in the first byte.
    pub width: u8,
}

impl Head {
    /// The number, if this is the head of a float (which has no payload).
    pub fn f64(&self) -> Option<f64> {
        if self.kind != Kind::Float {
            return None;
        }
        Some(match self.width {
            2 => f64_of_half(self.argument as u16),
            4 => f64::from(f32::from_bits(self.argument as u32)),
            _ => f64::from_bits(self.argument),
        })
    }
}

/// Widens a half-precision float (RFC 8949, appendix D).
fn f64_of_half(half: u16) -> f64 {
    let (exponent, mantissa) = (i32::from(half >> 10 & 0x1f), f64::from(half & 0x3ff));
    let magnitude = match exponent {
        0 => mantissa * 2f64.powi(-24),
        31 if half & 0x3ff == 0 => f64::INFINITY,
        31 => f64::NAN,
        _ => (mantissa + 1024.0) * 2f64.powi(exponent - 25),
    };
    if half & 0x8000 == 0 { magnitude } else { -magnitude }
}

/// Simple value `false`.
pub const FALSE: u8 = 0xf4;
/// Simple value `true`.
pub const TRUE: u8 = 0xf5;
/// Simple value `null`.
pub const NULL: u8 = 0xf6;

/// Reads heads and payloads from a byte slice, front to back.
#[derive(Clone, Debug)]
pub struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    /// A reader at the start of `bytes`.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    /// How many bytes have been read.
    pub fn position(&self) -> usize {
        self.at
    }

    /// Whether everything has been read.
    pub fn is_empty(&self) -> bool {
        self.at == self.bytes.len()
    }

    /// The next byte, unread.
    pub fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    /// Bytes not read yet.
    pub fn remaining(&self) -> usize {
        self.bytes.len() - self.at
    }

    /// Reads the payload of a string whose head said that it has `length` bytes.
    pub fn payload(&mut self, length: u64) -> Result<&'a [u8], Malformed> {
        self.take(usize::try_from(length).map_err(|_| Malformed::Truncated)?)
    }

    fn take(&mut self, count: usize) -> Result<&'a [u8], Malformed> {
        let end = self.at.checked_add(count).ok_or(Malformed::Truncated)?;
        let taken = self.bytes.get(self.at..end).ok_or(Malformed::Truncated)?;
        self.at = end;
        Ok(taken)
    }

    /// Reads one head.
    #[inline]
    pub fn head(&mut self) -> Result<Head, Malformed> {
        let first = *self.bytes.get(self.at).ok_or(Malformed::Truncated)?;
        self.at += 1;
        let (argument, width) = match first & 0x1f {
            // Most heads end here.
            small @ 0..=23 => (u64::from(small), 0),
            24 => (u64::from(u8::from_be_bytes(self.array_of()?)), 1),
            25 => (u64::from(u16::from_be_bytes(self.array_of()?)), 2),
            26 => (u64::from(u32::from_be_bytes(self.array_of()?)), 4),
            27 => (u64::from_be_bytes(self.array_of()?), 8),
            31 => return Err(Malformed::Indefinite),
            _ => return Err(Malformed::Reserved(first)),
        };
        let kind = match first >> 5 {
            0 => Kind::Unsigned,
            1 => Kind::Negative,
            2 => Kind::Bytes,
            3 => Kind::Text,
            4 => Kind::Array,
            5 => Kind::Map,
            6 => Kind::Tag,
            _ if width >= 2 => Kind::Float,
            _ => Kind::Simple,
        };
        Ok(Head { kind, argument, width })
    }

    /// What has been read since `start`, an earlier [`Self::position`].
    ///
    /// # Panics
    /// If `start` lies ahead.
    pub fn since(&self, start: usize) -> &'a [u8] {
        &self.bytes[start..self.at]
    }

    #[inline]
    fn array_of<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let taken = *self.bytes[self.at..].first_chunk::<N>().ok_or(Malformed::Truncated)?;
        self.at += N;
        Ok(taken)
    }

    fn expect(&mut self, kind: Kind) -> Result<u64, Malformed> {
        let head = self.head()?;
        if head.kind == kind { Ok(head.argument) } else { Err(Malformed::Expected(kind, head.kind)) }
    }

    /// Reads an unsigned integer.
    pub fn u64(&mut self) -> Result<u64, Malformed> {
        self.expect(Kind::Unsigned)
    }

    /// Reads a byte string.
    pub fn bytes(&mut self) -> Result<&'a [u8], Malformed> {
        let length = self.expect(Kind::Bytes)?;
        self.payload(length)
    }

    /// Reads a text string.
    pub fn text(&mut self) -> Result<&'a str, Malformed> {
        let length = self.expect(Kind::Text)?;
        let bytes = self.payload(length)?;
        std::str::from_utf8(bytes).map_err(|_| Malformed::NotUtf8)
    }

    /// Reads the head of an array and returns its number of items.
    pub fn array(&mut self) -> Result<usize, Malformed> {
        usize::try_from(self.expect(Kind::Array)?).map_err(|_| Malformed::Truncated)
    }

    /// Reads the head of a map and returns its number of pairs.
    pub fn map(&mut self) -> Result<usize, Malformed> {
        usize::try_from(self.expect(Kind::Map)?).map_err(|_| Malformed::Truncated)
    }

    /// Reads a float of any width, widened to a double.
    pub fn f64(&mut self) -> Result<f64, Malformed> {
        let head = self.head()?;
        head.f64().ok_or(Malformed::Expected(Kind::Float, head.kind))
    }

    /// Reads an integer that fits 64 bits with sign.
    ///
    /// # Errors
    /// [`Malformed::OutOfRange`] if it does not fit.
    pub fn i64(&mut self) -> Result<i64, Malformed> {
        let head = self.head()?;
        let magnitude = i64::try_from(head.argument).map_err(|_| Malformed::OutOfRange("an integer of 64 bits"));
        match head.kind {
            Kind::Unsigned => magnitude,
            Kind::Negative => magnitude.map(|n| -1 - n),
            other => Err(Malformed::Expected(Kind::Unsigned, other)),
        }
    }

    /// Reads `null` if it is next; says whether it was.
    pub fn null(&mut self) -> bool {
        let is_null = self.peek() == Some(NULL);
        self.at += usize::from(is_null);
        is_null
    }

    /// Reads a boolean.
    pub fn bool(&mut self) -> Result<bool, Malformed> {
        match self.take(1)?[0] {
            FALSE => Ok(false),
            TRUE => Ok(true),
            other => Err(Malformed::Reserved(other)),
        }
    }

    /// Skips one whole item and returns its bytes, without looking inside texts or numbers.
    pub fn raw(&mut self) -> Result<&'a [u8], Malformed> {
        let start = self.at;
        // Items still to be skipped. It cannot overflow: every head adds at most as many as bytes are left.
        let mut open: u64 = 1;
        while open > 0 {
            open -= 1;
            let head = self.head()?;
            let inner = match head.kind {
                Kind::Tag => 1,
                Kind::Array => head.argument,
                Kind::Map => head.argument.checked_mul(2).ok_or(Malformed::Truncated)?,
                Kind::Bytes | Kind::Text => {
                    self.payload(head.argument)?;
                    0
                }
                _ => 0,
            };
            if inner > self.remaining() as u64 {
                return Err(Malformed::Truncated);
            }
            open += inner;
        }
        Ok(self.since(start))
    }
}

fn put_head(out: &mut Vec<u8>, major: u8, argument: u64) {
    let major = major << 5;
    match argument {
        0..=23 => out.push(major | argument as u8),
        24..=0xff => out.extend_from_slice(&[major | 24, argument as u8]),
        0x100..=0xffff => {
            out.push(major | 25);
            out.extend_from_slice(&(argument as u16).to_be_bytes());
        }
        0x1_0000..=0xffff_ffff => {
            out.push(major | 26);
            out.extend_from_slice(&(argument as u32).to_be_bytes());
        }
        _ => {
            out.push(major | 27);
            out.extend_from_slice(&argument.to_be_bytes());
        }
    }
}

/// Appends an unsigned integer.
pub fn put_u64(out: &mut Vec<u8>, value: u64) {
    put_head(out, 0, value);
}

/// Appends a signed integer.
pub fn put_i64(out: &mut Vec<u8>, value: i64) {
    if value >= 0 { put_head(out, 0, value as u64) } else { put_head(out, 1, !value as u64) }
}

/// Appends the negative integer `-1 - n`.
pub fn put_negative(out: &mut Vec<u8>, n: u64) {
    put_head(out, 1, n);
}

/// Appends a byte string.
pub fn put_bytes(out: &mut Vec<u8>, value: &[u8]) {
    put_head(out, 2, value.len() as u64);
    out.extend_from_slice(value);
}

/// Appends a text string.
pub fn put_text(out: &mut Vec<u8>, value: &str) {
    put_head(out, 3, value.len() as u64);
    out.extend_from_slice(value.as_bytes());
}

/// Appends the head of an array of `items` items, which the caller appends next.
pub fn put_array(out: &mut Vec<u8>, items: usize) {
    put_head(out, 4, items as u64);
}

/// Appends the head of a map of `pairs` pairs, which the caller appends next.
pub fn put_map(out: &mut Vec<u8>, pairs: usize) {
    put_head(out, 5, pairs as u64);
}

/// Appends a tag; the tagged item follows.
pub fn put_tag(out: &mut Vec<u8>, tag: u64) {
    put_head(out, 6, tag);
}

/// Appends `true` or `false`.
pub fn put_bool(out: &mut Vec<u8>, value: bool) {
    out.push(if value { TRUE } else { FALSE });
}

/// Appends `null`.
pub fn put_null(out: &mut Vec<u8>) {
    out.push(NULL);
}

/// Appends a double, always in eight bytes, so that equal floats have equal encodings.
pub fn put_f64(out: &mut Vec<u8>, value: f64) {
    out.push(0xfb);
    out.extend_from_slice(&value.to_bits().to_be_bytes());
}
