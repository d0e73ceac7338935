//! Inputs, as the host reads them and as it tells a guest of them.

use steward_objects::{Call, CallId, Input, Why};

use super::wit;
use crate::guest::releases::Release;
use crate::guest::rules::Arrived;

/// The call that an input asks to be answered.
pub(super) fn asking(input: &Input<'_>) -> Option<CallId> {
    match input {
        Input::Call(Call { id, .. }) => Some(*id),
        Input::Join { call, .. } => Some(*call),
        _ => None,
    }
}

/// The host's clock when an input came. Those without a time reach no guest.
pub(super) fn time_of(input: &Input<'_>) -> u64 {
    match *input {
        Input::Call(Call { now_ms, .. })
        | Input::Cancel { now_ms, .. }
        | Input::OwnerLost { now_ms, .. }
        | Input::Undelivered { now_ms, .. }
        | Input::Returned { now_ms, .. }
        | Input::Tick { now_ms } => now_ms,
        Input::Join { .. } | Input::Leave { .. } => 0,
    }
}

/// The item that came with an input.
pub(super) fn arrived<'a>(input: &Input<'a>) -> Arrived<'a> {
    match *input {
        Input::Call(Call { args, .. }) if args.has_tokens() => Arrived::with(args.item()),
        Input::Undelivered { payload, .. } | Input::Returned { outcome: Ok(payload), .. } => Arrived::with(payload),
        _ => Arrived::default(),
    }
}

/// An input as the guest of this version is told. [`Object::instead`] has kept back those that no guest is told.
pub(super) fn tell(release: &Release, input: &Input<'_>) -> wit::Input {
    // The number of a method that is gone is one that no method has.
    let place = |method| release.place_of(method).unwrap_or(release.kind.info.methods.len() as u32);
    match input {
        Input::Call(call) => wit::Input::Call(wit::Call {
            id: call.id,
            method: place(call.method),
            owner: wit::Owner { session: call.owner.session, thread: call.owner.thread },
            args: call.args.item().to_vec(),
        }),
        Input::Cancel { call, why, .. } => {
            let why = match why {
                Why::Deadline => wit::Why::Deadline,
                Why::Client => wit::Why::Client,
                Why::SessionEnded => wit::Why::SessionEnded,
            };
            wit::Input::Cancel(wit::Cancel { call: *call, why })
        }
        Input::OwnerLost { session, orderly, .. } => {
            wit::Input::OwnerLost(wit::OwnerLost { session: *session, orderly: *orderly })
        }
        Input::Undelivered { call, method, payload, sent, .. } => wit::Input::Undelivered(wit::Undelivered {
            call: *call,
            method: place(*method),
            payload: payload.to_vec(),
            sent: *sent,
        }),
        Input::Returned { tag, outcome, .. } => {
            let outcome = outcome.map(<[u8]>::to_vec).map_err(|fault| wit::Fault {
                kind: fault.kind.clone(),
                message: fault.message.clone(),
                data: fault.data.clone(),
            });
            wit::Input::Returned(wit::Returned { tag: *tag, outcome })
        }
        Input::Tick { .. } | Input::Join { .. } | Input::Leave { .. } => wit::Input::Tick,
    }
}

/// Whether all that a step did was to answer its own call: then nothing is kept of it, as nothing need be done again.
pub(super) fn is_mere_answer(input: &Input<'_>, outcome: &wit::Outcome) -> bool {
    let wit::Outcome { completions, freed, changed, wake_at, held, let_go, invokes } = outcome;
    let [wit::Completion { call, grant: wit::Grant::None, .. }] = &completions[..] else { return false };
    let is_own = matches!(input, Input::Call(own) if own.id == *call);
    is_own && !freed && !changed && wake_at.is_none() && held.is_empty() && let_go.is_empty() && invokes.is_empty()
}
