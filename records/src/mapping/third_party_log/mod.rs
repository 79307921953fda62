//! Logs of other balancers: a line for each exchange or connection, written at its end.
//!
//! ```text
//! 192.0.2.7:4711 [25/Nov/2026:16:46:11.585] web app/w2 0/0/0/3/4 200 129 - - ---- 1/1/0/0/0 0/0 "GET /p1 HTTP/1.1"
//! ```
//!
//! A [`ThirdPartySpec`] is a compiled format, a [`ThirdPartyReader`] parses lines, and a
//! [`ThirdPartyRecord`] is a parsed line. The join needs events: [`ThirdPartyRecord::events`]
//! turns a record into the mappings that `pen` would have written at the beginning and at the end.

mod conntrack;
mod nginx_stream;
mod record;
mod request;

use std::sync::{Arc, LazyLock};

pub use self::record::{RecordTimes, ThirdPartyRecord, ThirdPartyServer};

use self::nginx_stream::OpenClients;
use crate::access::third_party_log::{
    BalancerFormat, BalancerLine, FormatTraits, HAPROXY, is_notice_of_haproxy, may_be_haproxys,
};
use crate::access::{FormatError, LineError};

/// The formats of a balancer's log, compiled.
#[derive(Clone, Debug)]
pub struct ThirdPartySpec(Arc<[LogFormat]>);

/// A format of lines.
#[derive(Clone, Debug)]
enum LogFormat {
    /// Of a balancer that writes formats.
    Pasted(BalancerFormat),
    /// What `conntrack -E` prints.
    Conntrack,
    /// The `info` messages of nginx's stream module in its error log.
    NginxStream,
}

impl ThirdPartySpec {
    /// The formats of HAProxy: `option tcplog`, `option httplog` and `option httpslog`, the first
    /// two also with ` %bi:%bp %si:%sp` appended, and the format that
    /// `docs/guide/behind-haproxy-and-others.md` recommends.
    #[must_use]
    pub fn haproxy() -> Self {
        static FORMATS: LazyLock<ThirdPartySpec> = LazyLock::new(|| {
            let parse =
                |format: &&str| BalancerFormat::parse(format).expect("our own formats are good");
            ThirdPartySpec(HAPROXY.iter().map(parse).map(LogFormat::Pasted).collect())
        });
        FORMATS.clone()
    }

    /// Compiles the name of a format (`haproxy`, `nginx-stream`, `conntrack`, `traefik`, `caddy`, `json`,
    /// `combined`, `common`), or a format string from the configuration of HAProxy, Envoy, Traffic
    /// Server, nginx or Apache.
    ///
    /// # Errors
    /// Names the fault in `text` and its byte offset.
    pub fn parse(text: &str) -> Result<Self, FormatError> {
        let format = match text.trim() {
            "haproxy" => return Ok(Self::haproxy()),
            "conntrack" => LogFormat::Conntrack,
            "nginx-stream" => LogFormat::NginxStream,
            text => LogFormat::Pasted(BalancerFormat::parse(text)?),
        };
        Ok(Self([format].into()))
    }

    /// All formats of several specifications, tried in this order. After a format of HAProxy come its own
    /// formats: frontends without a `log-format` have one of these.
    #[must_use]
    pub fn any_of(specs: &[Self]) -> Self {
        let given = specs.iter().flat_map(|spec| spec.0.iter().cloned());
        let is_haproxys =
            |format: &LogFormat| matches!(format, LogFormat::Pasted(it) if it.manner.hash_escapes);
        let mut formats: Vec<_> = given.collect();
        if formats.iter().any(is_haproxys) {
            formats.extend(Self::haproxy().0.iter().cloned());
        }
        Self(formats.into())
    }

    /// Whether lines in a format do not name the server: then all requests go to one, which the user names.
    #[must_use]
    pub fn lacks_server(&self) -> bool {
        let lacks =
            |format: &LogFormat| matches!(format, LogFormat::Pasted(it) if !it.manner.has_server);
        self.0.iter().any(lacks)
    }
}

/// Parses the lines of a balancer's log.
#[derive(Clone, Debug)]
pub struct ThirdPartyReader {
    formats: Arc<[LogFormat]>,
    /// Index of the format of the last line.
    usual: usize,
    clock: crate::access::TimestampParser,
    found: BalancerLine,
    /// The request of the last line as the server saw it.
    request: Vec<u8>,
    /// Clients of nginx's stream module whose server is not known yet.
    clients: OpenClients,
}

impl ThirdPartyReader {
    /// Creates a reader.
    #[must_use]
    pub fn new(spec: &ThirdPartySpec) -> Self {
        Self {
            formats: Arc::clone(&spec.0),
            usual: 0,
            clock: crate::access::TimestampParser::default(),
            found: BalancerLine::default(),
            request: Vec::new(),
            clients: OpenClients::default(),
        }
    }

    /// Parses a line, with or without a syslog envelope. `None` for a line that is understood, and is about
    /// no exchange and no new connection.
    ///
    /// # Errors
    /// If the line is in none of the formats. Any bytes are safe to pass.
    pub fn read<'a>(
        &'a mut self,
        line: &'a [u8],
    ) -> Result<Option<ThirdPartyRecord<'a>>, LineError> {
        let line = line.strip_suffix(b"\n").unwrap_or(line);
        let usual = self.usual;
        let mut result = self.try_format(usual, line);
        for index in (0..self.formats.len()).filter(|&index| index != usual) {
            let Err(error) = result else { break };
            result = self.try_format(index, line);
            match result {
                Ok(_) => self.usual = index,
                Err(other) if other.at < error.at => result = Err(error),
                Err(_) => {}
            }
        }
        match result {
            Ok(LineContent::Fields(manner)) => {
                self.request.clear();
                request::write(line, &self.found.line, manner, &mut self.request);
                Ok(Some(ThirdPartyRecord::new(line, &self.found, manner, &self.request)))
            }
            Ok(LineContent::Record(record)) => Ok(Some(*record)),
            Ok(LineContent::Nothing) => Ok(None),
            Err(_) if is_notice_of_haproxy(line) => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn try_format(&mut self, index: usize, line: &[u8]) -> Result<LineContent, LineError> {
        match &self.formats[index] {
            LogFormat::Pasted(format) => {
                format.read(line, &mut self.clock, &mut self.found)?;
                record::check(line, &self.found)?;
                Ok(LineContent::Fields(format.manner))
            }
            LogFormat::Conntrack => conntrack::read(line),
            LogFormat::NginxStream => self.clients.read(line, &mut self.clock),
        }
    }

    /// Whether a line of an undeclared source may be HAProxy's. Cheap if it is not.
    #[must_use]
    pub fn may_be_haproxys(line: &[u8]) -> bool {
        may_be_haproxys(line)
    }
}

/// What a line holds.
enum LineContent {
    /// The fields of the reader's line.
    Fields(FormatTraits),
    Record(Box<ThirdPartyRecord<'static>>),
    /// Nothing of use.
    Nothing,
}

#[cfg(test)]
mod tests;
