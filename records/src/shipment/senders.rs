//! What came, what is missing, and what came twice, for each shipper.

use indexmap::IndexMap;

use super::clock::Clock;
use super::{Origin, Question, Reassembly, Shipment};
use crate::time::Timestamp;

/// How many shipments may overtake one another.
const WINDOW: u64 = 1024;
const WORDS: usize = 16;

/// Receives shipments of many shippers: gives each line out once and knows how many are missing.
///
/// Numbers decide. A shipment that came before is dropped; so is one that comes when 1,024 later
/// ones are here, for nobody can tell any more whether it came before. What is missing is known
/// when something with a higher number comes, shipment or [`Question`], and forgiven when it turns
/// up late. A shipper that starts again is another one. Beyond the bounds, the shipper that was
/// quiet for long is forgotten, and what it lost stays counted.
#[derive(Debug)]
pub struct Senders {
    senders: IndexMap<Origin, Sender>,
    /// Where to look for the next shipper to forget.
    hand: usize,
    max_senders: usize,
    reassembly: Reassembly,
    /// All that is not in `senders`.
    counts: Counts,
}

/// The most that is remembered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Shippers.
    pub senders: usize,
    /// Long lines that are not yet whole.
    pub lines: usize,
    /// Bytes of these.
    pub bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { senders: 4096, lines: 256, bytes: 16 << 20 }
    }
}

/// What a shipment was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub struct Arrival {
    /// Whether its lines were given out.
    pub outcome: Outcome,
    /// Whether this is the first of its shipper: new, started again, or here before we were.
    pub first: bool,
}

/// Whether a shipment's lines were given out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// They were.
    New,
    /// They had been before.
    Duplicate,
    /// So late that nobody knows; they count as lost.
    Late,
}

/// What has happened so far, over all shippers. Lines that are lost, cut or dropped can only be
/// counted from the first shipment of a shipper that came.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Shippers seen; each start of one counts.
    pub senders: u64,
    /// Shippers forgotten because there were too many.
    pub forgotten: u64,
    /// Shipments whose lines were given out.
    pub shipments: u64,
    /// Lines given out.
    pub lines: u64,
    /// Shipments that came twice.
    pub duplicates: u64,
    /// Shipments that came too late to tell.
    pub late: u64,
    /// Shipments missing now.
    pub lost_shipments: u64,
    /// Lines missing now, those in pieces included until they are whole.
    pub lost_lines: u64,
    /// Lines that the shippers had to drop before they were numbered.
    pub dropped: u64,
    /// Lines that the shippers cut.
    pub cut: u64,
    /// Lines in pieces given up for want of room; they are among `lost_lines`.
    pub abandoned: u64,
}

#[derive(Debug)]
struct Sender {
    shipments: Range,
    lines: Range,
    /// A bit for each of the last shipments, by number modulo [`WINDOW`]: has it come?
    seen: [u64; WORDS],
    /// What the shipper says of itself.
    dropped: u64,
    cut: u32,
    clock: Clock,
    /// Since the hand last passed.
    active: bool,
}

/// Numbers `base..end`, of which `came` have come.
#[derive(Clone, Copy, Debug)]
struct Range {
    base: u64,
    end: u64,
    came: u64,
}

