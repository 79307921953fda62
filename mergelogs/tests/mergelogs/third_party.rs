//! Mapping logs of other balancers, and clients that are not to be known.

use crate::support::{self, MergeFolder, Run};

const PORT: &str = r#"%h %l %u %t "%r" %>s %b %{remote}p"#;

/// Of the web server at 20:23:20 UTC.
fn line(request: &str, port: u16) -> String {
    format!("10.9.9.9 - - [22/Nov/2026:20:23:20 +0000] \"{request}\" 200 5 {port}\n")
}

/// HAProxy's, by the clock on its wall.
fn haproxys(hour: u8, client: u8, server: &str, request: &str, ports: &str) -> String {
    format!(
        "203.0.113.{client}:4711 [22/Nov/2026:{hour:02}:23:20.100] web app/{server} 0/0/0/1/2 200 128 - - ---- \
         1/1/0/0/0 0/0 \"{request}\"{ports}\n"
    )
}

fn run(folder: &MergeFolder, options: &[&str], servers: &[&str]) -> Run {
    folder.run_with("-p ha.log --format", |command| {
        command.arg(PORT).args(options).args(servers).env("TZ", "UTC");
    })
}

#[test]
fn haproxys_lines_are_found_among_others_and_names_have_addresses() {
    let folder = MergeFolder::new();
    let lines = [
        haproxys(20, 1, "w1", "GET /a HTTP/1.1", ""),
        "203.0.113.2 1795379000 10.0.0.1 GET /classic HTTP/1.1\n".to_owned(),
        format!(
            "Nov 22 20:23:20 lb haproxy[7]: {}",
            haproxys(20, 3, "w2", "GET /b#22 HTTP/1.1", "")
        ),
        haproxys(20, 4, "w9", "GET /c HTTP/1.1", ""),
        haproxys(20, 5, "w9", "GET /d HTTP/1.1", " 10.9.9.9:4005 10.0.0.1:80"),
        haproxys(20, 6, "<NOSRV>", "<BADREQ>", ""),
        "junk\n".to_owned(),
    ];
    folder.write("ha.log", lines.concat());
    let requests = ["GET /a", "GET /classic", "GET /b\\x22", "GET /c", "GET /d"];
    let logged: Vec<_> = requests
        .iter()
        .zip(4001..)
        .map(|(get, port)| line(&format!("{get} HTTP/1.1"), port))
        .collect();
    folder.write("1.log", [0, 1, 3, 4].map(|index: usize| logged[index].as_str()).concat());
    folder.write("2.log", &logged[2]);
    let names = ["--server", "app/w1=10.0.0.1", "--server", "w2=10.0.0.2"];
    let run = run(&folder, &names, &["10.0.0.1:1.log", "10.0.0.2:2.log"]);
    let mut clients = run.clients();
    clients.sort();
    let expected = ["10.9.9.9", "203.0.113.1", "203.0.113.2", "203.0.113.3", "203.0.113.5"];
    assert_eq!(clients, expected, "{}", run.err);
    assert!(run.err.contains("say --server app/w9=ADDR"), "{}", run.err);
    assert!(run.err.contains("1 damaged"), "{}", run.err);
}

#[test]
fn a_log_may_go_by_the_balancers_name_for_its_server() {
    let folder = MergeFolder::new();
    folder.write("ha.log", haproxys(20, 1, "w1", "GET /a HTTP/1.1", ""));
    folder.write("1.log", line("GET /a HTTP/1.1", 4001));
    for server in ["app/w1:1.log", "w1:1.log"] {
        let run = run(&folder, &[], &[server]);
        assert_eq!(run.clients(), ["203.0.113.1"], "{server}: {}", run.err);
    }
}

