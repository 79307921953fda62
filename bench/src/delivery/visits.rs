//! Scenes with clients: visitors, `pen`, nginx, a `penlog` that follows its log, and `penlogd`.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::process::{Command, Stdio};
use std::time::Duration;

use nix::sys::signal::Signal;
use pen_testing::random::SeededRandom;

use super::count::files;
use super::scene::{Action, Disturbance, Target};
use super::stage::{out, start_collector, told};
use super::writer::pause;
use super::{DeliveryCounts, Finding, Isolation, isolated as own};
use crate::stage::visitors::{self, Sending, TrafficKind};
use crate::stage::{
    AlikeLines, Balancer, LogSpelling, Make, Mappings, Output, Program, Score, TempFolder, Truth,
    TruthText, Web, WebPlan, WebServerKind, bytes_of, free_port, sibling, wait_while_growing,
};
use crate::{ActionError, Doing as _};

/// How long nothing comes when all has come that will: longer after a long outage, since lines wait for records.
const QUIET: Duration = Duration::from_secs(5);
const QUIET_LONG: Duration = Duration::from_secs(70);
/// Traffic before the first and after the last disturbance.
const EDGE: Duration = Duration::from_secs(3);

#[derive(Clone, Debug)]
pub(super) struct VisitScene {
    pub(super) disturbance: Disturbance,
    /// Requests a second.
    pub(super) rate: u32,
    /// Whether lines say the port of the connection.
    pub(super) has_ports: bool,
    pub(super) has_journal: bool,
}

/// The running programs.
struct VisitStage<'a> {
    folder: &'a TempFolder,
    scene: &'a VisitScene,
    /// Of the collector.
    addr: SocketAddr,
    /// Of the balancer.
    front: SocketAddr,
    web: Web,
    collector: Program,
    shipper: Program,
    balancer: Balancer,
    messages: String,
}

impl VisitScene {
    /// Plays the scene. `baseline` is the share of right clients of the undisturbed scene, which sets it.
    pub(super) fn play(
        &self,
        folder: &TempFolder,
        random: &mut SeededRandom,
        baseline: &mut Option<f64>,
    ) -> Result<Finding, ActionError> {
        if self.disturbance.action == Action::CutOff {
            return own(Isolation::Network, || self.play_here(folder, random, baseline));
        }
        self.play_here(folder, random, baseline)
    }

    fn play_here(
        &self,
        folder: &TempFolder,
        random: &mut SeededRandom,
        baseline: &mut Option<f64>,
    ) -> Result<Finding, ActionError> {
        let mut stage = VisitStage::new(folder, self)?;
        let Disturbance { times, away, calm, .. } = self.disturbance;
        let moments: Vec<_> = (0..times).map(|_| (calm.draw(random), away.draw(random))).collect();
        let time = 2 * EDGE + moments.iter().map(|(calm, away)| *calm + *away).sum::<Duration>();
        let requests = time.as_millis() * u128::from(self.rate) / 1_000;
        let requests = usize::try_from(requests).unwrap_or(usize::MAX);
        let visits = visitors::draw(TrafficKind::KeepAlive, requests, 1);
        let sending = Sending { per_second: Some(self.rate), ..Sending::default() };
        let front = stage.front;
        std::thread::scope(|scope| {
            let traffic =
                scope.spawn(move || visitors::send_whatever_fails(&visits, front, sending));
            pause(EDGE);
            for (calm, away) in moments {
                pause(calm);
                stage.disturb(self.disturbance.action, away)?;
            }
            traffic.join().map_err(|_panic| ActionError::new("the visitors panicked"))
        })?;
        stage.end(baseline)
    }
}

impl<'a> VisitStage<'a> {
    fn new(folder: &'a TempFolder, scene: &'a VisitScene) -> Result<Self, ActionError> {
        fs::create_dir_all(out(folder)).doing("make a folder")?;
        let addr = free_port(Ipv4Addr::LOCALHOST);
        let collector = start_collector(folder, addr, scene.has_journal)?;
        let log = folder.join("shop.log");
        let spelling = if scene.has_ports { LogSpelling::WithPort } else { LogSpelling::Combined };
        let plan = WebPlan {
            kind: WebServerKind::Nginx,
            number: 1,
            outputs: vec![Output::At(log, spelling)],
            tls: false,
            addr: None,
        };
        let web = Web::start(folder.path(), &plan)?;
        let front = free_port(Ipv4Addr::LOCALHOST);
        let balancer = start_balancer(folder, front, &web, addr)?;
        let shipper = start_shipper(folder, &web, addr)?;
        let messages = String::new();
        Ok(Self { folder, scene, addr, front, web, collector, shipper, balancer, messages })
    }

