//! The command line. The doc comments of the fields are the help text; `docs/man/pen.1` is written by hand.
//!
//! An option that is a setting stands in the table of [`settings`]; on the command line it becomes a command of
//! the control language, whose origin is the option. [`crate::command::setup`] carries out these commands in
//! the order of the command line.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt as _;
use std::path::PathBuf;

use clap::builder::StyledStr;
use clap::parser::ValueSource;
use clap::{
    Arg, ArgAction, ArgMatches, CommandFactory as _, FromArgMatches as _, Parser, value_parser,
};
use pen_daemon::arguments::{socket_addr, without_wrong_tip};
use penlogd::cli::{JournalArgs, SenderArgs};

use crate::command::settings::{self, OptionForm, SettingOption, SettingRow, SettingValue};
use crate::command::words::Quoted;
use crate::config::PenConfig;

/// Balance connections over servers: a client keeps its server, and a failed server is left out.
///
/// Every command line of C pen keeps its meaning. Settings without an option are set by -O or in a file, see
/// pen(1); `penctl ADDRESS help` lists them.
#[derive(Clone, Debug, Parser)]
#[expect(clippy::struct_excessive_bools, reason = "each is an option that was typed or not")]
#[command(name = "pen", version, disable_help_flag = true, max_term_width = 100)]
pub struct PenArgs {
    /// Address of the control port, which penctl connects to; ignored for root without -u, unless it is a path
    #[arg(short = 'C', value_name = "[HOST:]PORT|PATH", help_heading = "Control")]
    pub control: Option<String>,
    /// Accepted, without effect: data is forwarded as it arrives
    #[arg(short = 'D', help_heading = "Without effect")]
    pub delayed_forward: bool,
    /// File of commands; read again on SIGHUP
    #[arg(short = 'F', value_name = "FILE", help_heading = "Control")]
    pub file: Option<PathBuf>,
    /// Accepted, without effect: versions before TLS 1.2 are never accepted
    #[arg(short = 'L', value_name = "PROTOCOL", value_parser = ["ssl23", "ssl2", "ssl3", "tls1"], help_heading = "Without effect")]
    pub protocol: Option<String>,
    /// Accepted, without effect, as in C pen
    #[arg(short = 'N', help_heading = "Without effect")]
    pub nothing: bool,
    /// Carry out a command of the control language; may be repeated
    #[arg(short = 'O', short_alias = 'o', value_name = "COMMAND", help_heading = "Control")]
    pub command: Vec<OsString>,
    /// Accepted, without effect: pen always uses epoll
    #[arg(short = 'P', help_heading = "Without effect")]
    pub poll: bool,
    /// Accepted, without effect: pen always uses epoll
    #[arg(short = 'Q', help_heading = "Without effect")]
    pub kqueue: bool,
    /// Accepted, without effect: the number of servers needs no limit
    #[arg(short = 'S', value_name = "N", help_heading = "Without effect")]
    pub servers_max: Option<u32>,
    /// Allow the control command `exit`
    #[arg(short = 'X', help_heading = "Control")]
    pub exit: bool,
    /// Accepted, without effect: for OpenSSL
    #[arg(short = 'Z', help_heading = "Without effect")]
    pub ssl_compatible: bool,
    /// Accepted, without effect: pen does not dump data
    #[arg(short = 'a', help_heading = "Without effect")]
    pub ascii: bool,
    /// Stay in the foreground and log to stderr
    #[arg(short = 'f', help_heading = "Process")]
    pub foreground: bool,
    /// Accepted, without effect: for Windows
    #[arg(short = 'i', value_name = "NAME", help_heading = "Without effect")]
    pub service: Option<String>,
    /// Confine the process to this folder (chroot)
    #[arg(short = 'j', value_name = "DIR", help_heading = "Process")]
    pub jail: Option<PathBuf>,
    /// Accepted, without effect: sockets never block
    #[arg(short = 'n', help_heading = "Without effect")]
    pub blocking: bool,
    /// Write the process id to this file, and remove the file at the end
    #[arg(short = 'p', value_name = "FILE", help_heading = "Process")]
    pub pid_file: Option<PathBuf>,
    /// Change to this user, by name or number
    #[arg(short = 'u', value_name = "USER", help_heading = "Process")]
    pub user: Option<String>,
    /// Serve the state over HTTP on this address: /, /status.json, /metrics, /health
    #[arg(long, value_name = "ADDR:PORT", value_parser = socket_addr, help_heading = "Records")]
    pub status: Option<std::net::SocketAddr>,
    /// Run a collector like penlogd on this address: receive the lines of web servers and penlog, and write the
    /// lines with the real client; mapping records go to this collector unless -l says otherwise
    #[arg(long, value_name = "ADDR:PORT", value_parser = socket_addr, requires = "merged_log", help_heading = "Collector")]
    pub collect: Option<std::net::SocketAddr>,
    /// Output file of --collect; opened again on SIGHUP
    #[arg(long, value_name = "FILE", requires = "collect", help_heading = "Collector")]
    pub merged_log: Option<PathBuf>,
    /// The options of the collector about senders.
    #[command(flatten, next_help_heading = "Collector")]
    pub senders: SenderArgs,
    /// The options of the collector about its journal.
    #[command(flatten, next_help_heading = "Collector")]
    pub journal: JournalArgs,
    /// Check the configuration and its files, print the errors, and exit
    #[arg(long, help_heading = "Process")]
    pub check: bool,
    /// Print each setting in force and its origin, and exit
    #[arg(long, help_heading = "Process")]
    pub explain: bool,
    /// Print this help
    #[arg(long, action = ArgAction::Help, help_heading = "Process")]
    pub help: Option<bool>,
    /// Address that clients connect to: PORT, HOST:PORT or a path (unused if the file of -F has `listen`); then
    /// the servers, `HOST[:PORT[:SOFT[:HARD[:WEIGHT[:PRIO]]]]]`, IPv6 in brackets
    #[arg(value_name = "LISTEN SERVER")]
    pub addresses: Vec<String>,
    /// The options that are commands of the control language, in the order of the command line.
    #[arg(skip)]
    pub commands: Vec<OptionCommand>,
}

