//! What a plugin's objects cost on this machine: memory while idle, CPU time to make one, CPU time of a step.
//!
//! `cargo run --release --example guest_cost -- target/plugins/leaderboard.wasm Leaderboard top --int 3 --profile dense --objects
//! 100000`: makes so many objects of the type, calls the method once on each, then many times on one, then on all in turn.
//! `--isolation shared` puts many in one Store, and measures what a trap costs there, if `--traps` names a method that does.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use clap::Parser;
use rustix::time::{ClockId, clock_gettime};
use steward_host::guest::{Birth, Compiler, GuestConfig, Guests, Isolation, LoadOptions, Profile, Releases};
use steward_objects::{Args, Call, Ident, Input, Outbox, Owner, Referent};
use steward_wire::Value;

/// Objects that are made before anything is measured: what the first set up for all is not what one costs.
const WARM: u64 = 100;

/// Calls that wait while others are measured: as many as an object may have, less one.
const PARKED: u64 = 9_999;

/// What a plugin's objects cost.
#[derive(Parser)]
struct Options {
    component: PathBuf,
    typeid: String,
    method: String,
    /// Objects to make.
    #[arg(long, default_value_t = 2_000)]
    objects: u32,
    /// The method's only argument; none, if it is left out.
    #[arg(long)]
    int: Option<i64>,
    /// auto, fast or dense.
    #[arg(long, default_value = "auto")]
    profile: Profile,
    /// object or shared.
    #[arg(long, default_value = "object")]
    isolation: Isolation,
    /// A method that traps: what it takes to make all objects of its shard again is measured.
    #[arg(long)]
    traps: Option<String>,
    /// A method without arguments that waits: the step is measured once more while thousands of its calls do.
    #[arg(long)]
    parks: Option<String>,
    /// Memory of an object.
    #[arg(long)]
    memory_bytes: Option<usize>,
}

