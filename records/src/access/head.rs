//! The head of a line: client and time, in front of the request.

use std::net::IpAddr;

use super::envelope::{self, Envelope};
use super::layout::{HeadLayout, HeadWords};
use super::quote::next_quote;
use super::timestamp::{ParsedTime, TimestampParser, decimal};
use super::{AccessLine, Expected, LineError, LineSpan};
use crate::addr::parse_ip;
use crate::scan;
use crate::time::Timestamp;

/// The position of the client among the words in front of the time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ClientPlacement {
    /// Detected line by line.
    ByLine,
    /// The first word.
    First,
    /// The second word, after the virtual host.
    AfterHost,
}

/// Parses heads and caches the last one. Behind a balancer, lines of one second mostly begin with
/// the same bytes up to the request; equal bytes are compared instead of parsed.
#[derive(Clone, Debug)]
pub(super) struct HeadParser {
    placement: ClientPlacement,
    layout: HeadLayout,
    /// A time near which the log was written.
    near: Option<Timestamp>,
    last: LastHead,
}

/// A head that can be reused: its meaning depends on its bytes alone.
#[derive(Clone, Debug, Default)]
struct LastHead {
    /// The bytes up to and including the quote before the request; empty if no head is cached.
    text: Vec<u8>,
    start: usize,
    found: AccessLine,
    after_host: bool,
}

/// Longer heads are not cached.
const LONGEST: usize = 256;

impl HeadParser {
    pub(super) fn new(
        placement: ClientPlacement,
        near: Option<Timestamp>,
        own: Option<IpAddr>,
    ) -> Self {
        Self { placement, layout: HeadLayout::of_server(own), near, last: LastHead::default() }
    }

    /// The same without the cached head, which was parsed before all was learnt.
    pub(super) fn without_last(self) -> Self {
        Self { last: LastHead::default(), ..self }
    }

    /// Whether it is known which word is the client.
    pub(super) fn is_settled(&self) -> bool {
        self.layout.is_settled()
    }

    /// Whether a line since [`Self::reset_choice`] left a choice that later lines may decide.
    pub(super) const fn is_choice(&self) -> bool {
        self.layout.is_choice
    }

    pub(super) fn reset_choice(&mut self) {
        self.layout.is_choice = false;
    }

    pub(super) fn near(&self) -> Option<Timestamp> {
        self.near
    }

    /// Parses the text before the request of the line that starts at `start` of `body` into
    /// `found`, overwriting all fields. Returns the offset of the quote before the request, and
    /// whether the virtual host comes first.
    #[inline]
    pub(super) fn read(
        &mut self,
        body: &[u8],
        start: usize,
        envelope: Envelope,
        clock: &mut TimestampParser,
        found: &mut AccessLine,
    ) -> Result<(usize, bool), LineError> {
        let last = &self.last;
        let rest = body.get(start..).unwrap_or_default();
        if last.start == start && !last.text.is_empty() && rest.starts_with(&last.text) {
            *found = last.found;
            found.set_envelope(envelope);
            return Ok((start + last.text.len() - 1, last.after_host));
        }
        *found = AccessLine::in_envelope(envelope);
        self.read_anew(body, start, clock, found)
    }

    /// Parses the head of a line without a time; that of the envelope counts.
    #[cold]
    fn read_without_time(
        &mut self,
        body: &[u8],
        start: usize,
        found: &mut AccessLine,
    ) -> Option<(usize, bool)> {
        if found.envelope == 0 {
            return None;
        }
        let quote = next_quote(body, start)?;
        let end = quote.checked_sub(1).filter(|&end| end > start && body[end] == b' ')?;
        body.get(quote + 1).filter(|byte| byte.is_ascii_uppercase())?;
        // Other logs, as HAProxy's, have further fields and times of their own.
        let head_text = &body[start..end];
        let words = head_text.iter().filter(|&&b| b == b' ').count() + 1;
        (words <= 5 && !head_text.contains(&b'[')).then_some(())?;
        let after_host = head(body, (start, end), self.placement, &mut self.layout, found).ok()?;
        is_address(found.client.of(body)).then_some(())?;
        if let Some((time, zone)) = envelope::time(body, self.near) {
            (found.time, found.zone) = (Some(time), zone);
        }
        Some((quote, after_host))
    }

