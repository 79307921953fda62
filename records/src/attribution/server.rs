//! What the engine knows of one server.

use super::Certainty;
use super::delays::Delays;

/// Lines without a mapping per million, beyond which no line of the server is certain: the mapping
/// that seems to be the only one may belong to somebody whose own line is yet to come.
const MISSING_LIMIT: i64 = 5_000;

/// The part by which each line moves the share of lines without a mapping.
const MISSING_MEMORY: i64 = 256;

/// Cost of a line that no mapping explains, where mappings are seldom missing.
const UNMATCHED: i64 = 22_000;

/// By how much that falls each time the share of missing mappings doubles beyond one in 1,000.
const UNMATCHED_STEP: i64 = 1_400;

/// The most that the order among lines and mappings of a server may cost.
const ORDER_WORST: i64 = 4_000;

/// The state of one server.
pub(super) struct Server {
    pub(super) delays: Delays,
    pub(super) order: Order,
    /// Lines without a mapping per million, a moving average.
    missing: i64,
    /// Held lines for which there is no mapping yet.
    pub(super) short: u32,
    /// Lines held.
    pub(super) held: u32,
    /// Mappings taken, wrapping: the ordinal of the last one.
    pub(super) mappings: u32,
    /// Lines taken, likewise.
    pub(super) lines: u32,
    pub(super) counts: ByCertainty,
}

impl Server {
    pub(super) const fn new() -> Self {
        Self {
            delays: Delays::new(),
            order: Order { pairs: 0, lag: 0, spread: 0 },
            missing: 0,
            short: 0,
            held: 0,
            mappings: 0,
            lines: 0,
            counts: ByCertainty { exact: 0, certain: 0, likely: 0, none: 0 },
        }
    }

    /// Notes whether a line was without a mapping.
    pub(super) fn note_missing(&mut self, is_missing: bool) {
        let share = if is_missing { 1_000_000 } else { 0 };
        self.missing += (share - self.missing) / MISSING_MEMORY;
    }

    /// Whether so many mappings are missing that an only one may still be somebody else's.
    pub(super) fn misses_mappings(&self) -> bool {
        self.missing > MISSING_LIMIT || self.short > 1 + self.held / 50
    }

    /// What it costs to leave a line without a client: less where mappings are often missing.
    pub(super) fn unmatched_cost(&self) -> i64 {
        let octaves = i64::from((self.missing.max(1_000) / 1_000).ilog2());
        UNMATCHED - octaves * UNMATCHED_STEP
    }
}

/// Lines of one server by certainty.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ByCertainty {
    /// See [`Certainty::Exact`].
    pub exact: u64,
    /// See [`Certainty::Certain`].
    pub certain: u64,
    /// See [`Certainty::Likely`].
    pub likely: u64,
    /// See [`Certainty::None`].
    pub none: u64,
}

impl ByCertainty {
    /// Counts one line.
    pub(super) fn add(&mut self, certainty: Certainty) {
        *match certainty {
            Certainty::Exact => &mut self.exact,
            Certainty::Certain => &mut self.certain,
            Certainty::Likely => &mut self.likely,
            Certainty::None => &mut self.none,
        } += 1;
    }
}

/// How far the n-th line of a server is from the n-th mapping: with stamps of whole seconds, order
/// is the finer clock. Thousandths throughout.
#[derive(Clone, Copy, Default)]
pub(super) struct Order {
    pairs: u32,
    lag: i64,
    spread: i64,
}

impl Order {
    /// Notes the ordinals of a pair.
    pub(super) fn learn(&mut self, mapping: u32, line: u32) {
        let lag = Self::lag(mapping, line);
        self.pairs = self.pairs.saturating_add(1);
        if self.pairs == 1 {
            (self.lag, self.spread) = (lag, 4_000);
            return;
        }
        self.spread += ((lag - self.lag).abs() - self.spread) / 16;
        self.lag += (lag - self.lag) / 8;
    }

    /// What it costs to pair a line with a mapping, by how far off they are.
    pub(super) fn costs(self) -> impl Fn(u32, u32) -> i64 {
        // A division for the whole group, not for each pair.
        let scale = (1_000 << 20) / (self.spread + 500);
        move |mapping, line| {
            if self.pairs < 4 {
                return 0;
            }
            let off = (Self::lag(mapping, line) - self.lag).abs();
            (off.saturating_mul(scale) >> 20).min(ORDER_WORST)
        }
    }

    fn lag(mapping: u32, line: u32) -> i64 {
        i64::from(line.wrapping_sub(mapping).cast_signed()) * 1_000
    }
}
