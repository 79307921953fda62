//! A scene of numbered lines: where they come from, and what happens to them.

use std::time::Duration;

use nix::sys::signal::Signal;
use pen_testing::random::SeededRandom;

use super::stage::Stage;
use super::{Finding, Isolation, isolated};
use crate::ActionError;
use crate::stage::{Faults, TempFolder};

/// Where the shipper reads lines from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LineInput {
    Pipe,
    /// A pipe that outlives the shipper, which keeps its lines in a spool.
    Spool,
    File,
    /// A file that is renamed, and made anew, every 200 ms.
    Renamed,
    /// A file that is removed, and made anew, every 2 s.
    Removed,
    /// A file that is copied and truncated every 2 s, as by `copytruncate`.
    Copied,
}

impl LineInput {
    pub(crate) const fn is_file(self) -> bool {
        !matches!(self, Self::Pipe | Self::Spool)
    }
}

/// A program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Target {
    Collector,
    Shipper,
    /// In scenes with clients.
    Balancer,
}

/// A disk that runs full.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FullDisk {
    Log,
    Journal,
}

/// What happens to the followed file while the shipper is down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FileChange {
    /// A new file has the inode of the old one, all of which had arrived.
    InodeReused,
    /// It is renamed and packed.
    Packed,
    /// It comes back with another device number, as after a restart of the machine.
    DeviceChanged,
}

/// A disturbance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    Nothing,
    /// A program ends by a signal and is started again.
    End(Target, Signal),
    /// The collector is stopped by SIGSTOP for a while.
    Stopped,
    /// The merged log is renamed, and HUP sent to the collector.
    LogRotated,
    /// All packets to and from the collector are dropped.
    CutOff,
    /// No block is left; a signal ends the collector meanwhile, and it is started again.
    DiskFull(FullDisk, Option<Signal>),
    /// The shipper is killed, and its file changed.
    Changed(FileChange),
}

/// Traffic without a disturbance: between the two times.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Calm(pub(crate) [Duration; 2]);

impl Calm {
    pub(crate) const fn of(time: Duration) -> Self {
        Self([time; 2])
    }

    /// Returns the longest time.
    pub(crate) fn most(self) -> Duration {
        self.0[1]
    }

    pub(crate) fn draw(self, random: &mut SeededRandom) -> Duration {
        let [least, most] = self.0;
        least + (most - least).mul_f64(random.unit())
    }
}

/// Between two disturbances.
const BRIEF: Calm = Calm([Duration::from_millis(200), Duration::from_millis(1_200)]);

/// What happens, how often, for how long, and how long nothing happens between.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Disturbance {
    pub(crate) action: Action,
    pub(crate) times: u32,
    pub(crate) away: Calm,
    pub(crate) calm: Calm,
    /// It begins before the shipper starts.
    pub(crate) is_first: bool,
}

impl Disturbance {
    /// So many times, back after up to 2 s.
    pub(crate) const fn up_to_2_s(action: Action, times: u32) -> Self {
        let away = Calm([Duration::ZERO, Duration::from_secs(2)]);
        Self { action, times, away, calm: BRIEF, is_first: false }
    }

    /// So many times, back at once.
    pub(crate) const fn at_once(action: Action, times: u32) -> Self {
        Self { away: Calm([Duration::ZERO; 2]), ..Self::up_to_2_s(action, times) }
    }

    /// Once, for so long.
    pub(crate) const fn once(action: Action, away: Duration) -> Self {
        Self { away: Calm::of(away), ..Self::up_to_2_s(action, 1) }
    }

    /// Nothing but traffic.
    pub(crate) const fn none() -> Self {
        Self::at_once(Action::Nothing, 1)
    }
}

#[derive(Clone, Debug)]
pub(crate) struct Scene {
    pub(crate) input: LineInput,
    /// Lines a second.
    pub(crate) rate: u32,
    pub(crate) disturbance: Disturbance,
    /// Whether the collector has a journal.
    pub(crate) has_journal: bool,
    /// What the network between the programs does.
    pub(crate) faults: Option<Faults>,
    /// Further arguments of the shipper.
    pub(crate) shipper_args: &'static [&'static str],
}

impl Scene {
    pub(crate) const fn new(input: LineInput, rate: u32, disturbance: Disturbance) -> Self {
        let (has_journal, faults, shipper_args): (_, _, &[&str]) = (true, None, &[]);
        Self { input, rate, disturbance, has_journal, faults, shipper_args }
    }

    /// Plays the scene, and counts what came of the lines.
    pub(crate) fn play(
        &self,
        folder: &TempFolder,
        random: &mut SeededRandom,
    ) -> Result<Finding, ActionError> {
        let isolation = match self.disturbance.action {
            Action::CutOff => Isolation::Network,
            Action::DiskFull(..) | Action::Changed(FileChange::DeviceChanged) => Isolation::Mounts,
            _ => return self.play_here(folder, random),
        };
        isolated(isolation, || self.play_here(folder, random))
    }

    fn play_here(
        &self,
        folder: &TempFolder,
        random: &mut SeededRandom,
    ) -> Result<Finding, ActionError> {
        let Disturbance { times, away, calm, is_first, .. } = self.disturbance;
        let mut stage = Stage::new(folder, self)?;
        if is_first {
            // The shipper has just started and has heard nothing.
            stage.come_back(away.draw(random))?;
        }
        stage.go_on(calm.draw(random));
        for _ in u32::from(is_first)..times {
            stage.disturb(self.disturbance.action, away.draw(random))?;
            stage.go_on(calm.draw(random));
        }
        stage.end()
    }
}
