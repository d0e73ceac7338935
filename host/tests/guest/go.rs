//! Plugins in Go, whose start was at build time.

use super::*;
use steward_wire::Value;

/// A dict of `tests/guests/go`, and the number of its latest call.
struct Dict {
    plugin: Arc<Loaded>,
    referent: Box<dyn Referent>,
    out: Outbox,
    calls: u64,
}

impl Dict {
    fn new(plugin: &Arc<Loaded>) -> Self {
        let referent = create(plugin, "GuestDict").unwrap();
        Self { plugin: Arc::clone(plugin), referent, out: Outbox::new(1), calls: 0 }
    }

    fn call(&mut self, method: &str, args: Vec<Value>) -> Result<Value, Fault> {
        let kind = self.plugin.types().iter().find(|kind| kind.info().typeid == "GuestDict").unwrap();
        let number = kind.info().methods.iter().position(|known| known.name == method).unwrap() as u16;
        let item = Value::List(vec![Value::List(args), Value::Map(vec![])]).to_vec();
        self.calls += 1;
        self.out.clear(self.out.fence_next(), 1 << 20);
        let owner = Owner { session: 1, thread: 1 };
        let args = Args::new(&item, false);
        let call = Call { id: self.calls, facet: 0, method: number, owner, now_ms: 1_000, seed: self.calls, args };
        self.referent.step(Input::Call(call), &mut self.out);
        assert!(self.out.poisoned().is_none(), "{:?}", self.out.poisoned());
        let [reply] = self.out.replies() else { panic!("one answer") };
        match reply.effect {
            Effect::Returned => Ok(Value::decode(self.out.payload(reply)).unwrap()),
            effect => Err(Fault::read(effect, self.out.payload(reply)).unwrap()),
        }
    }
}

/// All begin with the same bytes, and go their own ways from there. One that runs out of memory is made again from its journal, whose
/// outcomes must come out as they did, and then has what it had.
#[test]
fn object_begins_where_the_build_ended_and_is_made_again_from_there() {
    if IS_DENSE {
        // It would be laid out fast all the same.
        return;
    }
    let options = LoadOptions { memory_bytes: Some(8 << 20) };
    let plugin = Loaded::new(Guests::new(config()).unwrap().load_with("go", &component("go"), options).unwrap());
    let (mut one, mut other) = (Dict::new(&plugin), Dict::new(&plugin));
    for key in 0..40 {
        one.call("__setitem__", vec![Value::Int(key), Value::Text("kept".repeat(50))]).unwrap();
    }
    let fault = one.call("__setitem__", vec![Value::Int(40), Value::Bytes(vec![7; 4 << 20])]).unwrap_err();
    assert!(fault.message.contains("out of memory, limit is 8388608 bytes"), "{fault:?}");
    assert_eq!(one.call("__len__", vec![]), Ok(Value::Int(40)));
    assert_eq!(one.call("__getitem__", vec![Value::Int(39)]), Ok(Value::Text("kept".repeat(50))));
    assert_eq!(other.call("__len__", vec![]), Ok(Value::Int(0)));
}
