//! Receives packets: counts missing records of each balancer, and dates records by the collector's
//! clock.
//!
//! Records are numbered. A gap in the numbers reveals lost records; a late packet closes its gap,
//! and a packet that closes none is a duplicate.

mod snapshot;

use indexmap::IndexMap;

use super::Mapping;
use super::packet::Packet;
use crate::clock_hand::{Active, ClockHand};
use crate::received_numbers::{NumberPlace, ReceivedNumbers};
use crate::shipment::{DiscoveryQuestion, ReceivedShipments, SenderClock, SenderOrigin};
use crate::time::Timestamp;

/// Receives packets of many balancers.
#[derive(Debug)]
pub struct Origins {
    /// The most balancers remembered; each run of a balancer counts.
    most: usize,
    origins: IndexMap<SenderOrigin, OriginState>,
    hand: ClockHand,
    /// Counters, without those of the balancers in `origins`.
    counts: PacketCounts,
    ahead: Option<i64>,
}

/// Counters over all balancers. Losses are counted between the first and the last received packet
/// of a balancer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PacketCounts {
    /// Balancers seen; each run of a balancer counts.
    pub origins: u64,
    /// Balancers forgotten because there were too many.
    pub forgotten: u64,
    /// Packets whose records were delivered.
    pub packets: u64,
    /// Records delivered.
    pub records: u64,
    /// Packets that came after later ones, and were delivered.
    pub late: u64,
    /// Duplicate packets, and packets too late to rule out a duplicate.
    pub duplicates: u64,
    /// Packets ignored for implausibly high numbers.
    pub too_far: u64,
    /// Records missing now.
    pub lost: u64,
    /// Missing records that balancers dropped themselves, by their own count.
    pub dropped: u64,
}

#[derive(Debug)]
struct OriginState {
    /// How many runs of balancers were seen up to this one.
    number: u32,
    numbers: ReceivedNumbers,
    /// The balancer's own count of dropped records.
    dropped: u64,
    clock: SenderClock,
    /// Whether the balancer was active since the clock hand last passed.
    active: bool,
}

/// Dates the records of a packet by the collector's clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PacketDating {
    sent: Timestamp,
    sent_here: Timestamp,
    now: Timestamp,
    missing: i64,
    repairable: u64,
    is_next: bool,
    balancer: u32,
}

impl PacketDating {
    /// Records newly found missing between this packet and earlier ones; negative if the packet
    /// brought records that were counted missing.
    #[must_use]
    pub fn missing(&self) -> i64 {
        self.missing
    }

    /// When the packet was sent, by the collector's clock.
    #[must_use]
    pub fn sent_here(&self) -> Timestamp {
        self.sent_here
    }

    /// Records of the balancer that are missing now, without those that it has dropped itself.
    #[must_use]
    pub fn repairable(&self) -> u64 {
        self.repairable
    }

    /// Whether the records before the first missing one have become more.
    #[must_use]
    pub fn is_next(&self) -> bool {
        self.is_next
    }

    /// The number of the balancer's run, counted from 1 as they were seen.
    #[must_use]
    pub fn balancer(&self) -> u32 {
        self.balancer
    }

    /// When a mapping was recorded: never after its arrival, nor far before.
    #[must_use]
    pub fn of(&self, mapping: &Mapping<'_>) -> Timestamp {
        let age = mapping.time.map_or(0, |(time, _)| self.sent.micros_since(time)).max(0);
        let waited = self.now.micros_since(self.sent_here);
        SenderClock::before(self.now, waited.saturating_add(age))
    }
}

impl Origins {
    /// Creates a receiver that has seen no balancer, and remembers at most `most` of them. Each run
    /// of a balancer counts.
    #[must_use]
    pub fn new(most: usize) -> Self {
        Self {
            most: most.max(1),
            origins: IndexMap::new(),
            hand: ClockHand::default(),
            counts: PacketCounts::default(),
            ahead: None,
        }
    }

