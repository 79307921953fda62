//! What a command does to a configuration, and what else has to be done because of it.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::answer::value;
use super::{AclCommand, ControlCommand, Item, LogTo, ServerChange, Setting, ShowQuery, Switch};
use crate::config::address::{Host, ListenAddr, ServerArg};
use crate::config::countries::CountryDatabase;
use crate::config::{
    Endpoint, ExitPolicy, ForwardedFor, LogTarget, PenConfig, ServerOrigin, ServerSettings,
    TransportKind,
};

/// What a command needs to know of the world.
pub trait CommandEnv {
    /// An address of a host.
    ///
    /// # Errors
    /// Says why there is none.
    fn resolve(&self, name: &str, port: u16) -> Result<SocketAddr, String>;

    /// A database of countries.
    ///
    /// # Errors
    /// It cannot be read, or is none.
    fn countries(&self, path: &Path) -> io::Result<CountryDatabase>;

    /// A path that means the same wherever the process is, of what is opened before it is where it
    /// is to be.
    fn absolute(&self, path: &Path) -> PathBuf;

    /// The same for what is opened later, and so inside of the jail if there is one.
    fn inside(&self, path: &Path) -> PathBuf {
        self.absolute(path)
    }
}

/// Whether there is traffic already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ApplyPhase {
    /// Not yet: everything can be set.
    Starting,
    /// What was set up at the start stays.
    Running,
}

/// What comes of a command that could be carried out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CommandOutcome {
    /// Nothing is to be said.
    Silence,
    /// This is to be said, without a line end.
    Text(String),
    /// It has no effect, and this is why.
    Warning(String),
    /// This has still to be done.
    Action(CommandAction),
}

/// What is to be done beyond changing the configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CommandAction {
    /// Answer from a snapshot.
    Show(ShowQuery),
    /// Leave a server alone for this time.
    Blacklist(usize, Duration),
    /// End those connections of a server that are still open after this time.
    EndConnectionsOf(usize, Duration),
    /// End a connection.
    Close(u64),
    /// Run the commands in a file.
    Include(PathBuf),
    /// Save the configuration.
    Write(PathBuf),
    /// Stop.
    Exit,
}

/// A command that could not be carried out. The configuration may be half changed: change a copy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ApplyError {
    /// It would need a restart.
    Running(String),
    /// Nobody by that number.
    NoServer(usize),
    /// A server that has no address yet.
    NoAddress(usize),
    /// Neither the server nor pen has a port.
    NoPort(String),
    /// A name without an address: what it is of, and why.
    Unresolved(String, String),
    /// Known, and not to be had.
    Absent(&'static str, &'static str),
    /// A database that cannot be used, and why.
    Countries(PathBuf, String),
    /// `exit` without `-X`.
    Exit,
    /// `write` without a name when there is no file.
    NoFile,
    /// The rule is not in the list.
    NoRule(u8),
}

impl fmt::Display for ApplyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Running(verb) => {
                write!(f, "{verb}: can't be changed while running: restart pen with it")
            }
            Self::Countries(path, why) => {
                write!(f, "geoip: cannot read {}: {why}", path.display())
            }
            Self::NoServer(number) => write!(f, "server {number}: there is no such server"),
            Self::NoAddress(number) => {
                write!(
                    f,
                    "server {number}: expected an address first: server {number} address ADDR"
                )
            }
            Self::NoPort(what) => {
                write!(f, "{what}: expected a port, since pen does not listen at one")
            }
            Self::Unresolved(what, why) => write!(f, "{what}: {why}"),
            Self::Absent(verb, why) => write!(f, "{verb}: {why}"),
            // As C pen says it.
            Self::Exit => f.write_str("Exit is not enabled; restart with -X flag"),
            Self::NoFile => f.write_str("write: expected the name of a file: there was no -F"),
            Self::NoRule(list) => write!(f, "acl {list}: there is no such rule"),
        }
    }
}

impl std::error::Error for ApplyError {}

type Applied = Result<CommandOutcome, ApplyError>;

