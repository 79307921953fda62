//! The health of a server by its checks: down after some failures in a row, up after some
//! successes.

use std::num::NonZeroU32;
use std::time::Instant;

/// The health of a server. A server that was never checked is up.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServerHealth {
    down: bool,
    /// Results in a row that contradict the present state.
    streak: u32,
    last: Option<LastCheck>,
}

/// The result of the last check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LastCheck {
    /// When the check ended.
    pub at: Instant,
    /// What was wrong; `None` if the check succeeded.
    pub wrong: Option<String>,
}

/// A change of health.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HealthChange {
    /// The server is up again.
    Up,
    /// The server gets no client as long as others are up.
    Down,
}

impl ServerHealth {
    /// Returns whether the server is down.
    #[must_use]
    pub const fn is_down(&self) -> bool {
        self.down
    }

    /// Returns the result of the last check, if there was one.
    #[must_use]
    pub const fn last(&self) -> Option<&LastCheck> {
        self.last.as_ref()
    }

    /// Notes the result of a check. Returns the change, if any.
    pub(super) fn note(
        &mut self,
        how: Result<(), String>,
        (rise, fall): (NonZeroU32, NonZeroU32),
        at: Instant,
    ) -> Option<HealthChange> {
        let wrong = how.err();
        let is_opposite = wrong.is_none() == self.down;
        self.last = Some(LastCheck { at, wrong });
        self.streak = if is_opposite { self.streak.saturating_add(1) } else { 0 };
        let needed = if self.down { rise } else { fall };
        if self.streak < needed.get() {
            return None;
        }
        self.streak = 0;
        self.down = !self.down;
        Some(if self.down { HealthChange::Down } else { HealthChange::Up })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_turns_after_so_many_answers_in_a_row() {
        let counts = (NonZeroU32::new(2).unwrap(), NonZeroU32::new(3).unwrap());
        let mut health = ServerHealth::default();
        // `+` succeeds, `-` fails; D and U where the state changes.
        for (answer, expected) in "+--+----+-++-".chars().zip("......D....U.".chars()) {
            let how = if answer == '+' { Ok(()) } else { Err("it is ill".to_owned()) };
            let turn = match health.note(how, counts, Instant::now()) {
                Some(HealthChange::Down) => 'D',
                Some(HealthChange::Up) => 'U',
                None => '.',
            };
            assert_eq!(turn, expected);
        }
        assert!(!health.is_down() && health.last().is_some_and(|last| last.wrong.is_some()));
    }
}
