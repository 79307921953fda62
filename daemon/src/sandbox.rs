//! Giving up rights that a program does not need: capabilities, new privileges by execution, and access to files beyond
//! some folders, by landlock. A fault in the program can do no more harm than what is left.
//!
//! All of these rights belong to a thread and are inherited: [`Sandbox::enter`] must be called before any thread is
//! started. A list of system calls (seccomp) is not used: what the C library calls changes from release to release and from
//! processor to processor, and landlock with an empty capability set already covers what matters here.

use std::fmt;
use std::fs::{self, File};
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use landlock::{
    ABI, Access, AccessFs, AccessNet, BitFlags, CompatLevel, Compatible, PathBeneath, PathFd,
    Ruleset, RulesetAttr, RulesetCreated, RulesetCreatedAttr, RulesetError, RulesetStatus,
};
use nix::unistd::Uid;
use rustix::thread::{
    CapabilitySet, CapabilitySets, capabilities, clear_ambient_capability_set,
    remove_capability_from_bounding_set, set_capabilities, set_no_new_privs,
};

use crate::error::{ActionError, Doing as _};
use crate::folder::folder_of;

/// The newest landlock that is known here; an older kernel enforces what it knows.
const NEWEST: ABI = ABI::V5;

/// Links followed from a file's name to the file.
const LINKS: usize = 8;

/// Which files may be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileReads {
    /// All that the user may read.
    All,
    /// The named ones.
    Named,
}

/// What a program keeps.
#[derive(Debug)]
pub struct Sandbox {
    reads: FileReads,
    readable: Vec<PathBuf>,
    writable: Vec<PathBuf>,
    removable: Vec<OwnedFd>,
    /// Whether new TCP connections may be opened, and ports bound.
    has_network: bool,
}

/// What was given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Enclosure {
    /// How far landlock holds.
    pub landlock: LandlockState,
    /// Whether the user is root, who keeps the right to open files of others.
    pub is_root: bool,
}

/// How far landlock holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LandlockState {
    /// As far as it is known here.
    Full,
    /// As far as an older kernel knows it.
    Partial,
    /// The kernel has none.
    Missing,
}

impl Sandbox {
    /// A sandbox without files to write.
    #[must_use]
    pub const fn new(reads: FileReads) -> Self {
        Self {
            reads,
            readable: Vec::new(),
            writable: Vec::new(),
            removable: Vec::new(),
            has_network: true,
        }
    }

    /// Forbids new TCP connections and ports.
    #[must_use]
    pub fn without_network(self) -> Self {
        Self { has_network: false, ..self }
    }

    /// Lets a file or folder be read.
    pub fn read(&mut self, path: &Path) {
        self.readable.push(path.to_owned());
    }

    /// Lets a file be read, also when another one takes its place: everything in its folder.
    pub fn read_file(&mut self, path: &Path) {
        self.readable.push(folder_of(path).to_owned());
        if let Ok(target) = fs::canonicalize(path) {
            self.readable.push(folder_of(&target).to_owned());
        }
    }

    /// Lets everything in a folder be read, written and removed.
    pub fn write_folder(&mut self, folder: &Path) {
        self.writable.push(folder.to_owned());
    }

    /// Lets a file be made, written, replaced and removed: everything in its folder, and in the folder around, so that a
    /// removed folder may be made anew. `/` and the folders in it, as `/var`, are too much for that. Where the name is a
    /// link, the same holds for the link's target. A device is allowed alone.
    pub fn write_file(&mut self, path: &Path) {
        let mut path = path.to_owned();
        for _ in 0..LINKS {
            let is_device = fs::symlink_metadata(&path).is_ok_and(|it| {
                let kind = it.file_type();
                !kind.is_file() && !kind.is_symlink() && !kind.is_dir()
            });
            let folder = folder_of(&path).to_owned();
            if is_device {
                return self.writable.push(path);
            }
            self.writable.extend(
                folder.parent().filter(|it| it.components().count() > 2).map(Path::to_owned),
            );
            self.writable.push(folder.clone());
            let Ok(target) = fs::read_link(&path) else { return };
            path = folder.join(target);
        }
    }

    /// Lets names be removed from an open folder.
    ///
    /// # Errors
    /// No descriptor is left.
    pub fn remove_in(&mut self, folder: &File) -> io::Result<()> {
        self.removable.push(folder.try_clone()?.into());
        Ok(())
    }

