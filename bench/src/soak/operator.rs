//! Whoever looks after the balancer meanwhile: commands, pages, signals, and peers of the control port who say
//! nothing.

use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::thread::JoinHandle;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::again;
use crate::stage::{PATIENCE, Program};

const COMMANDS: [&str; 14] = [
    "servers",
    "recent",
    "states",
    "connections",
    "status json",
    "status",
    "acl 3 deny 10.0.0.1",
    "no acl 3",
    "server 1 weight 3",
    "server 2 blacklist 1",
    "idle_timeout 15",
    "nonsense \"",
    "close 999999999",
    "server 9 address 127.0.0.1 port 1",
];

pub(super) fn start(
    process: &Program,
    control: &Path,
    status: SocketAddr,
    stop: &Arc<AtomicBool>,
) -> Vec<JoinHandle<()>> {
    let control = control.to_owned();
    let pid = Pid::from_raw(i32::try_from(process.id()).expect("process ids fit in 31 bits"));
    let mut silent = Vec::new();
    let (asked, told) = (control.clone(), control);
    let commands = again(stop, Duration::from_millis(20), move |turn| {
        let at = usize::try_from(turn).unwrap_or(0) % COMMANDS.len();
        // An error is an answer, too.
        ask(&asked, COMMANDS[at]).map(drop).unwrap_or_default();
    });
    let others = again(stop, Duration::from_millis(250), move |turn| {
        if turn % 5 == 0 {
            get(status, "/metrics").and_then(|()| get(status, "/")).unwrap_or_default();
        }
        match turn % 40 {
            3 => kill(pid, Signal::SIGHUP).unwrap_or_default(),
            9 => kill(pid, Signal::SIGUSR1).unwrap_or_default(),
            // One that never says what it wants, until it is let go.
            5 | 15 | 25 => {
                silent.truncate(2);
                silent.insert(
                    0,
                    UnixStream::connect(&told).and_then(|mut stream| {
                        stream.write_all(b"serv")?;
                        Ok(stream)
                    }),
                );
            }
            _ => {}
        }
    });
    vec![commands, others]
}

fn ask(control: &PathBuf, command: &str) -> io::Result<Vec<u8>> {
    let mut stream = UnixStream::connect(control)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    writeln!(stream, "{command}")?;
    let mut reply = Vec::new();
    stream.read_to_end(&mut reply).map(|_| reply)
}

fn get(addr: SocketAddr, path: &str) -> io::Result<()> {
    let mut stream = TcpStream::connect(addr)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    write!(stream, "GET {path} HTTP/1.1\r\n\r\n")?;
    io::copy(&mut stream, &mut io::sink()).map(drop)
}
