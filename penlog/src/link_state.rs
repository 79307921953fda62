//! State of the link to the collector: which protocol to speak, and when to hold lines back.
//!
//! Pure: methods take events and a time and return what to do. Sent bytes are counted; a reply confirms the bytes sent
//! before its question.
//!
//! ```text
//!            answered                       unanswered for long, or refused
//! Asking ----------------> Shipping --------------------------------------> Asking
//!        ----------------> Classic  --------------------------------------> Asking
//!        silence for a while        refused
//! ```
//!
//! A collector that has replied once is never taken for a classic one: lines would go without confirmation, at the mercy
//! of whoever can hold back replies.

use std::time::{Duration, Instant};

use pen_records::shipment::DiscoveryAnswer;

/// Silence after which the collector counts as a classic one.
const HOLD: Duration = Duration::from_secs(3);
/// Likewise once the input has ended and the user waits for penlog to exit.
const HOLD_AT_END: Duration = Duration::from_secs(1);
/// Likewise for a collector that has replied before: it is of this package, and busy or away.
const HOLD_OURS: Duration = Duration::from_secs(60);
/// Pause between the first two questions; doubled each time, up to the longest.
const ASK_FIRST: Duration = Duration::from_millis(250);
const ASK_LAST: Duration = Duration::from_secs(4);
/// Pause between questions to a collector that refuses datagrams.
const ASK_REFUSED: Duration = Duration::from_millis(500);
/// First and longest pause between questions to a classic collector, which logs a complaint about each; doubled each time.
const ASK_CLASSIC: Duration = Duration::from_secs(10);
const ASK_CLASSIC_LAST: Duration = Duration::from_secs(60);
/// A reply is late after this time. A collector replies once the lines before are in its log, so after its `--wait`.
const LATE: Duration = Duration::from_millis(600);
/// Silence after which a collector of this package counts as away.
const AWAY: Duration = Duration::from_secs(10);
/// Pause after which an idle collector is asked whether it is still there.
const IDLE: Duration = Duration::from_secs(10);
/// Longest time from a shipment to the question for its confirmation. A restart of either end doubles or loses the
/// unconfirmed lines.
const CONFIRM: Duration = Duration::from_millis(200);

/// Silence of a collector of this package after which no further shipments are sent: it holds a reply for a second at
/// most while it can write.
const STALLED: Duration = Duration::from_millis(1_500);

/// Window in bytes if the collector does not name one: a quarter of Linux's default receive buffer.
const WINDOW: u64 = 48 << 10;
/// Largest window in bytes; more costs memory without gain.
const WINDOW_MAX: u64 = 8 << 20;

#[derive(Debug)]
#[expect(clippy::struct_excessive_bools, reason = "independent facts")]
pub(crate) struct LinkState {
    state: LinkPhase,
    /// Never ask (`--classic`).
    classic_only: bool,
    /// The collector has replied before: it is of this package.
    ours: bool,
    /// The input has ended.
    ended: bool,
    /// The question without a reply, if any.
    asked: Option<PendingQuestion>,
    /// The last reply came late, and says nothing of what was sent since its question.
    is_unsure: bool,
    /// Bytes sent, and bytes confirmed, since shipping began.
    sent: u64,
    confirmed: u64,
    /// When the first of the unconfirmed bytes was sent, or a time before.
    unconfirmed_since: Instant,
    next_question: QuestionTime,
}

#[derive(Clone, Copy, Debug)]
enum LinkPhase {
    Asking { until: Instant, next: Instant, pause: Duration },
    Shipping { window: u64, heard: Instant },
    Classic { hold: Option<Instant>, next: Instant, pause: Duration },
}

#[derive(Clone, Copy, Debug)]
struct PendingQuestion {
    nonce: u64,
    at: Instant,
    /// When first asked: later bytes are not confirmed by the reply.
    first: Instant,
    /// Bytes sent before this question.
    mark: u64,
}

/// Time of the next question while shipping.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum QuestionTime {
    /// To confirm shipments, or after a pause.
    WhenDue,
    /// Now: there is more to ask.
    AtOnce,
}

/// How lines are sent now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SendMode {
    /// Lines wait in the queue.
    Hold,
    /// As numbered shipments.
    Ship,
    /// One line per datagram.
    Classic,
}

/// What the sender does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LinkAction {
    Nothing,
    /// Send a question, then call [`LinkState::asked`].
    Ask,
    /// No reply from this address: try the next one, or fall back to classic.
    Silence,
}

