//! The laws of a byte stream, on a network in memory that behaves as sockets do: small buffers, events at
//! the edges only, ends and resets at any moment.

use proptest::prelude::*;

use super::*;
use crate::config::FastClose;
use crate::data::relay::duplex::Ready;

/// The behaviour of a program at one end.
#[derive(Clone, Debug)]
struct Program {
    sends: Vec<u8>,
    /// How the program ends its stream.
    then: Then,
    /// Bytes it reads at a time; 0 never reads.
    reads: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Then {
    /// Shuts down its sending side and reads on.
    Finish,
    /// Closes with a reset.
    Reset,
    /// Shuts down its sending side, and some time later closes with a reset.
    FinishAndReset,
    /// Keeps the connection as it is.
    Nothing,
}

/// A connection between a program and us, as both kernels see it.
#[expect(clippy::struct_excessive_bools, reason = "each may be true without the others")]
struct Line {
    program: Program,
    sent_bytes: usize,
    ended: bool,
    /// Sent by the program, not read by us.
    to_us: Vec<u8>,
    /// Written by us, not read by the program.
    to_program: Vec<u8>,
    received: Vec<u8>,
    /// We have ended what we write.
    finished: bool,
    /// The program has reset the line.
    reset: bool,
    /// An error was told once.
    told: bool,
    capacity: usize,
    /// Edges that are not delivered yet.
    event: Ready,
    /// A write has found no room since the last edge.
    wants_room: bool,
}

impl Line {
    fn new(program: Program, capacity: usize) -> Self {
        let event = Ready { writable: true, ..Ready::default() };
        Self {
            program,
            sent_bytes: 0,
            ended: false,
            to_us: Vec::new(),
            to_program: Vec::new(),
            received: Vec::new(),
            finished: false,
            reset: false,
            told: false,
            capacity,
            event,
            wants_room: false,
        }
    }

    /// Lets the program say up to so many bytes, and end.
    fn say(&mut self, bytes: usize) {
        if self.reset || (self.ended && self.program.then == Then::Finish) {
            return;
        }
        let until = (self.sent_bytes + bytes.min(self.capacity.saturating_sub(self.to_us.len())))
            .min(self.program.sends.len());
        if until > self.sent_bytes {
            self.to_us.extend_from_slice(&self.program.sends[self.sent_bytes..until]);
            self.sent_bytes = until;
            self.event.readable = true;
        } else if self.sent_bytes == self.program.sends.len() {
            match self.program.then {
                Then::Finish => {
                    self.ended = true;
                    self.event.readable = true;
                    self.event.ended = true;
                }
                Then::FinishAndReset if !self.ended => {
                    self.ended = true;
                    self.event.readable = true;
                    self.event.ended = true;
                }
                Then::Reset | Then::FinishAndReset => {
                    self.reset = true;
                    self.event =
                        Ready { readable: true, writable: true, ended: true, failed: true };
                }
                Then::Nothing => {}
            }
        }
    }

    fn hear(&mut self) {
        let bytes = self.program.reads.min(self.to_program.len());
        self.received.extend(self.to_program.drain(..bytes));
        if bytes > 0 && self.wants_room {
            self.wants_room = false;
            self.event.writable = true;
        }
    }

    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let bytes = buf.len().min(self.to_us.len());
        if bytes > 0 {
            for (to, from) in buf.iter_mut().zip(self.to_us.drain(..bytes)) {
                *to = from;
            }
            return Ok(bytes);
        }
        if self.reset {
            // The kernel tells of a reset once; after that it is an end like others.
            return if self.ended || std::mem::replace(&mut self.told, true) {
                Ok(0)
            } else {
                Err(ErrorKind::ConnectionReset.into())
            };
        }
        if self.ended { Ok(0) } else { Err(ErrorKind::WouldBlock.into()) }
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.reset {
            return Err(if self.ended || std::mem::replace(&mut self.told, true) {
                ErrorKind::BrokenPipe.into()
            } else {
                ErrorKind::ConnectionReset.into()
            });
        }
        if self.finished {
            return Err(io::Error::other("a byte after the end"));
        }
        let taken = bytes.len().min(self.capacity.saturating_sub(self.to_program.len()));
        self.to_program.extend_from_slice(&bytes[..taken]);
        if taken < bytes.len() {
            self.wants_room = true;
        }
        if taken == 0 { Err(ErrorKind::WouldBlock.into()) } else { Ok(taken) }
    }
}

struct Network([Line; 2]);

impl Ends for Network {
    fn read(&mut self, from: Side, buf: &mut [u8]) -> io::Result<usize> {
        self.0[from as usize].read(buf)
    }

    fn write(&mut self, to: Side, bytes: &[u8]) -> io::Result<usize> {
        self.0[to as usize].write(bytes)
    }

    fn finish(&mut self, to: Side, _last: bool) -> io::Result<()> {
        self.0[to as usize].finished = true;
        Ok(())
    }
}

struct NoObserver;

