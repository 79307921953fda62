//! Servers that go by several addresses and names.

use crate::T;
use crate::support::{MergeFolder, line, mapping};

/// A line of pen's own mapping log.
fn extended(client: &str, server: &str, port: u16, peer: u16, url: &str) -> String {
    format!(
        "pen1 {T}.000000 request {client} 62882 {server} {port} 10.9.9.9 {peer} {peer} 1 - - - - - - - - - - GET {url} HTTP/1.1\n"
    )
}

#[test]
fn a_server_may_have_two_addresses_in_the_mapping_log() {
    let folder = MergeFolder::new();
    let mappings = [
        mapping("203.0.113.1", T, "2001:db8::1", "GET /a HTTP/1.1"),
        mapping("203.0.113.2", T, "10.0.0.1", "GET /b HTTP/1.1"),
        extended("203.0.113.3", "2001:db8::1", 80, 20_001, "/c"),
        mapping("203.0.113.4", T, "10.0.0.2", "GET /d HTTP/1.1"),
    ];
    folder.write("pen.log", mappings.concat());
    let lines =
        ["/a", "/b", "/c", "/d"].map(|it| line("10.9.9.9", T, &format!("GET {it} HTTP/1.1")));
    folder.write("a.log", lines.concat());
    let clients = |run: crate::Run| (run.clients().join(" "), run.err);
    let (without, _) = clients(folder.run("-p pen.log 10.0.0.1:a.log"));
    assert_eq!(without, "10.9.9.9 203.0.113.2 10.9.9.9 10.9.9.9");
    for logs in ["10.0.0.1:a.log", "[2001:db8::1]:a.log"] {
        let run = folder.run(&format!("-p pen.log --server 2001:db8::1=10.0.0.1 {logs}"));
        let (with, err) = clients(run);
        assert_eq!(with, "203.0.113.1 203.0.113.2 203.0.113.3 10.9.9.9", "{logs}: {err}");
        assert!(!err.contains("no effect"), "{logs}: {err}");
    }
}

#[test]
fn an_address_that_is_not_said_to_be_the_servers_is_named_with_the_option() {
    let folder = MergeFolder::new();
    for (every, lines_found) in [(2, 100), (10, 180)] {
        let asked = |n: i64| format!("GET /{} HTTP/1.1", if n % 3 == 0 { 0 } else { n });
        let server = |n: i64| if n % every == 0 { "2001:db8::1" } else { "10.0.0.1" };
        let client = |n: i64| format!("203.0.113.{n}");
        let requests = 0..200;
        let mappings = requests.clone().map(|n| mapping(&client(n), T + n, server(n), &asked(n)));
        folder.write("pen.log", mappings.collect::<String>());
        let lines = requests.map(|n| line("10.9.9.9", T + n, &asked(n)));
        folder.write("a.log", lines.collect::<String>());
        let run = folder.run("-q -p pen.log 10.0.0.1:a.log");
        assert_eq!(run.code, Some(3), "{}", run.err);
        let address = "among the mappings of 2001:db8::1, of which no log is given";
        assert!(run.err.contains(address), "{}", run.err);
        assert!(run.err.contains("--server 2001:db8::1=10.0.0.1"), "{}", run.err);
        let named = run.clients().iter().filter(|it| it.starts_with("203")).count();
        assert!(named >= lines_found, "{named}");
        let run = folder.run("-q -p pen.log 10.0.0.1:a.log --server 2001:db8::1=10.0.0.1");
        assert_eq!((run.code, run.err.as_str()), (Some(0), ""));
        assert!((0..200).map(client).eq(run.clients()), "{:?}", run.clients());
    }
}

#[test]
fn two_names_of_one_server_may_each_have_a_log() {
    let folder = MergeFolder::new();
    folder.write("pen.log", mapping("203.0.113.1", T, "10.0.0.1", "GET /a HTTP/1.1"));
    folder.write("a.log", line("10.9.9.9", T, "GET /b HTTP/1.1"));
    folder.write("b.log", line("10.9.9.9", T, "GET /a HTTP/1.1"));
    for options in
        ["--server web1=10.0.0.1 web1:b.log", "--server web1=10.0.0.1 web1:b.log 10.0.0.1:a.log"]
    {
        let run = folder.run(&format!("-p pen.log {options}"));
        assert!(run.out.contains("203.0.113.1"), "{options}: {}{}", run.out, run.err);
        assert!(!run.err.contains("is no address"), "{options}: {}", run.err);
    }
}

