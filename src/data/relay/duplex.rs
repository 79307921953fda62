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
    /// Read from this side, and then write the bytes to the other side.
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
enum WayState {
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
struct Way {
    state: WayState,
    /// Bytes read and not written yet.
    left: usize,
    /// The end of stream is to be passed on, but the receiver had no room for it.
    stuck: bool,
}

/// Both directions of a pair.
#[derive(Clone, Copy, Debug)]
pub struct Duplex {
    /// By side: the socket of that side, or the direction that comes from it.
    sockets: [SocketState; 2],
    ways: [Way; 2],
    /// The connection of this side was lost, which is to be passed on.
    reset: bool,
    /// The side whose direction is served first, alternating so that neither starves.
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
            ways: [Way { state: WayState::Open, left: 0, stuck: false }; 2],
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

    /// A side that has sent its end accepts no more bytes either.
    fn close_receiver(&mut self, side: Side) {
        let way = &mut self.ways[side.other() as usize];
        way.left = 0;
        // No receiver is left to pass an end on to.
        way.state = match way.state {
            WayState::Open | WayState::Broken | WayState::Refused => WayState::Broken,
            WayState::Ending | WayState::Ended => WayState::Ended,
        };
    }

    /// Adds bytes for `side` that go first and do not come from the other side.
    pub fn owe(&mut self, side: Side, bytes: usize) {
        self.ways[side.other() as usize].left += bytes;
    }

    /// Returns the next step.
    #[must_use]
    pub fn next(&self) -> Step {
        if self.reset {
            return Step::Reset;
        }
        let steps = [self.turn, self.turn.other()].map(|from| self.step(from));
        match (steps, self.ways.map(|way| way.state)) {
            (_, [WayState::Ended, WayState::Ended]) => Step::Close,
            // The client has gone and all its bytes have arrived: the server must learn of it.
            (_, [WayState::Ended, WayState::Broken]) => Step::Reset,
            ([Step::Wait, second], _) => second,
            ([first, _], _) => first,
        }
    }

    /// Returns the next step of the direction that comes from a side.
    fn step(&self, from: Side) -> Step {
        let (way, to) = (&self.ways[from as usize], from.other());
        let readable = self.sockets[from as usize].ready.readable;
        let writable = self.sockets[to as usize].ready.writable;
        match way.state {
            WayState::Open | WayState::Ending | WayState::Refused if way.left > 0 => {
                if writable {
                    Step::Write(to)
                } else {
                    Step::Wait
                }
            }
            WayState::Open if readable && writable => Step::Read(from),
            // While the last bytes of a client that has gone are being delivered, its server is not read: delivery ends soon, and
            // a download without a receiver is not traffic.
            WayState::Broken if from == Side::Server && !self.reads_from(Side::Client) => {
                Step::Wait
            }
            // Read and discarded: unread bytes would turn a close into a reset.
            WayState::Broken if readable => Step::Read(from),
            WayState::Ending | WayState::Refused if way.stuck && !writable => Step::Wait,
            WayState::Ending | WayState::Refused => Step::Finish(to),
            WayState::Open | WayState::Broken | WayState::Ended => Step::Wait,
        }
    }

    /// Notes the outcome of a [`Step::Read`].
    pub fn did_read(&mut self, from: Side, outcome: ReadOutcome) {
        self.turn = from.other();
        let lost = self.sockets[from as usize].lost;
        let ready = &mut self.sockets[from as usize].ready;
        let way = &mut self.ways[from as usize];
        match outcome {
            ReadOutcome::Bytes { forward, drained } => {
                if drained && !ready.ended {
                    ready.readable = false;
                }
                if way.state == WayState::Open {
                    way.left += forward;
                }
            }
            ReadOutcome::Blocked => ready.readable = false,
            // The write met the reset; a read then sees only an end of stream.
            ReadOutcome::End if lost => self.reset = true,
            ReadOutcome::End => {
                ready.readable = false;
                // The read did not report a failure, so the failure came behind the end of stream.
                let failed = ready.failed;
                way.state =
                    if way.state == WayState::Open { WayState::Ending } else { WayState::Ended };
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
        let way = &mut self.ways[from as usize];
        match outcome {
            WriteOutcome::Bytes(bytes) => way.left = way.left.saturating_sub(bytes),
            WriteOutcome::Blocked => self.sockets[to as usize].ready.writable = false,
            WriteOutcome::Closed | WriteOutcome::Reset => {
                way.left = 0;
                // No receiver is left to pass an end on to.
                way.state =
                    if way.state == WayState::Ending { WayState::Ended } else { WayState::Broken };
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
        self.ways[to.other() as usize].state == WayState::Ending
            && self.ways[to as usize].state == WayState::Ended
    }

    /// Notes that a [`Step::Finish`] was done.
    pub fn did_finish(&mut self, to: Side) {
        let way = &mut self.ways[to.other() as usize];
        way.state = if way.state == WayState::Refused { WayState::Broken } else { WayState::Ended };
    }

    /// Stops forwarding from this side. The other side is sent an end of stream; later bytes are read and discarded.
    pub fn refuse(&mut self, from: Side) {
        let way = &mut self.ways[from as usize];
        if way.state == WayState::Open {
            way.state = WayState::Refused;
        }
    }

    /// Notes that a [`Step::Finish`] found no room; it is repeated when there is room.
    pub fn did_not_finish(&mut self, to: Side) {
        self.sockets[to as usize].ready.writable = false;
        self.ways[to.other() as usize].stuck = true;
    }

    /// Returns the number of bytes read and not written yet to `side`.
    #[must_use]
    pub const fn left(&self, side: Side) -> usize {
        self.ways[side.other() as usize].left
    }

    /// Returns whether a side has ended. Its bytes may still be in transit.
    #[must_use]
    pub fn is_half_closed(&self) -> bool {
        self.ways.iter().any(|way| way.state != WayState::Open)
            || self.sockets.iter().any(|socket| socket.ready.ended)
    }

    /// Returns whether both directions discard their bytes.
    #[must_use]
    pub fn only_discards(&self) -> bool {
        self.ways.iter().all(|way| matches!(way.state, WayState::Broken | WayState::Ended))
    }

    /// Returns whether this side has been sent everything, the end included. A reset would revoke bytes still in transit.
    #[must_use]
    pub fn was_told_the_end(&self, side: Side) -> bool {
        self.ways[side.other() as usize].state == WayState::Ended
    }

    /// Returns whether bytes from this side are read and discarded.
    #[must_use]
    pub fn discards(&self, from: Side) -> bool {
        self.ways[from as usize].state == WayState::Broken
    }

    fn reads_from(&self, side: Side) -> bool {
        matches!(
            self.ways[side as usize].state,
            WayState::Open | WayState::Broken | WayState::Refused
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
        let said_all = matches!(self.ways[from as usize].state, WayState::Ending | WayState::Ended);
        if asked && said_all && self.ways.iter().all(|way| way.left == 0) {
            self.ways = [Way { state: WayState::Ended, left: 0, stuck: false }; 2];
        }
    }
}
