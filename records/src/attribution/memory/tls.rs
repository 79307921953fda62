//! Exchanges under seal: those of one server, in the order in which they came to rest, and what is learnt
//! of how the sizes of their ciphertext go with those that are logged.

use crate::attribution::costs;
use crate::attribution::learnt::delays::ServerDelays;
use crate::attribution::learnt::fit::FitError;
use crate::attribution::learnt::user_agents::ClientHash;
use std::collections::VecDeque;

use crate::addr::ClientAddr;
use crate::time::Timestamp;

/// An exchange that may still have lines to come.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TlsExchange {
    pub(crate) client: ClientAddr,
    pub(crate) tag: ClientHash,
    /// The connection's serial number, and which exchange on it.
    pub(crate) connection: u64,
    pub(crate) nth: u32,
    pub(crate) began: Timestamp,
    pub(crate) ended: Timestamp,
    /// Hash of the balancer's address; 0 if it is not known.
    pub(crate) balancer: u32,
    pub(crate) server_port: u16,
    /// Bytes of it that no line has explained.
    pub(crate) left: u32,
    /// How many lines it may have at most, and has had.
    pub(crate) requests: u32,
    pub(crate) lines: u32,
    /// Whether it was a candidate in a guess.
    pub(crate) tainted: bool,
}

/// All of a server's.
pub(crate) struct TlsExchanges {
    turns: VecDeque<TlsExchange>,
    /// From the end of an exchange to its line.
    pub(crate) delays: ServerDelays,
    /// Of the first exchange of a connection, with which the handshake may end, and of others.
    sizes: [TlsSizes; 2],
    /// The smallest exchange of one line.
    smallest: u32,
    /// Lines that found no exchange, per million, a moving average.
    missing: i64,
    /// How well lines fitted of late.
    pub(crate) strain: FitError,
}

impl TlsExchanges {
    pub(crate) fn new() -> Self {
        Self {
            turns: VecDeque::new(),
            delays: ServerDelays::new(),
            sizes: [TlsSizes::new(), TlsSizes::new()],
            smallest: costs::TLS_SMALLEST,
            missing: 0,
            strain: FitError::new(),
        }
    }

    /// Notes an exchange. `rested` is when its connection was last thought to rest, and in which: if that is
    /// the same one, it has gone on.
    pub(crate) fn note(
        &mut self,
        mut turn: TlsExchange,
        rested: (Timestamp, u32),
        too_old: Timestamp,
    ) {
        if turn.nth == rested.1 {
            let known = self.find(turn.connection, turn.nth, rested.0);
            match known.and_then(|known| self.turns.remove(known)) {
                Some(before) => (turn.lines, turn.tainted) = (before.lines, before.tainted),
                // It was used up, though it was not over.
                None => (turn.lines, turn.requests, turn.tainted) = (1, turn.requests.max(2), true),
            }
        }
        while self.turns.front().is_some_and(|front| front.ended < too_old)
            || self.turns.len() >= costs::TLS_EXCHANGES
        {
            self.turns.pop_front();
        }
        let place = self.turns.partition_point(|other| other.ended <= turn.ended);
        self.turns.insert(place, turn);
    }

    fn find(&self, connection: u64, nth: u32, rested: Timestamp) -> Option<usize> {
        let first = self.turns.partition_point(|turn| turn.ended < rested);
        let at_that_time = self.turns.iter().enumerate().skip(first);
        at_that_time
            .take_while(|(_, turn)| turn.ended == rested)
            .find(|(_, turn)| (turn.connection, turn.nth) == (connection, nth))
            .map(|(place, _)| place)
    }

    /// Those that came to rest within this time, the oldest first.
    pub(crate) fn within(
        &self,
        from: Timestamp,
        to: Timestamp,
    ) -> impl Iterator<Item = (usize, &TlsExchange)> {
        let first = self.turns.partition_point(|turn| turn.ended < from);
        self.turns.iter().enumerate().skip(first).take_while(move |(_, turn)| turn.ended <= to)
    }

    pub(crate) fn taint(&mut self, place: usize) {
        if let Some(turn) = self.turns.get_mut(place) {
            turn.tainted = true;
        }
    }

