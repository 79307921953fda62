//! A sample of what came between two looks for misfits: it tells which server's mappings the lines of a server are among.

use std::collections::HashMap;
use std::mem;

use pen_records::attribution::{LoggedLine, MappingEvent, ServerIndex};
use pen_records::misfit::FitSample;
use pen_records::request::{Cut, Fingerprint};
use pen_records::time::Timestamp;

/// Requests of lines, and of mappings, that are sampled.
const LINES: usize = 4_000;
const MAPPINGS: usize = 16_000;

/// The sample of a time.
#[derive(Debug, Default)]
pub(crate) struct FitWindow {
    lines: Vec<SampledLine>,
    mappings: Vec<SampledLine>,
}

#[derive(Clone, Copy, Debug)]
struct SampledLine {
    server: ServerIndex,
    request: Fingerprint,
    time: Timestamp,
}

impl FitWindow {
    /// Adds a line, while there is room.
    #[inline]
    pub(crate) fn line(&mut self, line: &LoggedLine) {
        if self.lines.len() < LINES
            && let Some(request) = line.long
        {
            self.lines.push(SampledLine { server: line.server, request, time: line.time });
        }
    }

    /// Adds a mapping, while there is room.
    #[inline]
    pub(crate) fn mapping(&mut self, record: &MappingEvent) {
        if self.mappings.len() < MAPPINGS
            && record.cut == Cut::Long
            && let Some(request) = record.request
        {
            self.mappings.push(SampledLine { server: record.server, request, time: record.time });
        }
    }

    /// Compares the sample, and begins a new one.
    pub(crate) fn compare(&mut self) -> FoundFits {
        let (lines, mappings) = (mem::take(&mut self.lines), mem::take(&mut self.mappings));
        let mut sample = FitSample::default();
        let mut logs: Vec<usize> = lines.iter().map(|line| line.server.0 as usize).collect();
        logs.sort_unstable();
        logs.dedup();
        // The last mappings of a full sample end before the last lines do.
        let end = mappings.last().map(|it| it.time).filter(|_| mappings.len() == MAPPINGS);
        for SampledLine { server, request, time } in lines {
            if end.is_none_or(|end| time <= end) {
                sample.line(server.0 as usize, request, time);
            }
        }
        for SampledLine { server, request, time } in mappings {
            sample.mapping(server.0 as usize, request, time);
        }
        let index = |place: usize| ServerIndex(u32::try_from(place).unwrap_or(u32::MAX));
        let pair = |(log, server)| (index(log), index(server));
        let second = |log: usize| Some((log, sample.other_address(log)?));
        FoundFits {
            mixed_up: sample.mixed_up().into_iter().map(pair).collect(),
            second_address: logs.into_iter().filter_map(second).map(pair).collect(),
        }
    }
}

/// What a sample shows.
#[derive(Debug, Default)]
pub(crate) struct FoundFits {
    /// Servers whose lines have the requests of a different server's mappings, and the latter.
    pub(crate) mixed_up: HashMap<ServerIndex, ServerIndex>,
    /// Servers whose lines lack mappings, and the server with these mappings and without lines.
    pub(crate) second_address: HashMap<ServerIndex, ServerIndex>,
}
