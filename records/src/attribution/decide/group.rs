//! The lines and mappings of a group side by side, and the cheapest way to lay the one along the
//! other: for groups in which no line can be decided by itself.

use crate::addr::ClientAddr;
use crate::attribution::costs;
use crate::attribution::decide::assign::{AssignmentCosts, OtherCosts};
use crate::attribution::decide::nothing;
use crate::attribution::learnt::user_agents::{AgentFit, AgentRarity, ClientHash, guess_weight};
use crate::attribution::line::HeldLine;
use crate::attribution::memory::mappings::{NIL, RequestGroup, WaitingMapping};
use crate::attribution::odds::weight;
use crate::attribution::queue::{Attributor, LAST};
use crate::attribution::verdict::{Certainty, LineVerdict, Reason};
use crate::time::{Resolution, Timestamp};

/// The lines and mappings of a group that are decided together; kept from decision to decision for
/// its memory.
#[derive(Default)]
pub(crate) struct AssignmentWindow {
    rows: Vec<WindowLine>,
    columns: Vec<WindowMapping>,
    /// Whether no mapping is left out that the first line could have.
    complete: bool,
    costs: AssignmentCosts,
    rarities: Vec<AgentRarity>,
}

/// A line in view.
#[derive(Clone, Copy)]
struct WindowLine {
    /// Its place among the lines held.
    index: usize,
    asked: HeldLine,
}

/// A mapping in view.
#[derive(Clone, Copy)]
struct WindowMapping {
    mapping: u32,
    client: ClientAddr,
    tag: ClientHash,
    time: Timestamp,
    resolution: Resolution,
    tainted: bool,
    /// What is known of its exchange, or [`NIL`].
    facts: u32,
    /// Set aside before: to skip it once more is no surprise.
    given_up: bool,
    standing: WindowStanding,
}

/// What a mapping in view is to the line that is decided now.
#[derive(Clone, Copy, PartialEq, Eq)]
enum WindowStanding {
    /// An earlier line of the view took it.
    Taken,
    /// The line could have it.
    Possible,
    /// Its time or its delay rule it out.
    RuledOut,
}

impl<T> Attributor<T> {
    /// Several lines or several mappings: the cheapest assignment of those in view.
    pub(crate) fn decide_together(&mut self, group: u32) -> LineVerdict {
        let mut view = std::mem::take(&mut self.view);
        self.look(group, &mut view);
        self.weigh(group, &mut view);
        self.watch_turns(&view);
        let chosen = view.costs.solve();
        let latest = view.rows[0].asked.time.offset_by(self.wait / 2);
        let crowded = view.rows.len() < self.outstanding.group(group).lines as usize;
        let mut verdict = None;
        for (row, chosen) in
            chosen.into_iter().enumerate().take(if crowded { costs::WINDOW_DECIDED } else { 1 })
        {
            let WindowLine { index, asked } = view.rows[row];
            if row > 0 && asked.time > latest {
                break;
            }
            let next = self.held[index].next;
            let found = if let Some(column) = chosen {
                let verdict = self.judge_chosen(group, &mut view, row, column);
                self.consume(group, view.columns[column].mapping, next);
                verdict
            } else {
                let verdict = self.judge_none(group, &view);
                self.leave_group(group, next);
                verdict
            };
            if row == 0 {
                verdict = Some(found);
            } else {
                self.keep_early(index, found);
            }
        }
        self.view = view;
        verdict.unwrap_or_else(|| nothing(Reason::NoMapping))
    }

    /// A line goes without, though others of its group may not: what they get is a guess from now on.
    fn judge_none(&mut self, group: u32, view: &AssignmentWindow) -> LineVerdict {
        for column in view.columns.iter().filter(|column| column.standing != WindowStanding::Taken)
        {
            self.outstanding.taint(column.mapping);
        }
        let RequestGroup { mappings, lines, .. } = *self.outstanding.group(group);
        let reason = if lines > mappings { Reason::NoMapping } else { Reason::NoneFits };
        LineVerdict { candidates: mappings, ..nothing(reason) }
    }

