//! Access lines that are JSON objects (RFC 8259): nginx with `escape=json`, Caddy, Traefik, or with
//! names the user gave.
//!
//! One pass, no recursion and no copy: which names may still come at each depth is a node of a small
//! tree of names. Of an array only the first element is looked at, so that Caddy's
//! `headers.User-Agent` is found in its list. A key that comes twice counts the first time.

use super::clf::{error, span};
use super::clock::Clock;
use super::field::{Draft, Field, Unit};
use super::{AccessLine, Expected, LineError};

/// Which value is what.
#[derive(Clone, Debug)]
pub(super) struct Names {
    nodes: Vec<Node>,
    fields: Vec<(Vec<Vec<u8>>, Field, u8)>,
}

/// The keys that mean something in one object.
#[derive(Clone, Debug, Default)]
struct Node {
    /// Sorted by length, then bytes.
    children: Vec<(Box<[u8]>, usize)>,
    field: Option<(Field, u8)>,
}

/// Deeper objects hold nothing of ours.
const DEPTH: usize = 8;

/// What nginx's users, Caddy and Traefik call things; the second is the rank.
const USUAL: &[(&str, Field, u8)] = &[
    ("remote_addr", Field::Client, 0),
    ("request.remote_ip", Field::Client, 0),
    ("ClientHost", Field::Client, 1),
    ("request.remote_addr", Field::Client, 1),
    ("ClientAddr", Field::Client, 2),
    ("remote_ip", Field::Client, 2),
    ("remoteAddr", Field::Client, 3),
    ("client_ip", Field::Client, 4),
    ("clientip", Field::Client, 4),
    ("client", Field::Client, 5),
    ("client_addr", Field::Client, 5),
    ("remote_host", Field::Client, 5),
    ("remoteIP", Field::Client, 5),
    ("remote", Field::Client, 6),
    ("ip", Field::Client, 7),
    ("remote_port", Field::PeerPort, 0),
    ("request.remote_port", Field::PeerPort, 0),
    ("ClientPort", Field::PeerPort, 0),
    ("server_port", Field::ServerPort, 0),
    ("msec", Field::Time, 0),
    ("ts", Field::Time, 1),
    ("StartUTC", Field::Time, 1),
    ("time_iso8601", Field::Time, 2),
    ("time_local", Field::Time, 3),
    ("StartLocal", Field::Time, 3),
    ("@timestamp", Field::Time, 4),
    ("timestamp", Field::Time, 5),
    ("time", Field::Time, 6),
    ("date", Field::Time, 7),
    ("request", Field::Request, 0),
    ("request_line", Field::Request, 1),
    ("request_method", Field::Method, 0),
    ("request.method", Field::Method, 0),
    ("RequestMethod", Field::Method, 0),
    ("method", Field::Method, 1),
    ("request_uri", Field::Target, 0),
    ("request.uri", Field::Target, 0),
    ("RequestPath", Field::Target, 0),
    ("uri", Field::Target, 1),
    ("url", Field::Target, 2),
    ("path", Field::Target, 3),
    ("args", Field::Query, 1),
    ("query_string", Field::Query, 1),
    ("server_protocol", Field::Protocol, 0),
    ("request.proto", Field::Protocol, 0),
    ("RequestProtocol", Field::Protocol, 0),
    ("protocol", Field::Protocol, 1),
    ("proto", Field::Protocol, 2),
    ("http_version", Field::Protocol, 3),
    ("status", Field::Status, 0),
    ("DownstreamStatus", Field::Status, 0),
    ("status_code", Field::Status, 1),
    ("body_bytes_sent", Field::Bytes, 0),
    ("DownstreamContentSize", Field::Bytes, 0),
    ("bytes_sent", Field::Bytes, 1),
    ("size", Field::Bytes, 2),
    ("bytes", Field::Bytes, 3),
    ("length", Field::Bytes, 4),
    ("http_referer", Field::Referer, 0),
    ("http_referrer", Field::Referer, 0),
    ("request.headers.Referer", Field::Referer, 0),
    ("request_Referer", Field::Referer, 0),
    ("referer", Field::Referer, 1),
    ("referrer", Field::Referer, 1),
    ("http_user_agent", Field::UserAgent, 0),
    ("request.headers.User-Agent", Field::UserAgent, 0),
    ("request_User-Agent", Field::UserAgent, 0),
    ("user_agent", Field::UserAgent, 1),
    ("agent", Field::UserAgent, 2),
    ("http_host", Field::Host, 0),
    ("request.host", Field::Host, 0),
    ("RequestHost", Field::Host, 0),
    ("host", Field::Host, 1),
    ("vhost", Field::Host, 2),
    ("server_name", Field::Host, 3),
    ("remote_user", Field::User, 0),
    ("user_id", Field::User, 1),
    ("ClientUsername", Field::User, 0),
    ("user", Field::User, 2),
    ("http_x_forwarded_for", Field::ForwardedFor, 0),
    ("request.headers.X-Forwarded-For", Field::ForwardedFor, 0),
    ("request_X-Forwarded-For", Field::ForwardedFor, 0),
    ("x_forwarded_for", Field::ForwardedFor, 1),
    ("connection_requests", Field::Nth, 0),
    ("request_time", Field::Duration(Unit::Seconds), 0),
    ("duration", Field::Duration(Unit::Seconds), 1),
    ("Duration", Field::Duration(Unit::Nanoseconds), 0),
    ("duration_ms", Field::Duration(Unit::Milliseconds), 0),
    ("logger", Field::Logger, 0),
];

