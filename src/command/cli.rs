//! `PenArgs`: what was typed. The doc comments are the help text; `docs/man/pen.1` is by hand.
//!
//! What the control language can say becomes a command of it, with its option as its origin, in the
//! order of the command line; [`crate::command::setup`] carries them out.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt as _;
use std::path::PathBuf;

use clap::{ArgAction, ArgMatches, CommandFactory as _, FromArgMatches as _, Parser};

use crate::command::words::Quoted;

/// Balance connections over servers, so that a client keeps its server and a server that fails is not noticed.
///
/// A command line of C pen means here what it meant there. Whatever has no letter is said with -O or in a
/// file, see pen(1); `penctl ADDRESS help` lists it.
#[derive(Clone, Debug, Parser)]
#[expect(clippy::struct_excessive_bools, reason = "each is an option that was typed or not")]
#[command(name = "pen", version, disable_help_flag = true, max_term_width = 100)]
pub struct PenArgs {
    /// Folder of authorities that vouch for clients
    #[arg(short = 'A', value_name = "DIR", help_heading = "TLS")]
    pub ca_dir: Option<OsString>,
    /// The server for clients that the access list denies
    #[arg(short = 'B', value_name = "SERVER", help_heading = "Servers")]
    pub abuse: Option<OsString>,
    /// Where penctl connects to; not as root without -u, unless it is a path
    #[arg(short = 'C', value_name = "[HOST:]PORT|PATH", help_heading = "Control")]
    pub control: Option<String>,
    /// Accepted, without effect: data is forwarded as it comes
    #[arg(short = 'D', help_heading = "Without effect")]
    pub delayed_forward: bool,
    /// Certificate and its chain, which turns on TLS
    #[arg(short = 'E', value_name = "FILE", help_heading = "TLS")]
    pub certificate: Option<OsString>,
    /// File of commands; HUP reads it again
    #[arg(short = 'F', value_name = "FILE", help_heading = "Control")]
    pub file: Option<PathBuf>,
    /// File of authorities that vouch for clients
    #[arg(short = 'G', value_name = "FILE", help_heading = "TLS")]
    pub ca_file: Option<OsString>,
    /// Tell HTTP servers who the client is, by X-Forwarded-For and -Proto
    #[arg(short = 'H', action = ArgAction::Count, help_heading = "Connections")]
    pub http: u8,
    /// Private key, if it is not in the file of -E
    #[arg(short = 'K', value_name = "FILE", help_heading = "TLS")]
    pub key: Option<OsString>,
    /// Accepted, without effect: old protocols are off in any case
    #[arg(short = 'L', value_name = "PROTOCOL", value_parser = ["ssl23", "ssl2", "ssl3", "tls1"], help_heading = "Without effect")]
    pub protocol: Option<String>,
    /// Accepted, without effect, as in C pen
    #[arg(short = 'N', help_heading = "Without effect")]
    pub nothing: bool,
    /// Carry out a command of the control language; may be repeated
    #[arg(short = 'O', short_alias = 'o', value_name = "COMMAND", help_heading = "Control")]
    pub command: Vec<OsString>,
    /// Accepted, without effect: it is always epoll
    #[arg(short = 'P', help_heading = "Without effect")]
    pub poll: bool,
    /// Accepted, without effect: it is always epoll
    #[arg(short = 'Q', help_heading = "Without effect")]
    pub kqueue: bool,
    /// Clients need a certificate
    #[arg(short = 'R', help_heading = "TLS")]
    pub require_certificate: bool,
    /// Accepted, without effect: there is room for all servers
    #[arg(short = 'S', value_name = "N", help_heading = "Without effect")]
    pub servers_max: Option<u32>,
    /// How long a client keeps its server; 0 for ever
    #[arg(short = 'T', value_name = "TIME", help_heading = "Choosing")]
    pub tracking: Option<OsString>,
    /// Datagrams instead of connections
    #[arg(short = 'U', action = ArgAction::Count, help_heading = "Connections")]
    pub udp: u8,
    /// Choose by weight
    #[arg(short = 'W', action = ArgAction::Count, help_heading = "Choosing")]
    pub weight: u8,
    /// Allow the control command `exit`
    #[arg(short = 'X', help_heading = "Control")]
    pub exit: bool,
    /// Accepted, without effect: for OpenSSL
    #[arg(short = 'Z', help_heading = "Without effect")]
    pub ssl_compatible: bool,
    /// Accepted, without effect: there are no data dumps
    #[arg(short = 'a', help_heading = "Without effect")]
    pub ascii: bool,
    /// How long a server that failed is left alone [default: 30]
    #[arg(short = 'b', value_name = "TIME", help_heading = "Servers")]
    pub blacklist: Option<OsString>,
    /// Clients whose server is remembered [default: 2048]
    #[arg(short = 'c', value_name = "N", help_heading = "Choosing")]
    pub clients: Option<OsString>,
    /// Say more; twice, say everything
    #[arg(short = 'd', action = ArgAction::Count, help_heading = "Process")]
    pub debug: u8,
    /// The server for when no other works
    #[arg(short = 'e', value_name = "SERVER", help_heading = "Servers")]
    pub emergency: Option<OsString>,
    /// Stay in the foreground; messages go to stderr
    #[arg(short = 'f', help_heading = "Process")]
    pub foreground: bool,
    /// Choose by a hash of the client's address; with -r, and its port
    #[arg(short = 'h', action = ArgAction::Count, help_heading = "Choosing")]
    pub hash: u8,
    /// Accepted, without effect: for Windows
    #[arg(short = 'i', value_name = "NAME", help_heading = "Without effect")]
    pub service: Option<String>,
    /// Confine to this folder (chroot)
    #[arg(short = 'j', value_name = "DIR", help_heading = "Process")]
    pub jail: Option<PathBuf>,
    /// Where mapping records go: a file or a collector
    #[arg(short = 'l', value_name = "FILE|HOST:PORT", help_heading = "Records")]
    pub log: Option<OsString>,
    /// Clients accepted in one go [default: 100]
    #[arg(short = 'm', value_name = "N", help_heading = "Connections")]
    pub multi_accept: Option<OsString>,
    /// Accepted, without effect: sockets never block
    #[arg(short = 'n', help_heading = "Without effect")]
    pub blocking: bool,
    /// Write the pid to this file, and remove it at the end
    #[arg(short = 'p', value_name = "FILE", help_heading = "Process")]
    pub pid_file: Option<PathBuf>,
    /// Clients that wait to be accepted, at least 50 [default: 500]
    #[arg(short = 'q', value_name = "N", help_heading = "Connections")]
    pub backlog: Option<u32>,
    /// Servers in turn, whoever the client is
    #[arg(short = 'r', action = ArgAction::Count, help_heading = "Choosing")]
    pub roundrobin: u8,
    /// No other server if the first choice fails
    #[arg(short = 's', action = ArgAction::Count, help_heading = "Choosing")]
    pub stubborn: u8,
    /// How long a server may take to accept [default: 3]
    #[arg(short = 't', value_name = "TIME", help_heading = "Servers")]
    pub timeout: Option<OsString>,
    /// Become this user, by name or number
    #[arg(short = 'u', value_name = "USER", help_heading = "Process")]
    pub user: Option<String>,
    /// Write the state as a page to this file on USR1
    #[arg(short = 'w', value_name = "FILE", help_heading = "Records")]
    pub web_stats: Option<OsString>,
    /// Connections at a time [default: as many as there are descriptors for]
    #[arg(short = 'x', value_name = "N", help_heading = "Connections")]
    pub connections: Option<OsString>,
    /// Log each exchange of HTTP/1.x in this file, in combined format and more
    #[arg(long, value_name = "FILE", help_heading = "Records")]
    pub access_log: Option<OsString>,
    /// Show the state over HTTP here: /, /status.json, /metrics, /health
    #[arg(long, value_name = "ADDR:PORT", help_heading = "Records")]
    pub status: Option<std::net::SocketAddr>,
    /// Collect here, as penlogd does, what web servers and their penlog send, and put the real client into
    /// each line; records go there, too, unless -l says otherwise
    #[arg(long, value_name = "ADDR:PORT", requires = "merged_log", help_heading = "Records")]
    pub collect: Option<std::net::SocketAddr>,
    /// Where the lines of --collect are written; HUP opens it anew
    #[arg(long, value_name = "FILE", requires = "collect", help_heading = "Records")]
    pub merged_log: Option<PathBuf>,
    /// Who has to say by the PROXY protocol for whom it connects: networks, or unix
    #[arg(long, value_name = "NET[,NET...]", help_heading = "Connections")]
    pub accept_proxy: Option<OsString>,
    /// Tell servers who the client is by the PROXY protocol
    #[arg(long, value_name = "v1|v2", help_heading = "Connections")]
    pub send_proxy: Option<OsString>,
    /// Say what is wrong with the configuration, if anything, and end
    #[arg(long, help_heading = "Process")]
    pub check: bool,
    /// Print each setting that is in force and where it came from, and end
    #[arg(long, help_heading = "Process")]
    pub explain: bool,
    /// Show this
    #[arg(long, action = ArgAction::Help, help_heading = "Process")]
    pub help: Option<bool>,
    /// Where clients connect to: PORT, HOST:PORT or a path (not if the file of -F says `listen`); then
    /// the servers, `HOST[:PORT[:SOFT[:HARD[:WEIGHT[:PRIO]]]]]`, IPv6 in brackets
    #[arg(value_name = "LISTEN SERVER")]
    pub addresses: Vec<String>,
    /// Commands of the control language that were typed as options, in their order.
    #[arg(skip)]
    pub commands: Vec<OptionCommand>,
}

