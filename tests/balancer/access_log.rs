//! The access log of `pen` beside the log of a real nginx behind it, and when writing fails.

use std::fs;
use std::io::{BufRead as _, BufReader, Read, Write as _};
use std::path::Path;
use std::sync::atomic::Ordering;

use pen::config::{Endpoint, ForwardedFor, RuntimeSettings, ServerTls};
use pen_testing::TempFolder;
use pen_testing::certificates::TestAuthority;

use crate::nginx::Nginx;
use crate::support::{Listener, Site, Stream, over, wait_until};
use crate::tls::support::{End, UseCertificates as _};

fn logging(path: &Path, http: Option<ForwardedFor>, servers: &[&Endpoint]) -> RuntimeSettings {
    RuntimeSettings { access_log: Some(path.to_owned()), http, ..over(servers) }
}

/// So many lines, as soon as they are there.
fn lines(path: &Path, count: usize) -> Vec<String> {
    let read = || fs::read_to_string(path).unwrap_or_default();
    wait_until("all lines are there", || read().lines().count() >= count);
    let lines: Vec<_> = read().lines().map(str::to_owned).collect();
    assert_eq!(lines.len(), count, "{lines:#?}");
    lines
}

/// From its first quote to its host, and which request it was: what nginx logs here, too.
fn same_as_nginx(line: &str) -> String {
    let (_, quoted) = line.split_once("] ").expect("there is a time");
    let words: Vec<_> = quoted.split(' ').collect();
    let (head, tail) = words.split_at(words.len() - 6);
    format!("{} {}", head.join(" "), tail[4])
}

#[test]
fn the_log_is_that_of_the_server_behind() {
    for http in [None, Some(ForwardedFor::Replace)] {
        let folder = TempFolder::new();
        let (_nginx, server) = Nginx::start(&folder);
        let log = folder.join("pen.log");
        let site = Site::start(logging(&log, http.clone(), &[&server]));
        let agent =
            "User-Agent: agent \"one\" \\ \u{e9}\r\nReferer: http://x/?a=b c\r\nHost: shop\r\n";
        let since = "If-Modified-Since: Fri, 01 Jan 2100 00:00:00 GMT\r\n";
        let post = format!("Content-Length: 20\r\n\r\n{}", "GET /not HTTP/1.1\r\n\r\n");
        // One after the other, then all at once.
        let requests = [
            format!("GET /echo HTTP/1.1\r\n{agent}\r\n"),
            format!("HEAD /page.txt HTTP/1.1\r\n{agent}\r\n"),
            format!("GET /page.txt?q=\"%20\" HTTP/1.1\r\n{agent}Accept-Encoding: gzip\r\n\r\n"),
            format!("GET /page.txt HTTP/1.1\r\n{agent}\r\n"),
            format!("GET /page.txt HTTP/1.1\r\n{agent}{since}\r\n"),
            format!("GET /page.txt HTTP/1.1\r\n{agent}Range: bytes=5-99\r\n\r\n"),
            format!("GET /nothing HTTP/1.1\r\n{agent}\r\n"),
            format!("GET /gone HTTP/1.1\r\n{agent}\r\n"),
            format!("GET /away HTTP/1.1\r\n{agent}\r\n"),
            format!("POST /echo HTTP/1.1\r\n{agent}{post}"),
            format!(
                "POST /echo HTTP/1.1\r\n{agent}Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"
            ),
            "GET /echo HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\nok"
                .into(),
            "GET /last HTTP/1.0\r\n\r\n".into(),
        ];
        for whole in [false, true] {
            let before = fs::read_to_string(&log).unwrap_or_default().lines().count();
            let mut client = site.connect();
            if whole {
                client.write_all(requests.concat().as_bytes()).unwrap();
                client.rest().unwrap();
            } else {
                for (number, request) in requests.iter().enumerate() {
                    client.write_all(request.as_bytes()).unwrap();
                    let mut some = [0; 64];
                    assert!(client.read(&mut some).unwrap() > 0);
                    // Not to have two at a time.
                    wait_until("it is logged", || {
                        read_some(&client);
                        let text = fs::read_to_string(&log).unwrap_or_default();
                        text.lines().count() > before + number
                    });
                }
                client.rest().unwrap();
            }
        }
        let mut own = lines(&folder.join("own.log"), 2 * requests.len());
        let pens = lines(&log, 2 * requests.len());
        // nginx counts the 25 bytes of its 100 Continue as a body's.
        let fair =
            |line: &String| line.replace("200 30 \"-\" \"-\" \"a\"", "200 5 \"-\" \"-\" \"a\"");
        own = own.iter().map(fair).collect();
        // The last of a connection may be logged when the next one has begun.
        own.sort();
        let mut same: Vec<_> = pens.iter().map(|line| same_as_nginx(line)).collect();
        same.sort();
        assert_eq!(same, own);
        for pen in &pens {
            assert!(pen.starts_with("127.0.0.1 - - [") && pen.ends_with(" -"), "{pen}");
            assert!(pen.contains(&format!(" {server} ")), "{pen}");
        }
        let told = fs::read_to_string(folder.join("told.log")).unwrap();
        let expected = if http.is_some() { "127.0.0.1 http" } else { "- -" };
        assert!(told.lines().all(|line| line == expected), "{told}");
        let counts = site.balancer().access_log().counts();
        wait_until("all are written", || {
            counts.written.load(Ordering::Relaxed) == u64::try_from(pens.len()).unwrap()
        });
    }
}

