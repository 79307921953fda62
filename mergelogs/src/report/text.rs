//! The report for people: lines on standard error.

use std::fmt::Write as _;

use pen_records::rewrite::OutcomeCounts;

use super::{JoinReport, utc};
use crate::clocks::{ArchiveClocks, Pace, Seconds};

impl JoinReport<'_> {
    /// Returns the report as lines.
    pub(crate) fn text(&self) -> String {
        let mut out = String::new();
        self.write_text(&mut out).expect("writing to a String does not fail");
        out
    }

    fn write_text(&self, out: &mut String) -> std::fmt::Result {
        let total = self.total();
        let sign = if self.balances() { "=" } else { "!=" };
        writeln!(out, "lines read {} {sign} written {}", self.lines().read, self.tally.written)?;
        write_outcomes(out, "all servers", &total)?;
        for index in 0..self.config.servers.len() {
            self.write_server(out, index)?;
        }
        if total.likely > 0 {
            let hint = "a likely client is the best of several that could have asked";
            writeln!(out, "  {hint}; --explain FILE says how each line got its client")?;
        }
        for counter in self.line_counters() {
            counter.write_text(out)?;
        }
        writeln!(out, "mapping lines read {}", self.mappings().read)?;
        for counter in self.mapping_counters() {
            counter.write_text(out)?;
        }
        for log in &self.clocks.corrected {
            if log.ahead() != 0 {
                let way = if log.ahead() < 0 { "behind" } else { "ahead of" };
                let ahead = Seconds(log.ahead().abs());
                writeln!(
                    out,
                    "{}: clock {ahead} s {way} that of the other mapping log",
                    log.origin
                )?;
            }
            let steps = log.knots.windows(2);
            for (step, knot) in steps.map(|pair| (pair[0].ahead - pair[1].ahead, pair[1])) {
                let (step, at) = (Seconds(step), utc(knot.time));
                writeln!(out, "{}: the clock was set back by {step} s to {at}", log.origin)?;
            }
        }
        if self.tally.delays.count() > 0 {
            writeln!(out, "lines came after their mappings by: {}", self.tally.delays)?;
        }
        if let Some((first, last)) = self.tally.span {
            writeln!(out, "from {} to {}", utc(first), utc(last))?;
        }
        writeln!(
            out,
            "{}.{:03} s, {} lines/s, {} MiB read",
            self.elapsed.as_secs(),
            self.elapsed.subsec_millis(),
            self.rate(),
            self.bytes >> 20
        )?;
        if let Some(audit) = &self.tally.audit {
            out.push_str(&audit.text());
        }
        self.advice().map_or(Ok(()), |advice| writeln!(out, "note: {advice}"))
    }

    fn write_server(&self, out: &mut String, index: usize) -> std::fmt::Result {
        let label = self.config.servers[index].label();
        write_outcomes(out, &label, &self.tally.servers[index])?;
        let formats = self.formats(index);
        if !formats.is_empty() {
            writeln!(out, "    format {formats}")?;
        }
        clock_words(self.clocks, index)
            .into_iter()
            .try_for_each(|clock| writeln!(out, "    {clock}"))
    }
}

fn write_outcomes(out: &mut String, server: &str, counts: &OutcomeCounts) -> std::fmt::Result {
    let counts = counts.rows().map(|(name, count)| format!("{count} {}", name.replace('_', " ")));
    writeln!(out, "  {server}: {}", counts.join(", "))
}

/// Returns the words about a server's clock, piece by piece; none if it is right.
pub(crate) fn clock_words(clocks: &ArchiveClocks, server: usize) -> Vec<String> {
    let pieces = &clocks.pieces[server];
    if pieces.is_empty() {
        return clocks.servers[server].said().map(|clock| clock.to_string()).into_iter().collect();
    }
    let words = pieces.iter().map(|piece| {
        let (from, to) = (utc(piece.from), utc(piece.to));
        format!("clock {} from {from} to {to}", Pace(piece))
    });
    words.collect()
}
