//! Config: what was meant. Plain values, made from the command line, `-O` and the configuration file,
//! and changed while running by the control port.
//!
//! [`PenConfig`] is what a start needs. Its [`RuntimeSettings`] are what may change later: they are replaced as
//! a whole, so that every connection is served by one consistent set of them.

pub mod acl;
pub mod address;
pub mod checks;
pub mod countries;
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

use crate::config::acl::Acls;
use crate::config::checks::CheckSettings;

pub use network::TrustedPeer;
pub use tls::{ClientCertificates, ServerTls, TlsSettings, TlsVersion};

/// Everything a start needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PenConfig {
    /// Background, jail, user, pid file.
    pub process: Process,
    /// How often `-d` was given.
    pub debug: u8,
    /// What is balanced.
    pub transport: TransportKind,
    /// Where clients connect to; at least one.
    pub listen: Vec<Endpoint>,
    /// Where `penctl` connects to.
    pub control: Option<Endpoint>,
    /// Threads that relay.
    pub workers: NonZeroUsize,
    /// Clients that the kernel keeps waiting to be accepted.
    pub backlog: NonZeroU32,
    /// Clients accepted before others get their turn.
    pub multi_accept: NonZeroU32,
    /// Where the state can be looked at over HTTP.
    pub status: Option<SocketAddr>,
    /// The collector inside this process.
    pub collect: Option<EmbeddedCollectorSettings>,
    /// Whether the control port may end the process.
    pub exit: ExitPolicy,
    /// The file that some of this was read from; HUP reads it again, `write` writes it.
    pub file: Option<PathBuf>,
    /// What may change while running.
    pub settings: RuntimeSettings,
}

impl Default for PenConfig {
    /// What is in force when nothing is said; it does not listen anywhere.
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

/// The collector inside the process of the balancer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EmbeddedCollectorSettings {
    /// Where web servers send their lines, and this balancer its records.
    pub addr: SocketAddr,
    /// Where lines are written with their clients.
    pub log: PathBuf,
}

/// What becomes of `exit` at the control port.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ExitPolicy {
    /// It is answered with an error.
    #[default]
    Refused,
    /// It ends the process as TERM does.
    Allowed,
}

/// What is balanced.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TransportKind {
    /// Connections: TCP, or Unix-domain streams.
    #[default]
    Stream,
    /// Datagrams.
    Udp,
}

/// An address that can be listened at or connected to.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Endpoint {
    /// On the network.
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

/// What may change while pen runs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RuntimeSettings {
    /// By their numbers; `None` is a number that is not in use.
    pub servers: Vec<Option<ServerSettings>>,
    /// Gets who finds no other server.
    pub emergency: Option<ServerSettings>,
    /// Gets who is denied by the client list.
    pub abuse: Option<ServerSettings>,
    /// How a server is chosen.
    pub modes: SelectionModes,
    /// How many there may be of what.
    pub limits: CapacityLimits,
    /// How long what may take.
    pub timeouts: Timeouts,
    /// Whether and how servers are asked how they are.
    pub checks: CheckSettings,
    /// How sockets are set up.
    pub tcp: TcpOptions,
    /// The access lists.
    pub acls: Acls,
    /// Number of the access list for clients.
    pub client_acl: u8,
    /// Number of the access list for the control port.
    pub control_acl: u8,
    /// Number of the access list for the status over HTTP; `None` for everybody. Not list 0 like the others: who
    /// restricts clients by that list would cut off what looks at the health, and that moves addresses.
    pub status_acl: Option<u8>,
    /// Where mapping records go.
    pub log: Option<LogTarget>,
    /// How they are spelled.
    pub log_format: LogFormat,
    /// Where exchanges of HTTP/1.x are logged.
    pub access_log: Option<PathBuf>,
    /// Where USR1 writes the state as a page.
    pub web_stats: Option<PathBuf>,
    /// Whether and how requests are told where they came from.
    pub http: Option<ForwardedFor>,
    /// The PROXY protocol towards servers.
    pub send_proxy: Option<ProxyVersion>,
    /// Who may speak the PROXY protocol to us, and then has to.
    pub accept_proxy: Vec<TrustedPeer>,
    /// What is encrypted, and how.
    pub tls: TlsSettings,
}

impl RuntimeSettings {
    /// Whether mapping records go to a collector of the C programs, which joins a line with what has come
    /// by then: so none may wait for others.
    #[must_use]
    pub fn is_classic_collector(&self) -> bool {
        self.log_format == LogFormat::Classic
            && matches!(self.log, Some(LogTarget::Collector { .. }))
    }

    /// All servers, the special ones last.
    pub fn all_servers(&self) -> impl Iterator<Item = (PoolServerId, &ServerSettings)> {
        let slots = (0_u32..).zip(&self.servers);
        let slots = slots.filter_map(|(slot, it)| Some((PoolServerId::Slot(slot), it.as_ref()?)));
        let emergency = self.emergency.iter().map(|it| (PoolServerId::Emergency, it));
        let abuse = self.abuse.iter().map(|it| (PoolServerId::Abuse, it));
        slots.chain(emergency).chain(abuse)
    }

    /// Whether who connects from there has to say first for whom.
    #[must_use]
    pub fn speaks_for_others(&self, addr: ClientAddr) -> bool {
        self.accept_proxy.iter().any(|trusted| trusted.matches(addr))
    }
}

