//! The mapping log: sends records to a collector, writes them to a file, or drops them.
//!
//! Workers collect records in batches for the log thread ([`crate::logs::log_thread`]). Records of a batch that finds the
//! queue full keep their sequence numbers, so a collector sees the gap.

use std::hash::{BuildHasher as _, RandomState};
use std::io::{self, ErrorKind};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use pen_daemon::logfile::{Buffering, LogFile};
use pen_records::mapping::packet::{
    OVERHEAD, PacketRecords, restamp_packet, write_packet, write_record,
};
use pen_records::mapping::{Mapping, MappingKind};
use pen_records::shipment::{DiscoveryAnswer, DiscoveryQuestion, SenderOrigin, StreamList};
use pen_records::time::Timestamp;
use tracing::{info, warn};

use crate::config::{LogFormat, LogTarget};
use crate::logs::log_thread::{
    self, Batcher, LogBatch, LogCounters, LogThread, LogTrouble, LogWriter,
};
use crate::logs::packet_ring::{PacketRing, SettledRecords};

/// Most bytes of a packet.
const PACKET: usize = 1_400;
/// Most batches in the queue.
const QUEUE: usize = 2_048;
/// How long a datagram may be refused after it was sent. Its records count when the time is over, or with the next one.
const REFUSAL: Duration = Duration::from_millis(100);
/// Silence after which a collector is told that there are no records.
const QUIET: Duration = Duration::from_secs(1);
/// Most bytes of lines kept while a disk is full.
const BOUND: usize = 4 << 20;

/// Where records go and in which format; no target switches the log off.
type MappingDestination = (Option<LogTarget>, LogFormat);

/// The mapping log and its thread.
pub type MappingLog = LogThread<MappingDestination>;

/// A handle to the mapping log for observers and for changes of the target.
pub type MappingLogControl = log_thread::LogControl<MappingDestination>;

impl MappingLog {
    /// Starts the log thread. A file is opened at once, so that a fault is reported at the start.
    ///
    /// # Errors
    /// The file or the socket cannot be opened, or the thread cannot be started.
    pub fn start(target: Option<&LogTarget>, format: LogFormat) -> io::Result<Self> {
        let writer = MappingWriter::new(target, format)?;
        Self::run("mapping log", QUEUE, writer.counts.clone(), writer.trouble.clone(), writer)
    }

    /// Returns a record writer for a worker.
    #[must_use]
    pub fn record_writer(&self) -> MappingRecordWriter {
        MappingRecordWriter(self.batcher(PACKET - OVERHEAD))
    }
}

/// Collects the records of a worker.
#[derive(Debug)]
pub struct MappingRecordWriter(Batcher<MappingDestination>);

impl MappingRecordWriter {
    /// Adds a record. The batch is handed over within some milliseconds.
    pub fn record(&mut self, mapping: &Mapping<'_>, now: Instant) {
        self.0.add(now, |batch| write_record(mapping, batch));
        // No record is shorter than this: the batch is full.
        if self.0.is_full(40) {
            self.flush();
        }
    }

    /// Hands the batch over if it has waited long enough.
    pub fn flush_due(&mut self, now: Instant) {
        self.0.flush_due(now);
    }

    /// Returns when [`Self::flush_due`] is due; `None` for an empty batch.
    #[must_use]
    pub fn next_due(&self) -> Option<Instant> {
        self.0.next_due()
    }

    /// Hands the batch over.
    pub fn flush(&mut self) {
        self.0.flush();
    }
}

/// Returns the time by the system clock.
#[must_use]
pub fn wall_clock() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp::from_micros(0) + since
}

/// Returns a random identity of this process, different from other balancers and from earlier runs.
fn origin() -> SenderOrigin {
    let start = wall_clock();
    // The standard library seeds the hasher from the system's random numbers.
    let id = RandomState::new().hash_one((start.as_micros(), std::process::id()));
    SenderOrigin { id, start }
}

/// The open file or socket that records are written to.
#[derive(Debug)]
enum MappingOutput {
    Off,
    File(Box<LogFile>),
    Collector(UdpSocket),
}

