//! Where mappings go: to a collector, into a file, or nowhere.
//!
//! ```text
//! worker: Notes ──┐ batches of records,
//! worker: Notes ──┼─▶ a bounded queue ──▶ one thread: Writer ──▶ packets, lines, or classic
//! worker: Notes ──┘
//! ```
//!
//! A worker never waits: a batch that finds the queue full is dropped and its records are counted. They
//! have taken their numbers, so a collector sees the hole. The thread may wait for a disk; traffic
//! does not.

use std::io::{self, ErrorKind};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};
use pen_daemon::logfile::{Buffering, LogFile};
use pen_records::mapping::packet::{OVERHEAD, Records, write_packet, write_record};
use pen_records::mapping::{Kind, Mapping};
use pen_records::shipment::Origin;
use pen_records::time::Timestamp;
use tracing::{info, warn};

use crate::config::{LogFormat, LogTarget};

/// The most bytes a packet has.
const PACKET: usize = 1_400;
/// How long a record waits for company.
const FLUSH: Duration = Duration::from_millis(5);
/// Batches that may wait.
const QUEUE: usize = 2_048;
/// Bytes of lines that are kept while a disk is full.
const BOUND: usize = 4 << 20;

/// What became of records.
#[derive(Debug, Default)]
pub struct Counts {
    /// Records that were made.
    pub made: AtomicU64,
    /// Those that were sent or are in the file.
    pub written: AtomicU64,
    /// Those that found the queue full.
    pub overrun: AtomicU64,
    /// Those that could not be sent or written.
    pub failed: AtomicU64,
}

#[derive(Debug)]
enum Message {
    Batch(Batch),
    Target(Option<LogTarget>, LogFormat),
    Reopen,
    End,
}

#[derive(Debug)]
struct Batch {
    count: u32,
    records: Vec<u8>,
}

/// The log's end that others hold: it is given to workers, and told where to write.
#[derive(Debug)]
pub struct MappingLog {
    queue: Sender<Message>,
    counts: Arc<Counts>,
    trouble: Arc<Mutex<Option<String>>>,
    /// Told beside the queue, which may be full while a disk hangs.
    reopen: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl MappingLog {
    /// Starts the thread that writes. Files are opened at once, so that faults are seen.
    ///
    /// # Errors
    /// The file can't be opened, or there is no socket or thread to be had.
    pub fn start(target: Option<&LogTarget>, format: LogFormat) -> io::Result<Self> {
        let (queue, batches) = bounded(QUEUE);
        let counts = Arc::new(Counts::default());
        let trouble = Arc::new(Mutex::new(None));
        let reopen = Arc::new(AtomicBool::new(false));
        let writer = Writer {
            batches,
            road: Road::open(target)?,
            target: target.cloned(),
            reopen: reopen.clone(),
            format,
            counts: counts.clone(),
            trouble: trouble.clone(),
            origin: origin(),
            next: 0,
            overrun: 0,
            before: (0, 0),
            unsaid: 0,
            buf: Vec::with_capacity(PACKET),
        };
        let thread =
            std::thread::Builder::new().name("mapping log".into()).spawn(move || writer.run())?;
        Ok(Self { queue, counts, trouble, reopen, thread: Some(thread) })
    }

    /// For a worker.
    #[must_use]
    pub fn notes(&self) -> Notes {
        Notes {
            queue: self.queue.clone(),
            counts: self.counts.clone(),
            batch: Vec::new(),
            count: 0,
            since: None,
        }
    }

    /// Writes somewhere else from now on. What can't be opened is said, and tried again on
    /// [`Self::reopen`].
    pub fn change(&self, target: Option<LogTarget>, format: LogFormat) {
        // The thread ends when this does, so it takes what is put in.
        self.queue.send(Message::Target(target, format)).unwrap_or_default();
    }

    /// Opens a file anew, for a rotation, or what could not be opened before. Never waits.
    pub fn reopen(&self) {
        self.reopen.store(true, Ordering::Release);
        // A thread that has messages looks behind each.
        self.queue.try_send(Message::Reopen).unwrap_or_default();
    }

    /// Whether its thread has ended, which it does not before [`Self::finish`].
    #[must_use]
    pub fn has_fallen(&self) -> bool {
        self.thread.as_ref().is_none_or(JoinHandle::is_finished)
    }

    /// What became of records.
    #[must_use]
    pub fn counts(&self) -> &Counts {
        &self.counts
    }

    /// What is wrong, if anything is.
    #[must_use]
    pub fn trouble(&self) -> Option<String> {
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// For somebody who watches and steers it while others hold it.
    #[must_use]
    pub fn remote(&self) -> Remote {
        Remote {
            queue: self.queue.clone(),
            counts: self.counts.clone(),
            trouble: self.trouble.clone(),
        }
    }

    /// Writes what is left. Workers must have ended.
    pub fn finish(mut self) {
        self.queue.send(Message::End).unwrap_or_default();
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            warn!("the mapping log has ended before its time");
        }
    }
}

/// The log from afar; it does not keep it.
#[derive(Clone, Debug)]
pub struct Remote {
    queue: Sender<Message>,
    counts: Arc<Counts>,
    trouble: Arc<Mutex<Option<String>>>,
}

impl Remote {
    /// As [`MappingLog::change`]. Not when the queue is full or the log has ended.
    ///
    /// # Errors
    /// Says so.
    pub fn change(&self, target: Option<LogTarget>, format: LogFormat) -> Result<(), String> {
        let sent = self.queue.try_send(Message::Target(target, format));
        sent.map_err(|_| "the mapping log does not keep up: try again".to_owned())
    }

