//! The running balancer as the [`Operator`](crate::operate::control::Operator) sees it: takes snapshots, applies settings.

use std::cmp::Reverse;
use std::ffi::OsStr;
use std::fmt;
use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use nix::fcntl::OFlag;
use pen_daemon::diagnostics;

use crate::config::PoolServerId;
use crate::config::{Endpoint, LogTarget, RuntimeSettings};
use crate::data::pool::{Client, PooledServer};
use crate::data::relay::mailbox::WorkerCommand;
use crate::data::relay::queries::{self, ask};
use crate::data::relay::report::ConnectionReport;
use crate::data::relay::shared::Shared;
use crate::data::relay::socket::{NEEDS_RIGHTS, may_be_transparent};
use crate::data::snapshot::{
    BalancerCounters, CheckSnapshot, ClientSnapshot, LimitedCount, LogSnapshot, ServerSnapshot,
    ServerStatus, Snapshot, SnapshotDetail, TlsSnapshot,
};
use crate::logs::LogControls;
use crate::logs::log_thread::LogControl;
use crate::logs::mapping_log::MappingDestination;

use crate::operate::control::DataPlane;

/// Most clients read while the pool is locked.
const CLIENTS_PER_LOCK: usize = 1_000;

/// A running balancer: the state shared with the workers, and the logs.
pub struct RunningBalancer {
    shared: Arc<Shared>,
    listen: Vec<String>,
    started: Instant,
    stop: Box<dyn Fn() + Send + Sync>,
    logs: LogControls,
}

impl fmt::Debug for RunningBalancer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RunningBalancer").field("listen", &self.listen).finish_non_exhaustive()
    }
}

impl RunningBalancer {
    /// Returns a balancer that listens on `listen`. `stop` stops the process.
    #[must_use]
    pub fn new(
        shared: Arc<Shared>,
        listen: Vec<String>,
        logs: LogControls,
        stop: Box<dyn Fn() + Send + Sync>,
    ) -> Self {
        Self { shared, listen, started: Instant::now(), stop, logs }
    }

    fn tls(&self) -> Option<TlsSnapshot> {
        let health = self.shared.keeper().health();
        let counters = &self.shared.counters;
        (health.clients || health.servers).then(|| TlsSnapshot {
            clients: health.clients,
            servers: health.servers,
            certificates: count(health.certificates),
            age: health.age,
            expires: health.expires.map(|(path, end)| (path.display().to_string(), end)),
            handshakes: counters.handshakes.load(Relaxed),
            failed: counters.failed_handshakes.load(Relaxed),
            trouble: health.warning,
        })
    }
}

/// Returns the counters of a log; `None` for a log without a target.
fn log<T>(target: Option<&OsStr>, log: &LogControl<T>) -> Option<LogSnapshot> {
    let target = target?.display().to_string();
    let counts = log.counts();
    Some(LogSnapshot {
        target,
        made: counts.made.load(Relaxed),
        written: counts.written.load(Relaxed),
        dropped: counts.overrun.load(Relaxed) + counts.failed.load(Relaxed),
        trouble: log.trouble(),
    })
}

/// Checks that a file can be opened for appending; creates the file if it does not exist.
fn try_open(path: &Path) -> Result<(), String> {
    // Opening a pipe without a reader must fail instead of waiting.
    let flags = OFlag::O_NONBLOCK.bits();
    let opened = OpenOptions::new().append(true).create(true).custom_flags(flags).open(path);
    opened.map(drop).map_err(|error| format!("cannot open {}: {error}", path.display()))
}

impl DataPlane for RunningBalancer {
    fn snapshot(&self, detail: SnapshotDetail) -> Snapshot {
        // The workers report before the pool is locked.
        let report = ask(&self.shared, detail.connections);
        let (now, shared) = (Instant::now(), &self.shared);
        let settings = shared.settings();
        let counters = &shared.counters;
        let clients = clients(shared, detail, now);
        let pool = shared.pool();
        let servers = pool.servers().map(|(id, state)| server(id, state, &report, now)).collect();
        let known = pool.clients().len();
        let current = pool.current();
        drop(pool);
        let gauge =
            |now: usize, most: usize| LimitedCount { now: count(now), most: Some(count(most)) };
        Snapshot {
            time: SystemTime::now(),
            uptime: now.saturating_duration_since(self.started),
            listen: self.listen.clone(),
            servers,
            current,
            clients_known: gauge(known, settings.limits.clients.get()),
            clients,
            connections_open: gauge(shared.open(), shared.most_connections(&settings)),
            connections: report.connections,
            counts: BalancerCounters {
                accepted: shared.total(),
                denied: counters.denied.load(Relaxed),
                unserved: counters.refused.load(Relaxed),
                failovers: counters.failovers.load(Relaxed),
                lost_datagrams: counters.lost_datagrams.load(Relaxed),
                kernel_drops: shared.kernel_drops(),
                accept_failures: counters.accept_failures.load(Relaxed),
                http_refused: counters.http_refused.load(Relaxed),
                not_http: counters.not_http.load(Relaxed),
                ended: vec![
                    ("reset", counters.resets.load(Relaxed)),
                    ("timeout", counters.timeouts.load(Relaxed)),
                    ("no PROXY header", counters.bad_headers.load(Relaxed)),
                ],
            },
            mapping_log: log(settings.log.as_ref().map(LogTarget::name), &self.logs.mappings),
            access_log: log(settings.access_log.as_deref().map(Path::as_os_str), &self.logs.access),
            tls: self.tls(),
        }
    }

