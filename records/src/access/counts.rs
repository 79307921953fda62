//! The number of lines in each format, for a report.

use std::fmt;

use super::shapes;

/// The number of lines parsed in each format.
#[derive(Clone, Copy, Debug)]
pub(super) struct FormatCounts {
    lines: [u64; NAMES.len()],
    shapes: [u64; shapes::NAMES.len()],
    enveloped: u64,
}

/// The usual formats. Behind these come the shapes of [`shapes::NAMES`].
pub(super) const NAMES: [&str; 6] =
    ["common", "combined", "vhost_common", "vhost_combined", "json", "the given format"];

impl Default for FormatCounts {
    fn default() -> Self {
        Self { lines: [0; NAMES.len()], shapes: [0; shapes::NAMES.len()], enveloped: 0 }
    }
}

impl FormatCounts {
    /// Counts a line of a format of [`NAMES`].
    #[inline]
    pub(super) fn count_usual(&mut self, index: usize) {
        self.lines[index] += 1;
    }

    /// Counts a line of a format of [`NAMES`], or of a shape behind those.
    pub(super) fn count(&mut self, index: usize) {
        match index.checked_sub(NAMES.len()) {
            None => self.lines[index] += 1,
            Some(shape) => self.shapes[shape] += 1,
        }
    }

    /// Counts a line that may have an envelope.
    #[inline]
    pub(super) fn count_envelope(&mut self, has_envelope: bool) {
        self.enveloped += u64::from(has_envelope);
    }

    /// Whether no line was in a usual format.
    pub(super) fn has_no_usual(&self) -> bool {
        self.lines == [0; NAMES.len()]
    }
}

/// The formats, most used first.
impl fmt::Display for FormatCounts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let usual = NAMES.into_iter().zip(self.lines);
        let shapes = shapes::NAMES.into_iter().zip(self.shapes);
        let mut found: Vec<_> = usual.chain(shapes).filter(|(_, lines)| *lines > 0).collect();
        found.sort_by_key(|(_, lines)| std::cmp::Reverse(*lines));
        if found.is_empty() {
            f.write_str("none found")?;
        }
        for (index, (name, lines)) in found.into_iter().enumerate() {
            let (comma, unit) = match (index, lines) {
                (0, 1) => ("", " line"),
                (0, _) => ("", " lines"),
                _ => (", ", ""),
            };
            write!(f, "{comma}{name} ({}{unit})", GroupedNumber(lines))?;
        }
        if self.enveloped > 0 {
            write!(f, ", {} in a syslog envelope", GroupedNumber(self.enveloped))?;
        }
        Ok(())
    }
}

/// A number with thousands separators.
struct GroupedNumber(u64);

impl fmt::Display for GroupedNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 < 1_000 {
            return self.0.fmt(f);
        }
        write!(f, "{},{:03}", Self(self.0 / 1_000), self.0 % 1_000)
    }
}
