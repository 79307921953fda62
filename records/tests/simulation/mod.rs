//! Simulated visits with known clients, as events of the join, and how right its verdicts are.
//!
//! Both tests that use this draw visits of their own. Text of logs is simulated by `pen_testing::site`.

use std::net::Ipv4Addr;
use std::num::{NonZeroU16, NonZeroU32};
use std::time::Duration;

use pen_records::addr::{ClientAddr, ServerAddr};
use pen_records::attribution::{
    Attributor, Certainty, ExchangeEvent, JoinSettings, LineVerdict, LoggedLine, MappingEvent,
    ResponseSizes, ServerIndex,
};
use pen_records::mapping::MappingKind;
use pen_records::request::{Cut, Fingerprint};
use pen_records::time::{Resolution, Timestamp};

pub(super) const SECOND: i64 = 1_000_000;

/// A small pseudo-random generator (`SplitMix64`), so that a row is equal on every run.
pub(super) struct SimulationRandom(pub u64);

impl SimulationRandom {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ z >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ z >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ z >> 31
    }

    pub(super) fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }

    /// A number between 0 and 1.
    pub(super) fn share(&mut self) -> f64 {
        f64::from(u32::try_from(self.next() >> 32).unwrap()) / f64::from(u32::MAX)
    }

    pub(super) fn normal(&mut self) -> f64 {
        (0..12).map(|_| self.share()).sum::<f64>() - 6.0
    }

    /// A time with this mean.
    pub(super) fn exponential(&mut self, mean: f64) -> f64 {
        -self.share().max(1e-9).ln() * mean
    }
}

/// A request, and what is logged of it.
#[derive(Clone, Copy)]
pub(super) struct SimulatedVisit {
    pub asked: i64,
    /// When the balancer sees the end.
    pub ended: i64,
    /// When the server writes its line.
    pub logged: i64,
    /// `None`: the balancer itself, which writes no record.
    pub client: Option<u32>,
    pub agent: u32,
    pub url: u64,
    pub status: u16,
    pub server: usize,
    pub has_line: bool,
    pub has_record: bool,
}

