//! A session's calls: what runs, what is parked, what is answered and not acknowledged yet.
//!
//! This is what makes a call happen at most once. A seq is *forgotten* once its reply is acknowledged (below the floor, or in
//! a range above it), *open* while it is here, and new otherwise. A repeat of an open call joins it or gets the first
//! reply again, byte by byte. Calls that change nothing are not written down: their repeats read again.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use steward_objects::{CallId, Facet, Why};
use steward_wire::Fault;
use steward_wire::frame::Acked;

use crate::budget::{Budget, Charge};
use crate::cell::Cell;
use crate::lane::Lane;
use crate::limits::Limits;

/// Ranges of acknowledged calls between open ones. A client that keeps to its limits cannot have as many.
const ACKED_RANGES_MAX: usize = 32_768;

/// Bytes of rows that a session may have even if its tenant keeps too much: it must be able to read and to remove.
const ROW_BYTES_GRANTED: u64 = 64 << 10;

/// The calls of one session.
#[derive(Default)]
pub(crate) struct Calls {
    /// Every reply to a smaller seq is acknowledged.
    floor: u64,
    /// Acknowledged seqs above the floor: first to last, neither overlapping nor touching.
    acked: BTreeMap<u64, u64>,
    open: BTreeMap<u64, Open>,
    running: u32,
    /// Calls that wait or may wait, until their rows are acknowledged, as far as there is room.
    waiting: u32,
    /// Rows of all others.
    rows: u32,
    row_bytes: Charge,
    /// Rises with every row.
    stamp: u64,
}

/// A call that is neither new nor forgotten.
struct Open {
    /// It counts among those that wait, which have a limit of their own.
    waits: bool,
    /// Where its reply goes, if it was asked for again by another lane.
    lane: Option<Arc<Lane>>,
    /// By which connection it was asked for last. What an earlier one still brings changes nothing: the client no longer hears
    /// it.
    connection: u64,
    state: State,
}

enum State {
    /// On its way to its object or in a step.
    Running { cancelled: bool },
    /// Waits in a cell.
    Parked { cell: Arc<Cell>, call: CallId },
    /// Answered.
    Row(Row),
}

impl Open {
    /// It is asked for by `lane`.
    fn asked_by(&mut self, lane: &Arc<Lane>) {
        if lane.connection >= self.connection {
            self.connection = lane.connection;
            self.lane = Some(lane.clone());
        }
    }
}

/// A reply that is not acknowledged.
pub(crate) struct Row {
    /// The reply's frame, length included.
    pub(crate) frame: Bytes,
    /// Who would want to know that it was never delivered.
    pub(crate) from: Option<Answered>,
    /// Rises with every row of the session.
    pub(crate) stamp: u64,
}

/// The call behind a reply, for `Undelivered`.
pub(crate) struct Answered {
    pub(crate) cell: Arc<Cell>,
    pub(crate) call: CallId,
    pub(crate) facet: Facet,
    pub(crate) method: u16,
    pub(crate) note: u64,
}

/// Whether a call waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Waits {
    /// No.
    Never,
    /// It may, and does nothing else: where that is too much it can be given up as if it had never come.
    Only,
    /// It may, which others feel: it can only be refused beforehand.
    Acting,
}

/// What becomes of a call that comes to wait.
pub(crate) enum Parks {
    Waits,
    /// It was given up before it came so far.
    GivenUp(Why),
    /// Too many wait.
    Refused(Fault),
}

/// What a seq is to the session.
pub(crate) enum Known {
    /// Nothing yet.
    New,
    /// It runs or waits; its reply will go to the lane that it was asked for by last.
    Joined,
    /// It was answered like this.
    Answered(Bytes),
}

impl Calls {
    /// None yet; the rows to come are charged to `budget`.
    pub(crate) fn new(budget: Arc<Budget>) -> Self {
        Self { row_bytes: Charge::to(budget), ..Self::default() }
    }

