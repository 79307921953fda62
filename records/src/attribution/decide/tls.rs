//! A line that no mapping explains, beside exchanges in passed-through TLS: requests that the balancer could
//! not read, and no port in the line.
//!
//! The evidence is when an exchange ended, how large its request and its response were, how many requests it
//! had, the order, and the User-Agents of its client. Each request of an exchange is a *slot*. The line, some
//! lines before it and the next lines that no mapping explains are aligned with the slots, in all ways at once
//! ([`super::chain`]). The probability of a client is the share of all alignments in which the line belongs to
//! that client. A choice that was made for an earlier line binds no later line.

use super::chain::{AlignmentWeights, LineShares};
use super::pair;
use crate::attribution::costs;
use crate::attribution::learnt::Learnt;
use crate::attribution::learnt::tls::LearntTls;
use crate::attribution::learnt::user_agents::{AgentRarity, UserAgentProfiles, guess_weight};
use crate::attribution::line::HeldLine;
use crate::attribution::memory::Memory;
use crate::attribution::memory::tls::{TlsExchange, TlsExchanges, TlsSlotKey};
use crate::attribution::queue::{LineQueue, LineState};
use crate::attribution::verdict::{LineVerdict, MatchConfidence, Reason};
use crate::time::Resolution;

/// A request of an exchange, to which one line may belong.
#[derive(Clone, Copy)]
struct TlsSlot {
    place: usize,
    exchange: TlsExchange,
    /// Which request of the exchange, from 0.
    request: u32,
}

impl TlsSlot {
    const fn key(&self) -> TlsSlotKey {
        TlsSlotKey {
            connection: self.exchange.connection,
            nth: self.exchange.nth,
            request: self.request,
            ended: self.exchange.ended,
        }
    }
}

/// Decides the oldest held line, which no mapping explains and which has left its group.
pub(super) fn decide<T>(
    queue: &LineQueue<T>,
    memory: &mut Memory,
    learnt: &mut Learnt,
    line: &HeldLine,
) -> LineVerdict {
    let server = line.server as usize;
    let Some(mut exchanges) = memory.servers[server].tls.take() else {
        return LineVerdict::unmatched(Reason::NoMapping);
    };
    let tls = learnt.servers[server].tls.get_or_insert_with(|| Box::new(LearntTls::new()));
    let mut lines: Vec<HeldLine> = exchanges.past.iter().copied().collect();
    let front = lines.len();
    lines.push(*line);
    lines.extend(next_lines(queue, memory, line));
    let verdict = choose((&lines, front), memory.wait, &mut exchanges, tls, &mut learnt.profiles);
    tls.learn_missing(verdict.client.is_none());
    exchanges.past.push_back(*line);
    memory.servers[server].tls = Some(exchanges);
    verdict
}

/// Chooses the exchange of a line and learns from the pair.
fn choose(
    (lines, front): (&[HeldLine], usize),
    wait: i64,
    exchanges: &mut TlsExchanges,
    tls: &mut LearntTls,
    profiles: &mut UserAgentProfiles,
) -> LineVerdict {
    let line = &lines[front];
    let slots = slots(lines, front, wait, exchanges, tls);
    let mut weights = weigh(lines, &slots, tls, profiles);
    weights.start = start(&slots, &weights, exchanges.base);
    if front >= costs::TLS_PAST {
        if let Some(shares) = weights.shares(0)
            && let Some(best) = shares.best()
        {
            exchanges.base = Some(slots[best].key());
        }
        exchanges.past.pop_front();
    }
    let Some(shares) = weights.shares(front) else {
        return LineVerdict::unmatched(Reason::NoMapping);
    };
    let open: Vec<&TlsSlot> = slots
        .iter()
        .zip(weights.of_line(front))
        .filter(|&(_, &weight)| weight > 0.0)
        .map(|(slot, _)| slot)
        .collect();
    let count = u32::try_from(open.len()).expect("bounded by the window");
    let Some((chosen, of_client)) = best_client(&shares, &slots) else {
        let reason = if open.is_empty() { Reason::NoMapping } else { Reason::NoneFits };
        return LineVerdict { candidates: count, ..LineVerdict::unmatched(reason) };
    };
    let TlsSlot { place, exchange, .. } = slots[chosen];
    // Where the window is a small part of the exchanges in reach, only a clear choice teaches.
    let covered = coverage(line, exchanges);
    let taught = thousandths(of_client * covered.powf(1.0 - of_client));
    let share = thousandths(tls.probability(of_client));
    tls.learn_followed(of_client);
    let alone = open
        .iter()
        .all(|slot| slot.exchange.client == exchange.client && named(&slot.exchange, line));
    tls.learn_crossed(shares.crossed.round());
    let is_settled = tls.delays.is_settled() && !tls.misses_any();
    let confidence = if alone && is_settled && share >= costs::GUESS_CEILING {
        MatchConfidence::certain(Reason::Tls)
    } else {
        MatchConfidence::likely(Reason::Tls, share)
    };
    if taught >= costs::GUESS_TEACHES {
        if let Some(delay) = apart(&exchange, line) {
            tls.delays.learn(delay, Resolution::Microsecond);
        }
        tls.learn_size(&exchange, line);
    }
    profiles.learn(exchange.client_hash, line.user_agent, guess_weight(taught));
    exchanges.take(place);
    let delay = line.time.micros_since(exchange.ended);
    LineVerdict::matched(exchange.recorded_client(), confidence, count, Some(delay))
}

