//! What comes from outside, bent out of shape, through all that reads it: heads, bodies and answers of HTTP, headers of the
//! PROXY protocol, commands, configurations. Plain loops for the stable toolchain; `PEN_FUZZ_SECONDS` says for how
//! long.

mod checks;
mod seeds;

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use pen_testing::random::SeededRandom;

/// Bytes that mean something here.
const TELLING: &[u8] = b"\r\n: ,;\t0159afGH/.-_\0\x7f\x80\xff";

/// Inputs of a run without `PEN_FUZZ_SECONDS`: a number, so that each such run checks the same inputs.
const INPUTS: u64 = 50_000;

/// A few cuts, copies, changes and insertions, from one seed or two.
fn bent(random: &mut SeededRandom, seeds: &[&[u8]]) -> Vec<u8> {
    let mut bytes = seeds[random.below(seeds.len())].to_vec();
    for _ in 0..random.below(6) {
        let at = random.below(bytes.len());
        let telling = TELLING[random.below(TELLING.len())];
        match random.below(6) {
            0 => bytes.insert(at, telling),
            1 if !bytes.is_empty() => bytes[at] = telling,
            2 if !bytes.is_empty() => drop(bytes.remove(at)),
            3 => bytes.truncate(at),
            4 => {
                let end = (at + random.below(40)).min(bytes.len());
                let copy = bytes[at..end].to_vec();
                let to = random.below(bytes.len());
                bytes.splice(to..to, copy);
            }
            _ => {
                let other = seeds[random.below(seeds.len())];
                let from = random.below(other.len());
                bytes.splice(at..at, other[from..].iter().copied());
            }
        }
    }
    bytes
}

/// The name of a target in `fuzz/`, and its check.
type FuzzTarget = (&'static str, fn(&[u8]));

/// Mutates the seeds and the corpora of these fuzz targets, and runs their checks on the result for a while.
fn bend(seeds: &[&[u8]], targets: &[FuzzTarget]) {
    let corpus: Vec<Vec<u8>> = targets.iter().flat_map(|(name, _)| corpus(name)).collect();
    let seeds: Vec<&[u8]> = seeds.iter().copied().chain(corpus.iter().map(Vec::as_slice)).collect();
    let seeds = &seeds[..];
    let seconds = std::env::var("PEN_FUZZ_SECONDS").ok().and_then(|text| text.parse().ok());
    let begin = Instant::now();
    let is_enough = |inputs| match seconds {
        Some(seconds) => begin.elapsed() >= Duration::from_secs(seconds),
        None => inputs >= INPUTS,
    };
    let mut random = SeededRandom::new(seconds.unwrap_or(0));
    let told = |input: &[u8]| {
        let told = std::panic::catch_unwind(|| targets.iter().for_each(|(_, check)| check(input)));
        assert!(told.is_ok(), "a law is broken by b\"{}\"", input.escape_ascii());
    };
    seeds.iter().for_each(|seed| told(seed));
    let mut inputs = 0_u64;
    while !is_enough(inputs) {
        told(&bent(&mut random, seeds));
        inputs += 1;
    }
    println!("{inputs} inputs from {} seeds", seeds.len());
}

/// The inputs that `fuzz/corpus` keeps for a target, in a fixed order.
fn corpus(target: &str) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target);
    let entries = fs::read_dir(&folder).expect("each target has a corpus");
    let mut files: Vec<_> = entries.map(|entry| entry.expect("it is listed").path()).collect();
    files.sort();
    files.iter().map(|file| fs::read(file).expect("it can be read")).collect()
}

#[test]
fn no_bytes_panic_and_the_laws_of_http_hold_for_all() {
    bend(
        seeds::HTTP,
        &[
            ("http_requests", checks::http_requests),
            ("http_conversation", checks::http_conversation),
        ],
    );
}

#[test]
fn no_bytes_panic_as_a_proxy_header_and_none_is_believed_before_it_is_whole() {
    bend(seeds::PROXY, &[("proxy_header", checks::proxy_header)]);
}

#[test]
fn no_bytes_panic_as_commands_and_what_is_understood_can_be_said_again() {
    bend(
        seeds::COMMANDS,
        &[("command", checks::command), ("configuration", checks::configuration)],
    );
}