    /// The group's first lines, and the first of its mappings that these could have. Where a
    /// server's delays are well known, those that are far too old are left out, unless there is
    /// nothing else.
    fn look(&self, group: u32, view: &mut AssignmentWindow) {
        let asked = self.held[0].asked;
        let delays = &self.states[asked.server as usize].delays;
        self.look_at_lines(group, view);
        view.columns.clear();
        if delays.is_settled() {
            self.look_at_mappings(group, view, |waiting| {
                let delay = asked.time.micros_since(waiting.time);
                match waiting.facts {
                    NIL => delay <= 0 || !delays.is_unusual(delay),
                    facts => {
                        delay <= 0
                            || waiting.is_pending()
                            || self.exchanges.get(facts).is_cut()
                            || !self.is_unusual_end(&asked, delay)
                    }
                }
            });
        }
        if view.columns.is_empty() {
            self.look_at_mappings(group, view, |_| true);
        }
        // Those that were set aside came last, and are older.
        view.columns.sort_by_key(|column| column.time);
    }

    fn look_at_lines(&self, group: u32, view: &mut AssignmentWindow) {
        view.rows.clear();
        let mut next = self.outstanding.group(group).first_line;
        while next != LAST
            && view.rows.len() < costs::WINDOW_LINES
            && let Ok(index) = usize::try_from(next - self.first_held)
        {
            view.rows.push(WindowLine { index, asked: self.held[index].asked });
            next = self.held[index].next;
        }
    }

    fn look_at_mappings(
        &self,
        group: u32,
        view: &mut AssignmentWindow,
        suits: impl Fn(&WaitingMapping) -> bool,
    ) {
        let asked = view.rows[0].asked;
        let latest = view.rows.last().map_or(asked, |row| row.asked);
        view.complete = true;
        for (step, mapping) in self.outstanding.candidates(group).enumerate() {
            if view.columns.len() == costs::WINDOW_MAPPINGS || step == costs::GROUP_SCAN {
                view.complete = false;
                break;
            }
            let waiting = self.outstanding.get(mapping);
            if self.cannot_be(waiting, &latest) || !suits(waiting) {
                continue;
            }
            view.columns.push(WindowMapping {
                mapping,
                client: waiting.client,
                tag: waiting.tag,
                time: waiting.time,
                resolution: waiting.resolution,
                tainted: waiting.tainted,
                facts: waiting.facts,
                given_up: waiting.stale,
                standing: WindowStanding::RuledOut,
            });
        }
        // Where the last one is too young for the first line, so are those behind it.
        if let Some(last) = view.columns.last() {
            let delay = asked.time.micros_since(last.time);
            view.complete |= delay < 0 && !self.is_ordinary(asked.server, delay);
        }
    }

    /// What each pair in view costs.
    fn weigh(&self, group: u32, view: &mut AssignmentWindow) {
        let horizon = self.horizon(group, view);
        let AssignmentWindow { rows, columns, costs, rarities, .. } = view;
        let state = &self.states[rows[0].asked.server as usize];
        let of_exchanges = self.outstanding.group(group).of_exchanges;
        let crossed =
            if of_exchanges { costs::EXCHANGES_CROSSED } else { state.turns.crossing_cost() };
        let other = OtherCosts { unmatched: state.unmatched_cost(), crossed };
        let skips =
            columns.iter().map(|column| if column.given_up { 0 } else { costs::MAPPING_SKIPPED });
        costs.reset(rows.len(), skips, other);
        rarities.clear();
        rarities.extend(rows.iter().map(|row| self.habits.rarity(row.asked.user_agent)));
        // Coarse stamps make most delays of a group the same one.
        let (mut last_delay, mut last_cost) = (0, state.delays.cost(0));
        let mut turn = 0;
        for (place, column) in columns.iter().enumerate() {
            // Where a server keeps order, a line takes a mapping whose turn is near its own.
            let near = if other.crossed < costs::ORDER_FREE || column.given_up {
                0..rows.len()
            } else {
                turn += 1;
                usize::saturating_sub(turn, costs::PLACES_AHEAD).min(rows.len())
                    ..rows.len().min(turn + costs::PLACES_BEHIND)
            };
            if near.is_empty() {
                continue;
            }
            let known = self.habits.known(column.tag);
            let saved = state.delays.saved(horizon.micros_since(column.time));
            for row in near {
                let (WindowLine { asked, .. }, rarity) = (&rows[row], &rarities[row]);
                let delay = asked.time.micros_since(column.time);
                if self.cannot_be(self.outstanding.get(column.mapping), asked) {
                    continue;
                }
                if column.facts != NIL {
                    let waited = horizon.micros_since(column.time);
                    costs.set(row, place, self.cost_of_exchange(column, asked, waited));
                    continue;
                }
                if delay != last_delay {
                    (last_delay, last_cost) = (delay, state.delays.cost(delay));
                }
                costs.set(row, place, last_cost - saved + i64::from(known.cost(rarity)));
            }
        }
    }

