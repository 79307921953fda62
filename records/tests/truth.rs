//! The join against simulated sites with known truth: the share of lines with the right client, the
//! share of wrong lines among certain ones, and whether likely lines are right as often as their
//! probability says.

#![expect(clippy::unwrap_used, reason = "a simulation of small numbers, in helpers of a test")]

use std::net::Ipv4Addr;
use std::time::Duration;

use pen_records::addr::{ClientAddr, ServerAddr};
use pen_records::attribution::{Attributor, Certainty, JoinSettings, LoggedLine, MappingEvent};
use pen_records::request::{Cut, Fingerprint};
use pen_records::time::{Resolution, Timestamp};

/// A small pseudo-random generator (`SplitMix64`), so that a row is equal on every run.
struct SimulationRandom(u64);

impl SimulationRandom {
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
}

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

#[derive(Default, Debug)]
struct JoinScore {
    lines: f64,
    right: f64,
    certain: f64,
    certain_wrong: f64,
    none: f64,
    /// Likely lines, by tenths of probability.
    bands: [ProbabilityBand; 10],
}

/// Likely lines of about the same probability.
#[derive(Clone, Copy, Default, Debug)]
struct ProbabilityBand {
    lines: f64,
    /// The sum of the probabilities.
    said: f64,
    right: f64,
}

impl ProbabilityBand {
    fn add(&mut self, other: Self) {
        self.lines += other.lines;
        self.said += other.said;
        self.right += other.right;
    }
}

struct SimulatedRequest {
    start: i64,
    end: i64,
    client: u32,
    agent: u32,
    url: u64,
    server: usize,
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
fn requests(
    row: &TrafficRow,
    count: usize,
    random: &mut SimulationRandom,
) -> Vec<SimulatedRequest> {
    let mut now = 1_000_000_000_000.0;
    (0..count)
        .map(|_| {
            now += -random.share().max(1e-9).ln() / row.per_second * 1e6;
            let client = u32::try_from(random.below(200)).unwrap();
            let url = if row.same > 0.0 && random.share() < row.same {
                0
            } else {
                zipf(random, row.urls)
            };
            let latency = row.latency * (random.normal() * row.sigma).exp();
            SimulatedRequest {
                start: now as i64,
                end: (now + latency) as i64,
                client,
                agent: client / 5 + 1,
                url,
                server: usize::try_from(random.below(3)).unwrap(),
            }
        })
        .collect()
}

fn stamp(at: i64, resolution: Resolution) -> Timestamp {
    Timestamp::from_micros(at.div_euclid(resolution.micros()) * resolution.micros())
}

fn fingerprint(url: u64) -> Fingerprint {
    Fingerprint::of_raw(format!("GET /page/{url} HTTP/1.1").as_bytes(), Cut::Long).unwrap()
}

fn addr(client: u32) -> ClientAddr {
    ClientAddr::Ip(Ipv4Addr::from(0xC633_6400 + client).into())
}

fn play(row: &TrafficRow, count: usize) -> JoinScore {
    let mut random = SimulationRandom(7);
    let requests = requests(row, count, &mut random);
    let mut events: Vec<(i64, bool, usize)> = Vec::new();
    for (index, request) in requests.iter().enumerate() {
        if random.share() >= row.lost {
            events.push((request.start, false, index));
        }
        if random.share() >= row.unanswered {
            events.push((request.end, true, index));
        }
    }
    events.sort_unstable();

    let wait = match row.resolution {
        Resolution::Second => Duration::from_secs(3),
        Resolution::Microsecond | Resolution::Millisecond => Duration::from_millis(250),
    };
    let mut engine = Attributor::new(JoinSettings { wait, ..JoinSettings::default() });
    let servers = [1, 2, 3].map(|last| engine.server(ServerAddr::Ip([127, 0, 1, last].into())));
    let mut score = JoinScore::default();
    let mut tally = |index: usize, verdict: pen_records::attribution::LineVerdict| {
        let right = verdict.client == Some(addr(requests[index].client));
        score.lines += 1.0;
        score.right += f64::from(u8::from(right));
        if verdict.certainty == Certainty::Certain {
            score.certain += 1.0;
            score.certain_wrong += f64::from(u8::from(!right));
        }
        score.none += f64::from(u8::from(verdict.client.is_none()));
        if verdict.certainty == Certainty::Likely {
            score.bands[usize::from(verdict.probability / 100).min(9)].add(ProbabilityBand {
                lines: 1.0,
                said: f64::from(verdict.probability) / 1_000.0,
                right: f64::from(u8::from(right)),
            });
        }
    };
    for &(at, is_line, index) in &events {
        let request = &requests[index];
        let time = stamp(at, row.resolution);
        engine.advance(time);
        while let Some(out) = engine.next_decided() {
            tally(out.payload, out.verdict);
        }
        let server = servers[request.server];
        if is_line {
            let line = LoggedLine {
                long: Some(fingerprint(request.url)),
                user_agent: Some(request.agent),
                ..LoggedLine::unread(server, (time, row.resolution))
            };
            engine.line(line, index);
        } else {
            engine.mapping(MappingEvent {
                server,
                client: addr(request.client),
                time,
                resolution: row.resolution,
                request: Some(fingerprint(request.url)),
                cut: Cut::Long,
                exchange: None,
            });
        }
    }
    engine.finish();
    while let Some(out) = engine.next_decided() {
        tally(out.payload, out.verdict);
    }
    score
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
fn check_calibration(bands: &[ProbabilityBand; 10]) {
    println!("{:>10} {:>8} {:>7} {:>7}", "said %", "lines", "said", "right");
    for (tenth, &ProbabilityBand { lines, said, right }) in bands.iter().enumerate() {
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
    let mut bands = [ProbabilityBand::default(); 10];
    for (row, floor) in ROWS {
        let score = play(&row, 20_000);
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
        bands.iter_mut().zip(score.bands).for_each(|(all, band)| all.add(band));
    }
    check_calibration(&bands);
}