    fn disturb(&mut self, action: Action, away: Duration) -> Result<(), ActionError> {
        let Self { folder, scene, addr, .. } = *self;
        match action {
            Action::Nothing => pause(away),
            Action::End(Target::Collector, signal) => {
                self.collector.stop(signal)?;
                self.messages += &(self.collector.messages() + "\n");
                pause(away);
                self.collector = start_collector(folder, addr, scene.has_journal)?;
            }
            Action::End(Target::Shipper, signal) => {
                self.shipper.stop(signal)?;
                self.messages += &(self.shipper.messages() + "\n");
                pause(away);
                self.shipper = start_shipper(folder, &self.web, addr)?;
            }
            Action::End(Target::Balancer, signal) => {
                if signal == Signal::SIGKILL {
                    self.balancer.kill()
                } else {
                    self.balancer.stop()
                }?;
                self.messages += &(self.balancer.messages() + "\n");
                pause(away);
                self.balancer = start_balancer(folder, self.front, &self.web, addr)?;
            }
            Action::Stopped => {
                self.collector.signal(Signal::SIGSTOP)?;
                pause(away);
                self.collector.signal(Signal::SIGCONT)?;
            }
            Action::CutOff => {
                super::isolated::cut_off(addr.port())?;
                pause(away);
                super::isolated::reconnect()?;
            }
            other => return Err(ActionError::new(format!("no scene with clients has {other:?}"))),
        }
        Ok(())
    }

    fn end(mut self, baseline: &mut Option<f64>) -> Result<Finding, ActionError> {
        self.web.stop()?;
        let merged = out(self.folder).join("merged.log");
        let quiet = self.scene.disturbance.away.most().clamp(QUIET, QUIET_LONG);
        wait_while_growing(quiet, u64::MAX, || bytes_of(&merged));
        self.shipper.stop(Signal::SIGTERM)?;
        self.balancer.stop()?;
        self.collector.stop(Signal::SIGTERM)?;
        for said in [self.shipper.messages(), self.balancer.messages(), self.collector.messages()] {
            self.messages += &(said + "\n");
        }
        let score = self.score()?;
        let lost = score.lost() as u64;
        let counts = DeliveryCounts {
            sent: score.lines as u64,
            lost,
            doubled: score.doubled as u64,
            silent: lost.saturating_sub(told(&self.messages)),
        };
        let remark = (score.strange > 0).then(|| format!("{} torn lines", score.strange));
        let clients = Some(self.clients(&score, baseline));
        Ok(Finding { counts, clients, remark, messages: self.messages })
    }

    fn score(&self) -> Result<Score, ActionError> {
        let mut truth = Truth::default();
        truth.add(&self.web.truth_log())?;
        let mut text = Vec::new();
        for path in files(&out(self.folder), "merged.log")? {
            text.extend(fs::read(&path).doing(format_args!("read {}", path.display()))?);
        }
        let kind = if self.scene.has_ports { TruthText::WithPort } else { TruthText::Combined };
        Ok(truth.score_text((kind, AlikeLines::AsSet), &text, None))
    }

    fn clients(&self, score: &Score, baseline: &mut Option<f64>) -> String {
        let unnamed = score.unnamed;
        let wrong = score.written - score.right - unnamed;
        if self.scene.has_ports {
            return format!("{wrong} wrong, {unnamed} not named");
        }
        let right = score.right_share();
        if self.disturbance_is_none() {
            *baseline = Some(right);
            return format!("{right:.2} % right, {unnamed} not named");
        }
        let undisturbed =
            baseline.map_or(String::new(), |share| format!(" (undisturbed {share:.2})"));
        format!("{right:.2} % right{undisturbed}, {unnamed} not named")
    }

    fn disturbance_is_none(&self) -> bool {
        self.scene.disturbance.action == Action::Nothing
    }
}

fn start_balancer(
    folder: &TempFolder,
    front: SocketAddr,
    web: &Web,
    collector: SocketAddr,
) -> Result<Balancer, ActionError> {
    let mappings = Mappings::Collector(collector);
    Balancer::start(Make::OursSpooled, folder.path(), front, &[web.addr()], &mappings)
}

fn start_shipper(folder: &TempFolder, web: &Web, to: SocketAddr) -> Result<Program, ActionError> {
    let mut command = Command::new(sibling("penlog")?);
    command.args([to.ip().to_string(), to.port().to_string()]);
    command.args(["--server", &web.addr().to_string(), "--from-start", "--state"]);
    command.arg(folder.join("state")).arg("--follow").arg(folder.join("shop.log"));
    Program::start("penlog", command.stdin(Stdio::null()))
}
