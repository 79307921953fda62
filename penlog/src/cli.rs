//! `ShipperArgs`: the command line as typed. `ShipperConfig`: its meaning, checked.

use std::net::IpAddr;
use std::path::PathBuf;

use clap::Parser;
use pen_daemon::arguments::number;

use pen_records::addr::parse_ip;
use pen_records::shipment::ShipmentServer;
use pen_stream::tls::SenderTls;

use crate::destination::{Family, port};
use crate::keys::ShipperKeyArgs;

/// Send a web server's access lines to penlogd
///
/// Reads lines from standard input, a FIFO or followed files and sends them over UDP or TCP: as numbered
/// shipments to a penlogd of this package, as single lines to a classic one. penlog asks the collector
/// which of the two it is.
#[derive(Debug, Parser)]
#[command(
    name = "penlog",
    version,
    max_term_width = 100,
    override_usage = "penlog [OPTIONS] HOST PORT [MY_IP]\n       penlog [OPTIONS] HOST PORT [MY_IP] --follow FILE..."
)]
#[expect(clippy::struct_excessive_bools, reason = "each is a switch that was typed or not")]
pub(crate) struct ShipperArgs {
    /// Name or address of the host where penlogd runs
    host: String,

    /// Port of penlogd: a number, or a name from /etc/services
    port: String,

    /// Source address to send from: the address by which the balancer knows this web server
    my_ip: Option<String>,

    /// Follow these files instead of reading standard input; patterns (*, ?, [abc]) also find files
    /// that appear later
    #[arg(long, value_name = "FILE", num_args = 1..)]
    follow: Vec<PathBuf>,

    /// With --follow: also read what the files already contain
    #[arg(long, requires = "follow", conflicts_with = "fifo")]
    from_start: bool,

    /// With --follow: store the read position in FILE and continue there after a restart
    #[arg(long, value_name = "FILE", requires = "follow", conflicts_with = "fifo")]
    state: Option<PathBuf>,

    /// Read this FIFO instead of standard input and never stop at its end; the FIFO is created if missing
    #[arg(long, value_name = "PATH", conflicts_with = "follow")]
    fifo: Option<PathBuf>,

    /// Without --follow: write the input to segment files in DIR first and send it from there, so that no
    /// line is lost if penlog is killed
    #[arg(long, value_name = "DIR", conflicts_with = "follow")]
    spool: Option<PathBuf>,

    /// Limit for the segments of --spool; once it is reached, new lines are dropped and counted
    #[arg(long, value_name = "MIB", default_value_t = 1024, value_parser = number("MiB", 1..=1_048_576))]
    spool_size: u32,

    /// Web server that the lines belong to, if different from the source address (shipments only)
    #[arg(long, value_name = "ADDR[:PORT]")]
    server: Option<String>,

    /// Display name of that server (shipments only)
    #[arg(long, value_name = "NAME")]
    name: Option<String>,

    /// Memory limit for queued lines; once it is reached, new lines are dropped and counted
    #[arg(long, value_name = "MIB", default_value_t = 64, value_parser = number("MiB", 2..=65_536))]
    queue: u32,

    /// Maximum size of a shipment [default: 32768 by TCP or to an address of this machine, else 1400]
    #[arg(long, value_name = "BYTES", value_parser = number("bytes", 512..=65_507))]
    datagram_size: Option<u32>,

    /// Do not ask: send single lines, as the classic penlog does
    #[arg(long)]
    classic: bool,

    /// Send by TCP alone. By default penlog sends by TCP, and by UDP where the collector takes no connection
    #[arg(long, conflicts_with_all = ["classic", "udp"])]
    stream: bool,

    /// Send by UDP alone
    #[arg(long)]
    udp: bool,

    #[command(flatten)]
    keys: ShipperKeyArgs,

    /// As root: change to this user, by name or number. By default penlog stays root only to follow files;
    /// from a pipe or FIFO it becomes the owner of the folder of --spool, or nobody
    #[arg(long, value_name = "USER")]
    user: Option<String>,

    /// Keep all rights of the user: by default penlog gives up capabilities and, where the kernel has
    /// landlock, writing files but those of --spool and --state
    #[arg(long)]
    no_sandbox: bool,

    #[command(flatten)]
    only: FamilyArgs,
}

/// Returns what the words of a command line without host or port were probably meant to be.
pub(crate) fn hint(words: &[String]) -> Option<String> {
    if let Some(place) = words.iter().position(|word| word == "--follow") {
        return Some(greedy_hint(&words[..place], &words[place + 1..]));
    }
    let typed = words.iter().find(|word| !word.starts_with('-'))?;
    let (host, port) = joined(typed)?;
    Some(format!("{JOINED}: write penlog {host} {port}"))
}

const JOINED: &str = "host and port are two words";

/// Splits `HOST:PORT`.
fn joined(word: &str) -> Option<(&str, &str)> {
    let (host, port) = word.rsplit_once(':')?;
    let host = host.trim_start_matches('[').trim_end_matches(']');
    (!host.is_empty() && is_number(port)).then_some((host, port))
}

