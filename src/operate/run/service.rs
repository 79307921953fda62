//! The running balancer: handles signals until the end, then drains connections.

use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use pen_daemon::signals::{Event, Signals};
use penlogd::embedded::RunningCollector;
use tracing::{error, info};

use super::reloader::Reloader;
use crate::data::balancer::Balancer;
use crate::operate::control::Operator;

/// How often the threads are checked.
const THREAD_CHECK_INTERVAL: Duration = Duration::from_millis(500);
/// How often a draining balancer is checked for open connections.
const DRAIN_CHECK_INTERVAL: Duration = Duration::from_millis(20);

/// Why the service ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum StopReason {
    /// A signal, or the command `exit`.
    Requested,
    /// A thread has panicked. The service manager restarts pen; going on with half of the workers would be worse.
    ThreadPanicked,
}

impl StopReason {
    /// Returns the exit status of the process.
    pub(super) fn exit_code(self) -> ExitCode {
        match self {
            Self::Requested => ExitCode::SUCCESS,
            Self::ThreadPanicked => ExitCode::FAILURE,
        }
    }
}

/// Everything that a signal acts on.
pub(super) struct Service<'a> {
    pub(super) reloader: Reloader,
    pub(super) balancer: &'a Balancer,
    pub(super) operator: &'a Operator,
    /// The embedded collector, if the configuration has one.
    pub(super) collector: Option<&'a RunningCollector>,
}

impl Service<'_> {
    /// Handles signals until one of them, or a panicked thread, ends the service.
    pub(super) async fn handle_signals(&self, signals: &mut Signals) -> StopReason {
        loop {
            let event = tokio::select! {
                event = signals.next() => event,
                () = tokio::time::sleep(THREAD_CHECK_INTERVAL) => {
                    if self.balancer.has_dead_thread() {
                        error!("a thread has panicked: stopping");
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

    /// Stops accepting, and waits until open connections have ended: at most for the drain timeout after a
    /// request to stop, not at all after a panic. A second signal to stop ends the waiting.
    pub(super) async fn stop(&self, reason: StopReason, signals: &mut Signals) {
        match reason {
            StopReason::Requested => self.drain(signals).await,
            StopReason::ThreadPanicked => self.balancer.stop(Duration::ZERO),
        }
    }

    async fn drain(&self, signals: &mut Signals) {
        let balancer = self.balancer;
        let timeout = self.operator.config().settings.timeouts.drain;
        let connections = balancer.shared().open();
        if connections > 0 {
            let seconds = timeout.as_secs_f32();
            info!(connections, seconds, "stopping; open connections may go on for this time");
        }
        balancer.stop(timeout);
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

    /// Reopens log files and reads certificates again.
    fn reopen(&self) {
        self.balancer.reopen();
        self.balancer.shared().keeper().reload();
        self.forward_to_collector(Event::Reopen);
    }

    /// Writes the status page and logs the counters.
    fn report(&self) {
        if let Err(error) = self.operator.write_page() {
            error!(%error, "status page not written");
        }
        log_counters(self.balancer);
        self.forward_to_collector(Event::Report);
    }

    fn forward_to_collector(&self, event: Event) {
        if let Some(collector) = self.collector {
            collector.tell(event);
        }
    }
}

fn log_counters(balancer: &Balancer) {
    let shared = balancer.shared();
    if let Some(drops @ 1..) = shared.kernel_drops() {
        info!(drops, "datagrams dropped by the kernel because a receive buffer was full");
    }
    let counters = &shared.counters;
    let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    info!(
        open = shared.open(),
        accepted = shared.total(),
        unserved = load(&counters.refused),
        denied = load(&counters.denied),
        resets = load(&counters.resets),
        timeouts = load(&counters.timeouts),
        no_proxy_header = load(&counters.bad_headers),
        failed_connects = load(&counters.failed_attempts),
        accept_failures = load(&counters.accept_failures),
        http_refused = load(&counters.http_refused),
        not_http = load(&counters.not_http),
        "connections"
    );
}
