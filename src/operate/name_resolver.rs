//! The thread that looks up the names of servers again. It may wait for a name server; nothing waits for the thread.

use std::collections::BTreeSet;
use std::io;
use std::net::{IpAddr, ToSocketAddrs as _};
use std::sync::{Arc, Weak};
use std::thread;
use std::time::Instant;

use tracing::{info, warn};

use crate::data::names::{ResolvedNames, names};
use crate::operate::control::{ConfigChanges, Operator};

/// Returns the addresses of a name.
pub type Lookup = Box<dyn FnMut(&str) -> io::Result<Vec<IpAddr>> + Send>;

/// Looks up a name by the system's resolver.
///
/// # Errors
/// The name has no address, or no name server replies.
pub fn system_lookup(name: &str) -> io::Result<Vec<IpAddr>> {
    Ok((name, 0).to_socket_addrs()?.map(|addr| addr.ip()).collect())
}

/// Starts the thread, which ends some time after the operator is dropped.
///
/// # Errors
/// The thread cannot be started.
pub fn start(operator: &Arc<Operator>, lookup: Lookup) -> io::Result<()> {
    let resolver = NameResolver {
        changes: operator.changes(),
        operator: Arc::downgrade(operator),
        lookup,
        known: BTreeSet::new(),
        last_lookup: None,
        failing: BTreeSet::new(),
    };
    thread::Builder::new().name("names".into()).spawn(move || resolver.run()).map(drop)
}

struct NameResolver {
    operator: Weak<Operator>,
    changes: Arc<ConfigChanges>,
    lookup: Lookup,
    /// The names of the last lookup.
    known: BTreeSet<String>,
    /// The time of the last lookup; `None` before the first.
    last_lookup: Option<Instant>,
    /// Names that the last lookup failed for.
    failing: BTreeSet<String>,
}

impl NameResolver {
    fn run(mut self) {
        loop {
            let seen = self.changes.count();
            let Some(operator) = self.operator.upgrade() else { return };
            let next = self.resolve_if_due(&operator);
            drop(operator);
            self.changes.wait(seen, next);
        }
    }

    /// Looks the names up if the interval has passed or the names have changed. Returns the time of the next lookup;
    /// `None` if there are no names or lookups are switched off.
    fn resolve_if_due(&mut self, operator: &Operator) -> Option<Instant> {
        let settings = operator.config().settings;
        let names = names(&settings);
        let interval = settings.timeouts.resolve?;
        if names.is_empty() {
            self.known = names;
            return None;
        }
        let next = self.last_lookup.map(|last_lookup| last_lookup + interval);
        if let Some(next) = next.filter(|next| Instant::now() < *next && names == self.known) {
            return Some(next);
        }
        let answers = self.look_up(&names);
        match operator.update_addresses(&answers) {
            Ok(changes) => changes.iter().for_each(|change| info!("{change}")),
            Err(error) => warn!(error, "new addresses not applied: servers keep the old ones"),
        }
        self.known = names;
        self.last_lookup = Some(Instant::now());
        Some(Instant::now() + interval)
    }

    /// Looks the names up. Logs the first failure of a name, and the first success after failures.
    fn look_up(&mut self, names: &BTreeSet<String>) -> ResolvedNames {
        let mut answers = ResolvedNames::new();
        for name in names {
            match (self.lookup)(name) {
                Ok(ips) if !ips.is_empty() => {
                    if self.failing.remove(name) {
                        info!(name, "name lookup works again");
                    }
                    answers.insert(name.clone(), ips);
                }
                Ok(_) => self.report_failure(name, &"no address"),
                Err(error) => self.report_failure(name, &error),
            }
        }
        self.failing.retain(|name| names.contains(name));
        answers
    }

    fn report_failure(&mut self, name: &str, why: &dyn std::fmt::Display) {
        if self.failing.insert(name.to_owned()) {
            warn!(name, error = %why, "name lookup failed: servers keep their addresses");
        }
    }
}