fn is_number(word: &str) -> bool {
    !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_digit())
}

/// Returns how words around `--follow` were meant: host and port stand behind it, or are one word.
fn greedy_hint(before: &[String], behind: &[String]) -> String {
    if let [.., typed] = before
        && let Some((host, port)) = joined(typed)
    {
        let others = &before[..before.len() - 1];
        return format!("{JOINED}: {}", written(others, host, port, behind));
    }
    let takes = "--follow takes all words behind it";
    match (before, behind) {
        ([others @ .., host], [files @ .., port])
            if !host.starts_with('-') && !files.is_empty() && is_number(port) =>
        {
            format!("{takes}: {}", written(others, host, port, files))
        }
        (others, [files @ .., host, port]) if !files.is_empty() && is_number(port) => {
            format!("{takes}: {}", written(others, host, port, files))
        }
        (others, [files @ .., word]) if !files.is_empty() && joined(word).is_some() => {
            let (host, port) = joined(word).unwrap_or_default();
            format!("{takes}, and {JOINED}: {}", written(others, host, port, files))
        }
        _ => format!("{takes}: write penlog HOST PORT --follow FILE..."),
    }
}

fn written(others: &[String], host: &str, port: &str, files: &[String]) -> String {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_./:=@%+,".contains(&byte);
    let quoted = |word: &str| {
        if word.bytes().all(is_plain) {
            word.to_owned()
        } else {
            format!("'{}'", word.replace('\'', r"'\''"))
        }
    };
    let words = others.iter().map(String::as_str).chain([host, port, "--follow"]);
    let words: Vec<_> = words.chain(files.iter().map(String::as_str)).map(quoted).collect();
    format!("write penlog {}", words.join(" "))
}

/// Options that select an address family.
#[derive(Debug, clap::Args)]
struct FamilyArgs {
    /// Use IPv4 only
    #[arg(short = '4', conflicts_with = "v6")]
    v4: bool,

    /// Use IPv6 only
    #[arg(short = '6')]
    v6: bool,
}

/// The settings of a run, checked.
#[derive(Clone, Debug)]
pub(crate) struct ShipperConfig {
    pub(crate) host: String,
    pub(crate) port: u16,
    pub(crate) family: Family,
    /// Source address to send from; `None`: the system chooses.
    pub(crate) source_addr: Option<IpAddr>,
    pub(crate) source: InputSource,
    /// Address of the web server that the lines belong to; `None`: the source address.
    pub(crate) server: Option<IpAddr>,
    pub(crate) server_port: Option<u16>,
    pub(crate) name: Option<String>,
    /// Memory limit of the queue in bytes.
    pub(crate) queue: usize,
    /// Maximum size of a shipment in bytes; `None`: chosen by the destination address.
    pub(crate) datagram: Option<usize>,
    pub(crate) classic: bool,
    pub(crate) transport: Transport,
    /// Settings of TLS: ship by TLS only.
    pub(crate) tls: Option<SenderTls>,
    /// Where the input is kept until it has reached the collector; `None`: in memory.
    pub(crate) spool: Option<SpoolSettings>,
    /// The user to become.
    pub(crate) user: Option<String>,
    /// Whether rights that are not needed are given up.
    pub(crate) has_sandbox: bool,
}

/// How shipments travel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Transport {
    /// By TCP, or by UDP where the collector takes no connection.
    Either,
    /// By TCP alone.
    Stream,
    /// By UDP alone.
    Datagrams,
}

/// Settings of `--spool`.
#[derive(Clone, Debug)]
pub(crate) struct SpoolSettings {
    pub(crate) folder: PathBuf,
    /// Limit for the bytes of all segments.
    pub(crate) bytes: u64,
}

/// Where penlog reads lines from.
#[derive(Clone, Debug)]
pub(crate) enum InputSource {
    Stdin,
    Fifo(PathBuf),
    Files(FollowSettings),
}

/// Settings of `--follow`.
#[derive(Clone, Debug)]
pub(crate) struct FollowSettings {
    pub(crate) patterns: Vec<PathBuf>,
    /// Also read what the files already contain.
    pub(crate) from_start: bool,
    pub(crate) state: Option<PathBuf>,
}

