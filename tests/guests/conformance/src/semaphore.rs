//! `threading.Semaphore`.

use std::collections::BTreeMap;

use steward_guest::prelude::*;

use crate::not_picklable;

/// Who holds which permits is known only as far as people release their own. A release by somebody who holds none may stand for any
/// permit that is out, so a lost session gives back what it held less what others may already have given back.
#[derive(Debug, Serialize, Deserialize)]
pub struct Semaphore {
    /// Free permits.
    value: i64,
    /// The calls that got the permits that are out, by session; no list is empty.
    held: BTreeMap<u64, Vec<CallId>>,
    /// How many they are, and those of sessions that have said goodbye.
    out_total: i64,
    /// Releases that may stand for any of `out_total`.
    foreign: i64,
    /// Permits whose holder was lost while holding them, and whose next holders are to know.
    abandoned: i64,
}

/// A counter of permits.
#[object(version = "1.0.0", name = "GuestSemaphore")]
impl Semaphore {
    /// A semaphore with `value` permits.
    pub fn new(#[default(1)] value: i64) -> Result<Self> {
        if value < 0 {
            return raise("ValueError", "semaphore initial value must be >= 0");
        }
        Ok(Self { value, held: BTreeMap::new(), out_total: 0, foreign: 0, abandoned: 0 })
    }

    /// Takes a permit, parking until there is one; returns True, or False at the deadline.
    #[method(fifo, timeout = Ok(false))]
    pub fn acquire(&mut self, cx: &Context) -> Result<bool> {
        if self.value == 0 {
            return pending();
        }
        self.value -= 1;
        self.out_total += 1;
        self.held.entry(cx.owner().session).or_default().push(cx.call_id());
        if self.abandoned > 0 {
            self.abandoned -= 1;
            cx.grant_abandoned();
        } else {
            cx.grant();
        }
        Ok(true)
    }

    /// Gives back `n` permits. Anybody may.
    pub fn release(&mut self, cx: &Context, #[default(1)] n: i64) -> Result<()> {
        if n < 1 {
            return raise("ValueError", "n must be one or more");
        }
        let Some(value) = self.value.checked_add(n) else {
            return raise("OverflowError", "semaphore value is limited to 63 bits");
        };
        let own = self.take_from(cx.owner().session, n);
        self.value = value;
        self.foreign = (self.foreign + (n - own)).min(self.out_total);
        if self.foreign == self.out_total {
            self.held.clear();
            (self.out_total, self.foreign) = (0, 0);
        }
        Ok(())
    }

    /// How many permits are free.
    pub fn get_value(&self) -> i64 {
        self.value
    }

    /// Whether no permit is free.
    pub fn locked(&self) -> bool {
        self.value == 0
    }

    /// A semaphore has no value to copy.
    #[method(name = "#GETVALUE")]
    pub fn value(&self) -> Result<()> {
        not_picklable()
    }

    /// `str(semaphore)`.
    pub fn __str__(&self) -> String {
        format!("<Semaphore: value={}>", self.value)
    }

    /// `repr(semaphore)`.
    pub fn __repr__(&self) -> String {
        self.__str__()
    }

    #[on(owner_lost)]
    fn owner_lost(&mut self, _: &Context, lost: OwnerLost) -> bool {
        if lost.orderly {
            // They stay out, and nobody's end frees them any more.
            return self.held.remove(&lost.session).is_some();
        }
        let held = self.take_from(lost.session, i64::MAX);
        let given_back = held.min(self.foreign);
        self.foreign -= given_back;
        self.value += held - given_back;
        self.abandoned += held - given_back;
        held > 0
    }

    #[on(undelivered)]
    fn undelivered(&mut self, cx: &Context, lost: Undelivered) -> bool {
        let holder = self.held.iter().find(|(_, calls)| calls.contains(&cx.call_id()));
        let Some((&session, _)) = holder else { return false };
        self.value += self.take_from(session, 1);
        self.abandoned += i64::from(lost.sent);
        true
    }

    /// Takes up to `n` permits out of what a session holds, and says how many.
    fn take_from(&mut self, session: u64, n: i64) -> i64 {
        let Some(calls) = self.held.get_mut(&session) else { return 0 };
        let left = calls.len().saturating_sub(usize::try_from(n).unwrap_or(usize::MAX));
        let taken = (calls.len() - left) as i64;
        calls.truncate(left);
        if left == 0 {
            self.held.remove(&session);
        }
        self.out_total -= taken;
        taken
    }
}
