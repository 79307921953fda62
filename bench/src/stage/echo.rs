//! A WebSocket server: accepts the upgrade, then returns all bytes.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use super::PATIENCE;
use crate::{ActionError, Doing};

/// A listener with a thread for each connection.
#[derive(Debug)]
pub(super) struct WebSocketEcho {
    addr: SocketAddr,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl WebSocketEcho {
    /// Starts one.
    pub(super) fn start() -> Result<Self, ActionError> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).doing("listen for sockets")?;
        let addr = listener.local_addr().doing("find out where that is")?;
        let stop = Arc::new(AtomicBool::new(false));
        let ending = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            for stream in listener.incoming() {
                if ending.load(Ordering::Relaxed) {
                    return;
                }
                if let Ok(stream) = stream {
                    // What goes wrong shows in the answers.
                    std::thread::spawn(move || talk(stream).ok());
                }
            }
        });
        Ok(Self { addr, stop, thread: Some(thread) })
    }

    /// Where it listens.
    pub(super) fn addr(&self) -> SocketAddr {
        self.addr
    }
}

impl Drop for WebSocketEcho {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        // So that it looks.
        let _woken = TcpStream::connect(self.addr);
        if let Some(thread) = self.thread.take() {
            let _ended = thread.join();
        }
    }
}

fn talk(stream: TcpStream) -> io::Result<()> {
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut reader = BufReader::new(stream.try_clone()?);
    let (mut writer, mut line) = (stream, Vec::new());
    while line != b"\r\n" {
        line.clear();
        if reader.read_until(b'\n', &mut line)? == 0 {
            return Ok(());
        }
    }
    let agreed =
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n";
    writer.write_all(agreed.as_bytes())?;
    let mut buf = [0; 4_096];
    loop {
        match reader.read(&mut buf)? {
            0 => return Ok(()),
            len => writer.write_all(&buf[..len])?,
        }
    }
}
