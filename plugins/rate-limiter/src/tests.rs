use proptest::prelude::*;
use steward_guest::testing::{Answer, Harness};

use super::*;

fn limiter(rate: f64, burst: f64) -> Harness<RateLimiter> {
    Harness::new(args![rate, burst]).unwrap()
}

#[test]
fn burst_goes_at_once_and_the_next_waits_for_its_token() {
    let mut limiter = limiter(2.0, 3.0);
    for _ in 0..3 {
        limiter.call("acquire", args![]).value::<()>();
    }
    let waits = limiter.call("acquire", args![]).parked();
    limiter.advance(499);
    assert_eq!(limiter.answer(waits), Answer::Parked(waits));
    limiter.advance(1);
    limiter.answer(waits).value::<()>();
}

#[test]
fn small_request_does_not_overtake_a_large_one() {
    let mut limiter = limiter(1.0, 4.0);
    limiter.call("acquire", args![2]).value::<()>();
    let large = limiter.call("acquire", args![n = 4]).parked();
    let small = limiter.call("acquire", args![1]).parked();
    limiter.advance(2000);
    limiter.answer(large).value::<()>();
    assert_eq!(limiter.parked(), [small]);
    limiter.advance(1000);
    limiter.answer(small).value::<()>();
}

#[test]
fn caller_that_gives_up_takes_nothing_and_the_next_goes_sooner() {
    let mut limiter = limiter(1.0, 4.0);
    limiter.call("acquire", args![4]).value::<()>();
    let large = limiter.call("acquire", args![4]).parked();
    let small = limiter.call("acquire", args![1]).parked();
    limiter.cancel(large, Why::Deadline);
    assert_eq!(limiter.answer(large).raised().0, "TimeoutError");
    limiter.advance(1000);
    limiter.answer(small).value::<()>();
    assert_eq!(limiter.call("available", args![]).value::<f64>(), 0.0);
}

#[test]
fn bucket_fills_to_the_burst_and_no_further() {
    let mut limiter = limiter(10.0, 2.0);
    limiter.call("acquire", args![1.5]).value::<()>();
    limiter.advance(100);
    assert_eq!(limiter.call("available", args![]).value::<f64>(), 1.5);
    limiter.advance(60_000);
    assert_eq!(limiter.call("available", args![]).value::<f64>(), 2.0);
}

#[test]
fn bounds_are_told() {
    for (rate, burst) in [(0.0, 1.0), (-1.0, 1.0), (1.0, 0.5), (f64::NAN, 1.0), (1.0, f64::INFINITY)] {
        assert_eq!(Harness::<RateLimiter>::new(args![rate, burst]).unwrap_err().kind, "ValueError");
    }
    let mut limiter = limiter(1.0, 2.0);
    limiter.call("acquire", args![2]).value::<()>();
    limiter.advance(10_000);
    for n in [0.0, -1.0, 2.5, f64::NAN] {
        let message = format!("n is {n}, limit is 2");
        assert_eq!(limiter.call("acquire", args![n]).raised(), ("ValueError".to_owned(), message));
    }
}

#[test]
fn waiting_calls_keep_their_time_over_an_upgrade() {
    let mut limiter = limiter(1.0, 1.0);
    limiter.call("acquire", args![]).value::<()>();
    let waits = limiter.call("acquire", args![]).parked();
    limiter.advance(400);
    limiter.reload();
    limiter.advance(600);
    limiter.answer(waits).value::<()>();
}

proptest! {
    /// However callers come, nobody gets more than has flowed in, nobody is overtaken, and everybody is served in the end.
    #[test]
    fn rate_is_kept_and_everybody_is_served(
        rate in 0.01..1e4f64,
        burst in 1.0..50.0f64,
        callers in prop::collection::vec((0..5_000u64, 0.01..1.0f64), 1..40),
    ) {
        let mut limiter = limiter(rate, burst);
        let mut line = Vec::new();
        let (mut taken, mut wanted) = (0.0, 0.0);
        let allowed = |now_ms: u64| burst + now_ms as f64 * rate / 1e3;
        for (after_ms, share) in callers {
            limiter.advance(after_ms);
            let n = burst * share;
            wanted += n;
            match limiter.call("acquire", args![n]) {
                Answer::Parked(call) => line.push((call, n)),
                answer => {
                    answer.value::<()>();
                    prop_assert!(limiter.parked().is_empty(), "overtook {:?}", limiter.parked());
                    taken += n;
                }
            }
            let waiting = limiter.parked();
            while line.first().is_some_and(|(call, _)| !waiting.contains(call)) {
                let (call, n) = line.remove(0);
                limiter.answer(call).value::<()>();
                taken += n;
            }
            prop_assert_eq!(&waiting, &line.iter().map(|(call, _)| *call).collect::<Vec<_>>());
            // Sums of floats: a millionth of what there is.
            prop_assert!(taken <= allowed(limiter.now_ms()) * (1.0 + 1e-6), "{taken}");
        }
        limiter.advance((wanted * 1e3 / rate).ceil() as u64 + line.len() as u64 + 1);
        prop_assert_eq!(limiter.parked(), Vec::<CallId>::new());
    }
}
