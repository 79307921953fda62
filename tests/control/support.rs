//! A balancer that stands still, and somebody who talks to it.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::{Duration, UNIX_EPOCH};

use pen::config::PoolServerId;
use pen::config::{Endpoint, PenConfig, RuntimeSettings, ServerSettings};
use pen::data::snapshot::{
    BalancerCounters, ClientSnapshot, ConnectionFilter, ConnectionSnapshot, ConnectionStatus,
    LimitedCount, ServerSnapshot, ServerStatus, Snapshot, SnapshotDetail,
};
use pen::operate::control::port::{ControlPort, SocketFileGuard};
use pen::operate::control::{DataPlane, Operator, SystemEnv};
use pen_records::addr::ClientAddr;
use pen_testing::{ProgramOutput, TempFolder};

/// Notes what it is told, and shows the settings it has.
#[derive(Clone, Default)]
pub(crate) struct Still(pub(crate) Arc<Mutex<Noted>>);

#[derive(Default)]
pub(crate) struct Noted {
    pub(crate) settings: RuntimeSettings,
    pub(crate) deeds: Vec<String>,
}

impl Still {
    pub(crate) fn deeds(&self) -> Vec<String> {
        self.0.lock().expect("nobody panicked").deeds.clone()
    }

    fn note(&self, action: String) {
        self.0.lock().expect("nobody panicked").deeds.push(action);
    }
}

impl DataPlane for Still {
    fn snapshot(&self, detail: SnapshotDetail) -> Snapshot {
        let settings = self.0.lock().expect("nobody panicked").settings.clone();
        let servers = (0..).zip(&settings.servers).filter_map(|(slot, config)| {
            Some(ServerSnapshot {
                id: PoolServerId::Slot(slot),
                config: config.clone()?,
                state: ServerStatus::Up,
                connections: 2,
                served: 7,
                failures: 1,
                last_failure: None,
                check: None,
                to_server: 100,
                to_client: 2_000,
            })
        });
        let client = ClientSnapshot {
            addr: ClientAddr::parse(b"203.0.113.7").expect("an address"),
            age: Duration::from_secs(5),
            server: Some(PoolServerId::Slot(0)),
            connects: 3,
            sent: 2_000,
            received: 100,
        };
        let connection = ConnectionSnapshot {
            number: 42,
            client: "203.0.113.7:5555".to_owned(),
            client_fd: 9,
            server: Some(PoolServerId::Slot(0)),
            server_fd: Some(10),
            stage: ConnectionStatus::Open,
            age: Duration::from_secs(5),
            to_server: 100,
            to_client: 2_000,
        };
        Snapshot {
            time: UNIX_EPOCH + Duration::from_secs(1_795_379_000),
            uptime: Duration::from_secs(60),
            listen: vec!["127.0.0.1:80".to_owned()],
            servers: servers.collect(),
            current: 0,
            clients_known: LimitedCount { now: 1, most: Some(2_048) },
            clients: vec![client; detail.clients.min(1)],
            connections_open: LimitedCount { now: 1, most: None },
            connections: vec![
                connection;
                usize::from(detail.connections != ConnectionFilter::First(0))
            ],
            counts: BalancerCounters { accepted: 7, ..BalancerCounters::default() },
            mapping_log: None,
            access_log: None,
            tls: None,
        }
    }

    fn change(&self, settings: &RuntimeSettings) -> Result<(), String> {
        if settings.tcp.transparent {
            return Err("transparent: this one can't".to_owned());
        }
        self.0.lock().expect("nobody panicked").settings = settings.clone();
        Ok(())
    }

    fn blacklist(&self, server: PoolServerId, time: Duration) {
        self.note(format!("blacklist {server:?} {time:?}"));
    }

    fn end_connections_of(&self, server: PoolServerId, time: Duration) {
        self.note(format!("end {server:?} {time:?}"));
    }

    fn close(&self, number: u64) -> bool {
        self.note(format!("close {number}"));
        number == 42
    }

    fn set_debug(&self, level: u8) {
        self.note(format!("debug {level}"));
    }

    fn stop(&self) {
        self.note("stop".to_owned());
    }
}

/// An operator of two servers.
pub(crate) fn operator(still: &Still, folder: &TempFolder) -> Arc<Operator> {
    let server =
        |addr: &str| Some(ServerSettings::new(Endpoint::Ip(addr.parse().expect("an address"))));
    let settings = RuntimeSettings {
        servers: vec![server("10.0.0.1:8080"), server("10.0.0.2:8080")],
        ..RuntimeSettings::default()
    };
    still.0.lock().expect("nobody panicked").settings = settings.clone();
    let listen = vec![Endpoint::Ip("127.0.0.1:80".parse().expect("an address"))];
    let config = PenConfig { listen, settings, ..PenConfig::default() };
    let here = SystemEnv { folder: folder.path().to_owned(), jail: None };
    Arc::new(Operator::new(config, Box::new(still.clone()), Box::new(here)))
}

/// A control port, its address, and who stands behind it.
pub(crate) struct Control {
    pub(crate) address: String,
    pub(crate) still: Still,
    pub(crate) folder: TempFolder,
    pub(crate) unlink: SocketFileGuard,
}

impl Control {
    pub(crate) fn tcp() -> Self {
        Self::at(|_| Endpoint::Ip("127.0.0.1:0".parse().expect("an address")))
    }

    pub(crate) fn unix() -> Self {
        Self::at(|folder| Endpoint::Unix(folder.join("control")))
    }

    fn at(endpoint: impl FnOnce(&TempFolder) -> Endpoint) -> Self {
        let (still, folder) = (Still::default(), TempFolder::new());
        let port = ControlPort::bind(&endpoint(&folder)).expect("it can be bound");
        let address = port.addr();
        let unlink = port.serve(operator(&still, &folder)).expect("there are threads");
        Self { address, still, folder, unlink }
    }

    /// One command, as C penctl sends it: a line, and then listening to the end.
    pub(crate) fn ask(&self, command: &str) -> String {
        let mut stream = self.connect();
        stream.write_all(format!("{command}\n").as_bytes()).expect("it listens");
        read_to_end(&mut stream)
    }

    pub(crate) fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(&self.address).expect("it listens");
        stream.set_read_timeout(Some(Duration::from_secs(30))).expect("a socket has timeouts");
        stream
    }
}

pub(crate) fn read_to_end(stream: &mut TcpStream) -> String {
    let mut reply = String::new();
    stream.read_to_string(&mut reply).expect("it answers and closes");
    reply
}

/// What `penctl` says.
pub(crate) fn penctl(args: &[&str]) -> ProgramOutput {
    ProgramOutput::of(Command::new(env!("CARGO_BIN_EXE_penctl")).args(args))
}
