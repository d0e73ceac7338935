//! `threading.Event`.

use steward_guest::prelude::*;

use crate::not_picklable;

/// A flag.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Event {
    is_set: bool,
}

/// A flag to wait for.
#[object(version = "1.0.0", name = "GuestEvent")]
impl Event {
    /// A flag that is not set.
    pub fn new() -> Self {
        Self::default()
    }

    /// Whether the flag is set.
    pub fn is_set(&self) -> bool {
        self.is_set
    }

    /// Sets the flag and lets all go that wait for it.
    pub fn set(&mut self) {
        self.is_set = true;
    }

    /// Clears the flag: whoever waits from now on parks.
    pub fn clear(&mut self) {
        self.is_set = false;
    }

    /// Parks until the flag is set; returns True, or False if the deadline came first.
    #[method(all, timeout = Ok(false))]
    pub fn wait(&self) -> Result<bool> {
        if self.is_set { Ok(true) } else { pending() }
    }

    /// An event has no value to copy.
    #[method(name = "#GETVALUE")]
    pub fn value(&self) -> Result<()> {
        not_picklable()
    }

    /// `str(event)`.
    pub fn __str__(&self) -> String {
        format!("<Event: {}>", if self.is_set { "set" } else { "unset" })
    }

    /// `repr(event)`.
    pub fn __repr__(&self) -> String {
        self.__str__()
    }
}
