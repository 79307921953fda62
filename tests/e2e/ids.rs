//! nginx in front gives each request an id, logs it, and sends it to a web server that logs it, too: each line is
//! exact, although all clients ask for the same with the same User-Agent.

use std::fs;
use std::net::SocketAddr;
use std::process::Command;

use nix::sys::signal::Signal;
use pen_bench::stage::visitors::{self, Sending};
use pen_bench::stage::{Program, TempFolder, free_port, sibling};
use pen_testing::{ProgramOutput, wait_until};

/// As `docs/guide/behind-haproxy-and-others.md` has it.
const FRONT: &str = r#"$remote_addr [$time_iso8601] $msec "$request" $status $upstream_response_length $request_time "$upstream_addr" "$http_user_agent" "$http_referer" $request_id"#;

const REQUESTS: usize = 120;

/// A folder with the logs of both, and the client of each id.
struct FrontedSite {
    folder: TempFolder,
}

impl FrontedSite {
    /// Lets all clients ask for the same page at about the same time.
    fn visited() -> Self {
        let folder = TempFolder::new();
        let (front, web) = (free_port([127, 0, 0, 1]), free_port([127, 0, 1, 1]));
        fs::write(folder.join("nginx.conf"), config(&folder, front, web)).expect("there is room");
        let mut command = Command::new("/usr/sbin/nginx");
        command.arg("-c").arg(folder.join("nginx.conf"));
        let mut nginx = Program::start("nginx", &mut command).expect("nginx is installed");
        nginx.wait_for_port(front).expect("nginx listens");
        let visits: Vec<_> = (0..REQUESTS)
            .map(|nth| {
                let client = visitors::address(nth);
                let request = format!(
                    "GET /page HTTP/1.1\r\nHost: shop.example\r\nUser-Agent: test\r\n\
                     X-Request-Id: of-the-client\r\nX-True-Client: {client}\r\n\r\n"
                );
                visitors::visit(client, &[request.as_bytes()], 1)
            })
            .collect();
        let sending = Sending { tls: None, per_second: None };
        visitors::send(&visits, front, sending).expect("all are answered");
        let is_logged = |name: &str| lines(&folder, name).len() == REQUESTS;
        wait_until("all is logged", || is_logged("front.log") && is_logged("web.log"));
        nginx.stop(Signal::SIGTERM).expect("nginx ends");
        Self { folder }
    }

    fn path(&self, name: &str) -> String {
        self.folder.join(name).display().to_string()
    }

    /// Asserts that each line of the merged log names the client of its id, and is said to be exact.
    fn assert_exact(&self) {
        let truth: Vec<(String, String)> = lines(&self.folder, "truth.log")
            .iter()
            .filter_map(|line| line.split_once(' '))
            .map(|(id, client)| (id.to_owned(), client.to_owned()))
            .collect();
        let merged = lines(&self.folder, "merged.log");
        assert_eq!(merged.len(), REQUESTS);
        for line in merged {
            let id = line.rsplit(' ').next().expect("a line has a word");
            let (_, client) = truth.iter().find(|(known, _)| known == id).expect("a known id");
            assert!(line.starts_with(&format!("{client} - ")), "{client}: {line}");
        }
        let why = lines(&self.folder, "why.tsv");
        let exact = why.iter().filter(|line| line.starts_with("exact\trequest-id\t"));
        assert_eq!(exact.count(), REQUESTS, "{}", why.join("\n"));
    }
}

fn lines(folder: &TempFolder, name: &str) -> Vec<String> {
    let text = fs::read_to_string(folder.join(name)).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}

fn config(folder: &TempFolder, front: SocketAddr, web: SocketAddr) -> String {
    let root = folder.path().display();
    format!(
        "daemon off; master_process off; pid {root}/pid; error_log {root}/error.log;
         events {{ worker_connections 512; }}
         http {{
           client_body_temp_path {root}/a; proxy_temp_path {root}/b; fastcgi_temp_path {root}/c;
           uwsgi_temp_path {root}/d; scgi_temp_path {root}/e;
           log_format front '{FRONT}';
           log_format ids '$remote_addr - $remote_user [$time_local] \"$request\" $status '
                          '$body_bytes_sent \"$http_referer\" \"$http_user_agent\" $http_x_request_id';
           log_format truth '$http_x_request_id $http_x_true_client';
           server {{
             listen {front}; access_log {root}/front.log front;
             location / {{ proxy_pass http://{web}; proxy_set_header X-Request-Id $request_id; }}
           }}
           server {{
             listen {web}; access_log {root}/web.log ids; access_log {root}/truth.log truth;
             location / {{ return 200 \"a page\"; }}
           }}
         }}"
    )
}

#[test]
fn afterwards_each_line_has_the_client_of_its_id() {
    let site = FrontedSite::visited();
    let mut command = Command::new(sibling("mergelogs").unwrap());
    command.args(["-q", "-p", &site.path("front.log"), "--mapping-format", FRONT]);
    command.args(["-o", &site.path("merged.log"), "--explain", &site.path("why.tsv")]);
    command.arg(format!("127.0.1.1:{}", site.path("web.log")));
    let said = ProgramOutput::of(&mut command);
    assert_eq!((said.code, said.err.as_str()), (Some(0), ""));
    site.assert_exact();
}

#[test]
fn while_it_happens_each_line_has_the_client_of_its_id() {
    let site = FrontedSite::visited();
    let addr = free_port([127, 0, 0, 1]);
    let mut command = Command::new(sibling("penlogd").unwrap());
    command.args(["-f", "--listen", &addr.to_string(), "-l", &site.path("merged.log")]);
    command.args(["--explain", &site.path("why.tsv"), "--mapping-format", &format!("lb={FRONT}")]);
    let mut collector = Program::start("penlogd", &mut command).unwrap();
    collector.wait_until_listening().unwrap();
    let ship = |log: &str, more: &[&str]| {
        let mut command = Command::new(sibling("penlog").unwrap());
        command.args(["127.0.0.1", &addr.port().to_string()]).args(more);
        command.args(["--from-start", "--follow", &site.path(log)]);
        Program::start("penlog", &mut command).unwrap()
    };
    let front = ship("front.log", &["--name", "lb"]);
    collector.wait_for_any_message("a shipper").unwrap();
    let mut shippers = [front, ship("web.log", &["--server", "127.0.1.1"])];
    wait_until("all lines are out", || lines(&site.folder, "merged.log").len() == REQUESTS);
    for program in shippers.iter_mut().chain([&mut collector]) {
        program.stop(Signal::SIGTERM).unwrap();
    }
    site.assert_exact();
}
