//! The join against simulated sites with known truth: the share of lines with the right client, the
//! share of wrong lines among certain ones, and whether likely lines are right as often as their
//! probability says.

#![expect(clippy::unwrap_used, reason = "a simulation of small numbers, in helpers of a test")]

mod simulation;

use std::time::Duration;

use pen_records::time::Resolution;

use simulation::{
    SimulatedBand, SimulatedRoad, SimulatedScore, SimulatedVisit, SimulationRandom, play,
};

/// A kind of traffic.
#[derive(Clone, Copy)]
struct TrafficRow {
    name: &'static str,
    urls: u64,
    /// The share of requests for the most popular page; otherwise Zipf's law decides.
    same: f64,
    per_second: f64,
    /// Median latency in microseconds, and its spread as the sigma of a log-normal law.
    latency: f64,
    sigma: f64,
    /// The share of mappings lost, and of lines lost.
    lost: f64,
    unanswered: f64,
    resolution: Resolution,
}

fn zipf(random: &mut SimulationRandom, urls: u64) -> u64 {
    let total: f64 = (1..=urls).map(|rank| 1.0 / f64::from(u32::try_from(rank).unwrap())).sum();
    let mut left = random.share() * total;
    for rank in 1..=urls {
        left -= 1.0 / f64::from(u32::try_from(rank).unwrap());
        if left <= 0.0 {
            return rank;
        }
    }
    urls
}

#[expect(clippy::cast_possible_truncation, reason = "microseconds of a few minutes")]
fn visits(row: &TrafficRow, count: usize) -> Vec<SimulatedVisit> {
    let mut random = SimulationRandom(7);
    let mut now = 1_000_000_000_000.0;
    let mut visits: Vec<SimulatedVisit> = (0..count)
        .map(|_| {
            now += random.exponential(1.0) / row.per_second * 1e6;
            let client = u32::try_from(random.below(200)).unwrap();
            let url = if row.same > 0.0 && random.share() < row.same {
                0
            } else {
                zipf(&mut random, row.urls)
            };
            let latency = row.latency * (random.normal() * row.sigma).exp();
            let end = (now + latency) as i64;
            SimulatedVisit {
                asked: now as i64,
                ended: end,
                logged: end,
                client: Some(client),
                agent: client / 5 + 1,
                url,
                status: 200,
                server: usize::try_from(random.below(3)).unwrap(),
                has_line: true,
                has_record: true,
            }
        })
        .collect();
    for visit in &mut visits {
        visit.has_record = random.share() >= row.lost;
        visit.has_line = random.share() >= row.unanswered;
    }
    visits
}

fn play_row(row: &TrafficRow, count: usize) -> SimulatedScore {
    let wait = match row.resolution {
        Resolution::Second => Duration::from_secs(3),
        Resolution::Microsecond | Resolution::Millisecond => Duration::from_millis(250),
    };
    let road = SimulatedRoad {
        wait,
        lines: row.resolution,
        records: row.resolution,
        underway: 0,
        is_live: true,
        is_sorted: false,
        is_extended: false,
        logs_answers: false,
        logs_agents: true,
    };
    play(&visits(row, count), &road, i64::MAX)
}

const ROWS: [(TrafficRow, f64); 9] = {
    let live = TrafficRow {
        name: "60 pages",
        urls: 60,
        same: 0.0,
        per_second: 2_000.0,
        latency: 2_000.0,
        sigma: 0.5,
        lost: 0.0,
        unanswered: 0.0,
        resolution: Resolution::Microsecond,
    };
    let offline = TrafficRow { resolution: Resolution::Second, ..live };
    [
        (live, 0.99),
        (TrafficRow { name: "one page nine times in ten", same: 0.9, ..live }, 0.93),
        (
            TrafficRow { name: "slow", per_second: 500.0, latency: 50_000.0, sigma: 1.2, ..live },
            0.95,
        ),
        (
            TrafficRow { name: "few", per_second: 50.0, latency: 50_000.0, urls: 1_000, ..live },
            0.995,
        ),
        (TrafficRow { name: "a mapping in a hundred lost", lost: 0.01, ..live }, 0.97),
        (TrafficRow { name: "a mapping in ten lost", lost: 0.1, ..live }, 0.80),
        (TrafficRow { name: "one in fifty unanswered", unanswered: 0.02, ..live }, 0.99),
        (TrafficRow { name: "60 pages, stamps of a second", ..offline }, 0.96),
        (TrafficRow { name: "unanswered, stamps of a second", unanswered: 0.02, ..offline }, 0.96),
    ]
};

