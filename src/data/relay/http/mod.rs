//! Follows HTTP/1.x in both directions while bytes pass, and reports each request and the end of each response. Forwarding
//! never waits for the follower, which stores only an incomplete head. It stops following a stream that is not HTTP, or
//! whose framing is ambiguous.

mod body;
pub mod conversation;
pub mod edit;
pub mod exchange;
mod head;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::time::Instant;

use body::{BodyProgress, Chunks, MessageBody};
use edit::Refusal;
use head::{HeadFields, MAX_HEAD, RequestMethod, TransferCoding, Unfollowable};

/// Limit of requests without a response.
const MAX_OUTSTANDING: usize = 1_000;

/// What the follower reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HttpEvent<'a> {
    /// The head of a request has come.
    Request {
        /// The request's number on its connection, from 1.
        nth: u32,
        /// The request line.
        line: &'a [u8],
        /// The whole head.
        head: &'a [u8],
        /// Hash of the User-Agent field.
        user_agent: Option<u32>,
        /// Hash of the Referer field.
        referer: Option<u32>,
        /// Hash of the Host field.
        host: Option<u32>,
    },
    /// The head of a final response has come, not of an interim (1xx) one.
    Began {
        /// Number of the request.
        nth: u32,
        /// Status code.
        status: u16,
    },
    /// A request was refused and not sent to the server.
    Refused {
        /// Number of the request.
        nth: u32,
        /// Request line as far as it came; `None` if the head was reported before.
        line: Option<&'a [u8]>,
        /// Reason of the refusal.
        refusal: Refusal,
    },
    /// A response has ended.
    Ended(ResponseSummary),
    /// The body of a request has ended after the response to the request.
    BodyEnded(ResponseSummary),
}

/// Parsing state of a connection's two streams.
#[derive(Debug, Default)]
pub struct Follower {
    requests: MessageStream,
    responses: MessageStream,
    /// Requests without a response yet.
    outstanding: VecDeque<OutstandingRequest>,
    nth: u32,
    /// The response whose body is passing, or the last response.
    answer: ResponseSummary,
    /// The connection is a tunnel: the server has switched to another protocol.
    tunnel: bool,
    /// Following has stopped because the framing was ambiguous.
    unfollowable: bool,
}

/// A request without a whole response.
#[derive(Clone, Copy, Debug)]
struct OutstandingRequest {
    nth: u32,
    method: RequestMethod,
    body: RequestBody,
}

/// Progress of a request's body.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RequestBody {
    /// The request has no body.
    #[default]
    Absent,
    /// The body has not ended.
    Unfinished,
    /// The last byte of the body came then.
    Ended(Instant),
}

/// Progress of a response when its connection closes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PartialResponse {
    /// Number of the request being answered, or answered last.
    pub nth: u32,
    /// Bytes of the body, framing included.
    pub bytes: u64,
    /// Following has stopped, so the number of bytes is unknown.
    pub unfollowable: bool,
    /// The response to a refused request was sent.
    pub refused: bool,
}

/// Place of a defect in a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RefusalPlace {
    /// In the head, which was not reported.
    Head,
    /// In the body.
    Body,
}

/// A response that has ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ResponseSummary {
    /// Number of the request.
    pub nth: u32,
    /// Status code.
    pub status: u16,
    /// Bytes of the head.
    pub head: u64,
    /// Bytes of the body without framing.
    pub body: u64,
    /// Bytes of the body, framing included.
    pub framed: u64,
    /// Body of the request.
    pub request_body: RequestBody,
}

