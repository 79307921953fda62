//! Made sites: logs by a plan and a seed, joined by our programs without any other program.
//!
//! [`rows`] lists the sites, [`join`] runs the programs over them, `table` prints what came of it.

pub mod join;
mod rows;
mod table;

use std::path::PathBuf;

use pen_testing::site::{MadeSite, SitePlan, make};

use self::table::{MadeResult, MadeTable};
use crate::ActionError;

pub use rows::{MadeRow, rows};

/// Which made sites are joined, and how.
#[derive(Clone, Debug)]
pub struct MadeRun {
    /// Only the rows whose name holds this.
    pub row: Option<String>,
    /// The seed.
    pub seed: u64,
    /// A third of the requests.
    pub quick: bool,
    /// A folder that keeps the files of the last row.
    pub keep: Option<PathBuf>,
}

/// Joins made sites and prints a table.
///
/// # Errors
/// When a program is missing or fails, when an exact line is wrong, or more than one of 10,000 certain lines.
pub fn run(args: &MadeRun) -> Result<(), ActionError> {
    let mut rows = rows();
    rows.retain(|row| args.row.as_ref().is_none_or(|part| row.name.contains(part)));
    if rows.is_empty() {
        return Err(ActionError::new("no made site is named so"));
    }
    let mut table = MadeTable::default();
    for row in rows {
        let requests = if args.quick { row.plan.requests / 3 } else { row.plan.requests };
        let plan = SitePlan { seed: args.seed, requests, ..row.plan.clone() };
        let site = make(&plan);
        table.add(judge(&row, &site, args)?);
    }
    print!("{table}");
    table.verdict()
}

fn judge(row: &MadeRow, site: &MadeSite, args: &MadeRun) -> Result<MadeResult, ActionError> {
    let offline = join::offline(site, args.keep.as_deref())?;
    let live = join::live(site)?;
    Ok(MadeResult { name: row.name.clone(), aim: row.aim, offline, live })
}
