//! Follows HTTP/1.x in both directions as the bytes pass, and notes each request and the end of each
//! response. No byte waits for it, and it keeps none but those of a head that came in pieces. What is not
//! HTTP, or too strange to be sure where messages end, is let go: from then on it looks at nothing.

mod body;
pub mod conversation;
pub mod edit;
pub mod exchange;
mod head;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;

use body::{BodyProgress, Chunks, MessageBody};
use edit::Refusal;
use head::{HeadFields, MAX_HEAD, RequestMethod, TransferCoding, Unfollowable};

/// Requests that may be without an answer at a time.
const MAX_OUTSTANDING: usize = 1_000;

/// What was noticed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HttpEvent<'a> {
    /// The head of a request has come.
    Request {
        /// Which one on its connection, from 1.
        nth: u32,
        /// Its first line.
        line: &'a [u8],
        /// All of its head.
        head: &'a [u8],
        /// Hash of User-Agent.
        user_agent: Option<u32>,
        /// Hash of Referer.
        referer: Option<u32>,
        /// Hash of Host.
        host: Option<u32>,
    },
    /// The head of a response has come; not one that says that another follows.
    Began {
        /// To which request.
        nth: u32,
        /// Its status.
        status: u16,
    },
    /// A request was refused, and the server will not have it.
    Refused {
        /// Which one.
        nth: u32,
        /// As much of its first line as came; `None` if its head was noted before.
        line: Option<&'a [u8]>,
        /// Why.
        refusal: Refusal,
    },
    /// A response has ended.
    Ended(ResponseSummary),
}

/// What a connection's two streams are in the midst of.
#[derive(Debug, Default)]
pub struct Follower {
    requests: MessageStream,
    responses: MessageStream,
    /// Requests that have no answer yet.
    outstanding: VecDeque<(u32, RequestMethod)>,
    nth: u32,
    /// The response whose body is passing.
    answer: ResponseSummary,
    /// The server has taken the connection for something else than HTTP.
    tunnel: bool,
    /// It was let go because it could not be followed.
    unfollowable: bool,
}

/// How far an answer is when the connection is over.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PartialResponse {
    /// To which request it is, or the last one was.
    pub nth: u32,
    /// Bytes of its body with its framing.
    pub bytes: u64,
    /// What came after is not known.
    pub unfollowable: bool,
    /// The answer to a refused request was given.
    pub refused: bool,
}

/// Where in a request something was wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RefusalPlace {
    /// In its head, which was not noted.
    Head,
    /// In its body.
    Body,
}

/// A response.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ResponseSummary {
    /// To which request.
    pub nth: u32,
    /// Its status.
    pub status: u16,
    /// Bytes of its head.
    pub head: u64,
    /// Bytes of its body.
    pub body: u64,
    /// Bytes of its body with its framing.
    pub framed: u64,
}

/// One direction.
#[derive(Debug, Default)]
struct MessageStream {
    state: StreamState,
    /// The beginning of a head that has not come wholly.
    partial: Vec<u8>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum StreamState {
    /// Between messages, or in a head.
    #[default]
    Head,
    Body(MessageBody),
    /// Not followed any more.
    Ignored,
}

impl Follower {
    /// Bytes from the client.
    pub fn requests(&mut self, bytes: &[u8], mut note: impl FnMut(HttpEvent<'_>)) {
        if self.walk_requests(bytes, &mut note).is_err() {
            self.lose();
        }
    }

    /// Bytes from the server.
    pub fn responses(&mut self, bytes: &[u8], mut note: impl FnMut(HttpEvent<'_>)) {
        if self.walk_responses(bytes, &mut note).is_err() {
            self.lose();
        }
    }

    /// The server will send no more: what ends with the connection has ended.
    pub fn responses_end(&mut self, mut note: impl FnMut(HttpEvent<'_>)) {
        if self.responses.state == StreamState::Body(MessageBody::UntilEnd) {
            self.end_answer(&mut note);
        }
        self.note_unfinished(&mut note);
        self.ignore();
    }

    /// Whether it still looks at anything.
    #[must_use]
    pub fn is_following(&self) -> bool {
        self.requests.state != StreamState::Ignored
    }

    /// Whether the server has agreed to speak something else from now on.
    #[must_use]
    pub fn is_tunnel(&self) -> bool {
        self.tunnel
    }

    /// Whether all but so many of the requests that came have their whole answer, and no other has
    /// begun, as far as that is known.
    #[must_use]
    pub fn owes_only(&self, requests: usize) -> bool {
        self.is_following()
            && self.outstanding.len() == requests
            && self.responses.state == StreamState::Head
            && self.responses.partial.is_empty()
    }

    /// A request whose head has not come wholly was asked all the same: servers log what they have of it
    /// when they have waited for long enough.
    fn note_unfinished(&mut self, note: &mut impl FnMut(HttpEvent<'_>)) {
        let head = std::mem::take(&mut self.requests.partial);
        let Some((line, fields)) = head::unfinished(&head) else { return };
        let Some(nth) = self.nth.checked_add(1) else { return };
        (self.nth, self.requests.state) = (nth, StreamState::Ignored);
        let HeadFields { user_agent, referer, host, .. } = fields;
        note(HttpEvent::Request { nth, line, head: &head, user_agent, referer, host });
        self.outstanding.push_back((nth, RequestMethod::Other));
    }

    /// Notes that the request was refused that has come last or is about to come.
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
        // It has been noted, whatever becomes of the connection.
        self.requests.partial = Vec::new();
    }

    /// How far the last answer is.
    #[must_use]
    pub fn half(&self) -> PartialResponse {
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
                    }
                }
                StreamState::Head => {
                    if self.requests.partial.is_empty() {
                        // Line ends between messages are nothing.
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
                    self.outstanding.push_back((self.nth, method));
                    self.requests.partial = Vec::new();
                    self.requests.state = request_body(&fields);
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
        // An answer that nobody asked for: the server gives up on the connection.
        let &(nth, method) = self.outstanding.front().ok_or(Unfollowable)?;
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
        note(HttpEvent::Ended(self.answer));
        self.outstanding.pop_front();
        self.responses.state = StreamState::Head;
    }
}

fn request_body(fields: &HeadFields) -> StreamState {
    match (fields.coding, fields.length) {
        (Some(_), _) => StreamState::Body(MessageBody::Chunks(Chunks::START)),
        (None, None | Some(0)) => StreamState::Head,
        (None, Some(length)) => StreamState::Body(MessageBody::Length(length)),
    }
}

/// Where a head lies that has come wholly.
#[derive(Clone, Copy, Debug)]
enum HeadLocation<'a> {
    /// In the bytes that came.
    Here(&'a [u8]),
    /// In those that were kept, with the last ones.
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
    /// The head that `bytes` begin with or complete, and what follows it. If it is not whole yet, what
    /// there is of it is kept.
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
