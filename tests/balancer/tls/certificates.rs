//! Certificates by name, and new ones in the place of old ones.

use std::fs;
use std::path::Path;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use pen::config::{RuntimeSettings, TlsSettings};
use pen::data::tls::keeper::TlsKeeper;
use pen_testing::certificates::{HOST, TestAuthority, certify, issuer, issuer_params};
use rcgen::{CertifiedIssuer, KeyPair};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;

use super::support::{End, UseCertificates as _, stapled};
use crate::support::{Listener, Site, over, wait_until};

/// Starts a site with a folder of names.
fn site(
    authority: &TestAuthority,
    names: &Path,
    change: impl FnOnce(&mut RuntimeSettings),
) -> (Site, Listener) {
    let listener = Listener::tcp();
    let mut settings = over(&[&listener.endpoint()]);
    authority.serve(&mut settings);
    settings.tls.names = Some(names.to_owned());
    settings.tls.look = Some(Duration::from_millis(20));
    change(&mut settings);
    (Site::start(settings), listener)
}

fn shown(site: &Site, name: &str) -> Vec<CertificateDer<'static>> {
    super::support::shown(name, site.connect())
}

fn read(folder: &Path, file: &str) -> CertificateDer<'static> {
    CertificateDer::from_pem_file(folder.join(file)).expect("it was written")
}

#[test]
fn each_name_gets_its_own_certificate_and_all_others_the_one_for_all() {
    let authority = TestAuthority::new();
    let names = authority.path("names");
    fs::create_dir(&names).unwrap();
    let issuer = issuer("of names");
    for (file, name) in [("a.test", "a.test"), ("B.Test", "b.test"), ("*.c.test", "*.c.test")] {
        certify(&issuer, &names, file, name);
    }
    // The key may stand with its certificate.
    certify(&issuer, &names, "one.test", "one.test");
    let both =
        [names.join("one.test.crt"), names.join("one.test.key")].map(|it| fs::read(it).unwrap());
    fs::write(names.join("one.test.crt"), both.concat()).unwrap();
    fs::remove_file(names.join("one.test.key")).unwrap();
    // Nobody's business.
    fs::write(names.join("README"), "not PEM").unwrap();
    fs::write(names.join(".crt"), "not PEM").unwrap();
    let (site, _listener) = site(&authority, &names, |_| {});
    let health = site.balancer().shared().keeper().health();
    assert_eq!((health.certificates, health.warning), (5, None));
    assert!(health.expires.is_some_and(|(_, end)| end > std::time::SystemTime::now()));
    for (name, file) in [
        ("a.test", "a.test.crt"),
        ("A.TEST", "a.test.crt"),
        ("b.test", "B.Test.crt"),
        ("x.c.test", "*.c.test.crt"),
        ("one.test", "one.test.crt"),
    ] {
        assert_eq!(shown(&site, name), [read(&names, file)], "{name}");
    }
    for name in ["c.test", "x.y.c.test", "unknown.test", "../a.test", "127.0.0.1", HOST] {
        if rustls::pki_types::ServerName::try_from(name).is_ok() {
            assert_eq!(shown(&site, name), [read(authority.folder(), "pen.crt")], "{name}");
        }
    }
}

#[test]
fn a_chain_is_found_among_authorities_and_ends_before_who_vouches_for_himself() {
    let authority = TestAuthority::new();
    let names = authority.path("names");
    fs::create_dir(&names).unwrap();
    let root = issuer("root");
    let below = |name: &str, issuer: &CertifiedIssuer<'static, KeyPair>| {
        CertifiedIssuer::signed_by(issuer_params(name), KeyPair::generate().unwrap(), issuer)
            .unwrap()
    };
    let first = below("first", &root);
    let second = below("second", &first);
    certify(&second, &names, "a.test", "a.test");
    let others = issuer("others");
    let known = [others.pem(), root.pem(), first.pem(), second.pem()].concat();
    fs::write(names.join("a.test.ca"), known).unwrap();
    let (site, _listener) = site(&authority, &names, |_| {});
    let expected = [read(&names, "a.test.crt"), second.der().clone(), first.der().clone()];
    assert_eq!(shown(&site, "a.test"), expected);
}

