//! The loop around the [`Collector`]: sockets, signals, log files, and the only clock that is read.

use std::io;
use std::process::ExitCode;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use pen_daemon::diagnostics::{self, ASKED, MessageTarget};
use pen_daemon::error::{ActionError, Doing as _};
use pen_daemon::process::{Detached, Settled, Stdout};
use pen_daemon::signals::{Event, Signals};
use pen_records::time::Timestamp;
use tracing::{error, info, warn};

use crate::cli::{CollectorConfig, ReportFormat};
use crate::collector::{ArrivalTime, Collector};
use crate::gate::Gate;
use crate::held_answers::{AnswerPath, HeldAnswer};
use crate::listeners::{BoundListener, ListenerWatch, say_listening};
use crate::output::Output;
use crate::report::CollectorReport;
use crate::sandbox;
use crate::socket::{BATCH, DatagramBatch, UdpListener};
use crate::streams::{StreamFate, Streams};

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
    if let Some(journal) = &config.output.journal {
        journal.make_folder(&config.process)?;
    }
    let listeners =
        config.listen.iter().map(|&at| BoundListener::bind(at)).collect::<Result<Vec<_>, _>>()?;
    let settled = config.process.settle()?;
    if config.has_sandbox {
        sandbox::enter(&config, &settled)?;
    }
    let result = serve(config, listeners, &settled);
    settled.leave();
    result
}

fn serve(
    config: CollectorConfig,
    listeners: Vec<BoundListener>,
    settled: &Settled,
) -> Result<ExitCode, ActionError> {
    let stdout = if config.output.log.is_some() { Stdout::Close } else { Stdout::Keep };
    runtime()?.block_on(async {
        // Before the journal is read, which takes a while: a signal meanwhile waits.
        let signals = Signals::new().doing("catch signals")?;
        let collector_loop = CollectorLoop::new(config, listeners)?;
        let watch = collector_loop.watch()?;
        collector_loop.listeners.iter().for_each(say_listening);
        settled.ready(stdout)?;
        collector_loop.run(signals, &watch).await;
        Ok(ExitCode::SUCCESS)
    })
}

