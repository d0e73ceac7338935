//! Versions below which dependencies have published flaws that matter here.

use std::path::Path;

fn locked(lock: &str, name: &str) -> Vec<(u64, u64, u64)> {
    let heading = format!("name = \"{name}\"");
    let mut versions = Vec::new();
    let mut lines = lock.lines();
    while let Some(line) = lines.next() {
        if line == heading {
            let version = lines.next().and_then(|line| line.strip_prefix("version = \"")?.strip_suffix('"'));
            let version = version.expect("a package has a version").split(['-', '+']).next().expect("a first part");
            let parts: Vec<u64> = version.split('.').map(|part| part.parse().expect("a number")).collect();
            versions.push((parts[0], parts[1], parts[2]));
        }
    }
    versions
}

#[test]
fn dependencies_are_not_older_than_their_fixes() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../Cargo.lock");
    let lock = std::fs::read_to_string(path).expect("Cargo.lock is part of the sources");
    for (name, floor) in [("wasmtime", (48, 0, 8)), ("quinn-proto", (0, 11, 19)), ("rustls", (0, 23, 46))] {
        let versions = locked(&lock, name);
        assert!(!versions.is_empty(), "{name} is not locked");
        assert!(versions.iter().all(|version| *version >= floor), "{name} {versions:?} is below {floor:?}");
    }
}
