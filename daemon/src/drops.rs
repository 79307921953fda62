//! Counts datagrams that the kernel dropped because a socket's receive buffer was full, from `/proc/net/udp` and `udp6`.
//!
//! ```text
//! sl local remote st queues timer retransmits uid timeout inode ref pointer drops        ; /proc/net/udp, udp6
//! ```

use std::fs::File;
use std::io::{Read as _, Seek as _};

/// The two kernel tables, opened before a chroot, which has no `/proc`.
#[derive(Debug)]
pub struct UdpDropTable(Vec<File>);

impl UdpDropTable {
    /// Opens the tables; a missing one (no IPv6) is left out.
    #[must_use]
    pub fn open() -> Self {
        let paths = ["/proc/net/udp", "/proc/net/udp6"];
        Self(paths.into_iter().filter_map(|path| File::open(path).ok()).collect())
    }

    /// Returns the sum of drops of the sockets with these inodes, or `None` if the kernel does not list every one.
    pub fn read(&mut self, inodes: &[u64]) -> Option<u64> {
        let (mut sum, mut known) = (0, 0);
        for file in &mut self.0 {
            let mut text = String::new();
            file.rewind().ok()?;
            file.read_to_string(&mut text).ok()?;
            for drops in text.lines().filter_map(|line| drops_of_line(line, inodes)) {
                sum += drops;
                known += 1;
            }
        }
        (known == inodes.len()).then_some(sum)
    }
}

fn drops_of_line(line: &str, inodes: &[u64]) -> Option<u64> {
    let mut words = line.split_ascii_whitespace();
    let inode = words.nth(9)?.parse().ok()?;
    if inodes.contains(&inode) { words.nth(2)?.parse().ok() } else { None }
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;
    use std::os::fd::{AsFd as _, OwnedFd};
    use std::os::unix::fs::MetadataExt as _;

    use super::*;

    fn inode(socket: &UdpSocket) -> u64 {
        let fd: OwnedFd = socket.as_fd().try_clone_to_owned().unwrap();
        File::from(fd).metadata().unwrap().ino()
    }

    #[test]
    fn what_is_dropped_at_sockets_of_either_family_is_counted() {
        let mut table = UdpDropTable::open();
        for addr in ["127.0.0.1:0", "[::1]:0"] {
            let socket = UdpSocket::bind(addr).unwrap();
            let own = inode(&socket);
            assert_eq!(table.read(&[own]), Some(0));
            let full = UdpSocket::bind(addr).unwrap();
            // More than any default buffer has room for.
            let to = socket.local_addr().unwrap();
            for _ in 0..2_000 {
                full.send_to(&[0; 8_192], to).unwrap();
            }
            let drops = table.read(&[own]).unwrap();
            assert!(drops > 0 && drops < 2_000, "{drops}");
            let both = [own, inode(&full)];
            assert_eq!(table.read(&both), Some(drops));
            assert_eq!(table.read(&[own, u64::MAX]), None);
        }
    }
}
