//! What a mapping says that the join can use, and what our own balancer's records say beyond client and
//! request.

use crate::attribution::line::{ServerIndex, text_hash};
use std::net::IpAddr;

use crate::addr::ClientAddr;
use crate::mapping::{Mapping, MappingKind, OpaqueTls};
use crate::request::{Cut, Fingerprint};
use crate::time::{Resolution, Timestamp};

/// What a mapping says that the join can use: small and owned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MappingEvent {
    /// Who was asked.
    pub server: ServerIndex,
    /// Who asked.
    pub client: ClientAddr,
    /// When: the balancer's stamp in `mergelogs`, the arrival in `penlogd`.
    pub time: Timestamp,
    /// How finely `time` is known.
    pub resolution: Resolution,
    /// What was asked; `None` if nothing was, which only an [`ExchangeEvent`] may say.
    pub request: Option<Fingerprint>,
    /// The rule `request` was made by.
    pub cut: Cut,
    /// What our own balancer says beyond that.
    pub exchange: Option<ExchangeEvent>,
}

impl MappingEvent {
    /// From a mapping. `None` if nothing was asked, so that no line can match.
    #[must_use]
    pub fn new(
        mapping: &Mapping<'_>,
        server: ServerIndex,
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
        server: ServerIndex,
        time: (Timestamp, Resolution),
        balancers: &mut BalancerHashes,
    ) -> Option<Self> {
        let Some(exchange) = ExchangeEvent::new(mapping, balancers) else {
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

/// What a record says of the connection it is about, and of the exchange on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExchangeEvent {
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
    pub bytes: Option<ResponseSizes>,
    /// If it was under seal, what could be told of it.
    pub sealed: Option<OpaqueTls>,
}

/// From here on, connections are numbered by who reads another balancer's log: ours counts from 1.
pub const FOREIGN: u64 = 1 << 63;

/// Bytes of a response, cut to 32 bits each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ResponseSizes {
    /// Of its body: Apache's `%b` and `%B`.
    pub body: u32,
    /// Of its body with its framing: nginx's `$body_bytes_sent`.
    pub framed: u32,
    /// Of head and framed body: Apache's `%O`, nginx's `$bytes_sent`.
    pub all: u32,
}

/// Hashes of balancers' addresses as web servers log them. Mostly it is the same one.
#[derive(Clone, Copy, Debug, Default)]
pub struct BalancerHashes {
    last: Option<(IpAddr, u32)>,
}

impl BalancerHashes {
    fn hash(&mut self, ip: IpAddr) -> u32 {
        if let Some((last, hash)) = self.last
            && last == ip
        {
            return hash;
        }
        let mut text = Vec::with_capacity(40);
        ClientAddr::Ip(ip.to_canonical()).write_to(&mut text);
        let hash = text_hash(&text);
        self.last = Some((ip, hash));
        hash
    }
}

impl ExchangeEvent {
    /// From a mapping. `None` if it does not name its connection.
    #[must_use]
    pub fn new(mapping: &Mapping<'_>, balancers: &mut BalancerHashes) -> Option<Self> {
        let Mapping { head_bytes, body_bytes, framed_bytes, .. } = *mapping;
        let bytes = body_bytes.map(|body| {
            let framed = framed_bytes.unwrap_or(body);
            let all = framed.saturating_add(head_bytes.unwrap_or(0));
            ResponseSizes { body: low(body), framed: low(framed), all: low(all) }
        });
        let is_foreign = mapping.connection? >= FOREIGN;
        let absent = if is_foreign { 0 } else { text_hash(b"-") };
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
pub(crate) fn low(bytes: u64) -> u32 {
    u32::try_from(bytes & u64::from(u32::MAX)).unwrap_or(0)
}
