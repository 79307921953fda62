//! The engine: what is put in, what is held, and how a line's client is decided.

use std::collections::VecDeque;

use indexmap::IndexSet;

use super::assign::{Costs, IMPOSSIBLE, MAX_LINES, MAX_MAPPINGS};
use super::delays::Delays;
use super::habits::{CERTAIN, Fit, Habits};
use super::outstanding::{Group, Outstanding, Waiting};
use super::{Certainty, Counts, Decided, Line, Reason, Record, ServerId, Settings, Verdict};
use crate::addr::{ClientAddr, ServerAddr};
use crate::request::{Cut, Fingerprint};
use crate::time::{Resolution, Timestamp};

/// Cost of a line that no mapping explains, where mappings are seldom missing.
const UNMATCHED: i64 = 22_000;

/// By how much that falls each time the share of missing mappings doubles beyond one in 1,000.
const UNMATCHED_STEP: i64 = 1_400;

/// How many mappings of a group are looked at in search of those that a line could have.
const MAX_STEPS: usize = 64;

/// The most that the order among lines and mappings of a server may cost.
const ORDER_WORST: i64 = 4_000;

/// Lines without a mapping per million, beyond which no line of the server is certain: the mapping
/// that seems to be the only one may belong to somebody whose own line is yet to come.
const MISSING_LIMIT: i64 = 5_000;

/// The part by which each line moves the share of lines without a mapping.
const MISSING_MEMORY: i64 = 256;

/// Joins mappings and lines. `T` is what the driver needs to write a line once it is decided.
pub struct Attributor<T> {
    settings: Settings,
    servers: IndexSet<OwnedServer>,
    last_server: Option<ServerId>,
    states: Vec<Server>,
    outstanding: Outstanding,
    habits: Habits,
    /// Lines in the order they came; the first is number `first_held`.
    held: VecDeque<Held<T>>,
    first_held: u64,
    now: Timestamp,
    /// Whether mappings of either cut were ever seen.
    seen: [bool; 2],
    finished: bool,
    counts: Counts,
}

/// The mappings that a line could have.
struct Nearest {
    mappings: [u32; MAX_MAPPINGS],
    /// Which of them the delay does not rule out.
    ordinary: [bool; MAX_MAPPINGS],
    count: usize,
    /// Whether there are no other ordinary ones.
    complete: bool,
}

/// A server address that the engine keeps.
#[derive(PartialEq, Eq, Hash)]
enum OwnedServer {
    Ip(std::net::IpAddr),
    Unix(Box<[u8]>),
}

/// A line that waits for its decision.
struct Held<T> {
    payload: T,
    server: u32,
    group: Option<u32>,
    /// The next line of the same group.
    next: Option<u64>,
    user_agent: Option<u32>,
    /// Its place among the lines of its server.
    ordinal: u32,
    time: Timestamp,
    resolution: Resolution,
}

/// What the engine knows of a server.
struct Server {
    delays: Delays,
    order: Order,
    /// Lines without a mapping per million, a moving average.
    missing: i64,
    /// Held lines for which there is no mapping yet.
    short: u32,
    held: u32,
    mappings: u32,
    lines: u32,
    counts: ByCertainty,
}

/// Lines of one server by certainty.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ByCertainty {
    /// See [`Certainty::Exact`].
    pub exact: u64,
    /// See [`Certainty::Certain`].
    pub certain: u64,
    /// See [`Certainty::Likely`].
    pub likely: u64,
    /// See [`Certainty::None`].
    pub none: u64,
}

impl ByCertainty {
    fn add(&mut self, certainty: Certainty) {
        *match certainty {
            Certainty::Exact => &mut self.exact,
            Certainty::Certain => &mut self.certain,
            Certainty::Likely => &mut self.likely,
            Certainty::None => &mut self.none,
        } += 1;
    }
}

/// How far the n-th line of a server is from the n-th mapping: with stamps of whole seconds, order
/// is the finer clock. Thousandths throughout.
#[derive(Clone, Copy, Default)]
struct Order {
    pairs: u32,
    lag: i64,
    spread: i64,
}

impl Order {
    fn learn(&mut self, mapping: u32, line: u32) {
        let lag = Self::lag(mapping, line);
        self.pairs = self.pairs.saturating_add(1);
        if self.pairs == 1 {
            (self.lag, self.spread) = (lag, 4_000);
            return;
        }
        self.spread += ((lag - self.lag).abs() - self.spread) / 16;
        self.lag += (lag - self.lag) / 8;
    }

    fn cost(self, mapping: u32, line: u32) -> i64 {
        if self.pairs < 4 {
            return 0;
        }
        let off = (Self::lag(mapping, line) - self.lag).abs();
        (off * 1_000 / (self.spread + 500)).min(ORDER_WORST)
    }

