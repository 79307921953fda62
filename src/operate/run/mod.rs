//! The process around the balancer, from the parsed arguments to the exit status.
//!
//! - `plan`: reads arguments and files, at the start and again at SIGHUP;
//! - this file: binds, drops rights, starts the parts in their order;
//! - `service`: handles signals until the end and drains;
//! - `reloader`: carries out SIGHUP.

mod plan;
mod reloader;
mod service;

use std::error::Error;
use std::io;
use std::process::ExitCode;
use std::sync::Arc;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use pen_daemon::diagnostics::{self, MessageTarget};
use pen_daemon::error::{ActionError, Doing as _};
use pen_daemon::process::{Detached, Settled, Stdout};
use pen_daemon::signals::Signals;
use penlogd::embedded::{BoundCollector, RunningCollector};
use tracing::{info, warn};

pub use self::plan::RunPlan;
use self::reloader::Reloader;
use self::service::Service;
use crate::command::apply::CommandAction;
use crate::config::{EmbeddedCollectorSettings, PenConfig, PoolServerId};
use crate::data::balancer::{Balancer, Bound};
use crate::data::relay::socket::{NEEDS_RIGHTS, may_be_transparent};
use crate::operate::control::port::{ControlPort, SocketFileGuard};
use crate::operate::control::{DataPlane as _, Operator};
use crate::operate::name_resolver;
use crate::operate::running::RunningBalancer;
use crate::operate::status::http::StatusPort;

/// Runs the balancer until it is stopped. Sockets are bound before the process changes its root and user,
/// log files are opened afterwards.
///
/// # Errors
/// The action that failed at the start; everything is undone then.
pub fn run(plan: &RunPlan) -> Result<ExitCode, Box<dyn Error>> {
    let process = &plan.config().process;
    if let Detached::Leave(code) = process.detach()? {
        return Ok(code);
    }
    start_diagnostics(plan);
    let ports = BoundPorts::bind(plan.config())?;
    let settled = process.settle()?;
    let result = serve(plan, ports, &settled);
    settled.leave();
    result
}

fn start_diagnostics(plan: &RunPlan) {
    let config = plan.config();
    let background = config.process.background;
    let target = if background { MessageTarget::Background } else { MessageTarget::Foreground };
    diagnostics::start("pen", target, config.debug);
    plan.loaded.warnings.iter().for_each(|text| warn!("{text}"));
}

/// All sockets of the process, bound while it still has the rights to do so.
struct BoundPorts {
    listeners: Bound,
    control: Option<ControlPort>,
    status: Option<StatusPort>,
    collector: Option<BoundCollector>,
}

impl BoundPorts {
    fn bind(config: &PenConfig) -> Result<Self, Box<dyn Error>> {
        let listeners = Bound::bind(config)?;
        let control = bind_control(config)?;
        let status = config.status.map(|addr| {
            StatusPort::bind(addr).doing(format_args!("open the status port at {addr}"))
        });
        let status = status.transpose()?;
        let collector = config.collect.as_ref().map(|collect| BoundCollector::bind(collect.addr));
        Ok(Self { listeners, control, status, collector: collector.transpose()? })
    }
}

fn bind_control(config: &PenConfig) -> Result<Option<ControlPort>, ActionError> {
    let Some(endpoint) = &config.control else { return Ok(None) };
    let port =
        ControlPort::bind(endpoint).doing(format_args!("open the control port at {endpoint}"))?;
    if let Some((user, group)) = config.process.ids()? {
        let addr = port.addr();
        port.give_to(user, group).doing(format_args!("give {addr} to the user"))?;
    }
    Ok(Some(port))
}

/// Starts every part in its order, handles signals until the end, and stops the parts again.
fn serve(plan: &RunPlan, ports: BoundPorts, settled: &Settled) -> Result<ExitCode, Box<dyn Error>> {
    let config = plan.config();
    check_rights(config)?;
    // Before the balancer: the collector must not miss the first record.
    let collector = start_collector(ports.collector, config)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut signals = Signals::new()?;
        let listen = ports.listeners.endpoints().map(ToString::to_string).collect();
        let balancer = ports.listeners.start(config)?;
        let operator = start_operator(plan, &balancer, listen)?;
        start_status(ports.status, &operator)?;
        let _socket_file = start_control(ports.control, &operator)?;
        settled.ready(Stdout::Close)?;
        let service = Service {
            reloader: Reloader::new(plan, &operator, settled.notify()),
            balancer: &balancer,
            operator: &operator,
            collector: collector.as_ref(),
        };
        let reason = service.handle_signals(&mut signals).await;
        settled.notify().stopping();
        service.stop(reason, &mut signals).await;
        balancer.join();
        // The workers have ended, so the collector has their last records.
        collector.map_or(Ok(()), RunningCollector::stop)?;
        Ok(reason.exit_code())
    })
}

/// Checks that the rights of the process, after most were dropped, suffice for the settings.
fn check_rights(config: &PenConfig) -> Result<(), ActionError> {
    if config.settings.tcp.transparent {
        may_be_transparent().doing(format_args!("be transparent: {NEEDS_RIGHTS}"))?;
    }
    Ok(())
}

fn start_collector(
    collector: Option<BoundCollector>,
    config: &PenConfig,
) -> Result<Option<RunningCollector>, ActionError> {
    let (Some(collector), Some(settings)) = (collector, &config.collect) else { return Ok(None) };
    let EmbeddedCollectorSettings { log, senders, journal, .. } = settings.clone();
    collector.start(log, senders, journal).map(Some)
}

/// Creates the operator, carries out the start-up commands, and starts the lookups of server names.
fn start_operator(
    plan: &RunPlan,
    balancer: &Balancer,
    listen: Vec<String>,
) -> io::Result<Arc<Operator>> {
    let shared = balancer.shared().clone();
    let running = RunningBalancer::new(shared, listen, balancer.logs(), Box::new(stop_process));
    for action in &plan.loaded.startup_actions {
        if let CommandAction::Blacklist(slot, time) = *action {
            let slot = u32::try_from(slot).unwrap_or(u32::MAX);
            running.blacklist(PoolServerId::Slot(slot), time);
        }
    }
    let env = Box::new(plan.running_env());
    let operator = Arc::new(Operator::new(plan.config().clone(), Box::new(running), env));
    name_resolver::start(&operator, Box::new(name_resolver::system_lookup))?;
    Ok(operator)
}

/// Sends SIGTERM to this process, so that the command `exit` stops it in the same way as the signal.
fn stop_process() {
    if let Err(error) = kill(Pid::this(), Signal::SIGTERM) {
        warn!(%error, "cannot send SIGTERM to this process");
    }
}

fn start_status(port: Option<StatusPort>, operator: &Arc<Operator>) -> io::Result<()> {
    let Some(port) = port else { return Ok(()) };
    let addr = port.addr()?;
    port.serve(Arc::clone(operator))?;
    info!(%addr, "status page ready");
    Ok(())
}

fn start_control(
    port: Option<ControlPort>,
    operator: &Arc<Operator>,
) -> io::Result<Option<SocketFileGuard>> {
    let Some(port) = port else { return Ok(None) };
    info!(addr = port.addr(), "control port ready");
    port.serve(Arc::clone(operator)).map(Some)
}
