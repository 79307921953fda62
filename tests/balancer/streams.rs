//! The law of a byte stream on real sockets: for TCP and Unix-domain sockets on either side.

use std::io::Write as _;
use std::time::Duration;

use pen::config::RuntimeSettings;
use pen_testing::Deadline;

use crate::support::{Listener, Site, Stream, localhost, over, pattern, socket_path, wait_until};

/// A client and the server it reaches, for each pairing of families.
fn pairs(name: &str, test: impl Fn(&Site, Stream, Stream)) {
    for (client_unix, server_unix) in [(false, false), (true, false), (false, true), (true, true)] {
        let listener = if server_unix {
            Listener::unix(&format!("{name}-server-{client_unix}"))
        } else {
            Listener::tcp()
        };
        let at = if client_unix {
            socket_path(&format!("{name}-pen-{server_unix}"))
        } else {
            localhost(0)
        };
        let site = Site::listening(at, over(&[&listener.endpoint()]));
        let client = site.connect();
        let server = listener.accept();
        test(&site, client, server);
        site.wait_until_empty();
    }
}

#[test]
fn a_client_that_has_said_all_gets_the_whole_answer() {
    pairs("half-client", |_, mut client, mut server| {
        client.write_all(b"question").unwrap();
        client.finish();
        assert_eq!(server.rest().unwrap(), b"question");
        let answer = pattern(1_000_000);
        let expected = answer.clone();
        let thread = std::thread::spawn(move || server.write_all(&answer).unwrap());
        assert!(client.rest().unwrap() == expected, "the answer is whole");
        thread.join().unwrap();
    });
}

#[test]
fn an_answer_that_comes_at_once_with_its_end_is_whole_every_time() {
    let listener = Listener::tcp();
    let site = Site::start(over(&[&listener.endpoint()]));
    for _ in 0..40 {
        let mut client = site.connect();
        client.write_all(b"question").unwrap();
        client.finish();
        let mut server = listener.accept();
        assert_eq!(server.rest().unwrap(), b"question");
        server.write_all(&pattern(1_000)).unwrap();
        drop(server);
        assert_eq!(client.rest().unwrap(), pattern(1_000));
    }
    site.wait_until_empty();
}

#[test]
fn a_server_that_has_said_all_gets_the_whole_upload() {
    pairs("half-server", |_, mut client, mut server| {
        server.write_all(b"go on").unwrap();
        server.finish();
        assert_eq!(client.rest().unwrap(), b"go on");
        let upload = pattern(1_000_000);
        let expected = upload.clone();
        let thread = std::thread::spawn(move || {
            client.write_all(&upload).unwrap();
            client.finish();
        });
        assert!(server.rest().unwrap() == expected, "the upload is whole");
        thread.join().unwrap();
    });
}

#[test]
fn single_bytes_go_through_as_they_come() {
    pairs("bytes", |_, mut client, mut server| {
        for byte in 0..=255 {
            client.write_all(&[byte]).unwrap();
            assert_eq!(server.bytes(1), [byte]);
            server.write_all(&[!byte]).unwrap();
            assert_eq!(client.bytes(1), [!byte]);
        }
    });
}

#[test]
fn large_bursts_in_both_directions_at_once_arrive_whole() {
    const SIZE: usize = 8 << 20;
    pairs("bursts", |_, client, server| {
        let threads: Vec<_> = [(client.try_clone(), server.try_clone()), (server, client)]
            .into_iter()
            .flat_map(|(mut from, mut to)| {
                let write = std::thread::spawn(move || {
                    from.write_all(&pattern(SIZE)).unwrap();
                    from.finish();
                    true
                });
                let read = std::thread::spawn(move || to.rest().unwrap() == pattern(SIZE));
                [write, read]
            })
            .collect();
        for thread in threads {
            assert!(thread.join().unwrap(), "what arrives is what was sent");
        }
    });
}

