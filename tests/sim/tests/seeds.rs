//! Seeds that CI runs. More of them: `cargo xtask sim --seeds 10000`.

use steward_sim::run;

/// Seeds that once broke a promise, and how.
const FOUND: &[(u64, &str)] = &[
    (4, "the reply to a call that was given up before a reconnect went to the lost connection"),
    (216, "a release that nobody waits for was given up by a reconnect"),
    (323, "a lock's proxy was dropped before its late grant was released"),
];

#[track_caller]
fn check(seed: u64) {
    if let Some(broken) = run(seed).broken {
        let events = broken.events.join("\n    ");
        panic!("seed {seed}: {}\n    {events}\n  again: cargo xtask sim --seed {seed} --trace", broken.what);
    }
}

#[test]
fn no_promise_is_broken_in_500_seeds() {
    (0..500).for_each(check);
}

#[test]
fn seeds_that_broke_a_promise_no_longer_do() {
    FOUND.iter().for_each(|(seed, _)| check(*seed));
}

#[test]
fn same_seed_gives_the_same_run() {
    for seed in 0..20 {
        assert_eq!(run(seed), run(seed), "seed {seed}");
    }
    assert_ne!(run(1).hash, run(2).hash);
}