    fn read_anew(
        &mut self,
        body: &[u8],
        start: usize,
        clock: &mut TimestampParser,
        found: &mut AccessLine,
    ) -> Result<(usize, bool), LineError> {
        let (bracket, time, quote) = match find_time(body, start, clock) {
            Ok(found) => found,
            Err(error) => return self.read_without_time(body, start, found).ok_or(error),
        };
        if bracket == start {
            let client = time_first(body, time.end + 2, quote);
            let (from, to) = client.ok_or_else(|| LineError::new(start, Expected::Client))?;
            set_client(body, (from, to), found);
            set_time(time, bracket, found);
            return Ok((quote, false));
        }
        let end = bracket.checked_sub(1).filter(|&end| end > start && body[end] == b' ');
        let end = end.ok_or_else(|| LineError::new(start, Expected::Client))?;
        let after_host = head(body, (start, end), self.placement, &mut self.layout, found)?;
        set_time(time, bracket, found);
        // Other text between time and quote could hold another time, so such a head depends on
        // later bytes.
        if quote == time.end + 2 && quote - start < LONGEST {
            self.last.text.clear();
            self.last.text.extend_from_slice(&body[start..=quote]);
            (self.last.start, self.last.found, self.last.after_host) = (start, *found, after_host);
        }
        Ok((quote, after_host))
    }
}

fn set_time(time: ParsedTime, bracket: usize, found: &mut AccessLine) {
    found.time = Some(time.time);
    found.zone = time.zone;
    found.time_text = Some(LineSpan::new(bracket + 1, time.end));
}

/// The client of a line that begins with the time, as in `mod_ssl`'s request log.
#[cold]
fn time_first(body: &[u8], from: usize, quote: usize) -> Option<(usize, usize)> {
    let end = quote.checked_sub(1).filter(|&end| end > from && body[end] == b' ')?;
    let client = word(body, from, end);
    is_address(&body[client.0..client.1]).then_some(client)
}

/// Finds the bracket before the time, the time, and the quote before the request.
fn find_time(
    body: &[u8],
    start: usize,
    clock: &mut TimestampParser,
) -> Result<(usize, ParsedTime, usize), LineError> {
    let (bracket, time) = next_time(body, start, body.len(), clock)
        .ok_or_else(|| LineError::new(start, Expected::AccessLine))?;
    if body[time.end + 1..].starts_with(b" \"") {
        return Ok((bracket, time, time.end + 2));
    }
    let quote =
        next_quote(body, time.end).ok_or_else(|| LineError::new(time.end, Expected::Request))?;
    let (mut bracket, mut time) = (bracket, time);
    while let Some(later) = next_time(body, time.end, quote, clock) {
        (bracket, time) = later;
    }
    Ok((bracket, time, quote))
}

/// Finds the first bracketed time in `body[from..to]`, and its bracket.
#[inline]
fn next_time(
    body: &[u8],
    mut from: usize,
    to: usize,
    clock: &mut TimestampParser,
) -> Option<(usize, ParsedTime)> {
    loop {
        let bracket = scan::find(b'[', body.get(..to)?, from)?;
        let time = clock.any(body, bracket + 1);
        if let Some(time) = time.filter(|time| body.get(time.end) == Some(&b']')) {
            return Some((bracket, time));
        }
        from = bracket + 1;
    }
}

/// Parses the words in `body[start..end]`, in front of the time. Returns whether the virtual host
/// comes first.
#[inline]
fn head(
    body: &[u8],
    (start, end): (usize, usize),
    placement: ClientPlacement,
    layout: &mut HeadLayout,
    found: &mut AccessLine,
) -> Result<bool, LineError> {
    let no_client = || LineError::new(start, Expected::Client);
    let first = word(body, start, end);
    let index = match placement {
        ClientPlacement::First => 0,
        ClientPlacement::AfterHost => 1,
        // Nearly all heads are `192.0.2.1 - -`.
        ClientPlacement::ByLine
            if body[first.1..end] == *b" - -" && parse_ip(&body[first.0..first.1]).is_some() =>
        {
            layout.vote_for_first();
            0
        }
        ClientPlacement::ByLine => {
            return any_head(&HeadWords::split(body, start, end), layout, found)
                .ok_or_else(no_client);
        }
    };
    let client = if index == 0 { first } else { word(body, first.1 + 1, end) };
    if first.1 == first.0 || client.1 <= client.0 {
        return Err(no_client());
    }
    if index == 0 {
        set_client(body, client, found);
        host_behind(body, client, end, found);
    } else {
        // The word stays whole: the user says what it is.
        found.client = LineSpan::new(client.0, client.1);
        set_host(body, LineSpan::new(first.0, first.1), found);
        found.user = user(body, client.1 + 1, end);
    }
    Ok(index == 1)
}