    fn change(&self, settings: &RuntimeSettings) -> Result<(), String> {
        let before = self.shared.settings();
        if settings.tcp.transparent && !before.tcp.transparent {
            may_be_transparent()
                .map_err(|error| format!("transparent: {NEEDS_RIGHTS}: {error}"))?;
        }
        let keeper = self.shared.keeper();
        let certificates = keeper.prepare(&settings.tls).map_err(|error| error.to_string())?;
        let destination = MappingDestination::from(settings);
        let turns = MappingDestination::from(&*before) != destination;
        let moves = before.access_log != settings.access_log;
        if turns && let Some(LogTarget::File(path)) = &settings.log {
            try_open(path)?;
        }
        if turns {
            destination.check()?;
        }
        if moves && let Some(path) = &settings.access_log {
            try_open(path)?;
        }
        if turns {
            self.logs.mappings.set_target(destination)?;
        }
        if moves {
            self.logs.access.set_target(settings.access_log.clone())?;
        }
        certificates.into_iter().for_each(|loaded| keeper.put(loaded));
        self.shared.change(settings.clone());
        Ok(())
    }

    fn blacklist(&self, server: PoolServerId, time: Duration) {
        self.shared.pool().blacklist(server, time, Instant::now());
    }

    fn end_connections_of(&self, server: PoolServerId, time: Duration) {
        let Some(addr) = draining(&self.shared, server) else { return };
        let shared = Arc::clone(&self.shared);
        let end = move || {
            let deadline = Instant::now() + time;
            loop {
                let left = deadline.saturating_duration_since(Instant::now());
                if left.is_zero() {
                    break;
                }
                thread::park_timeout(left);
            }
            // The slot may hold another server by now, or the server may not be draining any more.
            if draining(&shared, server).as_ref() == Some(&addr) {
                shared.tell_all(&WorkerCommand::CloseAll(server, addr));
            }
        };
        // Without a thread the connections go on, as if there were no deadline.
        let _ = thread::Builder::new().name("drain".into()).spawn(end);
    }

    fn close(&self, number: u64) -> bool {
        queries::close(&self.shared, number)
    }

    fn set_debug(&self, level: u8) {
        diagnostics::set_debug(level);
    }

    fn stop(&self) {
        (self.stop)();
    }
}

fn count(count: usize) -> u64 {
    u64::try_from(count).expect("a usize fits into 64 bits")
}

/// Returns the address of a draining server; `None` for any other server.
fn draining(shared: &Shared, server: PoolServerId) -> Option<Endpoint> {
    let pool = shared.pool();
    let state = pool.state(server)?;
    state.config.draining.then(|| state.config.addr.clone())
}

fn server(
    id: PoolServerId,
    state: &PooledServer,
    report: &ConnectionReport,
    now: Instant,
) -> ServerSnapshot {
    let open = report.traffic.get(&id).copied().unwrap_or_default();
    let ago = |then: Instant| now.saturating_duration_since(then);
    let left = state.blacklisted.map(|until| until.saturating_duration_since(now));
    let how = match left.filter(|left| !left.is_zero()) {
        _ if state.config.draining => ServerStatus::Draining,
        _ if state.health.is_down() => ServerStatus::Down,
        Some(left) => ServerStatus::Blacklisted(left),
        None if state.is_full(false) => ServerStatus::Full,
        None => ServerStatus::Up,
    };
    ServerSnapshot {
        id,
        config: state.config.clone(),
        state: how,
        connections: state.connections,
        served: state.served,
        failures: state.failures,
        last_failure: state.last_failure.map(ago),
        check: state
            .health
            .last()
            .map(|last| CheckSnapshot { age: ago(last.at), wrong: last.wrong.clone() }),
        to_server: state.traffic.to_server + open.to_server,
        to_client: state.traffic.to_client + open.to_client,
    }
}

/// Returns the requested clients, the last seen first.
fn clients(shared: &Shared, detail: SnapshotDetail, now: Instant) -> Vec<ClientSnapshot> {
    let wanted = |client: &&Client| {
        let age = now.saturating_duration_since(client.last);
        detail.recent.is_none_or(|recent| age <= recent)
    };
    let mut found: Vec<Client> = Vec::new();
    if detail.clients <= CLIENTS_PER_LOCK {
        // Clients are sorted by time: the first one that is too old ends the search.
        let pool = shared.pool();
        let all = pool.clients().iter().take_while(wanted).take(detail.clients);
        found.extend(all.cloned());
    } else {
        let mut at = 0;
        loop {
            // New connections wait for the pool no longer than one batch takes.
            let pool = shared.pool();
            found.extend(pool.clients().within(at..at + CLIENTS_PER_LOCK).filter(wanted).cloned());
            at += CLIENTS_PER_LOCK;
            if at >= pool.clients().slots() {
                break;
            }
        }
        found.sort_by_key(|client| Reverse(client.last));
        found.truncate(detail.clients);
    }
    found.iter().map(|found| client(found, now)).collect()
}

fn client(client: &Client, now: Instant) -> ClientSnapshot {
    ClientSnapshot {
        addr: client.addr,
        age: now.saturating_duration_since(client.last),
        server: client.server,
        connects: client.connects,
        sent: client.sent,
        received: client.received,
    }
}
