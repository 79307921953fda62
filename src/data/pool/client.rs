//! The table of clients, each with its last server. The size is limited: the least recently seen
//! client is forgotten first.
//!
//! Exact, and each step takes constant time: entries lie in a slab, are linked in the order of last
//! use, and are found by a hash table. Entries expire in the same order.

use std::hash::{BuildHasher as _, RandomState};
use std::num::NonZeroUsize;
use std::ops::Range;
use std::time::{Duration, Instant};

use hashbrown::HashTable;
use pen_records::addr::ClientAddr;

use crate::config::PoolServerId;
use crate::data::slab::{RecencyList, Slab};

/// What is known of a client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Client {
    /// Address of the client, which identifies it.
    pub addr: ClientAddr,
    /// When it connected last.
    pub last: Instant,
    /// The last server; never the emergency or the abuse server.
    pub server: Option<PoolServerId>,
    /// How often it connected.
    pub connects: u64,
    /// Bytes sent to it.
    pub sent: u64,
    /// Bytes received from it.
    pub received: u64,
}

/// The table.
#[derive(Debug)]
pub struct Clients {
    entries: Slab<Client>,
    order: RecencyList,
    /// Slots by address.
    by_addr: HashTable<u32>,
    /// Keyed at random: clients choose their addresses.
    hasher: RandomState,
    /// The most clients that are remembered.
    size: NonZeroUsize,
    /// How long a client is remembered; `None` is without end.
    tracking: Option<Duration>,
}

impl Clients {
    /// Creates an empty table for up to `size` clients.
    #[must_use]
    pub fn new(size: NonZeroUsize, tracking: Option<Duration>) -> Self {
        Self {
            entries: Slab::default(),
            order: RecencyList::default(),
            by_addr: HashTable::new(),
            hasher: RandomState::new(),
            size,
            tracking,
        }
    }

    /// Changes the size and the tracking time. Clients that exceed the size are forgotten, oldest first.
    pub fn resize(&mut self, size: NonZeroUsize, tracking: Option<Duration>) {
        (self.size, self.tracking) = (size, tracking);
        while self.len() > size.get() {
            self.forget_oldest();
        }
    }

    /// Returns how many clients are remembered.
    #[must_use]
    pub fn len(&self) -> usize {
        self.by_addr.len()
    }

    /// Returns whether no client is remembered.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.by_addr.is_empty()
    }

    /// Counts a connection of a client, and returns the client's entry. An expired entry begins
    /// anew.
    pub fn arrive(&mut self, addr: ClientAddr, now: Instant) -> &mut Client {
        // Each arrival adds one entry at most, so that removing two keeps the table free of expired entries.
        for _ in 0..2 {
            self.expire_oldest(now);
        }
        let slot = match self.find(addr) {
            Some(slot) => {
                if self.entries.at(slot).is_some_and(|client| self.is_expired(client, now)) {
                    *self.entry(slot) = Client::new(addr, now);
                }
                self.order.touch(slot);
                slot
            }
            None => self.insert(Client::new(addr, now)),
        };
        let client = self.entry(slot);
        client.last = now;
        client.connects += 1;
        client
    }

    /// Returns the entry of a client, if remembered.
    pub fn get_mut(&mut self, addr: ClientAddr) -> Option<&mut Client> {
        let slot = self.find(addr)?;
        self.entries.at_mut(slot)
    }

    /// Returns all clients, the client that connected last first.
    pub fn iter(&self) -> impl Iterator<Item = &Client> {
        let slots = std::iter::successors(self.order.newest(), |&slot| self.order.older(slot));
        slots.filter_map(|slot| self.entries.at(slot))
    }

    /// Returns how many slots there are, free slots included.
    #[must_use]
    pub fn slots(&self) -> usize {
        self.entries.slots()
    }

    /// Returns the clients in these slots. A caller that visits all slots in several calls sees
    /// each remembered client once.
    pub fn within(&self, slots: Range<usize>) -> impl Iterator<Item = &Client> {
        let slot = |at: usize| u32::try_from(at).unwrap_or(u32::MAX);
        self.entries.within(slot(slots.start)..slot(slots.end)).map(|(_, client)| client)
    }

    fn is_expired(&self, client: &Client, now: Instant) -> bool {
        self.tracking.is_some_and(|time| now.saturating_duration_since(client.last) > time)
    }

    fn expire_oldest(&mut self, now: Instant) {
        let oldest = self.order.oldest().and_then(|slot| self.entries.at(slot));
        if oldest.is_some_and(|client| self.is_expired(client, now)) {
            self.forget_oldest();
        }
    }

    fn forget_oldest(&mut self) {
        let Some(slot) = self.order.oldest() else { return };
        self.order.remove(slot);
        let Some(client) = self.entries.key(slot).and_then(|key| self.entries.remove(key)) else {
            return;
        };
        let hash = self.hasher.hash_one(client.addr);
        if let Ok(entry) = self.by_addr.find_entry(hash, |&other| other == slot) {
            entry.remove();
        }
    }

    fn find(&self, addr: ClientAddr) -> Option<u32> {
        let hash = self.hasher.hash_one(addr);
        let is_it = |&slot: &u32| self.entries.at(slot).is_some_and(|client| client.addr == addr);
        self.by_addr.find(hash, is_it).copied()
    }

    /// Adds a new client, as the newest. Returns the slot.
    fn insert(&mut self, client: Client) -> u32 {
        if self.len() >= self.size.get() {
            self.forget_oldest();
        }
        let hash = self.hasher.hash_one(client.addr);
        let slot = self.entries.insert(client).slot;
        let (entries, hasher) = (&self.entries, &self.hasher);
        let hash_of =
            |&slot: &u32| entries.at(slot).map_or(0, |client| hasher.hash_one(client.addr));
        self.by_addr.insert_unique(hash, slot, hash_of);
        self.order.push(slot);
        slot
    }

    fn entry(&mut self, slot: u32) -> &mut Client {
        self.entries.at_mut(slot).expect("listed slots have a client")
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
                // The list forgets at once, the table two entries an arrival: callers see no
                // difference.
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
