//! How far the collector has received each followed file: asked by the reading thread, answered by the sending thread.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};

use pen_records::shipment::{StreamId, StreamList, StreamPosition};

/// Questions about streams, and the collector's answers.
#[derive(Debug, Default)]
pub(crate) struct StreamPositions(Mutex<Inner>);

#[derive(Debug, Default)]
struct Inner {
    /// Streams without an answer, in order of asking.
    pending: VecDeque<StreamId>,
    /// The number of pending streams in the last question.
    asked: usize,
    /// No answer will come.
    is_over: bool,
    known: HashMap<StreamId, StreamPosition>,
}

impl StreamPositions {
    /// Asks about streams.
    pub(crate) fn ask(&self, streams: impl IntoIterator<Item = StreamId>) {
        let mut inner = self.lock();
        if !inner.is_over {
            inner.pending.extend(streams);
        }
    }

    /// Returns the answers once all streams are answered or given up; `None` until then.
    pub(crate) fn answers(&self) -> Option<HashMap<StreamId, StreamPosition>> {
        let mut inner = self.lock();
        inner.pending.is_empty().then(|| std::mem::take(&mut inner.known))
    }

    /// Returns the streams for the next question, the first of the pending ones.
    pub(crate) fn next(&self) -> StreamList<StreamId> {
        let mut inner = self.lock();
        let list = StreamList::of(inner.pending.iter().copied());
        inner.asked = list.iter().len();
        list
    }

    /// Whether further questions are needed.
    pub(crate) fn is_pending(&self) -> bool {
        !self.lock().pending.is_empty()
    }

    /// Takes an answer about the streams of [`Self::next`]. Without positions, the collector does not know streams.
    pub(crate) fn answered(&self, positions: &StreamList<StreamPosition>) {
        let mut inner = self.lock();
        if positions.is_empty() && inner.asked > 0 {
            inner.give_up();
        }
        for position in positions.iter().take(inner.asked) {
            if let Some(stream) = inner.pending.pop_front() {
                inner.known.insert(stream, position);
            }
        }
    }

    /// No answer will come: the collector is a classic one, or penlog ends.
    pub(crate) fn give_up(&self) {
        self.lock().give_up();
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn give_up(&mut self) {
        self.pending.clear();
        self.is_over = true;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_streams_are_asked_about_in_several_questions() {
        let positions = StreamPositions::default();
        assert!(positions.answers().is_some(), "nothing was asked");
        let streams: Vec<_> = (0..40).map(|number| StreamId([number; 16])).collect();
        positions.ask(streams.iter().copied());
        let mut questions = 0;
        while positions.is_pending() {
            assert!(positions.answers().is_none());
            let answer = |stream: StreamId| StreamPosition { from: 0, upto: stream.0[0].into() };
            positions.answered(&StreamList::of(positions.next().iter().map(answer)));
            questions += 1;
        }
        let answers = positions.answers().expect("all are answered");
        assert_eq!((questions, answers.len()), (3, 40));
        assert!(streams.iter().all(|stream| answers[stream].upto == u64::from(stream.0[0])));
    }

    #[test]
    fn a_collector_that_does_not_know_streams_ends_the_questions() {
        let positions = StreamPositions::default();
        positions.answered(&StreamList::default());
        positions.ask([StreamId::default(); 40]);
        assert!(positions.is_pending(), "nothing was asked before");
        assert_eq!(positions.next().iter().len(), 15);
        positions.answered(&StreamList::default());
        assert_eq!(positions.answers().map(|answers| answers.len()), Some(0));
        positions.ask([StreamId::default()]);
        assert!(!positions.is_pending());
    }
}
