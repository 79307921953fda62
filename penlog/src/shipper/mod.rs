//! The sending thread: clock and socket around [`LinkState`].
//!
//! - [`backlog`]: lines taken out of the queue and not sent yet.
//! - `shipping`: sends lines as shipments; [`unconfirmed`] keeps shipments until the collector confirms them.
//! - `classic`: sends lines one by one.
//! - `replies`: handles replies, refusals and silence of the collector.
//! - [`socket`]: the stream and the UDP socket, and which of them is used.

mod backlog;
mod classic;
mod replies;
mod send_clock;
mod shipping;
mod socket;
mod unconfirmed;

use std::collections::VecDeque;
use std::hash::{BuildHasher as _, RandomState};
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::AsFd as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, poll};

use pen_daemon::error::{ActionError, Doing as _};
use pen_records::shipment::{SendStamp, SenderOrigin, Shipment, ShipmentServer, ShipmentWriter};

use self::backlog::Backlog;
use self::send_clock::SendClock;
use self::socket::{CollectorSocket, Way};
use self::unconfirmed::Unconfirmed;
use crate::cli::{ShipperConfig, Transport};
use crate::destination::{Destination, LookupOutcome};
use crate::input::timeout;
use crate::link_state::{LinkAction, LinkState, QuestionTime, SendMode};
use crate::queue::{SendQueue, Waker};
use crate::report::{ShipperCounts, ShipperReport};

/// How long to go on without any success once the input has ended.
const DRAIN: Duration = Duration::from_secs(10);
/// How long to wait for the last confirmation.
const LAST_WORD: Duration = Duration::from_secs(1);
/// How often to look at losses while idle.
const REPORT: Duration = Duration::from_secs(5);

/// Shipment size in bytes that passes any network, and the size for a stream or an address of this machine.
const FAR: usize = 1400;
const NEAR: usize = 32 << 10;
/// Largest payload of a UDP datagram over IPv4, in bytes.
const UDP: usize = 65_507;

pub(crate) struct Shipper {
    config: ShipperConfig,
    queue: Arc<SendQueue>,
    waker: Waker,
    report: ShipperReport,
    state: LinkState,
    destination: Destination,
    socket: CollectorSocket,
    /// First address in this round that neither refused nor replied.
    silent: Option<SocketAddr>,
    origin: SenderOrigin,
    clock: SendClock,
    random: RandomState,
    writer: ShipmentWriter,
    /// When the lines in `writer` have waited long enough.
    gathered: Option<Instant>,
    backlog: Backlog,
    unconfirmed: Unconfirmed,
    /// The line sent last by the classic protocol: a refusal concerns this line.
    last: Vec<u8>,
    /// Refused lines, to be sent first.
    again: VecDeque<Vec<u8>>,
    counts: ShipperCounts,
    /// After the end of the input: when to give up, and the bytes finished when that was set; progress extends it.
    deadline: Option<(Instant, u64)>,
    /// Likewise while only confirmations are missing.
    last_word: Option<Instant>,
}

impl Shipper {
    pub(crate) fn new(
        config: ShipperConfig,
        queue: Arc<SendQueue>,
        waker: Waker,
        report: ShipperReport,
    ) -> Result<Self, ActionError> {
        if let Some(ip) = config.source_addr {
            // The system rejects a source address that this host does not have.
            UdpSocket::bind((ip, 0)).doing(format_args!("send from {ip}"))?;
        }
        let destination = Destination::new(config.host.clone(), config.port, config.family, &queue)
            .doing(format_args!("send to {}", config.host))?;
        let random = RandomState::new();
        let mut clock = SendClock::default();
        let start = clock.now();
        let origin = SenderOrigin { id: random.hash_one((std::process::id(), start)), start };
        let server = ShipmentServer {
            addr: config.server,
            port: config.server_port,
            name: config.name.as_deref().map(str::as_bytes),
        };
        let writer = ShipmentWriter::new(origin, server, FAR);
        let socket = CollectorSocket::new(&config);
        // No classic collector has streams.
        let is_ours = queue.is_ours() || config.transport == Transport::Stream;
        let mut this = Self {
            state: LinkState::new(config.classic, is_ours, Instant::now()),
            config,
            queue,
            waker,
            report,
            destination,
            socket,
            silent: None,
            origin,
            clock,
            random,
            writer,
            gathered: None,
            backlog: Backlog::default(),
            unconfirmed: Unconfirmed::default(),
            last: Vec::new(),
            again: VecDeque::new(),
            counts: ShipperCounts::default(),
            deadline: None,
            last_word: None,
        };
        if this.config.classic {
            this.queue.positions.give_up();
        }
        this.open(Instant::now());
        Ok(this)
    }

    /// Sends until the input has ended and no line is left. Returns what became of the lines.
    pub(crate) fn run(mut self) -> ShipperCounts {
        loop {
            let now = Instant::now();
            self.look_up(now);
            self.hear(now);
            if self.is_over(now) {
                break;
            }
            self.state.ask_next(match self.queue.positions.is_pending() {
                true => QuestionTime::AtOnce,
                false => QuestionTime::WhenDue,
            });
            match self.state.tick(now) {
                LinkAction::Nothing => {}
                LinkAction::Ask => self.ask(now),
                LinkAction::Silence => self.silence(now),
            }
            let busy = match self.state.mode(now) {
                SendMode::Hold => false,
                SendMode::Ship => self.ship(now),
                SendMode::Classic => self.speak_classic(now),
            };
            if !busy {
                self.wait(now);
            }
        }
        self.count_leftovers();
        self.report.end(&self.counts);
        self.counts
    }

