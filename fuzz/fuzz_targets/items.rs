//! Any bytes as an item: validated, decoded, searched for tokens.
#![no_main]

use libfuzzer_sys::fuzz_target;

// The very functions that the tests on stable run.
#[path = "../../wire/tests/wire/properties.rs"]
#[allow(dead_code, reason = "each target runs one of the properties")]
mod properties;

fuzz_target!(|bytes: &[u8]| properties::item(bytes));
