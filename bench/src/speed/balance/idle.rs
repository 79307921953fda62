//! Connections that say nothing.

use std::net::TcpStream;

use super::contender::Running;
use crate::stage::Until;
use crate::{During, Failure};

/// How many there are.
pub(super) const CONNECTIONS: usize = 2_000;

/// Resident memory in KiB before there are any and while all are open.
pub(super) fn measure(running: &Running) -> Result<(u64, u64), Failure> {
    let connect = || TcpStream::connect(running.addr).during("open an idle connection");
    // What the first ones take is taken once.
    let first = (0..10).map(|_| connect()).collect::<Result<Vec<_>, _>>()?;
    let before = settled(running)?;
    let rest = (0..CONNECTIONS).map(|_| connect()).collect::<Result<Vec<_>, _>>()?;
    let after = settled(running)?;
    drop((first, rest));
    Ok((before, after))
}

/// Memory once it has not changed for a while: there is no event for it.
fn settled(running: &Running) -> Result<u64, Failure> {
    let (mut last, mut same) = (running.memory()?, 0);
    let until = Until::patience();
    while same < 100 && until.pause() {
        let now = running.memory()?;
        same = if now == last { same + 1 } else { 0 };
        last = now;
    }
    Ok(last)
}
