//! Packets of a run: what is confirmed, sent again, kept on the disk and given up.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use pen_records::addr::{ClientAddr, ServerAddr};
use pen_records::mapping::Mapping;
use pen_records::mapping::packet::{Packet, write_packet, write_record};
use pen_records::shipment::{DiscoveryAnswer, ReceivedShipments, StreamList};
use pen_testing::TempFolder;

use super::RecordOrigin;
use super::clock::{ClockReading, RunClock};
use super::run::{ROOM, RecordCount, RecordRun, RecordTally, RunRules};
use super::spool::{DiskPackets, EarlierRun};

const ASK: Duration = Duration::from_secs(1);
const UDP: RunRules = RunRules { is_sure: false, is_ordered: false, is_earlier: false, ask: ASK };
const SURE: RunRules = RunRules { is_sure: true, is_ordered: false, is_earlier: false, ask: ASK };
const STREAM: RunRules = RunRules { is_sure: true, is_ordered: true, is_earlier: false, ask: ASK };

/// A run and the time.
struct Bench {
    run: RecordRun,
    now: Instant,
}

impl Bench {
    fn new(rules: RunRules) -> Self {
        let RecordOrigin { origin, clock } = RecordOrigin::new();
        Self { run: RecordRun::new(origin, clock, rules, 0, None), now: Instant::now() }
    }

    /// A run with five packets of ten records, and a question about all of them.
    fn asked(rules: RunRules) -> Self {
        let mut bench = Self::new(rules);
        for first in [0, 10, 20, 30, 40] {
            assert_eq!(bench.keep(first, 10), RecordTally::default());
        }
        bench.wait(ASK);
        assert_eq!(bench.run.question(7, bench.now), Some((7, 50)));
        bench
    }

    fn wait(&mut self, time: Duration) {
        self.now += time;
    }

    fn keep(&mut self, first: u64, count: u32) -> RecordTally {
        let is_live = self.run.is_live();
        let bytes = packet(&self.run, first, count);
        self.run.keep((first, first + u64::from(count)), &bytes, is_live, self.now)
    }

    /// What a collector answers that has received `from..upto`.
    fn answer(&mut self, from: u64, upto: u64) -> RecordTally {
        self.reply(Some(ReceivedShipments { from, upto }))
    }

    fn reply(&mut self, received: Option<ReceivedShipments>) -> RecordTally {
        let positions = StreamList::default();
        let answer = DiscoveryAnswer { nonce: 7, window: 0, datagram: 0, received, positions };
        self.run.answered(&answer).expect("it is its question")
    }

    fn ask(&mut self) -> u64 {
        self.wait(2 * ASK);
        self.run.question(7, self.now).expect("a question is due").1
    }

    /// Numbers of the first records of the packets that are sent again.
    fn again(&mut self) -> Vec<u64> {
        let mut sent = Vec::new();
        // A pause after an answer that confirmed nothing.
        self.wait(Duration::from_secs(5));
        for _ in 0..10_000 {
            self.wait(Duration::from_millis(5));
            let take = |packet: &[u8]| {
                sent.push(Packet::parse(packet).expect("it is a packet").first);
                true
            };
            if !self.run.send_burst(ClockReading::now(), self.now, take).expect("a disk") {
                break;
            }
        }
        sent
    }
}

fn packet(run: &RecordRun, first: u64, count: u32) -> Vec<u8> {
    let (mut records, mut packet) = (Vec::new(), Vec::new());
    for _ in 0..count {
        write_record(&Mapping::new(ClientAddr::Unix, ServerAddr::Unix(b"/run/a")), &mut records);
    }
    let sent = run.clock.at(ClockReading::now());
    write_packet(run.origin, first, sent, 0, (count, &records), &mut packet);
    packet
}