impl Names {
    /// What is usual.
    pub(super) fn usual() -> Self {
        let fields = USUAL.iter().map(|(path, field, rank)| (split(path), *field, *rank));
        Self::build(fields.collect())
    }

    /// The given ones only.
    pub(super) fn build(fields: Vec<(Vec<Vec<u8>>, Field, u8)>) -> Self {
        let mut nodes = vec![Node::default()];
        for (path, field, rank) in &fields {
            let mut node = 0;
            for key in path {
                node = child_or_new(&mut nodes, node, key);
            }
            nodes[node].field.get_or_insert((*field, *rank));
        }
        Self { nodes, fields }
    }

    /// With the value at `path` for `field` in place of all that were known for it. A path with dots
    /// walks into objects; a key that has dots in it is found too.
    pub(super) fn with(self, field: Field, path: &str) -> Self {
        let same = |other: &Field| std::mem::discriminant(other) == std::mem::discriminant(&field);
        let mut fields = self.fields;
        let keys = split(path);
        fields.retain(|(other_path, other, _)| !same(other) && *other_path != keys);
        if keys.len() > 1 {
            fields.push((vec![path.as_bytes().to_vec()], field, 1));
        }
        fields.push((keys, field, 0));
        Self::build(fields)
    }

    /// The paths that are looked for, the most wanted of each field first, with dots in them.
    pub(super) fn paths(&self) -> Vec<(Field, String)> {
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

fn child_or_new(nodes: &mut Vec<Node>, node: usize, key: &[u8]) -> usize {
    let order = |known: &[u8]| known.len().cmp(&key.len()).then_with(|| known.cmp(key));
    match nodes[node].children.binary_search_by(|(known, _)| order(known)) {
        Ok(index) => nodes[node].children[index].1,
        Err(index) => {
            nodes.push(Node::default());
            let new = nodes.len() - 1;
            nodes[node].children.insert(index, (key.into(), new));
            new
        }
    }
}

/// Reads the object that starts at `start` of `line` into `into`, which is fresh.
pub(super) fn parse(
    line: &[u8],
    start: usize,
    names: &Names,
    clock: &mut Clock,
    into: &mut AccessLine,
) -> Result<(), LineError> {
    let mut draft = Draft::new(into);
    let end = walk(line, start, names, |field, rank, value| {
        // A value that can't be what its name says is left out; a client can't be left out.
        draft.take(field, rank, value, line, clock);
    })?;
    let rest = line.get(end..).unwrap_or_default();
    if !rest.iter().all(u8::is_ascii_whitespace) {
        return Err(error(end, Expected::Json));
    }
    if !draft.has_client || draft.other_logger {
        return Err(error(start, Expected::Json));
    }
    draft.finish();
    Ok(())
}

/// An object or array that is open, and its names: `None` where nothing is of interest.
#[derive(Clone, Copy)]
struct Level {
    array: bool,
    node: Option<usize>,
}

/// Walks over the object at `start`, tells `found` of each value with a name (`null` is none), and
/// returns where it ends.
fn walk(
    line: &[u8],
    start: usize,
    names: &Names,
    mut found: impl FnMut(Field, u8, super::Span),
) -> Result<usize, LineError> {
    let mut levels = [Level { array: false, node: None }; DEPTH];
    levels[0].node = Some(0);
    // Kinds of the levels deeper than `DEPTH`, a bit each.
    let mut deep = 0_u64;
    let mut depth = 1_usize;
    let at = skip_space(line, start);
    if line.get(at) != Some(&b'{') {
        return Err(error(at, Expected::Json));
    }
    let mut at = skip_space(line, at + 1);
    let mut empty = true;
    loop {
        let level = levels.get(depth - 1).copied();
        let level = level.unwrap_or(Level { array: deep & 1 == 1, node: None });
        let byte = *line.get(at).ok_or_else(|| error(line.len(), Expected::Json))?;
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
                return Err(error(at, Expected::Json));
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
                return Err(error(at, Expected::Json));
            }
            at = skip_space(line, at + 1);
            level.node.and_then(|node| names.child(node, key.of(line)))
        };
        match line.get(at) {
            Some(open @ (b'{' | b'[')) => {
                let array = *open == b'[';
                match levels.get_mut(depth) {
                    Some(level) => *level = Level { array, node },
                    // Nobody logs 70 levels: what does is refused, not misread.
                    None if depth >= DEPTH + 64 => return Err(error(at, Expected::Json)),
                    None => deep = deep << 1 | u64::from(array),
                }
                depth += 1;
                at = skip_space(line, at + 1);
                empty = true;
            }
            Some(_) => {
                let (value, end, is_null) = value(line, at)?;
                let field = node.and_then(|node| names.nodes[node].field);
                if let Some((field, rank)) = field.filter(|_| !is_null) {
                    found(field, rank, value);
                }
                at = skip_space(line, end);
                empty = false;
            }
            None => return Err(error(at, Expected::Json)),
        }
    }
}

