//! The threads that step guests which are not known to be quick, so that they never hold up a lane.

use std::collections::VecDeque;
use std::sync::Arc;
use std::thread::JoinHandle;

use parking_lot::{Condvar, Mutex};

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
    jobs: VecDeque<Job>,
    stopped: bool,
}

impl Pool {
    /// Starts `threads` threads; whoever stops the pool joins them.
    pub(crate) fn start(threads: usize) -> std::io::Result<(Self, Vec<JoinHandle<()>>)> {
        let pool = Self { queue: Arc::default() };
        let handles = (0..threads)
            .map(|number| {
                let queue = pool.queue.clone();
                std::thread::Builder::new().name(format!("steward-pool-{number}")).spawn(move || queue.work())
            })
            .collect::<Result<_, _>>()?;
        Ok((pool, handles))
    }

    pub(crate) fn run(&self, job: Job) {
        let mut state = self.queue.state.lock();
        if !state.stopped {
            state.jobs.push_back(job);
            self.queue.filled.notify_one();
        }
    }

    /// Whether there are jobs.
    #[cfg(feature = "sim")]
    pub(crate) fn has_work(&self) -> bool {
        !self.queue.state.lock().jobs.is_empty()
    }

    /// Does the oldest job, for a pool without threads; says whether there was one.
    #[cfg(feature = "sim")]
    pub(crate) fn work_once(&self) -> bool {
        let job = self.queue.state.lock().jobs.pop_front();
        job.map(|job| job()).is_some()
    }

    /// Drops what is queued and lets the threads end after their present job.
    pub(crate) fn stop(&self) {
        let mut state = self.queue.state.lock();
        state.stopped = true;
        let dropped = std::mem::take(&mut state.jobs);
        self.queue.filled.notify_all();
        drop(state);
        drop(dropped);
    }
}

impl Queue {
    fn work(&self) {
        loop {
            let mut state = self.state.lock();
            let job = loop {
                if state.stopped {
                    return;
                }
                match state.jobs.pop_front() {
                    Some(job) => break job,
                    None => self.filled.wait(&mut state),
                }
            };
            drop(state);
            job();
        }
    }
}
