//! A command as a line, and a configuration as commands: [`parse`](super::parse) the other way round.

use std::ffi::OsStr;
use std::fmt::{self, Display, Formatter, Result};
use std::os::unix::ffi::OsStrExt as _;
use std::time::Duration;

use super::words::Quoted;
use super::{
    AclCommand, ControlCommand, Item, LogTo, ServerChange, Setting, ShowQuery, StatusFormat, Switch,
};
use crate::config::address::ServerArg;
use crate::config::checks::HealthCheck;
use crate::config::{
    FastClose, ForwardedFor, LogFormat, Network, ProxyVersion, SelectionMode, TrustedPeer,
};

impl Display for ControlCommand {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        match self {
            Self::Switch(switch, on) => write!(f, "{}{switch}", if *on { "" } else { "no " }),
            Self::Set(setting) => setting.fmt(f),
            Self::Ask(item) => f.write_str(item.verb()),
            Self::Acl(acl) => acl.fmt(f),
            Self::Server(number, changes) => {
                write!(f, "server {number}")?;
                changes.iter().try_for_each(|change| write!(f, " {change}"))
            }
            Self::Drain(number, None) => write!(f, "drain {number}"),
            Self::Drain(number, Some(time)) => write!(f, "drain {number} {}", Time(*time)),
            Self::Remove(number) => write!(f, "remove {number}"),
            Self::Show(query) => query.fmt(f),
            Self::Close(number) => write!(f, "close {number}"),
            Self::Include(path) => write!(f, "include {}", Quoted(path.as_os_str())),
            Self::Write(None) => f.write_str("write"),
            Self::Write(Some(path)) => write!(f, "write {}", Quoted(path.as_os_str())),
            Self::Exit => f.write_str("exit"),
            Self::Ignored(verb, _) | Self::Absent(verb, _) => f.write_str(verb),
        }
    }
}

impl Display for Switch {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        f.write_str(match self {
            Self::Mode(SelectionMode::Hash) => "hash",
            Self::Mode(SelectionMode::RoundRobin) => "roundrobin",
            Self::Mode(SelectionMode::Stubborn) => "stubborn",
            Self::Mode(SelectionMode::Weight) => "weight",
            Self::Mode(SelectionMode::Prio) => "prio",
            Self::Mode(SelectionMode::LeastConnections) => "least_connections",
            Self::Http => "http",
            Self::Keepalive => "keepalive",
            Self::Nodelay => "tcp_nodelay",
            Self::Transparent => "transparent",
            Self::Udp => "udp",
        })
    }
}

impl Display for Setting {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        let verb = self.item().verb();
        if self.is_none() {
            return write!(f, "no {verb}");
        }
        write!(f, "{verb} ")?;
        self.write_value(f)
    }
}

impl Setting {
    /// What it is the value of.
    #[must_use]
    pub fn item(&self) -> Item {
        match self {
            Self::Abuse(_) => Item::Abuse,
            Self::AcceptProxy(_) => Item::AcceptProxy,
            Self::AccessLog(_) => Item::AccessLog,
            Self::Backlog(_) => Item::Backlog,
            Self::Blacklist(_) => Item::Blacklist,
            Self::Check(_) => Item::Check,
            Self::CheckFall(_) => Item::CheckFall,
            Self::CheckInterval(_) => Item::CheckInterval,
            Self::CheckRise(_) => Item::CheckRise,
            Self::CheckTimeout(_) => Item::CheckTimeout,
            Self::ClientAcl(_) => Item::ClientAcl,
            Self::ClientsMax(_) => Item::ClientsMax,
            Self::ConnMax(_) => Item::ConnMax,
            Self::ControlAcl(_) => Item::ControlAcl,
            Self::StatusAcl(_) => Item::StatusAcl,
            Self::Debug(_) => Item::Debug,
            Self::DrainTimeout(_) => Item::DrainTimeout,
            Self::Emergency(_) => Item::Emergency,
            Self::FirstByte(_) => Item::FirstByte,
            Self::Geoip(_) => Item::Geoip,
            Self::HalfClosed(_) => Item::HalfClosed,
            Self::IdleTimeout(_) => Item::IdleTimeout,
            Self::Listen(_) => Item::Listen,
            Self::Log(_) => Item::Log,
            Self::LogFormat(_) => Item::LogFormat,
            Self::MultiAccept(_) => Item::MultiAccept,
            Self::PendingMax(_) => Item::PendingMax,
            Self::ResolveInterval(_) => Item::ResolveInterval,
            Self::SendProxy(_) => Item::SendProxy,
            Self::Source(_) => Item::Source,
            Self::TcpFastclose(_) => Item::TcpFastclose,
            Self::Tls(tls) => Item::Tls(tls.item()),
            Self::Timeout(_) => Item::Timeout,
            Self::Tracking(_) => Item::Tracking,
            Self::WebStats(_) => Item::WebStats,
            Self::Workers(_) => Item::Workers,
            Self::XForwardedFor(_) => Item::XForwardedFor,
        }
    }

