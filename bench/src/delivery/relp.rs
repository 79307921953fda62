//! The rival: rsyslog follows the same file, sends by RELP, and writes.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use nix::sys::signal::Signal;
use pen_testing::random::SeededRandom;

use super::Finding;
use super::count::{Numbers, files};
use super::log_file::LogFile;
use super::scene::{Disturbance, LineInput, Target};
use super::stage::out;
use super::writer::{LineOutput, Writer, pause};
use crate::stage::{Program, TempFolder, bytes_of, free_port, installed, wait_while_growing};
use crate::{ActionError, Doing as _};

/// How long nothing comes when all has come that will.
const QUIET: Duration = Duration::from_secs(10);
/// Where Debian has the modules.
const MODULE: &str = "/usr/lib/x86_64-linux-gnu/rsyslog/omrelp.so";

#[derive(Clone, Copy, Debug)]
pub(super) struct RelpScene {
    pub(super) killed: Target,
    pub(super) disturbance: Disturbance,
    pub(super) rate: u32,
}

impl RelpScene {
    pub(super) fn play(
        self,
        folder: &TempFolder,
        random: &mut SeededRandom,
    ) -> Result<Finding, ActionError> {
        if installed("rsyslogd").is_none() || !is_there(MODULE) {
            return Err(ActionError::new("not installed: rsyslog and rsyslog-relp"));
        }
        for name in ["out", "sender", "receiver"] {
            fs::create_dir_all(folder.join(name)).doing("make a folder")?;
        }
        let addr = free_port(Ipv4Addr::LOCALHOST);
        let path = folder.join("access.log");
        let file = LogFile::create(path, LineInput::File).doing("make a log")?;
        let output = LineOutput::File(Arc::new(Mutex::new(file)));
        let start = |target| start(folder, target, addr);
        let mut programs = [start(Target::Collector)?, start(Target::Shipper)?];
        let mut writer = Writer::start(output, self.rate);
        let Disturbance { times, away, calm, .. } = self.disturbance;
        pause(Duration::from_secs(2));
        for _ in 0..times {
            pause(calm.draw(random));
            let [receiver, sender] = &mut programs;
            let program = if self.killed == Target::Collector { receiver } else { sender };
            program.stop(Signal::SIGKILL)?;
            pause(away.draw(random));
            *program = start(self.killed)?;
        }
        pause(calm.draw(random));
        let sent = writer.finish()?;
        let merged = out(folder).join("merged.log");
        wait_while_growing(QUIET, writer.bytes(), || bytes_of(&merged));
        let [mut receiver, mut sender] = programs;
        sender.stop(Signal::SIGTERM)?;
        receiver.stop(Signal::SIGTERM)?;
        let merged = Numbers::read(&files(&out(folder), "merged.log")?)?;
        let counts = Numbers::first(sent).compared(&merged, 0);
        let remark = (merged.torn > 0).then(|| format!("{} torn lines", merged.torn));
        Ok(Finding { counts, clients: None, remark, messages: receiver.messages() })
    }
}

fn is_there(path: &str) -> bool {
    Path::new(path).is_file()
}

fn start(folder: &TempFolder, target: Target, addr: SocketAddr) -> Result<Program, ActionError> {
    let (name, text) = match target {
        Target::Collector => ("receiver", receiver(folder, addr)),
        _ => ("sender", sender(folder, addr)),
    };
    let config = folder.write(format!("{name}.conf"), text);
    let mut command = Command::new(installed("rsyslogd").unwrap_or_default());
    command.arg("-n").arg("-f").arg(config).arg("-i").arg(folder.join(format!("{name}.pid")));
    let mut program = Program::start("rsyslogd", &mut command)?;
    if target == Target::Collector {
        program.wait_for_port(addr)?;
    }
    Ok(program)
}

/// Disk-assisted, as the manual of omrelp recommends; the position of the file is written down every 100 lines.
fn sender(folder: &TempFolder, addr: SocketAddr) -> String {
    format!(
        "global(workDirectory=\"{work}\")
module(load=\"imfile\")
module(load=\"omrelp\")
input(type=\"imfile\" file=\"{log}\" tag=\"shop\" persistStateInterval=\"100\")
action(type=\"omrelp\" target=\"{ip}\" port=\"{port}\" queue.type=\"LinkedList\"
       queue.filename=\"relp\" queue.maxDiskSpace=\"1g\" queue.saveOnShutdown=\"on\"
       action.resumeRetryCount=\"-1\" action.resumeInterval=\"1\")
",
        work = folder.join("sender").display(),
        log = folder.join("access.log").display(),
        ip = addr.ip(),
        port = addr.port()
    )
}

fn receiver(folder: &TempFolder, addr: SocketAddr) -> String {
    format!(
        "global(workDirectory=\"{work}\")
module(load=\"imrelp\")
input(type=\"imrelp\" port=\"{port}\" address=\"{ip}\")
template(name=\"line\" type=\"string\" string=\"%msg:2:$%\\n\")
action(type=\"omfile\" file=\"{log}\" template=\"line\")
",
        work = folder.join("receiver").display(),
        log = out(folder).join("merged.log").display(),
        ip = addr.ip(),
        port = addr.port()
    )
}
