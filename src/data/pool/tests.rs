//! Laws of the pool.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::num::NonZeroU32;

use proptest::prelude::*;

use super::*;
use crate::config::checks::HealthCheck;
use crate::config::{CapacityLimits, ServerSettings, Timeouts};

fn server(port: u16) -> ServerSettings {
    ServerSettings::new(Endpoint::Ip(SocketAddr::new(Ipv4Addr::LOCALHOST.into(), port)))
}

fn servers(count: u16) -> RuntimeSettings {
    RuntimeSettings {
        servers: (1..=count).map(|port| Some(server(port))).collect(),
        ..RuntimeSettings::default()
    }
}

fn with(modes: &[SelectionMode], settings: RuntimeSettings) -> RuntimeSettings {
    let modes = modes.iter().fold(SelectionModes::default(), |modes, &mode| modes.with(mode));
    RuntimeSettings { modes, ..settings }
}

fn caller(number: u16) -> Caller {
    let [high, low] = number.to_be_bytes();
    let ip = Ipv4Addr::new(127, 0, high, low);
    Caller { addr: ClientAddr::Ip(IpAddr::V4(ip)), port: 1_000 + number, admitted: true }
}

/// The number of the server that is chosen, which is then left at once.
fn visit(pool: &mut Pool, caller: &Caller, now: Instant) -> Option<PoolServerId> {
    let choice = pool.choose(caller, &mut Tried::default(), now, |_| true)?;
    let id = choice.lease.server();
    pool.connected(&choice.lease);
    pool.leave(choice.lease);
    Some(id)
}

fn slots(pool: &mut Pool, callers: impl IntoIterator<Item = u16>, now: Instant) -> Vec<u32> {
    callers
        .into_iter()
        .map(|number| match visit(pool, &caller(number), now) {
            Some(PoolServerId::Slot(slot)) => slot,
            other => panic!("client {number} got {other:?}"),
        })
        .collect()
}

#[test]
fn new_clients_take_turns_and_old_ones_keep_their_server() {
    let now = Instant::now();
    let mut pool = Pool::new(&servers(3));
    assert_eq!(slots(&mut pool, [1, 2, 3, 4, 1, 2, 3, 4], now), [1, 2, 0, 1, 1, 2, 0, 1]);
    let mut pool = Pool::new(&with(&[SelectionMode::RoundRobin], servers(3)));
    assert_eq!(slots(&mut pool, [1, 1, 1, 1], now), [1, 2, 0, 1]);
}

#[test]
fn priority_takes_the_lowest_number_that_works() {
    let now = Instant::now();
    let mut settings = with(&[SelectionMode::Prio, SelectionMode::RoundRobin], servers(3));
    for (server, prio) in settings.servers.iter_mut().flatten().zip([2, 1, 1]) {
        server.prio = prio;
    }
    let mut pool = Pool::new(&settings);
    assert_eq!(slots(&mut pool, [1, 1], now), [1, 1]);
    pool.blacklist(PoolServerId::Slot(1), Duration::from_secs(9), now);
    assert_eq!(slots(&mut pool, [1], now), [2]);
    pool.blacklist(PoolServerId::Slot(2), Duration::from_secs(9), now);
    assert_eq!(slots(&mut pool, [1], now), [0]);
}

#[test]
fn what_an_operator_ordered_outlasts_attempts_that_were_under_way() {
    let now = Instant::now();
    let mut pool = Pool::new(&servers(1));
    let id = PoolServerId::Slot(0);
    let mut attempt =
        || pool.choose(&caller(1), &mut Tried::default(), now, |_| true).unwrap().lease;
    let (one, other) = (attempt(), attempt());
    pool.blacklist(id, Duration::from_secs(600), now);
    pool.connected(&one);
    assert!(visit(&mut pool, &caller(2), now).is_none(), "one has succeeded");
    // Which is 30 seconds where nothing was ordered.
    pool.failed(other, now);
    assert!(
        visit(&mut pool, &caller(2), now + Duration::from_secs(599)).is_none(),
        "one has failed"
    );
    pool.blacklist(id, Duration::ZERO, now);
    assert_eq!(visit(&mut pool, &caller(2), now), Some(id));
    pool.leave(one);
}

