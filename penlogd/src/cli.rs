//! The command line as typed ([`CollectorArgs`]), and its meaning, checked ([`CollectorConfig`]).

use std::fmt;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs as _};
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgAction, Parser, ValueEnum};
use indexmap::IndexMap;

use pen_daemon::arguments::{privacy, socket_addr, words};
use pen_daemon::error::{ActionError, chain};
use pen_daemon::logfile::Buffering;
use pen_daemon::process::{Process, absolute};
use pen_records::access::{Spec, review};
use pen_records::addr::parse_ip;
use pen_records::attribution;
use pen_records::duration::{DefaultUnit, DurationError, parse_duration};
use pen_records::mapping::third_party_log::ThirdPartySpec;
use pen_records::privacy::PrivacyMode;
use pen_records::rewrite::{LikelyPolicy, RewritePolicy, UnmatchedPolicy};
use pen_records::server_alias::{ANY_SERVER, KnownAs, ServerAlias, ServerAliases, ServerKey};

use crate::allow::{Allow, FromArg};
use crate::collector::{BalancerSender, CollectorSettings, LineSender, SenderSettings};
use crate::socket::ListenTarget;

/// Collects mapping records of the balancer and access lines of its servers, puts the real client
/// into each line, and writes one log
#[derive(Debug, Parser)]
#[command(name = "penlogd", version, max_term_width = 100)]
#[expect(clippy::struct_excessive_bools, reason = "each is a switch that was typed or not")]
pub struct CollectorArgs {
    /// Write each line as soon as it is decided, not in blocks
    #[arg(short = 'b')]
    line_buffered: bool,
    /// Log more; given twice, log everything
    #[arg(short = 'd', action = ArgAction::Count)]
    debug: u8,
    /// Stay in the foreground and log messages to stderr
    #[arg(short = 'f')]
    foreground: bool,
    /// Change the root to this folder (chroot); the log file is inside
    #[arg(short = 'j', value_name = "DIR")]
    jail: Option<PathBuf>,
    /// Append the log to this file; HUP reopens it [default: the standard output]
    #[arg(short = 'l', value_name = "FILE")]
    log: Option<PathBuf>,
    /// Remember at most this many mappings [default: what --memory allows]
    #[arg(short = 'n', value_name = "N")]
    mappings: Option<NonZeroUsize>,
    /// Write the pid to this file and remove it at the end
    #[arg(short = 'p', value_name = "FILE")]
    pid_file: Option<PathBuf>,
    /// Change to this user, by name or number
    #[arg(short = 'u', value_name = "USER")]
    user: Option<String>,
    /// Listen here instead of at PORT; may be repeated, IPv6 in brackets, port 0 for any
    #[arg(long, value_name = "ADDR:PORT", value_parser = socket_addr)]
    listen: Vec<SocketAddr>,
    /// How long a line waits for late mappings: milliseconds, or with a unit, as in 2s
    #[arg(long, value_name = "TIME", default_value = "250ms", value_parser = milliseconds)]
    wait: Duration,
    /// Maximum age of a mapping that explains a line: seconds, or with a unit, as in 10m
    #[arg(long, value_name = "TIME", default_value = "10m", value_parser = seconds)]
    window: Duration,
    /// Approximate memory limit for mappings and lines, in MiB
    #[arg(long, value_name = "MIB", default_value = "512",
          value_parser = clap::value_parser!(u32).range(8..=1_048_576))]
    memory: u32,
    /// Client to write in a line that no mapping explains: the logged one, `-`, or the server's address
    #[arg(long, value_name = "WHAT", default_value = "keep",
          value_parser = words(UnmatchedPolicy::WORDS))]
    unmatched: UnmatchedPolicy,
    /// Client to write in a line with only a likely client: the likely one, the logged one, or `-`
    #[arg(long, value_name = "WHAT", default_value = "use",
          value_parser = words(LikelyPolicy::WORDS))]
    likely: LikelyPolicy,
    /// Write networks or pseudonyms instead of clients: `cut`, `cut=24,48` (bits kept of IPv4 and IPv6),
    /// or `key=FILE` with a secret for pseudonyms, which keep visitors apart
    #[arg(long, value_name = "HOW")]
    privacy: Option<PrivacyMode>,
    /// Write to this file, for each line of the log, how sure its client is and why
    #[arg(long, value_name = "FILE")]
    explain: Option<PathBuf>,
    /// With --explain: also name the mappings that could explain the line, and the evidence for each
    #[arg(long, requires = "explain")]
    candidates: bool,
    /// Format of the report on USR1 and at the end
    #[arg(long, value_name = "HOW", value_enum, default_value = "text")]
    report: ReportFormat,
    /// Format of access lines, of all servers or of one; may be repeated [default: recognized from the
    /// lines]
    #[arg(long, value_name = "[SERVER=]SPEC")]
    format: Vec<String>,
    /// Report what the formats of --format can achieve and what would make each line exact, and exit
    #[arg(long, requires = "format")]
    check: bool,
    /// Accept mappings, lines, or both from this network only; may be repeated [default: from everywhere]
    #[arg(long, value_name = "[mappings=|lines=]NET")]
    from: Vec<FromArg>,
    /// NAME is another name of the server at ADDR: the address or host name of its sender, the name in
    /// its shipments, the host in the envelope of a syslog relay, a second address in mappings, or the
    /// name that HAProxy logs as GROUP/NAME or NAME; may be repeated
    #[arg(long, value_name = "NAME=ADDR[:PORT]")]
    server: Vec<String>,
    /// The lines of this sender (address, host name, or the name in its shipments) are the log of a
    /// balancer: `haproxy`, `nginx-stream`, `conntrack`, `traefik`, `json`, `combined`, or a format
    /// string of HAProxy, Envoy, Traffic Server, nginx or Apache. May be repeated, also for one sender.
    /// HAProxy's own formats are recognized without this
    #[arg(long, value_name = "SENDER=SPEC")]
    mapping_format: Vec<String>,
    /// UDP port to listen on, on all addresses
    #[arg(required_unless_present_any = ["listen", "check"], conflicts_with = "listen")]
    port: Option<u16>,
}

