//! What the command line and the files ask for, read before the process starts and again at each SIGHUP.

use std::path::{Path, PathBuf};

use nix::unistd::getuid;
use pen_daemon::error::chain;
use penlogd::cli::no_place;

use crate::command::cli::PenArgs;
use crate::command::env::CommandEnv as _;
use crate::command::setup::{InvokingUser, LoadedConfig, SetupError};
use crate::config::{LogTarget, PenConfig, file_io};
use crate::data::balancer::descriptor_warning;
use crate::data::tls::keeper::TlsKeeper;
use crate::operate::control::SystemEnv;

/// The arguments, and the configuration made from the arguments and the configuration file.
#[derive(Clone, Debug)]
pub struct RunPlan {
    args: PenArgs,
    env: SystemEnv,
    user: InvokingUser,
    pub(super) loaded: LoadedConfig,
}

impl RunPlan {
    /// Reads the configuration file and applies the arguments.
    ///
    /// # Errors
    /// The mistakes, one per line.
    pub fn new(args: &PenArgs) -> Result<Self, SetupError> {
        let folder = std::env::current_dir().unwrap_or_else(|_| "/".into());
        let jail = args.jail.as_ref().map(|jail| folder.join(jail));
        let env = SystemEnv { folder, jail };
        let user = if getuid().is_root() { InvokingUser::Root } else { InvokingUser::Other };
        let loaded = load(args, user, &env)?;
        Ok(Self { args: args.clone(), env, user, loaded })
    }

    /// Checks the files that the configuration names.
    ///
    /// # Errors
    /// The unusable files, one per line.
    pub fn check(&self) -> Result<(), SetupError> {
        let mut faults = match TlsKeeper::new(&self.config().settings.tls) {
            Ok(keeper) => keeper.warnings().iter().map(ToString::to_string).collect::<Vec<_>>(),
            Err(error) => vec![error.to_string()],
        };
        faults.extend(self.unwritable());
        if faults.is_empty() { Ok(()) } else { Err(SetupError::from_lines(faults)) }
    }

    /// Returns what is legal and does not come true.
    #[must_use]
    pub fn warning(&self) -> Option<String> {
        descriptor_warning(self.config())
    }

    /// Returns a line for each file that cannot be written, and for an unknown user.
    fn unwritable(&self) -> Vec<String> {
        let config = self.config();
        let process = &config.process;
        let inside = |path: &Path| match &process.jail {
            Some(jail) => jail.join(path.strip_prefix("/").unwrap_or(path)),
            None => path.to_owned(),
        };
        let log = match &config.settings.log {
            Some(LogTarget::File(path)) => Some(inside(path)),
            _ => None,
        };
        let access_log = config.settings.access_log.as_deref().map(inside);
        let merged_log = config.collect.as_ref().map(|collect| inside(&collect.log));
        let files = [process.pid_file.clone(), log, access_log, merged_log];
        let user = process.ids().err().map(|error| chain(&error));
        files.into_iter().flatten().filter_map(|path| no_place(&path)).chain(user).collect()
    }

    /// Returns each setting in force and where it came from.
    #[must_use]
    pub fn explain(&self) -> String {
        self.loaded.explain()
    }

    /// Returns the configuration to start with.
    pub(super) fn config(&self) -> &PenConfig {
        &self.loaded.config
    }

    /// Returns the environment of the running process: inside the chroot, if there is one.
    pub(super) fn running_env(&self) -> SystemEnv {
        self.env.inside_jail()
    }

    /// Returns whether there is a configuration file to read again.
    pub(super) fn has_file(&self) -> bool {
        self.args.file.is_some()
    }

    /// Reads the files again, with the same arguments.
    ///
    /// # Errors
    /// The mistakes, one per line.
    pub(super) fn read_again(&self) -> Result<PenConfig, SetupError> {
        let env = self.running_env();
        let inside = |file: &PathBuf| env.inside(&self.env.absolute(file));
        let args = PenArgs { file: self.args.file.as_ref().map(inside), ..self.args.clone() };
        Ok(load(&args, self.user, &env)?.config)
    }
}

fn load(args: &PenArgs, user: InvokingUser, env: &SystemEnv) -> Result<LoadedConfig, SetupError> {
    // The paths of included files, too, are relative to the folder that pen was started in.
    let open = |path: &Path| file_io::read_short(&env.absolute(path));
    LoadedConfig::new(args, user, env, &open)
}
