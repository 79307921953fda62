//! Which User-Agents a client has: a profile for each client, in a table of fixed size.
//!
//! Profiles are learnt from certain pairs of line and mapping, and with less weight from likely pairs.

use crate::attribution::costs;
use crate::attribution::memory::client::{AgentHash, ClientHash};

/// Returns the weight of a guess in a profile, from its probability in thousandths.
pub(crate) fn guess_weight(probability: u16) -> u8 {
    let weight = probability * u16::from(costs::PROFILE_CERTAIN) / costs::PROFILE_GUESS_DIVISOR;
    u8::try_from(weight).expect("at most 7 of 1,000 thousandths")
}

/// The User-Agents of one client: half a cache line, since each line is about another client.
#[derive(Clone, Copy, Default)]
#[repr(align(32))]
struct UserAgentProfile {
    /// Tells clients apart that share a slot; `None` in a free slot.
    client: Option<ClientHash>,
    agents: [Option<AgentHash>; costs::PROFILE_AGENTS],
    /// How often each User-Agent was seen. A new User-Agent takes over place and count of the rarest, so
    /// that no frequent one is lost (the space-saving rule of Metwally, Agrawal and El Abbadi, 2005).
    seen: [u8; costs::PROFILE_AGENTS],
    /// The User-Agent of four in five lines of the client; `None` without such a User-Agent, or while too
    /// little is known.
    usual: Option<AgentHash>,
}

impl UserAgentProfile {
    fn total(&self) -> u16 {
        self.seen.iter().map(|&seen| u16::from(seen)).sum()
    }

    fn find_usual(&self) -> Option<AgentHash> {
        let total = self.total();
        let is_usual =
            total >= costs::PROFILE_KNOWN_AFTER && u16::from(self.seen[0]) * 5 >= total * 4;
        self.agents[0].filter(|_| is_usual)
    }
}

/// How a User-Agent suits a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AgentFit {
    /// Too little is known of the client.
    Unknown,
    /// The client has this User-Agent.
    Same,
    /// The client has other User-Agents only.
    Other,
}

/// How rare a User-Agent is among all lines, which weigh as one sighting beside the client's own.
#[derive(Clone, Copy)]
pub(crate) struct AgentRarity {
    pub(crate) agent: Option<AgentHash>,
    /// Cost of meeting the User-Agent in any line; 0 without a User-Agent.
    pub(crate) surprise: i32,
    /// Lines with the User-Agent, of so many lines.
    seen: u32,
    lines: u32,
}

/// The profile of one client, ready to be compared with lines.
#[derive(Clone, Copy)]
pub(crate) struct ClientProfile {
    profile: UserAgentProfile,
    /// Logarithm of the sightings of the client, and of one for all lines.
    total: i32,
}

/// All profiles.
pub(crate) struct UserAgentProfiles {
    /// Table of 1,000 ln(n / 8).
    logarithms: Vec<i32>,
    slots: Vec<UserAgentProfile>,
    /// Lines with each User-Agent, by the lowest bits of its hash.
    frequency: Vec<u32>,
    lines: u32,
    /// 1,000 ln(`lines`), refreshed now and then.
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

    /// Counts a line with this User-Agent.
    pub(crate) fn count(&mut self, agent: Option<AgentHash>) {
        self.frequency[counter(agent)] += 1;
        self.lines += 1;
        if self.lines >= costs::AGENTS_FADE_AT {
            self.fade();
        }
        if self.lines < costs::AGENTS_REFRESH || self.lines.is_multiple_of(costs::AGENTS_REFRESH) {
            self.thousand_ln_lines = thousand_ln(self.lines.max(1));
        }
    }

    #[cold]
    fn fade(&mut self) {
        self.frequency.iter_mut().for_each(|count| *count /= 2);
        self.lines /= 2;
    }

    /// Returns how rare a User-Agent is among all lines.
    pub(crate) fn rarity(&self, agent: Option<AgentHash>) -> AgentRarity {
        if agent.is_none() {
            return AgentRarity { agent, surprise: 0, seen: 0, lines: 1 };
        }
        let lines = self.lines.max(1);
        let seen = self.frequency[counter(agent)].clamp(1, lines);
        let surprise = (self.thousand_ln_lines - thousand_ln(seen)).clamp(0, costs::AGENT_WORST);
        AgentRarity { agent, surprise, seen, lines }
    }

    /// Returns the profile of a client.
    pub(crate) fn known(&self, client: ClientHash) -> ClientProfile {
        let profile = *self.profile(client);
        let total = usize::from(profile.total());
        ClientProfile { profile, total: self.logarithms[(total + 1) * costs::AGENT_STEPS] }
    }

    /// Returns the cost of explaining a line by a mapping of a client: how rare the line's User-Agent is
    /// with the client. The less the client is known, the more the rarity among all lines counts. A line
    /// without a User-Agent costs nothing.
    #[inline]
    pub(crate) fn cost(&self, client: &ClientProfile, line: &AgentRarity) -> i32 {
        if line.agent.is_none() {
            return 0;
        }
        let unseen = (client.total + line.surprise).min(costs::AGENT_WORST);
        if !client.profile.agents.contains(&line.agent) {
            return unseen;
        }
        let mut seen = 0;
        for (&agent, times) in client.profile.agents.iter().zip(client.profile.seen) {
            seen |= if line.agent == agent { times } else { 0 };
        }
        if seen == 0 {
            return unseen;
        }
        let eighths = (line.seen * 16 + line.lines) / (line.lines * 2);
        let logarithm = self.logarithms[usize::from(seen) * costs::AGENT_STEPS + eighths as usize];
        (client.total - logarithm).clamp(0, costs::AGENT_WORST)
    }

