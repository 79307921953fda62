//! Why a line got its client: who else could have asked, and what speaks for and against each. Gathered just
//! before the decision, for lines of which that was asked, and from the same numbers; nobody else pays for it.

use crate::attribution::costs;
use crate::attribution::learnt::user_agents::{AgentFit, NONE};
use crate::attribution::line::{HeldLine, LoggedLine};
use crate::attribution::memory::mappings::NIL;
use crate::attribution::queue::{Attributor, HeldState, LAST};
use crate::attribution::verdict::LineVerdict;
use std::collections::HashMap;
use std::fmt;

use crate::addr::ClientAddr;
use crate::time::Timestamp;

/// What a line could have been, and what it is.
#[derive(Clone, Debug, PartialEq)]
pub struct Explanation {
    /// Who could have asked, the nearest in time first.
    pub candidates: Vec<ExplainedCandidate>,
    /// Candidates beyond those.
    pub more: u32,
    /// Lines that ask for the same and wait too, this one included.
    pub lines: u32,
    /// Whether it was asked of this line alone, and not of all.
    pub is_asked: bool,
}

/// A mapping, or a connection, that a line could belong to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExplainedCandidate {
    /// Who asked.
    pub client: ClientAddr,
    /// Whether the line got it.
    pub is_chosen: bool,
    /// Microseconds from it to the line, by the clocks as they are.
    pub delay: i64,
    /// Since when that is.
    pub since: DelayStart,
    /// Whether such a delay is rare at the server; `None` while too little is known.
    pub is_unusual: Option<bool>,
    /// Whether the line's User-Agent is the client's; `None` if it is not known by any, or none is logged.
    pub agent: Option<bool>,
    /// Whether the status is the one that the balancer saw.
    pub status: Option<bool>,
    /// Whether the size is.
    pub bytes: Option<bool>,
    /// Whether it was a candidate in an earlier guess that may have gone wrong.
    pub is_tainted: bool,
}

/// What a candidate's delay is counted from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DelayStart {
    /// The request came.
    Asked,
    /// The request came, and no end of its response was seen.
    Pending,
    /// The response had ended.
    Ended,
    /// The connection was opened that has the line's port, and is open.
    Opened,
    /// The connection was opened that had the line's port, and is closed since so many microseconds.
    Closed(i64),
}

/// The lines to be explained.
#[derive(Default)]
pub(crate) struct Explanations {
    all: bool,
    /// Numbers of lines taken, in order.
    wanted: Vec<u64>,
    /// Of lines that are held, the last that was seen.
    kept: HashMap<u64, Explanation>,
    /// Of the line that was handed out last.
    last: Option<Explanation>,
}

impl Explanations {
    fn wants(&self, number: u64) -> bool {
        self.all || self.wanted.contains(&number)
    }

    /// The line is handed out with this verdict.
    pub(crate) fn hand_out(&mut self, number: u64, verdict: &LineVerdict) {
        self.last = None;
        if !self.wants(number) {
            return;
        }
        let wanted = self.wanted.len();
        self.wanted.retain(|wanted| *wanted != number);
        let mut why = self.kept.remove(&number).unwrap_or_else(Explanation::empty);
        why.is_asked = self.wanted.len() < wanted;
        let is_it = |it: &&mut ExplainedCandidate| Some(it.client) == verdict.client;
        let is_near = |it: &ExplainedCandidate| {
            verdict.delay.is_none_or(|delay| delay == it.delay)
                || matches!(it.since, DelayStart::Opened | DelayStart::Closed(_))
        };
        if let Some(chosen) = why.candidates.iter_mut().filter(is_it).find(|it| is_near(it)) {
            chosen.is_chosen = true;
        }
        self.last = Some(why);
    }
}

impl Explanation {
    /// The clients that it names, to put others in their place.
    pub fn clients_mut(&mut self) -> impl Iterator<Item = &mut ClientAddr> {
        self.candidates.iter_mut().map(|candidate| &mut candidate.client)
    }

    const fn empty() -> Self {
        Self { candidates: Vec::new(), more: 0, lines: 1, is_asked: false }
    }
}

impl<T> Attributor<T> {
    /// From now on each line that is taken will be explained: see [`Self::take_why`].
    pub fn explain_all(&mut self) {
        self.whys.get_or_insert_default().all = true;
    }

    /// The line that is taken next will be explained.
    pub fn explain_next(&mut self) {
        let number = self.first_held + self.held.len() as u64;
        self.whys.get_or_insert_default().wanted.push(number);
    }

    /// Why the line that was handed out last got what it got, if that was asked for.
    pub fn take_why(&mut self) -> Option<Explanation> {
        self.whys.as_mut()?.last.take()
    }

