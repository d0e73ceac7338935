//! From a component's bytes to types: compiling, keeping, describing, and what is refused on the way.

use std::fs;
use std::io::Write;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use steward_host::guest::{CacheConfig, CompileLimits, Compiler, GuestConfig, GuestError, Guests};
use steward_wire::describe::ParamKind;
use wasm_encoder::{
    BlockType, CodeSection, Component, Function, FunctionSection, Instruction, Module, ModuleSection, TypeSection,
    ValType,
};

use super::{Driven, Loaded, compiler, component, config, probe};

fn load(config: GuestConfig, component: &[u8]) -> Result<(), GuestError> {
    Guests::new(config).unwrap().load("test", component).map(drop)
}

/// The probe, with another wish for its `describe`.
fn describing(wish: &str) -> Vec<u8> {
    let mut bytes = component("probe");
    let marker = b"describe: as it is..";
    let at = bytes.windows(marker.len()).position(|window| window == marker).expect("the probe has its marker");
    bytes[at + 10..at + 20].copy_from_slice(wish.as_bytes());
    bytes
}

/// A component of `functions` empty functions' worth of trouble for a compiler: each with a thousand locals and
/// thousands of branches between them.
fn bomb(functions: u32) -> Vec<u8> {
    let mut types = TypeSection::new();
    types.ty().function([ValType::I32], [ValType::I32]);
    let mut list = FunctionSection::new();
    let mut code = CodeSection::new();
    for _ in 0..functions {
        list.function(0);
        let mut function = Function::new([(1_000, ValType::I32)]);
        for branch in 0..8_000u32 {
            function.instruction(&Instruction::LocalGet(branch % 1_000));
            function.instruction(&Instruction::If(BlockType::Empty));
            function.instruction(&Instruction::LocalGet((branch * 7) % 1_000));
            function.instruction(&Instruction::LocalSet((branch * 13) % 1_000));
            function.instruction(&Instruction::End);
        }
        function.instruction(&Instruction::LocalGet(0));
        function.instruction(&Instruction::End);
        code.function(&function);
    }
    let mut module = Module::new();
    module.section(&types).section(&list).section(&code);
    let mut component = Component::new();
    component.section(&ModuleSection(&module));
    component.finish()
}

#[test]
fn types_of_a_plugin_are_what_it_describes() {
    let plugin = probe(config());
    let kind = &plugin.types()[0];
    assert_eq!((kind.info().typeid.as_str(), kind.version(), kind.saves()), ("Probe", "1.2.3", true));
    assert_eq!(kind.info().doc, "Misbehaves when asked to.");
    let echo = &kind.info().methods[0];
    assert_eq!((echo.name.as_str(), echo.read_only, echo.may_park, echo.exposed), ("echo", true, false, true));
    assert_eq!((echo.params[0].name.as_str(), echo.params[0].kind), ("values", ParamKind::Rest));
    assert!(kind.info().methods[8].may_park);
    assert_eq!(plugin.types().len(), 4);
}

#[test]
fn plugin_that_cannot_describe_itself_is_refused() {
    for (wish, message) in [
        ("for ever..", "plugin trapped in `describe`: cut after 1000 ms of CPU time"),
        ("trapping..", "plugin trapped in `describe`: unreachable executed"),
        ("two alike.", "plugin describes itself badly: `echo` occurs twice in Probe"),
        (
            "bad name..",
            "plugin describes itself badly: `not a name` of Probe is not a name: letters, digits and `_`, the first \
             one not a digit",
        ),
        ("too many..", "plugin describes itself badly: Probe has 1000 methods, limit is 256"),
        ("no types..", "plugin describes itself badly: it offers no types"),
    ] {
        let refused = load(GuestConfig { step_cpu_ms: 1_000, ..config() }, &describing(wish)).unwrap_err();
        assert_eq!(refused.to_string(), message, "{wish}");
    }
}

#[test]
fn what_is_no_plugin_is_refused() {
    for bytes in [&b""[..], b"\0asm\x01\0\0\0", b"not wasm at all", &Component::new().finish()] {
        for compiler in [Compiler::InProcess, compiler()] {
            let refused = load(GuestConfig { compiler, ..config() }, bytes).unwrap_err();
            assert!(matches!(refused, GuestError::Invalid(_)), "{refused}");
        }
    }
}

#[test]
fn features_that_are_off_are_refused() {
    use wasm_encoder::{MemorySection, MemoryType};
    let plain = MemoryType { minimum: 1, maximum: Some(1), memory64: false, shared: false, page_size_log2: None };
    for (what, memories) in [
        ("shared", vec![MemoryType { shared: true, ..plain }]),
        ("64-bit", vec![MemoryType { memory64: true, ..plain }]),
        ("two", vec![plain, plain]),
        ("small pages", vec![MemoryType { page_size_log2: Some(0), ..plain }]),
    ] {
        let mut section = MemorySection::new();
        for memory in memories {
            section.memory(memory);
        }
        let mut module = Module::new();
        module.section(&section);
        let mut component = Component::new();
        component.section(&ModuleSection(&module));
        let refused = load(config(), &component.finish()).unwrap_err();
        assert!(matches!(refused, GuestError::Invalid(_)), "{what}: {refused}");
    }
}

