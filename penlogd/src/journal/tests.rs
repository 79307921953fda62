//! The journal, a core and a log on a disk that forgets, against shippers that send again what was not confirmed.

use std::net::SocketAddr;
use std::time::Duration;

use pen_daemon::logfile::{LinesBehind, LogPlace};
use pen_journal::simulation::ForgetfulDisk;
use pen_records::attribution::JoinSettings;
use pen_records::shipment::{
    DiscoveryQuestion, SendStamp, SenderOrigin, ShipmentServer, ShipmentWriter, StreamList,
};
use pen_testing::random::SeededRandom;

use super::*;
use crate::collector::{CollectorSettings, Peer};

const LIMITS: JournalLimits = JournalLimits { segment: 4_000, tail: 60_000 };
const RETENTION: Retention = Retention { micros: 3_000_000, least: 2_000_000, bytes: 20_000 };
/// Lines of a shipment.
const LINES: u64 = 3;

/// A shipper: what it has to send, and how far that is confirmed.
struct ModelShipper {
    origin: SenderOrigin,
    shipments: Vec<Vec<u8>>,
    sent: usize,
    confirmed: usize,
}

impl ModelShipper {
    fn new(id: u64, shipments: u64) -> Self {
        let origin = SenderOrigin { id, start: Timestamp::from_micros(5) };
        let mut writer = ShipmentWriter::new(origin, ShipmentServer::default(), 512);
        let shipments = (0..shipments).filter_map(|number| {
            for line in 0..LINES {
                let line = format!("line {id}/{}", number * LINES + line);
                let _ = writer.push(line.as_bytes(), None);
            }
            writer.finish(SendStamp::default(), <[u8]>::to_vec)
        });
        Self { origin, shipments: shipments.collect(), sent: 0, confirmed: 0 }
    }

    fn question(&self) -> Vec<u8> {
        let shipments = self.sent as u64;
        let lines = shipments * LINES;
        let mut question = Vec::new();
        let (nonce, origin, streams) = (1, self.origin, StreamList::default());
        let asked = DiscoveryQuestion { nonce, origin, shipments, lines, streams };
        asked.write(&mut question);
        question
    }
}

/// The log on its own disk, where only synced bytes survive a power cut.
#[derive(Default)]
struct ModelLog {
    bytes: Vec<u8>,
    synced: usize,
}

impl ModelLog {
    const fn place(offset: usize) -> LogPlace {
        LogPlace { device: 1, inode: 1, offset: offset as u64 }
    }

    fn cut_power(&mut self, random: &mut SeededRandom) {
        let kept = self.synced + random.below(self.bytes.len() - self.synced + 1);
        let whole = self.synced + random.below(kept - self.synced + 1);
        self.bytes.truncate(kept);
        if random.unit() < 0.3 {
            self.bytes[whole..].fill(0);
        }
        self.synced = self.bytes.len();
    }

    /// As [`pen_daemon::logfile::lines_behind`] does with files.
    fn lines_behind(&mut self, offset: u64) -> LinesBehind {
        let offset = usize::try_from(offset).expect("it is short");
        let behind = &self.bytes[offset..];
        let whole = behind.split(|&byte| byte == 0).next().unwrap_or_default();
        let whole = whole.iter().rposition(|&byte| byte == b'\n').map_or(0, |at| at + 1);
        let lines = behind[..whole].iter().filter(|&&byte| byte == b'\n').count();
        self.bytes.truncate(offset + whole);
        self.synced = self.synced.min(self.bytes.len());
        LinesBehind::Lines(lines as u64)
    }
}

fn peer() -> Peer {
    SocketAddr::from(([192, 0, 2, 1], 5_000)).into()
}

struct World {
    random: SeededRandom,
    disk: ForgetfulDisk,
    log: ModelLog,
    shippers: Vec<ModelShipper>,
    now: Timestamp,
}

/// One run of a collector.
struct Life {
    core: Collector,
    journal: CollectorJournal<ForgetfulDisk>,
    /// Lines written by earlier runs and by this one.
    lines: u64,
    /// Answers that wait: the position that has to be safe, the shipper, and the shipments that it may forget.
    answers: Vec<(Position, usize, usize)>,
}

