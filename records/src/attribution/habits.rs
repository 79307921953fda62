//! Which User-Agent a client has, learnt from pairs that are certain, in a table of fixed size.

use xxhash_rust::xxh3::xxh3_64;

use crate::addr::ClientAddr;

/// Clients remembered at most; a newer one takes the place of one with the same slot.
const SLOTS: usize = 1 << 15;

/// User-Agents remembered for each.
const AGENTS: usize = 3;

/// What is known of one client: addresses shared by many people have many agents.
#[derive(Clone, Copy, Default)]
struct Habit {
    /// Tells clients apart that share a slot; 0 is a free one.
    client: u32,
    agents: [u32; AGENTS],
    /// How often each was seen, up to a limit.
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

/// The table.
pub(super) struct Habits {
    slots: Vec<Habit>,
}

impl Habits {
    pub(super) fn new() -> Self {
        Self { slots: vec![Habit::default(); SLOTS] }
    }

    /// Notes that `client` was certainly seen with `agent`.
    pub(super) fn learn(&mut self, client: ClientAddr, agent: u32) {
        let (index, tag) = place(client);
        let habit = &mut self.slots[index];
        if habit.client != tag {
            *habit = Habit { client: tag, agents: [agent, 0, 0], seen: [1, 0, 0] };
            return;
        }
        let known = (0..AGENTS).find(|&i| habit.seen[i] > 0 && habit.agents[i] == agent);
        if let Some(i) = known {
            habit.seen[i] = habit.seen[i].saturating_add(1);
            return;
        }
        let rarest = (0..AGENTS).min_by_key(|&i| habit.seen[i]).unwrap_or(0);
        (habit.agents[rarest], habit.seen[rarest]) = (agent, 1);
    }

    /// How `agent` suits `client`.
    pub(super) fn fit(&self, client: ClientAddr, agent: u32) -> Fit {
        let (index, tag) = place(client);
        let habit = &self.slots[index];
        if habit.client != tag {
            return Fit::Unknown;
        }
        let has = (0..AGENTS).any(|i| habit.seen[i] > 0 && habit.agents[i] == agent);
        let full = habit.seen.iter().all(|&seen| seen > 0);
        match (has, full) {
            (true, _) => Fit::Same,
            // Whoever has had three may well have a fourth.
            (false, true) => Fit::Unknown,
            (false, false) => Fit::Other,
        }
    }
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
        habits.learn(client(1), 7);
        assert_eq!(habits.fit(client(1), 7), Fit::Same);
        assert_eq!(habits.fit(client(1), 8), Fit::Other);
        assert_eq!(habits.fit(client(2), 8), Fit::Unknown);
    }

    #[test]
    fn an_address_with_many_agents_says_nothing_about_a_new_one() {
        let mut habits = Habits::new();
        (1..=9).for_each(|agent| habits.learn(client(1), agent));
        assert_eq!(habits.fit(client(1), 9), Fit::Same);
        assert_eq!(habits.fit(client(1), 99), Fit::Unknown);
    }
}
