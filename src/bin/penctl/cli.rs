//! The command line. The doc comments are the help text; `docs/man/penctl.1` is written by hand.

use std::time::Duration;

use clap::error::ErrorKind;
use clap::{CommandFactory as _, Parser};
use pen_daemon::arguments::without_wrong_tip;

/// Where the shipped unit has pen listen for commands.
const USUAL_ADDRESS: &str = "/run/pen/control";

/// Send a command to a running pen and print its reply
///
/// penctl works with C pen as well. Exit status: 0 if the command was carried out, 1 if not, 2 for a wrong command
/// line.
#[derive(Debug, Parser)]
#[command(
    name = "penctl",
    version,
    max_term_width = 100,
    override_usage = "penctl [OPTIONS] [ADDRESS] <COMMAND>..."
)]
pub(crate) struct PenctlArgs {
    /// Print the reply as JSON
    #[arg(long)]
    pub(crate) json: bool,
    /// Timeout for the reply of pen: seconds, or a number followed by ms, s, m or h
    #[arg(short = 't', long, value_name = "TIME", default_value = "10", value_parser = nonzero_time)]
    pub(crate) timeout: Duration,
    /// With `top`: time between two updates
    #[arg(long, value_name = "TIME", default_value = "2", value_parser = nonzero_time)]
    pub(crate) interval: Duration,
    /// With `top`: print this many tables, one after the other, and exit
    #[arg(short = 'n', value_name = "COUNT", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) count: Option<u32>,
    /// Control port of pen: HOST:PORT, or the path of a socket; /run/pen/control if the first word is a command
    #[arg(value_name = "ADDRESS", default_value = "", hide_default_value = true)]
    pub(crate) address: String,
    /// Command, see `help`; `top` for a live table; `-` to read one command per line from standard input
    #[arg(value_name = "COMMAND", trailing_var_arg = true, allow_hyphen_values = true)]
    pub(crate) command: Vec<String>,
    /// Whether the command line names no address.
    #[arg(skip)]
    pub(crate) is_usual: bool,
}

impl PenctlArgs {
    /// Parses the command line of this process. A first word that is a command stands for the usual address and that
    /// command.
    pub(crate) fn of_process() -> Result<Self, clap::Error> {
        Self::try_parse_from(std::env::args_os()).map_err(without_wrong_tip)?.with_address()
    }

    fn with_address(mut self) -> Result<Self, clap::Error> {
        let is_command = |word: &str| {
            matches!(word, "top" | "-")
                || pen::command::verbs::is_verb(word.split(' ').next().unwrap_or_default())
        };
        if is_command(&self.address) {
            let first = std::mem::replace(&mut self.address, USUAL_ADDRESS.to_owned());
            self.command.insert(0, first);
            self.is_usual = true;
        }
        if self.command.is_empty() {
            let text = match &*self.address {
                "" => "expected a command, as in penctl servers: see penctl --help".to_owned(),
                address if address.contains([':', '/']) => {
                    format!("{address} is an address without a command: see penctl --help")
                }
                word => match pen::command::verbs::nearest(word) {
                    Some(verb) => format!("unknown command '{word}': did you mean '{verb}'?"),
                    None => {
                        format!("{word} is neither an address nor a command: see penctl --help")
                    }
                },
            };
            return Err(Self::command().error(ErrorKind::MissingRequiredArgument, text));
        }
        Ok(self)
    }
}

fn nonzero_time(text: &str) -> Result<Duration, String> {
    let time = pen::command::duration(text).filter(|time| !time.is_zero());
    time.ok_or_else(|| "expected seconds, or a number followed by ms, s, m or h".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(words: &[&str]) -> Result<PenctlArgs, clap::Error> {
        PenctlArgs::try_parse_from(words)?.with_address()
    }

    #[test]
    fn the_definition_is_consistent() {
        PenctlArgs::command().debug_assert();
    }

    #[test]
    fn words_after_the_address_are_the_command() {
        let words =
            ["penctl", "--json", "-t", "500ms", "localhost:10000", "server", "1", "max", "-1"];
        let args = parse(&words).unwrap();
        assert_eq!(args.command, ["server", "1", "max", "-1"]);
        assert!(args.json && args.timeout == Duration::from_millis(500));
        for wrong in [&["penctl"][..], &["penctl", "a:1"], &["penctl", "-t", "0", "a:1", "pid"]] {
            assert_eq!(parse(wrong).unwrap_err().exit_code(), 2, "{wrong:?}");
        }
    }

    #[test]
    fn a_command_alone_goes_to_the_usual_address() {
        for (words, command) in [
            (&["penctl", "servers"][..], &["servers"][..]),
            (&["penctl", "-t", "5", "server", "1", "max", "-1"], &["server", "1", "max", "-1"]),
            (&["penctl", "server 1 max 5"], &["server 1 max 5"]),
            (&["penctl", "--json", "status"], &["status"]),
            (&["penctl", "top"], &["top"]),
        ] {
            let args = parse(words).unwrap();
            assert_eq!((&*args.address, args.is_usual), (USUAL_ADDRESS, true), "{words:?}");
            assert_eq!(args.command, command);
        }
    }
}
