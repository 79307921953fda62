//! HTTP mode on real sockets: added headers, and requests that are rejected.

use std::io::{BufRead as _, BufReader, Write as _};
use std::sync::atomic::Ordering;

use pen::config::{ForwardedFor, RuntimeSettings};

use crate::support::{Listener, Site, Stream, over, wait_until};

fn site(listener: &Listener, policy: ForwardedFor) -> Site {
    Site::start(RuntimeSettings { http: Some(policy), ..over(&[&listener.endpoint()]) })
}

/// A head that comes, with its end.
fn head(from: &mut impl std::io::BufRead) -> String {
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        let bytes = from.read_line(&mut head).expect("it comes");
        assert!(bytes > 0, "it ended after {head:?}");
    }
    head
}

const OURS: &str = "X-Forwarded-For: 127.0.0.1\r\nX-Forwarded-Proto: http\r\n";
const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

#[test]
fn each_of_many_requests_is_told_from_whom_and_bodies_are_left_alone() {
    let listener = Listener::tcp();
    let site = site(&listener, ForwardedFor::Replace);
    let mut client = site.connect();
    let server = listener.accept();
    let (mut requests, mut answers) = (BufReader::new(server.try_clone()), server);
    let body = "X-Forwarded-For: 1\r\n\r\nGET / HTTP/1.1\r\n\r\n".repeat(5_000);
    let fields = "X-Forwarded-For: 6.6.6.6\r\nHost: x\r\n";
    let text = format!(
        "GET /a HTTP/1.1\r\n{fields}\r\nPOST /b HTTP/1.1\r\n{fields}Content-Length: {}\r\n\r\n{body}",
        body.len()
    );
    let mut sender = client.try_clone();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            for _ in 0..3 {
                sender.write_all(text.as_bytes()).expect("it is open");
            }
            sender.finish();
        });
        for _ in 0..3 {
            let expected = format!("GET /a HTTP/1.1\r\n{OURS}Host: x\r\n\r\n");
            assert_eq!(head(&mut requests), expected);
            let length = body.len();
            let expected =
                format!("POST /b HTTP/1.1\r\n{OURS}Host: x\r\nContent-Length: {length}\r\n\r\n");
            assert_eq!(head(&mut requests), expected);
            let mut came = vec![0; body.len()];
            std::io::Read::read_exact(&mut requests, &mut came).expect("it comes");
            assert!(came == body.as_bytes());
            answers.write_all(&[ANSWER, ANSWER].concat()).expect("it is open");
        }
        assert_eq!(requests.fill_buf().expect("it ends"), b"");
        answers.finish();
    });
    assert_eq!(client.rest().unwrap(), ANSWER.repeat(6));
}

#[test]
fn a_head_is_not_held_until_it_is_whole() {
    let listener = Listener::tcp();
    let site = site(&listener, ForwardedFor::Replace);
    let mut client = site.connect();
    let mut server = listener.accept();
    for text in ["GET /slowly", " HTTP/1.1"] {
        client.write_all(text.as_bytes()).unwrap();
        assert_eq!(server.bytes(text.len()), text.as_bytes());
    }
    client.write_all(b"\r\nCookie: ").unwrap();
    let expected = format!("\r\n{OURS}Cookie: ");
    assert_eq!(server.bytes(expected.len()), expected.as_bytes());
}

#[test]
fn a_bad_request_is_answered_after_those_before_it_and_no_server_sees_it_whole() {
    let listener = Listener::tcp();
    let site = site(&listener, ForwardedFor::Replace);
    let mut client = site.connect();
    let mut server = listener.accept();
    client
        .write_all(
            b"GET /good HTTP/1.1\r\n\r\nPOST /bad HTTP/1.1\r\nContent-Length: 1\r\n\
              Transfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /hidden HTTP/1.1\r\n\r\n",
        )
        .unwrap();
    let seen = String::from_utf8(server.rest().unwrap()).unwrap();
    let expected = format!(
        "GET /good HTTP/1.1\r\n{OURS}\r\nPOST /bad HTTP/1.1\r\n{OURS}Content-Length: 1\r\n\
         Transfer-Encoding: chunked\r\n"
    );
    assert_eq!(seen, expected);
    server.write_all(ANSWER).unwrap();
    drop(server);
    client.finish();
    let answers = String::from_utf8(client.rest().unwrap()).unwrap();
    let own = answers.strip_prefix(std::str::from_utf8(ANSWER).unwrap()).expect("it comes first");
    assert!(own.starts_with("HTTP/1.1 400 Bad Request\r\n"), "{own}");
    drop(client);
    site.wait_until_empty();
    assert_eq!(site.balancer().shared().counters.http_refused.load(Ordering::Relaxed), 1);
}