#[test]
fn component_beyond_its_size_is_refused_unread() {
    let compile_limits = CompileLimits { component_bytes_max: 10, ..CompileLimits::default() };
    let limited = GuestConfig { compile_limits, ..config() };
    assert!(matches!(load(limited.clone(), &[0; 10]).unwrap_err(), GuestError::Invalid(_)));
    assert!(matches!(load(limited, &[0; 11]).unwrap_err(), GuestError::TooLarge { bytes: 11, limit: 10 }));
}

#[test]
fn child_compiles_what_the_host_runs() {
    let plugin = probe(GuestConfig { compiler: compiler(), ..config() });
    assert!(Driven::new(&plugin).call("echo").is_ok());
}

/// Each of the three limits ends the compiler of a bomb, whichever comes first; and the host goes on.
#[test]
fn compile_bomb_is_killed_at_its_limits() {
    let bomb = bomb(24);
    let generous =
        CompileLimits { cpu_s_max: 600, wall_ms_max: 600_000, memory_bytes_max: 8 << 30, ..CompileLimits::default() };
    let compiled_with = |compile_limits| {
        let started = Instant::now();
        let refused = load(GuestConfig { compiler: compiler(), compile_limits, ..config() }, &bomb).unwrap_err();
        (refused, started.elapsed())
    };
    let (refused, _) = compiled_with(CompileLimits { cpu_s_max: 1, ..generous });
    assert!(matches!(refused, GuestError::CompileCpu { cpu_s: 1 }), "{refused}");
    let (refused, elapsed) = compiled_with(CompileLimits { wall_ms_max: 300, ..generous });
    assert!(matches!(refused, GuestError::CompileTime { wall_ms: 300 }), "{refused}");
    assert!(elapsed >= Duration::from_millis(300));
    let (refused, _) = compiled_with(CompileLimits { memory_bytes_max: 96 << 20, ..generous });
    assert!(matches!(refused, GuestError::CompileMemory { .. }), "{refused}");
    assert!(Driven::new(&probe(config())).call("echo").is_ok());
}

#[test]
fn compiler_that_cannot_be_started_is_named() {
    let loaded = |program: &str| {
        let compiler = Compiler::Child { program: program.into(), args: vec![] };
        load(GuestConfig { compiler, ..config() }, &Component::HEADER)
    };
    assert!(matches!(loaded("/nonexistent/compiler"), Err(GuestError::Compiler(_))));
    assert!(matches!(loaded("/bin/false"), Err(GuestError::CompilerEnded { .. })));
}

/// A compiler that does not start, so that only the cache can be what a plugin is loaded from.
fn no_compiler() -> Compiler {
    Compiler::Child { program: "/nonexistent/compiler".into(), args: vec![] }
}