    /// Whether it is spelled with a `no`.
    pub(crate) fn is_none(&self) -> bool {
        match self {
            Self::Abuse(server) | Self::Emergency(server) => server.is_none(),
            Self::AcceptProxy(networks) => networks.is_empty(),
            Self::Check(check) => check.is_none(),
            Self::Log(log) => log.is_none(),
            Self::SendProxy(version) => version.is_none(),
            Self::Source(addr) => addr.is_none(),
            Self::StatusAcl(number) => number.is_none(),
            Self::Tls(tls) => tls.is_none(),
            Self::AccessLog(path) | Self::Geoip(path) | Self::WebStats(path) => path.is_none(),
            _ => false,
        }
    }

    /// What stands behind the verb; nothing where there is nothing.
    pub(crate) fn write_value(&self, f: &mut dyn fmt::Write) -> Result {
        match self {
            Self::Abuse(Some(server)) | Self::Emergency(Some(server)) => write_server(server, f),
            Self::AcceptProxy(networks) => list(networks, f),
            Self::Backlog(number)
            | Self::CheckFall(number)
            | Self::CheckRise(number)
            | Self::MultiAccept(number) => write!(f, "{number}"),
            Self::Check(Some(check)) => write!(f, "{check}"),
            Self::Blacklist(time)
            | Self::CheckInterval(time)
            | Self::CheckTimeout(time)
            | Self::DrainTimeout(time)
            | Self::Timeout(time) => {
                write!(f, "{}", Time(*time))
            }
            Self::ClientAcl(number)
            | Self::ControlAcl(number)
            | Self::Debug(number)
            | Self::StatusAcl(Some(number)) => {
                write!(f, "{number}")
            }
            Self::ClientsMax(number) | Self::PendingMax(number) | Self::Workers(number) => {
                write!(f, "{number}")
            }
            Self::ConnMax(number) => write!(f, "{}", number.map_or(0, std::num::NonZero::get)),
            Self::FirstByte(time)
            | Self::HalfClosed(time)
            | Self::IdleTimeout(time)
            | Self::ResolveInterval(time)
            | Self::Tracking(time) => write!(f, "{}", Time(time.unwrap_or_default())),
            Self::Listen(addrs) => list(addrs, f),
            Self::AccessLog(Some(path))
            | Self::Geoip(Some(path))
            | Self::Log(Some(LogTo::File(path)))
            | Self::WebStats(Some(path)) => {
                write!(f, "{}", Quoted(path.as_os_str()))
            }
            Self::Log(Some(LogTo::Collector(host, port))) => {
                write!(f, "{}", crate::config::address::ListenAddr::Port(host.clone(), *port))
            }
            Self::LogFormat(LogFormat::Extended) => f.write_str("extended"),
            Self::LogFormat(LogFormat::Classic) => f.write_str("classic"),
            Self::SendProxy(Some(ProxyVersion::V1)) => f.write_str("v1"),
            Self::SendProxy(Some(ProxyVersion::V2)) => f.write_str("v2"),
            Self::Source(Some(addr)) => write!(f, "{addr}"),
            Self::TcpFastclose(fastclose) => f.write_str(match fastclose {
                FastClose::Off => "off",
                FastClose::Server => "up",
                FastClose::Client => "down",
                FastClose::Both => "both",
            }),
            Self::Tls(tls) => tls.write_value(f),
            Self::XForwardedFor(ForwardedFor::Replace) => f.write_str("replace"),
            Self::XForwardedFor(ForwardedFor::Append) => f.write_str("append"),
            Self::XForwardedFor(ForwardedFor::Keep(networks)) => {
                f.write_str("keep ")?;
                list(networks, f)
            }
            Self::Abuse(None)
            | Self::AccessLog(None)
            | Self::Check(None)
            | Self::Emergency(None)
            | Self::Log(None)
            | Self::SendProxy(None)
            | Self::Source(None)
            | Self::Geoip(None)
            | Self::StatusAcl(None)
            | Self::WebStats(None) => Ok(()),
        }
    }
}

fn write_server(server: &ServerArg, f: &mut dyn fmt::Write) -> Result {
    write!(f, "{}", Quoted(OsStr::new(&server.to_string())))
}

fn list<T: Display>(items: &[T], f: &mut dyn fmt::Write) -> Result {
    for (at, item) in items.iter().enumerate() {
        let space = if at == 0 { "" } else { " " };
        write!(f, "{space}{}", Quoted(OsStr::new(&item.to_string())))?;
    }
    Ok(())
}

impl Display for TrustedPeer {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        match self {
            Self::Network(network) => network.fmt(f),
            Self::Unix => f.write_str("unix"),
        }
    }
}

impl Display for Network {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        write!(f, "{}/{}", self.addr, self.bits)
    }
}

