//! A thread for each open input: reads, splits, parses, sets right, and sends batches ahead of the
//! merge through a bounded channel. Used batches come back to be filled again.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::thread;

use crossbeam_channel::{Receiver, Sender, bounded, unbounded};
use pen_records::access::{AccessLine, Parser, Span, Spec};
use pen_records::attribution::{Balancers, Cuts, Line, Record, ServerId};
use pen_records::mapping::classic::FileReader;
use pen_records::mapping::{self, Kind, Mapping, MappingError, RequestText};
use pen_records::merge::{Bounds, Reorder, Timed};
use pen_records::request::Cut;
use pen_records::time::{Resolution, Timestamp};

use crate::archive::{self, Compression};
use crate::config::Origin;
use crate::lines::{Block, LineReader};
use crate::servers::Names;
pub(crate) use crate::servers::Servers;

/// Bytes read at once.
pub(crate) const BLOCK: usize = 256 << 10;
/// Batches that may wait for the merge.
const AHEAD: usize = 3;
/// How far apart in time lines of one input are set right.
const REORDER_SPAN: i64 = 2_000 * 1_000_000;
/// How many lines are held for that.
const REORDER_LINES: usize = 1 << 15;
/// How many bytes of text all inputs together hold for that.
const REORDER_BYTES: usize = 32 << 20;
/// Complaints kept for each input.
pub(crate) const COMPLAINTS: usize = 3;

/// What all readers share.
#[derive(Clone, Default)]
pub(crate) struct Shared {
    /// Bytes read, as they lie in the files.
    pub(crate) progress: Arc<AtomicU64>,
    /// Inputs open at present, which share [`REORDER_BYTES`].
    open: Arc<AtomicUsize>,
    /// Whether mapping logs hold lines of our own balancer.
    extended: bool,
}

impl Shared {
    pub(crate) fn new(extended: bool) -> Self {
        Self { extended, ..Self::default() }
    }

    /// What lines are to be compared by.
    fn cuts(&self) -> Cuts {
        if self.extended { Cuts::Both } else { Cuts::Short }
    }

    fn bounds(&self) -> Bounds {
        let open = self.open.load(Ordering::Relaxed).max(1);
        Bounds {
            span: REORDER_SPAN,
            items: REORDER_LINES,
            weight: (REORDER_BYTES / open).min(4 << 20),
        }
    }
}

/// An access line, parsed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Parsed {
    pub(crate) line: Line,
    pub(crate) place: Place,
}

impl Timed for Parsed {
    fn time(&self) -> Timestamp {
        self.line.time
    }

    fn weight(&self) -> usize {
        self.place.len as usize
    }
}

/// Where a line's text is, and its client field in it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place {
    /// The number of the [`Block`] in its input.
    pub(crate) block: u32,
    pub(crate) start: u32,
    pub(crate) len: u32,
    /// `None` if the line was not understood.
    pub(crate) client: Option<Span>,
}

/// What an access log's reader sends: text as it was read, and lines as they are to be merged. A
/// line comes with its text or later.
#[derive(Default)]
pub(crate) struct AccessBatch {
    /// And how many lines are in it.
    pub(crate) text: Option<(Block, usize)>,
    pub(crate) lines: Vec<Parsed>,
    pub(crate) end: Option<Box<AccessEnd>>,
}

/// How reading an access log ended.
#[derive(Default)]
pub(crate) struct AccessEnd {
    pub(crate) compression: Option<Compression>,
    pub(crate) format: String,
    pub(crate) lines: u64,
    pub(crate) not_understood: u64,
    pub(crate) without_time: u64,
    pub(crate) with_port: u64,
    pub(crate) pieces: u64,
    pub(crate) moved: u64,
    pub(crate) late: u64,
    pub(crate) complaints: Vec<String>,
    pub(crate) fault: Option<io::Error>,
}

/// What a mapping log's reader sends.
#[derive(Default)]
pub(crate) struct MappingBatch {
    pub(crate) records: Vec<Record>,
    pub(crate) end: Option<Box<MappingEnd>>,
}

/// How reading a mapping log ended.
#[derive(Default)]
pub(crate) struct MappingEnd {
    pub(crate) compression: Option<Compression>,
    pub(crate) lines: u64,
    pub(crate) damaged: u64,
    pub(crate) elsewhere: u64,
    pub(crate) without_request: u64,
    /// Lines of our own balancer about connections and responses.
    pub(crate) moments: u64,
    pub(crate) late: u64,
    pub(crate) complaints: Vec<String>,
    pub(crate) fault: Option<io::Error>,
}

/// The near end of a reader.
pub(crate) struct Reader<B, U> {
    pub(crate) batches: Receiver<B>,
    /// For what has been used up.
    pub(crate) used: Sender<U>,
}

