//! From a frame to the cell that it concerns.

use std::borrow::Cow;
use std::sync::Arc;

use steward_objects::{Args, Owner, common};
use steward_wire::frame::{self, Call, ClientFrame, Create, Subject};
use steward_wire::{Effect, Fault, Ident, Malformed, cbor, check, value};

use crate::cell::{Answer, CallWork, Guard, ReplyTo, unknown};
use crate::lane::Lane;
use crate::manager::{self, Name};
use crate::plugins;
use crate::registry::{Origin, Type};
use crate::session::{Admitted, Session};
use crate::sign_in;

/// Does what a frame asks for. Whatever it is, it does not block; replies go out through the lane, now or later.
///
/// # Errors
/// What is no frame, for the peer; the lane is then closed, since nothing after it can be trusted.
pub(crate) fn frame(session: &Arc<Session>, lane: &Arc<Lane>, body: &[u8]) -> Result<(), String> {
    let malformed = |malformed: Malformed| malformed.to_string();
    let checked = check(body, &session.tenant.shared.limits.check()).map_err(malformed)?;
    let (frame, acked) = ClientFrame::read(body).map_err(malformed)?;
    if let Some(acked) = acked {
        session.acknowledge(&acked)?;
    }
    match frame {
        ClientFrame::Call(call) => self::call(session, lane, &call, checked.tokens),
        ClientFrame::Batch(calls) => {
            for call in &calls {
                self::call(session, lane, call, checked.tokens);
            }
        }
        ClientFrame::Create(create) => self::create(session, lane, &create, checked.tokens),
        ClientFrame::Cancel { seq } => session.cancel(seq, lane),
        ClientFrame::Refs(refs) => session.apply(&refs),
        ClientFrame::Ack => {}
        ClientFrame::Heartbeat => lane.beat(),
        ClientFrame::Goodbye => session.end(true),
        ClientFrame::Describe { seq, subject } => describe(session, lane, seq, subject),
        ClientFrame::Fork { seq } => fork(session, lane, seq),
        ClientFrame::Upload(part) => upload(session, lane, &part),
    }
    Ok(())
}

/// Whether a frame has no reply but a heartbeat's, so that it needs no room on the way out.
pub(crate) fn asks_for_nothing(session: &Session, body: &[u8]) -> bool {
    let is_checked = check(body, &session.tenant.shared.limits.check()).is_ok();
    let Some((frame, _)) = is_checked.then(|| ClientFrame::read(body).ok()).flatten() else { return false };
    matches!(frame, ClientFrame::Refs(_) | ClientFrame::Ack | ClientFrame::Heartbeat | ClientFrame::Goodbye)
}

fn to(session: &Arc<Session>, lane: &Arc<Lane>, seq: u64, kept: bool) -> ReplyTo {
    ReplyTo::Client { session: session.clone(), lane: lane.clone(), seq, kept }
}

fn call(session: &Arc<Session>, lane: &Arc<Lane>, call: &Call<'_>, tokens: bool) {
    lane.owe();
    let (target, kept) = match session.admit(call, tokens, lane) {
        Ok(Admitted::New { target, kept }) => (target, kept),
        Ok(Admitted::Repeat) => return,
        Err(fault) => return to(session, lane, call.seq, false).fail(&fault),
    };
    let to = to(session, lane, call.seq, kept);
    let Some((object, method)) = target else { return manager::call(session, to, call) };
    let guard = match call.guard.map(|guard| guarded(session, guard)).transpose() {
        Ok(guard) => guard,
        Err(fault) => return to.fail(&fault),
    };
    let shared = &session.tenant.shared;
    let work = CallWork {
        to,
        facet: object.facet,
        method,
        owner: Owner { session: session.id, thread: call.owner },
        args: Cow::Borrowed(call.args),
        tokens,
        deadline_ms: call.deadline_ms.map(|ms| shared.clock.deadline_ms(ms)),
        guard,
        chain: None,
    };
    if !(tokens && object.kind.snapshots(method)) {
        return object.cell.call(work);
    }
    let (owner, args) = (work.owner, work.args.to_vec());
    let CallWork { to, facet, deadline_ms, guard, .. } = work;
    let then = move |args: Result<Vec<u8>, Fault>| match args {
        Ok(args) => {
            let args = Cow::Owned(args);
            let work = CallWork { to, facet, method, owner, args, tokens, deadline_ms, guard, chain: None };
            object.cell.call(work);
        }
        Err(fault) => to.fail(&fault),
    };
    with_snapshots(session, owner, args, Box::new(then));
}

