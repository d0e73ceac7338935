//! Memories of guests, one beside the other: where the objects of the dense profile live.
//!
//! A memory with maps of its own takes of what a process has some 65,000 of. So memories of the same greatest size lie in
//! slots of large maps, with nothing between them: what a guest cannot address is its compiled code's to know, which
//! compares each address with its memory's length. A slot that is given back loses its pages, not its place.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;

/// Slots of one map. Many, so that the maps stay few; not so many that a map of the largest slots would be refused.
const SLOTS_PER_CHUNK: usize = 64;

/// What [`Slab`] says when all the memories that it may give are taken. The only way to tell: wasmtime passes text on.
pub(super) const NO_ROOM: &str = "no room for another memory";

/// How many memories there may be, counted over slabs of all sizes.
#[derive(Debug)]
pub(super) struct Room {
    taken: AtomicUsize,
    limit: usize,
}

impl Room {
    pub(super) fn new(limit: usize) -> Arc<Self> {
        Arc::new(Self { taken: AtomicUsize::new(0), limit })
    }

    fn take(&self) -> bool {
        let more = |taken| (taken < self.limit).then_some(taken + 1);
        self.taken.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).is_ok()
    }

    fn give_back(&self) {
        self.taken.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Memories of at most `slot_bytes` each.
pub(super) struct Slab {
    slots: Arc<Slots>,
}

impl Slab {
    /// `slot_bytes` is a multiple of the system's pages.
    pub(super) fn new(slot_bytes: usize, room: Arc<Room>) -> Self {
        Self { slots: Arc::new(Slots { slot_bytes, room, state: Mutex::default() }) }
    }
}

struct Slots {
    slot_bytes: usize,
    room: Arc<Room>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    chunks: Vec<mapped::Chunk>,
    /// Slots that are not taken, zeroed, by their numbers; the last is taken next.
    free: Vec<usize>,
}

impl Slots {
    /// A slot's number and its first byte.
    fn take(&self) -> Result<(usize, *mut u8), String> {
        if !self.room.take() {
            return Err(NO_ROOM.to_owned());
        }
        let mut state = self.state.lock();
        if state.free.is_empty() {
            let chunk = mapped::Chunk::new(self.slot_bytes * SLOTS_PER_CHUNK).map_err(|error| {
                self.room.give_back();
                format!("the system gives no memory: {error}")
            })?;
            let first = state.chunks.len() * SLOTS_PER_CHUNK;
            state.chunks.push(chunk);
            state.free.extend((first..first + SLOTS_PER_CHUNK).rev());
        }
        let slot = state.free.pop().expect("a chunk was added if there was none");
        let chunk = &state.chunks[slot / SLOTS_PER_CHUNK];
        Ok((slot, chunk.at(slot % SLOTS_PER_CHUNK * self.slot_bytes)))
    }

    /// Takes a slot back that is zeroed.
    fn give_back(&self, slot: usize) {
        self.state.lock().free.push(slot);
        self.room.give_back();
    }
}

mod mapped {
    #![expect(
        unsafe_code,
        reason = "memory of guests is mapped here and lent to wasmtime; its accesses are checked by compiled code"
    )]

    use std::ffi::c_void;
    use std::io;
    use std::ptr::{self, NonNull};
    use std::sync::Arc;

    use rustix::mm::{Advice, MapFlags, ProtFlags, madvise, mmap_anonymous, munmap};
    use wasmtime::{LinearMemory, MemoryCreator, MemoryType};

    use super::{Slab, Slots};

    /// Zeroed bytes from the system, which exist once they are touched.
    pub(super) struct Chunk {
        start: NonNull<c_void>,
        bytes: usize,
    }

    // SAFETY: the bytes behind `start` belong to this value alone, and it hands out their address only.
    unsafe impl Send for Chunk {}

    impl Chunk {
        pub(super) fn new(bytes: usize) -> io::Result<Self> {
            // SAFETY: a new map, at a place that the system chooses, touches nothing that is there.
            let start = unsafe {
                mmap_anonymous(
                    ptr::null_mut(),
                    bytes,
                    ProtFlags::READ | ProtFlags::WRITE,
                    MapFlags::PRIVATE | MapFlags::NORESERVE,
                )?
            };
            let chunk = Self { start: NonNull::new(start).expect("the system maps nothing at 0"), bytes };
            // A huge page would make every small object a large one. Kernels without huge pages refuse the advice.
            // SAFETY: the advice changes how these pages are backed, not what they hold.
            let _ = unsafe { madvise(chunk.start.as_ptr(), bytes, Advice::LinuxNoHugepage) };
            Ok(chunk)
        }

        pub(super) fn at(&self, offset: usize) -> *mut u8 {
            assert!(offset < self.bytes, "slots lie within their chunk");
            // SAFETY: within the map, as just checked.
            unsafe { self.start.as_ptr().cast::<u8>().add(offset) }
        }
    }

    impl Drop for Chunk {
        fn drop(&mut self) {
            // SAFETY: each memory keeps the slots alive that it lies in, so none is left.
            let unmapped = unsafe { munmap(self.start.as_ptr(), self.bytes) };
            debug_assert!(unmapped.is_ok(), "a whole map is given back");
        }
    }

    /// One slot, lent to one memory.
    struct Slot {
        slots: Arc<Slots>,
        number: usize,
        start: NonNull<u8>,
        /// Bytes that the guest may use.
        bytes: usize,
    }

    // SAFETY: a slot is one memory's alone from `take` to `give_back`; wasmtime orders the accesses.
    unsafe impl Send for Slot {}
    // SAFETY: as above; a shared reference gives the address only.
    unsafe impl Sync for Slot {}

    // SAFETY: `as_ptr` is valid for `byte_capacity` bytes, a whole slot, as long as this value lives, and never moves.
    unsafe impl LinearMemory for Slot {
        fn byte_size(&self) -> usize {
            self.bytes
        }

        fn byte_capacity(&self) -> usize {
            self.slots.slot_bytes
        }

        fn grow_to(&mut self, bytes: usize) -> wasmtime::Result<()> {
            if bytes > self.slots.slot_bytes {
                return Err(wasmtime::Error::msg("a memory does not outgrow its slot"));
            }
            self.bytes = bytes;
            Ok(())
        }

        fn as_ptr(&self) -> *mut u8 {
            self.start.as_ptr()
        }
    }

    impl Drop for Slot {
        fn drop(&mut self) {
            // Without a lock: it takes as long as the guest has touched pages.
            // SAFETY: the memory is being dropped, so nobody refers to its bytes; they read as zeros hereafter.
            match unsafe { madvise(self.start.as_ptr().cast(), self.bytes, Advice::LinuxDontNeed) } {
                Ok(()) => self.slots.give_back(self.number),
                // What may hold this guest's bytes is never another's.
                Err(error) => tracing::error!(%error, "the memory of a guest cannot be freed"),
            }
        }
    }

    // SAFETY: a memory is a slot that is nobody else's, zeroed: new from the system or emptied before
    // it was given back, all that its last guest could write. No guard is promised, and none asked for: see the assertion.
    unsafe impl MemoryCreator for Slab {
        fn new_memory(
            &self,
            _: MemoryType,
            minimum: usize,
            _: Option<usize>,
            reserved_bytes: Option<usize>,
            guard_bytes: usize,
        ) -> Result<Box<dyn LinearMemory>, String> {
            assert_eq!((reserved_bytes, guard_bytes), (Some(0), 0), "compiled code checks each address");
            let limit = self.slots.slot_bytes;
            if minimum > limit {
                return Err(format!("a memory of {minimum} bytes does not fit its slot of {limit}"));
            }
            let (number, start) = self.slots.take()?;
            let start = NonNull::new(start).expect("the system maps nothing at 0");
            Ok(Box::new(Slot { slots: Arc::clone(&self.slots), number, start, bytes: minimum }))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SLOT_BYTES: usize = 1 << 20;

    fn slots(limit: usize) -> Arc<Slots> {
        Slab::new(SLOT_BYTES, Room::new(limit)).slots
    }

    /// Two chunks' worth: no slot overlaps another.
    #[test]
    fn slots_lie_apart() {
        let slots = slots(SLOTS_PER_CHUNK * 2);
        let mut starts: Vec<_> = (0..SLOTS_PER_CHUNK * 2).map(|_| slots.take().unwrap().1 as usize).collect();
        starts.sort_unstable();
        assert!(starts.windows(2).all(|pair| pair[1] - pair[0] >= SLOT_BYTES), "{starts:x?}");
        assert_eq!(slots.state.lock().chunks.len(), 2);
    }

    #[test]
    fn room_that_is_given_back_is_taken_again() {
        let slots = slots(2);
        let (first, start) = slots.take().unwrap();
        slots.take().unwrap();
        assert_eq!(slots.take().unwrap_err(), NO_ROOM);
        slots.give_back(first);
        assert_eq!(slots.take().unwrap(), (first, start));
        assert_eq!(slots.take().unwrap_err(), NO_ROOM);
    }
}
