//! Carrying out a command: the change to the configuration, and the action that is left to do.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use super::control_command::{
    AclCommand, ControlCommand, ProcessFact, ServerChange, ServerChoice, ShowQuery,
};
use super::env::{ApplyError, CommandEnv, server_addr};
use super::reload::acl_lines;
use super::settings::{SettingRow, SettingScope, SettingValue};
use crate::config::acl::Acls;
use crate::config::address::Host;
use crate::config::{Endpoint, ExitPolicy, PenConfig, SelectionMode, ServerOrigin, ServerSettings};

/// The time of a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ApplyPhase {
    /// Before the start: all settings can change.
    Starting,
    /// While pen runs: listeners and threads stay as they are.
    Running,
}

/// The result of a command that was carried out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CommandOutcome {
    /// The reply is empty.
    Silence,
    /// The reply, without a line end.
    Text(String),
    /// The command has no effect, for this reason.
    Warning(String),
    /// The action that is left to do.
    Action(CommandAction),
}

/// An action beyond the change to the configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CommandAction {
    /// Reply from a snapshot of the traffic.
    Show(ShowQuery),
    /// Give the server with this number no clients for this time.
    Blacklist(usize, Duration),
    /// Close all connections to the server with this number after this time.
    EndConnectionsOf(usize, Duration),
    /// Close the connection with this number.
    Close(u64),
    /// Run the commands in a file.
    Include(PathBuf),
    /// Save the configuration to a file.
    Write(PathBuf),
    /// Stop.
    Exit,
}

type Applied = Result<CommandOutcome, ApplyError>;

impl ControlCommand {
    /// Carries out the command on `config`.
    ///
    /// # Errors
    /// The command cannot be carried out; `config` may be half changed.
    pub fn apply(
        &self,
        config: &mut PenConfig,
        phase: ApplyPhase,
        env: &dyn CommandEnv,
    ) -> Applied {
        match self {
            Self::Set(row, value) => set(row, value, config, phase, env),
            Self::Ask(row) => Ok(CommandOutcome::Text(row.reply(config))),
            Self::Info(fact) => Ok(CommandOutcome::Text(info(*fact, config))),
            Self::Acl(acl) => self::acl(*acl, config),
            Self::Server(number, changes) => server(*number, changes, config, env),
            Self::Drain(server, time) => drain(server, *time, config),
            Self::Remove(number) => remove(*number, config),
            Self::Show(query) => Ok(CommandOutcome::Action(CommandAction::Show(*query))),
            Self::Close(number) => Ok(CommandOutcome::Action(CommandAction::Close(*number))),
            Self::Include(path) => {
                Ok(CommandOutcome::Action(CommandAction::Include(env.inside(path))))
            }
            Self::Write(path) => {
                let path = path.as_deref().map(|path| env.inside(path));
                let file = || config.file.as_deref().map(|path| env.inside(path));
                let path = path.or_else(file).ok_or(ApplyError::NoFile)?;
                Ok(CommandOutcome::Action(CommandAction::Write(path)))
            }
            Self::Exit if config.exit == ExitPolicy::Allowed => {
                Ok(CommandOutcome::Action(CommandAction::Exit))
            }
            Self::Exit => Err(ApplyError::Exit),
            Self::Ignored(_, "") => Ok(CommandOutcome::Silence),
            Self::Ignored(verb, why) => {
                Ok(CommandOutcome::Warning(format!("{verb} has no effect: {why}")))
            }
            Self::Absent(verb, why) => Err(ApplyError::Absent(verb, why)),
        }
    }
}

fn set(
    row: &SettingRow,
    value: &SettingValue,
    config: &mut PenConfig,
    phase: ApplyPhase,
    env: &dyn CommandEnv,
) -> Applied {
    let before = row.value(config);
    row.set(config, value, env)?;
    let is_fixed = phase == ApplyPhase::Running && row.scope == SettingScope::Start;
    if is_fixed && row.value(config) != before {
        return Err(ApplyError::Running(row.verb.to_owned()));
    }
    Ok(if row.is_answered(value) {
        CommandOutcome::Text(row.reply(config))
    } else {
        CommandOutcome::Silence
    })
}

fn info(fact: ProcessFact, config: &PenConfig) -> String {
    match fact {
        ProcessFact::Control => {
            config.control.as_ref().map(ToString::to_string).unwrap_or_default()
        }
        ProcessFact::Mode => modes(config),
        ProcessFact::Pid => std::process::id().to_string(),
    }
}

/// Returns the modes of C pen in the order and form of C pen, because scripts parse this line; then
/// `least_connections` if that mode is on.
fn modes(config: &PenConfig) -> String {
    let modes = config.settings.modes;
    let mut words: Vec<String> = [
        (SelectionMode::Hash, "hash"),
        (SelectionMode::RoundRobin, "roundrobin"),
        (SelectionMode::Stubborn, "stubborn"),
        (SelectionMode::Weight, "weight"),
        (SelectionMode::Prio, "prio"),
    ]
    .into_iter()
    .map(|(mode, word)| format!("{}{word}", if modes.is_on(mode) { "" } else { "no " }))
    .collect();
    if modes.is_on(SelectionMode::LeastConnections) {
        words.push("least_connections".to_owned());
    }
    words.join(" ")
}

/// Returns one access list as commands, or all.
fn acl_text(number: Option<u8>, acls: &Acls) -> String {
    let mut lines = Vec::new();
    for (list, rules) in acls.iter() {
        if number.is_none_or(|number| number == list) {
            lines.extend(acl_lines(list, rules));
            if rules.stated_default().is_none() {
                lines.push(format!("# else {}", rules.default_verdict()));
            }
        }
    }
    if lines.is_empty() {
        let which = number.map_or_else(|| "all lists are".to_owned(), |it| format!("list {it} is"));
        return format!("# {which} empty: everybody is permitted");
    }
    lines.join("\n")
}

