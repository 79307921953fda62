//! Merges several streams in time order: [`Reorder`] sorts one nearly sorted stream, [`MergeHeads`]
//! picks the stream whose item comes next.
//!
//! Both are pure: the driver reads the streams.

use std::cmp::{Ordering, Reverse};
use std::collections::{BinaryHeap, VecDeque};

use crate::attribution::MappingEvent;
use crate::time::Timestamp;

/// An item of a [`Reorder`].
pub trait Timed {
    /// The sort key.
    fn time(&self) -> Timestamp;
    /// The cost of holding the item, in a unit that the driver chooses (bytes of text, for
    /// example).
    fn weight(&self) -> usize;
}

impl Timed for MappingEvent {
    fn time(&self) -> Timestamp {
        self.time
    }

    fn weight(&self) -> usize {
        size_of::<Self>()
    }
}

/// How much a [`Reorder`] holds back. The bound that is reached first releases items.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Microseconds for which an item is held, counted from the newest item.
    pub span: i64,
    /// The most items held.
    pub items: usize,
    /// The greatest weight held, see [`Timed::weight`].
    pub weight: usize,
}

/// A window over a nearly sorted stream: items come out by time, and with equal times in input
/// order.
///
/// Items go in one at a time and come out in runs. A run that was put in sorted is handed on
/// unchanged when its last item is due. Only stragglers pass through a heap. A straggler that comes
/// too late for the window is handed out next, out of order, and counted.
#[derive(Debug)]
pub struct Reorder<T> {
    bounds: Bounds,
    /// Ascending by time, and by arrival within equal times, inside each run and from run to run.
    runs: VecDeque<SortedRun<T>>,
    /// The run behind `runs` that is being filled.
    filling: Vec<T>,
    filling_weight: usize,
    /// The time of the last item in `runs` and `filling`.
    latest: Timestamp,
    /// Items that came with a time before `latest`. With equal times, items of runs come first.
    stragglers: BinaryHeap<Reverse<Straggler<T>>>,
    arrivals: u64,
    len: usize,
    weight: usize,
    newest: Timestamp,
    handed_out: Timestamp,
    late: u64,
    moved: u64,
}

#[derive(Debug)]
struct SortedRun<T> {
    items: VecDeque<T>,
    weight: usize,
}

#[derive(Debug)]
struct Straggler<T> {
    time: Timestamp,
    arrival: u64,
    item: T,
}

impl<T: Timed> SortedRun<T> {
    fn pop(&mut self) -> Option<T> {
        let item = self.items.pop_front()?;
        self.weight -= item.weight();
        Some(item)
    }
}

impl<T> Straggler<T> {
    fn key(&self) -> (Timestamp, u64) {
        (self.time, self.arrival)
    }
}

impl<T> PartialEq for Straggler<T> {
    fn eq(&self, other: &Self) -> bool {
        self.key() == other.key()
    }
}

impl<T> Eq for Straggler<T> {}

impl<T> PartialOrd for Straggler<T> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<T> Ord for Straggler<T> {
    fn cmp(&self, other: &Self) -> Ordering {
        self.key().cmp(&other.key())
    }
}

impl<T: Timed> Reorder<T> {
    /// Creates an empty window.
    #[must_use]
    pub fn new(bounds: Bounds) -> Self {
        Self {
            bounds,
            runs: VecDeque::new(),
            filling: Vec::new(),
            filling_weight: 0,
            latest: Timestamp::MIN,
            stragglers: BinaryHeap::new(),
            arrivals: 0,
            len: 0,
            weight: 0,
            newest: Timestamp::MIN,
            handed_out: Timestamp::MIN,
            late: 0,
            moved: 0,
        }
    }

    /// Changes the bounds from now on.
    pub fn set_bounds(&mut self, bounds: Bounds) {
        self.bounds = bounds;
    }

