//! How many lines name the right client.
//!
//! Each row is traffic of one manner, sent twice over a site of its own: once live, where all
//! collectors hear the same, and once with files, which both offline programs read. Mappings come from
//! the C `pen` throughout.

mod rows;
mod trial;

pub use rows::{ROWS, Row};
pub use trial::{Live, Offline, live, offline};

use crate::Failure;
use crate::stage::{Score, share};

/// What to measure.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// A third of the requests
    #[arg(long)]
    quick: bool,
    /// Only the rows whose name holds this
    #[arg(long, value_name = "NAME")]
    row: Option<String>,
    /// Another draw of visitors
    #[arg(long, value_name = "NUMBER", default_value_t = 1)]
    seed: u64,
}

/// Measures and prints a table.
///
/// # Errors
/// When a program is missing or fails.
pub fn run(args: &Args) -> Result<(), Failure> {
    let requests = if args.quick { 2_000 } else { 6_000 };
    let chosen = |row: &&Row| args.row.as_ref().is_none_or(|name| row.name.contains(name));
    let rows: Vec<&Row> = ROWS.iter().filter(chosen).collect();
    if rows.is_empty() {
        let names: Vec<&str> = ROWS.iter().map(|row| row.name).collect();
        return Err(Failure::new(format!("no row is named so; there are {}", names.join(", "))));
    }
    println!(
        "Lines that name the right client, in per cent of all lines; {requests} requests a row, 48 at a \
         time, 200 clients, 3 servers.\n"
    );
    println!(
        "| traffic | road | program | right % | certain % | wrong among certain | likely % (wrong) \
         | none % | lost |"
    );
    println!("|---|---|---|---:|---:|---:|---:|---:|---:|");
    for row in rows {
        let live = live(row, requests, args.seed)?;
        line(row, "live", "C penlogd", &live.c);
        maybe(row, "live", "penlogd", live.ours.as_ref());
        maybe(row, "live", "penlogd, our penlog", live.shipped.as_ref());
        let offline = offline(row, requests, args.seed)?;
        line(row, "offline", "C mergelogs", &offline.c);
        maybe(row, "offline", "mergelogs", offline.ours.as_ref());
    }
    Ok(())
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
