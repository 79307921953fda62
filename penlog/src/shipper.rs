//! The thread that sends: the socket, the clock and the buffers around [`Road`].

use std::collections::VecDeque;
use std::hash::{BuildHasher as _, RandomState};
use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::AsFd as _;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use memchr::{memchr, memchr_iter};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, poll};

use pen_records::shipment::{
    Answer, GATHER, MAGIC, Origin, Push, Question, Server, Shipment, Stamp, Writer,
};
use pen_records::time::Timestamp;

use crate::Fault;
use crate::cli::Config;
use crate::destination::{Destination, News, connect};
use crate::input::timeout;
use crate::queue::{Chunk, Queue, Waker};
use crate::report::{Counts, Report};
use crate::road::{Deed, Heard, Mode, Road};

/// How long we try to get rid of what is left once the input has ended, without any success.
const DRAIN: Duration = Duration::from_secs(10);
/// How long the last confirmation is waited for.
const LAST_WORD: Duration = Duration::from_secs(1);
/// As many lines go to a classic collector at once: its receive buffer holds some 250, and what does
/// not fit is lost without a word. After them comes a pause of a millisecond.
const BURST: u32 = 64;
/// How often losses are looked at while nothing happens.
const REPORT: Duration = Duration::from_secs(5);

/// A datagram that goes through any network, and one for an address of this machine.
const FAR: usize = 1400;
const NEAR: usize = 32 << 10;
/// The most a UDP datagram over IPv4 has.
const UDP: usize = 65_507;

pub(crate) struct Shipper {
    config: Config,
    queue: Arc<Queue>,
    waker: Waker,
    report: Report,
    road: Road,
    destination: Destination,
    /// `None` if there is no address, or it could not be had.
    socket: Option<UdpSocket>,
    /// The first address in this round that neither refused nor answered.
    silent: Option<SocketAddr>,
    origin: Origin,
    random: RandomState,
    writer: Writer,
    /// When the lines in `writer` have waited long enough.
    gathered: Option<Instant>,
    /// Lines taken out of the queue, and how far they are sent.
    chunk: Chunk,
    at: usize,
    /// Bytes of lines taken out of the chunks so far.
    consumed: u64,
    /// Shipments not confirmed yet, oldest first; those from `resend` on have to go out again.
    kept: VecDeque<Kept>,
    resend: usize,
    /// Buffers for `kept`.
    spare: Vec<Vec<u8>>,
    /// The line that was sent last, one by one: a refusal is about this.
    last: Vec<u8>,
    /// Lines that were refused and go first.
    again: VecDeque<Vec<u8>>,
    counts: Counts,
    /// When all of this has to be over, once the input has ended, unless more is done than this.
    deadline: Option<(Instant, u64)>,
    /// The same, once all is sent and only not yet confirmed.
    last_word: Option<Instant>,
}

/// A shipment that went out.
struct Kept {
    bytes: Vec<u8>,
    /// [`Road::sent`] after it.
    mark: u64,
    /// [`Shipper::consumed`] after it.
    consumed: u64,
}

/// What became of a datagram.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Sent {
    Yes,
    /// This one has not gone out, and the one before it may not have arrived.
    Refused,
    /// It is too long for this road.
    Never,
}

impl Shipper {
    pub(crate) fn new(
        config: Config,
        queue: Arc<Queue>,
        waker: Waker,
        report: Report,
    ) -> Result<Self, Fault> {
        if let Some(ip) = config.source_addr {
            // Nothing will ever be sent from an address that is not ours.
            UdpSocket::bind((ip, 0)).map_err(|e| (format!("cannot send from {ip}"), e))?;
        }
        let destination = Destination::new(&config, &queue)
            .map_err(|e| (format!("cannot send to {}", config.host), e))?;
        let random = RandomState::new();
        let start = wall_clock();
        let origin = Origin { id: random.hash_one((std::process::id(), start)), start };
        let server = Server {
            addr: config.server,
            port: config.server_port,
            name: config.name.as_deref().map(str::as_bytes),
        };
        let writer = Writer::new(origin, server, FAR);
        let mut this = Self {
            road: Road::new(config.classic, Instant::now()),
            config,
            queue,
            waker,
            report,
            destination,
            socket: None,
            silent: None,
            origin,
            random,
            writer,
            gathered: None,
            chunk: Chunk::default(),
            at: 0,
            consumed: 0,
            kept: VecDeque::new(),
            resend: 0,
            spare: Vec::new(),
            last: Vec::new(),
            again: VecDeque::new(),
            counts: Counts::default(),
            deadline: None,
            last_word: None,
        };
        this.open(Instant::now());
        Ok(this)
    }

