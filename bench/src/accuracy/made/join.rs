//! A made site through our programs: its files through `mergelogs`, its datagrams through the collector.

use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use clap::Parser as _;
use pen_records::mapping::packet::write_packet;
use pen_records::shipment::{Push, SendStamp, SenderOrigin, ShipmentServer, ShipmentWriter};
use pen_records::time::Timestamp;
use pen_testing::TempFolder;
use pen_testing::program::sibling;
use pen_testing::site::demand::{BEGIN, micros};
use pen_testing::site::{
    BALANCER, Disturbance, MadeLine, MadeRecord, MadeScore, MadeSite, RecordFormat, SitePlan,
    TrueClient, balancer_address, score, server_address, write_files,
};
use penlogd::cli::{CollectorArgs, CollectorConfig};
use penlogd::collector::Collector;

use crate::{ActionError, Doing as _};

/// Joins a site's files.
///
/// # Errors
/// When `mergelogs` is missing or fails.
pub fn offline(site: &MadeSite, keep: Option<&Path>) -> Result<MadeScore, ActionError> {
    let own = TempFolder::new();
    let folder = keep.unwrap_or_else(|| own.path());
    fs::create_dir_all(folder).doing("make the folder of a site's logs")?;
    let arguments = write_files(site, folder).doing("write the logs of a site")?;
    let (merged, explained) = (folder.join("merged.log"), folder.join("explained"));
    let mut command = Command::new(sibling("mergelogs")?);
    command.arg("-q").arg("-o").arg(&merged).arg("--explain").arg(&explained).args(&arguments);
    if keep.is_some() {
        println!("{command:?}");
        fs::write(folder.join("truth"), truth(site)).doing("keep who asked")?;
    }
    // A run that warns that little was found ends with 3.
    let ended = command.output().doing("run mergelogs")?;
    if !matches!(ended.status.code(), Some(0 | 3)) {
        let said = String::from_utf8_lossy(&ended.stderr).into_owned();
        return Err(ActionError::new(format!("mergelogs failed: {said}")));
    }
    let read = |path: &Path| fs::read(path).doing(format_args!("read {}", path.display()));
    Ok(score(&site.truth, site.lines.len(), &read(&merged)?, &read(&explained)?))
}

/// Returns the client of each line by the number in its user field, `-` without a record.
fn truth(site: &MadeSite) -> String {
    let named = site.truth.iter().enumerate();
    let client = |truth: &TrueClient| truth.client.clone().filter(|_| truth.is_recorded);
    let line = |(number, truth)| {
        format!("{number:06} {}\n", client(truth).unwrap_or_else(|| "-".to_owned()))
    };
    named.map(line).collect()
}

/// Sends a site's datagrams to the core of the collector.
///
/// # Errors
/// When the collector refuses the options, or its log cannot be kept.
pub fn live(
    plan: &SitePlan,
    site: &MadeSite,
    keep: Option<&Path>,
) -> Result<MadeScore, ActionError> {
    let window = site.window.map(|seconds| vec!["--window".to_owned(), format!("{seconds}s")]);
    let arguments = ["penlogd", "-f", "--listen", "127.0.0.1:0"].map(str::to_owned);
    let format = site.mapping_format;
    let format =
        format.map(|text| vec!["--mapping-format".to_owned(), format!("{BALANCER}={text}")]);
    let options = window.into_iter().chain(format).flatten();
    let arguments = arguments.into_iter().chain(options);
    let args = CollectorArgs::try_parse_from(arguments.chain(site.options.iter().cloned()));
    let args = args.map_err(|error| ActionError::new(error.to_string()))?;
    let config = CollectorConfig::try_from(args).doing("set up a collector")?;
    let settings = config.settings;
    let mut restarts = plan.disturbances.contains(&Disturbance::CollectorRestart);
    let mut collector = Collector::new(settings.clone());
    let (mut out, mut explained) = (Vec::new(), Vec::new());
    let mut sent = packets(site);
    sent.extend(shipments(plan, site));
    sent.sort_by_key(|datagram| datagram.arrives);
    for SentDatagram { arrives, from, bytes } in sent {
        let now = Timestamp::from_micros(arrives);
        if restarts && arrives >= site.middle {
            restarts = false;
            collector.finish(now, &mut out, Some(&mut explained));
            collector = Collector::new(settings.clone());
        }
        while let Some(due) = collector.next_due().filter(|due| *due <= now) {
            collector.decide(due, &mut out, Some(&mut explained));
        }
        let _reply = collector.receive(from, &bytes, now.into());
    }
    collector.finish(Timestamp::MAX, &mut out, Some(&mut explained));
    if let Some(folder) = keep {
        for (name, text) in [("live.log", &out), ("live-explained", &explained)] {
            fs::write(folder.join(name), text).doing("keep what the collector wrote")?;
        }
    }
    Ok(score(&site.truth, site.lines.len(), &out, &explained))
}

/// A datagram on its way to the collector.
struct SentDatagram {
    arrives: i64,
    from: SocketAddr,
    bytes: Vec<u8>,
}

/// How long records and lines are gathered before they are sent, in microseconds.
const GATHER: i64 = 5_000;
/// How long a datagram takes, in microseconds.
const TRANSIT: i64 = 300;
/// The most bytes of a datagram.
const LIMIT: usize = 1_400;

