//! The host as an object: ident 0, which every session may call. What a client may ask of the host itself.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Serialize;
use steward_objects::Args;
use steward_wire::frame::{Call, Method};
use steward_wire::{Fault, value};

use crate::cell::{Answer, ReplyTo};
use crate::counters::Counters;
use crate::plugins;
use crate::registry::{PluginReport, Type};
use crate::session::Session;
use crate::table::Listed;
use crate::tenant::{Role, Tenant};

/// A line of `objects()`.
#[derive(Serialize)]
struct ObjectInfo {
    ident: u64,
    typeid: String,
    name: Option<String>,
    references: u32,
    /// `None` while the object is being stepped.
    waiters: Option<usize>,
}

/// A line of `type_counts()`.
#[derive(Default, Serialize)]
struct TypeCount {
    typeid: String,
    objects: usize,
    /// Of a plugin's type.
    traps: Option<u64>,
    recovered: Option<u64>,
}

/// Calls a method of the host. None of them parks.
pub(crate) fn call(session: &Arc<Session>, to: ReplyTo, call: &Call<'_>) {
    let Method::Name(method) = call.method else {
        return to.fail(&Fault::refused("NotExposed", "methods of the host are called by name"));
    };
    let args = Args::new(call.args, false);
    let to = match method {
        "register" | "replace" | "remove" | "plugins" => match admin(session, method) {
            Ok(()) => return plugins::call(session, to, method, args),
            Err(fault) => return to.fail(&fault),
        },
        _ => to,
    };
    match answer(session, method, args) {
        Ok(Outcome::Value(payload)) => to.answer(Answer::plain(&payload), false),
        Ok(Outcome::Object(name)) => match session.tenant.table.named(&name) {
            Some((ident, object)) => to.answer_object(ident, object, Answer::made()),
            None => to.fail(&Fault::raised("KeyError", format!("no object is named `{name}`"))),
        },
        Err(fault) => to.fail(&fault),
    }
}

enum Outcome {
    Value(Vec<u8>),
    /// The object of this name.
    Object(String),
}

fn answer(session: &Arc<Session>, method: &str, args: Args<'_>) -> Result<Outcome, Fault> {
    let tenant = &session.tenant;
    match method {
        "ping" => args.bind::<0>(method, &[]).and_then(|_| encode(&())),
        "number_of_objects" => args.bind::<0>(method, &[]).and_then(|_| encode(&tenant.table.len())),
        "named" => text(method, args).map(Outcome::Object),
        "objects" => {
            args.bind::<0>(method, &[])?;
            admin(session, method)?;
            let objects: Vec<_> = tenant.table.list().into_iter().map(info).collect();
            encode(&objects)
        }
        "type_counts" => {
            args.bind::<0>(method, &[])?;
            admin(session, method)?;
            encode(&type_counts(tenant))
        }
        "deadlocks" => {
            args.bind::<0>(method, &[])?;
            admin(session, method)?;
            encode(&tenant.waits.cycles())
        }
        "counters" => {
            args.bind::<0>(method, &[])?;
            admin(session, method)?;
            encode(&Counters::of(tenant))
        }
        "debug_info" => {
            args.bind::<0>(method, &[])?;
            admin(session, method)?;
            let lines = tenant.table.list().into_iter().map(|listed| {
                let Listed { ident, object, references, .. } = listed;
                format!("  {}:       refcount={references}\n    {}", ident.0, object.kind.typeid)
            });
            encode(&lines.collect::<Vec<_>>().join("\n"))
        }
        "delete" => {
            let name = text(method, args)?;
            admin(session, method)?;
            match tenant.table.unname(&name) {
                Some(gone) => {
                    gone.finish();
                    encode(&())
                }
                None => Err(Fault::raised("KeyError", format!("no object is named `{name}`"))),
            }
        }
        "shutdown" => {
            args.bind::<0>(method, &[])?;
            admin(session, method)?;
            tracing::info!(session = session.id, "shutdown asked for by a client");
            tenant.shared.end("shut down by a client");
            encode(&())
        }
        _ => Err(Fault::refused(
            "NotExposed",
            format!(
                "method `{method}` of typeid `Manager` is not exposed; it has ping, number_of_objects, named, objects, \
                 type_counts, counters, deadlocks, debug_info, delete, register, replace, remove, plugins, shutdown"
            ),
        )),
    }
}

