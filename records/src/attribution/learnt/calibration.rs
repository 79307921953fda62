//! How often what only one client could have asked is right all the same, where something speaks against
//! that being certain: mappings are missed, or an earlier guess may have gone wrong.
//!
//! The doubt is as good as the server is: so it is counted how often User-Agent, or status and size, bear
//! out what was doubted.

use crate::attribution::costs;
use crate::attribution::learnt::user_agents::{AgentFit, ClientHash};
use crate::attribution::line::HeldLine;
use crate::attribution::memory::facts::ExchangeFacts;
use crate::attribution::queue::Attributor;

/// Doubtful lines of a server that something bore out, and those that it spoke against.
#[derive(Clone, Copy)]
pub(crate) struct Calibration {
    yes: u16,
    no: u16,
}

impl Calibration {
    pub(crate) const fn new() -> Self {
        let (yes, no) = costs::CALIBRATION_AT_FIRST;
        Self { yes, no }
    }

    /// Those about neighbours, of whom nothing is known at first.
    pub(crate) const fn of_neighbours() -> Self {
        let (yes, no) = costs::FALLBACK_AT_FIRST;
        Self { yes, no }
    }

    /// What is worth as much as those before it, in thousandths.
    pub(crate) fn usual(self) -> u16 {
        let all = u32::from(self.yes) + u32::from(self.no);
        let usual = u32::from(self.yes) * 1_000 / all.max(1);
        u16::try_from(usual).unwrap_or(0).clamp(1, costs::GUESS_CEILING)
    }

    /// What a doubtful line is worth, in thousandths, and learns from it. `agrees` is `None` where nothing is
    /// known of it.
    pub(crate) fn judge(&mut self, agrees: Option<bool>) -> u16 {
        match agrees {
            Some(true) => self.yes += 1,
            Some(false) => self.no += 1,
            None => {}
        }
        if self.yes + self.no >= costs::CALIBRATION_FADE_AT {
            (self.yes, self.no) = (self.yes / 2, self.no / 2);
        }
        let most =
            if agrees == Some(false) { costs::CONTRADICTED_CEILING } else { costs::GUESS_CEILING };
        self.usual().min(most)
    }
}

impl<T> Attributor<T> {
    /// How sure it is that a line is of the only client that could have asked, though it is not certain.
    pub(crate) fn judge_doubtful(
        &mut self,
        tag: ClientHash,
        facts: Option<ExchangeFacts>,
        asked: &HeldLine,
    ) -> u16 {
        let agrees = match facts {
            Some(facts) => agrees(&facts, asked),
            None => match self.habits.fit(tag, asked.user_agent) {
                AgentFit::Unknown => None,
                AgentFit::Same => Some(true),
                AgentFit::Other => Some(false),
            },
        };
        self.states[asked.server as usize].doubts.judge(agrees)
    }
}

/// Whether status and size are those of the exchange.
fn agrees(facts: &ExchangeFacts, asked: &HeldLine) -> Option<bool> {
    match (facts.status_agrees(asked), facts.bytes_agree(asked)) {
        (None, None) => None,
        (status, bytes) => Some(status != Some(false) && bytes != Some(false)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn doubts_are_as_large_as_they_were_borne_out() {
        let mut doubts = Calibration::new();
        assert_eq!(doubts.judge(None), 800);
        (0..100).for_each(|_| assert!(doubts.judge(Some(true)) >= 800));
        assert!(doubts.judge(None) > 980);
        assert_eq!(doubts.judge(Some(false)), costs::CONTRADICTED_CEILING);
        (0..5_000).for_each(|_| assert!(doubts.judge(Some(false)) <= costs::CONTRADICTED_CEILING));
        assert!(doubts.judge(None) < 50, "{}", doubts.judge(None));
    }
}
