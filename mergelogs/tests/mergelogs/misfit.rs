//! Logs that do not fit each other: the exit status is 3, and the cause and a remedy are said, quiet or not.

use std::path::{Path, PathBuf};

use crate::support::{MergeFolder, Run, compress, line, mapping};

/// 22/Nov/2026:20:23:20 +0000.
const T: i64 = 1_795_379_000;

/// A file of the fixtures.
fn shop(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../fixtures/shop").join(name)
}

/// Runs over the shop: `logs` has a server and a file for each access log.
fn merge(options: &str, mappings: &str, logs: &[(&str, &str)]) -> Run {
    MergeFolder::new().run_with(options, |command| {
        command.arg("-p").arg(shop(mappings));
        command.args(logs.iter().map(|(server, log)| format!("{server}:{}", shop(log).display())));
    })
}

/// Returns the messages without the folder of the fixtures.
fn said(run: &Run) -> String {
    let folder = shop("").display().to_string();
    run.err.replace(&folder, "").replace("mergelogs: ", "").replace(": mergelogs ", ": ")
}

const WEB1: &str = "web1/access.log";
const WEB2: &str = "web2/access.log";
const WEB3: &str = "web3/access.log";

#[test]
fn logs_that_fit_are_merged_in_silence() {
    for log in ["access.log", "access.log.1", "access.log.2.gz"] {
        let logs = ["web1", "web2", "web3"].map(|web| format!("{web}/{log}"));
        let logs =
            [("127.0.1.1", logs[0].as_str()), ("127.0.1.2", &logs[1]), ("127.0.1.3", &logs[2])];
        let run = merge("-q", "pen.log", &logs);
        assert_eq!((run.code, run.err.as_str()), (Some(0), ""), "{log}");
    }
}

#[test]
fn a_mistyped_server_is_named_with_those_that_mappings_name() {
    let run = merge("-q", "pen.log", &[("127.0.1.9", WEB1)]);
    assert_eq!(run.code, Some(3));
    assert_eq!(
        said(&run),
        "127.0.1.9: 33 of 33 lines find no mapping: no mapping names this server; the mapping log names \
         127.0.1.1, 127.0.1.2, 127.0.1.3; the lines are among the mappings of 127.0.1.1\n\
         try: -q -p pen.log 127.0.1.1:web1/access.log\n"
    );
    assert_eq!(run.out.lines().count(), 33, "the lines are written all the same");
}

#[test]
fn swapped_servers_are_named() {
    for logs in [
        vec![("127.0.1.1", WEB2), ("127.0.1.2", WEB1), ("127.0.1.3", WEB3)],
        vec![("127.0.1.1", WEB2), ("127.0.1.2", WEB1)],
    ] {
        let run = merge("-q", "pen.log", &logs);
        assert_eq!(run.code, Some(3));
        let said = said(&run);
        assert!(said.starts_with("the logs of 127.0.1.1 and 127.0.1.2 are swapped: "), "{said}");
        assert!(said.contains(" 127.0.1.2:web2/access.log 127.0.1.1:web1/access.log"), "{said}");
        assert!(said.lines().count() == 2, "{said}");
    }
    let run =
        merge("-q", "pen.log", &[("127.0.1.1", WEB2), ("127.0.1.2", WEB3), ("127.0.1.3", WEB1)]);
    let said = said(&run);
    assert!(
        said.contains("the log of 127.0.1.1 fits the mappings of 127.0.1.2 better, "),
        "{said}"
    );
    assert!(said.contains(" better: swapped?"), "{said}");
}

