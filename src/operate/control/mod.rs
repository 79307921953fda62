//! Control commands: one line in, one reply out. [`Operator`] holds the configuration in force and is the only part
//! that changes it: for the control port ([`port`]), for SIGHUP and for name lookups.
//!
//! A command changes a copy of the configuration. Only a valid copy replaces the configuration, as a whole. Forwarding
//! continues meanwhile: a slow name lookup or file delays commands only.

mod answer;
pub mod port;

use std::collections::BTreeSet;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::command::apply::{ApplyPhase, CommandAction, CommandOutcome};
use crate::command::control_command::{ControlCommand, ShowQuery, StatusFormat};
use crate::command::env::CommandEnv;
use crate::command::reload::{ConfigDiff, reload};
use crate::command::script::{self, ScriptError};
use crate::command::setup::{check, is_same};
use crate::config::PoolServerId;
use crate::config::countries::CountryDatabase;
use crate::config::file_io;
use crate::config::{Endpoint, PenConfig, RuntimeSettings, ServerOrigin, ServerSettings};
use crate::data::names::{self, ResolvedNames};
use crate::data::snapshot::{ConnectionFilter, Snapshot, SnapshotDetail};
use crate::operate::status;

/// What the operator needs from the data plane. No method may wait for traffic.
pub trait DataPlane: Send + Sync {
    /// Returns the current state.
    fn snapshot(&self, detail: SnapshotDetail) -> Snapshot;

    /// Applies new settings.
    ///
    /// # Errors
    /// The setting that cannot be applied; the old settings stay in force then.
    fn change(&self, settings: &RuntimeSettings) -> Result<(), String>;

    /// Blacklists a server for this time; zero makes the server available at once.
    fn blacklist(&self, server: PoolServerId, time: Duration);

    /// Closes the remaining connections of a server after this time.
    fn end_connections_of(&self, server: PoolServerId, time: Duration);

    /// Closes a connection. Returns whether a connection of this number exists.
    fn close(&self, number: u64) -> bool;

    /// Sets the level of log messages.
    fn set_debug(&self, level: u8);

    /// Stops the process, as SIGTERM does.
    fn stop(&self);
}

/// A reply to a command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ControlReply {
    /// Whether the command was carried out.
    pub kind: ControlReplyKind,
    /// The text without a line end; empty if there is nothing to say.
    pub text: String,
}

/// How a command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ControlReplyKind {
    /// The command was carried out.
    Done,
    /// The command has no effect.
    Warning,
    /// The command was not carried out.
    Error,
}

impl ControlReply {
    fn done(text: impl Into<String>) -> Self {
        Self { kind: ControlReplyKind::Done, text: text.into() }
    }

    fn error(error: impl fmt::Display) -> Self {
        Self { kind: ControlReplyKind::Error, text: error.to_string() }
    }
}

impl fmt::Display for ControlReply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self.kind {
            ControlReplyKind::Done if self.text.is_empty() => return Ok(()),
            ControlReplyKind::Done => "",
            ControlReplyKind::Warning => "warning: ",
            ControlReplyKind::Error => "error: ",
        };
        let end = if self.text.ends_with('\n') { "" } else { "\n" };
        write!(f, "{kind}{}{end}", self.text)
    }
}

/// Carries out commands and holds the configuration in force.
pub struct Operator {
    config: Mutex<PenConfig>,
    data_plane: Box<dyn DataPlane>,
    env: Box<dyn CommandEnv + Send + Sync>,
    changes: Arc<ConfigChanges>,
}

impl fmt::Debug for Operator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Operator").field("config", &self.config).finish_non_exhaustive()
    }
}

impl Operator {
    /// Returns an operator of a balancer that runs with `config`.
    #[must_use]
    pub fn new(
        config: PenConfig,
        data_plane: Box<dyn DataPlane>,
        env: Box<dyn CommandEnv + Send + Sync>,
    ) -> Self {
        Self { config: Mutex::new(config), data_plane, env, changes: Arc::default() }
    }

    /// Returns the configuration in force.
    #[must_use]
    pub fn config(&self) -> PenConfig {
        self.lock().clone()
    }

    /// Returns the current state.
    #[must_use]
    pub fn snapshot(&self, detail: SnapshotDetail) -> Snapshot {
        self.data_plane.snapshot(detail)
    }

    fn lock(&self) -> MutexGuard<'_, PenConfig> {
        // The configuration is replaced as a whole, so it is valid even after a panic.
        self.config.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Carries out a command line.
    #[must_use]
    pub fn execute(&self, line: &[u8]) -> ControlReply {
        match ControlCommand::parse(line) {
            Ok(None) => ControlReply::done(""),
            Ok(Some(command)) => self.carry_out(&command),
            Err(error) => ControlReply::error(error),
        }
    }

