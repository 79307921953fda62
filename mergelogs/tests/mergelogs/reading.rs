//! Lines as people have them: what stands in front, and what is not understood.

use crate::T;
use crate::support::{MergeFolder, line, mapping};

/// Runs one line for each of `heads`, which ends where the access line begins; returns the output.
fn behind(heads: &[&str]) -> String {
    let folder = MergeFolder::new();
    let (mut mappings, mut lines) = (String::new(), String::new());
    for (i, head) in (0..).zip(heads) {
        let request = format!("GET /{i} HTTP/1.1");
        mappings += &mapping(&format!("203.0.113.{i}"), T + i, "10.0.0.1", &request);
        lines += head;
        lines += &line("10.0.0.9", T + i, &request);
    }
    folder.write("pen.log", mappings);
    folder.write("a.log", lines);
    let run = folder.run("-p pen.log 10.0.0.1:a.log");
    assert_eq!(run.code, Some(0), "{}", run.err);
    run.out
}

#[test]
fn whatever_passed_a_line_on_its_client_is_found_behind() {
    let heads = [
        "Nov 22 20:23:20 FW1 fw1 nginx: ",
        "Nov 22 20:23:20.123 web1 nginx: ",
        "<190>Nov 22 2026 20:23:20 web1 nginx: ",
        "<190>web1 nginx: ",
        "Nov 22 20:23:20 web1 nginx ",
        "<190>1 2026-11-22T20:23:20.1+00:00 web1 nginx - - -  ",
        "2026-11-22T21:23:20.346494690+01:00 stdout F ",
        "2026-11-22T20:23:20.346494690Z ",
        "web-1  | ",
        "Nov 22 20:23:20.123456 web1 nginx[1]: ",
        "Sun 2026-11-22 20:23:20 UTC web1 nginx[1]: ",
        "1795379000.123456 web1 nginx[1]: ",
        "2026-11-22T20:23:20+0000 web1 nginx[1]: ",
        "access.log:",
        "access.log:17:",
        "1795379000 ",
        "web1 nginx: ",
    ];
    let out = behind(&heads);
    for (i, (head, line)) in heads.iter().zip(out.lines()).enumerate() {
        assert!(line.starts_with(&format!("{head}203.0.113.{i} - - [")), "{line}");
    }
    let raw = "\u{1}\0\0\0\0\0\0\u{5f}";
    assert!(behind(&[raw]).starts_with(&format!("{raw}203.0.113.0 - - [")));
}

#[test]
fn lines_that_are_not_understood_keep_their_place_by_their_own_time() {
    let folder = MergeFolder::new();
    folder.write("pen.log", mapping("203.0.113.1", T, "10.0.0.1", "GET /x HTTP/1.1"));
    let listed = |i| line("198.51.100.1, 192.0.2.5", T + i, &format!("GET /{i} HTTP/1.1"));
    folder.write("a.log", (0..10).step_by(2).map(listed).collect::<String>());
    folder.write("b.log", (1..10).step_by(2).map(listed).collect::<String>());
    let run = folder.run("-d -p pen.log 10.0.0.1:a.log 10.0.0.2:b.log");
    assert_eq!(run.out, (0..10).map(listed).collect::<String>());
    let place = "a.log:1: expected a client at byte 0, at \"198.51.100.1, 192.0.2.5 - - [";
    assert!(run.err.contains(place), "{}", run.err);
}

#[test]
fn a_request_with_a_url_is_the_request_of_its_path() {
    let folder = MergeFolder::new();
    let url = |i| format!("GET http://shop.example/{i} HTTP/1.1");
    let path = |i| format!("GET /{i} HTTP/1.1");
    let extended = "pen1 1795379003.700000 request 203.0.113.3 56086 10.0.0.1 80 10.0.0.9 44674 1 1 \
                    - - - - - - - - - - GET /3 HTTP/1.1\n";
    let mappings = mapping("203.0.113.1", T + 1, "10.0.0.1", &path(1))
        + &mapping("203.0.113.2", T + 2, "10.0.0.1", &url(2))
        + extended;
    folder.write("pen.log", mappings);
    let lines =
        line("p", T + 1, &url(1)) + &line("p", T + 2, &path(2)) + &line("p", T + 3, &url(3));
    folder.write("a.log", lines);
    let run = folder.run("-p pen.log 10.0.0.1:a.log");
    assert_eq!(run.clients(), ["203.0.113.1", "203.0.113.2", "203.0.113.3"]);
}

