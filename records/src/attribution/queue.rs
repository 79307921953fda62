//! The engine: what is put in, what is held, and what comes out when.

use crate::attribution::decide::group::AssignmentWindow;
use crate::attribution::decide::nothing;
use crate::attribution::decide::single::SingleLineMatch;
use crate::attribution::decide::why::Explanations;
use crate::attribution::learnt::loss::RecordLosses;
use crate::attribution::learnt::server::ServerState;
use crate::attribution::learnt::user_agents::{NONE, UserAgentProfiles};
use crate::attribution::line::{HeldLine, LoggedLine, ServerIndex};
use crate::attribution::memory::connections::ConnectionTable;
use crate::attribution::memory::exchanges::ExchangeTable;
use crate::attribution::memory::mappings::{MappingTable, NIL, put};
use crate::attribution::memory::signature::{LoggedFields, RequestSignature};
use crate::attribution::record::{MappingEvent, low};
use crate::attribution::settings::JoinSettings;
use crate::attribution::verdict::{
    Certainty, CertaintyCounts, DecidedLine, JoinCounts, LineVerdict, Reason,
};
use std::collections::VecDeque;
use std::time::Duration;

use indexmap::IndexSet;

use crate::addr::ServerAddr;
use crate::request::{Cut, Fingerprint};
use crate::time::Timestamp;

/// Joins mappings and lines. `T` is what the driver needs to write a line once it is decided.
pub struct Attributor<T> {
    settings: JoinSettings,
    /// [`JoinSettings::wait`] in microseconds.
    pub(crate) wait: i64,
    /// [`JoinSettings::window`] in microseconds.
    pub(crate) window: i64,
    servers: IndexSet<OwnedServer>,
    last_server: Option<ServerIndex>,
    pub(crate) states: Vec<ServerState>,
    pub(crate) outstanding: MappingTable,
    pub(crate) exchanges: ExchangeTable,
    pub(crate) connections: ConnectionTable,
    pub(crate) habits: UserAgentProfiles,
    pub(crate) view: AssignmentWindow,
    pub(crate) claim: SingleLineMatch,
    /// Lines in the order they came; the first is number `first_held`.
    pub(crate) held: VecDeque<QueueEntry<T>>,
    pub(crate) first_held: u64,
    /// Verdicts on lines that were decided together with an older one.
    early: Vec<LineVerdict>,
    free_early: Vec<u32>,
    /// Lines that are in no group before they are decided.
    pub(crate) late: Vec<LoggedLine>,
    free_late: Vec<u32>,
    pub(crate) now: Timestamp,
    /// Whether mappings of either cut were ever seen.
    seen: [bool; 2],
    finished: bool,
    pub(crate) losses: RecordLosses,
    pub(crate) counts: JoinCounts,
    /// `None` while nobody asks why.
    pub(crate) whys: Option<Explanations>,
}

/// A server address that the engine keeps.
#[derive(PartialEq, Eq, Hash)]
enum OwnedServer {
    Ip(std::net::IpAddr),
    Unix(Box<[u8]>),
}

/// A line that waits to come out.
pub(crate) struct QueueEntry<T> {
    payload: T,
    pub(crate) asked: HeldLine,
    pub(crate) state: HeldState,
    /// The number of the next line of the same group, or [`LAST`].
    pub(crate) next: u64,
}

/// No next line.
pub(crate) const LAST: u64 = 0;

/// How far the decision about a held line has come.
#[derive(Clone, Copy)]
pub(crate) enum HeldState {
    /// It waits in this group.
    Waits(u32),
    /// It has no request that could be looked up.
    Unreadable,
    /// It came past the balancer.
    Direct,
    /// It was decided together with an older one; the verdict's place.
    Early(u32),
    /// What it is compared by is only known when it is decided; the line's place.
    Late(u32),
}

impl<T> Attributor<T> {
    /// An engine that knows nothing yet.
    #[must_use]
    pub fn new(settings: JoinSettings) -> Self {
        let micros = |time: Duration| i64::try_from(time.as_micros()).unwrap_or(i64::MAX);
        Self {
            settings,
            wait: micros(settings.wait),
            window: micros(settings.window),
            servers: IndexSet::new(),
            last_server: None,
            states: Vec::new(),
            outstanding: MappingTable::new(),
            exchanges: ExchangeTable::default(),
            connections: ConnectionTable::default(),
            habits: UserAgentProfiles::new(),
            view: AssignmentWindow::default(),
            claim: SingleLineMatch::default(),
            early: Vec::new(),
            free_early: Vec::new(),
            late: Vec::new(),
            free_late: Vec::new(),
            held: VecDeque::new(),
            first_held: 1,
            now: Timestamp::MIN,
            seen: [false; 2],
            finished: false,
            losses: RecordLosses::new(),
            counts: JoinCounts::default(),
            whys: None,
        }
    }