#[test]
fn an_attempt_that_succeeds_makes_up_for_one_that_failed() {
    let now = Instant::now();
    let mut pool = Pool::new(&servers(1));
    let mut attempt =
        || pool.choose(&caller(1), &mut Tried::default(), now, |_| true).unwrap().lease;
    let (one, other) = (attempt(), attempt());
    pool.failed(one, now);
    assert!(visit(&mut pool, &caller(2), now).is_none());
    pool.connected(&other);
    assert_eq!(visit(&mut pool, &caller(2), now), Some(PoolServerId::Slot(0)));
    pool.leave(other);
}

#[test]
fn a_draining_server_gets_nobody_and_keeps_its_counts() {
    let now = Instant::now();
    let mut settings = servers(2);
    let mut pool = Pool::new(&settings);
    assert_eq!(slots(&mut pool, [1, 2], now), [1, 0]);
    settings.servers[1].as_mut().unwrap().draining = true;
    pool.apply(&settings);
    assert_eq!(slots(&mut pool, [1, 2, 3], now), [0, 0, 0]);
    assert_eq!(pool.state(PoolServerId::Slot(1)).unwrap().served, 1);
}

#[test]
fn weights_are_kept_by_idle_and_by_busy_servers() {
    let now = Instant::now();
    let mut settings = with(&[SelectionMode::Weight, SelectionMode::RoundRobin], servers(3));
    for (server, weight) in settings.servers.iter_mut().flatten().zip([4, 1, 0]) {
        server.weight = weight;
    }
    let mut pool = Pool::new(&settings);
    let taken = slots(&mut pool, (0..10).map(|_| 1), now);
    assert_eq!(taken, [0, 0, 1, 0, 0, 0, 0, 1, 0, 0], "one after the other");
    let mut pool = Pool::new(&settings);
    for _ in 0..50 {
        let choice = pool.choose(&caller(1), &mut Tried::default(), now, |_| true).unwrap();
        pool.connected(&choice.lease);
        std::mem::forget(choice);
    }
    let load: Vec<u32> = pool.servers().map(|(_, state)| state.connections).collect();
    assert_eq!(load, [40, 10, 0], "all at a time");
}

#[test]
fn least_connections_finds_the_emptiest() {
    let now = Instant::now();
    let mut pool =
        Pool::new(&with(&[SelectionMode::LeastConnections, SelectionMode::RoundRobin], servers(2)));
    let mut held = Vec::new();
    for expected in [1, 0, 1, 0] {
        let choice = pool.choose(&caller(1), &mut Tried::default(), now, |_| true).unwrap();
        assert_eq!(choice.lease.server(), PoolServerId::Slot(expected));
        held.push(choice.lease);
    }
    pool.leave(held.remove(1));
    assert_eq!(slots(&mut pool, [1, 1], now), [0, 0]);
}

#[test]
fn a_hash_is_even_and_moves_only_the_clients_of_a_server_that_goes() {
    let now = Instant::now();
    let mut pool = Pool::new(&with(&[SelectionMode::Hash], servers(4)));
    // Tracking would remember them: each is asked as an unknown client.
    let ask = |pool: &mut Pool| slots(pool, 0..2_000, now);
    let before = ask(&mut pool);
    let mut count = HashMap::new();
    for slot in &before {
        *count.entry(*slot).or_insert(0) += 1;
    }
    for slot in 0..4 {
        assert!((420..580).contains(&count[&slot]), "{count:?}");
    }
    let mut pool = Pool::new(&with(&[SelectionMode::Hash], servers(4)));
    pool.blacklist(PoolServerId::Slot(2), Duration::from_secs(9), now);
    for (before, after) in before.iter().zip(ask(&mut pool)) {
        assert!(after == *before || *before == 2);
        assert_ne!(after, 2);
    }
}