impl CollectorArgs {
    /// Returns the text of `--check` and the exit status; `None` without the option.
    #[must_use]
    pub fn check(&self) -> Option<(String, u8)> {
        self.check.then(|| review::check(&self.format))
    }
}

/// Format of the report.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ReportFormat {
    /// Lines of text
    Text,
    /// One JSON object
    Json,
}

/// The settings of a run, checked.
#[derive(Debug)]
pub struct CollectorConfig {
    /// Background, chroot, user and pid file.
    pub process: Process,
    /// Number of `-d` options.
    pub debug: u8,
    /// Addresses to listen on.
    pub listen: Vec<ListenTarget>,
    /// Path of the log; `None` for the standard output.
    pub log: Option<PathBuf>,
    /// When lines are written.
    pub buffering: Buffering,
    /// Path of the explanations, if asked for.
    pub explain: Option<PathBuf>,
    /// Format of the report.
    pub report: ReportFormat,
    /// Bytes of finished lines kept while nothing can be written.
    pub log_bytes: usize,
    /// Settings of the collector.
    pub settings: CollectorSettings,
    /// What the user should know about the command line.
    pub remarks: Vec<String>,
}

/// Approximate memory of a remembered mapping, in bytes.
const MAPPING: usize = 160;
/// Approximate memory of a held line besides its text, in bytes.
const LINE: usize = 160;

/// Approximate memory of a server, in bytes.
const SERVER: usize = 8 << 10;
/// Smallest and largest limit of servers.
const SERVERS: (usize, usize) = (64, 1 << 16);
/// Smallest memory for unfinished long lines, in bytes: one line may have 1 MiB.
const UNFINISHED: usize = 2 << 20;

impl CollectorConfig {
    /// Returns the default settings with this log, for an embedded collector.
    #[must_use]
    pub fn usual(log: PathBuf) -> Self {
        let args = CollectorArgs::parse_from(["penlogd", "-f", "--listen", "127.0.0.1:0"]);
        let usual = Self::try_from(args).expect("the defaults make sense");
        Self { log: Some(log), ..usual }
    }
}

impl TryFrom<CollectorArgs> for CollectorConfig {
    type Error = CollectorArgsError;

