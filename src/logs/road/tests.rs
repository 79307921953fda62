//! Records on their way to a collector that the tests play.

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use pen_records::addr::{ClientAddr, ServerAddr};
use pen_records::mapping::Mapping;
use pen_records::mapping::origins::Origins;
use pen_records::mapping::packet::Packet;
use pen_records::shipment::{DiscoveryAnswer, DiscoveryQuestion, ReceivedShipments, StreamList};
use pen_testing::wait_until;

use crate::config::{LogFormat, LogTarget};
use crate::logs::mapping_log::{MappingDestination, MappingLog, wall_clock};

fn start(target: LogTarget, format: LogFormat) -> std::io::Result<MappingLog> {
    let target = Some(target);
    MappingLog::start(MappingDestination { target, format, ..MappingDestination::default() })
}

pub(in crate::logs) fn mapping(number: u64) -> Mapping<'static> {
    let connection = Some(number);
    Mapping { connection, ..Mapping::new(ClientAddr::Unix, ServerAddr::Unix(b"/run/app")) }
}

pub(in crate::logs) fn collector() -> (UdpSocket, LogTarget) {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port is free");
    socket.set_read_timeout(Some(Duration::from_secs(20))).expect("it is not zero");
    let addr = socket.local_addr().expect("it is bound");
    (socket, LogTarget::Collector { name: addr.to_string(), addr })
}

#[test]
fn records_are_numbered_and_arrive_in_packets() {
    let (socket, target) = collector();
    let log = start(target, LogFormat::Extended).unwrap();
    let mut writer = log.record_writer();
    for number in 0..100 {
        writer.record(&mapping(number), Instant::now());
    }
    drop(writer);
    let (mut buf, mut seen) = ([0; 2_048], 0);
    while seen < 100 {
        let len = socket.recv(&mut buf).unwrap();
        assert!(len <= 1_400, "{len}");
        if DiscoveryQuestion::parse(&buf[..len]).is_ok() {
            continue;
        }
        let packet = Packet::parse(&buf[..len]).unwrap();
        assert_eq!((packet.first, packet.dropped), (seen, 0));
        for mapping in packet.mappings() {
            assert_eq!(mapping.connection, Some(seen));
            seen += 1;
        }
    }
    log.finish();
}

#[test]
fn a_missing_collector_is_reported_and_nothing_stops() {
    let (socket, target) = collector();
    drop(socket);
    let log = start(target, LogFormat::Classic).unwrap();
    let mut writer = log.record_writer();
    wait_until("the refusal is reported", || {
        writer.record(&mapping(1), Instant::now());
        writer.flush();
        log.trouble().is_some()
    });
    drop(writer);
    let control = log.control();
    log.finish();
    let counts = control.counts();
    let [made, written, failed] =
        [&counts.made, &counts.written, &counts.failed].map(|count| count.load(Ordering::Relaxed));
    assert_eq!((written, failed), (0, made), "nobody received a record");
}

fn answer(socket: &UdpSocket, to: SocketAddr, nonce: u64, received: ReceivedShipments) {
    let (mut answer, positions) = (Vec::new(), StreamList::default());
    let received = Some(received);
    DiscoveryAnswer { nonce, window: 0, datagram: 0, received, positions }.write(&mut answer);
    socket.send_to(&answer, to).unwrap();
}

/// Answers as a collector does, and returns the numbers of the connections that it heard of.
fn collect(socket: &UdpSocket, wanted: usize) -> Vec<u64> {
    let (mut origins, mut buf, mut seen) = (Origins::new(1), [0; 2_048], Vec::new());
    while seen.len() < wanted {
        let (len, from) = socket.recv_from(&mut buf).unwrap();
        if let Ok(question) = DiscoveryQuestion::parse(&buf[..len]) {
            let next = question.shipments;
            let received = origins
                .asked(&question, wall_clock())
                .unwrap_or(ReceivedShipments { from: next, upto: next });
            answer(socket, from, question.nonce, received);
            continue;
        }
        let packet = Packet::parse(&buf[..len]).unwrap();
        assert_eq!(packet.dropped, 0, "what is kept may still come");
        if origins.receive(&packet, wall_clock()).is_some() {
            seen.extend(packet.mappings().filter_map(|mapping| mapping.connection));
        }
    }
    seen
}

#[test]
fn a_collector_that_has_replied_is_told_each_second_that_there_are_no_records() {
    let (socket, target) = collector();
    let log = start(target, LogFormat::Extended).unwrap();
    let mut writer = log.record_writer();
    writer.record(&mapping(0), Instant::now());
    writer.flush();
    assert_eq!(collect(&socket, 1), [0]);
    let (mut buf, mut origins, mut heartbeats) = ([0; 2_048], Origins::new(1), 0);
    while heartbeats < 2 {
        let (len, from) = socket.recv_from(&mut buf).unwrap();
        if let Ok(question) = DiscoveryQuestion::parse(&buf[..len]) {
            let received = ReceivedShipments { from: 0, upto: question.shipments };
            answer(&socket, from, question.nonce, received);
            continue;
        }
        let packet = Packet::parse(&buf[..len]).unwrap();
        assert_eq!((packet.first, packet.count()), (1, 0));
        // A collector that knows nothing of heartbeats misses no record.
        assert!(origins.receive(&packet, wall_clock()).is_some());
        assert_eq!(origins.counts().lost, 0);
        heartbeats += 1;
    }
    drop(writer);
    log.finish();
}

#[test]
fn records_made_while_the_collector_was_away_are_sent_again() {
    let (socket, target) = collector();
    let addr = socket.local_addr().unwrap();
    let log = start(target, LogFormat::Extended).unwrap();
    let mut writer = log.record_writer();
    writer.record(&mapping(0), Instant::now());
    writer.flush();
    assert_eq!(collect(&socket, 1), [0]);
    drop(socket);
    let mut made = 1;
    wait_until("the refusal is reported", || {
        writer.record(&mapping(made), Instant::now());
        writer.flush();
        made += 1;
        log.trouble().is_some()
    });
    let socket = UdpSocket::bind(addr).expect("nobody took the port");
    socket.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    // Another life of the collector: it gets all that the first one did not confirm.
    let wanted = usize::try_from(made).unwrap();
    let mut seen = collect(&socket, wanted);
    seen.sort_unstable();
    assert_eq!(seen, (0..made).collect::<Vec<_>>());
    drop(writer);
    log.finish();
}