    /// Looks a seq up. One that is open from now on belongs to `lane`.
    ///
    /// # Errors
    /// Refused `Forgotten`.
    pub(crate) fn know(&mut self, seq: u64, lane: &Arc<Lane>) -> Result<Known, Fault> {
        if let Some(open) = self.open.get_mut(&seq) {
            if let State::Row(row) = &open.state {
                return Ok(Known::Answered(row.frame.clone()));
            }
            open.asked_by(lane);
            return Ok(Known::Joined);
        }
        if self.is_forgotten(seq) {
            return Err(Fault::refused("Forgotten", format!("the reply to call {seq} was acknowledged")));
        }
        Ok(Known::New)
    }

    fn is_forgotten(&self, seq: u64) -> bool {
        seq < self.floor || self.acked.range(..=seq).next_back().is_some_and(|(_, &last)| seq <= last)
    }

    /// Lets a new call in. One that only waits is let in where too many wait, since it may not have to.
    ///
    /// # Errors
    /// Refused, retryably: `TooManyCalls`, `TooManyParked`, `TooManyReplies`. A client that keeps to its limits sees the last only
    /// when replies that nobody could foresee are large or many.
    pub(crate) fn begin(&mut self, seq: u64, waits: Waits, lane: &Arc<Lane>, limits: &Limits) -> Result<(), Fault> {
        let has_room = self.waiting < limits.calls_parked_max;
        let waits = match waits {
            Waits::Never => false,
            Waits::Only => has_room,
            Waits::Acting if has_room => true,
            Waits::Acting => return Err(too_many_parked(limits)),
        };
        if waits {
            self.waiting += 1;
        } else {
            if self.running >= limits.calls_running_max {
                let limit = limits.calls_running_max;
                let message = format!("{limit} calls of this session run, limit is {limit}");
                return Err(Fault::refused("TooManyCalls", message).retry());
            }
            self.check_room_for_rows(limits)?;
            self.running += 1;
        }
        let (connection, state) = (lane.connection, State::Running { cancelled: false });
        self.open.insert(seq, Open { waits, lane: None, connection, state });
        Ok(())
    }

    fn check_room_for_rows(&self, limits: &Limits) -> Result<(), Fault> {
        let (rows, mut bytes) = (limits.reply_rows_max, limits.reply_row_bytes_max);
        if self.row_bytes.is_exhausted() {
            bytes = bytes.min(ROW_BYTES_GRANTED);
        }
        if self.rows + self.running < rows && self.row_bytes.bytes() < bytes {
            return Ok(());
        }
        let message = format!(
            "{} replies of {} bytes are not acknowledged, limit is {rows} replies or {bytes} bytes",
            self.rows,
            self.row_bytes.bytes()
        );
        Err(Fault::refused("TooManyReplies", message).retry())
    }

    /// A call waits in a cell, from now on among those that wait if it was let in as one that runs. `expired`: it is answered
    /// at once, and counts as before.
    pub(crate) fn park(&mut self, seq: u64, cell: &Arc<Cell>, call: CallId, expired: bool, limits: &Limits) -> Parks {
        let Some(open) = self.open.get_mut(&seq) else { return Parks::Waits };
        let cancelled = matches!(open.state, State::Running { cancelled: true });
        open.state = State::Parked { cell: cell.clone(), call };
        if cancelled {
            return Parks::GivenUp(Why::Client);
        }
        if !open.waits && !expired {
            if self.waiting >= limits.calls_parked_max {
                return Parks::Refused(too_many_parked(limits));
            }
            open.waits = true;
            self.running -= 1;
            self.waiting += 1;
        }
        Parks::Waits
    }

    /// Where a call waits that its client gives up. One that still runs is given up should it park. A client that resumes
    /// says no more than this of such a call, and still wants to know its end.
    pub(crate) fn cancel(&mut self, seq: u64, lane: &Arc<Lane>) -> Cancelled {
        let forgotten = self.is_forgotten(seq);
        let Some(open) = self.open.get_mut(&seq) else {
            return if forgotten { Cancelled::Later } else { Cancelled::Unknown };
        };
        let is_resumed = lane.connection > open.connection;
        if is_resumed {
            open.asked_by(lane);
        }
        match &mut open.state {
            State::Parked { cell, call } => Cancelled::Parked(cell.clone(), *call),
            State::Running { cancelled } => {
                *cancelled = true;
                Cancelled::Later
            }
            State::Row(row) if is_resumed => Cancelled::Answered(row.frame.clone()),
            State::Row(_) => Cancelled::Later,
        }
    }

