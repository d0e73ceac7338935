//! Plugins in the host: honest ones are served, and those that misbehave harm nobody but themselves.
//!
//! `probe` (tests/guests/probe) does whatever it is asked to, however rude.

mod frozen;
mod go;
mod lives;
mod loading;
mod memory;
mod shards;
mod steps;

use std::fs;
use std::ops::Deref;
use std::sync::Arc;

use steward_host::guest::{
    Birth, Compiler, GuestConfig, Guests, Isolation, LoadOptions, Plugin, PluginType, Profile, Releases,
};
use steward_objects::{Args, Call, Effect, Fault, Ident, Input, Outbox, Owner, Referent};

/// A plugin of this checkout.
fn component(name: &str) -> Vec<u8> {
    let test = std::env::current_exe().expect("a test has a path");
    let target = test.ancestors().nth(3).expect("a test lies in target/PROFILE/deps");
    let path = target.join("plugins").join(format!("{name}.wasm"));
    fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}; run `cargo xtask plugins` first", path.display()))
}

/// The program `guest_dense` is made of these very files.
const IS_DENSE: bool = env!("CARGO_CRATE_NAME").len() == "guest_dense".len();

/// So is `guest_shared`.
const IS_SHARED: bool = env!("CARGO_CRATE_NAME").len() == "guest_shared".len();

/// A configuration for few objects, so that the tests of this file can run side by side.
fn config() -> GuestConfig {
    let profile = if IS_DENSE { Profile::Dense } else { Profile::Fast };
    GuestConfig { objects_max: 64, profile, ..GuestConfig::new(Compiler::InProcess) }
}

/// The program itself, which compiles when it is asked to.
fn compiler() -> Compiler {
    Compiler::Child { program: env!("CARGO_BIN_EXE_steward").into(), args: vec!["compile-component".into()] }
}

/// What keeps objects of this type apart in this program.
fn isolation(kind: &PluginType) -> Isolation {
    let wanted = if IS_SHARED { Isolation::Shared } else { Isolation::Object };
    kind.may_be(wanted).map_or(Isolation::Object, |()| wanted)
}

/// A type, registered nowhere.
fn releases(kind: &Arc<PluginType>) -> Arc<Releases> {
    Releases::after(Vec::new(), Arc::clone(kind), isolation(kind)).unwrap()
}

/// A plugin, with its types as this program has them.
struct Loaded {
    plugin: Arc<Plugin>,
    releases: Vec<Arc<Releases>>,
}

impl Loaded {
    fn new(plugin: Arc<Plugin>) -> Arc<Self> {
        let releases = plugin.types().iter().map(releases).collect();
        Arc::new(Self { plugin, releases })
    }
}

impl Deref for Loaded {
    type Target = Plugin;

    fn deref(&self) -> &Plugin {
        &self.plugin
    }
}

fn probe(config: GuestConfig) -> Arc<Loaded> {
    // As much as the fast layout gives, as far as the dense one has it.
    let memory_bytes = IS_DENSE.then_some(config.memory_bytes_max.min(16 << 20));
    let guests = Guests::new(config).unwrap();
    Loaded::new(guests.load_with("probe", &component("probe"), LoadOptions { memory_bytes }).unwrap())
}

/// An object with all that a cell keeps for it.
struct Driven {
    plugin: Arc<Loaded>,
    referent: Box<dyn Referent>,
    out: Outbox,
    calls: u64,
}

impl Driven {
    fn new(plugin: &Arc<Loaded>) -> Self {
        let referent = create(plugin, "Probe").unwrap();
        Self { plugin: Arc::clone(plugin), referent, out: Outbox::new(1), calls: 0 }
    }

    /// Steps a call of `method`; returns its number.
    fn start(&mut self, method: &str, args: Args<'_>) -> u64 {
        let methods = &self.plugin.types()[0].info().methods;
        let index = methods.iter().position(|known| known.name == method).expect("the probe has this method");
        self.start_index(u16::try_from(index).unwrap(), args)
    }

    fn start_index(&mut self, method: u16, args: Args<'_>) -> u64 {
        self.calls += 1;
        let owner = Owner { session: 1, thread: 1 };
        let call = Call { id: self.calls, facet: 0, method, owner, now_ms: 1_000, seed: 7, args };
        self.step(Input::Call(call));
        self.calls
    }

    fn step(&mut self, input: Input<'_>) {
        self.out.clear(self.out.fence_next(), 1 << 20);
        self.referent.step(input, &mut self.out);
    }

    /// The answer to call `id`, given in the last step.
    fn answer(&self, id: u64) -> Result<Vec<u8>, Fault> {
        let reply = self.out.replies().iter().find(|reply| reply.call == id).expect("the call was answered");
        let payload = self.out.payload(reply);
        match reply.effect {
            Effect::Returned => Ok(payload.to_vec()),
            effect => Err(Fault::read(effect, payload).unwrap()),
        }
    }

    fn call(&mut self, method: &str) -> Result<Vec<u8>, Fault> {
        let id = self.start(method, Args::none());
        self.answer(id)
    }

    /// What the last step poisoned the object with.
    fn poison(&self) -> &Fault {
        self.out.poisoned().expect("the step poisoned the object")
    }
}

fn create(plugin: &Loaded, typeid: &str) -> Result<Box<dyn Referent>, Fault> {
    let index = plugin.types().iter().position(|kind| kind.info().typeid == typeid).expect("the probe has this type");
    let birth = Birth { tenant: "default", ident: Ident(3), now_ms: 1_000, seed: 7 };
    plugin.releases[index].create(Args::none(), birth, &mut Outbox::new(1))
}
