//! The law of a byte stream for every pairing of TCP, Unix-domain sockets and TLS, with ends that write and read in
//! every manner.

use std::io;
use std::thread;

use pen::config::{RuntimeSettings, ServerTls};
use pen_testing::Deadline;
use pen_testing::certificates::TestAuthority;

use crate::support::{Listener, Site, localhost, over, pattern, socket_path, wait_until};
use crate::tls::support::{End, UseCertificates as _};

/// What an end is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Tcp,
    Unix,
    Tls,
}

const KINDS: [Kind; 3] = [Kind::Tcp, Kind::Unix, Kind::Tls];

/// A client and the server it reaches.
struct Pair {
    site: Site,
    client: End,
    server: End,
}

impl Pair {
    fn new(name: &str, authority: &TestAuthority, kinds: (Kind, Kind)) -> Self {
        let (client, server) = kinds;
        let listener = match server {
            Kind::Unix => Listener::unix(&format!("{name}-server-{client:?}")),
            Kind::Tcp | Kind::Tls => Listener::tcp(),
        };
        let at = match client {
            Kind::Unix => socket_path(&format!("{name}-pen-{server:?}")),
            Kind::Tcp | Kind::Tls => localhost(0),
        };
        let mut settings: RuntimeSettings = over(&[&listener.endpoint()]);
        if client == Kind::Tls {
            authority.serve(&mut settings);
        }
        if server == Kind::Tls {
            authority.trust(&mut settings, ServerTls::Verified);
        }
        let site = Site::listening(at, settings);
        let stream = site.connect();
        let client = match client {
            Kind::Tls => End::client(authority.client(), stream),
            Kind::Tcp | Kind::Unix => End::Plain(stream),
        };
        let stream = listener.accept();
        let server = match server {
            Kind::Tls => End::server(authority.server(), stream),
            Kind::Tcp | Kind::Unix => End::Plain(stream),
        };
        Self { site, client, server }
    }
}

/// All pairings, one after the other.
fn pairings(name: &str, test: impl Fn(Pair)) {
    let authority = TestAuthority::new();
    for client in KINDS {
        for server in KINDS {
            eprintln!("{client:?} to {server:?}");
            test(Pair::new(name, &authority, (client, server)));
        }
    }
}

/// How an end behaves.
#[derive(Clone, Copy, Debug)]
struct Manner {
    /// Bytes it writes at a time.
    write: usize,
    /// Bytes it reads at a time.
    read: usize,
    /// Listens only when it has said all.
    talks_first: bool,
    /// Ends only when the other one has.
    polite: bool,
}

const PLAIN: Manner = Manner { write: 20_000, read: 20_000, talks_first: false, polite: false };

/// Says all, and hears all.
fn converse(mut end: End, says: &[u8], manner: Manner) -> io::Result<Vec<u8>> {
    end.set_nonblocking();
    let mut buf = vec![0; manner.read];
    let (mut said, mut heard) = (0, Vec::new());
    let (mut finished, mut ended) = (false, false);
    let mut deadline = Deadline::patience();
    while !finished || !ended {
        let mut still = true;
        if said < says.len() {
            let until = says.len().min(said + manner.write);
            let count = or_nothing(end.write_some(&says[said..until]))?;
            still &= count.is_none();
            said += count.unwrap_or_default();
        } else if !finished && (!manner.polite || ended) {
            finished = or_nothing(end.finish_some())?.is_some();
            still &= !finished;
        }
        let listens = !manner.talks_first || said == says.len();
        if listens
            && !ended
            && let Some(count) = or_nothing(end.read_some(&mut buf))?
        {
            still = false;
            heard.extend_from_slice(&buf[..count]);
            ended = count == 0;
        }
        if !still {
            deadline = Deadline::patience();
        } else if !deadline.nap() {
            let text = format!("nothing moves: said {said}, heard {}", heard.len());
            return Err(io::Error::new(io::ErrorKind::TimedOut, text));
        }
    }
    Ok(heard)
}

fn or_nothing<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
        other => other.map(Some),
    }
}

/// Both talk to each other, and each hears what the other one says, to the end.
fn talk(pair: Pair, question: &[u8], answer: &[u8], client: Manner, server: Manner) {
    let Pair { site, client: client_end, server: server_end } = pair;
    thread::scope(|scope| {
        let asks = scope.spawn(|| converse(client_end, question, client));
        let heard = converse(server_end, answer, server).expect("the server hears to the end");
        assert!(heard == question, "the question is whole");
        let heard = asks.join().expect("it did not panic").expect("the client hears to the end");
        assert!(heard == answer, "the answer is whole");
    });
    site.wait_until_empty();
}

