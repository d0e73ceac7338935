//! Event: a flag that people wait for.

use std::collections::BTreeSet;

use crate::{Builtin, Call, CallId, Fault, Input, Method, Outbox, Referent, Why};

use super::{cancelled, common_method};

/// `threading.Event`.
pub static EVENT: Builtin = Builtin {
    typeid: "Event",
    doc: "A flag that can be set and cleared, and waited for.",
    constructor: &[],
    methods: METHODS,
    create: |args, _| {
        let [] = args.bind("Event.__init__", EVENT.constructor)?;
        Ok(Box::new(Event::default()))
    },
    joins: &[],
    snapshots: false,
    constructible: true,
};

methods! {
    /// Methods of Event.
    EventMethod, METHODS:
    IsSet = Method::new("is_set", &[], "Whether the flag is set.").read_only();
    Set = Method::new("set", &[], "Sets the flag and lets all go that wait for it.");
    Clear = Method::new("clear", &[], "Clears the flag: whoever waits from now on parks.");
    Wait = Method::new(
        "wait",
        &[],
        "Parks until the flag is set; returns True, or False if the deadline came first.",
    ).may_park();
}

#[derive(Debug, Default)]
struct Event {
    is_set: bool,
    /// Empty while the flag is set.
    waiting: BTreeSet<CallId>,
}

impl Event {
    fn call(&mut self, call: &Call<'_>, out: &mut Outbox) -> Result<(), Fault> {
        let Some(method) = EventMethod::of(call.method) else {
            let state = if self.is_set { "set" } else { "unset" };
            common_method(call, out, "_thread.lock", || format!("<Event: {state}>"));
            return Ok(());
        };
        match method {
            EventMethod::IsSet => {
                let [] = call.args.bind("Event.is_set", &[])?;
                out.returns_bool(call.id, self.is_set);
            }
            EventMethod::Set => {
                let [] = call.args.bind("Event.set", &[])?;
                out.returns_null(call.id);
                if !std::mem::replace(&mut self.is_set, true) {
                    out.changed();
                }
                for waiting in std::mem::take(&mut self.waiting) {
                    out.returns_bool(waiting, true);
                }
            }
            EventMethod::Clear => {
                let [] = call.args.bind("Event.clear", &[])?;
                out.returns_null(call.id);
                if std::mem::replace(&mut self.is_set, false) {
                    out.changed();
                }
            }
            EventMethod::Wait => {
                let [] = call.args.bind("Event.wait", &[])?;
                if self.is_set {
                    out.returns_bool(call.id, true);
                } else {
                    self.waiting.insert(call.id);
                }
            }
        }
        Ok(())
    }
}

impl Referent for Event {
    fn step(&mut self, input: Input<'_>, out: &mut Outbox) {
        match input {
            Input::Call(call) => {
                if let Err(fault) = self.call(&call, out) {
                    out.raises(call.id, &fault);
                }
            }
            Input::Cancel { call, why, .. } => {
                if self.waiting.remove(&call) {
                    match why {
                        // Who waits does so because the flag is not set.
                        Why::Deadline => out.returns_bool(call, false),
                        Why::Client | Why::SessionEnded => out.raises(call, &cancelled()),
                    }
                }
            }
            Input::Join { call, typeid, .. } => out.raises(call, &super::unjoinable(typeid)),
            Input::OwnerLost { .. }
            | Input::Undelivered { .. }
            | Input::Returned { .. }
            | Input::Tick { .. }
            | Input::Leave { .. } => {}
        }
    }
}
