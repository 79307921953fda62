//! The laws of a byte stream with TLS on either end, on a network in memory: small buffers,
//! edge-triggered events, announced and unannounced ends.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::io::{ErrorKind, IoSlice};
use std::sync::{Arc, LazyLock};

use proptest::prelude::*;
use rcgen::{CertificateParams, KeyPair};
use rustls::crypto::ring::default_provider;
use rustls::pki_types::{PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore, ServerConfig};

use super::*;
use crate::config::FastClose;
use crate::data::relay::duplex::{Duplex, Ready};
use crate::data::relay::pump::{ByteObserver, PumpOutcome, UnsentBytes, pump};

/// Both ends' settings, for a certificate of our own.
static CONFIGS: LazyLock<(Arc<ClientConfig>, Arc<ServerConfig>)> = LazyLock::new(|| {
    let key = KeyPair::generate().expect("random");
    let params = CertificateParams::new(vec!["a.test".to_owned()]).expect("it is a name");
    let certificate = params.self_signed(&key).expect("it can be signed").der().clone();
    let mut roots = RootCertStore::empty();
    roots.add(certificate.clone()).expect("it is a certificate");
    let provider = Arc::new(default_provider());
    let client = ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .expect("there are some")
        .with_root_certificates(roots)
        .with_no_client_auth();
    let key = PrivateKeyDer::try_from(key.serialize_der()).expect("it is a key");
    let server = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("there are some")
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)
        .expect("they belong together");
    (Arc::new(client), Arc::new(server))
});

/// One direction of a connection.
#[derive(Debug, Default)]
struct Way {
    bytes: RefCell<VecDeque<u8>>,
    ended: Cell<bool>,
    /// A write has found no room since the last edge.
    wants_room: Cell<bool>,
}

/// A connection between a program and us, as both kernels see it.
#[derive(Debug)]
struct Line {
    to_us: Way,
    to_program: Way,
    capacity: Cell<usize>,
    /// Edges that we have not been told of yet.
    event: Cell<Ready>,
}

/// One end of the network.
#[derive(Clone, Copy, Debug)]
enum Handle<'a> {
    Ours(&'a Line),
    Theirs(&'a Line),
}

impl Line {
    fn tell(&self, what: impl FnOnce(&mut Ready)) {
        let mut event = self.event.get();
        what(&mut event);
        self.event.set(event);
    }
}

impl TlsTransport for Handle<'_> {
    fn read(&self, buf: &mut [u8]) -> io::Result<usize> {
        let way = match self {
            Self::Ours(line) => &line.to_us,
            Self::Theirs(line) => &line.to_program,
        };
        let mut bytes = way.bytes.borrow_mut();
        let count = buf.len().min(bytes.len());
        if count == 0 && !way.ended.get() {
            return Err(ErrorKind::WouldBlock.into());
        }
        buf.iter_mut().zip(bytes.drain(..count)).for_each(|(to, from)| *to = from);
        if let Self::Theirs(line) = self
            && count > 0
            && way.wants_room.replace(false)
        {
            line.tell(|event| event.writable = true);
        }
        Ok(count)
    }

    fn write(&self, parts: &[IoSlice<'_>]) -> io::Result<usize> {
        let (way, line) = match self {
            Self::Ours(line) => (&line.to_program, line),
            Self::Theirs(line) => (&line.to_us, line),
        };
        if way.ended.get() {
            return Err(io::Error::other("a byte after the end"));
        }
        let mut bytes = way.bytes.borrow_mut();
        let all: Vec<u8> = parts.iter().flat_map(|part| part.iter().copied()).collect();
        let taken = all.len().min(line.capacity.get().saturating_sub(bytes.len()));
        bytes.extend(&all[..taken]);
        if taken < all.len() {
            way.wants_room.set(true);
        }
        if let Self::Theirs(line) = self
            && taken > 0
        {
            line.tell(|event| event.readable = true);
        }
        if taken == 0 { Err(ErrorKind::WouldBlock.into()) } else { Ok(taken) }
    }

    fn finish(&self) {
        match self {
            Self::Ours(line) => line.to_program.ended.set(true),
            Self::Theirs(line) => {
                line.to_us.ended.set(true);
                line.tell(|event| (event.readable, event.ended) = (true, true));
            }
        }
    }
}

/// How the program ends its stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Then {
    Finish,
    WouldBlockReader,
    /// In TLS, without saying so.
    Bare,
}

/// The behaviour of a program at one end.
#[derive(Clone, Debug)]
struct Plan {
    sealed: bool,
    sends: Vec<u8>,
    then: Then,
    reads: usize,
}

