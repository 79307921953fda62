//! Connections of the balancer to servers: which client had which of the balancer's ports, and when.
//!
//! Ports are used again after a while, so that each port has a chain of connections, the newest first. A
//! connection becomes known from whichever of its records comes first.

use std::collections::VecDeque;
use std::num::{NonZeroU16, NonZeroU32};

use hashbrown::HashTable;

use super::client::RecordedClient;
use super::slab::{Slab, Slot};
use crate::addr::ClientAddr;
use crate::attribution::costs;
use crate::attribution::record::ExchangeEvent;
use crate::hash::mix;
use crate::mapping::MappingKind;
use crate::time::Timestamp;

/// The place of a connection.
pub(crate) type ConnectionSlot = Slot<KnownConnection>;

/// A connection from the balancer to a server.
#[derive(Clone, Copy)]
#[expect(clippy::struct_excessive_bools, reason = "independent facts")]
pub(crate) struct KnownConnection {
    pub(crate) client: ClientAddr,
    /// Hash of the balancer's address; `None` if unknown.
    pub(crate) balancer: Option<NonZeroU32>,
    /// The server's own port.
    pub(crate) server_port: Option<NonZeroU16>,
    /// Keys by which the connection is found: of the balancer's number for it, and of the port.
    number_key: u64,
    port_key: u64,
    /// Number unique among all connections ever remembered; 0 once the connection is removed.
    pub(crate) serial: u64,
    /// The earliest time at which the connection is known to have been open.
    pub(crate) opened: Timestamp,
    /// When the connection was closed, or the port used again; [`Timestamp::MAX`] while open.
    pub(crate) closed: Timestamp,
    /// The connection that had the port before.
    earlier: Option<ConnectionSlot>,
    /// The highest request on the connection that a record named.
    pub(crate) asked: u32,
    /// How many requests have been recorded.
    pub(crate) recorded: u32,
    /// The highest request whose response has ended.
    pub(crate) ended: u32,
    /// The first request whose line has not come.
    pub(crate) next: u32,
    /// When the last TLS exchange ended, and its number; [`Timestamp::MIN`] before the first.
    pub(crate) rested: (Timestamp, u32),
    /// The most lines that its TLS exchanges may have; 0 without any.
    pub(crate) sealed: u32,
    /// Whether a line was given to this connection, or to a rival of it, by a guess.
    pub(crate) guessed: bool,
    /// Hash of the last request that a line took; 0 before the first.
    pub(crate) taken: u32,
    /// Whether the record of the opening has come.
    announced: bool,
    /// See [`ExchangeEvent::is_third_party`].
    pub(crate) is_third_party: bool,
    /// Whether a record of the connection came from a sender without a key.
    pub(crate) is_unauthenticated: bool,
}

impl KnownConnection {
    /// Returns the client, and how it is known.
    pub(crate) const fn recorded_client(&self) -> RecordedClient {
        RecordedClient { addr: self.client, is_unauthenticated: self.is_unauthenticated }
    }

    /// Whether the connection is open, as far as the records say.
    pub(crate) fn is_open(&self) -> bool {
        self.closed == Timestamp::MAX
    }

    /// Whether all requests of the connection are known, as far as the records say.
    pub(crate) fn has_all_requests(&self) -> bool {
        self.asked > 0 && self.recorded >= self.asked.max(self.ended) && !self.is_third_party
    }

    /// Whether all requests of the connection have had their lines, as far as the records say.
    pub(crate) fn is_exhausted(&self) -> bool {
        let of_requests = self.asked > 0 && self.next > self.asked;
        of_requests || self.sealed > 0 && !self.is_open() && self.next > self.sealed
    }

    /// Whether a record with this connection's number and port is about a later connection: a balancer that
    /// starts again counts from 1 again, and its ports come again. Records may come a little out of order, and
    /// the record of the close may be lost.
    fn is_before(&self, kind: MappingKind, client: ClientAddr, time: Timestamp) -> bool {
        if self.is_third_party {
            return false;
        }
        if self.client != client {
            return true;
        }
        let since = |from: Timestamp| time.micros_since(from) > costs::RECORDS_REORDERED;
        match kind {
            MappingKind::Opened => since(self.closed) || self.announced && since(self.opened),
            MappingKind::Request => since(self.closed),
            MappingKind::Ended | MappingKind::Closed => false,
        }
    }
}

/// All known connections.
#[derive(Default)]
pub(crate) struct ConnectionTable {
    slab: Slab<KnownConnection>,
    by_number: HashTable<(u64, ConnectionSlot)>,
    /// The newest connection of each port.
    by_port: HashTable<(u64, ConnectionSlot)>,
    /// Slots and serial numbers, in the order of arrival or of the last check by [`Self::tidy`].
    order: VecDeque<(ConnectionSlot, u64)>,
    serials: u64,
}

