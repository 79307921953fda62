//! The inputs of a run, after a look at the beginning of each.

use pen_daemon::error::{ActionError, Doing as _};
use pen_records::time::Timestamp;

use crate::complain;
use crate::config::MergeConfig;
use crate::input::copies;
use crate::input::heads::InputHead;

/// The beginnings of the mapping logs, and of the access logs with their server's index.
pub(crate) type InputHeads = (Vec<InputHead>, Vec<(usize, InputHead)>);

/// Reads the beginning of every input. Copies of other inputs are left out.
pub(crate) fn look(config: &mut MergeConfig) -> Result<InputHeads, ActionError> {
    let mut mappings = Vec::new();
    for origin in &config.mappings {
        let head = InputHead::of_mappings(origin, &config.third_party);
        mappings.push(head.doing(format_args!("open {origin}"))?);
    }
    let known = mappings.iter().map(|head| head.first_time).filter(|time| *time > Timestamp::MIN);
    let first = known.min();
    for server in &mut config.servers {
        let mut spec = std::mem::take(&mut server.spec);
        if let Some(own) = server.ip {
            spec = spec.of_server(own);
        }
        // For stamps without a year.
        server.spec = if let Some(first) = first { spec.near(first) } else { spec };
    }
    let mut logs = Vec::new();
    for (index, server) in config.servers.iter().enumerate() {
        for origin in &server.logs {
            let head = InputHead::of_access(origin, &server.spec, server.zone)
                .doing(format_args!("open {origin}"))?;
            if config.debug {
                complain(&format!("{origin} is a log of {}", server.label()));
            }
            logs.push((index, head));
        }
    }
    // Within a server equal times go by the file that begins earlier, whatever order they were in.
    logs.sort_by_key(|(server, head)| (*server, head.first_time));
    leave_out_copies(config, &mut mappings, &mut logs);
    Ok((mappings, logs))
}

/// Removes inputs that hold the same lines as another one, and says so. A log that two servers have is only
/// said, as it may be right.
fn leave_out_copies(
    config: &MergeConfig,
    mappings: &mut Vec<InputHead>,
    logs: &mut Vec<(usize, InputHead)>,
) {
    for (copy, original) in copies::find(mappings.iter()).into_iter().rev() {
        let (copy, original) = (mappings.remove(copy).origin, &mappings[original].origin);
        complain(&format!("{copy} holds the same lines as {original}: read once"));
    }
    for (copy, original) in copies::find(logs.iter().map(|(_, head)| head)).into_iter().rev() {
        let [(server, copied), (other, of)] = [&logs[copy], &logs[original]];
        let same = format!("{} holds the same lines as {}", copied.origin, of.origin);
        if server == other {
            complain(&format!("{same}: read once"));
            logs.remove(copy);
        } else {
            let [server, other] = [*server, *other].map(|index| config.servers[index].label());
            complain(&format!("{same}, but is of {server} and the other of {other}"));
        }
    }
}
