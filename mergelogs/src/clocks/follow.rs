//! Follows the clock of one log along the log, from slices of its text.
//!
//! Slices lie at equal distances. In each it is tried whether the difference of clocks is what it was in the slice
//! before, or what the pace of a clock that goes wrong lets expect; if not, it is searched for anew. Between slices
//! with different results the middle is looked at, until the clock's way between them is a straight line or a step,
//! and for a step the line is found at which it lies.

use std::collections::VecDeque;

use pen_records::attribution::ServerIndex;
use pen_records::clocks::{ClockKnot, KnotKind, OffsetCheck, find_change};
use pen_records::time::Timestamp;

use super::SECOND;
use super::beside::ServerMappings;
use super::point::{
    ClockPoint, LONG_PACE, SAME, WORST_PACE, between, drop_disordered, drop_outliers, expected,
    is_step, settle,
};
use super::scan::MappingTexts;
use super::slices::{LogSlice, SliceLine, SlicedLog};
use super::texts::SeekableText;
use crate::config::ServerInputs;

/// Slices are no nearer to each other than this, in microseconds.
const APART: i64 = 4 * SECOND;
/// As many are not too many.
const LEAST: u64 = 6;
/// Least and most bytes of a slice.
const SLICE: (u64, u64) = (4 << 10, 16 << 10);
/// How much longer a slice is in which no difference was found, to search once more.
const WIDER: u64 = 4;
/// Slices of a log up to `SMALL` bytes, and of a longer one.
const SLICES: (u64, u64) = (64, 16);
const SMALL: u64 = 1 << 20;
/// Lines that are enough to say that no difference of clocks puts them and the mappings together.
const ENOUGH: usize = 60;
/// Fewer lines say nothing.
const FEWEST: usize = 8;
/// Searches in one log that may find nothing.
const SEARCHES: u32 = 6;
/// Paces that are tried where none is known and slices are long, in millionths, the least first.
const PACES: [i64; 13] = [0, 10, -10, 20, -20, 40, -40, 60, -60, 80, -80, LONG_PACE, -LONG_PACE];
/// By how much a greater pace is better than a smaller one, in thousandths of a nat.
const PACED: u32 = 2_000;
/// Bytes of lines looked through for a step.
const STEP: u64 = 512 << 10;
/// No line so near to a step is sure, in microseconds.
const UNSURE: i64 = 2 * SECOND;
/// Lines nearer to a step than this are not sure either, whatever their time.
const UNSURE_LINES: usize = 3;

/// A log that is followed.
pub(super) struct LogFollower<'a, 'b> {
    pub(super) log: SlicedLog<'a>,
    pub(super) mappings: ServerMappings<'a, 'b>,
    /// Centers known from this log or others of the same machine, the last one last.
    pub(super) known: VecDeque<i64>,
    /// What lines usually gain each under the right center.
    usual: Option<u32>,
    searches: u32,
    /// Lines in slices, and in those that contradict all differences known.
    lines: usize,
    contradicted: usize,
    /// Whether the log's beginning agrees with no difference of clocks, though there are lines enough to tell.
    pub(super) is_lost: bool,
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

impl<'a, 'b> LogFollower<'a, 'b> {
    /// `known` holds centers that are likely, the likeliest last.
    pub(super) fn new(
        text: &'a SeekableText,
        mappings: &'a mut MappingTexts<'b>,
        (server, index): (&ServerInputs, usize),
        known: &[i64],
    ) -> Self {
        let index = ServerIndex(u32::try_from(index).unwrap_or(u32::MAX));
        Self {
            log: SlicedLog::new(text, server, mappings.by_target),
            mappings: ServerMappings::new(mappings, index),
            known: known.iter().copied().collect(),
            usual: None,
            searches: SEARCHES,
            lines: 0,
            contradicted: 0,
            is_lost: false,
        }
    }

