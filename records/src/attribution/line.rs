//! What the join uses of an access line: small and owned.

use std::num::{NonZeroU16, NonZeroU32, NonZeroU64};

use xxhash_rust::xxh3::xxh3_64;

use crate::access::{AccessLine, LineSpan, LoggedRequest, TrailingNumbers};
use crate::attribution::memory::client::AgentHash;
use crate::hash::mix;
use crate::request::{Cut, Fingerprint};
use crate::request_id::RequestId;
use crate::scan;
use crate::time::{Resolution, Timestamp};

/// A server as numbered by the [`Attributor`](super::Attributor).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ServerIndex(pub u32);

/// A run of a balancer that numbers its records, as numbered by the driver.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct BalancerId(pub u32);

/// A source of lines, as numbered by the driver: a file of `mergelogs`, a sender of `penlogd`. Lines of one
/// source come in the order in which the server wrote them; lines of different sources with the same stamp
/// come in no order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LineOrigin(pub u32);

/// What the join uses of an access line: small and owned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LoggedLine {
    /// The server that logged the line.
    pub server: ServerIndex,
    /// The source that the line came from.
    pub origin: LineOrigin,
    /// The logged time in `mergelogs`, the arrival in `penlogd`.
    pub time: Timestamp,
    /// How finely `time` is known.
    pub resolution: Resolution,
    /// The request's fingerprint under [`Cut::Short`].
    pub short: Option<Fingerprint>,
    /// The request's fingerprint under [`Cut::Long`].
    pub long: Option<Fingerprint>,
    /// The request's fingerprint under [`Cut::Whole`], if the request is longer than the other cuts
    /// keep.
    pub whole: Option<Fingerprint>,
    /// The request's fingerprint without the protocol, for records of other balancers.
    pub target: Option<Fingerprint>,
    /// Hash of the logged client field, by [`text_hash`]: the balancer, unless the line came past
    /// the balancer.
    pub sender: Option<u32>,
    /// Hash of the User-Agent, likewise.
    pub user_agent: Option<u32>,
    /// Hash of the Referer, likewise.
    pub referer: Option<u32>,
    /// Hash of the Host or of the virtual host's name, likewise.
    pub host: Option<u32>,
    /// Hash of the same without the port.
    pub host_alone: Option<u32>,
    /// Bytes of the request's head as far as the line shows them.
    pub shown: u16,
    /// The response's status.
    pub status: Option<u16>,
    /// Bytes sent.
    pub bytes: Option<u64>,
    /// The peer's port.
    pub peer_port: Option<u16>,
    /// The server's own port, where several servers share its address.
    pub server_port: Option<u16>,
    /// Which request on the connection, from 1.
    pub nth: Option<u32>,
    /// Numbers behind the known fields, one of which may be the peer's port.
    pub trailing: TrailingNumbers,
    /// The id of the request.
    pub request_id: LoggedRequestId,
    /// Whether anyone could have sent the line: its sender needed no key, where others have one. The line is at most
    /// likely.
    pub is_unauthenticated: bool,
}

/// The id of a request in its line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LoggedRequestId {
    /// The format has no field for it.
    NotLogged,
    /// The request has none, or what cannot be one.
    Absent,
    /// This one.
    Given(RequestId),
}

impl LoggedRequestId {
    fn of(text: Option<&[u8]>) -> Self {
        text.map_or(Self::NotLogged, |text| RequestId::of(text).map_or(Self::Absent, Self::Given))
    }
}

/// Which fingerprints a driver needs for the encodings of the mappings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FingerprintCuts {
    /// For the classic mapping file.
    pub short: bool,
    /// For mapping datagrams, and for our own mapping file.
    pub long: bool,
    /// For logs of other balancers.
    pub target: bool,
}

impl LoggedLine {
    /// A line with nothing but server and time.
    #[must_use]
    pub const fn unread(server: ServerIndex, (time, resolution): (Timestamp, Resolution)) -> Self {
        Self {
            server,
            origin: LineOrigin(0),
            time,
            resolution,
            short: None,
            long: None,
            whole: None,
            target: None,
            sender: None,
            user_agent: None,
            referer: None,
            host: None,
            host_alone: None,
            shown: 0,
            status: None,
            bytes: None,
            peer_port: None,
            server_port: None,
            nth: None,
            trailing: TrailingNumbers::NONE,
            request_id: LoggedRequestId::NotLogged,
            is_unauthenticated: false,
        }
    }

