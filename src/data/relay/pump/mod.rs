//! Does what a [`Duplex`] asks for, on whatever ends it is given: sockets here, a network in memory in
//! the tests.

use std::io::{self, ErrorKind};

use super::duplex::{Duplex, ReadOutcome, Side, Step, WriteOutcome};

/// Steps for one pair before others get their turn.
const BUDGET: usize = 32;

/// Both ends of a pair. Nothing here waits.
pub trait Ends {
    /// Reads what a side has sent; 0 is the end.
    ///
    /// # Errors
    /// As a socket does.
    fn read(&mut self, from: Side, buf: &mut [u8]) -> io::Result<usize>;

    /// Writes to a side.
    ///
    /// # Errors
    /// As a socket does.
    fn write(&mut self, to: Side, bytes: &[u8]) -> io::Result<usize>;

    /// Whether there is something to read from a side, whatever its socket says.
    fn has_more(&mut self, _from: Side) -> bool {
        false
    }

    /// Tells a side that no more will come. `last` says that both are closed next, which tells it as well where an
    /// end is no more than that.
    ///
    /// # Errors
    /// There is no room to say so: that is tried again. Of all other errors the socket's events will tell.
    fn finish(&mut self, to: Side, last: bool) -> io::Result<()>;
}

/// Somebody who sees all bytes of a pair before they are written, and may change them.
pub trait ByteObserver {
    /// Bytes that came from a side; what is handed back is written to the other one.
    fn pass<'a>(&'a mut self, from: Side, bytes: &'a [u8]) -> &'a [u8];

    /// Whether nothing more of what a side sends is for the other one: it is told then that this was the
    /// end, and may still answer.
    fn refuses(&self, _from: Side) -> bool {
        false
    }

    /// The connection with a side is lost.
    fn lost(&mut self, _side: Side) {}

    /// A side will send no more. What is handed back still is written to the other one.
    fn end(&mut self, from: Side) -> &[u8];
}

/// Why a pair is left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PumpOutcome {
    /// Nothing can be done until a socket says so.
    Wait,
    /// There is more to do, but it is others' turn.
    Budget,
    /// Close both.
    Close,
    /// Reset both.
    Reset,
}

/// What could not be written at once, by the side it goes to. Takes no room while empty, and next to
/// none in a connection.
#[derive(Debug, Default)]
pub struct UnsentBytes(Option<Box<[UnsentBuffer; 2]>>);

#[derive(Debug, Default)]
struct UnsentBuffer {
    bytes: Vec<u8>,
    written: usize,
}

impl UnsentBytes {
    /// Puts bytes behind those that wait to be written to a side.
    pub fn push(&mut self, to: Side, bytes: &[u8]) {
        if !bytes.is_empty() {
            self.0.get_or_insert_default()[to as usize].bytes.extend_from_slice(bytes);
        }
    }

    /// How many bytes wait, for both sides.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.iter().flat_map(|both| &**both).map(|left| left.bytes.len() - left.written).sum()
    }

    /// Whether none does.
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

/// Moves bytes until something has to be waited for. `buf` is only used meanwhile.
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

/// Writes once; `None` if nobody takes these bytes any more.
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
