//! What the engine knows of one server.

use super::delays::Delays;
use super::doubt::Doubts;
use super::exchange::{Agreement, Exchange};
use super::turns::Turns as SealedTurns;
use super::{Certainty, Line};
use crate::addr::ClientAddr;
use crate::time::{Resolution, Timestamp};

/// Lines without a mapping per million, beyond which no line of the server is certain: the mapping
/// that seems to be the only one may belong to somebody whose own line is yet to come.
const MISSING_LIMIT: i64 = 5_000;

/// And beyond which it is said to miss any.
const MISSING_AT_ALL: i64 = 500;

/// And beyond which something is wrong with what lines and mappings are compared by.
const MISSING_MOST: i64 = 300_000;

/// Lines per million that more than one mapping could explain, before any was seen.
const CROWDED: i64 = 100_000;

/// The part by which each line moves the share of lines without a mapping.
const MISSING_MEMORY: i64 = 256;

/// Cost of a line that no mapping explains, where mappings are seldom missing.
const UNMATCHED: i64 = 22_000;

/// By how much that falls each time the share of missing mappings doubles beyond one in 1,000.
const UNMATCHED_STEP: i64 = 1_800;

/// The state of one server.
pub(super) struct Server {
    pub(super) delays: Delays,
    pub(super) turns: Turns,
    pub(super) senders: Senders,
    pub(super) neighbours: Neighbours,
    pub(super) agreement: Agreement,
    /// How often what is not certain of an only client is right.
    pub(super) doubts: Doubts,
    pub(super) shape: Shape,
    /// Exchanges under seal, if there were any.
    pub(super) sealed: Option<Box<SealedTurns>>,
    /// Whether any mapping was seen, and whether one of an exchange was.
    pub(super) is_known: bool,
    pub(super) has_exchanges: bool,
    /// Whether another balancer than ours was heard: its records come when all is over, so that one that
    /// would have been a rival may be on its way yet.
    pub(super) is_foreign: bool,
    /// The coarsest stamp of a mapping so far.
    pub(super) coarsest: Resolution,
    /// Lines without a mapping per million, a moving average.
    missing: i64,
    /// Lines that more than one mapping could explain, likewise.
    crowded: i64,
    /// Held lines for which there is no mapping yet.
    pub(super) short: u32,
    /// Lines held.
    pub(super) held: u32,
    pub(super) counts: ByCertainty,
}

impl Server {
    pub(super) fn new() -> Self {
        Self {
            delays: Delays::new(),
            turns: TURNS,
            senders: Senders::default(),
            neighbours: Neighbours { slots: Vec::new(), same: Doubts::of_neighbours() },
            agreement: Agreement::new(),
            doubts: Doubts::new(),
            shape: Shape { agent: true, referer: true, port: true, peer: true },
            sealed: None,
            is_known: false,
            has_exchanges: false,
            is_foreign: false,
            coarsest: Resolution::Microsecond,
            missing: 0,
            crowded: CROWDED,
            short: 0,
            held: 0,
            counts: ByCertainty::default(),
        }
    }

    /// Notes whether a line was without a mapping.
    pub(super) fn note_missing(&mut self, is_missing: bool) {
        let share = if is_missing { 1_000_000 } else { 0 };
        self.missing += (share - self.missing) / MISSING_MEMORY;
    }

    /// Notes whether a line could have had several mappings.
    pub(super) fn note_crowded(&mut self, is_crowded: bool) {
        let share = if is_crowded { 1_000_000 } else { 0 };
        self.crowded += (share - self.crowded) / MISSING_MEMORY;
    }

    /// Lines that more than one mapping could explain, in parts in a million.
    pub(super) fn crowded(&self) -> u64 {
        self.crowded.unsigned_abs()
    }

    /// Whether so many mappings are missing that an only one may still be somebody else's.
    pub(super) fn misses_mappings(&self) -> bool {
        let limit = if self.is_foreign { MISSING_AT_ALL } else { MISSING_LIMIT };
        self.missing > limit || self.short > 1 + self.held / 50
    }

    /// Whether any mapping was missing of late, so that what follows may matter.
    pub(super) fn misses_any(&self) -> bool {
        self.missing > MISSING_AT_ALL || self.short > 0
    }

