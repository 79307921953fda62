//! One client's connection, from its acceptance to its end.

use std::io;
use std::sync::Arc;
use std::time::Instant;

use super::duplex::{Duplex, Ready, Side};
use super::pump::{self, Ends, Leftovers, Pause, Watch};
use super::socket::Socket;
use crate::config::{Endpoint, Settings};
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

    /// Forwards what there is to forward.
    pub(super) fn pump(&mut self, buf: &mut [u8], now: Instant) -> Pause {
        let Some(server) = &self.server else { return Pause::Wait };
        let before = self.traffic;
        let mut ends = Pair { client: &self.client, server: &server.socket };
        let mut watch = Watcher { traffic: &mut self.traffic };
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

struct Watcher<'a> {
    traffic: &'a mut Traffic,
}

impl Watch for Watcher<'_> {
    fn pass<'a>(&'a mut self, from: Side, bytes: &'a [u8]) -> &'a [u8] {
        let count = bytes.len() as u64;
        match from {
            Side::Client => self.traffic.to_server += count,
            Side::Server => self.traffic.to_client += count,
        }
        bytes
    }

    fn end(&mut self, _: Side) -> &[u8] {
        b""
    }
}
