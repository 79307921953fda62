//! What a line says: one `match` over the verbs.

use std::ffi::OsString;
use std::net::IpAddr;
use std::num::{NonZeroU32, NonZeroUsize};
use std::os::unix::ffi::OsStrExt as _;
use std::path::PathBuf;
use std::slice;
use std::str::FromStr;
use std::time::Duration;

use pen_records::addr::parse_ip;

use super::tls::{TlsItem, TlsSetting};
use super::words;
use super::{AclCommand, Command, CommandError, Item, LogTo, Query, ServerChange, Setting};
use super::{StatusForm, Switch};
use crate::acl::{Rule, Verdict, Who};
use crate::address::{self, AddressError, Host, ListenAddr, ServerArg};
use crate::checks::Check;
use crate::config::{
    FastClose, ForwardedFor, LogFormat, Mode, Network, ProxyVersion, TlsVersion, Trusted,
};

/// The highest number a server can have.
const MAX_SERVER: usize = 9_999;

/// Understood, without effect, and why. Their `no` forms are what is the case anyway.
const IGNORED: &[(&str, &str)] = &[
    ("abort_on_error", "no error here ends in abort"),
    ("ascii", "there are no data dumps: use tcpdump"),
    ("block", "sockets never block"),
    ("delayed_forward", "data is forwarded as it comes"),
    ("epoll", "it is always epoll"),
    ("idlers", "connections that no client gets are of no use"),
    ("kqueue", "it is always epoll"),
    ("poll", "it is always epoll"),
    ("select", "it is always epoll"),
    ("ssl_ciphers", "cipher lists are OpenSSL's"),
    ("ssl_client_renegotiation_interval", "there is no renegotiation"),
];

/// Known, not to be had, and why.
const ABSENT: &[(&str, &str)] = &[
    ("dsr_if", "direct server return is not supported"),
    ("dsr_ip", "direct server return is not supported"),
    ("dummy", "pen is no web server"),
    ("peek", "it never worked"),
    ("tarpit_acl", "it belongs to direct server return, which is not supported"),
];

