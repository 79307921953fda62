//! The join against simulated sites of which lines or records are missing: whatever is left over must not
//! shift what follows, and a likely line must be right as often as its probability says.

#![expect(clippy::unwrap_used, reason = "a simulation of small numbers, in helpers of a test")]

use std::net::Ipv4Addr;
use std::num::{NonZeroU16, NonZeroU32};
use std::time::Duration;

use pen_records::addr::{ClientAddr, ServerAddr};
use pen_records::attribution::{
    Attributor, Certainty, ExchangeEvent, JoinSettings, LineVerdict, LoggedLine, MappingEvent,
    ResponseSizes,
};
use pen_records::mapping::MappingKind;
use pen_records::request::{Cut, Fingerprint};
use pen_records::time::{Resolution, Timestamp};

const SECOND: i64 = 1_000_000;

/// A small pseudo-random generator (`SplitMix64`), so that a row is equal on every run.
struct GapRandom(u64);

impl GapRandom {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ z >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ z >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ z >> 31
    }

    fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }

    /// A number between 0 and 1.
    fn share(&mut self) -> f64 {
        f64::from(u32::try_from(self.next() >> 32).unwrap()) / f64::from(u32::MAX)
    }

    fn normal(&mut self) -> f64 {
        (0..12).map(|_| self.share()).sum::<f64>() - 6.0
    }

    /// A time with this mean, in microseconds.
    #[expect(clippy::cast_possible_truncation, reason = "microseconds of a few minutes")]
    fn exponential(&mut self, mean: f64) -> i64 {
        (-self.share().max(1e-9).ln() * mean) as i64
    }
}

/// How lines reach the join.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum LineRoad {
    /// Live: dated by arrival.
    Live,
    /// From a file with stamps of whole seconds.
    Seconds,
    /// From a file with stamps of milliseconds.
    Millis,
}

/// What is missing.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Missing {
    Nothing,
    /// All lines of so many milliseconds, once.
    Lines(i64),
    /// All records of so many milliseconds, once.
    Records(i64),
    /// All lines but one in so many.
    LinesBut(u64),
    /// All lines but those of this status.
    LinesButStatus(u16),
    /// The records of one request in so many, which came by another balancer.
    RecordsOf(u64),
    /// The records of "GET /" of which the balancer checks the server with so many each second.
    Checks(i64),
}

/// A kind of site.
#[derive(Clone, Copy, Debug)]
struct GapRow {
    name: &'static str,
    per_second: f64,
    urls: u64,
    /// Share of requests for the first page, in hundredths.
    hot: u64,
    /// User-Agents; 0: the log has none.
    agents: u32,
    /// Whether records have ends, statuses and sizes.
    extended: bool,
    road: LineRoad,
    missing: Missing,
    /// Median latency, in microseconds.
    latency: f64,
    /// By how much the balancer sees ends later than the server logs them, on average.
    jitter: f64,
    seconds: i64,
    /// The least share right, in hundredths, of all lines later than 2 s after the middle.
    floor: f64,
    /// How far said and right may be apart, in points, in a band of 200 lines or more.
    band: f64,
}

#[derive(Clone, Copy)]
struct Visit {
    asked: i64,
    ended: i64,
    logged: i64,
    client: u32,
    agent: u32,
    url: u64,
    status: u16,
    has_line: bool,
    has_record: bool,
}

const CLIENTS: u64 = 60;