impl World {
    fn new(seed: u64) -> Self {
        let mut random = SeededRandom::new(seed);
        let shippers =
            (1..=3).map(|id| ModelShipper::new(id, 20 + random.below(60) as u64)).collect();
        let now = Timestamp::from_seconds(1_795_379_000);
        Self { random, disk: ForgetfulDisk::new(seed), log: ModelLog::default(), shippers, now }
    }

    fn begin(&mut self) -> Life {
        let mut survey = Survey::of(self.disk.clone()).expect("it reads");
        assert_eq!((survey.unknown, survey.damaged.len()), (0, 0));
        let behind = match survey.checkpoint {
            Some(checkpoint) => self.log.lines_behind(checkpoint.place.offset),
            None => LinesBehind::Lines(0),
        };
        let written = std::mem::take(&mut survey.decided).written(survey.checkpoint, &behind);
        assert_eq!(written.doubtful, 0);
        let settings = CollectorSettings {
            engine: JoinSettings { wait: Duration::from_millis(50), ..JoinSettings::default() },
            held_bytes: 1 << 20,
            unfinished_bytes: 1 << 20,
            servers: 10,
            senders: 10,
            balancers: 10,
            ..CollectorSettings::default()
        };
        let mut core = Collector::new(settings);
        let opened = (&survey, written.lines);
        let mut journal =
            CollectorJournal::open(self.disk.clone(), LIMITS, Durability::Disk, RETENTION, opened)
                .expect("it opens");
        core.begin_replay(written.done);
        replay(self.disk.clone(), (journal.end(), false), &mut core, |core, at| {
            core.decide(at, &mut journal.decided.log, None);
        })
        .expect("it reads");
        core.end_replay();
        journal.set_written(core.done());
        self.log.synced = self.log.bytes.len();
        let place = ModelLog::place(self.log.synced);
        assert!(journal.is_ready(&core));
        assert!(journal.check(&Checkpoint { lines: written.lines, place }, false));
        Life { core, journal, lines: written.lines, answers: Vec::new() }
    }

    /// Lets a run do one thing.
    fn step(&mut self, life: &mut Life) {
        self.now = self.now + Duration::from_micros(1_000 * self.random.below(60) as u64);
        match self.random.below(12) {
            0..=3 => self.send(life),
            4 => self.ask(life),
            5 => {
                life.core.decide(self.now, &mut life.journal.decided.log, None);
                if life.journal.is_ready(&life.core) {
                    life.journal.list(&mut life.core);
                }
            }
            6 => drop(life.journal.write()), // the disk may be full
            7 => {
                let task = life.journal.write().and_then(|()| life.journal.sync_task());
                if let Ok(Some(task)) = task {
                    let _ = life.journal.synced(task.run()); // it may fail
                }
                self.confirm(life);
            }
            8 => self.write(life),
            9 => {
                self.log.synced = self.log.bytes.len();
                let place = ModelLog::place(self.log.synced);
                life.journal.check(&Checkpoint { lines: life.lines, place }, false);
            }
            10 => life.journal.forget(self.now).expect("it can remove"),
            _ => {
                let is_full = self.random.unit() < 0.3;
                self.disk.set_room(if is_full { self.random.below(500) as u64 } else { u64::MAX });
                self.disk.set_failing(self.random.below(3) as u64);
            }
        }
    }

    /// Sends some shipments of a shipper: new ones, or again what is not confirmed.
    fn send(&mut self, life: &mut Life) {
        let index = self.random.below(self.shippers.len());
        let shipper = &mut self.shippers[index];
        let is_again = self.random.unit() < 0.3;
        let from = if is_again { shipper.confirmed } else { shipper.sent };
        let upto = (from + 1 + self.random.below(6)).min(shipper.shipments.len());
        for number in from..upto {
            if self.random.unit() < 0.1 || !life.journal.is_ready(&life.core) {
                continue;
            }
            let (first_line, datagram) = (life.core.next_line(), &shipper.shipments[number]);
            let (peer, arrived) = (peer(), self.now.into());
            let _ = life.core.receive_from(peer, datagram, arrived);
            if life.core.has_taken() {
                let bytes = datagram;
                life.journal.record(&JournaledDatagram { peer, arrived, first_line, bytes });
            }
        }
        shipper.sent = shipper.sent.max(upto);
    }