/// The verbs, as `help` lists them: what is typed, and what comes of it.
pub const VERBS: &[(&str, &str)] = &[
    ("abuse [SERVER]", "the server for clients that are denied; no abuse"),
    ("accept_proxy [NET|unix...]", "who has to speak the PROXY protocol to us; no accept_proxy"),
    ("access_log [FILE]", "where exchanges of HTTP/1.x are logged; no access_log"),
    ("acl", "all access lists"),
    ("acl N", "one access list; no acl N empties it"),
    ("acl N permit|deny NET|ADDR MASK|unix|country CC", "add a rule; no acl N RULE takes it out"),
    ("acl N default permit|deny", "for those that no rule fits; no acl N default"),
    ("backlog [N]", "clients that wait to be accepted"),
    ("blacklist [TIME]", "how long a server that failed is left alone"),
    ("check [tcp|http [METHOD] PATH [STATUS]|[send TEXT] expect TEXT]", "ask servers; no check"),
    ("check_fall [N]", "checks in a row that fail until a server is down"),
    ("check_interval [TIME]", "from one check of a server to the next"),
    ("check_rise [N]", "checks in a row that go well until it is up again"),
    ("check_timeout [TIME]", "how long a check may take"),
    ("client_acl [N]", "the access list for clients"),
    ("clients_max [N]", "clients whose server is remembered"),
    ("close N", "end a connection"),
    ("conn_max [N]", "connections at a time"),
    ("connection N", "about a connection"),
    ("connections", "a line for each connection"),
    ("control", "where the control port is"),
    ("control_acl [N]", "the access list for the control port"),
    ("debug [N]", "how much is said"),
    ("drain N [TIME]", "no new clients for a server; after TIME end those it has"),
    ("drain_timeout [TIME]", "how long connections may go on at the end"),
    ("emergency [SERVER]", "the server for when no other works; no emergency"),
    ("exit", "stop, if -X allows it"),
    ("first_byte [TIME]", "how long a client may say nothing; 0 for ever"),
    ("geoip [FILE]", "database that tells the countries of acl; no geoip"),
    ("half_closed [TIME]", "how long the other side may be silent; 0 for ever"),
    ("hash", "choose by the client's address; no hash"),
    ("help", "this list"),
    ("http", "tell HTTP servers who the client is; no http"),
    ("idle_timeout [TIME]", "how long a connection may be silent; 0 for ever, over UDP a minute"),
    ("include FILE", "run the commands in a file"),
    ("keepalive", "TCP keepalive; no keepalive"),
    ("least_connections", "choose the server with the fewest; no least_connections"),
    ("listen [ADDR...]", "where clients connect to"),
    ("log [FILE|HOST:PORT]", "where mapping records go; no log"),
    ("log_format [extended|classic]", "how they are spelled"),
    ("mode", "which modes are on"),
    ("multi_accept [N]", "clients accepted in one go"),
    ("pending_max [N]", "connections to servers being opened at a time"),
    ("pid", "the process"),
    ("prio", "choose by priority; no prio"),
    ("recent [TIME]", "clients of the last 300 seconds, or that time"),
    ("remove N", "take a server out"),
    ("resolve_interval [TIME]", "how often names of servers are looked up; 0 once"),
    ("roundrobin", "servers in turn; no roundrobin"),
    ("send_proxy [v1|v2]", "the PROXY protocol towards servers; no send_proxy"),
    (
        "server N KEY VALUE ...",
        "KEY: acl address blacklist hard max port prio weight; no server N removes it",
    ),
    ("servers", "a line for each server"),
    ("session", "any number of commands on this connection; quit ends it"),
    ("socket FD", "the connection of a file descriptor"),
    ("source [ADDR]", "connect to servers from there; no source"),
    ("ssl_alpn [PROTOCOL...]", "protocols that TLS agrees on, best first; no ssl_alpn"),
    ("ssl_ca_file [FILE]", "authorities that vouch for clients; no ssl_ca_file"),
    ("ssl_ca_path [DIR]", "a folder of them; no ssl_ca_path"),
    (
        "ssl_certificate [FILE]",
        "the certificate and its chain, which turns on TLS; no ssl_certificate",
    ),
    ("ssl_client_certificate [none|optional|required]", "whether clients need one"),
    ("ssl_key [FILE]", "its key, if in another file; no ssl_key"),
    ("ssl_minimum [1.2|1.3]", "the oldest TLS that is spoken"),
    (
        "ssl_ocsp_response [FILE]",
        "what to hand out as the certificate's staple; no ssl_ocsp_response",
    ),
    ("ssl_option no_tlsv1.2", "as ssl_minimum 1.3; other words have no effect"),
    ("ssl_reload [TIME]", "how often to look for new certificates; 0 on HUP only"),
    ("ssl_servers [off|verified|unverified]", "TLS towards servers"),
    ("ssl_servers_ca [FILE]", "authorities that vouch for servers; no ssl_servers_ca"),
    ("ssl_servers_name [NAME]", "the name that servers have to prove; no ssl_servers_name"),
    ("ssl_sni_path [DIR]", "a folder of certificates for other names; no ssl_sni_path"),
    ("states", "how each server is doing"),
    ("status [html|json|prometheus]", "the whole state"),
    ("status_acl [N]", "the access list for --status; no status_acl"),
    ("stubborn", "no other server if the first choice fails; no stubborn"),
    ("tcp_fastclose [up|down|both|off]", "whose end ends both directions"),
    ("tcp_nodelay", "small packets at once; no tcp_nodelay"),
    ("timeout [TIME]", "how long a server may take to accept"),
    ("tracking [TIME]", "how long a client keeps its server; 0 for ever"),
    ("transparent", "servers see the client's address; no transparent"),
    ("udp", "datagrams instead of connections; no udp"),
    ("web_stats [FILE]", "where USR1 writes the page; no web_stats"),
    ("weight", "choose by weight; no weight"),
    ("workers [N]", "threads that relay"),
    ("write [FILE]", "save the configuration"),
    ("x_forwarded_for [replace|append|keep NET|unix...]", "what becomes of a client's own"),
];