impl Senders {
    /// Knows nobody yet.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        Self {
            senders: IndexMap::new(),
            hand: 0,
            max_senders: limits.senders.max(1),
            reassembly: Reassembly::new(limits.lines, limits.bytes),
            counts: Counts::default(),
        }
    }

    /// Takes a shipment that came `now` and calls `deliver` with each line that is now whole and
    /// had not been given out before, without its line end, and with the time it was read: by our
    /// clock, and `now` if the shipper does not say.
    pub fn receive(
        &mut self,
        shipment: &Shipment<'_>,
        now: Timestamp,
        mut deliver: impl FnMut(&[u8], Timestamp),
    ) -> Arrival {
        let (index, first) = self.sender(shipment);
        let sender = &mut self.senders[index];
        sender.active = true;
        sender.dropped = sender.dropped.max(shipment.dropped);
        sender.cut = sender.cut.max(shipment.cut);
        let outcome = sender.mark(shipment.number);
        match outcome {
            Outcome::New => {}
            Outcome::Duplicate => self.counts.duplicates += 1,
            Outcome::Late => self.counts.late += 1,
        }
        if outcome != Outcome::New {
            return Arrival { outcome, first };
        }
        let end = shipment.first_line.saturating_add(shipment.line_count().into());
        sender.lines.reach(shipment.first_line, end);
        sender.shipments.came += 1;
        let sent = sender.clock.arrived(shipment.sent, now);
        let mut ages = shipment.ages();
        let mut read = || ages.next().map_or(now, |age| Clock::read(sent, age, now));
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
        Arrival { outcome, first }
    }

    /// Takes note of how far a shipper says it has come, so that its last shipments are missed too.
    /// Shippers of which nothing has come stay unknown: a question is cheap to send.
    pub fn asked(&mut self, question: &Question) {
        if let Some(sender) = self.senders.get_mut(&question.origin) {
            sender.active = true;
            sender.advance(question.shipments);
            sender.lines.end = sender.lines.end.max(question.lines);
        }
    }

    /// What has happened so far. Walks over all shippers.
    #[must_use]
    pub fn counts(&self) -> Counts {
        let mut counts = self.counts;
        counts.abandoned = self.reassembly.abandoned();
        for sender in self.senders.values() {
            counts.add(sender);
        }
        counts
    }

    /// How many shippers are remembered.
    #[must_use]
    pub fn len(&self) -> usize {
        self.senders.len()
    }

    /// Whether nobody has shipped yet.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.senders.is_empty()
    }

    /// The shipment's sender, and whether it is new.
    fn sender(&mut self, shipment: &Shipment<'_>) -> (usize, bool) {
        if let Some(index) = self.senders.get_index_of(&shipment.origin) {
            return (index, false);
        }
        if self.senders.len() >= self.max_senders {
            self.forget_one();
        }
        self.counts.senders += 1;
        let (index, _) = self.senders.insert_full(shipment.origin, Sender::new(shipment));
        (index, true)
    }

    /// Forgets one that was quiet since the hand last came by.
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

impl Counts {
    fn add(&mut self, sender: &Sender) {
        self.lost_shipments = self.lost_shipments.saturating_add(sender.shipments.missing());
        self.lost_lines = self.lost_lines.saturating_add(sender.lines.missing());
        self.dropped = self.dropped.saturating_add(sender.dropped);
        self.cut += u64::from(sender.cut);
    }
}

impl Sender {
    fn new(shipment: &Shipment<'_>) -> Self {
        Self {
            shipments: Range::at(shipment.number),
            lines: Range::at(shipment.first_line),
            seen: [0; WORDS],
            dropped: 0,
            cut: 0,
            clock: Clock::new(),
            active: true,
        }
    }

    /// Notes that shipment `number` is here.
    fn mark(&mut self, number: u64) -> Outcome {
        if number >= self.shipments.end {
            self.advance(number.saturating_add(1));
        } else if self.shipments.end - number > WINDOW {
            return Outcome::Late;
        }
        let (word, bit) = slot(number);
        if self.seen[word] & bit != 0 {
            return Outcome::Duplicate;
        }
        self.seen[word] |= bit;
        self.shipments.base = self.shipments.base.min(number);
        Outcome::New
    }

    /// Moves the window on so that it ends at `end`.
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

impl Range {
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
    use crate::shipment::{Server, Stamp, Writer};
    use crate::time::Timestamp;

    const ORIGIN: Origin = Origin { id: 1, start: Timestamp::from_micros(5) };

    /// Shipments of the numbers, five of two lines each: `0 0`, `0 1`, `1 0` and so on.
    fn shipments(origin: Origin, count: u64) -> Vec<Vec<u8>> {
        let mut writer = Writer::new(origin, Server::default(), 512);
        (0..count)
            .filter_map(|number| {
                for line in 0..2 {
                    let _ = writer.push(format!("{number} {line}").as_bytes(), None);
                }
                writer.finish(Stamp::default(), <[u8]>::to_vec)
            })
            .collect()
    }

    fn receive(senders: &mut Senders, datagram: &[u8]) -> (Outcome, usize) {
        let shipment = Shipment::parse(datagram).expect("we wrote it");
        let mut lines = 0;
        let arrival = senders.receive(&shipment, Timestamp::default(), |_, _| lines += 1);
        (arrival.outcome, lines)
    }

