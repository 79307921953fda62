//! SIGHUP: reads the configuration file again, in a thread of its own: the file's names are looked up, and SIGTERM must
//! not wait for a name server.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use pen_daemon::notify::Notify;
use tracing::{error, info};

use super::RunPlan;
use crate::operate::control::Operator;

/// Reads the configuration again on request, one run at a time.
#[derive(Clone)]
pub(super) struct Reloader(Arc<ReloadState>);

struct ReloadState {
    plan: RunPlan,
    operator: Arc<Operator>,
    notify: Notify,
    /// A reload was requested and has not begun.
    wanted: AtomicBool,
    /// A thread is reloading.
    busy: AtomicBool,
}

impl Reloader {
    pub(super) fn new(plan: &RunPlan, operator: &Arc<Operator>, notify: &Notify) -> Self {
        Self(Arc::new(ReloadState {
            plan: plan.clone(),
            operator: Arc::clone(operator),
            notify: notify.clone(),
            wanted: AtomicBool::new(false),
            busy: AtomicBool::new(false),
        }))
    }

    /// Starts a reload; if one is under way, another follows it.
    pub(super) fn reload(&self) {
        let shared = &self.0;
        shared.notify.reloading();
        shared.wanted.store(true, Ordering::SeqCst);
        if shared.busy.swap(true, Ordering::SeqCst) {
            return;
        }
        let state = Arc::clone(shared);
        let thread = thread::Builder::new().name("reload".into()).spawn(move || state.work());
        if let Err(error) = thread {
            error!(%error, "cannot start a thread to read the configuration again");
            shared.busy.store(false, Ordering::SeqCst);
        }
    }
}

impl ReloadState {
    fn work(&self) {
        loop {
            while self.wanted.swap(false, Ordering::SeqCst) {
                self.reload();
                self.notify.ready();
            }
            self.busy.store(false, Ordering::SeqCst);
            // A request between these two steps has seen `busy` and started no thread.
            if !self.wanted.load(Ordering::SeqCst) || self.busy.swap(true, Ordering::SeqCst) {
                return;
            }
        }
    }

    /// Applies the new configuration; a mistake in it leaves the old one in force.
    fn reload(&self) {
        // Without a file, the settings changed by penctl stay in force.
        if !self.plan.has_file() {
            return;
        }
        let new = match self.plan.read_again() {
            Ok(new) => new,
            Err(error) => {
                error.lines().iter().for_each(|line| error!("{line}"));
                error!("reload failed: the old configuration stays in force");
                return;
            }
        };
        match self.operator.reload(new) {
            Ok(diff) => diff.to_string().lines().for_each(|line| info!("{line}")),
            Err(error) => error!(error, "reload failed: the old configuration stays in force"),
        }
    }
}