#[test]
fn an_option_without_effect_is_said() {
    let folder = MergeFolder::new();
    folder.write("pen.log", mapping("203.0.113.1", T, "10.0.0.1", "GET /a HTTP/1.1"));
    folder.write("a.log", line("10.9.9.9", T, "GET /a HTTP/1.1"));
    for (option, why) in [
        ("10.0.0.7=10.0.0.1", "no mapping names 10.0.0.7"),
        ("app/web1=10.0.0.1", "no mapping names app/web1"),
        ("10.0.0.1=10.0.0.7", "no mapping names 10.0.0.7"),
        ("10.0.0.6=10.0.0.7", "no access log of 10.0.0.7 is given"),
    ] {
        let run = folder.run(&format!("-q -p pen.log --server {option} 10.0.0.1:a.log"));
        let expected = format!("--server {option} has no effect: {why}");
        assert!(run.err.contains(&expected), "{expected}: {}", run.err);
        assert_eq!(run.clients(), ["203.0.113.1"]);
        let check = folder.run(&format!("--check -p pen.log --server {option} 10.0.0.1:a.log"));
        assert!(check.out.contains(&format!("remark: {expected}")), "{expected}: {}", check.out);
    }
    let check = folder.run("--check -p pen.log --server 10.0.0.1=10.0.0.9 10.0.0.9:a.log");
    assert!(!check.out.contains("no effect"), "{}", check.out);
    let run = folder.run("-p pen.log --server web1=10.0.0.1 --server web1=10.0.0.2 10.0.0.1:a.log");
    assert_eq!(run.code, Some(2), "{}", run.err);
    assert!(run.err.contains("web1 is given as two servers"), "{}", run.err);
}

#[test]
fn a_central_file_has_lines_of_several_servers() {
    let folder = MergeFolder::new();
    let request = |number: usize| format!("GET /{number} HTTP/1.1");
    let mapped = |number| {
        let server = format!("10.0.0.{}", 1 + number % 2);
        mapping(&format!("203.0.113.{number}"), T, &server, &request(number))
    };
    let logged = |number| {
        let host = format!("web{}", 1 + number % 2);
        format!("2026-11-22T20:23:20+00:00 {host} nginx: {}", line("10.9.9.9", T, &request(number)))
    };
    folder.write("pen.log", (1..=6).map(mapped).collect::<String>());
    let other = format!("Nov 22 20:23:20 mail nginx: {}", line("10.9.9.9", T, "GET /1 HTTP/1.1"));
    folder.write("all.log", (1..=6).map(logged).collect::<String>() + &other);
    let names = "--server web1=10.0.0.1 --server web2=10.0.0.2";
    let run = folder.run(&format!("-p pen.log {names} @host:all.log"));
    let text = |client: &str| run.out.matches(client).count();
    assert_eq!(
        (run.out.lines().count(), text("203.0.113."), text("10.9.9.9")),
        (7, 6, 1),
        "{}{}",
        run.out,
        run.err
    );
    assert!(!run.err.contains("no effect"), "{}", run.err);
    // One of the two has a file of its own besides.
    folder.write("1.log", line("10.9.9.9", T, &request(2)));
    let run = folder.run(&format!("-p pen.log {names} @host:all.log 10.0.0.1:1.log"));
    assert_eq!(run.out.lines().count(), 8, "{}", run.err);
    for (options, expected) in [
        ("@host:all.log", "expected --server HOST=ADDR"),
        ("--server web1=10.0.0.1 @host:-", "can be read only once"),
    ] {
        let run = folder.run(&format!("-p pen.log {options}"));
        assert_eq!(run.code, Some(2), "{}", run.err);
        assert!(run.err.contains(expected), "{}", run.err);
    }
}
