//! The program, run over files: what goes in comes out, attributed, in time order.

mod audit;
mod clocks;
mod live;
mod made;
mod misfit;
mod reading;
mod servers;
mod sites;
mod support;
mod third_party;

use std::fs;
use std::io::{Read as _, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};

use pen_testing::manual::assert_manual_matches_help;
use proptest::prelude::*;
use support::{MergeFolder, Run, compress, line, mapping};

/// 22/Nov/2026:20:23:20 +0000.
const T: i64 = 1_795_379_000;

#[test]
fn a_mapping_names_the_client() {
    let folder = MergeFolder::new();
    folder.write("pen.log", "203.0.113.7 1795379000 10.0.0.1 GET /a HTTP/1.1\n");
    folder.write("a.log", "10.9.9.9 - - [22/Nov/2026:20:23:20 +0000] \"GET /a HTTP/1.1\" 200 5\n");
    let run = folder.run("-p pen.log 10.0.0.1:a.log");
    assert_eq!(run.out, "203.0.113.7 - - [22/Nov/2026:20:23:20 +0000] \"GET /a HTTP/1.1\" 200 5\n");
    assert_eq!(run.code, Some(0), "{}", run.err);
    assert!(run.err.contains("lines read 1 = written 1"), "{}", run.err);
}

#[test]
fn a_line_is_explained_in_words_and_with_those_who_could_have_asked() {
    let folder = MergeFolder::new();
    let asked = |client, time| mapping(client, time, "10.0.0.1", "GET /a HTTP/1.1");
    let mappings = asked("203.0.113.1", T) + &asked("203.0.113.2", T + 1);
    folder
        .write("pen.log", &(mappings + &mapping("203.0.113.3", T, "10.0.0.1", "GET /b HTTP/1.1")));
    let first = line("10.9.9.9", T, "GET /b HTTP/1.1");
    folder.write("a.log", &(first + &line("10.9.9.9", T + 1, "GET /a HTTP/1.1")));
    for question in ["2", "/a"] {
        let run = folder.run(&format!("-q -p pen.log 10.0.0.1:a.log --explain-line {question}"));
        assert_eq!(run.code, Some(0), "{}", run.err);
        for expected in [
            "line 2: 203.0.113",
            "logged as 10.9.9.9 at server 10.0.0.1",
            "    203.0.113.1",
            "    203.0.113.2",
            ", chosen: ",
        ] {
            let expected = expected.replace("line 2: 203.0.113", "line 2: 10.9.9.9");
            assert!(run.err.contains(&expected), "{expected}: {}", run.err);
        }
        assert!(!run.err.contains("line 1"), "{}", run.err);
    }
    let run = folder.run("-q -p pen.log 10.0.0.1:a.log --explain-line 3");
    assert!(run.err.contains("there is no line to explain"), "{}", run.err);
    let run = folder.run("-q -p pen.log 10.0.0.1:a.log --explain why.tsv --candidates");
    assert_eq!(run.err, "");
    let why = String::from_utf8(folder.read("why.tsv")).unwrap();
    let columns: Vec<_> = why.lines().map(|line| line.split('\t').count()).collect();
    assert_eq!(columns, [9, 9, 9], "{why}");
    assert!(
        why.starts_with("#certainty\t") && why.contains("\t203.0.113.3, chosen: 0.000 s after"),
        "{why}"
    );
}

#[test]
fn a_format_is_judged_without_logs() {
    let run = MergeFolder::new().run("--check --format combined --format 10.0.0.1=common");
    assert_eq!(run.code, Some(1), "{}", run.err);
    assert!(run.out.contains("to be exact: add %{remote}p"), "{}", run.out);
    assert!(run.out.contains("of server 10.0.0.1\nformat: common"), "{}", run.out);
    let run = MergeFolder::new().run("--check");
    assert_eq!(run.code, Some(2), "{}", run.out);
}

#[test]
fn unmatched_lines_keep_their_client_unless_told_otherwise() {
    let folder = MergeFolder::new();
    folder.write("pen.log", "");
    folder.write("a.log", line("10.9.9.9", T, "GET /a HTTP/1.1"));
    for (option, client) in [
        ("", "10.9.9.9"),
        ("--unmatched keep ", "10.9.9.9"),
        ("--unmatched dash ", "-"),
        ("--unmatched server ", "10.0.0.1"),
    ] {
        let run = folder.run(&format!("{option}-p pen.log 10.0.0.1:a.log"));
        assert_eq!(run.out, line(client, T, "GET /a HTTP/1.1"), "{option}");
    }
}

