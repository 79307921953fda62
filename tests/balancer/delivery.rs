//! Mapping records on their way to a real collector, with deaths of either program.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Stdio};

use nix::sys::signal::Signal;
use pen_journal::{Folder, JournalReader, Position};
use pen_records::mapping::packet::Packet;
use pen_stream::keys::PrivateKey;
use pen_testing::certificates::TestAuthority;
use pen_testing::program::sibling;
use pen_testing::{Program, TempFolder, free_port};

use crate::support::{Listener, Stream, wait_until};

/// A server behind a pen, and a collector that may be away.
struct Road {
    folder: TempFolder,
    server: Listener,
    collector: SocketAddr,
}

impl Road {
    fn new() -> Self {
        let server = Listener::tcp();
        Self { folder: TempFolder::new(), server, collector: free_port([127, 0, 0, 1]) }
    }

    fn pen(&self, commands: &[&str]) -> (Program, SocketAddr) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_pen"));
        command.args(["-f", "-l", &self.collector.to_string()]).current_dir(self.folder.path());
        command.args(commands.iter().flat_map(|text| ["-O", text]));
        command.args(["127.0.0.1:0", &self.server.endpoint().to_string()]).stdin(Stdio::null());
        let pen = Program::start("pen", &mut command).expect("pen starts");
        let addr = pen.wait_until_listening().expect("pen listens").parse().expect("an address");
        (pen, addr)
    }

    fn collector(&self, options: &[&str]) -> Program {
        let mut command = Command::new(sibling("penlogd").expect("penlogd is built"));
        command.args(["-f", "-l", "merged.log"]).current_dir(self.folder.path());
        command.args(options).args(["--listen", &self.collector.to_string()]).stdin(Stdio::null());
        let program = Program::start("penlogd", &mut command).expect("the collector starts");
        program.wait_until_listening().expect("the collector listens");
        program
    }

    /// Opens and closes connections. Each makes two records.
    fn visit(&self, balancer: SocketAddr, count: usize) {
        for _ in 0..count {
            let client = Stream::connect(&pen::config::Endpoint::Ip(balancer));
            drop((self.server.accept(), client));
        }
    }

    /// Starts pen until nothing is left in the spool.
    fn send_the_rest(&self, commands: &[&str]) {
        let spool = self.folder.join("spool");
        while fs::read_dir(&spool).expect("a folder").count() > 0 {
            let (mut pen, _) = self.pen(commands);
            pen.wait_for_message("all mapping records of an earlier run").expect("it is through");
            assert!(pen.stop(Signal::SIGTERM).expect("it ends").success());
        }
    }

    /// Records on the disk.
    fn stored(&self) -> u64 {
        let runs = fs::read_dir(self.folder.join("spool")).into_iter().flatten().flatten();
        runs.map(|run| records(&run.path())).sum()
    }
}

fn records(run: &Path) -> u64 {
    let disk = Folder::open(run).expect("a folder");
    let (mut reader, mut records) = (JournalReader::new(disk, Position(0)), 0);
    while let Some(entry) = reader.read().expect("it can be read") {
        records += u64::from(Packet::parse(&entry[24..]).expect("a packet").count());
    }
    records
}

/// What the collector says of the records that came.
fn report(collector: &mut Program) -> String {
    collector.stop(Signal::SIGTERM).expect("the collector ends");
    let said = collector.messages();
    let line = said.lines().find(|line| line.contains("balance: records of"));
    line.unwrap_or_else(|| panic!("no report in:\n{said}")).to_owned()
}

#[test]
fn records_of_a_killed_run_reach_the_collector_once_when_it_is_back() {
    let road = Road::new();
    let (mut pen, addr) = road.pen(&["log_spool spool"]);
    road.visit(addr, 30);
    wait_until("all records are on the disk", || road.stored() == 60);
    pen.stop(Signal::SIGKILL).expect("it dies");
    // The next run dies, too.
    let (mut pen, addr) = road.pen(&["log_spool spool"]);
    road.visit(addr, 5);
    wait_until("these are on the disk", || road.stored() == 70);
    pen.stop(Signal::SIGKILL).expect("it dies");
    let mut collector = road.collector(&[]);
    let (mut pen, addr) = road.pen(&["log_spool spool"]);
    road.visit(addr, 5);
    pen.wait_for_message("all mapping records of an earlier run").expect("the first is through");
    assert!(pen.stop(Signal::SIGTERM).expect("it ends").success());
    road.send_the_rest(&["log_spool spool"]);
    let report = report(&mut collector);
    assert!(report.contains("records of 3 balancers: 80 came"), "{report}");
    assert!(report.contains("; 0 missing by their numbers"), "{report}");
}

