//! What a worker says of its connections when it is asked, in a moment between two others.

use std::collections::BTreeMap;
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

use super::connection::{Connection, Stage};
use super::shared::{Order, Shared};
use crate::pool::{ServerId, Traffic};
use crate::snapshot::{self, ConnectionNow};

/// How long a worker may take to answer, before the answer goes without it.
const PATIENCE: Duration = Duration::from_secs(1);

/// What is asked.
#[derive(Clone, Debug)]
pub struct Question {
    /// How many connections are to be listed at most.
    most: usize,
    to: Sender<Report>,
}

/// The connections of a worker, or of all.
#[derive(Debug, Default)]
pub struct Report {
    /// As many as were asked for.
    pub connections: Vec<ConnectionNow>,
    /// The bytes so far of all that are open, by server; the pool counts them when they end.
    pub traffic: BTreeMap<ServerId, Traffic>,
}

/// What can be said of a connection or a flow.
pub(super) trait Reported {
    /// The server it was sent to.
    fn server(&self) -> Option<ServerId>;

    /// Its bytes so far.
    fn traffic(&self) -> Traffic;

    /// All of it.
    fn describe(&self, now: Instant) -> ConnectionNow;
}

impl Reported for &Connection {
    fn server(&self) -> Option<ServerId> {
        self.server.as_ref().map(|server| server.seat.server())
    }

    fn traffic(&self) -> Traffic {
        self.traffic
    }

    fn describe(&self, now: Instant) -> ConnectionNow {
        describe(self, now)
    }
}

impl Report {
    fn add(&mut self, connection: &impl Reported, most: usize, now: Instant) {
        if let Some(server) = connection.server() {
            let (sum, traffic) = (self.traffic.entry(server).or_default(), connection.traffic());
            sum.to_server += traffic.to_server;
            sum.to_client += traffic.to_client;
        }
        if self.connections.len() < most {
            self.connections.push(connection.describe(now));
        }
    }

    fn join(&mut self, other: Self) {
        self.connections.extend(other.connections);
        for (server, traffic) in other.traffic {
            let sum = self.traffic.entry(server).or_default();
            sum.to_server += traffic.to_server;
            sum.to_client += traffic.to_client;
        }
    }
}

fn describe(connection: &Connection, now: Instant) -> ConnectionNow {
    let caller = &connection.caller;
    let server = connection.server.as_ref();
    let stage = match connection.stage {
        Stage::Greeting | Stage::Agreeing => snapshot::Stage::Greeting,
        Stage::Waiting | Stage::Connecting | Stage::Handshake => snapshot::Stage::Connecting,
        Stage::Open if connection.duplex.is_half_closed() => snapshot::Stage::HalfClosed,
        Stage::Open => snapshot::Stage::Open,
    };
    let client = match caller.addr {
        pen_records::addr::ClientAddr::Ip(ip) => {
            std::net::SocketAddr::new(ip, caller.port).to_string()
        }
        unix @ pen_records::addr::ClientAddr::Unix => unix.to_string(),
    };
    ConnectionNow {
        number: connection.number,
        client,
        client_fd: connection.client.as_fd().as_raw_fd(),
        server: server.map(|server| server.seat.server()),
        server_fd: server.map(|server| server.socket.as_fd().as_raw_fd()),
        stage,
        age: now.saturating_duration_since(connection.accepted),
        to_server: connection.traffic.to_server,
        to_client: connection.traffic.to_client,
    }
}

impl Question {
    /// Answers it. Whoever asked may have gone.
    pub(super) fn answer<T: Reported>(self, connections: impl Iterator<Item = T>, now: Instant) {
        let mut report = Report::default();
        connections.for_each(|connection| report.add(&connection, self.most, now));
        self.to.send(report).unwrap_or_default();
    }
}

/// Asks all workers, and waits for their answers, but not for long.
#[must_use]
pub fn ask(shared: &Shared, most: usize) -> Report {
    let (to, answers): (_, Receiver<Report>) = channel();
    shared.tell_all(&Order::Report(Question { most, to }));
    let deadline = Instant::now() + PATIENCE;
    let mut whole = Report::default();
    // It ends when the last worker has answered and dropped its end.
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        match answers.recv_timeout(left) {
            Ok(report) => whole.join(report),
            Err(RecvTimeoutError::Disconnected | RecvTimeoutError::Timeout) => break,
        }
    }
    whole.connections.truncate(most);
    whole
}
