//! The times of both logs by request, sorted.

use super::ClockSample;

/// The times of one key, in microseconds, sorted.
#[derive(Debug)]
pub(super) struct Series {
    pub(super) mappings: Vec<i64>,
    pub(super) lines: Vec<i64>,
}

impl Series {
    /// Pairs up all keys that occur in neither log too often, rarest first.
    pub(super) fn paired(mappings: &ClockSample, lines: &ClockSample) -> Vec<Self> {
        let mut keyed: Vec<(u64, Self)> = Vec::new();
        for (&key, theirs) in &lines.seen {
            let Some(ours) = mappings.seen.get(&key) else { continue };
            if ours.len() <= mappings.most_each && theirs.len() <= lines.most_each {
                let sorted = |times: &[i64]| {
                    let mut times = times.to_vec();
                    times.sort_unstable();
                    times
                };
                keyed.push((key, Self { mappings: sorted(ours), lines: sorted(theirs) }));
            }
        }
        // Makes the order independent of the order of the map.
        keyed.sort_by_key(|(key, it)| (it.mappings.len().saturating_mul(it.lines.len()), *key));
        keyed.into_iter().map(|(_, series)| series).collect()
    }
}

/// The number of lines in all series.
pub(super) fn count(series: &[Series]) -> u32 {
    let lines = series.iter().map(|it| it.lines.len()).sum::<usize>();
    u32::try_from(lines).unwrap_or(u32::MAX)
}

/// The control: the lines of each key beside the mappings of another key of about the same
/// frequency, so that every match is chance. `None` if there is only one key.
pub(super) fn shuffled(series: &[Series]) -> Option<Vec<Series>> {
    // Neighbours change places: the many lines of the most frequent key beside the few mappings of the rarest one would
    // find more or fewer than usual by chance.
    let last = series.len().checked_sub(1).filter(|last| *last > 0)?;
    let other = |index: usize| if index == last { last - 1 } else { (index ^ 1).min(last) };
    let exchanged = series.iter().enumerate().map(|(index, one)| Series {
        mappings: series[other(index)].mappings.clone(),
        lines: one.lines.clone(),
    });
    Some(exchanged.collect())
}
