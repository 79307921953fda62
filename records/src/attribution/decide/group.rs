//! Assignment window: the first lines and mappings of a group side by side, and the cheapest assignment of
//! mappings to lines. For groups in which no line can be decided by itself.

use super::assign::{AssignmentCosts, OtherCosts};
use super::pair;
use crate::addr::ClientAddr;
use crate::attribution::costs;
use crate::attribution::learnt::Learnt;
use crate::attribution::learnt::server::LearntServer;
use crate::attribution::learnt::user_agents::{AgentFit, AgentRarity, guess_weight};
use crate::attribution::line::{HeldLine, LineNumber};
use crate::attribution::memory::Memory;
use crate::attribution::memory::client::ClientHash;
use crate::attribution::memory::facts::{ExchangeFacts, FactsSlot};
use crate::attribution::memory::mappings::{GroupSlot, MappingSlot, RequestGroup, WaitingMapping};
use crate::attribution::odds::weight;
use crate::attribution::queue::LineQueue;
use crate::attribution::verdict::{Certainty, LineVerdict, MatchConfidence, Reason};
use crate::time::{Resolution, Timestamp};

/// The lines and mappings of a group that are decided together; kept from decision to decision for its
/// allocations.
#[derive(Default)]
pub(crate) struct AssignmentWindow {
    lines: Vec<WindowLine>,
    /// In time order.
    mappings: Vec<WindowMapping>,
    /// Whether the window has all mappings that the first line could have.
    complete: bool,
    costs: AssignmentCosts,
    /// Of the User-Agent of each line.
    rarities: Vec<AgentRarity>,
}

/// A line in the window.
#[derive(Clone, Copy)]
struct WindowLine {
    number: LineNumber,
    line: HeldLine,
}

/// A mapping in the window.
#[derive(Clone, Copy)]
struct WindowMapping {
    mapping: MappingSlot,
    client: ClientAddr,
    client_hash: ClientHash,
    time: Timestamp,
    resolution: Resolution,
    contested: bool,
    /// Facts about the exchange, if known.
    facts: Option<FactsSlot>,
    /// Whether the mapping was deferred before: to skip it once more costs nothing.
    deferred: bool,
    standing: WindowStanding,
}

/// What a mapping in the window is to the line being decided.
#[derive(Clone, Copy, PartialEq, Eq)]
enum WindowStanding {
    /// An earlier line of the window took the mapping.
    Taken,
    /// The line could have the mapping.
    Possible,
    /// Time or delay rule the mapping out.
    RuledOut,
}

/// Decides the oldest held line, which waits in `group`, by the cheapest assignment. Where the group has more
/// lines than the window holds, the first lines are decided at once.
pub(super) fn decide<T>(
    queue: &mut LineQueue<T>,
    memory: &mut Memory,
    learnt: &mut Learnt,
    window: &mut AssignmentWindow,
    group: GroupSlot,
) -> LineVerdict {
    window.fill(queue, memory, learnt, group);
    window.weigh(memory, learnt, group);
    window.watch_order(learnt);
    let chosen = window.costs.solve();
    let latest = window.lines[0].line.time.offset_by(memory.wait / 2);
    let crowded = window.lines.len() < memory.mappings.group(group).lines as usize;
    let decided = if crowded { costs::WINDOW_DECIDED } else { 1 };
    let mut verdict = None;
    for (place, chosen) in chosen.into_iter().enumerate().take(decided) {
        let WindowLine { number, line } = window.lines[place];
        if place > 0 && line.time > latest {
            break;
        }
        let next = queue.next_of(number);
        let found = if let Some(chosen) = chosen {
            let found = window.judge(memory, learnt, group, place, chosen);
            memory.consume(group, window.mappings[chosen].mapping, next);
            found
        } else {
            let found = window.judge_unmatched(memory, group);
            memory.leave_group(group, next);
            found
        };
        if place == 0 {
            verdict = Some(found);
        } else {
            queue.keep_early(number, found);
        }
    }
    verdict.unwrap_or(LineVerdict::unmatched(Reason::NoMapping))
}