    fn carry_out(&self, command: &ControlCommand) -> ControlReply {
        loop {
            let before = self.config();
            let mut config = before.clone();
            // Looking up a name may take long: the lock is not held meanwhile.
            let outcome = match command.apply(&mut config, ApplyPhase::Running, &*self.env) {
                Ok(outcome) => outcome,
                Err(error) => return ControlReply::error(error),
            };
            match self.replace_config(&before, config) {
                Some(Ok(())) => {}
                Some(Err(error)) => return ControlReply::error(error),
                None => continue,
            }
            return match outcome {
                CommandOutcome::Silence => ControlReply::done(""),
                CommandOutcome::Text(text) => ControlReply::done(text),
                CommandOutcome::Warning(text) => {
                    ControlReply { kind: ControlReplyKind::Warning, text }
                }
                CommandOutcome::Action(action) => self.act(action),
            };
        }
    }

    /// Puts `config`, which was derived from `before`, in force; `None` if `before` is not in force any more.
    fn replace_config(&self, before: &PenConfig, config: PenConfig) -> Option<Result<(), String>> {
        let mut held = self.lock();
        (*held == *before).then(|| self.apply_config(&mut held, config))
    }

    fn apply_config(&self, held: &mut PenConfig, config: PenConfig) -> Result<(), String> {
        if held.settings != config.settings {
            check(&config)?;
            self.data_plane.change(&config.settings)?;
        }
        if held.debug != config.debug {
            self.data_plane.set_debug(config.debug);
        }
        *held = config;
        self.changes.announce();
        Ok(())
    }

    fn act(&self, action: CommandAction) -> ControlReply {
        let slot = |number| PoolServerId::Slot(u32::try_from(number).unwrap_or(u32::MAX));
        match action {
            CommandAction::Show(query) => return self.show(query),
            CommandAction::Blacklist(number, time) => self.data_plane.blacklist(slot(number), time),
            CommandAction::EndConnectionsOf(number, time) => {
                self.data_plane.end_connections_of(slot(number), time);
            }
            CommandAction::Close(number) => {
                // Both replies are those of C pen.
                return if self.data_plane.close(number) {
                    ControlReply::done(format!("Forcibly closing connection {number}"))
                } else {
                    ControlReply::error(format!("Connection {number} out of range"))
                };
            }
            CommandAction::Include(path) => return self.include(&path),
            CommandAction::Write(path) => return self.write(&path),
            CommandAction::Exit => self.data_plane.stop(),
        }
        ControlReply::done("")
    }

    fn show(&self, query: ShowQuery) -> ControlReply {
        let snapshot = self.data_plane.snapshot(answer::detail(query));
        if let ShowQuery::Status(form) = query {
            return ControlReply::done(match form {
                StatusFormat::Html => status::page::draw(&snapshot, None),
                StatusFormat::Json => status::json::write(&snapshot),
                StatusFormat::Prometheus => status::metrics::write(&snapshot),
            });
        }
        answer::answer(query, &snapshot).map_or_else(ControlReply::error, ControlReply::done)
    }

    fn write(&self, path: &Path) -> ControlReply {
        let text =
            answer::dump(&self.config(), &self.data_plane.snapshot(SnapshotDetail::default()));
        match file_io::replace(path, text.as_bytes()) {
            Ok(()) => ControlReply::done(""),
            Err(error) => {
                ControlReply::error(format!("write: cannot write {}: {error}", path.display()))
            }
        }
    }

    /// Writes the status page to the file that `web_stats` names, if there is one.
    ///
    /// # Errors
    /// Names the file and the cause.
    pub fn write_page(&self) -> Result<(), String> {
        let Some(path) = self.lock().settings.web_stats.clone() else { return Ok(()) };
        let snapshot = self.data_plane.snapshot(SnapshotDetail {
            clients: 1_000,
            connections: ConnectionFilter::First(1_000),
            ..SnapshotDetail::default()
        });
        file_io::replace(&path, status::page::draw(&snapshot, None).as_bytes())
            .map_err(|error| format!("cannot write {}: {error}", path.display()))
    }

    /// Carries out the commands of a file as one change: all of them or none.
    fn include(&self, path: &Path) -> ControlReply {
        let commands = match script::read(path, &|path| file_io::read_short(&self.env.inside(path)))
        {
            Ok(commands) => commands,
            Err(mistakes) => return ControlReply::error(MistakeLines(&mistakes)),
        };
        let (mut said, actions) = loop {
            let before = self.config();
            let mut config = before.clone();
            let mut said = Vec::new();
            let mut actions = Vec::new();
            for script::LocatedCommand { place, command } in &commands {
                match command.apply(&mut config, ApplyPhase::Running, &*self.env) {
                    Ok(CommandOutcome::Silence) => {}
                    Ok(CommandOutcome::Text(text)) => said.push(text),
                    Ok(CommandOutcome::Warning(text)) => {
                        said.push(format!("warning: {place}: {text}"));
                    }
                    Ok(CommandOutcome::Action(action)) => actions.push(action),
                    Err(error) => return ControlReply::error(format!("{place}: {error}")),
                }
            }
            match self.replace_config(&before, config) {
                Some(Ok(())) => break (said, actions),
                Some(Err(error)) => return ControlReply::error(error),
                None => {}
            }
        };
        for action in actions {
            let reply = self.act(action);
            if !reply.text.is_empty() {
                said.push(reply.to_string().trim_end().to_owned());
            }
        }
        ControlReply::done(said.join("\n"))
    }

