//! The PROXY protocol from clients and towards servers.

use std::fs;
use std::io::Write as _;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::num::NonZeroUsize;
use std::process::Command;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use pen::config::acl::AclVerdict;
use pen::config::{Endpoint, LogFormat, ProxyVersion, RuntimeSettings, TrustedPeer};
use pen::data::relay::proxy::Header;
use pen_records::addr::ClientAddr;
use pen_testing::program::require_installed;
use pen_testing::{Program, TempFolder, free_port};

use crate::support::{Listener, Site, Stream, dead, over, socket_path, wait_until};

const VERSIONS: [ProxyVersion; 2] = [ProxyVersion::V1, ProxyVersion::V2];

fn this_machine() -> Vec<TrustedPeer> {
    vec![TrustedPeer::parse("127.0.0.0/8").expect("a network")]
}

fn trusting(settings: RuntimeSettings) -> RuntimeSettings {
    RuntimeSettings { accept_proxy: this_machine(), ..settings }
}

fn far_away() -> Header {
    let client = SocketAddr::from(([203, 0, 113, 7], 5_555));
    Header::Forwarded { client, to: SocketAddr::from(([198, 51, 100, 1], 443)) }
}

fn written(header: Header, version: ProxyVersion) -> Vec<u8> {
    let mut bytes = Vec::new();
    header.write(version, &mut bytes);
    bytes
}

/// What a server hears of the client, and then so many bytes.
fn heard(server: &mut Stream, bytes: usize) -> (Header, Vec<u8>) {
    let mut head = Vec::new();
    loop {
        head.extend(server.bytes(1));
        if let Some((header, len)) = Header::parse(&head).expect("it is a header") {
            assert_eq!(len, head.len());
            return (header, server.bytes(bytes));
        }
    }
}

#[test]
fn a_forwarded_client_is_the_client_however_its_header_is_cut() {
    let listener = Listener::tcp();
    let (collector, log) = crate::records::collector();
    for (version, pieces) in VERSIONS.into_iter().flat_map(|it| [(it, 1), (it, 7), (it, 1_000)]) {
        let settings = trusting(over(&[&listener.endpoint()]));
        let log = Some(log.clone());
        let settings = RuntimeSettings { log, log_format: LogFormat::Classic, ..settings };
        let site = Site::start(RuntimeSettings { send_proxy: Some(ProxyVersion::V2), ..settings });
        let mut client = site.connect();
        let request = b"GET /far HTTP/1.1\r\nHost: a\r\n\r\n";
        for piece in [&written(far_away(), version), &request[..]].concat().chunks(pieces) {
            client.write_all(piece).unwrap();
        }
        let mut server = listener.accept();
        assert_eq!(heard(&mut server, request.len()), (far_away(), request.to_vec()));
        let record = collector.datagram();
        assert_eq!(record, b"+ 203.0.113.7 127.0.0.1 GET /far HTTP/1.1\n");
        server.write_all(b"back").unwrap();
        drop(server);
        assert_eq!(client.rest().unwrap(), b"back");
        drop(client);
        site.wait_until_empty();
        let pool = site.balancer().shared().pool();
        let known: Vec<_> = pool.clients().iter().map(|it| (it.addr, it.received)).collect();
        let far = ClientAddr::Ip([203, 0, 113, 7].into());
        assert_eq!(known, [(far, request.len() as u64)]);
    }
}

#[test]
fn who_speaks_for_itself_keeps_its_address() {
    let listener = Listener::tcp();
    let site = Site::start(RuntimeSettings {
        send_proxy: Some(ProxyVersion::V1),
        ..trusting(over(&[&listener.endpoint()]))
    });
    let Endpoint::Ip(to) = site.addr else { unreachable!() };
    let local =
        b"\r\n\r\n\0\r\nQUIT\n\x20\x11\0\x0c\x01\x02\x03\x04\x05\x06\x07\x08\x09\x0a\x0b\x0c";
    for header in [&b"PROXY UNKNOWN\r\n"[..], local] {
        let mut client = site.connect();
        let Stream::Tcp(tcp) = &client else { unreachable!() };
        let own = tcp.local_addr().unwrap();
        client.write_all(&[header, b"x"].concat()).unwrap();
        let heard = heard(&mut listener.accept(), 1);
        assert_eq!(heard, (Header::Forwarded { client: own, to }, b"x".to_vec()));
    }
}

#[test]
fn who_is_not_trusted_is_not_believed() {
    let listener = Listener::tcp();
    let accept_proxy = vec![TrustedPeer::parse("10.0.0.0/8").unwrap(), TrustedPeer::Unix];
    let site = Site::start(RuntimeSettings { accept_proxy, ..over(&[&listener.endpoint()]) });
    let header = written(far_away(), ProxyVersion::V1);
    let mut client = site.connect();
    client.write_all(&header).unwrap();
    assert_eq!(listener.accept().bytes(header.len()), header);
    let pool = site.balancer().shared().pool();
    let known = pool.clients().iter().next().map(|client| client.addr);
    assert_eq!(known, Some(ClientAddr::Ip(Ipv4Addr::LOCALHOST.into())));
}

