//! Which User-Agent a client has, learnt from pairs that are certain and, with less weight, from those
//! that are likely, in a table of fixed size.

use xxhash_rust::xxh3::xxh3_64;

use crate::addr::ClientAddr;

/// Clients remembered at most; a newer one takes the place of one with the same slot.
const SLOTS: usize = 1 << 15;

/// User-Agents remembered for each.
const AGENTS: usize = 4;

/// How much a certain pair counts; a likely one counts less, by its probability.
pub(super) const CERTAIN: u8 = 8;

/// A client is not known before it was seen this often.
const ENOUGH: u16 = 6;

/// What is known of one client.
#[derive(Clone, Copy, Default)]
struct Habit {
    /// Tells clients apart that share a slot; 0 is a free one.
    client: u32,
    agents: [u32; AGENTS],
    /// How often each was seen; a newcomer takes over the rarest one's place and count, so that no
    /// frequent one is lost (the space-saving rule of Metwally, Agrawal and El Abbadi, 2005).
    seen: [u8; AGENTS],
}

/// How a User-Agent suits a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fit {
    /// Nothing is known.
    Unknown,
    /// The client has it.
    Same,
    /// The client is known by others only.
    Other,
}

/// User-Agents whose frequency is counted; rarer ones share a counter.
const COUNTERS: usize = 1 << 12;

/// Where the counters are halved.
const FADE_AT: u32 = 1 << 20;

/// The most that a User-Agent can cost.
const WORST: i32 = 9_000;

/// Steps of one sighting in the table of logarithms.
const EIGHTHS: usize = 8;

/// How rare a User-Agent is with everybody, whose habits weigh as one sighting against a client's own.
#[derive(Clone, Copy)]
pub(super) struct Rarity {
    agent: u32,
    /// Of meeting it, in thousandths of a natural logarithm; [`NO_AGENT`] without one.
    surprise: i32,
    /// Its share of all lines, in eighths.
    eighths: u32,
}

impl Rarity {
    /// Whether so few have it that a client who has it is told from most others.
    pub(super) const fn is_telling(self) -> bool {
        self.surprise >= 2_000
    }
}

/// Stands for a line without a User-Agent.
const NO_AGENT: i32 = -1;

/// What is known of one client.
pub(super) struct Known<'a> {
    habit: Habit,
    /// Logarithm of its sightings and everybody's one.
    total: i32,
    logarithms: &'a [i32],
}

impl Known<'_> {
    /// What it costs to explain a line by a mapping of this client, in thousandths of a natural
    /// logarithm: how rare the line's agent is with the client, drawn towards how rare it is with
    /// everybody, the more so the less the client is known. Nothing for a line without an agent.
    #[inline]
    pub(super) fn cost(&self, line: &Rarity) -> i32 {
        if line.surprise == NO_AGENT {
            return 0;
        }
        let mut seen = 0;
        for (&agent, times) in self.habit.agents.iter().zip(self.habit.seen) {
            seen |= if line.agent == agent { times } else { 0 };
        }
        let stranger = self.total + line.surprise;
        if seen == 0 {
            return stranger.min(WORST);
        }
        let logarithm = self.logarithms[usize::from(seen) * EIGHTHS + line.eighths as usize];
        (self.total - logarithm).clamp(0, WORST)
    }
}

/// The table.
pub(super) struct Habits {
    /// 1,000 ln(n / 8) by n.
    logarithms: Vec<i32>,
    slots: Vec<Habit>,
    /// Lines with each User-Agent, by the lowest bits of its hash.
    frequency: Vec<u32>,
    lines: u32,
}

impl Habits {
    pub(super) fn new() -> Self {
        let most = (AGENTS * usize::from(u8::MAX) + 2) * EIGHTHS;
        Self {
            logarithms: (0..most).map(logarithm).collect(),
            slots: vec![Habit::default(); SLOTS],
            frequency: vec![0; COUNTERS],
            lines: 0,
        }
    }

    /// Notes that a line has this User-Agent, whosever it is.
    pub(super) fn note(&mut self, agent: u32) {
        self.frequency[agent as usize % COUNTERS] += 1;
        self.lines += 1;
        if self.lines >= FADE_AT {
            self.frequency.iter_mut().for_each(|count| *count /= 2);
            self.lines /= 2;
        }
    }

    /// How rare a User-Agent is with everybody.
    pub(super) fn rarity(&self, agent: Option<u32>) -> Rarity {
        let Some(agent) = agent else {
            return Rarity { agent: 0, surprise: NO_AGENT, eighths: 0 };
        };
        let lines = self.lines.max(1);
        let seen = self.frequency[agent as usize % COUNTERS].clamp(1, lines);
        Rarity {
            agent,
            surprise: (thousand_ln(lines) - thousand_ln(seen)).clamp(0, WORST),
            eighths: (seen * 16 + lines) / (lines * 2),
        }
    }

