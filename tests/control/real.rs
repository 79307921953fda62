//! The control port in front of a balancer that really serves.

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use pen::config::{Endpoint, PenConfig, RuntimeSettings, ServerSettings};
use pen::data::balancer::{Balancer, Bound};
use pen::operate::control::{Operator, SystemEnv};
use pen::operate::name_resolver;
use pen::operate::running::RunningBalancer;
use pen_testing::{PATIENCE, TempFolder, wait_until};

/// Two servers that send back what they get, a balancer before them, and an operator.
struct Site {
    balancer: Option<Balancer>,
    addr: SocketAddr,
    servers: [SocketAddr; 2],
    operator: Arc<Operator>,
    stopped: Arc<AtomicUsize>,
    folder: TempFolder,
}

impl Drop for Site {
    fn drop(&mut self) {
        if let Some(balancer) = self.balancer.take() {
            balancer.stop(Duration::ZERO);
            balancer.join();
        }
    }
}

#[expect(clippy::unwrap_used, reason = "it is part of a test")]
fn echo() -> SocketAddr {
    echo_at("127.0.0.1:0".parse().unwrap())
}

#[expect(clippy::unwrap_used, reason = "it is part of a test")]
fn echo_at(addr: SocketAddr) -> SocketAddr {
    let listener = TcpListener::bind(addr).unwrap();
    let addr = listener.local_addr().unwrap();
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            thread::spawn(move || {
                let (mut from, mut to) = (stream.try_clone().unwrap(), stream);
                std::io::copy(&mut from, &mut to).map(drop).unwrap_or_default();
            });
        }
    });
    addr
}

#[expect(clippy::unwrap_used, reason = "it is part of a test")]
fn site() -> Site {
    let servers = [echo(), echo()];
    let server = |addr| Some(ServerSettings::new(Endpoint::Ip(addr)));
    let settings =
        RuntimeSettings { servers: servers.map(server).to_vec(), ..RuntimeSettings::default() };
    let listen = vec![Endpoint::Ip("127.0.0.1:0".parse().unwrap())];
    let config = PenConfig { listen, settings, ..PenConfig::default() };
    let bound = Bound::bind(&config).unwrap();
    let Some(Endpoint::Ip(addr)) = bound.endpoints().next().cloned() else { unreachable!() };
    let balancer = bound.start(&config).unwrap();
    let (folder, stopped) = (TempFolder::new(), Arc::new(AtomicUsize::new(0)));
    let stop = Arc::clone(&stopped);
    let running = RunningBalancer::new(
        Arc::clone(balancer.shared()),
        vec![addr.to_string()],
        balancer.logs(),
        Box::new(move || {
            stop.fetch_add(1, Ordering::Relaxed);
        }),
    );
    let here = SystemEnv { folder: folder.path().to_owned(), jail: None };
    let operator = Arc::new(Operator::new(config, Box::new(running), Box::new(here)));
    Site { balancer: Some(balancer), addr, servers, operator, stopped, folder }
}

impl Site {
    fn ask(&self, command: &str) -> String {
        self.operator.execute(command.as_bytes()).to_string()
    }

    /// A connection over which bytes have gone to and fro.
    #[expect(clippy::unwrap_used, reason = "it is part of a test")]
    fn talk(&self, bytes: &[u8]) -> TcpStream {
        let mut stream = TcpStream::connect(self.addr).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.write_all(bytes).unwrap();
        let mut back = vec![0; bytes.len()];
        stream.read_exact(&mut back).unwrap();
        assert_eq!(back, bytes);
        stream
    }

    fn wait_for(&self, command: &str, is_so: impl Fn(&str) -> bool) {
        wait_until(format_args!("{command} says so"), || is_so(&self.ask(command)));
    }
}

fn is_cut(stream: &mut TcpStream) -> bool {
    stream.read(&mut [0]).map_or(true, |len| len == 0)
}

