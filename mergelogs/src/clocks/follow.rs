//! Follows the clock of one log along the log, from slices of its text.
//!
//! Slices lie at equal distances. In each it is tried whether the difference of clocks is what it was in the slice
//! before, or what the pace of a clock that goes wrong lets expect; if not, it is searched for anew. Between slices
//! with different results the middle is looked at, until the clock's way between them is a straight line or a step,
//! and for a step the line is found at which it lies.

use std::collections::{HashMap, VecDeque};

use pen_records::access::Parser;
use pen_records::attribution::{LoggedLine, ServerIndex};
use pen_records::clocks::{ClockKnot, KnotKind, OffsetCheck, find_change};
use pen_records::time::{Resolution, Timestamp};

use super::evidence::{MappingSamples, RequestKeys, ServerSamples, line_keys};
use super::scan::MappingTexts;
use super::texts::SeekableText;
use super::{LATEST, SAMPLED, SECOND};
use crate::config::ServerInputs;
use crate::zone::AccessTimes;

/// Least and most bytes of a slice.
const SLICE: (u64, u64) = (4 << 10, 16 << 10);
/// Slices of a log up to `SMALL` bytes, and of a longer one.
const SLICES: (u64, u64) = (64, 16);
const SMALL: u64 = 1 << 20;
/// Lines and mappings that are enough to say that no difference of clocks puts them together.
const ENOUGH: usize = 60;
/// Fewer lines say nothing.
const FEWEST: usize = 8;
/// How much earlier and later than expected a slice's mappings are read, in microseconds: a request's record comes
/// before its response ends.
const AROUND: (i64, i64) = (2 * SECOND, SECOND);
/// Bytes of each mapping log read beside a slice.
const NEAR: usize = 4 << 20;
/// How far the difference is searched for, and the bytes of each mapping log read to do so.
const REACHES: [(i64, usize); 2] = [(60 * SECOND, 16 << 20), (4_000 * SECOND, 64 << 20)];
/// Searches in one log.
const SEARCHES: u32 = 6;
/// Slices in which less than this part of the usual share of lines finds a mapping contradict the difference, in
/// thousandths.
const ENOUGH_OF: u32 = 600;
/// The lines, times the square of their usual share in thousandths, that can contradict.
const TELLING: u64 = 8_000_000;
/// Zones are tried up to this many quarters of an hour, and the mappings so near to each: microseconds.
const ZONES: i64 = 4 * 14;
const QUARTER: i64 = 900 * SECOND;
const BESIDE: i64 = 5 * SECOND;
/// The least share of lines with a mapping before the usual one is known, in thousandths.
const LEAST: u32 = 300;
/// Centers within this distance, plus their errors, count as equal.
const SAME: i64 = SECOND / 4;
/// A clock that gains or loses more, in millionths, was set.
const WORST_PACE: i64 = 500;
/// The pace is taken from this many places before.
const PACED: usize = 3;
/// Paces that are tried where none is known and slices are long, in millionths, the greatest first.
const PACES: [i64; 13] = [100, -100, 80, -80, 60, -60, 40, -40, 20, -20, 10, -10, 0];
/// Bytes of lines looked through for a step.
const STEP: u64 = 512 << 10;
/// No line so near to a step is sure, in microseconds.
const UNSURE: i64 = 3 * SECOND;
/// Lines nearer to a step than this are not sure either, whatever their time.
const UNSURE_LINES: usize = 3;

/// A log that is followed.
pub(super) struct LogFollower<'a, 'b> {
    text: &'a SeekableText,
    mappings: &'a mut MappingTexts<'b>,
    server: ServerIndex,
    parser: Parser,
    times: AccessTimes,
    /// Centers known from this log or others of the same machine, the last one last.
    known: VecDeque<i64>,
    /// The usual share of lines with a mapping that is no chance, in thousandths.
    usual: Option<u32>,
    searches: u32,
    zone_searches: u32,
    /// Requests of the server seen in the mapping logs.
    seen: u64,
    /// Lines for which other differences were searched, and those of them whose requests the mapping logs have at all.
    searched: usize,
    familiar: usize,
    /// Lines by their logged client.
    senders: HashMap<u32, usize>,
    /// Lines in slices, and in those that contradict all differences known.
    lines: usize,
    contradicted: usize,
    /// Whether the balancer's stamps are whole seconds.
    is_coarse: bool,
}

