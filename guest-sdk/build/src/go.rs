//! Plugins in Go: the stock toolchain, without cgo and without a network.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use wit_component::{StringEncoding, embed_component_metadata};
use wit_parser::Resolve;

use crate::start::{Started, start};
use crate::{BuildError, Toolchains};

/// The custom section `steward`, by which tools know the SDK and the world that a component was made with.
const MADE_BY: &str = concat!("sdk go ", env!("CARGO_PKG_VERSION"), "\nworld 0.1.0\n");

/// The world, and what of it the adapter imports.
const WORLD: &str = include_str!("../../../wit/0.1.0/plugin.wit");
const ADAPTER_WORLD: &str = "package steward:adapter;\nworld adapter { import steward:plugin/host@0.1.0; }\n";

/// Stands in for the system that Go's runtime asks for: assembled from the `.wat` beside it, whose own crate checks that.
const ADAPTER: &[u8] = include_bytes!("../../go/adapter/adapter.wasm");

/// What a module imports the adapter's functions from.
const SYSTEM: &str = "wasi_snapshot_preview1";

/// Whether a folder is a plugin in Go.
pub fn is_project(folder: &Path) -> bool {
    folder.join("go.mod").is_file()
}

/// Builds the plugin in a folder. `work` is for what is made on the way.
///
/// # Errors
/// [`BuildError::Missing`] without Go, [`BuildError::Compile`] for what does not compile, [`BuildError::Component`] for what is no plugin.
pub fn build(folder: &Path, work: &Path, toolchains: &Toolchains) -> Result<Vec<u8>, BuildError> {
    let go = Go(toolchains.go()?.program);
    fs::create_dir_all(work).map_err(|cause| BuildError::io(format!("cannot make {}", work.display()), cause))?;
    let [folder, work] = [folder, work].map(|path| path.canonicalize().map_err(io("looking for the project")));
    let (folder, work) = (folder?, work?);

    // What Go's reflection does not know, as a file that is there for the compiler alone.
    let source = run(go.command(&folder).args(["run", "steward.dev/guest/cmd/stewardgen", "."]))?.stdout;
    let generated = work.join("steward_gen.go");
    write_if_changed(&generated, &source)?;
    let overlay = work.join("overlay.json");
    let replaced = format!("{{\"Replace\": {{{}: {}}}}}", quoted(&folder.join("steward_gen.go")), quoted(&generated));
    write_if_changed(&overlay, replaced.as_bytes())?;

    let module = work.join("module.wasm");
    let mut compiler = go.command(&folder);
    compiler.args(["build", "-trimpath", "-buildmode=c-shared", "-ldflags=-s -w"]);
    compiler.arg("-overlay").arg(&overlay).arg("-o").arg(&module).arg(".");
    run(compiler.env("GOOS", "wasip1").env("GOARCH", "wasm"))?;
    component(&fs::read(&module).map_err(io("reading the module"))?, toolchains.say)
}

/// Runs the tests of the plugin in a folder, natively.
///
/// # Errors
/// [`BuildError::Missing`] without Go, [`BuildError::Compile`] if a test fails.
pub fn test(folder: &Path, toolchains: &Toolchains) -> Result<(), BuildError> {
    let go = Go(toolchains.go()?.program);
    // To standard error, as what the compiler says: also of tests that fail.
    run(go.command(folder).args(["test", "./..."]).stdout(std::io::stderr())).map(drop)
}

/// Makes a component of a module that Go has compiled, as it is after its start. `say` is told what that logs.
///
/// # Errors
/// [`BuildError::Component`].
pub fn component(module: &[u8], say: fn(&str)) -> Result<Vec<u8>, BuildError> {
    let Started { mut module, mut adapter } = start(module, (SYSTEM, ADAPTER), say)?;
    append_custom_section(&mut module, "steward", MADE_BY.as_bytes());
    embed(&mut module, "plugin")?;
    embed(&mut adapter, "adapter")?;
    crate::wrap(&module, Some((SYSTEM, &adapter)))
}

/// Notes in a module which world it is for.
fn embed(module: &mut Vec<u8>, world: &str) -> Result<(), BuildError> {
    let mut embed = || {
        let mut resolve = Resolve::default();
        let mut package = resolve.push_str("plugin.wit", WORLD)?;
        if world == "adapter" {
            package = resolve.push_str("adapter.wit", ADAPTER_WORLD)?;
        }
        let world = resolve.select_world(&[package], Some(world))?;
        embed_component_metadata(module, &resolve, world, StringEncoding::UTF8, false)
    };
    embed().map_err(|error| BuildError::Component(format!("{error:#}")))
}

fn append_custom_section(module: &mut Vec<u8>, name: &str, content: &[u8]) {
    let size = 1 + name.len() + content.len();
    let length = u8::try_from(name.len()).expect("the name is short");
    module.push(0);
    // LEB128
    let mut left = size;
    while left >= 0x80 {
        module.push((left & 0x7f) as u8 | 0x80);
        left >>= 7;
    }
    module.push(left as u8);
    module.push(length);
    module.extend_from_slice(name.as_bytes());
    module.extend_from_slice(content);
}

/// A Go toolchain.
struct Go(PathBuf);

impl Go {
    /// A command of Go's, that fetches nothing: neither modules, of which plugins need none, nor another toolchain.
    fn command(&self, folder: &Path) -> Command {
        let mut command = Command::new(&self.0);
        command.current_dir(folder).stdin(Stdio::null());
        command.env("GOFLAGS", "-mod=mod").env("GOTOOLCHAIN", "local").env("GOPROXY", "off").env("GOWORK", "off");
        command.env("CGO_ENABLED", "0").env_remove("GOOS").env_remove("GOARCH").env_remove("GOEXPERIMENT");
        command
    }
}

/// Runs a command, which says on standard error what it has to say.
fn run(command: &mut Command) -> Result<Output, BuildError> {
    let output = command.stderr(Stdio::inherit()).output().map_err(io("starting Go"))?;
    if output.status.success() {
        return Ok(output);
    }
    let words: Vec<_> = command.get_args().take(1).map(|word| word.to_string_lossy().into_owned()).collect();
    Err(BuildError::Compile { what: format!("go {}", words.join(" ")), status: output.status.to_string() })
}

/// Go looks at times of files as well as at contents.
fn write_if_changed(path: &Path, content: &[u8]) -> Result<(), BuildError> {
    if fs::read(path).is_ok_and(|known| known == content) {
        return Ok(());
    }
    fs::write(path, content).map_err(io("writing what the build needs"))
}

/// A path as a text of JSON.
fn quoted(path: &Path) -> String {
    let mut text = String::from('"');
    for c in path.to_string_lossy().chars() {
        match c {
            '"' | '\\' => text.extend(['\\', c]),
            c => text.push(c),
        }
    }
    text + "\""
}

fn io(what: &'static str) -> impl Fn(std::io::Error) -> BuildError {
    move |cause| BuildError::Io { what: what.to_owned(), cause }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn adapter_grants_nothing_but_the_log() {
        let text = String::from_utf8_lossy(ADAPTER);
        assert!(text.contains("steward:plugin/host@0.1.0") && !text.contains("wasi:"));
    }
}
