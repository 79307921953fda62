//! The shipper with a collector of ours.

mod support;

use std::io::{ErrorKind, Write as _};
use std::net::UdpSocket;
use std::os::fd::AsFd as _;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use pen_testing::{PATIENCE, TempFolder, wait_until};
use support::{RunningShipper, TestCollector};

#[test]
fn lines_arrive_whole_whatever_bytes_they_hold() {
    let collector = TestCollector::start();
    let mut penlog = RunningShipper::to(collector.addr, &[]);
    let long: Vec<u8> =
        std::iter::repeat_n(b"+ 6.6.6.6 127.0.0.1 GET / ", 4000).flatten().copied().collect();
    let lines = [
        &b"plain"[..],
        b"nul \x00 in it",
        b"\x00",
        b"dos\r",
        b"latin \xE9 \xFF\xFE",
        b"",
        &long,
        b"no line feed at the end",
    ];
    penlog.feed(&lines.join(&b'\n'));
    assert!(penlog.wait().success());
    assert_eq!(collector.take(lines.len()), lines);
    let counts = collector.seen().counts;
    assert_eq!((counts.lines, counts.lost_lines, counts.cut), (8, 0, 0));
}

#[test]
fn a_line_beyond_a_mebibyte_is_cut_and_the_collector_is_told() {
    let collector = TestCollector::start();
    let mut penlog = RunningShipper::to(collector.addr, &["--datagram-size", "1400"]);
    let mut input = vec![b'x'; 3 << 20];
    input.extend_from_slice(b"\nafter\n");
    penlog.feed(&input);
    assert!(penlog.wait().success());
    let lines = collector.take(2);
    assert_eq!((lines[0].len(), &lines[1][..]), (1 << 20, &b"after"[..]));
    assert_eq!(collector.seen().counts.cut, 1);
    assert!(collector.seen().longest <= 1400);
    assert!(penlog.said().contains("1 truncated"));
}

#[test]
fn it_speaks_for_the_server_it_is_told_and_from_the_address_it_is_told() {
    let collector = TestCollector::start();
    let more = ["127.0.0.5", "--server", "[2001:db8::7]:8080", "--name", "web 7"];
    let mut penlog = RunningShipper::to(collector.addr, &more);
    penlog.feed(b"one\n");
    assert!(penlog.wait().success());
    assert_eq!(collector.take(1), [b"one"]);
    let seen = collector.seen();
    let server = Some("2001:db8::7".parse().unwrap());
    assert_eq!(seen.server, (server, Some(8080), Some(b"web 7".to_vec())));
    assert_eq!(seen.source.unwrap().ip().to_string(), "127.0.0.5");
}

#[test]
fn it_speaks_ipv6() {
    let Ok(socket) = UdpSocket::bind("[::1]:0") else {
        println!("skipped: no IPv6 here");
        return;
    };
    let collector = TestCollector::on(socket, 0);
    let mut penlog = RunningShipper::to(collector.addr, &["-6"]);
    penlog.feed(b"one\n");
    assert!(penlog.wait().success());
    assert_eq!(collector.take(1), [b"one"]);
}

#[test]
fn started_before_the_collector_it_waits_and_loses_nothing() {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let addr = socket.local_addr().unwrap();
    drop(socket);
    let mut penlog = RunningShipper::to(addr, &[]);
    let mut input = penlog.stdin();
    input.write_all(b"early\n").unwrap();
    penlog.says("cannot reach");
    input.write_all(b"still early\n").unwrap();
    let collector = TestCollector::on(UdpSocket::bind(addr).unwrap(), 0);
    assert_eq!(collector.take(2), [&b"early"[..], b"still early"]);
    input.write_all(b"late\n").unwrap();
    assert_eq!(collector.take(1), [b"late"]);
    drop(input);
    assert!(penlog.wait().success());
}