/// What was found of a log's clock.
pub(super) struct FollowedLog {
    pub(super) knots: Vec<ClockKnot>,
    /// Whether the balancer's stamps are whole seconds.
    pub(super) is_coarse: bool,
    /// Whether no difference of clocks puts the lines and the mappings of the server together, though there are enough
    /// of both: what they have in common is chance.
    pub(super) is_chance: bool,
}

/// A place at which the difference is known.
#[derive(Clone, Copy, Debug)]
struct ClockPoint {
    /// The slice's offsets.
    from: u64,
    to: u64,
    time: i64,
    center: i64,
    within: i64,
    excess: u32,
}

struct LogSlice {
    from: u64,
    to: u64,
    lines: Vec<SliceLine>,
    samples: ServerSamples,
    first: i64,
    last: i64,
}

impl LogSlice {
    const fn middle(&self) -> i64 {
        self.first.midpoint(self.last)
    }

    /// Whether a clock that goes wrong gains enough in the slice to matter.
    const fn is_long(&self) -> bool {
        (self.last - self.first) / 1_000_000 * PACES[0] > SAME
    }

    /// Returns the samples as a clock would have dated them that does not gain `pace` millionths.
    fn at_steady_pace(&self, pace: i64) -> ServerSamples {
        let mut samples = ServerSamples::default();
        for line in &self.lines {
            let gained = (line.time - self.middle()) / 1_000_000 * pace;
            let time = Timestamp::from_micros(line.time - gained);
            samples.add_keys(line.keys, (time, line.resolution));
        }
        samples
    }
}

struct SliceLine {
    byte: u64,
    time: i64,
    resolution: Resolution,
    keys: RequestKeys,
}

impl<'a, 'b> LogFollower<'a, 'b> {
    /// `known` holds centers that are likely, the likeliest last.
    pub(super) fn new(
        text: &'a SeekableText,
        mappings: &'a mut MappingTexts<'b>,
        (server, index): (&ServerInputs, usize),
        known: &[i64],
    ) -> Self {
        Self {
            text,
            mappings,
            server: ServerIndex(u32::try_from(index).unwrap_or(u32::MAX)),
            parser: Parser::new(&server.spec),
            times: AccessTimes::new(server.zone),
            known: known.iter().copied().collect(),
            usual: None,
            searches: SEARCHES,
            zone_searches: 2,
            seen: 0,
            searched: 0,
            familiar: 0,
            senders: HashMap::new(),
            lines: 0,
            contradicted: 0,
            is_coarse: false,
        }
    }

    /// Returns the places at which the center is known, and between them whether it drifted or was set.
    pub(super) fn follow(mut self, most: u64) -> FollowedLog {
        let len = self.text.len();
        let slice = (len / SLICES.0).clamp(SLICE.0, SLICE.1);
        let slices = if len <= SMALL { SLICES.0 } else { SLICES.1 };
        let slice = self.telling_size(slice);
        let count = (len / slice).min(slices).min(most).max(1);
        let mut points: Vec<ClockPoint> = Vec::new();
        for index in 0..count {
            let from = len.saturating_sub(slice) * index / (count - 1).max(1);
            let slice = self.slice(from, slice);
            if let Some(point) = self.locate(&slice, &points) {
                points.push(point);
            }
        }
        self.drop_outliers(&mut points);
        let Some(first) = points.first() else { return self.found(Vec::new()) };
        let mut knots = vec![knot(first, KnotKind::Drift)];
        for pair in points.windows(2) {
            self.connect(&pair[0], &pair[1], slice, &mut knots);
        }
        smooth(&mut knots);
        self.found(knots)
    }

    fn found(&self, knots: Vec<ClockKnot>) -> FollowedLog {
        // Where many lines came past the balancer, many find no mapping.
        let senders = self.senders.values();
        let is_balancers = senders.clone().max().unwrap_or(&0) * 10 >= senders.sum::<usize>() * 8;
        let is_chance = knots.is_empty()
            && is_balancers
            && self.familiar * 2 > self.searched
            && self.lines >= ENOUGH
            && self.seen >= ENOUGH as u64
            && self.contradicted * 2 > self.lines;
        FollowedLog { knots, is_coarse: self.is_coarse, is_chance }
    }

