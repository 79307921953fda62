//! Limits of connections and clients, and what happens beyond them.

use std::io::Write as _;
use std::num::{NonZeroU32, NonZeroUsize};
use std::time::Duration;

use pen::config::{Endpoint, PenConfig, RuntimeSettings};
use pen::data::balancer::Bound;

use crate::support::{Listener, PATIENCE, Site, Stream, localhost, over, socket_path, wait_until};

#[test]
fn a_hard_limit_holds_under_a_burst() {
    let listener = Listener::tcp();
    let mut settings: RuntimeSettings = over(&[&listener.endpoint()]);
    for server in settings.servers.iter_mut().flatten() {
        server.soft = NonZeroU32::new(2);
        server.hard = NonZeroU32::new(2);
    }
    let site = Site::start(settings);
    let (end, ends) = std::sync::mpsc::channel();
    for mut client in (0..20).map(|_| site.connect()).collect::<Vec<Stream>>() {
        let end = end.clone();
        std::thread::spawn(move || end.send(client.rest()));
    }
    let servers = [listener.accept(), listener.accept()];
    let next = || ends.recv_timeout(PATIENCE).expect("it ends");
    assert!((0..18).all(|_| next().is_err()), "the others are refused while two have the server");
    drop(servers);
    assert!((0..2).all(|_| next().is_ok()));
    site.wait_until_empty();
}

#[test]
fn who_finds_no_room_waits_for_it() {
    let listener = Listener::tcp();
    for pending_only in [false, true] {
        let mut settings: RuntimeSettings = over(&[&listener.endpoint()]);
        if pending_only {
            settings.limits.pending = NonZeroUsize::MIN;
        } else {
            settings.limits.connections = NonZeroUsize::new(1);
        }
        let site = Site::start(settings);
        let clients: Vec<Stream> = (0..10).map(|_| site.connect()).collect();
        let threads: Vec<_> = clients
            .into_iter()
            .map(|mut client| {
                std::thread::spawn(move || {
                    client.write_all(b"x").unwrap();
                    client.finish();
                    assert_eq!(client.rest().unwrap(), b"served");
                })
            })
            .collect();
        for _ in 0..10 {
            let mut server = listener.accept();
            assert!(pending_only || site.balancer().shared().open() <= 1);
            assert_eq!(server.rest().unwrap(), b"x");
            server.write_all(b"served").unwrap();
        }
        for thread in threads {
            thread.join().unwrap();
        }
        site.wait_until_empty();
    }
}

#[test]
fn an_address_is_ours_alone() {
    let listener = Listener::tcp();
    for endpoint in [localhost(0), socket_path("alone")] {
        let site = Site::listening(endpoint, over(&[&listener.endpoint()]));
        let config = PenConfig { listen: vec![site.addr.clone()], ..PenConfig::default() };
        let error = Bound::bind(&config).expect_err("another one is there");
        assert_eq!(error.to_string(), format!("cannot listen at {}", site.addr));
    }
}

#[test]
fn a_socket_file_is_replaced_if_nobody_listens_and_another_file_is_not() {
    let Endpoint::Unix(path) = socket_path("left-over") else { unreachable!() };
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    let config = PenConfig { listen: vec![Endpoint::Unix(path.clone())], ..PenConfig::default() };
    drop(Bound::bind(&config).expect("nobody listens there"));
    assert!(!path.exists(), "ours is removed");
    std::fs::write(&path, "precious").unwrap();
    Bound::bind(&config).expect_err("it is no socket");
    assert_eq!(std::fs::read(&path).unwrap(), b"precious");
    std::fs::remove_file(&path).unwrap();
}

#[test]
fn a_balancer_that_stops_accepts_nobody_and_lets_others_end() {
    let listener = Listener::tcp();
    let mut site = Site::start(over(&[&listener.endpoint()]));
    let mut client = site.connect();
    let mut server = listener.accept();
    site.balancer().stop(PATIENCE);
    let Endpoint::Ip(addr) = site.addr else { unreachable!() };
    wait_until("nobody is accepted", || std::net::TcpStream::connect(addr).is_err());
    assert!(!site.balancer().is_done());
    server.write_all(b"the end").unwrap();
    drop(server);
    assert_eq!(client.rest().unwrap(), b"the end");
    // And with it those who were accepted while we tried.
    drop((client, listener));
    site.balancer.take().unwrap().join();
}

#[test]
fn what_does_not_end_in_time_is_cut() {
    let listener = Listener::tcp();
    let mut site = Site::start(over(&[&listener.endpoint()]));
    let mut client = site.connect();
    let mut server = listener.accept();
    site.balancer().stop(Duration::from_millis(20));
    site.balancer.take().unwrap().join();
    assert!(client.is_cut() && server.is_cut());
}