#[test]
fn a_client_that_ends_first_hears_the_whole_answer() {
    let server = Manner { polite: true, ..PLAIN };
    pairings("first-client", |pair| {
        talk(pair, b"question", &pattern(1_000_000), PLAIN, server);
    });
}

#[test]
fn a_server_that_ends_first_hears_the_whole_upload() {
    let client = Manner { polite: true, ..PLAIN };
    pairings("first-server", |pair| {
        talk(pair, &pattern(1_000_000), b"go on", client, PLAIN);
    });
}

#[test]
fn nothing_said_but_ends_is_heard_as_ends() {
    pairings("silent", |pair| talk(pair, b"", b"", PLAIN, PLAIN));
}

#[test]
fn one_byte_at_a_time_arrives_as_it_is() {
    let manner = Manner { write: 1, read: 1, ..PLAIN };
    pairings("bytewise", |pair| talk(pair, &pattern(3_000), &pattern(2_000), manner, manner));
}

#[test]
fn bursts_in_both_directions_at_once_arrive_whole() {
    let manner = Manner { write: 1 << 20, read: 1 << 20, ..PLAIN };
    pairings("burst", |pair| talk(pair, &pattern(4 << 20), &pattern(5 << 20), manner, manner));
}

#[test]
fn slow_readers_slow_their_writers_and_lose_nothing() {
    let slow = Manner { read: 700, ..PLAIN };
    let fast = Manner { write: 1 << 20, ..PLAIN };
    pairings("slow-client", |pair| talk(pair, &pattern(10_000), &pattern(1 << 20), slow, fast));
    pairings("slow-server", |pair| talk(pair, &pattern(1 << 20), &pattern(10_000), fast, slow));
}

#[test]
fn slow_writers_lose_nothing() {
    let slow = Manner { write: 37, ..PLAIN };
    pairings("slow-writer", |pair| talk(pair, &pattern(20_000), &pattern(30_000), slow, slow));
}

#[test]
fn who_listens_only_when_all_is_said_hears_all_the_same() {
    // More than the buffers between them, so one side waits for the other.
    let client = Manner { talks_first: true, write: 100_000, ..PLAIN };
    pairings("talks-first", |pair| talk(pair, &pattern(8 << 20), &pattern(100_000), client, PLAIN));
}

/// Each has said half of what it wants to: who is to leave then, and the other one.
fn half_said(pair: Pair, by_client: bool) -> (Site, End, End) {
    let Pair { site, mut client, mut server } = pair;
    client.write_all(b"half a ques");
    assert_eq!(server.bytes(11), b"half a ques");
    server.write_all(b"half an ans");
    assert_eq!(client.bytes(11), b"half an ans");
    if by_client { (site, client, server) } else { (site, server, client) }
}

/// It sees a reset, and nothing is left of the connection.
fn assert_is_cut(site: &Site, end: &mut End) {
    let error = end.rest().expect_err("it is cut");
    assert_eq!(error.kind(), io::ErrorKind::ConnectionReset, "{error}");
    site.wait_until_empty();
}

#[test]
fn a_reset_on_either_side_is_a_reset_on_the_other() {
    for by_client in [true, false] {
        pairings(if by_client { "cut-client" } else { "cut-server" }, |pair| {
            let (site, cutter, mut other) = half_said(pair, by_client);
            if !cutter.is_tcp() || !other.is_tcp() {
                // There are no resets between Unix-domain sockets.
                return;
            }
            cutter.reset();
            assert_is_cut(&site, &mut other);
        });
    }
}

#[test]
fn an_end_that_tls_does_not_announce_is_a_reset_on_the_other_side() {
    for by_client in [true, false] {
        pairings(if by_client { "bare-client" } else { "bare-server" }, |pair| {
            let (site, cutter, mut other) = half_said(pair, by_client);
            if !cutter.is_tls() || !other.is_tcp() {
                return;
            }
            cutter.finish_socket();
            assert_is_cut(&site, &mut other);
        });
    }
}

#[test]
fn who_was_told_of_the_end_may_leave_without_a_word() {
    pairings("leave", |pair| {
        let Pair { site, mut client, mut server } = pair;
        client.write_all(b"question");
        assert_eq!(server.bytes(8), b"question");
        server.write_all(b"answer");
        server.finish();
        assert_eq!(client.rest().unwrap(), b"answer");
        // As many programs do with TLS: they just close.
        client.finish_socket();
        drop(client);
        assert_eq!(server.rest().unwrap(), b"");
        site.wait_until_empty();
        let resets = &site.balancer().shared().counters.resets;
        wait_until("that is an end", || resets.load(std::sync::atomic::Ordering::Relaxed) == 0);
    });
}
