//! The first line of a request in a comparable form. The balancer saw raw bytes, perhaps cut short;
//! the web server logged the whole line, escaped. One unescaping, one cut and one fingerprint serve
//! both sides.
//!
//! Classic records have two cuts (see `docs/design/wire.md`): a mapping file keeps 100 bytes and
//! writes `.` for every byte above 0x7F, a mapping datagram keeps as much as fits into 1,024 bytes.
//! So there are two fingerprints: [`Cut::Short`] over the first [`SHORT`] bytes with that
//! replacement, [`Cut::Long`] over the first [`LONG`] bytes unchanged. Records of `pen` keep
//! [`LONG`] bytes, and of longer requests a hash of the full request: [`Cut::Whole`]. A request
//! ends at its first CR or LF.
//!
//! A target may be a URL with scheme and authority (absolute form, RFC 9112, section 3.2.2). Some
//! clients send such a target, and Varnish logs all targets so. Both sides are compared by path and
//! query alone.
//!
//! Balancers other than `pen` often speak another version of HTTP to the server than the client
//! spoke to them, and log the client's. Requests in their logs are compared without the protocol:
//! [`Cut::Target`].

use std::borrow::Cow;
use std::num::NonZeroU64;

use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::scan::is_plain;

/// Bytes of a request line that a classic mapping file keeps.
pub const SHORT: usize = 100;

/// Bytes of a request line that every classic mapping datagram keeps, however long its addresses
/// are (1,024 bytes less the longest addresses, rounded down).
pub const LONG: usize = 800;

const SHORT_SEED: u64 = 0x7065_6e2d_7368_6f72;
const LONG_SEED: u64 = 0x7065_6e2d_6c6f_6e67;
const TARGET_SEED: u64 = 0x7065_6e2d_7461_7267;
/// Part of the wire format, so that other programs can compute the hash.
const WHOLE_SEED: u64 = 0;

/// Which bytes of a request a fingerprint covers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Cut {
    /// The first [`SHORT`] bytes, bytes above 0x7F replaced by `.`.
    Short,
    /// The first [`LONG`] bytes.
    Long,
    /// The full request; only for requests longer than [`LONG`] bytes, because shorter ones are
    /// covered by that cut.
    Whole,
    /// Method and target, without the protocol.
    Target,
}

/// The identity of a request line under one [`Cut`]: equal lines have equal fingerprints, different
/// lines have different ones except with a probability of one in 2^64.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Fingerprint(NonZeroU64);

impl Fingerprint {
    /// Creates a fingerprint from a hash in a record.
    #[must_use]
    pub fn of_hash(hash: u64) -> Self {
        Self(NonZeroU64::new(hash).unwrap_or(NonZeroU64::MAX))
    }

    /// The fingerprint of a full request as a balancer saw it. `None` if [`Cut::Long`] already
    /// covers all bytes.
    #[must_use]
    #[inline]
    pub fn of_whole(request: &[u8]) -> Option<Self> {
        if request.len() <= LONG {
            return None;
        }
        let end = memchr::memchr2(b'\r', b'\n', request).unwrap_or(request.len());
        let request = in_origin_form(&request[..end]);
        if request.len() > LONG { Self::of_plain(&request, Cut::Whole) } else { None }
    }

    /// The fingerprint of a full request as a web server logged it; see [`Self::of_logged`] and
    /// [`Self::of_whole`].
    #[must_use]
    #[inline]
    pub fn of_whole_logged(parts: &[&[u8]]) -> Option<Self> {
        let len: usize = parts.iter().map(|part| part.len() + 1).sum();
        if len > LONG { Self::of_whole_escaped(parts, len) } else { None }
    }

    #[cold]
    fn of_whole_escaped(parts: &[&[u8]], len: usize) -> Option<Self> {
        // Unescaping never grows a text, except for a character that JSON writes in six bytes.
        let mut buf = vec![0; len];
        let len = unescape_parts(parts, &mut buf);
        Self::of_whole(&buf[..len])
    }

