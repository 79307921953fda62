//! The mapping log: sends records to a collector, writes them to a file, or drops them.
//!
//! Workers collect records in batches for the log thread ([`crate::logs::log_thread`]). Records of a batch that finds the
//! queue full keep their sequence numbers, so a collector sees the gap.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use pen_records::mapping::Mapping;
use pen_records::mapping::packet::{OVERHEAD, write_record};
use pen_records::time::Timestamp;
use tracing::{info, warn};

use crate::config::{LogFormat, LogTarget, RuntimeSettings};
use crate::logs::log_thread::{
    self, Batcher, LogBatch, LogCounters, LogPace, LogThread, LogTrouble, LogWriter,
};
use crate::logs::mapping_file::MappingFile;
use crate::logs::road::classic::ClassicRoad;
use crate::logs::road::{CollectorRoad, RecordOrigin};
pub use crate::logs::road::{LinkProofs, LinkSettings, SpoolSettings};

/// Most bytes of a packet.
const PACKET: usize = 1_400;
/// Most batches in the queue.
const QUEUE: usize = 2_048;
/// Most faults logged until records can be sent again.
const SAID: usize = 10;

/// Where records go and how. The default switches the log off.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MappingDestination {
    /// The file or the collector.
    pub target: Option<LogTarget>,
    /// The format of records.
    pub format: LogFormat,
    /// The way to a collector.
    pub link: LinkSettings,
    /// The folder for packets that a collector has not confirmed.
    pub spool: Option<SpoolSettings>,
}

impl From<&RuntimeSettings> for MappingDestination {
    fn from(settings: &RuntimeSettings) -> Self {
        let delivery = &settings.delivery;
        let bytes = (delivery.spool_mib.get() as u64).saturating_mul(1 << 20);
        let spool = delivery.spool.clone().map(|folder| SpoolSettings { folder, bytes });
        let collector = match &settings.log {
            Some(LogTarget::Collector { name, .. }) => name,
            _ => "",
        };
        let link = LinkSettings::new(delivery, collector);
        Self { target: settings.log.clone(), format: settings.log_format, link, spool }
    }
}

impl MappingDestination {
    /// Checks what a change of the settings may name: a key file, and the folder of the spool.
    ///
    /// # Errors
    /// Names the setting and the file.
    pub fn check(&self) -> Result<(), String> {
        if !matches!(self.target, Some(LogTarget::Collector { .. })) {
            return Ok(());
        }
        self.link.check()?;
        self.spool.as_ref().map_or(Ok(()), SpoolSettings::check)
    }
}

/// The mapping log and its thread.
pub type MappingLog = LogThread<MappingDestination>;

/// A handle to the mapping log for observers and for changes of the target.
pub type MappingLogControl = log_thread::LogControl<MappingDestination>;

