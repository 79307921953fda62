//! Who went where: a table of clients of a fixed size, least recently used out first.
//!
//! Exact and O(1): entries lie in a slab and are linked in the order of their last use, and a hash
//! table finds them by address. That order is also the order in which they expire.

use std::hash::{BuildHasher as _, RandomState};
use std::num::NonZeroUsize;
use std::ops::Range;
use std::time::{Duration, Instant};

use hashbrown::HashTable;
use hashbrown::hash_table::Entry;
use pen_records::addr::ClientAddr;

use crate::config::PoolServerId;

/// What is known of a client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Client {
    /// Its address, which is its identity.
    pub addr: ClientAddr,
    /// When it connected last.
    pub last: Instant,
    /// Where it was sent last; never the emergency or the abuse server.
    pub server: Option<PoolServerId>,
    /// How often it connected.
    pub connects: u64,
    /// Bytes that were sent to it.
    pub sent: u64,
    /// Bytes that came from it.
    pub received: u64,
}

#[derive(Debug)]
struct ClientNode {
    client: Client,
    newer: u32,
    older: u32,
}

/// No node.
const NONE: u32 = u32::MAX;
/// Of a node whose client is forgotten.
const GONE: u32 = u32::MAX - 1;

/// The table.
#[derive(Debug)]
pub struct Clients {
    nodes: Vec<ClientNode>,
    by_addr: HashTable<u32>,
    /// Keyed at random: clients choose their addresses.
    hasher: RandomState,
    newest: u32,
    oldest: u32,
    free: Vec<u32>,
    size: NonZeroUsize,
    /// For how long a client is remembered.
    tracking: Option<Duration>,
}

impl Clients {
    /// An empty table for so many clients.
    #[must_use]
    pub fn new(size: NonZeroUsize, tracking: Option<Duration>) -> Self {
        Self {
            nodes: Vec::new(),
            by_addr: HashTable::new(),
            hasher: RandomState::new(),
            newest: NONE,
            oldest: NONE,
            free: Vec::new(),
            size,
            tracking,
        }
    }

    /// Changes the size and the time; who does not fit any more is forgotten, oldest first.
    pub fn resize(&mut self, size: NonZeroUsize, tracking: Option<Duration>) {
        (self.size, self.tracking) = (size, tracking);
        while self.len() > size.get() {
            self.forget_oldest();
        }
    }

    /// How many are remembered.
    #[must_use]
    pub fn len(&self) -> usize {
        self.by_addr.len()
    }

    /// Whether nobody is.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.by_addr.is_empty()
    }

    /// Notes that a client has connected, and hands out what is known of it. Who is remembered for
    /// too long starts anew.
    pub fn arrive(&mut self, addr: ClientAddr, now: Instant) -> &mut Client {
        // Each arrival adds at most one, so taking away two keeps the table free of old ones.
        for _ in 0..2 {
            self.expire_oldest(now);
        }
        let index = match self.find(addr) {
            Some(index) => {
                self.unlink(index);
                if self.is_expired(&self.node(index).client, now) {
                    self.node_mut(index).client = Client::new(addr, now);
                }
                index
            }
            None => self.insert(Client::new(addr, now)),
        };
        self.link_newest(index);
        let client = &mut self.node_mut(index).client;
        client.last = now;
        client.connects += 1;
        client
    }

    /// What is known of a client, if it is.
    pub fn get_mut(&mut self, addr: ClientAddr) -> Option<&mut Client> {
        let index = self.find(addr)?;
        Some(&mut self.node_mut(index).client)
    }

    /// All clients, those who connected last first.
    pub fn iter(&self) -> impl Iterator<Item = &Client> {
        let mut index = self.newest;
        std::iter::from_fn(move || {
            let node = self.nodes.get(index as usize)?;
            index = node.older;
            Some(&node.client)
        })
    }

    /// How many slots there are, with a client or without.
    #[must_use]
    pub fn slots(&self) -> usize {
        self.nodes.len()
    }

    /// The clients in these slots: who looks at all of them, but not at once, looks at no client twice and misses
    /// none that is remembered all the while.
    pub fn within(&self, slots: Range<usize>) -> impl Iterator<Item = &Client> {
        let slots = slots.start..slots.end.min(self.nodes.len());
        let nodes = self.nodes.get(slots).unwrap_or_default();
        nodes.iter().filter(|node| node.older != GONE).map(|node| &node.client)
    }

    fn is_expired(&self, client: &Client, now: Instant) -> bool {
        self.tracking.is_some_and(|time| now.saturating_duration_since(client.last) > time)
    }

    fn expire_oldest(&mut self, now: Instant) {
        if self.oldest != NONE && self.is_expired(&self.node(self.oldest).client, now) {
            self.forget_oldest();
        }
    }

    fn forget_oldest(&mut self) {
        let index = self.oldest;
        if index == NONE {
            return;
        }
        self.unlink(index);
        let hash = self.hasher.hash_one(self.node(index).client.addr);
        if let Ok(entry) = self.by_addr.find_entry(hash, |&other| other == index) {
            entry.remove();
        }
        self.node_mut(index).older = GONE;
        self.free.push(index);
    }

    fn find(&self, addr: ClientAddr) -> Option<u32> {
        let hash = self.hasher.hash_one(addr);
        self.by_addr.find(hash, |&index| self.node(index).client.addr == addr).copied()
    }

    fn insert(&mut self, client: Client) -> u32 {
        if self.len() >= self.size.get() {
            self.forget_oldest();
        }
        let addr = client.addr;
        let node = ClientNode { client, newer: NONE, older: NONE };
        let index = if let Some(index) = self.free.pop() {
            *self.node_mut(index) = node;
            index
        } else {
            self.nodes.push(node);
            u32::try_from(self.nodes.len() - 1).expect("a table of 2^32 clients has no memory")
        };
        let (nodes, hasher) = (&self.nodes, &self.hasher);
        let of = |index: &u32| nodes[*index as usize].client.addr;
        let entry = self.by_addr.entry(
            hasher.hash_one(addr),
            |other| of(other) == addr,
            |other| hasher.hash_one(of(other)),
        );
        if let Entry::Vacant(vacant) = entry {
            vacant.insert(index);
        }
        index
    }

    fn link_newest(&mut self, index: u32) {
        let second = self.newest;
        let node = self.node_mut(index);
        (node.newer, node.older) = (NONE, second);
        match second {
            NONE => self.oldest = index,
            second => self.node_mut(second).newer = index,
        }
        self.newest = index;
    }

    fn unlink(&mut self, index: u32) {
        let (newer, older) = (self.node(index).newer, self.node(index).older);
        match newer {
            NONE if self.newest == index => self.newest = older,
            NONE => {}
            newer => self.node_mut(newer).older = older,
        }
        match older {
            NONE if self.oldest == index => self.oldest = newer,
            NONE => {}
            older => self.node_mut(older).newer = newer,
        }
    }

    fn node(&self, index: u32) -> &ClientNode {
        &self.nodes[index as usize]
    }

    fn node_mut(&mut self, index: u32) -> &mut ClientNode {
        &mut self.nodes[index as usize]
    }
}

