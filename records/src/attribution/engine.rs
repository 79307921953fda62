//! The engine: what is put in, what is held, and what comes out when.

use std::collections::VecDeque;
use std::time::Duration;

use indexmap::IndexSet;

use super::decide::{View, nothing};
use super::habits::Habits;
use super::outstanding::Outstanding;
use super::server::{ByCertainty, Server};
use super::{Certainty, Counts, Decided, Line, Reason, Record, ServerId, Settings, Verdict};
use crate::addr::ServerAddr;
use crate::request::{Cut, Fingerprint};
use crate::time::{Resolution, Timestamp};

/// Joins mappings and lines. `T` is what the driver needs to write a line once it is decided.
pub struct Attributor<T> {
    settings: Settings,
    /// [`Settings::wait`] in microseconds.
    pub(super) wait: i64,
    /// [`Settings::window`] in microseconds.
    pub(super) window: i64,
    servers: IndexSet<OwnedServer>,
    last_server: Option<ServerId>,
    pub(super) states: Vec<Server>,
    pub(super) outstanding: Outstanding,
    pub(super) habits: Habits,
    pub(super) view: View,
    /// Lines in the order they came; the first is number `first_held`.
    pub(super) held: VecDeque<Held<T>>,
    pub(super) first_held: u64,
    pub(super) now: Timestamp,
    /// Whether mappings of either cut were ever seen.
    seen: [bool; 2],
    finished: bool,
    counts: Counts,
}

/// A server address that the engine keeps.
#[derive(PartialEq, Eq, Hash)]
enum OwnedServer {
    Ip(std::net::IpAddr),
    Unix(Box<[u8]>),
}

/// A line that waits to come out.
pub(super) struct Held<T> {
    payload: T,
    pub(super) asked: Asked,
    /// The group it waits in, until it is decided.
    pub(super) group: Option<u32>,
    /// The next line of the same group.
    pub(super) next: Option<u64>,
    /// Set where it was decided together with an older one.
    pub(super) verdict: Option<Verdict>,
}

/// What a held line says about who asked.
#[derive(Clone, Copy)]
pub(super) struct Asked {
    pub(super) server: u32,
    sender: Option<u32>,
    pub(super) user_agent: Option<u32>,
    pub(super) time: Timestamp,
    pub(super) resolution: Resolution,
}

impl<T> Attributor<T> {
    /// An engine that knows nothing yet.
    #[must_use]
    pub fn new(settings: Settings) -> Self {
        let micros = |time: Duration| i64::try_from(time.as_micros()).unwrap_or(i64::MAX);
        Self {
            settings,
            wait: micros(settings.wait),
            window: micros(settings.window),
            servers: IndexSet::new(),
            last_server: None,
            states: Vec::new(),
            outstanding: Outstanding::new(),
            habits: Habits::new(),
            view: View::default(),
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
        if self.states.get(server as usize).is_none() {
            self.counts.evicted += 1;
            return;
        }
        self.seen[place(record.cut)] = true;
        let group = self.outstanding.find_or_add(key(server, record.cut, record.request), server);
        self.outstanding.add(group, record.client, (record.time, record.resolution));
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
        let (mut group, mut verdict) = (None, None);
        if let Some(state) = self.states.get_mut(server as usize) {
            state.held += 1;
            if line.sender.is_some_and(|sender| state.senders.is_direct(sender)) {
                verdict = Some(nothing(Reason::Direct));
            } else {
                group = self.group_of(&line);
            }
        }
        if let Some(group) = group {
            self.enter_group(group);
        }
        let asked = Asked {
            server,
            sender: line.sender,
            user_agent: line.user_agent,
            time: line.time,
            resolution: line.resolution,
        };
        self.held.push_back(Held { payload, asked, group, next: None, verdict });
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
            self.held[last].next = Some(number);
        }
        members.last_line = number;
    }

