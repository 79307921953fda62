//! UDP on real sockets.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::num::NonZeroUsize;
use std::sync::atomic::Ordering::Relaxed;
use std::thread::JoinHandle;
use std::time::Duration;

use pen::config::acl::{AclRule, AclVerdict, ClientMatcher};
use pen::config::{Endpoint, LogFormat, PenConfig, RuntimeSettings, SelectionMode, TransportKind};
use pen::data::balancer::Bound;
use pen_records::addr::{ClientAddr, ServerAddr};
use pen_records::mapping::MappingKind;

use crate::support::{PATIENCE, Site, localhost, over, pattern, wait_until};

/// The longest datagram of IPv4.
const LONGEST: usize = 65_507;
/// What ends a server.
const END: &[u8] = b"the end";

fn socket(addr: impl Into<IpAddr>) -> UdpSocket {
    let socket = UdpSocket::bind((addr.into(), 0)).expect("a port is free");
    socket.set_read_timeout(Some(PATIENCE)).expect("it is not zero");
    socket
}

fn local(socket: &UdpSocket) -> SocketAddr {
    socket.local_addr().expect("it is bound")
}

/// A server that answers each datagram with its mark and what it was sent.
struct Echo {
    addr: SocketAddr,
    thread: Option<JoinHandle<UdpSocket>>,
}

impl Echo {
    fn start(mark: u8, ip: impl Into<IpAddr>) -> Self {
        let server = UdpSocket::bind((ip.into(), 0)).expect("a port is free");
        let addr = local(&server);
        let thread = std::thread::spawn(move || {
            let mut buf = vec![0; LONGEST];
            buf[0] = mark;
            loop {
                let (len, from) = server.recv_from(&mut buf[1..]).expect("it is bound");
                if &buf[1..=len] == END {
                    return refusing(server);
                }
                server.send_to(&buf[..=len], from).expect("it is not too long");
            }
        });
        Self { addr, thread: Some(thread) }
    }

    fn endpoint(&self) -> Endpoint {
        Endpoint::Ip(self.addr)
    }

    /// From now on its port refuses.
    fn end(&mut self) -> Option<UdpSocket> {
        let thread = self.thread.take()?;
        socket(self.addr.ip()).send_to(END, self.addr).expect("it is there");
        thread.join().ok()
    }
}

/// A socket that hears nobody but a port where nobody is: the others are refused, as long as it is kept.
fn refusing(socket: UdpSocket) -> UdpSocket {
    socket.connect((local(&socket).ip(), 1)).expect("there is a way");
    socket
}

impl Drop for Echo {
    fn drop(&mut self) {
        drop(self.end());
    }
}

/// What comes back to a client that is connected to the balancer.
fn reply(client: &UdpSocket) -> Vec<u8> {
    let mut buf = vec![0; LONGEST + 1];
    let len = client.recv(&mut buf).expect("it is answered");
    buf.truncate(len);
    buf
}

fn ask(client: &UdpSocket, datagram: &[u8]) -> Vec<u8> {
    client.send(datagram).expect("it is not too long");
    reply(client)
}

impl Site {
    fn client(&self, ip: impl Into<IpAddr>) -> UdpSocket {
        let Endpoint::Ip(addr) = self.addr else { panic!("it has a port") };
        let client = socket(ip);
        client.connect(addr).expect("there is a way");
        client
    }
}

fn site(servers: &[&Echo]) -> Site {
    let servers: Vec<_> = servers.iter().map(|server| server.endpoint()).collect();
    Site::of_datagrams(localhost(0), over(&servers.iter().collect::<Vec<_>>()))
}

#[test]
fn many_clients_get_their_own_answers_of_any_length() {
    let echo = Echo::start(b'a', Ipv4Addr::LOCALHOST);
    let site = site(&[&echo]);
    let clients: Vec<_> = (0..200).map(|_| site.client(Ipv4Addr::LOCALHOST)).collect();
    for (number, client) in clients.iter().enumerate() {
        client.send(format!("hello {number}").as_bytes()).unwrap();
    }
    for (number, client) in clients.iter().enumerate() {
        assert_eq!(reply(client), format!("ahello {number}").as_bytes());
    }
    assert_eq!(site.balancer().shared().open(), 200);
    for len in [0, 1, 64, 1_200, 9_000, LONGEST - 1] {
        let datagram = pattern(len);
        assert_eq!(ask(&clients[7], &datagram), [b"a", &datagram[..]].concat(), "{len}");
    }
}

