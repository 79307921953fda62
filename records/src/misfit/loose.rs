//! Requests that a proxy between balancer and server has changed in its usual ways.

use crate::request::{Cut, Fingerprint};

/// In what two requests of one exchange differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LooseDifference {
    /// In the protocol: HTTP/1.0 instead of HTTP/1.1.
    Protocol,
    /// One has a scheme and a host before its path.
    Host,
}

/// Returns the identity of a request line without its protocol, scheme and host; `None` if it is no request line.
#[must_use]
pub fn loose_request(line: &[u8]) -> Option<Fingerprint> {
    let (method, target, _) = parts(line)?;
    let path = path(target);
    let mut text = Vec::with_capacity(method.len() + 1 + path.len());
    text.extend_from_slice(method);
    text.push(b' ');
    text.extend_from_slice(path);
    Fingerprint::of_logged(&[&text], Cut::Long)
}

impl LooseDifference {
    /// Returns the first difference of two request lines, if they are one request but for it.
    #[must_use]
    pub fn between(one: &[u8], other: &[u8]) -> Option<Self> {
        let ((method, target, protocol), (m, t, p)) = (parts(one)?, parts(other)?);
        if method != m || path(target) != path(t) {
            return None;
        }
        let is_absolute = |target: &[u8]| path(target).len() < target.len();
        if is_absolute(target) != is_absolute(t) {
            return Some(Self::Host);
        }
        (protocol != p).then_some(Self::Protocol)
    }
}

/// Splits a request line into method, target and protocol.
fn parts(line: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let start = memchr::memchr(b' ', line)?;
    let end = memchr::memrchr(b' ', line).filter(|&end| end > start)?;
    Some((&line[..start], &line[start + 1..end], &line[end + 1..]))
}

/// Returns a target without scheme and host.
fn path(target: &[u8]) -> &[u8] {
    for scheme in [&b"http://"[..], b"https://"] {
        if let Some(rest) = target.strip_prefix(scheme) {
            return memchr::memchr(b'/', rest).map_or(b"/", |slash| &rest[slash..]);
        }
    }
    target
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn protocol_scheme_and_host_are_left_out() {
        let plain = loose_request(b"GET /a?b HTTP/1.1");
        assert!(plain.is_some());
        for same in
            ["GET /a?b HTTP/1.0", "GET http://host:80/a?b HTTP/1.1", "GET https://h/a?b HTTP/2.0"]
        {
            assert_eq!(loose_request(same.as_bytes()), plain, "{same}");
        }
        for other in ["GET /a HTTP/1.1", "POST /a?b HTTP/1.1", "GET /x/a?b HTTP/1.1"] {
            assert_ne!(loose_request(other.as_bytes()), plain, "{other}");
        }
        assert_eq!(loose_request(b"-"), None);
        assert_eq!(loose_request(b"GET /"), None);
    }

    #[test]
    fn the_difference_is_named() {
        let between = |a: &str, b: &str| LooseDifference::between(a.as_bytes(), b.as_bytes());
        let (old, new) = ("GET /a HTTP/1.0", "GET /a HTTP/1.1");
        assert_eq!(between(old, new), Some(LooseDifference::Protocol));
        assert_eq!(between("GET http://h HTTP/1.1", "GET / HTTP/1.1"), Some(LooseDifference::Host));
        assert_eq!(between(new, new), None);
        assert_eq!(between(new, "GET /b HTTP/1.0"), None);
    }
}
