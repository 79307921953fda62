//! Being pen: the process around the balancer, from the first argument to the last signal.

mod reloader;

use std::error::Error;
use std::fmt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, getuid};
use pen_daemon::diagnostics::{self, MessageTarget};
use pen_daemon::process::{Detached, Settled, Stdout};
use pen_daemon::signals::{Event, Signals};
use penlogd::embedded::{BoundCollector, RunningCollector};
use tracing::{error, info, warn};

use self::reloader::Reloader;

use crate::command::apply::CommandAction;
use crate::command::cli::PenArgs;
use crate::command::env::CommandEnv as _;
use crate::command::setup::{InvokingUser, LoadedConfig, SetupError};
use crate::config::PoolServerId;
use crate::config::files;
use crate::config::{EmbeddedCollectorSettings, PenConfig};
use crate::data::balancer::{Balancer, Bound};
use crate::data::relay::socket::{NEEDS_RIGHTS, may_be_transparent};
use crate::data::tls::keeper::TlsKeeper;
use crate::operate::control::port::ControlPort;
use crate::operate::control::{DataPlane as _, Operator, SystemEnv};
use crate::operate::name_resolver;
use crate::operate::running::RunningBalancer;
use crate::operate::status::http::StatusPort;

/// How often it is looked whether all threads are well.
const THREAD_CHECK_INTERVAL: Duration = Duration::from_millis(500);
/// How often it is looked whether the last connection has ended.
const DRAIN_CHECK_INTERVAL: Duration = Duration::from_millis(20);

/// What was typed, and what that means now. HUP makes a new one.
#[derive(Clone, Debug)]
pub struct RunPlan {
    args: PenArgs,
    here: SystemEnv,
    starter: InvokingUser,
    setup: LoadedConfig,
}

impl RunPlan {
    /// Finds out what was meant.
    ///
    /// # Errors
    /// Each mistake in a line of its own.
    pub fn new(args: &PenArgs) -> Result<Self, SetupError> {
        let folder = std::env::current_dir().unwrap_or_else(|_| "/".into());
        let jail = args.jail.as_ref().map(|jail| folder.join(jail));
        let here = SystemEnv { folder, jail };
        let starter = if getuid().is_root() { InvokingUser::Root } else { InvokingUser::Other };
        let setup = Self::setup(args, starter, &here)?;
        Ok(Self { args: args.clone(), here, starter, setup })
    }

    fn setup(
        args: &PenArgs,
        starter: InvokingUser,
        here: &SystemEnv,
    ) -> Result<LoadedConfig, SetupError> {
        // Files that others include begin where pen was started, too.
        let open = |path: &Path| files::read_short(&here.absolute(path));
        let setup = LoadedConfig::new(args, starter, here, &open)?;
        Ok(setup)
    }

    /// What is wrong with the files that the configuration names.
    ///
    /// # Errors
    /// Each of them in a line of its own.
    pub fn check(&self) -> Result<(), SetupError> {
        let keeper = TlsKeeper::new(&self.setup.config.settings.tls);
        let wrong = match keeper {
            Ok(keeper) => keeper.warnings().iter().map(ToString::to_string).collect::<Vec<_>>(),
            Err(error) => vec![error.to_string()],
        };
        if wrong.is_empty() { Ok(()) } else { Err(SetupError::from_lines(wrong)) }
    }

    /// Each setting that is in force, and where it came from.
    #[must_use]
    pub fn explain(&self) -> String {
        self.setup.explain()
    }

    /// The same arguments, and the files as they are by now.
    fn again(&self) -> Result<PenConfig, SetupError> {
        let here = self.here.settled();
        let inside = |file: &PathBuf| here.inside(&self.here.absolute(file));
        let args = PenArgs { file: self.args.file.as_ref().map(inside), ..self.args.clone() };
        Ok(Self::setup(&args, self.starter, &here)?.config)
    }
}

