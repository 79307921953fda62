//! How often the status and the size that a server logs are those that the balancer saw: some formats log
//! another status or size, and some servers count in another way.

use crate::attribution::costs;
use crate::attribution::line::HeldLine;
use crate::attribution::memory::facts::ExchangeFacts;

/// Agreement of statuses and of sizes.
#[derive(Clone, Copy)]
pub(crate) struct ResponseAgreement {
    status: AgreementOdds,
    bytes: AgreementOdds,
}

/// How often two values agreed, and how often they did not.
#[derive(Clone, Copy)]
struct AgreementOdds {
    yes: u32,
    no: u32,
}

impl AgreementOdds {
    fn learn(&mut self, agrees: bool) {
        *(if agrees { &mut self.yes } else { &mut self.no }) += 1;
        if self.yes + self.no > costs::AGREEMENT_FADE_AT {
            (self.yes, self.no) = (self.yes / 2, (self.no / 2).max(1));
        }
    }

    /// Returns the cost of a disagreement.
    fn cost(self) -> i64 {
        let ratio = u64::from(self.yes + 1) * 4 / u64::from(self.no + 1);
        let octaves = i64::from(ratio.max(1).ilog2()) - 2;
        (octaves * costs::HALVING).clamp(0, costs::DISAGREEMENT_WORST)
    }
}

impl ResponseAgreement {
    pub(crate) const fn new() -> Self {
        Self {
            status: AgreementOdds { yes: costs::STATUS_AT_FIRST.0, no: costs::STATUS_AT_FIRST.1 },
            bytes: AgreementOdds { yes: costs::BYTES_AT_FIRST.0, no: costs::BYTES_AT_FIRST.1 },
        }
    }

    /// Returns the cost of the facts that the line contradicts; agreement and unknown values cost nothing.
    pub(crate) fn cost(self, facts: &ExchangeFacts, line: &HeldLine) -> i64 {
        let status = if facts.status_agrees(line) == Some(false) { self.status.cost() } else { 0 };
        let bytes = if facts.bytes_agree(line) == Some(false) { self.bytes.cost() } else { 0 };
        status + bytes
    }

    /// Learns from a pair that is certain for other reasons.
    pub(crate) fn learn(&mut self, facts: &ExchangeFacts, line: &HeldLine) {
        if let Some(agrees) = facts.status_agrees(line) {
            self.status.learn(agrees);
        }
        if let Some(agrees) = facts.bytes_agree(line) {
            self.bytes.learn(agrees);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_that_never_agree_cost_nothing_in_the_end() {
        let mut agreement = ResponseAgreement::new();
        let mut odds = agreement.bytes;
        assert!(odds.cost() > 2_000);
        (0..200).for_each(|_| odds.learn(false));
        assert_eq!(odds.cost(), 0);
        (0..8_000).for_each(|_| agreement.status.learn(true));
        assert!(agreement.status.cost() > 6_000);
    }
}
