//! Decided lines on their way into the log.

use pen_records::attribution::DecidedLine;
use pen_records::rewrite::{LineRewrite, ServerName, escape_controls};
use pen_records::time::Timestamp;

use super::Collector;
use super::intake::BufferedLine;

impl Collector {
    /// Appends decided lines to `out`. Beyond the memory limit, further lines are decided early.
    pub(super) fn write_decided(
        &mut self,
        now: Timestamp,
        out: &mut Vec<u8>,
        mut explain: Option<&mut Vec<u8>>,
    ) {
        loop {
            while let Some(decided) = self.intake.engine.next_decided() {
                self.queue.add(now.micros_since(decided.time));
                if let Some(delay) = decided.verdict.delay {
                    self.queue.delays.add(delay);
                }
                self.write_line(&decided, out, explain.as_deref_mut());
            }
            if self.intake.arena.len() <= self.settings.held_bytes {
                return;
            }
            // The engine limits lines, not bytes: let it believe that their waiting time is over.
            let Some(due) = self.intake.engine.next_due() else { return };
            self.queue.decided_early += 1;
            self.intake.engine.advance(due);
        }
    }

    fn write_line(
        &mut self,
        decided: &DecidedLine<BufferedLine>,
        out: &mut Vec<u8>,
        explain: Option<&mut Vec<u8>>,
    ) {
        let BufferedLine { len, client, source: from, number } = decided.payload;
        let verdict = &decided.verdict;
        let source = self.intake.sources.get_mut(from).expect("no source is removed");
        source.counts.count(client.is_some(), verdict);
        let key = source.key;
        let mut why = self.intake.engine.take_why();
        if let Some(why) = &mut why {
            self.rewriter.mask_candidates(why);
        }
        let is_repeat = self.intake.twins.is_repeat(from, number);
        let received = &mut self.intake.received;
        if is_repeat || self.done.contains(number) {
            let is_done = self.done.contains(number);
            *if is_done { &mut received.written_before } else { &mut received.repeated } += 1;
            if let Some(decided) = self.decided.as_mut().filter(|_| !is_done) {
                decided.push(number, false);
            }
            self.intake.arena.pop(len as usize, |_| {});
            return;
        }
        if let Some(decided) = &mut self.decided {
            decided.push(number, true);
        }
        let rewriter = &mut self.rewriter;
        self.intake.arena.pop(len as usize, |text| {
            let server = ServerName::Addr(key.addr);
            let line = LineRewrite { text, client, verdict, server };
            let start = out.len();
            let written = rewriter.write(&line, out);
            if let Some(explain) = explain {
                written.explain(&key, why.as_ref(), explain);
            }
            escape_controls(out, start);
        });
    }
}
