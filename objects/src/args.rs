//! Arguments of a call, bound to parameters as Python binds them.

use steward_wire::cbor::{self, Reader};
use steward_wire::describe::ParamKind;

use crate::{Fault, Param};

/// The arguments of one call, still encoded: `[[positional…], {keyword: …}]`, checked when they were received.
#[derive(Clone, Copy, Debug)]
pub struct Args<'a> {
    item: &'a [u8],
    /// Whether a token stands anywhere inside.
    tokens: bool,
}

impl<'a> Args<'a> {
    /// Arguments from a checked item; `tokens` as the check found.
    pub fn new(item: &'a [u8], tokens: bool) -> Self {
        Self { item, tokens }
    }

    /// No arguments.
    pub fn none() -> Self {
        Self { item: &[0x82, 0x80, 0xa0], tokens: false }
    }

    /// The whole item.
    pub fn item(&self) -> &'a [u8] {
        self.item
    }

    /// Whether a token may stand anywhere inside.
    pub fn has_tokens(&self) -> bool {
        self.tokens
    }

    /// Binds the arguments to `params` (of the method or constructor `name`): one slot for each, `None` where an
    /// optional one was left out. The slots of `*args` and `**kwargs` hold their items one after the other (for
    /// keywords: name, value, name, value…), `None` if there are none.
    ///
    /// # Errors
    /// Raised `TypeError`, worded as CPython words it.
    ///
    /// # Panics
    /// If `N` is not the number of `params`.
    pub fn bind<const N: usize>(&self, name: &str, params: &[Param]) -> Result<[Option<&'a [u8]>; N], Fault> {
        assert_eq!(N, params.len(), "one slot for each parameter of {name}");
        let _ = (ParamKind::Normal, Reader::new(self.item), cbor::NULL);
        todo!()
    }
}
