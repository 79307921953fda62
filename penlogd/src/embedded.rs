//! The collector inside another program: the same loop on a thread, steered by its owner instead of by signals.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::mpsc;
use std::thread::{self, JoinHandle};

use pen_daemon::error::{ActionError, Doing as _};
use pen_daemon::signals::Event;
use tokio::runtime::Runtime;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tracing::info;

use crate::cli::{CollectorConfig, JournalArgs, SenderArgs};
use crate::listeners::{BoundListener, ListenerWatch, say_listening};
use crate::run::{CollectorLoop, LoopEvents, runtime};
use crate::socket::ListenTarget;

/// Bound sockets; binding may need privileges, so it is a step of its own.
#[derive(Debug)]
pub struct BoundCollector(BoundListener);

impl BoundCollector {
    /// Binds the sockets, for UDP and TCP.
    ///
    /// # Errors
    /// The address is in use, does not belong to this machine, or needs privileges.
    pub fn bind(addr: SocketAddr) -> Result<Self, ActionError> {
        BoundListener::bind(ListenTarget::At(addr)).map(Self)
    }

    /// Starts the thread, with the default settings of `penlogd` and the options about senders and the journal.
    ///
    /// # Errors
    /// The log cannot be opened, or no thread can be started.
    pub fn start(
        self,
        log: PathBuf,
        senders: SenderArgs,
        journal: JournalArgs,
    ) -> Result<RunningCollector, ActionError> {
        let (events, received) = unbounded_channel();
        let (say, said) = mpsc::sync_channel(1);
        // The loop cannot move between threads, so the new thread creates it.
        let work = move || match prepare(self.0, log, senders, journal) {
            Ok((runtime, collector_loop, watch)) => {
                // The owner waits for this, unless its thread panicked.
                let _ = say.send(Ok(()));
                runtime.block_on(collector_loop.run(received, &watch));
            }
            Err(error) => {
                let _ = say.send(Err(error));
            }
        };
        let thread = thread::Builder::new().name("collector".into()).spawn(work);
        let thread = thread.doing("start a thread for the collector")?;
        said.recv().doing("start the collector")??;
        Ok(RunningCollector { events, thread })
    }
}

fn prepare(
    listener: BoundListener,
    log: PathBuf,
    senders: SenderArgs,
    journal: JournalArgs,
) -> Result<(Runtime, CollectorLoop, ListenerWatch), ActionError> {
    let mut config =
        CollectorConfig::embedded(log, senders, journal).doing("use the collector's options")?;
    config.settings.allow.add_owner(listener.datagrams.addr().ip());
    config.remarks.iter().for_each(|remark| info!("{remark}"));
    let collector_loop = CollectorLoop::new(config, vec![listener])?;
    let runtime = runtime()?;
    let watch = {
        let _inside = runtime.enter();
        collector_loop.watch()?
    };
    collector_loop.listeners.iter().for_each(say_listening);
    Ok((runtime, collector_loop, watch))
}

impl LoopEvents for UnboundedReceiver<Event> {
    async fn next(&mut self) -> Event {
        // The owner has dropped its end: stop.
        self.recv().await.unwrap_or(Event::Stop)
    }
}

/// A running collector.
#[derive(Debug)]
pub struct RunningCollector {
    events: UnboundedSender<Event>,
    thread: JoinHandle<()>,
}

impl RunningCollector {
    /// Sends an event, as HUP and USR1 do with a `penlogd`.
    pub fn tell(&self, event: Event) {
        // Fails if the thread has ended; `stop` reports that.
        let _ = self.events.send(event);
    }

    /// Writes what is left and ends the thread.
    ///
    /// # Errors
    /// The thread panicked.
    pub fn stop(self) -> io::Result<()> {
        self.tell(Event::Stop);
        self.thread.join().map_err(|_| io::Error::other("the collector panicked"))
    }
}
