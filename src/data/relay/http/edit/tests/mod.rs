//! Good and bad requests, and the edited result, however cut.

mod laws;
mod twin;

use pen_records::addr::ClientAddr;

use super::*;
use crate::config::{ForwardedFor, TrustedPeer};
use twin::Policy;

const CLIENT: &str = "203.0.113.7";

fn editor(policy: Policy) -> Editor {
    let network = |addr: &str| TrustedPeer::parse(&format!("{addr}/24")).unwrap();
    let policy = match policy {
        Policy::Replace => ForwardedFor::Replace,
        Policy::Append => ForwardedFor::Append,
        Policy::Keep => ForwardedFor::Keep(vec![network("10.0.0.0"), network("203.0.113.0")]),
    };
    Editor::new(Forward::new(&policy, ClientAddr::Ip(CLIENT.parse().unwrap()), "http"))
}

/// What the server gets of a stream in pieces of so many bytes, and the editor afterwards.
fn edit_by(stream: &[u8], policy: Policy, step: usize) -> (Vec<u8>, Editor) {
    let (mut editor, mut all, mut out) = (editor(policy), Vec::new(), Vec::new());
    for piece in stream.chunks(step.max(1)) {
        let edited = editor.edit(piece, &mut out);
        assert!(edited.taken == piece.len() || editor.refusal().is_some());
        let bytes = edited.bytes.to_vec();
        all.extend(bytes);
    }
    (all, editor)
}

fn refusal(editor: &Editor) -> Option<Refusal> {
    editor.refusal().map(|(refusal, _)| refusal)
}

/// By any step.
#[expect(clippy::panic_in_result_fn, reason = "it is a test's")]
fn edit(stream: &str, policy: Policy) -> Result<String, Refusal> {
    let (whole, editor) = edit_by(stream.as_bytes(), policy, stream.len());
    for step in 1..stream.len().min(200) {
        let (pieces, other) = edit_by(stream.as_bytes(), policy, step);
        assert_eq!(
            pieces.escape_ascii().to_string(),
            whole.escape_ascii().to_string(),
            "by {step}"
        );
        assert_eq!(editor.state, other.state, "by {step}");
    }
    refusal(&editor).map_or_else(|| Ok(String::from_utf8(whole).unwrap()), Err)
}

#[test]
fn what_a_client_says_of_itself_is_replaced_appended_to_or_kept() {
    let ours = "X-Forwarded-For: 203.0.113.7\r\nX-Forwarded-Proto: http\r\n";
    for (policy, theirs, before, after) in [
        (Policy::Replace, "", ours, ""),
        (Policy::Replace, "x-forwarded-FOR: 1.2.3.4\r\nX_Forwarded_Proto:https\r\n", ours, ""),
        (Policy::Append, "", "", ours),
        (
            Policy::Append,
            "X-Forwarded-For: 1.2.3.4\r\nX-Forwarded-Proto: https\r\nx-forwarded-for:  5.6.7.8, ::1 \r\n",
            "X-Forwarded-Proto: https\r\n",
            "X-Forwarded-For: 1.2.3.4, 5.6.7.8, ::1, 203.0.113.7\r\n",
        ),
        (Policy::Keep, "", "", ours),
        (
            Policy::Keep,
            "X-Forwarded-For: 1.2.3.4\r\n",
            "X-Forwarded-For: 1.2.3.4\r\n",
            "X-Forwarded-Proto: http\r\n",
        ),
    ] {
        let request = format!("GET /a HTTP/1.1\r\n{theirs}Host: x\r\n\r\n");
        let expected = format!("GET /a HTTP/1.1\r\n{before}Host: x\r\n{after}\r\n");
        assert_eq!(edit(&request, policy).unwrap(), expected);
        // Each of several, and bodies as they are.
        let body = "X-Forwarded-For: 9\r\n\r\nGET / HTTP/1.1\r\n\r\n";
        let post = format!("Content-Length: {}\r\n\r\n{body}", body.len());
        let stream = format!("{request}\r\nPOST / HTTP/1.0\r\n{theirs}{post}{request}");
        let posted = match policy {
            Policy::Replace => format!("POST / HTTP/1.0\r\n{before}{post}"),
            _ => {
                let (length, body) = post.split_once("\r\n").unwrap();
                format!("POST / HTTP/1.0\r\n{before}{length}\r\n{after}{body}")
            }
        };
        assert_eq!(edit(&stream, policy).unwrap(), format!("{expected}\r\n{posted}{expected}"));
    }
}

