//! `pen-bench`: what the programs do, shown, and measured beside others.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use pen_bench::{Failure, accuracy, demo, soak, speed, story};

#[derive(Parser)]
#[command(name = "pen-bench", about)]
struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// How many lines name the right client: real programs, known truth, ours beside the C programs
    Accuracy(accuracy::Args),
    /// Show a site: a balancer, two web servers, four clients, and the log that names them
    Demo,
    /// Mixed load through the balancer for a while, good and bad; fails if its memory grows
    Soak(soak::Args),
    /// How fast: ratios to other programs in the same run
    Speed(speed::Args),
    /// Make the stories of `fixtures/` again, by running the real programs
    Story {
        /// The folder that gets one folder a story
        folder: PathBuf,
    },
}

fn main() -> ExitCode {
    let done: Result<(), Failure> = match Args::parse().command {
        Command::Accuracy(args) => accuracy::run(&args),
        Command::Demo => demo::run(),
        Command::Soak(args) => soak::run(&args),
        Command::Speed(args) => speed::run(&args),
        Command::Story { folder } => story::run(&folder),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("pen-bench: {failure}");
            ExitCode::FAILURE
        }
    }
}
