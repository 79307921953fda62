//! Whether stamps of whole seconds name the start of a request, as those of Apache do, or its end.

use crate::attribution::costs;
use crate::attribution::line::HeldLine;
use crate::attribution::memory::facts::ExchangeLife;
use crate::time::{Resolution, Timestamp};

/// The part of an exchange that the stamps of a server's lines name.
#[derive(Clone, Copy, Default)]
pub(crate) struct StampedPart {
    /// Lines that named the start, less lines that named the end; bounded.
    starts: i32,
    /// Whether lines came in another order than that of their stamps.
    is_unsorted: bool,
}

impl StampedPart {
    /// Learns from a line and the life of the exchange that is its only candidate.
    pub(crate) fn learn(&mut self, life: ExchangeLife, line: &HeldLine) {
        let Some(is_start) = is_of_start(life, line) else { return };
        let most = costs::STAMPED_MEMORY;
        self.starts = (self.starts + if is_start { 1 } else { -1 }).clamp(-most, most);
    }

    /// Learns from a line and a later one.
    pub(crate) fn learn_order(&mut self, line: &HeldLine, later: &HeldLine) {
        self.is_unsorted |= line.time.micros_since(later.time) > line.resolution.micros();
    }

    /// Whether lines come in the order of the starts of their exchanges.
    pub(crate) const fn orders_starts(self) -> bool {
        self.names_starts() && !self.is_unsorted
    }

    /// Returns the time by which an exchange has its place in the order of lines.
    pub(crate) const fn place(self, life: ExchangeLife) -> Timestamp {
        if self.orders_starts() { life.asked } else { life.ended }
    }

    /// Whether stamps are known to name starts.
    const fn names_starts(self) -> bool {
        self.starts >= costs::STAMPED_LEAST
    }

    /// Returns the highest cost of a line that names the start of its long exchange; `None` for any other line, and
    /// where lines name ends.
    pub(crate) fn cost(self, life: ExchangeLife, line: &HeldLine) -> Option<i64> {
        if self.starts <= -costs::STAMPED_LEAST || is_of_start(life, line) != Some(true) {
            return None;
        }
        Some(if self.names_starts() { 0 } else { costs::STAMPED_UNKNOWN })
    }
}

/// Whether a coarse stamp names the start of an exchange; `None` if that is too near to the end, or the stamp
/// names neither.
fn is_of_start(ExchangeLife { asked, ended }: ExchangeLife, line: &HeldLine) -> Option<bool> {
    let (step, slack) = (line.resolution.micros(), costs::ASKED_AFTER);
    let is_long = ended.micros_since(asked) >= step + costs::STAMPED_GAP;
    if line.resolution != Resolution::Second || !is_long {
        return None;
    }
    let (first, last) = (line.time.offset_by(-slack), line.time.offset_by(step + slack));
    let is_within = |time: Timestamp| first <= time && time <= last;
    if is_within(asked) { Some(true) } else { is_within(ended).then_some(false) }
}
