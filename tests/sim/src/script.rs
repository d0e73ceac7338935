//! What tasks do with shared objects.

use std::collections::VecDeque;

use steward_wire::Value;

use crate::client::{Op, Shared, Target};
use crate::random::Random;

/// All shared objects; a run takes some of them.
pub(crate) const SHARED: &[Shared] = &[
    Shared { name: "lock", typeid: "Lock", args: &[] },
    Shared { name: "rlock", typeid: "RLock", args: &[] },
    Shared { name: "condition", typeid: "Condition", args: &[] },
    Shared { name: "semaphore", typeid: "Semaphore", args: &[2] },
    Shared { name: "bounded", typeid: "BoundedSemaphore", args: &[1] },
    Shared { name: "event", typeid: "Event", args: &[] },
    Shared { name: "barrier", typeid: "Barrier", args: &[3] },
    Shared { name: "queue", typeid: "Queue", args: &[] },
    Shared { name: "short", typeid: "JoinableQueue", args: &[2] },
    Shared { name: "stack", typeid: "LifoQueue", args: &[] },
    Shared { name: "heap", typeid: "PriorityQueue", args: &[3] },
    Shared { name: "tokens", typeid: "Queue", args: &[] },
    Shared { name: "parcels", typeid: "JoinableQueue", args: &[2] },
    Shared { name: "value", typeid: "Value", args: &[0, 0] },
    Shared { name: "dict", typeid: "dict", args: &[] },
    Shared { name: "list", typeid: "list", args: &[] },
    Shared { name: "slow-lock", typeid: "Lock.pooled", args: &[] },
    Shared { name: "slow-queue", typeid: "Queue.pooled", args: &[1] },
    Shared { name: "slow-parcels", typeid: "Queue.pooled", args: &[2] },
    Shared { name: "slow-value", typeid: "Value.pooled", args: &[0, 0] },
];

/// Encoded positional arguments.
pub(crate) fn encoded(args: &[Value]) -> Vec<u8> {
    let call = Value::List(vec![Value::List(args.to_vec()), Value::Map(Vec::new())]);
    call.to_vec()
}

/// Makes plans.
pub(crate) struct Script {
    /// Objects of this run.
    pub(crate) shared: Vec<Shared>,
    /// No value is put twice.
    unique: i64,
    /// How often, of a hundred, a call waits for ever.
    forever: u64,
    /// How often, of a hundred, a plan has a fork in it.
    forks: u64,
}

impl Script {
    pub(crate) fn new(random: &mut Random) -> Self {
        // The fewer the objects, the more meet there.
        let share = random.pick(&[25, 50, 100]);
        let mut shared: Vec<_> = SHARED.iter().copied().filter(|_| random.percent(share)).collect();
        if shared.is_empty() {
            shared.push(random.pick(SHARED));
        }
        Self { shared, unique: 0, forever: random.pick(&[0, 30, 80]), forks: random.pick(&[0, 0, 1, 3]) }
    }

    fn unique(&mut self) -> Value {
        self.unique += 1;
        Value::Int(self.unique)
    }

    /// Bytes that are put once, and often too many for the lane.
    fn parcel(&mut self, random: &mut Random) -> Value {
        self.unique += 1;
        let mut bytes = self.unique.to_be_bytes().to_vec();
        bytes.resize(random.pick(&[8, 200, 600, 1_500]), self.unique as u8);
        Value::Bytes(bytes)
    }

    /// What is put into a queue.
    fn item(&mut self, target: usize, random: &mut Random) -> Value {
        if self.shared[target].name.ends_with("parcels") { self.parcel(random) } else { self.unique() }
    }

    fn deadline(&self, random: &mut Random) -> Option<u64> {
        match random.below(100) {
            n if n < self.forever => None,
            n if n % 7 == 0 => Some(0),
            _ => Some(random.pick(&[1, 20, 200, 1_000, 5_000])),
        }
    }

    fn call(&self, target: usize, method: &'static str, args: Vec<Value>, deadline_ms: Option<u64>) -> Op {
        Op::Call { target: Target::Shared(target), method, args, deadline_ms, is_guarded: false }
    }

