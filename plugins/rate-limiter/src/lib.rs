//! `RateLimiter`: a token bucket that everybody shares.

use steward_guest::prelude::*;

/// A bucket of tokens: so many flow in each second, and it holds so many at most.
#[derive(Debug, Serialize, Deserialize)]
pub struct RateLimiter {
    /// Tokens a second.
    rate: f64,
    /// What the bucket holds at most.
    burst: f64,
    /// What it held at `at_ms`.
    tokens: f64,
    at_ms: u64,
}

/// Hands out `rate` tokens a second, `burst` at most at once.
///
/// It starts with `burst` tokens. Callers wait in turn: one that wants many tokens is not overtaken by others that want few.
#[object(version = "1.0.0")]
impl RateLimiter {
    /// A full bucket.
    pub fn new(cx: &Context, rate: f64, #[default(1.0)] burst: f64) -> Result<Self> {
        if !(rate > 0.0 && rate.is_finite() && burst >= 1.0 && burst.is_finite()) {
            return raise("ValueError", "rate must be above 0, burst at least 1");
        }
        Ok(Self { rate, burst, tokens: burst, at_ms: cx.now_ms() })
    }

    /// Takes `n` tokens, waiting in turn until they are there.
    #[method(fifo)]
    pub fn acquire(&mut self, cx: &Context, #[default(1.0)] n: f64) -> Result<()> {
        if !(n > 0.0 && n <= self.burst) {
            return raise("ValueError", format!("n is {n}, limit is {}", self.burst));
        }
        let (now_ms, have) = (cx.now_ms(), self.available(cx));
        if have < n {
            // At least a millisecond, so that rounding cannot ask for a time that has come.
            return pending_until(now_ms + (((n - have) * 1e3 / self.rate).ceil() as u64).max(1));
        }
        (self.tokens, self.at_ms) = (have - n, now_ms);
        Ok(())
    }

    /// Tokens free at this moment.
    pub fn available(&self, cx: &Context) -> f64 {
        (self.tokens + cx.now_ms().saturating_sub(self.at_ms) as f64 * self.rate / 1e3).min(self.burst)
    }
}

steward_guest::export!(RateLimiter);

#[cfg(test)]
mod tests;
