//! Classic datagrams to a collector of the C programs, one for each request.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Instant;

use pen_records::mapping::MappingKind;
use pen_records::mapping::packet::PacketRecords;

use super::REFUSAL;
use super::link::{DatagramLink, LinkFault, LinkSend};
use crate::logs::log_thread::{LogBatch, LogCounters};

/// The socket, and the last datagram.
#[derive(Debug)]
pub(in crate::logs) struct ClassicRoad {
    link: DatagramLink,
    counts: Arc<LogCounters>,
    /// When the last datagram counts as written; until then it may be refused.
    in_flight: Option<Instant>,
    trouble: Option<String>,
    buf: Vec<u8>,
}

impl ClassicRoad {
    pub(in crate::logs) fn open(
        addr: SocketAddr,
        counts: Arc<LogCounters>,
    ) -> std::io::Result<Self> {
        let link = DatagramLink::open(addr)?;
        Ok(Self { link, counts, in_flight: None, trouble: None, buf: Vec::new() })
    }

    pub(in crate::logs) fn write(&mut self, batch: &LogBatch) {
        for mapping in PacketRecords(&batch.bytes).mappings() {
            if mapping.kind != MappingKind::Request {
                // The classic format has nothing for this record: it counts as written.
                self.counts.written.fetch_add(1, Relaxed);
                continue;
            }
            self.buf.clear();
            mapping.write_datagram(&mut self.buf);
            match self.link.send(&self.buf) {
                LinkSend::Failed(fault) => {
                    self.settle_in_flight(false);
                    self.counts.failed.fetch_add(1, Relaxed);
                    let LinkFault::Socket(error) = fault else { continue };
                    self.trouble = Some(error.to_string());
                }
                outcome => {
                    self.settle_in_flight(matches!(outcome, LinkSend::PreviousRefused));
                    self.in_flight = Some(Instant::now() + REFUSAL);
                }
            }
        }
    }

    /// Counts the last datagram if no other one follows. Returns the current fault.
    pub(in crate::logs) fn settle(&mut self, now: Instant) -> Option<String> {
        if self.in_flight.is_some_and(|settled| now >= settled) {
            let is_refused = self.link.is_refused();
            self.settle_in_flight(is_refused);
        }
        self.trouble.clone()
    }

    pub(in crate::logs) const fn next_due(&self) -> Option<Instant> {
        self.in_flight
    }

    pub(in crate::logs) fn finish(&mut self) {
        let is_refused = self.link.is_refused();
        self.settle_in_flight(is_refused);
    }

    fn settle_in_flight(&mut self, is_refused: bool) {
        if self.in_flight.take().is_none() {
            return;
        }
        let (count, trouble) = if is_refused {
            (&self.counts.failed, Some(super::NOBODY.to_owned()))
        } else {
            (&self.counts.written, None)
        };
        count.fetch_add(1, Relaxed);
        self.trouble = trouble;
    }
}