    /// What a task does next.
    pub(crate) fn plan(&mut self, random: &mut Random) -> VecDeque<Op> {
        let target = random.below(self.shared.len() as u64) as usize;
        let mut plan = VecDeque::new();
        let deadline_ms = self.deadline(random);
        let now = |script: &Self, method, args| script.call(target, method, args, Some(0));
        match self.shared[target].typeid.trim_end_matches(".pooled") {
            "Lock" | "RLock" => {
                plan.push_back(self.call(target, "acquire", vec![], deadline_ms));
                if self.shared[target].typeid == "RLock" && random.percent(30) {
                    plan.push_back(self.call(target, "acquire", vec![], Some(0)));
                    plan.push_back(now(self, "release", vec![]));
                }
                for _ in 0..random.below(3) {
                    if let Some(op) = self.guarded(random) {
                        plan.push_back(op);
                    }
                }
                plan.push_back(Op::Sleep(random.pick(&[0, 5, 50, 500])));
                plan.push_back(now(self, "release", vec![]));
            }
            "Condition" => {
                plan.push_back(self.call(target, "acquire", vec![], deadline_ms));
                let deadline_ms = self.deadline(random);
                plan.push_back(match random.below(3) {
                    0 => now(self, "notify", vec![]),
                    1 => now(self, "notify_all", vec![]),
                    _ => self.call(target, "wait", vec![], deadline_ms),
                });
                plan.push_back(now(self, "release", vec![]));
            }
            "Semaphore" | "BoundedSemaphore" => {
                plan.push_back(self.call(target, "acquire", vec![], deadline_ms));
                plan.push_back(Op::Sleep(random.pick(&[0, 5, 50, 500])));
                plan.push_back(now(self, "release", vec![]));
            }
            "Event" => plan.push_back(match random.below(5) {
                0 => now(self, "set", vec![]),
                1 => now(self, "clear", vec![]),
                2 => now(self, "is_set", vec![]),
                _ => self.call(target, "wait", vec![], deadline_ms),
            }),
            "Barrier" => plan.push_back(match random.below(10) {
                0 => now(self, "reset", vec![]),
                _ => self.call(target, "wait", vec![], deadline_ms),
            }),
            "Queue" if self.shared[target].name == "tokens" => {
                if random.percent(50) {
                    plan.push_back(Op::Make);
                    plan.push_back(self.own());
                    plan.push_back(self.put_token(target, random));
                } else {
                    plan.push_back(self.call(target, "get", vec![], Some(random.pick(&[0, 100, 1_000]))));
                    plan.push_back(self.own());
                    if random.percent(30) {
                        plan.push_back(self.put_token(target, random));
                    } else {
                        plan.push_back(Op::DropOwn);
                    }
                }
            }
            "Queue" | "JoinableQueue" | "LifoQueue" | "PriorityQueue" => {
                let op = match random.percent(20) {
                    true => self.guarded(random),
                    false => None,
                };
                let op = op.unwrap_or_else(|| self.queue(target, deadline_ms, random));
                plan.push_back(op);
            }
            "Value" => plan.push_back(match random.below(3) {
                0 => now(self, "get", vec![]),
                _ => now(self, "add", vec![]),
            }),
            "dict" if random.percent(40) => {
                // Others than those that are counted under. What is not there is answered with what came along.
                let key = Value::Int(10 + random.below(3) as i64);
                let item = self.parcel(random);
                plan.push_back(match random.below(3) {
                    0 => now(self, "__setitem__", vec![key, item]),
                    1 => now(self, "pop", vec![key, item]),
                    _ => now(self, "get", vec![key, item]),
                });
            }
            "dict" => {
                let key = Value::Int(random.below(3) as i64);
                let item = self.unique();
                plan.push_back(match random.below(6) {
                    0 => now(self, "__setitem__", vec![key, item]),
                    1 => now(self, "pop", vec![key, Value::Null]),
                    2 => now(self, "get", vec![key]),
                    _ => now(self, "incr", vec![key]),
                });
            }
            _ => {
                let item = self.unique();
                plan.push_back(match random.below(5) {
                    0 | 1 => now(self, "pop", vec![Value::Int(0)]),
                    2 => now(self, "copy", vec![]),
                    _ => now(self, "append", vec![item]),
                });
            }
        }
        if random.percent(10) {
            plan.push_back(Op::Drop(target));
        }
        if random.percent(self.forks) {
            let at = random.below(plan.len() as u64 + 1) as usize;
            plan.insert(at, Op::Fork);
        }
        plan.push_back(Op::Sleep(random.pick(&[0, 1, 10, 100, 400])));
        plan
    }

    fn own(&self) -> Op {
        let (target, method) = (Target::Own, "add");
        Op::Call { target, method, args: vec![], deadline_ms: Some(0), is_guarded: false }
    }

    fn put_token(&self, shared: usize, random: &mut Random) -> Op {
        Op::PutToken { shared, is_large: random.percent(40), is_let_go: random.percent(50) }
    }

    fn queue(&mut self, target: usize, deadline_ms: Option<u64>, random: &mut Random) -> Op {
        let item = self.item(target, random);
        match random.below(12) {
            0 => self.call(target, "get_nowait", vec![], Some(0)),
            1 => self.call(target, "put_nowait", vec![item], Some(0)),
            2 => {
                let items = vec![item, self.item(target, random)];
                let is_short = self.shared[target].args.first() == Some(&1);
                let items = if is_short { items[..1].to_vec() } else { items };
                self.call(target, "put_many", vec![Value::List(items)], deadline_ms)
            }
            3 => self.call(target, "get_many", vec![Value::Int(2)], deadline_ms),
            4 => self.call(target, "qsize", vec![], Some(0)),
            5..8 => self.call(target, "put", vec![item], deadline_ms),
            _ => self.call(target, "get", vec![], deadline_ms),
        }
    }

    /// A call of something else that counts only while the lock is held.
    fn guarded(&mut self, random: &mut Random) -> Option<Op> {
        let is_apt = |shared: &Shared| {
            matches!(shared.typeid, "Value" | "Value.pooled" | "list" | "JoinableQueue" | "Queue" | "Queue.pooled")
                && shared.name != "tokens"
        };
        let apt: Vec<_> = (0..self.shared.len()).filter(|at| is_apt(&self.shared[*at])).collect();
        if apt.is_empty() {
            return None;
        }
        let target = random.pick(&apt);
        let deadline_ms = self.deadline(random);
        let op = match self.shared[target].typeid.trim_end_matches(".pooled") {
            "Value" => self.call(target, "add", vec![], Some(0)),
            "list" => {
                let item = self.unique();
                self.call(target, "append", vec![item], Some(0))
            }
            _ => self.queue(target, deadline_ms, random),
        };
        Some(match op {
            Op::Call { target, method, args, deadline_ms, .. } => {
                Op::Call { target, method, args, deadline_ms, is_guarded: true }
            }
            op => op,
        })
    }
}
