//! The join: mappings and access lines in, each line out once, with a client or without, and with
//! a certainty.
//!
//! A driver moves the time ([`Attributor::advance`]), writes what is due
//! ([`Attributor::next_decided`]), and only then hands in what came at that time.
//! Time is an argument: `penlogd` drives the [`Attributor`] by arrival, `mergelogs` by logged time.
//! Lines come out in the order they were put in.
//!
//! - `engine`: the [`Attributor`]; holds lines for a bounded time and hands them out in order.
//! - `decide`: who asked: the only one who could have, or by one of the following two.
//! - `claim`: a line of a group by itself, where it is plain which mapping is its own.
//! - `view`: the lines and mappings of a group side by side, where it is not.
//! - `port`: a line that names the balancer's own port, by `connections`: who stood behind it when.
//! - `sealed`: a line of a request that the balancer could not read, by `turns`: exchanges in TLS that passed through.
//! - `strain`: how well such lines fit of late, and so how far a choice among them can be trusted.
//! - `exchange`: what our own balancer's records say beyond client and request.
//! - `coarse`: how long after its end an exchange is logged, where stamps are whole seconds.
//! - `note`: what is made of each of them.
//! - `loss`: what is doubted while some of them are lost.
//! - `doubt`: how often what was not certain of an only client was borne out.
//! - `outstanding`: which mappings wait for a line and which lines for a decision, found in O(1).
//! - `assign`: which line takes which mapping, for the group and not line by line.
//! - `delays`, `habits`: what certain pairs teach about the others: how long a server takes, and
//!   which User-Agent a client has.
//! - `why`: what there was to choose from, for lines of which that is asked.

mod assign;
mod claim;
mod coarse;
mod connections;
mod decide;
mod delays;
mod doubt;
mod engine;
mod exchange;
mod habits;
mod loss;
mod note;
mod outstanding;
mod port;
mod sealed;
mod server;
mod strain;
#[cfg(test)]
mod tests;
mod turns;
#[cfg(test)]
mod twin;
mod view;
mod why;

use std::time::Duration;

use xxhash_rust::xxh3::xxh3_64;

use crate::access::{AccessLine, LineSpan};
use crate::addr::ClientAddr;
use crate::mapping::{Mapping, MappingKind};
use crate::request::{Cut, Fingerprint};
use crate::time::{Resolution, Timestamp};

pub use self::engine::Attributor;
pub use self::exchange::{Balancers, Exchange, FOREIGN, Sizes};
pub use self::server::ByCertainty;
pub use self::why::{Candidate, Since, Why};

/// A server, as the [`Attributor`] numbers them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ServerId(pub u32);

/// How far the engine looks, waits and remembers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// How long a line is held for late records and for the other lines of its group.
    pub wait: Duration,
    /// How old a mapping may be and still explain a line.
    pub window: Duration,
    /// The most mappings remembered; beyond it the oldest are forgotten and counted. Once there are records
    /// that name their connection, three eighths of it, and as many connections.
    pub max_mappings: usize,
    /// The most lines held; beyond it the oldest are decided early and counted.
    pub max_lines: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            wait: Duration::from_millis(250),
            window: Duration::from_secs(600),
            max_mappings: 1 << 20,
            max_lines: 1 << 18,
        }
    }
}

/// How sure a line's client is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Certainty {
    /// No mapping explains the line.
    None,
    /// The best of several that could.
    Likely,
    /// Only one client could.
    Certain,
    /// The line names the balancer's own port: a key, not a guess.
    Exact,
}

/// What an access line says that the join can use: small, owned, made off the hot path's thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Line {
    /// Where it was logged.
    pub server: ServerId,
    /// When: the logged time in `mergelogs`, the arrival in `penlogd`.
    pub time: Timestamp,
    /// How finely `time` is known.
    pub resolution: Resolution,
    /// The request's fingerprint under [`Cut::Short`].
    pub short: Option<Fingerprint>,
    /// The request's fingerprint under [`Cut::Long`].
    pub long: Option<Fingerprint>,
    /// The request's fingerprint under [`Cut::Whole`], where it is longer than the others keep.
    pub whole: Option<Fingerprint>,
    /// Hash of the client field as it was logged, by [`text_hash`]: the balancer, unless the line
    /// came past it.
    pub sender: Option<u32>,
    /// Hash of the User-Agent, likewise.
    pub user_agent: Option<u32>,
    /// Hash of the Referer, likewise.
    pub referer: Option<u32>,
    /// The response's status.
    pub status: Option<u16>,
    /// Bytes sent.
    pub bytes: Option<u64>,
    /// The peer's port.
    pub peer_port: Option<u16>,
    /// The server's own port, where several servers share its address.
    pub server_port: Option<u16>,
    /// Which request on its connection, from 1.
    pub nth: Option<u32>,
}

