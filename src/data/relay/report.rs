//! What a worker says of its connections when it is asked, in moments between others.

use std::collections::BTreeMap;
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

use super::shared::{Shared, WorkerCommand};
use super::tcp::connection::{Connection, ConnectionStage};
use crate::config::PoolServerId;
use crate::data::pool::Traffic;
use crate::data::snapshot::{self, ConnectionFilter, ConnectionSnapshot};

/// How long a worker may take to answer, before the answer goes without it.
const PATIENCE: Duration = Duration::from_secs(3);

/// What is asked.
#[derive(Clone, Debug)]
pub struct ReportRequest {
    /// The connections that are to be listed.
    which: ConnectionFilter,
    to: Sender<Report>,
}

/// A question, and as much of the answer as is known by now.
#[derive(Debug)]
pub(super) struct ReportJob {
    request: ReportRequest,
    report: Report,
}

/// The connections of a worker, or of all.
#[derive(Debug, Default)]
pub struct Report {
    /// As many as were asked for.
    pub connections: Vec<ConnectionSnapshot>,
    /// The bytes so far of all that are open, by server; the pool counts them when they end.
    pub traffic: BTreeMap<PoolServerId, Traffic>,
}

/// What can be said of a connection or a flow.
pub(super) trait Reportable {
    /// Its number.
    fn number(&self) -> u64;

    /// The descriptors towards its client and its server.
    fn descriptors(&self) -> (i32, Option<i32>);

    /// The server it was sent to.
    fn server(&self) -> Option<PoolServerId>;

    /// Its bytes so far.
    fn traffic(&self) -> Traffic;

    /// All of it.
    fn describe(&self, now: Instant) -> ConnectionSnapshot;
}

impl Reportable for &Connection {
    fn number(&self) -> u64 {
        self.number
    }

    fn descriptors(&self) -> (i32, Option<i32>) {
        let server = self.server.as_ref().map(|server| server.socket.as_fd().as_raw_fd());
        (self.client.as_fd().as_raw_fd(), server)
    }

    fn server(&self) -> Option<PoolServerId> {
        self.server.as_ref().map(|server| server.lease.server())
    }

    fn traffic(&self) -> Traffic {
        self.traffic
    }

    fn describe(&self, now: Instant) -> ConnectionSnapshot {
        describe(self, now)
    }
}

impl Report {
    fn add(&mut self, connection: &impl Reportable, which: ConnectionFilter, now: Instant) {
        if let Some(server) = connection.server() {
            let (sum, traffic) = (self.traffic.entry(server).or_default(), connection.traffic());
            sum.to_server += traffic.to_server;
            sum.to_client += traffic.to_client;
        }
        let is_wanted = match which {
            ConnectionFilter::First(most) => self.connections.len() < most,
            ConnectionFilter::Number(number) => connection.number() == number,
            ConnectionFilter::Descriptor(fd) => {
                let (client, server) = connection.descriptors();
                client == fd || server == Some(fd)
            }
        };
        if is_wanted {
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

fn describe(connection: &&Connection, now: Instant) -> ConnectionSnapshot {
    let caller = &connection.caller;
    let server = connection.server.as_ref();
    let stage = match connection.stage {
        ConnectionStage::ProxyHeader | ConnectionStage::ClientHandshake => {
            snapshot::ConnectionStatus::Handshake
        }
        ConnectionStage::Pending
        | ConnectionStage::Connecting
        | ConnectionStage::ServerHandshake => snapshot::ConnectionStatus::Connecting,
        ConnectionStage::Open if connection.duplex.is_half_closed() => {
            snapshot::ConnectionStatus::HalfClosed
        }
        ConnectionStage::Open => snapshot::ConnectionStatus::Open,
    };
    let client = match caller.addr {
        pen_records::addr::ClientAddr::Ip(ip) => {
            std::net::SocketAddr::new(ip, caller.port).to_string()
        }
        unix @ pen_records::addr::ClientAddr::Unix => unix.to_string(),
    };
    let (client_fd, server_fd) = connection.descriptors();
    ConnectionSnapshot {
        number: connection.number,
        client,
        client_fd,
        server: server.map(|server| server.lease.server()),
        server_fd,
        stage,
        age: now.saturating_duration_since(connection.accepted),
        to_server: connection.traffic.to_server,
        to_client: connection.traffic.to_client,
    }
}

impl ReportJob {
    /// One that nothing is known of yet.
    pub(super) fn new(request: ReportRequest) -> Self {
        Self { request, report: Report::default() }
    }

    /// Takes these into account.
    pub(super) fn add<T: Reportable>(
        &mut self,
        connections: impl Iterator<Item = T>,
        now: Instant,
    ) {
        connections.for_each(|one| self.report.add(&one, self.request.which, now));
    }

    /// Hands the answer over. Whoever asked may have gone.
    pub(super) fn answer(self) {
        self.request.to.send(self.report).unwrap_or_default();
    }
}

/// Asks all workers, and waits for their answers, but not for long.
#[must_use]
pub fn ask(shared: &Shared, which: ConnectionFilter) -> Report {
    let (to, answers): (_, Receiver<Report>) = channel();
    shared.tell_all(&WorkerCommand::Report(ReportRequest { which, to }));
    let mut whole = Report::default();
    each(&answers, |report| whole.join(report));
    if let ConnectionFilter::First(most) = which {
        whole.connections.truncate(most);
    }
    whole
}

/// Closes the connection with this number; whether there was one.
#[must_use]
pub fn close(shared: &Shared, number: u64) -> bool {
    let (to, answers) = channel();
    shared.tell_all(&WorkerCommand::Close(number, to));
    let mut closed = false;
    each(&answers, |()| closed = true);
    closed
}

/// Takes what workers answer, until the last one has dropped its end.
fn each<T>(answers: &Receiver<T>, mut take: impl FnMut(T)) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        match answers.recv_timeout(left) {
            Ok(answer) => take(answer),
            Err(RecvTimeoutError::Disconnected | RecvTimeoutError::Timeout) => return,
        }
    }
}
