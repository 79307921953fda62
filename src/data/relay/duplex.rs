//! The two directions of bytes between a client and a server, as a state machine that owns no socket.
//!
//! ```text
//!             client_to_server                 each way:  Open ── end of stream ──▶ Ending
//!   client ═══════════════════▶ server                     │                         │ all written
//!   client ◀═══════════════════ server                     │ the receiver fails      ▼
//!             server_to_client                             └────▶ Broken           Ended
//! ```
//!
//! Inputs are events of the sockets ([`Duplex::ready`], [`Duplex::did_read`], [`Duplex::did_write`]); the output is the next step
//! ([`Duplex::next`]). Invariants, whatever the order of events:
//!
//! - every byte read before an end of stream is written before the end is passed on;
//! - an end of stream is passed on as an end of stream, in each direction separately;
//! - a reset is passed on as a reset; a reset behind an end of stream discards no byte before that
//!   end, and the side that was told of the end is closed, not reset
//!   ([`Duplex::was_told_the_end`]);
//! - a direction reads only when it has nothing left to write and the receiver accepts bytes: a slow reader slows its
//!   writer, and an idle pair holds no buffer.

use crate::config::FastClose;

/// One end of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The client that connected to pen.
    Client,
    /// The server that pen connected to.
    Server,
}

impl Side {
    /// Returns the opposite side.
    #[must_use]
    pub const fn other(self) -> Self {
        match self {
            Self::Client => Self::Server,
            Self::Server => Self::Client,
        }
    }
}

/// The next step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Read from this side, and write the bytes to the opposite side.
    Read(Side),
    /// Write the rest of an earlier read to this side.
    Write(Side),
    /// Send an end of stream to this side.
    Finish(Side),
    /// Wait until a socket is ready.
    Wait,
    /// Both directions have ended: close both sockets.
    Close,
    /// The pair was reset: reset the socket that is left.
    Reset,
}

/// Outcome of a read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReadOutcome {
    /// Bytes came. `forward` of them are to be written: usually all, none if they are held back or
    /// the receiver is gone. `drained` says that the read returned fewer bytes than the buffer
    /// holds.
    Bytes {
        /// Bytes to write.
        forward: usize,
        /// The socket is empty for now.
        drained: bool,
    },
    /// The socket is empty.
    Blocked,
    /// End of stream.
    End,
    /// The connection is lost.
    Reset,
}

/// Outcome of a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WriteOutcome {
    /// This many bytes were accepted.
    Bytes(usize),
    /// No byte was accepted.
    Blocked,
    /// The receiver has closed: it reads nothing more, but bytes it sent before may be unread.
    Closed,
    /// The connection is lost; bytes may be left to read.
    Reset,
}

/// Readiness of a socket.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each of the four may be true without the others"
)]
pub struct Ready {
    /// Bytes can be read.
    pub readable: bool,
    /// Bytes can be written.
    pub writable: bool,
    /// The readable bytes include the end of the stream.
    pub ended: bool,
    /// The connection is lost.
    pub failed: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum DirectionState {
    Open,
    Ending,
    Ended,
    Broken,
    /// Bytes are no longer forwarded; the receiver has not been sent the end yet.
    Refused,
}

/// State of one socket.
#[derive(Clone, Copy, Debug)]
struct SocketState {
    ready: Ready,
    /// A write has failed; bytes of the peer may still be readable.
    lost: bool,
}

/// One direction.
#[derive(Clone, Copy, Debug)]
struct Direction {
    state: DirectionState,
    /// Bytes read and not written yet.
    left: usize,
    /// The end of stream is to be passed on, but the receiver had no room for it.
    stuck: bool,
}

/// Both directions of a pair.
#[derive(Clone, Copy, Debug)]
pub struct Duplex {
    /// Sockets by side; directions by sending side.
    sockets: [SocketState; 2],
    directions: [Direction; 2],
    /// The connection of this side was lost, which is to be passed on.
    reset: bool,
    /// The direction to serve first; alternates, so that neither direction starves.
    turn: Side,
    fast: FastClose,
}

impl Duplex {
    /// Creates the state of two open, writable sockets without traffic yet.
    #[must_use]
    pub fn new(fast: FastClose) -> Self {
        let ready = Ready { writable: true, ..Ready::default() };
        Self {
            sockets: [SocketState { ready, lost: false }; 2],
            directions: [Direction { state: DirectionState::Open, left: 0, stuck: false }; 2],
            reset: false,
            turn: Side::Client,
            fast,
        }
    }