struct Program {
    plan: Plan,
    layer: Option<TlsLayer>,
    sent_bytes: usize,
    finished: bool,
    received: Vec<u8>,
    saw_end: bool,
}

/// Whether something came of it.
fn moved<T>(result: io::Result<T>) -> Option<T> {
    match result {
        Err(error) if error.kind() == ErrorKind::WouldBlock => None,
        Err(error) if error.kind() == ErrorKind::Interrupted => None,
        other => Some(other.expect("nobody cuts a program off")),
    }
}

impl Program {
    fn say(&mut self, transport: Handle<'_>, bytes: usize) {
        let until = self.plan.sends.len().min(self.sent_bytes + bytes);
        if self.sent_bytes < until {
            let sends = &self.plan.sends[self.sent_bytes..until];
            let written = match &mut self.layer {
                Some(layer) => layer.write(&transport, sends),
                None => transport.write(&[IoSlice::new(sends)]),
            };
            self.sent_bytes += moved(written).unwrap_or_default();
        } else if self.sent_bytes == self.plan.sends.len() && !self.finished {
            self.finished = match (self.plan.then, &mut self.layer) {
                (Then::WouldBlockReader, layer) => {
                    // What it has said is on its way nevertheless.
                    layer.as_mut().map(|layer| moved(layer.flush(&transport)));
                    false
                }
                (Then::Finish, Some(layer)) => moved(layer.finish(&transport)).is_some(),
                (Then::Finish | Then::Bare, _) => {
                    transport.finish();
                    true
                }
            };
        }
    }

