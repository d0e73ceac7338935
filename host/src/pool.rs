//! The threads that step guests which are not known to be quick, so that they never hold up a lane, and those that load plugins.
//!
//! Tenants take turns, a job at a time, and none has all threads at once: whoever's guests are slow, or many, delays his own.
//! Threads come when there is work for them and go when there is none. Those that step guests leave the processor to all others.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Once};
use std::thread::{Builder, JoinHandle, Thread};
use std::time::{Duration, Instant};

use parking_lot::{Mutex, MutexGuard};
use rustix::process::{getpriority_process, setpriority_process};

use crate::limits::Limits;
use crate::tenant::Tenant;

/// How long a thread stays without work.
const IDLE: Duration = Duration::from_secs(10);

/// By how much threads that step guests are nicer than others. They then weigh a tenth of one that serves a lane: at the most,
/// busy lanes would leave them next to nothing, and they hold locks that lanes want, each for a moment.
const NICER: i32 = 10;

const NICENESS_MAX: i32 = 19;

/// One piece of work: the turns of one cell, the making of one object, the loading of one plugin.
pub(crate) type Job = Box<dyn FnOnce() + Send>;

/// All pooled threads of a host. Cloning shares them.
#[derive(Clone)]
pub(crate) struct Pool {
    guests: Arc<Queue>,
    /// Apart, since what a thread starts is as nice as itself: a compiler has a deadline, and the guests' clock ends their steps.
    plugins: Arc<Queue>,
}

impl Pool {
    /// Starts the first thread for guests, and for plugins.
    pub(crate) fn start(limits: &Limits) -> io::Result<Self> {
        let niceness = getpriority_process(None)?.saturating_add(NICER).min(NICENESS_MAX);
        let (threads_max, tenant_max) = (limits.guest_steps_max.max(1), limits.guest_steps_per_tenant_max);
        let pool = Self {
            guests: Queue::new("steward-pool", threads_max, tenant_max, IDLE, Some(niceness)),
            // One plugin is compiled at a time. The second thread is there to tell another tenant so.
            plugins: Queue::new("steward-plugins", 2, 1, IDLE, None),
        };
        for queue in [&pool.guests, &pool.plugins] {
            queue.start().inspect_err(|_| pool.stop())?;
        }
        Ok(pool)
    }

    /// Has no threads: somebody calls [`Pool::work_once`].
    #[cfg(any(test, feature = "sim"))]
    pub(crate) fn without_threads() -> Self {
        let queue = Queue::new("none", 0, usize::MAX, IDLE, None);
        Self { guests: queue.clone(), plugins: queue }
    }

    /// Has a job of a tenant's done that steps guests, in its turn.
    pub(crate) fn run(&self, tenant: &Tenant, job: Job) {
        self.guests.push(std::ptr::from_ref(tenant).addr(), job);
    }

    /// The same of one that loads a plugin.
    pub(crate) fn run_plugin(&self, tenant: &Tenant, job: Job) {
        self.plugins.push(std::ptr::from_ref(tenant).addr(), job);
    }

    /// Whether there are jobs.
    #[cfg(feature = "sim")]
    pub(crate) fn has_work(&self) -> bool {
        !self.guests.state.lock().turns.is_empty()
    }

    /// Does the next job, for a pool without threads; says whether there was one.
    #[cfg(any(test, feature = "sim"))]
    pub(crate) fn work_once(&self) -> bool {
        let next = self.guests.state.lock().next();
        let Some((who, job)) = next else { return false };
        job();
        self.guests.state.lock().done(who);
        true
    }

    /// Drops what is queued, and waits for the threads to end after their present job.
    pub(crate) fn stop(&self) {
        self.guests.stop();
        self.plugins.stop();
    }
}