/// A command of the control language, typed as an option.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OptionCommand {
    /// The option.
    pub option: &'static str,
    /// As it would stand in a file.
    pub line: Vec<u8>,
}

/// What an option is as a command.
enum Spelling {
    /// It has a value, and that verb takes it.
    Value(&'static str),
    /// It has values with commas between them, and that verb takes them.
    List(&'static str),
    /// It is that command.
    Word(&'static str),
    /// Its value is a command.
    Line,
}

const SPELLINGS: [(&str, &str, Spelling); 28] = [
    ("access_log", "--access-log", Spelling::Value("access_log")),
    ("ca_dir", "-A", Spelling::Value("ssl_ca_path")),
    ("abuse", "-B", Spelling::Value("abuse")),
    ("certificate", "-E", Spelling::Value("ssl_certificate")),
    ("ca_file", "-G", Spelling::Value("ssl_ca_file")),
    ("http", "-H", Spelling::Word("http")),
    ("key", "-K", Spelling::Value("ssl_key")),
    ("command", "-O", Spelling::Line),
    ("require_certificate", "-R", Spelling::Word("ssl_client_certificate required")),
    ("tracking", "-T", Spelling::Value("tracking")),
    ("udp", "-U", Spelling::Word("udp")),
    ("weight", "-W", Spelling::Word("weight")),
    ("blacklist", "-b", Spelling::Value("blacklist")),
    ("clients", "-c", Spelling::Value("clients_max")),
    ("emergency", "-e", Spelling::Value("emergency")),
    ("hash", "-h", Spelling::Word("hash")),
    ("log", "-l", Spelling::Value("log")),
    ("multi_accept", "-m", Spelling::Value("multi_accept")),
    ("roundrobin", "-r", Spelling::Word("roundrobin")),
    ("stubborn", "-s", Spelling::Word("stubborn")),
    ("timeout", "-t", Spelling::Value("timeout")),
    ("web_stats", "-w", Spelling::Value("web_stats")),
    ("connections", "-x", Spelling::Value("conn_max")),
    ("backlog", "-q", Spelling::Value("backlog")),
    ("accept_proxy", "--accept-proxy", Spelling::List("accept_proxy")),
    ("send_proxy", "--send-proxy", Spelling::Value("send_proxy")),
    ("debug", "-d", Spelling::Value("debug")),
    ("ascii", "-a", Spelling::Word("ascii")),
];

impl PenArgs {
    /// Reads a command line, the program's name first.
    ///
    /// # Errors
    /// What clap says of it: an error, or the text of `--help` or `--version`.
    pub fn read<I, T>(words: I) -> Result<Self, clap::Error>
    where
        I: IntoIterator<Item = T>,
        T: Into<OsString> + Clone,
    {
        let matches = Self::command().try_get_matches_from(words)?;
        let mut args = Self::from_arg_matches(&matches)?;
        args.commands = typed(&args, &matches);
        Ok(args)
    }

    /// What was typed and has no effect, and why.
    #[must_use]
    pub fn without_effect(&self) -> Vec<String> {
        let options = [
            (self.delayed_forward, "-D has no effect: data is forwarded as it comes"),
            (self.protocol.is_some(), "-L has no effect: old protocols are off in any case"),
            (self.nothing, "-N has no effect"),
            (self.poll, "-P has no effect: it is always epoll"),
            (self.kqueue, "-Q has no effect: it is always epoll"),
            (self.servers_max.is_some(), "-S has no effect: there is room for all servers"),
            (self.ssl_compatible, "-Z has no effect: it is for OpenSSL"),
            (self.blocking, "-n has no effect: sockets never block"),
            (self.service.is_some(), "-i has no effect: it is for Windows"),
        ];
        options.into_iter().filter(|(typed, _)| *typed).map(|(_, why)| why.to_owned()).collect()
    }
}

/// The commands among the options, in their order.
fn typed(args: &PenArgs, matches: &ArgMatches) -> Vec<OptionCommand> {
    let mut found = Vec::new();
    for (id, option, spelling) in SPELLINGS {
        let Some(indices) = matches.indices_of(id) else { continue };
        // Options that were not typed have an index, too, if they have a default.
        if matches.value_source(id) != Some(clap::parser::ValueSource::CommandLine) {
            continue;
        }
        let line = |value: &OsString| match spelling {
            Spelling::Line => value.as_encoded_bytes().to_vec(),
            Spelling::Value(verb) => format!("{verb} {}", Quoted(value)).into_bytes(),
            Spelling::List(verb) => {
                let mut line = verb.as_bytes().to_vec();
                for word in value.as_encoded_bytes().split(|&byte| byte == b',') {
                    let word = Quoted(OsStr::from_bytes(word));
                    line.extend_from_slice(format!(" {word}").as_bytes());
                }
                line
            }
            Spelling::Word(word) => word.as_bytes().to_vec(),
        };
        let values: Vec<OsString> = match id {
            "debug" => vec![args.debug.to_string().into()],
            // C pen never goes below this either.
            "backlog" => vec![args.backlog.unwrap_or_default().max(50).to_string().into()],
            _ if matches!(spelling, Spelling::Word(_)) => vec![OsString::new()],
            _ => matches.get_many::<OsString>(id).into_iter().flatten().cloned().collect(),
        };
        for (index, value) in indices.zip(&values) {
            found.push((index, OptionCommand { option, line: line(value) }));
        }
    }
    found.sort_by_key(|(index, _)| *index);
    found.into_iter().map(|(_, typed)| typed).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(line: &str) -> Result<PenArgs, clap::Error> {
        PenArgs::read(std::iter::once("pen").chain(line.split_whitespace()))
    }

    #[test]
    fn the_definition_holds_together() {
        PenArgs::command().debug_assert();
    }

    #[test]
    fn options_become_commands_in_their_order() {
        let args = read(
            "-b5 -Whd -O hash -t 7 -o stubborn -d -l log -q 5 80 s1 s2:81 \
                         --send-proxy v2 --accept-proxy 10.0.0.0/8,unix",
        )
        .unwrap();
        let lines: Vec<_> = args
            .commands
            .iter()
            .map(|typed| format!("{} {}", typed.option, String::from_utf8_lossy(&typed.line)))
            .collect();
        assert_eq!(
            lines,
            [
                "-b blacklist 5",
                "-W weight",
                "-h hash",
                "-O hash",
                "-t timeout 7",
                "-O stubborn",
                // Counted, so where it was typed last.
                "-d debug 2",
                "-l log log",
                "-q backlog 50",
                "--send-proxy send_proxy v2",
                "--accept-proxy accept_proxy 10.0.0.0/8 unix",
            ]
        );
        assert_eq!(args.addresses, ["80", "s1", "s2:81"]);
    }

    #[test]
    fn every_letter_of_c_pen_is_accepted() {
        let args = read(
            "-A d -B s -C 1 -D -E e -F f -G g -H -K k -L tls1 -N -O hash -P -Q -R -S 9 -T 1 -U -W -X -Z \
             -a -b 1 -c 1 -d -e s -f -h -i n -j d -l l -m 1 -n -o hash -p p -q 1 -r -s -t 1 -u u -w w -x 1 \
             8080 a b",
        )
        .unwrap();
        assert_eq!(args.without_effect().len(), 9, "{:?}", args.without_effect());
        assert!(args.exit && args.foreground);
        // Options may stand behind the addresses, as getopt has it.
        assert_eq!(read("80 a -r b -X").unwrap().addresses, ["80", "a", "b"]);
    }

    #[test]
    fn misuse_is_refused() {
        for line in ["-y", "-b", "-L ssl9 80 a", "-S x 80 a", "-q x 80 a", "--status here 80 a"] {
            assert_eq!(read(line).expect_err(line).exit_code(), 2, "{line}");
        }
        assert_eq!(read("--help").expect_err("it is help").exit_code(), 0);
    }
}
