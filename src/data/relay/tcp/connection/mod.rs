//! One client's connection, from its acceptance to its end.

mod observer;
mod records;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use pen_records::addr::ClientAddr;
use pen_records::mapping::{Mapping, MappingKind};

use crate::config::{Endpoint, RuntimeSettings};
use crate::data::pool::{Caller, ServerLease, Traffic, Tried};
use crate::data::relay::duplex::{Duplex, Ready, Side};
use crate::data::relay::http::HttpEvent;
use crate::data::relay::http::conversation::Conversation;
use crate::data::relay::http::edit::Forward;
use crate::data::relay::http::exchange::PendingExchanges;
use crate::data::relay::proxy::Header;
use crate::data::relay::pump::{self, Ends, PumpOutcome, UnsentBytes};
use crate::data::relay::shared::Counters;
use crate::data::relay::socket::Socket;
use crate::data::relay::tls::{SCRATCH, TlsEnds, TlsLayer, TlsLayers};
use crate::data::relay::tls_observer::{ObservedExchange, TlsObserver};
use crate::logs::access_log::line::ExchangeEnd;
use crate::logs::sinks::RecordSinks;

use observer::{Heard, Sealed, Watcher};
pub(in crate::data::relay) use records::mapping;
use records::{line, mapping_of, note_rest, noted};

/// How long a handshake may take if nothing is said about a client's first byte.
const HANDSHAKE: Duration = Duration::from_secs(60);

/// A connection.
#[derive(Debug)]
pub(in crate::data::relay) struct Connection {
    /// Its number, unique while pen runs.
    pub(in crate::data::relay) number: u64,
    pub(in crate::data::relay) client: Socket,
    pub(in crate::data::relay) caller: Caller,
    /// Where it connected to, if that is not our own address.
    pub(in crate::data::relay) to: Option<SocketAddr>,
    pub(in crate::data::relay) stage: ConnectionStage,
    /// Whether the client's socket is watched.
    pub(in crate::data::relay) watched: bool,
    pub(in crate::data::relay) server: Option<Server>,
    pub(in crate::data::relay) tried: Tried,
    pub(in crate::data::relay) duplex: Duplex,
    left: UnsentBytes,
    /// `None` if neither end is encrypted.
    tls: Option<Box<TlsLayers>>,
    /// What is noted of requests and responses, and told to the server.
    conversation: Heard,
    /// Whether mapping records tell of it.
    recorded: bool,
    /// What is noted of TLS that passes through.
    tls_observer: Option<Box<TlsObserver>>,
    /// What waits to be logged, if exchanges are.
    exchanges: Option<Box<PendingExchanges>>,
    /// Who left first.
    left_first: Option<Side>,
    pub(in crate::data::relay) traffic: Traffic,
    pub(in crate::data::relay) accepted: Instant,
    /// When the last byte came or was taken, or an attempt to connect began.
    pub(in crate::data::relay) active: Instant,
    /// The earliest of its timers that is set.
    pub(in crate::data::relay) timer: Option<Instant>,
    /// Whether it is among those that get another turn.
    pub(in crate::data::relay) queued: bool,
}

/// The server of a connection.
#[derive(Debug)]
pub(in crate::data::relay) struct Server {
    pub(in crate::data::relay) socket: Socket,
    pub(in crate::data::relay) lease: ServerLease,
    pub(in crate::data::relay) addr: Arc<Endpoint>,
    /// Our own address towards it; only known if somebody wants to know.
    pub(in crate::data::relay) local: Option<SocketAddr>,
}

/// How far a connection has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::data::relay) enum ConnectionStage {
    /// Waits for the client's PROXY header; no server has been chosen.
    ProxyHeader,
    /// TLS handshake with the client; no server has been chosen.
    ClientHandshake,
    /// The client is known, and waits in the pending queue until a connection to a server may be opened.
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
    pub(in crate::data::relay) const fn is_handshaking(self) -> bool {
        matches!(self, Self::ProxyHeader | Self::ClientHandshake)
    }
}

/// What a connection's timer is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::data::relay) enum DeadlineKind {
    /// The client sent no PROXY header in time.
    ProxyHeader,
    /// The client did not finish the TLS handshake in time.
    ClientHandshake,
    /// The server did not accept the connection, or finish the TLS handshake, in time.
    Connect,
    /// No byte was forwarded for the idle time.
    Idle,
    /// One side has closed, and the other side has sent nothing for the linger time.
    HalfClosed,
    /// The server has sent nothing for a moment: the exchange under way is recorded.
    Quiet,
}

