//! Access lines of servers that follow none of the usual formats: application servers and frameworks with a
//! form of their own ([`pattern`]), lines of keys and values ([`pairs`]), W3C logs ([`w3c`]), loggers for people
//! ([`console`]), and tables ([`table`]).
//!
//! The shapes are tried on lines in no usual format, and only in a log without usual lines. Among usual lines, a
//! line of such a shape is a message of an application, about a request with a line of its own.

mod console;
mod pairs;
mod pattern;
mod stamp;
mod table;
mod w3c;

use std::sync::LazyLock;

use self::pattern::ShapePattern;
use self::table::TableLayout;
use self::w3c::W3cFields;
use super::envelope::{self, Envelope};
use super::field::LineDraft;
use super::timestamp::TimestampParser;
use super::{AccessLine, StampZone};
use crate::time::{Resolution, Timestamp};

/// Names of the shapes, with their patterns: see [`ShapePattern::compile`].
const SHAPES: [(&str, &str); 44] = [
    ("Gin", r#"[GIN] %t | %s | %* | %c | %m "%u""#),
    ("common with another time", r#"%c %w %w [%t] "%m %u %p" %s %b "%r" "%a"%*"#),
    ("common with another time", r#"%c %w %w [%t] "%m %u %p" %s %*"#),
    ("common with another time", r#"%c %w %w [%t] "%m %u" %s %*"#),
    ("common with another time", r#"%c %w %w %t "%m %u %p" %s %*"#),
    ("common without quotes", r#"%c %w %w [%t] %m %u %p %s %*"#),
    ("common, the client in brackets", r#"[%c] %w %w [%t] "%m %u %p" %s %*"#),
    ("GlassFish", r#""%c" "%*" "%t" "%m %u %p" %s %*"#),
    ("combined, all in quotes", r#""%c" "%*" "%*" "%t" "%m %u %p" "%s" "%b" "%r" "%a"%*"#),
    ("Gitea", "%t %*completed %m %u for %c, %s %*"),
    ("werkzeug", r#"INFO:%w:%c - %w [%t] "%m %u %p" %s %*"#),
    ("aiohttp", r#"INFO:%w:%c [%t] "%m %u %p" %s %*"#),
    ("uvicorn", r#"INFO: %c - "%m %u %p" %s%*"#),
    ("uvicorn", r#"%t INFO: %c - "%m %u %p" %s%*"#),
    ("uvicorn", r#"%c - "%m %u %p" %s%*"#),
    ("uvicorn", r#"[%t] [%w] [%w] %c - "%m %u %p" %s%*"#),
    ("uvicorn", r#"%t - %w - %c - "%m %u %p" %s%*"#),
    ("uvicorn", r#"%t - %w - %w - %c - "%m %u %p" %s%*"#),
    ("Sanic", "[%t] - (%*)[%w][%c]: %m %u %s %*"),
    ("Twisted", r#""%c" %w %w [%t] "%m %u %p" %s %b "%r" "%a""#),
    ("Twisted", r#"%*] "%c" %w %w [%t] "%m %u %p" %s %b "%r" "%a""#),
    ("Tornado", "[%w %t %w] %s %m %u (%c) %*"),
    ("Jupyter", "[%w %t %*] %s %m %u (%*@%c) %*"),
    ("Rust log", r#"[%t %w %w] %c "%m %u %p" %s %*"#),
    ("client and time", r#"%c %t "%m %u %p" %s %*"#),
    ("Rails", r#"%*Started %m "%u" for %c at %t"#),
    ("uWSGI", "[pid: %*] %c (%*) {%*} [%t] %m %u => generated %b bytes in %* (%p %s)%*"),
    ("chi", r#"%t "%m %u %p" from %c - %s %*"#),
    ("chi", r#"%t [%*] "%m %u %p" from %c - %s %*"#),
    ("Fiber", "%t | %s | %w | %c | %m | %u | %*"),
    ("Fiber", "%w | %s | %w | %c | %m | %u | %*"),
    ("Fiber", "%t %w | %s | %w | %c | %m | %u | %*"),
    ("morgan", "%c %w %m %u %p %s %w - %w ms"),
    ("morgan", "%t: %c %w %m %u %p %s %w - %w ms"),
    ("PHP", "[%t] %c [%s]: %m %u"),
    ("PHP-FPM", r#"%c - %t "%m %u" %s%*"#),
    ("PHP-FPM", r#"%c - %w %t "%m %u" %s%*"#),
    ("Squid", "%t %w %c %w/%s %w %m %u %*"),
    ("Istio", r#"[%t] "%m %u %p" %s %w %w %w "%~" %w %w %w %c %w %w"#),
    ("Confluence", "[%t] %w %w %c %m %u %p %s %*"),
    ("Bitbucket", r#"%c | %w | %w | %w | %t | "%m %u %p" | %*"#),
    ("IIS", "%c, %w, %t, %w, %w, %w, %w, %w, %w, %s, %w, %m, %u, %q,"),
    ("AWS ELB", r#"%t %w %c %w %w %w %w %s %w %w %w "%m %u %p" "%a"%*"#),
    ("AWS ALB", r#"%w %t app/%w %c %w %w %w %w %s %w %w %w "%m %u %p" "%a"%*"#),
];

/// Shapes without a pattern.
const FURTHER: [&str; 4] = ["keys and values", "W3C", "console with JSON", "table"];

/// The name of each shape, as the report gives it: those of [`SHAPES`], then [`FURTHER`].
pub(super) const NAMES: [&str; SHAPES.len() + FURTHER.len()] = {
    let mut names = [""; SHAPES.len() + FURTHER.len()];
    let mut index = 0;
    while index < names.len() {
        names[index] =
            if index < SHAPES.len() { SHAPES[index].0 } else { FURTHER[index - SHAPES.len()] };
        index += 1;
    }
    names
};

const PAIRS: usize = SHAPES.len();
const W3C: usize = SHAPES.len() + 1;
const CONSOLE: usize = SHAPES.len() + 2;
const TABLE: usize = SHAPES.len() + 3;

/// Lines without a shape after which the columns of a table are told anew.
const MISFITS: u32 = 64;

static PATTERNS: LazyLock<[ShapePattern; SHAPES.len()]> =
    LazyLock::new(|| SHAPES.map(|(_, text)| ShapePattern::compile(text)));

/// What is known of the shapes of a log.
#[derive(Clone, Debug, Default)]
pub(super) struct ShapeParser {
    /// The shape of the last line.
    last: usize,
    fields: Option<W3cFields>,
    table: Option<TableLayout>,
    /// Lines since the columns of the table were told that have no shape.
    misfits: u32,
}

impl ShapeParser {
    /// Parses the line behind `envelope` into `found`; returns the index of its shape in [`NAMES`].
    #[cold]
    pub(super) fn parse(
        &mut self,
        line: &[u8],
        envelope: Envelope,
        near: Option<Timestamp>,
        clock: &mut TimestampParser,
        found: &mut AccessLine,
    ) -> Option<usize> {
        if let Some(fields) = W3cFields::of_directive(line) {
            self.fields = Some(fields);
            return None;
        }
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let order = [self.last].into_iter().chain((0..NAMES.len()).filter(|&it| it != self.last));
        for shape in order {
            *found = AccessLine::in_envelope(envelope);
            if !self.is_of(shape, line, envelope, clock, found) {
                continue;
            }
            take_time(line, envelope, near, clock, found);
            self.last = shape;
            return Some(shape);
        }
        if !self.tell_columns(line, envelope, clock) {
            return None;
        }
        *found = AccessLine::in_envelope(envelope);
        self.last = TABLE;
        self.is_of(TABLE, line, envelope, clock, found).then_some(TABLE)
    }

    /// Tells the columns of a table by a line that has no shape. Returns whether they are new.
    fn tell_columns(
        &mut self,
        line: &[u8],
        envelope: Envelope,
        clock: &mut TimestampParser,
    ) -> bool {
        if let Some(table) = TableLayout::of_names(line) {
            self.table = Some(table);
            return false;
        }
        if let Some(table) = &self.table {
            self.misfits += 1;
            if table.is_named || self.misfits < MISFITS {
                return false;
            }
        }
        self.misfits = 0;
        self.table = TableLayout::of_values(line, envelope.length as usize, clock);
        self.table.is_some()
    }

    /// Parses a line of one shape.
    fn is_of(
        &self,
        shape: usize,
        line: &[u8],
        envelope: Envelope,
        clock: &mut TimestampParser,
        found: &mut AccessLine,
    ) -> bool {
        if shape == CONSOLE {
            return console::read(line, envelope, clock, found).is_some();
        }
        let mut draft = LineDraft::new(found);
        let start = envelope.length as usize;
        let read = match PATTERNS.get(shape) {
            Some(pattern) => pattern.read(line, start, clock, &mut draft),
            None if shape == PAIRS => pairs::read(line, start, clock, &mut draft),
            None if shape == W3C => {
                self.fields.as_ref().and_then(|it| it.read(line, clock, &mut draft))
            }
            None => self.table.as_ref().and_then(|it| it.read(line, start, clock, &mut draft)),
        };
        draft.has_client && read.is_some() && draft.finish().request != super::LoggedRequest::Absent
    }
}

/// Takes the time of the envelope or the one in front of a line, where the line has none.
fn take_time(
    line: &[u8],
    envelope: Envelope,
    near: Option<Timestamp>,
    clock: &mut TimestampParser,
    found: &mut AccessLine,
) {
    if found.time.is_none()
        && let Some(time) = envelope::time(line, near).or_else(|| leading(line, envelope, clock))
    {
        (found.time, found.zone) = (Some(time.0), time.1);
    }
}

/// The time at the beginning of a line, also in brackets or as Ruby's logger has it: `I, [2026-11-22T20:23:21 #12]`.
fn leading(
    line: &[u8],
    envelope: Envelope,
    clock: &mut TimestampParser,
) -> Option<((Timestamp, Resolution), StampZone)> {
    let start = envelope.length as usize;
    let text = line.get(start..)?;
    let skipped = match text {
        [b'[', ..] => 1,
        [b'A'..=b'Z', b',', b' ', b'[', ..] => 4,
        _ => 0,
    };
    stamp::read(clock, line, start + skipped).map(|read| (read.time, read.zone))
}

#[cfg(test)]
mod tests;
