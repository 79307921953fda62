//! The meaning of a value in an access line, and the assembly of an [`AccessLine`] from values.

use super::head::without_port;
use super::timestamp::{TimestampParser, decimal, fraction_micros};
use super::{AccessLine, LineSpan, LoggedRequest};

/// The meaning of a value. Where a format has several values for one field, the value with the
/// lower rank is used, and of equal ranks the first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LogField {
    /// Ignored; has no space.
    Word,
    /// Ignored; may hold any text.
    Text,
    /// Ignored; may hold any text, chosen by the client.
    ClientText,
    Client,
    /// Addresses of X-Forwarded-For in the place of the client.
    ClientList,
    PeerPort,
    ServerPort,
    Time,
    Request,
    Method,
    /// Path and query.
    Target,
    Path,
    /// With `?`, or without as nginx's `$args`.
    Query,
    Protocol,
    Status,
    Bytes,
    Referer,
    UserAgent,
    Host,
    User,
    ForwardedFor,
    /// The number of the request on its connection, from 1.
    Nth,
    /// The number of the request on its connection, from 0 (Apache's `%k`).
    NthFromZero,
    Duration(DurationUnit),
    /// The id that a balancer gave the request, as the server or the balancer made it.
    RequestId,
    /// The same as a header: a client may send one, with any text.
    RequestIdHeader,
    /// Caddy's name of the logger.
    Logger,
    /// Logged by balancers only.
    Part(BalancerField),
}

/// Fields that only balancers log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BalancerField {
    ClientPort,
    /// The server, perhaps with a port, perhaps as a URL.
    Server,
    /// All servers that were tried, the last one last.
    Servers,
    ServerPort,
    /// The name of the server, and of its group.
    ServerName,
    Group,
    /// The balancer's own address towards the server, perhaps with a port.
    Own,
    OwnPort,
    /// Durations of the phases before the request went to the server, in milliseconds; the sum
    /// counts.
    Lead,
    Queue,
    Connect,
    /// Milliseconds from the beginning to the end; a `+` in front marks an unfinished exchange.
    Took,
    /// Bytes of the response's body and head as the server sent them.
    Body,
    /// The same for each server that was tried, as nginx lists them.
    Bodies,
    Head,
    /// The Content-Length of the response.
    Length,
    /// All bytes from the server, in the line of a connection.
    All,
    /// The time of HAProxy's `%t` and `%tr`, where it is a value in JSON.
    LocalTime,
}

/// The span of each [`BalancerField`] in a line; empty if absent.
pub(crate) type BalancerSpans = [LineSpan; 18];

/// The unit of a duration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum DurationUnit {
    Nanoseconds,
    Microseconds,
    Milliseconds,
    Seconds,
}

impl LogField {
    /// Whether no value of the field has a space.
    pub(super) fn is_word(self) -> bool {
        !matches!(
            self,
            Self::Text
                | Self::ClientText
                | Self::Request
                | Self::Target
                | Self::Path
                | Self::Query
                | Self::Referer
                | Self::UserAgent
                | Self::User
                | Self::ForwardedFor
                | Self::ClientList
                | Self::RequestIdHeader
                | Self::Time
                | Self::Part(BalancerField::Servers | BalancerField::Bodies)
        )
    }

    /// Whether the client chooses the value and may put a space into it.
    pub(super) fn is_clients_choice(self) -> bool {
        !self.is_word() && !matches!(self, Self::Text | Self::Time | Self::Part(_))
    }

    /// The index of a field in [`LineDraft::ranks`].
    fn slot(self) -> usize {
        match self {
            Self::Word | Self::Text | Self::ClientText | Self::Part(_) => 0,
            Self::Client | Self::ClientList => 1,
            Self::PeerPort => 2,
            Self::ServerPort => 3,
            Self::Time => 4,
            Self::Request => 5,
            Self::Method => 6,
            Self::Target | Self::Path => 7,
            Self::Query => 8,
            Self::Protocol => 9,
            Self::Status => 10,
            Self::Bytes => 11,
            Self::Referer => 12,
            Self::UserAgent => 13,
            Self::Host => 14,
            Self::User => 15,
            Self::ForwardedFor => 16,
            Self::Nth | Self::NthFromZero => 17,
            Self::Duration(_) => 18,
            Self::Logger => 19,
            Self::RequestId | Self::RequestIdHeader => 20,
        }
    }
}

