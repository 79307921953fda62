//! What other balancers log: a line for each exchange or connection, written when it is over.
//!
//! ```text
//! 192.0.2.7:4711 [25/Nov/2026:16:46:11.585] web app/w2 0/0/0/3/4 200 129 - - ---- 1/1/0/0/0 0/0 "GET /p1 HTTP/1.1"
//! ```
//!
//! A [`ThirdPartySpec`] says how lines are read, a [`ThirdPartyReader`] reads them, and a [`ThirdPartyRecord`] is what one of them says.
//! The join wants moments: [`ThirdPartyRecord::moments`] makes of a passage the mappings that our own balancer would
//! have noted at its beginning and end.

mod record;
mod request;

use std::sync::Arc;

pub use self::record::{RecordTimes, ThirdPartyRecord, ThirdPartyServer};

use crate::access::third_party_log::{BalancerFormat, BalancerLine, HAPROXY, may_be_haproxys};
use crate::access::{FormatError, LineError};

/// How the lines of a balancer's log are read.
#[derive(Clone, Debug)]
pub struct ThirdPartySpec(Arc<[BalancerFormat]>);

impl ThirdPartySpec {
    /// HAProxy's own formats: `option tcplog`, `option httplog` and `option httpslog`, the first two with
    /// ` %bi:%bp %si:%sp` behind, and what `docs/guide/behind-haproxy-and-others.md` recommends.
    #[must_use]
    pub fn haproxy() -> Self {
        let parse =
            |format: &&str| BalancerFormat::parse(format).expect("our own formats are good");
        Self(HAPROXY.iter().map(parse).collect())
    }

    /// `haproxy`, or a format as it stands in the configuration of HAProxy, Envoy, Traffic Server, nginx or
    /// Apache.
    ///
    /// # Errors
    /// Says what is wrong with `text`, and at which byte.
    pub fn parse(text: &str) -> Result<Self, FormatError> {
        if text.trim() == "haproxy" {
            return Ok(Self::haproxy());
        }
        Ok(Self([BalancerFormat::parse(text)?].into()))
    }
}

/// Reads the lines of a balancer's log.
#[derive(Clone, Debug)]
pub struct ThirdPartyReader {
    formats: Arc<[BalancerFormat]>,
    /// The one that fitted last.
    usual: usize,
    clock: crate::access::TimestampParser,
    found: BalancerLine,
    /// The request of the last line, put right.
    request: Vec<u8>,
}

impl ThirdPartyReader {
    /// One that has read nothing yet.
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

    /// Reads a line, in a syslog envelope or without.
    ///
    /// # Errors
    /// If it is in none of the formats. Any bytes are safe to pass.
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

    /// Whether a line that nobody has announced may be HAProxy's: cheap where it is not.
    #[must_use]
    pub fn may_be_haproxys(line: &[u8]) -> bool {
        may_be_haproxys(line)
    }
}

#[cfg(test)]
mod tests;
