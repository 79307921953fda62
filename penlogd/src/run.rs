//! The loop around the [`Collector`]: sockets, signals, log files, and the one clock that is read.

use std::io;
use std::path::PathBuf;
use std::process::ExitCode;
use std::task::Poll;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use pen_daemon::diagnostics::{self, ASKED, MessageTarget};
use pen_daemon::error::{ActionError, Doing as _};
use pen_daemon::logfile::{Buffering, LogFile};
use pen_daemon::process::{Detached, Settled, Stdout};
use pen_daemon::signals::{Event, Signals};
use pen_records::time::Timestamp;
use tokio::io::Interest;
use tokio::net::UdpSocket;
use tracing::{error, info, warn};

use crate::balance::Balance;
use crate::cli::{Config, Style};
use crate::collector::{Arrived, Collector};
use crate::socket::{BATCH, Batch, Listen, Listener};

/// Datagrams in one go that are a busy time: then it pays to let more of them gather.
const BUSY: usize = BATCH / 2;
/// How long they gather.
const GATHER: Duration = Duration::from_millis(5);
/// A receive buffer in which they can.
const ROOMY: usize = 4 << 20;
/// Batches in one go, before signals get their turn.
const BATCHES: usize = 64;
/// How long the socket is emptied at the end, for senders that never pause.
const DRAIN: Duration = Duration::from_secs(2);

/// Does all that the program does.
///
/// # Errors
/// Says what could not be done; nothing was left behind then.
pub fn run(config: Config) -> Result<ExitCode, ActionError> {
    if let Detached::Leave(code) = config.process.detach()? {
        return Ok(code);
    }
    let place = if config.process.background {
        MessageTarget::Background
    } else {
        MessageTarget::Foreground
    };
    diagnostics::start("penlogd", place, config.debug);
    let listeners =
        config.listen.iter().map(|&listen| bind(listen)).collect::<Result<Vec<_>, _>>()?;
    let settled = config.process.settle()?;
    let result = serve(config, listeners, &settled);
    settled.leave();
    result
}

fn serve(
    config: Config,
    listeners: Vec<Listener>,
    settled: &Settled,
) -> Result<ExitCode, ActionError> {
    let stdout = if config.log.is_some() { Stdout::Close } else { Stdout::Keep };
    let looping = Loop::new(config, listeners)?;
    runtime()?.block_on(async {
        let signals = Signals::new().doing("catch signals")?;
        let watches = looping.watches()?;
        looping.listeners.iter().for_each(say_listening);
        settled.ready(stdout)?;
        looping.run(signals, &watches).await;
        Ok(ExitCode::SUCCESS)
    })
}

/// What the loop runs on.
pub(crate) fn runtime() -> Result<tokio::runtime::Runtime, ActionError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.doing("start the runtime")
}

pub(crate) fn bind(listen: Listen) -> Result<Listener, ActionError> {
    Listener::bind(listen).map_err(|source| {
        let at = match listen {
            Listen::Everywhere(port) => format!("port {port}"),
            Listen::At(addr) => addr.to_string(),
        };
        ActionError::cannot(format_args!("listen at {at}"), source)
    })
}

pub(crate) fn say_listening(listener: &Listener) {
    info!("listening on {}", listener.addr());
    if !listener.is_buffer_granted() {
        warn!(
            "the receive buffer of {} is {} KiB, 32 MiB were asked for: raise net.core.rmem_max or \
             grant CAP_NET_ADMIN, or bursts are lost",
            listener.addr(),
            listener.buffer() / 1024
        );
    }
}

fn open(path: Option<PathBuf>, buffering: Buffering, bound: usize) -> Result<LogFile, ActionError> {
    match path {
        Some(path) => {
            LogFile::open(&path, buffering, bound).doing(format_args!("open {}", path.display()))
        }
        None => LogFile::stdout(buffering, bound).doing("use the standard output"),
    }
}

/// The wall clock at the start, and a steady one since: nothing goes back when somebody sets the time.
struct Clock {
    epoch: Timestamp,
    start: Instant,
}

