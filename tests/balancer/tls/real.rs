//! With the programs that people use: OpenSSL's client, curl, and nginx behind.

use std::fs;
use std::io::Write as _;
use std::net::{Ipv4Addr, SocketAddr};
use std::process::{Child, Command, Stdio};

use nix::sys::signal::Signal;
use pen::config::{Endpoint, LogFormat, LogTarget, ServerTls};
use pen_testing::certificates::{HOST, TestAuthority};
use pen_testing::program::require_installed;
use pen_testing::{Program, free_port};

use super::support::UseCertificates as _;
use crate::support::{Listener, Site, over, pattern, wait_until};

/// nginx, in TLS or not.
struct Web {
    addr: SocketAddr,
    _process: Program,
}

impl Web {
    fn start(authority: &TestAuthority, ssl: bool) -> Self {
        let addr = free_port(Ipv4Addr::LOCALHOST);
        let here = authority.folder().display();
        let (listen, certificate) = if ssl {
            (" ssl", format!("ssl_certificate {here}/pen.crt; ssl_certificate_key {here}/pen.key;"))
        } else {
            ("", String::new())
        };
        let config = authority.path("nginx.conf");
        let text = format!(
            "daemon off; user root; pid {here}/pid; events {{}} error_log {here}/error.log;
http {{
  access_log {here}/seen.log; client_max_body_size 0;
  client_body_temp_path {here}/a; proxy_temp_path {here}/b; fastcgi_temp_path {here}/c;
  uwsgi_temp_path {here}/d; scgi_temp_path {here}/e;
  server {{ listen {addr}{listen}; {certificate} root {here}/www; }}
}}"
        );
        fs::create_dir_all(authority.path("www")).expect("the folder is ours");
        fs::write(authority.path("www/large"), pattern(3_000_000)).expect("the folder is ours");
        fs::write(authority.path("www/small"), "hello").expect("the folder is ours");
        fs::write(&config, text).expect("the folder is ours");
        let mut command = Command::new(require_installed("nginx").expect("it is installed"));
        command.arg("-p").arg(authority.folder()).arg("-c").arg(&config);
        command.arg("-e").arg(authority.path("error.log"));
        let mut process = Program::start("nginx", &mut command).expect("it starts");
        process.wait_for_port(addr).expect("it listens");
        Self { addr, _process: process }
    }
}

fn port(site: &Site) -> u16 {
    let Endpoint::Ip(addr) = site.addr else { panic!("it is TCP") };
    addr.port()
}

fn curl(authority: &TestAuthority, port: u16, words: &[&str]) -> Vec<u8> {
    let output = Command::new(require_installed("curl").expect("it is installed"))
        .args(["--silent", "--show-error", "--max-time", "20", "--cacert"])
        .arg(authority.path("ca.pem"))
        .args(["--resolve", &format!("{HOST}:{port}:127.0.0.1")])
        .args(words)
        .output()
        .expect("it runs");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{words:?}: {said}");
    output.stdout
}

#[test]
fn curl_gets_whole_answers_from_nginx_with_tls_on_either_side() {
    for (clients, servers) in [(true, false), (false, true), (true, true)] {
        let authority = TestAuthority::new();
        let web = Web::start(&authority, servers);
        let mut settings = over(&[&Endpoint::Ip(web.addr)]);
        if clients {
            authority.serve(&mut settings);
        }
        if servers {
            authority.trust(&mut settings, ServerTls::Verified);
        }
        let log = authority.path("pen.log");
        settings.log = Some(LogTarget::File(log.clone()));
        settings.log_format = LogFormat::Classic;
        let site = Site::start(settings);
        let scheme = if clients { "https" } else { "http" };
        let url = |path: &str| format!("{scheme}://{HOST}:{}/{path}", port(&site));
        // The last on the connection of those before, and one of its own that nginx closes.
        let (large, small) = (url("large"), url("small"));
        let all = curl(&authority, port(&site), &[&small, &large, &small]);
        assert!(all == [b"hello", &pattern(3_000_000)[..], b"hello"].concat(), "{scheme}");
        let old = curl(&authority, port(&site), &["--http1.0", "-H", "Connection: close", &large]);
        assert!(old == pattern(3_000_000), "{scheme}, to the end of the stream");
        for version in ["--tlsv1.2", "--tlsv1.3"].iter().filter(|_| clients) {
            let most = version.replace("--tlsv", "");
            let words = [version, "--tls-max", &most, &large];
            assert!(curl(&authority, port(&site), &words) == pattern(3_000_000), "{version}");
        }
        site.wait_until_empty();
        // Nobody was cut, though curl and nginx do not always say goodbye.
        let resets = &site.balancer().shared().counters.resets;
        assert_eq!(resets.load(std::sync::atomic::Ordering::Relaxed), 0);
        // What was asked for is known in any case.
        let lines = || fs::read_to_string(&log).unwrap_or_default();
        let requests = if clients { 6 } else { 4 };
        wait_until("all is noted", || lines().lines().count() == requests);
        assert!(lines().lines().all(|line| line.contains(" GET /")), "{}", lines());
    }
}

