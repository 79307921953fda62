//! A line to a command.

use std::ffi::OsString;
use std::num::NonZeroU32;
use std::time::Duration;

use super::arguments::{CommandWords, Parsed, printable};
use super::control_command::{
    AclCommand, ControlCommand, ProcessFact, ServerChange, ServerChoice, ShowQuery, StatusFormat,
};
use super::error::CommandError;
use super::settings::{self, SettingRow, SettingValue};
use super::values::list_number;
use super::verbs::{self, ABSENT, IGNORED};
use super::words;
use crate::config::acl::{AclRule, AclVerdict, ClientMatcher};
use crate::config::address::{self, Host};

/// The highest number of a server.
const MAX_SERVER: usize = 9_999;

impl ControlCommand {
    /// Parses a line; `None` for an empty line and a comment.
    ///
    /// # Errors
    /// The line is not a command.
    pub fn parse(line: &[u8]) -> Result<Option<Self>, CommandError> {
        let words = words::split(line).map_err(CommandError::Words)?;
        Self::from_words(&words)
    }

    /// Parses the words of a line; `None` for no words.
    ///
    /// # Errors
    /// The words are not a command.
    pub fn from_words(words: &[OsString]) -> Result<Option<Self>, CommandError> {
        let Some((verb, rest)) = words.split_first() else { return Ok(None) };
        let verb = printable(verb);
        if verb == "no" {
            let Some((verb, rest)) = rest.split_first() else {
                return Err(CommandError::Expected("no".into(), "a verb behind it"));
            };
            let verb = printable(verb);
            let mut words = CommandWords::new(format!("no {verb}"), rest);
            return negative(&mut words, &verb).map(Some);
        }
        positive(&mut CommandWords::new(verb.clone(), rest), &verb).map(Some)
    }
}

fn positive(words: &mut CommandWords<'_>, verb: &str) -> Parsed<ControlCommand> {
    if let Some(row) = settings::find(verb) {
        return setting(words, row);
    }
    if let Some((verb, why)) = known(IGNORED, verb) {
        return Ok(ControlCommand::Ignored(verb, why));
    }
    if let Some((verb, why)) = known(ABSENT, verb) {
        return Ok(ControlCommand::Absent(verb, why));
    }
    let command = match verb {
        "acl" => acl(words)?,
        "close" => ControlCommand::Close(words.number("the number of a connection")?),
        "control" => ControlCommand::Info(ProcessFact::Control),
        "drain" => {
            let server = server_choice(words)?;
            let time = if words.is_empty() { None } else { Some(words.time()?) };
            ControlCommand::Drain(server, time)
        }
        "exit" => ControlCommand::Exit,
        "include" => ControlCommand::Include(words.path("the name of a file")?),
        "mode" => ControlCommand::Info(ProcessFact::Mode),
        "pid" => ControlCommand::Info(ProcessFact::Pid),
        "remove" => ControlCommand::Remove(server_number(words)?),
        "server" => server(words)?,
        "ssl_option" => ssl_option(words)?,
        "write" if words.is_empty() => ControlCommand::Write(None),
        "write" => ControlCommand::Write(Some(words.path("the name of a file")?)),
        _ => match query(words, verb)? {
            Some(query) => ControlCommand::Show(query),
            None => return Err(CommandError::Unknown(verb.to_owned())),
        },
    };
    words.end(command)
}

/// Parses the words after the verb of a setting: the verb alone asks for the value, or turns a switch on.
fn setting(words: &mut CommandWords<'_>, row: &'static SettingRow) -> Parsed<ControlCommand> {
    let command = if words.is_empty() && !row.is_switch() {
        ControlCommand::Ask(row)
    } else {
        ControlCommand::Set(row, row.parse(words)?)
    };
    words.end(command)
}

fn query(words: &mut CommandWords<'_>, verb: &str) -> Parsed<Option<ShowQuery>> {
    Ok(Some(match verb {
        "connection" => ShowQuery::Connection(words.number("the number of a connection")?),
        "connections" => ShowQuery::Connections,
        "help" if words.is_empty() => ShowQuery::Help(None),
        "help" => {
            let word = words.word("a command")?;
            let verb = verbs::find(word).ok_or_else(|| CommandError::Unknown(word.to_owned()))?;
            ShowQuery::Help(Some(verb))
        }
        "recent" if words.is_empty() => ShowQuery::Recent(Duration::from_secs(300)),
        "recent" => ShowQuery::Recent(words.time()?),
        "servers" => ShowQuery::Servers,
        "states" => ShowQuery::States,
        "socket" => ShowQuery::Socket(words.number("the number of a file descriptor")?),
        "status" if words.is_empty() => ShowQuery::Status(StatusFormat::Html),
        "status" => ShowQuery::Status(match words.word("html, json or prometheus")? {
            "html" => StatusFormat::Html,
            "json" => StatusFormat::Json,
            "prometheus" => StatusFormat::Prometheus,
            _ => return words.expected("html, json or prometheus"),
        }),
        _ => return Ok(None),
    }))
}

fn negative(words: &mut CommandWords<'_>, verb: &str) -> Parsed<ControlCommand> {
    if let Some((verb, _)) = known(IGNORED, verb).or_else(|| known(ABSENT, verb)) {
        return words.end(ControlCommand::Ignored(verb, ""));
    }
    let setting = settings::find(verb).and_then(|row| Some((row, row.none_value()?)));
    let command = match (setting, verb) {
        (Some((row, value)), _) => ControlCommand::Set(row, value),
        (None, "acl") => no_acl(words)?,
        (None, "server") => ControlCommand::Remove(server_number(words)?),
        (None, _) => return Err(CommandError::UnknownNo(verb.to_owned())),
    };
    words.end(command)
}

