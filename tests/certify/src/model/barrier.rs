//! Barrier: a generation passes as a whole, or breaks.
//!
//! Who has arrived no version shows, so a generation happens when it passes: [`Barrier::pass`] checks it as a whole.

use std::collections::HashSet;

use super::{Changes, Complaint, Kind, Reply, answers};
use crate::call::{Call, Made, Seen};
use crate::values::{Val, Values};

pub(super) fn kind(method: &str) -> Option<Kind> {
    Some(match method {
        "wait" => Kind::Parks,
        "abort" | "reset" => Kind::Steps,
        "parties" | "n_waiting" | "broken" => Kind::Reads,
        _ => return None,
    })
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Barrier {
    pub(crate) parties: u64,
    is_broken: bool,
    /// The latest change was a reset, which breaks for those who waited.
    was_reset: bool,
}

impl Barrier {
    pub(super) fn new(made: &Made) -> Result<Self, Complaint> {
        if made.args.get(1).is_some_and(|action| *action != Val::Null) {
            return Err(Complaint::not_modelled("a Barrier with an action"));
        }
        match made.args.first() {
            Some(Val::Int(parties)) if *parties > 0 => {
                Ok(Self { parties: parties.unsigned_abs(), is_broken: false, was_reset: false })
            }
            _ => Err(Complaint::not_modelled("a Barrier without parties")),
        }
    }

    pub(super) fn apply(&mut self, call: &Call, values: &mut Values) -> Result<Changes, Complaint> {
        match &*values.text(call.method) {
            // One of unknown end that happens by itself is one that left, and so broke the barrier.
            "wait" => {
                if !call.is_unknown() {
                    answers(call, values, Reply::Raises("BrokenBarrierError"))?;
                }
                if self.is_broken || (self.was_reset && call.index() > 0) {
                    return Ok(Changes::No);
                }
                if call.deadline_ms.is_none() && !call.is_unknown() {
                    return Err(Complaint::new(format!("{}, but nothing broke the barrier", call.show(values))));
                }
                self.is_broken = true;
                self.was_reset = false;
                Ok(Changes::Yes)
            }
            "abort" => {
                answers(call, values, Reply::Value(Val::Null))?;
                self.was_reset = false;
                let was_broken = std::mem::replace(&mut self.is_broken, true);
                Ok(if was_broken { Changes::No } else { Changes::Yes })
            }
            "reset" => {
                answers(call, values, Reply::Value(Val::Null))?;
                self.was_reset = true;
                let was_broken = std::mem::replace(&mut self.is_broken, false);
                Ok(if was_broken { Changes::Yes } else { Changes::Either })
            }
            "parties" => {
                answers(call, values, Reply::Value(Val::Int(self.parties as i64)))?;
                Ok(Changes::No)
            }
            "n_waiting" => match call.seen {
                Seen::Returned(Val::Int(n)) if (0..self.parties as i64).contains(&n) && !(self.is_broken && n > 0) => {
                    Ok(Changes::No)
                }
                _ => Err(Complaint::new(format!("{}, of {} parties", call.show(values), self.parties))),
            },
            "broken" => {
                answers(call, values, Reply::Value(Val::Bool(self.is_broken)))?;
                Ok(Changes::No)
            }
            method => Err(Complaint::not_modelled(format!("`{method}` of a barrier"))),
        }
    }

    /// A generation passes; `seen` are those of its parties of which that is known. Returns how many others there must be.
    pub(crate) fn pass(&mut self, seen: &[&Call], values: &Values) -> Result<u64, Complaint> {
        if self.is_broken {
            let text =
                seen.first().map_or(String::new(), |call| format!("{} passed a broken barrier", call.show(values)));
            return Err(Complaint::new(text));
        }
        let mut indices = HashSet::new();
        for call in seen {
            if !indices.insert(call.index()) {
                let text = format!("{}, as another one of its generation did", call.show(values));
                return Err(Complaint::new(text));
            }
            if call.seen != Seen::Returned(Val::Int(call.index() as i64)) || call.index() >= self.parties {
                let text = format!(
                    "{}: of {} parties the one whose reply has index {} should have returned that",
                    call.show(values),
                    self.parties,
                    call.index()
                );
                return Err(Complaint::new(text));
            }
        }
        self.was_reset = false;
        Ok(self.parties - seen.len() as u64)
    }
}
