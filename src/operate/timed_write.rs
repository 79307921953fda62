//! Writing to somebody who may take it slowly, or not at all, from a thread of which there are few.

use std::io::{self, ErrorKind, Write};
use std::time::{Duration, Instant};

/// Bytes that have to be taken within the time that is given.
const SOME: usize = 64 << 10;

/// Writes all of it, as long as whoever takes it takes [`SOME`] in each `patience`: a byte now and then
/// would keep a thread for ever. A write by itself has to end in time.
///
/// # Errors
/// As `write` does, or it takes too long.
pub(crate) fn write_all(
    to: &mut impl Write,
    mut bytes: &[u8],
    patience: Duration,
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
        if taken >= SOME {
            (since, taken) = (Instant::now(), 0);
        } else if !bytes.is_empty() && since.elapsed() > patience {
            return Err(ErrorKind::TimedOut.into());
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Takes so many bytes at a time, for ever.
    struct Drip(usize, Vec<u8>);

    impl Write for Drip {
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
    fn who_takes_a_byte_now_and_then_is_left() {
        let text = vec![b'x'; 200_000];
        let mut slow = Drip(1, Vec::new());
        let end = write_all(&mut slow, &text, Duration::ZERO).map_err(|error| error.kind());
        assert_eq!(end, Err(ErrorKind::TimedOut));
        assert!(slow.1.len() < text.len());
        // However long all of it takes.
        let mut fast = Drip(SOME, Vec::new());
        assert!(write_all(&mut fast, &text, Duration::ZERO).is_ok() && fast.1 == text);
        let mut gone = Drip(0, Vec::new());
        let end = write_all(&mut gone, &text, Duration::MAX).map_err(|error| error.kind());
        assert_eq!(end, Err(ErrorKind::WriteZero));
    }
}
