//! A module as it is after its start: what each instance would do before it can be called is done once, at build time.
//!
//! Go's runtime sets up its scheduler, its heap and the packages of the program before anything can be called. That takes longer
//! than all else that an object is made of, and touches half a mebibyte. It is the same each time: there is no system to be seen, and
//! the adapter's clock and randomness begin at fixed values. So the module is started here, by an interpreter, and written again
//! with its memory and globals as they are then. Hosts map such a memory, and copy of it what an object writes to.

use std::error::Error;

use wasm_encoder::reencode::{Reencode as _, RoundtripReencoder};
use wasm_encoder::{
    ConstExpr, DataSection, ExportKind, ExportSection, GlobalSection, MemorySection, MemoryType, Module, RawSection,
};
use wasmi::{Caller, CompilationMode, Config, Engine, ExternType, Instance, Linker, Memory, Store, TrapCode, Val};
use wasmparser::{DataKind, Operator, Parser, Payload, TypeRef};

use crate::BuildError;

/// Exports that are called, in this order, and left out of what is written: the module's start, and what its SDK prepares for
/// all objects. Modules need not have them.
const STARTS: [&str; 2] = ["_initialize", "steward_prepare"];

/// Instructions that a start may take: some ten seconds'. It fails beyond them, where it would hang.
const FUEL: u64 = 5_000_000_000;

/// Zeros between two pieces of data that are written with them: a piece of its own costs about as much.
const ZEROS_WRITTEN: usize = 16;

/// Pieces of data. Engines have limits, which are higher; with more pieces, more zeros are written.
const PIECES_MAX: usize = 80_000;

const PAGE_BYTES: usize = 64 << 10;

/// What hosts lend that a start may use.
const LOG: (&str, &str) = ("steward:plugin/host@0.1.0", "log");

/// A module and its adapter after the module's start.
pub(crate) struct Started {
    pub(crate) module: Vec<u8>,
    pub(crate) adapter: Vec<u8>,
}

/// Starts a module, whose imports from `adapter.0` the module `adapter.1` offers, in the memory that it exports. `say` is told what it
/// logs.
///
/// # Errors
/// [`BuildError::Component`] if the start fails or asks for what only objects have, or if memory and globals are not all that it
/// can change.
pub(crate) fn start(module: &[u8], adapter: (&str, &[u8]), say: fn(&str)) -> Result<Started, BuildError> {
    run(module, adapter, say, FUEL).map_err(|error| BuildError::Component(format!("its start fails: {error}")))
}

/// What the functions that a module imports work on.
struct Lent {
    adapter: Option<Instance>,
    memory: Option<Memory>,
}

fn run(
    module: &[u8],
    (adapter_name, adapter): (&str, &[u8]),
    say: fn(&str),
    fuel: u64,
) -> Result<Started, Box<dyn Error>> {
    let (globals, adapter_globals) = (Globals::of(module)?, Globals::of(adapter)?);
    let mut config = Config::default();
    // Most functions have no part in a start.
    config.compilation_mode(CompilationMode::Lazy).consume_fuel(true);
    let engine = Engine::new(&config);
    let mut store = Store::new(&engine, Lent { adapter: None, memory: None });
    store.set_fuel(fuel)?;
    let compiled = wasmi::Module::new(&engine, globals.exported(module)?)?;
    let compiled_adapter = wasmi::Module::new(&engine, adapter_globals.exported(adapter)?)?;

    let mut linker = Linker::new(&engine);
    // The adapter may import what the module does.
    linker.allow_shadowing(true);
    for import in compiled.imports().chain(compiled_adapter.imports()) {
        let ExternType::Func(ty) = import.ty() else { continue };
        let (from, name) = (import.module().to_owned(), import.name().to_owned());
        let is_adapters = from == adapter_name;
        let lent = move |mut caller: Caller<'_, Lent>, args: &[Val], results: &mut [Val]| {
            if is_adapters {
                let function = caller.data().adapter.and_then(|adapter| adapter.get_func(&caller, &name));
                let function = function.ok_or_else(|| wasmi::Error::new(format!("the adapter has no `{name}`")))?;
                return function.call(&mut caller, args, results);
            }
            match (caller.data().memory, args) {
                (Some(memory), &[_, Val::I32(text), Val::I32(length)]) if (&*from, &*name) == LOG => {
                    let text = memory.data(&caller).get(text as u32 as usize..).unwrap_or_default();
                    say(&String::from_utf8_lossy(&text[..text.len().min(length as u32 as usize)]));
                    Ok(())
                }
                _ => Err(wasmi::Error::new(format!("it calls `{name}` of `{from}`, which is there for objects only"))),
            }
        };
        linker.func_new(import.module(), import.name(), ty.clone(), lent)?;
    }
    let instance = linker.instantiate_and_start(&mut store, &compiled)?;
    let memory = instance.get_memory(&store, "memory").ok_or("it exports no memory")?;
    linker.define("env", "memory", memory)?;
    let adapter_instance = linker.instantiate_and_start(&mut store, &compiled_adapter)?;
    *store.data_mut() = Lent { adapter: Some(adapter_instance), memory: Some(memory) };
    for start in STARTS.iter().filter_map(|name| instance.get_func(&store, name)).collect::<Vec<_>>() {
        start.call(&mut store, &[], &mut []).map_err(|error| match error.as_trap_code() {
            Some(TrapCode::OutOfFuel) => "it does not end within some ten seconds".into(),
            _ => Box::<dyn Error>::from(error),
        })?;
    }
    Ok(Started {
        module: globals.frozen(module, &instance, &store, Some(memory.data(&store)))?,
        adapter: adapter_globals.frozen(adapter, &adapter_instance, &store, None)?,
    })
}