/// What the program does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PenMode {
    /// Balance connections.
    Run,
    /// Check the configuration: `--check`.
    Check,
    /// Print the settings and their origins: `--explain`.
    Explain,
    /// Check the configuration, and print the settings if it is right.
    CheckAndExplain,
}

/// A command of the control language that was typed as an option.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OptionCommand {
    /// The option with its hyphens.
    pub option: &'static str,
    /// The command as it would stand in a file.
    pub line: Vec<u8>,
}

impl PenArgs {
    /// Returns all options: the fields of this type, and the options of the settings.
    #[must_use]
    pub fn definition() -> clap::Command {
        let options = settings::rows().iter().filter_map(|row| Some(arg(row, row.option?)));
        Self::command().args(options)
    }

    /// Parses a command line, the program's name first.
    ///
    /// # Errors
    /// The error of clap, or the text of `--help` or `--version`.
    pub fn read<I, T>(words: I) -> Result<Self, clap::Error>
    where
        I: IntoIterator<Item = T>,
        T: Into<OsString> + Clone,
    {
        let matches = Self::definition().try_get_matches_from(words).map_err(without_wrong_tip)?;
        let mut args = Self::from_arg_matches(&matches)?;
        args.commands = commands(&matches);
        Ok(args)
    }

    /// Returns what the program does.
    #[must_use]
    pub const fn mode(&self) -> PenMode {
        match (self.check, self.explain) {
            (false, false) => PenMode::Run,
            (true, false) => PenMode::Check,
            (false, true) => PenMode::Explain,
            (true, true) => PenMode::CheckAndExplain,
        }
    }

    /// Returns a warning for each option that has no effect.
    #[must_use]
    pub fn without_effect(&self) -> Vec<String> {
        let options = [
            (self.delayed_forward, "-D has no effect: data is forwarded as it arrives"),
            (
                self.protocol.is_some(),
                "-L has no effect: versions before TLS 1.2 are never accepted",
            ),
            (self.nothing, "-N has no effect"),
            (self.poll, "-P has no effect: pen always uses epoll"),
            (self.kqueue, "-Q has no effect: pen always uses epoll"),
            (self.servers_max.is_some(), "-S has no effect: the number of servers needs no limit"),
            (self.ssl_compatible, "-Z has no effect: it is for OpenSSL"),
            (self.blocking, "-n has no effect: sockets never block"),
            (self.service.is_some(), "-i has no effect: it is for Windows"),
        ];
        options.into_iter().filter(|(typed, _)| *typed).map(|(_, why)| why.to_owned()).collect()
    }
}

