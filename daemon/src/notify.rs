//! Tells the service manager the state of this process by the protocol of `sd_notify(3)`: datagrams of `KEY=value` lines to the
//! socket in `NOTIFY_SOCKET`. Without that variable nothing is sent.
//!
//! The crate sd-notify connects at each message, which fails after a chroot, and takes no abstract socket names: so this is
//! written here.

use std::ffi::OsStr;
use std::io;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::path::Path;
use std::sync::Arc;

use nix::time::{ClockId, clock_gettime};

/// The service manager's socket, connected before any chroot.
#[derive(Clone, Debug, Default)]
pub struct Notify(Option<Arc<UnixDatagram>>);

impl Notify {
    /// Connects to the socket in `NOTIFY_SOCKET`. An unreachable service manager is no error.
    #[must_use]
    pub fn from_env() -> Self {
        let name = std::env::var_os("NOTIFY_SOCKET").filter(|name| !name.is_empty());
        Self(name.and_then(|name| connect(&name).ok()).map(Arc::new))
    }

    /// Reports that all sockets and files are open, at the start or after [`Self::reloading`].
    pub fn ready(&self) {
        self.send("READY=1");
    }

    /// Reports that a new configuration is being read; [`Self::ready`] follows in every case.
    pub fn reloading(&self) {
        let Ok(now) = clock_gettime(ClockId::CLOCK_MONOTONIC) else { return };
        let micros = now.tv_sec() * 1_000_000 + now.tv_nsec() / 1_000;
        self.send(&format!("RELOADING=1\nMONOTONIC_USEC={micros}"));
    }

    /// Reports that the shutdown has begun.
    pub fn stopping(&self) {
        self.send("STOPPING=1");
    }

    fn send(&self, text: &str) {
        if let Some(socket) = &self.0 {
            // The service manager may have closed its socket.
            let _ = socket.send(text.as_bytes());
        }
    }
}

/// Connects to a path, or to an abstract name if `name` begins with `@`.
fn connect(name: &OsStr) -> io::Result<UnixDatagram> {
    let addr = match name.as_bytes() {
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name)?,
        _ => SocketAddr::from_pathname(Path::new(name))?,
    };
    let socket = UnixDatagram::unbound()?;
    socket.set_nonblocking(true)?;
    socket.connect_addr(&addr)?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_manager_is_told_at_a_path_and_at_a_name() {
        let folder = pen_testing::TempFolder::new();
        let path = folder.join("notify");
        let name = format!("@pen-notify-{}", std::process::id());
        let abstract_addr = SocketAddr::from_abstract_name(&name.as_bytes()[1..]).unwrap();
        for (name, manager) in [
            (path.as_os_str(), UnixDatagram::bind(&path).unwrap()),
            (OsStr::new(&name), UnixDatagram::bind_addr(&abstract_addr).unwrap()),
        ] {
            manager.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
            let notify = Notify(connect(name).ok().map(Arc::new));
            notify.ready();
            notify.reloading();
            notify.stopping();
            let mut buf = [0; 100];
            let mut next = || {
                let len = manager.recv(&mut buf).unwrap();
                String::from_utf8(buf[..len].to_vec()).unwrap()
            };
            assert_eq!(next(), "READY=1");
            assert!(next().starts_with("RELOADING=1\nMONOTONIC_USEC="));
            assert_eq!(next(), "STOPPING=1");
        }
        assert!(connect(path.as_os_str()).is_err(), "nobody is there");
    }
}