    /// How records fare.
    #[must_use]
    pub fn counts(&self) -> &Counts {
        &self.counts
    }

    /// What is wrong, if anything is.
    #[must_use]
    pub fn trouble(&self) -> Option<String> {
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// What a worker notes.
#[derive(Debug)]
pub struct Notes {
    queue: Sender<Message>,
    counts: Arc<Counts>,
    batch: Vec<u8>,
    count: u32,
    /// When the first of the batch was noted.
    since: Option<Instant>,
}

impl Notes {
    /// Notes a mapping. It leaves within a few milliseconds, together with others.
    pub fn note(&mut self, mapping: &Mapping<'_>, now: Instant) {
        let before = self.batch.len();
        if self.batch.capacity() == 0 {
            self.batch.reserve(PACKET);
        }
        write_record(mapping, &mut self.batch);
        if self.batch.len() > PACKET - OVERHEAD && before > 0 {
            let last = self.batch.split_off(before);
            self.flush();
            self.batch = last;
        }
        self.count += 1;
        self.since.get_or_insert(now);
        // It holds no more of any kind.
        if self.batch.len() > PACKET - OVERHEAD - 40 {
            self.flush();
        }
    }

    /// Lets those go that have waited long enough.
    pub fn settle(&mut self, now: Instant) {
        if self.since.is_some_and(|since| now >= since + FLUSH) {
            self.flush();
        }
    }

    /// When [`Self::settle`] has something to do.
    #[must_use]
    pub fn next_due(&self) -> Option<Instant> {
        self.since.map(|since| since + FLUSH)
    }

    /// Lets all go.
    pub fn flush(&mut self) {
        self.since = None;
        if self.count == 0 {
            return;
        }
        let count = std::mem::take(&mut self.count);
        self.counts.made.fetch_add(count.into(), Ordering::Relaxed);
        let batch = Batch { count, records: std::mem::take(&mut self.batch) };
        if self.queue.try_send(Message::Batch(batch)).is_err() {
            self.counts.overrun.fetch_add(count.into(), Ordering::Relaxed);
        }
    }
}

impl Drop for Notes {
    fn drop(&mut self) {
        self.flush();
    }
}

/// Now, by the wall clock.
#[must_use]
pub fn wall_clock() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp::from_micros(0) + since
}

/// Who we are, told apart from an earlier life and from other balancers.
fn origin() -> Origin {
    use std::hash::{BuildHasher as _, RandomState};
    let start = wall_clock();
    // The standard library seeds it from the system's random numbers.
    let id = RandomState::new().hash_one((start.as_micros(), std::process::id()));
    Origin { id, start }
}

/// Where records leave.
#[derive(Debug)]
enum Road {
    Off,
    File(Box<LogFile>),
    Collector(UdpSocket),
}

impl Road {
    fn open(target: Option<&LogTarget>) -> io::Result<Self> {
        match target {
            None => Ok(Self::Off),
            Some(LogTarget::File(path)) => {
                let file = LogFile::open(path, Buffering::Blocks, BOUND)?;
                Ok(Self::File(Box::new(file)))
            }
            Some(LogTarget::Collector { addr, .. }) => {
                let any: SocketAddr = match addr {
                    SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
                    SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
                };
                let socket = UdpSocket::bind(any)?;
                socket.connect(addr)?;
                socket.set_nonblocking(true)?;
                Ok(Self::Collector(socket))
            }
        }
    }
}

struct Writer {
    batches: Receiver<Message>,
    road: Road,
    /// Where it leads, or is to lead when it can be opened.
    target: Option<LogTarget>,
    reopen: Arc<AtomicBool>,
    format: LogFormat,
    counts: Arc<Counts>,
    trouble: Arc<Mutex<Option<String>>>,
    origin: Origin,
    /// The number of the next record.
    next: u64,
    /// Records of `counts.overrun` that have their numbers.
    overrun: u64,
    /// What was written and what failed before this file.
    before: (u64, u64),
    /// Records that the classic spelling has nothing to say of.
    unsaid: u64,
    buf: Vec<u8>,
}

impl Writer {
    fn run(mut self) {
        loop {
            match self.wait() {
                Ok(Message::Batch(batch)) => self.write(&batch),
                Ok(Message::Target(target, format)) => self.turn_to(target, format),
                Ok(Message::Reopen) | Err(RecvTimeoutError::Timeout) => {}
                Ok(Message::End) | Err(RecvTimeoutError::Disconnected) => return self.leave(),
            }
            if self.reopen.swap(false, Ordering::Acquire) {
                self.reopen();
            }
            self.settle();
        }
    }

