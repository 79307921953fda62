//! A whole site in a minute: a balancer with its collector inside, two web servers, visitors, and the log
//! that comes out.

mod tiny;

use std::fs;
use std::io::{self, IsTerminal as _};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::stage::visitors::{self, Visit};
use crate::stage::{
    Folder, Kind, Process, Web, WebPlan, free_port, installed, line_count, sibling,
};
use crate::{During, Failure, build};
use tiny::Tiny;

const SERVERS: u8 = 2;

/// Either of two kinds of web server.
enum Server {
    Nginx(Web),
    Tiny(Tiny),
}

impl Server {
    fn start(folder: &Path, number: u8) -> Result<Self, Failure> {
        if installed("nginx").is_none() {
            return Tiny::start(folder, number).map(Self::Tiny);
        }
        let plan =
            WebPlan { kind: Kind::Nginx, number, outputs: Vec::new(), tls: false, addr: None };
        Web::start(folder, &plan).map(Self::Nginx)
    }

    fn addr(&self) -> SocketAddr {
        match self {
            Self::Nginx(web) => web.addr(),
            Self::Tiny(tiny) => tiny.addr(),
        }
    }

    fn log(&self) -> PathBuf {
        match self {
            Self::Nginx(web) => web.access_log(),
            Self::Tiny(tiny) => tiny.log().to_owned(),
        }
    }
}

/// A site that has had its visitors.
pub struct Demo {
    balancer: SocketAddr,
    status: SocketAddr,
    /// What came out: lines that name their clients.
    pub merged: String,
    _running: (Vec<Process>, Process, Vec<Server>, Folder),
}

/// Builds what is needed, runs it, shows it, and waits until somebody has seen enough.
///
/// # Errors
/// When a program is missing or something does not come to its end.
pub fn run() -> Result<(), Failure> {
    build(&["pen", "penlog"])?;
    let demo = Demo::show()?;
    println!("The status page is at http://{}/ (also /status.json and /metrics).", demo.status);
    if io::stdin().is_terminal() {
        println!("Clients may go to http://{}/ meanwhile. Enter ends it.", demo.balancer);
        io::stdin().read_line(&mut String::new()).during("read from the terminal")?;
    }
    Ok(())
}

impl Demo {
    /// Sets the site up, sends the visitors, and prints what was logged.
    ///
    /// # Errors
    /// When a program is missing or something does not come to its end.
    pub fn show() -> Result<Self, Failure> {
        let folder = Folder::new()?;
        let servers = (1..=SERVERS).map(|number| Server::start(folder.path(), number));
        let servers = servers.collect::<Result<Vec<_>, _>>()?;
        let free = || free_port(Ipv4Addr::LOCALHOST);
        let (balancer, collector, status) = (free()?, free()?, free()?);
        let merged = folder.join("merged.log");
        let mut command = Command::new(sibling("pen")?);
        command.args(["-f", "-r", "--status", &status.to_string()]);
        command.args(["--collect", &collector.to_string(), "--merged-log"]).arg(&merged);
        command.arg(balancer.to_string());
        command.args(servers.iter().map(|server| server.addr().to_string()));
        println!("The balancer, with the collector in the same process:\n");
        let mut pen = start(&mut command, "pen", folder.join("pen.stderr"))?;
        pen.wait_for_port(balancer)?;
        println!("\nFor each web server, a shipper of its access lines:\n");
        let mut shippers = Vec::new();
        for (number, server) in servers.iter().enumerate() {
            shippers.push(ship(&folder, number, server, collector)?);
        }
        let visits = visits();
        println!("\n{} requests from four clients ...\n", visits.len());
        visitors::send(&visits, balancer, visitors::Sending::default())?;
        pen.wait_for("write all lines", || line_count(&merged) >= visits.len())?;
        for server in &servers {
            print(&format!("What the web server at {} logged", server.addr()), &server.log())?;
        }
        let merged = print("The merged log, with the clients that asked", &merged)?;
        Ok(Self { balancer, status, merged, _running: (shippers, pen, servers, folder) })
    }
}

/// Starts a program of ours, and shows how.
fn start(command: &mut Command, name: &str, stderr: PathBuf) -> Result<Process, Failure> {
    let words: Vec<_> = command.get_args().map(|word| word.to_string_lossy()).collect();
    println!("    {name} {}", words.join(" "));
    Process::start(name, command.stdin(Stdio::null()).stdout(Stdio::null()), stderr)
}

fn ship(
    folder: &Folder,
    number: usize,
    server: &Server,
    collector: SocketAddr,
) -> Result<Process, Failure> {
    let mut command = Command::new(sibling("penlog")?);
    command.args([collector.ip().to_string(), collector.port().to_string()]);
    command.arg(server.addr().ip().to_string());
    command.args(["--from-start", "--follow"]).arg(server.log());
    start(&mut command, "penlog", folder.join(format!("penlog-{number}.stderr")))
}

/// Four people who look round a shop.
fn visits() -> Vec<Visit> {
    let agents = ["Firefox/128.0", "Chrome/130.0", "Firefox/128.0", "curl/8.5"];
    let pages = ["/", "/shoes", "/shoes/7?colour=red", "/cart"];
    let mut visits = Vec::new();
    for page in pages {
        for (client, agent) in (1..).zip(agents) {
            let request = format!(
                "GET {page} HTTP/1.1\r\nHost: shop.example\r\nUser-Agent: {agent}\r\n\
                 Connection: close\r\n\r\n"
            );
            visits.push(visitors::visit(
                Ipv4Addr::new(127, 0, 9, client),
                &[request.as_bytes()],
                1,
            ));
        }
    }
    visits
}

/// Shows a log, and hands it back.
fn print(title: &str, log: &Path) -> Result<String, Failure> {
    let text = fs::read_to_string(log).during(format_args!("read {}", log.display()))?;
    println!("{title}:\n");
    text.lines().for_each(|line| println!("    {line}"));
    println!();
    Ok(text)
}