    /// A line is of this exchange. It goes once no more can be.
    pub(crate) fn take(&mut self, place: usize, bytes: u32) {
        let Some(turn) = self.turns.get_mut(place) else { return };
        let least = self.sizes[0].least;
        turn.lines += 1;
        turn.left = turn.left.saturating_sub(bytes.saturating_add(least));
        let is_over = turn.left < self.smallest / 4 * 3;
        // Two requests may have come in one record of the client's: what is left is then too much for none.
        let may_be_more = turn.nth > 1 && turn.lines < 2 * turn.requests;
        if is_over || turn.lines >= turn.requests && !may_be_more {
            self.turns.remove(place);
        }
    }

    /// What it costs that a line with so many bytes is of an exchange, in thousandths of a natural logarithm.
    pub(crate) fn cost_of_size(&self, turn: &TlsExchange, bytes: u32) -> i64 {
        let beyond = i64::from(turn.left) - i64::from(bytes);
        let cost = self.sizes[usize::from(turn.nth == 1)].cost(beyond);
        let shares =
            turn.requests > turn.lines + 1 && beyond >= i64::from(costs::TLS_LEAST_OVERHEAD);
        if shares { cost.min(costs::TLS_SHARED_SIZE) } else { cost }
    }

    /// Learns from a line that surely is of an exchange.
    pub(crate) fn learn_size(&mut self, turn: &TlsExchange, bytes: u32) {
        if turn.lines == 0 && turn.requests == 1 {
            self.smallest = self.smallest.min(turn.left);
            let beyond = i64::from(turn.left) - i64::from(bytes);
            self.sizes[usize::from(turn.nth == 1)].learn(beyond);
        }
    }

    /// Notes whether a line found an exchange.
    pub(crate) fn note_missing(&mut self, is_missing: bool) {
        let share = if is_missing { 1_000_000 } else { 0 };
        self.missing += (share - self.missing) / costs::SHARE_MEMORY;
    }

    /// Whether so many find none that an only one may be somebody else's.
    pub(crate) fn misses_any(&self) -> bool {
        self.missing > costs::MISSING_LIMIT
    }
}

/// By how much an exchange is larger than what is logged of it: its head and its framing. Most heads of a
/// server are of a few lengths. So each difference is counted, and of those that were never seen it is
/// learnt how often there are such, and how large they are.
struct TlsSizes {
    counts: Box<[u16]>,
    total: u32,
    /// How many of them had not been seen before.
    fresh: u32,
    /// Those by their octave.
    octaves: [u32; 33],
    /// The least that was seen but for a few, which a line of several takes.
    least: u32,
    /// What those that were learnt would have cost.
    usual: i64,
}

impl TlsSizes {
    fn new() -> Self {
        let mut octaves = [0; 33];
        // A head has from 32 bytes to 4 kB.
        octaves[6..=12].fill(1);
        Self {
            counts: vec![0; 1 << costs::TLS_SIZE_BITS].into(),
            total: 0,
            fresh: 2,
            octaves,
            least: costs::TLS_LEAST_OVERHEAD,
            usual: costs::TLS_SIZE_AT_FIRST,
        }
    }

    fn learn(&mut self, beyond: i64) {
        self.usual += (self.surprise(beyond) - self.usual) / costs::TLS_SIZE_MEMORY;
        let place = place(beyond);
        if self.counts[place] == 0 {
            self.fresh += 1;
            self.octaves[octave(beyond)] += 1;
        }
        let bytes = u32::try_from(beyond).unwrap_or(0);
        self.least = if self.total == 0 { bytes } else { self.least.min(bytes) }
            .max(costs::TLS_LEAST_OVERHEAD);
        self.counts[place] = self.counts[place].saturating_add(1);
        self.total += 1;
        if self.total >= costs::TLS_SIZES_FADE_AT {
            self.counts.iter_mut().for_each(|count| *count /= 2);
            self.octaves.iter_mut().for_each(|count| *count -= *count / 2);
            self.total = self.counts.iter().copied().map(u32::from).sum();
            self.fresh -= self.fresh / 2;
        }
    }

