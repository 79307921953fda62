//! The records of one run of pen that the collector has not confirmed: kept, asked about, and sent again.
//!
//! Packets go out at once, and nobody knows whether they arrived. So the collector is asked which have come, and what it has
//! not received is sent again. The newest packets are in memory; with a spool, those that wait for longer than a second are
//! on the disk, too. Packets of an earlier run are on the disk only.

mod asking;
mod kept;
mod sending;

use std::collections::VecDeque;
use std::io;
use std::time::{Duration, Instant};

use pen_records::shipment::SenderOrigin;

use self::asking::{AwaitedHole, RecordQuestion};
use self::kept::KeptPacket;
pub(super) use self::kept::{RecordCount, RecordTally};
use super::clock::RunClock;
use super::spool::DiskPackets;

/// Most bytes of packets in memory.
pub(super) const ROOM: usize = 16 << 20;
/// Age from which a packet is forgotten that went to a collector which never replied.
const OLDEST: Duration = Duration::from_secs(50);
/// Age from which a packet is on the disk, while the collector replies.
const IN_MEMORY: Duration = Duration::from_secs(1);
/// Silence of the collector after which packets go to the disk at once.
const DOUBT: Duration = Duration::from_millis(100);
/// Pause between two looks for a reply, and after a long silence.
const LOOK: Duration = Duration::from_millis(20);
const SELDOM: Duration = Duration::from_millis(100);
const LONG: Duration = Duration::from_secs(2);
/// New records wait for their turn if the first unconfirmed one is that far behind: a collector that has just been started
/// takes numbers for forged that are much further apart.
const APART: u64 = 1 << 19;
/// Most holes remembered.
const HOLES: usize = 1_024;

/// How packets are sent.
#[derive(Clone, Copy, Debug)]
pub(super) struct RunRules {
    /// Nothing counts as written before it is confirmed, and nothing is forgotten for its age.
    pub(super) is_sure: bool,
    /// Datagrams arrive in order or not at all: a stream.
    pub(super) is_ordered: bool,
    /// The run has ended.
    pub(super) is_earlier: bool,
    /// Pause before a question after the first unconfirmed packet.
    pub(super) ask: Duration,
}

/// The unconfirmed packets of a run, oldest first.
#[derive(Debug)]
pub(super) struct RecordRun {
    pub(super) origin: SenderOrigin,
    pub(super) clock: RunClock,
    rules: RunRules,
    pub(super) disk: Option<DiskPackets>,
    memory: VecDeque<KeptPacket>,
    bytes: usize,
    /// Packets at the front of `memory` that are on the disk as well.
    stored: usize,
    /// All records below were sent, since the last connection if there are connections.
    sent: u64,
    /// The records that are sent again.
    again: Option<(u64, u64)>,
    /// Numbers that no packet has, oldest first.
    holes: VecDeque<(u64, u64)>,
    /// The hole that the collector waits for.
    behind_hole: Option<AwaitedHole>,
    question: Option<RecordQuestion>,
    /// When the first packet since the last question was sent.
    since: Option<Instant>,
    /// A question is due at once.
    is_curious: bool,
    /// The collector has replied before.
    is_known: bool,
    /// The collector has replied since the last connection.
    is_synced: bool,
    /// Answers in a row that confirmed nothing of what was sent again.
    stalls: u32,
    /// Bytes sent again since the last answer, and the next time for a burst.
    under_way: usize,
    burst: Option<Instant>,
}

impl RecordRun {
    /// A run whose next record has the number `first`.
    pub(super) fn new(
        origin: SenderOrigin,
        clock: RunClock,
        rules: RunRules,
        first: u64,
        disk: Option<DiskPackets>,
    ) -> Self {
        Self {
            origin,
            clock,
            rules: RunRules { is_earlier: disk.is_some(), ..rules },
            // What an earlier run has sent, and a stream before it is connected, is asked for first.
            is_synced: disk.is_none() && !rules.is_ordered,
            sent: disk.as_ref().map_or(first, DiskPackets::confirmed),
            disk,
            memory: VecDeque::new(),
            bytes: 0,
            stored: 0,
            again: None,
            holes: VecDeque::new(),
            behind_hole: None,
            question: None,
            since: None,
            is_curious: false,
            is_known: false,
            stalls: 0,
            under_way: 0,
            burst: None,
        }
    }

    pub(super) const fn is_known(&self) -> bool {
        self.is_known
    }

