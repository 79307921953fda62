//! Slices of a log's text.

use std::collections::HashMap;

use pen_records::access::Parser;
use pen_records::attribution::{LoggedLine, ServerIndex};
use pen_records::time::{Resolution, Timestamp};

use super::evidence::{RequestKeys, ServerSamples, line_keys};
use super::point::{LONG_PACE, SAME};
use super::texts::SeekableText;
use super::{BRIEF, LATEST, SAMPLED};
use crate::config::ServerInputs;
use crate::zone::AccessTimes;

/// A log of which slices are read.
pub(super) struct SlicedLog<'a> {
    text: &'a SeekableText,
    parser: Parser,
    times: AccessTimes,
    /// Whether requests are compared without the protocol.
    by_target: bool,
    /// Lines by their logged client.
    senders: HashMap<u32, usize>,
}

/// A part of a log.
pub(super) struct LogSlice {
    /// The offsets in the log.
    pub(super) from: u64,
    pub(super) to: u64,
    pub(super) lines: Vec<SliceLine>,
    pub(super) samples: ServerSamples,
    /// The earliest and the latest time.
    pub(super) first: i64,
    pub(super) last: i64,
}

/// A line of a slice.
pub(super) struct SliceLine {
    pub(super) byte: u64,
    pub(super) time: i64,
    resolution: Resolution,
    pub(super) keys: RequestKeys,
}

impl<'a> SlicedLog<'a> {
    pub(super) fn new(text: &'a SeekableText, server: &ServerInputs, by_target: bool) -> Self {
        let (parser, times) = (Parser::new(&server.spec), AccessTimes::new(server.zone));
        Self { text, parser, times, by_target, senders: HashMap::new() }
    }

    pub(super) const fn len(&self) -> u64 {
        self.text.len()
    }

    /// Returns the slice of the lines that begin between two offsets.
    pub(super) fn slice(&mut self, from: u64, len: u64) -> LogSlice {
        let part = self.text.part(from, usize::try_from(len).unwrap_or(usize::MAX));
        let (mut lines, mut samples) = (Vec::new(), ServerSamples::default());
        for (byte, text) in part.lines() {
            let Ok(parsed) = self.parser.parse(text) else { continue };
            let Some(stamp) = self.times.of_single(&parsed) else { continue };
            if !(-LATEST..LATEST).contains(&stamp.0.as_micros()) {
                continue;
            }
            let line = LoggedLine::new(text, &parsed, SAMPLED, ServerIndex(0), stamp);
            if let Some(sender) = line.sender {
                *self.senders.entry(sender).or_default() += 1;
            }
            let keys = line_keys(&line, self.by_target);
            samples.add_keys(keys, stamp);
            let (time, resolution) = (stamp.0.as_micros(), stamp.1);
            lines.push(SliceLine { byte, time, resolution, keys });
        }
        let times = || lines.iter().map(|line| line.time);
        let (first, last) = (times().min().unwrap_or(0), times().max().unwrap_or(0));
        LogSlice { from: part.from, to: part.to(), lines, samples, first, last }
    }

    /// Whether nearly all lines seen came from one address: the balancer's.
    pub(super) fn is_of_one_sender(&self) -> bool {
        let senders = self.senders.values();
        senders.clone().max().unwrap_or(&0) * 10 >= senders.sum::<usize>() * 8
    }
}

impl LogSlice {
    /// The time of the line in the middle.
    pub(super) fn middle(&self) -> i64 {
        self.lines.get(self.lines.len() / 2).map_or(self.first, |line| line.time)
    }

    /// Whether a clock that goes wrong gains enough in the slice to matter.
    pub(super) const fn is_long(&self) -> bool {
        (self.last - self.first) / 1_000_000 * LONG_PACE > SAME
    }

    /// Whether whole seconds do not say where in a second lines are, as there are few of them.
    pub(super) fn is_brief(&self) -> bool {
        self.samples.is_coarse() && self.last - self.first < BRIEF
    }

    /// Returns the samples as a clock would have dated them that does not gain `pace` millionths.
    pub(super) fn at_steady_pace(&self, pace: i64) -> ServerSamples {
        let mut samples = ServerSamples::default();
        for line in &self.lines {
            let gained = (line.time - self.middle()) / 1_000_000 * pace;
            let time = Timestamp::from_micros(line.time - gained);
            samples.add_keys(line.keys, (time, line.resolution));
        }
        samples
    }
}
