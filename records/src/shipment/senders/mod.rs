//! Received, missing and duplicate shipments of each shipper.

mod snapshot;

use indexmap::IndexMap;

use super::sender_clock::SenderClock;
use super::stream_table::StreamTable;
use super::{
    DiscoveryQuestion, Reassembly, ReceivedShipments, SenderOrigin, Shipment, StreamId, StreamList,
    StreamPosition, StreamSpan,
};
use crate::clock_hand::{Active, ClockHand};
use crate::received_numbers::{NumberPlace, ReceivedNumbers, is_plausible};
use crate::time::Timestamp;

/// The most lines that a shipper can have dropped when it is seen first.
const AT_FIRST: u64 = 1 << 32;

/// Streams remembered, per shipper of the limit.
const STREAMS: usize = 4;

/// Receives shipments of many shippers: delivers each line once and counts missing lines.
///
/// Shipments are numbered. A duplicate is dropped, and so is a possible duplicate: a shipment of a gap given up for 1,024
/// later gaps. A gap is noticed when a higher number comes, in a shipment or a [`DiscoveryQuestion`], and closed by the
/// late shipment. Implausibly high numbers are ignored. A restarted shipper is a new sender. Beyond the bounds, a quiet
/// shipper is forgotten; the losses stay counted. Lines of followed files are also known by place: lines from an earlier run are not
/// delivered again.
#[derive(Debug)]
pub struct SenderTable {
    senders: IndexMap<SenderOrigin, SenderState>,
    hand: ClockHand,
    max_senders: usize,
    reassembly: Reassembly,
    streams: StreamTable,
    /// Counters, without those of the shippers in `senders`.
    counts: ShipmentCounts,
}

/// The most state that is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SenderLimits {
    /// Shippers.
    pub senders: usize,
    /// Incomplete long lines.
    pub lines: usize,
    /// Bytes of incomplete long lines.
    pub bytes: usize,
}

impl Default for SenderLimits {
    fn default() -> Self {
        Self { senders: 4096, lines: 256, bytes: 16 << 20 }
    }
}

/// The result of receiving a shipment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub struct ShipmentArrival {
    /// Whether the lines were delivered.
    pub outcome: ShipmentOutcome,
    /// Whether this is the first shipment of its shipper that was seen: a new or restarted shipper,
    /// or a restarted collector.
    pub first: bool,
}

/// Whether the lines of a shipment were delivered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ShipmentOutcome {
    /// They were delivered.
    New,
    /// The shipment was received before.
    Duplicate,
    /// The shipment is too late to rule out a duplicate; its lines count as lost.
    Late,
    /// Ignored: the numbers are implausibly far ahead.
    TooFar,
    /// Ignored, as if lost on the way: its stream has too many gaps already.
    Scattered,
}

/// Counters over all shippers. Lost, cut and dropped lines are counted from the first received
/// shipment of a shipper.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ShipmentCounts {
    /// Shippers seen; each run of a shipper counts.
    pub senders: u64,
    /// Shippers forgotten because there were too many.
    pub forgotten: u64,
    /// Shipments whose lines were delivered.
    pub shipments: u64,
    /// Lines delivered.
    pub lines: u64,
    /// Lines of followed files received from an earlier run of the shipper; not delivered again.
    pub known_lines: u64,
    /// Duplicate shipments.
    pub duplicates: u64,
    /// Shipments that came too late to rule out a duplicate.
    pub late: u64,
    /// Shipments and questions ignored for implausibly high numbers.
    pub too_far: u64,
    /// Shipments missing now.
    pub lost_shipments: u64,
    /// Lines missing now, including lines that are incomplete.
    pub lost_lines: u64,
    /// Lines that shippers dropped before numbering them.
    pub dropped: u64,
    /// Lines that shippers cut.
    pub cut: u64,
    /// Incomplete lines abandoned for lack of space; also counted in `lost_lines`.
    pub abandoned: u64,
}

#[derive(Debug)]
struct SenderState {
    shipments: ReceivedNumbers,
    lines: LineRange,
    /// When the last shipment came.
    last: Timestamp,
    /// The shipper's own count of dropped lines.
    dropped: u64,
    cut: u32,
    clock: SenderClock,
    /// Whether the shipper was active since the clock hand last passed.
    active: bool,
}

/// Lines `base..end`, of which `came` were received.
#[derive(Clone, Copy, Debug)]
struct LineRange {
    base: u64,
    end: u64,
    came: u64,
}