impl ControlCommand {
    /// Carries it out on `config`.
    ///
    /// # Errors
    /// Says why it could not be carried out.
    pub fn apply(
        &self,
        config: &mut PenConfig,
        phase: ApplyPhase,
        world: &dyn CommandEnv,
    ) -> Applied {
        match self {
            Self::Switch(switch, on) => self::switch(*switch, *on, config, phase),
            Self::Set(setting) => set(setting, config, phase, world),
            Self::Ask(item) => Ok(CommandOutcome::Text(value(*item, config))),
            Self::Acl(acl) => self::acl(*acl, config),
            Self::Server(number, changes) => server(*number, changes, config, world),
            Self::Drain(number, time) => drain(*number, *time, config),
            Self::Remove(number) => remove(*number, config),
            Self::Show(query) => Ok(CommandOutcome::Action(CommandAction::Show(*query))),
            Self::Close(number) => Ok(CommandOutcome::Action(CommandAction::Close(*number))),
            Self::Include(path) => {
                Ok(CommandOutcome::Action(CommandAction::Include(world.inside(path))))
            }
            Self::Write(path) => {
                let path = path.as_deref().map(|path| world.inside(path));
                let file = || config.file.as_deref().map(|path| world.inside(path));
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

fn switch(switch: Switch, on: bool, config: &mut PenConfig, phase: ApplyPhase) -> Applied {
    let settings = &mut config.settings;
    match switch {
        Switch::Mode(mode) => settings.modes.set(mode, on),
        Switch::Http if !on => settings.http = None,
        Switch::Http => {
            settings.http.get_or_insert_with(ForwardedFor::default);
        }
        Switch::Keepalive => settings.tcp.keepalive = on,
        Switch::Nodelay => settings.tcp.nodelay = on,
        Switch::Transparent => settings.tcp.transparent = on,
        Switch::Udp => {
            let transport = if on { TransportKind::Udp } else { TransportKind::Stream };
            if phase == ApplyPhase::Running && config.transport != transport {
                return Err(ApplyError::Running(switch.to_string()));
            }
            config.transport = transport;
        }
    }
    Ok(CommandOutcome::Silence)
}

/// Whether C pen answers with the new value.
fn is_answered(item: Item) -> bool {
    matches!(
        item,
        Item::Blacklist
            | Item::ClientAcl
            | Item::ClientsMax
            | Item::ConnMax
            | Item::ControlAcl
            | Item::StatusAcl
            | Item::Debug
            | Item::IdleTimeout
            | Item::Listen
            | Item::Log
            | Item::Timeout
            | Item::Tracking
            | Item::WebStats
            | Item::AccessLog
    )
}

fn set(
    setting: &Setting,
    config: &mut PenConfig,
    phase: ApplyPhase,
    world: &dyn CommandEnv,
) -> Applied {
    let before = (config.listen.clone(), config.workers, config.backlog, config.multi_accept);
    assign(setting, config, world)?;
    let after = (&config.listen, config.workers, config.backlog, config.multi_accept);
    let verb = setting.item().verb();
    if phase == ApplyPhase::Running && after != (&before.0, before.1, before.2, before.3) {
        return Err(ApplyError::Running(verb.to_owned()));
    }
    let answered = is_answered(setting.item()) && !setting.is_none();
    let text = || value(setting.item(), config);
    Ok(if answered { CommandOutcome::Text(text()) } else { CommandOutcome::Silence })
}

fn assign(
    setting: &Setting,
    config: &mut PenConfig,
    world: &dyn CommandEnv,
) -> Result<(), ApplyError> {
    match setting {
        Setting::Abuse(server) => {
            config.settings.abuse = special("abuse", server.as_ref(), config, world)?;
        }
        Setting::Emergency(server) => {
            config.settings.emergency = special("emergency", server.as_ref(), config, world)?;
        }
        Setting::Backlog(backlog) => config.backlog = *backlog,
        Setting::Debug(level) => config.debug = *level,
        Setting::Listen(addrs) => {
            let addrs = addrs.iter().map(|addr| endpoint(addr, world));
            config.listen = addrs.collect::<Result<_, _>>()?;
        }
        Setting::MultiAccept(number) => config.multi_accept = *number,
        Setting::Workers(number) => config.workers = *number,
        _ => assign_running(setting, config, world)?,
    }
    Ok(())
}

/// Those that can change at any time and need no second look.
fn assign_running(
    setting: &Setting,
    config: &mut PenConfig,
    world: &dyn CommandEnv,
) -> Result<(), ApplyError> {
    let settings = &mut config.settings;
    let times = &mut settings.timeouts;
    match setting {
        Setting::AcceptProxy(networks) => settings.accept_proxy.clone_from(networks),
        Setting::AccessLog(path) => {
            settings.access_log = path.as_deref().map(|path| world.absolute(path));
        }
        Setting::Blacklist(time) => times.blacklist = *time,
        Setting::Check(check) => settings.checks.check.clone_from(check),
        Setting::CheckFall(number) => settings.checks.fall = *number,
        Setting::CheckInterval(time) => settings.checks.interval = *time,
        Setting::CheckRise(number) => settings.checks.rise = *number,
        Setting::CheckTimeout(time) => settings.checks.timeout = *time,
        Setting::ClientAcl(list) => settings.client_acl = *list,
        Setting::ClientsMax(number) => settings.limits.clients = *number,
        Setting::ConnMax(number) => settings.limits.connections = *number,
        Setting::ControlAcl(list) => settings.control_acl = *list,
        Setting::StatusAcl(list) => settings.status_acl = *list,
        Setting::DrainTimeout(time) => times.drain = *time,
        Setting::FirstByte(time) => times.first_byte = *time,
        Setting::Geoip(path) => {
            let path = path.as_deref().map(|path| world.absolute(path));
            let read = |path: PathBuf| match world.countries(&path) {
                Ok(countries) => Ok(Arc::new(countries)),
                Err(error) => Err(ApplyError::Countries(path, error.to_string())),
            };
            settings.acls.countries = path.map(read).transpose()?;
        }
        Setting::HalfClosed(time) => times.linger = *time,
        Setting::IdleTimeout(time) => times.idle = *time,
        Setting::Log(target) => {
            settings.log = target.as_ref().map(|to| log_target(to, world)).transpose()?;
        }
        Setting::LogFormat(format) => settings.log_format = *format,
        Setting::PendingMax(number) => settings.limits.pending = *number,
        Setting::SendProxy(version) => settings.send_proxy = *version,
        Setting::ResolveInterval(time) => times.resolve = *time,
        Setting::Source(addr) => settings.tcp.source = *addr,
        Setting::TcpFastclose(whose) => settings.tcp.fastclose = *whose,
        Setting::Tls(tls) => tls.assign(&mut settings.tls, world),
        Setting::Timeout(time) => times.connect = *time,
        Setting::Tracking(time) => times.tracking = *time,
        Setting::WebStats(path) => {
            settings.web_stats = path.as_deref().map(|path| world.inside(path));
        }
        Setting::XForwardedFor(policy) => settings.http = Some(policy.clone()),
        Setting::Abuse(_)
        | Setting::Emergency(_)
        | Setting::Backlog(_)
        | Setting::Debug(_)
        | Setting::Listen(_)
        | Setting::MultiAccept(_)
        | Setting::Workers(_) => {}
    }
    Ok(())
}

fn resolve(
    what: &str,
    name: &str,
    port: u16,
    world: &dyn CommandEnv,
) -> Result<SocketAddr, ApplyError> {
    world.resolve(name, port).map_err(|why| ApplyError::Unresolved(what.to_owned(), why))
}

fn endpoint(addr: &ListenAddr, world: &dyn CommandEnv) -> Result<Endpoint, ApplyError> {
    Ok(match addr {
        ListenAddr::Unix(path) => Endpoint::Unix(world.absolute(path)),
        ListenAddr::Port(Host::Ip(ip), port) => Endpoint::Ip(SocketAddr::new(*ip, *port)),
        ListenAddr::Port(host, port) => {
            Endpoint::Ip(resolve("listen", &host.to_string(), *port, world)?)
        }
    })
}

fn log_target(to: &LogTo, world: &dyn CommandEnv) -> Result<LogTarget, ApplyError> {
    Ok(match to {
        LogTo::File(path) => LogTarget::File(world.inside(path)),
        LogTo::Collector(host, port) => {
            let name = ListenAddr::Port(host.clone(), *port).to_string();
            let addr = match host {
                Host::Ip(ip) => SocketAddr::new(*ip, *port),
                host => resolve("log", &host.to_string(), *port, world)?,
            };
            LogTarget::Collector { name, addr }
        }
    })
}

/// The port of a server that names none.
fn listen_port(config: &PenConfig) -> Option<u16> {
    config.listen.iter().find_map(|listen| match listen {
        Endpoint::Ip(addr) if addr.port() != 0 => Some(addr.port()),
        _ => None,
    })
}

/// Where a server is: what is connected to, and the name if there was one.
fn server_addr(
    what: &str,
    host: &Host,
    port: Option<u16>,
    config: &PenConfig,
    world: &dyn CommandEnv,
) -> Result<(Endpoint, Option<String>), ApplyError> {
    let port = || {
        let port = port.filter(|&port| port != 0).or_else(|| listen_port(config));
        port.ok_or_else(|| ApplyError::NoPort(what.to_owned()))
    };
    Ok(match host {
        Host::Unix(path) => (Endpoint::Unix(world.inside(path)), None),
        Host::Ip(ip) => (Endpoint::Ip(SocketAddr::new(*ip, port()?)), None),
        Host::Name(name) => {
            (Endpoint::Ip(resolve(what, name, port()?, world)?), Some(name.clone()))
        }
    })
}

fn special(
    what: &str,
    arg: Option<&ServerArg>,
    config: &PenConfig,
    world: &dyn CommandEnv,
) -> Result<Option<ServerSettings>, ApplyError> {
    arg.map(|arg| from_arg(what, arg, config, world)).transpose()
}

/// The server that an argument describes.
pub(crate) fn from_arg(
    what: &str,
    arg: &ServerArg,
    config: &PenConfig,
    world: &dyn CommandEnv,
) -> Result<ServerSettings, ApplyError> {
    let (addr, name) = server_addr(what, &arg.host, arg.port, config, world)?;
    let (soft, hard) = (arg.soft, arg.hard);
    let (weight, prio) = (arg.weight, arg.prio);
    Ok(ServerSettings { name, soft, hard, weight, prio, ..ServerSettings::new(addr) })
}

fn slot(number: usize, config: &mut PenConfig) -> Result<&mut ServerSettings, ApplyError> {
    let server = config.settings.servers.get_mut(number).and_then(Option::as_mut);
    server.ok_or(ApplyError::NoServer(number))
}

fn server(
    number: usize,
    changes: &[ServerChange],
    config: &mut PenConfig,
    world: &dyn CommandEnv,
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
    // C pen has no other way to take a server out.
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
            server_addr(&what, host, port.or(before), config, world)?
        }
        (None, Some(ServerSettings { addr: Endpoint::Ip(addr), name, .. })) => {
            let port = port.unwrap_or_else(|| addr.port());
            (Endpoint::Ip(SocketAddr::new(addr.ip(), port)), name.clone())
        }
        (None, Some(server)) => (server.addr.clone(), None),
        (None, None) => return Err(ApplyError::NoAddress(number)),
    };
    let mut server = before.cloned().unwrap_or_else(|| ServerSettings::new(addr.clone()));
    // One that was found is what was said from now on.
    let origin = std::mem::take(&mut server.origin);
    let mut server = ServerSettings { addr, name, ..server };
    server.draining &= origin != ServerOrigin::Withdrawn;
    // Words about a server that was to get nobody put it back to work.
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

fn drain(number: usize, time: Option<Duration>, config: &mut PenConfig) -> Applied {
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
        AclCommand::Show(list) => return Ok(CommandOutcome::Text(super::answer::acls(list, acls))),
    }
    Ok(CommandOutcome::Silence)
}

/// The number of connections, as it is typed.
pub(crate) fn limit(limit: Option<NonZeroU32>) -> u32 {
    limit.map_or(0, NonZeroU32::get)
}