impl Client {
    const fn new(addr: ClientAddr, now: Instant) -> Self {
        Self { addr, last: now, server: None, connects: 0, sent: 0, received: 0 }
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use proptest::prelude::*;

    use super::*;

    /// The slow, obvious way: a list, newest first.
    struct Twin {
        clients: Vec<Client>,
        size: usize,
        tracking: Option<Duration>,
    }

    impl Twin {
        fn arrive(&mut self, addr: ClientAddr, now: Instant) -> &mut Client {
            if let Some(time) = self.tracking {
                self.clients.retain(|client| now - client.last <= time);
            }
            let known = self.clients.iter().position(|client| client.addr == addr);
            let client = match known {
                Some(at) => self.clients.remove(at),
                None => Client::new(addr, now),
            };
            self.clients.insert(0, client);
            self.clients.truncate(self.size);
            let client = &mut self.clients[0];
            client.last = now;
            client.connects += 1;
            client
        }
    }

    fn addr(number: u8) -> ClientAddr {
        ClientAddr::Ip(Ipv4Addr::new(10, 0, 0, number).into())
    }

    proptest! {
        #[test]
        fn the_table_remembers_what_a_list_remembers(
            size in 1_usize..8,
            tracking in proptest::option::of(1_u64..40),
            arrivals in proptest::collection::vec((0_u8..12, 0_u64..10), 0..200),
            shrink in 1_usize..8,
        ) {
            let tracking = tracking.map(Duration::from_secs);
            let mut table = Clients::new(NonZeroUsize::new(size).unwrap(), tracking);
            let mut twin = Twin { clients: Vec::new(), size, tracking };
            let mut now = Instant::now();
            for (nth, (number, pause)) in arrivals.into_iter().enumerate() {
                now += Duration::from_secs(pause);
                let server = Some(PoolServerId::Slot(u32::try_from(nth).unwrap()));
                let (left, right) = (table.arrive(addr(number), now), twin.arrive(addr(number), now));
                prop_assert_eq!(&*left, &*right);
                left.server = server;
                right.server = server;
                // The list forgets at once, the table two an arrival: the same to whoever asks.
                let fresh = |client: &&Client| tracking.is_none_or(|time| now - client.last <= time);
                prop_assert!(table.iter().filter(fresh).eq(twin.clients.iter()));
                prop_assert!(table.len() <= size);
                prop_assert_eq!(table.iter().count(), table.len());
                let mut found: Vec<_> = (0..table.slots()).flat_map(|at| table.within(at..at + 1)).collect();
                prop_assert_eq!(found.len(), table.len());
                found.sort_by_key(|client| std::cmp::Reverse(client.last));
                let lasts = |clients: Vec<&Client>| clients.iter().map(|client| client.last).collect::<Vec<_>>();
                prop_assert_eq!(lasts(found), lasts(table.iter().collect()));
            }
            table.resize(NonZeroUsize::new(shrink).unwrap(), None);
            prop_assert!(table.len() <= shrink);
        }
    }

    #[test]
    fn a_client_that_comes_back_too_late_is_a_new_one() {
        let mut table = Clients::new(NonZeroUsize::MIN, Some(Duration::from_secs(1)));
        let start = Instant::now();
        table.arrive(addr(1), start).server = Some(PoolServerId::Slot(3));
        let again = table.arrive(addr(1), start + Duration::from_secs(1));
        assert_eq!((again.server, again.connects), (Some(PoolServerId::Slot(3)), 2));
        let late = table.arrive(addr(1), start + Duration::from_secs(3));
        assert_eq!((late.server, late.connects), (None, 1));
    }

    #[test]
    fn whole_addresses_tell_clients_apart() {
        let mut table = Clients::new(NonZeroUsize::new(9).unwrap(), None);
        let now = Instant::now();
        for text in ["2001:db8::1", "2001:db8::2", "127.0.0.1", "::1"] {
            let addr = ClientAddr::parse(text.as_bytes()).unwrap();
            assert_eq!(table.arrive(addr, now).connects, 1, "{text}");
        }
        let mapped = ClientAddr::parse(b"::ffff:127.0.0.1").unwrap();
        assert_eq!(table.arrive(mapped, now).connects, 2);
    }
}
