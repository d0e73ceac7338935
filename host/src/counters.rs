//! Counts of all that a tenant's clients can make a host keep. When they have left, all are back at zero but for what names
//! keep.

use std::sync::Arc;

use serde::Serialize;

use crate::tenant::Tenant;

/// What a tenant has in a host at this moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Counters {
    /// Sessions, unclaimed forks included.
    pub sessions: usize,
    /// References that sessions own.
    pub references: usize,
    /// Calls of sessions that are parked.
    pub waiters: usize,
    /// Replies that are kept until they are acknowledged.
    pub rows: usize,
    /// Objects.
    pub objects: usize,
    /// Objects that have a name.
    pub names: usize,
    /// Objects kept for a grace period, since their tokens may be on their way to somebody.
    pub lingering: usize,
    /// Bytes that the tenant is charged for.
    pub bytes: u64,
    /// Times that objects wait for.
    pub timers: usize,
}

impl Counters {
    pub(crate) fn of(tenant: &Arc<Tenant>) -> Self {
        let shared = &tenant.shared;
        let sessions: Vec<_> = shared.sessions.lock().values().cloned().collect();
        let sessions: Vec<_> = sessions.into_iter().filter(|session| Arc::ptr_eq(&session.tenant, tenant)).collect();
        let (objects, names, lingering) = tenant.table.counts();
        let mut counters = Self {
            sessions: sessions.len(),
            objects,
            names,
            lingering,
            bytes: tenant.budget.used(),
            timers: shared.clock.alarms(|cell| Arc::ptr_eq(cell.tenant(), tenant)),
            ..Self::default()
        };
        for session in sessions {
            let held = session.held();
            counters.references += held.references;
            counters.waiters += held.parked;
            counters.rows += held.rows;
        }
        counters
    }
}