#[test]
fn new_files_are_taken_up_and_wrong_ones_leave_everything_as_it_was() {
    let authority = TestAuthority::new();
    let names = authority.path("names");
    fs::create_dir(&names).unwrap();
    let issuer = issuer("of names");
    certify(&issuer, &names, "a.test", "a.test");
    let (site, listener) = site(&authority, &names, |_| {});
    // A connection that goes on while certificates change.
    let mut client = End::client(authority.client(), site.connect());
    let mut server = listener.accept();
    let old = shown(&site, "a.test");

    certify(&issuer, &names, "a.test", "a.test");
    certify(&issuer, &names, "b.test", "b.test");
    let new = [read(&names, "a.test.crt")];
    wait_until("the new one is shown", || shown(&site, "a.test") == new);
    assert_ne!(old, new);
    wait_until("a name is new", || shown(&site, "b.test") == [read(&names, "b.test.crt")]);

    fs::write(names.join("a.test.crt"), "no certificate").unwrap();
    fs::remove_file(names.join("b.test.crt")).unwrap();
    wait_until("a name is gone", || {
        shown(&site, "b.test") == [read(authority.folder(), "pen.crt")]
    });
    assert_eq!(shown(&site, "a.test"), new, "the good one stays");
    let trouble = || site.balancer().shared().keeper().health().warning;
    let said = trouble().expect("it is said");
    assert!(said.ends_with("a.test.crt: expected a certificate in PEM form, found none; the certificate that was read before stays in use"), "{said}");

    let before = shown(&site, HOST);
    fs::write(authority.path("pen.crt"), "no certificate").unwrap();
    wait_until("it is said", || trouble().is_some_and(|said| said.contains("pen.crt")));
    assert_eq!(shown(&site, HOST), before);
    authority.certify("pen", HOST);
    wait_until("all is well again", || shown(&site, HOST) == [read(authority.folder(), "pen.crt")]);

    // That connection has noticed nothing.
    client.write_all(b"question");
    assert_eq!(server.bytes(8), b"question");
    std::io::Write::write_all(&mut server, b"answer").unwrap();
    assert_eq!(client.bytes(6), b"answer");
    assert_eq!(site.balancer().shared().counters.failed_handshakes.load(Relaxed), 0);
}

#[test]
fn what_is_wrong_with_files_is_said_with_their_names() {
    let authority = TestAuthority::new();
    authority.certify("other", "other.test");
    fs::write(authority.path("empty"), "").unwrap();
    fs::write(authority.path("text"), "no PEM at all\n").unwrap();
    let locked =
        "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n";
    fs::write(authority.path("locked"), locked).unwrap();
    fs::write(
        authority.path("broken"),
        "-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----\n",
    )
    .unwrap();
    for (certificate, key, ca, expected) in [
        ("gone", None, None, "gone: cannot read it: No such file"),
        ("empty", None, None, "empty: expected a certificate in PEM form, found none"),
        ("text", None, None, "text: expected a certificate in PEM form, found none"),
        ("broken", None, None, "broken: expected PEM"),
        ("pen.crt", None, None, "pen.crt: expected a private key in PEM form, found none"),
        ("pen.crt", Some("gone"), None, "gone: cannot read it"),
        ("pen.crt", Some("locked"), None, "locked: expected a key without a passphrase"),
        ("pen.crt", Some("other.key"), None, "other.key: expected the key that belongs to"),
        ("pen.crt", Some("pen.key"), Some("text"), "text: expected certificates of authorities"),
    ] {
        let settings = TlsSettings {
            certificate: Some(authority.path(certificate)),
            key: key.map(|key| authority.path(key)),
            clients: pen::config::ClientCertificates::Required,
            ca_file: Some(authority.path(ca.unwrap_or("ca.pem"))),
            ..TlsSettings::default()
        };
        let error = TlsKeeper::new(&settings).expect_err(expected).to_string();
        let error =
            error.strip_prefix(&format!("{}/", authority.folder().display())).unwrap_or(&error);
        assert!(error.starts_with(expected), "{error}");
    }
}

#[test]
fn a_staple_is_handed_out_and_a_bad_one_is_left_out_and_said() {
    let authority = TestAuthority::new();
    let names = authority.path("names");
    fs::create_dir(&names).unwrap();
    // Status 0, and response bytes that nobody looks into here.
    let good = [&[0x30, 0x07, 0x0a, 1, 0, 0xa0, 2, 0x05, 0][..]].concat();
    fs::write(authority.path("pen.ocsp"), &good).unwrap();
    let staple = Some(authority.path("pen.ocsp"));
    let (site, _listener) = site(&authority, &names, |settings| settings.tls.staple = staple);
    let handed = || stapled(site.connect());
    assert_eq!(handed(), good);
    // "Try later".
    fs::write(authority.path("pen.ocsp"), [0x30, 3, 0x0a, 1, 3]).unwrap();
    wait_until("it is left out", || handed().is_empty());
    let trouble = site.balancer().shared().keeper().health().warning.expect("it is said");
    assert!(trouble.contains("expected a good OCSP response"), "{trouble}");
}
