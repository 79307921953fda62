//! Exchanges in passed-through TLS of one server, in the order of their ends.

use std::collections::VecDeque;
use std::num::{NonZeroU16, NonZeroU32};

use super::client::ClientHash;
use crate::addr::ClientAddr;
use crate::attribution::costs;
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
    /// Bytes of the response that no line has explained.
    pub(crate) left: u32,
    /// The most lines that the exchange may have.
    pub(crate) requests: u32,
    /// The lines that it has had.
    pub(crate) lines: u32,
    /// Whether the exchange was a candidate in a guess.
    pub(crate) contested: bool,
}

/// The TLS exchanges of one server.
#[derive(Default)]
pub(crate) struct TlsExchanges(VecDeque<TlsExchange>);

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
            match known.and_then(|known| self.0.remove(known)) {
                Some(before) => {
                    (exchange.lines, exchange.contested) = (before.lines, before.contested);
                }
                // All its lines had come, though it was not over.
                None => {
                    exchange.lines = 1;
                    exchange.requests = exchange.requests.max(2);
                    exchange.contested = true;
                }
            }
        }
        while self.0.front().is_some_and(|front| front.ended < too_old)
            || self.0.len() >= costs::TLS_EXCHANGES
        {
            self.0.pop_front();
        }
        let place = self.0.partition_point(|other| other.ended <= exchange.ended);
        self.0.insert(place, exchange);
    }

    fn find(&self, connection: u64, nth: u32, ended: Timestamp) -> Option<usize> {
        let first = self.0.partition_point(|exchange| exchange.ended < ended);
        let at_that_time = self.0.iter().enumerate().skip(first);
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
        let first = self.0.partition_point(|exchange| exchange.ended < from);
        self.0.iter().enumerate().skip(first).take_while(move |(_, exchange)| exchange.ended <= to)
    }

    /// Marks the exchange at a place as a candidate in a guess.
    pub(crate) fn contest(&mut self, place: usize) {
        if let Some(exchange) = self.0.get_mut(place) {
            exchange.contested = true;
        }
    }

    /// Gives a line with so many bytes to the exchange at a place, and removes the exchange once no more
    /// lines can be its own. `overhead` is the least that a line takes beyond its bytes; less than
    /// `least_left` bytes are no further line.
    pub(crate) fn take(&mut self, place: usize, bytes: u32, overhead: u32, least_left: u32) {
        let Some(exchange) = self.0.get_mut(place) else { return };
        exchange.lines += 1;
        exchange.left = exchange.left.saturating_sub(bytes.saturating_add(overhead));
        let is_over = exchange.left < least_left;
        // Two requests may have come in one TLS record of the client: then too much is left for no line.
        let may_have_more = exchange.nth > 1 && exchange.lines < 2 * exchange.requests;
        if is_over || exchange.lines >= exchange.requests && !may_have_more {
            self.0.remove(place);
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
            left: 1_000,
            requests: 2,
            lines: 0,
            contested: false,
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
        turns.take(1, 300, 20, 300);
        assert_eq!(order(&turns).len(), 4, "there is room for another line");
        turns.take(1, 600, 20, 300);
        assert_eq!(order(&turns), [(2, 1), (1, 1), (1, 2)]);
        turns.add(turn(9, 1, 500), (at(0), 0), at(140));
        assert_eq!(order(&turns), [(1, 2), (9, 1)], "what is too old is forgotten");
    }
}