/// What waits for threads of one kind, and these. It is bounded by what feeds it: a cell is queued at most once, a creation or
/// an upload belongs to a running call, and all are bounded per tenant and session.
struct Queue {
    /// Of its threads.
    name: &'static str,
    threads_max: usize,
    idle: Duration,
    /// Of its threads; `None`: that of whoever starts them.
    niceness: Option<i32>,
    state: Mutex<State>,
    /// To be joined. Locked before the state, and while a thread is started, so that `stop` misses none.
    handles: Mutex<Vec<JoinHandle<()>>>,
}

struct State {
    /// Tenants with jobs that wait, in the order of their turns.
    turns: VecDeque<Who>,
    /// Of tenants with jobs, those under way included.
    shares: HashMap<Who, Share>,
    /// Jobs that a tenant may have under way.
    tenant_max: usize,
    /// Jobs that wait for nothing but a thread.
    ready: usize,
    /// Jobs under way.
    running: usize,
    /// Threads, those included that are being started.
    threads: usize,
    /// Those without work. The last one is called first, so that those beyond need have none for long.
    idle: Vec<Thread>,
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
        if share.waiting.len() <= self.tenant_max - share.running {
            self.ready += 1;
        }
    }

    /// The next job, of a tenant that may have one more under way.
    fn next(&mut self) -> Option<(Who, Job)> {
        let at = self.turns.iter().position(|who| self.shares[who].running < self.tenant_max)?;
        let who = self.turns.remove(at)?;
        let share = self.shares.get_mut(&who)?;
        let job = share.waiting.pop_front()?;
        share.running += 1;
        if !share.waiting.is_empty() {
            self.turns.push_back(who);
        }
        self.ready -= 1;
        self.running += 1;
        Some((who, job))
    }

    fn done(&mut self, who: Who) {
        let share = self.shares.get_mut(&who).expect("a tenant has a share while a job of his is under way");
        if share.waiting.len() > self.tenant_max - share.running {
            self.ready += 1;
        }
        share.running -= 1;
        self.running -= 1;
        if share.running == 0 && share.waiting.is_empty() {
            self.shares.remove(&who);
        }
    }

    /// Whether there are more jobs than threads on their way to one.
    fn lacks_thread(&self) -> bool {
        self.ready + self.running + self.idle.len() > self.threads
    }
}

impl Queue {
    /// No tenant has all threads, if there are several.
    fn new(
        name: &'static str,
        threads_max: usize,
        tenant_max: usize,
        idle: Duration,
        niceness: Option<i32>,
    ) -> Arc<Self> {
        let state = State {
            turns: VecDeque::new(),
            shares: HashMap::new(),
            tenant_max: if threads_max > 1 { tenant_max.min(threads_max - 1) } else { tenant_max }.max(1),
            ready: 0,
            running: 0,
            threads: 0,
            idle: Vec::new(),
            stopped: false,
        };
        Arc::new(Self { name, threads_max, idle, niceness, state: Mutex::new(state), handles: Mutex::default() })
    }

    /// Starts the first thread, which stays, so that there is always one.
    fn start(self: &Arc<Self>) -> io::Result<()> {
        self.state.lock().threads += 1;
        self.start_thread(Builder::new(), true)
    }

    fn push(self: &Arc<Self>, who: Who, job: Job) {
        let mut state = self.state.lock();
        if state.stopped {
            return;
        }
        state.push(who, job);
        if !state.lacks_thread() {
            return;
        }
        if let Some(idle) = state.idle.pop() {
            drop(state);
            idle.unpark();
        } else if state.threads < self.threads_max {
            state.threads += 1;
            drop(state);
            self.grow(Builder::new());
        }
    }

    /// Starts one more thread, if the system gives it: if not, those there are do the work, and it is asked again with the next job.
    fn grow(self: &Arc<Self>, builder: Builder) {
        if let Err(error) = self.start_thread(builder, false) {
            self.state.lock().threads -= 1;
            tracing::warn!(thread = self.name, %error, "the system gives no further thread");
        }
    }

