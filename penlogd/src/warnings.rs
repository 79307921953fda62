//! Warnings about received data. The first few of each cause per minute are logged, the rest is counted, so that a flood
//! of junk costs a bounded number of log messages.

use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use pen_records::time::Timestamp;
use tracing::{debug, info, warn};

/// Warnings of one cause that are logged per [`PERIOD`].
const EACH: u64 = 5;
/// Period of the limit [`EACH`].
const PERIOD: Duration = Duration::from_secs(60);

/// What a warning is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum WarningCause {
    /// A malformed datagram that looks like a mapping, a packet or a shipment.
    Junk,
    /// The sender is not allowed to send this.
    Refused,
    /// The limit of servers is reached.
    Servers,
    /// The limit of shippers, or that of balancers, is reached.
    Senders,
    /// A line that does not parse.
    Line,
    /// A third-party log line that does not parse, or names a server without a known address.
    ThirdParty,
    /// A connection that is closed for what it sent or did not send, or cannot be accepted.
    Stream,
    /// A sender that has used up its quota.
    Quota,
    /// Lines wait for a balancer.
    Behind,
    /// No fault: a new shipper or balancer. Anyone can claim to be one, so these messages are limited, too.
    Began,
}

const CAUSES: [(WarningCause, &str); 10] = [
    (WarningCause::Junk, "malformed datagrams"),
    (WarningCause::Refused, "datagrams from senders outside of --from"),
    (WarningCause::Servers, "mappings and lines of servers beyond the limit"),
    (WarningCause::Senders, "shippers and balancers beyond the limit"),
    (WarningCause::Line, "lines that do not parse"),
    (WarningCause::ThirdParty, "unusable lines of third-party balancers"),
    (WarningCause::Stream, "connections closed or not accepted"),
    (WarningCause::Quota, "senders that wait for their quota"),
    (WarningCause::Behind, "balancers that lines wait for"),
    (WarningCause::Began, "new shippers and balancers"),
];

/// Number of warnings of each cause in the current period.
#[derive(Debug)]
pub(crate) struct Warnings {
    since: Timestamp,
    counts: [u64; CAUSES.len()],
    is_quiet: bool,
}

impl Default for Warnings {
    fn default() -> Self {
        Self { since: Timestamp::MIN, counts: [0; CAUSES.len()], is_quiet: false }
    }
}

impl Warnings {
    /// Leaves out all warnings, or no more: those of data that is read again were said before.
    pub(crate) const fn be_quiet(&mut self, is_quiet: bool) {
        self.is_quiet = is_quiet;
    }

    /// Warns about something that `from` sent.
    pub(crate) fn warn(
        &mut self,
        cause: WarningCause,
        from: SocketAddr,
        now: Timestamp,
        what: impl fmt::Display,
    ) {
        if self.is_quiet {
            return;
        }
        self.settle(now);
        let count = &mut self.counts[cause as usize];
        *count += 1;
        if *count > EACH {
            return;
        }
        match cause {
            WarningCause::Line => debug!("from {from}: {what}"),
            WarningCause::Began => info!("from {from}: {what}"),
            _ => warn!("from {from}: {what}"),
        }
    }

    /// Starts a new period if it is time, and reports how many warnings the last one left out.
    fn settle(&mut self, now: Timestamp) {
        if self.since != Timestamp::MIN && now < self.since + PERIOD {
            return;
        }
        self.since = now;
        for ((cause, name), count) in CAUSES.iter().zip(&mut self.counts) {
            let count = std::mem::take(count);
            if count > EACH && *cause != WarningCause::Line {
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
