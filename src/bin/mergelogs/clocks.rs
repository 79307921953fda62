//! How far each server's clock is ahead of the balancer's, estimated before the merge.

use std::fmt;

/// A server's clock against the balancer's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Clock {
    /// Microseconds it is ahead.
    pub(crate) ahead: i64,
    /// Requests that say so.
    pub(crate) votes: u32,
}

impl Clock {
    pub(crate) fn is_worth_a_word(self) -> bool {
        self.ahead != 0
    }
}

impl fmt::Display for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.ahead.unsigned_abs() / 1_000_000;
        let way = if self.ahead < 0 { "behind" } else { "ahead of" };
        write!(f, "clock {seconds} s {way} the balancer's, by {} requests", self.votes)
    }
}
