//! The command line as typed ([`CollectorArgs`]), and its meaning, checked ([`CollectorConfig`]).
//!
//! `senders` holds the options about senders, which `pen --collect` takes, too; `check` is the option `--check`.

mod check;
mod journal;
mod keys;
mod senders;

use std::fmt;
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgAction, Parser, ValueEnum};

use pen_daemon::arguments::{number, privacy, socket_addr, udp_port, words};
use pen_daemon::error::{ActionError, chain};
use pen_daemon::logfile::Buffering;
use pen_daemon::process::{Process, absolute};
use pen_records::attribution;
use pen_records::duration::{DefaultUnit, DurationError, parse_duration};
use pen_records::privacy::PrivacyMode;
use pen_records::rewrite::{LikelyPolicy, RewritePolicy, UnmatchedPolicy};

pub use self::check::no_place;
pub use self::journal::JournalArgs;
pub use self::keys::{CollectorKeys, KeyArgs};
pub use self::senders::SenderArgs;
use crate::allow::Allow;
use crate::collector::CollectorSettings;
use crate::journaling::JournalSettings;
use crate::output::OutputSettings;
use crate::socket::ListenTarget;

/// The command that is no option.
const EXPLAIN: &str = "penlogd explain -l LOG --explain FILE LINE says why lines of a log have their clients: \
                       see penlogd explain --help";

/// Collects mapping records of the balancer and access lines of its servers, puts the real client
/// into each line, and writes one log
#[derive(Debug, Parser)]
#[command(name = "penlogd", version, max_term_width = 100, after_help = EXPLAIN)]
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
    /// How long a line waits for a balancer that is not heard, or whose records are missing: seconds, or with
    /// a unit, as in 1m
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = seconds)]
    grace: Duration,
    /// Maximum age of a mapping that explains a line: seconds, or with a unit, as in 10m
    #[arg(long, value_name = "TIME", default_value = "10m", value_parser = seconds)]
    window: Duration,
    /// Approximate memory limit for mappings and lines, in MiB
    #[arg(long, value_name = "MIB", default_value = "512",
          value_parser = number("MiB", 8..=1_048_576))]
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
    #[command(flatten)]
    journal: JournalArgs,
    /// Keep all rights of the user: by default penlogd gives up capabilities and, where the kernel has landlock,
    /// access to files that it does not need
    #[arg(long)]
    no_sandbox: bool,
    /// Format of the report on USR1 and at the end
    #[arg(long, value_name = "HOW", value_enum, default_value = "text")]
    report: ReportFormat,
    #[command(flatten)]
    senders: SenderArgs,
    #[command(flatten)]
    keys: KeyArgs,
    /// Check the whole command line without opening a socket, report what the formats of --format can
    /// achieve and what would make each line exact, and exit
    #[arg(long)]
    check: bool,
    /// UDP port to listen on, on all addresses: a number, or a name from /etc/services
    #[arg(required_unless_present_any = ["listen", "check"], conflicts_with = "listen", value_parser = udp_port)]
    port: Option<u16>,
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
    /// Files that lines go to.
    pub output: OutputSettings,
    /// Format of the report.
    pub report: ReportFormat,
    /// Whether rights that are not needed are given up after the start.
    pub has_sandbox: bool,
    /// Keys of this collector and its senders.
    pub keys: Option<CollectorKeys>,
    /// Limit of connections.
    pub streams: usize,
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
/// Smallest and largest limit of shippers, and of balancers.
const SENDERS: (usize, usize) = (256, 1 << 17);
const BALANCERS: (usize, usize) = (64, 1 << 14);
/// Approximate memory of a shipper, and of a balancer, of which some numbers are missing, in bytes.
const SENDER: usize = 2 << 10;
const BALANCER: usize = 16 << 10;
/// Memory of a connection with an unfinished datagram, in bytes.
const STREAM: usize = 64 << 10;
/// Smallest and largest limit of connections.
const STREAMS: (usize, usize) = (64, 1 << 14);
/// Smallest memory for unfinished long lines, in bytes: one line may have 1 MiB.
const UNFINISHED: usize = 2 << 20;

/// A wait that is surely meant otherwise.
const LONG_WAIT: Duration = Duration::from_secs(60);

