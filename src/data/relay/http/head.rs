//! Heads of HTTP/1.x messages: the first line and the few fields needed for framing and logging.
//!
//! ```text
//! head    = start-line *( field-line ) line-end        ; RFC 9112; a bare LF ends a line, too
//! request = method SP target SP "HTTP/1." DIGIT
//! status  = "HTTP/1." DIGIT SP 3DIGIT [SP reason]
//! ```

use pen_records::attribution::text_hash;

/// Length limit of a head in bytes.
pub(crate) const MAX_HEAD: usize = 64 * 1024;

/// Length limit of a method in bytes.
const MAX_METHOD: usize = 32;

/// Framing of a message according to its fields.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct HeadFields {
    pub(crate) length: Option<u64>,
    pub(crate) coding: Option<TransferCoding>,
    pub(crate) user_agent: Option<u32>,
    pub(crate) referer: Option<u32>,
    pub(crate) host: Option<u32>,
}

/// The last transfer coding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TransferCoding {
    Chunked,
    Other,
}

/// Request methods that affect framing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RequestMethod {
    /// The response has no body.
    Head,
    /// After a successful response the connection is a tunnel.
    Connect,
    Other,
}

/// Reason to stop following a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Unfollowable;

/// Returns the length of the head at the start of `bytes`, its empty line included, or `None` if it is incomplete. Bytes
/// before `from` were searched before.
pub(crate) fn end_of_head(bytes: &[u8], from: usize) -> Option<usize> {
    let mut at = from.saturating_sub(3);
    loop {
        let line_end = at + memchr::memchr(b'\n', bytes.get(at..)?)?;
        match bytes.get(line_end + 1..)? {
            [b'\n', ..] => return Some(line_end + 2),
            [b'\r', b'\n', ..] => return Some(line_end + 3),
            _ => at = line_end + 1,
        }
    }
}

/// Returns whether `bytes` may begin a request: a method, followed by a space if there are enough bytes.
pub(crate) fn may_be_request(bytes: &[u8]) -> bool {
    let word = &bytes[..bytes.len().min(MAX_METHOD + 1)];
    let method = memchr::memchr(b' ', word).map_or(word, |end| &word[..end]);
    let complete = method.len() < word.len();
    (complete || word.len() <= MAX_METHOD)
        && !(complete && method.is_empty())
        && method.iter().all(|byte| byte.is_ascii_uppercase() || matches!(byte, b'-' | b'_'))
}

/// Returns whether `bytes` may begin a response.
pub(crate) fn may_be_response(bytes: &[u8]) -> bool {
    let version = b"HTTP/1.";
    let len = bytes.len().min(version.len());
    bytes[..len] == version[..len]
}

/// Parses the head of a request: first line without its line end, method, fields.
pub(crate) fn request(head: &[u8]) -> Result<(&[u8], RequestMethod, HeadFields), Unfollowable> {
    let (line, rest) = split_line(head).ok_or(Unfollowable)?;
    let target = memchr::memchr(b' ', line).ok_or(Unfollowable)?;
    let version = line.len().checked_sub(9).ok_or(Unfollowable)?;
    if version <= target || !line[version..].starts_with(b" HTTP/1.") {
        return Err(Unfollowable);
    }
    let method = match &line[..target] {
        b"HEAD" => RequestMethod::Head,
        b"CONNECT" => RequestMethod::Connect,
        _ => RequestMethod::Other,
    };
    let fields = fields(rest)?;
    if fields.coding == Some(TransferCoding::Other) {
        return Err(Unfollowable);
    }
    Ok((line, method, fields))
}

/// Parses the head of a response: status and fields.
pub(crate) fn response(head: &[u8]) -> Result<(u16, HeadFields), Unfollowable> {
    let (line, rest) = split_line(head).ok_or(Unfollowable)?;
    let [b'H', b'T', b'T', b'P', b'/', b'1', b'.', _, b' ', status @ ..] = line else {
        return Err(Unfollowable);
    };
    let digits = status.get(..3).ok_or(Unfollowable)?;
    if !digits.iter().all(u8::is_ascii_digit) || !matches!(status.get(3), None | Some(b' ')) {
        return Err(Unfollowable);
    }
    let status = digits.iter().fold(0, |value, digit| value * 10 + u16::from(digit - b'0'));
    Ok((status, fields(rest)?))
}

