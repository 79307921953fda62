//! Loading the configuration: from [`PenArgs`] and the configuration file to [`PenConfig`]. SIGHUP loads the
//! configuration again with the present contents of the file.
//!
//! The order is the order of C pen: the options as typed, then the file, then the servers of the command line
//! from number 0 on. If the file has a `listen` command, the first address of the command line is not used.

mod check;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

use pen_daemon::process::Process;

use penlogd::cli::{JournalArgs, SenderArgs};

use crate::command::apply::{ApplyPhase, CommandAction, CommandOutcome};
use crate::command::cli::PenArgs;
use crate::command::control_command::ControlCommand;
use crate::command::env::{CommandEnv, server_settings, unix_endpoint};
use crate::command::reload;
use crate::command::script::{self, LocatedCommand, ScriptError};
use crate::command::settings::{self, SettingValue};
use crate::config::address::{Host, ListenAddr, ServerArg};
use crate::config::{
    ClientCertificates, EmbeddedCollectorSettings, Endpoint, ExitPolicy, LogTarget, LogTransport,
    PenConfig, ServerTls, TransportKind,
};

pub use check::check;
pub(crate) use check::is_same;

/// A loaded configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoadedConfig {
    /// The configuration.
    pub config: PenConfig,
    /// The actions for after the start: servers that get no clients for a time.
    pub startup_actions: Vec<CommandAction>,
    /// Warnings about settings without effect and the like.
    pub warnings: Vec<String>,
    /// The origin of each setting by its verb: an option, or a file and line.
    origins: BTreeMap<String, String>,
}

/// The errors of a configuration, one a line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SetupError(Vec<String>);

impl SetupError {
    fn one(text: impl Into<String>) -> Self {
        Self(vec![text.into()])
    }

    fn at(place: &str, error: impl fmt::Display) -> Self {
        Self::one(format!("{place}: {error}"))
    }

    /// Returns an error of several lines.
    #[must_use]
    pub const fn from_lines(lines: Vec<String>) -> Self {
        Self(lines)
    }

    /// Returns the lines.
    #[must_use]
    pub fn lines(&self) -> &[String] {
        &self.0
    }
}

impl fmt::Display for SetupError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join("\n"))
    }
}

impl std::error::Error for SetupError {}

impl From<Vec<ScriptError>> for SetupError {
    fn from(mistakes: Vec<ScriptError>) -> Self {
        Self(mistakes.iter().map(ToString::to_string).collect())
    }
}

/// The user who starts pen. Root opens no control port on the network without `-u`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InvokingUser {
    /// Root.
    Root,
    /// Another user.
    Other,
}

impl LoadedConfig {
    /// Loads the configuration. `open` reads a file.
    ///
    /// # Errors
    /// Each error names its option, or its file and line, and the expected words.
    pub fn new(
        args: &PenArgs,
        starter: InvokingUser,
        env: &dyn CommandEnv,
        open: &dyn Fn(&Path) -> io::Result<Vec<u8>>,
    ) -> Result<Self, SetupError> {
        Self::check_senders(args)?;
        let script = match &args.file {
            Some(file) => script::read(&env.absolute(file), open)?,
            None => Vec::new(),
        };
        let mut setup = Self {
            config: PenConfig { workers: workers(), ..PenConfig::default() },
            startup_actions: Vec::new(),
            warnings: args.without_effect(),
            origins: BTreeMap::new(),
        };
        setup.process(args, env);
        setup.control(args, starter, env)?;
        let servers = setup.listen(args, &script, env)?;
        let mut mistakes = Vec::new();
        for typed in &args.commands {
            if let Err(SetupError(lines)) = setup.option(typed.option, &typed.line, env) {
                mistakes.extend(lines);
            }
        }
        if !mistakes.is_empty() {
            return Err(SetupError(mistakes));
        }
        for LocatedCommand { place, command } in &script {
            setup.carry_out(command, &place.to_string(), env)?;
        }
        setup.servers(servers, env)?;
        setup.finish(args)
    }

