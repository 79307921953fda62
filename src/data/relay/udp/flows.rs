//! Flows by their clients and by when they were used last.
//!
//! As the table of clients in the pool: nodes in a slab, linked in the order of their use, which is also
//! the order in which they expire, and found by a hash table.

use std::hash::{BuildHasher as _, RandomState};
use std::net::SocketAddr;
use std::ops::Range;

use hashbrown::HashTable;

use crate::data::relay::slab::SlabKey;

/// Which of our ports, and who sends to it.
pub(super) type FlowKey = (u32, SocketAddr);

/// No node.
const NONE: u32 = u32::MAX;

#[derive(Debug)]
struct FlowNode<T> {
    generation: u32,
    newer: u32,
    older: u32,
    flow: Option<(FlowKey, T)>,
}

/// The table.
#[derive(Debug)]
pub(super) struct Flows<T> {
    nodes: Vec<FlowNode<T>>,
    by_client: HashTable<u32>,
    /// Keyed at random: clients choose their ports, and some their addresses.
    hasher: RandomState,
    newest: u32,
    oldest: u32,
    free: Vec<u32>,
}

impl<T> Default for Flows<T> {
    fn default() -> Self {
        Self {
            nodes: Vec::new(),
            by_client: HashTable::new(),
            hasher: RandomState::new(),
            newest: NONE,
            oldest: NONE,
            free: Vec::new(),
        }
    }
}

impl<T> Flows<T> {
    /// Whether there is none.
    pub(super) fn is_empty(&self) -> bool {
        self.by_client.is_empty()
    }

    /// The flow of a client.
    pub(super) fn find(&self, from: FlowKey) -> Option<SlabKey> {
        let hash = self.hasher.hash_one(from);
        let is_it = |&slot: &u32| self.nodes[slot as usize].is_of(from);
        let slot = *self.by_client.find(hash, is_it)?;
        Some(SlabKey { slot, generation: self.nodes[slot as usize].generation })
    }

    /// Adds the flow of a client that has none, as the one used last.
    pub(super) fn insert(&mut self, from: FlowKey, flow: T) -> SlabKey {
        let slot = self.free.pop().unwrap_or_else(|| {
            let slot = u32::try_from(self.nodes.len()).expect("there are fewer descriptors");
            self.nodes.push(FlowNode { generation: 0, newer: NONE, older: NONE, flow: None });
            slot
        });
        self.nodes[slot as usize].flow = Some((from, flow));
        let (hasher, nodes) = (&self.hasher, &self.nodes);
        let hash_of = |&slot: &u32| {
            nodes[slot as usize].flow.as_ref().map_or(0, |(from, _)| hasher.hash_one(from))
        };
        self.by_client.insert_unique(hasher.hash_one(from), slot, hash_of);
        self.link(slot);
        SlabKey { slot, generation: self.nodes[slot as usize].generation }
    }

    /// A flow, if it is still there.
    pub(super) fn get_mut(&mut self, key: SlabKey) -> Option<&mut T> {
        let node = self.nodes.get_mut(key.slot as usize)?;
        if node.generation == key.generation {
            node.flow.as_mut().map(|(_, flow)| flow)
        } else {
            None
        }
    }

    /// Notes that it was used.
    pub(super) fn touch(&mut self, key: SlabKey) {
        if self.newest != key.slot {
            self.unlink(key.slot);
            self.link(key.slot);
        }
    }

    /// The one that was not used for the longest time.
    pub(super) fn oldest(&self) -> Option<(SlabKey, &T)> {
        let node = self.nodes.get(self.oldest as usize)?;
        let (_, flow) = node.flow.as_ref()?;
        Some((SlabKey { slot: self.oldest, generation: node.generation }, flow))
    }

    /// Takes one out.
    pub(super) fn remove(&mut self, key: SlabKey) -> Option<(FlowKey, T)> {
        let node = self
            .nodes
            .get_mut(key.slot as usize)
            .filter(|node| node.generation == key.generation)?;
        let (from, flow) = node.flow.take()?;
        node.generation = node.generation.wrapping_add(1);
        self.unlink(key.slot);
        let hash = self.hasher.hash_one(from);
        if let Ok(found) = self.by_client.find_entry(hash, |&slot| slot == key.slot) {
            found.remove();
        }
        self.free.push(key.slot);
        Some((from, flow))
    }

    /// All of them, of so many slots.
    pub(super) fn within(&self, slots: Range<u32>) -> impl Iterator<Item = (SlabKey, &T)> {
        let end = self.nodes.len().min(slots.end as usize);
        let nodes = self.nodes.get(slots.start as usize..end).unwrap_or_default();
        (slots.start..).zip(nodes).filter_map(|(slot, node)| {
            node.flow
                .as_ref()
                .map(|(_, flow)| (SlabKey { slot, generation: node.generation }, flow))
        })
    }

    /// How many slots there are, free ones included.
    pub(super) fn slots(&self) -> usize {
        self.nodes.len()
    }

    fn link(&mut self, slot: u32) {
        let newest = std::mem::replace(&mut self.newest, slot);
        let node = &mut self.nodes[slot as usize];
        (node.newer, node.older) = (NONE, newest);
        match self.nodes.get_mut(newest as usize) {
            Some(node) => node.newer = slot,
            None => self.oldest = slot,
        }
    }

    fn unlink(&mut self, slot: u32) {
        let FlowNode { newer, older, .. } = self.nodes[slot as usize];
        match self.nodes.get_mut(newer as usize) {
            Some(node) => node.older = older,
            None => self.newest = older,
        }
        match self.nodes.get_mut(older as usize) {
            Some(node) => node.newer = newer,
            None => self.oldest = newer,
        }
    }
}

impl<T> FlowNode<T> {
    fn is_of(&self, from: FlowKey) -> bool {
        self.flow.as_ref().is_some_and(|(found, _)| *found == from)
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
            let (mut flows, mut list) = (Flows::default(), Vec::<u16>::new());
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