#[test]
fn times_without_a_zone_are_in_that_of_the_machine_or_as_told() {
    let folder = MergeFolder::new();
    folder.write("1.log", line("GET /a HTTP/1.1", 4001));
    for (hour, zone, machine, found) in [
        (20, "local", "UTC", true),
        (22, "local", "UTC", false),
        (22, "+0200", "UTC", true),
        (15, "-0500", "UTC", true),
        (21, "local", "Europe/Berlin", true),
        (20, "UTC", "Europe/Berlin", true),
        (21, "Europe/Berlin", "UTC", true),
        (15, "America/New_York", "Europe/Berlin", true),
    ] {
        folder.write("ha.log", haproxys(hour, 1, "w1", "GET /a HTTP/1.1", ""));
        let run = folder.run_with("-p ha.log --mapping-zone", |command| {
            command.args([zone, "--format", PORT, "w1:1.log"]).env("TZ", machine);
        });
        let expected = if found { "203.0.113.1" } else { "10.9.9.9" };
        assert_eq!(run.clients(), [expected], "{hour} {zone} {machine}: {}", run.err);
    }
}

#[test]
fn times_of_access_logs_without_a_zone_are_in_that_of_the_machine_or_as_told() {
    let folder = MergeFolder::new();
    folder.write("pen.log", "203.0.113.1 1795379000 10.0.0.1 GET /a HTTP/1.1\n");
    let format = "%h %l %u [%{%Y-%m-%d %H:%M:%S}t] \"%r\" %>s %b";
    for (hour, zone, machine, found) in [
        (20, None, "UTC", true),
        (22, None, "UTC", false),
        (21, None, "Europe/Berlin", true),
        (22, Some("+0200"), "UTC", true),
        (15, Some("10.0.0.1=America/New_York"), "UTC", true),
        (20, Some("UTC"), "Europe/Berlin", true),
    ] {
        let line = format!("10.9.9.9 - - [2026-11-22 {hour}:23:20] \"GET /a HTTP/1.1\" 200 5\n");
        folder.write("1.log", line);
        let run = folder.run_with("-p pen.log --format", |command| {
            command.arg(format).args(zone.map(|zone| format!("--zone={zone}")));
            command.arg("10.0.0.1:1.log").env("TZ", machine);
        });
        let expected = if found { "203.0.113.1" } else { "10.9.9.9" };
        assert_eq!(run.clients(), [expected], "{hour} {zone:?} {machine}: {}", run.err);
    }
    let run = folder.run("-p pen.log --zone w9=UTC 10.0.0.1:1.log");
    assert_eq!(run.code, Some(2));
    assert!(run.err.contains("there is no log of that server"), "{}", run.err);
}

#[test]
fn a_balancers_local_times_are_right_when_summer_time_ends() {
    let folder = MergeFolder::new();
    // 29 October 2023: at 01:00 UTC clocks in Berlin go from 03:00 back to 02:00.
    let (mut balancers, mut servers) = (String::new(), String::new());
    let day = |minute: i64, ahead: i64| {
        let wall = minute + ahead * 60;
        format!("29/Oct/2023:{:02}:{:02}:20", wall / 60, wall % 60)
    };
    for minute in 0..150 {
        let (ahead, client) = (if minute < 60 { 2 } else { 1 }, minute % 40 + 1);
        balancers += &format!(
            "203.0.113.{client}:4711 [{}.037] web app/w1 0/0/1/5/6 200 404 - - ---- 1/1/0/0/0 0/0 \"GET /{} HTTP/1.1\"\n",
            day(minute, ahead),
            minute % 7
        );
        servers += &format!(
            "10.9.9.9 - - [{} +0{ahead}00] \"GET /{} HTTP/1.1\" 200 404\n",
            day(minute, ahead),
            minute % 7
        );
    }
    folder.write("ha.log", balancers);
    folder.write("1.log", servers);
    let run = folder.run("-p ha.log --mapping-zone Europe/Berlin app/w1:1.log");
    let expected: Vec<_> = (0..150).map(|n| format!("203.0.113.{}", n % 40 + 1)).collect();
    assert_eq!(run.clients(), expected, "{}", run.err);
}