    fn slice(&mut self, from: u64, len: u64) -> LogSlice {
        let part = self.text.part(from, usize::try_from(len).unwrap_or(usize::MAX));
        let (mut lines, mut samples) = (Vec::new(), ServerSamples::default());
        for (byte, text) in part.lines() {
            let Ok(parsed) = self.parser.parse(text) else { continue };
            let Some(stamp) = self.times.of_single(&parsed) else { continue };
            if !(-LATEST..LATEST).contains(&stamp.0.as_micros()) {
                continue;
            }
            let line = LoggedLine::new(text, &parsed, SAMPLED, self.server, stamp);
            if let Some(sender) = line.sender {
                *self.senders.entry(sender).or_default() += 1;
            }
            let keys = line_keys(&line, self.mappings.by_target);
            samples.add_keys(keys, stamp);
            let (time, resolution) = (stamp.0.as_micros(), stamp.1);
            lines.push(SliceLine { byte, time, resolution, keys });
        }
        let times = || lines.iter().map(|line| line.time);
        let (first, last) = (times().min().unwrap_or(0), times().max().unwrap_or(0));
        LogSlice { from: part.from, to: part.to(), lines, samples, first, last }
    }

    /// Finds the center in a slice, given those in slices before it.
    fn locate(&mut self, slice: &LogSlice, before: &[ClockPoint]) -> Option<ClockPoint> {
        if slice.lines.len() < FEWEST {
            return None;
        }
        self.lines += slice.lines.len();
        let seen = self.seen;
        let mut tried: Vec<i64> = Vec::new();
        let mut is_contradicted = false;
        if slice.is_long() && before.len() < 2 {
            // The pace is not known, and matters within the slice.
            if let Some((found, center)) = self.check_paces(slice, before.last()) {
                return Some(self.point(slice, &found, center));
            }
        }
        let (expected, pace) = expected(before, slice.middle());
        let likely = expected.into_iter().chain(self.known.iter().rev().copied());
        for center in likely.collect::<Vec<_>>() {
            if tried.len() < 5 && tried.iter().all(|it| (it - center).abs() > SAME) {
                tried.push(center);
                let found = self.check(slice, center, pace);
                if self.is_right(&found) {
                    return Some(self.point(slice, &found, center));
                }
                is_contradicted |= self.is_contradicted(&found);
                if tried.len() == 1 && !is_contradicted {
                    return None;
                }
            }
        }
        if !is_contradicted {
            return None;
        }
        // Where no mapping is, no difference is contradicted, and still it may be another one.
        if self.seen - seen >= slice.lines.len() as u64 / 4 {
            self.contradicted += slice.lines.len();
        }
        if self.searches == 0 {
            return None;
        }
        self.searches -= 1;
        let around = tried.first().copied().unwrap_or(0);
        let found = self.search(slice, around, pace)?;
        self.is_right(&found).then(|| self.point(slice, &found, found.center))
    }

    /// Checks a slice with clocks that gain or lose, since the last place or else since the slice began.
    fn check_paces(
        &mut self,
        slice: &LogSlice,
        last: Option<&ClockPoint>,
    ) -> Option<(OffsetCheck, i64)> {
        let since = slice.middle() - last.map_or(slice.first, |last| last.time);
        let centers = match last {
            Some(last) => vec![last.center],
            None => self.known.iter().copied().collect(),
        };
        let mut best: Option<(OffsetCheck, i64)> = None;
        for center in centers {
            for pace in PACES {
                let center = center + since / 1_000_000 * pace;
                let found = self.check(slice, center, pace);
                let is_better = best.is_none_or(|(best, _)| best.matched < found.matched);
                if is_better && self.is_right(&found) {
                    best = Some((found, center));
                }
            }
        }
        best
    }

    fn is_right(&self, found: &OffsetCheck) -> bool {
        let is_usual = match self.usual {
            Some(usual) => found.excess() >= usual * ENOUGH_OF / 1_000,
            None => found.share() >= LEAST,
        };
        is_usual && found.is_clear()
    }

    /// Whether so few lines find a mapping that the difference is another one.
    fn is_contradicted(&self, found: &OffsetCheck) -> bool {
        let Some(usual) = self.usual else { return found.share() < LEAST };
        // Few lines say nothing where most find a mapping by chance.
        let is_telling = u64::from(usual).pow(2) * u64::from(found.lines) >= TELLING;
        is_telling && found.excess() < usual * ENOUGH_OF / 1_000
    }

