//! The loop around the [`Collector`]: sockets, signals, log files, and the only clock that is read.

use std::io;
use std::process::ExitCode;
use std::task::Poll;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use pen_daemon::diagnostics::{self, ASKED, MessageTarget};
use pen_daemon::error::{ActionError, Doing as _, of_listening};
use pen_daemon::process::{Detached, Settled, Stdout};
use pen_daemon::signals::{Event, Signals};
use pen_records::shipment::DiscoveryQuestion;
use pen_records::time::Timestamp;
use tokio::io::Interest;
use tokio::net::UdpSocket;
use tracing::{error, info, warn};

use crate::cli::{CollectorConfig, ReportFormat};
use crate::collector::{ArrivalTime, Collector};
use crate::held_answers::HeldAnswer;
use crate::output::Output;
use crate::report::CollectorReport;
use crate::socket::{BATCH, DatagramBatch, ListenTarget, UdpListener};

/// Datagrams received in one go from which on the loop lets more gather before it receives again.
const BUSY: usize = BATCH / 2;
/// How long datagrams gather.
const GATHER: Duration = Duration::from_millis(5);
/// Smallest receive buffer, in bytes, for which datagrams may gather.
const ROOMY: usize = 4 << 20;
/// Batches received in one go before signals are handled.
const BATCHES: usize = 64;
/// How long sockets are emptied at the end if senders never pause.
const DRAIN: Duration = Duration::from_secs(2);

/// Runs the collector from start to end.
///
/// # Errors
/// Names the action that failed. Nothing is left behind then.
pub fn run(config: CollectorConfig) -> Result<ExitCode, ActionError> {
    if let Detached::Leave(code) = config.process.detach()? {
        return Ok(code);
    }
    let target = if config.process.background {
        MessageTarget::Background
    } else {
        MessageTarget::Foreground
    };
    diagnostics::start("penlogd", target, config.debug);
    config.remarks.iter().for_each(|remark| info!("{remark}"));
    let listeners =
        config.listen.iter().map(|&listen| bind(listen)).collect::<Result<Vec<_>, _>>()?;
    let settled = config.process.settle()?;
    let result = serve(config, listeners, &settled);
    settled.leave();
    result
}

fn serve(
    config: CollectorConfig,
    listeners: Vec<UdpListener>,
    settled: &Settled,
) -> Result<ExitCode, ActionError> {
    let stdout = if config.output.log.is_some() { Stdout::Close } else { Stdout::Keep };
    let collector_loop = CollectorLoop::new(config, listeners)?;
    runtime()?.block_on(async {
        let signals = Signals::new().doing("catch signals")?;
        let watches = collector_loop.watches()?;
        collector_loop.listeners.iter().for_each(say_listening);
        settled.ready(stdout)?;
        collector_loop.run(signals, &watches).await;
        Ok(ExitCode::SUCCESS)
    })
}

/// Builds the single-threaded runtime of the loop.
pub(crate) fn runtime() -> Result<tokio::runtime::Runtime, ActionError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.doing("start the runtime")
}

pub(crate) fn bind(listen: ListenTarget) -> Result<UdpListener, ActionError> {
    UdpListener::bind(listen).map_err(|source| {
        let at = match listen {
            ListenTarget::Everywhere(port) => format!("port {port}"),
            ListenTarget::At(addr) => addr.to_string(),
        };
        let port = match listen {
            ListenTarget::Everywhere(port) => port,
            ListenTarget::At(addr) => addr.port(),
        };
        let source = of_listening(source, port, "lunp");
        ActionError::cannot(format_args!("listen at {at}"), source)
    })
}

pub(crate) fn say_listening(listener: &UdpListener) {
    info!("listening on {}", listener.addr());
    if !listener.is_buffer_granted() {
        warn!(
            "the receive buffer of {} is {} KiB instead of 32 MiB, so bursts may be lost: raise \
             net.core.rmem_max or grant CAP_NET_ADMIN",
            listener.addr(),
            listener.buffer() / 1024
        );
    }
}

/// Wall clock time at the start plus a monotonic clock since: setting the system's time has no effect.
struct SteadyClock {
    epoch: Timestamp,
    start: Instant,
}

impl SteadyClock {
    /// A clock that shows no time before `least`.
    fn new(least: Option<Timestamp>) -> Self {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let epoch = Timestamp::from_micros(0) + now;
        Self { epoch: least.map_or(epoch, |least| epoch.max(least)), start: Instant::now() }
    }

