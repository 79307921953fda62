//! Answers to shippers, held until the lines before their questions are in the log, or in the journal.
//!
//! An answer confirms what came before: the shipper forgets these lines. Were it given at once, a collector that is
//! killed would lose lines that wait to be decided or written.

use std::collections::{HashSet, VecDeque};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use pen_records::shipment::DiscoveryAnswer;

use crate::streams::StreamId;

/// Longest time to hold an answer while the log can be written. Lines that wait longer (`--wait`) do not slow shippers
/// down.
const HELD: Duration = Duration::from_secs(1);
/// The most answers held. Shippers repeat their questions.
const MOST: usize = 1 << 16;

/// The path back to a sender.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum AnswerPath {
    /// By the UDP listener at this place, which got the question.
    Datagram(usize),
    /// By the stream that brought the question.
    Stream(StreamId),
}

/// An answer, and where to send it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct HeldAnswer {
    pub(crate) path: AnswerPath,
    pub(crate) to: SocketAddr,
    pub(crate) answer: DiscoveryAnswer,
}

impl HeldAnswer {
    const fn key(&self) -> (AnswerPath, SocketAddr, u64) {
        (self.path, self.to, self.answer.nonce)
    }
}

/// Held answers, in the order of their questions.
#[derive(Debug, Default)]
pub(crate) struct HeldAnswers {
    /// With the mark to be reached, and the time of the question.
    answers: VecDeque<(HeldAnswer, u64, Instant)>,
    /// Their paths, shippers and nonces.
    known: HashSet<(AnswerPath, SocketAddr, u64)>,
}

impl HeldAnswers {
    /// Holds an answer until `mark` is reached: lines before the question, or a position in the journal. A repeated
    /// question is answered once. With mark 0 the answer waits for no other: a shipper that hears nothing speaks as to a
    /// classic collector.
    pub(crate) fn hold(&mut self, answer: HeldAnswer, mark: u64, now: Instant) {
        if self.answers.len() < MOST && self.known.insert(answer.key()) {
            match mark {
                0 => self.answers.push_front((answer, mark, now)),
                _ => self.answers.push_back((answer, mark, now)),
            }
        }
    }

    /// Returns the next answer that is due, if marks up to `reached` are reached, or `by_time`, after [`HELD`].
    pub(crate) fn next(&mut self, reached: u64, by_time: bool, now: Instant) -> Option<HeldAnswer> {
        let &(answer, mark, since) = self.answers.front()?;
        let is_due = mark <= reached || (by_time && now >= since + HELD);
        is_due.then(|| {
            self.answers.pop_front();
            self.known.remove(&answer.key());
            answer
        })
    }

    /// Returns when an answer is due by time.
    pub(crate) fn next_due(&self, by_time: bool) -> Option<Instant> {
        self.answers.front().filter(|_| by_time).map(|(_, _, since)| *since + HELD)
    }
}

#[cfg(test)]
mod tests {
    use pen_records::shipment::StreamList;

    use super::*;

    fn answer(nonce: u64) -> HeldAnswer {
        let (received, positions) = (None, StreamList::default());
        let answer = DiscoveryAnswer { nonce, window: 1, datagram: 1, received, positions };
        HeldAnswer { path: AnswerPath::Datagram(0), to: ([127, 0, 0, 1], 1).into(), answer }
    }

    #[test]
    fn an_answer_waits_for_the_lines_before_its_question() {
        let (mut held, now) = (HeldAnswers::default(), Instant::now());
        held.hold(answer(1), 10, now);
        held.hold(answer(1), 12, now);
        held.hold(answer(2), 20, now);
        assert_eq!(held.next(9, true, now), None);
        assert_eq!(held.next(10, true, now), Some(answer(1)));
        assert_eq!(held.next(19, true, now), None, "the question was repeated, the answer is not");
        assert_eq!(held.next(19, true, now + HELD), Some(answer(2)));
        assert_eq!(held.next_due(true), None);
    }

    #[test]
    fn while_the_log_cannot_be_written_nothing_is_confirmed() {
        let (mut held, now) = (HeldAnswers::default(), Instant::now());
        held.hold(answer(1), 10, now);
        assert_eq!(held.next(9, false, now + 100 * HELD), None);
        assert_eq!(held.next_due(true), Some(now + HELD));
        assert_eq!(held.next_due(false), None, "or the loop would turn without a pause");
        assert_eq!(held.next(10, false, now), Some(answer(1)));
    }

    #[test]
    fn a_new_shipper_waits_for_no_other() {
        let (mut held, now) = (HeldAnswers::default(), Instant::now());
        held.hold(answer(1), 10, now);
        held.hold(answer(2), 0, now);
        assert_eq!(held.next(9, false, now), Some(answer(2)));
        assert_eq!(held.next(9, false, now), None);
    }
}