    /// From a parsed line. `time` is by the clock of the driver: see [`LoggedLine::time`].
    #[must_use]
    pub fn new(
        text: &[u8],
        parsed: &AccessLine,
        cuts: FingerprintCuts,
        server: ServerIndex,
        (time, resolution): (Timestamp, Resolution),
    ) -> Self {
        if parsed.is_wrapped {
            return Self::of_wrapped(text, parsed, cuts, server, (time, resolution));
        }
        let request = |cut| parsed.request.fingerprint(text, cut);
        let hash = |span: Option<LineSpan>| span.map(|span| logged_hash(span.of(text)));
        Self {
            server,
            origin: LineOrigin(0),
            time,
            resolution,
            short: if cuts.short { request(Cut::Short) } else { None },
            long: if cuts.long { request(Cut::Long) } else { None },
            whole: if cuts.long { parsed.request.whole(text) } else { None },
            target: if cuts.target { parsed.request.target(text) } else { None },
            sender: Some(text_hash(parsed.client.of(text))),
            user_agent: hash(parsed.user_agent),
            referer: if cuts.long { hash(parsed.referer) } else { None },
            host: parsed.host.map(|host| host_hash(host.of(text))),
            host_alone: parsed.host.map(|host| host_hash(without_port(host.of(text)))),
            shown: shown_length(text, parsed),
            status: parsed.status,
            bytes: parsed.bytes,
            peer_port: parsed.peer_port,
            server_port: None,
            nth: parsed.nth,
            trailing: parsed.trailing,
            request_id: LoggedRequestId::of(parsed.request_id.map(|id| id.of(text))),
            is_unauthenticated: false,
        }
    }
}

impl LoggedLine {
    /// The same, compared without the protocol of the request, for a server whose format does not log it. The
    /// server's mappings are compared likewise.
    #[must_use]
    #[cold]
    pub fn ignoring_protocol(
        self,
        text: &[u8],
        parsed: &AccessLine,
        cuts: FingerprintCuts,
    ) -> Self {
        self.with_requests(text, parsed, cuts, |request, text, cut| {
            request.without_protocol(text, cut)
        })
    }

    /// The same, with a protocol, for records from before the server's first line without protocol.
    #[must_use]
    #[cold]
    pub fn assuming_protocol(
        self,
        text: &[u8],
        parsed: &AccessLine,
        cuts: FingerprintCuts,
        protocol: &[u8],
    ) -> Self {
        self.with_requests(text, parsed, cuts, |request, text, cut| {
            request.with_protocol(text, cut, protocol)
        })
    }

    fn with_requests(
        self,
        text: &[u8],
        parsed: &AccessLine,
        cuts: FingerprintCuts,
        fingerprint: impl Fn(&LoggedRequest, &[u8], Cut) -> Option<Fingerprint>,
    ) -> Self {
        let mut fields = Vec::new();
        let unwrapped = parsed.is_wrapped.then(|| parsed.unwrapped(text, &mut fields));
        let (text, parsed) = match &unwrapped {
            Some(unwrapped) => (&fields[..], unwrapped),
            None => (text, parsed),
        };
        let request = |cut| fingerprint(&parsed.request, text, cut);
        Self {
            short: if cuts.short { request(Cut::Short) } else { None },
            long: if cuts.long { request(Cut::Long) } else { None },
            whole: None,
            ..self
        }
    }

    #[cold]
    fn of_wrapped(
        text: &[u8],
        parsed: &AccessLine,
        cuts: FingerprintCuts,
        server: ServerIndex,
        time: (Timestamp, Resolution),
    ) -> Self {
        let mut fields = Vec::with_capacity(text.len());
        let parsed = parsed.unwrapped(text, &mut fields);
        Self::new(&fields, &parsed, cuts, server, time)
    }
}