    /// What is known of `client`.
    pub(super) fn known(&self, client: ClientAddr) -> Known<'_> {
        let (index, tag) = place(client);
        let habit = self.slots[index];
        let habit = if habit.client == tag { habit } else { Habit::default() };
        let total: usize = habit.seen.iter().map(|&seen| usize::from(seen)).sum();
        Known { habit, total: self.logarithms[(total + 1) * EIGHTHS], logarithms: &self.logarithms }
    }

    /// Notes that `client` was seen with `agent`, with a weight: see [`CERTAIN`].
    pub(super) fn learn(&mut self, client: ClientAddr, agent: u32, weight: u8) {
        let (index, tag) = place(client);
        let habit = &mut self.slots[index];
        if habit.client != tag {
            *habit = Habit { client: tag, ..Habit::default() };
        }
        let known = (0..AGENTS).find(|&i| habit.seen[i] > 0 && habit.agents[i] == agent);
        let slot = known.unwrap_or_else(|| {
            let rarest = (0..AGENTS).min_by_key(|&i| habit.seen[i]).unwrap_or(0);
            habit.agents[rarest] = agent;
            rarest
        });
        habit.seen[slot] = habit.seen[slot].saturating_add(weight);
        if habit.seen[slot] > 200 {
            habit.seen.iter_mut().for_each(|seen| *seen /= 2);
        }
    }

    /// How `agent` suits `client`.
    pub(super) fn fit(&self, client: ClientAddr, agent: u32) -> Fit {
        let (seen, total) = self.seen(client, agent);
        if total < ENOUGH {
            Fit::Unknown
        } else if seen * 5 >= total {
            Fit::Same
        } else if seen * 20 < total && self.rarest(client) * 10 < total {
            Fit::Other
        } else {
            // Shared by so many that one more is no surprise.
            Fit::Unknown
        }
    }

    /// How often `client` was seen with `agent`, and with anything.
    fn seen(&self, client: ClientAddr, agent: u32) -> (u16, u16) {
        let (index, tag) = place(client);
        let habit = &self.slots[index];
        if habit.client != tag {
            return (0, 0);
        }
        let total = habit.seen.iter().map(|&seen| u16::from(seen)).sum();
        let slot = (0..AGENTS).find(|&i| habit.seen[i] > 0 && habit.agents[i] == agent);
        (slot.map_or(0, |i| u16::from(habit.seen[i])), total)
    }

    fn rarest(&self, client: ClientAddr) -> u16 {
        let habit = &self.slots[place(client).0];
        habit.seen.iter().copied().min().map_or(0, u16::from)
    }
}

/// 1,000 ln(n), its mantissa cut to five bits; `n` is at least 1.
fn thousand_ln(n: u32) -> i32 {
    /// 1,000 ln(1 + i / 32).
    const PARTS: [i32; 32] = [
        0, 31, 61, 90, 118, 145, 172, 198, 223, 248, 272, 295, 318, 341, 363, 384, 405, 426, 446,
        466, 486, 505, 523, 542, 560, 577, 595, 612, 629, 645, 661, 677,
    ];
    let octave = n.ilog2();
    let part = (n << (31 - octave)) >> 26 & 31;
    octave.cast_signed() * 693 + PARTS[part as usize]
}

/// 1,000 ln(n / 8); of nothing, what is low enough.
#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    reason = "a logarithm of a number below 2^14"
)]
fn logarithm(n: usize) -> i32 {
    if n == 0 { -WORST } else { ((n as f32 / EIGHTHS as f32).ln() * 1_000.0) as i32 }
}

/// The slot of a client, and what tells it from others there.
fn place(client: ClientAddr) -> (usize, u32) {
    let hash = match client {
        ClientAddr::Ip(std::net::IpAddr::V4(ip)) => xxh3_64(&ip.octets()),
        ClientAddr::Ip(std::net::IpAddr::V6(ip)) => xxh3_64(&ip.octets()),
        ClientAddr::Unix => 1,
    };
    let tag = u32::try_from(hash >> 32).expect("the upper half has 32 bits");
    let index = usize::try_from(hash % SLOTS as u64).expect("below the number of slots");
    (index, tag.max(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(last: u8) -> ClientAddr {
        ClientAddr::Ip([192, 0, 2, last].into())
    }

    #[test]
    fn a_client_is_known_by_what_it_was_seen_with() {
        let mut habits = Habits::new();
        assert_eq!(habits.fit(client(1), 7), Fit::Unknown);
        habits.learn(client(1), 7, CERTAIN);
        assert_eq!(habits.fit(client(1), 7), Fit::Same);
        assert_eq!(habits.fit(client(1), 8), Fit::Other);
        assert_eq!(habits.fit(client(2), 8), Fit::Unknown);
    }

    #[test]
    fn an_address_with_many_agents_says_nothing_about_a_new_one() {
        let mut habits = Habits::new();
        (1..=90).for_each(|agent| habits.learn(client(1), agent % 9, CERTAIN));
        assert_eq!(habits.fit(client(1), 99), Fit::Unknown);
    }

    #[test]
    fn a_few_wrong_guesses_do_not_hide_what_a_client_has() {
        let mut habits = Habits::new();
        for round in 0..40 {
            habits.learn(client(1), 7, 1);
            if round % 8 == 0 {
                habits.learn(client(1), 100 + round, 1);
            }
        }
        assert_eq!(habits.fit(client(1), 7), Fit::Same);
        assert_eq!(habits.fit(client(1), 8), Fit::Other);
    }
}
