//! The first lines of a source, while later lines may tell which of their words is the client.
//!
//! `mergelogs` reads the beginning of a log twice. A collector cannot: it holds the first line that leaves a choice, and
//! those behind it, until they are enough to learn from, or the first has waited for long enough.

use pen_records::access::Parser;
use pen_records::time::Timestamp;

use crate::lines::{ArrivedLine, HeldLine};

/// Microseconds for which a line is held at most.
const HELD: i64 = 1_000_000;

/// Lines and bytes that are held at most.
const HELD_LINES: usize = 40;
const HELD_BYTES: usize = 16 << 10;

/// Lines of a source after which none is held any more.
const WATCHED: u32 = 64;

/// The first lines of a source.
#[derive(Debug, Default)]
pub(crate) struct FirstLines {
    held: Vec<HeldLine>,
    bytes: usize,
    seen: u32,
}

/// What becomes of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FirstLineFate {
    /// It goes on, and none is held.
    Passes,
    /// It is held: the first one, or one more.
    Held {
        /// Whether none was held before.
        is_first: bool,
    },
    /// It is held, and all go on now.
    Enough,
}

impl FirstLines {
    /// Takes a line, and holds a copy if it must wait.
    pub(crate) fn take(&mut self, parser: &Parser, line: ArrivedLine<'_>) -> FirstLineFate {
        self.seen += 1;
        let is_first = self.held.is_empty();
        if is_first && !parser.is_choice(line.text) {
            return FirstLineFate::Passes;
        }
        self.held.push(line.into());
        self.bytes += line.text.len();
        if self.held.len() >= HELD_LINES || self.bytes >= HELD_BYTES {
            return FirstLineFate::Enough;
        }
        FirstLineFate::Held { is_first }
    }

    /// Whether no line will be held any more.
    pub(crate) fn is_over(&self, parser: &Parser) -> bool {
        self.held.is_empty() && (self.seen >= WATCHED || parser.is_settled())
    }

    /// Returns when the held lines go on at the latest.
    pub(crate) fn due(&self) -> Option<Timestamp> {
        self.held.first().map(|first| first.read.offset_by(HELD))
    }

    /// Returns the held lines, after the parser has learnt from them.
    pub(crate) fn release(&mut self, parser: &mut Parser) -> Vec<HeldLine> {
        self.bytes = 0;
        let held = std::mem::take(&mut self.held);
        parser.learn(held.iter().map(|line| &*line.text));
        held
    }
}