impl ConnectionTable {
    pub(crate) fn is_empty(&self) -> bool {
        self.slab.is_unused()
    }

    pub(crate) fn get(&self, index: ConnectionSlot) -> &KnownConnection {
        &self.slab[index]
    }

    pub(crate) fn get_mut(&mut self, index: ConnectionSlot) -> &mut KnownConnection {
        &mut self.slab[index]
    }

    /// Returns the connection that a record at a server names; an unknown connection is added.
    pub(crate) fn find_or_add(
        &mut self,
        server: u32,
        exchange: &ExchangeEvent,
        client: ClientAddr,
        time: Timestamp,
    ) -> ConnectionSlot {
        let ExchangeEvent { connection, balancer, port, server_port, .. } = *exchange;
        let number_key = mix(
            mix(connection, u64::from(server)),
            pair(balancer.map_or(0, NonZeroU32::get), port.map_or(0, NonZeroU16::get)),
        );
        if let Some(index) = find(&self.by_number, number_key) {
            let known = &mut self.slab[index];
            if !known.is_before(exchange.kind, client, time) {
                known.opened = known.opened.min(time);
                known.announced |= exchange.kind == MappingKind::Opened;
                return index;
            }
            self.forget_number(index);
        }
        self.serials += 1;
        let made = KnownConnection {
            client,
            balancer,
            server_port,
            number_key,
            port_key: port_key(server, port.map_or(0, NonZeroU16::get)),
            serial: self.serials,
            opened: time,
            closed: Timestamp::MAX,
            earlier: None,
            asked: 0,
            recorded: 0,
            ended: 0,
            next: 1,
            rested: (Timestamp::MIN, 0),
            sealed: 0,
            guessed: false,
            taken: 0,
            announced: exchange.kind == MappingKind::Opened,
            is_third_party: exchange.is_third_party,
            is_unauthenticated: false,
        };
        let index = self.slab.insert(made);
        self.by_number.insert_unique(number_key, (number_key, index), |&(key, _)| key);
        self.order.push_back((index, self.serials));
        // A request of another balancer is found by its group; here it would only fill the chain of
        // the port.
        if port.is_some() && !(exchange.is_third_party && exchange.kind == MappingKind::Request) {
            self.enter_chain(index);
        }
        index
    }

    /// Puts a connection into the chain of its port, the newest first. An older connection must
    /// have been closed before.
    fn enter_chain(&mut self, index: ConnectionSlot) {
        let KnownConnection { port_key, opened, balancer, server_port, .. } = self.slab[index];
        let is_same =
            |it: &KnownConnection| (it.balancer, it.server_port) == (balancer, server_port);
        let Some(newest) = find(&self.by_port, port_key) else {
            self.by_port.insert_unique(port_key, (port_key, index), |&(key, _)| key);
            return;
        };
        let (mut before, mut at, mut steps) = (None, Some(newest), 0);
        while let Some(here) = at.filter(|&at| self.slab[at].opened > opened)
            && steps < costs::PORT_CONNECTIONS
        {
            (before, at, steps) = (Some(here), self.slab[here].earlier, steps + 1);
        }
        self.slab[index].earlier = at;
        if let Some(before) = before {
            self.slab[before].earlier = Some(index);
            let later = self.slab[before];
            if is_same(&later) {
                self.slab[index].closed = later.opened;
            }
        } else {
            self.set_newest(port_key, index);
        }
        if let Some(earlier) = at.map(|at| &mut self.slab[at])
            && is_same(earlier)
        {
            earlier.closed = earlier.closed.min(opened);
        }
        self.shorten(index);
    }

    /// Removes the connection beyond the bound on a chain.
    fn shorten(&mut self, index: ConnectionSlot) {
        let newest = find(&self.by_port, self.slab[index].port_key);
        let last = self.chain_from(newest).nth(costs::PORT_CONNECTIONS);
        if let Some(last) = last {
            self.remove(last);
        }
    }

    fn set_newest(&mut self, port_key: u64, index: ConnectionSlot) {
        if let Some(entry) = self.by_port.find_mut(port_key, |&(key, _)| key == port_key) {
            entry.1 = index;
        }
    }

    fn chain_from(&self, first: Option<ConnectionSlot>) -> impl Iterator<Item = ConnectionSlot> {
        std::iter::successors(first, move |&at| self.slab[at].earlier)
    }

    /// Returns the connections that had a port towards a server, the newest first.
    pub(crate) fn of_port(&self, server: u32, port: u16) -> impl Iterator<Item = ConnectionSlot> {
        let newest = find(&self.by_port, port_key(server, port));
        self.chain_from(newest).take(costs::PORT_CONNECTIONS)
    }

