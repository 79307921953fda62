//! The table of made sites: what is below the aim first.

use std::fmt;

use pen_testing::site::{MadeScore, SaidBand};

use crate::ActionError;

/// How right a made site's lines are.
#[derive(Debug)]
pub(super) struct MadeResult {
    pub name: String,
    pub aim: f64,
    pub offline: MadeScore,
    pub live: MadeScore,
}

/// All of them.
#[derive(Debug, Default)]
pub(super) struct MadeTable {
    results: Vec<MadeResult>,
}

/// Per cent of right lines below which a row stands in the first part.
const LOW: f64 = 99.0;

impl MadeTable {
    pub(super) fn add(&mut self, result: MadeResult) {
        self.results.push(result);
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.results.is_empty()
    }

    /// Both ways of each row.
    fn scores(&self) -> impl Iterator<Item = (&MadeResult, &'static str, &MadeScore)> {
        self.results
            .iter()
            .flat_map(|row| [(row, "offline", &row.offline), (row, "live", &row.live)])
    }

    /// Whether exact and certain lines are right.
    pub(super) fn verdict(&self) -> Result<(), ActionError> {
        let sum = |of: fn(&MadeScore) -> usize| self.scores().map(|(.., score)| of(score)).sum();
        let exact_wrong: usize = sum(|score| score.exact_wrong);
        let (certain, wrong): (usize, usize) =
            (sum(|score| score.certain), sum(|score| score.certain_wrong));
        if exact_wrong > 0 || wrong * 10_000 > certain {
            return Err(ActionError::new(format!(
                "{exact_wrong} exact lines are wrong, and {wrong} of {certain} certain ones"
            )));
        }
        Ok(())
    }
}

impl fmt::Display for MadeTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rows: Vec<_> = self.scores().collect();
        rows.sort_by(|(.., a), (.., b)| a.right_share().total_cmp(&b.right_share()));
        writeln!(f, "{}", counted(&rows, |(.., score)| score.exact_wrong > 0, "exact and wrong"))?;
        let wrong = |(_, _, score): &TableRow<'_>| score.certain_wrong > 0;
        writeln!(f, "{}", counted(&rows, wrong, "certain and wrong"))?;
        let off = |(_, _, score): &TableRow<'_>| score.bands_off().next().is_some();
        writeln!(f, "{}", counted(&rows, off, "a band off by more than 5 points"))?;
        let beyond = |(_, _, score): &TableRow<'_>| {
            score.bands_off().any(|(.., band)| band.is_off_beyond_chance())
        };
        writeln!(f, "{}", counted(&rows, beyond, BEYOND_CHANCE))?;
        let low: fn(&TableRow<'_>) -> bool = |(_, _, score)| score.right_share() < LOW;
        writeln!(f, "{}", counted(&rows, low, "below 99 %"))?;
        let missed = |(row, _, score): &TableRow<'_>| score.right_share() < row.aim;
        writeln!(f, "{}", counted(&rows, missed, "below the aim"))?;
        let (low, high): (Vec<TableRow<'_>>, Vec<TableRow<'_>>) = rows.into_iter().partition(low);
        writeln!(f, "\nBelow 99 % right:\n")?;
        part(f, &low)?;
        writeln!(f, "\nThe others:\n")?;
        part(f, &high)
    }
}

type TableRow<'a> = (&'a MadeResult, &'static str, &'a MadeScore);

fn counted(rows: &[TableRow<'_>], which: impl Fn(&TableRow<'_>) -> bool, what: &str) -> String {
    let found = rows.iter().filter(|row| which(row)).count();
    format!("{found} of {} rows: {what}", rows.len())
}

const BEYOND_CHANCE: &str = "\
a band off beyond chance, by two standard deviations more (errors come in pairs, so two lines count as one)";

const HEAD: &str = "\
| site | road | lines | right % | calm % | aim | exact (wrong) | certain (wrong) | likely (wrong) | said/right | none | off |
|---|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|---|";

fn part(f: &mut fmt::Formatter<'_>, rows: &[TableRow<'_>]) -> fmt::Result {
    writeln!(f, "{HEAD}")?;
    for (row, road, score) in rows {
        let (said, right) = score.likely_said_and_right();
        let off: Vec<String> = score.bands_off().map(band).collect();
        writeln!(
            f,
            "| {} | {road} | {} | {:.2} | {:.2} | {} | {} ({}) | {} ({}) | {} ({}) | {said:.0}/{right:.0} | {} | {} |",
            row.name,
            score.lines,
            score.right_share(),
            score.calm_share(),
            row.aim,
            score.exact,
            score.exact_wrong,
            score.certain,
            score.certain_wrong,
            score.likely,
            score.likely_wrong,
            score.none,
            off.join("; "),
        )?;
        if score.written != score.lines {
            writeln!(f, "| | | {} came out | | | | | | | | | |", score.written)?;
        }
    }
    Ok(())
}

fn band((from, to, band): (u16, u16, SaidBand)) -> String {
    format!("{}-{} % {band}", from / 10, to / 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bands_off_beyond_chance_are_counted_and_marked() {
        let score = |right| {
            let mut score =
                MadeScore { lines: 200, written: 200, likely: 200, ..MadeScore::default() };
            score.bands[5] = SaidBand { lines: 200, right, said: 100.0 };
            score
        };
        let mut table = MadeTable::default();
        let (offline, live) = (score(80), score(60));
        table.add(MadeResult { name: "shop".to_owned(), aim: 99.0, offline, live });
        let text = table.to_string();
        assert!(text.contains("2 of 2 rows: a band off by more than 5 points\n"), "{text}");
        assert!(text.contains("1 of 2 rows: a band off beyond chance"), "{text}");
        assert!(text.contains("| 50-60 % 200: 50 said, 40 right |"), "{text}");
        assert!(text.contains("| 50-60 % 200: 50 said, 30 right (beyond chance) |"), "{text}");
    }
}
