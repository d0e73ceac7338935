//! What an object lives through: traps, after which it goes on as it was, and new versions of its type.
//!
//! `changeling` (tests/guests/changeling) is written over in place to become other versions of itself.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, OnceLock};

use steward_host::guest::{Birth, GuestConfig, Guests, Plugin, PluginType, Releases};
use steward_objects::{Args, Call, Effect, Fault, Grant, Ident, Input, Outbox, Owner, Referent, Value, Why};
use steward_wire::Token;

use super::{IS_SHARED, component, config, releases};

#[path = "../../../tests/guests/changeling/versions.rs"]
#[expect(unreachable_pub, reason = "elsewhere it is")]
mod versions;

/// A version of the changeling. `writes`: what else is written over, and with what.
pub(super) fn version(version: &str, behaviour: &str, writes: &[(&str, &str)]) -> Arc<Plugin> {
    static GUESTS: OnceLock<Guests> = OnceLock::new();
    static LOADED: Mutex<Option<HashMap<Vec<u8>, Arc<Plugin>>>> = Mutex::new(None);
    let bytes = versions::version(&component("changeling"), version, behaviour, writes);
    let guests = GUESTS.get_or_init(|| Guests::new(config()).unwrap());
    let mut loaded = LOADED.lock().unwrap();
    let loaded = loaded.get_or_insert_default();
    loaded.entry(bytes).or_insert_with_key(|bytes| guests.load("changeling", bytes).unwrap()).clone()
}

pub(super) fn first() -> Arc<Plugin> {
    version("1.0.7001", "as it is....", &[])
}

pub(super) fn second(behaviour: &str) -> Arc<Plugin> {
    version("2.0.7001", behaviour, &[])
}

pub(super) fn kind(plugin: &Plugin, typeid: &str) -> Arc<PluginType> {
    plugin.types().iter().find(|kind| kind.info().typeid == typeid).expect("the changeling has this type").clone()
}

/// An object, with all that a cell keeps for it and a clock.
pub(super) struct Living {
    pub(super) releases: Arc<Releases>,
    pub(super) referent: Box<dyn Referent>,
    pub(super) out: Outbox,
    calls: u64,
    pub(super) now_ms: u64,
    wake_at_ms: Option<u64>,
}

/// What became of a call.
pub(super) type Answer = (u64, Result<Vec<u8>, Fault>, Option<Grant>);

impl Living {
    pub(super) fn new(plugin: &Plugin, typeid: &str) -> Self {
        Self::of(releases(&kind(plugin, typeid)))
    }

    pub(super) fn of(releases: Arc<Releases>) -> Self {
        let birth = Birth { tenant: "default", ident: Ident(3), now_ms: 1_000, seed: 7 };
        let referent = releases.create(Args::none(), birth, &mut Outbox::new(1)).unwrap();
        Self { releases, referent, out: Outbox::new(1), calls: 0, now_ms: 1_000, wake_at_ms: None }
    }

    pub(super) fn replace(&self, plugin: &Plugin, typeid: &str) {
        self.releases.replace(kind(plugin, typeid), None).unwrap();
    }

    pub(super) fn number(&self, method: &str) -> u16 {
        let newest = self.releases.newest();
        let place = newest.info().methods.iter().position(|known| known.name == method);
        u16::try_from(place.expect("the type has this method")).unwrap()
    }

    pub(super) fn step(&mut self, input: Input<'_>) {
        self.out.clear(self.out.fence_next(), 1 << 20);
        if matches!(input, Input::Tick { .. }) {
            self.wake_at_ms = None;
        }
        self.referent.step(input, &mut self.out);
        self.wake_at_ms = self.out.wake_at_ms().or(self.wake_at_ms);
    }

    /// Steps a call; returns its number.
    pub(super) fn start(&mut self, method: &str, args: &[Value]) -> u64 {
        let number = self.number(method);
        self.start_number(number, args)
    }

