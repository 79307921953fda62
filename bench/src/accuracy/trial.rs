//! One row, live and offline.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Command;

use super::Row;
use crate::stage::visitors::{self, Tally};
use crate::stage::{
    Collector, LogSpelling, Mappings, Mark, Output, Score, Share, Shipper, Site, Tee, TempFolder,
    Truth, WebPlan, free_port, marks, require_installed, run_to_end, sibling,
};
use crate::{ActionError, Doing};

/// What the collectors made of a row.
#[derive(Debug)]
pub struct Live {
    /// The C `penlogd`, lines from the C `penlog`.
    pub c: Score,
    /// Ours, on the same datagrams.
    pub ours: Option<Score>,
    /// Ours, lines from our `penlog`.
    pub shipped: Option<Score>,
    /// The visits.
    pub tally: Tally,
}

/// What the offline programs made of a row.
#[derive(Debug)]
pub struct Offline {
    /// The C `mergelogs`.
    pub c: Score,
    /// Ours, on the same files.
    pub ours: Option<Score>,
    /// The visits.
    pub tally: Tally,
}

/// Sends a row's traffic to collectors that all hear the same.
///
/// # Errors
/// When a program is missing or fails.
pub fn live(row: &Row, requests: usize, seed: u64) -> Result<Live, ActionError> {
    let folder = TempFolder::new();
    let old = Ear::start("c-penlogd", &require_installed("penlogd")?, &folder, Share::All, &[])?;
    let (penlogd, penlog) = (built("penlogd"), built("penlog"));
    let ours = start_ours("penlogd", penlogd.as_deref(), &folder, Share::All)?;
    let shipped = match &penlog {
        Some(_) => start_ours("penlogd-shipped", penlogd.as_deref(), &folder, Share::Records)?,
        None => None,
    };
    let ears: Vec<&Ear> =
        [Some(&old), ours.as_ref(), shipped.as_ref()].into_iter().flatten().collect();
    let tee = Tee::start(ears.iter().map(|ear| (ear.addr, ear.share)).collect())?;
    let mut shippers = Vec::new();
    let mut roads = Vec::new();
    for number in 1..=3 {
        let ip = Ipv4Addr::new(127, 0, 1, number);
        let mut ship = |name: &str, program: &Path, to: SocketAddr| {
            let fifo = folder.join(format!("{name}{number}.fifo"));
            shippers.push(Shipper::start(program, name, &fifo, to, ip)?);
            Ok::<Output, ActionError>(Output::At(fifo, LogSpelling::Combined))
        };
        let mut outputs = vec![ship("c-penlog", &require_installed("penlog")?, tee.addr())?];
        if let (Some(ear), Some(penlog)) = (&shipped, &penlog) {
            outputs.push(ship("penlog", penlog, ear.addr)?);
        }
        roads.push(outputs);
    }
    let mut site = Site::start(&folder, &plans(row, roads), &Mappings::Collector(tee.addr()))?;
    site.sending = row.sending;
    let tally = site.send(&visitors::draw(row.manner, requests, seed))?;
    let truth = site.stop()?;
    for shipper in shippers {
        shipper.finish()?;
    }
    let _passed = tee.finish();
    Ok(Live {
        c: old.finish(&truth)?,
        ours: ours.map(|ear| ear.finish(&truth)).transpose()?,
        shipped: shipped.map(|ear| ear.finish(&truth)).transpose()?,
        tally,
    })
}

/// Sends a row's traffic, and gives the files to both offline programs.
///
/// # Errors
/// When a program is missing or fails.
pub fn offline(row: &Row, requests: usize, seed: u64) -> Result<Offline, ActionError> {
    let folder = TempFolder::new();
    let pen_log = folder.join("pen.log");
    let plans = plans(row, vec![vec![]; 3]);
    let mut site = Site::start(&folder, &plans, &Mappings::File(pen_log.clone()))?;
    site.sending = row.sending;
    let tally = site.send(&visitors::draw(row.manner, requests, seed))?;
    let truth = site.stop()?;
    let inputs: Vec<String> = site
        .webs
        .iter()
        .map(|web| format!("{}:{}", web.addr().ip(), web.access_log().display()))
        .collect();
    let old = run_to_end(
        Command::new(require_installed("mergelogs")?).arg("-p").arg(&pen_log).args(&inputs),
    )?;
    let ours = match built("mergelogs") {
        Some(mergelogs) => {
            let explain = folder.join("explain");
            let mut command = Command::new(mergelogs);
            command.arg("-p").arg(&pen_log).arg("--explain").arg(&explain).args(&inputs);
            let merged = run_to_end(&mut command)?;
            Some(truth.score(&merged, Some(&marks(&explain)?)))
        }
        None => None,
    };
    Ok(Offline { c: truth.score(&old, None), ours, tally })
}

pub(super) fn plans(row: &Row, roads: Vec<Vec<Output>>) -> Vec<WebPlan> {
    let kinds = row.webs.iter().zip(1..).zip(roads);
    kinds
        .map(|((&kind, number), outputs)| WebPlan {
            kind,
            number,
            outputs,
            tls: row.sending.tls.is_some(),
            addr: None,
        })
        .collect()
}

/// A program of ours, if it has been built and is more than a place holder.
fn built(name: &str) -> Option<PathBuf> {
    let path = sibling(name).ok()?;
    let help = run_to_end(Command::new(&path).arg("--help")).ok()?;
    (!help.is_empty()).then_some(path)
}

fn start_ours(
    name: &str,
    program: Option<&Path>,
    folder: &TempFolder,
    share: Share,
) -> Result<Option<Ear>, ActionError> {
    program.map(|program| Ear::start(name, program, folder, share, &[])).transpose()
}

/// A merged log, and how sure its program was of each line.
pub(super) struct Merged {
    pub(super) log: Vec<u8>,
    pub(super) marks: Option<Vec<Mark>>,
}

/// A collector and what it is to hear.
pub(super) struct Ear {
    collector: Collector,
    pub(super) addr: SocketAddr,
    share: Share,
    explain: Option<PathBuf>,
}

impl Ear {
    pub(super) fn start(
        name: &str,
        program: &Path,
        folder: &TempFolder,
        share: Share,
        args: &[&str],
    ) -> Result<Self, ActionError> {
        let addr = free_port(Ipv4Addr::LOCALHOST);
        let explain = (name != "c-penlogd").then(|| folder.join(format!("{name}.explain")));
        let explain_arg = explain.as_ref().map(|path| path.display().to_string());
        let mut args = args.to_vec();
        if let Some(path) = &explain_arg {
            args.extend(["--explain", path]);
        }
        let collector = Collector::start(program, name, folder.path(), addr, &args)?;
        Ok(Self { collector, addr, share, explain })
    }

    fn finish(self, truth: &Truth) -> Result<Score, ActionError> {
        let Merged { log, marks } = self.read(truth.lines())?;
        Ok(truth.score(&log, marks.as_deref()))
    }

    /// Ends the collector after `lines` lines; returns its log and the certainty of each line.
    pub(super) fn read(self, lines: usize) -> Result<Merged, ActionError> {
        let log = self.collector.log().to_owned();
        self.collector.settle(lines);
        let (_status, said) = self.collector.stop()?;
        if std::env::var_os("PEN_BENCH_TALK").is_some() {
            eprintln!("{said}");
        }
        let log = fs::read(&log).doing(format_args!("read {}", log.display()))?;
        let marks = self.explain.as_deref().map(marks).transpose()?;
        Ok(Merged { log, marks })
    }
}