/// The fewest lines of a band that is judged.
const ENOUGH: f64 = 300.0;

/// Prints the share of right lines for each band, and checks the calibration: of lines said to be
/// 80 to 90 % sure 75 to 95 % are right, and from 50 % on no band is right by more than 20 points
/// less than its probability.
fn check_calibration(bands: &[SimulatedBand; 10]) {
    println!("{:>10} {:>8} {:>7} {:>7}", "said %", "lines", "said", "right");
    for (tenth, &SimulatedBand { lines, said, right }) in bands.iter().enumerate() {
        let (said, right) = (said / lines.max(1.0), right / lines.max(1.0));
        println!("{:>7} to {:<3} {lines:>5} {said:>7.3} {right:>7.3}", tenth * 10, tenth * 10 + 10);
        if lines < ENOUGH {
            continue;
        }
        if tenth == 8 {
            assert!(
                (0.75..=0.95).contains(&right),
                "of lines said to be {said:.3} sure {right:.3} are right"
            );
        }
        assert!(
            tenth < 5 || right >= said - 0.2,
            "of lines said to be {said:.3} sure {right:.3} are right"
        );
    }
}

#[test]
fn most_lines_name_the_right_client_and_are_as_sure_as_they_say() {
    let mut bands = [SimulatedBand::default(); 10];
    for (row, floor) in ROWS {
        let score = play_row(&row, 20_000);
        let right = score.right / score.lines;
        println!(
            "{:32} right {:.4} certain {:.4} wrong among certain {:.5} none {:.4}",
            row.name,
            right,
            score.certain / score.lines,
            score.certain_wrong / score.certain.max(1.0),
            score.none / score.lines,
        );
        assert!(right >= floor, "{}: {right:.4} right, at least {floor} expected", row.name);
        assert!(
            score.certain_wrong <= score.certain / 1_000.0,
            "{}: {} of {} certain lines are wrong",
            row.name,
            score.certain_wrong,
            score.certain
        );
        for (all, halves) in bands.iter_mut().zip(score.bands.chunks(2)) {
            halves.iter().for_each(|&band| all.add(band));
        }
    }
    check_calibration(&bands);
}

/// Requests are answered so much out of order, and each request is asked for so often, that times tell little. A client that
/// has got a User-Agent by a guess must not seem to be known by that User-Agent.
#[test]
fn guesses_by_user_agent_do_not_confirm_themselves() {
    let row = TrafficRow {
        name: "30 pages, out of order",
        urls: 30,
        same: 0.5,
        per_second: 4_500.0,
        latency: 110_000.0,
        sigma: 0.8,
        lost: 0.0,
        unanswered: 0.2,
        resolution: Resolution::Microsecond,
    };
    let SimulatedScore { bands, .. } = play_row(&row, 20_000);
    let sum = |of: fn(&SimulatedBand) -> f64| bands.iter().map(of).sum::<f64>();
    let lines = sum(|band| band.lines);
    let (said, right) = (sum(|band| band.said) / lines, sum(|band| band.right) / lines);
    println!("{}: {said:.3} said, {right:.3} right", row.name);
    assert!(said < right + 0.24, "{said:.3} said, {right:.3} right");
}
