//! The threads that step guests which are not known to be quick, so that they never hold up a lane.
//!
//! Tenants take turns, a job at a time, and none has all threads at once: whoever's guests are slow, or many, delays his own.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::thread::JoinHandle;

use parking_lot::{Condvar, Mutex};

use crate::tenant::Tenant;

/// One piece of work: the turns of one cell, or the making of one object.
pub(crate) type Job = Box<dyn FnOnce() + Send>;

/// A fixed set of threads. Its queue is bounded by what feeds it: a cell is queued at most once, a creation
/// belongs to a running call, and both are bounded per tenant and session.
#[derive(Clone)]
pub(crate) struct Pool {
    queue: Arc<Queue>,
}

#[derive(Default)]
struct Queue {
    state: Mutex<State>,
    filled: Condvar,
}

#[derive(Default)]
struct State {
    /// Tenants with jobs that wait, in the order of their turns.
    turns: VecDeque<Who>,
    /// Of tenants with jobs, those under way included.
    shares: HashMap<Who, Share>,
    stopped: bool,
}

/// A tenant, by where it lies: tenants stay as long as their host.
type Who = usize;

#[derive(Default)]
struct Share {
    waiting: VecDeque<Job>,
    /// Jobs under way.
    running: usize,
}

impl State {
    fn push(&mut self, who: Who, job: Job) {
        let share = self.shares.entry(who).or_default();
        if share.waiting.is_empty() {
            self.turns.push_back(who);
        }
        share.waiting.push_back(job);
    }

    /// The next job, of a tenant that has fewer than `running_max` under way.
    fn next(&mut self, running_max: usize) -> Option<(Who, Job)> {
        let at = self.turns.iter().position(|who| self.shares[who].running < running_max)?;
        let who = self.turns.remove(at)?;
        let share = self.shares.get_mut(&who)?;
        let job = share.waiting.pop_front()?;
        share.running += 1;
        if !share.waiting.is_empty() {
            self.turns.push_back(who);
        }
        Some((who, job))
    }

    fn done(&mut self, who: Who) {
        if let Some(share) = self.shares.get_mut(&who) {
            share.running -= 1;
            if share.running == 0 && share.waiting.is_empty() {
                self.shares.remove(&who);
            }
        }
    }
}

impl Pool {
    /// Starts `threads` threads; whoever stops the pool joins them.
    pub(crate) fn start(threads: usize) -> std::io::Result<(Self, Vec<JoinHandle<()>>)> {
        let pool = Self { queue: Arc::default() };
        let running_max = threads.saturating_sub(1).max(1);
        let handles = (0..threads)
            .map(|number| {
                let queue = pool.queue.clone();
                std::thread::Builder::new()
                    .name(format!("steward-pool-{number}"))
                    .spawn(move || queue.work(running_max))
            })
            .collect::<Result<_, _>>()?;
        Ok((pool, handles))
    }

    /// Has a job of a tenant's done, in its turn.
    pub(crate) fn run(&self, tenant: &Tenant, job: Job) {
        self.queue_for(std::ptr::from_ref(tenant).addr(), job);
    }

    fn queue_for(&self, who: Who, job: Job) {
        let mut state = self.queue.state.lock();
        if !state.stopped {
            state.push(who, job);
            self.queue.filled.notify_one();
        }
    }

    /// Whether there are jobs.
    #[cfg(feature = "sim")]
    pub(crate) fn has_work(&self) -> bool {
        !self.queue.state.lock().turns.is_empty()
    }

    /// Does the next job, for a pool without threads; says whether there was one.
    #[cfg(any(test, feature = "sim"))]
    pub(crate) fn work_once(&self) -> bool {
        let next = self.queue.state.lock().next(usize::MAX);
        let Some((who, job)) = next else { return false };
        job();
        self.queue.state.lock().done(who);
        true
    }

    /// Drops what is queued and lets the threads end after their present job.
    pub(crate) fn stop(&self) {
        let mut state = self.queue.state.lock();
        state.stopped = true;
        state.turns.clear();
        let dropped: Vec<_> = state.shares.values_mut().map(|share| std::mem::take(&mut share.waiting)).collect();
        self.queue.filled.notify_all();
        drop(state);
        drop(dropped);
    }
}

impl Queue {
    fn work(&self, running_max: usize) {
        loop {
            let mut state = self.state.lock();
            let (who, job) = loop {
                if state.stopped {
                    return;
                }
                match state.next(running_max) {
                    Some(next) => break next,
                    None => self.filled.wait(&mut state),
                }
            };
            drop(state);
            job();
            let mut state = self.state.lock();
            state.done(who);
            // A further job of this tenant's may be let in now, for which other threads did not wake.
            if !state.turns.is_empty() {
                self.filled.notify_one();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, Sender, channel};

    use super::*;

    /// A job that says that it has begun, and ends when it is let.
    fn waits(began: &Sender<&'static str>, name: &'static str, may_end: Receiver<()>) -> Job {
        let began = began.clone();
        Box::new(move || {
            began.send(name).expect("the test listens");
            let _ = may_end.recv();
        })
    }

    #[test]
    fn tenants_take_turns_however_many_jobs_one_has() {
        let (pool, _) = Pool::start(0).expect("no thread");
        let (done, order) = channel();
        for (who, name) in [(1, "a1"), (1, "a2"), (1, "a3"), (2, "b1")] {
            let done = done.clone();
            pool.queue_for(who, Box::new(move || done.send(name).expect("the test listens")));
        }
        while pool.work_once() {}
        assert_eq!(order.try_iter().collect::<Vec<_>>(), ["a1", "b1", "a2", "a3"]);
        assert!(pool.queue.state.lock().shares.is_empty());
    }

    /// Jobs of one tenant never end; another tenant's is done all the same, and the first one's third once it may.
    #[test]
    fn no_tenant_has_all_threads() {
        let (pool, threads) = Pool::start(3).expect("threads");
        let (began, order) = channel();
        let (ends, may_end): (Vec<Sender<()>>, Vec<_>) = (0..3).map(|_| channel()).unzip();
        for (may_end, name) in may_end.into_iter().zip(["a1", "a2", "a3"]) {
            pool.queue_for(1, waits(&began, name, may_end));
        }
        let mut first = [order.recv().expect("it begins"), order.recv().expect("it begins")];
        first.sort_unstable();
        assert_eq!(first, ["a1", "a2"]);
        let (end, may_end) = channel();
        pool.queue_for(2, waits(&began, "b1", may_end));
        assert_eq!(order.recv(), Ok("b1"), "the third thread is kept for others");
        drop(ends);
        assert_eq!(order.recv(), Ok("a3"));
        drop(end);
        pool.stop();
        threads.into_iter().for_each(|thread| thread.join().expect("it ends"));
    }
}
