//! Servers behind the balancer: one answers, one never accepts.

use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::thread;
use std::time::Duration;

use socket2::{Domain, Socket, Type};

use super::listener;
use crate::stage::PATIENCE;
use crate::{ActionError, Doing};

/// Starts one that ends with this process. `GET /N` is answered with N bytes, `POST` reads a body first, and
/// what begins with `ECHO` comes back as it is.
pub(super) fn start() -> Result<SocketAddr, ActionError> {
    let listener = listener()?;
    let addr = listener.local_addr().doing("find a server")?;
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            // How clients end is their own affair.
            thread::spawn(move || serve(&stream).unwrap_or_default());
        }
    });
    Ok(addr)
}

fn serve(stream: &TcpStream) -> io::Result<()> {
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let (mut reader, mut writer) = (BufReader::new(stream), stream);
    loop {
        let mut first = Vec::new();
        if (&mut reader).take(10_000).read_until(b'\n', &mut first)? == 0 {
            return Ok(());
        }
        if first.starts_with(b"ECHO") {
            writer.write_all(&first)?;
            return io::copy(&mut reader, &mut writer).map(drop);
        }
        let first = String::from_utf8_lossy(&first).into_owned();
        let mut length = 0;
        let mut line = String::new();
        while reader.read_line(&mut line)? > 2 {
            if let Some(value) = line.strip_prefix("Content-Length: ") {
                length = value.trim().parse().unwrap_or(0);
            }
            line.clear();
        }
        io::copy(&mut (&mut reader).take(length), &mut io::sink())?;
        let wanted = first.split(' ').nth(1).and_then(|target| target.strip_prefix('/'));
        let bytes: u64 = wanted.and_then(|number| number.parse().ok()).unwrap_or(0);
        write!(writer, "HTTP/1.1 200 OK\r\nContent-Length: {bytes}\r\n\r\n")?;
        io::copy(&mut io::repeat(b'x').take(bytes), &mut writer)?;
    }
}

/// One whose queue is full: who connects hears nothing.
pub(super) struct Silent {
    pub(super) addr: SocketAddr,
    _listener: Socket,
    _queue: Vec<TcpStream>,
}

impl Silent {
    pub(super) fn new() -> Result<Self, ActionError> {
        let action = "make a server that accepts nobody";
        let listener = Socket::new(Domain::IPV4, Type::STREAM, None).doing(action)?;
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        listener.bind(&any.into()).doing(action)?;
        listener.listen(0).doing(action)?;
        let addr = listener.local_addr().doing(action)?.as_socket();
        let addr = addr.ok_or_else(|| ActionError::new("a port has no address"))?;
        let mut queue = Vec::new();
        while let Ok(stream) = TcpStream::connect_timeout(&addr, Duration::from_millis(200)) {
            queue.push(stream);
        }
        Ok(Self { addr, _listener: listener, _queue: queue })
    }
}
