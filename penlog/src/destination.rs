//! The collector's addresses: name and port lookup, repeated from time to time.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs as _, UdpSocket};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, TryRecvError, channel};
use std::thread;
use std::time::{Duration, Instant};

use pen_daemon::arguments::udp_port;

use crate::queue::SendQueue;

/// Time between two lookups of the name; shorter after a failed lookup or a failed send.
const AGAIN: Duration = Duration::from_secs(60);
const AGAIN_SOON: Duration = Duration::from_secs(2);

/// Address family that the collector's address must have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Family {
    Any,
    V4,
    V6,
}

/// Parses a port: a number, or a service name from `/etc/services`.
pub(crate) fn port(text: &str) -> Result<u16, String> {
    match udp_port(text) {
        Ok(0) => Err(format!("port '{text}' is not between 1 and 65535")),
        Ok(port) => Ok(port),
        Err(_) if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) => {
            Err(format!("port '{text}' is not between 1 and 65535"))
        }
        Err(_) => {
            Err(format!("port '{text}' is neither a number nor a UDP service in /etc/services"))
        }
    }
}

/// Addresses of the collector. A name is looked up on a separate thread.
#[derive(Debug)]
pub(crate) struct Destination {
    addrs: Vec<SocketAddr>,
    current: usize,
    /// Consecutive addresses that failed.
    failed: usize,
    family: Family,
    lookups: Option<LookupThread>,
}

#[derive(Debug)]
struct LookupThread {
    results: Receiver<io::Result<Vec<SocketAddr>>>,
    kick: Sender<()>,
}

/// Outcome of a lookup.
#[derive(Debug)]
pub(crate) enum LookupOutcome {
    Nothing,
    /// The address in use is not among the name's addresses any more, or no address was in use.
    Moved,
    Failed(io::Error),
}

impl Destination {
    /// Looks `host` up, on a thread if it is a name; a new result wakes the reader of `queue`.
    ///
    /// # Errors
    /// The host is an address of another family, or no thread can be started.
    pub(crate) fn new(
        host: String,
        port: u16,
        family: Family,
        queue: &Arc<SendQueue>,
    ) -> io::Result<Self> {
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        let mut this = Self { addrs: Vec::new(), current: 0, failed: 0, family, lookups: None };
        if let Ok(ip) = bare.parse::<IpAddr>() {
            this.addrs = this.fitting(vec![SocketAddr::new(ip, port)]);
            if this.addrs.is_empty() {
                return Err(io::Error::new(
                    io::ErrorKind::InvalidInput,
                    format!("{ip} does not fit -4, -6 or my_ip"),
                ));
            }
            return Ok(this);
        }
        let (send, results) = channel();
        let (kick, kicked) = channel();
        let queue = Arc::clone(queue);
        thread::Builder::new().name("lookup".into()).spawn(move || {
            loop {
                let found = (host.as_str(), port).to_socket_addrs().map(Iterator::collect);
                let mut again = found.is_err();
                if send.send(found).is_err() {
                    return;
                }
                queue.wake();
                let soon = Instant::now() + AGAIN_SOON;
                loop {
                    let left = soon.saturating_duration_since(Instant::now());
                    match kicked.recv_timeout(left) {
                        Ok(()) => again = true,
                        Err(RecvTimeoutError::Timeout) => break,
                        Err(RecvTimeoutError::Disconnected) => return,
                    }
                }
                if !again && kicked.recv_timeout(AGAIN) == Err(RecvTimeoutError::Disconnected) {
                    return;
                }
            }
        })?;
        this.lookups = Some(LookupThread { results, kick });
        Ok(this)
    }

    /// Returns the result of the lookup thread, if there is a new one.
    pub(crate) fn news(&mut self) -> LookupOutcome {
        let Some(lookups) = &self.lookups else { return LookupOutcome::Nothing };
        match lookups.results.try_recv() {
            Err(TryRecvError::Empty | TryRecvError::Disconnected) => LookupOutcome::Nothing,
            Ok(Err(error)) => LookupOutcome::Failed(error),
            Ok(Ok(found)) => self.take(found),
        }
    }

