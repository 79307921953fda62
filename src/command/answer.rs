//! What is replied: values of the configuration, and the traffic from a snapshot. The lines that
//! scripts read, of `servers`, `recent`, `mode` and `connection`, have the form that C pen gives them.

use std::fmt::Write as _;
use std::time::{Duration, UNIX_EPOCH};

use super::apply::limit;
use super::parse::VERBS;
use super::words::Quoted;
use super::write::Time;
use super::{Item, Query, Setting};
use crate::config::acl::{AccessList, Acls};
use crate::config::{Config, Endpoint, LogTarget, Mode, Origin, Server};
use crate::data::pool::ServerId;
use crate::operate::snapshot::{
    ClientNow, ConnectionNow, Detail, ServerNow, Snapshot, Stage, State, Which,
};

/// What an item is at the moment, as C pen replies; empty where there is nothing.
#[must_use]
pub fn value(item: Item, config: &Config) -> String {
    match item {
        Item::Control => config.control.as_ref().map(ToString::to_string).unwrap_or_default(),
        Item::Pid => std::process::id().to_string(),
        Item::Mode => mode(config),
        Item::Abuse => special(config.settings.abuse.as_ref()),
        Item::Emergency => special(config.settings.emergency.as_ref()),
        Item::Listen => join(&config.listen),
        Item::Log => {
            let log = config.settings.log.as_ref().map(LogTarget::name);
            log.map(|name| name.display().to_string()).unwrap_or_default()
        }
        Item::IdleTimeout => {
            let time = Time(config.settings.timeouts.idle.unwrap_or_default());
            format!("Idle timeout: {time} seconds")
        }
        _ => setting(item, config).map(|setting| text(&setting)).unwrap_or_default(),
    }
}

fn text(setting: &Setting) -> String {
    let mut text = String::new();
    setting.write_value(&mut text).expect("writing to a String does not fail");
    text
}

/// The command that would give an item the value it has.
#[must_use]
pub fn setting(item: Item, config: &Config) -> Option<Setting> {
    let settings = &config.settings;
    let (times, checks) = (&settings.timeouts, &settings.checks);
    Some(match item {
        Item::AcceptProxy => Setting::AcceptProxy(settings.accept_proxy.clone()),
        Item::AccessLog => Setting::AccessLog(settings.access_log.clone()),
        Item::Backlog => Setting::Backlog(config.backlog),
        Item::Check => Setting::Check(checks.check.clone()),
        Item::CheckFall => Setting::CheckFall(checks.fall),
        Item::CheckInterval => Setting::CheckInterval(checks.interval),
        Item::CheckRise => Setting::CheckRise(checks.rise),
        Item::CheckTimeout => Setting::CheckTimeout(checks.timeout),
        Item::Blacklist => Setting::Blacklist(times.blacklist),
        Item::ClientAcl => Setting::ClientAcl(settings.client_acl),
        Item::ClientsMax => Setting::ClientsMax(settings.limits.clients),
        Item::ConnMax => Setting::ConnMax(settings.limits.connections),
        Item::ControlAcl => Setting::ControlAcl(settings.control_acl),
        Item::StatusAcl => Setting::StatusAcl(settings.status_acl),
        Item::Debug => Setting::Debug(config.debug),
        Item::DrainTimeout => Setting::DrainTimeout(times.drain),
        Item::FirstByte => Setting::FirstByte(times.first_byte),
        Item::Geoip => {
            let countries = settings.acls.countries.as_deref();
            Setting::Geoip(countries.map(|countries| countries.path().to_owned()))
        }
        Item::HalfClosed => Setting::HalfClosed(times.linger),
        Item::IdleTimeout => Setting::IdleTimeout(times.idle),
        Item::LogFormat => Setting::LogFormat(settings.log_format),
        Item::MultiAccept => Setting::MultiAccept(config.multi_accept),
        Item::PendingMax => Setting::PendingMax(settings.limits.pending),
        Item::ResolveInterval => Setting::ResolveInterval(times.resolve),
        Item::SendProxy => Setting::SendProxy(settings.send_proxy),
        Item::Source => Setting::Source(settings.tcp.source),
        Item::TcpFastclose => Setting::TcpFastclose(settings.tcp.fastclose),
        Item::Tls(item) => Setting::Tls(item.setting(&settings.tls)),
        Item::Timeout => Setting::Timeout(times.connect),
        Item::Tracking => Setting::Tracking(times.tracking),
        Item::WebStats => Setting::WebStats(settings.web_stats.clone()),
        Item::Workers => Setting::Workers(config.workers),
        Item::XForwardedFor => Setting::XForwardedFor(settings.http.clone()?),
        Item::Abuse
        | Item::Control
        | Item::Emergency
        | Item::Listen
        | Item::Log
        | Item::Mode
        | Item::Pid => return None,
    })
}

