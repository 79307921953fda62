//! Too many datagrams of a stranger.

use std::time::{Duration, Instant};

use super::AttackResult;
use super::forge::{LINE_MARK, shipments};
use super::site::{AttackSite, WEB, processor_time};
use crate::ActionError;
use crate::delivery::writer::pause;

/// How long a flood takes.
const TIME: Duration = Duration::from_secs(3);
/// Datagrams between two looks at the clock.
const BLOCK: u32 = 50;

/// Sends datagrams in turn at the rate of the site, and measures what each costs.
fn flood(site: &AttackSite<'_>, datagrams: &[Vec<u8>]) -> Result<AttackResult, ActionError> {
    let process = site.collector.id();
    let before = processor_time(process);
    pause(TIME);
    let calm = processor_time(process).saturating_sub(before);
    let socket = site.attacker()?;
    let (start, before) = (Instant::now(), processor_time(process));
    let mut all = datagrams.iter().cycle();
    let mut tried = 0_u32;
    while start.elapsed() < TIME {
        let due = start.elapsed().as_micros() * u128::from(site.flood) / 1_000_000;
        if u128::from(tried) > due {
            std::hint::spin_loop();
            continue;
        }
        for datagram in all.by_ref().take(BLOCK as usize) {
            // What the kernel refuses did not get in.
            let _sent = socket.send(datagram);
        }
        tried += BLOCK;
    }
    let seconds = start.elapsed().as_secs_f64();
    let busy = processor_time(process).saturating_sub(before).saturating_sub(calm);
    let rate = f64::from(tried) / seconds;
    let micros = busy.as_secs_f64() * 1e6 / f64::from(tried);
    let remark = format!("{rate:.0}/s, {micros:.2} us of processor time each");
    Ok(AttackResult { tried: tried.into(), mark: None, remark })
}

pub(super) fn records(site: &mut AttackSite<'_>) -> Result<AttackResult, ActionError> {
    let records: Vec<_> = (0..10_000)
        .map(|number| format!("+ 203.0.113.66 {WEB} GET /flood{number} HTTP/1.1\n").into_bytes())
        .collect();
    flood(site, &records)
}

pub(super) fn shipments_of_many(site: &mut AttackSite<'_>) -> Result<AttackResult, ActionError> {
    let all: Vec<_> = (0..10_000).flat_map(|id| shipments(1_000 + id, 1)).collect();
    let result = flood(site, &all)?;
    Ok(AttackResult { mark: Some(LINE_MARK), ..result })
}

pub(super) fn garbage(site: &mut AttackSite<'_>) -> Result<AttackResult, ActionError> {
    let all: Vec<_> =
        (0..=255_u8).map(|byte| [b"\xFEpn\x01".to_vec(), vec![byte; 60]].concat()).collect();
    flood(site, &all)
}
