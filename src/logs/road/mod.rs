//! The road of mapping records to a collector: packets by UDP or by a stream, confirmed and repaired.
//!
//! - [`link`]: the socket.
//! - [`run`]: packets that the collector has not confirmed, of this run of pen or of an earlier one.
//! - [`spool`], [`storing`]: such packets on the disk.
//! - [`clock`]: the clock that dates packets.
//! - [`classic`]: the road to a collector of the C programs, which confirms nothing.

pub(super) mod classic;
mod clock;
pub(super) mod link;
mod run;
#[cfg(test)]
mod run_tests;
mod spool;
mod storing;
#[cfg(test)]
pub(super) mod tests;

use std::collections::VecDeque;
use std::hash::{BuildHasher as _, RandomState};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use pen_records::mapping::packet::write_packet;
use pen_records::mapping::packet_times::redate_records;
use pen_records::shipment::{DiscoveryAnswer, DiscoveryQuestion, StreamList};
use tracing::{info, warn};

use self::clock::ClockReading;
pub(super) use self::clock::RecordOrigin;
use self::link::{CollectorLink, LinkFault, LinkReply, LinkSend, plain_options};
pub use self::link::{LinkProofs, LinkSettings};
use self::run::{ROOM, RecordCount, RecordRun, RecordTally, RunRules};
pub use self::storing::SpoolSettings;
use crate::logs::log_thread::{LogBatch, LogCounters};

/// How long a datagram may be refused after it was sent. Its records count when the time is over, or with the next one.
const REFUSAL: Duration = Duration::from_millis(100);
/// Pause after the last records before a collector is told that there are no more, and between two such heartbeats.
const PAUSE: Duration = Duration::from_millis(100);
const QUIET: Duration = Duration::from_secs(1);
/// Silence of a collector after which records wait, and that is said.
const SILENCE: Duration = Duration::from_secs(5);
/// Pause before a question, and with a spool: what is confirmed within a second is not written to the disk.
const ASK: Duration = Duration::from_secs(1);
const ASK_SOON: Duration = Duration::from_millis(250);
/// How long the last records wait for their confirmation at the end.
const END: Duration = Duration::from_secs(1);
/// Pause between two tries to write waiting bytes to a stream.
const BUSY: Duration = Duration::from_millis(5);
/// Why records fail when a datagram is refused.
const NOBODY: &str = "no process listens there";

/// Why records wait although the collector replies.
const STALLED: &str = "the collector takes no records: its messages say why, as for a key without 'records' in the \
                       file of --authorized";

/// The road to a collector of this package.
#[derive(Debug)]
pub(super) struct CollectorRoad {
    link: CollectorLink,
    counts: Arc<LogCounters>,
    /// The number of the next record.
    next: u64,
    own: RecordRun,
    /// Runs that have left packets on the disk, oldest first.
    earlier: VecDeque<RecordRun>,
    spool: Option<SpoolSettings>,
    spool_trouble: Option<String>,
    tidy: Option<Instant>,
    /// The last datagram, until it is known whether somebody listens there.
    in_flight: Option<SentDatagram>,
    /// Records given up, and whether some were since the collector's last reply.
    lost: u64,
    is_losing: bool,
    /// When the next heartbeat is due, once a packet was sent.
    heartbeat: Option<Instant>,
    refused: Option<String>,
    random: RandomState,
    buf: Vec<u8>,
}

/// A datagram that may still be refused.
#[derive(Clone, Copy, Debug)]
struct SentDatagram {
    /// Number of its first record.
    first: u64,
    /// When it counts as written.
    settled: Instant,
}

impl CollectorRoad {
    /// Opens the road; the next record has the number `next`.
    pub(super) fn open(
        addr: SocketAddr,
        (link, spool): (&LinkSettings, Option<SpoolSettings>),
        origin: RecordOrigin,
        next: u64,
        counts: Arc<LogCounters>,
    ) -> io::Result<Self> {
        let RecordOrigin { origin, clock } = origin;
        let link = CollectorLink::open(addr, link)?;
        let is_ordered = matches!(link, CollectorLink::Stream(_));
        let ask = if spool.is_some() { ASK_SOON } else { ASK };
        let rules =
            RunRules { is_sure: spool.is_some() || is_ordered, is_ordered, is_earlier: false, ask };
        let earlier =
            spool.as_ref().map_or(Ok(VecDeque::new()), |spool| storing::earlier(spool, rules))?;
        Ok(Self {
            link,
            counts,
            next,
            own: RecordRun::new(origin, clock, rules, next, None),
            earlier,
            spool,
            spool_trouble: None,
            tidy: None,
            in_flight: None,
            lost: 0,
            is_losing: false,
            heartbeat: None,
            refused: None,
            random: RandomState::new(),
            buf: Vec::new(),
        })
    }

