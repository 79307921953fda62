//! Which client fields of a server's lines name a balancer without records: without its lines, there are as many lines as
//! mappings in each span of time.
//!
//! Requests that are asked at random make counts of a span differ as much as chance does. If all lines with records are
//! counted, and no others, lines and mappings differ by requests that are underway, which are far fewer.

use crate::attribution::costs;
use crate::time::Timestamp;

/// Client fields that are told apart. Lines with others count as lines with mappings.
const SENDERS: usize = 4;
/// Spans whose mappings are counted before their lines come.
const SPANS: usize = 16;
#[expect(clippy::cast_possible_wrap, reason = "a small number")]
const AHEAD: i64 = SPANS as i64;

/// Sets of senders.
const SETS: usize = 1 << SENDERS;

/// Mappings of a server, and lines by their client fields.
pub(crate) struct SenderFlows {
    senders: [SenderFlow; SENDERS],
    /// Those without records, as a set of bits.
    unrecorded: usize,
    /// The span of the last line.
    span: i64,
    /// Its lines with other client fields.
    others: f64,
    mappings: [(i64, f64); SPANS],
    /// Spans so far, and for each set of senders without records the lines of the rest, and the sum of squares of what
    /// these and the mappings differ by.
    spans: u32,
    sets: [SenderSet; SETS],
}

/// Lines with one client field.
#[derive(Clone, Copy, Default)]
struct SenderFlow {
    /// Hash of the client field; `None` until there is one.
    name: Option<u32>,
    /// Lines of the span.
    lines: f64,
}

/// What lines and mappings are like if a set of senders has no records.
#[derive(Clone, Copy, Default)]
struct SenderSet {
    lines: f64,
    differ: f64,
}

impl SenderFlows {
    pub(crate) fn new() -> Self {
        Self {
            senders: [SenderFlow::default(); SENDERS],
            unrecorded: 0,
            span: i64::MAX,
            others: 0.0,
            mappings: [(i64::MIN, 0.0); SPANS],
            spans: 0,
            sets: [SenderSet::default(); SETS],
        }
    }

    /// Counts a mapping.
    pub(crate) fn count_mapping(&mut self, time: Timestamp) {
        let span = span(time);
        let at = &mut self.mappings[place(span)];
        if at.0 != span {
            *at = (span, 0.0);
        }
        at.1 += 1.0;
    }

    /// Counts a line; returns whether its client field is known to name a balancer without records.
    pub(crate) fn count_line(&mut self, time: Timestamp, sender: Option<u32>) -> bool {
        let span = span(time);
        if self.span == i64::MAX {
            self.span = span;
        }
        if span > self.span {
            self.close(span);
        }
        // Free ones come last.
        let is_its = |it: &SenderFlow| it.name == sender || it.name.is_none();
        let its = sender.and_then(|_| self.senders.iter().position(is_its));
        let Some(at) = its else {
            self.others += 1.0;
            return false;
        };
        self.senders[at].name = sender;
        self.senders[at].lines += 1.0;
        self.unrecorded & 1 << at != 0
    }

    /// Compares lines and mappings of the span that is over.
    #[cold]
    fn close(&mut self, next: i64) {
        let (at, mappings) = self.mappings[place(self.span)];
        let mappings = if at == self.span { mappings } else { 0.0 };
        // In the first span logs begin.
        if self.spans > 0 {
            for (without, set) in self.sets.iter_mut().enumerate() {
                let rest = self.senders.iter().enumerate().filter(|(at, _)| without & 1 << at == 0);
                let lines = self.others + rest.map(|(_, it)| it.lines).sum::<f64>();
                set.lines += lines;
                set.differ += (mappings - lines).powi(2);
            }
        }
        self.spans += 1;
        self.others = 0.0;
        self.senders.iter_mut().for_each(|sender| sender.lines = 0.0);
        self.span = next;
        if self.spans > costs::SENDER_SPANS {
            self.judge();
        }
    }

    fn judge(&mut self) {
        let now = self.sets[self.unrecorded];
        let is_plain = |set: &SenderSet| {
            set.lines > 0.0
                && set.differ < set.lines * costs::SENDER_DIFFERS
                && set.differ * costs::SENDER_BETTER < now.differ
        };
        let known = self.senders.iter().filter(|sender| sender.name.is_some()).count();
        let sets = self.sets.iter().enumerate().take(1 << known);
        let plain = sets.filter(|(_, set)| is_plain(set));
        let best = plain.min_by(|(_, a), (_, b)| a.differ.total_cmp(&b.differ));
        let left = if let Some((best, _)) = best {
            self.unrecorded = best;
            0.0
        } else if self.spans > costs::SENDER_SPANS_MOST {
            0.5
        } else {
            return;
        };
        self.spans = if left > 0.0 { costs::SENDER_SPANS_MOST / 2 } else { 1 };
        for set in &mut self.sets {
            set.lines *= left;
            set.differ *= left;
        }
    }
}

fn place(span: i64) -> usize {
    usize::try_from(span.rem_euclid(AHEAD)).unwrap_or(0)
}

const fn span(time: Timestamp) -> i64 {
    time.as_micros().div_euclid(costs::SENDER_SPAN)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Requests by three balancers, of which those of `recorded` have mappings; returns which are known to have none.
    fn found(seed: u64, recorded: [bool; 3], lost: u64) -> [bool; 3] {
        let mut flows = SenderFlows::new();
        let mut state = seed;
        let mut random = move |below: u64| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 33) % below
        };
        let (mut time, mut known) = (0, [false; 3]);
        for _ in 0..20_000 {
            time += i64::try_from(random(40_000)).unwrap();
            let sender = usize::try_from(random(3)).unwrap();
            let is_lost = random(100) < lost;
            if recorded[sender] && !is_lost {
                flows.count_mapping(Timestamp::from_micros(time));
            }
            let name = u32::try_from(sender + 7).unwrap();
            known[sender] = flows.count_line(Timestamp::from_micros(time + 30_000), Some(name));
        }
        known
    }

    #[test]
    fn balancers_without_records_are_known_by_counts() {
        for seed in 1..20 {
            assert_eq!(found(seed, [true; 3], 0), [false; 3]);
            assert_eq!(found(seed, [true, false, true], 0), [false, true, false]);
            assert_eq!(found(seed, [true, false, false], 0), [false, true, true]);
            for lost in [5, 33, 50] {
                assert_eq!(
                    found(seed, [true; 3], lost),
                    [false; 3],
                    "lost records name no balancer"
                );
            }
        }
    }
}
