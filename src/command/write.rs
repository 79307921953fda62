//! A command to a line, the reverse of parsing.

use std::ffi::OsStr;
use std::fmt::{Display, Formatter, Result};

use super::control_command::{
    AclCommand, ControlCommand, ProcessFact, ServerChange, ServerChoice, ShowQuery, StatusFormat,
};
use super::words::{DurationText, Quoted};
use crate::config::limit;

impl Display for ControlCommand {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        match self {
            Self::Set(row, value) => f.write_str(&row.command(value)),
            Self::Ask(row) => f.write_str(row.verb),
            Self::Info(ProcessFact::Control) => f.write_str("control"),
            Self::Info(ProcessFact::Mode) => f.write_str("mode"),
            Self::Info(ProcessFact::Pid) => f.write_str("pid"),
            Self::Acl(acl) => acl.fmt(f),
            Self::Server(number, changes) => {
                write!(f, "server {number}")?;
                changes.iter().try_for_each(|change| write!(f, " {change}"))
            }
            Self::Drain(server, None) => write!(f, "drain {server}"),
            Self::Drain(server, Some(time)) => write!(f, "drain {server} {}", DurationText(*time)),
            Self::Remove(number) => write!(f, "remove {number}"),
            Self::Show(query) => query.fmt(f),
            Self::Close(number) => write!(f, "close {number}"),
            Self::Include(path) => write!(f, "include {}", Quoted(path.as_os_str())),
            Self::Write(None) => f.write_str("write"),
            Self::Write(Some(path)) => write!(f, "write {}", Quoted(path.as_os_str())),
            Self::Exit => f.write_str("exit"),
            // `no` of a command without effect is accepted, and needs no reason.
            Self::Ignored(verb, "") => write!(f, "no {verb}"),
            Self::Ignored(verb, _) | Self::Absent(verb, _) => f.write_str(verb),
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
        match self {
            Self::Acl(list) => write!(f, "acl {list}"),
            Self::Address(host) => write!(f, "address {}", Quoted(OsStr::new(&host.to_string()))),
            Self::Blacklist(time) => write!(f, "blacklist {}", DurationText(*time)),
            Self::Hard(hard) => write!(f, "hard {}", limit(*hard)),
            Self::Max(soft) => write!(f, "max {}", limit(*soft)),
            Self::Port(port) => write!(f, "port {port}"),
            Self::Prio(prio) => write!(f, "prio {prio}"),
            Self::Weight(weight) => write!(f, "weight {weight}"),
        }
    }
}

impl Display for ServerChoice {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        match self {
            Self::Number(number) => number.fmt(f),
            Self::Address(text) => Quoted(text.as_ref()).fmt(f),
        }
    }
}

impl Display for ShowQuery {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        match self {
            Self::Recent(time) => write!(f, "recent {}", DurationText(*time)),
            Self::Connection(number) => write!(f, "connection {number}"),
            Self::Connections => f.write_str("connections"),
            Self::Socket(fd) => write!(f, "socket {fd}"),
            Self::Servers => f.write_str("servers"),
            Self::States => f.write_str("states"),
            Self::Status(StatusFormat::Html) => f.write_str("status html"),
            Self::Status(StatusFormat::Json) => f.write_str("status json"),
            Self::Status(StatusFormat::Prometheus) => f.write_str("status prometheus"),
            Self::Help(None) => f.write_str("help"),
            Self::Help(Some(verb)) => write!(f, "help {verb}"),
        }
    }
}
