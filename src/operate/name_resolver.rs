//! The thread that looks names up: it may wait for a name server, and nobody waits for it.

use std::collections::BTreeSet;
use std::io;
use std::net::{IpAddr, ToSocketAddrs as _};
use std::sync::{Arc, Weak};
use std::thread;
use std::time::Instant;

use tracing::{info, warn};

use crate::data::names::{ResolvedNames, names};
use crate::operate::control::{ConfigChanges, Operator};

/// Finds the addresses of a name.
pub type Lookup = Box<dyn FnMut(&str) -> io::Result<Vec<IpAddr>> + Send>;

/// As the system does it.
///
/// # Errors
/// There are none, or nobody who knows.
pub fn system_lookup(name: &str) -> io::Result<Vec<IpAddr>> {
    Ok((name, 0).to_socket_addrs()?.map(|addr| addr.ip()).collect())
}

/// Starts the thread. It ends some time after the operator is gone.
///
/// # Errors
/// There is no thread to be had.
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
    /// The names that were looked up the last time, and when that was.
    known: BTreeSet<String>,
    last_lookup: Option<Instant>,
    /// Those that could not be looked up then.
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

    /// Looks names up if it is time, and says when it is time again.
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
            Err(error) => warn!("servers stay where they are: {error}"),
        }
        self.known = names;
        self.last_lookup = Some(Instant::now());
        Some(Instant::now() + interval)
    }

    /// Says once of each name that it can't be looked up, and once that it can again.
    fn look_up(&mut self, names: &BTreeSet<String>) -> ResolvedNames {
        let mut answers = ResolvedNames::new();
        for name in names {
            match (self.lookup)(name) {
                Ok(ips) if !ips.is_empty() => {
                    if self.failing.remove(name) {
                        info!("{name} can be looked up again");
                    }
                    answers.insert(name.clone(), ips);
                }
                Ok(_) => self.report_failure(name, &"it has no address"),
                Err(error) => self.report_failure(name, &error),
            }
        }
        self.failing.retain(|name| names.contains(name));
        answers
    }

    fn report_failure(&mut self, name: &str, why: &dyn std::fmt::Display) {
        if self.failing.insert(name.to_owned()) {
            warn!("cannot look up {name}: {why}; its servers stay where they are");
        }
    }
}