/// How records and lines reach the join.
#[expect(clippy::struct_excessive_bools, reason = "each holds whatever the others are")]
pub(super) struct SimulatedRoad {
    pub wait: Duration,
    /// Of the stamps of lines and of records.
    pub lines: Resolution,
    pub records: Resolution,
    /// Microseconds by which a line comes behind its stamp.
    pub underway: i64,
    /// Whether records make the time pass, too.
    pub is_live: bool,
    /// Whether all records that a line may want come before the line, as `mergelogs` has it.
    pub is_sorted: bool,
    /// Whether records have ends, statuses and sizes.
    pub is_extended: bool,
    /// Whether lines have status and size, and whether they have User-Agents.
    pub logs_answers: bool,
    pub logs_agents: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum VisitStep {
    Asked,
    Ended,
    Logged,
}

pub(super) fn addr(client: u32) -> ClientAddr {
    ClientAddr::Ip(Ipv4Addr::from(0xC633_6400 + client % 256).into())
}

const fn stamp(at: i64, resolution: Resolution) -> i64 {
    at.div_euclid(resolution.micros()) * resolution.micros()
}

/// Takes all visits through the join. Lines later than `later_than` are counted once more by themselves.
pub(super) fn play(
    visits: &[SimulatedVisit],
    road: &SimulatedRoad,
    later_than: i64,
) -> SimulatedScore {
    let mut engine = Attributor::new(JoinSettings { wait: road.wait, ..JoinSettings::default() });
    let servers = [1, 2, 3].map(|last| engine.server(ServerAddr::Ip([127, 0, 1, last].into())));
    let mut score = SimulatedScore::default();
    for (at, step, index) in events(visits, road) {
        let visit = &visits[index];
        let now = stamp(at, road.lines) + road.underway;
        if step == VisitStep::Logged || road.is_live {
            engine.advance(Timestamp::from_micros(now));
            while let Some(out) = engine.next_decided() {
                score.add(&visits[out.payload], &out.verdict, later_than);
            }
        }
        let server = servers[visit.server];
        if step == VisitStep::Logged {
            engine.line(&line(visit, road, server, now), index);
        } else {
            let time = stamp(at, road.records);
            engine.mapping(&record(visit, road, (server, time), (step, index)));
        }
    }
    engine.finish();
    while let Some(out) = engine.next_decided() {
        score.add(&visits[out.payload], &out.verdict, later_than);
    }
    score
}

/// What happens, in the order in which the join hears it.
fn events(visits: &[SimulatedVisit], road: &SimulatedRoad) -> Vec<(i64, VisitStep, usize)> {
    let mut events = Vec::new();
    for (index, visit) in visits.iter().enumerate() {
        if visit.has_record {
            events.push((visit.asked, VisitStep::Asked, index));
            if road.is_extended {
                events.push((visit.ended, VisitStep::Ended, index));
            }
        }
        if visit.has_line {
            events.push((visit.logged, VisitStep::Logged, index));
        }
    }
    events.sort_unstable();
    if road.is_sorted {
        events.sort_by_key(|&(at, step, _)| match step {
            VisitStep::Logged => (stamp(at, road.lines) + 4 * SECOND, true),
            _ => (at, false),
        });
    }
    events
}

/// The URL of a piece of a body, which C pen records as well.
pub(super) const BODY: u64 = 1_000_000;

fn request(visit: &SimulatedVisit) -> Option<Fingerprint> {
    if visit.url == BODY {
        return Fingerprint::of_raw(b"field7=value", Cut::Long);
    }
    Fingerprint::of_raw(format!("GET /page/{} HTTP/1.1", visit.url).as_bytes(), Cut::Long)
}

const fn size(visit: &SimulatedVisit) -> u64 {
    if visit.status == 200 { 1_000 + visit.url * 37 } else { 190 }
}

fn line(visit: &SimulatedVisit, road: &SimulatedRoad, server: ServerIndex, at: i64) -> LoggedLine {
    let agent = road.logs_agents.then_some(visit.agent);
    let answers = road.logs_answers.then_some(());
    LoggedLine {
        long: request(visit),
        user_agent: agent,
        referer: agent.and(answers).map(|()| 7),
        status: answers.map(|()| visit.status),
        bytes: answers.map(|()| size(visit)),
        ..LoggedLine::unread(server, (Timestamp::from_micros(at), road.lines))
    }
}

fn record(
    visit: &SimulatedVisit,
    road: &SimulatedRoad,
    (server, at): (ServerIndex, i64),
    (step, index): (VisitStep, usize),
) -> MappingEvent {
    let size = u32::try_from(size(visit)).unwrap();
    let is_end = step == VisitStep::Ended;
    let exchange = ExchangeEvent {
        kind: if is_end { MappingKind::Ended } else { MappingKind::Request },
        connection: index as u64 + 1,
        nth: 1,
        balancer: NonZeroU32::new(5),
        port: NonZeroU16::new(u16::try_from(1_024 + index % 60_000).unwrap()),
        server_port: NonZeroU16::new(80),
        status: NonZeroU16::new(visit.status).filter(|_| is_end),
        is_third_party: false,
        user_agent: NonZeroU32::new(visit.agent.max(1)),
        referer: NonZeroU32::new(7),
        bytes: is_end.then_some(ResponseSizes { body: size, framed: size, all: size + 200 }),
        tls: None,
        request_id: None,
        body_end: None,
        host: None,
    };
    MappingEvent {
        server,
        client: addr(visit.client.unwrap_or_default()),
        time: Timestamp::from_micros(at),
        resolution: road.records,
        request: request(visit).filter(|_| !is_end),
        cut: Cut::Long,
        is_body: visit.url == BODY,
        exchange: road.is_extended.then_some(exchange),
        is_unauthenticated: false,
    }
}

/// Likely lines of about the same probability.
#[derive(Clone, Copy, Default, Debug)]
pub(super) struct SimulatedBand {
    pub lines: f64,
    /// The sum of the probabilities.
    pub said: f64,
    pub right: f64,
}

impl SimulatedBand {
    pub(super) fn add(&mut self, other: Self) {
        self.lines += other.lines;
        self.said += other.said;
        self.right += other.right;
    }
}

/// How right the verdicts are.
#[derive(Default)]
pub(super) struct SimulatedScore {
    pub lines: f64,
    pub right: f64,
    /// Late lines, and those of them that are right.
    pub later: (f64, f64),
    pub certain: f64,
    pub certain_wrong: f64,
    pub none: f64,
    /// Likely lines, by twentieths of probability.
    pub bands: [SimulatedBand; 20],
}

impl SimulatedScore {
    fn add(&mut self, visit: &SimulatedVisit, verdict: &LineVerdict, later_than: i64) {
        let right = f64::from(u8::from(verdict.client == visit.client.map(addr)));
        self.lines += 1.0;
        self.right += right;
        if visit.logged > later_than {
            self.later.0 += 1.0;
            self.later.1 += right;
        }
        match verdict.certainty {
            Certainty::Certain => {
                self.certain += 1.0;
                self.certain_wrong += 1.0 - right;
            }
            Certainty::Likely => {
                let said = f64::from(verdict.probability) / 1_000.0;
                let band = &mut self.bands[usize::from(verdict.probability / 50).min(19)];
                band.add(SimulatedBand { lines: 1.0, said, right });
            }
            Certainty::Exact | Certainty::Unmatched => self.none += 1.0,
        }
    }
}
