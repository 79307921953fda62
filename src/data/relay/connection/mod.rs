//! One client's connection, from its acceptance to its end.

mod heard;
mod records;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use pen_records::addr::ClientAddr;
use pen_records::mapping::{Kind, Mapping};

use super::duplex::{Duplex, Ready, Side};
use super::http::Note;
use super::http::conversation::Conversation;
use super::http::edit::Forward;
use super::http::exchange::Exchanges;
use super::proxy::Header;
use super::pump::{self, Ends, Leftovers, Pause};
use super::sealed::{Rest, Seals};
use super::shared::Counters;
use super::socket::Socket;
use super::tls::{Layer, Layers, SCRATCH, SealedEnds};
use crate::config::{Endpoint, Settings};
use crate::data::pool::{Caller, Seat, Traffic, Tried};
use crate::logs::access_log::line::End;
use crate::logs::books::Books;

use heard::{Heard, Sealed, Watcher};
pub(super) use records::mapping;
use records::{line, mapping_of, note_rest, noted};

/// How long a handshake may take if nothing is said about a client's first byte.
const HANDSHAKE: Duration = Duration::from_secs(60);

/// A connection.
#[derive(Debug)]
pub(super) struct Connection {
    /// Its number, unique while pen runs.
    pub(super) number: u64,
    pub(super) client: Socket,
    pub(super) caller: Caller,
    /// Where it connected to, if that is not our own address.
    pub(super) to: Option<SocketAddr>,
    pub(super) stage: Stage,
    /// Whether the client's socket is watched.
    pub(super) watched: bool,
    pub(super) server: Option<Server>,
    pub(super) tried: Tried,
    pub(super) duplex: Duplex,
    left: Leftovers,
    /// `None` if neither end is encrypted.
    tls: Option<Box<Layers>>,
    /// What is noted of requests and responses, and told to the server.
    conversation: Heard,
    /// Whether mapping records tell of it.
    recorded: bool,
    /// What is noted of TLS that passes through.
    seals: Option<Box<Seals>>,
    /// What waits to be logged, if exchanges are.
    exchanges: Option<Box<Exchanges>>,
    /// Who left first.
    left_first: Option<Side>,
    pub(super) traffic: Traffic,
    pub(super) accepted: Instant,
    /// When the last byte came or was taken, or an attempt to connect began.
    pub(super) active: Instant,
    /// The earliest of its timers that is set.
    pub(super) timer: Option<Instant>,
    /// Whether it is among those that get another turn.
    pub(super) queued: bool,
}

/// The server of a connection.
#[derive(Debug)]
pub(super) struct Server {
    pub(super) socket: Socket,
    pub(super) seat: Seat,
    pub(super) addr: Arc<Endpoint>,
    /// Our own address towards it; only known if somebody wants to know.
    pub(super) local: Option<SocketAddr>,
}

/// How far a connection is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// The client has to say for whom it connects; no server has been chosen.
    Greeting,
    /// It is agreed with the client on how to encrypt; no server has been chosen, either.
    Agreeing,
    /// That is done, and it waits until a connection to a server may be opened.
    Waiting,
    /// It is being opened; the client has not been listened to.
    Connecting,
    /// It is agreed with the server on how to encrypt.
    Handshake,
    /// Bytes go to and fro.
    Open,
}

impl Stage {
    /// Whether its client has yet to say for whom it comes, or to agree on how to encrypt.
    pub(super) const fn is_stranger(self) -> bool {
        matches!(self, Self::Greeting | Self::Agreeing)
    }
}

/// What is due for a connection whose time has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Due {
    /// The client did not say in time for whom it connects.
    Greeting,
    /// The client did not agree in time on how to encrypt.
    Agreeing,
    /// The server did not answer in time.
    Connect,
    /// Nothing was said for too long.
    Silence,
    /// One side has ended, and the other one has said nothing for too long.
    Linger,
    /// What the server has said may have been all.
    Rest,
}

impl Connection {
    pub(super) fn new(
        number: u64,
        client: Socket,
        caller: Caller,
        settings: &Settings,
        now: Instant,
    ) -> Self {
        Self {
            number,
            client,
            caller,
            to: None,
            stage: Stage::Connecting,
            watched: false,
            server: None,
            tried: Tried::default(),
            duplex: Duplex::new(settings.tcp.fastclose),
            left: Leftovers::default(),
            tls: None,
            conversation: Heard::Nothing,
            recorded: false,
            seals: None,
            exchanges: None,
            left_first: None,
            traffic: Traffic::default(),
            accepted: now,
            active: now,
            timer: None,
            queued: false,
        }
    }

