//! How far a server's clock is ahead of the balancer's, from a sample of both logs.
//!
//! Requests that are rare in both samples are likely to be the same ones. The differences between
//! their stamps pile up at the clocks' difference plus the time a request usually takes; chance
//! pairs spread out. What does not stand out clearly is taken to be no difference.

use std::collections::HashMap;

use crate::request::Fingerprint;
use crate::time::Timestamp;

/// A request seen more often than this says little.
const RARE: usize = 4;
/// Differences beyond a day are no clock's.
const WORST: i64 = 86_400;
/// Requests that have to agree at least.
const VOTES: u32 = 6;
/// Agreeing differences: so many seconds side by side, for stamps of whole seconds and for the time
/// that requests take.
const WIDTH: usize = 3;
/// Differences that are no more than a request's usual time: not corrected.
const USUAL: std::ops::RangeInclusive<i64> = 0..=2;

/// Requests with their times, from one side.
#[derive(Clone, Debug, Default)]
pub struct Sample {
    seen: HashMap<Fingerprint, Seen>,
}

/// The first times of a request, and whether there were more.
#[derive(Clone, Copy, Debug, Default)]
struct Seen {
    times: [i64; RARE],
    count: usize,
}

/// A clock's difference, and how well it is founded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Offset {
    /// Microseconds the server's clock is ahead of the balancer's; 0 where nothing stands out.
    pub ahead: i64,
    /// Requests that agree on it.
    pub votes: u32,
    /// Requests that could have.
    pub voters: u32,
}

impl Sample {
    /// Adds a request of this side.
    pub fn add(&mut self, request: Fingerprint, time: Timestamp) {
        let seen = self.seen.entry(request).or_default();
        if let Some(place) = seen.times.get_mut(seen.count) {
            *place = time.as_micros().div_euclid(1_000_000);
        }
        seen.count = seen.count.saturating_add(1);
    }

    /// Whether a request was added.
    #[must_use]
    pub fn has(&self, request: Fingerprint) -> bool {
        self.seen.contains_key(&request)
    }

    /// Different requests.
    #[must_use]
    pub fn len(&self) -> usize {
        self.seen.len()
    }

    /// Nothing was added.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.seen.is_empty()
    }
}

impl Seen {
    fn rare(&self) -> Option<&[i64]> {
        self.times.get(..self.count)
    }
}

/// Compares what a server logged with what the balancer noted of that server.
#[must_use]
pub fn estimate(mappings: &Sample, lines: &Sample) -> Offset {
    let mut votes: HashMap<i64, u32> = HashMap::new();
    let mut voters = 0;
    for (request, line) in &lines.seen {
        let mapping = mappings.seen.get(request).and_then(Seen::rare);
        let (Some(lines), Some(mappings)) = (line.rare(), mapping) else { continue };
        let mut differences: Vec<i64> = lines
            .iter()
            .flat_map(|line| mappings.iter().map(move |mapping| line.saturating_sub(*mapping)))
            .filter(|difference| difference.abs() <= WORST)
            .collect();
        differences.sort_unstable();
        differences.dedup();
        voters += u32::from(!differences.is_empty());
        for difference in differences {
            *votes.entry(difference).or_default() += 1;
        }
    }
    let at = |second: i64| votes.get(&second).copied().unwrap_or(0);
    let together = |first: i64| (first..).take(WIDTH).map(at).sum::<u32>();
    let Some(best) = votes.keys().copied().max_by_key(|&second| {
        // Among equals the smallest difference, so that the choice does not depend on the map.
        (together(second), at(second), -second.abs(), second)
    }) else {
        return Offset::default();
    };
    let second_best = votes
        .keys()
        .filter(|second| (*second - best).unsigned_abs() >= WIDTH as u64)
        .map(|&second| together(second))
        .max()
        .unwrap_or(0);
    let agreed = together(best);
    let none = Offset { ahead: 0, votes: 0, voters };
    if agreed < VOTES || agreed < 2 * second_best || agreed * 5 < voters {
        return none;
    }
    // What a right clock explains about as well needs no correction: in a short log rare requests come
    // within seconds of each other, and vote for all that lies between.
    if together(0) * 2 >= agreed {
        return Offset { votes: together(0), ..none };
    }
    // A few stray votes just before the bulk are chance; a good part of it is the clock's fraction.
    let first = if at(best) * 8 < agreed { best + 1 } else { best };
    if USUAL.contains(&first) {
        return Offset { votes: agreed, ..none };
    }
    Offset { ahead: first * 1_000_000, votes: agreed, voters }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::request::Cut;

    fn request(number: u32) -> Fingerprint {
        Fingerprint::of_raw(format!("GET /{number} HTTP/1.1").as_bytes(), Cut::Short)
            .expect("it is not empty")
    }

    /// `count` rare requests, a busy one, and delays of up to two seconds.
    fn samples(count: u32, ahead: i64) -> (Sample, Sample) {
        let (mut mappings, mut lines) = (Sample::default(), Sample::default());
        for number in 0..count {
            let time = 1_795_379_000 + i64::from(number * 7 % 1_000);
            let took = i64::from(number % 5 == 0) + i64::from(number % 11 == 0);
            mappings.add(request(number), Timestamp::from_seconds(time));
            lines.add(request(number), Timestamp::from_seconds(time + took + ahead));
            mappings.add(request(u32::MAX), Timestamp::from_seconds(time));
            lines.add(request(u32::MAX), Timestamp::from_seconds(time + ahead));
        }
        (mappings, lines)
    }

    #[test]
    fn a_clock_that_is_off_is_found() {
        for ahead in [-86_000, -3_600, -90, -7, -1, 3, 90, 3_600, 50_400] {
            let (mappings, lines) = samples(200, ahead);
            let offset = estimate(&mappings, &lines);
            assert_eq!(offset.ahead, ahead * 1_000_000, "{ahead}: {offset:?}");
            assert!(offset.votes > 150, "{offset:?}");
        }
    }

    #[test]
    fn what_a_request_takes_is_not_mistaken_for_a_clock() {
        for ahead in [0, 1, 2] {
            let (mappings, lines) = samples(200, ahead);
            assert_eq!(estimate(&mappings, &lines).ahead, 0, "{ahead}");
        }
    }

    #[test]
    fn requests_that_come_twice_within_seconds_do_not_move_the_clock() {
        let (mut mappings, mut lines) = (Sample::default(), Sample::default());
        for number in 0..40 {
            for time in [1_795_379_000, 1_795_379_001] {
                mappings.add(request(number), Timestamp::from_seconds(time));
                lines.add(request(number), Timestamp::from_seconds(time));
            }
        }
        assert_eq!(estimate(&mappings, &lines).ahead, 0);
    }

    #[test]
    fn few_votes_and_many_opinions_say_nothing() {
        let (mappings, lines) = samples(5, 3_600);
        assert_eq!(estimate(&mappings, &lines).ahead, 0);
        let (mut mappings, mut lines) = (Sample::default(), Sample::default());
        for number in 0..200 {
            let time = 1_795_379_000 + i64::from(number);
            mappings.add(request(number), Timestamp::from_seconds(time));
            lines.add(request(number), Timestamp::from_seconds(time + i64::from(number * 13)));
        }
        assert_eq!(estimate(&mappings, &lines).ahead, 0);
        assert_eq!(estimate(&Sample::default(), &lines), Offset::default());
        assert!(Sample::default().is_empty());
    }
}
