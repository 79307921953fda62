//! How fast ours is: side by side with other programs, in one run, as ratios.
//!
//! Nothing here asserts: figures are printed, and whoever runs it judges. Two programs that share a
//! machine with others are measured in turn, several times, and the middle figure counts.

mod balance;
mod cost;
mod hard;
mod inflate;
mod input;
mod join;
mod judge;
mod live;
mod memory;
mod phrases;
mod receiver;
mod road;
mod sender;

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use clap::ValueEnum;

use crate::{ActionError, Doing, build, workspace};

/// The part to measure, and how much of it.
#[derive(clap::Args, Debug)]
pub struct SpeedArgs {
    /// What to measure
    #[arg(value_enum, default_value_t = SpeedPart::All)]
    what: SpeedPart,
    /// Access lines to join
    #[arg(long, default_value_t = 2_000_000)]
    lines: u64,
    /// Records and lines to send to a collector
    #[arg(long, default_value_t = 1_000_000)]
    pairs: u64,
    /// How often each program runs; the middle figure counts
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Another build of our penlogd, to be measured under the same load; may be given again
    #[arg(long, value_name = "PENLOGD")]
    beside: Vec<PathBuf>,
    /// Join with the C mergelogs as well, which takes half a minute a round
    #[arg(long)]
    with_c: bool,
    /// The command that `measured` runs, the files that `inflate` reads, the port
    /// of `receive`
    #[arg(last = true, hide = true)]
    rest: Vec<OsString>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum SpeedPart {
    /// Everything below
    All,
    /// mergelogs on plain files, beside `wc -l`, `cat` and `mergelog`
    Join,
    /// mergelogs at other windows, request rates and numbers of servers
    JoinFlat,
    /// mergelogs on gzipped files, beside inflating alone
    JoinGz,
    /// the most memory that mergelogs takes: a thousand logs at once, and other hard shapes
    JoinMemory,
    /// mergelogs with the records of our pen: evidence, the port, equal requests, clocks that jump
    JoinHard,
    /// penlogd, each line right behind its record
    Live,
    /// penlogd, with up to a million records outstanding
    LiveOutstanding,
    /// penlogd, with 50 requests that repeat, or one
    LiveRepeating,
    /// penlogd, with shipments in place of single lines
    Shipments,
    /// penlog and penlogd: a line by UDP, TCP and TLS, with a journal and a spool
    Road,
    /// pen, beside C pen, nginx stream and HAProxy
    Balance,
    #[value(hide = true)]
    Measured,
    #[value(hide = true)]
    Inflate,
    #[value(hide = true)]
    Receive,
}

/// Measures and prints.
///
/// # Errors
/// When a program is missing or fails, or the input cannot be made.
pub fn run(args: &SpeedArgs) -> Result<(), ActionError> {
    match args.what {
        SpeedPart::Measured => return cost::measured(&args.rest),
        SpeedPart::Inflate => return inflate::all(&args.rest),
        SpeedPart::Receive => return receiver::receive(&args.rest),
        _ => {}
    }
    build(&["pen", "penlog", "penlogd", "mergelogs"])?;
    println!(
        "Figures are good only beside each other: whatever else runs on this machine is in them."
    );
    let wanted = |what| args.what == SpeedPart::All || args.what == what;
    if wanted(SpeedPart::Join) {
        join::plain(args)?;
    }
    if wanted(SpeedPart::JoinFlat) {
        join::flat(args)?;
    }
    if wanted(SpeedPart::JoinGz) {
        join::gzipped(args)?;
    }
    if wanted(SpeedPart::JoinMemory) {
        memory::of_joins(args)?;
    }
    if wanted(SpeedPart::JoinHard) {
        hard::join(args)?;
    }
    if wanted(SpeedPart::Live) {
        live::close(args)?;
    }
    if wanted(SpeedPart::LiveOutstanding) {
        live::outstanding(args)?;
    }
    if wanted(SpeedPart::LiveRepeating) {
        live::repeating(args)?;
    }
    if wanted(SpeedPart::Shipments) {
        live::shipments(args)?;
    }
    if wanted(SpeedPart::Road) {
        road::run(args)?;
    }
    if wanted(SpeedPart::Balance) {
        balance::run(args)?;
    }
    Ok(())
}

/// Where made input is kept between runs.
fn data_folder() -> PathBuf {
    workspace().join("target/bench-data")
}

/// This very program, to run another part of it.
fn this_program() -> Result<PathBuf, ActionError> {
    std::env::current_exe().doing("find this program")
}

/// A program of ours.
fn ours(name: &str) -> PathBuf {
    let folder = std::env::var_os("CARGO_TARGET_DIR");
    let folder = folder.map_or_else(|| workspace().join("target"), PathBuf::from);
    folder.join(if cfg!(debug_assertions) { "debug" } else { "release" }).join(name)
}

/// A program of the system, if it is installed.
fn theirs(name: &str) -> Option<PathBuf> {
    ["/usr/bin", "/bin", "/usr/sbin"]
        .iter()
        .map(|dir| Path::new(dir).join(name))
        .find(|p| p.exists())
}
