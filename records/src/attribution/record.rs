//! What the join uses of a mapping, and what the records of our own balancer say beyond client and
//! request.

use std::net::IpAddr;
use std::num::{NonZeroU16, NonZeroU32};

use crate::addr::ClientAddr;
use crate::attribution::line::{ABSENT, ServerIndex, header_hash, low, text_hash};
use crate::mapping::classic::FileLine;
use crate::mapping::{BodyEnd, Mapping, MappingKind, OpaqueTls, RequestText};
use crate::request::{Cut, Fingerprint};
use crate::request_id::RequestId;
use crate::time::{Resolution, Timestamp};

/// What the join uses of a mapping: small and owned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MappingEvent {
    /// The server that got the request.
    pub server: ServerIndex,
    /// The client of the request.
    pub client: ClientAddr,
    /// The balancer's stamp in `mergelogs`, the arrival in `penlogd`.
    pub time: Timestamp,
    /// How finely `time` is known.
    pub resolution: Resolution,
    /// The request; `None` only if `exchange` is about no request.
    pub request: Option<Fingerprint>,
    /// The cut of `request`.
    pub cut: Cut,
    /// See [`RequestText::is_body`].
    pub is_body: bool,
    /// The connection, if the mapping names one.
    pub exchange: Option<ExchangeEvent>,
    /// Whether anyone could have sent the record: its sender needed no key, where others have one. A line decided by such
    /// a record is at most likely.
    pub is_unauthenticated: bool,
}

impl MappingEvent {
    /// From a mapping. `None` without a request, since no line can match.
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
        let is_body = mapping.request.is_some_and(RequestText::is_body);
        request?;
        Some(Self {
            server,
            client,
            time,
            resolution,
            request,
            cut,
            is_body,
            exchange: None,
            is_unauthenticated: false,
        })
    }

    /// From a line of a classic mapping file and the fingerprint of the line's request.
    #[must_use]
    #[inline]
    pub fn of_file_line(line: &FileLine<'_>, server: ServerIndex, request: Fingerprint) -> Self {
        Self {
            server,
            client: line.client,
            time: line.time,
            resolution: Resolution::Second,
            request: Some(request),
            cut: line.request.cut,
            is_body: line.request.is_body(),
            exchange: None,
            is_unauthenticated: false,
        }
    }

    /// The same, compared without the protocol of the request: see [`LoggedLine::ignoring_protocol`](super::LoggedLine).
    #[must_use]
    pub fn ignoring_protocol(self, mapping: &Mapping<'_>) -> Self {
        match (self.request, mapping.request) {
            (Some(_), Some(text)) if text.cut != Cut::Target => {
                Self { request: text.without_protocol().fingerprint(), cut: text.cut, ..self }
            }
            _ => self,
        }
    }

    /// Whether a line may belong to the record.
    #[must_use]
    pub fn is_request(&self) -> bool {
        self.exchange.is_none_or(|exchange| exchange.kind == MappingKind::Request)
    }

    /// From a mapping of our own balancer, whichever event it is about. `None` if the join has no
    /// use for it.
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
            is_body: false,
            cut: Cut::Long,
            exchange: Some(exchange),
            is_unauthenticated: false,
        };
        if mapping.kind != MappingKind::Request {
            return Some(none);
        }
        let asked = Self::new(mapping, server, (time, resolution));
        Some(asked.map_or(none, |asked| Self { exchange: Some(exchange), ..asked }))
    }
}

/// What a record says of a connection, and of an exchange on the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExchangeEvent {
    /// Which event of the connection the record is about.
    pub kind: MappingKind,
    /// The connection's number, unique while the balancer runs.
    pub connection: u64,
    /// Which request on the connection, from 1; 0 if the record is about no request.
    pub nth: u32,
    /// Hash of the balancer's own address towards the server as text; `None` if unknown.
    pub balancer: Option<NonZeroU32>,
    /// The balancer's own port towards the server.
    pub port: Option<NonZeroU16>,
    /// The server's own port.
    pub server_port: Option<NonZeroU16>,
    /// Status of the response; `None` if unknown.
    pub status: Option<NonZeroU16>,
    /// Whether another balancer than ours wrote the record. Such a balancer logs an exchange when it is over
    /// and numbers no connections: each exchange has a connection of its own here, as its first request.
    pub is_third_party: bool,
    /// Hash of the User-Agent, or of `-` for a request without one; `None` if the balancer does not log it.
    pub user_agent: Option<NonZeroU32>,
    /// Hash of the Referer, likewise.
    pub referer: Option<NonZeroU32>,
    /// Hash of the Host; `None` if unknown.
    pub host: Option<NonZeroU32>,
    /// The id that the balancer gave the request; `None` if it gave none, or logs none.
    pub request_id: Option<RequestId>,
    /// Bytes of the response, as web servers count them; `None` if unknown.
    pub bytes: Option<ResponseSizes>,
    /// When the request's body ended, in the record of the response's end; `None` without a body.
    pub body_end: Option<BodyEnd>,
    /// What could be observed of an exchange in passed-through TLS; `None` for plain HTTP.
    pub tls: Option<OpaqueTls>,
}

/// Other balancers' connections are numbered from here by the reader of their log: ours count from
/// 1.
pub const THIRD_PARTY_BASE: u64 = 1 << 63;

/// Bytes of a response, cut to 32 bits each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ResponseSizes {
    /// The body: Apache's `%b` and `%B`.
    pub body: u32,
    /// The body with its framing: nginx's `$body_bytes_sent`.
    pub framed: u32,
    /// Head and framed body: Apache's `%O`, nginx's `$bytes_sent`.
    pub all: u32,
}

/// Hashes of balancer addresses as web servers log them, with the last hash cached.
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
    /// From a mapping. `None` if the mapping does not name its connection.
    #[must_use]
    pub fn new(mapping: &Mapping<'_>, balancers: &mut BalancerHashes) -> Option<Self> {
        let Mapping { head_bytes, body_bytes, framed_bytes, .. } = *mapping;
        let bytes = body_bytes.map(|body| {
            let framed = framed_bytes.unwrap_or(body);
            let all = framed.saturating_add(head_bytes.unwrap_or(0));
            ResponseSizes { body: low(body), framed: low(framed), all: low(all) }
        });
        let is_third_party = mapping.connection? >= THIRD_PARTY_BASE;
        let absent = if is_third_party { 0 } else { ABSENT };
        let header = |hash: Option<u32>| NonZeroU32::new(header_hash(hash.unwrap_or(absent)));
        let of_request = matches!(mapping.kind, MappingKind::Request | MappingKind::Ended);
        Some(Self {
            kind: mapping.kind,
            connection: mapping.connection?,
            nth: if is_third_party { u32::from(of_request) } else { mapping.nth.unwrap_or(0) },
            is_third_party,
            balancer: mapping.balancer.and_then(|addr| NonZeroU32::new(balancers.hash(addr.ip()))),
            port: mapping.balancer.and_then(|addr| NonZeroU16::new(addr.port())),
            server_port: mapping.server_port.and_then(NonZeroU16::new),
            status: mapping.status.and_then(NonZeroU16::new),
            user_agent: header(mapping.user_agent),
            referer: header(mapping.referer),
            host: mapping.host.and_then(NonZeroU32::new),
            request_id: mapping.request_id,
            bytes,
            body_end: mapping.body_end,
            tls: mapping.opaque_tls,
        })
    }
}
