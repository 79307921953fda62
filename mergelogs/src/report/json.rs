//! The report for programs: one JSON object on one line.

use pen_archive::Compression;
use pen_records::rewrite::OutcomeCounts;
use pen_records::time::micros;
use serde_json::{Map, Number, Value, json};

use super::{JoinReport, utc};
use crate::misfit::SaidMisfit;
/// Returns members of an object from counters and their names.
pub(super) fn members(
    rows: impl IntoIterator<Item = (&'static str, u64)>,
) -> impl Iterator<Item = (String, Value)> {
    rows.into_iter().map(|(name, count)| (name.to_owned(), count.into()))
}

/// Returns an object with further members.
fn extended(object: Value, more: impl IntoIterator<Item = (String, Value)>) -> Value {
    match object {
        Value::Object(mut members) => {
            members.extend(more);
            members.into()
        }
        other => other,
    }
}

/// Returns microseconds as seconds: a whole number where they are, else rounded to milliseconds.
fn seconds(micros: i64) -> Value {
    let millis = micros.saturating_add(500).div_euclid(1_000);
    thousandths(millis)
}

/// Returns a thousandth part of a number, as a whole number where it is.
pub(super) fn thousandths(number: i64) -> Value {
    if number % 1_000 == 0 {
        return (number / 1_000).into();
    }
    #[expect(clippy::cast_precision_loss, reason = "times and parts in a thousand are below 2^53")]
    let fraction = number as f64 / 1_000.0;
    Number::from_f64(fraction).map_or(Value::Null, Value::Number)
}

impl JoinReport<'_> {
    /// Returns the report as one object, line feed included.
    pub(crate) fn json(&self) -> String {
        let mut report = Map::new();
        let mut add = |name: &str, value: Value| report.insert(name.to_owned(), value);
        add("lines", self.lines_json());
        let read = ("read", self.mappings().read);
        let counters = self.mapping_counters().map(|counter| (counter.key, counter.count));
        add(
            "mappings",
            members(std::iter::once(read).chain(counters)).collect::<Map<_, _>>().into(),
        );
        add(
            "servers",
            (0..self.config.servers.len()).map(|index| self.server_json(index)).collect(),
        );
        add("inputs", self.inputs_json());
        let (first, last) = self.tally.span.unzip();
        add("first", first.map(utc).into());
        add("last", last.map(utc).into());
        add("seconds", seconds(micros(self.elapsed)));
        add("lines_per_second", self.rate().into());
        add("bytes_read", self.bytes.into());
        add("delays", json!({ "histogram": self.tally.delays }));
        add("advice", self.advice().into());
        add("misfits", self.misfits.iter().map(SaidMisfit::json).collect());
        if let Some(audit) = &self.tally.audit {
            add("audit", audit.json());
        }
        format!("{}\n", Value::from(report))
    }

    fn lines_json(&self) -> Value {
        let (read, written) = (self.lines().read, self.tally.written);
        let counters = self.line_counters().map(|counter| (counter.key, counter.count));
        extended(
            json!({ "read": read, "written": written, "balanced": self.balances() }),
            members(self.total().rows().into_iter().chain(counters)),
        )
    }

    fn server_json(&self, index: usize) -> Value {
        let clock = self.clocks.servers[index];
        let pieces = self.clocks.pieces[index].iter().map(|piece| {
            json!({
                "from": utc(piece.from),
                "to": utc(piece.to),
                "ahead_seconds": seconds(piece.ahead_first),
                "ahead_seconds_at_end": seconds(piece.ahead_last),
            })
        });
        let server = json!({
            "server": self.config.servers[index].label(),
            "format": self.formats(index),
        });
        let outcomes: &OutcomeCounts = &self.tally.servers[index];
        let server = extended(server, members(outcomes.rows()));
        let clock = [
            ("clock_ahead_seconds", seconds(clock.ahead)),
            ("clock_within_seconds", seconds(clock.within)),
            ("clock_votes", clock.votes.into()),
            ("clock_pieces", pieces.collect()),
        ];
        extended(server, clock.map(|(name, value)| (name.to_owned(), value)))
    }

    fn inputs_json(&self) -> Value {
        let logs = self
            .tally
            .logs
            .iter()
            .map(|(_, origin, end)| (origin, end.compression, end.lines, end.fault.is_some()));
        let mappings = self
            .tally
            .mapping_logs
            .iter()
            .map(|(origin, end)| (origin, end.compression, end.lines, end.fault.is_some()));
        logs.chain(mappings)
            .map(|(origin, compression, lines, is_cut_off)| {
                json!({
                    "file": origin.to_string(),
                    "compression": compression.map_or("plain", Compression::name),
                    "lines": lines,
                    "cut_off": is_cut_off,
                })
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_are_whole_where_they_can_be() {
        for (micros, expected) in
            [(0, "0"), (3_000_000, "3"), (-250_000, "-0.25"), (1_234_500, "1.235"), (999_600, "1")]
        {
            assert_eq!(seconds(micros).to_string(), expected);
        }
    }
}