fn main() {
    let options = Options::parse();
    let objects = options.objects;
    let objects_max = match options.isolation {
        Isolation::Object => objects + u32::try_from(WARM).expect("few") + 1,
        Isolation::Shared => GuestConfig::new(Compiler::InProcess).objects_max,
    };
    let config = GuestConfig { objects_max, profile: options.profile, ..GuestConfig::new(Compiler::InProcess) };
    let guests = Guests::new(config).expect("guests can be run here");
    println!("{}", guests.memory_profile());
    let bytes = fs::read(&options.component).expect("COMPONENT can be read");
    let started = cpu();
    let load_options = LoadOptions { memory_bytes: options.memory_bytes };
    let plugin = guests.load_with("measured", &bytes, load_options).expect("COMPONENT is a plugin");
    println!("load: {:?} for {} bytes", (cpu() - started), bytes.len());
    let place =
        plugin.types().iter().position(|kind| kind.info().typeid == options.typeid).expect("the plugin has TYPEID");
    let methods = &plugin.types()[place].info().methods;
    let number = |name: &str| {
        let number = methods.iter().position(|known| known.name == name).expect("the type has METHOD");
        u16::try_from(number).expect("methods are few")
    };
    let method = number(&options.method);
    let releases = Releases::after(Vec::new(), plugin.types()[place].clone(), options.isolation);
    let releases = releases.expect("objects of TYPEID may be kept apart like that");
    let create = |ident| {
        let birth = Birth { tenant: "default", ident: Ident(ident), now_ms: 0, seed: 0 };
        releases.create(Args::none(), birth, &mut Outbox::new(1)).expect("the object is made")
    };
    let arguments =
        options.int.map(|int| Value::List(vec![Value::List(vec![Value::Int(int)]), Value::Map(Vec::new())]).to_vec());
    let args = || arguments.as_ref().map_or(Args::none(), |item| Args::new(item, false));
    let mut out = Outbox::new(0);
    let mut call = |referent: &mut Box<dyn Referent>, id, method, args| {
        let owner = Owner { session: 1, thread: 1 };
        out.clear(0, 4096);
        let call = Call { id, facet: 0, method, owner, now_ms: 0, seed: 0, args };
        referent.step(Input::Call(call), &mut out);
        assert!(out.poisoned().is_none(), "{:?}", out.poisoned());
        out.replies().len()
    };
    let mut step = |referent: &mut Box<dyn Referent>, id| call(referent, id, method, args());

    let mut warm: Vec<_> = (0..WARM).map(create).collect();
    warm.iter_mut().for_each(|referent| assert_eq!(step(referent, 1), 1, "METHOD answers"));

    let before = memory();
    let maps_before = maps();
    let started = cpu();
    let mut kept: Vec<_> = (0..u64::from(objects)).map(create).collect();
    println!("create: {:?} each", (cpu() - started) / objects);
    let untouched = memory();
    kept.iter_mut().for_each(|referent| assert_eq!(step(referent, 1), 1));
    let after = memory();
    for (what, memory) in [("untouched", untouched), ("called once", after)] {
        let each = memory.iter().zip(before).map(|((_, now), (_, then))| now.saturating_sub(then) / u64::from(objects));
        let each: Vec<_> = each.collect();
        let parts: Vec<_> = memory.iter().zip(&each).map(|((name, _), bytes)| format!("{name} {bytes}")).collect();
        let own = each[..2].iter().sum::<u64>();
        println!("{what}: {own} bytes an object ({}), {} objects a GiB", parts.join(", "), (1 << 30) / own.max(1));
    }
    let [(_, resident), (_, tables), ..] = after;
    println!("process: {} MiB resident and in page tables, {} maps", (resident + tables) >> 20, maps());
    println!("maps: {:.2} an object", maps().saturating_sub(maps_before) as f64 / f64::from(objects));

    println!("step: {:.0} ns", hot(|id| step(&mut kept[0], id + 2)));
    let mut fastest = Duration::MAX;
    for round in 0..5 {
        let started = cpu();
        kept.iter_mut().for_each(|referent| assert_eq!(step(referent, 1_000_000 + round), 1));
        fastest = fastest.min((cpu() - started) / objects);
    }
    println!("step of all in turn: {fastest:?}");
    if let Some(parks) = &options.parks {
        let (parks, alone) = (number(parks), hot(|id| step(&mut kept[0], id)));
        (0..PARKED).for_each(|id| assert_eq!(call(&mut kept[0], 2_000_000 + id, parks, Args::none()), 0, "it waits"));
        let beside = hot(|id| call(&mut kept[0], 3_000_000 + id, method, args()));
        println!("step beside {PARKED} parked: {beside:.0} ns, {:.2}x of {alone:.0} ns", beside / alone);
    }
    if let Some(traps) = &options.traps {
        let shards = releases.report().versions[0].shards.max(1);
        let each = kept.len() / shards;
        let started = cpu();
        call(&mut kept[0], 4_000_000, number(traps), args());
        let trapped = cpu() - started;
        kept.iter_mut().take(each).for_each(|referent| assert_eq!(call(referent, 4_000_001, method, args()), 1));
        let (traps, recovered) = (releases.report().traps, releases.report().recovered);
        assert!(traps > 0, "METHOD traps");
        println!("trap: {trapped:?}; with all of its shard called once more: {:?}", cpu() - started);
        println!("made again: {recovered} objects");
    }
    println!("shards: {}", releases.report().versions[0].shards);
    let started = cpu();
    drop(kept);
    println!("drop: {:?} each", (cpu() - started) / objects);
}

/// Nanoseconds of CPU that a step takes when nothing else runs.
fn hot(mut step: impl FnMut(u64) -> usize) -> f64 {
    const STEPS: u64 = 50_000;
    let round = |_| {
        let started = cpu();
        (0..STEPS).for_each(|id| assert_eq!(step(id), 1, "METHOD answers"));
        (cpu() - started).as_nanos() as f64 / STEPS as f64
    };
    (0..10).map(round).fold(f64::INFINITY, f64::min)
}

/// CPU time of this thread, which others on a busy machine do not add to.
fn cpu() -> Duration {
    Duration::try_from(clock_gettime(ClockId::ThreadCPUTime)).expect("CPU time is not negative")
}

fn maps() -> usize {
    fs::read_to_string("/proc/self/maps").expect("the system tells maps").lines().count()
}

/// Bytes that this process uses: resident of its own, in page tables; resident once for all objects, but counted for each that
/// looks at them, and the whole kernel's slab.
fn memory() -> [(&'static str, u64); 4] {
    let kib = |file: &str, field: &str| {
        let text = fs::read_to_string(file).expect("the system tells memory");
        let line = text.lines().find_map(|line| line.strip_prefix(field)).expect("the field is there");
        line.trim().trim_end_matches(" kB").parse::<u64>().expect("it is a number") * 1024
    };
    [
        ("resident", kib("/proc/self/status", "RssAnon:")),
        ("page tables", kib("/proc/self/status", "VmPTE:")),
        ("shared", kib("/proc/self/status", "RssShmem:")),
        ("kernel slab", kib("/proc/meminfo", "Slab:")),
    ]
}