    pub(super) fn is_open(&self) -> bool {
        self.stage == Stage::Open
    }

    /// What a server is told of the client by the PROXY protocol.
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
    pub(super) fn encrypt(&mut self, side: Side, layer: Layer) {
        self.tls.get_or_insert_default().put(side, layer);
    }

    /// Whether an end is encrypted.
    pub(super) fn is_encrypted(&self, side: Side) -> bool {
        self.tls.as_ref().is_some_and(|layers| layers.has(side))
    }

    /// The protocol that was agreed on with the client.
    pub(super) fn agreed(&self) -> Option<&[u8]> {
        self.tls.as_ref()?.get(Side::Client)?.agreed()
    }

    /// Goes on with the handshake at an end; whether it is done.
    pub(super) fn shake(&mut self, side: Side, buf: &mut [u8]) -> io::Result<bool> {
        let socket = match side {
            Side::Client => Some(&self.client),
            Side::Server => self.server.as_ref().map(|server| &server.socket),
        };
        let layer = self.tls.as_mut().and_then(|layers| layers.of(side));
        let Some((layer, socket)) = layer.zip(socket) else { return Ok(true) };
        layer.shake(socket, &mut buf[..SCRATCH])
    }

    /// Says goodbye where TLS wants that, as far as it is possible at once.
    pub(super) fn part(&mut self) {
        let Some(layers) = &mut self.tls else { return };
        if let Some(layer) = layers.of(Side::Client) {
            layer.finish(&self.client).unwrap_or_default();
        }
        if let (Some(layer), Some(server)) = (layers.of(Side::Server), &self.server) {
            layer.finish(&server.socket).unwrap_or_default();
        }
    }

    /// Forgets a server that could not be had.
    pub(super) fn take_server(&mut self) -> Option<Server> {
        if let Some(layers) = &mut self.tls {
            layers.take(Side::Server);
        }
        self.server.take()
    }

    /// Notes what a socket is ready for.
    pub(super) fn ready(&mut self, side: Side, ready: Ready) {
        self.duplex.ready(side, ready);
    }