#[test]
fn what_has_come_is_forgotten_and_what_is_missing_is_sent_again() {
    for (from, upto, expected) in [
        (0, 50, &[][..]),
        (0, 20, &[20, 30, 40]),
        (0, 25, &[20, 30, 40]),
        (0, 0, &[0, 10, 20, 30, 40]),
        // A collector that has just been started knows nothing of what came before.
        (50, 50, &[0, 10, 20, 30, 40]),
        (30, 50, &[0, 10, 20, 30, 40]),
    ] {
        let mut bench = Bench::asked(UDP);
        bench.answer(from, upto);
        assert_eq!(bench.again(), expected, "{from} {upto}");
    }
}

#[test]
fn a_collector_that_does_not_tell_confirms_all() {
    let mut bench = Bench::asked(SURE);
    assert_eq!(bench.reply(None).written, 50);
    assert_eq!((bench.again(), bench.run.waiting()), (vec![], 0));
}

#[test]
fn records_count_as_written_when_they_are_sent_or_if_kept_when_they_are_confirmed() {
    let mut bench = Bench::asked(UDP);
    assert_eq!(bench.run.count(10, RecordCount::Written).written, 10);
    assert_eq!(bench.run.count(20, RecordCount::Failed).failed, 10);
    // The first and the last two were not counted before.
    assert_eq!(bench.answer(0, 50), RecordTally { written: 40, failed: -10, lost: 0 });
    let mut bench = Bench::asked(SURE);
    assert_eq!(bench.run.count(10, RecordCount::Failed), RecordTally::default());
    assert_eq!(bench.answer(0, 50), RecordTally { written: 50, failed: 0, lost: 0 });
}

#[test]
fn a_collector_that_is_away_is_asked_again_and_nothing_is_given_up_for_its_age() {
    let mut bench = Bench::asked(UDP);
    bench.answer(0, 10);
    bench.again();
    let mut questions = 0;
    for _ in 0..3_600 {
        bench.wait(Duration::from_secs(1));
        questions += u32::from(bench.run.question(7, bench.now).is_some());
        assert_eq!(bench.run.bound(bench.now), RecordTally::default());
    }
    assert_eq!(questions, 3_600);
    bench.answer(0, 10);
    assert_eq!(bench.again(), [10, 20, 30, 40]);
}

#[test]
fn one_that_never_replied_is_asked_seldom_and_nothing_is_said_to_be_lost() {
    let mut bench = Bench::asked(UDP);
    let mut questions = 0;
    for number in 5..60_000 {
        bench.wait(Duration::from_millis(10));
        assert_eq!(bench.keep(number * 10, 10).lost, 0);
        questions += u32::from(bench.run.question(7, bench.now).is_some());
    }
    assert!(questions < 50, "{questions}");
    assert!(bench.run.waiting() < 60_000, "{}", bench.run.waiting());
}

#[test]
fn memory_is_bounded_in_bytes_and_what_is_given_up_is_counted() {
    let mut bench = Bench::asked(UDP);
    bench.answer(0, 50);
    let packet = packet(&bench.run, 50, 60);
    let (mut lost, mut number) = (0, 50);
    let packets = 2 * ROOM / packet.len();
    for _ in 0..packets {
        lost += bench.run.keep((number, number + 60), &packet, true, bench.now).lost;
        number += 60;
    }
    let kept = (ROOM / packet.len()) as u64;
    assert_eq!(lost, (packets as u64 - kept) * 60);
    // The collector misses them for ever, and what comes behind is confirmed nevertheless.
    bench.ask();
    bench.answer(0, 50);
    let mut sent = 0;
    for _ in 0..100 {
        if bench.run.waiting() == 0 {
            break;
        }
        sent += bench.again().len() as u64;
        bench.ask();
        bench.answer(0, 50);
    }
    assert_eq!((sent, bench.run.waiting()), (kept, 0));
}

