//! Replies: whom they go to, and what they become on the way.

use std::sync::Arc;

use steward_objects::{Args, CallId, Facet, Reply as OutReply};
use steward_wire::frame::{Grant, Reply};
use steward_wire::token::TokenRef;
use steward_wire::{Effect, Fault, Ident};

use super::inbox::{Undelivered, Work};
use super::waiting::Parked;
use super::{Cell, Core};
use crate::calls::{Answered, Parks};
use crate::lane::Lane;
use crate::session::Session;
use crate::table::Object;

/// Who gets a call's reply.
pub(crate) enum ReplyTo {
    /// A client, through the lane that the call came by, unless it was sent again by another.
    Client { session: Arc<Session>, lane: Arc<Lane>, seq: u64, kept: bool },
    /// Another object, which asked for the call.
    Cell { cell: Arc<Cell>, tag: u64 },
    /// The host itself. Called within the cell's turn: it must not do more than note the result.
    Host(Note),
}

/// Takes a result for the host itself.
type Note = Box<dyn FnOnce(Effect, &[u8]) + Send>;

/// A reply before it is known whom it goes to.
#[derive(Clone, Copy)]
pub(crate) struct Answer<'a> {
    pub(crate) effect: Effect,
    pub(crate) payload: &'a [u8],
    pub(crate) grant: Option<Grant>,
    pub(crate) version: u64,
    pub(crate) index: u64,
}

impl<'a> Answer<'a> {
    /// A fault, encoded in `payload`, outside any step.
    pub(crate) fn fault(fault: &Fault, payload: &'a [u8]) -> Self {
        Self { effect: fault.effect, ..Self::plain(payload) }
    }

    /// The frame's content.
    pub(crate) fn reply(&self, seq: u64, epoch: u64) -> Reply<'a> {
        let Self { effect, payload, grant, version, index } = *self;
        Reply { seq, effect, payload, epoch, version, index, grant }
    }

    /// A result that no object's version belongs to.
    pub(crate) fn plain(payload: &'a [u8]) -> Self {
        Self { effect: Effect::Returned, payload, grant: None, version: 0, index: 0 }
    }

    /// The news of a new object; [`ReplyTo::answer_object`] adds its token.
    pub(crate) fn made() -> Self {
        Self::plain(&[])
    }
}

impl ReplyTo {
    /// Whether nobody is there to get the reply.
    pub(super) fn is_ended(&self) -> bool {
        matches!(self, Self::Client { session, .. } if session.is_ended())
    }

    /// Notes that the call waits. `expired`: no longer than it takes to tell it so.
    pub(super) fn parks(&self, cell: &Arc<Cell>, id: CallId, expired: bool) -> Parks {
        match self {
            Self::Client { session, seq, .. } => session.parked(*seq, cell, id, expired),
            Self::Cell { .. } | Self::Host(_) => Parks::Waits,
        }
    }

    /// Sends a reply. `tokens`: it may contain some.
    pub(crate) fn answer(self, answer: Answer<'_>, tokens: bool) {
        match self {
            Self::Client { session, lane, seq, kept } => {
                session.answer((&lane, seq), kept, answer, tokens, None);
            }
            Self::Cell { cell, tag } => {
                let outcome = match answer.effect {
                    Effect::Returned => Ok(answer.payload.to_vec()),
                    effect => Err(Fault::read(effect, answer.payload)
                        .unwrap_or_else(|malformed| Fault::refused("Malformed", malformed.to_string()))),
                };
                cell.bring(Work::Returned { tag, outcome });
            }
            Self::Host(note) => note(answer.effect, answer.payload),
        }
    }

    /// Sends the token of a new object, whose first root reference becomes the client's.
    pub(crate) fn answer_object(self, ident: Ident, object: Object, answer: Answer<'_>) {
        let mut payload = Vec::new();
        TokenRef { typeid: &object.kind.typeid, ident, address: None }.encode(&mut payload);
        let tenant = object.cell.tenant.clone();
        match &self {
            Self::Client { session, .. } => {
                if !session.adopt(ident, object) {
                    return tenant.table.release([ident]).finish();
                }
                self.answer(Answer { payload: &payload, ..answer }, false);
            }
            Self::Cell { .. } | Self::Host(_) => {
                // Whoever asked takes the token within the turn that follows, or lets the object go.
                self.answer(Answer { payload: &payload, ..answer }, false);
                tenant.table.release([ident]).finish();
            }
        }
    }

    /// Sends a fault, outside any step.
    pub(crate) fn fail(self, fault: &Fault) {
        let mut payload = Vec::new();
        fault.put(&mut payload);
        self.answer(Answer::fault(fault, &payload), false);
    }
}

impl Cell {
    pub(super) fn answer(self: &Arc<Self>, core: &Core, reply: &OutReply, call: Parked, answer: Answer<'_>) {
        let kind = core.kind(self, call.facet);
        if let Some(typeid) = kind.wraps(call.method) {
            return self.answer_wrapped(call, &typeid, answer);
        }
        let tokens = core.stored > 0 || call.tokens;
        let Parked { to, facet, method, .. } = call;
        let ReplyTo::Client { session, lane, seq, kept } = to else { return to.answer(answer, tokens) };
        let (call, note) = (reply.call, reply.note);
        let from = kept.then(|| Answered { cell: self.clone(), call, facet, method, note });
        if !session.answer((&lane, seq), kept, answer, tokens, from) {
            // The client never saw it: what it was given goes back where it came from.
            let payload = answer.payload.to_vec();
            self.undelivered(Undelivered { call, facet, method, payload, note, sent: false });
        }
    }

    /// `method_to_typeid`: the result becomes an object, and its token the reply.
    fn answer_wrapped(&self, call: Parked, typeid: &str, answer: Answer<'_>) {
        let made = match self.tenant.registry.get(typeid) {
            Some(kind) => {
                let mut args = Vec::with_capacity(answer.payload.len() + 3);
                args.extend_from_slice(&[0x82, 0x81]);
                args.extend_from_slice(answer.payload);
                args.push(0xa0);
                self.tenant.make(&kind, Args::new(&args, true))
            }
            None => Err(Fault::refused("UnknownType", format!("typeid `{typeid}` is not registered"))),
        };
        match made {
            Ok((ident, object)) => call.to.answer_object(ident, object, answer),
            Err(fault) => call.to.fail(&fault),
        }
    }

    /// The result is a new facet of this cell: it gets an ident, and its token is the reply.
    pub(super) fn answer_facet(
        self: &Arc<Self>,
        core: &mut Core,
        call: Parked,
        facet: Facet,
        typeid: &'static str,
        answer: Answer<'_>,
    ) {
        let Some(kind) = self.tenant.registry.get(typeid) else {
            return call.to.fail(&Fault::refused("UnknownType", format!("typeid `{typeid}` is not registered")));
        };
        let object = Object { cell: self.clone(), kind: kind.clone(), facet };
        let ident = self.tenant.table.number();
        match self.tenant.table.insert(ident, object.clone()) {
            Ok(()) => {
                core.waiting.get_or_insert_default().facets.insert(facet, kind);
                call.to.answer_object(ident, object, answer);
            }
            Err(fault) => {
                call.to.fail(&fault);
                self.leave(facet);
            }
        }
    }
}
