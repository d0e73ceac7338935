//! Tenants: the unit of isolation. Each has its own keys, types and objects.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use steward_objects::{Args, Outbox};
use steward_wire::auth::AuthKey;
use steward_wire::{Fault, Ident, value};

use crate::budget::Budget;
use crate::cell::{Cell, ReplyTo};
use crate::clock::Clock;
use crate::guest::Birth;
use crate::limits::Limits;
use crate::plugins::{LazyGuests, Uploads};
use crate::pool::Pool;
use crate::registry::{Origin, Registry, Type};
use crate::session::Session;
use crate::table::{Object, Table};
use crate::waits::Waits;

/// What all parts of a host share.
pub(crate) struct Shared {
    pub(crate) limits: Limits,
    pub(crate) clock: Clock,
    pub(crate) pool: Pool,
    /// This run of the host; in every reply, so that versions of two runs are never compared.
    pub(crate) epoch: u64,
    pub(crate) server_id: String,
    /// Mixed into seeds and dummy keys; random at each start.
    pub(crate) boot_secret: [u8; 32],
    /// In the order of their numbers, so that those which end together end in the same order each time.
    pub(crate) sessions: Mutex<BTreeMap<u64, Arc<Session>>>,
    session_last: AtomicU64,
    /// What runs plugins that are registered later.
    pub(crate) guests: Option<LazyGuests>,
    /// Held while a component is compiled.
    pub(crate) compiling: Mutex<()>,
    /// Asked to end, by a client or a signal.
    pub(crate) ending: tokio::sync::watch::Sender<Option<String>>,
}

impl Shared {
    pub(crate) fn new(
        limits: Limits,
        clock: Clock,
        pool: Pool,
        server_id: String,
        boot_secret: [u8; 32],
        guests: Option<LazyGuests>,
        ending: tokio::sync::watch::Sender<Option<String>>,
    ) -> Self {
        let epoch = clock.now_ms();
        let sessions = Mutex::default();
        let (session_last, compiling) = (AtomicU64::new(0), Mutex::new(()));
        Self { limits, clock, pool, epoch, server_id, boot_secret, sessions, session_last, guests, compiling, ending }
    }

    /// How many sessions a tenant has.
    pub(crate) fn sessions_of(&self, tenant: &Arc<Tenant>) -> usize {
        self.sessions.lock().values().filter(|session| Arc::ptr_eq(&session.tenant, tenant)).count()
    }

    pub(crate) fn session_number(&self) -> u64 {
        self.session_last.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// Randomness for one step: cheap, different for every call, unknown to clients.
    pub(crate) fn seed(&self, ident: Ident, call: u64) -> u64 {
        let secret = u64::from_be_bytes(*self.boot_secret.first_chunk().expect("a secret has 32 bytes"));
        // SplitMix64's finaliser (Steele, Lea, Flood: Fast splittable pseudorandom number generators, 2014).
        let mut mixed = secret ^ ident.0.rotate_left(32) ^ call.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Asks the host to end in good order.
    pub(crate) fn end(&self, reason: &str) {
        self.ending.send_if_modified(|ending| {
            let first = ending.is_none();
            ending.get_or_insert_with(|| reason.to_owned());
            first
        });
    }
}

/// What a key permits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Create and call.
    Member,
    /// Also list, inspect, delete names, shut down.
    Admin,
}

/// A key that signs in to a tenant.
#[derive(Clone, Debug)]
pub struct Key {
    /// Its name, sent in the clear.
    pub id: String,
    /// What it permits.
    pub role: Role,
    /// The secret.
    pub authkey: AuthKey,
}

/// A unit of isolation.
pub(crate) struct Tenant {
    pub(crate) name: String,
    pub(crate) keys: Vec<Key>,
    pub(crate) registry: Registry,
    pub(crate) table: Table,
    pub(crate) waits: Waits,
    pub(crate) budget: Arc<Budget>,
    pub(crate) uploads: Mutex<Uploads>,
    pub(crate) shared: Arc<Shared>,
}

impl Tenant {
    pub(crate) fn new(name: String, keys: Vec<Key>, shared: Arc<Shared>) -> Self {
        let table = Table::new(shared.limits.objects_max);
        let budget = Arc::new(Budget::new(shared.limits.tenant_bytes_max));
        Self {
            name,
            keys,
            registry: Registry::with_builtins(),
            table,
            waits: Waits::default(),
            budget,
            uploads: Mutex::default(),
            shared,
        }
    }

