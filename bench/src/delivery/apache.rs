//! Apache with a piped log: a `penlog` that is killed, and that Apache starts again.

use std::fs;
use std::net::Ipv4Addr;
use std::path::Path;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use pen_testing::random::SeededRandom;

use super::Finding;
use super::count::{Numbers, files};
use super::scene::Disturbance;
use super::stage::{out, start_collector, told};
use super::writer::pause;
use crate::stage::visitors::{self, Round, Sending, Then, Visit};
use crate::stage::{
    Output, TempFolder, Web, WebPlan, WebServerKind, bytes_of, free_port, sibling,
    wait_while_growing,
};
use crate::{ActionError, Doing as _};

/// How long nothing comes when all has come that will.
const QUIET: Duration = Duration::from_secs(5);
/// Requests on a connection.
const KEPT: usize = 50;

#[derive(Clone, Debug)]
pub(super) struct ApacheScene {
    pub(super) disturbance: Disturbance,
    /// Requests a second.
    pub(super) rate: u32,
    pub(super) has_journal: bool,
}

impl ApacheScene {
    pub(super) fn play(
        &self,
        folder: &TempFolder,
        random: &mut SeededRandom,
    ) -> Result<Finding, ActionError> {
        fs::create_dir_all(out(folder)).doing("make a folder")?;
        let addr = free_port(Ipv4Addr::LOCALHOST);
        let mut collector = start_collector(folder, addr, self.has_journal)?;
        let (penlog, spool) = (sibling("penlog")?, folder.join("spool"));
        let (penlog, spool) = (penlog.display(), spool.display());
        let pipe = format!("{penlog} --spool {spool} {} {}", addr.ip(), addr.port());
        let outputs = vec![Output::Pipe(pipe)];
        let kind = WebServerKind::Apache;
        let plan = WebPlan { kind, number: 1, outputs, tls: false, addr: None };
        let mut web = Web::start(folder.path(), &plan)?;
        self.visit_and_kill(&web, random)?;
        web.stop()?;
        let merged = out(folder).join("merged.log");
        wait_while_growing(QUIET, u64::MAX, || bytes_of(&merged));
        collector.stop(Signal::SIGTERM)?;
        let said = fs::read(web.error_log()).doing("read the error log")?;
        let messages = format!("{}\n{}", String::from_utf8_lossy(&said), collector.messages());
        let sent = Numbers::read(&[web.access_log()])?;
        let merged = Numbers::read(&files(&out(folder), "merged.log")?)?;
        let remark = (merged.torn > 0).then(|| format!("{} torn lines", merged.torn));
        let counts = sent.compared(&merged, told(&messages));
        Ok(Finding { counts, clients: None, remark, messages })
    }

    /// Asks for numbered pages at a steady rate, and kills `penlog` meanwhile.
    fn visit_and_kill(&self, web: &Web, random: &mut SeededRandom) -> Result<(), ActionError> {
        let Disturbance { times, calm, .. } = self.disturbance;
        // Apache decides when penlog is back.
        let moments: Vec<_> = (0..times).map(|_| 2 * calm.draw(random)).collect();
        let time = moments.iter().sum::<Duration>() + 2 * EDGE;
        let requests = time.as_millis() * u128::from(self.rate) / 1_000;
        let visits = numbered(usize::try_from(requests).unwrap_or(usize::MAX));
        let sending = Sending { per_second: Some(self.rate), ..Sending::default() };
        let to = web.addr();
        std::thread::scope(|scope| {
            let traffic = scope.spawn(move || visitors::send(&visits, to, sending));
            pause(EDGE);
            for calm in moments {
                pause(calm);
                kill_child(web.id(), "penlog")?;
            }
            traffic.join().map_err(|_panic| ActionError::new("the visitors panicked"))?
        })?;
        Ok(())
    }
}

/// Traffic before the first and after the last kill.
const EDGE: Duration = Duration::from_secs(2);

fn numbered(requests: usize) -> Vec<Visit> {
    let round = |number: usize| Round {
        pause: Duration::ZERO,
        pieces: vec![
            format!("GET /{number} HTTP/1.1\r\nHost: shop.example\r\nUser-Agent: curl\r\n\r\n")
                .into_bytes(),
        ],
        requests: 1,
        then: Then::Answers,
    };
    let visits = (0..requests).step_by(KEPT).map(|first| {
        let rounds = (first..requests.min(first + KEPT)).map(round).collect();
        Visit { client: Ipv4Addr::LOCALHOST, rounds }
    });
    visits.collect()
}

/// Kills the children of a process that run a program.
fn kill_child(parent: u32, name: &str) -> Result<(), ActionError> {
    for entry in fs::read_dir("/proc").doing("list processes")? {
        let Ok(entry) = entry else { continue };
        let Some(id) = entry.file_name().to_str().and_then(|id| id.parse().ok()) else { continue };
        if is_child(&entry.path(), parent, name) {
            kill(Pid::from_raw(id), Signal::SIGKILL).doing("kill penlog")?;
        }
    }
    Ok(())
}

/// `id (name) state parent …`
fn is_child(process: &Path, parent: u32, name: &str) -> bool {
    let Ok(stat) = fs::read_to_string(process.join("stat")) else { return false };
    let Some((head, tail)) = stat.rsplit_once(')') else { return false };
    let of = tail.split_ascii_whitespace().nth(1).and_then(|id| id.parse().ok());
    head.split_once('(').is_some_and(|(_, it)| it == name) && of == Some(parent)
}
