//! Support shared by the tests of all programs, by `pen-bench` and by `pen-demo`.
//!
//! - [`folder`]: temporary folders.
//! - [`port`]: ports nobody uses.
//! - [`program`]: child processes that end with the test, and programs that run to their end.
//! - [`random`]: random numbers by a seed.
//! - [`vector()`]: test vectors in `fixtures/`.
//! - [`wait`]: waiting for a condition, with a deadline.
//! - [`manual`]: a manual page against the `--help` of its program.
//! - `site` (feature `sites`): made logs of a balancer and its servers, with the clients that lines should name.
//! - `certificates` (feature `certificates`): certificate authorities and certificates for tests of TLS.
//!
//! The crate knows no program of this workspace, so the unit tests of each of them may use the crate.

#[cfg(feature = "certificates")]
pub mod certificates;
pub mod folder;
pub mod manual;
pub mod port;
pub mod program;
pub mod random;
#[cfg(feature = "sites")]
pub mod site;
mod vector;
pub mod wait;

pub use folder::TempFolder;
pub use pen_daemon::error::{ActionError, Doing};
pub use port::free_port;
pub use program::{Program, ProgramOutput};
pub use vector::vector;
pub use wait::{Deadline, PATIENCE, wait_until};
