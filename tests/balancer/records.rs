//! Mapping records of connections: to a collector and into files.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::atomic::Ordering;

use pen::config::{Endpoint, LogFormat, LogTarget, RuntimeSettings};
use pen_records::addr::{ClientAddr, ServerAddr};
use pen_records::mapping::packet::Packet;
use pen_records::mapping::{Mapping, MappingKind};
use pen_records::shipment::DiscoveryQuestion;

use crate::support::{Listener, PATIENCE, Site, Stream, over, wait_until};

pub(crate) struct Collector(UdpSocket);

/// Somewhere to send mappings to, and its name.
pub(crate) fn collector() -> (Collector, LogTarget) {
    let collector = Collector::new();
    let target = collector.target();
    (collector, target)
}

impl Collector {
    fn new() -> Self {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port is free");
        socket.set_read_timeout(Some(PATIENCE)).expect("it is not zero");
        Self(socket)
    }

    fn target(&self) -> LogTarget {
        let addr = self.0.local_addr().expect("it is bound");
        LogTarget::Collector { name: addr.to_string(), addr }
    }

    pub(crate) fn datagram(&self) -> Vec<u8> {
        let mut buf = vec![0; 2_048];
        let len = self.0.recv(&mut buf).expect("one comes");
        buf.truncate(len);
        buf
    }

