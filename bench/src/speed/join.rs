//! The offline join, beside programs that do less with the same files.

use std::ffi::OsString;
use std::path::Path;
use std::time::Duration;

use super::cost::Cost;
use super::input::{Input, Plan};
use super::{SpeedArgs, data_folder, judge, ours, theirs};
use crate::{ActionError, Doing as _};

/// A program as it is measured.
struct JoinContender {
    name: String,
    command: Vec<OsString>,
    costs: Vec<Cost>,
}

impl JoinContender {
    fn new(name: impl Into<String>, program: &Path, arguments: Vec<OsString>) -> Self {
        let command = [vec![program.into()], arguments].concat();
        Self { name: name.into(), command, costs: Vec::new() }
    }

    /// A program of the system; `None` if it is not installed.
    fn theirs(name: &str, arguments: Vec<OsString>) -> Option<Self> {
        let installed = theirs(name).map(|program| Self::new(name, &program, arguments));
        if installed.is_none() {
            println!("  {name} is not installed and left out");
        }
        installed
    }
}

/// Runs each in turn, several times over, so that what else the machine does hits all alike.
fn race(contenders: &mut [JoinContender], rounds: usize) -> Result<Vec<Cost>, ActionError> {
    for _ in 0..rounds.max(1) {
        for contender in &mut *contenders {
            contender.costs.push(Cost::of(&contender.command)?);
        }
    }
    Ok(contenders.iter().map(|contender| Cost::median(&contender.costs)).collect())
}

pub(super) const BASE: Plan = Plan { lines: 0, rate: 500, servers: 4, clients: 5_000 };

/// Plain files.
pub(super) fn plain(args: &SpeedArgs) -> Result<(), ActionError> {
    let plan = Plan { lines: args.lines, ..BASE };
    let input = plan.make(&data_folder())?;
    println!(
        "\njoin: {} lines over {} servers and as many mappings, {} lines/s, medians of {}",
        plan.lines, plan.servers, plan.rate, args.rounds
    );
    let all: Vec<OsString> = input.files().map(Into::into).collect();
    let logs: Vec<OsString> = input.logs().map(Into::into).collect();
    let count = [vec!["-l".into()], all.clone()].concat();
    let mut contenders: Vec<_> = [
        JoinContender::theirs("wc", count),
        JoinContender::theirs("cat", all),
        JoinContender::theirs("mergelog", logs),
        Some(ours_joining(&input, "mergelogs of ours", &[])),
    ]
    .into_iter()
    .flatten()
    .collect();
    if args.with_c {
        let c = joining(&input, &["-j".into(), "2".into()]);
        contenders.extend(JoinContender::theirs("mergelogs", c));
    }
    let costs = race(&mut contenders, args.rounds)?;
    table(&contenders, &costs, plan.lines);
    for contender in contenders.iter().filter(|contender| contender.name.contains("mergelogs")) {
        let verdict = judge::joined(&contender.command, &input)?;
        println!("  {}: {verdict}", contender.name);
    }
    Ok(())
}

/// Gzipped files.
pub(super) fn gzipped(args: &SpeedArgs) -> Result<(), ActionError> {
    let plan = Plan { lines: args.lines, ..BASE };
    let input = plan.make(&data_folder())?.gzipped()?;
    println!("\njoin-gz: the same through gzip -6, medians of {}", args.rounds);
    let all: Vec<OsString> = input.files().map(Into::into).collect();
    let this = std::env::current_exe().doing("find this program")?;
    let alone = [vec!["speed".into(), "inflate".into(), "--".into()], all.clone()].concat();
    let mut contenders: Vec<_> = [
        Some(JoinContender::new("inflating alone", &this, alone)),
        JoinContender::theirs("gzip", [vec!["-dc".into()], all].concat()),
        Some(ours_joining(&input, "mergelogs of ours", &[])),
    ]
    .into_iter()
    .flatten()
    .collect();
    let costs = race(&mut contenders, args.rounds)?;
    table(&contenders, &costs, plan.lines);
    Ok(())
}