#[test]
fn a_collector_that_is_restarted_gets_what_came_meanwhile() {
    let collector = TestCollector::start();
    let mut penlog = RunningShipper::to(collector.addr, &["--udp"]);
    let mut input = penlog.stdin();
    input.write_all(b"one\n").unwrap();
    assert_eq!(collector.take(1), [b"one"]);
    wait_until("a confirmation", || collector.seen().questions >= 2);
    let (addr, _) = collector.stop();
    input.write_all(b"two\nthree\n").unwrap();
    penlog.says("cannot reach");
    let collector = TestCollector::on(UdpSocket::bind(addr).unwrap(), 0);
    assert_eq!(collector.take(2), [&b"two"[..], b"three"]);
    drop(input);
    assert!(penlog.wait().success());
}

#[test]
fn a_collector_that_never_reads_does_not_block_the_writer() {
    let (mut penlog, _socket) = to_a_stopped_collector(&["--queue", "2"]);

    let mut input = penlog.stdin();
    let started = Instant::now();
    for number in 0..100_000 {
        input.write_all(format!("{number:0>249}\n").as_bytes()).unwrap();
    }
    assert!(started.elapsed() < PATIENCE, "the writer was blocked");
    penlog.says("dropped because there was no room");
    drop(input);
    // Everything is either in the socket or accounted for.
    penlog.signal(Signal::SIGINT);
    assert_eq!(penlog.wait().code(), Some(1), "lines were lost");
    let [shipped, classic, dropped, cut, lost] = last_word(&penlog);
    assert_eq!((shipped + dropped + lost, classic, cut), (100_000, 0, 0));
    assert!(dropped > 0 && lost > 0, "{dropped} dropped, {lost} lost");
}

/// One that answers the first question and then nothing: stopped, as by a debugger.
fn to_a_stopped_collector(more: &[&str]) -> (RunningShipper, UdpSocket) {
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a port");
    let addr = socket.local_addr().expect("bound");
    let penlog = RunningShipper::to(addr, &[&["--udp"], more].concat());
    let mut buffer = [0; 1000];
    socket.set_read_timeout(Some(PATIENCE)).expect("not zero");
    let (len, from) = socket.recv_from(&mut buffer).expect("a question");
    let nonce =
        pen_records::shipment::DiscoveryQuestion::parse(&buffer[..len]).expect("a question").nonce;
    let mut answer = Vec::new();
    let (received, positions) = (None, Default::default());
    pen_records::shipment::DiscoveryAnswer { nonce, window: 0, datagram: 0, received, positions }
        .write(&mut answer);
    socket.send_to(&answer, from).expect("loopback takes it");
    penlog.says("shipping to");
    (penlog, socket)
}

/// Shipped, sent one by one, dropped, cut and not sent, as it says at the end.
fn last_word(penlog: &RunningShipper) -> [u64; 5] {
    let said = penlog.said();
    let last = said.lines().last().expect("a last message");
    let words = last.split(|c: char| !c.is_ascii_digit());
    let numbers: Vec<u64> = words.filter_map(|word| word.parse().ok()).collect();
    numbers.try_into().unwrap_or_else(|_| panic!("{last}"))
}

#[test]
fn a_long_line_is_one_line_whatever_became_of_its_pieces() {
    let (mut penlog, _socket) = to_a_stopped_collector(&["--datagram-size", "1400"]);
    penlog.feed(format!("{}\n", "x".repeat(1_000_000)).as_bytes());
    assert_eq!(penlog.wait().code(), Some(1), "the line was lost");
    assert_eq!(last_word(&penlog), [0, 0, 0, 0, 1]);
}

#[test]
fn messages_that_nobody_reads_stop_nothing() {
    let collector = TestCollector::start();
    let (unread, stderr) = std::io::pipe().unwrap();
    // Room for one page: a few messages.
    nix::fcntl::fcntl(&stderr, nix::fcntl::FcntlArg::F_SETPIPE_SZ(4_096)).unwrap();
    let mut penlog = std::process::Command::new(env!("CARGO_BIN_EXE_penlog"))
        .args(["127.0.0.1", &collector.addr.port().to_string()])
        .stdin(std::process::Stdio::piped())
        .stderr(stderr)
        .spawn()
        .unwrap();
    let pid = nix::unistd::Pid::from_raw(i32::try_from(penlog.id()).unwrap());
    let mut input = penlog.stdin.take().unwrap();
    for number in 0..100 {
        // Not before it is up.
        if number > 0 {
            nix::sys::signal::kill(pid, Signal::SIGUSR1).unwrap();
        }
        let line = format!("line {number}");
        input.write_all(format!("{line}\n").as_bytes()).unwrap();
        assert_eq!(collector.take(1), [line.into_bytes()]);
    }
    drop(input);
    assert!(penlog.wait().unwrap().success());
    drop(unread);
}

