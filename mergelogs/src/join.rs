//! The merge: the earliest line of all logs goes to the attributor, after the mappings up to its
//! time. Decided lines go to the writer.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError};
use pen_daemon::error::{ActionError, Doing as _};
use pen_records::attribution::{
    Attributor, FingerprintCuts, JoinCounts, JoinSettings, LineOrigin, LoggedLine, MappingEvent,
};
use pen_records::clocks::ClockTrack;
use pen_records::histogram::Histogram;
use pen_records::merge::MergeHeads;
use pen_records::rewrite::OutcomeCounts;
use pen_records::time::{Resolution, Timestamp};

use crate::clocks::CorrectedMappings;
use crate::config::{InputOrigin, MergeConfig};
use crate::error::MergeError;
use crate::input::heads::InputHead;
use crate::input::reader::{
    AccessBatch, AccessEnd, AccessJob, LinePlace, MappingBatch, MappingEnd, MappingJob, ParsedLine,
    ReaderHandle, UsedBatch,
};
use crate::input::shares::{MemoryShares, OpenInputs};
use crate::line_query::QueryTracker;
use crate::output::Output;
use crate::output::writer::{self, LineHandle, LineWriter, OutgoingLine, WriterHandle};
use crate::passes::ClockPasses;
use crate::report::audit::Audit;
use crate::report::progress::Progress;
use crate::second_places::SecondPlaces;
use crate::servers::{KnownServer, NamedServers};

/// How long a line waits for later mappings and for the other lines of its group: logged seconds.
pub(crate) const WAIT: Duration = Duration::from_secs(3);
/// How far ahead of a line mappings are taken in: the wait, and a stamp's
/// one second.
const SLACK: i64 = 4_000_000;
/// Lines the attributor may hold.
const LINES: usize = 1 << 16;
/// Mappings the attributor may hold.
const MAPPINGS: usize = 3 << 18;
/// Bytes of text the attributor may hold. Beyond this limit the oldest lines are decided early.
const TEXT: usize = 32 << 20;

/// The greatest probability of a client where a clock was set, in thousandths.
const IN_DOUBT: u16 = 960;

/// The results of a run, for the report.
#[derive(Default)]
pub(crate) struct JoinTally {
    pub(crate) written: u64,
    pub(crate) servers: Vec<OutcomeCounts>,
    /// Lines of each server that came past the balancer.
    pub(crate) direct: Vec<u64>,
    pub(crate) audit: Option<Audit>,
    pub(crate) delays: Histogram,
    /// Explanations of the lines of `--explain-line`.
    pub(crate) answers: Vec<String>,
    pub(crate) logs: Vec<(usize, InputOrigin, AccessEnd)>,
    pub(crate) mapping_logs: Vec<(InputOrigin, MappingEnd)>,
    /// Mappings after the last line; they were skipped.
    pub(crate) later: u64,
    /// Mappings too old for the first line after them.
    pub(crate) expired: u64,
    pub(crate) counts: JoinCounts,
    pub(crate) span: Option<(Timestamp, Timestamp)>,
}

/// The progress of one input in the merge.
enum InputState<R> {
    /// The merge has not reached the input's first time.
    Waiting,
    Open(R),
    /// The last batch was received.
    Ended,
}

/// An access log in the merge.
struct OpenLog {
    server: usize,
    track: Option<Arc<ClockTrack>>,
    head: InputHead,
    state: InputState<ReaderHandle<AccessBatch, UsedBatch>>,
    /// The next lines are `lines[at..]`.
    lines: Vec<ParsedLine>,
    at: usize,
    /// Where in a second the next line is, if the server writes other logs, too.
    places: Option<SecondPlaces>,
}

impl OpenLog {
    /// Returns the time by which the next line is merged with other logs.
    #[inline]
    fn next_place(&mut self) -> Option<Timestamp> {
        let next = self.lines.get(self.at..)?;
        match &mut self.places {
            Some(places) => places.place(next),
            None => next.first().map(|next| next.line.time),
        }
    }
}

/// A mapping log in the merge, in one pass.
struct OpenMappingLog {
    origin: InputOrigin,
    pass: usize,
    state: InputState<ReaderHandle<MappingBatch, Vec<MappingEvent>>>,
    records: Vec<MappingEvent>,
    at: usize,
    /// If there are logs of several balancers.
    places: Option<SecondPlaces>,
}

