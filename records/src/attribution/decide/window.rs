//! The first lines and mappings of a group side by side, for decisions about several lines.

use super::asked_costs::{AskedCost, WindowCosts};
use super::lattice::Lattice;
use super::matching::Matching;
use super::pair;
use crate::addr::ClientAddr;
use crate::attribution::costs;
use crate::attribution::learnt::Learnt;
use crate::attribution::learnt::server::LearntServer;
use crate::attribution::learnt::user_agents::{AgentFit, AgentRarity, ClientProfile};
use crate::attribution::line::{HeldLine, LineNumber};
use crate::attribution::memory::Memory;
use crate::attribution::memory::client::ClientHash;
use crate::attribution::memory::facts::FactsSlot;
use crate::attribution::memory::mappings::{
    GroupSlot, MappingMark, MappingSlot, RequestGroup, WaitingMapping,
};
use crate::attribution::queue::{EarlyVerdict, LineQueue};
use crate::attribution::verdict::{Certainty, LineVerdict, MatchConfidence, Reason};
use crate::time::{Resolution, Timestamp};

/// The lines and mappings of a group that are decided together; kept from decision to decision for its
/// allocations.
#[derive(Default)]
pub(crate) struct DecisionWindow {
    pub(super) lines: Vec<WindowLine>,
    /// In time order.
    pub(super) mappings: Vec<WindowMapping>,
    /// Whether the window has all mappings that the first line could have.
    pub(super) complete: bool,
    /// The cost of each pair, line after line.
    pub(super) costs: Vec<i64>,
    /// Whether lines of the group are left for later windows.
    pub(super) has_more: bool,
    /// Mappings before the first line, by their costs.
    pub(super) older: Vec<(i64, MappingSlot)>,
    /// The weight of a line without any mapping, its User-Agent aside.
    pub(super) alone: f64,
    /// How likely the first line has a mapping that is not in the window: a weight.
    pub(super) elsewhere: f64,
    /// Of the User-Agent of each line.
    pub(super) rarities: Vec<AgentRarity>,
    /// How many of the mappings are in order; the others are weighed by themselves.
    pub(super) ordered: usize,
    /// Whether the mappings keep the front, and the most likely line does not take a mapping at once.
    pub(super) keeps: bool,
    /// The groups of the lines, where lines of several are weighed together.
    pub(super) groups: Vec<GroupSlot>,
    /// How many lines the window can hold.
    pub(super) most_lines: usize,
    /// Mappings of the group that earlier lines have surely come past.
    pub(super) passed: Vec<MappingSlot>,
    /// The weight of all alignments of the decided lines, by where they end, and of those that end within two crossed lines.
    pub(super) ends: Vec<f64>,
    pub(super) turned: Vec<f64>,
    /// The probability of each pair, for the first lines, line after line.
    pub(super) shares: Vec<f64>,
    /// How likely a line of each mapping is to come although lines have come past it.
    pub(super) back: Vec<f64>,
    /// Some lines of other files in the group.
    pub(super) others: Vec<HeldLine>,
    /// The mappings that a line may have, where lines that are in no order are weighed together.
    pub(super) asked_costs: Vec<AskedCost>,
    /// The share of each pair there by times and places alone.
    pub(super) by_time: Vec<f64>,
    pub(super) window_costs: WindowCosts,
    /// The User-Agents of each mapping's client there.
    pub(super) profiles: Vec<ClientProfile>,
    /// How much of each mapping is left to lines there.
    pub(super) unclaimed: Vec<f64>,
    pub(super) lattice: Lattice,
    pub(super) matching: Matching,
}

/// A line in the window.
#[derive(Clone, Copy)]
pub(super) struct WindowLine {
    pub(super) number: LineNumber,
    pub(super) line: HeldLine,
    /// The group that the line waits in.
    pub(super) group: GroupSlot,
}

/// A mapping in the window.
#[derive(Clone, Copy)]
pub(super) struct WindowMapping {
    pub(super) mapping: MappingSlot,
    pub(super) client: ClientAddr,
    pub(super) client_hash: ClientHash,
    pub(super) time: Timestamp,
    pub(super) resolution: Resolution,
    pub(super) contested: bool,
    /// Facts about the exchange, if known.
    pub(super) facts: Option<FactsSlot>,
    /// Whether the mapping was deferred before: to skip it once more costs nothing.
    pub(super) deferred: bool,
    pub(super) standing: WindowStanding,
    /// Whether an earlier line has its client, but in doubt.
    pub(super) named: bool,
    /// How likely earlier lines have come past the mapping.
    pub(super) reached: f64,
    /// How likely an earlier line has the mapping behind it, and the first line has it.
    pub(super) turned: f64,
}

