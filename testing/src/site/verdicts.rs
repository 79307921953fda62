//! What a program made of a site's lines.

use std::fmt;

use super::{TrueClient, line_number};

/// The upper ends of the bands of probabilities, in parts of 1,000.
pub const BANDS: [u16; 12] = [100, 200, 300, 400, 500, 600, 700, 800, 900, 950, 980, 1_001];

/// The fewest lines of a band that is judged.
const ENOUGH: usize = 200;

/// How many points a band may be off.
const OFF: f64 = 5.0;

/// Likely lines of about the same probability.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct SaidBand {
    /// How many there are.
    pub lines: usize,
    /// Those of them that are right.
    pub right: usize,
    /// Their probabilities, added up.
    pub said: f64,
}

/// How right a log is.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct MadeScore {
    /// Lines that should have come out.
    pub lines: usize,
    /// Lines that came out.
    pub written: usize,
    /// Lines that name their client, or none where no record tells of it.
    pub right: usize,
    /// Lines that are not near to a disturbance.
    pub calm: usize,
    /// Those of them that are right.
    pub calm_right: usize,
    /// Exact lines.
    pub exact: usize,
    /// Those of them that are wrong.
    pub exact_wrong: usize,
    /// Certain lines that are not exact.
    pub certain: usize,
    /// Those of them that are wrong.
    pub certain_wrong: usize,
    /// Likely lines.
    pub likely: usize,
    /// Those of them that are wrong.
    pub likely_wrong: usize,
    /// Lines without a client.
    pub none: usize,
    /// Likely lines by what they are said to be.
    pub bands: [SaidBand; BANDS.len()],
}

impl MadeScore {
    /// Per cent of right lines.
    #[must_use]
    pub fn right_share(&self) -> f64 {
        per_cent(self.right, self.lines)
    }

    /// Per cent of right lines among those that are not near to a disturbance.
    #[must_use]
    pub fn calm_share(&self) -> f64 {
        per_cent(self.calm_right, self.calm)
    }

    /// Of likely lines, how sure they were said to be and how many are right, in per cent.
    #[must_use]
    pub fn likely_said_and_right(&self) -> (f64, f64) {
        let said: f64 = self.bands.iter().map(|band| band.said).sum();
        (mean(said, self.likely) * 100.0, per_cent(self.likely - self.likely_wrong, self.likely))
    }

    /// The bands that are off, with their bounds in parts of 1,000.
    pub fn bands_off(&self) -> impl Iterator<Item = (u16, u16, SaidBand)> {
        let lower = [0].into_iter().chain(BANDS);
        let bands = lower.zip(BANDS).zip(self.bands);
        bands
            .map(|((from, to), band)| (from, to.min(1_000), band))
            .filter(|(.., band)| band.is_off())
    }

    fn count(&mut self, truth: &TrueClient, mark: &SaidLine<'_>) {
        let is_none = mark.certainty == b"unmatched";
        let named = !is_none && Some(mark.client) == truth.client.as_deref().map(str::as_bytes);
        let right = named || (is_none && !truth.is_recorded);
        let (right, wrong) = (usize::from(right), usize::from(!right));
        self.written += 1;
        self.right += right;
        if !truth.is_near {
            self.calm += 1;
            self.calm_right += right;
        }
        match mark.certainty {
            b"exact" => {
                self.exact += 1;
                self.exact_wrong += wrong;
            }
            b"certain" => {
                self.certain += 1;
                self.certain_wrong += wrong;
            }
            b"likely" => {
                self.likely += 1;
                self.likely_wrong += wrong;
                let place = BANDS.iter().position(|&end| mark.said < end);
                let said = f64::from(mark.said) / 1_000.0;
                self.bands[place.unwrap_or(BANDS.len() - 1)].add(SaidBand {
                    lines: 1,
                    right,
                    said,
                });
            }
            _ => self.none += 1,
        }
    }
}

impl SaidBand {
    /// Per cent that the lines are said to be sure.
    #[must_use]
    pub fn said_share(&self) -> f64 {
        mean(self.said, self.lines) * 100.0
    }

    /// Per cent of right lines.
    #[must_use]
    pub fn right_share(&self) -> f64 {
        per_cent(self.right, self.lines)
    }

    /// Whether it has enough lines to judge, and their mean probability is more than 5 points off.
    #[must_use]
    pub fn is_off(&self) -> bool {
        self.is_off_by(OFF)
    }

    /// Whether it is off by 5 points and two standard deviations, as a true probability hardly ever is.
    #[must_use]
    pub fn is_off_beyond_chance(&self) -> bool {
        self.is_off_by(OFF + 2.0 * self.deviation())
    }

    /// Adds those of another one.
    pub fn add(&mut self, other: Self) {
        self.lines += other.lines;
        self.right += other.right;
        self.said += other.said;
    }

    fn is_off_by(&self, points: f64) -> bool {
        self.lines >= ENOUGH && (self.said_share() - self.right_share()).abs() > points
    }

