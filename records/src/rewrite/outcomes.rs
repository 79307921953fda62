//! Counters of decided lines by outcome.

use crate::attribution::{Certainty, LineVerdict};

/// Numbers of decided lines by the certainty of the client.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OutcomeCounts {
    /// See [`Certainty::Exact`].
    pub exact: u64,
    /// See [`Certainty::Certain`].
    pub certain: u64,
    /// See [`Certainty::Likely`].
    pub likely: u64,
    /// Parsed lines that no mapping explains.
    pub unmatched: u64,
    /// Lines that did not parse, written unchanged.
    pub not_understood: u64,
}

impl OutcomeCounts {
    /// Counts one line. `is_understood` is false for a line that did not parse.
    pub const fn count(&mut self, is_understood: bool, verdict: &LineVerdict) {
        *match verdict.certainty {
            _ if !is_understood => &mut self.not_understood,
            Certainty::Exact => &mut self.exact,
            Certainty::Certain => &mut self.certain,
            Certainty::Likely => &mut self.likely,
            Certainty::Unmatched => &mut self.unmatched,
        } += 1;
    }

    /// Adds the counts of more lines.
    pub const fn add(&mut self, more: &Self) {
        self.exact += more.exact;
        self.certain += more.certain;
        self.likely += more.likely;
        self.unmatched += more.unmatched;
        self.not_understood += more.not_understood;
    }

    /// Returns name and count of each outcome, in the order of reports.
    #[must_use]
    pub const fn rows(&self) -> [(&'static str, u64); 5] {
        let [exact, certain, likely, _] = self.by_certainty();
        let unmatched = ("unmatched", self.unmatched);
        [exact, certain, likely, unmatched, ("not_understood", self.not_understood)]
    }

    /// Returns name and count of each certainty. Lines that did not parse count as unmatched.
    #[must_use]
    pub const fn by_certainty(&self) -> [(&'static str, u64); 4] {
        [
            ("exact", self.exact),
            ("certain", self.certain),
            ("likely", self.likely),
            ("unmatched", self.unmatched + self.not_understood),
        ]
    }
}
