//! The public face: takes mappings and lines, holds lines until they are due, and hands them out decided.

mod arrival;
mod due;

use indexmap::IndexSet;

pub use self::due::BehindBalancer;
use self::due::Holds;

use super::costs;
use super::decide::why::{Explanation, Explanations};
use super::decide::{self, DecisionBuffers};
use super::learnt::Learnt;
use super::learnt::loss::MILLION;
use super::learnt::server::LearntServer;
use super::line::{BalancerId, FingerprintCuts, HeldLine, LoggedLine, OrderPlace, ServerIndex};
use super::memory::{Memory, ServerMemory};
use super::queue::{LineQueue, LineState, QueuedLine};
use super::record::MappingEvent;
use super::settings::JoinSettings;
use super::verdict::{
    Certainty, CertaintyCounts, DecidedLine, JoinCounts, LineVerdict, MatchConfidence, Reason,
};
use crate::addr::ServerAddr;
use crate::time::Timestamp;

/// Joins mappings and lines. `T` is what the driver needs to write a line once it is decided.
///
/// The attributor keeps the queue of lines and routes each line to its decision in `decide`. What is known is
/// in `Memory`, what is estimated in `Learnt`.
pub struct Attributor<T> {
    max_lines: usize,
    servers: IndexSet<OwnedServer>,
    last_server: Option<ServerIndex>,
    queue: LineQueue<T>,
    memory: Memory,
    learnt: Learnt,
    buffers: DecisionBuffers,
    /// Lines taken.
    lines: u64,
    /// Lines decided early.
    decided_early: u64,
    /// See [`JoinCounts::unauthenticated`].
    unauthenticated: u64,
    certainties: CertaintyCounts,
    holds: Holds,
    /// Whether all held lines are due.
    finished: bool,
    /// `None` until an explanation is asked for.
    explanations: Option<Explanations>,
}

/// A server address that the attributor keeps.
#[derive(PartialEq, Eq, Hash)]
enum OwnedServer {
    Ip(std::net::IpAddr),
    Unix(Box<[u8]>),
}

impl<T> Attributor<T> {
    /// An attributor that knows nothing yet.
    #[must_use]
    pub fn new(settings: JoinSettings) -> Self {
        Self {
            max_lines: settings.max_lines,
            servers: IndexSet::new(),
            last_server: None,
            queue: LineQueue::new(),
            memory: Memory::new(&settings),
            learnt: Learnt::new(),
            buffers: DecisionBuffers::default(),
            lines: 0,
            decided_early: 0,
            unauthenticated: 0,
            certainties: CertaintyCounts::default(),
            holds: Holds::default(),
            finished: false,
            explanations: None,
        }
    }