#[test]
fn records_made_while_the_collector_is_restarted_come_once() {
    let road = Road::new();
    let journal = ["--journal", "journal"];
    let mut collector = road.collector(&journal);
    let (mut pen, addr) = road.pen(&["log_spool spool"]);
    road.visit(addr, 10);
    collector.stop(Signal::SIGKILL).expect("it dies");
    road.visit(addr, 20);
    wait_until("they are on the disk", || road.stored() >= 40);
    let mut collector = road.collector(&journal);
    road.visit(addr, 5);
    assert!(pen.stop(Signal::SIGTERM).expect("it ends").success());
    road.send_the_rest(&["log_spool spool"]);
    let report = report(&mut collector);
    assert!(report.contains("; 0 missing by their numbers"), "{report}");
}

/// The keys of both ends, and commands and options that name them.
struct Keys {
    balancer: String,
    collector: String,
}

impl Keys {
    fn new(folder: &TempFolder) -> Self {
        let make = |name| PrivateKey::generate(&folder.join(name)).expect("a key").to_string();
        Self { balancer: make("pen.key"), collector: make("penlogd.key") }
    }

    fn commands(collector: &str) -> [String; 2] {
        [format!("log_collector_key {collector}"), "log_key pen.key".to_owned()]
    }
}

const WITH_KEYS: [&str; 4] = ["--key", "penlogd.key", "--authorized", "authorized"];

#[test]
fn by_tls_all_records_come_once_also_when_the_collector_dies() {
    let road = Road::new();
    let keys = Keys::new(&road.folder);
    let rights = format!("{} records # pen1\n", keys.balancer);
    fs::write(road.folder.join("authorized"), rights).expect("a file");
    let options = [&WITH_KEYS[..], &["--journal", "journal"]].concat();
    let mut collector = road.collector(&options);
    let commands = Keys::commands(&keys.collector);
    let commands = commands.each_ref().map(String::as_str);
    let (mut pen, addr) = road.pen(&commands);
    for _ in 0..3 {
        road.visit(addr, 20);
        collector.stop(Signal::SIGKILL).expect("it dies");
        road.visit(addr, 20);
        pen.wait_for_any_message("cannot send").expect("it says that the collector is away");
        collector = road.collector(&options);
    }
    wait_until("a connection is there again", || {
        let said = pen.messages();
        said.matches("can be sent to").count() >= said.matches("cannot send").count()
    });
    assert!(pen.stop(Signal::SIGTERM).expect("it ends").success());
    let report = report(&mut collector);
    assert!(report.contains("; 0 missing by their numbers"), "{report}\n{}", pen.messages());
}

#[test]
fn a_wrong_key_is_named_and_no_record_goes_by_udp() {
    let road = Road::new();
    let keys = Keys::new(&road.folder);
    let other = PrivateKey::generate(&road.folder.join("other.key")).expect("a key").to_string();
    for (listed, right, expected, named) in [
        (&keys.balancer, "records", &other, "another key than log_collector_key says: ed25519:"),
        (&other, "records", &keys.collector, "does not know this program's key"),
        (&keys.balancer, "lines *", &keys.collector, "the collector takes no records"),
    ] {
        let rights = format!("{listed} {right}\n");
        fs::write(road.folder.join("authorized"), rights).expect("a file");
        let mut collector = road.collector(&WITH_KEYS);
        let commands = Keys::commands(expected);
        let (mut pen, addr) = road.pen(&commands.each_ref().map(String::as_str));
        road.visit(addr, 3);
        pen.wait_for_any_message(named).expect("it is said");
        assert!(pen.stop(Signal::SIGTERM).expect("it ends").success());
        collector.stop(Signal::SIGTERM).expect("it ends");
        let said = collector.messages();
        assert!(!said.contains("records of 1 balancers"), "{named}: {said}");
    }
}