/// Returns the bytes of a request that its line shows: request line, User-Agent and Referer. What a client
/// sends beyond is nearly the same for each of its requests.
fn shown_length(text: &[u8], parsed: &AccessLine) -> u16 {
    let header = |span: Option<LineSpan>, name: usize| match span.map(|span| span.of(text)) {
        None | Some(b"" | b"-") => 0,
        Some(value) => value.len() + name,
    };
    let length = parsed.request.text_length()
        + header(parsed.user_agent, "User-Agent: \r\n".len())
        + header(parsed.referer, "Referer: \r\n".len());
    u16::try_from(length).unwrap_or(u16::MAX)
}

/// Hashes a header's text to four bytes.
#[must_use]
pub fn text_hash(text: &[u8]) -> u32 {
    let hash = xxh3_64(text);
    u32::try_from(hash >> 32).expect("the upper half has 32 bits")
}

/// Hashes the name of a host, which knows no case. Names are in lower case nearly always.
fn host_hash(name: &[u8]) -> u32 {
    if name.iter().any(u8::is_ascii_uppercase) {
        return text_hash(&name.to_ascii_lowercase());
    }
    logged_hash(name)
}

fn without_port(name: &[u8]) -> &[u8] {
    let is_digit = |byte: &u8| byte.is_ascii_digit();
    let digits = name.iter().rev().take_while(|byte| is_digit(byte)).count();
    let name_end = name.len() - digits;
    name[..name_end].strip_suffix(b":").filter(|_| digits > 0).unwrap_or(name)
}

/// [`text_hash`] of an absent header, which most formats log as `-`.
pub(crate) const ABSENT: u32 = 0xde2f_b8d1;

/// [`text_hash`] of an empty text. Loggers of JSON write an absent header so; some write it so although the
/// request has the header, but empty. Such a request is compared as one without the header.
const EMPTY: u32 = 0x2d06_8005;

/// Returns the hash of a header, which may be empty, as it is compared.
pub(crate) const fn header_hash(hash: u32) -> u32 {
    if hash == EMPTY { ABSENT } else { hash }
}

/// Hashes a header's text as web servers log it, escaped.
fn logged_hash(text: &[u8]) -> u32 {
    if text.is_empty() {
        return ABSENT;
    }
    if scan::contains(b'\\', text) { unescaped_hash(text) } else { text_hash(text) }
}

#[cold]
fn unescaped_hash(text: &[u8]) -> u32 {
    let mut buf = vec![0; text.len()];
    let len = crate::request::unescape(text, &mut buf);
    text_hash(&buf[..len])
}

/// What the join keeps of a line while the line is held.
#[derive(Clone, Copy)]
pub(crate) struct HeldLine {
    pub(crate) time: Timestamp,
    /// See [`ServerIndex`].
    pub(crate) server: u32,
    pub(crate) origin: LineOrigin,
    /// Hash of the logged client field.
    pub(crate) sender: Option<u32>,
    /// The server's own port.
    pub(crate) server_port: Option<NonZeroU16>,
    pub(crate) user_agent: Option<AgentHash>,
    /// Hash of the Referer.
    pub(crate) referer: Option<NonZeroU32>,
    /// Hash of the host's name as logged, and without the port.
    pub(crate) host: Option<NonZeroU32>,
    pub(crate) host_alone: Option<NonZeroU32>,
    /// What lines of one kind have in common.
    pub(crate) class: LineClass,
    /// The lower 32 bits of the bytes sent.
    pub(crate) bytes: Option<u32>,
    pub(crate) status: Option<NonZeroU16>,
    /// See [`LoggedLine::shown`].
    pub(crate) shown: u16,
    /// The peer's port.
    pub(crate) peer: Option<NonZeroU16>,
    pub(crate) resolution: Resolution,
    /// See [`LoggedLine::is_unauthenticated`].
    pub(crate) is_unauthenticated: bool,
    /// Its number among the lines of the server.
    pub(crate) place: OrderPlace,
}

