//! The wire, tested from outside: one binary, one module for each area.

mod sign_in;
mod support;
mod values;