impl CollectorConfig {
    /// Returns the default settings with this log, for an embedded collector.
    ///
    /// # Errors
    /// The options cannot be used.
    pub fn embedded(
        log: PathBuf,
        senders: SenderArgs,
        journal: JournalArgs,
    ) -> Result<Self, CollectorArgsError> {
        let args = CollectorArgs::parse_from(["penlogd", "-f", "--listen", "127.0.0.1:0"]);
        Self::try_from(CollectorArgs { log: Some(log), senders, journal, ..args })
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
        if args.journal.journal.is_some() && args.log.is_none() {
            return Err(CollectorArgsError(vec!["--journal: expected -l FILE with it".to_owned()]));
        }
        let (log, explain) = (jailed(args.log)?, jailed(args.explain)?);
        let journal = jailed(args.journal.journal)?;
        if let Some(journal) = &journal {
            let within = |file: &Option<PathBuf>| check::in_journal(file.as_deref()?, journal);
            let wrong: Vec<_> = [&log, &explain].into_iter().filter_map(within).collect();
            if !wrong.is_empty() {
                return Err(CollectorArgsError(wrong));
            }
        }
        let memory = usize::try_from(args.memory).unwrap_or(usize::MAX).saturating_mul(1 << 20);
        let listen = match args.port {
            Some(port) => vec![ListenTarget::Everywhere(port)],
            None => args.listen.into_iter().map(ListenTarget::At).collect(),
        };
        let keys = args.keys.read().map_err(|error| CollectorArgsError(vec![error]))?;
        let mut allow = Allow::default();
        args.senders.from.iter().for_each(|from| allow.add(*from));
        let most = memory / 2 / MAPPING;
        let known = args.senders.settings().map_err(CollectorArgsError)?;
        let mut remarks = senders::remarks(&known);
        if args.wait > LONG_WAIT {
            let seconds = args.wait.as_secs();
            remarks.push(format!("--wait: each line is written {seconds} s after it has come"));
        }
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
            output: OutputSettings {
                log,
                explain,
                buffering: if args.line_buffered { Buffering::Lines } else { Buffering::Blocks },
                log_bytes: memory / 8,
                journal: journal.map(|folder| JournalSettings {
                    folder,
                    durability: args.journal.durable,
                    window: args.window,
                    wait: args.wait,
                    bytes: u64::from(args.journal.journal_size) << 20,
                }),
            },
            report: args.report,
            has_sandbox: !args.no_sandbox,
            keys,
            streams: (memory / 8 / STREAM).clamp(STREAMS.0, STREAMS.1),
            remarks,
            settings: CollectorSettings {
                engine,
                held_bytes: memory / 8,
                unfinished_bytes: (memory / 32).max(UNFINISHED),
                servers: (memory / 16 / SERVER).clamp(SERVERS.0, SERVERS.1),
                senders: (memory / 32 / SENDER).clamp(SENDERS.0, SENDERS.1),
                balancers: (memory / 32 / BALANCER).clamp(BALANCERS.0, BALANCERS.1),
                rewrite: RewritePolicy { unmatched: args.unmatched, likely: args.likely },
                known,
                privacy: args.privacy.as_ref().map(privacy).transpose()?,
                allow,
                candidates: args.candidates,
                window: 0,
                grace: args.grace,
            },
        })
    }
}

fn milliseconds(text: &str) -> Result<Duration, DurationError> {
    parse_duration(text, DefaultUnit::Milliseconds)
}

fn seconds(text: &str) -> Result<Duration, DurationError> {
    parse_duration(text, DefaultUnit::Seconds)
}

/// Arguments that contradict each other or cannot be used, a line for each mistake.
#[derive(Debug)]
pub struct CollectorArgsError(Vec<String>);

impl fmt::Display for CollectorArgsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join("\n"))
    }
}

impl std::error::Error for CollectorArgsError {}

impl From<ActionError> for CollectorArgsError {
    fn from(error: ActionError) -> Self {
        Self(vec![chain(&error)])
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
        assert_eq!((config.debug, config.output.buffering), (2, Buffering::Lines));
        assert_eq!(config.listen, [ListenTarget::Everywhere(10_000)]);
        assert_eq!(config.output.log, Some("/log".into()));
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
            "1 --journal dir",
            "-l log 1 --durable process",
            "-l log 1 --journal dir --journal-size 1",
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
    fn a_wait_of_hours_is_remarked() {
        let config = config("1 --wait 5h").unwrap();
        let expected = "--wait: each line is written 18000 s after it has come";
        assert_eq!(config.remarks, [expected]);
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
