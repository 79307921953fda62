//! Connections of nginx's stream module, from the `info` messages of its error log.
//!
//! ```text
//! 2026/11/29 15:18:30 [info] 71#71: *25 client 192.0.2.1:4711 connected to 0.0.0.0:443
//! 2026/11/29 15:18:30 [info] 71#71: *25 proxy 10.0.0.9:40100 connected to 10.0.0.1:443
//! ```
//!
//! The access log of the module cannot hold the port towards the server; these messages do. The number behind
//! the star connects the two.

use std::collections::HashMap;
use std::net::SocketAddr;

use super::{LineContent, ThirdPartyRecord};
use crate::access::third_party_log::nginx_error_time;
use crate::access::{Expected, LineError, TimestampParser};

/// Clients remembered in each of two generations.
const REMEMBERED: usize = 1 << 15;

/// Clients whose server is not known yet.
#[derive(Clone, Debug, Default)]
pub(super) struct OpenClients {
    /// By process and number of the connection.
    young: HashMap<Box<[u8]>, SocketAddr>,
    old: HashMap<Box<[u8]>, SocketAddr>,
}

impl OpenClients {
    /// Reads a line.
    pub(super) fn read(
        &mut self,
        line: &[u8],
        clock: &mut TimestampParser,
    ) -> Result<LineContent, LineError> {
        let not_its = LineError { at: 0, expected: Expected::Time };
        let (stamp, at) = nginx_error_time(line, clock).ok_or(not_its)?;
        let Some((key, message)) = split(&line[at..]) else { return Ok(LineContent::Nothing) };
        if let Some(client) = message.strip_prefix(b"client ").and_then(first_addr) {
            if self.young.len() >= REMEMBERED {
                self.old = std::mem::take(&mut self.young);
            }
            self.young.insert(key.into(), client);
            return Ok(LineContent::Nothing);
        }
        let proxy = message.strip_prefix(b"proxy ");
        let Some((own, server)) = proxy.and_then(both_addrs) else {
            return Ok(LineContent::Nothing);
        };
        let Some(&client) = self.young.get(key).or_else(|| self.old.get(key)) else {
            return Ok(LineContent::Nothing);
        };
        let record = ThirdPartyRecord::opened((client, server), own, Some(stamp), true);
        Ok(LineContent::Record(Box::new(record)))
    }
}

/// Splits ` [info] 71#71: *25 client …` into `71#71: *25` and the message.
fn split(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let level = memchr::memmem::find(text, b"] ")? + 2;
    let star = level + memchr::memmem::find(&text[level..], b": *")? + 3;
    let end = star + text[star..].iter().position(|byte| !byte.is_ascii_digit())?;
    Some((&text[level..end], text.get(end + 1..)?))
}

/// Reads the address in front of ` connected to `.
fn first_addr(text: &[u8]) -> Option<SocketAddr> {
    let end = memchr::memmem::find(text, b" connected to ")?;
    std::str::from_utf8(&text[..end]).ok()?.parse().ok()
}

/// Reads the addresses on both sides of ` connected to `.
fn both_addrs(text: &[u8]) -> Option<(SocketAddr, SocketAddr)> {
    let own = first_addr(text)?;
    let behind = memchr::memmem::find(text, b" connected to ")? + 14;
    let server = text[behind..].split(|&byte| byte == b',' || byte == b' ').next()?;
    Some((own, std::str::from_utf8(server).ok()?.parse().ok()?))
}
