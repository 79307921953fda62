//! A thread for each open input: reads, splits, parses, sets right, and sends batches ahead of the
//! merge through a bounded channel. Used batches come back to be filled again.

mod access;
mod mappings;

use std::collections::BTreeSet;
use std::io;

use crossbeam_channel::{Receiver, Sender};
use pen_records::access::LineSpan;
use pen_records::attribution::{LoggedLine, MappingEvent};
use pen_records::merge::Timed;
use pen_records::time::Timestamp;

pub(crate) use self::access::AccessJob;
pub(crate) use self::mappings::{MappingJob, cut_short};
use crate::input::archive::Compression;
use crate::input::lines::Block;

/// Complaints kept for each input.
pub(crate) const COMPLAINTS: usize = 3;

/// An access line, parsed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Parsed {
    pub(crate) line: LoggedLine,
    pub(crate) place: Place,
}

impl Timed for Parsed {
    fn time(&self) -> Timestamp {
        self.line.time
    }

    fn weight(&self) -> usize {
        size_of::<Self>() + self.place.len as usize
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
    pub(crate) client: Option<LineSpan>,
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
    pub(crate) records: Vec<MappingEvent>,
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
    /// Lines about connections and responses.
    pub(crate) moments: u64,
    pub(crate) late: u64,
    /// Servers that another balancer names, and whose address nobody has said.
    pub(crate) unnamed: BTreeSet<String>,
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
