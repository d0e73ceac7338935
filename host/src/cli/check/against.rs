//! Whether a plugin can take the place of an earlier one: by what both say of themselves, and by trying.

use std::fmt;
use std::sync::Arc;

use serde::Serialize;
use steward_client::{AnyValue as Value, MethodInfo, Param, ParamKind, TypeInfo};
use steward_host::guest::{Birth, Plugin, PluginType, Releases};
use steward_objects::{Args, Call, CallId, Ident, Input, Outbox, Owner};
use steward_wire::cbor;

use crate::cli::repr::printable;

/// What becomes of one type of the earlier plugin.
#[derive(Debug, Serialize)]
pub(super) struct Upgrade {
    typeid: String,
    from: String,
    /// None if the type is gone.
    to: Option<String>,
    verdict: Verdict,
    /// Why, the worst first.
    changes: Vec<Change>,
}

/// Ordered from good to bad.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Verdict {
    /// Clients notice nothing but what is new.
    Safe,
    /// Objects move, but some calls that were right no longer are.
    Breaking,
    /// Objects cannot move.
    Impossible,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Safe => "safe",
            Self::Breaking => "breaking",
            Self::Impossible => "impossible",
        })
    }
}

#[derive(Debug, PartialEq, Eq, Serialize)]
struct Change {
    verdict: Verdict,
    what: String,
}

impl Upgrade {
    pub(super) fn is_safe(&self) -> bool {
        self.verdict == Verdict::Safe
    }

    pub(super) fn text(&self) -> String {
        let Self { typeid, from, to, verdict, changes } = self;
        let to = to.as_deref().unwrap_or("gone");
        let mut text = format!("{} {from} → {to}: {verdict}\n", printable(typeid));
        for Change { verdict, what } in changes {
            text.push_str(&format!("  {verdict}: {}\n", printable(what)));
        }
        text
    }
}

/// What becomes of each type of `old` when `new` replaces it.
pub(super) fn compare(old: &Plugin, new: &Plugin) -> Vec<Upgrade> {
    old.types()
        .iter()
        .map(|old: &Arc<PluginType>| {
            let typeid = &old.info().typeid;
            let new = new.types().iter().find(|offered| offered.info().typeid == *typeid);
            let mut changes = Vec::new();
            match new {
                Some(new) => {
                    if !old.saves() || !new.saves() {
                        let which = if old.saves() { new } else { old };
                        let what = format!("version {} cannot be saved and loaded", which.version());
                        changes.push(Change { verdict: Verdict::Impossible, what });
                    }
                    changes.extend(described(old.info(), new.info()));
                    if old.saves() && new.saves() {
                        changes.extend(tried(old, new));
                    }
                }
                None => {
                    let what = format!("type `{typeid}` is gone");
                    changes.push(Change { verdict: Verdict::Impossible, what });
                }
            }
            changes.sort_by_key(|change| std::cmp::Reverse(change.verdict));
            Upgrade {
                typeid: typeid.clone(),
                from: old.version().to_owned(),
                to: new.map(|new: &Arc<PluginType>| new.version().to_owned()),
                verdict: changes.first().map_or(Verdict::Safe, |worst| worst.verdict),
                changes,
            }
        })
        .collect()
}

/// Makes an object of the old version, calls what it has, and moves it: what went wrong.
fn tried(old: &Arc<PluginType>, new: &Arc<PluginType>) -> Option<Change> {
    let releases = Releases::new(Arc::clone(old));
    let birth = Birth { tenant: "check", ident: Ident(1), now_ms: 1_000, seed: 1 };
    let not_tried =
        |why: String| Change { verdict: Verdict::Safe, what: format!("moving an object was not tried: {why}") };
    let Some(args) = plausible(&old.info().constructor) else {
        return Some(not_tried("creating one needs a proxy".into()));
    };
    let mut outbox = Outbox::new(1);
    let mut object = match releases.create(Args::new(&args, false), birth, &mut outbox) {
        Ok(object) => object,
        Err(fault) => return Some(not_tried(format!("creating one raises {}: {}", fault.kind, fault.message))),
    };
    // So that its state is none that only newborn objects have; some calls may raise, and some wait and move along.
    for (method, id) in old.info().methods.iter().zip(0_u16..) {
        let Some(args) = plausible(&method.params) else { continue };
        outbox.clear(outbox.fence_next(), 1 << 16);
        let owner = Owner { session: 1, thread: 1 };
        let (seed, args) = (u64::from(id), Args::new(&args, false));
        let call = Call { id: CallId::from(id) + 1, facet: 0, method: id, owner, now_ms: 1_000, seed, args };
        object.step(Input::Call(call), &mut outbox);
    }
    if let Err(error) = releases.replace(Arc::clone(new), None) {
        return Some(Change { verdict: Verdict::Impossible, what: error.to_string() });
    }
    // A step that the guest sees moves it: a session that never was has ended.
    outbox.clear(outbox.fence_next(), 1 << 16);
    object.step(Input::OwnerLost { session: u64::MAX, orderly: true, now_ms: 1_000 }, &mut outbox);
    let why = releases.report().not_moved_last?;
    Some(Change { verdict: Verdict::Impossible, what: format!("an object did not move: {why}") })
}

