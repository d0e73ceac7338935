//! Memory: std's allocator, which takes what the host has given before it asks for more.
//!
//! std's own would only grow. But a host may give a guest its whole memory at the start and refuse growth; so the first request gets
//! everything between the end of the guest's data and the end of its memory, however large that is.

#![expect(unsafe_code, reason = "an allocator is unsafe by its trait; every object of every guest test exercises it")]

use std::alloc::{GlobalAlloc, Layout};
use std::arch::wasm32;
use std::cell::{Cell, UnsafeCell};

use dlmalloc::Dlmalloc;

const PAGE_BYTES: usize = 64 * 1024;

#[global_allocator]
static HEAP: Heap = Heap(UnsafeCell::new({
    let mut heap = Dlmalloc::new_with_allocator(Memory { first_taken: Cell::new(false) });
    // With its default of 64 KiB the heap would ask for more than most guests have left, and never use it.
    assert!(heap.set_granularity(4096), "a power of two");
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
    first_taken: Cell<bool>,
}

unsafe extern "C" {
    /// Where the linker ended the guest's data and stack.
    static __heap_base: u8;
}

// SAFETY: every region handed out is the guest's own, zeroed and handed out once: first what lies behind its data, then what
// growth adds. Nothing is taken back.
unsafe impl dlmalloc::Allocator for Memory {
    fn alloc(&self, bytes: usize) -> (*mut u8, usize, u32) {
        if !self.first_taken.replace(true) {
            let start = &raw const __heap_base as usize;
            let end = wasm32::memory_size(0) * PAGE_BYTES;
            if end.saturating_sub(start) >= bytes {
                return (start as *mut u8, end - start, 0);
            }
        }
        let pages = bytes.div_ceil(PAGE_BYTES);
        match wasm32::memory_grow(0, pages) {
            usize::MAX => (std::ptr::null_mut(), 0, 0),
            before => ((before * PAGE_BYTES) as *mut u8, pages * PAGE_BYTES, 0),
        }
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
