//! A line of a request that the balancer could not read: TLS that passed through, and no port in the line.
//!
//! What is left is when an exchange came to rest, how large it was, whose turn it is, and which
//! User-Agent a client has. The next lines of the server that no mapping explains are laid along its
//! exchanges, as lines of a group are along its mappings; and for each exchange that the first of them may
//! be of, it is asked what the whole would cost then. So the probability of a client is that of all ways to
//! lay them in which the line is its own.

use crate::attribution::costs;
use crate::attribution::decide::assign::{AssignmentCosts, OtherCosts};
use crate::attribution::decide::nothing;
use crate::attribution::learnt::user_agents::{AgentRarity, ClientHash, guess_weight};
use crate::attribution::line::HeldLine;
use crate::attribution::memory::tls::{TlsExchange, TlsExchanges};
use crate::attribution::odds::weight;
use crate::attribution::queue::{Attributor, HeldState};
use crate::attribution::record::{ExchangeEvent, MappingEvent};
use crate::attribution::verdict::{Certainty, LineVerdict, Reason};
use crate::time::Resolution;

/// An exchange in view.
#[derive(Clone, Copy)]
struct TlsCandidate {
    place: usize,
    turn: TlsExchange,
}

impl<T> Attributor<T> {
    /// An exchange under seal has come to rest.
    pub(crate) fn note_sealed(&mut self, record: &MappingEvent, connection: u32) {
        let Some(ExchangeEvent { nth, balancer, server_port, sealed: Some(sealed), .. }) =
            record.exchange
        else {
            return;
        };
        let known = self.connections.get_mut(connection);
        let (serial, rested) = (known.serial, known.rested);
        known.rested = (record.time, nth);
        let turn = TlsExchange {
            client: record.client,
            tag: ClientHash::of(record.client),
            connection: serial,
            nth,
            began: record.time.offset_by(-i64::from(sealed.took)),
            ended: record.time,
            balancer,
            server_port,
            left: sealed.answered,
            requests: sealed.requests.max(1),
            lines: 0,
            tainted: false,
        };
        let too_old = self.now.offset_by(-self.window);
        let state = &mut self.states[record.server.0 as usize];
        let turns = state.sealed.get_or_insert_with(|| Box::new(TlsExchanges::new()));
        turns.note(turn, rested, too_old);
    }

    /// Whether the line may as well be of an exchange under seal that came to rest about then: so that a mapping of
    /// plain traffic at the same address is not the only one that it could have. Nothing to look at where
    /// there is no such traffic.
    pub(crate) fn may_be_sealed(&self, asked: &HeldLine) -> bool {
        let Some(turns) = &self.states[asked.server as usize].sealed else { return false };
        let from = asked.time.offset_by(-costs::TLS_LATEST);
        let to = asked.time.offset_by(self.wait + asked.resolution.micros());
        turns
            .within(from, to)
            .take(costs::TLS_SCAN)
            .any(|(_, turn)| may_be_at(asked.server_port, turn))
    }

    /// Decides the oldest held line, which no mapping explains.
    pub(crate) fn decide_sealed(&mut self) -> LineVerdict {
        let asked = self.held[0].asked;
        let server = asked.server as usize;
        let Some(mut turns) = self.states[server].sealed.take() else {
            return nothing(Reason::NoMapping);
        };
        let verdict = self.decide_by_turns(&asked, &mut turns);
        let is_missing = verdict.client.is_none();
        turns.note_missing(is_missing);
        if is_missing {
            turns.strain.note(costs::TLS_UNMATCHED);
        }
        self.states[server].sealed = Some(turns);
        verdict
    }