#[test]
fn with_the_port_in_the_hash_one_client_is_spread() {
    let now = Instant::now();
    let mut pool = Pool::new(&with(&[SelectionMode::Hash, SelectionMode::RoundRobin], servers(2)));
    let mut count = [0; 2];
    for port in 0..200 {
        let caller = Caller { port, ..caller(1) };
        let Some(PoolServerId::Slot(slot)) = visit(&mut pool, &caller, now) else { panic!("none") };
        count[slot as usize] += 1;
    }
    assert!(count.iter().all(|count| (70..130).contains(count)), "{count:?}");
}

#[test]
fn a_failed_server_is_left_alone_for_a_while_and_the_next_one_tried() {
    let now = Instant::now();
    let mut pool = Pool::new(&servers(3));
    let mut tried = Tried::default();
    let mut order = Vec::new();
    while let Some(choice) = pool.choose(&caller(1), &mut tried, now, |_| true) {
        order.push(choice.lease.server());
        pool.failed(choice.lease, now);
    }
    assert_eq!(order, [1, 2, 0].map(PoolServerId::Slot));
    assert_eq!(visit(&mut pool, &caller(2), now), None);
    let later = now + Timeouts::default().blacklist;
    assert_eq!(visit(&mut pool, &caller(2), later - Duration::from_nanos(1)), None);
    assert!(visit(&mut pool, &caller(2), later).is_some());
    assert!(pool.servers().all(|(_, state)| state.connections == 0));
}

#[test]
fn a_blacklisting_by_hand_ends_by_hand() {
    let now = Instant::now();
    let mut pool = Pool::new(&servers(1));
    pool.blacklist(PoolServerId::Slot(0), Duration::from_secs(1_000), now);
    assert_eq!(visit(&mut pool, &caller(1), now), None);
    pool.blacklist(PoolServerId::Slot(0), Duration::ZERO, now);
    assert_eq!(slots(&mut pool, [1], now), [0]);
}

#[test]
fn a_stubborn_pool_tries_no_other_server() {
    let now = Instant::now();
    let mut pool = Pool::new(&with(&[SelectionMode::Stubborn], servers(2)));
    let mut tried = Tried::default();
    let choice = pool.choose(&caller(1), &mut tried, now, |_| true).unwrap();
    pool.failed(choice.lease, now);
    assert!(pool.choose(&caller(1), &mut tried, now, |_| true).is_none());
    let mut pool = Pool::new(&with(&[SelectionMode::Stubborn, SelectionMode::Hash], servers(2)));
    let own = slots(&mut pool, [1], now)[0];
    pool.blacklist(PoolServerId::Slot(own), Duration::from_secs(9), now);
    assert_eq!(visit(&mut pool, &caller(1), now), None);
}

#[test]
fn the_emergency_server_gets_who_finds_no_other_and_is_not_remembered() {
    let now = Instant::now();
    let settings = RuntimeSettings { emergency: Some(server(99)), ..servers(1) };
    let mut pool = Pool::new(&settings);
    pool.blacklist(PoolServerId::Slot(0), Duration::from_secs(5), now);
    assert_eq!(visit(&mut pool, &caller(1), now), Some(PoolServerId::Emergency));
    let later = now + Duration::from_secs(5);
    assert_eq!(slots(&mut pool, [1], later), [0]);
    let mut tried = Tried::default();
    pool.blacklist(PoolServerId::Slot(0), Duration::from_secs(5), later);
    let choice = pool.choose(&caller(1), &mut tried, later, |_| true).unwrap();
    pool.failed(choice.lease, later);
    assert!(pool.choose(&caller(1), &mut tried, later, |_| true).is_none());
}

#[test]
fn who_is_denied_gets_the_abuse_server_or_none() {
    let now = Instant::now();
    let denied = Caller { admitted: false, ..caller(1) };
    let mut pool = Pool::new(&servers(1));
    assert_eq!(visit(&mut pool, &denied, now), None);
    let mut pool = Pool::new(&RuntimeSettings { abuse: Some(server(98)), ..servers(1) });
    assert_eq!(visit(&mut pool, &denied, now), Some(PoolServerId::Abuse));
    let mut tried = Tried::default();
    let choice = pool.choose(&denied, &mut tried, now, |_| true).unwrap();
    pool.failed(choice.lease, now);
    assert!(pool.choose(&denied, &mut tried, now, |_| true).is_none());
}

