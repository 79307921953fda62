//! Which User-Agent a client has, learnt from pairs that are certain and, with less weight, from those
//! that are likely, in a table of fixed size.

use crate::addr::ClientAddr;
use crate::attribution::costs;

const _: () = assert!(ClientHash(u32::MAX).slot() < costs::PROFILES);

/// Returns the weight of a guess in a profile, from its probability in thousandths.
pub(crate) fn guess_weight(probability: u16) -> u8 {
    let weight = probability * u16::from(costs::PROFILE_CERTAIN) / costs::PROFILE_GUESS_DIVISOR;
    u8::try_from(weight).expect("at most 7 of 1,000 thousandths")
}

/// What is known of one client.
#[derive(Clone, Copy, Default)]
struct UserAgentProfile {
    /// Tells clients apart that share a slot; 0 is a free one.
    client: u32,
    agents: [u32; costs::PROFILE_AGENTS],
    /// How often each was seen; a newcomer takes over the rarest one's place and count, so that no
    /// frequent one is lost (the space-saving rule of Metwally, Agrawal and El Abbadi, 2005).
    seen: [u8; costs::PROFILE_AGENTS],
    /// The one that four in five of its lines have; [`NONE`] if there is no such or too little is known.
    usual: u32,
}

impl UserAgentProfile {
    fn total(&self) -> u16 {
        self.seen.iter().map(|&seen| u16::from(seen)).sum()
    }

    fn find_usual(&self) -> u32 {
        let total = self.total();
        let is_usual =
            total >= costs::PROFILE_KNOWN_AFTER && u16::from(self.seen[0]) * 5 >= total * 4;
        if is_usual { self.agents[0] } else { NONE }
    }
}

/// A client's hash, by which its habits are found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ClientHash(u32);

impl ClientHash {
    /// Cheap, since it is made for each mapping.
    pub(crate) fn of(client: ClientAddr) -> Self {
        let low_half = |bits: u128| u64::try_from(bits & u128::from(u64::MAX)).unwrap_or(0);
        let bits = match client {
            ClientAddr::Ip(std::net::IpAddr::V4(ip)) => u64::from(ip.to_bits()),
            ClientAddr::Ip(std::net::IpAddr::V6(ip)) => {
                low_half(ip.to_bits() >> 64).wrapping_mul(0xA076_1D64_78BD_642F)
                    ^ low_half(ip.to_bits())
            }
            ClientAddr::Unix => u64::MAX,
        };
        let mixed = bits.wrapping_mul(0x9E37_79B9_7F4A_7C15);
        let mixed = (mixed ^ mixed >> 32).wrapping_mul(0xD6E8_FEB8_6659_FD93);
        Self(u32::try_from(mixed >> 32).unwrap_or(0).max(1))
    }

    const fn slot(self) -> usize {
        (self.0 >> 17) as usize
    }
}

/// How a User-Agent suits a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AgentFit {
    /// Nothing is known.
    Unknown,
    /// The client has it.
    Same,
    /// The client is known by others only.
    Other,
}

/// How rare a User-Agent is with everybody, whose habits weigh as one sighting against a client's own.
#[derive(Clone, Copy)]
pub(crate) struct AgentRarity {
    pub(crate) agent: u32,
    /// Of meeting it, in thousandths of a natural logarithm; [`NO_AGENT`] without one.
    pub(crate) surprise: i32,
    /// How many lines of how many have it.
    seen: u32,
    lines: u32,
}

impl AgentRarity {
    /// Whether so few have it that a client who has it is told from most others.
    pub(crate) const fn is_telling(self) -> bool {
        self.surprise >= costs::TELLING_AGENT
    }
}

/// Stands for no User-Agent.
pub(crate) const NONE: u32 = 0;

/// The surprise of a line without a User-Agent.
const NO_AGENT: i32 = -1;

/// What is known of one client.
pub(crate) struct ClientProfile<'a> {
    habit: UserAgentProfile,
    /// Logarithm of its sightings and everybody's one.
    total: i32,
    logarithms: &'a [i32],
}