    /// Whether so many lines find nothing that the headers they log may not be those that were sent.
    pub(super) fn misses_most(&self) -> bool {
        self.missing > MISSING_MOST
    }

    /// What it costs to leave a line without a client: less where mappings are often missing.
    pub(super) fn unmatched_cost(&self) -> i64 {
        let octaves = i64::from((self.missing.max(1_000) / 1_000).ilog2());
        UNMATCHED - octaves * UNMATCHED_STEP
    }
}

/// What lines of a server have of what tells requests apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own, and all may be true")]
pub(super) struct Shape {
    pub(super) agent: bool,
    pub(super) referer: bool,
    /// Lines are known to be of a server at a port.
    pub(super) port: bool,
    /// Lines name the balancer's port, and mappings are of a balancer that keeps connections for all clients.
    pub(super) peer: bool,
}

impl Shape {
    /// Without what may be logged in another way than it was sent.
    pub(super) const fn without_headers(self) -> Self {
        Self { agent: false, referer: false, ..self }
    }

    /// What of it a line has, too.
    pub(super) fn of(self, line: &Line) -> Self {
        Self {
            agent: self.agent && line.user_agent.is_some(),
            referer: self.referer && line.referer.is_some(),
            port: self.port && line.server_port.is_some(),
            peer: self.peer && line.peer_port.is_some(),
        }
    }

    /// What of it a record has, too.
    pub(super) fn of_record(self, exchange: &Exchange) -> Self {
        if !exchange.is_foreign {
            return Self { peer: false, ..self };
        }
        Self {
            agent: self.agent && exchange.user_agent != 0,
            referer: self.referer && exchange.referer != 0,
            port: self.port && exchange.server_port != 0,
            peer: self.peer && exchange.port != 0,
        }
    }
}

/// Who was last seen with a User-Agent at a server.
pub(super) struct Neighbours {
    slots: Vec<Option<Neighbour>>,
    /// How often a line that has a client of its own is of its neighbour's.
    same: Doubts,
}

#[derive(Clone, Copy)]
struct Neighbour {
    agent: u32,
    client: ClientAddr,
    time: Timestamp,
}

/// User-Agents remembered for each server.
const NEIGHBOURS: usize = 256;

/// How near in time two lines of one read are, in microseconds; with coarse stamps, the same stamp.
const NEAR: i64 = 5_000;

impl Neighbours {
    /// Notes that a mapping explained a line with this User-Agent.
    pub(super) fn note(&mut self, agent: u32, client: ClientAddr, time: Timestamp) {
        if self.slots.is_empty() {
            self.slots.resize(NEIGHBOURS, None);
        }
        if let Some(near) = self.near(agent, time) {
            self.same.judge(Some(near == client));
        }
        self.slots[agent as usize % NEIGHBOURS] = Some(Neighbour { agent, client, time });
    }

    /// What a neighbour is worth, in thousandths.
    pub(super) fn worth(&self) -> u16 {
        self.same.usual()
    }

    /// Whose line with this User-Agent came just before `time`.
    pub(super) fn near(&self, agent: u32, time: Timestamp) -> Option<ClientAddr> {
        let neighbour = (*self.slots.get(agent as usize % NEIGHBOURS)?)?;
        let near = neighbour.agent == agent && time.micros_since(neighbour.time).abs() <= NEAR;
        near.then_some(neighbour.client)
    }
}

/// Who a server's lines name as their client: the balancer, and whoever comes past it (health checks,
/// monitors, neighbours). No mapping speaks of the latter, so they must not use any up.
#[derive(Clone, Copy, Default)]
pub(super) struct Senders {
    known: [Sender; SENDERS],
}

/// Senders remembered for each server.
const SENDERS: usize = 8;

/// Lines of a sender that are looked at before it is judged.
const JUDGED_AFTER: u16 = 24;

/// Of a sender that comes past the balancer, each such line is tried all the same.
const RETRIED: u16 = 64;

#[derive(Clone, Copy, Default)]
struct Sender {
    name: u32,
    lines: u16,
    explained: u16,
    skipped: u16,
}