    /// Returns the index of a server, given out on first sight.
    ///
    /// A server is its address: classic mappings name no port, so that two servers at one address share what
    /// the balancer says of either.
    pub fn server(&mut self, addr: ServerAddr<'_>) -> ServerIndex {
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
            self.memory.servers.push(ServerMemory::new());
            self.learnt.servers.push(LearntServer::new());
        }
        let id = ServerIndex(u32::try_from(index).expect("far fewer servers than 2^32"));
        self.last_server = Some(id);
        id
    }

    /// Returns the address of a server that [`Self::server`] numbered.
    #[must_use]
    pub fn server_addr(&self, id: ServerIndex) -> Option<ServerAddr<'_>> {
        self.servers.get_index(id.0 as usize).map(|server| match server {
            OwnedServer::Ip(ip) => ServerAddr::Ip(*ip),
            OwnedServer::Unix(path) => ServerAddr::Unix(path),
        })
    }

    /// Takes a mapping. Mappings may come in any order; nearly sorted is best.
    pub fn mapping(&mut self, record: &MappingEvent) {
        if record.exchange.as_ref().is_some_and(|exchange| exchange.body_end.is_some())
            && let Some(server) = self.memory.servers.get_mut(record.server.0 as usize)
        {
            server.dated_by = self.learnt.servers[record.server.0 as usize].logged_end.dated_by();
        }
        if let Some(exchange) = &record.exchange
            && let Some(host) = exchange.host
            && let Some(server) = self.learnt.servers.get_mut(record.server.0 as usize)
        {
            server.hosts.take_record(host.get());
        }
        if record.is_request()
            && !record.is_body
            && let Some(server) = self.learnt.servers.get_mut(record.server.0 as usize)
        {
            let place = self.memory.servers.get(record.server.0 as usize).map(|it| it.mappings);
            server.flows.count_mapping(record.time, place.unwrap_or(OrderPlace::FIRST));
            server.sender_flows.count_mapping(record.time);
        }
        self.memory.note_time(record.time);
        if self.memory.take(record) {
            self.queue.regroup(&mut self.memory, record.server.0);
        }
    }

    /// Returns the fingerprints that lines need while mappings come by the network. Records of other balancers
    /// come after their lines, so the first lines have all.
    #[must_use]
    pub fn live_cuts(&self) -> FingerprintCuts {
        let target = self.memory.has_third_party || self.lines < costs::CUTS_UNDECIDED;
        FingerprintCuts { short: false, long: true, target }
    }

    /// Counts records of a balancer that arrived together, and records found missing before them by
    /// number. A negative number means late arrivals. Losses make lines doubtful of the servers with
    /// records of this balancer.
    pub fn came(&mut self, balancer: BalancerId, now: Timestamp, records: u32, missing: i64) {
        self.learnt.losses.count(balancer, now, records, missing);
    }

    /// Notes a record of a request of `server`, by a balancer with numbered records.
    pub fn recorded_by(&mut self, server: ServerIndex, balancer: BalancerId) {
        if let Some(server) = self.learnt.servers.get_mut(server.0 as usize) {
            server.recorders.add(balancer);
        }
    }

    /// Returns whether a mapping has the request of the line.
    #[must_use]
    pub fn has_mappings_of(&self, logged: &LoggedLine) -> bool {
        let group = self.memory.group_now_of(logged);
        group.is_some_and(|group| self.memory.mappings.group(group).mappings > 0)
    }

    /// Takes a line, with whatever the driver needs to write it. A line of a server that was never numbered is
    /// an error of the driver; the line comes out without a client.
    pub fn line(&mut self, logged: &LoggedLine, payload: T) {
        self.lines += 1;
        let with_port = self.with_shared_port(logged);
        let logged = with_port.as_ref().unwrap_or(logged);
        let mut line = HeldLine::new(logged);
        self.memory.note_time(line.time);
        self.learnt.profiles.count(line.user_agent);
        if line.host.is_some()
            && let Some(server) = self.learnt.servers.get_mut(line.server as usize)
        {
            server.hosts.take_line(&line);
        }
        let state = self.state_of(logged, &line);
        let has_records = !matches!(state, LineState::Direct | LineState::Unrecorded);
        if let (true, Some(server)) =
            (has_records, self.memory.servers.get_mut(line.server as usize))
        {
            self.learnt.servers[line.server as usize].flows.count_line(line.time, server.lines);
            server.lines = server.lines.next();
            line.place = server.lines;
        }
        self.queue.push(payload, line, self.held_from(line.time), state);
    }

    /// Moves the time to `now`: lines that have waited long enough can be had from [`Self::next_decided`], and
    /// mappings that are too old are forgotten. Time does not go back.
    pub fn advance(&mut self, now: Timestamp) {
        let memory = &mut self.memory;
        memory.now = memory.now.max(now);
        // A held line may still need a mapping that was young enough when the line came.
        let front = self.queue.front();
        let too_old = memory.too_old();
        let too_old =
            front.map_or(too_old, |front| too_old.min(front.line.time.offset_by(-memory.window)));
        memory.expire(too_old);
    }

    /// Returns the next line that has waited long enough, decided; lines come out in the order they were taken.
    pub fn next_decided(&mut self) -> Option<DecidedLine<T>> {
        let front = self.queue.front()?;
        if !self.is_due(front) {
            if self.queue.len() <= self.max_lines {
                return None;
            }
            self.decided_early += 1;
        }
        let state = front.state;
        let number = self.queue.first();
        if let Some(explanations) = &mut self.explanations {
            explanations.gather(&self.queue, &self.memory, &self.learnt);
        }
        let mut verdict = self.decide(state);
        let QueuedLine { payload, line, .. } = self.queue.pop()?;
        let is_missing =
            matches!(verdict.reason, Reason::NoMapping | Reason::NoneFits | Reason::UnknownId);
        self.fall_back(&line, &mut verdict);
        self.doubt_for_losses(&line, &mut verdict);
        verdict = verdict.doubting_senders(line.is_unauthenticated);
        if let Some(explanations) = &mut self.explanations {
            explanations.hand_out(number, &verdict);
        }
        self.count(&line, &verdict, is_missing);
        Some(DecidedLine { payload, server: ServerIndex(line.server), time: line.time, verdict })
    }

    /// Decides the oldest held line.
    fn decide(&mut self, state: LineState) -> LineVerdict {
        let Self { queue, memory, learnt, buffers, .. } = self;
        let line = &queue.front_line();
        match state {
            LineState::Waits(group) => {
                if !memory.servers[line.server as usize].has_exchanges() {
                    learnt.servers[line.server as usize].use_delays_of(line.resolution);
                }
                decide::waiting(queue, memory, learnt, buffers, (line, group))
            }
            LineState::Unreadable => decide::unreadable(memory, learnt, line),
            LineState::Direct => LineVerdict::unmatched(Reason::Direct),
            LineState::Unrecorded => LineVerdict::unmatched(Reason::OtherBalancer),
            LineState::Early(place) => {
                let early = queue.take_early(place);
                if let Some(ended) = early.ended {
                    learnt.servers[line.server as usize].advance_to(ended);
                }
                early.verdict
            }
            LineState::Late(place) => {
                let late = queue.take_late(place);
                decide::late(queue, memory, learnt, buffers, &late)
            }
        }
    }

    /// Gives a line without a mapping the client of the line just before it with the same User-Agent, where
    /// mappings are often missing.
    fn fall_back(&mut self, line: &HeldLine, verdict: &mut LineVerdict) {
        let index = line.server as usize;
        let (Some(agent), Some(server)) = (line.user_agent, self.memory.servers.get(index)) else {
            return;
        };
        let learnt = &mut self.learnt.servers[index];
        // Our own balancers record each request, not only the first of a read.
        if self.memory.has_own_ports(line.server) || !learnt.misses_any(server) {
            return;
        }
        if let Some(client) = verdict.client {
            learnt.fallback.learn(agent, client, line.time);
            return;
        }
        let is_lost = matches!(verdict.reason, Reason::NoMapping | Reason::NoneFits);
        if !is_lost || !learnt.misses_mappings(server) {
            return;
        }
        let Some(client) = learnt.fallback.near(agent, line.time) else { return };
        let probability = learnt.fallback.probability();
        let likely = MatchConfidence::likely(Reason::AgentFallback, probability);
        *verdict = LineVerdict { client: Some(client), ..verdict.with(likely) };
    }

    /// Makes a certain line only likely while lost records may belong to another client.
    fn doubt_for_losses(&mut self, line: &HeldLine, verdict: &mut LineVerdict) {
        let is_keyed = matches!(verdict.reason, Reason::Port | Reason::RequestId);
        if verdict.certainty != Certainty::Certain || is_keyed {
            return;
        }
        let Learnt { servers, losses, .. } = &mut self.learnt;
        let Some(server) = servers.get(line.server as usize) else { return };
        let lost = losses.rate(&server.recorders, self.memory.now.max(line.time));
        if lost == 0 {
            return;
        }
        let wrong = lost.saturating_mul(server.crowded()) / MILLION;
        if wrong <= costs::LOSS_TOLERATED {
            return;
        }
        let right = u16::try_from((MILLION - wrong.min(MILLION)) / 1_000).expect("at most 1,000");
        let (least, most) = costs::LOSS_PROBABILITY;
        *verdict =
            verdict.with(MatchConfidence::likely(Reason::Doubtful, right.clamp(least, most)));
    }

    /// Ends the input: all held lines are due.
    pub fn finish(&mut self) {
        self.finished = true;
        self.learnt.servers.iter_mut().for_each(|server| server.flows.finish());
    }

    /// Returns what has happened so far.
    #[must_use]
    pub fn counts(&self) -> JoinCounts {
        let mappings = self.memory.counts;
        let CertaintyCounts { exact, certain, likely, unmatched } = self.certainties;
        JoinCounts {
            mappings: mappings.taken,
            used: mappings.used,
            expired: mappings.expired,
            evicted: mappings.evicted,
            outstanding: self.memory.mappings.len() as u64,
            lines: self.lines,
            exact,
            certain,
            likely,
            unmatched,
            unauthenticated: self.unauthenticated,
            decided_early: self.decided_early,
            held: self.queue.len() as u64,
        }
    }

    /// Returns the median delay from a server's mappings to their lines in microseconds, by the clocks as they
    /// are, learnt from certain pairs; `None` while there are too few.
    #[must_use]
    pub fn server_delay(&self, server: ServerIndex) -> Option<i64> {
        self.learnt.servers.get(server.0 as usize)?.delays.median()
    }

    /// Explains each line that is taken from now on: see [`Self::take_why`].
    pub fn explain_all(&mut self) {
        self.explanations.get_or_insert_default().want_all();
    }

    /// Explains the line that is taken next.
    pub fn explain_next(&mut self) {
        let number = self.queue.next_number();
        self.explanations.get_or_insert_default().want(number);
    }

    /// Returns the explanation of the line that was handed out last, if asked for.
    pub fn take_why(&mut self) -> Option<Explanation> {
        self.explanations.as_mut()?.take_last()
    }

    /// Counts a line that is handed out, and learns from its verdict about the server's lines in general.
    fn count(&mut self, line: &HeldLine, verdict: &LineVerdict, is_missing: bool) {
        self.certainties.add(verdict.certainty);
        self.unauthenticated += u64::from(verdict.is_unauthenticated);
        let index = line.server as usize;
        let Some(server) = self.memory.servers.get_mut(index) else { return };
        server.held -= 1;
        if matches!(verdict.reason, Reason::NoRequest | Reason::Direct | Reason::OtherBalancer) {
            return;
        }
        let learnt = &mut self.learnt.servers[index];
        // A request whose lines often find no mapping although it has some is none of the balancer's own.
        let has_some = verdict.candidates > 0 && server.has_exchanges() && learnt.is_lossy();
        learnt.learn_missing(line, is_missing, has_some);
        learnt.learn_crowded(verdict.candidates > 1);
        if let Some(sender) = line.sender {
            let is_explained = verdict.client.is_some() && verdict.reason != Reason::AgentFallback;
            learnt.senders.learn(sender, is_explained);
        }
        let has_exchanges = server.has_exchanges();
        // A line whose port no record has says nothing about headers.
        let is_keyed = line.peer.is_some() && self.memory.has_own_ports(line.server);
        if is_missing
            && !is_keyed
            && has_exchanges
            && learnt.misses_most(line.origin)
            && self.memory.distrust_headers(line)
        {
            self.queue.regroup(&mut self.memory, line.server);
        }
    }
}
