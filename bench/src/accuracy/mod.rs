//! How many lines name the right client.
//!
//! Each row is traffic of one manner, sent twice over a site of its own: once live, where all
//! collectors hear the same, and once with files, which both offline programs read. Mappings come from
//! the C `pen`; or from ours, and then our programs read them, with lines that name the peer's port and
//! with lines that don't.

pub mod made;
pub mod ours;
mod rows;
mod trial;
mod wordings;

pub use rows::{ROWS, Row};
pub use trial::{Live, Offline, live, offline};
pub use wordings::{LogFile, Wording};

use std::fmt;
use std::path::PathBuf;

use crate::ActionError;
use crate::stage::{Score, enter_own_network, share};

/// What to measure.
#[derive(clap::Args, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is a switch that was typed or not")]
pub struct AccuracyArgs {
    /// A third of the requests
    #[arg(long)]
    quick: bool,
    /// Only the rows whose name holds this
    #[arg(long, value_name = "NAME")]
    row: Option<String>,
    /// The short table: one line a row
    #[arg(long)]
    brief: bool,
    /// Whose records
    #[arg(long, value_enum, default_value_t = RecordSource::C)]
    balancer: RecordSource,
    /// Another draw of visitors
    #[arg(long, value_name = "NUMBER", default_value_t = 1)]
    seed: u64,
    /// Made logs only, which need no web server, no balancer and no network
    #[arg(long)]
    made: bool,
    /// Made logs, and then the rows of our pen, HAProxy, nginx and the kernel, as far as these are installed
    #[arg(long, conflicts_with_all = ["made", "natural"])]
    all: bool,
    /// Made logs whose requests and clients are those of these access logs
    #[arg(long, value_name = "FILE", num_args = 1.., conflicts_with = "made")]
    natural: Vec<PathBuf>,
    /// With --made: keep the files of the last row in this folder, and print the command that joins them
    #[arg(long, value_name = "FOLDER", requires = "made")]
    keep: Option<PathBuf>,
}

/// The balancer that writes the mappings.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum RecordSource {
    /// Debian's pen: our collectors beside the C programs
    C,
    /// Our pen: our collectors, with the peer's port in the line and without
    Ours,
    /// HAProxy, as docs/guide/behind-haproxy-and-others.md has it: likewise
    Haproxy,
    /// nginx, likewise; it logs no port
    Nginx,
    /// nginx's stream module, which sees connections only
    NginxStream,
    /// The kernel by nftables and conntrack, in a network of its own; needs root
    Kernel,
}

/// Measures and prints a table.
///
/// # Errors
/// When a program is missing or fails.
pub fn run(args: &AccuracyArgs) -> Result<(), ActionError> {
    let made = || {
        made::run(&made::MadeRun {
            row: args.row.clone(),
            seed: args.seed,
            quick: args.quick,
            natural: args.natural.clone(),
            keep: args.keep.clone(),
        })
    };
    if args.made || !args.natural.is_empty() {
        return made();
    }
    if !args.all {
        return real(args, args.balancer);
    }
    let made = made();
    // The last of them leaves the machine's network.
    for source in [
        RecordSource::Ours,
        RecordSource::Haproxy,
        RecordSource::Nginx,
        RecordSource::NginxStream,
        RecordSource::Kernel,
    ] {
        println!("\nReal programs, records of {source:?}:\n");
        if let Err(error) = real(args, source) {
            println!("left out: {error}");
        }
    }
    made
}

