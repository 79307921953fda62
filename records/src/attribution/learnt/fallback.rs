//! Who was last seen with a User-Agent at a server: a client for lines whose mapping is missing.

use crate::addr::ClientAddr;
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

/// User-Agents remembered for each server.
const NEIGHBOURS: usize = 256;

/// How near in time two lines of one read are, in microseconds; with coarse stamps, the same stamp.
const NEAR: i64 = 5_000;

impl AgentFallback {
    /// Of a server of which nothing is known.
    pub(crate) fn new() -> Self {
        Self { slots: Vec::new(), same: Calibration::of_neighbours() }
    }

    /// Notes that a mapping explained a line with this User-Agent.
    pub(crate) fn note(&mut self, agent: u32, client: ClientAddr, time: Timestamp) {
        if self.slots.is_empty() {
            self.slots.resize(NEIGHBOURS, None);
        }
        if let Some(near) = self.near(agent, time) {
            self.same.judge(Some(near == client));
        }
        self.slots[agent as usize % NEIGHBOURS] = Some(RecentAgent { agent, client, time });
    }

    /// What a neighbour is worth, in thousandths.
    pub(crate) fn worth(&self) -> u16 {
        self.same.usual()
    }

    /// Whose line with this User-Agent came just before `time`.
    pub(crate) fn near(&self, agent: u32, time: Timestamp) -> Option<ClientAddr> {
        let neighbour = (*self.slots.get(agent as usize % NEIGHBOURS)?)?;
        let near = neighbour.agent == agent && time.micros_since(neighbour.time).abs() <= NEAR;
        near.then_some(neighbour.client)
    }
}