#[test]
fn a_known_client_may_use_the_places_between_the_limits() {
    let now = Instant::now();
    for (soft, hard, strangers, known) in
        [(None, None, 9, 9), (Some(2), None, 2, 0), (Some(2), Some(3), 2, 1), (None, Some(4), 4, 0)]
    {
        let mut settings = servers(1);
        for server in settings.servers.iter_mut().flatten() {
            server.soft = soft.and_then(NonZeroU32::new);
            server.hard = hard.and_then(NonZeroU32::new);
        }
        let mut pool = Pool::new(&settings);
        visit(&mut pool, &caller(999), now).unwrap();
        let mut take = |number| {
            let choice = pool.choose(&caller(number), &mut Tried::default(), now, |_| true);
            choice.map(std::mem::forget).is_some()
        };
        let got = (0..9).filter(|&number| take(number)).count();
        let got_known = (0..9).filter(|_| take(999)).count();
        assert_eq!((got, got_known), (strangers, known), "soft {soft:?} hard {hard:?}");
    }
}

#[test]
fn a_servers_access_list_is_asked() {
    let now = Instant::now();
    let mut settings = servers(2);
    for (server, acl) in settings.servers.iter_mut().flatten().zip([4, 5]) {
        server.acl = acl;
    }
    let mut pool = Pool::new(&settings);
    for number in 0..4 {
        let choice = pool.choose(&caller(number), &mut Tried::default(), now, |acl| acl == 4);
        assert_eq!(choice.map(|choice| choice.lease.server()), Some(PoolServerId::Slot(0)));
    }
}

#[test]
fn a_lease_of_a_server_that_was_replaced_counts_for_no_server() {
    let now = Instant::now();
    let mut settings = servers(1);
    let mut pool = Pool::new(&settings);
    let choice = pool.choose(&caller(1), &mut Tried::default(), now, |_| true).unwrap();
    settings.servers[0] = Some(ServerSettings { weight: 7, ..server(1) });
    pool.apply(&settings);
    assert_eq!(pool.state(PoolServerId::Slot(0)).unwrap().connections, 1, "the same server");
    settings.servers[0] = Some(server(2));
    pool.apply(&settings);
    assert_eq!(pool.state(PoolServerId::Slot(0)).unwrap().connections, 0, "another one");
    pool.failed(choice.lease, now);
    let state = pool.state(PoolServerId::Slot(0)).unwrap();
    assert_eq!((state.connections, state.failures), (0, 0));
    settings.servers.clear();
    pool.apply(&settings);
    assert_eq!(visit(&mut pool, &caller(1), now), None);
}

#[derive(Clone, Debug)]
enum PoolAction {
    Choose(u16),
    Leave(usize),
    Fail(usize),
    Pass(u64),
}

fn actions() -> impl Strategy<Value = Vec<PoolAction>> {
    let action = prop_oneof![
        4 => (0_u16..6).prop_map(PoolAction::Choose),
        2 => (0_usize..20).prop_map(PoolAction::Leave),
        1 => (0_usize..20).prop_map(PoolAction::Fail),
        1 => (0_u64..40).prop_map(PoolAction::Pass),
    ];
    proptest::collection::vec(action, 0..120)
}

fn modes() -> impl Strategy<Value = SelectionModes> {
    use SelectionMode::{Hash, LeastConnections, Prio, RoundRobin, Stubborn, Weight};
    let all = vec![Hash, RoundRobin, Stubborn, Weight, Prio, LeastConnections];
    proptest::sample::subsequence(all, 0..=6)
        .prop_map(|modes| modes.into_iter().fold(SelectionModes::default(), SelectionModes::with))
}

