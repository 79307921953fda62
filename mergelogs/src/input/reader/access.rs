//! Reads an access log: parses lines in place in their block and sends them to the merge in order.

use std::io;
use std::sync::Arc;
use std::thread;

use crossbeam_channel::{Receiver, Sender, bounded, unbounded};
use pen_archive::Archive;
use pen_records::access::{AccessLine, LineError, Parser, Spec};
use pen_records::attribution::{FingerprintCuts, LineOrigin, LoggedLine, ServerIndex};
use pen_records::clocks::{ClockTrack, TrackCursor};
use pen_records::merge::Reorder;
use pen_records::time::{Resolution, Timestamp};

use super::{AccessBatch, AccessEnd, COMPLAINTS, LinePlace, ParsedLine, ReaderHandle, UsedBatch};
use crate::config::InputOrigin;
use crate::input::archive;
use crate::input::lines::LineReader;
use crate::input::shares::MemoryShares;
use crate::zone::{AccessTimes, LogZone};

/// Microseconds: a line that was not understood places lines without a time only if its own time is
/// so near to that of the line before.
const NEAR: i64 = 3_600_000_000;

/// Lines at the beginning that are read once before, to learn which word is the client.
const LEARNT_FROM: usize = 500;

/// The settings of an access log's reader.
pub(crate) struct AccessJob {
    pub(crate) origin: InputOrigin,
    pub(crate) server: ServerIndex,
    /// The number of the log.
    pub(crate) number: LineOrigin,
    /// The server's port, where several servers share an address.
    pub(crate) port: Option<u16>,
    pub(crate) spec: Spec,
    /// The zone of times without a zone, if one was asked for.
    pub(crate) zone: Option<LogZone>,
    /// The way of the log's clock beside the server's usual difference, unless it is steady.
    pub(crate) track: Option<Arc<ClockTrack>>,
    /// The time of lines before the first line with a time.
    pub(crate) first_time: Timestamp,
    /// The cuts of requests to compare lines by.
    pub(crate) cuts: FingerprintCuts,
    /// Whether requests are compared without the protocol.
    pub(crate) lacks_protocol: bool,
    pub(crate) shares: MemoryShares,
}

impl AccessJob {
    pub(crate) fn start(self) -> io::Result<ReaderHandle<AccessBatch, UsedBatch>> {
        let archive =
            archive::open(&self.origin, self.shares.block(), Some(&self.shares.progress))?;
        let (send, batches) = bounded(self.shares.ahead());
        let (used, reuse) = unbounded();
        thread::Builder::new()
            .name("access".to_owned())
            .spawn(move || self.read(archive, &send, &reuse))?;
        Ok(ReaderHandle { batches, used })
    }