    fn decide_by_turns(&mut self, asked: &HeldLine, turns: &mut TlsExchanges) -> LineVerdict {
        let rows = self.rows(asked);
        let columns = self.columns(&rows, turns);
        let mut costs = self.weigh_turns(&rows, &columns, turns);
        let open: Vec<usize> = (0..columns.len())
            .filter(|&place| costs.of_line(0)[place] < costs::TLS_TOO_DEAR)
            .collect();
        let Some(least) = open.iter().map(|&place| costs.of_line(0)[place]).min() else {
            return nothing(Reason::NoMapping);
        };
        let near = |place: &&usize| costs.of_line(0)[**place] <= least + costs::TLS_NEAR;
        let near: Vec<usize> = open.iter().filter(near).copied().collect();
        let first = columns[open[0]].turn;
        let alone = open.iter().all(|&place| {
            let turn = &columns[place].turn;
            turn.client == first.client && !turn.tainted && named(turn, asked)
        });
        let ways: Vec<(usize, i64)> =
            near.iter().map(|&place| (place, costs.if_first_takes(Some(place)))).collect();
        let none = costs.if_first_takes(None);
        let Some((chosen, share)) = best(&ways, none, &columns) else {
            return LineVerdict {
                candidates: u32::try_from(open.len()).unwrap_or(u32::MAX),
                ..nothing(Reason::NoneFits)
            };
        };
        let TlsCandidate { place, turn } = columns[chosen];
        let whole = ways.iter().map(|&(_, cost)| cost).min().unwrap_or(0);
        let lines = i64::try_from(rows.len()).unwrap_or(1);
        let trust = turns.strain.trust(whole / lines);
        turns.strain.note(costs.of_line(0)[chosen]);
        let is_settled = turns.delays.is_settled() && !turns.misses_any();
        let (certainty, probability) = if alone && is_settled && trust >= costs::TLS_TRUSTED {
            (Certainty::Certain, 1_000)
        } else {
            (Certainty::Likely, tempered(share, trust))
        };
        // What fits badly is learnt from all the same: else nothing would ever fit again.
        if share >= costs::GUESS_TEACHES {
            if let Some(delay) = apart(&turn, asked) {
                turns.delays.learn(delay, Resolution::Microsecond);
            }
            turns.learn_size(&turn, asked.bytes.unwrap_or(0));
        }
        self.habits.learn(turn.tag, asked.user_agent, guess_weight(share));
        if certainty != Certainty::Certain && share < costs::GUESS_CEILING {
            open.iter().for_each(|&place| turns.taint(columns[place].place));
        }
        turns.take(place, asked.bytes.unwrap_or(0));
        LineVerdict {
            client: Some(turn.client),
            certainty,
            candidates: u32::try_from(open.len()).unwrap_or(u32::MAX),
            reason: Reason::Tls,
            delay: Some(asked.time.micros_since(turn.ended)),
            probability,
        }
    }

    /// The line, and the next ones of its server that no mapping explains.
    fn rows(&self, asked: &HeldLine) -> Vec<HeldLine> {
        let others = self.held.iter().skip(1).take(costs::TLS_SCAN).filter_map(|held| {
            let HeldState::Waits(group) = held.state else { return None };
            let is_theirs =
                held.asked.server == asked.server && self.outstanding.group(group).mappings == 0;
            is_theirs.then_some(held.asked)
        });
        std::iter::once(*asked).chain(others.take(costs::WINDOW_LINES - 1)).collect()
    }

    /// The exchanges that they may be of, each as often as it may have lines.
    fn columns(&self, rows: &[HeldLine], turns: &TlsExchanges) -> Vec<TlsCandidate> {
        let (first, last) = (rows[0], rows[rows.len() - 1]);
        let step = first.resolution.micros();
        let late = match turns.delays.hull(costs::DELAYS_USED_AFTER) {
            Some((_, longest)) => longest.max(0) * 2 + step + costs::TLS_LATE_MARGIN,
            None => costs::TLS_LATEST,
        };
        let from = first.time.offset_by(-late.max(0));
        let to = last.time.offset_by(self.wait + step);
        let may_be = |turn: &(usize, &TlsExchange)| may_be_at(first.server_port, turn.1);
        let mut columns = Vec::with_capacity(costs::WINDOW_MAPPINGS);
        let all: Vec<_> = turns.within(from, to).filter(may_be).take(costs::TLS_SCAN).collect();
        for (place, turn) in all {
            let turn = *turn;
            for _ in 0..turn.requests.saturating_sub(turn.lines).clamp(1, costs::TLS_REPEATS) {
                if columns.len() == costs::WINDOW_MAPPINGS {
                    return columns;
                }
                columns.push(TlsCandidate { place, turn });
            }
        }
        columns
    }

