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

/// The world, and what of it the module and the adapter have: the adapter exports the module's functions.
const WORLD: &str = include_str!("../../../wit/0.1.0/plugin.wit");
const PARTS: &str = "package steward:go;
world module { import steward:plugin/host@0.1.0; }
world adapter { import steward:plugin/host@0.1.0; export steward:plugin/referent@0.1.0; }
";

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
    embed(&mut module, "module")?;
    embed(&mut adapter, "adapter")?;
    crate::wrap(&module, Some((SYSTEM, &adapter)))
}

/// Notes in a module which of the [`PARTS`] it is.
fn embed(module: &mut Vec<u8>, world: &str) -> Result<(), BuildError> {
    let mut embed = || {
        let mut resolve = Resolve::default();
        resolve.push_str("plugin.wit", WORLD)?;
        let package = resolve.push_str("parts.wit", PARTS)?;
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
    use wasmi::{Engine, Instance, Linker, Memory, Module, Store, Val};

    use super::*;

    #[test]
    fn adapter_grants_nothing_but_the_log() {
        let text = String::from_utf8_lossy(ADAPTER);
        assert!(text.contains("steward:plugin/host@0.1.0") && !text.contains("wasi:"));
    }

    /// Stands for the guest: it hands out memory from 4096 on, and counts how often.
    const GUEST: &str = r#"(module
        (memory (export "memory") 1)
        (global $next (mut i32) (i32.const 4096))
        (global $asked (export "asked") (mut i32) (i32.const 0))
        (func (export "steward_allocate") (param $length i32) (result i32)
            (global.set $asked (i32.add (global.get $asked) (i32.const 1)))
            (global.get $next)
            (global.set $next (i32.add (global.get $next) (local.get $length))))
        (func (export "steward:plugin/referent@0.1.0#describe") (result i32) unreachable)
        (func (export "steward:plugin/referent@0.1.0#[static]object.create")
            (param i32 i32 i32 i32 i64 i64 i32 i32) (result i32) unreachable)
        (func (export "steward:plugin/referent@0.1.0#[static]object.load")
            (param i32 i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32) unreachable)
        (func (export "steward:plugin/referent@0.1.0#[method]object.step")
            (param i32 i64 i64 i32 i64 i32 i64 i64 i32 i32 i32 i32 i32) (result i32) (i32.const 77))
        (func (export "steward:plugin/referent@0.1.0#[method]object.save") (param i32) (result i32) unreachable)
        (func (export "steward:plugin/referent@0.1.0#[dtor]object") (param i32)))"#;

    /// The record of the turn, the room for arguments and that for a line, as the guest of these tests lends them.
    const TURN: u32 = 1024;
    const ROOM: u32 = 2048;
    const ROOM_BYTES: u32 = 64;
    const LINE: u32 = 3072;
    const LINE_BYTES: u32 = 8;
    /// Where the guest's own memory begins.
    const OWN: u32 = 4096;

    /// The adapter beside that guest, and the lines that it has logged.
    struct Adapted {
        store: Store<Vec<String>>,
        guest: Instance,
        memory: Memory,
        adapter: Instance,
    }

    impl Adapted {
        fn new() -> Self {
            let engine = Engine::default();
            let mut store = Store::new(&engine, Vec::new());
            let mut linker = Linker::new(&engine);
            let guest = Module::new(&engine, wat::parse_str(GUEST).unwrap()).unwrap();
            let guest = linker.instantiate_and_start(&mut store, &guest).unwrap();
            linker.instance(&mut store, "__main_module__", guest).unwrap();
            let memory = guest.get_memory(&store, "memory").unwrap();
            linker.define("env", "memory", memory).unwrap();
            let log = move |mut caller: wasmi::Caller<'_, Vec<String>>, _: i32, text: u32, length: u32| {
                let line =
                    String::from_utf8(memory.data(&caller)[text as usize..][..length as usize].to_vec()).unwrap();
                caller.data_mut().push(line);
            };
            linker.func_wrap("steward:plugin/host@0.1.0", "log", log).unwrap();
            let adapter = linker.instantiate_and_start(&mut store, &Module::new(&engine, ADAPTER).unwrap()).unwrap();
            Self { store, guest, memory, adapter }
        }

        fn call<const RESULTS: usize>(&mut self, name: &str, args: &[Val]) -> [Val; RESULTS] {
            let mut results = [const { Val::I32(0) }; RESULTS];
            self.adapter.get_func(&self.store, name).unwrap().call(&mut self.store, args, &mut results).unwrap();
            results
        }

        fn lend(&mut self) {
            let args = [TURN, ROOM, ROOM_BYTES, LINE, LINE_BYTES].map(|arg| Val::I32(arg as i32));
            let [] = self.call("steward_lend", &args);
        }

        fn grown(&mut self, old: u32, old_length: u32, length: u32) -> u32 {
            let args = [old, old_length, 1, length].map(|arg| Val::I32(arg as i32));
            let [Val::I32(at)] = self.call("cabi_realloc", &args) else { panic!("an address") };
            at as u32
        }

        fn allocated(&mut self, length: u32) -> u32 {
            self.grown(0, 0, length)
        }

        fn asked(&self) -> i32 {
            self.guest.get_global(&self.store, "asked").unwrap().get(&self.store).i32().unwrap()
        }

        fn bytes(&mut self, at: u32, length: usize) -> &mut [u8] {
            &mut self.memory.data_mut(&mut self.store)[at as usize..][..length]
        }

        /// What the guest does when a step begins.
        fn turn(&mut self, now_ms: u64, seed: u64) {
            self.bytes(TURN, 8).copy_from_slice(&now_ms.to_le_bytes());
            self.bytes(TURN + 8, 8).copy_from_slice(&seed.to_le_bytes());
            self.bytes(TURN + 16, 8).copy_from_slice(&1_u64.to_le_bytes());
        }

        /// The time by one of the clocks, in nanoseconds.
        fn time(&mut self, clock: i32) -> u64 {
            let [_] = self.call("clock_time_get", &[Val::I32(clock), Val::I64(0), Val::I32(8)]);
            u64::from_le_bytes(self.bytes(8, 8).try_into().unwrap())
        }

        fn random(&mut self) -> u64 {
            let [_] = self.call("random_get", &[Val::I32(8), Val::I32(8)]);
            u64::from_le_bytes(self.bytes(8, 8).try_into().unwrap())
        }

        fn write(&mut self, text: &str) {
            self.bytes(512, text.len()).copy_from_slice(text.as_bytes());
            let piece = [512_u32, text.len() as u32].map(u32::to_le_bytes).concat();
            self.bytes(256, 8).copy_from_slice(&piece);
            let [_] = self.call("fd_write", &[1, 256, 1, 8].map(Val::I32));
        }
    }

    #[test]
    fn lists_lie_side_by_side_in_the_room_that_was_lent() {
        let mut adapted = Adapted::new();
        adapted.lend();
        assert_eq!([5, 0, 16, 1].map(|length| adapted.allocated(length)), [0, 8, 8, 24].map(|at| ROOM + at));
        assert_eq!(adapted.asked(), 0);
        // A step has begun, so that what came with it is the guest's no more.
        adapted.turn(0, 0);
        assert_eq!(adapted.allocated(ROOM_BYTES), ROOM);
        assert_eq!(adapted.asked(), 0);
    }

    #[test]
    fn guest_is_asked_for_what_the_room_has_no_room_for() {
        let mut adapted = Adapted::new();
        adapted.lend();
        assert_eq!(adapted.allocated(ROOM_BYTES + 1), OWN);
        assert_eq!(adapted.allocated(ROOM_BYTES - 9), ROOM);
        assert_eq!((adapted.allocated(9), adapted.asked()), (OWN + ROOM_BYTES + 1, 2));
        assert_eq!((adapted.allocated(3), adapted.asked()), (ROOM + ROOM_BYTES - 8, 2));
        assert_eq!((adapted.allocated(0), adapted.asked()), (ROOM + ROOM_BYTES, 2));
        assert_eq!((adapted.allocated(1), adapted.asked()), (OWN + ROOM_BYTES + 10, 3));
    }

    #[test]
    fn guest_is_asked_for_everything_until_it_has_lent_something() {
        let mut adapted = Adapted::new();
        assert_eq!((adapted.allocated(8), adapted.allocated(8)), (OWN, OWN + 8));
        adapted.lend();
        assert_eq!((adapted.allocated(8), adapted.asked()), (ROOM, 2));
    }

    #[test]
    fn what_grows_keeps_what_it_has() {
        let mut adapted = Adapted::new();
        adapted.lend();
        let mut at = adapted.allocated(4);
        adapted.bytes(at, 4).copy_from_slice(b"abcd");
        let mut length = 4;
        for (longer, place) in [(10, ROOM + 8), (40, ROOM + 24), (100, OWN), (200, OWN + 100)] {
            at = adapted.grown(at, length, longer);
            assert_eq!((at, &*adapted.bytes(at, 4)), (place, &b"abcd"[..]), "{longer} bytes");
            length = longer;
        }
        let shorter = adapted.grown(at, length, 2);
        assert_eq!(adapted.bytes(shorter, 3), b"ab\0", "no more than there is room for");
    }

    #[test]
    fn step_is_the_guest_s_own() {
        let mut adapted = Adapted::new();
        let mut args = [const { Val::I32(0) }; 13];
        for at in [1, 2, 4, 6, 7] {
            args[at] = Val::I64(0);
        }
        let [result] = adapted.call("steward:plugin/referent@0.1.0#[method]object.step", &args);
        assert_eq!(result.i32(), Some(77));
    }

    /// As if the adapter were told of each step.
    #[test]
    fn time_and_chance_are_those_of_the_step() {
        let mut adapted = Adapted::new();
        assert_eq!([adapted.time(0), adapted.time(1), adapted.time(1)], [0, 1_001, 2_001]);
        adapted.lend();
        assert_eq!([adapted.time(0), adapted.time(1)], [0, 3_001], "no step has begun");
        adapted.turn(7, 1);
        let first = [adapted.random(), adapted.random()];
        assert_eq!([adapted.time(1), adapted.time(0), adapted.time(1)], [7_001_000, 7_000_000, 7_002_000]);
        // Nobody asks in this one.
        adapted.turn(8, 2);
        adapted.turn(9, 1);
        assert_eq!(adapted.time(0), 9_000_000);
        assert_eq!([adapted.random(), adapted.random()], first, "by the same seed");
        assert_ne!(adapted.random(), first[1]);
    }

    #[test]
    fn output_is_logged_by_the_line_or_by_the_step() {
        let mut adapted = Adapted::new();
        adapted.write("early");
        adapted.lend();
        adapted.write("one\ntw");
        adapted.write("o\nthree is long");
        assert_eq!(*adapted.store.data(), ["early", "one", "two", "three is"]);
        let [] = adapted.call("steward_flush", &[]);
        let [] = adapted.call("steward_flush", &[]);
        assert_eq!(adapted.store.data()[4..], [" long"]);
    }
}
