//! Who gets in, and what becomes of who does not.

use std::io::Write as _;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use pen::config::{
    ClientCertificates, ForwardedFor, RuntimeSettings, SelectionMode, ServerTls, TlsVersion,
};
use pen_testing::certificates::{HOST, TestAuthority};
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, ProtocolVersion, ServerConfig};

use super::support::{End, UseCertificates as _};
use crate::support::{Listener, Site, over, wait_until};

/// A site in TLS over one plain server, and that server.
fn site(authority: &TestAuthority, change: impl FnOnce(&mut RuntimeSettings)) -> (Site, Listener) {
    let listener = Listener::tcp();
    let mut settings = over(&[&listener.endpoint()]);
    authority.serve(&mut settings);
    change(&mut settings);
    (Site::start(settings), listener)
}

/// Whether a client gets through to the server.
fn gets_through(site: &Site, listener: &Listener, config: Arc<ClientConfig>) -> bool {
    let counters = &site.balancer().shared().counters;
    // In TLS 1.3 a client learns only afterwards that it was refused.
    let client = End::asking(config, HOST, site.connect());
    wait_until("it is in or out", || {
        counters.handshakes.load(Relaxed) + counters.failed_handshakes.load(Relaxed) > 0
    });
    if counters.failed_handshakes.load(Relaxed) > 0 {
        return client.is_ok_and(|mut client| client.rest().is_ok());
    }
    let mut client = client.expect("it is in");
    client.write_all(b"question");
    let mut server = listener.accept();
    assert_eq!(server.bytes(8), b"question");
    server.write_all(b"answer").expect("it is open");
    client.bytes(6) == b"answer"
}

#[test]
fn nobody_is_connected_to_for_a_client_that_says_nothing() {
    let authority = TestAuthority::new();
    let (site, listener) =
        site(&authority, |settings| settings.timeouts.first_byte = Some(Duration::from_millis(80)));
    let mut silent: Vec<_> = (0..5).map(|_| site.connect()).collect();
    for stream in &mut silent {
        assert_eq!(stream.rest().unwrap(), b"", "it is closed when its time is over");
    }
    site.wait_until_empty();
    let counters = &site.balancer().shared().counters;
    assert_eq!(counters.failed_handshakes.load(Relaxed), 5);
    // Who is in time is the first that the server hears of.
    let mut client = End::client(authority.client(), site.connect());
    client.write_all(b"question");
    assert_eq!(listener.accept().bytes(8), b"question");
    assert_eq!(counters.handshakes.load(Relaxed), 1);
}

#[test]
fn more_silent_clients_than_there_may_be_keep_nobody_out() {
    let authority = TestAuthority::new();
    let few = std::num::NonZeroUsize::new(40).unwrap();
    // By itself each of them might take a minute.
    let (site, listener) = site(&authority, |settings| settings.limits.connections = Some(few));
    let crowd: Vec<_> = (0..200)
        .map(|nth| {
            let mut stream = site.connect();
            // Some say nothing, and some begin a greeting that never ends: a record of 512 bytes.
            if nth % 2 == 0 {
                stream.write_all(b"\x16\x03\x01\x02\x00\x01\x00").unwrap();
            }
            stream
        })
        .collect();
    let mut client = End::client(authority.client(), site.connect());
    client.write_all(b"question");
    let mut server = listener.accept();
    assert_eq!(server.bytes(8), b"question");
    // Who has introduced itself gives way to nobody.
    for _ in 0..3 {
        let mut next = End::client(authority.client(), site.connect());
        next.write_all(b"question");
        assert_eq!(listener.accept().bytes(8), b"question");
    }
    server.write_all(b"answer").unwrap();
    assert_eq!(client.bytes(6), b"answer");
    assert!(site.balancer().shared().counters.failed_handshakes.load(Relaxed) > 0);
    drop((crowd, client));
    site.wait_until_empty();
}

#[test]
fn more_silent_clients_than_may_be_pending_keep_nobody_out() {
    let authority = TestAuthority::new();
    let few = std::num::NonZeroUsize::new(3).unwrap();
    let (site, listener) = site(&authority, |settings| settings.limits.pending = few);
    let silent: Vec<_> = (0..20).map(|_| site.connect()).collect();
    let mut client = End::client(authority.client(), site.connect());
    client.write_all(b"question");
    assert_eq!(listener.accept().bytes(8), b"question");
    drop((silent, client));
    site.wait_until_empty();
}

#[test]
fn who_speaks_no_tls_is_told_and_counted() {
    let authority = TestAuthority::new();
    let (site, _listener) = site(&authority, |_| {});
    for words in
        [&b"GET / HTTP/1.1\r\nHost: pen.test\r\n\r\n"[..], b"\x16\x03\x01\x00\x05hello", b"x"]
    {
        let mut client = site.connect();
        client.write_all(words).unwrap();
        client.finish();
        let said = client.rest().unwrap();
        // An alert of TLS, if there was anything to complain of.
        assert!(said.is_empty() || said[0] == 0x15, "{said:?}");
        site.wait_until_empty();
    }
    assert_eq!(site.balancer().shared().counters.failed_handshakes.load(Relaxed), 3);
}

