//! A configuration as commands, and what differs between two.

use std::ffi::OsStr;
use std::fmt;

use super::settings::{self, SettingScope};
use super::words::Quoted;
use crate::config::acl::AccessList;
use crate::config::{Endpoint, PenConfig, RuntimeSettings, ServerOrigin, ServerSettings, limit};

/// Returns the commands that make a default configuration this one. Options that have no command are left out.
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

/// Returns the commands that make an access list, starting from an empty one.
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

/// What differs between two configurations.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ConfigDiff {
    /// Servers under numbers that were free, or were another server's.
    pub added: Vec<(usize, ServerSettings)>,
    /// Servers that are where they were, with other limits or the like; as they are now.
    pub changed: Vec<(usize, ServerSettings)>,
    /// Servers that are gone, or whose number is another one's.
    pub removed: Vec<(usize, ServerSettings)>,
    /// The other commands that say something else than before, as they are now.
    pub settings: Vec<String>,
    /// What was to change and can't without a restart.
    pub restart: Vec<&'static str>,
}

impl ConfigDiff {
    /// Whether nothing differs.
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

/// What differs, and the new configuration without what can't change while running. It is to be
/// taken over as a whole.
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
    // Rules that are only gone show nowhere else.
    if diff.settings.is_empty() && old.settings.acls != new.settings.acls {
        diff.settings.push("access lists".to_owned());
    }
    (new, diff)
}

/// Addresses that names were found to have stay until they are looked up again: what was looked up to
/// read the new settings is only the first of them.
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
