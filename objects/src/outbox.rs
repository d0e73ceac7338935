//! Where a step writes what it wants of the world.

use std::ops::Range;

use steward_wire::{Effect, Fault, Ident, cbor, frame::Grant};

use crate::{CallId, Facet};

/// What a stored item costs beside its encoding: its place in a table, its allocation.
pub const ITEM_BYTES: usize = 48;

/// Collects what one step asks for. Its owner clears and reuses it, so a step that fits the room that
/// earlier ones needed allocates nothing.
#[derive(Debug, Default)]
pub struct Outbox {
    /// All payloads, one after the other.
    bytes: Vec<u8>,
    replies: Vec<Reply>,
    changed: bool,
    hold: HoldChange,
    wake_at_ms: Option<u64>,
    held: Vec<Ident>,
    let_go: Vec<Ident>,
    invocations: Vec<Invocation>,
    /// By how much this step changed what is stored.
    stored_bytes: i64,
    /// The fence of the next grant; set by the owner, so that no referent can lower it.
    fence_next: u64,
    poisoned: Option<Fault>,
    refuses_deadlocks: bool,
}

/// What a step did to the fences under which a cell's grants are held.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum HoldChange {
    /// Nothing.
    #[default]
    None,
    /// It granted beside what is held already, if anything is; the fence is the first of the step.
    Granted(u64),
    /// Nobody holds any more: no earlier fence is valid.
    Freed,
    /// As `Freed`, and then it granted anew, from this fence on.
    HandedOver(u64),
}

/// An answer to a call, this step's own or one that was parked.
#[derive(Clone, Debug)]
pub struct Reply {
    /// The call.
    pub call: CallId,
    /// What became of it.
    pub effect: Effect,
    /// Where its payload stands; see [`Outbox::payload`].
    pub payload: Range<usize>,
    /// The call was granted a lock or a permit.
    pub grant: Option<Grant>,
    /// The result is a new object that shares this cell; the payload is empty.
    pub facet: Option<(Facet, &'static str)>,
    /// The referent's own note on the reply, 0 if it made none: kept as long as the reply may come back with
    /// [`crate::Input::Undelivered`], never sent.
    pub note: u64,
}

/// A call that a referent wants made on another object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Invocation {
    /// Chosen by the referent; comes back with the result.
    pub tag: u64,
    /// The object, which the referent must hold.
    pub ident: Ident,
    /// The method's name.
    pub method: String,
    /// Arguments, encoded as for any call.
    pub args: Vec<u8>,
}

impl Outbox {
    /// An outbox whose first grant gets `fence_next`.
    pub fn new(fence_next: u64) -> Self {
        Self { fence_next, ..Self::default() }
    }

    /// Answers `call` with the item that `encode` appends.
    pub fn returns(&mut self, call: CallId, encode: impl FnOnce(&mut Vec<u8>)) {
        self.reply(call, Effect::Returned, encode);
    }

    /// Answers `call` with `None`.
    pub fn returns_null(&mut self, call: CallId) {
        self.returns(call, cbor::put_null);
    }

    /// Answers `call` with a truth value.
    pub fn returns_bool(&mut self, call: CallId, value: bool) {
        self.returns(call, |bytes| cbor::put_bool(bytes, value));
    }

    /// Answers `call` with a number.
    pub fn returns_int(&mut self, call: CallId, value: i64) {
        self.returns(call, |bytes| cbor::put_i64(bytes, value));
    }

    /// Answers `call` with text.
    pub fn returns_text(&mut self, call: CallId, value: &str) {
        self.returns(call, |bytes| cbor::put_text(bytes, value));
    }

    /// Answers `call` with an item that is encoded already.
    pub fn returns_item(&mut self, call: CallId, item: &[u8]) {
        self.returns(call, |bytes| bytes.extend_from_slice(item));
    }

    /// Answers `call` with a proxy of a new facet of this cell.
    pub fn returns_facet(&mut self, call: CallId, facet: Facet, typeid: &'static str) {
        self.returns(call, |_| {});
        self.replies.last_mut().expect("a reply was just pushed").facet = Some((facet, typeid));
    }

    /// Answers `call` with a fault.
    pub fn raises(&mut self, call: CallId, fault: &Fault) {
        self.reply(call, fault.effect, |bytes| fault.put(bytes));
    }

    fn reply(&mut self, call: CallId, effect: Effect, encode: impl FnOnce(&mut Vec<u8>)) {
        let start = self.bytes.len();
        encode(&mut self.bytes);
        self.replies.push(Reply { call, effect, payload: start..self.bytes.len(), grant: None, facet: None, note: 0 });
    }

    /// Marks the latest reply, which must be `call`'s, as a grant, and returns its fence: greater than
    /// that of any earlier grant of this cell.
    ///
    /// # Panics
    /// If the latest reply is not that of `call`.
    pub fn grant(&mut self, call: CallId, abandoned: bool) -> u64 {
        let reply = self.replies.last_mut().expect("a grant follows the reply that carries it");
        assert_eq!(reply.call, call, "a grant follows the reply that carries it");
        let fence = self.fence_next;
        self.fence_next += 1;
        reply.grant = Some(Grant { fence, abandoned });
        self.hold = match self.hold {
            HoldChange::None => HoldChange::Granted(fence),
            HoldChange::Freed => HoldChange::HandedOver(fence),
            granted => granted,
        };
        fence
    }

