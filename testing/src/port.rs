//! Ports nobody uses.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

/// Returns an address with a port that is free for TCP and UDP, outside the range from which the kernel chooses ports
/// itself. No port is returned twice in one process before all others were.
///
/// # Panics
/// If none of 2,000 ports is free.
#[must_use]
pub fn free_port(ip: impl Into<IpAddr>) -> SocketAddr {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let start = || {
        let nanos =
            SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.subsec_nanos());
        u16::try_from(((nanos / 1_000) ^ std::process::id().wrapping_mul(7_919)) % 11_000)
            .expect("the remainder is below 11,000")
    };
    // The first caller sets the start; an error says that another thread was faster.
    let _ = NEXT.compare_exchange(0, 20_001 + start(), Ordering::Relaxed, Ordering::Relaxed);
    let ip = ip.into();
    for _ in 0..2_000 {
        let port = NEXT.fetch_add(1, Ordering::Relaxed);
        if port >= 32_000 {
            NEXT.store(20_001, Ordering::Relaxed);
        }
        let addr = SocketAddr::new(ip, port);
        let everywhere = SocketAddr::from((Ipv4Addr::UNSPECIFIED, port));
        if TcpListener::bind(addr).is_ok() && UdpSocket::bind(everywhere).is_ok() {
            return addr;
        }
    }
    panic!("none of 2,000 ports on {ip} is free")
}

/// Returns whether a program in this thread's network has bound a UDP port. To bind it as a trial would keep it from the
/// program that is waited for.
#[must_use]
pub fn is_udp_port_used(port: u16) -> bool {
    let is_it = |line: &str| {
        let local = line.split_ascii_whitespace().nth(1)?;
        let (_, hex) = local.rsplit_once(':')?;
        Some(u16::from_str_radix(hex, 16) == Ok(port))
    };
    ["udp", "udp6"].iter().any(|table| {
        let text = std::fs::read_to_string(format!("/proc/thread-self/net/{table}"));
        text.is_ok_and(|text| text.lines().any(|line| is_it(line) == Some(true)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_used_udp_port_is_seen_and_a_free_one_is_not() {
        let socket = UdpSocket::bind("127.0.0.1:0").expect("loopback");
        let port = socket.local_addr().expect("bound").port();
        assert!(is_udp_port_used(port));
        drop(socket);
        assert!(!is_udp_port_used(port));
    }
}
