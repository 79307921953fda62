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
use crate::logs::mapping_log::{MappingLogControl, connected_socket};

/// A worker's own way to the collector.
#[derive(Debug)]
pub struct ClassicSender {
    log: MappingLogControl,
    /// Where it leads, if it does.
    collector: Option<(LogTarget, UdpSocket)>,
    buf: Vec<u8>,
}

impl ClassicSender {
    /// One that leads nowhere, and counts for this log what it will send.
    #[must_use]
    pub const fn new(log: MappingLogControl) -> Self {
        Self { log, collector: None, buf: Vec::new() }
    }

    /// Leads to where these settings say, if that is a collector of the C programs.
    pub fn apply_settings(&mut self, settings: &RuntimeSettings) {
        let target = settings.log.as_ref().filter(|_| settings.is_classic_collector());
        if self.collector.as_ref().map(|(to, _)| to) == target {
            return;
        }
        self.collector = target.and_then(|target| {
            let LogTarget::Collector { addr, .. } = target else { return None };
            let socket = connected_socket(*addr).inspect_err(|error| {
                debug!("records of this worker go by the mapping log: {error}");
            });
            Some((target.clone(), socket.ok()?))
        });
    }

    /// Sends a record; whether that was possible.
    pub fn try_send(&mut self, mapping: &Mapping<'_>) -> bool {
        let Some((_, socket)) = &self.collector else { return false };
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
