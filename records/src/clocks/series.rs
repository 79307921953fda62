//! What both sides have, by its key: the times on either side, in their order.

use super::ClockSample;

/// The times of one key, in microseconds, sorted.
#[derive(Debug)]
pub(super) struct Series {
    pub(super) mappings: Vec<i64>,
    pub(super) lines: Vec<i64>,
}

impl Series {
    /// Of all keys that neither side has too often, the rarest first.
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
        // So that nothing depends on the order of a map.
        keyed.sort_by_key(|(key, it)| (it.mappings.len().saturating_mul(it.lines.len()), *key));
        keyed.into_iter().map(|(_, series)| series).collect()
    }
}

/// How many lines there are.
pub(super) fn count(series: &[Series]) -> u32 {
    let lines = series.iter().map(|it| it.lines.len()).sum::<usize>();
    u32::try_from(lines).unwrap_or(u32::MAX)
}

/// The same with each key's lines beside the mappings of another, that is about as rare: what finds a partner there
/// does so by chance. `None` if there is only one.
pub(super) fn strangers(series: &[Series]) -> Option<Vec<Series>> {
    let others = series.iter().cycle().skip(1);
    let exchanged = series
        .iter()
        .zip(others)
        .map(|(one, other)| Series { mappings: other.mappings.clone(), lines: one.lines.clone() });
    (series.len() > 1).then(|| exchanged.collect())
}
