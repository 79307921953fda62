//! The option `--check`: formats and inputs are looked at, and nothing is merged.

use std::io::Write as _;

use pen_records::access::review;

use pen_daemon::error::Exit;

use crate::config::MergeConfig;
use crate::error::MergeError;
use crate::input::all;
use crate::misfit::{RunInputs, TypedWords};
use crate::report::text::clock_words;
use crate::{clocks, complain, misfit, say};

/// Says what formats can achieve, without inputs. Returns the exit status.
pub(crate) fn formats(formats: &[String]) -> u8 {
    if formats.is_empty() {
        complain("--check takes logs, as a merge does, or --format SPEC");
        say("try 'mergelogs --help'");
        return Exit::Misused.code();
    }
    let (text, code) = review::check(formats);
    write(&text);
    code
}

/// Reports the inputs and how well the logs fit each other, after the abilities of the formats.
pub(crate) fn inputs(config: &mut MergeConfig, formats: &[String]) -> Result<Exit, MergeError> {
    let (mappings, logs) = all::look(config)?;
    let config = &*config;
    let clocks = clocks::compare(config, &mappings, &logs);
    let inputs = RunInputs { config, mappings: &mappings, logs: &logs, clocks: &clocks.servers };
    let review = misfit::review(inputs, &TypedWords::of_process());
    if !formats.is_empty() {
        write(&(review::check(formats).0 + "\n"));
    }
    write(&review.to_string());
    for (index, server) in config.servers.iter().enumerate() {
        for clock in clock_words(&clocks, index) {
            write(&format!("server {}: {clock}\n", server.label()));
        }
    }
    Ok(if review.is_good() { Exit::Done } else { Exit::Misfit })
}

fn write(text: &str) {
    // Standard output is closed: nobody reads on.
    let _ = std::io::stdout().write_all(text.as_bytes());
}