impl ShipperConfig {
    pub(crate) fn new(args: ShipperArgs) -> Result<Self, String> {
        let source_addr = args
            .my_ip
            .map(|text| {
                parse_ip(text.as_bytes())
                    .ok_or_else(|| format!("my_ip: '{text}' is not an IP address"))
            })
            .transpose()?;
        let family = match (args.only.v4, args.only.v6, source_addr) {
            (true, _, Some(IpAddr::V6(ip))) => {
                return Err(format!("-4 asks for IPv4, but my_ip {ip} is IPv6"));
            }
            (_, true, Some(IpAddr::V4(ip))) => {
                return Err(format!("-6 asks for IPv6, but my_ip {ip} is IPv4"));
            }
            (true, ..) | (_, _, Some(IpAddr::V4(_))) => Family::V4,
            (_, true, _) | (_, _, Some(IpAddr::V6(_))) => Family::V6,
            (false, false, None) => Family::Any,
        };
        let server = match &args.server {
            None => ShipmentServer::default(),
            Some(text) => ShipmentServer::parse(text).ok_or_else(|| {
                format!("--server: '{text}' is not ADDR, ADDR:PORT or [ADDR]:PORT")
            })?,
        };
        let source = match (args.fifo, args.follow) {
            (Some(path), _) => InputSource::Fifo(path),
            (None, patterns) if patterns.is_empty() => InputSource::Stdin,
            (None, patterns) => InputSource::Files(FollowSettings {
                patterns,
                from_start: args.from_start,
                state: args.state,
            }),
        };
        let tls = args.keys.tls(&args.host)?;
        if args.name.as_ref().is_some_and(|name| name.len() > 255) {
            return Err("--name: a name has at most 255 bytes".into());
        }
        Ok(Self {
            port: port(&args.port)?,
            host: args.host,
            family,
            source_addr,
            source,
            server: server.addr,
            server_port: server.port,
            name: args.name,
            queue: usize::try_from(args.queue).expect("at most 65,536, by its parser") << 20,
            datagram: args
                .datagram_size
                .map(|bytes| usize::try_from(bytes).expect("at most 65,507, by its parser")),
            classic: args.classic,
            transport: match () {
                () if args.stream || tls.is_some() => Transport::Stream,
                () if args.udp || args.classic => Transport::Datagrams,
                () => Transport::Either,
            },
            tls,
            user: args.user,
            has_sandbox: !args.no_sandbox,
            spool: args
                .spool
                .map(|folder| SpoolSettings { folder, bytes: u64::from(args.spool_size) << 20 }),
        })
    }
}

#[cfg(test)]
mod tests {

    use super::*;

    fn config(line: &str) -> Result<ShipperConfig, String> {
        let words = ["penlog"].into_iter().chain(line.split_whitespace());
        ShipperArgs::try_parse_from(words).map_err(|e| e.to_string()).and_then(ShipperConfig::new)
    }

    #[test]
    fn the_classic_command_line_is_understood() {
        let plain = config("127.0.0.1 10000").unwrap();
        assert_eq!(
            (plain.host.as_str(), plain.port, plain.source_addr),
            ("127.0.0.1", 10000, None)
        );
        let from = config("lbhost 10000 127.0.0.2").unwrap();
        assert_eq!(from.source_addr, Some("127.0.0.2".parse().unwrap()));
        assert_eq!(from.family, Family::V4);
        assert_eq!(config("::1 10000 ::1").unwrap().family, Family::V6);
    }

    #[test]
    fn misuse_is_refused() {
        for line in [
            "",
            "host",
            "host 0",
            "host 65536",
            "host no-such-service",
            "host 10000 nobody",
            "host 10000 --server web1",
            "host 10000 --queue 1",
            "host 10000 --datagram-size 100",
            "host 10000 --from-start",
            "host 10000 -4 -6",
            "host 10000 -4 ::1",
            "host 10000 --fifo a --follow b",
            "host 10000 --spool a --follow b",
            "host 10000 --spool a --spool-size 0",
            "host 10000 --key a",
            "host 10000 --key a --certificate b",
            "host 10000 --certificate b --authority c",
            "host 10000 --authority c",
            "host 10000 --key a --collector-name c",
            "host 10000 --udp --key a --certificate b --authority c",
            "host:10000",
        ] {
            assert!(config(line).is_err(), "{line}");
        }
    }

    #[test]
    fn a_host_and_port_in_one_word_and_a_greedy_option_are_explained() {
        for (line, expected) in [
            ("loghost:10000", Some("write penlog loghost 10000")),
            ("--classic [::1]:10000", Some("write penlog ::1 10000")),
            ("--follow a.log 127.0.0.1 10000", Some("write penlog 127.0.0.1 10000 --follow a.log")),
            ("loghost:10000 --follow a*.log", Some("write penlog loghost 10000 --follow 'a*.log'")),
            ("--follow a.log loghost:10000", Some("write penlog loghost 10000 --follow a.log")),
            (
                "--state s loghost --follow a.log 10000",
                Some("write penlog --state s loghost 10000 --follow a.log"),
            ),
            ("loghost --follow a.log", Some("HOST PORT --follow FILE...")),
            ("loghost", None),
            ("2001:db8::1", Some("two words")),
            ("", None),
        ] {
            let words: Vec<_> = line.split_whitespace().map(str::to_owned).collect();
            let hint = hint(&words);
            assert_eq!(hint.is_some(), expected.is_some(), "{line}: {hint:?}");
            let text = hint.unwrap_or_default();
            assert!(text.contains(expected.unwrap_or_default()), "{line}: {text}");
        }
    }
}
