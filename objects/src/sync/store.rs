//! The items of a queue in the order in which they leave it.

use std::collections::VecDeque;

use crate::Fault;
use crate::data::compare::less;

/// An item and its place in the order of puts.
#[derive(Debug)]
pub(super) struct Item {
    /// Rises with every put.
    pub(super) number: u64,
    /// How often it was handed out.
    pub(super) deliveries: u32,
    /// Encoded.
    pub(super) bytes: Box<[u8]>,
}

/// Items in one of three orders.
#[derive(Debug)]
pub(super) enum Store {
    /// The first put leaves first; by rising number.
    Fifo(VecDeque<Item>),
    /// The last put leaves first; by rising number.
    Lifo(VecDeque<Item>),
    /// The least leaves first, of equal ones the first put; a binary heap.
    Priority(Vec<Item>),
}

impl Store {
    pub(super) fn len(&self) -> usize {
        match self {
            Self::Fifo(items) | Self::Lifo(items) => items.len(),
            Self::Priority(heap) => heap.len(),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Adds items whose numbers rise above all here: all of them, or none if one cannot be compared.
    pub(super) fn push(&mut self, new: impl Iterator<Item = Item>) -> Result<(), Fault> {
        match self {
            Self::Fifo(items) | Self::Lifo(items) => items.extend(new),
            Self::Priority(heap) => {
                let mut places = Vec::new();
                for item in new {
                    match place_of(heap, &item) {
                        Ok(place) => {
                            rise(heap, item, place);
                            places.push(place);
                        }
                        Err(fault) => {
                            places.into_iter().rev().for_each(|place| sink_last(heap, place));
                            return Err(fault);
                        }
                    }
                }
            }
        }
        Ok(())
    }

    /// Takes back an item that left earlier, to its place.
    pub(super) fn give_back(&mut self, item: Item) {
        match self {
            Self::Fifo(items) | Self::Lifo(items) => {
                let place = items.partition_point(|other| other.number < item.number);
                items.insert(place, item);
            }
            Self::Priority(heap) => {
                // It is here by right: one that has become incomparable meanwhile goes to the end.
                let place = place_of(heap, &item).unwrap_or(heap.len());
                rise(heap, item, place);
            }
        }
    }

    /// As [`Self::give_back`], for items by rising number.
    pub(super) fn give_back_all(&mut self, items: Vec<Item>) {
        // What leaves last comes first, so that each of the others finds its place at the end that items leave from.
        match self {
            Self::Lifo(_) => items.into_iter().for_each(|item| self.give_back(item)),
            Self::Fifo(_) | Self::Priority(_) => items.into_iter().rev().for_each(|item| self.give_back(item)),
        }
    }

    /// Removes the item whose turn it is.
    ///
    /// Raised: `TypeError` if two items of a priority queue cannot be compared; nothing has changed then.
    pub(super) fn pop(&mut self) -> Result<Option<Item>, Fault> {
        match self {
            Self::Fifo(items) => Ok(items.pop_front()),
            Self::Lifo(items) => Ok(items.pop_back()),
            Self::Priority(heap) => pop_least(heap),
        }
    }

    /// The item whose turn it is.
    pub(super) fn peek(&self) -> Option<&Item> {
        match self {
            Self::Fifo(items) => items.front(),
            Self::Lifo(items) => items.back(),
            Self::Priority(heap) => heap.first(),
        }
    }

    /// The number of the `index`th item of a batch that started with `first`, and in which none is missing.
    pub(super) fn number_in_batch(&self, first: u64, index: u64) -> u64 {
        match self {
            Self::Fifo(_) => first.saturating_add(index),
            Self::Lifo(_) => first.saturating_sub(index),
            // Numbers only order equal items, which nobody promises after a loss.
            Self::Priority(_) => first,
        }
    }

    /// Removes everything.
    pub(super) fn drain(&mut self) -> impl Iterator<Item = Item> {
        let (ordered, heap) = match self {
            Self::Fifo(items) | Self::Lifo(items) => (std::mem::take(items), Vec::new()),
            Self::Priority(heap) => (VecDeque::new(), std::mem::take(heap)),
        };
        ordered.into_iter().chain(heap)
    }
}

/// Whether `a` leaves a priority queue before `b`.
fn precedes(a: &Item, b: &Item) -> Result<bool, Fault> {
    Ok(less(&a.bytes, &b.bytes)? || (a.number < b.number && !less(&b.bytes, &a.bytes)?))
}

// All comparisons of an operation come before its first change, so that one that fails changes nothing.

/// Where `item` stands once it has risen from the end of the heap.
fn place_of(heap: &[Item], item: &Item) -> Result<usize, Fault> {
    let mut place = heap.len();
    while place > 0 && precedes(item, &heap[(place - 1) / 2])? {
        place = (place - 1) / 2;
    }
    Ok(place)
}

fn rise(heap: &mut Vec<Item>, item: Item, place: usize) {
    let mut at = heap.len();
    heap.push(item);
    while at > place {
        let parent = (at - 1) / 2;
        heap.swap(at, parent);
        at = parent;
    }
}

/// Undoes the latest [`rise`].
fn sink_last(heap: &mut Vec<Item>, place: usize) {
    let mut path = vec![heap.len() - 1];
    while let Some(at) = path.last().copied().filter(|at| *at > place) {
        path.push((at - 1) / 2);
    }
    for pair in path.windows(2).rev() {
        heap.swap(pair[0], pair[1]);
    }
    heap.pop();
}

fn pop_least(heap: &mut Vec<Item>) -> Result<Option<Item>, Fault> {
    let Some(last) = heap.len().checked_sub(1) else { return Ok(None) };
    // The last item goes to the top and from there down this path.
    let mut path = vec![0];
    let mut at = 0;
    loop {
        let (left, right) = (2 * at + 1, 2 * at + 2);
        if left >= last {
            break;
        }
        let child = if right < last && precedes(&heap[right], &heap[left])? { right } else { left };
        if precedes(&heap[last], &heap[child])? {
            break;
        }
        path.push(child);
        at = child;
    }
    let least = heap.swap_remove(0);
    for pair in path.windows(2) {
        heap.swap(pair[0], pair[1]);
    }
    Ok(Some(least))
}
