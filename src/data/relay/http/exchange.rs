//! What the access log has to say of requests and their answers: kept from the one to the other.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::edit::Refusal;
use super::{HttpEvent, PartialResponse, ResponseSummary, head};
use crate::logs::access_log::line::{EscapedRequest, ExchangeEnd, quote};

/// Bytes kept of requests that wait for their answers. Whoever asks for more at a time is logged without
/// its words.
const MOST: usize = 256 * 1024;

/// The requests of a connection that have no whole answer yet.
#[derive(Debug, Default)]
pub struct PendingExchanges {
    open: VecDeque<PendingExchange>,
    /// Of all of them.
    bytes: usize,
}

#[derive(Debug)]
struct PendingExchange {
    nth: u32,
    /// As it will stand in the line: the request up to `split`, then other fields.
    text: Vec<u8>,
    split: usize,
    asked: Instant,
    /// The status, and when its head came.
    answer: Option<(u16, Instant)>,
    refused: Option<Refusal>,
}

/// One that is over.
#[derive(Debug)]
pub struct FinishedExchange {
    exchange: PendingExchange,
    /// What was answered; 0 if that is not known.
    pub status: u16,
    /// Bytes of that.
    pub bytes: u64,
    /// How it ended.
    pub end: ExchangeEnd,
}

impl FinishedExchange {
    /// What was asked for.
    #[must_use]
    pub fn text(&self) -> EscapedRequest<'_> {
        let (request, fields) = self.exchange.text.split_at(self.exchange.split);
        EscapedRequest { request, fields }
    }

    /// Which request it was.
    #[must_use]
    pub fn nth(&self) -> u32 {
        self.exchange.nth
    }

    /// How long the answer's head took.
    #[must_use]
    pub fn first(&self) -> Option<Duration> {
        let (_, came) = self.exchange.answer?;
        Some(came.saturating_duration_since(self.exchange.asked))
    }

    /// How long all of it has taken by now.
    #[must_use]
    pub fn total(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.exchange.asked)
    }
}

impl PendingExchanges {
    /// Takes what was noticed, and hands back what is over by that.
    pub fn note(&mut self, note: &HttpEvent<'_>, now: Instant) -> Option<FinishedExchange> {
        match *note {
            HttpEvent::Request { nth, line, head, .. } => self.ask(nth, line, head, now),
            HttpEvent::Began { nth, status } => {
                if let Some(exchange) = self.open.front_mut().filter(|it| it.nth == nth) {
                    exchange.answer = Some((status, now));
                }
            }
            HttpEvent::Ended(ResponseSummary { nth, status, framed, .. }) => {
                let is_it = self.open.front().is_some_and(|it| it.nth == nth);
                let exchange = if is_it { self.take() } else { None };
                return exchange.map(|it| it.over(status, framed, ExchangeEnd::Whole));
            }
            HttpEvent::Refused { nth, line, refusal } => {
                if let Some(line) = line {
                    self.ask(nth, line, b"", now);
                }
                if let Some(exchange) = self.open.back_mut().filter(|it| it.nth == nth) {
                    exchange.refused = Some(refusal);
                }
            }
        }
        None
    }

    /// The connection is over, and so is whatever was not answered: `half` is the answer under way, of
    /// which `unsent` bytes did not leave, and `cause` who ended it.
    pub fn end(
        &mut self,
        half: PartialResponse,
        unsent: u64,
        cause: ExchangeEnd,
    ) -> Option<FinishedExchange> {
        let exchange = self.take()?;
        let over = match (exchange.refused, exchange.answer) {
            (Some(refusal), _) => {
                let bytes = if half.refused { refusal.text().len() as u64 } else { 0 };
                exchange.over(refusal.status(), bytes, ExchangeEnd::Refused)
            }
            (None, Some((status, _))) if half.nth == exchange.nth => {
                let end = if half.unfollowable { ExchangeEnd::Unknown } else { cause };
                exchange.over(status, half.bytes.saturating_sub(unsent), end)
            }
            _ if half.unfollowable => exchange.over(0, 0, ExchangeEnd::Unknown),
            _ => exchange.over(cause.status(), 0, cause),
        };
        Some(over)
    }

    fn ask(&mut self, nth: u32, line: &[u8], head: &[u8], asked: Instant) {
        let room = MOST.saturating_sub(self.bytes);
        let fits = (line.len() + head.len()) * 4 <= room || self.open.is_empty();
        let (line, head) = if fits { (line, head) } else { (&b""[..], &b""[..]) };
        let mut text = Vec::with_capacity(line.len() + 64);
        quote(Some(line), &mut text);
        let split = text.len();
        for value in head::texts(head) {
            text.push(b' ');
            quote(value, &mut text);
        }
        self.bytes += text.len();
        let (answer, refused) = (None, None);
        self.open.push_back(PendingExchange { nth, text, split, asked, answer, refused });
    }

    fn take(&mut self) -> Option<PendingExchange> {
        let exchange = self.open.pop_front()?;
        self.bytes -= exchange.text.len();
        if self.open.is_empty() {
            // A silent connection keeps nothing.
            self.open = VecDeque::new();
        }
        Some(exchange)
    }
}

impl PendingExchange {
    fn over(self, status: u16, bytes: u64, end: ExchangeEnd) -> FinishedExchange {
        FinishedExchange { exchange: self, status, bytes, end }
    }
}