/// What a reply changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ReplyOutcome {
    /// The nonce is unknown: ignore the reply.
    Stray,
    /// The collector is of this package: shipping begins.
    Ours,
    /// This many bytes are confirmed.
    Confirmed(u64),
}

impl LinkState {
    /// With `ours`, the collector has replied in an earlier run.
    pub(crate) fn new(classic_only: bool, ours: bool, now: Instant) -> Self {
        let mut link = Self {
            state: LinkPhase::Classic { hold: None, next: now, pause: ASK_CLASSIC },
            classic_only,
            ours,
            ended: false,
            asked: None,
            is_unsure: false,
            sent: 0,
            confirmed: 0,
            unconfirmed_since: now,
            next_question: QuestionTime::WhenDue,
        };
        link.begin(now);
        link
    }

    /// Starts again at once, perhaps with another address.
    pub(crate) fn begin(&mut self, now: Instant) {
        self.begin_at(now, now);
    }

    /// Starts again and asks at `next`.
    fn begin_at(&mut self, now: Instant, next: Instant) {
        (self.asked, self.is_unsure) = (None, false);
        (self.sent, self.confirmed) = (0, 0);
        self.state = if self.classic_only {
            let hold = (next > now).then_some(next);
            LinkPhase::Classic { hold, next: now, pause: ASK_CLASSIC }
        } else {
            LinkPhase::Asking { until: next + self.hold(), next, pause: ASK_FIRST }
        };
    }

    const fn hold(&self) -> Duration {
        match (self.ended, self.ours) {
            (_, true) => HOLD_OURS,
            (true, false) => HOLD_AT_END,
            (false, false) => HOLD,
        }
    }

    /// The input has ended: wait less.
    pub(crate) fn input_ended(&mut self, now: Instant) {
        if !self.ended {
            self.ended = true;
            let latest = now + self.hold();
            if let LinkPhase::Asking { until, .. } = &mut self.state {
                *until = (*until).min(latest);
            }
        }
    }

    pub(crate) fn mode(&self, now: Instant) -> SendMode {
        match self.state {
            LinkPhase::Asking { .. } => SendMode::Hold,
            // What is sent now might arrive before what was lost, and lines would come out of order.
            LinkPhase::Shipping { .. } if self.is_stalled(now) => SendMode::Hold,
            LinkPhase::Shipping { .. } => SendMode::Ship,
            LinkPhase::Classic { hold: Some(until), .. } if now < until => SendMode::Hold,
            LinkPhase::Classic { .. } => SendMode::Classic,
        }
    }

    /// Whether a question has had no reply for longer than a collector holds one, or the next question says more.
    fn is_stalled(&self, now: Instant) -> bool {
        self.is_unsure || self.asked.is_some_and(|asked| now >= asked.first + STALLED)
    }

    /// Returns whether `len` more bytes fit into the window.
    pub(crate) fn has_room(&self, len: usize) -> bool {
        let LinkPhase::Shipping { window, .. } = self.state else { return false };
        let under_way = self.sent - self.confirmed;
        under_way == 0 || under_way + len as u64 <= window
    }

    /// Counts `len` bytes as sent. Returns the total, the mark that a later reply confirms.
    pub(crate) fn sent(&mut self, len: usize, now: Instant) -> u64 {
        if self.is_confirmed() {
            self.unconfirmed_since = now;
        }
        self.sent += len as u64;
        self.sent
    }

    /// Returns whether every sent byte is confirmed.
    pub(crate) const fn is_confirmed(&self) -> bool {
        self.sent == self.confirmed
    }

    /// Counts unconfirmed bytes as not sent: they will be sent again.
    pub(crate) fn rewind(&mut self) {
        self.sent = self.confirmed;
    }

    /// Returns what to do at `now`.
    pub(crate) fn tick(&mut self, now: Instant) -> LinkAction {
        match self.state {
            LinkPhase::Asking { until, .. } if now >= until => LinkAction::Silence,
            LinkPhase::Asking { next, .. } if now >= next => LinkAction::Ask,
            LinkPhase::Shipping { heard, .. } if now >= heard + AWAY && self.asked.is_some() => {
                self.begin(now);
                LinkAction::Ask
            }
            LinkPhase::Shipping { .. } if now >= self.ask_at() => LinkAction::Ask,
            LinkPhase::Classic { next, .. } if !self.classic_only && now >= next => LinkAction::Ask,
            _ => LinkAction::Nothing,
        }
    }

