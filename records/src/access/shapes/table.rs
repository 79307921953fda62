//! Tables: lines of values between commas, semicolons, bars or tabs. A line of names tells what the columns are, or
//! else the values themselves do.
//!
//! ```text
//! line  = value *(delimiter value)
//! value = *SP (*text / DQUOTE *(text / 2DQUOTE) DQUOTE) *SP
//! ```

use std::sync::LazyLock;

use super::super::LineSpan;
use super::super::field::{LineDraft, LogField};
use super::super::head::is_address;
use super::super::json::JsonNames;
use super::super::timestamp::TimestampParser;
use super::stamp;

/// Most columns of a table, and the fewest.
const MOST: usize = 128;
const FEWEST: usize = 4;

const DELIMITERS: [u8; 4] = [b'\t', b'|', b';', b','];

/// Names of columns beside the keys of JSON, in lower case.
const COLUMNS: &[(&str, LogField, u8)] = &[
    ("ip_address", LogField::Client, 7),
    ("client_address", LogField::Client, 5),
    ("source_ip", LogField::Client, 7),
    ("src_ip", LogField::Client, 7),
    ("c_ip", LogField::Client, 5),
    ("datetime", LogField::Time, 7),
    ("date_time", LogField::Time, 7),
    ("cs_method", LogField::Method, 4),
    ("request_path", LogField::Target, 5),
    ("cs_uri_stem", LogField::Target, 5),
    ("cs_uri_query", LogField::Query, 2),
    ("request_protocol", LogField::Protocol, 4),
    ("code", LogField::Status, 4),
    ("response_status", LogField::Status, 4),
    ("sc_status", LogField::Status, 4),
];

static NAMES: LazyLock<JsonNames> = LazyLock::new(|| JsonNames::usual_and(COLUMNS));

/// What the columns of a table are.
#[derive(Clone, Debug)]
pub(super) struct TableLayout {
    delimiter: u8,
    columns: Vec<(LogField, u8)>,
    /// Whether a line of names told it.
    pub(super) is_named: bool,
}

impl TableLayout {
    /// Parses a line of names; `None` if the names of client and request are not among them.
    pub(super) fn of_names(line: &[u8]) -> Option<Self> {
        if !line.first().is_some_and(|byte| byte.is_ascii_alphabetic() || *byte == b'"') {
            return None;
        }
        let layouts = DELIMITERS.into_iter().filter_map(|delimiter| {
            let names = cells(line, 0, delimiter)?;
            let columns: Vec<_> = names.iter().map(|name| column(name.of(line))).collect();
            Some(Self { delimiter, columns, is_named: true })
        });
        let has = |layout: &Self, field| layout.columns.iter().any(|(other, _)| *other == field);
        layouts.into_iter().find(|it| {
            has(it, LogField::Client) && (has(it, LogField::Request) || has(it, LogField::Target))
        })
    }

    /// Tells the columns by the values of the line that starts at `start`: a time, one address, and a request as a
    /// whole or as method and target side by side. With two addresses either may be the client.
    pub(super) fn of_values(
        line: &[u8],
        start: usize,
        clock: &mut TimestampParser,
    ) -> Option<Self> {
        DELIMITERS.into_iter().find_map(|delimiter| {
            let values = cells(line, start, delimiter)?;
            let mut columns = vec![(LogField::Word, 0); values.len()];
            let addresses = values.iter().filter(|value| is_address(value.of(line))).count();
            let client = values.iter().position(|value| is_address(value.of(line)))?;
            let time = values.iter().position(|&value| time(clock, line, value).is_some())?;
            if addresses != 1 {
                return None;
            }
            columns[client].0 = LogField::Client;
            columns[time].0 = LogField::Time;
            let request = values.iter().position(|value| is_request(value.of(line)));
            let behind = if let Some(request) = request {
                columns[request].0 = LogField::Request;
                request
            } else {
                let method = values
                    .windows(2)
                    .position(|pair| is_method(pair[0].of(line)) && is_target(pair[1].of(line)))?;
                columns[method].0 = LogField::Method;
                columns[method + 1].0 = LogField::Target;
                if let Some(next) = values.get(method + 2)
                    && is_query(next.of(line))
                {
                    columns[method + 2].0 = LogField::Query;
                }
                method + 1
            };
            let later = |is: fn(&[u8]) -> bool| {
                (behind + 1..values.len()).find(|&index| is(values[index].of(line)))
            };
            let is_protocol = |value: &LineSpan| value.of(line).starts_with(b"HTTP/");
            if let Some(protocol) = values.iter().position(is_protocol) {
                columns[protocol].0 = LogField::Protocol;
            }
            if let Some(status) = later(is_status) {
                columns[status].0 = LogField::Status;
            }
            Some(Self { delimiter, columns, is_named: false })
        })
    }