/// Returns the next unexplained lines of the server.
fn next_lines<T>(
    queue: &LineQueue<T>,
    memory: &Memory,
    line: &HeldLine,
) -> impl Iterator<Item = HeldLine> {
    let others = queue.behind_front().take(costs::TLS_SCAN).filter_map(|held| {
        let LineState::Waits(group) = held.state else { return None };
        let has_no_mapping = memory.mappings.group(group).mappings == 0;
        (held.line.server == line.server && has_no_mapping).then_some(held.line)
    });
    others.take(costs::TLS_AHEAD)
}

/// Returns how much later than the end of its exchange a line may be, in microseconds.
fn latest(line: &HeldLine, tls: &LearntTls) -> i64 {
    match tls.delays.hull(costs::DELAYS_USED_AFTER) {
        Some((_, longest)) => {
            longest.max(0) * 2 + line.resolution.micros() + costs::TLS_LATE_MARGIN
        }
        None => costs::TLS_LATEST,
    }
}

/// Returns the part of the exchanges in a line's reach that the window can hold.
fn coverage(line: &HeldLine, exchanges: &TlsExchanges) -> f64 {
    let step = line.resolution.micros() + costs::TLS_CLOCK_ERROR;
    let in_reach =
        exchanges.count(line.time.offset_by(-costs::TLS_CLOCK_ERROR), line.time.offset_by(step));
    number(costs::TLS_SLOTS) / number(in_reach.max(costs::TLS_SLOTS))
}

#[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
fn number(count: usize) -> f64 {
    count as f64
}

/// Returns the slots that the lines may belong to.
fn slots(
    lines: &[HeldLine],
    front: usize,
    wait: i64,
    exchanges: &TlsExchanges,
    tls: &LearntTls,
) -> Vec<TlsSlot> {
    let step = lines[front].resolution.micros();
    let late = latest(&lines[front], tls);
    let first = lines.iter().map(|line| line.time).min().unwrap_or(lines[front].time);
    let last = lines.iter().map(|line| line.time).max().unwrap_or(lines[front].time);
    let from = first.offset_by(-late);
    let to = last.offset_by(wait + step);
    let mut slots: Vec<TlsSlot> = Vec::with_capacity(costs::TLS_SLOTS);
    let of_port = exchanges.within(from, to).filter(|(_, it)| pair::has_port_of(it, &lines[front]));
    for (place, &exchange) in of_port {
        for request in 0..exchange.requests.min(costs::TLS_REPEATS) {
            if slots.len() >= costs::TLS_SLOTS + costs::TLS_SLOTS_BEHIND {
                return slots;
            }
            let slot = TlsSlot { place, exchange, request };
            let is_behind = exchanges.base.is_some_and(|base| slot.key().is_behind(base));
            if is_behind && slots.len() == costs::TLS_SLOTS_BEHIND {
                slots.remove(0);
            }
            slots.push(slot);
        }
    }
    slots
}

