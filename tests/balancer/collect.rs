//! The collector inside the balancer: one process from the client to the merged log.

use std::io::{self, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::process::Command;

use nix::sys::signal::Signal;
use pen_testing::Program;

use crate::support::PATIENCE;

/// Answers one request, and reports it as a web server does: the client it names is the balancer.
fn serve(listener: &TcpListener, lines: SocketAddr) -> io::Result<()> {
    let (mut stream, peer) = listener.accept()?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte)?;
        head.push(byte[0]);
    }
    let request = head.split(|&byte| byte == b'\r').next().unwrap_or_default();
    let request = String::from_utf8_lossy(request).into_owned();
    stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")?;
    let line =
        format!("{} - - [25/Nov/2026:12:00:00 +0000] \"{request}\" 200 2 \"-\" \"-\"\n", peer.ip());
    let from = UdpSocket::bind((listener.local_addr()?.ip(), 0))?;
    from.send_to(line.as_bytes(), lines).map(drop)
}

/// Asks for a page from this address.
fn ask(client: Ipv4Addr, balancer: SocketAddr, page: &str) -> io::Result<Vec<u8>> {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None)?;
    socket.bind(&SocketAddr::new(client.into(), 0).into())?;
    socket.connect(&balancer.into())?;
    socket.set_read_timeout(Some(PATIENCE))?;
    let mut stream = std::net::TcpStream::from(socket);
    write!(stream, "GET {page} HTTP/1.1\r\nHost: shop\r\nConnection: close\r\n\r\n")?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).map(|_| answer)
}

#[test]
fn one_process_balances_and_writes_a_log_with_the_real_clients() {
    collects_lines(&pen_testing::TempFolder::new(), &[]);
}

#[test]
fn the_collector_inside_keeps_a_journal() {
    let folder = pen_testing::TempFolder::new();
    let journal = folder.join("journal").display().to_string();
    collects_lines(&folder, &["--journal", &journal, "--durable", "process"]);
    let files = std::fs::read_dir(&journal).unwrap().flatten();
    let bytes: u64 = files.map(|file| file.metadata().unwrap().len()).sum();
    assert!(bytes > 500, "{bytes}");
}

#[test]
fn a_journal_without_a_collector_is_refused() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pen"));
    command.args(["-f", "--journal", "journal", "127.0.0.1:0", "127.0.0.1:9"]);
    let mut pen = Program::start("pen", &mut command).unwrap();
    assert!(!pen.wait_for_exit().unwrap().success());
    assert!(pen.messages().contains("--journal: expected --collect with it"), "{}", pen.messages());
}

/// Makes three visits, and expects their lines with the clients.
fn collects_lines(folder: &pen_testing::TempFolder, options: &[&str]) {
    let merged = folder.join("access.log");
    let server = TcpListener::bind((Ipv4Addr::new(127, 0, 1, 77), 0)).expect("it works");
    // The port is free by now, and most likely still in a moment.
    let free = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("it works");
    let collect = free.local_addr().expect("it works");
    drop(free);
    let mut command = Command::new(env!("CARGO_BIN_EXE_pen"));
    command.args(["-f", "--collect", &collect.to_string(), "--merged-log"]).arg(&merged);
    command.args(options);
    command.args(["127.0.0.1:0", &server.local_addr().expect("it works").to_string()]);
    let mut pen = Program::start("pen", &mut command).expect("it works");
    let listening =
        || pen.wait_until_listening().expect("it works").parse::<SocketAddr>().expect("an address");
    // The collector and the balancer each say so.
    let addr =
        [listening(), listening()].into_iter().find(|&addr| addr != collect).expect("two ports");
    let served = std::thread::spawn(move || {
        for _ in 0..3 {
            serve(&server, collect).expect("it works");
        }
    });
    for (client, page) in [(7, "/a"), (8, "/b"), (9, "/c")] {
        let answer = ask(Ipv4Addr::new(127, 0, 9, client), addr, page).expect("it works");
        assert!(answer.ends_with(b"ok"), "{}", answer.escape_ascii());
    }
    served.join().expect("it works");
    // At the end it decides and writes what is left, and says how it went.
    assert!(pen.stop(Signal::SIGTERM).expect("it works").success());
    let said = pen.messages();
    let balance: Vec<_> = said.lines().filter(|line| line.contains("balance: lines:")).collect();
    let log = std::fs::read_to_string(&merged).expect("it works");
    let clients: Vec<_> = log.lines().filter_map(|line| line.split(' ').next()).collect();
    assert_eq!(clients, ["127.0.9.7", "127.0.9.8", "127.0.9.9"], "{log}\n{balance:?}");
    assert!(balance.iter().any(|line| line.contains("lines: 3 received")), "{balance:?}");
}