    pub(super) fn start_number(&mut self, method: u16, args: &[Value]) -> u64 {
        self.calls += 1;
        let args = Value::List(vec![Value::List(args.to_vec()), Value::Map(vec![])]).to_vec();
        let call = Call {
            id: self.calls,
            facet: 0,
            method,
            owner: Owner { session: 1, thread: 1 },
            now_ms: self.now_ms,
            seed: self.calls * 31,
            args: Args::new(&args, true),
        };
        self.step(Input::Call(call));
        self.calls
    }

    /// The answers of the last step, in order.
    pub(super) fn answers(&self) -> Vec<Answer> {
        let answer = |reply: &steward_objects::Reply| {
            let payload = self.out.payload(reply);
            let outcome = match reply.effect {
                Effect::Returned => Ok(payload.to_vec()),
                effect => Err(Fault::read(effect, payload).unwrap()),
            };
            (reply.call, outcome, reply.grant)
        };
        self.out.replies().iter().map(answer).collect()
    }

    pub(super) fn answer(&self, id: u64) -> Result<Vec<u8>, Fault> {
        self.answers().into_iter().find(|(call, ..)| *call == id).expect("the call was answered").1
    }

    pub(super) fn call(&mut self, method: &str, args: &[Value]) -> Result<Vec<u8>, Fault> {
        let id = self.start(method, args);
        self.answer(id)
    }

    pub(super) fn int(&mut self, method: &str, args: &[Value]) -> i64 {
        let Value::Int(int) = Value::decode(&self.call(method, args).unwrap()).unwrap() else { panic!("an int") };
        int
    }

    /// Lets time pass, and wakes the object as it wished.
    pub(super) fn advance(&mut self, ms: u64) -> Vec<Answer> {
        let until_ms = self.now_ms + ms;
        let mut answers = Vec::new();
        while let Some(at_ms) = self.wake_at_ms.filter(|at_ms| *at_ms <= until_ms) {
            self.now_ms = self.now_ms.max(at_ms);
            self.step(Input::Tick { now_ms: self.now_ms });
            answers.extend(self.answers());
        }
        self.now_ms = until_ms;
        answers
    }

    pub(super) fn behaviour(&mut self) -> String {
        let Value::Text(text) = Value::decode(&self.call("behaviour", &[]).unwrap()).unwrap() else { panic!("a text") };
        text
    }

    pub(super) fn poison(&self) -> String {
        let fault = self.out.poisoned().expect("the step poisoned the object");
        assert_eq!((fault.effect, fault.kind.as_str()), (Effect::Poisoned, "GuestTrap"));
        fault.message.clone()
    }
}

pub(super) fn token(ident: u64) -> Value {
    Value::Token(Token { typeid: "Value".into(), ident: Ident(ident), address: None })
}

pub(super) fn padding(bytes: usize) -> Value {
    Value::Bytes(vec![7; bytes])
}

#[test]
fn object_that_traps_now_and_then_is_as_one_that_never_does() {
    no_trap_shows(&|| Living::new(&first(), "Changeling"), &|_| Vec::new());
}

