//! The most memory that a join takes, with inputs that are hard on it: many logs open at once, many
//! lines in few bytes, all lines in one second.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, BufWriter, Write as _};
use std::path::{Path, PathBuf};

use super::cost::Cost;
use super::input::{Plan, client};
use super::join::{BASE, joining};
use super::{SpeedArgs, data_folder, ours};
use crate::{ActionError, Doing};

/// Logs that all cover the same time.
const LOGS: usize = 1_000;
/// Bytes in a log that has nothing but line ends.
const EMPTY: usize = 64 << 20;

/// Prints a row for each shape.
pub(super) fn of_joins(args: &SpeedArgs) -> Result<(), ActionError> {
    println!("\njoin-memory: {} lines in different shapes, medians of {}", args.lines, args.rounds);
    println!("  {:<44} {:>9} {:>9} {:>9}", "", "wall s", "CPU s", "MiB");
    let base = Plan { lines: args.lines, ..BASE };
    let of_plan = |name: &str, plan: Plan| -> Result<(), ActionError> {
        row(args, name, joining(&plan.make(&data_folder())?, &[]))
    };
    of_plan("4 logs", base)?;
    of_plan("1 log", Plan { servers: 1, ..base })?;
    let many = Plan { servers: LOGS, ..base };
    of_plan("1,000 logs at once", many)?;
    let gzipped = many.make(&data_folder())?.gzipped()?;
    row(args, "1,000 gzipped logs at once", joining(&gzipped, &[]))?;
    of_plan("4 logs of one second", Plan { rate: args.lines.max(1), ..base })?;
    row(args, "4 logs of 8 kB lines and 1.2 M lone mappings", long_lines(&data_folder())?)?;
    let empty = line_ends(&data_folder()).doing("write a log of line ends")?;
    let mappings = base.make(&data_folder())?.mappings;
    row(args, "4 logs of nothing but line ends, 64 MiB each", four(&mappings, |_| empty.clone()))
}

/// The arguments for four servers.
fn four(mappings: &Path, log: impl Fn(usize) -> PathBuf) -> Vec<OsString> {
    let logs = (1..=4).map(|server| {
        let mut argument = OsString::from(format!("10.0.0.{server}:"));
        argument.push(log(server));
        argument
    });
    ["-p".into(), mappings.into()].into_iter().chain(logs).collect()
}

fn row(args: &SpeedArgs, name: &str, arguments: Vec<OsString>) -> Result<(), ActionError> {
    let command = [vec![ours("mergelogs").into_os_string()], arguments].concat();
    let costs: Result<Vec<_>, _> = (0..args.rounds.max(1)).map(|_| Cost::of(&command)).collect();
    let cost = Cost::median(&costs?);
    println!(
        "  {name:<44} {:>9.3} {:>9.3} {:>9.1}",
        cost.wall.as_secs_f64(),
        cost.cpu.as_secs_f64(),
        cost.memory as f64 / 1024.0
    );
    Ok(())
}

fn line_ends(folder: &Path) -> io::Result<PathBuf> {
    let path = folder.join("line-ends.log");
    if !fs::metadata(&path).is_ok_and(|meta| meta.len() == EMPTY as u64) {
        File::create(&path)?.write_all(&vec![b'\n'; EMPTY])?;
    }
    Ok(path)
}

/// Long lines of one second, after ten minutes of requests of which nearly none was logged.
fn long_lines(folder: &Path) -> Result<Vec<OsString>, ActionError> {
    const START: usize = 1_772_323_200;
    const MAPPINGS: usize = 1_200_000;
    let folder = folder.join("long-lines");
    let done = folder.join("done");
    let arguments = four(&folder.join("pen.log"), |n| folder.join(format!("access-{n}.log")));
    let write = || -> io::Result<()> {
        fs::create_dir_all(&folder)?;
        let create = |name: String| File::create(folder.join(name)).map(BufWriter::new);
        let mut mappings = create("pen.log".to_owned())?;
        for n in 0..MAPPINGS {
            let (second, server) = (START + n / 2_400, n % 4 + 1);
            let client = client(n);
            writeln!(mappings, "{client} {second} 10.0.0.{server} GET /{n:09}/ HTTP/1.1")?;
        }
        let padding = "y".repeat(8_000);
        for server in 1..=4 {
            let mut log = create(format!("access-{server}.log"))?;
            for n in 0..7_000 {
                let asked = MAPPINGS - 1_000 + n % 250 * 4 + server - 1;
                let stamp = "01/Mar/2026:00:08:20 +0000";
                let request = format!("GET /{asked:09}/{padding} HTTP/1.1");
                writeln!(log, "127.0.0.1 - - [{stamp}] \"{request}\" 200 5")?;
            }
            log.flush()?;
        }
        mappings.flush()?;
        File::create(&done).map(drop)
    };
    if !done.exists() {
        write().doing("write logs of long lines")?;
    }
    Ok(arguments)
}