    /// Looks at what the oldest line could have, and lines that may be decided together with it.
    #[cold]
    pub(crate) fn note_whys(&mut self) {
        let Some(mut whys) = self.whys.take() else { return };
        let number = self.first_held;
        match self.held.front().map(|front| front.state) {
            Some(HeldState::Waits(group)) => {
                let lines = self.outstanding.group(group).lines as usize;
                let most = if lines > costs::WINDOW_LINES { costs::WINDOW_LINES } else { 1 };
                let (mut next, mut seen) = (number, 0);
                while next != LAST
                    && seen < most
                    && let Ok(index) = usize::try_from(next - self.first_held)
                {
                    if whys.wants(next) {
                        let asked = self.held[index].asked;
                        whys.kept.insert(next, self.why_of_group(group, &asked));
                    }
                    (next, seen) = (self.held[index].next, seen + 1);
                }
            }
            Some(HeldState::Late(place)) if whys.wants(number) => {
                let line = self.late[place as usize];
                let why = self.why_by_port(&line);
                whys.kept.insert(number, why);
            }
            _ => {}
        }
        self.whys = Some(whys);
    }

    fn why_of_group(&self, group: u32, asked: &HeldLine) -> Explanation {
        let members = self.outstanding.group(group);
        let mut candidates: Vec<_> = self
            .outstanding
            .candidates(group)
            .take(costs::GROUP_SCAN)
            .filter(|&mapping| !self.cannot_be(self.outstanding.get(mapping), asked))
            .map(|mapping| self.candidate_of(mapping, asked))
            .collect();
        let more = (members.mappings as usize).saturating_sub(costs::GROUP_SCAN);
        nearest(&mut candidates, more, members.lines)
    }

    fn candidate_of(&self, mapping: u32, asked: &HeldLine) -> ExplainedCandidate {
        let waiting = self.outstanding.get(mapping);
        let state = &self.states[asked.server as usize];
        let delay = asked.time.micros_since(waiting.time);
        let facts = (waiting.facts != NIL).then(|| self.exchanges.get(waiting.facts));
        let since = match facts {
            None => DelayStart::Asked,
            Some(facts) if facts.ended => DelayStart::Ended,
            Some(_) => DelayStart::Pending,
        };
        let is_unusual = || match since {
            DelayStart::Ended => self.is_unusual_end(asked, delay),
            _ => state.delays.is_unusual(delay),
        };
        let fit = self.habits.fit(waiting.tag, asked.user_agent);
        ExplainedCandidate {
            client: waiting.client,
            is_chosen: false,
            delay,
            since,
            is_unusual: state.delays.is_settled().then(is_unusual),
            agent: match fit {
                _ if asked.user_agent == NONE => None,
                AgentFit::Unknown => None,
                AgentFit::Same => Some(true),
                AgentFit::Other => Some(false),
            },
            status: facts.and_then(|facts| facts.status_agrees(asked)),
            bytes: facts.and_then(|facts| facts.bytes_agree(asked)),
            is_tainted: waiting.tainted,
        }
    }

    /// Who had the line's port, or else whose the line's request could be.
    fn why_by_port(&self, line: &LoggedLine) -> Explanation {
        let Some(asked) = self.held.front().map(|front| front.asked) else {
            return Explanation::empty();
        };
        let of_port = line.peer_port.into_iter().flat_map(|port| {
            self.connections.of_port(asked.server, port).map(|it| self.connections.get(it))
        });
        let mut candidates: Vec<_> = of_port
            .filter(|it| line.server_port.is_none_or(|port| port == it.server_port))
            .map(|connection| ExplainedCandidate {
                client: connection.client,
                is_chosen: false,
                delay: asked.time.micros_since(connection.opened),
                since: if connection.closed == Timestamp::MAX {
                    DelayStart::Opened
                } else {
                    DelayStart::Closed(asked.time.micros_since(connection.closed))
                },
                is_unusual: None,
                agent: None,
                status: None,
                bytes: None,
                is_tainted: connection.guessed,
            })
            .collect();
        if candidates.is_empty()
            && let Some(group) = self.group_now_of(line)
        {
            return self.why_of_group(group, &asked);
        }
        nearest(&mut candidates, 0, 1)
    }
}

fn nearest(candidates: &mut Vec<ExplainedCandidate>, more: usize, lines: u32) -> Explanation {
    candidates.sort_by_key(|it| it.delay.unsigned_abs());
    let more = more + candidates.len().saturating_sub(costs::CANDIDATES_NAMED);
    candidates.truncate(costs::CANDIDATES_NAMED);
    let candidates = std::mem::take(candidates);
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
            (self.is_tainted.then_some(true), "touched by an earlier guess", ""),
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
