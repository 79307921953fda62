//! Misfits of what comes, as lines of a server that no mapping names: each is said within half a minute, and at most
//! once a minute.

use std::collections::HashMap;
use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use pen_records::misfit::ServerList;
use pen_records::server_alias::ServerKey;
use pen_records::time::Timestamp;

/// Time between the first traffic and the first look, and between two looks.
pub(crate) const LOOK: Duration = Duration::from_secs(20);
/// Shortest time between two messages of one cause about one thing.
const AGAIN: Duration = Duration::from_secs(60);
/// Messages of one look.
const EACH: usize = 10;
/// Causes that are remembered.
const CAUSES: usize = 1 << 12;

/// What a message is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum MisfitCause {
    /// Mappings come, and no lines.
    NoLines,
    /// Lines come, and no mappings.
    NoMappings,
    /// No mapping names the server of this source.
    NotMapped(u32),
    /// Most lines of this source do not parse.
    NotUnderstood(u32),
    /// Most lines of this source find no mapping.
    Unmatched(u32),
    /// The lines of this source are among the mappings of another server.
    MixedUp(u32),
    /// All records lack both request and port.
    Keyless,
    /// Mappings name a second address of this source.
    SecondAddress(u32),
    /// No line comes from servers that mappings name.
    Silent,
    /// This source sends what servers log, too.
    Balancer(u32),
}

/// When to look, what was said, and what is to be said.
#[derive(Debug, Default)]
pub(crate) struct MisfitWatch {
    /// `None` while nothing came since the last look.
    next: Option<Timestamp>,
    said: HashMap<MisfitCause, Timestamp>,
    /// Received lines and mappings at the last look.
    pub(crate) lines: u64,
    pub(crate) mappings: u64,
    /// Whether the options were looked at.
    pub(crate) has_options: bool,
    /// Servers without lines at the last look.
    pub(crate) silent: Vec<IpAddr>,
    pub(crate) said_silent: Vec<IpAddr>,
    remarks: Vec<String>,
    left_out: u64,
}

impl MisfitWatch {
    /// Notes that something came.
    #[inline]
    pub(crate) fn came(&mut self, now: Timestamp) {
        if self.next.is_none() {
            self.next = Some(now + LOOK);
        }
    }

    /// Returns when to look next.
    pub(crate) const fn next_due(&self) -> Option<Timestamp> {
        self.next
    }

    /// Returns whether it is time to look. Then the next look is due after more has come.
    #[inline]
    pub(crate) fn is_due(&mut self, now: Timestamp) -> bool {
        let is_due = self.next.is_some_and(|next| next <= now);
        if is_due {
            self.next = None;
        }
        is_due
    }

    /// Adds a message, unless one of the same cause was said a short time ago.
    pub(crate) fn say(&mut self, cause: MisfitCause, now: Timestamp, what: impl fmt::Display) {
        if self.said.get(&cause).is_some_and(|&said| now < said + AGAIN) {
            return;
        }
        if self.said.len() >= CAUSES {
            self.said.retain(|_, &mut said| now < said + AGAIN);
        }
        if self.said.len() < CAUSES {
            self.said.insert(cause, now);
        }
        self.remark(what);
    }

    /// Adds a message.
    pub(crate) fn remark(&mut self, what: impl fmt::Display) {
        if self.remarks.len() < EACH {
            self.remarks.push(what.to_string());
        } else {
            self.left_out += 1;
        }
    }

    /// Takes the messages that are to be logged.
    pub(crate) fn take(&mut self) -> Vec<String> {
        if self.left_out > 0 {
            let more = std::mem::take(&mut self.left_out);
            self.remarks.push(format!("{more} more warnings of this kind"));
        }
        std::mem::take(&mut self.remarks)
    }
}

/// Lines of a server that no mapping names.
pub(crate) struct NotMapped<'a> {
    pub(crate) lines: u64,
    pub(crate) key: ServerKey,
    /// Hosts in the envelopes of the lines.
    pub(crate) hosts: &'a [Box<[u8]>],
    /// Servers that mappings name, and those of them without lines.
    pub(crate) mapped: &'a [IpAddr],
    pub(crate) silent: &'a [IpAddr],
    /// The server whose mappings have the requests of the lines.
    pub(crate) fit: Option<IpAddr>,
    /// How many shippers without a server's address have sent lines.
    pub(crate) shippers: u32,
}

impl fmt::Display for NotMapped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.write_advice(f)?;
        if self.hosts.is_empty() && self.shippers > 1 && self.mapped.len() > 1 {
            write!(
                f,
                "; but {} penlog have sent from there: if they are of several servers, run each with penlog --server \
                 ADDR instead",
                self.shippers
            )?;
        }
        Ok(())
    }
}

