//! `cargo xtask plugins`: builds every plugin of this checkout as a component.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;
use steward_build::{Toolchains, go};

/// What guests are compiled for: WebAssembly without a system, so that a component imports only what `wit/` lends.
const TARGET: &str = "wasm32-unknown-unknown";

/// Folders whose packages are plugins.
const FOLDERS: [&str; 2] = ["plugins", "tests/guests"];

/// Builds every plugin in plugins/ and tests/guests/ as target/plugins/NAME.wasm.
#[derive(clap::Args)]
pub struct Plugins {
    /// Plugins to build, by the names of their folders; all, if none is named.
    names: Vec<String>,
}

impl Plugins {
    /// Runs the command: builds, and lists the components with their sizes in bytes.
    pub fn run(&self) -> Result<()> {
        for plugin in build(&self.names)? {
            println!("{}\t{}", plugin.component.display(), fs::metadata(&plugin.component)?.len());
        }
        Ok(())
    }
}

/// A plugin that is built and up to date.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plugin {
    /// The name of its folder.
    pub name: String,
    /// Its component.
    pub component: PathBuf,
}

/// Builds the plugins of these names (all, if none is given) as far as they have changed, in the order of names.
///
/// Safe to call from several processes at once: cargo takes turns, and a component appears whole or not at all.
///
/// # Errors
/// A name that no plugin has, a toolchain that cannot build for WebAssembly, a plugin that does not compile.
pub fn build(names: &[String]) -> Result<Vec<Plugin>> {
    let mut packages = packages()?;
    for name in names {
        ensure!(packages.contains_key(name), "no plugin is called `{name}`; there are {:?}", packages.keys());
    }
    if !names.is_empty() {
        packages.retain(|name, _| names.contains(name));
    }

    let rust: Vec<&PathBuf> = packages.values().filter(|folder| folder.join("Cargo.toml").is_file()).collect();
    let modules = if rust.is_empty() { BTreeMap::new() } else { build_modules(&rust)? };
    let mut plugins = Vec::new();
    for (name, folder) in &packages {
        let component = if go::is_project(folder) {
            make_go(name, folder)?
        } else {
            let module = modules.get(folder).with_context(|| format!("plugin `{name}` is not a cdylib"))?;
            make_component(name, module)?
        };
        plugins.push(Plugin { name: name.clone(), component });
    }
    Ok(plugins)
}

/// The component of one plugin, built if need be.
///
/// # Errors
/// As [`build`].
pub fn component(name: &str) -> Result<PathBuf> {
    Ok(build(&[name.to_owned()])?.remove(0).component)
}

/// Runs the native tests of the Go SDK and of the plugins in Go.
///
/// # Errors
/// A toolchain that is not there, a test that fails.
pub fn test_go() -> Result<()> {
    let plugins = packages()?.into_values().filter(|folder| go::is_project(folder));
    for folder in std::iter::once(crate::root().join("guest-sdk/go")).chain(plugins) {
        go::test(&folder, &toolchains()).with_context(|| format!("tests of {}", folder.display()))?;
    }
    Ok(())
}

/// The folders of all plugins, by name.
fn packages() -> Result<BTreeMap<String, PathBuf>> {
    let mut packages = BTreeMap::new();
    for folder in FOLDERS {
        let folder = crate::root().join(folder);
        let Ok(entries) = fs::read_dir(&folder) else { continue };
        for entry in entries {
            let path = entry?.path();
            if path.join("Cargo.toml").is_file() || go::is_project(&path) {
                let name = path.file_name().expect("an entry of a folder has a name");
                let name = name.to_str().with_context(|| format!("{} is not utf-8", path.display()))?;
                let earlier = packages.insert(name.to_owned(), path.clone());
                ensure!(earlier.is_none(), "two plugins are called `{name}`");
            }
        }
    }
    Ok(packages)
}

/// Compiles core modules, by the folders of their packages.
fn build_modules(folders: &[&PathBuf]) -> Result<BTreeMap<PathBuf, PathBuf>> {
    ensure_target()?;
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.args(["build", "--quiet", "--profile=guest", "--target", TARGET, "--message-format=json-render-diagnostics"]);
    for folder in folders {
        cargo.arg("--package").arg(package_name(folder)?);
    }
    // The flags of .cargo/config.toml count, which these would replace.
    cargo.env_remove("RUSTFLAGS").env_remove("CARGO_ENCODED_RUSTFLAGS");
    cargo.current_dir(crate::root()).stdin(Stdio::null()).stderr(Stdio::inherit());
    let output = cargo.output().context("cargo does not start")?;
    ensure!(output.status.success(), "plugins do not compile: cargo ended with {}", output.status);

    let mut modules = BTreeMap::new();
    for line in output.stdout.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
        let message: Value = serde_json::from_slice(line).context("cargo's account of the build is not JSON")?;
        let manifest = message["manifest_path"].as_str().and_then(|path| Path::new(path).parent());
        let files = message["filenames"].as_array().into_iter().flatten().filter_map(Value::as_str);
        if let (Some(folder), Some(module)) = (manifest, files.into_iter().find(|file| file.ends_with(".wasm"))) {
            modules.insert(folder.to_owned(), PathBuf::from(module));
        }
    }
    Ok(modules)
}

