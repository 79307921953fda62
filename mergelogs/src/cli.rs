//! The command line of `mergelogs` as it was typed. The doc comments of [`MergeArgs`] are the text of `--help`;
//! `docs/man/mergelogs.1` is written by hand.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgAction, Parser, ValueEnum};
use pen_daemon::arguments::words;
use pen_records::duration::{DefaultUnit, parse_duration};
use pen_records::privacy::PrivacyMode;
use pen_records::rewrite::{LikelyPolicy, UnmatchedPolicy};
use pen_records::server_alias::ServerAlias;

use crate::zone::LogZone;

/// The longest age that `--window` allows: a leap year.
const WINDOW_MAX: Duration = Duration::from_secs(366 * 86_400);

/// The end of `--help`.
const AFTER_HELP: &str = "\
Exit status:
  0  all lines were read and written
  1  an input could not be read, or the output not be written
  2  the arguments are wrong
  3  all lines were read and written, but the logs do not fit each other; the warnings say why

Examples:
  mergelogs -p pen.log 10.0.0.1:web1/access.log 10.0.0.2:web2/access.log > merged.log
  mergelogs -p 'pen.log*' -o merged.log.gz '10.0.0.1:web1/access.log*' '10.0.0.2:web2/access.log*'
  mergelogs -p haproxy.log --server app/web1=10.0.0.1 --explain why.tsv 10.0.0.1:access.log";

/// Merge the access logs of several servers into one log that names the real clients.
///
/// The lines of all logs are written in the order of time. If the balancer's mapping log records which
/// client sent a request, the line gets this client's address instead of the balancer's; nothing else
/// in a line changes. Inputs may be compressed with gzip, bzip2, xz or zstd, rotated, and in any order.
#[derive(Debug, Parser)]
#[command(name = "mergelogs", version, arg_required_else_help = false, after_long_help = AFTER_HELP)]
#[expect(clippy::struct_excessive_bools, reason = "each is a switch that was typed or not")]
pub(crate) struct MergeArgs {
    /// The balancer's mapping log, written by pen or HAProxy. May be repeated, and may be a pattern
    /// in quotes
    #[arg(short = 'p', long = "mappings", value_name = "PENLOG", required_unless_present = "check", action = ArgAction::Append)]
    pub(crate) mappings: Vec<PathBuf>,

    /// Maximum age of a mapping that explains a line: seconds, or with a unit, as in 10m
    #[arg(short = 'j', long = "window", value_name = "TIME", default_value = "600", value_parser = window)]
    pub(crate) window: Duration,

    /// Accepted and ignored: all times are compared in UTC
    #[arg(short = 't', value_name = "SECONDS", allow_negative_numbers = true)]
    pub(crate) time_offset: Option<i64>,

    /// Accepted and ignored: there is no cache
    #[arg(short = 'c')]
    pub(crate) no_cache: bool,

    /// Print more about the inputs to stderr
    #[arg(short = 'd', action = ArgAction::Count)]
    pub(crate) debug: u8,

    /// Write the merged log to this file, compressed if the name ends in .gz, .bz2, .xz or .zst. The
    /// file gets its name when it is complete [default: the standard output]
    #[arg(short = 'o', long = "output", value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,

    /// Format of the access logs: `auto`, `json`, or an Apache `LogFormat` or nginx `log_format`. With
    /// SERVER= in front, of this server's logs only. May be repeated
    #[arg(long, value_name = "[SERVER=]SPEC", action = ArgAction::Append)]
    pub(crate) format: Vec<String>,

    /// Format of mapping logs that another balancer wrote: `haproxy`, which is recognized without this
    /// option, `nginx-stream`, `conntrack`, `traefik`, `caddy`, `elb`, `alb`, `json`, `combined`, or a format string of
    /// HAProxy, Envoy, Traffic Server, nginx or Apache. May be repeated; each line may be in any of them
    #[arg(long, value_name = "SPEC", action = ArgAction::Append)]
    pub(crate) mapping_format: Vec<String>,

    /// NAME is another name of the server at ADDR: a second address in the mapping log, or the name that
    /// a balancer logs as `GROUP/NAME` or `NAME`. May be repeated
    #[arg(long, value_name = "NAME=ADDR[:PORT]", action = ArgAction::Append)]
    pub(crate) server: Vec<ServerAlias>,

    /// Time zone of times that such a balancer logs without a zone: `local` (the zone of this
    /// machine, or that of TZ), `UTC`, an offset such as +0200, or a name such as Europe/Berlin
    #[arg(long, value_name = "ZONE", default_value = "local", allow_hyphen_values = true)]
    pub(crate) mapping_zone: LogZone,

    /// Time zone of times without a zone in access logs, as for --mapping-zone. With SERVER= in front,
    /// in this server's logs only. May be repeated [default: local; UTC for times with a T, as in JSON]
    #[arg(long, value_name = "[SERVER=]ZONE", action = ArgAction::Append, allow_hyphen_values = true)]
    pub(crate) zone: Vec<String>,