impl NotMapped<'_> {
    fn write_advice(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { lines, key, hosts, mapped, silent, fit, .. } = self;
        write!(
            f,
            "{lines} lines of {key}, and no mapping names this server; mappings name {}",
            ServerList(mapped)
        )?;
        if !silent.is_empty() && silent.len() < mapped.len() {
            write!(f, ", of which {} sent no line", ServerList(silent))?;
        }
        let addr = key.addr;
        if let (Some(fit), [] | [_]) = (fit, hosts) {
            let name = hosts.first().map(|host| host.escape_ascii().to_string());
            let name = name.unwrap_or_else(|| addr.to_string());
            return write!(
                f,
                "; those of {fit} have the requests of these lines: add --server {name}={fit}"
            );
        }
        match (hosts, silent) {
            ([], [only]) => write!(f, ": add --server {addr}={only} if this is that server"),
            ([], _) => write!(f, ": if it is one of these, add --server {addr}=ADDR"),
            ([host], [only]) => {
                let host = host.escape_ascii();
                write!(f, ": add --server {host}={only} if the host {host} is that server")
            }
            (hosts, _) => {
                let hosts: Vec<_> = hosts.iter().map(|it| it.escape_ascii().to_string()).collect();
                let (list, first) = (ServerList(&hosts), &hosts[0]);
                write!(f, "; the lines name the hosts {list}: add --server {first}=ADDR for each")
            }
        }
    }
}

/// Servers that mappings name, from where no line comes.
pub(crate) struct Silent<'a> {
    pub(crate) servers: &'a [IpAddr],
    /// Servers of which many lines find no mapping.
    pub(crate) lacking: &'a [IpAddr],
}

impl fmt::Display for Silent<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { servers, lacking } = self;
        let list = ServerList(servers);
        write!(f, "mappings name {list}, from where no access line has come so far")?;
        match (lacking, servers) {
            ([], _) => f.write_str(": does penlog run there, with this address and port?"),
            ([only], [first, ..]) => write!(
                f,
                "; many lines of {only} find no mapping: if {list} is another address of this server, add --server \
                 {first}={only}"
            ),
            (_, servers) => write!(
                f,
                "; many lines of {} find no mapping: if {list} are other addresses of these servers, add --server {}=ADDR, \
                 with the server's address",
                ServerList(lacking),
                ServerList(servers.get(..1).unwrap_or_default())
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cause_is_said_once_a_minute() {
        let mut watch = MisfitWatch::default();
        let start = Timestamp::from_seconds(1_795_379_000);
        let mut said = Vec::new();
        for second in 0..200_u64 {
            let now = start + Duration::from_secs(second);
            watch.came(now);
            if watch.is_due(now) {
                watch.say(MisfitCause::NoLines, now, "a");
                said.extend(watch.take().into_iter().map(|_| second));
            }
        }
        assert_eq!(said, [20, 83, 146]);
        for cause in 0..30 {
            watch.say(MisfitCause::NotMapped(cause), start, "b");
        }
        let said = watch.take();
        assert_eq!(said.len(), EACH + 1);
        assert_eq!(said[EACH], "20 more warnings of this kind");
    }

    #[test]
    fn the_option_to_add_is_said() {
        let ip = |last| IpAddr::from([10, 0, 0, last]);
        let text = |hosts: &[&str], mapped: &[IpAddr], silent: &[IpAddr]| {
            let hosts: Vec<Box<[u8]>> = hosts.iter().map(|host| host.as_bytes().into()).collect();
            let key = ServerKey::parse("127.0.0.7").unwrap();
            let shippers = 1;
            NotMapped { lines: 3, key, hosts: &hosts, mapped, silent, fit: None, shippers }
                .to_string()
        };
        assert_eq!(
            text(&[], &[ip(1), ip(2)], &[ip(2)]),
            "3 lines of 127.0.0.7, and no mapping names this server; mappings name 10.0.0.1, 10.0.0.2, of which \
             10.0.0.2 sent no line: add --server 127.0.0.7=10.0.0.2 if this is that server"
        );
        assert_eq!(
            text(&[], &[ip(1), ip(2)], &[ip(1), ip(2)]),
            "3 lines of 127.0.0.7, and no mapping names this server; mappings name 10.0.0.1, 10.0.0.2: if it is one \
             of these, add --server 127.0.0.7=ADDR"
        );
        let key = ServerKey::parse("127.0.0.7").unwrap();
        let mapped = [ip(1), ip(2)];
        let (hosts, silent, fit) = (&[][..], &mapped[..], Some(ip(2)));
        let several = NotMapped { lines: 3, key, hosts, mapped: &mapped, silent, fit, shippers: 2 };
        assert!(several.to_string().ends_with(
            "add --server 127.0.0.7=10.0.0.2; but 2 penlog have sent from there: if they are of several servers, run \
             each with penlog --server ADDR instead"
        ));
        assert!(text(&["web1"], &[ip(1)], &[ip(1)]).ends_with(
            "mappings name 10.0.0.1: add --server web1=10.0.0.1 if the host web1 is that server"
        ));
        assert!(
            text(&["web1", "web2"], &[ip(1), ip(2)], &[ip(1), ip(2)])
                .ends_with("the lines name the hosts web1, web2: add --server web1=ADDR for each")
        );
    }
}
