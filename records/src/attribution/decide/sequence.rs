//! Alignment of the lines of a server with its exchanges, of all requests together, where many lines or mappings are
//! missing.
//!
//! Then the order within a group tells little: which line has no mapping is not known, and each guess shifts all further
//! lines. But a log is one sequence of requests, and exchanges by their ends are another. Both sequences are put side by
//! side, and what is missing shows as between two texts. Weights are as in [`super::aligned`], and what lines reached is
//! kept as in [`super::reached`], for all groups.

use super::aligned::cost_of_end;
use super::window::{DecisionWindow, WindowLine, WindowMapping};
use super::{defer_old, pair};
use crate::attribution::costs;
use crate::attribution::learnt::Learnt;
use crate::attribution::learnt::server::LearntServer;
use crate::attribution::line::HeldLine;
use crate::attribution::memory::Memory;
use crate::attribution::memory::facts::ExchangeLife;
use crate::attribution::memory::mappings::GroupSlot;
use crate::attribution::queue::{LineQueue, LineState};
use crate::attribution::verdict::{Certainty, LineVerdict};
use crate::time::{Resolution, Timestamp};

/// Whether a line is decided together with other groups of the server.
pub(super) fn is_used(memory: &Memory, learnt: &Learnt, line: &HeldLine, group: GroupSlot) -> bool {
    let server = &learnt.servers[line.server as usize];
    server.is_lossy() && line.resolution == Resolution::Second && {
        let members = memory.mappings.group(group);
        members.of_exchanges
            && members.mappings > 0
            && !memory.servers[line.server as usize].is_third_party
            && server.logs_ends_in_order()
    }
}

/// Decides the oldest held line, which waits in this group, and some lines behind it.
pub(super) fn decide<T>(
    queue: &mut LineQueue<T>,
    memory: &mut Memory,
    learnt: &mut Learnt,
    window: &mut DecisionWindow,
    (line, group): (&HeldLine, GroupSlot),
) -> LineVerdict {
    // A clock that was set back makes exchanges seem older than those that lines came past.
    let furthest = line.time.offset_by(memory.wait + line.resolution.micros());
    let server = &mut learnt.servers[line.server as usize];
    if server.reached > furthest {
        server.reached = Timestamp::MIN;
    }
    window.take_lines(queue, memory, learnt, (line, group));
    window.take_mappings(memory, &learnt.servers[line.server as usize]);
    window.weigh_sequence(memory, &learnt.servers[line.server as usize]);
    let most = window.lines.len().saturating_sub(costs::SEQUENCE_AHEAD).max(1);
    window.lattice.solve(most);
    window.find_shares(most);
    let mut decided = 0;
    let first = window.decide_lines(queue, memory, most, |window, memory, place, next| {
        decided = place + 1;
        let line = window.lines[place].line;
        let early = window.decide_line(memory, learnt, place, next);
        window.share_out(place);
        if let (Certainty::Certain, Some(end)) = (early.verdict.certainty, early.ended) {
            let life = ExchangeLife { asked: end.asked, ended: end.ended };
            learnt.servers[line.server as usize].stamped.learn(life, &line);
        }
        early
    });
    if let Some(reached) = window.keep_reached(memory, decided) {
        let server = &mut learnt.servers[line.server as usize];
        server.reached = server.reached.max(reached);
    }
    first.verdict
}

impl DecisionWindow {
    /// Takes the first held lines of the server into the window, as far as their groups have exchanges, and defers mappings
    /// of these groups.
    fn take_lines<T>(
        &mut self,
        queue: &LineQueue<T>,
        memory: &mut Memory,
        learnt: &mut Learnt,
        (first, group): (&HeldLine, GroupSlot),
    ) {
        self.lines.clear();
        self.others.clear();
        self.groups.clear();
        self.lines.push(WindowLine { number: queue.first(), line: *first, group });
        self.groups.push(group);
        self.most_lines = costs::SEQUENCE_LINES;
        for (number, held) in queue.numbered_behind_front().take(costs::SEQUENCE_SCAN) {
            if self.lines.len() == self.most_lines {
                break;
            }
            let line = held.line;
            if line.server != first.server {
                continue;
            }
            let group = match held.state {
                LineState::Waits(group) => group,
                // The line is the first of its group when it is decided.
                LineState::Late(late) if queue.late(late).group.is_some() => break,
                _ => continue,
            };
            let members = memory.mappings.group(group);
            if line.resolution != Resolution::Second {
                break;
            }
            if members.of_exchanges && members.mappings > 0 {
                self.lines.push(WindowLine { number, line, group });
                self.groups.push(group);
            }
        }
        self.groups.sort_unstable_by_key(|group| group.index());
        self.groups.dedup();
        for &group in &self.groups {
            defer_old(memory, learnt, first, group);
        }
    }

