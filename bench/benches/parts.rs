//! What the parts of a call cost by themselves: a frame's validation and reading, a step of a built-in, a step of a guest.
//!
//! `cargo bench -p steward-bench`. The guest needs `cargo xtask plugins` first.

use std::hint::black_box;
use std::path::Path;

use criterion::{Criterion, criterion_group, criterion_main};
use steward_client::Ident;
use steward_host::guest::{Birth, Compiler, GuestConfig, Guests};
use steward_objects::{Args, Call, Input, Outbox, Owner, Referent, builtin};
use steward_wire::frame::{self, ClientFrame, HostFrame, LENGTH_BYTES, Method, Reply};
use steward_wire::{Effect, Limits, Value, check};

/// `[["key"], {}]`.
fn key() -> Vec<u8> {
    Value::List(vec![Value::List(vec![Value::Text("key".into())]), Value::Map(Vec::new())]).to_vec()
}

fn call(args: &[u8], seq: u64) -> ClientFrame<'_> {
    let (ident, method) = (Ident(7), Method::Index(3));
    ClientFrame::Call(frame::Call { seq, ident, owner: 1, method, args, deadline_ms: None, guard: None })
}

fn wire(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("wire");
    let args = key();
    let mut sent = Vec::new();
    call(&args, 1_000_000).put(None, &mut sent);
    let body = &sent[LENGTH_BYTES..];
    group.bench_function("check a call", |bencher| bencher.iter(|| check(black_box(body), &Limits::default())));
    group.bench_function("read a call", |bencher| bencher.iter(|| ClientFrame::read(black_box(body)).is_ok()));
    let mut out = Vec::with_capacity(256);
    group.bench_function("write a reply", |bencher| {
        bencher.iter(|| {
            out.clear();
            let (effect, payload) = (Effect::Returned, &args[..]);
            let reply = Reply { seq: 1_000_000, effect, payload, epoch: 1, version: 9, index: 0, grant: None };
            HostFrame::Reply(reply).put(&mut out);
            out.len()
        });
    });
    group.finish();
}

/// Steps one method again and again.
fn step(referent: &mut dyn Referent, method: u16, args: &[u8], id: &mut u64, out: &mut Outbox) -> usize {
    *id += 1;
    out.clear(1, 1 << 16);
    let owner = Owner { session: 1, thread: 1 };
    let args = Args::new(args, false);
    referent.step(Input::Call(Call { id: *id, facet: 0, method, owner, now_ms: 1, seed: 1, args }), out);
    out.replies().len()
}

fn objects(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("objects");
    for (typeid, method, args) in [
        ("Lock", "locked", Args::none().item().to_vec()),
        ("dict", "__len__", Args::none().item().to_vec()),
        ("dict", "get", key()),
    ] {
        let builtin = builtin(typeid).expect("a built-in type");
        let index = builtin.methods.iter().position(|offered| offered.name == method).expect("its method") as u16;
        let (mut out, mut id) = (Outbox::new(1), 0);
        let mut referent = (builtin.create)(Args::none(), &mut out).expect("no arguments are needed");
        group.bench_function(format!("{typeid}.{method}"), |bencher| {
            bencher.iter(|| step(&mut *referent, index, black_box(&args), &mut id, &mut out));
        });
    }
    group.finish();
}

fn guests(criterion: &mut Criterion) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/plugins/conformance.wasm");
    let component = std::fs::read(&path).expect("run `cargo xtask plugins` first");
    let guests = Guests::new(GuestConfig::new(Compiler::InProcess)).expect("an engine");
    let plugin = guests.load("conformance", &component).expect("a plugin of this repository loads");
    let at = plugin.types().iter().position(|offered| offered.info().typeid == "GuestDict").expect("a dict");
    let methods = &plugin.types()[at].info().methods;
    let get = methods.iter().position(|method| method.name == "get").expect("its method") as u16;
    let birth = || Birth { tenant: "bench", ident: Ident(1), now_ms: 1, seed: 1 };
    let mut group = criterion.benchmark_group("guests");
    group.bench_function("create GuestDict", |bencher| {
        bencher.iter(|| plugin.create(at, Args::none(), birth(), &mut Outbox::new(1)).is_ok());
    });
    let mut referent = plugin.create(at, Args::none(), birth(), &mut Outbox::new(1)).expect("no arguments are needed");
    let (mut out, mut id, args) = (Outbox::new(1), 0, key());
    group.bench_function("GuestDict.get", |bencher| {
        bencher.iter(|| step(&mut *referent, get, black_box(&args), &mut id, &mut out));
    });
    group.finish();
}

criterion_group!(parts, wire, objects, guests);
criterion_main!(parts);
