//! How far the lines of one request are apart among the lines of a server, where some lines or mappings are missing.

use crate::attribution::costs;
use crate::attribution::line::OrderPlace;
use crate::attribution::memory::mappings::GroupSlot;

/// Requests that are remembered.
const REQUESTS: usize = 2_048;

/// How far the lines of each request are apart.
#[derive(Default)]
pub(crate) struct RequestRates {
    /// By group; empty until a line is counted.
    requests: Vec<RequestRate>,
    /// Lines so far.
    lines: f32,
}

#[derive(Clone, Copy)]
struct RequestRate {
    group: Option<GroupSlot>,
    /// The place of the last line, and how many there were.
    last: OrderPlace,
    lines: f32,
    /// How many places lines are apart, of late.
    apart: f32,
}

impl RequestRates {
    /// Counts the line at a place.
    pub(crate) fn count(&mut self, group: GroupSlot, place: OrderPlace) {
        if self.requests.is_empty() {
            let none = RequestRate { group: None, last: OrderPlace::FIRST, lines: 0.0, apart: 0.0 };
            self.requests.resize(REQUESTS, none);
        }
        self.lines += 1.0;
        let request = &mut self.requests[group.index() % REQUESTS];
        if request.group != Some(group) {
            let apart = self.lines;
            *request = RequestRate { group: Some(group), last: place, lines: 1.0, apart };
            return;
        }
        let apart = place.after(request.last) as f32;
        request.last = place;
        request.lines = (request.lines + 1.0).min(costs::RATE_LINES);
        request.apart += (apart - request.apart) / request.lines;
    }

    /// Returns how many places the lines of a group are apart.
    pub(crate) fn apart(&self, group: GroupSlot) -> f32 {
        let known = self.requests.get(group.index() % REQUESTS);
        let known = known.filter(|request| request.group == Some(group));
        known.map_or(self.lines, |request| request.apart).max(1.0)
    }
}