/// Returns the option of a setting.
fn arg(row: &'static SettingRow, option: SettingOption) -> Arg {
    let arg = Arg::new(row.verb).help(help(row, option)).help_heading(option.heading);
    let arg = match option.name.strip_prefix("--") {
        Some(long) => arg.long(long),
        None => arg.short(option.name.chars().nth(1)),
    };
    let value_name = row.usage.trim_matches(['[', ']']);
    match option.form {
        OptionForm::Switch | OptionForm::Count => arg.action(ArgAction::Count),
        OptionForm::Fixed(_) => arg.action(ArgAction::SetTrue),
        OptionForm::Value => arg.value_name(value_name).value_parser(value_parser!(OsString)),
        OptionForm::Commas => arg.value_name("NET[,NET...]").value_parser(value_parser!(OsString)),
        OptionForm::AtLeast(_) => arg.value_name(value_name).value_parser(value_parser!(u32)),
    }
}

/// Returns the help text of the setting as a sentence, with the default value if there is one.
fn help(row: &SettingRow, option: SettingOption) -> StyledStr {
    let mut letters = row.help.chars();
    let first = letters.next().map(|letter| letter.to_ascii_uppercase());
    let mut help: String = first.into_iter().chain(letters).collect();
    if let (OptionForm::Value | OptionForm::AtLeast(_), Some(default)) =
        (option.form, row.value(&PenConfig::default()))
        && let SettingValue::Number(1..) | SettingValue::Time(_) = default
        && default != SettingValue::Time(std::time::Duration::ZERO)
    {
        help += &format!(" [default: {default}]");
    }
    help.into()
}

/// Returns the commands among the options, in the order of the command line.
fn commands(matches: &ArgMatches) -> Vec<OptionCommand> {
    let mut found = Vec::new();
    let mut add = |id: &str, option: &'static str, lines: Vec<Vec<u8>>| {
        let indices = matches.indices_of(id).into_iter().flatten();
        found.extend(indices.zip(lines).map(|(at, line)| (at, OptionCommand { option, line })));
    };
    // Options with a default have an index even if they were not typed.
    let is_typed = |id| matches.value_source(id) == Some(ValueSource::CommandLine);
    if is_typed("command") {
        let values = matches.get_many::<OsString>("command").into_iter().flatten();
        add("command", "-O", values.map(|line| line.as_encoded_bytes().to_vec()).collect());
    }
    if is_typed("ascii") {
        add("ascii", "-a", vec![b"ascii".to_vec()]);
    }
    for row in settings::rows() {
        if let Some(option) = row.option.filter(|_| is_typed(row.verb)) {
            add(row.verb, option.name, vec![line(row, option.form, matches)]);
        }
    }
    found.sort_by_key(|(at, _)| *at);
    found.into_iter().map(|(_, command)| command).collect()
}

/// Returns the command of an option that was typed.
fn line(row: &SettingRow, form: OptionForm, matches: &ArgMatches) -> Vec<u8> {
    let verb = row.verb;
    let typed = || matches.get_one::<OsString>(verb).map(OsString::as_os_str).unwrap_or_default();
    match form {
        OptionForm::Switch => verb.to_owned(),
        OptionForm::Fixed(value) => format!("{verb} {value}"),
        OptionForm::Count => format!("{verb} {}", matches.get_count(verb)),
        OptionForm::Value => format!("{verb} {}", Quoted(typed())),
        OptionForm::Commas => {
            let words = typed().as_bytes().split(|&byte| byte == b',');
            words.fold(verb.to_owned(), |line, word| {
                format!("{line} {}", Quoted(OsStr::from_bytes(word)))
            })
        }
        OptionForm::AtLeast(least) => {
            let number = matches.get_one::<u32>(verb).copied().unwrap_or_default();
            format!("{verb} {}", number.max(least))
        }
    }
    .into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(line: &str) -> Result<PenArgs, clap::Error> {
        PenArgs::read(std::iter::once("pen").chain(line.split_whitespace()))
    }

    #[test]
    fn the_definition_holds_together() {
        PenArgs::definition().debug_assert();
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
