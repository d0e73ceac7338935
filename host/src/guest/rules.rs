//! The rules of the world: what a guest may answer, and what becomes of it if it answers something else.

use std::cell::OnceCell;
use std::collections::HashSet;

use steward_objects::{CallId, Fault, Ident};
use steward_wire::{Malformed, check, value};

use super::GuestConfig;
use super::bindings::steward::plugin::types as wit;

/// Limit of the name of a fault's kind.
const FAULT_KIND_BYTES_MAX: usize = 128;

/// How a guest broke the rules of the world.
#[derive(Debug, thiserror::Error)]
pub(super) enum Broken {
    #[error("it answered call {0}, which does not wait for an answer")]
    UnknownCall(CallId),
    #[error("it granted call {0} and failed it")]
    GrantedFault(CallId),
    #[error("its payload is {bytes} bytes, limit is {limit}")]
    TooLong { bytes: usize, limit: usize },
    #[error("its payload is not an item: {0}")]
    Malformed(#[from] Malformed),
    #[error("it used a token of {0}, which it was not given")]
    ForeignToken(Ident),
    #[error("it holds {held} tokens, limit is {limit}")]
    TooManyHeld { held: usize, limit: usize },
    #[error("it asked for {invokes} calls in one step, limit is {limit}")]
    TooManyInvokes { invokes: usize, limit: usize },
    #[error("the kind of its fault is {bytes} bytes, limit is 1 to {FAULT_KIND_BYTES_MAX}")]
    FaultKind { bytes: usize },
}

/// Checks an item of a guest's: its length, its form, and that every token in it is `known`.
pub(super) fn check_item(item: &[u8], config: &GuestConfig, known: impl Fn(Ident) -> bool) -> Result<(), Broken> {
    if item.len() > config.reply_bytes_max {
        return Err(Broken::TooLong { bytes: item.len(), limit: config.reply_bytes_max });
    }
    let mut foreign = None;
    if check(item, &config.item_limits)?.tokens {
        value::tokens(item, &mut |ident| {
            if !known(ident) {
                foreign = Some(ident);
            }
        });
    }
    foreign.map_or(Ok(()), |ident| Err(Broken::ForeignToken(ident)))
}

pub(super) fn check_fault(
    fault: &wit::Fault,
    config: &GuestConfig,
    known: impl Fn(Ident) -> bool,
) -> Result<(), Broken> {
    if fault.kind.is_empty() || fault.kind.len() > FAULT_KIND_BYTES_MAX {
        return Err(Broken::FaultKind { bytes: fault.kind.len() });
    }
    fault.data.as_deref().map_or(Ok(()), |data| check_item(data, config, known))
}

/// What a guest raises is never more than that: whether a call happened is not for it to say.
pub(super) fn raised(fault: wit::Fault) -> Fault {
    Fault { data: fault.data, ..Fault::raised(fault.kind, fault.message) }
}

/// The item that came with a step, whose tokens the guest may store and pass on.
#[derive(Default)]
pub(super) struct Arrived<'a> {
    /// Empty if there is none, or none with tokens.
    item: &'a [u8],
    tokens: OnceCell<HashSet<Ident>>,
}

impl<'a> Arrived<'a> {
    pub(super) fn with(item: &'a [u8]) -> Self {
        Self { item, tokens: OnceCell::new() }
    }

    pub(super) fn brought(&self, ident: Ident) -> bool {
        self.tokens
            .get_or_init(|| {
                let mut tokens = HashSet::new();
                if !self.item.is_empty() {
                    value::tokens(self.item, &mut |ident| {
                        tokens.insert(ident);
                    });
                }
                tokens
            })
            .contains(&ident)
    }
}
