//! A network, or mounts, of one's own, for a thread and the programs that it starts.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::Path;
use std::process::Command;

use nix::sched::{CloneFlags, unshare};

use crate::stage::{require_installed, run_to_end};
use crate::{ActionError, Doing as _};

/// What is one's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Isolation {
    Network,
    Mounts,
}

/// Runs `play` in a thread whose network or mounts are its own.
///
/// # Errors
/// Those of `play`; or the thread has no right to that.
pub(crate) fn isolated<T: Send>(
    isolation: Isolation,
    play: impl FnOnce() -> Result<T, ActionError> + Send,
) -> Result<T, ActionError> {
    let enter = move || -> Result<(), ActionError> {
        match isolation {
            Isolation::Network => {
                require_installed("nft")?;
                unshare(CloneFlags::CLONE_NEWNET).doing("not possible here: make a network")?;
                run("ip", &["link", "set", "lo", "up"])
            }
            Isolation::Mounts => {
                unshare(CloneFlags::CLONE_NEWNS).doing("not possible here: make mounts")?;
                run("mount", &["--make-rprivate", "/"])
            }
        }
    };
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| enter().and_then(|()| play()));
        thread.join().map_err(|_panic| ActionError::new("the scene panicked"))?
    })
}

fn run(program: &str, args: &[&str]) -> Result<(), ActionError> {
    run_to_end(Command::new(require_installed(program)?).args(args)).map(drop)
}

/// Drops all packets to and from a port.
pub(super) fn cut_off(port: u16) -> Result<(), ActionError> {
    let mut rules = String::from(
        "add table ip pen; add chain ip pen in { type filter hook input priority 0; }",
    );
    for protocol in ["udp", "tcp"] {
        for end in ["dport", "sport"] {
            rules += &format!("; add rule ip pen in {protocol} {end} {port} drop");
        }
    }
    run("nft", &[&rules])
}

/// Lets them pass again.
pub(super) fn reconnect() -> Result<(), ActionError> {
    run("nft", &["delete table ip pen"])
}

/// Mounts a file system in memory.
pub(super) fn mount_memory(folder: &Path, mebibytes: u32) -> Result<(), ActionError> {
    fs::create_dir_all(folder).doing(format_args!("make {}", folder.display()))?;
    let size = format!("size={mebibytes}m,mode=755");
    run("mount", &["-t", "tmpfs", "-o", &size, "none", &folder.display().to_string()])
}

/// Takes all room of the file system that a folder is on.
pub(super) fn fill(folder: &Path) -> Result<(), ActionError> {
    let path = folder.join("ballast");
    let mut file = File::create(&path).doing("fill a disk")?;
    for size in [1 << 20, 1 << 12, 1] {
        while file.write(&vec![0; size]).is_ok_and(|len| len > 0) {}
    }
    Ok(())
}

/// Gives it back.
pub(super) fn unfill(folder: &Path) -> Result<(), ActionError> {
    fs::remove_file(folder.join("ballast")).doing("free a disk")
}

/// Mounts a folder on itself as an overlay: its files keep their inodes, on a device without a disk.
pub(super) fn mount_overlay(folder: &Path, beside: &Path) -> Result<(), ActionError> {
    let [lower, work] = ["lower", "work"].map(|name| beside.join(name));
    for own in [folder, &lower, &work] {
        fs::create_dir_all(own).doing(format_args!("make {}", own.display()))?;
    }
    let (lower, upper, work) = (lower.display(), folder.display(), work.display());
    let options = format!("lowerdir={lower},upperdir={upper},workdir={work}");
    run("mount", &["-t", "overlay", "overlay", "-o", &options, &upper.to_string()])
}

/// Mounts such a folder anew, so that its device has another number.
pub(super) fn renumber_device(folder: &Path, beside: &Path) -> Result<(), ActionError> {
    run("umount", &[&folder.display().to_string()])?;
    // It gets the number that is free now.
    mount_memory(&beside.join("taken"), 1)?;
    mount_overlay(folder, beside)
}