    /// Returns the places at which the center is known, and between them whether it drifted or was set.
    pub(super) fn follow(mut self, most: u64) -> FollowedLog {
        let len = self.log.len();
        let slice = (len / SLICES.0).clamp(SLICE.0, SLICE.1);
        let slices = if len <= SMALL { SLICES.0 } else { SLICES.1 };
        let slice = self.telling_size(slice);
        let count = (len / slice).min(slices).min(most).min(self.most_by_time(slice)).max(1);
        let mut points: Vec<ClockPoint> = Vec::new();
        for index in 0..count {
            let from = len.saturating_sub(slice) * index / (count - 1).max(1);
            let slice = self.log.slice(from, slice);
            if let Some(point) = self.locate(&slice, &points) {
                points.push(point);
            }
        }
        drop_disordered(&mut points);
        drop_outliers(&mut points, self.usual.unwrap_or(0));
        let knots = self.knots(&points, slice);
        let is_chance = knots.is_empty()
            // Where many lines came past the balancer, many find no mapping.
            && self.log.is_of_one_sender()
            && (self.is_lost
                || self.mappings.know_requests()
                    && self.lines >= ENOUGH
                    && self.contradicted * 2 > self.lines);
        FollowedLog { knots, is_coarse: self.mappings.is_coarse, is_chance }
    }

    /// Returns how many slices the log's time allows for: the mappings beside neighbours are mostly the same.
    fn most_by_time(&mut self, slice: u64) -> u64 {
        let len = self.log.len();
        let [first, last] = [0, len.saturating_sub(slice)].map(|from| self.log.slice(from, slice));
        // A clock that was set says nothing of the time.
        u64::try_from((last.last - first.first) / APART).map_or(u64::MAX, |most| most + LEAST)
    }

    /// Returns the size of slices, of at least `least` bytes, that say something at the log's beginning.
    fn telling_size(&mut self, least: u64) -> u64 {
        let most = if self.log.len() <= SMALL { 16 } else { 4 };
        let known: Vec<i64> = self.known.iter().rev().copied().collect();
        for size in [least, least * 4, least * 16] {
            if size > least * most || size * 2 > self.log.len() {
                break;
            }
            let slice = self.log.slice(0, size);
            let mut is_plain = |at: &i64| self.mappings.check(&slice, *at, 0).is_plain();
            if slice.is_long() || known.iter().any(&mut is_plain) {
                return size;
            }
        }
        least
    }