impl ClientProfile<'_> {
    /// What it costs to explain a line by a mapping of this client, in thousandths of a natural
    /// logarithm: how rare the line's agent is with the client, drawn towards how rare it is with
    /// everybody, the more so the less the client is known. Nothing for a line without an agent.
    #[inline]
    pub(crate) fn cost(&self, line: &AgentRarity) -> i32 {
        if line.surprise == NO_AGENT {
            return 0;
        }
        let mut seen = 0;
        for (&agent, times) in self.habit.agents.iter().zip(self.habit.seen) {
            seen |= if line.agent == agent { times } else { 0 };
        }
        let stranger = self.total + line.surprise;
        if seen == 0 {
            return stranger.min(costs::AGENT_WORST);
        }
        let eighths = (line.seen * 16 + line.lines) / (line.lines * 2);
        let logarithm = self.logarithms[usize::from(seen) * costs::AGENT_STEPS + eighths as usize];
        (self.total - logarithm).clamp(0, costs::AGENT_WORST)
    }
}

/// The table.
pub(crate) struct UserAgentProfiles {
    /// 1,000 ln(n / 8) by n.
    logarithms: Vec<i32>,
    slots: Vec<UserAgentProfile>,
    /// Lines with each User-Agent, by the lowest bits of its hash.
    frequency: Vec<u32>,
    lines: u32,
    /// 1,000 times the logarithm of `lines`, as it was not long ago.
    thousand_ln_lines: i32,
}

impl UserAgentProfiles {
    pub(crate) fn new() -> Self {
        let most = (costs::PROFILE_AGENTS * usize::from(u8::MAX) + 2) * costs::AGENT_STEPS;
        Self {
            logarithms: (0..most).map(logarithm).collect(),
            slots: vec![UserAgentProfile::default(); costs::PROFILES],
            frequency: vec![0; costs::AGENT_COUNTERS],
            lines: 0,
            thousand_ln_lines: 0,
        }
    }

    /// Notes that a line has this User-Agent, whosever it is.
    pub(crate) fn note(&mut self, agent: u32) {
        self.frequency[agent as usize % costs::AGENT_COUNTERS] += 1;
        self.lines += 1;
        if self.lines >= costs::AGENTS_FADE_AT {
            self.frequency.iter_mut().for_each(|count| *count /= 2);
            self.lines /= 2;
        }
        if self.lines < costs::AGENTS_REFRESH || self.lines.is_multiple_of(costs::AGENTS_REFRESH) {
            self.thousand_ln_lines = thousand_ln(self.lines.max(1));
        }
    }

    /// How rare a User-Agent is with everybody.
    pub(crate) fn rarity(&self, agent: u32) -> AgentRarity {
        if agent == NONE {
            return AgentRarity { agent, surprise: NO_AGENT, seen: 0, lines: 1 };
        }
        let lines = self.lines.max(1);
        let seen = self.frequency[agent as usize % costs::AGENT_COUNTERS].clamp(1, lines);
        let surprise = (self.thousand_ln_lines - thousand_ln(seen)).clamp(0, costs::AGENT_WORST);
        AgentRarity { agent, surprise, seen, lines }
    }