    fn take(&mut self, found: Vec<SocketAddr>) -> LookupOutcome {
        let found = self.fitting(found);
        if found.is_empty() {
            return LookupOutcome::Failed(io::Error::other(
                "the name has no address that fits -4, -6 or my_ip",
            ));
        }
        let current = self.current();
        self.addrs = found;
        match current.and_then(|addr| self.addrs.iter().position(|found| *found == addr)) {
            Some(index) => {
                self.current = index;
                LookupOutcome::Nothing
            }
            None => {
                (self.current, self.failed) = (0, 0);
                LookupOutcome::Moved
            }
        }
    }

    fn fitting(&self, addrs: Vec<SocketAddr>) -> Vec<SocketAddr> {
        let fits = |addr: &SocketAddr| match self.family {
            Family::Any => true,
            Family::V4 => addr.is_ipv4(),
            Family::V6 => addr.is_ipv6(),
        };
        addrs.into_iter().filter(fits).collect()
    }

    pub(crate) fn current(&self) -> Option<SocketAddr> {
        self.addrs.get(self.current).copied()
    }

    /// Marks the current address as failed and moves to the next. Returns whether every address has failed.
    pub(crate) fn next(&mut self) -> bool {
        self.failed += 1;
        if let Some(lookups) = &self.lookups {
            // The lookup thread lives as long as `self`, so the channel is open.
            let _ = lookups.kick.send(());
        }
        if !self.addrs.is_empty() {
            self.current = (self.current + 1) % self.addrs.len();
        }
        let round = self.failed >= self.addrs.len();
        if round {
            self.failed = 0;
        }
        round
    }

    /// Marks the current address as working.
    pub(crate) fn succeeded(&mut self) {
        self.failed = 0;
    }

    /// Makes `addr` the current address if the name still has it.
    pub(crate) fn choose(&mut self, addr: SocketAddr) {
        if let Some(index) = self.addrs.iter().position(|known| *known == addr) {
            self.current = index;
        }
    }
}

/// Opens a non-blocking socket connected to `to`, so that the kernel reports ICMP refusals.
pub(crate) fn connect(to: SocketAddr, from: Option<IpAddr>) -> io::Result<UdpSocket> {
    let any: IpAddr =
        if to.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind((from.unwrap_or(any), 0))?;
    socket.connect(to)?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_numbers_or_services() {
        for (text, expected) in [
            ("10000", Some(10000)),
            ("65535", Some(65535)),
            ("0", None),
            ("65536", None),
            ("-1", None),
            ("", None),
            ("no such", None),
        ] {
            assert_eq!(port(text).ok(), expected, "{text}");
        }
    }

    fn destination(addrs: &[&str]) -> Destination {
        let addrs = addrs.iter().map(|addr| addr.parse().unwrap()).collect();
        Destination { addrs, current: 0, failed: 0, family: Family::Any, lookups: None }
    }

    #[test]
    fn all_addresses_are_tried_in_turn() {
        let mut place = destination(&["[::1]:9", "127.0.0.1:9", "127.0.0.2:9"]);
        assert_eq!([place.next(), place.next(), place.next()], [false, false, true]);
        assert_eq!(place.current(), Some("[::1]:9".parse().unwrap()));
        assert!(destination(&["[::1]:9"]).next());
        assert!(destination(&[]).next());
    }

    #[test]
    fn a_lookup_keeps_the_address_in_use_while_it_is_valid() {
        let mut place = destination(&["127.0.0.1:9", "127.0.0.2:9"]);
        place.next();
        let found = ["127.0.0.2:9", "127.0.0.3:9"].map(|addr| addr.parse().unwrap());
        assert!(matches!(place.take(found.to_vec()), LookupOutcome::Nothing));
        assert_eq!(place.current(), Some(found[0]));
        assert!(matches!(place.take(vec![found[1]]), LookupOutcome::Moved));
        assert_eq!(place.current(), Some(found[1]));
        assert!(matches!(place.take(Vec::new()), LookupOutcome::Failed(_)));
        assert_eq!(place.current(), Some(found[1]));
    }
}
