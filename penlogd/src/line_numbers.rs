//! Numbers of lines in the order of their arrival, as runs: decided lines leave in nearly the same order.

use std::collections::BTreeMap;

/// Lines with successive numbers that were decided one after the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct NumberRun {
    pub(crate) first: u64,
    pub(crate) count: u64,
    /// Whether the lines go into the log; lines repeated by a balancer are left out.
    pub(crate) is_written: bool,
}

/// The numbers of decided lines, in the order in which they were decided.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct NumberRuns(Vec<NumberRun>);

impl NumberRuns {
    /// Adds a line.
    pub(crate) fn push(&mut self, number: u64, is_written: bool) {
        match self.0.last_mut() {
            Some(last) if last.is_written == is_written && last.first + last.count == number => {
                last.count += 1;
            }
            _ => self.add(NumberRun { first: number, count: 1, is_written }),
        }
    }

    /// Adds a run.
    pub(crate) fn add(&mut self, run: NumberRun) {
        self.0.push(run);
    }

    /// Moves all runs of `others` to the end.
    pub(crate) fn append(&mut self, others: &mut Self) {
        self.0.append(&mut others.0);
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn iter(&self) -> std::slice::Iter<'_, NumberRun> {
        self.0.iter()
    }

    /// Returns the count of lines for the log.
    pub(crate) fn written(&self) -> u64 {
        self.0.iter().filter(|run| run.is_written).map(|run| run.count).sum()
    }

    /// Keeps the first `kept` lines for the log, and forgets all lines after.
    pub(crate) fn truncate(&mut self, kept: u64) {
        let mut left = kept;
        let whole = self.0.iter().take_while(|run| match run.is_written {
            false => left > 0,
            true => left.checked_sub(run.count).map(|rest| left = rest).is_some(),
        });
        let whole = whole.count();
        let part = self.0.get(whole).copied().filter(|run| run.is_written && left > 0);
        self.0.truncate(whole);
        self.0.extend(part.map(|run| NumberRun { count: left, ..run }));
    }
}

/// A set of numbers, as ranges.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct NumberSet(BTreeMap<u64, u64>);

impl NumberSet {
    /// Adds `first..first + count`.
    pub(crate) fn insert(&mut self, first: u64, count: u64) {
        let (mut from, mut upto) = (first, first.saturating_add(count));
        if from == upto {
            return;
        }
        while let Some((&start, &end)) = self.0.range(..=upto).next_back()
            && end >= from
        {
            self.0.remove(&start);
            (from, upto) = (from.min(start), upto.max(end));
        }
        self.0.insert(from, upto);
    }

    #[inline]
    pub(crate) fn contains(&self, number: u64) -> bool {
        !self.0.is_empty()
            && self.0.range(..=number).next_back().is_some_and(|(_, &end)| number < end)
    }

    /// Returns the lowest number outside of the set.
    pub(crate) fn first_gap(&self) -> u64 {
        self.0.get(&0).copied().unwrap_or(0)
    }

    /// Returns the number behind the highest.
    pub(crate) fn end(&self) -> u64 {
        self.0.last_key_value().map_or(0, |(_, &end)| end)
    }
}

impl From<&NumberRuns> for NumberSet {
    fn from(runs: &NumberRuns) -> Self {
        let mut set = Self::default();
        runs.iter().for_each(|run| set.insert(run.first, run.count));
        set
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn lines(runs: &NumberRuns) -> Vec<(u64, bool)> {
        let of = |run: &NumberRun| {
            let is_written = run.is_written;
            (run.first..run.first + run.count).map(move |number| (number, is_written))
        };
        runs.iter().flat_map(of).collect()
    }

    proptest! {
        #[test]
        fn a_set_holds_what_was_inserted(
            ranges in proptest::collection::vec((0..50_u64, 0..6_u64), 0..30),
        ) {
            let (mut set, mut slow) = (NumberSet::default(), BTreeSet::new());
            for (first, count) in ranges {
                set.insert(first, count);
                slow.extend(first..first + count);
            }
            for number in 0..60 {
                prop_assert_eq!(set.contains(number), slow.contains(&number), "{}", number);
            }
            prop_assert_eq!(Some(set.first_gap()), (0..).find(|number| !slow.contains(number)));
            prop_assert_eq!(set.end(), slow.last().map_or(0, |last| last + 1));
            prop_assert!(set.0.len() <= slow.len());
        }

        #[test]
        fn runs_are_the_lines_in_their_order_and_are_cut_behind_a_line(
            pushed in proptest::collection::vec((0..9_u64, any::<bool>()), 0..30),
            kept in 0..20_u64,
        ) {
            let mut runs = NumberRuns::default();
            pushed.iter().for_each(|&(number, is_written)| runs.push(number, is_written));
            prop_assert_eq!(&lines(&runs), &pushed);
            let written = pushed.iter().filter(|(_, is_written)| *is_written).count() as u64;
            prop_assert_eq!(runs.written(), written);
            runs.truncate(kept);
            prop_assert_eq!(runs.written(), written.min(kept));
            let left = lines(&runs);
            prop_assert_eq!(&left[..], &pushed[..left.len()]);
        }
    }
}
