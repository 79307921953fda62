//! How much likelier a difference of clocks makes the times of lines.
//!
//! Where requests repeat within seconds, nearly each line finds a mapping under any difference, so that counting those
//! that do says little. Here the mappings of a line's request at the times that a difference explains are compared
//! with their usual number: under the right difference there is one more. The logarithms of these ratios add up to
//! the *gain* of a difference over chance, in nats. By chance a gain of n or more comes about once in e^n.

use super::align::Window;
use super::series::Series;
use super::{ClockSample, SECOND};

/// Shares of lines without a mapping that are tried.
const UNMAPPED: [f64; 5] = [0.04, 0.15, 0.4, 0.7, 0.9];
/// The share where only one is tried.
const UNMAPPED_USUAL: f64 = 0.15;
/// How much of a second's differences the right center explains about, less what is unmapped.
const FOUND: f64 = 0.7;
/// From so many equal requests in a second on, single lines say little; and what all lines of a second say then, in nats.
const OFTEN: f64 = 4.0;
const OF_SECOND: f64 = 0.5;
/// Seconds of lines that are compared at most, rare requests first.
const MOST: usize = 1 << 15;
/// A log that is shorter is compared with the time around it, in microseconds.
const SHORT: i64 = 30 * SECOND;
/// A request with so many mappings comes at all times of its log.
const FREQUENT: usize = 8;
/// Mappings that are looked at one after the other.
const NEXT: usize = 16;
/// Requests in a second with which the number of all that come at a time is known.
const BUSY: f64 = 40.0;
/// The least part of the usual number of all requests: where there are fewer, a log begins or ends.
const LEAST_OF_ALL: f64 = 0.9;
/// The same at a site that gets busier or quieter.
const LEAST_OF_CHANGING: f64 = 0.3;
/// So much of the times that a center explains is as good as all: most of the others are those of slow requests.
const COVERED: f64 = 0.75;
/// Ranges of differences that are not equally likely.
const RANGES: usize = 6;
/// Their bounds in microseconds from the center on, and how many of a second's differences are in each, where
/// the end of a response is compared with a stamp that is cut to its second. Some servers are done before the
/// balancer is.
const ENDS: [i64; RANGES + 1] =
    [-2_050_000, -1_550_000, -1_300_000, -1_050_000, 30_000, 300_000, SECOND];
const OF_ENDS: [f64; RANGES] = [0.02, 0.03, 0.05, 0.83, 0.1, 0.02];
/// The same where it is asked where exactly the second is.
const SHARP_ENDS: [i64; RANGES + 1] =
    [-2_050_000, -1_550_000, -1_300_000, -1_005_000, 2_000, 300_000, SECOND];
const OF_SHARP_ENDS: [f64; RANGES] = [0.02, 0.03, 0.05, 0.89, 0.1, 0.02];
/// The same with a finer stamp.
const MOMENTS: [i64; RANGES + 1] =
    [-2 * SECOND, -SECOND, -SECOND / 2, -60_000, 40_000, 300_000, SECOND];
const OF_MOMENTS: [f64; RANGES] = [0.02, 0.03, 0.1, 7.5, 0.1, 0.02];
/// The same where the second of a request is compared with the second of its line, from half a second before the
/// center's whole second on. Most requests end at once, and some take seconds.
const REQUESTS: [i64; RANGES + 1] = [
    -3 * SECOND / 2,
    -SECOND / 2,
    SECOND / 2,
    3 * SECOND / 2,
    5 * SECOND / 2,
    7 * SECOND / 2,
    9 * SECOND / 2,
];
const OF_REQUESTS: [f64; RANGES] = [0.01, 0.01, 0.01, 0.03, 0.02, 0.01];
/// What is left for the second of the center and the one after it, which share it by the fraction of the center.
const AT_ONCE: f64 = 0.9;

/// The times of both logs by request.
pub(super) struct GainTimes {
    series: Vec<RequestTimes>,
    window: Window,
    /// All requests together, where there are many.
    all: Option<AllTimes>,
}

/// The times of all requests: when all come more often than usual, that a line's does says nothing.
struct AllTimes {
    mappings: Vec<i64>,
    lines: Vec<i64>,
    /// Mappings in a second.
    rate: f64,
    /// The times from the first mapping to the last.
    span: (i64, i64),
    /// Whether the site is taken to get busier or quieter.
    is_changing: bool,
}

