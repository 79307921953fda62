//! Finds common differences between the timestamps of equal requests in both logs, in whole
//! seconds. A rare request weighs more.

use super::series::Series;
use super::{SECOND, WORST};

/// Offsets that are examined more closely.
const CANDIDATES: usize = 12;
/// Pairs of seconds that are compared at most; rare requests come first.
const BUDGET: usize = 1 << 25;
/// The weight of one line, spread over all mappings that may match.
const ONE: u64 = 1 << 20;
/// Candidates are further apart than this, in seconds.
const CLEARANCE: usize = 2;

/// The most common differences in microseconds, rounded to whole seconds, most common first.
pub(super) fn candidates(series: &[Series]) -> Vec<i64> {
    let mut votes = vec![0_u64; place(WORST).unwrap_or(0) + 1];
    let mut spent = 0;
    for Series { mappings, lines } in series {
        let (ours, theirs) = (by_second(mappings), by_second(lines));
        spent += ours.len() * theirs.len();
        if spent > BUDGET {
            break;
        }
        let say = ONE / mappings.len().max(lines.len()) as u64;
        for &(line, lines) in &theirs {
            // Sorted, so mappings within a day are one range.
            let from = ours.partition_point(|&(second, _)| second < line - WORST);
            for &(mapping, mappings) in &ours[from..] {
                let Some(place) = place(line - mapping) else { break };
                votes[place] += say * lines.min(mappings);
            }
        }
    }
    // A request may cross into the next second, and a clock offset is no whole number of seconds.
    let around = |at: usize| -> u64 {
        let (from, to) = (at.saturating_sub(1), (at + 2).min(votes.len()));
        votes[from..to].iter().sum()
    };
    let zero = votes.len() / 2;
    let voted = (0..votes.len()).filter(|at| votes[*at] > 0);
    let mut free: Vec<_> =
        voted.map(|at| ((around(at), std::cmp::Reverse(at.abs_diff(zero))), at)).collect();
    let mut found: Vec<usize> = Vec::new();
    while found.len() < CANDIDATES
        && let Some(&(_, next)) = free.iter().max_by_key(|(key, _)| *key)
    {
        free.retain(|(_, at)| at.abs_diff(next) > CLEARANCE);
        found.push(next);
    }
    found
        .into_iter()
        .filter_map(|at| i64::try_from(at).ok())
        .map(|at| (at - WORST) * SECOND)
        .collect()
}

/// The index of the votes for a difference in seconds; `None` beyond [`WORST`].
fn place(difference: i64) -> Option<usize> {
    usize::try_from(difference + WORST).ok().filter(|_| difference <= WORST)
}

/// The number of times in each second, sorted.
fn by_second(times: &[i64]) -> Vec<(i64, u64)> {
    let mut seconds: Vec<(i64, u64)> = Vec::new();
    for second in times.iter().map(|time| time.div_euclid(SECOND)) {
        match seconds.last_mut() {
            Some((last, count)) if *last == second => *count += 1,
            _ => seconds.push((second, 1)),
        }
    }
    seconds
}
