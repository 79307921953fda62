//! Connections of the balancer to servers: who stood behind which of its ports, and from when to when.
//!
//! A port of the balancer's is used again after a while, so each has a chain of connections, the newest
//! first. A connection is known from whichever of its records comes first.

use crate::attribution::costs;
use crate::attribution::memory::mappings::{NIL, put};
use crate::attribution::record::ExchangeEvent;
use std::collections::VecDeque;

use hashbrown::HashTable;

use crate::addr::ClientAddr;
use crate::mapping::MappingKind;
use crate::time::Timestamp;

/// A connection from the balancer to a server.
#[derive(Clone, Copy)]
pub(crate) struct KnownConnection {
    pub(crate) client: ClientAddr,
    /// Hash of the balancer's address.
    pub(crate) balancer: u32,
    /// The server's own port; 0 if it has none.
    pub(crate) server_port: u16,
    /// By which it is found: its balancer's number for it, and its port.
    number_key: u64,
    port_key: u64,
    /// Tells it from all others that were ever remembered.
    pub(crate) serial: u64,
    /// The earliest time that it is known to have been open.
    pub(crate) opened: Timestamp,
    /// When it was closed, or another one had its port; [`Timestamp::MAX`] while it is open.
    pub(crate) closed: Timestamp,
    /// The connection that had the port before, or [`NIL`].
    earlier: u32,
    /// The highest request that was seen on it, and the highest whose response has ended.
    pub(crate) asked: u32,
    pub(crate) ended: u32,
    /// The first whose line has not come.
    pub(crate) next: u32,
    /// When its last exchange under seal came to rest, and which that was; [`Timestamp::MIN`] if there was none.
    pub(crate) rested: (Timestamp, u32),
    /// Whether a line was guessed to be its own, or another's that may be its own.
    pub(crate) guessed: bool,
    /// See [`ExchangeEvent::is_foreign`].
    pub(crate) is_foreign: bool,
}

/// All of them.
#[derive(Default)]
pub(crate) struct ConnectionTable {
    slab: Vec<KnownConnection>,
    free: Vec<u32>,
    by_number: HashTable<(u64, u32)>,
    /// The newest connection of each port.
    by_port: HashTable<(u64, u32)>,
    /// In the order they came, or were looked at last.
    order: VecDeque<(u32, u64)>,
    serials: u64,
}

impl ConnectionTable {
    pub(crate) fn is_empty(&self) -> bool {
        self.slab.is_empty()
    }

    pub(crate) fn get(&self, index: u32) -> &KnownConnection {
        &self.slab[index as usize]
    }

    pub(crate) fn get_mut(&mut self, index: u32) -> &mut KnownConnection {
        &mut self.slab[index as usize]
    }

    /// The connection that a record at a server is about, made if need be.
    pub(crate) fn find_or_add(
        &mut self,
        server: u32,
        exchange: &ExchangeEvent,
        client: ClientAddr,
        time: Timestamp,
    ) -> u32 {
        let ExchangeEvent { connection, balancer, port, server_port, .. } = *exchange;
        let number_key = mix(mix(connection, u64::from(server)), pair(balancer, port.into()));
        if let Some(index) = find(&self.by_number, number_key) {
            let known = &mut self.slab[index as usize];
            known.opened = known.opened.min(time);
            return index;
        }
        self.serials += 1;
        let made = KnownConnection {
            client,
            balancer,
            server_port,
            number_key,
            port_key: port_key(server, port),
            serial: self.serials,
            opened: time,
            closed: Timestamp::MAX,
            earlier: NIL,
            asked: 0,
            ended: 0,
            next: 1,
            rested: (Timestamp::MIN, 0),
            guessed: false,
            is_foreign: exchange.is_foreign,
        };
        let index = put(&mut self.slab, &mut self.free, made);
        self.by_number.insert_unique(number_key, (number_key, index), |&(key, _)| key);
        self.order.push_back((index, self.serials));
        // A request of another balancer is found by itself: it would only fill the chain of its port.
        if port != 0 && !(exchange.is_foreign && exchange.kind == MappingKind::Request) {
            self.enter_chain(index);
        }
        index
    }

