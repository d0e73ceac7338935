//! What Steward's client and host say to each other, as pure data: values, frames, tokens, faults
//! and the sign-in handshake.
//!
//! Everything here is a function from bytes to values or back. There is no I/O, no clock and no
//! randomness in this crate; callers bring all three.

#![forbid(unsafe_code)]

pub mod address;
pub mod auth;
pub mod cbor;
pub mod check;
pub mod describe;
pub mod fault;
pub mod frame;
mod spread;
pub mod token;
pub mod value;

pub use address::Address;
pub use check::{Checked, Limits, Malformed, check};
pub use fault::{Effect, Fault};
pub use spread::Spread;
pub use token::{Ident, Token, TokenRef};
pub use value::Value;