    /// Read the beginning of each input, at most 1 MiB, report what it is and whether the logs fit each other,
    /// and exit without a merge. Of --format, report what it can achieve and what would make each line
    /// exact
    #[arg(long)]
    pub(crate) check: bool,

    /// Client to write in a line that no mapping explains
    #[arg(long, value_name = "WHAT", default_value = "keep", value_parser = words(UnmatchedPolicy::WORDS))]
    pub(crate) unmatched: UnmatchedPolicy,

    /// Client to write in a line with only a likely client
    #[arg(long, value_name = "WHAT", default_value = "use", value_parser = words(LikelyPolicy::WORDS))]
    pub(crate) likely: LikelyPolicy,

    /// Write networks or pseudonyms instead of clients: `cut`, `cut=24,48` (bits kept of IPv4 and
    /// IPv6), or `key=FILE` with a secret for pseudonyms, which keep visitors apart
    #[arg(long, value_name = "HOW")]
    pub(crate) privacy: Option<PrivacyMode>,

    /// Write to this file, for each line of the merged log, how sure its client is and why, in columns
    /// separated by tabs
    #[arg(long, value_name = "FILE")]
    pub(crate) explain: Option<PathBuf>,

    /// With --explain: also name the mappings that could explain the line, and the evidence for each
    #[arg(long, requires = "explain")]
    pub(crate) candidates: bool,

    /// Print in words why a line got its client: the line with this number in the merged log, or up to
    /// 10 lines that contain this text
    #[arg(long, value_name = "N|TEXT")]
    pub(crate) explain_line: Option<OsString>,

    /// Report how many lines have the right client, by a field of the logs that holds the client's
    /// address: a token of --format (`%{X-Forwarded-For}i`, `$http_x_client`), the name of a header, or
    /// the path of a JSON key
    #[arg(long, value_name = "FIELD")]
    pub(crate) audit: Option<String>,

    /// Format of the report at the end, on stderr
    #[arg(long, value_enum, value_name = "HOW", default_value_t = ReportStyle::Text)]
    pub(crate) report: ReportStyle,

    /// Print no report and no progress, only errors and warnings
    #[arg(short = 'q', long)]
    pub(crate) quiet: bool,

    /// A server's address as the mapping log spells it, and an access log of this server; `@host` in front
    /// of a central file of several servers, whose syslog envelopes name hosts of --server. IPv6
    /// addresses stand in brackets; `-` is standard input; the file may be a pattern in quotes; a port
    /// between address and file (10.0.0.1:8080:access.log) distinguishes servers on one machine
    #[arg(value_name = "SERVER:FILE", required_unless_present = "check")]
    pub(crate) logs: Vec<OsString>,
}

/// Parses the value of `--window`.
fn window(text: &str) -> Result<Duration, String> {
    let window = parse_duration(text, DefaultUnit::Seconds).map_err(|error| error.to_string())?;
    if window <= WINDOW_MAX { Ok(window) } else { Err("expected at most 366 days".to_owned()) }
}

/// Format of the report.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum ReportStyle {
    /// Lines of text
    Text,
    /// One JSON object
    Json,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_definition_holds_together() {
        MergeArgs::command().debug_assert();
    }

    #[test]
    fn classic_command_lines_are_understood() {
        for (line, window, offset) in [
            ("-p pen.log 10.0.0.1:a", 600, None),
            ("-cd -j 2 -p pen.log 10.0.0.1:a 10.0.0.2:b", 2, None),
            ("-cdj2 -ppen.log -t -18000 10.0.0.1:a", 2, Some(-18_000)),
            ("-dcp pen.log -t 7200 10.0.0.1:a -j 60", 60, Some(7_200)),
        ] {
            let words = std::iter::once("mergelogs").chain(line.split(' '));
            let args = MergeArgs::try_parse_from(words).expect(line);
            let window = Duration::from_secs(window);
            assert_eq!((args.window, args.time_offset), (window, offset), "{line}");
            assert_eq!(args.mappings, [PathBuf::from("pen.log")], "{line}");
        }
    }

    #[test]
    fn a_misspelled_option_is_told_its_name() {
        for (typed, meant) in [("--explian", "--explain"), ("--mapping-fromat", "--mapping-format")]
        {
            let error = MergeArgs::try_parse_from(["mergelogs", typed, "x"]).expect_err(typed);
            assert!(error.to_string().contains(&format!("'{meant}'")), "{error}");
        }
    }

    #[test]
    fn misuse_is_refused() {
        for line in ["", "10.0.0.1:a", "-p pen.log", "-r x -p pen.log 10.0.0.1:a", "-j x -p p s:f"]
        {
            let words = std::iter::once("mergelogs").chain(line.split_whitespace());
            let error = MergeArgs::try_parse_from(words).expect_err(line);
            assert_eq!(error.exit_code(), 2, "{line}");
        }
    }
}