    /// The hash.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0.get()
    }

    /// The fingerprint of raw bytes as a balancer saw them. `None` if the first byte is a CR or LF,
    /// or missing.
    #[must_use]
    #[inline]
    pub fn of_raw(request: &[u8], cut: Cut) -> Option<Self> {
        if is_absolute(request) {
            return Self::of_absolute(request, cut);
        }
        let kept = &request[..request.len().min(cut.len())];
        if is_plain(kept) {
            return Self::of_plain(kept, cut);
        }
        Self::of_any(kept, cut)
    }

    #[cold]
    fn of_absolute(request: &[u8], cut: Cut) -> Option<Self> {
        let request = in_origin_form(request);
        Self::of_any(&request[..request.len().min(cut.len())], cut)
    }

    #[cold]
    fn of_any(kept: &[u8], cut: Cut) -> Option<Self> {
        let line = memchr::memchr2(b'\r', b'\n', kept).map_or(kept, |end| &kept[..end]);
        Self::of_line(line, cut)
    }

    /// The fingerprint of a request as a web server logged it, in one piece or in several pieces to
    /// be joined with spaces (method, target, protocol). `None` if the request is empty or `-`.
    #[must_use]
    #[inline]
    pub fn of_logged(parts: &[&[u8]], cut: Cut) -> Option<Self> {
        if let [request] = parts {
            if *request == b"-" {
                return None;
            }
            let kept = &request[..request.len().min(cut.len())];
            if is_plain(kept) && !is_absolute(request) {
                return Self::of_plain(kept, cut);
            }
        }
        Self::of_escaped(parts, cut)
    }

    #[cold]
    fn of_escaped(parts: &[&[u8]], cut: Cut) -> Option<Self> {
        let mut buf = [0; LONG + AUTHORITY];
        let is_absolute = match parts {
            [request] => is_absolute(request),
            [_, target, ..] => authority_end(target).is_some(),
            [] => false,
        };
        let most = if is_absolute { cut.len() + AUTHORITY } else { cut.len() };
        let len = unescape_parts(parts, &mut buf[..most]);
        Self::of_raw(&buf[..len], cut)
    }

    /// `line` is unescaped, cut, and free of line ends.
    fn of_line(line: &[u8], cut: Cut) -> Option<Self> {
        if cut != Cut::Short || line.is_ascii() {
            return Self::of_plain(line, cut);
        }
        let mut dotted = [0; SHORT];
        for (to, &from) in dotted.iter_mut().zip(line) {
            *to = if from.is_ascii() { from } else { b'.' };
        }
        Self::of_plain(&dotted[..line.len()], cut)
    }

    /// Hashes `line`, the bytes that identify the request.
    #[inline]
    fn of_plain(line: &[u8], cut: Cut) -> Option<Self> {
        let seed = match cut {
            Cut::Short => SHORT_SEED,
            Cut::Long => LONG_SEED,
            Cut::Whole => WHOLE_SEED,
            Cut::Target => TARGET_SEED,
        };
        let hash = || NonZeroU64::new(xxh3_64_with_seed(line, seed)).unwrap_or(NonZeroU64::MAX);
        (!line.is_empty()).then(|| Self(hash()))
    }
}

impl Cut {
    /// Bytes of the text that this cut keeps; [`Cut::Whole`] keeps a hash of the full request
    /// besides.
    #[must_use]
    pub const fn len(self) -> usize {
        match self {
            Self::Short => SHORT,
            Self::Long | Self::Whole | Self::Target => LONG,
        }
    }

    /// Always false: every cut keeps bytes.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        false
    }
}

/// Returns a request line without its protocol. A line that ends in no protocol is returned whole.
#[must_use]
#[inline]
pub fn without_protocol(request: &[u8]) -> &[u8] {
    match memchr::memrchr(b' ', request) {
        Some(space) if request[space + 1..].starts_with(b"HTTP/") => &request[..space],
        _ => request,
    }
}