/// Builds the single-threaded runtime of the loop.
pub(crate) fn runtime() -> Result<tokio::runtime::Runtime, ActionError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.doing("start the runtime")
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
    collector: Box<Collector>,
    batch: DatagramBatch,
    pub(crate) listeners: Vec<UdpListener>,
    streams: Streams,
    gate: Gate,
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
        listeners: Vec<BoundListener>,
    ) -> Result<Self, ActionError> {
        let CollectorConfig { report: style, output, streams: most, keys, mut settings, .. } =
            config;
        let (listeners, streams): (Vec<_>, _) =
            listeners.into_iter().map(|bound| (bound.datagrams, bound.stream)).unzip();
        info!(
            "limits by --memory: {} servers, {} shippers, {} balancers, {most} connections",
            settings.servers, settings.senders, settings.balancers
        );
        let mut streams = Streams::new(streams, most).doing("watch the sockets")?;
        let gate = Gate::new(keys, &mut streams)?;
        let buffer = listeners.iter().map(UdpListener::buffer).min().unwrap_or_default();
        settings.window = u32::try_from(buffer / 2).unwrap_or(u32::MAX);
        let mut collector = Box::new(Collector::new(settings));
        let (output, last) = Output::open(output, &mut collector)?;
        Ok(Self {
            clock: SteadyClock::new(last),
            collector,
            batch: DatagramBatch::default(),
            may_gather: buffer >= ROOMY,
            looked: None,
            listeners,
            gate,
            streams,
            output,
            style,
        })
    }

    /// Registers the sockets with the current runtime.
    pub(crate) fn watch(&self) -> Result<ListenerWatch, ActionError> {
        ListenerWatch::new(&self.listeners, &self.streams).doing("watch the sockets")
    }

    /// Works until a stop event, then writes what is left.
    pub(crate) async fn run(mut self, mut events: impl LoopEvents, watch: &ListenerWatch) {
        self.work(&mut events, watch).await;
        self.finish();
    }

    async fn work(&mut self, events: &mut impl LoopEvents, watch: &ListenerWatch) {
        let mut next = NextReceive::Wait;
        loop {
            if next != NextReceive::Wait {
                if next == NextReceive::Gather {
                    gather();
                }
                // Lets the runtime handle signals although datagrams never cease.
                tokio::task::yield_now().await;
            }
            let (due, is_willing) = (self.next_due(), self.is_willing());
            if is_willing && self.streams.is_pending() {
                next = NextReceive::Again;
            }
            let receive = tokio::select! {
                biased;
                event = events.next() => {
                    match event {
                        Event::Stop => return,
                        Event::Report => self.report(),
                        Event::Reopen => self.reopen(),
                    }
                    // A flood of signals must not keep datagrams waiting.
                    true
                }
                () = std::future::ready(()), if is_willing && next != NextReceive::Wait => true,
                () = watch.readable(is_willing), if is_willing && next == NextReceive::Wait => true,
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
                if !self.is_willing() {
                    return NextReceive::Again;
                }
            }
        }
        more |= self.receive_streams();
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

    /// Whether sockets are read: the journal has room. While they are not, TCP holds senders back, and others repeat what
    /// the kernel drops.
    fn is_willing(&mut self) -> bool {
        self.output.is_willing(&self.collector)
    }

    /// Receives from streams until nothing is there, or until signals must be handled. Returns whether more is there.
    fn receive_streams(&mut self) -> bool {
        if !self.is_willing() {
            self.streams.postpone();
            return false;
        }
        for _ in 0..BATCHES {
            let since = Instant::now();
            let now = self.clock.timestamp(since);
            let Self { collector, streams, output, gate, .. } = self;
            let events = streams.receive((since, now), |from, datagram| {
                let path = AnswerPath::Stream(from.id);
                let (peer, fate) = gate.admit_stream(collector, from, datagram, (since, now));
                let Some(peer) = peer else { return fate };
                let junk = collector.junk();
                output.receive(collector, (peer, path), datagram, (now.into(), since));
                match collector.junk() == junk {
                    true => fate,
                    false => StreamFate::Close("it sent a malformed datagram".into()),
                }
            });
            if events == 0 {
                return false;
            }
            self.settle();
            if !self.is_willing() {
                self.streams.postpone();
                return false;
            }
        }
        true
    }

    fn receive_batch(&mut self, index: usize) -> usize {
        let now = self.clock.timestamp(Instant::now());
        let arrived = ArrivalTime { after: self.looked.unwrap_or(now), by: now };
        let Self { collector, batch, output, gate, .. } = self;
        let since = Instant::now();
        let result = batch.receive(&mut self.listeners[index], |from, datagram| {
            if let Some(peer) = gate.admit_datagram(collector, from, datagram, now) {
                let path = AnswerPath::Datagram(index);
                output.receive(collector, (peer, path), datagram, (arrived, since));
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
        let Self { output, collector, listeners, streams, .. } = self;
        output.settle(collector, (at, now), |held| answer(listeners, streams, &held, at));
        self.say_remarks();
        self.streams.expire((now, at));
        self.gate.look_at_dates(now);
    }

    fn say_remarks(&mut self) {
        for remark in self.collector.take_remarks() {
            warn!("{remark}");
        }
    }

    fn reopen(&mut self) {
        self.output.reopen(Instant::now());
        self.gate.reload(&mut self.streams);
    }

    fn next_due(&self) -> Option<Instant> {
        let decide = self.collector.next_due().map(|due| self.clock.instant(due));
        let times = [decide, self.output.next_due(), self.streams.next_due(), self.gate.next_due()];
        times.into_iter().flatten().min()
    }

    fn current_report(&mut self) -> CollectorReport {
        let kernel_drops = self.listeners.iter_mut().map(UdpListener::drops).sum();
        let (log, streams) = (self.output.counts(), self.streams.counts());
        CollectorReport {
            log,
            kernel_drops,
            streams,
            unauthenticated: self.gate.unauthenticated(),
            ..self.collector.report()
        }
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
            while self.is_willing() && self.receive_batch(index) > 0 && Instant::now() < until {
                self.settle();
            }
        }
        while self.receive_streams() && Instant::now() < until {}
        let now = Instant::now();
        let at = self.clock.timestamp(now);
        let Self { output, collector, listeners, streams, .. } = &mut self;
        output.finish(collector, (at, now), |held| answer(listeners, streams, &held, at));
        self.say_remarks();
        self.report();
    }
}

/// Sends an answer by the path of its question.
fn answer(listeners: &[UdpListener], streams: &mut Streams, held: &HeldAnswer, at: Timestamp) {
    match held.path {
        AnswerPath::Datagram(index) => {
            if let Some(listener) = listeners.get(index) {
                listener.answer(held.to, &held.answer);
            }
        }
        AnswerPath::Stream(id) => streams.answer(id, &held.answer, at),
    }
}

async fn sleep_until(due: Option<Instant>) {
    match due {
        Some(due) => tokio::time::sleep_until(due.into()).await,
        None => std::future::pending().await,
    }
}
