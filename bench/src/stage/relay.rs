//! A relay of datagrams that loses, doubles and delays some of them, in both directions.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use pen_testing::random::SeededRandom;

use super::{Faults, free_port};
use crate::{ActionError, Doing};

/// How long a look at a socket takes at most.
const LOOK: Duration = Duration::from_millis(2);
/// How many datagrams are kept for those who read along.
const REMEMBERED: usize = 64;

/// A thread that hands datagrams on to a server, and its answers back. The server sees each sender at an address of its own,
/// with the same IP address.
#[derive(Debug)]
pub struct FaultyRelay {
    addr: SocketAddr,
    heard: Arc<Mutex<Vec<Heard>>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

/// A datagram to the server, and its sender.
pub type Heard = (SocketAddr, Vec<u8>);

impl FaultyRelay {
    /// Starts one.
    ///
    /// # Errors
    /// If no port is free.
    pub fn start(server: SocketAddr, faults: Faults) -> Result<Self, ActionError> {
        let addr = free_port(Ipv4Addr::LOCALHOST);
        let front = UdpSocket::bind(addr).doing(format_args!("listen on {addr}"))?;
        let _more = socket2::SockRef::from(&front).set_recv_buffer_size(8 << 20);
        front.set_read_timeout(Some(LOOK)).doing("set a time limit")?;
        let stop = Arc::new(AtomicBool::new(false));
        let ending = Arc::clone(&stop);
        let heard = Arc::default();
        let mut links = Links {
            front,
            server,
            senders: HashMap::new(),
            faults,
            late: Vec::new(),
            heard: Arc::clone(&heard),
        };
        let thread = std::thread::spawn(move || {
            let mut random = SeededRandom::new(1);
            while !ending.load(Ordering::Relaxed) {
                links.turn(&mut random);
            }
        });
        Ok(Self { addr, heard, stop, thread: Some(thread) })
    }

    /// Where to send to.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// The last datagrams to the server, as somebody hears them who reads along.
    #[must_use]
    pub fn heard(&self) -> Vec<Heard> {
        self.heard.lock().map(|heard| heard.clone()).unwrap_or_default()
    }
}

impl Drop for FaultyRelay {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // It has nothing to say but that it panicked, which has been printed.
            let _ended = thread.join();
        }
    }
}

/// Where a datagram comes from.
#[derive(Clone, Copy, Debug)]
enum Direction {
    /// From this sender.
    Up(SocketAddr),
    /// From the server, to this sender.
    Down(SocketAddr),
}

struct Links {
    front: UdpSocket,
    server: SocketAddr,
    senders: HashMap<SocketAddr, UdpSocket>,
    faults: Faults,
    late: Vec<(Instant, Direction, Vec<u8>)>,
    heard: Arc<Mutex<Vec<Heard>>>,
}

impl Links {
    /// Passes on what is due and what has come.
    fn turn(&mut self, random: &mut SeededRandom) {
        let now = Instant::now();
        let (due, late): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.late).into_iter().partition(|(at, ..)| *at <= now);
        self.late = late;
        due.iter().for_each(|(_, direction, datagram)| self.send(*direction, datagram));
        let mut buf = vec![0_u8; 1 << 16];
        // As many as come without a pause, but the answers are not to wait.
        for _ in 0..64 {
            let Ok((len, from)) = self.front.recv_from(&mut buf) else { break };
            self.remember(from, &buf[..len]);
            self.pass(Direction::Up(from), &buf[..len], random);
        }
        let mut answers = Vec::new();
        for (&to, socket) in &self.senders {
            while let Ok(len) = socket.recv(&mut buf) {
                answers.push((to, buf[..len].to_vec()));
            }
        }
        for (to, datagram) in answers {
            self.pass(Direction::Down(to), &datagram, random);
        }
    }

    fn remember(&self, from: SocketAddr, datagram: &[u8]) {
        if let Ok(mut heard) = self.heard.lock() {
            if heard.len() >= REMEMBERED {
                heard.remove(0);
            }
            heard.push((from, datagram.to_vec()));
        }
    }

    fn pass(&mut self, direction: Direction, datagram: &[u8], random: &mut SeededRandom) {
        let drawn = random.below(1_000) as u64;
        let Faults { lost, doubled, late } = self.faults;
        if drawn < lost {
            return;
        }
        if (lost + doubled..lost + doubled + late).contains(&drawn) {
            let at = Instant::now() + Duration::from_millis(random.below(500) as u64);
            self.late.push((at, direction, datagram.to_vec()));
            return;
        }
        self.send(direction, datagram);
        if drawn < lost + doubled {
            self.send(direction, datagram);
        }
    }

    /// What cannot be sent is lost, as on any network.
    fn send(&mut self, direction: Direction, datagram: &[u8]) {
        let _sent = match direction {
            Direction::Down(to) => self.front.send_to(datagram, to),
            Direction::Up(from) => match self.senders.entry(from) {
                Entry::Occupied(entry) => entry.get().send(datagram),
                Entry::Vacant(entry) => match connect(from, self.server) {
                    Ok(socket) => entry.insert(socket).send(datagram),
                    Err(error) => Err(error),
                },
            },
        };
    }
}

fn connect(from: SocketAddr, server: SocketAddr) -> std::io::Result<UdpSocket> {
    let socket = UdpSocket::bind((from.ip(), 0))?;
    socket.connect(server)?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sends 1,000 numbers, and counts what comes back.
    fn echoed(faults: Faults) -> Vec<u32> {
        let server = UdpSocket::bind("127.0.0.1:0").unwrap();
        let relay = FaultyRelay::start(server.local_addr().unwrap(), faults).unwrap();
        server.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
        let client = UdpSocket::bind("127.0.0.1:0").unwrap();
        client.connect(relay.addr()).unwrap();
        let echo = std::thread::spawn(move || {
            let mut buf = [0; 8];
            while let Ok((len, from)) = server.recv_from(&mut buf) {
                server.send_to(&buf[..len], from).unwrap();
            }
        });
        let mut times = vec![0; 1_000];
        let mut drain = |patience| {
            client.set_read_timeout(Some(patience)).unwrap();
            let mut buf = [0; 8];
            while client.recv(&mut buf).is_ok() {
                times[usize::from(u16::from_le_bytes([buf[0], buf[1]]))] += 1;
            }
        };
        for number in 0..1_000_u32 {
            client.send(&number.to_le_bytes()).unwrap();
            // No socket holds all of them.
            if number % 50 == 0 {
                drain(Duration::from_millis(20));
            }
        }
        drain(Duration::from_secs(1));
        echo.join().unwrap();
        times
    }

    #[test]
    fn both_directions_lose_and_double_the_share_that_was_asked_for() {
        assert!(echoed(Faults::default()).iter().all(|&times| times == 1));
        let times = echoed(Faults { lost: 100, doubled: 100, late: 100 });
        let count = |wanted: fn(u32) -> bool| times.iter().filter(|&&it| wanted(it)).count();
        // One in ten in each direction: 19 % are lost, fewer where one of two comes through.
        assert!((100..280).contains(&count(|times| times == 0)), "{times:?}");
        assert!((80..280).contains(&count(|times| times > 1)), "{times:?}");
    }
}
