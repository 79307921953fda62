//! What is lost and what comes twice when programs are killed, restarted and stopped under traffic.
//!
//! Every line carries a number. A site writes them at a steady rate into a pipe or a file, `penlog` sends them to
//! `penlogd`, and meanwhile one of the two is disturbed. Afterwards the numbers in the merged log are counted.

mod scene;

use std::time::Duration;

use nix::sys::signal::Signal;

use pen_testing::random::SeededRandom;

use crate::stage::TempFolder;
use crate::{ActionError, build};
use scene::{Disturbance, LineInput, Scene, Target};

/// Which tests, and how often each disturbs.
#[derive(clap::Args)]
pub struct DeliveryArgs {
    /// Disturbances in each test
    #[arg(long, default_value_t = 10)]
    times: u32,
    /// Lines a second, where the test does not name a rate
    #[arg(long, default_value_t = 5_000)]
    rate: u32,
    /// Decides when, and for how long
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Start penlogd without a journal
    #[arg(long)]
    without_journal: bool,
    /// Only tests whose name contains this
    #[arg(long)]
    test: Option<String>,
}

/// The numbers of a run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DeliveryCounts {
    /// Lines written.
    pub sent: u64,
    /// Lines that are not in the merged log.
    pub lost: u64,
    /// Surplus copies of lines.
    pub doubled: u64,
}

/// Runs the tests and prints a line for each.
///
/// # Errors
/// When a program cannot be started or does not end. Losses are no error: they are printed.
pub fn run(args: &DeliveryArgs) -> Result<(), ActionError> {
    build(&["penlogd", "penlog"])?;
    println!("| test | sent | lost | doubled |\n|---|---:|---:|---:|");
    for (name, scene) in tests(args) {
        if args.test.as_ref().is_some_and(|wanted| !name.contains(wanted)) {
            continue;
        }
        let folder = TempFolder::new();
        let counts = scene.play(&folder, &mut SeededRandom::new(args.seed))?;
        let DeliveryCounts { sent, lost, doubled } = counts;
        println!("| {name} | {sent} | {lost} | {doubled} |");
    }
    Ok(())
}

/// Kills a `penlogd` with a journal under 2,000 lines a second from a file, so many times.
///
/// # Errors
/// When a program cannot be started or does not end.
pub fn killed_with_journal(times: u32, seed: u64) -> Result<DeliveryCounts, ActionError> {
    let (target, signal) = (Target::Collector, Signal::SIGKILL);
    let disturbance = Disturbance { target, signal, times, away: [Duration::ZERO; 2] };
    let scene = Scene { input: LineInput::File, rate: 2_000, disturbance, has_journal: true };
    scene.play(&TempFolder::new(), &mut SeededRandom::new(seed))
}

fn tests(args: &DeliveryArgs) -> Vec<(String, Scene)> {
    let (times, rate) = (args.times, args.rate);
    let has_journal = !args.without_journal;
    let at_once = [Duration::ZERO; 2];
    let up_to_2_s = [Duration::ZERO, Duration::from_secs(2)];
    let mut tests = Vec::new();
    let mut add = |name: &str, input, rate, target, signal, times, away| {
        let disturbance = Disturbance { target, signal, times, away };
        tests.push((
            format!("{name}, {times} times, {rate}/s"),
            Scene { input, rate, disturbance, has_journal },
        ));
    };
    let (pipe, file, spool) = (LineInput::Pipe, LineInput::File, LineInput::Spool);
    add("penlogd restarted, pipe", pipe, 100, Target::Collector, Signal::SIGTERM, times, at_once);
    add(
        "penlogd restarted, pipe",
        pipe,
        rate,
        Target::Collector,
        Signal::SIGTERM,
        times,
        up_to_2_s,
    );
    add("penlogd killed, pipe", pipe, rate, Target::Collector, Signal::SIGKILL, times, up_to_2_s);
    add(
        "penlogd killed, back at once, pipe",
        pipe,
        rate,
        Target::Collector,
        Signal::SIGKILL,
        times,
        at_once,
    );
    add(
        "penlogd killed, back at once, pipe",
        pipe,
        20,
        Target::Collector,
        Signal::SIGKILL,
        times,
        at_once,
    );
    add("penlogd killed, file", file, rate, Target::Collector, Signal::SIGKILL, times, up_to_2_s);
    let killed = (Target::Shipper, Signal::SIGKILL);
    for (name, input) in [
        ("penlog killed, file", file),
        ("penlog killed, file rotated every 0.2 s", LineInput::Rotated),
        ("penlog killed, pipe and spool", spool),
    ] {
        add(name, input, rate, killed.0, killed.1, times, up_to_2_s);
    }
    let long = [Duration::from_secs(30); 2];
    add("penlogd away for 30 s, pipe", pipe, rate / 5, Target::Collector, Signal::SIGKILL, 1, long);
    add("penlogd away for 30 s, file", file, rate, Target::Collector, Signal::SIGKILL, 1, long);
    let silent = [Duration::from_secs(90); 2];
    add(
        "penlogd stopped for 90 s, file",
        file,
        rate / 5,
        Target::Collector,
        Signal::SIGSTOP,
        1,
        silent,
    );
    tests
}
