//! What our own balancer's records say beyond client and request: on which connection, which request
//! on it, when its response ended, with which status and how many bytes.
//!
//! A mapping of this kind waits in its group as *pending*, aside from the others, until its response has
//! ended; then it takes its place by the time of that. Web servers log a request when its response has
//! been sent: so in this order, and nearly at this time, its line comes.

use std::net::IpAddr;

use hashbrown::HashTable;

use super::Line;
use super::engine::Asked;
use super::server::Shape;
use crate::addr::ClientAddr;
use crate::mapping::{Mapping, MappingKind, OpaqueTls};
use crate::request::Fingerprint;
use crate::time::Timestamp;

/// What a record says of the connection it is about, and of the exchange on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exchange {
    /// Which moment this is.
    pub kind: MappingKind,
    /// The connection's number, unique while the balancer runs.
    pub connection: u64,
    /// Which request on the connection; 0 if it is about none.
    pub nth: u32,
    /// Hash of the balancer's own address towards the server as text; 0 if it is not known.
    pub balancer: u32,
    /// The balancer's own port towards the server; 0 if there is none.
    pub port: u16,
    /// The server's own port; 0 if it has none.
    pub server_port: u16,
    /// Status of the response; 0 if it is not known.
    pub status: u16,
    /// Whether another balancer than ours says so: it logs an exchange when it is over and numbers none, so
    /// that each has a connection of its own here, of which it is the first.
    pub is_foreign: bool,
    /// Hashes of User-Agent and Referer; where there was none, that of what is logged then; 0 if it is not
    /// known, because another balancer does not say.
    pub user_agent: u32,
    /// See `user_agent`.
    pub referer: u32,
    /// Bytes of the response, as web servers count them.
    pub bytes: Option<Sizes>,
    /// If it was under seal, what could be told of it.
    pub sealed: Option<OpaqueTls>,
}

/// From here on, connections are numbered by who reads another balancer's log: ours counts from 1.
pub const FOREIGN: u64 = 1 << 63;

/// Bytes of a response, cut to 32 bits each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sizes {
    /// Of its body: Apache's `%b` and `%B`.
    pub body: u32,
    /// Of its body with its framing: nginx's `$body_bytes_sent`.
    pub framed: u32,
    /// Of head and framed body: Apache's `%O`, nginx's `$bytes_sent`.
    pub all: u32,
}

/// Hashes of balancers' addresses as web servers log them. Mostly it is the same one.
#[derive(Clone, Copy, Debug, Default)]
pub struct Balancers {
    last: Option<(IpAddr, u32)>,
}

impl Balancers {
    fn hash(&mut self, ip: IpAddr) -> u32 {
        if let Some((last, hash)) = self.last
            && last == ip
        {
            return hash;
        }
        let mut text = Vec::with_capacity(40);
        ClientAddr::Ip(ip.to_canonical()).write_to(&mut text);
        let hash = super::text_hash(&text);
        self.last = Some((ip, hash));
        hash
    }
}

impl Exchange {
    /// From a mapping. `None` if it does not name its connection.
    #[must_use]
    pub fn new(mapping: &Mapping<'_>, balancers: &mut Balancers) -> Option<Self> {
        let Mapping { head_bytes, body_bytes, framed_bytes, .. } = *mapping;
        let bytes = body_bytes.map(|body| {
            let framed = framed_bytes.unwrap_or(body);
            let all = framed.saturating_add(head_bytes.unwrap_or(0));
            Sizes { body: low(body), framed: low(framed), all: low(all) }
        });
        let is_foreign = mapping.connection? >= FOREIGN;
        let absent = if is_foreign { 0 } else { super::text_hash(b"-") };
        let of_request = matches!(mapping.kind, MappingKind::Request | MappingKind::Ended);
        Some(Self {
            kind: mapping.kind,
            connection: mapping.connection?,
            nth: if is_foreign { u32::from(of_request) } else { mapping.nth.unwrap_or(0) },
            is_foreign,
            balancer: mapping.balancer.map_or(0, |addr| balancers.hash(addr.ip())),
            port: mapping.balancer.map_or(0, |addr| addr.port()),
            server_port: mapping.server_port.unwrap_or(0),
            status: mapping.status.unwrap_or(0),
            user_agent: mapping.user_agent.unwrap_or(absent),
            referer: mapping.referer.unwrap_or(absent),
            bytes,
            sealed: mapping.sealed,
        })
    }
}