    /// Returns when [`LinkState::tick`] or [`LinkState::mode`] will change their answer.
    pub(crate) fn due(&self, now: Instant) -> Instant {
        match self.state {
            LinkPhase::Asking { until, next, .. } => until.min(next),
            LinkPhase::Shipping { .. } => self.ask_at(),
            LinkPhase::Classic { hold, next, .. } => {
                let next = if self.classic_only { now + IDLE } else { next };
                hold.filter(|hold| *hold > now).map_or(next, |hold| hold.min(next))
            }
        }
    }

    /// Returns when to ask a collector of this package next.
    fn ask_at(&self) -> Instant {
        let LinkPhase::Shipping { window, heard } = self.state else {
            return self.unconfirmed_since;
        };
        match self.asked {
            Some(asked) => asked.at + LATE,
            None if self.is_unsure || self.next_question == QuestionTime::AtOnce => heard,
            None if self.sent - self.confirmed >= window / 2 => self.unconfirmed_since,
            None if !self.is_confirmed() && self.ended => self.unconfirmed_since,
            None if !self.is_confirmed() => self.unconfirmed_since + CONFIRM,
            None => heard + IDLE,
        }
    }

    /// Returns the nonce of the next question. An unanswered question is repeated with its nonce, so that a late
    /// reply counts.
    pub(crate) fn nonce(&self, fresh: u64) -> u64 {
        self.asked.map_or(fresh, |asked| asked.nonce)
    }

    /// Decides when the next question is asked.
    pub(crate) fn ask_next(&mut self, time: QuestionTime) {
        self.next_question = time;
    }

    /// Notes that the question was sent.
    pub(crate) fn asked(&mut self, nonce: u64, now: Instant) {
        let (first, mark) = self.asked.map_or((now, self.sent), |asked| (asked.first, asked.mark));
        self.asked = Some(PendingQuestion { nonce, at: now, first, mark });
        match &mut self.state {
            LinkPhase::Asking { next, pause, .. } => {
                *next = now + *pause;
                *pause = (*pause * 2).min(ASK_LAST);
            }
            LinkPhase::Classic { next, pause, .. } => {
                *next = now + *pause;
                *pause = (*pause * 2).min(ASK_CLASSIC_LAST);
            }
            LinkPhase::Shipping { .. } => {}
        }
    }

    /// Returns whether this answers the last question.
    pub(crate) fn is_reply(&self, answer: &DiscoveryAnswer) -> bool {
        self.asked.is_some_and(|asked| asked.nonce == answer.nonce)
    }

    /// Processes a reply of the collector.
    pub(crate) fn answered(&mut self, answer: &DiscoveryAnswer, now: Instant) -> ReplyOutcome {
        let Some(asked) = self.asked.filter(|asked| asked.nonce == answer.nonce) else {
            return ReplyOutcome::Stray;
        };
        let window = match answer.window {
            0 => WINDOW,
            window => u64::from(window).min(WINDOW_MAX),
        };
        let shipping = matches!(self.state, LinkPhase::Shipping { .. });
        let is_late = now >= asked.first + STALLED;
        self.is_unsure = shipping && is_late && asked.mark < self.sent;
        self.state = LinkPhase::Shipping { window, heard: now };
        self.asked = None;
        self.ours = true;
        if shipping {
            self.confirmed = asked.mark;
            self.unconfirmed_since = asked.first;
            ReplyOutcome::Confirmed(self.confirmed)
        } else {
            (self.sent, self.confirmed) = (0, 0);
            ReplyOutcome::Ours
        }
    }

    /// Notes that the destination refused or was unreachable: hold lines, ask again later.
    pub(crate) fn refused(&mut self, now: Instant) {
        self.begin_at(now, now + ASK_REFUSED);
    }

