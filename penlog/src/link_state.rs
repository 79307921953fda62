//! How to speak to the collector, and when to hold back.
//!
//! Pure: it is told what happened and when, and says what to do. Bytes are counted as they go out;
//! an answer confirms those that went out before its question.
//!
//! ```text
//!            answered                       unanswered for long, or refused
//! Asking ----------------> Shipping --------------------------------------> Asking
//!        ----------------> Classic  --------------------------------------> Asking
//!        silence for a while        refused
//! ```

use std::time::{Duration, Instant};

use pen_records::shipment::DiscoveryAnswer;

/// How long nobody answers until the collector is taken for a classic one.
const HOLD: Duration = Duration::from_secs(3);
/// The same when there is nothing more to read, and somebody waits for us to end.
const HOLD_AT_END: Duration = Duration::from_secs(1);
/// The same when it has answered before: it is ours, and busy or away.
const HOLD_OURS: Duration = Duration::from_secs(60);
/// Between questions at first, doubled each time.
const ASK_FIRST: Duration = Duration::from_millis(250);
/// Between questions to somebody who refuses.
const ASK_REFUSED: Duration = Duration::from_millis(500);
/// Between questions to a classic collector, which complains about each, at first; then doubled.
const ASK_CLASSIC: Duration = Duration::from_secs(10);
const ASK_CLASSIC_LAST: Duration = Duration::from_secs(60);
/// An answer is late after this.
const LATE: Duration = Duration::from_millis(250);
/// Without an answer for so long, a collector of ours is away.
const AWAY: Duration = Duration::from_secs(10);
/// A collector of ours is asked whether it is still there.
const IDLE: Duration = Duration::from_secs(10);
/// After a pause of this, what went out last wants confirming.
const CONFIRM: Duration = Duration::from_millis(200);

/// If the collector does not say: a quarter of what Linux gives a socket.
const WINDOW: u64 = 48 << 10;
/// More is of no use and costs memory here.
const WINDOW_MAX: u64 = 8 << 20;

#[derive(Debug)]
pub(crate) struct LinkState {
    state: LinkPhase,
    /// Never ask.
    classic_only: bool,
    /// The collector has answered before.
    ours: bool,
    /// Nothing more will be read.
    ended: bool,
    /// The question that is not answered yet.
    asked: Option<PendingQuestion>,
    /// Bytes that went out, and that are confirmed, since shipping began.
    sent: u64,
    confirmed: u64,
    /// When bytes went out last.
    sent_at: Instant,
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
    /// Bytes that had gone out before it.
    mark: u64,
}

/// How lines go out now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SendMode {
    /// Not at all.
    Hold,
    /// Framed and numbered.
    Ship,
    /// One by one.
    Classic,
}

/// What to do now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LinkAction {
    Nothing,
    /// Send a question, then tell [`LinkState::asked`].
    Ask,
    /// Nobody answered at this address: try the next, or else speak classic.
    Silence,
}

/// What an answer changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ReplyOutcome {
    /// Not asked for.
    Stray,
    /// It is one of ours: shipping begins.
    Ours,
    /// So many bytes are confirmed.
    Confirmed(u64),
}

impl LinkState {
    pub(crate) fn new(classic_only: bool, now: Instant) -> Self {
        let mut road = Self {
            state: LinkPhase::Classic { hold: None, next: now, pause: ASK_CLASSIC },
            classic_only,
            ours: false,
            ended: false,
            asked: None,
            sent: 0,
            confirmed: 0,
            sent_at: now,
        };
        road.begin(now);
        road
    }

    /// Begins anew, at once: with another address, perhaps.
    pub(crate) fn begin(&mut self, now: Instant) {
        self.begin_at(now, now);
    }

