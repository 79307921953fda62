//! Classic records for a collector of the C programs, sent by the worker itself.
//!
//! Such a collector joins an access line with what has come by then and looks at no times. So a record has to
//! be there before the server can answer, which no queue to another thread can promise: it leaves before the
//! request does. Sending never waits; what cannot be sent goes the way of all other records, and is counted there.

use std::net::UdpSocket;
use std::sync::atomic::Ordering::Relaxed;

use pen_records::mapping::{Mapping, MappingKind};
use tracing::debug;

use crate::config::{LogTarget, RuntimeSettings};
use crate::logs::mapping_log::{Remote, socket_to};

/// A worker's own way to the collector.
#[derive(Debug)]
pub struct Direct {
    log: Remote,
    /// Where it leads, if it does.
    road: Option<(LogTarget, UdpSocket)>,
    buf: Vec<u8>,
}

impl Direct {
    /// One that leads nowhere, and counts for this log what it will send.
    #[must_use]
    pub const fn new(log: Remote) -> Self {
        Self { log, road: None, buf: Vec::new() }
    }

    /// Leads to where these settings say, if that is a collector of the C programs.
    pub fn turn_to(&mut self, settings: &RuntimeSettings) {
        let target = settings.log.as_ref().filter(|_| settings.is_classic_collector());
        if self.road.as_ref().map(|(to, _)| to) == target {
            return;
        }
        self.road = target.and_then(|target| {
            let LogTarget::Collector { addr, .. } = target else { return None };
            let socket = socket_to(*addr).inspect_err(|error| {
                debug!("records of this worker go by the mapping log: {error}");
            });
            Some((target.clone(), socket.ok()?))
        });
    }

    /// Sends a record; whether that was possible.
    pub fn tell(&mut self, mapping: &Mapping<'_>) -> bool {
        let Some((_, socket)) = &self.road else { return false };
        // Of other kinds this spelling has nothing to say.
        if mapping.kind == MappingKind::Request {
            self.buf.clear();
            mapping.write_datagram(&mut self.buf);
            if let Err(error) = socket.send(&self.buf) {
                debug!("a record goes by the mapping log: {error}");
                return false;
            }
        }
        let counts = self.log.counts();
        counts.made.fetch_add(1, Relaxed);
        counts.written.fetch_add(1, Relaxed);
        true
    }
}