/// Returns the bytes of a request under `cut` without its protocol, which may be cut off in the middle.
#[must_use]
pub fn without_cut_protocol(request: &[u8], cut: Cut) -> &[u8] {
    let whole = without_protocol(request);
    if whole.len() < request.len() || request.len() < cut.len() {
        return whole;
    }
    match memchr::memrchr(b' ', request) {
        Some(space)
            if b"HTTP/".starts_with(&request[space + 1..]) && request[..space].contains(&b' ') =>
        {
            &request[..space]
        }
        _ => request,
    }
}

/// The longest scheme and authority of a target that takes nothing from the bytes compared.
const AUTHORITY: usize = 280;

/// Whether the target of a request is a URL. Nearly all requests are `GET /…`, `POST /…` and so on.
#[inline]
fn is_absolute(request: &[u8]) -> bool {
    match request {
        [_, _, _, b' ', b'/', ..] | [_, _, _, _, b' ', b'/', ..] => false,
        _ => target_start(request).is_some_and(|at| authority_end(&request[at..]).is_some()),
    }
}

/// Returns the offset behind the method, which is short.
fn target_start(request: &[u8]) -> Option<usize> {
    Some(request.iter().take(20).position(|&b| b == b' ')? + 1)
}

/// Returns the length of scheme and authority of a target that is a URL.
fn authority_end(target: &[u8]) -> Option<usize> {
    let scheme = target.iter().take(10).take_while(|b| b.is_ascii_alphanumeric()).count();
    let behind = target.get(scheme..)?.strip_prefix(b"://").filter(|_| scheme > 0)?;
    let authority = behind.iter().position(|b| matches!(b, b'/' | b'?' | b'#' | b' '));
    Some(scheme + 3 + authority.unwrap_or(behind.len()))
}

/// Returns the request with path and query as its target.
fn in_origin_form(request: &[u8]) -> Cow<'_, [u8]> {
    let absolute =
        target_start(request).and_then(|at| Some((at, at + authority_end(&request[at..])?)));
    let Some((at, path)) = absolute else { return Cow::Borrowed(request) };
    let slash: &[u8] = if request.get(path) == Some(&b'/') { b"" } else { b"/" };
    Cow::Owned([&request[..at], slash, &request[path..]].concat())
}

/// Joins `parts` with spaces, unescaped, into `out`; returns the number of bytes written. Text that
/// does not fit is dropped.
fn unescape_parts(parts: &[&[u8]], out: &mut [u8]) -> usize {
    let mut len = 0;
    for (index, part) in parts.iter().enumerate() {
        if index > 0 && len < out.len() {
            out[len] = b' ';
            len += 1;
        }
        len += unescape(part, &mut out[len..]);
    }
    len
}

/// Undoes the escapes of Apache (`\"`, `\\`, `\n`, `\t`, `\xhh` …), nginx (`\xHH`) and JSON writers
/// (`\u00e9`, `\/`) in a value; returns the number of bytes written to `out`. A backslash that
/// begins no such escape is kept. Text that does not fit is dropped.
pub fn unescape(mut text: &[u8], out: &mut [u8]) -> usize {
    let mut len = 0;
    while !text.is_empty() && len < out.len() {
        let plain = memchr::memchr(b'\\', text).unwrap_or(text.len());
        let copied = plain.min(out.len() - len);
        out[len..len + copied].copy_from_slice(&text[..copied]);
        len += copied;
        text = &text[plain..];
        if text.is_empty() || len == out.len() {
            break;
        }
        let (value, taken) = escape_sequence(text);
        let mut utf8 = [0; 4];
        let bytes: &[u8] = match value {
            EscapedByte::Byte(byte) => {
                utf8[0] = byte;
                &utf8[..1]
            }
            EscapedByte::Char(c) => c.encode_utf8(&mut utf8).as_bytes(),
        };
        let copied = bytes.len().min(out.len() - len);
        out[len..len + copied].copy_from_slice(&bytes[..copied]);
        len += copied;
        text = &text[taken..];
    }
    len
}