    fn lag(mapping: u32, line: u32) -> i64 {
        i64::from(line.wrapping_sub(mapping).cast_signed()) * 1_000
    }
}

impl<T> Attributor<T> {
    /// An engine that knows nothing yet.
    #[must_use]
    pub fn new(settings: Settings) -> Self {
        Self {
            settings,
            servers: IndexSet::new(),
            last_server: None,
            states: Vec::new(),
            outstanding: Outstanding::new(),
            habits: Habits::new(),
            held: VecDeque::new(),
            first_held: 1,
            now: Timestamp::MIN,
            seen: [false; 2],
            finished: false,
            counts: Counts::default(),
        }
    }

    /// The number of a server, given out on first sight.
    ///
    /// A server is its address: classic mappings name no port, so two servers at one address share
    /// what the balancer says of either.
    pub fn server(&mut self, addr: ServerAddr<'_>) -> ServerId {
        if let Some(last) = self.last_server
            && self.server_addr(last) == Some(addr)
        {
            return last;
        }
        let owned = match addr {
            ServerAddr::Ip(ip) => OwnedServer::Ip(ip),
            ServerAddr::Unix(path) => OwnedServer::Unix(path.into()),
        };
        let (index, new) = self.servers.insert_full(owned);
        if new {
            self.states.push(Server::new());
        }
        let id = ServerId(u32::try_from(index).expect("far fewer servers than 2^32"));
        self.last_server = Some(id);
        id
    }

