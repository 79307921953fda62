//! A client's connection, from accept to close.

mod forward;
mod observer;
mod records;
mod report;

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use pen_records::addr::ClientAddr;
use tracing::span::EnteredSpan;
use tracing::{Span, debug_span, field};

use crate::config::{Endpoint, RuntimeSettings};
use crate::data::pool::{Caller, ServerLease, Traffic, Tried};
use crate::data::relay::duplex::{Duplex, Ready, Side};
use crate::data::relay::http::exchange::PendingExchanges;
use crate::data::relay::proxy::Header;
use crate::data::relay::pump::UnsentBytes;
use crate::data::relay::shared::Occupancy;
use crate::data::relay::socket::Socket;
use crate::data::relay::tls::{SCRATCH, TlsLayer, TlsLayers};
use crate::data::relay::tls_observer::TlsObserver;

pub(super) use forward::{PumpContext, ScratchBuffers};
use observer::HttpObserver;

/// How long a TLS handshake with a client may take if the settings name no time for its first byte.
const HANDSHAKE: Duration = Duration::from_secs(60);

/// A connection.
#[derive(Debug)]
pub(super) struct Connection {
    /// Unique while pen runs.
    pub(super) number: u64,
    /// The span of log events; `None` if debug messages were off at accept.
    span: Option<Box<Span>>,
    pub(super) client: Socket,
    pub(super) caller: Caller,
    /// Destination address in the PROXY header; `None` if the socket's own address is the
    /// destination.
    to: Option<SocketAddr>,
    pub(super) stage: ConnectionStage,
    /// The client's socket is in the epoll set.
    pub(super) watched: bool,
    pub(super) server: Option<ServerEnd>,
    pub(super) tried: Tried,
    duplex: Duplex,
    unsent: UnsentBytes,
    /// `None` if neither end is encrypted.
    tls: Option<Box<TlsLayers>>,
    http: HttpObserver,
    /// Mapping records are written for this connection.
    recorded: bool,
    /// The observer of opaque TLS; `None` if the connection does not look like TLS or is not recorded.
    tls_observer: Option<Box<TlsObserver>>,
    /// Requests without an access line yet; `None` without an access log.
    exchanges: Option<Box<PendingExchanges>>,
    /// The side that closed first.
    closed_first: Option<Side>,
    pub(super) traffic: Traffic,
    pub(super) accepted: Instant,
    /// When a byte was last received or sent, or an attempt to connect began.
    pub(super) active: Instant,
    /// The earliest timer set for the connection.
    pub(super) timer: Option<Instant>,
    /// It is on the worker's ready list.
    pub(super) is_listed: bool,
}

/// The server of a connection.
#[derive(Debug)]
pub(super) struct ServerEnd {
    pub(super) socket: Socket,
    pub(super) lease: ServerLease,
    pub(super) addr: Arc<Endpoint>,
    /// The socket's own address; `None` if it was not asked for or is a Unix-domain socket's.
    pub(super) local: Option<SocketAddr>,
}

/// How far a connection has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ConnectionStage {
    /// Waits for the client's PROXY header; no server has been chosen.
    ProxyHeader,
    /// TLS handshake with the client; no server has been chosen.
    ClientHandshake,
    /// The client is known, and the connection is queued until a connection to a server may be opened.
    Pending,
    /// A connection to a server is being opened; nothing of the client is read meanwhile.
    Connecting,
    /// TLS handshake with the server.
    ServerHandshake,
    /// Bytes are forwarded both ways.
    Open,
}

impl ConnectionStage {
    /// Returns whether the client still owes a PROXY header or its part of a TLS handshake.
    pub(super) const fn is_handshaking(self) -> bool {
        matches!(self, Self::ProxyHeader | Self::ClientHandshake)
    }

    /// Returns how a connection in this stage counts against the limits.
    pub(super) const fn occupancy(self) -> Occupancy {
        match self {
            Self::Connecting | Self::ServerHandshake => Occupancy::Pending,
            Self::ProxyHeader | Self::ClientHandshake | Self::Pending | Self::Open => {
                Occupancy::Established
            }
        }
    }
}

/// What a connection's timer is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum DeadlineKind {
    /// The client sent no PROXY header in time.
    ProxyHeader,
    /// The client did not finish the TLS handshake in time.
    ClientHandshake,
    /// The server did not accept the connection, or finish the TLS handshake, in time.
    Connect,
    /// No byte passed for the idle time.
    Idle,
    /// One side has closed, and no byte passed for the linger time.
    HalfClosed,
    /// The server has sent nothing for a moment: the exchange under way is recorded.
    Quiet,
}

impl fmt::Display for DeadlineKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ProxyHeader => "PROXY header",
            Self::ClientHandshake => "TLS handshake",
            Self::Connect => "connecting",
            Self::Idle => "open",
            Self::HalfClosed => "half-closed",
            Self::Quiet => "quiet",
        })
    }
}

impl Connection {
    /// Creates the connection of a client that was accepted at `now`.
    pub(super) fn new(
        number: u64,
        client: Socket,
        caller: Caller,
        settings: &RuntimeSettings,
        now: Instant,
    ) -> Self {
        let span = debug_span!(
            "connection",
            connection = number,
            peer = %caller.addr,
            port = caller.port,
            client = field::Empty
        );
        Self {
            number,
            span: (!span.is_none()).then(|| Box::new(span)),
            client,
            caller,
            to: None,
            stage: ConnectionStage::Connecting,
            watched: false,
            server: None,
            tried: Tried::default(),
            duplex: Duplex::new(settings.tcp.fastclose),
            unsent: UnsentBytes::default(),
            tls: None,
            http: HttpObserver::Off,
            recorded: false,
            tls_observer: None,
            exchanges: None,
            closed_first: None,
            traffic: Traffic::default(),
            accepted: now,
            active: now,
            timer: None,
            is_listed: false,
        }
    }

