//! Connections that a Linux kernel forwards, as `conntrack -E -e NEW -o timestamp` prints them
//! (conntrack(8)).
//!
//! ```text
//! [1795984534.123456] [NEW] tcp 6 120 SYN_SENT src=192.0.2.1 dst=198.51.100.1 sport=4711 dport=80 [UNREPLIED]
//!     src=10.0.0.1 dst=10.0.0.9 sport=8080 dport=40100
//! ```
//!
//! The first four values are of the packets from the client, the other four of the packets from the server: their
//! source is the server, their destination the address and port that the server sees.

use std::net::SocketAddr;

use super::record::whole_number;
use super::{LineContent, ThirdPartyRecord};
use crate::access::{Expected, LineError};
use crate::addr::parse_ip;
use crate::time::{Resolution, Timestamp};

/// Reads a line. Changes and ends of connections are of no use: a port that is used again has an open of its own.
pub(super) fn read(line: &[u8]) -> Result<LineContent, LineError> {
    let mut directions = [Direction::default(); 2];
    let mut stamp = None;
    let mut is_tcp = false;
    for (index, word) in line.split(u8::is_ascii_whitespace).filter(|it| !it.is_empty()).enumerate()
    {
        match word {
            b"[DESTROY]" | b"[UPDATE]" => return Ok(LineContent::Nothing),
            b"tcp" => is_tcp = true,
            _ if index == 0 => stamp = seconds(word),
            _ => {
                let first = usize::from(directions[0].is_whole());
                directions[first].take(word);
            }
        }
    }
    let [Some((client, _)), Some((server, own))] = directions.map(Direction::ends) else {
        return Err(LineError { at: 0, expected: Expected::Client });
    };
    if !is_tcp {
        return Ok(LineContent::Nothing);
    }
    let record = ThirdPartyRecord::opened((client, server), own, stamp, false);
    Ok(LineContent::Record(Box::new(record)))
}

/// Reads `[1795984534.123456]`.
fn seconds(word: &[u8]) -> Option<(Timestamp, Resolution)> {
    let inner = word.strip_prefix(b"[")?.strip_suffix(b"]")?;
    let (whole, fraction) = inner.split_at_checked(inner.len().checked_sub(7)?)?;
    let micros = whole_number(fraction.strip_prefix(b".")?)?;
    let micros = whole_number(whole)?.checked_mul(1_000_000)?.checked_add(micros)?;
    let time = Timestamp::from_micros(i64::try_from(micros).ok()?);
    Some((time, Resolution::Microsecond))
}

/// Addresses and ports of the packets of one direction.
#[derive(Clone, Copy, Debug, Default)]
struct Direction {
    src: Option<std::net::IpAddr>,
    dst: Option<std::net::IpAddr>,
    sport: Option<u16>,
    dport: Option<u16>,
}

impl Direction {
    fn take(&mut self, word: &[u8]) {
        let Some(equals) = memchr::memchr(b'=', word) else { return };
        let value = &word[equals + 1..];
        let port = || whole_number(value).and_then(|port| u16::try_from(port).ok());
        match &word[..equals] {
            b"src" => self.src = parse_ip(value),
            b"dst" => self.dst = parse_ip(value),
            b"sport" => self.sport = port(),
            b"dport" => self.dport = port(),
            _ => {}
        }
    }

    fn is_whole(&self) -> bool {
        self.ends().is_some()
    }

    fn ends(self) -> Option<(SocketAddr, SocketAddr)> {
        let from = SocketAddr::new(self.src?, self.sport?);
        Some((from, SocketAddr::new(self.dst?, self.dport?)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_new_connections_over_tcp_are_records() {
        let of = |line: &str| match read(line.as_bytes()) {
            Ok(LineContent::Record(record)) => {
                Some(format!("{} {:?}", record.client, record.balancer))
            }
            Ok(_) => None,
            Err(error) => Some(error.to_string()),
        };
        let ends = "src=192.0.2.1 dst=198.51.100.1 sport=4711 dport=80 [UNREPLIED] src=10.0.0.1 dst=10.0.0.9 sport=8080 dport=40100";
        let own = Some("192.0.2.1 Some(10.0.0.9:40100)".to_owned());
        assert_eq!(
            of(&format!("[1795984534.123456]\t    [NEW] tcp      6 120 SYN_SENT {ends}")),
            own
        );
        assert_eq!(of(&format!("    [NEW] tcp      6 120 SYN_SENT {ends}")), own);
        assert_eq!(of(&format!("[1795984534.123456] [DESTROY] tcp 6 {ends}")), None);
        assert_eq!(of(&format!("[1795984534.123456] [NEW] udp 17 30 {ends}")), None);
        let half = "[NEW] tcp 6 120 SYN_SENT src=192.0.2.1 dst=198.51.100.1 sport=4711 dport=80";
        assert_eq!(of(half), Some("expected a client at byte 0".to_owned()));
    }
}
