//! The configuration as plain values: read from the command line, `-O` and the configuration file, and changed
//! by the control port while pen runs.
//!
//! [`PenConfig`] is complete. The part that may change while pen runs is [`RuntimeSettings`]; a change replaces
//! all runtime settings at once, so that each connection is served by one consistent set.

pub mod acl;
pub mod address;
pub mod checks;
pub mod countries;
mod delivery;
pub mod file_io;
mod network;
mod tls;

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::num::{NonZeroU32, NonZeroUsize};
use std::path::PathBuf;
use std::time::Duration;

use pen_daemon::process::Process;
use pen_records::addr::ClientAddr;
use penlogd::cli::{JournalArgs, SenderArgs};

use crate::config::acl::Acls;
use crate::config::checks::CheckSettings;

pub use delivery::{DeliverySettings, LogTransport};
pub use network::TrustedPeer;
pub use tls::{ClientCertificates, ServerTls, TlsSettings, TlsVersion};

/// The complete configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PenConfig {
    /// Background, jail, user, pid file.
    pub process: Process,
    /// The verbosity of log messages: the number of `-d` options.
    pub debug: u8,
    /// Whether connections or datagrams are balanced.
    pub transport: TransportKind,
    /// The addresses that clients connect to; at least one.
    pub listen: Vec<Endpoint>,
    /// The address of the control port.
    pub control: Option<Endpoint>,
    /// The number of threads that forward traffic.
    pub workers: NonZeroUsize,
    /// The length of the kernel queue of clients that wait to be accepted.
    pub backlog: NonZeroU32,
    /// The limit of clients accepted before other events are handled.
    pub multi_accept: NonZeroU32,
    /// The address of the status over HTTP.
    pub status: Option<SocketAddr>,
    /// The collector inside this process, if there is one.
    pub collect: Option<EmbeddedCollectorSettings>,
    /// Whether the command `exit` ends the process.
    pub exit: ExitPolicy,
    /// The configuration file; SIGHUP reads the file again, `write` overwrites the file.
    pub file: Option<PathBuf>,
    /// The settings that may change while pen runs.
    pub settings: RuntimeSettings,
}

impl Default for PenConfig {
    /// Returns the default configuration, without any address to listen on.
    fn default() -> Self {
        Self {
            process: Process::default(),
            debug: 0,
            transport: TransportKind::Stream,
            listen: Vec::new(),
            control: None,
            workers: NonZeroUsize::MIN,
            backlog: const { NonZeroU32::new(500).unwrap() },
            multi_accept: const { NonZeroU32::new(100).unwrap() },
            status: None,
            collect: None,
            exit: ExitPolicy::Refused,
            file: None,
            settings: RuntimeSettings::default(),
        }
    }
}

/// The collector inside the process of the balancer: `--collect` and `--merged-log`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EmbeddedCollectorSettings {
    /// The address for the lines of web servers and the records of this balancer.
    pub addr: SocketAddr,
    /// The file for the lines with their clients.
    pub log: PathBuf,
    /// The options about senders of lines.
    pub senders: SenderArgs,
    /// The options about the journal.
    pub journal: JournalArgs,
}

/// The policy for `exit` at the control port.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ExitPolicy {
    /// The command is answered with an error.
    #[default]
    Refused,
    /// The command stops the process as SIGTERM does.
    Allowed,
}

/// The kind of traffic that is balanced.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TransportKind {
    /// Connections: TCP or Unix-domain streams.
    #[default]
    Stream,
    /// UDP datagrams.
    Udp,
}

/// An address to listen on or to connect to.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Endpoint {
    /// An IP address and a port.
    Ip(SocketAddr),
    /// A Unix-domain socket.
    Unix(PathBuf),
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ip(addr) => addr.fmt(f),
            Self::Unix(path) => path.display().fmt(f),
        }
    }
}

/// The settings that may change while pen runs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RuntimeSettings {
    /// The servers by their numbers; `None` for an unused number.
    pub servers: Vec<Option<ServerSettings>>,
    /// The server for clients when no other server is available.
    pub emergency: Option<ServerSettings>,
    /// The server for clients that the access list denies.
    pub abuse: Option<ServerSettings>,
    /// The ways of choosing a server.
    pub modes: SelectionModes,
    /// Limits of counts.
    pub limits: CapacityLimits,
    /// Limits of times.
    pub timeouts: Timeouts,
    /// The health checks of servers.
    pub checks: CheckSettings,
    /// Options of TCP sockets.
    pub tcp: TcpOptions,
    /// The access lists.
    pub acls: Acls,
    /// The number of the access list for clients.
    pub client_acl: u8,
    /// The number of the access list for the control port.
    pub control_acl: u8,
    /// The number of the access list for the status over HTTP; `None` permits all clients. The default is not
    /// list 0, because rules for clients in list 0 would lock out the health check of keepalived and its like.
    pub status_acl: Option<u8>,
    /// The destination of mapping records.
    pub log: Option<LogTarget>,
    /// The format of mapping records.
    pub log_format: LogFormat,
    /// The way of mapping records to a collector.
    pub delivery: DeliverySettings,
    /// The log of HTTP/1.x requests and responses.
    pub access_log: Option<PathBuf>,
    /// The file for the status page, written on SIGUSR1.
    pub web_stats: Option<PathBuf>,
    /// The treatment of `X-Forwarded-For`; `None` leaves requests unchanged.
    pub http: Option<ForwardedFor>,
    /// The version of the PROXY protocol towards servers.
    pub send_proxy: Option<ProxyVersion>,
    /// The peers whose connections must begin with a PROXY header.
    pub accept_proxy: Vec<TrustedPeer>,
    /// TLS towards clients and servers.
    pub tls: TlsSettings,
}

