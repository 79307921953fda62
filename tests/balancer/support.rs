//! A balancer at an address of its own in this process, and sockets with timeouts.

use std::io::{self, BufRead as _, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::num::NonZeroUsize;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::thread::JoinHandle;
use std::time::Duration;

use pen::config::{Endpoint, PenConfig, RuntimeSettings, ServerSettings, TransportKind};
use pen::data::balancer::{Balancer, Bound};
pub(crate) use pen_testing::{PATIENCE, wait_until};

/// A balancer that serves until it is dropped.
pub(crate) struct Site {
    pub(crate) balancer: Option<Balancer>,
    pub(crate) addr: Endpoint,
}

impl Site {
    /// Balances with `settings` on a free port of this machine.
    pub(crate) fn start(settings: RuntimeSettings) -> Self {
        Self::listening(localhost(0), settings)
    }

    /// Balances datagrams.
    pub(crate) fn of_datagrams(endpoint: Endpoint, settings: RuntimeSettings) -> Self {
        Self::of(TransportKind::Udp, endpoint, settings)
    }

    pub(crate) fn listening(endpoint: Endpoint, settings: RuntimeSettings) -> Self {
        Self::of(TransportKind::Stream, endpoint, settings)
    }

    fn of(transport: TransportKind, endpoint: Endpoint, settings: RuntimeSettings) -> Self {
        let (workers, listen) = (NonZeroUsize::new(2).expect("two is not zero"), vec![endpoint]);
        let config = PenConfig { transport, listen, workers, settings, ..PenConfig::default() };
        let bound = Bound::bind(&config).expect("the address is free");
        let addr = bound.endpoints().next().expect("there is one").clone();
        let balancer = bound.start(&config).expect("it starts");
        Self { balancer: Some(balancer), addr }
    }

    pub(crate) fn connect(&self) -> Stream {
        Stream::connect(&self.addr)
    }

    pub(crate) fn balancer(&self) -> &Balancer {
        self.balancer.as_ref().expect("it was not stopped")
    }

    /// Waits until nobody is connected.
    pub(crate) fn wait_until_empty(&self) {
        wait_until("all connections are over", || self.balancer().shared().open() == 0);
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        if let Some(balancer) = self.balancer.take() {
            balancer.stop(Duration::ZERO);
            balancer.join();
        }
    }
}

pub(crate) fn localhost(port: u16) -> Endpoint {
    Endpoint::Ip(SocketAddr::new(Ipv4Addr::LOCALHOST.into(), port))
}

/// Settings with these servers.
pub(crate) fn over(servers: &[&Endpoint]) -> RuntimeSettings {
    let servers = servers.iter().map(|&addr| Some(ServerSettings::new(addr.clone()))).collect();
    RuntimeSettings { servers, ..RuntimeSettings::default() }
}

/// A port where nobody listens. It stays taken, so nobody else will.
pub(crate) fn dead() -> (Endpoint, socket2::Socket) {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None)
        .expect("there are sockets");
    let any: SocketAddr = (Ipv4Addr::LOCALHOST, 0).into();
    socket.bind(&any.into()).expect("a port is free");
    let addr = socket.local_addr().ok().and_then(|addr| addr.as_socket()).expect("it is bound");
    (Endpoint::Ip(addr), socket)
}

/// A path for a socket, in a folder that is removed by the system's cleaning at the latest.
pub(crate) fn socket_path(name: &str) -> Endpoint {
    let path: PathBuf =
        std::env::temp_dir().join(format!("pen-balancer-{}-{name}.sock", std::process::id()));
    Endpoint::Unix(path)
}

