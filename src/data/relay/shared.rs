//! State shared between workers, and with the rest of the program.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use tokio::sync::Notify;

use super::counters::RelayCounters;
use super::mailbox::{Mailbox, WorkerCommand};
use super::udp::drops::KernelDrops;
use crate::config::RuntimeSettings;
use crate::data::pool::Pool;
use crate::data::tls::Tls;
use crate::data::tls::keeper::TlsKeeper;

/// Everything that workers share. A worker takes a lock once or twice a connection, never for bytes.
#[derive(Debug)]
pub struct Shared {
    pool: Mutex<Pool>,
    settings: Mutex<Arc<RuntimeSettings>>,
    /// TLS certificates and keys.
    keeper: Arc<TlsKeeper>,
    /// Incremented with each change of settings or certificates.
    version: AtomicU64,
    /// Concurrent connections for which there are file descriptors.
    descriptors: usize,
    /// Connections now, pending connections included.
    connections: AtomicUsize,
    /// Pending connections: those being opened to a server.
    pending: AtomicUsize,
    /// A worker waits until `connections` or `pending` falls.
    waiting: AtomicBool,
    /// A worker waits, and has no handshaking client of its own to evict.
    crowded: AtomicBool,
    /// Connections so far; their numbers come from here.
    pub(super) accepted: AtomicU64,
    /// Counters for the status.
    pub counters: RelayCounters,
    mailboxes: Vec<Arc<Mailbox>>,
    /// Datagrams that the kernel dropped; empty if pen listens for none.
    drops: OnceLock<KernelDrops>,
    /// Notified at each change of settings and at the end, for the health checks.
    changed: Notify,
    /// Workers were told to stop.
    stopping: AtomicBool,
}

/// How a connection counts against the limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Occupancy {
    /// As a connection only.
    Established,
    /// As a connection and as a pending connection.
    Pending,
}

impl Shared {
    /// Creates the shared state for the workers of these mailboxes, and for as many connections as there
    /// are `descriptors` for.
    #[must_use]
    pub fn new(
        settings: RuntimeSettings,
        keeper: Arc<TlsKeeper>,
        mailboxes: Vec<Arc<Mailbox>>,
        descriptors: usize,
    ) -> Self {
        Self {
            pool: Mutex::new(Pool::new(&settings)),
            settings: Mutex::new(Arc::new(settings)),
            keeper,
            version: AtomicU64::new(0),
            descriptors,
            connections: AtomicUsize::new(0),
            pending: AtomicUsize::new(0),
            waiting: AtomicBool::new(false),
            crowded: AtomicBool::new(false),
            accepted: AtomicU64::new(0),
            counters: RelayCounters::default(),
            mailboxes,
            drops: OnceLock::new(),
            changed: Notify::new(),
            stopping: AtomicBool::new(false),
        }
    }

    /// Locks the pool of servers and clients.
    pub fn pool(&self) -> MutexGuard<'_, Pool> {
        // No operation leaves the pool half changed, even if it panics.
        self.pool.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the settings in force.
    #[must_use]
    pub fn settings(&self) -> Arc<RuntimeSettings> {
        self.settings.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Replaces the settings in force.
    pub fn change(&self, settings: RuntimeSettings) {
        self.pool().apply(&settings);
        *self.settings.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(settings);
        self.changed();
    }

    /// Has all workers and the health checks read settings and certificates again.
    pub fn changed(&self) {
        self.version.fetch_add(1, Ordering::Release);
        self.wake_all();
        self.changed.notify_one();
    }

    /// Sets the source of [`Self::kernel_drops`].
    pub(crate) fn watch_drops(&self, drops: KernelDrops) {
        self.drops.get_or_init(|| drops);
    }

    /// Returns how many datagrams the kernel has dropped at pen's ports, or `None` if there are no such ports
    /// or the kernel does not tell.
    #[must_use]
    pub fn kernel_drops(&self) -> Option<u64> {
        self.drops.get()?.count()
    }

    /// Returns the keeper of TLS certificates and keys.
    #[must_use]
    pub const fn keeper(&self) -> &Arc<TlsKeeper> {
        &self.keeper
    }

    /// Returns the TLS configuration in force.
    pub(crate) fn tls(&self) -> Arc<Tls> {
        self.keeper.tls()
    }

    pub(super) fn version(&self) -> u64 {
        self.version.load(Ordering::Acquire)
    }

    /// Returns how many connections there are, pending connections included.
    #[must_use]
    pub fn open(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }

    /// Returns how many connections there were so far.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.accepted.load(Ordering::Relaxed)
    }