impl AssignmentWindow {
    /// Takes the group's first lines into the window, and the first mappings that these could have. Mappings
    /// with a well-known unusual delay are left out, unless there are no others.
    fn fill<T>(
        &mut self,
        queue: &LineQueue<T>,
        memory: &Memory,
        learnt: &Learnt,
        group: GroupSlot,
    ) {
        let line = queue.front_line();
        let server = &learnt.servers[line.server as usize];
        let delays = &server.delays;
        let lines = queue.lines_of_group(memory.mappings.group(group).first_line);
        let lines = lines.take(costs::WINDOW_LINES);
        self.lines.clear();
        self.lines.extend(lines.map(|(number, &line)| WindowLine { number, line }));
        self.mappings.clear();
        if delays.is_settled() {
            self.fill_mappings(memory, server, group, |waiting| {
                let delay = line.time.micros_since(waiting.time);
                match waiting.facts {
                    None => delay <= 0 || !delays.is_unusual(delay),
                    Some(facts) => {
                        delay <= 0
                            || waiting.is_pending()
                            || memory.exchanges.get(facts).is_cut()
                            || !server.is_unusual_end(&line, delay)
                    }
                }
            });
        }
        if self.mappings.is_empty() {
            self.fill_mappings(memory, server, group, |_| true);
        }
        // Deferred mappings came last, and are older.
        self.mappings.sort_by_key(|mapping| mapping.time);
    }

    fn fill_mappings(
        &mut self,
        memory: &Memory,
        server: &LearntServer,
        group: GroupSlot,
        suits: impl Fn(&WaitingMapping) -> bool,
    ) {
        let first = self.lines[0].line;
        let latest = self.lines.last().map_or(first, |last| last.line);
        self.complete = true;
        for (step, mapping) in memory.mappings.candidates(group).enumerate() {
            if self.mappings.len() == costs::WINDOW_MAPPINGS || step == costs::GROUP_SCAN {
                self.complete = false;
                break;
            }
            let waiting = memory.mappings.get(mapping);
            let is_other = |it: &WindowLine| pair::differs(memory, server, waiting, &it.line);
            if memory.cannot_be(waiting, &latest)
                || !suits(waiting)
                || self.lines.iter().all(is_other)
            {
                continue;
            }
            self.mappings.push(WindowMapping {
                mapping,
                client: waiting.client,
                client_hash: waiting.client_hash,
                time: waiting.time,
                resolution: waiting.resolution,
                contested: waiting.contested,
                facts: waiting.facts,
                deferred: waiting.deferred,
                standing: WindowStanding::RuledOut,
            });
        }
        // Where the last mapping is too young for the first line, so are the mappings behind it.
        if let Some(last) = self.mappings.last() {
            let delay = first.time.micros_since(last.time);
            self.complete |= delay < 0 && !server.is_ordinary(delay);
        }
    }

