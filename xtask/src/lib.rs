//! What building and testing Steward needs beyond cargo: `cargo xtask help`.
//!
//! One file a command. What a command does is also a function here, for tests and demonstrations that need its
//! result.

pub mod bench;
pub mod demo;
pub mod faults;
pub mod plugins;
pub mod sim;
mod steps;
pub mod test;

use std::path::Path;

/// The checkout.
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("this package is a folder of the checkout")
}