#[test]
fn a_line_that_came_past_the_balancer_keeps_its_client_under_every_option() {
    let folder = MergeFolder::new();
    let (mut mappings, mut lines) = (String::new(), String::new());
    for i in 0..200 {
        let request = format!("GET /{i} HTTP/1.1");
        mappings += &mapping("1.1.1.1", T + i, "10.0.0.1", &request);
        lines += &line("198.51.100.7", T + i, "GET /health HTTP/1.1");
        lines += &line("10.9.9.9", T + i, &request);
    }
    folder.write("pen.log", &mappings);
    folder.write("a.log", &lines);
    for unmatched in ["keep", "dash", "server"] {
        for likely in ["use", "keep", "dash"] {
            let options = format!("--unmatched {unmatched} --likely {likely}");
            let run = folder.run(&format!("{options} --explain e -p pen.log 10.0.0.1:a.log"));
            let explain = String::from_utf8(folder.read("e")).unwrap();
            let mut direct = 0;
            for (line, columns) in run.out.lines().zip(explain.lines().skip(1)) {
                if columns.split('\t').nth(1) == Some("direct") {
                    assert!(line.starts_with("198.51.100.7 "), "{options}: {line}");
                    assert!(
                        columns.ends_with("\t198.51.100.7\t198.51.100.7\t10.0.0.1"),
                        "{columns}"
                    );
                    direct += 1;
                }
            }
            assert!(direct > 100, "{direct} lines");
        }
    }
}

#[test]
fn likely_clients_are_used_unless_told_otherwise() {
    let folder = MergeFolder::new();
    let request = "GET /a HTTP/1.1";
    folder.write(
        "pen.log",
        [mapping("1.1.1.1", T, "10.0.0.1", request), mapping("2.2.2.2", T, "10.0.0.1", request)]
            .concat(),
    );
    folder.write("a.log", [line("p", T, request), line("p", T, request)].concat());
    let clients = |option: &str| {
        let run = folder.run(&format!("{option}-p pen.log 10.0.0.1:a.log"));
        let mut clients = run.clients();
        clients.sort();
        clients
    };
    assert_eq!(clients(""), ["1.1.1.1", "2.2.2.2"]);
    assert_eq!(clients("--likely use "), ["1.1.1.1", "2.2.2.2"]);
    assert_eq!(clients("--likely keep "), ["p", "p"]);
    assert_eq!(clients("--likely dash "), ["-", "-"]);
}

#[test]
fn requests_match_by_what_the_balancer_kept() {
    let folder = MergeFolder::new();
    for len in [99, 100, 101, 150, 5_000] {
        let request = format!("GET /{} HTTP/1.1", "x".repeat(len - 14));
        folder.write(
            "pen.log",
            mapping("1.1.1.1", T, "10.0.0.1", &request.chars().take(100).collect::<String>()),
        );
        folder.write("a.log", line("p", T, &request));
        let run = folder.run("-p pen.log 10.0.0.1:a.log");
        assert_eq!(run.out, line("1.1.1.1", T, &request), "{len} bytes");
    }
}

