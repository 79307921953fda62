//! How a line's client is decided: alone where there is one mapping and one line, else together
//! with the next lines of its group, over the mappings that they could have.

use crate::attribution::costs;
use crate::attribution::learnt::coarse::CoarseDelaySpan;
use crate::attribution::learnt::user_agents::AgentFit;
use crate::attribution::line::HeldLine;
use crate::attribution::memory::mappings::{NIL, WaitingMapping};
use crate::attribution::queue::{Attributor, LAST};
use crate::attribution::verdict::{Certainty, LineVerdict, Reason};
pub(crate) mod assign;
pub(crate) mod group;
mod port;
pub(crate) mod single;
mod tls;
pub(crate) mod why;

use crate::time::{Resolution, Timestamp};

impl<T> Attributor<T> {
    /// Decides the oldest held line, which waits in `group`, and takes the mapping that explains it.
    pub(crate) fn decide(&mut self, group: u32) -> LineVerdict {
        let members = self.outstanding.group(group);
        match (members.mappings, members.lines) {
            (0, _) => {
                self.leave_group(group, self.held[0].next);
                self.decide_sealed()
            }
            (1, 1) => self.decide_alone(group),
            _ => self.decide_group(group),
        }
    }

    /// One line, one mapping.
    fn decide_alone(&mut self, group: u32) -> LineVerdict {
        let asked = self.held[0].asked;
        let mapping = self.outstanding.only(group);
        let waiting = self.outstanding.get(mapping);
        let WaitingMapping { client, time, resolution, tainted, tag, facts, .. } = *waiting;
        if self.cannot_be(waiting, &asked) {
            self.leave_group(group, LAST);
            return nothing(Reason::NoMapping);
        }
        if facts != NIL {
            return self.decide_exchange(group, mapping);
        }
        self.outstanding.take_both(group, mapping);
        self.count_used();
        let delay = asked.time.micros_since(time);
        let may_be_sealed = self.may_be_sealed(&asked);
        let state = &mut self.states[asked.server as usize];
        let is_unusual = state.delays.is_unusual(delay);
        let odd =
            tainted || is_unusual || self.habits.fit(tag, asked.user_agent) == AgentFit::Other;
        if !odd {
            state.delays.learn(delay, asked.resolution.max(resolution));
            self.habits.learn(tag, asked.user_agent, costs::PROFILE_CERTAIN);
        } else if is_unusual && !tainted {
            // So that a clock that drifts stays known.
            state.delays.learn_next(delay);
        }
        let (certainty, reason, probability) = if odd || may_be_sealed || state.misses_mappings() {
            (Certainty::Likely, Reason::Doubtful, self.judge_doubtful(tag, None, &asked))
        } else {
            (Certainty::Certain, Reason::Only, 1_000)
        };
        LineVerdict {
            client: Some(client),
            certainty,
            candidates: 1,
            reason,
            delay: Some(delay),
            probability,
        }
    }

    /// One line, one mapping whose exchange is known: does it fit?
    fn decide_exchange(&mut self, group: u32, mapping: u32) -> LineVerdict {
        let asked = self.held[0].asked;
        let WaitingMapping { client, time, tainted, facts, tag, .. } =
            *self.outstanding.get(mapping);
        let facts = *self.exchanges.get(facts);
        let delay = asked.time.micros_since(time);
        let state = &self.states[asked.server as usize];
        let is_unusual = facts.ended && !facts.is_cut() && self.is_unusual_end(&asked, delay);
        let odd =
            tainted || is_unusual || state.agreement.cost(&facts, &asked) > costs::ODD_RESPONSE;
        let (certainty, reason, probability) =
            if odd || self.may_be_sealed(&asked) || state.misses_mappings() {
                (Certainty::Likely, Reason::Doubtful, self.judge_doubtful(tag, Some(facts), &asked))
            } else {
                (Certainty::Certain, Reason::Only, 1_000)
            };
        if !odd {
            self.learn_exchange(mapping, &asked);
        } else if is_unusual && !tainted {
            self.states[asked.server as usize].delays.learn_next(delay);
        }
        self.forget_facts(mapping);
        self.outstanding.take_both(group, mapping);
        self.count_used();
        let delay = Some(delay);
        LineVerdict { client: Some(client), certainty, candidates: 1, reason, delay, probability }
    }

    /// Whether a line of an exchange is rarely logged so long after its end.
    pub(crate) fn is_unusual_end(&self, asked: &HeldLine, delay: i64) -> bool {
        let delays = &self.states[asked.server as usize].delays;
        if asked.resolution == Resolution::Second {
            delays.is_settled() && self.span_of_ends(asked).is_unusual(delay)
        } else {
            delays.is_unusual(delay)
        }
    }