    /// Sets the cost of each pair in the window.
    fn weigh(&mut self, memory: &Memory, learnt: &Learnt, group: GroupSlot) {
        let horizon = self.horizon(memory, group);
        let Self { lines, mappings, costs: pairs, rarities, .. } = self;
        let server = &learnt.servers[lines[0].line.server as usize];
        let of_exchanges = memory.mappings.group(group).of_exchanges;
        let crossed =
            if of_exchanges { costs::EXCHANGES_CROSSED } else { server.order.crossing_cost() };
        let other = OtherCosts { unmatched: server.unmatched_cost(), crossed };
        let skips = mappings
            .iter()
            .map(|mapping| if mapping.deferred { 0 } else { costs::MAPPING_SKIPPED });
        pairs.reset(lines.len(), skips, other);
        rarities.clear();
        rarities.extend(lines.iter().map(|it| learnt.profiles.rarity(it.line.user_agent)));
        // Coarse stamps make most delays of a group equal.
        let (mut last_delay, mut last_cost) = (0, server.delays.cost(0));
        let mut turn = 0;
        for (place, mapping) in mappings.iter().enumerate() {
            // Where a server keeps order, a line takes a mapping near its own place.
            let near = if other.crossed < costs::ORDER_FREE || mapping.deferred {
                0..lines.len()
            } else {
                turn += 1;
                usize::saturating_sub(turn, costs::PLACES_AHEAD).min(lines.len())
                    ..lines.len().min(turn + costs::PLACES_BEHIND)
            };
            if near.is_empty() {
                continue;
            }
            let known = learnt.profiles.known(mapping.client_hash);
            let waited = horizon.micros_since(mapping.time);
            let saved = server.delays.saved(waited);
            for row in near {
                let (line, rarity) = (&lines[row].line, &rarities[row]);
                let delay = line.time.micros_since(mapping.time);
                if pair::cannot_be(memory, server, memory.mappings.get(mapping.mapping), line) {
                    continue;
                }
                if let Some(facts) = mapping.facts {
                    let facts = memory.exchanges.get(facts);
                    pairs.set(row, place, cost_of_exchange(server, facts, line, delay, waited));
                    continue;
                }
                if delay != last_delay {
                    (last_delay, last_cost) = (delay, server.delays.cost(delay));
                }
                pairs.set(row, place, last_cost - saved + i64::from(known.cost(rarity)));
            }
        }
    }

    /// Returns the time until which the window has all lines of the group: now, or where the group has more
    /// lines, the time of the window's last line.
    fn horizon(&self, memory: &Memory, group: GroupSlot) -> Timestamp {
        let now = memory.now.max(self.lines[0].line.time);
        if self.lines.len() == memory.mappings.group(group).lines as usize {
            return now;
        }
        self.lines.last().map_or(now, |last| last.line.time)
    }

    /// Learns from the first two lines and mappings whether equal requests are answered in order, if the
    /// User-Agents show which mapping is whose.
    fn watch_order(&self, learnt: &mut Learnt) {
        let ([first, second, ..], [a, b, ..], [one, two, ..]) =
            (&*self.lines, &*self.mappings, &*self.rarities)
        else {
            return;
        };
        let (first, second) = (&first.line, &second.line);
        if first.user_agent == second.user_agent || b.time > first.time {
            return;
        }
        let (known_a, known_b) =
            (learnt.profiles.known(a.client_hash), learnt.profiles.known(b.client_hash));
        let straight = known_a.cost(one) + known_b.cost(two);
        let crossed = known_b.cost(one) + known_a.cost(two);
        if straight.min(crossed) > costs::ORDER_AGENTS
            || (straight - crossed).abs() < costs::ORDER_AGENTS_LEAD
        {
            return;
        }
        let server = &mut learnt.servers[first.server as usize];
        let delay = |line: &HeldLine, mapping: &WindowMapping| {
            server.delays.cost(line.time.micros_since(mapping.time))
        };
        let against = delay(first, b) + delay(second, a) - delay(first, a) - delay(second, b);
        server.order.learn(crossed < straight, against);
    }

    /// Judges a line without a mapping. Other lines of the group may have mappings, and what they get is a
    /// guess from now on.
    fn judge_unmatched(&self, memory: &mut Memory, group: GroupSlot) -> LineVerdict {
        for mapping in self.mappings.iter().filter(|it| it.standing != WindowStanding::Taken) {
            memory.mappings.contest(mapping.mapping);
        }
        let RequestGroup { mappings, lines, .. } = *memory.mappings.group(group);
        let reason = if lines > mappings { Reason::NoMapping } else { Reason::NoneFits };
        LineVerdict { candidates: mappings, ..LineVerdict::unmatched(reason) }
    }

