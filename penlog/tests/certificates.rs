//! The shipper and a real collector, by certificates of an authority.

mod support;

use std::fs;
use std::io::Write as _;
use std::net::SocketAddr;
use std::process::{Command, Stdio};

use nix::sys::signal::Signal;
use nix::unistd::Uid;
use pen_records::frames::write_frame;
use pen_records::shipment::{SendStamp, SenderOrigin, ShipmentServer, ShipmentWriter};
use pen_records::time::Timestamp;
use pen_testing::certificates::TestAuthority;
use pen_testing::program::{require_installed, run_to_end, sibling};
use pen_testing::{Program, TempFolder, free_port};
use support::RunningShipper;
use support::collector::{
    collector_with, line, numbers, report, ship_through_a_kill, wait_for_lines,
};

/// An authority, certificates of a collector and of shippers, and the file that lists the shippers.
struct Certificates(TestAuthority);

const LISTED: &str = "cert:web5.example lines 127.0.0.5:80 # web5\ncert:web6.example lines *\n";

impl Certificates {
    fn new() -> Self {
        let this = Self(TestAuthority::new());
        for (file, name) in [
            ("loghost", "loghost.example"),
            ("web5", "web5.example"),
            ("web6", "web6.example"),
            ("web7", "web7.example"),
        ] {
            this.0.certify(file, name);
        }
        this.authorize(LISTED);
        this
    }

    fn authorize(&self, text: &str) {
        fs::write(self.0.path("authorized"), text).expect("the folder takes it");
    }

    fn path(&self, name: &str) -> String {
        self.0.path(name).to_str().expect("UTF-8").to_owned()
    }

    fn collector(&self, folder: &TempFolder, addr: SocketAddr) -> Program {
        let [certificate, key, authority, authorized] =
            ["loghost.crt", "loghost.key", "ca.pem", "authorized"].map(|name| self.path(name));
        collector_with(
            folder,
            addr,
            &[
                "--certificate",
                &certificate,
                "--key",
                &key,
                "--authority",
                &authority,
                "--authorized",
                &authorized,
            ],
        )
    }

    /// Starts a shipper with a certificate, to a collector with this name; `None`: the host of its command line.
    fn shipper(
        &self,
        addr: SocketAddr,
        name: &str,
        collector: Option<&str>,
        more: &[&str],
    ) -> RunningShipper {
        let [certificate, key, authority] =
            [format!("{name}.crt"), format!("{name}.key"), "ca.pem".to_owned()]
                .map(|name| self.path(&name));
        let own = ["--certificate", &certificate, "--key", &key, "--authority", &authority];
        let collector = collector.map(|name| ["--collector-name", name]);
        let args: Vec<_> =
            own.iter().chain(collector.iter().flatten()).chain(more).copied().collect();
        RunningShipper::to(addr, &args)
    }
}

const LOGHOST: Option<&str> = Some("loghost.example");

#[test]
fn with_certificates_lines_arrive_by_tls_whatever_becomes_of_the_collector() {
    let (all, folder, addr) = (Certificates::new(), TempFolder::new(), free_port([127, 0, 0, 1]));
    let ship = || all.shipper(addr, "web5", LOGHOST, &["--server", "127.0.0.5:80"]);
    ship_through_a_kill(&folder, || all.collector(&folder, addr), ship);
}

#[test]
fn a_certificate_speaks_for_its_own_servers_only_and_an_unknown_one_gets_nowhere() {
    let (all, folder, addr) = (Certificates::new(), TempFolder::new(), free_port([127, 0, 0, 1]));
    let collector = all.collector(&folder, addr);
    let mut other = all.shipper(addr, "web5", LOGHOST, &["--server", "127.0.0.6:80"]);
    other.stdin().write_all(&line(1)).unwrap();
    collector
        .wait_for_any_message("the sender web5 may not send lines of the server 127.0.0.6:80")
        .unwrap();
    let mut unknown = all.shipper(addr, "web7", LOGHOST, &["--server", "127.0.0.5:80"]);
    unknown.stdin().write_all(&line(2)).unwrap();
    let said = unknown.says("does not know this program's certificate");
    assert!(said.contains("add cert:web7.example to the file of --authorized there"), "{said}");
    collector.wait_for_any_message("unknown certificate 'web7.example'").unwrap();
    let mut misled = all.shipper(addr, "web5", Some("db1.example"), &[]);
    misled.stdin().write_all(&line(3)).unwrap();
    misled.says("is not for db1.example, but for loghost.example");
    // Without a name, that is the host of the command line.
    let mut lost = all.shipper(addr, "web5", None, &[]);
    lost.stdin().write_all(&line(3)).unwrap();
    lost.says("is not for 127.0.0.1, but for loghost.example");
    assert_eq!(numbers(&folder).len(), 0);
    // They would try for a while to send their lines.
    [other, unknown, misled, lost].into_iter().for_each(RunningShipper::kill);
}

