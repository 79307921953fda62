//! The same traffic behind our pen: how right our programs are with its records, with lines that
//! name the peer's port, with combined lines and with common ones.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::process::Command;

use pen_testing::site::{BANDS, SaidBand};

use super::trial::{Ear, Merged, plans};
use super::wordings::{LogFile, Wording};
use super::{RecordSource, Row};
use crate::ActionError;
use crate::stage::visitors::{self, Tally, Visit};
use crate::stage::{
    AlikeLines, Follower, HaproxyLogMode, Make, Mappings, Mark, NGINX_FORMAT, Output, Score, Share,
    Shipper, Site, Tee, TempFolder, Truth, free_port, marks, run_with_messages, share, shift,
    sibling,
};

/// HAProxy's names of the servers: HAProxy's own log formats contain no server address.
const NAMES: [&str; 3] = ["app/web1=127.0.1.1", "app/web2=127.0.1.2", "app/web3=127.0.1.3"];

/// What became of the lines of a row.
#[derive(Debug)]
pub struct Scores {
    /// Of each way to log.
    each: Vec<WordingScore>,
    /// What the visitors got.
    pub tally: Tally,
}

/// What became of lines that were logged one way.
#[derive(Debug)]
struct WordingScore {
    name: &'static str,
    score: Score,
    /// Per cent that are right if lines that are alike count in any order, as one text of a log is like the other.
    any_order: f64,
    /// Seconds that each server's clock was found to be ahead; nothing live.
    clocks: Vec<f64>,
}

impl WordingScore {
    fn of(wording: &Wording, truth: &Truth, log: &[u8], marks: Option<&[Mark]>) -> Self {
        let score = |alike| truth.score_text((wording.text, alike), log, marks);
        Self {
            name: wording.name,
            score: score(wording.alike()),
            any_order: score(AlikeLines::AsSet).right_share(),
            clocks: Vec::new(),
        }
    }
}

impl Scores {
    /// Returns the score of a way to log.
    ///
    /// # Panics
    /// If the row has no such way.
    #[must_use]
    pub fn of(&self, name: &str) -> &Score {
        let found = self.each.iter().find(|it| it.name == name);
        &found.expect("the row logs that way").score
    }

    /// Each with its name.
    pub fn named(&self) -> impl Iterator<Item = (&'static str, &Score)> {
        self.each.iter().map(|it| (it.name, &it.score))
    }

    /// How well clocks that are off were found.
    fn clocks(&self, row: &Row) -> Option<String> {
        let is_off = row.clocks != [0; 3];
        let each = self.each.iter().map(|it| format!("{} {:?}", it.name, it.clocks));
        is_off
            .then(|| format!("{:?}; found by {}", row.clocks, each.collect::<Vec<_>>().join(", ")))
    }
}

const WHOLE: &str = "\
| traffic | road | lines | right % | in any order % | exact (wrong) | certain (wrong) | likely (wrong) | none | lost | off |
|---|---|---|---:|---:|---:|---:|---:|---:|---:|---|";

const BRIEF: &str = "\
| traffic | with the port, live | offline | combined, live | offline | common, live | offline |
|---|---:|---:|---:|---:|---:|---:|";