#[test]
fn a_pasted_format_is_that_of_all_mapping_logs() {
    let folder = MergeFolder::new();
    let format = "[%START_TIME%] %DOWNSTREAM_REMOTE_ADDRESS% %UPSTREAM_HOST% %UPSTREAM_LOCAL_ADDRESS% \
                  \"%REQ(:METHOD)% %REQ(:PATH)% %PROTOCOL%\" %RESPONSE_CODE% %DURATION%\\n";
    let envoys = |client: u8, port: u16| {
        format!(
            "[2026-11-22T20:23:20.100Z] 203.0.113.{client}:7 10.0.0.1:80 10.9.9.9:{port} \"GET /a HTTP/2\" 200 3\n"
        )
    };
    folder.write("ha.log", [envoys(1, 4001), envoys(2, 4002), "junk\n".into()].concat());
    let request = "GET /a HTTP/1.1";
    folder.write("1.log", [line(request, 4002), line(request, 4001)].concat());
    let options = ["--mapping-format", format, "--explain", "explain"];
    let run = run(&folder, &options, &["10.0.0.1:1.log"]);
    assert_eq!(run.clients(), ["203.0.113.2", "203.0.113.1"], "{}", run.err);
    let explain = String::from_utf8(folder.read("explain")).unwrap();
    assert_eq!(explain.matches("exact\tport").count(), 2, "{explain}");
    assert!(run.err.contains("1 damaged"), "{}", run.err);
}

#[test]
fn lines_of_several_formats_are_read_from_one_log_and_all_go_to_the_named_server() {
    let folder = MergeFolder::new();
    let nginxs = |client: u8, request: &str| {
        format!(
            "203.0.113.{client} - - [22/Nov/2026:20:23:20 +0000] \"{request}\" 200 5 \"-\" \"-\"\n"
        )
    };
    let log = [
        nginxs(1, "GET /a HTTP/1.1"),
        haproxys(20, 2, "w1", "GET /b HTTP/1.1", ""),
        "pen1 junk\n".to_owned(),
        "Proxy web started.\n".to_owned(),
    ];
    folder.write("ha.log", log.concat());
    let lines = [line("GET /a HTTP/1.0", 1), line("GET /b HTTP/1.1", 2)];
    folder.write("1.log", lines.concat());
    let options = "--mapping-format combined --mapping-format haproxy --server *=10.0.0.1";
    let options: Vec<_> = options.split(' ').collect();
    let run = run(&folder, &options, &["10.0.0.1:1.log"]);
    assert_eq!(run.clients(), ["203.0.113.1", "203.0.113.2"], "{}", run.err);
    assert!(run.err.contains("1 damaged"), "{}", run.err);
}

#[test]
fn bad_options_say_what_was_expected() {
    let folder = MergeFolder::new();
    folder.write("key", "too short\n");
    for (options, expected) in [
        ("--mapping-format %ci", "if all its requests go to one, say --server '*=ADDR'"),
        ("--server w1", "expected NAME=ADDR"),
        ("--mapping-zone MESZ", "expected local, UTC, hours"),
        ("--privacy hash", "expected cut, cut=V4,V6"),
        ("--privacy key=key", "at least 16 bytes"),
        ("--privacy key=nowhere", "cannot read the key nowhere"),
    ] {
        let run = folder.run(&format!("-p pen.log {options} 10.0.0.1:a.log"));
        assert_eq!(run.code, Some(2), "{options}: {}", run.err);
        assert!(run.err.contains(expected), "{options}: {}", run.err);
    }
}

#[test]
fn no_client_is_written_whole_where_that_is_asked_for() {
    let folder = MergeFolder::new();
    folder.write("key", "a secret of more than sixteen bytes\n");
    folder.write("ha.log", "203.0.113.77 1795379000 10.0.0.1 GET /a HTTP/1.1\n");
    let past = "2001:db8:1:2::9 - - [22/Nov/2026:20:23:20 +0000] \"GET /past HTTP/1.1\" 200 5 1\n";
    folder.write("1.log", [line("GET /a HTTP/1.1", 1).as_str(), past].concat());
    let clients = |privacy: &str| {
        let explain = ["--explain", "explain", "--candidates", "--explain-line", "1"];
        let options = [&["--privacy", privacy][..], &explain].concat();
        let run = run(&folder, &options, &["10.0.0.1:1.log"]);
        let explain = String::from_utf8(folder.read("explain")).unwrap();
        for whole in ["203.0.113.77", "10.9.9.9", "2001:db8:1:2::9"] {
            let said = [explain.as_str(), &run.out, &run.err].concat();
            assert!(!said.contains(whole), "{said}");
        }
        run.clients()
    };
    assert_eq!(clients("cut"), ["203.0.113.0", "2001:db8:1::"]);
    assert_eq!(clients("cut=8,16"), ["203.0.0.0", "2001::"]);
    let first = clients("key=key");
    assert!(first[0].starts_with("fd04:") && first[1].starts_with("fd06:"), "{first:?}");
    assert_eq!(first, clients("key=key"));
}

