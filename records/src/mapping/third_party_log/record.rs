//! A [`ThirdPartyRecord`]: client, server and times of an exchange or a connection in a balancer's
//! log.

use std::net::{IpAddr, SocketAddr};

use crate::access::StampZone;
use crate::access::third_party_log::{BalancerField, BalancerLine, FormatTraits, zone_of_envelope};
use crate::access::{Expected, LineError, LoggedRequest};
use crate::addr::{ClientAddr, ServerAddr, parse_ip};
use crate::attribution::text_hash;
use crate::mapping::{Mapping, MappingKind, RequestText};
use crate::request::{Cut, Fingerprint, LONG, unescape, without_protocol};
use crate::request_id::RequestId;
use crate::time::{Resolution, Timestamp};

/// The content of a line of a balancer's log.
#[derive(Clone, Copy, Debug)]
pub struct ThirdPartyRecord<'a> {
    /// The client.
    pub client: ClientAddr,
    /// The client's port.
    pub client_port: Option<u16>,
    /// The server.
    pub whom: ThirdPartyServer<'a>,
    /// The balancer's own address and port towards the server.
    pub balancer: Option<SocketAddr>,
    /// The times of the exchange or connection.
    pub span: RecordTimes,
    /// The first line of the request as the server saw it; empty for a connection, or if the log
    /// does not have the full line.
    request: &'a [u8],
    user_agent: Option<u32>,
    referer: Option<u32>,
    host: Option<u32>,
    request_id: Option<RequestId>,
    status: Option<u16>,
    head_bytes: Option<u64>,
    body_bytes: Option<u64>,
    to_client: Option<u64>,
}

/// A server as a balancer's log names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ThirdPartyServer<'a> {
    /// An address, and a port if logged.
    At(ServerAddr<'a>, Option<u16>),
    /// The names of server and group in the balancer's configuration.
    Named {
        /// HAProxy's backend or Envoy's cluster; empty if not logged.
        group: &'a [u8],
        /// The name of the server in its group.
        server: &'a [u8],
    },
    /// No server: the balancer answered itself.
    Nobody,
    /// A server that the format does not name.
    Unnamed,
}

/// The times of an exchange or a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordTimes {
    /// The time in the line: of the beginning, or of the end.
    stamp: Option<(Timestamp, Resolution)>,
    /// Whether `stamp` is the time of the end.
    ends: bool,
    /// Whether `stamp` is in local time of an unknown zone.
    is_local: bool,
    /// Microseconds from the beginning until the request went to the server.
    lead: i64,
    /// Microseconds from the beginning to the end.
    took: i64,
    /// Whether the exchange was over when the line was written.
    is_over: bool,
}

impl RecordTimes {
    /// Whether the time in the line is local time of the balancer, in an unknown zone.
    #[must_use]
    pub const fn is_local(&self) -> bool {
        self.is_local
    }

    /// Returns when the request went to the server, and the end, from the time in the line; a local
    /// time is taken to be `zone` seconds ahead of UTC. `None` if the line has no time.
    #[must_use]
    pub fn logged(
        &self,
        zone: impl FnOnce(Timestamp) -> i64,
    ) -> Option<(Timestamp, Timestamp, Resolution)> {
        let (stamp, resolution) = self.stamp?;
        let ahead = if self.is_local { zone(stamp) } else { 0 };
        let stamp = stamp.offset_by(ahead.saturating_mul(-1_000_000));
        let (begun, end) = if self.ends {
            (stamp.offset_by(-self.took), stamp)
        } else {
            (stamp, stamp.offset_by(self.took))
        };
        Some((begun.offset_by(self.lead), end, resolution))
    }

    /// Returns when the request went to the server, given the time of the end.
    #[must_use]
    pub fn asked_before(&self, end: Timestamp) -> Timestamp {
        end.offset_by(self.lead - self.took)
    }
}

impl<'a> ThirdPartyRecord<'a> {
    pub(super) fn new(
        line: &'a [u8],
        found: &BalancerLine,
        manner: FormatTraits,
        request: &'a [u8],
    ) -> Self {
        let text = |part: BalancerField| found.parts[part as usize].of(line);
        let of = &found.line;
        let (own, own_port) =
            (ip_port(text(BalancerField::Own)), number(text(BalancerField::OwnPort)));
        let balancer = own.and_then(|(ip, port)| Some((ip, own_port.or(port)?)));
        // Port 0 means unknown.
        let balancer = balancer.filter(|&(_, port)| port != 0);
        let header = |span: Option<crate::access::LineSpan>, is_logged: bool| {
            let text = span.map_or(&b""[..], |span| span.of(line));
            let is_dropped = manner.drops_headers && matches!(text, b"" | b"-");
            (is_logged && !is_dropped).then(|| header_hash(text))
        };
        let has_body = has_body(request, of.status);
        let body = whole_number(text(BalancerField::Body))
            .or_else(|| whole_number(last_of_list(text(BalancerField::Bodies))))
            .or_else(|| whole_number(text(BalancerField::Length)));
        let is_connection = of.request == LoggedRequest::Absent;
        Self {
            client: client(of.client.of(line)),
            client_port: number(text(BalancerField::ClientPort)).or(of.peer_port),
            whom: if manner.has_server { whom(line, found) } else { ThirdPartyServer::Unnamed },
            balancer: balancer.map(|(ip, port)| SocketAddr::new(ip, port)),
            span: span(line, found, manner),
            request,
            user_agent: header(of.user_agent, manner.has_user_agent),
            referer: header(of.referer, manner.has_referer),
            host: header(of.host, manner.has_host),
            request_id: of.request_id.and_then(|id| RequestId::of(id.of(line))),
            status: of.status.filter(|&status| status != 0 && !is_connection),
            head_bytes: whole_number(text(BalancerField::Head)),
            body_bytes: if has_body { body.filter(|_| !is_connection) } else { Some(0) },
            to_client: whole_number(text(BalancerField::All)).or(body).filter(|_| is_connection),
        }
    }

