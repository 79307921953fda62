//! `Args`: what was typed. The doc comments are the help text; `docs/man/penctl.1` is by hand.

use std::time::Duration;

use clap::Parser;

/// Send a command to a running pen and print its reply
///
/// It speaks to C pen as well. Exits with 0 if the command was carried out, 1 if it was not, 2 if
/// this command line makes no sense.
#[derive(Debug, Parser)]
#[command(name = "penctl", version, max_term_width = 100)]
pub(crate) struct Args {
    /// Print the reply as JSON
    #[arg(long)]
    pub(crate) json: bool,
    /// How long to wait for pen: seconds, or a number with ms, s or m behind it
    #[arg(short = 't', long, value_name = "TIME", default_value = "10", value_parser = time)]
    pub(crate) timeout: Duration,
    /// With `top`: how often to look
    #[arg(long, value_name = "TIME", default_value = "2", value_parser = time)]
    pub(crate) interval: Duration,
    /// With `top`: print so many tables, one after the other, and end
    #[arg(short = 'n', value_name = "COUNT", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) count: Option<u32>,
    /// Where pen's control port is: HOST:PORT, or the path of a socket
    #[arg(value_name = "ADDRESS")]
    pub(crate) address: String,
    /// The command, see `help`; `top` for a live table; `-` for a command in each line of the standard input
    #[arg(
        value_name = "COMMAND",
        required = true,
        trailing_var_arg = true,
        allow_hyphen_values = true
    )]
    pub(crate) command: Vec<String>,
}

fn time(text: &str) -> Result<Duration, String> {
    let time = pen::command::duration(text).filter(|time| !time.is_zero());
    time.ok_or_else(|| "expected seconds, or a number with ms, s or m behind it".to_owned())
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_definition_holds_together() {
        Args::command().debug_assert();
    }

    #[test]
    fn words_behind_the_address_are_the_command() {
        let words =
            ["penctl", "--json", "-t", "500ms", "localhost:10000", "server", "1", "max", "-1"];
        let args = Args::try_parse_from(words).unwrap();
        assert_eq!(args.command, ["server", "1", "max", "-1"]);
        assert!(args.json && args.timeout == Duration::from_millis(500));
        for wrong in [&["penctl"][..], &["penctl", "a:1"], &["penctl", "-t", "0", "a:1", "pid"]] {
            assert_eq!(Args::try_parse_from(wrong).unwrap_err().exit_code(), 2, "{wrong:?}");
        }
    }
}
