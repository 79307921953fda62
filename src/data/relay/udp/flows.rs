//! The table of flows: found by client, and kept in the order of last use, in which flows also
//! expire.

use std::hash::{BuildHasher as _, RandomState};
use std::net::SocketAddr;
use std::ops::Range;

use hashbrown::HashTable;

use crate::data::slab::{RecencyList, Slab, SlabKey};

/// The number of the port that a client sends to, and the client's address.
pub(super) type FlowKey = (u32, SocketAddr);

/// The table.
#[derive(Debug)]
pub(super) struct FlowTable<T> {
    flows: Slab<(FlowKey, T)>,
    order: RecencyList,
    /// Slots by client.
    by_client: HashTable<u32>,
    /// Keyed at random: clients choose ports, and sometimes addresses.
    hasher: RandomState,
}

impl<T> Default for FlowTable<T> {
    fn default() -> Self {
        Self {
            flows: Slab::default(),
            order: RecencyList::default(),
            by_client: HashTable::new(),
            hasher: RandomState::new(),
        }
    }
}

impl<T> FlowTable<T> {
    /// Returns whether there is no flow.
    pub(super) fn is_empty(&self) -> bool {
        self.by_client.is_empty()
    }

    /// Finds the flow of a client.
    pub(super) fn find(&self, from: FlowKey) -> Option<SlabKey> {
        let hash = self.hasher.hash_one(from);
        let is_it = |&slot: &u32| self.flows.at(slot).is_some_and(|(found, _)| *found == from);
        let slot = *self.by_client.find(hash, is_it)?;
        self.flows.key(slot)
    }

    /// Adds the flow of a client that has none, as the flow used last.
    pub(super) fn insert(&mut self, from: FlowKey, flow: T) -> SlabKey {
        let key = self.flows.insert((from, flow));
        let (hasher, flows) = (&self.hasher, &self.flows);
        let hash_of = |&slot: &u32| flows.at(slot).map_or(0, |(from, _)| hasher.hash_one(from));
        self.by_client.insert_unique(hasher.hash_one(from), key.slot, hash_of);
        self.order.push(key.slot);
        key
    }

    /// Returns a flow, if it is still there.
    pub(super) fn get_mut(&mut self, key: SlabKey) -> Option<&mut T> {
        self.flows.get_mut(key).map(|(_, flow)| flow)
    }

    /// Makes a flow that is there the flow used last.
    pub(super) fn touch(&mut self, key: SlabKey) {
        self.order.touch(key.slot);
    }

    /// Returns the flow that was not used for the longest time.
    pub(super) fn oldest(&self) -> Option<(SlabKey, &T)> {
        let slot = self.order.oldest()?;
        Some((self.flows.key(slot)?, self.flows.at(slot).map(|(_, flow)| flow)?))
    }

    /// Takes a flow out.
    pub(super) fn remove(&mut self, key: SlabKey) -> Option<(FlowKey, T)> {
        let (from, flow) = self.flows.remove(key)?;
        self.order.remove(key.slot);
        let hash = self.hasher.hash_one(from);
        if let Ok(found) = self.by_client.find_entry(hash, |&slot| slot == key.slot) {
            found.remove();
        }
        Some((from, flow))
    }

    /// Returns the flows in these slots.
    pub(super) fn within(&self, slots: Range<u32>) -> impl Iterator<Item = (SlabKey, &T)> {
        self.flows.within(slots).map(|(key, (_, flow))| (key, flow))
    }

    /// Returns how many slots there are, free slots included.
    pub(super) fn slots(&self) -> usize {
        self.flows.slots()
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use proptest::prelude::*;

    use super::*;

    fn from(client: u16) -> FlowKey {
        (u32::from(client % 2), SocketAddr::from((Ipv4Addr::LOCALHOST, client / 2)))
    }

    #[derive(Clone, Copy, Debug)]
    enum TableAction {
        Use(u16),
        Remove(u16),
        Evict,
    }

    fn table_action() -> impl Strategy<Value = TableAction> {
        prop_oneof![
            6 => (0_u16..20).prop_map(TableAction::Use),
            2 => (0_u16..20).prop_map(TableAction::Remove),
            1 => Just(TableAction::Evict),
        ]
    }

    proptest! {
        #[test]
        fn it_is_the_same_as_a_list_in_the_order_of_use(actions in prop::collection::vec(table_action(), 0..120)) {
            let (mut flows, mut list) = (FlowTable::default(), Vec::<u16>::new());
            let mut gone = Vec::new();
            for table_action in actions {
                match table_action {
                    TableAction::Use(client) => {
                        let key = flows.find(from(client));
                        prop_assert_eq!(key.is_some(), list.contains(&client));
                        match key {
                            Some(key) => flows.touch(key),
                            None => drop(flows.insert(from(client), client)),
                        }
                        list.retain(|&known| known != client);
                        list.push(client);
                    }
                    TableAction::Remove(client) => {
                        let key = flows.find(from(client));
                        let removed = key.and_then(|key| flows.remove(key));
                        prop_assert_eq!(removed.is_some(), list.contains(&client));
                        list.retain(|&known| known != client);
                        gone.extend(key);
                    }
                    TableAction::Evict => {
                        let oldest = flows.oldest().map(|(key, &client)| (key, client));
                        prop_assert_eq!(oldest.map(|(_, client)| client), list.first().copied());
                        if let Some((key, _)) = oldest {
                            flows.remove(key);
                            list.remove(0);
                            gone.push(key);
                        }
                    }
                }
                prop_assert_eq!(flows.is_empty(), list.is_empty());
                prop_assert_eq!(flows.within(0..u32::MAX).count(), list.len());
                prop_assert_eq!(flows.oldest().map(|(_, &client)| client), list.first().copied());
            }
            for key in gone {
                prop_assert_eq!(flows.get_mut(key), None);
                prop_assert!(flows.remove(key).is_none());
            }
            for client in list {
                let key = flows.find(from(client)).unwrap();
                prop_assert_eq!(flows.get_mut(key).copied(), Some(client));
            }
        }
    }
}