    /// Sends a batch whose first record has the number `first`.
    pub(super) fn write(&mut self, first: u64, batch: &mut LogBatch) {
        self.next = first + u64::from(batch.count);
        let now = Instant::now();
        let sent = self.own.clock.read(ClockReading::now());
        if self.own.clock.is_apart() {
            let clock = self.own.clock;
            redate_records(&mut batch.bytes, |time| clock.date(time, sent));
        }
        self.buf.clear();
        let records = (batch.count, &batch.bytes[..]);
        write_packet(self.own.origin, first, sent, self.dropped(), records, &mut self.buf);
        let outcome = self.own.is_live().then(|| self.link.send(&self.buf));
        let is_sent = matches!(outcome, Some(LinkSend::Sent | LinkSend::PreviousRefused));
        if is_sent {
            self.heartbeat = Some(now + PAUSE);
        }
        // What a socket of UDP does not take is no worse than what is lost on the way.
        let is_passed = outcome.is_some() && !matches!(outcome, Some(LinkSend::Full));
        let tally = self.own.keep((first, self.next), &self.buf, is_passed, now);
        self.add(tally);
        match outcome {
            None | Some(LinkSend::Full) => {}
            Some(LinkSend::Failed(fault)) => {
                self.settle_sent(false);
                let tally = self.own.count(first, RecordCount::Failed);
                self.add(tally);
                self.failed(&fault);
            }
            Some(outcome) => {
                self.settle_sent(matches!(outcome, LinkSend::PreviousRefused));
                self.in_flight = Some(SentDatagram { first, settled: now + REFUSAL });
            }
        }
    }

    /// Does what is due. Returns the current fault.
    pub(super) fn settle(&mut self, now: Instant) -> Option<String> {
        if self.in_flight.is_some_and(|sent| now >= sent.settled) {
            let is_refused = self.link.is_refused();
            self.settle_sent(is_refused);
        }
        self.store(false, now);
        if self.runs_due(now).is_some_and(|due| due <= now) {
            self.repair(now);
        }
        if self.quiet_due().is_some_and(|due| due <= now) {
            self.send_heartbeat(now);
        }
        self.tidy(now);
        self.trouble(now)
    }

    pub(super) fn next_due(&self) -> Option<Instant> {
        let settled = self.in_flight.map(|sent| sent.settled);
        let now = Instant::now();
        let store = self.own.store_due(now).filter(|_| self.may_store());
        let runs = self.runs_due(now);
        [settled, store, runs, self.quiet_due(), self.tidy].into_iter().flatten().min()
    }

    /// Waits a moment for the last confirmation, and leaves the rest on the disk.
    pub(super) fn finish(&mut self) {
        let is_refused = self.link.is_refused();
        self.settle_sent(is_refused);
        let end = Instant::now() + END;
        let is_kept = self.spool.is_some() || self.is_stream();
        if is_kept && self.own.silence(Instant::now()) < SILENCE {
            self.own.ask_now();
            while self.own.waiting() > 0 && Instant::now() < end && self.refused.is_none() {
                self.repair(Instant::now());
                std::thread::park_timeout(Duration::from_millis(5));
            }
        }
        self.store(true, Instant::now());
        let waiting = self.own.waiting();
        if waiting > 0
            && let Some(spool) = &self.spool
        {
            let folder = spool.folder.display();
            info!("about {waiting} mapping records wait in {folder} for the next run");
        }
        let lost = self.own.give_up();
        self.add(lost);
        if waiting == 0
            && let Some(disk) = self.own.disk.take()
        {
            let _ = disk.remove(); // The next run finds it, and finds nothing in it to send.
        }
    }

    /// Records that will never come. The collector does not wait for so many.
    fn dropped(&self) -> u64 {
        self.counts.overrun.load(Relaxed) + self.lost
    }

    /// Counts the records of the last datagram as written, or as lost if nobody listened.
    fn settle_sent(&mut self, is_refused: bool) {
        let Some(SentDatagram { first, .. }) = self.in_flight.take() else { return };
        let counted = if is_refused { RecordCount::Failed } else { RecordCount::Written };
        if !self.is_stream() {
            self.refused = is_refused.then(|| NOBODY.to_owned());
        }
        let tally = self.own.count(first, counted);
        self.add(tally);
    }

    fn runs_due(&self, now: Instant) -> Option<Instant> {
        let earlier = self.earlier.front().and_then(|run| run.due(now));
        let busy = self.link.is_busy().then(|| now + BUSY);
        [self.own.due(now), earlier, busy].into_iter().flatten().min()
    }