impl Command {
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
    fn end(&mut self, command: Command) -> Parsed<Command> {
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
    ) -> Parsed<Command> {
        let command = if self.is_empty() { Command::Ask(item) } else { Command::Set(parse(self)?) };
        self.end(command)
    }
}

/// Zero is for ever.
fn lasting(time: Duration) -> Option<Duration> {
    Some(time).filter(|time| !time.is_zero())
}

fn positive(args: &mut Args<'_>, verb: &str) -> Parsed<Command> {
    if let Some(command) = switch(args, verb) {
        return args.end(Command::Switch(command, true));
    }
    if let Some((verb, why)) = known(IGNORED, verb) {
        return Ok(Command::Ignored(verb, why));
    }
    if let Some((verb, why)) = known(ABSENT, verb) {
        return Ok(Command::Absent(verb, why));
    }
    match verb {
        "acl" => acl(args),
        "server" => server(args),
        "drain" => {
            let number = slot(args)?;
            let time = if args.is_empty() { None } else { Some(args.time()?) };
            args.end(Command::Drain(number, time))
        }
        "remove" => slot(args).and_then(|number| args.end(Command::Remove(number))),
        "close" => {
            let number = args.number("the number of a connection")?;
            args.end(Command::Close(number))
        }
        "include" => args.path().and_then(|path| args.end(Command::Include(path))),
        "write" if args.is_empty() => Ok(Command::Write(None)),
        "write" => args.path().and_then(|path| args.end(Command::Write(Some(path)))),
        "exit" => args.end(Command::Exit),
        "mode" => args.end(Command::Ask(Item::Mode)),
        "pid" => args.end(Command::Ask(Item::Pid)),
        "control" => args.end(Command::Ask(Item::Control)),
        "connection" | "connections" | "help" | "recent" | "servers" | "socket" | "states"
        | "status" => {
            let query = query(args, verb)?;
            args.end(Command::Show(query))
        }
        _ => setting(args, verb),
    }
}

fn query(args: &mut Args<'_>, verb: &str) -> Parsed<Query> {
    Ok(match verb {
        "connection" => Query::Connection(args.number("the number of a connection")?),
        "connections" => Query::Connections,
        "help" => Query::Help,
        "recent" if args.is_empty() => Query::Recent(Duration::from_secs(300)),
        "recent" => Query::Recent(args.time()?),
        "servers" => Query::Servers,
        "states" => Query::States,
        "socket" => Query::Socket(args.number("the number of a file descriptor")?),
        _ if args.is_empty() => Query::Status(StatusForm::Html),
        _ => Query::Status(match args.word("html, json or prometheus")? {
            "html" => StatusForm::Html,
            "json" => StatusForm::Json,
            "prometheus" => StatusForm::Prometheus,
            _ => return args.expected("html, json or prometheus"),
        }),
    })
}