/// Splits the first line off, without its line end.
pub(crate) fn split_line(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = memchr::memchr(b'\n', bytes)?;
    let line = &bytes[..end];
    Some((line.strip_suffix(b"\r").unwrap_or(line), &bytes[end + 1..]))
}

/// Splits a field line into name and value.
pub(crate) fn field(line: &[u8]) -> Result<(&[u8], &[u8]), Unfollowable> {
    let colon = memchr::memchr(b':', line).ok_or(Unfollowable)?;
    let (name, value) = (&line[..colon], &line[colon + 1..]);
    // Folded lines and spaces before the colon are used for request smuggling.
    if name.is_empty() || name.iter().any(|byte| matches!(byte, b' ' | b'\t')) {
        return Err(Unfollowable);
    }
    Ok((name, value.trim_ascii()))
}

/// Parses an incomplete request head. Returns `None` if the first line is no request line.
pub(crate) fn unfinished(head: &[u8]) -> Option<(&[u8], HeadFields)> {
    let (line, mut rest) = split_line(head)?;
    let version = line.len().checked_sub(9)?;
    if !line[version..].starts_with(b" HTTP/1.") {
        return None;
    }
    let mut found = HeadFields::default();
    while let Some((line, after)) = split_line(rest) {
        let Ok((name, value)) = field(line) else { break };
        found.note(name, value);
        rest = after;
    }
    Some((line, found))
}

/// Returns Referer, User-Agent and Host of a complete head.
pub(crate) fn texts(head: &[u8]) -> [Option<&[u8]>; 3] {
    let mut texts = [None; 3];
    let mut rest = split_line(head).map_or(&b""[..], |(_, rest)| rest);
    while let Some((line, after)) = split_line(rest)
        && let Ok((name, value)) = field(line)
    {
        rest = after;
        let names: [&[u8]; 3] = [b"referer", b"user-agent", b"host"];
        for (text, is) in texts.iter_mut().zip(names) {
            if text.is_none() && name.eq_ignore_ascii_case(is) {
                *text = Some(value);
            }
        }
    }
    texts
}

fn fields(mut rest: &[u8]) -> Result<HeadFields, Unfollowable> {
    let mut fields = HeadFields::default();
    loop {
        let (line, after) = split_line(rest).ok_or(Unfollowable)?;
        if line.is_empty() {
            return Ok(fields);
        }
        rest = after;
        let (name, value) = field(line)?;
        let is = |other: &str| name.eq_ignore_ascii_case(other.as_bytes());
        match name.len() {
            4 | 7 | 10 => fields.note(name, value),
            14 if is("content-length") => {
                let length = decimal(value)?;
                if fields.length.is_some_and(|other| other != length) {
                    return Err(Unfollowable);
                }
                fields.length = Some(length);
            }
            17 if is("transfer-encoding") => {
                let last = value.rsplit(|&byte| byte == b',').next().unwrap_or_default();
                let chunked = last.trim_ascii().eq_ignore_ascii_case(b"chunked");
                fields.coding =
                    Some(if chunked { TransferCoding::Chunked } else { TransferCoding::Other });
            }
            _ => {}
        }
    }
}

impl HeadFields {
    /// The first field of a name counts, as in the logs of web servers.
    fn note(&mut self, name: &[u8], value: &[u8]) {
        let is = |other: &str| name.eq_ignore_ascii_case(other.as_bytes());
        let hash = match name.len() {
            4 if is("host") => &mut self.host,
            7 if is("referer") => &mut self.referer,
            10 if is("user-agent") => &mut self.user_agent,
            _ => return,
        };
        hash.get_or_insert_with(|| text_hash(value));
    }
}