#[test]
fn either_family_reaches_either_family() {
    let four = Echo::start(b'4', Ipv4Addr::LOCALHOST);
    let six = Echo::start(b'6', Ipv6Addr::LOCALHOST);
    for server in [&four, &six] {
        for ip in [IpAddr::from(Ipv4Addr::LOCALHOST), Ipv6Addr::LOCALHOST.into()] {
            let endpoint = Endpoint::Ip(SocketAddr::new(ip, 0));
            let site = Site::of_datagrams(endpoint, over(&[&server.endpoint()]));
            assert_eq!(&ask(&site.client(ip), b"x")[1..], b"x");
        }
    }
}

#[test]
fn an_answer_comes_from_where_the_client_sent_to() {
    let echo = Echo::start(b'a', Ipv4Addr::LOCALHOST);
    for any in [IpAddr::from(Ipv4Addr::UNSPECIFIED), Ipv6Addr::UNSPECIFIED.into()] {
        let endpoint = Endpoint::Ip(SocketAddr::new(any, 0));
        let site = Site::of_datagrams(endpoint, over(&[&echo.endpoint()]));
        let Endpoint::Ip(at) = site.addr else { unreachable!() };
        let mut ways: Vec<IpAddr> = vec![[127, 0, 0, 5].into(), [127, 0, 0, 6].into()];
        if any.is_ipv6() {
            ways.push(Ipv6Addr::LOCALHOST.into());
        }
        // One client after the other by the same port, and both in turn; a connected socket hears
        // nobody but whom it sends to.
        let clients: Vec<_> = ways
            .iter()
            .map(|&ip| {
                let own: IpAddr = if ip.is_ipv4() { Ipv4Addr::LOCALHOST.into() } else { ip };
                let client = socket(own);
                client.connect((ip, at.port())).unwrap();
                client
            })
            .collect();
        for _ in 0..2 {
            clients.iter().for_each(|client| assert_eq!(client.send(b"x").unwrap(), 1));
            clients.iter().for_each(|client| assert_eq!(reply(client), b"ax"));
        }
        // By another address of ours than before, in the same flow.
        let client = socket(Ipv4Addr::LOCALHOST);
        for ip in [[127, 0, 0, 5], [127, 0, 0, 6]] {
            let to = SocketAddr::from((ip, at.port()));
            client.send_to(b"x", to).unwrap();
            let (_, from) = client.recv_from(&mut [0; 9]).unwrap();
            assert_eq!(from, to);
        }
    }
}

#[test]
fn a_server_that_refuses_is_left_alone_and_no_client_notices() {
    let alive = Echo::start(b'a', Ipv4Addr::LOCALHOST);
    for mode in [None, Some(SelectionMode::RoundRobin), Some(SelectionMode::Hash)] {
        let gone = [0, 1].map(|_| refusing(socket(Ipv4Addr::LOCALHOST)));
        let [one, two] = [0, 1].map(|at| Endpoint::Ip(local(&gone[at])));
        let mut settings: RuntimeSettings = over(&[&alive.endpoint(), &one, &two]);
        mode.into_iter().for_each(|mode| settings.modes.set(mode, true));
        let site = Site::of_datagrams(localhost(0), settings);
        for number in 1..20 {
            let client = site.client([127, 0, 0, number]);
            assert_eq!(ask(&client, b"first"), b"afirst", "{mode:?}");
            assert_eq!(ask(&client, b"second"), b"asecond", "{mode:?}");
        }
        let failed = site.balancer().shared().counters.failed_attempts.load(Relaxed);
        assert!(failed <= 2, "{mode:?}: {failed}, though both are left alone then");
    }
}

#[test]
fn a_server_that_goes_away_is_noticed_and_its_clients_go_to_another() {
    let stays = Echo::start(b's', Ipv4Addr::LOCALHOST);
    let mut goes = Echo::start(b'g', Ipv4Addr::LOCALHOST);
    let site = site(&[&stays, &goes]);
    let client = site.client(Ipv4Addr::LOCALHOST);
    // The first client of all goes to number 1.
    assert_eq!(ask(&client, b"x"), b"gx");
    let _port = goes.end();
    client.send(b"lost").unwrap();
    let failed = || site.balancer().shared().counters.failed_attempts.load(Relaxed);
    wait_until("it is noticed", || failed() == 1);
    assert_eq!(ask(&client, b"y"), b"sy");
    assert_eq!(site.balancer().shared().open(), 1);
}

