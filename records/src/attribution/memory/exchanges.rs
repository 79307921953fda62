//! Facts about exchanges, and the mapping of each request on a connection.
//!
//! A mapping with facts is *pending* in its group, apart from the others, until its response has ended.
//! Then it is ordered by the time of that end. Web servers log a request when its response has been sent:
//! lines come in this order, and close to this time.

use hashbrown::HashTable;

use super::facts::{ExchangeFacts, FactsSlot};
use super::mappings::MappingSlot;
use super::slab::Slab;
use crate::hash::mix;

/// The facts of all exchanges, and the mapping of each exchange.
#[derive(Default)]
pub(crate) struct ExchangeTable {
    facts: Slab<ExchangeFacts>,
    /// Mappings by [`request_key`].
    table: HashTable<(u64, MappingSlot)>,
}

impl ExchangeTable {
    /// Adds facts about a mapping that is about to be remembered; [`Self::link`] names the mapping.
    pub(crate) fn add(&mut self, facts: ExchangeFacts) -> FactsSlot {
        self.facts.insert(facts)
    }

    /// Makes the mapping of these facts findable by its request key.
    pub(crate) fn link(&mut self, facts: FactsSlot, mapping: MappingSlot) {
        let key = self.facts[facts].key;
        self.table.insert_unique(key, (key, mapping), |&(key, _)| key);
    }

    /// Forgets the facts of a mapping.
    pub(crate) fn remove(&mut self, facts: FactsSlot, mapping: MappingSlot) {
        let key = self.facts[facts].key;
        if let Ok(entry) = self.table.find_entry(key, |&it| it == (key, mapping)) {
            entry.remove();
        }
        self.facts.free(facts);
    }

    /// Returns the mapping of a request on a connection.
    pub(crate) fn find(&self, key: u64) -> Option<MappingSlot> {
        self.table.find(key, |&(k, _)| k == key).map(|&(_, mapping)| mapping)
    }

    pub(crate) fn get(&self, facts: FactsSlot) -> &ExchangeFacts {
        &self.facts[facts]
    }

    pub(crate) fn get_mut(&mut self, facts: FactsSlot) -> &mut ExchangeFacts {
        &mut self.facts[facts]
    }
}

/// The key of a request: the connection's serial number and the request's number on the connection.
pub(crate) fn request_key(connection: u64, nth: u32) -> u64 {
    mix(connection, u64::from(nth))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_requests_of_a_few_connections_share_a_key() {
        let keys: std::collections::HashSet<u64> =
            (0..300).flat_map(|c| (0..300).map(move |nth| request_key(c, nth))).collect();
        assert_eq!(keys.len(), 90_000);
    }
}