proptest! {
    /// In every mode and after every event: counts equal the leases held, no limit is exceeded, no
    /// client gets a blacklisted server, and no client is refused while a server is free.
    #[test]
    fn limits_hold_and_counts_are_exact(
        modes in modes(),
        actions in actions(),
        plans in proptest::collection::vec((0_u32..4, 0_u32..5, 0_u32..3), 1..5),
    ) {
        let servers = plans.iter().zip(1..).map(|(&(soft, hard, weight), port)| Some(ServerSettings {
            soft: NonZeroU32::new(soft),
            hard: NonZeroU32::new(hard),
            weight,
            ..server(port)
        }));
        let limits = CapacityLimits { clients: 3.try_into().unwrap(), ..CapacityLimits::default() };
        let settings = RuntimeSettings { servers: servers.collect(), modes, limits, ..RuntimeSettings::default() };
        let mut pool = Pool::new(&settings);
        let mut now = Instant::now();
        let mut held: Vec<ServerLease> = Vec::new();
        for action in actions {
            match action {
                PoolAction::Choose(number) => {
                    let before: Vec<_> = pool.servers().map(|(id, s)| (id, s.clone())).collect();
                    match pool.choose(&caller(number), &mut Tried::default(), now, |_| true) {
                        Some(choice) => {
                            let id = choice.lease.server();
                            let (_, state) = before.iter().find(|(other, _)| *other == id).unwrap();
                            prop_assert!(!state.is_blacklisted(now) && !state.is_full(true));
                            held.push(choice.lease);
                        }
                        None if !modes.is_on(SelectionMode::Stubborn) => {
                            let free = before.iter().any(|(_, state)| {
                                let weighed = modes.is_on(SelectionMode::Weight) && !modes.is_on(SelectionMode::Prio);
                                usable(state, false, now, &|_| true)
                                    && (!weighed || state.config.weight > 0)
                            });
                            prop_assert!(!free);
                        }
                        None => {}
                    }
                }
                PoolAction::Leave(nth) if nth < held.len() => pool.leave(held.swap_remove(nth)),
                PoolAction::Fail(nth) if nth < held.len() => pool.failed(held.swap_remove(nth), now),
                PoolAction::Pass(seconds) => now += Duration::from_secs(seconds),
                PoolAction::Leave(_) | PoolAction::Fail(_) => {}
            }
            for (id, state) in pool.servers() {
                let leases = held.iter().filter(|lease| lease.server() == id).count();
                prop_assert_eq!(state.connections as usize, leases);
                let most = state.config.hard.or(state.config.soft);
                if let Some(hard) = state.config.hard {
                    prop_assert!(state.connections <= hard.get());
                } else if let Some(most) = most {
                    prop_assert!(state.connections <= most.get());
                }
            }
        }
    }
}

fn check(
    pool: &mut Pool,
    slot: u32,
    how: Result<(), String>,
    now: Instant,
) -> Option<HealthChange> {
    let addr = pool.state(PoolServerId::Slot(slot)).map(|state| state.config.addr.clone());
    pool.checked(PoolServerId::Slot(slot), &addr?, how, (NonZeroU32::MIN, NonZeroU32::MIN), now)
}

#[test]
fn a_server_that_is_down_gets_nobody_unless_all_are() {
    let now = Instant::now();
    let ill = || Err("it is ill".to_owned());
    let modes = [
        SelectionMode::RoundRobin,
        SelectionMode::Hash,
        SelectionMode::Weight,
        SelectionMode::Prio,
        SelectionMode::LeastConnections,
    ];
    for mode in modes.into_iter().map(Some).chain([None]) {
        let mut settings = servers(3);
        mode.into_iter().for_each(|mode| settings.modes.set(mode, true));
        settings.checks.check = Some(HealthCheck::Connect);
        let mut pool = Pool::new(&settings);
        slots(&mut pool, 0..20, now);
        assert_eq!(check(&mut pool, 1, ill(), now), Some(HealthChange::Down));
        assert_eq!(check(&mut pool, 2, ill(), now), Some(HealthChange::Down));
        // Old clients as well as new ones.
        assert!(slots(&mut pool, 0..40, now).iter().all(|&slot| slot == 0), "{mode:?}");
        assert_eq!(check(&mut pool, 0, ill(), now), Some(HealthChange::Down));
        assert_eq!(slots(&mut pool, 0..40, now).len(), 40, "{mode:?}: all are tried anyway");
        assert_eq!(check(&mut pool, 1, Ok(()), now), Some(HealthChange::Up));
        assert!(slots(&mut pool, 0..40, now).iter().all(|&slot| slot == 1), "{mode:?}");
        // The one that is well failed for a client just now: then the others are better than nobody.
        pool.blacklist(PoolServerId::Slot(1), Duration::from_secs(9), now);
        assert!(slots(&mut pool, 0..40, now).iter().all(|&slot| slot != 1), "{mode:?}");
        // Where nothing is checked, nothing is known.
        pool.blacklist(PoolServerId::Slot(1), Duration::ZERO, now);
        settings.checks.check = None;
        pool.apply(&settings);
        assert!(pool.servers().all(|(_, server)| !server.health.is_down()));
    }
}