    /// What it costs that a line is of an exchange.
    fn cost_of_exchange(&self, column: &WindowMapping, asked: &HeldLine, waited: i64) -> i64 {
        let facts = self.exchanges.get(column.facts);
        let state = &self.states[asked.server as usize];
        let delay = asked.time.micros_since(column.time);
        let delay = if !facts.ended {
            costs::END_UNSEEN
        } else if asked.resolution == Resolution::Second {
            let span = self.span_of_ends(asked);
            span.cost(delay) - span.saved(waited)
        } else {
            state.delays.cost(delay) - state.delays.saved(waited)
        };
        let delay = if facts.is_cut() { delay.min(costs::END_UNSEEN) } else { delay };
        delay + state.agreement.cost(facts, asked)
    }

    /// Until when all lines of a group are in view: now, or where there are too many of them the
    /// time of the last one in view.
    fn horizon(&self, group: u32, view: &AssignmentWindow) -> Timestamp {
        let now = self.now.max(view.rows[0].asked.time);
        if view.rows.len() == self.outstanding.group(group).lines as usize {
            return now;
        }
        view.rows.last().map_or(now, |last| last.asked.time)
    }

    /// Learns from the first two lines and mappings of a group whether equal requests are answered in
    /// order, if the User-Agents leave no doubt which is whose.
    fn watch_turns(&mut self, view: &AssignmentWindow) {
        let ([first, second, ..], [a, b, ..], [one, two, ..]) =
            (&*view.rows, &*view.columns, &*view.rarities)
        else {
            return;
        };
        if first.asked.user_agent == second.asked.user_agent || b.time > first.asked.time {
            return;
        }
        let (known_a, known_b) = (self.habits.known(a.tag), self.habits.known(b.tag));
        let straight = known_a.cost(one) + known_b.cost(two);
        let crossed = known_b.cost(one) + known_a.cost(two);
        if straight.min(crossed) > costs::ORDER_AGENTS
            || (straight - crossed).abs() < costs::ORDER_AGENTS_LEAD
        {
            return;
        }
        let state = &mut self.states[first.asked.server as usize];
        let delay = |row: &WindowLine, column: &WindowMapping| {
            state.delays.cost(row.asked.time.micros_since(column.time))
        };
        let against = delay(first, b) + delay(second, a) - delay(first, a) - delay(second, b);
        state.turns.learn(crossed < straight, against);
    }