/// Of each type that has objects or is a plugin's, in the order of names.
fn type_counts(tenant: &Tenant) -> Vec<TypeCount> {
    let mut counts = BTreeMap::<String, TypeCount>::new();
    for PluginReport { typeid, releases } in tenant.registry.plugins() {
        let (traps, recovered) = (Some(releases.traps), Some(releases.recovered));
        counts.insert(typeid.clone(), TypeCount { typeid, objects: 0, traps, recovered });
    }
    for Listed { object, .. } in tenant.table.list() {
        let typeid = &object.kind.typeid;
        match counts.get_mut(typeid) {
            Some(count) => count.objects += 1,
            None => {
                let count = TypeCount { typeid: typeid.clone(), objects: 1, ..TypeCount::default() };
                counts.insert(typeid.clone(), count);
            }
        }
    }
    counts.into_values().collect()
}

fn info(listed: Listed) -> ObjectInfo {
    let Listed { ident, object, references, name } = listed;
    let typeid = object.kind.typeid.clone();
    ObjectInfo { ident: ident.0, typeid, name, references, waiters: object.cell.waiters() }
}

pub(crate) fn admin(session: &Session, method: &str) -> Result<(), Fault> {
    match session.role {
        Role::Admin => Ok(()),
        Role::Member => Err(Fault::refused("Denied", format!("`{method}` needs a key with the role admin"))),
    }
}

fn text(method: &str, args: Args<'_>) -> Result<String, Fault> {
    let [name] = args.bind::<1>(method, &[steward_objects::Param::required("name", "str")])?;
    value::to_serde(name.unwrap_or_default()).map_err(|_| Fault::raised("TypeError", "name must be str"))
}

fn encode<T: Serialize>(value: &T) -> Result<Outcome, Fault> {
    let encoded = value::from_serde(value).map_err(|error| Fault::refused("Internal", error.to_string()))?;
    Ok(Outcome::Value(encoded))
}

/// The name of an object, and how long it stays without anybody who refers to the object; `None`: until it is deleted.
pub(crate) struct Name {
    pub(crate) name: String,
    pub(crate) idle_ms: Option<u64>,
}

/// Gets the object of a name, or makes it. Its type must be the one asked for.
pub(crate) fn create_named(
    session: &Arc<Session>,
    kind: &Arc<Type>,
    Name { name, idle_ms }: &Name,
    args: &[u8],
    tokens: bool,
    to: ReplyTo,
) {
    let table = &session.tenant.table;
    if name.is_empty() || name.len() > 255 || name.starts_with('#') || name.contains('/') {
        let message = format!("`{name}` is not a name for an object: 1 to 255 bytes, no `/`, no leading `#`");
        return to.fail(&Fault::refused("BadName", message));
    }
    if session.tenant.joined(kind, args, tokens).is_some() {
        let typeid = &kind.typeid;
        let message = format!("a {typeid} over an object of its own life cannot have a name: name that object");
        return to.fail(&Fault::refused("BadName", message));
    }
    let (ident, object) = loop {
        if let Some(found) = table.named(name) {
            break found;
        }
        match session.tenant.make(kind, Args::new(args, tokens)) {
            Ok((ident, object)) if table.name(name, ident, *idle_ms) => break (ident, object),
            // Somebody else was quicker.
            Ok((ident, _)) => table.release([ident]).finish(),
            Err(fault) => return to.fail(&fault),
        }
    };
    if object.kind.typeid == kind.typeid {
        return to.answer_object(ident, object, Answer::made());
    }
    table.release([ident]).finish();
    let (is, wanted) = (&object.kind.typeid, &kind.typeid);
    to.fail(&Fault::refused("WrongType", format!("`{name}` is a {is}, not a {wanted}")));
}