#[test]
fn a_line_without_a_time_has_that_of_its_envelope_in_the_year_of_the_mappings() {
    let folder = MergeFolder::new();
    let (mut mappings, mut lines) = (String::new(), String::new());
    for i in 0..9 {
        let request = format!("GET /{i} HTTP/1.1");
        mappings += &mapping(&format!("203.0.113.{i}"), T + i, "10.0.0.1", &request);
        let stamp = match i % 3 {
            0 => "Nov 22 20:23:2",
            1 => "Nov 22 2026 20:23:2",
            _ => "2026-11-22T20:23:2",
        };
        let zone = if i % 3 == 2 { "Z" } else { "" };
        lines += &format!("{stamp}{i}{zone} web nginx: 10.0.0.9 - - \"{request}\" 200 5\n");
    }
    folder.write("pen.log", mappings);
    folder.write("a.log", &lines);
    let run = folder.run("--zone UTC -p pen.log 10.0.0.1:a.log");
    let expected: Vec<_> = (0..)
        .zip(lines.lines())
        .map(|(i, line)| line.replace("10.0.0.9", &format!("203.0.113.{i}")))
        .collect();
    assert_eq!(run.out.lines().collect::<Vec<_>>(), expected, "{}", run.err);
    assert!(!run.err.contains("without a time"), "{}", run.err);
}

/// Merges lines whose head is one of `heads`; returns the heads that come out.
fn heads_of(heads: &[&str]) -> Vec<String> {
    let folder = MergeFolder::new();
    let (mut mappings, mut lines) = (String::new(), String::new());
    for (i, head) in (0..).zip(heads) {
        let request = format!("GET /{i} HTTP/1.1");
        mappings += &mapping("203.0.113.9", T + i, "10.0.0.1", &request);
        lines += &line(&format!("{head} [x] "), T + i, &request).replace(" [x]  - -", "");
    }
    folder.write("pen.log", mappings);
    folder.write("a.log", lines);
    let run = folder.run("-p pen.log 10.0.0.1:a.log");
    let head =
        |line: &str| line.split_once(" [").map_or(String::new(), |(head, _)| head.to_owned());
    run.out.lines().map(head).collect()
}

#[test]
fn the_client_is_replaced_and_no_other_word() {
    let dashed = "shop.example - 10.0.0.9 - -";
    assert_eq!(heads_of(&[dashed; 3]), ["shop.example - 203.0.113.9 - -"; 3]);
    let heads = [
        "www.example.com:80 unix: - -",
        "www.example.com 10.0.0.2, 10.0.0.1, 127.0.0.1 - -",
        "www.example.com localhost - -",
        "198.51.100.1:80 lb1 - -",
        "www.example.com:443 \"10.5.102.222, 198.51.100.77\" 10.2.1.185 - -",
    ];
    let expected = [
        "www.example.com:80 203.0.113.9 - -",
        heads[1],
        "www.example.com 203.0.113.9 - -",
        "198.51.100.1:80 203.0.113.9 - -",
        heads[4],
    ];
    assert_eq!(heads_of(&heads), expected);
}

#[test]
fn the_beginning_of_a_log_shows_which_word_is_the_client() {
    // In the first line alone the first address could as well be the client.
    let mut heads = vec!["10.0.0.9 198.51.100.7 - -"];
    heads.extend(["10.0.0.9 a.example - -"; 20]);
    assert_eq!(heads_of(&heads)[0], "203.0.113.9 198.51.100.7 - -");
    let mut heads = vec!["a.example \"-\" 10.0.0.9 - -"];
    heads.extend(["a.example \"198.51.100.7, 10.1.1.1\" 10.0.0.9 - -"; 20]);
    assert_eq!(heads_of(&heads)[0], "a.example \"-\" 203.0.113.9 - -");
}

