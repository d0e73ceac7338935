//! Seeds that CI runs. More of them: `cargo xtask sim --seeds 10000`.

use steward_sim::run;

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
fn same_seed_gives_the_same_run() {
    for seed in 0..20 {
        assert_eq!(run(seed), run(seed), "seed {seed}");
    }
    assert_ne!(run(1).hash, run(2).hash);
}
