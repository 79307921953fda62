//! A collector, a web server's shipper, and an attacker, each at an address of its own.

use std::ffi::OsString;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use nix::sys::signal::Signal;
use pen_testing::certificates::TestAuthority;

use crate::delivery::DeliveryCounts;
use crate::delivery::count::Numbers;
use crate::delivery::log_file::LogFile;
use crate::delivery::scene::LineInput;
use crate::delivery::writer::{LineOutput, Writer, pause};
use crate::stage::{
    Faults, FaultyRelay, Program, TempFolder, bytes_of, free_port, keygen, require_installed,
    run_to_end, sibling, start_penlogd, wait_while_growing,
};
use crate::{ActionError, Doing as _};

/// The web server whose lines are honest.
pub(super) const WEB: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 5);
/// Where the attacker is.
pub(super) const ATTACKER: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 66);
/// Honest lines a second.
const RATE: u32 = 500;
/// How long nothing comes when all has come that will.
const QUIET: Duration = Duration::from_secs(5);
/// More than that was never sent.
const ABSURD: u64 = 1 << 32;

/// The name of the collector in its certificate.
const LOGHOST: &str = "loghost.example";

/// Whether there are keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Keys {
    None,
    /// Of the web server, and of another one.
    Authorized,
}

pub(super) struct AttackSite<'a> {
    pub(super) folder: &'a TempFolder,
    pub(super) addr: SocketAddr,
    pub(super) collector: Program,
    shipper: Program,
    /// Between the two, without keys: the attacker reads along.
    pub(super) relay: Option<FaultyRelay>,
    /// Of the collector.
    pub(super) public: String,
    /// Of the collector and another server, with keys; and one that nobody knows.
    pub(super) authorities: Option<[TestAuthority; 2]>,
    pub(super) flood: u32,
    writer: Writer,
    messages: String,
}

/// What is in the log, and what the programs said.
pub(super) struct AttackEnd {
    pub(super) counts: DeliveryCounts,
    pub(super) got_in: u64,
    /// The largest counter of the report, if nobody can have counted as far.
    pub(super) absurd: Option<u64>,
    pub(super) messages: String,
    log: String,
}

impl AttackEnd {
    /// How many lines have a text.
    pub(super) fn lines_with(&self, mark: &str) -> u64 {
        self.log.lines().filter(|line| line.contains(mark)).count() as u64
    }
}

impl<'a> AttackSite<'a> {
    /// Starts the honest programs, and waits until their lines arrive.
    pub(super) fn start(
        folder: &'a TempFolder,
        keys: Keys,
        flood: u32,
    ) -> Result<Self, ActionError> {
        let ip = require_installed("ip")?;
        for addr in [WEB, ATTACKER] {
            run_to_end(Command::new(&ip).args([
                "addr",
                "add",
                &format!("{addr}/32"),
                "dev",
                "lo",
            ]))?;
        }
        let addr = free_port(Ipv4Addr::LOCALHOST);
        let public = if keys == Keys::None { String::new() } else { make_keys(folder)? };
        let authorities = (keys == Keys::Authorized).then(make_authorities);
        let collector = start_collector(folder, authorities.as_ref(), addr)?;
        let relay = match keys {
            Keys::None => Some(FaultyRelay::start(addr, Faults::default())?),
            Keys::Authorized => None,
        };
        let path = folder.join("access.log");
        let file = LogFile::create(path.clone(), LineInput::File).doing("make a log")?;
        let writer = Writer::start(LineOutput::File(Arc::new(Mutex::new(file))), RATE);
        let to = relay.as_ref().map_or(addr, FaultyRelay::addr);
        let proof = match keys {
            Keys::None => Vec::new(),
            Keys::Authorized => key_options(folder, "web.key", &public),
        };
        let shipper = start_shipper(folder, to, &proof)?;
        let messages = String::new();
        let mut site = Self {
            folder,
            addr,
            collector,
            shipper,
            relay,
            public,
            authorities,
            flood,
            writer,
            messages,
        };
        let log = site.log();
        site.collector
            .wait_for("write honest lines", || fs::metadata(&log).is_ok_and(|log| log.len() > 0))?;
        Ok(site)
    }

    fn log(&self) -> PathBuf {
        self.folder.join("merged.log")
    }

    /// The number of the honest line that is written next, roughly.
    pub(super) fn next_line(&self) -> u64 {
        self.writer.lines()
    }

    /// A socket of the attacker.
    pub(super) fn attacker(&self) -> Result<UdpSocket, ActionError> {
        let socket = UdpSocket::bind((ATTACKER, 0)).doing("bind the attacker")?;
        socket.connect(self.addr).doing("reach the collector")?;
        Ok(socket)
    }

    /// Sends datagrams of the attacker.
    pub(super) fn send_all(&self, datagrams: &[Vec<u8>]) -> Result<u64, ActionError> {
        let socket = self.attacker()?;
        for datagram in datagrams {
            // What is refused did not get in.
            let _sent = socket.send(datagram);
        }
        Ok(datagrams.len() as u64)
    }

    /// Restarts the collector cleanly.
    pub(super) fn restart_collector(&mut self) -> Result<(), ActionError> {
        self.collector.stop(Signal::SIGTERM)?;
        self.messages += &(self.collector.messages() + "\n");
        self.collector = start_collector(self.folder, self.authorities.as_ref(), self.addr)?;
        Ok(())
    }