impl RuntimeSettings {
    /// Returns whether mapping records go to a C penlogd. That collector joins a line with the records received
    /// so far, so each record has to be sent at once.
    #[must_use]
    pub fn is_classic_collector(&self) -> bool {
        self.log_format == LogFormat::Classic
            && matches!(self.log, Some(LogTarget::Collector { .. }))
    }

    /// Returns all servers, the emergency and the abuse server last.
    pub fn all_servers(&self) -> impl Iterator<Item = (PoolServerId, &ServerSettings)> {
        let slots = (0_u32..).zip(&self.servers);
        let slots = slots.filter_map(|(slot, it)| Some((PoolServerId::Slot(slot), it.as_ref()?)));
        let emergency = self.emergency.iter().map(|it| (PoolServerId::Emergency, it));
        let abuse = self.abuse.iter().map(|it| (PoolServerId::Abuse, it));
        slots.chain(emergency).chain(abuse)
    }

    /// Returns whether connections from `addr` must begin with a PROXY header.
    #[must_use]
    pub fn speaks_for_others(&self, addr: ClientAddr) -> bool {
        self.accept_proxy.iter().any(|trusted| trusted.matches(addr))
    }
}

/// The identity of a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum PoolServerId {
    /// A server of the selection, by its number.
    Slot(u32),
    /// The emergency server, used when no other server is available.
    Emergency,
    /// The abuse server, used for clients that the access list denies.
    Abuse,
}

/// The settings of a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerSettings {
    /// The address that pen connects to.
    pub addr: Endpoint,
    /// The host name that was looked up; `None` for an address as typed.
    pub name: Option<String>,
    /// The number of connections from which on only known clients are accepted.
    pub soft: Option<NonZeroU32>,
    /// The number of connections from which on no client is accepted; `None` for the soft limit.
    pub hard: Option<NonZeroU32>,
    /// The share of clients in the selection by weight; 0 for none.
    pub weight: u32,
    /// The priority in the selection by priority; lower is better.
    pub prio: u32,
    /// The number of the access list for clients of this server.
    pub acl: u8,
    /// Whether the server gets no new connections; open connections go on.
    pub draining: bool,
    /// How the server came to be in the configuration.
    pub origin: ServerOrigin,
}

/// How a server came to be in the configuration.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ServerOrigin {
    /// A command or an argument named the server.
    #[default]
    Configured,
    /// A further address of the host name of a configured server.
    Resolved,
    /// A former further address of a host name: removed after its last connection.
    Withdrawn,
}

impl ServerSettings {
    /// Returns a server without limits.
    #[must_use]
    pub const fn new(addr: Endpoint) -> Self {
        Self {
            addr,
            name: None,
            soft: None,
            hard: None,
            weight: 1,
            prio: 0,
            acl: 0,
            draining: false,
            origin: ServerOrigin::Configured,
        }
    }

    /// Returns the host name, or the address if there is no name; and the port, 0 for a Unix-domain socket.
    #[must_use]
    pub fn host_and_port(&self) -> (String, u16) {
        match (&self.name, &self.addr) {
            (Some(name), Endpoint::Ip(addr)) => (name.clone(), addr.port()),
            (_, Endpoint::Ip(addr)) => (addr.ip().to_string(), addr.port()),
            (_, Endpoint::Unix(path)) => (path.display().to_string(), 0),
        }
    }
}

/// Returns a limit of connections as it is typed: 0 for no limit.
#[must_use]
pub fn limit(limit: Option<NonZeroU32>) -> u32 {
    limit.map_or(0, NonZeroU32::get)
}

/// A way of choosing a server. The order of the modes that are on is priority, weight, least connections,
/// hash, round robin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SelectionMode {
    /// By a hash of the client's address.
    Hash,
    /// In turn, without regard to the client's former server; with `Hash`, by address and port.
    RoundRobin,
    /// Try no other server if the first choice fails.
    Stubborn,
    /// The least loaded server, by weight.
    Weight,
    /// The server with the best priority.
    Prio,
    /// The server with the fewest connections.
    LeastConnections,
}

/// The selection modes that are on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SelectionModes(u8);

impl SelectionModes {
    /// Returns whether `mode` is on.
    #[must_use]
    pub const fn is_on(self, mode: SelectionMode) -> bool {
        self.0 & (1 << mode as u8) != 0
    }

