//! What a line says: one `match` over the verbs.

mod values;
mod verbs;

use std::ffi::OsString;
use std::num::NonZeroUsize;
use std::os::unix::ffi::OsStrExt as _;
use std::path::PathBuf;
use std::slice;
use std::str::FromStr;
use std::time::Duration;

pub use values::duration;
use values::{
    acl, check, fastclose, forwarded_for, listen, log, log_format, no_acl, send_proxy, server,
    source, ssl_option, trusted,
};
pub use verbs::VERBS;
use verbs::{ABSENT, IGNORED};

use super::tls::TlsItem;
use super::words;
use super::{CommandError, ControlCommand, Item, Setting, ShowQuery};
use super::{StatusFormat, Switch};
use crate::config::address::{AddressError, ServerArg};
use crate::config::{FastClose, SelectionMode};

/// The highest number a server can have.
const MAX_SERVER: usize = 9_999;

impl ControlCommand {
    /// Reads a line; `None` if it says nothing.
    ///
    /// # Errors
    /// Says what is wrong with it.
    pub fn parse(line: &[u8]) -> Result<Option<Self>, CommandError> {
        let words = words::split(line).map_err(CommandError::Words)?;
        Self::from_words(&words)
    }

    /// The same for words.
    ///
    /// # Errors
    /// Says what is wrong with them.
    pub fn from_words(words: &[OsString]) -> Result<Option<Self>, CommandError> {
        let Some((verb, args)) = words.split_first() else { return Ok(None) };
        let verb = text(verb);
        if verb == "no" {
            let Some((verb, args)) = args.split_first() else {
                return Err(CommandError::Expected("no".into(), "a verb behind it"));
            };
            let verb = text(verb);
            return negative(&mut Args { verb: format!("no {verb}"), rest: args.iter() }, &verb)
                .map(Some);
        }
        let mut args = Args { verb: verb.clone(), rest: args.iter() };
        positive(&mut args, &verb).map(Some)
    }
}

/// Printable in any case.
fn text(word: &OsString) -> String {
    word.to_string_lossy().escape_debug().to_string()
}

/// A verb and what stands behind it.
struct Args<'a> {
    verb: String,
    rest: slice::Iter<'a, OsString>,
}

type Parsed<T> = Result<T, CommandError>;

impl Args<'_> {
    fn expected<T>(&self, what: &'static str) -> Parsed<T> {
        Err(CommandError::Expected(self.verb.clone(), what))
    }

    fn is_empty(&self) -> bool {
        self.rest.len() == 0
    }

    /// The next word, if it is text.
    fn word(&mut self, what: &'static str) -> Parsed<&str> {
        match self.rest.next().and_then(|word| word.to_str()) {
            Some(word) => Ok(word),
            None => Err(CommandError::Expected(self.verb.clone(), what)),
        }
    }

    fn number<T: FromStr>(&mut self, what: &'static str) -> Parsed<T> {
        let number = self.word(what)?.parse().ok();
        number.map_or_else(|| self.expected(what), Ok)
    }

    fn time(&mut self) -> Parsed<Duration> {
        let what = "seconds, or a number with ms, s, m or h behind it";
        let time = duration(self.word(what)?);
        time.map_or_else(|| self.expected(what), Ok)
    }

    /// More than none.
    fn some_time(&mut self) -> Parsed<Duration> {
        match self.time()? {
            Duration::ZERO => self.expected("more than no time"),
            time => Ok(time),
        }
    }

    /// Any bytes, but some.
    fn bytes(&mut self, what: &'static str) -> Parsed<Vec<u8>> {
        match self.rest.next().map(|word| word.as_bytes().to_vec()) {
            Some(bytes) if !bytes.is_empty() => Ok(bytes),
            _ => self.expected(what),
        }
    }

    fn path(&mut self) -> Parsed<PathBuf> {
        match self.rest.next() {
            Some(path) if !path.is_empty() => Ok(PathBuf::from(path)),
            _ => self.expected("the name of a file"),
        }
    }

    fn address<T>(&mut self, parse: fn(&str) -> Result<T, AddressError>) -> Parsed<T> {
        let verb = self.verb.clone();
        parse(self.word("an address")?).map_err(|error| CommandError::Address(verb, error))
    }

    /// What was found, if nothing follows.
    fn end(&mut self, command: ControlCommand) -> Parsed<ControlCommand> {
        match self.rest.next() {
            None => Ok(command),
            Some(word) => Err(CommandError::Surplus(self.verb.clone(), text(word))),
        }
    }

    /// The value that follows, or the question for it.
    fn setting(
        &mut self,
        item: Item,
        parse: impl FnOnce(&mut Self) -> Parsed<Setting>,
    ) -> Parsed<ControlCommand> {
        let command = if self.is_empty() {
            ControlCommand::Ask(item)
        } else {
            ControlCommand::Set(parse(self)?)
        };
        self.end(command)
    }
}