    /// Keeps the reply to a call until it is acknowledged, and gives the lane that it was last asked for by, if that is
    /// not the first.
    pub(crate) fn answer(&mut self, seq: u64, frame: &Bytes, lane: &Arc<Lane>, from: Option<Answered>) -> Kept {
        let forgotten = self.is_forgotten(seq);
        self.stamp += 1;
        let row = Row { frame: frame.clone(), from, stamp: self.stamp };
        let bytes = row.frame.len() as u64;
        match self.open.get_mut(&seq) {
            Some(Open { state: State::Row(row), .. }) => Kept::Already(row.frame.clone()),
            Some(open) => {
                if !open.waits {
                    self.running -= 1;
                    self.rows += 1;
                }
                self.row_bytes.add(bytes);
                let lane = open.lane.take();
                open.state = State::Row(row);
                // Acknowledged before it was answered: nobody will ask for it.
                if forgotten {
                    self.drop_row(seq);
                }
                Kept::Now(lane)
            }
            None if forgotten => Kept::Now(None),
            None => {
                self.rows += 1;
                self.row_bytes.add(bytes);
                let connection = lane.connection;
                self.open.insert(seq, Open { waits: false, lane: None, connection, state: State::Row(row) });
                Kept::Now(None)
            }
        }
    }

    /// Room for the row of a call that is not open.
    pub(crate) fn has_room(&self, limits: &Limits) -> bool {
        self.check_room_for_rows(limits).is_ok()
    }

    fn drop_row(&mut self, seq: u64) {
        if let Some(Open { waits, state: State::Row(row), .. }) = self.open.remove(&seq) {
            self.forget(waits, &row);
        }
    }

    fn forget(&mut self, waits: bool, row: &Row) {
        match waits {
            true => self.waiting -= 1,
            false => self.rows -= 1,
        }
        self.row_bytes.sub(row.frame.len() as u64);
    }

    /// Drops what the client has.
    ///
    /// # Errors
    /// What no client has a reason to send, for the peer.
    pub(crate) fn acknowledge(&mut self, acked: &Acked) -> Result<(), String> {
        if acked.floor > self.floor {
            // Below the old floor nothing is left but calls that were acknowledged before they were answered.
            let before = std::mem::replace(&mut self.floor, acked.floor);
            self.drop_rows(before, acked.floor - 1);
            // What the floor has passed need not be written down; a range that it stands in is shortened.
            while let Some(range) = self.acked.first_entry() {
                let (first, last) = (*range.key(), *range.get());
                if first >= self.floor {
                    break;
                }
                range.remove();
                if last >= self.floor {
                    self.acked.insert(self.floor, last);
                }
            }
        }
        for &(first, last) in &acked.ranges {
            let first = first.max(self.floor);
            if first <= last {
                self.drop_rows(first, last);
                self.note_acked(first, last);
            }
        }
        if self.acked.len() > ACKED_RANGES_MAX {
            return Err(format!("acknowledgements leave more than {ACKED_RANGES_MAX} gaps"));
        }
        Ok(())
    }

    fn note_acked(&mut self, mut first: u64, mut last: u64) {
        if let Some((&before, &until)) = self.acked.range(..=first).next_back()
            && until.saturating_add(1) >= first
        {
            (first, last) = (before, last.max(until));
        }
        while let Some((&after, &until)) = self.acked.range(first..=last.saturating_add(1)).next() {
            last = last.max(until);
            self.acked.remove(&after);
        }
        self.acked.insert(first, last);
    }

    fn drop_rows(&mut self, first: u64, last: u64) {
        // The usual one: a few rows at the very start.
        let rows = self.open.range(first..=last).filter(|(_, open)| matches!(open.state, State::Row(_)));
        let mut next = rows.map(|(&seq, _)| seq).next();
        while let Some(seq) = next {
            self.drop_row(seq);
            let mut rest = self.open.range(seq..=last);
            next = rest.find(|(_, open)| matches!(open.state, State::Row(_))).map(|(&seq, _)| seq);
        }
    }

