use proptest::prelude::*;

use super::align::{Window, matched};
use super::series::Series;
use super::*;

const T: i64 = 1_795_379_000 * SECOND;
const MOST: usize = 1 << 16;

/// Pseudo-random numbers.
struct TestRandom(u64);

impl TestRandom {
    fn below(&mut self, most: u64) -> i64 {
        self.0 = self.0.wrapping_mul(0x5851_F42D_4C95_7F2D).wrapping_add(0x1405_7B7E_F767_814F);
        i64::try_from((self.0 >> 33) % most).unwrap()
    }

    /// A number below `most`, small numbers more often.
    fn often(&mut self, most: u64) -> u64 {
        let draws = [self.below(most), self.below(most), self.below(most)];
        draws.into_iter().min().unwrap().unsigned_abs()
    }
}

fn cut(micros: i64, resolution: Resolution) -> (Timestamp, Resolution) {
    let step = resolution.micros();
    (Timestamp::from_micros(micros.div_euclid(step) * step), resolution)
}

/// Requests at these times, with stamps of this resolution.
pub(super) fn sample(
    times: impl Iterator<Item = (u64, i64)>,
    resolution: Resolution,
) -> ClockSample {
    let mut sample = ClockSample::new(usize::MAX);
    for (key, time) in times {
        sample.add(key, cut(time, resolution));
    }
    sample
}

/// Requests of 40 pages, 700 ms apart.
pub(super) fn requests(count: i64) -> impl Iterator<Item = (u64, i64)> {
    (0..count).map(|n| (n.unsigned_abs() * 17 % 40, T + n * 700_000))
}

/// Traffic of a server with timestamps of a given resolution: mappings and lines.
struct TestSite {
    requests: u64,
    span: i64,
    keys: u64,
    ahead: i64,
    stamps: (Resolution, Resolution),
}

impl TestSite {
    /// One request in 50 is not mapped, and as many are not logged. Lines come up to 5 ms after
    /// their mapping, or after the duration of a request if mappings are of requests.
    fn samples(&self, seed: u64) -> (ClockSample, ClockSample) {
        let mut chance = TestRandom(seed);
        let (mut mappings, mut lines) = (ClockSample::new(MOST), ClockSample::new(MOST));
        for _ in 0..self.requests {
            let time = T + chance.below(self.span.unsigned_abs());
            let key = chance.often(self.keys);
            let asked = self.stamps.0 == Resolution::Second;
            let took = if asked { chance.below(400_000) } else { chance.below(5_000) };
            if chance.below(50) > 0 {
                mappings.add(key, cut(time, self.stamps.0));
            }
            if chance.below(50) > 0 {
                lines.add(key, cut(time + took + self.ahead, self.stamps.1));
            }
        }
        (mappings, lines)
    }
}

const FINE: (Resolution, Resolution) = (Resolution::Microsecond, Resolution::Second);
const FINER: (Resolution, Resolution) = (Resolution::Microsecond, Resolution::Millisecond);
const CLASSIC: (Resolution, Resolution) = (Resolution::Second, Resolution::Second);

#[test]
fn a_clock_that_is_off_is_found_though_all_requests_come_again_within_seconds() {
    for (ahead, seed) in
        [(-90_000_000, 1), (3_000_000, 2), (3_600_000_000, 3), (-1_700_000, 4), (740_000, 5)]
    {
        for (stamps, within) in [(FINE, 120_000), (FINER, 5_000)] {
            let site = TestSite { requests: 2_000, span: 9 * SECOND, keys: 60, ahead, stamps };
            let (mappings, lines) = site.samples(seed);
            let offset = estimate(&mappings, &lines);
            let error = (offset.ahead - ahead).abs();
            assert!(error <= within, "{ahead} {stamps:?}: {offset:?}");
            assert!(offset.votes > 1_500, "{offset:?}");
        }
    }
}

#[test]
fn one_address_alone_is_enough_where_it_comes_in_bursts() {
    let (mut mappings, mut lines) = (ClockSample::new(MOST), ClockSample::new(MOST));
    let (mut chance, mut time) = (TestRandom(9), T);
    for _ in 0..400 {
        time += chance.below(30) * chance.below(30) * 10_000;
        mappings.add(7, cut(time, Resolution::Microsecond));
        lines.add(7, cut(time + 1_000 + 42_300_000, Resolution::Second));
    }
    let offset = estimate(&mappings, &lines);
    assert!((offset.ahead - 42_300_000).abs() < 100_000, "{offset:?}");
}