    /// The standard deviation of the share of right lines, in points, if as many are right as is said. Two lines that
    /// have each other's client are wrong together, so only half of the lines count.
    fn deviation(&self) -> f64 {
        let said = mean(self.said, self.lines);
        100.0 * mean((said * (1.0 - said)).max(0.0) * 2.0, self.lines).sqrt()
    }
}

impl fmt::Display for SaidBand {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { lines, .. } = self;
        write!(f, "{lines}: {:.0} said, {:.0} right", self.said_share(), self.right_share())?;
        if self.is_off_beyond_chance() {
            f.write_str(" (beyond chance)")?;
        }
        Ok(())
    }
}

/// What an explanation says of a line.
struct SaidLine<'a> {
    certainty: &'a [u8],
    said: u16,
    client: &'a [u8],
}

impl<'a> SaidLine<'a> {
    fn parse(columns: &'a [u8]) -> Self {
        let mut columns = columns.split(|&byte| byte == b'\t');
        let certainty = columns.next().unwrap_or_default();
        let digits = columns.nth(1).unwrap_or_default();
        let digits = digits.iter().filter(|byte| byte.is_ascii_digit()).take(4);
        let said = digits.fold(0, |number, digit| number * 10 + u16::from(digit - b'0'));
        Self { certainty, said, client: columns.nth(3).unwrap_or_default() }
    }
}

/// Counts what a merged log has right, by the explanation of each of its lines. `lines` is how many there should be.
#[must_use]
pub fn score(truth: &[TrueClient], lines: usize, merged: &[u8], explained: &[u8]) -> MadeScore {
    let mut score = MadeScore { lines, ..MadeScore::default() };
    let marks = lines_of(explained).filter(|line| !line.starts_with(b"#"));
    for (line, mark) in lines_of(merged).zip(marks) {
        if let Some(truth) = line_number(line).and_then(|number| truth.get(number)) {
            score.count(truth, &SaidLine::parse(mark));
        }
    }
    score
}

fn lines_of(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    text.split(|&byte| byte == b'\n').filter(|line| !line.is_empty())
}

fn per_cent(part: usize, whole: usize) -> f64 {
    100.0 * mean(count(part), whole)
}

fn mean(sum: f64, of: usize) -> f64 {
    if of == 0 { 0.0 } else { sum / count(of) }
}

#[expect(clippy::cast_precision_loss, reason = "counts of lines")]
fn count(lines: usize) -> f64 {
    lines as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn truth(client: Option<&str>, is_recorded: bool) -> TrueClient {
        TrueClient { client: client.map(str::to_owned), is_recorded, is_near: false }
    }

    #[test]
    fn a_line_without_a_record_is_right_without_a_client() {
        let truth =
            [truth(Some("1.2.3.4"), true), truth(Some("1.2.3.4"), false), truth(None, false)];
        let merged =
            b"x - user-000000 y\nx - user-000001 y\nx - user-000002 y\nx - user-000002 y\n";
        let explained = b"#head\n\
            unmatched\tr\t0.000\t1\t-\to\t-\ts\n\
            unmatched\tr\t0.000\t1\t-\to\t-\ts\n\
            unmatched\tr\t0.000\t1\t-\to\t-\ts\n\
            likely\tr\t0.970\t1\t-\to\t1.2.3.4\ts\n";
        let score = score(&truth, 4, merged, explained);
        assert_eq!((score.written, score.right, score.none), (4, 2, 3));
        assert_eq!((score.likely, score.likely_wrong), (1, 1));
        assert_eq!((score.bands[10].lines, score.bands[10].right), (1, 0));
    }

    #[test]
    fn a_band_is_off_if_it_has_enough_lines_and_is_wrong_too_often() {
        let mut score = MadeScore::default();
        score.bands[10] = SaidBand { lines: 199, right: 0, said: 193.0 };
        assert_eq!(score.bands_off().count(), 0);
        score.bands[10] = SaidBand { lines: 200, right: 180, said: 194.0 };
        let off: Vec<_> = score.bands_off().map(|(from, to, _)| (from, to)).collect();
        assert_eq!(off, [(950, 980)]);
    }

    #[test]
    fn a_band_is_off_beyond_chance_by_two_deviations_more() {
        // Half of 200 lines: a standard deviation is 5 points.
        let band = |right| SaidBand { lines: 200, right, said: 100.0 };
        assert_eq!(
            [109, 111, 129, 132].map(|right| band(right).is_off()),
            [false, true, true, true]
        );
        let beyond = [109, 129, 132, 68].map(|right| band(right).is_off_beyond_chance());
        assert_eq!(beyond, [false, false, true, true]);
        // Of 20,000 lines chance is half a point.
        let many = SaidBand { lines: 20_000, right: 11_300, said: 10_000.0 };
        assert!(many.is_off_beyond_chance());
        assert_eq!(many.to_string(), "20000: 50 said, 56 right (beyond chance)");
        let sure = SaidBand { lines: 200, right: 200, said: 200.0 };
        assert!(!sure.is_off());
    }
}
