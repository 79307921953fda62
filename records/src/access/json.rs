//! Access lines that are JSON objects (RFC 8259): of nginx with `escape=json`, Caddy, Traefik, or
//! with keys given by the user.
//!
//! One pass, without recursion or copies: a tree of keys tells which keys are of interest at each
//! depth. Only the first element of an array is examined, so that Caddy's `headers.User-Agent` is
//! found in its list. Of duplicate keys the first one counts.

use super::field::{BalancerSpans, DurationUnit, LineDraft, LogField};
use super::timestamp::TimestampParser;
use super::{AccessLine, Expected, LineError, LineSpan};
use crate::time::{Resolution, Timestamp};

/// The keys of interest, and the meaning of their values.
#[derive(Clone, Debug)]
pub(super) struct JsonNames {
    nodes: Vec<JsonNode>,
    fields: Vec<(Vec<Vec<u8>>, LogField, u8)>,
}

/// The keys of interest in one object.
#[derive(Clone, Debug, Default)]
struct JsonNode {
    /// Sorted by length, then bytes.
    children: Vec<(Box<[u8]>, usize)>,
    field: Option<(LogField, u8)>,
}

/// Objects deeper than this hold no key of interest.
const DEPTH: usize = 8;

/// The keys of nginx users, Caddy and Traefik; the number is the rank.
const USUAL: &[(&str, LogField, u8)] = &[
    ("remote_addr", LogField::Client, 0),
    ("request.remote_ip", LogField::Client, 0),
    ("ClientHost", LogField::Client, 1),
    ("request.remote_addr", LogField::Client, 1),
    ("ClientAddr", LogField::Client, 2),
    ("remote_ip", LogField::Client, 2),
    ("remoteAddr", LogField::Client, 3),
    ("client_ip", LogField::Client, 4),
    ("clientip", LogField::Client, 4),
    ("client", LogField::Client, 5),
    ("client_addr", LogField::Client, 5),
    ("remote_host", LogField::Client, 5),
    ("remoteIP", LogField::Client, 5),
    ("remote", LogField::Client, 6),
    ("ip", LogField::Client, 7),
    ("remote_port", LogField::PeerPort, 0),
    ("request.remote_port", LogField::PeerPort, 0),
    ("ClientPort", LogField::PeerPort, 0),
    ("server_port", LogField::ServerPort, 0),
    ("msec", LogField::Time, 0),
    ("ts", LogField::Time, 1),
    ("StartUTC", LogField::Time, 1),
    ("time_iso8601", LogField::Time, 2),
    ("time_local", LogField::Time, 3),
    ("StartLocal", LogField::Time, 3),
    ("@timestamp", LogField::Time, 4),
    ("timestamp", LogField::Time, 5),
    ("time", LogField::Time, 6),
    ("date", LogField::Time, 7),
    ("request", LogField::Request, 0),
    ("request_line", LogField::Request, 1),
    ("request_method", LogField::Method, 0),
    ("request.method", LogField::Method, 0),
    ("RequestMethod", LogField::Method, 0),
    ("method", LogField::Method, 1),
    ("request_uri", LogField::Target, 0),
    ("request.uri", LogField::Target, 0),
    ("RequestPath", LogField::Target, 0),
    ("uri", LogField::Target, 1),
    ("url", LogField::Target, 2),
    ("path", LogField::Target, 3),
    ("args", LogField::Query, 1),
    ("query_string", LogField::Query, 1),
    ("server_protocol", LogField::Protocol, 0),
    ("request.proto", LogField::Protocol, 0),
    ("RequestProtocol", LogField::Protocol, 0),
    ("protocol", LogField::Protocol, 1),
    ("proto", LogField::Protocol, 2),
    ("http_version", LogField::Protocol, 3),
    ("status", LogField::Status, 0),
    ("DownstreamStatus", LogField::Status, 0),
    ("status_code", LogField::Status, 1),
    ("body_bytes_sent", LogField::Bytes, 0),
    ("DownstreamContentSize", LogField::Bytes, 0),
    ("bytes_sent", LogField::Bytes, 1),
    ("size", LogField::Bytes, 2),
    ("bytes", LogField::Bytes, 3),
    ("length", LogField::Bytes, 4),
    ("http_referer", LogField::Referer, 0),
    ("http_referrer", LogField::Referer, 0),
    ("request.headers.Referer", LogField::Referer, 0),
    ("request_Referer", LogField::Referer, 0),
    ("referer", LogField::Referer, 1),
    ("referrer", LogField::Referer, 1),
    ("http_user_agent", LogField::UserAgent, 0),
    ("request.headers.User-Agent", LogField::UserAgent, 0),
    ("request_User-Agent", LogField::UserAgent, 0),
    ("user_agent", LogField::UserAgent, 1),
    ("agent", LogField::UserAgent, 2),
    ("http_host", LogField::Host, 0),
    ("request.host", LogField::Host, 0),
    ("RequestHost", LogField::Host, 0),
    ("host", LogField::Host, 1),
    ("vhost", LogField::Host, 2),
    ("server_name", LogField::Host, 3),
    ("remote_user", LogField::User, 0),
    ("user_id", LogField::User, 1),
    ("ClientUsername", LogField::User, 0),
    ("user", LogField::User, 2),
    ("http_x_forwarded_for", LogField::ForwardedFor, 0),
    ("request.headers.X-Forwarded-For", LogField::ForwardedFor, 0),
    ("request_X-Forwarded-For", LogField::ForwardedFor, 0),
    ("x_forwarded_for", LogField::ForwardedFor, 1),
    ("connection_requests", LogField::Nth, 0),
    ("request_time", LogField::Duration(DurationUnit::Seconds), 0),
    ("duration", LogField::Duration(DurationUnit::Seconds), 1),
    ("Duration", LogField::Duration(DurationUnit::Nanoseconds), 0),
    ("duration_ms", LogField::Duration(DurationUnit::Milliseconds), 0),
    ("logger", LogField::Logger, 0),
];