    /// Returns the size of slices, of at least `least` bytes, that say something at the log's beginning.
    fn telling_size(&mut self, least: u64) -> u64 {
        let most = if self.text.len() <= SMALL { 16 } else { 4 };
        let known: Vec<i64> = self.known.iter().rev().copied().collect();
        for size in [least, least * 4, least * 16] {
            if size > least * most || size * 2 > self.text.len() {
                break;
            }
            let slice = self.slice(0, size);
            if slice.is_long() || known.iter().any(|at| self.is_right_at(&slice, *at)) {
                return size;
            }
        }
        least
    }

    fn is_right_at(&mut self, slice: &LogSlice, center: i64) -> bool {
        let found = self.check(slice, center, 0);
        self.is_right(&found)
    }

    fn point(&mut self, slice: &LogSlice, found: &OffsetCheck, expected: i64) -> ClockPoint {
        let excess = found.excess();
        self.usual = Some(self.usual.map_or(excess, |usual| (usual * 7 + excess) / 8));
        let center = found.center_near(expected);
        self.known.retain(|it| (it - center).abs() > SAME);
        self.known.push_back(center);
        if self.known.len() > 8 {
            self.known.pop_front();
        }
        ClockPoint {
            from: slice.from,
            to: slice.to,
            time: slice.middle(),
            center,
            within: found.within,
            excess,
        }
    }

    /// Compares a slice with the mappings around it, under one center and then the one found.
    ///
    /// A clock that gains `pace` millionths is that much further at the slice's end.
    fn check(&mut self, slice: &LogSlice, center: i64, pace: i64) -> OffsetCheck {
        let gained = (slice.last - slice.first) / 1_000_000 * pace.abs();
        let span =
            (slice.first - center - AROUND.0 - gained, slice.last - center + AROUND.1 + gained);
        let mappings = self.mappings_of(slice, span, NEAR);
        let steady = (gained > SECOND / 10).then(|| slice.at_steady_pace(pace));
        let samples = steady.as_ref().unwrap_or(&slice.samples);
        let found = samples.check(&mappings, center);
        if found.matched == 0 || (found.center - center).abs() < SECOND / 20 {
            return found;
        }
        let again = samples.check(&mappings, found.center);
        if again.matched >= found.matched { again } else { found }
    }

    /// Searches for the center in a growing part of the mapping log.
    fn search(&mut self, slice: &LogSlice, around: i64, pace: i64) -> Option<OffsetCheck> {
        self.searched += slice.lines.len();
        for (reach, most) in REACHES {
            let span = (slice.first - around - reach, slice.last - around + reach);
            let mappings = self.mappings_of(slice, span, most);
            if let Some(found) = self.found_in(slice, &mappings, pace) {
                return Some(found);
            }
            if self.zone_searches == 0 && reach == REACHES[1].0 {
                self.note_requests(slice, &mappings);
            }
        }
        self.search_zones(slice, around, pace)
    }

    fn note_requests(&mut self, slice: &LogSlice, mappings: &MappingSamples) {
        self.familiar += slice.lines.iter().filter(|line| mappings.knows(&line.keys)).count();
    }

    fn found_in(
        &mut self,
        slice: &LogSlice,
        mappings: &MappingSamples,
        pace: i64,
    ) -> Option<OffsetCheck> {
        let offset = slice.samples.compare(mappings);
        if offset.votes > 0 {
            // Of whole seconds the request's time is part of the center, but not of the offset.
            let beside: &[i64] =
                if self.is_coarse { &[0, SECOND, 2 * SECOND, 3 * SECOND] } else { &[0] };
            let checks = beside.iter().map(|beside| self.check(slice, offset.ahead + beside, pace));
            return checks.max_by_key(|it| it.matched.saturating_sub(it.by_chance));
        }
        None
    }

    /// Searches for a zone that is not the one expected: at quarters of an hour.
    fn search_zones(&mut self, slice: &LogSlice, around: i64, pace: i64) -> Option<OffsetCheck> {
        if self.zone_searches == 0 {
            return None;
        }
        self.zone_searches -= 1;
        let mut mappings = slice.samples.mappings(1);
        let mut until = i64::MIN;
        for quarter in (-ZONES..=ZONES).rev() {
            let around = around + quarter * QUARTER;
            let from = (slice.first - around - BESIDE).max(until);
            until = slice.last - around + BESIDE;
            self.add_mappings(slice, (from, until), NEAR, &mut mappings);
        }
        mappings.finish();
        self.note_requests(slice, &mappings);
        self.found_in(slice, &mappings, pace)
    }

