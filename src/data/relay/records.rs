//! Mapping records of connections and flows.

use std::net::SocketAddr;
use std::os::unix::ffi::OsStrExt as _;

use pen_records::addr::{ClientAddr, ServerAddr};
use pen_records::mapping::{Mapping, MappingKind};
use pen_records::time::Resolution;

use crate::config::Endpoint;
use crate::data::pool::Caller;
use crate::logs::mapping_log::wall_clock;

/// Returns a record with the fields that every record has: client, server, pen's own address towards the
/// server (`local`), the time, and the connection's number.
pub(super) fn mapping<'a>(
    kind: MappingKind,
    number: u64,
    caller: &Caller,
    addr: &'a Endpoint,
    local: Option<SocketAddr>,
) -> Mapping<'a> {
    let (addr, port) = match addr {
        Endpoint::Ip(addr) => (ServerAddr::from(addr.ip()), Some(addr.port())),
        Endpoint::Unix(path) => (ServerAddr::Unix(path.as_os_str().as_bytes()), None),
    };
    Mapping {
        kind,
        client_port: (caller.addr != ClientAddr::Unix).then_some(caller.port),
        server_port: port,
        balancer: local,
        time: Some((wall_clock(), Resolution::Microsecond)),
        connection: Some(number),
        ..Mapping::new(caller.addr, addr)
    }
}