impl Item {
    /// Its verb.
    #[must_use]
    pub fn verb(self) -> &'static str {
        match self {
            Self::Abuse => "abuse",
            Self::AcceptProxy => "accept_proxy",
            Self::AccessLog => "access_log",
            Self::Backlog => "backlog",
            Self::Blacklist => "blacklist",
            Self::Check => "check",
            Self::CheckFall => "check_fall",
            Self::CheckInterval => "check_interval",
            Self::CheckRise => "check_rise",
            Self::CheckTimeout => "check_timeout",
            Self::ClientAcl => "client_acl",
            Self::ClientsMax => "clients_max",
            Self::ConnMax => "conn_max",
            Self::Control => "control",
            Self::ControlAcl => "control_acl",
            Self::StatusAcl => "status_acl",
            Self::Debug => "debug",
            Self::DrainTimeout => "drain_timeout",
            Self::Emergency => "emergency",
            Self::FirstByte => "first_byte",
            Self::HalfClosed => "half_closed",
            Self::IdleTimeout => "idle_timeout",
            Self::Listen => "listen",
            Self::Log => "log",
            Self::LogFormat => "log_format",
            Self::Mode => "mode",
            Self::MultiAccept => "multi_accept",
            Self::PendingMax => "pending_max",
            Self::Pid => "pid",
            Self::ResolveInterval => "resolve_interval",
            Self::SendProxy => "send_proxy",
            Self::Source => "source",
            Self::TcpFastclose => "tcp_fastclose",
            Self::Tls(item) => item.verb(),
            Self::Timeout => "timeout",
            Self::Tracking => "tracking",
            Self::Geoip => "geoip",
            Self::WebStats => "web_stats",
            Self::Workers => "workers",
            Self::XForwardedFor => "x_forwarded_for",
        }
    }
}

impl Display for AclCommand {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        match self {
            Self::Add(list, rule) => write!(f, "acl {list} {rule}"),
            Self::Remove(list, rule) => write!(f, "no acl {list} {rule}"),
            Self::Clear(list) => write!(f, "no acl {list}"),
            Self::Default(list, Some(verdict)) => write!(f, "acl {list} default {verdict}"),
            Self::Default(list, None) => write!(f, "no acl {list} default"),
            Self::Show(Some(list)) => write!(f, "acl {list}"),
            Self::Show(None) => f.write_str("acl"),
        }
    }
}

impl Display for ServerChange {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        let limit = |limit: Option<std::num::NonZeroU32>| limit.map_or(0, std::num::NonZero::get);
        match self {
            Self::Acl(list) => write!(f, "acl {list}"),
            Self::Address(host) => write!(f, "address {}", Quoted(OsStr::new(&host.to_string()))),
            Self::Blacklist(time) => write!(f, "blacklist {}", Time(*time)),
            Self::Hard(hard) => write!(f, "hard {}", limit(*hard)),
            Self::Max(soft) => write!(f, "max {}", limit(*soft)),
            Self::Port(port) => write!(f, "port {port}"),
            Self::Prio(prio) => write!(f, "prio {prio}"),
            Self::Weight(weight) => write!(f, "weight {weight}"),
        }
    }
}

impl Display for ShowQuery {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        match self {
            Self::Recent(time) => write!(f, "recent {}", Time(*time)),
            Self::Connection(number) => write!(f, "connection {number}"),
            Self::Connections => f.write_str("connections"),
            Self::Socket(fd) => write!(f, "socket {fd}"),
            Self::Servers => f.write_str("servers"),
            Self::States => f.write_str("states"),
            Self::Status(StatusFormat::Html) => f.write_str("status html"),
            Self::Status(StatusFormat::Json) => f.write_str("status json"),
            Self::Status(StatusFormat::Prometheus) => f.write_str("status prometheus"),
            Self::Help => f.write_str("help"),
        }
    }
}

/// As it is typed.
impl Display for HealthCheck {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        let quoted = |f: &mut Formatter<'_>, bytes| Quoted(OsStr::from_bytes(bytes)).fmt(f);
        match self {
            Self::Connect => f.write_str("tcp"),
            Self::Http { method, path, from, to } => {
                write!(f, "http {method} ")?;
                quoted(f, path.as_bytes())?;
                if from == to { write!(f, " {from}") } else { write!(f, " {from}-{to}") }
            }
            Self::Exchange { send, expect } => {
                if !send.is_empty() {
                    f.write_str("send ")?;
                    quoted(f, send)?;
                    f.write_str(" ")?;
                }
                f.write_str("expect ")?;
                quoted(f, expect)
            }
        }
    }
}

/// Whole seconds as a bare number, as C pen has them.
pub(crate) struct Time(pub(crate) Duration);

impl Display for Time {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        if self.0.subsec_millis() == 0 {
            write!(f, "{}", self.0.as_secs())
        } else {
            write!(f, "{}ms", self.0.as_millis())
        }
    }
}