    /// Finds the center in a slice, given those in slices before it.
    fn locate(&mut self, slice: &LogSlice, before: &[ClockPoint]) -> Option<ClockPoint> {
        if slice.lines.len() < FEWEST {
            return None;
        }
        self.lines += slice.lines.len();
        let seen = self.mappings.seen;
        if slice.is_long() && before.len() < 2 {
            // The pace is not known, and matters within the slice.
            if let Some((found, center)) = self.check_paces(slice, before.last()) {
                return Some(self.point(slice, &found, center));
            }
        }
        let mut tried: Vec<i64> = Vec::new();
        let mut is_contradicted = false;
        let (expected, pace) = expected(before, slice.middle());
        let likely = expected.into_iter().chain(self.known.iter().rev().copied());
        for center in likely.collect::<Vec<_>>() {
            if tried.len() < 5 && tried.iter().all(|it| (it - center).abs() > SAME) {
                tried.push(center);
                let found = self.mappings.check(slice, center, pace);
                if found.is_right(self.usual) {
                    return Some(self.point(slice, &found, center));
                }
                is_contradicted |= found.is_contradicted(self.usual);
                if tried.len() == 1 && !is_contradicted {
                    return None;
                }
            }
        }
        if !is_contradicted {
            return None;
        }
        // Where no mapping is, no difference is contradicted, and still it may be another one.
        if self.mappings.seen - seen >= slice.lines.len() as u64 / 4 {
            self.contradicted += slice.lines.len();
        }
        let found = self.search(slice, tried.first().copied().unwrap_or(0), pace)?;
        Some(self.point(slice, &found, found.center))
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
                let found = self.mappings.check(slice, center, pace);
                let is_better =
                    best.as_ref().is_none_or(|(best, _)| best.gain + PACED < found.gain);
                if is_better && found.is_right(self.usual) {
                    best = Some((found, center));
                }
            }
        }
        best
    }

    /// Searches for another difference.
    fn search(&mut self, slice: &LogSlice, around: i64, pace: i64) -> Option<OffsetCheck> {
        self.searches = self.searches.checked_sub(1)?;
        let found = self.mappings.search(slice, around, pace).or_else(|| {
            // Of busy sites more lines say more.
            let wide = self.log.slice(slice.from, (slice.to - slice.from) * WIDER);
            self.mappings.search(&wide, around, pace)
        });
        let found = found.filter(|found| found.is_right(self.usual));
        // Searches that find nothing are the expensive ones, and say that further ones will not.
        self.searches += u32::from(found.is_some());
        found
    }

    fn point(&mut self, slice: &LogSlice, found: &OffsetCheck, expected: i64) -> ClockPoint {
        let each = found.each();
        self.usual = Some(self.usual.map_or(each, |usual| (usual * 7 + each) / 8));
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
            found: found.center,
            within: found.within,
            curve: found.curve.clone(),
            each,
        }
    }

    /// Returns the clock's way through all points.
    fn knots(&mut self, points: &[ClockPoint], slice: u64) -> Vec<ClockKnot> {
        let Some(first) = points.first() else { return Vec::new() };
        let mut pieces = vec![vec![first.clone()]];
        for pair in points.windows(2) {
            self.connect(&pair[0], &pair[1], slice, &mut pieces);
        }
        let mut pieces: Vec<_> = pieces.into_iter().flat_map(parted_by_steps).collect();
        pieces.iter_mut().for_each(|piece| settle(piece));
        let mut knots: Vec<ClockKnot> = Vec::new();
        let mut last: Option<&ClockPoint> = None;
        for piece in &pieces {
            let mut points = piece.iter();
            if let Some(before) = last
                && let Some(next) = points.next()
            {
                knots.push(self.step(before, next));
            }
            knots.extend(points.map(|point| knot(point, KnotKind::Drift)));
            last = piece.last();
        }
        knots
    }

    /// Adds the points behind `before` up to `next`, each to the last piece, or to a new one if the clock was set.
    fn connect(
        &mut self,
        before: &ClockPoint,
        next: &ClockPoint,
        slice: u64,
        pieces: &mut Vec<Vec<ClockPoint>>,
    ) {
        let go_on = |pieces: &mut Vec<Vec<ClockPoint>>, points: &[ClockPoint]| {
            pieces
                .iter_mut()
                .next_back()
                .into_iter()
                .for_each(|last| last.extend_from_slice(points));
        };
        if next.is_near(before.center, before) {
            return go_on(pieces, std::slice::from_ref(next));
        }
        let gap = next.from.saturating_sub(before.to);
        if gap >= slice {
            let middle = self.log.slice(before.to + (gap - slice) / 2, slice);
            if let Some(middle) = self.locate_between(&middle, before, next) {
                let is_slow = before.pace_to(next).abs() <= WORST_PACE;
                if is_slow && middle.is_near(between(before, next, middle.time), before) {
                    return go_on(pieces, &[middle, next.clone()]);
                }
                self.connect(before, &middle, slice, pieces);
                return self.connect(&middle, next, slice, pieces);
            }
        } else if before.pace_to(next).abs() <= WORST_PACE / 3 {
            // Neighbouring slices of a sparse log.
            return go_on(pieces, std::slice::from_ref(next));
        }
        pieces.push(vec![next.clone()]);
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
        let (steady, straight) = ((before.center, 0), (straight, before.pace_to(next)));
        for (center, pace) in [steady, (next.center, 0), straight] {
            let found = self.mappings.check(slice, center, pace);
            if found.is_right(self.usual) {
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
        let part = self.log.slice(before.from, next.to - before.from);
        let (old, new) = (before.center, next.center);
        let times = (part.first - old.max(new), part.last - old.min(new));
        let mappings = self.mappings.around(&part, times);
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
        let from = first.map_or(0, |it| it + 1).min(place(change.from));
        let from = from.min(at.saturating_sub(UNSURE_LINES));
        let to = last.map_or(part.lines.len(), |it| at + it).max(place(change.to));
        let to = to.max(at + UNSURE_LINES);
        let byte_at = |index: usize| part.lines.get(index).map_or(part.to, |line| line.byte);
        let since = KnotKind::Step { from: byte_at(from), to: byte_at(to) };
        let time = Timestamp::from_micros(line.time);
        ClockKnot { byte: line.byte, time, ahead: new, since }
    }
}

/// Parts a piece where a clock was set, though slices are so far apart that it may have drifted.
fn parted_by_steps(piece: Vec<ClockPoint>) -> Vec<Vec<ClockPoint>> {
    let ends = (0..piece.len()).filter(|&index| is_step(&piece, index)).map(|index| index + 1);
    let ends: Vec<_> = ends.chain([piece.len()]).collect();
    let mut points = piece.into_iter();
    let mut start = 0;
    let part = |end: usize| {
        let part = points.by_ref().take(end - start).collect();
        start = end;
        part
    };
    ends.into_iter().map(part).collect()
}

fn knot(point: &ClockPoint, since: KnotKind) -> ClockKnot {
    let time = Timestamp::from_micros(point.time);
    ClockKnot { byte: point.from.midpoint(point.to), time, ahead: point.center, since }
}
