//! The wire, tested from outside: one binary, one module for each area.

mod frames;
mod properties;
mod sign_in;
mod support;
mod values;
mod vectors;