/// The name of the package in a folder of this checkout, whose manifests are plain enough to be read by the line.
fn package_name(folder: &Path) -> Result<String> {
    let manifest = fs::read_to_string(folder.join("Cargo.toml"))?;
    let name = manifest.lines().find_map(|line| line.strip_prefix("name = \"")?.strip_suffix('"'));
    Ok(name.with_context(|| format!("{} names no package", folder.display()))?.to_owned())
}

/// Wraps a core module as `plugins/NAME.wasm` of the target folder, unless it is younger than the module.
fn make_component(name: &str, module: &Path) -> Result<PathBuf> {
    // target/wasm32-unknown-unknown/guest/NAME.wasm
    let target = module.ancestors().nth(3).with_context(|| format!("{} is in no target folder", module.display()))?;
    let component = target.join("plugins").join(format!("{name}.wasm"));
    let changed = |path: &Path| fs::metadata(path).and_then(|metadata| metadata.modified());
    if changed(&component).is_ok_and(|made| changed(module).is_ok_and(|built| built < made)) {
        return Ok(component);
    }

    let wrapped = steward_build::wrap(&fs::read(module)?, None);
    let bytes = wrapped.with_context(|| format!("plugin `{name}` cannot be built"))?;
    write_whole(&component, &bytes)?;
    Ok(component)
}

/// Builds a plugin in Go as `plugins/NAME.wasm` of the target folder. What has not changed Go's own cache knows.
fn make_go(name: &str, folder: &Path) -> Result<PathBuf> {
    let target = target_folder();
    // Each process has its own, since several may build at once.
    let work = target.join("go").join(format!("{name}.{}", std::process::id()));
    let built = go::build(folder, &work, &toolchains());
    let _ = fs::remove_dir_all(&work);
    let bytes = built.with_context(|| format!("plugin `{name}` cannot be built"))?;
    let component = target.join("plugins").join(format!("{name}.wasm"));
    if !fs::read(&component).is_ok_and(|known| known == bytes) {
        write_whole(&component, &bytes)?;
    }
    Ok(component)
}

/// Toolchains of other languages; what is missing is fetched into the target folder.
fn toolchains() -> Toolchains {
    Toolchains { dir: target_folder().join("tools"), fetch: true, say: |what| eprintln!("{what}") }
}

/// Where cargo puts what it builds.
fn target_folder() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| crate::root().join("target"), PathBuf::from)
}

/// Writes a file that appears whole or not at all.
fn write_whole(path: &Path, bytes: &[u8]) -> Result<()> {
    fs::create_dir_all(path.parent().expect("the file has a folder"))?;
    let unfinished = path.with_extension(format!("wasm.{}", std::process::id()));
    fs::write(&unfinished, bytes)?;
    fs::rename(&unfinished, path)?;
    Ok(())
}

/// Makes sure that rustc can compile for [`TARGET`]: as it is, by rustup, or from Debian's copy of std's source.
fn ensure_target() -> Result<()> {
    if target_is_present()? {
        return Ok(());
    }
    eprintln!("rustc has no std for {TARGET}: asking rustup");
    let rustup = Command::new("rustup").args(["target", "add", TARGET]).current_dir(crate::root()).status();
    if rustup.is_ok_and(|status| status.success()) && target_is_present()? {
        return Ok(());
    }
    eprintln!("rustup cannot add it: building it from Debian's rust-src");
    let script = crate::root().join("xtask/wasm-std.sh");
    let status = Command::new("sh").arg(&script).current_dir(crate::root()).status();
    if !(status.is_ok_and(|status| status.success()) && target_is_present()?) {
        bail!(
            "rustc has no std for {TARGET}, and neither rustup nor Debian could give one\n  \
             fix: rustup target add {TARGET}"
        );
    }
    Ok(())
}

fn target_is_present() -> Result<bool> {
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let output = Command::new(rustc)
        .args(["--print", "target-libdir", "--target", TARGET])
        .current_dir(crate::root())
        .output()
        .context("rustc does not start\n  fix: install Rust with rustup (https://rustup.rs)")?;
    let folder = PathBuf::from(String::from_utf8_lossy(&output.stdout).trim());
    let Ok(entries) = fs::read_dir(folder) else { return Ok(false) };
    Ok(entries.flatten().any(|entry| entry.file_name().to_string_lossy().starts_with("libstd-")))
}
