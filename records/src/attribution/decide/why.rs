//! Why a line got its client: which candidates there were, and what speaks for and against each.
//!
//! Explanations are gathered just before the decision, only for the lines to be explained, and from the same
//! numbers.

use std::collections::HashMap;
use std::fmt;
use std::num::NonZeroU16;

use crate::addr::ClientAddr;
use crate::attribution::costs;
use crate::attribution::decide::{pair, port};
use crate::attribution::learnt::Learnt;
use crate::attribution::learnt::user_agents::AgentFit;
use crate::attribution::line::{HeldLine, LineNumber, LoggedLine};
use crate::attribution::memory::Memory;
use crate::attribution::memory::mappings::{GroupSlot, MappingSlot};
use crate::attribution::queue::{LineQueue, LineState};
use crate::attribution::verdict::LineVerdict;
use crate::time::Timestamp;

/// The candidates of a line, and the chosen one.
#[derive(Clone, Debug, PartialEq)]
pub struct Explanation {
    /// The candidates nearest in time, the nearest first.
    pub candidates: Vec<ExplainedCandidate>,
    /// How many further candidates there are.
    pub more: u32,
    /// Waiting lines with the same request, this line included.
    pub lines: u32,
    /// Whether the explanation was asked for this line alone, and not for all lines.
    pub is_asked: bool,
}

/// A mapping, or a connection, that a line could belong to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExplainedCandidate {
    /// The client of the mapping or connection.
    pub client: ClientAddr,
    /// Whether the line got this candidate.
    pub is_chosen: bool,
    /// Microseconds from `since` to the line, by the clocks as they are.
    pub delay: i64,
    /// The start of `delay`.
    pub since: DelayStart,
    /// Whether such a delay is rare at the server; `None` while too little is known.
    pub is_unusual: Option<bool>,
    /// Whether the client has the line's User-Agent; `None` if the client is not known by any, or the line
    /// logs none.
    pub agent: Option<bool>,
    /// Whether the line logs the status that the balancer saw; `None` if either is unknown.
    pub status: Option<bool>,
    /// Whether the line logs a size that the balancer saw; `None` if either is unknown.
    pub bytes: Option<bool>,
    /// Whether the candidate took part in an earlier guess that may be wrong.
    pub is_contested: bool,
}

/// What a candidate's delay is counted from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DelayStart {
    /// The request came.
    Asked,
    /// The request came, and no end of its response was seen.
    Pending,
    /// The response ended.
    Ended,
    /// The connection with the line's port was opened, and is still open.
    Opened,
    /// The connection with the line's port was opened. It was closed so many microseconds before the line.
    Closed(i64),
}

/// The lines to be explained, and their explanations.
#[derive(Default)]
pub(crate) struct Explanations {
    /// Whether all lines are explained.
    all: bool,
    /// Numbers of further lines to explain, ascending.
    wanted: Vec<LineNumber>,
    /// The latest explanation of each held line.
    kept: HashMap<LineNumber, Explanation>,
    /// The explanation of the line that was handed out last.
    last: Option<Explanation>,
}

impl Explanations {
    /// Explains each line that is taken from now on.
    pub(crate) const fn want_all(&mut self) {
        self.all = true;
    }

    /// Explains this line.
    pub(crate) fn want(&mut self, number: LineNumber) {
        self.wanted.push(number);
    }

    /// Returns the explanation of the line that was handed out last, if there is one.
    pub(crate) const fn take_last(&mut self) -> Option<Explanation> {
        self.last.take()
    }

    fn wants(&self, number: LineNumber) -> bool {
        self.all || self.wanted.contains(&number)
    }