/// What goes back to the reader of an access log.
pub(crate) enum Used {
    Text(Block),
    Lines(Vec<Parsed>),
}

/// What to read from an access log.
pub(crate) struct AccessJob {
    pub(crate) origin: Origin,
    pub(crate) server: ServerId,
    pub(crate) spec: Spec,
    /// For lines before the first that has a time.
    pub(crate) first_time: Timestamp,
    pub(crate) shared: Shared,
}

impl AccessJob {
    pub(crate) fn start(self) -> io::Result<Reader<AccessBatch, Used>> {
        let archive = archive::open(&self.origin, Some(&self.shared.progress))?;
        let (send, batches) = bounded(AHEAD);
        let (used, reuse) = unbounded();
        self.shared.open.fetch_add(1, Ordering::Relaxed);
        thread::Builder::new().name("access".to_owned()).spawn(move || {
            let open = Arc::clone(&self.shared.open);
            self.read(archive, &send, &reuse);
            open.fetch_sub(1, Ordering::Relaxed);
        })?;
        Ok(Reader { batches, used })
    }

    fn read(self, archive: archive::Archive, send: &Sender<AccessBatch>, reuse: &Receiver<Used>) {
        let mut reader = LineReader::new(archive.bytes, BLOCK);
        let mut parser = Parser::new(&self.spec);
        let mut reorder = Reorder::new(self.shared.bounds());
        let mut end =
            Box::new(AccessEnd { compression: Some(archive.compression), ..AccessEnd::default() });
        let mut last = (self.first_time, Resolution::Second);
        let mut found = AccessLine::default();
        let mut number = 0;
        let (mut blocks, mut spare) = (Vec::new(), Vec::new());
        loop {
            for used in reuse.try_iter() {
                match used {
                    Used::Text(block) => blocks.push(block),
                    Used::Lines(lines) => spare.push(lines),
                }
            }
            let Some(block) = reader.next(blocks.pop().unwrap_or_default()) else { break };
            reorder.set_bounds(self.shared.bounds());
            let mut count = 0;
            for (start, stop) in block.spans() {
                let text = &block.bytes[start..stop];
                let (line, client) = self.line(&mut parser, text, &mut found, &mut last, &mut end);
                let (start, len) = (to_u32(start), to_u32(stop - start));
                reorder.push(Parsed { line, place: Place { block: number, start, len, client } });
                count += 1;
            }
            number += 1;
            reorder.end_run(spare.pop().unwrap_or_default());
            let mut text = Some((block, count));
            // Mostly one run, which is an earlier block's lines.
            loop {
                let lines = reorder.next_run();
                if text.is_none() && lines.is_none() {
                    break;
                }
                let lines = lines.unwrap_or_default();
                if send.send(AccessBatch { text: text.take(), lines, end: None }).is_err() {
                    return;
                }
            }
        }
        end.format = parser.format();
        end.pieces = reader.split();
        end.fault = reader.into_fault();
        while let Some(lines) = reorder.next_held() {
            if send.send(AccessBatch { text: None, lines, end: None }).is_err() {
                return;
            }
        }
        (end.late, end.moved) = (reorder.late(), reorder.moved());
        // The merge may have stopped listening: then nobody wants to know.
        drop(send.send(AccessBatch { text: None, lines: Vec::new(), end: Some(end) }));
    }

    fn line(
        &self,
        parser: &mut Parser,
        text: &[u8],
        found: &mut AccessLine,
        last: &mut (Timestamp, Resolution),
        end: &mut AccessEnd,
    ) -> (Line, Option<Span>) {
        end.lines += 1;
        match parser.read(text, found) {
            Ok(()) => {
                match found.time {
                    Some(time) => *last = time,
                    None => end.without_time += 1,
                }
                end.with_port += u64::from(found.peer_port.is_some());
                (Line::new(text, found, self.shared.cuts(), self.server, *last), Some(found.client))
            }
            Err(error) => {
                if end.complaints.len() < COMPLAINTS {
                    end.complaints.push(format!("{}:{}: {error}", self.origin, end.lines));
                }
                end.not_understood += 1;
                (Line::unread(self.server, *last), None)
            }
        }
    }
}

/// An extended line where only classic ones were expected: what lines are compared by is cut short.
fn classic(
    mapping: &Mapping<'_>,
    server: ServerId,
    time: (Timestamp, Resolution),
    end: &mut MappingEnd,
) -> Option<Record> {
    if mapping.kind != Kind::Request {
        return None;
    }
    let record = Record::new(&cut_short(mapping), server, time);
    end.without_request += u64::from(record.is_none());
    record
}

/// As a classic line would have it.
pub(crate) fn cut_short<'a>(mapping: &Mapping<'a>) -> Mapping<'a> {
    let request = mapping.request.map(|request| RequestText { cut: Cut::Short, ..request });
    Mapping { request, whole: None, ..*mapping }
}

