//! The line of a Condition: who has let go of the lock and waits to be notified.
//!
//! Nobody sees a wait come to its deadline, only that the object changed, and of many waits each may have been the one. So
//! whose it was is left open until it matters: when a reply says so, or when a notification reaches a wait that has left
//! the line by then. Until then the line has a mark where it stood when somebody left it, and any of those before the
//! mark may have been the one. That is one state where telling them apart makes as many as there are orders.

use crate::call::CallId;

use super::lock::Wait;

#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Line {
    /// In the order in which it happened. Each mark has a wait before it that may be its own, and no two have the same one.
    places: Vec<Place>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Place {
    Wait(Wait),
    /// Somebody who came before came to his deadline here.
    TimedOut,
}

/// What is known of how a wait leaves the line, if it does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum WaitEnd {
    Notified,
    TimedOut,
    Either,
}

impl Line {
    pub(crate) fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// All who are in line, or have left it at a mark.
    pub(crate) fn waits(&self) -> impl Iterator<Item = Wait> {
        self.places.iter().filter_map(|place| match place {
            Place::Wait(wait) => Some(*wait),
            Place::TimedOut => None,
        })
    }

    pub(super) fn first(&self) -> Option<Wait> {
        self.waits().next()
    }

    pub(crate) fn has(&self, call: CallId) -> bool {
        self.waits().any(|wait| wait.call == call)
    }

    /// Whether all that may become of `other` may become of this one, too: the later a mark, the more it can belong to.
    pub(super) fn has_all_of(&self, other: &Self) -> bool {
        self.places.len() == other.places.len()
            && self.waits().eq(other.waits())
            && self.marks().zip(other.marks()).all(|(mine, others)| mine >= others)
    }

    fn marks(&self) -> impl Iterator<Item = usize> {
        (0..self.places.len()).filter(|place| self.places[*place] == Place::TimedOut)
    }

    pub(super) fn begin(&mut self, wait: Wait) {
        self.places.push(Place::Wait(wait));
    }

    /// Somebody comes to his deadline.
    ///
    /// Errors: there is nobody left who can.
    pub(super) fn time_out(&mut self) -> Result<(), ()> {
        self.places.push(Place::TimedOut);
        if self.is_possible() {
            return Ok(());
        }
        self.places.pop();
        Err(())
    }

    /// A wait has left the line at a mark: the first that may be its own, since those who came later may need the others.
    ///
    /// Errors: there is none, and nothing has changed.
    pub(crate) fn settle(&mut self, call: CallId) -> Result<Wait, ()> {
        let (place, wait) = self.find(call).filter(|(_, wait)| wait.end != WaitEnd::Notified).ok_or(())?;
        let mark = self.marks().find(|mark| *mark > place).ok_or(())?;
        self.places.remove(mark);
        self.places.remove(place);
        Ok(wait)
    }

    /// A wait is gone, and not by coming to its deadline.
    ///
    /// Errors: that leaves a mark which is nobody's, and nothing has changed.
    pub(crate) fn leave(&mut self, call: CallId) -> Result<Wait, ()> {
        let (place, wait) = self.find(call).ok_or(())?;
        self.places.remove(place);
        if self.is_possible() {
            return Ok(wait);
        }
        self.places.insert(place, Place::Wait(wait));
        Err(())
    }

    fn find(&self, call: CallId) -> Option<(usize, Wait)> {
        self.places.iter().enumerate().find_map(|(place, found)| match found {
            Place::Wait(wait) if wait.call == call => Some((place, *wait)),
            _ => None,
        })
    }

    /// Whether each mark can be given a wait of its own. The waits before a mark are among those before the next, so counting
    /// is enough.
    fn is_possible(&self) -> bool {
        let mut free = 0_u64;
        self.places.iter().all(|place| match place {
            Place::Wait(wait) => {
                free += u64::from(wait.end != WaitEnd::Notified);
                true
            }
            Place::TimedOut => {
                let is_possible = free > 0;
                free = free.saturating_sub(1);
                is_possible
            }
        })
    }
}
