//! All servers, and the choice of a server for each client: no socket, no clock, no lock.
//!
//! [`Pool::choose`] returns a [`ServerLease`]. The holder reports the outcome of the attempt to
//! connect with [`Pool::connected`] or [`Pool::failed`], and returns the lease with [`Pool::leave`]
//! when the connection ends. After a failure the pool chooses in the same way among the untried
//! servers, so that the clients of a failed server are spread like all clients.

mod client;
mod health;
mod policy;
mod server;
#[cfg(test)]
mod tests;

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::{Duration, Instant};

use pen_records::addr::ClientAddr;

pub use client::{Client, Clients};
pub use health::{HealthChange, LastCheck, ServerHealth};
pub use server::{PooledServer, ServerLease, Traffic};

use crate::config::{self, Endpoint, PoolServerId, RuntimeSettings, SelectionMode, SelectionModes};

/// Seed of the hash for choosing servers: constant, so that a restart changes no client's server.
const HASH_KEY: u64 = 0x0070_656e_2068_6173;

/// A client that needs a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Caller {
    /// Address of the client.
    pub addr: ClientAddr,
    /// Port of the client; 0 on a Unix-domain socket.
    pub port: u16,
    /// Whether the client access list admits it.
    pub admitted: bool,
}

/// Servers tried for one client, in order.
#[derive(Debug, Default)]
pub struct Tried(Vec<PoolServerId>);

impl Tried {
    /// Returns whether the last server is not the first choice.
    #[must_use]
    pub fn is_second_choice(&self) -> bool {
        self.0.len() > 1
    }
}

/// A chosen server.
#[derive(Debug)]
pub struct Choice {
    /// The lease, to be returned.
    pub lease: ServerLease,
    /// Address to connect to.
    pub addr: Arc<Endpoint>,
}

/// Whether the choice trusts checks that say a server is down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum CheckTrust {
    Trusted,
    Ignored,
}

/// All servers and clients.
#[derive(Debug)]
pub struct Pool {
    slots: Vec<Option<PooledServer>>,
    emergency: Option<PooledServer>,
    abuse: Option<PooledServer>,
    clients: Clients,
    modes: SelectionModes,
    blacklist: Duration,
    /// Health checks are configured.
    checking: bool,
    /// Slot of the server that was chosen last in turn.
    current: u32,
    /// Generation of the server added last. Servers with the same number differ by generation.
    lives: u64,
}

impl Pool {
    /// Creates the pool with the servers of `settings`, all of them well.
    #[must_use]
    pub fn new(settings: &RuntimeSettings) -> Self {
        let mut pool = Self {
            slots: Vec::new(),
            emergency: None,
            abuse: None,
            clients: Clients::new(settings.limits.clients, settings.timeouts.tracking),
            modes: settings.modes,
            blacklist: settings.timeouts.blacklist,
            checking: false,
            current: 0,
            lives: 0,
        };
        pool.apply(settings);
        pool
    }

    /// Applies new settings. A server with the same number and address keeps connections, counters
    /// and blacklisting; any other server is new.
    pub fn apply(&mut self, settings: &RuntimeSettings) {
        self.modes = settings.modes;
        self.blacklist = settings.timeouts.blacklist;
        self.clients.resize(settings.limits.clients, settings.timeouts.tracking);
        let mut old = std::mem::take(&mut self.slots).into_iter();
        for config in &settings.servers {
            let before = old.next().flatten();
            let state = self.renew(before, config.as_ref());
            self.slots.push(state);
        }
        let (emergency, abuse) = (self.emergency.take(), self.abuse.take());
        self.emergency = self.renew(emergency, settings.emergency.as_ref());
        self.abuse = self.renew(abuse, settings.abuse.as_ref());
        self.checking = settings.checks.check.is_some();
        if !self.checking {
            // Old results would never be corrected.
            let special = [&mut self.emergency, &mut self.abuse].into_iter();
            let all = special.chain(&mut self.slots).flatten();
            all.for_each(|state| state.health = ServerHealth::default());
        }
    }

    fn renew(
        &mut self,
        before: Option<PooledServer>,
        config: Option<&config::ServerSettings>,
    ) -> Option<PooledServer> {
        let config = config?.clone();
        match before {
            Some(state) if state.config.addr == config.addr => {
                Some(PooledServer { config, ..state })
            }
            _ => {
                self.lives += 1;
                Some(PooledServer::new(config, self.lives))
            }
        }
    }