fn decimal(digits: &[u8]) -> Result<u64, Unfollowable> {
    if digits.is_empty() {
        return Err(Unfollowable);
    }
    digits.iter().try_fold(0_u64, |value, &digit| {
        let digit = char::from(digit).to_digit(10).ok_or(Unfollowable)?;
        value.checked_mul(10).and_then(|value| value.checked_add(digit.into())).ok_or(Unfollowable)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_ends_with_its_empty_line() {
        for (text, end) in [
            ("GET / HTTP/1.1\r\n\r\n", Some(18)),
            ("GET / HTTP/1.1\n\nrest", Some(16)),
            ("a\r\nb\r\n\r\nrest", Some(8)),
            ("a\r\nb\n\r\n", Some(7)),
            ("a\r\n\r", None),
            ("a\r\n", None),
            ("a\r\nb", None),
            ("", None),
        ] {
            assert_eq!(end_of_head(text.as_bytes(), 0), end, "{text:?}");
            // However much was looked at before.
            for from in 0..text.len() {
                if end_of_head(&text.as_bytes()[..from], 0).is_none() {
                    assert_eq!(end_of_head(text.as_bytes(), from), end, "{text:?} from {from}");
                }
            }
        }
    }

    #[test]
    fn requests_are_told_from_other_things_by_their_first_bytes() {
        for (text, expected) in [
            ("G", true),
            ("GET / HTTP/1.1", true),
            ("M-SEARCH * HTTP/1.1", true),
            ("", true),
            (" GET", false),
            ("get /", false),
            ("\x16\x03\x01", false),
            ("SSH-2.0-OpenSSH", false),
            ("ABCDEFGHIJKLMNOPQRSTUVWXYZABCDEFGHIJKLM", false),
        ] {
            assert_eq!(may_be_request(text.as_bytes()), expected, "{text:?}");
        }
    }

    #[test]
    fn a_request_says_how_it_is_framed() {
        let framed = |length, coding| Ok((length, coding));
        for (fields, expected) in [
            ("Host: a\r\n", framed(None, None)),
            ("Content-Length: 12\r\n", framed(Some(12), None)),
            ("content-LENGTH:12\r\n", framed(Some(12), None)),
            ("Content-Length: 12\r\nContent-Length: 12\r\n", framed(Some(12), None)),
            ("Transfer-Encoding: chunked\r\n", framed(None, Some(TransferCoding::Chunked))),
            ("Transfer-Encoding: gzip, Chunked\r\n", framed(None, Some(TransferCoding::Chunked))),
            ("Transfer-Encoding: gzip\r\n", Err(Unfollowable)),
            ("Content-Length: 12\r\nContent-Length: 13\r\n", Err(Unfollowable)),
            ("Content-Length: -1\r\n", Err(Unfollowable)),
            ("Content-Length: 99999999999999999999\r\n", Err(Unfollowable)),
            ("Content-Length:\r\n", Err(Unfollowable)),
            ("Content-Length : 1\r\n", Err(Unfollowable)),
            ("Host: a\r\n b: c\r\n", Err(Unfollowable)),
            ("no colon\r\n", Err(Unfollowable)),
        ] {
            let text = format!("POST / HTTP/1.1\r\n{fields}\r\n");
            let found = request(text.as_bytes()).map(|(_, _, f)| (f.length, f.coding));
            assert_eq!(found, expected, "{fields:?}");
        }
    }

    #[test]
    fn first_lines_that_are_none_are_strange() {
        for line in ["GET /", "GET / HTTP/2.0", "GET", "", "GET HTTP/1.1"] {
            let text = format!("{line}\r\n\r\n");
            assert!(request(text.as_bytes()).is_err(), "{line}");
        }
        for line in ["HTTP/1.1 20 OK", "HTTP/1.1 2000", "HTTP/2 200", "HTTP/1.1", "200 OK"] {
            let text = format!("{line}\r\n\r\n");
            assert!(response(text.as_bytes()).is_err(), "{line}");
        }
        for (line, status) in
            [("HTTP/1.1 200 OK", 200), ("HTTP/1.0 404", 404), ("HTTP/1.1 304 ", 304)]
        {
            let text = format!("{line}\r\n\r\n");
            assert_eq!(response(text.as_bytes()).map(|(status, _)| status), Ok(status), "{line}");
        }
    }

    #[test]
    fn fields_are_hashed_as_collectors_do() {
        let text =
            "GET / HTTP/1.1\r\nHOST: shop.example\r\nUser-Agent:  a b \r\nReferer: /x\r\n\r\n";
        let (line, _, fields) = request(text.as_bytes()).unwrap();
        assert_eq!(line, b"GET / HTTP/1.1");
        assert_eq!(fields.host, Some(text_hash(b"shop.example")));
        assert_eq!(fields.user_agent, Some(text_hash(b"a b")));
        assert_eq!(fields.referer, Some(text_hash(b"/x")));
    }
}
