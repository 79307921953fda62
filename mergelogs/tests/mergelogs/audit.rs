//! How right the join was, by a field of the logs: invented lines, and real ones of nginx behind our pen.

use std::fmt::Write as _;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::Command;

use pen_bench::stage::{Balancer, Make, Mappings, visitors};
use pen_testing::program::require_installed;
use pen_testing::{Program, free_port};

use crate::T;
use crate::support::{MergeFolder, mapping};

const FORMAT: &str =
    r#"$remote_addr [$time_local] "$request" "$http_user_agent" "$http_x_forwarded_for""#;

fn line(request: &str, truth: &str) -> String {
    format!("10.9.9.9 [22/Nov/2026:20:23:20 +0000] \"{request}\" \"-\" \"{truth}\"\n")
}

#[test]
fn clients_are_compared_with_the_truth_that_the_lines_hold() {
    let folder = MergeFolder::new();
    let mut mappings = String::new();
    for (client, page) in [("203.0.113.1", 1), ("203.0.113.2", 2), ("203.0.113.3", 3)] {
        mappings += &mapping(client, T, "10.0.0.1", &format!("GET /{page} HTTP/1.1"));
    }
    mappings += &mapping("203.0.113.4", T, "10.0.0.2", "GET /4 HTTP/1.1");
    folder.write("pen.log", &mappings);
    let first = [
        line("GET /1 HTTP/1.1", "203.0.113.1"),
        line("GET /2 HTTP/1.1", "198.51.100.9"),
        line("GET /3 HTTP/1.1", "-"),
        line("GET /unknown HTTP/1.1", "203.0.113.3"),
        "not an access line\n".to_owned(),
    ];
    folder.write("a.log", first.concat());
    folder.write("b.log", line("GET /4 HTTP/1.1", "forged, 203.0.113.4"));
    let run = |more: &[&str]| {
        folder.run_with("-p pen.log 10.0.0.1:a.log 10.0.0.2:b.log", |command| {
            command.args(["--format", FORMAT, "--audit", "X-Forwarded-For"]).args(more);
        })
    };
    let text = run(&[]);
    assert_eq!(text.code, Some(0), "{}", text.err);
    for expected in [
        "audit by X-Forwarded-For: ",
        "  all servers: 2 of 4 right, 50.00 %\n",
        "  10.0.0.1: 1 of 3 right, 33.33 %\n",
        "  10.0.0.2: 1 of 1 right, 100.00 %\n",
        "    1 without a client\n",
        "    1 with nothing to compare in that field\n",
        "    1 not understood\n",
        "198.51.100.9 and not 203.0.113.2: 10.9.9.9 [22/Nov/2026:20:23:20 +0000] \\\"GET /2 HTTP/1.1\\\"",
    ] {
        assert!(text.err.contains(expected), "{expected}: {}", text.err);
    }
    let json = run(&["--report", "json"]).err;
    for expected in [
        r#""audit":{"field":"X-Forwarded-For","exact":{"right":0,"wrong":0,"no_truth":0}"#,
        r#""unmatched":{"with_truth":1,"no_truth":0},"direct":0,"not_understood":1"#,
        r#""truth":"198.51.100.9""#,
    ] {
        assert!(json.contains(expected), "{expected}: {json}");
    }
    let quiet = run(&["-q"]).err;
    assert!(quiet.starts_with("audit by X-Forwarded-For"), "{quiet}");
}

#[test]
fn a_cookie_stands_for_the_client_that_most_of_its_lines_got() {
    let folder = MergeFolder::new();
    let (mut mappings, mut lines) = (String::new(), String::new());
    for (page, client, cookie) in
        [(1, 1, "anna"), (2, 1, "anna"), (3, 2, "anna"), (4, 3, "once"), (5, 4, "-")]
    {
        let (request, client) = (format!("GET /{page} HTTP/1.1"), format!("203.0.113.{client}"));
        mappings += &mapping(&client, T, "10.0.0.1", &request);
        lines += &line(&request, cookie);
    }
    folder.write("pen.log", &mappings);
    folder.write("a.log", &lines);
    let run = folder.run_with("-q -p pen.log 10.0.0.1:a.log", |command| {
        command.args(["--format", &FORMAT.replace("http_x_forwarded_for", "cookie_visitor")]);
        command.args(["--audit", "$cookie_visitor"]);
    });
    assert!(run.err.contains("all servers: 2 of 3 right, 66.66 %"), "{}", run.err);
    assert!(run.err.contains("2 with nothing to compare in that field"), "{}", run.err);
}