fn to_u32(offset: usize) -> u32 {
    u32::try_from(offset).expect("a block is far below 4 GiB")
}

/// What to read from a mapping log.
pub(crate) struct MappingJob {
    pub(crate) origin: Origin,
    pub(crate) servers: Arc<Servers>,
    /// Only the servers of this pass; the first pass counts.
    pub(crate) pass: usize,
    pub(crate) shared: Shared,
}

impl MappingJob {
    pub(crate) fn start(self) -> io::Result<Reader<MappingBatch, Vec<Record>>> {
        let progress = (self.pass == 0).then_some(&self.shared.progress);
        let archive = archive::open(&self.origin, progress)?;
        let (send, batches) = bounded(AHEAD);
        let (used, reuse) = unbounded();
        thread::Builder::new()
            .name("mappings".to_owned())
            .spawn(move || self.read(archive, &send, &reuse))?;
        Ok(Reader { batches, used })
    }

    fn read(
        self,
        archive: archive::Archive,
        send: &Sender<MappingBatch>,
        reuse: &Receiver<Vec<Record>>,
    ) {
        let mut reader = LineReader::new(archive.bytes, BLOCK);
        let mut reorder = Reorder::new(self.shared.bounds());
        let mut end = Box::new(MappingEnd {
            compression: Some(archive.compression),
            ..MappingEnd::default()
        });
        let mut parser = FileReader::default();
        let mut names = Names::default();
        let mut balancers = Balancers::default();
        let mut block = Block::default();
        while let Some(next) = reader.next(block) {
            for line in next.lines() {
                if let Some(record) =
                    self.line(&mut parser, (&mut names, &mut balancers), line, &mut end)
                {
                    reorder.push(record);
                }
            }
            block = next;
            reorder.end_run(reuse.try_recv().unwrap_or_default());
            while let Some(records) = reorder.next_run() {
                if send.send(MappingBatch { records, end: None }).is_err() {
                    return;
                }
            }
        }
        end.fault = reader.into_fault();
        while let Some(records) = reorder.next_held() {
            if send.send(MappingBatch { records, end: None }).is_err() {
                return;
            }
        }
        end.late = reorder.late();
        // The merge may have stopped listening: then nobody wants to know.
        drop(send.send(MappingBatch { records: Vec::new(), end: Some(end) }));
    }

    fn line(
        &self,
        reader: &mut FileReader,
        (names, balancers): (&mut Names, &mut Balancers),
        line: &[u8],
        end: &mut MappingEnd,
    ) -> Option<Record> {
        end.lines += 1;
        if line.starts_with(mapping::line::START) {
            return self.extended_line(balancers, line, end);
        }
        let read = reader.read(line).and_then(|line| Ok((line, names.find(&line, &self.servers)?)));
        let (line, known) = match read {
            Ok(read) => read,
            Err(error) => {
                self.complain(&error, end);
                return None;
            }
        };
        let Some(known) = known else {
            end.elsewhere += 1;
            return None;
        };
        if known.pass != self.pass {
            return None;
        }
        let request = line.request.fingerprint();
        if request.is_none() {
            end.without_request += 1;
            return None;
        }
        Some(Record {
            server: known.id,
            client: line.client,
            time: line.time.offset_by(known.ahead),
            resolution: Resolution::Second,
            request,
            cut: line.request.cut,
            exchange: None,
        })
    }

    /// A line of our own balancer.
    fn extended_line(
        &self,
        balancers: &mut Balancers,
        line: &[u8],
        end: &mut MappingEnd,
    ) -> Option<Record> {
        let mapping = match Mapping::parse_extended_line(line) {
            Ok(mapping) => mapping,
            Err(error) => {
                self.complain(&error, end);
                return None;
            }
        };
        end.moments += u64::from(mapping.kind != Kind::Request);
        let Some(known) = self.servers.find(mapping.server) else {
            end.elsewhere += u64::from(mapping.kind == Kind::Request);
            return None;
        };
        if known.pass != self.pass {
            return None;
        }
        let (time, resolution) = mapping.time?;
        let time = (time.offset_by(known.ahead), resolution);
        if !self.shared.extended {
            return classic(&mapping, known.id, time, end);
        }
        let record = Record::with_exchange(&mapping, known.id, time, balancers);
        end.without_request += u64::from(record.is_none() && mapping.kind == Kind::Request);
        record
    }

    fn complain(&self, error: &MappingError, end: &mut MappingEnd) {
        end.damaged += 1;
        if end.complaints.len() < COMPLAINTS {
            end.complaints.push(format!("{}:{}: {error}", self.origin, end.lines));
        }
    }
}