#[test]
fn who_reads_slowly_slows_the_writer_and_loses_nothing() {
    const SIZE: usize = 32 << 20;
    const STILL: Duration = Duration::from_millis(50);
    let listener = Listener::tcp();
    let site = Site::start(over(&[&listener.endpoint()]));
    let mut client = site.connect();
    let mut server = listener.accept();
    let Stream::Tcp(stream) = &server else { unreachable!() };
    stream.set_nonblocking(true).unwrap();
    let bytes = pattern(SIZE);
    let mut sent = 0;
    // Until the buffers on the way are full, and have been for a while.
    let mut blocked = Deadline::after(STILL);
    while blocked.nap() {
        while let Ok(count) = server.write(&bytes[sent..]) {
            sent += count;
            blocked = Deadline::after(STILL);
        }
    }
    assert!(sent < SIZE, "the writer was stopped");
    let Stream::Tcp(stream) = &server else { unreachable!() };
    stream.set_nonblocking(false).unwrap();
    let rest = bytes[sent..].to_vec();
    let thread = std::thread::spawn(move || {
        server.write_all(&rest).unwrap();
    });
    assert!(client.rest().unwrap() == bytes, "all of it arrives");
    thread.join().unwrap();
}

#[test]
fn a_reset_by_the_server_is_a_reset_for_the_client() {
    let listener = Listener::tcp();
    let site = Site::start(over(&[&listener.endpoint()]));
    let mut client = site.connect();
    let mut server = listener.accept();
    server.write_all(b"half an ans").unwrap();
    assert_eq!(client.bytes(11), b"half an ans");
    server.reset();
    assert!(client.is_cut());
    site.wait_until_empty();
}

#[test]
fn a_reset_by_the_client_is_a_reset_for_the_server() {
    let listener = Listener::tcp();
    let site = Site::start(over(&[&listener.endpoint()]));
    for half_closed in [false, true] {
        let mut client = site.connect();
        let mut server = listener.accept();
        client.write_all(b"half a ques").unwrap();
        if half_closed {
            client.finish();
        }
        assert_eq!(server.bytes(11), b"half a ques");
        client.reset();
        assert!(if half_closed { write_until_cut(server) } else { server.is_cut() });
        site.wait_until_empty();
    }
}

/// A reset after an end is seen by who writes.
fn write_until_cut(mut server: Stream) -> bool {
    let mut cut = false;
    wait_until("a write fails", || {
        cut = server.write_all(b"x").is_err();
        cut
    });
    cut
}

#[test]
fn who_closes_while_the_other_still_sends_is_not_waited_for() {
    let listener = Listener::tcp();
    let site = Site::start(over(&[&listener.endpoint()]));
    let mut client = site.connect();
    let server = listener.accept();
    drop(server);
    assert_eq!(client.rest().unwrap(), b"");
    // Nobody reads this any more; the connection is over as soon as the client knows.
    let _refused_or_not = client.write_all(&pattern(100_000));
    drop(client);
    site.wait_until_empty();
}

#[test]
fn a_half_closed_pair_that_falls_silent_is_cut_after_a_while() {
    let listener = Listener::tcp();
    let mut settings: RuntimeSettings = over(&[&listener.endpoint()]);
    settings.timeouts.linger = Some(Duration::from_millis(50));
    let site = Site::start(settings);
    let mut client = site.connect();
    let mut server = listener.accept();
    client.finish();
    assert_eq!(server.rest().unwrap(), b"");
    assert!(client.is_cut());
    assert!(write_until_cut(server));
    site.wait_until_empty();
}

#[test]
fn every_byte_gives_a_half_closed_pair_more_time() {
    let listener = Listener::tcp();
    let mut settings: RuntimeSettings = over(&[&listener.endpoint()]);
    settings.timeouts.linger = Some(Duration::from_millis(400));
    let site = Site::start(settings);
    let mut client = site.connect();
    let mut server = listener.accept();
    client.finish();
    assert_eq!(server.rest().unwrap(), b"");
    let start = std::time::Instant::now();
    let mut count = 0;
    // Longer altogether than the pair may be silent.
    while start.elapsed() < Duration::from_millis(900) {
        server.write_all(b"x").unwrap();
        assert_eq!(client.bytes(1), b"x");
        count += 1;
    }
    server.write_all(b"the end").unwrap();
    drop(server);
    assert_eq!(client.rest().unwrap(), b"the end", "after {count} bytes");
    site.wait_until_empty();
}

#[test]
fn a_silent_pair_is_closed_when_that_was_asked_for() {
    let listener = Listener::tcp();
    let mut settings: RuntimeSettings = over(&[&listener.endpoint()]);
    settings.timeouts.idle = Some(Duration::from_millis(50));
    let site = Site::start(settings);
    let mut client = site.connect();
    let mut server = listener.accept();
    assert_eq!((client.rest().unwrap(), server.rest().unwrap()), (vec![], vec![]));
    site.wait_until_empty();
}
