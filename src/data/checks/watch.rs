//! The health check thread: checks each server at intervals, many servers at a time. Connections
//! never wait for a check.

use std::collections::BTreeMap;
use std::hash::{BuildHasher as _, RandomState};
use std::io;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use tokio::task::JoinSet;
use tracing::{info, warn};

use super::probe::{Probe, ProbeError};
use crate::config::PoolServerId;
use crate::config::checks::CheckSettings;
use crate::config::{Endpoint, RuntimeSettings, ServerSettings, TransportKind};
use crate::data::pool::HealthChange;
use crate::data::relay::shared::Shared;

/// Limit of simultaneous checks: each needs a descriptor.
const MOST: usize = 32;
/// Longest spread of the first checks.
const SPREAD: Duration = Duration::from_secs(1);

/// Starts the thread. It ends when the workers are told to stop.
///
/// # Errors
/// No thread or no descriptor is left.
pub fn start(shared: Arc<Shared>, transport: TransportKind) -> io::Result<JoinHandle<()>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let watch = CheckWatch {
        shared,
        transport,
        schedule: BTreeMap::new(),
        probes: JoinSet::new(),
        random: RandomState::new(),
        count: 0,
    };
    thread::Builder::new().name("checks".into()).spawn(move || runtime.block_on(watch.run()))
}

/// When a server is checked next.
#[derive(Debug)]
struct NextCheck {
    addr: Endpoint,
    /// `None` during a check.
    at: Option<Instant>,
}

/// State of a checked server.
struct CheckResult {
    id: PoolServerId,
    addr: Endpoint,
    outcome: Result<(), ProbeError>,
}

struct CheckWatch {
    shared: Arc<Shared>,
    transport: TransportKind,
    schedule: BTreeMap<PoolServerId, NextCheck>,
    probes: JoinSet<CheckResult>,
    random: RandomState,
    count: u64,
}

impl CheckWatch {
    async fn run(mut self) {
        let shared = self.shared.clone();
        loop {
            let settings = shared.settings();
            let next = self.begin(&settings);
            let sleep = async {
                match next {
                    Some(at) => tokio::time::sleep_until(at.into()).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                goes_on = shared.change_or_end() => {
                    if !goes_on {
                        return;
                    }
                }
                Some(checked) = self.probes.join_next(), if !self.probes.is_empty() => {
                    if let Ok(checked) = checked {
                        self.note(checked, &settings.checks);
                    }
                }
                () = sleep => {}
            }
        }
    }

    /// Starts all due checks. Returns when the next check is due.
    fn begin(&mut self, settings: &Arc<RuntimeSettings>) -> Option<Instant> {
        let Some(check) = &settings.checks.check else {
            self.schedule.clear();
            return None;
        };
        let (now, tls) = (Instant::now(), self.shared.tls());
        self.renew(settings, now);
        let mut next = None;
        for (&id, entry) in &mut self.schedule {
            let Some(at) = entry.at else { continue };
            if at > now || self.probes.len() >= MOST {
                // Checks beyond the limit start when a running one has ended.
                next = [next, (at > now).then_some(at)].into_iter().flatten().min();
                continue;
            }
            entry.at = None;
            let Some(server) = server(settings, id) else { continue };
            let (addr, settings) = (entry.addr.clone(), settings.clone());
            let probe = Probe {
                check: check.clone(),
                server,
                tls: tls.servers.clone(),
                transport: self.transport,
                time: settings.checks.timeout,
            };
            self.probes.spawn(async move {
                let outcome = probe.ask(&settings).await;
                CheckResult { id, addr, outcome }
            });
        }
        next
    }

    /// Updates the list of servers from the pool.
    fn renew(&mut self, settings: &RuntimeSettings, now: Instant) {
        let servers: BTreeMap<_, _> =
            settings.all_servers().map(|(id, server)| (id, &server.addr)).collect();
        self.schedule.retain(|id, entry| servers.get(id).is_some_and(|addr| **addr == entry.addr));
        let spread = SPREAD.min(settings.checks.interval);
        for (id, addr) in servers {
            if !self.schedule.contains_key(&id) {
                let at = Some(now + spread.mul_f64(self.chance()));
                self.schedule.insert(id, NextCheck { addr: addr.clone(), at });
            }
        }
    }

    fn note(&mut self, CheckResult { id, addr, outcome }: CheckResult, checks: &CheckSettings) {
        // Varies by a tenth, so that several balancers do not check at the same moment.
        let wait = checks.interval.mul_f64(0.9 + 0.2 * self.chance());
        let Some(entry) = self.schedule.get_mut(&id).filter(|entry| entry.addr == addr) else {
            return;
        };
        entry.at = Some(Instant::now() + wait);
        let outcome = outcome.map_err(|why| why.to_string());
        let why = outcome.clone().err();
        let counts = (checks.rise, checks.fall);
        let changed = self.shared.pool().checked(id, &addr, outcome, counts, Instant::now());
        match (changed, why) {
            (Some(HealthChange::Down), Some(why)) => warn!(server = %addr, "server is down: {why}"),
            (Some(HealthChange::Up), _) => info!(server = %addr, "server is up again"),
            _ => {}
        }
    }

    /// Returns a random number from 0 to 1.
    fn chance(&mut self) -> f64 {
        self.count += 1;
        // The standard library seeds it from the system's random numbers.
        let bits = self.random.hash_one(self.count) >> 32;
        f64::from(u32::try_from(bits).unwrap_or_default()) / f64::from(u32::MAX)
    }
}

fn server(settings: &RuntimeSettings, id: PoolServerId) -> Option<ServerSettings> {
    settings.all_servers().find(|(found, _)| *found == id).map(|(_, server)| server.clone())
}
