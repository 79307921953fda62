//! How a line's client is decided: alone where there is one mapping and one line, else together
//! with the next lines of its group, over the mappings that they could have.

use super::assign::{Costs, IMPOSSIBLE, MAX_LINES, MAX_MAPPINGS};
use super::engine::{Asked, Attributor};
use super::habits::{CERTAIN, Fit};
use super::outstanding::{Group, Waiting};
use super::{Certainty, Reason, Verdict};
use crate::addr::ClientAddr;
use crate::time::{Resolution, Timestamp};

/// How many mappings of a group are looked at in search of those that a line could have.
const MAX_STEPS: usize = 64;

/// How many lines are decided at once where a group has more than are in view: the rest of the
/// view has done its part for them.
const AT_ONCE: usize = 4;

/// The lines and mappings of a group that are decided together.
struct View {
    lines: [Row; MAX_LINES],
    line_count: usize,
    mappings: [Column; MAX_MAPPINGS],
    mapping_count: usize,
    /// Whether no mapping is left out that the first line could have.
    complete: bool,
}

/// A line in view.
#[derive(Clone, Copy)]
struct Row {
    /// Its place among the lines held.
    index: usize,
    asked: Asked,
}

/// A mapping in view.
#[derive(Clone, Copy)]
struct Column {
    mapping: u32,
    client: ClientAddr,
    time: Timestamp,
    resolution: Resolution,
    ordinal: u32,
    tainted: bool,
    taken: bool,
}

impl View {
    fn rows(&self) -> &[Row] {
        &self.lines[..self.line_count]
    }

    fn columns(&self) -> &[Column] {
        &self.mappings[..self.mapping_count]
    }
}

impl<T> Attributor<T> {
    /// Decides the oldest held line, and takes the mapping that explains it.
    pub(super) fn decide(&mut self) -> Verdict {
        let Some(group) = self.held[0].group else { return nothing(Reason::NoRequest) };
        let members = self.outstanding.group(group);
        let verdict = match (members.mappings, members.lines) {
            (0, _) => nothing(Reason::NoMapping),
            (1, 1) => self.decide_alone(group),
            _ => return self.decide_group(group),
        };
        self.leave_group(0);
        verdict
    }

    /// One line, one mapping.
    fn decide_alone(&mut self, group: u32) -> Verdict {
        let Some(mapping) = self.outstanding.candidates(group).next() else {
            return nothing(Reason::NoMapping);
        };
        let asked = self.held[0].asked;
        let waiting = self.outstanding.get(mapping);
        let (client, time, resolution) = (waiting.client, waiting.time, waiting.resolution);
        if self.is_impossible((time, resolution), &asked) {
            return nothing(Reason::NoMapping);
        }
        let delay = asked.time.micros_since(time);
        let odd = waiting.tainted || self.is_odd(client, delay, &asked);
        let doubt = odd || self.states[asked.server as usize].misses_mappings();
        if !odd {
            self.learn(mapping, &asked, CERTAIN);
        }
        self.take(mapping);
        let (certainty, reason, probability) = if doubt {
            (Certainty::Likely, Reason::Doubtful, 800)
        } else {
            (Certainty::Certain, Reason::Only, 1_000)
        };
        Verdict {
            client: Some(client),
            certainty,
            candidates: 1,
            reason,
            delay: Some(delay),
            probability,
        }
    }

    /// Several lines or several mappings: the cheapest assignment of those in view.
    fn decide_group(&mut self, group: u32) -> Verdict {
        self.set_stale_aside(group);
        let mut view = self.view(group);
        let costs = self.costs(&view, group);
        let chosen = costs.solve();
        let first = view.lines[0].asked.time;
        let crowded = view.line_count < self.outstanding.group(group).lines as usize;
        let half = self.wait / 2;
        let mut verdict = None;
        let at_once = if crowded { AT_ONCE } else { 1 };
        for (row, chosen) in chosen.into_iter().enumerate().take(at_once) {
            let Row { index, asked } = view.lines[row];
            if asked.time > first.offset_by(half) {
                break;
            }
            let found = match chosen {
                Some(column) => self.take_chosen(group, &mut view, (row, column), &costs.pair[row]),
                None => self.none_of(group),
            };
            self.leave_group(index);
            if row == 0 {
                verdict = Some(found);
            } else {
                self.held[index].verdict = Some(found);
            }
        }
        verdict.unwrap_or_else(|| nothing(Reason::NoMapping))
    }

