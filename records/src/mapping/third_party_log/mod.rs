//! Logs of other balancers: a line for each exchange or connection, written at its end.
//!
//! ```text
//! 192.0.2.7:4711 [25/Nov/2026:16:46:11.585] web app/w2 0/0/0/3/4 200 129 - - ---- 1/1/0/0/0 0/0 "GET /p1 HTTP/1.1"
//! ```
//!
//! A [`ThirdPartySpec`] is a compiled format, a [`ThirdPartyReader`] parses lines, and a
//! [`ThirdPartyRecord`] is a parsed line. The join needs events: [`ThirdPartyRecord::events`]
//! turns a record into the mappings that `pen` would have written at the beginning and at the end.

mod record;
mod request;

use std::sync::Arc;

pub use self::record::{RecordTimes, ThirdPartyRecord, ThirdPartyServer};

use crate::access::third_party_log::{BalancerFormat, BalancerLine, HAPROXY, may_be_haproxys};
use crate::access::{FormatError, LineError};

/// The formats of a balancer's log, compiled.
#[derive(Clone, Debug)]
pub struct ThirdPartySpec(Arc<[BalancerFormat]>);

impl ThirdPartySpec {
    /// The formats of HAProxy: `option tcplog`, `option httplog` and `option httpslog`, the first
    /// two also with ` %bi:%bp %si:%sp` appended, and the format that
    /// `docs/guide/behind-haproxy-and-others.md` recommends.
    #[must_use]
    pub fn haproxy() -> Self {
        let parse =
            |format: &&str| BalancerFormat::parse(format).expect("our own formats are good");
        Self(HAPROXY.iter().map(parse).collect())
    }

    /// Compiles `haproxy`, or a format string from the configuration of HAProxy, Envoy, Traffic
    /// Server, nginx or Apache.
    ///
    /// # Errors
    /// Names the fault in `text` and its byte offset.
    pub fn parse(text: &str) -> Result<Self, FormatError> {
        if text.trim() == "haproxy" {
            return Ok(Self::haproxy());
        }
        Ok(Self([BalancerFormat::parse(text)?].into()))
    }
}

/// Parses the lines of a balancer's log.
#[derive(Clone, Debug)]
pub struct ThirdPartyReader {
    formats: Arc<[BalancerFormat]>,
    /// Index of the format of the last line.
    usual: usize,
    clock: crate::access::TimestampParser,
    found: BalancerLine,
    /// The request of the last line as the server saw it.
    request: Vec<u8>,
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
        }
    }

    /// Parses a line, with or without a syslog envelope.
    ///
    /// # Errors
    /// If the line is in none of the formats. Any bytes are safe to pass.
    pub fn read<'a>(&'a mut self, line: &'a [u8]) -> Result<ThirdPartyRecord<'a>, LineError> {
        let line = line.strip_suffix(b"\n").unwrap_or(line);
        let usual = self.usual;
        let mut result = self.try_format(usual, line);
        for index in (0..self.formats.len()).filter(|&index| index != usual) {
            let Err(error) = result else { break };
            result = self.try_format(index, line);
            match result {
                Ok(()) => self.usual = index,
                Err(other) if other.at < error.at => result = Err(error),
                Err(_) => {}
            }
        }
        result?;
        let manner = self.formats[self.usual].manner;
        self.request.clear();
        request::write(line, &self.found.line, manner, &mut self.request);
        Ok(ThirdPartyRecord::new(line, &self.found, manner, &self.request))
    }

    fn try_format(&mut self, index: usize, line: &[u8]) -> Result<(), LineError> {
        self.formats[index].read(line, &mut self.clock, &mut self.found)?;
        record::check(line, &self.found)
    }

    /// Whether a line of an undeclared source may be HAProxy's. Cheap if it is not.
    #[must_use]
    pub fn may_be_haproxys(line: &[u8]) -> bool {
        may_be_haproxys(line)
    }
}

#[cfg(test)]
mod tests;
