//! The thread that checks: each server in its turn, many at a time, and no connection waits for it.

use std::collections::BTreeMap;
use std::hash::{BuildHasher as _, RandomState};
use std::io;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use tokio::task::JoinSet;
use tracing::{info, warn};

use super::Checks;
use super::probe::{Probe, Unwell};
use crate::config::{Endpoint, Server, Settings, Transport};
use crate::data::pool::{ServerId, Turn};
use crate::data::relay::shared::Shared;

/// Checks at a time: each takes a descriptor.
const MOST: usize = 32;
/// How far apart the first checks are at most.
const SPREAD: Duration = Duration::from_secs(1);

/// Starts the thread. It ends when workers are told to stop.
///
/// # Errors
/// There is no thread to be had, or no descriptor.
pub fn start(shared: Arc<Shared>, transport: Transport) -> io::Result<JoinHandle<()>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let watch = Watch {
        shared,
        transport,
        turns: BTreeMap::new(),
        probes: JoinSet::new(),
        random: RandomState::new(),
        count: 0,
    };
    thread::Builder::new().name("checks".into()).spawn(move || runtime.block_on(watch.run()))
}

/// When a server is checked next.
#[derive(Debug)]
struct Due {
    addr: Endpoint,
    /// `None` while it is being checked.
    at: Option<Instant>,
}

/// How one is.
struct Checked {
    id: ServerId,
    addr: Endpoint,
    how: Result<(), Unwell>,
}

struct Watch {
    shared: Arc<Shared>,
    transport: Transport,
    turns: BTreeMap<ServerId, Due>,
    probes: JoinSet<Checked>,
    random: RandomState,
    count: u64,
}

impl Watch {
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

    /// Begins to check whoever is due, and says when the next one is.
    fn begin(&mut self, settings: &Arc<Settings>) -> Option<Instant> {
        let Some(check) = &settings.checks.check else {
            self.turns.clear();
            return None;
        };
        let (now, tls) = (Instant::now(), self.shared.tls());
        self.renew(settings, now);
        let mut next = None;
        for (&id, turn) in &mut self.turns {
            let Some(at) = turn.at else { continue };
            if at > now || self.probes.len() >= MOST {
                // One that waits for others is looked at when one of those has ended.
                next = [next, (at > now).then_some(at)].into_iter().flatten().min();
                continue;
            }
            turn.at = None;
            let Some(server) = server(settings, id) else { continue };
            let (addr, settings) = (turn.addr.clone(), settings.clone());
            let probe = Probe {
                check: check.clone(),
                server,
                tls: tls.servers.clone(),
                transport: self.transport,
                time: settings.checks.timeout,
            };
            self.probes.spawn(async move {
                let how = probe.ask(&settings).await;
                Checked { id, addr, how }
            });
        }
        next
    }

    /// Takes over who there is by now.
    fn renew(&mut self, settings: &Settings, now: Instant) {
        let servers: BTreeMap<_, _> =
            settings.all_servers().map(|(id, server)| (id, &server.addr)).collect();
        self.turns.retain(|id, turn| servers.get(id).is_some_and(|addr| **addr == turn.addr));
        let spread = SPREAD.min(settings.checks.interval);
        for (id, addr) in servers {
            if !self.turns.contains_key(&id) {
                let at = Some(now + spread.mul_f64(self.chance()));
                self.turns.insert(id, Due { addr: addr.clone(), at });
            }
        }
    }

    fn note(&mut self, Checked { id, addr, how }: Checked, checks: &Checks) {
        // A tenth more or less, so that balancers that began together do not ask together.
        let wait = checks.interval.mul_f64(0.9 + 0.2 * self.chance());
        let Some(turn) = self.turns.get_mut(&id).filter(|turn| turn.addr == addr) else { return };
        turn.at = Some(Instant::now() + wait);
        let how = how.map_err(|why| why.to_string());
        let why = how.clone().err();
        let counts = (checks.rise, checks.fall);
        let turned = self.shared.pool().checked(id, &addr, how, counts, Instant::now());
        match (turned, why) {
            (Some(Turn::Down), Some(why)) => warn!("{addr} is down: {why}"),
            (Some(Turn::Up), _) => info!("{addr} is up again"),
            _ => {}
        }
    }

    /// From 0 to 1.
    fn chance(&mut self) -> f64 {
        self.count += 1;
        // The standard library seeds it from the system's random numbers.
        let bits = self.random.hash_one(self.count) >> 32;
        f64::from(u32::try_from(bits).unwrap_or_default()) / f64::from(u32::MAX)
    }
}

fn server(settings: &Settings, id: ServerId) -> Option<Server> {
    settings.all_servers().find(|(found, _)| *found == id).map(|(_, server)| server.clone())
}
