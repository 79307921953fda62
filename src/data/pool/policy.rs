//! Policies to choose among usable servers.

use pen_records::addr::ClientAddr;
use std::net::IpAddr;
use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::server::PooledServer;
use crate::config::Endpoint;

/// A usable server, and its slot.
pub(super) type Candidate<'a> = (u32, &'a PooledServer);

/// Round robin: the next slot after `current`.
pub(super) fn in_turn<'a>(
    candidates: impl Iterator<Item = Candidate<'a>>,
    current: u32,
) -> Option<u32> {
    candidates.map(|(slot, _)| slot).min_by_key(|&slot| (slot <= current, slot))
}

/// The lowest priority number, ties to the lowest slot.
pub(super) fn by_priority<'a>(candidates: impl Iterator<Item = Candidate<'a>>) -> Option<u32> {
    candidates.map(|(slot, server)| (server.config.prio, slot)).min().map(|(_, slot)| slot)
}

/// The fewest connections, ties in turn.
pub(super) fn by_connections<'a>(
    candidates: impl Iterator<Item = Candidate<'a>>,
    current: u32,
) -> Option<u32> {
    candidates
        .min_by_key(|&(slot, server)| (server.connections, slot <= current, slot))
        .map(|(slot, _)| slot)
}

/// Returns the servers with the fewest connections for their weight. Weight 0 gets no client.
pub(super) fn by_weight<'a>(candidates: impl Iterator<Item = Candidate<'a>>) -> Vec<u32> {
    let mut best: Option<(u64, u64)> = None;
    let mut tied = Vec::new();
    for (slot, server) in candidates.filter(|(_, server)| server.config.weight > 0) {
        let (load, weight) = (u64::from(server.connections), u64::from(server.config.weight));
        // Compares load / weight with the best one's, without dividing.
        let order =
            best.map(|(best_load, best_weight)| (load * best_weight).cmp(&(best_load * weight)));
        match order {
            Some(std::cmp::Ordering::Greater) => {}
            Some(std::cmp::Ordering::Equal) => tied.push(slot),
            Some(std::cmp::Ordering::Less) | None => {
                best = Some((load, weight));
                tied.clear();
                tied.push(slot);
            }
        }
    }
    tied
}

/// Rendezvous hashing: a client keeps its server, and few clients move when servers come or go. The
/// score of a server depends on the server and the client alone, and the highest score wins.
pub(super) fn by_hash<'a>(
    candidates: impl Iterator<Item = Candidate<'a>>,
    client: ClientAddr,
    port: Option<u16>,
    key: u64,
) -> Option<u32> {
    let mut buf = Vec::with_capacity(64);
    match client {
        ClientAddr::Ip(IpAddr::V4(ip)) => buf.extend_from_slice(&ip.octets()),
        ClientAddr::Ip(IpAddr::V6(ip)) => buf.extend_from_slice(&ip.octets()),
        ClientAddr::Unix => {}
    }
    buf.extend_from_slice(&port.unwrap_or(0).to_be_bytes());
    let client_len = buf.len();
    candidates
        .map(|(slot, server)| {
            buf.truncate(client_len);
            write_server(&server.addr, &mut buf);
            (xxh3_64_with_seed(&buf, key), slot)
        })
        .max()
        .map(|(_, slot)| slot)
}

/// Appends the address, not the number: two balancers agree whatever order they list servers in.
fn write_server(addr: &Endpoint, out: &mut Vec<u8>) {
    match addr {
        Endpoint::Ip(addr) => {
            match addr.ip() {
                IpAddr::V4(ip) => out.extend_from_slice(&ip.octets()),
                IpAddr::V6(ip) => out.extend_from_slice(&ip.octets()),
            }
            out.extend_from_slice(&addr.port().to_be_bytes());
        }
        Endpoint::Unix(path) => out.extend_from_slice(path.as_os_str().as_encoded_bytes()),
    }
}
