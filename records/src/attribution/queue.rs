//! Held lines, in the order in which they came, until each is due.

use std::collections::VecDeque;
use std::num::NonZeroU16;

use super::learnt::end_order::SureEnd;
use super::line::{HeldLine, LineNumber, LoggedLine};
use super::memory::Memory;
use super::memory::mappings::GroupSlot;
use super::memory::slab::{Slab, Slot};
use super::verdict::LineVerdict;
use crate::time::Timestamp;

/// The held lines. `T` is what the driver needs to write a line once it is decided.
pub(crate) struct LineQueue<T> {
    lines: VecDeque<QueuedLine<T>>,
    /// The number of the oldest held line; without held lines, of the next line to come.
    first: LineNumber,
    /// Verdicts on lines that were decided together with an older line.
    early: Slab<EarlyVerdict>,
    /// Lines of which the key is found only when they are decided.
    late: Slab<LateLine>,
}

/// A verdict that is kept until the line is the oldest.
#[derive(Clone, Copy)]
pub(crate) struct EarlyVerdict {
    pub(crate) verdict: LineVerdict,
    /// When the line's exchange ended, if that is hardly in doubt.
    pub(crate) ended: Option<SureEnd>,
}

/// A line that waits to come out.
pub(crate) struct QueuedLine<T> {
    pub(crate) payload: T,
    pub(crate) line: HeldLine,
    pub(crate) state: LineState,
    /// When the line began to wait: when it was logged, unless it came late.
    pub(crate) held_from: Timestamp,
    /// The next line of the same group.
    next: Option<LineNumber>,
}

/// A line of which the key is found only when it is decided: a port, or the group.
#[derive(Clone, Copy)]
pub(crate) struct LateLine {
    pub(crate) logged: LoggedLine,
    /// The group that the line waits in; `None` if the line is in no group.
    pub(crate) group: Option<GroupSlot>,
    /// Whether a port of the line was found when it came.
    pub(crate) is_found: bool,
    /// Whether a record with the line's id was there when the line came.
    pub(crate) is_id_found: bool,
}

/// How far the decision about a held line has come.
#[derive(Clone, Copy)]
pub(crate) enum LineState {
    /// The line waits in this group.
    Waits(GroupSlot),
    /// The line's request could not be read.
    Unreadable,
    /// The line came past the balancer.
    Direct,
    /// The line came by another balancer, whose records are missing.
    Unrecorded,
    /// The line was decided together with an older line.
    Early(Slot<EarlyVerdict>),
    /// The line gets its key only when it is decided.
    Late(Slot<LateLine>),
}

impl<T> LineQueue<T> {
    pub(crate) fn new() -> Self {
        Self {
            lines: VecDeque::new(),
            first: LineNumber::FIRST,
            early: Slab::default(),
            late: Slab::default(),
        }
    }

    /// Returns how many lines are held.
    pub(crate) fn len(&self) -> usize {
        self.lines.len()
    }

    /// Returns the number of the oldest held line.
    pub(crate) const fn first(&self) -> LineNumber {
        self.first
    }

    /// Returns the number of the line that is taken next.
    pub(crate) fn next_number(&self) -> LineNumber {
        self.first.after(self.lines.len())
    }

    pub(crate) fn front(&self) -> Option<&QueuedLine<T>> {
        self.lines.front()
    }

    /// Sets the peer's port of the oldest held line, once its field is known to be the port.
    pub(crate) fn set_front_peer(&mut self, port: u16) {
        if let Some(front) = self.lines.front_mut() {
            front.line.peer = NonZeroU16::new(port);
        }
    }

    /// Returns the oldest held line, which a decision is about.
    pub(crate) fn front_line(&self) -> HeldLine {
        self.lines[0].line
    }

    /// Returns the line of the same group after the oldest held line.
    pub(crate) fn next_of_front(&self) -> Option<LineNumber> {
        self.lines[0].next
    }

    /// Returns the held lines behind the oldest, each with its number.
    pub(crate) fn numbered_behind_front(
        &self,
    ) -> impl Iterator<Item = (LineNumber, &QueuedLine<T>)> {
        self.lines.iter().enumerate().skip(1).map(|(at, line)| (self.first.after(at), line))
    }

    /// Returns the held lines behind the oldest.
    pub(crate) fn behind_front(&self) -> impl Iterator<Item = &QueuedLine<T>> {
        self.lines.iter().skip(1)
    }