/// What the balancers send.
fn packets(site: &MadeSite) -> Vec<SentDatagram> {
    let from = |record: &MadeRecord| SocketAddr::from((balancer_address(record.balancer), 4_000));
    if site.format != Some(RecordFormat::Extended) {
        let sent = |record: &MadeRecord| SentDatagram {
            arrives: record.at + TRANSIT,
            from: from(record),
            bytes: record.wire.clone(),
        };
        return site.records.iter().map(sent).collect();
    }
    let last = site.records.iter().map(|record| record.balancer).max().unwrap_or(0);
    (0..=last).flat_map(|balancer| packets_of(site, balancer)).collect()
}

/// What a balancer sends as packets.
fn packets_of(site: &MadeSite, balancer: u8) -> Vec<SentDatagram> {
    let records: Vec<_> = site.records.iter().filter(|it| it.balancer == balancer).collect();
    let from = SocketAddr::from((balancer_address(balancer), 4_000));
    let mut sent = Vec::new();
    let mut first = [0; 2];
    let of_slot = records.chunk_by(|a, b| a.at / GATHER == b.at / GATHER && a.run == b.run);
    // Of one slot no more than fits into a datagram.
    for records in of_slot.flat_map(|slot| slot.chunks(10)) {
        let (run, slot) = (records[0].run, records[0].at / GATHER);
        let at = (slot + 1) * GATHER;
        let origin = SenderOrigin {
            id: 7 + u64::from(run) + 2 * u64::from(balancer),
            start: Timestamp::from_micros(BEGIN - 1_000_000 + i64::from(run)),
        };
        let body: Vec<u8> = records.iter().flat_map(|record| record.wire.clone()).collect();
        let count = u32::try_from(records.len()).unwrap_or(0);
        let mut bytes = Vec::new();
        let number = &mut first[usize::from(run)];
        let time = Timestamp::from_micros(at);
        write_packet(origin, *number, time, 0, (count, &body), &mut bytes);
        *number += u64::from(count);
        sent.push(SentDatagram { arrives: at + TRANSIT, from, bytes });
    }
    sent
}

/// What the shippers send, one for each file.
fn shipments(plan: &SitePlan, site: &MadeSite) -> Vec<SentDatagram> {
    let files = site.lines.iter().map(|line| line.file).max().map_or(0, |last| last + 1);
    (0..files).flat_map(|file| shipments_of(plan, site, file)).collect()
}

fn shipments_of(plan: &SitePlan, site: &MadeSite, file: usize) -> Vec<SentDatagram> {
    let lines: Vec<&MadeLine> = site.lines.iter().filter(|line| line.file == file).collect();
    let Some(first) = lines.first() else { return Vec::new() };
    let address = server_address(first.server);
    let ahead = |at| plan.clock_ahead(first.server, at, site.middle);
    let shipper = Shipper { from: SocketAddr::from((address, 5_000)), ahead };
    let server = ShipmentServer { addr: Some(IpAddr::V4(address)), ..ShipmentServer::default() };
    let origin =
        SenderOrigin { id: 100 + file as u64, start: Timestamp::from_micros(BEGIN - 2_000_000) };
    let mut writer = ShipmentWriter::new(origin, server, LIMIT);
    let mut sent = Vec::new();
    let down = Downtime::of(plan, site);
    let mut restarts = down.restarts;
    for lines in lines.chunk_by(|a, b| a.written / GATHER == b.written / GATHER) {
        let at = down.over((lines[0].written / GATHER + 1) * GATHER);
        if restarts && at >= down.end {
            restarts = false;
            let id = origin.id + 1_000;
            let start = Timestamp::from_micros(down.end - 100_000);
            writer = ShipmentWriter::new(SenderOrigin { id, start }, server, LIMIT);
        }
        for line in lines {
            // What the old shipper read and did not send is read again.
            let read = if down.restarts && at == down.end { at } else { line.written };
            let read = Some(since_begin(read));
            if writer.push(&line.text, read) != Push::Taken {
                sent.extend(shipper.send(&mut writer, at));
                let _taken = writer.push(&line.text, read);
            }
        }
        sent.extend(shipper.send(&mut writer, at));
    }
    sent
}

/// When shippers send nothing.
struct Downtime {
    begin: i64,
    end: i64,
    /// Whether they read nothing either, and are others afterwards.
    restarts: bool,
}

impl Downtime {
    fn of(plan: &SitePlan, site: &MadeSite) -> Self {
        let found = plan.disturbances.iter().find_map(|disturbance| match *disturbance {
            Disturbance::LateLines(seconds) => Some((seconds, false)),
            Disturbance::ShipperRestart(seconds) => Some((seconds, true)),
            _ => None,
        });
        let (seconds, restarts) = found.unwrap_or_default();
        let begin = site.middle;
        Self { begin, end: begin + micros(seconds * 1e6), restarts }
    }

    /// Returns a time, or the end if the time is within.
    fn over(&self, at: i64) -> i64 {
        if (self.begin..self.end).contains(&at) { self.end } else { at }
    }
}

struct Shipper<F> {
    from: SocketAddr,
    /// How far its clock is ahead.
    ahead: F,
}

impl<F: Fn(i64) -> i64> Shipper<F> {
    fn send(&self, writer: &mut ShipmentWriter, at: i64) -> Option<SentDatagram> {
        let sent = Timestamp::from_micros(at + (self.ahead)(at));
        let stamp = SendStamp { sent, now: since_begin(at), ..SendStamp::default() };
        let bytes = writer.finish(stamp, <[u8]>::to_vec)?;
        Some(SentDatagram { arrives: at + TRANSIT, from: self.from, bytes })
    }
}

/// The time by a clock that began an hour before.
fn since_begin(at: i64) -> Duration {
    let since = at - BEGIN + 3_600_000_000;
    Duration::from_micros(u64::try_from(since).unwrap_or(0))
}