/// The rank of the value taken for each field; above all ranks if there is none.
pub(super) type Ranks = [u8; 21];

/// An access line that is being assembled from values.
#[derive(Debug)]
pub(super) struct LineDraft<'a> {
    pub(super) line: &'a mut AccessLine,
    method: Option<LineSpan>,
    target: Option<LineSpan>,
    query: Option<LineSpan>,
    protocol: Option<LineSpan>,
    /// Restoring an older copy discards the values taken since.
    pub(super) ranks: Ranks,
    pub(super) has_client: bool,
    /// The line is from another logger than Caddy's access log.
    pub(super) other_logger: bool,
    /// The destination of balancer fields.
    pub(super) parts: Option<&'a mut BalancerSpans>,
}

impl<'a> LineDraft<'a> {
    /// Creates an empty draft; `line` must be empty too.
    pub(super) fn new(line: &'a mut AccessLine) -> Self {
        Self {
            line,
            method: None,
            target: None,
            query: None,
            protocol: None,
            ranks: [u8::MAX; 21],
            has_client: false,
            other_logger: false,
            parts: None,
        }
    }

    /// Creates an empty draft that also accepts fields of balancers.
    pub(super) fn of_balancer(
        line: &'a mut AccessLine,
        parts: Option<&'a mut BalancerSpans>,
    ) -> Self {
        Self { parts, ..Self::new(line) }
    }

    /// Whether a value of this rank would be used.
    pub(super) fn wants(&self, field: LogField, rank: u8) -> bool {
        self.ranks[field.slot()] > rank
    }

    /// Takes the value `at` in `line`. Returns `false` if the value is invalid for the field.
    pub(super) fn take(
        &mut self,
        field: LogField,
        rank: u8,
        at: LineSpan,
        line: &[u8],
        clock: &mut TimestampParser,
    ) -> bool {
        let text = at.of(line);
        let absent = text == b"-" || text.is_empty();
        let whole = || decimal(text);
        match field {
            LogField::Word | LogField::Text | LogField::ClientText => return true,
            LogField::Part(part) => {
                if let Some(parts) = &mut self.parts {
                    parts[part as usize] = at;
                }
                return true;
            }
            LogField::Client | LogField::ClientList if text.is_empty() => return false,
            LogField::Status if !absent => {
                let status = whole().and_then(|n| u16::try_from(n).ok()).filter(|n| *n < 1000);
                if status.is_none() || !self.wants(field, rank) {
                    return status.is_some();
                }
                self.line.status = status;
            }
            LogField::Bytes if !absent => {
                let bytes = whole();
                if bytes.is_none() || !self.wants(field, rank) {
                    return bytes.is_some();
                }
                self.line.bytes = bytes;
            }
            _ if !self.wants(field, rank) => return true,
            LogField::Status => self.line.status = None,
            LogField::Bytes => self.line.bytes = None,
            LogField::Client => {
                let (start, end) = (at.start as usize, at.end as usize);
                let (end, port) = without_port(line, (start, end));
                self.line.client = LineSpan::new(start, end);
                self.has_client = true;
                if self.wants(LogField::PeerPort, 0) {
                    self.line.peer_port = port;
                }
            }
            LogField::ClientList => {
                self.line.client = at;
                self.has_client = true;
            }
            LogField::Time => {
                // Apache's `%t` has brackets.
                let is_bracketed = matches!(text, [b'[', .., b']']);
                let at = if is_bracketed {
                    LineSpan { start: at.start + 1, end: at.end - 1 }
                } else {
                    at
                };
                let read = clock.any(line, at.start as usize);
                let Some(read) = read.filter(|read| read.end == at.end as usize) else {
                    return false;
                };
                self.line.time = Some(read.time);
                self.line.zone = read.zone;
                self.line.time_text = Some(at);
            }
            LogField::PeerPort => self.line.peer_port = whole().and_then(|n| u16::try_from(n).ok()),
            LogField::ServerPort => {
                self.line.server_port = whole().and_then(|n| u16::try_from(n).ok());
            }
            LogField::Request => self.line.request = LoggedRequest::Line(at),
            LogField::Method => self.method = Some(at),
            LogField::Target | LogField::Path => self.target = Some(at),
            LogField::Query if text == b"-" => self.query = None,
            LogField::Query => {
                // In `$uri?$args`, the literal `?` of the format belongs to the query.
                let before = at.start.checked_sub(1).map(|start| LineSpan { start, end: at.end });
                let marked = before.filter(|span| span.of(line).starts_with(b"?"));
                self.query = Some(marked.unwrap_or(at));
            }
            LogField::Protocol => self.protocol = Some(at),
            LogField::Referer => self.line.referer = Some(at),
            LogField::UserAgent => self.line.user_agent = Some(at),
            LogField::Host => self.line.host = Some(at),
            LogField::User => self.line.user = Some(at),
            LogField::ForwardedFor => self.line.forwarded_for = Some(at),
            LogField::Nth | LogField::NthFromZero => {
                let from_zero = u32::from(field == LogField::NthFromZero);
                let number = whole().and_then(|n| u32::try_from(n).ok());
                self.line.nth = number.and_then(|n| n.checked_add(from_zero));
            }
            LogField::RequestId | LogField::RequestIdHeader => self.line.request_id = Some(at),
            LogField::Duration(unit) => self.line.duration = micros(text, unit),
            LogField::Logger => {
                let is_caddys = text.starts_with(b"http.");
                self.other_logger = is_caddys && !text.starts_with(b"http.log.access");
            }
        }
        self.ranks[field.slot()] = rank;
        true
    }