    /// Calls that wait in cells.
    pub(crate) fn parked(&self) -> impl Iterator<Item = (Arc<Cell>, CallId)> {
        self.open.values().filter_map(|open| match &open.state {
            State::Parked { cell, call } => Some((cell.clone(), *call)),
            _ => None,
        })
    }

    /// Replies that are not acknowledged, the latest first.
    pub(crate) fn into_rows(self) -> Vec<Row> {
        let rows = self.open.into_values().filter_map(|open| match open.state {
            State::Row(row) => Some(row),
            _ => None,
        });
        let mut rows: Vec<_> = rows.collect();
        rows.sort_by_key(|row| std::cmp::Reverse(row.stamp));
        rows
    }

    pub(crate) fn row_count(&self) -> usize {
        self.open.values().filter(|open| matches!(open.state, State::Row(_))).count()
    }
}

fn too_many_parked(limits: &Limits) -> Fault {
    let limit = limits.calls_parked_max;
    let message = format!("{limit} calls of this session wait or are not acknowledged, limit is {limit}");
    Fault::refused("TooManyParked", message).retry()
}

/// What became of giving a call up.
pub(crate) enum Cancelled {
    /// It is to be cancelled there.
    Parked(Arc<Cell>, CallId),
    /// It runs, or is answered, and the client will hear of it.
    Later,
    /// It was answered like this.
    Answered(Bytes),
    /// It never came. Should it come yet, it must not run.
    Unknown,
}

/// What became of a reply.
pub(crate) enum Kept {
    /// It is to be sent, by another lane than the first if one is named.
    Now(Option<Arc<Lane>>),
    /// The call had a reply before, which counts.
    Already(Bytes),
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lane::LaneKind;

    fn lane_of(connection: u64) -> Arc<Lane> {
        Lane::new(&Limits::shared(), LaneKind::Whole, connection)
    }

    fn lane() -> Arc<Lane> {
        lane_of(1)
    }

    fn begun(seqs: impl IntoIterator<Item = u64>) -> Calls {
        let mut calls = Calls::default();
        for seq in seqs {
            calls.begin(seq, Waits::Never, &lane(), &Limits::shared()).unwrap();
        }
        calls
    }

    fn answer(calls: &mut Calls, seq: u64) {
        assert!(matches!(calls.answer(seq, &Bytes::from_static(b"reply"), &lane(), None), Kept::Now(_)));
    }

    fn known(calls: &mut Calls, seq: u64) -> String {
        match calls.know(seq, &lane()) {
            Ok(Known::New) => "new".into(),
            Ok(Known::Joined) => "joined".into(),
            Ok(Known::Answered(frame)) => String::from_utf8(frame.to_vec()).unwrap(),
            Err(fault) => fault.kind,
        }
    }

    #[test]
    fn repeat_joins_then_gets_the_reply_then_is_forgotten() {
        let mut calls = begun([1]);
        assert_eq!(known(&mut calls, 1), "joined");
        answer(&mut calls, 1);
        assert_eq!(known(&mut calls, 1), "reply");
        calls.acknowledge(&Acked { floor: 2, ranges: vec![] }).unwrap();
        assert_eq!(known(&mut calls, 1), "Forgotten");
        assert_eq!(known(&mut calls, 2), "new");
    }

    #[test]
    fn ranges_above_the_floor_are_forgotten_and_merge() {
        let mut calls = begun(1..=9);
        (2..=9).for_each(|seq| answer(&mut calls, seq));
        calls.acknowledge(&Acked { floor: 1, ranges: vec![(3, 4), (6, 6)] }).unwrap();
        calls.acknowledge(&Acked { floor: 1, ranges: vec![(5, 5), (8, 8)] }).unwrap();
        assert_eq!(calls.acked, BTreeMap::from([(3, 6), (8, 8)]));
        let found: Vec<_> = (1..=10).map(|seq| known(&mut calls, seq)).collect();
        assert_eq!(
            found,
            [
                "joined",
                "reply",
                "Forgotten",
                "Forgotten",
                "Forgotten",
                "Forgotten",
                "reply",
                "Forgotten",
                "reply",
                "new"
            ]
        );
        calls.acknowledge(&Acked { floor: 5, ranges: vec![] }).unwrap();
        assert_eq!(calls.acked, BTreeMap::from([(5, 6), (8, 8)]));
        assert_eq!((calls.rows, calls.row_bytes.bytes()), (2, 10));
    }

