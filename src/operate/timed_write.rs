//! Writing to a peer that may read slowly or not at all, without holding one of few threads for ever.

use std::io::{self, ErrorKind, Write};
use std::time::{Duration, Instant};

/// Bytes that the peer must accept within each timeout.
const MIN_PROGRESS: usize = 64 << 10;

/// Writes all bytes, as long as the peer accepts [`MIN_PROGRESS`] in each `timeout`: a peer that reads single bytes would
/// hold the thread for ever. A single write needs a timeout of its own, set at the socket.
///
/// # Errors
/// A write fails, or the peer reads too slowly (`TimedOut`).
pub(crate) fn write_all(
    to: &mut impl Write,
    mut bytes: &[u8],
    timeout: Duration,
) -> io::Result<()> {
    let (mut since, mut taken) = (Instant::now(), 0);
    while !bytes.is_empty() {
        match to.write(bytes) {
            Ok(0) => return Err(ErrorKind::WriteZero.into()),
            Ok(count) => {
                taken += count;
                bytes = bytes.get(count..).unwrap_or_default();
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
        if taken >= MIN_PROGRESS {
            (since, taken) = (Instant::now(), 0);
        } else if !bytes.is_empty() && since.elapsed() > timeout {
            return Err(ErrorKind::TimedOut.into());
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A peer that accepts at most this many bytes at a time.
    struct SlowPeer(usize, Vec<u8>);

    impl Write for SlowPeer {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let count = bytes.len().min(self.0);
            self.1.extend_from_slice(&bytes[..count]);
            Ok(count)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_peer_that_reads_single_bytes_times_out() {
        let text = vec![b'x'; 200_000];
        let mut slow = SlowPeer(1, Vec::new());
        let end = write_all(&mut slow, &text, Duration::ZERO).map_err(|error| error.kind());
        assert_eq!(end, Err(ErrorKind::TimedOut));
        assert!(slow.1.len() < text.len());
        // There is no limit for the whole text.
        let mut fast = SlowPeer(MIN_PROGRESS, Vec::new());
        assert!(write_all(&mut fast, &text, Duration::ZERO).is_ok() && fast.1 == text);
        let mut gone = SlowPeer(0, Vec::new());
        let end = write_all(&mut gone, &text, Duration::MAX).map_err(|error| error.kind());
        assert_eq!(end, Err(ErrorKind::WriteZero));
    }
}
