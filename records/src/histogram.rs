//! A histogram of durations, in buckets that grow by 1, 2 and 5: small and of fixed size, however
//! many durations are counted.

use std::fmt;

use serde::ser::{Serialize, SerializeStruct as _, Serializer};

/// Upper bounds of the buckets, in microseconds; one more bucket counts longer durations.
const BOUNDS: [i64; 22] = [
    100,
    200,
    500,
    1_000,
    2_000,
    5_000,
    10_000,
    20_000,
    50_000,
    100_000,
    200_000,
    500_000,
    1_000_000,
    2_000_000,
    5_000_000,
    10_000_000,
    20_000_000,
    50_000_000,
    100_000_000,
    200_000_000,
    500_000_000,
    1_000_000_000,
];

/// The first bucket of durations that begin with each bit. As each bound is at least twice the one before, such
/// durations are in this bucket or the next.
const FIRST: [usize; 64] = {
    let (mut first, mut bit) = ([0; 64], 0);
    while bit < 63 {
        while first[bit] < BOUNDS.len() && BOUNDS[first[bit]] < 1 << bit {
            first[bit] += 1;
        }
        bit += 1;
    }
    first
};

/// Counts durations by their length.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Histogram {
    buckets: [u64; BOUNDS.len()],
    beyond: u64,
    /// Durations below zero: by the clocks or by the order of arrival, an effect preceded its
    /// cause.
    before: u64,
}

impl Histogram {
    /// Counts a duration in microseconds.
    #[inline]
    pub fn add(&mut self, micros: i64) {
        if micros < 0 {
            self.before += 1;
            return;
        }
        let first = FIRST[micros.max(1).ilog2() as usize % FIRST.len()];
        let index = first + usize::from(BOUNDS.get(first).is_some_and(|bound| *bound < micros));
        match self.buckets.get_mut(index) {
            Some(bucket) => *bucket += 1,
            None => self.beyond += 1,
        }
    }

    /// The number of durations counted.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.before + self.beyond + self.buckets.iter().sum::<u64>()
    }

    /// The buckets that are not empty, with their bounds.
    fn rows(&self) -> impl Iterator<Item = (Option<i64>, u64)> {
        let before = std::iter::once((Some(0), self.before));
        let buckets = BOUNDS.into_iter().map(Some).zip(self.buckets);
        let beyond = std::iter::once((None, self.beyond));
        before.chain(buckets).chain(beyond).filter(|(_, count)| *count > 0)
    }
}

/// Serialized as `[{"up_to_us":200,"lines":3},…]`, of the buckets that are not empty. Times below zero
/// have an `up_to_us` of 0, times beyond the last bound one of `null`.
impl Serialize for Histogram {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.rows().map(|(bound, count)| Bucket { bound, count }))
    }
}

/// A bucket that is not empty.
struct Bucket {
    /// In microseconds; `None`: beyond the last bound.
    bound: Option<i64>,
    count: u64,
}

impl Serialize for Bucket {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut bucket = serializer.serialize_struct("Bucket", 2)?;
        bucket.serialize_field("up_to_us", &self.bound)?;
        bucket.serialize_field("lines", &self.count)?;
        bucket.end()
    }
}

/// `3 before, 120 up to 1 ms, 40 up to 2 ms`
impl fmt::Display for Histogram {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, (bound, count)) in self.rows().enumerate() {
            f.write_str(if index == 0 { "" } else { ", " })?;
            match bound {
                Some(0) => write!(f, "{count} before")?,
                Some(us @ ..1_000) => write!(f, "{count} up to {us} us")?,
                Some(us @ ..1_000_000) => write!(f, "{count} up to {} ms", us / 1_000)?,
                Some(us) => write!(f, "{count} up to {} s", us / 1_000_000)?,
                None => write!(f, "{count} longer")?,
            }
        }
        if self.count() == 0 { f.write_str("none") } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_time_is_in_the_first_bucket_that_holds_it() {
        for (micros, expected) in [
            (i64::MIN, "1 before"),
            (-1, "1 before"),
            (0, "1 up to 100 us"),
            (100, "1 up to 100 us"),
            (101, "1 up to 200 us"),
            (900, "1 up to 1 ms"),
            (250_000, "1 up to 500 ms"),
            (1_000_000, "1 up to 1 s"),
            (1_000_000_001, "1 longer"),
            (i64::MAX, "1 longer"),
        ] {
            let mut histogram = Histogram::default();
            histogram.add(micros);
            assert_eq!(histogram.to_string(), expected, "{micros}");
            assert_eq!(histogram.count(), 1, "{micros}");
        }
        assert_eq!(Histogram::default().to_string(), "none");
        for (place, bound) in BOUNDS.into_iter().enumerate() {
            let mut histogram = Histogram::default();
            (bound - 1..=bound + 1).for_each(|micros| histogram.add(micros));
            let next = histogram.buckets.get(place + 1).unwrap_or(&histogram.beyond);
            assert_eq!((histogram.buckets[place], *next), (2, 1), "{bound}");
        }
    }

    #[test]
    fn programs_read_the_bounds_in_microseconds() {
        let json =
            |histogram: &Histogram| serde_json::to_string(histogram).expect("a list of numbers");
        let mut histogram = Histogram::default();
        assert_eq!(json(&histogram), "[]");
        for micros in [-5, 150, 160, 2_000_000_000] {
            histogram.add(micros);
        }
        let expected =
            r#"[{"up_to_us":0,"lines":1},{"up_to_us":200,"lines":2},{"up_to_us":null,"lines":1}]"#;
        assert_eq!(json(&histogram), expected);
        assert_eq!(histogram.to_string(), "1 before, 2 up to 200 us, 1 longer");
    }
}
