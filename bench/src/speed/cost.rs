//! What a program costs: time, processor and memory.

use std::ffi::OsString;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::resource::{UsageWho, getrusage};
use pen_testing::program::is_complete;

use super::this_program;
use crate::{ActionError, Doing};

/// What one run took.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Cost {
    pub(super) wall: Duration,
    /// User and system time together.
    pub(super) cpu: Duration,
    /// The most memory that was resident, in KiB.
    pub(super) memory: u64,
}

impl Cost {
    /// Runs a program to its end, output discarded.
    ///
    /// Another instance of this program starts it and reads what the kernel says of its children:
    /// peak memory is known only for all children together, and a process begins with the peak of
    /// the one that started it.
    pub(super) fn of(command: &[OsString]) -> Result<Self, ActionError> {
        let name = command.first().cloned().unwrap_or_default();
        let name = name.display();
        let output = Command::new(this_program()?)
            .args(["speed", "measured", "--"])
            .args(command)
            .stdin(Stdio::null())
            .stderr(Stdio::inherit())
            .output()
            .doing(format_args!("run {name}"))?;
        let text = String::from_utf8_lossy(&output.stdout);
        let numbers: Vec<u64> = text.split_whitespace().filter_map(|n| n.parse().ok()).collect();
        match numbers[..] {
            [wall, cpu, memory] if output.status.success() => Ok(Self {
                wall: Duration::from_micros(wall),
                cpu: Duration::from_micros(cpu),
                memory,
            }),
            _ => Err(ActionError::new(format!("{name} failed"))),
        }
    }

    /// Of each figure on its own the one in the middle.
    pub(super) fn median(costs: &[Self]) -> Self {
        Self {
            wall: middle(costs.iter().map(|cost| cost.wall)),
            cpu: middle(costs.iter().map(|cost| cost.cpu)),
            memory: middle(costs.iter().map(|cost| cost.memory)),
        }
    }
}

pub(super) fn middle<T: Ord + Copy + Default>(values: impl Iterator<Item = T>) -> T {
    let mut sorted: Vec<T> = values.collect();
    sorted.sort_unstable();
    sorted.get(sorted.len() / 2).copied().unwrap_or_default()
}

/// The other side of [`Cost::of`]: runs the program and prints microseconds, microseconds and KiB.
pub(super) fn measured(command: &[OsString]) -> Result<(), ActionError> {
    let Some((program, arguments)) = command.split_first() else {
        return Err(ActionError::new("there is no command to measure"));
    };
    let begin = Instant::now();
    let name = Path::new(program).display();
    let mut command = Command::new(program);
    let output = command
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .output()
        .doing(format_args!("run {name}"))?;
    let wall = begin.elapsed();
    if !is_complete(&command, output.status) {
        let said = String::from_utf8_lossy(&output.stderr);
        return Err(ActionError::new(format!("{name} ended with {}: {said}", output.status)));
    }
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN).doing("read what a program used")?;
    println!("{} {} {}", wall.as_micros(), children_cpu()?.as_micros(), usage.max_rss());
    Ok(())
}

/// The processor time of all children that have ended.
pub(super) fn children_cpu() -> Result<Duration, ActionError> {
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN).doing("read what a program used")?;
    let micros = |time: nix::sys::time::TimeVal| {
        let seconds = u64::try_from(time.tv_sec()).unwrap_or(0);
        let micros = u64::try_from(time.tv_usec()).unwrap_or(0);
        Duration::from_micros(seconds * 1_000_000 + micros)
    };
    Ok(micros(usage.user_time()) + micros(usage.system_time()))
}
