//! Exact arithmetic across number types: what equality, order and keys of numbers rest on.
//!
//! Every finite bool, int, float and Decimal is `digits × 2^two × 10^ten` for whole digits, so two of them
//! compare without rounding. Powers of ten are only ever multiplied out when both numbers
//! have nearly the same magnitude, which bounds the work whatever the exponents are.

use std::cmp::Ordering;

use num_bigint::{BigInt, BigUint, Sign};
use steward_wire::{cbor, value::Decimal};

/// Up to this many bits in its digits, a Decimal compares exactly with every other number.
///
/// Beyond, it equals only a Decimal of the same digits and exponent, and ordering it among numbers of about its
/// magnitude raises `OverflowError`. The same goes for an int beyond, compared with a Decimal.
pub const EXACT_BITS_MAX: u64 = 16_384;

/// A finite number, taken apart.
#[derive(Clone, Debug)]
pub(crate) struct Exact {
    negative: bool,
    digits: BigUint,
    two: i64,
    ten: i64,
}

/// The order of two numbers was not worked out, because it would take numbers beyond [`EXACT_BITS_MAX`].
#[derive(Debug)]
pub(crate) struct TooLarge;

impl From<i64> for Exact {
    fn from(value: i64) -> Self {
        Self { negative: value < 0, digits: value.unsigned_abs().into(), two: 0, ten: 0 }
    }
}

impl From<&BigInt> for Exact {
    fn from(value: &BigInt) -> Self {
        Self { negative: value.sign() == Sign::Minus, digits: value.magnitude().clone(), two: 0, ten: 0 }
    }
}

impl Exact {
    /// The value of a float, `None` unless it is finite.
    pub(crate) fn of_float(value: f64) -> Option<Self> {
        if !value.is_finite() {
            return None;
        }
        // IEEE 754 binary64: subnormals have the exponent of the smallest normal and no hidden bit.
        let bits = value.to_bits();
        let (exponent, fraction) = ((bits >> 52) & 0x7ff, bits & ((1 << 52) - 1));
        let (digits, two) =
            if exponent == 0 { (fraction, -1074) } else { (fraction | (1 << 52), exponent as i64 - 1075) };
        Some(Self { negative: value.is_sign_negative(), digits: digits.into(), two, ten: 0 })
    }

    /// The value of a Decimal, `None` unless it is finite.
    pub(crate) fn of_decimal(value: &Decimal) -> Option<Self> {
        match value {
            Decimal::Finite { negative, digits, exponent } => {
                Some(Self { negative: *negative, digits: digits.magnitude().clone(), two: 0, ten: *exponent })
            }
            Decimal::Infinity { .. } | Decimal::NaN { .. } => None,
        }
    }

    fn is_zero(&self) -> bool {
        self.digits.bits() == 0
    }

    /// -1, 0 or 1.
    fn signum(&self) -> i8 {
        if self.is_zero() {
            0
        } else if self.negative {
            -1
        } else {
            1
        }
    }

    /// Bounds of the base-2 logarithm of a magnitude that is not zero, in units of 10^-18: at least the first,
    /// less than the second.
    fn log2(&self) -> (i128, i128) {
        const ONE: i128 = 1_000_000_000_000_000_000;
        // log2(10) = 3.321928094887362347870…
        const LOG2_TEN: i128 = 3_321_928_094_887_362_347;
        let bits = i128::from(self.digits.bits());
        let (two, ten) = (i128::from(self.two), i128::from(self.ten));
        let rounding = ten.abs();
        let power = ten * LOG2_TEN;
        ((bits - 1 + two) * ONE + power - rounding, (bits + two) * ONE + power + rounding)
    }

    /// Which of two numbers is greater.
    ///
    /// # Errors
    /// [`TooLarge`] if a Decimal is among them, their magnitudes are close, and one exceeds [`EXACT_BITS_MAX`].
    pub(crate) fn order(&self, other: &Self) -> Result<Ordering, TooLarge> {
        let (sign, other_sign) = (self.signum(), other.signum());
        if sign != other_sign || sign == 0 {
            return Ok(sign.cmp(&other_sign));
        }
        let magnitudes = self.order_magnitudes(other)?;
        Ok(if self.negative { magnitudes.reverse() } else { magnitudes })
    }

    fn order_magnitudes(&self, other: &Self) -> Result<Ordering, TooLarge> {
        let ((low, high), (other_low, other_high)) = (self.log2(), other.log2());
        if high <= other_low {
            return Ok(Ordering::Less);
        }
        if other_high <= low {
            return Ok(Ordering::Greater);
        }
        // Magnitudes within a factor of four, or so far out that the logarithm's rounding hides
        // it: then the exponents differ by more than the digits can make up for.
        let (two, ten) = (self.two.min(other.two), self.ten.min(other.ten));
        if self.ten != other.ten && self.digits.bits().max(other.digits.bits()) > EXACT_BITS_MAX {
            return Err(TooLarge);
        }
        let scaled = |number: &Self| {
            let tens = u32::try_from(number.ten - ten).expect("close magnitudes have close exponents");
            (&number.digits * BigUint::from(10u8).pow(tens)) << (number.two - two)
        };
        Ok(scaled(self).cmp(&scaled(other)))
    }

