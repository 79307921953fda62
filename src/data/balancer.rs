//! Starts and stops listeners, pool, health checks, logs and workers.

use std::io;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use pen_daemon::error::{ActionError, Doing as _, of_listening};
use tracing::{error, info, warn};

use crate::config::file_io::TemporaryFile;
use crate::config::{Endpoint, LogTarget, PenConfig, TransportKind};
use crate::data::checks::watch;
use crate::data::relay::mailbox::{Mailbox, WorkerCommand};
use crate::data::relay::shared::Shared;
use crate::data::relay::socket::Listener;
use crate::data::relay::tcp::TcpWorker;
use crate::data::relay::udp::UdpWorker;
use crate::data::relay::udp::drops::KernelDrops;
use crate::data::relay::udp::port::UdpPort;
use crate::data::tls::keeper::TlsKeeper;
use crate::logs::LogControls;
use crate::logs::access_log::AccessLog;
use crate::logs::mapping_log::MappingLog;
use crate::logs::sinks::RecordSinks;

/// File descriptors reserved for logs and libraries, and 32 each for the control port, the status
/// page and health checks.
const RESERVE: u64 = 128;
/// File descriptors of a connection: one for each end.
const CONNECTION: u64 = 2;
/// File descriptors of a flow: all clients share the other end.
const FLOW: u64 = 1;

/// Listening sockets, by address; for each address one socket for each worker.
#[derive(Debug)]
enum ListenSockets {
    Stream(Vec<Vec<Listener>>),
    Udp(Vec<Vec<UdpPort>>),
}

/// A balancer with bound sockets, which serves no client yet.
#[derive(Debug)]
pub struct Bound {
    sockets: ListenSockets,
    /// With the ports that the kernel has chosen.
    endpoints: Vec<Endpoint>,
    files: Vec<TemporaryFile>,
    workers: usize,
    multi_accept: u32,
    /// Reads its files before the process gives up its rights.
    keeper: Arc<TlsKeeper>,
    /// Opened before the process gives up its rights.
    drops: Option<KernelDrops>,
}

impl Bound {
    /// Binds all addresses of the configuration, and reads certificates and keys.
    ///
    /// # Errors
    /// Names the address that cannot be bound, or the file with an error.
    pub fn bind(config: &PenConfig) -> Result<Self, ActionError> {
        let workers = config.workers.get();
        let keeper = TlsKeeper::new(&config.settings.tls).doing("set up TLS")?;
        keeper.warnings().iter().for_each(|warning| warn!("{warning}"));
        let mut bound = Self {
            sockets: match config.transport {
                TransportKind::Stream => ListenSockets::Stream(Vec::new()),
                TransportKind::Udp => ListenSockets::Udp(Vec::new()),
            },
            endpoints: Vec::new(),
            files: Vec::new(),
            workers,
            multi_accept: config.multi_accept.get(),
            keeper: Arc::new(keeper),
            drops: None,
        };
        for endpoint in &config.listen {
            let opened = bound.open(endpoint, config).map_err(|error| match endpoint {
                Endpoint::Ip(addr) => {
                    let is_stream = matches!(config.transport, TransportKind::Stream);
                    of_listening(error, addr.port(), if is_stream { "ltnp" } else { "lunp" })
                }
                Endpoint::Unix(_) => error,
            });
            opened.doing(format_args!("listen at {endpoint}"))?;
        }
        if let ListenSockets::Udp(ports) = &bound.sockets {
            bound.drops = Some(KernelDrops::at(ports.iter().flatten()));
        }
        Ok(bound)
    }

    fn open(&mut self, endpoint: &Endpoint, config: &PenConfig) -> io::Result<()> {
        match &mut self.sockets {
            ListenSockets::Stream(listeners) => {
                let (backlog, tcp) = (config.backlog.get(), &config.settings.tcp);
                let new = Listener::bind(endpoint, self.workers, backlog, tcp)?;
                self.endpoints.extend(new.first().map(|one| one.endpoint().clone()));
                if let Endpoint::Unix(path) = endpoint {
                    // If this fails, the file stays, and the next start replaces it.
                    self.files.extend(TemporaryFile::at(path));
                }
                listeners.push(new);
            }
            ListenSockets::Udp(ports) => {
                let Endpoint::Ip(addr) = endpoint else {
                    return Err(io::Error::other("expected a port for datagrams, not a path"));
                };
                let new = UdpPort::bind(*addr, self.workers)?;
                self.endpoints.extend(new.first().map(|one| Endpoint::Ip(one.addr())));
                ports.push(new);
            }
        }
        Ok(())
    }

