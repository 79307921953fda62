//! Parsers for the values of settings, one for each kind of value.

use std::num::NonZeroUsize;
use std::str::FromStr;
use std::time::Duration;

use pen_records::addr::parse_ip;
use rustls::pki_types::ServerName;

use super::arguments::{CommandWords, Parsed};
use super::error::CommandError;
use super::settings::value::{SettingType, SettingValue, WordChoice};
use crate::config::address::{ListenAddr, LogTargetArg, ServerArg};
use crate::config::checks::HealthCheck;
use crate::config::{ForwardedFor, TrustedPeer};

/// Parses a number that fits into `T`.
pub(super) fn number<T: FromStr + SettingType>(
    words: &mut CommandWords<'_>,
) -> Parsed<SettingValue> {
    words.number::<T>("a number").map(|number| number.to_value())
}

/// Parses a number from 1 on that fits into `T`.
pub(super) fn count<T: FromStr + SettingType>(
    words: &mut CommandWords<'_>,
) -> Parsed<SettingValue> {
    words.number::<T>("a number from 1 on").map(|number| number.to_value())
}

/// Parses a number of threads.
pub(super) fn workers(words: &mut CommandWords<'_>) -> Parsed<SettingValue> {
    let what = "a number from 1 to 1024";
    match words.number::<NonZeroUsize>(what)?.get() {
        workers if workers <= 1_024 => Ok(SettingValue::Number(workers)),
        _ => words.expected(what),
    }
}

/// Parses the number of an access list.
pub(super) fn acl_number(words: &mut CommandWords<'_>) -> Parsed<SettingValue> {
    list_number(words).map(|number| SettingValue::Number(number.into()))
}

/// Parses the number of an access list.
pub(super) fn list_number(words: &mut CommandWords<'_>) -> Parsed<u8> {
    words.number("the number of an access list, from 0 to 255")
}

/// Parses a duration.
pub(super) fn time(words: &mut CommandWords<'_>) -> Parsed<SettingValue> {
    words.time().map(SettingValue::Time)
}

/// Parses a duration above 0.
pub(super) fn nonzero_time(words: &mut CommandWords<'_>) -> Parsed<SettingValue> {
    match words.time()? {
        Duration::ZERO => words.expected("more than no time"),
        time => Ok(SettingValue::Time(time)),
    }
}

/// Parses the name of a file.
pub(super) fn file(words: &mut CommandWords<'_>) -> Parsed<SettingValue> {
    words.path("the name of a file").map(SettingValue::Path)
}

/// Parses a public key.
pub(super) fn public_key(words: &mut CommandWords<'_>) -> Parsed<SettingValue> {
    let what =
        "a public key, ed25519: and 64 hexadecimal digits, as penlogd prints it at its start";
    let key = words.word(what)?.parse();
    key.map_or_else(|_| words.expected(what), |key| Ok(SettingValue::Key(key)))
}

/// Parses the name of a folder.
pub(super) fn folder(words: &mut CommandWords<'_>) -> Parsed<SettingValue> {
    words.path("the name of a folder").map(SettingValue::Path)
}

/// Parses one of the words of `T`.
pub(super) fn choice<T: WordChoice>(words: &mut CommandWords<'_>) -> Parsed<SettingValue> {
    let typed = words.word(T::EXPECTED)?;
    let found = T::WORDS.iter().find(|(word, _)| *word == typed);
    found.map_or_else(|| words.expected(T::EXPECTED), |(word, _)| Ok(SettingValue::Word(word)))
}

/// Parses an address without a port.
pub(super) fn address(words: &mut CommandWords<'_>) -> Parsed<SettingValue> {
    let addr = parse_ip(words.word("an address")?.as_bytes());
    addr.map_or_else(|| words.expected("an address"), |addr| Ok(SettingValue::Address(addr)))
}

/// Parses `HOST[:PORT[:SOFT[:HARD[:WEIGHT[:PRIO]]]]]`.
pub(super) fn server_arg(words: &mut CommandWords<'_>) -> Parsed<SettingValue> {
    words.address(ServerArg::parse).map(SettingValue::Server)
}

/// Parses a host name or an address that a certificate can hold.
pub(super) fn server_name(words: &mut CommandWords<'_>) -> Parsed<SettingValue> {
    let what = "the name of a host, or an address";
    let name = words.word(what)?;
    match ServerName::try_from(name) {
        Ok(_) => Ok(SettingValue::Name(name.to_owned())),
        Err(_) => words.expected(what),
    }
}

/// Parses one or more protocols for ALPN.
pub(super) fn protocols(words: &mut CommandWords<'_>) -> Parsed<SettingValue> {
    let what = "protocols, as in h2 http/1.1";
    let mut protocols = Vec::new();
    while !words.is_empty() {
        let word = words.word(what)?;
        let is_protocol =
            (1..=255).contains(&word.len()) && word.bytes().all(|byte| byte.is_ascii_graphic());
        if !is_protocol {
            return words.expected(what);
        }
        protocols.push(word.to_owned());
    }
    Ok(SettingValue::Protocols(protocols))
}