#[test]
fn where_stamps_are_whole_seconds_on_both_sides_a_clock_is_found_to_a_second() {
    for ahead in [-86_000, -3_600, -90, -7, 5, 90, 3_600, 50_400] {
        let site = TestSite {
            requests: 2_000,
            span: 1_000 * SECOND,
            keys: 3_000,
            ahead: ahead * SECOND,
            stamps: CLASSIC,
        };
        let (mappings, lines) = site.samples(7);
        let offset = estimate(&mappings, &lines);
        assert_eq!(offset.ahead, ahead * SECOND, "{offset:?}");
    }
}

#[test]
fn a_site_that_gets_busier_has_a_right_clock() {
    // Visitors stay for some seconds, so that there are ever more requests at the beginning.
    for (seed, per_second) in [(1, 600), (2, 1_000), (3, 2_000), (4, 600), (5, 1_000)] {
        let mut chance = TestRandom(seed);
        let (mut mappings, mut lines) = (ClockSample::new(MOST), ClockSample::new(MOST));
        for second in 0..12 {
            for _ in 0..per_second * (second + 2).min(5) / 5 {
                let (at, key) = (second * SECOND + chance.below(1_000_000), chance.below(60));
                let key = key.unsigned_abs();
                mappings.add(key, cut(T + at, Resolution::Second));
                let took = 5_000 + chance.below(20_000);
                lines.add(key, cut(T + at + took, Resolution::Second));
            }
        }
        let found = estimate(&mappings, &lines);
        assert_eq!(found.ahead, 0, "{seed} {per_second}: {found:?}");
    }
}

/// `count` rare requests, a busy one, and delays of up to two seconds.
fn rare(count: u64, ahead: i64) -> (ClockSample, ClockSample) {
    let (mut mappings, mut lines) = (ClockSample::new(MOST), ClockSample::new(MOST));
    for number in 0..count {
        let time = T + i64::try_from(number * 7 % 1_000).unwrap() * SECOND;
        let took = (i64::from(number % 5 == 0) + i64::from(number % 11 == 0)) * SECOND;
        let add =
            |sample: &mut ClockSample, key, time| sample.add(key, cut(time, Resolution::Second));
        add(&mut mappings, number, time);
        add(&mut lines, number, time + took + ahead * SECOND);
        add(&mut mappings, u64::MAX, time);
        add(&mut lines, u64::MAX, time + ahead * SECOND);
    }
    (mappings, lines)
}

#[test]
fn what_a_request_takes_is_not_mistaken_for_a_clock() {
    for ahead in [0, 1, 2] {
        let (mappings, lines) = rare(200, ahead);
        assert_eq!(estimate(&mappings, &lines).ahead, 0, "{ahead}");
    }
    for ahead in [-90, -1, 3, 3_600] {
        let (mappings, lines) = rare(200, ahead);
        assert_eq!(estimate(&mappings, &lines).ahead, ahead * SECOND);
    }
}

#[test]
fn stamps_that_are_all_equally_far_apart_say_that_difference() {
    for ahead in [-90, -1, 3, 4, 90, 3_600] {
        let (mut mappings, mut lines) = (ClockSample::new(MOST), ClockSample::new(MOST));
        for number in 0..200_u32 {
            let time = T + i64::from(number) * 2 * SECOND;
            // Keys are hashes.
            let key = u64::from(number).wrapping_mul(0x9E37_79B9_7F4A_7C15);
            mappings.add(key, cut(time, Resolution::Second));
            lines.add(key, cut(time + ahead * SECOND, Resolution::Second));
        }
        assert_eq!(estimate(&mappings, &lines).ahead, ahead * SECOND);
    }
}

#[test]
fn requests_that_come_twice_within_seconds_do_not_move_the_clock() {
    let (mut mappings, mut lines) = (ClockSample::new(MOST), ClockSample::new(MOST));
    for number in 0..40 {
        for time in [T, T + SECOND] {
            mappings.add(number, cut(time, Resolution::Second));
            lines.add(number, cut(time, Resolution::Second));
        }
    }
    assert_eq!(estimate(&mappings, &lines).ahead, 0);
}

#[test]
fn few_votes_and_many_opinions_say_nothing() {
    let (mappings, lines) = rare(3, 3_600);
    assert_eq!(estimate(&mappings, &lines).ahead, 0);
    let (mut mappings, mut lines) = (ClockSample::new(MOST), ClockSample::new(MOST));
    for number in 0..200_u32 {
        let time = T + i64::from(number) * SECOND;
        mappings.add(number.into(), cut(time, Resolution::Second));
        lines.add(number.into(), cut(time + i64::from(number * 13) * SECOND, Resolution::Second));
    }
    assert_eq!(estimate(&mappings, &lines).votes, 0);
    assert_eq!(estimate(&ClockSample::new(1), &lines), ClockOffset::default());
    assert!(ClockSample::new(1).is_empty());
}