/// Measures and prints the table.
pub(super) fn run(
    (rows, source): (&[&Row], RecordSource),
    requests: usize,
    seed: u64,
    brief: bool,
) -> Result<(), ActionError> {
    println!("{}", if brief { BRIEF } else { WHOLE });
    let (mut lines, mut wrong) = ([0; 2], [0; 2]);
    let mut lost = 0;
    let (mut clocks, mut rates) = (Vec::new(), Vec::new());
    let mut bands = [SaidBand::default(); BANDS.len()];
    for row in rows {
        let make = make(source, row);
        let live = live_behind(make, row, requests, seed)?;
        let offline = offline_behind(make, row, requests, seed)?;
        if brief {
            let kinds: Vec<&str> = row.wordings.iter().map(|it| it.name).collect();
            let is_plain = kinds == ["port", "combined", "common"];
            let what = if is_plain { String::new() } else { format!(": {}", kinds.join(", ")) };
            print!("| {}{what} |", row.title);
            for ((_, live), (_, offline)) in live.named().zip(offline.named()) {
                print!(" {:.2} | {:.2} |", live.right_share(), offline.right_share());
            }
            println!();
        }
        clocks.extend(offline.clocks(row));
        if row.sending.per_second.is_some() {
            let [live, offline] = [&live, &offline].map(|scores| scores.tally.per_second());
            rates.push(format!("{}: {live:.0} live, {offline:.0} offline", row.title));
        }
        for (road, scores) in [("live", &live), ("offline", &offline)] {
            for it in &scores.each {
                let score = &it.score;
                if !brief {
                    line(row, road, it);
                }
                lines[0] += score.exact;
                wrong[0] += score.exact_wrong;
                lines[1] += score.certain - score.exact;
                wrong[1] += score.certain_wrong - score.exact_wrong;
                lost += score.lost() + score.doubled + score.strange;
                bands.iter_mut().zip(score.bands).for_each(|(sum, band)| sum.add(band));
            }
        }
    }
    println!(
        "\n{} lines were marked as exact, {} of these wrongly; {} as certain, {} wrongly; {lost} were lost, \
         changed or doubled.",
        lines[0], wrong[0], lines[1], wrong[1]
    );
    for clocks in clocks {
        println!("\nSeconds that servers' clocks are ahead: {clocks}.");
    }
    if !rates.is_empty() {
        println!("\nRequests that were answered in a second: {}.", rates.join("; "));
    }
    calibration(&bands);
    Ok(())
}

/// How right lines are that were said to be likely, by how likely.
fn calibration(bands: &[SaidBand]) {
    println!("\n| said to be likely by | lines | said % | right % |\n|---|---:|---:|---:|");
    let lower = [0].into_iter().chain(BANDS);
    for ((from, to), band) in lower.zip(BANDS).zip(bands).filter(|(_, band)| band.lines > 0) {
        let (said, right) = (band.said_share(), band.right_share());
        println!("| {} to {} % | {} | {said:.1} | {right:.1} |", from / 10, to / 10, band.lines);
    }
}

fn line(row: &Row, road: &str, it: &WordingScore) {
    let WordingScore { name, score, any_order, .. } = it;
    let certain = score.certain - score.exact;
    let off = |(end, band): (u16, SaidBand)| format!("below {} % {band}", end / 10);
    let off: Vec<String> = score.bands_off().map(off).collect();
    println!(
        "| {} | {road} | {name} | {:.2} | {any_order:.2} | {:.2} ({}) | {:.2} ({}) | {:.2} ({}) | {:.2} | {} | {} |",
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
        off.join("; "),
    );
}

/// The servers' addresses, where they are not their own ones.
fn addresses(row: &Row) -> Vec<Option<SocketAddr>> {
    (0..3).map(|_| row.v6.then(|| free_port(Ipv6Addr::LOCALHOST))).collect()
}

fn visits(row: &Row, requests: usize, seed: u64) -> Vec<Visit> {
    let visits = visitors::draw_by(row.manner, row.user_agents, row.requests(requests), seed);
    let has_hosts = row.wordings.iter().flat_map(|it| it.files).any(|file| file.host.is_some());
    let visits = if has_hosts { visitors::by_hosts(visits) } else { visits };
    if row.v6 { visitors::by_v6(visits) } else { visits }
}

/// The balancer of a row. HAProxy reads requests where it can.
fn make(source: RecordSource, row: &Row) -> Make {
    match source {
        RecordSource::Haproxy if row.sending.tls.is_some() => {
            Make::Haproxy(HaproxyLogMode::TcpPorts)
        }
        RecordSource::Haproxy => Make::Haproxy(HaproxyLogMode::HttpPorts),
        RecordSource::Nginx => Make::Nginx,
        RecordSource::NginxStream => Make::NginxStream,
        RecordSource::Kernel => Make::Kernel,
        RecordSource::C | RecordSource::Ours if row.v6 => Make::OursProxied,
        RecordSource::C | RecordSource::Ours => Make::Ours,
    }
}

