//! Numbers that look random and are the same in every run.

use std::time::Duration;

/// The splitmix64 generator: small, fast, and good enough to make traffic with.
pub(super) struct Random(u64);

impl Random {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// A number below `end`.
    pub(super) fn below(&mut self, end: usize) -> usize {
        let end = u64::try_from(end.max(1)).unwrap_or(u64::MAX);
        usize::try_from(self.next() % end).expect("it is below a usize")
    }

    /// At least 0, below 1.
    fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// How long a request takes: log-normal around `median`, so that one in a hundred takes about
    /// ten times as long.
    pub(super) fn latency(&mut self, median: Duration) -> Duration {
        // Twelve uniform numbers add up to a normal one with a variance of 1.
        let normal = (0..12).map(|_| self.unit()).sum::<f64>() - 6.0;
        median.mul_f64(normal.exp())
    }
}