    /// Chooses a server and takes a lease there. `permits` tells whether the access list with a
    /// number admits this client. `tried` is empty for a new client and grows with each choice.
    /// Returns `None` if no server is left.
    pub fn choose(
        &mut self,
        caller: &Caller,
        tried: &mut Tried,
        now: Instant,
        permits: impl Fn(u8) -> bool,
    ) -> Option<Choice> {
        let first = tried.0.is_empty();
        let known = if first {
            self.clients.arrive(caller.addr, now).server
        } else {
            self.clients.get_mut(caller.addr).and_then(|client| client.server)
        };
        let id = self.pick(caller, known, &tried.0, now, &permits)?;
        tried.0.push(id);
        if let PoolServerId::Slot(_) = id
            && let Some(client) = self.clients.get_mut(caller.addr)
        {
            client.server = Some(id);
        }
        let state = self.state_mut(id)?;
        state.connections += 1;
        Some(Choice { lease: ServerLease { id, life: state.life }, addr: state.addr.clone() })
    }

    fn pick(
        &mut self,
        caller: &Caller,
        known: Option<PoolServerId>,
        tried: &[PoolServerId],
        now: Instant,
        permits: &impl Fn(u8) -> bool,
    ) -> Option<PoolServerId> {
        let special = |id, state: Option<&PooledServer>| {
            let state = state?;
            let usable = !tried.contains(&id) && usable(state, false, now, permits);
            usable.then_some(id)
        };
        if !caller.admitted {
            return special(PoolServerId::Abuse, self.abuse.as_ref());
        }
        if self.modes.is_on(SelectionMode::Stubborn) && !tried.is_empty() {
            return None;
        }
        if !self.modes.is_on(SelectionMode::RoundRobin)
            && let Some(id @ PoolServerId::Slot(_)) = known
            && !tried.contains(&id)
            && self
                .state(id)
                .is_some_and(|state| !state.health.is_down() && usable(state, true, now, permits))
        {
            return Some(id);
        }
        if let Some(slot) = self.by_mode(caller, tried, now, permits, CheckTrust::Trusted) {
            return Some(PoolServerId::Slot(slot));
        }
        let emergency = special(PoolServerId::Emergency, self.emergency.as_ref());
        let is_well = self.emergency.as_ref().is_some_and(|state| !state.health.is_down());
        if let Some(id) = emergency.filter(|_| is_well) {
            return Some(id);
        }
        // If no server is well, the checks may be wrong: trying is better than refusing.
        let all_down = !self.slots.iter().flatten().any(|state| state.is_well(now));
        let slot = if all_down {
            self.by_mode(caller, tried, now, permits, CheckTrust::Ignored)
        } else {
            None
        };
        slot.map(PoolServerId::Slot).or(emergency)
    }

    fn by_mode(
        &mut self,
        caller: &Caller,
        tried: &[PoolServerId],
        now: Instant,
        permits: &impl Fn(u8) -> bool,
        checked: CheckTrust,
    ) -> Option<u32> {
        let all = (0_u32..)
            .zip(&self.slots)
            .filter_map(|(slot, state)| state.as_ref().map(|state| (slot, state)));
        let may = |slot, state: &PooledServer| {
            let down = checked == CheckTrust::Trusted && state.health.is_down();
            !down
                && !tried.contains(&PoolServerId::Slot(slot))
                && usable(state, false, now, permits)
        };
        let candidates = all.clone().filter(|&(slot, state)| may(slot, state));
        let modes = self.modes;
        if modes.is_on(SelectionMode::Prio) {
            return policy::by_priority(candidates);
        }
        if modes.is_on(SelectionMode::Weight) {
            let tied = policy::by_weight(candidates);
            return self.smooth_turn(&tied);
        }
        if modes.is_on(SelectionMode::LeastConnections) {
            let slot = policy::by_connections(candidates, self.current)?;
            self.current = slot;
            return Some(slot);
        }
        if modes.is_on(SelectionMode::Hash) {
            let port = modes.is_on(SelectionMode::RoundRobin).then_some(caller.port);
            if modes.is_on(SelectionMode::Stubborn) {
                // Its own server or none, whatever the state of that server.
                let slot = policy::by_hash(all, caller.addr, port, HASH_KEY)?;
                return self
                    .slots
                    .get(slot as usize)?
                    .as_ref()
                    .filter(|s| may(slot, s))
                    .map(|_| slot);
            }
            return policy::by_hash(candidates, caller.addr, port, HASH_KEY);
        }
        let slot = policy::in_turn(candidates, self.current)?;
        self.current = slot;
        Some(slot)
    }

    /// Chooses among equally loaded servers in a smooth weighted turn: a server gets clients in
    /// proportion to its weight, and the turns of heavy servers are spread among the turns of light
    /// servers.
    fn smooth_turn(&mut self, tied: &[u32]) -> Option<u32> {
        let mut total = 0;
        let mut best: Option<(i64, u32)> = None;
        for &slot in tied {
            let state = self.slots.get_mut(slot as usize)?.as_mut()?;
            let weight = i64::from(state.config.weight);
            total += weight;
            state.credit = state.credit.saturating_add(weight);
            if best.is_none_or(|(credit, _)| state.credit > credit) {
                best = Some((state.credit, slot));
            }
        }
        let (_, slot) = best?;
        let state = self.slots.get_mut(slot as usize)?.as_mut()?;
        state.credit = state.credit.saturating_sub(total);
        Some(slot)
    }

