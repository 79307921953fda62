//! What checks say of a server: down after some failures in a row, up after some successes.

use std::num::NonZeroU32;
use std::time::Instant;

/// How a server is by its checks. One that was never checked is up.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServerHealth {
    down: bool,
    /// Answers in a row that say the opposite of what it is.
    streak: u32,
    last: Option<LastCheck>,
}

/// How the last check went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LastCheck {
    /// When it ended.
    pub at: Instant,
    /// What was wrong, if anything.
    pub wrong: Option<String>,
}

/// What a server has become.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HealthChange {
    /// It is well again.
    Up,
    /// It gets nobody as long as others are up.
    Down,
}

impl ServerHealth {
    /// Whether it is down.
    #[must_use]
    pub const fn is_down(&self) -> bool {
        self.down
    }

    /// How the last check went, if there was one.
    #[must_use]
    pub const fn last(&self) -> Option<&LastCheck> {
        self.last.as_ref()
    }

    /// Notes how a check went, and says what it has turned to.
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
        // + is well, - is not; D and U where it turns.
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
