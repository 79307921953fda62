//! How well the lines of a server fit the exchanges that they were laid along of late.
//!
//! Next to each other, exchanges under seal differ in little. Where a line slips to the wrong one, its
//! neighbours slip with it, and each may then seem sure beside its rivals. What gives such a run away is that
//! all of it fits badly: its lines cost more than those of a run that is right.

use crate::attribution::costs;
use crate::attribution::odds::chance;

/// What the lines of a server cost of late, a moving average in thousandths of a natural logarithm.
#[derive(Clone, Copy)]
pub(crate) struct FitError(i64);

impl FitError {
    pub(crate) const fn new() -> Self {
        Self(costs::FIT_AT_FIRST)
    }

    /// Notes what a line cost.
    pub(crate) fn note(&mut self, cost: i64) {
        self.0 += (cost - self.0) / costs::FIT_MEMORY;
    }

    /// How far a choice among exchanges can be trusted, in thousandths, if the line and those behind it cost
    /// so much on average.
    pub(crate) fn trust(self, ahead: i64) -> u16 {
        let cost = (2 * self.0 + ahead) / 3;
        u16::try_from(chance((cost - costs::FIT_EVEN) * 1_000 / costs::FIT_SPREAD)).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_fits_badly_is_trusted_little_until_it_fits_again() {
        let mut strain = FitError::new();
        assert!(strain.trust(500) > 950, "{}", strain.trust(500));
        assert!(strain.trust(9_000) < 550, "what comes fits badly: {}", strain.trust(9_000));
        (0..100).for_each(|_| strain.note(7_000));
        assert!(strain.trust(7_000) < 100, "{}", strain.trust(7_000));
        (0..100).for_each(|_| strain.note(700));
        assert!(strain.trust(700) > 950, "{}", strain.trust(700));
    }
}