    /// Starts a thread that is counted already.
    fn start_thread(self: &Arc<Self>, builder: Builder, stays: bool) -> io::Result<()> {
        let mut handles = self.handles.lock();
        if self.state.lock().stopped {
            return Ok(());
        }
        handles.retain(|handle| !handle.is_finished());
        let queue = self.clone();
        handles.push(builder.name(self.name.into()).spawn(move || queue.work(stays))?);
        Ok(())
    }

    fn work(&self, stays: bool) {
        // Linux has a niceness for each thread, and a thread begins with that of the one which starts it.
        if let Some(niceness) = self.niceness
            && let Err(error) = setpriority_process(None, niceness)
        {
            static TOLD: Once = Once::new();
            TOLD.call_once(|| tracing::debug!(%error, "guests are stepped with the priority of lanes"));
        }
        let mut state = self.state.lock();
        while !state.stopped {
            let Some((who, job)) = state.next() else {
                if self.is_called(&mut state, stays) {
                    continue;
                }
                return;
            };
            // A step that panics has poisoned its cell. This is for what else a job does.
            let done = MutexGuard::unlocked(&mut state, || catch_unwind(AssertUnwindSafe(job)));
            if done.is_err() {
                tracing::error!(thread = self.name, "a job panicked");
            }
            state.done(who);
        }
    }

    /// Waits for work. False: there was none for long, and the thread is counted no more.
    fn is_called(&self, state: &mut MutexGuard<'_, State>, stays: bool) -> bool {
        let this = std::thread::current();
        let start = Instant::now();
        state.idle.push(this.clone());
        loop {
            MutexGuard::unlocked(state, || match stays {
                true => std::thread::park(),
                false => std::thread::park_timeout(self.idle.saturating_sub(start.elapsed())),
            });
            // Whoever calls a thread takes it from there.
            let Some(at) = state.idle.iter().position(|idle| idle.id() == this.id()) else { return true };
            if !stays && start.elapsed() >= self.idle {
                state.idle.remove(at);
                state.threads -= 1;
                return false;
            }
        }
    }

