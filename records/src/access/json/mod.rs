//! Access lines that are JSON objects (RFC 8259): of nginx with `escape=json`, Caddy, Traefik, or
//! with keys given by the user.
//!
//! One pass, without recursion or copies: a tree of keys tells which keys are of interest at each
//! depth. Only the first element of an array is examined, so that Caddy's `headers.User-Agent` is
//! found in its list. Of duplicate keys the first one counts.
//!
//! Lines are written by hand-made formats, and read as people have them: a value may be missing
//! (nginx's empty variable out of quotes), a comma may stand behind the last member or the object,
//! and the line may be cut behind client, time and request. What is refused with [`ObjectDepth::Known`] is
//! looked for in objects within objects, and by [`wrapped`] in the text of a container's log.

mod names;
mod walk;

use std::sync::LazyLock;

pub(super) use self::names::JsonNames;
pub(super) use self::walk::ObjectDepth;
use self::walk::{skip_space, walk};
use super::field::{LineDraft, LogField};
use super::head::is_address;
use super::timestamp::TimestampParser;
use super::{AccessLine, Expected, LineError, LineSpan, LoggedRequest};
use crate::time::{Resolution, Timestamp};

/// The offset of the object of a line that begins with spaces, or as an element of an array.
pub(super) fn open(line: &[u8], start: usize) -> Option<usize> {
    let at = skip_space(line, start);
    let is_element = matches!(line.get(at), Some(b'[' | b','));
    let at = if is_element { skip_space(line, at + 1) } else { at };
    (line.get(at) == Some(&b'{')).then_some(at)
}

/// Parses the object that starts at `start` of `line` into the draft, which must be empty. In objects of unknown
/// names, only what has a request is an access line.
pub(super) fn parse(
    line: &[u8],
    start: usize,
    (names, depth): (&JsonNames, ObjectDepth),
    clock: &mut TimestampParser,
    mut draft: LineDraft<'_>,
) -> Result<(), LineError> {
    let end = walk(line, start, (names, depth), |field, rank, value| {
        if field == LogField::Client && !may_be_client(value.of(line), rank) {
            return;
        }
        // An invalid value is skipped, except for the client.
        draft.take(field, rank, value, line, clock);
    });
    if !draft.has_client || draft.other_logger {
        return Err(LineError::new(start, Expected::Json));
    }
    draft.take_target(line);
    // In a cut line a better key of the client may be missing.
    let has_usual_client = !draft.wants(LogField::Client, USUAL_RANK) && draft.parts.is_none();
    let into = draft.finish();
    let has_request = into.request != LoggedRequest::Absent;
    if depth == ObjectDepth::Any && !has_request {
        return Err(LineError::new(start, Expected::Json));
    }
    let end = match end {
        Ok(end) => end,
        Err(error) => {
            let is_usable = has_usual_client && has_request && into.time.is_some();
            return if is_usable { Ok(()) } else { Err(error) };
        }
    };
    let rest = line.get(end..).unwrap_or_default();
    let is_end = |b: &u8| b.is_ascii_whitespace() || matches!(b, b',' | b']');
    if rest.iter().all(is_end) { Ok(()) } else { Err(LineError::new(end, Expected::Json)) }
}

/// Reads the object again, with the keys in objects of any name, where the usual places have a client and no request.
#[cold]
pub(super) fn find_request(
    line: &[u8],
    start: usize,
    names: &JsonNames,
    clock: &mut TimestampParser,
    found: &mut AccessLine,
) {
    let mut other = AccessLine {
        envelope: found.envelope,
        envelope_host: found.envelope_host,
        ..AccessLine::default()
    };
    let draft = LineDraft::new(&mut other);
    if parse(line, start, (names, ObjectDepth::Any), clock, draft).is_ok()
        && other.client == found.client
    {
        *found = other;
    }
}

/// Ranks from here on are of keys that hardly any log has for the peer of the connection.
const USUAL_RANK: u8 = 3;