#[test]
fn a_server_that_answers_a_bad_request_itself_has_the_last_word() {
    let listener = Listener::tcp();
    let site = site(&listener, ForwardedFor::Replace);
    let mut client = site.connect();
    let mut server = listener.accept();
    client.write_all(b"GET /bad HTTP/1.1\r\n folded\r\n\r\n").unwrap();
    server.rest().unwrap();
    let own = b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n";
    server.write_all(own).unwrap();
    drop(server);
    client.finish();
    assert_eq!(client.rest().unwrap(), own);
}

#[test]
fn what_is_not_http_passes_both_ways_and_is_counted() {
    let listener = Listener::tcp();
    let site = site(&listener, ForwardedFor::Replace);
    let mut client = site.connect();
    let mut server = listener.accept();
    let text = b"EHLO there\r\nGET / HTTP/1.1\r\n\r\n";
    client.write_all(text).unwrap();
    assert_eq!(server.bytes(text.len()), text);
    server.write_all(b"250 well\r\n").unwrap();
    assert_eq!(client.bytes(10), b"250 well\r\n");
    let counters = &site.balancer().shared().counters;
    wait_until("it is counted", || counters.not_http.load(Ordering::Relaxed) == 1);
    assert_eq!(counters.http_refused.load(Ordering::Relaxed), 0);
}

/// Requests and answers up to an upgrade, and what stands behind it.
fn upgrade(request: &str, answer: &[u8]) {
    let listener = Listener::tcp();
    let site = site(&listener, ForwardedFor::Append);
    let mut client: Stream = site.connect();
    let server = listener.accept();
    let (mut requests, mut answers) = (BufReader::new(server.try_clone()), server);
    for request in ["GET /first HTTP/1.1\r\n\r\n", request] {
        client.write_all(request.as_bytes()).expect("it is open");
    }
    for _ in 0..2 {
        let head = head(&mut requests);
        assert!(head.ends_with(&format!("{OURS}\r\n")), "{head}");
    }
    answers.write_all(&[ANSWER, answer].concat()).expect("it is open");
    client.bytes(ANSWER.len() + answer.len());
    let raw = b"\x82\x7e\x00GET / HTTP/1.1\nX-Forwarded-For: mine\n\n";
    client.write_all(raw).expect("it is open");
    let mut came = vec![0; raw.len()];
    std::io::Read::read_exact(&mut requests, &mut came).expect("it is open");
    assert_eq!(came, raw);
}

#[test]
fn after_an_upgrade_or_into_a_tunnel_bytes_pass_as_they_are() {
    let websocket = "GET /chat HTTP/1.1\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n";
    upgrade(websocket, b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n");
    upgrade("CONNECT x:1 HTTP/1.1\r\n\r\n", b"HTTP/1.1 200 Fine\r\n\r\n");
}

#[test]
fn an_upgrade_that_the_server_declines_hides_no_request() {
    let listener = Listener::tcp();
    let site = site(&listener, ForwardedFor::Replace);
    let mut client = site.connect();
    let server = listener.accept();
    let (mut requests, mut answers) = (BufReader::new(server.try_clone()), server);
    client
        .write_all(b"GET / HTTP/1.1\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n")
        .unwrap();
    head(&mut requests);
    answers.write_all(ANSWER).unwrap();
    client.bytes(ANSWER.len());
    client.write_all(b"GET /b HTTP/1.1\r\nX-Forwarded-For: 6.6.6.6\r\n\r\n").unwrap();
    assert_eq!(head(&mut requests), format!("GET /b HTTP/1.1\r\n{OURS}\r\n"));
}
