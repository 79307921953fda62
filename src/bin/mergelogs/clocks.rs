//! How far each server's clock is ahead of the balancer's, estimated from samples before the merge.
//!
//! Both logs are sampled from where both have begun. Clocks that nearly agree show in a short
//! sample; for the others the mapping log is searched for an hour round the same requests.

use std::fmt;
use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::ops::ControlFlow;

use pen_records::access::{Parser, Spec};
use pen_records::attribution::offset::{Sample, estimate};
use pen_records::attribution::{Balancers, Cuts, Line, Record, ServerId};
use pen_records::mapping::Mapping;
use pen_records::request::Cut;
use pen_records::time::Timestamp;

use crate::archive::{self, Compression};
use crate::config::{Config, Origin};
use crate::foreign::{Foreign, ForeignReader};
use crate::heads::Head;
use crate::lines::{Block, LineReader};
use crate::reader::cut_short;
use crate::servers::{Known, Servers};

const SECOND: i64 = 1_000_000;
/// Bytes of lines sampled from all servers together.
const LINES: usize = 64 << 20;
/// And from each, at least and at most.
const LINES_EACH: (usize, usize) = (64 << 10, 512 << 10);
/// Servers that begin within this share a sample of mappings.
const SHARED: i64 = 30 * SECOND;

/// How much of the mapping log is searched for the lines' requests.
#[derive(Clone, Copy)]
struct Reach {
    before: i64,
    after: i64,
    bytes: usize,
}

const NEAR: Reach = Reach { before: 5 * SECOND, after: 5 * SECOND, bytes: 8 << 20 };
const FAR: Reach = Reach { before: 4_000 * SECOND, after: 3_700 * SECOND, bytes: 256 << 20 };

/// Bytes passed over to reach the sample, where they have to be decompressed for that.
const PASSED: usize = 256 << 20;
/// Bytes read to find the next time when searching a plain file.
const PROBE: usize = 64 << 10;

/// A server's clock against the balancer's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Clock {
    /// Microseconds it is ahead.
    pub(crate) ahead: i64,
    /// Requests that say so.
    pub(crate) votes: u32,
}

impl Clock {
    pub(crate) fn is_worth_a_word(self) -> bool {
        self.ahead != 0
    }
}

impl fmt::Display for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.ahead.unsigned_abs() / 1_000_000;
        let way = if self.ahead < 0 { "behind" } else { "ahead of" };
        write!(f, "clock {seconds} s {way} the balancer's, by {} requests", self.votes)
    }
}

/// What is known of a server.
struct Side {
    /// The time span of the lines sampled.
    start: Timestamp,
    end: Timestamp,
    lines: Sample,
    mappings: Sample,
    clock: Option<Clock>,
}

/// Compares all clocks. Inputs that can be read only once are not looked at.
pub(crate) fn compare(config: &Config, mappings: &[Head], logs: &[(usize, Head)]) -> Vec<Clock> {
    let mappings = begun(mappings.iter());
    let Some(first_mapping) = mappings.first().map(|head| head.first_time) else {
        return vec![Clock::default(); config.servers.len()];
    };
    let mut sides: Vec<Side> = Vec::new();
    let mut servers = Servers::default();
    let most = (LINES / config.servers.len().max(1)).clamp(LINES_EACH.0, LINES_EACH.1);
    for (index, server) in config.servers.iter().enumerate() {
        if machine(config, index) == index {
            let id = ServerId(u32::try_from(index).unwrap_or(u32::MAX));
            servers.insert(server.addr(), Known { id, ahead: 0, pass: 0 });
        }
        let logs = begun(logs.iter().filter(|(of, _)| *of == index).map(|(_, head)| head));
        let start = logs.first().map_or(first_mapping, |head| head.first_time.max(first_mapping));
        let mut side = Side::of_lines(&logs, &server.spec, start, most);
        if side.lines.is_empty()
            && let Some(first) = logs.first()
        {
            // By its clock it ended before the mapping log begins.
            side = Side::of_lines(&logs, &server.spec, first.first_time, most);
        }
        match sides.get_mut(machine(config, index)) {
            // One machine, one clock: the first sample that has something speaks for it.
            Some(first) => {
                if first.lines.is_empty() {
                    *first = side;
                }
                sides.push(Side::empty(start));
            }
            None => sides.push(side),
        }
    }
    for reach in [NEAR, FAR] {
        sample_mappings(&mappings, (&config.foreign, &servers), &mut sides, reach);
        settle(&mut sides);
    }
    (0..sides.len()).map(|index| sides[machine(config, index)].clock.unwrap_or_default()).collect()
}