    /// Appends what equal numbers have in common: bytes that are the same exactly for equal numbers.
    ///
    /// Whole numbers of up to 64 bits appear as their CBOR encoding. Others are `n × 2^a × 5^b` with `n` free of both
    /// primes, behind 0xff, which starts no CBOR item.
    pub(crate) fn put_key(&self, out: &mut Vec<u8>) {
        if self.is_zero() {
            return cbor::put_u64(out, 0);
        }
        let mut two = i128::from(self.two) + i128::from(self.ten);
        let mut five = i128::from(self.ten);
        let mut digits = self.digits.clone();
        let twos = digits.trailing_zeros().expect("digits are not zero");
        digits >>= twos;
        two += i128::from(twos);
        // Finding the fives of huge digits takes long: such numbers keep the ones they have.
        let is_huge = self.digits.bits() > EXACT_BITS_MAX;
        if !is_huge {
            five += i128::from(strip_fives(&mut digits));
        }
        if two >= 0 && five >= 0 && i128::from(digits.bits()) + two + 2 * five <= 128 {
            let whole = (digits.clone() * BigUint::from(5u8).pow(five as u32)) << two as u64;
            if let Ok(whole) = u64::try_from(whole) {
                return match (self.negative, whole) {
                    (false, whole) => cbor::put_u64(out, whole),
                    (true, whole) => put_negative(out, whole),
                };
            }
        }
        out.extend_from_slice(&[0xff, if is_huge { b'N' } else { b'n' }, u8::from(self.negative)]);
        out.extend_from_slice(&two.to_be_bytes());
        out.extend_from_slice(&five.to_be_bytes());
        cbor::put_bytes(out, &digits.to_bytes_be());
    }
}

/// Appends the CBOR integer `-magnitude`, for a magnitude of at least 1.
fn put_negative(out: &mut Vec<u8>, magnitude: u64) {
    let start = out.len();
    cbor::put_u64(out, magnitude - 1);
    // Major type 1 differs from 0 in this one bit.
    out[start] |= 0x20;
}

/// Divides by five as often as possible without remainder and returns how often.
fn strip_fives(digits: &mut BigUint) -> u64 {
    let zero = BigUint::ZERO;
    let mut powers = vec![BigUint::from(5u8)];
    while (&*digits % powers.last().expect("never empty")) == zero {
        let last = powers.last().expect("never empty");
        powers.push(last * last);
    }
    // The last power does not divide: what is left of fives is a sum of the smaller ones.
    let mut stripped = 0;
    for (index, power) in powers.iter().enumerate().rev().skip(1) {
        if (&*digits % power) == zero {
            *digits /= power;
            stripped += 1 << index;
        }
    }
    stripped
}

/// How a number as Python has it relates to others.
#[derive(Clone, Debug)]
pub(crate) enum Number {
    /// A finite one.
    Finite(Exact),
    /// Infinity; true if negative.
    Infinite(bool),
    /// Not a number.
    NaN,
}

impl Number {
    /// A float as a number.
    pub(crate) fn of_float(value: f64) -> Self {
        match Exact::of_float(value) {
            Some(exact) => Self::Finite(exact),
            None if value.is_nan() => Self::NaN,
            None => Self::Infinite(value < 0.0),
        }
    }

    /// A Decimal as a number.
    pub(crate) fn of_decimal(value: &Decimal) -> Self {
        match value {
            Decimal::Finite { .. } => Self::Finite(Exact::of_decimal(value).expect("it is finite")),
            Decimal::Infinity { negative } => Self::Infinite(*negative),
            Decimal::NaN { .. } => Self::NaN,
        }
    }

    /// Which is greater; `None` if one is not a number.
    pub(crate) fn order(&self, other: &Self) -> Result<Option<Ordering>, TooLarge> {
        let beyond = |negative: &bool| if *negative { Ordering::Less } else { Ordering::Greater };
        Ok(Some(match (self, other) {
            (Self::NaN, _) | (_, Self::NaN) => return Ok(None),
            (Self::Infinite(a), Self::Infinite(b)) => b.cmp(a),
            (Self::Infinite(negative), Self::Finite(_)) => beyond(negative),
            (Self::Finite(_), Self::Infinite(negative)) => beyond(negative).reverse(),
            (Self::Finite(a), Self::Finite(b)) => a.order(b)?,
        }))
    }

    /// Appends what equal numbers have in common and says whether there is such a thing: NaN equals nothing.
    pub(crate) fn put_key(&self, out: &mut Vec<u8>) -> bool {
        match self {
            Self::Finite(exact) => exact.put_key(out),
            Self::Infinite(negative) => out.extend_from_slice(&[0xff, b'i', u8::from(*negative)]),
            Self::NaN => return false,
        }
        true
    }
}