    fn try_from(args: CollectorArgs) -> Result<Self, CollectorArgsError> {
        let path = |path: Option<PathBuf>| path.as_deref().map(absolute).transpose();
        let jailed = |file: Option<PathBuf>| match &args.jail {
            // Inside the chroot the working directory is its root.
            Some(_) => Ok(file.map(|file| PathBuf::from("/").join(file))),
            None => path(file),
        };
        let (log, explain) = (jailed(args.log)?, jailed(args.explain)?);
        let memory = usize::try_from(args.memory).unwrap_or(usize::MAX).saturating_mul(1 << 20);
        let listen = match args.port {
            Some(port) => vec![ListenTarget::Everywhere(port)],
            None => args.listen.into_iter().map(ListenTarget::At).collect(),
        };
        let mut allow = Allow::default();
        args.from.into_iter().for_each(|from| allow.add(from));
        let most = memory / 2 / MAPPING;
        let known = known(&args.format, &args.server, &args.mapping_format)?;
        let engine = attribution::JoinSettings {
            wait: args.wait,
            window: args.window,
            max_mappings: args.mappings.map_or(most, NonZeroUsize::get),
            max_lines: memory / 4 / LINE,
        };
        Ok(Self {
            process: Process {
                background: !args.foreground,
                pid_file: path(args.pid_file)?,
                jail: path(args.jail.clone())?,
                user: args.user,
            },
            debug: args.debug,
            listen,
            log,
            buffering: if args.line_buffered { Buffering::Lines } else { Buffering::Blocks },
            explain,
            report: args.report,
            log_bytes: memory / 8,
            remarks: remarks(&known),
            settings: CollectorSettings {
                engine,
                held_bytes: memory / 8,
                unfinished_bytes: (memory / 32).max(UNFINISHED),
                servers: (memory / 16 / SERVER).clamp(SERVERS.0, SERVERS.1),
                rewrite: RewritePolicy { unmatched: args.unmatched, likely: args.likely },
                known,
                privacy: args.privacy.as_ref().map(privacy).transpose()?,
                allow,
                candidates: args.candidates,
                window: 0,
            },
        })
    }
}

fn known(
    formats: &[String],
    servers: &[String],
    balancers: &[String],
) -> Result<SenderSettings, CollectorArgsError> {
    let mut known = SenderSettings::default();
    for text in formats {
        let one = text.split_once('=').and_then(|(of, spec)| Some((ServerKey::parse(of)?, spec)));
        let (of, spec) = one.map_or((None, text.as_str()), |(of, spec)| (Some(of), spec));
        let spec = Spec::parse(spec)
            .map_err(|error| CollectorArgsError(format!("cannot use --format {text}: {error}")))?;
        match of {
            Some(of) => known.formats.push((of, spec)),
            None => known.format = spec,
        }
    }
    (known.servers, known.resolved) = aliases(servers)?;
    for (name, specs) in mapping_formats(balancers, &known.servers)? {
        let spec = ThirdPartySpec::any_of(&specs);
        known.balancers.push(BalancerSender { name: name.into(), senders: senders(name), spec });
    }
    Ok(known)
}

/// Returns the formats of each balancer's log, by the name of the sender.
fn mapping_formats<'a>(
    options: &'a [String],
    servers: &ServerAliases,
) -> Result<IndexMap<&'a str, Vec<ThirdPartySpec>>, CollectorArgsError> {
    let mut formats = IndexMap::<_, Vec<_>>::new();
    for text in options {
        let wrong = |why: &dyn fmt::Display| {
            CollectorArgsError(format!("cannot use --mapping-format {text}: {why}"))
        };
        let (name, spec) = text.split_once('=').ok_or_else(|| wrong(&"expected SENDER=SPEC"))?;
        let spec = ThirdPartySpec::parse(spec).map_err(|error| wrong(&error))?;
        if spec.lacks_server() && servers.of_name(ANY_SERVER).is_none() {
            return Err(wrong(
                &"the format does not name the server: if all its requests go to one, say --server '*=ADDR'",
            ));
        }
        formats.entry(name).or_default().push(spec);
    }
    Ok(formats)
}

/// Returns the options `--server`, and the addresses of the names among them.
fn aliases(
    options: &[String],
) -> Result<(ServerAliases, Vec<(IpAddr, usize)>), CollectorArgsError> {
    let aliases = options.iter().map(|text| {
        text.parse::<ServerAlias>()
            .map_err(|error| CollectorArgsError(format!("cannot use --server {text}: {error}")))
    });
    let aliases = ServerAliases::new(aliases.collect::<Result<_, _>>()?)
        .map_err(|error| CollectorArgsError(format!("cannot use --server: {error}")))?;
    let mut resolved = Vec::new();
    for (place, alias) in aliases.iter().enumerate() {
        if let KnownAs::Name(name) = &alias.known_as
            && name.as_bytes() != ANY_SERVER
        {
            resolved.extend(addresses(name).map(|addr| (addr, place)));
        }
    }
    Ok((aliases, resolved))
}

/// Returns the addresses of a host. A name that does not resolve may still be in a shipper's shipments, in a syslog
/// envelope, or a balancer's name for a server. A slash occurs in the last only.
fn addresses(name: &str) -> impl Iterator<Item = IpAddr> {
    let host = (!name.contains('/')).then_some((name, 0));
    let addrs = host.and_then(|host| host.to_socket_addrs().ok());
    addrs.into_iter().flatten().map(|addr| addr.ip().to_canonical())
}

