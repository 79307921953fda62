//! How often single-candidate matches that are not certain prove right.
//!
//! A match is doubtful where mappings are missing, or where an earlier guess may have gone wrong. Whether
//! it was right depends on the server: so this counts how often User-Agent, or status and size, confirm
//! doubtful matches.

use crate::attribution::costs;

/// Doubtful matches of a server: confirmed and contradicted.
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
    pub(crate) const fn of_fallback() -> Self {
        let (yes, no) = costs::FALLBACK_AT_FIRST;
        Self { yes, no }
    }

    /// Returns the share of confirmed matches, in thousandths.
    pub(crate) fn probability(self) -> u16 {
        let all = u32::from(self.yes) + u32::from(self.no);
        let share = u32::from(self.yes) * 1_000 / all.max(1);
        u16::try_from(share).expect("at most 1,000").clamp(1, costs::GUESS_CEILING)
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
        self.probability().min(most)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn doubtful_matches_are_as_probable_as_they_proved_right() {
        let mut calibration = Calibration::new();
        assert_eq!(calibration.judge(None), 800);
        (0..100).for_each(|_| assert!(calibration.judge(Some(true)) >= 800));
        assert!(calibration.judge(None) > 980);
        assert_eq!(calibration.judge(Some(false)), costs::CONTRADICTED_CEILING);
        (0..5_000)
            .for_each(|_| assert!(calibration.judge(Some(false)) <= costs::CONTRADICTED_CEILING));
        assert!(calibration.judge(None) < 50, "{}", calibration.judge(None));
    }
}
