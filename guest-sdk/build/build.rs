//! Lists the sources of the SDKs, which `steward new` unpacks into projects, so that the program carries them.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

/// Folders whose files belong to an SDK, from the root of the checkout.
const FOLDERS: [&str; 5] = ["wire", "wit", "guest-sdk/rust", "guest-sdk/c", "guest-sdk/go"];

/// What is made by building and testing, or is needed for nothing else.
const LEFT_OUT: [&str; 6] = ["target", "adapter", "tests", "testdata", "fuzz", "proptest-regressions"];

fn main() {
    let root = manifest_dir().join("../..").canonicalize().expect("the checkout is there");
    let mut files = vec![root.join("Cargo.toml"), root.join("Cargo.lock")];
    files.iter().for_each(|file| println!("cargo::rerun-if-changed={}", file.display()));
    for folder in FOLDERS {
        // Cargo looks at all files of a folder; one that is not there yet would make it run this every time.
        if root.join(folder).is_dir() {
            println!("cargo::rerun-if-changed={}", root.join(folder).display());
            collect(&root.join(folder), &mut files);
        }
    }
    files.sort();
    let mut list = String::from("&[\n");
    for file in files {
        let path = file.strip_prefix(&root).expect("the file is below the root").to_str().expect("names are UTF-8");
        writeln!(list, "    ({path:?}, include_bytes!({file:?})),").expect("a String takes anything");
    }
    list.push(']');
    let out = PathBuf::from(std::env::var_os("OUT_DIR").expect("cargo says where to write"));
    fs::write(out.join("sdk.rs"), list).expect("cargo's own folder can be written");
}

/// Asked for when this runs, not when it is compiled: a folder of build results may serve several checkouts.
fn manifest_dir() -> PathBuf {
    println!("cargo::rerun-if-env-changed=CARGO_MANIFEST_DIR");
    PathBuf::from(std::env::var_os("CARGO_MANIFEST_DIR").expect("cargo says where the manifest is"))
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("the folder can be read") {
        let path = entry.expect("the folder can be read").path();
        let name = path.file_name().and_then(|name| name.to_str()).expect("names are UTF-8");
        if name.starts_with('.') || LEFT_OUT.contains(&name) || name.ends_with("_test.go") {
            continue;
        }
        if path.is_dir() {
            collect(&path, files);
        } else {
            files.push(path);
        }
    }
}