    /// Asks the collector which packets have come, hears its reply, and sends others again.
    fn repair(&mut self, now: Instant) {
        self.hear();
        let reading = ClockReading::now();
        let Self { link, own, earlier, .. } = self;
        let (mut has_sent, mut fault) = (false, None);
        for run in std::iter::once(own).chain(earlier.front_mut()) {
            if let Some((nonce, upto)) = run.question(self.random.hash_one(now), now) {
                let shipments = run.told(self.next);
                // In place of lines: what is missing below is not kept any more.
                let (origin, lines) = (run.origin, run.lowest().unwrap_or(upto));
                let streams = StreamList::default();
                self.buf.clear();
                DiscoveryQuestion { nonce, origin, shipments, lines, streams }.write(&mut self.buf);
                // Asked again without a reply.
                if let LinkSend::Failed(failed) = link.send(&self.buf) {
                    fault = Some(failed);
                }
            }
            let send = |packet: &[u8]| match link.send(packet) {
                LinkSend::Sent | LinkSend::PreviousRefused => true,
                LinkSend::Full => false,
                LinkSend::Failed(failed) => {
                    fault = Some(failed);
                    false
                }
            };
            match run.send_burst(reading, now, send) {
                Ok(is_sent) => has_sent |= is_sent,
                Err(error) => self.spool_trouble = Some(format!("cannot read the spool: {error}")),
            }
        }
        if has_sent {
            self.heartbeat = Some(now + PAUSE);
        }
        if let Some(fault) = fault.filter(|_| self.is_stream()) {
            self.failed(&fault);
        }
        let tally = self.own.bound(now);
        self.add(tally);
    }

    /// Takes replies of the collector.
    fn hear(&mut self) {
        let mut reply = [0; 256];
        loop {
            match self.link.receive(&mut reply) {
                LinkReply::Datagram(len) => {
                    let Ok(answer) = DiscoveryAnswer::parse(&reply[..len]) else { continue };
                    self.answered(&answer);
                }
                LinkReply::Refused => {
                    self.settle_sent(true);
                    self.refused = Some(NOBODY.to_owned());
                }
                LinkReply::Broken(error) => return self.failed(&LinkFault::Stream(error)),
                LinkReply::Nothing => return,
            }
        }
    }

    const fn is_stream(&self) -> bool {
        matches!(self.link, CollectorLink::Stream(_))
    }

    /// Takes a failure. What a broken connection had under way is sent again by the next.
    fn failed(&mut self, fault: &LinkFault) {
        match fault {
            LinkFault::Socket(error) => self.refused = Some(error.to_string()),
            LinkFault::Stream(error) if error.is_new() => {
                self.refused = Some(plain_options(&error.to_string()));
                std::iter::once(&mut self.own)
                    .chain(&mut self.earlier)
                    .for_each(RecordRun::disconnect);
            }
            LinkFault::Stream(_) => {}
        }
    }

    fn answered(&mut self, answer: &DiscoveryAnswer) {
        if let Some(tally) = self.own.answered(answer) {
            self.refused = None;
            self.add(tally);
            if std::mem::take(&mut self.is_losing) {
                info!("the collector replies again");
            }
        }
        let Some(run) = self.earlier.front_mut() else { return };
        if run.answered(answer).is_some()
            && run.waiting() == 0
            && let Some(disk) = self.earlier.pop_front().and_then(|run| run.disk)
        {
            info!("the collector has all mapping records of an earlier run");
            if let Err(error) = disk.remove() {
                self.spool_trouble = Some(format!("cannot tidy the spool: {error}"));
            }
        }
    }

    /// Returns when to send a heartbeat, to a collector that has replied.
    fn quiet_due(&self) -> Option<Instant> {
        let is_told = self.own.is_known() && self.own.is_complete();
        self.heartbeat.filter(|_| is_told)
    }

    /// Sends a packet without records: all records so far have been sent. The queue is empty, since a heartbeat is due only
    /// when the thread has waited for a batch in vain.
    fn send_heartbeat(&mut self, now: Instant) {
        self.heartbeat = Some(now + QUIET);
        self.buf.clear();
        let (sent, dropped) = (self.own.clock.read(ClockReading::now()), self.dropped());
        write_packet(self.own.origin, self.next, sent, dropped, (0, b""), &mut self.buf);
        let _ = self.link.send(&self.buf); // The next one says more.
    }

    /// Changes the counters, and says once that records are lost.
    fn add(&mut self, tally: RecordTally) {
        for (count, change) in
            [(&self.counts.written, tally.written), (&self.counts.failed, tally.failed)]
        {
            if change < 0 {
                count.fetch_sub(change.unsigned_abs(), Relaxed);
            } else {
                count.fetch_add(change.unsigned_abs(), Relaxed);
            }
        }
        self.lost += tally.lost;
        if tally.lost > 0 && !std::mem::replace(&mut self.is_losing, true) {
            let room = ROOM >> 20;
            match &self.spool {
                None => warn!(
                    "the collector does not reply: records are lost, since more than {room} MiB wait (log_spool DIR \
                     keeps more on the disk)"
                ),
                Some(spool) => warn!(
                    "the collector does not reply: records are lost, since the spool {} is full (log_spool_size) or \
                     cannot be written",
                    spool.folder.display()
                ),
            }
        }
    }

    fn trouble(&self, now: Instant) -> Option<String> {
        let is_silent = self.own.is_known() && self.own.silence(now) >= SILENCE;
        let silence = || is_silent.then(|| "the collector does not reply: records wait".to_owned());
        let stall = || self.own.is_stalled().then(|| STALLED.to_owned());
        let spool = || self.spool_trouble.clone();
        self.refused.clone().or_else(silence).or_else(stall).or_else(spool)
    }
}
