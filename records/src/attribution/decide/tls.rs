//! A line that no mapping explains, beside exchanges in passed-through TLS: requests that the balancer could
//! not read, and no port in the line.
//!
//! The evidence is when an exchange ended, how large it was, the order, and the User-Agents of its client.
//! The next lines of the server that no mapping explains are assigned to exchanges together. For each
//! exchange that the first line may belong to, the cost of the whole assignment is found. So the probability
//! of a client is the share of all assignments in which the line belongs to that client.

use super::assign::{AssignmentCosts, OtherCosts};
use super::pair;
use crate::attribution::costs;
use crate::attribution::learnt::Learnt;
use crate::attribution::learnt::tls::LearntTls;
use crate::attribution::learnt::user_agents::{AgentRarity, UserAgentProfiles, guess_weight};
use crate::attribution::line::HeldLine;
use crate::attribution::memory::Memory;
use crate::attribution::memory::tls::{TlsExchange, TlsExchanges};
use crate::attribution::odds::weight;
use crate::attribution::queue::{LineQueue, LineState};
use crate::attribution::verdict::{LineVerdict, MatchConfidence, Reason};
use crate::time::Resolution;

/// An exchange in the window; an exchange that may have several lines is there several times.
#[derive(Clone, Copy)]
struct TlsCandidate {
    place: usize,
    exchange: TlsExchange,
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
    let lines = lines_of_server(queue, memory, line);
    let verdict = choose(&lines, memory.wait, &mut exchanges, tls, &mut learnt.profiles);
    let is_missing = verdict.client.is_none();
    tls.learn_missing(is_missing);
    if is_missing {
        tls.fit.learn(costs::TLS_UNMATCHED);
    }
    memory.servers[server].tls = Some(exchanges);
    verdict
}

/// Chooses the exchange of the first line, takes the line out of it, and learns from the pair.
fn choose(
    lines: &[HeldLine],
    wait: i64,
    exchanges: &mut TlsExchanges,
    tls: &mut LearntTls,
    profiles: &mut UserAgentProfiles,
) -> LineVerdict {
    let line = &lines[0];
    let candidates = candidates(lines, wait, exchanges, tls);
    let mut pairs = weigh(lines, &candidates, tls, profiles);
    let costs_of_line = pairs.of_line(0);
    let open: Vec<usize> =
        (0..candidates.len()).filter(|&place| costs_of_line[place] < costs::TLS_TOO_DEAR).collect();
    let Some(least) = open.iter().map(|&place| costs_of_line[place]).min() else {
        return LineVerdict::unmatched(Reason::NoMapping);
    };
    let is_near = |place: &usize| costs_of_line[*place] <= least + costs::TLS_NEAR;
    let near: Vec<usize> = open.iter().copied().filter(is_near).collect();
    let first = candidates[open[0]].exchange;
    let alone = open.iter().all(|&place| {
        let exchange = &candidates[place].exchange;
        exchange.client == first.client && !exchange.contested && named(exchange, line)
    });
    let assignments: Vec<(usize, i64)> =
        near.iter().map(|&place| (place, pairs.if_first_takes(Some(place)))).collect();
    let unmatched = pairs.if_first_takes(None);
    let count = u32::try_from(open.len()).expect("bounded by the window");
    let Some((chosen, share)) = best(&assignments, unmatched, &candidates) else {
        return LineVerdict { candidates: count, ..LineVerdict::unmatched(Reason::NoneFits) };
    };
    let TlsCandidate { place, exchange } = candidates[chosen];
    let whole = assignments.iter().map(|&(_, cost)| cost).min().unwrap_or(0);
    let trust = tls.fit.trust(whole / i64::try_from(lines.len()).expect("bounded by the window"));
    tls.fit.learn(pairs.of_line(0)[chosen]);
    let is_settled = tls.delays.is_settled() && !tls.misses_any();
    let is_certain = alone && is_settled && trust >= costs::TLS_TRUSTED;
    let confidence = if is_certain {
        MatchConfidence::certain(Reason::Tls)
    } else {
        MatchConfidence::likely(Reason::Tls, tempered(share, trust))
    };
    let bytes = line.bytes.unwrap_or(0);
    // A pair that fits badly teaches all the same: otherwise no pair would ever fit again.
    if share >= costs::GUESS_TEACHES {
        if let Some(delay) = apart(&exchange, line) {
            tls.delays.learn(delay, Resolution::Microsecond);
        }
        tls.learn_size(&exchange, bytes);
    }
    profiles.learn(exchange.client_hash, line.user_agent, guess_weight(share));
    if !is_certain && share < costs::GUESS_CEILING {
        open.iter().for_each(|&place| exchanges.contest(candidates[place].place));
    }
    exchanges.take(place, bytes, tls.least_overhead(), tls.least_left());
    let delay = line.time.micros_since(exchange.ended);
    LineVerdict::matched(exchange.client, confidence, count, Some(delay))
}

