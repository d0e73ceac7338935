//! `{{Type}}`: so many callers at a time.

use steward_guest::prelude::*;

/// The state. Its fields are what is saved when the object moves to a new version.
#[derive(Debug, Serialize, Deserialize)]
pub struct {{Type}} {
    places: u32,
    taken: u32,
}

/// Lets so many callers in at a time; the others wait in turn.
#[object(version = "0.1.0")]
impl {{Type}} {
    pub fn new(#[default(1)] places: u32) -> Result<Self> {
        if places == 0 {
            return raise("ValueError", "places must be at least 1");
        }
        Ok(Self { places, taken: 0 })
    }

    /// Takes a place, waiting in turn until there is one; False at the deadline.
    #[method(fifo, timeout = Ok(false))]
    pub fn enter(&mut self) -> Result<bool> {
        // A call that waits must have changed nothing: look first, then change.
        if self.taken == self.places {
            return pending();
        }
        self.taken += 1;
        Ok(true)
    }

    /// Gives a place back.
    pub fn leave(&mut self) -> Result<()> {
        if self.taken == 0 {
            return raise("ValueError", "nobody is inside");
        }
        self.taken -= 1;
        Ok(())
    }

    /// Places free at this moment.
    pub fn free(&self) -> u32 {
        self.places - self.taken
    }
}

steward_guest::export!({{Type}});

#[cfg(test)]
mod tests {
    use steward_guest::testing::Harness;

    use super::*;

    #[test]
    fn next_one_enters_when_one_leaves() {
        let mut object = Harness::<{{Type}}>::new(args![places = 1]).unwrap();
        assert!(object.call("enter", args![]).value::<bool>());
        let waits = object.call("enter", args![]).parked();
        object.call("leave", args![]).value::<()>();
        assert!(object.answer(waits).value::<bool>());
        assert_eq!(object.call("free", args![]).value::<u32>(), 0);
    }
}