impl JsonNames {
    /// The usual keys.
    pub(super) fn usual() -> Self {
        let fields = USUAL.iter().map(|(path, field, rank)| (split(path), *field, *rank));
        Self::build(fields.collect())
    }

    /// The given keys only.
    pub(super) fn build(fields: Vec<(Vec<Vec<u8>>, LogField, u8)>) -> Self {
        let mut nodes = vec![JsonNode::default()];
        for (path, field, rank) in &fields {
            let mut node = 0;
            for key in path {
                node = child_or_new(&mut nodes, node, key);
            }
            nodes[node].field.get_or_insert((*field, *rank));
        }
        Self { nodes, fields }
    }

    /// Replaces all keys for `field` with the value at `path`. Dots in a path separate nested keys;
    /// a key that contains dots is found too.
    pub(super) fn with(self, field: LogField, path: &str) -> Self {
        let same =
            |other: &LogField| std::mem::discriminant(other) == std::mem::discriminant(&field);
        let mut fields = self.fields;
        let keys = split(path);
        fields.retain(|(other_path, other, _)| !same(other) && *other_path != keys);
        if keys.len() > 1 {
            fields.push((vec![path.as_bytes().to_vec()], field, 1));
        }
        fields.push((keys, field, 0));
        Self::build(fields)
    }

    /// The paths of all fields, joined with dots, of each field the best rank first.
    pub(super) fn paths(&self) -> Vec<(LogField, String)> {
        let mut fields: Vec<_> = self.fields.iter().collect();
        fields.sort_by_key(|(_, _, rank)| *rank);
        let path = |keys: &[Vec<u8>]| String::from_utf8_lossy(&keys.join(&b'.')).into_owned();
        fields.iter().map(|(keys, field, _)| (*field, path(keys))).collect()
    }

    fn child(&self, node: usize, key: &[u8]) -> Option<usize> {
        let children = &self.nodes[node].children;
        let order = |known: &[u8]| known.len().cmp(&key.len()).then_with(|| known.cmp(key));
        let index = children.binary_search_by(|(known, _)| order(known)).ok()?;
        Some(children[index].1)
    }
}

