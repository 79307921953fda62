//! What somebody gets in who reaches the collector's port, with keys and without.
//!
//! A web server's `penlog` sends numbered lines to `penlogd`, and an attacker at another address does what he can. The
//! addresses are those of documentation, on the loopback device of a network of one's own: no packet leaves it.
//!
//! - `site`: the programs, and what came of the honest lines.
//! - `forge`: datagrams that lie. `abuse`: connections. `flood`: too many of everything.

mod abuse;
mod flood;
mod forge;
mod site;

use std::io::Write as _;

use crate::delivery::{Isolation, chain, isolated};
use crate::stage::TempFolder;
use crate::{ActionError, build};
use site::{AttackSite, Keys};

/// Which attacks.
#[derive(clap::Args)]
pub struct AttackArgs {
    /// Only attacks whose name contains this
    #[arg(long)]
    test: Option<String>,
    /// Forged datagrams a second in floods
    #[arg(long, default_value_t = 100_000)]
    flood: u32,
    /// Also print what penlogd said, after each attack
    #[arg(long)]
    messages: bool,
}

/// A row of the table.
struct Attack {
    name: &'static str,
    /// With which keys it makes sense.
    keys: &'static [Keys],
    try_it: fn(&mut AttackSite<'_>) -> Result<AttackResult, ActionError>,
}

/// What came of an attack, besides what it did to honest lines.
#[derive(Clone, Debug, Default)]
struct AttackResult {
    /// How many lies were tried.
    tried: u64,
    /// What they look like in the log.
    mark: Option<&'static str>,
    remark: String,
}

const BOTH: &[Keys] = &[Keys::None, Keys::Authorized];
const WITHOUT: &[Keys] = &[Keys::None];
const WITH: &[Keys] = &[Keys::Authorized];

const ATTACKS: [Attack; 22] = [
    Attack { name: "line in a datagram", keys: BOTH, try_it: forge::plain_line },
    Attack { name: "line in a shipment of another server", keys: BOTH, try_it: forge::shipment },
    Attack { name: "the same by TCP", keys: BOTH, try_it: abuse::shipment_by_tcp },
    Attack { name: "the same by TLS, unknown key", keys: WITH, try_it: abuse::unknown_key },
    Attack {
        name: "the same by TLS, key of another server",
        keys: WITH,
        try_it: abuse::others_key,
    },
    Attack {
        name: "the same by TLS, certificate of another authority",
        keys: WITH,
        try_it: abuse::other_authority,
    },
    Attack {
        name: "the same by TLS, certificate of another server",
        keys: WITH,
        try_it: abuse::others_certificate,
    },
    Attack { name: "client, classic record", keys: BOTH, try_it: forge::classic_client },
    Attack { name: "client, packet of records", keys: BOTH, try_it: forge::packet_client },
    Attack { name: "counters: numbers near 2^64", keys: BOTH, try_it: forge::counters },
    Attack {
        name: "mute: question of the last shipment",
        keys: BOTH,
        try_it: forge::mute_by_question,
    },
    Attack { name: "mute: the last shipment", keys: BOTH, try_it: forge::mute_by_shipment },
    Attack {
        name: "mute: the next shipments, identity heard",
        keys: BOTH,
        try_it: forge::next_numbers,
    },
    Attack { name: "mute: answers to penlog", keys: WITHOUT, try_it: forge::answers },
    Attack { name: "replay of heard datagrams", keys: WITHOUT, try_it: forge::replay },
    Attack {
        name: "replay after a restart of penlogd",
        keys: WITHOUT,
        try_it: forge::replay_later,
    },
    Attack { name: "replay of a TLS connection", keys: WITH, try_it: abuse::replay_connection },
    Attack { name: "torn frames and garbage by TCP", keys: BOTH, try_it: abuse::torn_frames },
    Attack {
        name: "2,000 connections that say nothing",
        keys: BOTH,
        try_it: abuse::slow_connections,
    },
    Attack { name: "flood of records", keys: BOTH, try_it: flood::records },
    Attack {
        name: "flood of shipments of made-up senders",
        keys: BOTH,
        try_it: flood::shipments_of_many,
    },
    Attack { name: "flood of garbage", keys: BOTH, try_it: flood::garbage },
];

/// Runs the attacks and prints a line for each.
///
/// # Errors
/// When the programs cannot be built. What got in is no error: it is printed.
pub fn run(args: &AttackArgs) -> Result<(), ActionError> {
    build(&["penlogd", "penlog"])?;
    println!("| attack | keys | tried | got in | honest lines | lost | doubled | remarks |");
    println!("|---|---|---:|---:|---:|---:|---:|---|");
    for attack in &ATTACKS {
        if args.test.as_ref().is_some_and(|wanted| !attack.name.contains(wanted.as_str())) {
            continue;
        }
        for &keys in attack.keys {
            let row = isolated(Isolation::Network, || play(attack, keys, args));
            let word = if keys == Keys::None { "no" } else { "yes" };
            let row = row.unwrap_or_else(|error| format!("– | – | – | – | – | {}", chain(&error)));
            println!("| {} | {word} | {} |", attack.name, row.replace('\n', " "));
            // A table that is read while it grows.
            let _flushed = std::io::stdout().flush();
        }
    }
    Ok(())
}

fn play(attack: &Attack, keys: Keys, args: &AttackArgs) -> Result<String, ActionError> {
    let folder = TempFolder::new();
    let mut site = AttackSite::start(&folder, keys, args.flood)?;
    let result = (attack.try_it)(&mut site)?;
    let end = site.end(result.mark)?;
    if args.messages {
        end.messages.lines().for_each(|line| println!("    {line}"));
    }
    let AttackResult { tried, mut remark, .. } = result;
    if let Some(absurd) = end.absurd {
        remark += &format!("{}counter {absurd}", if remark.is_empty() { "" } else { "; " });
    }
    let counts = end.counts;
    Ok(format!(
        "{tried} | {} | {} | {} | {} | {remark}",
        end.got_in, counts.sent, counts.lost, counts.doubled
    ))
}

/// Forges a line and a client in a collector with keys, and without. Returns how many of each got in.
///
/// # Errors
/// When a program cannot be started or does not end, or a network of one's own is not possible.
pub fn forged_lines_and_clients(has_keys: bool) -> Result<[u64; 2], ActionError> {
    let keys = if has_keys { Keys::Authorized } else { Keys::None };
    isolated(Isolation::Network, || {
        let folder = TempFolder::new();
        let mut site = AttackSite::start(&folder, keys, 0)?;
        let line = forge::plain_line(&mut site)?;
        let client = forge::classic_client(&mut site)?;
        let end = site.end(line.mark)?;
        let clients = end.lines_with(client.mark.unwrap_or_default());
        Ok([end.got_in, clients])
    })
}
