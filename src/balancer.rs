//! Listeners, pool and workers wired together, from the first socket to the last connection.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use tracing::{error, info, warn};

use crate::config::{Config, Endpoint, LogTarget};
use crate::files::Temporary;
use crate::mapping_log::MappingLog;
use crate::relay::shared::{Mailbox, Order, Shared};
use crate::relay::socket::Listener;
use crate::relay::worker::Worker;

/// Descriptors kept back for listeners, logs, the control port and what libraries need.
const RESERVE: u64 = 64;
/// Descriptors a connection takes.
const EACH: u64 = 2;

/// A balancer that has its addresses, and serves nobody yet.
#[derive(Debug)]
pub struct Bound {
    /// By address, one for each worker.
    listeners: Vec<Vec<Listener>>,
    files: Vec<Temporary>,
    workers: usize,
    multi_accept: u32,
}

impl Bound {
    /// Listens wherever the configuration says.
    ///
    /// # Errors
    /// Names the address that could not be had.
    pub fn bind(config: &Config) -> Result<Self, BalancerError> {
        let workers = config.workers.get();
        let mut bound = Self {
            listeners: Vec::new(),
            files: Vec::new(),
            workers,
            multi_accept: config.multi_accept.get(),
        };
        for endpoint in &config.listen {
            let listeners =
                Listener::bind(endpoint, workers, config.backlog.get(), &config.settings.tcp)
                    .map_err(|source| BalancerError {
                        deed: format!("listen at {endpoint}"),
                        source,
                    })?;
            if let Endpoint::Unix(path) = endpoint {
                // Without it the file stays, and the next start replaces it.
                bound.files.extend(Temporary::at(path));
            }
            bound.listeners.push(listeners);
        }
        Ok(bound)
    }

    /// Where it listens, with real ports.
    pub fn endpoints(&self) -> impl Iterator<Item = &Endpoint> {
        self.listeners.iter().filter_map(|each| each.first()).map(Listener::endpoint)
    }

    /// Starts to serve.
    ///
    /// # Errors
    /// There are no descriptors or no threads to be had.
    pub fn start(self, config: &Config) -> Result<Balancer, BalancerError> {
        let fail = |deed: &str| {
            let deed = deed.to_owned();
            move |source| BalancerError { deed, source }
        };
        for endpoint in self.endpoints() {
            info!("listening on {endpoint}");
        }
        let mailboxes: Vec<_> = (0..self.workers)
            .map(|_| Mailbox::new().map(Arc::new))
            .collect::<io::Result<_>>()
            .map_err(fail("start a worker"))?;
        let most = connections_for(raise_descriptors());
        let shared = Arc::new(Shared::new(config.settings.clone(), mailboxes.clone(), most));
        let target = config.settings.log.as_ref();
        let log = MappingLog::start(target, config.settings.log_format).map_err(|source| {
            let deed = match target {
                Some(LogTarget::File(path)) => format!("open {}", path.display()),
                Some(LogTarget::Collector { name, .. }) => format!("send to {name}"),
                None => "start the mapping log".to_owned(),
            };
            BalancerError { deed, source }
        })?;
        let mut by_address: Vec<_> = self.listeners.into_iter().map(Vec::into_iter).collect();
        let mut workers = Vec::with_capacity(self.workers);
        for (number, mailbox) in mailboxes.into_iter().enumerate() {
            let own = by_address.iter_mut().filter_map(Iterator::next).collect();
            let worker = Worker::new(shared.clone(), mailbox, own, self.multi_accept, log.notes())
                .map_err(fail("start a worker"))?;
            let thread = thread::Builder::new()
                .name(format!("worker {number}"))
                .spawn(move || worker.run())
                .map_err(fail("start a thread"))?;
            workers.push(thread);
        }
        Ok(Balancer { shared, workers, log, files: self.files })
    }
}

/// A balancer that serves.
#[derive(Debug)]
pub struct Balancer {
    shared: Arc<Shared>,
    workers: Vec<JoinHandle<()>>,
    log: MappingLog,
    /// Removed when this is dropped.
    files: Vec<Temporary>,
}

impl Balancer {
    /// What the workers share.
    #[must_use]
    pub const fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// Where mappings go.
    #[must_use]
    pub const fn log(&self) -> &MappingLog {
        &self.log
    }

    /// Accepts nobody any more. Connections may go on for `drain`, and are reset then.
    pub fn stop(&self, drain: Duration) {
        self.shared.tell_all(&Order::Stop { deadline: Instant::now() + drain });
    }

    /// Whether the last connection has ended after [`Self::stop`].
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.workers.iter().all(JoinHandle::is_finished)
    }

    /// Whether a thread has ended that nobody has told to, which is a fault of this program: what it had
    /// is lost, and who comes to its listener is not heard.
    #[must_use]
    pub fn has_fallen(&self) -> bool {
        self.workers.iter().any(JoinHandle::is_finished) || self.log.has_fallen()
    }

    /// Waits until [`Self::is_done`].
    pub fn join(self) {
        for worker in self.workers {
            if worker.join().is_err() {
                error!("a worker has ended before its time");
            }
        }
        self.log.finish();
        drop(self.files);
    }
}

/// Raises the limit of descriptors as far as it goes, and says how many that are.
fn raise_descriptors() -> u64 {
    let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE) else { return 1024 };
    if soft >= hard {
        return soft;
    }
    match setrlimit(Resource::RLIMIT_NOFILE, hard, hard) {
        Ok(()) => hard,
        Err(error) => {
            warn!("cannot raise the limit of descriptors from {soft} to {hard}: {error}");
            soft
        }
    }
}

fn connections_for(descriptors: u64) -> usize {
    let reserve = RESERVE.min(descriptors / 4);
    usize::try_from(((descriptors - reserve) / EACH).max(1)).unwrap_or(usize::MAX)
}

/// What could not be done.
#[derive(Debug)]
pub struct BalancerError {
    deed: String,
    source: io::Error,
}

impl fmt::Display for BalancerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot {}", self.deed)
    }
}

impl std::error::Error for BalancerError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.source)
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, SocketAddr};

    use super::*;

    #[test]
    fn a_worker_that_falls_is_noticed_and_the_others_can_be_stopped() {
        let any = Endpoint::Ip(SocketAddr::new(Ipv4Addr::LOCALHOST.into(), 0));
        let workers = std::num::NonZeroUsize::new(2).unwrap();
        let config = Config { listen: vec![any], workers, ..Config::default() };
        let balancer = Bound::bind(&config).unwrap().start(&config).unwrap();
        assert!(!balancer.has_fallen());
        balancer.shared().mailboxes()[0].put(Order::Fall);
        let deadline = Instant::now() + Duration::from_secs(20);
        while !balancer.has_fallen() {
            assert!(Instant::now() < deadline, "nobody notices");
            thread::yield_now();
        }
        balancer.stop(Duration::ZERO);
        balancer.join();
    }

    #[test]
    fn connections_are_as_many_as_there_are_descriptors_for() {
        for (descriptors, connections) in [(0, 1), (24, 9), (1024, 480), (20_000, 9_968)] {
            assert_eq!(connections_for(descriptors), connections, "{descriptors}");
        }
    }
}