/// Arguments that may be right, by the names of types; none if a proxy is needed.
fn plausible(params: &[Param]) -> Option<Vec<u8>> {
    let required: Vec<_> = params
        .iter()
        .filter(|param| param.default.is_none() && matches!(param.kind, ParamKind::Normal | ParamKind::KeywordOnly))
        .map(|param| Some((param, value_of(&param.type_name)?)))
        .collect::<Option<_>>()?;
    let (places, keywords): (Vec<_>, Vec<_>) =
        required.into_iter().partition(|(param, _)| param.kind == ParamKind::Normal);
    let mut args = Vec::new();
    cbor::put_array(&mut args, 2);
    cbor::put_array(&mut args, places.len());
    places.iter().for_each(|(_, value)| value.encode(&mut args));
    cbor::put_map(&mut args, keywords.len());
    for (param, value) in keywords {
        cbor::put_text(&mut args, &param.name);
        value.encode(&mut args);
    }
    Some(args)
}

fn value_of(type_name: &str) -> Option<Value> {
    Some(match type_name.split('[').next().unwrap_or_default() {
        "proxy" => return None,
        "int" => Value::Int(1),
        "float" => Value::Float(1.0),
        "bool" => Value::Bool(true),
        "str" => Value::Text("x".into()),
        "bytes" => Value::Bytes(b"x".to_vec()),
        "list" => Value::List(vec![]),
        "tuple" => Value::Tuple(vec![]),
        "set" => Value::Set(vec![]),
        "dict" => Value::Map(vec![]),
        "None" => Value::Null,
        _ => Value::Int(1),
    })
}

/// What clients of a type notice, by its descriptions.
fn described(old: &TypeInfo, new: &TypeInfo) -> Vec<Change> {
    let mut changes = params(&old.typeid, &old.constructor, &new.constructor);
    let breaking = |what| Change { verdict: Verdict::Breaking, what };
    let safe = |what| Change { verdict: Verdict::Safe, what };
    for was in &old.methods {
        let name = format!("{}.{}", old.typeid, was.name);
        let Some(is) = new.methods.iter().find(|is| is.name == was.name) else {
            changes.push(breaking(format!("method `{name}` is gone")));
            continue;
        };
        changes.extend(params(&name, &was.params, &is.params));
        let MethodInfo { read_only, may_park, result_type, returns, .. } = is;
        if was.read_only && !read_only {
            changes.push(breaking(format!("`{name}` changes the object now: a repeat no longer simply runs again")));
        }
        if was.may_park != *may_park {
            let (before, now) = if *may_park { ("never waited", "may wait") } else { ("could wait", "never waits") };
            changes.push(breaking(format!("`{name}` {before}, and {now} now")));
        }
        if was.result_type != *result_type {
            changes.push(breaking(format!("`{name}` returned `{}`, and returns `{result_type}` now", was.result_type)));
        }
        if was.returns != *returns {
            let shown = |typeid: &Option<String>| typeid.clone().unwrap_or_else(|| "no object".into());
            changes.push(breaking(format!("`{name}` made {}, and makes {} now", shown(&was.returns), shown(returns))));
        }
    }
    for is in new.methods.iter().filter(|is| !old.methods.iter().any(|was| was.name == is.name)) {
        changes.push(safe(format!("method `{}.{}` is new", new.typeid, is.name)));
    }
    changes
}

