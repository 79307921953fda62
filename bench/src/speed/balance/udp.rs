//! Datagrams that come back: many clients, one at a time under way for each.

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::Pid;

use super::contender::Running;
use super::wrk::Work;
use crate::{ActionError, Doing};

/// What datagrams hold.
pub(super) const SIZES: [usize; 2] = [64, 1_200];

const CLIENTS: usize = 32;
const TIME: Duration = Duration::from_secs(3);
const CORE: usize = 1;
/// A datagram that has not come back by then is lost.
const PATIENCE: Duration = Duration::from_millis(200);

/// Sends everything back to where it came from.
pub(super) struct UdpEcho {
    addr: SocketAddr,
    stop: Arc<AtomicBool>,
}

impl UdpEcho {
    pub(super) fn start() -> Result<Self, ActionError> {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).doing("open a socket")?;
        socket.set_read_timeout(Some(PATIENCE)).doing("set a timeout")?;
        let addr = socket.local_addr().doing("open a socket")?;
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        thread::spawn(move || {
            stay_on_core().ok();
            let mut buf = [0; 2_048];
            while !stopped.load(Ordering::Relaxed) {
                if let Ok((len, from)) = socket.recv_from(&mut buf) {
                    // What cannot be sent is lost, and missed by its client.
                    socket.send_to(&buf[..len], from).ok();
                }
            }
        });
        Ok(Self { addr, stop })
    }

    pub(super) fn addr(&self) -> SocketAddr {
        self.addr
    }
}

impl Drop for UdpEcho {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

fn stay_on_core() -> Result<(), ActionError> {
    let mut cores = CpuSet::new();
    cores.set(CORE).doing("choose a core")?;
    sched_setaffinity(Pid::from_raw(0), &cores).doing("stay on a core")
}

/// What the balancer spends on datagrams that go there and back.
pub(super) fn measure(running: &Running, size: usize) -> Result<Work, ActionError> {
    let addr = running.addr;
    let sockets = (0..CLIENTS).map(|_| {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).doing("open a socket")?;
        socket.connect(addr).doing("open a socket")?;
        socket.set_read_timeout(Some(PATIENCE)).doing("set a timeout")?;
        Ok(socket)
    });
    let sockets = sockets.collect::<Result<Vec<_>, ActionError>>()?;
    let (before, begin) = (running.cpu()?, Instant::now());
    let exchange = move || {
        stay_on_core()?;
        let (text, mut buf) = (vec![b'x'; size], vec![0; size + 1]);
        let (mut came, mut lost) = (0, 0);
        while begin.elapsed() < TIME {
            for socket in &sockets {
                socket.send(&text).doing("send a datagram")?;
            }
            for socket in &sockets {
                match socket.recv(&mut buf) {
                    Ok(len) if len == size => came += 1,
                    _ => lost += 1,
                }
            }
        }
        Ok((came, lost))
    };
    let (came, lost) = thread::spawn(exchange)
        .join()
        .unwrap_or_else(|_| Err(ActionError::new("the clients panicked")))?;
    Work::new(came, lost, begin.elapsed(), (before, running.cpu()?))
}
