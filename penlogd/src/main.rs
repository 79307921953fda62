//! penlogd: the library has the details.

use std::io::Write as _;
use std::process::ExitCode;

use clap::Parser as _;

use pen_daemon::arguments::without_wrong_tip;
use pen_daemon::error::{ActionError, Doing as _, Exit, complain};
use penlogd::cli::{CollectorArgs, CollectorConfig};
use penlogd::lookup::ExplainArgs;
use penlogd::run::run;

const NAME: &str = "penlogd";

fn main() -> ExitCode {
    if std::env::args_os().nth(1).is_some_and(|word| word == "explain") {
        return explain();
    }
    if std::env::args_os().nth(1).is_some_and(|word| word == "keygen") {
        return keygen();
    }
    let args = CollectorArgs::try_parse().unwrap_or_else(|error| without_wrong_tip(error).exit());
    if let Some((text, code)) = args.check() {
        // The reader may have closed the pipe.
        let _ = std::io::stdout().write_all(text.as_bytes());
        return ExitCode::from(code);
    }
    let config = match CollectorConfig::try_from(args) {
        Ok(config) => config,
        Err(error) => return complain(NAME, &error, Exit::Misused).into(),
    };
    run(config).unwrap_or_else(|error| complain(NAME, &error, Exit::Failed).into())
}

/// Runs `penlogd explain`, which explains lines of a log.
fn explain() -> ExitCode {
    let question = ExplainArgs::parse_from(
        std::iter::once("penlogd explain".into()).chain(std::env::args_os().skip(2)),
    );
    match question.answer(&mut std::io::stdout().lock()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => Exit::Failed.into(),
        Err(error) => complain(NAME, &error, Exit::Failed).into(),
    }
}

/// Runs `penlogd keygen FILE`, which makes a key pair and prints the public key.
fn keygen() -> ExitCode {
    let mut words = std::env::args_os().skip(2);
    let (Some(path), None) = (words.next(), words.next()) else {
        let usage = ActionError::new(
            "expected penlogd keygen FILE: writes a new private key to FILE and prints its public key",
        );
        return complain(NAME, &usage, Exit::Misused).into();
    };
    match pen_stream::keys::keygen(path.as_ref()).doing("make a key") {
        Ok(line) => {
            // The reader may have closed the pipe.
            let _ = std::io::stdout().write_all(line.as_bytes());
            ExitCode::SUCCESS
        }
        Err(error) => complain(NAME, &error, Exit::Failed).into(),
    }
}
