//! The command line. The doc comments are the help text; `docs/man/penctl.1` is written by hand.

use std::time::Duration;

use clap::Parser;

/// Send a command to a running pen and print its reply
///
/// penctl works with C pen as well. Exit status: 0 if the command was carried out, 1 if not, 2 for a wrong command
/// line.
#[derive(Debug, Parser)]
#[command(name = "penctl", version, max_term_width = 100)]
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
    /// Control port of pen: HOST:PORT, or the path of a socket
    #[arg(value_name = "ADDRESS")]
    pub(crate) address: String,
    /// Command, see `help`; `top` for a live table; `-` to read one command per line from standard input
    #[arg(
        value_name = "COMMAND",
        required = true,
        trailing_var_arg = true,
        allow_hyphen_values = true
    )]
    pub(crate) command: Vec<String>,
}

fn nonzero_time(text: &str) -> Result<Duration, String> {
    let time = pen::command::duration(text).filter(|time| !time.is_zero());
    time.ok_or_else(|| "expected seconds, or a number followed by ms, s, m or h".to_owned())
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_definition_is_consistent() {
        PenctlArgs::command().debug_assert();
    }

    #[test]
    fn words_after_the_address_are_the_command() {
        let words =
            ["penctl", "--json", "-t", "500ms", "localhost:10000", "server", "1", "max", "-1"];
        let args = PenctlArgs::try_parse_from(words).unwrap();
        assert_eq!(args.command, ["server", "1", "max", "-1"]);
        assert!(args.json && args.timeout == Duration::from_millis(500));
        for wrong in [&["penctl"][..], &["penctl", "a:1"], &["penctl", "-t", "0", "a:1", "pid"]] {
            assert_eq!(PenctlArgs::try_parse_from(wrong).unwrap_err().exit_code(), 2, "{wrong:?}");
        }
    }
}
