//! Datagrams: mappings or access lines, distinguished by the first bytes.
//!
//! ```text
//! FE 70 6E     binary: mappings, a shipment, a question, an answer (see `docs/design/wire.md`)
//! "+ "         a classic mapping, or garbage: never an access line
//! else         access lines, usually one, each perhaps in a syslog envelope
//! ```

use std::fmt;

use memchr::memchr;

use crate::mapping::packet::Packet;
use crate::mapping::{Mapping, MappingError};
use crate::shipment::{
    DatagramParts, DatagramType, DiscoveryAnswer, DiscoveryQuestion, MAGIC, Shipment, WireError,
};

/// The content of a datagram, borrowed from its bytes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Datagram<'a> {
    /// A classic mapping.
    Mapping(Mapping<'a>),
    /// Mappings from `pen`.
    Packet(Packet<'a>),
    /// Lines from `penlog`.
    Shipment(Shipment<'a>),
    /// `penlog` asks whether a collector listens.
    Question(DiscoveryQuestion),
    /// A collector answers; a collector itself has no use for this.
    Answer(DiscoveryAnswer),
    /// Access lines, at least one.
    Lines(DatagramLines<'a>),
    /// No bytes, or line ends only.
    Empty,
    /// The datagram begins like a mapping or a binary datagram, and is malformed.
    Broken(DatagramError),
}

impl<'a> Datagram<'a> {
    /// Parses a datagram. Any bytes are safe to pass.
    #[must_use]
    pub fn parse(datagram: &'a [u8]) -> Self {
        if datagram.starts_with(b"+ ") {
            return match Mapping::parse_datagram(datagram) {
                Ok(mapping) => Self::Mapping(mapping),
                Err(error) => Self::Broken(DatagramError::Mapping(error)),
            };
        }
        if datagram.starts_with(&MAGIC) {
            return Self::parse_ours(datagram)
                .unwrap_or_else(|error| Self::Broken(DatagramError::Wire(error)));
        }
        if datagram.iter().all(|byte| matches!(byte, b'\r' | b'\n')) {
            return Self::Empty;
        }
        Self::Lines(DatagramLines { rest: datagram })
    }

    fn parse_ours(datagram: &'a [u8]) -> Result<Self, WireError> {
        let parts = DatagramParts::parse(datagram)?;
        match parts.kind {
            DatagramType::Question => DiscoveryQuestion::from_parts(&parts).map(Self::Question),
            DatagramType::Answer => DiscoveryAnswer::from_parts(&parts).map(Self::Answer),
            DatagramType::Shipment => Shipment::from_parts(&parts).map(Self::Shipment),
            DatagramType::Packet => Packet::from_parts(&parts).map(Self::Packet),
        }
    }
}

/// The lines of a datagram, without line feeds; carriage returns stay, empty lines are skipped. A
/// line that begins with `+ ` behind another line is an access line: classic mappings come one to a
/// datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DatagramLines<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for DatagramLines<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        while !self.rest.is_empty() {
            let (line, rest) = match memchr(b'\n', self.rest) {
                Some(end) => (&self.rest[..end], &self.rest[end + 1..]),
                None => (self.rest, &b""[..]),
            };
            self.rest = rest;
            if !matches!(line, b"" | b"\r") {
                return Some(line);
            }
        }
        None
    }
}

/// Why a datagram is malformed. Small, because a flood may cause one error a datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DatagramError {
    /// The datagram begins with `+ ` and is no classic mapping.
    Mapping(MappingError),
    /// The datagram begins with the magic bytes and is malformed.
    Wire(WireError),
}

impl fmt::Display for DatagramError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Mapping(error) => write!(f, "a malformed mapping: {error}"),
            Self::Wire(error) => write!(f, "a malformed packet, shipment or question: {error}"),
        }
    }
}

