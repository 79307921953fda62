//! What every program shares as a Unix process; the domain crate `records` knows nothing of it.
//!
//! [`error`] has the error type, its printing and the exit codes of all five programs. The feature `arguments`
//! adds parsers of options that several programs have, the feature `service` what a daemon needs. The order of a start
//! matters, and [`process`] enforces it:
//!
//! 1. arguments are read, relative paths made absolute;
//! 2. [`process::Process::detach`]: the caller waits, its child goes on in the background;
//! 3. sockets are bound, while the process still has the rights to do so;
//! 4. [`process::Process::settle`]: pid file locked, chroot entered, user changed, pid written;
//! 5. rights that are not needed any more are given up ([`sandbox`]);
//! 6. log files are opened, with the user's rights and inside the chroot ([`logfile`]);
//! 7. the runtime starts and [`signals`] are caught;
//! 8. [`process::Settled::ready`]: the caller is told, and exits.
//!
//! [`diagnostics`] takes the log messages, [`notify`] informs a service manager, [`drops`] reads how many datagrams
//! the kernel dropped, [`folder`] finds the folder of a file.

#[cfg(feature = "arguments")]
pub mod arguments;
pub mod error;
pub mod folder;

#[cfg(feature = "service")]
pub mod diagnostics;
#[cfg(feature = "service")]
pub mod drops;
#[cfg(feature = "service")]
pub mod logfile;
#[cfg(feature = "service")]
pub mod notify;
#[cfg(feature = "service")]
mod pidfile;
#[cfg(feature = "service")]
pub mod process;
#[cfg(feature = "sandbox")]
pub mod sandbox;
#[cfg(feature = "service")]
pub mod signals;
#[cfg(feature = "sandbox")]
pub mod user;