#[test]
fn a_burst_is_paced_by_the_collector_and_arrives_complete() {
    let collector = TestCollector::start();
    let mut penlog = RunningShipper::to(collector.addr, &[]);
    let mut input = Vec::new();
    for number in 0..100_000 {
        writeln!(input, "{number:0>249}").unwrap();
    }
    penlog.feed(&input);
    assert!(penlog.wait().success());
    for (number, line) in collector.take(100_000).into_iter().enumerate() {
        assert_eq!(line, format!("{number:0>249}").into_bytes());
    }
    let counts = collector.seen().counts;
    assert_eq!((counts.lost_lines, counts.lost_shipments, counts.dropped), (0, 0, 0));
}

#[test]
fn told_to_end_it_reads_on_until_the_last_writer_is_gone() {
    let collector = TestCollector::start();
    let mut penlog = RunningShipper::to(collector.addr, &[]);
    let mut parent = penlog.stdin();
    let mut child = std::fs::File::from(parent.as_fd().try_clone_to_owned().unwrap());
    parent.write_all(b"before\n").unwrap();
    assert_eq!(collector.take(1), [b"before"]);
    penlog.signal(Signal::SIGTERM);
    drop(parent);
    for number in 0..100 {
        writeln!(child, "an old child still writes {number}").unwrap();
        assert_eq!(collector.take(1).len(), 1);
    }
    drop(child);
    assert!(penlog.wait().success());
    assert_eq!(collector.seen().counts.lost_lines, 0);
}

#[test]
fn the_grace_has_an_end() {
    let collector = TestCollector::start();
    let mut penlog = RunningShipper::to(collector.addr, &[]);
    let mut input = penlog.stdin();
    input.write_all(b"one\n").unwrap();
    assert_eq!(collector.take(1), [b"one"]);
    penlog.signal(Signal::SIGINT);
    assert!(penlog.wait().success());
    assert_eq!(input.write_all(b"x\n").unwrap_err().kind(), ErrorKind::BrokenPipe);
}

#[test]
fn a_fifo_is_made_and_outlives_its_writers() {
    let folder = TempFolder::new();
    let path = folder.join("access.fifo");
    let collector = TestCollector::start();
    let mut penlog = RunningShipper::to(collector.addr, &["--fifo", path.to_str().unwrap()]);
    wait_until("the FIFO", || path.exists());
    for line in ["one", "two"] {
        std::fs::write(&path, format!("{line}\n")).unwrap();
        assert_eq!(collector.take(1), [line.as_bytes()]);
    }
    penlog.signal(Signal::SIGTERM);
    assert!(penlog.wait().success());
    folder.append("plain", "text");
    let mut wrong =
        RunningShipper::to(collector.addr, &["--fifo", folder.join("plain").to_str().unwrap()]);
    assert_eq!(wrong.wait().code(), Some(1));
}

#[test]
fn what_does_not_mend_ends_it_with_1_and_misuse_with_2() {
    for (args, code) in [
        (&["127.0.0.1", "10000", "192.0.2.1"][..], 1),
        (&["127.0.0.1"], 2),
        (&["127.0.0.1", "no-such-service"], 2),
        (&["127.0.0.1", "0"], 2),
        (&["--help"], 0),
    ] {
        let mut penlog = RunningShipper::start(args);
        assert_eq!(penlog.wait().code(), Some(code), "{args:?}");
    }
}