    fn reopen(&mut self) {
        match &mut self.road {
            Road::File(file) => file.reopen(Instant::now()),
            Road::Off if self.target.is_some() => self.turn_to(self.target.clone(), self.format),
            Road::Off | Road::Collector(_) => {}
        }
    }

    fn wait(&self) -> Result<Message, RecvTimeoutError> {
        let due = if let Road::File(file) = &self.road { file.next_due() } else { None };
        match due {
            Some(due) => self.batches.recv_deadline(due),
            None => self.batches.recv().map_err(|_| RecvTimeoutError::Disconnected),
        }
    }

    fn write(&mut self, batch: &Batch) {
        let overrun = self.counts.overrun.load(Ordering::Relaxed);
        self.next += overrun - self.overrun;
        self.overrun = overrun;
        let first = self.next;
        self.next += u64::from(batch.count);
        let mut road = std::mem::replace(&mut self.road, Road::Off);
        match (&mut road, self.format) {
            (Road::Off, _) => {}
            (Road::File(file), LogFormat::Extended) => {
                Records(&batch.records)
                    .mappings()
                    .for_each(|mapping| mapping.write_extended_line(file.buffer()));
            }
            (Road::File(file), LogFormat::Classic) => {
                for mapping in Records(&batch.records).mappings() {
                    if mapping.kind == Kind::Request {
                        mapping.write_file_line(file.buffer());
                    } else {
                        self.unsaid += 1;
                    }
                }
            }
            (Road::Collector(socket), LogFormat::Extended) => {
                self.buf.clear();
                let dropped = overrun + self.counts.failed.load(Ordering::Relaxed);
                let records = (batch.count, &batch.records[..]);
                write_packet(self.origin, first, wall_clock(), dropped, records, &mut self.buf);
                let sent = send(socket, &self.buf);
                self.count(sent, batch.count.into());
            }
            (Road::Collector(socket), LogFormat::Classic) => {
                for mapping in Records(&batch.records).mappings() {
                    if mapping.kind == Kind::Request {
                        self.buf.clear();
                        mapping.write_datagram(&mut self.buf);
                        let sent = send(socket, &self.buf);
                        self.count(sent, 1);
                    } else {
                        // All that this spelling has to say of it.
                        self.counts.written.fetch_add(1, Ordering::Relaxed);
                    }
                }
            }
        }
        self.road = road;
    }