    /// Adds the next item of the stream.
    #[inline]
    pub fn push(&mut self, item: T) {
        let (time, weight) = (item.time(), item.weight());
        self.len += 1;
        self.weight += weight;
        self.newest = time;
        if time < self.latest || time < self.handed_out {
            return self.push_straggler(time, weight, item);
        }
        self.latest = time;
        self.filling_weight += weight;
        self.filling.push(item);
    }

    #[cold]
    fn push_straggler(&mut self, time: Timestamp, weight: usize, item: T) {
        if time < self.handed_out {
            self.late += 1;
        }
        if time >= self.latest {
            // No held item is later than this one.
            self.latest = time;
            self.filling_weight += weight;
            return self.filling.push(item);
        }
        self.moved += 1;
        self.arrivals += 1;
        self.stragglers.push(Reverse(Straggler { time, arrival: self.arrivals, item }));
    }

    /// Ends the run that is being filled and begins the next one in the buffer `used`.
    pub fn end_run(&mut self, mut used: Vec<T>) {
        if !self.filling.is_empty() {
            used.clear();
            let items = std::mem::replace(&mut self.filling, used).into();
            self.runs
                .push_back(SortedRun { items, weight: std::mem::take(&mut self.filling_weight) });
        }
    }

    /// Returns the next items of ended runs that are due.
    pub fn next_run(&mut self) -> Option<Vec<T>> {
        if !self.stragglers.is_empty() {
            return self.merged(Self::is_due);
        }
        let last = self.runs.front()?.items.back()?.time();
        if self.is_due(last) { self.front_run() } else { None }
    }

    /// Returns the next items, due or not: for the end of the stream.
    pub fn next_held(&mut self) -> Option<Vec<T>> {
        self.end_run(Vec::new());
        if self.stragglers.is_empty() { self.front_run() } else { self.merged(|_, _| true) }
    }

    fn is_due(&self, time: Timestamp) -> bool {
        self.len > self.bounds.items
            || self.weight > self.bounds.weight
            || time <= self.newest.offset_by(-self.bounds.span)
    }

    /// Returns the first run unchanged if no straggler belongs inside.
    fn front_run(&mut self) -> Option<Vec<T>> {
        let SortedRun { items, weight } = self.runs.pop_front()?;
        let run = Vec::from(items);
        self.len -= run.len();
        self.weight -= weight;
        if let Some(last) = run.last() {
            self.handed_out = self.handed_out.max(last.time());
        }
        self.forget_latest();
        Some(run)
    }

    /// Merges items of runs and stragglers while they are due. Returns `None` if no item is.
    fn merged(&mut self, is_due: impl Fn(&Self, Timestamp) -> bool) -> Option<Vec<T>> {
        let mut out = Vec::new();
        loop {
            while self.runs.front().is_some_and(|run| run.items.is_empty()) {
                self.runs.pop_front();
            }
            let front = self.runs.front().and_then(|run| run.items.front()).map(Timed::time);
            let straggler = self.stragglers.peek().map(|Reverse(straggler)| straggler.time);
            // An item later than all stragglers is in a run, perhaps in the one being filled.
            let Some(front) = front else { break };
            let from_heap = straggler.is_some_and(|straggler| straggler < front);
            let time = straggler.filter(|_| from_heap).unwrap_or(front);
            if !is_due(self, time) {
                break;
            }
            let item = if from_heap {
                self.stragglers.pop().map(|Reverse(straggler)| straggler.item)
            } else {
                self.runs.front_mut().and_then(SortedRun::pop)
            };
            out.extend(item.inspect(|item| {
                self.len -= 1;
                self.weight -= item.weight();
            }));
            self.handed_out = self.handed_out.max(time);
        }
        self.forget_latest();
        (!out.is_empty()).then_some(out)
    }

    /// Resets `latest` when the window is empty, so that the next item begins a run.
    fn forget_latest(&mut self) {
        if self.len == 0 {
            self.latest = Timestamp::MIN;
        }
    }

    /// The number of items held.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.len
    }

    /// Whether the window is empty.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The number of items that came too late to be sorted.
    #[must_use]
    pub const fn late(&self) -> u64 {
        self.late
    }

    /// The number of items that came out of order, sorted or not.
    #[must_use]
    pub const fn moved(&self) -> u64 {
        self.moved
    }
}

