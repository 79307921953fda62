//! Connections that are not read for a while, since their senders have used up their quota. TCP pushes back on the senders.

use std::collections::BTreeSet;
use std::time::Instant;

use pen_records::time::Timestamp;

use super::{StreamId, Streams};

/// The connections that are not read, by the time when they are read again.
#[derive(Debug, Default)]
pub(super) struct HeldStreams(BTreeSet<(Instant, StreamId)>);

impl HeldStreams {
    pub(super) fn next_due(&self) -> Option<Instant> {
        self.0.first().map(|(due, _)| *due)
    }

    /// Returns the next connection that is due.
    fn pop_due(&mut self, now: Instant) -> Option<(Instant, StreamId)> {
        (self.next_due()? <= now).then(|| self.0.pop_first()).flatten()
    }
}

impl Streams {
    /// Reads nothing more of a connection until `until`.
    pub(super) fn hold(&mut self, id: StreamId, until: Instant, now: Timestamp) {
        let Some(connection) = self.connections.get_mut(&id) else { return };
        connection.held = Some(until);
        self.counts.held += 1;
        self.held.0.insert((until, id));
        self.watch_connection(id, now);
    }

    /// Reads connections again whose time is over.
    pub(super) fn release_held(&mut self, (now, time): (Instant, Timestamp)) {
        while let Some((until, id)) = self.held.pop_due(now) {
            let Some(connection) = self.connections.get_mut(&id) else { continue };
            if connection.held == Some(until) {
                connection.held = None;
                self.watch_connection(id, time);
            }
        }
    }
}