    fn cost(&self, beyond: i64) -> i64 {
        (self.surprise(beyond) - self.usual + costs::TLS_SIZE_USUAL).clamp(0, costs::TLS_SIZE_WORST)
    }

    fn surprise(&self, beyond: i64) -> i64 {
        let all = number(self.total + self.fresh);
        let seen = self.counts[place(beyond)];
        if seen > 0 {
            return thousandths(all / f32::from(seen));
        }
        let octave = octave(beyond);
        let fresh: u32 = self.octaves.iter().sum();
        let share = (number(self.octaves[octave]) + 0.01) / number(fresh.max(1));
        // Below nothing it may lie anywhere.
        let width = number(1 << octave.checked_sub(1).unwrap_or(costs::TLS_SIZE_BELOW).min(24));
        thousandths(all / number(self.fresh) * width / share)
    }
}

fn place(beyond: i64) -> usize {
    usize::try_from(beyond.rem_euclid(1 << costs::TLS_SIZE_BITS)).unwrap_or(0)
}

/// The number of bits; 0 for what is less than nothing.
fn octave(beyond: i64) -> usize {
    let bits = u32::try_from(beyond).map_or(0, |beyond| u32::BITS - beyond.leading_zeros());
    bits as usize
}

#[expect(clippy::cast_precision_loss, reason = "counts and widths of up to 2^24")]
fn number(count: u32) -> f32 {
    count as f32
}

#[expect(clippy::cast_possible_truncation, reason = "a logarithm, cut to what is wanted")]
fn thousandths(odds: f32) -> i64 {
    ((odds.ln() * 1_000.0) as i64).max(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_difference_that_is_often_seen_costs_little_and_one_below_nothing_much() {
        let mut sizes = TlsSizes::new();
        assert!(sizes.cost(180) < sizes.cost(-5) && sizes.cost(180) < sizes.cost(100_000));
        (0..300).for_each(|i| sizes.learn([180, 180, 240][i % 3]));
        assert!(sizes.cost(180) < sizes.cost(240) && sizes.cost(240) < 2_000);
        assert!(sizes.cost(181) > 4_000 && sizes.cost(-5) > 6_000, "{}", sizes.cost(181));
        // Where nearly all differ, another one is nothing strange.
        let mut sizes = TlsSizes::new();
        (0..300).for_each(|i| sizes.learn(600 + i));
        assert!(sizes.cost(1_000) < 2_000, "{}", sizes.cost(1_000));
    }

    fn turn(connection: u64, nth: u32, ended: i64) -> TlsExchange {
        let client = ClientAddr::Unix;
        let at = Timestamp::from_micros;
        TlsExchange {
            client,
            tag: ClientHash::of(client),
            connection,
            nth,
            began: at(ended - 5),
            ended: at(ended),
            balancer: 0,
            server_port: 443,
            left: 1_000,
            requests: 2,
            lines: 0,
            tainted: false,
        }
    }

    #[test]
    fn an_exchange_that_goes_on_is_one_and_all_are_in_order() {
        let at = Timestamp::from_micros;
        let mut turns = TlsExchanges::new();
        for (connection, nth, ended, rested) in
            [(1, 1, 100, 0), (2, 1, 90, 0), (1, 1, 130, 100), (3, 1, 100, 0), (1, 2, 150, 130)]
        {
            let before = if rested == 0 { 0 } else { 1 };
            turns.note(turn(connection, nth, ended), (at(rested), before), at(0));
        }
        let order = |turns: &TlsExchanges| -> Vec<(u64, u32)> {
            turns.within(at(0), at(999)).map(|(_, turn)| (turn.connection, turn.nth)).collect()
        };
        assert_eq!(order(&turns), [(2, 1), (3, 1), (1, 1), (1, 2)]);
        turns.take(1, 300);
        assert_eq!(order(&turns).len(), 4, "there is room for another line");
        turns.take(1, 600);
        assert_eq!(order(&turns), [(2, 1), (1, 1), (1, 2)]);
        turns.note(turn(9, 1, 500), (at(0), 0), at(140));
        assert_eq!(order(&turns), [(1, 2), (9, 1)], "what is too old is forgotten");
    }
}
