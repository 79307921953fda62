//! What stands behind the verbs.

use std::net::IpAddr;
use std::num::NonZeroU32;
use std::time::Duration;

use pen_records::addr::parse_ip;

use super::{Args, Parsed, slot};
use crate::command::tls::TlsSetting;
use crate::command::{AclCommand, CommandError, ControlCommand, LogTo, ServerChange, Setting};
use crate::config::acl::{AclRule, AclVerdict, ClientMatcher};
use crate::config::address::{self, Host, ListenAddr};
use crate::config::checks::HealthCheck;
use crate::config::{
    FastClose, ForwardedFor, LogFormat, Network, ProxyVersion, TlsVersion, TrustedPeer,
};

pub(super) fn acl(args: &mut Args<'_>) -> Parsed<ControlCommand> {
    if args.is_empty() {
        return Ok(ControlCommand::Acl(AclCommand::Show(None)));
    }
    let list = list_number(args)?;
    if args.is_empty() {
        return Ok(ControlCommand::Acl(AclCommand::Show(Some(list))));
    }
    let what = "permit, deny or default";
    match args.word(what)? {
        "default" => {
            let Some(verdict) = AclVerdict::parse(args.word("permit or deny")?) else {
                return args.expected("permit or deny");
            };
            args.end(ControlCommand::Acl(AclCommand::Default(list, Some(verdict))))
        }
        word => match AclVerdict::parse(word) {
            Some(verdict) => {
                rule(args, verdict).map(|rule| ControlCommand::Acl(AclCommand::Add(list, rule)))
            }
            None => args.expected(what),
        },
    }
}

pub(super) fn no_acl(args: &mut Args<'_>) -> Parsed<ControlCommand> {
    let list = list_number(args)?;
    if args.is_empty() {
        return Ok(ControlCommand::Acl(AclCommand::Clear(list)));
    }
    let what = "nothing, default, or a rule with permit or deny";
    match args.word(what)? {
        "default" => args.end(ControlCommand::Acl(AclCommand::Default(list, None))),
        word => match AclVerdict::parse(word) {
            Some(verdict) => {
                rule(args, verdict).map(|rule| ControlCommand::Acl(AclCommand::Remove(list, rule)))
            }
            None => args.expected(what),
        },
    }
}

pub(super) fn list_number(args: &mut Args<'_>) -> Parsed<u8> {
    args.number("the number of an access list, from 0 to 255")
}

pub(super) fn rule(args: &mut Args<'_>, verdict: AclVerdict) -> Parsed<AclRule> {
    let mut words = Vec::new();
    while !args.is_empty() {
        words.push(args.word("an address, a network or unix")?.to_owned());
    }
    let words: Vec<_> = words.iter().map(String::as_str).collect();
    let who = ClientMatcher::parse(&words);
    who.map(|who| AclRule { verdict, who })
        .map_err(|error| CommandError::Acl(args.verb.clone(), error))
}

pub(super) fn server(args: &mut Args<'_>) -> Parsed<ControlCommand> {
    let number = slot(args)?;
    args.verb = format!("server {number}");
    let mut changes = Vec::new();
    let keys = "acl, address, blacklist, hard, max, port, prio or weight, and a value";
    while !args.is_empty() || changes.is_empty() {
        let key = args.word(keys)?.to_owned();
        let verb = std::mem::replace(&mut args.verb, format!("server {number} {key}"));
        changes.push(match key.as_str() {
            "acl" => ServerChange::Acl(list_number(args)?),
            "address" => ServerChange::Address(args.address(Host::parse)?),
            "blacklist" => ServerChange::Blacklist(args.time()?),
            "hard" => ServerChange::Hard(NonZeroU32::new(args.number("a number")?)),
            "max" => ServerChange::Max(NonZeroU32::new(args.number("a number")?)),
            "port" => ServerChange::Port(args.address(address::port)?),
            "prio" => ServerChange::Prio(args.number("a number")?),
            "weight" => ServerChange::Weight(args.number("a number")?),
            _ => {
                args.verb = verb;
                return args.expected(keys);
            }
        });
        args.verb = verb;
    }
    Ok(ControlCommand::Server(number, changes))
}