    /// Whether the collector replies and takes nothing.
    pub(super) const fn is_stalled(&self) -> bool {
        self.stalls >= 4
    }

    /// How long the collector has not replied.
    pub(super) fn silence(&self, now: Instant) -> Duration {
        self.question.map_or(Duration::ZERO, |it| now.saturating_duration_since(it.first))
    }

    /// Number of the first unconfirmed record.
    pub(super) fn lowest(&self) -> Option<u64> {
        let on_disk = self.disk.as_ref().filter(|disk| disk.confirmed() < disk.end());
        let in_memory = self.memory.front().map(|packet| packet.first);
        let lowest = on_disk.map(DiskPackets::confirmed).or(in_memory)?;
        Some(self.hole_at(lowest).map_or(lowest, |(_, end)| end))
    }

    /// Returns the hole that a number lies in.
    fn hole_at(&self, number: u64) -> Option<(u64, u64)> {
        let at = self.holes.partition_point(|hole| hole.1 <= number);
        self.holes.get(at).copied().filter(|hole| hole.0 <= number)
    }

    /// Number after the last kept record.
    fn end(&self) -> u64 {
        let disk = self.disk.as_ref().map(DiskPackets::end);
        self.memory.back().map(|packet| packet.end).or(disk).unwrap_or(self.sent).max(self.sent)
    }

    /// Number of records that are kept, about.
    pub(super) fn waiting(&self) -> u64 {
        self.lowest().map_or(0, |lowest| self.end() - lowest)
    }

    /// Returns the number that a question tells as that of the next record, which is `next` for a living run. Lines wait for
    /// records that have not been sent yet, too.
    pub(super) fn told(&self, next: u64) -> u64 {
        if !self.rules.is_earlier && self.is_complete() { next } else { self.end() }
    }

    /// Whether memory is nearly full.
    pub(super) const fn is_short_of_memory(&self) -> bool {
        self.bytes > ROOM - ROOM / 8
    }

    /// Number of the first record in memory.
    pub(super) fn first_kept(&self) -> u64 {
        self.memory.front().map_or(self.sent, |packet| packet.first)
    }

    /// Asks as soon as possible.
    pub(super) const fn ask_now(&mut self) {
        (self.question, self.is_curious) = (None, true);
    }

    /// Whether all records were sent, and none is known to be missing.
    pub(super) fn is_complete(&self) -> bool {
        self.is_synced && self.again.is_none() && self.sent >= self.end()
    }

    /// Whether a new packet goes out at once. One that never replies gets all of them.
    pub(super) fn is_live(&self) -> bool {
        let is_next = self.is_synced && self.sent >= self.end();
        let is_near = self.waiting() <= APART || !(self.is_known || self.rules.is_sure);
        is_next && is_near && !(self.rules.is_ordered && self.again.is_some())
    }

    /// Keeps a new packet, which may have been sent.
    pub(super) fn keep(
        &mut self,
        (first, end): (u64, u64),
        bytes: &[u8],
        is_sent: bool,
        now: Instant,
    ) -> RecordTally {
        let before = self.end();
        self.add_hole(before, first);
        self.since.get_or_insert(now);
        self.bytes += bytes.len();
        let (bytes, counted) = (bytes.to_vec(), RecordCount::Waiting);
        self.memory.push_back(KeptPacket { bytes, first, end, since: now, counted, place: None });
        if is_sent {
            self.sent = end;
        }
        self.bound(now)
    }

    /// Counts the records of a packet by what is known of its sending.
    pub(super) fn count(&mut self, first: u64, counted: RecordCount) -> RecordTally {
        let at = self.memory.partition_point(|packet| packet.first < first);
        let packet = self.memory.get_mut(at).filter(|it| it.first == first && !self.rules.is_sure);
        packet.map_or_else(RecordTally::default, |packet| packet.count(counted))
    }

    /// Notes that no packet has these numbers.
    fn add_hole(&mut self, from: u64, to: u64) {
        if from >= to {
            return;
        }
        let at = self.holes.partition_point(|hole| hole.1 < from);
        match self.holes.get_mut(at) {
            Some(hole) if hole.0 <= to => *hole = (hole.0.min(from), hole.1.max(to)),
            _ => self.holes.insert(at, (from, to)),
        }
        if self.holes.len() > HOLES {
            self.holes.pop_front();
        }
    }

