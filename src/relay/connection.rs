//! One client's connection, from its acceptance to its end.

use std::io;
use std::net::SocketAddr;
use std::os::unix::ffi::OsStrExt as _;
use std::sync::Arc;
use std::time::Instant;

use pen_records::addr::{ClientAddr, ServerAddr};
use pen_records::mapping::{Kind, Mapping, RequestText};
use pen_records::request::{Cut, Fingerprint};
use pen_records::time::Resolution;

use super::duplex::{Duplex, Ready, Side};
use super::http::{Follower, Note};
use super::pump::{self, Ends, Leftovers, Pause, Watch};
use super::socket::Socket;
use crate::config::{Endpoint, Settings};
use crate::mapping_log::{Notes, wall_clock};
use crate::pool::{Caller, Seat, Traffic, Tried};

/// A connection.
#[derive(Debug)]
pub(super) struct Connection {
    /// Its number, unique while pen runs.
    pub(super) number: u64,
    pub(super) client: Socket,
    pub(super) caller: Caller,
    pub(super) server: Option<Server>,
    pub(super) tried: Tried,
    pub(super) duplex: Duplex,
    left: Leftovers,
    /// What is noted of requests and responses; `None` if nothing is to be noted.
    follower: Option<Box<Follower>>,
    pub(super) traffic: Traffic,
    pub(super) accepted: Instant,
    /// When the last byte came, or an attempt to connect began.
    pub(super) active: Instant,
    /// The earliest of its timers that is set.
    pub(super) timer: Option<Instant>,
}

/// The server of a connection.
#[derive(Debug)]
pub(super) struct Server {
    pub(super) socket: Socket,
    pub(super) seat: Seat,
    pub(super) addr: Arc<Endpoint>,
    /// Our own address towards it; only known if somebody wants to know.
    pub(super) local: Option<SocketAddr>,
    pub(super) stage: Stage,
}

/// How far the connection to a server is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// It is being opened; the client has not been listened to.
    Connecting,
    /// Bytes go to and fro.
    Open,
}

/// What is due for a connection whose time has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Due {
    /// The server did not answer in time.
    Connect,
    /// Nothing was said for too long.
    Silence,
    /// One side has ended, and the other one has said nothing for too long.
    Linger,
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
            server: None,
            tried: Tried::default(),
            duplex: Duplex::new(settings.tcp.fastclose),
            left: Leftovers::default(),
            follower: None,
            traffic: Traffic::default(),
            accepted: now,
            active: now,
            timer: None,
        }
    }

    pub(super) fn is_open(&self) -> bool {
        self.server.as_ref().is_some_and(|server| server.stage == Stage::Open)
    }

    /// Notes what a socket is ready for.
    pub(super) fn ready(&mut self, side: Side, ready: Ready) {
        self.duplex.ready(side, ready);
    }

    /// Notes that it is open, and from now on what is said on it.
    pub(super) fn note_opened(&mut self, notes: &mut Notes, now: Instant) {
        if let Some(server) = &mut self.server {
            server.local = server.socket.local_addr();
            let opened = mapping(Kind::Opened, self.number, &self.caller, server);
            notes.note(&opened, now);
            self.follower = Some(Box::default());
        }
    }

    /// Notes that it is over, if it was noted that it was open.
    pub(super) fn note_closed(&self, notes: &mut Notes, now: Instant) {
        if let (Some(server), Some(_)) = (&self.server, &self.follower) {
            let closed = Mapping {
                to_server: Some(self.traffic.to_server),
                to_client: Some(self.traffic.to_client),
                ..mapping(Kind::Closed, self.number, &self.caller, server)
            };
            notes.note(&closed, now);
        }
    }

    /// Forwards what there is to forward.
    pub(super) fn pump(&mut self, buf: &mut [u8], notes: &mut Notes, now: Instant) -> Pause {
        let Some(server) = &self.server else { return Pause::Wait };
        let before = self.traffic;
        let mut ends = Pair { client: &self.client, server: &server.socket };
        let (number, caller) = (self.number, &self.caller);
        let mut watch = Watcher {
            traffic: &mut self.traffic,
            follower: self.follower.as_deref_mut(),
            note: |note: Note<'_>| notes.note(&noted(note, number, caller, server), now),
        };
        let pause = pump::pump(&mut self.duplex, &mut self.left, &mut ends, &mut watch, buf);
        if self.traffic != before {
            self.active = now;
        }
        pause
    }

    /// When something is due if nothing happens, and what.
    pub(super) fn due(&self, settings: &Settings) -> Option<(Instant, Due)> {
        let times = &settings.timeouts;
        if !self.is_open() {
            return Some((self.active + times.connect, Due::Connect));
        }
        let first = times.first_byte.filter(|_| self.traffic.to_server == 0);
        let silence = [
            times.idle.map(|time| (self.active + time, Due::Silence)),
            first.map(|time| (self.accepted + time, Due::Silence)),
            times
                .linger
                .filter(|_| self.duplex.is_half_closed())
                .map(|time| (self.active + time, Due::Linger)),
        ];
        silence.into_iter().flatten().min_by_key(|(due, _)| *due)
    }

    /// Closes both ends so that whoever is left sees a reset.
    pub(super) fn reset(self) -> Option<Seat> {
        self.client.reset();
        let server = self.server?;
        server.socket.reset();
        Some(server.seat)
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

    fn finish(&mut self, to: Side) {
        self.at(to).finish();
    }
}

