//! The choice of a server for a client, and failover as a client sees it.

use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::sync::atomic::Ordering;
use std::time::Duration;

use pen::config::acl::AclVerdict;
use pen::config::{Endpoint, RuntimeSettings, SelectionMode, ServerSettings};
use socket2::{Domain, Socket, Type};

use crate::support::{Listener, Site, Stream, dead, over, socket_path, wait_until};

/// What the server said that a new client got.
fn ask(site: &Site) -> String {
    let mut client = site.connect();
    client.finish();
    String::from_utf8(client.rest().expect("it is served")).expect("it is a name")
}

#[test]
fn a_server_that_refuses_is_passed_over_and_no_client_sees_it() {
    let (gone, _port) = dead();
    let alive = Listener::tcp();
    for mode in [
        None,
        Some(SelectionMode::RoundRobin),
        Some(SelectionMode::Hash),
        Some(SelectionMode::Weight),
    ] {
        let mut settings: RuntimeSettings = over(&[&alive.endpoint(), &gone]);
        settings.timeouts.blacklist = Duration::ZERO;
        if let Some(mode) = mode {
            settings.modes.set(mode, true);
        }
        let site = Site::start(settings);
        for _ in 0..10 {
            let mut client = site.connect();
            let mut server = alive.accept();
            std::io::Write::write_all(&mut server, b"alive").unwrap();
            drop(server);
            assert_eq!(client.rest().unwrap(), b"alive", "{mode:?}");
        }
    }
}

#[test]
fn a_unix_socket_that_nobody_listens_at_is_passed_over() {
    let alive = Listener::tcp();
    let site = Site::start(over(&[&alive.endpoint(), &socket_path("nobody")]));
    let servers = alive.say("alive", 3);
    for _ in 0..3 {
        assert_eq!(ask(&site), "alive");
    }
    servers.join().unwrap();
}

/// A listener whose queue is full, so that whoever connects gets no answer.
struct Silent {
    addr: Endpoint,
    _listener: Socket,
    _queue: Vec<TcpStream>,
}

impl Silent {
    fn new() -> Self {
        let listener = Socket::new(Domain::IPV4, Type::STREAM, None).expect("there are sockets");
        let any: SocketAddr = (Ipv4Addr::LOCALHOST, 0).into();
        listener.bind(&any.into()).expect("a port is free");
        listener.listen(0).expect("it is bound");
        let addr = listener.local_addr().ok().and_then(|addr| addr.as_socket());
        let addr = addr.expect("it is bound");
        let mut queue = Vec::new();
        while let Ok(stream) = TcpStream::connect_timeout(&addr, Duration::from_millis(100)) {
            queue.push(stream);
        }
        Self { addr: Endpoint::Ip(addr), _listener: listener, _queue: queue }
    }
}

#[test]
fn a_server_that_does_not_answer_is_passed_over() {
    let (silent, alive) = (Silent::new(), Listener::tcp());
    // The first new client gets number 1.
    let mut settings: RuntimeSettings = over(&[&alive.endpoint(), &silent.addr]);
    settings.timeouts.connect = Duration::from_millis(50);
    let site = Site::start(settings);
    let servers = alive.say("alive", 2);
    assert_eq!(ask(&site), "alive");
    assert_eq!(site.balancer().shared().counters.failovers.load(Ordering::Relaxed), 1);
    assert_eq!(ask(&site), "alive");
    servers.join().unwrap();
}

#[test]
fn others_are_served_while_one_waits_for_a_server_that_does_not_answer() {
    let (silent, alive) = (Silent::new(), Listener::tcp());
    let mut settings: RuntimeSettings = over(&[&alive.endpoint(), &silent.addr]);
    settings.modes.set(SelectionMode::RoundRobin, true);
    settings.timeouts.connect = Duration::from_secs(600);
    let site = Site::start(settings);
    let servers = alive.say("alive", 4);
    let mut waiting = Vec::new();
    for nth in 1..=4 {
        waiting.push(site.connect());
        wait_until("it waits", || site.balancer().shared().open() == nth);
        assert_eq!(ask(&site), "alive");
        wait_until("it is over", || site.balancer().shared().open() == nth);
    }
    servers.join().unwrap();
}

#[test]
fn the_emergency_server_is_reached_when_all_others_fail() {
    let (gone, _port) = dead();
    let last = Listener::tcp();
    let settings = RuntimeSettings {
        emergency: Some(ServerSettings::new(last.endpoint())),
        ..over(&[&gone, &gone])
    };
    let site = Site::start(settings);
    let servers = last.say("sorry", 2);
    assert_eq!((ask(&site), ask(&site)), ("sorry".into(), "sorry".into()));
    servers.join().unwrap();
}

#[test]
fn a_client_that_no_server_is_found_for_is_cut() {
    let (gone, _port) = dead();
    let site = Site::start(over(&[&gone]));
    for _ in 0..3 {
        assert!(site.connect().is_cut());
    }
    site.wait_until_empty();
    let counters = &site.balancer().shared().counters;
    assert_eq!(counters.refused.load(Ordering::Relaxed), 3);
    assert_eq!(counters.failovers.load(Ordering::Relaxed), 0, "nobody got another server");
}