    fn count(&self, sent: io::Result<Sent>, records: u64) {
        let trouble = match sent {
            Ok(sent) => {
                self.counts.written.fetch_add(records, Ordering::Relaxed);
                (sent == Sent::Refused).then(|| "nobody listens there".to_owned())
            }
            Err(error) => {
                self.counts.failed.fetch_add(records, Ordering::Relaxed);
                Some(error.to_string())
            }
        };
        self.set_trouble(trouble);
    }

    /// Says once that something is wrong, and once that it is over.
    fn set_trouble(&self, now: Option<String>) {
        let mut before = self.trouble.lock().unwrap_or_else(PoisonError::into_inner);
        match (&*before, &now) {
            (None, Some(error)) => warn!("cannot send mapping records: {error}"),
            (Some(_), None) => info!("mapping records are sent again"),
            _ => {}
        }
        if before.is_some() != now.is_some() {
            *before = now;
        }
    }

    fn settle(&mut self) {
        if let Road::File(file) = &mut self.road {
            file.settle(Instant::now());
            let (counts, (written, failed)) = (file.counts(), self.before);
            self.counts.written.store(written + counts.written + self.unsaid, Ordering::Relaxed);
            self.counts.failed.store(failed + counts.dropped, Ordering::Relaxed);
        }
    }

    fn turn_to(&mut self, target: Option<LogTarget>, format: LogFormat) {
        self.leave_road();
        let load = |count: &AtomicU64| count.load(Ordering::Relaxed);
        self.before = (load(&self.counts.written), load(&self.counts.failed));
        self.unsaid = 0;
        self.format = format;
        self.target = target;
        match Road::open(self.target.as_ref()) {
            Ok(road) => {
                self.road = road;
                *self.trouble.lock().unwrap_or_else(PoisonError::into_inner) = None;
            }
            Err(error) => {
                warn!("cannot open the mapping log: {error}; there is none now");
                *self.trouble.lock().unwrap_or_else(PoisonError::into_inner) =
                    Some(error.to_string());
            }
        }
    }

    fn leave_road(&mut self) {
        if let Road::File(file) = &mut self.road {
            file.finish(Instant::now());
        }
        self.settle();
        self.road = Road::Off;
    }

