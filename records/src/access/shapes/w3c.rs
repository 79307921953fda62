//! W3C logs, of IIS and others: a directive `#Fields:` names the words of the lines behind.

use super::super::field::{LineDraft, LogField};
use super::super::head::is_address;
use super::super::timestamp::{TimestampParser, iso};
use super::super::{LineSpan, StampZone};

/// Most fields of a line.
const MOST: usize = 128;

/// The fields that a directive names, in the order of their words.
#[derive(Clone, Debug)]
pub(in crate::access) struct W3cFields(Vec<W3cField>);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum W3cField {
    Date,
    Clock,
    Value(LogField),
}

impl W3cFields {
    /// Parses a directive; `None` for another line.
    pub(super) fn of_directive(line: &[u8]) -> Option<Self> {
        let names = line.strip_prefix(b"#Fields:")?;
        let names = names.split(u8::is_ascii_whitespace).filter(|name| !name.is_empty());
        let field = |name: &[u8]| {
            W3cField::Value(match name {
                b"date" => return W3cField::Date,
                b"time" => return W3cField::Clock,
                b"c-ip" => LogField::Client,
                b"c-port" => LogField::PeerPort,
                b"cs-method" => LogField::Method,
                b"cs-uri-stem" | b"cs-uri" => LogField::Target,
                b"cs-uri-query" => LogField::Query,
                b"cs-version" | b"cs-protocol-version" => LogField::Protocol,
                b"sc-status" => LogField::Status,
                b"cs(Referer)" => LogField::Referer,
                b"cs-host" | b"cs(Host)" => LogField::Host,
                // The User-Agent has other characters in the place of blanks, so it cannot be compared.
                _ => LogField::Word,
            })
        };
        Some(Self(names.take(MOST).map(field).collect()))
    }

    /// Parses a line into the draft; `None` if it has another number of words. Times are UTC.
    pub(super) fn read(
        &self,
        line: &[u8],
        clock: &mut TimestampParser,
        draft: &mut LineDraft<'_>,
    ) -> Option<()> {
        let mut at = 0;
        let (mut date, mut time) = (None, None);
        for field in &self.0 {
            let rest = line.get(at..)?;
            let len = rest.iter().position(|&byte| byte == b' ' || byte == b'\t');
            let end = at + len.unwrap_or(rest.len());
            let span = LineSpan::new(at, end);
            match field {
                W3cField::Date => date = Some(span),
                W3cField::Clock => time = Some(span),
                W3cField::Value(LogField::Client) if !is_address(span.of(line)) => return None,
                W3cField::Value(field) => {
                    draft.take(*field, 0, span, line, clock);
                }
            }
            at = end + 1;
        }
        let (date, time) = (date?, time?);
        let stamp = [date.of(line), b"T", time.of(line), b"Z"].concat();
        draft.line.time = Some(iso(&stamp, 0).filter(|read| read.end == stamp.len())?.time);
        draft.line.zone = StampZone::Given;
        draft.line.time_text = Some(time);
        (at == line.len() + 1).then_some(())
    }
}