/// A string, number or word: its text, where it ended, whether it is `null`.
#[inline]
fn value(line: &[u8], at: usize) -> Result<(super::Span, usize, bool), LineError> {
    if line.get(at) == Some(&b'"') {
        let (text, end) = string(line, at)?;
        return Ok((text, end, false));
    }
    let rest = line.get(at..).unwrap_or_default();
    let is_part = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'+');
    let len = rest.iter().take_while(|b| is_part(b)).count();
    if len == 0 {
        return Err(error(at, Expected::Json));
    }
    Ok((span(at, at + len), at + len, &rest[..len] == b"null"))
}

/// The text between the quotes, and where they end.
#[inline]
fn string(line: &[u8], at: usize) -> Result<(super::Span, usize), LineError> {
    let unclosed = || error(at, Expected::Json);
    if line.get(at) != Some(&b'"') {
        return Err(unclosed());
    }
    let mut end = at + 1;
    loop {
        let rest = line.get(end..).ok_or_else(unclosed)?;
        end += memchr::memchr(b'"', rest).ok_or_else(unclosed)?;
        let run = line[at + 1..end].iter().rev().take_while(|&&b| b == b'\\').count();
        if run % 2 == 0 {
            return Ok((span(at + 1, end), end + 1));
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
    use crate::access::{Request, Span};

    fn read(line: &str, names: &Names) -> Result<AccessLine, LineError> {
        let mut found = AccessLine::default();
        parse(line.as_bytes(), 0, names, &mut Clock::default(), &mut found)?;
        Ok(found)
    }

    #[test]
    fn nested_values_and_lists_are_found() {
        let line = r#"{"a":[[{"b":1}],{}],"request":{"headers":{"User-Agent":["x\"y","no"]},
            "remote_ip":"192.0.2.1","method":"GET","uri":"/"},"ts":1693840791.75,"status":404}"#;
        let found = read(line, &Names::usual()).unwrap();
        let text = |span: Span| span.of(line.as_bytes());
        assert_eq!(text(found.client), b"192.0.2.1");
        assert_eq!(found.user_agent.map(text), Some(&br#"x\"y"#[..]));
        assert_eq!(found.status, Some(404));
        let Request::Parts { method, target, .. } = found.request else { panic!("no parts") };
        assert_eq!((text(method), text(target)), (&b"GET"[..], &b"/"[..]));
    }

    #[test]
    fn names_may_be_given() {
        let names = Names::usual().with(Field::Client, "who.ip").with(Field::Status, "code[0]");
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
            assert!(read(line, &Names::usual()).is_err(), "{line}");
        }
    }

    #[test]
    fn what_is_too_deep_to_matter_is_passed_over() {
        let (open, close) = ("[{\"a\":".repeat(12), "}]".repeat(12));
        let line = format!("{{\"a\":{open}1{close},\"remote_addr\":\"192.0.2.1\"}}");
        let found = read(&line, &Names::usual()).unwrap();
        assert_eq!(found.client.of(line.as_bytes()), b"192.0.2.1");
    }
}
