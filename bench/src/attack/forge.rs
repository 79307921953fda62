//! Datagrams that lie.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use pen_records::addr::{ClientAddr, ServerAddr};
use pen_records::mapping::packet::{write_packet, write_record};
use pen_records::mapping::{Mapping, RequestText};
use pen_records::request::Cut;
use pen_records::shipment::{
    DiscoveryAnswer, DiscoveryQuestion, SendStamp, SenderOrigin, Shipment, ShipmentServer,
    ShipmentWriter, StreamList,
};
use pen_records::time::{Resolution, Timestamp};

use super::AttackResult;
use super::site::{ATTACKER, AttackSite, WEB};
use crate::ActionError;
use crate::delivery::writer::pause;
use crate::stage::FaultyRelay;

/// In each forged line, which no browser asked for.
pub(super) const LINE_MARK: &str = "/forged";
/// In each line with the forged client.
const CLIENT: &str = "203.0.113.66";
/// Lies of each kind.
const EACH: u64 = 50;

fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp::from_micros(0) + since
}

/// A forged line.
pub(super) fn line() -> Vec<u8> {
    b"203.0.113.9 - - [30/Nov/2026:20:00:00 +0000] \"GET /forged HTTP/1.1\" 200 5 \"-\" \"curl\""
        .to_vec()
}

fn forged_lines(tried: u64) -> AttackResult {
    AttackResult { tried, mark: Some(LINE_MARK), ..AttackResult::default() }
}

pub(super) fn plain_line(site: &mut AttackSite<'_>) -> Result<AttackResult, ActionError> {
    site.send_all(&vec![line(); 50]).map(forged_lines)
}

/// Shipments of a made-up shipper of the web server, a line each.
pub(super) fn shipments(id: u64, count: u64) -> Vec<Vec<u8>> {
    let origin = SenderOrigin { id, start: now() };
    let server = ShipmentServer { addr: Some(IpAddr::V4(WEB)), port: Some(80), name: None };
    let mut writer = ShipmentWriter::new(origin, server, 1_400);
    let shipments = (0..count).filter_map(|_| {
        let _push = writer.push(&line(), None);
        let stamp = SendStamp { sent: now(), ..SendStamp::default() };
        writer.finish(stamp, <[u8]>::to_vec)
    });
    shipments.collect()
}

pub(super) fn shipment(site: &mut AttackSite<'_>) -> Result<AttackResult, ActionError> {
    site.send_all(&shipments(66, EACH)).map(forged_lines)
}

/// The requests that come next.
fn next_requests(site: &AttackSite<'_>) -> impl Iterator<Item = String> + use<> {
    let next = site.next_line();
    (next..next + EACH).map(|number| format!("GET /{number} HTTP/1.1"))
}

pub(super) fn classic_client(site: &mut AttackSite<'_>) -> Result<AttackResult, ActionError> {
    let records: Vec<_> = next_requests(site)
        .map(|request| format!("+ {CLIENT} {WEB} {request}\n").into_bytes())
        .collect();
    let tried = site.send_all(&records)?;
    Ok(AttackResult { tried, mark: Some(CLIENT), ..AttackResult::default() })
}

pub(super) fn packet_client(site: &mut AttackSite<'_>) -> Result<AttackResult, ActionError> {
    let origin = SenderOrigin { id: 66, start: now() };
    let mut packets = Vec::new();
    for (number, request) in (0..).zip(next_requests(site)) {
        let (mut records, mut packet) = (Vec::new(), Vec::new());
        write_record(&mapping(request.as_bytes()), &mut records);
        write_packet(origin, number, now(), 0, (1, &records), &mut packet);
        packets.push(packet);
    }
    let tried = site.send_all(&packets)?;
    Ok(AttackResult { tried, mark: Some(CLIENT), ..AttackResult::default() })
}

fn mapping(request: &[u8]) -> Mapping<'_> {
    let client = ClientAddr::parse(CLIENT.as_bytes()).expect("an address");
    let mut mapping = Mapping::new(client, ServerAddr::Ip(IpAddr::V4(WEB)));
    mapping.server_port = Some(80);
    mapping.time = Some((now(), Resolution::Microsecond));
    mapping.request = Some(RequestText::raw(request, Cut::Long));
    mapping
}

/// Puts a number in the place of another one.
fn set(datagram: &mut [u8], at: usize, number: u64) {
    if let Some(bytes) = datagram.get_mut(at..at + 8) {
        bytes.copy_from_slice(&number.to_le_bytes());
    }
}

/// Where a shipment has its own number, that of its first line, and what its shipper dropped.
const NUMBER: usize = 24;
const FIRST_LINE: usize = 32;
const DROPPED: usize = 48;

pub(super) fn counters(site: &mut AttackSite<'_>) -> Result<AttackResult, ActionError> {
    let mut datagrams = shipments(67, 3);
    for (shipment, at) in datagrams.iter_mut().zip([NUMBER, FIRST_LINE, DROPPED]) {
        set(shipment, at, u64::MAX - 10);
    }
    let origin = SenderOrigin { id: 68, start: now() };
    for (first, dropped) in [(0, 0), (u64::MAX - 10, 0), (1, u64::MAX - 10)] {
        let (mut records, mut packet) = (Vec::new(), Vec::new());
        write_record(&mapping(b"GET /forged HTTP/1.1"), &mut records);
        write_packet(origin, first, now(), dropped, (1, &records), &mut packet);
        datagrams.push(packet);
    }
    let tried = site.send_all(&datagrams)?;
    Ok(AttackResult { tried, ..AttackResult::default() })
}

