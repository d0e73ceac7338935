//! A hash for what nobody else chooses.

use std::hash::Hasher;

/// Spreads numbers that are counted up on this side, such as idents in a host and seqs in a client. Whoever could choose
/// keys to be inserted could make them collide: it is not for those.
#[derive(Default)]
pub struct Spread(u64);

impl Hasher for Spread {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.write_u64(self.0.rotate_left(8) ^ u64::from(byte));
        }
    }

    fn write_u64(&mut self, number: u64) {
        // Fibonacci hashing: the golden ratio's fraction of 2^64.
        self.0 = number.wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(26);
    }
}