impl Clock {
    fn new() -> Self {
        let epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self { epoch: Timestamp::from_micros(0) + epoch, start: Instant::now() }
    }

    fn timestamp(&self, now: Instant) -> Timestamp {
        self.epoch + now.saturating_duration_since(self.start)
    }

    fn instant(&self, at: Timestamp) -> Instant {
        let micros = u64::try_from(at.micros_since(self.epoch)).unwrap_or(0);
        self.start + Duration::from_micros(micros)
    }
}

/// Lets datagrams gather. Not a wait of the runtime's: that would be woken by each of them, which
/// costs more than receiving it.
#[expect(clippy::disallowed_methods, reason = "what is waited for is that time passes")]
fn gather() {
    std::thread::sleep(GATHER);
}

/// When to receive again.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Next {
    /// When something comes.
    Wait,
    /// In a moment, when more has come.
    Gather,
    /// At once: something is left.
    Again,
}

/// Who tells the loop what to do.
pub(crate) trait Orders {
    /// The next order. Safe to drop half-way.
    async fn next(&mut self) -> Event;
}

impl Orders for Signals {
    async fn next(&mut self) -> Event {
        self.next().await
    }
}

/// Receives, decides and writes until it is told to stop.
pub(crate) struct Loop {
    clock: Clock,
    collector: Collector,
    batch: Batch,
    pub(crate) listeners: Vec<Listener>,
    may_gather: bool,
    /// When the sockets were last known to be empty; `None` if what comes is received at once.
    looked: Option<Timestamp>,
    log: LogFile,
    explain: Option<LogFile>,
    style: Style,
}

impl Loop {
    /// One that writes where the configuration says.
    pub(crate) fn new(config: Config, listeners: Vec<Listener>) -> Result<Self, ActionError> {
        let Config { log, buffering, explain, report: style, log_bytes, mut settings, .. } = config;
        let log = open(log, buffering, log_bytes)?;
        let explain = match explain {
            Some(path) => Some(open(Some(path), buffering, log_bytes)?),
            None => None,
        };
        let buffer = listeners.iter().map(Listener::buffer).min().unwrap_or_default();
        settings.window = u32::try_from(buffer / 2).unwrap_or(u32::MAX);
        Ok(Self {
            clock: Clock::new(),
            collector: Collector::new(settings),
            batch: Batch::default(),
            may_gather: buffer >= ROOMY,
            looked: None,
            listeners,
            log,
            explain,
            style,
        })
    }

    /// The sockets as the runtime sees them; it must be there.
    pub(crate) fn watches(&self) -> Result<Vec<UdpSocket>, ActionError> {
        let watches: io::Result<_> = self.listeners.iter().map(Listener::watch).collect();
        watches.doing("watch the sockets")
    }

    /// Works until it is told to stop, and writes what is left.
    pub(crate) async fn run(mut self, mut orders: impl Orders, watches: &[UdpSocket]) {
        self.work(&mut orders, watches).await;
        self.finish();
    }

    async fn work(&mut self, orders: &mut impl Orders, watches: &[UdpSocket]) {
        let mut next = Next::Wait;
        loop {
            if next != Next::Wait {
                if next == Next::Gather {
                    gather();
                }
                // So that the runtime sees signals although there always is something to do.
                tokio::task::yield_now().await;
            }
            let due = self.next_due();
            let receive = tokio::select! {
                biased;
                event = orders.next() => {
                    match event {
                        Event::Stop => return,
                        Event::Report => self.report(),
                        Event::Reopen => self.reopen(),
                    }
                    // Orders without end must not keep datagrams waiting.
                    true
                }
                () = std::future::ready(()), if next != Next::Wait => true,
                () = readable(watches), if next == Next::Wait => true,
                () = sleep_until(due) => false,
            };
            if receive {
                next = self.receive();
            }
            self.settle();
            if self.log.is_closed() {
                info!("nobody reads the standard output any more: leaving");
                return;
            }
        }
    }

