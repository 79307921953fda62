use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpStream};

use pen_records::frames::{LONGEST_FRAME, write_frame};
use pen_testing::PATIENCE;
use pen_testing::wait::wait_for;

use super::*;

const NOW: Timestamp = Timestamp::from_micros(1_000_000);

fn streams(most: usize) -> Streams {
    let listener = bind("127.0.0.1:0".parse().unwrap(), false).unwrap();
    Streams::new(vec![listener], most).unwrap()
}

fn connect(streams: &Streams) -> TcpStream {
    let socket = TcpStream::connect(streams.listeners[0].addr()).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket
}

/// A datagram that begins as ours do.
fn datagram(content: &[u8]) -> Vec<u8> {
    [&MAGIC[..], content].concat()
}

fn frame(content: &[u8]) -> Vec<u8> {
    let mut frame = Vec::new();
    assert!(write_frame(&datagram(content), &mut frame));
    frame
}

/// Receives until a condition holds. Returns what has come, in order.
fn receive_until(
    streams: &mut Streams,
    done: impl Fn(&Streams, &[(u64, Vec<u8>)]) -> bool,
) -> Vec<(u64, Vec<u8>)> {
    let mut received = Vec::new();
    wait_for("the streams are received", || {
        streams.receive((Instant::now(), NOW), |from, datagram| {
            received.push((from.id.0, datagram[MAGIC.len()..].to_vec()));
            StreamFate::Keep
        });
        done(streams, &received).then_some(())
    });
    received
}

#[test]
fn datagrams_of_several_senders_arrive_in_order() {
    let mut streams = streams(8);
    let senders = [connect(&streams), connect(&streams)];
    for number in 0..100_u8 {
        for mut sender in &senders {
            sender.write_all(&frame(&[number])).unwrap();
        }
    }
    let received = receive_until(&mut streams, |_, received| received.len() == 200);
    for sender in [0, 1] {
        let own =
            received.iter().filter(|(id, _)| *id == sender).flat_map(|(_, datagram)| datagram);
        assert!(own.copied().eq(0..100));
    }
    assert_eq!(streams.counts(), StreamCounts { open: 2, accepted: 2, ..StreamCounts::default() });
}

#[test]
fn a_held_connection_is_read_again_when_its_time_is_over_and_others_meanwhile() {
    let mut streams = streams(8);
    let (mut held, mut free) = (connect(&streams), connect(&streams));
    held.write_all(&frame(b"first")).unwrap();
    let (start, mut spoken) = (Instant::now(), Vec::new());
    let until = start + Duration::from_secs(600);
    let mut receive = |streams: &mut Streams, now: Instant, wanted: usize| {
        wait_for("the streams are received", || {
            streams.expire((now, NOW));
            streams.receive((now, NOW), |from, datagram| {
                spoken.push((datagram[MAGIC.len()..].to_vec(), from.has_spoken));
                if from.id.0 == 0 { StreamFate::Hold(until) } else { StreamFate::Keep }
            });
            (spoken.len() == wanted).then(|| spoken.clone())
        })
    };
    assert_eq!(receive(&mut streams, start, 1), [(b"first".to_vec(), false)]);
    assert_eq!(streams.next_due(), Some(until).min(streams.silent.front().map(|it| it.0)));
    held.write_all(&frame(b"second")).unwrap();
    free.write_all(&frame(b"other")).unwrap();
    assert_eq!(receive(&mut streams, start, 2)[1], (b"other".to_vec(), false));
    assert_eq!(receive(&mut streams, until, 3)[2], (b"second".to_vec(), true));
    assert_eq!(streams.counts().held, 2);
    // One that goes away while it is held does not stay.
    drop(held);
    wait_for("the connection is closed", || {
        streams.expire((until, NOW));
        streams.receive((until, NOW), |_, _| StreamFate::Keep);
        (streams.counts().open == 1).then_some(())
    });
}

#[test]
fn one_that_never_pauses_does_not_starve_another() {
    let mut streams = streams(8);
    let mut loud = connect(&streams);
    let long = frame(&vec![7; LONGEST_FRAME - MAGIC.len()]);
    std::thread::spawn(move || while loud.write_all(&long).is_ok() {});
    receive_until(&mut streams, |_, received| received.len() > 10);
    let mut quiet = connect(&streams);
    quiet.write_all(&frame(b"quiet")).unwrap();
    let received = receive_until(&mut streams, |_, received| {
        received.last().is_some_and(|it| it.1 == b"quiet")
    });
    assert!(received.len() < 1_000, "{} long ones came first", received.len());
}