    /// Gives up the oldest packets beyond the bounds of memory, if they are not on the disk.
    pub(super) fn bound(&mut self, now: Instant) -> RecordTally {
        let mut tally = RecordTally::default();
        let is_stranger = !self.is_known && !self.rules.is_sure;
        while let Some(packet) = self.memory.front() {
            let is_old = is_stranger && now.saturating_duration_since(packet.since) > OLDEST;
            if self.bytes <= ROOM && !is_old {
                break;
            }
            let (first, end) = (packet.first, packet.end);
            let Some(packet) = self.pop() else { break };
            if packet.place.is_some() {
                continue;
            }
            self.add_hole(first, end);
            // Records for a collector that never replies may have arrived all the same.
            if !is_stranger {
                tally.add(packet.lose());
            }
        }
        tally
    }

    fn pop(&mut self) -> Option<KeptPacket> {
        let packet = self.memory.pop_front()?;
        self.bytes -= packet.bytes.len();
        self.stored = self.stored.saturating_sub(1);
        Some(packet)
    }

    /// How long a packet stays off the disk. What a killed pen had sent reaches a collector that replies.
    fn patience(&self, now: Instant) -> Duration {
        if self.silence(now) < DOUBT { IN_MEMORY } else { Duration::ZERO }
    }

    /// Stores packets that have waited for long enough, all of them if `is_last`, or if memory is short. `room` is the number of
    /// bytes for them on the disk. Returns whether there was room.
    pub(super) fn store(&mut self, is_last: bool, room: u64, now: Instant) -> io::Result<bool> {
        let patience = self.patience(now);
        let Some(disk) = &mut self.disk else { return Ok(true) };
        let (ahead, mut left) = (self.clock.ahead(), room);
        while let Some(packet) = self.memory.get_mut(self.stored) {
            let waited = now.saturating_duration_since(packet.since) >= patience;
            if !(is_last || waited || self.bytes > ROOM - ROOM / 8) {
                break;
            }
            left = left.saturating_sub(packet.bytes.len() as u64 + 32);
            let numbers = (packet.first, packet.end);
            packet.place = (left > 0).then(|| disk.store(numbers, ahead, &packet.bytes)).flatten();
            if packet.place.is_none() {
                return disk.write().map(|()| false);
            }
            self.stored += 1;
        }
        disk.write().map(|()| true)
    }

    /// Returns when a packet is to be stored.
    pub(super) fn store_due(&self, now: Instant) -> Option<Instant> {
        self.memory.get(self.stored).map(|packet| packet.since + self.patience(now))
    }

    /// Returns when there is something to do.
    pub(super) fn due(&self, now: Instant) -> Option<Instant> {
        let ask = match self.question {
            Some(question) => {
                let look = if self.silence(now) < LONG { LOOK } else { SELDOM };
                Some((question.looked + look).min(question.last + question.pause))
            }
            None if self.must_ask() => Some(now),
            None => {
                self.since.filter(|_| self.lowest().is_some()).map(|since| since + self.rules.ask)
            }
        };
        let burst = self.may_send_again().then(|| self.burst.unwrap_or(now));
        let is_stranger = !self.is_known && !self.rules.is_sure;
        let oldest = self.memory.front().filter(|_| is_stranger).map(|it| it.since + OLDEST);
        [ask, burst, oldest].into_iter().flatten().min()
    }

    fn confirm(&mut self, upto: u64) -> RecordTally {
        let (mut tally, mut place) = (RecordTally::default(), None);
        while self.memory.front().is_some_and(|packet| packet.end <= upto) {
            let Some(mut packet) = self.pop() else { break };
            place = packet.place.or(place);
            tally.add(packet.count(RecordCount::Written));
        }
        if let Some(disk) = &mut self.disk {
            disk.confirm(upto, place);
        }
        tally
    }

    /// The connection is lost, and with it what was sent and not confirmed.
    pub(super) fn disconnect(&mut self) {
        self.sent = self.lowest().unwrap_or(self.sent);
        (self.question, self.again, self.is_synced) = (None, None, false);
        (self.under_way, self.burst) = (0, None);
    }

    /// Gives up all that is kept in memory only.
    pub(super) fn give_up(&mut self) -> RecordTally {
        let mut tally = RecordTally::default();
        while let Some(packet) = self.pop() {
            if packet.place.is_none() && packet.counted == RecordCount::Waiting {
                tally.add(packet.lose());
            }
        }
        tally
    }
}