#[test]
fn logs_that_have_nothing_to_do_with_each_other_have_no_difference() {
    for seed in 0..20 {
        for stamps in [FINE, FINER, CLASSIC] {
            for (requests, span, keys) in
                [(2_000, 9, 60), (2_000, 600, 60), (300, 600, 200), (3_000, 3_000, 1)]
            {
                let site = TestSite { requests, span: span * SECOND, keys, ahead: 0, stamps };
                let (mappings, _) = site.samples(2 * seed);
                let (_, lines) = site.samples(2 * seed + 1);
                let offset = estimate(&mappings, &lines);
                let is_none = offset.votes == 0 || stamps == CLASSIC && offset.ahead == 0;
                assert!(is_none, "{seed} {requests} {span} {keys} {stamps:?}: {offset:?}");
            }
        }
    }
}

#[test]
fn requests_without_number_at_any_time_take_bounded_time() {
    let (mut mappings, mut lines) = (ClockSample::new(1 << 17), ClockSample::new(1 << 17));
    let mut chance = TestRandom(3);
    for n in 0..400_000_u64 {
        let anywhere = (chance.below(1 << 31) << 31) - (1 << 61);
        mappings.add(n % 3, cut(anywhere, Resolution::Microsecond));
        lines.add(n % 3, cut(anywhere / 3, Resolution::Second));
    }
    mappings.add(1, (Timestamp::MIN, Resolution::Second));
    lines.add(1, (Timestamp::MAX, Resolution::Second));
    assert_eq!(estimate(&mappings, &lines).votes, 0);
}

/// The greatest number of pairs, found by augmenting paths.
fn most_pairs(series: &Series, (low, high): (i64, i64)) -> usize {
    fn find(
        line: usize,
        fits: &dyn Fn(usize, usize) -> bool,
        of: &mut [Option<usize>],
        tried: &mut [bool],
    ) -> bool {
        for mapping in 0..of.len() {
            if tried[mapping] || !fits(line, mapping) {
                continue;
            }
            tried[mapping] = true;
            if of[mapping].is_none_or(|other| find(other, fits, of, tried)) {
                of[mapping] = Some(line);
                return true;
            }
        }
        false
    }
    let fits = |line: usize, mapping: usize| {
        (low..=high).contains(&(series.lines[line] - series.mappings[mapping]))
    };
    let mut of = vec![None; series.mappings.len()];
    (0..series.lines.len())
        .filter(|&line| find(line, &fits, &mut of, &mut vec![false; series.mappings.len()]))
        .count()
}

proptest! {
    #[test]
    fn as_many_find_each_other_as_can(
        mut mappings in proptest::collection::vec(0..12 * SECOND, 0..30),
        mut lines in proptest::collection::vec(0..12 * SECOND, 0..30),
        at in -4..4_i64,
    ) {
        mappings.sort_unstable();
        lines.sort_unstable();
        let series = [Series { mappings, lines }];
        for (window, span) in [
            (Window::Ends, (-1_020_000, 20_000)),
            (Window::Requests, (0, 2 * SECOND)),
        ] {
            let span = (span.0 + at * SECOND, span.1 + at * SECOND);
            let expected = u32::try_from(most_pairs(&series[0], span)).unwrap();
            prop_assert_eq!(matched(&series, window, at * SECOND), expected);
        }
    }

    #[test]
    fn what_is_said_is_true(
        seed in 0..10_000_u64,
        ahead in -5_000_000_000..5_000_000_000_i64,
        requests in 10..600_u64,
        span in 2..900_i64,
        keys in 1..2_000_u64,
        is_finer in any::<bool>(),
    ) {
        let stamps = if is_finer { FINER } else { FINE };
        let (mappings, lines) =
            TestSite { requests, span: span * SECOND, keys, ahead, stamps }.samples(seed);
        let offset = estimate(&mappings, &lines);
        if offset.votes > 0 {
            let error = (offset.ahead - ahead).abs();
            prop_assert!(error <= 500_000, "{:?} for {}", offset, ahead);
            prop_assert!(error <= offset.within + 20_000, "{:?} for {}", offset, ahead);
        }
    }
}
