//! The native tests of the Go SDK and of every plugin in Go, and the SDK's manual, followed to the letter.
#![allow(missing_docs, reason = "a test")]

use std::fs;
use std::path::{Path, PathBuf};

use steward_build::{BuildError, Language, Toolchains, go};

fn checkout() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).expect("this package lies in the checkout")
}

/// A fresh folder for this test.
fn folder(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder).unwrap();
    folder
}

fn toolchains() -> Toolchains {
    // target/tmp
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().expect("the folder lies in the target folder");
    Toolchains { dir: target.join("tools"), fetch: true, say: |what| eprintln!("{what}") }
}

#[test]
fn sdk_and_plugins_in_go_pass_their_native_tests() {
    go::test(&checkout().join("guest-sdk/go"), &toolchains()).unwrap();
    let mut ran = 0;
    for around in ["plugins", "tests/guests"] {
        for entry in checkout().join(around).read_dir().unwrap() {
            let folder = entry.unwrap().path();
            if go::is_project(&folder) {
                go::test(&folder, &toolchains()).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
                ran += 1;
            }
        }
    }
    assert!(ran >= 3, "{ran} plugins are in Go");
}

/// The project that the manual writes: the block after each file's name.
fn project(name: &str) -> PathBuf {
    let manual = fs::read_to_string(checkout().join("guest-sdk/go/README.md")).unwrap();
    let folder = folder(name);
    for file in ["go.mod", "main.go", "main_test.go"] {
        let (_, after) = manual.split_once(&format!("\n`{file}`")).expect("the manual shows the file");
        let block = after.split("```").nth(1).expect("a block follows").split_once('\n').expect("a block has lines").1;
        fs::write(folder.join(file), block.replace('…', checkout().to_str().unwrap())).unwrap();
    }
    folder
}

#[test]
fn manual_s_example_passes_its_test_and_becomes_a_component() {
    let project = project("turnstile");
    go::test(&project, &toolchains()).unwrap();
    let component = go::build(&project, &folder("turnstile-work"), &toolchains()).unwrap();
    let text = String::from_utf8_lossy(&component);
    assert!(text.contains("sdk go 0.1.0\nworld 0.1.0\n"), "it says what it was made with");
    assert!(text.contains("Gives a place back.") && !text.contains("Leave gives"), "it has its documentation");
    assert!(!project.join("steward_gen.go").exists(), "nothing is written into the project");
}

/// Names of packages that Go has itself, and one that cannot be imported.
#[test]
fn project_may_be_called_as_a_package_of_go_s() {
    for name in ["sort", "testing", "main", "std"] {
        let project = folder(&format!("named-{name}"));
        steward_build::new(&project, name, Language::Go, false).unwrap();
        go::test(&project, &toolchains()).unwrap_or_else(|error| panic!("{name}: {error}"));
    }
}

#[test]
fn what_does_not_compile_is_said_to() {
    let project = project("broken");
    fs::write(project.join("more.go"), "package main\n\nvar x int = \"\"\n").unwrap();
    let error = go::build(&project, &folder("broken-work"), &toolchains()).unwrap_err();
    assert!(matches!(error, BuildError::Compile { .. }), "{error}");
    assert_eq!(error.to_string(), "go build failed: exit status: 1");
}