impl MappingLog {
    /// Starts the log thread. A file is opened at once, so that a fault is reported at the start.
    ///
    /// # Errors
    /// The file or the socket cannot be opened, or the thread cannot be started.
    pub fn start(destination: MappingDestination) -> io::Result<Self> {
        let writer = MappingWriter::new(destination)?;
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

/// The open destination of records.
#[derive(Debug)]
enum MappingOutput {
    Off,
    File(Box<MappingFile>),
    Collector(Box<CollectorRoad>),
    Classic(Box<ClassicRoad>),
}

struct MappingWriter {
    output: MappingOutput,
    /// That of `output`, or of what could not be opened.
    destination: MappingDestination,
    counts: Arc<LogCounters>,
    trouble: LogTrouble,
    pace: LogPace,
    /// Faults logged since records could be sent.
    said: Vec<String>,
    origin: RecordOrigin,
    /// The sequence number of the next record.
    next: u64,
    /// Records of `counts.overrun` that have sequence numbers already.
    overrun: u64,
}

impl LogWriter for MappingWriter {
    type Target = MappingDestination;

    fn write(&mut self, mut batch: LogBatch) {
        let overrun = self.counts.overrun.load(Relaxed);
        self.next += overrun - self.overrun;
        self.overrun = overrun;
        let first = self.next;
        self.next += u64::from(batch.count);
        match &mut self.output {
            MappingOutput::Off => {}
            MappingOutput::File(file) => file.write(&batch),
            MappingOutput::Collector(road) => road.write(first, &mut batch),
            MappingOutput::Classic(road) => road.write(&batch),
        }
    }

    fn settle(&mut self) {
        let now = Instant::now();
        let trouble = match &mut self.output {
            MappingOutput::Off => return,
            MappingOutput::File(file) => {
                self.trouble.replace(file.settle(&self.counts));
                return;
            }
            MappingOutput::Collector(road) => road.settle(now),
            MappingOutput::Classic(road) => road.settle(now),
        };
        self.set_trouble(trouble);
    }

    fn set_target(&mut self, destination: MappingDestination) {
        self.close_output();
        self.destination = destination;
        match self.open() {
            Ok(output) => {
                self.output = output;
                self.pace.set_prompt(self.is_sure());
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
            MappingOutput::File(file) => file.reopen(),
            MappingOutput::Off if self.destination.target.is_some() => {
                self.set_target(self.destination.clone());
            }
            MappingOutput::Off | MappingOutput::Collector(_) | MappingOutput::Classic(_) => {}
        }
    }

    fn next_due(&self) -> Option<Instant> {
        match &self.output {
            MappingOutput::Off => None,
            MappingOutput::File(file) => file.next_due(),
            MappingOutput::Collector(road) => road.next_due(),
            MappingOutput::Classic(road) => road.next_due(),
        }
    }

    /// A C collector needs the record of a request before the access line arrives.
    fn may_gather(&self) -> bool {
        !matches!(&self.output, MappingOutput::Classic(_)) && !self.is_sure()
    }

    fn pace(&self) -> LogPace {
        self.pace.clone()
    }

    fn finish(&mut self) {
        self.close_output();
    }
}

impl MappingWriter {
    fn new(destination: MappingDestination) -> io::Result<Self> {
        let mut writer = Self {
            output: MappingOutput::Off,
            destination,
            counts: Arc::default(),
            trouble: LogTrouble::default(),
            pace: LogPace::default(),
            said: Vec::new(),
            origin: RecordOrigin::new(),
            next: 0,
            overrun: 0,
        };
        writer.output = writer.open()?;
        writer.pace.set_prompt(writer.is_sure());
        Ok(writer)
    }

    /// Whether records survive a kill of pen: with a spool. They must not wait in its memory then.
    const fn is_sure(&self) -> bool {
        matches!(self.output, MappingOutput::Collector(_)) && self.destination.spool.is_some()
    }

    fn open(&self) -> io::Result<MappingOutput> {
        let counts = self.counts.clone();
        let MappingDestination { target, format, link, spool } = &self.destination;
        Ok(match (target, format) {
            (None, _) => MappingOutput::Off,
            (Some(LogTarget::File(path)), format) => {
                MappingOutput::File(Box::new(MappingFile::open(path, *format, &counts)?))
            }
            (Some(LogTarget::Collector { addr, .. }), LogFormat::Extended) => {
                let (way, origin) = ((link, spool.clone()), self.origin);
                let road = CollectorRoad::open(*addr, way, origin, self.next, counts)?;
                MappingOutput::Collector(Box::new(road))
            }
            (Some(LogTarget::Collector { addr, .. }), LogFormat::Classic) => {
                MappingOutput::Classic(Box::new(ClassicRoad::open(*addr, counts)?))
            }
        })
    }

    /// Logs each failure once, and the first success after failures.
    fn set_trouble(&mut self, now: Option<String>) {
        let target = match &self.destination.target {
            Some(LogTarget::Collector { name, .. }) => name,
            _ => "a file",
        };
        match (self.trouble.replace(now.clone()), now) {
            (Some(_), None) => {
                self.said.clear();
                info!("mapping records can be sent to {target} again");
            }
            (_, Some(error)) if self.said.len() < SAID && !self.said.contains(&error) => {
                warn!(error, "cannot send mapping records to {target}");
                self.said.push(error);
            }
            _ => {}
        }
    }

    fn close_output(&mut self) {
        match &mut self.output {
            MappingOutput::Off => {}
            MappingOutput::File(file) => file.finish(&self.counts),
            MappingOutput::Collector(road) => road.finish(),
            MappingOutput::Classic(road) => road.finish(),
        }
        self.output = MappingOutput::Off;
    }
}

#[cfg(test)]
mod tests {
    use crossbeam_channel::bounded;
    use pen_records::mapping::MappingKind;
    use pen_records::mapping::packet::Packet;
    use pen_testing::{TempFolder, wait_until};

    use super::*;
    use crate::logs::log_thread::LogMessage;
    use crate::logs::road::tests::{collector, mapping};

    fn to(target: Option<LogTarget>, format: LogFormat) -> MappingDestination {
        MappingDestination { target, format, ..MappingDestination::default() }
    }

    #[test]
    fn records_that_find_the_queue_full_are_counted_and_take_their_numbers() {
        let (socket, target) = collector();
        let (queue, batches) = bounded(1);
        let mut writer = MappingWriter::new(to(Some(target), LogFormat::Extended)).unwrap();
        let mut records = MappingRecordWriter(Batcher::new(
            queue,
            writer.counts.clone(),
            writer.pace(),
            PACKET - OVERHEAD,
        ));
        for number in 0..3 {
            records.record(&mapping(number), Instant::now());
            records.flush();
        }
        assert_eq!(writer.counts.overrun.load(Relaxed), 2);
        let Ok(LogMessage::Batch(batch)) = batches.recv() else { panic!("a batch") };
        writer.write(batch);
        let mut buf = [0; 2_048];
        let len = socket.recv(&mut buf).unwrap();
        let packet = Packet::parse(&buf[..len]).unwrap();
        assert_eq!((packet.first, packet.dropped, packet.count()), (2, 2, 1));
    }

    #[test]
    fn a_record_leaves_at_once_with_a_spool_and_waits_for_others_without() {
        let (folder, (_socket, target)) = (TempFolder::new(), collector());
        let plain = to(Some(target), LogFormat::Extended);
        let spool = SpoolSettings { folder: folder.join("spool"), bytes: 1 << 20 };
        let spooled = MappingDestination { spool: Some(spool), ..plain.clone() };
        let mut writer = MappingWriter::new(plain.clone()).unwrap();
        let (queue, _batches) = bounded(9);
        let batch = Batcher::new(queue, writer.counts.clone(), writer.pace(), PACKET - OVERHEAD);
        let (mut records, now) = (MappingRecordWriter(batch), Instant::now());
        for (destination, is_prompt) in [(plain.clone(), false), (spooled, true), (plain, false)] {
            writer.set_target(destination);
            records.record(&mapping(1), now);
            assert_eq!(records.next_due() == Some(now), is_prompt);
            assert_eq!(writer.may_gather(), !is_prompt);
            records.flush();
        }
    }

    #[test]
    fn a_file_that_could_not_be_opened_is_opened_by_a_reopen() {
        let folder = TempFolder::new();
        let log = MappingLog::start(to(None, LogFormat::Classic)).unwrap();
        let path = folder.join("later").join("log");
        let target = Some(LogTarget::File(path.clone()));
        log.control().set_target(to(target, LogFormat::Classic)).unwrap();
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
        let log = MappingLog::start(to(Some(file("one")), LogFormat::Classic)).unwrap();
        for name in ["two", "three"] {
            let mut writer = log.record_writer();
            // A record that the classic format has a line for, and one that it cannot express.
            writer.record(&Mapping { kind: MappingKind::Request, ..mapping(1) }, Instant::now());
            writer.record(&Mapping { kind: MappingKind::Opened, ..mapping(1) }, Instant::now());
            drop(writer);
            log.control().set_target(to(Some(file(name)), LogFormat::Classic)).unwrap();
        }
        let control = log.control();
        log.finish();
        let counts = control.counts();
        let counts = [&counts.made, &counts.written].map(|count| count.load(Relaxed));
        assert_eq!(counts, [4, 4]);
    }
}