/// The times of one request.
struct RequestTimes {
    mappings: Vec<i64>,
    /// Times, with the number of lines of each.
    lines: Vec<(i64, f64)>,
    /// Mappings in a second.
    rate: f64,
    /// What a line says: less where the request comes in bursts.
    weight: f64,
}

/// What a difference of clocks gains over chance.
#[derive(Clone, Copy, Debug)]
pub(super) struct CenterGain {
    pub(super) center: i64,
    pub(super) nats: f64,
}

impl GainTimes {
    /// `pairs` are of `mappings` and lines.
    pub(super) fn new(pairs: &[Series], mappings: &ClockSample, window: Window) -> Self {
        let mut left = MOST;
        let span = MappingSpan::new(pairs.iter().flat_map(|it| &it.mappings), mappings.covered);
        let series = pairs.iter().map_while(|it| {
            let lines = equal_times(&it.lines, window);
            left = left.checked_sub(lines.len())?;
            let count = float(it.mappings.len());
            let rate = span.rate(it.mappings.len());
            let of_second =
                it.mappings.chunk_by(|a, b| a.div_euclid(SECOND) == b.div_euclid(SECOND));
            let squares: f64 = of_second.map(|times| float(times.len()).powi(2)).sum();
            let weight = 1.0 / (squares / count - rate).max(1.0);
            Some(RequestTimes { mappings: it.mappings.clone(), lines, rate, weight })
        });
        let series: Vec<_> = series.collect();
        let all = AllTimes::new(&series, window);
        Self { series, window, all }
    }

    /// The same at a site that gets busier or quieter: fewer requests than usual say nothing where there are mappings
    /// before and after.
    pub(super) fn of_changing_site(mut self) -> Self {
        if let Some(all) = &mut self.all {
            all.is_changing = true;
        }
        self
    }

    /// Whether so many requests come that their number at any time is known.
    pub(super) const fn is_busy(&self) -> bool {
        self.all.is_some()
    }

    /// Returns what the right center gains about, in nats: little where one request is in all lines.
    pub(super) fn possible(&self) -> f64 {
        let of = |it: &RequestTimes| {
            let each = (FOUND / it.rate).ln_1p();
            // Of a frequent request only the number in each second says something.
            let most = if it.rate < OFTEN { f64::INFINITY } else { OF_SECOND };
            let gain = |(_, count): &(i64, f64)| (each * count).min(most);
            it.lines.iter().map(gain).sum::<f64>() * it.weight
        };
        self.series.iter().map(of).sum()
    }

    /// Returns what a center gains, with the likeliest share of lines that have a mapping.
    pub(super) fn gain(&self, center: i64) -> CenterGain {
        let nats =
            self.gains(kernel(self.window, center), UNMAPPED).into_iter().max_by(f64::total_cmp);
        CenterGain { center, nats: nats.unwrap_or(0.0) }
    }

    /// Returns what a center gains, if servers log a line within milliseconds and no difference is wrong by more.
    pub(super) fn sharp_gain(&self, center: i64) -> CenterGain {
        let kernel = match self.window {
            Window::Ends => (SHARP_ENDS.map(|bound| center + bound), OF_SHARP_ENDS),
            Window::Moments | Window::Requests => kernel(self.window, center),
        };
        let [nats] = self.gains(kernel, [UNMAPPED_USUAL]);
        CenterGain { center, nats }
    }

    /// Returns what a center gains about, for comparison with many others.
    pub(super) fn rough_gain(&self, center: i64) -> CenterGain {
        let [nats] = self.gains(kernel(self.window, center), [UNMAPPED_USUAL]);
        CenterGain { center, nats }
    }

    fn gains<const N: usize>(&self, kernel: Kernel, unmapped: [f64; N]) -> [f64; N] {
        let usual = self.all.as_ref().map(|all| all.more_than_usual(kernel));
        let none_found = unmapped.map(f64::ln);
        let mut nats = [0.0; N];
        for RequestTimes { mappings, lines, rate, weight } in &self.series {
            let mut found = FoundMappings::new(mappings, kernel);
            let mut of_all = usual.iter().flatten().peekable();
            for (time, count) in lines {
                while of_all.next_if(|(of, _)| of < time).is_some() {}
                let more = of_all.peek().map_or(1.0, |(_, more)| *more);
                let found = found.at(*time) / (rate * more);
                for (place, nats) in nats.iter_mut().enumerate() {
                    let gain = if found > 0.0 {
                        ((1.0 - unmapped[place]) * found + unmapped[place]).ln()
                    } else {
                        none_found[place]
                    };
                    *nats += gain * count * weight;
                }
            }
        }
        nats
    }
}

