//! Ends what was started, when this program is ended by a signal: programs would go on, and so would their traffic.

use std::collections::HashMap;
use std::fs;
use std::io::Read as _;
use std::os::unix::net::UnixStream;
use std::thread;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::{ActionError, Doing as _};

/// Pause between two looks for programs that have not ended yet.
const LOOK: Duration = Duration::from_millis(5);

/// Ends all programs below this one, and this one, at SIGINT, SIGTERM or SIGHUP.
///
/// # Errors
/// The signals cannot be caught.
pub fn end_together() -> Result<(), ActionError> {
    for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
        let (mut told, teller) = UnixStream::pair().doing("catch signals")?;
        signal_hook::low_level::pipe::register(signal as i32, teller).doing("catch signals")?;
        thread::spawn(move || {
            // The other end is never closed.
            let _ = told.read(&mut [0]);
            end_all_below(Pid::this());
            std::process::exit(128 + signal as i32);
        });
    }
    Ok(())
}

/// Kills all descendants of a process. One that is started meanwhile is found in the next turn.
fn end_all_below(process: Pid) {
    loop {
        let below = descendants(process);
        if below.is_empty() {
            return;
        }
        for pid in below {
            // It may have ended.
            let _ = kill(pid, Signal::SIGKILL);
        }
        thread::park_timeout(LOOK);
    }
}

/// Returns all descendants of a process that have not ended.
fn descendants(process: Pid) -> Vec<Pid> {
    let mut children: HashMap<Pid, Vec<Pid>> = HashMap::new();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        let stat = fs::read_to_string(entry.path().join("stat")).unwrap_or_default();
        // The name of the program, in brackets, may hold anything.
        let Some((_, behind)) = stat.rsplit_once(") ") else { continue };
        let mut words = behind.split(' ');
        if let (Some(state), Some(Ok(parent))) = (words.next(), words.next().map(str::parse))
            && state != "Z"
        {
            children.entry(Pid::from_raw(parent)).or_default().push(Pid::from_raw(pid));
        }
    }
    let (mut found, mut next) = (Vec::new(), vec![process]);
    while let Some(parent) = next.pop() {
        let below = children.remove(&parent).unwrap_or_default();
        next.extend(&below);
        found.extend(below);
    }
    found
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use pen_testing::wait_until;

    use super::*;

    #[test]
    fn all_programs_below_one_are_ended() {
        // A shell that runs another one, which runs cat.
        let mut command = Command::new("sh");
        command.args(["-c", "sh -c 'cat; true'; true"]).stdin(Stdio::piped());
        let mut top = command.spawn().expect("there is a shell");
        let pid = Pid::from_raw(i32::try_from(top.id()).expect("a pid"));
        wait_until("the programs run", || descendants(pid).len() == 2);
        end_all_below(pid);
        assert_eq!(descendants(pid), []);
        assert!(top.wait().expect("it ended").success());
    }
}
