//! How often single-candidate matches that are not certain prove right.
//!
//! A match is doubtful where mappings are missing, or where an earlier guess may have gone wrong. Whether
//! it was right depends on the server: so this counts how often User-Agent, or status and size, confirm
//! doubtful matches.

use crate::attribution::costs;

/// Doubtful matches of a server: confirmed and contradicted; and how often evidence contradicts matches that
/// are right.
#[derive(Clone, Copy)]
pub(crate) struct Calibration {
    yes: u16,
    no: u16,
    /// Matches that nothing else speaks against, contradicted and all: a client may have several User-Agents.
    plain: (u16, u16),
}

impl Calibration {
    pub(crate) const fn new() -> Self {
        let (yes, no) = costs::CALIBRATION_AT_FIRST;
        Self { yes, no, plain: costs::CONTRADICTED_AT_FIRST }
    }

    /// Those about neighbours, of whom nothing is known at first.
    pub(crate) const fn of_fallback() -> Self {
        let (yes, no) = costs::FALLBACK_AT_FIRST;
        Self { yes, no, plain: (0, 1) }
    }

    /// Returns the share of confirmed matches, in thousandths.
    pub(crate) fn probability(self) -> u16 {
        let all = u32::from(self.yes) + u32::from(self.no);
        let share = u32::from(self.yes) * 1_000 / all.max(1);
        u16::try_from(share).expect("at most 1,000").clamp(1, costs::GUESS_CEILING)
    }

    /// Learns whether the evidence contradicts a match that nothing else speaks against.
    pub(crate) fn learn_plain(&mut self, is_contradicted: bool) {
        self.plain.0 += u16::from(is_contradicted);
        self.plain.1 += 1;
        if self.plain.1 >= costs::CALIBRATION_FADE_AT {
            self.plain = (self.plain.0 / 2, self.plain.1 / 2);
        }
    }

    /// Learns from a doubtful match and returns its probability, in thousandths. `agrees` says whether the
    /// evidence confirms the match; `None` without evidence.
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
        self.share_right(agrees).clamp(1, most)
    }

    /// Returns the share of right matches, in thousandths. Some right ones are contradicted, as many as among
    /// matches that nothing else speaks against; nearly all wrong ones are.
    fn share_right(self, agrees: Option<bool>) -> u16 {
        let thousandths = |some: u16, all: u32| u32::from(some) * 1_000 / all.max(1);
        let no = thousandths(self.no, u32::from(self.yes) + u32::from(self.no));
        let usual =
            thousandths(self.plain.0, u32::from(self.plain.1)).min(costs::WRONG_CONTRADICTED / 2);
        let wrong = no.saturating_sub(usual) * 1_000 / (costs::WRONG_CONTRADICTED - usual);
        let right = 1_000 - wrong.min(1_000);
        let share = match agrees {
            None => right,
            Some(true) => right * (1_000 - usual) / (1_000 - no).max(1),
            Some(false) => right * usual / no.max(1),
        };
        u16::try_from(share.min(1_000)).expect("at most 1,000")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn doubtful_matches_are_as_probable_as_they_proved_right() {
        let mut calibration = Calibration::new();
        assert!((780..=850).contains(&calibration.judge(None)));
        (0..100).for_each(|_| assert!(calibration.judge(Some(true)) >= 800));
        assert!(calibration.judge(None) > 980);
        assert!(calibration.judge(Some(false)) <= costs::CONTRADICTED_CEILING);
        (0..5_000)
            .for_each(|_| assert!(calibration.judge(Some(false)) <= costs::CONTRADICTED_CEILING));
        assert!(calibration.judge(None) < 50, "{}", calibration.judge(None));
    }

    #[test]
    fn what_is_usual_of_right_matches_does_not_make_others_doubtful() {
        let mut calibration = Calibration::new();
        (0..900).for_each(|i| calibration.learn_plain(i % 3 == 0));
        (0..900).for_each(|i| {
            calibration.judge(Some(i % 3 > 0));
        });
        assert!(calibration.judge(None) > 900, "{}", calibration.judge(None));
        assert_eq!(calibration.judge(Some(false)), costs::CONTRADICTED_CEILING);
    }
}