/// Returns the number of the only server with this address or name, with its port or without.
fn by_address(text: &str, config: &PenConfig) -> Result<usize, ApplyError> {
    let is_it = |server: &ServerSettings| {
        let (host, port) = server.host_and_port();
        let ip = match &server.addr {
            Endpoint::Ip(addr) => Some(addr.ip().to_string()),
            Endpoint::Unix(_) => None,
        };
        server.addr.to_string() == text
            || host == text
            || format!("{host}:{port}") == text
            || ip.as_deref() == Some(text)
    };
    let servers = config.settings.servers.iter().enumerate();
    let mut found = servers.filter(|(_, server)| server.as_ref().is_some_and(is_it));
    match (found.next(), found.next()) {
        (Some((number, _)), None) => Ok(number),
        (None, _) => Err(ApplyError::NoServerAt(text.to_owned())),
        (Some(_), Some(_)) => Err(ApplyError::ServersAt(text.to_owned())),
    }
}

fn slot(number: usize, config: &mut PenConfig) -> Result<&mut ServerSettings, ApplyError> {
    let server = config.settings.servers.get_mut(number).and_then(Option::as_mut);
    server.ok_or(ApplyError::NoServer(number))
}

fn server(
    number: usize,
    changes: &[ServerChange],
    config: &mut PenConfig,
    env: &dyn CommandEnv,
) -> Applied {
    let what = format!("server {number}");
    let (mut host, mut port, mut blacklist) = (None, None, None);
    for change in changes {
        match change {
            ServerChange::Address(to) => host = Some(to),
            ServerChange::Port(to) => port = Some(*to),
            ServerChange::Blacklist(time) => blacklist = Some(*time),
            _ => {}
        }
    }
    // The way of C pen to remove a server.
    if host.is_some_and(|host| matches!(host, Host::Ip(ip) if ip.is_unspecified())) {
        return remove(number, config);
    }
    let before = config.settings.servers.get(number).and_then(Option::as_ref);
    let (addr, name) = match (host, before) {
        (Some(host), before) => {
            let before = before.and_then(|server| match &server.addr {
                Endpoint::Ip(addr) => Some(addr.port()),
                Endpoint::Unix(_) => None,
            });
            server_addr(&what, host, port.or(before), config, env)?
        }
        (None, Some(ServerSettings { addr: Endpoint::Ip(addr), name, .. })) => {
            let port = port.unwrap_or_else(|| addr.port());
            (Endpoint::Ip(SocketAddr::new(addr.ip(), port)), name.clone())
        }
        (None, Some(server)) => (server.addr.clone(), None),
        (None, None) => return Err(ApplyError::NoAddress(number)),
    };
    let mut server = before.cloned().unwrap_or_else(|| ServerSettings::new(addr.clone()));
    // A server that a lookup added is a configured server from now on.
    let origin = std::mem::take(&mut server.origin);
    let mut server = ServerSettings { addr, name, ..server };
    server.draining &= origin != ServerOrigin::Withdrawn;
    // `blacklist 0` also ends a drain.
    server.draining &= blacklist.is_none_or(|time| !time.is_zero());
    changes.iter().for_each(|change| adjust(&mut server, change));
    let servers = &mut config.settings.servers;
    if servers.len() <= number {
        servers.resize(number + 1, None);
    }
    servers[number] = Some(server);
    Ok(match blacklist {
        Some(time) => CommandOutcome::Action(CommandAction::Blacklist(number, time)),
        None => CommandOutcome::Silence,
    })
}

fn adjust(server: &mut ServerSettings, change: &ServerChange) {
    match change {
        ServerChange::Acl(list) => server.acl = *list,
        ServerChange::Hard(hard) => server.hard = *hard,
        ServerChange::Max(soft) => server.soft = *soft,
        ServerChange::Prio(prio) => server.prio = *prio,
        ServerChange::Weight(weight) => server.weight = *weight,
        ServerChange::Address(_) | ServerChange::Port(_) | ServerChange::Blacklist(_) => {}
    }
}

fn drain(server: &ServerChoice, time: Option<Duration>, config: &mut PenConfig) -> Applied {
    let number = match server {
        ServerChoice::Number(number) => *number,
        ServerChoice::Address(text) => by_address(text, config)?,
    };
    slot(number, config)?.draining = true;
    let action = |time| CommandOutcome::Action(CommandAction::EndConnectionsOf(number, time));
    Ok(time.map_or(CommandOutcome::Silence, action))
}

fn remove(number: usize, config: &mut PenConfig) -> Applied {
    slot(number, config)?;
    let servers = &mut config.settings.servers;
    servers[number] = None;
    let used = servers.iter().rposition(Option::is_some).map_or(0, |last| last + 1);
    servers.truncate(used);
    Ok(CommandOutcome::Silence)
}

fn acl(command: AclCommand, config: &mut PenConfig) -> Applied {
    let acls = &mut config.settings.acls;
    match command {
        AclCommand::Add(list, rule) => acls.list_mut(list).push(rule),
        AclCommand::Remove(list, rule) => {
            let found = acls.list_mut(list).remove(rule);
            acls.tidy(list);
            if !found {
                return Err(ApplyError::NoRule(list));
            }
        }
        AclCommand::Clear(list) => acls.clear(list),
        AclCommand::Default(list, verdict) => {
            acls.list_mut(list).set_default(verdict);
            acls.tidy(list);
        }
        AclCommand::Show(list) => return Ok(CommandOutcome::Text(acl_text(list, acls))),
    }
    Ok(CommandOutcome::Silence)
}
