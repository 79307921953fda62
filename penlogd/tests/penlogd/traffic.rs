//! What goes in and what comes out.

use std::io::Write as _;
use std::process::{Command, Stdio};

use pen_testing::TempFolder;

use crate::support::{RunningCollector, line, run, wait_for_file};

#[test]
fn records_and_lines_become_one_log_on_the_standard_output() {
    let collector = RunningCollector::start(&[]);
    collector.send("127.0.0.9", &["+ 203.0.113.7 127.0.0.2 GET /a HTTP/1.1\n"]);
    let (a, b) = (line("10.0.0.1", "GET /a HTTP/1.1"), line("10.0.0.1", "GET /b HTTP/1.1"));
    collector.send("127.0.0.2", &[&a, &b, "no quotes here\n"]);
    let (code, out, said) = collector.stop();
    let expected = format!("{}{b}no quotes here\n", line("203.0.113.7", "GET /a HTTP/1.1"));
    assert_eq!((code, out), (Some(0), expected));
    assert!(said.contains("lines: 3 received = 0 exact + 1 certain"), "{said}");
    assert!(!said.contains("NOT ADD UP"), "{said}");
}

#[test]
fn the_first_lines_of_a_format_with_a_choice_are_understood_by_those_behind() {
    let collector = RunningCollector::start(&[]);
    // A client sends X-Forwarded-For, and the server logs it in front of its peer.
    let line = |number: u32, peer: &str| {
        line(&format!("203.0.113.{number} {peer}"), &format!("GET /{number} HTTP/1.1"))
    };
    for number in 0..20 {
        let record = format!("+ 198.51.100.{number} 127.0.0.2 GET /{number} HTTP/1.1\n");
        collector.send("127.0.0.9", &[&record]);
        collector.send("127.0.0.2", &[&line(number, "127.0.0.9")]);
    }
    let (code, out, said) = collector.stop();
    let expected = (0..20).map(|number| line(number, &format!("198.51.100.{number}")));
    assert_eq!((code, out), (Some(0), expected.collect()), "{said}");
}

#[test]
fn ipv6_is_listened_to() {
    let collector = RunningCollector::start_at("[::1]:0", &[]);
    let a = line("10.0.0.1", "GET /a HTTP/1.1");
    collector.send("::1", &["+ 2001:db8::7 ::1 GET /a HTTP/1.1\n", &a]);
    let (code, out, _) = collector.stop();
    assert_eq!((code, out), (Some(0), line("2001:db8::7", "GET /a HTTP/1.1")));
}

#[test]
fn several_addresses_are_listened_to() {
    let mut collector = RunningCollector::start(&["--listen", "127.0.0.2:0"]);
    let second = collector.wait_for("listening on 127.0.0.2:");
    collector.send("127.0.0.2", &["one\n"]);
    collector.addr = second.rsplit(' ').next().unwrap().trim().parse().unwrap();
    collector.send("127.0.0.2", &["two\n"]);
    let (code, out, _) = collector.stop();
    assert_eq!((code, out.lines().count()), (Some(0), 2));
}

#[test]
fn an_old_command_line_listens_everywhere() {
    let folder = TempFolder::new();
    let log = folder.join("log");
    let mut collector = RunningCollector::start_bare(&["-l", log.to_str().unwrap(), "0"]);
    collector.addr.set_ip("127.0.0.1".parse().unwrap());
    let a = line("10.0.0.1", "GET /a HTTP/1.1");
    collector.send("127.0.0.2", &[&a]);
    wait_for_file(&log, |text| text == a);
}

#[test]
fn attacks_that_ended_the_c_collector_are_survived() {
    let collector = RunningCollector::start(&[]);
    let full = format!("+ 1.2.3.4 127.0.0.2 {}", "y".repeat(1004));
    collector.send(
        "127.0.0.2",
        &[
            "+ 1.2.3.4 ::1 GET / HTTP/1.1\n",
            "+ 1.2.3.4 no.such.host GET / HTTP/1.1\n",
            "+  127.0.0.2 GET / HTTP/1.1\n",
            "+ 1.2.3.4 /run/app.sock GET / HTTP/1.1\n",
            &full,
            "",
            "\n",
        ],
    );
    let a = line("10.0.0.1", "GET /a HTTP/1.1");
    collector.send("127.0.0.2", &[&a]);
    let (code, out, said) = collector.stop();
    assert_eq!((code, out), (Some(0), a));
    assert!(said.contains("8 received = 4 mappings + 1 of lines"), "{said}");
}