/// Whether a value may be the client. A list of addresses is none.
fn may_be_client(text: &[u8], rank: u8) -> bool {
    let is_name = |b: &u8| b.is_ascii_alphanumeric() || b"-._:@/".contains(b);
    is_address(text) || (rank <= USUAL_RANK && text.iter().all(is_name))
}

/// A line of another program within an object: the text of a container's or the journal's log.
#[derive(Clone, Copy, Debug)]
pub(super) struct WrappedLine {
    /// The text, escaped.
    pub(super) text: LineSpan,
    /// The host.
    pub(super) host: Option<LineSpan>,
    pub(super) time: Option<(Timestamp, Resolution)>,
}

/// Finds the text in the object that starts at `start`.
#[cold]
pub(super) fn wrapped(
    line: &[u8],
    start: usize,
    clock: &mut TimestampParser,
) -> Option<WrappedLine> {
    let mut found = AccessLine::default();
    let mut draft = LineDraft::new(&mut found);
    let _ = walk(line, start, (&WRAPPERS, ObjectDepth::Known), |field, rank, value| {
        draft.take(field, rank, value, line, clock);
    });
    draft.finish();
    let LoggedRequest::Line(text) = found.request else { return None };
    Some(WrappedLine {
        text,
        host: found.host.filter(|host| host.end > host.start),
        time: found.time,
    })
}

static WRAPPERS: LazyLock<JsonNames> = LazyLock::new(JsonNames::wrappers);

/// Which headers the objects of a log name. A logger may leave out the key of a header that a request lacks.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct NamedHeaders {
    user_agent: bool,
    referer: bool,
}

impl NamedHeaders {
    /// Learns the headers of a line, and empties known headers without a key in the line.
    pub(super) fn complete(&mut self, line: &mut AccessLine) {
        let empty = LineSpan { start: line.client.end, end: line.client.end };
        for (is_named, header) in
            [(&mut self.user_agent, &mut line.user_agent), (&mut self.referer, &mut line.referer)]
        {
            *is_named |= header.is_some();
            if *is_named && header.is_none() {
                *header = Some(empty);
            }
        }
    }
}