    /// Returns the User-Agent that four in five lines of a client have; `None` without such a User-Agent, or
    /// while too little is known.
    pub(crate) fn usual(&self, client: ClientHash) -> Option<AgentHash> {
        self.profile(client).usual
    }

    fn profile(&self, client: ClientHash) -> &UserAgentProfile {
        const UNKNOWN: UserAgentProfile = UserAgentProfile {
            client: None,
            agents: [None; costs::PROFILE_AGENTS],
            seen: [0; costs::PROFILE_AGENTS],
            usual: None,
        };
        let profile = &self.slots[client.slot()];
        if profile.client == Some(client) { profile } else { &UNKNOWN }
    }

    /// Learns that a client has `agent`, with a weight: see [`costs::PROFILE_CERTAIN`].
    pub(crate) fn learn(&mut self, client: ClientHash, agent: Option<AgentHash>, weight: u8) {
        if agent.is_none() {
            return;
        }
        let profile = &mut self.slots[client.slot()];
        if profile.client == Some(client)
            && profile.usual == agent
            && profile.seen[0] >= costs::PROFILE_PLENTY
        {
            return;
        }
        if profile.client != Some(client) {
            *profile = UserAgentProfile { client: Some(client), ..UserAgentProfile::default() };
        }
        let known =
            (0..costs::PROFILE_AGENTS).find(|&i| profile.seen[i] > 0 && profile.agents[i] == agent);
        let slot = known.unwrap_or_else(|| {
            let rarest = (0..costs::PROFILE_AGENTS).min_by_key(|&i| profile.seen[i]).unwrap_or(0);
            profile.agents[rarest] = agent;
            rarest
        });
        profile.seen[slot] = profile.seen[slot].saturating_add(weight);
        if profile.seen[slot] > costs::PROFILE_FADE_AT {
            profile.seen.iter_mut().for_each(|seen| *seen /= 2);
        }
        // The most frequent first, where it is looked for first.
        if slot > 0 && profile.seen[slot] > profile.seen[0] {
            profile.seen.swap(0, slot);
            profile.agents.swap(0, slot);
        }
        profile.usual = profile.find_usual();
    }

    /// Returns how `agent` suits a client.
    pub(crate) fn fit(&self, client: ClientHash, agent: Option<AgentHash>) -> AgentFit {
        let profile = self.profile(client);
        if agent.is_none() {
            return AgentFit::Unknown;
        }
        if profile.usual == agent {
            return AgentFit::Same;
        }
        let total = profile.total();
        let slot =
            (0..costs::PROFILE_AGENTS).find(|&i| profile.seen[i] > 0 && profile.agents[i] == agent);
        let seen = slot.map_or(0, |i| u16::from(profile.seen[i]));
        let rarest = profile.seen.iter().copied().min().map_or(0, u16::from);
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

/// Returns the counter of a User-Agent: the lowest bits of its hash.
fn counter(agent: Option<AgentHash>) -> usize {
    agent.map_or(0, AgentHash::get) as usize % costs::AGENT_COUNTERS
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
    use crate::addr::ClientAddr;

    fn agent(hash: u32) -> Option<AgentHash> {
        AgentHash::new(hash)
    }

    fn client(last: u8) -> ClientHash {
        ClientHash::of(ClientAddr::Ip([192, 0, 2, last].into()))
    }

    #[test]
    fn a_client_is_known_by_what_it_was_seen_with() {
        let mut profiles = UserAgentProfiles::new();
        assert_eq!(profiles.fit(client(1), agent(7)), AgentFit::Unknown);
        profiles.learn(client(1), agent(7), costs::PROFILE_CERTAIN);
        assert_eq!(profiles.fit(client(1), agent(7)), AgentFit::Same);
        assert_eq!(profiles.fit(client(1), agent(8)), AgentFit::Other);
        assert_eq!(profiles.fit(client(2), agent(8)), AgentFit::Unknown);
    }

    #[test]
    fn an_address_with_many_agents_says_nothing_about_a_new_one() {
        let mut profiles = UserAgentProfiles::new();
        (1..=90).for_each(|n| profiles.learn(client(1), agent(n % 9), costs::PROFILE_CERTAIN));
        assert_eq!(profiles.fit(client(1), agent(99)), AgentFit::Unknown);
    }

    #[test]
    fn a_few_wrong_guesses_do_not_hide_what_a_client_has() {
        let mut profiles = UserAgentProfiles::new();
        for round in 0..40 {
            profiles.learn(client(1), agent(7), 1);
            if round % 8 == 0 {
                profiles.learn(client(1), agent(100 + round), 1);
            }
        }
        assert_eq!(profiles.fit(client(1), agent(7)), AgentFit::Same);
        assert_eq!(profiles.fit(client(1), agent(8)), AgentFit::Other);
    }
}
