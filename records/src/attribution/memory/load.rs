//! How many connections a server has, or had a short while ago.

use crate::attribution::costs;
use crate::time::Timestamp;

/// Connections that are open, and those closed a short while ago.
pub(crate) struct ConnectionLoad {
    open: u32,
    /// Connections closed in this interval of [`costs::PORT_RECENT`], and in the one before.
    closed: [u32; 2],
    /// The start of this interval.
    since: Timestamp,
}

impl ConnectionLoad {
    pub(crate) const fn new() -> Self {
        Self { open: 0, closed: [0; 2], since: Timestamp::MIN }
    }

    /// Counts a connection that was opened.
    pub(crate) const fn open(&mut self) {
        self.open = self.open.saturating_add(1);
    }

    /// Counts a connection that was closed.
    pub(crate) fn close(&mut self, now: Timestamp) {
        self.open = self.open.saturating_sub(1);
        self.pass_by(now);
    }

    /// Counts a connection of which only the opening is recorded.
    pub(crate) fn pass_by(&mut self, now: Timestamp) {
        let passed = now.micros_since(self.since);
        if passed >= costs::PORT_RECENT {
            let last = if passed < 2 * costs::PORT_RECENT { self.closed[0] } else { 0 };
            (self.closed, self.since) = ([0, last], now);
        }
        self.closed[0] = self.closed[0].saturating_add(1);
    }

    /// Returns how many connections a line that comes now may belong to, at least one.
    pub(crate) const fn near(&self) -> u32 {
        let [now, before] = self.closed;
        let near = self.open.saturating_add(now).saturating_add(before);
        if near == 0 { 1 } else { near }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_count_while_they_are_open_and_shortly_after() {
        let at = Timestamp::from_seconds;
        let mut load = ConnectionLoad::new();
        assert_eq!(load.near(), 1);
        (0..5).for_each(|_| load.open());
        (0..3).for_each(|_| load.close(at(10)));
        assert_eq!(load.near(), 5);
        load.pass_by(at(35));
        assert_eq!(load.near(), 6);
        load.pass_by(at(60));
        assert_eq!(load.near(), 4);
        load.close(at(600));
        assert_eq!(load.near(), 2);
        load.close(Timestamp::MIN);
        assert_eq!(load.near(), 2);
    }
}
