//! The collector inside the balancer: one process from the client to the merged log.

use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::process::{Command, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

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
    let folder = std::env::temp_dir().join(format!("pen-collect-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let merged = folder.join("access.log");
    let server = TcpListener::bind((Ipv4Addr::new(127, 0, 1, 77), 0)).unwrap();
    // The port is free by now, and most likely still in a moment.
    let free = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let collect = free.local_addr().unwrap();
    drop(free);
    let mut pen = Command::new(env!("CARGO_BIN_EXE_pen"))
        .args(["-f", "--collect", &collect.to_string(), "--merged-log"])
        .arg(&merged)
        .args(["127.0.0.1:0", &server.local_addr().unwrap().to_string()])
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let said = BufReader::new(pen.stderr.take().unwrap()).lines();
    let mut said = said.map(Result::unwrap);
    let listening = |line: &String| {
        let addr: SocketAddr = line.split_once("listening on ")?.1.trim().parse().ok()?;
        (addr != collect).then_some(addr)
    };
    let addr = said.find_map(|line| listening(&line)).expect("it says where it listens");
    let served = std::thread::spawn(move || {
        for _ in 0..3 {
            serve(&server, collect).unwrap();
        }
    });
    for (client, page) in [(7, "/a"), (8, "/b"), (9, "/c")] {
        let answer = ask(Ipv4Addr::new(127, 0, 9, client), addr, page).unwrap();
        assert!(answer.ends_with(b"ok"), "{}", answer.escape_ascii());
    }
    served.join().unwrap();
    // At the end it decides and writes what is left, and says how it went.
    kill(Pid::from_raw(i32::try_from(pen.id()).unwrap()), Signal::SIGTERM).unwrap();
    let balance: Vec<_> = said.filter(|line| line.contains("balance: lines:")).collect();
    assert!(pen.wait().unwrap().success());
    let log = std::fs::read_to_string(&merged).unwrap();
    let clients: Vec<_> = log.lines().filter_map(|line| line.split(' ').next()).collect();
    assert_eq!(clients, ["127.0.9.7", "127.0.9.8", "127.0.9.9"], "{log}\n{balance:?}");
    assert!(balance.iter().any(|line| line.contains("lines: 3 received")), "{balance:?}");
    std::fs::remove_dir_all(&folder).unwrap();
}