#[expect(clippy::cast_possible_truncation, reason = "microseconds of a few minutes")]
fn visits(row: &GapRow, random: &mut GapRandom) -> Vec<Visit> {
    let start = 1_000_000 * SECOND;
    let middle = start + row.seconds * SECOND / 2;
    let mut now = start;
    let mut visits = Vec::new();
    while now < start + row.seconds * SECOND {
        now += random.exponential(1e6 / row.per_second);
        let client = u32::try_from(random.below(CLIENTS)).unwrap();
        let url = if random.below(100) < row.hot { 0 } else { random.below(row.urls) };
        let status = match random.below(100) {
            0..2 => 503,
            2..5 => 404,
            _ => 200,
        };
        let latency = (row.latency * (random.normal() * 0.8).exp()) as i64;
        let logged = now + latency + random.exponential(200.0);
        let ended = now + latency + random.exponential(row.jitter);
        let gap = |millis: i64| (middle..middle + millis * 1_000).contains(&logged);
        visits.push(Visit {
            asked: now,
            ended,
            logged,
            client,
            agent: if row.agents == 0 { 0 } else { client % row.agents + 1 },
            url,
            status,
            has_line: match row.missing {
                Missing::Lines(millis) => !gap(millis),
                Missing::LinesBut(n) => random.below(n) == 0,
                Missing::LinesButStatus(only) => status == only,
                _ => true,
            },
            has_record: match row.missing {
                Missing::Records(millis) => !gap(millis),
                Missing::RecordsOf(n) => random.below(n) > 0,
                _ => true,
            },
        });
    }
    if let Missing::Checks(each) = row.missing {
        for nth in 0..row.seconds * each {
            let at = start + nth * SECOND / each + 1_234;
            let agent = u32::from(row.agents > 0) * 999;
            let (has_line, has_record) = (true, false);
            let at_balancer = u32::MAX;
            visits.push(Visit {
                asked: at,
                ended: at + 900,
                logged: at + 1_000,
                client: at_balancer,
                agent,
                url: 0,
                status: 200,
                has_line,
                has_record,
            });
        }
        visits.sort_by_key(|visit| visit.asked);
    }
    visits
}

fn addr(client: u32) -> ClientAddr {
    ClientAddr::Ip(Ipv4Addr::from(0xC633_6400 + client % 256).into())
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum What {
    Asked,
    Ended,
    Logged,
}

/// Likely lines of about the same probability.
#[derive(Clone, Copy, Default, Debug)]
struct GapBand {
    lines: f64,
    said: f64,
    right: f64,
}

#[derive(Default)]
struct GapScore {
    lines: f64,
    right: f64,
    /// Of lines later than 2 s after the middle.
    later: (f64, f64),
    certain: f64,
    certain_wrong: f64,
    none: f64,
    likely: GapBand,
    bands: [GapBand; 20],
}

impl GapScore {
    fn add(&mut self, visit: &Visit, verdict: &LineVerdict, later_than: i64) {
        let is_check = visit.client == u32::MAX;
        let right = if is_check {
            verdict.client.is_none()
        } else {
            verdict.client == Some(addr(visit.client))
        };
        let right = f64::from(u8::from(right));
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
                let of = usize::from(verdict.probability / 50).min(19);
                for band in [&mut self.bands[of], &mut self.likely] {
                    band.lines += 1.0;
                    band.said += f64::from(verdict.probability) / 1_000.0;
                    band.right += right;
                }
            }
            Certainty::Exact | Certainty::Unmatched => self.none += 1.0,
        }
    }

    /// The greatest difference of said and right in a band of 200 lines or more, in points.
    fn worst_band(&self) -> (usize, f64) {
        let off = |band: &GapBand| (band.right - band.said) / band.lines * 100.0;
        let bands = self.bands.iter().enumerate().filter(|(_, band)| band.lines >= 200.0);
        bands
            .map(|(place, band)| (place * 5, off(band)))
            .max_by(|a, b| a.1.abs().total_cmp(&b.1.abs()))
            .unwrap_or((0, 0.0))
    }
}

