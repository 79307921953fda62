//! Whose packets came, which records are missing, and when records were made by our clock.
//!
//! Records are numbered, so holes say what was lost; a late packet fills its hole, and one that fills none
//! came twice.

use std::collections::BTreeMap;

use indexmap::IndexMap;

use super::Mapping;
use super::packet::Packet;
use crate::shipment::{SenderClock, SenderOrigin};
use crate::time::Timestamp;

/// Balancers remembered, each start of one counting.
const ORIGINS: usize = 256;

/// Holes remembered for each. Beyond, what is missing longest is given up.
const HOLES: usize = 1_024;

/// Receives packets of many balancers.
#[derive(Debug, Default)]
pub struct Origins {
    origins: IndexMap<SenderOrigin, OriginState>,
    /// Where to look for the next one to forget.
    hand: usize,
    /// All that is not in `origins`.
    counts: PacketCounts,
    ahead: Option<i64>,
}

/// What has happened so far, over all balancers. What is lost can only be counted from the first packet
/// of a balancer that came to the last.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PacketCounts {
    /// Balancers seen; each start of one counts.
    pub origins: u64,
    /// Packets whose records were given out.
    pub packets: u64,
    /// Records of these.
    pub records: u64,
    /// Packets that came after later ones, and were taken all the same.
    pub late: u64,
    /// Packets that came twice, or so late that nobody knows.
    pub duplicates: u64,
    /// Records missing now.
    pub lost: u64,
    /// Records among these that balancers say they dropped themselves.
    pub dropped: u64,
}

#[derive(Debug)]
struct OriginState {
    /// The first number that came, and the one behind the last.
    base: u64,
    end: u64,
    /// Numbers between that have not come: from, up to.
    holes: BTreeMap<u64, u64>,
    /// Records of holes that are not remembered any more, and where these ended.
    given_up: u64,
    known_from: u64,
    /// What the balancer says of itself.
    dropped: u64,
    clock: SenderClock,
    /// Since the hand last passed.
    active: bool,
}

/// When records of a packet were made, by our clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PacketDating {
    sent: Timestamp,
    sent_here: Timestamp,
    now: Timestamp,
    missing: i64,
}

impl PacketDating {
    /// Records that were found to be missing between this packet and those before; below zero if so many that were
    /// missing came with it.
    #[must_use]
    pub fn missing(&self) -> i64 {
        self.missing
    }

    /// When a mapping was noted: never after its arrival, nor far before it.
    #[must_use]
    pub fn of(&self, mapping: &Mapping<'_>) -> Timestamp {
        let age = mapping.time.map_or(0, |(time, _)| self.sent.micros_since(time)).max(0);
        let waited = self.now.micros_since(self.sent_here);
        SenderClock::before(self.now, waited.saturating_add(age))
    }
}

impl Origins {
    /// Knows nobody yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes a packet that came `now`. `None` if its records were given out before, or may have been.
    pub fn receive(&mut self, packet: &Packet<'_>, now: Timestamp) -> Option<PacketDating> {
        let index = self.source(packet);
        let source = &mut self.origins[index];
        source.active = true;
        source.dropped = source.dropped.max(packet.dropped);
        let end = packet.first.saturating_add(packet.count().into());
        let (known, known_end) = (source.base, source.end);
        match source.mark(packet.first, end) {
            PacketPlace::Next => {}
            PacketPlace::Hole => self.counts.late += 1,
            PacketPlace::Known => {
                self.counts.duplicates += 1;
                return None;
            }
        }
        // A gap behind all that came or before it is new; else there was one, which is filled.
        let missing = if packet.first >= known_end {
            i64::try_from(packet.first - known_end).unwrap_or(i64::MAX)
        } else if end <= known {
            i64::try_from(known - end).unwrap_or(i64::MAX)
        } else {
            -i64::from(packet.count())
        };
        let sent_here = source.clock.arrived(packet.sent, now);
        self.ahead = Some(source.clock.ahead());
        self.counts.packets += 1;
        self.counts.records += u64::from(packet.count());
        Some(PacketDating { sent: packet.sent, sent_here, now, missing })
    }

    /// What has happened so far. Walks over all balancers.
    #[must_use]
    pub fn counts(&self) -> PacketCounts {
        let mut counts = self.counts;
        self.origins.values().for_each(|source| counts.add(source));
        counts
    }

    /// Microseconds that the clock of the balancer that was heard last is ahead of ours, less what its quickest packet of
    /// late took on its way. `None` while none was heard.
    #[must_use]
    pub fn ahead(&self) -> Option<i64> {
        self.ahead
    }

    /// How many balancers are remembered.
    #[must_use]
    pub fn len(&self) -> usize {
        self.origins.len()
    }

    /// Whether nobody has sent yet.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.origins.is_empty()
    }

    fn source(&mut self, packet: &Packet<'_>) -> usize {
        if let Some(index) = self.origins.get_index_of(&packet.origin) {
            return index;
        }
        if self.origins.len() >= ORIGINS {
            self.forget_one();
        }
        self.counts.origins += 1;
        self.origins.insert_full(packet.origin, OriginState::at(packet.first)).0
    }

    /// Forgets one that was quiet since the hand last came by.
    fn forget_one(&mut self) {
        loop {
            if self.hand >= self.origins.len() {
                self.hand = 0;
            }
            if !std::mem::take(&mut self.origins[self.hand].active) {
                break;
            }
            self.hand += 1;
        }
        if let Some((_, source)) = self.origins.swap_remove_index(self.hand) {
            self.counts.add(&source);
        }
    }
}

impl PacketCounts {
    fn add(&mut self, source: &OriginState) {
        let lost = source.missing();
        self.lost = self.lost.saturating_add(lost);
        self.dropped = self.dropped.saturating_add(source.dropped.min(lost));
    }
}

