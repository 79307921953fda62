//! By what requests with the same first line are told apart, as far as the lines of a server have it.

use crate::attribution::line::LoggedLine;
use crate::attribution::record::ExchangeEvent;

/// What lines of a server have of what tells requests apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own, and all may be true")]
pub(crate) struct LoggedFields {
    pub(crate) agent: bool,
    pub(crate) referer: bool,
    /// Lines are known to be of a server at a port.
    pub(crate) port: bool,
    /// Lines name the balancer's port, and mappings are of a balancer that keeps connections for all clients.
    pub(crate) peer: bool,
}

impl LoggedFields {
    /// Without what may be logged in another way than it was sent.
    pub(crate) const fn without_headers(self) -> Self {
        Self { agent: false, referer: false, ..self }
    }

    /// What of it a line has, too.
    pub(crate) fn of(self, line: &LoggedLine) -> Self {
        Self {
            agent: self.agent && line.user_agent.is_some(),
            referer: self.referer && line.referer.is_some(),
            port: self.port && line.server_port.is_some(),
            peer: self.peer && line.peer_port.is_some(),
        }
    }

    /// What of it a record has, too.
    pub(crate) fn of_record(self, exchange: &ExchangeEvent) -> Self {
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

/// What tells requests with the same first line apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RequestSignature {
    /// Hashes of User-Agent and Referer.
    pub(crate) agent: u32,
    pub(crate) referer: u32,
    /// The server's port: several servers may share an address.
    pub(crate) port: u16,
    /// The balancer's own port, where it is not that of a connection which one client has.
    pub(crate) peer: u16,
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

    pub(crate) const fn of_exchange(exchange: &ExchangeEvent) -> Self {
        let ExchangeEvent { user_agent, referer, server_port, port, is_foreign, .. } = *exchange;
        let peer = if is_foreign { port } else { 0 };
        Self { agent: user_agent, referer, port: server_port, peer }
    }

    /// As far as lines of the server have it.
    pub(crate) const fn hash(self, shape: LoggedFields) -> u64 {
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
