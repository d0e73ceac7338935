//! How many bytes a tenant may keep in the host.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use steward_wire::Fault;

/// What a tenant keeps: the items its objects store, replies that are not acknowledged, calls that wait for a busy object, memory that
/// objects of plugins have asked for and by which they are made again, components that are uploaded.
///
/// Whoever keeps something charges it and releases exactly as much when it goes. At the limit, what would keep more is refused; what is
/// charged without asking (a reply that must be kept) may go beyond, by no more than one step's worth for each thread.
#[derive(Debug)]
pub(crate) struct Budget {
    used: AtomicU64,
    bytes_max: u64,
}

impl Budget {
    pub(crate) fn new(bytes_max: u64) -> Self {
        Self { used: AtomicU64::new(0), bytes_max }
    }

    pub(crate) fn used(&self) -> u64 {
        self.used.load(Ordering::Relaxed)
    }

    /// Whether `bytes` more would still be within the limit.
    ///
    /// # Errors
    /// Refused `OverQuota`, retryable: something may be removed.
    pub(crate) fn allows(&self, bytes: usize) -> Result<(), Fault> {
        let used = self.used();
        if used.saturating_add(bytes as u64) <= self.bytes_max {
            return Ok(());
        }
        let limit = self.bytes_max;
        Err(Fault::refused("OverQuota", format!("tenant keeps {used} bytes, limit is {limit}")).retry())
    }

    pub(crate) fn charge(&self, bytes: u64) {
        self.used.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(crate) fn release(&self, bytes: u64) {
        let used = self.used.fetch_sub(bytes, Ordering::Relaxed);
        debug_assert!(used >= bytes, "{bytes} bytes released of {used}");
    }
}

/// Bytes that somebody keeps, given back when it goes. The default one is charged to nobody.
#[derive(Debug, Default)]
pub(crate) struct Charge {
    budget: Option<Arc<Budget>>,
    bytes: u64,
}

impl Charge {
    pub(crate) fn to(budget: Arc<Budget>) -> Self {
        Self { budget: Some(budget), bytes: 0 }
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Whether whom it is charged to has no room left.
    pub(crate) fn is_exhausted(&self) -> bool {
        self.budget.as_ref().is_some_and(|budget| budget.allows(0).is_err())
    }

    /// As [`Budget::allows`], of whom it is charged to.
    pub(crate) fn allows(&self, bytes: usize) -> Result<(), Fault> {
        self.budget.as_ref().map_or(Ok(()), |budget| budget.allows(bytes))
    }

    pub(crate) fn add(&mut self, bytes: u64) {
        self.bytes += bytes;
        if let Some(budget) = &self.budget {
            budget.charge(bytes);
        }
    }

    pub(crate) fn sub(&mut self, bytes: u64) {
        self.bytes -= bytes;
        if let Some(budget) = &self.budget {
            budget.release(bytes);
        }
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.sub(self.bytes);
    }
}
