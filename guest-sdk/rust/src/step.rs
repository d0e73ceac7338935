//! `step` at the component's border, by hand: the one export that every call goes through.
//!
//! What wit-bindgen makes of it copies each answer into lists of its own and needs a second call of the guest to free them. Here the
//! host reads an answer where the shell has left it; it is freed when the next step begins. The layouts are the component
//! model's canonical ABI for `wit/0.1.0/plugin.wit`.

#![expect(unsafe_code, reason = "pointers cross the component's border; every step of every guest test exercises it")]

use std::cell::UnsafeCell;

use crate::context::Turn;
use crate::received::Received;
use crate::shell::{self, Call, Event, Grant, Input, Shell};
use crate::{Fault, Owner, OwnerLost, Why};

/// `list<T>` and `string`.
#[repr(C)]
struct List {
    start: *const u8,
    length: usize,
}

impl List {
    fn of<T>(items: &[T]) -> Self {
        Self { start: items.as_ptr().cast(), length: items.len() }
    }
}

/// `result<cbor, fault>`, with `payload` in the place of the fault's `kind`.
#[repr(C)]
struct Completion {
    call: u64,
    failed: bool,
    payload: List,
    message: List,
    has_data: bool,
    data: List,
    grant: u8,
}

#[repr(C)]
struct Invocation {
    tag: u64,
    ident: u64,
    method: List,
    args: List,
}

/// `option<u64>`.
#[repr(C)]
struct WakeAt {
    given: bool,
    at_ms: u64,
}

#[repr(C)]
struct Area {
    completions: List,
    freed: bool,
    changed: bool,
    wake_at: WakeAt,
    held: List,
    let_go: List,
    invokes: List,
}

const _: () = assert!(size_of::<Completion>() == 48 && size_of::<Invocation>() == 32 && size_of::<Area>() == 56);

/// The last step's answer, which the host has read by the time of the next one.
#[derive(Default)]
struct Answer {
    turn: Turn,
    single: Option<Completion>,
    completions: Vec<Completion>,
    invokes: Vec<Invocation>,
    area: Option<Area>,
}

struct Kept(UnsafeCell<Option<Answer>>);

// SAFETY: a guest has one thread.
unsafe impl Sync for Kept {}

static ANSWER: Kept = Kept(UnsafeCell::new(None));

/// The parameters of `step` in their flat form, in which the cases of `input` share places.
#[derive(Debug)]
pub struct Flat {
    /// Which case.
    pub case: u32,
    /// A call's number, a session, or a tag.
    pub number: u64,
    /// A method, or what tells further cases apart.
    pub which: u32,
    /// A session, or an address.
    pub third: u64,
    /// A thread, or a length.
    pub fourth: u64,
    /// An address or a flag, with a length.
    pub fifth: (*mut u8, usize),
    /// Whether the last one is given.
    pub has_data: u32,
    /// An address with a length.
    pub data: (*mut u8, usize),
}

impl Flat {
    /// # Safety
    /// The host has just passed this, with every list in memory that it took from `cabi_realloc`.
    unsafe fn input<'a>(&self, received: &'a Received) -> Input<'a> {
        // SAFETY: as this function's.
        let bytes = |start, length| unsafe { received.bytes(start, length) };
        let third = || bytes(self.third as usize as *mut u8, self.fourth as usize);
        Input::Other(match self.case {
            0 => {
                return Input::Call(Call {
                    id: self.number,
                    method: self.which,
                    owner: Owner { session: self.third, thread: self.fourth },
                    args: bytes(self.fifth.0, self.fifth.1),
                });
            }
            1 => Event::Cancel {
                call: self.number,
                why: match self.which {
                    0 => Why::Deadline,
                    1 => Why::Client,
                    _ => Why::SessionEnded,
                },
            },
            2 => Event::OwnerLost(OwnerLost { session: self.number, orderly: self.which != 0 }),
            3 => Event::Undelivered {
                call: self.number,
                method: self.which,
                payload: third(),
                sent: !self.fifth.0.is_null(),
            },
            4 if self.which == 0 => Event::Returned { tag: self.number, outcome: Ok(third()) },
            4 => {
                let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned().into();
                let fault = Fault {
                    kind: text(third()),
                    message: text(bytes(self.fifth.0, self.fifth.1)),
                    data: (self.has_data != 0).then(|| bytes(self.data.0, self.data.1).to_vec()),
                };
                Event::Returned { tag: self.number, outcome: Err(fault) }
            }
            _ => Event::Tick,
        })
    }
}

/// Steps `shell` and returns where the outcome lies.
///
/// # Safety
/// As the host passes it: see [`Flat`]. What an earlier call returned is not read any more.
pub(crate) unsafe fn step(shell: &mut Shell, now_ms: u64, seed: u64, flat: &Flat) -> *mut u8 {
    // SAFETY: a guest has one thread, which the host enters once at a time, and nothing in a step comes back here.
    let kept = unsafe { &mut *ANSWER.0.get() };
    let Answer { turn, single, completions, invokes, area } = kept.get_or_insert_default();
    // SAFETY: a call has just begun.
    let received = unsafe { Received::new() };
    // SAFETY: the caller's word.
    shell.step(turn, now_ms, seed, unsafe { flat.input(&received) });
    drop(received);

    // Most steps answer their call and ask for none.
    let answers = turn.completions.get_mut();
    let completions = match &**answers {
        [one] => {
            if !completions.is_empty() {
                *completions = Vec::new();
            }
            List::of(std::slice::from_ref(single.insert(completion(one))))
        }
        many => listed(completions, many, completion),
    };
    let invokes = listed(invokes, turn.invocations.get_mut(), invocation);
    let area = area.insert(Area {
        completions,
        freed: turn.freed.get(),
        changed: turn.changed,
        wake_at: WakeAt { given: turn.wake_at_ms.is_some(), at_ms: turn.wake_at_ms.unwrap_or(0) },
        held: List::of(&turn.held),
        let_go: List::of(&turn.let_go),
        invokes,
    });
    (&raw mut *area).cast()
}

/// Writes items as the host reads them.
fn listed<T, U>(out: &mut Vec<U>, items: &[T], write: fn(&T) -> U) -> List {
    if out.len() + items.len() > 0 {
        *out = items.iter().map(write).collect();
    }
    List::of(out)
}

fn invocation(shell::Invocation { tag, ident, method, args }: &shell::Invocation) -> Invocation {
    Invocation { tag: *tag, ident: *ident, method: List::of(method.as_bytes()), args: List::of(args) }
}

#[inline]
fn completion(completion: &shell::Completion) -> Completion {
    let call = completion.call;
    match &completion.outcome {
        Ok(payload) => Completion {
            call,
            failed: false,
            payload: List::of(payload),
            message: List::of::<u8>(&[]),
            has_data: false,
            data: List::of::<u8>(&[]),
            grant: match completion.grant {
                Grant::None => 0,
                Grant::Clean => 1,
                Grant::Abandoned => 2,
            },
        },
        Err(fault) => Completion {
            call,
            failed: true,
            payload: List::of(fault.kind.as_bytes()),
            message: List::of(fault.message.as_bytes()),
            has_data: fault.data.is_some(),
            data: List::of(fault.data.as_deref().unwrap_or_default()),
            grant: 0,
        },
    }
}
