//! Finds the difference of clocks among all up to a day.

use super::align::{self, Window, matched};
use super::gain::{CenterGain, GainTimes, middle};
use super::series::{self, Series};
use super::{ClockOffset, ClockSample, SECOND, SHORT, USUAL, VOTES, correlate};

/// A difference is told from chance by this gain, as one of all up to a day: in nats.
const FOUND: f64 = 20.0;
/// What a difference gains over the next best one, and over unrelated requests.
const LEAD: f64 = 8.0;
/// A difference that gains so much less than the best one is as good.
const AS_GOOD: f64 = 4.0;
/// Where requests repeat within the second, centers are tried at this distance, so many on either side: in
/// microseconds.
const STEP: i64 = SECOND / 100;
const STEPS: i64 = 50;
/// The error of a center, beside what is likely by its gains: the time that a server takes to log a line.
const ERROR: i64 = SECOND / 100;

/// Compares the log of a server with the mappings of that server. The time of a mapping is the end of
/// the response if timestamps of the balancer are finer than seconds, and otherwise the start of the
/// request.
#[must_use]
pub fn estimate(mappings: &ClockSample, lines: &ClockSample) -> ClockOffset {
    let pairs = Series::paired(mappings, lines);
    let voters = series::count(&pairs);
    let none = ClockOffset { voters, ..ClockOffset::default() };
    let window = Window::of(mappings.resolution, lines.resolution);
    if voters < VOTES {
        return none;
    }
    let times = GainTimes::new(&pairs, mappings, window);
    let Some((found, is_changing)) = best(&pairs, &times, (mappings, window)) else { return none };
    let times = if is_changing { times.of_changing_site() } else { times };
    let votes = matched(&pairs, window, found.center);
    if votes < VOTES {
        return none;
    }
    if window.is_coarse() {
        let near: Vec<_> = window.near(found.center).map(|at| times.gain(at)).collect();
        let (center, ..) = middle(&near, found.center);
        let ahead = whole_seconds(center);
        let fits_without = || matched(&pairs, window, 0) * 10 >= votes * 9;
        if ahead != 0 && lines.span() < SHORT && fits_without() {
            return none;
        }
        return ClockOffset { ahead, within: SECOND, votes, voters, center };
    }
    let refined = align::refine(&pairs, found.center, lines.resolution);
    let (ahead, within) = refined.unwrap_or_else(|| {
        let near = (-STEPS..=STEPS).map(|step| times.sharp_gain(found.center + step * STEP));
        let (center, error, _) = middle(&near.collect::<Vec<_>>(), found.center);
        (center, 2 * error + ERROR)
    });
    ClockOffset { ahead, within, votes, voters, center: ahead }
}

/// Returns the center that stands out, if one does, and whether it does so only if the site gets busier or quieter.
fn best(
    pairs: &[Series],
    times: &GainTimes,
    (mappings, window): (&ClockSample, Window),
) -> Option<(CenterGain, bool)> {
    let candidates = correlate::candidates(pairs).into_iter().chain([0]);
    let gains: Vec<CenterGain> = candidates
        .flat_map(|around| window.near(around))
        .map(|center| times.rough_gain(center))
        .collect();
    let best_of = |is_meant: &dyn Fn(i64) -> bool| {
        let meant = gains.iter().filter(|it| is_meant(it.center));
        // Of equal gains, the smallest difference wins.
        let order = |it: &CenterGain| (it.nats, -it.center.abs());
        let best = meant.max_by(|a, b| {
            let ((one, near), (other, nearer)) = (order(a), order(b));
            one.total_cmp(&other).then(near.cmp(&nearer))
        });
        best.map(|best| times.gain(best.center))
    };
    let best = best_of(&|_| true).filter(|best| best.nats >= LEAD)?;
    let second = best_of(&|at| (at - best.center).abs() >= window.width());
    // The control: unrelated requests of both logs, which are busy at the same times anyway.
    let control = series::shuffled(pairs).map(|pairs| GainTimes::new(&pairs, mappings, window));
    let lead = |over: Option<f64>| best.nats - over.unwrap_or(0.0).max(0.0);
    let leads = [second, control.as_ref().map(|times| times.gain(best.center))];
    if leads.iter().any(|over| lead(over.map(|it| it.nats)) < LEAD) {
        return None;
    }
    if best.nats < FOUND {
        // Of frequent requests the numbers differ by chance: a wrong difference loses, and the right one gains less.
        let control = control.filter(GainTimes::is_busy)?;
        let rough = |times: &GainTimes, at: i64| times.rough_gain(at).nats;
        let most = rough(times, best.center);
        let over = [Some(rough(&control, best.center)), second.map(|it| rough(times, it.center))];
        if over.into_iter().flatten().any(|over| most - over < FOUND) {
            return None;
        }
    }
    // If a right clock explains the pairs about as well, no correction is needed.
    let right = best_of(&|at| window.right().contains(&at));
    let Some(right) = right.filter(|right| right.center != best.center) else {
        return Some((best, false));
    };
    if best.nats - right.nats < AS_GOOD {
        return Some((right, false));
    }
    let changing = GainTimes::new(pairs, mappings, window).of_changing_site();
    let gain = |it: &CenterGain| changing.gain(it.center).nats;
    let is_as_good = changing.is_busy() && gain(&best) - gain(&right) < AS_GOOD;
    Some(if is_as_good { (right, true) } else { (best, false) })
}

/// Returns the difference of clocks that a center of whole seconds stands for: none where it may be the time that a
/// request takes.
#[must_use]
pub fn whole_seconds(center: i64) -> i64 {
    // A few differences of the second before are chance, or the fraction by which a clock is not set.
    let first = (center + SECOND / 10).div_euclid(SECOND) * SECOND;
    if USUAL.contains(&first) { 0 } else { first }
}