/// The heads of all streams in a heap; tells which stream comes next. Equal times go by stream
/// number.
#[derive(Debug, Default)]
pub struct MergeHeads {
    /// Each entry is no later than its children at `2 i + 1` and `2 i + 2`.
    heap: Vec<(Timestamp, usize)>,
}

impl MergeHeads {
    /// Creates a heap without streams.
    #[must_use]
    pub const fn new() -> Self {
        Self { heap: Vec::new() }
    }

    /// Adds a stream whose first item has this time. Each stream number may be added once.
    pub fn add(&mut self, stream: usize, time: Timestamp) {
        self.heap.push((time, stream));
        let mut at = self.heap.len() - 1;
        while at > 0 && self.heap[at] < self.heap[(at - 1) / 2] {
            self.heap.swap(at, (at - 1) / 2);
            at = (at - 1) / 2;
        }
    }

    /// The stream with the earliest head, and the time of that head.
    #[must_use]
    pub fn first(&self) -> Option<(usize, Timestamp)> {
        self.heap.first().map(|&(time, stream)| (stream, time))
    }

    /// Tells the heap that the first stream has advanced to an item with this time.
    pub fn advance_first(&mut self, time: Timestamp) {
        if let Some(first) = self.heap.first_mut() {
            first.0 = time;
            self.sift_down();
        }
    }

    /// Tells the heap that the first stream has ended.
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

    /// Seconds, and when it came.
    type Item = (i64, usize);

    impl Timed for Item {
        fn time(&self) -> Timestamp {
            seconds(self.0)
        }

        fn weight(&self) -> usize {
            1
        }
    }

    fn through(bounds: Bounds, times: &[i64]) -> (Vec<Item>, u64) {
        in_runs_of(1, bounds, times)
    }

    fn in_runs_of(run: usize, bounds: Bounds, times: &[i64]) -> (Vec<Item>, u64) {
        let mut reorder = Reorder::new(bounds);
        let mut out = Vec::new();
        for (index, &time) in times.iter().enumerate() {
            reorder.push((time, index));
            if (index + 1).is_multiple_of(run) {
                reorder.end_run(Vec::new());
            }
            while let Some(items) = reorder.next_run() {
                assert!(!items.is_empty());
                out.extend(items);
            }
        }
        while let Some(items) = reorder.next_held() {
            out.extend(items);
        }
        assert!(reorder.is_empty() && reorder.weight == 0);
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
        let mut heads = MergeHeads::new();
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
        fn a_wide_window_is_a_stable_sort(
            times in prop::collection::vec(0..50_i64, 0..200),
            run in 1..50_usize,
        ) {
            let (out, late) = in_runs_of(run, WIDE, &times);
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
            run in 1..50_usize,
        ) {
            let bounds = Bounds { span: span * 1_000_000, items, weight: 1 << 20 };
            let (mut out, _) = in_runs_of(run, bounds, &times);
            out.sort_by_key(|&(_, index)| index);
            prop_assert_eq!(out.iter().map(|&(time, _)| time).collect::<Vec<_>>(), times);
        }

        #[test]
        fn what_is_not_late_is_in_order(
            steps in prop::collection::vec((0..9_i64, 0..4_i64), 0..200),
            items in 4..40_usize,
            span in 0..6_i64,
            run in 1..50_usize,
        ) {
            let ahead = steps.iter().scan(0, |now, &(back, step)| {
                *now += step;
                Some(*now - back)
            });
            let times: Vec<_> = ahead.collect();
            let bounds = Bounds { span: span * 1_000_000, items, weight: 1 << 20 };
            let (out, late) = in_runs_of(run, bounds, &times);
            let mut latest = (i64::MIN, 0);
            let mut behind = 0;
            for item in out {
                behind += u64::from(item < latest);
                latest = latest.max(item);
            }
            prop_assert_eq!(behind, late);
        }
    }
}