#[test]
fn a_field_that_no_format_has_is_refused() {
    let folder = MergeFolder::new();
    folder.write("pen.log", "");
    folder.write("a.log", "");
    let run = folder.run("-p pen.log --format combined --audit X-Client 10.0.0.1:a.log");
    assert_eq!(run.code, Some(2));
    assert!(
        run.err.contains("cannot audit by X-Client, expected a field of the format"),
        "{}",
        run.err
    );
}

/// nginx at `addr`, that logs what requests say of themselves.
fn nginx(folder: &Path, addr: SocketAddr) -> Program {
    let root = folder.display();
    let format = FORMAT.replace('"', "\\\"");
    let config = format!(
        "daemon off; pid {root}/pid; error_log {root}/error.log; worker_processes 1;
         events {{ worker_connections 256; }}
         http {{
           client_body_temp_path {root}/a; proxy_temp_path {root}/b; fastcgi_temp_path {root}/c;
           uwsgi_temp_path {root}/d; scgi_temp_path {root}/e;
           log_format told \"{format} $remote_port\";
           access_log {root}/access.log told;
           server {{ listen {addr}; location / {{ return 200 \"hello\"; }} }}
         }}"
    );
    let path = folder.join("nginx.conf");
    std::fs::write(&path, config).expect("there is room");
    let mut command = Command::new(require_installed("nginx").expect("nginx is installed"));
    command.arg("-c").arg(&path).arg("-e").arg(folder.join("error.log"));
    let mut nginx = Program::start("nginx", &mut command).expect("it starts");
    nginx.wait_for_port(addr).expect("it listens");
    nginx
}

#[test]
fn a_real_nginx_that_logs_x_forwarded_for_tells_how_right_the_join_is() {
    let folder = MergeFolder::new();
    let root = folder.path().canonicalize().expect("it is there");
    let addr = free_port(Ipv4Addr::new(127, 0, 1, 91));
    let mut web = nginx(&root, addr);
    let pen = free_port(Ipv4Addr::LOCALHOST);
    let log = root.join("pen.log");
    let mut balancer =
        Balancer::start(Make::Ours, &root, pen, &[addr], &Mappings::File(log)).expect("it starts");
    let (mut visits, clients, requests) = (Vec::new(), 40, 5);
    let mut lies = 0;
    for index in 0..clients * requests {
        let client = visitors::address(index % clients);
        // What is wrong is seen to be.
        let lying = index % 20 == 7;
        lies += usize::from(lying);
        let told = if lying { Ipv4Addr::new(192, 0, 2, 99) } else { client };
        let head = format!(
            "GET /{} HTTP/1.1\r\nHost: shop\r\nX-Forwarded-For: {told}\r\nUser-Agent: {}\r\nConnection: close\r\n\r\n",
            index % 3,
            index % 7
        );
        visits.push(visitors::visit(client, &[head.as_bytes()], 1));
    }
    let sent = visitors::send(&visits, balancer.addr(), visitors::Sending::default())
        .expect("it is answered");
    assert_eq!((sent.answered, sent.failed), (visits.len(), 0));
    balancer.stop().expect("it ends");
    web.stop(nix::sys::signal::Signal::SIGQUIT).expect("it ends");

    let mut arguments = String::from("-p pen.log --report json --audit X-Forwarded-For ");
    write!(arguments, "127.0.1.91:{}:access.log", addr.port()).expect("it is a string");
    let format = format!("{FORMAT} $remote_port");
    let run = folder.run_with(&arguments, |command| {
        command.args(["--format", &format]);
    });
    assert_eq!(run.code, Some(0), "{}", run.err);
    let number = |of: &str, name: &str| -> usize {
        let audit = run.err.split("\"audit\":").nth(1).expect("there is one");
        let part = audit.split(&format!("\"{of}\":{{")).nth(1).expect("it is there");
        let value = part.split(&format!("\"{name}\":")).nth(1).expect("it is there");
        let digits: String = value.chars().take_while(char::is_ascii_digit).collect();
        digits.parse().expect("it is a number")
    };
    assert_eq!(number("exact", "wrong"), lies, "{}", run.err);
    assert_eq!(number("exact", "right"), visits.len() - lies, "{}", run.err);
    assert!(run.err.contains("\"truth\":\"192.0.2.99\""), "{}", run.err);
}