    /// Begins anew, and asks at `next`.
    fn begin_at(&mut self, now: Instant, next: Instant) {
        self.asked = None;
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

    /// Nothing more will be read: be quick.
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
            LinkPhase::Shipping { .. } => SendMode::Ship,
            LinkPhase::Classic { hold: Some(until), .. } if now < until => SendMode::Hold,
            LinkPhase::Classic { .. } => SendMode::Classic,
        }
    }

    /// Whether `len` more bytes may go out in a shipment.
    pub(crate) fn has_room(&self, len: usize) -> bool {
        let LinkPhase::Shipping { window, .. } = self.state else { return false };
        let under_way = self.sent - self.confirmed;
        under_way == 0 || under_way + len as u64 <= window
    }

    /// So many bytes went out in a shipment; gives back the mark behind them.
    pub(crate) fn sent(&mut self, len: usize, now: Instant) -> u64 {
        self.sent += len as u64;
        self.sent_at = now;
        self.sent
    }

    /// Whether anything is under way unconfirmed.
    pub(crate) const fn is_confirmed(&self) -> bool {
        self.sent == self.confirmed
    }

    /// What went out did not arrive: it will go out again.
    pub(crate) fn rewind(&mut self) {
        self.sent = self.confirmed;
    }

    /// What is to be done at this time.
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

    /// When [`LinkState::tick`] or [`LinkState::mode`] will have something new to say.
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

    /// When a collector of ours is asked next.
    fn ask_at(&self) -> Instant {
        let LinkPhase::Shipping { window, heard } = self.state else { return self.sent_at };
        match self.asked {
            Some(asked) => asked.at + LATE,
            None if self.sent - self.confirmed >= window / 2 => self.sent_at,
            None if !self.is_confirmed() && self.ended => self.sent_at,
            None if !self.is_confirmed() => self.sent_at + CONFIRM,
            None => heard + IDLE,
        }
    }

    /// The nonce of the question to send now. An unanswered one is asked again, so that a late
    /// answer counts.
    pub(crate) fn nonce(&self, fresh: u64) -> u64 {
        self.asked.map_or(fresh, |asked| asked.nonce)
    }

    /// The question has been sent.
    pub(crate) fn asked(&mut self, nonce: u64, now: Instant) {
        let mark = self.asked.map_or(self.sent, |asked| asked.mark);
        self.asked = Some(PendingQuestion { nonce, at: now, mark });
        match &mut self.state {
            LinkPhase::Asking { next, pause, .. } => {
                *next = now + *pause;
                *pause *= 2;
            }
            LinkPhase::Classic { next, pause, .. } => {
                *next = now + *pause;
                *pause = (*pause * 2).min(ASK_CLASSIC_LAST);
            }
            LinkPhase::Shipping { .. } => {}
        }
    }

    /// An answer has come.
    pub(crate) fn answered(&mut self, answer: &DiscoveryAnswer, now: Instant) -> ReplyOutcome {
        let Some(asked) = self.asked.filter(|asked| asked.nonce == answer.nonce) else {
            return ReplyOutcome::Stray;
        };
        let window = match answer.window {
            0 => WINDOW,
            window => u64::from(window).min(WINDOW_MAX),
        };
        let shipping = matches!(self.state, LinkPhase::Shipping { .. });
        self.state = LinkPhase::Shipping { window, heard: now };
        self.asked = None;
        self.ours = true;
        if shipping {
            self.confirmed = asked.mark;
            ReplyOutcome::Confirmed(self.confirmed)
        } else {
            (self.sent, self.confirmed) = (0, 0);
            ReplyOutcome::Ours
        }
    }

    /// The destination refuses, or can't be reached: hold on, ask again in a while.
    pub(crate) fn refused(&mut self, now: Instant) {
        self.begin_at(now, now + ASK_REFUSED);
    }

    /// Nobody answers, anywhere: speak classic, and ask now and then.
    pub(crate) fn speak_classic(&mut self, now: Instant) {
        let next = now + ASK_CLASSIC;
        self.state = LinkPhase::Classic { hold: None, next, pause: ASK_CLASSIC };
        self.ours = false;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn answer(nonce: u64, window: u32) -> DiscoveryAnswer {
        DiscoveryAnswer { nonce, window, datagram: 0 }
    }

    fn shipping(window: u32, now: Instant) -> LinkState {
        let mut road = LinkState::new(false, now);
        road.asked(1, now);
        assert_eq!(road.answered(&answer(1, window), now), ReplyOutcome::Ours);
        road
    }

    fn after(now: Instant, millis: u64) -> Instant {
        now + Duration::from_millis(millis)
    }

    #[test]
    fn it_asks_holds_back_and_after_a_silence_speaks_classic() {
        let start = Instant::now();
        let mut road = LinkState::new(false, start);
        let mut asked = Vec::new();
        for millis in 0..3000 {
            let now = after(start, millis);
            assert_eq!(road.mode(now), SendMode::Hold);
            if road.tick(now) == LinkAction::Ask {
                asked.push(millis);
                road.asked(road.nonce(millis), now);
            }
        }
        assert_eq!(asked, [0, 250, 750, 1750]);
        let now = after(start, 3000);
        assert_eq!(road.tick(now), LinkAction::Silence);
        road.speak_classic(now);
        assert_eq!((road.mode(now), road.tick(now)), (SendMode::Classic, LinkAction::Nothing));
        assert_eq!(road.tick(after(start, 13_000)), LinkAction::Ask);
        assert_eq!(road.answered(&answer(0, 0), now), ReplyOutcome::Ours, "late is good enough");
    }

    #[test]
    fn refusals_are_waited_out() {
        let start = Instant::now();
        let mut road = LinkState::new(false, start);
        for round in 0..100 {
            let now = after(start, round * 600);
            assert_eq!(road.tick(now), LinkAction::Ask, "round {round}");
            road.asked(round, now);
            road.refused(now);
            assert_eq!((road.mode(now), road.tick(now)), (SendMode::Hold, LinkAction::Nothing));
        }
        assert_eq!(road.tick(after(start, 64_000)), LinkAction::Silence);
    }

    #[test]
    fn no_more_than_the_window_is_under_way() {
        let now = Instant::now();
        let mut road = shipping(10_000, now);
        assert_eq!(road.mode(now), SendMode::Ship);
        for _ in 0..10 {
            assert!(road.has_room(1000));
            road.sent(1000, now);
        }
        assert!(!road.has_room(1000));
        assert_eq!(road.tick(now), LinkAction::Ask);
        road.asked(2, now);
        assert_eq!(road.answered(&answer(9, 10_000), now), ReplyOutcome::Stray);
        assert!(!road.has_room(1));
        assert_eq!(road.answered(&answer(2, 10_000), now), ReplyOutcome::Confirmed(10_000));
        assert!(road.has_room(10_000) && road.is_confirmed());
        road.sent(20_000, now);
        assert!(!road.has_room(1), "one that is too long goes alone");
    }

    #[test]
    fn half_a_window_is_asked_about_and_a_rest_after_a_pause() {
        let now = Instant::now();
        let mut road = shipping(10_000, now);
        road.sent(100, now);
        assert_eq!(
            (road.tick(now), road.tick(after(now, 200))),
            (LinkAction::Nothing, LinkAction::Ask)
        );
        road.sent(4900, now);
        assert_eq!(road.tick(now), LinkAction::Ask);
        road.asked(2, now);
        road.sent(1000, now);
        assert_eq!(road.tick(now), LinkAction::Nothing, "one question at a time");
        assert_eq!(road.tick(after(now, 250)), LinkAction::Ask, "asked again when late");
        road.asked(road.nonce(3), after(now, 250));
        assert_eq!(road.answered(&answer(2, 10_000), now), ReplyOutcome::Confirmed(5000));
    }

    #[test]
    fn a_collector_that_falls_silent_is_held_for_and_asked() {
        let start = Instant::now();
        let mut road = shipping(10_000, start);
        road.sent(9000, start);
        let (mut silent, mut asked) = (None, 0);
        for millis in 0..80_000 {
            let now = after(start, millis);
            match road.tick(now) {
                LinkAction::Ask => {
                    asked += 1;
                    road.asked(road.nonce(millis), now);
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
    fn a_classic_shipper_never_asks() {
        let start = Instant::now();
        let mut road = LinkState::new(true, start);
        for millis in (0..200_000).step_by(100) {
            let now = after(start, millis);
            assert_eq!((road.tick(now), road.mode(now)), (LinkAction::Nothing, SendMode::Classic));
        }
        road.refused(start);
        assert_eq!(road.mode(start), SendMode::Hold);
        assert_eq!(road.due(start), start + ASK_REFUSED);
        assert_eq!(road.mode(start + ASK_REFUSED), SendMode::Classic);
    }

    #[test]
    fn when_the_input_has_ended_silence_is_short() {
        let start = Instant::now();
        let mut road = LinkState::new(false, start);
        road.asked(1, start);
        road.input_ended(start);
        assert_eq!(road.tick(after(start, 1000)), LinkAction::Silence);
    }
}