impl AllTimes {
    /// `None` where so few requests come that their number at a time says little.
    fn new(series: &[RequestTimes], window: Window) -> Option<Self> {
        let rate: f64 = series.iter().map(|it| it.rate).sum();
        if rate < BUSY {
            return None;
        }
        let mut mappings: Vec<_> =
            series.iter().flat_map(|it| it.mappings.iter().copied()).collect();
        mappings.sort_unstable();
        let mut lines: Vec<_> =
            series.iter().flat_map(|it| it.lines.iter().map(|(time, _)| *time)).collect();
        lines.sort_unstable();
        lines.dedup();
        // A stamp stands for its whole second.
        let half = if window.is_coarse() { SECOND / 2 } else { 0 };
        let span = (mappings.first()? - half, mappings.last()? + half);
        Some(Self { mappings, lines, rate, span, is_changing: false })
    }

    /// Returns for each line's time how much more often than usual requests come at the times that a center explains.
    fn more_than_usual(&self, kernel: Kernel) -> Vec<(i64, f64)> {
        let mut found = FoundMappings::new(&self.mappings, kernel);
        let more = |time: i64| {
            let more = (found.at(time) + BUSY) / (self.rate + BUSY);
            if self.is_changing {
                return more.max(LEAST_OF_CHANGING) / self.covered(kernel, time);
            }
            more.max(LEAST_OF_ALL)
        };
        self.lines
            .iter()
            .copied()
            .map(more)
            .zip(&self.lines)
            .map(|(more, at)| (*at, more))
            .collect()
    }

    /// Returns how much of the times that a center explains is covered by the mappings.
    fn covered(&self, (bounds, chances): Kernel, time: i64) -> f64 {
        let (first, last) = self.span;
        if time - bounds[RANGES] >= first && time - bounds[0] <= last {
            return 1.0;
        }
        let length = |from: i64, to: i64| signed((to - from).max(0));
        let (mut covered, mut all) = (0.0, 0.0);
        for (range, chance) in bounds.windows(2).zip(chances) {
            let (from, to) = (time - range[1], time - range[0]);
            covered += length(from.max(first), to.min(last)) * chance;
            all += length(from, to) * chance;
        }
        (covered / all / COVERED).min(1.0)
    }
}

/// Counts the mappings at the times that a center explains, of one line after the other.
struct FoundMappings<'a> {
    mappings: &'a [i64],
    kernel: Kernel,
    /// The first mapping of which the line is no more apart than each bound.
    places: [usize; RANGES + 1],
}

impl<'a> FoundMappings<'a> {
    const fn new(mappings: &'a [i64], kernel: Kernel) -> Self {
        Self { mappings, kernel, places: [0; RANGES + 1] }
    }

    /// Returns how often mappings are expected in a second around the next line, by those found there.
    fn at(&mut self, time: i64) -> f64 {
        let (bounds, chances) = self.kernel;
        for (place, bound) in self.places.iter_mut().zip(bounds) {
            let later = &self.mappings[*place..];
            let is_apart = |mapping: &i64| time - mapping > bound;
            // Lines of one request are near to each other, but the first may be far from the first mapping.
            *place += match later.get(NEXT) {
                Some(far) if is_apart(far) => later.partition_point(is_apart),
                _ => later.iter().take_while(|mapping| is_apart(mapping)).count(),
            };
        }
        let counts = self.places.windows(2).map(|of| float(of[0] - of[1]));
        counts.zip(chances).map(|(count, chance)| count * chance).sum()
    }
}

/// Returns the mean of centers weighted by their gains, its likely error, and the best one.
pub(super) fn middle(gains: &[CenterGain], at: i64) -> (i64, i64, CenterGain) {
    let none = CenterGain { center: at, nats: 0.0 };
    let best = gains.iter().copied().max_by(|a, b| a.nats.total_cmp(&b.nats)).unwrap_or(none);
    let weighted = |it: &CenterGain| (signed(it.center - best.center), (it.nats - best.nats).exp());
    let sum: f64 = gains.iter().map(|it| weighted(it).1).sum::<f64>().max(1.0);
    let mean = gains.iter().map(weighted).map(|(apart, weight)| apart * weight).sum::<f64>() / sum;
    let squares = gains.iter().map(weighted).map(|(apart, weight)| (apart - mean).powi(2) * weight);
    let error = (squares.sum::<f64>() / sum).sqrt();
    (best.center + whole(mean), whole(2.0 * error), best)
}