    fn ask(&mut self, life: &mut Life) {
        let index = self.random.below(self.shippers.len());
        let shipper = &self.shippers[index];
        let question = shipper.question();
        let answer =
            life.core.receive_from(peer(), &question, self.now.into()).expect("it is answered");
        let received = answer.received.expect("it says what came");
        // Nothing is known of what came before.
        let [from, upto] =
            [received.from, received.upto].map(|it| usize::try_from(it).expect("it is small"));
        if from <= shipper.confirmed {
            let upto = upto.min(shipper.sent);
            life.answers.push((life.journal.end(), index, upto));
        }
    }

    fn confirm(&mut self, life: &mut Life) {
        let safe = life.journal.safe();
        life.answers.retain(|&(position, index, upto)| {
            let is_due = position <= safe;
            if is_due {
                let shipper = &mut self.shippers[index];
                shipper.confirmed = shipper.confirmed.max(upto);
            }
            !is_due
        });
    }

    /// Writes lines that are listed.
    fn write(&mut self, life: &mut Life) {
        while let Some(batch) = life.journal.next_batch() {
            self.log.bytes.extend_from_slice(&batch.log);
            life.lines += batch.log.iter().filter(|&&byte| byte == b'\n').count() as u64;
        }
    }

    /// Ends a run in the middle of something.
    fn kill(&mut self, mut life: Life) {
        if let Some(batch) = life.journal.next_batch() {
            let part = self.random.below(batch.log.len() + 1);
            self.log.bytes.extend_from_slice(&batch.log[..part]);
        }
        drop(life);
        self.disk.set_room(u64::MAX);
        self.disk.set_failing(0);
        if self.random.unit() < 0.5 {
            self.disk.cut_power();
            self.log.cut_power(&mut self.random);
        }
    }

    /// Lets a last run get everything.
    fn end(&mut self) {
        let mut life = self.begin();
        for index in 0..self.shippers.len() {
            let shipper = &mut self.shippers[index];
            for datagram in &shipper.shipments[shipper.confirmed..] {
                assert!(life.journal.is_ready(&life.core) || life.journal.flush().is_ok());
                let first_line = life.core.next_line();
                let (peer, arrived) = (peer(), self.now.into());
                let _ = life.core.receive_from(peer, datagram, arrived);
                if life.core.has_taken() {
                    let bytes = datagram;
                    life.journal.record(&JournaledDatagram { peer, arrived, first_line, bytes });
                }
            }
        }
        life.core.finish(self.now, &mut life.journal.decided.log, None);
        assert!(life.journal.is_ready(&life.core));
        life.journal.list(&mut life.core);
        life.journal.flush().expect("the disk works");
        self.write(&mut life);
        assert_eq!(life.journal.waiting_lines(), 0);
    }
}

#[test]
fn every_confirmed_line_is_in_the_log_once_whatever_is_killed_and_forgotten() {
    let seeds = std::env::var("PEN_SEEDS").ok().and_then(|seeds| seeds.parse().ok());
    for seed in 0..seeds.unwrap_or(200) {
        let mut world = World::new(seed);
        for _ in 0..4 {
            let mut life = world.begin();
            for _ in 0..world.random.below(200) {
                world.step(&mut life);
            }
            world.kill(life);
        }
        world.end();
        let text = String::from_utf8(world.log.bytes).expect("no zeros");
        let mut found: Vec<&str> = text.lines().collect();
        found.sort_unstable();
        let lines = |shipper: &ModelShipper| {
            let id = shipper.origin.id;
            (0..shipper.shipments.len() as u64 * LINES).map(move |line| format!("line {id}/{line}"))
        };
        let mut sent: Vec<String> = world.shippers.iter().flat_map(lines).collect();
        sent.sort_unstable();
        let lost: Vec<_> = sent.iter().filter(|line| !found.contains(&line.as_str())).collect();
        assert!(lost.is_empty(), "seed {seed} lost {lost:?}");
        let doubled: Vec<_> = found.windows(2).filter(|two| two[0] == two[1]).collect();
        assert!(doubled.is_empty(), "seed {seed} doubled {doubled:?}");
        assert_eq!(found, sent, "seed {seed}");
    }
}