    /// The newest first; what was open there must have been closed.
    fn enter_chain(&mut self, index: u32) {
        let KnownConnection { port_key, opened, balancer, server_port, .. } =
            self.slab[index as usize];
        let is_same =
            |it: &KnownConnection| (it.balancer, it.server_port) == (balancer, server_port);
        let Some(newest) = find(&self.by_port, port_key) else {
            self.by_port.insert_unique(port_key, (port_key, index), |&(key, _)| key);
            return;
        };
        let (mut before, mut at, mut steps) = (NIL, newest, 0);
        while at != NIL && self.slab[at as usize].opened > opened && steps < costs::PORT_CONNECTIONS
        {
            (before, at, steps) = (at, self.slab[at as usize].earlier, steps + 1);
        }
        self.slab[index as usize].earlier = at;
        if before == NIL {
            self.set_newest(port_key, index);
        } else {
            self.slab[before as usize].earlier = index;
            let later = self.slab[before as usize];
            if is_same(&later) {
                self.slab[index as usize].closed = later.opened;
            }
        }
        if let Some(earlier) = self.slab.get_mut(at as usize)
            && is_same(earlier)
        {
            earlier.closed = earlier.closed.min(opened);
        }
        self.shorten(index);
    }

    /// Drops what is beyond the bound on a chain.
    fn shorten(&mut self, index: u32) {
        let newest = find(&self.by_port, self.slab[index as usize].port_key);
        let last = self.chain_from(newest.unwrap_or(NIL)).nth(costs::PORT_CONNECTIONS);
        if let Some(last) = last {
            self.remove(last);
        }
    }

    fn set_newest(&mut self, port_key: u64, index: u32) {
        if let Some(entry) = self.by_port.find_mut(port_key, |&(key, _)| key == port_key) {
            entry.1 = index;
        }
    }

    fn chain_from(&self, index: u32) -> impl Iterator<Item = u32> {
        let some = |index: u32| (index != NIL).then_some(index);
        std::iter::successors(some(index), move |&at| some(self.slab[at as usize].earlier))
    }

    /// The connections that had a port towards a server, the newest first.
    pub(crate) fn of_port(&self, server: u32, port: u16) -> impl Iterator<Item = u32> {
        self.chain_from(find(&self.by_port, port_key(server, port)).unwrap_or(NIL))
            .take(costs::PORT_CONNECTIONS)
    }

    /// Forgets some that were closed before `too_old`, and the oldest where there are too many. To be
    /// called for each that may have come: so as many go as come.
    pub(crate) fn tidy(&mut self, too_old: Timestamp, most: usize) {
        for _ in 0..2 {
            let Some((index, serial)) = self.order.pop_front() else { return };
            let connection = &self.slab[index as usize];
            if connection.serial != serial {
                continue;
            }
            let full = self.slab.len() - self.free.len() > most;
            if full || connection.closed < too_old {
                self.remove(index);
            } else {
                self.order.push_back((index, serial));
            }
        }
    }

    fn remove(&mut self, index: u32) {
        let KnownConnection { number_key, port_key, earlier, .. } = self.slab[index as usize];
        if let Ok(entry) = self.by_number.find_entry(number_key, |&it| it == (number_key, index)) {
            entry.remove();
        }
        if let Some(newest) = find(&self.by_port, port_key) {
            if newest == index && earlier == NIL {
                if let Ok(entry) = self.by_port.find_entry(port_key, |&(key, _)| key == port_key) {
                    entry.remove();
                }
            } else if newest == index {
                self.set_newest(port_key, earlier);
            } else {
                let is_before = |&at: &u32| self.slab[at as usize].earlier == index;
                let before = self.chain_from(newest).find(is_before);
                if let Some(before) = before {
                    self.slab[before as usize].earlier = earlier;
                }
            }
        }
        // So that nobody takes it for the one that was there.
        self.slab[index as usize].serial = 0;
        self.free.push(index);
    }
}

