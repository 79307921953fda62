//! Packets that the collector has not confirmed: kept, asked about, and sent again.
//!
//! Records go out at once, and UDP tells nobody whether they arrived. So the collector is asked once a second, and while
//! it does not reply five times a second. What it has not received is sent again. A collector that is away for less than
//! a minute thus costs no record. The ring is bounded: beyond that the oldest packets are given up.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use pen_records::shipment::ReceivedShipments;

/// Most bytes of kept packets.
const ROOM: usize = 16 << 20;
/// Age from which a packet is given up: a collector dates no record further back than a minute.
const OLDEST: Duration = Duration::from_secs(50);
/// Pause before a question: after the first unconfirmed packet, and after a question without a reply.
const ASK: Duration = Duration::from_secs(1);
const ASK_AGAIN: Duration = Duration::from_millis(200);
/// Longest such pause for a collector that has never replied: an old one may have to refuse questions of a balancer.
const ASK_STRANGER: Duration = Duration::from_secs(20);
/// Pause between two looks for a reply.
const LOOK: Duration = Duration::from_millis(20);
/// Most packets sent again at once.
const BURST: usize = 256;

/// The kept packets, oldest first.
#[derive(Debug, Default)]
pub(super) struct PacketRing {
    packets: VecDeque<KeptPacket>,
    bytes: usize,
    question: Option<RecordQuestion>,
    /// The collector has replied before.
    is_known: bool,
    /// When the first packet since the last reply was sent.
    since: Option<Instant>,
    /// The packets from this place up to that one are to be sent again.
    again: Option<(usize, usize)>,
}

/// A packet, and what is known of it.
#[derive(Debug)]
pub(super) struct KeptPacket {
    pub(super) bytes: Vec<u8>,
    /// Number of its first record, and the number after its last.
    first: u64,
    end: u64,
    sent: Instant,
    /// Its records count as failed: nobody listened.
    pub(super) is_failed: bool,
}

#[derive(Clone, Copy, Debug)]
struct RecordQuestion {
    nonce: u64,
    /// When it was asked first, and last.
    first: Instant,
    last: Instant,
    /// The number after the last record sent before.
    next: u64,
    looked: Instant,
    /// Pause before it is asked again.
    pause: Duration,
}

/// Records that were confirmed or given up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct SettledRecords {
    /// Records in all.
    pub(super) all: u64,
    /// Those among them that counted as failed.
    pub(super) failed: u64,
}

impl PacketRing {
    /// Keeps a packet that was sent `now`. Returns the records that are given up for it.
    pub(super) fn keep(
        &mut self,
        (first, end): (u64, u64),
        bytes: &[u8],
        now: Instant,
    ) -> SettledRecords {
        self.since.get_or_insert(now);
        self.bytes += bytes.len();
        let bytes = bytes.to_vec();
        self.packets.push_back(KeptPacket { bytes, first, end, sent: now, is_failed: false });
        self.give_up(now)
    }

    /// Gives up the oldest packets beyond the bounds.
    pub(super) fn give_up(&mut self, now: Instant) -> SettledRecords {
        let mut given_up = SettledRecords::default();
        while self.packets.front().is_some_and(|packet| {
            self.bytes > ROOM || now.saturating_duration_since(packet.sent) > OLDEST
        }) {
            self.pop(&mut given_up);
        }
        // Records for a collector that never replies may have arrived all the same.
        if self.is_known { given_up } else { SettledRecords::default() }
    }

    /// Returns the packet sent last.
    pub(super) fn last_mut(&mut self) -> Option<&mut KeptPacket> {
        self.packets.back_mut()
    }

    /// Returns when to call [`Self::question`], [`Self::answered`] or [`Self::next_again`].
    pub(super) fn due(&self) -> Option<Instant> {
        let oldest = self.packets.front()?.sent;
        let ask = match self.question {
            // At once.
            _ if self.is_repairing() => oldest,
            Some(question) => (question.looked + LOOK).min(question.last + question.pause),
            None => self.since? + ASK,
        };
        Some(ask.min(oldest + OLDEST))
    }

