use std::collections::HashSet;
use std::fs;
use std::path::Path;
use std::time::{Duration, SystemTime};

use pen_testing::TempFolder;
use pen_testing::certificates::TestAuthority;
use rcgen::{CertificateParams, DnType, ExtendedKeyUsagePurpose, SanType, date_time_ymd};

use super::raw_tests::{Known, Served, key, talk};
use super::*;
use crate::client::StreamError;

/// The name of the collector, and of the sender.
const LOGHOST: &str = "loghost.example";
const WEB: &str = "web7.example";

fn files(authority: &TestAuthority, file: &str, accepts: &Path) -> CertificateFiles {
    CertificateFiles {
        certificate: authority.path(&format!("{file}.crt")),
        key: authority.path(&format!("{file}.key")),
        authority: accepts.to_owned(),
        revoked: None,
    }
}

fn collector(files: &CertificateFiles, known: &[&str]) -> CollectorTls {
    let known = known.iter().map(|name| name.parse().unwrap()).collect();
    let known: Arc<dyn KnownSenders> = Arc::new(Known(known));
    CollectorTls::new(None, Some(&files.read().unwrap()), &known).unwrap()
}

fn sender(files: CertificateFiles, name: &str) -> SenderTls {
    SenderTls::with_certificate(files, name).unwrap()
}

/// An authority with certificates of a collector and a sender.
fn authority() -> TestAuthority {
    let authority = TestAuthority::new();
    authority.certify("loghost", LOGHOST);
    authority.certify("web", WEB);
    authority
}

/// Lets the sender with the certificate `web` send to the collector with the certificate `loghost`.
fn exchange(
    authority: &TestAuthority,
    (web, loghost): (&str, &str),
    known: &str,
) -> (Result<Vec<u8>, StreamError>, Served) {
    let ca = authority.path("ca.pem");
    let collector = collector(&files(authority, loghost, &ca), &[known]);
    talk(Some(sender(files(authority, web, &ca), LOGHOST)), Some(collector))
}

#[test]
fn both_ends_know_each_other_by_their_certificates() {
    let (replied, served) = exchange(&authority(), ("web", "loghost"), "cert:WEB7.example");
    assert_eq!(replied.unwrap(), b"a reply");
    let expected = format!("cert:{WEB}").parse().unwrap();
    assert_eq!(served.unwrap(), (vec![7; 40_000], Some(vec![expected])));
}

/// What a case changes in a certificate.
type Change = fn(&mut CertificateParams);

#[test]
fn a_certificate_that_is_not_right_is_refused_and_both_ends_say_why() {
    let none: Change = |_| ();
    let expired: Change = |it| it.not_after = date_time_ymd(2024, 2, 29);
    let future: Change = |it| it.not_before = date_time_ymd(2999, 1, 1);
    let server: Change = |it| it.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let client: Change = |it| it.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    let wildcard: Change =
        |it| it.subject_alt_names = vec![SanType::DnsName("*.example".try_into().unwrap())];
    let nameless: Change = |it| {
        it.subject_alt_names = Vec::new();
        it.distinguished_name.push(DnType::CommonName, WEB);
    };
    let address: Change = |it| {
        it.subject_alt_names = vec![SanType::IpAddress("10.0.0.5".parse().unwrap())];
    };
    let other: Change =
        |it| it.subject_alt_names = vec![SanType::DnsName("db1.example".try_into().unwrap())];
    for (web, loghost, at_collector, at_sender) in [
        (
            expired,
            none,
            "the certificate 'web7.example' has ended on 2024-02-29 00:00 UTC: renew it",
            "web.crt has ended on 2024-02-29 00:00 UTC: renew it",
        ),
        (
            future,
            none,
            "the certificate 'web7.example' is valid from 2999-01-01 00:00 UTC on only",
            "web.crt is valid from 2999-01-01 00:00 UTC on only: is the clock right?",
        ),
        (
            server,
            none,
            "the certificate 'web7.example' is not for clients",
            "web.crt is not for clients",
        ),
        (
            other,
            none,
            "unknown certificate 'db1.example'",
            "add cert:db1.example to the file of --authorized there",
        ),
        (
            wildcard,
            none,
            "unknown certificate without a DNS name",
            "web.crt has no subject alternative name",
        ),
        (
            nameless,
            none,
            "unknown certificate without a DNS name (subject alternative name); its common name does not count",
            "web.crt has no subject alternative name",
        ),
        (
            address,
            none,
            "unknown certificate without a DNS name",
            "web.crt has no subject alternative name",
        ),
        (
            none,
            expired,
            "it has ended, or is not valid yet",
            "the collector's certificate has ended on 2024-02-29 00:00 UTC: renew it",
        ),
        (none, client, "it is not for servers", "the collector's certificate is not for servers"),
        (
            none,
            other,
            "expects another name",
            "the collector's certificate is not for loghost.example, but for db1.example (see --collector-name)",
        ),
    ] {
        let authority = TestAuthority::new();
        authority.certify_changed("loghost", LOGHOST, loghost);
        authority.certify_changed("web", WEB, web);
        let (replied, served) = exchange(&authority, ("web", "loghost"), &format!("cert:{WEB}"));
        let (collector, sender) =
            (served.unwrap_err().to_string(), replied.unwrap_err().to_string());
        assert!(collector.contains(at_collector), "{at_collector}: {collector}");
        assert!(sender.contains(at_sender), "{at_sender}: {sender}");
    }
}

