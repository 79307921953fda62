//! What is written down of a connection.

use std::net::SocketAddr;
use std::os::unix::ffi::OsStrExt as _;
use std::time::Instant;

use pen_records::addr::{ClientAddr, ServerAddr};
use pen_records::mapping::{Mapping, MappingKind, RequestText};
use pen_records::request::{Cut, Fingerprint};
use pen_records::time::Resolution;

use super::Server;
use crate::config::Endpoint;
use crate::data::pool::Caller;
use crate::data::relay::http::exchange::FinishedExchange;
use crate::data::relay::http::{HttpEvent, ResponseSummary};
use crate::data::relay::tls_observer::ObservedExchange;
use crate::logs::access_log::line::AccessLogLine;
use crate::logs::mapping_log::wall_clock;
use crate::logs::sinks::RecordSinks;

pub(super) fn mapping_of<'a>(
    kind: MappingKind,
    number: u64,
    caller: &Caller,
    server: &'a Server,
) -> Mapping<'a> {
    mapping(kind, number, caller, &server.addr, server.local)
}

/// What is known of every connection or flow: who, whom, and our own address towards that.
pub(in crate::data::relay) fn mapping<'a>(
    kind: MappingKind,
    number: u64,
    caller: &Caller,
    addr: &'a Endpoint,
    local: Option<SocketAddr>,
) -> Mapping<'a> {
    let (addr, port) = match addr {
        Endpoint::Ip(addr) => (ServerAddr::from(addr.ip()), Some(addr.port())),
        Endpoint::Unix(path) => (ServerAddr::Unix(path.as_os_str().as_bytes()), None),
    };
    Mapping {
        kind,
        client_port: (caller.addr != ClientAddr::Unix).then_some(caller.port),
        server_port: port,
        balancer: local,
        time: Some((wall_clock(), Resolution::Microsecond)),
        connection: Some(number),
        ..Mapping::new(caller.addr, addr)
    }
}

/// Records an exchange that has come to rest, as of then.
pub(super) fn note_rest(
    rest: &ObservedExchange,
    number: u64,
    caller: &Caller,
    server: &Server,
    (sinks, now): (&mut RecordSinks, Instant),
) {
    let ended = mapping_of(MappingKind::Ended, number, caller, server);
    let quiet = i64::try_from(rest.spoke.elapsed().as_micros()).unwrap_or(0);
    let time = ended.time.map(|(time, resolution)| (time.offset_by(-quiet), resolution));
    let (nth, sealed) = (Some(rest.nth), Some(rest.sealed));
    sinks.record(&Mapping { time, nth, sealed, ..ended }, now);
}

/// What is recorded of a note; some are for others.
pub(super) fn noted<'a>(
    note: HttpEvent<'a>,
    number: u64,
    caller: &Caller,
    server: &'a Server,
) -> Option<Mapping<'a>> {
    Some(match note {
        HttpEvent::Request { nth, line, user_agent, referer, host, .. } => Mapping {
            nth: Some(nth),
            request: Some(RequestText::raw(line, Cut::Long)),
            whole: Fingerprint::of_whole(line).map(Fingerprint::get),
            user_agent,
            referer,
            host,
            ..mapping_of(MappingKind::Request, number, caller, server)
        },
        HttpEvent::Ended(ResponseSummary { nth, status, head, body, framed }) => Mapping {
            nth: Some(nth),
            status: Some(status),
            head_bytes: Some(head),
            body_bytes: Some(body),
            framed_bytes: Some(framed),
            ..mapping_of(MappingKind::Ended, number, caller, server)
        },
        HttpEvent::Began { .. } | HttpEvent::Refused { .. } => return None,
    })
}

pub(super) fn line<'a>(
    over: &'a FinishedExchange,
    number: u64,
    caller: &Caller,
    server: &'a Server,
    now: Instant,
) -> AccessLogLine<'a> {
    AccessLogLine {
        client: caller.addr,
        text: over.text(),
        status: over.status,
        bytes: over.bytes,
        server: &server.addr,
        first: over.first(),
        total: over.total(now),
        connection: number,
        nth: over.nth(),
        end: over.end,
    }
}