#[test]
fn a_reload_reads_renewed_certificates_and_cuts_off_who_is_gone() {
    let (all, folder, addr) = (Certificates::new(), TempFolder::new(), free_port([127, 0, 0, 1]));
    let collector = all.collector(&folder, addr);
    let mut penlog = all.shipper(addr, "web5", LOGHOST, &["--server", "127.0.0.5:80"]);
    let mut input = penlog.stdin();
    input.write_all(&line(1)).unwrap();
    wait_for_lines(&folder, 1);
    // Half of a renewal keeps what was read before.
    let old = fs::read(all.path("loghost.crt")).unwrap();
    all.0.certify("loghost", "renewed.example");
    let new = fs::read(all.path("loghost.crt")).unwrap();
    fs::write(all.path("loghost.crt"), old).unwrap();
    collector.signal(Signal::SIGHUP).unwrap();
    let said = collector.wait_for_message("stay as they were").unwrap();
    assert!(said.contains("loghost.key: expected the key that belongs to"), "{said}");
    input.write_all(&line(2)).unwrap();
    wait_for_lines(&folder, 2);
    // The whole of it. Open connections stay.
    fs::write(all.path("loghost.crt"), new).unwrap();
    collector.signal(Signal::SIGHUP).unwrap();
    collector.wait_for_message("2 certificates in").unwrap();
    input.write_all(&line(3)).unwrap();
    wait_for_lines(&folder, 3);
    let mut late = all.shipper(addr, "web6", Some("renewed.example"), &["--server", "127.0.0.6"]);
    let mut late_input = late.stdin();
    late_input.write_all(&line(4)).unwrap();
    wait_for_lines(&folder, 4);
    // A name that is gone is cut off, the other one stays.
    all.authorize("cert:web6.example lines *\n");
    collector.signal(Signal::SIGHUP).unwrap();
    collector.wait_for_message("1 certificates in").unwrap();
    input.write_all(&line(5)).unwrap();
    penlog.says("is not for loghost.example, but for renewed.example");
    late_input.write_all(&line(6)).unwrap();
    wait_for_lines(&folder, 5);
    // An authority that counts no more is cut off with all its certificates.
    fs::copy(TestAuthority::new().path("ca.pem"), all.path("ca.pem")).unwrap();
    collector.signal(Signal::SIGHUP).unwrap();
    collector.wait_for_message("1 certificates in").unwrap();
    late_input.write_all(&line(7)).unwrap();
    late.says("cannot reach");
    assert_eq!(numbers(&folder).len(), 5);
}

#[test]
fn keys_and_certificates_come_in_by_one_port() {
    let (all, folder, addr) = (Certificates::new(), TempFolder::new(), free_port([127, 0, 0, 1]));
    let keygen = |path: &str| {
        let mut command = Command::new(sibling("penlogd").expect("it is built"));
        let made = run_to_end(command.arg("keygen").arg(path)).expect("a key is made");
        String::from_utf8(made).expect("a key is text").trim_end().to_owned()
    };
    let (own, web) = (all.path("own"), all.path("web"));
    let (public, listed) = (keygen(&own), keygen(&web));
    all.authorize(&format!("{LISTED}{listed} lines *\n"));
    let [certificate, key, authority, authorized] =
        ["loghost.crt", "loghost.key", "ca.pem", "authorized"].map(|name| all.path(name));
    let options = [
        ["--key", &own],
        ["--certificate", &certificate],
        ["--certificate-key", &key],
        ["--authority", &authority],
        ["--authorized", &authorized],
    ];
    let mut collector = collector_with(&folder, addr, &options.concat());
    let mut by_certificate = all.shipper(addr, "web5", LOGHOST, &["--server", "127.0.0.5:80"]);
    by_certificate.feed(&line(1));
    let mut by_key = RunningShipper::to(addr, &["--key", &web, "--collector-key", &public]);
    by_key.feed(&line(2));
    assert!(by_certificate.wait().success() && by_key.wait().success());
    wait_for_lines(&folder, 2);
    assert!(report(&mut collector).contains("\"adds_up\":true"));
}