/// Undoes escapes as [`unescape`] does, and appends the offset of each byte in `text` to `offsets`,
/// and that of the end.
pub(crate) fn unescape_with_offsets(text: &[u8], out: &mut Vec<u8>, offsets: &mut Vec<u32>) {
    let mut at = 0;
    let offset = |at: usize| u32::try_from(at).unwrap_or(u32::MAX);
    while let Some(&byte) = text.get(at) {
        if byte != b'\\' {
            out.push(byte);
            offsets.push(offset(at));
            at += 1;
            continue;
        }
        let (value, taken) = escape_sequence(&text[at..]);
        let mut utf8 = [0; 4];
        let bytes: &[u8] = match value {
            EscapedByte::Byte(byte) => {
                utf8[0] = byte;
                &utf8[..1]
            }
            EscapedByte::Char(c) => c.encode_utf8(&mut utf8).as_bytes(),
        };
        out.extend_from_slice(bytes);
        offsets.extend(bytes.iter().map(|_| offset(at)));
        at += taken;
    }
    offsets.push(offset(text.len()));
}

enum EscapedByte {
    Byte(u8),
    Char(char),
}

/// Decodes the escape at the start of `text`, which begins with a backslash. Returns the character
/// and the length of the escape.
fn escape_sequence(text: &[u8]) -> (EscapedByte, usize) {
    let simple = |byte| (EscapedByte::Byte(byte), 2);
    match text.get(1) {
        Some(&byte @ (b'"' | b'\\' | b'/' | b'\'')) => simple(byte),
        Some(b'n') => simple(b'\n'),
        Some(b'r') => simple(b'\r'),
        Some(b't') => simple(b'\t'),
        Some(b'b') => simple(8),
        Some(b'v') => simple(11),
        Some(b'f') => simple(12),
        Some(b'x') => match text.get(2..4).and_then(hex) {
            Some(value) => (EscapedByte::Byte(value.to_le_bytes()[0]), 4),
            None => (EscapedByte::Byte(b'\\'), 1),
        },
        Some(b'u') => unicode(text),
        _ => (EscapedByte::Byte(b'\\'), 1),
    }
}

/// Decodes `\uXXXX`, and a pair of escapes for a character beyond 16 bits (RFC 8259, section 7).
fn unicode(text: &[u8]) -> (EscapedByte, usize) {
    let literal = (EscapedByte::Byte(b'\\'), 1);
    let Some(first) = text.get(2..6).and_then(hex) else { return literal };
    if let Some(c) = char::from_u32(first) {
        return (EscapedByte::Char(c), 6);
    }
    let second = text.get(6..8).filter(|s| s == b"\\u").and_then(|_| text.get(8..12)).and_then(hex);
    match second.map(|low| char::decode_utf16([first, low].map(low_half)).next()) {
        Some(Some(Ok(c))) => (EscapedByte::Char(c), 12),
        _ => literal,
    }
}

fn low_half(value: u32) -> u16 {
    u16::try_from(value & 0xFFFF).expect("masked to 16 bits")
}