/// The client is where the words and the lines before say.
#[cold]
fn any_head(
    words: &HeadWords<'_>,
    layout: &mut HeadLayout,
    found: &mut AccessLine,
) -> Option<bool> {
    let index = layout.client(words)?;
    let (body, client) = (words.body(), words.place(index));
    set_client(body, client, found);
    if found.peer_port.is_none()
        && let Some(colon) = memchr::memchr(b':', &body[client.0..client.1])
        && let Some(port) = port_of(&body[client.0..client.1])
        && !is_address(&body[client.0..client.1])
    {
        // A name with a port.
        found.client = LineSpan::new(client.0, client.0 + colon);
        found.peer_port = Some(port);
    }
    if index == 0 {
        host_behind(body, client, words.end(), found);
        return Some(false);
    }
    let host = words.host_before(index);
    if let Some(host) = host {
        set_host(body, host, found);
    }
    found.user = user(body, client.1 + 1, words.end());
    Some(host.is_some())
}

fn set_client(body: &[u8], (from, to): (usize, usize), found: &mut AccessLine) {
    let (end, port) = without_port(body, (from, to));
    found.client = LineSpan::new(from, end);
    found.peer_port = port;
}

fn set_host(body: &[u8], host: LineSpan, found: &mut AccessLine) {
    found.host = Some(host);
    found.server_port = port_of(host.of(body));
}

/// Finds host and user behind the client. In `client host user` a user name in the place of the host
/// would be the last word.
#[inline]
fn host_behind(body: &[u8], client: (usize, usize), end: usize, found: &mut AccessLine) {
    let second = word(body, client.1 + 1, end);
    let text = &body[second.0..second.1];
    let names_host = second.1 < end && text.contains(&b'.') && parse_ip(text).is_none();
    if names_host {
        found.host = Some(LineSpan::new(second.0, second.1));
    }
    found.user = user(body, if names_host { second.1 + 1 } else { client.1 + 1 }, end);
}

/// Splits `192.0.2.1:40100` or `[2001:db8::1]:40100`: returns the end of the address, and the port.
/// Any other word stays whole, with `None`.
#[inline]
pub(super) fn without_port(body: &[u8], (from, to): (usize, usize)) -> (usize, Option<u16>) {
    let word = &body[from..to];
    // A port has five digits at most.
    let tail = word.len().saturating_sub(6);
    let Some(colon) = word[tail..].iter().rposition(|&b| b == b':') else { return (to, None) };
    let colon = tail + colon;
    let port = decimal(&word[colon + 1..]).and_then(|port| u16::try_from(port).ok());
    if port.is_none() || parse_ip(word).is_some() || parse_ip(&word[..colon]).is_none() {
        return (to, None);
    }
    (from + colon, port)
}

/// Whether a word is an address, perhaps with a port, or the `unix:` that nginx logs for a client of
/// a Unix-domain socket.
pub(super) fn is_address(word: &[u8]) -> bool {
    parse_ip(word).is_some() || without_port(word, (0, word.len())).1.is_some() || word == b"unix:"
}

/// Returns the port of `a.example:443`.
fn port_of(host: &[u8]) -> Option<u16> {
    let colon = memchr::memrchr(b':', host)?;
    u16::try_from(decimal(&host[colon + 1..])?).ok()
}

/// Finds the user in `body[from..end]`, the words between client and time. The first word is the
/// identity if more words follow; a `-` at the end is always the user.
#[inline]
fn user(body: &[u8], from: usize, end: usize) -> Option<LineSpan> {
    let words = body.get(from..end).filter(|words| !words.is_empty())?;
    if words.ends_with(b" -") {
        return Some(LineSpan::new(end - 1, end));
    }
    let after_identity = words.iter().position(|&b| b == b' ').map_or(0, |space| space + 1);
    Some(LineSpan::new(from + after_identity, end))
}

/// The word in `body[from..end]`, up to a space.
#[inline]
fn word(body: &[u8], from: usize, end: usize) -> (usize, usize) {
    let from = from.min(end);
    (from, scan::find(b' ', &body[..end], from).unwrap_or(end))
}