struct Watcher<'a, N> {
    traffic: &'a mut Traffic,
    follower: Option<&'a mut Follower>,
    note: N,
}

impl<N: FnMut(Note<'_>)> Watch for Watcher<'_, N> {
    fn pass<'a>(&'a mut self, from: Side, bytes: &'a [u8]) -> &'a [u8] {
        let count = bytes.len() as u64;
        let follower = self.follower.as_deref_mut();
        match from {
            Side::Client => {
                self.traffic.to_server += count;
                follower.into_iter().for_each(|it| it.requests(bytes, &mut self.note));
            }
            Side::Server => {
                self.traffic.to_client += count;
                follower.into_iter().for_each(|it| it.responses(bytes, &mut self.note));
            }
        }
        bytes
    }

    fn end(&mut self, from: Side) -> &[u8] {
        if from == Side::Server
            && let Some(follower) = self.follower.as_deref_mut()
        {
            follower.responses_end(&mut self.note);
        }
        b""
    }
}

fn mapping<'a>(kind: Kind, number: u64, caller: &Caller, server: &'a Server) -> Mapping<'a> {
    let (addr, port) = match &*server.addr {
        Endpoint::Ip(addr) => (ServerAddr::from(addr.ip()), Some(addr.port())),
        Endpoint::Unix(path) => (ServerAddr::Unix(path.as_os_str().as_bytes()), None),
    };
    Mapping {
        kind,
        client_port: (caller.addr != ClientAddr::Unix).then_some(caller.port),
        server_port: port,
        balancer: server.local,
        time: Some((wall_clock(), Resolution::Microsecond)),
        connection: Some(number),
        ..Mapping::new(caller.addr, addr)
    }
}

fn noted<'a>(note: Note<'a>, number: u64, caller: &Caller, server: &'a Server) -> Mapping<'a> {
    match note {
        Note::Request { nth, line, user_agent, referer, host } => Mapping {
            nth: Some(nth),
            request: Some(RequestText::raw(line, Cut::Long)),
            whole: Fingerprint::of_whole(line).map(Fingerprint::get),
            user_agent,
            referer,
            host,
            ..mapping(Kind::Request, number, caller, server)
        },
        Note::Ended { nth, status, head, body, framed } => Mapping {
            nth: Some(nth),
            status: Some(status),
            head_bytes: Some(head),
            body_bytes: Some(body),
            framed_bytes: Some(framed),
            ..mapping(Kind::Ended, number, caller, server)
        },
    }
}