#[test]
fn a_certificate_of_another_authority_is_refused_on_either_side() {
    let (ours, theirs) = (authority(), authority());
    let (our_ca, their_ca) = (ours.path("ca.pem"), theirs.path("ca.pem"));
    let known = format!("cert:{WEB}");
    // Each sender trusts the collector.
    let (replied, served) = talk(
        Some(sender(files(&theirs, "web", &our_ca), LOGHOST)),
        Some(collector(&files(&ours, "loghost", &our_ca), &[&known])),
    );
    let said = served.unwrap_err().to_string();
    assert!(said.contains("'web7.example' is not signed by an authority of --authority"), "{said}");
    let said = replied.unwrap_err().to_string();
    assert!(said.contains("does not know the authority that signed"), "{said}");
    // The collector would accept the sender.
    let (replied, served) = talk(
        Some(sender(files(&ours, "web", &our_ca), LOGHOST)),
        Some(collector(&files(&theirs, "loghost", &their_ca), &[&known])),
    );
    let said = served.unwrap_err().to_string();
    assert!(said.contains("does not know the authority that signed it"), "{said}");
    let said = replied.unwrap_err().to_string();
    assert!(said.contains("is that your collector?"), "{said}");
}

#[test]
fn two_authorities_in_a_file_both_count() {
    let (ours, theirs) = (authority(), authority());
    let both = [&ours, &theirs].map(|it| fs::read_to_string(it.path("ca.pem")).unwrap()).concat();
    fs::write(ours.path("both.pem"), both).unwrap();
    let both = ours.path("both.pem");
    for web in [&ours, &theirs] {
        let collector = collector(&files(&ours, "loghost", &both), &[&format!("cert:{WEB}")]);
        let (replied, _) = talk(Some(sender(files(web, "web", &both), LOGHOST)), Some(collector));
        assert_eq!(replied.unwrap(), b"a reply");
    }
}

#[test]
fn a_certificate_between_belongs_into_the_file() {
    let authority = authority();
    authority.certify_by_another("whole", WEB, true);
    authority.certify_by_another("cut", WEB, false);
    authority.certify_by_another("whole-loghost", LOGHOST, true);
    let known = format!("cert:{WEB}");
    let (replied, _) = exchange(&authority, ("whole", "whole-loghost"), &known);
    assert_eq!(replied.unwrap(), b"a reply");
    let (replied, _) = exchange(&authority, ("cut", "loghost"), &known);
    let said = replied.unwrap_err().to_string();
    assert!(said.contains("or a certificate between the two is missing in"), "{said}");
}

#[test]
fn a_revoked_certificate_is_refused() {
    let authority = authority();
    authority.certify("other", "db1.example");
    authority.revoke(&["web"]);
    let ca = authority.path("ca.pem");
    let revoked = Some(authority.path("revoked.pem"));
    let loghost = CertificateFiles { revoked, ..files(&authority, "loghost", &ca) };
    let collector = collector(&loghost, &[&format!("cert:{WEB}"), "cert:db1.example"]);
    let talk_as =
        |file| talk(Some(sender(files(&authority, file, &ca), LOGHOST)), Some(collector.clone()));
    let (replied, served) = talk_as("web");
    let said = served.unwrap_err().to_string();
    assert!(said.contains("'web7.example' is revoked by a list of --revoked"), "{said}");
    assert!(replied.unwrap_err().to_string().contains("has a list by which the certificate"));
    assert_eq!(talk_as("other").0.unwrap(), b"a reply");
}