#[test]
fn a_mistake_is_said_with_what_was_expected() {
    let folder = TempFolder::new();
    let gone = UdpSocket::bind(("127.0.0.1", 0)).unwrap();
    let port = gone.local_addr().unwrap().port().to_string();
    drop(gone);
    let path = |name: &str| folder.join(name).to_str().unwrap().to_owned();
    for (args, expected) in [
        (&["loghost:10000"][..], "host and port are two words: write penlog loghost 10000"),
        (&["--follow", "F", "127.0.0.1", "10000"], "write penlog 127.0.0.1 10000 --follow F"),
        (&["10000", "127.0.0.1"], "'127.0.0.1' is neither a number nor a UDP service"),
        (&["127.0.0.1", "10000", "203.0.113.5"], "cannot send from 203.0.113.5: "),
        (&["127.0.0.1", "10000", "--state", "s", "--fifo", "f"], "cannot be used with"),
        (&["127.0.0.1", "10000", "--folow", "f"], "'--follow'"),
        (&["127.0.0.1", "10000", "--queue", "0"], "expected a number of MiB from 2 to 65536"),
    ] {
        let mut penlog = RunningShipper::start(args);
        assert!(matches!(penlog.wait().code(), Some(1 | 2)), "{args:?}");
        let said = penlog.said();
        assert!(said.contains(expected), "{args:?}: {said}");
    }
    // What may mend is waited for, and said.
    std::fs::write(path("seen.log"), "a line\n").unwrap();
    for (args, expected) in [
        (&["no-such-host.invalid", "10000"][..], "cannot look up no-such-host.invalid: "),
        (&["127.0.0.1", &port, "--follow", &path("none.log")], "none.log yet: waiting for one"),
        (&["127.0.0.1", &port, "--from-start", "--follow", &path("")], "it is not a plain file"),
        (
            &["127.0.0.1", &port, "--state", "/nonexistent/s", "--follow", &path("seen.log")],
            "cannot write /nonexistent/s: No such file",
        ),
    ] {
        let mut penlog = RunningShipper::start(args);
        penlog.feed(b"a line\n");
        let said = penlog.says(expected);
        assert!(said.contains("penlog: "), "{said}");
    }
    let mut penlog = RunningShipper::start(["127.0.0.1", &port]);
    penlog.feed(b"a line that nobody takes\n");
    assert_eq!(penlog.wait().code(), Some(1));
    let said = penlog.said();
    assert!(
        said.contains("holding lines until that changes") && said.contains("1 not sent"),
        "{said}"
    );
}

#[test]
fn a_report_is_given_when_asked_for() {
    let collector = TestCollector::start();
    let mut penlog = RunningShipper::to(collector.addr, &[]);
    let mut input = penlog.stdin();
    input.write_all(b"one\ntwo\n").unwrap();
    assert_eq!(collector.take(2).len(), 2);
    penlog.signal(Signal::SIGUSR1);
    assert!(penlog.says("lines shipped").contains("2 lines shipped, 0 sent one by one"));
}

#[test]
fn few_lines_do_not_wait_for_more() {
    let collector = TestCollector::start();
    let mut penlog = RunningShipper::to(collector.addr, &[]);
    let mut input = penlog.stdin();
    for _ in 0..20 {
        input.write_all(b"alone\n").unwrap();
        let line = collector.lines.recv_timeout(Duration::from_secs(20)).unwrap();
        assert_eq!(line, b"alone");
    }
    // Twenty of them came as twenty shipments, and none is missing.
    assert_eq!(collector.seen().counts.shipments, 20);
}

#[test]
fn what_is_lost_on_the_way_is_sent_again() {
    let collector = TestCollector::lossy(3);
    let mut penlog = RunningShipper::to(collector.addr, &["--datagram-size", "512"]);
    let lines: Vec<Vec<u8>> =
        (0..5_000).map(|number| format!("line {number}").into_bytes()).collect();
    penlog.feed(&[lines.join(&b'\n'), b"\n".to_vec()].concat());
    let mut came = collector.take(lines.len());
    came.sort_unstable();
    let mut expected = lines;
    expected.sort_unstable();
    assert_eq!(came, expected);
    assert!(penlog.wait().success());
    assert_eq!(collector.seen().counts.lost_lines, 0);
}