fn play(row: &GapRow, seed: u64) -> GapScore {
    let mut random = GapRandom(seed);
    let visits = visits(row, &mut random);
    let mut events: Vec<(i64, What, usize)> = Vec::new();
    for (index, visit) in visits.iter().enumerate() {
        if visit.has_record {
            events.push((visit.asked, What::Asked, index));
            if row.extended {
                events.push((visit.ended, What::Ended, index));
            }
        }
        if visit.has_line {
            events.push((visit.logged, What::Logged, index));
        }
    }
    events.sort_unstable();
    let (wait, resolution) = match row.road {
        LineRoad::Live => (Duration::from_millis(250), Resolution::Microsecond),
        LineRoad::Seconds => (Duration::from_secs(3), Resolution::Second),
        LineRoad::Millis => (Duration::from_secs(3), Resolution::Millisecond),
    };
    let mut engine = Attributor::new(JoinSettings { wait, ..JoinSettings::default() });
    let server = engine.server(ServerAddr::Ip([127, 0, 1, 1].into()));
    let mut score = GapScore::default();
    let later_than = 1_000_000 * SECOND
        + row.seconds * SECOND / 2
        + 2 * SECOND
        + match row.missing {
            Missing::Lines(millis) | Missing::Records(millis) => millis * 1_000,
            _ => 0,
        };
    let stamp = |at: i64| at.div_euclid(resolution.micros()) * resolution.micros();
    if row.road == LineRoad::Seconds {
        // As `mergelogs` does: all mappings that a line may want come before the line.
        events.sort_by_key(|&(at, what, _)| {
            if what == What::Logged { (stamp(at) + 4 * SECOND, true) } else { (at, false) }
        });
    }
    for (at, what, index) in events {
        let visit = &visits[index];
        let line_time = if row.road == LineRoad::Live { at + 300 } else { stamp(at) };
        if what == What::Logged || row.road == LineRoad::Live {
            engine.advance(Timestamp::from_micros(line_time));
            while let Some(out) = engine.next_decided() {
                score.add(&visits[out.payload], &out.verdict, later_than);
            }
        }
        let coarse = !row.extended && row.road != LineRoad::Live;
        let (time, fineness) = if coarse {
            (at.div_euclid(SECOND) * SECOND, Resolution::Second)
        } else {
            (at, Resolution::Microsecond)
        };
        let page = format!("GET /page/{} HTTP/1.1", visit.url);
        let asked = Fingerprint::of_raw(page.as_bytes(), Cut::Long);
        let size = if visit.status == 200 { 1_000 + visit.url * 37 } else { 190 };
        if what == What::Logged {
            let agent = (row.agents > 0).then_some(visit.agent);
            let time = (Timestamp::from_micros(line_time), resolution);
            engine.line(
                LoggedLine {
                    long: asked,
                    user_agent: agent,
                    referer: agent.map(|_| 7),
                    status: Some(visit.status),
                    bytes: Some(size),
                    ..LoggedLine::unread(server, time)
                },
                index,
            );
            continue;
        }
        let size = u32::try_from(size).unwrap();
        let exchange = ExchangeEvent {
            kind: if what == What::Asked { MappingKind::Request } else { MappingKind::Ended },
            connection: index as u64 + 1,
            nth: 1,
            balancer: NonZeroU32::new(5),
            port: NonZeroU16::new(u16::try_from(1_024 + index % 60_000).unwrap()),
            server_port: NonZeroU16::new(80),
            status: NonZeroU16::new(visit.status).filter(|_| what == What::Ended),
            is_third_party: false,
            user_agent: NonZeroU32::new(visit.agent.max(1)),
            referer: NonZeroU32::new(7),
            bytes: (what == What::Ended).then_some(ResponseSizes {
                body: size,
                framed: size,
                all: size + 200,
            }),
            tls: None,
            request_id: None,
            body_end: None,
            host: None,
        };
        engine.mapping(MappingEvent {
            server,
            client: addr(visit.client),
            time: Timestamp::from_micros(time),
            resolution: fineness,
            request: (what == What::Asked).then_some(asked).flatten(),
            cut: Cut::Long,
            exchange: row.extended.then_some(exchange),
        });
    }
    engine.finish();
    while let Some(out) = engine.next_decided() {
        score.add(&visits[out.payload], &out.verdict, later_than);
    }
    score
}