/// Parses one or more addresses to listen on.
pub(super) fn listen(words: &mut CommandWords<'_>) -> Parsed<SettingValue> {
    let mut addrs = Vec::new();
    while !words.is_empty() {
        addrs.push(words.address(ListenAddr::parse)?);
    }
    Ok(SettingValue::Listen(addrs))
}

/// Parses a file or a collector. A word with a colon that does not begin with a slash is a collector.
pub(super) fn log(words: &mut CommandWords<'_>) -> Parsed<SettingValue> {
    let path = words.path("the name of a file")?;
    if path.to_str().is_some_and(|text| text.parse::<std::net::IpAddr>().is_ok()) {
        return words
            .expected("FILE or HOST:PORT; an address needs its port, as in 10.0.0.1:10000");
    }
    let Some(text) = path.to_str().filter(|text| text.contains(':') && !text.starts_with('/'))
    else {
        return Ok(SettingValue::Log(LogTargetArg::File(path)));
    };
    match ListenAddr::parse(text) {
        Ok(ListenAddr::Port(host, port)) if port != 0 => {
            Ok(SettingValue::Log(LogTargetArg::Collector(host, port)))
        }
        Ok(ListenAddr::Unix(_) | ListenAddr::Port(..)) => {
            words.expected("FILE or HOST:PORT; a file with a colon needs its whole path")
        }
        Err(error) => Err(CommandError::Address(words.verb.clone(), error)),
    }
}

/// Parses the treatment of an `X-Forwarded-For` header.
pub(super) fn forwarded_for(words: &mut CommandWords<'_>) -> Parsed<SettingValue> {
    let what = "replace, append, or keep and networks or unix";
    Ok(SettingValue::ForwardedFor(match words.word(what)? {
        "replace" => ForwardedFor::Replace,
        "append" => ForwardedFor::Append,
        "keep" => ForwardedFor::Keep(trusted_peers(words)?),
        _ => return words.expected(what),
    }))
}

/// Parses one or more networks, or `unix`.
pub(super) fn peers(words: &mut CommandWords<'_>) -> Parsed<SettingValue> {
    trusted_peers(words).map(SettingValue::Peers)
}

fn trusted_peers(words: &mut CommandWords<'_>) -> Parsed<Vec<TrustedPeer>> {
    let what = "networks, as in 10.0.0.0/8 2001:db8::/32, or unix";
    let mut peers = Vec::new();
    while !words.is_empty() || peers.is_empty() {
        let peer = TrustedPeer::parse(words.word(what)?);
        peers.push(peer.map_or_else(|| words.expected(what), Ok)?);
    }
    Ok(peers)
}

/// Parses a health check.
pub(super) fn check(words: &mut CommandWords<'_>) -> Parsed<SettingValue> {
    health_check(words).map(SettingValue::Check)
}

fn health_check(words: &mut CommandWords<'_>) -> Parsed<HealthCheck> {
    let what = "tcp, http and a path, or expect and a text";
    match words.word(what)? {
        "tcp" => Ok(HealthCheck::Connect),
        "http" => http_check(words),
        "send" => {
            let send = words.bytes("the text to send to the server")?;
            match words.word("expect and a text")? {
                "expect" => Ok(HealthCheck::Exchange { send, expect: expected_bytes(words)? }),
                _ => words.expected("expect and a text"),
            }
        }
        "expect" => Ok(HealthCheck::Exchange { send: Vec::new(), expect: expected_bytes(words)? }),
        _ => words.expected(what),
    }
}

fn expected_bytes(words: &mut CommandWords<'_>) -> Parsed<Vec<u8>> {
    words.bytes("the text to expect from the server")
}

fn http_check(words: &mut CommandWords<'_>) -> Parsed<HealthCheck> {
    let (a_method, a_path) = ("a method or a path", "a path, as in /health");
    let first = words.word(a_method)?.to_owned();
    let (method, path) = if first.starts_with('/') {
        ("GET".to_owned(), first)
    } else {
        (first, words.word(a_path)?.to_owned())
    };
    // The request line is one line.
    if method.is_empty() || !method.bytes().all(|byte| byte.is_ascii_uppercase()) {
        return words.expected(a_method);
    }
    if !path.starts_with('/') || !path.bytes().all(|byte| byte.is_ascii_graphic()) {
        return words.expected(a_path);
    }
    let (from, to) = if words.is_empty() { (200, 399) } else { statuses(words)? };
    Ok(HealthCheck::Http { method, path, from, to })
}

/// Parses a status, or a range as in `200-399`.
fn statuses(words: &mut CommandWords<'_>) -> Parsed<(u16, u16)> {
    let what = "a status or two, as in 200 or 200-399";
    let text = words.word(what)?;
    let (from, to) = text.split_once('-').unwrap_or((text, text));
    let status = |text: &str| text.parse().ok().filter(|status| (100..=999).contains(status));
    match (status(from), status(to)) {
        (Some(from), Some(to)) if from <= to => Ok((from, to)),
        _ => words.expected(what),
    }
}
