//! The state of a server in the pool, and the leases that connections hold.

use std::sync::Arc;
use std::time::Instant;

use super::health::ServerHealth;
use crate::config::{self, Endpoint, PoolServerId};

/// A place at a server, taken when the server is chosen and returned exactly once: so limits hold
/// under a burst, and a count never goes astray.
#[must_use = "a lease that is not returned occupies the server for ever"]
#[derive(Debug, PartialEq, Eq)]
pub struct ServerLease {
    pub(super) id: PoolServerId,
    /// Generation of the server: another server may have the same number by now.
    pub(super) life: u64,
}

impl ServerLease {
    /// Returns the server.
    #[must_use]
    pub const fn server(&self) -> PoolServerId {
        self.id
    }
}

/// Bytes of a connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Bytes from the client to the server.
    pub to_server: u64,
    /// Bytes from the server to the client.
    pub to_client: u64,
}

/// The state of a server.
#[derive(Clone, Debug)]
pub struct PooledServer {
    /// The settings of the server.
    pub config: config::ServerSettings,
    /// Its address, shared with its connections.
    pub addr: Arc<Endpoint>,
    /// Leases held: connections, and attempts to connect.
    pub connections: u32,
    /// Connections so far.
    pub served: u64,
    /// Failed attempts so far.
    pub failures: u64,
    /// When the last attempt failed; `None` after a success.
    pub last_failure: Option<Instant>,
    /// When its blacklisting ends.
    pub blacklisted: Option<Instant>,
    /// Its health by checks.
    pub health: ServerHealth,
    /// Bytes of ended connections.
    pub traffic: Traffic,
    /// An operator has set `blacklisted`, not a failure.
    pub(super) by_order: bool,
    pub(super) life: u64,
    /// Credit in the smooth weighted turn.
    pub(super) credit: i64,
}

impl PooledServer {
    pub(super) fn new(config: config::ServerSettings, life: u64) -> Self {
        Self {
            addr: Arc::new(config.addr.clone()),
            config,
            connections: 0,
            served: 0,
            failures: 0,
            last_failure: None,
            blacklisted: None,
            health: ServerHealth::default(),
            by_order: false,
            traffic: Traffic::default(),
            life,
            credit: 0,
        }
    }

    /// Returns whether the server is up, not draining and not blacklisted. It may be full.
    #[must_use]
    pub fn is_well(&self, now: Instant) -> bool {
        !self.health.is_down() && !self.config.draining && !self.is_blacklisted(now)
    }

    /// Blacklists the server until `until` after a failed attempt, or longer if an operator has
    /// said so.
    pub(super) fn punish(&mut self, now: Instant, until: Instant) {
        self.by_order &= self.is_blacklisted(now);
        let ordered = self.blacklisted.filter(|_| self.by_order);
        self.blacklisted = ordered.max(Some(until));
    }

    /// Ends the blacklisting after a success. The attempt may have begun before another one failed,
    /// but an operator's order holds.
    pub(super) fn forgive(&mut self) {
        if !self.by_order {
            self.blacklisted = None;
        }
    }

    /// Returns whether the server is blacklisted, by a failure or an operator.
    #[must_use]
    pub fn is_blacklisted(&self, now: Instant) -> bool {
        self.blacklisted.is_some_and(|until| now < until)
    }

    /// Returns whether a limit keeps a client out. A known client may exceed the soft limit up to
    /// the hard limit.
    #[must_use]
    pub fn is_full(&self, known: bool) -> bool {
        let reached = |limit: Option<std::num::NonZeroU32>| {
            limit.is_some_and(|limit| self.connections >= limit.get())
        };
        let (soft, hard) = (self.config.soft, self.config.hard);
        reached(hard) || (reached(soft) && !(known && hard.is_some()))
    }
}