    /// Handles the silence of every address. Falls back to classic datagrams, with a question from time to time, where the
    /// collector `refuses_streams` and has never replied. Otherwise returns `false`: lines wait, and
    /// questions go on.
    pub(crate) fn silent(&mut self, now: Instant, refuses_streams: bool) -> bool {
        if self.ours || !refuses_streams {
            self.begin(now);
            return false;
        }
        let next = now + ASK_CLASSIC;
        self.state = LinkPhase::Classic { hold: None, next, pause: ASK_CLASSIC };
        true
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use pen_records::shipment::StreamList;

    use super::*;

    fn answer(nonce: u64, window: u32) -> DiscoveryAnswer {
        let (received, positions) = (None, StreamList::default());
        DiscoveryAnswer { nonce, window, datagram: 0, received, positions }
    }

    fn shipping(window: u32, now: Instant) -> LinkState {
        let mut link = LinkState::new(false, false, now);
        link.asked(1, now);
        assert_eq!(link.answered(&answer(1, window), now), ReplyOutcome::Ours);
        link
    }

    fn after(now: Instant, millis: u64) -> Instant {
        now + Duration::from_millis(millis)
    }

    #[test]
    fn it_asks_holds_back_and_after_a_silence_speaks_classic() {
        let start = Instant::now();
        let mut link = LinkState::new(false, false, start);
        let mut asked = Vec::new();
        for millis in 0..3000 {
            let now = after(start, millis);
            assert_eq!(link.mode(now), SendMode::Hold);
            if link.tick(now) == LinkAction::Ask {
                asked.push(millis);
                link.asked(link.nonce(millis), now);
            }
        }
        assert_eq!(asked, [0, 250, 750, 1750]);
        let now = after(start, 3000);
        assert_eq!(link.tick(now), LinkAction::Silence);
        assert!(link.silent(now, true));
        assert_eq!((link.mode(now), link.tick(now)), (SendMode::Classic, LinkAction::Nothing));
        assert_eq!(link.tick(after(start, 13_000)), LinkAction::Ask);
        assert_eq!(link.answered(&answer(0, 0), now), ReplyOutcome::Ours, "late is good enough");
    }

    #[test]
    fn refusals_are_waited_out() {
        let start = Instant::now();
        let mut link = LinkState::new(false, false, start);
        for round in 0..100 {
            let now = after(start, round * 600);
            assert_eq!(link.tick(now), LinkAction::Ask, "round {round}");
            link.asked(round, now);
            link.refused(now);
            assert_eq!((link.mode(now), link.tick(now)), (SendMode::Hold, LinkAction::Nothing));
        }
        assert_eq!(link.tick(after(start, 64_000)), LinkAction::Silence);
    }

    #[test]
    fn no_more_than_the_window_is_under_way() {
        let now = Instant::now();
        let mut link = shipping(10_000, now);
        assert_eq!(link.mode(now), SendMode::Ship);
        for _ in 0..10 {
            assert!(link.has_room(1000));
            link.sent(1000, now);
        }
        assert!(!link.has_room(1000));
        assert_eq!(link.tick(now), LinkAction::Ask);
        link.asked(2, now);
        assert_eq!(link.answered(&answer(9, 10_000), now), ReplyOutcome::Stray);
        assert!(!link.has_room(1));
        assert_eq!(link.answered(&answer(2, 10_000), now), ReplyOutcome::Confirmed(10_000));
        assert!(link.has_room(10_000) && link.is_confirmed());
        link.sent(20_000, now);
        assert!(!link.has_room(1), "one that is too long goes alone");
    }

    #[test]
    fn half_a_window_is_asked_about_and_a_rest_after_a_pause() {
        let now = Instant::now();
        let mut link = shipping(10_000, now);
        link.sent(100, now);
        assert_eq!(
            (link.tick(now), link.tick(after(now, 200))),
            (LinkAction::Nothing, LinkAction::Ask)
        );
        link.sent(4900, now);
        assert_eq!(link.tick(now), LinkAction::Ask);
        link.asked(2, now);
        link.sent(1000, now);
        assert_eq!(link.tick(now), LinkAction::Nothing, "one question at a time");
        assert_eq!(link.tick(after(now, 600)), LinkAction::Ask, "asked again when late");
        link.asked(link.nonce(3), after(now, 600));
        assert_eq!(link.answered(&answer(2, 10_000), now), ReplyOutcome::Confirmed(5000));
    }

    #[test]
    fn steady_traffic_is_confirmed_several_times_a_second() {
        let start = Instant::now();
        let mut link = shipping(8 << 20, start);
        let mut unconfirmed = VecDeque::new();
        for millis in (0..60_000).step_by(10) {
            let now = after(start, millis);
            unconfirmed.push_back((link.sent(150, now), millis));
            if link.tick(now) == LinkAction::Ask {
                link.asked(link.nonce(millis), now);
                let reply = answer(millis, 8 << 20);
                let ReplyOutcome::Confirmed(mark) = link.answered(&reply, now) else {
                    panic!("a reply to its question");
                };
                unconfirmed.retain(|&(sent, _)| sent > mark);
            }
            let oldest = unconfirmed.front().map_or(millis, |&(_, sent)| sent);
            assert!(millis - oldest <= 250, "after {millis} ms the oldest is of {oldest}");
        }
    }

    #[test]
    fn a_collector_that_falls_silent_is_held_for_and_asked() {
        let start = Instant::now();
        let mut link = shipping(10_000, start);
        link.sent(9000, start);
        let (mut silent, mut asked) = (None, 0);
        for millis in 0..80_000 {
            let now = after(start, millis);
            match link.tick(now) {
                LinkAction::Ask => {
                    asked += 1;
                    link.asked(link.nonce(millis), now);
                }
                LinkAction::Silence => {
                    silent = Some(millis);
                    break;
                }
                LinkAction::Nothing => {}
            }
        }
        assert_eq!(silent, Some(70_000));
        assert!(asked < 60, "{asked} questions");
    }

    #[test]
    fn a_collector_that_has_been_ours_is_never_spoken_to_as_a_classic_one() {
        let start = Instant::now();
        for mut link in [shipping(10_000, start), LinkState::new(false, true, start)] {
            let (mut asked, mut silences) = (0, 0);
            for millis in (0..600_000).step_by(10) {
                let now = after(start, millis);
                match link.tick(now) {
                    LinkAction::Ask => {
                        asked += 1;
                        link.asked(link.nonce(millis), now);
                    }
                    LinkAction::Silence => {
                        silences += 1;
                        assert!(!link.silent(now, true));
                    }
                    LinkAction::Nothing => {}
                }
                assert_ne!(link.mode(now), SendMode::Classic, "after {millis} ms");
                link.sent(1, now);
            }
            assert!((120..300).contains(&asked), "{asked} questions");
            assert!(silences > 5, "other addresses are tried");
        }
    }

    #[test]
    fn a_classic_shipper_never_asks() {
        let start = Instant::now();
        let mut link = LinkState::new(true, false, start);
        for millis in (0..200_000).step_by(100) {
            let now = after(start, millis);
            assert_eq!((link.tick(now), link.mode(now)), (LinkAction::Nothing, SendMode::Classic));
        }
        link.refused(start);
        assert_eq!(link.mode(start), SendMode::Hold);
        assert_eq!(link.due(start), start + ASK_REFUSED);
        assert_eq!(link.mode(start + ASK_REFUSED), SendMode::Classic);
    }

    #[test]
    fn when_the_input_has_ended_silence_is_short() {
        let start = Instant::now();
        let mut link = LinkState::new(false, false, start);
        link.asked(1, start);
        link.input_ended(start);
        assert_eq!(link.tick(after(start, 1000)), LinkAction::Silence);
    }

    #[test]
    fn nothing_new_is_sent_while_the_collector_is_silent() {
        let start = Instant::now();
        let mut link = LinkState::new(false, false, start);
        link.asked(1, start);
        assert_eq!(link.answered(&answer(1, 0), start), ReplyOutcome::Ours);
        link.sent(100, start);
        link.asked(2, start);
        link.sent(50, start);
        let modes = [1_400, 1_500, 9_000].map(|millis| link.mode(after(start, millis)));
        assert_eq!(modes, [SendMode::Ship, SendMode::Hold, SendMode::Hold]);
        let now = after(start, 9_000);
        // What was sent after the question may be lost: that is asked first.
        assert_eq!(link.answered(&answer(2, 0), now), ReplyOutcome::Confirmed(100));
        assert_eq!((link.mode(now), link.tick(now)), (SendMode::Hold, LinkAction::Ask));
        link.asked(3, now);
        assert_eq!(link.answered(&answer(3, 0), now), ReplyOutcome::Confirmed(150));
        assert_eq!(link.mode(now), SendMode::Ship);
    }

    #[test]
    fn a_silent_collector_that_refuses_no_stream_is_not_taken_for_a_classic_one_until_it_does() {
        let start = Instant::now();
        let mut link = LinkState::new(false, false, start);
        assert!(!link.silent(start + HOLD, false));
        let later = start + HOLD + HOLD / 2;
        assert_eq!((link.mode(later), link.tick(later)), (SendMode::Hold, LinkAction::Ask));
        assert!(link.silent(start + 2 * HOLD, true));
    }
}