    /// Returns whether everything is sent or the time is up.
    fn is_over(&mut self, now: Instant) -> bool {
        let level = self.queue.level();
        self.counts.dropped = level.dropped;
        self.counts.cut = level.cut.into();
        self.report.losses(self.counts, now);
        if !level.closed {
            return false;
        }
        self.state.input_ended(now);
        let done = self.queue.done();
        let deadline = match self.deadline {
            Some((deadline, before)) if before == done => deadline,
            _ => now + DRAIN,
        };
        self.deadline = Some((deadline, done));
        let sent = level.len == 0
            && self.backlog.is_empty()
            && self.again.is_empty()
            && self.writer.is_empty()
            && self.unconfirmed.is_sent();
        if !sent {
            self.last_word = None;
            return now >= deadline;
        }
        let last_word = *self.last_word.get_or_insert_with(|| deadline.min(now + LAST_WORD));
        self.unconfirmed.is_empty() || now >= last_word
    }

    /// Counts all unsent lines as lost, unless the next run finds them in the spool.
    fn count_leftovers(&mut self) {
        if self.config.spool.is_some() {
            // They stay in the spool.
            return;
        }
        self.counts.lost += self.again.len() as u64 + self.backlog.lines();
        self.backlog.end();
        while self.backlog.fill(&self.queue) {
            self.counts.lost += self.backlog.lines();
            self.backlog.end();
        }
        let _ = self.writer.finish(SendStamp::default(), |datagram| {
            self.counts.lost += shipped_lines(datagram);
        });
        for shipment in self.unconfirmed.take_unsent() {
            let lines = shipped_lines(&shipment);
            self.counts.lost += lines;
            self.counts.shipped -= lines.min(self.counts.shipped);
        }
    }

    /// Opens a socket to the current address.
    fn open(&mut self, now: Instant) {
        let Some(addr) = self.destination.current() else { return };
        match self.socket.open(addr) {
            Ok(()) => self.limit_datagrams(addr, 0),
            Err(error) => {
                self.report.say("connect", now, || format!("cannot send to {addr}: {error}"));
            }
        }
    }

    fn limit_datagrams(&mut self, addr: SocketAddr, taken: u32) {
        let is_near = self.socket.way() == Some(Way::Stream) || addr.ip().is_loopback();
        let fit = if is_near { NEAR } else { FAR };
        let limit = self.config.datagram.unwrap_or(fit);
        let taken = usize::try_from(taken).ok().filter(|taken| *taken > 0).unwrap_or(UDP);
        self.writer.set_limit(limit.min(taken));
    }

    fn look_up(&mut self, now: Instant) {
        match self.destination.news() {
            LookupOutcome::Nothing => {}
            LookupOutcome::Moved => {
                self.silent = None;
                self.again_from_the_start();
                self.open(now);
                self.state.begin(now);
            }
            LookupOutcome::Failed(error) => {
                let host = &self.config.host;
                self.report.say("look up", now, || format!("cannot look up {host}: {error}"));
            }
        }
    }

    /// Sleeps until there is something to do.
    fn wait(&mut self, now: Instant) {
        let has_room = self.state.has_room(self.limit()) && !self.socket.is_full();
        let waiting = self.backlog.len() + self.writer.len();
        let (wanted, ready) = match self.state.mode(now) {
            SendMode::Classic => (1, None),
            SendMode::Ship if has_room && self.gathered.is_some() => {
                (self.limit().saturating_sub(waiting).max(1), self.gathered)
            }
            SendMode::Ship if has_room => (1, None),
            SendMode::Ship | SendMode::Hold => (usize::MAX, None),
        };
        if !self.queue.want(wanted) {
            return;
        }
        let report = Some(now + REPORT);
        let deadline = self.deadline.map(|(deadline, _)| deadline);
        let times = [Some(self.state.due(now)), ready, deadline, self.last_word, report];
        let until = times.into_iter().flatten().min().unwrap_or(now);
        let mut fds = vec![PollFd::new(self.waker.as_fd(), PollFlags::POLLIN)];
        fds.extend(self.socket.poll_fds());
        // An error is an interruption by a signal: the caller's loop handles it.
        let _ = poll(&mut fds, timeout(until.saturating_duration_since(now)));
        if fds[0].any() == Some(true) {
            self.waker.clear();
        }
    }
}

/// Returns how many lines end in this shipment; a line in pieces ends in the shipment with the last piece.
fn shipped_lines(datagram: &[u8]) -> u64 {
    let Ok(shipment) = Shipment::parse(datagram) else { return 0 };
    match shipment.piece() {
        Some(piece) => {
            let end = piece.offset as usize + piece.bytes.len();
            u64::from(end == piece.total as usize)
        }
        None => shipment.line_count().into(),
    }
}
