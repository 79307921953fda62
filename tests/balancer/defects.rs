//! Defects of C pen, each under its number; `defects.md` is the whole list.

use std::collections::BTreeSet;
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::num::NonZeroUsize;
use std::path::Path;
use std::thread;

use nix::sys::signal::Signal;
use pen::config::{Endpoint, LogTarget, RuntimeSettings};
use pen_records::addr::ClientAddr;
use pen_records::mapping::packet::Packet;
use pen_records::shipment::DiscoveryQuestion;
use pen_testing::TempFolder;

use crate::program::{RunningPen, pen_in, penctl_in};
use crate::support::{Listener, PATIENCE, Site, over, wait_until};

/// All test functions of the workspace's package, by name.
fn functions(folder: &Path, found: &mut BTreeSet<String>) {
    for entry in fs::read_dir(folder).expect("it is there").flatten() {
        let path = entry.path();
        if path.is_dir() {
            functions(&path, found);
        } else if path.extension().is_some_and(|end| end == "rs") {
            let text = fs::read_to_string(&path).expect("it is text");
            let names = text.split("fn ").skip(1).filter_map(|rest| rest.split(['(', '<']).next());
            found.extend(names.map(str::to_owned));
        }
    }
}

#[test]
fn each_defect_is_held_by_tests_that_are_there() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut there = BTreeSet::new();
    for folder in ["src", "tests", "records/src", "daemon"] {
        functions(&root.join(folder), &mut there);
    }
    let mut rows = include_str!("defects.md").lines().filter(|line| line.starts_with("| P-"));
    for number in 1..=59 {
        let row = rows.next().expect("there are 59 rows");
        assert!(row.starts_with(&format!("| P-{number:02} |")), "{row}");
        let last = row.rsplit('|').nth(1).expect("it has columns");
        let named = last.split('`').skip(1).step_by(2).filter(|name| name.contains('_'));
        for name in named.filter(|name| !name.contains(['-', ' ', '.', '/'])) {
            assert!(there.contains(name), "{row}: there is no {name}");
        }
    }
    assert_eq!(rows.next(), None);
}

fn collector() -> (UdpSocket, LogTarget) {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port is free");
    socket.set_read_timeout(Some(PATIENCE)).expect("it is not zero");
    let addr = socket.local_addr().expect("it is bound");
    (socket, LogTarget::Collector { name: addr.to_string(), addr })
}

fn connect_from(client: Ipv4Addr, to: &Endpoint) -> TcpStream {
    let Endpoint::Ip(to) = to else { panic!("it is TCP") };
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None)
        .expect("there are sockets");
    socket.bind(&SocketAddr::new(client.into(), 0).into()).expect("it is loopback");
    socket.connect(&(*to).into()).expect("it listens");
    socket.into()
}

#[test]
fn p_02_a_connection_keeps_its_client_however_small_the_table() {
    let (listener, (socket, target)) = (Listener::tcp(), collector());
    let mut settings: RuntimeSettings = over(&[&listener.endpoint()]);
    settings.limits.clients = NonZeroUsize::MIN;
    settings.log = Some(target);
    let site = Site::start(settings);
    let [one, other] = [2, 3].map(|last| Ipv4Addr::new(127, 0, 0, last));
    let mut first = connect_from(one, &site.addr);
    let mut server = listener.accept();
    // Takes the only slot.
    let second = connect_from(other, &site.addr);
    let _second_server = listener.accept();
    write!(first, "GET /late HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    let mut heard = [0; 9];
    server.read_exact(&mut heard).unwrap();
    assert_eq!(&heard, b"GET /late");
    let mut buf = [0; 2_048];
    loop {
        let len = socket.recv(&mut buf).unwrap();
        if DiscoveryQuestion::parse(&buf[..len]).is_ok() {
            continue;
        }
        let packet = Packet::parse(&buf[..len]).unwrap();
        if let Some(late) = packet.mappings().find(|mapping| mapping.request.is_some()) {
            assert_eq!(late.client, ClientAddr::Ip(one.into()));
            break;
        }
    }
    drop((first, second));
}

/// A pen in the foreground with a control socket.
fn start(folder: &TempFolder, args: &[&str]) -> RunningPen {
    let pen = RunningPen::start(pen_in(folder, &["-f", "-C", "./control"]).args(args));
    wait_until("it answers", || !penctl_in(folder, &["pid"]).is_empty());
    pen
}

/// Sends this and waits for the end of the answer.
fn ask(pen: &RunningPen, request: &[u8]) {
    let mut stream = TcpStream::connect(pen.addr()).expect("it listens");
    stream.set_read_timeout(Some(PATIENCE)).expect("it is not zero");
    stream.write_all(request).expect("it is open");
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).expect("it is served");
    assert!(answer.starts_with(b"HTTP/1.1 200"), "{}", answer.escape_ascii());
}

