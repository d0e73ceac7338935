//! Calls that objects make of each other, and who waits for whom in them.

use std::borrow::Cow;
use std::cell::RefCell;
use std::sync::Arc;

use steward_objects::{Invocation, Owner};
use steward_wire::Ident;
use steward_wire::frame::Method as MethodRef;

use super::{CallWork, Cell, ReplyTo, unknown};

/// Who called whom: an object that waits for a call it asked for, and those that wait for it.
pub(crate) struct Chain {
    ident: Ident,
    earlier: Option<Arc<Chain>>,
}

thread_local! {
    /// The chain of the call that this thread steps.
    pub(super) static CHAIN: RefCell<Option<Arc<Chain>>> = const { RefCell::new(None) };
}

impl Chain {
    pub(super) fn contains(&self, ident: Ident) -> bool {
        let mut link = Some(self);
        while let Some(Chain { ident: known, earlier }) = link {
            if *known == ident {
                return true;
            }
            link = earlier.as_deref();
        }
        false
    }
}

impl Cell {
    /// Makes a call that the referent asked for; its end comes back as an input.
    pub(super) fn invoke(self: &Arc<Self>, invocation: Invocation) {
        let Invocation { tag, ident, method, args } = invocation;
        let to = ReplyTo::Cell { cell: self.clone(), tag };
        let earlier = CHAIN.with_borrow(Clone::clone);
        let chain = Some(Arc::new(Chain { ident: self.ident, earlier }));
        let Some(object) = self.tenant.table.retain(ident) else {
            return to.fail(&unknown(ident));
        };
        match object.kind.method(MethodRef::Name(&method)) {
            Ok(method) => object.cell.call(CallWork {
                to,
                facet: object.facet,
                method,
                owner: Owner { session: 0, thread: self.ident.0 },
                args: Cow::Owned(args),
                tokens: true,
                deadline_ms: None,
                guard: None,
                chain,
            }),
            Err(fault) => to.fail(&fault),
        }
        self.tenant.table.release([ident]).finish();
    }
}
