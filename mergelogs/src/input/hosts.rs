//! The lines of one server in a central file of several servers, by the host in their syslog envelopes.

use std::io::{self, BufRead as _, BufReader, Read};
use std::path::PathBuf;
use std::sync::Arc;

use pen_records::access::envelope_host;
use pen_records::addr::parse_ip;
use pen_records::server_alias::{ServerAliases, ServerKey};

/// Bytes of a line that are read at once. The rest of a longer line goes where its beginning went.
const PIECE: u64 = 1 << 20;

/// The lines of one server in a central file.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct HostLines {
    pub(crate) path: PathBuf,
    /// The options `--server`, which say whose hosts are whose.
    pub(crate) names: Arc<ServerAliases>,
    /// The server; `None` for the lines of hosts that no option names.
    pub(crate) server: Option<ServerKey>,
}

impl HostLines {
    fn has(&self, line: &[u8]) -> bool {
        let server = envelope_host(line).and_then(|host| {
            let option = self.names.of_host(host).map(|place| self.names.server(place));
            option.or_else(|| {
                // The address of a server that has another name, too.
                let addr = parse_ip(host)?;
                self.names.iter().map(|it| it.server).find(|it| it.addr == addr)
            })
        });
        server == self.server
    }
}

/// Reads the lines of one server.
pub(crate) struct HostLinesReader {
    inner: BufReader<Box<dyn Read + Send>>,
    of: Arc<HostLines>,
    /// A line of the server, of which `at` bytes are handed out.
    line: Vec<u8>,
    at: usize,
    /// Whether the line goes on, and is the server's.
    continues: Option<bool>,
}

impl HostLinesReader {
    pub(crate) fn new(inner: Box<dyn Read + Send>, of: Arc<HostLines>, block: usize) -> Self {
        let inner = BufReader::with_capacity(block, inner);
        Self { inner, of, line: Vec::new(), at: 0, continues: None }
    }

    /// Reads up to the next line of the server; the line is empty at the end.
    fn advance(&mut self) -> io::Result<()> {
        loop {
            self.line.clear();
            self.at = 0;
            if self.inner.by_ref().take(PIECE).read_until(b'\n', &mut self.line)? == 0 {
                return Ok(());
            }
            let is_mine = self.continues.unwrap_or_else(|| self.of.has(&self.line));
            self.continues = (self.line.last() != Some(&b'\n')).then_some(is_mine);
            if is_mine {
                return Ok(());
            }
        }
    }
}

impl Read for HostLinesReader {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let mut filled = 0;
        while filled < buf.len() {
            if self.at == self.line.len() {
                self.advance()?;
                if self.line.is_empty() {
                    break;
                }
            }
            let rest = &self.line[self.at..];
            let len = rest.len().min(buf.len() - filled);
            buf[filled..filled + len].copy_from_slice(&rest[..len]);
            (self.at, filled) = (self.at + len, filled + len);
        }
        Ok(filled)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_line_belongs_to_one_server() {
        let names = ["web1=10.0.0.1", "web2=10.0.0.2:80", "10.0.0.9=10.0.0.1"];
        let names = ServerAliases::new(names.iter().map(|it| it.parse().unwrap()).collect());
        let names = Arc::new(names.unwrap());
        let line = |host: &str, text: &str| {
            format!("Nov 22 20:23:20 {host} nginx: 10.9.9.9 - - [{text}\n")
        };
        let long = line("WEB2", &"x".repeat(3 << 20));
        let (web1, other) = (line("web1", "a"), line("web3", "b"));
        let by_addr = line("10.0.0.9", "c") + &line("10.0.0.1", "d");
        let text = [web1.as_str(), &other, &long, "no envelope\n", &by_addr].concat();
        let read = |server: Option<&str>| {
            let server = server.map(|it| ServerKey::parse(it).unwrap());
            let of =
                Arc::new(HostLines { path: PathBuf::new(), names: Arc::clone(&names), server });
            let inner = Box::new(io::Cursor::new(text.clone().into_bytes()));
            let mut found = String::new();
            HostLinesReader::new(inner, of, 1 << 12).read_to_string(&mut found).unwrap();
            found
        };
        assert_eq!(read(Some("10.0.0.1")), web1 + &by_addr);
        assert!(read(Some("10.0.0.2:80")) == long);
        assert_eq!(read(None), other + "no envelope\n");
    }
}
