//! Which client was last seen with a User-Agent at a server: the likely client of a line whose mapping is
//! missing.

use super::calibration::Calibration;
use crate::addr::ClientAddr;
use crate::attribution::costs;
use crate::attribution::memory::client::AgentHash;
use crate::time::Timestamp;

/// The clients last seen with each User-Agent at a server.
pub(crate) struct AgentFallback {
    slots: Vec<Option<RecentAgent>>,
    /// How often a line with a mapping has the client that the fallback would have given.
    same: Calibration,
}

/// A User-Agent, and the client last seen with it.
#[derive(Clone, Copy)]
struct RecentAgent {
    agent: AgentHash,
    client: ClientAddr,
    time: Timestamp,
}

impl AgentFallback {
    pub(crate) const fn new() -> Self {
        Self { slots: Vec::new(), same: Calibration::of_fallback() }
    }

    /// Learns that a mapping explained a line with this User-Agent.
    pub(crate) fn learn(&mut self, agent: AgentHash, client: ClientAddr, time: Timestamp) {
        if self.slots.is_empty() {
            self.slots.resize(costs::FALLBACK_AGENTS, None);
        }
        if let Some(near) = self.near(agent, time) {
            self.same.judge(Some(near == client));
        }
        self.slots[slot(agent)] = Some(RecentAgent { agent, client, time });
    }

    /// Returns the probability of the fallback, in thousandths.
    pub(crate) fn probability(&self) -> u16 {
        self.same.probability()
    }

    /// Returns the client of the line with this User-Agent just before `time`.
    pub(crate) fn near(&self, agent: AgentHash, time: Timestamp) -> Option<ClientAddr> {
        let recent = (*self.slots.get(slot(agent))?)?;
        let is_near =
            recent.agent == agent && time.micros_since(recent.time).abs() <= costs::FALLBACK_NEAR;
        is_near.then_some(recent.client)
    }
}

const fn slot(agent: AgentHash) -> usize {
    agent.get() as usize % costs::FALLBACK_AGENTS
}
