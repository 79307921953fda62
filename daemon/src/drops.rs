//! Datagrams that the kernel dropped because the buffer of a socket was full, from its own table.
//!
//! ```text
//! sl local remote st queues timer retransmits uid timeout inode ref pointer drops        ; /proc/net/udp, udp6
//! ```

use std::fs::File;
use std::io::{Read as _, Seek as _};

/// The two tables, which a jail does not have: so they are opened before.
#[derive(Debug)]
pub struct Table(Vec<File>);

impl Table {
    /// Opens those that there are.
    #[must_use]
    pub fn open() -> Self {
        let paths = ["/proc/net/udp", "/proc/net/udp6"];
        Self(paths.into_iter().filter_map(|path| File::open(path).ok()).collect())
    }

    /// How many the sockets with these inodes have lost so far, together; `None` if the kernel does not tell.
    pub fn read(&mut self, inodes: &[u64]) -> Option<u64> {
        let (mut sum, mut known) = (0, 0);
        for file in &mut self.0 {
            let mut text = String::new();
            file.rewind().ok()?;
            file.read_to_string(&mut text).ok()?;
            for drops in text.lines().filter_map(|line| of_one(line, inodes)) {
                sum += drops;
                known += 1;
            }
        }
        (known == inodes.len()).then_some(sum)
    }
}

fn of_one(line: &str, inodes: &[u64]) -> Option<u64> {
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
        let mut table = Table::open();
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
