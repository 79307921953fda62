//! What tells requests with the same first line apart, as far as the lines of a server log it.

use super::client::AgentHash;
use crate::attribution::costs;
use crate::attribution::line::{HeldLine, LineOrigin, LoggedLine};
use crate::attribution::record::ExchangeEvent;
use crate::hash::mix;

/// Which parts of a [`RequestSignature`] lines and records have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LoggedFields(u8);

impl LoggedFields {
    /// The User-Agent.
    pub(crate) const AGENT: Self = Self(1);
    /// The Referer.
    pub(crate) const REFERER: Self = Self(2);
    /// The server's port.
    pub(crate) const PORT: Self = Self(4);
    /// The balancer's port, where clients share its connections.
    pub(crate) const PEER: Self = Self(8);
    /// All fields: the state before the first line or record.
    pub(crate) const ALL: Self = Self(15);
    /// No fields.
    pub(crate) const NONE: Self = Self(0);
    /// Headers, which may be logged in another form than they were sent.
    pub(crate) const HEADERS: Self = Self::AGENT.or(Self::REFERER);

    /// Returns the fields of either.
    pub(crate) const fn or(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Returns the fields of both.
    pub(crate) const fn and(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// Returns the fields that the other has not.
    pub(crate) const fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// Whether all the other's fields are there.
    pub(crate) const fn has(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Returns the fields that a line has.
    pub(crate) const fn of_line(line: &LoggedLine) -> Self {
        Self(
            line.user_agent.is_some() as u8
                | (line.referer.is_some() as u8) << 1
                | (line.server_port.is_some() as u8) << 2
                | (line.peer_port.is_some() as u8) << 3,
        )
    }

    /// Returns the fields that a record has.
    pub(crate) const fn of_record(event: &ExchangeEvent) -> Self {
        if !event.is_third_party {
            return Self::ALL.without(Self::PEER);
        }
        Self(
            event.user_agent.is_some() as u8
                | (event.referer.is_some() as u8) << 1
                | (event.server_port.is_some() as u8) << 2
                | (event.port.is_some() as u8) << 3,
        )
    }
}

/// The fields that lines and records of a server have. Files of a server may have different formats, and a format may
/// change: mappings are grouped by what all lines have, and a line with more fields is compared by them with each
/// mapping of its group.
pub(crate) struct ServerFields {
    /// The fields that mappings and lines are grouped by.
    key: LoggedFields,
    /// The fields of all lines up to the last review.
    lines: LoggedFields,
    /// The fields of all lines since the last review.
    recent: LoggedFields,
    /// The fields of any line.
    any: LoggedFields,
    /// The fields of all records.
    records: LoggedFields,
    /// Lines until the next review.
    review_in: u32,
    /// Sources whose headers are logged in another form than they were sent.
    distrusted: Vec<LineOrigin>,
}

impl ServerFields {
    pub(crate) const fn new() -> Self {
        Self {
            key: LoggedFields::ALL,
            lines: LoggedFields::ALL,
            recent: LoggedFields::ALL,
            any: LoggedFields::NONE,
            records: LoggedFields::ALL,
            review_in: costs::FIELDS_REVIEWED_FIRST,
            distrusted: Vec::new(),
        }
    }

    /// Returns the fields that mappings and lines are grouped by.
    pub(crate) const fn key(&self) -> LoggedFields {
        self.key
    }

    /// Learns the fields of a line; returns whether the key changes.
    pub(crate) fn take_line(&mut self, fields: LoggedFields) -> bool {
        self.recent = self.recent.and(fields);
        self.review_in -= 1;
        if fields == self.lines && self.any.has(fields) && self.review_in > 0 {
            return false;
        }
        if !self.any.has(fields) {
            // A new format: perhaps all lines have it from now on.
            self.any = self.any.or(fields);
            (self.recent, self.review_in) = (fields, costs::FIELDS_REVIEWED_FIRST);
        }
        self.lines = self.lines.and(fields);
        if self.review_in == 0 {
            (self.lines, self.any) = (self.recent, self.any.or(self.recent));
            (self.recent, self.review_in) = (LoggedFields::ALL, costs::FIELDS_REVIEWED_AFTER);
        }
        self.update()
    }

    /// Learns the fields of a record; returns whether the key changes.
    pub(crate) fn take_record(&mut self, fields: LoggedFields) -> bool {
        if self.records.and(fields) == self.records {
            return false;
        }
        self.records = self.records.and(fields);
        self.update()
    }

    /// Compares the lines of a source without headers from now on; returns whether the key changes.
    pub(crate) fn distrust_headers(&mut self, origin: LineOrigin) -> bool {
        if !self.distrusted.contains(&origin) && self.distrusted.len() < costs::ORIGINS {
            self.distrusted.push(origin);
        }
        self.update()
    }

    fn update(&mut self) -> bool {
        let mut key = self.lines.and(self.records);
        if !self.distrusted.is_empty() {
            key = key.without(LoggedFields::HEADERS);
        }
        let before = std::mem::replace(&mut self.key, key);
        before != key
    }

    /// Expects lines with these fields, too.
    pub(crate) fn expect(&mut self, fields: LoggedFields) {
        if !self.any.has(fields) {
            self.any = self.any.or(fields);
            (self.recent, self.review_in) = (LoggedFields::ALL, costs::FIELDS_REVIEWED_FIRST);
        }
    }

    /// Returns the fields that records have, and any lines.
    pub(crate) const fn compared(&self) -> LoggedFields {
        self.any.and(self.records)
    }

    /// Returns the fields beyond the key by which lines of this source are compared with single mappings.
    pub(crate) fn beyond_key(&self, origin: LineOrigin) -> LoggedFields {
        let fields = self.compared().without(self.key);
        if fields == LoggedFields::NONE || !self.distrusted.contains(&origin) {
            return fields;
        }
        fields.without(LoggedFields::HEADERS)
    }
}

/// What tells requests with the same first line apart; 0 where a line or a record has no value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RequestSignature {
    /// Hash of the User-Agent.
    agent: u32,
    /// Hash of the Referer.
    referer: u32,
    /// The server's port: several servers may share an address.
    port: u16,
    /// The balancer's port, where its connections are shared between clients.
    peer: u16,
    /// Hash of the Host, which lines may name otherwise.
    pub(crate) host: u32,
}

impl RequestSignature {
    pub(crate) fn of_held(line: &HeldLine) -> Self {
        Self {
            agent: line.user_agent.map_or(0, AgentHash::get),
            referer: line.referer.map_or(0, u32::from),
            port: line.server_port.map_or(0, u16::from),
            peer: line.peer.map_or(0, u16::from),
            host: 0,
        }
    }

    /// Whether the record names this port of the balancer, where clients share its connections.
    pub(crate) const fn has_peer(self, port: u16) -> bool {
        self.peer == port
    }

    /// Whether line and record have different values of one of the fields; a value that either lacks differs from
    /// none.
    pub(crate) fn differs(self, line: Self, fields: LoggedFields) -> bool {
        let differ = |ours: u32, other: u32| ours != other && ours != 0 && other != 0;
        fields.has(LoggedFields::AGENT) && differ(self.agent, line.agent)
            || fields.has(LoggedFields::REFERER) && differ(self.referer, line.referer)
            || fields.has(LoggedFields::PORT) && differ(self.port.into(), line.port.into())
            || fields.has(LoggedFields::PEER) && differ(self.peer.into(), line.peer.into())
    }

    pub(crate) fn of_line(line: &LoggedLine) -> Self {
        Self {
            agent: line.user_agent.unwrap_or(0),
            referer: line.referer.unwrap_or(0),
            port: line.server_port.unwrap_or(0),
            peer: line.peer_port.unwrap_or(0),
            host: 0,
        }
    }

    pub(crate) fn of_event(event: &ExchangeEvent) -> Self {
        let ExchangeEvent { user_agent, referer, server_port, port, is_third_party, .. } = *event;
        Self {
            agent: user_agent.map_or(0, u32::from),
            referer: referer.map_or(0, u32::from),
            port: server_port.map_or(0, u16::from),
            peer: port.filter(|_| is_third_party).map_or(0, u16::from),
            host: event.host.map_or(0, u32::from),
        }
    }

    /// Hashes the parts that the server's lines log.
    pub(crate) const fn hash(self, fields: LoggedFields) -> u64 {
        let agent = if fields.has(LoggedFields::AGENT) { self.agent as u64 } else { 0 };
        let referer = if fields.has(LoggedFields::REFERER) { self.referer as u64 } else { 0 };
        let port = if fields.has(LoggedFields::PORT) { self.port as u64 } else { 0 };
        let peer = if fields.has(LoggedFields::PEER) { self.peer as u64 } else { 0 };
        mix(port | peer << 16, agent << 32 | referer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const COMBINED: LoggedFields = LoggedFields::HEADERS;
    const FIRST: LineOrigin = LineOrigin(0);

    fn after(lines: &[(LoggedFields, u32)]) -> ServerFields {
        let mut fields = ServerFields::new();
        for &(line, count) in lines {
            (0..count).for_each(|_| {
                fields.take_line(line);
            });
        }
        fields
    }

    #[test]
    fn lines_are_grouped_by_what_all_have_and_compared_by_what_each_has() {
        let fields = after(&[(COMBINED, 10)]);
        assert_eq!((fields.key(), fields.beyond_key(FIRST)), (COMBINED, LoggedFields::NONE));
        let fields = after(&[(COMBINED, 10), (LoggedFields::NONE, 1)]);
        assert_eq!((fields.key(), fields.beyond_key(FIRST)), (LoggedFields::NONE, COMBINED));
    }

    #[test]
    fn a_format_that_all_lines_have_from_some_line_on_is_used() {
        let first = costs::FIELDS_REVIEWED_FIRST;
        let fields = after(&[(LoggedFields::NONE, 1_000), (COMBINED, first - 1)]);
        assert_eq!(fields.key(), LoggedFields::NONE);
        let fields = after(&[(LoggedFields::NONE, 1_000), (COMBINED, first + 1)]);
        assert_eq!(fields.key(), COMBINED);
        let later = 2 * costs::FIELDS_REVIEWED_AFTER;
        let fields = after(&[(COMBINED, 1_000), (LoggedFields::NONE, 1), (COMBINED, later)]);
        assert_eq!(fields.key(), COMBINED);
    }

    #[test]
    fn headers_of_a_source_that_logs_them_otherwise_are_not_compared() {
        let mut fields = after(&[(COMBINED, 10)]);
        assert!(fields.distrust_headers(FIRST));
        assert!(!fields.distrust_headers(FIRST));
        assert_eq!(fields.key(), LoggedFields::NONE);
        assert_eq!(fields.beyond_key(FIRST), LoggedFields::NONE);
        assert_eq!(fields.beyond_key(LineOrigin(1)), COMBINED);
    }
}