impl Connection {
    pub(in crate::data::relay) fn new(
        number: u64,
        client: Socket,
        caller: Caller,
        settings: &RuntimeSettings,
        now: Instant,
    ) -> Self {
        Self {
            number,
            client,
            caller,
            to: None,
            stage: ConnectionStage::Connecting,
            watched: false,
            server: None,
            tried: Tried::default(),
            duplex: Duplex::new(settings.tcp.fastclose),
            left: UnsentBytes::default(),
            tls: None,
            conversation: Heard::Nothing,
            recorded: false,
            tls_observer: None,
            exchanges: None,
            left_first: None,
            traffic: Traffic::default(),
            accepted: now,
            active: now,
            timer: None,
            queued: false,
        }
    }

    pub(in crate::data::relay) fn is_open(&self) -> bool {
        self.stage == ConnectionStage::Open
    }

    /// What a server is told of the client by the PROXY protocol.
    pub(in crate::data::relay) fn header(&self) -> Header {
        let to = self.to.or_else(|| self.client.local_addr());
        match (self.caller.addr, to) {
            (ClientAddr::Ip(ip), Some(to)) => {
                Header::Forwarded { client: SocketAddr::new(ip, self.caller.port), to }
            }
            _ => Header::Own,
        }
    }

    /// Encrypts an end from now on.
    pub(in crate::data::relay) fn encrypt(&mut self, side: Side, layer: TlsLayer) {
        self.tls.get_or_insert_default().put(side, layer);
    }

    /// Whether an end is encrypted.
    pub(in crate::data::relay) fn is_encrypted(&self, side: Side) -> bool {
        self.tls.as_ref().is_some_and(|layers| layers.has(side))
    }

    /// The protocol that was agreed on with the client.
    pub(in crate::data::relay) fn alpn(&self) -> Option<&[u8]> {
        self.tls.as_ref()?.get(Side::Client)?.alpn()
    }

    /// Goes on with the handshake at an end; whether it is done.
    pub(in crate::data::relay) fn continue_handshake(
        &mut self,
        side: Side,
        buf: &mut [u8],
    ) -> io::Result<bool> {
        let socket = match side {
            Side::Client => Some(&self.client),
            Side::Server => self.server.as_ref().map(|server| &server.socket),
        };
        let layer = self.tls.as_mut().and_then(|layers| layers.of(side));
        let Some((layer, socket)) = layer.zip(socket) else { return Ok(true) };
        layer.continue_handshake(socket, &mut buf[..SCRATCH])
    }

    /// Says goodbye where TLS wants that, as far as it is possible at once.
    pub(in crate::data::relay) fn part(&mut self) {
        let Some(layers) = &mut self.tls else { return };
        if let Some(layer) = layers.of(Side::Client) {
            layer.finish(&self.client).unwrap_or_default();
        }
        if let (Some(layer), Some(server)) = (layers.of(Side::Server), &self.server) {
            layer.finish(&server.socket).unwrap_or_default();
        }
    }

    /// Forgets a server that could not be had.
    pub(in crate::data::relay) fn take_server(&mut self) -> Option<Server> {
        if let Some(layers) = &mut self.tls {
            layers.take(Side::Server);
        }
        self.server.take()
    }

    /// Notes what a socket is ready for.
    pub(in crate::data::relay) fn ready(&mut self, side: Side, ready: Ready) {
        self.duplex.ready(side, ready);
    }

    /// It is open: from now on what is said on it is noted and edited, as far as that is asked for.
    pub(in crate::data::relay) fn opened(
        &mut self,
        settings: &RuntimeSettings,
        sinks: &mut RecordSinks,
        now: Instant,
    ) {
        self.recorded = settings.log.is_some();
        if let Some(server) = self.server.as_mut().filter(|_| self.recorded) {
            server.local = server.socket.local_addr();
            let opened = mapping_of(MappingKind::Opened, self.number, &self.caller, server);
            sinks.record(&opened, now);
        }
        let policy = settings.http.as_ref();
        let scheme = if self.is_encrypted(Side::Client) { "https" } else { "http" };
        let forward = policy.map(|policy| Forward::new(policy, self.caller.addr, scheme));
        self.exchanges = settings.access_log.as_ref().map(|_| Box::default());
        self.conversation = match forward {
            Some(_) => Heard::All(Box::new(Conversation::new(forward))),
            None if self.recorded || self.exchanges.is_some() => Heard::FromNowOn,
            None => Heard::Nothing,
        };
    }

