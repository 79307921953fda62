//! Measurements of the balancer, the collector, the shipper and the join.
//!
//! - [`stage`]: a whole site on loopback: real web servers, a balancer, and visitors whose addresses are known.
//! - [`accuracy`]: how many lines of a merged log name the right client.
//! - [`attack`]: what somebody gets in who reaches the collector's port, with keys and without.
//! - [`delivery`]: what is lost and what comes twice when programs are killed.
//! - [`speed`]: time and memory beside other programs in the same run.
//! - [`soak`]: whether memory grows under mixed load.
//! - [`story`]: makes the log files of `fixtures/` again.

pub mod accuracy;
pub mod attack;
pub mod children;
pub mod delivery;
pub mod soak;
pub mod speed;
pub mod stage;
pub mod story;

use std::path::Path;
use std::process::Command;

pub use pen_testing::{ActionError, Doing};

/// The root of the workspace this program was built from.
fn workspace() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}

/// Builds packages of this workspace with the profile of the running program, into the same folder.
fn build(packages: &[&str]) -> Result<(), ActionError> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.args(["build", "--quiet"]).current_dir(workspace());
    if !cfg!(debug_assertions) {
        command.arg("--release");
    }
    command.args(packages.iter().flat_map(|package| ["-p", package]));
    let built = command.status().doing("run cargo")?;
    if built.success() { Ok(()) } else { Err(ActionError::new("the programs do not build")) }
}
