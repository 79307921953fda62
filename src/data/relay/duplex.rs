//! Two ways of bytes between a client and a server, as a machine that owns no socket.
//!
//! ```text
//!             client_to_server                 each way:  Open ── end of stream ──▶ Ending
//!   client ═══════════════════▶ server                     │                         │ all written
//!   client ◀═══════════════════ server                     │ the receiver fails      ▼
//!             server_to_client                             └────▶ Broken           Ended
//! ```
//!
//! What is learnt from sockets goes in ([`Duplex::ready`], [`Duplex::did_read`], [`Duplex::did_write`]), what
//! to do next comes out ([`Duplex::next`]). The laws that hold, whatever comes in which order:
//!
//! - every byte that was read before an end of stream is written before that end is passed on;
//! - an end of stream is passed on as one, in each direction on its own;
//! - a reset is passed on as a reset; one that comes behind an end takes back nothing of what came before that
//!   end, and the side that was told of it is closed and not cut ([`Duplex::was_told_the_end`]);
//! - a way reads only when it has nothing left to write and the receiver takes bytes: a slow reader
//!   slows its writer, and a silent pair holds no buffer.

use crate::config::FastClose;

/// One end of a pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// Who connected to us.
    Client,
    /// Whom we connected to.
    Server,
}

impl Side {
    /// The one over there.
    #[must_use]
    pub const fn other(self) -> Self {
        match self {
            Self::Client => Self::Server,
            Self::Server => Self::Client,
        }
    }
}

/// What to do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Read from this side, and then write what was read to the other one.
    Read(Side),
    /// Write to this side what is left over from a read.
    Write(Side),
    /// Tell this side that no more bytes will come.
    Finish(Side),
    /// Nothing, until something is ready.
    Wait,
    /// It is over: close both.
    Close,
    /// It was cut: reset whoever is left.
    Reset,
}

/// How a read went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReadOutcome {
    /// Bytes came. `forward` of them are to be written: usually all, none if they are held back or
    /// nobody wants them. `drained` says that there were fewer than there was room for.
    Bytes {
        /// To be written.
        forward: usize,
        /// Nothing is left to read for now.
        drained: bool,
    },
    /// Nothing is there.
    Blocked,
    /// No more will come.
    End,
    /// The connection is lost.
    Reset,
}

/// How a write went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WriteOutcome {
    /// So many bytes were taken.
    Bytes(usize),
    /// No byte was taken.
    Blocked,
    /// The receiver has closed: it will read no more, but may have said something.
    Closed,
    /// The connection is lost; there may still be bytes to read.
    Reset,
}

/// What became ready.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each of the four may be true without the others"
)]
pub struct Ready {
    /// There is something to read.
    pub readable: bool,
    /// There is room to write.
    pub writable: bool,
    /// The end of the stream is among what can be read.
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
    /// What comes is not forwarded any more; the receiver has not been told yet.
    Refused,
}

/// What is known of one socket.
#[derive(Clone, Copy, Debug)]
struct SocketState {
    ready: Ready,
    /// A write has told that it is lost; what it still has to say may be read.
    lost: bool,
}

/// Bytes from one side to the other.
#[derive(Clone, Copy, Debug)]
struct Way {
    state: WayState,
    /// Bytes that were read and not yet written.
    left: usize,
    /// The end was to be passed on, and the receiver had no room for that.
    stuck: bool,
}

/// Both ways of a pair.
#[derive(Clone, Copy, Debug)]
pub struct Duplex {
    /// By the side it belongs to, or comes from.
    sockets: [SocketState; 2],
    ways: [Way; 2],
    /// A side's connection was lost and that is to be passed on.
    reset: bool,
    /// Who goes first, so that neither way starves the other.
    turn: Side,
    fast: FastClose,
}

impl Duplex {
    /// A pair of open sockets that have not said anything yet, and may be written to.
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

    /// Notes what a socket has become ready for.
    pub fn ready(&mut self, side: Side, ready: Ready) {
        let known = &mut self.sockets[side as usize].ready;
        known.readable |= ready.readable || ready.ended || ready.failed;
        known.writable |= ready.writable || ready.failed;
        known.ended |= ready.ended || ready.failed;
        known.failed |= ready.failed;
        // Whoever still reads from it will come to the failure; if nobody does, this is the news.
        if ready.failed && !self.reads_from(side) {
            self.close_receiver(side);
        }
    }

    /// A side that had said all takes no more, either.
    fn close_receiver(&mut self, side: Side) {
        let way = &mut self.ways[side.other() as usize];
        way.left = 0;
        // There is nobody to pass an end on to any more.
        way.state = match way.state {
            WayState::Open | WayState::Broken | WayState::Refused => WayState::Broken,
            WayState::Ending | WayState::Ended => WayState::Ended,
        };
    }