    /// Returns the addresses, with the ports that the kernel has chosen.
    pub fn endpoints(&self) -> impl Iterator<Item = &Endpoint> {
        self.endpoints.iter()
    }

    /// Starts to serve.
    ///
    /// # Errors
    /// No file descriptor or no thread is available.
    pub fn start(self, config: &PenConfig) -> Result<Balancer, ActionError> {
        for endpoint in self.endpoints() {
            info!("listening on {endpoint}");
        }
        let mailboxes: Vec<_> = (0..self.workers)
            .map(|_| Mailbox::new().map(Arc::new))
            .collect::<io::Result<_>>()
            .doing("start a worker")?;
        let most = connections_within(raise_descriptors(), config);
        if let Some(warning) = beyond_descriptors(config, most) {
            warn!("{warning}");
        }
        let (settings, keeper) = (config.settings.clone(), self.keeper);
        let shared = Arc::new(Shared::new(settings, keeper.clone(), mailboxes.clone(), most));
        if let Some(drops) = self.drops {
            shared.watch_drops(drops);
        }
        let tell = {
            let shared = shared.clone();
            move || shared.changed()
        };
        keeper.watch(tell).doing("start a thread")?;
        let target = config.settings.log.as_ref();
        let log = MappingLog::start((&config.settings).into()).map_err(|source| {
            let action = match target {
                Some(LogTarget::File(path)) => format!("open {}", path.display()),
                Some(LogTarget::Collector { name, .. }) => format!("send to {name}"),
                None => "start the mapping log".to_owned(),
            };
            ActionError::cannot(action, source)
        })?;
        let path = config.settings.access_log.as_deref();
        let access_log = AccessLog::start(path).map_err(|source| {
            let action = match path {
                Some(path) => format!("open {}", path.display()),
                None => "start the access log".to_owned(),
            };
            ActionError::cannot(action, source)
        })?;
        let most = self.multi_accept;
        let sinks = || RecordSinks::new(&log, &access_log);
        let workers = match self.sockets {
            ListenSockets::Stream(listeners) => spawn(listeners, mailboxes, |mailbox, own| {
                let worker = TcpWorker::new(shared.clone(), mailbox, own, most, sinks())?;
                Ok(move || worker.run())
            }),
            ListenSockets::Udp(ports) => spawn(ports, mailboxes, |mailbox, own| {
                let worker = UdpWorker::new(shared.clone(), mailbox, own, most, sinks())?;
                Ok(move || worker.run())
            }),
        };
        let workers = workers.doing("start a worker")?;
        let checks =
            watch::start(shared.clone(), config.transport).doing("start to check servers")?;
        Ok(Balancer { shared, workers, checks, log, access_log, files: self.files })
    }
}

/// Starts a worker thread for each mailbox, with its socket at each address.
fn spawn<T, F: FnOnce() + Send + 'static>(
    by_address: Vec<Vec<T>>,
    mailboxes: Vec<Arc<Mailbox>>,
    worker: impl Fn(Arc<Mailbox>, Vec<T>) -> io::Result<F>,
) -> io::Result<Vec<JoinHandle<()>>> {
    let mut by_address: Vec<_> = by_address.into_iter().map(Vec::into_iter).collect();
    let mut threads = Vec::with_capacity(mailboxes.len());
    for (number, mailbox) in mailboxes.into_iter().enumerate() {
        let own = by_address.iter_mut().filter_map(Iterator::next).collect();
        let run = worker(mailbox, own)?;
        threads.push(thread::Builder::new().name(format!("worker {number}")).spawn(run)?);
    }
    Ok(threads)
}

/// A running balancer.
#[derive(Debug)]
pub struct Balancer {
    shared: Arc<Shared>,
    workers: Vec<JoinHandle<()>>,
    /// Ends at the command to stop, long before the workers may.
    checks: JoinHandle<()>,
    log: MappingLog,
    access_log: AccessLog,
    /// Removed when this is dropped.
    files: Vec<TemporaryFile>,
}

impl Balancer {
    /// Returns the state that the workers share.
    #[must_use]
    pub const fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// Returns the mapping log.
    #[must_use]
    pub const fn log(&self) -> &MappingLog {
        &self.log
    }

