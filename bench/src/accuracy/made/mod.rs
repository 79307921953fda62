//! Made sites: logs by a plan and a seed, joined by our programs without any other program.
//!
//! [`rows`] lists the sites, `natural` makes them of logs that users have, [`join`] runs the programs over them,
//! `table` prints what came of it.

pub mod join;
mod natural;
mod rows;
mod table;

use std::path::PathBuf;

use pen_testing::site::{MadeSite, SitePlan, made_of, make};

use self::table::{MadeResult, MadeTable};
use crate::ActionError;

pub use rows::{MadeRow, rows};

/// Which made sites are joined, and how.
#[derive(Clone, Debug)]
pub struct MadeRun {
    /// Only the row with this name, or if there is none, the rows whose name holds this.
    pub row: Option<String>,
    /// The seed.
    pub seed: u64,
    /// A third of the requests; of natural logs the first 20,000 lines.
    pub quick: bool,
    /// Logs whose lines are the traffic, in place of made requests.
    pub natural: Vec<PathBuf>,
    /// A folder that keeps the files of the last row.
    pub keep: Option<PathBuf>,
}

/// Joins made sites and prints a table.
///
/// # Errors
/// When a program is missing or fails, when an exact line is wrong, or more than one of 10,000 certain lines.
pub fn run(args: &MadeRun) -> Result<(), ActionError> {
    let is_named = |row: &MadeRow| args.row.as_ref() == Some(&row.name);
    let has_one = rows().iter().any(is_named);
    let holds = |row: &MadeRow| args.row.as_ref().is_none_or(|part| row.name.contains(part));
    let chosen = |row: &MadeRow| if has_one { is_named(row) } else { holds(row) };
    let mut table = MadeTable::default();
    if args.natural.is_empty() {
        for row in rows().into_iter().filter(chosen) {
            let requests = if args.quick { row.plan.requests / 3 } else { row.plan.requests };
            let plan = SitePlan { seed: args.seed, requests, ..row.plan.clone() };
            table.add(judge(&row, &plan, &make(&plan), args)?);
        }
    } else {
        let most = if args.quick { 20_000 } else { usize::MAX };
        for path in &args.natural {
            let demands = natural::demands(path, most)?;
            println!("{}: {} lines are of use", path.display(), demands.len());
            for row in natural::rows(path, &demands).into_iter().filter(chosen) {
                let plan = SitePlan { seed: args.seed, ..row.plan.clone() };
                table.add(judge(&row, &plan, &made_of(&plan, demands.clone()), args)?);
            }
        }
    }
    if table.is_empty() {
        return Err(ActionError::new("no made site is named so"));
    }
    print!("{table}");
    table.verdict()
}

fn judge(
    row: &MadeRow,
    plan: &SitePlan,
    site: &MadeSite,
    args: &MadeRun,
) -> Result<MadeResult, ActionError> {
    let offline = join::offline(site, args.keep.as_deref())?;
    let live = join::live(plan, site, args.keep.as_deref())?;
    Ok(MadeResult { name: row.name.clone(), aim: row.aim, offline, live })
}