/// Zero is for ever.
fn lasting(time: Duration) -> Option<Duration> {
    Some(time).filter(|time| !time.is_zero())
}

fn positive(args: &mut Args<'_>, verb: &str) -> Parsed<ControlCommand> {
    if let Some(command) = switch(args, verb) {
        return args.end(ControlCommand::Switch(command, true));
    }
    if let Some((verb, why)) = known(IGNORED, verb) {
        return Ok(ControlCommand::Ignored(verb, why));
    }
    if let Some((verb, why)) = known(ABSENT, verb) {
        return Ok(ControlCommand::Absent(verb, why));
    }
    match verb {
        "acl" => acl(args),
        "server" => server(args),
        "drain" => {
            let number = slot(args)?;
            let time = if args.is_empty() { None } else { Some(args.time()?) };
            args.end(ControlCommand::Drain(number, time))
        }
        "remove" => slot(args).and_then(|number| args.end(ControlCommand::Remove(number))),
        "close" => {
            let number = args.number("the number of a connection")?;
            args.end(ControlCommand::Close(number))
        }
        "include" => args.path().and_then(|path| args.end(ControlCommand::Include(path))),
        "write" if args.is_empty() => Ok(ControlCommand::Write(None)),
        "write" => args.path().and_then(|path| args.end(ControlCommand::Write(Some(path)))),
        "exit" => args.end(ControlCommand::Exit),
        "mode" => args.end(ControlCommand::Ask(Item::Mode)),
        "pid" => args.end(ControlCommand::Ask(Item::Pid)),
        "control" => args.end(ControlCommand::Ask(Item::Control)),
        "connection" | "connections" | "help" | "recent" | "servers" | "socket" | "states"
        | "status" => {
            let query = query(args, verb)?;
            args.end(ControlCommand::Show(query))
        }
        _ => setting(args, verb),
    }
}

fn query(args: &mut Args<'_>, verb: &str) -> Parsed<ShowQuery> {
    Ok(match verb {
        "connection" => ShowQuery::Connection(args.number("the number of a connection")?),
        "connections" => ShowQuery::Connections,
        "help" => ShowQuery::Help,
        "recent" if args.is_empty() => ShowQuery::Recent(Duration::from_secs(300)),
        "recent" => ShowQuery::Recent(args.time()?),
        "servers" => ShowQuery::Servers,
        "states" => ShowQuery::States,
        "socket" => ShowQuery::Socket(args.number("the number of a file descriptor")?),
        _ if args.is_empty() => ShowQuery::Status(StatusFormat::Html),
        _ => ShowQuery::Status(match args.word("html, json or prometheus")? {
            "html" => StatusFormat::Html,
            "json" => StatusFormat::Json,
            "prometheus" => StatusFormat::Prometheus,
            _ => return args.expected("html, json or prometheus"),
        }),
    })
}