#[test]
fn nobody_but_its_server_reaches_a_client() {
    let server = socket(Ipv4Addr::LOCALHOST);
    let site = Site::of_datagrams(localhost(0), over(&[&Endpoint::Ip(local(&server))]));
    let client = site.client(Ipv4Addr::LOCALHOST);
    client.send(b"x").unwrap();
    let (_, ours) = server.recv_from(&mut [0; 9]).unwrap();
    socket(Ipv4Addr::LOCALHOST).send_to(b"forged", ours).unwrap();
    // Any number of answers, or none.
    server.send_to(b"one", ours).unwrap();
    server.send_to(b"two", ours).unwrap();
    assert_eq!((reply(&client), reply(&client)), (b"one".to_vec(), b"two".to_vec()));
}

#[test]
fn a_client_keeps_its_server_and_round_robin_is_even() {
    let echoes: Vec<_> = (b'0'..b'4').map(|mark| Echo::start(mark, Ipv4Addr::LOCALHOST)).collect();
    let all: Vec<_> = echoes.iter().collect();
    let site = site(&all);
    let marks = |site: &Site, ip: [u8; 4]| {
        // All at once: the port of one that is gone may be the next one's, and its flow still there.
        let clients: Vec<_> = (0..40).map(|_| site.client(ip)).collect();
        clients.iter().map(|client| ask(client, b"x")[0]).collect::<Vec<_>>()
    };
    for last in 1..9 {
        let marks: BTreeSet<_> = marks(&site, [127, 0, 0, last]).into_iter().collect();
        assert_eq!(marks.len(), 1, "all ports of a client");
    }
    let endpoints: Vec<_> = all.iter().map(|server| server.endpoint()).collect();
    let mut settings: RuntimeSettings = over(&endpoints.iter().collect::<Vec<_>>());
    settings.modes.set(SelectionMode::RoundRobin, true);
    let site = Site::of_datagrams(localhost(0), settings);
    let marks = marks(&site, [127, 0, 0, 1]);
    for mark in b'0'..b'4' {
        assert_eq!(marks.iter().filter(|&&found| found == mark).count(), 10);
    }
}

#[test]
fn access_lists_hold_for_datagrams() {
    let echo = Echo::start(b'a', Ipv4Addr::LOCALHOST);
    let mut settings: RuntimeSettings = over(&[&echo.endpoint()]);
    let matcher = ClientMatcher::parse(&["127.0.0.9"]).unwrap();
    settings.client_acl = 1;
    settings.acls.list_mut(1).push(AclRule { verdict: AclVerdict::Deny, matcher });
    let site = Site::of_datagrams(localhost(0), settings);
    let denied = site.client([127, 0, 0, 9]);
    denied.send(b"x").unwrap();
    wait_until("it is denied", || site.balancer().shared().counters.denied.load(Relaxed) == 1);
    assert_eq!(ask(&site.client([127, 0, 0, 8]), b"x"), b"ax");
    denied.set_nonblocking(true).unwrap();
    assert!(denied.recv(&mut [0; 9]).is_err());
}

#[test]
fn flows_are_bounded_however_many_clients_there_are() {
    let echo = Echo::start(b'a', Ipv4Addr::LOCALHOST);
    let mut settings: RuntimeSettings = over(&[&echo.endpoint()]);
    settings.limits.connections = NonZeroUsize::new(20);
    let site = Site::of_datagrams(localhost(0), settings);
    let shared = site.balancer().shared();
    let mut first = None;
    for _ in 0..1_000 {
        let client = site.client(Ipv4Addr::LOCALHOST);
        // Where the other worker has all the room it is lost, as datagrams may be.
        client.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
        let answered = (0..100).any(|_| {
            client.send(b"x").unwrap();
            client.recv(&mut [0; 9]).is_ok()
        });
        assert!(answered && shared.open() <= 20);
        first.get_or_insert(client);
    }
    // Those who were forgotten begin anew.
    assert_eq!(site.balancer().shared().kernel_drops(), Some(0));
    assert_eq!(ask(&first.unwrap(), b"again"), b"aagain");
    let served: Vec<_> = shared.pool().servers().map(|(_, server)| server.connections).collect();
    assert_eq!(served, [u32::try_from(shared.open()).unwrap()]);
}