    /// Gathers the candidates of the oldest line, and of lines that may be decided together with it.
    #[cold]
    pub(crate) fn gather<T>(&mut self, queue: &LineQueue<T>, memory: &Memory, learnt: &Learnt) {
        let number = queue.first();
        let Some(front) = queue.front() else { return };
        let late = match front.state {
            LineState::Late(place) => Some(queue.late(place)),
            _ => None,
        };
        let waits_in = match (front.state, late) {
            (LineState::Waits(group), _) => Some(group),
            (_, Some(late)) if port::named(learnt, &late.logged).is_none() => late.group,
            _ => None,
        };
        match (waits_in, late) {
            (Some(group), _) => {
                let lines = memory.mappings.group(group).lines as usize;
                let most = if lines > costs::LATTICE_LINES { costs::LATTICE_LINES } else { 1 };
                for (number, line) in queue.lines_of_group(Some(number)).take(most) {
                    if self.wants(number) {
                        self.kept.insert(number, of_group(memory, learnt, group, line));
                    }
                }
            }
            (None, Some(late)) if self.wants(number) => {
                let found = by_port(memory, learnt, &late.logged, &front.line);
                self.kept.insert(number, found);
            }
            _ => {}
        }
    }

    /// Completes the explanation of a line with the final verdict.
    pub(crate) fn hand_out(&mut self, number: LineNumber, verdict: &LineVerdict) {
        self.last = None;
        if !self.wants(number) {
            return;
        }
        let wanted = self.wanted.len();
        self.wanted.retain(|wanted| *wanted != number);
        let mut found = self.kept.remove(&number).unwrap_or_else(Explanation::empty);
        found.is_asked = self.wanted.len() < wanted;
        let is_client = |it: &&mut ExplainedCandidate| Some(it.client) == verdict.client;
        let is_near = |it: &ExplainedCandidate| {
            verdict.delay.is_none_or(|delay| delay == it.delay)
                || matches!(it.since, DelayStart::Opened | DelayStart::Closed(_))
        };
        let mut of_client = found.candidates.iter_mut().filter(is_client);
        if let Some(chosen) = of_client.find(|it| is_near(it)) {
            chosen.is_chosen = true;
        }
        self.last = Some(found);
    }
}

impl Explanation {
    /// Returns the named clients, to be replaced by pseudonyms or networks.
    pub fn clients_mut(&mut self) -> impl Iterator<Item = &mut ClientAddr> {
        self.candidates.iter_mut().map(|candidate| &mut candidate.client)
    }

    const fn empty() -> Self {
        Self { candidates: Vec::new(), more: 0, lines: 1, is_asked: false }
    }
}

/// Explains a line by the mappings of its group.
fn of_group(memory: &Memory, learnt: &Learnt, group: GroupSlot, line: &HeldLine) -> Explanation {
    let members = memory.mappings.group(group);
    let candidates = memory
        .mappings
        .candidates(group)
        .take(costs::GROUP_SCAN)
        .filter(|&mapping| {
            let server = &learnt.servers[line.server as usize];
            !pair::cannot_be(memory, server, memory.mappings.get(mapping), line)
        })
        .map(|mapping| explain(memory, learnt, mapping, line))
        .collect();
    let more = (members.mappings as usize).saturating_sub(costs::GROUP_SCAN);
    nearest(candidates, more, members.lines)
}

fn explain(
    memory: &Memory,
    learnt: &Learnt,
    mapping: MappingSlot,
    line: &HeldLine,
) -> ExplainedCandidate {
    let waiting = memory.mappings.get(mapping);
    let server = &learnt.servers[line.server as usize];
    let delay = line.time.micros_since(waiting.time);
    let facts = waiting.facts.map(|facts| memory.exchanges.get(facts));
    let since = match facts {
        None => DelayStart::Asked,
        Some(facts) if facts.ended => DelayStart::Ended,
        Some(_) => DelayStart::Pending,
    };
    let is_unusual = || match (since, facts) {
        (DelayStart::Ended, Some(facts)) => server.is_unusual_end(line, facts.life(waiting.time)),
        _ => server.delays.is_unusual(delay),
    };
    let fit = learnt.profiles.fit(waiting.client_hash, line.user_agent);
    ExplainedCandidate {
        client: waiting.client,
        is_chosen: false,
        delay,
        since,
        is_unusual: server.delays.is_settled().then(is_unusual),
        agent: match fit {
            _ if line.user_agent.is_none() => None,
            AgentFit::Unknown => None,
            AgentFit::Same => Some(true),
            AgentFit::Other => Some(false),
        },
        status: facts.and_then(|facts| facts.status_agrees(line)),
        bytes: facts.and_then(|facts| facts.bytes_agree(line)),
        is_contested: waiting.is_contested(),
    }
}