#[test]
fn who_is_not_trusted_has_its_own_replaced() {
    let network = TrustedPeer::parse("10.0.0.0/8").unwrap();
    let policy = ForwardedFor::Keep(vec![network]);
    for (client, client_fields, text) in [
        ("10.1.2.3", ClientFields::Keep, "10.1.2.3"),
        ("::ffff:10.1.2.3", ClientFields::Keep, "10.1.2.3"),
        ("11.1.2.3", ClientFields::Replace, "11.1.2.3"),
        ("2001:db8::1", ClientFields::Replace, "2001:db8::1"),
    ] {
        let forward = Forward::new(&policy, ClientAddr::Ip(client.parse().unwrap()), "http");
        assert_eq!((forward.client_fields, forward.client.as_str()), (client_fields, text));
    }
    for (policy, client_fields) in [
        (policy, ClientFields::Replace),
        (ForwardedFor::Keep(vec![network, TrustedPeer::Unix]), ClientFields::Keep),
    ] {
        let unix = Forward::new(&policy, ClientAddr::Unix, "http");
        assert_eq!((unix.client_fields, unix.client.as_str()), (client_fields, "unknown"));
    }
}

#[test]
fn every_method_is_edited_and_bare_line_feeds_become_line_ends() {
    for method in ["GET", "PUT", "DELETE", "PATCH", "OPTIONS", "CONNECT", "M-SEARCH", "get", "X"] {
        let edited = edit(&format!("{method} * HTTP/1.1\nHost: x\n\n"), Policy::Keep).unwrap();
        let expected = format!(
            "{method} * HTTP/1.1\r\nHost: x\r\nX-Forwarded-For: {CLIENT}\r\nX-Forwarded-Proto: http\r\n\r\n"
        );
        assert_eq!(edited, expected);
    }
}

#[test]
fn chunks_and_their_trailer_pass_as_they_are() {
    let body = "5;x=y\r\nhello\r\n1\r\n\n\r\n0\r\nTrailer: x\r\n\r\n";
    let head = "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n";
    let ours = format!("X-Forwarded-For: {CLIENT}\r\nX-Forwarded-Proto: http\r\n\r\n");
    let edited = edit(&format!("{head}\r\n{body}{head}\r\n"), Policy::Keep).unwrap();
    assert_eq!(edited, format!("{head}{ours}{body}{head}{ours}"));
}

#[test]
fn a_connection_cannot_be_turned_into_one_that_is_not_looked_at() {
    let head = "GET / HTTP/1.1\r\nX-Forwarded-For: 203.0.113.7\r\nX-Forwarded-Proto: http\r\n";
    for (fields, expected) in [
        ("Upgrade: websocket\r\n", "Upgrade: websocket\r\n"),
        ("Upgrade: h2c\r\n", ""),
        ("upgrade: foo , H2C\r\n", "upgrade: foo\r\n"),
        ("Connection: close, X-Forwarded-For\r\n", "Connection: close\r\n"),
        ("Connection: x_forwarded_for\r\n", ""),
        ("Connection:Upgrade,  HTTP2-Settings\r\n", "Connection:Upgrade,  HTTP2-Settings\r\n"),
    ] {
        let edited = edit(&format!("GET / HTTP/1.1\r\n{fields}\r\n"), Policy::Replace).unwrap();
        assert_eq!(edited, format!("{head}{expected}\r\n"));
    }
}