/// A connection of either family.
pub(crate) enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Stream {
    pub(crate) fn connect(to: &Endpoint) -> Self {
        let stream = match to {
            Endpoint::Ip(addr) => Self::Tcp(TcpStream::connect(addr).expect("it listens")),
            Endpoint::Unix(path) => Self::Unix(UnixStream::connect(path).expect("it listens")),
        };
        stream.patient()
    }

    fn patient(self) -> Self {
        match &self {
            Self::Tcp(stream) => {
                stream.set_nodelay(true).expect("TCP has that");
                stream.set_read_timeout(Some(PATIENCE)).expect("it is not zero");
                stream.set_write_timeout(Some(PATIENCE)).expect("it is not zero");
            }
            Self::Unix(stream) => {
                stream.set_read_timeout(Some(PATIENCE)).expect("it is not zero");
                stream.set_write_timeout(Some(PATIENCE)).expect("it is not zero");
            }
        }
        self
    }

    pub(crate) fn finish(&self) {
        match self {
            Self::Tcp(stream) => stream.shutdown(Shutdown::Write),
            Self::Unix(stream) => stream.shutdown(Shutdown::Write),
        }
        .expect("it is open");
    }

    pub(crate) fn reset(self) {
        let Self::Tcp(stream) = self else { panic!("only TCP has resets") };
        socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO)).expect("TCP has that");
    }

    pub(crate) fn try_clone(&self) -> Self {
        match self {
            Self::Tcp(stream) => Self::Tcp(stream.try_clone().expect("there are descriptors")),
            Self::Unix(stream) => Self::Unix(stream.try_clone().expect("there are descriptors")),
        }
    }

    /// All until the end.
    pub(crate) fn rest(&mut self) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        self.read_to_end(&mut bytes).map(|_| bytes)
    }

    /// Exactly so many bytes.
    pub(crate) fn bytes(&mut self, count: usize) -> Vec<u8> {
        let mut bytes = vec![0; count];
        self.read_exact(&mut bytes).expect("they come");
        bytes
    }

    /// Whether it ends as one that was cut.
    pub(crate) fn is_cut(&mut self) -> bool {
        self.rest().is_err_and(|error| error.kind() == io::ErrorKind::ConnectionReset)
    }
}

impl Read for Stream {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.read(buf),
            Self::Unix(stream) => stream.read(buf),
        }
    }
}

impl Write for Stream {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.write(buf),
            Self::Unix(stream) => stream.write(buf),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A server's listening socket.
pub(crate) enum Listener {
    Tcp(TcpListener),
    Unix(UnixListener, Endpoint),
}

impl Listener {
    pub(crate) fn tcp() -> Self {
        Self::Tcp(TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port is free"))
    }

    pub(crate) fn unix(name: &str) -> Self {
        let endpoint = socket_path(name);
        let Endpoint::Unix(path) = &endpoint else { unreachable!() };
        let _ = std::fs::remove_file(path); // of an earlier run
        Self::Unix(UnixListener::bind(path).expect("the path is free"), endpoint)
    }

    pub(crate) fn endpoint(&self) -> Endpoint {
        match self {
            Self::Tcp(listener) => Endpoint::Ip(listener.local_addr().expect("it is bound")),
            Self::Unix(_, endpoint) => endpoint.clone(),
        }
    }

    pub(crate) fn accept(&self) -> Stream {
        match self {
            Self::Tcp(listener) => Stream::Tcp(listener.accept().expect("somebody connects").0),
            Self::Unix(listener, _) => {
                Stream::Unix(listener.accept().expect("somebody connects").0)
            }
        }
        .patient()
    }

    /// Answers each of `count` connections with `name`, and ends it when the client does.
    pub(crate) fn say(self, name: &'static str, count: usize) -> JoinHandle<()> {
        std::thread::spawn(move || {
            let threads: Vec<_> = (0..count)
                .map(|_| {
                    let mut stream = self.accept();
                    std::thread::spawn(move || {
                        stream.write_all(name.as_bytes()).expect("it is open");
                        // How the client ends is its own affair.
                        let _ = stream.rest();
                    })
                })
                .collect();
            for thread in threads {
                thread.join().expect("it did not panic");
            }
        })
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        if let Self::Unix(_, Endpoint::Unix(path)) = self {
            let _ = std::fs::remove_file(path); // the test may have removed it
        }
    }
}

/// Bytes in which any shift or loss shows.
pub(crate) fn pattern(count: usize) -> Vec<u8> {
    (0..count).map(|at| (at ^ (at >> 8) ^ (at >> 16)).to_le_bytes()[0]).collect()
}

/// The first line a program says that has `text` in it.
pub(crate) fn first_line(output: impl Read, text: &str) -> String {
    let mut lines = io::BufReader::new(output).lines().map_while(Result::ok);
    lines.find(|line| line.contains(text)).expect("it says so")
}