    /// What is known of a client.
    pub(crate) fn known(&self, client: ClientHash) -> ClientProfile<'_> {
        let habit = *self.habit(client);
        let total = usize::from(habit.total());
        ClientProfile {
            habit,
            total: self.logarithms[(total + 1) * costs::AGENT_STEPS],
            logarithms: &self.logarithms,
        }
    }

    /// The User-Agent that four in five lines of a client have; [`NONE`] if there is no such or too
    /// little is known.
    pub(crate) fn usual(&self, client: ClientHash) -> u32 {
        self.habit(client).usual
    }

    fn habit(&self, client: ClientHash) -> &UserAgentProfile {
        const UNKNOWN: UserAgentProfile = UserAgentProfile {
            client: 0,
            agents: [0; costs::PROFILE_AGENTS],
            seen: [0; costs::PROFILE_AGENTS],
            usual: 0,
        };
        let habit = &self.slots[client.slot()];
        if habit.client == client.0 { habit } else { &UNKNOWN }
    }

    /// Notes that a client was seen with `agent`, with a weight: see [`costs::PROFILE_CERTAIN`].
    pub(crate) fn learn(&mut self, client: ClientHash, agent: u32, weight: u8) {
        if agent == NONE {
            return;
        }
        let habit = &mut self.slots[client.slot()];
        if habit.client == client.0
            && habit.usual == agent
            && habit.seen[0] >= costs::PROFILE_PLENTY
        {
            return;
        }
        if habit.client != client.0 {
            *habit = UserAgentProfile { client: client.0, ..UserAgentProfile::default() };
        }
        let known =
            (0..costs::PROFILE_AGENTS).find(|&i| habit.seen[i] > 0 && habit.agents[i] == agent);
        let slot = known.unwrap_or_else(|| {
            let rarest = (0..costs::PROFILE_AGENTS).min_by_key(|&i| habit.seen[i]).unwrap_or(0);
            habit.agents[rarest] = agent;
            rarest
        });
        habit.seen[slot] = habit.seen[slot].saturating_add(weight);
        if habit.seen[slot] > costs::PROFILE_FADE_AT {
            habit.seen.iter_mut().for_each(|seen| *seen /= 2);
        }
        // The most frequent first, where it is looked for first.
        if slot > 0 && habit.seen[slot] > habit.seen[0] {
            habit.seen.swap(0, slot);
            habit.agents.swap(0, slot);
        }
        habit.usual = habit.find_usual();
    }

    /// How `agent` suits a client.
    pub(crate) fn fit(&self, client: ClientHash, agent: u32) -> AgentFit {
        let habit = self.habit(client);
        if agent == NONE {
            return AgentFit::Unknown;
        }
        if habit.usual == agent {
            return AgentFit::Same;
        }
        let total = habit.total();
        let slot =
            (0..costs::PROFILE_AGENTS).find(|&i| habit.seen[i] > 0 && habit.agents[i] == agent);
        let seen = slot.map_or(0, |i| u16::from(habit.seen[i]));
        let rarest = habit.seen.iter().copied().min().map_or(0, u16::from);
        if total < costs::PROFILE_KNOWN_AFTER {
            AgentFit::Unknown
        } else if seen * 5 >= total {
            AgentFit::Same
        } else if seen * 20 < total && rarest * 10 < total {
            AgentFit::Other
        } else {
            // Shared by so many that one more is no surprise.
            AgentFit::Unknown
        }
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
    if n == 0 {
        -costs::AGENT_WORST
    } else {
        ((n as f32 / costs::AGENT_STEPS as f32).ln() * 1_000.0) as i32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(last: u8) -> ClientHash {
        ClientHash::of(ClientAddr::Ip([192, 0, 2, last].into()))
    }

    #[test]
    fn a_client_is_known_by_what_it_was_seen_with() {
        let mut habits = UserAgentProfiles::new();
        assert_eq!(habits.fit(client(1), 7), AgentFit::Unknown);
        habits.learn(client(1), 7, costs::PROFILE_CERTAIN);
        assert_eq!(habits.fit(client(1), 7), AgentFit::Same);
        assert_eq!(habits.fit(client(1), 8), AgentFit::Other);
        assert_eq!(habits.fit(client(2), 8), AgentFit::Unknown);
    }

    #[test]
    fn an_address_with_many_agents_says_nothing_about_a_new_one() {
        let mut habits = UserAgentProfiles::new();
        (1..=90).for_each(|agent| habits.learn(client(1), agent % 9, costs::PROFILE_CERTAIN));
        assert_eq!(habits.fit(client(1), 99), AgentFit::Unknown);
    }

    #[test]
    fn a_few_wrong_guesses_do_not_hide_what_a_client_has() {
        let mut habits = UserAgentProfiles::new();
        for round in 0..40 {
            habits.learn(client(1), 7, 1);
            if round % 8 == 0 {
                habits.learn(client(1), 100 + round, 1);
            }
        }
        assert_eq!(habits.fit(client(1), 7), AgentFit::Same);
        assert_eq!(habits.fit(client(1), 8), AgentFit::Other);
    }
}
