//! Assembles the adapter that stands in for a system under Go's runtime.

use std::path::{Path, PathBuf};

fn file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

fn assembled() -> Vec<u8> {
    wat::parse_file(file("adapter.wat")).unwrap_or_else(|error| panic!("{error}"))
}

fn main() {
    std::fs::write(file("adapter.wasm"), assembled()).expect("adapter.wasm can be written");
}

#[test]
fn adapter_is_what_its_source_says() {
    let kept = std::fs::read(file("adapter.wasm")).expect("adapter.wasm can be read");
    assert!(kept == assembled(), "adapter.wat has changed: cargo run");
}
