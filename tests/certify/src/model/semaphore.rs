//! Semaphore and BoundedSemaphore: never more permits out than there are.

use rpds::RedBlackTreeMap;

use super::{Changes, Complaint, Hidden, Kind, Reply, answers, number};
use crate::call::{Call, Made, Seen};
use crate::values::{Val, Values};

pub(super) fn kind(method: &str) -> Option<Kind> {
    Some(match method {
        "acquire" => Kind::Parks,
        "release" => Kind::Steps,
        "get_value" | "locked" => Kind::Reads,
        _ => return None,
    })
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Semaphore {
    value: i64,
    bound: Option<i64>,
    /// Permits that are out, by session; those of sessions that said goodbye stay out as session 0's.
    held: RedBlackTreeMap<u64, i64>,
    out: i64,
    /// Releases by those who held none: any permit that is out may be meant.
    foreign: i64,
}

impl Semaphore {
    pub(super) fn new(made: &Made, bounded: bool) -> Result<Self, Complaint> {
        let value = match made.args.first() {
            None => 1,
            Some(Val::Int(value)) => *value,
            Some(_) => return Err(Complaint::not_modelled("a semaphore's value that is no integer")),
        };
        Ok(Self { value, bound: bounded.then_some(value), held: RedBlackTreeMap::new(), out: 0, foreign: 0 })
    }

    pub(super) fn apply(&mut self, call: &Call, values: &mut Values) -> Result<Changes, Complaint> {
        match &*values.text(call.method) {
            "acquire" => {
                if call.seen == Seen::Returned(Val::Bool(false)) {
                    return match self.value {
                        0 if call.deadline_ms.is_some() => Ok(Changes::No),
                        0 => Err(Complaint::new(format!("{} had no deadline to come to", call.show(values)))),
                        free => Err(Complaint::new(format!("{} gave up with {free} permits free", call.show(values)))),
                    };
                }
                if self.value == 0 {
                    let text = format!("{}, but all permits are out: over-issued", call.show(values));
                    return Err(Complaint::new(text));
                }
                answers(call, values, Reply::Value(Val::Bool(true)))?;
                self.value -= 1;
                self.out += 1;
                self.held.insert_mut(call.session, self.held_by(call.session) + 1);
                Ok(Changes::Yes)
            }
            "release" => {
                let n = number(call, 0, 1)?;
                if n < 1 || self.bound.is_some_and(|bound| self.value + n > bound) {
                    answers(call, values, Reply::Raises("ValueError"))?;
                    return Ok(Changes::No);
                }
                answers(call, values, Reply::Value(Val::Null))?;
                let own = n.min(self.held_by(call.session));
                self.take_from(call.session, own);
                self.foreign = (self.foreign + n - own).min(self.out);
                self.add(n);
                Ok(Changes::Yes)
            }
            "get_value" => {
                answers(call, values, Reply::Value(Val::Int(self.value)))?;
                Ok(Changes::No)
            }
            "locked" => {
                answers(call, values, Reply::Value(Val::Bool(self.value == 0)))?;
                Ok(Changes::No)
            }
            method => Err(Complaint::not_modelled(format!("`{method}` of a semaphore"))),
        }
    }

    fn held_by(&self, session: u64) -> i64 {
        self.held.get(&session).copied().unwrap_or(0)
    }

    fn take_from(&mut self, session: u64, n: i64) {
        let left = self.held_by(session) - n;
        if left > 0 {
            self.held.insert_mut(session, left);
        } else {
            self.held.remove_mut(&session);
        }
        self.out -= n;
    }

    fn add(&mut self, n: i64) {
        self.value += n;
        if self.foreign == self.out {
            self.held = RedBlackTreeMap::new();
            self.out = 0;
            self.foreign = 0;
        }
    }

    pub(super) fn holders(&self) -> Vec<u64> {
        self.held.keys().copied().collect()
    }

    pub(super) fn hide(&mut self, hidden: Hidden) -> Result<(), ()> {
        match hidden {
            Hidden::Lost { session } => {
                let held = self.held_by(session);
                if held == 0 {
                    return Err(());
                }
                // What others may have released for it has come back already.
                let back = self.foreign.min(held);
                self.take_from(session, held);
                self.foreign -= back;
                self.add(held - back);
                Ok(())
            }
            Hidden::PermitBack { session } if self.held_by(session) > 0 => {
                self.take_from(session, 1);
                self.add(1);
                Ok(())
            }
            _ => Err(()),
        }
    }
}