    fn none_of(&self, group: u32) -> Verdict {
        let Group { mappings, lines, .. } = *self.outstanding.group(group);
        let reason = if lines > mappings { Reason::NoMapping } else { Reason::NoneFits };
        Verdict { candidates: mappings, ..nothing(reason) }
    }

    /// Mappings far older than this server's lines ever are stand back for the others.
    fn set_stale_aside(&mut self, group: u32) {
        let asked = self.held[0].asked;
        let delays = &self.states[asked.server as usize].delays;
        self.outstanding.set_aside(group, |waiting| {
            let delay = asked.time.micros_since(waiting.time);
            delay > 0 && delays.is_unusual(delay)
        });
    }

    /// The group's first lines, and the first of its mappings that these could have. Where a
    /// server's delays are well known, those that are far too old are left out, unless there is
    /// nothing else.
    fn view(&self, group: u32) -> View {
        let asked = self.held[0].asked;
        let delays = &self.states[asked.server as usize].delays;
        let nobody = Column {
            mapping: 0,
            client: ClientAddr::Unix,
            time: Timestamp::MIN,
            resolution: Resolution::Second,
            ordinal: 0,
            tainted: false,
            taken: false,
        };
        let mut view = View {
            lines: [Row { index: 0, asked }; MAX_LINES],
            line_count: 0,
            mappings: [nobody; MAX_MAPPINGS],
            mapping_count: 0,
            complete: true,
        };
        self.see_lines(group, &mut view);
        if delays.is_settled() {
            self.see_mappings(group, &mut view, |waiting| {
                let delay = asked.time.micros_since(waiting.time);
                delay <= 0 || !delays.is_unusual(delay)
            });
        }
        if view.mapping_count == 0 {
            self.see_mappings(group, &mut view, |_| true);
        }
        view
    }

    fn see_lines(&self, group: u32, view: &mut View) {
        let mut next = Some(self.outstanding.group(group).first_line);
        for row in &mut view.lines {
            let Some(number) = next else { break };
            let Ok(index) = usize::try_from(number - self.first_held) else { break };
            *row = Row { index, asked: self.held[index].asked };
            view.line_count += 1;
            next = self.held[index].next;
        }
    }

    fn see_mappings(&self, group: u32, view: &mut View, suits: impl Fn(&Waiting) -> bool) {
        let asked = view.lines[0].asked;
        let latest = view.rows().last().map_or(asked, |row| row.asked);
        view.complete = true;
        for (step, mapping) in self.outstanding.candidates(group).enumerate() {
            if view.mapping_count == MAX_MAPPINGS || step == MAX_STEPS {
                view.complete = false;
                break;
            }
            let waiting = self.outstanding.get(mapping);
            let time = (waiting.time, waiting.resolution);
            if self.is_impossible(time, &latest) || !suits(waiting) {
                continue;
            }
            view.mappings[view.mapping_count] = Column {
                mapping,
                client: waiting.client,
                time: waiting.time,
                resolution: waiting.resolution,
                ordinal: waiting.ordinal,
                tainted: waiting.tainted,
                taken: false,
            };
            view.mapping_count += 1;
        }
        // Where the last one is too young for the first line, so are those behind it.
        if let Some(last) = view.columns().last() {
            view.complete |= last.time > asked.time && !self.is_ordinary(last, &asked);
        }
    }