    /// Makes a request without a method a target, where the method is logged by itself: some call the target so.
    pub(super) fn take_target(&mut self, line: &[u8]) {
        if let LoggedRequest::Line(at) = self.line.request
            && self.method.is_some()
            && self.target.is_none()
            && at.of(line).first() == Some(&b'/')
        {
            self.target = Some(at);
            self.line.request = LoggedRequest::Absent;
        }
        self.split_request(line);
    }

    /// In `GET /a` the protocol is missing, as in the keys of some applications' logs.
    fn split_request(&mut self, line: &[u8]) {
        let LoggedRequest::Line(at) = self.line.request else { return };
        let text = at.of(line);
        let Some(space) = memchr::memrchr(b' ', text) else { return };
        let is_target = text.get(space + 1) == Some(&b'/');
        if is_target && self.protocol.is_none() && text[..space].iter().all(u8::is_ascii_uppercase)
        {
            let middle = at.start as usize + space;
            self.method = Some(LineSpan::new(at.start as usize, middle));
            self.target = Some(LineSpan::new(middle + 1, at.end as usize));
            self.line.request = LoggedRequest::Absent;
        }
    }

    /// Assembles the request from its parts if the line has no request line. Returns the line.
    pub(super) fn finish(self) -> &'a mut AccessLine {
        let has_request = self.line.request != LoggedRequest::Absent;
        if !has_request && let (Some(method), Some(target)) = (self.method, self.target) {
            let (query, protocol) = (self.query, self.protocol);
            self.line.request = LoggedRequest::Parts { method, target, query, protocol };
        }
        self.line
    }
}

/// Converts a duration to microseconds; `None` if the text is no decimal number.
fn micros(text: &[u8], unit: DurationUnit) -> Option<u64> {
    let point = memchr::memchr(b'.', text).unwrap_or(text.len());
    let whole = decimal(&text[..point])?;
    let fraction = text.get(point + 1..).unwrap_or_default();
    if !fraction.iter().all(u8::is_ascii_digit) {
        return None;
    }
    // In millionths of the unit.
    let fraction = u64::try_from(fraction_micros(fraction)).ok()?;
    match unit {
        DurationUnit::Nanoseconds => Some(whole / 1_000),
        DurationUnit::Microseconds => Some(whole),
        DurationUnit::Milliseconds => whole.checked_mul(1_000)?.checked_add(fraction / 1_000),
        DurationUnit::Seconds => whole.checked_mul(1_000_000)?.checked_add(fraction),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_become_microseconds() {
        for (text, unit, expected) in [
            ("0.039", DurationUnit::Seconds, Some(39_000)),
            ("0.000002701", DurationUnit::Seconds, Some(2)),
            ("12", DurationUnit::Seconds, Some(12_000_000)),
            ("1.5", DurationUnit::Milliseconds, Some(1_500)),
            ("7", DurationUnit::Microseconds, Some(7)),
            ("10002425284", DurationUnit::Nanoseconds, Some(10_002_425)),
            ("-", DurationUnit::Seconds, None),
            ("", DurationUnit::Seconds, None),
            ("1.x", DurationUnit::Seconds, None),
            ("99999999999999999999", DurationUnit::Seconds, None),
        ] {
            assert_eq!(micros(text.as_bytes(), unit), expected, "{text}");
        }
    }
}