impl Senders {
    /// Whether a line of this sender did not come through the balancer: mappings explain hardly any
    /// of its lines, but most of another sender's.
    pub(super) fn is_direct(&mut self, name: u32) -> bool {
        let Some(place) = self.known.iter().position(|sender| sender.is(name)) else {
            return false;
        };
        let Sender { lines, explained, .. } = self.known[place];
        if lines < JUDGED_AFTER || explained >= lines / 8 {
            return false;
        }
        let explained = |s: &Sender| s.lines >= JUDGED_AFTER && s.explained > s.lines / 2;
        if !self.known.iter().any(explained) {
            return false;
        }
        let sender = &mut self.known[place];
        sender.skipped = (sender.skipped + 1) % RETRIED;
        sender.skipped != 0
    }

    /// Notes whether a mapping explained a line of this sender.
    pub(super) fn learn(&mut self, name: u32, is_explained: bool) {
        let place = self.known.iter().position(|sender| sender.is(name)).unwrap_or_else(|| {
            let rarest = (0..SENDERS).min_by_key(|&i| self.known[i].lines).unwrap_or(0);
            self.known[rarest] = Sender { name, ..Sender::default() };
            rarest
        });
        let sender = &mut self.known[place];
        sender.lines += 1;
        sender.explained += u16::from(is_explained);
        if sender.lines == 1_000 {
            (sender.lines, sender.explained) = (500, sender.explained / 2);
        }
        // Nearly all lines have the same sender: it is found first where it stands first.
        if place > 0 && self.known[place].lines > self.known[0].lines {
            self.known.swap(0, place);
        }
    }
}

impl Sender {
    const fn is(&self, name: u32) -> bool {
        self.name == name && self.lines > 0
    }
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
    /// Counts one line.
    pub fn add(&mut self, certainty: Certainty) {
        *match certainty {
            Certainty::Exact => &mut self.exact,
            Certainty::Certain => &mut self.certain,
            Certainty::Likely => &mut self.likely,
            Certainty::None => &mut self.none,
        } += 1;
    }
}

/// Whether a server answers equal requests in the order they are asked: how often two that their
/// User-Agents tell apart cross, against how often they would by their delays alone.
#[derive(Clone, Copy)]
pub(super) struct Turns {
    /// Crossings seen and expected, in thousandths.
    seen: i64,
    expected: i64,
    /// See [`Self::crossing_cost`].
    cost: i64,
}

/// Before anything is known, a tenth of the crossings that chance would bring.
const TURNS: Turns = Turns { seen: 500, expected: 5_000, cost: 2_252 };

/// Where both counts are halved.
const TURNS_FADE_AT: i64 = 100_000;

impl Turns {
    /// Notes whether two requests crossed, and by how much their delays spoke against that, in
    /// thousandths of a natural logarithm.
    pub(super) fn learn(&mut self, crossed: bool, against: i64) {
        self.expected += chance(against);
        self.seen += if crossed { 1_000 } else { 0 };
        if self.expected > TURNS_FADE_AT {
            (self.seen, self.expected) = (self.seen / 2, self.expected / 2);
        }
        self.cost = self.find_crossing_cost();
    }

    /// What a crossing costs, in thousandths of a natural logarithm.
    pub(super) const fn crossing_cost(self) -> i64 {
        self.cost
    }

    fn find_crossing_cost(self) -> i64 {
        let seen = self.seen.max(1);
        if seen >= self.expected {
            return 0;
        }
        // 0.693 for each doubling; between two of them a straight line is good enough for a price.
        let ratio = self.expected * 4 / seen;
        let octaves = i64::from(ratio.ilog2()) - 2;
        let rest = (ratio >> octaves) - 4;
        octaves * 693 + rest * 173
    }
}

/// The chance, in thousandths, of what costs `against` more than its opposite.
pub(super) fn chance(against: i64) -> i64 {
    let odds = super::decide::weight(against.abs());
    let rarer = i64::try_from(odds * 1_000 / (odds + (1 << 16))).unwrap_or(0);
    if against >= 0 { rarer } else { 1_000 - rarer }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_crossing_is_dear_where_few_are_seen_and_cheap_where_as_many_as_chance_brings() {
        let mut turns = TURNS;
        assert_eq!(turns.crossing_cost(), turns.find_crossing_cost());
        (0..200).for_each(|_| turns.learn(false, 0));
        assert!(turns.crossing_cost() > 3_000);
        (0..2_000).for_each(|i| turns.learn(i % 2 == 0, 0));
        assert!(turns.crossing_cost() < 300);
    }
}
