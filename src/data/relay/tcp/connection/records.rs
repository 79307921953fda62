//! Mapping records and access lines of a connection.

use std::time::Instant;

use pen_records::mapping::{BodyEnd, Mapping, MappingKind, RequestText};
use pen_records::request::{Cut, Fingerprint};

use super::observer::HttpObserver;
use super::{Connection, ServerEnd};
use crate::config::RuntimeSettings;
use crate::data::pool::Caller;
use crate::data::relay::duplex::Side;
use crate::data::relay::http::conversation::Conversation;
use crate::data::relay::http::edit::Forward;
use crate::data::relay::http::exchange::FinishedExchange;
use crate::data::relay::http::{HttpEvent, RequestBody};
use crate::data::relay::records;
use crate::data::relay::tls_observer::ObservedExchange;
use crate::logs::access_log::line::{AccessLogLine, ExchangeEnd};
use crate::logs::sinks::RecordSinks;

impl Connection {
    /// Begins to record and to edit the forwarded bytes, as far as the settings ask for either.
    pub(in crate::data::relay::tcp) fn open(
        &mut self,
        settings: &RuntimeSettings,
        sinks: &mut RecordSinks,
        now: Instant,
    ) {
        self.recorded = settings.log.is_some();
        if let Some(server) = self.server.as_mut().filter(|_| self.recorded) {
            server.local = server.socket.local_addr();
            sinks.record(&mapping(MappingKind::Opened, self.number, &self.caller, server), now);
        }
        let policy = settings.http.as_ref();
        let scheme = if self.is_encrypted(Side::Client) { "https" } else { "http" };
        let forward = policy.map(|policy| Forward::new(policy, self.caller.addr, scheme));
        self.exchanges = settings.access_log.as_ref().map(|_| Box::default());
        self.http = match forward {
            Some(_) => HttpObserver::On(Box::new(Conversation::new(forward))),
            None if self.recorded || self.exchanges.is_some() => HttpObserver::Waiting,
            None => HttpObserver::Off,
        };
    }

    /// Records the end of the connection, and the requests that got no complete response.
    pub(in crate::data::relay::tcp) fn record_closed(
        &mut self,
        sinks: &mut RecordSinks,
        now: Instant,
    ) {
        let Some(server) = &self.server else { return };
        if let (Some(exchanges), Some(conversation)) = (&mut self.exchanges, self.http.get()) {
            let cause = match self.closed_first {
                Some(Side::Client) => ExchangeEnd::Client,
                Some(Side::Server) => ExchangeEnd::Server,
                None => ExchangeEnd::Pen,
            };
            let unsent = self.duplex.left(Side::Client) as u64;
            let partial = conversation.partial_response();
            while let Some(ended) = exchanges.end(partial, unsent, cause) {
                let line = access_line(&ended, self.number, &self.caller, server, now);
                sinks.access_lines.add(&line, now);
            }
        }
        if self.recorded {
            let exchange = self.tls_observer.as_mut().and_then(|it| it.take_exchange());
            if let Some(exchange) = exchange {
                record_exchange(&exchange, self.number, &self.caller, server, (sinks, now));
            }
            let closed = Mapping {
                to_server: Some(self.traffic.to_server),
                to_client: Some(self.traffic.to_client),
                ..mapping(MappingKind::Closed, self.number, &self.caller, server)
            };
            sinks.record(&closed, now);
        }
    }

    /// Records the exchange under way on opaque TLS: the server is quiet, so that the response may
    /// be complete.
    pub(in crate::data::relay::tcp) fn record_quiet_exchange(
        &mut self,
        sinks: &mut RecordSinks,
        now: Instant,
    ) {
        let (Some(observer), Some(server)) = (&mut self.tls_observer, &self.server) else { return };
        if let Some(exchange) = observer.take_exchange() {
            record_exchange(&exchange, self.number, &self.caller, server, (sinks, now));
        }
    }
}

fn mapping<'a>(
    kind: MappingKind,
    number: u64,
    caller: &Caller,
    server: &'a ServerEnd,
) -> Mapping<'a> {
    records::mapping(kind, number, caller, &server.addr, server.local)
}

/// Records an exchange of opaque TLS, with the time of its last byte.
pub(super) fn record_exchange(
    exchange: &ObservedExchange,
    number: u64,
    caller: &Caller,
    server: &ServerEnd,
    (sinks, now): (&mut RecordSinks, Instant),
) {
    let ended = mapping(MappingKind::Ended, number, caller, server);
    let quiet = i64::try_from(exchange.spoke.elapsed().as_micros()).unwrap_or(0);
    let time = ended.time.map(|(time, resolution)| (time.offset_by(-quiet), resolution));
    let (nth, opaque_tls) = (Some(exchange.nth), Some(exchange.opaque_tls));
    sinks.record(&Mapping { time, nth, opaque_tls, ..ended }, now);
}

/// Returns the record of an HTTP event, or `None` for an event that only the access log needs.
pub(super) fn exchange_record<'a>(
    event: HttpEvent<'a>,
    number: u64,
    caller: &Caller,
    server: &'a ServerEnd,
    now: Instant,
) -> Option<Mapping<'a>> {
    Some(match event {
        HttpEvent::Request { nth, line, user_agent, referer, host, .. } => Mapping {
            nth: Some(nth),
            request: Some(RequestText::raw(line, Cut::Long)),
            whole: Fingerprint::of_whole(line).map(Fingerprint::get),
            user_agent,
            referer,
            host,
            ..mapping(MappingKind::Request, number, caller, server)
        },
        HttpEvent::Ended(response) | HttpEvent::BodyEnded(response) => Mapping {
            nth: Some(response.nth),
            status: Some(response.status),
            head_bytes: Some(response.head),
            body_bytes: Some(response.body),
            framed_bytes: Some(response.framed),
            body_end: body_end(response.request_body, now),
            ..mapping(MappingKind::Ended, number, caller, server)
        },
        HttpEvent::Began { .. } | HttpEvent::Refused { .. } => return None,
    })
}

/// Returns when the body of a request ended, by a record made at `now`; `None` without a body.
fn body_end(body: RequestBody, now: Instant) -> Option<BodyEnd> {
    match body {
        RequestBody::Absent => None,
        RequestBody::Unfinished => Some(BodyEnd::Pending),
        RequestBody::Ended(at) => Some(BodyEnd::ago(now.saturating_duration_since(at))),
    }
}

/// Returns the access line of an exchange.
pub(super) fn access_line<'a>(
    ended: &'a FinishedExchange,
    number: u64,
    caller: &Caller,
    server: &'a ServerEnd,
    now: Instant,
) -> AccessLogLine<'a> {
    AccessLogLine {
        client: caller.addr,
        text: ended.text(),
        status: ended.status,
        bytes: ended.bytes,
        server: &server.addr,
        first: ended.first(),
        total: ended.total(now),
        connection: number,
        nth: ended.nth(),
        end: ended.end,
    }
}