    fn stop(&self) {
        let mut state = self.state.lock();
        state.stopped = true;
        state.turns.clear();
        state.ready = 0;
        let dropped: Vec<_> = state.shares.values_mut().map(|share| std::mem::take(&mut share.waiting)).collect();
        let idle = std::mem::take(&mut state.idle);
        drop(state);
        drop(dropped);
        idle.iter().for_each(Thread::unpark);
        let handles = std::mem::take(&mut *self.handles.lock());
        for handle in handles {
            if handle.join().is_err() {
                tracing::error!(thread = self.name, "a thread of the host panicked");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, Sender, channel};

    use super::*;

    /// How long something that must happen may take.
    const PATIENCE: Duration = Duration::from_secs(20);

    /// Threads whose stay is too long for a test.
    fn started(threads_max: usize, tenant_max: usize) -> Arc<Queue> {
        let queue = Queue::new("test", threads_max, tenant_max, Duration::MAX, None);
        queue.start().expect("a thread");
        queue
    }

    /// Jobs that say that they have begun, and end when they are let.
    struct Jobs {
        began: Sender<&'static str>,
        order: Receiver<&'static str>,
    }

    impl Jobs {
        fn new() -> Self {
            let (began, order) = channel();
            Self { began, order }
        }

        /// Queues a job, which ends when the result is dropped.
        fn push(&self, queue: &Arc<Queue>, who: Who, name: &'static str) -> Sender<()> {
            let (end, may_end) = channel();
            let began = self.began.clone();
            let job = move || {
                began.send(name).expect("the test listens");
                let _ = may_end.recv();
            };
            queue.push(who, Box::new(job));
            end
        }

        /// The next ones that begin, sorted.
        fn begun<const N: usize>(&self) -> [&'static str; N] {
            let mut begun = [(); N].map(|()| self.order.recv_timeout(PATIENCE).expect("it begins"));
            begun.sort_unstable();
            begun
        }
    }

    /// So many jobs are under way, and so many threads are there or on their way.
    fn counts(queue: &Queue) -> (usize, usize) {
        let state = queue.state.lock();
        (state.running, state.threads)
    }

    #[track_caller]
    fn wait_until(is_so: impl Fn() -> bool) {
        let start = Instant::now();
        while !is_so() {
            assert!(start.elapsed() < PATIENCE);
            std::thread::yield_now();
        }
    }

    #[test]
    fn tenants_take_turns_however_many_jobs_one_has() {
        let pool = Pool::without_threads();
        let (done, order) = channel();
        for (who, name) in [(1, "a1"), (1, "a2"), (1, "a3"), (2, "b1")] {
            let done = done.clone();
            pool.guests.push(who, Box::new(move || done.send(name).expect("the test listens")));
        }
        while pool.work_once() {}
        assert_eq!(order.try_iter().collect::<Vec<_>>(), ["a1", "b1", "a2", "a3"]);
        assert!(pool.guests.state.lock().shares.is_empty());
    }

    /// Those that find no thread wait, and are done as others end.
    #[test]
    fn there_are_as_many_threads_as_jobs_up_to_the_limit_and_no_more() {
        let (queue, jobs) = (started(3, 3), Jobs::new());
        assert_eq!(counts(&queue), (0, 1));
        let a1 = jobs.push(&queue, 1, "a1");
        assert_eq!((jobs.begun(), counts(&queue)), (["a1"], (1, 1)));
        let b1 = jobs.push(&queue, 2, "b1");
        assert_eq!((jobs.begun(), counts(&queue)), (["b1"], (2, 2)));
        let c1 = jobs.push(&queue, 3, "c1");
        assert_eq!((jobs.begun(), counts(&queue)), (["c1"], (3, 3)));
        let d1 = jobs.push(&queue, 4, "d1");
        let e1 = jobs.push(&queue, 5, "e1");
        assert_eq!(counts(&queue), (3, 3));
        drop(a1);
        assert_eq!((jobs.begun(), counts(&queue)), (["d1"], (3, 3)));
        drop(d1);
        assert_eq!((jobs.begun(), counts(&queue)), (["e1"], (3, 3)));
        drop([b1, c1, e1]);
        queue.stop();
    }

    /// Jobs of one tenant never end; another tenant's is done all the same, and the first one's third once it may.
    #[test]
    fn tenant_has_so_many_jobs_under_way_and_no_more() {
        let (queue, jobs) = (started(8, 2), Jobs::new());
        let a1 = jobs.push(&queue, 1, "a1");
        let a2 = jobs.push(&queue, 1, "a2");
        let a3 = jobs.push(&queue, 1, "a3");
        let a4 = jobs.push(&queue, 1, "a4");
        assert_eq!(jobs.begun(), ["a1", "a2"]);
        assert_eq!(counts(&queue), (2, 2), "no thread comes for what may not begin");
        let b1 = jobs.push(&queue, 2, "b1");
        assert_eq!((jobs.begun(), counts(&queue)), (["b1"], (3, 3)));
        drop(a1);
        assert_eq!((jobs.begun(), counts(&queue)), (["a3"], (3, 3)));
        drop([a2, a3, a4, b1]);
        queue.stop();
    }

    #[test]
    fn no_tenant_has_all_threads() {
        for (threads_max, tenant_max, expected) in [(1, 8, 8), (2, 8, 1), (64, 64, 63), (64, 8, 8), (64, 0, 1)] {
            let queue = Queue::new("test", threads_max, tenant_max, IDLE, None);
            assert_eq!(queue.state.lock().tenant_max, expected, "{tenant_max} of {threads_max}");
        }
    }

    /// But for the first, threads go as soon as there is nothing to do; whatever is queued meanwhile is done.
    #[test]
    fn threads_without_work_go_and_come_again() {
        let queue = Queue::new("test", 3, 3, Duration::ZERO, None);
        queue.start().expect("a thread");
        let jobs = Jobs::new();
        for _ in 0..100 {
            let ends = [jobs.push(&queue, 1, "a1"), jobs.push(&queue, 2, "b1"), jobs.push(&queue, 3, "c1")];
            assert_eq!((jobs.begun(), counts(&queue)), (["a1", "b1", "c1"], (3, 3)));
            drop(ends);
            wait_until(|| counts(&queue) == (0, 1));
        }
        for _ in 0..1_000 {
            drop([jobs.push(&queue, 1, "a1"), jobs.push(&queue, 2, "b1")]);
            assert_eq!(jobs.begun(), ["a1", "b1"]);
        }
        queue.stop();
        assert!(queue.handles.lock().is_empty());
    }

    #[test]
    fn job_is_done_though_the_system_gives_no_further_thread() {
        let (queue, jobs) = (started(2, 1), Jobs::new());
        let a1 = jobs.push(&queue, 1, "a1");
        assert_eq!(jobs.begun(), ["a1"]);
        let mut state = queue.state.lock();
        let began = jobs.began.clone();
        state.push(2, Box::new(move || began.send("b1").expect("the test listens")));
        assert!(state.lacks_thread());
        state.threads += 1;
        drop(state);
        // No address space is that large.
        queue.grow(Builder::new().stack_size(1 << 60));
        assert_eq!(counts(&queue), (1, 1));
        // It is asked again for the next one, which may not begin itself.
        let a2 = jobs.push(&queue, 1, "a2");
        assert_eq!((jobs.begun(), counts(&queue).1), (["b1"], 2));
        drop(a1);
        assert_eq!(jobs.begun(), ["a2"]);
        drop(a2);
        queue.stop();
    }

    #[test]
    fn job_that_panics_costs_no_thread_and_its_tenant_no_share() {
        let (queue, jobs) = (started(1, 1), Jobs::new());
        queue.push(1, Box::new(|| panic!("as asked")));
        drop(jobs.push(&queue, 1, "a2"));
        assert_eq!(jobs.begun(), ["a2"]);
        queue.stop();
    }

    /// What waits is dropped, and what is under way is waited for.
    #[test]
    fn stopping_ends_all_threads() {
        let (queue, jobs) = (started(2, 2), Jobs::new());
        let ends = [jobs.push(&queue, 1, "a1"), jobs.push(&queue, 2, "b1")];
        assert_eq!(jobs.begun(), ["a1", "b1"]);
        let waits = jobs.push(&queue, 3, "c1");
        let stopping = std::thread::spawn({
            let queue = queue.clone();
            move || queue.stop()
        });
        wait_until(|| queue.state.lock().stopped);
        wait_until(|| waits.send(()).is_err());
        assert!(!stopping.is_finished());
        drop(ends);
        stopping.join().expect("it ends");
        assert_eq!(counts(&queue).0, 0);
        queue.push(1, Box::new(|| unreachable!("it has stopped")));
    }

    #[test]
    fn threads_that_step_guests_are_nicer() {
        let pool = Pool::start(&Limits::shared()).expect("threads");
        let (tell, told) = channel();
        let own = getpriority_process(None).expect("there is one");
        for queue in [&pool.guests, &pool.plugins] {
            let (tell, again) = (tell.clone(), pool.guests.clone());
            let tells = move || tell.send(getpriority_process(None).expect("there is one")).expect("the test listens");
            let started_by_it = tells.clone();
            queue.push(
                1,
                Box::new(move || {
                    tells();
                    again.push(2, Box::new(started_by_it));
                }),
            );
            let expected = if Arc::ptr_eq(queue, &pool.guests) { own + NICER } else { own };
            assert_eq!(told.recv_timeout(PATIENCE), Ok(expected.min(NICENESS_MAX)));
            assert_eq!(told.recv_timeout(PATIENCE), Ok((own + NICER).min(NICENESS_MAX)));
        }
        pool.stop();
    }
}