/// The globals of a module that can change, by their numbers.
struct Globals(Vec<u32>);

impl Globals {
    /// # Errors
    /// The module can change what is neither memory nor one of these.
    fn of(module: &[u8]) -> Result<Self, Box<dyn Error>> {
        let mut globals = Vec::new();
        let mut number = 0;
        for payload in Parser::new(0).parse_all(module) {
            match payload? {
                Payload::ImportSection(imports) => {
                    for import in imports.into_imports() {
                        match import?.ty {
                            TypeRef::Global(_) => return Err("it imports a global".into()),
                            TypeRef::Table(_) => return Err("it imports a table".into()),
                            _ => {}
                        }
                    }
                }
                Payload::GlobalSection(section) => {
                    for global in section {
                        if global?.ty.mutable {
                            globals.push(number);
                        }
                        number += 1;
                    }
                }
                Payload::StartSection { .. } => return Err("it has a start function, which would run once more".into()),
                Payload::DataSection(section) => {
                    for data in section {
                        if matches!(data?.kind, DataKind::Passive) {
                            return Err("it has data that is copied later".into());
                        }
                    }
                }
                Payload::CodeSectionEntry(body) => {
                    for operator in body.get_operators_reader()? {
                        if let Operator::TableSet { .. }
                        | Operator::TableGrow { .. }
                        | Operator::TableFill { .. }
                        | Operator::TableCopy { .. }
                        | Operator::TableInit { .. } = operator?
                        {
                            return Err("it changes tables".into());
                        }
                    }
                }
                _ => {}
            }
        }
        Ok(Self(globals))
    }

    fn name(number: u32) -> String {
        format!("steward global {number}")
    }

    /// The module, with exports of these globals.
    fn exported(&self, module: &[u8]) -> Result<Vec<u8>, Box<dyn Error>> {
        rewritten(module, |payload, out| {
            let Payload::ExportSection(section) = payload else { return Ok(false) };
            let mut exports = ExportSection::new();
            RoundtripReencoder.parse_export_section(&mut exports, section.clone())?;
            for &number in &self.0 {
                exports.export(&Self::name(number), ExportKind::Global, number);
            }
            out.section(&exports);
            Ok(true)
        })
    }

