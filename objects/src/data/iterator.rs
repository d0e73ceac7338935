//! Iterators: facets of the container they walk, so that they can see it change.

use std::collections::BTreeMap;

use steward_wire::cbor;

use super::items::{ssize, type_error, value_error};
use super::{methods, no_such_method};
use crate::{Builtin, Call, Facet, Fault, Method, Outbox, Param, common};

/// Most iterators of one container at a time; another `__iter__` raises `MemoryError`.
pub const ITERATORS_MAX: usize = 1_024;

/// Most items of one page; [`PAGE_BYTES_MAX`] may end it earlier.
pub const PAGE_ITEMS_MAX: usize = 4_096;

/// A page ends after the item that reaches this many bytes.
pub const PAGE_BYTES_MAX: usize = 1 << 20;

/// The type of iterators, which only `__iter__` and `__reversed__` make.
pub static ITERATOR: Builtin = Builtin {
    typeid: "Iterator",
    doc: "Walks over a list, dict or set.\n\nOf a list it sees later changes, a dict must not change size meanwhile, of \
          a set it walks over a copy. Once exhausted it stays so.",
    constructor: &[],
    methods: METHODS,
    create: |_, _| Err(Fault::refused("NotConstructible", "an Iterator comes from a container's `__iter__`")),
    joins: &[],
    snapshots: false,
    constructible: false,
};

methods! {
    /// Methods of Iterator.
    IteratorMethod, METHODS:
    Next = Method::new("__next__", &[],
        "Returns the next item.\n\nRaises `StopIteration` at the end, and `RuntimeError` if the dict has changed size.");
    NextMany = Method::new("next_many", &[Param::optional("n", "int", "1024")],
        "Returns a list of up to `n` next items; an empty one says that there are no more.\n\n\
         A page holds at most 4096 items and ends after about 1 MiB, so a short page is not yet the end.");
    Send = Method::new("send", &[Param::required("value", "any")],
        "Raises `AttributeError`: these iterators are no generators.");
    Throw = Method::new("throw", &[Param::rest("args")],
        "Raises `AttributeError`: these iterators are no generators.");
    Close = Method::new("close", &[], "Ends the iteration: what remains is given up.");
}

/// The live iterators of one container. `C` says where one stands.
#[derive(Debug)]
pub(crate) struct Iterators<C> {
    /// `None`: exhausted.
    cursors: BTreeMap<Facet, Option<C>>,
    /// Facet numbers are never used again.
    latest: Facet,
}

impl<C> Default for Iterators<C> {
    fn default() -> Self {
        Self { cursors: BTreeMap::new(), latest: 0 }
    }
}

impl<C> Iterators<C> {
    /// Checks that there may be one more iterator.
    pub(crate) fn check_room(&self) -> Result<(), Fault> {
        if self.cursors.len() >= ITERATORS_MAX || self.latest == Facet::MAX {
            return Err(Fault::raised("MemoryError", format!("container has {ITERATORS_MAX} iterators, the limit")));
        }
        Ok(())
    }

    /// Answers `call` with a new iterator; there must be room.
    pub(crate) fn open(&mut self, call: &Call<'_>, cursor: C, out: &mut Outbox) {
        self.latest += 1;
        self.cursors.insert(self.latest, Some(cursor));
        out.returns_facet(call.id, self.latest, ITERATOR.typeid);
        out.changed();
    }

    /// Forgets an iterator; returns where it stood.
    pub(crate) fn leave(&mut self, facet: Facet) -> Option<C> {
        self.cursors.remove(&facet).flatten()
    }

    /// All that are not exhausted.
    pub(crate) fn live(&mut self) -> impl Iterator<Item = &mut C> {
        self.cursors.values_mut().flatten()
    }

    /// Answers a call of an iterator. `next` moves a cursor on and passes what it found to its last argument;
    /// false means that there is no more. A cursor that is given up goes to `drop_cursor`.
    pub(crate) fn call(
        &mut self,
        call: &Call<'_>,
        kind: &str,
        out: &mut Outbox,
        mut next: impl FnMut(&mut C, &mut Vec<u8>, &mut Outbox) -> Result<bool, Fault>,
        drop_cursor: impl FnOnce(C, &mut Outbox),
    ) -> Result<(), Fault> {
        let Some(slot) = self.cursors.get_mut(&call.facet) else {
            return Err(Fault::refused("UnknownFacet", "this iterator was left before"));
        };
        let Some(method) = IteratorMethod::of(call.method) else {
            match call.method {
                common::STR | common::REPR => out.returns_text(call.id, &format!("<{kind} object>")),
                common::GET_VALUE => return Err(type_error(format!("cannot copy '{kind}' object"))),
                _ => return Err(no_such_method(call)),
            }
            return Ok(());
        };
        match method {
            IteratorMethod::Next => {
                let [] = call.args.bind("Iterator.__next__", METHODS[IteratorMethod::Next as usize].params)?;
                let mut item = Vec::new();
                let found = match slot {
                    Some(cursor) => next(cursor, &mut item, out)?,
                    None => false,
                };
                if slot.is_some() {
                    out.changed();
                }
                if !found {
                    *slot = None;
                    return Err(Fault::raised("StopIteration", ""));
                }
                out.returns_item(call.id, &item);
            }
            IteratorMethod::NextMany => {
                let [n] = call.args.bind("Iterator.next_many", METHODS[IteratorMethod::NextMany as usize].params)?;
                let n = n.map_or(Ok(1_024), ssize)?;
                let n = usize::try_from(n).ok().filter(|n| *n > 0).ok_or_else(|| value_error("n must be positive"))?;
                let (mut page, mut count) = (Vec::new(), 0);
                if slot.is_some() {
                    out.changed();
                }
                while let Some(cursor) = slot
                    && count < n.min(PAGE_ITEMS_MAX)
                    && page.len() < PAGE_BYTES_MAX
                {
                    if next(cursor, &mut page, out)? {
                        count += 1;
                    } else {
                        *slot = None;
                    }
                }
                out.returns(call.id, |bytes| {
                    cbor::put_array(bytes, count);
                    bytes.extend_from_slice(&page);
                });
            }
            IteratorMethod::Send | IteratorMethod::Throw => {
                let name = METHODS[call.method as usize].name;
                return Err(Fault::raised("AttributeError", format!("'{kind}' object has no attribute '{name}'")));
            }
            IteratorMethod::Close => {
                let [] = call.args.bind("Iterator.close", METHODS[IteratorMethod::Close as usize].params)?;
                if let Some(cursor) = slot.take() {
                    drop_cursor(cursor, out);
                    out.changed();
                }
                out.returns_null(call.id);
            }
        }
        Ok(())
    }
}
