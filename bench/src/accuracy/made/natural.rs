//! Natural logs as traffic: each line's client sends its request again, through a balancer to three servers.

use std::fs::File;
use std::io::{BufRead as _, BufReader, Read};
use std::net::IpAddr;
use std::path::Path;

use pen_records::access::{AccessLine, LoggedRequest, Parser, Spec};
use pen_testing::site::demand::BEGIN;
use pen_testing::site::{
    Demand, Disturbance, LineFormat, RecordFormat, ServerChoice, ServiceModel, SitePlan,
};

use super::MadeRow;
use crate::{ActionError, Doing as _};

/// Reads what the clients of a log asked for; lines that could not stand unchanged in another log are left out.
///
/// # Errors
/// When the file cannot be read, or no line of it is of use.
pub(super) fn demands(path: &Path, most: usize) -> Result<Vec<Demand>, ActionError> {
    let reading = || format!("read {}", path.display());
    let file = File::open(path).doing(format_args!("{}", reading()))?;
    let is_packed = path.extension().is_some_and(|ending| ending == "gz");
    let reader: Box<dyn Read> =
        if is_packed { Box::new(flate2::read::MultiGzDecoder::new(file)) } else { Box::new(file) };
    let mut parser = Parser::new(&Spec::auto());
    let mut demands = Vec::new();
    for line in BufReader::new(reader).split(b'\n') {
        let line = line.doing(format_args!("{}", reading()))?;
        let read = parser.parse(&line).ok();
        demands.extend(read.and_then(|read| demand(&line, &read)));
        if demands.len() == most {
            break;
        }
    }
    if demands.is_empty() {
        return Err(ActionError::new(format!(
            "{} has no line with client, time and request that is of use",
            path.display()
        )));
    }
    demands.sort_by_key(|demand| demand.at);
    spread(&mut demands);
    Ok(demands)
}

/// A line as a request to come.
fn demand(line: &[u8], read: &AccessLine) -> Option<Demand> {
    let LoggedRequest::Line(request) = read.request else { return None };
    let client: IpAddr = std::str::from_utf8(read.client.of(line)).ok()?.parse().ok()?;
    let header = |span: Option<pen_records::access::LineSpan>| {
        let text = span.map_or(&b"-"[..], |span| span.of(line));
        (text != b"-").then(|| text.to_vec())
    };
    let demand = Demand {
        at: read.time?.0.as_micros(),
        client: client.to_canonical().to_string(),
        agent: header(read.user_agent),
        referer: header(read.referer),
        host: b"www.example".to_vec(),
        request: request.of(line).to_vec(),
        status: read.status?,
        bytes: read.bytes.unwrap_or(0),
        early: false,
    };
    let texts = [Some(&demand.request), demand.agent.as_ref(), demand.referer.as_ref()];
    let is_plain = |text: &Vec<u8>| {
        !text.is_empty() && text.iter().all(|&byte| matches!(byte, b' '..=b'~') && byte != b'\\')
    };
    let all_plain = texts.into_iter().flatten().all(is_plain);
    all_plain.then_some(demand)
}

/// Moves the first line to the beginning of made sites, and those of one second apart.
fn spread(demands: &mut [Demand]) {
    let shift = BEGIN - demands.first().map_or(0, |first| first.at);
    for second in demands.chunk_by_mut(|a, b| a.at == b.at) {
        let step = 1_000_000 / i64::try_from(second.len() + 1).unwrap_or(1_000_000);
        for (demand, nth) in second.iter_mut().zip(0..) {
            demand.at += shift + nth * step;
        }
    }
}

/// The sites that are made of a log.
#[expect(clippy::cast_precision_loss, reason = "some years")]
pub(super) fn rows(path: &Path, demands: &[Demand]) -> Vec<MadeRow> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let span =
        demands.last().map_or(0, |last| last.at) - demands.first().map_or(0, |first| first.at);
    // A clock that is off by more than a few minutes in the end is noticed.
    let ppm = (300.0e12 / (span as f64).max(1.0)).min(100.0);
    let plain = SitePlan {
        choice: ServerChoice::ByClient,
        per_connection: 10,
        service: ServiceModel::Apart(50.0, 1.0),
        ..SitePlan::default()
    };
    let port = SitePlan { format: LineFormat::Port, ..plain.clone() };
    let mut rows = Vec::new();
    let mut add = |what: &str, aim: f64, plan: &SitePlan| {
        rows.push(MadeRow { name: format!("{name}{what}"), aim, plan: plan.clone() });
    };
    add(", port", 100.0, &port);
    let slow = port.with(Disturbance::ClockDrift(-ppm));
    add(&format!(", port, drift -{ppm:.0} ppm"), 99.9, &slow);
    for (records, what) in
        [(RecordFormat::Extended, ""), (RecordFormat::Classic, ", classic records")]
    {
        let plain = SitePlan { records, ..plain.clone() };
        let common = SitePlan { format: LineFormat::Common, ..plain.clone() };
        let in_turn = SitePlan { choice: ServerChoice::Random, ..plain.clone() };
        add(what, 99.9, &plain);
        add(&format!(", common{what}"), 99.5, &common);
        add(&format!(", any server{what}"), 99.9, &in_turn);
        for (disturbance, of) in [
            (Disturbance::LostRecords(0.01), "1 % of records lost".to_owned()),
            (Disturbance::ClockStep(-3_600.0), "clock set back by an hour".to_owned()),
            (Disturbance::ClockStep(20.0), "clock set by 20 s".to_owned()),
            (Disturbance::ClockDrift(ppm), format!("drift {ppm:.0} ppm")),
            (Disturbance::ClockDrift(-ppm), format!("drift -{ppm:.0} ppm")),
            (Disturbance::Gap(60.0), "60 s of lines lost".to_owned()),
        ] {
            add(&format!(", {of}{what}"), 99.0, &plain.clone().with(disturbance));
        }
    }
    rows
}