/// The format of a balancer's log that our programs are told of.
const fn mapping_format(make: Make) -> Option<&'static str> {
    match make {
        Make::Nginx => Some(NGINX_FORMAT),
        Make::NginxStream => Some("nginx-stream"),
        Make::Kernel => Some("conntrack"),
        _ => None,
    }
}

/// The name by which a shipped log of the balancer is known.
const BALANCER_NAME: &str = "balancer";

/// Where lines of a file go.
fn output(path: PathBuf, file: LogFile) -> Output {
    match file.host {
        Some(host) => Output::OfHost(path, file.spelling, host),
        None => Output::At(path, file.spelling),
    }
}

/// The site of a row, whose servers' logs go these ways, too.
fn site(
    make: Make,
    row: &Row,
    folder: &TempFolder,
    addrs: &[Option<SocketAddr>],
    roads: Vec<Vec<Output>>,
    mappings: &Mappings,
) -> Result<Site, ActionError> {
    let mut plans = plans(row, roads);
    plans.iter_mut().zip(addrs).for_each(|(plan, &addr)| plan.addr = addr);
    let mut site = Site::start_behind(make, folder, &plans, mappings)?;
    site.sending = row.sending;
    Ok(site)
}

/// Our pen, collectors of ours that hear its records alike, one for each spelling, and as many of our
/// shippers a server.
///
/// # Errors
/// When a program is missing or fails.
pub fn live(row: &Row, requests: usize, seed: u64) -> Result<Scores, ActionError> {
    live_behind(make(RecordSource::Ours, row), row, requests, seed)
}

/// The same behind another balancer.
///
/// # Errors
/// When a program is missing or fails.
pub fn live_behind(
    make: Make,
    row: &Row,
    requests: usize,
    seed: u64,
) -> Result<Scores, ActionError> {
    let folder = TempFolder::new();
    let (penlogd, penlog) = (sibling("penlogd")?, sibling("penlog")?);
    let ships = matches!(make, Make::NginxStream | Make::Kernel);
    // Where records may be late by half a second, lines wait for them.
    let wait: &[&str] = if row.faults.is_some() || ships { &["--wait", "1s"] } else { &[] };
    let names = NAMES.map(|name| ["--server", name]).concat();
    let told = mapping_format(make).map(|format| {
        let name = if ships { BALANCER_NAME } else { "127.0.0.1" };
        ["--mapping-format".to_owned(), format!("{name}={format}")]
    });
    let told: Vec<String> = told.into_iter().flatten().collect();
    let told: Vec<&str> = told.iter().map(String::as_str).collect();
    let more = [wait, &names, &told].concat();
    let mut ears = Vec::new();
    for it in row.wordings {
        let args = [it.args, &more].concat();
        ears.push(Ear::start(it.name, &penlogd, &folder, Share::Records, &args)?);
    }
    let heard = ears.iter().map(|ear| (ear.addr, Share::Records)).collect();
    let tee = Tee::start_with(heard, row.faults.unwrap_or_default())?;
    let addrs = addresses(row);
    let balancer_log = folder.join("balancer.log");
    let mut followers = Vec::new();
    let mappings = if ships {
        for ear in &ears {
            followers.push(Follower::start(&penlog, BALANCER_NAME, &balancer_log, ear.addr)?);
        }
        Mappings::File(balancer_log)
    } else {
        Mappings::Collector(tee.addr())
    };
    let (mut shippers, mut roads) = (Vec::new(), Vec::new());
    for (number, addr) in (1..=3).zip(&addrs) {
        let who = match addr {
            Some(addr) => ["--server".to_owned(), addr.to_string()].to_vec(),
            None => vec![Ipv4Addr::new(127, 0, 1, number).to_string()],
        };
        let who: Vec<&str> = who.iter().map(String::as_str).collect();
        let mut outputs = Vec::new();
        for (it, ear) in row.wordings.iter().zip(&ears) {
            for (nth, &file) in it.files.iter().enumerate() {
                let fifo = folder.join(format!("{}{number}-{nth}.fifo", it.name));
                shippers.push(Shipper::start_with(&penlog, it.name, &fifo, ear.addr, &who)?);
                outputs.push(output(fifo, file));
            }
        }
        roads.push(outputs);
    }
    let mut site = site(make, row, &folder, &addrs, roads, &mappings)?;
    let tally = site.send(&visits(row, requests, seed))?;
    let truth = site.stop()?;
    for shipper in shippers {
        shipper.finish()?;
    }
    for follower in followers {
        follower.finish()?;
    }
    let _passed = tee.finish();
    let mut each = Vec::new();
    for (it, ear) in row.wordings.iter().zip(ears) {
        let Merged { log, marks } = ear.read(truth.lines())?;
        each.push(WordingScore::of(it, &truth, &log, marks.as_deref()));
    }
    Ok(Scores { each, tally })
}