    /// Forgets up to two connections that were closed before `too_old`, or are the oldest of too
    /// many. A call for each new connection keeps their number bounded.
    pub(crate) fn tidy(&mut self, too_old: Timestamp, most: usize) {
        for _ in 0..2 {
            let Some((index, serial)) = self.order.pop_front() else { return };
            let connection = &self.slab[index];
            if connection.serial != serial {
                continue;
            }
            let full = self.slab.len() > most;
            if full || connection.closed < too_old {
                self.remove(index);
            } else {
                self.order.push_back((index, serial));
            }
        }
    }

    /// Makes a connection no longer findable by its number.
    fn forget_number(&mut self, index: ConnectionSlot) {
        let number_key = self.slab[index].number_key;
        if let Ok(entry) = self.by_number.find_entry(number_key, |&it| it == (number_key, index)) {
            entry.remove();
        }
    }

    fn remove(&mut self, index: ConnectionSlot) {
        let KnownConnection { port_key, earlier, .. } = self.slab[index];
        self.forget_number(index);
        if let Some(newest) = find(&self.by_port, port_key) {
            if newest == index && earlier.is_none() {
                if let Ok(entry) = self.by_port.find_entry(port_key, |&(key, _)| key == port_key) {
                    entry.remove();
                }
            } else if let Some(earlier) = earlier.filter(|_| newest == index) {
                self.set_newest(port_key, earlier);
            } else {
                let is_before = |&at: &ConnectionSlot| self.slab[at].earlier == Some(index);
                let before = self.chain_from(Some(newest)).find(is_before);
                if let Some(before) = before {
                    self.slab[before].earlier = earlier;
                }
            }
        }
        // A stale entry of `order` does not match serial number 0.
        self.slab[index].serial = 0;
        self.slab.free(index);
    }
}

fn find(table: &HashTable<(u64, ConnectionSlot)>, key: u64) -> Option<ConnectionSlot> {
    table.find(key, |&(k, _)| k == key).map(|&(_, index)| index)
}

fn port_key(server: u32, port: u16) -> u64 {
    mix(pair(server, port), 1)
}

fn pair(high: u32, low: u16) -> u64 {
    u64::from(high) << 32 | u64::from(low)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exchange(connection: u64, port: u16) -> ExchangeEvent {
        ExchangeEvent {
            request_id: None,
            body_end: None,
            kind: MappingKind::Opened,
            connection,
            nth: 0,
            balancer: NonZeroU32::new(7),
            port: NonZeroU16::new(port),
            server_port: NonZeroU16::new(80),
            is_third_party: false,
            status: None,
            user_agent: None,
            referer: None,
            host: None,
            bytes: None,
            tls: None,
        }
    }

    fn add(
        connections: &mut ConnectionTable,
        number: u64,
        port: u16,
        seconds: i64,
    ) -> ConnectionSlot {
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
    fn a_number_that_comes_again_is_another_connection() {
        use MappingKind::{Closed, Ended, Opened, Request};
        // Whether the close came; the second record: its kind, its client, and milliseconds since the close.
        for (has_closed, kind, client, later, is_same) in [
            (true, Opened, 1, 1, true),
            (true, Opened, 1, 1_500, false),
            (true, Opened, 2, 1, false),
            (true, Request, 1, 900, true),
            (true, Request, 1, 60_000, false),
            (true, Ended, 1, 60_000, true),
            (true, Closed, 1, 60_000, true),
            (true, Ended, 2, 1, false),
            (false, Opened, 1, 1, true),
            (false, Opened, 1, 1_500, false),
            (false, Opened, 2, 1, false),
            (false, Request, 1, 60_000, true),
            (false, Request, 2, 60_000, false),
        ] {
            let mut connections = ConnectionTable::default();
            let addr = |n: u8| ClientAddr::Ip([192, 0, 2, n].into());
            let at = |millis: i64| Timestamp::from_seconds(100).offset_by(millis * 1_000);
            let first = connections.find_or_add(0, &exchange(1, 80), addr(1), at(0));
            if has_closed {
                connections.get_mut(first).closed = at(0);
            }
            let event = ExchangeEvent { kind, ..exchange(1, 80) };
            let second = connections.find_or_add(0, &event, addr(client), at(later));
            let what = format!("{has_closed} {kind:?} {client} {later}");
            assert_eq!(first == second, is_same, "{what}");
            // Found again by its number.
            let event = ExchangeEvent { kind: Ended, ..exchange(1, 80) };
            let third = connections.find_or_add(0, &event, addr(client), at(later));
            assert_eq!(third, second, "{what}");
            assert_eq!(connections.of_port(0, 80).count(), if is_same { 1 } else { 2 });
        }
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
        let len = connections.slab.len();
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
        assert!(connections.slab.slots() < 10, "{}", connections.slab.slots());
    }
}
