//! `pen` goes on serving when its surroundings fail: descriptors, disks, collectors, operators.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use nix::unistd::getuid;

use crate::program::RunningPen;
use crate::support::{PATIENCE, pattern, wait_until};

/// Started by a shell, so that it can be given limits first.
fn start(limits: &str, args: &str) -> RunningPen {
    let script = format!("{limits} exec \"$0\" -f {args}");
    let mut shell = Command::new("sh");
    RunningPen::start(shell.arg("-c").arg(script).arg(env!("CARGO_BIN_EXE_pen")))
}

impl RunningPen {
    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.addr()).expect("it listens");
        stream.set_read_timeout(Some(PATIENCE)).expect("it is not zero");
        stream
    }

    /// Whether a question is answered.
    fn is_served(&self) -> bool {
        // Who is cut at once may hear of it while connecting.
        let Ok(mut stream) = TcpStream::connect(self.addr()) else { return false };
        stream.set_read_timeout(Some(PATIENCE)).expect("it is not zero");
        let mut back = [0; 5];
        let asked = stream.write_all(b"hello").and_then(|()| stream.read_exact(&mut back));
        asked.is_ok() && back == *b"hello"
    }

    fn descriptors(&self) -> usize {
        fs::read_dir(format!("/proc/{}/fd", self.id())).expect("it is there").count()
    }

    /// How many it has with nobody connected, which is some time after it has begun to listen.
    fn descriptors_at_rest(&self) -> usize {
        assert!(self.is_served());
        let (mut last, mut since) = (0, Instant::now());
        wait_until("the number stays the same", || {
            let now = self.descriptors();
            if std::mem::replace(&mut last, now) != now {
                since = Instant::now();
            }
            since.elapsed() > Duration::from_millis(300)
        });
        last
    }
}

/// A server that sends back what it gets.
fn echo() -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port is free");
    let addr = listener.local_addr().expect("it is bound");
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            thread::spawn(move || std::io::copy(&mut &stream, &mut &stream).map(drop));
        }
    });
    addr
}

#[test]
fn p_31_without_descriptors_it_sheds_load_and_goes_on() {
    let pen = start("ulimit -n 40;", &format!("127.0.0.1:0 {}", echo()));
    let at_rest = pen.descriptors_at_rest();
    // More than there are descriptors for; whoever gets none waits or is cut.
    let crowd: Vec<_> = (0..60).map(|_| pen.connect()).collect();
    wait_until("descriptors are scarce", || pen.descriptors() >= 34);
    drop(crowd);
    wait_until("somebody is served again", || pen.is_served());
    wait_until("nothing is left over", || pen.descriptors() <= at_rest);
    assert_eq!(pen.end(), Some(0), "it ends well");
}

#[test]
fn a_burst_past_every_limit_is_served_when_there_is_room() {
    let limits = "-x 8 -O 'pending_max 3' -q 4096 -O 'clients_max 2'";
    let pen = start("", &format!("{limits} 127.0.0.1:0 {}:4:6", echo()));
    let served = AtomicUsize::new(0);
    thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                for _ in 0..40 {
                    served.fetch_add(usize::from(pen.is_served()), Ordering::Relaxed);
                }
            });
        }
    });
    // The server's own limit cuts some; nobody is forgotten.
    assert!(served.into_inner() > 40);
    wait_until("one is served", || pen.is_served());
    assert_eq!(pen.end(), Some(0), "it ends well");
}

#[test]
fn slow_silent_and_half_open_clients_keep_nobody_from_being_served() {
    let pen = start("", &format!("127.0.0.1:0 {}", echo()));
    let at_rest = pen.descriptors_at_rest();
    let mut crowd: Vec<_> = (0..300).map(|_| pen.connect()).collect();
    for (nth, client) in crowd.iter_mut().enumerate() {
        match nth % 3 {
            // One that says all at once and does not read.
            0 => {
                client.set_nonblocking(true).unwrap();
                while client.write(&pattern(60_000)).is_ok() {}
            }
            1 => client.shutdown(std::net::Shutdown::Write).unwrap(),
            _ => {}
        }
    }
    for _ in 0..50 {
        assert!(pen.is_served());
    }
    drop(crowd);
    wait_until("nothing is left over", || pen.descriptors() <= at_rest);
    assert_eq!(pen.end(), Some(0), "it ends well");
}

#[test]
fn a_full_disk_under_the_log_stops_nothing() {
    // Each write to it fails as on a full disk.
    let pen = start("", &format!("-l /dev/full 127.0.0.1:0 {}", http()));
    for _ in 0..200 {
        assert!(is_answered(&pen));
    }
    assert_eq!(pen.end(), Some(0), "it ends well");
}

#[test]
fn a_collector_that_takes_nothing_stops_nothing() {
    let stopped = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let log = stopped.local_addr().unwrap();
    let pen = start("", &format!("-l {log} 127.0.0.1:0 {}", http()));
    for _ in 0..200 {
        assert!(is_answered(&pen));
    }
    assert_eq!(pen.end(), Some(0), "it ends well");
}

#[test]
fn p_27_silent_peers_of_the_control_port_stop_nothing() {
    let control = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let at = control.local_addr().unwrap();
    drop(control);
    // Root has to say so.
    let user = if getuid().is_root() { "-u root" } else { "" };
    let pen = start("", &format!("{user} -C {at} 127.0.0.1:0 {}", echo()));
    // More than there are places for, some in the midst of a word.
    let silent: Vec<_> = (0..40)
        .map(|nth| {
            let mut stream = TcpStream::connect(at).unwrap();
            if nth % 2 == 0 {
                stream.write_all(b"serv").unwrap();
            }
            stream
        })
        .collect();
    for _ in 0..20 {
        assert!(pen.is_served());
    }
    drop(silent);
    wait_until("an operator is answered", || {
        let mut stream = TcpStream::connect(at).unwrap();
        let mut reply = String::new();
        let asked = stream.write_all(b"pid\n").and_then(|()| stream.read_to_string(&mut reply));
        asked.is_ok() && reply.trim() == pen.id().to_string()
    });
    assert_eq!(pen.end(), Some(0), "it ends well");
}

/// A server that answers each connection's first request.
fn http() -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port is free");
    let addr = listener.local_addr().expect("it is bound");
    thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let mut head = [0; 4_096];
            let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
            stream.read(&mut head).and_then(|_| stream.write_all(answer)).unwrap_or_default();
        }
    });
    addr
}

fn is_answered(pen: &RunningPen) -> bool {
    let mut stream = pen.connect();
    let mut reply = Vec::new();
    let asked = stream.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n");
    asked.and_then(|()| stream.read_to_end(&mut reply)).is_ok()
        && reply.starts_with(b"HTTP/1.1 200")
}