/// Two objects take the same inputs, one of them with calls that trap among them, its own or those of neighbours: it answers, holds
/// and lets go as the other does, over several of its saves.
pub(super) fn no_trap_shows(living: &dyn Fn() -> Living, neighbours: &dyn Fn(&Living) -> Vec<Living>) {
    for seed in 0..12 {
        let mut random = fastrand::Rng::with_seed(seed);
        let (mut quiet, mut troubled) = (living(), living());
        let mut neighbours = neighbours(&troubled);
        let mut waiting: Vec<u64> = Vec::new();
        for turn in 0..400 {
            if random.u8(..8) == 0 {
                // Its own call traps, or, if it has neighbours, rather one of theirs.
                let fault = match random.choice(&mut neighbours).filter(|_| turn % 4 > 0) {
                    Some(neighbour) => {
                        neighbour.advance(60_001);
                        neighbour.call("trap", &[Value::Int(5)]).unwrap_err()
                    }
                    None => {
                        quiet.calls += 1;
                        troubled.call("trap", &[Value::Int(5)]).unwrap_err()
                    }
                };
                assert_eq!(
                    (fault.effect, fault.retryable),
                    (Effect::Refused, false),
                    "seed {seed}, turn {turn}: {fault:?}"
                );
                assert!(troubled.out.poisoned().is_none(), "seed {seed}, turn {turn}: {:?}", troubled.out.poisoned());
                // So that nobody is slowed down.
                quiet.advance(60_001);
                troubled.advance(60_001);
            }
            let now_ms = i64::try_from(quiet.now_ms).unwrap();
            let mut both = |act: &dyn Fn(&mut Living)| {
                act(&mut quiet);
                act(&mut troubled);
            };
            let (amount, bytes) = (random.i64(-3..9), random.usize(..900));
            match random.u8(..12) {
                0..3 => both(&|object| _ = object.start("add", &[Value::Int(amount), padding(bytes)])),
                3..5 => both(&|object| _ = object.start("take_in_turn", &[Value::Int(amount)])),
                5 => {
                    both(&|object| _ = object.start("sleep", &[Value::Int(now_ms + 1_000 * amount)]));
                }
                6 => both(&|object| _ = object.start("sum", &[])),
                7 => both(&|object| _ = object.start("keep", &[token(bytes as u64 % 5 + 40)])),
                8 => both(&|object| _ = object.start("give", &[])),
                9 => {
                    both(&|object| object.step(Input::OwnerLost { session: 9, orderly: false, now_ms: object.now_ms }))
                }
                10 if !waiting.is_empty() => {
                    let call = waiting[random.usize(..waiting.len())];
                    both(&|object| object.step(Input::Cancel { call, why: Why::Deadline, now_ms: object.now_ms }));
                }
                _ => {
                    let (left, right) = (quiet.advance(700), troubled.advance(700));
                    assert_eq!(left, right, "seed {seed}, turn {turn}");
                    waiting.retain(|call| left.iter().all(|(answered, ..)| answered != call));
                    continue;
                }
            }
            let seen = |object: &Living| {
                let out = &object.out;
                (object.answers(), out.held().to_vec(), out.let_go_of().to_vec(), out.is_changed(), out.hold_change())
            };
            assert_eq!(seen(&quiet), seen(&troubled), "seed {seed}, turn {turn}");
            assert!(troubled.out.poisoned().is_none(), "seed {seed}, turn {turn}: {:?}", troubled.out.poisoned());
            let answered: Vec<u64> = quiet.answers().into_iter().map(|(call, ..)| call).collect();
            if !answered.contains(&quiet.calls) && !waiting.contains(&quiet.calls) {
                waiting.push(quiet.calls);
            }
            waiting.retain(|call| !answered.contains(call));
        }
        let report = troubled.releases.report();
        assert!(report.traps > 10 && report.traps <= report.recovered, "{report:?}");
        assert!(report.poisoned == 0, "{report:?}");
        assert!(report.journal_bytes < 8 << 10, "the object was saved: {report:?}");
    }
}

/// What is not saved and shows all the same: such a guest cannot be made again, and the object says so.
#[test]
fn guest_that_differs_when_it_is_made_again_is_poisoned() {
    let mut object = Living::new(&first(), "Changeling");
    assert_eq!(object.int("count", &[]), 1);
    // Not saved yet, so all is as it was.
    object.call("trap", &[Value::Int(1)]).unwrap_err();
    assert_eq!(object.int("count", &[]), 2);
    object.call("add", &[Value::Int(1), padding(5_000)]).unwrap();
    assert_eq!(object.int("count", &[]), 3);
    object.start("trap", &[Value::Int(1)]);
    let expected = "guest trapped in `Changeling.trap`: unreachable executed; it cannot be made again: \
                    its outcome differs the second time in `Changeling.count`";
    assert_eq!(object.poison(), expected);
    assert_eq!(object.releases.report().poisoned, 1);
}

