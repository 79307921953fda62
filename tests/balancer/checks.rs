//! Health checks of servers.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU16, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use pen::config::PoolServerId;
use pen::config::checks::HealthCheck;
use pen::config::{Endpoint, ProxyVersion, RuntimeSettings, ServerTls};
use pen_testing::certificates::{HOST, TestAuthority};

use crate::support::{Listener, PATIENCE, Site, Stream, dead, localhost, over, wait_until};
use crate::tls::support::{End, UseCertificates as _};

/// Checked without a pause, and believed at once.
fn checked(check: HealthCheck, mut settings: RuntimeSettings) -> RuntimeSettings {
    let checks = &mut settings.checks;
    checks.check = Some(check);
    (checks.interval, checks.timeout) = (Duration::from_millis(5), PATIENCE);
    (checks.rise, checks.fall) = (NonZeroU32::MIN, NonZeroU32::MIN);
    settings
}

/// What is wrong with a server by its last check: nothing, or not checked yet, is empty.
fn wrong(site: &Site, slot: u32) -> String {
    let pool = site.balancer().shared().pool();
    let health = &pool.state(PoolServerId::Slot(slot)).expect("it is there").health;
    let wrong = health.last().and_then(|last| last.wrong.clone());
    assert!(!health.is_down() || wrong.is_some());
    wrong.unwrap_or_default()
}

fn is_down(site: &Site, slot: u32) -> bool {
    is_known_to_be_down(site, PoolServerId::Slot(slot))
}

fn is_known_to_be_down(site: &Site, id: PoolServerId) -> bool {
    site.balancer().shared().pool().state(id).is_some_and(|it| it.health.is_down())
}

/// A server that does something with each connection, until it is dropped.
struct Server {
    addr: SocketAddr,
    ends: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    fn start(serve: impl Fn(TcpStream) + Send + 'static) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port is free");
        let addr = listener.local_addr().expect("it is bound");
        let ends = Arc::new(AtomicBool::new(false));
        let seen = ends.clone();
        let thread = std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if seen.load(Ordering::Relaxed) {
                    return;
                }
                stream.set_read_timeout(Some(PATIENCE)).expect("it is not zero");
                serve(stream);
            }
        });
        Self { addr, ends, thread: Some(thread) }
    }

    fn endpoint(&self) -> Endpoint {
        Endpoint::Ip(self.addr)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.ends.store(true, Ordering::Relaxed);
        drop(TcpStream::connect(self.addr));
        self.thread.take().map(JoinHandle::join);
    }
}

/// Reads a request's head; who asks may have gone.
fn head(stream: &mut TcpStream) -> String {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") && matches!(stream.read(&mut byte), Ok(1)) {
        head.push(byte[0]);
    }
    String::from_utf8_lossy(&head).into_owned()
}

#[test]
fn a_server_that_refuses_is_down_before_a_client_has_to_find_out_and_up_again_when_it_listens() {
    let alive = Listener::tcp();
    let (gone, port) = dead();
    let mut settings = checked(HealthCheck::Connect, over(&[&alive.endpoint(), &gone]));
    settings.modes.set(pen::config::SelectionMode::RoundRobin, true);
    let site = Site::start(settings);
    wait_until("it is down", || is_down(&site, 1));
    assert!(wrong(&site, 1).starts_with("Connection refused"), "{}", wrong(&site, 1));
    let counters = &site.balancer().shared().counters;
    for _ in 0..6 {
        // Checks connect and say nothing; this is the one that has something to say.
        site.connect().write_all(b"x").unwrap();
        while !matches!(alive.accept().rest(), Ok(said) if said == b"x") {}
    }
    assert_eq!(counters.failed_attempts.load(Ordering::Relaxed), 0);
    port.listen(100).unwrap();
    wait_until("it is up", || !is_down(&site, 1));
    assert_eq!(wrong(&site, 1), "");
}

#[test]
fn the_emergency_and_the_abuse_server_are_asked_like_the_others() {
    let alive = Listener::tcp();
    let [(emergency, port), (abuse, _taken)] = [dead(), dead()];
    let mut settings = over(&[&alive.endpoint()]);
    settings.emergency = Some(pen::config::ServerSettings::new(emergency));
    settings.abuse = Some(pen::config::ServerSettings::new(abuse));
    let site = Site::start(checked(HealthCheck::Connect, settings));
    for id in [PoolServerId::Emergency, PoolServerId::Abuse] {
        wait_until("it is down", || is_known_to_be_down(&site, id));
    }
    port.listen(100).unwrap();
    wait_until("it is up", || !is_known_to_be_down(&site, PoolServerId::Emergency));
    assert!(is_known_to_be_down(&site, PoolServerId::Abuse) && !is_down(&site, 0));
}

#[test]
fn a_status_decides_and_where_all_are_down_they_are_tried_anyway() {
    let status = Arc::new(AtomicU16::new(503));
    let now = status.clone();
    let server = Server::start(move |mut stream| {
        let head = head(&mut stream);
        if head.starts_with("HEAD /health?a=1 HTTP/1.1\r\nHost: 127.0.0.1:") {
            let status = now.load(Ordering::Relaxed);
            write!(stream, "HTTP/1.1 {status} Whatever\r\nContent-Length: 0\r\n\r\n").unwrap_or(());
        } else if head.starts_with("GET / ") {
            write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nserved").unwrap();
        }
    });
    let (method, path) = ("HEAD".to_owned(), "/health?a=1".to_owned());
    let check = HealthCheck::Http { method, path, from: 200, to: 204 };
    let site = Site::start(checked(check, over(&[&server.endpoint()])));
    for (code, expected) in [
        (503, "status 503, expected 200 to 204"),
        (205, "status 205, expected 200 to 204"),
        (204, ""),
        (199, "status 199, expected 200 to 204"),
        (200, ""),
        (7, "the answer is not HTTP"),
    ] {
        status.store(code, Ordering::Relaxed);
        wait_until(expected, || wrong(&site, 0) == expected);
        assert_eq!(is_down(&site, 0), !expected.is_empty());
        let mut client = site.connect();
        client.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
        assert!(client.rest().unwrap().ends_with(b"served"), "{code}");
    }
}

