//! `penctl`: sends a command to a running pen and prints the reply.
//!
//! [`cli`] has the arguments, [`talk`] the connection to pen, [`json`] the replies for programs, [`top`] the live
//! table.

mod cli;
mod json;
mod talk;
mod top;

use std::io::{self, BufRead as _, Write as _};
use std::process::ExitCode;

use pen_daemon::error::{ActionError, Exit, complain, say};

use crate::cli::PenctlArgs;
use crate::talk::{ControlAddress, PenReply};

fn main() -> ExitCode {
    let args = match PenctlArgs::of_process() {
        Ok(args) => args,
        Err(error) => {
            let _ = error.print(); // Help or error cannot be printed: the pipe is closed.
            return if error.use_stderr() { Exit::Misused.into() } else { Exit::Done.into() };
        }
    };
    let pen = ControlAddress { address: args.address.clone(), timeout: args.timeout };
    match run(&args, &pen) {
        Ok(true) => Exit::Done.into(),
        Ok(false) => Exit::Failed.into(),
        Err(error) => {
            let exit = complain("penctl", &error, Exit::Failed);
            if args.is_usual {
                let command = args.command.join(" ");
                let text = format!(
                    "where pen listens may stand first, as in penctl localhost:10000 {command}"
                );
                say("penctl", &text);
            }
            exit.into()
        }
    }
}

/// Carries out the command line. Returns whether pen carried out all commands.
fn run(args: &PenctlArgs, pen: &ControlAddress) -> Result<bool, ActionError> {
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

/// Returns the command to send: with `--json`, `status` asks for JSON.
fn spell(args: &PenctlArgs, command: &str) -> String {
    if args.json && command.trim() == "status" { "status json".into() } else { command.into() }
}

/// Sends each line of standard input as a command.
fn batch(args: &PenctlArgs, pen: &ControlAddress) -> Result<bool, ActionError> {
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

/// Prints a reply to standard output, an error to standard error. Returns whether the command was carried out.
fn print(args: &PenctlArgs, command: &str, reply: &PenReply) -> bool {
    if args.json {
        let _ = writeln!(io::stdout(), "{}", json::reply(command, reply)); // A closed pipe is no error.
    } else if !reply.done {
        say("penctl", reply.text.trim_end());
    } else if !reply.text.is_empty() {
        let end = if reply.text.ends_with('\n') { "" } else { "\n" };
        let _ = write!(io::stdout(), "{}{end}", reply.text); // A closed pipe is no error.
    }
    reply.done
}
