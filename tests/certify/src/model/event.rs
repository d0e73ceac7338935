//! Event: whoever waits goes on exactly while the flag is set.

use super::{Changes, Complaint, Kind, Reply, answers};
use crate::call::{Call, Seen};
use crate::values::{Val, Values};

pub(super) fn kind(method: &str) -> Option<Kind> {
    Some(match method {
        "wait" => Kind::Parks,
        "set" | "clear" => Kind::Steps,
        "is_set" => Kind::Reads,
        _ => return None,
    })
}

#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Event {
    is_set: bool,
}

impl Event {
    pub(super) fn apply(&mut self, call: &Call, values: &mut Values) -> Result<Changes, Complaint> {
        let is_set = match &*values.text(call.method) {
            "is_set" => {
                answers(call, values, Reply::Value(Val::Bool(self.is_set)))?;
                self.is_set
            }
            "wait" => {
                let text = match (call.seen, self.is_set) {
                    (Seen::Returned(Val::Bool(false)), true) => "came to its deadline although the flag is set",
                    (Seen::Returned(Val::Bool(false)), false) if call.deadline_ms.is_none() => "had no deadline",
                    (Seen::Returned(Val::Bool(true)), false) => "did not wait for the flag",
                    (Seen::Returned(Val::Bool(_)) | Seen::Unknown, _) => return Ok(Changes::No),
                    _ => "should have returned a truth value",
                };
                return Err(Complaint::new(format!("{} {text}", call.show(values))));
            }
            method @ ("set" | "clear") => {
                answers(call, values, Reply::Value(Val::Null))?;
                method == "set"
            }
            method => return Err(Complaint::not_modelled(format!("`{method}` of an event"))),
        };
        let changes = std::mem::replace(&mut self.is_set, is_set) != is_set;
        Ok(if changes { Changes::Yes } else { Changes::No })
    }
}
