//! A plugin of many versions: tests of upgrades write over its version, over two names of methods, and over the word that
//! says how it behaves, each in place in the component.

use std::hint::black_box;

use steward_guest::prelude::*;

/// What a version does otherwise. Tests overwrite the twelve bytes after the marker.
#[used]
static BEHAVES: [u8; 24] = *b"changeling: as it is....";

fn behaves(how: &str) -> bool {
    behaviour() == how
}

fn behaviour() -> &'static str {
    std::str::from_utf8(&black_box(&BEHAVES)[12..]).unwrap_or_default()
}

/// A sum, and what people want it to do.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(into = "Saved", try_from = "Saved")]
pub struct Changeling {
    sum: i64,
    kept: Vec<Item>,
    asked: Option<Handle>,
    /// Not saved, against all rules.
    calls: u64,
}

/// A sum that can be added to, taken from, and waited for.
#[object(version = "1.0.7001")]
impl Changeling {
    /// Begins with `sum`.
    pub fn new(#[default(0)] sum: i64) -> Self {
        Self { sum, kept: Vec::new(), asked: None, calls: 0 }
    }

    /// Adds `n` and returns the sum. Pads its call to any size.
    pub fn add(&mut self, n: i64, #[default(Bytes::default())] _padding: Bytes) -> i64 {
        if behaves("traps first.") {
            panic!("as asked");
        }
        self.sum += n;
        self.sum
    }

    /// Takes `n`, waiting in turn until the sum is as large. Raises `Empty` at the deadline.
    #[method(fifo, timeout = raise("Empty", ""))]
    pub fn take_in_turn(&mut self, n: i64) -> Result<i64> {
        if self.sum < n && !behaves("generous....") {
            return pending();
        }
        self.sum -= n;
        Ok(self.sum)
    }

    /// Waits for a time, and answers with it.
    #[method(all)]
    pub fn sleep(&mut self, cx: &Context, until_ms: u64) -> Result<u64> {
        if cx.now_ms() < until_ms { pending_until(until_ms) } else { Ok(cx.now_ms()) }
    }

    /// The sum.
    pub fn sum(&self) -> i64 {
        self.sum
    }

    /// How this version behaves.
    pub fn behaviour(&self) -> &'static str {
        behaviour()
    }

    /// A method whose name is told apart from the next one's by nothing but the name.
    pub fn alpha_method(&self) -> i64 {
        1
    }

    /// See `alpha_method`.
    pub fn bravo_method(&self) -> i64 {
        2
    }

    /// Keeps something.
    pub fn keep(&mut self, item: Item) {
        self.kept.push(item);
    }

    /// Gives back what was kept first.
    pub fn give(&mut self) -> Result<Item> {
        if self.kept.is_empty() { raise("Empty", "") } else { Ok(self.kept.remove(0)) }
    }

    /// Counts the calls of this method, in a field that is not saved.
    pub fn count(&mut self) -> u64 {
        self.calls += 1;
        self.calls
    }

    /// Asks an object for its value. The answer is added to the sum.
    pub fn ask(&mut self, cx: &Context, proxy: Handle) {
        cx.invoke(1, &proxy, "get", args![]);
        self.asked = Some(proxy);
    }

    /// The answer.
    #[on(returned)]
    fn answered(&mut self, _: &Context, returned: Returned) {
        self.sum += returned.result::<i64>().unwrap_or(0);
        self.asked = None;
    }

    /// Adds `n` and traps.
    pub fn trap(&mut self, n: i64) {
        self.sum += n;
        panic!("as asked");
    }

    /// A session that died takes one.
    #[on(owner_lost)]
    fn lost(&mut self, _: &Context, lost: OwnerLost) {
        if behaves("traps lost..") {
            panic!("as asked");
        }
        if !lost.orderly {
            self.sum -= 1;
        }
    }
}

/// What is saved, and by whom.
#[derive(Serialize, Deserialize)]
struct Saved {
    sum: i64,
    kept: Vec<Item>,
    asked: Option<Handle>,
    behaviour: String,
}

impl From<Changeling> for Saved {
    fn from(Changeling { sum, kept, asked, .. }: Changeling) -> Self {
        if behaves("traps save..") {
            panic!("as asked");
        }
        Self { sum, kept, asked, behaviour: behaviour().to_owned() }
    }
}

// No hook for states of other versions, which compares with a version that is no longer in one place of the component.
impl TryFrom<Saved> for Changeling {
    type Error = &'static str;

    fn try_from(Saved { sum, kept, asked, behaviour: saved_by }: Saved) -> std::result::Result<Self, Self::Error> {
        let mut loaded = Self { sum, kept, asked, calls: 0 };
        if saved_by != behaviour() {
            match behaviour() {
                "fails load.." => return Err("this is not for me"),
                "traps load.." => panic!("as asked"),
                "tenfold....." => loaded.sum *= 10,
                "forgetful..." => loaded.kept.clear(),
                _ => {}
            }
        }
        Ok(loaded)
    }
}

/// What cannot be saved.
#[derive(Debug, Default)]
pub struct Stone {
    calls: u64,
}

/// Counts, and does not save.
#[object(version = "1.0.7001", saves = false)]
impl Stone {
    /// At zero.
    pub fn new() -> Self {
        Self::default()
    }

    /// Counts. Pads its call to any size.
    pub fn count(&mut self, #[default(Bytes::default())] _padding: Bytes) -> u64 {
        self.calls += 1;
        self.calls
    }

    /// Traps.
    pub fn trap(&mut self) {
        self.calls += 1;
        panic!("as asked");
    }

    /// How this version behaves.
    pub fn behaviour(&self) -> &'static str {
        behaviour()
    }
}

steward_guest::export!(Changeling, Stone);