#[test]
fn one_collector_takes_keys_and_certificates() {
    let (authority, folder) = (authority(), TempFolder::new());
    let ca = authority.path("ca.pem");
    let (own, web_key, other) = (key(&folder, "own"), key(&folder, "web"), key(&folder, "other"));
    let listed = [Identity::Key(web_key.public()), format!("cert:{WEB}").parse().unwrap()];
    let known: Arc<dyn KnownSenders> = Arc::new(Known(HashSet::from(listed.clone())));
    let certificate = files(&authority, "loghost", &ca).read().unwrap();
    let both = CollectorTls::new(Some(&own), Some(&certificate), &known).unwrap();
    let by_key = |key| SenderTls::with_key(key, own.public()).unwrap();
    let by_certificate = || sender(files(&authority, "web", &ca), LOGHOST);
    for (tls, expected) in [(by_key(&web_key), &listed[0]), (by_certificate(), &listed[1])] {
        let (replied, served) = talk(Some(tls), Some(both.clone()));
        assert_eq!(replied.unwrap(), b"a reply");
        assert_eq!(served.unwrap().1, Some(vec![expected.clone()]));
    }
    let (_, served) = talk(Some(by_key(&other)), Some(both));
    assert!(served.unwrap_err().to_string().starts_with("unknown key"));
    // With one kind only, senders of the other kind are told.
    let certificates = CollectorTls::new(None, Some(&certificate), &known).unwrap();
    let (replied, served) = talk(Some(by_key(&web_key)), Some(certificates));
    assert!(served.unwrap_err().to_string().contains("takes certificates only"));
    assert!(replied.unwrap_err().to_string().contains("takes certificates only"));
    let keys = CollectorTls::new(Some(&own), None, &known).unwrap();
    let (replied, served) = talk(Some(by_certificate()), Some(keys));
    assert!(served.unwrap_err().to_string().contains("no key of the kind"));
    assert!(replied.unwrap_err().to_string().contains("takes keys only"));
}

#[test]
fn a_collector_may_be_known_by_its_address() {
    let authority = authority();
    authority.certify("addressed", "127.0.0.1");
    let ca = authority.path("ca.pem");
    for (name, is_right) in [("127.0.0.1", true), ("127.0.0.2", false), ("[::1]", false)] {
        let collector = collector(&files(&authority, "addressed", &ca), &[&format!("cert:{WEB}")]);
        let (replied, _) = talk(Some(sender(files(&authority, "web", &ca), name)), Some(collector));
        assert_eq!(replied.is_ok(), is_right, "{name}");
    }
}

