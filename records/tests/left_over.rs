//! The join against simulated sites of which lines or records are missing: whatever is left over must not
//! shift what follows, and a likely line must be right as often as its probability says.

#![expect(clippy::unwrap_used, reason = "a simulation of small numbers, in helpers of a test")]

mod simulation;

use std::time::Duration;

use pen_records::time::Resolution;

use simulation::{
    BODY, SECOND, SimulatedBand, SimulatedRoad, SimulatedScore, SimulatedVisit, SimulationRandom,
    play,
};

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
    /// Nothing, but there are so many records of pieces of bodies each second.
    Bodies(i64),
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

const CLIENTS: u64 = 60;

#[expect(clippy::cast_possible_truncation, reason = "microseconds of a few minutes")]
fn visits(row: &GapRow, seed: u64) -> Vec<SimulatedVisit> {
    let random = &mut SimulationRandom(seed);
    let start = 1_000_000 * SECOND;
    let middle = start + row.seconds * SECOND / 2;
    let mut now = start;
    let mut visits = Vec::new();
    while now < start + row.seconds * SECOND {
        now += random.exponential(1e6 / row.per_second) as i64;
        let client = u32::try_from(random.below(CLIENTS)).unwrap();
        let url = if random.below(100) < row.hot { 0 } else { random.below(row.urls) };
        let status = match random.below(100) {
            0..2 => 503,
            2..5 => 404,
            _ => 200,
        };
        let latency = (row.latency * (random.normal() * 0.8).exp()) as i64;
        let logged = now + latency + random.exponential(200.0) as i64;
        let ended = now + latency + random.exponential(row.jitter) as i64;
        let gap = |millis: i64| (middle..middle + millis * 1_000).contains(&logged);
        visits.push(SimulatedVisit {
            asked: now,
            ended,
            logged,
            client: Some(client),
            agent: if row.agents == 0 { 0 } else { client % row.agents + 1 },
            url,
            status,
            server: 0,
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
    if let Missing::Checks(each) | Missing::Bodies(each) = row.missing {
        let is_check = matches!(row.missing, Missing::Checks(_));
        for nth in 0..row.seconds * each {
            let at = start + nth * SECOND / each + 1_234;
            visits.push(SimulatedVisit {
                asked: at,
                ended: at + 900,
                logged: at + 1_000,
                client: None,
                agent: u32::from(row.agents > 0) * 999,
                url: if is_check { 0 } else { BODY },
                status: 200,
                server: 0,
                has_line: is_check,
                has_record: !is_check,
            });
        }
        visits.sort_by_key(|visit| visit.asked);
    }
    visits
}

/// How lines and records of a row reach the join.
fn road(row: &GapRow) -> SimulatedRoad {
    let is_live = row.road == LineRoad::Live;
    let (wait, lines) = match row.road {
        LineRoad::Live => (Duration::from_millis(250), Resolution::Microsecond),
        LineRoad::Seconds => (Duration::from_secs(3), Resolution::Second),
        LineRoad::Millis => (Duration::from_secs(3), Resolution::Millisecond),
    };
    let records =
        if row.extended || is_live { Resolution::Microsecond } else { Resolution::Second };
    SimulatedRoad {
        wait,
        lines,
        records,
        underway: if is_live { 300 } else { 0 },
        is_live,
        is_sorted: row.road == LineRoad::Seconds,
        is_extended: row.extended,
        logs_answers: true,
        logs_agents: row.agents > 0,
    }
}

fn play_row(row: &GapRow, seed: u64) -> SimulatedScore {
    let missing = match row.missing {
        Missing::Lines(millis) | Missing::Records(millis) => millis * 1_000,
        _ => 0,
    };
    let later_than = (1_000_000 + 2) * SECOND + row.seconds * SECOND / 2 + missing;
    play(&visits(row, seed), &road(row), later_than)
}

/// The greatest difference of said and right in a band of 200 lines or more, in points, and where.
fn worst_band(score: &SimulatedScore) -> (usize, f64) {
    let bands = score.bands.iter().enumerate().filter(|(_, band)| band.lines >= 200.0);
    bands
        .map(|(place, band)| (place * 5, (band.right - band.said) / band.lines * 100.0))
        .max_by(|a, b| a.1.abs().total_cmp(&b.1.abs()))
        .unwrap_or((0, 0.0))
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
        floor: 96.0,
        band: 5.0,
    };
    let classic = GapRow { extended: false, ..row };
    let live = GapRow { road: LineRoad::Live, ..row };
    [
        GapRow { name: "common, nothing", ..row },
        GapRow { name: "common, 0.5 s", missing: Missing::Lines(500), ..row },
        GapRow { name: "common, 3 s", missing: Missing::Lines(3_000), ..row },
        GapRow {
            name: "common, 3 s, 300/s",
            band: 8.0,
            missing: Missing::Lines(3_000),
            per_second: 300.0,
            ..row
        },
        GapRow {
            name: "common, 3 s, hot",
            // 98 to 99 with four seeds.
            floor: 96.0,
            band: 6.0,
            missing: Missing::Lines(3_000),
            hot: 50,
            ..row
        },
        GapRow {
            name: "common, 3 s, noisy ends",
            floor: 95.0,
            missing: Missing::Lines(3_000),
            jitter: 5_000.0,
            ..row
        },
        GapRow {
            name: "common, 3 s, ms",
            missing: Missing::Lines(3_000),
            road: LineRoad::Millis,
            ..row
        },
        GapRow { name: "combined 8, 3 s", missing: Missing::Lines(3_000), agents: 8, ..row },
        GapRow { name: "combined 1, 3 s", missing: Missing::Lines(3_000), agents: 1, ..row },
        GapRow {
            name: "one page, combined 12",
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
        GapRow { name: "classic common, nothing", floor: 83.0, band: 8.0, ..classic },
        GapRow {
            name: "classic common, 0.5 s",
            floor: 83.0,
            band: 8.0,
            missing: Missing::Lines(500),
            ..classic
        },
        GapRow {
            name: "classic common, 3 s",
            floor: 83.0,
            band: 8.0,
            missing: Missing::Lines(3_000),
            ..classic
        },
        GapRow {
            name: "classic comm., 3 s, ms",
            floor: 81.0,
            band: 10.0,
            missing: Missing::Lines(3_000),
            road: LineRoad::Millis,
            ..classic
        },
        GapRow {
            name: "classic combined 8, 3 s",
            floor: 93.0,
            band: 44.0,
            missing: Missing::Lines(3_000),
            agents: 8,
            ..classic
        },
        GapRow {
            name: "classic one page, 3 s",
            floor: 0.0,
            band: 20.0,
            missing: Missing::Lines(3_000),
            hot: 100,
            ..classic
        },
        GapRow {
            name: "live common, 0.5 s, 300",
            missing: Missing::Lines(500),
            per_second: 300.0,
            ..live
        },
        GapRow {
            name: "live combined 1, 0.5 s",
            missing: Missing::Lines(500),
            per_second: 300.0,
            agents: 1,
            ..live
        },
        GapRow {
            name: "live common, 1.5 s, hot",
            floor: 95.0,
            missing: Missing::Lines(1_500),
            per_second: 170.0,
            hot: 50,
            ..live
        },
        GapRow {
            name: "live classic, 1.5 s",
            floor: 76.0,
            band: 28.0,
            missing: Missing::Lines(1_500),
            per_second: 170.0,
            extended: false,
            ..live
        },
        GapRow {
            name: "combined 8, 1 of 10",
            floor: 84.0,
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
            missing: Missing::LinesBut(10),
            road: LineRoad::Millis,
            seconds: 300,
            ..row
        },
        GapRow {
            name: "live comb. 8, 1 of 10",
            floor: 97.0,
            missing: Missing::LinesBut(10),
            agents: 8,
            seconds: 300,
            ..live
        },
        GapRow {
            name: "classic common, 1 of 10",
            floor: 50.0,
            band: 16.0,
            missing: Missing::LinesBut(10),
            seconds: 300,
            ..classic
        },
        GapRow {
            name: "classic comb. 8, 1 of 10",
            floor: 87.0,
            band: 5.0,
            missing: Missing::LinesBut(10),
            agents: 8,
            seconds: 300,
            ..classic
        },
        GapRow {
            name: "common, only 503",
            floor: 97.0,
            missing: Missing::LinesButStatus(503),
            seconds: 400,
            ..row
        },
        GapRow {
            name: "combined 8, only 503",
            floor: 97.0,
            missing: Missing::LinesButStatus(503),
            agents: 8,
            seconds: 400,
            ..row
        },
        GapRow {
            name: "live common, only 503",
            floor: 97.0,
            missing: Missing::LinesButStatus(503),
            seconds: 400,
            ..live
        },
        GapRow {
            name: "combined 8, only 404",
            floor: 97.0,
            missing: Missing::LinesButStatus(404),
            agents: 8,
            seconds: 400,
            ..row
        },
        GapRow {
            name: "classic common, only 503",
            floor: 17.0,
            band: 18.0,
            missing: Missing::LinesButStatus(503),
            seconds: 400,
            ..classic
        },
        GapRow {
            name: "common, checks",
            floor: 91.0,
            band: 29.0,
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
            floor: 90.0,
            band: 22.0,
            missing: Missing::Checks(1),
            hot: 20,
            agents: 8,
            ..classic
        },
        GapRow {
            name: "classic comb. 8, bodies",
            floor: 93.0,
            missing: Missing::Bodies(40),
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
            floor: 28.0,
            band: 34.0,
            missing: Missing::RecordsOf(2),
            agents: 8,
            ..classic
        },
        GapRow { name: "common, records 3 s", missing: Missing::Records(3_000), ..row },
        GapRow {
            name: "classic, records 3 s",
            floor: 82.0,
            band: 12.0,
            missing: Missing::Records(3_000),
            ..classic
        },
        GapRow {
            name: "live common, records 3 s",
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
        let score = play_row(row, 1);
        let (band, off) = worst_band(&score);
        let mut likely = SimulatedBand::default();
        score.bands.iter().for_each(|&band| likely.add(band));
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
        let (wrong, most) = (score.certain_wrong, score.certain / 2_000.0 + 1.0);
        assert!(wrong <= most, "{}: {wrong} certain lines are wrong", row.name);
    }
}
