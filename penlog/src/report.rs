//! Messages on stderr: rarely, and never the same message over and over.

use std::io::Write as _;
use std::os::fd::AsFd as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

/// Shortest pause between two reports of losses, and between two messages of one kind.
const PAUSE: Duration = Duration::from_secs(60);

/// What became of all lines.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct ShipperCounts {
    pub(crate) shipped: u64,
    pub(crate) classic: u64,
    /// Dropped for lack of room in queue or spool.
    pub(crate) dropped: u64,
    /// Truncated: longer than a line may be.
    pub(crate) cut: u64,
    /// Not sent for another reason.
    pub(crate) lost: u64,
}

#[derive(Debug)]
pub(crate) struct ShipperReport {
    asked: Arc<AtomicBool>,
    said: Vec<(&'static str, Instant)>,
    last: ShipperCounts,
    last_at: Option<Instant>,
}

impl ShipperReport {
    pub(crate) const fn new(asked: Arc<AtomicBool>) -> Self {
        Self { asked, said: Vec::new(), last: ZERO, last_at: None }
    }

    /// Prints `text`, unless a message of that kind was printed within [`PAUSE`].
    pub(crate) fn say(&mut self, kind: &'static str, now: Instant, text: impl FnOnce() -> String) {
        match self.said.iter_mut().find(|(said, _)| *said == kind) {
            Some((_, at)) if now < *at + PAUSE => return,
            Some((_, at)) => *at = now,
            None => self.said.push((kind, now)),
        }
        tell(&text());
    }

    /// Reports new losses if it is time, and all counters if a signal asked for a report.
    pub(crate) fn losses(&mut self, counts: ShipperCounts, now: Instant) {
        if self.asked.swap(false, Ordering::AcqRel) {
            tell(&summary(&counts));
        }
        let news = (counts.dropped, counts.cut, counts.lost)
            != (self.last.dropped, self.last.cut, self.last.lost);
        if news && self.last_at.is_none_or(|at| now >= at + PAUSE) {
            tell(&format!(
                "{} lines dropped because there was no room, {} truncated, {} not sent; {} in all",
                counts.dropped - self.last.dropped,
                counts.cut - self.last.cut,
                counts.lost - self.last.lost,
                counts.dropped + counts.cut + counts.lost,
            ));
            (self.last, self.last_at) = (counts, Some(now));
        }
    }

    /// Prints the counters at the end if any line was lost.
    pub(crate) fn end(&self, counts: &ShipperCounts) {
        if counts.dropped + counts.cut + counts.lost > 0 {
            tell(&summary(counts));
        }
    }
}

const ZERO: ShipperCounts = ShipperCounts { shipped: 0, classic: 0, dropped: 0, cut: 0, lost: 0 };

fn summary(counts: &ShipperCounts) -> String {
    let ShipperCounts { shipped, classic, dropped, cut, lost } = counts;
    format!(
        "{shipped} lines shipped, {classic} sent one by one; {dropped} dropped because there \
         was no room, {cut} truncated, {lost} not sent"
    )
}

/// Prints a message if stderr accepts it at once: penlog never waits for the reader of its stderr.
pub(crate) fn tell(text: &str) {
    let mut stderr = std::io::stderr();
    let mut fds = [PollFd::new(stderr.as_fd(), PollFlags::POLLOUT)];
    if poll(&mut fds, PollTimeout::ZERO).is_ok_and(|ready| ready > 0) {
        // stderr is closed: nothing is left to report to.
        let _ = writeln!(stderr, "penlog: {text}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_is_not_said_twice_in_a_minute() {
        let mut report = ShipperReport::new(Arc::default());
        let (now, mut said) = (Instant::now(), 0);
        for seconds in [0, 1, 59, 60, 61, 119, 120] {
            report.say("kind", now + Duration::from_secs(seconds), || {
                said += 1;
                "tested".into()
            });
        }
        assert_eq!(said, 3);
    }
}
