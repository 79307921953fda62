//! The state at one moment, as plain values: what the control port answers from, and what the status
//! page, the JSON and the metrics show. The data plane fills one in when it is asked, and goes on.

use std::time::{Duration, SystemTime};

use pen_records::addr::ClientAddr;

use crate::config::PoolServerId;
use crate::config::ServerSettings;

/// How much of the state is wanted: lists may be long.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SnapshotDetail {
    /// At most so many clients, those seen last first.
    pub clients: usize,
    /// Only clients seen within this time.
    pub recent: Option<Duration>,
    /// Of the connections, these.
    pub connections: ConnectionFilter,
}

/// Selects connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConnectionFilter {
    /// At most so many.
    First(usize),
    /// The one with this number.
    Number(u64),
    /// The one that this file descriptor belongs to.
    Descriptor(i32),
}

impl Default for ConnectionFilter {
    /// None at all.
    fn default() -> Self {
        Self::First(0)
    }
}

/// The state at one moment.
#[derive(Clone, Debug, PartialEq)]
pub struct Snapshot {
    /// The moment.
    pub time: SystemTime,
    /// How long pen has been running by then.
    pub uptime: Duration,
    /// Where it listens, as bound.
    pub listen: Vec<String>,
    /// The servers; the emergency and the abuse server last.
    pub servers: Vec<ServerSnapshot>,
    /// The number of the server that had the last turn.
    pub current: u32,
    /// Clients whose server is remembered: how many, and how many there may be.
    pub clients_known: LimitedCount,
    /// As many of them as were asked for.
    pub clients: Vec<ClientSnapshot>,
    /// Connections: how many, and how many there may be.
    pub connections_open: LimitedCount,
    /// As many of them as were asked for.
    pub connections: Vec<ConnectionSnapshot>,
    /// What was counted since the start.
    pub counts: BalancerCounters,
    /// How mapping records fare; `None` if there are none.
    pub mapping_log: Option<LogSnapshot>,
    /// How the access log fares; `None` if there is none.
    pub access_log: Option<LogSnapshot>,
    /// How TLS fares; `None` if it is not spoken.
    pub tls: Option<TlsSnapshot>,
}

/// How many there are of something that is limited.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LimitedCount {
    /// So many.
    pub now: u64,
    /// Out of so many; `None` if nothing but the machine limits them.
    pub most: Option<u64>,
}

/// A server.
#[derive(Clone, Debug, PartialEq)]
pub struct ServerSnapshot {
    /// Slot number, emergency or abuse.
    pub id: PoolServerId,
    /// What was meant.
    pub config: ServerSettings,
    /// Whether it gets connections.
    pub state: ServerStatus,
    /// Connections it has, those being opened included.
    pub connections: u32,
    /// Connections it has had.
    pub served: u64,
    /// Attempts that failed.
    pub failures: u64,
    /// How long ago the last attempt failed, if none succeeded since.
    pub last_failure: Option<Duration>,
    /// How the last check went, if there was one.
    pub check: Option<CheckSnapshot>,
    /// Bytes from clients.
    pub to_server: u64,
    /// Bytes to clients.
    pub to_client: u64,
}

/// How a check went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckSnapshot {
    /// How long ago.
    pub age: Duration,
    /// What was wrong, if anything.
    pub wrong: Option<String>,
}

/// Whether a server gets connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ServerStatus {
    /// It does.
    Up,
    /// It has as many as it may.
    Full,
    /// It failed, or was told to be left alone, for so long.
    Blacklisted(Duration),
    /// It gets no new ones.
    Draining,
    /// Checks say that it does not work.
    Down,
}

impl ServerStatus {
    /// One word for it.
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

    /// All words.
    pub const WORDS: [&'static str; 5] = ["up", "full", "blacklisted", "draining", "down"];
}

/// A client whose server is remembered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientSnapshot {
    /// Its address.
    pub addr: ClientAddr,
    /// How long ago it connected last.
    pub age: Duration,
    /// Where it was sent last.
    pub server: Option<PoolServerId>,
    /// How often it connected.
    pub connects: u64,
    /// Bytes that were sent to it.
    pub sent: u64,
    /// Bytes that came from it.
    pub received: u64,
}

/// A connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConnectionSnapshot {
    /// Its number, by which `close` knows it.
    pub number: u64,
    /// Address and port of the client.
    pub client: String,
    /// The file descriptor towards it.
    pub client_fd: i32,
    /// The server it was sent to.
    pub server: Option<PoolServerId>,
    /// The file descriptor towards that.
    pub server_fd: Option<i32>,
    /// How far it is.
    pub stage: ConnectionStatus,
    /// How long it has been there.
    pub age: Duration,
    /// Bytes from the client.
    pub to_server: u64,
    /// Bytes to the client.
    pub to_client: u64,
}

/// How far a connection is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConnectionStatus {
    /// The client has to introduce itself first.
    Handshake,
    /// A server is being connected to.
    Connecting,
    /// Both directions are open.
    Open,
    /// One side has said all.
    HalfClosed,
}

impl ConnectionStatus {
    /// One word for it.
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

/// What was counted since the start.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BalancerCounters {
    /// Connections that were accepted.
    pub accepted: u64,
    /// Those of them that an access list kept out.
    pub denied: u64,
    /// Those for which no server was left.
    pub unserved: u64,
    /// Those that went to another server when the first one failed.
    pub failovers: u64,
    /// Datagrams that could not be passed on.
    pub lost_datagrams: u64,
    /// Datagrams that the kernel dropped before they could be taken; `None` if there are none or it does not tell.
    pub kernel_drops: Option<u64>,
    /// Times that none could be accepted, for want of descriptors or memory.
    pub accept_failures: u64,
    /// In HTTP mode: those with a request that was refused.
    pub http_refused: u64,
    /// In HTTP mode: those that were not HTTP/1.x and passed as they were.
    pub not_http: u64,
    /// How those that are over came to their end: the cause, and how many.
    pub ended: Vec<(&'static str, u64)>,
}

/// How TLS fares.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TlsSnapshot {
    /// It is spoken to clients.
    pub clients: bool,
    /// It is spoken to servers.
    pub servers: bool,
    /// Certificates, that for all included.
    pub certificates: u64,
    /// How long ago they were read.
    pub age: Duration,
    /// The one that expires first, and when.
    pub expires: Option<(String, SystemTime)>,
    /// Clients that it was agreed with on how to encrypt.
    pub handshakes: u64,
    /// Clients that it was not.
    pub failed: u64,
    /// What is wrong with files now, if anything is.
    pub trouble: Option<String>,
}

/// How the records or lines of a log fare.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LogSnapshot {
    /// Where they go.
    pub target: String,
    /// Records that were made.
    pub made: u64,
    /// Those of them that were sent or written.
    pub written: u64,
    /// Those that were dropped because the log did not keep up.
    pub dropped: u64,
    /// What is wrong with it now, if anything is.
    pub trouble: Option<String>,
}
