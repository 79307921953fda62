//! Divides memory among the open inputs: the more inputs are open, the less memory each may use.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use pen_records::merge::Bounds;
use pen_records::time::Timestamp;

/// Largest time difference over which lines of one input are reordered.
const SPAN: i64 = 2_000 * 1_000_000;
/// Limit of lines held for reordering.
const LINES: usize = 1 << 15;
/// Limit of bytes of lines and their parsed fields held for reordering, by all inputs together and by
/// one input.
const WINDOWS: usize = 16 << 20;
const WINDOW: usize = 4 << 20;
/// Bytes all inputs together read at once. Each input has several blocks of its share in use.
const BLOCKS: usize = 4 << 20;
/// Least and most bytes one input reads at once.
const BLOCK: (usize, usize) = (16 << 10, 512 << 10);
/// Limit of batches of one input that wait for the merge.
const AHEAD: (usize, usize) = (1, 2);
/// Least bytes of a block counted for a line. Blocks of shorter lines are read in smaller batches, as a
/// parsed line takes more memory than a short text.
const LINE: usize = 32;

/// State shared by all readers.
#[derive(Clone, Default)]
pub(crate) struct MemoryShares {
    /// Bytes read from files, before decompression.
    pub(crate) progress: Arc<AtomicU64>,
    /// Number of inputs that are open or will be soon.
    inputs: Arc<AtomicUsize>,
}

impl MemoryShares {
    fn of(&self, whole: usize) -> usize {
        whole / self.inputs.load(Ordering::Relaxed).max(1)
    }

    /// Returns the limits of one input's reordering.
    pub(crate) fn window(&self) -> Bounds {
        Bounds { span: SPAN, items: LINES, weight: self.of(WINDOWS).min(WINDOW) }
    }

    /// Returns the bytes an input reads at once.
    pub(crate) fn block(&self) -> usize {
        self.of(BLOCKS).clamp(BLOCK.0, BLOCK.1)
    }

    /// Returns the limit of batches that wait for the merge, for an input opened now.
    pub(crate) fn ahead(&self) -> usize {
        (self.block() / BLOCK.0 - 1).clamp(AHEAD.0, AHEAD.1)
    }

    /// Returns the lines of an input read at once.
    pub(crate) fn lines(&self) -> usize {
        self.block() / LINE
    }
}

/// Counts the inputs that are open, or will be before the records read now expire.
pub(crate) struct OpenInputs {
    shares: MemoryShares,
    /// First times of the inputs, in order.
    starts: Vec<Timestamp>,
    ended: usize,
    reached: Timestamp,
}

impl OpenInputs {
    pub(crate) fn new(shares: MemoryShares, starts: impl Iterator<Item = Timestamp>) -> Self {
        let mut starts: Vec<_> = starts.collect();
        starts.sort_unstable();
        Self { shares, starts, ended: 0, reached: Timestamp::MIN }
    }

    /// Counts an input that begins at `time` as open.
    pub(crate) fn open(&mut self, time: Timestamp) {
        self.reached = self.reached.max(time);
        self.count();
    }

    /// Counts an input as ended.
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
        let shares = MemoryShares::default();
        let starts = (0..1_000).map(|n| Timestamp::from_seconds(n / 4 * 1_000));
        let mut inputs = OpenInputs::new(shares.clone(), starts);
        let take = |shares: &MemoryShares| {
            (shares.block(), shares.window().weight, shares.lines(), shares.ahead())
        };
        assert_eq!(take(&shares), (512 << 10, 4 << 20, 16 << 10, 2), "alone");
        // Twelve begin within the window of the first.
        inputs.open(Timestamp::from_seconds(0));
        assert_eq!(take(&shares), ((4 << 20) / 12, (16 << 20) / 12, (4 << 20) / 12 / 32, 2));
        inputs.open(Timestamp::from_seconds(1 << 40));
        assert_eq!(take(&shares), (16 << 10, (16 << 20) / 1_000, 512, 1));
        for _ in 0..999 {
            inputs.end();
        }
        assert_eq!(take(&shares), (512 << 10, 4 << 20, 16 << 10, 2), "the last one");
    }
}
