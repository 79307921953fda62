//! The same traffic behind our pen: how right our programs are with its records, once with lines that
//! name the peer's port and once with lines that don't.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::process::Command;

use super::Row;
use super::trial::{Ear, Merged, plans};
use crate::Failure;
use crate::stage::visitors::{self, Visit};
use crate::stage::{
    Folder, Make, Mappings, Output, Score, Share, Shipper, Site, Tee, Web, certainties, free_port,
    hear_to_end, share, shift, sibling,
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
    /// Seconds that each server's clock is ahead in truth, and by the reports of either.
    pub clocks: Vec<[f64; 3]>,
}

impl Pair {
    /// How well the clocks were found, where they are off.
    fn clocks(&self) -> Option<String> {
        let told = |&[truth, port, without]: &[f64; 3]| {
            format!("{truth:+} s was found as {port:+.3} s with the port, {without:+.3} s without")
        };
        let is_off = self.clocks.iter().any(|[truth, ..]| *truth != 0.0);
        is_off.then(|| self.clocks.iter().map(told).collect::<Vec<_>>().join("; "))
    }
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
    let mut clocks = Vec::new();
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
        clocks.extend(offline.clocks());
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
    clocks.iter().for_each(|clocks| println!("\nServers' clocks: {clocks}."));
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

/// The servers' addresses, where they are not their own ones.
fn addresses(row: &Row) -> Result<Vec<Option<SocketAddr>>, Failure> {
    (0..3).map(|_| row.v6.then(|| free_port(Ipv6Addr::LOCALHOST)).transpose()).collect()
}

fn visits(row: &Row, requests: usize, seed: u64) -> Vec<Visit> {
    let visits = visitors::draw(row.manner, requests, seed);
    if row.v6 { visitors::by_v6(visits) } else { visits }
}

/// The site of a row, whose servers' logs go these ways, too.
fn site(
    row: &Row,
    folder: &Folder,
    addrs: &[Option<SocketAddr>],
    roads: Vec<Vec<Output>>,
    mappings: &Mappings,
) -> Result<Site, Failure> {
    let mut plans = plans(row, roads);
    plans.iter_mut().zip(addrs).for_each(|(plan, &addr)| plan.addr = addr);
    let make = if row.v6 { Make::OursProxied } else { Make::Ours };
    Site::start_behind(make, folder, &plans, mappings)
}

/// Our pen, two of our collectors that hear its records alike, and two of our shippers a server.
///
/// # Errors
/// When a program is missing or fails.
pub fn live(row: &Row, requests: usize, seed: u64) -> Result<Pair, Failure> {
    let folder = Folder::new()?;
    let (penlogd, penlog) = (sibling("penlogd")?, sibling("penlog")?);
    // Where records may be late by half a second, lines wait for them.
    let wait: &[&str] = if row.faults.is_some() { &["--wait", "1s"] } else { &[] };
    let start = |name, args: &[&str]| {
        Ear::start(name, &penlogd, &folder, Share::Records, &[args, wait].concat())
    };
    let port = start("with-port", &["--format", WITH_PORT])?;
    let without = start("without", &[])?;
    let ears = vec![(port.addr, Share::Records), (without.addr, Share::Records)];
    let tee = Tee::start_with(ears, row.faults.unwrap_or_default())?;
    let addrs = addresses(row)?;
    let (mut shippers, mut roads) = (Vec::new(), Vec::new());
    for (number, addr) in (1..=3).zip(&addrs) {
        let who = match addr {
            Some(addr) => ["--server".to_owned(), addr.to_string()].to_vec(),
            None => vec![Ipv4Addr::new(127, 0, 1, number).to_string()],
        };
        let who: Vec<&str> = who.iter().map(String::as_str).collect();
        let mut outputs = Vec::new();
        for (name, ear) in [("port", &port), ("plain", &without)] {
            let fifo = folder.join(format!("{name}{number}.fifo"));
            shippers.push(Shipper::start_with(&penlog, name, &fifo, ear.addr, &who)?);
            outputs.push(match name {
                "port" => Output::WithPort(fifo),
                _ => Output::Fifo(fifo),
            });
        }
        roads.push(outputs);
    }
    let mut site = site(row, &folder, &addrs, roads, &Mappings::Collector(tee.addr()))?;
    shippers.iter_mut().for_each(Shipper::hand_over);
    site.send(&visits(row, requests, seed))?;
    let truth = site.stop()?;
    for shipper in shippers {
        shipper.finish()?;
    }
    let _passed = tee.finish();
    let (port, without) = (port.read(truth.lines())?, without.read(truth.lines())?);
    Ok(Pair {
        port: truth.score_with_port(&port.log, port.marks.as_deref()),
        without: truth.score(&without.log, without.marks.as_deref()),
        clocks: Vec::new(),
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
    let mut site = site(row, &folder, &addresses(row)?, roads, &mappings)?;
    site.send(&visits(row, requests, seed))?;
    site.end()?;
    let logs: Vec<_> = site.webs.iter().map(Web::access_log).collect();
    for (index, seconds) in row.clocks.into_iter().enumerate().filter(|&(_, clock)| clock != 0) {
        for log in [&with_port[index], &logs[index], &site.webs[index].truth_log()] {
            shift(log, seconds)?;
        }
    }
    let truth = site.truth()?;
    let merge = |name: &str, logs: &[PathBuf], format: &[&str]| {
        let explain = folder.join(format!("{name}.explain"));
        let mut command = Command::new(sibling("mergelogs")?);
        command.arg("-p").arg(&pen_log).arg("--explain").arg(&explain).args(format);
        command.args(["--report", "json"]);
        for (web, log) in site.webs.iter().zip(logs) {
            let addr = web.addr();
            let server = if row.v6 { addr.to_string() } else { addr.ip().to_string() };
            command.arg(format!("{server}:{}", log.display()));
        }
        let (log, said) = hear_to_end(&mut command)?;
        let merged = Merged { log, marks: Some(certainties(&explain)?) };
        Ok::<_, Failure>((merged, found(&said)?))
    };
    let (port, by_port) = merge("port", &with_port, &["--format", WITH_PORT])?;
    let (without, by_plain) = merge("plain", &logs, &[])?;
    let clocks = row.clocks.iter().zip(by_port.iter().zip(&by_plain));
    Ok(Pair {
        port: truth.score_with_port(&port.log, port.marks.as_deref()),
        without: truth.score(&without.log, without.marks.as_deref()),
        clocks: clocks.map(|(&truth, (&port, &plain))| [seconds(truth), port, plain]).collect(),
    })
}

/// The servers' clocks that a report names.
fn found(report: &str) -> Result<Vec<f64>, Failure> {
    let after = report.split("\"clock_ahead_seconds\":").skip(1);
    let number = |text: &str| text.split([',', '}']).next()?.parse().ok();
    let clocks: Option<Vec<f64>> = after.map(number).collect();
    clocks.ok_or_else(|| Failure::new(format!("a report names no clocks: {report}")))
}

fn seconds(whole: i64) -> f64 {
    i32::try_from(whole).map_or(f64::NAN, f64::from)
}