/// The time of the object that starts at `start`, as far as the object can be read.
pub(super) fn time(
    line: &[u8],
    start: usize,
    names: &JsonNames,
    clock: &mut TimestampParser,
) -> Option<(Timestamp, Resolution)> {
    let mut found = AccessLine::default();
    let mut draft = LineDraft::new(&mut found);
    let _ = walk(line, start, (names, ObjectDepth::Known), |field, rank, value| {
        if field == LogField::Time {
            draft.take(field, rank, value, line, clock);
        }
    });
    found.time
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access::LoggedRequest;

    fn read(line: &str, names: &JsonNames) -> Result<AccessLine, LineError> {
        let mut found = AccessLine::default();
        let names = (names, ObjectDepth::Known);
        let draft = LineDraft::new(&mut found);
        parse(line.as_bytes(), 0, names, &mut TimestampParser::default(), draft)?;
        Ok(found)
    }

    #[test]
    fn nested_values_and_lists_are_found() {
        let line = r#"{"a":[[{"b":1}],{}],"request":{"headers":{"User-Agent":["x\"y","no"]},
            "remote_ip":"192.0.2.1","method":"GET","uri":"/"},"ts":1693840791.75,"status":404}"#;
        let found = read(line, &JsonNames::usual()).unwrap();
        let text = |span: LineSpan| span.of(line.as_bytes());
        assert_eq!(text(found.client), b"192.0.2.1");
        assert_eq!(found.user_agent.map(text), Some(&br#"x\"y"#[..]));
        assert_eq!(found.status, Some(404));
        let LoggedRequest::Parts { method, target, .. } = found.request else { panic!("no parts") };
        assert_eq!((text(method), text(target)), (&b"GET"[..], &b"/"[..]));
    }

    #[test]
    fn names_may_be_given() {
        let names =
            JsonNames::usual().with(LogField::Client, "who.ip").with(LogField::Status, "code[0]");
        for line in [
            r#"{"remote_addr":"198.51.100.1","who":{"ip":"192.0.2.1"},"code":[204]}"#,
            r#"{"who.ip":"192.0.2.1","code":"204"}"#,
        ] {
            let found = read(line, &names).expect(line);
            assert_eq!(found.client.of(line.as_bytes()), b"192.0.2.1", "{line}");
            assert_eq!(found.status, Some(204), "{line}");
        }
    }

    #[test]
    fn what_names_no_client_or_is_cut_is_refused() {
        let deep = format!("{{\"a\":{}1{}}}", "[".repeat(60), "]".repeat(60));
        let deeper = format!("{{\"a\":{}", "[".repeat(6_000));
        for line in [
            "",
            "{",
            "{}",
            "[]",
            r#"{"remote_addr"}"#,
            r#"{"remote_addr":"192.0.2.1"#,
            r#"{"remote_addr":"192.0.2.1""#,
            r#"{"remote_addr":"192.0.2.1"]"#,
            r#"{"remote_addr":"192.0.2.1"} x"#,
            r#"{"remote_addr":null}"#,
            r#"{"remote_addr":""}"#,
            r#"{"x":{"remote_addr":"192.0.2.1"}}"#,
            r#"{"x":1 "remote_addr":"192.0.2.1"}"#,
            r#"{"logger":"http.handlers.reverse_proxy","request":{"remote_ip":"192.0.2.1"}}"#,
            &deep,
            &deeper,
        ] {
            assert!(read(line, &JsonNames::usual()).is_err(), "{line}");
        }
    }

    #[test]
    fn objects_are_read_as_people_write_them() {
        for line in [
            r#"{"t":,"remote_addr":"192.0.2.1","request":"GET / HTTP/1.1","ts":1693840791,"u":}"#,
            r#"{"remote_addr":"192.0.2.1","request":"GET / HTTP/1.1","ts":1693840791,}"#,
            r#"{"remote_addr":"192.0.2.1","request":"GET / HTTP/1.1","ts":1693840791},"#,
            r#"{"remote_addr":"192.0.2.1","request":"GET / HTTP/1.1","ts":1693840791}]"#,
            r#"{"remote_addr":"192.0.2.1","request":"GET / HTTP/1.1","ts":1693840791, "a":[1,2,],"b":[]}"#,
            r#"{"remote_addr":["192.0.2.1"],"request":"GET / HTTP/1.1","ts":1693840791}"#,
            r#"{"remote_addr":"192.0.2.1","request":"GET / HTTP/1.1","ts":1693840791,"user_agent":"cut"#,
            r#"{"remote_addr":"192.0.2.1","request":"GET / HTTP/1.1","ts":1693840791,"user_a"#,
        ] {
            let found = read(line, &JsonNames::usual()).expect(line);
            assert_eq!(found.client.of(line.as_bytes()), b"192.0.2.1", "{line}");
            let LoggedRequest::Line(request) = found.request else { panic!("{line}") };
            assert_eq!(request.of(line.as_bytes()), b"GET / HTTP/1.1", "{line}");
            assert!(found.time.is_some(), "{line}");
        }
    }

    #[test]
    fn a_list_of_addresses_is_no_client() {
        for line in [
            r#"{"remote_addr":"203.0.113.7, 192.0.2.1","request":"GET / HTTP/1.1"}"#,
            r#"{"client":"mobile","request":"GET / HTTP/1.1"}"#,
        ] {
            assert!(read(line, &JsonNames::usual()).is_err(), "{line}");
        }
        let line = r#"{"remote_addr":"203.0.113.7, 192.0.2.1","client_ip":"192.0.2.1"}"#;
        let found = read(line, &JsonNames::usual()).unwrap();
        assert_eq!(found.client, LineSpan::new(53, 62));
    }

    #[test]
    fn what_is_too_deep_to_matter_is_passed_over() {
        let (open, close) = ("[{\"a\":".repeat(12), "}]".repeat(12));
        let line = format!("{{\"a\":{open}1{close},\"remote_addr\":\"192.0.2.1\"}}");
        let found = read(&line, &JsonNames::usual()).unwrap();
        assert_eq!(found.client.of(line.as_bytes()), b"192.0.2.1");
    }
}