    fn timestamp(&self, now: Instant) -> Timestamp {
        self.epoch + now.saturating_duration_since(self.start)
    }

    fn instant(&self, at: Timestamp) -> Instant {
        let micros = u64::try_from(at.micros_since(self.epoch)).unwrap_or(0);
        self.start + Duration::from_micros(micros)
    }
}

/// Lets datagrams gather. A blocking sleep: the runtime would wake at each datagram, which costs more than receiving it.
#[expect(clippy::disallowed_methods, reason = "what is waited for is that time passes")]
fn gather() {
    std::thread::sleep(GATHER);
}

/// When to receive again.
#[derive(Clone, Copy, PartialEq, Eq)]
enum NextReceive {
    /// When a datagram arrives.
    Wait,
    /// After [`GATHER`], when more datagrams have arrived.
    Gather,
    /// At once: datagrams are left.
    Again,
}

/// Source of the events that steer the loop: signals, or the owner of an embedded collector.
pub(crate) trait LoopEvents {
    /// Waits for the next event. Cancel-safe.
    async fn next(&mut self) -> Event;
}

impl LoopEvents for Signals {
    async fn next(&mut self) -> Event {
        self.next().await
    }
}

/// Receives, decides and writes until it is told to stop.
pub(crate) struct CollectorLoop {
    clock: SteadyClock,
    collector: Collector,
    batch: DatagramBatch,
    pub(crate) listeners: Vec<UdpListener>,
    may_gather: bool,
    /// When the sockets were last empty; `None` if each datagram is received as soon as it arrives.
    looked: Option<Timestamp>,
    output: Output,
    style: ReportFormat,
}

impl CollectorLoop {
    /// Opens the log files of the configuration.
    pub(crate) fn new(
        config: CollectorConfig,
        listeners: Vec<UdpListener>,
    ) -> Result<Self, ActionError> {
        let CollectorConfig { report: style, output, mut settings, .. } = config;
        info!(
            "limits by --memory: {} servers, {} shippers, {} balancers",
            settings.servers, settings.senders, settings.balancers
        );
        let buffer = listeners.iter().map(UdpListener::buffer).min().unwrap_or_default();
        settings.window = u32::try_from(buffer / 2).unwrap_or(u32::MAX);
        let mut collector = Collector::new(settings);
        let (output, last) = Output::open(output, &mut collector)?;
        Ok(Self {
            clock: SteadyClock::new(last),
            collector,
            batch: DatagramBatch::default(),
            may_gather: buffer >= ROOMY,
            looked: None,
            listeners,
            output,
            style,
        })
    }

    /// Registers the sockets with the current runtime.
    pub(crate) fn watches(&self) -> Result<Vec<UdpSocket>, ActionError> {
        let watches: io::Result<_> = self.listeners.iter().map(UdpListener::watch).collect();
        watches.doing("watch the sockets")
    }

    /// Works until a stop event, then writes what is left.
    pub(crate) async fn run(mut self, mut events: impl LoopEvents, watches: &[UdpSocket]) {
        self.work(&mut events, watches).await;
        self.finish();
    }

    async fn work(&mut self, events: &mut impl LoopEvents, watches: &[UdpSocket]) {
        let mut next = NextReceive::Wait;
        loop {
            if next != NextReceive::Wait {
                if next == NextReceive::Gather {
                    gather();
                }
                // Lets the runtime handle signals although datagrams never cease.
                tokio::task::yield_now().await;
            }
            let due = self.next_due();
            let is_willing = self.output.is_willing(&self.collector);
            let receive = tokio::select! {
                biased;
                event = events.next() => {
                    match event {
                        Event::Stop => return,
                        Event::Report => self.report(),
                        Event::Reopen => self.output.reopen(Instant::now()),
                    }
                    // A flood of signals must not keep datagrams waiting.
                    true
                }
                () = std::future::ready(()), if is_willing && next != NextReceive::Wait => true,
                () = readable(watches), if is_willing && next == NextReceive::Wait => true,
                () = self.output.synced() => false,
                () = sleep_until(due) => false,
            };
            if receive && is_willing {
                next = self.receive();
            }
            self.settle();
            if self.output.is_closed() {
                info!("the reader of the standard output has closed it: exiting");
                return;
            }
        }
    }

