//! Received, missing and duplicate shipments of each shipper.

use indexmap::IndexMap;

use super::sender_clock::SenderClock;
use super::{DiscoveryQuestion, Reassembly, SenderOrigin, Shipment};
use crate::time::Timestamp;

/// By how many shipments a shipment may be late and still be recognised.
const WINDOW: u64 = 1024;
const WORDS: usize = 16;

/// Receives shipments of many shippers: delivers each line once and counts missing lines.
///
/// Shipments are numbered. A shipment that was received before is dropped. So is a shipment that
/// comes after 1,024 later ones, because it may be a duplicate. A gap is noticed when a higher
/// number comes, in a shipment or a [`DiscoveryQuestion`], and closed when the missing shipment
/// turns up late. A restarted shipper is a new sender. Beyond the bounds, a shipper that was quiet
/// for long is forgotten; its losses stay counted.
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
    shipments: NumberRange,
    lines: NumberRange,
    /// A bit for each of the last shipments, at its number modulo [`WINDOW`]: set if received.
    seen: [u64; WORDS],
    /// The shipper's own count of dropped lines.
    dropped: u64,
    cut: u32,
    clock: SenderClock,
    /// Whether the shipper was active since the clock hand last passed.
    active: bool,
}

/// Numbers `base..end`, of which `came` were received.
#[derive(Clone, Copy, Debug)]
struct NumberRange {
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
        let (index, first) = self.sender(shipment);
        let sender = &mut self.senders[index];
        sender.active = true;
        sender.dropped = sender.dropped.max(shipment.dropped);
        sender.cut = sender.cut.max(shipment.cut);
        let outcome = sender.mark(shipment.number);
        match outcome {
            ShipmentOutcome::New => {}
            ShipmentOutcome::Duplicate => self.counts.duplicates += 1,
            ShipmentOutcome::Late => self.counts.late += 1,
        }
        if outcome != ShipmentOutcome::New {
            return ShipmentArrival { outcome, first };
        }
        let end = shipment.first_line.saturating_add(shipment.line_count().into());
        sender.lines.reach(shipment.first_line, end);
        sender.shipments.came += 1;
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
    pub fn asked(&mut self, question: &DiscoveryQuestion) {
        if let Some(sender) = self.senders.get_mut(&question.origin) {
            sender.active = true;
            sender.advance(question.shipments);
            sender.lines.end = sender.lines.end.max(question.lines);
        }
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
    fn sender(&mut self, shipment: &Shipment<'_>) -> (usize, bool) {
        if let Some(index) = self.senders.get_index_of(&shipment.origin) {
            return (index, false);
        }
        if self.senders.len() >= self.max_senders {
            self.forget_one();
        }
        self.counts.senders += 1;
        let (index, _) = self.senders.insert_full(shipment.origin, SenderState::new(shipment));
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
    fn new(shipment: &Shipment<'_>) -> Self {
        Self {
            shipments: NumberRange::at(shipment.number),
            lines: NumberRange::at(shipment.first_line),
            seen: [0; WORDS],
            dropped: 0,
            cut: 0,
            clock: SenderClock::new(),
            active: true,
        }
    }

    /// Marks shipment `number` as received.
    fn mark(&mut self, number: u64) -> ShipmentOutcome {
        if number >= self.shipments.end {
            self.advance(number.saturating_add(1));
        } else if self.shipments.end - number > WINDOW {
            return ShipmentOutcome::Late;
        }
        let (word, bit) = slot(number);
        if self.seen[word] & bit != 0 {
            return ShipmentOutcome::Duplicate;
        }
        self.seen[word] |= bit;
        self.shipments.base = self.shipments.base.min(number);
        ShipmentOutcome::New
    }

    /// Advances the window so that it ends at `end`.
    fn advance(&mut self, end: u64) {
        let Some(steps) = end.checked_sub(self.shipments.end) else { return };
        if steps >= WINDOW {
            self.seen = [0; WORDS];
        } else {
            for number in self.shipments.end..end {
                let (word, bit) = slot(number);
                self.seen[word] &= !bit;
            }
        }
        self.shipments.end = end;
    }
}

fn slot(number: u64) -> (usize, u64) {
    let index = usize::try_from(number % WINDOW).expect("below 1,024");
    (index / 64, 1 << (index % 64))
}

impl NumberRange {
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

    const ORIGIN: SenderOrigin = SenderOrigin { id: 1, start: Timestamp::from_micros(5) };

    /// `count` shipments of two lines each: `0 0`, `0 1`, `1 0` and so on.
    fn shipments(origin: SenderOrigin, count: u64) -> Vec<Vec<u8>> {
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

    fn receive(senders: &mut SenderTable, datagram: &[u8]) -> (ShipmentOutcome, usize) {
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
    fn a_gap_is_known_and_one_beyond_the_window_stays() {
        let sent = shipments(ORIGIN, 2000);
        let mut senders = SenderTable::new(SenderLimits::default());
        assert_eq!(receive(&mut senders, &sent[0]).0, ShipmentOutcome::New);
        assert_eq!(receive(&mut senders, &sent[1999]).0, ShipmentOutcome::New);
        assert_eq!(senders.counts().lost_shipments, 1998);
        assert_eq!(senders.counts().lost_lines, 2 * 1998);
        assert_eq!(receive(&mut senders, &sent[976]).0, ShipmentOutcome::New, "just inside");
        assert_eq!(receive(&mut senders, &sent[975]).0, ShipmentOutcome::Late, "just outside");
        assert_eq!(receive(&mut senders, &sent[0]).0, ShipmentOutcome::Late);
        assert_eq!(senders.counts().lost_shipments, 1997);
    }

    #[test]
    fn a_question_shows_that_the_last_shipments_are_missing() {
        let sent = shipments(ORIGIN, 3);
        let mut senders = SenderTable::new(SenderLimits::default());
        assert_eq!(receive(&mut senders, &sent[0]).0, ShipmentOutcome::New);
        let question = DiscoveryQuestion { nonce: 0, origin: ORIGIN, shipments: 3, lines: 6 };
        senders.asked(&question);
        assert_eq!((senders.counts().lost_shipments, senders.counts().lost_lines), (2, 4));
        assert_eq!(receive(&mut senders, &sent[2]).0, ShipmentOutcome::New);
        assert_eq!((senders.counts().lost_shipments, senders.counts().lost_lines), (1, 2));
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
