//! Connections that say nothing.

use std::net::TcpStream;

use super::contender::Running;
use crate::stage::Deadline;
use crate::{ActionError, Doing};

/// How many there are.
pub(super) const CONNECTIONS: usize = 2_000;

/// Resident memory in KiB before there are any and while all are open.
pub(super) fn measure(running: &Running) -> Result<(u64, u64), ActionError> {
    let connect = || TcpStream::connect(running.addr).doing("open an idle connection");
    // What the first ones take is taken once.
    let first = (0..10).map(|_| connect()).collect::<Result<Vec<_>, _>>()?;
    let before = settled(running)?;
    let rest = (0..CONNECTIONS).map(|_| connect()).collect::<Result<Vec<_>, _>>()?;
    let after = settled(running)?;
    drop((first, rest));
    Ok((before, after))
}

/// Memory once it has not changed for a while: there is no event for it.
fn settled(running: &Running) -> Result<u64, ActionError> {
    let (mut last, mut same) = (running.memory()?, 0);
    let mut until = Deadline::patience();
    while same < 100 && until.nap() {
        let now = running.memory()?;
        same = if now == last { same + 1 } else { 0 };
        last = now;
    }
    Ok(last)
}