#[test]
fn objects_are_read_as_people_write_them() {
    let folder = MergeFolder::new();
    let (mut mappings, mut lines) = (String::new(), String::new());
    for i in 0..4 {
        let request = format!("GET /{i} HTTP/1.1");
        mappings += &mapping(&format!("203.0.113.{i}"), T + i, "10.0.0.1", &request);
        let time = "22/Nov/2026:20:23:20 +0000";
        let fields =
            format!(r#""remote_addr":"10.0.0.9","time_local":"{time}","request":"{request}""#);
        lines += &match i {
            0 => format!("{{{fields},\"upstream_response_time\":,\"user_agent\":\"curl/8.0\"}}\n"),
            1 => format!(" {{\"nginx\":{{{fields},}}}},\n"),
            2 => format!("{{{fields},\"user_agent\":\"cut\n"),
            _ => {
                let text = line("10.0.0.9", T + i, &request).trim_end().replace('"', "\\\"");
                format!("{{\"log\":\"{text}\\n\",\"stream\":\"stdout\"}}\n")
            }
        };
    }
    folder.write("pen.log", mappings);
    folder.write("a.log", &lines);
    let run = folder.run("-p pen.log 10.0.0.1:a.log");
    let expected: Vec<_> = (0..)
        .zip(lines.lines())
        .map(|(i, line)| line.replace("10.0.0.9", &format!("203.0.113.{i}")))
        .collect();
    assert_eq!(run.out.lines().collect::<Vec<_>>(), expected, "{}", run.err);
}

#[test]
fn a_misspelled_variable_is_refused_with_the_one_that_was_meant() {
    let folder = MergeFolder::new();
    folder.write("pen.log", "");
    folder.write("a.log", "");
    for (format, message) in [
        ("$remote_addr|$reqest", "unknown variable $reqest at byte 13: did you mean $request?"),
        ("%h|%{remoet}p", "unknown %{remoet}p at byte 3: did you mean remote?"),
    ] {
        let run = folder.run(&format!("--format {format} -p pen.log 10.0.0.1:a.log"));
        assert_eq!(run.code, Some(2), "{}", run.err);
        assert!(run.err.contains(message), "{}", run.err);
        let run = folder.run(&format!("--check --format {format}"));
        assert_eq!(run.code, Some(2), "{}", run.out);
    }
}

#[test]
fn a_list_of_addresses_is_the_client_field_if_the_format_says_so() {
    let folder = MergeFolder::new();
    let request = "GET|/a|HTTP/1.1";
    folder.write("pen.log", mapping("203.0.113.1", T, "10.0.0.1", "GET /a HTTP/1.1"));
    let rest = format!("|-|-|[22/Nov/2026:20:23:20 +0000]|{request}");
    folder.write("a.log", format!("198.51.100.1, 192.0.2.5{rest}\n"));
    let format = "%{X-Forwarded-For}i|%l|%u|%t|%m|%U%q|%H";
    let run = folder.run(&format!("--format {format} -p pen.log 10.0.0.1:a.log"));
    assert_eq!(run.out, format!("203.0.113.1{rest}\n"), "{}", run.err);
}

/// Merges a log of one line for each of `count` requests of different clients; returns the output and what is expected.
fn merged(
    options: &str,
    head: &str,
    count: i64,
    line: impl Fn(i64) -> (String, String),
) -> (String, String, String) {
    let folder = MergeFolder::new();
    let (mut mappings, mut lines, mut expected) = (String::new(), head.to_owned(), head.to_owned());
    for i in 0..count {
        let (request, text) = line(i);
        mappings += &mapping(&format!("203.0.113.{i}"), T + i, "10.0.0.1", &request);
        lines += &format!("{text}\n");
        expected += &format!("{}\n", text.replacen("10.0.0.9", &format!("203.0.113.{i}"), 1));
    }
    folder.write("pen.log", mappings);
    folder.write("a.log", lines);
    let run = folder.run(&format!("{options} -p pen.log 10.0.0.1:a.log"));
    (run.out, expected, run.err)
}

#[test]
fn requests_are_compared_without_the_protocol_where_a_format_does_not_log_it() {
    for length in [0, 80, 86, 90, 95, 300] {
        let path = |i: i64| format!("/{i}/{}", "x".repeat(length));
        for object in [true, false] {
            let line = |i: i64| {
                let (path, protocol) = (path(i), if i % 3 == 0 { "1.0" } else { "1.1" });
                let text = if object {
                    format!(
                        r#"{{"time":{},"req":{{"method":"GET","url":"{path}"}},"remoteAddress":"10.0.0.9"}}"#,
                        T + i
                    )
                } else {
                    format!("10.0.0.9|[{}]|GET|{path}", T + i)
                };
                (format!("GET {path} HTTP/{protocol}"), text)
            };
            let options = if object { "" } else { "--format %h|[%{sec}t]|%m|%U" };
            let (out, expected, err) = merged(options, "", 9, line);
            assert_eq!(out, expected, "{length}: {err}");
        }
    }
}

#[test]
fn logs_of_servers_with_a_form_of_their_own_are_merged() {
    let fields = "#Software: IIS\n#Fields: date time s-ip cs-method cs-uri-stem cs-uri-query c-ip sc-status\n";
    for (head, form) in [
        ("", "[GIN] 2026/11/22 - 20:23:2@ | 200 |  1.2ms |  10.0.0.9 | GET      \"/@\""),
        (
            "",
            "{'remote_addr': '10.0.0.9', 'time': '2026-11-22T20:23:2@', 'request': 'GET /@ HTTP/1.1', 'x': None}",
        ),
        (
            "",
            "2026-11-22T20:23:2@.1Z lb 10.0.0.9:4000 10.0.1.5:80 0.1 0.1 0.1 200 200 0 29 \"GET http://a:80/@ HTTP/1.1\" \"x\" - -",
        ),
        (
            "",
            "time=2026-11-22T20:23:2@Z level=INFO method=GET path=/@ remote_addr=10.0.0.9:4000 status=200",
        ),
        (fields, "2026-11-22 20:23:2@ 10.0.0.1 GET /@ - 10.0.0.9 200"),
    ] {
        let line = |i: i64| (format!("GET /{i} HTTP/1.1"), form.replace('@', &i.to_string()));
        let (out, expected, err) = merged("--zone UTC", head, 9, line);
        assert_eq!(out, expected, "{err}");
    }
}