#[test]
fn clients_need_a_certificate_only_where_that_is_said() {
    let authority = TestAuthority::new();
    authority.certify("visitor", "visitor.test");
    let other_authority = TestAuthority::new();
    other_authority.certify("visitor", "visitor.test");
    let mixed = || {
        // Trusts the authority, and shows what another authority has signed.
        std::fs::copy(other_authority.path("visitor.crt"), authority.path("other_authority.crt"))
            .unwrap();
        std::fs::copy(other_authority.path("visitor.key"), authority.path("other_authority.key"))
            .unwrap();
        authority.client_with_certificate("other_authority")
    };
    for (clients, without, with, strange) in [
        (ClientCertificates::None, true, true, true),
        (ClientCertificates::Optional, true, true, false),
        (ClientCertificates::Required, false, true, false),
    ] {
        for (config, expected, who) in [
            (authority.client(), without, "without"),
            (authority.client_with_certificate("visitor"), with, "with"),
            (mixed(), strange, "strange"),
        ] {
            let (site, listener) = site(&authority, |settings| {
                settings.tls.clients = clients;
                settings.tls.ca_file = Some(authority.path("ca.pem"));
            });
            assert_eq!(gets_through(&site, &listener, config), expected, "{clients:?}, {who}");
        }
    }
}

#[test]
fn a_certificate_that_was_revoked_opens_no_door() {
    let authority = TestAuthority::new();
    authority.certify("good", "visitor.test");
    authority.certify("lost", "visitor.test");
    authority.revoke(&["lost", "pen"]);
    for (revoked, file, expected) in
        [(false, "lost", true), (true, "lost", false), (true, "good", true)]
    {
        let (site, listener) = site(&authority, |settings| {
            settings.tls.clients = ClientCertificates::Required;
            settings.tls.ca_file = Some(authority.path("ca.pem"));
            settings.tls.revoked = revoked.then(|| authority.path("revoked.pem"));
        });
        let found = gets_through(&site, &listener, authority.client_with_certificate(file));
        assert_eq!(found, expected, "{revoked}, {file}");
    }
    // The same for servers.
    authority.certify("other", HOST);
    for (file, expected) in [("pen", 1), ("other", 0)] {
        let listener = Listener::tcp();
        let mut settings = over(&[&listener.endpoint()]);
        authority.trust(&mut settings, ServerTls::Verified);
        settings.tls.revoked = Some(authority.path("revoked.pem"));
        let site = Site::start(settings);
        let mut client = site.connect();
        let server = End::serving(authority.server_with_certificate(file), listener.accept());
        let counters = &site.balancer().shared().counters;
        match server {
            Ok(mut server) if expected == 0 => {
                server.write_all(b"hello");
                assert_eq!(client.bytes(5), b"hello");
            }
            // In TLS 1.3 it may only hear of it afterwards.
            _ => assert!(client.rest().is_err()),
        }
        assert_eq!(counters.failed_attempts.load(Relaxed), expected, "{file}");
    }
}

#[test]
fn old_versions_are_refused_where_that_is_said() {
    let authority = TestAuthority::new();
    for (oldest, versions, expected) in [
        (TlsVersion::V1_2, &[&TLS12][..], Some(ProtocolVersion::TLSv1_2)),
        (TlsVersion::V1_2, &[&TLS13, &TLS12][..], Some(ProtocolVersion::TLSv1_3)),
        (TlsVersion::V1_3, &[&TLS12][..], None),
        (TlsVersion::V1_3, &[&TLS13][..], Some(ProtocolVersion::TLSv1_3)),
    ] {
        let (site, _listener) = site(&authority, |settings| settings.tls.oldest = oldest);
        let client = End::asking(authority.client_with_versions(versions), HOST, site.connect());
        let spoken = client.ok().and_then(|client| client.tls().protocol_version());
        assert_eq!(spoken, expected, "{oldest:?} {versions:?}");
    }
}

#[test]
fn the_protocol_that_is_agreed_on_is_that_of_the_server_too() {
    let authority = TestAuthority::new();
    let listener = Listener::tcp();
    let mut settings = over(&[&listener.endpoint()]);
    authority.serve(&mut settings);
    authority.trust(&mut settings, ServerTls::Verified);
    settings.tls.alpn = vec!["h2".to_owned(), "http/1.1".to_owned()];
    let site = Site::start(settings);
    let mut at_server = ServerConfig::clone(&authority.server());
    at_server.alpn_protocols = vec![b"http/1.1".to_vec(), b"h2".to_vec()];
    let at_server = Arc::new(at_server);
    for (offered, agreed) in [
        (&["http/1.1"][..], Some(&b"http/1.1"[..])),
        (&["http/1.1", "h2"][..], Some(b"h2")),
        (&[][..], None),
    ] {
        let mut config = ClientConfig::clone(&authority.client());
        config.alpn_protocols = offered.iter().map(|it| it.as_bytes().to_vec()).collect();
        let client = End::client(Arc::new(config), site.connect());
        let server = End::server(at_server.clone(), listener.accept());
        assert_eq!(client.tls().alpn_protocol(), agreed, "{offered:?}");
        assert_eq!(server.tls().alpn_protocol(), agreed, "{offered:?}");
    }
    let mut config = ClientConfig::clone(&authority.client());
    config.alpn_protocols = vec![b"smtp".to_vec()];
    assert!(End::asking(Arc::new(config), HOST, site.connect()).is_err());
}

