//! Memory for what the host hands over with a call: `cabi_realloc`, of the component model's canonical ABI.
//!
//! Most of it is small and read at once. So it lies in one place, which is free again when the call ends, and neither is
//! allocated; what does not fit there lives as long.

#![expect(unsafe_code, reason = "pointers cross the component's border; every step of every guest test exercises it")]

use std::cell::{Cell, UnsafeCell};
use std::marker::PhantomData;

/// Bytes of the place: arguments of most calls, or the three lists that an object is made with.
const PLACE_BYTES: usize = 128;

/// The greatest alignment of the canonical ABI.
const ALIGN: usize = 8;

#[repr(C, align(8))]
struct Place {
    bytes: UnsafeCell<[u8; PLACE_BYTES]>,
    used: Cell<usize>,
    /// What did not fit, by words that are aligned for all.
    others: Cell<Vec<Vec<u64>>>,
    has_others: Cell<bool>,
}

// SAFETY: a guest has one thread.
unsafe impl Sync for Place {}

static PLACE: Place = Place {
    bytes: UnsafeCell::new([0; PLACE_BYTES]),
    used: Cell::new(0),
    others: Cell::new(Vec::new()),
    has_others: Cell::new(false),
};

/// Gives the host memory.
///
/// # Safety
/// As the canonical ABI has it: `old` and `old_length` are of an earlier call, or zero, and `align` is a power of two up to 8.
#[unsafe(no_mangle)]
unsafe extern "C" fn cabi_realloc(old: *const u8, old_length: usize, align: usize, length: usize) -> *mut u8 {
    let start = (PLACE.used.get() + align - 1) & !(align - 1);
    let new = if length <= PLACE_BYTES.saturating_sub(start) {
        PLACE.used.set(start + length);
        PLACE.bytes.get().cast::<u8>().wrapping_add(start)
    } else {
        elsewhere(length)
    };
    if old_length > 0 {
        // SAFETY: the host's word on `old`; the new memory is another.
        unsafe { old.copy_to_nonoverlapping(new, old_length.min(length)) };
    }
    new
}

#[cold]
fn elsewhere(length: usize) -> *mut u8 {
    let mut words = Vec::with_capacity(length.div_ceil(ALIGN));
    let start = words.as_mut_ptr();
    let mut others = PLACE.others.take();
    others.push(words);
    PLACE.others.set(others);
    PLACE.has_others.set(true);
    start.cast()
}

/// What came with the call under way. All that was handed over is free again when this is dropped.
pub(crate) struct Received(PhantomData<*const u8>);

impl Received {
    /// # Safety
    /// There is no other one: a call has just begun.
    pub(crate) unsafe fn new() -> Self {
        Self(PhantomData)
    }

    /// A list of bytes.
    ///
    /// # Safety
    /// The host has passed this list with the call.
    pub(crate) unsafe fn bytes(&self, start: *const u8, length: usize) -> &[u8] {
        if length == 0 {
            return &[];
        }
        // SAFETY: the caller's word; `cabi_realloc` gave the memory, which the host has written and nobody writes before `self` is
        // dropped.
        unsafe { std::slice::from_raw_parts(start, length) }
    }

    /// A text.
    ///
    /// # Safety
    /// The host has passed this text with the call.
    pub(crate) unsafe fn text(&self, start: *const u8, length: usize) -> &str {
        // SAFETY: the caller's word; texts of the canonical ABI are UTF-8, which the host has checked.
        unsafe { std::str::from_utf8_unchecked(self.bytes(start, length)) }
    }
}

impl Drop for Received {
    #[inline]
    fn drop(&mut self) {
        PLACE.used.set(0);
        if PLACE.has_others.replace(false) {
            PLACE.others.take();
        }
    }
}
