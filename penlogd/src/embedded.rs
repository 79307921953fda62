//! The collector inside another program: the same loop on a thread of its own, told by its owner what a
//! `penlogd` is told by signals.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::mpsc;
use std::thread::{self, JoinHandle};

use pen_daemon::error::{ActionError, Doing as _};
use pen_daemon::signals::Event;
use tokio::net::UdpSocket;
use tokio::runtime::Runtime;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use crate::cli::Config;
use crate::run::{Loop, Orders, bind, runtime, say_listening};
use crate::socket::{Listen, Listener};

/// A bound socket: the part that may need rights.
#[derive(Debug)]
pub struct Embedded(Listener);

impl Embedded {
    /// Binds.
    ///
    /// # Errors
    /// The address is in use, is none of ours, or needs rights.
    pub fn bind(addr: SocketAddr) -> Result<Self, ActionError> {
        bind(Listen::At(addr)).map(Self)
    }

    /// Starts the thread, with the settings that a `penlogd` has without options.
    ///
    /// # Errors
    /// The log cannot be opened, or there is no thread to be had.
    pub fn start(self, log: PathBuf) -> Result<Collecting, ActionError> {
        let (orders, received) = unbounded_channel();
        let (say, said) = mpsc::sync_channel(1);
        // What receives cannot be moved between threads, so it is made where it is used.
        let work = move || match prepare(self.0, log) {
            Ok((runtime, looping, watches)) => {
                say.send(Ok(())).unwrap_or_default();
                runtime.block_on(looping.run(received, &watches));
            }
            Err(error) => say.send(Err(error)).unwrap_or_default(),
        };
        let thread = thread::Builder::new().name("collector".into()).spawn(work);
        let thread = thread.doing("start a thread for the collector")?;
        said.recv().doing("start the collector")??;
        Ok(Collecting { orders, thread })
    }
}

fn prepare(
    listener: Listener,
    log: PathBuf,
) -> Result<(Runtime, Loop, Vec<UdpSocket>), ActionError> {
    let looping = Loop::new(Config::usual(log), vec![listener])?;
    let runtime = runtime()?;
    let watches = {
        let _inside = runtime.enter();
        looping.watches()?
    };
    looping.listeners.iter().for_each(say_listening);
    Ok((runtime, looping, watches))
}

impl Orders for UnboundedReceiver<Event> {
    async fn next(&mut self) -> Event {
        // An owner that is gone wants nothing any more.
        self.recv().await.unwrap_or(Event::Stop)
    }
}

/// A collector that runs.
#[derive(Debug)]
pub struct Collecting {
    orders: UnboundedSender<Event>,
    thread: JoinHandle<()>,
}

impl Collecting {
    /// Opens the log anew, or says how things stand, as HUP and USR1 do with a `penlogd`.
    pub fn tell(&self, order: Event) {
        // It fails where the thread has ended, and it says so itself.
        self.orders.send(order).unwrap_or_default();
    }

    /// Writes what is left, and ends.
    ///
    /// # Errors
    /// The thread panicked.
    pub fn stop(self) -> io::Result<()> {
        self.tell(Event::Stop);
        self.thread.join().map_err(|_| io::Error::other("the collector panicked"))
    }
}