pub(super) fn listen(args: &mut Args<'_>) -> Parsed<Setting> {
    let mut addrs = Vec::new();
    while !args.is_empty() {
        addrs.push(args.address(ListenAddr::parse)?);
    }
    Ok(Setting::Listen(addrs))
}

/// With a colon, and not beginning with a slash, it is a collector.
pub(super) fn log(args: &mut Args<'_>) -> Parsed<Setting> {
    let path = args.path()?;
    let Some(text) = path.to_str().filter(|text| text.contains(':') && !text.starts_with('/'))
    else {
        return Ok(Setting::Log(Some(LogTo::File(path))));
    };
    match ListenAddr::parse(text) {
        Ok(ListenAddr::Port(host, port)) if port != 0 => {
            Ok(Setting::Log(Some(LogTo::Collector(host, port))))
        }
        Ok(ListenAddr::Unix(_) | ListenAddr::Port(..)) => {
            args.expected("FILE or HOST:PORT; a file with a colon needs its whole path")
        }
        Err(error) => Err(CommandError::Address(args.verb.clone(), error)),
    }
}

pub(super) fn log_format(args: &mut Args<'_>) -> Parsed<Setting> {
    match args.word("extended or classic")? {
        "extended" => Ok(Setting::LogFormat(LogFormat::Extended)),
        "classic" => Ok(Setting::LogFormat(LogFormat::Classic)),
        _ => args.expected("extended or classic"),
    }
}

pub(super) fn send_proxy(args: &mut Args<'_>) -> Parsed<Setting> {
    match args.word("v1 or v2")? {
        "v1" => Ok(Setting::SendProxy(Some(ProxyVersion::V1))),
        "v2" => Ok(Setting::SendProxy(Some(ProxyVersion::V2))),
        _ => args.expected("v1 or v2"),
    }
}

pub(super) fn check(args: &mut Args<'_>) -> Parsed<HealthCheck> {
    let what = "tcp, http and a path, or expect and a text";
    match args.word(what)? {
        "tcp" => Ok(HealthCheck::Connect),
        "http" => http_check(args),
        "send" => {
            let send = args.bytes("what is said to the server")?;
            match args.word("expect and a text")? {
                "expect" => Ok(HealthCheck::Exchange { send, expect: expected_bytes(args)? }),
                _ => args.expected("expect and a text"),
            }
        }
        "expect" => Ok(HealthCheck::Exchange { send: Vec::new(), expect: expected_bytes(args)? }),
        _ => args.expected(what),
    }
}

pub(super) fn expected_bytes(args: &mut Args<'_>) -> Parsed<Vec<u8>> {
    args.bytes("what the server has to say")
}

pub(super) fn http_check(args: &mut Args<'_>) -> Parsed<HealthCheck> {
    let (a_method, a_path) = ("a method or a path", "a path, as in /health");
    let first = args.word(a_method)?.to_owned();
    let (method, path) = if first.starts_with('/') {
        ("GET".to_owned(), first)
    } else {
        (first, args.word(a_path)?.to_owned())
    };
    // What is sent is one line.
    if method.is_empty() || !method.bytes().all(|byte| byte.is_ascii_uppercase()) {
        return args.expected(a_method);
    }
    if !path.starts_with('/') || !path.bytes().all(|byte| byte.is_ascii_graphic()) {
        return args.expected(a_path);
    }
    let (from, to) = if args.is_empty() { (200, 399) } else { statuses(args)? };
    Ok(HealthCheck::Http { method, path, from, to })
}