/// How much likelier than by chance a line is under a center, beside all mappings of its request.
pub(super) struct LineGains<'a> {
    mappings: &'a ClockSample,
    window: Window,
    span: MappingSpan,
}

impl<'a> LineGains<'a> {
    pub(super) fn new(mappings: &'a ClockSample, window: Window) -> Self {
        let span = MappingSpan::new(mappings.seen.values().flatten(), mappings.covered);
        Self { mappings, window, span }
    }

    /// Returns a line's gain under a center, in nats.
    pub(super) fn gain(&self, (key, time): (u64, i64), center: i64) -> f64 {
        let Some(times) = self.mappings.seen.get(&key) else { return 0.0 };
        let (bounds, chances) = kernel(self.window, center);
        let time = self.window.stamp(time);
        let chance = |mapping: &i64| {
            let apart = time - mapping;
            let range = bounds.iter().position(|bound| apart <= *bound)?.checked_sub(1)?;
            Some(chances[range])
        };
        let found: f64 = times.iter().filter_map(chance).sum();
        let rate = self.span.rate(times.len());
        ((1.0 - UNMAPPED_USUAL) * found / rate + UNMAPPED_USUAL).ln()
    }
}

/// Ranges of differences that a center explains, and how likely a difference is in each: in a second.
type Kernel = ([i64; RANGES + 1], [f64; RANGES]);

fn kernel(window: Window, center: i64) -> Kernel {
    match window {
        Window::Ends => return (ENDS.map(|bound| center + bound), OF_ENDS),
        Window::Moments => return (MOMENTS.map(|bound| center + bound), OF_MOMENTS),
        Window::Requests => {}
    }
    let part = center.rem_euclid(SECOND);
    let mut chances = OF_REQUESTS;
    chances[1] += AT_ONCE * signed(SECOND - part) / signed(SECOND);
    chances[2] += AT_ONCE * signed(part) / signed(SECOND);
    (REQUESTS.map(|bound| center - part + bound), chances)
}

/// The seconds in which mappings could have come.
struct MappingSpan {
    /// From the first to the last that came.
    found: f64,
    /// Where a whole log is shorter than the usual distance of requests, that all are in it is no chance.
    covered: f64,
}

impl MappingSpan {
    fn new<'a>(times: impl Iterator<Item = &'a i64>, covered: i64) -> Self {
        let (first, last) = times
            .fold((i64::MAX, i64::MIN), |(first, last), time| (first.min(*time), last.max(*time)));
        let found = last.saturating_sub(first).max(0).saturating_add(SECOND);
        let covered = found.max(covered.min(SHORT));
        Self { found: signed(found) / signed(SECOND), covered: signed(covered) / signed(SECOND) }
    }

    /// Returns how often a request comes in a second, of which there are so many.
    ///
    /// One that comes often would have come in the rest of the time covered, too: there the log had not begun, or was
    /// over.
    fn rate(&self, count: usize) -> f64 {
        float(count) / if count < FREQUENT { self.covered } else { self.found }
    }
}

/// Returns sorted times with their numbers.
fn equal_times(times: &[i64], window: Window) -> Vec<(i64, f64)> {
    let mut counted: Vec<(i64, f64)> = Vec::new();
    for time in times.iter().map(|time| window.stamp(*time)) {
        match counted.last_mut() {
            Some((last, count)) if *last == time => *count += 1.0,
            _ => counted.push((time, 1.0)),
        }
    }
    counted
}

#[expect(clippy::cast_precision_loss, reason = "differences are far below 2^52")]
const fn signed(value: i64) -> f64 {
    value as f64
}

#[expect(clippy::cast_precision_loss, reason = "counts are far below 2^52")]
const fn float(count: usize) -> f64 {
    count as f64
}

#[expect(clippy::cast_possible_truncation, reason = "as saturates, and the value is small")]
const fn whole(value: f64) -> i64 {
    value as i64
}
