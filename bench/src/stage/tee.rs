//! What several collectors hear alike.

use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use super::free_port;
use crate::{During, Failure};

/// A thread that hands each datagram on to every collector, from the address it came from, since by that
/// the C collector knows the server.
#[derive(Debug)]
pub struct Tee {
    addr: SocketAddr,
    passed: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

/// Who gets what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Share {
    /// Records and lines.
    All,
    /// Records alone; lines reach this collector on a road of their own.
    Records,
}

impl Tee {
    /// Starts one towards `collectors`.
    ///
    /// # Errors
    /// When there is no port for it.
    pub fn start(collectors: Vec<(SocketAddr, Share)>) -> Result<Self, Failure> {
        let addr = free_port(Ipv4Addr::LOCALHOST)?;
        let socket = UdpSocket::bind(addr).during(format_args!("listen on {addr}"))?;
        // As much as the kernel allows; the traffic here needs little of it.
        let _more = socket2::SockRef::from(&socket).set_recv_buffer_size(8 << 20);
        socket.set_read_timeout(Some(Duration::from_millis(20))).during("set a time limit")?;
        let passed = Arc::new(AtomicU64::new(0));
        let stop = Arc::new(AtomicBool::new(false));
        let (count, ending) = (Arc::clone(&passed), Arc::clone(&stop));
        let thread = std::thread::spawn(move || pass_on(&socket, &collectors, &count, &ending));
        Ok(Self { addr, passed, stop, thread: Some(thread) })
    }

    /// Where to send to.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// How many datagrams it has passed on.
    #[must_use]
    pub fn passed(&self) -> u64 {
        self.passed.load(Ordering::Relaxed)
    }

    /// Ends it after it has been idle for a moment, and says how many datagrams it has passed on.
    #[must_use]
    pub fn finish(mut self) -> u64 {
        self.end();
        self.passed()
    }

    fn end(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // It has nothing to say but that it panicked, which has been printed.
            let _ended = thread.join();
        }
    }
}

impl Drop for Tee {
    fn drop(&mut self) {
        self.end();
    }
}

/// Classic ones, or a packet of ours.
fn is_record(datagram: &[u8]) -> bool {
    datagram.starts_with(b"+ ") || datagram.starts_with(b"\xFEpn\x01\x04")
}

fn pass_on(
    socket: &UdpSocket,
    collectors: &[(SocketAddr, Share)],
    passed: &AtomicU64,
    stop: &AtomicBool,
) {
    let mut senders: HashMap<SocketAddr, UdpSocket> = HashMap::new();
    let mut buf = vec![0_u8; 1 << 16];
    loop {
        let Ok((len, from)) = socket.recv_from(&mut buf) else {
            if stop.load(Ordering::Relaxed) {
                return;
            }
            continue;
        };
        let datagram = buf.get(..len).unwrap_or_default();
        let sender = match senders.entry(from) {
            std::collections::hash_map::Entry::Occupied(entry) => entry.into_mut(),
            std::collections::hash_map::Entry::Vacant(entry) => {
                let Ok(sender) = UdpSocket::bind((from.ip(), 0)) else { continue };
                entry.insert(sender)
            }
        };
        for &(collector, share) in collectors {
            if share == Share::All || is_record(datagram) {
                // A collector that is gone shows in its log.
                let _sent = sender.send_to(datagram, collector);
            }
        }
        passed.fetch_add(1, Ordering::Relaxed);
    }
}
