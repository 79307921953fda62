//! What each open input may take of the memory that all of them share: the more are open, the less.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use pen_records::merge::Bounds;
use pen_records::time::Timestamp;

/// How far apart in time lines of one input are set right.
const SPAN: i64 = 2_000 * 1_000_000;
/// How many lines are held for that.
const LINES: usize = 1 << 15;
/// How many bytes of lines and of what is known of them all inputs together hold for that, and one
/// input at most.
const WINDOWS: usize = 16 << 20;
const WINDOW: usize = 4 << 20;
/// How many bytes all inputs together read at once. Each has several times its own on the way.
const BLOCKS: usize = 4 << 20;
/// How many bytes one input reads at once, at least and at most.
const BLOCK: (usize, usize) = (16 << 10, 256 << 10);
/// How many batches of one input may wait for the merge.
const AHEAD: (usize, usize) = (1, 3);
/// A line and its line feed take that many bytes of a block at least, or fewer lines are read at once:
/// what is known of a line is longer than a short one.
const LINE: usize = 32;

/// What all readers share.
#[derive(Clone, Default)]
pub(crate) struct Shares {
    /// Bytes read, as they lie in the files.
    pub(crate) progress: Arc<AtomicU64>,
    /// Inputs that are open or will be soon.
    inputs: Arc<AtomicUsize>,
}

impl Shares {
    fn of(&self, whole: usize) -> usize {
        whole / self.inputs.load(Ordering::Relaxed).max(1)
    }

    /// How much an input holds to set its lines right.
    pub(crate) fn window(&self) -> Bounds {
        Bounds { span: SPAN, items: LINES, weight: self.of(WINDOWS).min(WINDOW) }
    }

    /// How many bytes an input reads at once.
    pub(crate) fn block(&self) -> usize {
        self.of(BLOCKS).clamp(BLOCK.0, BLOCK.1)
    }

    /// How many batches of an input that is opened now may wait for the merge.
    pub(crate) fn ahead(&self) -> usize {
        (self.block() / BLOCK.0 - 1).clamp(AHEAD.0, AHEAD.1)
    }

    /// How many lines of an input are read at once.
    pub(crate) fn lines(&self) -> usize {
        self.block() / LINE
    }
}

/// Counts the inputs that are open, or will be while what is read now is in its window.
pub(crate) struct Inputs {
    shares: Shares,
    /// When each begins, in this order.
    starts: Vec<Timestamp>,
    ended: usize,
    reached: Timestamp,
}

impl Inputs {
    pub(crate) fn new(shares: Shares, starts: impl Iterator<Item = Timestamp>) -> Self {
        let mut starts: Vec<_> = starts.collect();
        starts.sort_unstable();
        Self { shares, starts, ended: 0, reached: Timestamp::MIN }
    }

    /// An input that begins at `time` is opened.
    pub(crate) fn open(&mut self, time: Timestamp) {
        self.reached = self.reached.max(time);
        self.count();
    }

    /// An input has ended.
    pub(crate) fn end(&mut self) {
        self.ended += 1;
        self.count();
    }

    fn count(&self) {
        let until = self.reached.offset_by(SPAN);
        let begun = self.starts.partition_point(|&start| start <= until);
        self.shares.inputs.store(begun.saturating_sub(self.ended), Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_more_inputs_are_open_the_less_each_takes() {
        let shares = Shares::default();
        let starts = (0..1_000).map(|n| Timestamp::from_seconds(n / 4 * 1_000));
        let mut inputs = Inputs::new(shares.clone(), starts);
        let take = |shares: &Shares| {
            (shares.block(), shares.window().weight, shares.lines(), shares.ahead())
        };
        assert_eq!(take(&shares), (256 << 10, 4 << 20, 8 << 10, 3), "alone");
        // Twelve begin within the window of the first.
        inputs.open(Timestamp::from_seconds(0));
        assert_eq!(take(&shares), (256 << 10, (16 << 20) / 12, 8 << 10, 3));
        inputs.open(Timestamp::from_seconds(1 << 40));
        assert_eq!(take(&shares), (16 << 10, (16 << 20) / 1_000, 512, 1));
        for _ in 0..999 {
            inputs.end();
        }
        assert_eq!(take(&shares), (256 << 10, 4 << 20, 8 << 10, 3), "the last one");
    }
}