    /// Takes a line.
    pub(crate) fn push(
        &mut self,
        payload: T,
        line: HeldLine,
        held_from: Timestamp,
        state: LineState,
    ) {
        self.lines.push_back(QueuedLine { payload, line, held_from, state, next: None });
    }

    /// Keeps what a line is compared by until the line is decided.
    pub(crate) fn keep_late(&mut self, line: LateLine) -> LineState {
        LineState::Late(self.late.insert(line))
    }

    /// Removes the oldest held line.
    pub(crate) fn pop(&mut self) -> Option<QueuedLine<T>> {
        let line = self.lines.pop_front()?;
        self.first = self.first.after(1);
        Some(line)
    }

    /// Puts the line that is taken next into a group.
    pub(crate) fn join_group(&mut self, memory: &mut Memory, group: GroupSlot) {
        let number = self.next_number();
        let last = memory.add_line(group, number).and_then(|last| last.since(self.first));
        if let Some(last) = last {
            self.lines[last].next = Some(number);
        }
    }

    /// Puts the oldest held line into a group, as the group's first.
    pub(crate) fn join_group_first(&mut self, memory: &mut Memory, group: GroupSlot) {
        self.lines[0].next = memory.add_first_line(group, self.first);
    }

    /// Moves the held lines of a server to the groups that follow from a change of the server's fields.
    #[cold]
    pub(crate) fn regroup(&mut self, memory: &mut Memory, server: u32) {
        let mut moved = Vec::new();
        for at in 0..self.lines.len() {
            let QueuedLine { line, state, .. } = &self.lines[at];
            let group = match *state {
                LineState::Waits(group) => Some(group),
                LineState::Late(place) => self.late[place].group,
                LineState::Unreadable
                | LineState::Direct
                | LineState::Unrecorded
                | LineState::Early(_) => None,
            };
            let Some(group) = group.filter(|_| line.server == server) else { continue };
            if let Some(request) = memory.mappings.group(group).request {
                moved.push((at, group, request));
            }
        }
        for &(at, group, _) in &moved {
            memory.leave_group(group, None);
            self.lines[at].next = None;
        }
        for (at, _, request) in moved {
            let group = memory.regroup(&self.lines[at].line, request);
            let last = memory.add_line(group, self.first.after(at));
            if let Some(last) = last.and_then(|last| last.since(self.first)) {
                self.lines[last].next = Some(self.first.after(at));
            }
            match &mut self.lines[at].state {
                LineState::Late(place) => self.late[*place].group = Some(group),
                state => *state = LineState::Waits(group),
            }
        }
    }

    /// Returns the lines of a group from the given line on, each with its number.
    pub(crate) fn lines_of_group(
        &self,
        first: Option<LineNumber>,
    ) -> impl Iterator<Item = (LineNumber, &HeldLine)> {
        std::iter::successors(self.find(first), |(_, queued)| self.find(queued.next))
            .map(|(number, queued)| (number, &queued.line))
    }

    fn find(&self, number: Option<LineNumber>) -> Option<(LineNumber, &QueuedLine<T>)> {
        let number = number?;
        Some((number, self.lines.get(number.since(self.first)?)?))
    }

    /// Returns the line of the same group after this held line.
    pub(crate) fn next_of(&self, number: LineNumber) -> Option<LineNumber> {
        self.find(Some(number))?.1.next
    }

    /// Keeps the verdict on a line that does not come out yet.
    pub(crate) fn keep_early(&mut self, number: LineNumber, early: EarlyVerdict) {
        let place = self.early.insert(early);
        if let Some(line) = number.since(self.first).and_then(|at| self.lines.get_mut(at)) {
            let before = std::mem::replace(&mut line.state, LineState::Early(place));
            if let LineState::Late(late) = before {
                self.late.free(late);
            }
        }
    }

    /// Returns the verdict that was kept, and frees its place.
    pub(crate) fn take_early(&mut self, place: Slot<EarlyVerdict>) -> EarlyVerdict {
        self.early.free(place);
        self.early[place]
    }

    /// Returns the line that was kept, and frees its place.
    pub(crate) fn take_late(&mut self, place: Slot<LateLine>) -> LateLine {
        self.late.free(place);
        self.late[place]
    }

    /// Returns the line that was kept.
    pub(crate) fn late(&self, place: Slot<LateLine>) -> &LateLine {
        &self.late[place]
    }
}
