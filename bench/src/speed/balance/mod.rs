//! The balancer beside others: Debian's pen, nginx's stream module and HAProxy, one at a time on the
//! first core, between real clients and a real web server on the second.
//!
//! The figure to trust is the processor time that the balancer itself takes for a request: how many a
//! second there are depends on who shares the machine.

mod contender;
mod idle;
mod latency;
mod origin;
mod records;
mod udp;
mod wrk;

use std::time::Duration;

use nix::sys::resource::{Resource, getrlimit, setrlimit};

use super::SpeedArgs;
use super::cost::middle;
use crate::stage::TempFolder;
use crate::{ActionError, Doing};
use contender::{BalancerContender, Transport, all};
use origin::Origin;
use udp::UdpEcho;
use wrk::{Traffic, Work};

/// Runs all of it and prints its tables.
pub(super) fn run(args: &SpeedArgs) -> Result<(), ActionError> {
    raise_descriptors()?;
    let folder = TempFolder::new();
    let origin = Origin::start(&folder)?;
    let contenders = all()?;
    work(args, &folder, &origin, &contenders)?;
    datagrams(args, &folder, &contenders)?;
    waiting(args, &folder, &origin, &contenders)?;
    resting(&folder, &origin, &contenders)
}

fn rounds(args: &SpeedArgs) -> usize {
    args.rounds.clamp(1, 9)
}

/// Processor time for a request.
fn work(
    args: &SpeedArgs,
    folder: &TempFolder,
    origin: &Origin,
    contenders: &[BalancerContender],
) -> Result<(), ActionError> {
    let all: Vec<_> = contenders.iter().collect();
    for traffic in Traffic::ALL {
        compare(args, &traffic.to_string(), &all, |contender| {
            Work::of(&contender.start(folder, origin.addr(), Transport::Tcp)?, traffic)
        })?;
    }
    Ok(())
}

/// Processor time for a datagram there and back.
fn datagrams(
    args: &SpeedArgs,
    folder: &TempFolder,
    contenders: &[BalancerContender],
) -> Result<(), ActionError> {
    let those: Vec<_> = contenders.iter().filter(|contender| contender.does_udp()).collect();
    let echo = UdpEcho::start()?;
    for size in udp::SIZES {
        let title = format!("UDP, {size} bytes there and back, 32 clients");
        compare(args, &title, &those, |contender| {
            udp::measure(&contender.start(folder, echo.addr(), Transport::Udp)?, size)
        })?;
    }
    Ok(())
}

/// The same work for each of them in turn, as often as was asked for.
fn compare(
    args: &SpeedArgs,
    title: &str,
    contenders: &[&BalancerContender],
    work: impl Fn(&BalancerContender) -> Result<Work, ActionError>,
) -> Result<(), ActionError> {
    let mut runs: Vec<Vec<Work>> = vec![Vec::new(); contenders.len()];
    for _ in 0..rounds(args) {
        for (contender, runs) in contenders.iter().zip(&mut runs) {
            runs.push(work(contender)?);
        }
    }
    println!("\n{title}; medians of {}", rounds(args));
    println!(
        "  {:<24} {:>12} {:>9} {:>9} {:>10} {:>9}",
        "", "us CPU each", "x C pen", "user %", "each/s", "failed"
    );
    let each = |runs: &[Work]| middle(runs.iter().map(Work::cpu_each));
    let c = contenders.iter().zip(&runs).find(|(contender, _)| contender.is_c_pen());
    let c = c.map(|(_, runs)| each(runs));
    for (contender, runs) in contenders.iter().zip(&runs) {
        let cpu = each(runs);
        let times = c.map_or(f64::NAN, |c| cpu.as_secs_f64() / c.as_secs_f64());
        println!(
            "  {:<24} {:>12.2} {:>9.2} {:>9.0} {:>10} {:>9}",
            contender.name,
            cpu.as_secs_f64() * 1e6,
            times,
            middle(runs.iter().map(Work::user_percent)),
            middle(runs.iter().map(Work::rate)),
            runs.iter().map(|run| run.failed).sum::<u64>(),
        );
    }
    Ok(())
}

/// How long a request takes through each, where there is time enough.
fn waiting(
    args: &SpeedArgs,
    folder: &TempFolder,
    origin: &Origin,
    contenders: &[BalancerContender],
) -> Result<(), ActionError> {
    let mut direct = Vec::new();
    let mut runs: Vec<Vec<Duration>> = vec![Vec::new(); contenders.len()];
    for _ in 0..rounds(args) {
        direct.extend(latency::measure(origin.addr())?);
        for (contender, times) in contenders.iter().zip(&mut runs) {
            let running = contender.start(folder, origin.addr(), Transport::Tcp)?;
            times.extend(latency::measure(running.addr)?);
        }
    }
    println!("\nlatency of a request at {} a second, in microseconds", latency::RATE);
    println!("  {:<24} {:>8} {:>8} {:>8}", "", "p50", "p99", "p99.9");
    let names = contenders.iter().map(|contender| contender.name);
    for (name, mut times) in
        std::iter::once("without a balancer").chain(names).zip(std::iter::once(direct).chain(runs))
    {
        times.sort_unstable();
        let at = |per_mille: usize| {
            let place = (times.len() * per_mille / 1_000).min(times.len().saturating_sub(1));
            times.get(place).map_or(0, Duration::as_micros)
        };
        println!("  {name:<24} {:>8} {:>8} {:>8}", at(500), at(990), at(999));
    }
    Ok(())
}

/// What a connection takes that says nothing.
fn resting(
    folder: &TempFolder,
    origin: &Origin,
    contenders: &[BalancerContender],
) -> Result<(), ActionError> {
    println!("\nresident memory of {} connections that say nothing", idle::CONNECTIONS);
    println!("  {:<24} {:>12} {:>14}", "", "KiB in all", "KiB for each");
    for contender in contenders {
        let running = contender.start(folder, origin.addr(), Transport::Tcp)?;
        let (before, after) = idle::measure(&running)?;
        let each = after.saturating_sub(before) as f64 / idle::CONNECTIONS as f64;
        println!("  {:<24} {after:>12} {each:>14.2}", contender.name);
    }
    Ok(())
}

/// Each idle connection takes two descriptors here.
fn raise_descriptors() -> Result<(), ActionError> {
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE).doing("read the limit of descriptors")?;
    setrlimit(Resource::RLIMIT_NOFILE, most, most).doing("raise the limit of descriptors")
}
