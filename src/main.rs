//! pen: arguments in, an exit code out. See the library for what it does.

use std::error::Error;
use std::io::Write as _;
use std::process::ExitCode;

use pen::command::cli::PenArgs;
use pen::operate::run::{RunPlan, run};

const FAILED: u8 = 1;
const MISUSED: u8 = 2;

fn main() -> ExitCode {
    let args = match PenArgs::read(std::env::args_os()) {
        Ok(args) => args,
        Err(error) => {
            // A closed pipe is an end like others.
            error.print().unwrap_or_default();
            return if error.use_stderr() { ExitCode::from(MISUSED) } else { ExitCode::SUCCESS };
        }
    };
    let plan = match RunPlan::new(&args) {
        Ok(plan) => plan,
        Err(error) => return complain(&error, MISUSED),
    };
    if args.check
        && let Err(error) = plan.check()
    {
        return complain(&error, MISUSED);
    }
    if args.check || args.explain {
        let said = if args.explain { plan.explain() } else { String::new() };
        std::io::stdout().write_all(said.as_bytes()).unwrap_or_default();
        return ExitCode::SUCCESS;
    }
    run(&plan).unwrap_or_else(|error| complain(&*error, FAILED))
}

fn complain(error: &dyn Error, code: u8) -> ExitCode {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    for line in text.lines() {
        eprintln!("pen: {line}");
    }
    ExitCode::from(code)
}
