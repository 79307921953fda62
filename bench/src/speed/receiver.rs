//! The other side of the row *receive only*: what datagrams cost a program that does nothing with
//! them. It receives as our collector does, so what is above its figure is the collector's own.

use std::ffi::OsString;
use std::thread;
use std::time::Duration;

use penlogd::socket::{BATCH, DatagramBatch, ListenTarget, UdpListener};

use crate::{ActionError, Doing};

/// How long datagrams gather when all that were there have been taken.
const GATHER: Duration = Duration::from_millis(5);

/// Receives until it is killed.
pub(super) fn receive(arguments: &[OsString]) -> Result<(), ActionError> {
    let port = arguments.first().and_then(|port| port.to_str()?.parse().ok());
    let port = port.ok_or_else(|| ActionError::new("receive needs a port"))?;
    let mut listener = UdpListener::bind(ListenTarget::Everywhere(port))
        .doing(format_args!("listen at port {port}"))?;
    let mut batch = DatagramBatch::default();
    loop {
        match batch.receive(&mut listener, |_, _| {}) {
            Ok(BATCH) => {}
            _ => thread::park_timeout(GATHER),
        }
    }
}