/// Returns the line, and the next unexplained lines of the server.
fn lines_of_server<T>(queue: &LineQueue<T>, memory: &Memory, line: &HeldLine) -> Vec<HeldLine> {
    let others = queue.behind_front().take(costs::TLS_SCAN).filter_map(|held| {
        let LineState::Waits(group) = held.state else { return None };
        let has_no_mapping = memory.mappings.group(group).mappings == 0;
        (held.line.server == line.server && has_no_mapping).then_some(held.line)
    });
    std::iter::once(*line).chain(others.take(costs::WINDOW_LINES - 1)).collect()
}

/// Returns the exchanges that the lines may belong to, each as often as it may have lines.
fn candidates(
    lines: &[HeldLine],
    wait: i64,
    exchanges: &TlsExchanges,
    tls: &LearntTls,
) -> Vec<TlsCandidate> {
    let (first, last) = (lines[0], lines[lines.len() - 1]);
    let step = first.resolution.micros();
    let late = match tls.delays.hull(costs::DELAYS_USED_AFTER) {
        Some((_, longest)) => longest.max(0) * 2 + step + costs::TLS_LATE_MARGIN,
        None => costs::TLS_LATEST,
    };
    let from = first.time.offset_by(-late.max(0));
    let to = last.time.offset_by(wait + step);
    let mut candidates = Vec::with_capacity(costs::WINDOW_MAPPINGS);
    let of_port = exchanges.within(from, to).filter(|(_, it)| pair::has_port_of(it, &first));
    for (place, &exchange) in of_port.take(costs::TLS_SCAN) {
        let left = exchange.requests.saturating_sub(exchange.lines);
        for _ in 0..left.clamp(1, costs::TLS_REPEATS) {
            if candidates.len() == costs::WINDOW_MAPPINGS {
                return candidates;
            }
            candidates.push(TlsCandidate { place, exchange });
        }
    }
    candidates
}

/// Returns the cost of each pair of line and exchange.
fn weigh(
    lines: &[HeldLine],
    candidates: &[TlsCandidate],
    tls: &LearntTls,
    profiles: &UserAgentProfiles,
) -> AssignmentCosts {
    let mut pairs = AssignmentCosts::default();
    let other = OtherCosts { unmatched: costs::TLS_UNMATCHED, crossed: costs::TLS_CROSSED };
    let skips = candidates.iter().enumerate().map(|(at, candidate)| {
        let is_repeat = at > 0 && candidates[at - 1].place == candidate.place;
        let is_spare = is_repeat || candidate.exchange.lines > 0;
        if is_spare { costs::TLS_SPARE } else { costs::TLS_SKIPPED }
    });
    pairs.reset(lines.len(), skips, other);
    let rarities: Vec<AgentRarity> =
        lines.iter().map(|line| profiles.rarity(line.user_agent)).collect();
    for (at, TlsCandidate { exchange, .. }) in candidates.iter().enumerate() {
        let known = profiles.known(exchange.client_hash);
        for (row, line) in lines.iter().enumerate() {
            let agent = i64::from(known.cost(&rarities[row]));
            let size = line.bytes.map_or(0, |bytes| tls.cost_of_size(exchange, bytes));
            let balancer = if named(exchange, line) { 0 } else { costs::TLS_OTHER_BALANCER };
            let time = cost_of_time(exchange, line, tls);
            pairs.set(row, at, time + size + agent + balancer);
        }
    }
    pairs
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
        let (first, last) = hull.unwrap_or((-1_000_000, 1_000_000));
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
        Some(_) => tls.delays.cost(delay),
    }
}

/// Returns a probability lowered by how far choices can be trusted, all in thousandths.
fn tempered(share: u16, trust: u16) -> u16 {
    let product = u32::from(share) * u32::from(trust) / 1_000;
    u16::try_from(product).expect("both are at most 1,000").max(1)
}

/// Returns the exchange that the line belongs to, and the probability of its client in thousandths; `None` if
/// the line rather belongs to no exchange. `assignments` holds, for each exchange, the cost of the best
/// assignment in which the line takes it, and `unmatched` that in which the line takes none.
fn best(
    assignments: &[(usize, i64)],
    unmatched: i64,
    candidates: &[TlsCandidate],
) -> Option<(usize, u16)> {
    let &(chosen, least) = assignments.iter().min_by_key(|&&(_, cost)| cost)?;
    if unmatched < least {
        return None;
    }
    let (mut all, mut chosen_client) = (weight(unmatched - least), 0);
    for &(place, cost) in assignments {
        // An exchange that may have several lines counts once.
        let is_repeat = place > 0 && candidates[place - 1].place == candidates[place].place;
        if is_repeat {
            continue;
        }
        let weight = weight(cost - least);
        all += weight;
        if candidates[place].exchange.client == candidates[chosen].exchange.client {
            chosen_client += weight;
        }
    }
    let share = u16::try_from(chosen_client * 1_000 / all.max(1));
    Some((chosen, share.expect("a part of the whole").clamp(1, costs::GUESS_CEILING)))
}
