//! Why lines find no mapping, in words. Each cause says what was found on both sides; [`super::remedy`] says
//! what to run instead.

use std::fmt;

use pen_records::misfit::{LooseDifference, ServerList};

use super::facts::{BadLine, RequestPair, TimeSpan, ZoneShift};
use super::kinds::LogKind;
use crate::report::utc;

/// A misfit of one server's logs, or of several that have the same cause.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Misfit {
    /// The servers, as they were typed.
    pub(crate) servers: Vec<String>,
    /// Lines that came through a balancer or were not understood.
    pub(crate) lines: u64,
    /// Lines among these that found no client.
    pub(crate) lost: u64,
    pub(crate) cause: MisfitCause,
}

/// Why lines find no mapping.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum MisfitCause {
    /// The mapping logs have no line.
    NoMappings { logs: Vec<String> },
    /// A mapping log holds something else, or is in a format that was not expected.
    NoMappingLog { log: String, kind: LogKind, bad: Option<BadLine> },
    /// Lines of the access log were not understood.
    NotUnderstood {
        bad: Option<BadLine>,
        has_format: bool,
        as_detected: bool,
        /// A mapping log that is an access log.
        exchanged: Option<String>,
    },
    /// Most lines of a mapping log have no time.
    MappingsWithoutTime { log: String },
    /// Most lines of a mapping log are of connections, and lines of the access log do not have their ports.
    MappingsWithoutRequest { log: String },
    /// No line of the access log has a time.
    NoTimes,
    /// Most lines of the access log have no request.
    NoRequests,
    /// Mappings name other servers.
    UnknownServer { named: Vec<String>, fits: Option<String> },
    /// Mappings of another address, without a log here, are of the lines that find none.
    OtherAddress { address: String },
    /// The balancer names servers by words of its configuration.
    Unnamed { names: Vec<String> },
    /// The mappings are of other ports of the server.
    OtherPort { ports: Vec<u16> },
    /// The logs were given to the wrong servers: each log, and the server that its lines fit. Some may have several
    /// files, of which only some are at the wrong server.
    MixedUp { logs: Vec<(String, String)>, has_several_files: bool },
    /// Lines and mappings are of different times.
    NoOverlap { lines: TimeSpan, mappings: TimeSpan, zone: Option<ZoneShift> },
    /// Most lines are of times without mappings.
    PartialOverlap { lines: TimeSpan, mappings: TimeSpan },
    /// The requests are changed between balancer and server.
    Changed(RequestPair),
    /// Nothing explains it.
    Unexplained,
}

impl Misfit {
    /// Returns whether lines were not understood, which shows without mappings.
    pub(crate) const fn is_of_format(&self) -> bool {
        matches!(self.cause, MisfitCause::NotUnderstood { .. })
    }
}

impl MisfitCause {
    /// Returns the word for the cause in JSON.
    pub(crate) const fn word(&self) -> &'static str {
        match self {
            Self::NoMappings { .. } => "no_mappings",
            Self::NoMappingLog { .. } => "no_mapping_log",
            Self::NotUnderstood { .. } => "not_understood",
            Self::MappingsWithoutTime { .. } => "mappings_without_time",
            Self::MappingsWithoutRequest { .. } => "mappings_without_request",
            Self::NoTimes => "no_times",
            Self::NoRequests => "no_requests",
            Self::UnknownServer { .. } => "unknown_server",
            Self::OtherAddress { .. } => "other_address",
            Self::Unnamed { .. } => "unnamed_servers",
            Self::OtherPort { .. } => "other_port",
            Self::MixedUp { .. } => "mixed_up",
            Self::NoOverlap { .. } => "no_overlap",
            Self::PartialOverlap { .. } => "partial_overlap",
            Self::Changed(_) => "changed_requests",
            Self::Unexplained => "unexplained",
        }
    }
}

impl fmt::Display for Misfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !matches!(self.cause, MisfitCause::MixedUp { .. }) {
            let servers = ServerList(&self.servers);
            let lines = if self.lines == 1 { "line finds" } else { "lines find" };
            write!(f, "{servers}: {} of {} {lines} no mapping: ", self.lost, self.lines)?;
        }
        self.cause.fmt(f)
    }
}

