//! Remarks on what was sent to us: the first few of each cause in a minute are logged, the
//! rest is counted, so that a flood of junk costs a bounded number of log lines.

use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use pen_records::time::Timestamp;
use tracing::{debug, info, warn};

/// Complaints of one cause that are logged in a [`PERIOD`].
const EACH: u64 = 5;
/// See [`EACH`].
const PERIOD: Duration = Duration::from_secs(60);

/// What was wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cause {
    /// It looks like a mapping or like one of ours, and is none.
    Junk,
    /// The sender may not send this.
    Refused,
    /// There are more servers than we number.
    Servers,
    /// A line was not understood.
    Line,
    /// A balancer's line could not be read, or names a server without an address.
    Passage,
    /// Nothing is wrong: a shipper or a balancer has begun. But anybody can say so of himself.
    Began,
}

const CAUSES: [(Cause, &str); 6] = [
    (Cause::Junk, "datagrams that could not be read"),
    (Cause::Refused, "datagrams of senders that are not allowed"),
    (Cause::Servers, "mappings or lines of too many servers"),
    (Cause::Line, "lines that were not understood"),
    (Cause::Passage, "lines of balancers that are of no use"),
    (Cause::Began, "shippers and balancers that began"),
];

/// How often was complained.
#[derive(Debug)]
pub(crate) struct Complaints {
    since: Timestamp,
    counts: [u64; CAUSES.len()],
}

impl Default for Complaints {
    fn default() -> Self {
        Self { since: Timestamp::MIN, counts: [0; CAUSES.len()] }
    }
}

impl Complaints {
    /// Complains about something that came `from` there.
    pub(crate) fn about(
        &mut self,
        cause: Cause,
        from: SocketAddr,
        now: Timestamp,
        what: impl fmt::Display,
    ) {
        self.settle(now);
        let count = &mut self.counts[cause as usize];
        *count += 1;
        if *count > EACH {
            return;
        }
        match cause {
            Cause::Line => debug!("from {from}: {what}"),
            Cause::Began => info!("from {from}: {what}"),
            _ => warn!("from {from}: {what}"),
        }
    }

    /// Begins a new period if it is time to, and says what was left out in the last one.
    fn settle(&mut self, now: Timestamp) {
        if self.since != Timestamp::MIN && now < self.since + PERIOD {
            return;
        }
        self.since = now;
        for ((cause, name), count) in CAUSES.iter().zip(&mut self.counts) {
            let count = std::mem::take(count);
            if count > EACH && *cause != Cause::Line {
                warn!("{} more {name} in the last minute", count - EACH);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_cause_has_its_place() {
        for (index, (cause, _)) in CAUSES.iter().enumerate() {
            assert_eq!(*cause as usize, index);
        }
    }
}