#[test]
fn trap_in_what_cannot_be_skipped_poisons() {
    let mut object = Living::new(&version("1.0.7001", "traps lost..", &[]), "Changeling");
    object.call("add", &[Value::Int(1)]).unwrap();
    object.step(Input::OwnerLost { session: 1, orderly: false, now_ms: 1_000 });
    assert_eq!(object.poison(), "guest trapped in `Changeling` when an owner was lost: unreachable executed");
}

#[test]
fn object_that_does_not_save_is_made_again_until_its_inputs_are_too_many() {
    let mut stone = Living::new(&first(), "Stone");
    assert_eq!(stone.int("count", &[padding(60_000)]), 1);
    stone.call("trap", &[]).unwrap_err();
    assert_eq!(stone.int("count", &[]), 2);
    assert_eq!(stone.int("count", &[padding(8_000)]), 3);
    stone.start("trap", &[]);
    let expected = "guest trapped in `Stone.trap`: unreachable executed; it cannot be made again: \
                    its type does not save, and it was made too many calls ago";
    assert_eq!(stone.poison(), expected);
}

/// It says that it saves, and cannot: each try costs a guest, which is made again, until there is too much to make it from.
#[test]
fn object_that_traps_while_it_is_saved_goes_on_and_is_made_again_until_its_inputs_are_too_many() {
    let mut object = Living::new(&version("1.0.7001", "traps save..", &[]), "Changeling");
    for sum in 1..=30 {
        assert_eq!(object.int("add", &[Value::Int(1), padding(1_000)]), sum);
    }
    object.call("trap", &[Value::Int(1)]).unwrap_err();
    // At 4, 8, 16 KiB, and the call that trapped; where objects share, at 1 and 2 KiB, too.
    let report = object.releases.report();
    let traps = if IS_SHARED { 6 } else { 4 };
    assert_eq!((report.traps, report.recovered), (traps, traps));
    object.advance(60_001);
    // It cannot be moved either, and is as it was after the try.
    object.replace(&second("changed....."), "Changeling");
    assert_eq!(object.int("sum", &[]), 30);
    let report = object.releases.report();
    assert_eq!(report.not_moved_last.unwrap(), "object #3 stays with 1.0.7001: `save` trapped: unreachable executed");

    // These count as traps in a row, too, but for a quiet minute.
    object.advance(60_001);
    (0..60).for_each(|_| drop(object.call("add", &[Value::Int(1), padding(1_000)]).unwrap()));
    assert_eq!(object.int("sum", &[]), 90);
    object.start("trap", &[Value::Int(1)]);
    let expected = "guest trapped in `Changeling.trap`: unreachable executed; it cannot be made again: \
                    it could not be saved";
    assert_eq!(object.poison(), expected);
}

#[test]
fn object_that_does_nothing_but_trap_is_slowed_down() {
    let mut object = Living::new(&first(), "Changeling");
    for _ in 0..6 {
        assert!(!object.call("trap", &[Value::Int(1)]).unwrap_err().retryable);
    }
    let fault = object.call("sum", &[]).unwrap_err();
    assert_eq!((fault.effect, fault.kind.as_str(), fault.retryable), (Effect::Refused, "GuestTrap", true));
    assert_eq!(fault.message, "`Changeling` trapped 6 times in a row: calls are refused for another 100 ms");
    // What has happened whether or not calls are let in is told.
    object.step(Input::OwnerLost { session: 1, orderly: false, now_ms: object.now_ms });
    object.advance(100);
    assert_eq!(object.int("sum", &[]), -1);
}

