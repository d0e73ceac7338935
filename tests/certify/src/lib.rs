//! The certificate checker: was what many clients saw, under faults, one sequential history of each object?
//!
//! Clients record what they called and what came of it ([`history`]); afterwards the records of all are checked together.
#![forbid(unsafe_code)]

pub mod history;

pub use history::{At, Grant, Log, ObjectMade, Operation, Outcome, Record, SessionEnd};