impl SenderTable {
    /// Creates an empty table.
    #[must_use]
    pub fn new(limits: SenderLimits) -> Self {
        Self {
            senders: IndexMap::new(),
            hand: ClockHand::default(),
            max_senders: limits.senders.max(1),
            reassembly: Reassembly::new(limits.lines, limits.bytes),
            streams: StreamTable::new(limits.senders.saturating_mul(STREAMS)),
            counts: ShipmentCounts::default(),
        }
    }

    /// Whether a shipment of this run of a shipper was received, and is not forgotten.
    #[must_use]
    pub fn knows(&self, origin: &SenderOrigin) -> bool {
        self.senders.contains_key(origin)
    }

    /// Receives a shipment that arrived `now`, and calls `deliver` with each complete line that was
    /// not delivered before. The line has no line end; its time is when it was read, by the
    /// collector's clock, or `now` if the shipper sent no ages.
    pub fn receive(
        &mut self,
        shipment: &Shipment<'_>,
        now: Timestamp,
        mut deliver: impl FnMut(&[u8], Timestamp),
    ) -> ShipmentArrival {
        if shipment.stream.is_some_and(|span| !self.streams.has_room(&span)) {
            return ShipmentArrival { outcome: ShipmentOutcome::Scattered, first: false };
        }
        let (index, first) = self.sender(shipment, now);
        let sender = &mut self.senders[index];
        let outcome = sender.take(shipment, now);
        match outcome {
            ShipmentOutcome::New | ShipmentOutcome::Scattered => {}
            ShipmentOutcome::Duplicate => self.counts.duplicates += 1,
            ShipmentOutcome::Late => self.counts.late += 1,
            ShipmentOutcome::TooFar => self.counts.too_far += 1,
        }
        if outcome != ShipmentOutcome::New {
            return ShipmentArrival { outcome, first };
        }
        let sent = sender.clock.arrived(shipment.number, shipment.sent, now);
        let (came, known) = self.deliver(shipment, sent, now, &mut deliver);
        self.senders[index].lines.came += came;
        self.counts.shipments += 1;
        self.counts.lines += came - known;
        self.counts.known_lines += known;
        ShipmentArrival { outcome, first }
    }

    /// Calls `deliver` with the lines of a new shipment, except for lines from an earlier run. Returns the numbers of all lines
    /// and of known lines.
    fn deliver(
        &mut self,
        shipment: &Shipment<'_>,
        sent: Timestamp,
        now: Timestamp,
        mut deliver: impl FnMut(&[u8], Timestamp),
    ) -> (u64, u64) {
        let mut ages = shipment.ages();
        let mut read = || ages.next().map_or(now, |age| SenderClock::read(sent, age, now));
        let (mut came, mut known) = (0, 0);
        let old = shipment.stream.filter(|span| self.streams.overlaps(span));
        if let Some(piece) = shipment.piece() {
            let line = self.reassembly.add(shipment.origin, shipment.first_line, &piece);
            let Some(line) = line else { return (0, 0) };
            came = 1;
            if old.is_some_and(|span| self.streams.covers(&span)) {
                known = 1;
            } else {
                deliver(&line, read());
            }
        }
        let mut place = old.map(|span| StreamSpan { end: span.start, ..span });
        for line in shipment.lines() {
            let time = read();
            came += 1;
            if let (Some(place), Some(old)) = (&mut place, &old) {
                let end = place.end.saturating_add(line.len() as u64 + 1);
                (place.start, place.end) = (place.end, end.min(old.end));
                if self.streams.covers(place) {
                    known += 1;
                    continue;
                }
            }
            deliver(line, time);
        }
        if let Some(span) = &shipment.stream {
            self.streams.take(span);
        }
        (came, known)
    }

    /// Returns the positions in these streams, for the answer to a question.
    #[must_use]
    pub fn positions(&self, streams: &StreamList<StreamId>) -> StreamList<StreamPosition> {
        StreamList::of(streams.iter().map(|stream| self.streams.position(&stream)))
    }

    /// Records how far a shipper has come, so that a loss of its last shipments is noticed. A
    /// question does not add a shipper: questions are cheap to forge.
    pub fn asked(&mut self, question: &DiscoveryQuestion, now: Timestamp) {
        if let Some(sender) = self.senders.get_mut(&question.origin) {
            if sender.is_plausible(question.lines, now)
                && sender.shipments.announce(question.shipments, now)
            {
                sender.active = true;
                sender.lines.end = sender.lines.end.max(question.lines);
            } else {
                self.counts.too_far += 1;
            }
        }
    }