/// The identity of the honest shipper and its next numbers, as heard; with keys nobody hears it.
fn identity(site: &AttackSite<'_>) -> (SenderOrigin, u64, u64) {
    let heard = site.relay.as_ref().map(FaultyRelay::heard).unwrap_or_default();
    let last = heard.iter().rev().find_map(|(_, datagram)| {
        let shipment = Shipment::parse(datagram).ok()?;
        let lines = u64::from(shipment.line_count());
        Some((shipment.origin, shipment.number + 1, shipment.first_line + lines))
    });
    last.unwrap_or_else(|| (SenderOrigin { id: 1, start: now() }, 1, 1))
}

fn heard(site: &AttackSite<'_>) -> String {
    if site.relay.is_some() { String::new() } else { "identity not to be heard".to_owned() }
}

pub(super) fn mute_by_question(site: &mut AttackSite<'_>) -> Result<AttackResult, ActionError> {
    let origin = identity(site).0;
    let streams = StreamList::default();
    let mut question = Vec::new();
    DiscoveryQuestion { nonce: 1, origin, shipments: u64::MAX, lines: u64::MAX, streams }
        .write(&mut question);
    let tried = site.send_all(&vec![question; 10])?;
    Ok(AttackResult { tried, remark: heard(site), ..AttackResult::default() })
}

/// A shipment of the honest shipper that is none.
fn as_shipper(site: &AttackSite<'_>, number: u64, first_line: u64) -> Vec<u8> {
    let (origin, ..) = identity(site);
    let mut shipment = shipments(origin.id, 1).pop().unwrap_or_default();
    set(&mut shipment, 16, origin.start.as_micros().cast_unsigned());
    set(&mut shipment, NUMBER, number);
    set(&mut shipment, FIRST_LINE, first_line);
    shipment
}

pub(super) fn mute_by_shipment(site: &mut AttackSite<'_>) -> Result<AttackResult, ActionError> {
    let last = as_shipper(site, u64::MAX - 1, u64::MAX - 10);
    let tried = site.send_all(&[last])?;
    Ok(AttackResult { remark: heard(site), ..forged_lines(tried) })
}

pub(super) fn next_numbers(site: &mut AttackSite<'_>) -> Result<AttackResult, ActionError> {
    let (_, number, line) = identity(site);
    // Some way ahead, so that the honest ones have not been sent yet.
    let ahead = 20..20 + EACH;
    let forged: Vec<_> =
        ahead.map(|nth| as_shipper(site, number + nth, line + 100 + nth)).collect();
    let tried = site.send_all(&forged)?;
    pause(Duration::from_secs(2));
    Ok(AttackResult { remark: heard(site), ..forged_lines(tried) })
}

/// The kernel hands them to nobody: the shipper's socket is connected.
pub(super) fn answers(site: &mut AttackSite<'_>) -> Result<AttackResult, ActionError> {
    let heard = site.relay.as_ref().map(FaultyRelay::heard).unwrap_or_default();
    let socket =
        UdpSocket::bind((ATTACKER, 0)).map_err(|error| ActionError::new(error.to_string()))?;
    let mut tried = 0;
    for (from, datagram) in heard {
        let nonce = DiscoveryQuestion::parse(&datagram).map_or(0, |question| question.nonce);
        tried += u64::from(answer(&socket, from, nonce));
    }
    Ok(AttackResult { tried, ..AttackResult::default() })
}

fn answer(socket: &UdpSocket, to: SocketAddr, nonce: u64) -> bool {
    let mut answer = Vec::new();
    let positions = StreamList::default();
    DiscoveryAnswer { nonce, window: 1, datagram: 1, received: None, positions }.write(&mut answer);
    socket.send_to(&answer, to).is_ok()
}

pub(super) fn replay(site: &mut AttackSite<'_>) -> Result<AttackResult, ActionError> {
    let heard = site.relay.as_ref().map(FaultyRelay::heard).unwrap_or_default();
    let datagrams: Vec<_> = heard.into_iter().map(|(_, datagram)| datagram).collect();
    let tried = site.send_all(&datagrams)?;
    Ok(AttackResult { tried, remark: "doubled lines got in".to_owned(), ..AttackResult::default() })
}

pub(super) fn replay_later(site: &mut AttackSite<'_>) -> Result<AttackResult, ActionError> {
    let heard = site.relay.as_ref().map(FaultyRelay::heard).unwrap_or_default();
    let datagrams: Vec<_> = heard.into_iter().map(|(_, datagram)| datagram).collect();
    site.restart_collector()?;
    let tried = site.send_all(&datagrams)?;
    Ok(AttackResult { tried, remark: "doubled lines got in".to_owned(), ..AttackResult::default() })
}
