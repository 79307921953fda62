//! The shipper with collectors that know no shipments: each line is a datagram.

mod support;

use std::io::Write as _;
use std::net::{Ipv4Addr, TcpListener, UdpSocket};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use nix::sys::signal::Signal;
use pen_records::shipment::MAGIC;
use pen_testing::{PATIENCE, Program, TempFolder, free_port, wait_until};
use support::{RunningShipper, read};

fn classic_collector() -> UdpSocket {
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a port");
    socket.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    socket
}

/// The next datagram that is no question, and how many questions came before it.
fn next_line(socket: &UdpSocket) -> (Vec<u8>, usize) {
    let mut buffer = vec![0; 65_536];
    let mut questions = 0;
    loop {
        let (len, _) = socket.recv_from(&mut buffer).expect("a datagram in time");
        if !buffer.starts_with(&MAGIC) {
            return (buffer[..len].to_vec(), questions);
        }
        questions += 1;
    }
}

#[test]
fn each_line_is_one_datagram_with_its_line_feed() {
    let long = vec![b'x'; 65_506];
    for (line, expected) in [
        (&b"abc\n"[..], &b"abc\n"[..]),
        (b"\n", b"\n"),
        (b"ab\x00cd\n", b"ab\x00cd\n"),
        (b"\x00\n", b"\x00\n"),
        (b"latin \xE9 dos\r\n", b"latin \xE9 dos\r\n"),
        (b"no line feed at the end", b"no line feed at the end\n"),
        (b"+ 6.6.6.6 127.0.0.1 GET /\n", b" + 6.6.6.6 127.0.0.1 GET /\n"),
        (b"\xFEpn\x01\x03\n", b" \xFEpn\x01\x03\n"),
        (&[&b"y".repeat(1023)[..], b"\n"].concat(), &[&b"y".repeat(1023)[..], b"\n"].concat()),
        (&[&b"y".repeat(2050)[..], b"\n"].concat(), &[&b"y".repeat(2050)[..], b"\n"].concat()),
        (&[&long[..], b"\n"].concat(), &[&long[..], b"\n"].concat()),
        (&[&long[..], b"yy\n"].concat(), &[&long[..], b"\n"].concat()),
    ] {
        let socket = classic_collector();
        let mut penlog = RunningShipper::to(socket.local_addr().unwrap(), &["--classic"]);
        penlog.feed(line);
        assert!(penlog.wait().success());
        let (datagram, questions) = next_line(&socket);
        let shown = line[..line.len().min(40)].escape_ascii();
        assert_eq!((datagram == expected, questions), (true, 0), "{shown}");
    }
}

#[test]
fn after_a_few_questions_without_an_answer_it_speaks_classic_and_seldom_asks() {
    let socket = classic_collector();
    let mut penlog = RunningShipper::to(socket.local_addr().unwrap(), &[]);
    let mut input = penlog.stdin();
    input.write_all(b"one\n").unwrap();
    let (line, questions) = next_line(&socket);
    assert!(line == b"one\n" && (2..=4).contains(&questions), "{questions} questions");
    for _ in 0..10 {
        input.write_all(b"more\n").unwrap();
        assert_eq!(next_line(&socket), (b"more\n".to_vec(), 0));
    }
    drop(input);
    assert!(penlog.wait().success());
}

#[test]
fn when_the_input_has_ended_a_silent_collector_is_not_waited_for_long() {
    let socket = classic_collector();
    let mut penlog = RunningShipper::to(socket.local_addr().unwrap(), &[]);
    penlog.feed(b"one\ntwo\n");
    assert!(penlog.wait().success());
    let (line, questions) = next_line(&socket);
    assert!(line == b"one\n" && questions <= 3, "{questions} questions");
    assert_eq!(next_line(&socket).0, b"two\n");
}

#[test]
fn lines_that_are_refused_are_sent_again_when_somebody_listens() {
    // An address and a port that the kernel gives to nobody meanwhile.
    let addr = free_port(Ipv4Addr::new(127, 77, 0, 1));
    let socket = UdpSocket::bind(addr).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut penlog = RunningShipper::to(addr, &["--classic"]);
    let mut input = penlog.stdin();
    input.write_all(b"one\n").unwrap();
    assert_eq!(next_line(&socket).0, b"one\n");
    drop(socket);
    input.write_all(b"two\nthree\nfour\n").unwrap();
    penlog.says("cannot reach");
    let socket = UdpSocket::bind(addr).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    for line in ["two\n", "three\n", "four\n"] {
        assert_eq!(next_line(&socket).0, line.as_bytes());
    }
    drop(input);
    assert!(penlog.wait().success());
    socket.set_read_timeout(Some(Duration::from_millis(1))).unwrap();
    assert!(socket.recv(&mut [0; 10]).is_err(), "nothing comes twice");
}