/// Returns the weight of each place before the first line. `base` is the slot of the line before the first.
fn start(slots: &[TlsSlot], weights: &AlignmentWeights, base: Option<TlsSlotKey>) -> Vec<f64> {
    let Some(base) = base else {
        // Records may begin before lines do.
        let in_reach =
            |place: usize| weights.skips[..place].iter().filter(|&&skip| skip < 1.0).count();
        let cost = |place| {
            i64::try_from(in_reach(place)).expect("bounded by the window") * costs::TLS_BEGIN
        };
        return (0..=slots.len()).map(|place| weight_of(cost(place))).collect();
    };
    let behind = slots.partition_point(|slot| slot.key().is_behind(base) || slot.key() == base);
    let mut start = vec![0.0; slots.len() + 1];
    let mut weight = 1.0;
    for place in (0..=behind).rev() {
        start[place] = weight;
        let near = weights.near.get(place.wrapping_sub(1)).copied().unwrap_or(0.0);
        weight *= weight_of(costs::TLS_BACK).max(near.sqrt().sqrt());
    }
    start
}

/// Returns the weights of all pairs of line and slot, and of what else an alignment has.
fn weigh(
    lines: &[HeldLine],
    slots: &[TlsSlot],
    tls: &LearntTls,
    profiles: &UserAgentProfiles,
) -> AlignmentWeights {
    let rarities: Vec<AgentRarity> =
        lines.iter().map(|line| profiles.rarity(line.user_agent)).collect();
    let mut pairs = vec![0.0; lines.len() * slots.len()];
    for (at, TlsSlot { exchange, .. }) in slots.iter().enumerate() {
        let known = profiles.known(exchange.client_hash);
        for (row, line) in lines.iter().enumerate() {
            let time = cost_of_time(exchange, line, tls);
            if time >= costs::TLS_TOO_DEAR {
                continue;
            }
            let agent = i64::from(profiles.cost(&known, &rarities[row]));
            let size = line.bytes.map_or(0, |bytes| tls.cost_of_size(exchange, bytes));
            let request = tls.cost_of_request(exchange, line);
            let balancer = if named(exchange, line) { 0 } else { costs::TLS_OTHER_BALANCER };
            pairs[row * slots.len() + at] = weight_of(time + size + request + agent + balancer);
        }
    }
    let crossed = tls.crossed();
    let near = nearness(slots);
    let skips = slots.iter().enumerate().map(|(at, slot)| {
        let next = near.get(at + 1).copied().unwrap_or(0.0);
        let is_near = crossed * near[at].max(next);
        let is_in_reach = (0..lines.len()).any(|row| pairs[row * slots.len() + at] > 0.0);
        match slot.request {
            _ if !is_in_reach => 1.0,
            0 => weight_of(costs::TLS_SKIPPED).max(is_near),
            _ => weight_of(costs::TLS_SPARE).max(is_near),
        }
    });
    let skips = skips.collect();
    let unmatched = weight_of(costs::TLS_UNMATCHED);
    AlignmentWeights { pairs, skips, start: Vec::new(), unmatched, crossed, near }
}

/// Returns how likely lines of two slots after each other are to come in the reverse order: by the time between
/// their ends, compared with how long exchanges of the window take.
#[expect(clippy::cast_precision_loss, reason = "times of exchanges are small")]
fn nearness(slots: &[TlsSlot]) -> Vec<f64> {
    let lives = slots.iter().map(|TlsSlot { exchange, .. }| {
        let life = exchange.ended.micros_since(exchange.began);
        if exchange.requests > 1 { life } else { life / costs::TLS_LIFE_PART }
    });
    let count = i64::try_from(slots.len()).expect("bounded by the window").max(1);
    let scale = costs::TLS_ORDER_SCALE + lives.sum::<i64>() / count;
    let mut before = None;
    let near = slots.iter().map(|TlsSlot { exchange, request, .. }| {
        let gap = before.map_or(0, |before| exchange.ended.micros_since(before));
        before = Some(exchange.ended);
        if *request > 0 { costs::TLS_WITHIN } else { (-(gap as f64) / scale as f64).exp() }
    });
    near.collect()
}

