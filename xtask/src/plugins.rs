//! `cargo xtask plugins`: builds every plugin of this checkout as a component.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use steward_build::{Language, Profile, Toolchains};

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
    let (rust, others): (BTreeMap<_, _>, _) =
        packages.into_iter().partition(|(_, folder)| folder.join("Cargo.toml").is_file());
    let mut components = BTreeMap::new();
    if !rust.is_empty() {
        // All in one go: cargo is quickest so.
        steward_build::ensure_target(crate::root(), &toolchains())?;
        let modules = build_modules(rust.values())?;
        for (name, folder) in rust {
            let module = modules.get(&folder).with_context(|| format!("plugin `{name}` is not a cdylib"))?;
            components.insert(name.clone(), make_component(&name, module)?);
        }
    }
    for (name, folder) in others {
        let bytes = steward_build::build(&folder, &toolchains(), Profile::Release);
        let bytes = bytes.with_context(|| format!("plugin `{name}` cannot be built"))?;
        let component = target_folder().join("plugins").join(format!("{name}.wasm"));
        // Left as it is if it is the same, so that nobody takes it for a new one.
        if !fs::read(&component).is_ok_and(|known| known == bytes) {
            steward_build::write_whole(&component, &bytes)?;
        }
        components.insert(name, component);
    }
    Ok(components.into_iter().map(|(name, component)| Plugin { name, component }).collect())
}

/// The component of one plugin, built if need be.
///
/// # Errors
/// As [`build`].
pub fn component(name: &str) -> Result<PathBuf> {
    Ok(build(&[name.to_owned()])?.remove(0).component)
}

/// Toolchains of the machine, and those that are fetched for this checkout alone.
fn toolchains() -> Toolchains {
    Toolchains { dir: target_folder().join("tools"), fetch: true, say: |line| eprintln!("{line}") }
}

/// Where cargo puts what it builds.
fn target_folder() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| crate::root().join("target"), PathBuf::from)
}

/// The folders of all plugins, by name.
fn packages() -> Result<BTreeMap<String, PathBuf>> {
    let mut packages = BTreeMap::new();
    for folder in FOLDERS {
        let folder = crate::root().join(folder);
        let Ok(entries) = fs::read_dir(&folder) else { continue };
        for entry in entries {
            let path = entry?.path();
            if Language::of(&path).is_some() {
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
fn build_modules<'a>(folders: impl Iterator<Item = &'a PathBuf>) -> Result<BTreeMap<PathBuf, PathBuf>> {
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

/// Wraps a core module as `plugins/NAME.wasm` of the target folder, unless it is younger than the module and than this program.
fn make_component(name: &str, module: &Path) -> Result<PathBuf> {
    // target/wasm32-unknown-unknown/guest/NAME.wasm
    let target = module.ancestors().nth(3).with_context(|| format!("{} is in no target folder", module.display()))?;
    let component = target.join("plugins").join(format!("{name}.wasm"));
    let changed = |path: &Path| fs::metadata(path).and_then(|metadata| metadata.modified());
    let program = std::env::current_exe()?;
    let is_older = |path: &Path, made| changed(path).is_ok_and(|built| built < made);
    if changed(&component).is_ok_and(|made| is_older(module, made) && is_older(&program, made)) {
        return Ok(component);
    }

    let wrapped = steward_build::wrap(&fs::read(module)?, None);
    let bytes = wrapped.with_context(|| format!("plugin `{name}` cannot be built"))?;
    steward_build::write_whole(&component, &bytes)?;
    Ok(component)
}