/// The lower 32 bits.
pub(super) fn low(bytes: u64) -> u32 {
    u32::try_from(bytes & u64::from(u32::MAX)).unwrap_or(0)
}

/// What tells requests with the same first line apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Manner {
    /// Hashes of User-Agent and Referer.
    pub(super) agent: u32,
    pub(super) referer: u32,
    /// The server's port: several servers may share an address.
    pub(super) port: u16,
    /// The balancer's own port, where it is not that of a connection which one client has.
    pub(super) peer: u16,
}

impl Manner {
    pub(super) fn of_line(line: &Line) -> Self {
        Self {
            agent: line.user_agent.unwrap_or(0),
            referer: line.referer.unwrap_or(0),
            port: line.server_port.unwrap_or(0),
            peer: line.peer_port.unwrap_or(0),
        }
    }

    pub(super) const fn of_exchange(exchange: &Exchange) -> Self {
        let Exchange { user_agent, referer, server_port, port, is_foreign, .. } = *exchange;
        let peer = if is_foreign { port } else { 0 };
        Self { agent: user_agent, referer, port: server_port, peer }
    }

    /// As far as lines of the server have it.
    pub(super) const fn hash(self, shape: Shape) -> u64 {
        let agent = if shape.agent { self.agent as u64 } else { 0 };
        let referer = if shape.referer { self.referer as u64 } else { 0 };
        let port = if shape.port { self.port as u64 } else { 0 };
        let peer = if shape.peer { self.peer as u64 } else { 0 };
        let port = port | peer << 16;
        let mixed = (agent << 32 | referer) ^ port.wrapping_mul(0xA076_1D64_78BD_642F);
        let mixed = mixed.wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed ^ mixed >> 31
    }
}

/// What is known of a mapping's exchange.
#[derive(Clone, Copy)]
pub(super) struct Facts {
    /// By which the mapping is found.
    key: u64,
    /// When it was asked.
    pub(super) asked: Timestamp,
    /// What was asked, and how.
    pub(super) request: Fingerprint,
    pub(super) manner: Manner,
    pub(super) status: u16,
    pub(super) bytes: Option<Sizes>,
    /// Whether its response has ended, or its connection without one.
    pub(super) ended: bool,
}

impl Facts {
    /// Of an exchange that has not ended.
    pub(super) const fn new(
        key: u64,
        asked: Timestamp,
        request: Fingerprint,
        manner: Manner,
    ) -> Self {
        Self { key, asked, request, manner, status: 0, bytes: None, ended: false }
    }

    /// Whether its connection ended before a response did. A web server may notice that, and log it, only when
    /// it writes for the next time.
    pub(super) const fn is_cut(&self) -> bool {
        self.ended && self.status == 0 && self.bytes.is_none()
    }
}

/// The facts of all mappings that have any, and how these are found.
#[derive(Default)]
pub(super) struct Exchanges {
    slab: Vec<Facts>,
    free: Vec<u32>,
    /// By the key, the mapping.
    table: HashTable<(u64, u32)>,
}

impl Exchanges {
    /// Facts about a mapping that is about to be remembered; [`Self::link`] says as which.
    pub(super) fn add(&mut self, facts: Facts) -> u32 {
        super::outstanding::put(&mut self.slab, &mut self.free, facts)
    }

    pub(super) fn link(&mut self, facts: u32, mapping: u32) {
        let key = self.slab[facts as usize].key;
        self.table.insert_unique(key, (key, mapping), |&(key, _)| key);
    }

    pub(super) fn remove(&mut self, facts: u32, mapping: u32) {
        let key = self.slab[facts as usize].key;
        if let Ok(entry) = self.table.find_entry(key, |&it| it == (key, mapping)) {
            entry.remove();
        }
        self.free.push(facts);
    }