    /// It is over, which is noted if anything was.
    pub(in crate::data::relay) fn closed(&mut self, sinks: &mut RecordSinks, now: Instant) {
        let Some(server) = &self.server else { return };
        if let (Some(exchanges), Some(conversation)) =
            (&mut self.exchanges, self.conversation.get())
        {
            let cause = match self.left_first {
                Some(Side::Client) => ExchangeEnd::Client,
                Some(Side::Server) => ExchangeEnd::Server,
                None => ExchangeEnd::Pen,
            };
            let unsent = self.duplex.left(Side::Client) as u64;
            while let Some(over) = exchanges.end(conversation.half(), unsent, cause) {
                sinks.access_lines.add(&line(&over, self.number, &self.caller, server, now), now);
            }
        }
        if self.recorded {
            if let Some(rest) =
                self.tls_observer.as_mut().and_then(|tls_observer| tls_observer.take_exchange())
            {
                note_rest(&rest, self.number, &self.caller, server, (sinks, now));
            }
            let closed = Mapping {
                to_server: Some(self.traffic.to_server),
                to_client: Some(self.traffic.to_client),
                ..mapping_of(MappingKind::Closed, self.number, &self.caller, server)
            };
            sinks.record(&closed, now);
        }
    }

    /// What changes when somebody takes what was read before: bytes that wait, and ciphertext that was sent.
    fn under_way(&self) -> (usize, u64) {
        (self.left.len(), self.tls.as_ref().map_or(0, |layers| layers.sent()))
    }