#[test]
fn silence_ends_a_flow_and_both_are_noted() {
    let echo = Echo::start(b'a', Ipv4Addr::LOCALHOST);
    let (collector, target) = crate::records::collector();
    let mut settings: RuntimeSettings = over(&[&echo.endpoint()]);
    settings.timeouts.idle = Some(Duration::from_millis(30));
    (settings.log, settings.log_format) = (Some(target), LogFormat::Extended);
    let site = Site::of_datagrams(localhost(0), settings);
    let client = site.client(Ipv4Addr::LOCALHOST);
    assert_eq!(ask(&client, b"hello"), b"ahello");
    let mut kinds = Vec::new();
    collector.mappings(|mapping| {
        assert_eq!(mapping.client, ClientAddr::Ip(Ipv4Addr::LOCALHOST.into()));
        assert_eq!(mapping.client_port, Some(local(&client).port()));
        assert_eq!(mapping.server, ServerAddr::Ip(echo.addr.ip()));
        assert_eq!((mapping.server_port, mapping.connection), (Some(echo.addr.port()), Some(1)));
        assert!(mapping.balancer.is_some());
        kinds.push((mapping.kind, mapping.to_server, mapping.to_client));
        mapping.kind == MappingKind::Closed
    });
    assert_eq!(kinds, [(MappingKind::Opened, None, None), (MappingKind::Closed, Some(5), Some(6))]);
    site.wait_until_empty();
    assert_eq!(ask(&client, b"again"), b"aagain");
}

#[test]
fn who_waits_for_an_answer_gets_it_when_pen_stops() {
    let server = socket(Ipv4Addr::LOCALHOST);
    let mut site = Site::of_datagrams(localhost(0), over(&[&Endpoint::Ip(local(&server))]));
    let (waits, has) = (site.client(Ipv4Addr::LOCALHOST), site.client(Ipv4Addr::LOCALHOST));
    has.send(b"x").unwrap();
    let (_, ours) = server.recv_from(&mut [0; 9]).unwrap();
    server.send_to(b"y", ours).unwrap();
    assert_eq!(reply(&has), b"y");
    waits.send(b"x").unwrap();
    let (_, ours) = server.recv_from(&mut [0; 9]).unwrap();
    site.balancer().stop(PATIENCE);
    wait_until("the other one is over", || site.balancer().shared().open() == 1);
    server.send_to(b"the answer", ours).unwrap();
    assert_eq!(reply(&waits), b"the answer");
    site.balancer.take().unwrap().join();
}

#[test]
fn a_port_is_ours_alone() {
    let echo = Echo::start(b'a', Ipv4Addr::LOCALHOST);
    let site = site(&[&echo]);
    let listen = vec![site.addr.clone()];
    let config = PenConfig { transport: TransportKind::Udp, listen, ..PenConfig::default() };
    let error = Bound::bind(&config).expect_err("another one is there");
    assert_eq!(error.to_string(), format!("cannot listen at {}", site.addr));
}

/// A question for the address of `name`, as resolvers ask it.
fn question(id: u16, name: &str) -> Vec<u8> {
    let mut bytes = id.to_be_bytes().to_vec();
    bytes.extend([1, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
    for label in name.split('.') {
        bytes.push(u8::try_from(label.len()).expect("labels are short"));
        bytes.extend(label.as_bytes());
    }
    bytes.extend([0, 0, 1, 0, 1]);
    bytes
}

#[test]
fn a_name_is_looked_up_through_us_when_one_of_two_name_servers_is_down() {
    let names = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let up = local(&names);
    let down = refusing(socket(Ipv4Addr::LOCALHOST));
    let gone = local(&down);
    let server = std::thread::spawn(move || {
        for _ in 0..20 {
            let mut buf = [0; 512];
            let (len, from) = names.recv_from(&mut buf).unwrap();
            // One answer, which points at the name in the question: 192.0.2.53 for a minute.
            let mut answer = buf[..len].to_vec();
            (answer[2], answer[3], answer[7]) = (0x81, 0x80, 1);
            answer.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 192, 0, 2, 53]);
            names.send_to(&answer, from).unwrap();
        }
    });
    let site = Site::of_datagrams(localhost(0), over(&[&Endpoint::Ip(up), &Endpoint::Ip(gone)]));
    for id in 0..20 {
        // As a resolver does, each from a port of its own.
        let answer = ask(&site.client(Ipv4Addr::LOCALHOST), &question(id, "www.shop.example"));
        assert_eq!(answer[..2], id.to_be_bytes());
        assert_eq!((answer[7], &answer[answer.len() - 4..]), (1, &[192, 0, 2, 53][..]));
    }
    server.join().unwrap();
}