    /// Sends until the input has ended and nothing is left.
    pub(crate) fn run(mut self) {
        loop {
            let now = Instant::now();
            self.look_up(now);
            self.hear(now);
            if self.is_over(now) {
                break;
            }
            match self.road.tick(now) {
                Deed::Nothing => {}
                Deed::Ask => self.ask(now),
                Deed::Silence => self.silence(now),
            }
            let busy = match self.road.mode(now) {
                Mode::Hold => false,
                Mode::Ship => self.ship(now),
                Mode::Classic => self.speak_classic(now),
            };
            if !busy {
                self.wait(now);
            }
        }
        self.count_leftovers();
        self.report.end(&self.counts);
    }

    /// Whether all is done, or no more time is left.
    fn is_over(&mut self, now: Instant) -> bool {
        let level = self.queue.level();
        self.counts.dropped = level.dropped;
        self.counts.cut = level.cut.into();
        self.report.losses(self.counts, now);
        if !level.closed {
            return false;
        }
        self.road.input_ended(now);
        let done = self.queue.done();
        let deadline = match self.deadline {
            Some((deadline, before)) if before == done => deadline,
            _ => now + DRAIN,
        };
        self.deadline = Some((deadline, done));
        let sent = level.len == 0
            && self.at == self.chunk.bytes.len()
            && self.again.is_empty()
            && self.writer.is_empty()
            && self.resend == self.kept.len();
        if !sent {
            self.last_word = None;
            return now >= deadline;
        }
        let last_word = *self.last_word.get_or_insert_with(|| deadline.min(now + LAST_WORD));
        self.kept.is_empty() || now >= last_word
    }

    /// Everything that is still here will not arrive.
    fn count_leftovers(&mut self) {
        let left = |bytes: &[u8]| memchr_iter(b'\n', bytes).count() as u64;
        self.counts.lost += left(&self.chunk.bytes[self.at..]) + self.again.len() as u64;
        while let Some(chunk) = self.queue.take(Chunk::default()) {
            self.counts.lost += left(&chunk.bytes);
        }
        let _ = self.writer.finish(Stamp::default(), |datagram| {
            self.counts.lost += shipped_lines(datagram);
        });
        for kept in self.kept.drain(..).skip(self.resend) {
            let lines = shipped_lines(&kept.bytes);
            self.counts.lost += lines;
            self.counts.shipped -= lines.min(self.counts.shipped);
        }
    }

    /// Makes a socket to the current address.
    fn open(&mut self, now: Instant) {
        let Some(addr) = self.destination.current() else { return };
        match connect(addr, self.config.source_addr) {
            Ok(socket) => {
                self.socket = Some(socket);
                self.limit_datagrams(addr, 0);
            }
            Err(error) => {
                self.socket = None;
                self.report.say("connect", now, || format!("cannot send to {addr}: {error}"));
            }
        }
    }

    fn limit_datagrams(&mut self, addr: SocketAddr, taken: u32) {
        let fit = if addr.ip().is_loopback() { NEAR } else { FAR };
        let limit = self.config.datagram.unwrap_or(fit);
        let taken = usize::try_from(taken).ok().filter(|taken| *taken > 0).unwrap_or(UDP);
        self.writer.set_limit(limit.min(taken));
    }

