//! What workers share with one another and with whoever runs them.

use std::fmt;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Instant;

use rustix::event::{EventfdFlags, eventfd};
use tokio::sync::Notify;
use tracing::warn;

use super::http::conversation::EditOutcome;
use super::report::ReportRequest;
use super::tcp::connection::ConnectionStage;
use super::udp::drops::KernelDrops;
use crate::config::PoolServerId;
use crate::config::{Endpoint, RuntimeSettings};
use crate::data::pool::Pool;
use crate::data::tls::Tls;
use crate::data::tls::keeper::TlsKeeper;

/// Everything that workers share. Locks are taken once or twice a connection, never for bytes.
#[derive(Debug)]
pub struct Shared {
    pool: Mutex<Pool>,
    settings: Mutex<Arc<RuntimeSettings>>,
    /// Certificates and the like.
    keeper: Arc<TlsKeeper>,
    /// Grows with each change of the settings or of certificates.
    version: AtomicU64,
    /// Connections at a time that there are descriptors for.
    descriptors: usize,
    /// Connections that are open or being opened.
    connections: AtomicUsize,
    /// Of these, those that are being opened.
    pending: AtomicUsize,
    /// Somebody has stopped accepting because of one of these two.
    waiting: AtomicBool,
    /// Somebody waits, and has no strangers of its own that could give way.
    crowded: AtomicBool,
    /// Connections so far, which is where their numbers come from.
    pub(super) accepted: AtomicU64,
    /// What happened.
    pub counters: Counters,
    mailboxes: Vec<Arc<Mailbox>>,
    /// What is lost at ports for datagrams.
    drops: OnceLock<KernelDrops>,
    /// Rings at each change of the settings, and at the end, for whoever checks servers.
    changed: Notify,
    /// Workers were told to stop.
    stopping: AtomicBool,
}

/// What happened since the start.
#[derive(Debug, Default)]
pub struct Counters {
    /// Clients that no server was found for, those that were denied aside.
    pub refused: AtomicU64,
    /// Clients that the client list denied.
    pub denied: AtomicU64,
    /// Clients that had to send a PROXY header and sent none, or a bad one.
    pub bad_headers: AtomicU64,
    /// Attempts to connect to a server that failed.
    pub failed_attempts: AtomicU64,
    /// Connections that another server than the first choice took after that.
    pub failovers: AtomicU64,
    /// Connections that ended with a reset.
    pub resets: AtomicU64,
    /// Connections that ended because nothing was said for too long.
    pub timeouts: AtomicU64,
    /// Datagrams that could not be passed on: there was no room for them, or they were too long.
    pub lost_datagrams: AtomicU64,
    /// Times that no client could be accepted, for want of descriptors or memory.
    pub accept_failures: AtomicU64,
    /// Clients that it was agreed with on how to encrypt.
    pub handshakes: AtomicU64,
    /// Clients that it was not.
    pub failed_handshakes: AtomicU64,
    /// In HTTP mode: connections with a request that was refused.
    pub http_refused: AtomicU64,
    /// In HTTP mode: connections that are none of HTTP/1.x, and passed as they were.
    pub not_http: AtomicU64,
}

impl Counters {
    /// Counts what HTTP mode had to say, and says it aloud the first time.
    pub(super) fn judged(&self, verdict: EditOutcome) {
        match verdict {
            EditOutcome::NotHttp => {
                if self.not_http.fetch_add(1, Ordering::Relaxed) == 0 {
                    warn!(
                        "a client does not speak HTTP/1.x: it passes as it is, and is told to nobody"
                    );
                }
            }
            EditOutcome::Refused(refusal) => {
                if self.http_refused.fetch_add(1, Ordering::Relaxed) == 0 {
                    warn!("a request is refused with {}: {}", refusal.status(), refusal.what());
                }
            }
        }
    }
}