/// Does all that the program does.
///
/// # Errors
/// Says what could not be done; nothing was left behind then.
pub fn run(plan: &RunPlan) -> Result<ExitCode, Box<dyn Error>> {
    let config = plan.setup.config.clone();
    if let Detached::Leave(code) = config.process.detach()? {
        return Ok(code);
    }
    let place = if config.process.background {
        MessageTarget::Background
    } else {
        MessageTarget::Foreground
    };
    diagnostics::start("pen", place, config.debug);
    plan.setup.warnings.iter().for_each(|text| warn!("{text}"));
    let bound = Bound::bind(&config)?;
    let control = config.control.as_ref().map(|endpoint| {
        ControlPort::bind(endpoint)
            .map_err(|source| Failed::new(format!("open the control port at {endpoint}"), source))
    });
    let control = control.transpose()?;
    if let (Some(control), Some((user, group))) = (&control, config.process.ids()?) {
        let error = |source| Failed::new(format!("give {} to the user", control.addr()), source);
        control.give_to(user, group).map_err(error)?;
    }
    let status = config.status.map(|addr| {
        StatusPort::bind(addr)
            .map_err(|source| Failed::new(format!("show the status at {addr}"), source))
    });
    let status = status.transpose()?;
    let collector = config.collect.as_ref().map(|collect| BoundCollector::bind(collect.addr));
    let collector = collector.transpose()?;
    let settled = config.process.settle()?;
    let result =
        serve(plan, &config, bound, ManagementPorts { control, status, collector }, &settled);
    settled.leave();
    result
}

/// What is bound beside the listeners.
struct ManagementPorts {
    control: Option<ControlPort>,
    status: Option<StatusPort>,
    collector: Option<BoundCollector>,
}

fn serve(
    plan: &RunPlan,
    config: &PenConfig,
    bound: Bound,
    beside: ManagementPorts,
    settled: &Settled,
) -> Result<ExitCode, Box<dyn Error>> {
    let ManagementPorts { control, status, collector } = beside;
    if config.settings.tcp.transparent {
        // By now rights are dropped.
        may_be_transparent()
            .map_err(|error| Failed::new(format!("be transparent: {NEEDS_RIGHTS}"), error))?;
    }
    // It is there before the first record.
    let collecting = match (collector, &config.collect) {
        (Some(collector), Some(EmbeddedCollectorSettings { log, .. })) => {
            Some(collector.start(log.clone())?)
        }
        _ => None,
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut signals = Signals::new()?;
        let listen = bound.endpoints().map(ToString::to_string).collect();
        let balancer = bound.start(config)?;
        let stop = || {
            // The same way as for everybody else.
            if let Err(error) = kill(Pid::this(), Signal::SIGTERM) {
                warn!("cannot tell myself to stop: {error}");
            }
        };
        let handle = RunningBalancer::new(
            balancer.shared().clone(),
            listen,
            balancer.logs(),
            Box::new(stop),
        );
        for action in &plan.setup.startup_actions {
            if let CommandAction::Blacklist(slot, time) = *action {
                let slot = u32::try_from(slot).unwrap_or(u32::MAX);
                handle.blacklist(PoolServerId::Slot(slot), time);
            }
        }
        let here = Box::new(plan.here.settled());
        let operator = Arc::new(Operator::new(config.clone(), Box::new(handle), here));
        name_resolver::start(&operator, Box::new(name_resolver::system_lookup))?;
        if let Some(status) = status {
            let addr = status.addr()?;
            status.serve(operator.clone())?;
            info!("the status is at http://{addr}/");
        }
        let _socket = match control {
            Some(control) => {
                info!("the control port is {}", control.addr());
                Some(control.serve(operator.clone())?)
            }
            None => None,
        };
        settled.ready(Stdout::Close)?;
        let reloader = Reloader::new(plan, &operator, settled.notify());
        let all =
            Service { reloader, balancer: &balancer, operator: &operator, collecting: &collecting };
        let end = all.handle_signals(&mut signals).await;
        settled.notify().stopping();
        match end {
            StopReason::Requested => all.drain(&mut signals).await,
            StopReason::ThreadPanicked => balancer.stop(Duration::ZERO),
        }
        balancer.join();
        // It has the last records by now.
        collecting.map_or(Ok(()), RunningCollector::stop)?;
        Ok(match end {
            StopReason::Requested => ExitCode::SUCCESS,
            StopReason::ThreadPanicked => ExitCode::FAILURE,
        })
    })
}