fn split(path: &str) -> Vec<Vec<u8>> {
    path.split('.').map(|key| key.strip_suffix("[0]").unwrap_or(key).as_bytes().to_vec()).collect()
}

fn child_or_new(nodes: &mut Vec<JsonNode>, node: usize, key: &[u8]) -> usize {
    let order = |known: &[u8]| known.len().cmp(&key.len()).then_with(|| known.cmp(key));
    match nodes[node].children.binary_search_by(|(known, _)| order(known)) {
        Ok(index) => nodes[node].children[index].1,
        Err(index) => {
            nodes.push(JsonNode::default());
            let new = nodes.len() - 1;
            nodes[node].children.insert(index, (key.into(), new));
            new
        }
    }
}

/// Parses the object that starts at `start` of `line` into `into`, which must be empty.
pub(super) fn parse(
    line: &[u8],
    start: usize,
    names: &JsonNames,
    clock: &mut TimestampParser,
    into: &mut AccessLine,
) -> Result<(), LineError> {
    fill(line, start, names, clock, LineDraft::new(into))
}

/// Parses the object of a balancer's log that starts at `start` of `line`.
pub(super) fn parse_balancers(
    line: &[u8],
    start: usize,
    names: &JsonNames,
    clock: &mut TimestampParser,
    (into, parts): (&mut AccessLine, &mut BalancerSpans),
) -> Result<(), LineError> {
    fill(line, start, names, clock, LineDraft::of_balancer(into, Some(parts)))
}

fn fill(
    line: &[u8],
    start: usize,
    names: &JsonNames,
    clock: &mut TimestampParser,
    mut draft: LineDraft<'_>,
) -> Result<(), LineError> {
    let end = walk(line, start, names, |field, rank, value| {
        // An invalid value is skipped, except for the client.
        draft.take(field, rank, value, line, clock);
    })?;
    let rest = line.get(end..).unwrap_or_default();
    if !rest.iter().all(u8::is_ascii_whitespace) {
        return Err(LineError::new(end, Expected::Json));
    }
    if !draft.has_client || draft.other_logger {
        return Err(LineError::new(start, Expected::Json));
    }
    draft.finish();
    Ok(())
}

/// Which headers the objects of a log name. A logger may leave out the key of a header that a request lacks.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct NamedHeaders {
    user_agent: bool,
    referer: bool,
}

impl NamedHeaders {
    /// Learns the headers that this line names, and makes the known ones that it does not name empty.
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
    let _ = walk(line, start, names, |field, rank, value| {
        if field == LogField::Time {
            draft.take(field, rank, value, line, clock);
        }
    });
    found.time
}

/// An open object or array, and its keys: `None` if no key is of interest.
#[derive(Clone, Copy)]
struct JsonLevel {
    array: bool,
    node: Option<usize>,
}

