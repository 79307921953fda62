//! Ends, resets and timeouts while bytes are in flight: slow readers, early answers, vanished clients.

use std::io::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use pen::config::RuntimeSettings;
use pen::data::relay::queries::ask;
use pen::data::snapshot::{ConnectionFilter, ConnectionSnapshot, ConnectionStatus};
use socket2::SockRef;

use crate::support::{Listener, Site, over, pattern, socket_path, wait_until};

fn lingering(listener: &Listener, linger: Duration) -> RuntimeSettings {
    let mut settings: RuntimeSettings = over(&[&listener.endpoint()]);
    settings.timeouts.linger = Some(linger);
    settings
}

/// Little room, so that what is under way waits in the balancer's kernel buffers.
fn with_little_room(listener: &Listener) {
    let Listener::Tcp(listener) = listener else { panic!("it is TCP") };
    SockRef::from(listener).set_recv_buffer_size(8 << 10).expect("TCP has that");
}

/// Waits until the balancer has taken all that one side of its only connection says, to its end.
fn until_taken(site: &Site, bytes: impl Fn(&ConnectionSnapshot) -> u64, count: usize) {
    wait_until("all of it was taken", || {
        let report = ask(site.balancer().shared(), ConnectionFilter::First(1));
        let taken = |one: &ConnectionSnapshot| {
            one.stage == ConnectionStatus::HalfClosed && bytes(one) == count as u64
        };
        report.connections.first().is_some_and(taken)
    });
}

#[test]
fn what_came_before_an_end_reaches_a_reader_who_takes_longer_than_the_pair_may_be_silent() {
    let listener = Listener::tcp();
    let site = Site::start(lingering(&listener, Duration::from_millis(50)));
    let mut client = site.connect();
    let mut server = listener.accept();
    let answer = pattern(200_000);
    server.write_all(&answer).unwrap();
    server.finish();
    site.wait_until_empty();
    assert!(client.rest().unwrap() == answer, "the answer is whole");
    assert!(server.is_cut(), "the client had not said all");
}

#[test]
fn a_reader_who_takes_a_little_now_and_then_is_waited_for() {
    const LINGER: Duration = Duration::from_millis(500);
    let listener = Listener::tcp();
    let site = Site::start(lingering(&listener, LINGER));
    let mut client = site.connect();
    let mut server = listener.accept();
    // More than the kernel takes, so that some of it waits in the balancer.
    let answer = pattern(3 << 20);
    let writer = {
        let answer = answer.clone();
        std::thread::spawn(move || {
            server.write_all(&answer).unwrap();
            server.finish();
            server
        })
    };
    wait_until("all has been said", || {
        let report = ask(site.balancer().shared(), ConnectionFilter::First(1));
        report.connections.first().is_some_and(|one| one.stage == ConnectionStatus::HalfClosed)
    });
    let mut heard = Vec::new();
    // So slowly from here on that the kernel tells of no room for longer than the pair may be silent.
    let start = Instant::now();
    while start.elapsed() < 4 * LINGER && heard.len() + (16 << 10) < answer.len() {
        let piece = client.bytes(16 << 10);
        heard.extend(piece);
        let then = Instant::now();
        wait_until("a moment is over", || then.elapsed() > LINGER / 7);
    }
    heard.extend(client.rest().unwrap());
    assert!(heard == answer, "{} of {} bytes", heard.len(), answer.len());
    drop(writer.join().unwrap());
}

#[test]
fn an_answer_that_comes_before_the_upload_is_over_arrives_whole() {
    let listener = Listener::tcp();
    let site = Site::start(over(&[&listener.endpoint()]));
    let mut client = site.connect();
    let mut server = listener.accept();
    let sent = Arc::new(AtomicU64::new(0));
    let upload = {
        let (mut client, sent) = (client.try_clone(), Arc::clone(&sent));
        std::thread::spawn(move || {
            let piece = pattern(64 << 10);
            // Until nobody takes it any more.
            while client.write_all(&piece).is_ok() {
                sent.fetch_add(1, Ordering::Relaxed);
            }
        })
    };
    let answer = pattern(300_000);
    server.bytes(1);
    server.write_all(&answer).unwrap();
    server.finish();
    until_taken(&site, |one| one.to_client, answer.len());
    // With bytes unread, so the kernel resets whatever still comes.
    drop(server);
    let before = sent.load(Ordering::Relaxed);
    wait_until("the upload goes on, or is cut", || {
        sent.load(Ordering::Relaxed) > before + 500 || upload.is_finished()
    });
    assert!(client.bytes(answer.len()) == answer, "the answer is whole");
    client.reset();
    // The thread holds the other end of it, and is told by its own writes.
    site.balancer().stop(Duration::ZERO);
    upload.join().unwrap();
}

#[test]
fn what_a_client_sent_before_it_went_away_reaches_a_slow_server() {
    let listener = Listener::tcp();
    with_little_room(&listener);
    let site = Site::start(over(&[&listener.endpoint()]));
    let upload = pattern(1 << 20);
    let mut client = site.connect();
    let mut server = listener.accept();
    client.write_all(&upload).unwrap();
    client.finish();
    until_taken(&site, |one| one.to_server, upload.len());
    // Gone: whatever is still said to it is answered with a reset.
    drop(client);
    server.write_all(b"so far, so good").unwrap();
    site.wait_until_empty();
    assert!(server.rest().expect("no byte before the end is lost") == upload);
}

#[test]
fn a_server_that_speaks_to_a_client_who_has_gone_is_told() {
    let listener = Listener::tcp();
    let settings = over(&[&listener.endpoint()]);
    let site = Site::listening(socket_path("gone-client"), settings);
    let client = site.connect();
    let mut server = listener.accept();
    drop(client);
    let piece = pattern(64 << 10);
    wait_until("a write fails", || server.write_all(&piece).is_err());
    site.wait_until_empty();
}

#[test]
fn bytes_that_nobody_takes_do_not_keep_a_pair() {
    let listener = Listener::unix("waste-server");
    let site = Site::start(lingering(&listener, Duration::from_millis(50)));
    let mut client = site.connect();
    drop(listener.accept());
    let piece = pattern(64 << 10);
    wait_until("the client is cut", || client.write_all(&piece).is_err());
    site.wait_until_empty();
}

#[test]
fn a_time_that_is_set_later_holds_for_those_who_were_silent_before() {
    let listener = Listener::tcp();
    let mut settings = over(&[&listener.endpoint()]);
    settings.timeouts.connect = Duration::from_millis(100);
    let site = Site::start(settings.clone());
    let mut client = site.connect();
    let mut server = listener.accept();
    // Until the time for connecting is over, which looks at the others, too.
    let start = Instant::now();
    wait_until("it has no timer", || start.elapsed() > Duration::from_millis(300));
    client.write_all(b"x").unwrap();
    assert_eq!(server.bytes(1), b"x");
    let mut changed = settings;
    changed.timeouts.idle = Some(Duration::from_millis(50));
    site.balancer().shared().change(changed);
    assert_eq!((client.rest().unwrap(), server.rest().unwrap()), (vec![], vec![]));
    site.wait_until_empty();
}