/// Which fingerprints a driver needs: those that its spelling of mappings carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cuts {
    /// The classic mapping file's.
    Short,
    /// Mapping datagrams'.
    Long,
    /// Both, and so all that our own mapping file's need.
    Both,
}

impl Line {
    /// A line of which nothing is known but where and when.
    #[must_use]
    pub const fn unread(server: ServerId, (time, resolution): (Timestamp, Resolution)) -> Self {
        Self {
            server,
            time,
            resolution,
            short: None,
            long: None,
            whole: None,
            sender: None,
            user_agent: None,
            referer: None,
            status: None,
            bytes: None,
            peer_port: None,
            server_port: None,
            nth: None,
        }
    }

    /// From a parsed line. `time` is what the driver's clock is about: see [`Line::time`].
    #[must_use]
    pub fn new(
        text: &[u8],
        parsed: &AccessLine,
        cuts: Cuts,
        server: ServerId,
        (time, resolution): (Timestamp, Resolution),
    ) -> Self {
        let request = |cut| parsed.request.fingerprint(text, cut);
        let hash = |span: Option<LineSpan>| span.map(|span| logged_hash(span.of(text)));
        Self {
            server,
            time,
            resolution,
            short: if cuts == Cuts::Long { None } else { request(Cut::Short) },
            long: if cuts == Cuts::Short { None } else { request(Cut::Long) },
            whole: if cuts == Cuts::Short { None } else { parsed.request.whole(text) },
            sender: Some(text_hash(parsed.client.of(text))),
            user_agent: hash(parsed.user_agent),
            referer: if cuts == Cuts::Short { None } else { hash(parsed.referer) },
            status: parsed.status,
            bytes: parsed.bytes,
            peer_port: parsed.peer_port,
            server_port: None,
            nth: parsed.nth,
        }
    }
}

/// What a mapping says that the join can use: small and owned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record {
    /// Who was asked.
    pub server: ServerId,
    /// Who asked.
    pub client: ClientAddr,
    /// When: the balancer's stamp in `mergelogs`, the arrival in `penlogd`.
    pub time: Timestamp,
    /// How finely `time` is known.
    pub resolution: Resolution,
    /// What was asked; `None` if nothing was, which only an [`Exchange`] may say.
    pub request: Option<Fingerprint>,
    /// The rule `request` was made by.
    pub cut: Cut,
    /// What our own balancer says beyond that.
    pub exchange: Option<Exchange>,
}

impl Record {
    /// From a mapping. `None` if nothing was asked, so that no line can match.
    #[must_use]
    pub fn new(
        mapping: &Mapping<'_>,
        server: ServerId,
        (time, resolution): (Timestamp, Resolution),
    ) -> Option<Self> {
        let (request, cut) = match (mapping.whole, mapping.request) {
            (Some(hash), _) => (Some(Fingerprint::of_hash(hash)), Cut::Whole),
            (None, Some(request)) => (Some(request.fingerprint()?), request.cut),
            (None, None) => (None, Cut::Long),
        };
        let client = mapping.client;
        request?;
        Some(Self { server, client, time, resolution, request, cut, exchange: None })
    }

    /// Whether it is about a request that a line may be of.
    #[must_use]
    pub fn is_request(&self) -> bool {
        self.exchange.is_none_or(|exchange| exchange.kind == MappingKind::Request)
    }

    /// From a mapping of our own balancer, whatever moment it is. `None` if it can't be of use.
    #[must_use]
    pub fn with_exchange(
        mapping: &Mapping<'_>,
        server: ServerId,
        time: (Timestamp, Resolution),
        balancers: &mut Balancers,
    ) -> Option<Self> {
        let Some(exchange) = Exchange::new(mapping, balancers) else {
            return Self::new(mapping, server, time)
                .filter(|_| mapping.kind == MappingKind::Request);
        };
        let (client, (time, resolution)) = (mapping.client, time);
        let none = Self {
            server,
            client,
            time,
            resolution,
            request: None,
            cut: Cut::Long,
            exchange: Some(exchange),
        };
        if mapping.kind != MappingKind::Request {
            return Some(none);
        }
        let asked = Self::new(mapping, server, (time, resolution));
        Some(asked.map_or(none, |asked| Self { exchange: Some(exchange), ..asked }))
    }
}

/// A hash of a header's text, so that a line carries four bytes of it.
#[must_use]
pub fn text_hash(text: &[u8]) -> u32 {
    let hash = xxh3_64(text);
    u32::try_from(hash >> 32).expect("the upper half has 32 bits")
}

/// The same of a header's text as web servers log it, escaped.
fn logged_hash(text: &[u8]) -> u32 {
    if memchr::memchr(b'\\', text).is_none() { text_hash(text) } else { unescaped_hash(text) }
}

#[cold]
fn unescaped_hash(text: &[u8]) -> u32 {
    let mut buf = vec![0; text.len()];
    let len = crate::request::unescape(text, &mut buf);
    text_hash(&buf[..len])
}