/// `200` or `200-399`.
pub(super) fn statuses(args: &mut Args<'_>) -> Parsed<(u16, u16)> {
    let what = "a status or two, as in 200 or 200-399";
    let text = args.word(what)?;
    let (from, to) = text.split_once('-').unwrap_or((text, text));
    let status = |text: &str| text.parse().ok().filter(|status| (100..=999).contains(status));
    match (status(from), status(to)) {
        (Some(from), Some(to)) if from <= to => Ok((from, to)),
        _ => args.expected(what),
    }
}

pub(super) fn source(args: &mut Args<'_>) -> Parsed<Setting> {
    match parse_ip(args.word("an address")?.as_bytes()) {
        Some(addr) => Ok(Setting::Source(Some(addr))),
        None => args.expected("an address"),
    }
}

pub(super) fn fastclose(args: &mut Args<'_>) -> Parsed<Setting> {
    let what = "up, down, both or off";
    Ok(Setting::TcpFastclose(match args.word(what)? {
        "up" => FastClose::Server,
        "down" => FastClose::Client,
        "both" => FastClose::Both,
        "off" => FastClose::Off,
        _ => return args.expected(what),
    }))
}

/// What C pen hands to OpenSSL. Protocols before 1.2 are never spoken here.
pub(super) fn ssl_option(args: &mut Args<'_>) -> Parsed<ControlCommand> {
    let what = "no_sslv2, no_sslv3, no_tlsv1, no_tlsv1.1, no_tlsv1.2 or cipher_server_preference";
    let command = match args.word(what)? {
        "no_sslv2" | "no_sslv3" | "no_tlsv1" | "no_tlsv1.1" => ControlCommand::Ignored(
            "ssl_option",
            "nothing older than TLS 1.2 is spoken in any case",
        ),
        "no_tlsv1.2" => ControlCommand::Set(Setting::Tls(TlsSetting::Oldest(TlsVersion::V1_3))),
        "cipher_server_preference" => ControlCommand::Ignored(
            "ssl_option",
            "there are only good ciphers, and clients know which is fastest for them",
        ),
        _ => return args.expected(what),
    };
    args.end(command)
}

pub(super) fn forwarded_for(args: &mut Args<'_>) -> Parsed<Setting> {
    let what = "replace, append, or keep and networks or unix";
    Ok(Setting::XForwardedFor(match args.word(what)? {
        "replace" => ForwardedFor::Replace,
        "append" => ForwardedFor::Append,
        "keep" => ForwardedFor::Keep(trusted(args)?),
        _ => return args.expected(what),
    }))
}

/// One network or more, or `unix`.
pub(super) fn trusted(args: &mut Args<'_>) -> Parsed<Vec<TrustedPeer>> {
    let what = "networks, as in 10.0.0.0/8 2001:db8::/32, or unix";
    let mut trusted = Vec::new();
    while !args.is_empty() || trusted.is_empty() {
        trusted.push(match args.word(what)? {
            "unix" => TrustedPeer::Unix,
            text => match network(text) {
                Some(network) => TrustedPeer::Network(network),
                None => return args.expected(what),
            },
        });
    }
    Ok(trusted)
}

pub(super) fn network(text: &str) -> Option<Network> {
    let (addr, bits) = match text.split_once('/') {
        Some((addr, bits)) => (addr, Some(bits.parse::<u8>().ok()?)),
        None => (text, None),
    };
    let addr: IpAddr = parse_ip(addr.as_bytes())?;
    let most = if addr.is_ipv4() { 32 } else { 128 };
    let bits = bits.unwrap_or(most);
    (bits <= most).then_some(Network { addr, bits })
}

/// A number of seconds, or one with `ms`, `s`, `m` or `h` behind it.
#[must_use]
pub fn duration(text: &str) -> Option<Duration> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at_checked(digits)?;
    let millis = match unit {
        "ms" => 1,
        "" | "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        _ => return None,
    };
    // What lasts longer than a century is a slip of the finger.
    let millis = number.parse::<u64>().ok()?.checked_mul(millis)?;
    (millis <= 3_155_760_000_000).then(|| Duration::from_millis(millis))
}