/// What callers notice of parameters. Names count as places do: either may be used.
fn params(of: &str, old: &[Param], new: &[Param]) -> Vec<Change> {
    let mut changes = Vec::new();
    let mut change = |verdict, what| changes.push(Change { verdict, what });
    for (place, was) in old.iter().enumerate() {
        let name = &was.name;
        let Some((at, is)) = new.iter().enumerate().find(|(_, is)| is.name == *name) else {
            change(Verdict::Breaking, format!("parameter `{name}` of `{of}` is gone"));
            continue;
        };
        if was.kind != is.kind {
            change(Verdict::Breaking, format!("parameter `{name}` of `{of}` takes arguments in another way"));
        } else if is.kind == ParamKind::Normal && at != place {
            change(Verdict::Breaking, format!("parameter `{name}` of `{of}` has another place"));
        }
        if was.type_name != is.type_name {
            let (before, now) = (&was.type_name, &is.type_name);
            change(Verdict::Breaking, format!("parameter `{name}` of `{of}` was `{before}`, and is `{now}` now"));
        }
        match (&was.default, &is.default) {
            (Some(before), Some(now)) if before != now => {
                change(Verdict::Breaking, format!("default of `{name}` of `{of}` was {before}, and is {now} now"));
            }
            (Some(_), None) => change(Verdict::Breaking, format!("parameter `{name}` of `{of}` must be given now")),
            _ => {}
        }
    }
    for is in new.iter().filter(|is| !old.iter().any(|was| was.name == is.name)) {
        let name = &is.name;
        let is_optional = is.default.is_some() || matches!(is.kind, ParamKind::Rest | ParamKind::Keywords);
        match is_optional {
            true => change(Verdict::Safe, format!("parameter `{name}` of `{of}` is new")),
            false => change(Verdict::Breaking, format!("parameter `{name}` of `{of}` is new, and must be given")),
        }
    }
    changes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn param(name: &str, type_name: &str, default: Option<&str>) -> Param {
        Param { name: name.into(), type_name: type_name.into(), default: default.map(Into::into), ..Param::default() }
    }

    fn described_as(params: Vec<Param>, change: impl FnOnce(&mut MethodInfo)) -> TypeInfo {
        let mut method = MethodInfo { name: "take".into(), params, exposed: true, ..MethodInfo::default() };
        change(&mut method);
        TypeInfo { typeid: "T".into(), methods: vec![method], ..TypeInfo::default() }
    }

    #[track_caller]
    fn check(new: TypeInfo, verdict: Verdict, what: &str) {
        let old = described_as(vec![param("n", "int", Some("1"))], |method| method.read_only = true);
        let changes = described(&old, &new);
        assert_eq!(changes, [Change { verdict, what: what.into() }]);
    }

    #[test]
    fn clients_notice_what_breaks_their_calls() {
        let read = |method: &mut MethodInfo| method.read_only = true;
        let n = || param("n", "int", Some("1"));
        check(described_as(vec![], read), Verdict::Breaking, "parameter `n` of `T.take` is gone");
        let more = vec![n(), param("m", "int", Some("2"))];
        check(described_as(more, read), Verdict::Safe, "parameter `m` of `T.take` is new");
        let more = vec![n(), Param { kind: ParamKind::KeywordOnly, ..param("m", "int", None) }];
        check(described_as(more, read), Verdict::Breaking, "parameter `m` of `T.take` is new, and must be given");
        let other = vec![param("n", "int", Some("2"))];
        check(described_as(other, read), Verdict::Breaking, "default of `n` of `T.take` was 1, and is 2 now");
        let other = vec![param("n", "float", Some("1"))];
        check(described_as(other, read), Verdict::Breaking, "parameter `n` of `T.take` was `int`, and is `float` now");
        let changes = "`T.take` changes the object now: a repeat no longer simply runs again";
        check(described_as(vec![n()], |_| ()), Verdict::Breaking, changes);
        let parks = |method: &mut MethodInfo| (method.read_only, method.may_park) = (true, true);
        check(described_as(vec![n()], parks), Verdict::Breaking, "`T.take` never waited, and may wait now");
        let renamed = |method: &mut MethodInfo| method.name = "get".into();
        let new = described_as(vec![n()], renamed);
        let old = described_as(vec![n()], |_| ());
        let changes: Vec<_> = described(&old, &new).into_iter().map(|change| change.what).collect();
        assert_eq!(changes, ["method `T.take` is gone", "method `T.get` is new"]);
    }
}
