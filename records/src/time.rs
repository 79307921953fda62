//! Points in time, and the resolution in which logs write them.

use std::ops::{Add, Sub};
use std::time::Duration;

/// Microseconds since the Unix epoch, UTC; negative before 1970.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(i64);

impl Timestamp {
    /// The earliest time that this type can hold.
    pub const MIN: Self = Self(i64::MIN);
    /// The latest time that this type can hold.
    pub const MAX: Self = Self(i64::MAX);

    /// Creates a time from whole seconds since the epoch; saturates.
    #[must_use]
    #[inline]
    pub const fn from_seconds(seconds: i64) -> Self {
        Self(seconds.saturating_mul(1_000_000))
    }

    /// Creates a time from microseconds since the epoch.
    #[must_use]
    #[inline]
    pub const fn from_micros(micros: i64) -> Self {
        Self(micros)
    }

    /// Returns the microseconds since the epoch.
    #[must_use]
    #[inline]
    pub const fn as_micros(self) -> i64 {
        self.0
    }

    /// Microseconds from `earlier` to this time; negative when `earlier` is later. Saturates.
    #[must_use]
    #[inline]
    pub const fn micros_since(self, earlier: Self) -> i64 {
        self.0.saturating_sub(earlier.0)
    }

    /// Returns the start of the step of this resolution that the time is in.
    #[must_use]
    pub const fn cut_to(self, resolution: Resolution) -> Self {
        Self(self.0.saturating_sub(self.0.rem_euclid(resolution.micros())))
    }

    /// Returns this time moved by `micros`, which may be negative. Saturates.
    #[must_use]
    #[inline]
    pub const fn offset_by(self, micros: i64) -> Self {
        Self(self.0.saturating_add(micros))
    }
}

/// Returns a time span in microseconds. Saturates.
#[must_use]
pub fn micros(span: Duration) -> i64 {
    i64::try_from(span.as_micros()).unwrap_or(i64::MAX)
}

impl Add<Duration> for Timestamp {
    type Output = Self;

    fn add(self, later: Duration) -> Self {
        self.offset_by(micros(later))
    }
}

impl Sub<Duration> for Timestamp {
    type Output = Self;

    fn sub(self, earlier: Duration) -> Self {
        self.offset_by(-micros(earlier))
    }
}

/// The resolution in which a time was written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Resolution {
    /// To the microsecond or finer.
    #[default]
    Microsecond,
    /// To the millisecond.
    Millisecond,
    /// To the second, as classic logs do.
    Second,
}

impl Resolution {
    /// The width of one step, in microseconds.
    #[must_use]
    #[inline]
    pub const fn micros(self) -> i64 {
        match self {
            Self::Microsecond => 1,
            Self::Millisecond => 1_000,
            Self::Second => 1_000_000,
        }
    }
}