/// Takes what has come, and waits for nothing.
fn read_some(client: &Stream) {
    let Stream::Tcp(stream) = client else { return };
    stream.set_nonblocking(true).expect("it is open");
    let mut some = [0; 64 * 1024];
    let _came = (&*stream).read(&mut some);
    stream.set_nonblocking(false).expect("it is open");
}

#[test]
fn who_left_before_the_end_is_told() {
    let folder = TempFolder::new();
    let log = folder.join("pen.log");
    let listener = Listener::tcp();
    let http = Some(ForwardedFor::Replace);
    let site = Site::start(logging(&log, http, &[&listener.endpoint()]));
    let begin = |text: &str| {
        let mut client = site.connect();
        let server = listener.accept();
        client.write_all(text.as_bytes()).expect("it is open");
        let mut requests = BufReader::new(server.try_clone());
        let mut line = String::new();
        while !text.contains("Bad") && line != "\r\n" {
            line.clear();
            requests.read_line(&mut line).expect("it comes");
        }
        (client, server)
    };
    let half = b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf";
    let ends = |number: usize, expected: &str| {
        let line = lines(&log, number).pop().expect("it is there");
        let words: Vec<_> = line.split(' ').collect();
        let status = words.iter().skip_while(|word| !word.ends_with('"')).nth(1).copied();
        let bytes = words.iter().skip_while(|word| !word.ends_with('"')).nth(2).copied();
        let found = format!("{} {} {}", status.unwrap(), bytes.unwrap(), words[words.len() - 1]);
        assert_eq!(found, expected, "{line}");
    };
    // The client leaves in the midst of an answer, or before there is any.
    let (mut client, mut server) = begin("GET /a HTTP/1.1\r\n\r\n");
    server.write_all(half).unwrap();
    Stream::bytes(&mut client, half.len());
    client.reset();
    ends(1, "200 4 client");
    let (client, _server) = begin("GET /b HTTP/1.1\r\n\r\n");
    client.reset();
    ends(2, "499 0 client");
    // The server does, and the client sees that before it leaves, too.
    let (mut client, mut server) = begin("GET /c HTTP/1.1\r\n\r\n");
    server.write_all(half).unwrap();
    drop(server);
    client.rest().unwrap();
    drop(client);
    ends(3, "200 4 server");
    let (mut client, server) = begin("GET /d HTTP/1.1\r\n\r\n");
    drop(server);
    client.rest().unwrap();
    drop(client);
    ends(4, "502 0 server");
    // pen does not have it.
    let (client, mut server) = begin("GET /e HTTP/1.1\r\nBad\r\n\r\n");
    server.rest().unwrap();
    drop(server);
    client.finish();
    let (mut client, text) = (client, "expected NAME: VALUE in each line of the head\n");
    assert!(client.rest().unwrap().ends_with(text.as_bytes()));
    drop(client);
    ends(5, &format!("400 {} refused", text.len()));
    // What is answered but cannot be followed.
    let (mut client, mut server) = begin("GET /f HTTP/1.1\r\n\r\n");
    server.write_all(b"HTTP/0.9 what\r\n\r\n").unwrap();
    drop(server);
    client.rest().unwrap();
    drop(client);
    ends(6, "000 0 unknown");
    // Nobody but pen itself.
    let (_client, _server) = begin("GET /g HTTP/1.1\r\n\r\n");
    drop(site);
    ends(7, "504 0 pen");
}

