//! `penlog`, the shipper: sends a web server's access lines to the collector.
//!
//! Three threads. The reading thread puts whole lines into a bounded `queue` and never waits for the network, so the
//! web server never waits either. The sending thread (`shipper`) takes lines out of the queue and sends them: as
//! shipments to a collector of this package, as single lines to a classic collector. `link_state` decides which, and
//! when to hold lines back. The lookup thread resolves the collector's name from time to time (`destination`).

mod chunk;
mod cli;
mod destination;
mod follow;
mod input;
mod link_state;
mod positions;
mod queue;
mod report;
mod shipper;
mod signals;
mod splitter;

use std::process::ExitCode;
use std::sync::Arc;
use std::thread;

use clap::Parser as _;

use pen_daemon::arguments::without_wrong_tip;
use pen_daemon::error::{ActionError, Doing as _, Exit, chain};

use cli::{FollowSettings, InputSource, ShipperArgs, ShipperConfig};
use follow::FileFollower;
use follow::state::{self, ShipperState};
use queue::SendQueue;
use report::{ShipperReport, tell};
use shipper::Shipper;
use signals::StopSignals;

/// Runs the program: reads the command line of this process, ships until the input ends or a signal
/// stops it, and returns the exit code.
#[must_use]
pub fn main() -> ExitCode {
    let args = ShipperArgs::try_parse().unwrap_or_else(|error| misused(&without_wrong_tip(error)));
    let config = match ShipperConfig::new(args) {
        Ok(config) => config,
        Err(fault) => {
            tell(&format!("{fault}\nTry 'penlog --help'."));
            return Exit::Misused.into();
        }
    };
    match run(config) {
        Ok(true) => Exit::Done.into(),
        // The counters were printed.
        Ok(false) => Exit::Failed.into(),
        Err(error) => {
            tell(&chain(&error));
            Exit::Failed.into()
        }
    }
}

/// Prints what is wrong with the command line, and how it was probably meant, and exits.
fn misused(error: &clap::Error) -> ! {
    if error.kind() == clap::error::ErrorKind::MissingRequiredArgument {
        let words: Vec<_> = std::env::args().skip(1).collect();
        if let Some(hint) = cli::hint(&words) {
            tell(&hint);
        }
    }
    error.exit()
}

/// Reads until the input ends or a stop signal comes, then sends the rest of the queue. Returns whether no line was lost.
fn run(config: ShipperConfig) -> Result<bool, ActionError> {
    let signals = StopSignals::new().doing("watch for signals")?;
    let (queue, waker) = SendQueue::new(config.queue).doing("make a pipe")?;
    let queue = Arc::new(queue);
    signals.wake_on_report(&queue).doing("watch for signals")?;
    let report = ShipperReport::new(signals.report());
    let source = config.source.clone();
    let collector = format!("{} {}", config.host, config.port);
    let earlier = match &source {
        InputSource::Files(files) => earlier_state(files),
        InputSource::Stdin | InputSource::Fifo(_) => None,
    };
    let known = earlier.as_ref().and_then(|state| state.collector.as_ref());
    if known == Some(&collector) && !config.classic {
        queue.set_ours();
    }
    let follower = match &source {
        InputSource::Files(files) => {
            Some(FileFollower::new(files.clone(), (earlier, collector), &queue))
        }
        InputSource::Stdin | InputSource::Fifo(_) => None,
    };
    let shipper = Shipper::new(config, Arc::clone(&queue), waker, report)?;

    let reader = {
        let queue = Arc::clone(&queue);
        thread::Builder::new().name("reader".into()).spawn(move || {
            let ended = match (source, follower) {
                (_, Some(follower)) => Ok(Some(follow::follow(follower, &queue, &signals))),
                (InputSource::Fifo(path), None) => {
                    input::fifo(&path, &queue, &signals).map(|()| None)
                }
                (_, None) => input::stdin(&queue, &signals).map(|()| None),
            };
            queue.close();
            ended
        })
    }
    .doing("start a thread")?;

    let counts = shipper.run();
    match reader.join() {
        Ok(Ok(Some(mut follower))) => follower.save(&queue)?,
        Ok(ended) => ended.map(drop)?,
        Err(_) => return Err(ActionError::new("the reading thread panicked")),
    }
    Ok(counts.dropped + counts.lost == 0)
}

/// Reads the state file of followed files; says why if that fails.
fn earlier_state(files: &FollowSettings) -> Option<ShipperState> {
    let path = files.state.as_deref()?;
    state::load(path).unwrap_or_else(|error| {
        tell(&format!("cannot read {}: {error}", path.display()));
        None
    })
}