impl Shared {
    /// For so many workers and connections.
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
            counters: Counters::default(),
            mailboxes,
            drops: OnceLock::new(),
            changed: Notify::new(),
            stopping: AtomicBool::new(false),
        }
    }

    /// All servers and clients.
    pub fn pool(&self) -> MutexGuard<'_, Pool> {
        // Nothing in the pool is left half-done, even by a panic.
        self.pool.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is in force.
    #[must_use]
    pub fn settings(&self) -> Arc<RuntimeSettings> {
        self.settings.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Puts other settings into force, as a whole.
    pub fn change(&self, settings: RuntimeSettings) {
        self.pool().apply(&settings);
        *self.settings.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(settings);
        self.changed();
    }

    /// Tells all workers to look at what is in force.
    pub fn changed(&self) {
        self.version.fetch_add(1, Ordering::Release);
        self.wake_all();
        self.changed.notify_one();
    }

    /// Has it counted what the kernel drops.
    pub(crate) fn watch_drops(&self, drops: KernelDrops) {
        self.drops.get_or_init(|| drops);
    }

    /// Datagrams that the kernel has dropped at our ports; `None` if there are no such ports or it does not tell.
    #[must_use]
    pub fn kernel_drops(&self) -> Option<u64> {
        self.drops.get()?.count()
    }

    /// Who keeps certificates and the like.
    #[must_use]
    pub const fn keeper(&self) -> &Arc<TlsKeeper> {
        &self.keeper
    }

    /// What TLS needs, as it is in force.
    pub(crate) fn tls(&self) -> Arc<Tls> {
        self.keeper.tls()
    }

    pub(super) fn version(&self) -> u64 {
        self.version.load(Ordering::Acquire)
    }

    /// Connections that are open or being opened.
    #[must_use]
    pub fn open(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }

    /// Connections so far.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.accepted.load(Ordering::Relaxed)
    }

    /// How many connections there may be at a time.
    #[must_use]
    pub fn most_connections(&self, settings: &RuntimeSettings) -> usize {
        let asked = settings.limits.connections.map_or(usize::MAX, std::num::NonZeroUsize::get);
        asked.min(self.descriptors)
    }

    /// Whether there are as many connections as there may be.
    pub(super) fn is_full(&self, settings: &RuntimeSettings) -> bool {
        self.open() >= self.most_connections(settings)
    }

    /// Has one of other workers' strangers give way.
    pub(super) fn ask_for_room(&self) {
        if !self.crowded.swap(true, Ordering::SeqCst) {
            self.wake_all();
        }
    }

    /// Whether that is asked for.
    pub(super) fn is_crowded(&self) -> bool {
        self.crowded.load(Ordering::SeqCst)
    }

    /// Nobody has to ask any more; whether anybody did.
    pub(super) fn had_crowd(&self) -> bool {
        self.is_crowded() && self.crowded.swap(false, Ordering::SeqCst)
    }

    /// Takes room for one more flow, which needs no opening.
    pub(super) fn enter_flow(&self, settings: &RuntimeSettings) -> bool {
        let most = self.most_connections(settings);
        let more = |count| (count < most).then_some(count + 1);
        self.connections.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).is_ok()
    }

    /// Takes room for one more connection, which begins by being opened. Never more than there is,
    /// however many workers ask at once.
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

    /// One that was being opened is open, or waits for its client.
    pub(super) fn opened(&self) {
        self.pending.fetch_sub(1, Ordering::SeqCst);
        self.made_room();
    }

    /// One that has waited for its client is to be opened. If there is no room for that, whoever asks is
    /// woken when there is.
    pub(super) fn open_now(&self, settings: &RuntimeSettings) -> bool {
        let most = settings.limits.pending.get();
        let take = || {
            let more = |count| (count < most).then_some(count + 1);
            self.pending.fetch_update(Ordering::SeqCst, Ordering::SeqCst, more).is_ok()
        };
        take() || {
            self.waiting.store(true, Ordering::SeqCst);
            // Room may have been made before anybody knew that it was waited for.
            take()
        }
    }

    /// One that has entered leaves.
    pub(super) fn leave(&self, stage: ConnectionStage) {
        if matches!(stage, ConnectionStage::Connecting | ConnectionStage::ServerHandshake) {
            self.pending.fetch_sub(1, Ordering::SeqCst);
        }
        self.connections.fetch_sub(1, Ordering::SeqCst);
        self.made_room();
    }

    /// Asks to be woken when there is room, and says whether there is by now.
    pub(super) fn wait_for_room(&self, settings: &RuntimeSettings) -> bool {
        self.waiting.store(true, Ordering::SeqCst);
        self.connections.load(Ordering::SeqCst) < self.most_connections(settings)
            && self.pending.load(Ordering::SeqCst) < settings.limits.pending.get()
    }

    /// One connection, or one that was being opened, less: whoever waits for that may go on.
    fn made_room(&self) {
        if self.waiting.load(Ordering::SeqCst) && self.waiting.swap(false, Ordering::SeqCst) {
            self.wake_all();
        }
    }

    /// Waits until the settings are others than they were when this was asked last; `false` is the end.
    /// One can wait.
    pub(crate) async fn change_or_end(&self) -> bool {
        self.changed.notified().await;
        !self.stopping.load(Ordering::Acquire)
    }

    /// Tells all workers something.
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

/// What a worker is told to do.
#[derive(Clone, Debug)]
pub enum WorkerCommand {
    /// Accept nobody any more; reset what is left at `deadline`, and leave.
    Stop {
        /// When.
        deadline: Instant,
    },
    /// Close the connection with this number, and say so.
    Close(u64, Sender<()>),
    /// Close all connections to this server, as long as it is at this address.
    CloseAll(PoolServerId, Endpoint),
    /// Say what connections there are.
    Report(ReportRequest),
    /// Panic, to see what comes of it.
    #[cfg(test)]
    Panic,
}

/// Where a worker finds its orders.
pub struct Mailbox {
    commands: Mutex<Vec<WorkerCommand>>,
    waker: OwnedFd,
}

impl Mailbox {
    /// An empty one.
    ///
    /// # Errors
    /// There are no descriptors.
    pub fn new() -> std::io::Result<Self> {
        let waker = eventfd(0, EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC)?;
        Ok(Self { commands: Mutex::new(Vec::new()), waker })
    }

    /// Leaves an order.
    pub fn put(&self, command: WorkerCommand) {
        self.commands.lock().unwrap_or_else(PoisonError::into_inner).push(command);
        self.wake();
    }

    fn wake(&self) {
        // A bell that can't be rung is ringing.
        rustix::io::write(&self.waker, &1_u64.to_ne_bytes()).unwrap_or_default();
    }

    pub(super) const fn waker(&self) -> &OwnedFd {
        &self.waker
    }

    /// Takes all orders and stops the bell.
    pub(super) fn empty(&self) -> Vec<WorkerCommand> {
        rustix::io::read(&self.waker, &mut [0_u8; 8]).unwrap_or_default();
        std::mem::take(&mut self.commands.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl fmt::Debug for Mailbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mailbox").field("bell", &self.waker).finish_non_exhaustive()
    }
}