impl OpenMappingLog {
    /// Returns the time by which the next record is merged with other mapping logs.
    #[inline]
    fn next_place(&mut self) -> Option<Timestamp> {
        match &mut self.places {
            Some(places) => places.place_record(&self.records[self.at..]),
            None => self.records.get(self.at).map(|record| record.time),
        }
    }
}

/// The inputs and settings of a merge.
pub(crate) struct JoinSetup<'a> {
    pub(crate) config: &'a MergeConfig,
    pub(crate) shares: MemoryShares,
    pub(crate) signal: Arc<AtomicUsize>,
    pub(crate) progress: &'a mut Progress,
    /// Microseconds each server's clock is ahead of the balancer's.
    pub(crate) ahead: &'a [i64],
    /// By log: the way of its clock beside that, unless it is steady.
    pub(crate) tracks: Vec<Option<Arc<ClockTrack>>>,
    /// By server: whether pairs of its lines and mappings would be chance.
    pub(crate) unknown: &'a [bool],
    /// Mapping logs whose clock was set back, or is not the first balancer's.
    pub(crate) corrected: &'a [CorrectedMappings],
    /// How many balancers wrote mapping logs at the same time.
    pub(crate) balancers: usize,
    pub(crate) logs: Vec<(usize, InputHead)>,
    pub(crate) mappings: Vec<InputHead>,
}

impl JoinSetup<'_> {
    /// Whether a log of the server's address lacks the protocol of requests.
    fn lacks_protocol(&self, server: usize) -> bool {
        let addr = self.config.servers[server].addr();
        self.logs
            .iter()
            .any(|(other, head)| head.lacks_protocol && self.config.servers[*other].addr() == addr)
    }

    /// Returns the correction of a mapping log's times.
    fn correction_of(&self, origin: &InputOrigin) -> Option<&CorrectedMappings> {
        self.corrected.iter().find(|log| log.origin == *origin)
    }
}

/// Reads all inputs and writes all lines.
pub(crate) fn run(
    setup: JoinSetup<'_>,
    output: &mut Output,
    explain: Option<&mut Output>,
) -> Result<JoinTally, MergeError> {
    let (writer, orders) = writer::channel();
    let servers: Vec<usize> = setup.logs.iter().map(|(server, _)| *server).collect();
    let lines = LineWriter::new(setup.config, servers.into_iter(), output, explain);
    thread::scope(|scope| {
        let writing = thread::Builder::new()
            .name("lines".to_owned())
            .spawn_scoped(scope, move || lines.write(&orders))
            .doing("start a thread")?;
        let merged = MergeJoin::new(setup, writer).run();
        // The merge has dropped its end of the channel, so the writer ends.
        let written = writing
            .join()
            .map_err(|_| ActionError::cannot("write lines", "the thread panicked"))?;
        match merged {
            // The cause is in the writer's own result.
            Err(MergeError::WriterEnded) => Err(written.err().unwrap_or(MergeError::WriterEnded)),
            Err(error) => Err(error),
            Ok(mut tally) => {
                let written = written?;
                (tally.written, tally.servers) = (written.lines, written.servers);
                (tally.audit, tally.delays) = (written.audit, written.delays);
                (tally.answers, tally.direct) = (written.answers, written.direct);
                Ok(tally)
            }
        }
    })
}

struct MergeJoin<'a> {
    setup: JoinSetup<'a>,
    writer: WriterHandle,
    engine: Attributor<LineHandle>,
    ids: Vec<pen_records::attribution::ServerIndex>,
    servers: Arc<NamedServers>,
    logs: Vec<OpenLog>,
    heads: MergeHeads,
    mapping_logs: Vec<OpenMappingLog>,
    mapping_heads: MergeHeads,
    inputs: OpenInputs,
    /// Whether mapping logs may hold extended lines of our own balancer.
    extended: bool,
    /// The fingerprints that the mapping logs need of lines.
    cuts: FingerprintCuts,
    /// By server: whether requests are compared without the protocol.
    lacks_protocol: Vec<bool>,
    now: Timestamp,
    /// The last time of a line in whole seconds: until then time and mappings have advanced as far as such lines need.
    ready: Option<Timestamp>,
    /// Bytes of text the attributor holds.
    held: usize,
    taken: u64,
    decided: u64,
    asking: QueryTracker,
    tally: JoinTally,
}

