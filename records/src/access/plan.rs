//! A compiled format, and the parser of its lines.
//!
//! A value ends where the next literal of the format begins. In quotes only an unescaped quote ends
//! a value. Outside of quotes, a value that cannot hold a space ends before the first space. For
//! any other value each occurrence of the literal is tried until the rest of the line fits, so a
//! user name may hold spaces, brackets and a date.
//!
//! If an unquoted value in front of the client field is chosen by the client, a forged header could
//! look like the following fields. Such formats are parsed twice, with that value as short and as
//! long as possible; if the two results differ in the client, the line is refused.

use super::field::{BalancerSpans, LineDraft, LogField};
use super::time_format::{TimeFormat, TimestampParts};
use super::timestamp::TimestampParser;
use super::{AccessLine, Expected, LineError, LineSpan};
use crate::addr::parse_ip;

/// An element of a format.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum PlanItem {
    /// Fixed text.
    Literal(Vec<u8>),
    /// A field and its rank.
    Value(LogField, u8),
    /// A time or a part of one; whether it is the time at the end of the request.
    Time(TimeFormat, bool),
    /// Headers captured by HAProxy, in braces and with a space behind, or nothing.
    Captures,
}

/// A compiled format.
#[derive(Clone, Debug)]
pub(super) struct FormatPlan {
    steps: Vec<PlanStep>,
    /// Whether an unquoted value chosen by the client stands in front of the client field.
    ambiguous: bool,
    /// Whether such a value stands anywhere.
    has_clients_choice: bool,
}

#[derive(Clone, Debug)]
enum PlanStep {
    Literal(Vec<u8>),
    /// Up to an unescaped quote, which this literal begins with.
    Quoted(LogField, u8, Vec<u8>),
    /// Up to this literal, without white space.
    Word(LogField, u8, Vec<u8>),
    /// Up to an occurrence of this literal behind which the rest fits; up to the end of the line if
    /// empty.
    Text(LogField, u8, Vec<u8>),
    /// Whether the time counts.
    Time(TimeFormat, bool),
    Captures,
}

/// Which end of a value is tried first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum EndOrder {
    Shortest,
    Longest,
}

/// Ends of values that are tried before a line is refused.
const TRIES: u32 = 512;

struct PlanReading<'a> {
    line: &'a [u8],
    clock: &'a mut TimestampParser,
    order: EndOrder,
    tries: u32,
    draft: LineDraft<'a>,
    stamp: TimestampParts,
    time_text: Option<(usize, usize)>,
}

impl FormatPlan {
    /// Compiles items; no two values may be adjacent, and one item must be a client.
    pub(super) fn new(items: &[PlanItem]) -> Self {
        let has_begin = items.iter().any(|item| matches!(item, PlanItem::Time(_, false)));
        let mut steps = Vec::with_capacity(items.len());
        let mut in_quotes = false;
        for (index, item) in items.iter().enumerate() {
            let next = match items.get(index + 1) {
                Some(PlanItem::Literal(text)) => text.clone(),
                Some(PlanItem::Value(LogField::Target | LogField::Path, _)) => b"/".to_vec(),
                _ => Vec::new(),
            };
            steps.push(match item {
                PlanItem::Literal(text) => {
                    in_quotes = text.last() == Some(&b'"');
                    PlanStep::Literal(text.clone())
                }
                PlanItem::Time(form, is_end) => {
                    PlanStep::Time(form.clone(), !*is_end || !has_begin)
                }
                PlanItem::Captures => PlanStep::Captures,
                PlanItem::Value(field, rank) => {
                    let opened = index > 0 && in_quotes;
                    if opened && next.first() == Some(&b'"') {
                        PlanStep::Quoted(*field, *rank, next)
                    } else if field.is_word() {
                        PlanStep::Word(*field, *rank, next)
                    } else {
                        PlanStep::Text(*field, *rank, next)
                    }
                }
            });
        }
        let is_list = |item: &PlanItem| matches!(item, PlanItem::Value(LogField::ClientList, _));
        let is_client = |item: &PlanItem| matches!(item, PlanItem::Value(LogField::Client, _));
        // A client chooses a part of the list.
        let client = items.iter().position(is_list).map(|index| index + 1);
        let client = client.or_else(|| items.iter().position(is_client));
        let before = &steps[..client.unwrap_or(0)];
        let is_choice = |step: &PlanStep| matches!(step, PlanStep::Text(field, ..) if field.is_clients_choice());
        let ambiguous = before.iter().any(is_choice);
        let has_clients_choice = steps.iter().any(is_choice);
        Self { steps, ambiguous, has_clients_choice }
    }