    /// Where stamps are coarse, how long after the end of an exchange its line comes.
    pub(crate) fn span_of_ends(&self, asked: &HeldLine) -> CoarseDelaySpan {
        CoarseDelaySpan::of(&self.states[asked.server as usize].delays, asked.resolution.micros())
    }

    /// Learns from a line and the mapping that is surely its own, and says what passed between them.
    pub(crate) fn learn_exchange(&mut self, mapping: u32, asked: &HeldLine) -> i64 {
        let WaitingMapping { time, resolution, facts, .. } = *self.outstanding.get(mapping);
        let delay = asked.time.micros_since(time);
        if facts != NIL {
            let facts = self.exchanges.get(facts);
            let state = &mut self.states[asked.server as usize];
            if facts.ended {
                // Where in its second a line's stamp was is open, but the end is known finely: so
                // delays are not whole seconds.
                state.delays.learn(delay, resolution);
                state.agreement.learn(facts, asked);
            }
        }
        delay
    }

    /// Several lines or several mappings.
    fn decide_group(&mut self, group: u32) -> LineVerdict {
        self.set_stale_aside(group);
        if self.outstanding.group(group).of_exchanges {
            return self.decide_together(group);
        }
        match self.decide_by_claim(group) {
            Some(verdict) => verdict,
            None => self.decide_together(group),
        }
    }

    /// Mappings far older than this server's lines ever are stand back for the others.
    pub(crate) fn set_stale_aside(&mut self, group: u32) {
        let asked = self.held[0].asked;
        let delays = &self.states[asked.server as usize].delays;
        if asked.resolution == Resolution::Second && self.outstanding.group(group).of_exchanges {
            let span = self.span_of_ends(&asked);
            let is_known = delays.is_settled();
            return self.outstanding.set_aside(group, |waiting| {
                let delay = asked.time.micros_since(waiting.time);
                is_known && delay > 0 && span.is_unusual(delay)
            });
        }
        self.outstanding.set_aside(group, |waiting| {
            let delay = asked.time.micros_since(waiting.time);
            delay > 0 && delays.is_unusual(delay)
        });
    }

    /// Whether a mapping is out of the question: its line came before it was asked, or long after.
    pub(crate) fn cannot_be(&self, waiting: &WaitingMapping, asked: &HeldLine) -> bool {
        let WaitingMapping { time, resolution, facts, .. } = *waiting;
        if facts == NIL {
            return self.is_impossible((time, resolution), asked);
        }
        let first = self.exchanges.get(facts).asked;
        let slack = self.wait + asked.resolution.max(resolution).micros();
        let early = first.micros_since(asked.time);
        early >= slack || asked.time.micros_since(time) > self.window
    }

    /// A mapping must precede its line, but for coarse stamps and late arrival, and not by more than
    /// the window.
    pub(crate) fn is_impossible(
        &self,
        (time, resolution): (Timestamp, Resolution),
        asked: &HeldLine,
    ) -> bool {
        let step = asked.resolution.max(resolution).micros();
        let delay = asked.time.micros_since(time);
        delay + self.wait + step <= 0 || delay > self.window
    }

    /// The earliest and the latest time of a mapping that the line could have, and that its delay does
    /// not rule out.
    pub(crate) fn span_of_candidates(&self, asked: &HeldLine) -> (Timestamp, Timestamp) {
        let state = &self.states[asked.server as usize];
        let step = asked.resolution.max(state.coarsest).micros();
        let (mut shortest, mut longest) = (1 - self.wait - step, self.window);
        if state.delays.is_settled() {
            let ordinary = state.delays.ordinary();
            (shortest, longest) = (shortest.max(ordinary.0), longest.min(ordinary.1));
        }
        (asked.time.offset_by(-longest), asked.time.offset_by(-shortest))
    }

    /// Whether the delay does not rule a pair out.
    pub(crate) fn is_ordinary(&self, server: u32, delay: i64) -> bool {
        let delays = &self.states[server as usize].delays;
        !delays.is_settled() || !delays.is_unusual(delay)
    }

    /// Learns from a line and the mapping that it is about to take.
    pub(crate) fn learn(&mut self, mapping: u32, asked: &HeldLine, weight: u8) {
        let waiting = self.outstanding.get(mapping);
        let delay = asked.time.micros_since(waiting.time);
        let state = &mut self.states[asked.server as usize];
        state.delays.learn(delay, asked.resolution.max(waiting.resolution));
        self.habits.learn(waiting.tag, asked.user_agent, weight);
    }
}

/// No client, for this reason.
pub(crate) const fn nothing(reason: Reason) -> LineVerdict {
    LineVerdict {
        client: None,
        certainty: Certainty::Unmatched,
        candidates: 0,
        reason,
        delay: None,
        probability: 0,
    }
}