/// Our pen's own file, and the logs in each spelling as the servers wrote them.
///
/// # Errors
/// When a program is missing or fails.
pub fn offline(row: &Row, requests: usize, seed: u64) -> Result<Scores, ActionError> {
    offline_behind(make(RecordSource::Ours, row), row, requests, seed)
}

/// The same behind another balancer.
///
/// # Errors
/// When a program is missing or fails.
pub fn offline_behind(
    make: Make,
    row: &Row,
    requests: usize,
    seed: u64,
) -> Result<Scores, ActionError> {
    let folder = TempFolder::new();
    let balancer_log = folder.join("pen.log");
    let path =
        |name: &str, number: usize, nth: usize| folder.join(format!("{name}{number}-{nth}.log"));
    let roads = (0..3).map(|number| {
        let files = row.wordings.iter().flat_map(|it| {
            it.files.iter().enumerate().map(move |(nth, &file)| (it.name, nth, file))
        });
        files.map(|(name, nth, file)| output(path(name, number, nth), file)).collect()
    });
    let mappings = Mappings::File(balancer_log.clone());
    let mut site = site(make, row, &folder, &addresses(row), roads.collect(), &mappings)?;
    let tally = site.send(&visits(row, requests, seed))?;
    site.end()?;
    for (number, seconds) in row.clocks.into_iter().enumerate().filter(|&(_, clock)| clock != 0) {
        for it in row.wordings {
            (0..it.files.len()).try_for_each(|nth| shift(&path(it.name, number, nth), seconds))?;
        }
        shift(&site.webs[number].truth_log(), seconds)?;
    }
    let truth = site.truth()?;
    let mut each = Vec::new();
    for it in row.wordings {
        let explain = folder.join(format!("{}.explain", it.name));
        let mut command = Command::new(sibling("mergelogs")?);
        command.arg("-p").arg(&balancer_log).arg("--explain").arg(&explain).args(it.args);
        command.args(NAMES.map(|name| ["--server", name]).concat());
        command.args(["--report", "json"]);
        if let Some(format) = mapping_format(make) {
            command.args(["--mapping-format", format]);
        }
        for (number, web) in site.webs.iter().enumerate() {
            let addr = web.addr();
            let server = if row.v6 { addr.to_string() } else { addr.ip().to_string() };
            for nth in 0..it.files.len() {
                command.arg(format!("{server}:{}", path(it.name, number, nth).display()));
            }
        }
        let (log, said) = run_with_messages(&mut command)?;
        let score = WordingScore::of(it, &truth, &log, Some(&marks(&explain)?));
        each.push(WordingScore { clocks: clocks_in(&said)?, ..score });
    }
    Ok(Scores { each, tally })
}

/// The servers' clocks that a report names.
fn clocks_in(report: &str) -> Result<Vec<f64>, ActionError> {
    let after = report.split("\"clock_ahead_seconds\":").skip(1);
    let number = |text: &str| text.split([',', '}']).next()?.parse().ok();
    let clocks: Option<Vec<f64>> = after.map(number).collect();
    clocks.ok_or_else(|| ActionError::new(format!("a report names no clocks: {report}")))
}