    /// The module as it is after the instance's start. `memory`: its own, if it has one.
    fn frozen(
        &self,
        module: &[u8],
        instance: &Instance,
        store: &Store<Lent>,
        memory: Option<&[u8]>,
    ) -> Result<Vec<u8>, Box<dyn Error>> {
        rewritten(module, |payload, out| {
            match (payload, memory) {
                (Payload::MemorySection(section), Some(memory)) => {
                    let mut memories = MemorySection::new();
                    for ty in section.clone() {
                        let ty = RoundtripReencoder.memory_type(ty?)?;
                        memories.memory(MemoryType { minimum: (memory.len() / PAGE_BYTES) as u64, ..ty });
                    }
                    out.section(&memories);
                }
                (Payload::GlobalSection(section), _) => {
                    let mut globals = GlobalSection::new();
                    for (global, number) in section.clone().into_iter().zip(0..) {
                        let global = global?;
                        let ty = RoundtripReencoder.global_type(global.ty)?;
                        let value = instance.get_global(store, &Self::name(number)).map(|global| global.get(store));
                        let value = match value {
                            Some(Val::I32(value)) => ConstExpr::i32_const(value),
                            Some(Val::I64(value)) => ConstExpr::i64_const(value),
                            Some(Val::F32(value)) => ConstExpr::f32_const(f32::from(value).into()),
                            Some(Val::F64(value)) => ConstExpr::f64_const(f64::from(value).into()),
                            Some(_) => return Err("it keeps references in globals".into()),
                            None => RoundtripReencoder.const_expr(global.init_expr)?,
                        };
                        globals.global(ty, &value);
                    }
                    out.section(&globals);
                }
                (Payload::ExportSection(section), _) => {
                    let mut exports = ExportSection::new();
                    for export in section.clone() {
                        let export = export?;
                        if !STARTS.contains(&export.name) {
                            exports.export(export.name, RoundtripReencoder.export_kind(export.kind)?, export.index);
                        }
                    }
                    out.section(&exports);
                }
                // Says how many pieces of data follow, for instructions that name one: there are none.
                (Payload::DataCountSection { .. }, Some(_)) => {}
                (Payload::DataSection(_), Some(memory)) => {
                    let mut data = DataSection::new();
                    let gaps = std::iter::successors(Some(ZEROS_WRITTEN), |zeros| Some(zeros * 2));
                    let mut fits = gaps.filter(|zeros| pieces(memory, *zeros).nth(PIECES_MAX).is_none());
                    for (at, piece) in pieces(memory, fits.next().expect("in the end all is one piece")) {
                        data.active(0, &ConstExpr::i32_const(at as u32 as i32), piece.iter().copied());
                    }
                    out.section(&data);
                }
                _ => return Ok(false),
            }
            Ok(true)
        })
    }
}