    /// Returns the nonce of the question that is due, if any; `fresh` is a new nonce, `next` the number of the next record.
    pub(super) fn question(&mut self, fresh: u64, next: u64, now: Instant) -> Option<u64> {
        if self.packets.is_empty() {
            return None;
        }
        match &mut self.question {
            Some(question) => {
                question.looked = now;
                if now < question.last + question.pause {
                    return None;
                }
                question.last = now;
                if !self.is_known {
                    question.pause = ASK_STRANGER.min(2 * question.pause);
                }
                Some(question.nonce)
            }
            None if self.since.is_some_and(|since| now >= since + ASK) => {
                let (nonce, pause) = (fresh, ASK_AGAIN);
                let (first, last, looked) = (now, now, now);
                self.question = Some(RecordQuestion { nonce, first, last, next, looked, pause });
                Some(fresh)
            }
            None => None,
        }
    }

    /// Takes a reply. Returns the confirmed records.
    pub(super) fn answered(
        &mut self,
        nonce: u64,
        received: Option<ReceivedShipments>,
    ) -> SettledRecords {
        let mut confirmed = SettledRecords::default();
        let Some(question) = self.question.filter(|question| question.nonce == nonce) else {
            return confirmed;
        };
        (self.question, self.again, self.is_known) = (None, None, true);
        self.since = Some(question.first);
        let all = ReceivedShipments { from: 0, upto: question.next };
        let ReceivedShipments { from, upto } = received.unwrap_or(all);
        if self.packets.front().is_some_and(|packet| packet.first >= from) {
            while self.packets.front().is_some_and(|it| it.end <= upto && it.end <= question.next) {
                self.pop(&mut confirmed);
            }
        }
        let missing = self.packets.partition_point(|packet| packet.end <= question.next);
        if missing > 0 {
            self.again = Some((0, missing));
        }
        if self.packets.is_empty() {
            self.since = None;
        }
        confirmed
    }

    /// Returns the packets to send again now.
    pub(super) fn next_again(&mut self) -> impl Iterator<Item = &mut Vec<u8>> {
        let (from, upto) = self.again.unwrap_or_default();
        let end = upto.min(from + BURST);
        self.again = (end < upto).then_some((end, upto));
        self.packets.range_mut(from..end.min(self.packets.len()).max(from)).map(|it| &mut it.bytes)
    }

    /// Whether the collector has replied.
    pub(super) const fn is_known(&self) -> bool {
        self.is_known
    }

    /// Whether packets are to be sent again.
    pub(super) const fn is_repairing(&self) -> bool {
        self.again.is_some()
    }

