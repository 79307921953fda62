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

    /// Whether a disagreement makes a pair odd.
    fn tells(self) -> bool {
        self.cost() > costs::ODD_RESPONSE
    }

    /// The same, once values were seen to agree, beside those supposed at first.
    fn tells_by(self, supposed: u32) -> bool {
        self.tells() && self.yes >= supposed + costs::BYTES_CONFIRM_AFTER
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

    /// Whether status and size confirm that the exchange is the line's; `None` where they tell nothing. A size tells
    /// nothing before the server is seen to log what the balancer counts.
    pub(crate) fn confirms(self, facts: &ExchangeFacts, line: &HeldLine) -> Option<bool> {
        let status = facts.status_agrees(line).filter(|_| self.status.tells());
        let tells = self.bytes.tells_by(costs::BYTES_AT_FIRST.0);
        match (status, facts.bytes_agree(line).filter(|_| tells)) {
            (None, None) => None,
            (status, bytes) => Some(status != Some(false) && bytes != Some(false)),
        }
    }

    /// Learns from a pair that is hardly in doubt.
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

    #[test]
    fn sizes_confirm_nothing_until_they_were_seen_to_agree() {
        let mut odds = ResponseAgreement::new().bytes;
        let tells = |odds: AgreementOdds| odds.tells_by(costs::BYTES_AT_FIRST.0);
        assert!(!tells(odds));
        (0..costs::BYTES_CONFIRM_AFTER).for_each(|_| odds.learn(true));
        assert!(tells(odds));
        (0..300).for_each(|_| odds.learn(false));
        assert!(!tells(odds));
    }
}
