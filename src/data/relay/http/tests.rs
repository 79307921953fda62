//! Events of real and of malformed streams, however cut.

use proptest::prelude::*;

use super::*;

/// A note in a form that can be kept.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Noted {
    Request(u32, String),
    Ended(u32, u16, u64, u64),
    BodyEnded(u32),
}

fn keep(notes: &mut Vec<Noted>) -> impl FnMut(HttpEvent<'_>) {
    |note| {
        notes.push(match note {
            HttpEvent::Request { nth, line, .. } => {
                Noted::Request(nth, String::from_utf8_lossy(line).into_owned())
            }
            HttpEvent::Ended(ResponseSummary { nth, status, body, framed, .. }) => {
                Noted::Ended(nth, status, body, framed)
            }
            HttpEvent::BodyEnded(ResponseSummary { nth, .. }) => Noted::BodyEnded(nth),
            HttpEvent::Began { .. } | HttpEvent::Refused { .. } => return,
        });
    }
}

/// Returns the events of these streams in pieces of so many bytes: all requests first.
fn follow(requests: &[u8], responses: &[u8], step: usize) -> (Vec<Noted>, bool) {
    let (mut follower, mut notes) = (Follower::default(), Vec::new());
    for piece in requests.chunks(step) {
        follower.requests(piece, Instant::now(), keep(&mut notes));
    }
    for piece in responses.chunks(step) {
        follower.responses(piece, keep(&mut notes));
    }
    let following = follower.is_following();
    follower.responses_end(keep(&mut notes));
    (notes, following)
}

fn request(nth: u32, line: &str) -> Noted {
    Noted::Request(nth, line.into())
}

#[test]
fn exchanges_are_noted_however_they_are_cut() {
    let get = "GET /a HTTP/1.1\r\nHost: x\r\n\r\n";
    for (requests, responses, expected) in [
        (
            get.to_owned(),
            "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello".to_owned(),
            vec![request(1, "GET /a HTTP/1.1"), Noted::Ended(1, 200, 5, 5)],
        ),
        (
            format!("\r\n{get}\r\n\r\nHEAD /b HTTP/1.0\n\n"),
            "HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n\
             HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\n"
                .to_owned(),
            vec![
                request(1, "GET /a HTTP/1.1"),
                request(2, "HEAD /b HTTP/1.0"),
                Noted::Ended(1, 304, 0, 0),
                Noted::Ended(2, 200, 0, 0),
            ],
        ),
        (
            "POST /c HTTP/1.1\r\nContent-Length: 14\r\n\r\nGET /no HTTP/1POST /d HTTP/1.1\r\n\
             Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"
                .to_owned()
                + get,
            "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n\
             5\r\nhello\r\n0\r\n\r\nHTTP/1.1 204 No\r\n\r\nHTTP/1.0 200 OK\r\n\r\nto the end"
                .to_owned(),
            vec![
                request(1, "POST /c HTTP/1.1"),
                request(2, "POST /d HTTP/1.1"),
                request(3, "GET /a HTTP/1.1"),
                Noted::Ended(1, 200, 5, 15),
                Noted::Ended(2, 204, 0, 0),
                Noted::Ended(3, 200, 10, 10),
            ],
        ),
    ] {
        for step in 1..=requests.len().max(responses.len()) {
            let (notes, following) = follow(requests.as_bytes(), responses.as_bytes(), step);
            assert_eq!(notes, expected, "by {step}");
            assert!(following, "by {step}");
        }
    }
}

#[test]
fn the_end_of_a_request_body_is_noted_whichever_end_comes_first() {
    let start = Instant::now();
    let later = start + std::time::Duration::from_millis(5);
    let head = b"POST /a HTTP/1.1\r\nContent-Length: 4\r\n\r\nab";
    let answer = b"HTTP/1.1 204 No\r\n\r\n";
    let noted = |is_early: bool| {
        let (mut follower, mut bodies) = (Follower::default(), Vec::new());
        let mut note = |event: HttpEvent<'_>| match event {
            HttpEvent::Ended(response) => bodies.push((false, response)),
            HttpEvent::BodyEnded(response) => bodies.push((true, response)),
            _ => {}
        };
        follower.requests(head, start, &mut note);
        if is_early {
            follower.responses(answer, &mut note);
        }
        follower.requests(b"cdGET / HTTP/1.1\r\n\r\n", later, &mut note);
        if !is_early {
            follower.responses(answer, &mut note);
        }
        follower.responses(answer, &mut note);
        bodies.iter().map(|(last, it)| (*last, it.nth, it.status, it.request_body)).collect()
    };
    let ended = RequestBody::Ended(later);
    let absent = (false, 2, 204, RequestBody::Absent);
    let early: Vec<_> = noted(true);
    assert_eq!(early, [(false, 1, 204, RequestBody::Unfinished), (true, 1, 204, ended), absent]);
    let late: Vec<_> = noted(false);
    assert_eq!(late, [(false, 1, 204, ended), absent]);
}

