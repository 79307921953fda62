//! Traffic by wrk, and what a balancer spends on it.

use std::fmt;
use std::process::Command;
use std::time::{Duration, Instant};

use super::contender::{Cpu, Running};
use super::origin::{CORE, LARGE, SMALL};
use crate::ActionError;
use crate::stage::run_to_end;

/// How long each run lasts.
const SECONDS: u32 = 3;

/// What clients do.
#[derive(Clone, Copy, Debug)]
pub(super) enum Traffic {
    KeepAlive,
    Connections,
    Large,
}

impl Traffic {
    pub(super) const ALL: [Self; 3] = [Self::KeepAlive, Self::Connections, Self::Large];
}

impl fmt::Display for Traffic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::KeepAlive => "keep-alive, 1 KiB, 32 connections",
            Self::Connections => "a connection a request, 1 KiB, 32 at a time",
            Self::Large => "keep-alive, 1 MiB, 8 connections",
        })
    }
}

/// What one run came to.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Work {
    requests: u64,
    pub(super) failed: u64,
    time: Duration,
    cpu: Cpu,
}

impl Work {
    pub(super) fn of(running: &Running, traffic: Traffic) -> Result<Self, ActionError> {
        let (page, connections) = match traffic {
            Traffic::KeepAlive | Traffic::Connections => (SMALL, "32"),
            Traffic::Large => (LARGE, "8"),
        };
        let mut command = Command::new("taskset");
        command
            .args(["-c", CORE, "wrk", "-t1", "-c", connections, "-d"])
            .arg(format!("{SECONDS}s"));
        if matches!(traffic, Traffic::Connections) {
            command.args(["-H", "Connection: close"]);
        }
        command.arg(format!("http://{}{page}", running.addr));
        let (before, begin) = (running.cpu()?, Instant::now());
        let text = run_to_end(&mut command)?;
        let (time, after) = (begin.elapsed(), running.cpu()?);
        let text = String::from_utf8_lossy(&text);
        let requests = text.lines().find_map(|line| {
            let (number, _) = line.trim().split_once(" requests in ")?;
            number.parse().ok()
        });
        let requests =
            requests.ok_or_else(|| ActionError::new(format!("wrk said something else: {text}")))?;
        Self::new(requests, failures(&text), time, (before, after))
    }

    /// From what was counted, and the balancer's processor time before and after.
    pub(super) fn new(
        requests: u64,
        failed: u64,
        time: Duration,
        (before, after): (Cpu, Cpu),
    ) -> Result<Self, ActionError> {
        if requests == 0 {
            return Err(ActionError::new("nothing came back through the balancer"));
        }
        let cpu = Cpu { user: after.user - before.user, system: after.system - before.system };
        Ok(Self { requests, failed, time, cpu })
    }

    /// Processor time of the balancer for each request.
    pub(super) fn cpu_each(&self) -> Duration {
        (self.cpu.user + self.cpu.system) / u32::try_from(self.requests.max(1)).unwrap_or(u32::MAX)
    }

    pub(super) fn user_percent(&self) -> u64 {
        let all = (self.cpu.user + self.cpu.system).as_millis().max(1);
        u64::try_from(self.cpu.user.as_millis() * 100 / all).unwrap_or(0)
    }

    pub(super) fn rate(&self) -> u64 {
        let millis = u64::try_from(self.time.as_millis()).unwrap_or(u64::MAX);
        self.requests * 1_000 / millis.max(1)
    }
}

/// `Socket errors: connect 0, read 3, write 0, timeout 0` and `Non-2xx or 3xx responses: 3`, where
/// there are any.
fn failures(text: &str) -> u64 {
    let lines = text.lines().map(str::trim);
    let told = lines.filter(|l| l.starts_with("Socket errors") || l.starts_with("Non-2xx"));
    let words = told.flat_map(|line| line.split([' ', ',']));
    words.filter_map(|word| word.parse::<u64>().ok()).sum()
}
