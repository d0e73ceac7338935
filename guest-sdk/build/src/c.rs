//! C: clang or zig for the component, any compiler of the machine for native tests.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use crate::{BuildError, Toolchains, wrap};

/// An object needs little: everything large is on the heap. Below the data, so that an overflow is a trap.
const STACK_BYTES: u32 = 32 * 1024;

const WARNINGS: [&str; 5] = ["-Wall", "-Wextra", "-Wpedantic", "-Wconversion", "-Wshadow"];

/// Whether a folder is a plugin in C: it has sources, and no other language's manifest.
pub fn is_project(folder: &Path) -> bool {
    !folder.join("Cargo.toml").is_file()
        && !folder.join("go.mod").is_file()
        && sources(folder).is_ok_and(|sources| !sources.is_empty())
}

/// Builds the plugin in a folder: its `*.c`, with the SDK in its `.steward/`, or in the checkout around it.
///
/// What the compiler says goes to standard error.
///
/// # Errors
/// [`BuildError::Missing`] without a compiler, [`BuildError::Compile`] for what does not compile, [`BuildError::Component`] for what is no
/// plugin.
pub fn build(folder: &Path, toolchains: &Toolchains) -> Result<Vec<u8>, BuildError> {
    let sdk = sdk(folder)?;
    let work = Work::new(toolchains)?;
    let module = work.0.join("module.wasm");
    let mut compiler = compiler(toolchains)?;
    // For speed: code takes no memory of an object.
    compiler.args(["-std=c11", "-O2", "-mexec-model=reactor"]).args(WARNINGS);
    compiler.arg(format!("-Wl,-z,stack-size={STACK_BYTES}")).args([
        "-Wl,--no-entry",
        "-Wl,--gc-sections",
        "-Wl,--strip-all",
    ]);
    compiler.arg("-I").arg(sdk.join("include")).args(sources(folder)?);
    compiler.args(["src/steward.c", "src/bindings.c", "bindings/plugin_component_type.o"].map(|file| sdk.join(file)));
    run(compiler.arg("-o").arg(&module))?;
    let bytes = fs::read(&module).map_err(io("cannot read the module"))?;
    wrap(&bytes, None)
}

/// Compiles a plugin natively with the sources of a test and the harness, and runs it: with sanitizers, where the compiler has them.
///
/// # Errors
/// As [`build`]; [`BuildError::Compile`], too, if the test fails.
pub fn test(folder: &Path, test: &Path, toolchains: &Toolchains) -> Result<(), BuildError> {
    let sdk = sdk(folder)?;
    let work = Work::new(toolchains)?;
    let program = work.0.join("test");
    let compile = |sanitizers: &[&str]| {
        let mut compiler = native_compiler(toolchains)?;
        compiler.args(["-std=c11", "-g", "-O1", "-Werror"]).args(WARNINGS).args(sanitizers);
        compiler.arg("-I").arg(sdk.join("include")).args(sources(folder)?).arg(test);
        compiler.arg(sdk.join("src/testing.c")).arg("-lm").arg("-o").arg(&program);
        Ok::<_, BuildError>(compiler)
    };
    let sanitizers = ["-fsanitize=address,undefined", "-fno-sanitize-recover=all"];
    // Where a sanitizer's library is missing the linker says so, and there is nothing to learn from its words.
    let sanitized = compile(&sanitizers)?.stderr(Stdio::null()).status().is_ok_and(|status| status.success());
    if !sanitized {
        run(&mut compile(&[])?)?;
    }
    run(&mut Command::new(&program))
}

/// The compiler that would be used.
pub(crate) fn probe(toolchains: &Toolchains) -> Result<String, BuildError> {
    Ok(compiler(toolchains)?.get_program().to_string_lossy().into_owned())
}

