//! With the programs that people use: OpenSSL's client, curl, and nginx behind.

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use pen::config::{Endpoint, LogFormat, LogTarget, ServerTls};
use pen_bench::stage::{Process, free_port, program};

use super::support::{NAME, Town};
use crate::support::{Listener, Site, over, pattern, until};

/// nginx, in TLS or not.
struct Web {
    addr: SocketAddr,
    _process: Process,
}

impl Web {
    fn start(town: &Town, ssl: bool) -> Self {
        let addr = free_port(Ipv4Addr::LOCALHOST).expect("a port is free");
        let here = town.folder.display();
        let (listen, certificate) = if ssl {
            (" ssl", format!("ssl_certificate {here}/pen.crt; ssl_certificate_key {here}/pen.key;"))
        } else {
            ("", String::new())
        };
        let config = town.path("nginx.conf");
        let text = format!(
            "daemon off; user root; pid {here}/pid; events {{}} error_log {here}/error.log;
http {{
  access_log {here}/seen.log; client_max_body_size 0;
  client_body_temp_path {here}/a; proxy_temp_path {here}/b; fastcgi_temp_path {here}/c;
  uwsgi_temp_path {here}/d; scgi_temp_path {here}/e;
  server {{ listen {addr}{listen}; {certificate} root {here}/www; }}
}}"
        );
        fs::create_dir_all(town.path("www")).expect("the folder is ours");
        fs::write(town.path("www/large"), pattern(3_000_000)).expect("the folder is ours");
        fs::write(town.path("www/small"), "hello").expect("the folder is ours");
        fs::write(&config, text).expect("the folder is ours");
        let mut command = Command::new(program("nginx").expect("it is installed"));
        command.arg("-p").arg(&town.folder).arg("-c").arg(&config);
        command.arg("-e").arg(town.path("error.log"));
        let mut process =
            Process::start("nginx", &mut command, town.path("nginx.err")).expect("it starts");
        process.wait_for_port(addr).expect("it listens");
        Self { addr, _process: process }
    }
}

fn port(site: &Site) -> u16 {
    let Endpoint::Ip(addr) = site.addr else { panic!("it is TCP") };
    addr.port()
}

fn curl(town: &Town, port: u16, words: &[&str]) -> Vec<u8> {
    let output = Command::new(program("curl").expect("it is installed"))
        .args(["--silent", "--show-error", "--max-time", "20", "--cacert"])
        .arg(town.path("ca.pem"))
        .args(["--resolve", &format!("{NAME}:{port}:127.0.0.1")])
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
        let town = Town::new(&format!("curl-{clients}-{servers}"));
        let web = Web::start(&town, servers);
        let mut settings = over(&[&Endpoint::Ip(web.addr)]);
        if clients {
            town.serve(&mut settings);
        }
        if servers {
            town.trust(&mut settings, ServerTls::Verified);
        }
        let log = town.path("pen.log");
        settings.log = Some(LogTarget::File(log.clone()));
        settings.log_format = LogFormat::Classic;
        let site = Site::start(settings);
        let scheme = if clients { "https" } else { "http" };
        let url = |path: &str| format!("{scheme}://{NAME}:{}/{path}", port(&site));
        // The last on the connection of those before, and one of its own that nginx closes.
        let (large, small) = (url("large"), url("small"));
        let all = curl(&town, port(&site), &[&small, &large, &small]);
        assert!(all == [b"hello", &pattern(3_000_000)[..], b"hello"].concat(), "{scheme}");
        let old = curl(&town, port(&site), &["--http1.0", "-H", "Connection: close", &large]);
        assert!(old == pattern(3_000_000), "{scheme}, to the end of the stream");
        for version in ["--tlsv1.2", "--tlsv1.3"].iter().filter(|_| clients) {
            let most = version.replace("--tlsv", "");
            let words = [version, "--tls-max", &most, &large];
            assert!(curl(&town, port(&site), &words) == pattern(3_000_000), "{version}");
        }
        site.wait_until_empty();
        // Nobody was cut, though curl and nginx do not always say goodbye.
        let resets = &site.balancer().shared().counters.resets;
        assert_eq!(resets.load(std::sync::atomic::Ordering::Relaxed), 0);
        // What was asked for is known in any case.
        let lines = || fs::read_to_string(&log).unwrap_or_default();
        let requests = if clients { 6 } else { 4 };
        until("all is noted", || lines().lines().count() == requests);
        assert!(lines().lines().all(|line| line.contains(" GET /")), "{}", lines());
    }
}

