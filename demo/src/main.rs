//! `cargo demo`: a balanced site on loopback, and the log that names its clients.
//!
//! The program contains `pen` and `penlog` and starts itself under their names, so one build of few crates makes
//! everything that the demonstration runs.

mod client;
mod site;
mod web;

use std::error::Error;
use std::io::{self, IsTerminal as _};
use std::path::Path;
use std::process::ExitCode;

use pen::command::cli::PenArgs;
use pen::operate::run::{RunPlan, run};
use pen_daemon::error::{Doing as _, Exit, complain};

use site::DemoSite;

fn main() -> ExitCode {
    let name = std::env::args_os().next().unwrap_or_default();
    let done = match Path::new(&name).file_name().and_then(|name| name.to_str()) {
        Some("pen") => balance(),
        Some("penlog") => return penlog::main(),
        _ => demonstrate(),
    };
    done.unwrap_or_else(|error| complain("pen-demo", &*error, Exit::Failed).into())
}

/// Runs the balancer with the arguments of this process.
fn balance() -> Result<ExitCode, Box<dyn Error>> {
    run(&RunPlan::new(&PenArgs::read(std::env::args_os())?)?)
}

/// Shows the site, and keeps it running until the person at the terminal presses Enter.
fn demonstrate() -> Result<ExitCode, Box<dyn Error>> {
    let site = DemoSite::show()?;
    println!("The status page is at http://{}/ (also /status.json and /metrics).", site.status);
    if io::stdin().is_terminal() {
        println!("You may send more requests to http://{}/. Press Enter to end.", site.balancer);
        io::stdin().read_line(&mut String::new()).doing("read from the terminal")?;
    }
    Ok(ExitCode::SUCCESS)
}