    /// A connection that was opened at `stamp`, local time if `is_local`.
    pub(super) fn opened(
        (client, server): (SocketAddr, SocketAddr),
        own: SocketAddr,
        stamp: Option<(Timestamp, Resolution)>,
        is_local: bool,
    ) -> Self {
        let server_port = Some(server.port()).filter(|&port| port != 0);
        Self {
            client: ClientAddr::from(client.ip().to_canonical()),
            client_port: Some(client.port()).filter(|&port| port != 0),
            whom: ThirdPartyServer::At(ServerAddr::from(server.ip().to_canonical()), server_port),
            balancer: Some(own),
            span: RecordTimes { stamp, ends: false, is_local, lead: 0, took: 0, is_over: false },
            request: b"",
            user_agent: None,
            referer: None,
            host: None,
            request_id: None,
            status: None,
            head_bytes: None,
            body_bytes: None,
            to_client: None,
        }
    }

    /// The first line of the request as the server saw it; empty if unknown or incomplete.
    #[must_use]
    pub const fn request(&self) -> &'a [u8] {
        self.request
    }

    /// The mappings of this record in time order: request, end and close of an exchange, or open
    /// and close of a connection.
    ///
    /// `server` is the resolved server, and `connection` a number that no other record has.
    pub fn events(
        &self,
        (server, server_port): (ServerAddr<'a>, Option<u16>),
        connection: u64,
        (asked, end, resolution): (Timestamp, Timestamp, Resolution),
    ) -> impl Iterator<Item = Mapping<'a>> + use<'a> {
        let none = Mapping {
            client_port: self.client_port,
            server_port,
            balancer: self.balancer,
            connection: Some(connection),
            ..Mapping::new(self.client, server)
        };
        let at = |kind, time| Mapping { kind, time: Some((time, resolution)), ..none };
        let first = if self.request.is_empty() {
            at(MappingKind::Opened, asked)
        } else {
            // A balancer may speak another version of HTTP to the server than the client did.
            let target = without_protocol(self.request);
            let request = RequestText::raw(&target[..target.len().min(LONG)], Cut::Target);
            let whole = Fingerprint::of_whole(target);
            Mapping {
                request: Some(request),
                whole: whole.map(Fingerprint::get),
                user_agent: self.user_agent,
                referer: self.referer,
                host: self.host,
                request_id: self.request_id,
                ..at(MappingKind::Request, asked)
            }
        };
        let ended = (!self.request.is_empty()).then(|| Mapping {
            status: self.status,
            head_bytes: self.head_bytes,
            body_bytes: self.body_bytes,
            ..at(MappingKind::Ended, end)
        });
        let closed = self
            .span
            .is_over
            .then(|| Mapping { to_client: self.to_client, ..at(MappingKind::Closed, end) });
        [Some(first), ended, closed].into_iter().flatten()
    }
}

/// Checks that numbers are numeric and that the client is an address; the format itself does not.
pub(super) fn check(line: &[u8], found: &BalancerLine) -> Result<(), LineError> {
    let wrong =
        |span: crate::access::LineSpan| LineError { at: span.start, expected: Expected::Literal };
    for part in
        [BalancerField::Lead, BalancerField::Queue, BalancerField::Connect, BalancerField::Took]
    {
        let span = found.parts[part as usize];
        let text = span.of(line);
        let digits = text.strip_prefix(b"+").unwrap_or(text);
        let digits = digits.strip_prefix(b"-").unwrap_or(digits);
        if span.end > span.start && !digits.iter().all(u8::is_ascii_digit) {
            return Err(wrong(span));
        }
    }
    let client = found.line.client;
    match client.of(line) {
        b"unix" | b"unix:" => Ok(()),
        text if ip_port(text).is_some() => Ok(()),
        _ => Err(LineError { at: client.start, expected: Expected::Client }),
    }
}

fn client(text: &[u8]) -> ClientAddr {
    ip_port(text).map_or(ClientAddr::Unix, |(ip, _)| ClientAddr::from(ip))
}

