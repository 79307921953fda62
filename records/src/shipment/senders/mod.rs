//! Received, missing and duplicate shipments of each shipper.

mod snapshot;

use indexmap::IndexMap;

use super::sender_clock::SenderClock;
use super::{DiscoveryQuestion, Reassembly, ReceivedShipments, SenderOrigin, Shipment};
use crate::received_numbers::{NumberPlace, ReceivedNumbers, is_plausible};
use crate::time::Timestamp;

/// The most lines that a shipper can have dropped when it is seen first.
const AT_FIRST: u64 = 1 << 32;

/// Receives shipments of many shippers: delivers each line once and counts missing lines.
///
/// Shipments are numbered. A duplicate is dropped, and so is a possible duplicate: a shipment of a gap given up for 1,024
/// later gaps. A gap is noticed when a higher number comes, in a shipment or a [`DiscoveryQuestion`], and closed by the
/// late shipment. Implausibly high numbers are ignored. A restarted shipper is a new sender. Beyond the bounds, a quiet
/// shipper is forgotten; the losses stay counted.
#[derive(Debug)]
pub struct SenderTable {
    senders: IndexMap<SenderOrigin, SenderState>,
    /// The clock hand: index of the next shipper to consider for removal.
    hand: usize,
    max_senders: usize,
    reassembly: Reassembly,
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
            hand: 0,
            max_senders: limits.senders.max(1),
            reassembly: Reassembly::new(limits.lines, limits.bytes),
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
        let (index, first) = self.sender(shipment, now);
        let sender = &mut self.senders[index];
        let outcome = sender.take(shipment, now);
        match outcome {
            ShipmentOutcome::New => {}
            ShipmentOutcome::Duplicate => self.counts.duplicates += 1,
            ShipmentOutcome::Late => self.counts.late += 1,
            ShipmentOutcome::TooFar => self.counts.too_far += 1,
        }
        if outcome != ShipmentOutcome::New {
            return ShipmentArrival { outcome, first };
        }
        let sent = sender.clock.arrived(shipment.number, shipment.sent, now);
        let mut ages = shipment.ages();
        let mut read = || ages.next().map_or(now, |age| SenderClock::read(sent, age, now));
        let mut count = 0;
        for line in shipment.lines() {
            deliver(line, read());
            count += 1;
        }
        if let Some(piece) = shipment.piece()
            && let Some(line) = self.reassembly.add(shipment.origin, shipment.first_line, &piece)
        {
            deliver(&line, read());
            count += 1;
        }
        self.senders[index].lines.came += count;
        self.counts.shipments += 1;
        self.counts.lines += count;
        ShipmentArrival { outcome, first }
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