#[test]
fn a_rotated_log_is_opened_anew_and_another_one_can_be_turned_to() {
    let folder = TempFolder::new();
    let (_nginx, server) = Nginx::start(&folder);
    let log = folder.join("pen.log");
    let site = Site::start(logging(&log, None, &[&server]));
    let ask = |target: &str| {
        let mut client = site.connect();
        write!(client, "GET /{target} HTTP/1.0\r\n\r\n").expect("it is open");
        client.rest().expect("it is open");
    };
    ask("first");
    lines(&log, 1);
    fs::rename(&log, folder.join("old.log")).unwrap();
    site.balancer().reopen();
    wait_until("it is opened anew", || log.exists());
    ask("second");
    assert!(lines(&log, 1)[0].contains("GET /second"));
    let other = folder.join("other.log");
    site.balancer().logs().access.set_target(Some(other.clone())).unwrap();
    ask("third");
    assert!(lines(&other, 1)[0].contains("GET /third"));
    assert_eq!(lines(&folder.join("old.log"), 1).len() + lines(&log, 1).len(), 2);
}

#[test]
fn a_full_disk_stops_no_traffic_and_is_told() {
    let folder = TempFolder::new();
    let (_nginx, server) = Nginx::start(&folder);
    // Whatever is written there finds the disk full.
    let site = Site::start(logging(Path::new("/dev/full"), None, &[&server]));
    let log = site.balancer().access_log();
    let request = format!("GET /{} HTTP/1.1\r\nHost: x\r\n\r\n", "x".repeat(7_000));
    let (made, failed) = (&log.counts().made, &log.counts().failed);
    let mut sent = 0;
    wait_until("more came than is kept", || {
        let mut client = site.connect();
        client.write_all(request.repeat(50).as_bytes()).expect("it is open");
        client.finish();
        assert!(client.rest().expect("all are answered").len() > 50 * 100);
        sent += 50;
        failed.load(Ordering::Relaxed) > 0
    });
    wait_until("all are made", || made.load(Ordering::Relaxed) == sent);
    assert_eq!(log.trouble().unwrap(), "cannot write /dev/full");
}

#[test]
fn what_comes_in_tls_is_logged_as_it_was_meant_and_not_as_it_was_sealed() {
    for servers in [ServerTls::Off, ServerTls::Verified] {
        let authority = TestAuthority::new();
        let listener = Listener::tcp();
        let log = authority.path("access.log");
        let mut settings = logging(&log, Some(ForwardedFor::Replace), &[&listener.endpoint()]);
        authority.serve(&mut settings);
        if servers != ServerTls::Off {
            authority.trust(&mut settings, servers);
        }
        let site = Site::start(settings);
        let config = authority.client();
        let (client, _server) = std::thread::scope(|scope| {
            // With TLS on both sides a client is answered when its server is agreed with.
            let client = scope.spawn(|| {
                let mut client = End::client(config, site.connect());
                client.write_all(b"GET /one HTTP/1.1\r\nHost: shop\r\nUser-Agent: a \"b\"\r\n\r\n");
                client
            });
            let stream = listener.accept();
            let mut server = match servers {
                ServerTls::Off => End::Plain(stream),
                _ => End::server(authority.server(), stream),
            };
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                head.extend(server.bytes(1));
            }
            let head = String::from_utf8(head).expect("it is text");
            assert!(head.contains("\r\nX-Forwarded-Proto: https\r\n"), "{head}");
            server.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello");
            let mut client = client.join().expect("it did not panic");
            assert!(client.bytes(43).ends_with(b"hello"));
            // One more, that the server leaves without an answer.
            client.write_all(b"GET /two HTTP/1.1\r\nHost: shop\r\n\r\n");
            assert_eq!(server.bytes(1), b"G");
            (client, server)
        });
        // The client leaves first.
        drop(client);
        let lines = lines(&log, 2);
        let rest = |line: &str| line.split_once("] ").expect("there is a time").1.to_owned();
        let first = "\"GET /one HTTP/1.1\" 200 5 \"-\" \"a \\x22b\\x22\" \"shop\" ";
        assert!(lines[0].starts_with("127.0.0.1 - - [") && rest(&lines[0]).starts_with(first));
        let second = rest(&lines[1]);
        assert!(second.starts_with("\"GET /two HTTP/1.1\" 499 0 "), "{second}");
        assert!(second.ends_with(" 2 client"), "{second}");
    }
}