    /// Parses the line that starts at `start` of `line` into `into`, which must be empty.
    pub(super) fn parse(
        &self,
        line: &[u8],
        start: usize,
        clock: &mut TimestampParser,
        into: &mut AccessLine,
    ) -> Result<(), LineError> {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        self.read(line, start, EndOrder::Shortest, clock, (into, None))?;
        if self.ambiguous {
            let mut other = AccessLine::default();
            self.read(line, start, EndOrder::Longest, clock, (&mut other, None))?;
            if other.client != into.client {
                return Err(LineError::new(start, Expected::Client));
            }
        }
        Ok(())
    }

    /// Parses a balancer's line that starts at `start` of `line`. Text chosen by the client must
    /// not affect the client or the server.
    pub(super) fn parse_balancers(
        &self,
        line: &[u8],
        start: usize,
        clock: &mut TimestampParser,
        (into, parts): (&mut AccessLine, &mut BalancerSpans),
    ) -> Result<(), LineError> {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        self.read(line, start, EndOrder::Shortest, clock, (into, Some(parts)))?;
        if self.has_clients_choice {
            let (mut other, mut its) = (AccessLine::default(), BalancerSpans::default());
            self.read(line, start, EndOrder::Longest, clock, (&mut other, Some(&mut its)))?;
            if other.client != into.client || its != *parts {
                return Err(LineError::new(start, Expected::Client));
            }
        }
        Ok(())
    }

    fn read(
        &self,
        line: &[u8],
        start: usize,
        order: EndOrder,
        clock: &mut TimestampParser,
        (into, parts): (&mut AccessLine, Option<&mut BalancerSpans>),
    ) -> Result<(), LineError> {
        let mut reading = PlanReading {
            line,
            clock,
            order,
            tries: TRIES,
            draft: LineDraft::of_balancer(into, parts),
            stamp: TimestampParts::default(),
            time_text: None,
        };
        reading.steps(&self.steps, start)?;
        let PlanReading { draft, stamp, time_text, .. } = reading;
        if let Some((from, to)) = time_text {
            draft.line.time = stamp.finish();
            draft.line.zone = stamp.zone();
            draft.line.time_text = Some(LineSpan::new(from, to));
        }
        draft.finish();
        Ok(())
    }
}

