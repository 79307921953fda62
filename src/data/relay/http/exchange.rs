//! Facts for the access log about each request, kept until its response ends.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::edit::Refusal;
use super::{HttpEvent, PartialResponse, ResponseSummary, head};
use crate::logs::access_log::line::{EscapedRequest, ExchangeEnd, quote};

/// Limit in bytes for the text of pending requests. Further requests are logged without their text.
const MOST: usize = 256 * 1024;

/// Requests of a connection whose response has not ended.
#[derive(Debug, Default)]
pub struct PendingExchanges {
    open: VecDeque<PendingExchange>,
    /// Bytes of `text` of all of them.
    bytes: usize,
}

#[derive(Debug)]
struct PendingExchange {
    nth: u32,
    /// Text for the log line: the request line up to `split`, then other fields.
    text: Vec<u8>,
    split: usize,
    asked: Instant,
    /// Status of the response, and when its head came.
    answer: Option<(u16, Instant)>,
    refused: Option<Refusal>,
}

/// An exchange that has ended.
#[derive(Debug)]
pub struct FinishedExchange {
    exchange: PendingExchange,
    /// Status of the response; 0 if unknown.
    pub status: u16,
    /// Bytes of the response body.
    pub bytes: u64,
    /// How the exchange ended.
    pub end: ExchangeEnd,
}

impl FinishedExchange {
    /// Returns the request line and fields for the log line.
    #[must_use]
    pub fn text(&self) -> EscapedRequest<'_> {
        let (request, fields) = self.exchange.text.split_at(self.exchange.split);
        EscapedRequest { request, fields }
    }

    /// Returns the request's number on its connection, from 1.
    #[must_use]
    pub fn nth(&self) -> u32 {
        self.exchange.nth
    }

    /// Returns the time from the request to the response head; `None` without a response.
    #[must_use]
    pub fn first(&self) -> Option<Duration> {
        let (_, came) = self.exchange.answer?;
        Some(came.saturating_duration_since(self.exchange.asked))
    }

    /// Returns the time from the request until `now`.
    #[must_use]
    pub fn total(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.exchange.asked)
    }
}

impl PendingExchanges {
    /// Processes an event. Returns an exchange that ended with the event.
    pub fn apply(&mut self, event: &HttpEvent<'_>, now: Instant) -> Option<FinishedExchange> {
        match *event {
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
            HttpEvent::BodyEnded(_) => {}
        }
        None
    }

    /// Ends the pending exchanges with the connection. `half` is the response in progress, `unsent` the bytes of it that never
    /// reached the client, `cause` the side that closed. Returns one exchange per call.
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
            // An idle connection keeps no memory.
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
