//! Waiting for a condition in another thread, process or file, with a deadline.
//!
//! Where an event can be waited for (a line on a pipe, a byte on a socket, a channel), a test reads it with a
//! timeout. Everything else is polled here, with naps between the looks, so that waiting costs no processor time that
//! the awaited program needs.

use std::fmt::Display;
use std::time::{Duration, Instant};

/// How long anything may take to start, to stop or to arrive.
pub const PATIENCE: Duration = Duration::from_secs(20);

const SHORTEST_NAP: Duration = Duration::from_micros(500);
const LONGEST_NAP: Duration = Duration::from_millis(10);

/// A point in time by which something has to have happened, and naps up to then.
#[derive(Clone, Debug)]
pub struct Deadline {
    at: Instant,
    nap: Duration,
}

impl Deadline {
    /// A deadline `wait` from now.
    #[must_use]
    pub fn after(wait: Duration) -> Self {
        Self { at: Instant::now() + wait, nap: SHORTEST_NAP }
    }

    /// A deadline [`PATIENCE`] from now.
    #[must_use]
    pub fn patience() -> Self {
        Self::after(PATIENCE)
    }

    /// Sleeps for 0.5 ms, then for twice as long at each call, at most 10 ms. Returns false once the deadline is over.
    #[must_use]
    pub fn nap(&mut self) -> bool {
        #[expect(clippy::disallowed_methods, reason = "polls what has no event; see the module")]
        std::thread::sleep(self.nap);
        self.nap = LONGEST_NAP.min(self.nap * 2);
        Instant::now() < self.at
    }

    /// The time left until the deadline.
    #[must_use]
    pub fn left(&self) -> Duration {
        self.at.saturating_duration_since(Instant::now())
    }
}

/// Waits until `condition` holds.
///
/// # Panics
/// If it does not hold within [`PATIENCE`]; the message ends with `what`.
#[track_caller]
pub fn wait_until(what: impl Display, mut condition: impl FnMut() -> bool) {
    wait_for(what, || condition().then_some(()));
}

/// Waits until `poll` returns a value, and returns it.
///
/// # Panics
/// If there is none within [`PATIENCE`]; the message ends with `what`.
#[track_caller]
pub fn wait_for<T>(what: impl Display, mut poll: impl FnMut() -> Option<T>) -> T {
    let mut deadline = Deadline::patience();
    loop {
        if let Some(value) = poll() {
            return value;
        }
        assert!(deadline.nap(), "waited {} s in vain until {what}", PATIENCE.as_secs());
    }
}