    /// Gives up everything else, for good.
    ///
    /// # Errors
    /// The kernel refuses, other than for want of landlock.
    pub fn enter(self) -> Result<Enclosure, ActionError> {
        let is_root = Uid::effective().is_root();
        forbid_new_rights().doing("give up new privileges")?;
        // Without it root could not append to a log of another user.
        let kept = if is_root { CapabilitySet::DAC_OVERRIDE } else { CapabilitySet::empty() };
        keep_capabilities(kept).doing("give up capabilities")?;
        let landlock = self.restrict_files().doing("restrict access to files by landlock")?;
        Ok(Enclosure { landlock, is_root })
    }

    fn restrict_files(self) -> Result<LandlockState, RulesetError> {
        let writes = AccessFs::from_write(NEWEST) & !AccessFs::IoctlDev;
        let handled = match self.reads {
            FileReads::Named => AccessFs::from_all(NEWEST),
            FileReads::All => AccessFs::from_write(NEWEST) | AccessFs::Execute,
        };
        let mut rules =
            Ruleset::default().set_compatibility(CompatLevel::BestEffort).handle_access(handled)?;
        if !self.has_network {
            rules = rules.handle_access(AccessNet::from_all(NEWEST))?;
        }
        let mut rules = rules.create()?;
        let reads = (AccessFs::ReadFile | AccessFs::ReadDir) & handled;
        for path in &self.readable {
            rules = allow(rules, path, reads)?;
        }
        for path in &self.writable {
            rules = allow(rules, path, reads | writes)?;
        }
        for folder in self.removable {
            rules = rules.add_rule(PathBeneath::new(folder, AccessFs::RemoveFile))?;
        }
        Ok(match rules.restrict_self()?.ruleset {
            RulesetStatus::FullyEnforced => LandlockState::Full,
            RulesetStatus::PartiallyEnforced => LandlockState::Partial,
            RulesetStatus::NotEnforced => LandlockState::Missing,
        })
    }
}

/// Allows access to a path and all beneath. A path that is not there has nothing to be allowed.
fn allow(
    rules: RulesetCreated,
    path: &Path,
    access: BitFlags<AccessFs>,
) -> Result<RulesetCreated, RulesetError> {
    let Ok(descriptor) = PathFd::new(path) else { return Ok(rules) };
    let access = if path.is_dir() { access } else { access & AccessFs::from_file(NEWEST) };
    if access.is_empty() { Ok(rules) } else { rules.add_rule(PathBeneath::new(descriptor, access)) }
}

/// Gives up all rights that a program may gain by executing another one.
pub(crate) fn forbid_new_rights() -> rustix::io::Result<()> {
    set_no_new_privs(true)?;
    for capability in CapabilitySet::all().iter() {
        // Without the right to do so, or unknown to this kernel; without new privileges it cannot be gained anyway.
        let _ = remove_capability_from_bounding_set(capability);
    }
    Ok(())
}

/// Gives up all capabilities but those of `kept` that the process has.
fn keep_capabilities(kept: CapabilitySet) -> rustix::io::Result<()> {
    // Fails in a kernel before 4.3, which has none of these.
    let _ = clear_ambient_capability_set();
    let kept = kept & capabilities(None)?.permitted;
    let inheritable = CapabilitySet::empty();
    set_capabilities(None, CapabilitySets { effective: kept, permitted: kept, inheritable })
}

/// Returns whether the kernel has landlock. Nothing is restricted.
#[must_use]
pub fn has_landlock() -> bool {
    let rules = Ruleset::default().set_compatibility(CompatLevel::HardRequirement);
    rules.handle_access(AccessFs::from_all(ABI::V1)).and_then(Ruleset::create).is_ok()
}

impl fmt::Display for Enclosure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.landlock {
            LandlockState::Full => "sandbox: files in the named folders only",
            LandlockState::Partial => {
                "sandbox: files in the named folders only, as far as this kernel has landlock"
            }
            LandlockState::Missing => {
                "sandbox: no limits for files, since this kernel has no landlock"
            }
        })?;
        f.write_str(if self.is_root {
            ", no capability but to open files of others, no new privileges"
        } else {
            ", no capabilities, no new privileges"
        })
    }
}