fn hex(digits: &[u8]) -> Option<u32> {
    digits
        .iter()
        .try_fold(0, |value, &digit| char::from(digit).to_digit(16).map(|digit| value * 16 + digit))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_servers_write_is_unescaped() {
        for (logged, raw) in [
            (r#"GET /\"x\" HTTP/1.1"#, &b"GET /\"x\" HTTP/1.1"[..]),
            (r"GET /\\ HTTP/1.1", b"GET /\\ HTTP/1.1"),
            (r"\x22\x5C\xC3\xa9", b"\"\\\xC3\xA9"),
            (r"a\tb\u00e9\/", b"a\tb\xC3\xA9/"),
            (r"\ud83d\ude00", "\u{1F600}".as_bytes()),
            (r"\q\x4", b"\\q\\x4"),
            ("\\", b"\\"),
        ] {
            let mut out = [0; 64];
            let len = unescape(logged.as_bytes(), &mut out);
            assert_eq!(&out[..len], raw, "{logged}");
        }
    }

    #[test]
    fn the_two_sides_of_one_request_have_one_fingerprint() {
        for (raw, logged) in [
            (&b"GET /a HTTP/1.1"[..], r"GET /a HTTP/1.1"),
            (b"GET /\xC3\xA9 HTTP/1.1\r\nHost: x", r"GET /\xC3\xA9 HTTP/1.1"),
            (b"GET /\"\\ HTTP/1.1", r#"GET /\"\\ HTTP/1.1"#),
            (b"GET /.. HTTP/1.1", r"GET /.. HTTP/1.1"),
            (b"MGLNDD\n", r"MGLNDD\n"),
        ] {
            for cut in [Cut::Short, Cut::Long] {
                let seen = Fingerprint::of_raw(raw, cut);
                assert!(seen.is_some());
                assert_eq!(seen, Fingerprint::of_logged(&[logged.as_bytes()], cut), "{logged}");
            }
        }
    }

    #[test]
    fn a_url_as_the_target_is_compared_by_its_path() {
        let long = "x".repeat(2_000);
        for (absolute, path) in [
            ("GET http://a.example/item0 HTTP/1.1", "GET /item0 HTTP/1.1"),
            ("PURGE HTTPS://a.example:8443/a?b=://c HTTP/1.1", "PURGE /a?b=://c HTTP/1.1"),
            ("GET http://a.example HTTP/1.1", "GET / HTTP/1.1"),
            ("GET http://a.example?b HTTP/1.1", "GET /?b HTTP/1.1"),
            ("GET http://[2001:db8::1]:80/\\x22 HTTP/1.1", "GET /\\x22 HTTP/1.1"),
            (&format!("GET http://a.example/{long}"), &format!("GET /{long}")),
        ] {
            for cut in [Cut::Short, Cut::Long, Cut::Target] {
                let seen = Fingerprint::of_logged(&[path.as_bytes()], cut);
                assert!(seen.is_some());
                assert_eq!(seen, Fingerprint::of_logged(&[absolute.as_bytes()], cut), "{absolute}");
                let parts: Vec<_> = absolute.split(' ').map(str::as_bytes).collect();
                assert_eq!(seen, Fingerprint::of_logged(&parts, cut), "{absolute}");
                if !path.contains('\\') {
                    let raw = Fingerprint::of_raw(absolute.as_bytes(), cut);
                    assert_eq!(seen, raw, "{absolute}");
                }
            }
            let whole = |request: &str| Fingerprint::of_whole_logged(&[request.as_bytes()]);
            assert_eq!(whole(absolute), whole(path), "{absolute}");
        }
        for other in ["GET /http://a.example/x HTTP/1.1", "CONNECT a.example:443 HTTP/1.1", "x"] {
            assert_eq!(in_origin_form(other.as_bytes()), Cow::Borrowed(other.as_bytes()));
        }
    }

    #[test]
    fn a_mapping_file_and_a_log_agree_on_long_and_eight_bit_requests() {
        let long = format!("GET /{} HTTP/1.1", "x".repeat(300));
        let file = &long.as_bytes()[..SHORT];
        assert_eq!(
            Fingerprint::of_raw(file, Cut::Short),
            Fingerprint::of_logged(&[long.as_bytes()], Cut::Short)
        );
        assert_eq!(
            Fingerprint::of_raw(b"GET /..", Cut::Short),
            Fingerprint::of_logged(&[br"GET /\xc3\xa9"], Cut::Short)
        );
        assert_ne!(
            Fingerprint::of_raw(b"GET /..", Cut::Long),
            Fingerprint::of_logged(&[br"GET /\xc3\xa9"], Cut::Long)
        );
    }

    #[test]
    fn a_request_in_parts_is_the_request() {
        assert_eq!(
            Fingerprint::of_logged(&[b"GET", br"/\u00e9", b"HTTP/2.0"], Cut::Long),
            Fingerprint::of_raw("GET /é HTTP/2.0".as_bytes(), Cut::Long)
        );
    }

    #[test]
    fn nothing_asked_has_no_fingerprint() {
        for cut in [Cut::Short, Cut::Long] {
            assert_eq!(Fingerprint::of_raw(b"\r\nGET /", cut), None);
            assert_eq!(Fingerprint::of_logged(&[b"-"], cut), None);
            assert_eq!(Fingerprint::of_logged(&[b""], cut), None);
        }
    }
}