fn setting(args: &mut Args<'_>, verb: &str) -> Parsed<ControlCommand> {
    let number = "a number";
    let many = "a number from 1 on";
    let list = "the number of an access list, from 0 to 255";
    if let Some(item) = TlsItem::of(verb) {
        return args.setting(Item::Tls(item), |args| {
            let words: Vec<_> = args.rest.by_ref().map(OsString::as_os_str).collect();
            item.parse(&words)
                .map_or_else(|| args.expected(item.expected()), |it| Ok(Setting::Tls(it)))
        });
    }
    match verb {
        "ssl_option" => ssl_option(args),
        "abuse" => args.setting(Item::Abuse, |args| {
            args.address(ServerArg::parse).map(Some).map(Setting::Abuse)
        }),
        "accept_proxy" => {
            args.setting(Item::AcceptProxy, |args| trusted(args).map(Setting::AcceptProxy))
        }
        "access_log" => {
            args.setting(Item::AccessLog, |args| args.path().map(Some).map(Setting::AccessLog))
        }
        "backlog" => args.setting(Item::Backlog, |args| args.number(many).map(Setting::Backlog)),
        "blacklist" => args.setting(Item::Blacklist, |args| args.time().map(Setting::Blacklist)),
        "check" => args.setting(Item::Check, |args| check(args).map(Some).map(Setting::Check)),
        "check_fall" => {
            args.setting(Item::CheckFall, |args| args.number(many).map(Setting::CheckFall))
        }
        "check_interval" => {
            args.setting(Item::CheckInterval, |args| args.some_time().map(Setting::CheckInterval))
        }
        "check_rise" => {
            args.setting(Item::CheckRise, |args| args.number(many).map(Setting::CheckRise))
        }
        "check_timeout" => {
            args.setting(Item::CheckTimeout, |args| args.some_time().map(Setting::CheckTimeout))
        }
        "client_acl" => {
            args.setting(Item::ClientAcl, |args| args.number(list).map(Setting::ClientAcl))
        }
        "clients_max" => {
            args.setting(Item::ClientsMax, |args| args.number(many).map(Setting::ClientsMax))
        }
        "conn_max" => args.setting(Item::ConnMax, |args| {
            args.number(number).map(NonZeroUsize::new).map(Setting::ConnMax)
        }),
        "control_acl" => {
            args.setting(Item::ControlAcl, |args| args.number(list).map(Setting::ControlAcl))
        }
        "status_acl" => args
            .setting(Item::StatusAcl, |args| args.number(list).map(Some).map(Setting::StatusAcl)),
        "debug" => args.setting(Item::Debug, |args| args.number(number).map(Setting::Debug)),
        "drain_timeout" => {
            args.setting(Item::DrainTimeout, |args| args.time().map(Setting::DrainTimeout))
        }
        "emergency" => args.setting(Item::Emergency, |args| {
            args.address(ServerArg::parse).map(Some).map(Setting::Emergency)
        }),
        "first_byte" => {
            args.setting(Item::FirstByte, |args| args.time().map(lasting).map(Setting::FirstByte))
        }
        "geoip" => args.setting(Item::Geoip, |args| args.path().map(Some).map(Setting::Geoip)),
        "half_closed" => {
            args.setting(Item::HalfClosed, |args| args.time().map(lasting).map(Setting::HalfClosed))
        }
        "idle_timeout" => args
            .setting(Item::IdleTimeout, |args| args.time().map(lasting).map(Setting::IdleTimeout)),
        "listen" => args.setting(Item::Listen, listen),
        "log" => args.setting(Item::Log, log),
        "log_format" => args.setting(Item::LogFormat, log_format),
        "multi_accept" => {
            args.setting(Item::MultiAccept, |args| args.number(many).map(Setting::MultiAccept))
        }
        "pending_max" => {
            args.setting(Item::PendingMax, |args| args.number(many).map(Setting::PendingMax))
        }
        "resolve_interval" => args.setting(Item::ResolveInterval, |args| {
            args.time().map(lasting).map(Setting::ResolveInterval)
        }),
        "send_proxy" => args.setting(Item::SendProxy, send_proxy),
        "source" => args.setting(Item::Source, source),
        "tcp_fastclose" => args.setting(Item::TcpFastclose, fastclose),
        "timeout" => args.setting(Item::Timeout, |args| args.some_time().map(Setting::Timeout)),
        "tracking" => {
            args.setting(Item::Tracking, |args| args.time().map(lasting).map(Setting::Tracking))
        }
        "web_stats" => {
            args.setting(Item::WebStats, |args| args.path().map(Some).map(Setting::WebStats))
        }
        "workers" => args.setting(Item::Workers, |args| {
            let workers: NonZeroUsize = args.number("a number from 1 to 1024")?;
            if workers.get() > 1_024 {
                return args.expected("a number from 1 to 1024");
            }
            Ok(Setting::Workers(workers))
        }),
        "x_forwarded_for" => args.setting(Item::XForwardedFor, forwarded_for),
        _ => Err(CommandError::Unknown(verb.to_owned())),
    }
}