/// Makes a line of a number.
type MakeLine<'a> = &'a dyn Fn(i64) -> String;

/// Text before and behind a carried line, and whether quotes are escaped.
const CARRIERS: &[(&str, &str, bool)] = &[
    ("Nov 22 20:23:20 lb a[7]: ", "", false),
    ("2026-11-22T20:23:20.545803+00:00 relay lb a[7]: ", "", false),
    ("<134>1 2026-11-22T20:23:20Z lb a 14 - - ", "", false),
    ("2026-11-22T20:23:20.545803123Z stdout F ", "", false),
    ("lb-1  | ", "", false),
    ("/var/log/lb.log:", "", false),
    (r#"{"log":""#, r#"\n","stream":"stdout","time":"2026-11-22T20:23:20.5Z"}"#, true),
    (r#"{"__REALTIME_TIMESTAMP":"1795379000545803","MESSAGE":""#, r#""}"#, true),
];

#[test]
fn a_mapping_log_may_come_through_a_container_or_the_journal() {
    const T: i64 = 1_795_379_000;
    let pen = |i: i64| {
        support::mapping(&format!("192.0.2.{i}"), T + i, "10.0.0.1", &format!("GET /{i} HTTP/1.1"))
    };
    let own = |i: i64| {
        let at = T + i;
        format!(
            "pen1 {at}.000000 request 192.0.2.{i} 9964 10.0.0.1 80 10.9.9.9 4{i} {i} 1 - - - - - - - - - - GET /{i} HTTP/1.1\n"
        )
    };
    let haproxy = |i: i64| {
        format!(
            "192.0.2.{i}:99 [22/Nov/2026:20:23:{}.123] web app/w1 0/0/0/2/2 200 5 - - ---- 1/1/0/0/0 0/0 \"GET /{i} HTTP/1.1\"\n",
            20 + i
        )
    };
    let nginx = |i: i64| {
        format!(
            "192.0.2.{i} [2026-11-22T20:23:{}+00:00] \"GET /{i} HTTP/1.1\" 200 \"10.0.0.1:80\"\n",
            20 + i
        )
    };
    let logs: [(MakeLine<'_>, &[&str]); 4] = [
        (&pen, &[]),
        (&own, &[]),
        (&haproxy, &["--server", "app/w1=10.0.0.1"]),
        (
            &nginx,
            &[
                "--mapping-format",
                r#"$remote_addr [$time_iso8601] "$request" $status "$upstream_addr""#,
            ],
        ),
    ];
    for (log, options) in logs {
        for (before, behind, is_escaped) in CARRIERS {
            let folder = MergeFolder::new();
            let carried = |i| {
                let line = log(i);
                let line = line.trim_end();
                let line = if *is_escaped { line.replace('"', "\\\"") } else { line.to_owned() };
                format!("{before}{line}{behind}\n")
            };
            folder.write("lb.log", (1..9).map(carried).collect::<String>());
            let line = |i| support::line("10.9.9.9", T + i, &format!("GET /{i} HTTP/1.1"));
            folder.write("a.log", (1..9).map(line).collect::<String>());
            let run =
                folder.run_with("-q --mapping-zone UTC -p lb.log 10.0.0.1:a.log", |command| {
                    command.args(options);
                });
            let right: Vec<_> = (1..9).map(|i| format!("192.0.2.{i}")).collect();
            assert_eq!(run.clients(), right, "{before}{}: {}", log(1), run.err);
            assert_eq!(run.code, Some(0), "{}", run.err);
        }
    }
}