#[test]
fn a_bad_header_is_a_reset_and_counted_and_no_server_hears_of_it() {
    let listener = Listener::tcp();
    let site = Site::start(trusting(over(&[&listener.endpoint()])));
    let bad = || site.balancer().shared().counters.bad_headers.load(Relaxed);
    let cut = written(far_away(), ProxyVersion::V2)[..20].to_vec();
    for (count, (bytes, finish)) in (1..).zip([
        (b"GET / HTTP/1.1\r\n\r\n".to_vec(), false),
        (b"PROXY TCP4 here there 1 2\r\n".to_vec(), false),
        (cut, true),
    ]) {
        let mut client = site.connect();
        client.write_all(&bytes).unwrap();
        if finish {
            client.finish();
        }
        assert!(client.is_cut(), "{}", bytes.escape_ascii());
        assert_eq!(bad(), count);
    }
    // Whoever looks whether we are there, and says nothing, has done nothing wrong.
    let mut client = site.connect();
    client.finish();
    assert_eq!(client.rest().unwrap(), b"");
    site.wait_until_empty();
    assert_eq!((bad(), site.balancer().shared().counters.resets.load(Relaxed)), (3, 3));
    let Listener::Tcp(listener) = &listener else { unreachable!() };
    listener.set_nonblocking(true).unwrap();
    assert!(listener.accept().is_err());
}

#[test]
fn a_header_that_does_not_come_in_time_is_a_reset() {
    let listener = Listener::tcp();
    let mut settings = trusting(over(&[&listener.endpoint()]));
    settings.timeouts.first_byte = Some(Duration::from_millis(30));
    let site = Site::start(settings);
    for beginning in [&b""[..], b"PROXY TCP4 203."] {
        let mut client = site.connect();
        client.write_all(beginning).unwrap();
        assert!(client.is_cut());
    }
    assert_eq!(site.balancer().shared().counters.bad_headers.load(Relaxed), 2);
}

#[test]
fn who_has_not_said_its_header_keeps_nobody_from_being_served() {
    let listener = Listener::tcp();
    let mut settings = trusting(over(&[&listener.endpoint()]));
    settings.limits.pending = NonZeroUsize::MIN;
    settings.timeouts.first_byte = Some(crate::support::PATIENCE);
    let site = Site::start(settings);
    let silent: Vec<_> = (0..20).map(|_| site.connect()).collect();
    wait_until("they are accepted", || site.balancer().shared().open() == 20);
    // More at once than may be opened at a time.
    let headers: Vec<_> = (0..10)
        .map(|_| {
            let mut client = site.connect();
            client.write_all(&written(far_away(), ProxyVersion::V1)).unwrap();
            client
        })
        .collect();
    let servers: Vec<_> = headers.iter().map(|_| listener.accept()).collect();
    drop((servers, headers));
    drop(silent);
    site.wait_until_empty();
}

#[test]
fn access_lists_judge_the_forwarded_client() {
    let (listener, abuse) = (Listener::tcp(), Listener::tcp());
    let mut settings = trusting(over(&[&listener.endpoint()]));
    settings.abuse = Some(pen::config::ServerSettings::new(abuse.endpoint()));
    let matcher = pen::config::acl::ClientMatcher::parse(&["203.0.113.0/24"]).unwrap();
    settings.client_acl = 1;
    settings
        .acls
        .list_mut(1)
        .push(pen::config::acl::AclRule { verdict: AclVerdict::Deny, matcher });
    let site = Site::start(settings);
    let mut client = site.connect();
    client.write_all(&written(far_away(), ProxyVersion::V2)).unwrap();
    client.write_all(b"x").unwrap();
    assert_eq!(abuse.accept().bytes(1), b"x");
    assert_eq!(site.balancer().shared().counters.denied.load(Relaxed), 1);
    let mut client = site.connect();
    client.write_all(b"PROXY UNKNOWN\r\nx").unwrap();
    assert_eq!(listener.accept().bytes(1), b"x");
}

#[test]
fn a_server_hears_who_the_client_is_first_and_so_does_the_next_one_after_a_failure() {
    let (gone, _port) = dead();
    let alive = Listener::tcp();
    for version in VERSIONS {
        let mut settings = over(&[&alive.endpoint(), &gone]);
        settings.timeouts.blacklist = Duration::ZERO;
        let site = Site::start(RuntimeSettings { send_proxy: Some(version), ..settings });
        let Endpoint::Ip(to) = site.addr else { unreachable!() };
        for _ in 0..4 {
            let mut client = site.connect();
            let Stream::Tcp(tcp) = &client else { unreachable!() };
            let own = tcp.local_addr().unwrap();
            client.write_all(b"first").unwrap();
            let mut server = alive.accept();
            assert_eq!(
                heard(&mut server, 5),
                (Header::Forwarded { client: own, to }, b"first".into())
            );
        }
        // One that says nothing is told of nevertheless: the server may be the one to speak first.
        let _silent = site.connect();
        heard(&mut alive.accept(), 0);
    }
}

