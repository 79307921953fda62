//! The status page over HTTP.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::process::Command;
use std::time::Duration;

use pen::operate::status::http::StatusPort;
use pen_testing::TempFolder;

use crate::support::{Still, operator, read_to_end};

#[expect(clippy::unwrap_used, reason = "it is part of a test")]
fn serve(still: &Still) -> SocketAddr {
    let folder = TempFolder::new();
    let port = StatusPort::bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let addr = port.addr().unwrap();
    port.serve(operator(still, &folder)).unwrap();
    addr
}

#[expect(clippy::unwrap_used, reason = "it is part of a test")]
fn request(addr: SocketAddr, head: &str) -> String {
    let mut stream = TcpStream::connect(addr).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    stream.write_all(head.as_bytes()).unwrap();
    read_to_end(&mut stream)
}

fn get(addr: SocketAddr, path: &str) -> (String, String) {
    let reply = request(addr, &format!("GET {path} HTTP/1.1\r\nHost: {addr}\r\n\r\n"));
    let (head, body) = reply.split_once("\r\n\r\n").expect("a head ends");
    (head.to_owned(), body.to_owned())
}

#[test]
fn who_is_not_permitted_is_told_nothing() {
    let (still, folder) = (Still::default(), TempFolder::new());
    let operator = operator(&still, &folder);
    let port = StatusPort::bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let addr = port.addr().unwrap();
    port.serve(operator.clone()).unwrap();
    // What keeps clients out is not about those who look after pen.
    assert_eq!(operator.execute(b"acl 0 deny 127.0.0.1").to_string(), "");
    assert!(get(addr, "/health").0.starts_with("HTTP/1.1 200"));
    assert_eq!(operator.execute(b"status_acl 0").to_string(), "0\n");
    let mut stream = TcpStream::connect(addr).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    let mut reply = Vec::new();
    // It may be reset before it has asked, or behind that.
    let asked = stream.write_all(b"GET / HTTP/1.1\r\n\r\n");
    asked.and_then(|()| stream.read_to_end(&mut reply)).map(drop).unwrap_or_default();
    assert_eq!(reply, b"");
    assert_eq!(operator.execute(b"no status_acl").to_string(), "");
    assert!(get(addr, "/health").0.starts_with("HTTP/1.1 200"));
}

#[test]
fn each_form_of_the_state_has_its_path() {
    let addr = serve(&Still::default());
    for (path, status, kind, piece) in [
        ("/", "200 OK", "text/html; charset=utf-8", "<title>Pen status page</title>"),
        ("/status.json", "200 OK", "application/json", "\"address\":\"10.0.0.1:8080\""),
        (
            "/metrics",
            "200 OK",
            "text/plain; version=0.0.4; charset=utf-8",
            "pen_server_up{server=\"0\",address=\"10.0.0.1:8080\"} 1\n",
        ),
        ("/health", "200 OK", "text/plain; charset=utf-8", "a server is up"),
        ("/status.json?pretty", "200 OK", "application/json", "{"),
        ("/secret", "404 Not Found", "text/plain; charset=utf-8", "available: /"),
    ] {
        let (head, body) = get(addr, path);
        assert!(head.starts_with(&format!("HTTP/1.1 {status}\r\n")), "{path}: {head}");
        assert!(head.contains(&format!("\r\nContent-Type: {kind}\r\n")), "{path}: {head}");
        assert!(
            head.contains(&format!("\r\nContent-Length: {}\r\n", body.len())),
            "{path}: {head}"
        );
        assert!(body.contains(piece), "{path}: {body}");
    }
}

#[test]
fn health_is_bad_when_no_server_is_left() {
    let still = Still::default();
    let addr = serve(&still);
    still.0.lock().unwrap().settings.servers.clear();
    let (head, _) = get(addr, "/health");
    assert!(head.starts_with("HTTP/1.1 503 "), "{head}");
}

#[test]
fn a_head_is_sent_without_its_body_and_others_are_refused() {
    let addr = serve(&Still::default());
    let head = request(addr, "HEAD / HTTP/1.1\r\n\r\n");
    assert!(head.starts_with("HTTP/1.1 200 OK\r\n") && head.ends_with("\r\n\r\n"), "{head}");
    for (sent, expected) in [
        ("POST / HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc", "HTTP/1.1 405 "),
        ("nonsense\r\n\r\n", "HTTP/1.1 400 "),
        (&format!("GET /{} HTTP/1.1\r\n\r\n", "x".repeat(20_000)), "HTTP/1.1 431 "),
    ] {
        let reply = request(addr, sent);
        assert!(reply.starts_with(expected), "{expected}: {reply}");
    }
}

#[test]
fn silent_peers_hold_nobody_up() {
    let addr = serve(&Still::default());
    let silent: Vec<_> = (0..20).map(|_| TcpStream::connect(addr).unwrap()).collect();
    assert!(get(addr, "/metrics").0.starts_with("HTTP/1.1 200 OK"));
    // They are let go after a while.
    for mut stream in silent {
        stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        assert_eq!(stream.read(&mut [0]).unwrap_or(0), 0);
    }
}

#[test]
fn a_real_http_client_reads_it() {
    let addr = serve(&Still::default());
    let curl = Command::new("curl").args(["-sS", &format!("http://{addr}/status.json")]).output();
    let Ok(curl) = curl else {
        println!("skipped: curl is not installed");
        return;
    };
    assert!(curl.status.success(), "{curl:?}");
    assert!(curl.stdout.starts_with(b"{\"version\":"));
}
