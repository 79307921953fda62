//! HUP: the files are read again, from a thread of its own, since names are looked up on the way and TERM
//! must not wait for that.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use pen_daemon::notify::Notify;
use tracing::{error, info};

use super::RunPlan;
use crate::operate::control::Operator;

/// Reads the files again when it is told to, once at a time.
#[derive(Clone)]
pub(super) struct Reloader(Arc<ReloadState>);

struct ReloadState {
    plan: RunPlan,
    operator: Arc<Operator>,
    notify: Notify,
    /// Somebody asked, and nobody has begun.
    wanted: AtomicBool,
    /// A thread is at it.
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

    /// Begins to, or sees to it that it is done again when it is done.
    pub(super) fn reload(&self) {
        let shared = &self.0;
        shared.notify.reloading();
        shared.wanted.store(true, Ordering::SeqCst);
        if shared.busy.swap(true, Ordering::SeqCst) {
            return;
        }
        let mine = Arc::clone(shared);
        let thread = thread::Builder::new().name("reload".into()).spawn(move || mine.work());
        if let Err(error) = thread {
            error!("cannot start a thread to read the configuration again: {error}");
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
            // One that came between those two has seen us at work.
            if !self.wanted.load(Ordering::SeqCst) || self.busy.swap(true, Ordering::SeqCst) {
                return;
            }
        }
    }

    /// What is wrong in the files leaves everything as it is.
    fn reload(&self) {
        // Without a file there is nothing new to learn, and what penctl changed stays.
        if self.plan.args.file.is_none() {
            return;
        }
        let new = match self.plan.again() {
            Ok(new) => new,
            Err(error) => {
                error.lines().iter().for_each(|line| error!("{line}"));
                error!("the configuration stays as it is");
                return;
            }
        };
        match self.operator.reload(new) {
            Ok(diff) => diff.to_string().lines().for_each(|line| info!("{line}")),
            Err(error) => error!("{error}; the configuration stays as it is"),
        }
    }
}
