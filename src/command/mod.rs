//! `penctl`'s language as values: what is typed at the control port, stands in a file for `-F`, or
//! follows `-O`, one command a line.
//!
//! [`words`] cuts a line, `parse` finds out what it says, `Display` says it again, [`apply`] changes
//! a [`Config`](crate::config::PenConfig) by it or says what else has to be done, [`answer`] replies from
//! the configuration, [`script`] reads files. Nothing here waits, opens or sends.

pub mod answer;
pub mod apply;
pub mod cli;
pub(crate) mod parse;
pub mod reload;
pub mod script;
pub mod setup;
#[cfg(test)]
mod tests;
pub mod tls;
pub mod words;
pub(crate) mod write;

use std::fmt;
use std::net::IpAddr;
use std::num::{NonZeroU32, NonZeroUsize};
use std::path::PathBuf;
use std::time::Duration;

use crate::config::acl::{AclError, AclRule, AclVerdict};
use crate::config::address::{AddressError, Host, ListenAddr, ServerArg};
use crate::config::checks::HealthCheck;
use crate::config::{FastClose, ForwardedFor, LogFormat, ProxyVersion, SelectionMode, TrustedPeer};

pub use parse::{VERBS, duration};
use tls::{TlsItem, TlsSetting};
use words::WordsError;

/// The longest line that is read, from a file or from the control port.
pub const MAX_LINE: usize = 4_095;

/// One command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ControlCommand {
    /// Turn something on, or off.
    Switch(Switch, bool),
    /// Give something a value.
    Set(Setting),
    /// Say what value something has.
    Ask(Item),
    /// Change or show an access list.
    Acl(AclCommand),
    /// Change a server, by its number.
    Server(usize, Vec<ServerChange>),
    /// Give a server no new clients; after that time, if one is said, end those it has.
    Drain(usize, Option<Duration>),
    /// Take a server out: it gets nobody any more, and its number is free.
    Remove(usize),
    /// Show something about the traffic.
    Show(ShowQuery),
    /// End a connection.
    Close(u64),
    /// Run the commands in a file.
    Include(PathBuf),
    /// Save the configuration, without a name to where it was read from.
    Write(Option<PathBuf>),
    /// Stop, if `-X` allows it.
    Exit,
    /// Understood and without effect; says why.
    Ignored(&'static str, &'static str),
    /// Known and not to be had; says why.
    Absent(&'static str, &'static str),
}

/// What is on or off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Switch {
    /// How servers are chosen.
    Mode(SelectionMode),
    /// Tell HTTP servers who the client is.
    Http,
    /// Keepalive on TCP connections.
    Keepalive,
    /// No delay on TCP connections.
    Nodelay,
    /// Servers see the client's address.
    Transparent,
    /// Datagrams instead of connections.
    Udp,
}

/// Something that has a value, and that value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Setting {
    /// See [`Settings::abuse`](crate::config::RuntimeSettings::abuse).
    Abuse(Option<ServerArg>),
    /// See [`Settings::access_log`](crate::config::RuntimeSettings::access_log).
    AccessLog(Option<PathBuf>),
    /// See [`Settings::accept_proxy`](crate::config::RuntimeSettings::accept_proxy).
    AcceptProxy(Vec<TrustedPeer>),
    /// See [`Config::backlog`](crate::config::PenConfig::backlog).
    Backlog(NonZeroU32),
    /// See [`Timeouts::blacklist`](crate::config::Timeouts::blacklist).
    Blacklist(Duration),
    /// See [`Checks::check`](crate::config::checks::CheckSettings::check).
    Check(Option<HealthCheck>),
    /// See [`Checks::fall`](crate::config::checks::CheckSettings::fall).
    CheckFall(NonZeroU32),
    /// See [`Checks::interval`](crate::config::checks::CheckSettings::interval).
    CheckInterval(Duration),
    /// See [`Checks::rise`](crate::config::checks::CheckSettings::rise).
    CheckRise(NonZeroU32),
    /// See [`Checks::timeout`](crate::config::checks::CheckSettings::timeout).
    CheckTimeout(Duration),
    /// See [`Settings::client_acl`](crate::config::RuntimeSettings::client_acl).
    ClientAcl(u8),
    /// See [`Limits::clients`](crate::config::CapacityLimits::clients).
    ClientsMax(NonZeroUsize),
    /// See [`Limits::connections`](crate::config::CapacityLimits::connections).
    ConnMax(Option<NonZeroUsize>),
    /// See [`Settings::control_acl`](crate::config::RuntimeSettings::control_acl).
    ControlAcl(u8),
    /// See [`Settings::status_acl`](crate::config::RuntimeSettings::status_acl).
    StatusAcl(Option<u8>),
    /// See [`Config::debug`](crate::config::PenConfig::debug).
    Debug(u8),
    /// See [`Timeouts::drain`](crate::config::Timeouts::drain).
    DrainTimeout(Duration),
    /// See [`Settings::emergency`](crate::config::RuntimeSettings::emergency).
    Emergency(Option<ServerArg>),
    /// See [`Timeouts::first_byte`](crate::config::Timeouts::first_byte).
    FirstByte(Option<Duration>),
    /// See [`Acls::countries`](crate::config::acl::Acls::countries).
    Geoip(Option<PathBuf>),
    /// See [`Timeouts::linger`](crate::config::Timeouts::linger).
    HalfClosed(Option<Duration>),
    /// See [`Timeouts::idle`](crate::config::Timeouts::idle).
    IdleTimeout(Option<Duration>),
    /// See [`Config::listen`](crate::config::PenConfig::listen).
    Listen(Vec<ListenAddr>),
    /// See [`Settings::log`](crate::config::RuntimeSettings::log).
    Log(Option<LogTo>),
    /// See [`Settings::log_format`](crate::config::RuntimeSettings::log_format).
    LogFormat(LogFormat),
    /// See [`Config::multi_accept`](crate::config::PenConfig::multi_accept).
    MultiAccept(NonZeroU32),
    /// See [`Limits::pending`](crate::config::CapacityLimits::pending).
    PendingMax(NonZeroUsize),
    /// See [`Timeouts::resolve`](crate::config::Timeouts::resolve).
    ResolveInterval(Option<Duration>),
    /// See [`Settings::send_proxy`](crate::config::RuntimeSettings::send_proxy).
    SendProxy(Option<ProxyVersion>),
    /// See [`TcpOptions::source`](crate::config::TcpOptions::source).
    Source(Option<IpAddr>),
    /// See [`TcpOptions::fastclose`](crate::config::TcpOptions::fastclose).
    TcpFastclose(FastClose),
    /// See [`Settings::tls`](crate::config::RuntimeSettings::tls).
    Tls(TlsSetting),
    /// See [`Timeouts::connect`](crate::config::Timeouts::connect).
    Timeout(Duration),
    /// See [`Timeouts::tracking`](crate::config::Timeouts::tracking).
    Tracking(Option<Duration>),
    /// See [`Settings::web_stats`](crate::config::RuntimeSettings::web_stats).
    WebStats(Option<PathBuf>),
    /// See [`Config::workers`](crate::config::PenConfig::workers).
    Workers(NonZeroUsize),
    /// See [`Settings::http`](crate::config::RuntimeSettings::http).
    XForwardedFor(ForwardedFor),
}