#[test]
fn counts_are_there_while_connections_are_open() {
    let site = site();
    let one = site.talk(b"hello");
    let [zero, first] = site.servers.map(|addr| addr.port());
    // The first client of all goes to number 1, as with C pen.
    let servers = format!(
        "0 addr 127.0.0.1 port {zero} conn 0 max 0 hard 0 weight 1 prio 0 sx 0 rx 0\n\
         1 addr 127.0.0.1 port {first} conn 1 max 0 hard 0 weight 1 prio 0 sx 5 rx 5\n"
    );
    assert_eq!(site.ask("servers"), servers);
    assert_eq!(site.ask("recent"), "127.0.0.1 connects 1 sx 0 rx 0\n");
    let client = one.local_addr().unwrap();
    let connections = site.ask("connections");
    let mut words = connections.split_whitespace();
    let number = words.next().unwrap().to_owned();
    let rest = words.take(6).collect::<Vec<_>>().join(" ");
    assert_eq!(rest, format!("client {client} server 1 state open"));
    let block = site.ask(&format!("connection {number}"));
    assert!(
        block.starts_with(&format!("Connection {number}:\nstate = open\ndownfd = ")),
        "{block}"
    );
    assert_eq!(block.lines().count(), 5, "{block}");
    let fd = block.split(&['=', ','][..]).nth(2).unwrap().trim().to_owned();
    assert_eq!(
        site.ask(&format!("socket {fd}")),
        format!("Socket {fd} belongs to connection {number}\n")
    );
    drop(one);
    site.wait_for("recent", |reply| reply == "127.0.0.1 connects 1 sx 5 rx 5\n");
    site.wait_for("connections", str::is_empty);
    let json = site.ask("status json");
    assert!(json.contains("\"accepted\":1,"), "{json}");
}

#[test]
fn a_connection_is_closed_by_its_number() {
    let site = site();
    let mut stream = site.talk(b"x");
    let number = site.ask("connections").split(' ').next().unwrap().to_owned();
    assert_eq!(site.ask("close 999999"), "error: Connection 999999 out of range\n");
    let reply = site.ask(&format!("close {number}"));
    assert_eq!(reply, format!("Forcibly closing connection {number}\n"));
    assert!(is_cut(&mut stream));
    assert!(site.ask("servers").lines().all(|line| line.contains(" conn 0 ")));
}

#[test]
fn a_server_is_left_alone_and_drained() {
    let site = site();
    let mut stream = site.talk(b"x");
    assert_eq!(site.ask("server 1 blacklist 60"), "");
    let states = site.ask("states");
    assert!(states.contains("1 state blacklisted for "), "{states}");
    drop(site.talk(b"x"));
    site.wait_for("states", |reply| reply.starts_with("0 state up for 0 served 1 "));
    site.ask("server 1 blacklist 0");
    // Drained, it keeps the connection it has until the time is over.
    assert_eq!(site.ask("drain 1"), "");
    assert!(site.ask("states").contains("1 state draining "));
    stream.write_all(b"y").unwrap();
    stream.read_exact(&mut [0]).unwrap();
    assert_eq!(site.ask("drain 1 10ms"), "");
    assert!(is_cut(&mut stream));
}

#[test]
fn a_server_that_is_wanted_again_keeps_its_connections() {
    let site = site();
    let mut stream = site.talk(b"x");
    site.ask("drain 1 1");
    let mut other = site.talk(b"x");
    site.ask("server 1 blacklist 0");
    // Its deadline comes behind the first one's.
    site.ask("drain 0 1500ms");
    assert!(is_cut(&mut other));
    stream.write_all(b"y").unwrap();
    stream.read_exact(&mut [0]).unwrap();
}

#[test]
fn servers_are_checked_when_that_is_asked_for() {
    let site = site();
    assert_eq!(site.ask("check"), "");
    assert_eq!(site.ask("check_interval 20ms"), "");
    assert_eq!(site.ask("check send hello expect hello"), "");
    assert_eq!(site.ask("check"), "send hello expect hello\n");
    let is_well = |reply: &str| reply.lines().all(|line| line.ends_with(" check ok"));
    site.wait_for("states", is_well);
    assert_eq!(site.ask("check_fall 1"), "");
    assert_eq!(site.ask("check http /health 200"), "");
    // Who says what it was told is no HTTP server.
    let is_down = |reply: &str| reply.lines().all(|line| line.contains(" state down "));
    site.wait_for("states", is_down);
    assert!(site.ask("states").lines().all(|line| line.ends_with(" check failed")));
    assert!(site.ask("status json").contains("\"wrong\":\"the answer is not HTTP\""));
    // Both are, so both are tried.
    drop(site.talk(b"x"));
    assert_eq!(site.ask("no check"), "");
    let states = site.ask("states");
    assert!(states.lines().all(|line| line.contains(" state up ")), "{states}");
}

/// A name server whose answer for any name can be set.
#[derive(Clone, Default)]
struct Names(Arc<Mutex<Vec<IpAddr>>>);

