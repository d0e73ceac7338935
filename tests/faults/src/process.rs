//! Signals to processes that the kit has started.

use std::process::Child;

use rustix::process::{Pid, Signal, kill_process};

/// A process that can be stopped and continued.
pub trait Signals {
    /// The process; it has not been waited for, so that its id is its own.
    fn child(&self) -> &Child;

    /// Stops it: it does nothing until it is continued.
    fn stop(&self) {
        signal(self.child(), Signal::STOP);
    }

    /// Continues it.
    fn go_on(&self) {
        signal(self.child(), Signal::CONT);
    }
}

fn signal(child: &Child, signal: Signal) {
    // It fails for a process that has ended, for which it does not matter.
    let _ = kill_process(Pid::from_child(child), signal);
}
