//! The certificate checker: was what many clients saw, under faults, one sequential history of each object?
//!
//! Clients record what they called and what came of it ([`history`]); afterwards the records of all are checked together
//! ([`certify`]). Every reply carries its place in the life of its object, `(epoch, version, index)`, so nothing has to be
//! searched: sorted by place the calls are replayed on a model, and the places are held against real time. If both agree the
//! history is linearizable, and that is a proof, in O(n log n).
//!
//! Only what no client saw is searched for: calls whose clients died, and what the end of a session gives back. They must
//! fill exactly the versions that are missing. The search keeps the explanations that are still possible, without those
//! that have nothing ahead of them which another one has not, and says *undecided* when they become too many.
//! [`certify_plainly`] keeps every one: it is slow, and there to compare with.
#![forbid(unsafe_code)]

mod call;
mod certify;
mod guards;
pub mod history;
mod model;
mod order;
mod replay;
mod values;

pub use certify::{HistoryError, Promise, Report, Undecided, Violation, certify, certify_plainly};
pub use history::{At, Grant, Log, ObjectMade, Operation, Outcome, ReadError, Record, SessionEnd};