/// A server that answers each connection's first request.
fn http() -> String {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port is free");
    let addr = listener.local_addr().expect("it is bound");
    thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let mut head = [0; 4_096];
            let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
            stream.read(&mut head).and_then(|_| stream.write_all(answer)).unwrap_or_default();
        }
    });
    addr.to_string()
}

const REQUEST: &[u8] = b"GET /page HTTP/1.1\r\nHost: x\r\n\r\n";

#[test]
fn p_16_the_emergency_and_the_abuse_server_are_seen_and_changed() {
    let folder = TempFolder::new();
    let pen = start(&folder, &["-e", "127.0.0.1:7", "127.0.0.1:0", "127.0.0.1:9"]);
    assert_eq!(penctl_in(&folder, &["emergency"]), "127.0.0.1:7:0:0:1:0");
    penctl_in(&folder, &["abuse", "127.0.0.1:8"]);
    let states = penctl_in(&folder, &["states"]);
    assert!(states.contains("\nemergency state up "), "{states}");
    assert!(states.contains("\nabuse state up "), "{states}");
    penctl_in(&folder, &["no", "emergency"]);
    assert!(!penctl_in(&folder, &["states"]).contains("emergency"));
    assert_eq!(pen.end(), Some(0));
}

#[test]
fn p_23_no_log_stops_the_network_log_too() {
    let (folder, (socket, _)) = (TempFolder::new(), collector());
    let log = socket.local_addr().unwrap().to_string();
    let pen = start(&folder, &["-l", &log, "127.0.0.1:0", &http()]);
    ask(&pen, REQUEST);
    // Until the last one of that connection has come.
    let (mut buf, mut heard) = ([0; 2_048], false);
    while !heard {
        let len = socket.recv(&mut buf).unwrap();
        if DiscoveryQuestion::parse(&buf[..len]).is_ok() {
            continue;
        }
        let packet = Packet::parse(&buf[..len]).unwrap();
        heard = packet.mappings().any(|it| it.kind == pen_records::mapping::MappingKind::Closed);
    }
    penctl_in(&folder, &["no", "log"]);
    assert_eq!(penctl_in(&folder, &["log"]), "");
    ask(&pen, REQUEST);
    assert_eq!(pen.end(), Some(0));
    socket.set_nonblocking(true).unwrap();
    assert!(socket.recv(&mut buf).is_err(), "something came");
}

#[test]
fn p_24_hup_without_the_logs_folder_ends_nothing() {
    let folder = TempFolder::new();
    fs::create_dir(folder.join("logs")).unwrap();
    let pen = start(&folder, &["-l", "logs/pen.log", "127.0.0.1:0", &http()]);
    fs::rename(folder.join("logs"), folder.join("elsewhere")).unwrap();
    pen.signal(Signal::SIGHUP);
    ask(&pen, REQUEST);
    // What was open is written to on.
    let old = folder.join("elsewhere/pen.log");
    wait_until("it is written", || {
        fs::read_to_string(&old).is_ok_and(|text| text.contains("/page"))
    });
    assert_eq!(pen.end(), Some(0));
}