fn find(table: &HashTable<(u64, u32)>, key: u64) -> Option<u32> {
    table.find(key, |&(k, _)| k == key).map(|&(_, index)| index)
}

fn port_key(server: u32, port: u16) -> u64 {
    mix(pair(server, port.into()), 1)
}

fn pair(high: u32, low: u32) -> u64 {
    u64::from(high) << 32 | u64::from(low)
}

fn mix(a: u64, b: u64) -> u64 {
    let mixed = (a ^ b.wrapping_mul(0xA076_1D64_78BD_642F)).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    mixed ^ mixed >> 32
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exchange(connection: u64, port: u16) -> ExchangeEvent {
        ExchangeEvent {
            kind: MappingKind::Opened,
            connection,
            nth: 0,
            balancer: 7,
            port,
            server_port: 80,
            is_foreign: false,
            status: 0,
            user_agent: 0,
            referer: 0,
            bytes: None,
            sealed: None,
        }
    }

    fn add(connections: &mut ConnectionTable, number: u64, port: u16, seconds: i64) -> u32 {
        let (client, time) = (ClientAddr::Unix, Timestamp::from_seconds(seconds));
        connections.find_or_add(0, &exchange(number, port), client, time)
    }

    fn times(connections: &ConnectionTable, port: u16) -> Vec<i64> {
        let opened = |index| connections.get(index).opened.as_micros() / 1_000_000;
        connections.of_port(0, port).map(opened).collect()
    }

    #[test]
    fn a_port_has_its_connections_newest_first_however_their_records_came() {
        let mut connections = ConnectionTable::default();
        for (number, second) in [(1, 10), (2, 30), (3, 20), (1, 10), (4, 5)] {
            add(&mut connections, number, 80, second);
        }
        assert_eq!(times(&connections, 80), [30, 20, 10, 5]);
        assert_eq!(times(&connections, 81), [0; 0]);
        let closed: Vec<_> =
            connections.of_port(0, 80).map(|index| connections.get(index).closed).collect();
        let at = Timestamp::from_seconds;
        assert_eq!(closed, [Timestamp::MAX, at(30), at(20), at(10)]);
    }

    #[test]
    fn chains_and_all_of_them_are_bounded() {
        let mut connections = ConnectionTable::default();
        for number in 0..1_000 {
            add(&mut connections, number, 80, i64::try_from(number).unwrap());
            assert!(times(&connections, 80).len() <= costs::PORT_CONNECTIONS);
        }
        assert_eq!(times(&connections, 80)[0], 999);
        for number in 1_000..9_000 {
            let port = u16::try_from(number).unwrap();
            add(&mut connections, number, port, i64::try_from(number).unwrap());
            connections.tidy(Timestamp::from_seconds(0), 100);
        }
        let len = connections.slab.len() - connections.free.len();
        assert!(len <= 101 && connections.order.len() < 400, "{len}");
        assert_eq!(connections.by_number.len(), len);
        assert!(connections.by_port.len() <= len);
        assert_eq!(times(&connections, 8_999), [8_999]);
    }

    #[test]
    fn what_was_closed_long_ago_is_forgotten_and_what_is_open_is_not() {
        let mut connections = ConnectionTable::default();
        let open = add(&mut connections, 1, 80, 1);
        let serial = connections.get(open).serial;
        for number in 2..1_000 {
            let index = add(&mut connections, number, 81, 1);
            connections.get_mut(index).closed = Timestamp::from_seconds(2);
            connections.tidy(Timestamp::from_seconds(3), 1 << 20);
        }
        assert_eq!(connections.get(open).serial, serial);
        assert!(connections.slab.len() < 10, "{}", connections.slab.len());
    }
}
