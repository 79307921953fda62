//! `penctl`: sends a command to a running pen and prints the reply.
//!
//! [`cli`] is what was typed, [`talk`] the conversation, [`json`] the reply for programs, [`top`] the live
//! table.

mod cli;
mod json;
mod talk;
mod top;

use std::io::{self, BufRead as _, Write as _};
use std::process::ExitCode;

use clap::Parser as _;

use crate::cli::Args;
use crate::talk::{Pen, Reply, TalkError};

const FAILED: u8 = 1;
const MISUSED: u8 = 2;

fn main() -> ExitCode {
    let args = match Args::try_parse() {
        Ok(args) => args,
        Err(error) => {
            // A closed pipe is no reason for a second error.
            drop(error.print());
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(MISUSED));
        }
    };
    let pen = Pen { address: args.address.clone(), timeout: args.timeout };
    match run(&args, &pen) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(FAILED),
        Err(error) => {
            complain(&error.to_string());
            ExitCode::from(FAILED)
        }
    }
}

fn complain(text: &str) {
    // Nobody can be told that nobody can be told.
    writeln!(io::stderr(), "penctl: {text}").unwrap_or_default();
}

/// Whether all that was asked was done.
fn run(args: &Args, pen: &Pen) -> Result<bool, TalkError> {
    match args.command.as_slice() {
        [top] if top == "top" => top::run(args, pen),
        [dash] if dash == "-" => batch(args, pen),
        words => {
            let command = spell(args, &words.join(" "));
            let reply = pen.ask(&command)?;
            Ok(print(args, &command, &reply))
        }
    }
}

/// For programs the whole state is asked for in their language.
fn spell(args: &Args, command: &str) -> String {
    if args.json && command.trim() == "status" { "status json".into() } else { command.into() }
}

/// A command in each line of the standard input.
fn batch(args: &Args, pen: &Pen) -> Result<bool, TalkError> {
    let mut session = pen.session()?;
    let mut all_done = true;
    for line in io::stdin().lock().split(b'\n') {
        let Ok(line) = line else { return Ok(false) };
        let line = spell(args, &String::from_utf8_lossy(&line));
        if line.trim().is_empty() || line.trim_start().starts_with('#') {
            continue;
        }
        let reply = match &mut session {
            Some(session) => session.ask(&line)?,
            None => pen.ask(&line)?,
        };
        all_done &= print(args, &line, &reply);
    }
    Ok(all_done)
}

/// Replies to standard output, errors to standard error.
fn print(args: &Args, command: &str, reply: &Reply) -> bool {
    if args.json {
        // A closed pipe is an end, not an error.
        writeln!(io::stdout(), "{}", json::reply(command, reply)).unwrap_or_default();
    } else if !reply.done {
        complain(reply.text.trim_end());
    } else if !reply.text.is_empty() {
        let end = if reply.text.ends_with('\n') { "" } else { "\n" };
        write!(io::stdout(), "{}{end}", reply.text).unwrap_or_default();
    }
    reply.done
}