#[test]
fn object_that_traps_now_and_then_is_never_slowed_down() {
    let mut object = Living::new(&first(), "Changeling");
    for _ in 0..20 {
        (0..100).for_each(|_| drop(object.call("sum", &[]).unwrap()));
        assert!(!object.call("trap", &[Value::Int(1)]).unwrap_err().retryable);
    }
    assert_eq!(object.releases.report().recovered, 20);
}

/// Calls wait, in a line and for a time; the version changes; they are answered in their order by the new one.
#[test]
fn calls_that_wait_go_along_and_keep_their_order() {
    let mut object = Living::new(&first(), "Changeling");
    let sleeps = object.start("sleep", &[Value::Int(5_000)]);
    let waits: Vec<u64> = [3, 1, 2].into_iter().map(|n| object.start("take_in_turn", &[Value::Int(n)])).collect();
    object.replace(&second("changed....."), "Changeling");
    assert_eq!(object.behaviour(), "changed.....");
    assert!(!object.out.is_changed());
    let adds = object.start("add", &[Value::Int(4)]);
    let answered: Vec<u64> = object.answers().into_iter().map(|(call, ..)| call).collect();
    assert_eq!(answered, [adds, waits[0], waits[1]]);
    let adds = object.start("add", &[Value::Int(2)]);
    assert_eq!(object.answer(waits[2]).unwrap(), Value::Int(0).to_vec());
    assert_eq!(object.answer(adds).unwrap(), Value::Int(2).to_vec());
    assert_eq!(object.advance(4_000), [(sleeps, Ok(Value::Int(5_000).to_vec()), None)]);
    // It is made again as the version that it is now.
    object.call("trap", &[Value::Int(1)]).unwrap_err();
    assert_eq!((object.behaviour().as_str(), object.int("sum", &[])), ("changed.....", 0));
    let report = object.releases.report();
    assert_eq!((report.moved, report.not_moved, report.versions.len()), (1, 0, 1));
    assert_eq!((report.versions[0].version.as_str(), report.versions[0].objects), ("2.0.7001", 1));
}

#[test]
fn new_version_may_answer_what_the_old_one_let_wait() {
    let mut object = Living::new(&first(), "Changeling");
    let waits: Vec<u64> = [3, 1].into_iter().map(|n| object.start("take_in_turn", &[Value::Int(n)])).collect();
    object.replace(&second("generous...."), "Changeling");
    let sums = object.start("sum", &[]);
    let int = |n| Ok(Value::Int(n).to_vec());
    assert_eq!(object.answers(), [(waits[0], int(-3), None), (waits[1], int(-4), None), (sums, int(-4), None)]);
    assert!(object.out.is_changed());
    object.call("trap", &[Value::Int(1)]).unwrap_err();
    assert_eq!(object.int("sum", &[]), -4);
}

/// A call that waits is given up by the very step that moves the object, and the new version has answered it already.
#[test]
fn call_that_the_move_answers_is_not_given_up_as_well() {
    let mut object = Living::new(&first(), "Changeling");
    let waits = object.start("take_in_turn", &[Value::Int(3)]);
    object.replace(&second("generous...."), "Changeling");
    object.step(Input::Cancel { call: waits, why: Why::Deadline, now_ms: 1_000 });
    assert_eq!(object.answers(), [(waits, Ok(Value::Int(-3).to_vec()), None)]);
}

#[test]
fn state_of_an_older_version_is_migrated() {
    let mut object = Living::new(&first(), "Changeling");
    object.call("add", &[Value::Int(4)]).unwrap();
    object.replace(&second("tenfold....."), "Changeling");
    assert_eq!(object.int("sum", &[]), 40);
    // And back, with other content under the same version.
    object.replace(&first(), "Changeling");
    assert_eq!(object.int("add", &[Value::Int(1)]), 41);
    object.call("trap", &[Value::Int(1)]).unwrap_err();
    assert_eq!(object.int("sum", &[]), 41);
}

