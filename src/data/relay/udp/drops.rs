//! Counts the datagrams that the kernel drops because the buffer of a port is full.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use pen_daemon::drops::UdpDropTable;

use super::port::UdpPort;

/// How long a count is reused: the kernel's table may be long, as each flow is a line in it.
const FRESH: Duration = Duration::from_secs(2);

/// The drop counts of some ports.
#[derive(Debug)]
pub struct KernelDrops(Mutex<DropsState>);

#[derive(Debug)]
struct DropsState {
    table: UdpDropTable,
    inodes: Vec<u64>,
    last: Option<(Instant, Option<u64>)>,
}

impl KernelDrops {
    /// Watches these ports. The table is opened at once, as `/proc` may be missing after chroot.
    #[must_use]
    pub fn at<'a>(ports: impl Iterator<Item = &'a UdpPort>) -> Self {
        let inodes = ports.filter_map(|port| port.inode().ok()).collect();
        Self(Mutex::new(DropsState { table: UdpDropTable::open(), inodes, last: None }))
    }

    /// Returns how many datagrams were dropped so far; `None` if the kernel does not tell.
    #[must_use]
    pub fn count(&self) -> Option<u64> {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let DropsState { table, inodes, last } = &mut *state;
        match *last {
            Some((at, count)) if at.elapsed() < FRESH => count,
            _ => {
                let count = table.read(inodes);
                *last = Some((Instant::now(), count));
                count
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, UdpSocket};

    use super::*;

    #[test]
    fn what_nobody_has_taken_in_time_is_counted() {
        let ports = UdpPort::bind((Ipv4Addr::LOCALHOST, 0).into(), 2).unwrap();
        let drops = KernelDrops::at(ports.iter());
        assert_eq!(drops.count(), Some(0));
        let client = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        for _ in 0..2_000 {
            // Six times the size that was asked for the buffer.
            client.send_to(&[0; 12 << 10], ports[0].addr()).unwrap();
        }
        drops.0.lock().unwrap().last = None;
        let count = drops.count().unwrap();
        assert!(count > 0 && count < 2_000, "{count}");
    }
}
