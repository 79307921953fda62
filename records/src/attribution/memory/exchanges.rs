//! What our own balancer's records say beyond client and request: on which connection, which request
//! on it, when its response ended, with which status and how many bytes.
//!
//! A mapping of this kind waits in its group as *pending*, aside from the others, until its response has
//! ended; then it takes its place by the time of that. Web servers log a request when its response has
//! been sent: so in this order, and nearly at this time, its line comes.

use crate::attribution::memory::facts::ExchangeFacts;

use hashbrown::HashTable;

/// The facts of all mappings that have any, and how these are found.
#[derive(Default)]
pub(crate) struct ExchangeTable {
    slab: Vec<ExchangeFacts>,
    free: Vec<u32>,
    /// By the key, the mapping.
    table: HashTable<(u64, u32)>,
}

impl ExchangeTable {
    /// Facts about a mapping that is about to be remembered; [`Self::link`] says as which.
    pub(crate) fn add(&mut self, facts: ExchangeFacts) -> u32 {
        crate::attribution::memory::mappings::put(&mut self.slab, &mut self.free, facts)
    }

    pub(crate) fn link(&mut self, facts: u32, mapping: u32) {
        let key = self.slab[facts as usize].key;
        self.table.insert_unique(key, (key, mapping), |&(key, _)| key);
    }

    pub(crate) fn remove(&mut self, facts: u32, mapping: u32) {
        let key = self.slab[facts as usize].key;
        if let Ok(entry) = self.table.find_entry(key, |&it| it == (key, mapping)) {
            entry.remove();
        }
        self.free.push(facts);
    }

    /// The mapping of an exchange.
    pub(crate) fn find(&self, key: u64) -> Option<u32> {
        self.table.find(key, |&(k, _)| k == key).map(|&(_, mapping)| mapping)
    }

    pub(crate) fn get(&self, facts: u32) -> &ExchangeFacts {
        &self.slab[facts as usize]
    }

    pub(crate) fn get_mut(&mut self, facts: u32) -> &mut ExchangeFacts {
        &mut self.slab[facts as usize]
    }
}

/// The key of a request on a connection, by the number that the connection has here.
pub(crate) const fn request_key(connection: u64, nth: u32) -> u64 {
    let mixed = connection.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ (nth as u64);
    (mixed ^ mixed >> 29).wrapping_mul(0xBF58_476D_1CE4_E5B9)
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
