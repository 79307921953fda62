//! The least that can be called a web server, for where there is none.

use std::fs::{self, File};
use std::io::{self, BufRead as _, BufReader, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::thread;

use crate::stage::{PATIENCE, free_port};
use crate::{During, Failure};

/// One that answers each request with a greeting and writes a combined line about it.
pub(super) struct Tiny {
    addr: SocketAddr,
    log: PathBuf,
}

impl Tiny {
    /// Starts it; it ends with the process.
    pub(super) fn start(folder: &Path, number: u8) -> Result<Self, Failure> {
        let addr = free_port(Ipv4Addr::new(127, 0, 1, number))?;
        let folder = folder.join(format!("web{number}"));
        fs::create_dir_all(&folder).during(format_args!("make {}", folder.display()))?;
        let log = folder.join("access.log");
        let file = File::create(&log).during(format_args!("write {}", log.display()))?;
        let listener = TcpListener::bind(addr).during(format_args!("listen at {addr}"))?;
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                // A client that leaves early has its reasons.
                serve(stream, &file).unwrap_or_default();
            }
        });
        Ok(Self { addr, log })
    }

    pub(super) const fn addr(&self) -> SocketAddr {
        self.addr
    }

    pub(super) fn log(&self) -> &Path {
        &self.log
    }
}

fn serve(mut stream: TcpStream, mut log: &File) -> io::Result<()> {
    stream.set_read_timeout(Some(PATIENCE))?;
    let peer = stream.peer_addr()?.ip();
    let (mut request, mut agent, mut line) = (String::new(), String::from("-"), String::new());
    let mut reader = BufReader::new(stream.try_clone()?);
    reader.read_line(&mut request)?;
    while reader.read_line(&mut line)? > 0 && !line.trim_end().is_empty() {
        if let Some(value) = line.strip_prefix("User-Agent: ") {
            value.trim_end().clone_into(&mut agent);
        }
        line.clear();
    }
    let body = "hello\n";
    write!(
        stream,
        "HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    )?;
    let time = clock();
    let request = request.trim_end();
    let line = format!("{peer} - - [{time}] \"{request}\" 200 {} \"-\" \"{agent}\"\n", body.len());
    log.write_all(line.as_bytes())
}

/// As access logs spell it.
fn clock() -> String {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let seconds = i64::try_from(now.unwrap_or_default().as_secs()).unwrap_or(0);
    let time = chrono::DateTime::from_timestamp(seconds, 0).unwrap_or_default();
    time.format("%d/%b/%Y:%H:%M:%S +0000").to_string()
}