    /// Notes new readiness of a socket.
    pub fn ready(&mut self, side: Side, ready: Ready) {
        let known = &mut self.sockets[side as usize].ready;
        known.readable |= ready.readable || ready.ended || ready.failed;
        known.writable |= ready.writable || ready.failed;
        known.ended |= ready.ended || ready.failed;
        known.failed |= ready.failed;
        // A reader of this socket would meet the failure itself; without a reader, this event is the only notice.
        if ready.failed && !self.reads_from(side) {
            self.close_receiver(side);
        }
    }

    /// A side with a closed stream accepts no more bytes either.
    fn close_receiver(&mut self, side: Side) {
        let direction = &mut self.directions[side.other() as usize];
        direction.left = 0;
        // No receiver is left to pass an end on to.
        direction.state = match direction.state {
            DirectionState::Open | DirectionState::Broken | DirectionState::Refused => {
                DirectionState::Broken
            }
            DirectionState::Ending | DirectionState::Ended => DirectionState::Ended,
        };
    }

    /// Adds bytes for `side` that come from pen, and go first.
    pub fn owe(&mut self, side: Side, bytes: usize) {
        self.directions[side.other() as usize].left += bytes;
    }

    /// Returns the next step.
    #[must_use]
    pub fn next(&self) -> Step {
        if self.reset {
            return Step::Reset;
        }
        let steps = [self.turn, self.turn.other()].map(|from| self.step(from));
        match (steps, self.directions.map(|direction| direction.state)) {
            (_, [DirectionState::Ended, DirectionState::Ended]) => Step::Close,
            // The client has gone and all its bytes have arrived: the server must learn of it.
            (_, [DirectionState::Ended, DirectionState::Broken]) => Step::Reset,
            ([Step::Wait, second], _) => second,
            ([first, _], _) => first,
        }
    }

    /// Returns the next step of the direction that comes from a side.
    fn step(&self, from: Side) -> Step {
        let (direction, to) = (&self.directions[from as usize], from.other());
        let readable = self.sockets[from as usize].ready.readable;
        let writable = self.sockets[to as usize].ready.writable;
        match direction.state {
            DirectionState::Open | DirectionState::Ending | DirectionState::Refused
                if direction.left > 0 =>
            {
                if writable {
                    Step::Write(to)
                } else {
                    Step::Wait
                }
            }
            DirectionState::Open if readable && writable => Step::Read(from),
            // While the last bytes of a client that has gone are being delivered, its server is not read: delivery ends soon, and
            // a download without a receiver is not traffic.
            DirectionState::Broken if from == Side::Server && !self.reads_from(Side::Client) => {
                Step::Wait
            }
            // Read and discarded: unread bytes would turn a close into a reset.
            DirectionState::Broken if readable => Step::Read(from),
            DirectionState::Ending | DirectionState::Refused if direction.stuck && !writable => {
                Step::Wait
            }
            DirectionState::Ending | DirectionState::Refused => Step::Finish(to),
            DirectionState::Open | DirectionState::Broken | DirectionState::Ended => Step::Wait,
        }
    }

    /// Notes the outcome of a [`Step::Read`].
    pub fn did_read(&mut self, from: Side, outcome: ReadOutcome) {
        self.turn = from.other();
        let lost = self.sockets[from as usize].lost;
        let ready = &mut self.sockets[from as usize].ready;
        let direction = &mut self.directions[from as usize];
        match outcome {
            ReadOutcome::Bytes { forward, drained } => {
                if drained && !ready.ended {
                    ready.readable = false;
                }
                if direction.state == DirectionState::Open {
                    direction.left += forward;
                }
            }
            ReadOutcome::Blocked => ready.readable = false,
            // The write met the reset; a read then sees only an end of stream.
            ReadOutcome::End if lost => self.reset = true,
            ReadOutcome::End => {
                ready.readable = false;
                // The read did not report a failure, so the failure came behind the end of stream.
                let failed = ready.failed;
                direction.state = if direction.state == DirectionState::Open {
                    DirectionState::Ending
                } else {
                    DirectionState::Ended
                };
                if failed {
                    self.close_receiver(from);
                }
                self.close_fast(from);
            }
            ReadOutcome::Reset => self.reset = true,
        }
    }