#[test]
fn numbers_that_no_packet_has_are_passed_over_by_a_collector_that_is_told() {
    for passes in [true, false] {
        let mut bench = Bench::new(SURE);
        bench.keep(0, 10);
        bench.keep(15, 10);
        bench.ask();
        bench.answer(0, 10);
        assert_eq!((bench.again(), bench.run.lowest()), (vec![], Some(15)));
        assert_eq!(bench.run.question(7, bench.now), Some((7, 25)), "at once");
        if passes {
            bench.answer(0, 25);
        } else {
            bench.answer(0, 10);
            assert_eq!(bench.again(), [15]);
            bench.ask();
            bench.answer(0, 10);
        }
        assert_eq!(bench.run.waiting(), 0, "{passes}");
    }
}

#[test]
fn a_stream_sends_nothing_twice_unless_its_connection_breaks() {
    let mut bench = Bench::new(STREAM);
    for first in [0, 10, 20] {
        bench.keep(first, 10);
    }
    assert!(bench.again().is_empty(), "nothing before the collector has replied");
    assert_eq!(bench.run.question(7, bench.now), Some((7, 0)));
    bench.answer(0, 0);
    assert_eq!(bench.again(), [0, 10, 20]);
    bench.keep(30, 10);
    assert_eq!(bench.ask(), 40);
    bench.answer(0, 20);
    bench.run.disconnect();
    bench.keep(40, 10);
    assert!(bench.again().is_empty());
    assert_eq!(bench.run.question(7, bench.now), Some((7, 20)));
    bench.answer(0, 30);
    assert_eq!(bench.again(), [30, 40]);
    assert!(bench.run.is_complete());
}

#[test]
fn new_records_wait_for_their_turn_behind_a_long_backlog() {
    let mut bench = Bench::asked(SURE);
    bench.answer(0, 50);
    bench.keep(50, 1);
    for number in 0..60_000_u64 {
        bench.run.keep((51 + number * 10, 61 + number * 10), b"", bench.run.is_live(), bench.now);
    }
    assert!(!bench.run.is_live() && !bench.run.is_complete());
}

#[test]
fn a_collector_that_never_replied_gets_all_records_at_once() {
    let mut bench = Bench::new(UDP);
    for number in 0..20 {
        assert!(bench.run.is_live(), "{number}");
        bench.run.keep((number * 100_000, (number + 1) * 100_000), b"", true, bench.now);
    }
}

#[test]
fn what_waits_for_a_second_is_on_the_disk_and_the_next_run_sends_it() {
    let (folder, mut bench) = (TempFolder::new(), Bench::asked(SURE));
    bench.answer(0, 10);
    assert_eq!(bench.again(), [10, 20, 30, 40]);
    let origin = bench.run.origin;
    bench.run.disk = Some(DiskPackets::create(folder.path(), origin, 10, 1 << 20).unwrap());
    bench.keep(50, 10);
    // The last one is too young.
    assert!(bench.run.store(false, 1 << 30, bench.now).unwrap());
    assert!(DiskPackets::of_earlier_runs(folder.path(), 1 << 20).unwrap().is_empty(), "locked");
    bench.ask();
    bench.answer(0, 20);
    bench.run.disk.as_mut().unwrap().tidy().unwrap();
    drop(bench);
    let mut found = DiskPackets::of_earlier_runs(folder.path(), 1 << 20).unwrap();
    let EarlierRun { origin: earlier, clock, packets } = found.pop().unwrap();
    assert_eq!(earlier, origin);
    let run = RecordRun::new(origin, clock, SURE, 0, Some(packets));
    let mut bench = Bench { run, now: Instant::now() };
    assert!(bench.again().is_empty(), "the collector is asked first");
    assert_eq!(bench.run.question(7, bench.now), Some((7, 20)));
    bench.answer(0, 30);
    assert_eq!(bench.again(), [30, 40]);
    // One is lost on the way.
    assert_eq!(bench.ask(), 50);
    bench.answer(0, 40);
    assert_eq!(bench.again(), [40]);
    assert_eq!(bench.ask(), 50);
    bench.answer(0, 50);
    assert_eq!(bench.run.waiting(), 0);
}