/// Why it is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum StopReason {
    /// A signal, or `exit`.
    Requested,
    /// A thread has ended by a fault of this program. Whoever looks after us starts us anew; to go on with
    /// half of the workers would be worse.
    ThreadPanicked,
}

/// All that signals are about.
struct Service<'a> {
    reloader: Reloader,
    balancer: &'a Balancer,
    operator: &'a Operator,
    collecting: &'a Option<RunningCollector>,
}

impl Service<'_> {
    /// Does what signals ask for, until one asks for the end.
    async fn handle_signals(&self, signals: &mut Signals) -> StopReason {
        loop {
            let event = tokio::select! {
                event = signals.next() => event,
                () = tokio::time::sleep(THREAD_CHECK_INTERVAL) => {
                    if self.balancer.has_dead_thread() {
                        error!("a thread has ended before its time: stopping");
                        return StopReason::ThreadPanicked;
                    }
                    continue;
                }
            };
            match event {
                Event::Stop => return StopReason::Requested,
                Event::Report => self.report(),
                Event::Reopen => {
                    self.reopen();
                    self.reloader.reload();
                }
            }
        }
    }

    fn reopen(&self) {
        self.balancer.reopen();
        self.balancer.shared().keeper().reload();
        self.forward_to_collector(Event::Reopen);
    }

    fn report(&self) {
        report(self.balancer, self.operator);
        self.forward_to_collector(Event::Report);
    }

    fn forward_to_collector(&self, order: Event) {
        if let Some(collecting) = self.collecting {
            collecting.tell(order);
        }
    }

    /// Accepts nobody any more and waits for those who are there; a second signal ends them.
    async fn drain(&self, signals: &mut Signals) {
        let balancer = self.balancer;
        let time = self.operator.config().settings.timeouts.drain;
        let open = balancer.shared().open();
        if open > 0 {
            info!("stopping; {open} connections may go on for {} s", time.as_secs_f32());
        }
        balancer.stop(time);
        while !balancer.is_done() {
            tokio::select! {
                event = signals.next() => match event {
                    Event::Stop => balancer.stop(Duration::ZERO),
                    Event::Report => self.report(),
                    Event::Reopen => self.reopen(),
                },
                () = tokio::time::sleep(DRAIN_CHECK_INTERVAL) => {}
            }
        }
    }
}

fn report(balancer: &Balancer, operator: &Operator) {
    if let Err(error) = operator.write_page() {
        error!("{error}");
    }
    if let Some(drops @ 1..) = balancer.shared().kernel_drops() {
        info!("the kernel has dropped {drops} datagrams for want of room in its buffers");
    }
    let shared = balancer.shared();
    let counters = &shared.counters;
    let load =
        |count: &std::sync::atomic::AtomicU64| count.load(std::sync::atomic::Ordering::Relaxed);
    info!(
        "{} connections of {} so far; {} found no server, {} were denied, {} reset, {} timed out, {} without a PROXY header; \
         {} attempts to connect failed, {} times nobody could be accepted; {} had a request that \
         was refused, {} were not HTTP",
        shared.open(),
        shared.total(),
        load(&counters.refused),
        load(&counters.denied),
        load(&counters.resets),
        load(&counters.timeouts),
        load(&counters.bad_headers),
        load(&counters.failed_attempts),
        load(&counters.accept_failures),
        load(&counters.http_refused),
        load(&counters.not_http),
    );
}

/// An action that failed.
#[derive(Debug)]
struct Failed {
    action: String,
    source: std::io::Error,
}

impl Failed {
    fn new(action: String, source: std::io::Error) -> Self {
        Self { action, source }
    }
}

impl fmt::Display for Failed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot {}", self.action)
    }
}

impl Error for Failed {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&self.source)
    }
}
