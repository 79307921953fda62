//! What is learnt about exchanges in passed-through TLS: how the sizes of their ciphertext relate to logged
//! sizes and requests, and how often lines are out of order.

use super::delays::ServerDelays;
use crate::attribution::costs;
use crate::attribution::line::HeldLine;
use crate::attribution::memory::tls::TlsExchange;

/// What is learnt about the TLS exchanges of one server.
pub(crate) struct LearntTls {
    /// Delays from the end of an exchange to the line.
    pub(crate) delays: ServerDelays,
    /// Sizes of later exchanges of a connection, and of first ones, with which the handshake may end.
    sizes: [TlsSizes; 2],
    /// Sizes of requests beyond what lines show of them, of later exchanges and of first ones.
    asks: [TlsSizes; 2],
    /// Share of lines that took their exchange out of order: a moving average.
    crossed: f64,
    /// Share of the alignments for the client that was chosen: a moving average. Where alignments follow the log it is
    /// close to 1, and where they have lost their place it is not.
    followed: f64,
    /// Share of lines that found no exchange, in parts per million: a moving average.
    missing: i64,
}

impl LearntTls {
    pub(crate) fn new() -> Self {
        Self {
            delays: ServerDelays::new(),
            sizes: [TlsSizes::new(), TlsSizes::new()],
            asks: [TlsSizes::new(), TlsSizes::new()],
            crossed: costs::TLS_CROSSED_AT_FIRST,
            followed: costs::TLS_FOLLOWED_AT_FIRST,
            missing: 0,
        }
    }

    /// Learns the share of a line's alignments that are out of order.
    pub(crate) fn learn_crossed(&mut self, share: f64) {
        self.crossed += (share - self.crossed) / costs::TLS_CROSSED_MEMORY;
    }

    /// Learns the share of a line's alignments for the client that is chosen.
    pub(crate) fn learn_followed(&mut self, share: f64) {
        self.followed += (share - self.followed) / costs::TLS_FOLLOWED_MEMORY;
    }

    /// Returns the probability of a client with this share of a line's alignments.
    pub(crate) fn probability(&self, share: f64) -> f64 {
        let (lost, followed) = costs::TLS_FOLLOWED;
        let trust = ((self.followed - lost) / (followed - lost)).clamp(0.0, 1.0);
        let (slope, from) = costs::TLS_LOST_SLOPE;
        let share = share.clamp(0.0, 1.0);
        let factor = (costs::TLS_LOST - slope * (from - self.followed).max(0.0)).exp();
        let (right, wrong) = (factor * share.sqrt(), (1.0 - share).sqrt());
        trust * share + (1.0 - trust) * share.min(right / (right + wrong))
    }

    /// Returns the weight of a line out of order.
    pub(crate) fn crossed(&self) -> f64 {
        self.crossed.max(costs::TLS_CROSSED_LEAST)
    }

    /// Returns the cost of a line with so many logged bytes belonging to the exchange.
    pub(crate) fn cost_of_size(&self, exchange: &TlsExchange, bytes: u32) -> i64 {
        let beyond = i64::from(exchange.answered) - i64::from(bytes);
        let cost = self.sizes[usize::from(exchange.nth == 1)].cost(beyond);
        let shares = exchange.requests > 1 && beyond >= i64::from(costs::TLS_LEAST_OVERHEAD);
        if shares { cost.min(costs::TLS_SHARED_SIZE) } else { cost }
    }

    /// Returns the cost of the exchange's request having the line.
    pub(crate) fn cost_of_request(&self, exchange: &TlsExchange, line: &HeldLine) -> i64 {
        if exchange.requests != 1 {
            return costs::TLS_SIZE_USUAL;
        }
        self.asks[usize::from(exchange.nth == 1)].cost(beyond_shown(exchange, line))
    }

    /// Learns the sizes of a pair that is nearly sure.
    pub(crate) fn learn_size(&mut self, exchange: &TlsExchange, line: &HeldLine) {
        let bytes = line.bytes.unwrap_or(0);
        if exchange.requests == 1 {
            let asks = &mut self.asks[usize::from(exchange.nth == 1)];
            asks.learn(beyond_shown(exchange, line));
            let beyond = i64::from(exchange.answered) - i64::from(bytes);
            self.sizes[usize::from(exchange.nth == 1)].learn(beyond);
        }
    }

    /// Learns whether a line found no exchange.
    pub(crate) fn learn_missing(&mut self, is_missing: bool) {
        let share = if is_missing { 1_000_000 } else { 0 };
        self.missing += (share - self.missing) / costs::SHARE_MEMORY;
    }

    /// Whether so many lines find no exchange that an only candidate may belong to another line.
    pub(crate) const fn misses_any(&self) -> bool {
        self.missing > costs::MISSING_LIMIT
    }
}

fn beyond_shown(exchange: &TlsExchange, line: &HeldLine) -> i64 {
    i64::from(exchange.asked) - i64::from(line.shown)
}

/// How much larger a request or a response is than its line shows: heads and framing. Most
/// heads of a server have one of a few lengths, so that each difference is counted. For differences
/// never seen before, their frequency and their octaves are counted.
struct TlsSizes {
    counts: Box<[u16]>,
    total: u32,
    /// Differences that had not been seen before.
    fresh: u32,
    /// The same by octave.
    octaves: [u32; 33],
    /// Average surprise of the learnt differences.
    usual: i64,
}

impl TlsSizes {
    fn new() -> Self {
        let mut octaves = [0; 33];
        // A head has from 32 bytes to 4 kB.
        octaves[6..=12].fill(1);
        // A server may count bytes of TLS, too.
        octaves[0] = 1;
        Self {
            counts: vec![0; 1 << costs::TLS_SIZE_BITS].into(),
            total: 0,
            fresh: 2,
            octaves,
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
        let worst = costs::TLS_SIZE_UNLEARNT + costs::TLS_SIZE_LEARNT * i64::from(self.total);
        let cost = self.surprise(beyond) - self.usual + costs::TLS_SIZE_USUAL;
        cost.clamp(0, worst.min(costs::TLS_SIZE_WORST))
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
        // A negative difference may lie anywhere.
        let width = number(1 << octave.checked_sub(1).unwrap_or(costs::TLS_SIZE_BELOW).min(24));
        thousandths(all / number(self.fresh) * width / share)
    }
}

fn place(beyond: i64) -> usize {
    usize::try_from(beyond.rem_euclid(1 << costs::TLS_SIZE_BITS)).unwrap_or(0)
}

/// Returns the number of bits of a difference; 0 if the difference is negative.
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
    fn a_share_is_a_probability_only_while_alignments_follow_the_log() {
        let mut tls = LearntTls::new();
        (0..200).for_each(|_| tls.learn_followed(0.97));
        assert!((tls.probability(0.6) - 0.6).abs() < 1e-9);
        (0..200).for_each(|_| tls.learn_followed(0.6));
        assert!(tls.probability(0.6) < 0.1 && tls.probability(0.99) < 0.4);
        (0..200).for_each(|_| tls.learn_followed(0.2));
        assert!(tls.probability(0.99) < 0.05);
        assert!(tls.probability(1.0) > tls.probability(0.5) && tls.probability(0.0) < 1e-9);
    }

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
}
