//! Memory: std's allocator, which takes what the host has given before it asks for more.
//!
//! std's own would only grow. But a host may give a guest its whole memory at the start and refuse growth; so what lies
//! between the end of the guest's data and the end of its memory is taken first. It is taken bit by bit, because the heap
//! writes at the end of what it has: memory that no guest has touched costs the host nothing.

#![expect(unsafe_code, reason = "an allocator is unsafe by its trait; every object of every guest test exercises it")]

use std::alloc::{GlobalAlloc, Layout};
use std::arch::wasm32;
use std::cell::{Cell, UnsafeCell};

use dlmalloc::Dlmalloc;

/// WebAssembly's pages, in which memory grows.
const PAGE_BYTES: usize = 64 * 1024;

/// The host's pages, which exist once they are touched.
const HOST_PAGE_BYTES: usize = 4096;

/// The heap takes this part of what it has at a time, or a host's page: few requests, and little taken too early.
const STEP_PART: usize = 8;

#[global_allocator]
static HEAP: Heap = Heap(UnsafeCell::new({
    let mut heap = Dlmalloc::new_with_allocator(Memory { next: Cell::new(0), end: Cell::new(0) });
    // The heap asks for what it needs, and `Memory` gives it whole pages of the host.
    assert!(heap.set_granularity(64), "a power of two");
    heap
}));

struct Heap(UnsafeCell<Dlmalloc<Memory>>);

// SAFETY: a guest has one thread; this module is not compiled where there could be more.
unsafe impl Sync for Heap {}

// SAFETY: every method passes on to dlmalloc, which fulfils the contract. The exclusive borrow lasts for one of its calls, and
// dlmalloc calls nothing but `Memory`, which does not allocate.
unsafe impl GlobalAlloc for Heap {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as above.
        unsafe { (*self.0.get()).malloc(layout.size(), layout.align()) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        // SAFETY: as above; the caller vouches for `memory` and `layout`.
        unsafe { (*self.0.get()).free(memory, layout.size(), layout.align()) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as above.
        unsafe { (*self.0.get()).calloc(layout.size(), layout.align()) }
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: as above; the caller vouches for `memory` and `layout`.
        unsafe { (*self.0.get()).realloc(memory, layout.size(), layout.align(), size) }
    }
}

/// Where the heap's memory comes from.
struct Memory {
    /// The first byte that the heap has not taken; 0 before its first request.
    next: Cell<usize>,
    /// End of what it may take without growing the memory.
    end: Cell<usize>,
}

unsafe extern "C" {
    /// Where the linker ended the guest's data and stack.
    static __heap_base: u8;
}

// SAFETY: every region handed out is the guest's own, zeroed and handed out once: each begins where the last one ended, or where
// growth began. Nothing is taken back.
unsafe impl dlmalloc::Allocator for Memory {
    fn alloc(&self, bytes: usize) -> (*mut u8, usize, u32) {
        let heap_base = &raw const __heap_base as usize;
        let (mut start, mut end) = match self.next.get() {
            0 => (heap_base, wasm32::memory_size(0) * PAGE_BYTES),
            next => (next, self.end.get()),
        };
        while end - start < bytes {
            let pages = (bytes - (end - start)).div_ceil(PAGE_BYTES);
            let before = match wasm32::memory_grow(0, pages) {
                usize::MAX => return (std::ptr::null_mut(), 0, 0),
                before => before,
            };
            if before * PAGE_BYTES != end {
                // Somebody else has grown the memory, and what lies between is theirs.
                start = before * PAGE_BYTES;
            }
            end = (before + pages) * PAGE_BYTES;
        }
        let step = bytes.max((start - heap_base) / STEP_PART);
        let taken_end = (start + step).next_multiple_of(HOST_PAGE_BYTES).min(end);
        self.next.set(taken_end);
        self.end.set(end);
        (start as *mut u8, taken_end - start, 0)
    }

    fn remap(&self, _: *mut u8, _: usize, _: usize, _: bool) -> *mut u8 {
        std::ptr::null_mut()
    }

    fn free_part(&self, _: *mut u8, _: usize, _: usize) -> bool {
        false
    }

    fn free(&self, _: *mut u8, _: usize) -> bool {
        false
    }

    fn can_release_part(&self, _: u32) -> bool {
        false
    }

    fn allocates_zeros(&self) -> bool {
        true
    }

    fn page_size(&self) -> usize {
        PAGE_BYTES
    }
}