#[test]
fn a_server_has_to_say_what_is_expected_and_silence_does_not_last() {
    let answer = Arc::new(AtomicU16::new(0));
    let now = answer.clone();
    let server = Server::start(move |mut stream| {
        let mut said = [0; 6];
        let read = stream.read_exact(&mut said).is_ok();
        match now.load(Ordering::Relaxed) {
            0 if read && &said == b"PING\r\n" => {
                stream.write_all(b"who\r\n+PONG\r\n").unwrap_or(());
            }
            1 => stream.write_all(b"-ERR\r\n").unwrap_or(()),
            // Until the one who asks has had enough.
            _ => drop(stream.read(&mut said)),
        }
    });
    let (send, expect) = (b"PING\r\n".to_vec(), b"+PONG".to_vec());
    let check = HealthCheck::Exchange { send, expect };
    let mut settings = checked(check, over(&[&server.endpoint()]));
    settings.checks.timeout = Duration::from_millis(250);
    let site = Site::start(settings);
    for (now, expected) in
        [(1, "the answer does not hold '+PONG'"), (0, ""), (2, "no answer within 0.25 s"), (0, "")]
    {
        answer.store(now, Ordering::Relaxed);
        wait_until(expected, || {
            wrong(&site, 0) == expected && is_down(&site, 0) != expected.is_empty()
        });
    }
}

#[test]
fn a_server_that_speaks_first_is_listened_to_and_one_that_wants_a_header_gets_one() {
    let server = Server::start(|mut stream| {
        let mut said = [0; 15];
        stream.read_exact(&mut said).unwrap_or(());
        if &said == b"PROXY UNKNOWN\r\n" {
            stream.write_all(b"220 mail.example ready\r\n").unwrap_or(());
        }
    });
    let check = HealthCheck::Exchange { send: Vec::new(), expect: b"220 ".to_vec() };
    let mut settings = checked(check, over(&[&server.endpoint()]));
    settings.checks.timeout = Duration::from_millis(100);
    let site = Site::start(settings.clone());
    wait_until("it gets no header", || is_down(&site, 0));
    let shared = site.balancer().shared();
    shared.change(RuntimeSettings { send_proxy: Some(ProxyVersion::V1), ..settings });
    wait_until("it gets one", || !is_down(&site, 0));
}

#[test]
fn a_server_that_is_spoken_to_in_tls_is_asked_in_tls() {
    let authority = TestAuthority::new();
    let config = authority.server();
    let server = Server::start(move |stream| {
        let Ok(mut end) = End::serving(config.clone(), Stream::Tcp(stream)) else { return };
        let mut head = [0; 4];
        if matches!(end.read_some(&mut head), Ok(4)) && &head == b"GET " {
            end.write_some(b"HTTP/1.1 204 No Content\r\n\r\n").expect("it is open");
            end.finish_some().unwrap_or(());
        }
    });
    let (method, path) = ("GET".to_owned(), "/".to_owned());
    let check = HealthCheck::Http { method, path, from: 204, to: 204 };
    let mut settings = checked(check, over(&[&server.endpoint()]));
    for (name, is_well) in [(HOST, true), ("elsewhere.example", false)] {
        authority.trust(&mut settings, ServerTls::Verified);
        settings.tls.servers_name = Some(name.to_owned());
        let site = Site::start(settings.clone());
        let last = || {
            let pool = site.balancer().shared().pool();
            let health = pool.state(PoolServerId::Slot(0)).map(|state| state.health.clone());
            health.and_then(|health| Some(health.last()?.wrong.clone()))
        };
        wait_until("it is checked", || last().is_some());
        assert_eq!(last().flatten().is_none(), is_well, "{name}: {:?}", last());
        assert_eq!(is_down(&site, 0), !is_well);
    }
}

#[test]
fn datagrams_are_checked_by_datagrams() {
    let server = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let addr = server.local_addr().unwrap();
    let says = Arc::new(AtomicBool::new(true));
    let now = says.clone();
    let thread = std::thread::spawn(move || {
        let mut buf = [0; 64];
        loop {
            let (len, from) = server.recv_from(&mut buf).unwrap();
            match &buf[..len] {
                b"end" => return,
                b"are you there" if now.load(Ordering::Relaxed) => {
                    server.send_to(b"I am here", from).unwrap();
                }
                _ => {}
            }
        }
    });
    let (send, expect) = (b"are you there".to_vec(), b"here".to_vec());
    let check = HealthCheck::Exchange { send, expect };
    let mut settings = checked(check, over(&[&Endpoint::Ip(addr)]));
    settings.checks.timeout = Duration::from_millis(100);
    let site = Site::of_datagrams(localhost(0), settings);
    let is_checked = || {
        let pool = site.balancer().shared().pool();
        pool.state(PoolServerId::Slot(0)).is_some_and(|it| it.health.last().is_some())
    };
    wait_until("it is checked", is_checked);
    says.store(false, Ordering::Relaxed);
    wait_until("it is silent", || is_down(&site, 0));
    says.store(true, Ordering::Relaxed);
    wait_until("it is there again", || !is_down(&site, 0));
    drop(site);
    UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().send_to(b"end", addr).unwrap();
    thread.join().unwrap();
}
