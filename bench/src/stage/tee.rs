//! What several collectors hear alike.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use pen_testing::random::SeededRandom;

use super::free_port;
use crate::{ActionError, Doing};

/// A thread that hands each datagram on to every collector, from the address it came from, since by that
/// the C collector knows the server.
#[derive(Debug)]
pub struct Tee {
    addr: SocketAddr,
    passed: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

/// What happens to records on their way: in 1,000, to which all collectors alike.
#[derive(Clone, Copy, Debug, Default)]
pub struct Faults {
    /// So many are lost.
    pub lost: u64,
    /// So many come twice.
    pub doubled: u64,
    /// So many are late, by up to half a second.
    pub late: u64,
}

impl Faults {
    /// So many in 100 of each.
    #[must_use]
    pub const fn in_hundred(share: u64) -> Self {
        Self { lost: 10 * share, doubled: 10 * share, late: 10 * share }
    }
}

/// The part of the traffic that a collector gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Share {
    /// Records and lines.
    All,
    /// Records alone; the lines reach this collector by another path.
    Records,
}

impl Tee {
    /// Starts a tee towards `collectors`.
    ///
    /// # Errors
    /// If no port is free.
    pub fn start(collectors: Vec<(SocketAddr, Share)>) -> Result<Self, ActionError> {
        Self::start_with(collectors, Faults::default())
    }

    /// As [`Self::start`], with losses and delays.
    ///
    /// # Errors
    /// If no port is free.
    pub fn start_with(
        collectors: Vec<(SocketAddr, Share)>,
        faults: Faults,
    ) -> Result<Self, ActionError> {
        let addr = free_port(Ipv4Addr::LOCALHOST);
        let socket = UdpSocket::bind(addr).doing(format_args!("listen on {addr}"))?;
        // As much as the kernel allows; the traffic here needs little of it.
        let _more = socket2::SockRef::from(&socket).set_recv_buffer_size(8 << 20);
        socket.set_read_timeout(Some(Duration::from_millis(5))).doing("set a time limit")?;
        let passed = Arc::new(AtomicU64::new(0));
        let stop = Arc::new(AtomicBool::new(false));
        let (count, ending) = (Arc::clone(&passed), Arc::clone(&stop));
        let thread =
            std::thread::spawn(move || pass_on(&socket, &collectors, faults, (&count, &ending)));
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

/// Classic ones, a packet of ours, or what HAProxy sends: web servers send no syslog here.
fn is_record(datagram: &[u8]) -> bool {
    datagram.starts_with(b"+ ")
        || datagram.starts_with(b"\xFEpn\x01\x04")
        || datagram.starts_with(b"<")
}

/// A datagram that is to arrive at a time.
struct Late {
    at: Instant,
    from: SocketAddr,
    datagram: Vec<u8>,
}

/// Sends to all collectors from where a datagram came from.
struct Ends<'a> {
    collectors: &'a [(SocketAddr, Share)],
    senders: HashMap<SocketAddr, UdpSocket>,
}

impl Ends<'_> {
    fn send(&mut self, from: SocketAddr, datagram: &[u8]) {
        let sender = match self.senders.entry(from) {
            Entry::Occupied(entry) => entry.into_mut(),
            Entry::Vacant(entry) => {
                let Ok(sender) = UdpSocket::bind((from.ip(), 0)) else { return };
                entry.insert(sender)
            }
        };
        for &(collector, share) in self.collectors {
            if share == Share::All || is_record(datagram) {
                // A collector that is gone shows in its log.
                let _sent = sender.send_to(datagram, collector);
            }
        }
    }
}

fn pass_on(
    socket: &UdpSocket,
    collectors: &[(SocketAddr, Share)],
    faults: Faults,
    (passed, stop): (&AtomicU64, &AtomicBool),
) {
    let mut ends = Ends { collectors, senders: HashMap::new() };
    let mut buf = vec![0_u8; 1 << 16];
    let (mut late, mut random): (Vec<Late>, _) = (Vec::new(), SeededRandom::new(1));
    loop {
        let now = Instant::now();
        late.retain(|it| {
            let due = it.at <= now;
            if due {
                ends.send(it.from, &it.datagram);
            }
            !due
        });
        let Ok((len, from)) = socket.recv_from(&mut buf) else {
            if stop.load(Ordering::Relaxed) && late.is_empty() {
                return;
            }
            continue;
        };
        passed.fetch_add(1, Ordering::Relaxed);
        let datagram = buf.get(..len).unwrap_or_default();
        let drawn = random.below(1_000) as u64;
        let (doubled, slow) =
            (faults.lost + faults.doubled, faults.lost + faults.doubled + faults.late);
        if drawn < faults.lost {
            continue;
        }
        if drawn >= doubled && drawn < slow {
            let at = now + Duration::from_millis(random.below(500) as u64);
            late.push(Late { at, from, datagram: datagram.to_vec() });
            continue;
        }
        ends.send(from, datagram);
        if drawn < doubled {
            ends.send(from, datagram);
        }
    }
}