    /// Receives a packet that arrived `now`. Returns `None` if its records were, or may have been,
    /// delivered before, or if their numbers are implausible. A packet without records tells how far
    /// the balancer has come.
    pub fn receive(&mut self, packet: &Packet<'_>, now: Timestamp) -> Option<PacketDating> {
        let index = self.source(packet, now);
        let source = &mut self.origins[index];
        if packet.count() == 0 {
            if !source.numbers.announce(packet.first, now) {
                self.counts.too_far += 1;
                return None;
            }
            source.active = true;
            source.dropped = source.dropped.max(packet.dropped);
            let sent = source.clock.arrived(packet.first, packet.sent, now);
            return Some(source.dating(packet, (sent, now), (0, false)));
        }
        let end = packet.first.saturating_add(packet.count().into());
        let (_, complete) = source.numbers.first_run();
        let missing = match source.numbers.take(packet.first, end, now) {
            NumberPlace::Next(missing) => i64::try_from(missing).unwrap_or(i64::MAX),
            NumberPlace::Before(missing) => {
                self.counts.late += 1;
                i64::try_from(missing).unwrap_or(i64::MAX)
            }
            NumberPlace::Gap => {
                self.counts.late += 1;
                -i64::from(packet.count())
            }
            NumberPlace::Known | NumberPlace::Forgotten => {
                self.counts.duplicates += 1;
                return None;
            }
            NumberPlace::TooFar => {
                self.counts.too_far += 1;
                return None;
            }
        };
        source.active = true;
        source.dropped = source.dropped.max(packet.dropped);
        let sent_here = source.clock.arrived(packet.first, packet.sent, now);
        self.ahead = Some(source.clock.ahead());
        self.counts.packets += 1;
        self.counts.records += u64::from(packet.count());
        let is_next = source.numbers.first_run().1 > complete;
        Some(source.dating(packet, (sent_here, now), (missing, is_next)))
    }

    /// Records how far a balancer has come. Returns which of its records were received before the
    /// question, by number; `None` for an unknown balancer.
    pub fn asked(
        &mut self,
        question: &DiscoveryQuestion,
        now: Timestamp,
    ) -> Option<ReceivedShipments> {
        let source = self.origins.get_mut(&question.origin)?;
        source.active = true;
        if !source.numbers.announce(question.shipments, now) {
            self.counts.too_far += 1;
        }
        // In place of lines a balancer tells which records it keeps.
        source.numbers.pass(question.lines);
        let (from, upto) = source.numbers.first_run();
        Some(ReceivedShipments { from, upto })
    }

    /// Returns the number of a balancer's run, as [`PacketDating::balancer`], and how many records
    /// of it are missing and may still come.
    #[must_use]
    pub fn missing_of(&self, origin: &SenderOrigin) -> Option<(u32, u64)> {
        let source = self.origins.get(origin)?;
        Some((source.number, source.repairable()))
    }

    /// Sums up the counters. Iterates over all balancers.
    #[must_use]
    pub fn counts(&self) -> PacketCounts {
        let mut counts = self.counts;
        self.origins.values().for_each(|source| counts.add(source));
        counts
    }

    /// Microseconds by which the clock of the last active balancer is ahead of the collector's,
    /// less the travel time of its fastest recent packet. `None` before the first packet.
    #[must_use]
    pub fn ahead(&self) -> Option<i64> {
        self.ahead
    }

    /// The number of balancers seen; each run of a balancer counts.
    #[must_use]
    pub fn seen(&self) -> u64 {
        self.counts.origins
    }

    /// The number of balancers forgotten because there were too many.
    #[must_use]
    pub fn forgotten(&self) -> u64 {
        self.counts.forgotten
    }

    fn source(&mut self, packet: &Packet<'_>, now: Timestamp) -> usize {
        if let Some(index) = self.origins.get_index_of(&packet.origin) {
            return index;
        }
        if self.origins.len() >= self.most {
            self.forget_one();
        }
        self.counts.origins += 1;
        let state = OriginState {
            number: u32::try_from(self.counts.origins).unwrap_or(u32::MAX),
            numbers: ReceivedNumbers::new(packet.first, now),
            dropped: 0,
            clock: SenderClock::new(),
            active: true,
        };
        self.origins.insert_full(packet.origin, state).0
    }

    /// Removes a quiet balancer.
    fn forget_one(&mut self) {
        if let Some(source) = self.hand.remove_quiet(&mut self.origins) {
            self.counts.add(&source);
            self.counts.forgotten += 1;
        }
    }
}

impl OriginState {
    /// Records that are missing and were not dropped by the balancer.
    fn repairable(&self) -> u64 {
        self.numbers.repairable().min(self.numbers.missing().saturating_sub(self.dropped))
    }

    fn dating(
        &self,
        packet: &Packet<'_>,
        (sent_here, now): (Timestamp, Timestamp),
        (missing, is_next): (i64, bool),
    ) -> PacketDating {
        let (sent, repairable, balancer) = (packet.sent, self.repairable(), self.number);
        PacketDating { sent, sent_here, now, missing, repairable, is_next, balancer }
    }
}

