//! What a call asks of the host: kept until the reply is there, so that it can be sent again.

use steward_wire::frame::{self, ClientFrame, Guard, Subject};
use steward_wire::{Ident, value};

/// What a call's frame takes beyond its arguments, at most, but for the names in it.
const HEAD_BYTES_MAX: usize = 256;

/// A frame with a seq, but for the seq.
#[derive(Clone, Debug)]
pub(crate) enum Request {
    Call {
        ident: Ident,
        owner: u64,
        method: Method,
        args: Vec<u8>,
        deadline_ms: Option<u64>,
        guard: Option<Guard>,
        /// It lets go of a lock: given up or not, that must happen.
        lets_go: bool,
    },
    Create {
        owner: u64,
        typeid: Box<str>,
        args: Vec<u8>,
        name: Option<Box<str>>,
        idle_ms: Option<u64>,
    },
    Upload {
        upload: u64,
        offset: u64,
        total: u64,
        chunk: Vec<u8>,
    },
    DescribeAll,
    DescribeObject(Ident),
    Fork,
}

/// How a method is named.
#[derive(Clone, Debug)]
pub(crate) enum Method {
    Index(u16),
    Known(&'static str),
    Name(Box<str>),
}

impl Request {
    /// A release of what `owner` holds of `ident`.
    pub(crate) fn release(ident: Ident, owner: u64) -> Self {
        let (method, args) = (Method::Known("release"), crate::args::NONE.to_vec());
        Self::Call { ident, owner, method, args, deadline_ms: Some(0), guard: None, lets_go: false }
    }

    /// A call out of the frame that was made of it. One that lets go of a lock is never so large that this is asked for.
    pub(crate) fn read(frame: &[u8]) -> Option<Self> {
        match ClientFrame::read(frame.get(frame::LENGTH_BYTES..)?) {
            Ok((ClientFrame::Call(frame::Call { ident, owner, method, args, deadline_ms, guard, .. }), _)) => {
                let method = match method {
                    frame::Method::Index(index) => Method::Index(index),
                    frame::Method::Name(name) => Method::Name(name.into()),
                };
                Some(Self::Call { ident, owner, method, args: args.to_vec(), deadline_ms, guard, lets_go: false })
            }
            _ => None,
        }
    }

    /// How long it may wait, if it says so.
    pub(crate) fn deadline_ms(&mut self) -> Option<&mut u64> {
        if let Self::Call { deadline_ms, .. } = self { deadline_ms.as_mut() } else { None }
    }

    /// Whether it lets go of a lock before it waits.
    pub(crate) fn lets_go(&self) -> bool {
        matches!(self, Self::Call { lets_go: true, .. })
    }

    /// What is called, and by whom.
    pub(crate) fn target(&self) -> (Ident, u64) {
        match *self {
            Self::Call { ident, owner, .. } => (ident, owner),
            Self::Create { owner, .. } => (Ident::HOST, owner),
            Self::Upload { .. } | Self::DescribeAll | Self::DescribeObject(_) | Self::Fork => (Ident::HOST, 0),
        }
    }

    /// The arguments, or what takes most of its frame.
    pub(crate) fn args(&self) -> &[u8] {
        match self {
            Self::Call { args, .. } | Self::Create { args, .. } => args,
            Self::Upload { chunk, .. } => chunk,
            Self::DescribeAll | Self::DescribeObject(_) | Self::Fork => &[],
        }
    }

    /// The objects that it names beside the one that it calls: in its arguments, and the lock that it is conditional on.
    pub(crate) fn named(&self) -> Vec<Ident> {
        let mut named = Vec::new();
        value::tokens(self.args(), &mut |ident| named.push(ident));
        if let Self::Call { guard: Some(guard), .. } = self {
            named.push(guard.lock);
        }
        named
    }

    /// Its arguments, taken out.
    pub(crate) fn into_args(self) -> Vec<u8> {
        match self {
            Self::Call { args, .. } | Self::Create { args, .. } => args,
            Self::Upload { chunk, .. } => chunk,
            Self::DescribeAll | Self::DescribeObject(_) | Self::Fork => Vec::new(),
        }
    }

    /// The size of its frame, at most.
    pub(crate) fn bytes_max(&self) -> usize {
        let names = match self {
            Self::Call { method: Method::Name(name), .. } => name.len(),
            Self::Create { typeid, name, .. } => typeid.len() + name.as_ref().map_or(0, |name| name.len()),
            _ => 0,
        };
        HEAD_BYTES_MAX + names + self.args().len()
    }

    pub(crate) fn frame(&self, seq: u64) -> ClientFrame<'_> {
        match self {
            Self::Call { ident, owner, method, args, deadline_ms, guard, lets_go: _ } => {
                ClientFrame::Call(frame::Call {
                    seq,
                    ident: *ident,
                    owner: *owner,
                    method: match method {
                        Method::Index(index) => frame::Method::Index(*index),
                        Method::Known(name) => frame::Method::Name(name),
                        Method::Name(name) => frame::Method::Name(name),
                    },
                    args,
                    deadline_ms: *deadline_ms,
                    guard: *guard,
                })
            }
            Self::Create { owner, typeid, args, name, idle_ms } => ClientFrame::Create(frame::Create {
                seq,
                owner: *owner,
                typeid,
                args,
                name: name.as_deref(),
                idle_ms: *idle_ms,
            }),
            Self::Upload { upload, offset, total, chunk } => {
                ClientFrame::Upload(frame::Upload { seq, upload: *upload, offset: *offset, total: *total, chunk })
            }
            Self::DescribeAll => ClientFrame::Describe { seq, subject: Subject::All },
            Self::DescribeObject(ident) => ClientFrame::Describe { seq, subject: Subject::Object(*ident) },
            Self::Fork => ClientFrame::Fork { seq },
        }
    }
}