/// The number of a method means the same in every version, whatever the order in which a plugin lists it.
#[test]
fn method_keeps_its_number() {
    let mut object = Living::new(&first(), "Changeling");
    let (alpha, bravo) = (object.number("alpha_method"), object.number("bravo_method"));
    let last = object.releases.newest().info().methods.len();
    let swapped = [("alpha_method", "bravo_method"), ("bravo_method", "alpha_method")];
    object.replace(&version("2.0.7001", "changed.....", &swapped), "Changeling");
    let answer = |object: &mut Living, number| {
        let id = object.start_number(number, &[]);
        object.answer(id)
    };
    // Their bodies changed places, and their names.
    assert_eq!(answer(&mut object, alpha).unwrap(), Value::Int(2).to_vec());
    assert_eq!(answer(&mut object, bravo).unwrap(), Value::Int(1).to_vec());

    object.replace(&version("3.0.7001", "changed.....", &[("bravo_method", "gamma_method")]), "Changeling");
    let newest = object.releases.newest();
    let methods = &newest.info().methods;
    assert_eq!(
        (methods[usize::from(bravo)].name.as_str(), methods[usize::from(bravo)].exposed),
        ("bravo_method", false)
    );
    assert_eq!((object.number("alpha_method"), object.number("gamma_method")), (alpha, last as u16));
    assert_eq!(answer(&mut object, last as u16).unwrap(), Value::Int(2).to_vec());
    let fault = answer(&mut object, bravo).unwrap_err();
    assert_eq!((fault.effect, fault.kind.as_str()), (Effect::Refused, "NotExposed"));

    object.replace(&first(), "Changeling");
    assert_eq!(answer(&mut object, bravo).unwrap(), Value::Int(2).to_vec());
    assert_eq!(answer(&mut object, last as u16).unwrap_err().kind, "NotExposed");
}

/// `to` cannot take over, and says why; the old version serves on, and is not asked again before the next replacement.
#[track_caller]
fn stays(plugin: &Plugin, why: &str) {
    let mut object = Living::new(&first(), "Changeling");
    let waits = object.start("take_in_turn", &[Value::Int(3)]);
    object.replace(plugin, "Changeling");
    assert_eq!(object.int("add", &[Value::Int(2)]), 2);
    assert_eq!(object.behaviour(), "as it is....");
    object.start("add", &[Value::Int(1)]);
    assert_eq!(object.answer(waits).unwrap(), Value::Int(0).to_vec());
    let report = object.releases.report();
    assert_eq!((report.moved, report.not_moved), (0, 1));
    assert_eq!(report.not_moved_last.unwrap(), format!("object #3 stays with 1.0.7001: {why}"));
    let versions: Vec<_> = report.versions.iter().map(|version| (version.version.as_str(), version.objects)).collect();
    assert_eq!(versions, [("1.0.7001", 1), ("2.0.7001", 0)]);

    object.replace(&version("2.1.7001", "changed.....", &[]), "Changeling");
    assert_eq!(object.behaviour(), "changed.....");
    assert_eq!(object.releases.report().moved, 1);
}

#[test]
fn object_whose_state_the_new_version_refuses_stays() {
    stays(&second("fails load.."), "`load` raised ValueError: state does not load: this is not for me");
}

#[test]
fn object_stays_if_load_traps() {
    stays(&second("traps load.."), "`load` trapped: unreachable executed");
}

/// The step that moves the object traps in the new version, so the old one takes it.
#[test]
fn trap_in_the_first_step_returns_to_the_old_version() {
    stays(&second("traps first."), "its first step, `Changeling.add` trapped: unreachable executed");
}

#[test]
fn object_with_a_call_that_waits_in_a_method_which_is_gone_stays() {
    let gone = version("2.0.7001", "changed.....", &[("take_in_turn", "took_in_turn")]);
    stays(&gone, "call 1 waits in `take_in_turn`, which is gone");
}