const ROWS: &[GapRow] = &{
    let row = GapRow {
        name: "",
        per_second: 100.0,
        urls: 30,
        hot: 0,
        agents: 0,
        extended: true,
        road: LineRoad::Seconds,
        missing: Missing::Nothing,
        latency: 40_000.0,
        jitter: 300.0,
        seconds: 120,
        floor: 0.0,
        band: 5.0,
    };
    let classic = GapRow { extended: false, ..row };
    let live = GapRow { road: LineRoad::Live, ..row };
    [
        GapRow { name: "common, nothing", floor: 96.0, band: 5.0, ..row },
        GapRow {
            name: "common, 0.5 s",
            floor: 96.0,
            band: 5.0,
            missing: Missing::Lines(500),
            ..row
        },
        GapRow {
            name: "common, 3 s",
            floor: 96.0,
            band: 5.0,
            missing: Missing::Lines(3_000),
            ..row
        },
        GapRow {
            name: "common, 3 s, 300/s",
            floor: 96.0,
            band: 8.0,
            missing: Missing::Lines(3_000),
            per_second: 300.0,
            ..row
        },
        GapRow {
            name: "common, 3 s, hot",
            floor: 94.0,
            band: 6.0,
            missing: Missing::Lines(3_000),
            hot: 50,
            ..row
        },
        GapRow {
            name: "common, 3 s, noisy ends",
            floor: 95.0,
            band: 5.0,
            missing: Missing::Lines(3_000),
            jitter: 5_000.0,
            ..row
        },
        GapRow {
            name: "common, 3 s, ms",
            floor: 96.0,
            band: 5.0,
            missing: Missing::Lines(3_000),
            road: LineRoad::Millis,
            ..row
        },
        GapRow {
            name: "combined 8, 3 s",
            floor: 96.0,
            band: 5.0,
            missing: Missing::Lines(3_000),
            agents: 8,
            ..row
        },
        GapRow {
            name: "combined 1, 3 s",
            floor: 96.0,
            band: 5.0,
            missing: Missing::Lines(3_000),
            agents: 1,
            ..row
        },
        GapRow {
            name: "one page, combined 12",
            floor: 96.0,
            band: 13.0,
            hot: 90,
            agents: 12,
            per_second: 300.0,
            ..row
        },
        GapRow {
            name: "one page, common, 3 s",
            floor: 91.0,
            band: 21.0,
            hot: 100,
            missing: Missing::Lines(3_000),
            ..row
        },
        GapRow {
            name: "one page, live, 0.5 s",
            floor: 87.0,
            band: 17.0,
            hot: 100,
            per_second: 300.0,
            missing: Missing::Lines(500),
            ..live
        },
        GapRow { name: "classic common, nothing", floor: 82.0, band: 11.0, ..classic },
        GapRow {
            name: "classic common, 0.5 s",
            floor: 82.0,
            band: 12.0,
            missing: Missing::Lines(500),
            ..classic
        },
        GapRow {
            name: "classic common, 3 s",
            floor: 82.0,
            band: 11.0,
            missing: Missing::Lines(3_000),
            ..classic
        },
        GapRow {
            name: "classic comm., 3 s, ms",
            floor: 16.0,
            band: 60.0,
            missing: Missing::Lines(3_000),
            road: LineRoad::Millis,
            ..classic
        },
        GapRow {
            name: "classic combined 8, 3 s",
            floor: 92.0,
            band: 24.0,
            missing: Missing::Lines(3_000),
            agents: 8,
            ..classic
        },
        GapRow {
            name: "classic one page, 3 s",
            floor: 0.0,
            band: 62.0,
            missing: Missing::Lines(3_000),
            hot: 100,
            ..classic
        },
        GapRow {
            name: "live common, 0.5 s, 300",
            floor: 96.0,
            band: 5.0,
            missing: Missing::Lines(500),
            per_second: 300.0,
            ..live
        },
        GapRow {
            name: "live combined 1, 0.5 s",
            floor: 96.0,
            band: 5.0,
            missing: Missing::Lines(500),
            per_second: 300.0,
            agents: 1,
            ..live
        },
        GapRow {
            name: "live common, 1.5 s, hot",
            floor: 95.0,
            band: 5.0,
            missing: Missing::Lines(1_500),
            per_second: 170.0,
            hot: 50,
            ..live
        },
        GapRow {
            name: "live classic, 1.5 s",
            floor: 74.0,
            band: 35.0,
            missing: Missing::Lines(1_500),
            per_second: 170.0,
            extended: false,
            ..live
        },
        GapRow {
            name: "combined 8, 1 of 10",
            floor: 84.0,
            band: 5.0,
            missing: Missing::LinesBut(10),
            agents: 8,
            ..row
        },
        GapRow {
            name: "common, 1 of 10",
            floor: 25.0,
            band: 12.0,
            missing: Missing::LinesBut(10),
            seconds: 300,
            ..row
        },
        GapRow {
            name: "common, 1 of 10, ms",
            floor: 96.0,
            band: 5.0,
            missing: Missing::LinesBut(10),
            road: LineRoad::Millis,
            seconds: 300,
            ..row
        },
        GapRow {
            name: "live comb. 8, 1 of 10",
            floor: 97.0,
            band: 5.0,
            missing: Missing::LinesBut(10),
            agents: 8,
            seconds: 300,
            ..live
        },
        GapRow {
            name: "classic common, 1 of 10",
            floor: 5.0,
            band: 12.0,
            missing: Missing::LinesBut(10),
            seconds: 300,
            ..classic
        },
        GapRow {
            name: "classic comb. 8, 1 of 10",
            floor: 68.0,
            band: 22.0,
            missing: Missing::LinesBut(10),
            agents: 8,
            seconds: 300,
            ..classic
        },
        GapRow {
            name: "common, only 503",
            floor: 97.0,
            band: 5.0,
            missing: Missing::LinesButStatus(503),
            seconds: 400,
            ..row
        },
        GapRow {
            name: "combined 8, only 503",
            floor: 97.0,
            band: 5.0,
            missing: Missing::LinesButStatus(503),
            agents: 8,
            seconds: 400,
            ..row
        },
        GapRow {
            name: "live common, only 503",
            floor: 97.0,
            band: 5.0,
            missing: Missing::LinesButStatus(503),
            seconds: 400,
            ..live
        },
        GapRow {
            name: "combined 8, only 404",
            floor: 97.0,
            band: 5.0,
            missing: Missing::LinesButStatus(404),
            agents: 8,
            seconds: 400,
            ..row
        },
        GapRow {
            name: "classic common, only 503",
            floor: 0.0,
            band: 5.0,
            missing: Missing::LinesButStatus(503),
            seconds: 400,
            ..classic
        },
        GapRow {
            name: "common, checks",
            floor: 87.0,
            band: 37.0,
            missing: Missing::Checks(1),
            hot: 20,
            ..row
        },
        GapRow {
            name: "live common, checks",
            floor: 95.0,
            band: 6.0,
            missing: Missing::Checks(1),
            hot: 20,
            ..live
        },
        GapRow {
            name: "classic comb. 8, checks",
            floor: 80.0,
            band: 34.0,
            missing: Missing::Checks(1),
            hot: 20,
            agents: 8,
            ..classic
        },
        GapRow {
            name: "common, half no records",
            floor: 25.0,
            band: 17.0,
            missing: Missing::RecordsOf(2),
            ..row
        },
        GapRow {
            name: "combined 8, half no rec.",
            floor: 25.0,
            band: 22.0,
            missing: Missing::RecordsOf(2),
            agents: 8,
            ..row
        },
        GapRow {
            name: "classic 8, half no rec.",
            floor: 48.0,
            band: 11.0,
            missing: Missing::RecordsOf(2),
            agents: 8,
            ..classic
        },
        GapRow {
            name: "common, records 3 s",
            floor: 96.0,
            band: 5.0,
            missing: Missing::Records(3_000),
            ..row
        },
        GapRow {
            name: "classic, records 3 s",
            floor: 82.0,
            band: 12.0,
            missing: Missing::Records(3_000),
            ..classic
        },
        GapRow {
            name: "live common, records 3 s",
            floor: 96.0,
            band: 6.0,
            missing: Missing::Records(3_000),
            ..live
        },
    ]
};

#[test]
fn what_is_left_over_does_not_shift_what_follows() {
    println!("kind: right, right later, certain (wrong), none, likely: said, right, worst band");
    for row in ROWS {
        let score = play(row, 1);
        let (band, off) = score.worst_band();
        let likely = score.likely;
        let share = |part: f64, of: f64| 100.0 * part / of.max(1.0);
        let later = share(score.later.1, score.later.0);
        println!(
            "{:26} {:5.1} {later:5.1} {:5.1} ({}) {:4.1} {:5.1}: {:4.1} {:4.1} {band} {off:+.0}",
            row.name,
            share(score.right, score.lines),
            share(score.certain, score.lines),
            score.certain_wrong,
            share(score.none, score.lines),
            share(likely.lines, score.lines),
            share(likely.said, likely.lines),
            share(likely.right, likely.lines),
        );
        assert!(later >= row.floor, "{}: {later:.1} of 100 lines are right", row.name);
        assert!(off.abs() <= row.band, "{}: {off:.0} points off at {band}", row.name);
        assert!(
            score.certain_wrong <= score.certain / 2_000.0 + 1.0,
            "{}: {} certain lines are wrong",
            row.name,
            score.certain_wrong
        );
    }
}