    /// Calls `look` with each mapping, until it is content.
    pub(crate) fn mappings(&self, mut look: impl FnMut(&Mapping<'_>) -> bool) {
        loop {
            let datagram = self.datagram();
            if DiscoveryQuestion::parse(&datagram).is_ok() {
                continue;
            }
            let packet = Packet::parse(&datagram).expect("it is a packet");
            assert_eq!(packet.mappings().count(), packet.count() as usize);
            let mut content = false;
            packet.mappings().for_each(|mapping| content = look(&mapping));
            if content {
                return;
            }
        }
    }
}

fn logging(target: LogTarget, format: LogFormat, settings: RuntimeSettings) -> RuntimeSettings {
    RuntimeSettings { log: Some(target), log_format: format, ..settings }
}

/// Two requests on one connection, and their answers. Who the server saw.
fn converse(site: &Site, listener: &Listener) -> (SocketAddr, SocketAddr) {
    let client = site.connect();
    let server = listener.accept();
    let Stream::Tcp(tcp) = &server else { panic!("it is TCP") };
    let seen = tcp.peer_addr().expect("it is connected");
    let Stream::Tcp(tcp) = &client else { panic!("it is TCP") };
    let own = tcp.local_addr().expect("it is bound");
    exchange(client, server, &[("/first", "hello"), ("/second", "")]);
    (own, seen)
}

fn exchange(mut client: Stream, server: Stream, exchanges: &[(&str, &str)]) {
    let mut answers = server.try_clone();
    let mut requests = BufReader::new(server);
    for (target, answer) in exchanges {
        write!(client, "GET {target} HTTP/1.1\r\nHost: shop\r\nUser-Agent: test\r\n\r\n")
            .expect("it is open");
        let mut line = String::new();
        while line != "\r\n" {
            line.clear();
            requests.read_line(&mut line).expect("it comes");
        }
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", answer.len());
        write!(answers, "{head}{answer}").expect("it is open");
        assert_eq!(client.bytes(head.len() + answer.len()), format!("{head}{answer}").as_bytes());
    }
}

#[test]
fn each_step_of_a_connection_is_noted_with_both_of_its_ends() {
    let (listener, collector) = (Listener::tcp(), Collector::new());
    let Endpoint::Ip(server) = listener.endpoint() else { unreachable!() };
    let settings = over(&[&listener.endpoint()]);
    let site = Site::start(logging(collector.target(), LogFormat::Extended, settings));
    let (own, seen) = converse(&site, &listener);
    let mut steps = Vec::new();
    collector.mappings(|mapping| {
        assert_eq!(mapping.client, ClientAddr::Ip(own.ip()));
        assert_eq!(mapping.client_port, Some(own.port()));
        assert_eq!(mapping.server, ServerAddr::Ip(server.ip()));
        assert_eq!(mapping.server_port, Some(server.port()));
        assert_eq!((mapping.balancer, mapping.connection), (Some(seen), Some(1)));
        assert!(mapping.time.is_some());
        let request = mapping.request.map(|r| String::from_utf8_lossy(r.bytes).into_owned());
        assert_eq!(request.is_some(), mapping.user_agent.is_some() && mapping.host.is_some());
        let bytes = mapping.body_bytes.or(mapping.to_client);
        steps.push((mapping.kind, mapping.nth, request, mapping.status, bytes));
        mapping.kind == MappingKind::Closed
    });
    let request = |text: &str| Some(text.to_owned());
    assert_eq!(
        steps,
        [
            (MappingKind::Opened, None, None, None, None),
            (MappingKind::Request, Some(1), request("GET /first HTTP/1.1"), None, None),
            (MappingKind::Ended, Some(1), None, Some(200), Some(5)),
            (MappingKind::Request, Some(2), request("GET /second HTTP/1.1"), None, None),
            (MappingKind::Ended, Some(2), None, Some(200), Some(0)),
            (MappingKind::Closed, None, None, None, Some(81)),
        ]
    );
}

#[test]
fn a_connection_is_noted_before_its_first_byte_is_forwarded() {
    let (listener, collector) = (Listener::tcp(), Collector::new());
    let settings = over(&[&listener.endpoint()]);
    let site = Site::start(logging(collector.target(), LogFormat::Extended, settings));
    let _silent = site.connect();
    collector.mappings(|mapping| mapping.kind == MappingKind::Opened);
}

#[test]
fn what_is_not_http_is_noted_as_connections_alone() {
    let (listener, collector) = (Listener::tcp(), Collector::new());
    let settings = over(&[&listener.endpoint()]);
    let site = Site::start(logging(collector.target(), LogFormat::Extended, settings));
    let mut client = site.connect();
    let mut server = listener.accept();
    client.write_all(b"\x16\x03\x01\x00\x05GET / HTTP/1.1\r\n\r\n").unwrap();
    client.finish();
    server.rest().unwrap();
    drop(server);
    drop(client);
    let mut kinds = Vec::new();
    collector.mappings(|mapping| {
        kinds.push(mapping.kind);
        mapping.kind == MappingKind::Closed
    });
    assert_eq!(kinds, [MappingKind::Opened, MappingKind::Closed]);
}

#[test]
fn a_classic_datagram_is_there_before_its_request_is() {
    let (collector, target) = collector();
    let listener = Listener::tcp();
    let settings = over(&[&listener.endpoint()]);
    let site = Site::start(logging(target, LogFormat::Classic, settings));
    let mut client = site.connect();
    let mut server = listener.accept();
    collector.0.set_nonblocking(true).unwrap();
    for nth in 0..300 {
        let request = format!("GET /{nth} HTTP/1.1\r\nHost: x\r\n\r\n");
        client.write_all(request.as_bytes()).unwrap();
        assert_eq!(server.bytes(request.len()), request.as_bytes());
        // On this machine what was sent is there, or was lost.
        let mut buf = [0; 2_048];
        let len = collector.0.recv(&mut buf).expect("it came before the request");
        let datagram = Mapping::parse_datagram(&buf[..len]).expect("it is a record");
        assert!(datagram.request.is_some());
        server.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").unwrap();
        client.bytes(27);
    }
    let counts = site.balancer().log().counts();
    // The connection was opened, and then requests and answers.
    wait_until("all are counted", || counts.written.load(Ordering::Relaxed) >= 600);
    assert_eq!(counts.made.load(Ordering::Relaxed), counts.written.load(Ordering::Relaxed));
}

#[test]
fn classic_datagrams_are_one_for_each_request() {
    let (listener, collector) = (Listener::tcp(), Collector::new());
    let settings = over(&[&listener.endpoint()]);
    let site = Site::start(logging(collector.target(), LogFormat::Classic, settings));
    converse(&site, &listener);
    for line in ["GET /first HTTP/1.1", "GET /second HTTP/1.1"] {
        let expected = format!("+ 127.0.0.1 127.0.0.1 {line}\n");
        assert_eq!(String::from_utf8(collector.datagram()).unwrap(), expected);
    }
}

#[test]
fn files_hold_lines_of_either_kind_and_can_be_changed_to() {
    let folder = pen_testing::TempFolder::new();
    let listener = Listener::tcp();
    for format in [LogFormat::Extended, LogFormat::Classic] {
        let path = folder.join(format!("{format:?}.log"));
        let settings = over(&[&listener.endpoint()]);
        let settings = logging(LogTarget::File(path.clone()), format, settings);
        let site = Site::start(settings);
        let (own, seen) = converse(&site, &listener);
        site.wait_until_empty();
        drop(site);
        let text = std::fs::read_to_string(&path).unwrap();
        let lines: Vec<_> = text.lines().collect();
        let mappings: Vec<_> =
            lines.iter().map(|line| Mapping::parse_file_line(line.as_bytes()).unwrap()).collect();
        if format == LogFormat::Classic {
            assert_eq!(lines.len(), 2, "{text}");
            assert!(lines[1].ends_with(" 127.0.0.1 GET /second HTTP/1.1"), "{text}");
        } else {
            assert_eq!(lines.len(), 6, "{text}");
            assert!(mappings.iter().all(|it| it.balancer == Some(seen)), "{text}");
            assert!(mappings.iter().all(|it| it.client_port == Some(own.port())), "{text}");
        }
    }
}

#[test]
fn a_collector_that_reads_nothing_stops_no_traffic() {
    let (listener, collector) = (Listener::tcp(), Collector::new());
    let settings = over(&[&listener.endpoint()]);
    let site = Site::start(logging(collector.target(), LogFormat::Extended, settings));
    let target = format!("/{}", "x".repeat(700));
    // More than its socket's buffer holds.
    let exchanges: Vec<_> = (0..1_000).map(|_| (target.as_str(), "")).collect();
    exchange(site.connect(), listener.accept(), &exchanges);
    site.wait_until_empty();
    let counts = site.balancer().log().counts();
    let load = |count: &std::sync::atomic::AtomicU64| count.load(Ordering::Relaxed);
    wait_until("all records are accounted for", || {
        load(&counts.made) == 2_002
            && load(&counts.written) + load(&counts.overrun) + load(&counts.failed) == 2_002
    });
}
