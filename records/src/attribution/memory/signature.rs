//! What tells requests with the same first line apart, as far as the lines of a server log it.

use crate::attribution::line::LoggedLine;
use crate::attribution::record::ExchangeEvent;
use crate::hash::mix;

/// Which parts of a [`RequestSignature`] the lines and records of a server have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "four independent facts, and all may be true")]
pub(crate) struct LoggedFields {
    /// The User-Agent.
    pub(crate) agent: bool,
    /// The Referer.
    pub(crate) referer: bool,
    /// The server's port.
    pub(crate) port: bool,
    /// The balancer's port, where clients share its connections.
    pub(crate) peer: bool,
}

impl LoggedFields {
    /// All fields: the state before the first line or record.
    pub(crate) const ALL: Self = Self { agent: true, referer: true, port: true, peer: true };

    /// Returns the fields without headers, which may be logged in another form than they were sent.
    pub(crate) const fn without_headers(self) -> Self {
        Self { agent: false, referer: false, ..self }
    }

    /// Returns the fields that the line has, too.
    pub(crate) fn of_line(self, line: &LoggedLine) -> Self {
        Self {
            agent: self.agent && line.user_agent.is_some(),
            referer: self.referer && line.referer.is_some(),
            port: self.port && line.server_port.is_some(),
            peer: self.peer && line.peer_port.is_some(),
        }
    }

    /// Returns the fields that the record has, too.
    pub(crate) fn of_record(self, event: &ExchangeEvent) -> Self {
        if !event.is_third_party {
            return Self { peer: false, ..self };
        }
        Self {
            agent: self.agent && event.user_agent.is_some(),
            referer: self.referer && event.referer.is_some(),
            port: self.port && event.server_port.is_some(),
            peer: self.peer && event.port.is_some(),
        }
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
}

impl RequestSignature {
    pub(crate) fn of_line(line: &LoggedLine) -> Self {
        Self {
            agent: line.user_agent.unwrap_or(0),
            referer: line.referer.unwrap_or(0),
            port: line.server_port.unwrap_or(0),
            peer: line.peer_port.unwrap_or(0),
        }
    }

    pub(crate) fn of_event(event: &ExchangeEvent) -> Self {
        let ExchangeEvent { user_agent, referer, server_port, port, is_third_party, .. } = *event;
        Self {
            agent: user_agent.map_or(0, u32::from),
            referer: referer.map_or(0, u32::from),
            port: server_port.map_or(0, u16::from),
            peer: port.filter(|_| is_third_party).map_or(0, u16::from),
        }
    }

    /// Hashes the parts that the server's lines log.
    pub(crate) const fn hash(self, fields: LoggedFields) -> u64 {
        let agent = if fields.agent { self.agent as u64 } else { 0 };
        let referer = if fields.referer { self.referer as u64 } else { 0 };
        let port = if fields.port { self.port as u64 } else { 0 };
        let peer = if fields.peer { self.peer as u64 } else { 0 };
        mix(port | peer << 16, agent << 32 | referer)
    }
}
