//! The tags of the protocol. [`crate::check()`] refuses every other one, and these around another shape.
//!
//! The first five are IANA's. The rest are Steward's own, from the range that anybody may use; each is three bytes on
//! the wire. A number once given is never used for something else.
//!
//! | tag | value | carries |
//! |---|---|---|
//! | 2, 3 | integer beyond 64 bits | bytes, big-endian: `n`, and `-1 - n` |
//! | 4 | decimal | `[exponent, digits]`, both integers |
//! | 37 | UUID | 16 bytes |
//! | 258 | set | array |
//! | 54200 | tuple | array |
//! | 54201 | frozen set | array |
//! | 54202 | bytearray | bytes |
//! | 54203 | complex | `[real, imaginary]`, both floats |
//! | 54204 | decimal that tag 4 cannot say | `[form, exponent]`: 0 minus zero, 1 infinity, 2 minus infinity, 3 NaN, 4 signalling NaN; the exponent is 0 but for minus zero |
//! | 54205 | date and time | `[year, month, day, hour, minute, second, microsecond, offset in s or null, fold]` |
//! | 54206 | date | `[year, month, day]` |
//! | 54207 | time of day | `[hour, minute, second, microsecond, offset in s or null, fold]` |
//! | 54208 | duration | `[days, seconds, microseconds]` |
//! | 54209 | array | `[typecode, [elements]]`: a text of one character; integers, floats or texts |
//! | 54210 | token | `[typeid, ident, address or null]` |
//! | 54211 | opaque | `[format, bytes]` |

/// An integer above 64 bits.
pub const POSITIVE_BIGNUM: u64 = 2;
/// A negative integer below 64 bits.
pub const NEGATIVE_BIGNUM: u64 = 3;
/// A finite decimal other than minus zero.
pub const DECIMAL: u64 = 4;
/// A UUID.
pub const UUID: u64 = 37;
/// A set.
pub const SET: u64 = 258;
/// A tuple.
pub const TUPLE: u64 = 54_200;
/// A frozen set.
pub const FROZEN_SET: u64 = 54_201;
/// A bytearray.
pub const BYTE_ARRAY: u64 = 54_202;
/// A complex number.
pub const COMPLEX: u64 = 54_203;
/// Minus zero, the infinities and the NaNs of decimals.
pub const SPECIAL_DECIMAL: u64 = 54_204;
/// A date and a time of day.
pub const DATE_TIME: u64 = 54_205;
/// A date.
pub const DATE: u64 = 54_206;
/// A time of day.
pub const TIME: u64 = 54_207;
/// A duration.
pub const TIME_DELTA: u64 = 54_208;
/// A typed array.
pub const ARRAY: u64 = 54_209;
/// A token.
pub const TOKEN: u64 = 54_210;
/// Something that only clients understand.
pub const OPAQUE: u64 = 54_211;