fn whom<'a>(line: &'a [u8], found: &BalancerLine) -> ThirdPartyServer<'a> {
    let text = |part: BalancerField| found.parts[part as usize].of(line);
    let last = last_of_list(text(BalancerField::Servers));
    let server = if last.is_empty() { text(BalancerField::Server) } else { last };
    let server = match memchr::memmem::find(server, b"://") {
        Some(scheme) => server[scheme + 3..].split(|&byte| byte == b'/').next().unwrap_or_default(),
        None => server,
    };
    let path = server.strip_prefix(b"unix:").unwrap_or(server);
    if let Some((ip, port)) = ip_port(server) {
        let port = number(text(BalancerField::ServerPort)).or(port);
        return ThirdPartyServer::At(ServerAddr::from(ip), port.filter(|&port| port != 0));
    }
    if path.starts_with(b"/")
        && let Some(server) = ServerAddr::parse(path)
    {
        return ThirdPartyServer::At(server, None);
    }
    match text(BalancerField::ServerName) {
        b"" | b"-" | b"<NOSRV>" | b"<STATS>" => ThirdPartyServer::Nobody,
        server => ThirdPartyServer::Named { group: text(BalancerField::Group), server },
    }
}

fn span(line: &[u8], found: &BalancerLine, manner: FormatTraits) -> RecordTimes {
    let text = |part: BalancerField| found.parts[part as usize].of(line);
    let millis = |part: BalancerField| {
        let text = text(part);
        let digits = text.strip_prefix(b"+").unwrap_or(text);
        // -1 marks a phase that was not reached.
        whole_number(digits).and_then(|n| i64::try_from(n).ok()).map(|n| n.saturating_mul(1_000))
    };
    let lead = [BalancerField::Lead, BalancerField::Queue, BalancerField::Connect]
        .map(|part| millis(part).unwrap_or(0));
    let lead = lead.into_iter().fold(0, i64::saturating_add);
    let duration = found.line.duration.and_then(|micros| i64::try_from(micros).ok());
    let took = millis(BalancerField::Took).or(duration).unwrap_or(0).max(lead);
    let stamp = found.line.time;
    let is_local = manner.is_local || found.line.zone == StampZone::Missing;
    let zone = stamp
        .filter(|_| is_local)
        .and_then(|(time, _)| zone_of_envelope(line, time.as_micros().saturating_add(took)));
    let stamp = match zone {
        Some(zone) => stamp.map(|(time, resolution)| {
            (time.offset_by(zone.saturating_mul(-1_000_000)), resolution)
        }),
        None => stamp,
    };
    RecordTimes {
        stamp,
        ends: manner.ends,
        is_local: is_local && zone.is_none(),
        lead,
        took,
        is_over: !text(BalancerField::Took).starts_with(b"+"),
    }
}

/// Whether the response has a body; some responses are empty whatever Content-Length says.
fn has_body(request: &[u8], status: Option<u16>) -> bool {
    !request.starts_with(b"HEAD ") && !matches!(status, Some(100..=199 | 204 | 304))
}

fn header_hash(text: &[u8]) -> u32 {
    if text.is_empty() {
        return text_hash(b"-");
    }
    if !text.contains(&b'\\') {
        return text_hash(text);
    }
    // `\"`, and `\]` of HAProxy.
    let mut kept = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = memchr::memmem::find(rest, b"\\]") {
        let escaped = rest[..at].iter().rev().take_while(|&&byte| byte == b'\\').count() % 2 == 1;
        kept.extend_from_slice(&rest[..at]);
        kept.extend_from_slice(if escaped { b"\\]" } else { b"]" });
        rest = &rest[at + 2..];
    }
    kept.extend_from_slice(rest);
    let mut bytes = vec![0; kept.len()];
    let len = unescape(&kept, &mut bytes);
    text_hash(&bytes[..len])
}

/// `192.0.2.1`, `192.0.2.1:80`, `2001:db8::1`, `[2001:db8::1]:80`, `2001:db8::1%eth0`.
fn ip_port(text: &[u8]) -> Option<(IpAddr, Option<u16>)> {
    if let Some(ip) = parse_ip(text) {
        return Some((ip, None));
    }
    let colon = memchr::memrchr(b':', text)?;
    let port = number(&text[colon + 1..])?;
    Some((parse_ip(&text[..colon])?, Some(port)))
}

/// Returns the last of several values: nginx writes one for each server that it tried, as in `0, 3` and
/// `0 : 3`.
fn last_of_list(text: &[u8]) -> &[u8] {
    text.rsplit(|&byte| byte == b' ').next().unwrap_or_default()
}

fn number(text: &[u8]) -> Option<u16> {
    u16::try_from(whole_number(text)?).ok()
}

pub(super) fn whole_number(text: &[u8]) -> Option<u64> {
    if text.is_empty() {
        return None;
    }
    text.iter().try_fold(0_u64, |value, byte| {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            return None;
        }
        value.checked_mul(10)?.checked_add(u64::from(digit))
    })
}
