//! Rust: cargo, and a standard library for WebAssembly.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::{BuildError, Profile, Toolchains, inspect, wrap};

/// What guests are compiled for: WebAssembly without a system, so that a component imports only what the world lends.
const TARGET: &str = "wasm32-unknown-unknown";

/// Builds std from Debian's copy of its source, where rustup cannot fetch it.
const WASM_STD: &str = include_str!("wasm-std.sh");

pub(crate) fn build(folder: &Path, toolchains: &Toolchains, profile: Profile) -> Result<Vec<u8>, BuildError> {
    ensure_target(folder, toolchains)?;
    let mut cargo = Command::new(cargo());
    cargo.args(["rustc", "--lib", "--crate-type", "cdylib", "--target", TARGET, "--quiet"]);
    cargo.arg("--message-format=json-render-diagnostics");
    // Given here, so that an author's manifest need not know: fast code, a panic is a trap, a stack of 32 KiB in place of 1 MiB,
    // which every object would have.
    let profile_name = match profile {
        Profile::Release => {
            cargo.arg("--release");
            for setting in ["opt-level=3", "lto=true", "codegen-units=1", "strip='symbols'"] {
                cargo.arg("--config").arg(format!("profile.release.{setting}"));
            }
            "release"
        }
        Profile::Debug => {
            cargo.args(["--config", "profile.dev.opt-level=1"]);
            "dev"
        }
    };
    cargo.arg("--config").arg(format!("profile.{profile_name}.panic='abort'"));
    cargo.arg("--config").arg(format!("target.{TARGET}.rustflags=['-C','link-arg=-zstack-size=32768']"));
    // Flags of the environment are the machine's, and would replace these.
    cargo.env_remove("RUSTFLAGS").env_remove("CARGO_ENCODED_RUSTFLAGS");
    cargo.current_dir(folder).stdin(Stdio::null()).stderr(Stdio::inherit());
    let output = cargo.output().map_err(no_cargo)?;
    if !output.status.success() {
        return Err(BuildError::Compile { what: "cargo".into(), status: output.status.to_string() });
    }
    let module = module(&output.stdout)
        .ok_or_else(|| BuildError::Component("cargo has built no module: a plugin is a library".into()))?;
    let bytes =
        fs::read(&module).map_err(|cause| BuildError::io(format!("cannot read {}", module.display()), cause))?;
    let component = wrap(&bytes, None)?;
    if inspect(&component)?.exported_world().is_none() {
        let what = "it offers no types: `steward_guest::export!(Type);` makes a plugin of a library";
        return Err(BuildError::Component(what.into()));
    }
    Ok(component)
}

/// Runs the tests of the project in a folder, natively.
pub(crate) fn test(folder: &Path) -> Result<(), BuildError> {
    let mut cargo = Command::new(cargo());
    cargo.args(["test", "--quiet"]).current_dir(folder).stdin(Stdio::null());
    // Standard output is for data.
    let output = cargo.stderr(Stdio::inherit()).output().map_err(no_cargo)?;
    eprint!("{}", String::from_utf8_lossy(&output.stdout));
    match output.status.success() {
        true => Ok(()),
        false => Err(BuildError::Compile { what: "cargo test".into(), status: output.status.to_string() }),
    }
}

/// The module that cargo built last, by its own account.
fn module(account: &[u8]) -> Option<PathBuf> {
    let lines = account.split(|byte| *byte == b'\n').filter_map(|line| serde_json::from_slice::<Value>(line).ok());
    let files = lines.flat_map(|message| match message["filenames"].as_array() {
        Some(files) => files.clone(),
        None => Vec::new(),
    });
    files.filter_map(|file| file.as_str().map(PathBuf::from)).rfind(|file| file.extension() == Some("wasm".as_ref()))
}

/// Makes sure that the rustc of a folder can compile for WebAssembly: as it is, by rustup, or from Debian's copy of std's source.
///
/// # Errors
/// [`BuildError::Missing`] if there is no Rust, or no such standard library and none is to be fetched or can be.
pub fn ensure_target(folder: &Path, toolchains: &Toolchains) -> Result<(), BuildError> {
    if target_is_present(folder)? {
        return Ok(());
    }
    let missing = |fix: &str| BuildError::Missing { what: format!("Rust's std for {TARGET}"), fix: fix.into() };
    if !toolchains.fetch {
        return Err(missing("steward build --fetch"));
    }
    (toolchains.say)(&format!("rustc has no std for {TARGET}: asking rustup"));
    // rustup talks on stdout, too, which is for data.
    let rustup =
        Command::new("rustup").args(["target", "add", TARGET]).current_dir(folder).stdout(Stdio::null()).status();
    if rustup.is_ok_and(|status| status.success()) && target_is_present(folder)? {
        return Ok(());
    }
    (toolchains.say)("rustup cannot add it: building it from Debian's rust-src");
    let script = Command::new("sh").args(["-c", WASM_STD]).current_dir(folder).stdout(Stdio::null()).status();
    if script.is_ok_and(|status| status.success()) && target_is_present(folder)? {
        return Ok(());
    }
    Err(missing(&format!("rustup target add {TARGET}")))
}

fn target_is_present(folder: &Path) -> Result<bool, BuildError> {
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let output = Command::new(rustc)
        .args(["--print", "target-libdir", "--target", TARGET])
        .current_dir(folder)
        .stdin(Stdio::null())
        .output()
        .map_err(no_cargo)?;
    let libraries = PathBuf::from(String::from_utf8_lossy(&output.stdout).trim());
    let Ok(entries) = fs::read_dir(libraries) else { return Ok(false) };
    Ok(entries.flatten().any(|entry| entry.file_name().to_string_lossy().starts_with("libstd-")))
}

fn no_cargo(cause: std::io::Error) -> BuildError {
    if cause.kind() == std::io::ErrorKind::NotFound {
        let fix = "install Rust with rustup: https://rustup.rs".into();
        BuildError::Missing { what: "cargo".into(), fix }
    } else {
        BuildError::io("Rust does not start", cause)
    }
}

fn cargo() -> std::ffi::OsString {
    std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into())
}
