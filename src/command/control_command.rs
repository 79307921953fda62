//! The commands of the control language as values.

use std::num::NonZeroU32;
use std::path::PathBuf;
use std::time::Duration;

use super::settings::{SettingRow, SettingValue};
use crate::config::acl::{AclRule, AclVerdict};
use crate::config::address::Host;

/// A command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ControlCommand {
    /// Give a setting a value.
    Set(&'static SettingRow, SettingValue),
    /// Reply with the value of a setting.
    Ask(&'static SettingRow),
    /// Reply with a fact about the process.
    Info(ProcessFact),
    /// Change or show an access list.
    Acl(AclCommand),
    /// Change the server with this number.
    Server(usize, Vec<ServerChange>),
    /// Give this server no new clients. With a time, close all connections to the server after this time.
    Drain(ServerChoice, Option<Duration>),
    /// Remove the server with this number; the number is free afterwards.
    Remove(usize),
    /// Show the traffic.
    Show(ShowQuery),
    /// Close the connection with this number.
    Close(u64),
    /// Run the commands in a file.
    Include(PathBuf),
    /// Save the configuration to this file; `None` for the file of `-F`.
    Write(Option<PathBuf>),
    /// Stop, if `-X` allows it.
    Exit,
    /// A verb without effect, and the reason; an empty reason for a `no` form, which needs no warning.
    Ignored(&'static str, &'static str),
    /// A verb that is known and not supported, and the reason.
    Absent(&'static str, &'static str),
}

/// A server as it was named in a command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ServerChoice {
    /// The server with this number.
    Number(usize),
    /// The server with this address or name, with its port or without.
    Address(String),
}

/// A fact about the process that only a verb asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProcessFact {
    /// The address of the control port.
    Control,
    /// The selection modes, in the words of C pen.
    Mode,
    /// The process id.
    Pid,
}

/// A change to an access list, or a request to show it. The first field is the number of the list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AclCommand {
    /// Append a rule.
    Add(u8, AclRule),
    /// Remove a rule.
    Remove(u8, AclRule),
    /// Remove all rules.
    Clear(u8),
    /// Set the verdict for clients that match no rule.
    Default(u8, Option<AclVerdict>),
    /// Show one list; `None` for all lists.
    Show(Option<u8>),
}

/// A change to a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ServerChange {
    /// The number of its access list.
    Acl(u8),
    /// The host; the port stays.
    Address(Host),
    /// The time from now without clients; zero ends this state.
    Blacklist(Duration),
    /// The hard limit.
    Hard(Option<NonZeroU32>),
    /// The soft limit.
    Max(Option<NonZeroU32>),
    /// The port.
    Port(u16),
    /// The priority.
    Prio(u32),
    /// The weight.
    Weight(u32),
}

/// A request to show the traffic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ShowQuery {
    /// The clients seen within this time.
    Recent(Duration),
    /// The connection with this number.
    Connection(u64),
    /// All connections.
    Connections,
    /// The connection of this file descriptor.
    Socket(i32),
    /// One line for each server.
    Servers,
    /// One line for each server about its health.
    States,
    /// The whole state.
    Status(StatusFormat),
    /// The list of commands, or the lines about this verb.
    Help(Option<&'static str>),
}

/// The format of the whole state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StatusFormat {
    /// The status page.
    Html,
    /// One JSON object.
    Json,
    /// The text format of Prometheus.
    Prometheus,
}
