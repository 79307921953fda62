//! Sending to a classic collector: one line per datagram.

use std::time::{Duration, Instant};

use pen_records::shipment::MAGIC;

use super::socket::SendOutcome;
use super::{Shipper, UDP};

/// Lines sent in one go: a classic collector's receive buffer holds about 250 lines, and the kernel drops the
/// rest silently. A pause follows.
const BURST: u32 = 64;
/// Pause for the collector to read, ended early by a datagram from it.
const BREATH: Duration = Duration::from_millis(2);

impl Shipper {
    /// Sends lines one by one. Returns whether it sent any.
    pub(super) fn speak_classic(&mut self, now: Instant) -> bool {
        while let Some(line) = self.again.pop_front() {
            if self.classic_line(&line) == SendOutcome::Refused {
                self.again.push_front(line);
                self.refused(now);
                return false;
            }
        }
        if !self.backlog.fill(&self.queue) {
            return false;
        }
        let mut backlog = std::mem::take(&mut self.backlog);
        let (mut burst, mut refused) = (0, None);
        while burst < BURST
            && let Some(line) = backlog.next()
        {
            burst += 1;
            let len = line.len();
            if self.classic_line(line) == SendOutcome::Refused {
                refused = Some(line.to_vec());
            }
            backlog.pass(len);
            if refused.is_some() {
                break;
            }
        }
        if backlog.next().is_none() {
            backlog.end();
        }
        self.backlog = backlog;
        if let Some(line) = refused {
            self.again.push_front(line);
            self.refused(now);
            return false;
        }
        self.queue.set_done(self.backlog.consumed());
        if burst == BURST && !self.backlog.is_empty() {
            self.socket.rest(BREATH);
        }
        true
    }

    /// Sends a line with its line feed, truncated to the size of a datagram. A line that looks like a mapping or a
    /// shipment gets a space in front, so that no log content can forge one.
    fn classic_line(&mut self, line: &[u8]) -> SendOutcome {
        let guard: &[u8] =
            if line.starts_with(b"+") || line.starts_with(&MAGIC) { b" " } else { b"" };
        let cut = guard.len() + line.len() > UDP;
        let sent = if guard.is_empty() && !cut {
            self.socket.send(line)
        } else {
            let kept = (line.len() - 1).min(UDP - 1 - guard.len());
            self.socket.send(&[guard, &line[..kept], b"\n"].concat())
        };
        match sent {
            SendOutcome::Yes => {
                self.queue.add_cut(u32::from(cut));
                self.counts.classic += 1;
                self.last.clear();
                self.last.extend_from_slice(line);
            }
            SendOutcome::Never => self.counts.lost += 1,
            SendOutcome::Refused | SendOutcome::Full => {}
        }
        sent
    }
}