    /// The number of a server, given out on first sight.
    ///
    /// A server is its address: classic mappings name no port, so two servers at one address share
    /// what the balancer says of either.
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
            self.states.push(ServerState::new());
        }
        let id = ServerIndex(u32::try_from(index).expect("far fewer servers than 2^32"));
        self.last_server = Some(id);
        id
    }

    /// The address of a server that [`Self::server`] numbered.
    #[must_use]
    pub fn server_addr(&self, id: ServerIndex) -> Option<ServerAddr<'_>> {
        self.servers.get_index(id.0 as usize).map(|server| match server {
            OwnedServer::Ip(ip) => ServerAddr::Ip(*ip),
            OwnedServer::Unix(path) => ServerAddr::Unix(path),
        })
    }

    /// Takes a mapping. Mappings may come in any order; nearly sorted is best.
    pub fn mapping(&mut self, record: MappingEvent) {
        if record.exchange.is_some() {
            return self.note_exchange(&record);
        }
        self.counts.mappings += 1;
        let server = record.server.0;
        let (Some(state), Some(request)) = (self.states.get_mut(server as usize), record.request)
        else {
            self.counts.evicted += 1;
            return;
        };
        state.coarsest = state.coarsest.max(record.resolution);
        state.is_known = true;
        self.seen[usize::from(record.cut != Cut::Short)] = true;
        let group = self.outstanding.find_or_add(key(server, record.cut, request), server);
        self.remember(group, &record, NIL);
    }

    /// A mapping joins a group.
    pub(crate) fn remember(&mut self, group: u32, record: &MappingEvent, facts: u32) -> u32 {
        let time = (record.time, record.resolution);
        let mapping = self.outstanding.add(group, record.client, time, facts);
        self.fill_want(group);
        while self.outstanding.len() > self.most_remembered() {
            self.forget_oldest();
            self.counts.evicted += 1;
        }
        mapping
    }

    /// A mapping has joined a group: perhaps a line had none before.
    pub(crate) fn fill_want(&mut self, group: u32) {
        let members = self.outstanding.group(group);
        if members.lines >= members.mappings {
            self.states[members.server as usize].short -= 1;
        }
    }

    /// Takes a line, with whatever the driver needs to write it. A line of a server that was never
    /// numbered is an error of the driver's; it comes out without a client.
    pub fn line(&mut self, line: LoggedLine, payload: T) {
        self.counts.lines += 1;
        let user_agent = line.user_agent.unwrap_or(NONE);
        self.habits.note(user_agent);
        let server = line.server.0;
        let mut decision = HeldState::Unreadable;
        if let Some(state) = self.states.get_mut(server as usize) {
            state.held += 1;
            if state.has_exchanges {
                self.learn_shape(&line);
            }
            let state = &mut self.states[server as usize];
            let by_port = line.peer_port.is_some()
                && !self.connections.is_empty()
                && !(state.has_exchanges && state.shape.peer);
            if line.sender.is_some_and(|sender| state.senders.is_direct(sender)) {
                decision = HeldState::Direct;
            } else if by_port || !state.is_known {
                decision = HeldState::Late(put(&mut self.late, &mut self.free_late, line));
            } else if let Some(group) = self.group_of(&line) {
                self.enter_group(group);
                decision = HeldState::Waits(group);
            }
        }
        let asked = HeldLine {
            time: line.time,
            server,
            sender: line.sender,
            server_port: line.server_port.unwrap_or(0),
            user_agent,
            bytes: line.bytes.map(low),
            status: line.status.unwrap_or(0),
            peer: line.peer_port.unwrap_or(0),
            resolution: line.resolution,
        };
        self.held.push_back(QueueEntry { payload, asked, state: decision, next: LAST });
    }

    /// The group a line waits in. Where our own balancer and others were seen, or mappings of both
    /// cuts, and only the group of the one kind has any, it is that one.
    pub(crate) fn group_of(&mut self, line: &LoggedLine) -> Option<u32> {
        let server = line.server.0;
        if let Some(own) = self.exchange_key_of(line) {
            let has_mappings = |group| self.outstanding.group(group).mappings > 0;
            let others = self.seen != [false; 2];
            if !others || self.outstanding.find(own).is_some_and(has_mappings) {
                return Some(self.exchange_group(own, server));
            }
        }
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

    /// The group whose mappings a line could have by now, if there is one.
    pub(crate) fn group_now_of(&self, line: &LoggedLine) -> Option<u32> {
        let server = line.server.0;
        let of = |request: Option<Fingerprint>, cut| {
            request.and_then(|request| self.outstanding.find(key(server, cut, request)))
        };
        let own = self.own_group_of(line);
        own.or_else(|| of(line.long, Cut::Long)).or_else(|| of(line.short, Cut::Short))
    }

    /// The line that is taken next joins a group.
    fn enter_group(&mut self, group: u32) {
        let number = self.first_held + self.held.len() as u64;
        let members = self.outstanding.group_mut(group);
        members.lines += 1;
        if members.lines > members.mappings {
            self.states[members.server as usize].short += 1;
        }
        if members.lines == 1 {
            members.first_line = number;
        } else if let Ok(last) = usize::try_from(members.last_line - self.first_held) {
            self.held[last].next = number;
        }
        members.last_line = number;
    }

    /// The oldest held line joins a group as its first.
    pub(crate) fn enter_group_first(&mut self, group: u32) {
        let members = self.outstanding.group_mut(group);
        members.lines += 1;
        if members.lines > members.mappings {
            self.states[members.server as usize].short += 1;
        }
        if members.lines == 1 {
            (members.last_line, self.held[0].next) = (self.first_held, LAST);
        } else {
            self.held[0].next = members.first_line;
        }
        members.first_line = self.first_held;
    }

    /// The first line of a group leaves it: it is decided.
    pub(crate) fn leave_group(&mut self, group: u32, next: u64) {
        let members = self.outstanding.group_mut(group);
        let short = &mut self.states[members.server as usize].short;
        *short -= u32::from(members.lines > members.mappings);
        members.lines -= 1;
        members.first_line = next;
        self.outstanding.note_if_empty(group);
    }

    /// The first line of a group and a mapping leave it together: the one explains the other.
    pub(crate) fn consume(&mut self, group: u32, mapping: u32, next: u64) {
        self.count_used();
        self.forget_facts(mapping);
        self.outstanding.remove(mapping);
        let members = self.outstanding.group_mut(group);
        members.lines -= 1;
        members.first_line = next;
        self.outstanding.note_if_empty(group);
    }

    /// How many mappings are remembered, and how many connections. With their connection and their facts
    /// mappings take 400 bytes where classic ones take 140.
    pub(crate) fn most_remembered(&self) -> usize {
        let most = self.settings.max_mappings;
        (if self.connections.is_empty() { most } else { most * 3 / 8 }).max(1)
    }

    /// A mapping has explained a line.
    pub(crate) fn count_used(&mut self) {
        self.counts.used += 1;
    }

    /// Keeps the verdict on a line that does not come out yet.
    pub(crate) fn keep_early(&mut self, line: usize, verdict: LineVerdict) {
        let place = self.free_early.pop().unwrap_or_else(|| {
            self.early.push(verdict);
            u32::try_from(self.early.len() - 1).expect("fewer than the lines held")
        });
        self.early[place as usize] = verdict;
        self.held[line].state = HeldState::Early(place);
    }

    /// Says that it is `now`: lines that have waited long enough can be had from
    /// [`Self::next_decided`], mappings that are too old are forgotten. Time does not go back.
    pub fn advance(&mut self, now: Timestamp) {
        self.now = self.now.max(now);
        // A held line may still need what was young enough when it came.
        let oldest_line =
            self.held.front().map_or(self.now, |front| front.asked.time.min(self.now));
        let too_old = oldest_line.offset_by(-self.window);
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
    pub(crate) fn take(&mut self, mapping: u32) {
        let group = self.outstanding.group_of(mapping);
        self.forget_facts(mapping);
        self.outstanding.remove(mapping);
        let members = self.outstanding.group(group);
        let short = &mut self.states[members.server as usize].short;
        *short += u32::from(members.lines > members.mappings);
        self.outstanding.note_if_empty(group);
    }

    /// The next line that has waited long enough, decided; lines come in the order they were taken.
    pub fn next_decided(&mut self) -> Option<DecidedLine<T>> {
        let front = self.held.front()?;
        if !self.is_due(front.asked.time) {
            if self.held.len() <= self.settings.max_lines {
                return None;
            }
            self.counts.hurried += 1;
        }
        let state = front.state;
        if self.whys.is_some() {
            self.note_whys();
        }
        let verdict = match state {
            HeldState::Waits(group) => self.decide_waiting(group),
            HeldState::Unreadable => self.decide_unreadable(),
            HeldState::Direct => nothing(Reason::Direct),
            HeldState::Early(place) => {
                self.free_early.push(place);
                self.early[place as usize]
            }
            HeldState::Late(place) => {
                self.free_late.push(place);
                let line = self.late[place as usize];
                self.decide_late(&line)
            }
        };
        let QueueEntry { payload, asked, .. } = self.held.pop_front()?;
        self.first_held += 1;
        let missing = verdict.reason == Reason::NoMapping;
        let verdict = self.ask_neighbours(&asked, verdict);
        let verdict = self.doubt_for_losses(&asked, verdict);
        if let Some(whys) = &mut self.whys {
            whys.hand_out(self.first_held - 1, &verdict);
        }
        self.count(&asked, verdict, missing);
        Some(DecidedLine { payload, server: ServerIndex(asked.server), time: asked.time, verdict })
    }

    /// Where mappings are often missing, a line without one is likely of the same client as the line
    /// just before it from the same User-Agent.
    fn ask_neighbours(&mut self, asked: &HeldLine, verdict: LineVerdict) -> LineVerdict {
        let agent = asked.user_agent;
        let Some(state) = self.states.get_mut(asked.server as usize) else { return verdict };
        if agent == NONE || !state.misses_any() {
            return verdict;
        }
        if let Some(client) = verdict.client {
            state.neighbours.note(agent, client, asked.time);
            return verdict;
        }
        let is_lost = matches!(verdict.reason, Reason::NoMapping | Reason::NoneFits);
        if !is_lost || !state.misses_mappings() {
            return verdict;
        }
        match state.neighbours.near(agent, asked.time) {
            Some(client) => LineVerdict {
                client: Some(client),
                certainty: Certainty::Likely,
                reason: Reason::Neighbour,
                probability: state.neighbours.worth(),
                ..verdict
            },
            None => verdict,
        }
    }

    fn is_due(&self, time: Timestamp) -> bool {
        self.finished || time.offset_by(self.wait) <= self.now
    }

    /// When the oldest held line is due, so that a driver knows how long to sleep.
    #[must_use]
    pub fn next_due(&self) -> Option<Timestamp> {
        self.held.front().map(|front| front.asked.time.offset_by(self.wait))
    }

    /// No more is to come: all that is held is due.
    pub fn finish(&mut self) {
        self.finished = true;
    }

    /// What has happened so far.
    #[must_use]
    pub fn counts(&self) -> JoinCounts {
        let mut counts = JoinCounts {
            outstanding: self.outstanding.len() as u64,
            held: self.held.len() as u64,
            ..self.counts
        };
        for CertaintyCounts { exact, certain, likely, unmatched } in
            self.states.iter().map(|s| s.counts)
        {
            counts.exact += exact;
            counts.certain += certain;
            counts.likely += likely;
            counts.unmatched += unmatched;
        }
        counts
    }

    /// What has happened to the lines of one server.
    #[must_use]
    pub fn server_counts(&self, server: ServerIndex) -> CertaintyCounts {
        self.states.get(server.0 as usize).map(|state| state.counts).unwrap_or_default()
    }

    /// The middle delay from a server's mappings to their lines in microseconds, by the clocks as
    /// they are, learnt from certain pairs; `None` while there are too few.
    #[must_use]
    pub fn server_delay(&self, server: ServerIndex) -> Option<i64> {
        self.states.get(server.0 as usize)?.delays.median()
    }

    fn count(&mut self, asked: &HeldLine, verdict: LineVerdict, missing: bool) {
        let explained = verdict.client.is_some() && verdict.reason != Reason::Neighbour;
        let Some(state) = self.states.get_mut(asked.server as usize) else {
            self.counts.unmatched += 1;
            return;
        };
        state.held -= 1;
        state.counts.add(verdict.certainty);
        if matches!(verdict.reason, Reason::NoRequest | Reason::Direct) {
            return;
        }
        state.note_missing(missing);
        state.note_crowded(verdict.candidates > 1);
        let misses_most = missing && state.has_exchanges && state.misses_most();
        if let Some(sender) = asked.sender {
            state.senders.learn(sender, explained);
        }
        if misses_most {
            let shape = state.shape.without_headers();
            self.narrow(asked.server, shape);
        }
    }
}

/// A request at a server under a cut, as one number: different ones collide once in 2^64.
fn key(server: u32, cut: Cut, request: Fingerprint) -> u64 {
    let place = u64::from(cut != Cut::Short);
    let salt = (u64::from(server) << 1 | place).wrapping_add(1);
    mixed_key(salt, request.get())
}

/// The same of a request by its first line and its manner, as far as lines of its server have that.
pub(crate) fn exchange_key(
    server: u32,
    request: Fingerprint,
    manner: RequestSignature,
    shape: LoggedFields,
) -> u64 {
    mixed_key(!u64::from(server), request.get() ^ manner.hash(shape))
}

fn mixed_key(salt: u64, request: u64) -> u64 {
    let mixed = request ^ salt.wrapping_mul(0x9E37_79B9_7F4A_7C15);
    (mixed ^ mixed >> 32).wrapping_mul(0xD6E8_FEB8_6659_FD93)
}