    /// Makes an object, with one root reference that the caller owns.
    ///
    /// # Errors
    /// Refused `OverQuota`; what the constructor raises.
    pub(crate) fn make(self: &Arc<Self>, kind: &Arc<Type>, args: Args<'_>) -> Result<(Ident, Object), Fault> {
        self.budget.allows(args.item().len())?;
        let mut out = Outbox::new(1);
        let ident = self.table.number();
        let referent = match &kind.origin {
            Origin::Builtin(builtin) => (builtin.create)(args, &mut out)?,
            Origin::Constructor(constructor) => constructor(args, &mut out)?,
            Origin::Plugin(releases) => {
                let (now_ms, seed) = (self.shared.clock.now_ms(), self.shared.seed(ident, 0));
                let birth = Birth { tenant: &self.name, ident, now_ms, seed };
                releases.create_within(&self.budget, args, birth, &mut out)?
            }
            Origin::Singleton { of, args, made } => return self.singleton(kind, of, args, made),
        };
        let stored = out.held().len() as u64;
        let cell = Cell::new(ident, kind.clone(), self.clone(), referent, &out);
        let object = Object { cell, kind: kind.clone(), facet: 0 };
        self.table.insert(ident, object.clone())?;
        if stored > 0 {
            self.table.store(ident, out.held(), &[]).finish();
        }
        Ok((ident, object))
    }

    /// The object whose cell a new one joins, and the built-in type it joins as: a Condition that of its Lock. `None` if it gets a cell of its own, or none since its
    /// constructor does not take what it is given.
    pub(crate) fn joined(&self, kind: &Type, args: &[u8], tokens: bool) -> Option<(Object, &'static str)> {
        let Origin::Builtin(builtin) = &kind.origin else { return None };
        if !tokens || builtin.joins.is_empty() {
            return None;
        }
        let ident = first_token(args)?;
        let object = self.table.retain(ident)?;
        // The caller's own reference keeps it while it is joined.
        self.table.release([ident]).finish();
        let Origin::Builtin(of) = &object.kind.origin else { return None };
        builtin.joins.contains(&of.typeid).then_some((object, builtin.typeid))
    }

    fn singleton(
        self: &Arc<Self>,
        kind: &Arc<Type>,
        of: &Arc<Type>,
        args: &[u8],
        made: &std::sync::OnceLock<Ident>,
    ) -> Result<(Ident, Object), Fault> {
        let ident = match made.get() {
            Some(ident) => *ident,
            None => {
                // Its first reference is the registration's own and is never given back. Two first requests at once
                // make two objects, of which one is let go.
                let (ident, _) = self.make(of, Args::new(args, false))?;
                let kept = *made.get_or_init(|| ident);
                if kept != ident {
                    self.table.release([ident]).finish();
                }
                kept
            }
        };
        let object = self.table.retain(ident).expect("the registration's own reference keeps it");
        // The object as this registration exposes it: exposure belongs to the handle.
        Ok((ident, Object { kind: kind.clone(), ..object }))
    }

    /// Makes an object for a client and answers with its token, or joins it to the cell that `args` name.
    pub(crate) fn create(self: &Arc<Self>, kind: &Arc<Type>, args: &[u8], tokens: bool, to: ReplyTo) {
        if let Some((joined, typeid)) = self.joined(kind, args, tokens) {
            return joined.cell.join(to, typeid, joined.facet, args.to_vec(), tokens);
        }
        match self.make(kind, Args::new(args, tokens)) {
            Ok((ident, object)) => to.answer_object(ident, object, crate::cell::Answer::made()),
            Err(fault) => to.fail(&fault),
        }
    }
}

/// The ident of the first argument, by place or keyword, if that is a token.
fn first_token(args: &[u8]) -> Option<Ident> {
    let mut reader = steward_wire::cbor::Reader::new(args);
    reader.array().ok()?;
    if reader.array().ok()? == 0 {
        reader.map().ok()?;
        reader.text().ok()?;
    }
    value::token_of(reader.raw().ok()?).map(|token| token.ident)
}
