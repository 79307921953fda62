//! The state of the balancer at one moment, as plain values. The control port, the status page, the JSON and the
//! metrics are drawn from a snapshot, so that the data plane is asked once and goes on.

use std::time::{Duration, SystemTime};

use pen_records::addr::ClientAddr;

use crate::config::PoolServerId;
use crate::config::ServerSettings;

/// How much a snapshot contains: its lists may be long.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SnapshotDetail {
    /// Most clients to list, the last seen first.
    pub clients: usize,
    /// Only clients seen within this time; `None` for all.
    pub recent: Option<Duration>,
    /// The connections to list.
    pub connections: ConnectionFilter,
}

/// Selects the connections to list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConnectionFilter {
    /// The first connections, at most this many.
    First(usize),
    /// The connection with this number.
    Number(u64),
    /// The connection that this file descriptor belongs to.
    Descriptor(i32),
}

impl Default for ConnectionFilter {
    /// Selects no connection.
    fn default() -> Self {
        Self::First(0)
    }
}

/// The state of the balancer at one moment.
#[derive(Clone, Debug, PartialEq)]
pub struct Snapshot {
    /// When the snapshot was taken.
    pub time: SystemTime,
    /// How long pen had been running then.
    pub uptime: Duration,
    /// The addresses of the listeners, as bound.
    pub listen: Vec<String>,
    /// The servers in order; the emergency and the abuse server last.
    pub servers: Vec<ServerSnapshot>,
    /// The number of the server that was selected last.
    pub current: u32,
    /// The number of remembered clients, and its limit.
    pub clients_known: LimitedCount,
    /// The remembered clients, as far as [`SnapshotDetail`] asks for them.
    pub clients: Vec<ClientSnapshot>,
    /// The number of open connections, and its limit.
    pub connections_open: LimitedCount,
    /// The connections, as far as [`SnapshotDetail`] asks for them.
    pub connections: Vec<ConnectionSnapshot>,
    /// Counters since the start.
    pub counts: BalancerCounters,
    /// The mapping log; `None` if it is off.
    pub mapping_log: Option<LogSnapshot>,
    /// The access log; `None` if it is off.
    pub access_log: Option<LogSnapshot>,
    /// TLS towards clients and servers; `None` if it is not used.
    pub tls: Option<TlsSnapshot>,
}

/// A number with a limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LimitedCount {
    /// The number now.
    pub now: u64,
    /// The limit; `None` for no limit but that of the machine.
    pub most: Option<u64>,
}

/// A server.
#[derive(Clone, Debug, PartialEq)]
pub struct ServerSnapshot {
    /// Slot number, emergency or abuse.
    pub id: PoolServerId,
    /// Its configuration.
    pub config: ServerSettings,
    /// Whether the server gets new connections.
    pub state: ServerStatus,
    /// Open connections, including those being opened.
    pub connections: u32,
    /// Connections opened since the start.
    pub served: u64,
    /// Failed attempts to connect.
    pub failures: u64,
    /// Time since the last failed attempt; `None` if a later attempt succeeded or none failed.
    pub last_failure: Option<Duration>,
    /// The result of the last health check; `None` before the first.
    pub check: Option<CheckSnapshot>,
    /// Bytes forwarded from clients to the server.
    pub to_server: u64,
    /// Bytes forwarded from the server to clients.
    pub to_client: u64,
}

/// The result of a health check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckSnapshot {
    /// Time since the check.
    pub age: Duration,
    /// The fault that the check found; `None` if the server is healthy.
    pub wrong: Option<String>,
}

/// Whether a server gets new connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ServerStatus {
    /// The server gets new connections.
    Up,
    /// The server has as many connections as its limit allows.
    Full,
    /// The server failed, or an operator blacklisted it; for the remaining time.
    Blacklisted(Duration),
    /// The server keeps its connections and gets no new ones.
    Draining,
    /// Health checks fail.
    Down,
}

