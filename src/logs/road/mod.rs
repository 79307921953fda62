//! The road of mapping records to a collector: packets by UDP, confirmed and repaired.
//!
//! - [`link`]: the socket.
//! - [`ring`]: packets that the collector has not confirmed.
//! - [`classic`]: the road to a collector of the C programs, which confirms nothing.

pub(super) mod classic;
pub(super) mod link;
mod ring;
#[cfg(test)]
mod tests;

use std::hash::{BuildHasher as _, RandomState};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use pen_records::mapping::packet::{restamp_packet, write_packet};
use pen_records::shipment::{DiscoveryAnswer, DiscoveryQuestion, SenderOrigin, StreamList};
use tracing::{info, warn};

use self::link::{DatagramLink, LinkReply, LinkSend};
use self::ring::{PacketRing, SettledRecords};
use crate::logs::log_thread::{LogBatch, LogCounters};
use crate::logs::mapping_log::wall_clock;

/// How long a datagram may be refused after it was sent. Its records count when the time is over, or with the next one.
const REFUSAL: Duration = Duration::from_millis(100);
/// Silence after which a collector is told that there are no records.
const QUIET: Duration = Duration::from_secs(1);
/// Why records fail when a datagram is refused.
const NOBODY: &str = "no process listens there";

/// The road to a collector of this package.
#[derive(Debug)]
pub(super) struct CollectorRoad {
    link: DatagramLink,
    counts: Arc<LogCounters>,
    origin: SenderOrigin,
    /// The number of the next record.
    next: u64,
    /// The last datagram, until it is known whether somebody listens there.
    in_flight: Option<SentDatagram>,
    /// Packets that the collector has not confirmed.
    ring: PacketRing,
    /// Records were given up since the collector's last reply.
    is_away: bool,
    /// When the last packet was sent.
    last_packet: Option<Instant>,
    trouble: Option<String>,
    random: RandomState,
    buf: Vec<u8>,
}

/// A datagram that may still be refused.
#[derive(Clone, Copy, Debug)]
struct SentDatagram {
    records: u64,
    /// When it counts as written.
    settled: Instant,
}

impl CollectorRoad {
    pub(super) fn open(
        addr: SocketAddr,
        origin: SenderOrigin,
        counts: Arc<LogCounters>,
    ) -> io::Result<Self> {
        Ok(Self {
            link: DatagramLink::open(addr)?,
            counts,
            origin,
            next: 0,
            in_flight: None,
            ring: PacketRing::default(),
            is_away: false,
            last_packet: None,
            trouble: None,
            random: RandomState::new(),
            buf: Vec::new(),
        })
    }

    /// Sends a batch whose first record has the number `first`.
    pub(super) fn write(&mut self, first: u64, batch: &LogBatch) {
        self.next = first + u64::from(batch.count);
        let (now, records) = (Instant::now(), (batch.count, &batch.bytes[..]));
        self.buf.clear();
        write_packet(self.origin, first, wall_clock(), self.dropped(), records, &mut self.buf);
        let sent = self.link.send(&self.buf);
        self.last_packet = Some(now);
        self.count(sent, batch.count.into());
        let given_up = self.ring.keep((first, self.next), &self.buf, now);
        self.count_given_up(given_up);
    }

    /// Does what is due. Returns the current fault.
    pub(super) fn settle(&mut self, now: Instant) -> Option<String> {
        if self.in_flight.is_some_and(|sent| now >= sent.settled) {
            self.settle_in_flight();
        }
        if self.ring.due().is_some_and(|due| due <= now) {
            self.repair(now);
        }
        if self.quiet_due().is_some_and(|due| due <= now) {
            self.send_heartbeat(now);
        }
        self.trouble.clone()
    }

    pub(super) fn next_due(&self) -> Option<Instant> {
        let settled = self.in_flight.map(|sent| sent.settled);
        [settled, self.ring.due(), self.quiet_due()].into_iter().flatten().min()
    }

    pub(super) fn finish(&mut self) {
        self.settle_in_flight();
    }

    /// Records that were dropped here.
    fn dropped(&self) -> u64 {
        self.counts.overrun.load(Relaxed) + self.counts.failed.load(Relaxed)
    }