    /// The address of a server that [`Self::server`] numbered.
    #[must_use]
    pub fn server_addr(&self, id: ServerId) -> Option<ServerAddr<'_>> {
        self.servers.get_index(id.0 as usize).map(|server| match server {
            OwnedServer::Ip(ip) => ServerAddr::Ip(*ip),
            OwnedServer::Unix(path) => ServerAddr::Unix(path),
        })
    }

    /// Takes a mapping. Mappings may come in any order; nearly sorted is best.
    pub fn mapping(&mut self, record: Record) {
        self.counts.mappings += 1;
        let server = record.server.0;
        let Some(state) = self.states.get_mut(server as usize) else {
            self.counts.evicted += 1;
            return;
        };
        state.mappings = state.mappings.wrapping_add(1);
        let ordinal = state.mappings;
        self.seen[place(record.cut)] = true;
        let group = self.outstanding.find_or_add(key(server, record.cut, record.request), server);
        self.outstanding.add(group, record.client, (record.time, record.resolution), ordinal);
        let members = self.outstanding.group(group);
        if members.lines >= members.mappings {
            self.states[server as usize].short -= 1;
        }
        while self.outstanding.len() > self.settings.max_mappings.max(1) {
            self.forget_oldest();
            self.counts.evicted += 1;
        }
    }

    /// Takes a line, with whatever the driver needs to write it. A line of a server that was never
    /// numbered is an error of the driver's; it comes out without a client.
    pub fn line(&mut self, line: Line, payload: T) {
        self.counts.lines += 1;
        if let Some(agent) = line.user_agent {
            self.habits.note(agent);
        }
        let server = line.server.0;
        let mut held = Held {
            payload,
            server,
            group: None,
            next: None,
            user_agent: line.user_agent,
            ordinal: 0,
            time: line.time,
            resolution: line.resolution,
        };
        if let Some(state) = self.states.get_mut(server as usize) {
            state.lines = state.lines.wrapping_add(1);
            state.held += 1;
            held.ordinal = state.lines;
            held.group = self.group_of(&line);
        }
        let number = self.first_held + self.held.len() as u64;
        if let Some(group) = held.group {
            let members = self.outstanding.group_mut(group);
            members.lines += 1;
            if members.lines > members.mappings {
                self.states[server as usize].short += 1;
            }
            if members.lines == 1 {
                members.first_line = number;
            } else {
                let last = members.last_line - self.first_held;
                if let Ok(last) = usize::try_from(last) {
                    self.held[last].next = Some(number);
                }
            }
            self.outstanding.group_mut(group).last_line = number;
        }
        self.held.push_back(held);
    }

    /// The group a line waits in. Where mappings of both cuts were seen, and only the group under
    /// the other cut has any, it is that one.
    fn group_of(&mut self, line: &Line) -> Option<u32> {
        let server = line.server.0;
        let long = line.long.map(|request| key(server, Cut::Long, request));
        let short = line.short.map(|request| key(server, Cut::Short, request));
        let (first, second) = match (long, short) {
            (Some(long), Some(short)) if self.seen == [true, false] => (short, Some(long)),
            (Some(long), short) => (long, short),
            (None, short) => (short?, None),
        };
        let has_mappings = |&group: &u32| self.outstanding.group(group).mappings > 0;
        let other = second.filter(|_| self.seen == [true, true]);
        if let Some(other) = other.and_then(|key| self.outstanding.find(key)).filter(has_mappings)
            && !self.outstanding.find(first).is_some_and(|group| has_mappings(&group))
        {
            return Some(other);
        }
        Some(self.outstanding.find_or_add(first, server))
    }

    /// Says that it is `now`: lines that have waited long enough can be had from
    /// [`Self::next_decided`], mappings that are too old are forgotten. Time does not go back.
    pub fn advance(&mut self, now: Timestamp) {
        self.now = self.now.max(now);
        let too_old = self.now - self.settings.window;
        while let Some(oldest) = self.outstanding.oldest()
            && self.outstanding.get(oldest).time < too_old
        {
            self.forget_oldest();
            self.counts.expired += 1;
        }
    }

    fn forget_oldest(&mut self) {
        if let Some(oldest) = self.outstanding.oldest() {
            self.take(oldest);
        }
    }

    /// Takes a mapping out, whatever for.
    fn take(&mut self, mapping: u32) {
        let group = self.outstanding.group_of(mapping);
        self.outstanding.remove(mapping);
        let members = self.outstanding.group(group);
        if members.lines > members.mappings {
            self.states[members.server as usize].short += 1;
        }
        self.outstanding.drop_if_empty(group);
    }

    /// The next line that has waited long enough, decided; lines come in the order they were taken.
    pub fn next_decided(&mut self) -> Option<Decided<T>> {
        let front = self.held.front()?;
        let crowded = self.held.len() > self.settings.max_lines;
        if !self.is_due(front.time) {
            if !crowded {
                return None;
            }
            self.counts.hurried += 1;
        }
        let verdict = self.decide();
        let held = self.held.pop_front()?;
        self.release(&held);
        self.first_held += 1;
        self.count(&held, verdict);
        Some(Decided {
            payload: held.payload,
            server: ServerId(held.server),
            time: held.time,
            verdict,
        })
    }

    fn is_due(&self, time: Timestamp) -> bool {
        self.finished || time + self.settings.wait <= self.now
    }

    /// When the oldest held line is due, so that a driver knows how long to sleep.
    #[must_use]
    pub fn next_due(&self) -> Option<Timestamp> {
        self.held.front().map(|front| front.time + self.settings.wait)
    }

    /// No more is to come: all that is held is due.
    pub fn finish(&mut self) {
        self.finished = true;
    }

    /// What has happened so far.
    #[must_use]
    pub fn counts(&self) -> Counts {
        Counts {
            outstanding: self.outstanding.len() as u64,
            held: self.held.len() as u64,
            ..self.counts
        }
    }

    /// What has happened to the lines of one server.
    #[must_use]
    pub fn server_counts(&self, server: ServerId) -> ByCertainty {
        self.states.get(server.0 as usize).map(|state| state.counts).unwrap_or_default()
    }

    /// The middle delay from a server's mappings to their lines in microseconds, by the clocks as
    /// they are, learnt from certain pairs; `None` while there are too few.
    #[must_use]
    pub fn server_delay(&self, server: ServerId) -> Option<i64> {
        self.states.get(server.0 as usize)?.delays.median()
    }

    /// Takes the line that was decided out of its group.
    fn release(&mut self, held: &Held<T>) {
        let Some(state) = self.states.get_mut(held.server as usize) else { return };
        state.held -= 1;
        let Some(group) = held.group else { return };
        let members = self.outstanding.group_mut(group);
        if members.lines > members.mappings {
            state.short -= 1;
        }
        members.lines -= 1;
        members.first_line = held.next.unwrap_or(0);
        self.outstanding.drop_if_empty(group);
    }

    fn count(&mut self, held: &Held<T>, verdict: Verdict) {
        match verdict.certainty {
            Certainty::Exact => self.counts.exact += 1,
            Certainty::Certain => self.counts.certain += 1,
            Certainty::Likely => self.counts.likely += 1,
            Certainty::None => self.counts.none += 1,
        }
        let Some(state) = self.states.get_mut(held.server as usize) else { return };
        state.counts.add(verdict.certainty);
        if verdict.client.is_some() {
            self.counts.used += 1;
        }
        if held.group.is_some() {
            let missing = if verdict.reason == Reason::NoMapping { 1_000_000 } else { 0 };
            state.missing += (missing - state.missing) / MISSING_MEMORY;
        }
    }

    /// Decides the oldest held line, and takes the mapping that explains it.
    fn decide(&mut self) -> Verdict {
        let held = &self.held[0];
        let Some(group) = held.group else { return nothing(Reason::NoRequest) };
        let members = self.outstanding.group(group);
        match (members.mappings, members.lines) {
            (0, _) => nothing(Reason::NoMapping),
            (1, 1) => self.decide_alone(group),
            _ => self.decide_group(group),
        }
    }

    /// One line, one mapping.
    fn decide_alone(&mut self, group: u32) -> Verdict {
        let Some(mapping) = self.outstanding.candidates(group).next() else {
            return nothing(Reason::NoMapping);
        };
        let line = &self.held[0];
        let waiting = self.outstanding.get(mapping);
        let delay = line.time.micros_since(waiting.time);
        if self.is_impossible(waiting, line) {
            return nothing(Reason::NoMapping);
        }
        let client = waiting.client;
        let doubt = self.is_doubtful(waiting, line);
        let odd = self.is_odd(waiting, line);
        if !odd {
            self.learn(mapping, CERTAIN);
        }
        self.take(mapping);
        let (certainty, reason, probability) = if doubt {
            (Certainty::Likely, Reason::Doubtful, 800)
        } else {
            (Certainty::Certain, Reason::Only, 1_000)
        };
        Verdict {
            client: Some(client),
            certainty,
            candidates: 1,
            reason,
            delay: Some(delay),
            probability,
        }
    }

    /// Several lines or several mappings: the cheapest assignment of those nearest to the line.
    fn decide_group(&mut self, group: u32) -> Verdict {
        self.set_stale_aside(group);
        let nearest = self.nearest(group);
        let count = nearest.count;
        let candidates = &nearest.mappings[..count];
        let (lines, waiting_lines) = self.lines_of(group);
        let mut costs = Costs {
            pair: [[IMPOSSIBLE; MAX_MAPPINGS]; MAX_LINES],
            unmatched: self.unmatched_cost(self.held[0].server),
            lines: waiting_lines,
            mappings: count,
        };
        let lines = &lines[..waiting_lines];
        let horizon = self.horizon(group, lines);
        for (row, &line) in lines.iter().enumerate() {
            for (column, &mapping) in candidates.iter().enumerate() {
                let turn = i64::try_from(row.abs_diff(column)).unwrap_or(0);
                costs.pair[row][column] = self.pair_cost(mapping, &self.held[line], horizon) + turn;
            }
        }
        let Some(chosen) = costs.solve()[0] else {
            let Group { mappings, lines, .. } = *self.outstanding.group(group);
            let reason = if lines > mappings { Reason::NoMapping } else { Reason::NoneFits };
            return Verdict { candidates: mappings, ..nothing(reason) };
        };
        self.take_chosen(group, &nearest, chosen, &costs.pair[0])
    }

    /// Mappings far older than this server's lines ever are stand back for the others.
    fn set_stale_aside(&mut self, group: u32) {
        let line = &self.held[0];
        let delays = &self.states[line.server as usize].delays;
        let time = line.time;
        self.outstanding.set_aside(group, |waiting| {
            let delay = time.micros_since(waiting.time);
            delay > 0 && delays.is_unusual(delay)
        });
    }

    /// The first of the group's mappings that this line, or the next ones of the group, could have.
    /// Where a server's delays are well known, those that are far too old are left out, unless there
    /// is nothing else.
    fn nearest(&self, group: u32) -> Nearest {
        let line = &self.held[0];
        let delays = &self.states[line.server as usize].delays;
        if delays.is_settled() {
            let younger = self.first_of(group, |waiting| {
                let delay = line.time.micros_since(waiting.time);
                delay <= 0 || !delays.is_unusual(delay)
            });
            if younger.count > 0 {
                return younger;
            }
        }
        self.first_of(group, |_| true)
    }

    fn first_of(&self, group: u32, suits: impl Fn(&Waiting) -> bool) -> Nearest {
        let line = &self.held[0];
        let mut found = Nearest {
            mappings: [0; MAX_MAPPINGS],
            ordinary: [false; MAX_MAPPINGS],
            count: 0,
            complete: true,
        };
        for (step, mapping) in self.outstanding.candidates(group).enumerate() {
            if found.count == MAX_MAPPINGS || step == MAX_STEPS {
                found.complete = false;
                break;
            }
            let waiting = self.outstanding.get(mapping);
            if !self.is_impossible(waiting, line) && suits(waiting) {
                found.mappings[found.count] = mapping;
                found.ordinary[found.count] = self.is_ordinary(waiting, line);
                found.count += 1;
            }
        }
        // One that is too young ends the search: those behind it are younger still.
        let last = found.count.saturating_sub(1);
        let too_young = found.count > 0 && {
            let waiting = self.outstanding.get(found.mappings[last]);
            waiting.time > line.time && !found.ordinary[last]
        };
        found.complete |= too_young;
        found
    }

    /// Whether the delay does not rule the pair out.
    fn is_ordinary(&self, waiting: &Waiting, line: &Held<T>) -> bool {
        let delays = &self.states[line.server as usize].delays;
        !delays.is_settled() || !delays.is_unusual(line.time.micros_since(waiting.time))
    }

    /// Indices of the group's first lines among those held.
    fn lines_of(&self, group: u32) -> ([usize; MAX_LINES], usize) {
        let mut found = [0; MAX_LINES];
        let mut count = 0;
        let mut next = Some(self.outstanding.group(group).first_line);
        for place in &mut found {
            let Some(number) = next else { break };
            let Ok(index) = usize::try_from(number - self.first_held) else { break };
            *place = index;
            count += 1;
            next = self.held[index].next;
        }
        (found, count)
    }

    /// Takes the chosen one of several candidates, and says how sure that is.
    fn take_chosen(
        &mut self,
        group: u32,
        nearest: &Nearest,
        chosen: usize,
        costs: &[i64; MAX_MAPPINGS],
    ) -> Verdict {
        let line = &self.held[0];
        let candidates = &nearest.mappings[..nearest.count];
        let mapping = candidates[chosen];
        let waiting = self.outstanding.get(mapping);
        let client = waiting.client;
        let delay = line.time.micros_since(waiting.time);
        let members = self.outstanding.group(group);
        let short = members.lines > members.mappings;
        let possible = candidates.iter().zip(nearest.ordinary).filter(|&(_, ordinary)| ordinary);
        let total = possible.clone().count();
        let same = (nearest.complete || !members.mixed)
            && nearest.ordinary[chosen]
            && possible.clone().all(|(&other, _)| {
                let other = self.outstanding.get(other);
                other.client == client && !other.tainted
            });

        let doubt = short || self.is_doubtful(waiting, line);
        let (certainty, reason, probability) = match (same, doubt) {
            (true, false) if total == 1 => (Certainty::Certain, Reason::Only, 1_000),
            (true, false) => (Certainty::Certain, Reason::SameClient, 1_000),
            (true, true) => (Certainty::Likely, Reason::Doubtful, 800),
            (false, _) => {
                let reason = match self.fit(client, line) {
                    Fit::Same => Reason::UserAgent,
                    Fit::Unknown | Fit::Other => Reason::Order,
                };
                (Certainty::Likely, reason, self.probability(client, candidates, costs))
            }
        };
        let weight = u8::try_from(probability * u16::from(CERTAIN) / 1_100).unwrap_or(0);
        match (certainty, reason) {
            (Certainty::Certain, _) => self.learn_agent(client, CERTAIN),
            (_, Reason::UserAgent) if probability >= 900 => self.learn(mapping, weight),
            _ => self.learn_agent(client, weight),
        }
        if !same {
            self.outstanding.pass_over(group, candidates, &nearest.ordinary, chosen);
        }
        self.take(mapping);
        Verdict {
            client: Some(client),
            certainty,
            candidates: u32::try_from(total).unwrap_or(u32::MAX).max(1),
            reason,
            delay: Some(delay),
            probability,
        }
    }

    /// The share of the evidence that speaks for `client`, in thousandths, never certainty.
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a share of 1,000, from costs of a few thousand"
    )]
    fn probability(&self, client: ClientAddr, candidates: &[u32], costs: &[i64]) -> u16 {
        let best = costs[..candidates.len()].iter().copied().min().unwrap_or(0);
        let (mut all, mut ours) = (0.0_f32, 0.0_f32);
        for (&mapping, &cost) in candidates.iter().zip(costs) {
            let weight = (-((cost - best) as f32) / 1_000.0).exp();
            all += weight;
            if self.outstanding.get(mapping).client == client {
                ours += weight;
            }
        }
        ((ours / all * 1_000.0) as u16).clamp(1, 990)
    }

    /// A mapping must precede its line, but for coarse stamps and late arrival.
    fn is_impossible(&self, waiting: &Waiting, line: &Held<T>) -> bool {
        let resolution = line.resolution.max(waiting.resolution).micros();
        waiting.time > (line.time + self.settings.wait).offset_by(resolution - 1)
    }

    /// Whether a mapping that seems to be the only one may still not be the line's own.
    fn is_doubtful(&self, waiting: &Waiting, line: &Held<T>) -> bool {
        let state = &self.states[line.server as usize];
        state.missing > MISSING_LIMIT
            || state.short > 1 + state.held / 50
            || self.is_odd(waiting, line)
    }

    /// Whether the pair itself is out of the ordinary.
    fn is_odd(&self, waiting: &Waiting, line: &Held<T>) -> bool {
        let delays = &self.states[line.server as usize].delays;
        waiting.tainted
            || delays.is_unusual(line.time.micros_since(waiting.time))
            || self.fit(waiting.client, line) == Fit::Other
    }

    /// Learns from the oldest held line and the mapping that it is about to take.
    fn learn(&mut self, mapping: u32, weight: u8) {
        let line = &self.held[0];
        let waiting = self.outstanding.get(mapping);
        let delay = line.time.micros_since(waiting.time);
        let state = &mut self.states[line.server as usize];
        state.delays.learn(delay, line.resolution.max(waiting.resolution));
        state.order.learn(waiting.ordinal, line.ordinal);
        self.learn_agent(waiting.client, weight);
    }

    fn learn_agent(&mut self, client: ClientAddr, weight: u8) {
        if let Some(agent) = self.held[0].user_agent {
            self.habits.learn(client, agent, weight);
        }
    }

    fn fit(&self, client: ClientAddr, line: &Held<T>) -> Fit {
        line.user_agent.map_or(Fit::Unknown, |agent| self.habits.fit(client, agent))
    }

    /// Until when all lines of a group are in view: now, or where there are too many of them the
    /// time of the last one in view.
    fn horizon(&self, group: u32, lines: &[usize]) -> Timestamp {
        if lines.len() == self.outstanding.group(group).lines as usize {
            return self.now.max(self.held[0].time);
        }
        lines.last().map_or(self.now, |&last| self.held[last].time)
    }

    /// What it costs to explain a line by a mapping; lower is better.
    fn pair_cost(&self, mapping: u32, line: &Held<T>, horizon: Timestamp) -> i64 {
        let waiting = self.outstanding.get(mapping);
        if self.is_impossible(waiting, line) {
            return IMPOSSIBLE;
        }
        let state = &self.states[line.server as usize];
        let agent = line.user_agent.map_or(0, |agent| self.habits.cost(waiting.client, agent));
        let order = if line.resolution.max(waiting.resolution) == Resolution::Second {
            state.order.cost(waiting.ordinal, line.ordinal)
        } else {
            0
        };
        let delay = line.time.micros_since(waiting.time);
        state.delays.cost(delay, horizon.micros_since(waiting.time)) + agent + order
    }

    /// What it costs to leave a line without a client: less where mappings are often missing.
    fn unmatched_cost(&self, server: u32) -> i64 {
        let missing = self.states[server as usize].missing;
        let octaves = i64::from((missing.max(1_000) / 1_000).ilog2());
        UNMATCHED - octaves * UNMATCHED_STEP
    }
}

