//! Whether a server's lines have the ids that the balancer's records name.
//!
//! A web server may log an id of its own making, which no record has.

use crate::attribution::costs;
use crate::attribution::line::LineOrigin;

/// The evidence for one source of lines.
#[derive(Clone, Copy)]
struct SourceIds {
    origin: LineOrigin,
    /// Lines whose id a record has.
    found: u32,
    /// Lines whose id no record has.
    missed: u32,
}

/// What is known of the ids in a server's lines.
#[derive(Default)]
pub(crate) struct RequestIdEvidence {
    sources: Vec<SourceIds>,
    /// Lines whose record of the same id has another request, and all lines with such a record.
    rewritten: u32,
    paired: u32,
}

impl RequestIdEvidence {
    /// Learns whether a record has the id of a line.
    pub(crate) fn learn(&mut self, origin: LineOrigin, is_found: bool) {
        let known = self.sources.iter().position(|it| it.origin == origin);
        let place = known.unwrap_or_else(|| {
            if self.sources.len() == costs::ORIGINS {
                self.sources.swap_remove(0);
            }
            self.sources.push(SourceIds { origin, found: 0, missed: 0 });
            self.sources.len() - 1
        });
        let source = &mut self.sources[place];
        source.found += u32::from(is_found);
        source.missed += u32::from(!is_found);
        if source.found + source.missed >= costs::IDS_FADE_AT {
            (source.found, source.missed) = (source.found / 2, source.missed / 2);
        }
    }

    /// Whether lines of a source have the ids that records name.
    pub(crate) fn carries(&self, origin: LineOrigin) -> bool {
        let source = self.sources.iter().find(|it| it.origin == origin);
        source.is_some_and(|it| {
            it.found >= costs::IDS_FOUND && it.found * costs::IDS_MISSED_PER_FOUND >= it.missed
        })
    }

    /// Learns whether line and record of one id have the same request.
    pub(crate) fn learn_request(&mut self, is_same: bool) {
        self.paired += 1;
        self.rewritten += u32::from(!is_same);
        if self.paired >= costs::IDS_FADE_AT {
            (self.paired, self.rewritten) = (self.paired / 2, self.rewritten / 2);
        }
    }

    /// Whether the balancer changes requests before the server gets them, or one of both logs them in another form.
    pub(crate) const fn are_requests_rewritten(&self) -> bool {
        self.paired >= costs::IDS_FOUND && self.rewritten * 2 > self.paired
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_of_a_servers_own_making_are_told_from_those_of_the_balancer() {
        let (ours, own) = (LineOrigin(0), LineOrigin(1));
        let mut ids = RequestIdEvidence::default();
        for nth in 0..2 * costs::IDS_FADE_AT {
            ids.learn(ours, nth % 4 != 0);
            ids.learn(own, nth % 50 == 0);
        }
        assert!(ids.carries(ours) && !ids.carries(own) && !ids.carries(LineOrigin(2)));
    }

    #[test]
    fn a_rewriting_balancer_is_known_after_a_few_pairs() {
        let mut ids = RequestIdEvidence::default();
        for is_same in [false; 7] {
            ids.learn_request(is_same);
            assert!(!ids.are_requests_rewritten());
        }
        ids.learn_request(false);
        assert!(ids.are_requests_rewritten());
        (0..10).for_each(|_| ids.learn_request(true));
        assert!(!ids.are_requests_rewritten());
    }
}