/// Returns a remark for each name that is no host here.
fn remarks(known: &SenderSettings) -> Vec<String> {
    let resolved = |place| known.resolved.iter().any(|(_, of)| *of == place);
    let names =
        known.servers.iter().enumerate().filter_map(|(place, alias)| match &alias.known_as {
            KnownAs::Name(name) if !name.contains('/') && !resolved(place) => Some(name),
            _ => None,
        });
    let remark = |name: &str| {
        format!(
            "{name} is no host here: --server {name}=… is about the name in shipments, in syslog envelopes, or in a \
             balancer's log"
        )
    };
    names.map(|name| remark(name)).collect()
}

/// Returns all senders that a name may stand for.
fn senders(name: &str) -> Vec<LineSender> {
    if let Some(addr) = parse_ip(name.as_bytes()) {
        return vec![LineSender::Addr(addr)];
    }
    let name_itself = std::iter::once(LineSender::Name(name.into()));
    name_itself.chain(addresses(name).map(LineSender::Addr)).collect()
}

fn milliseconds(text: &str) -> Result<Duration, DurationError> {
    parse_duration(text, DefaultUnit::Milliseconds)
}

fn seconds(text: &str) -> Result<Duration, DurationError> {
    parse_duration(text, DefaultUnit::Seconds)
}

/// Arguments that contradict each other or cannot be used.
#[derive(Debug)]
pub struct CollectorArgsError(String);

impl fmt::Display for CollectorArgsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for CollectorArgsError {}

impl From<ActionError> for CollectorArgsError {
    fn from(error: ActionError) -> Self {
        Self(chain(&error))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(line: &str) -> Result<CollectorConfig, String> {
        let args =
            CollectorArgs::try_parse_from(["penlogd"].into_iter().chain(line.split_whitespace()));
        args.map_err(|error| error.to_string())
            .and_then(|args| CollectorConfig::try_from(args).map_err(|error| error.to_string()))
    }

    #[test]
    fn old_command_lines_mean_what_they_meant() {
        let config = config("-b -d -d -f -j /srv -l log -n 5000 -p pid -u nobody 10000").unwrap();
        assert!(!config.process.background);
        assert_eq!((config.debug, config.buffering), (2, Buffering::Lines));
        assert_eq!(config.listen, [ListenTarget::Everywhere(10_000)]);
        assert_eq!(config.log, Some("/log".into()));
        assert_eq!(config.process.jail, Some("/srv".into()));
        assert_eq!(config.process.user.as_deref(), Some("nobody"));
        assert_eq!(config.settings.engine.max_mappings, 5_000);
        assert!(config.process.pid_file.is_some_and(|path| path.is_absolute()));
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        for line in [
            "",
            "port",
            "70000",
            "-n 0 1",
            "-n junk 1",
            "-n -1 1",
            "1 --listen 127.0.0.1:1",
            "--listen here:1",
            "1 --wait soon",
            "1 --wait 5y",
            "1 --memory 0",
            "1 --from everyone",
            "1 --server web=there",
            "1 --server web",
            "1 --mapping-format haproxy",
            "1 --privacy hash",
            "1 --privacy key=/dev/null",
            "1 --privacy key=/nowhere/key",
            "1 --mapping-format 192.0.2.1=%h",
            "1 --unmatched drop",
            "--check",
            "-x 1",
        ] {
            assert!(config(line).is_err(), "{line}");
        }
    }

    #[test]
    fn times_have_units() {
        for (text, expected) in [
            ("250", Duration::from_millis(250)),
            ("2s", Duration::from_secs(2)),
            ("10m", Duration::from_secs(600)),
            ("500us", Duration::from_micros(500)),
        ] {
            assert_eq!(milliseconds(text).unwrap(), expected, "{text}");
        }
        assert_eq!(seconds("600").unwrap(), Duration::from_secs(600));
    }

    #[test]
    fn a_name_that_is_no_host_is_said() {
        let config = config("1 --server nosuch.invalid=10.0.0.1 --server app/w=10.0.0.2").unwrap();
        assert_eq!(config.remarks.len(), 1, "{:?}", config.remarks);
        assert!(config.remarks[0].starts_with("nosuch.invalid is no host here"));
    }

    #[test]
    fn a_sender_may_speak_for_another_server() {
        let config =
            config("1 --server 192.0.2.7=10.0.0.1:80 --server [::1]=[2001:db8::1]").unwrap();
        let options = config.settings.known.servers.iter().map(ToString::to_string);
        assert!(options.eq(["192.0.2.7=10.0.0.1:80", "::1=2001:db8::1"]));
    }
}
