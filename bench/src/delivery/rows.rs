//! The table of tests.

use std::process::Command;
use std::time::Duration;

use nix::sys::signal::Signal;
use pen_testing::random::SeededRandom;

use super::apache::ApacheScene;
use super::herd::HerdScene;
use super::relp::RelpScene;
use super::scene::{Action, Calm, Disturbance, FileChange, FullDisk, LineInput, Scene, Target};
use super::visits::VisitScene;
use super::{DeliveryArgs, Finding};
use crate::stage::{Faults, TempFolder, run_to_end};
use crate::{ActionError, workspace};

/// A row of the table.
pub(super) struct DeliveryTest {
    pub(super) name: String,
    pub(super) play: Play,
}

/// What is played.
pub(super) enum Play {
    Lines(Scene),
    Visits(VisitScene),
    Apache(ApacheScene),
    Herd(HerdScene),
    Relp(RelpScene),
    PowerCuts(u32),
}

impl Play {
    pub(super) fn run(
        &self,
        folder: &TempFolder,
        random: &mut SeededRandom,
        baseline: &mut Option<f64>,
    ) -> Result<Finding, ActionError> {
        match self {
            Self::Lines(scene) => scene.play(folder, random),
            Self::Visits(scene) => scene.play(folder, random, baseline),
            Self::Apache(scene) => scene.play(folder, random),
            Self::Herd(scene) => scene.play(folder),
            Self::Relp(scene) => scene.play(folder, random),
            Self::PowerCuts(seeds) => power_cuts(*seeds),
        }
    }
}

/// The simulated power cuts are tests of the journal and of penlogd.
fn power_cuts(seeds: u32) -> Result<Finding, ActionError> {
    const TESTS: [&[&str]; 2] =
        [&["-p", "pen-journal", "--test", "power_cuts"], &["-p", "penlogd", "--lib", "journal"]];
    if seeds == 0 {
        let remark = "`--power-cuts 10000`, or `cargo test -p pen-journal --test power_cuts` and \
                      `PEN_SEEDS=10000 cargo test -p penlogd --lib journal`";
        return Ok(Finding { remark: Some(remark.to_owned()), ..Finding::default() });
    }
    for test in TESTS {
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let mut command = Command::new(cargo);
        command.arg("test").args(test).env("PEN_SEEDS", seeds.to_string());
        run_to_end(command.current_dir(workspace()))?;
    }
    let remark = format!("{seeds} seeds of each simulation: every confirmed line is there once");
    Ok(Finding { remark: Some(remark), ..Finding::default() })
}

/// Collects rows.
struct Rows<'a> {
    args: &'a DeliveryArgs,
    tests: Vec<DeliveryTest>,
}

impl Rows<'_> {
    fn add(&mut self, name: impl Into<String>, play: Play) {
        self.tests.push(DeliveryTest { name: name.into(), play });
    }

    fn scene(&self, input: LineInput, rate: u32, disturbance: Disturbance) -> Scene {
        let has_journal = !self.args.without_journal;
        Scene { has_journal, ..Scene::new(input, rate, disturbance) }
    }

    /// A row of numbered lines.
    fn lines(&mut self, name: &str, input: LineInput, rate: u32, disturbance: Disturbance) {
        let times = match disturbance.times {
            1 => String::new(),
            times => format!(", {times} times"),
        };
        let scene = self.scene(input, rate, disturbance);
        self.add(format!("{name}{times}, {rate}/s"), Play::Lines(scene));
    }

    /// A row with clients, with and without ports in the lines.
    fn visits(&mut self, name: &str, disturbance: Disturbance) {
        for has_ports in [true, false] {
            let ports = if has_ports { "with ports" } else { "without ports" };
            let (rate, has_journal) = (self.args.rate / 5, !self.args.without_journal);
            let scene = VisitScene { disturbance, rate, has_ports, has_journal };
            self.add(format!("{name}, clients, {ports}, {rate}/s"), Play::Visits(scene));
        }
    }
}

/// Clean restarts at each of these rates.
const RATES: [u32; 4] = [1, 20, 100, 1_000];

pub(super) fn tests(args: &DeliveryArgs) -> Vec<DeliveryTest> {
    let mut rows = Rows { args, tests: Vec::new() };
    restarts(&mut rows);
    kills(&mut rows);
    kills_with_clients(&mut rows);
    absences(&mut rows);
    networks(&mut rows);
    disks(&mut rows);
    rotations(&mut rows);
    others(&mut rows);
    rows.tests
}

const fn end(target: Target, signal: Signal) -> Action {
    Action::End(target, signal)
}

