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

/// What the page for authors shows first is a plugin, and its test passes.
#[test]
fn example_of_the_readme_builds_and_passes_its_test() {
    let sdk = root().join("guest-sdk/c");
    let readme = std::fs::read_to_string(sdk.join("README.md")).unwrap();
    let example = |holds: &str| {
        let mut blocks = readme.split("```c\n").skip(1).map(|block| block.split("```").next().unwrap());
        blocks.find(|block| block.contains(holds)).unwrap().to_owned()
    };
    let folder = tempfile::tempdir_in(toolchains().dir).unwrap();
    std::fs::write(folder.path().join("turnstile.c"), example("ST_PLUGIN")).unwrap();
    std::fs::create_dir_all(folder.path().join(".steward/guest-sdk")).unwrap();
    std::os::unix::fs::symlink(&sdk, folder.path().join(".steward/guest-sdk/c")).unwrap();
    c::build(folder.path(), &toolchains()).unwrap();
    let test = folder.path().join("test/turnstile_test.c");
    std::fs::create_dir(test.parent().unwrap()).unwrap();
    std::fs::write(&test, example("st_test_end")).unwrap();
    c::test(folder.path(), &test, &toolchains()).unwrap();
}

#[test]
fn project_without_the_sdk_is_told_so() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("plugin.c"), "").unwrap();
    let error = c::build(folder.path(), &toolchains()).unwrap_err().to_string();
    assert!(error.starts_with("the C SDK not found\n  fix: "), "{error}");
}