    /// Bytes that go to `side` before anything else, from elsewhere than its other end.
    pub fn owe(&mut self, side: Side, bytes: usize) {
        self.ways[side.other() as usize].left += bytes;
    }

    /// What to do now.
    #[must_use]
    pub fn next(&self) -> Step {
        if self.reset {
            return Step::Reset;
        }
        let steps = [self.turn, self.turn.other()].map(|from| self.step(from));
        match (steps, self.ways.map(|way| way.state)) {
            (_, [WayState::Ended, WayState::Ended]) => Step::Close,
            // The client has gone, and all that it said has arrived: the server is to know.
            (_, [WayState::Ended, WayState::Broken]) => Step::Reset,
            ([Step::Wait, second], _) => second,
            ([first, _], _) => first,
        }
    }

    /// What is to be done for the way that comes from a side.
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
            // While the rest of what a client said before it went arrives, its server is not
            // listened to: that ends in a moment, and a download that nobody wants is no traffic.
            WayState::Broken if from == Side::Server && !self.reads_from(Side::Client) => {
                Step::Wait
            }
            // Read and forgotten: bytes left unread would turn our close into a reset.
            WayState::Broken if readable => Step::Read(from),
            WayState::Ending | WayState::Refused if way.stuck && !writable => Step::Wait,
            WayState::Ending | WayState::Refused => Step::Finish(to),
            WayState::Open | WayState::Broken | WayState::Ended => Step::Wait,
        }
    }

    /// A [`Step::Read`] went like this.
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
            // The write was told of the reset; a read then finds nothing but an end.
            ReadOutcome::End if lost => self.reset = true,
            ReadOutcome::End => {
                ready.readable = false;
                // A failure that the read was not told of came behind the end.
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

    /// A [`Step::Write`], or the write that follows a read, went like this.
    pub fn did_write(&mut self, to: Side, outcome: WriteOutcome) {
        let from = to.other();
        let way = &mut self.ways[from as usize];
        match outcome {
            WriteOutcome::Bytes(bytes) => way.left = way.left.saturating_sub(bytes),
            WriteOutcome::Blocked => self.sockets[to as usize].ready.writable = false,
            WriteOutcome::Closed | WriteOutcome::Reset => {
                way.left = 0;
                // There is nobody to pass an end on to any more.
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

    /// Whether a [`Step::Finish`] is followed by a [`Step::Close`]: this side has ended before.
    #[must_use]
    pub fn is_last(&self, to: Side) -> bool {
        self.ways[to.other() as usize].state == WayState::Ending
            && self.ways[to as usize].state == WayState::Ended
    }

    /// A [`Step::Finish`] was done.
    pub fn did_finish(&mut self, to: Side) {
        let way = &mut self.ways[to.other() as usize];
        way.state = if way.state == WayState::Refused { WayState::Broken } else { WayState::Ended };
    }

    /// Nothing more of what comes from this side is for the other one, which is told that this was the
    /// end; what still comes is read and forgotten.
    pub fn refuse(&mut self, from: Side) {
        let way = &mut self.ways[from as usize];
        if way.state == WayState::Open {
            way.state = WayState::Refused;
        }
    }

    /// A [`Step::Finish`] found no room for what has to be said; it is asked for again when there is.
    pub fn did_not_finish(&mut self, to: Side) {
        self.sockets[to as usize].ready.writable = false;
        self.ways[to.other() as usize].stuck = true;
    }

    /// Bytes that were read and not yet written to `side`.
    #[must_use]
    pub const fn left(&self, side: Side) -> usize {
        self.ways[side.other() as usize].left
    }

    /// Whether one side has said all and the other one has not. What it said may still be under way.
    #[must_use]
    pub fn is_half_closed(&self) -> bool {
        self.ways.iter().any(|way| way.state != WayState::Open)
            || self.sockets.iter().any(|socket| socket.ready.ended)
    }

    /// Whether nothing is passed on any more: whatever still comes is thrown away.
    #[must_use]
    pub fn only_discards(&self) -> bool {
        self.ways.iter().all(|way| matches!(way.state, WayState::Broken | WayState::Ended))
    }

    /// Whether all that this side was to get has been written, and then the end. To cut it would take
    /// back what is still under way.
    #[must_use]
    pub fn was_told_the_end(&self, side: Side) -> bool {
        self.ways[side.other() as usize].state == WayState::Ended
    }

    /// Whether bytes from this side are read to be thrown away.
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

    /// Ends both ways with the end of this side, if that was asked for, once nothing is left of either.
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