impl Names {
    fn set(&self, last: &[u8]) {
        *self.0.lock().expect("nobody panicked") =
            last.iter().map(|&last| IpAddr::from([127, 0, 0, last])).collect();
    }

    fn lookup(&self) -> name_resolver::Lookup {
        let names = self.clone();
        Box::new(move |name| {
            let known = names.0.lock().expect("nobody panicked").clone();
            // Whoever is asked for more than what is configured has misunderstood something.
            if name == "localhost" && !known.is_empty() {
                Ok(known)
            } else {
                Err(std::io::Error::other("nobody knows"))
            }
        })
    }
}

#[test]
fn new_addresses_of_a_name_join_and_old_ones_keep_what_connections_they_have() {
    let (site, names) = (site(), Names::default());
    let one = site.servers[0];
    let two = echo_at(SocketAddr::from(([127, 0, 0, 2], one.port())));
    name_resolver::start(&site.operator, names.lookup()).unwrap();
    assert_eq!(site.ask("remove 1"), "");
    assert_eq!(site.ask(&format!("server 0 address localhost port {} weight 3", one.port())), "");
    assert_eq!(site.ask("roundrobin"), "");
    names.set(&[1, 2]);
    assert_eq!(site.ask("resolve_interval 10ms"), "");
    let line = |number: usize, addr: SocketAddr| {
        format!("{number} addr {} port {} conn ", addr.ip(), addr.port())
    };
    let is_there = |reply: &str| reply.contains(&line(0, one)) && reply.contains(&line(1, two));
    site.wait_for("servers", is_there);
    assert!(site.ask("servers").lines().all(|line| line.contains(" weight 3 ")));
    let mut streams = [site.talk(b"x"), site.talk(b"x")];
    // A file holds what was said and no more, and what is read from one is no reason to forget.
    assert_eq!(site.ask("write saved"), "");
    let saved = std::fs::read_to_string(site.folder.join("saved")).unwrap();
    assert_eq!(saved.lines().filter(|line| line.starts_with("server ")).count(), 1, "{saved}");
    let mut config = site.operator.config();
    config.settings.servers.truncate(1);
    assert_eq!(site.operator.reload(config).unwrap().to_string(), "nothing changed");
    assert!(is_there(&site.ask("servers")));
    // One is gone: it gets nobody, and the connection that it has goes on.
    names.set(&[1]);
    site.wait_for("states", |reply| reply.contains("1 state draining "));
    for stream in &mut streams {
        stream.write_all(b"y").unwrap();
        stream.read_exact(&mut [0]).unwrap();
    }
    drop(site.talk(b"z"));
    drop(streams);
    site.wait_for("servers", |reply| reply.lines().count() == 1);
    // Nobody knows any more: all stays.
    names.set(&[]);
    drop(site.talk(b"z"));
    // And moves.
    names.set(&[2]);
    site.wait_for("servers", |reply| reply.contains(&line(0, two)) && reply.lines().count() == 1);
    drop(site.talk(b"z"));
}

#[test]
fn the_mapping_log_can_be_turned_on_and_its_health_is_shown() {
    let site = site();
    assert!(site.ask("status json").contains("\"mapping_log\":null"));
    assert!(
        site.ask("log /no/such/folder/log").starts_with("error: cannot open /no/such/folder/log: ")
    );
    assert_eq!(site.ask("log"), "");
    let log = site.folder.join("pen.log");
    assert_eq!(site.ask("log pen.log"), format!("{}\n", log.display()));
    drop(site.talk(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"));
    let text = || std::fs::read_to_string(&log).unwrap_or_default();
    wait_until("a record is written", || text().contains("127.0.0.1"));
    site.wait_for("status json", |reply| !reply.contains("\"written\":0,"));
}

#[test]
fn settings_change_while_connections_go_on() {
    let site = site();
    let mut stream = site.talk(b"x");
    let new = format!("server 0 address {} port {}", site.servers[1].ip(), site.servers[1].port());
    assert_eq!(site.ask(&new), "");
    assert_eq!(site.ask("remove 1"), "");
    stream.write_all(b"y").unwrap();
    stream.read_exact(&mut [0]).unwrap();
    drop(site.talk(b"z"));
    let servers = site.ask("servers");
    assert!(servers.starts_with("0 addr ") && servers.lines().count() == 1, "{servers}");
    assert_eq!(site.ask("exit"), "error: Exit is not enabled; restart with -X flag\n");
    assert_eq!(site.stopped.load(Ordering::Relaxed), 0);
}