/// The rows of real programs.
fn real(args: &AccuracyArgs, source: RecordSource) -> Result<(), ActionError> {
    if source == RecordSource::Kernel {
        enter_own_network()?;
    }
    let requests = if args.quick { 2_000 } else { 6_000 };
    let chosen = |row: &&Row| {
        args.row.as_ref().is_none_or(|name| row.name.contains(name))
            && match source {
                RecordSource::C => row.is_for_all(),
                RecordSource::Ours => true,
                // It is not told IPv6 clients by the PROXY protocol here, and answers bad requests itself.
                RecordSource::Haproxy => !row.v6 && !matches!(row.name, "odd" | "all"),
                // It ends TLS where it reads requests, and sees too little where it does not.
                RecordSource::Nginx => {
                    !row.v6
                        && row.sending.tls.is_none()
                        && !matches!(row.name, "odd" | "all" | "busy")
                }
                // What is asked makes no difference to them.
                RecordSource::NginxStream | RecordSource::Kernel => {
                    matches!(row.name, "single" | "keep-alive" | "tls" | "mixed" | "varied")
                }
            }
    };
    let rows: Vec<&Row> = ROWS.iter().filter(chosen).collect();
    if rows.is_empty() {
        let names: Vec<&str> = ROWS.iter().map(|row| row.name).collect();
        return Err(ActionError::new(format!(
            "no row is named so; there are {}",
            names.join(", ")
        )));
    }
    println!(
        "Lines that name the right client, in per cent of all lines; {requests} requests a row, 48 at a \
         time, 200 clients, 3 servers.\n"
    );
    if source != RecordSource::C {
        return ours::run((&rows, source), requests, args.seed, args.brief);
    }
    println!("{}", if args.brief { BRIEF } else { WHOLE });
    let mut marked = Marked::default();
    for row in rows {
        let (live, offline) = (live(row, requests, args.seed)?, offline(row, requests, args.seed)?);
        marked.add(&live, &offline);
        if args.brief {
            brief(row, &live, &offline);
            continue;
        }
        line(row, "live", "C penlogd", &live.c);
        maybe(row, "live", "penlogd", live.ours.as_ref());
        maybe(row, "live", "penlogd, our penlog", live.shipped.as_ref());
        line(row, "offline", "C mergelogs", &offline.c);
        maybe(row, "offline", "mergelogs", offline.ours.as_ref());
    }
    println!("\n{marked}");
    Ok(())
}

const WHOLE: &str = "\
| traffic | road | program | right % | certain % | wrong among certain | likely % (wrong) | none % | lost |
|---|---|---|---:|---:|---:|---:|---:|---:|";

const BRIEF: &str = "\
| traffic | C penlogd | penlogd | penlogd, our penlog | C mergelogs | mergelogs |
|---|---:|---:|---:|---:|---:|";

/// One line: the shares, and what is lost where something is.
fn brief(row: &Row, live: &Live, offline: &Offline) {
    let cell = |score: Option<&Score>| match score {
        Some(score) if score.lost() > 0 => {
            let lost = share(score.lost(), score.lines);
            format!("{:.1} %, {lost:.1} % lost", score.right_share())
        }
        Some(score) => format!("{:.1} %", score.right_share()),
        None => "not built".to_owned(),
    };
    println!(
        "| {} | {} | {} | {} | {} | {} |",
        row.title,
        cell(Some(&live.c)),
        cell(live.ours.as_ref()),
        cell(live.shipped.as_ref()),
        cell(Some(&offline.c)),
        cell(offline.ours.as_ref())
    );
}

/// What our programs were sure of, over all rows.
#[derive(Default)]
struct Marked {
    lines: usize,
    certain: usize,
    wrong: usize,
    lost: usize,
}

impl Marked {
    fn add(&mut self, live: &Live, offline: &Offline) {
        for score in [&live.ours, &live.shipped, &offline.ours].into_iter().flatten() {
            self.lines += score.lines;
            self.certain += score.certain;
            self.wrong += score.certain_wrong;
            self.lost += score.lost() + score.doubled + score.strange;
        }
    }
}

impl fmt::Display for Marked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "Ours: of {} lines {} were marked as certain, {} of these wrongly; {} were lost, changed or \
             doubled.",
            self.lines, self.certain, self.wrong, self.lost
        )
    }
}

fn maybe(row: &Row, road: &str, program: &str, score: Option<&Score>) {
    match score {
        Some(score) => line(row, road, program, score),
        None => println!("| {} | {road} | {program} | not built | | | | | |", row.title),
    }
}

fn line(row: &Row, road: &str, program: &str, score: &Score) {
    let right = score.right_share();
    let rest = if score.marked {
        format!(
            "{:.1} | {} of {} | {:.1} ({}) | {:.1}",
            share(score.certain, score.lines),
            score.certain_wrong,
            score.certain,
            share(score.likely, score.lines),
            score.likely_wrong,
            share(score.none, score.lines),
        )
    } else {
        "| | |".to_owned()
    };
    let mut lost = score.lost().to_string();
    if score.doubled + score.strange > 0 {
        lost += &format!(" (+{} not sent)", score.doubled + score.strange);
    }
    println!("| {} | {road} | {program} | {right:.1} | {rest} | {lost} |", row.title);
}