/// A frame with a shipment of a line.
fn forged() -> Vec<u8> {
    let server = ShipmentServer { addr: "127.0.0.5".parse().ok(), port: Some(80), name: None };
    let origin = SenderOrigin { id: 66, start: Timestamp::from_micros(1) };
    let mut writer = ShipmentWriter::new(origin, server, 1_400);
    let line = line(66);
    let _push = writer.push(line.trim_ascii_end(), None);
    let mut framed = Vec::new();
    let shipment = writer.finish(SendStamp::default(), <[u8]>::to_vec).expect("a shipment");
    assert!(write_frame(&shipment, &mut framed));
    framed
}

/// Sends a frame by `openssl s_client`, and waits until the collector has ended the connection.
fn s_client(addr: SocketAddr, certificate: Option<(&str, &str)>) {
    let mut command = Command::new(require_installed("openssl").expect("it is installed"));
    command.args(["s_client", "-quiet", "-connect", &addr.to_string()]);
    if let Some((certificate, key)) = certificate {
        command.args(["-cert", certificate, "-key", key]);
    }
    let mut client = command
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("openssl starts");
    let mut input = client.stdin.take().expect("it is a pipe");
    // The collector may end the connection first.
    let _ = input.write_all(&forged());
    client.wait().expect("it ends");
    drop(input);
}

#[test]
fn a_stranger_with_openssl_gets_nothing_in() {
    let (all, folder, addr) = (Certificates::new(), TempFolder::new(), free_port([127, 0, 0, 1]));
    let collector = all.collector(&folder, addr);
    let theirs = Certificates::new();
    let pair = |of: &Certificates, name: &str| {
        (of.path(&format!("{name}.crt")), of.path(&format!("{name}.key")))
    };
    let (other, unlisted) = (pair(&theirs, "web5"), pair(&all, "web7"));
    for (certificate, expected) in [
        (None, "the sender has no certificate"),
        (Some(&other), "is not signed by an authority of --authority"),
        (Some(&unlisted), "unknown certificate 'web7.example'"),
    ] {
        let pair = certificate.map(|(certificate, key)| (certificate.as_str(), key.as_str()));
        s_client(addr, pair);
        collector.wait_for_any_message(expected).unwrap();
    }
    assert_eq!(numbers(&folder).len(), 0);
}

#[test]
fn a_certificate_that_has_ended_is_said_at_the_start_on_both_sides() {
    let (all, folder, addr) = (Certificates::new(), TempFolder::new(), free_port([127, 0, 0, 1]));
    let ended = |file: &str, name: &str| {
        all.0.certify_changed(file, name, |it| it.not_after = rcgen::date_time_ymd(2024, 2, 29));
    };
    ended("web5", "web5.example");
    let collector = all.collector(&folder, addr);
    // A user who cannot read the key again would not see that it is renewed.
    let me = Uid::effective().to_string();
    let mut penlog =
        all.shipper(addr, "web5", LOGHOST, &["--server", "127.0.0.5:80", "--user", &me]);
    penlog.says("web5.crt has ended on 2024-02-29 00:00 UTC: renew it");
    let mut input = penlog.stdin();
    input.write_all(&line(1)).unwrap();
    collector
        .wait_for_any_message("the certificate 'web5.example' has ended on 2024-02-29 00:00 UTC")
        .unwrap();
    // A renewed one is used without a restart.
    all.0.certify("web5", "web5.example");
    wait_for_lines(&folder, 1);
    drop(input);
    assert!(penlog.wait().success());
    ended("loghost", "loghost.example");
    collector.signal(Signal::SIGHUP).unwrap();
    collector.wait_for_any_message("loghost.crt has ended on 2024-02-29").unwrap();
    let other = all.collector(&TempFolder::new(), free_port([127, 0, 0, 1]));
    other.wait_for_any_message("loghost.crt has ended on 2024-02-29").unwrap();
}
