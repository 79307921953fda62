//! The site: a balancer with a collector in its process, two web servers with a shipper each.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, Stdio};

use pen_testing::folder::line_count;
use pen_testing::{ActionError, Doing as _, Program, TempFolder, free_port};

use crate::client;
use crate::web::DemoWeb;

const SERVERS: u8 = 2;

/// A running site that has answered its clients; ends when dropped.
pub(crate) struct DemoSite {
    pub(crate) balancer: SocketAddr,
    pub(crate) status: SocketAddr,
    _running: (Vec<Program>, Program, Vec<DemoWeb>, TempFolder),
}

impl DemoSite {
    /// Starts the site, sends the requests of all clients, and prints each log.
    pub(crate) fn show() -> Result<Self, ActionError> {
        let folder = TempFolder::new();
        let servers: Vec<_> = (1..=SERVERS)
            .map(|number| DemoWeb::start(folder.path(), number))
            .collect::<Result<_, _>>()?;
        let [balancer, collector, status] = [(); 3].map(|()| free_port(Ipv4Addr::LOCALHOST));
        let merged = folder.join("merged.log");

        println!("The balancer, with the collector in the same process:\n");
        let mut command = this_program()?;
        command.args(["-f", "-r", "--status", &status.to_string()]);
        command.args(["--collect", &collector.to_string(), "--merged-log"]).arg(&merged);
        command.arg(balancer.to_string());
        command.args(servers.iter().map(|server| server.addr.to_string()));
        let mut pen = start("pen", &mut command)?;
        pen.wait_for_port(balancer)?;

        println!("\nFor each web server, a shipper of its access lines:\n");
        let shippers: Vec<_> =
            servers.iter().map(|server| ship(server, collector)).collect::<Result<_, _>>()?;

        println!("\n{} requests from four clients ...\n", client::REQUESTS);
        client::send_all(balancer)?;
        pen.wait_for("write all lines", || line_count(&merged) >= client::REQUESTS)?;
        for server in &servers {
            print(&format!("The log of the web server at {}", server.addr), &server.access_log)?;
        }
        print("The merged log, which names the clients", &merged)?;
        Ok(Self { balancer, status, _running: (shippers, pen, servers, folder) })
    }
}

fn ship(server: &DemoWeb, collector: SocketAddr) -> Result<Program, ActionError> {
    let mut command = this_program()?;
    command.args([collector.ip().to_string(), collector.port().to_string()]);
    command.arg(server.addr.ip().to_string());
    command.args(["--from-start", "--follow"]).arg(&server.access_log);
    start("penlog", &mut command)
}

fn this_program() -> Result<Command, ActionError> {
    std::env::current_exe().map(Command::new).doing("find this program")
}

/// Starts this program under another name, and prints the command line.
fn start(name: &str, command: &mut Command) -> Result<Program, ActionError> {
    let words: Vec<_> = command.get_args().map(|word| word.to_string_lossy()).collect();
    println!("    {name} {}", words.join(" "));
    Program::start(name, command.arg0(name).stdin(Stdio::null()).stdout(Stdio::null()))
}

fn print(title: &str, log: &Path) -> Result<(), ActionError> {
    let text = fs::read_to_string(log).doing(format_args!("read {}", log.display()))?;
    println!("{title}:\n");
    text.lines().for_each(|line| println!("    {line}"));
    println!();
    Ok(())
}
