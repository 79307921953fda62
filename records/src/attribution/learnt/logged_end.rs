//! Whether a server logs a request when its response has ended, though the request's body has not.

use crate::attribution::costs;
use crate::attribution::line::HeldLine;
use crate::attribution::memory::facts::{DatedBy, ExchangeFacts};
use crate::time::Resolution;

/// Which end of an exchange the lines of a server follow, where the body of the request ended after the
/// response: nginx waits for the body, many application servers do not.
#[derive(Clone, Copy, Default)]
pub(crate) struct LoggedEnd {
    /// Lines that came before the end of the body, less lines that came after it; bounded.
    early: i32,
}

impl LoggedEnd {
    /// Learns from a line and the exchange that is surely its own.
    pub(crate) fn learn(&mut self, facts: &ExchangeFacts, line: &HeldLine) {
        let Some(is_early) = is_before_body_end(facts, line) else { return };
        let most = costs::LOGGED_END_MEMORY;
        self.early = (self.early + if is_early { 1 } else { -1 }).clamp(-most, most);
    }

    /// Returns the end that dates exchanges of the server.
    pub(crate) const fn dated_by(self) -> DatedBy {
        if self.early >= costs::LOGGED_END_LEAST { DatedBy::Response } else { DatedBy::LaterEnd }
    }
}

/// Whether a line came before the end of the request's body; `None` if both ends are too near to say. Of ends that are
/// near, a coarse stamp tells if it names the second of one of them and not that of the other.
fn is_before_body_end(facts: &ExchangeFacts, line: &HeldLine) -> Option<bool> {
    let response = facts.response_ended()?;
    if facts.is_body_pending() {
        return Some(true);
    }
    let body = facts.body_ended()?;
    let (step, gap) = (line.resolution.micros(), costs::LOGGED_END_GAP);
    let next = line.time.offset_by(step);
    let between = body.micros_since(response);
    if between >= gap + 2 * step {
        return Some(next < body);
    }
    if line.resolution != Resolution::Second || between < 2 * gap {
        return None;
    }
    let is_before_body = response < next && next.offset_by(gap) < body;
    let is_after_response = response < line.time.offset_by(-gap) && body < next;
    (is_before_body != is_after_response).then_some(is_before_body)
}
