//! Several streams in time order become one: [`Reorder`] sets one nearly sorted stream right,
//! [`Heads`] says which of many streams comes next.
//!
//! Both are pure: what a stream is, and where it comes from, is the driver's business.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};

use crate::time::Timestamp;

/// How much a [`Reorder`] holds back. Whatever is reached first ends the wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Microseconds an item is held behind the newest that was put in.
    pub span: i64,
    /// Items held.
    pub items: usize,
    /// Weight held, as the driver counts it (bytes of text, say).
    pub weight: usize,
}

/// A window over a nearly sorted stream: items come out by time, equal times as they came in.
///
/// An item in order costs no comparison but one; only stragglers go through a heap. One that comes
/// too late for the window is handed out next, where it stands, and counted.
#[derive(Debug)]
pub struct Reorder<T> {
    bounds: Bounds,
    /// Ascending by time, and by arrival within equal times.
    run: VecDeque<Entry<T>>,
    /// What came with an earlier time than the run's last.
    stragglers: BinaryHeap<Reverse<Entry<T>>>,
    arrivals: u64,
    weight: usize,
    newest: Timestamp,
    handed_out: Timestamp,
    late: u64,
    moved: u64,
}

#[derive(Debug)]
struct Entry<T> {
    time: Timestamp,
    arrival: u64,
    weight: usize,
    item: T,
}

impl<T> Entry<T> {
    fn key(&self) -> (Timestamp, u64) {
        (self.time, self.arrival)
    }
}

impl<T> PartialEq for Entry<T> {
    fn eq(&self, other: &Self) -> bool {
        self.key() == other.key()
    }
}

impl<T> Eq for Entry<T> {}

impl<T> PartialOrd for Entry<T> {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl<T> Ord for Entry<T> {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.key().cmp(&other.key())
    }
}

impl<T> Reorder<T> {
    /// An empty window.
    #[must_use]
    pub fn new(bounds: Bounds) -> Self {
        Self {
            bounds,
            run: VecDeque::new(),
            stragglers: BinaryHeap::new(),
            arrivals: 0,
            weight: 0,
            newest: Timestamp::MIN,
            handed_out: Timestamp::MIN,
            late: 0,
            moved: 0,
        }
    }

    /// Holds more or less from now on.
    pub fn set_bounds(&mut self, bounds: Bounds) {
        self.bounds = bounds;
    }

    /// Puts in the next item of the stream.
    pub fn push(&mut self, time: Timestamp, weight: usize, item: T) {
        let entry = Entry { time, arrival: self.arrivals, weight, item };
        self.arrivals += 1;
        self.weight += weight;
        self.newest = time;
        if time < self.handed_out {
            self.late += 1;
        }
        if self.run.back().is_none_or(|last| last.time <= time) {
            self.run.push_back(entry);
        } else {
            self.moved += 1;
            self.stragglers.push(Reverse(entry));
        }
    }

    /// The next item that need not be held any longer.
    pub fn pop(&mut self) -> Option<(Timestamp, T)> {
        let over = self.len() > self.bounds.items || self.weight > self.bounds.weight;
        if over || self.next_time()? <= self.newest.offset_by(-self.bounds.span) {
            self.pop_held()
        } else {
            None
        }
    }

    /// The next item, held or not: for the end of the stream.
    pub fn pop_held(&mut self) -> Option<(Timestamp, T)> {
        let straggler_first = match (self.stragglers.peek(), self.run.front()) {
            (Some(Reverse(straggler)), Some(front)) => straggler < front,
            (straggler, _) => straggler.is_some(),
        };
        let entry = if straggler_first {
            self.stragglers.pop().map(|Reverse(entry)| entry)
        } else {
            self.run.pop_front()
        }?;
        self.weight -= entry.weight;
        self.handed_out = self.handed_out.max(entry.time);
        Some((entry.time, entry.item))
    }

    fn next_time(&self) -> Option<Timestamp> {
        let front = self.run.front().map(|entry| entry.time);
        let straggler = self.stragglers.peek().map(|Reverse(entry)| entry.time);
        match (front, straggler) {
            (Some(front), Some(straggler)) => Some(front.min(straggler)),
            (front, straggler) => front.or(straggler),
        }
    }

    /// Items held.
    #[must_use]
    pub fn len(&self) -> usize {
        self.run.len() + self.stragglers.len()
    }

    /// Nothing is held.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Items that came too late to be put right.
    #[must_use]
    pub const fn late(&self) -> u64 {
        self.late
    }

    /// Items that came out of order, put right or not.
    #[must_use]
    pub const fn moved(&self) -> u64 {
        self.moved
    }
}

/// Which stream comes next: a heap with one head a stream. Equal times go by the stream's number.
#[derive(Debug, Default)]
pub struct Heads {
    /// Each no later than its children at `2 i + 1` and `2 i + 2`.
    heap: Vec<(Timestamp, usize)>,
}

impl Heads {
    /// No streams yet.
    #[must_use]
    pub const fn new() -> Self {
        Self { heap: Vec::new() }
    }