/// One direction of a connection.
#[derive(Debug, Default)]
struct MessageStream {
    state: StreamState,
    /// An incomplete head.
    partial: Vec<u8>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum StreamState {
    /// Between messages, or in a head.
    #[default]
    Head,
    Body(MessageBody),
    /// No longer followed.
    Ignored,
}

impl Follower {
    /// Processes bytes from the client that came at `now`.
    pub fn requests(&mut self, bytes: &[u8], now: Instant, mut note: impl FnMut(HttpEvent<'_>)) {
        if self.walk_requests(bytes, now, &mut note).is_err() {
            self.lose();
        }
    }

    /// Processes bytes from the server.
    pub fn responses(&mut self, bytes: &[u8], mut note: impl FnMut(HttpEvent<'_>)) {
        if self.walk_responses(bytes, &mut note).is_err() {
            self.lose();
        }
    }

    /// Processes the end of the server's stream, which ends a body of unknown length.
    pub fn responses_end(&mut self, mut note: impl FnMut(HttpEvent<'_>)) {
        if self.responses.state == StreamState::Body(MessageBody::UntilEnd) {
            self.end_answer(&mut note);
        }
        self.note_unfinished(&mut note);
        self.ignore();
    }

    /// Returns whether a direction is still followed.
    #[must_use]
    pub fn is_following(&self) -> bool {
        self.requests.state != StreamState::Ignored
    }

    /// Returns whether the server has switched to another protocol.
    #[must_use]
    pub fn is_tunnel(&self) -> bool {
        self.tunnel
    }

    /// Returns whether all requests but the last `requests` have their whole response and no further response has begun, as far as known.
    #[must_use]
    pub fn owes_only(&self, requests: usize) -> bool {
        self.is_following()
            && self.outstanding.len() == requests
            && self.responses.state == StreamState::Head
            && self.responses.partial.is_empty()
    }

    /// Reports an incomplete request head as a request: a server logs such a request after a
    /// timeout.
    fn note_unfinished(&mut self, note: &mut impl FnMut(HttpEvent<'_>)) {
        let head = std::mem::take(&mut self.requests.partial);
        let Some((line, fields)) = head::unfinished(&head) else { return };
        let Some(nth) = self.nth.checked_add(1) else { return };
        (self.nth, self.requests.state) = (nth, StreamState::Ignored);
        let HeadFields { user_agent, referer, host, .. } = fields;
        note(HttpEvent::Request { nth, line, head: &head, user_agent, referer, host });
        self.outstanding.push_back(OutstandingRequest {
            nth,
            method: RequestMethod::Other,
            body: RequestBody::Absent,
        });
    }

    /// Reports the rejection of the last request, or of the request now beginning.
    pub fn refused(
        &mut self,
        refusal: Refusal,
        place: RefusalPlace,
        mut note: impl FnMut(HttpEvent<'_>),
    ) {
        let partial = &self.requests.partial;
        let end = partial.iter().position(|byte| matches!(byte, b'\r' | b'\n'));
        let (nth, line) = match place {
            RefusalPlace::Body => (self.nth, None),
            RefusalPlace::Head => {
                (self.nth.saturating_add(1), Some(&partial[..end.unwrap_or(partial.len())]))
            }
        };
        note(HttpEvent::Refused { nth, line, refusal });
        // The head was reported, so the request is logged whatever happens to the connection.
        self.requests.partial = Vec::new();
    }

    /// Returns the progress of the last response.
    #[must_use]
    pub fn partial_response(&self) -> PartialResponse {
        let ResponseSummary { nth, framed, .. } = self.answer;
        PartialResponse { nth, bytes: framed, unfollowable: self.unfollowable, refused: false }
    }

    fn lose(&mut self) {
        self.unfollowable |= !self.tunnel && self.responses.state != StreamState::Ignored;
        self.ignore();
    }

    fn ignore(&mut self) {
        for stream in [&mut self.requests, &mut self.responses] {
            *stream = MessageStream { state: StreamState::Ignored, partial: Vec::new() };
        }
        self.outstanding = VecDeque::new();
    }

    fn walk_requests(
        &mut self,
        mut bytes: &[u8],
        now: Instant,
        note: &mut impl FnMut(HttpEvent<'_>),
    ) -> Result<(), Unfollowable> {
        while !bytes.is_empty() {
            match &mut self.requests.state {
                StreamState::Ignored => return Ok(()),
                StreamState::Body(body) => {
                    let BodyProgress { framed, ended, .. } = body.take(bytes)?;
                    bytes = &bytes[framed..];
                    if ended {
                        self.requests.state = StreamState::Head;
                        self.end_request_body(now, note);
                    }
                }
                StreamState::Head => {
                    if self.requests.partial.is_empty() {
                        // Empty lines between messages are ignored.
                        bytes = bytes.trim_prefix_line_ends();
                    }
                    if self.outstanding.len() >= MAX_OUTSTANDING {
                        return Err(Unfollowable);
                    }
                    let Some((head, rest)) =
                        self.requests.whole_head(bytes, head::may_be_request)?
                    else {
                        return Ok(());
                    };
                    bytes = rest;
                    let head = head.of(&self.requests.partial);
                    let (line, method, fields) = head::request(head)?;
                    self.nth = self.nth.checked_add(1).ok_or(Unfollowable)?;
                    let HeadFields { user_agent, referer, host, .. } = fields;
                    let nth = self.nth;
                    note(HttpEvent::Request { nth, line, head, user_agent, referer, host });
                    self.requests.partial = Vec::new();
                    self.requests.state = request_body(&fields);
                    let body = match self.requests.state {
                        StreamState::Body(_) => RequestBody::Unfinished,
                        StreamState::Head | StreamState::Ignored => RequestBody::Absent,
                    };
                    self.outstanding.push_back(OutstandingRequest { nth, method, body });
                }
            }
        }
        Ok(())
    }

    fn walk_responses(
        &mut self,
        mut bytes: &[u8],
        note: &mut impl FnMut(HttpEvent<'_>),
    ) -> Result<(), Unfollowable> {
        while !bytes.is_empty() {
            match &mut self.responses.state {
                StreamState::Ignored => return Ok(()),
                StreamState::Body(body) => {
                    let BodyProgress { framed, data, ended } = body.take(bytes)?;
                    bytes = &bytes[framed..];
                    self.answer.framed += framed as u64;
                    self.answer.body += data as u64;
                    if ended {
                        self.end_answer(note);
                    }
                }
                StreamState::Head => {
                    let Some((head, rest)) =
                        self.responses.whole_head(bytes, head::may_be_response)?
                    else {
                        return Ok(());
                    };
                    bytes = rest;
                    let head = head.of(&self.responses.partial);
                    let (status, fields) = head::response(head)?;
                    let len = head.len() as u64;
                    self.responses.partial = Vec::new();
                    self.begin_answer(status, &fields, len, note)?;
                }
            }
        }
        Ok(())
    }

    fn begin_answer(
        &mut self,
        status: u16,
        fields: &HeadFields,
        head: u64,
        note: &mut impl FnMut(HttpEvent<'_>),
    ) -> Result<(), Unfollowable> {
        if self.outstanding.is_empty() {
            self.note_unfinished(note);
        }
        // A response without a request: the server gives up on the connection.
        let &OutstandingRequest { nth, method, .. } =
            self.outstanding.front().ok_or(Unfollowable)?;
        match status {
            101 => {
                self.answer = ResponseSummary { nth, status, head, ..ResponseSummary::default() };
                note(HttpEvent::Began { nth, status });
                self.end_answer(note);
                self.tunnel = true;
                return Err(Unfollowable);
            }
            100..=199 => return Ok(()),
            _ => {}
        }
        self.answer = ResponseSummary { nth, status, head, ..ResponseSummary::default() };
        note(HttpEvent::Began { nth, status });
        let none = method == RequestMethod::Head || matches!(status, 204 | 304);
        let tunnel = method == RequestMethod::Connect && (200..300).contains(&status);
        let body = match (fields.coding, fields.length) {
            _ if none || tunnel => MessageBody::Length(0),
            (Some(TransferCoding::Chunked), _) => MessageBody::Chunks(Chunks::START),
            (Some(TransferCoding::Other), _) | (None, None) => MessageBody::UntilEnd,
            (None, Some(length)) => MessageBody::Length(length),
        };
        self.responses.state = StreamState::Body(body);
        if body == MessageBody::Length(0) {
            self.end_answer(note);
        }
        self.tunnel = tunnel;
        if tunnel { Err(Unfollowable) } else { Ok(()) }
    }

    fn end_answer(&mut self, note: &mut impl FnMut(HttpEvent<'_>)) {
        let request = self.outstanding.pop_front();
        self.answer.request_body = request.map_or(RequestBody::Absent, |request| request.body);
        note(HttpEvent::Ended(self.answer));
        self.responses.state = StreamState::Head;
    }

    /// Notes the end of the last request's body.
    fn end_request_body(&mut self, now: Instant, note: &mut impl FnMut(HttpEvent<'_>)) {
        let ended = RequestBody::Ended(now);
        match self.outstanding.back_mut() {
            Some(last) => last.body = ended,
            None if self.answer.request_body == RequestBody::Unfinished => {
                self.answer.request_body = ended;
                note(HttpEvent::BodyEnded(self.answer));
            }
            None => {}
        }
    }
}

fn request_body(fields: &HeadFields) -> StreamState {
    match (fields.coding, fields.length) {
        (Some(_), _) => StreamState::Body(MessageBody::Chunks(Chunks::START)),
        (None, None | Some(0)) => StreamState::Head,
        (None, Some(length)) => StreamState::Body(MessageBody::Length(length)),
    }
}

/// Location of a complete head.
#[derive(Clone, Copy, Debug)]
enum HeadLocation<'a> {
    /// In the new bytes.
    Here(&'a [u8]),
    /// In the stored bytes together with the new ones.
    Kept,
}

impl<'a> HeadLocation<'a> {
    fn of<'b>(self, partial: &'b [u8]) -> &'b [u8]
    where
        'a: 'b,
    {
        match self {
            Self::Here(head) => head,
            Self::Kept => partial,
        }
    }
}

impl MessageStream {
    /// Returns the head that `bytes` begin with or complete, and the bytes after it. An incomplete head is stored.
    fn whole_head<'a>(
        &mut self,
        bytes: &'a [u8],
        may_be: fn(&[u8]) -> bool,
    ) -> Result<Option<(HeadLocation<'a>, &'a [u8])>, Unfollowable> {
        if self.partial.is_empty() {
            if !may_be(bytes) {
                return Err(Unfollowable);
            }
            if let Some(end) = head::end_of_head(bytes, 0) {
                let (head, rest) = bytes.split_at(end);
                return Ok(Some((HeadLocation::Here(head), rest)));
            }
        }
        let before = self.partial.len();
        let room = MAX_HEAD.saturating_sub(before);
        self.partial.extend_from_slice(&bytes[..bytes.len().min(room)]);
        if !may_be(&self.partial) {
            return Err(Unfollowable);
        }
        if let Some(end) = head::end_of_head(&self.partial, before) {
            self.partial.truncate(end);
            return Ok(Some((HeadLocation::Kept, &bytes[end - before..])));
        }
        if self.partial.len() >= MAX_HEAD { Err(Unfollowable) } else { Ok(None) }
    }
}

trait TrimLineEnds {
    fn trim_prefix_line_ends(&self) -> &Self;
}

impl TrimLineEnds for [u8] {
    fn trim_prefix_line_ends(&self) -> &Self {
        let start = self.iter().position(|byte| !matches!(byte, b'\r' | b'\n'));
        &self[start.unwrap_or(self.len())..]
    }
}