    fn process(&mut self, args: &PenArgs, env: &dyn CommandEnv) {
        let path = |path: &Option<PathBuf>| path.as_deref().map(|path| env.absolute(path));
        self.config.process = Process {
            background: !args.foreground,
            jail: path(&args.jail),
            user: args.user.clone(),
            pid_file: path(&args.pid_file),
        };
        self.config.exit = if args.exit { ExitPolicy::Allowed } else { ExitPolicy::Refused };
        self.config.file = path(&args.file);
        self.config.status = args.status;
        let log = args.merged_log.as_deref().map(|path| env.inside(path));
        let collect = args.collect.zip(log);
        let (senders, journal) = (args.senders.clone(), args.journal.clone());
        let folder = journal.journal.as_deref().map(|path| env.inside(path));
        let journal = JournalArgs { journal: folder, ..journal };
        self.config.collect =
            collect.map(|(addr, log)| EmbeddedCollectorSettings { addr, log, senders, journal });
    }

    /// Checks the options of the collector in this process.
    fn check_senders(args: &PenArgs) -> Result<(), SetupError> {
        if let (Some((option, _)), None) = (args.senders.given().next(), args.collect) {
            return Err(SetupError::at(option, "expected --collect with it"));
        }
        if args.journal.journal.is_some() && args.collect.is_none() {
            return Err(SetupError::at("--journal", "expected --collect with it"));
        }
        args.senders.settings().map_err(SetupError::from_lines).map(|_| ())
    }

    /// Sends mapping records to the collector in this process, unless `-l` or `log` names another destination.
    fn collect(&mut self) -> Result<(), SetupError> {
        let Some(EmbeddedCollectorSettings { addr, .. }) = self.config.collect else {
            return Ok(());
        };
        if addr.port() == 0 {
            return Err(SetupError::one("--collect: expected a port above 0"));
        }
        if let Some(log) = &self.config.settings.log {
            let text = format!(
                "mapping records go to {}, as -l or log says, and not to the collector of --collect",
                log.name().display()
            );
            self.warnings.push(text);
            return Ok(());
        }
        let near = match addr.ip() {
            ip if !ip.is_unspecified() => ip,
            IpAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
            IpAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
        };
        let addr = SocketAddr::new(near, addr.port());
        self.config.settings.log = Some(LogTarget::Collector { name: addr.to_string(), addr });
        self.origins.insert("log".to_owned(), "--collect".to_owned());
        Ok(())
    }

    fn control(
        &mut self,
        args: &PenArgs,
        starter: InvokingUser,
        env: &dyn CommandEnv,
    ) -> Result<(), SetupError> {
        let Some(text) = &args.control else { return Ok(()) };
        let addr = ListenAddr::parse(text).map_err(|error| SetupError::at("-C", error))?;
        let endpoint = match addr {
            ListenAddr::Unix(path) => {
                unix_endpoint(env.absolute(&path)).map_err(|error| SetupError::at("-C", error))?
            }
            ListenAddr::Port(Host::Ip(ip), port) => Endpoint::Ip(SocketAddr::new(ip, port)),
            ListenAddr::Port(host, port) => {
                let addr = env.resolve(&host.to_string(), port);
                Endpoint::Ip(addr.map_err(|error| SetupError::at("-C", error))?)
            }
        };
        // A Unix-domain socket has mode 0600, so only root can use the socket.
        let is_port = matches!(endpoint, Endpoint::Ip(_));
        if is_port && starter == InvokingUser::Root && args.user.is_none() {
            self.warnings.push(format!(
                "-C {text}: no control port is opened as root: say -u USER, or -u root, or give a path"
            ));
            return Ok(());
        }
        self.config.control = Some(endpoint);
        Ok(())
    }