    /// Judges how sure the chosen mapping of a line is, learns from the pair, and marks the other candidates.
    fn judge(
        &mut self,
        memory: &mut Memory,
        learnt: &mut Learnt,
        group: GroupSlot,
        row: usize,
        chosen: usize,
    ) -> LineVerdict {
        let line = self.lines[row].line;
        let (total, same) = self.find_possible(memory, learnt, group, &line, chosen);
        let taken = self.mappings[chosen];
        let delay = line.time.micros_since(taken.time);
        let fit = learnt.profiles.fit(taken.client_hash, line.user_agent);
        let is_doubtful = is_doubtful(memory, learnt, group, &line, &taken, fit);

        // What is learnt about clients rests on the pair alone; order counts for the choice only.
        let mut by_pair = None;
        let confidence = match (same, is_doubtful) {
            (true, false) if total == 1 => MatchConfidence::certain(Reason::Only),
            (true, false) => MatchConfidence::certain(Reason::SameClient),
            (true, true) => {
                let facts = taken.facts.map(|facts| memory.exchanges.get(facts));
                let client = taken.client_hash;
                let probability = pair::doubtful_probability(learnt, client, facts, &line);
                MatchConfidence::likely(Reason::Doubtful, probability)
            }
            (false, _) => {
                let is_by_agent = fit == AgentFit::Same;
                let reason = if is_by_agent { Reason::UserAgent } else { Reason::Order };
                let order = &learnt.servers[line.server as usize].order;
                let step = match taken.facts {
                    Some(_) => costs::EXCHANGES_OUT_OF_ORDER,
                    None => order.crossing_cost(),
                };
                let pairs = self.costs.of_line(row);
                by_pair = Some(probability(chosen, &self.mappings, pairs, 0));
                MatchConfidence::likely(reason, probability(chosen, &self.mappings, pairs, step))
            }
        };
        let by_pair = by_pair.unwrap_or(confidence.probability);
        learn(memory, learnt, &line, &taken, confidence, by_pair);
        if !same {
            self.pass_over(memory, group, chosen);
        }
        self.mappings[chosen].standing = WindowStanding::Taken;
        LineVerdict::matched(taken.client, confidence, total.max(1), Some(delay))
    }

    /// Finds which mappings of the window the line could have. Returns how many, and whether all of these,
    /// and all that the window left out, surely belong to the chosen client.
    fn find_possible(
        &mut self,
        memory: &Memory,
        learnt: &Learnt,
        group: GroupSlot,
        line: &HeldLine,
        chosen: usize,
    ) -> (u32, bool) {
        let server = &learnt.servers[line.server as usize];
        let client = self.mappings[chosen].client;
        let mut same = self.complete || !memory.mappings.group(group).mixed;
        let mut total = 0;
        for mapping in &mut self.mappings {
            if mapping.standing == WindowStanding::Taken {
                continue;
            }
            if is_possible(memory, server, mapping, line) {
                mapping.standing = WindowStanding::Possible;
                total += 1;
                same &= mapping.client == client && !mapping.contested;
            } else {
                mapping.standing = WindowStanding::RuledOut;
            }
        }
        same &= self.mappings[chosen].standing == WindowStanding::Possible;
        (total, same)
    }

    /// Marks what was not chosen: possible mappings are contested, mappings before the chosen one were passed
    /// over once more.
    fn pass_over(&mut self, memory: &mut Memory, group: GroupSlot, chosen: usize) {
        for (place, mapping) in self.mappings.iter_mut().enumerate() {
            if mapping.standing == WindowStanding::Taken || place == chosen {
                continue;
            }
            if mapping.standing == WindowStanding::Possible && !mapping.contested {
                mapping.contested = true;
                memory.mappings.contest(mapping.mapping);
            }
            if place < chosen {
                memory.mappings.pass_over(group, mapping.mapping);
            }
        }
    }
}

/// Whether nothing rules out that the line belongs to the mapping.
fn is_possible(
    memory: &Memory,
    server: &LearntServer,
    mapping: &WindowMapping,
    line: &HeldLine,
) -> bool {
    let delay = line.time.micros_since(mapping.time);
    let Some(facts) = mapping.facts else {
        return !memory.is_impossible((mapping.time, mapping.resolution), line)
            && server.is_ordinary(delay);
    };
    let facts = memory.exchanges.get(facts);
    !pair::cannot_be(memory, server, memory.mappings.get(mapping.mapping), line)
        && (!facts.ended || facts.is_cut() || !server.is_unusual_end(line, delay))
        && server.agreement.cost(facts, line) <= costs::ODD_RESPONSE
}

