//! Who was last seen with a User-Agent at a server: a client for lines whose mapping is missing.

use crate::addr::ClientAddr;
use crate::attribution::costs;
use crate::attribution::learnt::calibration::Calibration;
use crate::time::Timestamp;

/// Who was last seen with a User-Agent at a server.
pub(crate) struct AgentFallback {
    slots: Vec<Option<RecentAgent>>,
    /// How often a line that has a client of its own is of its neighbour's.
    same: Calibration,
}

#[derive(Clone, Copy)]
struct RecentAgent {
    agent: u32,
    client: ClientAddr,
    time: Timestamp,
}

impl AgentFallback {
    /// Of a server of which nothing is known.
    pub(crate) fn new() -> Self {
        Self { slots: Vec::new(), same: Calibration::of_neighbours() }
    }

    /// Notes that a mapping explained a line with this User-Agent.
    pub(crate) fn note(&mut self, agent: u32, client: ClientAddr, time: Timestamp) {
        if self.slots.is_empty() {
            self.slots.resize(costs::FALLBACK_AGENTS, None);
        }
        if let Some(near) = self.near(agent, time) {
            self.same.judge(Some(near == client));
        }
        self.slots[agent as usize % costs::FALLBACK_AGENTS] =
            Some(RecentAgent { agent, client, time });
    }

    /// What a neighbour is worth, in thousandths.
    pub(crate) fn worth(&self) -> u16 {
        self.same.usual()
    }

    /// Whose line with this User-Agent came just before `time`.
    pub(crate) fn near(&self, agent: u32, time: Timestamp) -> Option<ClientAddr> {
        let neighbour = (*self.slots.get(agent as usize % costs::FALLBACK_AGENTS)?)?;
        let near = neighbour.agent == agent
            && time.micros_since(neighbour.time).abs() <= costs::FALLBACK_NEAR;
        near.then_some(neighbour.client)
    }
}
