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