    /// Receives until nothing is there, or until others must have their turn.
    fn receive(&mut self) -> Next {
        let (mut total, mut more) = (0, false);
        for index in 0..self.listeners.len() {
            for turn in 1..=BATCHES {
                let count = self.receive_batch(index);
                total += count;
                if count < BATCH {
                    break;
                }
                more |= turn == BATCHES;
                self.settle();
            }
        }
        match more {
            true => Next::Again,
            false if self.may_gather && total >= BUSY => {
                self.looked = Some(self.clock.timestamp(Instant::now()));
                Next::Gather
            }
            false => {
                self.looked = None;
                Next::Wait
            }
        }
    }

    fn receive_batch(&mut self, index: usize) -> usize {
        let now = self.clock.timestamp(Instant::now());
        let arrived = Arrived { after: self.looked.unwrap_or(now), by: now };
        let (collector, batch) = (&mut self.collector, &mut self.batch);
        let result = batch.receive(&mut self.listeners[index], |listener, from, datagram| {
            if let Some(answer) = collector.receive(from, datagram, arrived) {
                listener.answer(from, &answer);
            }
        });
        match result {
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => 0,
            // A datagram's checksum, an interruption, a moment without memory: the next call tells.
            Err(error) => {
                tracing::debug!("cannot receive: {error}");
                0
            }
        }
    }

    /// Writes what is decided by now.
    fn settle(&mut self) {
        let now = Instant::now();
        let explain = self.explain.as_mut().map(LogFile::buffer);
        self.collector.decide(self.clock.timestamp(now), self.log.buffer(), explain);
        self.log.settle(now);
        if let Some(explain) = &mut self.explain {
            explain.settle(now);
        }
    }

    fn reopen(&mut self) {
        let now = Instant::now();
        self.log.reopen(now);
        if let Some(explain) = &mut self.explain {
            explain.reopen(now);
        }
    }

    fn next_due(&self) -> Option<Instant> {
        let decide = self.collector.next_due().map(|due| self.clock.instant(due));
        let explain = self.explain.as_ref().and_then(LogFile::next_due);
        [decide, self.log.next_due(), explain].into_iter().flatten().min()
    }

    fn balance(&mut self) -> Balance {
        let kernel_drops = self.listeners.iter_mut().map(Listener::drops).sum();
        Balance { log: self.log.counts(), kernel_drops, ..self.collector.balance() }
    }

    fn report(&mut self) {
        let balance = self.balance();
        match self.style {
            Style::Text => {
                balance.to_string().lines().for_each(|line| info!(target: ASKED, "{line}"));
            }
            Style::Json => info!(target: ASKED, "{}", balance.json()),
        }
        if !balance.adds_up() {
            error!(target: ASKED, "the balance does not add up: this is a fault of penlogd");
        }
    }

    /// Takes what the sockets still hold, decides and writes all of it.
    fn finish(&mut self) {
        let until = Instant::now() + DRAIN;
        for index in 0..self.listeners.len() {
            while self.receive_batch(index) > 0 && Instant::now() < until {
                self.settle();
            }
        }
        let now = Instant::now();
        let explain = self.explain.as_mut().map(LogFile::buffer);
        self.collector.finish(self.clock.timestamp(now), self.log.buffer(), explain);
        self.log.finish(now);
        if let Some(explain) = &mut self.explain {
            explain.finish(now);
        }
        self.report();
    }
}

/// Waits until any of the sockets can be read.
async fn readable(watches: &[UdpSocket]) {
    std::future::poll_fn(|context| {
        for watch in watches {
            if watch.poll_recv_ready(context).is_ready() {
                // All that is there is read before the next wait, and what comes later is an event
                // of its own: so the runtime may forget this one.
                let forget = || Err::<(), _>(io::ErrorKind::WouldBlock.into());
                watch.try_io(Interest::READABLE, forget).unwrap_or_default();
                return Poll::Ready(());
            }
        }
        Poll::Pending
    })
    .await;
}

async fn sleep_until(due: Option<Instant>) {
    match due {
        Some(due) => tokio::time::sleep_until(due.into()).await,
        None => std::future::pending().await,
    }
}