    /// Returns the counter of configuration changes.
    #[must_use]
    pub fn changes(&self) -> Arc<ConfigChanges> {
        self.changes.clone()
    }

    /// Applies the looked-up addresses of server names. Returns a line for each change.
    ///
    /// # Errors
    /// The reason why all servers keep their addresses.
    pub fn update_addresses(&self, answers: &ResolvedNames) -> Result<Vec<String>, String> {
        // Before the configuration is locked: a snapshot waits for the workers.
        let is_gone = |server: &ServerSettings| server.origin == ServerOrigin::Withdrawn;
        let busy = if self.lock().settings.servers.iter().flatten().any(is_gone) {
            let servers = self.data_plane.snapshot(SnapshotDetail::default()).servers;
            servers.into_iter().filter(|it| it.connections > 0).map(|it| it.id).collect()
        } else {
            BTreeSet::new()
        };
        let mut held = self.lock();
        let mut config = held.clone();
        let listen = config.listen.clone();
        let changes = names::renew(
            &mut config.settings,
            answers,
            |addr| listen.iter().any(|listen| is_same(listen, &Endpoint::Ip(*addr))),
            |number| busy.contains(&PoolServerId::Slot(u32::try_from(number).unwrap_or(u32::MAX))),
        );
        if config.settings != held.settings {
            self.apply_config(&mut held, config)?;
        }
        Ok(changes)
    }

    /// Puts `new`, a configuration read again, in force as one change.
    ///
    /// # Errors
    /// The reason why the old configuration stays in force.
    pub fn reload(&self, new: PenConfig) -> Result<ConfigDiff, String> {
        let mut held = self.lock();
        let (config, diff) = reload(&held, new);
        self.apply_config(&mut held, config)?;
        Ok(diff)
    }
}

/// Counts configuration changes, and lets threads wait for the next one.
#[derive(Debug, Default)]
pub struct ConfigChanges {
    count: Mutex<u64>,
    changed: Condvar,
}

impl ConfigChanges {
    fn announce(&self) {
        *self.count.lock().unwrap_or_else(PoisonError::into_inner) += 1;
        self.changed.notify_all();
    }

    /// Returns the number of changes.
    #[must_use]
    pub fn count(&self) -> u64 {
        *self.count.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until the number of changes differs from `seen`, or until `deadline`. Without a deadline, returns after 60
    /// seconds without a change at the latest, so that the caller can check whether the operator still exists.
    pub fn wait(&self, seen: u64, deadline: Option<Instant>) {
        let mut count = self.count.lock().unwrap_or_else(PoisonError::into_inner);
        while *count == seen {
            let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
            if left.is_some_and(|left| left.is_zero()) {
                return;
            }
            let left = left.unwrap_or(Duration::from_secs(60));
            let waited =
                self.changed.wait_timeout(count, left).unwrap_or_else(PoisonError::into_inner);
            count = waited.0;
            if deadline.is_none() && waited.1.timed_out() {
                return;
            }
        }
    }
}

/// Mistakes, one per line.
struct MistakeLines<'a>(&'a [ScriptError]);

impl fmt::Display for MistakeLines<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, mistake) in self.0.iter().enumerate() {
            write!(f, "{}{mistake}", if at == 0 { "" } else { "\n" })?;
        }
        Ok(())
    }
}

/// The environment of the process: the system's resolver, and the folders that paths start from.
#[derive(Clone, Debug)]
pub struct SystemEnv {
    /// The folder that relative paths start from.
    pub folder: PathBuf,
    /// The folder that pen changes its root to (chroot); `None` without a chroot.
    pub jail: Option<PathBuf>,
}

impl SystemEnv {
    /// Returns the environment after the chroot.
    #[must_use]
    pub fn inside_jail(&self) -> Self {
        let folder = if self.jail.is_some() { "/".into() } else { self.folder.clone() };
        Self { folder, jail: self.jail.clone() }
    }
}

impl CommandEnv for SystemEnv {
    fn resolve(&self, name: &str, port: u16) -> Result<std::net::SocketAddr, String> {
        use std::net::ToSocketAddrs as _;
        let found = (name, port).to_socket_addrs();
        let mut found = found.map_err(|error| format!("cannot look up {name}: {error}"))?;
        found.next().ok_or_else(|| format!("cannot look up {name}: no address"))
    }

    fn countries(&self, path: &Path) -> std::io::Result<CountryDatabase> {
        CountryDatabase::open(path)
    }

    fn absolute(&self, path: &Path) -> PathBuf {
        self.folder.join(path)
    }

    fn inside(&self, path: &Path) -> PathBuf {
        let Some(jail) = &self.jail else { return self.absolute(path) };
        // A path that is written as seen from outside the chroot names the same file.
        let path = path.strip_prefix(jail).unwrap_or(path);
        Path::new("/").join(path)
    }
}