    /// Takes the mappings of the lines' groups into the window: in the order of ends all that lines have not come past,
    /// then some passed mappings, and some whose ends are unseen.
    fn take_mappings(&mut self, memory: &mut Memory, server: &LearntServer) {
        (self.keeps, self.complete) = (true, false);
        self.mappings.clear();
        self.passed.clear();
        let first = self.lines[0].line;
        let latest = self.lines[self.lines.len() - 1].line;
        for &group in &self.groups {
            let mut next = memory.mappings.first_fresh(group);
            while let Some(mapping) = next {
                let waiting = memory.mappings.get(mapping);
                next = waiting.after();
                if pair::is_too_young(memory, server, waiting, &latest) {
                    break;
                }
                let Some(facts) = waiting.facts else { continue };
                let is_passed = waiting.time <= server.reached;
                if is_passed || memory.exchanges.get(facts).reached() >= costs::REACHED {
                    memory.exchanges.get_mut(facts).reach(1.0, 0.0);
                    self.passed.push(mapping);
                } else if !memory.cannot_be(waiting, &latest) {
                    self.mappings.push(WindowMapping::new(mapping, waiting, first.resolution));
                }
            }
        }
        self.mappings.sort_by_key(|mapping| mapping.time);
        if self.mappings.len() > costs::SEQUENCE_MAPPINGS {
            self.mappings.truncate(costs::SEQUENCE_MAPPINGS);
            self.drop_lines_beyond(server);
        }
        self.ordered = self.mappings.len();
        self.passed.sort_by_key(|&mapping| memory.mappings.get(mapping).time);
        for &mapping in self.passed.iter().rev().take(costs::LATTICE_OTHERS) {
            let waiting = memory.mappings.get(mapping);
            self.mappings.push(WindowMapping::new(mapping, waiting, first.resolution));
        }
        self.take_unseen(memory, &first);
    }

    /// Leaves lines to the next window whose mappings may lie behind the last.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "a number of lines"
    )]
    fn drop_lines_beyond(&mut self, server: &LearntServer) {
        let logged = self.mappings.len() as f64 * (1.0 - server.left_over());
        let most = ((logged / 2.0) as usize).max(1);
        if self.lines.len() > most {
            self.lines.truncate(most);
            self.most_lines = most;
        }
    }

    /// Takes mappings whose exchanges were not seen to end.
    fn take_unseen(&mut self, memory: &Memory, first: &HeldLine) {
        for &group in &self.groups {
            let mut next = memory.mappings.last_deferred(group);
            for _ in 0..costs::SEQUENCE_UNSEEN {
                let Some(mapping) = next else { break };
                let waiting = memory.mappings.get(mapping);
                next = waiting.before();
                let is_unseen = waiting.facts.is_some_and(|it| !memory.exchanges.get(it).ended);
                if is_unseen && !memory.cannot_be(waiting, first) {
                    self.mappings.push(WindowMapping::new(mapping, waiting, first.resolution));
                }
            }
        }
    }

    /// Takes what a line claims of mappings without an order from the lines behind.
    fn share_out(&mut self, row: usize) {
        let width = self.mappings.len();
        for place in self.ordered..width {
            let left = 1.0 - self.share(row, place);
            let later = self.shares[(row + 1) * width..].chunks_mut(width);
            later.for_each(|shares| shares[place] *= left);
        }
    }

    /// Sets the weights of all parts of an alignment.
    fn weigh_sequence(&mut self, memory: &Memory, server: &LearntServer) {
        self.reset_weights();
        for place in 0..self.mappings.len() {
            let mapping = self.mappings[place];
            let waiting = memory.mappings.get(mapping.mapping);
            let group = memory.mappings.group_of(mapping.mapping);
            let Some(facts) = mapping.facts.map(|facts| memory.exchanges.get(facts)) else {
                continue;
            };
            for row in 0..self.lines.len() {
                let line = &self.lines[row].line;
                if self.lines[row].group == group && !pair::cannot_be(memory, server, waiting, line)
                {
                    self.set_cost(row, place, cost_of_end(server, facts, line, mapping.time));
                }
            }
        }
        self.weigh_mappings(memory, server);
        self.weigh_back(memory, server);
        for row in 0..self.lines.len() {
            let alone = server.alone_cost_in_sequence(self.lines[row].group);
            self.set_alone(row, self.lattice.weight(alone));
        }
    }
}