    /// Notes the success of the attempt with this lease.
    pub fn connected(&mut self, lease: &ServerLease) {
        if let Some(state) = self.leased(lease) {
            state.served += 1;
            state.last_failure = None;
            state.forgive();
        }
    }

    /// Notes the failure of the attempt with this lease, and blacklists the server for a while.
    #[expect(clippy::needless_pass_by_value, reason = "the lease is returned")]
    pub fn failed(&mut self, lease: ServerLease, now: Instant) {
        let until = now + self.blacklist;
        if let Some(state) = self.leased(&lease) {
            state.connections -= 1;
            state.failures += 1;
            state.last_failure = Some(now);
            state.punish(now, until);
        }
    }

    /// Returns the lease of a connection that has ended.
    #[expect(clippy::needless_pass_by_value, reason = "the lease is returned")]
    pub fn leave(&mut self, lease: ServerLease) {
        if let Some(state) = self.leased(&lease) {
            state.connections -= 1;
        }
    }

    /// Adds the bytes of a connection to the server's and the client's counts, if the client is
    /// still remembered.
    pub fn count(&mut self, lease: &ServerLease, client: ClientAddr, traffic: Traffic) {
        if let Some(state) = self.leased(lease) {
            state.traffic.to_server += traffic.to_server;
            state.traffic.to_client += traffic.to_client;
        }
        if let Some(client) = self.clients.get_mut(client) {
            client.sent += traffic.to_client;
            client.received += traffic.to_server;
        }
    }

    /// Blacklists a server for `time` from now; zero makes it available at once.
    pub fn blacklist(&mut self, id: PoolServerId, time: Duration, now: Instant) {
        if let Some(state) = self.state_mut(id) {
            state.blacklisted = (!time.is_zero()).then_some(now + time);
            state.by_order = true;
        }
    }

    /// Notes the result of a health check, unless the server has another address by now. Returns a
    /// change of health.
    pub fn checked(
        &mut self,
        id: PoolServerId,
        addr: &Endpoint,
        how: Result<(), String>,
        counts: (NonZeroU32, NonZeroU32),
        now: Instant,
    ) -> Option<HealthChange> {
        // A check that was under way when checks were turned off would never be corrected.
        let known = if self.checking { self.state_mut(id) } else { None };
        let state = known.filter(|state| state.config.addr == *addr)?;
        state.health.note(how, counts, now)
    }

    /// Returns all servers, the emergency and abuse servers last.
    pub fn servers(&self) -> impl Iterator<Item = (PoolServerId, &PooledServer)> {
        let slots = (0_u32..)
            .zip(&self.slots)
            .filter_map(|(slot, state)| Some((PoolServerId::Slot(slot), state.as_ref()?)));
        let emergency = self.emergency.as_ref().map(|state| (PoolServerId::Emergency, state));
        let abuse = self.abuse.as_ref().map(|state| (PoolServerId::Abuse, state));
        slots.chain(emergency).chain(abuse)
    }

    /// Returns the table of clients.
    #[must_use]
    pub const fn clients(&self) -> &Clients {
        &self.clients
    }

    /// Returns the slot of the server that was chosen last in turn.
    #[must_use]
    pub const fn current(&self) -> u32 {
        self.current
    }

    /// Returns the state of a server.
    #[must_use]
    pub fn state(&self, id: PoolServerId) -> Option<&PooledServer> {
        match id {
            PoolServerId::Slot(slot) => self.slots.get(slot as usize)?.as_ref(),
            PoolServerId::Emergency => self.emergency.as_ref(),
            PoolServerId::Abuse => self.abuse.as_ref(),
        }
    }

    fn state_mut(&mut self, id: PoolServerId) -> Option<&mut PooledServer> {
        match id {
            PoolServerId::Slot(slot) => self.slots.get_mut(slot as usize)?.as_mut(),
            PoolServerId::Emergency => self.emergency.as_mut(),
            PoolServerId::Abuse => self.abuse.as_mut(),
        }
    }

    fn leased(&mut self, lease: &ServerLease) -> Option<&mut PooledServer> {
        self.state_mut(lease.id).filter(|state| state.life == lease.life)
    }
}

/// Returns whether a server may be tried: neither draining nor blacklisted, not full for this
/// client, and open to the client by its access list.
fn usable(state: &PooledServer, known: bool, now: Instant, permits: &impl Fn(u8) -> bool) -> bool {
    let has_port = match &state.config.addr {
        Endpoint::Ip(addr) => addr.port() != 0,
        Endpoint::Unix(_) => true,
    };
    let open = has_port && !state.config.draining;
    open && !state.is_blacklisted(now) && !state.is_full(known) && permits(state.config.acl)
}
