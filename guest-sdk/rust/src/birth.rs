//! `create` and `load` at the component's border, by hand as `step` is: what they are handed is read where it lies, and what they
//! hand back lies there until the next call, without one more call to free it.

#![expect(unsafe_code, reason = "pointers cross the component's border; every object of every guest test exercises it")]

use std::cell::UnsafeCell;

use crate::Fault;

/// `result<made, fault>`. The words of `made`: the object, the idents' address and count. Those of `fault`: address and length of the
/// kind, of the message, whether there are data, their address and length.
#[repr(C)]
struct Area {
    failed: bool,
    words: [usize; 7],
}

const _: () = assert!(size_of::<Area>() == 32);

/// The last answer: where the host reads it, and what that points at.
struct Answer {
    area: Area,
    _made: Result<Vec<u64>, Fault>,
}

struct Kept(UnsafeCell<Option<Answer>>);

// SAFETY: a guest has one thread.
unsafe impl Sync for Kept {}

static ANSWER: Kept = Kept(UnsafeCell::new(None));

/// Keeps an answer, an object's handle and the tokens that it stores, and returns where the host finds it.
///
/// # Safety
/// What an earlier call returned is not read any more.
pub(crate) unsafe fn answer(made: Result<(u32, Vec<u64>), Fault>) -> *mut u8 {
    let address = |bytes: &[u8]| bytes.as_ptr() as usize;
    let (words, made) = match made {
        Ok((object, held)) => ([object as usize, held.as_ptr() as usize, held.len(), 0, 0, 0, 0], Ok(held)),
        Err(fault) => {
            let (kind, message) = (fault.kind.as_bytes(), fault.message.as_bytes());
            let data = fault.data.as_deref().unwrap_or_default();
            let has_data = fault.data.is_some().into();
            let words =
                [address(kind), kind.len(), address(message), message.len(), has_data, address(data), data.len()];
            (words, Err(fault))
        }
    };
    let area = Area { failed: made.is_err(), words };
    // SAFETY: the caller's word; a guest has one thread.
    let kept = unsafe { &mut *ANSWER.0.get() };
    (&raw mut kept.insert(Answer { area, _made: made }).area).cast()
}
