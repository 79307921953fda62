//! What is lost and what comes twice when programs are killed, restarted, cut off and starved under traffic.
//!
//! Every line carries a number. A site writes them at a steady rate, `penlog` sends them to `penlogd`, and meanwhile
//! something is disturbed. Afterwards the numbers in the merged log are counted. Scenes with clients have a real web
//! server behind `pen`, and the clients of the merged log are compared with those that asked.
//!
//! - `rows`: the table of tests.
//! - `scene`, `stage`, `writer`, `log_file`, `disturb`: numbered lines, and what happens to programs, files and disks.
//! - `visits`: clients, `pen` and nginx. `apache`: a piped log. `herd`: 200 senders. `relp`: the same with rsyslog.
//! - `count`: what came of the lines. `isolated`: a network and mounts of one's own.

mod apache;
pub(crate) mod count;
mod disturb;
mod herd;
mod isolated;
pub(crate) mod log_file;
mod relp;
mod rows;
pub(crate) mod scene;
mod stage;
mod visits;
pub(crate) mod writer;

use std::io::Write as _;
use std::time::{Duration, Instant};

use pen_testing::random::SeededRandom;

use crate::stage::{Faults, TempFolder};
use crate::{ActionError, build};
pub use count::DeliveryCounts;
pub(crate) use isolated::{Isolation, isolated};
use scene::{Action, Calm, Disturbance, LineInput, Scene, Target};

/// Which tests, and how often and for how long each disturbs.
#[derive(clap::Args, Clone)]
pub struct DeliveryArgs {
    /// Kills and restarts in each test: 10 take some 25 minutes in all, 100 two hours
    #[arg(long, visible_alias = "times", default_value_t = 10)]
    pub(super) kills: u32,
    /// Lines a second, where the test does not name a rate; a fifth of it are requests through pen
    #[arg(long, default_value_t = 5_000)]
    pub(super) rate: u32,
    /// Seconds that the collector is away, cut off or stopped, and that a disk is full
    #[arg(long, default_value_t = 20)]
    pub(super) away: u64,
    /// Seconds of traffic that wait in the files of each of the 200 senders
    #[arg(long, default_value_t = 60)]
    pub(super) backlog: u64,
    /// Seeds of the simulated power cuts; 0: only print the command
    #[arg(long, default_value_t = 0)]
    pub(super) power_cuts: u32,
    /// Decides when, and for how long
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Start penlogd without a journal
    #[arg(long)]
    pub(super) without_journal: bool,
    /// Only tests whose name contains this
    #[arg(long)]
    test: Option<String>,
    /// Print the names of the tests and end
    #[arg(long)]
    list: bool,
    /// Also print what the programs said, after each test
    #[arg(long)]
    messages: bool,
}

/// What a test found.
#[derive(Clone, Debug, Default)]
pub(super) struct Finding {
    pub(super) counts: DeliveryCounts,
    /// What the clients of the merged log are compared with those that asked.
    pub(super) clients: Option<String>,
    /// What else is to be known.
    pub(super) remark: Option<String>,
    /// What the programs said.
    pub(super) messages: String,
}

/// Runs the tests and prints a line for each.
///
/// # Errors
/// When the programs cannot be built. Losses are no error: they are printed, as is why a test could not be played.
pub fn run(args: &DeliveryArgs) -> Result<(), ActionError> {
    let tests = rows::tests(args);
    let tests = tests
        .into_iter()
        .filter(|test| args.test.as_ref().is_none_or(|wanted| test.name.contains(wanted.as_str())));
    if args.list {
        tests.for_each(|test| println!("{}", test.name));
        return Ok(());
    }
    build(&["penlogd", "penlog", "pen"])?;
    println!("| test | sent | lost | doubled | silent | clients | s | remarks |");
    println!("|---|---:|---:|---:|---:|---|---:|---|");
    let mut baseline = None;
    for test in tests {
        let (folder, started) = (TempFolder::new(), Instant::now());
        let played = test.play.run(&folder, &mut SeededRandom::new(args.seed), &mut baseline);
        print(&test.name, started.elapsed(), played, args.messages);
    }
    Ok(())
}

fn print(name: &str, took: Duration, played: Result<Finding, ActionError>, with_messages: bool) {
    let seconds = took.as_secs();
    match played {
        Ok(Finding { counts, clients, remark, messages }) => {
            let DeliveryCounts { sent, lost, doubled, silent } = counts;
            let (clients, remark) = (clients.unwrap_or_default(), remark.unwrap_or_default());
            println!(
                "| {name} | {sent} | {lost} | {doubled} | {silent} | {clients} | {seconds} | {remark} |"
            );
            if with_messages {
                messages.lines().for_each(|line| println!("    {line}"));
            }
        }
        Err(error) => {
            let error = chain(&error).replace('\n', " ");
            println!("| {name} | – | – | – | – | | {seconds} | {error} |");
        }
    }
    // A table that is read while it grows; a closed pipe ends the program at the next line.
    let _flushed = std::io::stdout().flush();
}

/// An error with its causes.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text += &format!(": {error}");
        cause = error.source();
    }
    text
}

/// Kills a `penlogd` with a journal under 2,000 lines a second from a file, so many times.
///
/// # Errors
/// When a program cannot be started or does not end.
pub fn killed_with_journal(times: u32, seed: u64) -> Result<DeliveryCounts, ActionError> {
    let action = Action::End(Target::Collector, nix::sys::signal::Signal::SIGKILL);
    let scene = Scene::new(LineInput::File, 2_000, Disturbance::at_once(action, times));
    play_once(&scene, seed)
}

/// Sends 1,000 lines a second for 3 s, of whose datagrams one in ten is lost, one comes twice and one is late.
///
/// # Errors
/// When a program cannot be started or does not end.
pub fn sent_by_a_bad_network(seed: u64) -> Result<DeliveryCounts, ActionError> {
    let calm = Calm::of(Duration::from_secs(3));
    let disturbance = Disturbance { calm, ..Disturbance::none() };
    let faults = Some(Faults::in_hundred(10));
    play_once(&Scene { faults, ..Scene::new(LineInput::File, 1_000, disturbance) }, seed)
}

fn play_once(scene: &Scene, seed: u64) -> Result<DeliveryCounts, ActionError> {
    let found = scene.play(&TempFolder::new(), &mut SeededRandom::new(seed))?;
    Ok(found.counts)
}
