//! `penlog`, the shipper: sends a web server's access lines to the collector.
//!
//! Three threads. The reading thread puts whole lines into a bounded `queue`, with `--spool` by way of the disk (`spool`).
//! It never waits for the network, so the web server never waits either. The sending thread (`shipper`) takes lines out of the queue and sends them: as
//! shipments to a collector of this package, as single lines to a classic collector. `link_state` decides which, and
//! when to hold lines back. The lookup thread resolves the collector's name from time to time (`destination`).

mod chunk;
mod cli;
mod destination;
mod follow;
mod input;
mod keys;
mod link_state;
mod positions;
mod queue;
mod report;
mod rights;
mod shipper;
mod signals;
mod splitter;
mod spool;

use std::io::Write as _;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::thread;

use clap::Parser as _;

use pen_daemon::arguments::without_wrong_tip;
use pen_daemon::error::{ActionError, Doing as _, Exit, chain};
use pen_stream::tls::SenderTls;

use cli::{FollowSettings, InputSource, ShipperArgs, ShipperConfig, SpoolSettings};
use follow::FileFollower;
use follow::state::{self, ShipperState};
use input::{OpenInput, QueueSink};
use queue::SendQueue;
use report::{ShipperReport, tell};
use shipper::Shipper;
use signals::StopSignals;
use spool::Spool;

/// Runs the program: reads the command line of this process, ships until the input ends or a signal
/// stops it, and returns the exit code.
#[must_use]
pub fn main() -> ExitCode {
    let words: Vec<_> = std::env::args_os().skip(1).collect();
    if let [command, path] = &words[..]
        && command == "keygen"
    {
        return keygen(path.as_ref());
    }
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

/// Runs `penlog keygen FILE`, which makes a key pair and prints the public key.
fn keygen(path: &Path) -> ExitCode {
    match pen_stream::keys::keygen(path).doing("make a key") {
        Ok(line) => {
            // The reader may have closed the pipe.
            let _ = std::io::stdout().write_all(line.as_bytes());
            Exit::Done.into()
        }
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
    if let Some(remark) = config.tls.as_ref().and_then(SenderTls::remark) {
        tell(&remark);
    }
    let input = OpenInput::of(&config.source)?;
    rights::give_up(&config)?;
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
    let reader = match (source, input) {
        (InputSource::Files(files), _) => {
            LineReader::Follower(FileFollower::new(files, (earlier, collector), &queue))
        }
        (_, Some(input)) => LineReader::of(input, config.spool.clone(), &queue)?,
        (_, None) => return Err(ActionError::new("there is no input")),
    };
    let shipper = Shipper::new(config, Arc::clone(&queue), waker, report)?;
    let reader = {
        let queue = Arc::clone(&queue);
        thread::Builder::new().name("reader".into()).spawn(move || {
            let ended = reader.read(&queue, &signals);
            queue.close();
            ended
        })
    }
    .doing("start a thread")?;

    let counts = shipper.run();
    match reader.join() {
        Ok((reader, ended)) => {
            reader.settle(&queue)?;
            ended?;
        }
        Err(_) => return Err(ActionError::new("the reading thread panicked")),
    }
    Ok(counts.dropped + counts.lost == 0)
}

/// The reading thread's work.
enum LineReader {
    Follower(FileFollower),
    Spool(OpenInput, Box<Spool>),
    Plain(OpenInput),
}

impl LineReader {
    fn of(
        input: OpenInput,
        spool: Option<SpoolSettings>,
        queue: &SendQueue,
    ) -> Result<Self, ActionError> {
        let Some(settings) = spool else { return Ok(Self::Plain(input)) };
        let spool = Spool::new(settings, &input.file, queue)?;
        Ok(Self::Spool(input, Box::new(spool)))
    }

    /// Reads until the input ends or a stop signal comes.
    fn read(self, queue: &SendQueue, signals: &StopSignals) -> (Self, Result<(), ActionError>) {
        match self {
            Self::Follower(follower) => {
                (Self::Follower(follow::follow(follower, queue, signals)), Ok(()))
            }
            Self::Spool(input, mut spool) => {
                let ended = input.read_into(&mut *spool, queue, signals);
                (Self::Spool(input, spool), ended)
            }
            Self::Plain(input) => {
                let ended = input.read_into(&mut QueueSink::new(), queue, signals);
                (Self::Plain(input), ended)
            }
        }
    }

    /// After the sender's end: notes how far the lines have reached the collector.
    fn settle(self, queue: &SendQueue) -> Result<(), ActionError> {
        match self {
            Self::Follower(mut follower) => follower.save(queue),
            Self::Spool(_, spool) => {
                spool.settle(queue);
                Ok(())
            }
            Self::Plain(_) => Ok(()),
        }
    }
}

/// Reads the state file of followed files; says why if that fails.
fn earlier_state(files: &FollowSettings) -> Option<ShipperState> {
    let path = files.state.as_deref()?;
    state::load(path).unwrap_or_else(|error| {
        tell(&format!("cannot read {}: {error}", path.display()));
        None
    })
}