#[test]
fn swapped_servers_whose_formats_lack_the_protocol_are_named() {
    let folder = MergeFolder::new();
    let mut mappings = String::new();
    for (server, log) in [("10.0.0.1", "b.log"), ("10.0.0.2", "a.log")] {
        let mut lines = String::new();
        for i in 0..40 {
            let path = format!("/{log}/{i}");
            mappings += &mapping("192.0.2.1", T + i, server, &format!("GET {path} HTTP/1.1"));
            let time = format!("2026/11/22 - 20:23:{:02}", 20 + i % 40);
            lines += &format!("[GIN] {time} | 200 | 1ms | 10.0.0.9 | GET \"{path}\"\n");
        }
        folder.write(log, lines);
    }
    folder.write("pen.log", mappings);
    let run = folder.run("-q --zone UTC -p pen.log 10.0.0.1:a.log 10.0.0.2:b.log");
    assert_eq!(run.code, Some(3));
    assert!(run.err.contains("the logs of 10.0.0.1 and 10.0.0.2 are swapped"), "{}", run.err);
}

#[test]
fn an_access_log_as_the_mapping_log_is_named() {
    let run = merge("-q", WEB1, &[("127.0.1.1", WEB1)]);
    assert_eq!(run.code, Some(3));
    let said = said(&run);
    assert!(
        said.contains("web1/access.log is an access log, given as the mapping log; "),
        "{said}"
    );
    assert!(said.contains("\ngive the balancer's log: -q -p PENLOG 127.0.1.1:web1/"), "{said}");
    let run = merge("-q", WEB1, &[("127.0.1.1", "pen.log")]);
    let said = self::said(&run);
    assert!(said.contains("pen.log is a mapping log of pen; pen.log:1: expected "), "{said}");
    assert!(said.ends_with("\ntry: -q -p pen.log 127.0.1.1:web1/access.log\n"), "{said}");
}

#[test]
fn a_format_that_fits_no_line_is_named() {
    let run = merge("-q --format=%l:%h", "pen.log", &[("127.0.1.1", WEB1)]);
    assert_eq!(run.code, Some(3));
    let said = said(&run);
    let expected =
        "--format does not fit; without it the lines are understood; web1/access.log:1: ";
    assert!(said.contains(expected), "{said}");
    assert!(said.ends_with("\ntry: -q -p pen.log 127.0.1.1:web1/access.log\n"), "{said}");
}