fn kept_in(cache: &CacheConfig) -> PathBuf {
    let files: Vec<_> = fs::read_dir(&cache.dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert_eq!(files.len(), 1, "{files:?}");
    files[0].clone()
}

/// A plugin is compiled once; the second host, whose compiler does not work, finds it.
#[test]
fn compiled_plugin_is_kept() {
    let folder = tempfile::tempdir().unwrap();
    let cache = Some(CacheConfig::new(folder.path().join("cache"), folder.path().join("key")));
    load(GuestConfig { cache: cache.clone(), ..config() }, &component("probe")).unwrap();
    let cached = GuestConfig { cache, compiler: no_compiler(), ..config() };
    let plugin = Guests::new(cached.clone()).unwrap().load("probe", &component("probe")).unwrap();
    assert!(Driven::new(&Loaded::new(plugin)).call("echo").is_ok());
    // Another component has another place.
    assert!(matches!(load(cached, &describing("for ever..")), Err(GuestError::Compiler(_))));
}

/// Whatever is done to the file, or to the key, it is not loaded: it is machine code.
#[test]
fn kept_plugin_that_was_tampered_with_is_not_loaded() {
    let folder = tempfile::tempdir().unwrap();
    let cache = CacheConfig::new(folder.path().join("cache"), folder.path().join("key"));
    let cached = GuestConfig { cache: Some(cache.clone()), compiler: no_compiler(), ..config() };
    load(GuestConfig { compiler: Compiler::InProcess, ..cached.clone() }, &component("probe")).unwrap();
    let file = kept_in(&cache);
    let intact = fs::read(&file).unwrap();

    let mut flipped_mac = intact.clone();
    flipped_mac[0] ^= 1;
    let mut flipped_code = intact.clone();
    flipped_code[intact.len() / 2] ^= 0x80;
    let mut longer = intact.clone();
    longer.push(0);
    for tampered in
        [&flipped_mac, &flipped_code, &longer, &intact[..intact.len() - 1].to_vec(), &intact[..31].to_vec(), &vec![]]
    {
        fs::write(&file, tampered).unwrap();
        assert!(matches!(load(cached.clone(), &component("probe")), Err(GuestError::Compiler(_))));
    }
    fs::write(&file, &intact).unwrap();
    load(cached.clone(), &component("probe")).unwrap();

    let key = fs::read(&cache.key_file).unwrap();
    fs::write(&cache.key_file, [0; 32]).unwrap();
    assert!(matches!(load(cached.clone(), &component("probe")), Err(GuestError::Compiler(_))));
    fs::write(&cache.key_file, key).unwrap();
    load(cached, &component("probe")).unwrap();
}

/// A file under the name of another plugin is a file of the wrong plugin.
#[test]
fn kept_plugin_is_not_loaded_in_anothers_place() {
    let folder = tempfile::tempdir().unwrap();
    let cache = CacheConfig::new(folder.path().join("cache"), folder.path().join("key"));
    let keeping = GuestConfig { cache: Some(cache.clone()), ..config() };
    load(keeping.clone(), &component("probe")).unwrap();
    let first = kept_in(&cache);
    let bytes = fs::read(&first).unwrap();
    fs::remove_file(&first).unwrap();
    let other = describing("something.");
    load(keeping.clone(), &other).unwrap();
    fs::write(kept_in(&cache), bytes).unwrap();
    assert!(matches!(load(GuestConfig { compiler: no_compiler(), ..keeping }, &other), Err(GuestError::Compiler(_))));
}

#[test]
fn artefact_beyond_its_size_is_not_kept() {
    let folder = tempfile::tempdir().unwrap();
    let cache = CacheConfig {
        artefact_bytes_max: 1_000,
        ..CacheConfig::new(folder.path().join("cache"), folder.path().join("key"))
    };
    load(GuestConfig { cache: Some(cache.clone()), ..config() }, &component("probe")).unwrap();
    assert_eq!(fs::read_dir(&cache.dir).unwrap().count(), 0);
}

#[test]
fn key_must_not_lie_in_the_cache_and_is_private() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let inside = CacheConfig::new(folder.path(), folder.path().join("deep/key"));
    assert!(matches!(Guests::new(GuestConfig { cache: Some(inside), ..config() }), Err(GuestError::Io(_))));

    let cache = CacheConfig::new(folder.path().join("cache"), folder.path().join("key"));
    Guests::new(GuestConfig { cache: Some(cache.clone()), ..config() }).unwrap();
    assert_eq!(fs::metadata(&cache.key_file).unwrap().permissions().mode() & 0o777, 0o600);
    fs::write(&cache.key_file, b"short").unwrap();
    assert!(matches!(Guests::new(GuestConfig { cache: Some(cache), ..config() }), Err(GuestError::Io(_))));
}

/// What is logged while it lives.
#[derive(Clone, Default)]
struct Logged(Arc<Mutex<Vec<u8>>>);

impl Write for Logged {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

fn logged(config: GuestConfig, run: impl FnOnce(&mut Driven)) -> Vec<String> {
    let mut object = Driven::new(&probe(config));
    let logged = Logged::default();
    let writer = logged.clone();
    let subscriber = tracing_subscriber::fmt().with_writer(move || writer.clone()).with_ansi(false).finish();
    tracing::subscriber::with_default(subscriber, || run(&mut object));
    let bytes = logged.0.lock().unwrap();
    String::from_utf8(bytes.clone()).unwrap().lines().map(str::to_owned).collect()
}

#[test]
fn line_of_log_says_whose_it_is_and_is_cut_between_characters() {
    let lines = logged(GuestConfig { log_line_bytes_max: 7, ..config() }, |object| drop(object.call("shout").unwrap()));
    assert_eq!(lines.len(), 1);
    assert!(lines[0].contains("WARN"), "{}", lines[0]);
    for field in ["plugin=\"probe\"", "typeid=\"Probe\"", "ident=3"] {
        assert!(lines[0].contains(field), "{}", lines[0]);
    }
    assert_eq!(lines[0].matches('é').count(), 3, "{}", lines[0]);
}

/// 40 bytes a line: a step may log 25 of them, a minute 40; the next minute starts anew.
#[test]
fn flood_of_log_is_dropped_and_counted() {
    let limits =
        GuestConfig { log_step_bytes_max: 1_000, log_minute_bytes_max: 1_600, step_cpu_ms: 60_000, ..config() };
    let lines = logged(limits, |object| {
        for _ in 0..3 {
            object.call("flood").unwrap();
        }
    });
    let dropped: Vec<_> = lines.iter().filter(|line| line.contains("lines were dropped")).collect();
    assert_eq!(lines.len() - dropped.len(), 40);
    assert_eq!(dropped.len(), 3);
    for (line, count) in dropped.iter().zip([99_975, 99_985, 100_000]) {
        assert!(line.contains(&format!("lines={count}")), "{line}");
    }
}