/// Which server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum PoolServerId {
    /// One of those that are balanced over, by its number.
    Slot(u32),
    /// The one for those who find no other.
    Emergency,
    /// The one for those who are denied.
    Abuse,
}

/// A server to balance over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerSettings {
    /// Where it listens.
    pub addr: Endpoint,
    /// The name that was looked up to find that.
    pub name: Option<String>,
    /// Connections from which on only known clients get in.
    pub soft: Option<NonZeroU32>,
    /// Connections from which on nobody does; without it a known client gets no further than `soft`.
    pub hard: Option<NonZeroU32>,
    /// Its share where servers are chosen by weight; 0 gets nobody.
    pub weight: u32,
    /// Lower is better where servers are chosen by priority.
    pub prio: u32,
    /// Number of the access list for its clients.
    pub acl: u8,
    /// Whether it gets no new connections, while those it has go on.
    pub draining: bool,
    /// Who wanted it.
    pub origin: ServerOrigin,
}

/// Where a server came from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ServerOrigin {
    /// It was said that there is one.
    #[default]
    Configured,
    /// It is one more address of the name of another one.
    Resolved,
    /// It was, and is so no longer: it ends with its last connection.
    Withdrawn,
}

impl ServerSettings {
    /// One without limits.
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

/// One way of choosing a server. Those that are on are asked in the order priority, weight, least
/// connections, hash, turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SelectionMode {
    /// By the client's address.
    Hash,
    /// Without looking where the client was before; with `Hash`, the client's port counts too.
    RoundRobin,
    /// No other server if the first choice fails.
    Stubborn,
    /// The least loaded, by weight.
    Weight,
    /// The best by priority.
    Prio,
    /// The one with the fewest connections.
    LeastConnections,
}

/// The modes that are on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SelectionModes(u8);

impl SelectionModes {
    /// Whether it is on.
    #[must_use]
    pub const fn is_on(self, mode: SelectionMode) -> bool {
        self.0 & (1 << mode as u8) != 0
    }

    /// Turns it on or off.
    pub const fn set(&mut self, mode: SelectionMode, on: bool) {
        let bit = 1 << mode as u8;
        self.0 = if on { self.0 | bit } else { self.0 & !bit };
    }

    /// The same with `mode` on.
    #[must_use]
    pub const fn with(mut self, mode: SelectionMode) -> Self {
        self.set(mode, true);
        self
    }
}

/// How many there may be of what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CapacityLimits {
    /// Clients whose server is remembered.
    pub clients: NonZeroUsize,
    /// Connections at a time; `None` for as many as there are descriptors for.
    pub connections: Option<NonZeroUsize>,
    /// Connections to servers that are being opened at a time.
    pub pending: NonZeroUsize,
}

impl Default for CapacityLimits {
    fn default() -> Self {
        let clients = const { NonZeroUsize::new(2048).unwrap() };
        let pending = const { NonZeroUsize::new(100).unwrap() };
        Self { clients, connections: None, pending }
    }
}

/// How long what may take. Where `None` is possible it means for ever.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// Until a server has taken a connection, before the next one is tried.
    pub connect: Duration,
    /// Without a byte in either direction; for datagrams see [`Self::flow_idle`].
    pub idle: Option<Duration>,
    /// Without a byte, when one side has said all.
    pub linger: Option<Duration>,
    /// From the connection to the client's first byte.
    pub first_byte: Option<Duration>,
    /// For which a server that failed is left alone.
    pub blacklist: Duration,
    /// For which a client keeps its server.
    pub tracking: Option<Duration>,
    /// For which connections may go on when pen was told to stop.
    pub drain: Duration,
    /// After which names of servers are looked up again.
    pub resolve: Option<Duration>,
}

impl Timeouts {
    /// How long a flow of datagrams may be silent. Nothing else tells that it is over, so it is never for
    /// ever: a minute if nothing is said.
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

/// How sockets are set up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TcpOptions {
    /// Bytes go out as soon as they are there.
    pub nodelay: bool,
    /// The kernel asks silent ends whether they are still there.
    pub keepalive: bool,
    /// Whose end ends both directions at once.
    pub fastclose: FastClose,
    /// Connect to servers from this address.
    pub source: Option<IpAddr>,
    /// Connect to servers from the client's address.
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

/// Whose end of stream ends the connection, instead of only its own direction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum FastClose {
    /// Nobody's.
    #[default]
    Off,
    /// The server's (`up`).
    Server,
    /// The client's (`down`).
    Client,
    /// Either one's (`both`).
    Both,
}

impl LogTarget {
    /// As it is typed.
    #[must_use]
    pub fn name(&self) -> &std::ffi::OsStr {
        match self {
            Self::File(path) => path.as_os_str(),
            Self::Collector { name, .. } => name.as_ref(),
        }
    }
}

/// Where mapping records go.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum LogTarget {
    /// Lines are appended to a file.
    File(PathBuf),
    /// Datagrams are sent to a collector: as it was written, and what that was resolved to.
    Collector {
        /// `host:port`.
        name: String,
        /// Its address.
        addr: SocketAddr,
    },
}

/// How mapping records are spelled.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// All that is known: packets for a collector, extended lines in a file.
    #[default]
    Extended,
    /// What the C programs read: a datagram or a line for each request.
    Classic,
}

/// What becomes of an `X-Forwarded-For` that the client sent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum ForwardedFor {
    /// It is replaced by the client's address.
    #[default]
    Replace,
    /// The client's address is appended.
    Append,
    /// It stays if it comes from here, and is replaced otherwise.
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
