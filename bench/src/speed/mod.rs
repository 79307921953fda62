//! How fast the programs are.

use crate::Failure;

/// What to measure.
#[derive(clap::Args, Debug)]
pub struct Args {}

/// Measures.
///
/// # Errors
/// When a program is missing or fails.
pub fn run(args: &Args) -> Result<(), Failure> {
    let Args {} = args;
    Err(Failure::new("there is nothing to measure yet"))
}
