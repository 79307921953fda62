//! Executes the steps of a [`Duplex`] on two ends: sockets, or in tests a network in memory.

use std::io::{self, ErrorKind};

use super::duplex::{Duplex, ReadOutcome, Side, Step, WriteOutcome};

/// Steps for one pair in a row, before the next pair is served.
const BUDGET: usize = 32;

/// The two ends of a connection. No method waits.
pub trait Ends {
    /// Reads from a side; 0 means end of stream.
    ///
    /// # Errors
    /// As the socket.
    fn read(&mut self, from: Side, buf: &mut [u8]) -> io::Result<usize>;

    /// Writes to a side.
    ///
    /// # Errors
    /// As the socket.
    fn write(&mut self, to: Side, bytes: &[u8]) -> io::Result<usize>;

    /// Returns whether bytes of a side can be read although its socket reports none, such as
    /// decrypted bytes.
    fn has_more(&mut self, _from: Side) -> bool {
        false
    }

    /// Sends an end of stream to a side. `last` means that both ends are closed next, which is enough for an end without more
    /// to say.
    ///
    /// # Errors
    /// No room at the moment: try again. Other failures are reported by socket events.
    fn finish(&mut self, to: Side, last: bool) -> io::Result<()>;
}

/// Observer of all bytes of a pair, with the right to change bytes before they are written.
pub trait ByteObserver {
    /// Processes bytes from a side. Returns the bytes for the other side.
    fn pass<'a>(&'a mut self, from: Side, bytes: &'a [u8]) -> &'a [u8];

    /// Returns whether nothing more from this side may be forwarded. The other side is then sent an end of stream and may still
    /// answer.
    fn refuses(&self, _from: Side) -> bool {
        false
    }

    /// The connection of a side is lost.
    fn lost(&mut self, _side: Side) {}

    /// A side has ended. Returned bytes are written to the other side first.
    fn end(&mut self, from: Side) -> &[u8];
}

/// Why the pump returns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PumpOutcome {
    /// A socket must become ready.
    Wait,
    /// The budget is used up: continue after other pairs.
    Budget,
    /// Close both ends.
    Close,
    /// Reset both ends.
    Reset,
}

/// Bytes that could not be written at once, by receiving side. Allocates nothing while empty.
#[derive(Debug, Default)]
pub struct UnsentBytes(Option<Box<[UnsentBuffer; 2]>>);

#[derive(Debug, Default)]
struct UnsentBuffer {
    bytes: Vec<u8>,
    written: usize,
}

impl UnsentBytes {
    /// Appends bytes to those waiting for a side.
    pub fn push(&mut self, to: Side, bytes: &[u8]) {
        if !bytes.is_empty() {
            self.0.get_or_insert_default()[to as usize].bytes.extend_from_slice(bytes);
        }
    }

    /// Returns the number of waiting bytes, for both sides.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.iter().flat_map(|both| &**both).map(|left| left.bytes.len() - left.written).sum()
    }

    /// Returns whether no bytes are waiting.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    fn of(&self, to: Side) -> &[u8] {
        self.0.as_ref().map_or(b"", |both| {
            let left = &both[to as usize];
            &left.bytes[left.written..]
        })
    }

    fn wrote(&mut self, to: Side, bytes: usize) {
        let Some(both) = &mut self.0 else { return };
        let left = &mut both[to as usize];
        left.written += bytes;
        if left.written >= left.bytes.len() {
            self.forget(to);
        }
    }

    fn forget(&mut self, to: Side) {
        let Some(both) = &mut self.0 else { return };
        both[to as usize] = UnsentBuffer::default();
        if both.iter().all(|left| left.bytes.is_empty()) {
            self.0 = None;
        }
    }
}

/// Moves bytes until a socket must be waited for. `buf` is a scratch buffer.
pub fn pump(
    duplex: &mut Duplex,
    left: &mut UnsentBytes,
    ends: &mut impl Ends,
    watch: &mut impl ByteObserver,
    buf: &mut [u8],
) -> PumpOutcome {
    for _ in 0..BUDGET {
        match duplex.next() {
            Step::Read(from) => read(duplex, left, ends, watch, buf, from),
            Step::Write(to) => {
                let outcome = write(duplex, ends, to, left.of(to));
                match outcome {
                    Some(bytes) => left.wrote(to, bytes),
                    None => left.forget(to),
                }
            }
            Step::Finish(to) => match ends.finish(to, duplex.is_last(to)) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => duplex.did_not_finish(to),
                _ => duplex.did_finish(to),
            },
            Step::Wait => return PumpOutcome::Wait,
            Step::Close => return PumpOutcome::Close,
            Step::Reset => return PumpOutcome::Reset,
        }
    }
    PumpOutcome::Budget
}

fn read(
    duplex: &mut Duplex,
    left: &mut UnsentBytes,
    ends: &mut impl Ends,
    watch: &mut impl ByteObserver,
    buf: &mut [u8],
    from: Side,
) {
    let to = from.other();
    let forward: &[u8] = match ends.read(from, buf) {
        Ok(0) => {
            let last = watch.end(from);
            if !duplex.discards(from) {
                duplex.owe(to, last.len());
                left.push(to, last);
            }
            duplex.did_read(from, ReadOutcome::End);
            return;
        }
        Ok(bytes) => {
            let drained = bytes < buf.len() && !ends.has_more(from);
            let forward = watch.pass(from, &buf[..bytes]);
            duplex.did_read(from, ReadOutcome::Bytes { forward: forward.len(), drained });
            forward
        }
        Err(error) => {
            match error.kind() {
                ErrorKind::WouldBlock => duplex.did_read(from, ReadOutcome::Blocked),
                ErrorKind::Interrupted => {}
                _ => {
                    watch.lost(from);
                    duplex.did_read(from, ReadOutcome::Reset);
                }
            }
            return;
        }
    };
    if !duplex.discards(from)
        && !forward.is_empty()
        && let Some(written) = write(duplex, ends, to, forward)
        && written < forward.len()
    {
        left.push(to, &forward[written..]);
    }
    if watch.refuses(from) {
        duplex.refuse(from);
    }
}

/// Writes once; `None` if the receiver accepts nothing any more.
fn write(duplex: &mut Duplex, ends: &mut impl Ends, to: Side, bytes: &[u8]) -> Option<usize> {
    match ends.write(to, bytes) {
        Ok(written) => {
            duplex.did_write(to, WriteOutcome::Bytes(written));
            if written < bytes.len() {
                duplex.did_write(to, WriteOutcome::Blocked);
            }
            Some(written)
        }
        Err(error) => match error.kind() {
            ErrorKind::WouldBlock => {
                duplex.did_write(to, WriteOutcome::Blocked);
                Some(0)
            }
            ErrorKind::Interrupted => Some(0),
            ErrorKind::BrokenPipe => {
                duplex.did_write(to, WriteOutcome::Closed);
                None
            }
            _ => {
                duplex.did_write(to, WriteOutcome::Reset);
                None
            }
        },
    }
}

#[cfg(test)]
mod tests;
