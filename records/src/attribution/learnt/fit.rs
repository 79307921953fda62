//! How well recent lines of a server fit the assigned TLS exchanges.
//!
//! Neighbouring exchanges in TLS differ little. Where one line is assigned to a wrong exchange, the
//! neighbouring lines slip too, and each may seem sure beside the rivals. Such a run shows in the
//! costs: all lines of the run cost more than the lines of a right run.

use crate::attribution::costs;
use crate::attribution::odds::chance;

/// Costs of recent lines: a moving average, in thousandths of a natural logarithm.
#[derive(Clone, Copy)]
pub(crate) struct FitError(i64);

impl FitError {
    pub(crate) const fn new() -> Self {
        Self(costs::FIT_AT_FIRST)
    }

    /// Learns the cost of a line.
    pub(crate) fn learn(&mut self, cost: i64) {
        self.0 += (cost - self.0) / costs::FIT_MEMORY;
    }

    /// Returns how far a choice among exchanges can be trusted, in thousandths. `ahead` is the average cost
    /// of the line and the lines behind it.
    pub(crate) fn trust(self, ahead: i64) -> u16 {
        let cost = (2 * self.0 + ahead) / 3;
        u16::try_from(chance((cost - costs::FIT_EVEN) * 1_000 / costs::FIT_SPREAD))
            .expect("a chance is at most 1,000")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_fits_badly_is_trusted_little_until_it_fits_again() {
        let mut fit = FitError::new();
        assert!(fit.trust(500) > 950, "{}", fit.trust(500));
        assert!(fit.trust(9_000) < 550, "what comes fits badly: {}", fit.trust(9_000));
        (0..100).for_each(|_| fit.learn(7_000));
        assert!(fit.trust(7_000) < 100, "{}", fit.trust(7_000));
        (0..100).for_each(|_| fit.learn(700));
        assert!(fit.trust(700) > 950, "{}", fit.trust(700));
    }
}