#[test]
fn a_path_has_no_addresses_to_tell_and_may_be_trusted() {
    let listener = Listener::unix("proxy-server");
    let settings =
        RuntimeSettings { send_proxy: Some(ProxyVersion::V2), ..over(&[&listener.endpoint()]) };
    let site = Site::listening(socket_path("proxy-plain"), settings.clone());
    let mut client = site.connect();
    client.write_all(b"x").unwrap();
    assert_eq!(heard(&mut listener.accept(), 1), (Header::Own, b"x".to_vec()));
    let settings = RuntimeSettings { accept_proxy: vec![TrustedPeer::Unix], ..settings };
    let site = Site::listening(socket_path("proxy-trusted"), settings);
    let mut client = site.connect();
    client.write_all(&[&written(far_away(), ProxyVersion::V1)[..], b"x"].concat()).unwrap();
    assert_eq!(heard(&mut listener.accept(), 1), (far_away(), b"x".to_vec()));
}

/// HAProxy before us, and nginx behind.
struct Chain {
    folder: TempFolder,
    haproxy: SocketAddr,
    _site: Site,
    _processes: [Program; 2],
}

impl Chain {
    fn start(inward: &str, outward: ProxyVersion) -> Self {
        let folder = TempFolder::new();
        let [haproxy, nginx] = [(); 2].map(|()| free_port(Ipv4Addr::LOCALHOST));
        let here = folder.path().display();
        let config = folder.join("nginx.conf");
        let text = format!(
            "daemon off; user root; pid {here}/pid; events {{}} error_log {here}/error.log;
http {{
  log_format seen '$proxy_protocol_addr:$proxy_protocol_port $proxy_protocol_server_port $request_uri';
  access_log {here}/seen.log seen;
  client_body_temp_path {here}/a; proxy_temp_path {here}/b; fastcgi_temp_path {here}/c;
  uwsgi_temp_path {here}/d; scgi_temp_path {here}/e;
  server {{ listen {nginx} proxy_protocol; location / {{ return 200 served; }} }}
}}"
        );
        fs::write(&config, text).expect("the folder is ours");
        let mut command = Command::new(require_installed("nginx").expect("it is installed"));
        command.arg("-p").arg(folder.path()).arg("-c").arg(&config);
        command.arg("-e").arg(folder.join("error.log"));
        let mut web = Program::start("nginx", &mut command).expect("it starts");
        web.wait_for_port(nginx).expect("it listens");

        let settings = trusting(over(&[&Endpoint::Ip(nginx)]));
        let site = Site::start(RuntimeSettings { send_proxy: Some(outward), ..settings });
        let config = folder.join("haproxy.cfg");
        let text = format!(
            "global\n  maxconn 100\ndefaults\n  mode tcp\n  timeout connect 5s\n  timeout client 20s\n  \
             timeout server 20s\nlisten front\n  bind {haproxy}\n  server pen {} {inward}\n",
            site.addr
        );
        fs::write(&config, text).expect("the folder is ours");
        let mut command = Command::new(require_installed("haproxy").expect("it is installed"));
        command.arg("-db").arg("-f").arg(&config);
        let mut before = Program::start("haproxy", &mut command).expect("it starts");
        before.wait_for_port(haproxy).expect("it listens");
        Self { folder, haproxy, _site: site, _processes: [web, before] }
    }
}

#[test]
fn haproxy_tells_us_the_client_and_we_tell_nginx() {
    for (inward, outward) in [
        ("send-proxy", ProxyVersion::V1),
        ("send-proxy", ProxyVersion::V2),
        ("send-proxy-v2", ProxyVersion::V1),
        ("send-proxy-v2 proxy-v2-options crc32c,unique-id", ProxyVersion::V2),
    ] {
        let chain = Chain::start(inward, outward);
        let mut expected = Vec::new();
        for (number, last) in (1..=3).zip([9, 10, 11]) {
            let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None);
            let socket = socket.unwrap();
            socket.bind(&SocketAddr::from(([127, 0, 0, last], 0)).into()).unwrap();
            socket.connect(&chain.haproxy.into()).unwrap();
            let mut client = TcpStream::from(socket);
            client.set_read_timeout(Some(crate::support::PATIENCE)).unwrap();
            let own = client.local_addr().unwrap();
            let request = format!("GET /{number} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
            client.write_all(request.as_bytes()).unwrap();
            let mut answer = String::new();
            std::io::Read::read_to_string(&mut client, &mut answer).unwrap();
            assert!(answer.ends_with("served"), "{inward} {outward:?}: {answer}");
            expected.push(format!("{own} {} /{number}", chain.haproxy.port()));
        }
        let log = || fs::read_to_string(chain.folder.join("seen.log")).unwrap_or_default();
        wait_until("all is logged", || {
            log().lines().filter(|line| line.contains('/')).count() == 3
        });
        let log = log();
        // A line for whoever looked whether it listens has no address.
        let seen: Vec<_> = log.lines().filter(|line| line.contains('/')).collect();
        assert_eq!(seen, expected, "{inward} {outward:?}");
    }
}