/// A compiler that makes WebAssembly: of the machine if it can, else zig.
fn compiler(toolchains: &Toolchains) -> Result<Command, BuildError> {
    for clang in ["clang", "clang-22", "clang-21", "clang-20", "clang-19"] {
        let mut asked = Command::new(clang);
        asked.args(["--target=wasm32-wasi", "-x", "c", "-include", "stdlib.h", "-fsyntax-only", "/dev/null"]);
        // One without a libc for WebAssembly fails here.
        if asked.stdin(Stdio::null()).stderr(Stdio::null()).status().is_ok_and(|status| status.success()) {
            let mut compiler = Command::new(clang);
            // Later ones would have the target called wasm32-wasip1, under which not every libc lies.
            compiler.args(["--target=wasm32-wasi", "-Wno-deprecated", "-nostartfiles", "-Wl,--stack-first"]);
            return Ok(compiler);
        }
    }
    // Its linker puts the stack first by itself.
    let mut compiler = zig(toolchains)?;
    compiler.args(["-target", "wasm32-wasi"]);
    Ok(compiler)
}

fn native_compiler(toolchains: &Toolchains) -> Result<Command, BuildError> {
    let found = ["cc", "clang", "gcc"].into_iter().find(|name| {
        let asked = Command::new(name).arg("--version").stdin(Stdio::null()).stdout(Stdio::null()).status();
        asked.is_ok_and(|status| status.success())
    });
    found.map_or_else(|| zig(toolchains), |name| Ok(Command::new(name)))
}

/// `zig cc`, fetched if need be.
fn zig(toolchains: &Toolchains) -> Result<Command, BuildError> {
    let mut zig = Command::new(toolchains.zig()?.program);
    // It compiles its libc once, and keeps it here and not in somebody's home.
    zig.arg("cc").env("ZIG_GLOBAL_CACHE_DIR", toolchains.dir.join("zig-cache"));
    Ok(zig)
}

/// The SDK that the plugin in a folder is built with.
fn sdk(folder: &Path) -> Result<PathBuf, BuildError> {
    let folder = folder.canonicalize().map_err(io("cannot find the project"))?;
    let own = folder.join(".steward/guest-sdk/c");
    let around = folder.ancestors().map(|ancestor| ancestor.join("guest-sdk/c"));
    std::iter::once(own).chain(around).find(|sdk| sdk.join("include/steward.h").is_file()).ok_or_else(|| {
        BuildError::Missing {
            what: "the C SDK".into(),
            fix: "steward new writes it to a project's .steward folder".into(),
        }
    })
}

/// The sources of a plugin, in the order of their names, so that the same files give the same component.
fn sources(folder: &Path) -> Result<Vec<PathBuf>, BuildError> {
    let read = || {
        let entries = fs::read_dir(folder)?.collect::<Result<Vec<_>, _>>()?;
        let mut sources: Vec<_> = entries.into_iter().map(|entry| entry.path()).collect();
        sources.retain(|path| path.extension().is_some_and(|extension| extension == "c"));
        sources.sort();
        Ok(sources)
    };
    read().map_err(io("cannot read the project's folder"))
}

/// A folder of one build, which goes with it.
struct Work(PathBuf);

impl Work {
    fn new(toolchains: &Toolchains) -> Result<Self, BuildError> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let folder = toolchains.dir.join(format!("c.{}.{number}", std::process::id()));
        fs::create_dir_all(&folder)
            .map_err(|cause| BuildError::io(format!("cannot make {}", folder.display()), cause))?;
        // Compilers name files of their own after it.
        Ok(Self(folder.canonicalize().map_err(io("cannot find the folder"))?))
    }
}

impl Drop for Work {
    fn drop(&mut self) {
        // What is left of it is in nobody's way.
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn run(command: &mut Command) -> Result<(), BuildError> {
    let what = Path::new(command.get_program()).file_name().unwrap_or_default().to_string_lossy().into_owned();
    // Standard output is for data.
    let output = command.stdin(Stdio::null()).stderr(Stdio::inherit()).output();
    let output = output.map_err(|cause| BuildError::Io { what: format!("{what} does not start"), cause })?;
    if output.status.success() {
        return Ok(());
    }
    eprint!("{}", String::from_utf8_lossy(&output.stdout));
    Err(BuildError::Compile { what, status: output.status.to_string() })
}

fn io(what: &'static str) -> impl Fn(std::io::Error) -> BuildError {
    move |cause| BuildError::Io { what: what.into(), cause }
}