#[test]
fn when_all_are_down_the_emergency_server_goes_before_them() {
    let now = Instant::now();
    let mut settings = servers(1);
    settings.emergency = Some(server(9));
    settings.checks.check = Some(HealthCheck::Connect);
    let mut pool = Pool::new(&settings);
    check(&mut pool, 0, Err("it is ill".to_owned()), now);
    assert_eq!(visit(&mut pool, &caller(1), now), Some(PoolServerId::Emergency));
    pool.blacklist(PoolServerId::Emergency, Duration::from_secs(9), now);
    assert_eq!(visit(&mut pool, &caller(1), now), Some(PoolServerId::Slot(0)));
}

#[test]
fn the_emergency_server_is_the_last_to_be_tried_when_it_is_down_itself() {
    let now = Instant::now();
    let mut settings = servers(1);
    (settings.emergency, settings.abuse) = (Some(server(9)), Some(server(8)));
    settings.checks.check = Some(HealthCheck::Connect);
    let mut pool = Pool::new(&settings);
    let counts = (NonZeroU32::MIN, NonZeroU32::MIN);
    for id in [PoolServerId::Slot(0), PoolServerId::Emergency, PoolServerId::Abuse] {
        let addr = pool.state(id).unwrap().config.addr.clone();
        let turn = pool.checked(id, &addr, Err("it is ill".to_owned()), counts, now);
        assert_eq!(turn, Some(HealthChange::Down));
    }
    let mut tried = Tried::default();
    for expected in [Some(PoolServerId::Slot(0)), Some(PoolServerId::Emergency), None] {
        let choice = pool.choose(&caller(1), &mut tried, now, |_| true);
        let lease = choice.map(|choice| choice.lease);
        assert_eq!(lease.as_ref().map(ServerLease::server), expected);
        lease.into_iter().for_each(|lease| pool.failed(lease, now));
    }
    // There is nobody else for those who are denied.
    let denied = Caller { admitted: false, ..caller(2) };
    assert_eq!(visit(&mut pool, &denied, now), Some(PoolServerId::Abuse));
}

#[test]
fn a_check_that_ends_when_none_is_asked_for_any_more_says_nothing() {
    let now = Instant::now();
    let mut settings = servers(2);
    settings.checks.check = Some(HealthCheck::Connect);
    let mut pool = Pool::new(&settings);
    settings.checks.check = None;
    pool.apply(&settings);
    assert_eq!(check(&mut pool, 0, Err("it is ill".to_owned()), now), None);
    assert!(pool.servers().all(|(_, server)| server.health == ServerHealth::default()));
}

#[test]
fn a_limit_is_no_reason_to_try_a_server_that_is_down() {
    let now = Instant::now();
    let mut settings = servers(2);
    settings.servers.iter_mut().flatten().for_each(|server| server.hard = NonZeroU32::new(1));
    settings.checks.check = Some(HealthCheck::Connect);
    let mut pool = Pool::new(&settings);
    check(&mut pool, 0, Err("it is ill".to_owned()), now);
    let first = pool.choose(&caller(1), &mut Tried::default(), now, |_| true).unwrap();
    assert_eq!(first.lease.server(), PoolServerId::Slot(1));
    assert!(pool.choose(&caller(2), &mut Tried::default(), now, |_| true).is_none());
    pool.leave(first.lease);
}
