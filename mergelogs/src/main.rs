//! `mergelogs`: access logs of several servers and the balancer's mapping log in, one log that names
//! the real clients out, in time order.
//!
//! [`cli`] defines the arguments, [`config`] what they mean. [`input`] opens and parses archives on
//! threads of its own, [`clocks`] compares the servers' clocks with the balancer's, [`join`] merges and
//! attributes the lines, [`output`] puts the clients in and writes, [`report`] accounts for every line.

mod check;
mod cli;
mod clocks;
mod config;
mod error;
mod idle_options;
mod input;
mod join;
mod line_query;
mod misfit;
mod output;
mod passes;
mod report;
mod second_places;
mod servers;
mod zone;

use std::io::Write as _;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use clap::Parser as _;
use pen_daemon::arguments::without_wrong_tip;
use pen_daemon::error::Exit;
use pen_records::rewrite::explanation::{HEADER, WHY_COLUMN};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

use crate::cli::{MergeArgs, ReportStyle};
use crate::config::MergeConfig;
use crate::error::MergeError;
use crate::input::shares::MemoryShares;
use crate::input::{all, archive};
use crate::join::JoinSetup;
use crate::misfit::{RunInputs, TypedWords};
use crate::output::Output;
use crate::report::JoinReport;
use crate::report::progress::Progress;

fn main() -> ExitCode {
    let args = match MergeArgs::try_parse() {
        Ok(args) => args,
        Err(error) => {
            // A closed pipe is no reason for a second error.
            let error = without_wrong_tip(error);
            let _ = error.print();
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(Exit::Misused.code()));
        }
    };
    let checked = args.check.then(|| args.format.clone());
    if let Some(formats) = &checked
        && args.logs.is_empty()
        && args.mappings.is_empty()
    {
        return check::formats(formats).into();
    }
    let mut config = match MergeConfig::new(args) {
        Ok(config) => config,
        Err(error) => {
            let exit = pen_daemon::error::complain("mergelogs", &error, Exit::Misused);
            say("try 'mergelogs --help'");
            return exit.into();
        }
    };
    for remark in &config.remarks {
        complain(remark);
    }
    if let Some(formats) = &checked {
        let exit = check::inputs(&mut config, formats);
        return ExitCode::from(exit.map_or_else(MergeError::report, Exit::code));
    }
    let signal = watch_signals();
    ExitCode::from(run(&mut config, &signal).map_or_else(MergeError::report, Exit::code))
}

fn run(config: &mut MergeConfig, signal: &Arc<AtomicUsize>) -> Result<Exit, MergeError> {
    let started = Instant::now();
    let (mappings, logs) = all::look(config)?;
    let config = &*config;
    let clocks = clocks::compare(config, &mappings, &logs);
    let origins = mappings.iter().chain(logs.iter().map(|(_, head)| head));
    let total = origins.filter_map(|head| archive::size(&head.origin)).sum();
    let mut progress = Progress::new(total, config.quiet);
    let shares = MemoryShares::default();
    let mut output = match &config.output {
        Some(path) => Output::create(path, signal)?,
        None => Output::stdout(signal),
    };
    let explain = config.explain.as_deref().map(|path| Output::create(path, signal));
    let mut explain = explain.transpose()?;
    if let Some(explain) = &mut explain {
        explain.buf.extend_from_slice(HEADER);
        if config.candidates {
            explain.buf.extend_from_slice(WHY_COLUMN);
        }
        explain.buf.push(b'\n');
    }
    let ahead: Vec<_> = clocks.servers.iter().map(|clock| clock.correction()).collect();
    let setup = JoinSetup {
        config,
        shares: shares.clone(),
        signal: Arc::clone(signal),
        progress: &mut progress,
        ahead: &ahead,
        tracks: clocks.tracks.clone(),
        unknown: &clocks.unknown,
        corrected: &clocks.corrected,
        balancers: clocks.balancers,
        logs: logs.clone(),
        mappings: mappings.clone(),
    };
    let joined = join::run(setup, &mut output, explain.as_mut());
    progress.clear();
    let tally = joined?;
    output.finish()?;
    explain.map(Output::finish).transpose()?;
    let bytes = shares.progress.load(Ordering::Relaxed);
    let mut report = JoinReport::new(config, &clocks, &tally, started.elapsed(), bytes);
    let inputs = RunInputs { config, mappings: &mappings, logs: &logs, clocks: &clocks.servers };
    let lines = report.mapping_lines(&mappings);
    let mappings_read = (&lines[..], report.has_mappings_elsewhere());
    let typed = TypedWords::of_process();
    report.misfits = misfit::of_run(inputs, &report.counts(), mappings_read, &typed);
    for warning in report.warnings() {
        complain(&warning);
    }
    for answer in &tally.answers {
        say(answer.trim_end());
    }
    if config.question.is_some() && tally.answers.is_empty() {
        complain("there is no line to explain: --explain-line found none");
    }
    // What was asked for is said, quiet or not.
    if config.quiet
        && let Some(audit) = &tally.audit
    {
        say(audit.text().trim_end());
    }
    if !config.quiet {
        let text = match config.report {
            ReportStyle::Text => report.text(),
            ReportStyle::Json => report.json(),
        };
        say(text.trim_end());
    }
    Ok(report.exit())
}

/// Catches signals that stop the run; the returned number is that of the first signal, 0 before.
fn watch_signals() -> Arc<AtomicUsize> {
    let number = Arc::new(AtomicUsize::new(0));
    for signal in [SIGINT, SIGTERM, SIGHUP] {
        let value = usize::try_from(signal).unwrap_or(0);
        // Refused only for signals that cannot be caught.
        let _ = signal_hook::flag::register_usize(signal, Arc::clone(&number), value);
    }
    number
}

/// Prints a line with the program's name to standard error.
pub(crate) fn complain(text: &str) {
    pen_daemon::error::say("mergelogs", text);
}

/// Prints text without the program's name to standard error.
pub(crate) fn say(text: &str) {
    // Standard error is closed: nothing is left to report to.
    let _ = writeln!(std::io::stderr(), "{text}");
}
