//! Classic records for a collector of the C programs, sent by the worker itself.
//!
//! The C collector joins an access line with the records that have arrived by then, and ignores all times. So the record
//! must arrive before the server can log the request: the worker sends it before it forwards the request, since a queue to
//! another thread cannot promise that. Sending never waits. A record that cannot be sent goes through the log thread.

use std::net::UdpSocket;
use std::sync::atomic::Ordering::Relaxed;

use pen_records::mapping::{Mapping, MappingKind};
use tracing::debug;

use crate::config::{LogTarget, RuntimeSettings};
use crate::logs::mapping_log::MappingLogControl;
use crate::logs::road::link::connected_socket;

/// The socket of a worker towards a C collector.
#[derive(Debug)]
pub struct ClassicSender {
    log: MappingLogControl,
    /// The collector and the socket connected to it; `None` where the settings name none.
    collector: Option<(LogTarget, UdpSocket)>,
    buf: Vec<u8>,
}

impl ClassicSender {
    /// Returns a sender without a collector, which counts its records in `log`.
    #[must_use]
    pub const fn new(log: MappingLogControl) -> Self {
        Self { log, collector: None, buf: Vec::new() }
    }

    /// Connects to the collector that `settings` name, if it is a collector of the C programs.
    pub fn apply_settings(&mut self, settings: &RuntimeSettings) {
        let target = settings.log.as_ref().filter(|_| settings.is_classic_collector());
        if self.collector.as_ref().map(|(to, _)| to) == target {
            return;
        }
        self.collector = target.and_then(|target| {
            let LogTarget::Collector { addr, .. } = target else { return None };
            let socket = connected_socket(*addr).inspect_err(|error| {
                debug!(%error, "no socket for direct records: the log thread sends them");
            });
            Some((target.clone(), socket.ok()?))
        });
    }

    /// Sends a record. Returns whether it was sent; `false` leaves it to the log thread.
    pub fn try_send(&mut self, mapping: &Mapping<'_>) -> bool {
        let Some((_, socket)) = &self.collector else { return false };
        // The classic format has a line for requests only.
        if mapping.kind == MappingKind::Request {
            self.buf.clear();
            mapping.write_datagram(&mut self.buf);
            if let Err(error) = socket.send(&self.buf) {
                debug!(%error, "cannot send a record directly: the log thread sends it");
                return false;
            }
        }
        let counts = self.log.counts();
        counts.made.fetch_add(1, Relaxed);
        counts.written.fetch_add(1, Relaxed);
        true
    }
}
