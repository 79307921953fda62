//! The editor once more, slow and obvious: over the whole stream at once, a line after the other.

use crate::data::relay::http::edit::first::MethodWord;
use crate::data::relay::http::edit::is_token;

/// The result for a stream.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Twin {
    /// The complete messages, and bytes that certainly follow.
    pub(super) out: Vec<u8>,
    pub(super) end: End,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum End {
    /// All of it passes.
    Whole,
    /// It is not HTTP and passes.
    Raw,
    /// A message is incomplete, and the outcome open.
    Within,
    Refused,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Policy {
    Replace,
    Append,
    Keep,
}

pub(super) fn twin(mut rest: &[u8], policy: Policy, client: &str) -> Twin {
    let mut out = Vec::new();
    let mut first = true;
    let end = loop {
        let blank = rest.iter().take_while(|byte| b"\r\n".contains(byte)).count();
        out.extend_from_slice(&rest[..blank]);
        rest = &rest[blank..];
        if rest.is_empty() {
            break End::Whole;
        }
        if first && let Some(end) = not_http(rest, Line::First) {
            if end == End::Raw {
                out.extend_from_slice(rest);
            }
            break end;
        }
        first = false;
        let Some((lines, body)) = head(rest) else { break End::Within };
        let Some((head, framing)) = edit(&lines, policy, client) else { break End::Refused };
        out.extend_from_slice(&head);
        let (len, end) = match framing {
            Framing::Length(len) => (len.min(body.len()), None),
            Framing::Chunked => match chunked(body) {
                Ok(len) => (len, None),
                Err(end) => (0, Some(end)),
            },
        };
        out.extend_from_slice(&body[..len]);
        rest = &body[len..];
        if let Some(end) = end {
            break end;
        }
    };
    Twin { out, end }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Line {
    First,
    /// White space precedes the line, which therefore is no request line.
    BehindWhite,
}

/// Whether the first line is another protocol, or malformed HTTP.
fn not_http(text: &[u8], which: Line) -> Option<End> {
    let line = &text[..=text.iter().position(|&byte| byte == b'\n')?];
    let without_end = line.strip_suffix(b"\n")?;
    let good = request_line(without_end.strip_suffix(b"\r").unwrap_or(without_end)).is_some();
    if good && which == Line::First {
        return None;
    }
    let white = |byte: &u8| matches!(byte, 0x09..=0x0d | 0x1c..=0x20 | 0x85 | 0xa0);
    let is_white = line.iter().all(white);
    if is_white {
        let next = not_http(&text[line.len()..], Line::BehindWhite);
        return Some(next.unwrap_or(End::Within));
    }
    let tokens = line.iter().take_while(|&&byte| is_token(byte)).count();
    let begins = which == Line::First && tokens > 0;
    let word =
        if begins { Some(&line[..tokens]) } else { line.split(white).find(|it| !it.is_empty()) };
    let mut known = MethodWord::default();
    word?.iter().for_each(|&byte| known.push(byte));
    // A method and a target may have been there, and what stands behind is what tells.
    let mut tail = if begins { &line[tokens..] } else { line };
    if begins && tail.first() == Some(&b' ') {
        tail = &tail[1..];
        let target = tail.iter().take_while(|&&byte| byte > b' ' && byte != 0x7f).count();
        tail = &tail[target..];
        if target > 0 && tail.first() == Some(&b' ') {
            tail = &tail[1..];
        }
    }
    let http = known.is_known() || tail.windows(5).any(|it| it == b"HTTP/");
    Some(if http { End::Refused } else { End::Raw })
}

/// The lines of a head without line ends, and the remaining bytes.
fn head(text: &[u8]) -> Option<(Vec<&[u8]>, &[u8])> {
    let (mut lines, mut rest) = (Vec::new(), text);
    loop {
        let end = rest.iter().position(|&byte| byte == b'\n')?;
        let line = rest[..end].strip_suffix(b"\r").unwrap_or(&rest[..end]);
        rest = &rest[end + 1..];
        if line.is_empty() {
            return Some((lines, rest));
        }
        lines.push(line);
    }
}

fn request_line(line: &[u8]) -> Option<(&[u8], u8)> {
    let words: Vec<_> = line.split(|&byte| byte == b' ').collect();
    let [method, target, version] = words[..] else { return None };
    let good = !method.is_empty()
        && method.iter().all(|&byte| is_token(byte))
        && !target.is_empty()
        && target.iter().all(|&byte| byte > b' ' && byte != 0x7f);
    match version {
        [b'H', b'T', b'T', b'P', b'/', b'1', b'.', minor @ b'0'..=b'9'] if good => {
            Some((method, *minor))
        }
        _ => None,
    }
}

enum Framing {
    Length(usize),
    Chunked,
}

fn edit(lines: &[&[u8]], policy: Policy, client: &str) -> Option<(Vec<u8>, Framing)> {
    let (method, minor) = request_line(lines.first()?)?;
    let (mut out, mut theirs) = (Vec::new(), Vec::new());
    let (mut has_for, mut has_proto, mut length, mut coding) = (false, false, None, false);
    let line = |text: &[u8], out: &mut Vec<u8>| out.extend([text, b"\r\n"].concat());
    line(lines[0], &mut out);
    let ours = format!("X-Forwarded-For: {client}\r\nX-Forwarded-Proto: http");
    if policy == Policy::Replace {
        line(ours.as_bytes(), &mut out);
    }
    for field in &lines[1..] {
        let colon = field.iter().position(|&byte| byte == b':')?;
        let (name, value) = (&field[..colon], &field[colon + 1..]);
        if name.is_empty() || !name.iter().all(|&byte| is_token(byte)) {
            return None;
        }
        if value.iter().any(|byte| b"\r\n\0".contains(byte)) {
            return None;
        }
        let exact = text(name).to_ascii_lowercase();
        let trimmed = text(value).trim_matches([' ', '\t']).to_owned();
        match (exact.replace('_', "-").as_str(), policy) {
            ("x-forwarded-for" | "x-forwarded-proto", Policy::Replace) => {}
            ("x-forwarded-for", Policy::Append) => {
                theirs.extend((!trimmed.is_empty()).then_some(trimmed));
            }
            ("x-forwarded-for", Policy::Keep) => {
                has_for = true;
                line(field, &mut out);
            }
            ("x-forwarded-proto", _) => {
                has_proto = true;
                line(field, &mut out);
            }
            ("content-length", _) if exact == "content-length" => {
                let digits = !trimmed.is_empty() && trimmed.bytes().all(|it| it.is_ascii_digit());
                if length.is_some() || !digits {
                    return None;
                }
                length = Some(trimmed.parse::<u64>().ok()?);
                line(field, &mut out);
            }
            ("transfer-encoding", _) if exact == "transfer-encoding" => {
                if coding || !trimmed.eq_ignore_ascii_case("chunked") {
                    return None;
                }
                coding = true;
                line(field, &mut out);
            }
            ("upgrade" | "connection", _) => {
                let members = trimmed.split(',').map(|it| it.trim_matches([' ', '\t']));
                let bad = |it: &str| match exact.as_str() {
                    "upgrade" => it.to_ascii_lowercase().starts_with("h2"),
                    _ => matches!(
                        it.to_ascii_lowercase().replace('_', "-").as_str(),
                        "x-forwarded-for" | "x-forwarded-proto"
                    ),
                };
                let left: Vec<_> = members.clone().filter(|it| !bad(it)).collect();
                if left.len() == members.count() {
                    line(field, &mut out);
                } else if !left.is_empty() {
                    line(&[name, b": ", &bytes(&left.join(", "))].concat(), &mut out);
                }
            }
            _ => line(field, &mut out),
        }
    }
    let has_body = coding || length.is_some_and(|length| length > 0);
    if (coding && (length.is_some() || minor == b'0')) || (has_body && method == b"CONNECT") {
        return None;
    }
    if policy == Policy::Append || (policy == Policy::Keep && !has_for) {
        theirs.push(client.to_owned());
        line(&bytes(&format!("X-Forwarded-For: {}", theirs.join(", "))), &mut out);
    }
    if policy != Policy::Replace && !has_proto {
        line(b"X-Forwarded-Proto: http", &mut out);
    }
    line(b"", &mut out);
    let framing = if coding {
        Framing::Chunked
    } else {
        Framing::Length(usize::try_from(length.unwrap_or(0)).unwrap_or(usize::MAX))
    };
    Some((out, framing))
}

/// A character for each byte.
fn text(bytes: &[u8]) -> String {
    bytes.iter().map(|&byte| char::from(byte)).collect()
}

fn bytes(text: &str) -> Vec<u8> {
    text.chars().map(|it| u8::try_from(u32::from(it)).unwrap()).collect()
}

/// How long a chunked body is with all its framing.
fn chunked(body: &[u8]) -> Result<usize, End> {
    let line_end = |from: usize| {
        let found = body[from..].windows(2).position(|it| it == b"\r\n");
        found.map(|at| from + at).ok_or(End::Within)
    };
    let mut at = 0;
    loop {
        let end = line_end(at)?;
        let line = &body[at..end];
        let digits = line.iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
        let value = std::str::from_utf8(&line[..digits]).ok();
        let value =
            value.filter(|it| it.len() <= 16).and_then(|it| u64::from_str_radix(it, 16).ok());
        let size = value.ok_or(End::Refused)?;
        let extension = &line[digits..];
        if extension.first().is_some_and(|byte| !b"; \t".contains(byte))
            || extension.iter().any(|&byte| byte != b'\t' && (byte < b' ' || byte == 0x7f))
        {
            return Err(End::Refused);
        }
        at = end + 2;
        if size == 0 {
            break;
        }
        let size = usize::try_from(size).unwrap_or(usize::MAX);
        let Some(rest) = body.get(at.saturating_add(size)..) else { return Err(End::Within) };
        match rest {
            [b'\r', b'\n', ..] => at += size + 2,
            [] | [b'\r'] => return Err(End::Within),
            _ => return Err(End::Refused),
        }
    }
    loop {
        let end = line_end(at)?;
        let line = &body[at..end];
        at = end + 2;
        if line.is_empty() {
            return Ok(at);
        }
        let colon = line.iter().position(|&byte| byte == b':').ok_or(End::Refused)?;
        let name = text(&line[..colon]).to_ascii_lowercase().replace('_', "-");
        let bad = ["x-forwarded-for", "x-forwarded-proto", "content-length", "transfer-encoding"];
        if name.is_empty()
            || !line[..colon].iter().all(|&byte| is_token(byte))
            || bad.contains(&name.as_str())
            || line[colon..].iter().any(|byte| b"\r\n\0".contains(byte))
        {
            return Err(End::Refused);
        }
    }
}