    /// Adds a stream whose first item has this time. Each number at most once.
    pub fn add(&mut self, stream: usize, time: Timestamp) {
        self.heap.push((time, stream));
        let mut at = self.heap.len() - 1;
        while at > 0 && self.heap[at] < self.heap[(at - 1) / 2] {
            self.heap.swap(at, (at - 1) / 2);
            at = (at - 1) / 2;
        }
    }

    /// The stream with the earliest head, and that head's time.
    #[must_use]
    pub fn first(&self) -> Option<(usize, Timestamp)> {
        self.heap.first().map(|&(time, stream)| (stream, time))
    }

    /// The first stream has moved on to an item with this time.
    pub fn advance_first(&mut self, time: Timestamp) {
        if let Some(first) = self.heap.first_mut() {
            first.0 = time;
            self.sift_down();
        }
    }

    /// The first stream has ended.
    pub fn remove_first(&mut self) {
        if !self.heap.is_empty() {
            self.heap.swap_remove(0);
            self.sift_down();
        }
    }

    fn sift_down(&mut self) {
        let mut at = 0;
        loop {
            let mut least = at;
            for child in [2 * at + 1, 2 * at + 2] {
                if child < self.heap.len() && self.heap[child] < self.heap[least] {
                    least = child;
                }
            }
            if least == at {
                return;
            }
            self.heap.swap(at, least);
            at = least;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn seconds(seconds: i64) -> Timestamp {
        Timestamp::from_seconds(seconds)
    }

    fn through(bounds: Bounds, times: &[i64]) -> (Vec<(i64, usize)>, u64) {
        let mut reorder = Reorder::new(bounds);
        let mut out = Vec::new();
        for (index, &time) in times.iter().enumerate() {
            reorder.push(seconds(time), 1, index);
            while let Some((time, index)) = reorder.pop() {
                out.push((time.as_micros() / 1_000_000, index));
            }
        }
        while let Some((time, index)) = reorder.pop_held() {
            out.push((time.as_micros() / 1_000_000, index));
        }
        (out, reorder.late())
    }

    const WIDE: Bounds = Bounds { span: 1 << 50, items: 1 << 20, weight: 1 << 20 };

    #[test]
    fn what_is_out_of_order_within_the_window_is_set_right() {
        let (out, late) = through(WIDE, &[5, 3, 3, 4, 9, 1]);
        assert_eq!(out, [(1, 5), (3, 1), (3, 2), (4, 3), (5, 0), (9, 4)]);
        assert_eq!(late, 0);
    }

    #[test]
    fn what_is_later_than_the_window_stays_where_it_is_and_is_counted() {
        for bounds in [
            Bounds { span: 2_000_000, ..WIDE },
            Bounds { items: 2, ..WIDE },
            Bounds { weight: 2, ..WIDE },
        ] {
            let (out, late) = through(bounds, &[10, 12, 14, 16, 1, 18]);
            assert_eq!(late, 1, "{bounds:?}");
            assert_eq!(out.len(), 6, "{bounds:?}");
            assert!(out.iter().position(|&(time, _)| time == 1) > Some(0), "{bounds:?}");
        }
    }

    #[test]
    fn one_time_far_ahead_does_not_close_the_window() {
        let span = Bounds { span: 10_000_000, ..WIDE };
        let (out, late) = through(span, &[100, 9_000, 103, 101, 120, 118, 140]);
        let times: Vec<_> = out.iter().map(|&(time, _)| time).collect();
        assert_eq!(times, [100, 101, 103, 118, 120, 140, 9_000]);
        assert_eq!(late, 0);
    }

    #[test]
    fn streams_take_turns_by_time_and_then_by_number() {
        let streams = [vec![1, 4, 4, 9], vec![1, 2, 4], vec![], vec![0, 4, 10]];
        let mut heads = Heads::new();
        let mut at = [0; 4];
        for (stream, times) in streams.iter().enumerate() {
            if let Some(&time) = times.first() {
                heads.add(stream, seconds(time));
            }
        }
        let mut out = Vec::new();
        while let Some((stream, time)) = heads.first() {
            out.push((time.as_micros() / 1_000_000, stream));
            at[stream] += 1;
            match streams[stream].get(at[stream]) {
                Some(&time) => heads.advance_first(seconds(time)),
                None => heads.remove_first(),
            }
        }
        let mut sorted = out.clone();
        sorted.sort();
        assert_eq!(out, sorted);
        assert_eq!(out.len(), 10);
    }

    proptest! {
        #[test]
        fn a_wide_window_is_a_stable_sort(times in prop::collection::vec(0..50_i64, 0..200)) {
            let (out, late) = through(WIDE, &times);
            let mut sorted: Vec<_> =
                times.iter().enumerate().map(|(index, &time)| (time, index)).collect();
            sorted.sort();
            prop_assert_eq!(out, sorted);
            prop_assert_eq!(late, 0);
        }

        #[test]
        fn a_narrow_window_loses_nothing(
            times in prop::collection::vec(0..50_i64, 0..200),
            items in 0..20_usize,
            span in 0..20_i64,
        ) {
            let bounds = Bounds { span: span * 1_000_000, items, weight: 1 << 20 };
            let (mut out, _) = through(bounds, &times);
            out.sort_by_key(|&(_, index)| index);
            prop_assert_eq!(out.iter().map(|&(time, _)| time).collect::<Vec<_>>(), times);
        }
    }
}