    fn costs(&self, view: &View, group: u32) -> Costs {
        let state = &self.states[view.lines[0].asked.server as usize];
        let horizon = self.horizon(group, view);
        let mut costs = Costs {
            pair: [[IMPOSSIBLE; MAX_MAPPINGS]; MAX_LINES],
            unmatched: state.unmatched_cost(),
            lines: view.line_count,
            mappings: view.mapping_count,
        };
        let order = state.order.scale();
        let rows = view.lines.map(|row| row.asked);
        let agents = rows.map(|asked| self.habits.rarity(asked.user_agent));
        let ordinals = rows.map(|asked| asked.ordinal);
        // Coarse stamps make most delays of a group the same one.
        let (mut last_delay, mut last_cost) = (0, state.delays.cost(0));
        for (place, column) in view.columns().iter().enumerate() {
            let agent_costs = self.habits.known(column.client).costs(&agents);
            let order_costs = order.costs(column.ordinal, &ordinals);
            let saved = state.delays.saved(horizon.micros_since(column.time));
            for (row, asked) in rows[..view.line_count].iter().enumerate() {
                let delay = asked.time.micros_since(column.time);
                if delay < 0 && self.is_impossible((column.time, column.resolution), asked) {
                    continue;
                }
                if delay != last_delay {
                    (last_delay, last_cost) = (delay, state.delays.cost(delay));
                }
                let is_coarse = asked.resolution.max(column.resolution) == Resolution::Second;
                let order_cost = if is_coarse { order_costs[row] } else { 0 };
                let turn = i64::try_from(row.abs_diff(place)).unwrap_or(0);
                costs.pair[row][place] =
                    last_cost - saved + i64::from(agent_costs[row] + order_cost) + turn;
            }
        }
        costs
    }

    /// Until when all lines of a group are in view: now, or where there are too many of them the
    /// time of the last one in view.
    fn horizon(&self, group: u32, view: &View) -> Timestamp {
        let now = self.now.max(view.lines[0].asked.time);
        if view.line_count == self.outstanding.group(group).lines as usize {
            return now;
        }
        view.rows().last().map_or(now, |last| last.asked.time)
    }

    /// Takes the chosen one of several candidates, and says how sure that is.
    fn take_chosen(
        &mut self,
        group: u32,
        view: &mut View,
        (row, chosen): (usize, usize),
        costs: &[i64; MAX_MAPPINGS],
    ) -> Verdict {
        let asked = view.lines[row].asked;
        let Column { mapping, client, time, .. } = view.mappings[chosen];
        let delay = asked.time.micros_since(time);
        let mut could = [false; MAX_MAPPINGS];
        for (could, column) in could.iter_mut().zip(view.columns()) {
            *could = !column.taken
                && !self.is_impossible((column.time, column.resolution), &asked)
                && self.is_ordinary(column, &asked);
        }
        let possible = view.columns().iter().zip(could).filter(|&(_, could)| could);
        let total = possible.clone().count();
        let Group { lines, mappings, mixed, .. } = *self.outstanding.group(group);
        let same = (view.complete || !mixed)
            && could[chosen]
            && possible.clone().all(|(other, _)| other.client == client && !other.tainted);
        let doubt = lines > mappings
            || view.mappings[chosen].tainted
            || self.is_odd(client, delay, &asked)
            || self.states[asked.server as usize].misses_mappings();

        let (certainty, reason, probability) = match (same, doubt) {
            (true, false) if total == 1 => (Certainty::Certain, Reason::Only, 1_000),
            (true, false) => (Certainty::Certain, Reason::SameClient, 1_000),
            (true, true) => (Certainty::Likely, Reason::Doubtful, 800),
            (false, _) => {
                let reason = match self.fit(client, &asked) {
                    Fit::Same => Reason::UserAgent,
                    Fit::Unknown | Fit::Other => Reason::Order,
                };
                (Certainty::Likely, reason, probability(client, view.columns(), costs))
            }
        };
        let weight = u8::try_from(probability * u16::from(CERTAIN) / 1_100).unwrap_or(0);
        match (certainty, reason) {
            (Certainty::Certain, _) => self.learn_agent(client, &asked, CERTAIN),
            (_, Reason::UserAgent) if probability >= 900 => self.learn(mapping, &asked, weight),
            _ => self.learn_agent(client, &asked, weight),
        }
        if !same {
            self.pass_over(group, view, &could, chosen);
        }
        view.mappings[chosen].taken = true;
        self.take(mapping);
        Verdict {
            client: Some(client),
            certainty,
            candidates: u32::try_from(total).unwrap_or(u32::MAX).max(1),
            reason,
            delay: Some(delay),
            probability,
        }
    }