/// Writes a module again. `replace` writes sections that change, and says whether it did.
fn rewritten(
    module: &[u8],
    mut replace: impl FnMut(&Payload<'_>, &mut Module) -> Result<bool, Box<dyn Error>>,
) -> Result<Vec<u8>, Box<dyn Error>> {
    let mut out = Module::new();
    for payload in Parser::new(0).parse_all(module) {
        let payload = payload?;
        if !replace(&payload, &mut out)?
            && let Some((id, range)) = payload.as_section()
        {
            out.section(&RawSection { id, data: &module[range.start as usize..range.end as usize] });
        }
    }
    Ok(out.finish())
}

/// What a memory holds, and where, beside stretches of more zeros than this.
fn pieces(memory: &[u8], zeros_max: usize) -> impl Iterator<Item = (usize, &[u8])> {
    let mut at = 0;
    std::iter::from_fn(move || {
        let start = at + memory[at..].iter().position(|byte| *byte != 0)?;
        let mut end = start;
        while let Some(zeros) = memory[end..].iter().take(zeros_max + 1).position(|byte| *byte != 0) {
            end += zeros + 1;
        }
        at = end;
        Some((start, &memory[start..end]))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Writes the words of its start behind each other, as the adapter counts them.
    const ADAPTER: &str = r#"(module
        (import "env" "memory" (memory 0))
        (global $asked (mut i64) (i64.const 0))
        (func (export "ask") (result i64)
            (global.set $asked (i64.add (global.get $asked) (i64.const 1)))
            (i64.store (i32.const 131080) (global.get $asked))
            (global.get $asked)))"#;

    /// A module of these lines that can ask and log.
    fn module(lines: &str) -> Vec<u8> {
        let text = format!(
            r#"(module
                (import "system" "ask" (func $ask (result i64)))
                (import "steward:plugin/host@0.1.0" "log" (func $log (param i32 i32 i32)))
                (import "objects" "make" (func $make))
                (memory (export "memory") 1)
                {lines})"#
        );
        wat::parse_str(text).unwrap()
    }

    fn started(lines: &str) -> Result<Started, String> {
        let adapter = wat::parse_str(ADAPTER).unwrap();
        let say = |line: &str| assert_eq!(line, "begun");
        run(&module(lines), ("system", &adapter), say, 1_000_000).map_err(|error| error.to_string())
    }

    const STARTING: &str = r#"
        (data (i32.const 8) "begun")
        (global $asked (mut i64) (i64.const 0))
        (global $constant i32 (i32.const 5))
        (func (export "_initialize")
            (drop (memory.grow (i32.const 2)))
            (call $log (i32.const 2) (i32.const 8) (global.get $constant))
            (global.set $asked (call $ask)))
        (func (export "steward_prepare") (global.set $asked (call $ask)))
        (func (export "asked") (result i64) (global.get $asked))
        (func (export "again") (result i64) (call $ask))"#;

    /// Both modules go on from where they were: the start has been, and nobody can have it again.
    #[test]
    fn module_goes_on_where_its_start_ended() {
        let Started { module, adapter } = started(STARTING).unwrap();
        let engine = Engine::default();
        let [module, adapter] = [module, adapter].map(|bytes| wasmi::Module::new(&engine, bytes).unwrap());
        let exports: Vec<_> = module.exports().map(|export| export.name().to_owned()).collect();
        assert_eq!(exports, ["again", "asked", "memory"]);

        let mut store = Store::new(&engine, Lent { adapter: None, memory: None });
        let mut linker = Linker::new(&engine);
        linker.func_wrap("steward:plugin/host@0.1.0", "log", |_: i32, _: i32, _: i32| {}).unwrap();
        linker.func_wrap("objects", "make", || {}).unwrap();
        let ask = |caller: Caller<'_, Lent>| {
            let ask = caller.data().adapter.unwrap().get_typed_func::<(), i64>(&caller, "ask").unwrap();
            ask.call(caller, ()).unwrap()
        };
        linker.func_wrap("system", "ask", ask).unwrap();
        let instance = linker.instantiate_and_start(&mut store, &module).unwrap();
        let memory = instance.get_memory(&store, "memory").unwrap();
        linker.define("env", "memory", memory).unwrap();
        store.data_mut().adapter = Some(linker.instantiate_and_start(&mut store, &adapter).unwrap());

        assert_eq!(memory.size(&store), 3);
        assert_eq!(memory.data(&store)[8..13], *b"begun");
        assert_eq!(memory.data(&store)[131_080], 2);
        let mut call = |name| instance.get_typed_func::<(), i64>(&store, name).unwrap().call(&mut store, ()).unwrap();
        assert_eq!((call("asked"), call("again")), (2, 3));
    }

    #[test]
    fn module_without_a_start_stays_as_it_is() {
        let lines = r#"(data (i32.const 8) "a") (global (mut f64) (f64.const nan:0x4000000000001))"#;
        assert_eq!(started(lines).unwrap().module, module(lines));
    }

    #[track_caller]
    fn refused(lines: &str, why: &str) {
        let error = started(lines).err().expect("it is refused");
        assert!(error.contains(why), "{error}");
    }

    #[test]
    fn what_is_not_memory_or_a_global_is_not_lost() {
        refused("(func $f) (start $f)", "it has a start function");
        refused(r#"(data "later")"#, "data that is copied later");
        refused("(table 1 funcref) (func (table.set (i32.const 0) (ref.null func)))", "it changes tables");
    }

    #[test]
    fn start_that_does_not_end_well_is_said() {
        refused(r#"(func (export "_initialize") unreachable)"#, "unreachable");
        refused(r#"(func (export "_initialize") (loop $on (br $on)))"#, "it does not end");
        refused(r#"(func (export "_initialize") (call $make))"#, "it calls `make` of `objects`");
    }

    #[test]
    fn pieces_are_what_is_not_zero_and_short_gaps() {
        let mut memory = vec![0; 1000];
        assert_eq!(pieces(&memory, 16).count(), 0);
        (memory[3], memory[20], memory[999]) = (1, 2, 3);
        let found = |zeros| pieces(&memory, zeros).map(|(at, piece)| (at, piece.len())).collect::<Vec<_>>();
        assert_eq!(found(16), [(3, 18), (999, 1)]);
        assert_eq!(found(15), [(3, 1), (20, 1), (999, 1)]);
        assert_eq!(found(2_000), [(3, 997)]);
    }
}