    fn hear(&mut self, transport: Handle<'_>) {
        let mut buf = vec![0; self.plan.reads];
        let (mut scratch, ended) = ([0; 50], self.saw_end);
        if self.plan.reads == 0 || ended {
            return;
        }
        let read = match &mut self.layer {
            Some(layer) => layer.read(&transport, &mut scratch, &mut buf),
            None => transport.read(&mut buf),
        };
        if let Some(count) = moved(read) {
            self.received.extend_from_slice(&buf[..count]);
            self.saw_end = count == 0;
        }
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

const SIDES: [Side; 2] = [Side::Client, Side::Server];

/// Both programs, and our layers, after their handshakes.
fn meet(plans: &[Plan; 2], lines: &[Line; 2]) -> ([Program; 2], TlsLayers) {
    let mut layers = TlsLayers::default();
    let programs = [0, 1].map(|at| {
        let plan = plans[at].clone();
        let name = ServerName::try_from("a.test").expect("it is a name");
        let layer = plan.sealed.then(|| {
            let client = TlsLayer::connect(CONFIGS.0.clone(), name).expect("it can be begun");
            let server = TlsLayer::accept(CONFIGS.1.clone()).expect("it can be begun");
            let (mut theirs, mut ours) = if at == 0 { (client, server) } else { (server, client) };
            let (line, mut scratch) = (&lines[at], [0; 4_096]);
            let mut done = false;
            while !done {
                let ends = [
                    theirs.continue_handshake(&Handle::Theirs(line), &mut scratch),
                    ours.continue_handshake(&Handle::Ours(line), &mut scratch),
                ];
                done = ends.into_iter().all(|end| end.expect("they agree"));
            }
            layers.put(SIDES[at], ours);
            theirs
        });
        Program {
            plan,
            layer,
            sent_bytes: 0,
            finished: false,
            received: Vec::new(),
            saw_end: false,
        }
    });
    (programs, layers)
}

/// Lets things happen in the order of `dice` until nothing moves any more.
fn play(
    plans: &[Plan; 2],
    capacity: usize,
    bufs: (usize, usize),
    dice: &[u8],
) -> (PumpOutcome, [Program; 2]) {
    let line = || Line {
        to_us: Way::default(),
        to_program: Way::default(),
        capacity: Cell::new(usize::MAX),
        event: Cell::default(),
    };
    let lines = [line(), line()];
    let (mut programs, mut layers) = meet(plans, &lines);
    lines.iter().for_each(|line| line.capacity.set(capacity));
    let transports = [Handle::Ours(&lines[0]), Handle::Ours(&lines[1])];
    let (mut duplex, mut left) = (Duplex::new(FastClose::Off), UnsentBytes::default());
    let (mut scratch, mut buf) = (vec![0; bufs.0], vec![0; bufs.1]);
    // Bytes may have come with the handshakes.
    for side in SIDES {
        duplex.ready(side, Ready { readable: true, ..Ready::default() });
    }
    let mut dice = dice.iter().copied().cycle().enumerate();
    let mut still = 0;
    while still < 400 {
        let (turn, die) = dice.next().expect("it goes round");
        // Now and then in turn, so that nothing is left out for ever.
        let action = if turn % 7 == 0 { turn / 7 % 6 } else { usize::from(die) % 6 };
        let at = action % 2;
        let state = |program: &Program| {
            let sent = program.layer.as_ref().map_or(0, TlsLayer::sent);
            (program.sent_bytes, program.finished, program.received.len(), program.saw_end, sent)
        };
        let filled = || lines.each_ref().map(|line| line.to_program.bytes.borrow().len());
        let before = (state(&programs[at]), lines[at].event.get(), filled());
        match action / 2 {
            0 => programs[at].say(Handle::Theirs(&lines[at]), usize::from(die / 6) + 1),
            1 => programs[at].hear(Handle::Theirs(&lines[at])),
            _ => {
                let event = lines[at].event.take();
                if event != Ready::default() {
                    duplex.ready(SIDES[at], event);
                }
                let mut ends = TlsEnds {
                    transports: [&transports[0], &transports[1]],
                    layers: &mut layers,
                    scratch: &mut scratch,
                };
                ends.flush();
                let pause = pump(&mut duplex, &mut left, &mut ends, &mut NoObserver, &mut buf);
                ends.trim();
                if pause == PumpOutcome::Reset {
                    return (pause, programs);
                }
                if pause == PumpOutcome::Close {
                    // What is on its way still arrives.
                    for (program, line) in programs.iter_mut().zip(&lines) {
                        (0..10_000).for_each(|_| program.hear(Handle::Theirs(line)));
                    }
                    return (pause, programs);
                }
                if pause == PumpOutcome::Budget {
                    still = 0;
                }
            }
        }
        let after = (state(&programs[at]), lines[at].event.get(), filled());
        still = if before == after { still + 1 } else { 0 };
    }
    (PumpOutcome::Wait, programs)
}

fn plan(sealed: bool, then: Then) -> impl Strategy<Value = Plan> {
    let sends = proptest::collection::vec(any::<u8>(), 0..300);
    (sends, 1..60_usize).prop_map(move |(sends, reads)| Plan { sealed, sends, then, reads })
}

/// Client and server, of which at least one speaks TLS.
fn plans(first: Then, second: Then) -> impl Strategy<Value = [Plan; 2]> {
    prop_oneof![Just((true, true)), Just((true, false)), Just((false, true))]
        .prop_flat_map(move |(client, server)| [plan(client, first), plan(server, second)])
}

fn dice() -> impl Strategy<Value = Vec<u8>> {
    proptest::collection::vec(any::<u8>(), 1..300)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    #[test]
    fn every_byte_before_an_end_arrives_and_both_ends_are_announced(
        plans in plans(Then::Finish, Then::Finish),
        capacity in 1_usize..400,
        bufs in (1_usize..100, 1_usize..100),
        dice in dice(),
    ) {
        let (pause, [client, server]) = play(&plans, capacity, bufs, &dice);
        prop_assert_eq!(pause, PumpOutcome::Close);
        prop_assert_eq!(&client.received, &server.plan.sends);
        prop_assert_eq!(&server.received, &client.plan.sends);
        prop_assert!(client.saw_end && server.saw_end);
    }

    #[test]
    fn an_end_from_one_side_ends_its_own_direction_only(
        plans in plans(Then::WouldBlockReader, Then::Finish),
        swap in any::<bool>(),
        capacity in 1_usize..400,
        bufs in (1_usize..100, 1_usize..100),
        dice in dice(),
    ) {
        let [quiet, ending] = plans;
        let plans = if swap { [ending, quiet] } else { [quiet, ending] };
        let (pause, [client, server]) = play(&plans, capacity, bufs, &dice);
        prop_assert_eq!(pause, PumpOutcome::Wait);
        prop_assert_eq!(&client.received, &server.plan.sends);
        prop_assert_eq!(&server.received, &client.plan.sends);
        prop_assert_eq!((server.saw_end, client.saw_end), (swap, !swap));
    }

    #[test]
    fn an_end_that_was_not_announced_is_a_reset_and_never_an_end(
        quiet in any::<bool>().prop_flat_map(|sealed| plan(sealed, Then::WouldBlockReader)),
        cutting in plan(true, Then::Bare),
        swap in any::<bool>(),
        capacity in 1_usize..400,
        bufs in (1_usize..100, 1_usize..100),
        dice in dice(),
    ) {
        let plans = if swap { [cutting, quiet] } else { [quiet, cutting] };
        let (pause, [client, server]) = play(&plans, capacity, bufs, &dice);
        prop_assert_eq!(pause, PumpOutcome::Reset);
        let (cutting, quiet) = if swap { (client, server) } else { (server, client) };
        prop_assert!(!quiet.saw_end);
        prop_assert!(cutting.plan.sends.starts_with(&quiet.received));
    }
}