    /// The first line of a group leaves it: it is decided.
    pub(super) fn leave_group(&mut self, line: usize) {
        let held = &mut self.held[line];
        let Some(group) = held.group.take() else { return };
        let next = held.next;
        let members = self.outstanding.group_mut(group);
        if members.lines > members.mappings {
            self.states[members.server as usize].short -= 1;
        }
        members.lines -= 1;
        members.first_line = next.unwrap_or(0);
        self.outstanding.drop_if_empty(group);
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
    pub(super) fn take(&mut self, mapping: u32) {
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
        if !self.is_due(front.asked.time) {
            if self.held.len() <= self.settings.max_lines {
                return None;
            }
            self.counts.hurried += 1;
        }
        let verdict = match front.verdict {
            Some(verdict) => verdict,
            None => self.decide(),
        };
        let Held { payload, asked, .. } = self.held.pop_front()?;
        self.first_held += 1;
        let missing = verdict.reason == Reason::NoMapping;
        let verdict = self.ask_neighbours(&asked, verdict);
        self.count(&asked, verdict, missing);
        Some(Decided { payload, server: ServerId(asked.server), time: asked.time, verdict })
    }

    /// Where mappings are often missing, a line without one is likely of the same client as the line
    /// just before it from the same User-Agent.
    fn ask_neighbours(&mut self, asked: &Asked, verdict: Verdict) -> Verdict {
        let (Some(agent), Some(state)) =
            (asked.user_agent, self.states.get_mut(asked.server as usize))
        else {
            return verdict;
        };
        if let Some(client) = verdict.client {
            state.neighbours.note(agent, client, asked.time);
            return verdict;
        }
        let is_lost = matches!(verdict.reason, Reason::NoMapping | Reason::NoneFits);
        if !is_lost || !state.misses_mappings() {
            return verdict;
        }
        match state.neighbours.near(agent, asked.time) {
            Some(client) => Verdict {
                client: Some(client),
                certainty: Certainty::Likely,
                reason: Reason::Neighbour,
                probability: 500,
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

    fn count(&mut self, asked: &Asked, verdict: Verdict, missing: bool) {
        match verdict.certainty {
            Certainty::Exact => self.counts.exact += 1,
            Certainty::Certain => self.counts.certain += 1,
            Certainty::Likely => self.counts.likely += 1,
            Certainty::None => self.counts.none += 1,
        }
        let explained = verdict.client.is_some() && verdict.reason != Reason::Neighbour;
        self.counts.used += u64::from(explained);
        let Some(state) = self.states.get_mut(asked.server as usize) else { return };
        state.held -= 1;
        state.counts.add(verdict.certainty);
        if matches!(verdict.reason, Reason::NoRequest | Reason::Direct) {
            return;
        }
        state.note_missing(missing);
        if let Some(sender) = asked.sender {
            state.senders.learn(sender, explained);
        }
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
    let salt = (u64::from(server) << 1 | place(cut) as u64).wrapping_add(1);
    let mixed = request.get() ^ salt.wrapping_mul(0x9E37_79B9_7F4A_7C15);
    (mixed ^ mixed >> 32).wrapping_mul(0xD6E8_FEB8_6659_FD93)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::addr::ClientAddr;

    const SECOND: i64 = 1_000_000;

    struct Site {
        engine: Attributor<u32>,
        server: ServerId,
        lines: u32,
        sender: u32,
        out: Vec<(u8, Certainty, Reason)>,
    }

    impl Site {
        fn new() -> Self {
            let mut engine = Attributor::new(Settings::default());
            let server = engine.server(ServerAddr::Ip([127, 0, 1, 1].into()));
            Self { engine, server, lines: 0, sender: 9, out: Vec::new() }
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
                long: Fingerprint::of_logged(&[url.as_bytes()], Cut::Long),
                sender: Some(self.sender),
                user_agent: Some(agent),
                ..Line::unread(self.server, (Timestamp::from_micros(at), Resolution::Microsecond))
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
                short: logged(Cut::Short),
                long: logged(Cut::Long),
                ..Line::unread(site.server, (Timestamp::from_micros(at), Resolution::Second))
            };
            site.engine.line(line, 0);
        }
        let clients: Vec<u8> = site.out(SECOND).iter().map(|&(client, ..)| client).collect();
        assert_eq!(clients, [1, 2]);
    }

    #[test]
    fn lines_that_came_past_the_balancer_use_no_mapping_up() {
        let mut site = Site::new();
        for i in 0..200_u32 {
            let at = i64::from(i) * SECOND;
            site.sender = 7;
            site.line(at, 1, "/health");
            site.sender = 9;
            site.mapping(at + 1_000, 3, &format!("/{i}"));
            site.line(at + 2_000, 1, &format!("/{i}"));
        }
        site.sender = 7;
        site.mapping(200 * SECOND, 3, "/health");
        site.line(200 * SECOND + 10, 1, "/health");
        site.line(200 * SECOND + 20, 1, "/health");
        let out = site.out(900 * SECOND);
        let direct = out.iter().filter(|&&(.., reason)| reason == Reason::Direct).count();
        assert!(direct > 150, "{direct} of 200");
        let last = &out[out.len() - 20..];
        assert!(last.iter().any(|&(client, ..)| client == 3));
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