/// The first server at the same address: mappings and clocks are an address's, not a port's.
fn machine(config: &Config, index: usize) -> usize {
    let addr = config.servers[index].addr();
    config.servers.iter().position(|server| server.addr() == addr).unwrap_or(index)
}

impl Side {
    fn empty(start: Timestamp) -> Self {
        let (lines, mappings) = (Sample::default(), Sample::default());
        Self { start, end: start, lines, mappings, clock: None }
    }

    /// Samples `most` bytes of lines from `start` on, where both logs have begun.
    fn of_lines(logs: &[&Head], spec: &Spec, start: Timestamp, most: usize) -> Self {
        let mut parser = Parser::new(spec);
        let mut side = Self::empty(start);
        let parse = |line: &[u8]| {
            let parsed = parser.parse(line).ok()?;
            let stamp = parsed.time?;
            Some((stamp.0, Line::new(line, &parsed, Cuts::Short, ServerId(0), stamp).short))
        };
        walk(logs, start, most, parse, |time, request| {
            if let Some(request) = request {
                side.lines.add(request, time);
                side.end = side.end.max(time);
            }
            ControlFlow::Continue(())
        });
        side
    }
}

/// Those whose beginning is known, in its order.
fn begun<'a>(heads: impl Iterator<Item = &'a Head>) -> Vec<&'a Head> {
    let mut heads: Vec<_> = heads.filter(|head| head.first_time > Timestamp::MIN).collect();
    heads.sort_by_key(|head| head.first_time);
    heads
}

fn settle(sides: &mut [Side]) {
    for side in sides.iter_mut().filter(|side| side.clock.is_none()) {
        let offset = estimate(&side.mappings, &side.lines);
        if offset.votes > 0 {
            side.clock = Some(Clock { ahead: offset.ahead, votes: offset.votes });
        }
        side.mappings = Sample::default();
    }
}