#[test]
fn a_flood_of_junk_costs_few_messages() {
    let collector = RunningCollector::start(&[]);
    for _ in 0..50 {
        collector.send("127.0.0.66", &["+ junk\n"; 20]);
        collector.send("127.0.0.66", &["\u{1}\u{2}\"\"\"\n"; 20]);
    }
    let (code, out, said) = collector.stop();
    assert_eq!((code, out.lines().count()), (Some(0), 1_000));
    assert!(said.lines().count() < 40, "{said}");
    assert!(said.contains("1000 junk"), "{said}");
}

#[test]
fn a_closed_standard_output_is_an_end() {
    let mut collector = RunningCollector::start(&["-b", "--wait", "1"]);
    collector.close_stdout();
    collector.send("127.0.0.2", &["one\n"]);
    collector.wait_for("the reader of the standard output");
    let (code, ..) = collector.wait();
    assert_eq!(code, Some(0));
}

#[test]
fn the_shipper_of_debian_is_understood() {
    let Ok(path) = find("/usr/bin/penlog") else { return };
    let collector = RunningCollector::start(&[]);
    collector.send("127.0.0.9", &["+ 203.0.113.7 127.0.0.2 GET /a HTTP/1.1\n"]);
    let long = line("10.0.0.1", &format!("GET /{} HTTP/1.1", "x".repeat(5_000)));
    let (a, last) = (line("10.0.0.1", "GET /a HTTP/1.1"), "without its line feed");
    let mut shipper = Command::new(path)
        .args(["127.0.0.1", &collector.addr.port().to_string(), "127.0.0.2"])
        .stdin(Stdio::piped())
        .spawn()
        .expect("it is installed");
    let mut stdin = shipper.stdin.take().expect("piped");
    stdin.write_all(format!("{a}{long}{last}").as_bytes()).expect("it reads");
    drop(stdin);
    shipper.wait().expect("it is our child");
    let (code, out, _) = collector.stop();
    let expected = format!("{}{long}{last}\n", line("203.0.113.7", "GET /a HTTP/1.1"));
    assert_eq!((code, out), (Some(0), expected));
}

fn find(path: &str) -> Result<&str, ()> {
    if std::path::Path::new(path).exists() {
        return Ok(path);
    }
    println!("skipped: {path} is not installed");
    Err(())
}

#[test]
fn a_line_of_the_log_is_explained_afterwards() {
    let folder = TempFolder::new();
    let (log, why) = (folder.join("log"), folder.join("why"));
    let [log_name, why_name] = [&log, &why].map(|path| path.to_str().unwrap());
    let options = ["--wait", "50", "-l", log_name, "--explain", why_name, "--candidates"];
    let collector = RunningCollector::start(&options);
    let asked = |client| format!("+ {client} 127.0.0.2 GET /a HTTP/1.1\n");
    collector.send("127.0.0.9", &[&asked("203.0.113.7"), &asked("203.0.113.8")]);
    collector.wait_until(|said| said.contains("2 outstanding"));
    collector.send("127.0.0.2", &[&line("10.0.0.1", "GET /a HTTP/1.1"), "junk\n"]);
    wait_for_file(&log, |text| text.lines().count() == 2);
    let (code, _, said) = collector.stop();
    assert_eq!(code, Some(0), "{said}");
    let explain = |line: &str| {
        let output = run(&["explain", "-l", log_name, "--explain", why_name, line]);
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        (output.status.code(), text + &String::from_utf8_lossy(&output.stderr))
    };
    for question in ["1", "GET /a"] {
        let (code, text) = explain(question);
        assert_eq!(code, Some(0), "{text}");
        for expected in [
            "line 1: 203.0.113.",
            ", likely (",
            "logged as 10.0.0.1 at server 127.0.0.2",
            "    203.0.113.7",
            "    203.0.113.8",
            "chosen: ",
        ] {
            assert!(text.contains(expected), "{expected}: {text}");
        }
    }
    let (_, text) = explain("junk");
    assert!(text.contains("the line is not understood"), "{text}");
    let (code, text) = explain("/never");
    assert_eq!((code, &*text), (Some(1), &*format!("no such line: {log_name} has 2\n")));
    let (code, text) = explain("--nonsense");
    assert_eq!(code, Some(2), "{text}");
    // Files that don't belong together are not taken to.
    std::fs::write(&why, "certain\tonly\t1.000\t1\t-\t10.0.0.1\t198.51.100.1\t127.0.0.2\n")
        .unwrap();
    let (code, text) = explain("1");
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains("is not about that line of the log"), "{text}");
    assert!(explain("2").1.contains("has no line 2"), "{}", explain("2").1);
}
