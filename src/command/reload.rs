//! A configuration as commands, and the difference between two configurations.

use std::ffi::OsStr;
use std::fmt;

use super::settings::{self, SettingScope};
use super::words::Quoted;
use crate::config::acl::AccessList;
use crate::config::{Endpoint, PenConfig, RuntimeSettings, ServerOrigin, ServerSettings, limit};

/// Returns the commands that turn the default configuration into `config`. Options without a command are left
/// out.
#[must_use]
pub fn commands(config: &PenConfig) -> Vec<String> {
    let settings = &config.settings;
    let mut lines: Vec<String> = settings::rows()
        .iter()
        .filter_map(|row| row.value(config).map(|value| row.command(&value)))
        .collect();
    for (number, list) in settings.acls.iter() {
        lines.push(format!("no acl {number}"));
        lines.extend(acl_lines(number, list));
    }
    for (number, server) in settings.servers.iter().enumerate() {
        // Addresses that a lookup added are found again.
        let configured = server.iter().filter(|it| it.origin == ServerOrigin::Configured);
        lines.extend(configured.flat_map(|server| server_lines(number, server)));
    }
    lines
}

/// Returns the commands that fill an empty access list.
pub(crate) fn acl_lines(number: u8, list: &AccessList) -> impl Iterator<Item = String> + '_ {
    let rules = list.rules().iter().map(move |rule| format!("acl {number} {rule}"));
    let default = list.stated_default();
    rules.chain(default.map(|verdict| format!("acl {number} default {verdict}")))
}

fn quoted(text: &str) -> String {
    Quoted(OsStr::new(text)).to_string()
}

fn server_lines(number: usize, server: &ServerSettings) -> Vec<String> {
    let (host, port) = server.host_and_port();
    let ServerSettings { soft, hard, weight, prio, acl, .. } = server;
    let port = if port == 0 { String::new() } else { format!(" port {port}") };
    let mut lines = vec![format!(
        "server {number} address {}{port} max {} hard {} weight {weight} prio {prio} acl {acl}",
        quoted(&host),
        limit(*soft),
        limit(*hard),
    )];
    if server.draining {
        lines.push(format!("drain {number}"));
    }
    lines
}

/// The difference between two configurations.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ConfigDiff {
    /// The new servers, with their numbers.
    pub added: Vec<(usize, ServerSettings)>,
    /// The servers with the same address and other settings, as configured now.
    pub changed: Vec<(usize, ServerSettings)>,
    /// The removed servers, with their former numbers.
    pub removed: Vec<(usize, ServerSettings)>,
    /// The commands for all other changed settings, as configured now.
    pub settings: Vec<String>,
    /// The verbs of the changed settings that need a restart.
    pub restart: Vec<&'static str>,
}

impl ConfigDiff {
    /// Returns whether the configurations are equal.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

impl fmt::Display for ConfigDiff {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_empty() {
            return f.write_str("nothing changed");
        }
        let mut sentences = Vec::new();
        let kinds =
            [("added", &self.added), ("changed", &self.changed), ("removed", &self.removed)];
        for (action, servers) in kinds {
            let words = servers.iter().map(|(number, server)| format!("{number} {}", server.addr));
            let words = words.collect::<Vec<_>>();
            if !words.is_empty() {
                sentences.push(format!("{action} server {}", words.join(", ")));
            }
        }
        sentences.extend(self.settings.iter().cloned());
        if !self.restart.is_empty() {
            sentences.push(format!("not without a restart: {}", self.restart.join(", ")));
        }
        f.write_str(&sentences.join("; "))
    }
}

/// Returns the new configuration without the changes that need a restart, and the difference to the old one.
#[must_use]
pub fn reload(old: &PenConfig, mut new: PenConfig) -> (PenConfig, ConfigDiff) {
    let mut diff = ConfigDiff::default();
    let fixed = settings::rows().iter().filter(|row| row.scope == SettingScope::Start);
    diff.restart =
        fixed.filter(|row| row.value(old) != row.value(&new)).map(|row| row.verb).collect();
    let settings = new.settings;
    new = PenConfig { settings, debug: new.debug, ..old.clone() };
    keep_found(&old.settings.servers, &mut new.settings);
    servers(old, &new, &mut diff);
    let before = commands(old);
    let is_server = |line: &str| line.starts_with("server ") || line.starts_with("drain ");
    let fresh =
        commands(&new).into_iter().filter(|line| !is_server(line) && !before.contains(line));
    diff.settings = fresh.collect();
    // A removed rule has no command.
    if diff.settings.is_empty() && old.settings.acls != new.settings.acls {
        diff.settings.push("access lists".to_owned());
    }
    (new, diff)
}

/// Keeps the addresses that lookups of host names found. Reading the new configuration looked up only the first
/// address of each name.
fn keep_found(old: &[Option<ServerSettings>], new: &mut RuntimeSettings) {
    if new.timeouts.resolve.is_none() {
        return;
    }
    let port = |server: &ServerSettings| match server.addr {
        Endpoint::Ip(addr) => addr.port(),
        Endpoint::Unix(_) => 0,
    };
    let alike = |a: &ServerSettings, b: &ServerSettings| {
        a.name.is_some() && a.name == b.name && port(a) == port(b)
    };
    for (number, before) in old.iter().enumerate() {
        let Some(before) = before else { continue };
        if before.origin == ServerOrigin::Configured {
            if let Some(Some(server)) = new.servers.get_mut(number)
                && alike(before, server)
            {
                server.addr.clone_from(&before.addr);
            }
        } else if new.servers.iter().flatten().any(|server| alike(before, server)) {
            if new.servers.len() <= number {
                new.servers.resize(number + 1, None);
            }
            new.servers[number].get_or_insert_with(|| before.clone());
        }
    }
}

fn servers(old: &PenConfig, new: &PenConfig, diff: &mut ConfigDiff) {
    let (before, after) = (&old.settings.servers, &new.settings.servers);
    for number in 0..before.len().max(after.len()) {
        let before = before.get(number).and_then(Option::as_ref);
        let after = after.get(number).and_then(Option::as_ref);
        match (before, after) {
            (Some(before), Some(after)) if before == after => {}
            (Some(before), Some(after)) if before.addr == after.addr => {
                diff.changed.push((number, after.clone()));
            }
            (before, after) => {
                diff.removed.extend(before.map(|server| (number, server.clone())));
                diff.added.extend(after.map(|server| (number, server.clone())));
            }
        }
    }
}