/// Samples the mappings of the sides that are not settled: only requests that their lines have.
fn sample_mappings(
    mappings: &[&Head],
    (foreign, servers): (&Foreign, &Servers),
    sides: &mut [Side],
    reach: Reach,
) {
    let open = |side: &&Side| side.clock.is_none() && !side.lines.is_empty();
    let mut starts: Vec<_> = sides.iter().filter(open).map(|side| side.start).collect();
    starts.sort_unstable();
    // Servers that begin at about the same time share a sample.
    starts.dedup_by(|next, kept| next.micros_since(*kept) < SHARED);
    for start in starts {
        let shares = |side: &Side| side.start >= start && side.start.micros_since(start) < SHARED;
        let ends = sides.iter().filter(|side| shares(side)).map(|side| side.end);
        let until = ends.max().unwrap_or(start).offset_by(reach.after);
        let mut reader = ForeignReader::new(foreign);
        let parse = |line: &[u8]| {
            let mapping = match Mapping::parse_file_line(line) {
                Ok(mapping) if !reader.wants_all() => mapping,
                _ => return foreign_record(&mut reader, line, servers),
            };
            let stamp = mapping.time?;
            let known = servers.find(mapping.server);
            Some((
                stamp.0,
                known.and_then(|known| Record::new(&cut_short(&mapping), known.id, stamp)),
            ))
        };
        walk(mappings, start.offset_by(-reach.before), reach.bytes, parse, |time, record| {
            if let Some(record) = record
                && let Some(request) = record.request
                && let Some(side) = sides.get_mut(record.server.0 as usize)
                && shares(side)
                && side.clock.is_none()
                && side.lines.has(request)
            {
                side.mappings.add(request, time);
            }
            if time > until { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
    }
}

/// What another balancer logged, by its end: then the servers' lines were written.
fn foreign_record(
    reader: &mut ForeignReader,
    line: &[u8],
    servers: &Servers,
) -> Option<(Timestamp, Option<Record>)> {
    if !reader.wants(line) {
        return None;
    }
    let time = reader.time(line)?;
    let Ok(Some((_, [Some(first), end, _]))) =
        reader.read(line, servers, None, &mut Balancers::default())
    else {
        return Some((time, None));
    };
    let time = end.map_or(first.time, |end| end.time);
    let request = reader.short_request(line);
    Some((time, Some(Record { time, request, cut: Cut::Short, ..first })))
}

/// What a line says, with its time.
trait Parse<T>: FnMut(&[u8]) -> Option<(Timestamp, T)> {}
impl<T, F: FnMut(&[u8]) -> Option<(Timestamp, T)>> Parse<T> for F {}

/// Shows what was said from about `from` on, for `most` bytes. What cannot be read is left to the
/// merge to complain about.
fn walk<T>(
    heads: &[&Head],
    from: Timestamp,
    most: usize,
    mut parse: impl Parse<T>,
    mut show: impl FnMut(Timestamp, T) -> ControlFlow<()>,
) {
    let first = heads.partition_point(|head| head.first_time <= from).saturating_sub(1);
    let (mut shown, mut passed) = (0, 0);
    for head in &heads[first..] {
        let Ok(mut reader) = open_near(head, from, &mut parse) else { continue };
        let mut block = Block::default();
        while let Some(next) = reader.next(block, PROBE) {
            if last_time(&next, &mut parse).is_some_and(|last| last < from) {
                passed += next.filled;
            } else {
                for (time, said) in next.lines().filter_map(&mut parse) {
                    if time >= from && show(time, said).is_break() {
                        return;
                    }
                }
                shown += next.filled;
            }
            if shown >= most || passed >= PASSED {
                return;
            }
            block = next;
        }
    }
}

/// The time of the last line of a block that has one.
fn last_time<T>(block: &Block, parse: &mut impl Parse<T>) -> Option<Timestamp> {
    let text = &block.bytes[..block.filled];
    text.rsplit(|&byte| byte == b'\n').take(16).find_map(parse).map(|(time, _)| time)
}

/// Opens an input; a plain file not far before the first line of that time.
fn open_near<T>(head: &Head, from: Timestamp, parse: &mut impl Parse<T>) -> io::Result<LineReader> {
    let archive = archive::open(&head.origin, PROBE, None)?;
    if let Origin::File(path) = &head.origin
        && archive.compression == Compression::Plain
        && head.first_time < from
    {
        let mut file = File::open(path)?;
        let offset = offset_before(&mut file, from, parse)?;
        file.seek(SeekFrom::Start(offset))?;
        return Ok(LineReader::new(Box::new(file)));
    }
    Ok(LineReader::new(archive.bytes))
}

/// Halves a file until less than a probe is left before the first line of that time.
fn offset_before<T>(
    file: &mut File,
    from: Timestamp,
    parse: &mut impl Parse<T>,
) -> io::Result<u64> {
    let (mut low, mut high) = (0, file.metadata()?.len());
    let mut probe = vec![0; PROBE];
    while high - low > PROBE as u64 {
        let middle = low + (high - low) / 2;
        file.seek(SeekFrom::Start(middle))?;
        let read = file.read(&mut probe)?;
        let whole = memchr::memchr(b'\n', &probe[..read]).map_or(read, |end| end + 1);
        let mut lines = probe[whole..read].split(|&byte| byte == b'\n');
        match lines.find_map(&mut *parse) {
            Some((time, _)) if time < from => low = middle,
            _ => high = middle,
        }
    }
    Ok(low)
}
