//! Rewrites the client's request as a balancer logged it to the request that the web server saw.
//!
//! HAProxy writes `#NN` for bytes that a line cannot hold. A request over HTTP/2 or 3 reaches the
//! server as HTTP/1.1. Some balancers log the target as a URL with scheme and authority.

use crate::access::third_party_log::FormatTraits;
use crate::access::{AccessLine, LoggedRequest};
use crate::request::unescape;

/// Appends the first line of the request; nothing if the log has none or not all of it.
pub(super) fn write(line: &[u8], found: &AccessLine, manner: FormatTraits, out: &mut Vec<u8>) {
    match found.request {
        LoggedRequest::Absent => {}
        LoggedRequest::Line(span) => put_right(&unescaped(span.of(line), manner), out),
        LoggedRequest::Parts { method, target, query, protocol } => {
            let part = |span: crate::access::LineSpan| unescaped(span.of(line), manner);
            let (method, mut target) = (part(method), part(target));
            if let Some(query) = query.map(part).filter(|query| !query.is_empty()) {
                if query[0] != b'?' {
                    target.push(b'?');
                }
                target.extend_from_slice(&query);
            }
            let protocol = protocol.map_or_else(|| b"HTTP/1.1".to_vec(), part);
            put_right(&[method, target, protocol].join(&b' '), out);
        }
    }
}

fn unescaped(text: &[u8], manner: FormatTraits) -> Vec<u8> {
    let mut bytes = text.to_vec();
    if manner.hash_escapes {
        bytes.clear();
        let mut rest = text;
        while let Some((&byte, behind)) = rest.split_first() {
            let escaped = (byte == b'#').then(|| behind.first_chunk().and_then(hex)).flatten();
            bytes.push(escaped.unwrap_or(byte));
            rest = if escaped.is_some() { &behind[2..] } else { behind };
        }
    } else if text.contains(&b'\\') {
        let len = unescape(text, &mut bytes);
        bytes.truncate(len);
    }
    bytes
}

fn hex(digits: &[u8; 2]) -> Option<u8> {
    u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
}

fn put_right(request: &[u8], out: &mut Vec<u8>) {
    let Some(last) = memchr::memrchr(b' ', request) else { return };
    // Traffic Server writes the protocol in lower case.
    let (rest, protocol) = (&request[..last], request[last + 1..].to_ascii_uppercase());
    if !protocol.starts_with(b"HTTP/") {
        // The log cut the end off.
        return;
    }
    let seen = if protocol.starts_with(b"HTTP/1.") { &protocol[..] } else { b"HTTP/1.1" };
    let method = memchr::memchr(b' ', rest).map_or(0, |space| space + 1);
    let target = &rest[method..];
    let authority = memchr::memmem::find(target, b"://").filter(|_| !target.starts_with(b"/"));
    let path = authority.map_or(target, |at| {
        let behind = &target[at + 3..];
        memchr::memchr(b'/', behind).map_or(&b"/"[..], |slash| &behind[slash..])
    });
    out.extend_from_slice(&rest[..method]);
    out.extend_from_slice(path);
    out.push(b' ');
    out.extend_from_slice(seen);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_becomes_what_the_server_saw() {
        for (logged, seen) in [
            ("GET /a?b=c HTTP/1.1", "GET /a?b=c HTTP/1.1"),
            ("GET /ten HTTP/1.0", "GET /ten HTTP/1.0"),
            ("GET http://a.example/x HTTP/1.1", "GET /x HTTP/1.1"),
            ("GET https://a.example/x?y=://z HTTP/2.0", "GET /x?y=://z HTTP/1.1"),
            ("GET https://a.example HTTP/2.0", "GET / HTTP/1.1"),
            ("GET /x?y=http://z HTTP/2", "GET /x?y=http://z HTTP/1.1"),
            ("OPTIONS * HTTP/3", "OPTIONS * HTTP/1.1"),
            ("GET /aaaaaa", ""),
            ("<BADREQ>", ""),
            ("", ""),
        ] {
            let mut out = Vec::new();
            put_right(logged.as_bytes(), &mut out);
            assert_eq!(String::from_utf8_lossy(&out), seen, "{logged}");
        }
    }

    #[test]
    fn what_haproxy_escapes_is_put_back() {
        let manner = FormatTraits { hash_escapes: true, ..FormatTraits::default() };
        for (logged, bytes) in [
            ("a#22b#22", "a\"b\""),
            ("#", "#"),
            ("#2", "#2"),
            ("#zz#23", "#zz#"),
            ("\\x22", "\\x22"),
        ] {
            assert_eq!(unescaped(logged.as_bytes(), manner), bytes.as_bytes(), "{logged}");
        }
    }
}