    /// Turns `mode` on or off.
    pub const fn set(&mut self, mode: SelectionMode, on: bool) {
        let bit = 1 << mode as u8;
        self.0 = if on { self.0 | bit } else { self.0 & !bit };
    }

    /// Returns these modes with `mode` on.
    #[must_use]
    pub const fn with(mut self, mode: SelectionMode) -> Self {
        self.set(mode, true);
        self
    }
}

/// Limits of counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CapacityLimits {
    /// The limit of clients whose server is remembered.
    pub clients: NonZeroUsize,
    /// The limit of concurrent connections; `None` for as many as file descriptors allow.
    pub connections: Option<NonZeroUsize>,
    /// The limit of connections to servers that are being opened.
    pub pending: NonZeroUsize,
}

impl Default for CapacityLimits {
    fn default() -> Self {
        let clients = const { NonZeroUsize::new(2048).unwrap() };
        let pending = const { NonZeroUsize::new(100).unwrap() };
        Self { clients, connections: None, pending }
    }
}

/// Limits of times. `None` means no limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// How long a server may take to accept a connection before the next server is tried.
    pub connect: Duration,
    /// How long a connection may be idle; for datagrams see [`Self::flow_idle`].
    pub idle: Option<Duration>,
    /// How long a half-closed connection may be idle.
    pub linger: Option<Duration>,
    /// How long a client may take to send its first byte.
    pub first_byte: Option<Duration>,
    /// How long a failed server gets no clients.
    pub blacklist: Duration,
    /// How long a client keeps its server.
    pub tracking: Option<Duration>,
    /// How long connections may go on when pen stops.
    pub drain: Duration,
    /// The time between lookups of server names; `None` for one lookup at the start.
    pub resolve: Option<Duration>,
}

impl Timeouts {
    /// Returns how long a flow of datagrams may be idle: a minute without a setting. Only this timeout ends a
    /// flow, so there is always one.
    #[must_use]
    pub fn flow_idle(&self) -> Duration {
        self.idle.unwrap_or(Duration::from_secs(60))
    }
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(3),
            idle: None,
            linger: Some(Duration::from_secs(60)),
            first_byte: None,
            blacklist: Duration::from_secs(30),
            tracking: None,
            drain: Duration::from_secs(10),
            resolve: Some(Duration::from_secs(30)),
        }
    }
}

/// Options of TCP sockets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TcpOptions {
    /// Whether small packets are sent at once (`TCP_NODELAY`).
    pub nodelay: bool,
    /// Whether the kernel sends keepalive probes.
    pub keepalive: bool,
    /// Whose FIN closes both directions.
    pub fastclose: FastClose,
    /// The local address of connections to servers; `None` for the kernel's choice.
    pub source: Option<IpAddr>,
    /// Whether connections to servers come from the client's address.
    pub transparent: bool,
}

impl Default for TcpOptions {
    fn default() -> Self {
        Self {
            nodelay: true,
            keepalive: true,
            fastclose: FastClose::Off,
            source: None,
            transparent: false,
        }
    }
}

/// The side whose FIN closes both directions, instead of only the direction of the FIN.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum FastClose {
    /// Neither side.
    #[default]
    Off,
    /// The server (`up`).
    Server,
    /// The client (`down`).
    Client,
    /// Both sides (`both`).
    Both,
}

impl LogTarget {
    /// Returns the destination as typed.
    #[must_use]
    pub fn name(&self) -> &std::ffi::OsStr {
        match self {
            Self::File(path) => path.as_os_str(),
            Self::Collector { name, .. } => name.as_ref(),
        }
    }
}

/// The destination of mapping records.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum LogTarget {
    /// A file that lines are appended to.
    File(PathBuf),
    /// A collector that datagrams are sent to.
    Collector {
        /// The host and the port as typed.
        name: String,
        /// The address of the host.
        addr: SocketAddr,
    },
}

/// The format of mapping records.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// All fields: packets for a collector, extended lines in a file.
    #[default]
    Extended,
    /// The format of the C programs: a datagram or a line for each request.
    Classic,
}

/// The treatment of an `X-Forwarded-For` header from the client.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum ForwardedFor {
    /// The client's address replaces the header.
    #[default]
    Replace,
    /// The client's address is appended to the header.
    Append,
    /// The header of these peers stays; the header of another client is replaced.
    Keep(Vec<TrustedPeer>),
}

/// A version of the PROXY protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProxyVersion {
    /// A line of text.
    V1,
    /// A binary header.
    V2,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_are_turned_on_and_off_one_by_one() {
        let mut modes =
            SelectionModes::default().with(SelectionMode::Hash).with(SelectionMode::Prio);
        modes.set(SelectionMode::Hash, false);
        assert!(modes.is_on(SelectionMode::Prio) && !modes.is_on(SelectionMode::Hash));
        assert_eq!(modes, SelectionModes::default().with(SelectionMode::Prio));
    }
}