    /// Enters the span, if there is one: log events belong to this connection until the guard is dropped.
    pub(super) fn enter_span(&self) -> Option<EnteredSpan> {
        self.span.as_ref().map(|span| Span::clone(span).entered())
    }

    /// Takes over the addresses that a PROXY header names.
    pub(super) fn forwarded_from(&mut self, client: SocketAddr, to: SocketAddr) {
        self.caller.addr = client.ip().into();
        self.caller.port = client.port();
        self.to = Some(to);
        if let Some(span) = &self.span {
            span.record("client", field::display(client));
        }
    }

    /// Returns the PROXY header that describes the client to a server.
    pub(super) fn header(&self) -> Header {
        let to = self.to.or_else(|| self.client.local_addr());
        match (self.caller.addr, to) {
            (ClientAddr::Ip(ip), Some(to)) => {
                Header::Forwarded { client: SocketAddr::new(ip, self.caller.port), to }
            }
            _ => Header::Own,
        }
    }

    /// Encrypts an end from now on.
    pub(super) fn encrypt(&mut self, side: Side, layer: TlsLayer) {
        self.tls.get_or_insert_default().put(side, layer);
    }

    /// Returns whether an end is encrypted by pen.
    pub(super) fn is_encrypted(&self, side: Side) -> bool {
        self.tls.as_ref().is_some_and(|layers| layers.has(side))
    }

    /// Returns the protocol that ALPN agreed on with the client, if any.
    pub(super) fn alpn(&self) -> Option<&[u8]> {
        self.tls.as_ref()?.get(Side::Client)?.alpn()
    }

    /// Continues the TLS handshake at an end. Returns whether the handshake is complete, which it is at once
    /// without TLS.
    pub(super) fn continue_handshake(&mut self, side: Side, buf: &mut [u8]) -> io::Result<bool> {
        let socket = match side {
            Side::Client => Some(&self.client),
            Side::Server => self.server.as_ref().map(|server| &server.socket),
        };
        let layer = self.tls.as_mut().and_then(|layers| layers.of(side));
        let Some((layer, socket)) = layer.zip(socket) else { return Ok(true) };
        layer.continue_handshake(socket, &mut buf[..SCRATCH])
    }

    /// Sends `close_notify` to each encrypted end, as far as the socket accepts the alert at once.
    pub(super) fn send_close_notify(&mut self) {
        let Some(layers) = &mut self.tls else { return };
        if let Some(layer) = layers.of(Side::Client) {
            let _ = layer.finish(&self.client); // the connection is closed next anyway
        }
        if let (Some(layer), Some(server)) = (layers.of(Side::Server), &self.server) {
            let _ = layer.finish(&server.socket); // likewise
        }
    }

    /// Takes out a server that could not be reached.
    pub(super) fn take_server(&mut self) -> Option<ServerEnd> {
        if let Some(layers) = &mut self.tls {
            layers.take(Side::Server);
        }
        self.server.take()
    }

    /// Notes what a socket is ready for.
    pub(super) fn ready(&mut self, side: Side, ready: Ready) {
        self.duplex.ready(side, ready);
    }

    /// Returns whether bytes wait that could not be written yet.
    pub(super) fn has_unsent(&self) -> bool {
        !self.unsent.is_empty()
    }

    /// Returns the next deadline if nothing happens before; `None` if there is none.
    pub(super) fn due(&self, settings: &RuntimeSettings) -> Option<(Instant, DeadlineKind)> {
        let times = &settings.timeouts;
        match self.stage {
            ConnectionStage::ProxyHeader => {
                let time = times.first_byte.unwrap_or(times.connect);
                return Some((self.accepted + time, DeadlineKind::ProxyHeader));
            }
            ConnectionStage::ClientHandshake => {
                let time = times.first_byte.unwrap_or(HANDSHAKE);
                return Some((self.accepted + time, DeadlineKind::ClientHandshake));
            }
            // The connections before it in the queue have deadlines.
            ConnectionStage::Pending => return None,
            ConnectionStage::Connecting | ConnectionStage::ServerHandshake => {
                return Some((self.active + times.connect, DeadlineKind::Connect));
            }
            ConnectionStage::Open => {}
        }
        let first = times.first_byte.filter(|_| self.traffic.to_server == 0);
        let quiet = self.tls_observer.as_ref().and_then(|observer| observer.due());
        let deadlines = [
            quiet.map(|time| (time, DeadlineKind::Quiet)),
            times.idle.map(|time| (self.active + time, DeadlineKind::Idle)),
            first.map(|time| (self.accepted + time, DeadlineKind::Idle)),
            times
                .linger
                .filter(|_| self.duplex.is_half_closed())
                .map(|time| (self.active + time, DeadlineKind::HalfClosed)),
        ];
        deadlines.into_iter().flatten().min_by_key(|(due, _)| *due)
    }

    /// Closes both ends, with a reset for each side that was not told of the end of its stream. A
    /// side that was told is only closed: a reset would discard bytes in flight.
    pub(super) fn reset(self) -> Option<ServerLease> {
        let [client, server] = [Side::Client, Side::Server];
        if !self.duplex.was_told_the_end(client) {
            self.client.reset();
        }
        let ServerEnd { socket, lease, .. } = self.server?;
        if !self.duplex.was_told_the_end(server) {
            socket.reset();
        }
        Some(lease)
    }
}