impl ByteObserver for NoObserver {
    fn pass<'a>(&'a mut self, _: Side, bytes: &'a [u8]) -> &'a [u8] {
        bytes
    }

    fn end(&mut self, _: Side) -> &[u8] {
        b""
    }
}

/// Lets so many bytes of the client's pass and refuses the others.
struct Picky(usize);

const SORRY: &[u8] = b"sorry";

impl ByteObserver for Picky {
    fn pass<'a>(&'a mut self, from: Side, bytes: &'a [u8]) -> &'a [u8] {
        if from == Side::Server {
            return bytes;
        }
        let (good, bad) = bytes.split_at(self.0.min(bytes.len()));
        // Nothing is left to be taken as soon as something was not.
        self.0 = if bad.is_empty() { self.0 - good.len() } else { 0 };
        good
    }

    fn refuses(&self, from: Side) -> bool {
        from == Side::Client && self.0 == 0
    }

    fn end(&mut self, from: Side) -> &[u8] {
        if from == Side::Server { SORRY } else { b"" }
    }
}

/// The final event of each end.
struct End {
    pause: PumpOutcome,
    duplex: Duplex,
    network: Network,
}

const SIDES: [Side; 2] = [Side::Client, Side::Server];

/// Lets things happen in the order of `dice` until nothing moves any more.
fn play(programs: [Program; 2], capacity: usize, buf: usize, fast: FastClose, dice: &[u8]) -> End {
    play_before(&mut NoObserver, programs, capacity, buf, fast, dice)
}

fn play_before(
    watch: &mut impl ByteObserver,
    programs: [Program; 2],
    capacity: usize,
    buf: usize,
    fast: FastClose,
    dice: &[u8],
) -> End {
    let mut network = Network(programs.map(|program| Line::new(program, capacity)));
    let mut duplex = Duplex::new(fast);
    let mut left = UnsentBytes::default();
    let mut buf = vec![0; buf];
    let mut dice = dice.iter().copied().cycle().enumerate();
    let mut still = 0;
    while still < 400 {
        let (turn, die) = dice.next().expect("it goes round");
        // Now and then in turn, so that nothing is left out for ever.
        let action = if turn % 7 == 0 { turn / 7 % 8 } else { usize::from(die) % 8 };
        let side = SIDES[action % 2];
        let line = &mut network.0[side as usize];
        let before = (line.sent_bytes, line.ended, line.reset, line.received.len(), line.event);
        match action / 2 {
            0 => line.say(usize::from(die / 8) + 1),
            1 => line.hear(),
            _ => {
                let event = std::mem::take(&mut line.event);
                if event != Ready::default() {
                    duplex.ready(side, event);
                }
                let pause = pump(&mut duplex, &mut left, &mut network, watch, &mut buf);
                if matches!(pause, PumpOutcome::Close | PumpOutcome::Reset) {
                    for line in &mut network.0 {
                        line.hear_all();
                    }
                    return End { pause, duplex, network };
                }
            }
        }
        let line = &network.0[side as usize];
        let after = (line.sent_bytes, line.ended, line.reset, line.received.len(), line.event);
        still = if before == after { still + 1 } else { 0 };
    }
    End { pause: PumpOutcome::Wait, duplex, network }
}

impl Line {
    /// pen has closed: bytes in flight still arrive.
    fn hear_all(&mut self) {
        if self.program.reads > 0 {
            let rest = std::mem::take(&mut self.to_program);
            self.received.extend(rest);
        }
    }
}

fn program(
    then: impl Strategy<Value = Then>,
    reads: std::ops::Range<usize>,
) -> impl Strategy<Value = Program> {
    let sends = proptest::collection::vec(any::<u8>(), 0..200);
    (sends, then, reads).prop_map(|(sends, then, reads)| Program { sends, then, reads })
}