fn setting(args: &mut Args<'_>, verb: &str) -> Parsed<Command> {
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

fn negative(args: &mut Args<'_>, verb: &str) -> Parsed<Command> {
    if let Some(command) = switch(args, verb) {
        return args.end(Command::Switch(command, false));
    }
    if let Some((verb, _)) = known(IGNORED, verb).or_else(|| known(ABSENT, verb)) {
        return args.end(Command::Ignored(verb, ""));
    }
    if let Some(item) = TlsItem::of(verb) {
        return args.end(Command::Set(Setting::Tls(item.none())));
    }
    let setting = match verb {
        "acl" => return no_acl(args),
        "server" => {
            let number = slot(args)?;
            return args.end(Command::Remove(number));
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
    args.end(Command::Set(setting))
}

fn switch(_args: &Args<'_>, verb: &str) -> Option<Switch> {
    Some(match verb {
        "hash" => Switch::Mode(Mode::Hash),
        "http" => Switch::Http,
        "keepalive" => Switch::Keepalive,
        "least_connections" => Switch::Mode(Mode::LeastConnections),
        "prio" => Switch::Mode(Mode::Prio),
        "roundrobin" => Switch::Mode(Mode::RoundRobin),
        "stubborn" => Switch::Mode(Mode::Stubborn),
        "tcp_nodelay" => Switch::Nodelay,
        "transparent" => Switch::Transparent,
        "udp" => Switch::Udp,
        "weight" => Switch::Mode(Mode::Weight),
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

fn acl(args: &mut Args<'_>) -> Parsed<Command> {
    if args.is_empty() {
        return Ok(Command::Acl(AclCommand::Show(None)));
    }
    let list = list_number(args)?;
    if args.is_empty() {
        return Ok(Command::Acl(AclCommand::Show(Some(list))));
    }
    let what = "permit, deny or default";
    match args.word(what)? {
        "default" => {
            let Some(verdict) = Verdict::parse(args.word("permit or deny")?) else {
                return args.expected("permit or deny");
            };
            args.end(Command::Acl(AclCommand::Default(list, Some(verdict))))
        }
        word => match Verdict::parse(word) {
            Some(verdict) => {
                rule(args, verdict).map(|rule| Command::Acl(AclCommand::Add(list, rule)))
            }
            None => args.expected(what),
        },
    }
}

fn no_acl(args: &mut Args<'_>) -> Parsed<Command> {
    let list = list_number(args)?;
    if args.is_empty() {
        return Ok(Command::Acl(AclCommand::Clear(list)));
    }
    let what = "nothing, default, or a rule with permit or deny";
    match args.word(what)? {
        "default" => args.end(Command::Acl(AclCommand::Default(list, None))),
        word => match Verdict::parse(word) {
            Some(verdict) => {
                rule(args, verdict).map(|rule| Command::Acl(AclCommand::Remove(list, rule)))
            }
            None => args.expected(what),
        },
    }
}

fn list_number(args: &mut Args<'_>) -> Parsed<u8> {
    args.number("the number of an access list, from 0 to 255")
}

fn rule(args: &mut Args<'_>, verdict: Verdict) -> Parsed<Rule> {
    let mut words = Vec::new();
    while !args.is_empty() {
        words.push(args.word("an address, a network or unix")?.to_owned());
    }
    let words: Vec<_> = words.iter().map(String::as_str).collect();
    let who = Who::parse(&words);
    who.map(|who| Rule { verdict, who })
        .map_err(|error| CommandError::Acl(args.verb.clone(), error))
}

fn server(args: &mut Args<'_>) -> Parsed<Command> {
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
    Ok(Command::Server(number, changes))
}

fn listen(args: &mut Args<'_>) -> Parsed<Setting> {
    let mut addrs = Vec::new();
    while !args.is_empty() {
        addrs.push(args.address(ListenAddr::parse)?);
    }
    Ok(Setting::Listen(addrs))
}

/// With a colon, and not beginning with a slash, it is a collector.
fn log(args: &mut Args<'_>) -> Parsed<Setting> {
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

fn log_format(args: &mut Args<'_>) -> Parsed<Setting> {
    match args.word("extended or classic")? {
        "extended" => Ok(Setting::LogFormat(LogFormat::Extended)),
        "classic" => Ok(Setting::LogFormat(LogFormat::Classic)),
        _ => args.expected("extended or classic"),
    }
}

fn send_proxy(args: &mut Args<'_>) -> Parsed<Setting> {
    match args.word("v1 or v2")? {
        "v1" => Ok(Setting::SendProxy(Some(ProxyVersion::V1))),
        "v2" => Ok(Setting::SendProxy(Some(ProxyVersion::V2))),
        _ => args.expected("v1 or v2"),
    }
}

fn check(args: &mut Args<'_>) -> Parsed<Check> {
    let what = "tcp, http and a path, or expect and a text";
    match args.word(what)? {
        "tcp" => Ok(Check::Connect),
        "http" => http_check(args),
        "send" => {
            let send = args.bytes("what is said to the server")?;
            match args.word("expect and a text")? {
                "expect" => Ok(Check::Exchange { send, expect: expected_bytes(args)? }),
                _ => args.expected("expect and a text"),
            }
        }
        "expect" => Ok(Check::Exchange { send: Vec::new(), expect: expected_bytes(args)? }),
        _ => args.expected(what),
    }
}

fn expected_bytes(args: &mut Args<'_>) -> Parsed<Vec<u8>> {
    args.bytes("what the server has to say")
}

fn http_check(args: &mut Args<'_>) -> Parsed<Check> {
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
    Ok(Check::Http { method, path, from, to })
}

/// `200` or `200-399`.
fn statuses(args: &mut Args<'_>) -> Parsed<(u16, u16)> {
    let what = "a status or two, as in 200 or 200-399";
    let text = args.word(what)?;
    let (from, to) = text.split_once('-').unwrap_or((text, text));
    let status = |text: &str| text.parse().ok().filter(|status| (100..=999).contains(status));
    match (status(from), status(to)) {
        (Some(from), Some(to)) if from <= to => Ok((from, to)),
        _ => args.expected(what),
    }
}

fn source(args: &mut Args<'_>) -> Parsed<Setting> {
    match parse_ip(args.word("an address")?.as_bytes()) {
        Some(addr) => Ok(Setting::Source(Some(addr))),
        None => args.expected("an address"),
    }
}

fn fastclose(args: &mut Args<'_>) -> Parsed<Setting> {
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
fn ssl_option(args: &mut Args<'_>) -> Parsed<Command> {
    let what = "no_sslv2, no_sslv3, no_tlsv1, no_tlsv1.1, no_tlsv1.2 or cipher_server_preference";
    let command = match args.word(what)? {
        "no_sslv2" | "no_sslv3" | "no_tlsv1" | "no_tlsv1.1" => {
            Command::Ignored("ssl_option", "nothing older than TLS 1.2 is spoken in any case")
        }
        "no_tlsv1.2" => Command::Set(Setting::Tls(TlsSetting::Oldest(TlsVersion::V1_3))),
        "cipher_server_preference" => Command::Ignored(
            "ssl_option",
            "there are only good ciphers, and clients know which is fastest for them",
        ),
        _ => return args.expected(what),
    };
    args.end(command)
}

fn forwarded_for(args: &mut Args<'_>) -> Parsed<Setting> {
    let what = "replace, append, or keep and networks or unix";
    Ok(Setting::XForwardedFor(match args.word(what)? {
        "replace" => ForwardedFor::Replace,
        "append" => ForwardedFor::Append,
        "keep" => ForwardedFor::Keep(trusted(args)?),
        _ => return args.expected(what),
    }))
}

/// One network or more, or `unix`.
fn trusted(args: &mut Args<'_>) -> Parsed<Vec<Trusted>> {
    let what = "networks, as in 10.0.0.0/8 2001:db8::/32, or unix";
    let mut trusted = Vec::new();
    while !args.is_empty() || trusted.is_empty() {
        trusted.push(match args.word(what)? {
            "unix" => Trusted::Unix,
            text => match network(text) {
                Some(network) => Trusted::Network(network),
                None => return args.expected(what),
            },
        });
    }
    Ok(trusted)
}

fn network(text: &str) -> Option<Network> {
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