    /// Ends all, and counts.
    pub(super) fn end(mut self, mark: Option<&str>) -> Result<AttackEnd, ActionError> {
        pause(Duration::from_secs(1));
        let sent = self.writer.finish()?;
        let log = self.log();
        let most = if mark.is_none() { self.writer.bytes() } else { u64::MAX };
        wait_while_growing(QUIET, most, || bytes_of(&log));
        self.shipper.stop(Signal::SIGTERM)?;
        self.collector.stop(Signal::SIGTERM)?;
        self.messages += &(self.collector.messages() + "\n" + &self.shipper.messages());
        let counts = Numbers::first(sent).compared(&Numbers::read(std::slice::from_ref(&log))?, 0);
        let log = fs::read(log).doing("read the merged log")?;
        let log = String::from_utf8_lossy(&log).into_owned();
        let absurd = largest_counter(&self.messages).filter(|&most| most > ABSURD);
        let mut end = AttackEnd { counts, got_in: 0, absurd, messages: self.messages, log };
        end.got_in = mark.map_or(0, |mark| end.lines_with(mark));
        Ok(end)
    }
}

/// Makes pairs of keys: of the collector, the web server, another server, and one that nobody knows. Returns the collector's
/// public key.
fn make_keys(folder: &TempFolder) -> Result<String, ActionError> {
    let keygen = |program: &str, name: &str| keygen(&sibling(program)?, &folder.join(name));
    let [web, other] = [keygen("penlog", "web.key")?, keygen("penlog", "other.key")?];
    keygen("penlog", "unknown.key")?;
    let text = format!(
        "{web} lines {WEB}:80 # web\n{other} lines 198.51.100.7:80 # other\ncert:web.example lines {WEB}:80\n\
         cert:other.example lines 198.51.100.7:80\n"
    );
    folder.write("authorized", text);
    keygen("penlogd", "penlogd.key")
}

/// Makes the authority of the collector and of another server's certificate, and one that has made a certificate with the
/// name of the web server.
fn make_authorities() -> [TestAuthority; 2] {
    let [ours, theirs] = [TestAuthority::new(), TestAuthority::new()];
    ours.certify("loghost", LOGHOST);
    ours.certify("other", "other.example");
    theirs.certify("web", "web.example");
    [ours, theirs]
}

fn start_collector(
    folder: &TempFolder,
    authorities: Option<&[TestAuthority; 2]>,
    addr: SocketAddr,
) -> Result<Program, ActionError> {
    let mut command = Command::new(sibling("penlogd")?);
    if let Some([ours, _]) = authorities {
        command.arg("--key").arg(folder.join("penlogd.key"));
        command.arg("--certificate").arg(ours.path("loghost.crt"));
        command.arg("--certificate-key").arg(ours.path("loghost.key"));
        command.arg("--authority").arg(ours.path("ca.pem"));
        command.arg("--authorized").arg(folder.join("authorized"));
    }
    start_penlogd(command, addr, &folder.join("merged.log"), Some(&folder.join("journal")))
}

/// Starts the shipper of the web server.
fn start_shipper(
    folder: &TempFolder,
    to: SocketAddr,
    proof: &[OsString],
) -> Result<Program, ActionError> {
    let mut command = shipper(to, WEB, proof)?;
    command.args(["--from-start", "--state"]).arg(folder.join("state"));
    command.arg("--follow").arg(folder.join("access.log"));
    Program::start("penlog", command.stdin(Stdio::null()))
}

/// The options of a sender with a key.
pub(super) fn key_options(folder: &TempFolder, key: &str, collector: &str) -> Vec<OsString> {
    vec!["--key".into(), folder.join(key).into(), "--collector-key".into(), collector.into()]
}

/// The options of a sender with a certificate of an authority, that trusts the collector.
pub(super) fn certificate_options(
    of: &TestAuthority,
    file: &str,
    collector: &TestAuthority,
) -> Vec<OsString> {
    [
        ["--certificate".into(), of.path(&format!("{file}.crt")).into()],
        ["--key".into(), of.path(&format!("{file}.key")).into()],
        ["--authority".into(), collector.path("ca.pem").into()],
        ["--collector-name".into(), LOGHOST.into()],
    ]
    .concat()
}

/// A `penlog` at an address that says it sends lines of the web server, with the options of a key or a certificate.
pub(super) fn shipper(
    to: SocketAddr,
    from: Ipv4Addr,
    proof: &[OsString],
) -> Result<Command, ActionError> {
    let mut command = Command::new(sibling("penlog")?);
    command.args([to.ip().to_string(), to.port().to_string(), from.to_string()]);
    command.args(["--server", &format!("{WEB}:80")]).args(proof);
    Ok(command)
}

/// The largest number among the losses of the last report.
fn largest_counter(messages: &str) -> Option<u64> {
    let json = messages.lines().rev().find_map(|line| line.get(line.find("{\"adds_up\"")?..))?;
    let report: serde_json::Value = serde_json::from_str(json).ok()?;
    let lost = report.get("lost")?.as_object()?;
    lost.values().filter_map(serde_json::Value::as_u64).max()
}

/// What a process has used of the processors so far.
pub(super) fn processor_time(process: u32) -> Duration {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
    let fields = stat.rsplit_once(')').map_or("", |(_, fields)| fields);
    let ticks = fields.split_ascii_whitespace().skip(11).take(2);
    let ticks: u64 = ticks.filter_map(|ticks| ticks.parse::<u64>().ok()).sum();
    // A tick is 10 ms on every Linux that these programs run on.
    Duration::from_millis(10 * ticks)
}