#[test]
fn a_backlog_does_not_overrun_a_classic_collector() {
    let socket = classic_collector();
    let mut penlog = RunningShipper::to(socket.local_addr().unwrap(), &["--classic"]);
    // Six times what the receive buffer holds.
    let lines: Vec<u8> =
        (0..1_500).flat_map(|number| format!("{number:0>249}\n").into_bytes()).collect();
    penlog.feed(&lines);
    for number in 0..1_500 {
        assert_eq!(next_line(&socket).0, format!("{number:0>249}\n").as_bytes());
    }
    assert!(penlog.wait().success());
}

#[test]
fn all_addresses_of_a_name_are_tried() {
    // Where localhost has an IPv6 address, nobody listens there.
    let socket = classic_collector();
    let port = socket.local_addr().unwrap().port().to_string();
    let mut penlog = RunningShipper::start(["localhost", &port, "--classic"]);
    let mut input = penlog.stdin();
    for number in 0..3 {
        input.write_all(format!("{number}\n").as_bytes()).unwrap();
    }
    drop(input);
    assert!(penlog.wait().success());
    for number in 0..3 {
        assert_eq!(next_line(&socket).0, format!("{number}\n").as_bytes());
    }
}

#[test]
fn a_name_that_does_not_resolve_holds_lines_back_and_does_not_end_it() {
    let mut penlog = RunningShipper::start(["no-such-host.invalid", "10000"]);
    let mut input = penlog.stdin();
    input.write_all(b"one\n").unwrap();
    penlog.says("cannot look up no-such-host.invalid");
    input.write_all(b"two\n").unwrap();
    penlog.signal(Signal::SIGUSR1);
    penlog.says("0 lines shipped, 0 sent one by one; 0 dropped");
}

#[test]
fn the_c_penlogd_attributes_our_lines_and_survives_our_questions() {
    if !Path::new("/usr/bin/penlogd").exists() {
        println!("skipped: there is no C penlogd");
        return;
    }
    let folder = TempFolder::new();
    let log = folder.join("merged.log");
    // A port that is free now; the C program takes no port 0.
    let port = classic_collector().local_addr().unwrap().port().to_string();
    let mut command = Command::new("/usr/bin/penlogd");
    command.args(["-f", "-b", "-l"]).arg(&log).arg(&port);
    let _penlogd = Program::start("C penlogd", &mut command).unwrap();
    let balancer = UdpSocket::bind("127.0.0.1:0").unwrap();
    let record = b"+ 203.0.113.7 127.0.0.2 GET /a HTTP/1.1\n";
    let line = b"127.0.0.1 - - [t] \"GET /a HTTP/1.1\" 200 5\n";
    let addr = format!("127.0.0.1:{port}");
    wait_until("the C penlogd", || {
        let _ = balancer.send_to(record, &addr); // nobody may listen yet
        let _ = balancer.send_to(b"\"is\" it there\n", &addr); // likewise
        !read(&log).is_empty()
    });
    std::fs::File::options().write(true).open(&log).unwrap().set_len(0).unwrap();
    for more in
        [&["127.0.0.1", &port, "127.0.0.2"][..], &["127.0.0.1", &port, "127.0.0.2", "--classic"]]
    {
        let mut penlog = RunningShipper::start(more);
        penlog.feed(line);
        assert!(penlog.wait().success());
    }
    let expected = b"203.0.113.7 - - [t] \"GET /a HTTP/1.1\" 200 5\n".repeat(2);
    wait_until("two lines", || {
        let merged = read(&log);
        let ours = merged
            .split_inclusive(|byte| *byte == b'\n')
            .filter(|line| !line.ends_with(b"there\n"));
        ours.flatten().copied().collect::<Vec<u8>>() == expected
    });
}

/// As a collector that reads a long journal at its start.
#[test]
fn a_silent_collector_that_accepts_connections_gets_no_line_without_confirmation() {
    let addr = free_port(Ipv4Addr::LOCALHOST);
    let _stream = TcpListener::bind(addr).expect("it is free");
    let socket = UdpSocket::bind(addr).expect("it is free");
    let mut penlog = RunningShipper::to(addr, &[]);
    let mut input = penlog.stdin();
    input.write_all(b"a line\n").expect("penlog reads");
    penlog.says("holding lines until it replies");
    socket.set_nonblocking(true).expect("it can be set");
    let mut buffer = [0; 2048];
    while let Ok((len, _)) = socket.recv_from(&mut buffer) {
        assert!(buffer[..len].starts_with(&MAGIC), "{}", buffer[..len].escape_ascii());
    }
}