/// Walks over the object at `start`, calls `found` for each value of a known key, and returns the end of
/// the object. For `null`, `found` is called with an empty value if the key is a header's, otherwise not.
fn walk(
    line: &[u8],
    start: usize,
    names: &JsonNames,
    mut found: impl FnMut(LogField, u8, LineSpan),
) -> Result<usize, LineError> {
    let mut levels = [JsonLevel { array: false, node: None }; DEPTH];
    levels[0].node = Some(0);
    // The kinds of levels deeper than `DEPTH`, a bit each.
    let mut deep = 0_u64;
    let mut depth = 1_usize;
    let at = skip_space(line, start);
    if line.get(at) != Some(&b'{') {
        return Err(LineError::new(at, Expected::Json));
    }
    let mut at = skip_space(line, at + 1);
    let mut empty = true;
    loop {
        let level = levels.get(depth - 1).copied();
        let level = level.unwrap_or(JsonLevel { array: deep & 1 == 1, node: None });
        let byte = *line.get(at).ok_or_else(|| LineError::new(line.len(), Expected::Json))?;
        if byte == if level.array { b']' } else { b'}' } {
            if depth > DEPTH {
                deep >>= 1;
            }
            depth -= 1;
            at += 1;
            if depth == 0 {
                return Ok(at);
            }
            at = skip_space(line, at);
            empty = false;
            continue;
        }
        if !empty {
            if byte != b',' {
                return Err(LineError::new(at, Expected::Json));
            }
            at = skip_space(line, at + 1);
            if level.array && depth <= DEPTH {
                // Only the first element counts.
                levels[depth - 1].node = None;
            }
        }
        let node = if level.array {
            if empty { level.node } else { None }
        } else {
            let (key, end) = string(line, at)?;
            at = skip_space(line, end);
            if line.get(at) != Some(&b':') {
                return Err(LineError::new(at, Expected::Json));
            }
            at = skip_space(line, at + 1);
            level.node.and_then(|node| names.child(node, key.of(line)))
        };
        match line.get(at) {
            Some(open @ (b'{' | b'[')) => {
                let array = *open == b'[';
                match levels.get_mut(depth) {
                    Some(level) => *level = JsonLevel { array, node },
                    // Deeper objects are refused rather than misread.
                    None if depth >= DEPTH + 64 => return Err(LineError::new(at, Expected::Json)),
                    None => deep = deep << 1 | u64::from(array),
                }
                depth += 1;
                at = skip_space(line, at + 1);
                empty = true;
            }
            Some(_) => {
                let (value, end, is_null) = value(line, at)?;
                let field = node.and_then(|node| names.nodes[node].field);
                match field {
                    Some((field, rank)) if !is_null => found(field, rank, value),
                    // A header that the request lacks.
                    Some((field @ (LogField::UserAgent | LogField::Referer), rank)) => {
                        found(field, rank, LineSpan::new(at, at));
                    }
                    _ => {}
                }
                at = skip_space(line, end);
                empty = false;
            }
            None => return Err(LineError::new(at, Expected::Json)),
        }
    }
}

/// Parses a string, number or word: returns its text, its end, and whether it is `null`.
#[inline]
fn value(line: &[u8], at: usize) -> Result<(LineSpan, usize, bool), LineError> {
    if line.get(at) == Some(&b'"') {
        let (text, end) = string(line, at)?;
        return Ok((text, end, false));
    }
    let rest = line.get(at..).unwrap_or_default();
    let is_part = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'+');
    let len = rest.iter().take_while(|b| is_part(b)).count();
    if len == 0 {
        return Err(LineError::new(at, Expected::Json));
    }
    Ok((LineSpan::new(at, at + len), at + len, &rest[..len] == b"null"))
}

/// Parses a string: returns the text between the quotes, and the end.
#[inline]
fn string(line: &[u8], at: usize) -> Result<(LineSpan, usize), LineError> {
    let unclosed = || LineError::new(at, Expected::Json);
    if line.get(at) != Some(&b'"') {
        return Err(unclosed());
    }
    let mut end = at + 1;
    loop {
        let rest = line.get(end..).ok_or_else(unclosed)?;
        end += memchr::memchr(b'"', rest).ok_or_else(unclosed)?;
        let run = line[at + 1..end].iter().rev().take_while(|&&b| b == b'\\').count();
        if run % 2 == 0 {
            return Ok((LineSpan::new(at + 1, end), end + 1));
        }
        end += 1;
    }
}

#[inline]
fn skip_space(line: &[u8], mut at: usize) -> usize {
    while line.get(at).is_some_and(u8::is_ascii_whitespace) {
        at += 1;
    }
    at
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access::LoggedRequest;

    fn read(line: &str, names: &JsonNames) -> Result<AccessLine, LineError> {
        let mut found = AccessLine::default();
        parse(line.as_bytes(), 0, names, &mut TimestampParser::default(), &mut found)?;
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
    fn what_is_too_deep_to_matter_is_passed_over() {
        let (open, close) = ("[{\"a\":".repeat(12), "}]".repeat(12));
        let line = format!("{{\"a\":{open}1{close},\"remote_addr\":\"192.0.2.1\"}}");
        let found = read(&line, &JsonNames::usual()).unwrap();
        assert_eq!(found.client.of(line.as_bytes()), b"192.0.2.1");
    }
}