    /// Notes the outcome of a [`Step::Write`], or of the write after a read.
    pub fn did_write(&mut self, to: Side, outcome: WriteOutcome) {
        let from = to.other();
        let direction = &mut self.directions[from as usize];
        match outcome {
            WriteOutcome::Bytes(bytes) => direction.left = direction.left.saturating_sub(bytes),
            WriteOutcome::Blocked => self.sockets[to as usize].ready.writable = false,
            WriteOutcome::Closed | WriteOutcome::Reset => {
                direction.left = 0;
                // No receiver is left to pass an end on to.
                direction.state = if direction.state == DirectionState::Ending {
                    DirectionState::Ended
                } else {
                    DirectionState::Broken
                };
                let socket = &mut self.sockets[to as usize];
                socket.ready.readable = true;
                socket.lost |= outcome == WriteOutcome::Reset;
            }
        }
        if self.fast != FastClose::Off {
            self.close_fast(Side::Client);
            self.close_fast(Side::Server);
        }
    }

    /// Returns whether a [`Step::Close`] will follow a [`Step::Finish`]: this side has ended before.
    #[must_use]
    pub fn is_last(&self, to: Side) -> bool {
        self.directions[to.other() as usize].state == DirectionState::Ending
            && self.directions[to as usize].state == DirectionState::Ended
    }

    /// Notes that a [`Step::Finish`] was done.
    pub fn did_finish(&mut self, to: Side) {
        let direction = &mut self.directions[to.other() as usize];
        direction.state = if direction.state == DirectionState::Refused {
            DirectionState::Broken
        } else {
            DirectionState::Ended
        };
    }

    /// Stops forwarding from this side. The opposite side is sent an end of stream; later bytes are
    /// read and discarded.
    pub fn refuse(&mut self, from: Side) {
        let direction = &mut self.directions[from as usize];
        if direction.state == DirectionState::Open {
            direction.state = DirectionState::Refused;
        }
    }

    /// Notes that a [`Step::Finish`] found the socket full; the step is repeated when the socket is
    /// writable.
    pub fn did_not_finish(&mut self, to: Side) {
        self.sockets[to as usize].ready.writable = false;
        self.directions[to.other() as usize].stuck = true;
    }

    /// Returns the number of bytes read and not written yet to `side`.
    #[must_use]
    pub const fn left(&self, side: Side) -> usize {
        self.directions[side.other() as usize].left
    }

    /// Returns whether a side has ended. Its bytes may still be in transit.
    #[must_use]
    pub fn is_half_closed(&self) -> bool {
        self.directions.iter().any(|direction| direction.state != DirectionState::Open)
            || self.sockets.iter().any(|socket| socket.ready.ended)
    }

    /// Returns whether both directions discard their bytes.
    #[must_use]
    pub fn only_discards(&self) -> bool {
        self.directions.iter().all(|direction| {
            matches!(direction.state, DirectionState::Broken | DirectionState::Ended)
        })
    }

    /// Returns whether this side has been sent everything, the end included. A reset would revoke bytes still in transit.
    #[must_use]
    pub fn was_told_the_end(&self, side: Side) -> bool {
        self.directions[side.other() as usize].state == DirectionState::Ended
    }

    /// Returns whether bytes from this side are read and discarded.
    #[must_use]
    pub fn discards(&self, from: Side) -> bool {
        self.directions[from as usize].state == DirectionState::Broken
    }

    fn reads_from(&self, side: Side) -> bool {
        matches!(
            self.directions[side as usize].state,
            DirectionState::Open | DirectionState::Broken | DirectionState::Refused
        )
    }

    /// Ends both directions with the end of this side, if configured (`tcp_fastclose`), once no byte is left in either.
    fn close_fast(&mut self, from: Side) {
        let asked = match self.fast {
            FastClose::Off => false,
            FastClose::Both => true,
            FastClose::Client => from == Side::Client,
            FastClose::Server => from == Side::Server,
        };
        let said_all = matches!(
            self.directions[from as usize].state,
            DirectionState::Ending | DirectionState::Ended
        );
        if asked && said_all && self.directions.iter().all(|direction| direction.left == 0) {
            self.directions =
                [Direction { state: DirectionState::Ended, left: 0, stuck: false }; 2];
        }
    }
}