/// Explains a line by the connections of its port, or if there are none by the mappings with its request.
fn by_port(memory: &Memory, learnt: &Learnt, logged: &LoggedLine, line: &HeldLine) -> Explanation {
    let port = port::named(learnt, logged).map(|(_, port)| port);
    let of_port = port.into_iter().flat_map(|port| {
        memory.connections.of_port(line.server, port).map(|it| memory.connections.get(it))
    });
    let candidates: Vec<_> = of_port
        .filter(|it| {
            let server_port = it.server_port.map_or(0, NonZeroU16::get);
            logged.server_port.is_none_or(|port| port == server_port)
        })
        .map(|connection| ExplainedCandidate {
            client: connection.client,
            is_chosen: false,
            delay: line.time.micros_since(connection.opened),
            since: if connection.closed == Timestamp::MAX {
                DelayStart::Opened
            } else {
                DelayStart::Closed(line.time.micros_since(connection.closed))
            },
            is_unusual: None,
            agent: None,
            status: None,
            bytes: None,
            is_contested: connection.guessed,
        })
        .collect();
    if candidates.is_empty()
        && let Some(group) = memory.group_now_of(logged)
    {
        return of_group(memory, learnt, group, line);
    }
    nearest(candidates, 0, 1)
}

/// Names the candidates nearest in time.
fn nearest(mut candidates: Vec<ExplainedCandidate>, more: usize, lines: u32) -> Explanation {
    candidates.sort_by_key(|it| it.delay.unsigned_abs());
    let more = more + candidates.len().saturating_sub(costs::CANDIDATES_NAMED);
    candidates.truncate(costs::CANDIDATES_NAMED);
    let more = u32::try_from(more).unwrap_or(u32::MAX);
    Explanation { candidates, more, lines: lines.max(1), is_asked: false }
}

/// `203.0.113.7, chosen: 0.012 s after its response had ended, its User-Agent, same status, same size`
impl fmt::Display for ExplainedCandidate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let chosen = if self.is_chosen { ", chosen" } else { "" };
        let (delay, side) =
            (SecondsText(self.delay), if self.delay < 0 { "before" } else { "after" });
        write!(f, "{}{chosen}: {delay} {side} ", self.client)?;
        match self.since {
            DelayStart::Asked => f.write_str("it asked")?,
            DelayStart::Pending => f.write_str("it asked, no end of the response seen")?,
            DelayStart::Ended => f.write_str("its response had ended")?,
            DelayStart::Opened => {
                f.write_str("it opened the connection with this port, open still")?;
            }
            DelayStart::Closed(after) if after <= 0 => {
                f.write_str("it opened the connection with this port, closed later")?;
            }
            DelayStart::Closed(after) => {
                let closed = SecondsText(after);
                write!(
                    f,
                    "it opened the connection with this port, closed {closed} before the line"
                )?;
            }
        }
        let words = [
            (self.is_unusual, "unusual here", ""),
            (self.agent, "its User-Agent", "not its User-Agent"),
            (self.status, "same status", "other status"),
            (self.bytes, "same size", "other size"),
            (self.is_contested.then_some(true), "touched by an earlier guess", ""),
        ];
        for (is_so, yes, no) in words {
            match is_so {
                Some(true) => write!(f, ", {yes}")?,
                Some(false) if !no.is_empty() => write!(f, ", {no}")?,
                _ => {}
            }
        }
        Ok(())
    }
}

/// Candidates behind one another, with semicolons between; `-` if there are none.
impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.candidates.is_empty() {
            return f.write_str("-");
        }
        for (index, candidate) in self.candidates.iter().enumerate() {
            write!(f, "{}{candidate}", if index == 0 { "" } else { "; " })?;
        }
        if self.more > 0 {
            write!(f, "; and {} more", self.more)?;
        }
        if self.lines > 1 {
            write!(f, "; {} lines ask for this and wait", self.lines)?;
        }
        Ok(())
    }
}

/// Microseconds in seconds, without their sign.
struct SecondsText(i64);

impl fmt::Display for SecondsText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let micros = self.0.unsigned_abs();
        write!(f, "{}.{:03} s", micros / 1_000_000, micros / 1_000 % 1_000)
    }
}
