//! A thread for each open input: reads, splits, parses, reorders, and sends batches ahead of the
//! merge through a bounded channel. Used batches come back to be filled again.

mod access;
mod mappings;

use std::collections::BTreeSet;
use std::io;

use crossbeam_channel::{Receiver, Sender};
use pen_archive::Compression;
use pen_records::access::LineSpan;
use pen_records::attribution::{LoggedLine, MappingEvent};
use pen_records::merge::Timed;
use pen_records::time::Timestamp;

pub(crate) use self::access::AccessJob;
pub(crate) use self::mappings::{MappingJob, cut_short};
use crate::input::lines::TextBlock;
use crate::servers::OptionPlace;
/// Warnings kept for each input.
pub(crate) const COMPLAINTS: usize = 3;

/// An access line, parsed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ParsedLine {
    pub(crate) line: LoggedLine,
    pub(crate) place: LinePlace,
}

impl Timed for ParsedLine {
    fn time(&self) -> Timestamp {
        self.line.time
    }

    fn weight(&self) -> usize {
        size_of::<Self>() + self.place.len as usize
    }
}

/// The place of a line's text, and of the client field in the text.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LinePlace {
    /// The number of the [`TextBlock`] in its input.
    pub(crate) block: u32,
    pub(crate) start: u32,
    pub(crate) len: u32,
    /// `None` if the line was not understood.
    pub(crate) client: Option<LineSpan>,
    /// Whether the server's clock was set about then.
    pub(crate) in_doubt: bool,
}

/// A batch of an access log's reader: text in the order of the file, lines in the order of the merge.
/// A line is sent with its text or later.
#[derive(Default)]
pub(crate) struct AccessBatch {
    /// The text and the number of its lines.
    pub(crate) text: Option<(TextBlock, usize)>,
    pub(crate) lines: Vec<ParsedLine>,
    pub(crate) end: Option<Box<AccessEnd>>,
}

/// The counters of an access log that was read.
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

/// A batch of a mapping log's reader.
#[derive(Default)]
pub(crate) struct MappingBatch {
    pub(crate) records: Vec<MappingEvent>,
    pub(crate) end: Option<Box<MappingEnd>>,
}

/// The counters of a mapping log that was read.
#[derive(Default)]
pub(crate) struct MappingEnd {
    pub(crate) compression: Option<Compression>,
    pub(crate) lines: u64,
    pub(crate) damaged: u64,
    pub(crate) elsewhere: u64,
    pub(crate) without_request: u64,
    /// Lines about connections and responses.
    pub(crate) events: u64,
    pub(crate) late: u64,
    /// Server names of a third-party balancer without a known address.
    pub(crate) unnamed: BTreeSet<String>,
    /// The options `--server` that a line needed, by place.
    pub(crate) options: BTreeSet<usize>,
    pub(crate) complaints: Vec<String>,
    pub(crate) fault: Option<io::Error>,
}

impl MappingEnd {
    /// Notes that a line needed an option `--server`.
    #[inline]
    pub(crate) fn note(&mut self, option: Option<OptionPlace>) {
        if let Some(option) = option {
            self.options.insert(option.place);
        }
    }
}

/// The merge's handle of a reader thread.
pub(crate) struct ReaderHandle<B, U> {
    pub(crate) batches: Receiver<B>,
    /// Returns used batches to the reader.
    pub(crate) used: Sender<U>,
}

/// A used batch on its way back to the reader of an access log.
pub(crate) enum UsedBatch {
    Text(TextBlock),
    Lines(Vec<ParsedLine>),
}