    /// Returns how many concurrent connections are allowed.
    #[must_use]
    pub fn most_connections(&self, settings: &RuntimeSettings) -> usize {
        let asked = settings.limits.connections.map_or(usize::MAX, std::num::NonZeroUsize::get);
        asked.min(self.descriptors)
    }

    /// Returns whether the limit of connections is reached.
    pub(super) fn is_full(&self, settings: &RuntimeSettings) -> bool {
        self.open() >= self.most_connections(settings)
    }

    /// Asks the other workers to evict a handshaking client.
    pub(super) fn ask_for_eviction(&self) {
        if !self.crowded.swap(true, Ordering::SeqCst) {
            self.wake_all();
        }
    }

    /// Returns whether a worker has asked for an eviction.
    pub(super) fn wants_eviction(&self) -> bool {
        self.crowded.load(Ordering::SeqCst)
    }

    /// Withdraws the request for an eviction. Returns whether there was one.
    pub(super) fn take_eviction(&self) -> bool {
        self.wants_eviction() && self.crowded.swap(false, Ordering::SeqCst)
    }

    /// Counts a new flow, which is never pending. Returns `false` if the limit is reached.
    pub(super) fn enter_flow(&self, settings: &RuntimeSettings) -> bool {
        let most = self.most_connections(settings);
        let more = |count| (count < most).then_some(count + 1);
        self.connections.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).is_ok()
    }

    /// Counts a new pending connection. Returns `false` if a limit is reached: the limits hold however many
    /// workers call this at once.
    pub(super) fn enter(&self, settings: &RuntimeSettings) -> bool {
        let take = |count: &AtomicUsize, most: usize| {
            count
                .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |count| {
                    (count < most).then_some(count + 1)
                })
                .is_ok()
        };
        if !take(&self.connections, self.most_connections(settings)) {
            return false;
        }
        if !take(&self.pending, settings.limits.pending.get()) {
            self.connections.fetch_sub(1, Ordering::SeqCst);
            return false;
        }
        true
    }

    /// Counts a pending connection as established, because the connection is open or waits for its
    /// client.
    pub(super) fn established(&self) {
        self.pending.fetch_sub(1, Ordering::SeqCst);
        self.made_room();
    }

    /// Counts an established connection as pending again. Returns `false` if the limit of pending
    /// connections is reached; the worker is woken when the count falls.
    pub(super) fn enter_pending(&self, settings: &RuntimeSettings) -> bool {
        let most = settings.limits.pending.get();
        let take = || {
            let more = |count| (count < most).then_some(count + 1);
            self.pending.fetch_update(Ordering::SeqCst, Ordering::SeqCst, more).is_ok()
        };
        take() || {
            self.waiting.store(true, Ordering::SeqCst);
            // Another worker may have left before it could see `waiting`.
            take()
        }
    }

    /// Counts a connection as closed.
    pub(super) fn leave(&self, occupancy: Occupancy) {
        if occupancy == Occupancy::Pending {
            self.pending.fetch_sub(1, Ordering::SeqCst);
        }
        self.connections.fetch_sub(1, Ordering::SeqCst);
        self.made_room();
    }

    /// Asks to be woken when a connection may enter, and returns whether one may enter now.
    pub(super) fn wait_for_room(&self, settings: &RuntimeSettings) -> bool {
        self.waiting.store(true, Ordering::SeqCst);
        self.connections.load(Ordering::SeqCst) < self.most_connections(settings)
            && self.pending.load(Ordering::SeqCst) < settings.limits.pending.get()
    }

    /// Wakes the workers if a worker waits until a count falls.
    fn made_room(&self) {
        if self.waiting.load(Ordering::SeqCst) && self.waiting.swap(false, Ordering::SeqCst) {
            self.wake_all();
        }
    }

    /// Waits for a change of settings, and returns `false` at the end of the program. Only one task can wait.
    pub(crate) async fn change_or_end(&self) -> bool {
        self.changed.notified().await;
        !self.stopping.load(Ordering::Acquire)
    }

    /// Sends a command to all workers.
    pub fn tell_all(&self, command: &WorkerCommand) {
        if matches!(command, WorkerCommand::Stop { .. }) {
            self.stopping.store(true, Ordering::Release);
            self.changed.notify_one();
        }
        self.mailboxes.iter().for_each(|mailbox| mailbox.put(command.clone()));
    }

    #[cfg(test)]
    pub(crate) fn mailboxes(&self) -> &[Arc<Mailbox>] {
        &self.mailboxes
    }

    fn wake_all(&self) {
        self.mailboxes.iter().for_each(|mailbox| mailbox.wake());
    }
}
