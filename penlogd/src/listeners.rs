//! Binding both sockets of an address: UDP and TCP.

use std::io;

use pen_daemon::error::{ActionError, of_listening};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::net::UdpSocket;
use tracing::{info, warn};

use crate::socket::{ListenTarget, UdpListener};
use crate::streams::{self, StreamListener, Streams};

/// Most tries to find a port free for both UDP and TCP.
const TRIES: u32 = 16;

/// The sockets of an address.
#[derive(Debug)]
pub(crate) struct BoundListener {
    pub(crate) datagrams: UdpListener,
    pub(crate) stream: StreamListener,
}

impl BoundListener {
    /// Binds the sockets of an address, to the same port.
    pub(crate) fn bind(listen: ListenTarget) -> Result<Self, ActionError> {
        let mut tries = TRIES;
        loop {
            tries -= 1;
            let datagrams = bind_datagrams(listen)?;
            let is_dual = matches!(listen, ListenTarget::Everywhere(_));
            match streams::bind(datagrams.addr(), is_dual) {
                Ok(stream) => return Ok(Self { datagrams, stream }),
                Err(error)
                    if error.kind() == io::ErrorKind::AddrInUse
                        && tries > 0
                        && port(listen) == 0 => {}
                Err(error) => {
                    let source = of_listening(error, datagrams.addr().port(), "ltnp");
                    return Err(ActionError::cannot(
                        format_args!("listen by TCP at {}", at(listen)),
                        source,
                    ));
                }
            }
        }
    }
}

/// Logs the address. A program that waits for the message may send signals then.
pub(crate) fn say_listening(listener: &UdpListener) {
    info!("listening on {}", listener.addr());
    if !listener.is_buffer_granted() {
        warn!(
            "the receive buffer of {} is {} KiB instead of 32 MiB, so bursts may be lost: raise \
             net.core.rmem_max or grant CAP_NET_ADMIN",
            listener.addr(),
            listener.buffer() / 1024
        );
    }
}

fn bind_datagrams(listen: ListenTarget) -> Result<UdpListener, ActionError> {
    UdpListener::bind(listen).map_err(|source| {
        let source = of_listening(source, port(listen), "lunp");
        ActionError::cannot(format_args!("listen at {}", at(listen)), source)
    })
}

const fn port(listen: ListenTarget) -> u16 {
    match listen {
        ListenTarget::Everywhere(port) => port,
        ListenTarget::At(addr) => addr.port(),
    }
}

fn at(listen: ListenTarget) -> String {
    match listen {
        ListenTarget::Everywhere(port) => format!("port {port}"),
        ListenTarget::At(addr) => addr.to_string(),
    }
}

/// The sockets, watched by the runtime.
pub(crate) struct ListenerWatch {
    datagrams: Vec<UdpSocket>,
    streams: AsyncFd<std::os::fd::OwnedFd>,
}

impl ListenerWatch {
    /// Registers sockets with the current runtime.
    pub(crate) fn new(datagrams: &[UdpListener], streams: &Streams) -> io::Result<Self> {
        let datagrams = datagrams.iter().map(UdpListener::watch).collect::<io::Result<_>>()?;
        #[expect(
            deprecated,
            reason = "its successor is unsafe; an OwnedFd stays open for as long as it is watched"
        )]
        let streams = AsyncFd::with_interest(streams.watch()?, Interest::READABLE)?;
        Ok(Self { datagrams, streams })
    }

    /// Waits until something can be received; of streams only if `with_streams`. The caller empties all sockets before
    /// it waits again.
    pub(crate) async fn readable(&self, with_streams: bool) {
        std::future::poll_fn(|context| {
            for watch in &self.datagrams {
                if watch.poll_recv_ready(context).is_ready() {
                    // A later datagram is a new event: clear this one.
                    let forget = || Err::<(), _>(io::ErrorKind::WouldBlock.into());
                    // Always fails, by `forget`.
                    let _ = watch.try_io(Interest::READABLE, forget);
                    return std::task::Poll::Ready(());
                }
            }
            if with_streams
                && let std::task::Poll::Ready(ready) = self.streams.poll_read_ready(context)
            {
                // Fails only at the end of the runtime.
                if let Ok(mut ready) = ready {
                    ready.clear_ready();
                }
                return std::task::Poll::Ready(());
            }
            std::task::Poll::Pending
        })
        .await;
    }
}