/// Whether something contradicts the chosen mapping, or another mapping may be missing.
fn is_doubtful(
    memory: &Memory,
    learnt: &Learnt,
    group: GroupSlot,
    line: &HeldLine,
    chosen: &WindowMapping,
    fit: AgentFit,
) -> bool {
    let RequestGroup { lines, mappings, .. } = *memory.mappings.group(group);
    let delay = line.time.micros_since(chosen.time);
    let server = &learnt.servers[line.server as usize];
    let is_odd = fit == AgentFit::Other || server.delays.is_unusual(delay);
    lines > mappings
        || chosen.contested
        || (chosen.facts.is_none() && is_odd)
        || server.misses_mappings(&memory.servers[line.server as usize])
        || pair::may_be_tls(memory, line)
}

/// Learns from the chosen mapping. `by_pair` is its probability without the order of the group.
fn learn(
    memory: &Memory,
    learnt: &mut Learnt,
    line: &HeldLine,
    chosen: &WindowMapping,
    confidence: MatchConfidence,
    by_pair: u16,
) {
    let weight = guess_weight(by_pair);
    match (confidence.certainty, confidence.reason) {
        (Certainty::Certain, _) if chosen.facts.is_some() => {
            pair::learn_exchange(memory, learnt, chosen.mapping, line);
        }
        (Certainty::Certain, _) => {
            let weight = costs::PROFILE_CERTAIN;
            learnt.profiles.learn(chosen.client_hash, line.user_agent, weight);
        }
        (_, Reason::UserAgent) if by_pair >= costs::GUESS_TEACHES => {
            pair::learn(memory, learnt, chosen.mapping, line, weight);
        }
        _ => learnt.profiles.learn(chosen.client_hash, line.user_agent, weight),
    }
}

/// Returns the cost of a line belonging to an exchange that, at the end of the window, has waited for `waited`
/// microseconds.
fn cost_of_exchange(
    server: &LearntServer,
    facts: &ExchangeFacts,
    line: &HeldLine,
    delay: i64,
    waited: i64,
) -> i64 {
    let delay = if !facts.ended {
        costs::END_UNSEEN
    } else if line.resolution == Resolution::Second {
        let span = server.span_of_ends(line);
        span.cost(delay) - span.saved(waited)
    } else {
        server.delays.cost(delay) - server.delays.saved(waited)
    };
    let delay = if facts.is_cut() { delay.min(costs::END_UNSEEN) } else { delay };
    delay + server.agreement.cost(facts, line)
}

/// Returns the share of the evidence for the chosen client, in thousandths, never certainty. Only mappings near
/// the chosen one count as rivals. `step` is the cost of each place that a rival is further off: another
/// choice would put the window's lines out of order.
fn probability(chosen: usize, mappings: &[WindowMapping], costs_of_line: &[i64], step: i64) -> u16 {
    let near = chosen.saturating_sub(costs::PLACES_BEHIND)
        ..mappings.len().min(chosen + costs::PLACES_AHEAD);
    let client = mappings[chosen].client;
    let is_open = |place: &usize| mappings[*place].standing != WindowStanding::Taken;
    let places_off = |place: usize| {
        let between = if place < chosen { place..chosen } else { chosen + 1..place + 1 };
        between.filter(is_open).count()
    };
    let cost = |place: usize| {
        let off = i64::try_from(places_off(place)).expect("bounded by the window");
        costs_of_line[place].saturating_add(off.saturating_mul(step))
    };
    let open = || near.clone().filter(is_open);
    let best = open().map(cost).min().unwrap_or(0);
    let (mut all, mut chosen_client) = (0, 0);
    for place in open() {
        let weight = weight(cost(place) - best);
        all += weight;
        if mappings[place].client == client {
            chosen_client += weight;
        }
    }
    let share = u16::try_from(chosen_client * 1_000 / all.max(1));
    share.expect("a part of the whole").clamp(1, costs::GUESS_CEILING)
}
