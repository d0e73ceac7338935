//! What a plugin's objects cost on this machine: memory while idle, CPU time to make one, CPU time of a step.
//!
//! `cargo run --release --example guest_cost -- target/plugins/NAME.wasm TYPEID METHOD [OBJECTS]`: makes OBJECTS of the type
//! (2,000 unless told), calls METHOD without arguments once on each and then many times on one.

use std::fs;
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};
use steward_host::guest::{Birth, Compiler, GuestConfig, Guests};
use steward_objects::{Args, Call, Ident, Input, Outbox, Owner, Referent};

fn main() {
    let mut words = std::env::args().skip(1);
    let mut word =
        |what: &str| words.next().unwrap_or_else(|| panic!("missing {what}: COMPONENT TYPEID METHOD [OBJECTS]"));
    let (component, typeid, method) = (word("COMPONENT"), word("TYPEID"), word("METHOD"));
    let objects: u64 = words.next().map_or(2_000, |count| count.parse().expect("OBJECTS is a number"));

    let guests = Guests::new(GuestConfig::new(Compiler::InProcess)).expect("guests can be run here");
    println!("{}", guests.memory_profile());
    let bytes = fs::read(&component).expect("COMPONENT can be read");
    let started = cpu();
    let plugin = guests.load("measured", &bytes).expect("COMPONENT is a plugin");
    println!("load: {:?} for {} bytes", (cpu() - started), bytes.len());
    let place = plugin.types().iter().position(|kind| kind.info().typeid == typeid).expect("the plugin has TYPEID");
    let methods = &plugin.types()[place].info().methods;
    let method = methods.iter().position(|known| known.name == method).expect("the type has METHOD");
    let create = |ident| {
        let birth = Birth { tenant: "default", ident: Ident(ident), now_ms: 0, seed: 0 };
        plugin.create(place, Args::none(), birth, &mut Outbox::new(1)).expect("the object is made")
    };
    let mut out = Outbox::new(0);
    let mut step = |referent: &mut Box<dyn Referent>, id| {
        let owner = Owner { session: 1, thread: 1 };
        let method = u16::try_from(method).expect("methods are few");
        out.clear(0, 4096);
        referent
            .step(Input::Call(Call { id, facet: 0, method, owner, now_ms: 0, seed: 0, args: Args::none() }), &mut out);
        assert!(out.poisoned().is_none(), "{:?}", out.poisoned());
        out.replies().len()
    };

    // What the first objects set up for all is not what one costs.
    let mut warm: Vec<_> = (0..100).map(create).collect();
    warm.iter_mut().for_each(|referent| assert_eq!(step(referent, 1), 1, "METHOD answers"));

    let before = memory();
    let started = cpu();
    let mut kept: Vec<_> = (0..objects).map(create).collect();
    println!("create: {:?} each", (cpu() - started) / u32::try_from(objects).expect("objects are counted"));
    let untouched = memory();
    kept.iter_mut().for_each(|referent| assert_eq!(step(referent, 1), 1));
    let after = memory();
    for (what, memory) in [("untouched", untouched), ("called once", after)] {
        let each: Vec<_> =
            memory.iter().zip(before).map(|((_, now), (_, then))| now.saturating_sub(then) / objects).collect();
        let parts: Vec<_> = memory.iter().zip(&each).map(|((name, _), bytes)| format!("{name} {bytes}")).collect();
        println!("{what}: {} bytes an object ({})", each[..2].iter().sum::<u64>(), parts.join(", "));
    }
    let maps = fs::read_to_string("/proc/self/maps").expect("the system tells maps").lines().count() as u64;
    println!("maps: {:.1} an object", maps as f64 / (objects + 100) as f64);

    let mut fastest = f64::INFINITY;
    for _ in 0..10 {
        const STEPS: u64 = 50_000;
        let started = cpu();
        for id in 0..STEPS {
            step(&mut kept[0], id + 2);
        }
        fastest = fastest.min((cpu() - started).as_nanos() as f64 / STEPS as f64);
    }
    println!("step: {fastest:.0} ns");
    let started = cpu();
    drop(kept);
    println!("drop: {:?} each", (cpu() - started) / u32::try_from(objects).expect("objects are counted"));
}

/// CPU time of this thread, which others on a busy machine do not add to.
fn cpu() -> Duration {
    Duration::try_from(clock_gettime(ClockId::ThreadCPUTime)).expect("CPU time is not negative")
}

/// Bytes that this process uses: resident, in page tables (these two are its own), and the whole kernel's slab.
fn memory() -> [(&'static str, u64); 3] {
    let kib = |file: &str, field: &str| {
        let text = fs::read_to_string(file).expect("the system tells memory");
        let line = text.lines().find_map(|line| line.strip_prefix(field)).expect("the field is there");
        line.trim().trim_end_matches(" kB").parse::<u64>().expect("it is a number") * 1024
    };
    [
        ("resident", kib("/proc/self/status", "VmRSS:")),
        ("page tables", kib("/proc/self/status", "VmPTE:")),
        ("kernel slab", kib("/proc/meminfo", "Slab:")),
    ]
}