    /// Receives until the sockets are empty, or until signals must be handled.
    fn receive(&mut self) -> NextReceive {
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
                if !self.output.is_willing(&self.collector) {
                    return NextReceive::Again;
                }
            }
        }
        match more {
            true => NextReceive::Again,
            false if self.may_gather && total >= BUSY => {
                self.looked = Some(self.clock.timestamp(Instant::now()));
                NextReceive::Gather
            }
            false => {
                self.looked = None;
                NextReceive::Wait
            }
        }
    }

    fn receive_batch(&mut self, index: usize) -> usize {
        let now = self.clock.timestamp(Instant::now());
        let arrived = ArrivalTime { after: self.looked.unwrap_or(now), by: now };
        let Self { collector, batch, output, .. } = self;
        let since = Instant::now();
        let result = batch.receive(&mut self.listeners[index], |to, datagram| {
            output.prepare(collector);
            let first_line = collector.next_line();
            let answer = collector.receive(to, datagram, arrived);
            output.received(collector, (to, arrived, first_line), datagram);
            if let Some(answer) = answer {
                // One that has sent nothing asks who is there, unless it asks how far an earlier run has come.
                let is_first = matches!(
                    DiscoveryQuestion::parse(datagram),
                    Ok(it) if it.shipments == 0 && it.streams.is_empty()
                );
                output.hold((index, to, answer), is_first, collector, since);
            }
        });
        match result {
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => 0,
            // A wrong checksum, an interrupted call, no memory for a moment: the next call shows whether it lasts.
            Err(error) => {
                tracing::debug!(%error, "cannot receive");
                0
            }
        }
    }

    /// Writes the lines that are decided by now, and answers shippers.
    fn settle(&mut self) {
        let now = Instant::now();
        let at = self.clock.timestamp(now);
        let Self { output, collector, listeners, .. } = self;
        output.settle(collector, (at, now), |held| answer(listeners, &held));
        self.say_remarks();
    }

    fn say_remarks(&mut self) {
        for remark in self.collector.take_remarks() {
            warn!("{remark}");
        }
    }

    fn next_due(&self) -> Option<Instant> {
        let decide = self.collector.next_due().map(|due| self.clock.instant(due));
        [decide, self.output.next_due()].into_iter().flatten().min()
    }

    fn current_report(&mut self) -> CollectorReport {
        let kernel_drops = self.listeners.iter_mut().map(UdpListener::drops).sum();
        CollectorReport { log: self.output.counts(), kernel_drops, ..self.collector.report() }
    }

    fn report(&mut self) {
        let report = self.current_report();
        match self.style {
            ReportFormat::Text => {
                report.to_string().lines().for_each(|line| info!(target: ASKED, "{line}"));
            }
            ReportFormat::Json => info!(target: ASKED, "{}", report.json()),
        }
        if !report.adds_up() {
            error!(target: ASKED, "the balance does not add up: this is a fault of penlogd");
        }
    }

    /// Receives what the sockets still hold, then decides and writes every line.
    fn finish(mut self) {
        let until = Instant::now() + DRAIN;
        for index in 0..self.listeners.len() {
            while self.output.is_willing(&self.collector)
                && self.receive_batch(index) > 0
                && Instant::now() < until
            {
                self.settle();
            }
        }
        let now = Instant::now();
        let at = self.clock.timestamp(now);
        let Self { output, collector, listeners, .. } = &mut self;
        output.finish(collector, (at, now), |held| answer(listeners, &held));
        self.say_remarks();
        self.report();
    }
}

/// Sends an answer from the address that was asked.
fn answer(listeners: &[UdpListener], held: &HeldAnswer) {
    if let Some(listener) = listeners.get(held.listener) {
        listener.answer(held.to, &held.answer);
    }
}

/// Waits until one of the sockets is readable.
async fn readable(watches: &[UdpSocket]) {
    std::future::poll_fn(|context| {
        for watch in watches {
            if watch.poll_recv_ready(context).is_ready() {
                // The caller empties the sockets before it waits again, and a later datagram is a new event: clear this one.
                let forget = || Err::<(), _>(io::ErrorKind::WouldBlock.into());
                // Always fails, by `forget`.
                let _ = watch.try_io(Interest::READABLE, forget);
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
