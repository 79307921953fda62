//! HTTP mode and the access log among programs that everybody has: curl and wrk in front, nginx behind,
//! goaccess for what was logged.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use pen::config::Endpoint;

use crate::nginx::{Folder, Nginx};

/// The program, which is told to stop when this is dropped.
struct Pen {
    child: Child,
    addr: String,
}

impl Pen {
    fn start(log: &Path, server: &Endpoint) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_pen"))
            .args(["-f", "-H", "-O", "drain_timeout 0", "--access-log"])
            .arg(log)
            .args(["127.0.0.1:0", &server.to_string()])
            .stderr(Stdio::piped())
            .spawn()
            .expect("it is built");
        let stderr = child.stderr.take().expect("it is a pipe");
        let mut said = BufReader::new(stderr).lines().map_while(Result::ok);
        let addr = said.find_map(|line| Some(line.split_once("listening on ")?.1.to_owned()));
        let addr = addr.expect("it says where it listens");
        // Nobody else reads what it says.
        std::thread::spawn(move || said.for_each(drop));
        Self { child, addr }
    }

    /// Ends it, so that all is written.
    fn stop(mut self) {
        let pid = Pid::from_raw(i32::try_from(self.child.id()).expect("it is a pid"));
        kill(pid, Signal::SIGTERM).expect("it runs");
        assert!(self.child.wait().expect("it is ours").success());
    }
}

impl Drop for Pen {
    fn drop(&mut self) {
        self.child.kill().unwrap_or_default();
        self.child.wait().map(drop).unwrap_or_default();
    }
}

/// What a program prints that ends well.
fn run(program: &str, args: &[&str]) -> String {
    let output = Command::new(program)
        .args(args)
        .stdin(Stdio::null())
        .output()
        .unwrap_or_else(|error| panic!("{program} is not installed: {error}"));
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{program} {args:?}: {text}{said}");
    text
}

fn count(path: &Path) -> usize {
    fs::read_to_string(path).expect("it is there").lines().count()
}

#[test]
fn curl_and_wrk_are_told_of_to_nginx_and_goaccess_reads_what_was_logged() {
    let folder = Folder::new("real");
    let (_nginx, server) = Nginx::start(&folder);
    let log = folder.join("pen.log");
    let pen = Pen::start(&log, &server);
    let url = |path: &str| format!("http://{}/{path}", pen.addr);
    let (echo, page) = (url("echo"), url("page.txt"));
    let forged = ["-H", "X-Forwarded-For: 6.6.6.6", "-H", "x-forwarded-proto: https"];
    // Twice on one connection; then what asks for HTTP/2, a body in chunks, and a compressed answer.
    let twice = [&["-sS"][..], &forged, &[&echo, &echo]].concat();
    assert_eq!(run("curl", &twice), "hellohello");
    assert_eq!(run("curl", &["-sS", "--http2", &echo]), "hello");
    let text = folder.join("page.txt");
    let text = text.to_str().expect("it is one of ours");
    let chunked = ["-sS", "-H", "Transfer-Encoding: chunked", "-H", "Expect:", "-T", text, &echo];
    assert_eq!(run("curl", &chunked), "hello");
    assert_eq!(run("curl", &["-sS", "--compressed", &page]), fs::read_to_string(text).unwrap());
    let asked = count(&folder.join("own.log"));
    assert_eq!(asked, 5);
    let said = run("wrk", &["-t1", "-c8", "-d1s", "-H", "X-Forwarded-For: 6.6.6.6", &page]);
    assert!(!said.contains("Non-2xx") && !said.contains("Socket errors"), "{said}");
    pen.stop();
    let told = fs::read_to_string(folder.join("told.log")).unwrap();
    assert!(told.lines().all(|line| line == "127.0.0.1 http"), "another client is told of");
    // wrk leaves in the midst of what it has asked for last, on each of eight connections.
    let (own, pens) = (count(&folder.join("own.log")), count(&log));
    assert!(pens > 100 && own.abs_diff(pens) <= 8, "{own} of nginx, {pens} of pen");
    let json = folder.join("report.json");
    let log = log.to_str().expect("it is one of ours");
    let out = json.to_str().expect("it is one of ours");
    run("goaccess", &[log, "--log-format=COMBINED", "--no-global-config", "-o", out]);
    let report = fs::read_to_string(&json).unwrap().replace([' ', '\t'], "");
    for expected in [format!("\"valid_requests\":{pens},"), "\"failed_requests\":0,".to_owned()] {
        assert!(report.contains(&expected), "expected {expected}");
    }
}
