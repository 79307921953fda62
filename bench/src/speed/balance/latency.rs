//! How long a request takes while there is nothing else to do.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use super::origin::SMALL;
use crate::stage::PATIENCE;
use crate::{ActionError, Doing};

/// Requests a second.
pub(super) const RATE: u32 = 1_000;

const REQUESTS: u32 = 3_000;
const CONNECTIONS: usize = 8;

/// The times of requests at even distances, over a few connections in turn.
pub(super) fn measure(addr: SocketAddr) -> Result<Vec<Duration>, ActionError> {
    let request = format!("GET {SMALL} HTTP/1.1\r\nHost: bench\r\n\r\n");
    let connect = || {
        let stream = TcpStream::connect(addr).doing(format_args!("connect to {addr}"))?;
        stream.set_nodelay(true).doing("send at once")?;
        stream.set_read_timeout(Some(PATIENCE)).doing("read")?;
        Ok(stream)
    };
    let mut streams =
        (0..CONNECTIONS).map(|_| connect()).collect::<Result<Vec<TcpStream>, ActionError>>()?;
    let mut times = Vec::new();
    let mut buf = [0; 4096];
    let begin = Instant::now();
    for n in 0..REQUESTS {
        let due = begin + Duration::from_secs(1) / RATE * n;
        // It may wake early: then the request is early.
        std::thread::park_timeout(due.saturating_duration_since(Instant::now()));
        let stream = &mut streams[n as usize % CONNECTIONS];
        let sent = Instant::now();
        stream.write_all(request.as_bytes()).doing("send a request")?;
        let mut len = 0;
        // The page is what the head says: 1,024 bytes behind the empty line.
        while !is_whole(&buf[..len]) {
            let bytes = stream.read(&mut buf[len..]).doing("read an answer")?;
            if bytes == 0 {
                return Err(ActionError::new(format!("{addr} ends in the middle of an answer")));
            }
            len += bytes;
        }
        times.push(sent.elapsed());
    }
    Ok(times)
}

fn is_whole(answer: &[u8]) -> bool {
    let head = memchr::memmem::find(answer, b"\r\n\r\n");
    head.is_some_and(|end| answer.len() >= end + 4 + (1 << 10))
}