#[test]
fn logs_of_different_days_are_told_apart() {
    let folder = MergeFolder::new();
    let (mut mappings, mut lines) = (String::new(), String::new());
    for i in 0..30 {
        let request = format!("GET /{i} HTTP/1.1");
        mappings += &mapping("192.0.2.1", T + i - 86_400, "10.0.0.1", &request);
        lines += &line("10.9.9.9", T + i, &request);
    }
    folder.write("pen.log", mappings);
    folder.write("a.log", &lines);
    folder.write("a.log.gz", compress("gz", lines.as_bytes()));
    folder.write("empty.log", "");
    for log in ["a.log", "a.log.gz"] {
        let run = folder.run(&format!("-q -p pen.log 10.0.0.1:{log}"));
        assert_eq!(run.code, Some(3));
        let expected = "no overlap in time: lines from 2026-11-22T20:23:20Z to 2026-11-22T20:23:49Z, \
                        mappings from 2026-11-21T20:23:20Z to 2026-11-21T20:23:49Z\n";
        assert!(run.err.contains(expected), "{}", run.err);
        assert!(run.err.contains(" -p 'pen.log*' "), "{}", run.err);
    }
    let run = folder.run("-q -p empty.log 10.0.0.1:a.log");
    assert_eq!(run.code, Some(3));
    assert!(run.err.contains("the mapping log empty.log is empty\n"), "{}", run.err);
    let run = folder.run_on("-q -p - 10.0.0.1:a.log", b"");
    assert!(run.err.contains("the mapping log standard input is empty\n"), "{}", run.err);
    let run = folder.run("--report json -p empty.log 10.0.0.1:a.log");
    assert!(run.err.contains(r#""cause":"no_mappings","text":"10.0.0.1: 30 of "#), "{}", run.err);
}

#[test]
fn a_binary_file_and_an_unknown_format_show_the_first_line() {
    let folder = MergeFolder::new();
    folder.write("pen.log", mapping("192.0.2.1", T, "10.0.0.1", "GET / HTTP/1.1"));
    folder.write("binary", b"\x7FELF\0\0\0\n\0\x01\n");
    let uvicorn = |i| format!("INFO:     10.0.0.9:500{i} - \"GET /{i} HTTP/1.1\" 200 OK\n");
    let keys =
        |i: i64| format!("{{\"ClientIP\":\"10.0.0.9\",\"ts\":{},\"What\":\"/{i}\"}}\n", T + i);
    folder.write("no-requests.log", (0..9).map(keys).collect::<String>());
    folder.write("no-times.log", (0..9).map(uvicorn).collect::<String>());
    folder.write(
        "w3c.log",
        "#Software: IIS\n2026-11-29 20:00:00 10.0.0.1 GET /x - 80 - 10.0.0.9 curl 200\n",
    );
    for (log, expected) in [
        ("binary", "binary is no text; binary:1: expected an access line at byte 0: "),
        ("w3c.log", "w3c.log is a W3C log, as IIS writes it; w3c.log:1: expected "),
        ("w3c.log", "give w3c.log from its line #Fields: on"),
        ("no-requests.log", "no request is found in the lines"),
        ("no-times.log", "the lines have no time\nmergelogs: let the server log the time"),
    ] {
        let run = folder.run(&format!("-q -p pen.log 10.0.0.1:{log}"));
        assert_eq!(run.code, Some(3), "{log}");
        assert!(run.err.contains(expected), "{}", run.err);
    }
}

#[test]
fn a_log_of_another_balancer_is_known() {
    let folder = MergeFolder::new();
    let lines: String = (0..3).map(|i| line("10.9.9.9", T + i, "GET /a HTTP/1.1")).collect();
    folder.write("a.log", lines);
    folder.write(
        "nginx.log",
        "192.0.2.1 [2026-11-22T20:23:20+00:00] 1795379000.190 \"GET /a HTTP/1.1\" 200 3 0.000 \
         \"10.0.0.1:80\" \"x\" \"-\"\n",
    );
    folder.write("envoy.log", "[2026-11-22T20:23:20.310Z] \"GET /a HTTP/1.1\" 200 - 0 271\n");
    for (log, kind, remedy) in [
        ("nginx.log", "a log of nginx as the balancer", "--mapping-format '$remote_addr [$time"),
        ("envoy.log", "a log of Envoy", "--mapping-format SPEC"),
    ] {
        let run = folder.run(&format!("-q -p {log} 10.0.0.1:a.log"));
        assert_eq!(run.code, Some(3), "{log}");
        assert!(run.err.contains(&format!("the mapping log {log} is {kind}; ")), "{}", run.err);
        assert!(run.err.contains(remedy), "{}", run.err);
    }
}

#[test]
fn wrong_words_are_told_what_was_expected() {
    let folder = MergeFolder::new();
    folder.write("pen.log", "");
    folder.write("a.log", "");
    for (words, expected) in [
        ("a.log:10.0.0.1", "10.0.0.1 looks like the server, so write 10.0.0.1:a.log"),
        ("10.0.0.1:a.log b.log", "each file needs its server in front, as in 10.0.0.1:b.log"),
        ("-j 10x 10.0.0.1:a.log", "expected a number, with ms, s, m or h behind it or not"),
        ("-j 99999999999 10.0.0.1:a.log", "expected at most 366 days"),
        ("--explian why 10.0.0.1:a.log", "'--explain'"),
        ("--format combind 10.0.0.1:a.log", "did you mean combined?"),
        ("--mapping-format haproxi 10.0.0.1:a.log", "did you mean haproxy?"),
        ("--zone Europe/Berln 10.0.0.1:a.log", "or the name of a zone, as in Europe/Berlin"),
        ("--server 10.0.0.1=app/web1 10.0.0.1:a.log", "write app/web1=10.0.0.1"),
        (
            "--format 10.0.0.7=combined 10.0.0.1:a.log",
            "there is no server 10.0.0.7 on the command line",
        ),
    ] {
        let run = folder.run(&format!("-p pen.log {words}"));
        assert_eq!(run.code, Some(2), "{words}");
        assert!(run.err.contains(expected), "{}", run.err);
    }
}

/// The server that the mappings name, and this one and another one.
const GIVEN: &[&str] = &["10.0.0.1"];
const ANY: &[&str] = &["10.0.0.1", "10.0.0.2"];

/// Mappings of 300 requests to a server, one a second by 40 visitors, and the lines.
fn visits(server: &str) -> (String, String) {
    let (mut mappings, mut lines) = (String::new(), String::new());
    for i in 0..300 {
        let request = format!("GET /{} HTTP/1.1", i * 7 % 50);
        mappings += &mapping(&format!("192.0.2.{}", i * 11 % 40), T + i, server, &request);
        lines += &line("10.9.9.9", T + i, &request);
    }
    (mappings, lines)
}

#[test]
fn natural_logs_are_no_misfit() {
    let folder = MergeFolder::new();
    let (mappings, lines) = visits("10.0.0.1");
    folder.write("pen.log", &mappings);
    let sampled: String = lines.split_inclusive('\n').step_by(10).collect();
    let direct =
        |i: i64| line(&format!("198.51.100.{}", i % 40), T + i, &format!("GET /d{i} HTTP/1.1"));
    let check = |i: i64| line("10.9.9.9", T + i, "GET /health HTTP/1.0");
    let other: String = (0..600)
        .map(|i| line("10.9.9.8", T + i / 2, &format!("GET /o{} HTTP/1.1", i % 90)))
        .collect();
    let message =
        |i: i64| format!("2026-11-22 20:23:2{} INFO a message of the application\n", i % 10);
    let all = |make: &dyn Fn(i64) -> String| (0..300).map(make).collect::<String>();
    for (name, servers, text) in [
        ("one line in ten", GIVEN, sampled),
        ("direct visitors", ANY, all(&direct)),
        ("direct visitors and a few others", GIVEN, all(&direct) + &lines),
        ("checks of a spare server", ANY, all(&check)),
        ("checks and visitors", GIVEN, all(&check) + &check(300).repeat(200) + &lines),
        ("messages of an application", GIVEN, all(&message) + &message(0).repeat(500) + &lines),
        ("two thirds by another balancer", GIVEN, other + &lines),
        ("nothing", ANY, String::new()),
        ("one line", ANY, line("10.9.9.9", T, "GET /x HTTP/1.1")),
        ("two lines", ANY, line("10.9.9.9", T, "GET /x HTTP/1.1").repeat(2)),
    ] {
        folder.write("a.log", &text);
        for server in servers {
            let run = folder.run(&format!("-q -p pen.log {server}:a.log"));
            assert_eq!((run.code, run.err.as_str()), (Some(0), ""), "{name}, {server}");
        }
    }
}

#[test]
fn common_requests_at_two_servers_are_not_swapped() {
    let folder = MergeFolder::new();
    let [(mut mappings, first), (more, second)] = ["10.0.0.1", "10.0.0.2"].map(visits);
    mappings += &more;
    folder.write("pen.log", &mappings);
    folder.write("a.log", &first);
    folder.write("b.log", second.replace(" 5\n", " 6\n"));
    let run = folder.run("-q -p pen.log 10.0.0.1:a.log 10.0.0.2:b.log");
    assert_eq!((run.code, run.err.as_str()), (Some(0), ""));
}

#[test]
fn a_check_says_what_the_inputs_are_and_merges_nothing() {
    let run = merge("--check -o nothing", "pen.log", &[("127.0.1.1", WEB1), ("127.0.1.2", WEB2)]);
    assert_eq!((run.code, run.err.as_str()), (Some(0), ""));
    let folder = shop("").display().to_string();
    assert_eq!(
        run.out.replace(&folder, ""),
        "mapping log pen.log:\n\
         \x20 kind: a mapping log of pen\n\
         \x20 lines understood: 305 of 305\n\
         \x20 from 2026-11-22T23:38:43Z to 2026-11-22T23:38:51Z\n\
         server 127.0.1.1:\n\
         \x20 web1/access.log: combined (33 lines)\n\
         \x20 lines understood: 33 of 33\n\
         \x20 from 2026-11-22T23:38:48Z to 2026-11-22T23:38:51Z\n\
         \x20 requests with a mapping at about the same time: 33 of 33\n\
         \x20 to expect: certain and likely: the mapping log has no ports of the balancer, which the pen of this \
         package and other balancers can log\n\
         server 127.0.1.2:\n\
         \x20 web2/access.log: combined (34 lines)\n\
         \x20 lines understood: 34 of 34\n\
         \x20 from 2026-11-22T23:38:48Z to 2026-11-22T23:38:51Z\n\
         \x20 requests with a mapping at about the same time: 34 of 34\n\
         \x20 to expect: certain and likely: the mapping log has no ports of the balancer, which the pen of this \
         package and other balancers can log\n\
         servers of mappings without a log here: 127.0.1.3\n\
         the logs fit each other\n"
    );
    let run = merge("--check", "pen.log", &[("127.0.1.1", WEB2), ("127.0.1.2", WEB1)]);
    assert_eq!(run.code, Some(3));
    assert!(
        run.out.contains("\nproblem: the logs of 127.0.1.1 and 127.0.1.2 are swapped: "),
        "{}",
        run.out
    );
    let run = merge("--check --format=combined", "pen.log", &[("127.0.1.9", WEB2)]);
    assert_eq!(run.code, Some(3));
    assert!(run.out.starts_with("format: combined\n"), "{}", run.out);
    assert!(
        run.out.contains("\nproblem: 127.0.1.9: 34 of 34 lines find no mapping: "),
        "{}",
        run.out
    );
    let folder = MergeFolder::new();
    assert_eq!(folder.run("--check -p nowhere 10.0.0.1:a.log").code, Some(1));
    assert_eq!(folder.run("--check -p nowhere a.log").code, Some(2));
    assert_eq!(folder.run("--check").code, Some(2));
}

#[test]
fn a_check_tells_a_port_that_is_a_balancers() {
    let folder = MergeFolder::new();
    let (mut records, mut lines, mut other) = (String::new(), String::new(), String::new());
    for i in 0..20 {
        let (request, port) = (format!("GET /{i} HTTP/1.1"), 40_000 + i);
        records += &format!(
            "pen1 {}.000000 request 192.0.2.7 9964 10.0.0.1 80 10.9.9.9 {port} {} 1 - - - - - - - - - - {request}\n",
            T + i,
            i + 1
        );
        lines +=
            &line("10.9.9.9", T + i, &request).replace(" 5\n", &format!(" 5 \"-\" \"x\" {port}\n"));
        other += &line("10.9.9.9", T + i, &request).replace(" 5\n", " 5 \"-\" \"x\" 39000\n");
    }
    folder.write("pen.log", records);
    folder.write("a.log", lines);
    folder.write("b.log", other);
    let plain = |i| line("10.9.9.9", T + i, &format!("GET /{i} HTTP/1.1"));
    folder.write("c.log", (0..20).map(plain).collect::<String>());
    for (log, expected) in [
        ("a.log", "to expect: exact, by the balancer's port in each line"),
        ("b.log", "to expect: certain and likely: the numbers that may be the balancer's port"),
        ("c.log", "to expect: certain and likely; exact if each line ends in the peer's port"),
    ] {
        let run = folder.run(&format!("--check -p pen.log 10.0.0.1:{log}"));
        assert_eq!(run.code, Some(0), "{}", run.out);
        assert!(run.out.contains(expected), "{log}: {}", run.out);
    }
}
