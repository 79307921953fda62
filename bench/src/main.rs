//! `pen-bench`: what the programs do, shown, and measured beside others.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use pen_bench::{ActionError, accuracy, attack, children, delivery, soak, speed, story};
use pen_daemon::error::{Exit, complain};

#[derive(Parser)]
#[command(name = "pen-bench", about)]
struct BenchArgs {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// How many lines name the right client: real programs, known truth, ours beside the C programs
    Accuracy(accuracy::AccuracyArgs),
    /// What somebody gets in who reaches the collector's port, with keys and without
    Attack(attack::AttackArgs),
    /// What is lost and what comes twice when the collector or the shipper is killed, restarted or stopped
    Delivery(delivery::DeliveryArgs),
    /// Mixed load through the balancer for a while, good and bad; fails if its memory grows
    Soak(soak::SoakArgs),
    /// How fast: ratios to other programs in the same run
    Speed(speed::SpeedArgs),
    /// Make the stories of `fixtures/` again, by running the real programs
    Story {
        /// The folder that gets one folder a story
        folder: PathBuf,
    },
}

fn main() -> ExitCode {
    let command = BenchArgs::parse().command;
    let done: Result<(), ActionError> = children::end_together().and_then(|()| match command {
        Command::Accuracy(args) => accuracy::run(&args),
        Command::Attack(args) => attack::run(&args),
        Command::Delivery(args) => delivery::run(&args),
        Command::Soak(args) => soak::run(&args),
        Command::Speed(args) => speed::run(&args),
        Command::Story { folder } => story::run(&folder),
    });
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => complain("pen-bench", &error, Exit::Failed).into(),
    }
}