/// Runs OpenSSL's client, which hears until the end.
fn s_client(town: &Town, site: &Site, words: &[&str]) -> Child {
    Command::new(program("openssl").expect("it is installed"))
        .args(["s_client", "-quiet", "-verify_return_error", "-connect"])
        .arg(format!("127.0.0.1:{}", port(site)))
        .args(["-servername", NAME, "-verify_hostname", NAME, "-CAfile"])
        .arg(town.path("ca.pem"))
        .args(words)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("it runs")
}

#[test]
fn openssl_sees_a_whole_stream_and_its_end() {
    let town = Town::new("openssl");
    town.certify("visitor", "visitor.test");
    let listener = Listener::tcp();
    let mut settings = over(&[&listener.endpoint()]);
    town.serve(&mut settings);
    settings.tls.clients = pen::config::ClientCertificates::Required;
    settings.tls.ca_file = Some(town.path("ca.pem"));
    let site = Site::start(settings);
    let (crt, key) = (town.path("visitor.crt"), town.path("visitor.key"));
    let own = ["-cert", crt.to_str().unwrap(), "-key", key.to_str().unwrap()];
    for version in ["-tls1_2", "-tls1_3"] {
        let client = s_client(&town, &site, &[&own[..], &[version]].concat());
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
    let output = s_client(&town, &site, &[]).wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("certificate required"), "{said}");
}

/// The program with the options of C pen.
struct Program {
    child: Child,
    said: std::io::Lines<BufReader<std::process::ChildStderr>>,
}

impl Program {
    fn start(folder: &Path, words: &[&str]) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_pen"))
            .current_dir(folder)
            .args(words)
            .stderr(Stdio::piped())
            .spawn()
            .expect("it runs");
        let said = BufReader::new(child.stderr.take().expect("it was asked for")).lines();
        Self { child, said }
    }

    fn wait_for(&mut self, text: &str) -> String {
        let line = self.said.find_map(|line| line.ok().filter(|line| line.contains(text)));
        line.unwrap_or_else(|| panic!("it says {text}"))
    }

    fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.child.id()).expect("pids are small");
        kill(Pid::from_raw(pid), signal).expect("it runs");
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        self.child.kill().unwrap_or_default();
        self.child.wait().map(drop).unwrap_or_default();
    }
}

#[test]
fn the_options_of_c_pen_serve_in_tls_and_hup_brings_new_certificates() {
    let town = Town::new("options");
    let web = Web::start(&town, false);
    let both = ["pen.crt", "pen.key"].map(|file| fs::read(town.path(file)).unwrap()).concat();
    fs::write(town.path("both.pem"), both).unwrap();
    let server = web.addr.to_string();
    for words in [&["-E", "both.pem"][..], &["-E", "pen.crt", "-K", "pen.key"][..]] {
        let rest = ["-f", "-O", "ssl_reload 0", "-O", "ssl_sni_path .", "127.0.0.1:0", &server];
        let mut pen = Program::start(&town.folder, &[words, &rest].concat());
        let line = pen.wait_for("listening on ");
        let (_, port) = line.trim().rsplit_once(':').expect("with its port");
        let port = port.parse().expect("it is a number");
        let url = format!("https://{NAME}:{port}/small");
        assert_eq!(curl(&town, port, &[&url]), b"hello");
        fs::write(town.path("other.test.crt"), "nothing").unwrap();
        pen.signal(Signal::SIGHUP);
        let said = pen.wait_for("other.test.crt");
        assert!(said.contains("the name gets the certificate that is for all"), "{said}");
        assert_eq!(curl(&town, port, &[&url]), b"hello");
        fs::remove_file(town.path("other.test.crt")).unwrap();
        pen.signal(Signal::SIGTERM);
        assert!(pen.child.wait().unwrap().success());
    }
}

#[test]
fn a_certificate_that_cannot_be_used_is_said_before_anything_is_served() {
    let town = Town::new("unusable");
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
            .current_dir(&town.folder)
            .args(words)
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{words:?}: {said}");
        let here = town.folder.canonicalize().unwrap();
        let expected = expected.replace("HERE", &here.display().to_string());
        assert!(said.lines().any(|line| line.starts_with(&expected)) || code == 0, "{said}");
    }
}
