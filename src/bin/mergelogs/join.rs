//! The merge: the earliest line of all logs goes to the attributor, after the mappings up to its
//! time; what the attributor has decided is written.

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError};
use pen_records::access::{Span, write_with_client, write_with_text};
use pen_records::attribution::{
    Attributor, Certainty, Counts, Decided, Reason, Record, Settings, Verdict,
};
use pen_records::merge::Heads;
use pen_records::time::Timestamp;

use crate::cli::{Likely, Unmatched};
use crate::config::{Config, Origin};
use crate::heads::Head;
use crate::lines::Block;
use crate::output::{Output, OutputError};
use crate::passes::Passes;
use crate::progress::Progress;
use crate::reader::{
    AccessBatch, AccessEnd, AccessJob, MappingBatch, MappingEnd, MappingJob, Parsed, Place, Reader,
    Servers, Shared, Used,
};

/// How long a line waits for later mappings and for the other lines of its group: logged seconds.
pub(crate) const WAIT: Duration = Duration::from_secs(3);
/// How far ahead of a line mappings are taken in: the wait, and a stamp's
/// one second.
const SLACK: i64 = 4_000_000;
/// Lines the attributor may hold.
const LINES: usize = 1 << 16;
/// Mappings it may hold.
const MAPPINGS: usize = 1 << 20;
/// Text it may hold: beyond, the oldest lines are decided early.
const TEXT: usize = 48 << 20;

/// Why a run ended early.
#[derive(Debug)]
pub(crate) enum JoinError {
    Open(String, io::Error),
    /// Its thread broke down.
    Reader(String),
    Output(OutputError),
    Signal(usize),
}

impl fmt::Display for JoinError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Open(name, error) => write!(f, "cannot open {name}: {error}"),
            Self::Reader(name) => write!(f, "cannot read {name}: its thread broke down"),
            Self::Output(error) => error.fmt(f),
            Self::Signal(signal) => write!(f, "stopped by signal {signal}"),
        }
    }
}

impl std::error::Error for JoinError {}

impl From<OutputError> for JoinError {
    fn from(error: OutputError) -> Self {
        Self::Output(error)
    }
}

/// What a run did, for the report.
#[derive(Default)]
pub(crate) struct Tally {
    pub(crate) written: u64,
    pub(crate) servers: Vec<ServerTally>,
    pub(crate) logs: Vec<(usize, Origin, AccessEnd)>,
    pub(crate) mapping_logs: Vec<(Origin, MappingEnd)>,
    /// Mappings with a time after the last line's, never looked at.
    pub(crate) later: u64,
    /// Mappings too old for the first line after them.
    pub(crate) stale: u64,
    pub(crate) counts: Counts,
    pub(crate) span: Option<(Timestamp, Timestamp)>,
}

/// Lines of a server by outcome.
#[derive(Clone, Copy, Default)]
pub(crate) struct ServerTally {
    pub(crate) exact: u64,
    pub(crate) certain: u64,
    pub(crate) likely: u64,
    pub(crate) none: u64,
    pub(crate) not_understood: u64,
}

/// Where a stream stands.
enum State<R> {
    /// Its first time has not been reached.
    Waiting,
    Open(R),
    /// What is at hand is the last of it.
    Ended,
}

/// What the attributor carries with a line.
#[derive(Clone, Copy)]
struct Handle {
    input: u32,
    place: Place,
}

/// An access log in the merge.
struct Log {
    server: usize,
    head: Head,
    state: State<Reader<AccessBatch, Used>>,
    /// What comes next: `lines[at..]`.
    lines: Vec<Parsed>,
    at: usize,
    /// Text of lines that are not written yet, with how many lines that is.
    texts: VecDeque<(Block, usize)>,
    /// The number of the first of `texts`.
    first_text: u32,
}

/// A mapping log in the merge, in one pass.
struct MappingLog {
    origin: Origin,
    pass: usize,
    state: State<Reader<MappingBatch, Vec<Record>>>,
    records: Vec<Record>,
    at: usize,
}

/// How a merge is set up.
pub(crate) struct Setup<'a> {
    pub(crate) config: &'a Config,
    pub(crate) shared: Shared,
    pub(crate) signal: Arc<AtomicUsize>,
    pub(crate) progress: &'a mut Progress,
    pub(crate) output: &'a mut Output,
    pub(crate) explain: Option<&'a mut Output>,
    /// Microseconds each server's clock is ahead of the balancer's.
    pub(crate) ahead: &'a [i64],
    pub(crate) logs: Vec<(usize, Head)>,
    pub(crate) mappings: Vec<Head>,
}

