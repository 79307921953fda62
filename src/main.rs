//! pen: arguments in, an exit status out. The library does the work.

use std::error::Error;
use std::io::{self, Write as _};
use std::process::ExitCode;

use pen::command::cli::{PenArgs, PenMode};
use pen::operate::run::{RunPlan, run};
use pen_daemon::error::{Exit, complain};

fn main() -> ExitCode {
    let args = match PenArgs::read(std::env::args_os()) {
        Ok(args) => args,
        Err(error) => {
            let _ = error.print(); // the reader has closed the pipe: nothing is left to report to
            return if error.use_stderr() { Exit::Misused } else { Exit::Done }.into();
        }
    };
    let misused = |error| complain("pen", &error, Exit::Misused).into();
    let plan = match RunPlan::new(&args) {
        Ok(plan) => plan,
        Err(error) => return misused(error),
    };
    if args.mode() != PenMode::Run
        && let Some(warning) = plan.warning()
    {
        eprintln!("pen: {warning}");
    }
    match args.mode() {
        PenMode::Run => run(&plan).unwrap_or_else(|error| failed(&*error)),
        PenMode::Check => plan.check().map_or_else(misused, |()| Exit::Done.into()),
        PenMode::Explain => print(&plan.explain()),
        PenMode::CheckAndExplain => plan.check().map_or_else(misused, |()| print(&plan.explain())),
    }
}

fn print(text: &str) -> ExitCode {
    let _ = io::stdout().write_all(text.as_bytes()); // the reader has closed the pipe: it has read enough
    Exit::Done.into()
}

fn failed(error: &dyn Error) -> ExitCode {
    complain("pen", error, Exit::Failed).into()
}