/// The lock that a call is conditional on.
fn guarded(session: &Session, guard: frame::Guard) -> Result<Guard, Fault> {
    let object = session.object(guard.lock).ok_or_else(|| unknown(guard.lock))?;
    if !object.kind.guards() {
        let (ident, typeid) = (guard.lock, &object.kind.typeid);
        return Err(Fault::refused("TypeError", format!("a guard names a lock; object {ident} is a {typeid}")));
    }
    Ok(Guard { lock: object.cell, fence: guard.fence })
}

/// Goes on with arguments in which no argument is a token.
type Then = Box<dyn FnOnce(Result<Vec<u8>, Fault>) + Send>;

/// Replaces the tokens that are themselves arguments by copies of their objects' values, one after the other, each taken
/// by a step of its object's own; then goes on. Tokens further inside stay tokens.
fn with_snapshots(session: &Arc<Session>, owner: Owner, args: Vec<u8>, then: Then) {
    let Some((start, end, ident)) = argument_token(&args) else { return then(Ok(args)) };
    let limit = session.tenant.shared.limits.request_bytes_max;
    if args.len() > limit {
        let message = format!("arguments are {} bytes with their copies, limit is {limit}", args.len());
        return then(Err(Fault::refused("TooLarge", message)));
    }
    let Some(source) = session.object(ident) else { return then(Err(unknown(ident))) };
    let session = session.clone();
    let take = move |effect: Effect, payload: &[u8]| {
        if effect != Effect::Returned {
            let fault = Fault::read(effect, payload);
            return then(Err(fault.unwrap_or_else(|error| Fault::refused("Malformed", error.to_string()))));
        }
        // An object whose value is a token again (a Value may hold one) would be followed for ever.
        if value::token_of(payload).is_some() {
            return then(Err(Fault::raised("TypeError", format!("the value of object {ident} is a proxy itself"))));
        }
        let args = [&args[..start], payload, &args[end..]].concat();
        with_snapshots(&session, owner, args, then);
    };
    source.cell.call(CallWork {
        to: ReplyTo::Host(Box::new(take)),
        facet: source.facet,
        method: common::GET_VALUE,
        owner,
        args: Cow::Borrowed(Args::none().item()),
        tokens: false,
        deadline_ms: Some(0),
        guard: None,
        chain: None,
    });
}

/// Where the first argument that is a token stands, and its ident.
fn argument_token(args: &[u8]) -> Option<(usize, usize, Ident)> {
    let mut reader = cbor::Reader::new(args);
    reader.array().ok()?;
    for _ in 0..reader.array().ok()? {
        let start = reader.position();
        let item = reader.raw().ok()?;
        if let Some(token) = value::token_of(item) {
            return Some((start, reader.position(), token.ident));
        }
    }
    None
}

fn create(session: &Arc<Session>, lane: &Arc<Lane>, create: &Create<'_>, tokens: bool) {
    lane.owe();
    let to = match session.admit_other(create.seq, tokens.then_some(create.args), lane) {
        Ok(Admitted::New { kept, .. }) => to(session, lane, create.seq, kept),
        Ok(Admitted::Repeat) => return,
        Err(fault) => return to(session, lane, create.seq, false).fail(&fault),
    };
    let tenant = &session.tenant;
    let Some(kind) = tenant.registry.get(create.typeid).filter(|kind| kind.creatable) else {
        return to.fail(&unknown_type(session, create.typeid));
    };
    let name = create.name.map(|name| Name { name: name.to_owned(), idle_ms: create.idle_ms });
    let creation = Creation { session: session.clone(), name, tokens, to };
    match &kind.origin {
        Origin::Builtin(builtin) if tokens && builtin.snapshots => {
            let owner = Owner { session: session.id, thread: create.owner };
            let then = move |args: Result<Vec<u8>, Fault>| match args {
                Ok(args) => creation.make(&kind, &args),
                Err(fault) => creation.to.fail(&fault),
            };
            with_snapshots(session, owner, create.args.to_vec(), Box::new(then));
        }
        _ if kind.is_inline() => creation.make(&kind, create.args),
        _ => {
            // Making a guest runs its code, and how long that takes is not known yet.
            let args = create.args.to_vec();
            session.tenant.shared.pool.run(&session.tenant, Box::new(move || creation.make(&kind, &args)));
        }
    }
}