#[test]
fn what_can_be_read_in_two_ways_is_refused() {
    for (text, refusal) in [
        ("GET / HTTP/2.0\r\n", Refusal::Version),
        ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", Refusal::Version),
        ("GET /\r\n", Refusal::Line),
        ("GET  / HTTP/1.1\r\n", Refusal::Line),
        ("GET / HTTP/1.1 \r\n", Refusal::Line),
        ("GET / HTTP/1.1\rX: y\r\n", Refusal::Line),
        ("GET / a HTTP/1.1\r\n", Refusal::Line),
        ("FOO\t/ HTTP/1.1\r\n", Refusal::Line),
        ("GET / HTTP/1.1\r\n\r\nFOO\r\n", Refusal::Line),
        ("GET / HTTP/1.1\r\n Host: x\r\n", Refusal::Field),
        ("GET / HTTP/1.1\r\nA: b\r\n folded\r\n", Refusal::Field),
        ("GET / HTTP/1.1\r\nX-Forwarded-For : 1\r\n", Refusal::Field),
        ("GET / HTTP/1.1\r\nHost\r\n", Refusal::Field),
        ("GET / HTTP/1.1\r\n: b\r\n", Refusal::Field),
        ("GET / HTTP/1.1\r\nA: b\0\r\n", Refusal::Field),
        ("GET / HTTP/1.1\r\nA: b\rX-Forwarded-For: 1\r\n", Refusal::Line),
        ("GET / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\n", Refusal::Framing),
        ("GET / HTTP/1.1\r\nContent-Length: 1, 1\r\n\r\n", Refusal::Framing),
        ("GET / HTTP/1.1\r\nContent-Length: +1\r\n\r\n", Refusal::Framing),
        ("GET / HTTP/1.1\r\nContent-Length: 0x1\r\n\r\n", Refusal::Framing),
        ("GET / HTTP/1.1\r\nContent-Length: \r\n\r\n", Refusal::Framing),
        ("GET / HTTP/1.1\r\nContent-Length: 18446744073709551616\r\n\r\n", Refusal::Framing),
        (
            "GET / HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
            Refusal::Framing,
        ),
        ("GET / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n", Refusal::Framing),
        ("GET / HTTP/1.1\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", Refusal::Coding),
        ("GET / HTTP/1.1\r\nTransfer-Encoding: \x0bchunked\r\n\r\n", Refusal::Coding),
        (
            "GET / HTTP/1.1\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n",
            Refusal::Framing,
        ),
        ("CONNECT a:1 HTTP/1.1\r\nContent-Length: 1\r\n\r\n", Refusal::Framing),
        ("GET / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1\nx", Refusal::Framing),
        (
            "GET / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX-Forwarded-For: 1\r\n",
            Refusal::Field,
        ),
        ("GET / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nA: b\n", Refusal::Field),
    ] {
        assert_eq!(edit(text, Policy::Replace), Err(refusal), "{text:?}");
    }
}

#[test]
fn nothing_of_a_refused_request_looks_whole_and_what_came_before_it_passes() {
    let good = "GET /a HTTP/1.1\r\n\r\n";
    let bad = "GET /b HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n";
    let text = format!("{good}{bad}{good}");
    let (out, editor) = edit_by(text.as_bytes(), Policy::Keep, 7);
    assert_eq!(refusal(&editor), Some(Refusal::Framing));
    let out = String::from_utf8(out).unwrap();
    let first = edit(good, Policy::Keep).unwrap();
    assert_eq!(out, format!("{first}GET /b HTTP/1.1\r\nContent-Length: 1\r\n"));
}

#[test]
fn what_is_not_http_passes_as_it_is() {
    for text in [
        &b"\x16\x03\x01\x02\x00\x01\x00\x0ahttp/1.1GET / HTTP/1.1\r\n\r\n"[..],
        b"EHLO there\r\nGET / HTTP/1.1\r\n\r\n",
        b"SSH-2.0-OpenSSH_9.2p1\r\n",
        b"\r\nHELO x\r\n",
        &[0xff; 70_000],
    ] {
        for step in [1, 5, 1_000, 1 << 20] {
            let (out, editor) = edit_by(text, Policy::Replace, step);
            assert!(out == text && editor.is_raw(), "{}", text[..9].escape_ascii());
        }
    }
}

#[test]
fn a_head_of_any_length_passes_at_once_and_hardly_anything_is_kept() {
    let mut editor = editor(Policy::Append);
    let mut out = Vec::new();
    let long = vec![b'x'; 60_000];
    for text in [&b"GET /"[..], &long, b" HTTP/1.1\r\nCookie: ", &long, &long, b"; a=b"] {
        assert_eq!(editor.edit(text, &mut out).bytes, text);
    }
    assert_eq!(editor.edit(b"\r\n\r\n", &mut out).taken, 4);
    assert_eq!((editor.value.capacity(), editor.requests), (0, 1));
    // But not of one's own stories.
    editor.edit(b"GET / HTTP/1.1\r\nX-Forwarded-For: ", &mut out);
    editor.edit(&long, &mut out);
    assert_eq!(refusal(&editor), Some(Refusal::Long));
    assert!(editor.value.capacity() == 0 && size_of::<Editor>() <= 240, "{}", size_of::<Editor>());
}

#[test]
fn after_an_upgrade_bytes_pass_as_they_are() {
    let (mut editor, mut out) = (editor(Policy::Replace), Vec::new());
    editor.edit(b"GET / HTTP/1.1\r\nUpgrade: websocket\r\n\r\n", &mut out);
    editor.pass_through();
    let frame = b"\x81\x05GET / HTTP/1.1\r\n\r\n";
    assert_eq!(editor.edit(frame, &mut out), Edited { bytes: frame, taken: frame.len() });
}