    /// Returns the access log.
    #[must_use]
    pub const fn access_log(&self) -> &AccessLog {
        &self.access_log
    }

    /// Returns handles to both logs, for control and status.
    #[must_use]
    pub fn logs(&self) -> LogControls {
        LogControls { mappings: self.log.control(), access: self.access_log.control() }
    }

    /// Opens the files of both logs again, for a rotation.
    pub fn reopen(&self) {
        self.log.reopen();
        self.access_log.reopen();
    }

    /// Stops accepting. Connections may go on for `drain`, and are reset then.
    pub fn stop(&self, drain: Duration) {
        self.shared.tell_all(&WorkerCommand::Stop { deadline: Instant::now() + drain });
    }

    /// Returns whether the last connection has ended after [`Self::stop`].
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.workers.iter().all(JoinHandle::is_finished)
    }

    /// Returns whether a thread has ended before the command to stop. That is a bug: connections
    /// are lost, and a listener is not served.
    #[must_use]
    pub fn has_dead_thread(&self) -> bool {
        let logs = self.log.has_ended() || self.access_log.has_ended();
        logs || self.workers.iter().any(JoinHandle::is_finished)
    }

    /// Waits until [`Self::is_done`].
    pub fn join(self) {
        for worker in self.workers.into_iter().chain([self.checks]) {
            if worker.join().is_err() {
                error!("a thread has panicked");
            }
        }
        self.shared.keeper().stop();
        self.log.finish();
        self.access_log.finish();
        drop(self.files);
    }
}

/// Raises the limit of file descriptors to the hard limit. Returns the limit.
fn raise_descriptors() -> u64 {
    let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE) else { return 1024 };
    if soft >= hard {
        return soft;
    }
    match setrlimit(Resource::RLIMIT_NOFILE, hard, hard) {
        Ok(()) => hard,
        Err(error) => {
            warn!(soft, hard, %error, "cannot raise the limit of file descriptors");
            soft
        }
    }
}

/// Returns a warning if the configuration asks for more connections than the limit of file descriptors allows.
#[must_use]
pub fn descriptor_warning(config: &PenConfig) -> Option<String> {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).ok()?;
    beyond_descriptors(config, connections_within(hard, config))
}

fn beyond_descriptors(config: &PenConfig, most: usize) -> Option<String> {
    let asked = config.settings.limits.connections.filter(|asked| asked.get() > most)?;
    Some(format!(
        "conn_max {asked}: only {most} connections fit the limit of file descriptors, so that many are served \
         (raise the limit: ulimit -n, or LimitNOFILE= in the unit)"
    ))
}

/// Returns how many connections fit a limit of file descriptors.
fn connections_within(descriptors: u64, config: &PenConfig) -> usize {
    let each = if config.transport == TransportKind::Udp { FLOW } else { CONNECTION };
    // A worker has one for each address, one for its epoll instance and one for its waker.
    let own = config.workers.get() * (config.listen.len() + 2);
    connections_for(descriptors, own as u64, each)
}

fn connections_for(descriptors: u64, own: u64, each: u64) -> usize {
    let reserve = (RESERVE + own).min(descriptors / 4);
    usize::try_from(((descriptors - reserve) / each).max(1)).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, SocketAddr};

    use pen_testing::wait_until;

    use super::*;

    #[test]
    fn a_worker_that_falls_is_noticed_and_the_others_can_be_stopped() {
        let any = Endpoint::Ip(SocketAddr::new(Ipv4Addr::LOCALHOST.into(), 0));
        let workers = std::num::NonZeroUsize::new(2).unwrap();
        let config = PenConfig { listen: vec![any], workers, ..PenConfig::default() };
        let balancer = Bound::bind(&config).unwrap().start(&config).unwrap();
        assert!(!balancer.has_dead_thread());
        balancer.shared().mailboxes()[0].put(WorkerCommand::Panic);
        wait_until("the dead worker is noticed", || balancer.has_dead_thread());
        balancer.stop(Duration::ZERO);
        balancer.join();
    }

    #[test]
    fn connections_are_as_many_as_there_are_descriptors_for() {
        for (descriptors, own, connections) in
            [(0, 6, 1), (24, 6, 9), (1024, 6, 445), (1024, 400, 384), (20_000, 64, 9_904)]
        {
            let found = connections_for(descriptors, own, CONNECTION);
            assert_eq!(found, connections, "{descriptors}, {own}");
        }
    }
}
