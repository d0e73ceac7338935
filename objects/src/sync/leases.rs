//! What a queue has lent out: items with a receipt, each until it is acknowledged, given back, or its lease ends.
//!
//! A queue makes one of these when it first lends, or is told where to send what is lent in vain.

use std::collections::{BTreeMap, BTreeSet};

use steward_wire::cbor;
use steward_wire::value::token_of;

use crate::{Fault, Ident, Invocation, Outbox, data};

use super::integer;
use super::store::Item;

/// The longest lease, some 49 days. A longer one is refused.
pub const LEASE_MS_MAX: u32 = u32::MAX;

/// Items that are out, in three orders: every one of `lent` has one entry in `ends` and one in `borrowers`.
#[derive(Debug, Default)]
pub(super) struct Leases {
    /// Of the latest that was lent; numbers rise from 1 and are never used again.
    receipt_last: u64,
    lent: BTreeMap<u64, Lent>,
    /// When they end, and their receipts.
    ends: BTreeSet<(u64, u64)>,
    /// The sessions that have them, and their receipts.
    borrowers: BTreeSet<(u64, u64)>,
    /// The earliest time that the host was asked for and that has not come: it is asked again only for an earlier one.
    wakes_at_ms: Option<u64>,
    dead_letters: Option<DeadLetters>,
}

#[derive(Debug)]
struct Lent {
    item: Item,
    session: u64,
    ends_ms: u64,
}

/// Where items go that were delivered too often.
#[derive(Debug)]
pub(super) struct DeadLetters {
    /// The other queue, which is held.
    to: Ident,
    /// One that comes back after so many deliveries goes there.
    max_deliveries: u32,
    /// Those on their way, by their last receipts: the other queue's `put` has not returned.
    leaving: BTreeMap<u64, Item>,
}

impl DeadLetters {
    /// From a constructor's arguments; the other queue is held from now on.
    pub(super) fn read(
        max_deliveries: Option<&[u8]>,
        dead_letter: Option<&[u8]>,
        out: &mut Outbox,
    ) -> Result<Option<Self>, Fault> {
        let value_error = |text: &str| Err(Fault::raised("ValueError", text));
        let max_deliveries = max_deliveries.map_or(Ok(0), integer)?;
        if max_deliveries < 0 {
            return value_error("max_deliveries must be >= 0");
        }
        let to = match dead_letter {
            None | Some([cbor::NULL]) => None,
            Some(item) => match token_of(item).filter(|token| token.address.is_none()) {
                Some(token) => Some(token.ident),
                None => {
                    let name = data::type_name(&data::decode(item)?);
                    return Err(Fault::raised(
                        "TypeError",
                        format!("dead_letter must be a queue of this host, not {name}"),
                    ));
                }
            },
        };
        match (max_deliveries, to) {
            (0, None) => Ok(None),
            (_, None) => value_error("max_deliveries needs a dead_letter"),
            (0, Some(_)) => value_error("dead_letter needs max_deliveries"),
            (max_deliveries, Some(to)) => {
                out.hold(to);
                let max_deliveries = u32::try_from(max_deliveries).unwrap_or(u32::MAX);
                Ok(Some(Self { to, max_deliveries, leaving: BTreeMap::new() }))
            }
        }
    }
}

impl Leases {
    pub(super) fn new(dead_letters: DeadLetters) -> Self {
        Self { dead_letters: Some(dead_letters), ..Self::default() }
    }

    /// How many items are out.
    pub(super) fn len(&self) -> usize {
        self.lent.len()
    }

    /// The receipt of the next item that is lent.
    pub(super) fn receipt_next(&self) -> u64 {
        self.receipt_last + 1
    }

    /// Lends an item to a session; returns the receipt.
    pub(super) fn lend(&mut self, item: Item, session: u64, ends_ms: u64, out: &mut Outbox) -> u64 {
        let receipt = self.receipt_next();
        self.receipt_last = receipt;
        self.lent.insert(receipt, Lent { item, session, ends_ms });
        self.ends.insert((ends_ms, receipt));
        self.borrowers.insert((session, receipt));
        self.wake(out);
        receipt
    }

    /// Takes an item out of those that are lent, if it still is.
    pub(super) fn take(&mut self, receipt: u64) -> Option<Item> {
        let Lent { item, session, ends_ms } = self.lent.remove(&receipt)?;
        self.ends.remove(&(ends_ms, receipt));
        self.borrowers.remove(&(session, receipt));
        Some(item)
    }

    /// Moves the end of a lease, if there is one of this receipt.
    pub(super) fn extend(&mut self, receipt: u64, ends_ms: u64, out: &mut Outbox) -> bool {
        let Some(lent) = self.lent.get_mut(&receipt) else { return false };
        self.ends.remove(&(lent.ends_ms, receipt));
        lent.ends_ms = ends_ms;
        self.ends.insert((ends_ms, receipt));
        self.wake(out);
        true
    }

    /// Takes what a session has.
    pub(super) fn take_of(&mut self, session: u64) -> Vec<(u64, Item)> {
        let receipts: Vec<u64> =
            self.borrowers.range((session, 0)..=(session, u64::MAX)).map(|(_, receipt)| *receipt).collect();
        receipts.into_iter().filter_map(|receipt| Some((receipt, self.take(receipt)?))).collect()
    }

    /// Takes that of which the lease has ended. The host has woken the queue, and may have to again: [`Self::wake`].
    pub(super) fn take_ended(&mut self, now_ms: u64) -> Vec<(u64, Item)> {
        self.wakes_at_ms = None;
        let mut ended = Vec::new();
        while let Some((_, receipt)) = self.ends.first().copied().filter(|(ends_ms, _)| *ends_ms <= now_ms) {
            ended.push((receipt, self.take(receipt).expect("what has an end is lent")));
        }
        ended
    }

    /// Takes everything that is out.
    pub(super) fn drain(&mut self) -> impl Iterator<Item = Item> {
        self.ends.clear();
        self.borrowers.clear();
        std::mem::take(&mut self.lent).into_values().map(|lent| lent.item)
    }

    /// Asks for the end of the lease that ends first.
    pub(super) fn wake(&mut self, out: &mut Outbox) {
        if let Some((ends_ms, _)) = self.ends.first()
            && self.wakes_at_ms.is_none_or(|wakes_at_ms| *ends_ms < wakes_at_ms)
        {
            self.wakes_at_ms = Some(*ends_ms);
            out.wake_at(*ends_ms);
        }
    }

    /// Sends an item that has come back to the dead-letter queue, or returns it if it may be delivered again.
    pub(super) fn send_away(&mut self, receipt: u64, item: Item, out: &mut Outbox) -> Option<Item> {
        let Some(dead) = self.dead_letters.as_mut().filter(|dead| item.deliveries >= dead.max_deliveries) else {
            return Some(item);
        };
        let mut args = Vec::with_capacity(item.bytes.len() + 3);
        cbor::put_array(&mut args, 2);
        cbor::put_array(&mut args, 1);
        args.extend_from_slice(&item.bytes);
        cbor::put_map(&mut args, 0);
        out.invoke(Invocation { tag: receipt, ident: dead.to, method: "put".to_owned(), args });
        dead.leaving.insert(receipt, item);
        None
    }

    /// Takes an item that was sent away, now that the other queue's `put` has returned.
    pub(super) fn take_sent(&mut self, receipt: u64) -> Option<Item> {
        self.dead_letters.as_mut()?.leaving.remove(&receipt)
    }
}