fn restarts(rows: &mut Rows<'_>) {
    let DeliveryArgs { kills, rate, .. } = *rows.args;
    let restart = end(Target::Collector, Signal::SIGTERM);
    for slow in RATES {
        let disturbance = Disturbance::at_once(restart, kills.div_ceil(4));
        rows.lines("penlogd restarted, pipe", LineInput::Pipe, slow, disturbance);
    }
    let disturbance = Disturbance::up_to_2_s(restart, kills);
    rows.lines("penlogd restarted, pipe", LineInput::Pipe, rate, disturbance);
    let disturbance = Disturbance::up_to_2_s(end(Target::Shipper, Signal::SIGTERM), kills);
    rows.lines("penlog restarted, file", LineInput::File, rate, disturbance);
    rows.lines("penlog restarted, pipe and spool", LineInput::Spool, rate, disturbance);
    let disturbance = Disturbance::at_once(Action::LogRotated, kills);
    rows.lines("merged log renamed and HUP, pipe", LineInput::Pipe, rate, disturbance);
}

fn kills(rows: &mut Rows<'_>) {
    let DeliveryArgs { kills, rate, without_journal, .. } = *rows.args;
    let killed = end(Target::Collector, Signal::SIGKILL);
    let (at_once, later) =
        (Disturbance::at_once(killed, kills), Disturbance::up_to_2_s(killed, kills));
    rows.lines("penlogd killed, pipe", LineInput::Pipe, rate, later);
    rows.lines("penlogd killed, back at once, pipe", LineInput::Pipe, rate, at_once);
    rows.lines("penlogd killed, back at once, pipe", LineInput::Pipe, 20, at_once);
    rows.lines("penlogd killed, file", LineInput::File, rate, later);
    let scene = rows.scene(LineInput::File, rate, later);
    let name = format!("penlogd killed, file by TCP, {kills} times, {rate}/s");
    rows.add(name, Play::Lines(Scene { shipper_args: &["--stream"], ..scene }));
    let later = Disturbance::up_to_2_s(end(Target::Shipper, Signal::SIGKILL), kills);
    rows.lines("penlog killed, file", LineInput::File, rate, later);
    rows.lines("penlog killed, file rotated every 0.2 s", LineInput::Renamed, rate, later);
    rows.lines("penlog killed, pipe and spool", LineInput::Spool, rate, later);
    let (rate, has_journal) = (rate * 2 / 5, !without_journal);
    let scene = ApacheScene { disturbance: later, rate, has_journal };
    let name = format!("penlog killed under Apache, spool, {kills} times, {rate}/s");
    rows.add(name, Play::Apache(scene));
}

fn kills_with_clients(rows: &mut Rows<'_>) {
    let DeliveryArgs { kills, away, .. } = *rows.args;
    let calm = Calm::of(Duration::from_secs(away));
    rows.visits("undisturbed", Disturbance { calm, ..Disturbance::none() });
    for (name, target) in
        [("penlogd", Target::Collector), ("penlog", Target::Shipper), ("pen", Target::Balancer)]
    {
        let disturbance = Disturbance::up_to_2_s(end(target, Signal::SIGKILL), kills);
        rows.visits(&format!("{name} killed, {kills} times"), disturbance);
    }
    let restart = end(Target::Balancer, Signal::SIGTERM);
    let disturbance = Disturbance::up_to_2_s(restart, kills);
    rows.visits(&format!("pen restarted, {kills} times"), disturbance);
}

fn absences(rows: &mut Rows<'_>) {
    let DeliveryArgs { rate, away: seconds, .. } = *rows.args;
    let away = Duration::from_secs(seconds);
    let gone = Disturbance::once(end(Target::Collector, Signal::SIGKILL), away);
    let name = format!("penlogd away for {seconds} s");
    rows.lines(&format!("{name}, pipe"), LineInput::Pipe, rate, gone);
    rows.lines(&format!("{name}, file"), LineInput::File, rate, gone);
    rows.visits(&name, gone);
    let cut_off = Disturbance::once(Action::CutOff, away);
    let name = format!("packets dropped for {seconds} s");
    for input in [LineInput::Pipe, LineInput::File] {
        let word = if input == LineInput::Pipe { "pipe" } else { "file" };
        rows.lines(&format!("{name}, {word}"), input, rate, cut_off);
        let first = Disturbance { is_first: true, ..cut_off };
        let name = format!("{name} from before the start, {word}");
        rows.lines(&name, input, rate, first);
    }
    rows.visits(&name, cut_off);
    let stopped = Disturbance::once(Action::Stopped, away);
    let name = format!("penlogd stopped for {seconds} s");
    rows.lines(&format!("{name}, pipe"), LineInput::Pipe, rate, stopped);
    rows.lines(&format!("{name}, file"), LineInput::File, rate, stopped);
    rows.visits(&name, stopped);
}