#[test]
fn http_mode_tells_servers_that_the_client_came_in_tls() {
    let authority = TestAuthority::new();
    let (site, listener) = site(&authority, |settings| settings.http = Some(ForwardedFor::Replace));
    let mut client = End::client(authority.client(), site.connect());
    client.write_all(b"GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-Proto: http\r\n\r\n");
    client.finish();
    let asked = String::from_utf8(listener.accept().rest().unwrap()).unwrap();
    assert!(asked.contains("X-Forwarded-For: 127.0.0.1\r\n"), "{asked}");
    assert!(asked.contains("X-Forwarded-Proto: https\r\n"), "{asked}");
    assert_eq!(asked.matches("Proto").count(), 1, "{asked}");
}

#[test]
fn a_client_that_comes_back_needs_no_whole_handshake() {
    let authority = TestAuthority::new();
    let (site, listener) = site(&authority, |_| {});
    let config = authority.client();
    let kinds: Vec<_> = (0..3)
        .map(|_| {
            let mut client = End::client(config.clone(), site.connect());
            let mut server = listener.accept();
            // The tickets come with the first bytes.
            server.write_all(b"answer").unwrap();
            assert_eq!(client.bytes(6), b"answer");
            client.tls().handshake_kind()
        })
        .collect();
    let (full, resumed) = (rustls::HandshakeKind::Full, rustls::HandshakeKind::Resumed);
    assert_eq!(kinds, [Some(full), Some(resumed), Some(resumed)]);
}

#[test]
fn a_server_has_to_prove_its_name_and_the_next_one_is_tried_if_it_cannot() {
    let authority = TestAuthority::new();
    authority.certify("other", "other.test");
    let other_authority = TestAuthority::new();
    for (servers, first, reached) in [
        (ServerTls::Verified, authority.server(), 0),
        (ServerTls::Verified, authority.server_with_certificate("other"), 1),
        (ServerTls::Verified, other_authority.server(), 1),
        (ServerTls::Unverified, other_authority.server(), 0),
    ] {
        let listeners = [Listener::tcp(), Listener::tcp()];
        let mut settings = one_after_the_other(&listeners);
        authority.trust(&mut settings, servers);
        let site = Site::start(settings);
        let mut client = site.connect();
        client.write_all(b"question").unwrap();
        if reached == 1 {
            assert!(gave_up(End::serving(first, listeners[0].accept())));
        } else {
            let mut server = End::server(first, listeners[0].accept());
            assert_eq!(server.bytes(8), b"question");
            continue;
        }
        // The client notices nothing.
        let mut server = End::server(authority.server(), listeners[1].accept());
        assert_eq!(server.bytes(8), b"question");
        server.write_all(b"answer");
        assert_eq!(client.bytes(6), b"answer");
        assert_eq!(site.balancer().shared().counters.failovers.load(Relaxed), 1);
    }
}

#[test]
fn a_server_that_does_not_speak_tls_is_given_up_in_time() {
    let authority = TestAuthority::new();
    let listeners = [Listener::tcp(), Listener::tcp()];
    let mut settings = one_after_the_other(&listeners);
    authority.trust(&mut settings, ServerTls::Verified);
    settings.timeouts.connect = Duration::from_millis(100);
    let site = Site::start(settings);
    let mut client = site.connect();
    client.write_all(b"question").unwrap();
    // It accepts, and says nothing.
    let _deaf = listeners[0].accept();
    let mut server = End::server(authority.server(), listeners[1].accept());
    assert_eq!(server.bytes(8), b"question");
}

/// The second one gets those that the first one cannot have.
fn one_after_the_other(listeners: &[Listener; 2]) -> RuntimeSettings {
    let [a, b] = listeners.each_ref().map(Listener::endpoint);
    let mut settings = over(&[&a, &b]);
    settings.modes.set(SelectionMode::Prio, true);
    settings.servers[1].iter_mut().for_each(|server| server.prio = 1);
    settings
}

/// Whether the client gave up, as the server sees it. In TLS 1.3 a server is done before it knows what
/// the client thinks of its certificate.
fn gave_up(handshake: std::io::Result<End>) -> bool {
    handshake.is_err() || handshake.is_ok_and(|mut end| end.rest().is_err())
}
