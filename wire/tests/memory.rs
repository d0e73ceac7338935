//! Promise C1: what a peer sends makes the decoder allocate at most four times its size and 64 KiB.
//!
//! Each thread counts what it allocates, so that tests may run side by side.
#![expect(unsafe_code, reason = "counting allocations takes a global allocator")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use steward_wire::auth::{Hello, ServerAnswer};
use steward_wire::frame::{self, ClientFrame, HostFrame};
use steward_wire::value::{self, Value};
use steward_wire::{Limits, cbor, check};

struct Counting;

thread_local! {
    static LIVE: Cell<usize> = const { Cell::new(0) };
    static PEAK: Cell<usize> = const { Cell::new(0) };
}

fn grow(bytes: usize) {
    let live = LIVE.get() + bytes;
    LIVE.set(live);
    PEAK.set(PEAK.get().max(live));
}

// SAFETY: every method hands its arguments to the system's allocator unchanged; counting touches only thread-local
// cells, which are constant-initialised and have no destructor, so they neither allocate nor end before the thread.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        grow(layout.size());
        // SAFETY: the caller's promises are those that the system's allocator asks for.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // Freed here although allocated by another thread: what counts is the peak of this one.
        LIVE.set(LIVE.get().saturating_sub(layout.size()));
        // SAFETY: as above.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// The most that `work` had allocated at once.
fn peak_bytes<T>(work: impl FnOnce() -> T) -> usize {
    let before = LIVE.get();
    PEAK.set(before);
    drop(work());
    PEAK.get() - before
}

/// Bodies that cost the most to read: many small things, lengths that lie, deep nesting.
fn hostile_bodies() -> Vec<Vec<u8>> {
    let mut bodies: Vec<Vec<u8>> = vec![
        [vec![0x9a, 0, 1, 0, 0], vec![0; 65_536]].concat(),
        [vec![0x81; 65_536], vec![0]].concat(),
        vec![0x9a, 0xff, 0xff, 0xff, 0xff],
        vec![0x5b, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff],
        [0x9a, 0, 0x0f, 0xff, 0xff].repeat(10_000),
    ];
    // Frames as full as they may be, and ten times fuller.
    for factor in [1, 10] {
        let call = [0x85, 1, 1, 1, 1, 0x80];
        for (kind, items, item) in [
            (12, frame::BATCH_CALLS_MAX * factor, &call[..]),
            (5, frame::REFS_MAX * factor, &[1][..]),
            (6, frame::ACKED_RANGES_MAX * factor, &[][..]),
        ] {
            let mut body = Vec::new();
            cbor::put_array(&mut body, if kind == 12 { 2 + items } else { 4 });
            cbor::put_u64(&mut body, kind);
            // As many acknowledgements as allowed come with each.
            let ranges = if kind == 6 { items } else { frame::ACKED_RANGES_MAX };
            cbor::put_array(&mut body, 1 + 2 * ranges);
            (0..=2 * ranges as u64).for_each(|seq| cbor::put_u64(&mut body, seq));
            if kind == 12 {
                body.extend(item.repeat(items));
            } else {
                cbor::put_array(&mut body, if kind == 5 { items } else { 0 });
                body.extend(item.repeat(items));
                cbor::put_array(&mut body, if kind == 5 { 2 * items } else { 0 });
                body.extend(item.repeat(2 * items));
            }
            bodies.push(body);
        }
    }
    bodies
}

#[test]
fn validating_allocates_nothing() {
    for body in hostile_bodies() {
        assert_eq!(peak_bytes(|| check(&body, &Limits::default())), 0);
        assert_eq!(peak_bytes(|| value::tokens(&body, &mut |_| {})), 0);
        assert_eq!(peak_bytes(|| value::token_of(&body).is_some()), 0);
    }
}

#[test]
fn reading_a_frame_stays_within_the_promise() {
    let mut read = 0;
    for body in hostile_bodies() {
        let promised = 4 * body.len() + 65_536;
        let used = peak_bytes(|| read += usize::from(ClientFrame::read(&body).is_ok()));
        assert!(used <= promised, "{used} bytes for a frame of {}", body.len());
        assert_eq!(peak_bytes(|| HostFrame::read(&body).is_ok()), 0);
        assert!(peak_bytes(|| (Hello::decode(&body).is_ok(), ServerAnswer::decode(&body).is_ok())) <= promised);
    }
    assert_eq!(read, 3, "the fullest frame of each kind is read");
}

/// A tree of values is no part of the promise: whoever asks for one pays for each item. The host bounds items.
#[test]
fn a_decoded_value_costs_one_value_for_each_item() {
    for items in [1_000, 60_000] {
        let mut list = Vec::new();
        cbor::put_array(&mut list, items);
        list.resize(list.len() + items, 0);
        let used = peak_bytes(|| Value::decode(&list).expect("a list of zeros"));
        assert_eq!(used, items * size_of::<Value>());
    }
    for body in hostile_bodies() {
        assert!(peak_bytes(|| Value::decode(&body).is_ok()) <= body.len() * size_of::<Value>());
    }
    assert!(size_of::<Value>() <= 64);
}
