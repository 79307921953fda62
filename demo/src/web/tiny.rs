//! A web server that can do just what the demonstration needs.

use std::fs::File;
use std::io::{self, BufRead as _, BufReader, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::thread;

use pen_testing::{ActionError, Doing as _, PATIENCE};

/// Starts a thread that answers each request at `addr` with a greeting, and appends a line in Combined Log Format to
/// the log. The thread ends with the process.
pub(super) fn serve(addr: SocketAddr, log: &Path) -> Result<(), ActionError> {
    let file = File::create(log).doing(format_args!("create {}", log.display()))?;
    let listener = TcpListener::bind(addr).doing(format_args!("listen at {addr}"))?;
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let _ = answer(stream, &file); // the client left early
        }
    });
    Ok(())
}

fn answer(mut stream: TcpStream, mut log: &File) -> io::Result<()> {
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
    let time = chrono::Utc::now().format("%d/%b/%Y:%H:%M:%S +0000");
    let request = request.trim_end();
    let line = format!("{peer} - - [{time}] \"{request}\" 200 {} \"-\" \"{agent}\"\n", body.len());
    log.write_all(line.as_bytes())
}
