//! Exchanges of other clients that ended close to a line.
//!
//! Fine stamps rule out exchanges with ends a few milliseconds off the usual delays. But on a busy machine the balancer sees
//! ends later than the server logs lines, and in a different order. So where exchanges of two clients ended close together,
//! both lines are likely and not certain.

use super::pair;
use super::window::{DecisionWindow, WindowMapping, WindowStanding};
use crate::attribution::costs;
use crate::attribution::learnt::Learnt;
use crate::attribution::learnt::server::LearntServer;
use crate::attribution::line::HeldLine;
use crate::attribution::memory::Memory;
use crate::attribution::memory::mappings::MappingMark;
use crate::time::Resolution;

impl DecisionWindow {
    /// Marks exchanges of further clients close to the line, if nothing but time speaks against them. Returns whether there
    /// are any, or an earlier line has marked the chosen exchange.
    pub(super) fn mark_close(
        &self,
        memory: &mut Memory,
        learnt: &Learnt,
        line: &HeldLine,
        chosen: usize,
    ) -> bool {
        if line.resolution == Resolution::Second {
            return false;
        }
        let server = &learnt.servers[line.server as usize];
        let chosen = &self.mappings[chosen];
        let mut any = memory.mappings.get(chosen.mapping).mark == MappingMark::Close;
        let others = self
            .mappings
            .iter()
            .filter(|it| it.standing == WindowStanding::RuledOut && it.client != chosen.client);
        for other in others {
            if is_close(memory, server, other, line) {
                memory.mappings.get_mut(other.mapping).mark = MappingMark::Close;
                any = true;
            }
        }
        any
    }
}

/// Returns whether only a few milliseconds speak against the mapping.
fn is_close(
    memory: &Memory,
    server: &LearntServer,
    mapping: &WindowMapping,
    line: &HeldLine,
) -> bool {
    let Some(facts) = mapping.facts.map(|facts| memory.exchanges.get(facts)) else { return false };
    facts.ended
        && server.delays.is_close(line.time.micros_since(mapping.time))
        && server.agreement.cost(facts, line) <= costs::ODD_RESPONSE
        && !pair::cannot_be(memory, server, memory.mappings.get(mapping.mapping), line)
}
