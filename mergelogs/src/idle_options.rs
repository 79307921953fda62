//! Options `--server` without effect.

use pen_records::server_alias::ServerAlias;

use crate::config::{InputOrigin, MergeConfig};

/// Returns a remark for each option without effect. `is_used` tells whether a mapping needed the option at a place.
pub(crate) fn idle_options(config: &MergeConfig, is_used: impl Fn(usize) -> bool) -> Vec<String> {
    let options = config.third_party.names.iter().enumerate();
    let has_central = |option: &ServerAlias| {
        let logs = config.servers.iter().filter(|it| it.ip == Some(option.server.addr));
        let is_central = |log: &InputOrigin| matches!(log, InputOrigin::HostLines(_));
        option.may_be_host() && logs.flat_map(|it| &it.logs).any(is_central)
    };
    let idle = options.filter(|(place, option)| !is_used(*place) && !has_central(option));
    let warning = |(_, option): (usize, &ServerAlias)| {
        let (name, addr) = (option.known_as.to_string(), option.server.addr);
        let why = if config.servers.iter().any(|it| it.ip == Some(addr)) {
            format!("no mapping names {name}")
        } else if config.servers.iter().any(|it| it.name == name) {
            format!("no mapping names {addr}")
        } else {
            format!("no access log of {addr} is given")
        };
        format!("--server {option} has no effect: {why}")
    };
    idle.map(warning).collect()
}