impl Active for OriginState {
    fn active(&mut self) -> &mut bool {
        &mut self.active
    }
}

impl PacketCounts {
    fn add(&mut self, source: &OriginState) {
        let lost = source.numbers.missing();
        self.lost = self.lost.saturating_add(lost);
        self.dropped = self.dropped.saturating_add(source.dropped.min(lost));
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::packet::{write_packet, write_record};
    use super::*;
    use crate::addr::{ClientAddr, ServerAddr};
    use crate::shipment::StreamList;
    use crate::time::Resolution;

    pub(super) const ORIGIN: SenderOrigin =
        SenderOrigin { id: 1, start: Timestamp::from_micros(5) };

    /// A packet of `count` records.
    pub(super) fn packet(origin: SenderOrigin, first: u64, count: u32, dropped: u64) -> Vec<u8> {
        let mut records = Vec::new();
        let time = Some((Timestamp::from_micros(900), Resolution::Microsecond));
        for _ in 0..count {
            let server = ServerAddr::Unix(b"/run/app");
            write_record(&Mapping { time, ..Mapping::new(ClientAddr::Unix, server) }, &mut records);
        }
        let (mut out, sent) = (Vec::new(), Timestamp::from_micros(1_000));
        write_packet(origin, first, sent, dropped, (count, &records), &mut out);
        out
    }

    pub(super) fn receive(origins: &mut Origins, datagram: &[u8]) -> bool {
        let packet = Packet::parse(datagram).expect("we wrote it");
        let before = origins.counts().lost;
        let dating = origins.receive(&packet, Timestamp::from_micros(5_000));
        let missing = dating.map_or(0, |dating| dating.missing());
        assert_eq!(before.checked_add_signed(missing), Some(origins.counts().lost));
        dating.is_some()
    }

    #[test]
    fn each_lost_record_is_counted_and_a_late_one_is_lost_no_more() {
        let mut origins = Origins::new(256);
        for (first, count, taken, lost) in [
            (100, 5, true, 0),
            (105, 5, true, 0),
            (120, 5, true, 10),
            (120, 5, false, 10),
            (100, 5, false, 10),
            (112, 2, true, 8),
            (112, 2, false, 8),
            // Overlaps received records.
            (111, 2, false, 8),
            (110, 2, true, 6),
            (114, 6, true, 0),
            (114, 6, false, 0),
            // Before the first received record.
            (90, 5, true, 5),
            (95, 5, true, 0),
        ] {
            let datagram = packet(ORIGIN, first, count, 0);
            assert_eq!(receive(&mut origins, &datagram), taken, "{first}");
            assert_eq!(origins.counts().lost, lost, "after {first}");
        }
        let counts = origins.counts();
        assert_eq!((counts.origins, counts.records, counts.duplicates), (1, 35, 5));
        assert_eq!(counts.late, 5);
    }

    #[test]
    fn one_forged_number_mutes_no_balancer_and_is_no_loss() {
        let mut origins = Origins::new(256);
        assert!(receive(&mut origins, &packet(ORIGIN, 0, 5, 0)));
        for far in [1 << 21, 1 << 40, u64::MAX - 5] {
            assert!(!receive(&mut origins, &packet(ORIGIN, far, 5, u64::MAX)), "{far}");
        }
        assert!(receive(&mut origins, &packet(ORIGIN, 5, 5, 0)));
        let counts = origins.counts();
        assert_eq!((counts.lost, counts.dropped, counts.too_far), (0, 0, 3));
    }

    #[test]
    fn what_a_balancer_dropped_itself_is_told_from_what_was_lost_on_the_way() {
        let mut origins = Origins::new(256);
        receive(&mut origins, &packet(ORIGIN, 0, 5, 0));
        receive(&mut origins, &packet(ORIGIN, 25, 5, 15));
        let counts = origins.counts();
        assert_eq!((counts.lost, counts.dropped), (20, 15));
    }

    #[test]
    fn a_packet_without_records_tells_what_is_missing_and_is_no_duplicate() {
        let mut origins = Origins::new(256);
        for (first, count, lost) in
            [(0, 5, 0), (5, 0, 0), (5, 0, 0), (4, 0, 0), (9, 0, 4), (9, 0, 4), (5, 4, 0)]
        {
            let packet = packet(ORIGIN, first, count, 0);
            let packet = Packet::parse(&packet).expect("we wrote it");
            let dating = origins.receive(&packet, Timestamp::from_micros(5_000));
            assert_eq!(dating.map(|it| it.repairable()), Some(lost), "{first}");
            assert_eq!(origins.counts().lost, lost, "{first}");
        }
        let counts = origins.counts();
        assert_eq!((counts.lost, counts.duplicates, counts.records), (0, 0, 9));
    }

    #[test]
    fn only_what_a_balancer_still_keeps_is_waited_for() {
        let mut origins = Origins::new(256);
        // It has dropped more than is missing: some of that had arrived.
        for (first, dropped) in [(0, 0), (25, 40)] {
            receive(&mut origins, &packet(ORIGIN, first, 5, dropped));
        }
        for (kept, upto) in [(0, 5), (5, 5), (10, 10), (24, 24), (25, 30), (u64::MAX, 30)] {
            let question = DiscoveryQuestion {
                nonce: 1,
                origin: ORIGIN,
                shipments: 30,
                lines: kept,
                streams: StreamList::default(),
            };
            let received = origins.asked(&question, Timestamp::from_micros(9));
            assert_eq!(received, Some(ReceivedShipments { from: 0, upto }), "{kept}");
        }
        assert!(receive(&mut origins, &packet(ORIGIN, 10, 5, 40)), "a late one is taken");
        assert_eq!(origins.counts().lost, 15);
    }

    #[test]
    fn a_balancer_that_starts_again_is_another_one() {
        let mut origins = Origins::new(256);
        let again = SenderOrigin { start: Timestamp::from_micros(6), ..ORIGIN };
        assert!(receive(&mut origins, &packet(ORIGIN, 0, 5, 0)));
        assert!(receive(&mut origins, &packet(again, 0, 5, 0)));
        assert_eq!((origins.counts().origins, origins.counts().duplicates), (2, 0));
    }

    #[test]
    fn holes_and_balancers_are_bounded_and_losses_stay_counted() {
        let mut origins = Origins::new(256);
        for number in 0..3_000 {
            receive(&mut origins, &packet(ORIGIN, number * 2, 1, 0));
        }
        assert_eq!(origins.counts().lost, 2_999);
        assert!(!receive(&mut origins, &packet(ORIGIN, 1, 1, 0)), "nobody knows any more");
        assert!(receive(&mut origins, &packet(ORIGIN, 5_001, 1, 0)));
        for id in 2..1_000 {
            receive(&mut origins, &packet(SenderOrigin { id, ..ORIGIN }, 0, 1, 0));
            assert!(origins.origins.len() <= 256);
        }
        assert_eq!(origins.counts().lost, 2_998);
        assert_eq!(origins.counts().origins, 999);
    }

    #[test]
    fn records_are_dated_by_their_age_and_not_after_their_arrival() {
        let datagram = packet(ORIGIN, 0, 1, 0);
        let packet = Packet::parse(&datagram).unwrap();
        let mapping = packet.mappings().next().unwrap();
        // The travel time of a first packet is unknown.
        let now = Timestamp::from_micros(7_000_000);
        let dating = Origins::new(256).receive(&packet, now).unwrap();
        assert_eq!(dating.of(&mapping), now.offset_by(-100));
        let future = Mapping { time: Some((Timestamp::MAX, Resolution::Microsecond)), ..mapping };
        assert_eq!(dating.of(&future), now);
        let past = Mapping { time: Some((Timestamp::MIN, Resolution::Microsecond)), ..mapping };
        assert!(dating.of(&past) < now);
    }

    proptest! {
        #[test]
        fn whatever_comes_in_whatever_order_is_given_out_once(
            packets in proptest::collection::vec((0..60_u64, 1..6_u32), 1..80),
        ) {
            let mut origins = Origins::new(256);
            let mut seen = std::collections::BTreeSet::new();
            for (first, count) in packets {
                let numbers = first..first + u64::from(count);
                let new = numbers.clone().all(|number| !seen.contains(&number));
                let taken = receive(&mut origins, &packet(ORIGIN, first, count, 0));
                // A balancer sends no packets that overlap.
                prop_assert!(!taken || new);
                prop_assert_eq!(taken, new);
                if taken {
                    seen.extend(numbers);
                }
                let span = seen.last().unwrap() + 1 - seen.first().unwrap();
                prop_assert_eq!(origins.counts().lost, span - seen.len() as u64);
            }
        }
    }
}