impl WindowMapping {
    /// A mapping beside lines whose stamps are as fine as `resolution`.
    pub(super) const fn new(
        mapping: MappingSlot,
        waiting: &WaitingMapping,
        resolution: Resolution,
    ) -> Self {
        Self {
            mapping,
            client: waiting.client,
            client_hash: waiting.client_hash,
            time: waiting.time_beside(resolution),
            resolution: waiting.resolution,
            contested: waiting.is_contested(),
            facts: waiting.facts,
            deferred: waiting.deferred,
            standing: WindowStanding::RuledOut,
            named: matches!(waiting.mark, MappingMark::Named),
            reached: 0.0,
            turned: 0.0,
        }
    }
}

/// What a mapping in the window is to the line being decided.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum WindowStanding {
    /// An earlier line of the window took the mapping.
    Taken,
    /// The line could have the mapping.
    Possible,
    /// Time or delay rule the mapping out.
    RuledOut,
}

impl DecisionWindow {
    /// Returns how many of the first lines are due: nothing that is still to come changes what they get.
    pub(super) fn due(&self, memory: &Memory) -> usize {
        let is_due = |it: &&WindowLine| it.line.time.offset_by(memory.wait) <= memory.now;
        self.lines.iter().take_while(is_due).count().max(1)
    }

    /// Decides the first lines of the window one after the other, at most so many, and keeps the verdicts on all but the
    /// first. `decide` gets a line's place in the window and the number of the next line of the group.
    pub(super) fn decide_lines<T>(
        &mut self,
        queue: &mut LineQueue<T>,
        memory: &mut Memory,
        most: usize,
        mut decide: impl FnMut(&mut Self, &mut Memory, usize, Option<LineNumber>) -> EarlyVerdict,
    ) -> EarlyVerdict {
        let latest = self.lines[0].line.time.offset_by(memory.wait / 2);
        let next = queue.next_of(self.lines[0].number);
        let first = decide(self, memory, 0, next);
        for place in 1..most.min(self.lines.len()) {
            let WindowLine { number, line, .. } = self.lines[place];
            if line.time > latest {
                break;
            }
            let found = decide(self, memory, place, queue.next_of(number));
            queue.keep_early(number, found);
        }
        first
    }

    /// Leaves the group's first line without a mapping; `next` is the following line of the group. Other lines may have
    /// mappings, and what they get is a guess from now on.
    pub(super) fn leave_unmatched(
        &self,
        memory: &mut Memory,
        group: GroupSlot,
        next: Option<LineNumber>,
    ) -> LineVerdict {
        for mapping in self.mappings.iter().filter(|it| it.standing != WindowStanding::Taken) {
            if memory.mappings.group_of(mapping.mapping) == group {
                memory.mappings.contest(mapping.mapping);
            }
        }
        let RequestGroup { mappings, lines, .. } = *memory.mappings.group(group);
        let reason = if lines > mappings { Reason::NoMapping } else { Reason::NoneFits };
        memory.leave_group(group, next);
        LineVerdict { candidates: mappings, ..LineVerdict::unmatched(reason) }
    }

    /// Returns the best mapping of the likeliest client of a line, by mappings and their shares, and that client's
    /// probability, in thousandths. `None` if the line clearly more likely belongs to `nobody`.
    pub(super) fn best(
        &self,
        nobody: f64,
        shares: impl Iterator<Item = (usize, f64)> + Clone,
    ) -> Option<(usize, u16)> {
        let (mut best, mut most) = (None, 0.0);
        let open = shares.filter(|&(place, _)| !self.is_taken(place));
        for (place, share) in open.clone() {
            // Of mappings that are as likely, lines get one each.
            let rank = share * if self.mappings[place].named { costs::NAMED_AGAIN } else { 1.0 };
            if rank > most {
                (best, most) = (Some(place), rank);
            }
        }
        let (best, client) = best.map(|best| (best, self.mappings[best].client))?;
        let of_client = open.filter(|&(place, _)| self.mappings[place].client == client);
        let of_client = of_client.map(|(_, share)| share).sum::<f64>();
        if nobody > of_client + costs::NOBODY_LEAD {
            return None;
        }
        Some((best, thousandths(of_client)))
    }

    /// Whether an earlier line of the window took the mapping.
    fn is_taken(&self, place: usize) -> bool {
        self.mappings[place].standing == WindowStanding::Taken
    }