/// What can be asked for by its verb alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "each is the setting of the same name")]
pub enum Item {
    Abuse,
    AcceptProxy,
    AccessLog,
    Backlog,
    Blacklist,
    Check,
    CheckFall,
    CheckInterval,
    CheckRise,
    CheckTimeout,
    ClientAcl,
    ClientsMax,
    ConnMax,
    /// Where the control port is.
    Control,
    ControlAcl,
    StatusAcl,
    Debug,
    DrainTimeout,
    Emergency,
    FirstByte,
    Geoip,
    HalfClosed,
    IdleTimeout,
    Listen,
    Log,
    LogFormat,
    /// The words of those modes that C pen had.
    Mode,
    MultiAccept,
    PendingMax,
    /// The process.
    Pid,
    ResolveInterval,
    SendProxy,
    Source,
    TcpFastclose,
    Tls(TlsItem),
    Timeout,
    Tracking,
    WebStats,
    Workers,
    XForwardedFor,
}

/// Where mapping records go, as it was typed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LogTo {
    /// A file.
    File(PathBuf),
    /// A collector.
    Collector(Host, u16),
}

/// What is done to access lists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AclCommand {
    /// Add a rule behind the others.
    Add(u8, AclRule),
    /// Take that rule out.
    Remove(u8, AclRule),
    /// Empty the list.
    Clear(u8),
    /// State what happens to those that no rule fits.
    Default(u8, Option<AclVerdict>),
    /// Show the list, or all.
    Show(Option<u8>),
}

/// What is changed of a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ServerChange {
    /// The number of its access list.
    Acl(u8),
    /// Where it is; its port stays.
    Address(Host),
    /// The time from now for which it gets nobody; zero ends that.
    Blacklist(Duration),
    /// Its hard limit.
    Hard(Option<NonZeroU32>),
    /// Its soft limit.
    Max(Option<NonZeroU32>),
    /// Its port.
    Port(u16),
    /// Its turn.
    Prio(u32),
    /// Its share.
    Weight(u32),
}

/// What can be shown of the traffic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ShowQuery {
    /// Clients seen within this time.
    Recent(Duration),
    /// One connection.
    Connection(u64),
    /// All connections.
    Connections,
    /// The connection that a file descriptor belongs to.
    Socket(i32),
    /// A line for each server.
    Servers,
    /// A line for each server about how it is doing.
    States,
    /// The whole state.
    Status(StatusFormat),
    /// The words that can be typed.
    Help,
}

/// How the state is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StatusFormat {
    /// A page.
    Html,
    /// One JSON object.
    Json,
    /// What Prometheus reads.
    Prometheus,
}

/// A line that is no command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CommandError {
    /// It has no words.
    Words(WordsError),
    /// Nobody knows the verb.
    Unknown(String),
    /// A verb that has no `no` form.
    UnknownNo(String),
    /// Something else than what stands behind the verb was expected.
    Expected(String, &'static str),
    /// No rule of an access list.
    Acl(String, AclError),
    /// No address.
    Address(String, AddressError),
    /// More words than belong there.
    Surplus(String, String),
}

impl fmt::Display for CommandError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Words(error) => error.fmt(f),
            Self::Unknown(verb) => write!(f, "unknown command '{verb}': see 'help'"),
            Self::UnknownNo(verb) => write!(f, "no {verb}: there is no such command, see 'help'"),
            Self::Expected(verb, what) => write!(f, "{verb}: expected {what}"),
            Self::Acl(verb, error) => write!(f, "{verb}: {error}"),
            Self::Address(verb, error) => write!(f, "{verb}: {error}"),
            Self::Surplus(verb, word) => write!(f, "{verb}: expected nothing more, found '{word}'"),
        }
    }
}

impl std::error::Error for CommandError {}