    /// Forwards what there is to forward.
    pub(in crate::data::relay) fn pump(&mut self, turn: Turn<'_>) -> PumpOutcome {
        let before = (self.traffic, self.under_way());
        // What is only thrown away keeps no connection.
        let in_vain = self.duplex.only_discards();
        let Some(server) = &self.server else { return PumpOutcome::Wait };
        let Turn { room, sinks, counters, now } = turn;
        let (number, caller) = (self.number, &self.caller);
        let recorded = self.recorded;
        let may_be_sealed = recorded && self.tls.is_none();
        let exchanges = &mut self.exchanges;
        let mut watch = Watcher {
            traffic: &mut self.traffic,
            conversation: &mut self.conversation,
            edited: &mut room.edited,
            left_first: &mut self.left_first,
            tls_observer: Sealed {
                may_be: may_be_sealed,
                at: &mut self.tls_observer,
                rests: &mut room.rests,
                now,
            },
            note: |note: HttpEvent<'_>| {
                if let Some(over) = exchanges.as_mut().and_then(|it| it.note(&note, now)) {
                    sinks.access_lines.add(&line(&over, number, caller, server, now), now);
                }
                if let Some(record) = noted(note, number, caller, server).filter(|_| recorded) {
                    sinks.record(&record, now);
                }
            },
            judge: |verdict| counters.judged(verdict),
        };
        let (duplex, left) = (&mut self.duplex, &mut self.left);
        let pause = match &mut self.tls {
            None => {
                let mut ends = Pair { client: &self.client, server: &server.socket };
                pump::pump(duplex, left, &mut ends, &mut watch, &mut room.read)
            }
            Some(layers) => {
                let (scratch, buf) = room.read.split_at_mut(SCRATCH);
                let transports = [&self.client, &server.socket];
                let mut ends = TlsEnds { transports, layers, scratch };
                ends.flush();
                let pause = pump::pump(duplex, left, &mut ends, &mut watch, buf);
                if pause == PumpOutcome::Wait {
                    ends.trim();
                }
                pause
            }
        };
        for rest in room.rests.drain(..) {
            note_rest(&rest, number, caller, server, (sinks, now));
        }
        if (self.traffic, self.under_way()) != before && !in_vain {
            self.active = now;
        }
        pause
    }

    /// As [`Self::pump`], where nothing was heard of for long: the kernel tells of room only when there
    /// is much of it, and who takes a little now and then is not silent.
    pub(in crate::data::relay) fn pump_again(&mut self, turn: Turn<'_>) -> PumpOutcome {
        for side in [Side::Client, Side::Server] {
            self.duplex.ready(side, Ready { writable: true, ..Ready::default() });
        }
        self.pump(turn)
    }

    /// The server has been quiet for a moment: what it said is noted, in case that was all.
    pub(in crate::data::relay) fn record_quiet_exchange(
        &mut self,
        sinks: &mut RecordSinks,
        now: Instant,
    ) {
        let (Some(tls_observer), Some(server)) = (&mut self.tls_observer, &self.server) else {
            return;
        };
        if let Some(rest) = tls_observer.take_exchange() {
            note_rest(&rest, self.number, &self.caller, server, (sinks, now));
        }
    }

    /// Whether bytes wait that could not be written yet.
    pub(in crate::data::relay) fn has_left(&self) -> bool {
        !self.left.is_empty()
    }

    /// When something is due if nothing happens, and what.
    pub(in crate::data::relay) fn due(
        &self,
        settings: &RuntimeSettings,
    ) -> Option<(Instant, DeadlineKind)> {
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
            // Others' attempts come to an end.
            ConnectionStage::Pending => return None,
            ConnectionStage::Connecting | ConnectionStage::ServerHandshake => {
                return Some((self.active + times.connect, DeadlineKind::Connect));
            }
            ConnectionStage::Open => {}
        }
        let first = times.first_byte.filter(|_| self.traffic.to_server == 0);
        let rest = self.tls_observer.as_ref().and_then(|tls_observer| tls_observer.due());
        let silence = [
            rest.map(|time| (time, DeadlineKind::Quiet)),
            times.idle.map(|time| (self.active + time, DeadlineKind::Idle)),
            first.map(|time| (self.accepted + time, DeadlineKind::Idle)),
            times
                .linger
                .filter(|_| self.duplex.is_half_closed())
                .map(|time| (self.active + time, DeadlineKind::HalfClosed)),
        ];
        silence.into_iter().flatten().min_by_key(|(due, _)| *due)
    }

    /// Closes both ends so that whoever was not told of an end sees a reset. The other one is closed
    /// only: a reset would take back what is still under way to it.
    pub(in crate::data::relay) fn reset(self) -> Option<ServerLease> {
        let [client, server] = [Side::Client, Side::Server];
        if !self.duplex.was_told_the_end(client) {
            self.client.reset();
        }
        let Server { socket, lease, .. } = self.server?;
        if !self.duplex.was_told_the_end(server) {
            socket.reset();
        }
        Some(lease)
    }
}

struct Pair<'a> {
    client: &'a Socket,
    server: &'a Socket,
}

impl Pair<'_> {
    const fn at(&self, side: Side) -> &Socket {
        match side {
            Side::Client => self.client,
            Side::Server => self.server,
        }
    }
}

impl Ends for Pair<'_> {
    fn read(&mut self, from: Side, buf: &mut [u8]) -> io::Result<usize> {
        self.at(from).read(buf)
    }

    fn write(&mut self, to: Side, bytes: &[u8]) -> io::Result<usize> {
        self.at(to).write(bytes)
    }

    fn finish(&mut self, to: Side, last: bool) -> io::Result<()> {
        if !last {
            self.at(to).finish();
        }
        Ok(())
    }
}

/// Room that a worker lends while bytes pass.
#[derive(Debug)]
pub(in crate::data::relay) struct Room {
    /// For what is read.
    pub(in crate::data::relay) read: Box<[u8]>,
    /// For what was made of it.
    edited: Vec<u8>,
    /// For exchanges that have come to rest.
    rests: Vec<ObservedExchange>,
}

impl Room {
    /// To read so many bytes at a time.
    pub(in crate::data::relay) fn new(bytes: usize) -> Self {
        Self { read: vec![0; bytes].into_boxed_slice(), edited: Vec::new(), rests: Vec::new() }
    }
}

/// What a worker lends to a connection that has its turn.
#[derive(Debug)]
pub(in crate::data::relay) struct Turn<'a> {
    pub(in crate::data::relay) room: &'a mut Room,
    pub(in crate::data::relay) sinks: &'a mut RecordSinks,
    pub(in crate::data::relay) counters: &'a Counters,
    pub(in crate::data::relay) now: Instant,
}