fn dice() -> impl Strategy<Value = Vec<u8>> {
    proptest::collection::vec(any::<u8>(), 1..300)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    #[test]
    fn every_byte_before_an_end_arrives_and_both_ends_end(
        client in program(Just(Then::Finish), 1..40),
        server in program(Just(Then::Finish), 1..40),
        capacity in 1_usize..40,
        buf in 1_usize..30,
        dice in dice(),
    ) {
        let end = play([client, server], capacity, buf, FastClose::Off, &dice);
        prop_assert_eq!(end.pause, PumpOutcome::Close);
        let [client, server] = &end.network.0;
        prop_assert_eq!(&client.received, &server.program.sends);
        prop_assert_eq!(&server.received, &client.program.sends);
    }

    #[test]
    fn an_end_from_one_side_ends_its_own_direction_only(
        quiet in program(Just(Then::Nothing), 1..40),
        ending in program(Just(Then::Finish), 1..40),
        swap in any::<bool>(),
        capacity in 1_usize..40,
        buf in 1_usize..30,
        dice in dice(),
    ) {
        let programs = if swap { [ending, quiet] } else { [quiet, ending] };
        let end = play(programs, capacity, buf, FastClose::Off, &dice);
        prop_assert_eq!(end.pause, PumpOutcome::Wait);
        let [client, server] = &end.network.0;
        prop_assert_eq!(&client.received, &server.program.sends);
        prop_assert_eq!(&server.received, &client.program.sends);
        prop_assert_eq!((server.finished, client.finished), (swap, !swap));
    }

    #[test]
    fn a_reset_is_passed_on_as_a_reset_and_never_as_an_end(
        other in program(Just(Then::Nothing), 1..40),
        resetting in program(Just(Then::Reset), 1..40),
        swap in any::<bool>(),
        capacity in 1_usize..40,
        buf in 1_usize..30,
        dice in dice(),
    ) {
        let programs = if swap { [resetting, other] } else { [other, resetting] };
        let end = play(programs, capacity, buf, FastClose::Off, &dice);
        prop_assert_eq!(end.pause, PumpOutcome::Reset);
        let cut = if swap { Side::Server } else { Side::Client };
        prop_assert!(!end.duplex.was_told_the_end(cut));
        let [client, server] = &end.network.0;
        let (cut, resetting) = if swap { (server, client) } else { (client, server) };
        prop_assert!(!cut.finished);
        prop_assert!(resetting.program.sends.starts_with(&cut.received));
    }

    #[test]
    fn a_reset_behind_an_end_takes_back_nothing_of_what_came_before_it(
        other in program(Just(Then::Nothing), 1..40),
        resetting in program(Just(Then::FinishAndReset), 1..40),
        swap in any::<bool>(),
        capacity in 1_usize..40,
        buf in 1_usize..30,
        dice in dice(),
    ) {
        let programs = if swap { [resetting, other] } else { [other, resetting] };
        let end = play(programs, capacity, buf, FastClose::Off, &dice);
        let [client, server] = &end.network.0;
        let (told, resetting) = if swap { (server, client) } else { (client, server) };
        prop_assert!(told.finished);
        prop_assert_eq!(&told.received, &resetting.program.sends);
        // A server is told at once that its client has gone; a client may go on for a while.
        prop_assert_eq!(end.pause, if swap { PumpOutcome::Reset } else { PumpOutcome::Wait });
        prop_assert!(end.duplex.was_told_the_end(SIDES[usize::from(swap)]));
    }

    #[test]
    fn who_does_not_read_stops_the_writer_and_nobody_else(
        deaf in program(Just(Then::Nothing), 0..1),
        other in program(Just(Then::Nothing), 1..40),
        swap in any::<bool>(),
        capacity in 1_usize..20,
        buf in 1_usize..20,
        dice in dice(),
    ) {
        let programs = if swap { [deaf, other] } else { [other, deaf] };
        let end = play(programs, capacity, buf, FastClose::Off, &dice);
        let [client, server] = &end.network.0;
        let (deaf, other) = if swap { (client, server) } else { (server, client) };
        prop_assert_eq!(&other.received, &deaf.program.sends);
        // Two kernels' buffers and one of ours: that is all that is ever under way.
        prop_assert!(other.sent_bytes <= 2 * capacity + buf);
    }

    #[test]
    fn a_fast_close_ends_both_ways_when_all_that_was_said_has_arrived(
        other in program(Just(Then::Nothing), 1..40),
        ending in program(Just(Then::Finish), 1..40),
        swap in any::<bool>(),
        both in any::<bool>(),
        capacity in 1_usize..40,
        buf in 1_usize..30,
        dice in dice(),
    ) {
        let own = if swap { FastClose::Client } else { FastClose::Server };
        let fast = if both { FastClose::Both } else { own };
        let programs = if swap { [ending, other] } else { [other, ending] };
        let end = play(programs, capacity, buf, fast, &dice);
        prop_assert_eq!(end.pause, PumpOutcome::Close);
        let [client, server] = &end.network.0;
        let (received, sent_bytes) = if swap { (&server.received, client) } else { (&client.received, server) };
        prop_assert_eq!(received, &sent_bytes.program.sends);
    }

    #[test]
    fn who_is_refused_is_read_to_the_end_and_gets_its_answers_and_ours(
        client in program(Just(Then::Finish), 1..40),
        server in program(Just(Then::Finish), 1..40),
        good in 1_usize..200,
        capacity in 1_usize..40,
        buf in 1_usize..30,
        dice in dice(),
    ) {
        let watch = &mut Picky(good);
        let end = play_before(watch, [client, server], capacity, buf, FastClose::Off, &dice);
        prop_assert_eq!(end.pause, PumpOutcome::Close);
        let [client, server] = &end.network.0;
        let sent_bytes = &client.program.sends;
        prop_assert_eq!(&server.received, &sent_bytes[..good.min(sent_bytes.len())]);
        prop_assert_eq!(&client.received, &[&server.program.sends, SORRY].concat());
        prop_assert!(client.to_us.is_empty());
    }
}