#[test]
fn p_25_what_a_client_sent_is_escaped_in_the_log() {
    for format in ["classic", "extended"] {
        let folder = TempFolder::new();
        let option = format!("log_format {format}");
        let pen = start(&folder, &["-O", &option, "-l", "pen.log", "127.0.0.1:0", &http()]);
        ask(&pen, b"GET /\x1b[31m\x00\x7f HTTP/1.1\r\nHost: x\r\n\r\n");
        assert_eq!(pen.end(), Some(0));
        let text = fs::read(folder.join("pen.log")).unwrap();
        let is_plain = |&byte: &u8| byte == b'\n' || byte == b'\t' || (b' '..=b'~').contains(&byte);
        assert!(text.iter().all(is_plain), "{format}: {}", text.escape_ascii());
        assert!(!text.is_empty(), "{format}");
    }
}

#[test]
fn p_30_a_second_pen_is_refused_and_leaves_the_first_ones_pid_file() {
    let folder = TempFolder::new();
    let pen = start(&folder, &["-p", "pid", "127.0.0.1:0", "127.0.0.1:9"]);
    let before = fs::read(folder.join("pid")).unwrap();
    let addr = pen.addr().to_string();
    for args in [["-p", "pid", "127.0.0.1:0"], ["-p", "other", addr.as_str()]] {
        let second = pen_in(&folder, &["-f"]).args(args).arg("127.0.0.1:9").output().unwrap();
        assert_eq!(second.status.code(), Some(1), "{args:?}");
    }
    assert_eq!(fs::read(folder.join("pid")).unwrap(), before);
    assert_eq!(pen.end(), Some(0));
    assert!(!folder.join("pid").exists());
}

#[test]
fn p_32_the_caller_is_told_what_fails_in_the_background() {
    let (folder, taken) = (TempFolder::new(), Listener::tcp());
    let addr = taken.endpoint().to_string();
    let output = pen_in(&folder, &[&addr, "127.0.0.1:9"]).output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.starts_with(&format!("pen: cannot listen at {addr}: ")), "{said}");
}

#[test]
fn p_51_signals_may_come_again_and_again() {
    let folder = TempFolder::new();
    let pen = start(&folder, &["-w", "page", "127.0.0.1:0", &http()]);
    for _ in 0..5 {
        for signal in [Signal::SIGHUP, Signal::SIGUSR1] {
            pen.signal(signal);
        }
        wait_until("the page is written", || folder.join("page").exists());
        fs::remove_file(folder.join("page")).unwrap();
        ask(&pen, REQUEST);
    }
    assert_eq!(pen.end(), Some(0));
}

#[test]
fn p_56_nothing_is_said_when_nothing_is_wrong() {
    let folder = TempFolder::new();
    let output = pen_in(&folder, &["--check", "8080", "127.0.0.1:9"]).output().unwrap();
    assert!(output.status.success() && output.stdout.is_empty() && output.stderr.is_empty());
}

#[test]
fn p_58_records_have_microseconds() {
    let (listener, (socket, target)) = (Listener::tcp(), collector());
    let site = Site::start(RuntimeSettings { log: Some(target), ..over(&[&listener.endpoint()]) });
    let mut fine = false;
    let mut buf = [0; 2_048];
    // One in a million falls on a whole second.
    for _ in 0..3 {
        let client = site.connect();
        drop((listener.accept(), client));
        let len = socket.recv(&mut buf).unwrap();
        if DiscoveryQuestion::parse(&buf[..len]).is_ok() {
            continue;
        }
        let packet = Packet::parse(&buf[..len]).unwrap();
        let micros = |time: Option<(pen_records::time::Timestamp, _)>| time.unwrap().0.as_micros();
        fine |= packet.mappings().any(|mapping| micros(mapping.time) % 1_000_000 != 0);
    }
    assert!(fine);
}