impl PlanReading<'_> {
    /// Parses the rest of the line by the remaining steps.
    fn steps(&mut self, steps: &[PlanStep], mut at: usize) -> Result<(), LineError> {
        for (index, step) in steps.iter().enumerate() {
            match step {
                PlanStep::Literal(text) => {
                    let rest = self.line.get(at..).unwrap_or_default();
                    if !rest.starts_with(text) {
                        return Err(LineError::new(at, Expected::Literal));
                    }
                    at += text.len();
                }
                PlanStep::Time(form, counts) => at = self.time(form, *counts, at)?,
                PlanStep::Captures => at = self.captures(at)?,
                PlanStep::Word(field, rank, next) => {
                    let end = self.word_end(*field, at, next)?;
                    self.value(*field, *rank, at, end)?;
                    at = end;
                }
                PlanStep::Quoted(field, rank, next) => {
                    let end = self.quote_end(at, next)?;
                    self.value(*field, *rank, at, end)?;
                    at = end;
                }
                PlanStep::Text(field, rank, next) if next.is_empty() => {
                    self.value(*field, *rank, at, self.line.len())?;
                    at = self.line.len();
                }
                PlanStep::Text(field, rank, next) => {
                    return self.text(*field, *rank, next, &steps[index + 1..], at);
                }
            }
        }
        if at == self.line.len() { Ok(()) } else { Err(LineError::new(at, Expected::Literal)) }
    }

    fn time(&mut self, form: &TimeFormat, counts: bool, at: usize) -> Result<usize, LineError> {
        let mut other = TimestampParts::default();
        let stamp = if counts { &mut self.stamp } else { &mut other };
        let end = form
            .read(self.line, at, stamp, self.clock)
            .ok_or_else(|| LineError::new(at, Expected::Time))?;
        if counts {
            let from = self.time_text.map_or(at, |(from, _)| from);
            self.time_text = Some((from, end));
        }
        Ok(end)
    }

    /// HAProxy escapes braces inside. With the flag `+Q` the braces are in quotes.
    fn captures(&self, at: usize) -> Result<usize, LineError> {
        let rest = self.line.get(at..).unwrap_or_default();
        let close: &[u8] = match rest {
            [b'{', ..] => b"}",
            [b'"', b'{', ..] => b"}\"",
            _ => return Ok(at),
        };
        let len = memchr::memmem::find(rest, close);
        let end = len.ok_or_else(|| LineError::new(at, Expected::Literal))? + close.len();
        Ok(at + end + usize::from(rest.get(end) == Some(&b' ')))
    }

    fn value(&mut self, field: LogField, rank: u8, at: usize, end: usize) -> Result<(), LineError> {
        if self.draft.take(field, rank, LineSpan::new(at, end), self.line, self.clock) {
            return Ok(());
        }
        let is_client = matches!(field, LogField::Client | LogField::ClientList);
        let expected = if is_client { Expected::Client } else { Expected::Literal };
        Err(LineError::new(at, expected))
    }

    /// The end of a value without spaces. Before a `:`, the last one in the word behind an address counts, or else the
    /// last one: an IPv6 address has colons too.
    fn word_end(&self, field: LogField, at: usize, next: &[u8]) -> Result<usize, LineError> {
        let rest = self.line.get(at..).unwrap_or_default();
        let wrong = || {
            let expected =
                if field == LogField::Client { Expected::Client } else { Expected::Literal };
            LineError::new(at, expected)
        };
        let len = match next.first() {
            None => rest.len(),
            Some(b' ') => memchr::memchr(b' ', rest).ok_or_else(wrong)?,
            Some(b':') => {
                let word = rest.iter().position(|&b| b == b' ').unwrap_or(rest.len());
                // The literal may go on behind the word.
                let stop = rest.len().min(word + next.len());
                let ends = || ends_backwards(&rest[..stop], next).filter(|&len| len <= word);
                let is_address = |len: &usize| parse_ip(&rest[..*len]).is_some();
                ends().find(is_address).or_else(|| ends().next()).ok_or_else(wrong)?
            }
            Some(_) => ends(rest, next).next().ok_or_else(wrong)?,
        };
        let is_space = |b: &u8| *b == b' ' || *b == b'\t';
        if rest[..len].iter().any(is_space) {
            return Err(wrong());
        }
        Ok(at + len)
    }

    /// The end of a quoted value: an unescaped quote with the rest of the literal behind.
    fn quote_end(&self, at: usize, next: &[u8]) -> Result<usize, LineError> {
        let rest = self.line.get(at..).unwrap_or_default();
        let mut from = 0;
        while let Some(len) = memchr::memchr(b'"', &rest[from..]) {
            let end = from + len;
            let run = rest[..end].iter().rev().take_while(|&&b| b == b'\\').count();
            if run % 2 == 0 && rest[end..].starts_with(next) {
                return Ok(at + end);
            }
            from = end + 1;
        }
        Err(LineError::new(at.saturating_sub(1), Expected::Literal))
    }

    /// Tries each end of a value until the rest of the line fits.
    fn text(
        &mut self,
        field: LogField,
        rank: u8,
        next: &[u8],
        steps: &[PlanStep],
        at: usize,
    ) -> Result<(), LineError> {
        let line = self.line;
        let rest = line.get(at..).unwrap_or_default();
        // A list goes on behind a comma.
        let is_list = matches!(field, LogField::ForwardedFor | LogField::ClientList);
        let may_end = move |len: &usize| !(is_list && rest[..*len].ends_with(b","));
        match self.order {
            EndOrder::Shortest => {
                self.try_ends(field, rank, steps, at, ends(rest, next).filter(may_end))
            }
            EndOrder::Longest => {
                self.try_ends(field, rank, steps, at, ends_backwards(rest, next).filter(may_end))
            }
        }
    }

    fn try_ends(
        &mut self,
        field: LogField,
        rank: u8,
        steps: &[PlanStep],
        at: usize,
        ends: impl Iterator<Item = usize>,
    ) -> Result<(), LineError> {
        // Other state that a failed attempt sets is overwritten by the successful one.
        let before = (self.draft.ranks, self.stamp.resolution, self.time_text);
        let mut furthest = LineError::new(at, Expected::Literal);
        for (index, len) in ends.enumerate() {
            let Some(tries) = self.tries.checked_sub(1) else { break };
            self.tries = tries;
            if index > 0 {
                (self.draft.ranks, self.stamp.resolution, self.time_text) = before;
            }
            let tried =
                self.value(field, rank, at, at + len).and_then(|()| self.steps(steps, at + len));
            match tried {
                Ok(()) => return Ok(()),
                Err(wrong) if wrong.at > furthest.at => furthest = wrong,
                Err(_) => {}
            }
        }
        Err(furthest)
    }
}

/// Occurrences of `literal` in `text`, first to last. Most literals have a byte or two, for which
/// setting up a searcher would cost more than the search.
fn ends<'a>(text: &'a [u8], literal: &'a [u8]) -> impl Iterator<Item = usize> + 'a {
    let first = literal.first().copied().unwrap_or_default();
    memchr::memchr_iter(first, text).filter(move |&at| text[at..].starts_with(literal))
}

/// Occurrences of `literal` in `text`, last to first.
fn ends_backwards<'a>(text: &'a [u8], literal: &'a [u8]) -> impl Iterator<Item = usize> + 'a {
    let first = literal.first().copied().unwrap_or_default();
    memchr::memrchr_iter(first, text).filter(move |&at| text[at..].starts_with(literal))
}