    #[test]
    fn rows_and_running_calls_are_counted() {
        let limits = Limits { calls_running_max: 2, reply_rows_max: 3, ..Limits::shared() };
        let mut calls = Calls::default();
        let begin =
            |calls: &mut Calls, seq| calls.begin(seq, Waits::Never, &lane(), &limits).map_err(|fault| fault.kind);
        assert_eq!((begin(&mut calls, 1), begin(&mut calls, 2)), (Ok(()), Ok(())));
        assert_eq!(begin(&mut calls, 3), Err("TooManyCalls".into()));
        answer(&mut calls, 1);
        answer(&mut calls, 2);
        assert_eq!(begin(&mut calls, 3), Ok(()));
        answer(&mut calls, 3);
        assert_eq!(begin(&mut calls, 4), Err("TooManyReplies".into()));
        calls.acknowledge(&Acked { floor: 4, ranges: vec![] }).unwrap();
        assert_eq!(begin(&mut calls, 4), Ok(()));
        assert_eq!((calls.running, calls.rows, calls.row_bytes.bytes()), (1, 0, 0));
    }

    #[test]
    fn call_counts_as_waiting_while_there_is_room_and_else_once_it_does() {
        let limits = Limits { calls_running_max: 1, calls_parked_max: 1, ..Limits::shared() };
        let mut calls = Calls::default();
        let begin =
            |calls: &mut Calls, seq, waits| calls.begin(seq, waits, &lane(), &limits).map_err(|fault| fault.kind);
        let counts = |calls: &Calls| (calls.running, calls.waiting, calls.rows);
        begin(&mut calls, 1, Waits::Only).unwrap();
        assert_eq!(begin(&mut calls, 2, Waits::Acting), Err("TooManyParked".into()));
        begin(&mut calls, 2, Waits::Only).unwrap();
        assert_eq!(counts(&calls), (1, 1, 0));
        assert_eq!(begin(&mut calls, 3, Waits::Only), Err("TooManyCalls".into()));
        // Whatever becomes of it, it counts as it was let in.
        answer(&mut calls, 2);
        assert_eq!(counts(&calls), (0, 1, 1));
        answer(&mut calls, 1);
        assert_eq!(counts(&calls), (0, 1, 1));
        calls.acknowledge(&Acked { floor: 3, ranges: vec![] }).unwrap();
        assert_eq!(counts(&calls), (0, 0, 0));
    }

    /// A reply goes where the client listens: what an earlier connection still brings, however late, takes no reply with it.
    #[test]
    fn latest_connection_gets_the_reply() {
        let mut calls = begun([1]);
        for (connection, expected) in [(3, 3), (2, 3), (4, 4)] {
            calls.know(1, &lane_of(connection)).unwrap();
            assert_eq!(calls.open[&1].lane.as_ref().unwrap().connection, expected);
        }
        assert!(matches!(calls.cancel(1, &lane_of(5)), Cancelled::Later));
        match calls.answer(1, &Bytes::from_static(b"reply"), &lane(), None) {
            Kept::Now(Some(lane)) => assert_eq!(lane.connection, 5),
            _ => panic!("the reply belongs to the lane of the cancel"),
        }
        assert!(matches!(calls.cancel(1, &lane_of(5)), Cancelled::Later), "it had the reply already");
        assert!(matches!(calls.cancel(1, &lane_of(6)), Cancelled::Answered(_)), "the reply may be lost");
    }

    #[test]
    fn early_acknowledgement_leaves_no_row() {
        let mut calls = begun([1]);
        calls.acknowledge(&Acked { floor: 2, ranges: vec![] }).unwrap();
        answer(&mut calls, 1);
        assert_eq!((calls.row_count(), calls.row_bytes.bytes(), calls.rows), (0, 0, 0));
    }
}