#[test]
fn packets_are_on_the_disk_at_once_while_the_collector_does_not_reply() {
    let (folder, mut bench) = (TempFolder::new(), Bench::asked(SURE));
    bench.answer(0, 50);
    let disk = DiskPackets::create(folder.path(), bench.run.origin, 50, 1 << 20).unwrap();
    bench.run.disk = Some(disk);
    bench.keep(50, 10);
    assert_eq!(bench.run.store_due(bench.now), Some(bench.now + ASK));
    bench.wait(ASK);
    assert!(bench.run.question(7, bench.now).is_some());
    bench.wait(Duration::from_millis(100));
    bench.keep(60, 10);
    assert!(bench.run.store(false, 1 << 30, bench.now).unwrap());
    assert_eq!(bench.run.store_due(bench.now), None);
}

#[test]
fn a_question_tells_of_records_that_wait_to_be_sent() {
    let mut bench = Bench::new(STREAM);
    bench.keep(0, 10);
    bench.keep(10, 10);
    // It asks about those that were sent, and lines wait for all.
    assert_eq!(bench.run.question(7, bench.now), Some((7, 0)));
    assert_eq!(bench.run.told(20), 20);
}

#[test]
fn what_memory_does_not_hold_is_sent_from_the_disk_and_a_full_one_loses_the_newest() {
    let (folder, mut bench) = (TempFolder::new(), Bench::asked(SURE));
    bench.answer(0, 50);
    let disk = DiskPackets::create(folder.path(), bench.run.origin, 50, 1 << 20).unwrap();
    bench.run.disk = Some(disk);
    let (mut number, mut lost, limit) = (50, 0, 2 * ROOM as u64);
    let bytes = packet(&bench.run, 0, 60).len();
    for _ in 0..4 * ROOM / bytes {
        let bytes = packet(&bench.run, number, 60);
        lost += bench.run.keep((number, number + 60), &bytes, true, bench.now).lost;
        number += 60;
        let room = limit.saturating_sub(bench.run.disk.as_ref().unwrap().size());
        let _ = bench.run.store(false, room, bench.now).unwrap();
    }
    let records = number - 50;
    let disk = bench.run.disk.as_ref().unwrap();
    assert!(disk.size() <= limit && disk.size() > limit - (64 << 10), "{}", disk.size());
    // A quarter is in memory, a half on the disk, less what entries need.
    assert!((records / 5..records / 3).contains(&lost), "{lost} of {records}");
    // All that is left is sent, in windows, each in order.
    let (mut received, mut first) = (BTreeSet::new(), 50);
    for _ in 0..1_000 {
        if bench.run.waiting() == 0 {
            break;
        }
        bench.ask();
        while received.contains(&first) {
            first += 60;
        }
        bench.answer(0, first);
        let sent = bench.again();
        assert!(sent.is_sorted());
        received.extend(sent);
    }
    assert_eq!(received.len() as u64 * 60, records - lost);
}

#[test]
fn a_packet_of_an_earlier_run_is_dated_by_the_time_that_has_passed() {
    let (folder, RecordOrigin { origin, clock }) = (TempFolder::new(), RecordOrigin::new());
    drop(DiskPackets::create(folder.path(), origin, 0, 1 << 20).unwrap());
    let earlier = DiskPackets::of_earlier_runs(folder.path(), 1 << 20).unwrap().pop().unwrap();
    let (reading, hour) = (ClockReading::now(), 3_600_000_000);
    // The system's clock was set back by an hour since.
    let later = ClockReading { wall: reading.wall.offset_by(-hour), boot: reading.boot + hour };
    let passed = earlier.clock.at(later).micros_since(clock.at(reading));
    assert!((passed - hour).abs() < 5_000, "{passed}");
    let _ = RunClock::new(reading);
}