    /// It is open: from now on what is said on it is noted and edited, as far as that is asked for.
    pub(super) fn opened(&mut self, settings: &Settings, books: &mut Books, now: Instant) {
        self.recorded = settings.log.is_some();
        if let Some(server) = self.server.as_mut().filter(|_| self.recorded) {
            server.local = server.socket.local_addr();
            let opened = mapping_of(Kind::Opened, self.number, &self.caller, server);
            books.note(&opened, now);
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
    pub(super) fn closed(&mut self, books: &mut Books, now: Instant) {
        let Some(server) = &self.server else { return };
        if let (Some(exchanges), Some(conversation)) =
            (&mut self.exchanges, self.conversation.get())
        {
            let cause = match self.left_first {
                Some(Side::Client) => End::Client,
                Some(Side::Server) => End::Server,
                None => End::Pen,
            };
            let unsent = self.duplex.left(Side::Client) as u64;
            while let Some(over) = exchanges.end(conversation.half(), unsent, cause) {
                books.lines.add(&line(&over, self.number, &self.caller, server, now), now);
            }
        }
        if self.recorded {
            if let Some(rest) = self.seals.as_mut().and_then(|seals| seals.rest()) {
                note_rest(&rest, self.number, &self.caller, server, (books, now));
            }
            let closed = Mapping {
                to_server: Some(self.traffic.to_server),
                to_client: Some(self.traffic.to_client),
                ..mapping_of(Kind::Closed, self.number, &self.caller, server)
            };
            books.note(&closed, now);
        }
    }

    /// What changes when somebody takes what was read before: bytes that wait, and ciphertext that was sent.
    fn under_way(&self) -> (usize, u64) {
        (self.left.len(), self.tls.as_ref().map_or(0, |layers| layers.sent()))
    }

    /// Forwards what there is to forward.
    pub(super) fn pump(&mut self, turn: Turn<'_>) -> Pause {
        let before = (self.traffic, self.under_way());
        // What is only thrown away keeps no connection.
        let in_vain = self.duplex.only_discards();
        let Some(server) = &self.server else { return Pause::Wait };
        let Turn { room, books, counters, now } = turn;
        let (number, caller) = (self.number, &self.caller);
        let recorded = self.recorded;
        let may_be_sealed = recorded && self.tls.is_none();
        let exchanges = &mut self.exchanges;
        let mut watch = Watcher {
            traffic: &mut self.traffic,
            conversation: &mut self.conversation,
            edited: &mut room.edited,
            left_first: &mut self.left_first,
            seals: Sealed {
                may_be: may_be_sealed,
                at: &mut self.seals,
                rests: &mut room.rests,
                now,
            },
            note: |note: Note<'_>| {
                if let Some(over) = exchanges.as_mut().and_then(|it| it.note(&note, now)) {
                    books.lines.add(&line(&over, number, caller, server, now), now);
                }
                if let Some(record) = noted(note, number, caller, server).filter(|_| recorded) {
                    books.note(&record, now);
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
                let wires = [&self.client, &server.socket];
                let mut ends = SealedEnds { wires, layers, scratch };
                ends.flush();
                let pause = pump::pump(duplex, left, &mut ends, &mut watch, buf);
                if pause == Pause::Wait {
                    ends.trim();
                }
                pause
            }
        };
        for rest in room.rests.drain(..) {
            note_rest(&rest, number, caller, server, (books, now));
        }
        if (self.traffic, self.under_way()) != before && !in_vain {
            self.active = now;
        }
        pause
    }

    /// As [`Self::pump`], where nothing was heard of for long: the kernel tells of room only when there
    /// is much of it, and who takes a little now and then is not silent.
    pub(super) fn pump_again(&mut self, turn: Turn<'_>) -> Pause {
        for side in [Side::Client, Side::Server] {
            self.duplex.ready(side, Ready { writable: true, ..Ready::default() });
        }
        self.pump(turn)
    }

    /// The server has been quiet for a moment: what it said is noted, in case that was all.
    pub(super) fn rest(&mut self, books: &mut Books, now: Instant) {
        let (Some(seals), Some(server)) = (&mut self.seals, &self.server) else { return };
        if let Some(rest) = seals.rest() {
            note_rest(&rest, self.number, &self.caller, server, (books, now));
        }
    }

    /// Whether bytes wait that could not be written yet.
    pub(super) fn has_left(&self) -> bool {
        !self.left.is_empty()
    }

    /// When something is due if nothing happens, and what.
    pub(super) fn due(&self, settings: &Settings) -> Option<(Instant, Due)> {
        let times = &settings.timeouts;
        match self.stage {
            Stage::Greeting => {
                let time = times.first_byte.unwrap_or(times.connect);
                return Some((self.accepted + time, Due::Greeting));
            }
            Stage::Agreeing => {
                let time = times.first_byte.unwrap_or(HANDSHAKE);
                return Some((self.accepted + time, Due::Agreeing));
            }
            // Others' attempts come to an end.
            Stage::Waiting => return None,
            Stage::Connecting | Stage::Handshake => {
                return Some((self.active + times.connect, Due::Connect));
            }
            Stage::Open => {}
        }
        let first = times.first_byte.filter(|_| self.traffic.to_server == 0);
        let rest = self.seals.as_ref().and_then(|seals| seals.due());
        let silence = [
            rest.map(|time| (time, Due::Rest)),
            times.idle.map(|time| (self.active + time, Due::Silence)),
            first.map(|time| (self.accepted + time, Due::Silence)),
            times
                .linger
                .filter(|_| self.duplex.is_half_closed())
                .map(|time| (self.active + time, Due::Linger)),
        ];
        silence.into_iter().flatten().min_by_key(|(due, _)| *due)
    }

    /// Closes both ends so that whoever was not told of an end sees a reset. The other one is closed
    /// only: a reset would take back what is still under way to it.
    pub(super) fn reset(self) -> Option<Seat> {
        let [client, server] = [Side::Client, Side::Server];
        if !self.duplex.was_told_the_end(client) {
            self.client.reset();
        }
        let Server { socket, seat, .. } = self.server?;
        if !self.duplex.was_told_the_end(server) {
            socket.reset();
        }
        Some(seat)
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
pub(super) struct Room {
    /// For what is read.
    pub(super) read: Box<[u8]>,
    /// For what was made of it.
    edited: Vec<u8>,
    /// For exchanges that have come to rest.
    rests: Vec<Rest>,
}

impl Room {
    /// To read so many bytes at a time.
    pub(super) fn new(bytes: usize) -> Self {
        Self { read: vec![0; bytes].into_boxed_slice(), edited: Vec::new(), rests: Vec::new() }
    }
}

/// What a worker lends to a connection that has its turn.
#[derive(Debug)]
pub(super) struct Turn<'a> {
    pub(super) room: &'a mut Room,
    pub(super) books: &'a mut Books,
    pub(super) counters: &'a Counters,
    pub(super) now: Instant,
}