impl std::error::Error for DatagramError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Mapping(error) => Some(error),
            Self::Wire(error) => Some(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;
    use crate::mapping::packet::write_packet;
    use crate::shipment::{
        Push, SendStamp, SenderOrigin, ShipmentServer, ShipmentWriter, StreamList,
    };
    use crate::time::Timestamp;

    const ORIGIN: SenderOrigin = SenderOrigin { id: 1, start: Timestamp::from_micros(2) };

    #[test]
    fn the_first_bytes_decide() {
        let mut writer = ShipmentWriter::new(ORIGIN, ShipmentServer::default(), 1400);
        assert_eq!(writer.push(b"a line", None), Push::Taken);
        let shipment = writer.finish(SendStamp::default(), <[u8]>::to_vec).unwrap();
        let mut question = Vec::new();
        let streams = StreamList::default();
        DiscoveryQuestion { nonce: 1, origin: ORIGIN, shipments: 0, lines: 0, streams }
            .write(&mut question);
        let mut answer = Vec::new();
        let (received, positions) = (None, StreamList::default());
        DiscoveryAnswer { nonce: 1, window: 0, datagram: 0, received, positions }
            .write(&mut answer);
        let mut packet = Vec::new();
        write_packet(ORIGIN, 0, Timestamp::default(), 0, (0, b""), &mut packet);
        for (datagram, expected) in [
            (&b"+ 127.0.0.9 127.0.0.1 GET /x HTTP/1.1\n"[..], "mapping"),
            (b"+ 127.0.0.9 127.0.0.1", "mapping"),
            (b"+ nobody 127.0.0.1 GET /\n", "broken"),
            (b"+ ", "broken"),
            (b"+", "lines"),
            (b"+1 line", "lines"),
            (b"127.0.0.1 - - [t] \"GET / HTTP/1.1\" 200 5\n", "lines"),
            (b"<190>Nov 22 20:23:20 web nginx: 127.0.0.1 - -", "lines"),
            (b"{\"client\": \"127.0.0.1\"}", "lines"),
            (b"", "empty"),
            (b"\n", "empty"),
            (b"\r\n\n", "empty"),
            (b"\xFEpn", "broken"),
            (b"\xFEpn\x01\x04\x00\x08\x00", "broken"),
            (b"\xFEpx", "lines"),
            (&shipment, "shipment"),
            (&question, "question"),
            (&answer, "answer"),
            (&packet, "packet"),
        ] {
            let kind = match Datagram::parse(datagram) {
                Datagram::Mapping(_) => "mapping",
                Datagram::Packet(_) => "packet",
                Datagram::Shipment(_) => "shipment",
                Datagram::Question(_) => "question",
                Datagram::Answer(_) => "answer",
                Datagram::Lines(_) => "lines",
                Datagram::Empty => "empty",
                Datagram::Broken(_) => "broken",
            };
            assert_eq!(kind, expected, "{}", datagram.escape_ascii());
        }
    }

    #[test]
    fn lines_are_split_at_line_feeds_only() {
        for (datagram, expected) in [
            (&b"one\n"[..], &[&b"one"[..]][..]),
            (b"one", &[b"one"]),
            (b"one\r\n\n\r\ntwo\r\n", &[b"one\r", b"two\r"]),
            (
                b"a\x00b\rc\x85\n+ 1.1.1.1 2.2.2.2 GET /",
                &[b"a\x00b\rc\x85", b"+ 1.1.1.1 2.2.2.2 GET /"],
            ),
        ] {
            let Datagram::Lines(lines) = Datagram::parse(datagram) else { panic!("{datagram:?}") };
            assert!(lines.eq(expected.iter().copied()), "{}", datagram.escape_ascii());
        }
    }

    proptest! {
        #[test]
        fn no_bytes_panic_and_no_line_is_lost(bytes in vec(any::<u8>(), 0..300)) {
            if let Datagram::Lines(lines) = Datagram::parse(&bytes) {
                let kept: usize = lines.map(<[u8]>::len).sum();
                let ends = bytes.iter().filter(|byte| matches!(byte, b'\n' | b'\r')).count();
                prop_assert!(kept + ends >= bytes.len() && kept > 0);
            }
        }
    }
}
