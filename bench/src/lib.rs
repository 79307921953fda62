//! What measures the log road.
//!
//! [`stage`] sets up a whole site on loopback, with real web servers, Debian's `pen` before them and
//! visitors of whom the truth is known. [`demo`] shows such a site to a newcomer, [`accuracy`] counts on it who is named rightly, [`story`]
//! makes the fixtures on it, [`speed`] measures time, and [`soak`] whether memory stays what it is.

pub mod accuracy;
pub mod demo;
pub mod soak;
pub mod speed;
pub mod stage;
pub mod story;

use std::fmt;
use std::path::Path;
use std::process::Command;

/// Why a measurement could not be made, in words for the person who asked for it.
#[derive(Debug)]
pub struct Failure(String);

impl Failure {
    /// From a sentence without a full stop: the deed and the thing.
    #[must_use]
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Failure {}

/// Says what was being done when something failed.
pub trait During<T> {
    /// `deed` is said as "cannot …".
    ///
    /// # Errors
    /// The same failure, with the deed before it.
    fn during(self, deed: impl fmt::Display) -> Result<T, Failure>;
}

impl<T, E: fmt::Display> During<T> for Result<T, E> {
    fn during(self, deed: impl fmt::Display) -> Result<T, Failure> {
        self.map_err(|error| Failure(format!("cannot {deed}: {error}")))
    }
}

/// The root of the workspace this program was built from.
fn workspace() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}

/// Builds programs of this workspace as this one was built, so that they stand beside it.
fn build(packages: &[&str]) -> Result<(), Failure> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.args(["build", "--quiet"]).current_dir(workspace());
    if !cfg!(debug_assertions) {
        command.arg("--release");
    }
    command.args(packages.iter().flat_map(|package| ["-p", package]));
    let built = command.status().during("run cargo")?;
    if built.success() { Ok(()) } else { Err(Failure::new("the programs do not build")) }
}