    /// One of several was preferred: those that could have been are tainted, those before it have
    /// been passed over once more.
    fn pass_over(
        &mut self,
        group: u32,
        view: &mut View,
        could: &[bool; MAX_MAPPINGS],
        chosen: usize,
    ) {
        for (place, column) in view.mappings[..view.mapping_count].iter_mut().enumerate() {
            if column.taken || place == chosen {
                continue;
            }
            if could[place] {
                column.tainted = true;
                self.outstanding.taint(column.mapping);
            }
            if place < chosen {
                self.outstanding.pass_over(group, column.mapping);
            }
        }
    }

    /// A mapping must precede its line, but for coarse stamps and late arrival.
    fn is_impossible(&self, (time, resolution): (Timestamp, Resolution), asked: &Asked) -> bool {
        let step = asked.resolution.max(resolution).micros();
        time > asked.time.offset_by(self.wait + step - 1)
    }

    /// Whether the delay does not rule the pair out.
    fn is_ordinary(&self, column: &Column, asked: &Asked) -> bool {
        let delays = &self.states[asked.server as usize].delays;
        !delays.is_settled() || !delays.is_unusual(asked.time.micros_since(column.time))
    }

    /// Whether the pair itself is out of the ordinary.
    fn is_odd(&self, client: ClientAddr, delay: i64, asked: &Asked) -> bool {
        self.states[asked.server as usize].delays.is_unusual(delay)
            || self.fit(client, asked) == Fit::Other
    }

    fn fit(&self, client: ClientAddr, asked: &Asked) -> Fit {
        asked.user_agent.map_or(Fit::Unknown, |agent| self.habits.fit(client, agent))
    }

    /// Learns from a line and the mapping that it is about to take.
    fn learn(&mut self, mapping: u32, asked: &Asked, weight: u8) {
        let waiting = self.outstanding.get(mapping);
        let delay = asked.time.micros_since(waiting.time);
        let state = &mut self.states[asked.server as usize];
        state.delays.learn(delay, asked.resolution.max(waiting.resolution));
        state.order.learn(waiting.ordinal, asked.ordinal);
        self.learn_agent(waiting.client, asked, weight);
    }

    fn learn_agent(&mut self, client: ClientAddr, asked: &Asked, weight: u8) {
        if let Some(agent) = asked.user_agent {
            self.habits.learn(client, agent, weight);
        }
    }
}

/// The share of the evidence that speaks for `client`, in thousandths, never certainty.
fn probability(client: ClientAddr, columns: &[Column], costs: &[i64]) -> u16 {
    let open = || columns.iter().zip(costs).filter(|(column, _)| !column.taken);
    let best = open().map(|(_, &cost)| cost).min().unwrap_or(0);
    let (mut all, mut ours) = (0, 0);
    for (column, &cost) in open() {
        let weight = weight(cost - best);
        all += weight;
        if column.client == client {
            ours += weight;
        }
    }
    u16::try_from(ours * 1_000 / all.max(1)).unwrap_or(1_000).clamp(1, 990)
}

/// 2^16 times e to the power of minus `cost` thousandths, to within a few parts in a hundred.
fn weight(cost: i64) -> u64 {
    // A thousandth of a natural logarithm is 1.4427 thousandths of one to base 2.
    let halvings = cost.saturating_mul(1_477) / 1_000;
    let (whole, part) = (halvings >> 10, (halvings & 1_023).unsigned_abs());
    let Some(scale) = u32::try_from(whole).ok().filter(|&scale| scale < 17) else { return 0 };
    // Between two powers of two the curve is close to a straight line.
    ((1 << 16) - (part << 5)) >> scale
}

/// No client, for this reason.
pub(super) const fn nothing(reason: Reason) -> Verdict {
    Verdict {
        client: None,
        certainty: Certainty::None,
        candidates: 0,
        reason,
        delay: None,
        probability: 0,
    }
}
