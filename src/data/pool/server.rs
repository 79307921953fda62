//! A server of the pool: how it is doing, and the seats that are taken at it.

use std::sync::Arc;
use std::time::Instant;

use super::health::ServerHealth;
use crate::config::{self, Endpoint, PoolServerId};

/// A place at a server, taken when it is chosen and given back exactly once: so limits hold under a
/// burst, and a count never goes astray.
#[must_use = "a seat that is not given back is taken for ever"]
#[derive(Debug, PartialEq, Eq)]
pub struct ServerLease {
    pub(super) id: PoolServerId,
    /// Which server has had this number: another one may have it by now.
    pub(super) life: u64,
}

impl ServerLease {
    /// At which server.
    #[must_use]
    pub const fn server(&self) -> PoolServerId {
        self.id
    }
}

/// Bytes of a connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// From the client to the server.
    pub to_server: u64,
    /// From the server to the client.
    pub to_client: u64,
}

/// How a server is doing.
#[derive(Clone, Debug)]
pub struct ServerState {
    /// What was meant.
    pub config: config::ServerSettings,
    /// Its address, for those who keep it.
    pub addr: Arc<Endpoint>,
    /// Seats taken: connections, and those that are being opened.
    pub connections: u32,
    /// Connections so far.
    pub served: u64,
    /// Attempts that failed so far.
    pub failures: u64,
    /// When the last attempt failed.
    pub last_failure: Option<Instant>,
    /// Until when it is left alone.
    pub blacklisted: Option<Instant>,
    /// What checks say of it.
    pub health: ServerHealth,
    /// Bytes so far.
    pub traffic: Traffic,
    /// Whether that was an order, and not a failure.
    pub(super) by_order: bool,
    pub(super) life: u64,
    /// Of the smooth weighted turn among equally loaded servers.
    pub(super) credit: i64,
}

impl ServerState {
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

    /// Whether nothing is known against it. It may be full.
    #[must_use]
    pub fn is_well(&self, now: Instant) -> bool {
        !self.health.is_down() && !self.config.draining && !self.is_blacklisted(now)
    }

    /// An attempt failed: it is left alone until then, or for as long as was ordered.
    pub(super) fn punish(&mut self, now: Instant, until: Instant) {
        self.by_order &= self.is_blacklisted(now);
        let ordered = self.blacklisted.filter(|_| self.by_order);
        self.blacklisted = ordered.max(Some(until));
    }

    /// An attempt succeeded, which may have begun before another one failed, or before an order.
    pub(super) fn forgive(&mut self) {
        if !self.by_order {
            self.blacklisted = None;
        }
    }

    /// Whether it is left alone after a failure or by order.
    #[must_use]
    pub fn is_blacklisted(&self, now: Instant) -> bool {
        self.blacklisted.is_some_and(|until| now < until)
    }

    /// Whether a limit keeps a client out. A client that was here before may use the seats between
    /// the soft and the hard limit.
    #[must_use]
    pub fn is_full(&self, known: bool) -> bool {
        let reached = |limit: Option<std::num::NonZeroU32>| {
            limit.is_some_and(|limit| self.connections >= limit.get())
        };
        let (soft, hard) = (self.config.soft, self.config.hard);
        reached(hard) || (reached(soft) && !(known && hard.is_some()))
    }
}
