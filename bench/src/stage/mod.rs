//! A site on loopback: real web servers, a real balancer before them, visitors whose truth is known.
//!
//! Each part is started by itself and ends when dropped: [`Web`] is nginx or Apache at an address of its
//! own, [`Balancer`] is `pen`, [`Site`] is both, [`Collector`] and [`Shipper`] are the C programs or ours, [`Tee`]
//! lets two collectors hear the same, [`visitors`] sends the requests. What each web server writes for the
//! world is `access.log`; what only we read is `truth.log`: the same line behind the client's own address,
//! which travelled in a header that nobody else looks at.

mod balancer;
mod clock;
mod collector;
mod echo;
mod folder;
mod haproxy;
mod process;
mod site;
mod tee;
mod truth;
pub mod visitors;
mod web;

pub use balancer::{Balancer, Make, Mappings};
pub use clock::shift;
pub use collector::{Collector, Shipper};
pub use folder::{Folder, line_count};
pub use haproxy::Manner as HaproxyManner;
pub use process::{Process, Until, hear_to_end, installed, program, run_to_end, sibling};
pub use site::Site;
pub use tee::{Faults, Share, Tee};
pub use truth::{Band, Mark, Score, Truth, marks, share};
pub use web::{Kind, Output, Spelling, Web, WebPlan};

use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::Failure;

/// How long anything may take to start, to stop or to arrive.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// An address with a port that is free for TCP and UDP, out of the range that the kernel hands out.
///
/// # Errors
/// When none of many is free.
pub fn free_port(ip: impl Into<IpAddr>) -> Result<SocketAddr, Failure> {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let start = || {
        let nanos =
            SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.subsec_nanos());
        u16::try_from(((nanos / 1_000) ^ std::process::id().wrapping_mul(7_919)) % 11_000)
            .unwrap_or(0)
    };
    // Whoever comes first sets the start; it does not matter who.
    let _first = NEXT.compare_exchange(0, 20_001 + start(), Ordering::Relaxed, Ordering::Relaxed);
    let ip = ip.into();
    for _ in 0..2_000 {
        let port = NEXT.fetch_add(1, Ordering::Relaxed);
        if port >= 32_000 {
            NEXT.store(20_001, Ordering::Relaxed);
        }
        let addr = SocketAddr::new(ip, port);
        let everywhere = SocketAddr::from((Ipv4Addr::UNSPECIFIED, port));
        if TcpListener::bind(addr).is_ok() && UdpSocket::bind(everywhere).is_ok() {
            return Ok(addr);
        }
    }
    Err(Failure::new(format!("cannot find a free port on {ip}")))
}