#[test]
fn files_that_make_no_pair_or_are_none_are_refused_with_their_names() {
    let authority = authority();
    authority.certify("other", "db1.example");
    let folder = authority.folder();
    let write = |name: &str, text: &str| {
        use std::os::unix::fs::PermissionsExt as _;
        fs::write(folder.join(name), text).unwrap();
        fs::set_permissions(folder.join(name), fs::Permissions::from_mode(0o600)).unwrap();
    };
    write("empty", "");
    write("junk", "-----BEGIN CERTIFICATE-----\n!!!\n-----END CERTIFICATE-----\n");
    write("no-der", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n");
    write("cut", "-----BEGIN PRIVATE KEY-----\nAAAA\n");
    write(
        "locked",
        "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n",
    );
    let key = fs::read_to_string(folder.join("web.key")).unwrap();
    fs::write(folder.join("open.key"), key).unwrap();
    for (certificate, key, ca, expected) in [
        ("web.crt", "other.key", "ca.pem", "other.key: expected the key that belongs to"),
        ("empty", "web.key", "ca.pem", "empty: expected a certificate in PEM form, found none"),
        ("junk", "web.key", "ca.pem", "junk: expected PEM"),
        ("no-der", "web.key", "ca.pem", "no-der: expected a certificate of X.509"),
        ("web.key", "web.key", "ca.pem", "web.key: expected a certificate in PEM form"),
        ("missing", "web.key", "ca.pem", "missing: No such file"),
        ("web.crt", "empty", "ca.pem", "empty: expected a private key in PEM form, found none"),
        ("web.crt", "cut", "ca.pem", "cut: expected a private key in PEM form"),
        ("web.crt", "locked", "ca.pem", "locked: expected a key without a passphrase"),
        (
            "web.crt",
            "open.key",
            "ca.pem",
            "open.key: others than its owner can use the private key",
        ),
        ("web.crt", "web.key", "empty", "empty: expected certificates of authorities"),
        ("web.crt", "web.key", "no-der", "no-der: expected authorities"),
        ("web.crt", "web.key", "missing", "missing: No such file"),
    ] {
        let path = |name: &str| folder.join(name);
        let (certificate, key, authority) = (path(certificate), path(key), path(ca));
        let files = CertificateFiles { certificate, key, authority, revoked: None };
        let error = files.read().unwrap_err().to_string();
        assert!(error.contains(expected), "{expected}: {error}");
    }
    let name = SenderTls::with_certificate(
        files(&authority, "web", &authority.path("ca.pem")),
        "no such name",
    );
    assert!(name.unwrap_err().to_string().contains("--collector-name"));
}

#[test]
fn a_renewed_certificate_is_used_for_the_next_connection_and_a_mistake_keeps_the_old_one() {
    let authority = authority();
    authority.certify_changed("short", WEB, |it| it.not_after = date_time_ymd(2024, 2, 29));
    let ca = authority.path("ca.pem");
    let mut sender = sender(files(&authority, "short", &ca), LOGHOST);
    let copy = |what: &str, file: &str| {
        fs::copy(authority.path(what), authority.path(file)).unwrap();
    };
    let collector = collector(&files(&authority, "loghost", &ca), &[&format!("cert:{WEB}")]);
    // Half of a renewal.
    copy("web.crt", "short.crt");
    sender.connect([127, 0, 0, 1].into()).unwrap();
    let (replied, _) = talk(Some(sender.clone()), Some(collector.clone()));
    let said = replied.unwrap_err().to_string();
    assert!(said.contains("has ended on 2024-02-29"), "{said}");
    assert!(said.contains("are not used: ") && said.contains("expected the key that"), "{said}");
    copy("web.key", "short.key");
    let (replied, _) = talk(Some(sender), Some(collector));
    assert_eq!(replied.unwrap(), b"a reply");
}

#[test]
fn what_a_collector_admits_no_more_can_be_asked_of_a_connection() {
    let authority = authority();
    let ca = authority.path("ca.pem");
    let loghost = files(&authority, "loghost", &ca);
    let before = collector(&loghost, &[&format!("cert:{WEB}")]);
    let presented = files(&authority, "web", &ca).read().unwrap();
    let presented = presented.own_chain();
    let proof = SenderProof::Certificate(Arc::default());
    assert!(before.admits(&proof, presented));
    assert!(!collector(&loghost, &["cert:db1.example"]).admits(&proof, presented));
    let others = TestAuthority::new();
    let other = files(&authority, "loghost", &others.path("ca.pem"));
    assert!(!collector(&other, &[&format!("cert:{WEB}")]).admits(&proof, presented));
    assert!(!before.admits(&SenderProof::Key, presented));
    assert!(!before.admits(&proof, &[]));
}

#[test]
fn the_end_of_a_certificate_is_said_two_weeks_before() {
    let authority = TestAuthority::new();
    authority.certify_changed("long", WEB, |it| {
        it.not_before = date_time_ymd(2026, 1, 1);
        it.not_after = date_time_ymd(2026, 4, 1);
    });
    authority.certify_changed("short", WEB, |it| {
        it.not_before = date_time_ymd(2026, 3, 29);
        it.not_after = date_time_ymd(2026, 4, 1);
    });
    // 2026-04-01, as `date -u -d DAY +%s` has it.
    let end = SystemTime::UNIX_EPOCH + Duration::from_secs(1_775_001_600);
    let hours = |hours: u64| Duration::from_secs(hours * 3_600);
    for (file, at, expected) in [
        ("long", end - hours(15 * 24), None),
        ("long", end - hours(13 * 24), Some("ends on 2026-04-01 00:00 UTC: renew it")),
        ("long", end + hours(1), Some("has ended on 2026-04-01 00:00 UTC: renew it")),
        ("long", end - hours(100 * 24), Some("is valid from 2026-01-01 00:00 UTC on only")),
        ("short", end - hours(30), None),
        ("short", end - hours(20), Some("ends on 2026-04-01 00:00 UTC: renew it")),
    ] {
        let loaded = files(&authority, file, &authority.path("ca.pem")).read().unwrap();
        let remark = loaded.remark_at(at);
        assert_eq!(remark.is_some(), expected.is_some(), "{file}: {remark:?}");
        let remark = remark.unwrap_or_default();
        assert!(remark.contains(expected.unwrap_or_default()), "{file}: {remark}");
    }
}