#[test]
fn junk_closes_its_own_connection_only() {
    let mut streams = streams(8);
    let mut honest = connect(&streams);
    let junk: [&[u8]; 4] = [
        b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
        b"\x05\0\0\0+ a b",
        b"\0\0\0\0",
        b"\x16\x03\x01\x02\0\x01\0\x01\xFC\x03\x03",
    ];
    for (number, junk) in (1..).zip(junk) {
        let mut sender = connect(&streams);
        sender.write_all(junk).unwrap();
        receive_until(&mut streams, |streams, _| streams.counts().junk == number);
        // It is closed; with bytes unread the system resets it.
        assert_eq!(sender.read(&mut [0]).unwrap_or(0), 0, "{}", junk.escape_ascii());
    }
    honest.write_all(&frame(b"still here")).unwrap();
    receive_until(&mut streams, |_, received| received.len() == 1);
    assert_eq!(streams.counts().open, 1);
}

#[test]
fn what_follows_a_refused_datagram_is_not_looked_at() {
    let mut streams = streams(8);
    let mut sender = connect(&streams);
    sender.write_all(&[frame(b"bad"), frame(b"good")].concat()).unwrap();
    let mut taken = 0;
    wait_for("it is closed", || {
        streams.receive((Instant::now(), NOW), |_, _| {
            taken += 1;
            StreamFate::Close("tested".into())
        });
        (streams.counts().junk == 1).then_some(())
    });
    assert_eq!((taken, streams.counts().open), (1, 0));
}

#[test]
fn a_cut_frame_is_counted_and_an_end_between_frames_is_not() {
    let mut streams = streams(8);
    for (cut, broken) in [(0, 0), (1, 1)] {
        let sent = frame(b"whole or not");
        let mut sender = connect(&streams);
        sender.write_all(&sent[..sent.len() - cut]).unwrap();
        sender.shutdown(Shutdown::Write).unwrap();
        receive_until(&mut streams, |streams, _| {
            streams.counts().accepted == 1 + broken && streams.counts().open == 0
        });
        assert_eq!(streams.counts().broken, broken);
    }
}

#[test]
fn connections_are_bounded() {
    let mut streams = streams(2);
    let mut first = [connect(&streams), connect(&streams)];
    first.iter_mut().for_each(|it| it.write_all(&frame(b"one")).unwrap());
    receive_until(&mut streams, |_, received| received.len() == 2);
    let mut third = connect(&streams);
    receive_until(&mut streams, |streams, _| streams.counts().too_many == 1);
    assert_eq!(third.read(&mut [0]).unwrap(), 0);
    assert_eq!(streams.counts().open, 2);
}

#[test]
fn silent_connections_keep_no_sender_out() {
    let mut streams = streams(3);
    let mut honest = connect(&streams);
    honest.write_all(&frame(b"one")).unwrap();
    receive_until(&mut streams, |_, received| received.len() == 1);
    let mut strangers = Vec::new();
    for number in 2..10 {
        let mut stranger = connect(&streams);
        stranger.write_all(&frame(b"cut")[..3]).unwrap();
        strangers.push(stranger);
        receive_until(&mut streams, |streams, _| streams.counts().accepted == number);
    }
    let mut other = connect(&streams);
    other.write_all(&frame(b"two")).unwrap();
    receive_until(&mut streams, |_, received| received.len() == 1);
    honest.write_all(&frame(b"three")).unwrap();
    receive_until(&mut streams, |_, received| received.len() == 1);
    assert_eq!((streams.counts().open, streams.counts().too_many), (3, 7));
}

#[test]
fn one_that_sends_nothing_is_closed_after_a_while() {
    let mut streams = streams(8);
    let (_silent, mut speaks) = (connect(&streams), connect(&streams));
    speaks.write_all(&frame(b"one")).unwrap();
    receive_until(&mut streams, |streams, received| {
        streams.counts().open == 2 && received.len() == 1
    });
    let due = streams.next_due().unwrap();
    streams.expire((due - Duration::from_millis(1), NOW));
    assert_eq!(streams.counts().open, 2);
    streams.expire((due + SILENCE, NOW));
    assert_eq!((streams.counts().open, streams.counts().silent), (1, 1));
    assert_eq!(streams.next_due(), None);
}

#[test]
fn replies_go_back_by_their_stream_and_one_that_takes_none_is_closed() {
    let mut streams = streams(8);
    let mut sender = connect(&streams);
    sender.write_all(&frame(b"a question")).unwrap();
    let id = StreamId(receive_until(&mut streams, |_, received| received.len() == 1)[0].0);
    let positions = pen_records::shipment::StreamList::default();
    let answer = DiscoveryAnswer { nonce: 7, window: 1, datagram: 2, received: None, positions };
    streams.answer(id, &answer, NOW);
    let (mut bytes, mut expected) = ([0; 28], Vec::new());
    sender.read_exact(&mut bytes).unwrap();
    let mut reply = Vec::new();
    answer.write(&mut reply);
    write_frame(&reply, &mut expected);
    assert_eq!(bytes[..], expected);
    // Millions of replies fit into no buffer of the system.
    for _ in 0..10_000_000 {
        if streams.counts().open == 0 {
            break;
        }
        streams.answer(id, &answer, NOW);
    }
    assert_eq!(streams.counts().silent, 1);
    streams.answer(id, &answer, NOW);
}
