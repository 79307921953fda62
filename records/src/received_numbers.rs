//! The received numbers of a sender: each taken once, in whatever order, and the missing ones counted.
//!
//! A gap is remembered until filled, so a late datagram is told from a duplicate however many came in between. Numbers
//! far ahead of all others are refused: forged or damaged, and counted they would be losses.

use std::collections::BTreeMap;

use crate::snapshot::{DamagedSnapshot, SnapshotReader, SnapshotWriter};
use crate::time::Timestamp;

/// The most gaps remembered for each sender. Beyond, the oldest gap is abandoned.
const GAPS: usize = 1_024;

/// How far ahead of all others a number may be, and how much further for each second without any: a sender goes on
/// numbering while the collector is away.
const AHEAD: u64 = 1 << 20;

/// The numbers of one sender.
#[derive(Debug)]
pub(crate) struct ReceivedNumbers {
    /// The first number received, and the number after the last.
    base: u64,
    end: u64,
    /// The number after the last one sent, by the sender's own word.
    announced: u64,
    /// Gaps in the received numbers: start and end. Together they have so many numbers.
    gaps: BTreeMap<u64, u64>,
    in_gaps: u64,
    /// Count of abandoned numbers, and the end of the last abandoned gap.
    abandoned: u64,
    known_from: u64,
    /// What is missing below this number never comes, by the sender's own word.
    passed: u64,
    /// When the last number came.
    last: Timestamp,
}

/// The place of new numbers among the received ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NumberPlace {
    /// Behind all received numbers, after a gap of so many.
    Next(u64),
    /// In a gap: fewer are missing than before.
    Gap,
    /// Before all received numbers, with a gap of so many between.
    Before(u64),
    /// Received before, at least in part.
    Known,
    /// In an abandoned gap: perhaps received before.
    Forgotten,
    /// Implausibly far ahead: nothing has changed.
    TooFar,
}

impl ReceivedNumbers {
    /// A sender whose first number is `first`.
    pub(crate) const fn new(first: u64, now: Timestamp) -> Self {
        Self {
            base: first,
            end: first,
            announced: 0,
            gaps: BTreeMap::new(),
            in_gaps: 0,
            abandoned: 0,
            known_from: 0,
            passed: 0,
            last: now,
        }
    }

    /// Appends the numbers to a snapshot.
    pub(crate) fn write(&self, out: &mut SnapshotWriter<'_>) {
        for number in [self.base, self.end, self.announced, self.abandoned, self.known_from] {
            out.number(number);
        }
        out.time(self.last);
        out.count(self.gaps.len());
        for (&from, &until) in &self.gaps {
            out.number(from);
            out.number(until);
        }
    }

    /// Takes numbers off a snapshot.
    pub(crate) fn read(input: &mut SnapshotReader<'_>) -> Result<Self, DamagedSnapshot> {
        let [base, end, announced, abandoned, known_from] =
            [input.number()?, input.number()?, input.number()?, input.number()?, input.number()?];
        let last = input.time()?;
        let (mut gaps, mut in_gaps) = (BTreeMap::new(), 0_u64);
        for _ in 0..input.number()? {
            let (from, until) = (input.number()?, input.number()?);
            let is_behind = gaps.last_key_value().is_none_or(|(_, &before)| before <= from);
            if from >= until || until > end || gaps.len() > GAPS || !is_behind {
                return Err(DamagedSnapshot);
            }
            gaps.insert(from, until);
            in_gaps += until - from;
        }
        // The sender says it again with its next question.
        let passed = 0;
        Ok(Self { base, end, announced, gaps, in_gaps, abandoned, known_from, passed, last })
    }

    /// Whether so high a number is plausible `now`.
    pub(crate) fn is_plausible(&self, number: u64, now: Timestamp) -> bool {
        is_plausible(self.end, number, self.last, now)
    }

    /// Takes the numbers `first..end`, which came `now`.
    pub(crate) fn take(&mut self, first: u64, end: u64, now: Timestamp) -> NumberPlace {
        if first >= self.end {
            if !self.is_plausible(first, now) {
                return NumberPlace::TooFar;
            }
            let before = self.end;
            self.end = end;
            self.last = now;
            self.miss(before, first);
            return NumberPlace::Next(first - before);
        }
        if !is_plausible(end, self.base, self.last, now) {
            // What came first was forged: nobody is that far back.
            *self = Self::new(first, now);
            self.end = end;
            return NumberPlace::Next(0);
        }
        if end <= self.base && first >= self.known_from {
            let missing = self.base - end;
            self.miss(end, self.base);
            self.base = first;
            return NumberPlace::Before(missing);
        }
        let gap = self.gaps.range(..=first).next_back().map(|(&from, &until)| (from, until));
        let Some((from, until)) = gap.filter(|&(_, until)| end <= until && first < until) else {
            let is_known = first >= self.known_from;
            return if is_known { NumberPlace::Known } else { NumberPlace::Forgotten };
        };
        self.gaps.remove(&from);
        self.in_gaps -= until - from;
        self.miss(from, first);
        self.miss(end, until);
        NumberPlace::Gap
    }

    /// Notes the sender's word that all numbers below `end` were sent. Returns `false` if implausible.
    pub(crate) fn announce(&mut self, end: u64, now: Timestamp) -> bool {
        let is_plausible = self.is_plausible(end, now);
        if is_plausible {
            self.announced = self.announced.max(end);
        }
        is_plausible
    }

    /// Notes the sender's word that it will not send numbers below `number` again. They stay missing, and a late one is
    /// taken.
    pub(crate) fn pass(&mut self, number: u64) {
        self.passed = self.passed.max(number.min(self.announced));
    }

