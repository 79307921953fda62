//! Says why most lines of a server find no mapping: a server that no mapping names, logs given to the wrong servers, other
//! times, other formats, other files.
//!
//! [`survey`] reads samples of the inputs into [`facts`], [`mappings`] those of mapping logs, [`kinds`] knows logs by
//! their looks. [`diagnose`] names the causes, of which [`causes`] has the words and [`remedy`] the command line to
//! run instead. The inputs are sampled only if a run looks wrong, and for `--check`.

mod causes;
mod check;
mod diagnose;
mod ends;
mod facts;
mod kinds;
mod mappings;
mod remedy;
mod survey;

use serde_json::{Value, json};

use self::causes::{Misfit, MisfitCause};
pub(crate) use self::check::InputReview;
pub(crate) use self::diagnose::ServerCounts;
use self::ends::ArchiveEnds;
pub(crate) use self::mappings::{MappingSample, SampledServer};
pub(crate) use self::remedy::TypedWords;
use self::survey::Survey;
use crate::clocks::ArchiveClock;
use crate::config::MergeConfig;
use crate::idle_options::idle_options;
use crate::input::heads::InputHead;

/// A misfit and what to do about it, in words.
#[derive(Clone, Debug)]
pub(crate) struct SaidMisfit {
    misfit: Misfit,
    text: String,
    remedy: Option<String>,
}

/// The inputs of a run.
#[derive(Clone, Copy)]
pub(crate) struct RunInputs<'a> {
    pub(crate) config: &'a MergeConfig,
    pub(crate) mappings: &'a [InputHead],
    pub(crate) logs: &'a [(usize, InputHead)],
    pub(crate) clocks: &'a [ArchiveClock],
}

/// Returns the misfits of a run. `counts` has the lines of each server, `mapping_lines` the lines of each mapping log and
/// how many of them were damaged; `elsewhere` is whether some were of servers without a log here.
pub(crate) fn of_run(
    inputs: RunInputs<'_>,
    counts: &[ServerCounts],
    (mapping_lines, elsewhere): (&[(u64, u64)], bool),
    typed: &TypedWords,
) -> Vec<SaidMisfit> {
    let is_worth_a_look =
        |counts: &ServerCounts| counts.is_suspect() || (elsewhere && counts.lacks_some());
    if !counts.iter().any(is_worth_a_look) {
        return Vec::new();
    }
    let RunInputs { config, mappings, logs, clocks } = inputs;
    // Lines that got wrong clients need no ends: there is time in common.
    let is_lost = counts.iter().any(|counts| counts.is_lost());
    let ends = if is_lost { ArchiveEnds::Read } else { ArchiveEnds::Skip };
    let mut facts = Survey { config, mappings, logs, clocks, ends }.run();
    // Of what could be read only once, the run knows how much was read.
    for (log, &(lines, damaged)) in facts.mapping_logs.iter_mut().zip(mapping_lines) {
        if !log.is_seen {
            (log.looked, log.understood) = (lines, lines.saturating_sub(damaged));
        }
    }
    let misfits = diagnose::diagnose(&facts, counts);
    misfits.into_iter().map(|misfit| SaidMisfit::new(misfit, typed)).collect()
}

/// Looks at the beginnings of the inputs and returns what a run would find.
pub(crate) fn review(inputs: RunInputs<'_>, typed: &TypedWords) -> InputReview {
    let RunInputs { config, mappings, logs, clocks } = inputs;
    let ends = ArchiveEnds::Skip;
    let facts = Survey { config, mappings, logs, clocks, ends }.run();
    // Without mapping logs only formats can be looked at.
    let misfits = diagnose::diagnose(&facts, &check::counts(&facts));
    let misfits =
        misfits.into_iter().filter(|misfit| !mappings.is_empty() || misfit.is_of_format());
    let misfits = misfits.map(|misfit| SaidMisfit::new(misfit, typed)).collect();
    let has_seen_all = !mappings.is_empty() && facts.mapping_logs.iter().all(|log| log.is_seen);
    let idle = if has_seen_all {
        idle_options(config, |place| facts.options.contains(&place))
    } else {
        Vec::new()
    };
    InputReview { facts, misfits, idle }
}

impl SaidMisfit {
    fn new(misfit: Misfit, typed: &TypedWords) -> Self {
        let remedy = typed.remedy(&misfit);
        Self { text: misfit.to_string(), remedy, misfit }
    }

    /// Returns the warning: what does not fit, and on a line of its own what to do.
    pub(crate) fn warning(&self) -> String {
        match &self.remedy {
            Some(remedy) => format!("{}\n{remedy}", self.text),
            None => self.text.clone(),
        }
    }

    /// Returns whether the misfit is that a mapping log is none, which says more than complaints about its lines.
    pub(crate) fn is_of_mapping_log(&self, name: &str) -> bool {
        matches!(&self.misfit.cause, MisfitCause::NoMappingLog { log, .. } if log == name)
    }

    /// Returns the misfit for the report in JSON.
    pub(crate) fn json(&self) -> Value {
        json!({
            "servers": self.misfit.servers,
            "lines": self.misfit.lines,
            "without_client": self.misfit.lost,
            "cause": self.misfit.cause.word(),
            "text": self.text,
            "remedy": self.remedy,
        })
    }
}