    /// Returns which shipments of a shipper have come, for the answer to its question.
    #[must_use]
    pub fn received(&self, question: &DiscoveryQuestion) -> ReceivedShipments {
        let sender = self.senders.get(&question.origin);
        let (from, upto) =
            sender.map_or((question.shipments, question.shipments), |it| it.shipments.first_run());
        ReceivedShipments { from, upto }
    }

    /// Sums up the counters. Iterates over all shippers.
    #[must_use]
    pub fn counts(&self) -> ShipmentCounts {
        let mut counts = self.counts;
        counts.abandoned = self.reassembly.abandoned();
        for sender in self.senders.values() {
            counts.add(sender);
        }
        counts
    }

    /// The number of shippers forgotten because there were too many.
    #[must_use]
    pub fn forgotten(&self) -> u64 {
        self.counts.forgotten
    }

    /// The number of shippers remembered.
    #[must_use]
    pub fn len(&self) -> usize {
        self.senders.len()
    }

    /// Whether no shipment has been received.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.senders.is_empty()
    }

    /// Finds or adds the sender of a shipment; returns its index and whether it is new.
    fn sender(&mut self, shipment: &Shipment<'_>, now: Timestamp) -> (usize, bool) {
        if let Some(index) = self.senders.get_index_of(&shipment.origin) {
            return (index, false);
        }
        if self.senders.len() >= self.max_senders {
            self.forget_one();
        }
        self.counts.senders += 1;
        let state = SenderState::new(shipment, now);
        let (index, _) = self.senders.insert_full(shipment.origin, state);
        (index, true)
    }

    /// Removes a quiet shipper.
    fn forget_one(&mut self) {
        if let Some(sender) = self.hand.remove_quiet(&mut self.senders) {
            self.counts.add(&sender);
            self.counts.forgotten += 1;
        }
    }
}

impl Active for SenderState {
    fn active(&mut self) -> &mut bool {
        &mut self.active
    }
}

impl ShipmentCounts {
    fn add(&mut self, sender: &SenderState) {
        self.lost_shipments = self.lost_shipments.saturating_add(sender.shipments.missing());
        self.lost_lines = self.lost_lines.saturating_add(sender.lines.missing());
        self.dropped = self.dropped.saturating_add(sender.dropped);
        self.cut += u64::from(sender.cut);
    }
}

impl SenderState {
    fn new(shipment: &Shipment<'_>, now: Timestamp) -> Self {
        Self {
            shipments: ReceivedNumbers::new(shipment.number, now),
            lines: LineRange::at(shipment.first_line),
            last: now,
            dropped: if shipment.dropped <= AT_FIRST { shipment.dropped } else { 0 },
            cut: 0,
            clock: SenderClock::new(),
            active: true,
        }
    }

    /// Takes the numbers of a shipment. Returns whether to deliver it.
    fn take(&mut self, shipment: &Shipment<'_>, now: Timestamp) -> ShipmentOutcome {
        if !self.is_plausible(shipment.first_line, now) {
            return ShipmentOutcome::TooFar;
        }
        let end = shipment.number.saturating_add(1);
        match self.shipments.take(shipment.number, end, now) {
            NumberPlace::Next(_) | NumberPlace::Gap | NumberPlace::Before(_) => {}
            NumberPlace::Known => return ShipmentOutcome::Duplicate,
            NumberPlace::Forgotten => return ShipmentOutcome::Late,
            NumberPlace::TooFar => return ShipmentOutcome::TooFar,
        }
        let end = shipment.first_line.saturating_add(shipment.line_count().into());
        self.lines.reach(shipment.first_line, end);
        if is_plausible(self.dropped, shipment.dropped, self.last, now) {
            self.dropped = self.dropped.max(shipment.dropped);
        }
        self.cut = self.cut.max(shipment.cut);
        (self.last, self.active) = (now, true);
        ShipmentOutcome::New
    }

    /// Whether a shipper may be at this line `now`.
    fn is_plausible(&self, line: u64, now: Timestamp) -> bool {
        is_plausible(self.lines.end, line, self.last, now)
    }
}

impl LineRange {
    const fn at(number: u64) -> Self {
        Self { base: number, end: number, came: 0 }
    }

    fn reach(&mut self, base: u64, end: u64) {
        self.base = self.base.min(base);
        self.end = self.end.max(end);
    }

    const fn missing(&self) -> u64 {
        (self.end - self.base).saturating_sub(self.came)
    }
}

#[cfg(test)]
mod tests;