    /// Applies the first address of the command line, unless the file has a `listen` command. Returns the servers of
    /// the command line.
    fn listen<'a>(
        &mut self,
        args: &'a PenArgs,
        script: &[LocatedCommand],
        env: &dyn CommandEnv,
    ) -> Result<&'a [String], SetupError> {
        let is_listen = |it: &&LocatedCommand| match &it.command {
            ControlCommand::Set(_, SettingValue::Listen(addrs)) => !addrs.is_empty(),
            _ => false,
        };
        let Some((first, servers)) = args.addresses.split_first() else { return Ok(&[]) };
        if let Some(found) = script.iter().find(is_listen) {
            self.warnings
                .push(format!("{first} is not used: {} says where to listen", found.place));
            return Ok(servers);
        }
        let addr = ListenAddr::parse(first).map_err(|error| SetupError::at(first, error))?;
        let listen = settings::find("listen").expect("the table has this setting");
        let command = ControlCommand::Set(listen, SettingValue::Listen(vec![addr]));
        self.carry_out(&command, "command line", env)?;
        Ok(servers)
    }

    fn option(
        &mut self,
        option: &str,
        line: &[u8],
        env: &dyn CommandEnv,
    ) -> Result<(), SetupError> {
        let command = ControlCommand::parse(line).map_err(|error| SetupError::at(option, error))?;
        match command {
            Some(command) => self.carry_out(&command, option, env),
            None => Ok(()),
        }
    }

    fn carry_out(
        &mut self,
        command: &ControlCommand,
        origin: &str,
        env: &dyn CommandEnv,
    ) -> Result<(), SetupError> {
        let outcome = command.apply(&mut self.config, ApplyPhase::Starting, env);
        match outcome.map_err(|error| SetupError::at(origin, error))? {
            // There are no connections yet.
            CommandOutcome::Silence
            | CommandOutcome::Text(_)
            | CommandOutcome::Action(CommandAction::EndConnectionsOf(..)) => {}
            CommandOutcome::Warning(text) => self.warnings.push(format!("{origin}: {text}")),
            CommandOutcome::Action(action @ CommandAction::Blacklist(..)) => {
                self.startup_actions.push(action);
            }
            // `-O include`: only a file can include a file.
            CommandOutcome::Action(CommandAction::Include(_)) => {
                return Err(SetupError::at(origin, "include: expected it in a file: use -F"));
            }
            CommandOutcome::Action(_) => {
                self.warnings.push(format!("{origin}: {command} has no effect before pen runs"));
            }
        }
        if let Some(key) = key(&command.to_string()) {
            self.origins.insert(key, origin.to_owned());
        }
        Ok(())
    }

    fn servers(&mut self, servers: &[String], env: &dyn CommandEnv) -> Result<(), SetupError> {
        for (number, text) in servers.iter().enumerate() {
            let arg = ServerArg::parse(text).map_err(|error| SetupError::at(text, error))?;
            let server = server_settings(text, &arg, &self.config, env);
            let server = server.map_err(|error| SetupError::one(error.to_string()))?;
            let slots = &mut self.config.settings.servers;
            if slots.len() <= number {
                slots.resize(number + 1, None);
            }
            let origin = self.origins.insert(format!("server {number}"), "command line".to_owned());
            if slots[number].replace(server).is_some() {
                let place = origin.unwrap_or_default();
                self.warnings.push(format!("{text} takes the place of server {number} of {place}"));
            }
        }
        Ok(())
    }

    fn finish(mut self, args: &PenArgs) -> Result<Self, SetupError> {
        self.collect()?;
        if self.config.listen.is_empty() {
            return Err(SetupError::one(
                "expected where to listen, PORT or HOST:PORT, as the first argument or in the file of -F: see 'pen --help'",
            ));
        }
        let servers = self.config.settings.servers.iter().flatten().count();
        // With a file or a control port, servers may be added later.
        if servers == 0 && args.file.is_none() && self.config.control.is_none() {
            return Err(SetupError::one("expected at least one server, HOST:PORT, as an argument"));
        }
        check(&self.config).map_err(SetupError::one)?;
        self.unused();
        Ok(self)
    }

    /// Adds a warning for each setting that needs another setting to have an effect.
    fn unused(&mut self) {
        let tls = &self.config.settings.tls;
        let clients = tls.certificate.is_some();
        let servers = tls.servers != ServerTls::Off;
        let log = self.config.settings.access_log.is_some();
        let streams = self.config.transport == TransportKind::Stream;
        let to_collector = matches!(self.config.settings.log, Some(LogTarget::Collector { .. }))
            && !self.config.settings.is_classic_collector();
        let delivery = &self.config.settings.delivery;
        for (is_set, is_used, what, needs) in [
            (log, streams, "access_log", "connections, and with -U there are none"),
            (
                delivery.spool.is_some(),
                to_collector,
                "log_spool",
                "a collector for extended records (-l HOST:PORT)",
            ),
            (
                delivery.collector_key.is_some(),
                delivery.key.is_some(),
                "log_collector_key",
                "log_key",
            ),
            (
                delivery.certificate.is_some(),
                delivery.key.is_some(),
                "log_certificate",
                "log_key, the private key of the certificate",
            ),
            (
                delivery.authority.is_some() || delivery.collector_name.is_some(),
                delivery.certificate.is_some(),
                "log_authority, log_collector_name",
                "log_certificate",
            ),
            (
                delivery.transport == LogTransport::Stream || delivery.key.is_some(),
                to_collector,
                "log_transport stream, log_key",
                "a collector for extended records (-l HOST:PORT)",
            ),
            (tls.key.is_some(), clients, "ssl_key (-K)", "ssl_certificate (-E)"),
            (tls.names.is_some(), clients, "ssl_sni_path", "ssl_certificate (-E)"),
            (tls.staple.is_some(), clients, "ssl_ocsp_response", "ssl_certificate (-E)"),
            (
                tls.clients != ClientCertificates::None,
                clients,
                "ssl_client_certificate (-R)",
                "ssl_certificate (-E)",
            ),
            (
                tls.ca_file.is_some() || tls.ca_dir.is_some(),
                clients && tls.clients != ClientCertificates::None,
                "ssl_ca_file (-G), ssl_ca_path (-A)",
                "ssl_client_certificate (-R)",
            ),
            (
                tls.revoked.is_some(),
                (clients && tls.clients != ClientCertificates::None)
                    || tls.servers == ServerTls::Verified,
                "ssl_crl_file",
                "ssl_client_certificate (-R) or ssl_servers verified",
            ),
            (tls.servers_ca.is_some(), servers, "ssl_servers_ca", "ssl_servers verified"),
            (tls.servers_name.is_some(), servers, "ssl_servers_name", "ssl_servers verified"),
        ] {
            if is_set && !is_used {
                self.warnings.push(format!("{what} has no effect without {needs}"));
            }
        }
    }

    /// Returns the text of `--explain`: each setting in force with its origin.
    #[must_use]
    pub fn explain(&self) -> String {
        let config = &self.config;
        let mut lines: Vec<(String, String)> = Vec::new();
        let process = &config.process;
        let path = |path: &Option<PathBuf>| path.as_ref().map(|path| path.display().to_string());
        let senders = config.collect.as_ref().map(|collect| &collect.senders);
        for (option, value) in [
            ("-f", (!process.background).then(String::new)),
            ("-F", path(&config.file)),
            ("-j", path(&process.jail)),
            ("-u", process.user.clone()),
            ("-p", path(&process.pid_file)),
            ("-C", config.control.as_ref().map(ToString::to_string)),
            ("-X", (config.exit == ExitPolicy::Allowed).then(String::new)),
            ("--status", config.status.map(|addr| addr.to_string())),
            ("--collect", config.collect.as_ref().map(|collect| collect.addr.to_string())),
            ("--journal", config.collect.as_ref().and_then(|it| path(&it.journal.journal))),
            ("--merged-log", config.collect.as_ref().map(|it| it.log.display().to_string())),
        ] {
            let line = value.map(|value| format!("# {option} {value}").trim_end().to_owned());
            lines.extend(line.map(|line| (line, "command line".to_owned())));
        }
        for (option, values) in senders.into_iter().flat_map(SenderArgs::given) {
            let line = |value: String| format!("# {option} {value}");
            lines.extend(values.into_iter().map(|value| (line(value), "command line".to_owned())));
        }
        for line in reload::commands(config) {
            let key = key(&line).unwrap_or_default();
            let origin = self.origins.get(&key).cloned();
            lines.push((line, origin.unwrap_or_else(|| "default".to_owned())));
        }
        let width = lines.iter().map(|(line, _)| line.chars().count()).max().unwrap_or(0).min(60);
        let lines = lines.iter().map(|(line, origin)| format!("{line:width$}  # {origin}\n"));
        lines.collect()
    }
}

/// Returns the number of processors that this process may use.
fn workers() -> NonZeroUsize {
    std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN)
}

/// Returns the key of a command in `origins`: the verb; for a server or an access list, with its number.
fn key(line: &str) -> Option<String> {
    let mut words = line.split(' ').filter(|word| *word != "no");
    match words.next()? {
        verb @ ("server" | "acl") => Some(format!("{verb} {}", words.next()?)),
        "drain" | "remove" => Some(format!("server {}", words.next()?)),
        "http" => Some("x_forwarded_for".to_owned()),
        verb => Some(verb.to_owned()),
    }
}