    fn mappings_of(
        &mut self,
        slice: &LogSlice,
        (from, until): (i64, i64),
        most: usize,
    ) -> MappingSamples {
        let mut mappings = slice.samples.mappings(1);
        self.add_mappings(slice, (from, until), most, &mut mappings);
        mappings.finish();
        self.is_coarse |= mappings.is_coarse();
        mappings
    }

    fn add_mappings(
        &mut self,
        slice: &LogSlice,
        (from, until): (i64, i64),
        most: usize,
        mappings: &mut MappingSamples,
    ) {
        let span = (Timestamp::from_micros(from), Timestamp::from_micros(until));
        let server = self.server;
        let mut seen = 0;
        self.mappings.show(span, most, |record| {
            if record.server == server {
                seen += u64::from(record.request.is_some());
                mappings.add(record, &slice.samples);
            }
        });
        self.seen += seen;
    }

    /// Drops a single point that both neighbours contradict, if a smaller share of its lines than usual finds a mapping.
    fn drop_outliers(&self, points: &mut Vec<ClockPoint>) {
        let usual = self.usual.unwrap_or(0);
        let mut index = 1;
        while index + 1 < points.len() {
            let (before, it, next) = (points[index - 1], points[index], points[index + 1]);
            let is_odd = !is_near(&it, between(&before, &next, it.time), &before)
                && !is_near(&it, before.center, &before)
                && !is_near(&it, next.center, &next);
            if is_odd && it.excess < usual * 8 / 10 {
                points.remove(index);
            } else {
                index += 1;
            }
        }
    }

    /// Adds the knots behind `before` up to `next`.
    fn connect(
        &mut self,
        before: &ClockPoint,
        next: &ClockPoint,
        slice: u64,
        knots: &mut Vec<ClockKnot>,
    ) {
        if is_near(next, before.center, before) {
            knots.push(knot(next, KnotKind::Drift));
            return;
        }
        let gap = next.from.saturating_sub(before.to);
        if gap >= slice {
            let middle = self.slice(before.to + (gap - slice) / 2, slice);
            if let Some(middle) = self.locate_between(&middle, before, next) {
                let straight = between(before, next, middle.time);
                let is_slow = pace(before, next).abs() <= WORST_PACE;
                if is_slow && is_near(&middle, straight, before) {
                    knots.push(knot(&middle, KnotKind::Drift));
                    knots.push(knot(next, KnotKind::Drift));
                } else {
                    self.connect(before, &middle, slice, knots);
                    self.connect(&middle, next, slice, knots);
                }
                return;
            }
        } else if pace(before, next).abs() <= WORST_PACE / 3 {
            // Neighbouring slices of a sparse log.
            knots.push(knot(next, KnotKind::Drift));
            return;
        }
        knots.push(self.step(before, next));
    }

    fn locate_between(
        &mut self,
        slice: &LogSlice,
        before: &ClockPoint,
        next: &ClockPoint,
    ) -> Option<ClockPoint> {
        if slice.lines.len() < FEWEST || slice.from < before.to || slice.to > next.from {
            return None;
        }
        let straight = between(before, next, slice.middle());
        let (steady, straight) = ((before.center, 0), (straight, pace(before, next)));
        for (center, pace) in [steady, (next.center, 0), straight] {
            let found = self.check(slice, center, pace);
            if self.is_right(&found) {
                return Some(self.point(slice, &found, center));
            }
        }
        None
    }