impl<'a> MergeJoin<'a> {
    fn new(mut setup: JoinSetup<'a>, writer: WriterHandle) -> Self {
        let settings = JoinSettings {
            wait: WAIT,
            // Lines are decided that much later than their time.
            window: setup.config.window + WAIT,
            max_mappings: MAPPINGS,
            max_lines: LINES,
        };
        let mut engine = Attributor::new(settings);
        if setup.config.candidates {
            engine.explain_all();
        }
        let ids: Vec<_> = setup.config.servers.iter().map(|s| engine.server(s.addr())).collect();
        let passes =
            ClockPasses::new(setup.ahead, setup.mappings.iter().all(|head| head.repeatable));
        let lacks_protocol: Vec<_> =
            (0..setup.config.servers.len()).map(|server| setup.lacks_protocol(server)).collect();
        let mut servers = NamedServers::default();
        for (index, server) in setup.config.servers.iter().enumerate() {
            let known = passes.known(index, ids[index]);
            let known = KnownServer { lacks_protocol: lacks_protocol[index], ..known };
            servers.insert(server.addr(), known);
        }
        servers.add_names(&setup.config.third_party.names);
        let extended = setup.mappings.iter().any(|head| head.extended);
        let target = setup.mappings.iter().any(|head| head.third_party);
        let cuts = FingerprintCuts { short: true, long: extended, target };
        let mut starts = Vec::new();
        let (mut logs, mut heads) = (Vec::new(), MergeHeads::new());
        let tracks = std::mem::take(&mut setup.tracks).into_iter().chain(std::iter::repeat(None));
        for ((server, mut head), track) in std::mem::take(&mut setup.logs).into_iter().zip(tracks) {
            if let Some(track) = &track {
                let (ahead, _) = track.cursor().next(0, head.first_time);
                head.first_time = head.first_time.offset_by(-ahead);
            }
            heads.add(logs.len(), head.first_time);
            starts.push(head.first_time);
            logs.push(OpenLog {
                server,
                track,
                head,
                state: InputState::Waiting,
                lines: Vec::new(),
                at: 0,
                places: None,
            });
        }
        for index in 0..logs.len() {
            let server = logs[index].server;
            let others = logs.iter().filter(|log| log.server == server).count() - 1;
            logs[index].places = (others > 0).then(SecondPlaces::new);
        }
        let (mut mapping_logs, mut mapping_heads) = (Vec::new(), MergeHeads::new());
        for head in std::mem::take(&mut setup.mappings) {
            let ahead = setup.correction_of(&head.origin).map_or(0, CorrectedMappings::ahead);
            for pass in 0..passes.count() {
                let first = head.first_time.offset_by(passes.base(pass) - ahead);
                mapping_heads.add(mapping_logs.len(), first);
                starts.push(first);
                mapping_logs.push(OpenMappingLog {
                    origin: head.origin.clone(),
                    pass,
                    state: InputState::Waiting,
                    records: Vec::new(),
                    at: 0,
                    places: (setup.balancers > 1).then(SecondPlaces::new),
                });
            }
        }
        let asking = QueryTracker::new(setup.config.question.clone(), logs.len());
        let inputs = OpenInputs::new(setup.shares.clone(), starts.into_iter());
        Self {
            setup,
            writer,
            engine,
            ids,
            servers: Arc::new(servers),
            logs,
            heads,
            mapping_logs,
            mapping_heads,
            inputs,
            extended,
            cuts,
            lacks_protocol,
            now: Timestamp::MIN,
            ready: None,
            held: 0,
            taken: 0,
            decided: 0,
            asking,
            tally: JoinTally::default(),
        }
    }

    fn run(mut self) -> Result<JoinTally, MergeError> {
        while let Some((log, place)) = self.heads.first() {
            if self.logs[log].at == self.logs[log].lines.len() {
                self.refill(log)?;
                continue;
            }
            let LoggedLine { time, resolution, .. } = self.logs[log].lines[self.logs[log].at].line;
            if resolution != Resolution::Second {
                self.keep_order(time)?;
                self.span(time);
            } else if self.ready != Some(time) {
                self.move_to(time)?;
                self.take_mappings(time.offset_by(SLACK))?;
                self.span(time);
                self.ready = Some(time);
            }
            self.take_line((log, place));
            if self.held > TEXT || self.taken.is_multiple_of(1 << 14) {
                self.decide_early()?;
            }
        }
        self.engine.finish();
        self.write_decided()?;
        self.writer.flush()?;
        self.drain_mappings()?;
        self.tally.counts = self.engine.counts();
        Ok(self.tally)
    }

