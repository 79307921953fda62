//! What the user asked for ([`Spec`]), and reading line after line by it ([`Parser`]).

use std::fmt::Write as _;

use super::clf::{self, Placement, Shape};
use super::clock::Clock;
use super::envelope;
use super::format::FormatError;
use super::{AccessLine, Expected, LineError};

/// The format of access lines as the user asked for it.
#[derive(Clone, Debug, Default)]
pub struct Spec(Wanted);

#[derive(Clone, Debug, Default)]
enum Wanted {
    #[default]
    Auto,
    Named(Placement),
}

impl Spec {
    /// Each line shows what it is.
    #[must_use]
    pub fn auto() -> Self {
        Self::default()
    }

    /// Reads what stands behind `--format`: `auto`, `common`, `combined` or `vhost_combined`.
    ///
    /// # Errors
    ///
    /// Says what is wrong with `text`, and at which byte.
    pub fn parse(text: &str) -> Result<Self, FormatError> {
        let wanted = match text.trim() {
            "auto" => Wanted::Auto,
            "common" | "combined" => Wanted::Named(Placement::First),
            "vhost_combined" => Wanted::Named(Placement::AfterHost),
            _ => return Err(FormatError::unknown()),
        };
        Ok(Self(wanted))
    }
}

/// Reads the access lines of one server or one file.
#[derive(Clone, Debug)]
pub struct Parser {
    wanted: Wanted,
    clock: Clock,
    seen: Seen,
}

/// How many lines were read by each way of reading them.
#[derive(Clone, Copy, Debug, Default)]
struct Seen {
    lines: [u64; NAMES.len()],
    enveloped: u64,
}

const NAMES: [&str; 4] = ["common", "combined", "vhost_common", "vhost_combined"];

impl Parser {
    /// One that has seen no lines yet.
    #[must_use]
    pub fn new(spec: &Spec) -> Self {
        Self { wanted: spec.0.clone(), clock: Clock::default(), seen: Seen::default() }
    }

    /// Reads `line`, which has no LF; a CR at its end is no part of any field.
    ///
    /// # Errors
    ///
    /// If it is no access line, or not one of the format asked for.
    pub fn parse(&mut self, line: &[u8]) -> Result<AccessLine, LineError> {
        if u32::try_from(line.len()).is_err() {
            return Err(clf::error(0, Expected::AccessLine));
        }
        let envelope = envelope::length(line);
        let read = self.parse_at(line, envelope);
        let (found, index) = match read {
            Err(_) if envelope > 0 => self.parse_at(line, 0).or(read)?,
            read => read?,
        };
        self.seen.lines[index] += 1;
        self.seen.enveloped += u64::from(found.envelope > 0);
        Ok(found)
    }

    fn parse_at(&mut self, line: &[u8], start: usize) -> Result<(AccessLine, usize), LineError> {
        let placement = match self.wanted {
            Wanted::Auto => Placement::ByLine,
            Wanted::Named(placement) => placement,
        };
        let (mut found, shape) = clf::parse(line, start, placement, &mut self.clock)?;
        found.envelope = clf::span(start, start).start;
        let index = match shape {
            Shape::Common => 0,
            Shape::Combined => 1,
            Shape::VhostCommon => 2,
            Shape::VhostCombined => 3,
        };
        Ok((found, index))
    }

    /// The formats found, most used first, as a report names them: `combined (1,204 lines), common
    /// (3)`.
    #[must_use]
    pub fn format(&self) -> String {
        let mut found: Vec<_> =
            NAMES.into_iter().zip(self.seen.lines).filter(|(_, lines)| *lines > 0).collect();
        found.sort_by_key(|(_, lines)| std::cmp::Reverse(*lines));
        let mut text = String::new();
        for (index, (name, lines)) in found.into_iter().enumerate() {
            let (comma, unit) = match (index, lines) {
                (0, 1) => ("", " line"),
                (0, _) => ("", " lines"),
                _ => (", ", ""),
            };
            let _ = write!(text, "{comma}{name} ({}{unit})", Grouped(lines));
        }
        if text.is_empty() {
            text.push_str("none found");
        }
        if self.seen.enveloped > 0 {
            let _ = write!(text, ", {} in a syslog envelope", Grouped(self.seen.enveloped));
        }
        text
    }
}

/// A number with its thousands apart.
struct Grouped(u64);

impl std::fmt::Display for Grouped {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.0 < 1_000 {
            return self.0.fmt(f);
        }
        write!(f, "{},{:03}", Self(self.0 / 1_000), self.0 % 1_000)
    }
}
