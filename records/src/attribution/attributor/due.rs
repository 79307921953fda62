//! When a held line is due: after its wait, and when the records of its time have come.

use super::Attributor;
use crate::attribution::costs;
use crate::attribution::line::BalancerId;
use crate::attribution::memory::Memory;
use crate::attribution::queue::{LineState, QueuedLine};
use crate::time::Timestamp;

/// A balancer whose records may still come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BehindBalancer {
    /// The run of the balancer.
    pub balancer: BalancerId,
    /// All its records before have come. Later lines of its servers wait.
    pub complete: Timestamp,
}

/// What lines wait for besides [`JoinSettings::wait`](super::JoinSettings::wait).
pub(super) struct Holds {
    /// Balancers with records still to come, and the earliest time up to which the records of all are complete.
    behind: Vec<BehindBalancer>,
    complete: Timestamp,
    /// No line is due before.
    until: Timestamp,
}

impl Default for Holds {
    fn default() -> Self {
        Self { behind: Vec::new(), complete: Timestamp::MAX, until: Timestamp::MIN }
    }
}

impl<T> Attributor<T> {
    /// Returns the time from which a line is held. A line that comes when it is overdue is one of many that come at
    /// once, most likely: the others are worth waiting for.
    pub(super) fn held_from(&self, time: Timestamp) -> Timestamp {
        let Memory { now, wait, .. } = self.memory;
        if time.offset_by(costs::OUTAGE_LATE) < now {
            // Its records come after an outage, too.
            now.offset_by((costs::OUTAGE_WAIT - wait).max(0))
        } else if time.offset_by(wait) < now {
            now
        } else {
            time
        }
    }

    /// Sets which balancers may still send records of lines that are due. A line of a server that such a balancer has
    /// recorded for waits for it.
    pub fn set_behind(&mut self, behind: Vec<BehindBalancer>) {
        self.holds.complete = behind.iter().map(|it| it.complete).min().unwrap_or(Timestamp::MAX);
        self.holds.behind = behind;
    }

    /// Holds all lines until then at least.
    pub fn hold_until(&mut self, time: Timestamp) {
        self.holds.until = time;
    }

    /// Returns the balancer that the oldest held line waits for, if nothing else keeps the line.
    #[must_use]
    pub fn waits_for(&self) -> Option<BalancerId> {
        self.queue.front().filter(|front| self.has_waited(front)).and_then(|it| self.behind(it))
    }

    /// Returns a balancer that a line waits for.
    #[inline]
    fn behind(&self, line: &QueuedLine<T>) -> Option<BalancerId> {
        if line.line.time <= self.holds.complete { None } else { self.find_behind(line) }
    }

    #[cold]
    fn find_behind(&self, line: &QueuedLine<T>) -> Option<BalancerId> {
        if matches!(line.state, LineState::Unreadable | LineState::Direct | LineState::Unrecorded) {
            return None;
        }
        let recorders = &self.learnt.servers.get(line.line.server as usize)?.recorders;
        let waits_for =
            |it: &&BehindBalancer| it.complete < line.line.time && recorders.has(it.balancer);
        self.holds.behind.iter().find(waits_for).map(|it| it.balancer)
    }

    fn has_waited(&self, line: &QueuedLine<T>) -> bool {
        self.waited(line) <= self.memory.now
    }

    fn waited(&self, line: &QueuedLine<T>) -> Timestamp {
        line.held_from.offset_by(self.memory.wait).max(self.holds.until)
    }

    pub(super) fn is_due(&self, line: &QueuedLine<T>) -> bool {
        self.finished || self.has_waited(line) && self.behind(line).is_none()
    }

    /// Returns when the oldest held line is due, so that a driver knows how long to sleep, unless the line
    /// [waits for](Self::waits_for) a balancer then.
    #[must_use]
    pub fn next_due(&self) -> Option<Timestamp> {
        self.queue.front().map(|front| self.waited(front))
    }
}