fn negative(args: &mut Args<'_>, verb: &str) -> Parsed<ControlCommand> {
    if let Some(command) = switch(args, verb) {
        return args.end(ControlCommand::Switch(command, false));
    }
    if let Some((verb, _)) = known(IGNORED, verb).or_else(|| known(ABSENT, verb)) {
        return args.end(ControlCommand::Ignored(verb, ""));
    }
    if let Some(item) = TlsItem::of(verb) {
        return args.end(ControlCommand::Set(Setting::Tls(item.none())));
    }
    let setting = match verb {
        "acl" => return no_acl(args),
        "server" => {
            let number = slot(args)?;
            return args.end(ControlCommand::Remove(number));
        }
        "abuse" => Setting::Abuse(None),
        "check" => Setting::Check(None),
        "accept_proxy" => Setting::AcceptProxy(Vec::new()),
        "access_log" => Setting::AccessLog(None),
        "emergency" => Setting::Emergency(None),
        "first_byte" => Setting::FirstByte(None),
        "half_closed" => Setting::HalfClosed(None),
        "idle_timeout" => Setting::IdleTimeout(None),
        "log" => Setting::Log(None),
        "resolve_interval" => Setting::ResolveInterval(None),
        "send_proxy" => Setting::SendProxy(None),
        "source" => Setting::Source(None),
        "status_acl" => Setting::StatusAcl(None),
        "tcp_fastclose" => Setting::TcpFastclose(FastClose::Off),
        "tracking" => Setting::Tracking(None),
        "geoip" => Setting::Geoip(None),
        "web_stats" => Setting::WebStats(None),
        _ => return Err(CommandError::UnknownNo(verb.to_owned())),
    };
    args.end(ControlCommand::Set(setting))
}

fn switch(_args: &Args<'_>, verb: &str) -> Option<Switch> {
    Some(match verb {
        "hash" => Switch::Mode(SelectionMode::Hash),
        "http" => Switch::Http,
        "keepalive" => Switch::Keepalive,
        "least_connections" => Switch::Mode(SelectionMode::LeastConnections),
        "prio" => Switch::Mode(SelectionMode::Prio),
        "roundrobin" => Switch::Mode(SelectionMode::RoundRobin),
        "stubborn" => Switch::Mode(SelectionMode::Stubborn),
        "tcp_nodelay" => Switch::Nodelay,
        "transparent" => Switch::Transparent,
        "udp" => Switch::Udp,
        "weight" => Switch::Mode(SelectionMode::Weight),
        _ => return None,
    })
}

fn known(
    table: &'static [(&'static str, &'static str)],
    verb: &str,
) -> Option<(&'static str, &'static str)> {
    table.iter().find(|(name, _)| *name == verb).copied()
}

fn slot(args: &mut Args<'_>) -> Parsed<usize> {
    let what = "the number of a server, from 0 to 9999";
    match args.number(what)? {
        number if number <= MAX_SERVER => Ok(number),
        _ => args.expected(what),
    }
}