#[test]
fn clients_who_got_another_server_are_counted_however_the_first_one_failed() {
    let (gone, _port) = dead();
    let alive = Listener::tcp();
    // A file that is not there fails at once, a port mostly, and either is number 1.
    for first in [gone, socket_path("counted")] {
        let mut settings: RuntimeSettings = over(&[&alive.endpoint(), &first]);
        settings.timeouts.blacklist = Duration::ZERO;
        settings.modes.set(SelectionMode::RoundRobin, true);
        let site = Site::start(settings);
        for nth in 1..=3 {
            let client = site.connect();
            drop((alive.accept(), client));
            site.wait_until_empty();
            assert_eq!(site.balancer().shared().counters.failovers.load(Ordering::Relaxed), nth);
        }
    }
}

#[test]
fn a_server_that_is_busy_is_not_taken_for_one_that_failed() {
    let Endpoint::Unix(path) = socket_path("busy") else { unreachable!() };
    let _old = std::fs::remove_file(&path);
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None).unwrap();
    socket.bind(&socket2::SockAddr::unix(&path).unwrap()).unwrap();
    socket.listen(2).unwrap();
    let site = Site::start(over(&[&Endpoint::Unix(path.clone())]));
    let refused = || site.balancer().shared().counters.refused.load(Ordering::Relaxed);
    let mut clients = Vec::new();
    while refused() == 0 {
        clients.push(site.connect());
        assert!(clients.len() < 20, "its queue has no end");
        wait_until("it is decided", || {
            let shared = site.balancer().shared();
            shared.open() + usize::try_from(refused()).unwrap() == clients.len()
        });
    }
    let listener: std::os::unix::net::UnixListener = socket.into();
    listener.set_nonblocking(true).unwrap();
    let mut servers = Vec::new();
    wait_until("all who were not refused are accepted", || {
        servers.extend(listener.accept().map(|(server, _)| server));
        servers.len() + usize::try_from(refused()).unwrap() == clients.len()
    });
    let mut client = site.connect();
    client.finish();
    wait_until("there is room for one more", || {
        let server = listener.accept();
        server
            .is_ok_and(|(mut server, _)| std::io::Write::write_all(&mut server, b"served").is_ok())
    });
    assert_eq!(client.rest().unwrap(), b"served");
    std::fs::remove_file(&path).unwrap();
}

#[test]
fn a_source_address_is_for_servers_of_its_own_family() {
    let listener = std::net::TcpListener::bind("[::1]:0").unwrap();
    let server = Endpoint::Ip(listener.local_addr().unwrap());
    let other = Listener::tcp();
    let mut settings: RuntimeSettings = over(&[&other.endpoint(), &server]);
    settings.tcp.source = Some(Ipv4Addr::new(127, 0, 0, 2).into());
    settings.modes.set(SelectionMode::RoundRobin, true);
    let site = Site::start(settings);
    let _clients = [site.connect(), site.connect()];
    listener.set_nonblocking(true).unwrap();
    wait_until("the other family's server is reached", || {
        listener.accept().is_ok_and(|(_, from)| from.ip() == std::net::Ipv6Addr::LOCALHOST)
    });
    let Stream::Tcp(stream) = other.accept() else { unreachable!() };
    assert_eq!(stream.peer_addr().unwrap().ip(), Ipv4Addr::new(127, 0, 0, 2));
}

#[test]
fn a_client_keeps_its_server_and_round_robin_takes_turns() {
    for (modes, expected) in
        [(None, ["b", "b", "b"]), (Some(SelectionMode::RoundRobin), ["b", "a", "b"])]
    {
        let (a, b) = (Listener::tcp(), Listener::tcp());
        let mut settings = over(&[&a.endpoint(), &b.endpoint()]);
        if let Some(mode) = modes {
            settings.modes.set(mode, true);
        }
        let site = Site::start(settings);
        let to_a = expected.iter().filter(|name| **name == "a").count();
        let servers = [a.say("a", to_a), b.say("b", expected.len() - to_a)];
        for name in expected {
            assert_eq!(ask(&site), name, "{modes:?}");
        }
        for thread in servers {
            thread.join().unwrap();
        }
    }
}

#[test]
fn who_is_denied_gets_the_abuse_server_or_is_cut() {
    let (server, abuse) = (Listener::tcp(), Listener::tcp());
    let mut settings: RuntimeSettings = over(&[&server.endpoint()]);
    settings.client_acl = 3;
    settings.acls.list_mut(3).set_default(Some(AclVerdict::Deny));
    let site = Site::start(settings.clone());
    assert!(site.connect().is_cut());
    let counters = &site.balancer().shared().counters;
    let counts = [&counters.denied, &counters.refused].map(|count| count.load(Ordering::Relaxed));
    assert_eq!(counts, [1, 0], "it was denied, which is no want of servers");
    settings.abuse = Some(ServerSettings::new(abuse.endpoint()));
    let site = Site::start(settings);
    let servers = abuse.say("no", 1);
    assert_eq!(ask(&site), "no");
    servers.join().unwrap();
}

#[test]
fn other_settings_take_effect_at_once_and_open_connections_go_on() {
    let (before, after) = (Listener::tcp(), Listener::tcp());
    let site = Site::start(over(&[&before.endpoint()]));
    let mut old: Stream = site.connect();
    let mut old_server = before.accept();
    site.balancer().shared().change(over(&[&after.endpoint()]));
    let servers = after.say("after", 1);
    assert_eq!(ask(&site), "after");
    servers.join().unwrap();
    std::io::Write::write_all(&mut old_server, b"still here").unwrap();
    drop(old_server);
    assert_eq!(old.rest().unwrap(), b"still here");
    drop(old);
    site.wait_until_empty();
}