    fn look_up(&mut self, now: Instant) {
        match self.destination.news() {
            News::Nothing => {}
            News::Moved => {
                self.silent = None;
                self.again_from_the_start();
                self.open(now);
                self.road.begin(now);
            }
            News::Failed(error) => {
                let host = &self.config.host;
                self.report.say("look up", now, || format!("cannot look up {host}: {error}"));
            }
        }
    }

    /// Takes answers, and refusals that came in the meantime.
    fn hear(&mut self, now: Instant) {
        let mut buffer = [0; 256];
        loop {
            let Some(socket) = &self.socket else { return };
            match socket.recv(&mut buffer) {
                Ok(len) => {
                    if let Some(Ok(answer)) = buffer.get(..len).map(Answer::parse) {
                        self.answered(&answer, now);
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return self.refused(now),
            }
        }
    }

    fn answered(&mut self, answer: &Answer, now: Instant) {
        match self.road.answered(answer, now) {
            Heard::Stray => {}
            Heard::Confirmed(mark) => self.confirm(mark),
            Heard::Ours => {
                self.destination.succeeded();
                self.silent = None;
                if let Some(addr) = self.destination.current() {
                    self.limit_datagrams(addr, answer.datagram);
                    self.report.say("ours", now, || format!("shipping to {addr}"));
                }
                self.again_from_the_start();
                // Lines that were refused one by one are few: back into the stream they go.
                let first: Vec<u8> = self.again.drain(..).flatten().collect();
                if !first.is_empty() {
                    self.consumed -= first.len() as u64;
                    self.put_back(first);
                }
            }
        }
    }

    /// Lines go in front of those that are not sent yet, and are as old as the first of them.
    fn put_back(&mut self, mut lines: Vec<u8>) {
        let len = lines.len();
        let read = self.chunk.read(self.at).unwrap_or_else(|| self.queue.clock());
        lines.extend_from_slice(&self.chunk.bytes[self.at..]);
        let later = self.chunk.reads.iter().map(|&(end, read)| (end - self.at + len, read));
        let reads = std::iter::once((len, read)).chain(later).collect();
        (self.chunk, self.at) = (Chunk { bytes: lines, reads }, 0);
    }

    fn confirm(&mut self, mark: u64) {
        while self.kept.front().is_some_and(|kept| kept.mark <= mark)
            && let Some(kept) = self.kept.pop_front()
        {
            self.queue.set_done(kept.consumed);
            self.resend = self.resend.saturating_sub(1);
            self.spare.push(kept.bytes);
        }
    }

    /// Whatever is not confirmed goes out again, when it can.
    fn again_from_the_start(&mut self) {
        self.resend = 0;
        self.road.rewind();
        for kept in &mut self.kept {
            kept.mark = u64::MAX;
        }
    }

    fn ask(&mut self, now: Instant) {
        let nonce = self.road.nonce(self.random.hash_one((self.origin.id, now)));
        let question = Question {
            nonce,
            origin: self.origin,
            shipments: self.writer.shipments(),
            lines: self.writer.lines(),
        };
        let mut bytes = Vec::with_capacity(Question::LEN);
        question.write(&mut bytes);
        if self.socket.is_none() {
            self.open(now);
        }
        self.road.asked(nonce, now);
        match transmit(self.socket.as_ref(), &bytes) {
            Sent::Refused => self.refused(now),
            // From here on a refusal is about the question.
            Sent::Yes | Sent::Never => self.last.clear(),
        }
    }

    /// Nobody answers here. Another address may do better; if none does, it is a classic one.
    fn silence(&mut self, now: Instant) {
        if self.socket.is_some() {
            self.silent = self.silent.or_else(|| self.destination.current());
        }
        let all = self.destination.next();
        if !all {
            self.open(now);
            return self.road.begin(now);
        }
        let Some(addr) = self.silent.take() else { return self.refused(now) };
        self.destination.choose(addr);
        self.open(now);
        self.road.speak_classic(now);
        self.report.say("classic", now, || {
            format!("no answer from {addr}: taking it for a classic penlogd")
        });
        self.unpack();
    }

    /// Shipments that nobody has confirmed become lines again. Pieces of long lines are lost.
    fn unpack(&mut self) {
        let mut lines = Vec::new();
        let mut unpack = |datagram: &[u8], counts: &mut Counts| {
            let Ok(shipment) = Shipment::parse(datagram) else { return };
            counts.shipped -= counts.shipped.min(shipment.line_count().into());
            counts.lost += u64::from(shipment.piece().is_some());
            for line in shipment.lines() {
                lines.push([line, b"\n"].concat());
            }
        };
        for kept in self.kept.drain(..) {
            unpack(&kept.bytes, &mut self.counts);
        }
        let counts = &mut self.counts;
        let _ = self.writer.finish(Stamp::default(), |datagram| {
            counts.shipped += shipped_lines(datagram);
            unpack(datagram, counts);
        });
        self.resend = 0;
        self.gathered = None;
        self.again.extend(lines);
    }

    /// The destination refuses, or can't be reached.
    fn refused(&mut self, now: Instant) {
        let all = self.destination.next();
        if let Some(addr) = self.destination.current() {
            self.report.say("refused", now, || {
                format!("cannot reach {addr}: holding lines until that changes")
            });
        }
        if !self.last.is_empty() {
            self.again.push_front(std::mem::take(&mut self.last));
            self.counts.classic -= 1;
        }
        self.again_from_the_start();
        self.open(now);
        if all { self.road.refused(now) } else { self.road.begin(now) }
    }

    /// Sends what is there as shipments, as far as the window allows. Says whether it sent any.
    fn ship(&mut self, now: Instant) -> bool {
        if !self.ship_again(now) {
            return false;
        }
        let level = self.queue.level();
        let waiting = level.len + self.chunk.bytes.len() - self.at;
        if waiting + self.writer.len() >= self.limit() {
            self.gathered = None;
        } else {
            if waiting == 0 && self.writer.is_empty() {
                return false;
            }
            let ready = *self.gathered.get_or_insert(now + GATHER);
            if now < ready && !level.closed {
                return false;
            }
        }
        let mut busy = false;
        while self.road.has_room(self.limit()) {
            if self.at == self.chunk.bytes.len() {
                self.at = 0;
                match self.queue.take(std::mem::take(&mut self.chunk)) {
                    Some(chunk) => self.chunk = chunk,
                    None => {
                        if self.is_gathered(now) {
                            busy |= self.finish(now);
                        }
                        return busy;
                    }
                }
            }
            if !self.ship_line(now) {
                return busy;
            }
            busy = true;
            // Half a window is asked about as soon as it is reached.
            if self.road.due(now) <= now {
                return true;
            }
        }
        busy
    }

    fn limit(&self) -> usize {
        self.writer.limit()
    }

    /// Whether a datagram that is not full is to leave.
    fn is_gathered(&self, now: Instant) -> bool {
        self.gathered.is_some_and(|ready| now >= ready) || self.queue.level().closed
    }

    /// Fills a datagram from the chunk and sends it if it is full. `false` if that was refused.
    fn ship_line(&mut self, now: Instant) -> bool {
        while let Some(len) = memchr(b'\n', &self.chunk.bytes[self.at..]) {
            let read = self.chunk.read(self.at);
            let line = &self.chunk.bytes[self.at..self.at + len];
            match self.writer.push(line, read) {
                Push::Taken => {
                    self.at += len + 1;
                    self.consumed += len as u64 + 1;
                }
                Push::Long if self.writer.is_empty() => return self.ship_pieces(len, now),
                Push::Long | Push::Full => return self.finish(now),
            }
        }
        self.at = self.chunk.bytes.len();
        if self.gathered.is_none() && !self.writer.is_empty() {
            self.gathered = Some(now + GATHER);
        }
        true
    }

    /// Sends the datagram that is being filled.
    fn finish(&mut self, now: Instant) -> bool {
        self.gathered = None;
        let stamp = self.stamp();
        let mut bytes = self.spare.pop().unwrap_or_default();
        let finished = self.writer.finish(stamp, |datagram| {
            bytes.clear();
            bytes.extend_from_slice(datagram);
            shipped_lines(datagram)
        });
        match finished {
            None => true,
            Some(lines) => {
                self.counts.shipped += lines;
                self.keep_and_send(bytes, now)
            }
        }
    }

    /// Sends a line that is longer than a datagram.
    fn ship_pieces(&mut self, len: usize, now: Instant) -> bool {
        let stamp = self.stamp();
        let read = self.chunk.read(self.at);
        let mut next = Some(0);
        let mut pieces = VecDeque::new();
        while let Some(offset) = next {
            let line = &self.chunk.bytes[self.at..self.at + len];
            let (rest, bytes) = self.writer.piece((line, read), offset, stamp, <[u8]>::to_vec);
            pieces.push_back(bytes);
            next = rest;
        }
        self.at += len + 1;
        self.consumed += len as u64 + 1;
        self.counts.shipped += 1;
        // They are kept even if they do not fit the window: what does not go out now goes later.
        while let Some(bytes) = pieces.pop_front() {
            self.kept.push_back(Kept { bytes, mark: u64::MAX, consumed: self.consumed });
        }
        self.ship_again(now)
    }

    /// Sends those of the kept shipments that have not gone out since they had to. Says whether
    /// all have.
    fn ship_again(&mut self, now: Instant) -> bool {
        while let Some(kept) = self.kept.get(self.resend) {
            if !self.road.has_room(kept.bytes.len()) {
                return false;
            }
            match transmit(self.socket.as_ref(), &kept.bytes) {
                Sent::Yes => {}
                Sent::Never => self.counts.lost += shipped_lines(&kept.bytes),
                Sent::Refused => {
                    self.refused(now);
                    return false;
                }
            }
            let kept = &mut self.kept[self.resend];
            kept.mark = self.road.sent(kept.bytes.len(), now);
            self.resend += 1;
        }
        true
    }

    fn keep_and_send(&mut self, bytes: Vec<u8>, now: Instant) -> bool {
        self.kept.push_back(Kept { bytes, mark: u64::MAX, consumed: self.consumed });
        self.ship_again(now)
    }

    fn stamp(&self) -> Stamp {
        let level = self.queue.level();
        let now = self.queue.clock();
        Stamp { sent: wall_clock(), now, dropped: level.dropped, cut: level.cut }
    }

    /// Sends lines one by one. Says whether it sent any.
    fn speak_classic(&mut self, now: Instant) -> bool {
        while let Some(line) = self.again.pop_front() {
            if self.classic_line(&line) == Sent::Refused {
                self.again.push_front(line);
                self.refused(now);
                return false;
            }
        }
        if self.at == self.chunk.bytes.len() {
            self.at = 0;
            match self.queue.take(std::mem::take(&mut self.chunk)) {
                Some(chunk) => self.chunk = chunk,
                None => return false,
            }
        }
        let chunk = std::mem::take(&mut self.chunk);
        let mut burst = 0;
        while let Some(len) = memchr(b'\n', &chunk.bytes[self.at..]) {
            if burst == BURST {
                self.chunk = chunk;
                self.queue.set_done(self.consumed);
                self.catch_breath();
                return true;
            }
            burst += 1;
            let line = &chunk.bytes[self.at..=self.at + len];
            self.at += line.len();
            self.consumed += line.len() as u64;
            if self.classic_line(line) == Sent::Refused {
                self.again.push_front(line.to_vec());
                self.chunk = chunk;
                self.refused(now);
                return false;
            }
        }
        self.chunk = chunk;
        self.at = self.chunk.bytes.len();
        self.queue.set_done(self.consumed);
        true
    }

    /// Leaves a classic collector time to read, unless there is news from it.
    fn catch_breath(&self) {
        if let Some(socket) = &self.socket {
            let mut fds = [PollFd::new(socket.as_fd(), PollFlags::POLLIN)];
            let _ = poll(&mut fds, timeout(Duration::from_millis(1)));
        }
    }

    /// Sends a line with its line feed, cut to what a datagram can hold. A line that would be taken
    /// for a mapping or a shipment gets a space in front: nobody is to forge one by way of a log.
    fn classic_line(&mut self, line: &[u8]) -> Sent {
        let guard: &[u8] =
            if line.starts_with(b"+") || line.starts_with(&MAGIC) { b" " } else { b"" };
        let cut = guard.len() + line.len() > UDP;
        let sent = if guard.is_empty() && !cut {
            transmit(self.socket.as_ref(), line)
        } else {
            let kept = (line.len() - 1).min(UDP - 1 - guard.len());
            transmit(self.socket.as_ref(), &[guard, &line[..kept], b"\n"].concat())
        };
        match sent {
            Sent::Yes => {
                self.queue.add_cut(u32::from(cut));
                self.counts.classic += 1;
                self.last.clear();
                self.last.extend_from_slice(line);
            }
            Sent::Never => self.counts.lost += 1,
            Sent::Refused => {}
        }
        sent
    }

    /// Sleeps until there is something to do.
    fn wait(&mut self, now: Instant) {
        let has_room = self.road.has_room(self.limit());
        let waiting = self.chunk.bytes.len() - self.at + self.writer.len();
        let (wanted, ready) = match self.road.mode(now) {
            Mode::Classic => (1, None),
            Mode::Ship if has_room && self.gathered.is_some() => {
                (self.limit().saturating_sub(waiting).max(1), self.gathered)
            }
            Mode::Ship if has_room => (1, None),
            Mode::Ship | Mode::Hold => (usize::MAX, None),
        };
        if !self.queue.want(wanted) {
            return;
        }
        let report = Some(now + REPORT);
        let deadline = self.deadline.map(|(deadline, _)| deadline);
        let times = [Some(self.road.due(now)), ready, deadline, self.last_word, report];
        let until = times.into_iter().flatten().min().unwrap_or(now);
        let mut fds = vec![PollFd::new(self.waker.as_fd(), PollFlags::POLLIN)];
        if let Some(socket) = &self.socket {
            fds.push(PollFd::new(socket.as_fd(), PollFlags::POLLIN));
        }
        // An error would be a signal: the loop goes round and looks.
        let _ = poll(&mut fds, timeout(until.saturating_duration_since(now)));
        if fds[0].any() == Some(true) {
            self.waker.clear();
        }
    }
}

/// Sends a datagram, waiting for room in the socket's buffer.
fn transmit(socket: Option<&UdpSocket>, datagram: &[u8]) -> Sent {
    let Some(socket) = socket else { return Sent::Refused };
    loop {
        let Err(error) = socket.send(datagram) else { return Sent::Yes };
        match error.raw_os_error().map(Errno::from_raw) {
            Some(Errno::EINTR) => {}
            Some(Errno::EAGAIN) => pause(socket, Duration::from_millis(100)),
            Some(Errno::ENOBUFS | Errno::ENOMEM) => pause(socket, Duration::from_millis(1)),
            Some(Errno::EMSGSIZE) => return Sent::Never,
            _ => return Sent::Refused,
        }
    }
}

/// Until the socket can take more, or a while has passed.
fn pause(socket: &UdpSocket, patience: Duration) {
    let mut fds = [PollFd::new(socket.as_fd(), PollFlags::POLLOUT)];
    let _ = poll(&mut fds, timeout(patience));
}

fn shipped_lines(datagram: &[u8]) -> u64 {
    Shipment::parse(datagram).map_or(0, |shipment| shipment.line_count().into())
}

fn wall_clock() -> Timestamp {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    Timestamp::from_micros(i64::try_from(since.as_micros()).unwrap_or(i64::MAX))
}