/// The modes that C pen has, in its order, and then ours if it is on.
fn mode(config: &Config) -> String {
    let modes = config.settings.modes;
    let mut text = String::new();
    for (mode, word) in [
        (Mode::Hash, "hash"),
        (Mode::RoundRobin, "roundrobin"),
        (Mode::Stubborn, "stubborn"),
        (Mode::Weight, "weight"),
        (Mode::Prio, "prio"),
    ] {
        let no = if modes.is_on(mode) { "" } else { "no " };
        let space = if text.is_empty() { "" } else { " " };
        text += &format!("{space}{no}{word}");
    }
    if modes.is_on(Mode::LeastConnections) {
        text += " least_connections";
    }
    text
}

fn join<T: ToString>(items: &[T]) -> String {
    items.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
}

fn special(server: Option<&Server>) -> String {
    server.map(server_arg).unwrap_or_default()
}

/// A server as it stands on a command line.
#[must_use]
pub fn server_arg(server: &Server) -> String {
    let Server { soft, hard, weight, prio, .. } = server;
    let (host, port) = host_and_port(server);
    let host = if host.contains(':') { format!("[{host}]") } else { host };
    format!("{host}:{port}:{}:{}:{weight}:{prio}", limit(*soft), limit(*hard))
}

/// The name of a server if it has one, else its address; and its port, 0 if it has none.
#[must_use]
pub fn host_and_port(server: &Server) -> (String, u16) {
    match (&server.name, &server.addr) {
        (Some(name), Endpoint::Ip(addr)) => (name.clone(), addr.port()),
        (_, Endpoint::Ip(addr)) => (addr.ip().to_string(), addr.port()),
        (_, Endpoint::Unix(path)) => (path.display().to_string(), 0),
    }
}

/// The lists as commands, one of them or all.
#[must_use]
pub fn acls(number: Option<u8>, acls: &Acls) -> String {
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

/// The commands that make a list, which is empty before.
pub(crate) fn acl_lines(number: u8, list: &AccessList) -> impl Iterator<Item = String> + '_ {
    let rules = list.rules().iter().map(move |rule| format!("acl {number} {rule}"));
    let default = list.stated_default();
    rules.chain(default.map(|verdict| format!("acl {number} default {verdict}")))
}

impl Query {
    /// How much of the state it needs.
    #[must_use]
    pub fn detail(self) -> Detail {
        let of = |connections| Detail { connections, ..Detail::default() };
        match self {
            Self::Recent(time) => {
                Detail { clients: usize::MAX, recent: Some(time), ..Detail::default() }
            }
            Self::Connection(number) => of(Which::Number(number)),
            Self::Connections => of(Which::First(usize::MAX)),
            Self::Socket(fd) => of(Which::Descriptor(fd)),
            Self::Servers | Self::States | Self::Help => Detail::default(),
            Self::Status(_) => Detail { clients: 1_000, ..of(Which::First(1_000)) },
        }
    }

    /// The reply, without a line end; `Err` where what was asked for is not there. The page and its
    /// like are not drawn here.
    ///
    /// # Errors
    /// Names what there is not.
    pub fn answer(self, snapshot: &Snapshot) -> Result<String, String> {
        Ok(match self {
            Self::Servers => lines(snapshot.servers.iter().filter_map(server_line)),
            Self::States => lines(snapshot.servers.iter().map(state_line)),
            Self::Recent(time) => {
                let clients = snapshot.clients.iter().filter(|client| client.age <= time);
                lines(clients.map(client_line))
            }
            Self::Connections => lines(snapshot.connections.iter().map(connection_line)),
            Self::Connection(number) => {
                let mut all = snapshot.connections.iter();
                let found = all.find(|connection| connection.number == number);
                connection_block(found.ok_or_else(|| format!("Connection {number} out of range"))?)
            }
            Self::Socket(fd) => {
                let belongs = |one: &&ConnectionNow| {
                    one.client_fd == fd || one.server_fd.is_some_and(|server| server == fd)
                };
                let found = snapshot.connections.iter().find(belongs);
                let number = found.map_or_else(|| "-1".to_owned(), |one| one.number.to_string());
                format!("Socket {fd} belongs to connection {number}")
            }
            Self::Help => lines(VERBS.iter().map(|(usage, what)| format!("{usage:42}  {what}"))),
            Self::Status(_) => String::new(),
        })
    }
}