    fn read(self, archive: Archive, send: &Sender<AccessBatch>, reuse: &Receiver<UsedBatch>) {
        let mut reader = LineReader::new(archive.bytes);
        let cursor = self.track.as_deref().map(ClockTrack::cursor);
        let times = AccessTimes::new(self.zone);
        let mut parser = (Parser::new(&self.spec), LineClock { times, cursor, in_doubt: false });
        let mut passed = 0_u64;
        let mut reorder = Reorder::new(self.shares.window());
        let mut end =
            Box::new(AccessEnd { compression: Some(archive.compression), ..AccessEnd::default() });
        let mut last = (self.first_time, Resolution::Second);
        let mut found = AccessLine::default();
        let mut number = 0;
        let (mut blocks, mut spare) = (Vec::new(), Vec::new());
        loop {
            let size = self.shares.block();
            for used in reuse.try_iter() {
                match used {
                    // Of a time when fewer inputs were open, or of a very long line.
                    UsedBatch::Text(block) if block.is_larger_than(size) => {}
                    UsedBatch::Text(block) => blocks.push(block),
                    UsedBatch::Lines(lines) => spare.push(lines),
                }
            }
            let Some(mut block) = reader.next(blocks.pop().unwrap_or_default(), size) else {
                break;
            };
            if number == 0 {
                parser.0.learn(block.lines().take(LEARNT_FROM));
            }
            reorder.set_bounds(self.shares.window());
            let (mut count, most) = (0, self.shares.lines());
            let mut spans = block.spans();
            for (start, stop) in spans.by_ref().take(most) {
                let text = &block.bytes[start..stop];
                let line = (passed + start as u64, text);
                let (start, len) = (to_u32(start), to_u32(stop - start));
                let place = LinePlace { block: number, start, len, client: None, in_doubt: false };
                let state = (&mut found, &mut last, &mut *end);
                reorder.push(self.line(&mut parser, line, place, state));
                count += 1;
            }
            let seen = spans.position();
            reader.put_back(&mut block, seen);
            passed += block.filled as u64;
            number += 1;
            reorder.end_run(spare.pop().unwrap_or_else(|| Vec::with_capacity(count + count / 8)));
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
        end.format = parser.0.format();
        end.pieces = reader.split();
        end.fault = reader.into_fault();
        while let Some(lines) = reorder.next_held() {
            if send.send(AccessBatch { text: None, lines, end: None }).is_err() {
                return;
            }
        }
        (end.late, end.moved) = (reorder.late(), reorder.moved());
        // The merge may have stopped listening: then nobody wants to know.
        let _ = send.send(AccessBatch { text: None, lines: Vec::new(), end: Some(end) });
    }

    fn line(
        &self,
        (parser, clock): &mut (Parser, LineClock<'_>),
        (byte, text): (u64, &[u8]),
        mut place: LinePlace,
        (found, last, end): (&mut AccessLine, &mut (Timestamp, Resolution), &mut AccessEnd),
    ) -> ParsedLine {
        end.lines += 1;
        if let Err(error) = parser.read(text, found) {
            place.in_doubt = clock.in_doubt;
            return ParsedLine { line: self.unread(parser, text, error, (last, end)), place };
        }
        match clock.time(found, byte) {
            Some(time) => *last = time,
            None => end.without_time += 1,
        }
        end.with_port += u64::from(found.peer_port.is_some());
        (place.client, place.in_doubt) = (Some(found.client), clock.in_doubt);
        let mut parsed =
            ParsedLine { line: LoggedLine::new(text, found, self.cuts, self.server, *last), place };
        if self.lacks_protocol {
            parsed.line = parsed.line.ignoring_protocol(text, found, self.cuts);
        }
        (parsed.line.server_port, parsed.line.origin) = (self.port, self.number);
        parsed
    }

    /// Counts a line that was not understood, and places it by a time that its text may have.
    #[cold]
    fn unread(
        &self,
        parser: &mut Parser,
        text: &[u8],
        error: LineError,
        (last, end): (&mut (Timestamp, Resolution), &mut AccessEnd),
    ) -> LoggedLine {
        if end.complaints.len() < COMPLAINTS {
            let error = error.in_line(text);
            end.complaints.push(format!("{}:{}: {error}", self.origin, end.lines));
        }
        end.not_understood += 1;
        let time = parser.time_of_unread(text);
        // A client may have chosen such a time: it places this line only.
        let is_near = |(time, _): &(Timestamp, _)| {
            time.micros_since(last.0).abs() < NEAR || last.0 == self.first_time
        };
        let place = time.unwrap_or(*last);
        *last = time.filter(is_near).unwrap_or(*last);
        LoggedLine { origin: self.number, ..LoggedLine::unread(self.server, place) }
    }
}

/// The clock of a log's lines.
struct LineClock<'a> {
    times: AccessTimes,
    cursor: Option<TrackCursor<'a>>,
    /// Whether the clock was set near the last line.
    in_doubt: bool,
}

impl LineClock<'_> {
    /// Returns the time of the next line by a clock that is steady.
    #[inline]
    fn time(&mut self, line: &AccessLine, byte: u64) -> Option<(Timestamp, Resolution)> {
        let (time, resolution) = self.times.of(line)?;
        let Some(cursor) = &mut self.cursor else { return Some((time, resolution)) };
        let (ahead, in_doubt) = cursor.next(byte, time);
        self.in_doubt = in_doubt;
        Some((time.offset_by(-ahead), resolution))
    }
}

fn to_u32(offset: usize) -> u32 {
    u32::try_from(offset).expect("a block is far below 4 GiB")
}