impl MappingOutput {
    fn open(target: Option<&LogTarget>) -> io::Result<Self> {
        match target {
            None => Ok(Self::Off),
            Some(LogTarget::File(path)) => {
                let file = LogFile::open(path, Buffering::Blocks, BOUND)?;
                Ok(Self::File(Box::new(file)))
            }
            Some(LogTarget::Collector { addr, .. }) => connected_socket(*addr).map(Self::Collector),
        }
    }
}

/// Returns a UDP socket connected to `addr` that never blocks.
pub(crate) fn connected_socket(addr: SocketAddr) -> io::Result<UdpSocket> {
    let any: SocketAddr = match addr {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    let socket = UdpSocket::bind(any)?;
    socket.connect(addr)?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

struct MappingWriter {
    output: MappingOutput,
    /// The target of `output`, or of the file that could not be opened.
    target: Option<LogTarget>,
    format: LogFormat,
    counts: Arc<LogCounters>,
    trouble: LogTrouble,
    origin: SenderOrigin,
    /// The sequence number of the next record.
    next: u64,
    /// Records of `counts.overrun` that have sequence numbers already.
    overrun: u64,
    /// Records written, and records failed, before this file.
    before: (u64, u64),
    /// Records that the classic format cannot express.
    unsupported: u64,
    /// The last datagram to a collector, until it is known whether somebody listens there.
    in_flight: Option<SentDatagram>,
    /// Packets that the collector has not confirmed.
    ring: PacketRing,
    /// Records were given up since the collector's last reply.
    is_away: bool,
    /// When the last packet was sent.
    last_packet: Option<Instant>,
    random: RandomState,
    buf: Vec<u8>,
}

impl LogWriter for MappingWriter {
    type Target = MappingDestination;

    fn write(&mut self, batch: &LogBatch) {
        let overrun = self.counts.overrun.load(Ordering::Relaxed);
        self.next += overrun - self.overrun;
        self.overrun = overrun;
        let first = self.next;
        self.next += u64::from(batch.count);
        let mut output = std::mem::replace(&mut self.output, MappingOutput::Off);
        match (&mut output, self.format) {
            (MappingOutput::Off, _) => {}
            (MappingOutput::File(file), LogFormat::Extended) => {
                PacketRecords(&batch.bytes)
                    .mappings()
                    .for_each(|mapping| mapping.write_extended_line(file.buffer()));
            }
            (MappingOutput::File(file), LogFormat::Classic) => {
                for mapping in PacketRecords(&batch.bytes).mappings() {
                    if mapping.kind == MappingKind::Request {
                        mapping.write_file_line(file.buffer());
                    } else {
                        self.unsupported += 1;
                    }
                }
            }
            (MappingOutput::Collector(socket), LogFormat::Extended) => {
                self.buf.clear();
                let dropped = overrun + self.counts.failed.load(Ordering::Relaxed);
                let records = (batch.count, &batch.bytes[..]);
                write_packet(self.origin, first, wall_clock(), dropped, records, &mut self.buf);
                let sent = send(socket, &self.buf);
                self.last_packet = Some(Instant::now());
                self.count(sent, batch.count.into());
                let given_up = self.ring.keep((first, self.next), &self.buf, Instant::now());
                self.count_given_up(given_up);
            }
            (MappingOutput::Collector(socket), LogFormat::Classic) => {
                for mapping in PacketRecords(&batch.bytes).mappings() {
                    if mapping.kind == MappingKind::Request {
                        self.buf.clear();
                        mapping.write_datagram(&mut self.buf);
                        let sent = send(socket, &self.buf);
                        self.count(sent, 1);
                    } else {
                        // The classic format has nothing for this record: it counts as written.
                        self.counts.written.fetch_add(1, Ordering::Relaxed);
                    }
                }
            }
        }
        self.output = output;
    }

    fn settle(&mut self) {
        let now = Instant::now();
        if self.in_flight.is_some_and(|sent| now >= sent.settled) {
            self.settle_in_flight();
        }
        if self.ring.due().is_some_and(|due| due <= now) {
            self.repair(now);
        }
        if self.quiet_due().is_some_and(|due| due <= now) {
            self.send_heartbeat(now);
        }
        if let MappingOutput::File(file) = &mut self.output {
            file.settle(Instant::now());
            let ((written, dropped), before) = (file.settled(), self.before);
            self.counts.written.store(before.0 + written + self.unsupported, Ordering::Relaxed);
            self.counts.failed.store(before.1 + dropped, Ordering::Relaxed);
            self.trouble.replace(file.trouble());
        }
    }

    fn set_target(&mut self, (target, format): MappingDestination) {
        self.close_output();
        let load = |count: &AtomicU64| count.load(Ordering::Relaxed);
        self.before = (load(&self.counts.written), load(&self.counts.failed));
        self.unsupported = 0;
        self.format = format;
        self.target = target;
        match MappingOutput::open(self.target.as_ref()) {
            Ok(output) => {
                self.output = output;
                self.trouble.replace(None);
            }
            Err(error) => {
                warn!(%error, "cannot open the mapping log: records are dropped");
                self.trouble.replace(Some(error.to_string()));
            }
        }
    }

    fn reopen(&mut self) {
        match &mut self.output {
            MappingOutput::File(file) => file.reopen(Instant::now()),
            MappingOutput::Off if self.target.is_some() => {
                self.set_target((self.target.clone(), self.format));
            }
            MappingOutput::Off | MappingOutput::Collector(_) => {}
        }
    }

    fn next_due(&self) -> Option<Instant> {
        if let MappingOutput::File(file) = &self.output {
            file.next_due()
        } else {
            let settled = self.in_flight.map(|sent| sent.settled);
            [settled, self.ring.due(), self.quiet_due()].into_iter().flatten().min()
        }
    }

    /// A C collector needs the record of a request before the access line arrives.
    fn may_gather(&self) -> bool {
        !matches!((&self.output, self.format), (MappingOutput::Collector(_), LogFormat::Classic))
    }

    fn finish(&mut self) {
        self.close_output();
    }
}

impl MappingWriter {
    fn new(target: Option<&LogTarget>, format: LogFormat) -> io::Result<Self> {
        Ok(Self {
            output: MappingOutput::open(target)?,
            target: target.cloned(),
            format,
            counts: Arc::default(),
            trouble: LogTrouble::default(),
            origin: origin(),
            next: 0,
            overrun: 0,
            before: (0, 0),
            unsupported: 0,
            in_flight: None,
            ring: PacketRing::default(),
            is_away: false,
            last_packet: None,
            random: RandomState::new(),
            buf: Vec::with_capacity(PACKET),
        })
    }

    /// Counts the previous datagram by the result of sending the next.
    fn count(&mut self, sent: io::Result<DatagramOutcome>, records: u64) {
        match sent {
            Ok(outcome) => {
                self.settle_sent(outcome);
                let settled = Instant::now() + REFUSAL;
                self.in_flight = Some(SentDatagram { records, settled });
            }
            Err(error) => {
                self.settle_sent(DatagramOutcome::Sent);
                self.counts.failed.fetch_add(records, Ordering::Relaxed);
                self.set_trouble(Some(error.to_string()));
            }
        }
    }

    /// Counts the last datagram: no other one follows for a while.
    fn settle_in_flight(&mut self) {
        let refused = match &self.output {
            MappingOutput::Collector(socket) => socket.take_error().ok().flatten().is_some(),
            MappingOutput::Off | MappingOutput::File(_) => false,
        };
        self.settle_sent(if refused { DatagramOutcome::Refused } else { DatagramOutcome::Sent });
    }

    /// Counts the records of the last datagram as written, or as lost if nobody listened.
    fn settle_sent(&mut self, outcome: DatagramOutcome) {
        let Some(SentDatagram { records, .. }) = self.in_flight.take() else { return };
        let (count, trouble) = match outcome {
            DatagramOutcome::Sent => (&self.counts.written, None),
            DatagramOutcome::Refused => {
                if let Some(packet) = self.ring.last_mut() {
                    packet.is_failed = true;
                }
                (&self.counts.failed, Some("no process listens there".to_owned()))
            }
        };
        count.fetch_add(records, Ordering::Relaxed);
        self.set_trouble(trouble);
    }

    /// Asks the collector which packets have come, hears its reply, and sends others again.
    fn repair(&mut self, now: Instant) {
        let output = std::mem::replace(&mut self.output, MappingOutput::Off);
        if let MappingOutput::Collector(socket) = &output {
            self.hear(socket);
            let given_up = self.ring.give_up(now);
            self.count_given_up(given_up);
            if let Some(nonce) = self.ring.question(self.random.hash_one(now), self.next, now) {
                let (origin, shipments) = (self.origin, self.next);
                self.buf.clear();
                let (lines, streams) = (0, StreamList::default());
                DiscoveryQuestion { nonce, origin, shipments, lines, streams }.write(&mut self.buf);
                let _ = socket.send(&self.buf); // Asked again without a reply.
            }
            if self.ring.is_repairing() {
                let sent = wall_clock();
                for packet in self.ring.next_again() {
                    restamp_packet(packet, sent);
                    if socket.send(packet).is_err() {
                        break; // What is missing is sent after the next reply.
                    }
                }
            }
        }
        self.output = output;
    }

    /// Returns when to send a heartbeat, to a collector that has replied.
    fn quiet_due(&self) -> Option<Instant> {
        let is_collector = matches!(self.output, MappingOutput::Collector(_));
        let is_complete = self.ring.is_known() && !self.ring.is_repairing();
        self.last_packet.filter(|_| is_collector && is_complete).map(|last| last + QUIET)
    }

    /// Sends a packet without records: all records so far have been sent. The queue is empty, since a heartbeat is due only
    /// when the thread has waited for a batch in vain.
    fn send_heartbeat(&mut self, now: Instant) {
        self.last_packet = Some(now);
        let MappingOutput::Collector(socket) = &self.output else { return };
        let dropped = self.counts.overrun.load(Ordering::Relaxed)
            + self.counts.failed.load(Ordering::Relaxed);
        self.buf.clear();
        write_packet(self.origin, self.next, wall_clock(), dropped, (0, b""), &mut self.buf);
        let _ = socket.send(&self.buf); // The next one says more.
    }

    /// Takes replies of the collector.
    fn hear(&mut self, socket: &UdpSocket) {
        let mut reply = [0; 256];
        loop {
            match socket.recv(&mut reply) {
                Ok(len) => {
                    let Ok(answer) = DiscoveryAnswer::parse(&reply[..len]) else { continue };
                    if std::mem::take(&mut self.is_away) {
                        info!("the collector replies again");
                    }
                    let confirmed = self.ring.answered(answer.nonce, answer.received);
                    self.counts.failed.fetch_sub(confirmed.failed, Ordering::Relaxed);
                    self.counts.written.fetch_add(confirmed.failed, Ordering::Relaxed);
                }
                Err(error) if error.kind() == ErrorKind::ConnectionRefused => {
                    self.settle_sent(DatagramOutcome::Refused);
                }
                Err(_) => return,
            }
        }
    }

    /// Counts records as failed that were sent, never confirmed, and are not kept any longer.
    fn count_given_up(&mut self, given_up: SettledRecords) {
        let lost = given_up.all - given_up.failed;
        if lost > 0 {
            self.counts.written.fetch_sub(lost, Ordering::Relaxed);
            self.counts.failed.fetch_add(lost, Ordering::Relaxed);
            if !std::mem::replace(&mut self.is_away, true) {
                warn!("the collector does not reply: records are lost");
            }
        }
    }

    /// Logs the first failure, and the first success after failures.
    fn set_trouble(&self, now: Option<String>) {
        let target = match &self.target {
            Some(LogTarget::Collector { name, .. }) => name,
            _ => "a file",
        };
        match (self.trouble.replace(now.clone()), now) {
            (None, Some(error)) => warn!(error, "cannot send mapping records to {target}"),
            (Some(_), None) => info!("mapping records can be sent to {target} again"),
            _ => {}
        }
    }

    fn close_output(&mut self) {
        if let MappingOutput::File(file) = &mut self.output {
            file.finish(Instant::now());
        }
        self.settle_in_flight();
        self.settle();
        self.ring = PacketRing::default();
        self.last_packet = None;
        self.output = MappingOutput::Off;
    }
}

/// A datagram that may still be refused.
#[derive(Clone, Copy, Debug)]
struct SentDatagram {
    records: u64,
    /// When it counts as written.
    settled: Instant,
}

/// The outcome of sending a datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum DatagramOutcome {
    /// The datagram was sent.
    Sent,
    /// The datagram was sent, but no process listened where the previous one went.
    Refused,
}

/// Sends a datagram. A refusal of the previous datagram is reported by the next send, which sends nothing: so it is repeated.
fn send(socket: &UdpSocket, datagram: &[u8]) -> io::Result<DatagramOutcome> {
    match socket.send(datagram) {
        Ok(_) => Ok(DatagramOutcome::Sent),
        Err(error) if error.kind() == ErrorKind::ConnectionRefused => {
            socket.send(datagram).map(|_| DatagramOutcome::Refused)
        }
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use crossbeam_channel::bounded;
    use pen_records::addr::{ClientAddr, ServerAddr};
    use pen_records::mapping::origins::Origins;
    use pen_records::mapping::packet::Packet;
    use pen_records::shipment::ReceivedShipments;
    use pen_testing::{TempFolder, wait_until};

    use super::*;
    use crate::logs::log_thread::LogMessage;

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
        let mut writer = log.record_writer();
        for number in 0..100 {
            writer.record(&mapping(number), Instant::now());
        }
        drop(writer);
        let (mut buf, mut seen) = ([0; 2_048], 0);
        while seen < 100 {
            let len = socket.recv(&mut buf).unwrap();
            assert!(len <= PACKET, "{len}");
            if DiscoveryQuestion::parse(&buf[..len]).is_ok() {
                continue;
            }
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
        let mut writer = MappingWriter::new(Some(&target), LogFormat::Extended).unwrap();
        let mut records =
            MappingRecordWriter(Batcher::new(queue, writer.counts.clone(), PACKET - OVERHEAD));
        for number in 0..3 {
            records.record(&mapping(number), Instant::now());
            records.flush();
        }
        assert_eq!(writer.counts.overrun.load(Ordering::Relaxed), 2);
        let Ok(LogMessage::Batch(batch)) = batches.recv() else { panic!("a batch") };
        writer.write(&batch);
        let mut buf = [0; 2_048];
        let len = socket.recv(&mut buf).unwrap();
        let packet = Packet::parse(&buf[..len]).unwrap();
        assert_eq!((packet.first, packet.dropped, packet.count()), (2, 2, 1));
    }

    #[test]
    fn a_file_that_could_not_be_opened_is_opened_by_a_reopen() {
        let folder = TempFolder::new();
        let log = MappingLog::start(None, LogFormat::Classic).unwrap();
        let path = folder.join("later").join("log");
        let target = Some(LogTarget::File(path.clone()));
        log.control().set_target((target, LogFormat::Classic)).unwrap();
        wait_until("the missing folder is reported", || log.trouble().is_some());
        std::fs::create_dir(folder.join("later")).unwrap();
        log.reopen();
        wait_until("the file is opened", || path.exists() && log.trouble().is_none());
        log.finish();
    }

    #[test]
    fn every_record_is_written_or_counted_as_lost_from_file_to_file() {
        let folder = TempFolder::new();
        let file = |name: &str| LogTarget::File(folder.join(name));
        let log = MappingLog::start(Some(&file("one")), LogFormat::Classic).unwrap();
        for name in ["two", "three"] {
            let mut writer = log.record_writer();
            // A record that the classic format has a line for, and one that it cannot express.
            writer.record(&Mapping { kind: MappingKind::Request, ..mapping(1) }, Instant::now());
            writer.record(&Mapping { kind: MappingKind::Opened, ..mapping(1) }, Instant::now());
            drop(writer);
            log.control().set_target((Some(file(name)), LogFormat::Classic)).unwrap();
        }
        let control = log.control();
        log.finish();
        let counts = control.counts();
        let counts = [&counts.made, &counts.written].map(|count| count.load(Ordering::Relaxed));
        assert_eq!(counts, [4, 4]);
    }

    #[test]
    fn a_missing_collector_is_reported_and_nothing_stops() {
        let (socket, target) = collector();
        drop(socket);
        let log = MappingLog::start(Some(&target), LogFormat::Classic).unwrap();
        let mut writer = log.record_writer();
        wait_until("the refusal is reported", || {
            writer.record(&mapping(1), Instant::now());
            writer.flush();
            log.trouble().is_some()
        });
        drop(writer);
        let control = log.control();
        log.finish();
        let counts = control.counts();
        let [made, written, failed] = [&counts.made, &counts.written, &counts.failed]
            .map(|count| count.load(Ordering::Relaxed));
        assert_eq!((written, failed), (0, made), "nobody received a record");
    }

    fn answer(socket: &UdpSocket, to: SocketAddr, nonce: u64, received: ReceivedShipments) {
        let (mut answer, positions) = (Vec::new(), StreamList::default());
        let received = Some(received);
        DiscoveryAnswer { nonce, window: 0, datagram: 0, received, positions }.write(&mut answer);
        socket.send_to(&answer, to).unwrap();
    }

    /// Answers as a collector does, and returns the numbers of the connections that it heard of.
    fn collect(socket: &UdpSocket, wanted: usize) -> Vec<u64> {
        let (mut origins, mut buf, mut seen) = (Origins::new(1), [0; 2_048], Vec::new());
        while seen.len() < wanted {
            let (len, from) = socket.recv_from(&mut buf).unwrap();
            if let Ok(question) = DiscoveryQuestion::parse(&buf[..len]) {
                let next = question.shipments;
                let received = origins
                    .asked(&question, wall_clock())
                    .unwrap_or(ReceivedShipments { from: next, upto: next });
                answer(socket, from, question.nonce, received);
                continue;
            }
            let packet = Packet::parse(&buf[..len]).unwrap();
            if origins.receive(&packet, wall_clock()).is_some() {
                seen.extend(packet.mappings().filter_map(|mapping| mapping.connection));
            }
        }
        seen
    }

    #[test]
    fn a_collector_that_has_replied_is_told_each_second_that_there_are_no_records() {
        let (socket, target) = collector();
        let log = MappingLog::start(Some(&target), LogFormat::Extended).unwrap();
        let mut writer = log.record_writer();
        writer.record(&mapping(0), Instant::now());
        writer.flush();
        assert_eq!(collect(&socket, 1), [0]);
        let (mut buf, mut origins, mut heartbeats) = ([0; 2_048], Origins::new(1), 0);
        while heartbeats < 2 {
            let (len, from) = socket.recv_from(&mut buf).unwrap();
            if let Ok(question) = DiscoveryQuestion::parse(&buf[..len]) {
                let received = ReceivedShipments { from: 0, upto: question.shipments };
                answer(&socket, from, question.nonce, received);
                continue;
            }
            let packet = Packet::parse(&buf[..len]).unwrap();
            assert_eq!((packet.first, packet.count()), (1, 0));
            // A collector that knows nothing of heartbeats misses no record.
            assert!(origins.receive(&packet, wall_clock()).is_some());
            assert_eq!(origins.counts().lost, 0);
            heartbeats += 1;
        }
        drop(writer);
        log.finish();
    }

    #[test]
    fn records_made_while_the_collector_was_away_are_sent_again() {
        let (socket, target) = collector();
        let addr = socket.local_addr().unwrap();
        let log = MappingLog::start(Some(&target), LogFormat::Extended).unwrap();
        let mut writer = log.record_writer();
        writer.record(&mapping(0), Instant::now());
        writer.flush();
        assert_eq!(collect(&socket, 1), [0]);
        drop(socket);
        let mut made = 1;
        wait_until("the refusal is reported", || {
            writer.record(&mapping(made), Instant::now());
            writer.flush();
            made += 1;
            log.trouble().is_some()
        });
        let socket = UdpSocket::bind(addr).expect("nobody took the port");
        socket.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        // Another life of the collector: it gets all that the first one did not confirm.
        let wanted = usize::try_from(made).unwrap();
        let mut seen = collect(&socket, wanted);
        seen.sort_unstable();
        assert_eq!(seen, (0..made).collect::<Vec<_>>());
        drop(writer);
        log.finish();
    }
}