    fn leave(mut self) {
        self.leave_road();
    }
}

/// How a datagram left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sent {
    /// Nothing speaks against its arrival.
    Well,
    /// Nobody listened where the one before it went.
    Refused,
}

/// A refusal is told of by the next send, which sends nothing then: so it is done again.
fn send(socket: &UdpSocket, datagram: &[u8]) -> io::Result<Sent> {
    match socket.send(datagram) {
        Ok(_) => Ok(Sent::Well),
        Err(error) if error.kind() == ErrorKind::ConnectionRefused => {
            socket.send(datagram).map(|_| Sent::Refused)
        }
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use pen_records::addr::{ClientAddr, ServerAddr};
    use pen_records::mapping::packet::Packet;

    use super::*;

    fn mapping(number: u64) -> Mapping<'static> {
        let connection = Some(number);
        Mapping { connection, ..Mapping::new(ClientAddr::Unix, ServerAddr::Unix(b"/run/app")) }
    }

    fn collector() -> (UdpSocket, LogTarget) {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port is free");
        socket.set_read_timeout(Some(Duration::from_secs(20))).expect("it is not zero");
        let addr = socket.local_addr().expect("it is bound");
        (socket, LogTarget::Collector { name: addr.to_string(), addr })
    }

    #[test]
    fn records_are_numbered_and_arrive_in_packets() {
        let (socket, target) = collector();
        let log = MappingLog::start(Some(&target), LogFormat::Extended).unwrap();
        let mut notes = log.notes();
        for number in 0..100 {
            notes.note(&mapping(number), Instant::now());
        }
        drop(notes);
        let (mut buf, mut seen) = ([0; 2_048], 0);
        while seen < 100 {
            let len = socket.recv(&mut buf).unwrap();
            assert!(len <= PACKET, "{len}");
            let packet = Packet::parse(&buf[..len]).unwrap();
            assert_eq!((packet.first, packet.dropped), (seen, 0));
            for mapping in packet.mappings() {
                assert_eq!(mapping.connection, Some(seen));
                seen += 1;
            }
        }
        log.finish();
    }

    #[test]
    fn records_that_find_the_queue_full_are_counted_and_take_their_numbers() {
        let (socket, target) = collector();
        let (queue, batches) = bounded(1);
        let counts = Arc::new(Counts::default());
        let (batch, since) = (Vec::new(), None);
        let mut notes = Notes { queue, counts: counts.clone(), batch, count: 0, since };
        for number in 0..3 {
            notes.note(&mapping(number), Instant::now());
            notes.flush();
        }
        assert_eq!(counts.overrun.load(Ordering::Relaxed), 2);
        let mut writer = Writer {
            batches,
            road: Road::open(Some(&target)).unwrap(),
            target: Some(target),
            reopen: Arc::default(),
            format: LogFormat::Extended,
            counts,
            trouble: Arc::default(),
            origin: origin(),
            next: 0,
            overrun: 0,
            before: (0, 0),
            unsaid: 0,
            buf: Vec::new(),
        };
        let Ok(Message::Batch(batch)) = writer.wait() else { panic!("a batch") };
        writer.write(&batch);
        let mut buf = [0; 2_048];
        let len = socket.recv(&mut buf).unwrap();
        let packet = Packet::parse(&buf[..len]).unwrap();
        assert_eq!((packet.first, packet.dropped, packet.count()), (2, 2, 1));
    }

    #[test]
    fn what_could_not_be_opened_is_opened_when_that_is_asked_for_again() {
        let folder = std::env::temp_dir().join(format!("pen-reopen-{}", std::process::id()));
        let log = MappingLog::start(None, LogFormat::Classic).unwrap();
        let path = folder.join("log");
        log.change(Some(LogTarget::File(path.clone())), LogFormat::Classic);
        let deadline = Instant::now() + Duration::from_secs(20);
        while log.trouble().is_none() {
            assert!(Instant::now() < deadline, "the folder is not there");
            std::thread::yield_now();
        }
        std::fs::create_dir(&folder).unwrap();
        log.reopen();
        while !path.exists() || log.trouble().is_some() {
            assert!(Instant::now() < deadline, "it is not opened");
            std::thread::yield_now();
        }
        log.finish();
        std::fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn every_record_is_written_or_counted_as_lost_from_file_to_file() {
        let folder = std::env::temp_dir().join(format!("pen-counts-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let file = |name: &str| LogTarget::File(folder.join(name));
        let log = MappingLog::start(Some(&file("one")), LogFormat::Classic).unwrap();
        for name in ["two", "three"] {
            let mut notes = log.notes();
            // One that this spelling has a line for, and one that it says nothing of.
            notes.note(&Mapping { kind: Kind::Request, ..mapping(1) }, Instant::now());
            notes.note(&Mapping { kind: Kind::Opened, ..mapping(1) }, Instant::now());
            drop(notes);
            log.change(Some(file(name)), LogFormat::Classic);
        }
        let counts = log.counts.clone();
        log.finish();
        let counts = [&counts.made, &counts.written].map(|count| count.load(Ordering::Relaxed));
        assert_eq!(counts, [4, 4]);
        std::fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn a_reopening_never_waits() {
        let (queue, _nobody_takes_them) = bounded(1);
        let log = MappingLog {
            queue,
            counts: Arc::default(),
            trouble: Arc::default(),
            reopen: Arc::default(),
            thread: None,
        };
        log.reopen();
        log.reopen();
        assert!(log.reopen.load(Ordering::Relaxed));
    }

    #[test]
    fn a_collector_that_is_not_there_is_said_and_nothing_stops() {
        let (socket, target) = collector();
        drop(socket);
        let log = MappingLog::start(Some(&target), LogFormat::Classic).unwrap();
        let mut notes = log.notes();
        let deadline = Instant::now() + Duration::from_secs(20);
        while log.trouble().is_none() {
            notes.note(&mapping(1), Instant::now());
            notes.flush();
            std::thread::yield_now();
            assert!(Instant::now() < deadline);
        }
        drop(notes);
        log.finish();
    }
}