/// Runs OpenSSL's client, which hears until the end.
fn s_client(authority: &TestAuthority, site: &Site, words: &[&str]) -> Child {
    Command::new(require_installed("openssl").expect("it is installed"))
        .args(["s_client", "-quiet", "-verify_return_error", "-connect"])
        .arg(format!("127.0.0.1:{}", port(site)))
        .args(["-servername", HOST, "-verify_hostname", HOST, "-CAfile"])
        .arg(authority.path("ca.pem"))
        .args(words)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("it runs")
}

#[test]
fn openssl_sees_a_whole_stream_and_its_end() {
    let authority = TestAuthority::new();
    authority.certify("visitor", "visitor.test");
    let listener = Listener::tcp();
    let mut settings = over(&[&listener.endpoint()]);
    authority.serve(&mut settings);
    settings.tls.clients = pen::config::ClientCertificates::Required;
    settings.tls.ca_file = Some(authority.path("ca.pem"));
    let site = Site::start(settings);
    let (crt, key) = (authority.path("visitor.crt"), authority.path("visitor.key"));
    let own = ["-cert", crt.to_str().unwrap(), "-key", key.to_str().unwrap()];
    for version in ["-tls1_2", "-tls1_3"] {
        let client = s_client(&authority, &site, &[&own[..], &[version]].concat());
        let mut server = listener.accept();
        client.stdin.as_ref().unwrap().write_all(b"question").unwrap();
        assert_eq!(server.bytes(8), b"question");
        let answer = pattern(300_000);
        server.write_all(&answer).unwrap();
        drop(server);
        let output = client.wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        // It complains of an end that was not announced, and is not content.
        assert!(output.status.success(), "{version}: {said}");
        assert!(!said.contains("unexpected eof"), "{version}: {said}");
        assert!(output.stdout == answer, "{version}: {} bytes", output.stdout.len());
        site.wait_until_empty();
    }
    let output = s_client(&authority, &site, &[]).wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("certificate required"), "{said}");
}

#[test]
fn the_options_of_c_pen_serve_in_tls_and_hup_brings_new_certificates() {
    let authority = TestAuthority::new();
    let web = Web::start(&authority, false);
    let both = ["pen.crt", "pen.key"].map(|file| fs::read(authority.path(file)).unwrap()).concat();
    fs::write(authority.path("both.pem"), both).unwrap();
    let server = web.addr.to_string();
    for words in [&["-E", "both.pem"][..], &["-E", "pen.crt", "-K", "pen.key"][..]] {
        let rest = ["-f", "-O", "ssl_reload 0", "-O", "ssl_sni_path .", "127.0.0.1:0", &server];
        let mut command = Command::new(env!("CARGO_BIN_EXE_pen"));
        command.current_dir(authority.folder()).args(words).args(rest);
        let mut pen = Program::start("pen", &mut command).unwrap();
        let listening = pen.wait_until_listening().unwrap();
        let (_, port) = listening.rsplit_once(':').expect("with its port");
        let port = port.parse().expect("it is a number");
        let url = format!("https://{HOST}:{port}/small");
        assert_eq!(curl(&authority, port, &[&url]), b"hello");
        fs::write(authority.path("other.test.crt"), "nothing").unwrap();
        pen.signal(Signal::SIGHUP).unwrap();
        let said = pen.wait_for_message("other.test.crt").unwrap();
        assert!(said.contains("the name gets the certificate that is for all"), "{said}");
        assert_eq!(curl(&authority, port, &[&url]), b"hello");
        fs::remove_file(authority.path("other.test.crt")).unwrap();
        assert!(pen.stop(Signal::SIGTERM).unwrap().success());
    }
}

#[test]
fn a_certificate_that_cannot_be_used_is_said_before_anything_is_served() {
    let authority = TestAuthority::new();
    for (words, code, expected) in [
        (
            &["-f", "-E", "gone", "127.0.0.1:0", "127.0.0.1:9"][..],
            1,
            "pen: cannot set up TLS: HERE/gone: cannot read it: No such file or directory",
        ),
        (
            &["--check", "-E", "pen.crt", "127.0.0.1:0", "127.0.0.1:9"][..],
            2,
            "pen: HERE/pen.crt: expected a private key in PEM form, found none",
        ),
        (&["--check", "-E", "pen.crt", "-K", "pen.key", "80", "127.0.0.1:9"][..], 0, ""),
    ] {
        let output = Command::new(env!("CARGO_BIN_EXE_pen"))
            .current_dir(authority.folder())
            .args(words)
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{words:?}: {said}");
        let here = authority.folder().canonicalize().unwrap();
        let expected = expected.replace("HERE", &here.display().to_string());
        assert!(said.lines().any(|line| line.starts_with(&expected)) || code == 0, "{said}");
    }
}