#[test]
fn objects_that_do_not_save_stay_beside_new_ones() {
    let mut stone = Living::new(&first(), "Stone");
    stone.replace(&second("changed....."), "Stone");
    assert_eq!(stone.behaviour(), "as it is....");
    let birth = Birth { tenant: "default", ident: Ident(4), now_ms: 1_000, seed: 7 };
    let _new = stone.releases.create(Args::none(), birth, &mut Outbox::new(1)).unwrap();
    let report = stone.releases.report();
    assert_eq!(report.versions.iter().map(|version| version.objects).collect::<Vec<_>>(), [1, 1]);
    assert_eq!(report.not_moved, 0);
}

#[test]
fn object_that_has_asked_another_one_moves_when_it_has_its_answer() {
    let mut object = Living::new(&first(), "Changeling");
    object.start("ask", &[token(9)]);
    assert_eq!(object.out.take_invocations()[0].ident, Ident(9));
    object.replace(&second("tenfold....."), "Changeling");
    assert_eq!(object.behaviour(), "as it is....");
    let now_ms = object.now_ms;
    object.step(Input::Returned { tag: 1, outcome: Ok(&[0x18, 0x2a]), now_ms });
    assert_eq!(object.out.let_go_of(), [Ident(9)]);
    assert_eq!((object.behaviour().as_str(), object.int("sum", &[])), ("tenfold.....", 420));
}

#[test]
fn tokens_are_held_through_a_move_and_those_that_the_new_version_forgets_are_let_go() {
    let mut object = Living::new(&first(), "Changeling");
    object.call("keep", &[token(8)]).unwrap();
    object.call("keep", &[token(8)]).unwrap();
    object.replace(&second("changed....."), "Changeling");
    object.call("sum", &[]).unwrap();
    assert!(object.out.held().is_empty() && object.out.let_go_of().is_empty());
    object.call("give", &[]).unwrap();
    assert_eq!(object.out.let_go_of(), [Ident(8)]);
    object.replace(&version("3.0.7001", "forgetful...", &[]), "Changeling");
    object.call("sum", &[]).unwrap();
    assert_eq!((object.out.held(), object.out.let_go_of()), (&[][..], &[Ident(8)][..]));
}

/// For a moment there are two guests of one object.
#[test]
fn objects_of_a_full_host_move_and_are_made_again() {
    // A shard of the new version stands beside the old one until all have moved.
    let objects_max = if IS_SHARED { 2 } else { 1 };
    let guests = Guests::new(GuestConfig { objects_max, ..config() }).unwrap();
    let load = |bytes: &[u8]| guests.load("changeling", bytes).unwrap();
    let changeling = component("changeling");
    let mut object = Living::new(&load(&changeling), "Changeling");
    object.replace(&load(&versions::version(&changeling, "2.0.7001", "changed.....", &[])), "Changeling");
    assert_eq!(object.behaviour(), "changed.....");
    object.call("trap", &[Value::Int(1)]).unwrap_err();
    assert_eq!(object.int("sum", &[]), 0);
}

#[test]
fn objects_of_a_removed_type_are_poisoned_with_their_next_step() {
    let mut object = Living::new(&first(), "Changeling");
    object.releases.remove();
    object.start("sum", &[]);
    assert_eq!(object.poison(), "typeid `Changeling` was removed with its objects");
}

#[test]
fn journal_of_an_object_is_small_and_goes_with_it() {
    let mut object = Living::new(&first(), "Changeling");
    object.call("add", &[Value::Int(1)]).unwrap();
    let one = object.releases.report().journal_bytes;
    assert!((1..=200).contains(&one), "{one} bytes");
    // Reading leaves no trace.
    (0..100).for_each(|_| drop(object.call("sum", &[]).unwrap()));
    assert_eq!(object.releases.report().journal_bytes, one);
    let releases = Arc::clone(&object.releases);
    drop(object);
    let report = releases.report();
    assert_eq!((report.journal_bytes, report.versions[0].objects), (0, 0));
}