impl fmt::Display for MisfitCause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoMappings { logs } => match &logs[..] {
                [log] => write!(f, "the mapping log {log} is empty"),
                logs => write!(f, "the mapping logs {} are empty", ServerList(logs)),
            },
            Self::NoMappingLog { log, kind, bad } => write_other_log(f, log, *kind, bad.as_ref()),
            Self::NotUnderstood { bad, has_format, as_detected, .. } => {
                write_not_understood(f, bad.as_ref(), *has_format, *as_detected)
            }
            Self::MappingsWithoutTime { log } => {
                write!(f, "the lines of the mapping log {log} have no time")
            }
            Self::MappingsWithoutRequest { log } => write!(
                f,
                "the mapping log {log} names connections without their requests, and the lines have no port of a \
                 connection"
            ),
            Self::NoTimes => f.write_str("the lines have no time"),
            Self::NoRequests => {
                f.write_str("no request is found in the lines, nor a port that the mapping log has")
            }
            Self::UnknownServer { named, fits } => {
                write!(f, "no mapping names this server; the mapping log names {}", ServerList(named))?;
                match fits {
                    Some(server) => write!(f, "; the lines are among the mappings of {server}"),
                    None => Ok(()),
                }
            }
            Self::OtherAddress { address } => {
                write!(f, "they are among the mappings of {address}, of which no log is given: another address of this server")
            }
            Self::Unnamed { names } => {
                write!(f, "the mapping log names servers by {}, without addresses", ServerList(names))
            }
            Self::OtherPort { ports } => {
                write!(f, "the mappings of this address are of port {}", ServerList(ports))
            }
            Self::MixedUp { logs, .. } => write_mixed_up(f, logs),
            Self::NoOverlap { lines, mappings, zone } => {
                write!(f, "no overlap in time: lines {lines}, mappings {mappings}")?;
                zone.map_or(Ok(()), |_| f.write_str("; the times differ as by a time zone"))
            }
            Self::PartialOverlap { lines, mappings } => {
                write!(f, "most lines are of times without mappings: lines {lines}, mappings {mappings}")
            }
            Self::Changed(RequestPair { difference, logged, mapped }) => {
                let what = match difference {
                    LooseDifference::Protocol => "the protocol",
                    LooseDifference::Host => "scheme and host",
                };
                write!(f, "requests differ in {what}: the server logs \"{logged}\", the balancer \"{mapped}\"")
            }
            Self::Unexplained => f.write_str(
                "servers, times and formats fit; perhaps the log of another balancer or a part of this one's is \
                 missing, or a proxy changes requests; --explain-line says why a line got no client",
            ),
        }
    }
}

fn write_other_log(
    f: &mut fmt::Formatter<'_>,
    log: &str,
    kind: LogKind,
    bad: Option<&BadLine>,
) -> fmt::Result {
    match kind {
        LogKind::Access => write!(f, "{log} is an access log, given as the mapping log")?,
        LogKind::Mappings => {
            write!(f, "{log} is a mapping log of pen, which --mapping-format does not read")?;
        }
        _ => match kind.name() {
            Some(name) => write!(f, "the mapping log {log} is {name}")?,
            None => write!(f, "the mapping log {log} is not understood")?,
        },
    }
    bad.map_or(Ok(()), |bad| write!(f, "; {bad}"))
}

fn write_not_understood(
    f: &mut fmt::Formatter<'_>,
    bad: Option<&BadLine>,
    has_format: bool,
    as_detected: bool,
) -> fmt::Result {
    match bad.and_then(|bad| bad.kind.name().map(|name| (bad, name))) {
        Some((bad, name)) if bad.kind != LogKind::Access => write!(f, "{} is {name}", bad.log)?,
        _ if has_format && as_detected => {
            f.write_str("--format does not fit; without it the lines are understood")?;
        }
        _ if has_format => f.write_str("--format does not fit")?,
        _ => f.write_str("no known format fits")?,
    }
    bad.map_or(Ok(()), |bad| write!(f, "; {bad}"))
}

fn write_mixed_up(f: &mut fmt::Formatter<'_>, logs: &[(String, String)]) -> fmt::Result {
    if let [(one, other), (back, forth)] = logs
        && one == forth
        && other == back
    {
        return write!(
            f,
            "the logs of {one} and {other} are swapped: each fits the mappings of the other"
        );
    }
    for (index, (log, server)) in logs.iter().enumerate() {
        let separator = if index > 0 { ", " } else { "" };
        write!(f, "{separator}the log of {log} fits the mappings of {server} better")?;
    }
    f.write_str(": swapped?")
}

impl fmt::Display for BadLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { log, number, error, text, .. } = self;
        write!(f, "{log}:{number}: {error}: {text}")
    }
}

impl fmt::Display for TimeSpan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "from {} to {}", utc(self.first), utc(self.last))
    }
}