    /// Removes a shipper that was quiet since the clock hand last passed.
    fn forget_one(&mut self) {
        loop {
            if self.hand >= self.senders.len() {
                self.hand = 0;
            }
            let sender = &mut self.senders[self.hand];
            if !std::mem::take(&mut sender.active) {
                break;
            }
            self.hand += 1;
        }
        if let Some((_, sender)) = self.senders.swap_remove_index(self.hand) {
            self.counts.add(&sender);
            self.counts.forgotten += 1;
        }
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
mod tests {
    use super::*;
    use crate::shipment::{SendStamp, ShipmentServer, ShipmentWriter};
    use crate::time::Timestamp;

    pub(super) const ORIGIN: SenderOrigin =
        SenderOrigin { id: 1, start: Timestamp::from_micros(5) };

    /// `count` shipments of two lines each: `0 0`, `0 1`, `1 0` and so on.
    pub(super) fn shipments(origin: SenderOrigin, count: u64) -> Vec<Vec<u8>> {
        let mut writer = ShipmentWriter::new(origin, ShipmentServer::default(), 512);
        (0..count)
            .filter_map(|number| {
                for line in 0..2 {
                    let _ = writer.push(format!("{number} {line}").as_bytes(), None);
                }
                writer.finish(SendStamp::default(), <[u8]>::to_vec)
            })
            .collect()
    }

    pub(super) fn receive(senders: &mut SenderTable, datagram: &[u8]) -> (ShipmentOutcome, usize) {
        let shipment = Shipment::parse(datagram).expect("we wrote it");
        let mut lines = 0;
        let arrival = senders.receive(&shipment, Timestamp::default(), |_, _| lines += 1);
        (arrival.outcome, lines)
    }

    #[test]
    fn order_does_not_matter_and_what_comes_twice_is_given_out_once() {
        let sent = shipments(ORIGIN, 5);
        let mut senders = SenderTable::new(SenderLimits::default());
        for (number, expected, lost) in [
            (2, (ShipmentOutcome::New, 2), 0),
            (0, (ShipmentOutcome::New, 2), 2),
            (2, (ShipmentOutcome::Duplicate, 0), 2),
            (4, (ShipmentOutcome::New, 2), 4),
            (1, (ShipmentOutcome::New, 2), 2),
            (3, (ShipmentOutcome::New, 2), 0),
            (0, (ShipmentOutcome::Duplicate, 0), 0),
        ] {
            assert_eq!(receive(&mut senders, &sent[number]), expected, "shipment {number}");
            assert_eq!(senders.counts().lost_lines, lost, "after shipment {number}");
        }
        let counts = senders.counts();
        assert_eq!((counts.shipments, counts.lines, counts.duplicates), (5, 10, 2));
    }

    #[test]
    fn what_is_sent_again_after_an_outage_is_taken_however_many_came_after_it() {
        let sent = shipments(ORIGIN, 5_000);
        let mut senders = SenderTable::new(SenderLimits::default());
        assert_eq!(receive(&mut senders, &sent[0]).0, ShipmentOutcome::New);
        // All but the first and the last are lost, and a question tells of them.
        let question =
            DiscoveryQuestion { nonce: 0, origin: ORIGIN, shipments: 5_000, lines: 10_000 };
        senders.asked(&question, Timestamp::default());
        assert_eq!(senders.counts().lost_shipments, 4_999);
        assert_eq!(receive(&mut senders, &sent[4_999]).0, ShipmentOutcome::New);
        for (number, datagram) in sent.iter().enumerate() {
            let is_new = !matches!(number, 0 | 4_999);
            let outcome = receive(&mut senders, datagram).0;
            assert_eq!(outcome == ShipmentOutcome::New, is_new, "shipment {number}: {outcome:?}");
        }
        let counts = senders.counts();
        assert_eq!((counts.lost_shipments, counts.lost_lines, counts.lines), (0, 0, 10_000));
    }

    #[test]
    fn one_forged_number_mutes_no_shipper_and_is_no_loss() {
        let sent = shipments(ORIGIN, 10);
        let mut senders = SenderTable::new(SenderLimits::default());
        assert_eq!(receive(&mut senders, &sent[0]).0, ShipmentOutcome::New);
        let far = u64::MAX / 2;
        let mut forged = sent[1].clone();
        for (shipment, line, dropped) in [(far, 2, 0), (1, far, 0), (far, far, far)] {
            for (at, value) in [(24, shipment), (32, line), (48, dropped)] {
                forged[at..at + 8].copy_from_slice(&value.to_le_bytes());
            }
            assert_eq!(receive(&mut senders, &forged), (ShipmentOutcome::TooFar, 0));
            let (shipments, lines) = (shipment, line);
            let question = DiscoveryQuestion { nonce: 0, origin: ORIGIN, shipments, lines };
            senders.asked(&question, Timestamp::default());
        }
        for datagram in &sent[1..] {
            assert_eq!(receive(&mut senders, datagram), (ShipmentOutcome::New, 2));
        }
        let counts = senders.counts();
        assert_eq!((counts.lost_lines, counts.dropped, counts.too_far), (0, 0, 6));
    }

    #[test]
    fn a_question_shows_that_the_last_shipments_are_missing() {
        let sent = shipments(ORIGIN, 3);
        let mut senders = SenderTable::new(SenderLimits::default());
        assert_eq!(receive(&mut senders, &sent[0]).0, ShipmentOutcome::New);
        let question = DiscoveryQuestion { nonce: 0, origin: ORIGIN, shipments: 3, lines: 6 };
        senders.asked(&question, Timestamp::default());
        assert_eq!((senders.counts().lost_shipments, senders.counts().lost_lines), (2, 4));
        assert_eq!(senders.received(&question), ReceivedShipments { from: 0, upto: 1 });
        assert_eq!(receive(&mut senders, &sent[2]).0, ShipmentOutcome::New);
        assert_eq!((senders.counts().lost_shipments, senders.counts().lost_lines), (1, 2));
        assert_eq!(senders.received(&question), ReceivedShipments { from: 0, upto: 1 });
        // A collector that has just started knows of nothing.
        let unknown = SenderTable::new(SenderLimits::default()).received(&question);
        assert_eq!(unknown, ReceivedShipments { from: 3, upto: 3 });
    }

    #[test]
    fn a_shipper_that_starts_again_is_another_one() {
        let again = SenderOrigin { start: Timestamp::from_micros(6), ..ORIGIN };
        let mut senders = SenderTable::new(SenderLimits::default());
        assert_eq!(receive(&mut senders, &shipments(ORIGIN, 1)[0]).0, ShipmentOutcome::New);
        assert_eq!(receive(&mut senders, &shipments(again, 1)[0]).0, ShipmentOutcome::New);
        let counts = senders.counts();
        assert_eq!((counts.senders, counts.lines, counts.lost_lines), (2, 4, 0));
    }

    #[test]
    fn when_there_are_too_many_a_quiet_one_is_forgotten_and_its_losses_stay() {
        let mut senders = SenderTable::new(SenderLimits { senders: 3, ..SenderLimits::default() });
        let origin = |id| SenderOrigin { id, ..ORIGIN };
        let sent = shipments(origin(1), 3);
        receive(&mut senders, &sent[0]);
        receive(&mut senders, &sent[2]);
        for id in 2..100 {
            receive(&mut senders, &shipments(origin(id), 1)[0]);
            assert!(senders.len() <= 3);
        }
        let counts = senders.counts();
        assert_eq!((counts.senders, counts.forgotten, counts.lost_lines), (99, 96, 2));
    }

    #[test]
    fn the_busy_are_not_forgotten_for_the_sake_of_passers_by() {
        let mut senders = SenderTable::new(SenderLimits { senders: 8, ..SenderLimits::default() });
        let sent = shipments(ORIGIN, 200);
        for (number, datagram) in sent.iter().enumerate() {
            assert_eq!(receive(&mut senders, datagram), (ShipmentOutcome::New, 2));
            assert_eq!(
                receive(&mut senders, datagram),
                (ShipmentOutcome::Duplicate, 0),
                "{number}"
            );
            let passer_by = SenderOrigin { id: 1000 + u64::try_from(number).unwrap(), ..ORIGIN };
            receive(&mut senders, &shipments(passer_by, 1)[0]);
        }
        assert_eq!(senders.counts().lost_lines, 0);
    }

    #[test]
    fn a_line_in_pieces_counts_as_lost_until_it_is_whole() {
        let mut writer = ShipmentWriter::new(ORIGIN, ShipmentServer::default(), 512);
        let line = vec![b'x'; 1000];
        let (mut sent, mut next) = (Vec::new(), Some(0));
        while let Some(offset) = next {
            let (rest, datagram) =
                writer.piece((&line, None), offset, SendStamp::default(), <[u8]>::to_vec);
            sent.push(datagram);
            next = rest;
        }
        assert_eq!(sent.len(), 3);
        let mut senders = SenderTable::new(SenderLimits::default());
        for (number, lines, lost) in [(2, 0, 1), (0, 0, 1), (1, 1, 0)] {
            assert_eq!(receive(&mut senders, &sent[number]), (ShipmentOutcome::New, lines));
            assert_eq!(senders.counts().lost_lines, lost);
        }
        assert_eq!((writer.lines(), writer.shipments()), (1, 3));
    }
}