/// Returns e to the power of minus `cost` thousandths; 0 if nothing that cheap is possible.
#[expect(clippy::cast_precision_loss, reason = "costs are small")]
fn weight_of(cost: i64) -> f64 {
    if cost >= costs::TLS_IMPOSSIBLE { 0.0 } else { (cost as f64 / -1_000.0).exp() }
}

/// Whether the line's client field is the balancer of the exchange, as far as both are known.
fn named(exchange: &TlsExchange, line: &HeldLine) -> bool {
    exchange
        .balancer
        .is_none_or(|balancer| line.sender.is_none_or(|sender| sender == balancer.get()))
}

/// Returns how far a line is from its exchange in microseconds; `None` if that says nothing.
///
/// With fine stamps the distance is that from the end, of a line that is the only one. With coarse stamps
/// some servers log the time of the request and some the time of the answer: the distance is how far the
/// stamp's span is outside the exchange's life.
fn apart(exchange: &TlsExchange, line: &HeldLine) -> Option<i64> {
    let end = line.time.micros_since(exchange.ended);
    if line.resolution == Resolution::Microsecond {
        let is_brief = exchange.ended.micros_since(exchange.began) < costs::TLS_BRIEF;
        return (exchange.requests == 1 || is_brief).then_some(end);
    }
    let start = line.time.micros_since(exchange.began) + line.resolution.micros();
    Some(if end > 0 { end } else { start.min(0) })
}

/// Returns the cost of the time between line and exchange.
fn cost_of_time(exchange: &TlsExchange, line: &HeldLine, tls: &LearntTls) -> i64 {
    let doublings = |time: i64, unit: u64| i64::from((time.unsigned_abs() / unit + 1).ilog2());
    let hull = tls.delays.hull(costs::DELAYS_USED_AFTER);
    if line.resolution != Resolution::Microsecond {
        let delay = apart(exchange, line).unwrap_or(0);
        let (first, last) = hull.unwrap_or((-costs::TLS_CLOCK_ERROR, costs::TLS_CLOCK_ERROR));
        let (first, last) = (first.max(-costs::TLS_CLOCK_ERROR), last.min(costs::TLS_CLOCK_ERROR));
        return match (first.min(0) - delay).max(delay - last.max(0)) {
            _ if delay == 0 => 0,
            ..=0 => costs::TLS_WITHIN_DELAYS,
            beyond => {
                let doublings = doublings(beyond, costs::COARSE_UNIT);
                costs::COARSE_OUTSIDE + costs::COARSE_DOUBLING * doublings
            }
        };
    }
    let end = line.time.micros_since(exchange.ended);
    let start = line.time.micros_since(exchange.began);
    let usual = tls.delays.median().unwrap_or(0);
    // One of several lines is logged when its own part was sent, at any time in between.
    let delay = if exchange.requests > 1 { usual.clamp(end, start.max(end)) } else { end };
    match hull {
        None => doublings(delay, costs::TLS_UNLEARNT_UNIT) * costs::TLS_UNLEARNT,
        Some(_) => tls.delays.cost(delay).min(costs::TLS_TIME_WORST),
    }
}

/// Returns the best slot of the client with the greatest share of a line, and that share; `None` if the line rather
/// belongs to no slot.
fn best_client(shares: &LineShares, slots: &[TlsSlot]) -> Option<(usize, f64)> {
    let of_client = |chosen: usize| -> f64 {
        let client = slots[chosen].exchange.client;
        let own = slots.iter().zip(&shares.slots);
        own.filter(|(slot, _)| slot.exchange.client == client).map(|(_, share)| share).sum()
    };
    let chosen = shares.best()?;
    let share = of_client(chosen);
    let matched: f64 = shares.slots.iter().sum();
    (share > 0.0 && matched >= 0.5).then_some((chosen, share))
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a share between 0 and 1"
)]
fn thousandths(share: f64) -> u16 {
    ((share * 1_000.0) as u16).clamp(1, costs::GUESS_CEILING)
}