    /// The mapping of an exchange.
    pub(super) fn find(&self, key: u64) -> Option<u32> {
        self.table.find(key, |&(k, _)| k == key).map(|&(_, mapping)| mapping)
    }

    pub(super) fn get(&self, facts: u32) -> &Facts {
        &self.slab[facts as usize]
    }

    pub(super) fn get_mut(&mut self, facts: u32) -> &mut Facts {
        &mut self.slab[facts as usize]
    }
}

/// The key of a request on a connection, by the number that the connection has here.
pub(super) const fn key(connection: u64, nth: u32) -> u64 {
    let mixed = connection.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ (nth as u64);
    (mixed ^ mixed >> 29).wrapping_mul(0xBF58_476D_1CE4_E5B9)
}

/// How often the status and the size that a server logs are those that the balancer saw: some formats
/// log another one, and some servers count another way.
#[derive(Clone, Copy)]
pub(super) struct Agreement {
    status: Odds,
    bytes: Odds,
}

/// How often two things agreed and did not.
#[derive(Clone, Copy)]
struct Odds {
    yes: u32,
    no: u32,
}

/// Where both counts are halved.
const FADE_AT: u32 = 4_096;

/// The most that a disagreement costs, in thousandths of a natural logarithm.
const WORST: i64 = 9_000;

impl Odds {
    fn learn(&mut self, agrees: bool) {
        *(if agrees { &mut self.yes } else { &mut self.no }) += 1;
        if self.yes + self.no > FADE_AT {
            (self.yes, self.no) = (self.yes / 2, (self.no / 2).max(1));
        }
    }

    /// What it costs to disagree.
    fn cost(self) -> i64 {
        let ratio = u64::from(self.yes + 1) * 4 / u64::from(self.no + 1);
        let octaves = i64::from(ratio.max(1).ilog2()) - 2;
        (octaves * 693).clamp(0, WORST)
    }
}

impl Agreement {
    pub(super) const fn new() -> Self {
        Self { status: Odds { yes: 200, no: 1 }, bytes: Odds { yes: 40, no: 1 } }
    }

    /// What the facts that differ cost: nothing where they agree, or where nothing is known.
    pub(super) fn cost(self, facts: &Facts, asked: &Asked) -> i64 {
        let status = if status(facts, asked) == Some(false) { self.status.cost() } else { 0 };
        let bytes = if bytes(facts, asked) == Some(false) { self.bytes.cost() } else { 0 };
        status + bytes
    }

    /// Learns from a pair that is sure for other reasons.
    pub(super) fn learn(&mut self, facts: &Facts, asked: &Asked) {
        if let Some(agrees) = status(facts, asked) {
            self.status.learn(agrees);
        }
        if let Some(agrees) = bytes(facts, asked) {
            self.bytes.learn(agrees);
        }
    }
}

/// nginx counts its `HTTP/1.1 100 Continue` and the empty line as a part of the body.
const CONTINUE: u32 = 25;

pub(super) fn status(facts: &Facts, asked: &Asked) -> Option<bool> {
    (facts.status != 0 && asked.status != 0).then_some(facts.status == asked.status)
}

pub(super) fn bytes(facts: &Facts, asked: &Asked) -> Option<bool> {
    let Sizes { body, framed, all } = facts.bytes?;
    let logged = asked.bytes?;
    Some([body, framed, all, framed.wrapping_add(CONTINUE)].contains(&logged))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_that_never_agree_cost_nothing_in_the_end() {
        let mut agreement = Agreement::new();
        let mut odds = agreement.bytes;
        assert!(odds.cost() > 2_000);
        (0..200).for_each(|_| odds.learn(false));
        assert_eq!(odds.cost(), 0);
        (0..8_000).for_each(|_| agreement.status.learn(true));
        assert!(agreement.status.cost() > 6_000);
    }

    #[test]
    fn no_two_requests_of_a_few_connections_share_a_key() {
        let keys: std::collections::HashSet<u64> =
            (0..300).flat_map(|c| (0..300).map(move |nth| key(c, nth))).collect();
        assert_eq!(keys.len(), 90_000);
    }
}