#[test]
fn escapes_of_the_server_and_dots_of_the_balancer_are_one_request() {
    let folder = MergeFolder::new();
    folder.write(
        "pen.log",
        [
            b"1.1.1.1 1795379000 10.0.0.1 GET /\"q\" HTTP/1.1\n".as_slice(),
            b"2.2.2.2 1795379000 10.0.0.1 GET /.. HTTP/1.1\n",
            b"3.3.3.3 1795379000 10.0.0.1 GET /back\\slash HTTP/1.1\n",
        ]
        .concat(),
    );
    let requests =
        [r#"GET /\"q\" HTTP/1.1"#, r"GET /\xc3\xa9 HTTP/1.1", r"GET /back\x5Cslash HTTP/1.1"];
    folder.write("a.log", requests.map(|request| line("p", T, request)).concat());
    let run = folder.run("-p pen.log 10.0.0.1:a.log");
    assert_eq!(run.clients(), ["1.1.1.1", "2.2.2.2", "3.3.3.3"]);
}

#[test]
fn simultaneous_requests_go_to_different_clients() {
    let folder = MergeFolder::new();
    let clients = ["1.1.1.1", "2.2.2.2", "3.3.3.3"];
    let request = "GET /same HTTP/1.1";
    folder.write("pen.log", clients.map(|c| mapping(c, T, "10.0.0.1", request)).concat());
    folder.write("a.log", line("p", T, request).repeat(4));
    let run = folder.run("-p pen.log 10.0.0.1:a.log");
    // One line more than records: nothing says which, so that each is a guess.
    let found = run.clients();
    assert!(clients.iter().all(|client| found.iter().any(|it| it == client)), "{found:?}");
}

#[test]
fn a_mapping_older_than_the_window_explains_nothing() {
    let folder = MergeFolder::new();
    let request = "GET /old HTTP/1.1";
    folder.write("pen.log", mapping("1.1.1.1", T, "10.0.0.1", request));
    for (after, window, client) in
        [(5_000, 600, "p"), (5_000, 1, "p"), (500, 600, "1.1.1.1"), (500, 2, "p")]
    {
        folder.write("a.log", line("p", T + after, request));
        let run = folder.run(&format!("-j {window} -p pen.log 10.0.0.1:a.log"));
        assert_eq!(run.clients(), [client], "{after} s later, -j {window}");
    }
}

#[test]
fn times_are_compared_by_their_own_offsets_and_not_touched() {
    let folder = MergeFolder::new();
    folder.write("pen.log", "");
    folder.write(
        "a.log",
        "p - - [22/Nov/2026:22:23:20 +0200] \"GET /2 HTTP/1.1\" 200 5\n\
         p - - [22/Nov/2026:15:23:22 -0500] \"GET /4 HTTP/1.1\" 200 5\n",
    );
    folder.write(
        "b.log",
        "p - - [23/Nov/2026:01:53:19 +0530] \"GET /1 HTTP/1.1\" 200 5\n\
         p - - [22/Nov/2026:20:23:21 +0000] \"GET /3 HTTP/1.1\" 200 5\n",
    );
    for zone in ["UTC", "Europe/Helsinki", "America/New_York"] {
        let run = folder.run_with("-p pen.log 10.0.0.1:a.log 10.0.0.2:b.log", |command| {
            command.env("TZ", zone);
        });
        assert_eq!(run.requests(), ["GET /1", "GET /2", "GET /3", "GET /4"], "{zone}");
        assert!(run.out.contains("[22/Nov/2026:22:23:20 +0200]"), "{}", run.out);
    }
}

#[test]
fn what_is_no_access_line_passes_through_at_its_place() {
    let folder = MergeFolder::new();
    folder.write("pen.log", "");
    let long = line("p", T + 1, &format!("GET /{} HTTP/1.1", "y".repeat(60_000)));
    let text = [
        line("p", T, "").as_str(),
        "no quotes here\n",
        "one \"quote only\n",
        "\n",
        "[22/Nov/2026:20:23:20 +0000] starts with a bracket\n",
        "p - - [not a date] \"GET / HTTP/1.1\" 200 5\n",
        &format!("p - - [{}] \"GET / HTTP/1.1\" 200 5\n", "9".repeat(900)),
        &long,
        "p - - [22/Nov/2026:20:23:25 +0000] \"GET / HTTP/1.1\"\r\n",
        "the last has no end",
    ]
    .concat();
    folder.write("a.log", &text);
    let run = folder.run("-p pen.log 10.0.0.1:a.log");
    assert_eq!(run.out, format!("{text}\n"));
    assert!(run.err.contains("lines read 10 = written 10"), "{}", run.err);
}

#[test]
fn any_bytes_pass_through() {
    let folder = MergeFolder::new();
    let bytes: Vec<u8> = (0..=255).chain([b'\n']).chain((0..=255).rev()).chain([b'\n']).collect();
    folder.write("pen.log", &bytes);
    folder.write("a.log", &bytes);
    let run = folder.run("-p pen.log 10.0.0.1:a.log");
    assert_eq!(run.bytes, bytes);
    assert!(run.wrote_all(), "{}", run.err);
    assert!(
        run.err.contains("mergelogs: pen.log:1: expected a client address at byte 0"),
        "{}",
        run.err
    );
    assert!(run.err.contains("damaged"), "{}", run.err);
}

#[test]
fn compressed_inputs_are_known_by_their_content() {
    let folder = MergeFolder::new();
    let request = "GET /a HTTP/1.1";
    for kind in ["gz", "bz2", "xz", "zst"] {
        let pen = mapping("1.1.1.1", T, "10.0.0.1", request);
        // Two members, one after the other, as `cat a.gz b.gz` makes them.
        let first = compress(kind, line("p", T, request).as_bytes());
        let second = compress(kind, line("q", T + 1, "GET /b HTTP/1.1").as_bytes());
        folder.write("pen.log", compress(kind, pen.as_bytes()));
        folder.write("access.log", [first, second].concat());
        let run = folder.run("-p pen.log 10.0.0.1:access.log");
        assert_eq!(run.clients(), ["1.1.1.1", "q"], "{kind}: {}", run.err);
        assert_eq!(run.code, Some(0), "{kind}");
    }
}

#[test]
fn zero_bytes_behind_an_archive_are_padding() {
    let folder = MergeFolder::new();
    folder.write("pen.log", mapping("192.0.2.1", T, "10.0.0.1", "GET /a HTTP/1.1"));
    let text = line("p", T, "GET /a HTTP/1.1");
    for kind in ["gz", "bz2", "zst"] {
        let name = format!("a.log.{kind}");
        folder.write(&name, [compress(kind, text.as_bytes()), vec![0; 17]].concat());
        let run = folder.run(&format!("-q -p pen.log 10.0.0.1:{name}"));
        assert_eq!((run.code, run.err.as_str()), (Some(0), ""), "{kind}");
        assert_eq!(run.clients(), ["192.0.2.1"], "{kind}");
    }
}

#[test]
fn the_same_lines_in_two_files_are_read_once() {
    let folder = MergeFolder::new();
    let (mut mappings, mut lines) = (String::new(), String::new());
    for i in 0..3 {
        mappings += &mapping("192.0.2.1", T + i, "10.0.0.1", &format!("GET /{i} HTTP/1.1"));
        lines += &line("10.9.9.9", T + i, &format!("GET /{i} HTTP/1.1"));
    }
    folder.write("pen.log", &mappings);
    folder.write("pen.log.gz", compress("gz", mappings.as_bytes()));
    folder.write("a.log.1", &lines);
    folder.write("a.log.1.gz", compress("gz", lines.as_bytes()));
    folder.write("a.log", lines.replace("GET /0", "GET /00"));
    let run = folder.run("-q -p pen.log -p pen.log.gz 10.0.0.1:a.log.*");
    assert_eq!(run.out.lines().count(), 3, "{}", run.out);
    assert_eq!(run.code, Some(0), "{}", run.err);
    for expected in [
        "mergelogs: a.log.1.gz holds the same lines as a.log.1: read once\n",
        "mergelogs: pen.log.gz holds the same lines as pen.log: read once\n",
    ] {
        assert!(run.err.contains(expected), "{}", run.err);
    }
    let run = folder.run("-q -p pen.log 10.0.0.1:a.log 10.0.0.1:a.log.1");
    assert_eq!((run.out.lines().count(), run.err.as_str()), (6, ""), "not the same");
}

#[test]
fn lines_without_any_time_have_no_span_of_time() {
    let folder = MergeFolder::new();
    folder.write("pen.log", mapping("192.0.2.1", T, "10.0.0.1", "GET /a HTTP/1.1"));
    folder.write("a.log", "no access line\nneither\n\x01\x02\n");
    let run = folder.run("-p pen.log 10.0.0.1:a.log");
    assert_eq!(run.out.lines().count(), 3);
    assert!(!run.err.contains("-290308") && !run.err.contains("\nfrom "), "{}", run.err);
    let run = folder.run("--report json -p pen.log 10.0.0.1:a.log");
    assert!(run.err.contains(r#""first":null,"last":null"#), "{}", run.err);
}

#[test]
fn a_cut_off_archive_is_used_as_far_as_it_goes() {
    let folder = MergeFolder::new();
    folder.write("pen.log", "");
    let text: String =
        (0..20_000).map(|n| line("p", T + n / 100, &format!("GET /{n} HTTP/1.1"))).collect();
    let whole = compress("gz", text.as_bytes());
    folder.write("a.log.gz", &whole[..whole.len() / 2]);
    let run = folder.run("-p pen.log 10.0.0.1:a.log.gz");
    assert!(run.wrote_all(), "{}", run.err);
    assert!(run.err.contains("mergelogs: a.log.gz is cut off; the "), "{}", run.err);
    let lines = run.out.lines().count();
    assert!(lines > 1_000 && lines < 20_000, "{lines}");
    let broken = run.out.trim_end().rsplit_once('\n').map(|(whole, _)| whole.to_owned());
    assert!(text.starts_with(&broken.expect("there are many")), "the order is the file's");
}

#[test]
fn a_damaged_archive_fails_but_loses_nothing_before_the_damage() {
    let folder = MergeFolder::new();
    folder.write("pen.log", "");
    let first = compress("gz", line("p", T, "GET /a HTTP/1.1").as_bytes());
    folder.write("a.log.gz", [first, b"\x1F\x8Bgarbage that is no member".to_vec()].concat());
    let run = folder.run("-p pen.log 10.0.0.1:a.log.gz");
    assert_eq!(run.clients(), ["p"]);
    assert_eq!(run.code, Some(1), "{}", run.err);
    assert!(run.err.contains("a.log.gz cannot be read further"), "{}", run.err);
}

#[test]
fn rotated_sets_come_in_any_order() {
    let folder = MergeFolder::new();
    fs::create_dir(folder.join("logs")).unwrap();
    let request = |n: i64| format!("GET /{n} HTTP/1.1");
    let mut expected = Vec::new();
    for file in 0..5 {
        let lines: String =
            (0..100).map(|n| line("p", T + file * 100 + n, &request(file * 100 + n))).collect();
        let maps: String = (0..100)
            .map(|n| mapping("1.1.1.1", T + file * 100 + n, "10.0.0.1", &request(file * 100 + n)))
            .collect();
        let name = format!("access.log.{}", 4 - file);
        folder.write(
            format!("logs/{name}"),
            compress(if file % 2 == 0 { "" } else { "gz" }, lines.as_bytes()),
        );
        folder.write(format!("logs/pen.{}", (file * 3) % 5), maps.as_bytes());
        expected.extend((0..100).map(|n| format!("GET /{}", file * 100 + n)));
    }
    for logs in [
        "10.0.0.1:logs/access.log.*",
        "10.0.0.1:logs/access.log.2 10.0.0.1:logs/access.log.0 10.0.0.1:logs/access.log.[134]",
    ] {
        let run = folder.run(&format!("-p logs/pen.* {logs}"));
        assert_eq!(run.requests(), expected, "{logs}");
        assert!(run.clients().iter().all(|client| client == "1.1.1.1"), "{logs}");
    }
}

#[test]
fn files_of_one_server_may_overlap() {
    let folder = MergeFolder::new();
    folder.write("pen.log", "");
    for (name, odd) in [("a.log", 0), ("b.log", 1)] {
        let text: String = (0..500)
            .map(|n| line("p", T + 2 * n + odd, &format!("GET /{} HTTP/1.1", 2 * n + odd)))
            .collect();
        folder.write(name, &text);
    }
    let run = folder.run("-p pen.log 10.0.0.1:b.log 10.0.0.1:a.log");
    assert_eq!(run.requests(), (0..1_000).map(|n| format!("GET /{n}")).collect::<Vec<_>>());
}

#[test]
fn nearly_sorted_logs_are_set_right() {
    let folder = MergeFolder::new();
    folder.write("pen.log", "");
    let times = [0, 5, 3, 7, 1_900, 1, 1_905, 9];
    let text: String =
        times.iter().map(|n| line("p", T + n, &format!("GET /{n} HTTP/1.1"))).collect();
    folder.write("a.log", &text);
    let run = folder.run("-p pen.log 10.0.0.1:a.log");
    let mut sorted = times;
    sorted.sort_unstable();
    assert_eq!(run.requests(), sorted.map(|n| format!("GET /{n}")));
    assert!(run.err.contains("3 lines out of order, set right"), "{}", run.err);
}

#[test]
fn standard_input_is_read_once() {
    let folder = MergeFolder::new();
    folder.write("pen.log", mapping("1.1.1.1", T, "10.0.0.1", "GET /a HTTP/1.1"));
    folder.write("b.log", line("q", T + 1, "GET /b HTTP/1.1"));
    let text = compress("gz", line("p", T, "GET /a HTTP/1.1").as_bytes());
    let run = folder.run_on("-p pen.log 10.0.0.1:- 10.0.0.2:b.log", &text);
    assert_eq!(run.clients(), ["1.1.1.1", "q"], "{}", run.err);
    let pen = mapping("1.1.1.1", T, "10.0.0.2", "GET /b HTTP/1.1");
    let run = folder.run_on("-p - 10.0.0.2:b.log", pen.as_bytes());
    assert_eq!(run.clients(), ["1.1.1.1"], "{}", run.err);
    let run = folder.run_on("-p - 10.0.0.1:-", b"");
    assert_eq!(run.code, Some(2));
    assert!(run.err.contains("only once"), "{}", run.err);
}

#[test]
fn servers_may_be_ipv6_have_ports_or_be_paths() {
    let folder = MergeFolder::new();
    let request = "GET /a HTTP/1.1";
    for (server, argument) in [
        ("2001:db8::1", "[2001:DB8:0:0::1]:a.log"),
        ("2001:db8::1", "[2001:db8::1]:8080:a.log"),
        ("10.0.0.1", "10.0.0.1:8080:a.log"),
        ("/run/app", "/run/app:a.log"),
    ] {
        folder.write("pen.log", mapping("2001:db8::99", T, server, request));
        folder.write("a.log", line("p", T, request));
        let run = folder.run(&format!("-p pen.log {argument}"));
        assert_eq!(run.clients(), ["2001:db8::99"], "{argument}: {}", run.err);
    }
    let run = folder.run("-p pen.log 2001:db8::1:a.log");
    assert_eq!(run.code, Some(2));
    assert!(run.err.contains("in brackets"), "{}", run.err);
}

#[test]
fn a_clock_that_is_off_is_allowed_for() {
    let folder = MergeFolder::new();
    let request = |n: i64| format!("GET /{n} HTTP/1.1");
    let maps: String = (0..400)
        .map(|n| {
            let client = format!("1.1.{}.{}", n / 200, n % 200);
            mapping(&client, T + n, if n % 2 == 0 { "10.0.0.1" } else { "10.0.0.2" }, &request(n))
        })
        .collect();
    folder.write("pen.log", &maps);
    for ahead in [3_600, -90, 100_000] {
        let lines = |odd: i64, ahead: i64| -> String {
            (0..200).map(|n| line("p", T + 2 * n + odd + ahead, &request(2 * n + odd))).collect()
        };
        folder.write("a.log", lines(0, ahead));
        folder.write("b.log", lines(1, 0));
        let run = folder.run("-j 20 -p pen.log 10.0.0.1:a.log 10.0.0.2:b.log");
        if ahead > 4_000 {
            // Out of reach: nothing is guessed.
            assert!(run.clients().iter().filter(|c| *c == "p").count() >= 200, "{}", run.err);
            continue;
        }
        let way = if ahead < 0 { "behind" } else { "ahead of" };
        let told = format!("clock {} s {way} the balancer's", ahead.abs());
        assert!(run.err.contains(&told), "{}", run.err);
        for (client, request) in run.clients().iter().zip(run.requests()) {
            let n: i64 = request.trim_start_matches("GET /").parse().unwrap();
            assert_eq!(*client, format!("1.1.{}.{}", n / 200, n % 200), "{request}");
        }
    }
}

#[test]
fn output_is_compressed_by_its_ending_and_complete_or_not_there() {
    let folder = MergeFolder::new();
    folder.write("pen.log", "");
    let text: String = (0..1_000).map(|n| line("p", T + n, "GET / HTTP/1.1")).collect();
    folder.write("a.log", &text);
    for name in ["out", "out.gz", "out.bz2", "out.xz", "out.zst"] {
        let run = folder.run(&format!("-o {name} -p pen.log 10.0.0.1:a.log"));
        assert_eq!((run.wrote_all(), run.out.as_str()), (true, ""), "{name}: {}", run.err);
        let again = folder.run(&format!("-q -p pen.log 10.0.0.1:{name}"));
        assert_eq!(again.out, text, "{name}");
        let magic = &folder.read(name)[..2];
        assert_eq!(text.as_bytes().starts_with(magic), name == "out", "{name}");
    }
    assert_eq!(
        folder.names(),
        ["a.log", "out", "out.bz2", "out.gz", "out.xz", "out.zst", "pen.log"]
    );
}

#[test]
fn an_output_that_is_an_input_is_refused() {
    let folder = MergeFolder::new();
    folder.write("pen.log", "");
    folder.write("a.log", line("p", T, "GET / HTTP/1.1"));
    let run = folder.run("-o ./a.log -p pen.log 10.0.0.1:a.log");
    assert_eq!(run.code, Some(2));
    assert!(run.err.contains("choose another name"), "{}", run.err);
    assert_eq!(folder.read("a.log"), line("p", T, "GET / HTTP/1.1").as_bytes());
}

#[test]
fn a_full_disk_is_an_error_that_names_the_file() {
    let folder = MergeFolder::new();
    folder.write("pen.log", "");
    folder.write("a.log", line("p", T, "GET / HTTP/1.1").repeat(10));
    let run = folder.run("-o /dev/full -p pen.log 10.0.0.1:a.log");
    assert_eq!(run.code, Some(1));
    assert!(run.err.contains("mergelogs: cannot write to /dev/full: No space left"), "{}", run.err);
    let full = fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let run = folder.run_with("-p pen.log 10.0.0.1:a.log", |command| {
        command.stdout(full.try_clone().unwrap());
    });
    assert_eq!(run.code, Some(1));
    assert!(run.err.contains("cannot write to standard output: No space left"), "{}", run.err);
    let run = folder.run("-o nowhere/out -p pen.log 10.0.0.1:a.log");
    assert_eq!(run.code, Some(1));
    assert!(run.err.contains("cannot create nowhere/out"), "{}", run.err);
    assert_eq!(folder.names(), ["a.log", "pen.log"]);
}

#[test]
fn a_closed_pipe_is_an_end() {
    let folder = MergeFolder::new();
    folder.write("pen.log", "");
    folder.write("a.log", line("p", T, "GET / HTTP/1.1").repeat(50_000));
    let mut child = folder
        .command("-p pen.log 10.0.0.1:a.log")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut first = [0; 10];
    let mut out = child.stdout.take().unwrap();
    out.read_exact(&mut first).unwrap();
    drop(out);
    let ended = child.wait_with_output().unwrap();
    assert_eq!(ended.status.code(), Some(0), "{}", String::from_utf8_lossy(&ended.stderr));
}

#[test]
fn a_signal_leaves_nothing_behind() {
    use nix::sys::signal::{Signal, kill};
    use nix::unistd::Pid;
    for (signal, code) in [(Signal::SIGINT, 130), (Signal::SIGTERM, 143)] {
        let folder = MergeFolder::new();
        folder.write("pen.log", "");
        folder.write("out", "as it was\n");
        let mut child = folder
            .command("-o out --explain why -p pen.log 10.0.0.1:-")
            .stdin(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut input = child.stdin.take().unwrap();
        input.write_all(line("p", T, "GET / HTTP/1.1").as_bytes()).unwrap();
        folder.wait_for(|names| names.iter().filter(|name| name.ends_with(".tmp")).count() == 2);
        kill(Pid::from_raw(i32::try_from(child.id()).unwrap()), signal).unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(code), "{signal}");
        assert_eq!(folder.names(), ["out", "pen.log"], "{signal}");
        assert_eq!(folder.read("out"), b"as it was\n");
        drop(input);
    }
}

#[test]
fn a_signal_ends_it_while_nobody_reads_the_output() {
    use nix::sys::signal::{Signal, kill};
    use nix::unistd::Pid;
    let folder = MergeFolder::new();
    folder.write("pen.log", "");
    folder.write("a.log", line("p", T, "GET / HTTP/1.1").repeat(60_000));
    let mut child = folder
        .command("-q --explain why -p pen.log 10.0.0.1:a.log")
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut out = child.stdout.take().unwrap();
    out.read_exact(&mut [0; 10]).unwrap();
    kill(Pid::from_raw(i32::try_from(child.id()).unwrap()), Signal::SIGTERM).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(143));
    assert_eq!(folder.names(), ["a.log", "pen.log"]);
}

#[test]
fn no_lines_make_an_empty_log() {
    let folder = MergeFolder::new();
    folder.write("pen.log", mapping("1.1.1.1", T, "10.0.0.1", "GET / HTTP/1.1"));
    folder.write("a.log", "");
    let run = folder.run("-o out.gz -p pen.log 10.0.0.1:a.log 10.0.0.2:/dev/null");
    assert_eq!(run.code, Some(0), "{}", run.err);
    assert!(run.err.contains("lines read 0 = written 0"), "{}", run.err);
    assert!(run.err.contains("1 explained none"), "{}", run.err);
    assert_eq!(folder.run("-q -p pen.log 10.0.0.1:out.gz").out, "");
}

/// The developers' collection of real logs, where it is at hand.
#[test]
fn real_logs_come_out_whole() {
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared");
    let shared = std::env::var_os("PEN_SHARED").map_or(beside, Into::into);
    let Ok(access) = shared.join("data/access").canonicalize() else {
        println!("skipped: {} is not there", shared.display());
        return;
    };
    let folder = MergeFolder::new();
    folder.write("pen.log", "");
    let mut folders = vec![access];
    let mut lines = 0;
    while let Some(path) = folders.pop() {
        let mut files = Vec::new();
        for entry in fs::read_dir(&path).unwrap().flatten() {
            let into = if entry.path().is_dir() { &mut folders } else { &mut files };
            into.push(entry.path());
        }
        if files.is_empty() {
            continue;
        }
        // One folder is one server, whatever formats lie side by side.
        let run = folder.run_with("-q -p pen.log", |command| {
            command.args(files.iter().map(|file| format!("10.0.0.1:{}", file.display())));
        });
        assert!(run.wrote_all(), "{}: {}", path.display(), run.err);
        let texts: Vec<_> = files.iter().map(|file| unzipped(file)).collect();
        let sorted = |texts: &[Vec<u8>]| {
            let lines = texts.iter().map(|text| text.strip_suffix(b"\n").unwrap_or(text));
            let lines = lines.filter(|text| !text.is_empty());
            let mut lines: Vec<_> =
                lines.flat_map(|text| text.split(|&b| b == b'\n').map(<[u8]>::to_vec)).collect();
            lines.sort_unstable();
            lines
        };
        lines += sorted(&texts).len();
        assert!(sorted(&texts) == sorted(&[run.bytes]), "{}", path.display());
    }
    println!("{lines} lines");
    assert!(lines > 1_000);
}

fn unzipped(file: &Path) -> Vec<u8> {
    let bytes = fs::read(file).expect("it is readable");
    let mut text = Vec::new();
    let read = if bytes.starts_with(b"\x1F\x8B") {
        flate2::bufread::MultiGzDecoder::new(&bytes[..]).read_to_end(&mut text)
    } else if bytes.starts_with(b"BZh") {
        bzip2::bufread::MultiBzDecoder::new(&bytes[..]).read_to_end(&mut text)
    } else {
        return bytes;
    };
    read.expect("it is whole");
    text
}

#[test]
fn misuse_is_told_on_standard_error() {
    let folder = MergeFolder::new();
    folder.write("pen.log", "");
    folder.write("a.log", "");
    for (arguments, code, told) in [
        ("", 2, "Usage: mergelogs"),
        ("-p pen.log", 2, "SERVER:FILE"),
        ("10.0.0.1:a.log", 2, "--mappings"),
        ("-r x -p pen.log 10.0.0.1:a.log", 2, "unexpected argument '-r'"),
        ("-a -p pen.log 10.0.0.1:a.log", 2, "unexpected argument '-a'"),
        ("-p pen.log a.log", 2, "expected SERVER:FILE, found no colon in a.log"),
        ("-p pen.log 10.0.0.1:none", 1, "cannot open none: No such file"),
        ("-p none 10.0.0.1:a.log", 1, "cannot open none: No such file"),
        ("-p pen.log 10.0.0.1:none*", 2, "no file matches none*"),
        ("-p pen.log 10.0.0.1:.", 1, "cannot open .: is a directory"),
        ("-j x -p pen.log 10.0.0.1:a.log", 2, "invalid value 'x'"),
    ] {
        let run = folder.run(arguments);
        assert_eq!(run.code, Some(code), "{arguments}: {}", run.err);
        assert!(run.err.contains(told), "{arguments}: {}", run.err);
        assert_eq!(run.out, "", "{arguments}");
    }
    let run = folder.run("-h");
    assert_eq!(run.code, Some(0));
    assert!(run.out.contains("Usage: mergelogs"));
}

#[test]
fn classic_options_are_understood_together() {
    let folder = MergeFolder::new();
    folder.write("pen.log", mapping("1.1.1.1", T, "10.0.0.1", "GET /a HTTP/1.1"));
    folder.write("a.log", line("p", T, "GET /a HTTP/1.1"));
    let run = folder.run("-cdj2 -t -18000 -ppen.log 10.0.0.1:a.log");
    assert_eq!(run.clients(), ["1.1.1.1"]);
    assert!(run.err.contains("-t is not needed and not used"), "{}", run.err);
    assert!(run.err.contains("-c is not needed"), "{}", run.err);
    let run = folder.run("-q -p pen.log 10.0.0.1:a.log");
    assert_eq!(run.err, "");
}

#[test]
fn explanations_stand_beside_the_lines() {
    let folder = MergeFolder::new();
    folder.write("pen.log", mapping("1.1.1.1", T, "10.0.0.1", "GET /a HTTP/1.1"));
    folder.write(
        "a.log",
        [line("p", T + 1, "GET /a HTTP/1.1"), line("p", T + 1, "GET /b HTTP/1.1"), "junk\n".into()]
            .concat(),
    );
    let run = folder.run("--explain why -p pen.log 10.0.0.1:a.log");
    assert_eq!(run.code, Some(0), "{}", run.err);
    let why = String::from_utf8(folder.read("why")).unwrap();
    let rows: Vec<Vec<&str>> = why.lines().map(|row| row.split('\t').collect()).collect();
    assert_eq!(rows[0][0], "#certainty");
    assert_eq!(rows[1], ["certain", "only", "1.000", "1", "1.000000", "p", "1.1.1.1", "10.0.0.1"]);
    assert_eq!(rows[2], ["unmatched", "no-mapping", "0.000", "0", "-", "p", "p", "10.0.0.1"]);
    assert_eq!(rows[3], ["unmatched", "not-understood", "0.000", "0", "-", "-", "-", "10.0.0.1"]);
    assert_eq!(rows.len(), 4);
}

#[test]
fn the_report_is_for_programs_too() {
    let folder = MergeFolder::new();
    folder.write("pen.log", mapping("1.1.1.1", T, "10.0.0.1", "GET /a HTTP/1.1"));
    folder.write("a.log", [line("p", T, "GET /a HTTP/1.1"), "junk\n".into()].concat());
    let run = folder.run("--report json -p pen.log 10.0.0.1:a.log");
    for part in [
        "\"read\":2,\"written\":2,\"balanced\":true,\"exact\":0,\"certain\":1",
        "\"not_understood\":1",
        "\"decided_early\":0",
        "\"mappings\":{\"read\":1,\"used\":1,\"unused\":0",
        "\"first\":\"2026-11-22T20:23:20Z\"",
        "\"server\":\"10.0.0.1\"",
    ] {
        assert!(run.err.contains(part), "{part} in {}", run.err);
    }
    assert_eq!(run.err.lines().count(), 1);
}

#[test]
fn the_c_program_agrees_where_it_is_right() {
    let c = "/usr/bin/mergelogs";
    if !Path::new(c).exists() {
        println!("skipped: {c} is not installed");
        return;
    }
    let folder = MergeFolder::new();
    let request = |n: i64| format!("GET /{n} HTTP/1.1");
    let maps: String =
        (0..50).map(|n| mapping(&format!("192.0.2.{n}"), T + n, "10.0.0.1", &request(n))).collect();
    folder.write("pen.log", &maps);
    // It takes some lines for an hour earlier at random: a single time is all that stays the same.
    let lines: String = (0..50).map(|n| line("p", T + n, &request(n))).collect();
    folder.write("a.log", &lines);
    let arguments = "-p pen.log 10.0.0.1:a.log";
    let ours = folder.run(&format!("--unmatched server {arguments}"));
    let theirs = Command::new(c)
        .args(arguments.split(' '))
        .env("TZ", "UTC")
        .current_dir(folder.path())
        .output()
        .unwrap();
    let theirs = Run::of(theirs);
    assert_eq!(ours.clients(), theirs.clients());
    assert_eq!(ours.requests(), theirs.requests());
}

#[test]
fn the_manual_matches_the_help() {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/man/mergelogs.1");
    let mut mergelogs = Command::new(env!("CARGO_BIN_EXE_mergelogs"));
    assert_manual_matches_help(&mut mergelogs, &page, &[]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    /// Every line comes out, and but for the client of some as it went in.
    #[test]
    fn only_clients_change(
        logs in prop::collection::vec(prop::collection::vec((0..60_i64, 0..6_u8, 0..8_u8), 0..60), 1..4),
        maps in prop::collection::vec((0..60_i64, 1..4_u8, 0..6_u8, 0..5_u8), 0..80),
    ) {
        let folder = MergeFolder::new();
        let request = |n: u8| format!("GET /{n} HTTP/1.1");
        let maps: String = maps
            .iter()
            .map(|&(time, server, what, client)| {
                mapping(&format!("192.0.2.{client}"), T + time, &format!("10.0.0.{server}"), &request(what))
            })
            .collect();
        folder.write("pen.log", &maps);
        let mut arguments = String::from("-p pen.log");
        let mut all = Vec::new();
        for (index, log) in logs.iter().enumerate() {
            let text: String = log
                .iter()
                .map(|&(time, what, kind)| match kind {
                    0 => format!("junk {time}\n"),
                    1 => "\n".to_owned(),
                    _ => line("p", T + time, &request(what)),
                })
                .collect();
            folder.write(format!("{index}.log"), &text);
            all.extend(text.lines().map(str::to_owned));
            arguments.push_str(&format!(" 10.0.0.{}:{index}.log", index + 1));
        }
        let run = folder.run(&arguments);
        prop_assert!(run.wrote_all(), "{}", run.err);
        let without_client = |line: &str| match line.split_once(" - - ") {
            Some((_, rest)) => rest.to_owned(),
            None => line.to_owned(),
        };
        let mut before: Vec<_> = all.iter().map(|line| without_client(line)).collect();
        let mut after: Vec<_> = run.out.lines().map(without_client).collect();
        before.sort();
        after.sort();
        prop_assert_eq!(before, after);
    }
}