#[test]
fn an_upgrade_and_a_tunnel_are_noted_and_let_go() {
    for (line, response, status) in [
        ("GET /chat HTTP/1.1", "HTTP/1.1 101 Switching\r\n\r\n\x01\x02", 101),
        ("CONNECT a:1 HTTP/1.1", "HTTP/1.1 200 OK\r\n\r\n\x16\x03", 200),
    ] {
        let text = format!("{line}\r\n\r\n");
        let (notes, following) = follow(text.as_bytes(), response.as_bytes(), 7);
        assert_eq!(notes, [request(1, line), Noted::Ended(1, status, 0, 0)]);
        assert!(!following);
    }
}

#[test]
fn what_is_not_http_is_let_go_at_once_and_nothing_is_noted() {
    let long = format!("GET /{} HTTP/1.1\r\n\r\n", "x".repeat(70_000));
    for bytes in [&b"\x16\x03\x01\x02\x00"[..], b"EHLO there", b"GET /\r\n\r\n", long.as_bytes()] {
        let (notes, following) = follow(bytes, b"", 1_000);
        assert_eq!(notes, [], "{}", bytes[..9.min(bytes.len())].escape_ascii());
        assert!(!following || bytes == b"EHLO there");
    }
}

#[test]
fn a_body_is_never_taken_for_a_request() {
    let text = b"POST /x HTTP/1.1\r\nContent-Length: 30\r\n\r\nGET /secret HTTP/1.1\r\n\r\n......";
    let (notes, _) = follow(text, b"", 5);
    assert_eq!(notes, [request(1, "POST /x HTTP/1.1")]);
}

#[test]
fn an_answer_that_nobody_asked_for_is_let_go() {
    let (notes, following) = follow(b"", b"HTTP/1.1 408 Timeout\r\nContent-Length: 0\r\n\r\n", 9);
    assert_eq!((notes, following), (vec![], false));
}

#[test]
fn a_request_that_never_came_wholly_is_noted_when_the_server_has_had_enough() {
    let begun = "GET /a HTTP/1.1\r\nUser-Agent: a\r\nHo";
    let answer = "HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\n\r\n";
    for step in [1, 7, 1_000] {
        let (notes, _) = follow(begun.as_bytes(), b"", step);
        assert_eq!(notes, [request(1, "GET /a HTTP/1.1")], "it closes");
        let (notes, _) = follow(begun.as_bytes(), answer.as_bytes(), step);
        assert_eq!(notes, [request(1, "GET /a HTTP/1.1"), Noted::Ended(1, 408, 0, 0)]);
        for nothing in ["GET /not-even-a-li", "\r\n", "EHLO there\r\n"] {
            let (notes, _) = follow(nothing.as_bytes(), answer.as_bytes(), step);
            assert_eq!(notes, [], "{nothing:?}");
        }
    }
    let mut follower = Follower::default();
    follower.requests(begun.as_bytes(), Instant::now(), |_| ());
    follower.responses_end(|note| {
        let HttpEvent::Request { user_agent, host, .. } = note else { panic!("{note:?}") };
        let known = Some(pen_records::attribution::text_hash(b"a"));
        assert_eq!((user_agent, host), (known, None), "of fields the whole ones");
    });
}

#[test]
fn hardly_anything_is_kept_between_messages() {
    let mut follower = Follower::default();
    for piece in b"GET / HTTP/1.1\r\nHost: x\r\n\r\n".chunks(3) {
        follower.requests(piece, Instant::now(), |_| {});
    }
    follower.responses(b"HTTP/1.1 204 No\r\n\r\n", |_| {});
    assert_eq!(
        (follower.requests.partial.capacity(), follower.responses.partial.capacity()),
        (0, 0)
    );
    assert!(size_of::<Follower>() <= 240, "{}", size_of::<Follower>());
}

proptest! {
    #[test]
    fn any_bytes_are_followed_the_same_way_in_one_piece_and_in_many(
        requests in prop::collection::vec(piece(), 0..12),
        responses in prop::collection::vec(piece(), 0..12),
        step in 1_usize..40,
    ) {
        let (requests, responses) = (requests.concat(), responses.concat());
        let whole = follow(requests.as_bytes(), responses.as_bytes(), 1 << 20);
        prop_assert_eq!(whole, follow(requests.as_bytes(), responses.as_bytes(), step));
    }
}

/// Parts of messages, which may make sense together or not.
fn piece() -> impl Strategy<Value = String> {
    prop_oneof![
        Just("GET /a HTTP/1.1\r\n".to_owned()),
        Just("HEAD /b HTTP/1.1\r\n".to_owned()),
        Just("HTTP/1.1 200 OK\r\n".to_owned()),
        Just("HTTP/1.1 100 Continue\r\n\r\n".to_owned()),
        Just("Content-Length: 3\r\n".to_owned()),
        Just("Transfer-Encoding: chunked\r\n".to_owned()),
        Just("\r\n".to_owned()),
        Just("3\r\nabc\r\n".to_owned()),
        Just("0\r\n\r\n".to_owned()),
        Just("abc".to_owned()),
        "[ -~\r\n]{0,9}",
    ]
}
