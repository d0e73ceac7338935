//! The native tests of the C SDK and of every plugin in C, compiled as their authors would and run.

use std::path::{Path, PathBuf};

use steward_build::{Toolchains, c};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap()
}

fn toolchains() -> Toolchains {
    // target/PROFILE/deps/this
    let test = std::env::current_exe().unwrap();
    let target = test.ancestors().nth(3).unwrap();
    Toolchains { dir: target.join("tools"), fetch: true, say: |what| eprintln!("{what}") }
}

#[test]
fn plugins_in_c_pass_their_native_tests() {
    let mut ran = 0;
    for around in ["plugins", "tests/guests"] {
        for entry in root().join(around).read_dir().unwrap() {
            let folder = entry.unwrap().path();
            if c::is_project(&folder) {
                let name = folder.file_name().unwrap().to_str().unwrap().replace('-', "_");
                let name = if name == "c" { "guests".to_owned() } else { name };
                c::test(&folder, &folder.join("test").join(format!("{name}_test.c")), &toolchains())
                    .unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
                ran += 1;
            }
        }
    }
    assert!(ran >= 3, "{ran} plugins are in C");
}

#[test]
fn sdk_in_c_passes_its_own_tests() {
    let folder = root().join("guest-sdk/c/test");
    c::test(&folder.join("permits"), &folder.join("sdk_test.c"), &toolchains()).unwrap();
}

/// Nothing but the world's own import, and one page of memory.
#[test]
fn component_is_built_by_whatever_compiler_there_is() {
    let component = c::build(&root().join("guest-sdk/c/test/permits"), &toolchains()).unwrap();
    assert!(component.starts_with(b"\0asm"), "it is a component");
    let imports = component.windows(5).filter(|window| window == b"wasi:" || window == b"wasi_").count();
    assert_eq!(imports, 0, "it asks for no system");
    let made_by = b"sdk c 0.1.0\nworld 0.1.0\n";
    assert!(component.windows(made_by.len()).any(|window| window == made_by), "it says what made it");
}

#[test]
fn project_without_the_sdk_is_told_so() {
    let folder = std::env::temp_dir().join(format!("steward-c-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join("plugin.c"), "").unwrap();
    assert!(c::is_project(&folder));
    let error = c::build(&folder, &toolchains()).unwrap_err().to_string();
    std::fs::remove_dir_all(&folder).unwrap();
    assert!(error.starts_with("the C SDK not found\n  fix: "), "{error}");
}