/// Where a packet's records belong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum PacketPlace {
    /// Behind, or before, all that came.
    Next,
    /// Where some were missing.
    Hole,
    /// Where none are missing, or where nobody knows.
    Known,
}

impl OriginState {
    fn at(first: u64) -> Self {
        Self {
            base: first,
            end: first,
            holes: BTreeMap::new(),
            given_up: 0,
            known_from: 0,
            dropped: 0,
            clock: SenderClock::new(),
            active: true,
        }
    }

    fn mark(&mut self, first: u64, end: u64) -> PacketPlace {
        if first >= self.end {
            let before = self.end;
            self.end = end;
            self.miss(before, first);
            return PacketPlace::Next;
        }
        if end <= self.base && first >= self.known_from {
            self.miss(end, self.base);
            self.base = first;
            return PacketPlace::Hole;
        }
        let hole = self.holes.range(..=first).next_back().map(|(&from, &until)| (from, until));
        let Some((from, until)) = hole.filter(|&(_, until)| end <= until && first < until) else {
            return PacketPlace::Known;
        };
        self.holes.remove(&from);
        self.miss(from, first);
        self.miss(end, until);
        PacketPlace::Hole
    }

    /// Notes that nothing from `from` up to `until` has come.
    fn miss(&mut self, from: u64, until: u64) {
        if from >= until {
            return;
        }
        self.holes.insert(from, until);
        if self.holes.len() > HOLES
            && let Some((from, until)) = self.holes.pop_first()
        {
            self.given_up = self.given_up.saturating_add(until - from);
            self.known_from = until;
        }
    }

    fn missing(&self) -> u64 {
        self.holes.iter().map(|(from, until)| until - from).fold(self.given_up, u64::saturating_add)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::packet::{write_packet, write_record};
    use super::*;
    use crate::addr::{ClientAddr, ServerAddr};
    use crate::time::Resolution;

    const ORIGIN: SenderOrigin = SenderOrigin { id: 1, start: Timestamp::from_micros(5) };

    /// A packet of so many records.
    fn packet(origin: SenderOrigin, first: u64, count: u32, dropped: u64) -> Vec<u8> {
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

    fn receive(origins: &mut Origins, datagram: &[u8]) -> bool {
        let packet = Packet::parse(datagram).expect("we wrote it");
        let before = origins.counts().lost;
        let dating = origins.receive(&packet, Timestamp::from_micros(5_000));
        let missing = dating.map_or(0, |dating| dating.missing());
        assert_eq!(before.checked_add_signed(missing), Some(origins.counts().lost));
        dating.is_some()
    }

    #[test]
    fn each_lost_record_is_counted_and_a_late_one_is_lost_no_more() {
        let mut origins = Origins::new();
        for (first, count, taken, lost) in [
            (100, 5, true, 0),
            (105, 5, true, 0),
            (120, 5, true, 10),
            (120, 5, false, 10),
            (100, 5, false, 10),
            (112, 2, true, 8),
            (112, 2, false, 8),
            // It overlaps what came.
            (111, 2, false, 8),
            (110, 2, true, 6),
            (114, 6, true, 0),
            (114, 6, false, 0),
            // Before the first that came.
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
    fn what_a_balancer_dropped_itself_is_told_from_what_was_lost_on_the_way() {
        let mut origins = Origins::new();
        receive(&mut origins, &packet(ORIGIN, 0, 5, 0));
        receive(&mut origins, &packet(ORIGIN, 25, 5, 15));
        let counts = origins.counts();
        assert_eq!((counts.lost, counts.dropped), (20, 15));
    }

    #[test]
    fn a_balancer_that_starts_again_is_another_one() {
        let mut origins = Origins::new();
        let again = SenderOrigin { start: Timestamp::from_micros(6), ..ORIGIN };
        assert!(receive(&mut origins, &packet(ORIGIN, 0, 5, 0)));
        assert!(receive(&mut origins, &packet(again, 0, 5, 0)));
        assert_eq!((origins.counts().origins, origins.counts().duplicates), (2, 0));
    }

    #[test]
    fn holes_and_balancers_are_bounded_and_losses_stay_counted() {
        let mut origins = Origins::new();
        for number in 0..3_000 {
            receive(&mut origins, &packet(ORIGIN, number * 2, 1, 0));
        }
        assert_eq!(origins.counts().lost, 2_999);
        assert!(!receive(&mut origins, &packet(ORIGIN, 1, 1, 0)), "nobody knows any more");
        assert!(receive(&mut origins, &packet(ORIGIN, 5_001, 1, 0)));
        for id in 2..1_000 {
            receive(&mut origins, &packet(SenderOrigin { id, ..ORIGIN }, 0, 1, 0));
            assert!(origins.origins.len() <= ORIGINS);
        }
        assert_eq!(origins.counts().lost, 2_998);
        assert_eq!(origins.counts().origins, 999);
    }

    #[test]
    fn records_are_dated_by_their_age_and_not_after_their_arrival() {
        let datagram = packet(ORIGIN, 0, 1, 0);
        let packet = Packet::parse(&datagram).unwrap();
        let mapping = packet.mappings().next().unwrap();
        // Of the first packet nobody knows how long it travelled.
        let now = Timestamp::from_micros(7_000_000);
        let dating = Origins::new().receive(&packet, now).unwrap();
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
            let mut origins = Origins::new();
            let mut seen = std::collections::BTreeSet::new();
            for (first, count) in packets {
                let numbers = first..first + u64::from(count);
                let new = numbers.clone().all(|number| !seen.contains(&number));
                let taken = receive(&mut origins, &packet(ORIGIN, first, count, 0));
                // Those that overlap others are no packets of a balancer's.
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