    fn pop(&mut self, settled: &mut SettledRecords) {
        let Some(packet) = self.packets.pop_front() else { return };
        self.bytes -= packet.bytes.len();
        let records = packet.end - packet.first;
        settled.all += records;
        settled.failed += if packet.is_failed { records } else { 0 };
        if let Some((from, upto)) = &mut self.again {
            (*from, *upto) = (from.saturating_sub(1), upto.saturating_sub(1));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A ring with five packets of ten records, and a question about all of them.
    fn asked(now: Instant) -> PacketRing {
        let mut ring = PacketRing { is_known: true, ..PacketRing::default() };
        for first in [0, 10, 20, 30, 40] {
            let given_up = ring.keep((first, first + 10), &[first.to_le_bytes()[0]], now);
            assert_eq!(given_up, SettledRecords::default());
        }
        assert_eq!(ring.question(7, 50, now), None, "it is too early");
        assert_eq!(ring.due(), Some(now + ASK));
        assert_eq!(ring.question(7, 50, now + ASK), Some(7));
        ring
    }

    fn again(ring: &mut PacketRing) -> Vec<u8> {
        ring.next_again().map(|bytes| bytes[0]).collect()
    }

    fn confirmed(all: u64) -> SettledRecords {
        SettledRecords { all, failed: 0 }
    }

    #[test]
    fn what_has_come_is_forgotten_and_what_is_missing_is_sent_again() {
        let now = Instant::now();
        let mut ring = asked(now);
        ring.keep((50, 60), &[50], now);
        let received = Some(ReceivedShipments { from: 0, upto: 20 });
        assert_eq!(ring.answered(8, received), confirmed(0), "a stray");
        assert_eq!(ring.answered(7, received), confirmed(20));
        assert!(ring.is_repairing());
        assert_eq!(again(&mut ring), [20, 30, 40], "the last came after the question");
        assert!(!ring.is_repairing());
        assert_eq!(ring.question(9, 60, now + 3 * ASK), Some(9));
        let received = Some(ReceivedShipments { from: 0, upto: 60 });
        assert_eq!(ring.answered(9, received), confirmed(40));
        assert_eq!((ring.due(), again(&mut ring)), (None, vec![]));
    }

    #[test]
    fn a_collector_that_has_just_started_gets_all_that_is_kept() {
        let mut ring = asked(Instant::now());
        let received = Some(ReceivedShipments { from: 50, upto: 50 });
        assert_eq!(ring.answered(7, received), confirmed(0));
        assert_eq!(again(&mut ring), [0, 10, 20, 30, 40]);
    }

    #[test]
    fn what_does_not_fit_into_a_burst_follows_at_once() {
        let now = Instant::now();
        let mut ring = asked(now);
        for first in (50..50 + 10 * BURST as u64).step_by(10) {
            ring.keep((first, first + 10), &[0], now);
        }
        ring.question = ring.question.map(|it| RecordQuestion { next: u64::MAX, ..it });
        assert_eq!(ring.answered(7, Some(ReceivedShipments { from: 0, upto: 0 })), confirmed(0));
        assert_eq!(again(&mut ring).len(), BURST);
        assert_eq!(ring.due(), Some(now));
        assert_eq!(again(&mut ring).len(), 5);
        assert!(ring.due() > Some(now));
    }

    #[test]
    fn a_collector_that_does_not_tell_confirms_all() {
        let mut ring = asked(Instant::now());
        assert_eq!(ring.answered(7, None), confirmed(50));
    }

    #[test]
    fn a_collector_that_is_away_is_asked_again_and_in_the_end_packets_are_given_up() {
        let now = Instant::now();
        let mut ring = asked(now);
        ring.last_mut().expect("it is kept").is_failed = true;
        let mut questions = 0;
        for millis in (0..40_000).step_by(10) {
            let now = now + ASK + Duration::from_millis(millis);
            questions += u32::from(ring.question(1, 50, now) == Some(7));
            assert!(ring.due().is_some_and(|due| due <= now + ASK_AGAIN));
        }
        assert!((150..250).contains(&questions), "{questions}");
        let given_up = ring.give_up(now + OLDEST + ASK);
        assert_eq!(given_up, SettledRecords { all: 50, failed: 10 });
        assert_eq!(ring.due(), None);
    }

    #[test]
    fn one_that_never_replied_is_asked_seldom_and_nothing_is_said_to_be_lost() {
        let now = Instant::now();
        let mut ring = PacketRing { is_known: false, ..asked(now) };
        let mut questions = 0;
        for millis in (0..600_000).step_by(10) {
            let now = now + ASK + Duration::from_millis(millis);
            ring.keep((50, 60), &[50], now);
            questions += u32::from(ring.question(1, 60, now).is_some());
            assert_eq!(ring.give_up(now), SettledRecords::default());
        }
        assert!(questions < 50, "{questions}");
    }

    #[test]
    fn the_ring_is_bounded_in_bytes() {
        let now = Instant::now();
        let mut ring = PacketRing { is_known: true, ..PacketRing::default() };
        let mut given_up = 0;
        for first in 0..20_000 {
            given_up += ring.keep((first, first + 1), &[0; 1_400], now).all;
        }
        assert_eq!(given_up, 20_000 - (ROOM / 1_400) as u64);
    }
}
