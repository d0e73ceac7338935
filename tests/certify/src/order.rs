//! Holds places against real time: what ended before another call began stands before it.
//!
//! One sweep in the order of places, with the latest invocation so far: O(n).

use crate::call::{Call, CallId, Seen};
use crate::certify::{History, Object, Promise, Report};

/// Checks one object whose calls were replayed. Its calls carry marks where they surely changed it.
pub(crate) fn check(history: &History, object: &Object, report: &mut Report) {
    let call = |id: CallId| &history.calls[id as usize];
    let mut latest: Option<&Call> = None;
    let mut start = 0;
    while start < object.known.len() {
        let version = call(object.known[start]).version();
        let length = object.known[start..].iter().take_while(|id| call(**id).version() == version).count();
        let members = || object.known[start..start + length].iter().map(|id| call(*id));
        // The step that made this version comes before everything that only saw it.
        let changers = members().zip(&object.changed[start..]).filter(|(_, changed)| **changed).map(|(call, _)| call);
        let before = latest.into_iter().chain(changers).max_by_key(|call| call.invoked_ns);
        for member in members() {
            if let Some(before) = before.filter(|before| member.returned() < before.invoked_ns) {
                inverted(history, object, before, member, report);
            }
            let since_ns = before.map_or(0, |before| before.invoked_ns).max(member.invoked_ns);
            answered_late(history, object, member, since_ns, report);
        }
        latest = latest.into_iter().chain(members()).max_by_key(|call| call.invoked_ns);
        start += length;
    }
}

fn inverted(history: &History, object: &Object, before: &Call, after: &Call, report: &mut Report) {
    let text = format!(
        "{} stands before {}, but came only after that had ended",
        before.show(&history.values),
        after.show(&history.values)
    );
    report.violation(history, object.promise(), object.ident, text, [before.id, after.id]);
}

/// What came out of a step after `since_ns` for a session that had ended by then.
fn answered_late(history: &History, object: &Object, call: &Call, since_ns: u64, report: &mut Report) {
    let until_ns = history.ends.get(&call.session).and_then(|end| end.until_ns);
    if let (Seen::Returned(_), Some(until_ns)) = (call.seen, until_ns)
        && since_ns > until_ns
    {
        let text =
            format!("{} was answered after {until_ns} ns, when its session had ended", call.show(&history.values));
        report.violation(history, Promise::R2, object.ident, text, [call.id]);
    }
}