    /// Judges how sure the chosen mapping of a line is, learns from the pair, and marks the other candidates.
    pub(super) fn judge_share(
        &mut self,
        memory: &mut Memory,
        learnt: &mut Learnt,
        group: GroupSlot,
        row: usize,
        chosen: usize,
        share: u16,
    ) -> LineVerdict {
        let line = self.lines[row].line;
        let (total, same) = self.find_possible(memory, learnt, group, &line, chosen);
        let is_close = self.mark_close(memory, learnt, &line, chosen);
        let taken = self.mappings[chosen];
        let client = memory.mappings.get(taken.mapping).recorded_client();
        let delay = line.time.micros_since(taken.time);
        let fit = learnt.profiles.fit(taken.client_hash, line.user_agent);
        let is_doubtful = is_doubtful(memory, learnt, group, &line, &taken, fit);
        let confidence = if same && !is_close && !is_doubtful && share >= costs::LATTICE_CERTAIN {
            let reason = if total == 1 { Reason::Only } else { Reason::SameClient };
            MatchConfidence::certain(reason)
        } else {
            let reason = match (same && !is_close, fit) {
                (true, _) => Reason::Doubtful,
                (false, AgentFit::Same) => Reason::UserAgent,
                (false, _) => Reason::Order,
            };
            MatchConfidence::likely(reason, share.clamp(1, costs::GUESS_CEILING))
        };
        if taken.facts.is_some() {
            learn_exchange(memory, learnt, &line, &taken, confidence, share);
        } else {
            self.learn_profile(learnt, row, chosen, (confidence, share));
        }
        if !same {
            self.contest_others(memory, chosen);
            // What lines of another file could have is not passed over.
            let is_kept = self.keeps && taken.facts.is_some();
            if self.others.is_empty() && !is_kept {
                self.pass_over(memory, group, chosen);
            }
        }
        LineVerdict::matched(client, confidence, total.max(1), Some(delay))
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
        // Coarse stamps make most times of a group equal.
        let mut last = (Timestamp::MIN, Resolution::Second, false);
        for mapping in &mut self.mappings {
            if mapping.standing == WindowStanding::Taken {
                continue;
            }
            if memory.mappings.group_of(mapping.mapping) != group {
                mapping.standing = WindowStanding::RuledOut;
                continue;
            }
            debug_assert!(memory.mappings.get(mapping.mapping).unclaimed() >= costs::CLAIMED_LEAST);
            let WindowMapping { time, resolution, .. } = *mapping;
            if mapping.facts.is_some() || (last.0, last.1) != (time, resolution) {
                last = (time, resolution, is_possible(memory, server, mapping, line));
            }
            if last.2 {
                mapping.standing = WindowStanding::Possible;
                total += 1;
                same = same && mapping.client == client && !mapping.contested;
            } else {
                mapping.standing = WindowStanding::RuledOut;
            }
        }
        same &= self.mappings[chosen].standing == WindowStanding::Possible;
        (total, same)
    }

    /// Marks the possible mappings that were not chosen as contested: another line that gets one of them may have
    /// it in the place of this line.
    fn contest_others(&mut self, memory: &mut Memory, chosen: usize) {
        for (place, mapping) in self.mappings.iter_mut().enumerate() {
            let is_open = mapping.standing == WindowStanding::Possible && place != chosen;
            if is_open && !mapping.contested {
                mapping.contested = true;
                memory.mappings.contest(mapping.mapping);
            }
        }
    }

    /// Counts that the mappings before the chosen one were passed over once more.
    fn pass_over(&self, memory: &mut Memory, group: GroupSlot, chosen: usize) {
        let before = self.mappings[..chosen].iter();
        for mapping in before.filter(|it| it.standing != WindowStanding::Taken) {
            memory.mappings.pass_over(group, mapping.mapping);
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
        && (!facts.ended
            || facts.is_cut()
            || !server.is_unusual_end(line, facts.life(mapping.time)))
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
    // No further line may have the only mapping, unless a part is claimed.
    let is_sole =
        || lines == 1 && mappings == 1 && memory.mappings.get(chosen.mapping).is_unclaimed();
    lines > mappings
        || chosen.facts.is_some() && server.misses_in_crowds() && !is_sole()
        || chosen.contested
        || chosen.deferred && chosen.facts.is_some_and(|it| memory.exchanges.get(it).ended)
        || (chosen.facts.is_none() && is_odd)
        || server.misses_mappings(&memory.servers[line.server as usize])
        || pair::may_be_tls(memory, line)
}

/// Learns from the chosen mapping of an exchange, of this probability in thousandths.
fn learn_exchange(
    memory: &Memory,
    learnt: &mut Learnt,
    line: &HeldLine,
    chosen: &WindowMapping,
    confidence: MatchConfidence,
    share: u16,
) {
    if confidence.certainty == Certainty::Certain {
        pair::learn_exchange(memory, learnt, chosen.mapping, line);
    } else if share >= learnt.servers[line.server as usize].teaches() {
        pair::learn_end(memory, learnt, chosen.mapping, line);
    }
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a share of 1")]
pub(super) fn thousandths(share: f64) -> u16 {
    (share.clamp(0.0, 1.0) * 1_000.0) as u16
}
