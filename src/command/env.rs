//! What a command needs beyond the configuration: name lookups, databases and paths.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use crate::config::address::{Host, ListenAddr, MAX_UNIX_PATH, ServerArg};
use crate::config::countries::CountryDatabase;
use crate::config::{Endpoint, PenConfig, ServerSettings};

/// The environment of a command.
pub trait CommandEnv {
    /// Looks up a host name.
    ///
    /// # Errors
    /// The name has no address.
    fn resolve(&self, name: &str, port: u16) -> Result<SocketAddr, String>;

    /// Reads a country database.
    ///
    /// # Errors
    /// The file cannot be read, or is not a database.
    fn countries(&self, path: &Path) -> io::Result<CountryDatabase>;

    /// Returns the absolute form of a path that pen opens before the chroot.
    fn absolute(&self, path: &Path) -> PathBuf;

    /// Returns the absolute form of a path that pen opens after the chroot.
    fn inside(&self, path: &Path) -> PathBuf {
        self.absolute(path)
    }
}

/// A command that could not be carried out. The configuration may be half changed: change a copy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ApplyError {
    /// The setting of this verb needs a restart.
    Running(String),
    /// There is no server with this number.
    NoServer(usize),
    /// No server has this address.
    NoServerAt(String),
    /// Several servers have this address.
    ServersAt(String),
    /// The server with this number has no address yet.
    NoAddress(usize),
    /// Neither this server nor pen has a port.
    NoPort(String),
    /// The verb or server whose name cannot be looked up, and the reason.
    Unresolved(String, String),
    /// A verb that is not supported, and the reason.
    Absent(&'static str, &'static str),
    /// A country database that cannot be read, and the reason.
    Countries(PathBuf, String),
    /// `exit` without `-X`.
    Exit,
    /// `write` without a file name, and there is no file of `-F`.
    NoFile,
    /// The list with this number has no such rule.
    NoRule(u8),
    /// A socket path that is too long once it is absolute.
    LongPath(PathBuf),
}

impl fmt::Display for ApplyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Running(verb) => {
                write!(f, "{verb}: can't be changed while running: restart pen with it")
            }
            Self::Countries(path, why) => {
                write!(f, "geoip: cannot read {}: {why}", path.display())
            }
            Self::NoServer(number) => write!(f, "server {number}: there is no such server"),
            Self::NoServerAt(text) => {
                write!(f, "server {text}: there is no such server, see 'servers'")
            }
            Self::ServersAt(text) => {
                write!(
                    f,
                    "server {text}: several servers have this address: say the port or the number, see 'servers'"
                )
            }
            Self::NoAddress(number) => {
                write!(
                    f,
                    "server {number}: expected an address first: server {number} address ADDR"
                )
            }
            Self::NoPort(what) => {
                write!(f, "{what}: expected a port, since pen does not listen at one")
            }
            Self::Unresolved(what, why) => write!(f, "{what}: {why}"),
            Self::Absent(verb, why) => write!(f, "{verb}: {why}"),
            // The words of C pen.
            Self::Exit => f.write_str("Exit is not enabled; restart with -X flag"),
            Self::NoFile => f.write_str("write: expected the name of a file: there was no -F"),
            Self::NoRule(list) => write!(f, "acl {list}: there is no such rule"),
            Self::LongPath(path) => {
                let path = path.display();
                write!(f, "{path}: expected an absolute path of at most {MAX_UNIX_PATH} bytes")
            }
        }
    }
}

impl std::error::Error for ApplyError {}

/// Looks up a host name for `what`.
pub(super) fn resolve(
    what: &str,
    name: &str,
    port: u16,
    env: &dyn CommandEnv,
) -> Result<SocketAddr, ApplyError> {
    env.resolve(name, port).map_err(|why| ApplyError::Unresolved(what.to_owned(), why))
}

/// Returns the endpoint of a Unix-domain socket, whose path must still fit now that it is absolute.
pub(super) fn unix_endpoint(path: PathBuf) -> Result<Endpoint, ApplyError> {
    if path.as_os_str().len() > MAX_UNIX_PATH {
        return Err(ApplyError::LongPath(path));
    }
    Ok(Endpoint::Unix(path))
}

/// Returns the endpoint of an address to listen on.
pub(super) fn endpoint(addr: &ListenAddr, env: &dyn CommandEnv) -> Result<Endpoint, ApplyError> {
    Ok(match addr {
        ListenAddr::Unix(path) => unix_endpoint(env.absolute(path))?,
        ListenAddr::Port(Host::Ip(ip), port) => Endpoint::Ip(SocketAddr::new(*ip, *port)),
        ListenAddr::Port(host, port) => {
            Endpoint::Ip(resolve("listen", &host.to_string(), *port, env)?)
        }
    })
}

/// Returns the endpoint of a server, and the host name if there is one. A server without a port has the first port
/// that pen listens on.
pub(super) fn server_addr(
    what: &str,
    host: &Host,
    port: Option<u16>,
    config: &PenConfig,
    env: &dyn CommandEnv,
) -> Result<(Endpoint, Option<String>), ApplyError> {
    let port = || {
        let port = port.filter(|&port| port != 0).or_else(|| listen_port(config));
        port.ok_or_else(|| ApplyError::NoPort(what.to_owned()))
    };
    Ok(match host {
        Host::Unix(path) => (unix_endpoint(env.inside(path))?, None),
        Host::Ip(ip) => (Endpoint::Ip(SocketAddr::new(*ip, port()?)), None),
        Host::Name(name) => (Endpoint::Ip(resolve(what, name, port()?, env)?), Some(name.clone())),
    })
}

fn listen_port(config: &PenConfig) -> Option<u16> {
    config.listen.iter().find_map(|listen| match listen {
        Endpoint::Ip(addr) if addr.port() != 0 => Some(addr.port()),
        _ => None,
    })
}

/// Returns the server that an argument describes.
pub(super) fn server_settings(
    what: &str,
    arg: &ServerArg,
    config: &PenConfig,
    env: &dyn CommandEnv,
) -> Result<ServerSettings, ApplyError> {
    let (addr, name) = server_addr(what, &arg.host, arg.port, config, env)?;
    let ServerArg { soft, hard, weight, prio, .. } = *arg;
    Ok(ServerSettings { name, soft, hard, weight, prio, ..ServerSettings::new(addr) })
}