/// A creation that is under way.
struct Creation {
    session: Arc<Session>,
    name: Option<Name>,
    tokens: bool,
    to: ReplyTo,
}

impl Creation {
    fn make(self, kind: &Arc<Type>, args: &[u8]) {
        match &self.name {
            Some(name) => manager::create_named(&self.session, kind, name, args, self.tokens, self.to),
            None => self.session.tenant.create(kind, args, self.tokens, self.to),
        }
    }
}

/// The refusal for a type that is not there, with those that are.
pub(crate) fn unknown_type(session: &Session, typeid: &str) -> Fault {
    let known: Vec<_> = session.tenant.registry.all().into_iter().filter(|kind| kind.creatable).collect();
    let known: Vec<_> = known.iter().map(|kind| &*kind.typeid).collect();
    Fault::refused("UnknownType", format!("typeid `{typeid}` is not registered; known are {}", known.join(", ")))
}

/// Makes a child session; its number, its secret and what it holds are the reply.
fn fork(session: &Arc<Session>, lane: &Arc<Lane>, seq: u64) {
    lane.owe();
    match session.admit_other(seq, None, lane) {
        Ok(Admitted::New { kept, .. }) => {
            let to = to(session, lane, seq, kept);
            match sign_in::fork(session) {
                Ok(sign_in::Forked { session: child, secret, idents }) => {
                    #[cfg(feature = "sim")]
                    crate::sim::forked(session, seq, child, &idents);
                    let mut payload = Vec::new();
                    cbor::put_array(&mut payload, 3);
                    cbor::put_u64(&mut payload, child);
                    cbor::put_bytes(&mut payload, &*secret);
                    cbor::put_array(&mut payload, idents.len());
                    idents.iter().for_each(|ident| cbor::put_u64(&mut payload, ident.0));
                    to.answer(Answer::plain(&payload), false);
                }
                Err(fault) => to.fail(&fault),
            }
        }
        Ok(Admitted::Repeat) => {}
        Err(fault) => to(session, lane, seq, false).fail(&fault),
    }
}

fn upload(session: &Arc<Session>, lane: &Arc<Lane>, part: &frame::Upload<'_>) {
    lane.owe();
    let to = match session.admit_other(part.seq, None, lane) {
        Ok(Admitted::New { kept, .. }) => to(session, lane, part.seq, kept),
        Ok(Admitted::Repeat) => return,
        Err(fault) => return to(session, lane, part.seq, false).fail(&fault),
    };
    match manager::admin(session, "upload") {
        Ok(()) => plugins::upload(session, to, part),
        Err(fault) => to.fail(&fault),
    }
}

fn describe(session: &Arc<Session>, lane: &Arc<Lane>, seq: u64, subject: Subject<'_>) {
    lane.owe();
    let to = to(session, lane, seq, false);
    let kinds = match subject {
        Subject::All => Ok(session.tenant.registry.all()),
        Subject::Typeid(typeid) => match session.tenant.registry.get(typeid) {
            Some(kind) => Ok(vec![kind]),
            None => Err(unknown_type(session, typeid)),
        },
        Subject::Object(ident) => session.object(ident).map(|object| vec![object.kind]).ok_or_else(|| unknown(ident)),
    };
    let infos = kinds.map(|kinds| kinds.iter().map(|kind| kind.face().info.clone()).collect::<Vec<_>>());
    match infos
        .and_then(|infos| value::from_serde(&infos).map_err(|error| Fault::refused("Internal", error.to_string())))
    {
        Ok(payload) => to.answer(Answer::plain(&payload), false),
        Err(fault) => to.fail(&fault),
    }
}