#[test]
fn by_certificate_records_arrive_by_tls_only_and_a_wrong_name_is_named() {
    let (road, authority) = (Road::new(), TestAuthority::new());
    authority.certify("loghost", "127.0.0.1");
    authority.certify("pen1", "pen1.example");
    let path = |file: &str| authority.path(file).to_str().expect("UTF-8").to_owned();
    let [certificate, key, ca] = ["loghost.crt", "loghost.key", "ca.pem"].map(path);
    let options = [
        ["--certificate", &certificate],
        ["--key", &key],
        ["--authority", &ca],
        ["--authorized", "authorized"],
    ];
    let own = [
        format!("log_certificate {}", path("pen1.crt")),
        format!("log_authority {ca}"),
        format!("log_key {}", path("pen1.key")),
    ];
    for (listed, more, trouble) in [
        ("cert:pen1.example records", None, None),
        (
            "cert:pen1.example records",
            Some("log_collector_name loghost.example"),
            Some("is not for loghost.example, but for"),
        ),
        ("cert:pen2.example records", None, Some("add cert:pen1.example to the file")),
    ] {
        fs::write(road.folder.join("authorized"), listed).expect("a file");
        let mut collector = road.collector(&options.concat());
        let commands: Vec<_> = own.iter().map(String::as_str).chain(more).collect();
        let (mut pen, addr) = road.pen(&commands);
        road.visit(addr, 20);
        if let Some(trouble) = trouble {
            pen.wait_for_any_message(trouble).expect("it is said");
            assert!(!pen.messages().contains("--collector-name"), "{}", pen.messages());
        }
        assert!(pen.stop(Signal::SIGTERM).expect("it ends").success());
        collector.stop(Signal::SIGTERM).expect("it ends");
        let said = collector.messages();
        let came = said.contains("records of 1 balancers: 40 came");
        assert_eq!(came, trouble.is_none(), "{trouble:?}: {said}");
    }
}

#[test]
fn a_certificate_without_all_its_files_is_refused_at_the_start() {
    let authority = TestAuthority::new();
    let path = |file: &str| authority.path(file).to_str().expect("UTF-8").to_owned();
    let [certificate, key, ca] = ["pen.crt", "pen.key", "ca.pem"].map(path);
    let [certificate, key, ca] = [
        format!("log_certificate {certificate}"),
        format!("log_key {key}"),
        format!("log_authority {ca}"),
    ];
    let collector = format!("log_collector_key ed25519:{}", "0a".repeat(32));
    let no_pair = format!("log_certificate {}", path("ca.pem"));
    for (commands, expected) in [
        (vec![&key], "or log_certificate FILE and log_authority FILE"),
        (vec![&certificate, &key], "log_certificate: set log_authority FILE first"),
        (vec![&certificate, &ca, &key, &collector], "expected no log_collector_key with it"),
        (vec![&no_pair, &ca, &key], "expected the key that belongs to"),
    ] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_pen"));
        command.args(["-f", "-l", "127.0.0.1:9"]);
        command.args(commands.iter().flat_map(|text| ["-O", text.as_str()]));
        command.args(["127.0.0.1:0", "127.0.0.1:9"]);
        let mut pen = Program::start("pen", &mut command).expect("pen starts");
        assert!(!pen.wait_for_exit().expect("it ends").success());
        assert!(pen.messages().contains(expected), "{expected}: {}", pen.messages());
    }
}

#[test]
fn a_connection_without_keys_brings_all_records_of_a_spool() {
    let (road, commands) = (Road::new(), ["log_transport stream", "log_spool spool"]);
    let (mut pen, addr) = road.pen(&commands);
    road.visit(addr, 30);
    wait_until("all records are on the disk", || road.stored() == 60);
    pen.stop(Signal::SIGKILL).expect("it dies");
    let mut collector = road.collector(&[]);
    road.send_the_rest(&commands);
    let report = report(&mut collector);
    assert!(report.contains("records of 1 balancers: 60 came"), "{report}");
    assert!(report.contains("; 0 missing by their numbers"), "{report}");
}

#[test]
fn a_spool_that_cannot_be_used_is_said_at_the_start() {
    let road = Road::new();
    fs::write(road.folder.join("file"), "").expect("a file");
    let mut command = Command::new(env!("CARGO_BIN_EXE_pen"));
    command.args(["-f", "-l", "127.0.0.1:9", "-O", "log_spool file", "127.0.0.1:0", "127.0.0.1:9"]);
    let mut pen =
        Program::start("pen", command.current_dir(road.folder.path())).expect("pen starts");
    assert!(!pen.wait_for_exit().expect("it ends").success());
    assert!(pen.messages().contains("log_spool"), "{}", pen.messages());
}
