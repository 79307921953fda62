//! The progress bar on a terminal: bytes read, bytes in total, lines per second, time left. Off without a terminal.

use std::fmt::Write as _;
use std::io::{self, IsTerminal as _, Write as _};
use std::time::{Duration, Instant};

/// Time between two updates.
const EVERY: Duration = Duration::from_millis(200);
/// Width of the bar in characters.
const WIDTH: usize = 24;

pub(crate) struct Progress {
    /// Bytes in total; `None` without a terminal.
    total: Option<u64>,
    started: Instant,
    drawn: Option<Instant>,
}

impl Progress {
    /// Makes a bar for `total` bytes.
    pub(crate) fn new(total: u64, quiet: bool) -> Self {
        let total = (!quiet && io::stderr().is_terminal()).then_some(total);
        Self { total, started: Instant::now(), drawn: None }
    }

    /// Draws the bar, at most five times a second.
    pub(crate) fn show(&mut self, read: u64, lines: u64) {
        let Some(total) = self.total else { return };
        let now = Instant::now();
        let last = self.drawn.unwrap_or(self.started);
        if now - last < EVERY {
            return;
        }
        self.drawn = Some(now);
        // A terminal that has gone is no reason to stop.
        let _ =
            write!(io::stderr(), "\r{}\u{1b}[K", picture(read, total, lines, now - self.started));
    }

    /// Erases the bar.
    pub(crate) fn clear(&mut self) {
        if self.drawn.take().is_some() {
            let _ = write!(io::stderr(), "\r\u{1b}[K");
        }
    }
}

fn picture(read: u64, total: u64, lines: u64, elapsed: Duration) -> String {
    let millis = u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX).max(1);
    let rate = lines.saturating_mul(1_000) / millis;
    let mut text = String::new();
    let write = if total == 0 {
        write!(text, "{} MiB read, {rate} lines/s", read >> 20)
    } else {
        let read = read.min(total);
        let cells = usize::try_from(read.saturating_mul(WIDTH as u64) / total).unwrap_or(WIDTH);
        let left = (total - read).saturating_mul(millis) / read.max(1) / 1_000;
        write!(
            text,
            "[{}{}] {} of {} MiB, {rate} lines/s, {}:{:02} left",
            "=".repeat(cells),
            " ".repeat(WIDTH - cells),
            read >> 20,
            total >> 20,
            left / 60,
            left % 60,
        )
    };
    write.expect("writing to a String does not fail");
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bar_tells_how_far_and_how_long() {
        let half = picture(50 << 20, 100 << 20, 1_000, Duration::from_secs(65));
        assert_eq!(half, "[============            ] 50 of 100 MiB, 15 lines/s, 1:05 left");
        for (read, total) in [(0, 10), (20, 10), (u64::MAX, u64::MAX), (5, 0)] {
            assert!(
                !picture(read, total, u64::MAX, Duration::ZERO).is_empty(),
                "{read} of {total}"
            );
        }
    }
}
