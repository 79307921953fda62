//! HTTP mode and the access log among real programs: curl and wrk in front, nginx behind, goaccess for the log.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use pen::config::Endpoint;
use pen_testing::TempFolder;

use crate::nginx::Nginx;
use crate::program::RunningPen;

/// A `pen` that edits HTTP and logs, at an address of its own.
fn start(log: &Path, server: &Endpoint) -> RunningPen {
    let mut pen = Command::new(env!("CARGO_BIN_EXE_pen"));
    pen.args(["-f", "-H", "-O", "drain_timeout 0", "--access-log"]).arg(log);
    RunningPen::start(pen.args(["127.0.0.1:0", &server.to_string()]))
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
    let folder = TempFolder::new();
    let (_nginx, server) = Nginx::start(&folder);
    let log = folder.join("pen.log");
    let pen = start(&log, &server);
    let url = |path: &str| format!("http://{}/{path}", pen.addr());
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
    assert_eq!(pen.end(), Some(0), "all is written");
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