    #[test]
    fn order_does_not_matter_and_what_comes_twice_is_given_out_once() {
        let sent = shipments(ORIGIN, 5);
        let mut senders = Senders::new(Limits::default());
        for (number, expected, lost) in [
            (2, (Outcome::New, 2), 0),
            (0, (Outcome::New, 2), 2),
            (2, (Outcome::Duplicate, 0), 2),
            (4, (Outcome::New, 2), 4),
            (1, (Outcome::New, 2), 2),
            (3, (Outcome::New, 2), 0),
            (0, (Outcome::Duplicate, 0), 0),
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
        let mut senders = Senders::new(Limits::default());
        assert_eq!(receive(&mut senders, &sent[0]).0, Outcome::New);
        assert_eq!(receive(&mut senders, &sent[1999]).0, Outcome::New);
        assert_eq!(senders.counts().lost_shipments, 1998);
        assert_eq!(senders.counts().lost_lines, 2 * 1998);
        assert_eq!(receive(&mut senders, &sent[976]).0, Outcome::New, "just inside");
        assert_eq!(receive(&mut senders, &sent[975]).0, Outcome::Late, "just outside");
        assert_eq!(receive(&mut senders, &sent[0]).0, Outcome::Late);
        assert_eq!(senders.counts().lost_shipments, 1997);
    }

    #[test]
    fn a_question_shows_that_the_last_shipments_are_missing() {
        let sent = shipments(ORIGIN, 3);
        let mut senders = Senders::new(Limits::default());
        assert_eq!(receive(&mut senders, &sent[0]).0, Outcome::New);
        let question = Question { nonce: 0, origin: ORIGIN, shipments: 3, lines: 6 };
        senders.asked(&question);
        assert_eq!((senders.counts().lost_shipments, senders.counts().lost_lines), (2, 4));
        assert_eq!(receive(&mut senders, &sent[2]).0, Outcome::New);
        assert_eq!((senders.counts().lost_shipments, senders.counts().lost_lines), (1, 2));
    }

    #[test]
    fn a_shipper_that_starts_again_is_another_one() {
        let again = Origin { start: Timestamp::from_micros(6), ..ORIGIN };
        let mut senders = Senders::new(Limits::default());
        assert_eq!(receive(&mut senders, &shipments(ORIGIN, 1)[0]).0, Outcome::New);
        assert_eq!(receive(&mut senders, &shipments(again, 1)[0]).0, Outcome::New);
        let counts = senders.counts();
        assert_eq!((counts.senders, counts.lines, counts.lost_lines), (2, 4, 0));
    }

    #[test]
    fn when_there_are_too_many_a_quiet_one_is_forgotten_and_its_losses_stay() {
        let mut senders = Senders::new(Limits { senders: 3, ..Limits::default() });
        let origin = |id| Origin { id, ..ORIGIN };
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
        let mut senders = Senders::new(Limits { senders: 8, ..Limits::default() });
        let sent = shipments(ORIGIN, 200);
        for (number, datagram) in sent.iter().enumerate() {
            assert_eq!(receive(&mut senders, datagram), (Outcome::New, 2));
            assert_eq!(receive(&mut senders, datagram), (Outcome::Duplicate, 0), "{number}");
            let passer_by = Origin { id: 1000 + u64::try_from(number).unwrap(), ..ORIGIN };
            receive(&mut senders, &shipments(passer_by, 1)[0]);
        }
        assert_eq!(senders.counts().lost_lines, 0);
    }

    #[test]
    fn a_line_in_pieces_counts_as_lost_until_it_is_whole() {
        let mut writer = Writer::new(ORIGIN, Server::default(), 512);
        let line = vec![b'x'; 1000];
        let (mut sent, mut next) = (Vec::new(), Some(0));
        while let Some(offset) = next {
            let (rest, datagram) =
                writer.piece((&line, None), offset, Stamp::default(), <[u8]>::to_vec);
            sent.push(datagram);
            next = rest;
        }
        assert_eq!(sent.len(), 3);
        let mut senders = Senders::new(Limits::default());
        for (number, lines, lost) in [(2, 0, 1), (0, 0, 1), (1, 1, 0)] {
            assert_eq!(receive(&mut senders, &sent[number]), (Outcome::New, lines));
            assert_eq!(senders.counts().lost_lines, lost);
        }
        assert_eq!((writer.lines(), writer.shipments()), (1, 3));
    }
}
