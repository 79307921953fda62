//! Exchanges in passed-through TLS of one server, in the order of their ends.

use std::collections::VecDeque;
use std::num::{NonZeroU16, NonZeroU32};

use super::client::{ClientHash, RecordedClient};
use crate::addr::ClientAddr;
use crate::attribution::costs;
use crate::attribution::line::HeldLine;
use crate::time::Timestamp;

/// An exchange that may still have lines to come.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TlsExchange {
    pub(crate) client: ClientAddr,
    pub(crate) client_hash: ClientHash,
    /// The connection's serial number.
    pub(crate) connection: u64,
    /// Which exchange on the connection, from 1.
    pub(crate) nth: u32,
    pub(crate) began: Timestamp,
    pub(crate) ended: Timestamp,
    /// Hash of the balancer's address; `None` if unknown.
    pub(crate) balancer: Option<NonZeroU32>,
    /// The server's own port.
    pub(crate) server_port: Option<NonZeroU16>,
    /// Bytes of the request.
    pub(crate) asked: u32,
    /// Bytes of the response.
    pub(crate) answered: u32,
    /// The most lines that the exchange may have.
    pub(crate) requests: u32,
    /// The lines that it has had.
    pub(crate) lines: u32,
    /// Whether the record came from a sender without a key.
    pub(crate) is_unauthenticated: bool,
}

impl TlsExchange {
    /// Returns the client, and how it is known.
    pub(crate) const fn recorded_client(&self) -> RecordedClient {
        RecordedClient { addr: self.client, is_unauthenticated: self.is_unauthenticated }
    }
}

/// A request of an exchange: the place of one line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TlsSlotKey {
    pub(crate) connection: u64,
    pub(crate) nth: u32,
    /// Which request of the exchange, from 0.
    pub(crate) request: u32,
    pub(crate) ended: Timestamp,
}

impl TlsSlotKey {
    /// Whether the slot comes before another one.
    pub(crate) fn is_behind(self, other: Self) -> bool {
        if (self.connection, self.nth) == (other.connection, other.nth) {
            return self.request < other.request;
        }
        self.ended < other.ended
    }
}

/// The TLS exchanges of one server, and the last lines beside.
#[derive(Default)]
pub(crate) struct TlsExchanges {
    all: VecDeque<TlsExchange>,
    /// The last lines that were decided by these exchanges.
    pub(crate) past: VecDeque<HeldLine>,
    /// The slot of the line before these.
    pub(crate) base: Option<TlsSlotKey>,
}

impl TlsExchanges {
    /// Adds an exchange. `rested` is when the last exchange of its connection was thought to have ended, and
    /// that exchange's number: with the same number, that exchange has gone on.
    pub(crate) fn add(
        &mut self,
        mut exchange: TlsExchange,
        rested: (Timestamp, u32),
        too_old: Timestamp,
    ) {
        if exchange.nth == rested.1 {
            let known = self.find(exchange.connection, exchange.nth, rested.0);
            if let Some(before) = known.and_then(|known| self.all.remove(known)) {
                exchange.lines = before.lines;
            }
        }
        while self.all.front().is_some_and(|front| front.ended < too_old)
            || self.all.len() >= costs::TLS_EXCHANGES
        {
            self.all.pop_front();
        }
        let place = self.all.partition_point(|other| other.ended <= exchange.ended);
        self.all.insert(place, exchange);
    }

    fn find(&self, connection: u64, nth: u32, ended: Timestamp) -> Option<usize> {
        let first = self.all.partition_point(|exchange| exchange.ended < ended);
        let at_that_time = self.all.iter().enumerate().skip(first);
        at_that_time
            .take_while(|(_, exchange)| exchange.ended == ended)
            .find(|(_, exchange)| (exchange.connection, exchange.nth) == (connection, nth))
            .map(|(place, _)| place)
    }

    /// Returns the exchanges with an end in this time and their places, the oldest first.
    pub(crate) fn within(
        &self,
        from: Timestamp,
        to: Timestamp,
    ) -> impl Iterator<Item = (usize, &TlsExchange)> {
        let first = self.all.partition_point(|exchange| exchange.ended < from);
        self.all
            .iter()
            .enumerate()
            .skip(first)
            .take_while(move |(_, exchange)| exchange.ended <= to)
    }

    /// Returns how many exchanges have an end in this time.
    pub(crate) fn count(&self, from: Timestamp, to: Timestamp) -> usize {
        let first = self.all.partition_point(|exchange| exchange.ended < from);
        self.all.partition_point(|exchange| exchange.ended <= to) - first
    }

    /// Counts a line of the exchange at a place.
    pub(crate) fn take(&mut self, place: usize) {
        if let Some(exchange) = self.all.get_mut(place) {
            exchange.lines += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn turn(connection: u64, nth: u32, ended: i64) -> TlsExchange {
        let client = ClientAddr::Unix;
        let at = Timestamp::from_micros;
        TlsExchange {
            client,
            client_hash: ClientHash::of(client),
            connection,
            nth,
            began: at(ended - 5),
            ended: at(ended),
            balancer: None,
            server_port: NonZeroU16::new(443),
            asked: 300,
            answered: 1_000,
            requests: 2,
            lines: 0,
            is_unauthenticated: false,
        }
    }

    #[test]
    fn an_exchange_that_goes_on_is_one_and_all_are_in_order() {
        let at = Timestamp::from_micros;
        let mut turns = TlsExchanges::default();
        for (connection, nth, ended, rested) in
            [(1, 1, 100, 0), (2, 1, 90, 0), (1, 1, 130, 100), (3, 1, 100, 0), (1, 2, 150, 130)]
        {
            let before = if rested == 0 { 0 } else { 1 };
            turns.add(turn(connection, nth, ended), (at(rested), before), at(0));
        }
        let order = |turns: &TlsExchanges| -> Vec<(u64, u32)> {
            turns.within(at(0), at(999)).map(|(_, turn)| (turn.connection, turn.nth)).collect()
        };
        assert_eq!(order(&turns), [(2, 1), (3, 1), (1, 1), (1, 2)]);
        turns.add(turn(9, 1, 500), (at(0), 0), at(140));
        assert_eq!(order(&turns), [(1, 2), (9, 1)], "what is too old is forgotten");
    }
}