    /// Passes the next line of the first log to the attributor.
    #[inline]
    fn take_line(&mut self, (log, now): (usize, Timestamp)) {
        let number = u32::try_from(log).expect("fewer inputs than descriptors");
        let log = &mut self.logs[log];
        let ParsedLine { line, place } = &log.lines[log.at];
        if self.asking.is_asked(number, place, self.taken + 1) {
            self.engine.explain_next();
        }
        self.engine.line(line, LineHandle { log: number, place: *place });
        self.taken += 1;
        self.held += place.len as usize;
        log.at += 1;
        // With the same time again, the log stays the first.
        if let Some(place) = log.next_place().filter(|&place| place != now) {
            self.heads.advance_first(place);
        }
    }

    /// Processes lines and mappings in the order of time where timestamps are finer than seconds, as `penlogd` would have live.
    fn keep_order(&mut self, time: Timestamp) -> Result<(), MergeError> {
        while let Some(due) = self.engine.next_due()
            && due <= time
        {
            self.take_mappings(due)?;
            // A line that is far out of order was due before now.
            self.now = self.now.max(due);
            self.engine.advance(self.now);
            self.write_decided()?;
        }
        self.take_mappings(time)?;
        self.move_to(time)
    }

    /// Advances the time and writes the lines due by then. A gap is crossed in steps, so that no
    /// mapping is forgotten before its lines are decided.
    fn move_to(&mut self, time: Timestamp) -> Result<(), MergeError> {
        if time <= self.now {
            return Ok(());
        }
        while time > self.now + WAIT
            && let Some(due) = self.engine.next_due()
            && due < time
        {
            self.now = self.now.max(due);
            self.engine.advance(self.now);
            self.write_decided()?;
        }
        self.now = time;
        self.engine.advance(time);
        self.write_decided()
    }

    fn span(&mut self, time: Timestamp) {
        // No line before had a time.
        if time == Timestamp::MIN {
            return;
        }
        match &mut self.tally.span {
            Some((first, last)) => {
                *first = time.min(*first);
                *last = time.max(*last);
            }
            none => *none = Some((time, time)),
        }
    }

    /// Decides the oldest lines early while too much text is held.
    fn decide_early(&mut self) -> Result<(), MergeError> {
        self.write_decided()?;
        while self.held > TEXT
            && let Some(due) = self.engine.next_due()
        {
            let before = self.held;
            self.engine.advance(self.now.max(due));
            self.write_decided()?;
            if self.held == before {
                break;
            }
        }
        Ok(())
    }

    /// Opens the first log, waits for its next batch, or ends it.
    fn refill(&mut self, index: usize) -> Result<(), MergeError> {
        let log = &mut self.logs[index];
        if let InputState::Waiting = log.state {
            self.inputs.open(log.head.first_time);
            let job = AccessJob {
                origin: log.head.origin.clone(),
                server: self.ids[log.server],
                number: LineOrigin(u32::try_from(index).unwrap_or(u32::MAX)),
                port: self.setup.config.servers[log.server].port,
                spec: self.setup.config.servers[log.server].spec.clone(),
                zone: self.setup.config.servers[log.server].zone,
                track: log.track.clone(),
                first_time: log.head.first_time,
                cuts: self.cuts,
                lacks_protocol: self.lacks_protocol[log.server],
                shares: self.setup.shares.clone(),
            };
            let reader = job.start().doing(format_args!("open {}", log.head.origin))?;
            self.writer.open(index, reader.used.clone())?;
            log.state = InputState::Open(reader);
        }
        let InputState::Open(reader) = &log.state else {
            self.heads.remove_first();
            return Ok(());
        };
        if !log.lines.is_empty() {
            let mut used = std::mem::take(&mut log.lines);
            used.clear();
            // A reader that has ended needs nothing back.
            let _ = reader.used.send(UsedBatch::Lines(used));
        }
        let batch = receive(&reader.batches, &self.setup.signal, &log.head.origin)?;
        (log.lines, log.at) = (batch.lines, 0);
        if let Some((block, lines)) = batch.text {
            self.asking.look(index, &block);
            self.writer.text(index, block, lines)?;
        }
        if let Some(place) = log.next_place() {
            self.heads.advance_first(place);
        }
        if let Some(end) = batch.end {
            log.state = InputState::Ended;
            self.inputs.end();
            self.tally.logs.push((log.server, log.head.origin.clone(), *end));
        }
        let read = self.setup.shares.progress.load(Ordering::Relaxed);
        self.setup.progress.show(read, self.decided);
        Ok(())
    }