fn known(
    table: &'static [(&'static str, &'static str)],
    verb: &str,
) -> Option<(&'static str, &'static str)> {
    table.iter().find(|(name, _)| *name == verb).copied()
}

fn server_choice(words: &mut CommandWords<'_>) -> Parsed<ServerChoice> {
    let what = "the number of a server, from 0 to 9999, or its address";
    let word = words.word(what)?;
    Ok(match word.parse() {
        Ok(number) if number <= MAX_SERVER => ServerChoice::Number(number),
        Ok(_) => return words.expected(what),
        Err(_) => ServerChoice::Address(word.to_owned()),
    })
}

fn server_number(words: &mut CommandWords<'_>) -> Parsed<usize> {
    let what = "the number of a server, from 0 to 9999";
    match words.number(what)? {
        number if number <= MAX_SERVER => Ok(number),
        _ => words.expected(what),
    }
}

fn acl(words: &mut CommandWords<'_>) -> Parsed<ControlCommand> {
    if words.is_empty() {
        return Ok(ControlCommand::Acl(AclCommand::Show(None)));
    }
    let list = list_number(words)?;
    if words.is_empty() {
        return Ok(ControlCommand::Acl(AclCommand::Show(Some(list))));
    }
    let what = "permit, deny or default";
    let word = words.word(what)?;
    Ok(ControlCommand::Acl(if word == "default" {
        let verdict = AclVerdict::parse(words.word("permit or deny")?);
        let verdict = verdict.map_or_else(|| words.expected("permit or deny"), Ok)?;
        AclCommand::Default(list, Some(verdict))
    } else {
        match AclVerdict::parse(word) {
            Some(verdict) => AclCommand::Add(list, rule(words, verdict)?),
            None => return words.expected(what),
        }
    }))
}

fn no_acl(words: &mut CommandWords<'_>) -> Parsed<ControlCommand> {
    let list = list_number(words)?;
    if words.is_empty() {
        return Ok(ControlCommand::Acl(AclCommand::Clear(list)));
    }
    let what = "nothing, default, or a rule with permit or deny";
    let word = words.word(what)?;
    Ok(ControlCommand::Acl(if word == "default" {
        AclCommand::Default(list, None)
    } else {
        match AclVerdict::parse(word) {
            Some(verdict) => AclCommand::Remove(list, rule(words, verdict)?),
            None => return words.expected(what),
        }
    }))
}

fn rule(words: &mut CommandWords<'_>, verdict: AclVerdict) -> Parsed<AclRule> {
    let mut texts = Vec::new();
    while !words.is_empty() {
        texts.push(words.word("an address, a network or unix")?.to_owned());
    }
    let texts: Vec<_> = texts.iter().map(String::as_str).collect();
    let matcher = ClientMatcher::parse(&texts);
    matcher
        .map(|matcher| AclRule { verdict, matcher })
        .map_err(|error| CommandError::Acl(words.verb.clone(), error))
}

fn server(words: &mut CommandWords<'_>) -> Parsed<ControlCommand> {
    let number = server_number(words)?;
    words.verb = format!("server {number}");
    let mut changes = Vec::new();
    let keys = "acl, address, blacklist, hard, max, port, prio or weight, and a value";
    while !words.is_empty() || changes.is_empty() {
        let key = words.word(keys)?.to_owned();
        let verb = std::mem::replace(&mut words.verb, format!("server {number} {key}"));
        let Some(change) = server_change(words, &key)? else {
            words.verb = verb;
            return words.expected(keys);
        };
        changes.push(change);
        words.verb = verb;
    }
    Ok(ControlCommand::Server(number, changes))
}

fn server_change(words: &mut CommandWords<'_>, key: &str) -> Parsed<Option<ServerChange>> {
    Ok(Some(match key {
        "acl" => ServerChange::Acl(list_number(words)?),
        "address" => ServerChange::Address(words.address(Host::parse)?),
        "blacklist" => ServerChange::Blacklist(words.time()?),
        "hard" => ServerChange::Hard(NonZeroU32::new(words.number("a number")?)),
        "max" => ServerChange::Max(NonZeroU32::new(words.number("a number")?)),
        "port" => ServerChange::Port(words.address(address::port)?),
        "prio" => ServerChange::Prio(words.number("a number")?),
        "weight" => ServerChange::Weight(words.number("a number")?),
        _ => return Ok(None),
    }))
}

/// Parses an option that C pen passes to OpenSSL. Versions before TLS 1.2 are never accepted.
fn ssl_option(words: &mut CommandWords<'_>) -> Parsed<ControlCommand> {
    let what = "no_sslv2, no_sslv3, no_tlsv1, no_tlsv1.1, no_tlsv1.2 or cipher_server_preference";
    Ok(match words.word(what)? {
        "no_sslv2" | "no_sslv3" | "no_tlsv1" | "no_tlsv1.1" => {
            ControlCommand::Ignored("ssl_option", "versions before TLS 1.2 are never accepted")
        }
        "no_tlsv1.2" => {
            let minimum = settings::find("ssl_minimum").expect("the table has this setting");
            ControlCommand::Set(minimum, SettingValue::Word("1.3"))
        }
        "cipher_server_preference" => ControlCommand::Ignored(
            "ssl_option",
            "all available ciphers are safe, and clients know which is fastest for them",
        ),
        _ => return words.expected(what),
    })
}