    /// Counts the previous datagram by the result of sending the next.
    fn count(&mut self, sent: LinkSend, records: u64) {
        match sent {
            LinkSend::Failed(error) => {
                self.settle_sent(false);
                self.counts.failed.fetch_add(records, Relaxed);
                self.trouble = Some(error.to_string());
            }
            outcome => {
                self.settle_sent(matches!(outcome, LinkSend::PreviousRefused));
                let settled = Instant::now() + REFUSAL;
                self.in_flight = Some(SentDatagram { records, settled });
            }
        }
    }

    /// Counts the last datagram: no other one follows for a while.
    fn settle_in_flight(&mut self) {
        let is_refused = self.link.is_refused();
        self.settle_sent(is_refused);
    }

    /// Counts the records of the last datagram as written, or as lost if nobody listened.
    fn settle_sent(&mut self, is_refused: bool) {
        let Some(SentDatagram { records, .. }) = self.in_flight.take() else { return };
        if is_refused {
            if let Some(packet) = self.ring.last_mut() {
                packet.is_failed = true;
            }
            self.counts.failed.fetch_add(records, Relaxed);
            self.trouble = Some(NOBODY.to_owned());
        } else {
            self.counts.written.fetch_add(records, Relaxed);
            self.trouble = None;
        }
    }

    /// Asks the collector which packets have come, hears its reply, and sends others again.
    fn repair(&mut self, now: Instant) {
        self.hear();
        let given_up = self.ring.give_up(now);
        self.count_given_up(given_up);
        if let Some(nonce) = self.ring.question(self.random.hash_one(now), self.next, now) {
            let (origin, shipments, lines) = (self.origin, self.next, 0);
            let streams = StreamList::default();
            self.buf.clear();
            DiscoveryQuestion { nonce, origin, shipments, lines, streams }.write(&mut self.buf);
            let _ = self.link.send(&self.buf); // Asked again without a reply.
        }
        if self.ring.is_repairing() {
            let sent = wall_clock();
            for packet in self.ring.next_again() {
                restamp_packet(packet, sent);
                if matches!(self.link.send(packet), LinkSend::Failed(_)) {
                    break; // What is missing is sent after the next reply.
                }
            }
        }
    }

    /// Takes replies of the collector.
    fn hear(&mut self) {
        let mut reply = [0; 256];
        loop {
            match self.link.receive(&mut reply) {
                LinkReply::Datagram(len) => {
                    let Ok(answer) = DiscoveryAnswer::parse(&reply[..len]) else { continue };
                    if std::mem::take(&mut self.is_away) {
                        info!("the collector replies again");
                    }
                    let confirmed = self.ring.answered(answer.nonce, answer.received);
                    self.counts.failed.fetch_sub(confirmed.failed, Relaxed);
                    self.counts.written.fetch_add(confirmed.failed, Relaxed);
                }
                LinkReply::Refused => self.settle_sent(true),
                LinkReply::Nothing => return,
            }
        }
    }

    /// Returns when to send a heartbeat, to a collector that has replied.
    fn quiet_due(&self) -> Option<Instant> {
        let is_complete = self.ring.is_known() && !self.ring.is_repairing();
        self.last_packet.filter(|_| is_complete).map(|last| last + QUIET)
    }

    /// Sends a packet without records: all records so far have been sent. The queue is empty, since a heartbeat is due only
    /// when the thread has waited for a batch in vain.
    fn send_heartbeat(&mut self, now: Instant) {
        self.last_packet = Some(now);
        self.buf.clear();
        let dropped = self.dropped();
        write_packet(self.origin, self.next, wall_clock(), dropped, (0, b""), &mut self.buf);
        let _ = self.link.send(&self.buf); // The next one says more.
    }

    /// Counts records as failed that were sent, never confirmed, and are not kept any longer.
    fn count_given_up(&mut self, given_up: SettledRecords) {
        let lost = given_up.all - given_up.failed;
        if lost > 0 {
            self.counts.written.fetch_sub(lost, Relaxed);
            self.counts.failed.fetch_add(lost, Relaxed);
            if !std::mem::replace(&mut self.is_away, true) {
                warn!("the collector does not reply: records are lost");
            }
        }
    }
}