    fn weigh_turns(
        &self,
        rows: &[HeldLine],
        columns: &[TlsCandidate],
        turns: &TlsExchanges,
    ) -> AssignmentCosts {
        let mut costs = AssignmentCosts::default();
        let other =
            OtherCosts { unmatched: costs::TLS_UNMATCHED, crossed: costs::EXCHANGES_CROSSED };
        let skips = columns.iter().enumerate().map(|(at, column)| {
            let again = at > 0 && columns[at - 1].place == column.place;
            if again || column.turn.lines > 0 { costs::TLS_SPARE } else { costs::TLS_SKIPPED }
        });
        costs.reset(rows.len(), skips, other);
        let rarities: Vec<AgentRarity> =
            rows.iter().map(|row| self.habits.rarity(row.user_agent)).collect();
        for (at, column) in columns.iter().enumerate() {
            let known = self.habits.known(column.turn.tag);
            for (row, asked) in rows.iter().enumerate() {
                let agent = i64::from(known.cost(&rarities[row]));
                let size = asked.bytes.map_or(0, |bytes| turns.cost_of_size(&column.turn, bytes));
                let balancer =
                    if named(&column.turn, asked) { 0 } else { costs::TLS_OTHER_BALANCER };
                let time = cost_of_time(&column.turn, asked, turns);
                costs.set(row, at, time + size + agent + balancer);
            }
        }
        costs
    }
}

/// Whether a line of a server at this port, if it is known, may be of an exchange.
const fn may_be_at(port: u16, turn: &TlsExchange) -> bool {
    port == 0 || turn.server_port == 0 || port == turn.server_port
}

/// Whether the line's client is the balancer of the exchange, as far as that is known.
fn named(turn: &TlsExchange, asked: &HeldLine) -> bool {
    turn.balancer == 0 || asked.sender.is_none_or(|sender| sender == turn.balancer)
}

/// How far a line is from its exchange, if that tells anything: from its end, where it is the only one. Where
/// stamps are coarse some servers write when a request came and some when it was answered: so it is how far
/// the stamp's span is out of the exchange's life.
fn apart(turn: &TlsExchange, asked: &HeldLine) -> Option<i64> {
    let end = asked.time.micros_since(turn.ended);
    if asked.resolution == Resolution::Microsecond {
        let at_once = turn.ended.micros_since(turn.began) < costs::TLS_BRIEF;
        return (turn.requests == 1 || at_once).then_some(end);
    }
    let start = asked.time.micros_since(turn.began) + asked.resolution.micros();
    Some(if end > 0 { end } else { start.min(0) })
}

fn cost_of_time(turn: &TlsExchange, asked: &HeldLine, turns: &TlsExchanges) -> i64 {
    let doublings = |time: i64, unit: u64| i64::from((time.unsigned_abs() / unit + 1).ilog2());
    if asked.resolution != Resolution::Microsecond {
        let delay = apart(turn, asked).unwrap_or(0);
        let (first, last) =
            turns.delays.hull(costs::DELAYS_USED_AFTER).unwrap_or((-1_000_000, 1_000_000));
        return match (first.min(0) - delay).max(delay - last.max(0)) {
            _ if delay == 0 => 0,
            ..=0 => costs::TLS_WITHIN_DELAYS,
            beyond => {
                costs::COARSE_OUTSIDE
                    + costs::COARSE_DOUBLING * doublings(beyond, costs::COARSE_UNIT)
            }
        };
    }
    let (end, start) = (asked.time.micros_since(turn.ended), asked.time.micros_since(turn.began));
    let usual = turns.delays.median().unwrap_or(0);
    // One of several is logged when its own part has been sent, which may be any time in between.
    let delay = if turn.requests > 1 { usual.clamp(end, start.max(end)) } else { end };
    match turns.delays.hull(costs::DELAYS_USED_AFTER) {
        None => doublings(delay, costs::TLS_UNLEARNT_UNIT) * costs::TLS_UNLEARNT,
        Some(_) => turns.delays.cost(delay),
    }
}

/// Both in thousandths.
fn tempered(share: u16, trust: u16) -> u16 {
    u16::try_from(u32::from(share) * u32::from(trust) / 1_000).unwrap_or(0).max(1)
}

/// The exchange that the line is of, and how sure its client is, in thousandths; `None` if it is rather of
/// none.
fn best(ways: &[(usize, i64)], none: i64, columns: &[TlsCandidate]) -> Option<(usize, u16)> {
    let &(chosen, least) = ways.iter().min_by_key(|&&(_, cost)| cost)?;
    if none < least {
        return None;
    }
    let (mut all, mut ours) = (weight(none - least), 0);
    for &(place, cost) in ways {
        // An exchange that may have several lines stands there as often.
        let again = place > 0 && columns[place - 1].place == columns[place].place;
        if again {
            continue;
        }
        let weight = weight(cost - least);
        all += weight;
        if columns[place].turn.client == columns[chosen].turn.client {
            ours += weight;
        }
    }
    Some((
        chosen,
        u16::try_from(ours * 1_000 / all.max(1)).unwrap_or(0).clamp(1, costs::GUESS_CEILING),
    ))
}