    /// The first number received, and the first one after that is missing and may still come.
    pub(crate) fn first_run(&self) -> (u64, u64) {
        (self.base, self.awaited().next().map_or(self.end, |(from, _)| from))
    }

    /// How many numbers are missing and may still come.
    pub(crate) fn repairable(&self) -> u64 {
        let behind = self.announced.saturating_sub(self.end.max(self.passed));
        self.awaited().map(|(from, until)| until - from).sum::<u64>().saturating_add(behind)
    }

    /// The gaps from the last passed number on.
    fn awaited(&self) -> impl Iterator<Item = (u64, u64)> {
        let gaps = self.gaps.iter().filter(|&(_, &until)| until > self.passed);
        gaps.map(|(&from, &until)| (from.max(self.passed), until))
    }

    /// How many numbers are missing.
    pub(crate) fn missing(&self) -> u64 {
        let behind = self.announced.saturating_sub(self.end);
        self.abandoned.saturating_add(behind).saturating_add(self.in_gaps)
    }

    /// Records a gap from `from` up to `until`.
    fn miss(&mut self, from: u64, until: u64) {
        if from >= until {
            return;
        }
        self.gaps.insert(from, until);
        self.in_gaps += until - from;
        if self.gaps.len() > GAPS
            && let Some((from, until)) = self.gaps.pop_first()
        {
            self.in_gaps -= until - from;
            self.abandoned = self.abandoned.saturating_add(until - from);
            self.known_from = until;
        }
    }
}

/// Whether a growing number, `before` at `last`, may be `number` by `now`.
pub(crate) fn is_plausible(before: u64, number: u64, last: Timestamp, now: Timestamp) -> bool {
    let seconds = u64::try_from(now.micros_since(last) / 1_000_000).unwrap_or(0);
    number.saturating_sub(before) <= AHEAD.saturating_mul(seconds.saturating_add(1))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NOW: Timestamp = Timestamp::from_micros(1_000_000_000);

    #[test]
    fn numbers_far_ahead_change_nothing_and_those_after_a_long_outage_are_taken() {
        let mut numbers = ReceivedNumbers::new(7, NOW);
        assert_eq!(numbers.take(7, 8, NOW), NumberPlace::Next(0));
        for far in [8 + AHEAD + 1, 1 << 40, u64::MAX] {
            assert_eq!(numbers.take(far, far.saturating_add(1), NOW), NumberPlace::TooFar, "{far}");
            assert!(!numbers.announce(far, NOW));
        }
        assert_eq!(numbers.missing(), 0);
        assert_eq!(numbers.take(8, 9, NOW), NumberPlace::Next(0), "the sender is not mute");
        // Ten minutes at 100,000 a second.
        let later = NOW.offset_by(600_000_000);
        assert_eq!(numbers.take(60_000_009, 60_000_010, later), NumberPlace::Next(60_000_000));
        assert_eq!(numbers.take(9, 10, later), NumberPlace::Gap);
        assert_eq!(numbers.missing(), 59_999_999);
    }

    #[test]
    fn a_forged_first_number_does_not_make_all_others_losses() {
        let mut numbers = ReceivedNumbers::new(u64::MAX - 1, NOW);
        assert_eq!(numbers.take(u64::MAX - 1, u64::MAX, NOW), NumberPlace::Next(0));
        assert_eq!(numbers.take(5, 6, NOW), NumberPlace::Next(0));
        assert_eq!(numbers.take(8, 9, NOW), NumberPlace::Next(2));
        assert_eq!(numbers.missing(), 2);
    }

    #[test]
    fn what_is_announced_is_missing_until_it_comes_however_late() {
        let mut numbers = ReceivedNumbers::new(0, NOW);
        assert_eq!(numbers.take(0, 1, NOW), NumberPlace::Next(0));
        assert!(numbers.announce(500_000, NOW));
        assert_eq!(numbers.missing(), 499_999);
        for number in 1..500_000 {
            assert_eq!(numbers.take(number, number + 1, NOW), NumberPlace::Next(0));
        }
        assert_eq!(numbers.missing(), 0);
    }

    #[test]
    fn beyond_the_most_gaps_the_oldest_is_given_up_and_stays_missing() {
        let mut numbers = ReceivedNumbers::new(0, NOW);
        for number in 0..=1_500 {
            let _ = numbers.take(number * 2, number * 2 + 1, NOW);
        }
        assert_eq!(numbers.missing(), 1_500);
        assert_eq!(numbers.take(1, 2, NOW), NumberPlace::Forgotten);
        assert_eq!(numbers.take(2_999, 3_000, NOW), NumberPlace::Gap);
        assert_eq!(numbers.take(2_999, 3_000, NOW), NumberPlace::Known);
        assert_eq!(numbers.missing(), 1_499);
    }

    proptest! {
        #[test]
        fn each_number_is_taken_once_and_the_rest_is_missing(
            ranges in proptest::collection::vec((0..60_u64, 1..6_u64), 1..80),
        ) {
            let mut numbers = ReceivedNumbers::new(ranges[0].0, NOW);
            let mut seen = std::collections::BTreeSet::new();
            for (first, count) in ranges {
                let range = first..first + count;
                let is_new = range.clone().all(|number| !seen.contains(&number));
                let place = numbers.take(range.start, range.end, NOW);
                let is_taken = !matches!(place, NumberPlace::Known | NumberPlace::Forgotten);
                prop_assert_eq!(is_taken, is_new);
                if is_taken {
                    seen.extend(range);
                }
                let span = seen.last().unwrap() + 1 - seen.first().unwrap();
                prop_assert_eq!(numbers.missing(), span - seen.len() as u64);
            }
        }
    }
}