impl HeldLine {
    pub(crate) fn new(line: &LoggedLine) -> Self {
        Self {
            time: line.time,
            server: line.server.0,
            origin: line.origin,
            sender: line.sender,
            server_port: line.server_port.and_then(NonZeroU16::new),
            user_agent: line.user_agent.and_then(AgentHash::new),
            referer: line.referer.and_then(NonZeroU32::new),
            host: line.host.and_then(NonZeroU32::new),
            host_alone: line.host_alone.and_then(NonZeroU32::new),
            class: LineClass::of(line),
            bytes: line.bytes.map(low),
            status: line.status.and_then(NonZeroU16::new),
            shown: line.shown,
            peer: line.peer_port.and_then(NonZeroU16::new),
            resolution: line.resolution,
            is_unauthenticated: line.is_unauthenticated,
            place: OrderPlace::FIRST,
        }
    }
}

impl HeldLine {
    /// Whether the line is of a health check by our own balancer.
    pub(crate) fn is_check(&self) -> bool {
        self.user_agent.is_some_and(|agent| agent.get() == CHECKS)
    }
}

/// [`text_hash`] of `pen-check`, the User-Agent of our own balancer's health checks.
const CHECKS: u32 = 0xc814_6605;

/// Hash of User-Agent and request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LineClass(pub(crate) u32);

impl LineClass {
    fn of(line: &LoggedLine) -> Self {
        let request = line.long.or(line.short).map_or(0, Fingerprint::get);
        let hash = mix(request, line.user_agent.unwrap_or(0).into());
        Self(u32::try_from(hash >> 32).expect("the upper half has 32 bits"))
    }
}

/// The number of a line, from 1, in the order in which lines were taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct LineNumber(NonZeroU64);

impl LineNumber {
    /// The first line.
    pub(crate) const FIRST: Self = Self(NonZeroU64::MIN);

    /// Returns the number of the line so many lines later.
    pub(crate) fn after(self, lines: usize) -> Self {
        Self(self.0.saturating_add(lines as u64))
    }

    /// Returns how many lines later than `first` this line was taken; `None` if it was taken before.
    pub(crate) fn since(self, first: Self) -> Option<usize> {
        usize::try_from(self.0.get().checked_sub(first.0.get())?).ok()
    }
}

/// The number of a mapping or a line of a server, wrapping.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct OrderPlace(pub(crate) u32);

impl OrderPlace {
    /// Before the first.
    pub(crate) const FIRST: Self = Self(0);

    pub(crate) const fn next(self) -> Self {
        Self(self.0.wrapping_add(1))
    }

    /// Returns the place so many places later.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "places wrap")]
    pub(crate) const fn later(self, places: i64) -> Self {
        Self(self.0.wrapping_add(places as u32))
    }

    /// Returns how many places later this is.
    pub(crate) const fn after(self, other: Self) -> i64 {
        self.0.wrapping_sub(other.0).cast_signed() as i64
    }
}

/// Returns the lower 32 bits.
pub(crate) fn low(bytes: u64) -> u32 {
    u32::try_from(bytes & u64::from(u32::MAX)).expect("the mask leaves 32 bits")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_compared_without_case_and_with_or_without_its_port() {
        for (name, alone) in [
            ("shop.example:80", "shop.example"),
            ("Shop.Example", "shop.example"),
            ("[2001:db8::1]:8080", "[2001:db8::1]"),
            ("shop.example:", "shop.example:"),
            ("80", "80"),
            ("", ""),
        ] {
            assert_eq!(host_hash(without_port(name.as_bytes())), host_hash(alone.as_bytes()));
        }
        assert_eq!(host_hash(b"shop.example"), text_hash(b"shop.example"));
    }

    #[test]
    fn an_empty_header_is_an_absent_one_in_lines_and_in_records() {
        assert_eq!((ABSENT, EMPTY), (text_hash(b"-"), text_hash(b"")));
        assert_eq!(CHECKS, text_hash(b"pen-check"));
        assert_eq!(logged_hash(b""), logged_hash(b"-"));
        assert_eq!(header_hash(text_hash(b"")), logged_hash(b"-"));
        assert_eq!(header_hash(text_hash(b"curl")), logged_hash(b"curl"));
    }
}