pub(crate) struct Join<'a> {
    setup: Setup<'a>,
    labels: Vec<String>,
    engine: Attributor<Handle>,
    ids: Vec<pen_records::attribution::ServerId>,
    servers: Arc<Servers>,
    logs: Vec<Log>,
    heads: Heads,
    mapping_logs: Vec<MappingLog>,
    mapping_heads: Heads,
    now: Timestamp,
    /// Bytes of text the engine holds.
    held: usize,
    taken: u64,
    tally: Tally,
}

impl<'a> Join<'a> {
    pub(crate) fn new(mut setup: Setup<'a>) -> Self {
        let settings = Settings {
            wait: WAIT,
            // Lines are decided that much later than their time.
            window: setup.config.window + WAIT,
            max_mappings: MAPPINGS,
            max_lines: LINES,
        };
        let mut engine = Attributor::new(settings);
        let ids: Vec<_> = setup.config.servers.iter().map(|s| engine.server(s.addr())).collect();
        let passes = Passes::new(setup.ahead, setup.mappings.iter().all(|head| head.repeatable));
        let mut servers = Servers::default();
        for (index, server) in setup.config.servers.iter().enumerate() {
            servers.insert(server.addr(), passes.known(index, ids[index]));
        }
        let (mut logs, mut heads) = (Vec::new(), Heads::new());
        for (server, head) in std::mem::take(&mut setup.logs) {
            heads.add(logs.len(), head.first_time);
            logs.push(Log {
                server,
                head,
                state: State::Waiting,
                lines: Vec::new(),
                at: 0,
                texts: VecDeque::new(),
                first_text: 0,
            });
        }
        let (mut mapping_logs, mut mapping_heads) = (Vec::new(), Heads::new());
        for head in std::mem::take(&mut setup.mappings) {
            for pass in 0..passes.count() {
                let first = head.first_time.offset_by(passes.base(pass));
                mapping_heads.add(mapping_logs.len(), first);
                mapping_logs.push(MappingLog {
                    origin: head.origin.clone(),
                    pass,
                    state: State::Waiting,
                    records: Vec::new(),
                    at: 0,
                });
            }
        }
        let tally = Tally { servers: vec![ServerTally::default(); ids.len()], ..Tally::default() };
        Self {
            labels: setup.config.servers.iter().map(crate::config::Server::label).collect(),
            setup,
            engine,
            ids,
            servers: Arc::new(servers),
            logs,
            heads,
            mapping_logs,
            mapping_heads,
            now: Timestamp::MIN,
            held: 0,
            taken: 0,
            tally,
        }
    }

    /// Reads everything, writes everything.
    pub(crate) fn run(mut self) -> Result<Tally, JoinError> {
        while let Some((log, _)) = self.heads.first() {
            if self.logs[log].at == self.logs[log].lines.len() {
                self.refill(log)?;
                continue;
            }
            let parsed = self.logs[log].lines[self.logs[log].at];
            let time = parsed.line.time;
            self.move_to(time)?;
            self.take_mappings(time)?;
            let input = u32::try_from(log).expect("fewer inputs than descriptors");
            self.engine.line(parsed.line, Handle { input, place: parsed.place });
            self.taken += 1;
            self.held += parsed.place.len as usize;
            self.span(time);
            let log = &mut self.logs[log];
            log.at += 1;
            if let Some(next) = log.lines.get(log.at) {
                self.heads.advance_first(next.line.time);
            }
            if self.held > TEXT || self.taken.is_multiple_of(1 << 14) {
                self.hurry()?;
            }
        }
        self.engine.finish();
        self.write_decided()?;
        self.drain_mappings()?;
        self.tally.counts = self.engine.counts();
        Ok(self.tally)
    }

    /// Moves the time on and writes what is due by then. Over a gap it goes in steps, so that no
    /// mapping is forgotten before the lines that it is to explain are decided.
    fn move_to(&mut self, time: Timestamp) -> Result<(), JoinError> {
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
        match &mut self.tally.span {
            Some((first, last)) => {
                *first = time.min(*first);
                *last = time.max(*last);
            }
            none => *none = Some((time, time)),
        }
    }