    /// Finds the line at which the clock was set between two places.
    fn step(&mut self, before: &ClockPoint, next: &ClockPoint) -> ClockKnot {
        let unknown = KnotKind::Step { from: before.from, to: next.to };
        let whole = ClockKnot { byte: before.to.midpoint(next.from), ..knot(next, unknown) };
        if next.to - before.from > STEP {
            return whole;
        }
        let part = self.slice(before.from, next.to - before.from);
        let (old, new) = (before.center, next.center);
        let first = part.first - old.max(new) - AROUND.0;
        let mappings = self.mappings_of(&part, (first, part.last - old.min(new) + AROUND.1), NEAR);
        let Some((way, sample)) = mappings.best_way(&part.samples) else { return whole };
        let keyed: Vec<_> =
            part.lines.iter().filter_map(|line| Some((line, line.keys[way]?))).collect();
        let lines: Vec<_> = keyed.iter().map(|(line, key)| (*key, line.time)).collect();
        let change = find_change(sample, &lines, (old, new));
        let Some((line, _)) = keyed.get(change.at) else { return whole };
        let at = part.lines.partition_point(|it| it.byte < line.byte);
        let place = |index: usize| {
            let byte = keyed.get(index).map_or(part.to, |(line, _)| line.byte);
            part.lines.partition_point(|it| it.byte < byte)
        };
        // Lines that were logged about then are not sure either.
        let is_then = |it: &SliceLine, at: i64| (it.time - at).abs() < UNSURE;
        let old_time = at.checked_sub(1).map_or(line.time, |last| part.lines[last].time);
        let first = part.lines[..at].iter().rposition(|it| !is_then(it, old_time));
        let last = part.lines[at..].iter().position(|it| !is_then(it, line.time));
        let from = first.map_or(0, |it| it + 1).min(place(change.last) + 1);
        let from = from.min(at.saturating_sub(UNSURE_LINES));
        let to = last.map_or(part.lines.len(), |it| at + it).max(place(change.first));
        let to = to.max(at + UNSURE_LINES);
        let byte_at = |index: usize| part.lines.get(index).map_or(part.to, |line| line.byte);
        let since = KnotKind::Step { from: byte_at(from), to: byte_at(to) };
        let time = Timestamp::from_micros(line.time);
        ClockKnot { byte: line.byte, time, ahead: new, since }
    }
}

/// Returns the center that the pace between the last places lets expect, and the pace in millionths.
fn expected(before: &[ClockPoint], time: i64) -> (Option<i64>, i64) {
    let Some(last) = before.last() else { return (None, 0) };
    let reach = before.len().saturating_sub(PACED + 1)..before.len() - 1;
    let steady = before[reach].iter().find(|one| pace(one, last).abs() <= WORST_PACE);
    match steady.map(|one| pace(one, last)) {
        Some(pace) => (Some(last.center + (time - last.time) / 1_000_000 * pace), pace),
        None => (Some(last.center), 0),
    }
}

/// Returns the pace from one place to another, in millionths; more than a clock can go wrong if it was set.
fn pace(one: &ClockPoint, other: &ClockPoint) -> i64 {
    let time = other.time - one.time;
    if time <= 0 {
        return WORST_PACE + 1;
    }
    let pace = i128::from(other.center - one.center) * 1_000_000 / i128::from(time);
    i64::try_from(pace).unwrap_or(WORST_PACE + 1)
}

/// Returns the center at a time if it lies on a straight line through two others.
fn between(one: &ClockPoint, other: &ClockPoint, time: i64) -> i64 {
    let whole = i128::from(other.time - one.time);
    if whole <= 0 {
        return one.center;
    }
    let part = i128::from(time - one.time) * i128::from(other.center - one.center) / whole;
    one.center + i64::try_from(part).unwrap_or(0)
}

fn is_near(point: &ClockPoint, center: i64, other: &ClockPoint) -> bool {
    (point.center - center).abs()
        <= SAME + point.within.min(SECOND / 4) + other.within.min(SECOND / 4)
}

fn knot(point: &ClockPoint, since: KnotKind) -> ClockKnot {
    let time = Timestamp::from_micros(point.time);
    ClockKnot { byte: point.from.midpoint(point.to), time, ahead: point.center, since }
}

/// Moves knots inside a piece half way to the straight line between their neighbours: each has an error of its own.
fn smooth(knots: &mut [ClockKnot]) {
    let old = knots.to_vec();
    for (knot, near) in knots[1.min(old.len())..].iter_mut().zip(old.windows(3)) {
        if near[1..].iter().all(|it| it.since == KnotKind::Drift) {
            let time = near[2].time.micros_since(near[0].time);
            if time > 0 {
                let part = i128::from(near[1].time.micros_since(near[0].time));
                let gained = i128::from(near[2].ahead - near[0].ahead) * part / i128::from(time);
                let straight = near[0].ahead + i64::try_from(gained).unwrap_or(0);
                knot.ahead = knot.ahead.midpoint(straight);
            }
        }
    }
}