    /// Parses the line that starts at `start` into the draft; `None` if it has other columns.
    pub(super) fn read(
        &self,
        line: &[u8],
        start: usize,
        clock: &mut TimestampParser,
        draft: &mut LineDraft<'_>,
    ) -> Option<()> {
        let values = cells(line, start, self.delimiter)?;
        if values.len() != self.columns.len() {
            return None;
        }
        let mut parts: Vec<LineSpan> = Vec::new();
        for (&(field, rank), value) in self.columns.iter().zip(values) {
            let text = value.of(line);
            match field {
                LogField::Client if !is_address(text) => return None,
                LogField::Method if !is_method(text) => return None,
                LogField::Query if !self.is_named && !is_query(text) => {}
                LogField::Time if draft.line.time.is_some() => {}
                LogField::Time => match time(clock, line, value) {
                    Some(read) => {
                        draft.line.time = Some(read.time);
                        draft.line.zone = read.zone;
                        draft.line.time_text = Some(value);
                    }
                    None => parts.push(value),
                },
                _ => draft.take(field, rank, value, line, clock).then_some(())?,
            }
        }
        if let ([date, clock_time], None) = (&parts[..], draft.line.time) {
            let text = [date.of(line), b" ", clock_time.of(line)].concat();
            let read = stamp::read(clock, &text, 0).filter(|read| read.end == text.len())?;
            draft.line.time = Some(read.time);
            draft.line.zone = read.zone;
            draft.line.time_text = Some(*clock_time);
        }
        draft.take_target(line);
        Some(())
    }
}

/// The field of a column with this name, and its rank.
fn column(name: &[u8]) -> (LogField, u8) {
    let plain = |byte: &u8| match byte {
        b' ' | b'-' | b'.' => b'_',
        byte => byte.to_ascii_lowercase(),
    };
    let lower: Vec<u8> = name.iter().map(plain).collect();
    NAMES.field(name).or_else(|| NAMES.field(&lower)).unwrap_or((LogField::Word, 0))
}

/// Parses a value that is nothing but a time, perhaps in brackets.
fn time(
    clock: &mut TimestampParser,
    line: &[u8],
    value: LineSpan,
) -> Option<super::super::timestamp::ParsedTime> {
    let (mut from, mut to) = (value.start as usize, value.end as usize);
    if let [b'[', .., b']'] = value.of(line) {
        (from, to) = (from + 1, to - 1);
    }
    stamp::read(clock, line.get(..to)?, from).filter(|read| read.end == to)
}

/// The values of a line; `None` if the line is no table with this delimiter.
fn cells(line: &[u8], start: usize, delimiter: u8) -> Option<Vec<LineSpan>> {
    let mut values = Vec::new();
    let mut at = start;
    loop {
        let from = at + line.get(at..)?.iter().take_while(|&&byte| byte == b' ').count();
        let (value, end) = if line.get(from) == Some(&b'"') {
            let close = closing_quote(line, from + 1)?;
            let blanks = line[close + 1..].iter().take_while(|&&byte| byte == b' ').count();
            (LineSpan::new(from + 1, close), close + 1 + blanks)
        } else {
            let rest = &line[from..];
            let end = from + memchr::memchr(delimiter, rest).unwrap_or(rest.len());
            let blanks = line[from..end].iter().rev().take_while(|&&byte| byte == b' ').count();
            (LineSpan::new(from, end - blanks), end)
        };
        values.push(value);
        match line.get(end) {
            None => break,
            Some(&byte) if byte == delimiter && values.len() < MOST => at = end + 1,
            Some(_) => return None,
        }
    }
    (values.len() >= FEWEST).then_some(values)
}

/// Returns the offset of the quote that ends a value; two quotes stand for one.
fn closing_quote(line: &[u8], mut at: usize) -> Option<usize> {
    loop {
        at += memchr::memchr(b'"', line.get(at..)?)?;
        if line.get(at + 1) != Some(&b'"') {
            return Some(at);
        }
        at += 2;
    }
}

fn is_request(text: &[u8]) -> bool {
    let mut words = text.splitn(2, |&byte| byte == b' ');
    words.next().is_some_and(is_method) && words.next().is_some_and(is_target)
}

fn is_method(text: &[u8]) -> bool {
    (3..=16).contains(&text.len()) && text.iter().all(u8::is_ascii_uppercase)
}

fn is_target(text: &[u8]) -> bool {
    text.starts_with(b"/") || text.starts_with(b"http://") || text.starts_with(b"https://")
}

/// Whether a value behind a target may be its query, as Apache's `%q` has it.
fn is_query(text: &[u8]) -> bool {
    text.is_empty() || text.starts_with(b"?")
}

fn is_status(text: &[u8]) -> bool {
    matches!(text, [b'1'..=b'5', tens, ones] if tens.is_ascii_digit() && ones.is_ascii_digit())
}