/// A line's outcome.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Verdict {
    /// Who asked; `None` if no mapping explains the line.
    pub client: Option<ClientAddr>,
    /// How sure that is.
    pub certainty: Certainty,
    /// How many different mappings could have explained the line.
    pub candidates: u32,
    /// What the choice rests on.
    pub reason: Reason,
    /// Microseconds from the chosen mapping to the line, by the clocks as they are.
    pub delay: Option<i64>,
    /// Parts in 1,000 that the client is right, as the evidence has it.
    pub probability: u16,
}

/// What a choice rests on, or why there was none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reason {
    /// The line names the balancer's own port, and that was this client's connection.
    Port,
    /// The only mapping with this request at this server.
    Only,
    /// Several mappings, all of one client.
    SameClient,
    /// The best of several, by order and time.
    Order,
    /// The best of several, by the client's known User-Agent.
    UserAgent,
    /// The line is of an exchange in TLS that passed through, by its time, its size and its turn.
    Sealed,
    /// The only mapping, but the evidence casts doubt on it.
    Doubtful,
    /// No mapping with this request was there.
    NoMapping,
    /// No mapping with this request was there, as is common at this server, but the line just before
    /// it from the same User-Agent had one: where the C balancer saw several requests in one read it
    /// noted the first only.
    Neighbour,
    /// Mappings with this request were there, but all of them suit other lines better.
    NoneFits,
    /// The line has no request that could be looked up.
    NoRequest,
    /// The line did not come through the balancer: its client field names somebody for whom there
    /// are no mappings, and is right as it is.
    Direct,
}

impl Reason {
    /// The word that stands for it beside an explained line.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Port => "port",
            Self::Only => "only",
            Self::SameClient => "same-client",
            Self::Order => "order",
            Self::UserAgent => "user-agent",
            Self::Sealed => "sealed",
            Self::Doubtful => "doubtful",
            Self::NoMapping => "no-mapping",
            Self::Neighbour => "neighbour",
            Self::NoneFits => "none-fits",
            Self::NoRequest => "no-request",
            Self::Direct => "direct",
        }
    }
}

impl Reason {
    /// What [`Self::as_str`] stands for, in words.
    #[must_use]
    pub const fn words(self) -> &'static str {
        match self {
            Self::Port => {
                "the line names a port of the balancer's, and that was this client's connection"
            }
            Self::Only => "the only mapping with this request at this server",
            Self::SameClient => "all mappings with this request at this server are this client's",
            Self::Order => "the best of several, by order and time",
            Self::UserAgent => "the best of several, by the User-Agent",
            Self::Sealed => {
                "an exchange in TLS that passed through, by its time, its size and its turn"
            }
            Self::Doubtful => {
                "the only mapping with this request at this server, but there is doubt"
            }
            Self::NoMapping => "no mapping with this request was there",
            Self::Neighbour => {
                "no mapping with this request was there, but the line just before from this User-Agent had one"
            }
            Self::NoneFits => "all mappings with this request suit other lines better",
            Self::NoRequest => "the line has no request that could be looked up",
            Self::Direct => "the line came past the balancer and names its client itself",
        }
    }

    /// The one that a word stands for.
    #[must_use]
    pub fn of_word(word: &str) -> Option<Self> {
        let all = [
            Self::Port,
            Self::Only,
            Self::SameClient,
            Self::Order,
            Self::UserAgent,
            Self::Sealed,
            Self::Doubtful,
            Self::NoMapping,
            Self::Neighbour,
            Self::NoneFits,
            Self::NoRequest,
            Self::Direct,
        ];
        all.into_iter().find(|reason| reason.as_str() == word)
    }
}

/// A line and its outcome.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Decided<T> {
    /// What the driver handed in with the line.
    pub payload: T,
    /// Where it was logged.
    pub server: ServerId,
    /// The line's time.
    pub time: Timestamp,
    /// The outcome.
    pub verdict: Verdict,
}

/// What an engine has done since it was made. Lines: `lines = exact + certain + likely + none + held`.
/// Mappings: `mappings = used + expired + evicted + outstanding`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Mappings taken.
    pub mappings: u64,
    /// Mappings that explained a line.
    pub used: u64,
    /// Mappings that grew too old.
    pub expired: u64,
    /// Mappings forgotten because there were too many.
    pub evicted: u64,
    /// Mappings remembered now.
    pub outstanding: u64,
    /// Lines taken.
    pub lines: u64,
    /// Lines with each certainty.
    pub exact: u64,
    /// See [`Certainty::Certain`].
    pub certain: u64,
    /// See [`Certainty::Likely`].
    pub likely: u64,
    /// See [`Certainty::None`].
    pub none: u64,
    /// Lines decided before their time because too many were held.
    pub hurried: u64,
    /// Lines held now.
    pub held: u64,
}
