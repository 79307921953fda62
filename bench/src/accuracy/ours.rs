//! The same traffic behind our pen: how right our programs are with its records, once with lines that
//! name the peer's port and once with lines that don't.

use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::process::Command;

use super::Row;
use super::trial::{Ear, Merged, plans};
use crate::Failure;
use crate::stage::{
    Folder, Make, Mappings, Output, Score, Share, Shipper, Site, Tee, Web, certainties, run_to_end,
    share, sibling, visitors,
};

/// The format of the lines that end with the peer's port, whichever server wrote them.
const WITH_PORT: &str = r#"%h %l %u %t "%r" %>s %b "%{Referer}i" "%{User-Agent}i" %{remote}p"#;

/// What became of the lines of a row.
#[derive(Debug)]
pub struct Pair {
    /// Of those that end with the peer's port.
    pub port: Score,
    /// Of the same without it.
    pub without: Score,
}

const WHOLE: &str = "\
| traffic | road | lines | right % | exact (wrong) | certain (wrong) | likely (wrong) | none | lost |
|---|---|---|---:|---:|---:|---:|---:|---:|";

const BRIEF: &str = "\
| traffic | with the port, live | offline | without it, live | offline |
|---|---:|---:|---:|---:|";

/// Measures and prints the table.
pub(super) fn run(rows: &[&Row], requests: usize, seed: u64, brief: bool) -> Result<(), Failure> {
    println!("{}", if brief { BRIEF } else { WHOLE });
    let (mut lines, mut wrong) = ([0; 2], [0; 2]);
    let mut lost = 0;
    for row in rows {
        let (live, offline) = (live(row, requests, seed)?, offline(row, requests, seed)?);
        if brief {
            let cell = |score: &Score| format!("{:.2}", score.right_share());
            println!(
                "| {} | {} | {} | {} | {} |",
                row.title,
                cell(&live.port),
                cell(&offline.port),
                cell(&live.without),
                cell(&offline.without)
            );
        }
        for (road, pair) in [("live", &live), ("offline", &offline)] {
            for (kind, score) in [("with the port", &pair.port), ("without", &pair.without)] {
                if !brief {
                    line(row, road, kind, score);
                }
                lines[0] += score.exact;
                wrong[0] += score.exact_wrong;
                lines[1] += score.certain - score.exact;
                wrong[1] += score.certain_wrong - score.exact_wrong;
                lost += score.lost() + score.doubled + score.strange;
            }
        }
    }
    println!(
        "\n{} lines were marked as exact, {} of these wrongly; {} as certain, {} wrongly; {lost} were lost, \
         changed or doubled.",
        lines[0], wrong[0], lines[1], wrong[1]
    );
    Ok(())
}

fn line(row: &Row, road: &str, kind: &str, score: &Score) {
    let certain = score.certain - score.exact;
    println!(
        "| {} | {road} | {kind} | {:.2} | {:.2} ({}) | {:.2} ({}) | {:.2} ({}) | {:.2} | {} |",
        row.title,
        score.right_share(),
        share(score.exact, score.lines),
        score.exact_wrong,
        share(certain, score.lines),
        score.certain_wrong - score.exact_wrong,
        share(score.likely, score.lines),
        score.likely_wrong,
        share(score.none, score.lines),
        score.lost() + score.doubled + score.strange,
    );
}

/// Our pen, two of our collectors that hear its records alike, and two of our shippers a server.
///
/// # Errors
/// When a program is missing or fails.
pub fn live(row: &Row, requests: usize, seed: u64) -> Result<Pair, Failure> {
    let folder = Folder::new()?;
    let (penlogd, penlog) = (sibling("penlogd")?, sibling("penlog")?);
    let start = |name, args: &[&str]| Ear::start(name, &penlogd, &folder, Share::Records, args);
    let port = start("with-port", &["--format", WITH_PORT])?;
    let without = start("without", &[])?;
    let tee = Tee::start(vec![(port.addr, Share::Records), (without.addr, Share::Records)])?;
    let (mut shippers, mut roads) = (Vec::new(), Vec::new());
    for number in 1..=3 {
        let ip = Ipv4Addr::new(127, 0, 1, number);
        let mut outputs = Vec::new();
        for (name, ear) in [("port", &port), ("plain", &without)] {
            let fifo = folder.join(format!("{name}{number}.fifo"));
            shippers.push(Shipper::start(&penlog, name, &fifo, ear.addr, ip)?);
            outputs.push(match name {
                "port" => Output::WithPort(fifo),
                _ => Output::Fifo(fifo),
            });
        }
        roads.push(outputs);
    }
    let mappings = Mappings::Collector(tee.addr());
    let mut site = Site::start_behind(Make::Ours, &folder, &plans(row, roads), &mappings)?;
    shippers.iter_mut().for_each(Shipper::hand_over);
    site.send(&visitors::draw(row.manner, requests, seed))?;
    let truth = site.stop()?;
    for shipper in shippers {
        shipper.finish()?;
    }
    let _passed = tee.finish();
    let (port, without) = (port.read(truth.lines())?, without.read(truth.lines())?);
    Ok(Pair {
        port: truth.score_with_port(&port.log, port.marks.as_deref()),
        without: truth.score(&without.log, without.marks.as_deref()),
    })
}

/// Our pen's own file, and both kinds of logs as the servers wrote them.
///
/// # Errors
/// When a program is missing or fails.
pub fn offline(row: &Row, requests: usize, seed: u64) -> Result<Pair, Failure> {
    let folder = Folder::new()?;
    let pen_log = folder.join("pen.log");
    let with_port: Vec<_> = (1..=3).map(|n| folder.join(format!("port{n}.log"))).collect();
    let roads = with_port.iter().map(|path| vec![Output::WithPort(path.clone())]).collect();
    let mappings = Mappings::File(pen_log.clone());
    let mut site = Site::start_behind(Make::Ours, &folder, &plans(row, roads), &mappings)?;
    site.send(&visitors::draw(row.manner, requests, seed))?;
    let truth = site.stop()?;
    let merge = |name: &str, logs: &[PathBuf], format: &[&str]| {
        let explain = folder.join(format!("{name}.explain"));
        let mut command = Command::new(sibling("mergelogs")?);
        command.arg("-p").arg(&pen_log).arg("--explain").arg(&explain).args(format);
        for (web, log) in site.webs.iter().zip(logs) {
            command.arg(format!("{}:{}", web.addr().ip(), log.display()));
        }
        let log = run_to_end(&mut command)?;
        Ok::<_, Failure>(Merged { log, marks: Some(certainties(&explain)?) })
    };
    let port = merge("port", &with_port, &["--format", WITH_PORT])?;
    let logs: Vec<_> = site.webs.iter().map(Web::access_log).collect();
    let without = merge("plain", &logs, &[])?;
    Ok(Pair {
        port: truth.score_with_port(&port.log, port.marks.as_deref()),
        without: truth.score(&without.log, without.marks.as_deref()),
    })
}