fn networks(rows: &mut Rows<'_>) {
    let calm = Calm::of(Duration::from_secs(10));
    for share in [1, 10] {
        for (word, input) in [("pipe", LineInput::Pipe), ("file", LineInput::File)] {
            let disturbance = Disturbance { calm, ..Disturbance::none() };
            let scene = Scene {
                faults: Some(Faults::in_hundred(share)),
                shipper_args: &["--datagram-size", "1400"],
                ..rows.scene(input, rows.args.rate, disturbance)
            };
            let rate = rows.args.rate;
            let name = format!("{share} % each lost, doubled and late, {word}, {rate}/s");
            rows.add(name, Play::Lines(scene));
        }
    }
}

fn disks(rows: &mut Rows<'_>) {
    let DeliveryArgs { rate, away: seconds, .. } = *rows.args;
    for (disk, word) in [(FullDisk::Log, "log"), (FullDisk::Journal, "journal")] {
        for (signal, ending) in [
            (None, ""),
            (Some(Signal::SIGKILL), ", killed in it"),
            (Some(Signal::SIGTERM), ", restarted in it"),
        ] {
            let action = Action::DiskFull(disk, signal);
            let disturbance = Disturbance::once(action, Duration::from_secs(seconds));
            let name = format!("disk of the {word} full for {seconds} s{ending}, file");
            rows.lines(&name, LineInput::File, rate, disturbance);
        }
    }
}

fn rotations(rows: &mut Rows<'_>) {
    let rate = rows.args.rate;
    let calm = Calm::of(Duration::from_secs(10));
    let calmly = Disturbance { calm, ..Disturbance::none() };
    rows.lines("file renamed every 0.2 s", LineInput::Renamed, rate, calmly);
    rows.lines("file removed and made anew every 2 s", LineInput::Removed, rate, calmly);
    rows.lines("copytruncate every 2 s", LineInput::Copied, rate, calmly);
    for (name, change) in [
        ("inode used again while penlog is down", FileChange::InodeReused),
        ("file packed while penlog is down", FileChange::Packed),
        ("device number changed while penlog is down", FileChange::DeviceChanged),
    ] {
        let mut disturbance = Disturbance::once(Action::Changed(change), Duration::from_secs(1));
        // A file of an overlay is mounted anew once: the number that was free is taken then.
        disturbance.times = if change == FileChange::DeviceChanged { 1 } else { 3 };
        rows.lines(name, LineInput::File, rate, disturbance);
    }
}

fn others(rows: &mut Rows<'_>) {
    let DeliveryArgs { kills, rate, backlog, power_cuts, .. } = *rows.args;
    let gone = Disturbance::once(end(Target::Collector, Signal::SIGKILL), Duration::from_secs(15));
    let scene = rows.scene(LineInput::Spool, rate, gone);
    let shipper_args = &["--spool-size", "2"];
    let name = format!("spool of 2 MiB full, penlogd away for 15 s, {rate}/s");
    rows.add(name, Play::Lines(Scene { shipper_args, ..scene }));
    let gone = Disturbance::once(end(Target::Collector, Signal::SIGKILL), Duration::from_secs(15));
    let scene = rows.scene(LineInput::Pipe, rate, gone);
    let name = format!("queue of 2 MiB full, penlogd away for 15 s, {rate}/s");
    rows.add(name, Play::Lines(Scene { shipper_args: &["--queue", "2"], ..scene }));
    let each = backlog * u64::from(rate) / SENDERS;
    let herd =
        HerdScene { senders: SENDERS, backlog: each, has_journal: !rows.args.without_journal };
    let name = format!("{SENDERS} senders with {backlog} s of {rate}/s in their files");
    rows.add(name, Play::Herd(herd));
    for (name, killed) in [("receiver", Target::Collector), ("sender", Target::Shipper)] {
        let disturbance = Disturbance::up_to_2_s(end(killed, Signal::SIGKILL), kills);
        let name = format!("rsyslog by RELP: {name} killed, {kills} times, {rate}/s");
        rows.add(name, Play::Relp(RelpScene { killed, disturbance, rate }));
    }
    rows.add("power cut, simulated", Play::PowerCuts(power_cuts));
}

/// Of the herd.
const SENDERS: u64 = 200;

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        delivery: DeliveryArgs,
    }

    #[test]
    fn each_row_has_a_name_of_its_own() {
        let mut names: Vec<_> =
            tests(&Cli::parse_from(["delivery"]).delivery).into_iter().map(|it| it.name).collect();
        let all = names.len();
        names.sort();
        names.dedup();
        assert_eq!(names.len(), all);
        assert!(names.iter().all(|name| !name.contains('|')), "a cell of a table");
    }
}
