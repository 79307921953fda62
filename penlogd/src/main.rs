//! penlogd: see the library for what it does.

use std::error::Error;
use std::io::Write as _;
use std::process::ExitCode;

use clap::Parser as _;

use penlogd::cli::{Args, Config};
use penlogd::lookup::Question;
use penlogd::run::run;

const FAILED: u8 = 1;
const MISUSED: u8 = 2;

fn main() -> ExitCode {
    if std::env::args_os().nth(1).is_some_and(|word| word == "explain") {
        return explain();
    }
    let args = Args::parse();
    if let Some((text, code)) = args.check() {
        // A reader that has gone has read enough.
        drop(std::io::stdout().write_all(text.as_bytes()));
        return ExitCode::from(code);
    }
    let config = match Config::try_from(args) {
        Ok(config) => config,
        Err(error) => return complain(&error, MISUSED),
    };
    run(config).unwrap_or_else(|error| complain(&error, FAILED))
}

/// `penlogd explain`: looks lines up in a log.
fn explain() -> ExitCode {
    let question = Question::parse_from(std::env::args_os().skip(1));
    match question.answer(&mut std::io::stdout().lock()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(FAILED),
        Err(error) => complain(&error, FAILED),
    }
}

fn complain(error: &dyn Error, code: u8) -> ExitCode {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    eprintln!("penlogd: {text}");
    ExitCode::from(code)
}
