//! Replies about the configuration: the value of a setting, the access lists. The reply to `mode` has
//! the form that C pen gives it, because scripts parse that line.

use super::apply::limit;
use super::write::Time;
use super::{Item, Setting};
use crate::config::acl::{AccessList, Acls};
use crate::config::{Endpoint, LogTarget, PenConfig, SelectionMode, ServerSettings};

/// What an item is at the moment, as C pen replies; empty where there is nothing.
#[must_use]
pub fn value(item: Item, config: &PenConfig) -> String {
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
pub fn setting(item: Item, config: &PenConfig) -> Option<Setting> {
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
fn mode(config: &PenConfig) -> String {
    let modes = config.settings.modes;
    let mut text = String::new();
    for (mode, word) in [
        (SelectionMode::Hash, "hash"),
        (SelectionMode::RoundRobin, "roundrobin"),
        (SelectionMode::Stubborn, "stubborn"),
        (SelectionMode::Weight, "weight"),
        (SelectionMode::Prio, "prio"),
    ] {
        let no = if modes.is_on(mode) { "" } else { "no " };
        let space = if text.is_empty() { "" } else { " " };
        text += &format!("{space}{no}{word}");
    }
    if modes.is_on(SelectionMode::LeastConnections) {
        text += " least_connections";
    }
    text
}

fn join<T: ToString>(items: &[T]) -> String {
    items.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
}

fn special(server: Option<&ServerSettings>) -> String {
    server.map(server_arg).unwrap_or_default()
}

/// A server as it stands on a command line.
#[must_use]
pub fn server_arg(server: &ServerSettings) -> String {
    let ServerSettings { soft, hard, weight, prio, .. } = server;
    let (host, port) = host_and_port(server);
    let host = if host.contains(':') { format!("[{host}]") } else { host };
    format!("{host}:{port}:{}:{}:{weight}:{prio}", limit(*soft), limit(*hard))
}

/// The name of a server if it has one, else its address; and its port, 0 if it has none.
#[must_use]
pub fn host_and_port(server: &ServerSettings) -> (String, u16) {
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