    /// Decides the oldest lines now where too much text is held for them.
    fn hurry(&mut self) -> Result<(), JoinError> {
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

    /// The first log has no line at hand: opens it, waits for its next batch, or ends it.
    fn refill(&mut self, index: usize) -> Result<(), JoinError> {
        let log = &mut self.logs[index];
        if let State::Waiting = log.state {
            let job = AccessJob {
                origin: log.head.origin.clone(),
                server: self.ids[log.server],
                spec: self.setup.config.servers[log.server].spec.clone(),
                first_time: log.head.first_time,
                shared: self.setup.shared.clone(),
            };
            let reader =
                job.start().map_err(|e| JoinError::Open(log.head.origin.to_string(), e))?;
            log.state = State::Open(reader);
        }
        let State::Open(reader) = &log.state else {
            self.heads.remove_first();
            return Ok(());
        };
        if !log.lines.is_empty() {
            let mut used = std::mem::take(&mut log.lines);
            used.clear();
            // A reader that has ended needs nothing back.
            drop(reader.used.send(Used::Lines(used)));
        }
        let batch = receive(&reader.batches, &self.setup.signal, &log.head.origin)?;
        (log.lines, log.at) = (batch.lines, 0);
        log.texts.extend(batch.text);
        if let Some(first) = log.lines.first() {
            self.heads.advance_first(first.line.time);
        }
        if let Some(end) = batch.end {
            log.state = State::Ended;
            self.tally.logs.push((log.server, log.head.origin.clone(), *end));
        }
        let read = self.setup.shared.progress.load(Ordering::Relaxed);
        self.setup.progress.show(read, self.tally.written);
        Ok(())
    }

    /// Gives the engine the mappings up to a line's time and a little beyond.
    fn take_mappings(&mut self, time: Timestamp) -> Result<(), JoinError> {
        let until = time.offset_by(SLACK);
        let oldest = self.now - self.setup.config.window - WAIT;
        let mut taken = 0_u32;
        while let Some((index, next)) = self.mapping_heads.first()
            && next <= until
        {
            let log = &mut self.mapping_logs[index];
            let Some(record) = log.records.get(log.at).copied() else {
                self.refill_mappings(index)?;
                continue;
            };
            if record.time < oldest {
                self.tally.stale += 1;
            } else {
                self.engine.mapping(record);
            }
            log.at += 1;
            if let Some(next) = log.records.get(log.at) {
                self.mapping_heads.advance_first(next.time);
            }
            taken += 1;
            if taken.is_multiple_of(1 << 12) {
                // Long before the line: what is too old by then need not be remembered.
                self.move_to(record.time.offset_by(-SLACK))?;
            }
        }
        Ok(())
    }

    fn refill_mappings(&mut self, index: usize) -> Result<(), JoinError> {
        let log = &mut self.mapping_logs[index];
        if let State::Waiting = log.state {
            let job = MappingJob {
                origin: log.origin.clone(),
                servers: Arc::clone(&self.servers),
                pass: log.pass,
                shared: self.setup.shared.clone(),
            };
            let reader = job.start().map_err(|e| JoinError::Open(log.origin.to_string(), e))?;
            log.state = State::Open(reader);
        }
        let State::Open(reader) = &log.state else {
            self.mapping_heads.remove_first();
            return Ok(());
        };
        if !log.records.is_empty() {
            let mut used = std::mem::take(&mut log.records);
            used.clear();
            drop(reader.used.send(used));
        }
        let batch = receive(&reader.batches, &self.setup.signal, &log.origin)?;
        (log.records, log.at) = (batch.records, 0);
        if let Some(first) = log.records.first() {
            self.mapping_heads.advance_first(first.time);
        }
        if let Some(end) = batch.end {
            log.state = State::Ended;
            if log.pass == 0 {
                self.tally.mapping_logs.push((log.origin.clone(), *end));
            }
        }
        Ok(())
    }

    /// Reads the mapping logs to their ends, so that the report can speak of all of them.
    fn drain_mappings(&mut self) -> Result<(), JoinError> {
        while let Some((index, _)) = self.mapping_heads.first() {
            let log = &mut self.mapping_logs[index];
            self.tally.later += (log.records.len() - log.at) as u64;
            log.at = log.records.len();
            self.refill_mappings(index)?;
        }
        Ok(())
    }

    fn write_decided(&mut self) -> Result<(), JoinError> {
        while let Some(decided) = self.engine.next_decided() {
            self.write(&decided)?;
        }
        Ok(())
    }

    fn write(&mut self, decided: &Decided<Handle>) -> Result<(), JoinError> {
        let Handle { input, place } = decided.payload;
        let log = &mut self.logs[input as usize];
        let text = &mut log.texts[(place.block - log.first_text) as usize];
        let start = place.start as usize;
        let line = &text.0.bytes[start..start + place.len as usize];
        let tally = &mut self.tally.servers[log.server];
        let change = match place.client {
            Some(client) => {
                match decided.verdict.certainty {
                    Certainty::Exact => tally.exact += 1,
                    Certainty::Certain => tally.certain += 1,
                    Certainty::Likely => tally.likely += 1,
                    Certainty::None => tally.none += 1,
                }
                let config = self.setup.config;
                Change::of(&decided.verdict, config).map(|change| (client, change))
            }
            None => {
                tally.not_understood += 1;
                None
            }
        };
        let out = &mut self.setup.output.buf;
        match change {
            None => out.extend_from_slice(line),
            Some((client, Change::Client(addr))) => write_with_client(line, client, addr, out),
            Some((client, Change::Dash)) => write_with_text(line, client, b"-", out),
            Some((client, Change::Server)) => {
                let name = self.setup.config.servers[log.server].name.as_bytes();
                write_with_text(line, client, name, out);
            }
        }
        out.push(b'\n');
        if let Some(explain) = &mut self.setup.explain {
            let change = change.map(|(_, change)| change);
            let label = &self.labels[log.server];
            explain_line(&mut explain.buf, line, place.client, &decided.verdict, change, label);
            explain.pass_on()?;
        }
        self.tally.written += 1;
        self.held = self.held.saturating_sub(place.len as usize);
        text.1 -= 1;
        while let Some((_, 0)) = log.texts.front() {
            let used = log.texts.pop_front();
            log.first_text += 1;
            if let (State::Open(reader), Some((block, _))) = (&log.state, used) {
                drop(reader.used.send(Used::Text(block)));
            }
        }
        self.setup.output.pass_on()?;
        Ok(())
    }
}

/// What becomes of a client field.
#[derive(Clone, Copy)]
enum Change {
    Client(pen_records::addr::ClientAddr),
    Dash,
    Server,
}

impl Change {
    /// `None`: it stays.
    fn of(verdict: &Verdict, config: &Config) -> Option<Self> {
        match (verdict.certainty, verdict.client) {
            (Certainty::None, _) | (_, None) => match config.unmatched {
                Unmatched::Keep => None,
                // It names its client already.
                Unmatched::Dash if verdict.reason == Reason::Direct => None,
                Unmatched::Dash => Some(Self::Dash),
                Unmatched::Server => Some(Self::Server),
            },
            (Certainty::Likely, Some(client)) => match config.likely {
                Likely::Use => Some(Self::Client(client)),
                Likely::Keep => None,
                Likely::Dash => Some(Self::Dash),
            },
            (Certainty::Certain | Certainty::Exact, Some(client)) => Some(Self::Client(client)),
        }
    }
}

/// The header of `--explain`.
pub(crate) const EXPLAIN: &[u8] =
    b"#certainty\treason\tprobability\tcandidates\tdelay\toriginal\tclient\tserver\n";

fn explain_line(
    out: &mut Vec<u8>,
    line: &[u8],
    client: Option<Span>,
    verdict: &Verdict,
    change: Option<Change>,
    server: &str,
) {
    use std::io::Write as _;
    let certainty = match verdict.certainty {
        Certainty::Exact => "exact",
        Certainty::Certain => "certain",
        Certainty::Likely => "likely",
        Certainty::None => "none",
    };
    let original = client.map_or(&b"-"[..], |client| client.of(line)).escape_ascii();
    let reason = if client.is_none() { "not-understood" } else { verdict.reason.as_str() };
    let probability = f64::from(verdict.probability) / 1_000.0;
    let write = write!(out, "{certainty}\t{reason}\t{probability:.3}\t{}\t", verdict.candidates)
        .and_then(|()| match verdict.delay {
            Some(delay) => {
                let (sign, delay) = (if delay < 0 { "-" } else { "" }, delay.unsigned_abs());
                write!(out, "{sign}{}.{:06}\t", delay / 1_000_000, delay % 1_000_000)
            }
            None => write!(out, "-\t"),
        })
        .and_then(|()| write!(out, "{original}\t"))
        .and_then(|()| match change {
            Some(Change::Client(addr)) => write!(out, "{addr}"),
            Some(Change::Dash) => write!(out, "-"),
            Some(Change::Server) => write!(out, "{server}"),
            None => write!(out, "{original}"),
        })
        .and_then(|()| writeln!(out, "\t{server}"));
    write.expect("writing to a Vec does not fail");
}

/// Waits for a batch, with an ear for signals.
fn receive<B>(
    batches: &Receiver<B>,
    signal: &AtomicUsize,
    origin: &Origin,
) -> Result<B, JoinError> {
    loop {
        match signal.load(Ordering::Relaxed) {
            0 => {}
            signal => return Err(JoinError::Signal(signal)),
        }
        match batches.recv_timeout(Duration::from_millis(100)) {
            Ok(batch) => return Ok(batch),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => {
                return Err(JoinError::Reader(origin.to_string()));
            }
        }
    }
}