    /// Says how sure the chosen one of several candidates is, and what follows for the others.
    fn judge_chosen(
        &mut self,
        group: u32,
        view: &mut AssignmentWindow,
        row: usize,
        chosen: usize,
    ) -> LineVerdict {
        let asked = view.rows[row].asked;
        let WindowMapping { mapping, client, tag, time, tainted, .. } = view.columns[chosen];
        let delay = asked.time.micros_since(time);
        let RequestGroup { lines, mappings, mixed, .. } = *self.outstanding.group(group);
        let mut same = view.complete || !mixed;
        let mut total = 0;
        for column in &mut view.columns {
            if column.standing == WindowStanding::Taken {
                continue;
            }
            let possible = if column.facts == NIL {
                !self.is_impossible((column.time, column.resolution), &asked)
                    && self.is_ordinary(asked.server, asked.time.micros_since(column.time))
            } else {
                self.may_be_of_exchange(column, &asked)
            };
            column.standing =
                if possible { WindowStanding::Possible } else { WindowStanding::RuledOut };
            if possible {
                total += 1;
                same &= column.client == client && !column.tainted;
            }
        }
        same &= view.columns[chosen].standing == WindowStanding::Possible;
        let fit = self.habits.fit(tag, asked.user_agent);
        let state = &self.states[asked.server as usize];
        let of_exchange = view.columns[chosen].facts != NIL;
        let doubt = lines > mappings
            || tainted
            || (!of_exchange && (fit == AgentFit::Other || state.delays.is_unusual(delay)))
            || state.misses_mappings()
            || self.may_be_sealed(&asked);

        // What is learnt of clients rests on the pair alone: order has its say in the choice.
        let mut weighed = None;
        let (certainty, reason, probability) = match (same, doubt) {
            (true, false) if total == 1 => (Certainty::Certain, Reason::Only, 1_000),
            (true, false) => (Certainty::Certain, Reason::SameClient, 1_000),
            (true, true) => {
                let facts = of_exchange.then(|| *self.exchanges.get(view.columns[chosen].facts));
                let probability = self.judge_doubtful(tag, facts, &asked);
                (Certainty::Likely, Reason::Doubtful, probability)
            }
            (false, _) => {
                let reason = if fit == AgentFit::Same { Reason::UserAgent } else { Reason::Order };
                let step = if of_exchange {
                    costs::EXCHANGES_OUT_OF_ORDER
                } else {
                    state.turns.crossing_cost()
                };
                let costs = view.costs.of_line(row);
                weighed = Some(probability(chosen, &view.columns, costs, 0));
                (Certainty::Likely, reason, probability(chosen, &view.columns, costs, step))
            }
        };
        let weighed = weighed.unwrap_or(probability);
        let weight = guess_weight(weighed);
        match (certainty, reason) {
            (Certainty::Certain, _) if of_exchange => {
                self.learn_exchange(mapping, &asked);
            }
            (Certainty::Certain, _) => {
                self.habits.learn(tag, asked.user_agent, costs::PROFILE_CERTAIN);
            }
            (_, Reason::UserAgent) if weighed >= costs::GUESS_TEACHES => {
                self.learn(mapping, &asked, weight);
            }
            _ => self.habits.learn(tag, asked.user_agent, weight),
        }
        if !same {
            self.pass_over(group, view, chosen);
        }
        view.columns[chosen].standing = WindowStanding::Taken;
        LineVerdict {
            client: Some(client),
            certainty,
            candidates: total.max(1),
            reason,
            delay: Some(delay),
            probability,
        }
    }

    /// Whether nothing speaks against it that a line is of an exchange.
    fn may_be_of_exchange(&self, column: &WindowMapping, asked: &HeldLine) -> bool {
        let facts = self.exchanges.get(column.facts);
        let state = &self.states[asked.server as usize];
        let delay = asked.time.micros_since(column.time);
        !self.cannot_be(self.outstanding.get(column.mapping), asked)
            && (!facts.ended || facts.is_cut() || !self.is_unusual_end(asked, delay))
            && state.agreement.cost(facts, asked) <= costs::ODD_RESPONSE
    }

    /// One of several was preferred: those that could have been are tainted, those before it have
    /// been passed over once more.
    fn pass_over(&mut self, group: u32, view: &mut AssignmentWindow, chosen: usize) {
        for (place, column) in view.columns.iter_mut().enumerate() {
            if column.standing == WindowStanding::Taken || place == chosen {
                continue;
            }
            if column.standing == WindowStanding::Possible && !column.tainted {
                column.tainted = true;
                self.outstanding.taint(column.mapping);
            }
            if place < chosen {
                self.outstanding.pass_over(group, column.mapping);
            }
        }
    }
}

/// The share of the evidence that speaks for the chosen one's client, in thousandths, never certainty.
/// Its neighbours stand for all: what is further off is no rival. `step` is what it costs to take a turn that is one
/// further off: it was chosen as a part of the whole, and another in its place would put lines out of order.
fn probability(chosen: usize, columns: &[WindowMapping], costs: &[i64], step: i64) -> u16 {
    let near = chosen.saturating_sub(costs::PLACES_BEHIND)
        ..columns.len().min(chosen + costs::PLACES_AHEAD);
    let WindowMapping { client, .. } = columns[chosen];
    let is_open = |place: &usize| columns[*place].standing != WindowStanding::Taken;
    let turns = |place: usize| {
        let between = if place < chosen { place..chosen } else { chosen + 1..place + 1 };
        between.filter(is_open).count()
    };
    let cost = |place: usize| {
        let turns = i64::try_from(turns(place)).unwrap_or(i64::MAX);
        costs[place].saturating_add(turns.saturating_mul(step))
    };
    let open = || near.clone().filter(is_open);
    let best = open().map(cost).min().unwrap_or(0);
    let (mut all, mut ours) = (0, 0);
    for place in open() {
        let weight = weight(cost(place) - best);
        all += weight;
        if columns[place].client == client {
            ours += weight;
        }
    }
    u16::try_from(ours * 1_000 / all.max(1)).unwrap_or(1_000).clamp(1, costs::GUESS_CEILING)
}