fn lines(lines: impl Iterator<Item = String>) -> String {
    lines.collect::<Vec<_>>().join("\n")
}

/// `N addr A port P conn C max M hard H weight W prio P sx S rx R`; the special ones are not listed.
fn server_line(server: &ServerNow) -> Option<String> {
    let ServerId::Slot(number) = server.id else { return None };
    let (addr, port) = match &server.config.addr {
        Endpoint::Ip(addr) => (addr.ip().to_string(), addr.port()),
        Endpoint::Unix(path) => (Quoted(path.as_os_str()).to_string(), 0),
    };
    let Server { soft, hard, weight, prio, .. } = &server.config;
    let (soft, hard) = (limit(*soft), limit(*hard));
    let ServerNow { connections, to_server, to_client, .. } = server;
    Some(format!(
        "{number} addr {addr} port {port} conn {connections} max {soft} hard {hard} \
         weight {weight} prio {prio} sx {to_server} rx {to_client}"
    ))
}

/// `N state W for S served N failures N [check ok|failed]`, the special ones by what they are for.
fn state_line(server: &ServerNow) -> String {
    let ServerNow { state, served, failures, .. } = server;
    let left = match state {
        State::Blacklisted(left) => left.as_secs(),
        State::Up | State::Full | State::Draining | State::Down => 0,
    };
    let (id, state) = (server_word(Some(server.id)), state.word());
    let check = match server.check.as_ref().map(|check| &check.wrong) {
        Some(None) => " check ok",
        Some(Some(_)) => " check failed",
        None => "",
    };
    format!("{id} state {state} for {left} served {served} failures {failures}{check}")
}

/// `<addr> connects <n> sx <n> rx <n>`.
fn client_line(client: &ClientNow) -> String {
    let ClientNow { addr, connects, sent, received, .. } = client;
    format!("{addr} connects {connects} sx {sent} rx {received}")
}

fn server_word(id: Option<ServerId>) -> String {
    match id {
        Some(ServerId::Slot(number)) => number.to_string(),
        Some(ServerId::Emergency) => "emergency".to_owned(),
        Some(ServerId::Abuse) => "abuse".to_owned(),
        None => "-1".to_owned(),
    }
}

fn connection_line(connection: &ConnectionNow) -> String {
    let ConnectionNow { number, client, stage, age, to_server, to_client, .. } = connection;
    let (server, stage, age) = (server_word(connection.server), stage.word(), age.as_secs());
    format!(
        "{number} client {client} server {server} state {stage} age {age} sx {to_server} rx {to_client}"
    )
}

/// Five lines, as C pen writes them.
fn connection_block(connection: &ConnectionNow) -> String {
    let mut text = format!("Connection {}:\n", connection.number);
    let server_fd = connection.server_fd.unwrap_or(-1);
    let pending = i32::from(connection.stage == Stage::Connecting);
    write!(
        text,
        "state = {}\ndownfd = {}, upfd = {server_fd}\nclient = {}, server = {}\npend = {pending}",
        connection.stage.word(),
        connection.client_fd,
        connection.client,
        server_word(connection.server),
    )
    .expect("writing to a String does not fail");
    text
}

/// The configuration as commands that make it again.
#[must_use]
pub fn dump(config: &Config, snapshot: &Snapshot) -> String {
    let seconds = snapshot.time.duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs());
    let mut text = format!("# Written by pen {}, seconds {seconds}\n", env!("CARGO_PKG_VERSION"));
    for line in super::reload::commands(config) {
        text.push_str(&line);
        text.push('\n');
    }
    // A server that is left alone for longer than its next failure would do is so by order.
    for server in &snapshot.servers {
        if let (ServerId::Slot(number), State::Blacklisted(time)) = (server.id, server.state)
            && time > config.settings.timeouts.blacklist
            && server.config.origin == Origin::Said
        {
            let time = Time(Duration::from_secs(time.as_secs()));
            writeln!(text, "server {number} blacklist {time}")
                .expect("writing to a String does not fail");
        }
    }
    text
}