impl Server {
    const fn new() -> Self {
        Self {
            delays: Delays::new(),
            order: Order { pairs: 0, lag: 0, spread: 0 },
            missing: 0,
            short: 0,
            held: 0,
            mappings: 0,
            lines: 0,
            counts: ByCertainty { exact: 0, certain: 0, likely: 0, none: 0 },
        }
    }
}

const fn nothing(reason: Reason) -> Verdict {
    Verdict {
        client: None,
        certainty: Certainty::None,
        candidates: 0,
        reason,
        delay: None,
        probability: 0,
    }
}

const fn place(cut: Cut) -> usize {
    match cut {
        Cut::Short => 0,
        Cut::Long => 1,
    }
}

/// A request at a server under a cut, as one number: different ones collide once in 2^64.
fn key(server: u32, cut: Cut, request: Fingerprint) -> u64 {
    let salt = u64::from(server) << 1 | place(cut) as u64;
    let mixed = request.get() ^ salt.wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    let folded = u128::from(mixed) * 0xD6E8_FEB8_6659_FD93_u128;
    let [low, high] = [folded, folded >> 64]
        .map(|half| u64::try_from(half & u128::from(u64::MAX)).expect("masked to 64 bits"));
    low ^ high
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const SECOND: i64 = 1_000_000;

    struct Site {
        engine: Attributor<u32>,
        server: ServerId,
        lines: u32,
        out: Vec<(u8, Certainty, Reason)>,
    }

    impl Site {
        fn new() -> Self {
            let mut engine = Attributor::new(Settings::default());
            let server = engine.server(ServerAddr::Ip([127, 0, 1, 1].into()));
            Self { engine, server, lines: 0, out: Vec::new() }
        }

        fn mapping(&mut self, at: i64, client: u8, url: &str) {
            self.advance(at);
            self.engine.mapping(Record {
                server: self.server,
                client: ClientAddr::Ip([192, 0, 2, client].into()),
                time: Timestamp::from_micros(at),
                resolution: Resolution::Microsecond,
                request: Fingerprint::of_raw(url.as_bytes(), Cut::Long).unwrap(),
                cut: Cut::Long,
            });
        }

        fn line(&mut self, at: i64, agent: u32, url: &str) {
            self.advance(at);
            let line = Line {
                server: self.server,
                time: Timestamp::from_micros(at),
                resolution: Resolution::Microsecond,
                short: None,
                long: Fingerprint::of_logged(&[url.as_bytes()], Cut::Long),
                user_agent: Some(agent),
                referer: None,
                status: None,
                bytes: None,
                peer_port: None,
            };
            self.engine.line(line, self.lines);
            self.lines += 1;
        }

        /// As a driver does: time moves, what is due comes out, and only then comes the next.
        fn advance(&mut self, at: i64) {
            self.engine.advance(Timestamp::from_micros(at));
            while let Some(out) = self.engine.next_decided() {
                let client = match out.verdict.client {
                    Some(ClientAddr::Ip(std::net::IpAddr::V4(ip))) => ip.octets()[3],
                    _ => 0,
                };
                self.out.push((client, out.verdict.certainty, out.verdict.reason));
            }
        }

        /// What came out by now: the client's last octet (0 for none), how sure, and why.
        fn out(&mut self, at: i64) -> Vec<(u8, Certainty, Reason)> {
            self.advance(at);
            std::mem::take(&mut self.out)
        }
    }

    #[test]
    fn a_line_waits_and_takes_the_only_mapping() {
        let mut site = Site::new();
        site.mapping(0, 7, "/a");
        site.line(10, 1, "/a");
        assert_eq!(site.out(1_000), [], "it is held for the rest of its group");
        assert_eq!(site.out(SECOND), [(7, Certainty::Certain, Reason::Only)]);
    }

    #[test]
    fn a_mapping_that_comes_late_is_waited_for() {
        let mut site = Site::new();
        site.line(0, 1, "/a");
        site.mapping(100_000, 7, "/a");
        assert_eq!(site.out(SECOND), [(7, Certainty::Certain, Reason::Only)]);
    }

    #[test]
    fn a_mapping_explains_one_line() {
        let mut site = Site::new();
        site.mapping(0, 7, "/a");
        site.line(10, 1, "/a");
        site.line(SECOND, 1, "/a");
        let expected =
            [(7, Certainty::Certain, Reason::Only), (0, Certainty::None, Reason::NoMapping)];
        assert_eq!(site.out(9 * SECOND), expected);
    }

    #[test]
    fn several_mappings_of_one_client_are_certain_of_two_clients_likely_and_in_order() {
        let mut site = Site::new();
        site.mapping(0, 7, "/a");
        site.mapping(1, 7, "/a");
        site.line(10, 1, "/a");
        site.line(11, 1, "/a");
        let expected =
            [(7, Certainty::Certain, Reason::SameClient), (7, Certainty::Certain, Reason::Only)];
        assert_eq!(site.out(SECOND), expected);
        site.mapping(2 * SECOND, 8, "/a");
        site.mapping(2 * SECOND + 1, 9, "/a");
        site.line(2 * SECOND + 2, 5, "/a");
        site.line(2 * SECOND + 3, 6, "/a");
        let out = site.out(9 * SECOND);
        assert_eq!(out[0], (8, Certainty::Likely, Reason::Order));
        assert_eq!((out[1].0, out[1].1), (9, Certainty::Likely), "the rest of a guess is a guess");
    }

    #[test]
    fn a_known_user_agent_turns_the_order_round() {
        let mut site = Site::new();
        for (round, client) in [(0, 8), (1, 9)] {
            site.mapping(round * SECOND, client, "/own");
            site.line(round * SECOND + 5, u32::from(client), "/own");
        }
        site.mapping(5 * SECOND, 8, "/a");
        site.mapping(5 * SECOND + 1, 9, "/a");
        site.line(5 * SECOND + 5, 9, "/a");
        site.line(5 * SECOND + 6, 8, "/a");
        let out = site.out(9 * SECOND);
        assert_eq!(out[2], (9, Certainty::Likely, Reason::UserAgent));
        assert_eq!(out[3].0, 8);
    }

    #[test]
    fn two_lines_that_compete_for_one_mapping_are_not_certain() {
        let mut site = Site::new();
        site.mapping(0, 7, "/a");
        site.line(10, 1, "/a");
        site.line(11, 1, "/a");
        let out = site.out(SECOND);
        assert!(out.iter().all(|&(_, certainty, _)| certainty < Certainty::Certain), "{out:?}");
        assert_eq!(out.iter().filter(|&&(client, ..)| client == 7).count(), 1);
    }

    #[test]
    fn where_mappings_are_often_missing_nothing_is_certain() {
        let mut site = Site::new();
        for i in 0..40 {
            site.line(i * SECOND, 1, "/unknown");
        }
        site.mapping(50 * SECOND, 7, "/a");
        site.line(50 * SECOND + 10, 1, "/a");
        let out = site.out(60 * SECOND);
        assert_eq!(out.last(), Some(&(7, Certainty::Likely, Reason::Doubtful)));
    }

    #[test]
    fn mappings_that_nobody_answers_do_not_shift_those_that_follow() {
        let mut site = Site::new();
        // A server that answers within a millisecond or so.
        for i in 0..100 {
            site.mapping(i * SECOND, 1, &format!("/{i}"));
            site.line(i * SECOND + 1_000 + i, 1, &format!("/{i}"));
        }
        // Twenty requests that were never answered, then ordinary traffic for the same page.
        for i in 0..20 {
            site.mapping(200 * SECOND + i, 2, "/a");
        }
        for i in 0..10 {
            let at = (210 + i) * SECOND;
            let client = u8::try_from(10 + i).unwrap();
            site.mapping(at, client, "/a");
            site.line(at + 1_000, 1, "/a");
        }
        let out = site.out(300 * SECOND);
        let clients: Vec<u8> = out[100..].iter().map(|&(client, ..)| client).collect();
        assert_eq!(clients, (10..20).collect::<Vec<u8>>());
    }

    #[test]
    fn with_many_of_one_page_outstanding_lines_take_them_in_order() {
        let mut site = Site::new();
        for i in 0..5_000_u32 {
            let client = u8::try_from(i % 250).unwrap();
            site.mapping(i64::from(i), client, "/a");
        }
        for i in 0..5_000 {
            site.line(100_000 + i, 1, "/a");
        }
        let out = site.out(SECOND);
        for (i, (client, ..)) in (0_u32..).zip(&out) {
            assert_eq!(u32::from(*client), i % 250, "line {i}");
        }
    }

    #[test]
    fn old_mappings_are_forgotten_and_counted() {
        let mut site = Site::new();
        site.mapping(0, 7, "/a");
        site.line(601 * SECOND, 1, "/a");
        assert_eq!(site.out(700 * SECOND), [(0, Certainty::None, Reason::NoMapping)]);
        assert_eq!(site.engine.counts().expired, 1);
    }

    #[test]
    fn bounds_hold_whatever_is_sent() {
        let settings = Settings { max_mappings: 10, max_lines: 5, ..Settings::default() };
        let mut site = Site::new();
        site.engine = Attributor::new(settings);
        site.server = site.engine.server(ServerAddr::Ip([127, 0, 1, 1].into()));
        for i in 0..100 {
            site.mapping(i, 7, &format!("/{i}"));
        }
        for i in 0..20 {
            site.line(200 + i, 1, "/x");
        }
        assert_eq!(site.out(300).len(), 15);
        let counts = site.engine.counts();
        assert_eq!((counts.outstanding, counts.evicted), (10, 90));
        assert_eq!((counts.held, counts.hurried), (5, 15));
    }

    #[test]
    fn a_line_finds_mappings_of_either_cut() {
        let mut site = Site::new();
        site.mapping(0, 1, "/long");
        site.engine.mapping(Record {
            server: site.server,
            client: ClientAddr::Ip([192, 0, 2, 2].into()),
            time: Timestamp::from_micros(0),
            resolution: Resolution::Second,
            request: Fingerprint::of_raw(b"/short", Cut::Short).unwrap(),
            cut: Cut::Short,
        });
        for (at, url) in [(10, "/long"), (11, "/short")] {
            let logged = |cut| Fingerprint::of_logged(&[url.as_bytes()], cut);
            let line = Line {
                server: site.server,
                time: Timestamp::from_micros(at),
                resolution: Resolution::Second,
                short: logged(Cut::Short),
                long: logged(Cut::Long),
                user_agent: None,
                referer: None,
                status: None,
                bytes: None,
                peer_port: None,
            };
            site.engine.line(line, 0);
        }
        let clients: Vec<u8> = site.out(SECOND).iter().map(|&(client, ..)| client).collect();
        assert_eq!(clients, [1, 2]);
    }

    #[test]
    fn settings_bound_the_wait() {
        let wait = Duration::from_millis(20);
        let mut site = Site::new();
        site.engine = Attributor::new(Settings { wait, ..Settings::default() });
        site.server = site.engine.server(ServerAddr::Ip([127, 0, 1, 1].into()));
        site.line(0, 1, "/a");
        assert_eq!(site.engine.next_due(), Some(Timestamp::from_micros(20_000)));
        assert_eq!(site.out(19_999).len(), 0);
        assert_eq!(site.out(20_000).len(), 1);
    }
}
