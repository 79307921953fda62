//! How many requests of both sides would find each other if a difference was the clocks', and what exactly they
//! agree on.

use super::SECOND;
use super::series::Series;
use crate::time::Resolution;

/// Between the end of a response at the balancer and its line the server's log may be early or late by that.
const SLACK: i64 = 20_000;
/// How far off a peak may be before it is refined.
const STEP: i64 = SECOND / 8;
/// Where lines have fine stamps, those that agree lie within this.
const CLUSTER: i64 = 50_000;
/// Pairs that nothing else can be mistaken for, of which so many are enough.
const ENOUGH: usize = 6;

/// Which differences of stamps a difference of clocks explains.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Window {
    /// From the end of a response to a stamp that may be cut to its second.
    Ends,
    /// From one stamp of a whole second to another, with a request's time between.
    Requests,
}

impl Window {
    pub(super) fn of(mappings: Resolution) -> Self {
        if mappings == Resolution::Second { Self::Requests } else { Self::Ends }
    }

    /// Stamps of both sides are whole seconds.
    pub(super) fn is_coarse(self) -> bool {
        self == Self::Requests
    }

    /// The least and the greatest.
    fn around(self, at: i64) -> (i64, i64) {
        match self {
            Self::Ends => (at - SECOND - SLACK, at + SLACK),
            Self::Requests => (at, at + 2 * SECOND),
        }
    }

    /// Differences of clocks so far apart have nothing in common.
    pub(super) fn width(self) -> i64 {
        let (first, last) = self.around(0);
        last - first + if self.is_coarse() { SECOND } else { 0 }
    }

    /// How far off a clock may be that is said to be right.
    pub(super) fn right(self) -> i64 {
        if self.is_coarse() { 0 } else { SECOND / 2 }
    }

    /// Differences of clocks to be tried near one in whole seconds.
    pub(super) fn near(self, at: i64) -> impl Iterator<Item = i64> {
        let (step, most) = match self {
            Self::Ends => (STEP, 12),
            Self::Requests => (SECOND, 2),
        };
        (-most..=most).map(move |n| at + n * step)
    }
}

/// How many requests find each other, one to one.
pub(super) fn matched(series: &[Series], window: Window, at: i64) -> u32 {
    let span = window.around(at);
    let count: usize = series.iter().map(|it| each_pair(it, span, |_| {})).sum();
    u32::try_from(count).unwrap_or(u32::MAX)
}

/// How far apart those are.
pub(super) fn apart(series: &[Series], window: Window, at: i64) -> Vec<i64> {
    let (span, mut found) = (window.around(at), Vec::new());
    series.iter().for_each(|it| {
        each_pair(it, span, |difference| found.push(difference));
    });
    found
}

/// Each line in its order takes the earliest mapping that is left and not too early: as all windows are as long, none
/// could do better.
fn each_pair(series: &Series, (low, high): (i64, i64), mut show: impl FnMut(i64)) -> usize {
    let Series { mappings, lines } = series;
    let Some(first) = lines.first() else { return 0 };
    let mut next = mappings.partition_point(|&mapping| mapping < first - high);
    let mut count = 0;
    for line in lines {
        while mappings.get(next).is_some_and(|mapping| *mapping < line - high) {
            next += 1;
        }
        match mappings.get(next) {
            None => break,
            Some(mapping) if *mapping <= line - low => {
                show(line - mapping);
                (count, next) = (count + 1, next + 1);
            }
            Some(_) => {}
        }
    }
    count
}

/// Where the bulk begins, of stamps in whole seconds: a few strays just before it are chance, a good part of it is the
/// clock's fraction.
pub(super) fn first_of_bulk(apart: &[i64], at: i64) -> i64 {
    let is_part = |from: &i64| {
        let here = apart.iter().filter(|&&difference| difference == *from).count();
        here * 8 >= apart.len()
    };
    (0..=2).map(|seconds| at + seconds * SECOND).find(is_part).unwrap_or(at)
}

/// The difference that most pairs agree on near `at`, and by how much it may be wrong.
pub(super) fn refine(series: &[Series], at: i64, lines: Resolution) -> (i64, i64) {
    let (mut at, mut within) = (at, SECOND / 2);
    for margin in [2 * STEP, STEP] {
        let span = (at - SECOND - margin, at + margin);
        let mut found = Vec::new();
        series.iter().for_each(|it| alone(it, span, &mut found));
        if found.len() < ENOUGH {
            found.clear();
            series.iter().for_each(|it| {
                each_pair(it, span, |difference| found.push(difference));
            });
        }
        found.sort_unstable();
        (at, within) = match lines {
            Resolution::Second => agreed(&found, at),
            Resolution::Millisecond | Resolution::Microsecond => densest(&found, at),
        };
    }
    (at, within)
}

/// The differences of pairs that nothing else in reach can be mistaken for.
fn alone(series: &Series, (low, high): (i64, i64), found: &mut Vec<i64>) {
    let Series { mappings, lines } = series;
    for (index, line) in lines.iter().enumerate() {
        let from = mappings.partition_point(|&mapping| mapping < line - high);
        let Some(&mapping) = mappings.get(from).filter(|mapping| **mapping <= line - low) else {
            continue;
        };
        let has_another = mappings.get(from + 1).is_some_and(|&other| other <= line - low);
        let is_reached = |other: &i64| (low..=high).contains(&(other - mapping));
        let before = index.checked_sub(1).and_then(|index| lines.get(index));
        if !has_another
            && !before.is_some_and(is_reached)
            && !lines.get(index + 1).is_some_and(is_reached)
        {
            found.push(line - mapping);
        }
    }
}

/// Of whole seconds: the clocks' difference is at least what any line says, and less than a second more; so
/// it lies where the most lines are right. `found` is sorted.
fn agreed(found: &[i64], at: i64) -> (i64, i64) {
    let (mut most, mut first, mut last) = (0, at, at);
    let mut end = 0;
    for (index, lowest) in found.iter().enumerate() {
        while found.get(end).is_some_and(|highest| highest - lowest < SECOND) {
            end += 1;
        }
        let (count, from, to) = (end - index, found[end - 1], lowest + SECOND);
        if count > most {
            (most, first, last) = (count, from, to);
        } else if count == most {
            last = to;
        }
    }
    (first.midpoint(last), (last - first) / 2)
}

/// Of fine stamps: in the middle of the most that lie close together. `found` is sorted.
fn densest(found: &[i64], at: i64) -> (i64, i64) {
    let (mut best, mut end) = ((0, 0), 0);
    for (index, lowest) in found.iter().enumerate() {
        while found.get(end).is_some_and(|highest| highest - lowest <= CLUSTER) {
            end += 1;
        }
        if end - index > best.1 - best.0 {
            best = (index, end);
        }
    }
    let cluster = &found[best.0..best.1];
    let (Some(first), Some(last)) = (cluster.first(), cluster.last()) else { return (at, SECOND) };
    (cluster[cluster.len() / 2], ((last - first) / 2).max(1))
}