impl ServerStatus {
    /// Returns the word that all formats use.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Up => "up",
            Self::Full => "full",
            Self::Blacklisted(_) => "blacklisted",
            Self::Draining => "draining",
            Self::Down => "down",
        }
    }

    /// The words of all statuses.
    pub const WORDS: [&'static str; 5] = ["up", "full", "blacklisted", "draining", "down"];
}

/// A remembered client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientSnapshot {
    /// Address of the client.
    pub addr: ClientAddr,
    /// Time since the client connected last.
    pub age: Duration,
    /// The server of the last connection, never the emergency or the abuse server; `None` before there is one.
    pub server: Option<PoolServerId>,
    /// Connections of the client.
    pub connects: u64,
    /// Bytes sent to the client.
    pub sent: u64,
    /// Bytes received from the client.
    pub received: u64,
}

/// An open connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConnectionSnapshot {
    /// The number of the connection, as the command `close` takes it.
    pub number: u64,
    /// Address and port of the client.
    pub client: String,
    /// The file descriptor of the client's socket.
    pub client_fd: i32,
    /// The server; `None` before one is selected.
    pub server: Option<PoolServerId>,
    /// The file descriptor of the server's socket; `None` before there is one.
    pub server_fd: Option<i32>,
    /// How far the connection is.
    pub stage: ConnectionStatus,
    /// Time since the connection was accepted.
    pub age: Duration,
    /// Bytes forwarded from client to server.
    pub to_server: u64,
    /// Bytes forwarded from server to client.
    pub to_client: u64,
}

/// How far a connection is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConnectionStatus {
    /// The client has to send its PROXY header or to complete its TLS handshake.
    Handshake,
    /// The connection to a server is being opened.
    Connecting,
    /// Both directions are open.
    Open,
    /// One side has sent its FIN, the other direction is open.
    HalfClosed,
}

impl ConnectionStatus {
    /// Returns the word that all formats use.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Handshake => "handshake",
            Self::Connecting => "connecting",
            Self::Open => "open",
            Self::HalfClosed => "half-closed",
        }
    }
}

/// Counters since the start.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BalancerCounters {
    /// Accepted connections.
    pub accepted: u64,
    /// Connections denied by an access list.
    pub denied: u64,
    /// Connections closed because no server was available.
    pub unserved: u64,
    /// Connections that failed over to another server.
    pub failovers: u64,
    /// Datagrams that could not be forwarded.
    pub lost_datagrams: u64,
    /// Datagrams that the kernel dropped because a receive buffer was full; `None` without UDP or where the kernel does not tell.
    pub kernel_drops: Option<u64>,
    /// Failed attempts to accept a connection, for lack of file descriptors or memory.
    pub accept_failures: u64,
    /// In HTTP mode: connections with a rejected request.
    pub http_refused: u64,
    /// In HTTP mode: connections that were not HTTP/1.x and were forwarded unchanged.
    pub not_http: u64,
    /// Connections that ended abnormally: the cause, and how many.
    pub ended: Vec<(&'static str, u64)>,
}

/// TLS towards clients and servers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TlsSnapshot {
    /// Whether clients connect by TLS.
    pub clients: bool,
    /// Whether pen connects to servers by TLS.
    pub servers: bool,
    /// The number of certificates, including the default one.
    pub certificates: u64,
    /// Time since the files were read.
    pub age: Duration,
    /// The file of the certificate that expires first, and when.
    pub expires: Option<(String, SystemTime)>,
    /// Completed TLS handshakes with clients.
    pub handshakes: u64,
    /// Failed TLS handshakes with clients.
    pub failed: u64,
    /// The fault of the TLS files; `None` if all are usable.
    pub trouble: Option<String>,
}

/// The counters of a log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LogSnapshot {
    /// The collector or the file that the log is written to.
    pub target: String,
    /// Records or lines made.
    pub made: u64,
    /// Records or lines sent or written.
    pub written: u64,
    /// Records or lines dropped because the log did not keep up or failed.
    pub dropped: u64,
    /// The current fault of the log; `None` if it works.
    pub trouble: Option<String>,
}