/// The same number of lines in other shapes: the time a line takes should not depend on them.
pub(super) fn flat(args: &SpeedArgs) -> Result<(), ActionError> {
    let lines = args.lines / 4;
    println!("\njoin-flat: {lines} lines each, medians of {}", args.rounds);
    println!("  {:<44} {:>10} {:>10} {:>9}", "", "ns a line", "CPU ns", "x wc -l");
    let base = Plan { lines, ..BASE };
    for window in ["2", "600", "3600"] {
        shape(args, base, &["-j".into(), window.into()], &format!("window {window} s"))?;
    }
    for rate in [50, 500, 5_000] {
        shape(args, Plan { rate, ..base }, &[], &format!("{rate} lines/s"))?;
    }
    for servers in [1, 4, 16] {
        shape(args, Plan { servers, ..base }, &[], &format!("{servers} servers"))?;
    }
    Ok(())
}

fn shape(
    args: &SpeedArgs,
    plan: Plan,
    options: &[OsString],
    name: &str,
) -> Result<(), ActionError> {
    let input = plan.make(&data_folder())?;
    let count = [vec!["-l".into()], input.files().map(Into::into).collect()].concat();
    let mut contenders = vec![ours_joining(&input, name, options)];
    contenders.extend(JoinContender::theirs("wc", count));
    let costs = race(&mut contenders, args.rounds)?;
    let per_line = |time: Duration| time.as_secs_f64() * 1e9 / plan.lines as f64;
    let beside = costs.get(1).map_or(f64::NAN, |wc| ratio(costs[0].wall, wc.wall));
    println!(
        "  {name:<44} {:>10.0} {:>10.0} {beside:>9.2}",
        per_line(costs[0].wall),
        per_line(costs[0].cpu)
    );
    Ok(())
}

fn ours_joining(input: &Input, name: &str, options: &[OsString]) -> JoinContender {
    JoinContender::new(name, &ours("mergelogs"), joining(input, options))
}

/// `-p MAPPINGS server:file …`, as both programs take it.
pub(super) fn joining(input: &Input, options: &[OsString]) -> Vec<OsString> {
    let mut arguments = options.to_vec();
    arguments.extend(["-p".into(), input.mappings.clone().into_os_string()]);
    for server in &input.servers {
        let mut argument = OsString::from(format!("{}:", server.addr));
        argument.push(&server.log);
        arguments.push(argument);
    }
    arguments
}

fn table(contenders: &[JoinContender], costs: &[Cost], lines: u64) {
    let of = |name: &str| {
        contenders.iter().zip(costs).find(|(c, _)| c.name == name).map(|(_, cost)| *cost)
    };
    let bases: Vec<_> = ["wc", "mergelog", "inflating alone"]
        .into_iter()
        .filter_map(|name| of(name).map(|cost| (name, cost)))
        .collect();
    print!("  {:<20} {:>9} {:>9} {:>9} {:>12}", "", "wall s", "CPU s", "MiB", "lines/s");
    for (name, _) in &bases {
        print!(" {:>20}", format!("x {name}, CPU"));
    }
    println!();
    for (contender, cost) in contenders.iter().zip(costs) {
        print!(
            "  {:<20} {:>9.3} {:>9.3} {:>9.1} {:>12.0}",
            contender.name,
            cost.wall.as_secs_f64(),
            cost.cpu.as_secs_f64(),
            cost.memory as f64 / 1024.0,
            lines as f64 / cost.wall.as_secs_f64()
        );
        for (_, base) in &bases {
            let both =
                format!("{:.2}, {:.2}", ratio(cost.wall, base.wall), ratio(cost.cpu, base.cpu));
            print!(" {both:>20}");
        }
        println!();
    }
}

fn ratio(one: Duration, other: Duration) -> f64 {
    one.as_secs_f64() / other.as_secs_f64()
}