    /// Says that nobody holds any more what this cell grants: no fence is valid until the next grant.
    pub fn freed(&mut self) {
        self.hold = HoldChange::Freed;
    }

    /// Says, while the referent is made, that a call which would close a cycle of waiting owners is to be refused.
    pub fn refuse_deadlocks(&mut self) {
        self.refuses_deadlocks = true;
    }

    /// Keeps a number with the latest reply, which must be `call`'s, that comes back should the reply be lost.
    ///
    /// # Panics
    /// If the latest reply is not that of `call`.
    pub fn note(&mut self, call: CallId, note: u64) {
        let reply = self.replies.last_mut().expect("a note follows the reply that carries it");
        assert_eq!(reply.call, call, "a note follows the reply that carries it");
        reply.note = note;
    }

    /// Says that this step changed the referent, which raises its version.
    pub fn changed(&mut self) {
        self.changed = true;
    }

    /// Asks for a [`crate::Input::Tick`] at a time of the host's clock. A later step may ask again; the earliest
    /// request of a step counts, and a new one replaces that of earlier steps.
    pub fn wake_at(&mut self, at_ms: u64) {
        self.wake_at_ms = Some(self.wake_at_ms.map_or(at_ms, |earlier| earlier.min(at_ms)));
    }

    /// Says that the referent now stores one more token of `ident`, which keeps that object alive. The
    /// token must have come with this step, or be held already.
    pub fn hold(&mut self, ident: Ident) {
        self.held.push(ident);
    }

    /// Takes back one [`Outbox::hold`].
    pub fn let_go(&mut self, ident: Ident) {
        self.let_go.push(ident);
    }

    /// Says that one more item of `length` encoded bytes is stored; [`ITEM_BYTES`] come on top.
    pub fn store_item(&mut self, length: usize) {
        self.store_items(1, length);
    }

    /// Takes back one [`Outbox::store_item`].
    pub fn remove_item(&mut self, length: usize) {
        self.remove_items(1, length);
    }

    /// The same of several items of `length` bytes in all.
    pub fn store_items(&mut self, count: u64, length: usize) {
        self.stored_bytes += (length as u64 + count * ITEM_BYTES as u64) as i64;
    }

    /// Takes back one [`Outbox::store_items`].
    pub fn remove_items(&mut self, count: u64, length: usize) {
        self.stored_bytes -= (length as u64 + count * ITEM_BYTES as u64) as i64;
    }

    /// Asks for a call on another object, whose end arrives as [`crate::Input::Returned`].
    pub fn invoke(&mut self, invocation: Invocation) {
        self.invocations.push(invocation);
    }

    /// Says that this referent cannot go on: `fault` answers every parked and every later call.
    pub fn poison(&mut self, fault: Fault) {
        self.poisoned = Some(fault);
    }

    /// The replies, in the order they were given.
    pub fn replies(&self) -> &[Reply] {
        &self.replies
    }

    /// A reply's encoded result or fault.
    pub fn payload(&self, reply: &Reply) -> &[u8] {
        &self.bytes[reply.payload.clone()]
    }

    /// Whether the step changed the referent.
    pub fn is_changed(&self) -> bool {
        self.changed
    }

    /// What the step did to what is held.
    pub fn hold_change(&self) -> HoldChange {
        self.hold
    }

    /// Whether the referent wants deadlocks refused: [`Outbox::refuse_deadlocks`].
    pub fn refuses_deadlocks(&self) -> bool {
        self.refuses_deadlocks
    }

    /// When the referent wants to be woken, if this step asked.
    pub fn wake_at_ms(&self) -> Option<u64> {
        self.wake_at_ms
    }

    /// Tokens stored in this step.
    pub fn held(&self) -> &[Ident] {
        &self.held
    }

    /// Tokens removed in this step.
    pub fn let_go_of(&self) -> &[Ident] {
        &self.let_go
    }

    /// By how many bytes this step changed what the referent stores, as its owner accounts for it.
    pub fn stored_bytes(&self) -> i64 {
        self.stored_bytes
    }

    /// Takes the calls asked for.
    pub fn take_invocations(&mut self) -> Vec<Invocation> {
        std::mem::take(&mut self.invocations)
    }

    /// The fence of the next grant.
    pub fn fence_next(&self) -> u64 {
        self.fence_next
    }

    /// Why the referent cannot go on, if it said so.
    pub fn poisoned(&self) -> Option<&Fault> {
        self.poisoned.as_ref()
    }

    /// Empties the outbox for the next step, keeping its memory up to `bytes_kept_max`.
    pub fn clear(&mut self, fence_next: u64, bytes_kept_max: usize) {
        self.bytes.clear();
        self.bytes.shrink_to(bytes_kept_max);
        self.replies.clear();
        self.changed = false;
        self.hold = HoldChange::None;
        self.wake_at_ms = None;
        self.held.clear();
        self.let_go.clear();
        self.invocations.clear();
        self.stored_bytes = 0;
        self.fence_next = fence_next;
        self.poisoned = None;
    }
}