    /// Gives the attributor the mappings up to `time`.
    fn take_mappings(&mut self, until: Timestamp) -> Result<(), MergeError> {
        let oldest = self.now - self.setup.config.window - WAIT;
        let mut taken = 0_u32;
        while let Some((index, next)) = self.mapping_heads.first()
            && next <= until
        {
            let log = &mut self.mapping_logs[index];
            let Some(record) = log.records.get(log.at) else {
                self.refill_mappings(index)?;
                continue;
            };
            let time = record.time;
            // A connection may have been opened long before.
            if time < oldest && record.exchange.is_none() {
                self.tally.expired += 1;
            } else {
                self.engine.mapping(record);
            }
            log.at += 1;
            // With the same time again, the log stays the first.
            if let Some(next) = log.next_place()
                && (next != time || log.places.is_some())
            {
                self.mapping_heads.advance_first(next);
            }
            taken += 1;
            if taken.is_multiple_of(1 << 12) {
                // Long before the line: what is too old by then need not be remembered.
                self.move_to(time.offset_by(-SLACK))?;
            }
        }
        Ok(())
    }

    fn refill_mappings(&mut self, index: usize) -> Result<(), MergeError> {
        let log = &mut self.mapping_logs[index];
        if let InputState::Waiting = log.state {
            self.inputs.open(self.mapping_heads.first().map_or(self.now, |(_, first)| first));
            let job = MappingJob {
                origin: log.origin.clone(),
                servers: Arc::clone(&self.servers),
                third_party: self.setup.config.third_party.clone(),
                track: self.setup.correction_of(&log.origin).map(|it| Arc::clone(&it.track)),
                pass: log.pass,
                extended: self.extended,
                shares: self.setup.shares.clone(),
            };
            let reader = job.start().doing(format_args!("open {}", log.origin))?;
            log.state = InputState::Open(reader);
        }
        let InputState::Open(reader) = &log.state else {
            self.mapping_heads.remove_first();
            return Ok(());
        };
        if !log.records.is_empty() {
            let mut used = std::mem::take(&mut log.records);
            used.clear();
            let _ = reader.used.send(used);
        }
        let batch = receive(&reader.batches, &self.setup.signal, &log.origin)?;
        (log.records, log.at) = (batch.records, 0);
        if let Some(first) = log.next_place() {
            self.mapping_heads.advance_first(first);
        }
        if let Some(end) = batch.end {
            log.state = InputState::Ended;
            self.inputs.end();
            if log.pass == 0 {
                self.tally.mapping_logs.push((log.origin.clone(), *end));
            }
        }
        Ok(())
    }

    /// Reads the mapping logs to their ends, so that the report covers all of them.
    fn drain_mappings(&mut self) -> Result<(), MergeError> {
        while let Some((index, _)) = self.mapping_heads.first() {
            let log = &mut self.mapping_logs[index];
            let left = log.records[log.at..].iter();
            self.tally.later += left.filter(|record| record.is_request()).count() as u64;
            log.at = log.records.len();
            self.refill_mappings(index)?;
        }
        Ok(())
    }

    fn write_decided(&mut self) -> Result<(), MergeError> {
        while let Some(decided) = self.engine.next_decided() {
            self.decided += 1;
            let LinePlace { len, in_doubt, .. } = decided.payload.place;
            self.held = self.held.saturating_sub(len as usize);
            let mut verdict = decided.verdict;
            if in_doubt {
                verdict = verdict.in_doubt(IN_DOUBT);
            }
            let server = self.logs[decided.payload.log as usize].server;
            if self.setup.unknown.get(server) == Some(&true) {
                verdict = verdict.without_clocks();
            }
            let why = self.engine.take_why().map(Box::new);
            self.writer.line(OutgoingLine { line: decided.payload, verdict, why })?;
        }
        Ok(())
    }
}

/// Waits for a batch or a signal.
fn receive<B>(
    batches: &Receiver<B>,
    signal: &AtomicUsize,
    origin: &InputOrigin,
) -> Result<B, MergeError> {
    loop {
        match signal.load(Ordering::Relaxed) {
            0 => {}
            signal => return Err(MergeError::Signal(signal)),
        }
        match batches.recv_timeout(Duration::from_millis(100)) {
            Ok(batch) => return Ok(batch),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => {
                let action = format_args!("read {origin}");
                return Err(ActionError::cannot(action, "the thread panicked").into());
            }
        }
    }
}
