//! Servers given by name, looked up again: new addresses join, and servers whose address is gone get no new clients.
//!
//! A server given by name stands for one of the name's addresses. Each further address becomes an additional server under a
//! free number, with the settings of the given one. [`renew`] computes the changes; `operate::name_resolver` is the thread
//! that looks names up.
//!
//! The system's resolver does not report how long an answer is valid, and it also knows files and other sources than DNS: so
//! names are looked up at an interval.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

use crate::config::{Endpoint, RuntimeSettings, ServerOrigin, ServerSettings};

/// Addresses by name. A name whose lookup failed is missing, and its servers stay unchanged.
pub type ResolvedNames = BTreeMap<String, Vec<IpAddr>>;

/// Names of servers.
#[must_use]
pub fn names(settings: &RuntimeSettings) -> BTreeSet<String> {
    let special = [&settings.emergency, &settings.abuse].into_iter();
    let all = special.chain(&settings.servers).flatten();
    all.filter_map(|server| server.name.clone()).collect()
}

/// Applies lookup results and returns the changes. An address for which `is_ours` is true is never used as a server; a server
/// whose address is gone keeps its number while `is_busy`.
pub fn renew(
    settings: &mut RuntimeSettings,
    answers: &ResolvedNames,
    is_ours: impl Fn(&SocketAddr) -> bool,
    is_busy: impl Fn(usize) -> bool,
) -> Vec<String> {
    let mut changes = Vec::new();
    let gone = |(_, server): &(usize, &Option<ServerSettings>)| {
        server.as_ref().is_some_and(|server| server.origin == ServerOrigin::Withdrawn)
    };
    let gone: Vec<_> = settings.servers.iter().enumerate().filter(gone).map(|(at, _)| at).collect();
    for (name, port) in places(&settings.servers) {
        let Some(wanted) = wanted(answers, &name, port, &is_ours) else { continue };
        let group = NameGroup::of(&settings.servers, &name, port);
        let servers = &mut settings.servers;
        let changes = &mut changes;
        NameUpdate { name: &name, servers, wanted: &wanted, changes }.apply(&group);
    }
    // Whether a server that was just removed is busy is not known yet.
    let is_idle = |number| gone.contains(&number) && !is_busy(number);
    tidy(&mut settings.servers, is_idle, &mut changes);
    for (what, server) in [("emergency", &mut settings.emergency), ("abuse", &mut settings.abuse)] {
        let Some(server) = server else { continue };
        let (Some(name), Endpoint::Ip(addr)) = (&server.name, &server.addr) else { continue };
        let Some(wanted) = wanted(answers, name, addr.port(), &is_ours) else { continue };
        if !wanted.contains(addr) {
            changes.push(format!("{what} {name} is {} now, and was {addr}", wanted[0]));
            server.addr = Endpoint::Ip(wanted[0]);
        }
    }
    changes
}

/// Returns name and address of a server given by name.
fn place(server: &ServerSettings) -> Option<(&str, SocketAddr)> {
    match (&server.name, &server.addr) {
        (Some(name), Endpoint::Ip(addr)) => Some((name, *addr)),
        _ => None,
    }
}

/// Returns each name with its port once.
fn places(servers: &[Option<ServerSettings>]) -> BTreeSet<(String, u16)> {
    let places = servers.iter().flatten().filter_map(place);
    places.map(|(name, addr)| (name.to_owned(), addr.port())).collect()
}

fn wanted(
    answers: &ResolvedNames,
    name: &str,
    port: u16,
    is_ours: impl Fn(&SocketAddr) -> bool,
) -> Option<Vec<SocketAddr>> {
    let mut wanted: Vec<SocketAddr> = Vec::new();
    for ip in answers.get(name)? {
        let addr = SocketAddr::new(ip.to_canonical(), port);
        if !wanted.contains(&addr) && !is_ours(&addr) {
            wanted.push(addr);
        }
    }
    (!wanted.is_empty()).then_some(wanted)
}

/// The servers of one name and port, by number.
struct NameGroup {
    /// Servers given by this name.
    configured: Vec<usize>,
    /// Additional servers, one for each further address.
    resolved: Vec<usize>,
}

impl NameGroup {
    fn of(servers: &[Option<ServerSettings>], name: &str, port: u16) -> Self {
        let mut group = Self { configured: Vec::new(), resolved: Vec::new() };
        for (number, server) in servers.iter().enumerate() {
            let Some(server) = server else { continue };
            if place(server).is_some_and(|(found, addr)| found == name && addr.port() == port) {
                match server.origin {
                    ServerOrigin::Configured => group.configured.push(number),
                    ServerOrigin::Resolved | ServerOrigin::Withdrawn => group.resolved.push(number),
                }
            }
        }
        group
    }
}

/// Gives the servers of one name and port the addresses of a lookup.
struct NameUpdate<'a> {
    name: &'a str,
    servers: &'a mut Vec<Option<ServerSettings>>,
    /// The addresses, each once.
    wanted: &'a [SocketAddr],
    /// What has changed, as messages.
    changes: &'a mut Vec<String>,
}

impl NameUpdate<'_> {
    fn apply(mut self, group: &NameGroup) {
        let Some(&first) = group.configured.first() else { return };
        let mut free = self.wanted.to_vec();
        let mut take = |addr: &Endpoint| {
            let found = free.iter().position(|free| Endpoint::Ip(*free) == *addr);
            found.map(|at| free.remove(at)).is_some()
        };
        let mut keeps_addr = |number: &usize| {
            self.servers.get(*number).and_then(Option::as_ref).is_some_and(|it| take(&it.addr))
        };
        let (_, moving): (Vec<_>, Vec<_>) = group.configured.iter().partition(|it| keeps_addr(it));
        let (mut staying, leaving): (Vec<usize>, Vec<usize>) =
            group.resolved.iter().partition(|it| keeps_addr(it));
        let mut free = free.into_iter();
        for number in moving {
            self.readdress(number, &mut free, &mut staying);
        }
        let Some(model) = self.servers.get(first).cloned().flatten() else { return };
        staying.into_iter().for_each(|number| self.keep(number, &model));
        leaving.into_iter().for_each(|number| self.withdraw(number));
        free.for_each(|addr| self.add(addr, &model));
    }

    /// Replaces the address of a given server, which is gone or belongs to another server as well: by an unused
    /// address, or by that of an additional server.
    fn readdress(
        &mut self,
        number: usize,
        free: &mut impl Iterator<Item = SocketAddr>,
        staying: &mut Vec<usize>,
    ) {
        let addr = free.next().map(Endpoint::Ip).or_else(|| {
            let found = self.servers[staying.pop()?].take()?;
            Some(found.addr)
        });
        let Some(server) = &mut self.servers[number] else { return };
        let is_wanted = |addr: &Endpoint| self.wanted.iter().any(|it| Endpoint::Ip(*it) == *addr);
        let addr = match addr {
            Some(addr) => addr,
            // Fewer addresses than given servers: some servers share an address.
            None if is_wanted(&server.addr) => return,
            None => Endpoint::Ip(self.wanted[0]),
        };
        let (name, before) = (self.name, &server.addr);
        self.changes.push(format!("server {number} {name} is {addr} now, and was {before}"));
        server.addr = addr;
    }

    /// Keeps an additional server whose address still exists.
    fn keep(&mut self, number: usize, model: &ServerSettings) {
        let Some(server) = &mut self.servers[number] else { return };
        if server.origin == ServerOrigin::Withdrawn {
            self.changes.push(format!("server {number} {} {} is back", self.name, server.addr));
            (server.origin, server.draining) = (ServerOrigin::Resolved, false);
        }
        let ServerSettings { soft, hard, weight, prio, acl, .. } = *model;
        (server.soft, server.hard, server.weight) = (soft, hard, weight);
        (server.prio, server.acl) = (prio, acl);
    }

    /// Drains an additional server whose address is gone.
    fn withdraw(&mut self, number: usize) {
        if let Some(server) = &mut self.servers[number]
            && server.origin == ServerOrigin::Resolved
        {
            self.changes.push(format!("server {number} {} {} is gone", self.name, server.addr));
            (server.origin, server.draining) = (ServerOrigin::Withdrawn, true);
        }
    }

    /// Adds a server for a new address, under the lowest free number.
    fn add(&mut self, addr: SocketAddr, model: &ServerSettings) {
        let free = self.servers.iter().position(Option::is_none);
        let number = free.unwrap_or_else(|| {
            self.servers.push(None);
            self.servers.len() - 1
        });
        self.changes.push(format!("server {number} is {} {addr}", self.name));
        self.servers[number] = Some(ServerSettings {
            addr: Endpoint::Ip(addr),
            origin: ServerOrigin::Resolved,
            draining: false,
            ..model.clone()
        });
    }
}

/// Removes additional servers, once withdrawn and idle, or with a name that no given server has.
fn tidy(
    servers: &mut Vec<Option<ServerSettings>>,
    is_idle: impl Fn(usize) -> bool,
    changes: &mut Vec<String>,
) {
    let said = |server: &ServerSettings| server.origin == ServerOrigin::Configured;
    let said: BTreeSet<_> = servers
        .iter()
        .flatten()
        .filter(|server| said(server))
        .filter_map(|server| place(server).map(|(name, addr)| (name.to_owned(), addr.port())))
        .collect();
    for (number, slot) in servers.iter_mut().enumerate() {
        let Some(server) = slot else { continue };
        let is_said = place(server)
            .is_some_and(|(name, addr)| said.contains(&(name.to_owned(), addr.port())));
        let is_over = match server.origin {
            ServerOrigin::Configured => false,
            ServerOrigin::Resolved => !is_said,
            ServerOrigin::Withdrawn => !is_said || is_idle(number),
        };
        if is_over {
            changes.push(format!("server {number} {} is removed", server.addr));
            *slot = None;
        }
    }
    let used = servers.iter().rposition(Option::is_some).map_or(0, |last| last + 1);
    servers.truncate(used);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn ip(last: u8) -> IpAddr {
        [10, 0, 0, last].into()
    }

    fn server(name: Option<&str>, last: u8, port: u16) -> Option<ServerSettings> {
        let server = ServerSettings::new(Endpoint::Ip(SocketAddr::new(ip(last), port)));
        Some(ServerSettings { name: name.map(str::to_owned), ..server })
    }

    fn answer(name: &str, last: &[u8]) -> ResolvedNames {
        [(name.to_owned(), last.iter().map(|&last| ip(last)).collect())].into()
    }

    /// The last byte of each address, and the origin of each server: `s` configured, `f` resolved,
    /// `g` withdrawn.
    fn lasts(settings: &RuntimeSettings) -> Vec<(u8, char)> {
        let lasts = settings.servers.iter().map(|server| {
            let Some(server) = server else { return (0, '-') };
            let Endpoint::Ip(addr) = server.addr else { panic!("it has a port") };
            let IpAddr::V4(ip) = addr.ip() else { panic!("it is IPv4") };
            assert_eq!(server.draining, server.origin == ServerOrigin::Withdrawn);
            let origin = match server.origin {
                ServerOrigin::Configured => 's',
                ServerOrigin::Resolved => 'f',
                ServerOrigin::Withdrawn => 'g',
            };
            (ip.octets()[3], origin)
        });
        lasts.collect()
    }

    fn settings(servers: Vec<Option<ServerSettings>>) -> RuntimeSettings {
        RuntimeSettings { servers, ..RuntimeSettings::default() }
    }

    #[test]
    fn addresses_join_and_go_as_the_name_has_them() {
        let mut settings = settings(vec![server(Some("web"), 1, 80), server(None, 9, 80)]);
        for (answered, busy, expected) in [
            (&[1][..], true, vec![(1, 's'), (9, 's')]),
            // One more, told twice.
            (&[1, 2, 2], true, vec![(1, 's'), (9, 's'), (2, 'f')]),
            (&[3, 2, 1], true, vec![(1, 's'), (9, 's'), (2, 'f'), (3, 'f')]),
            // Gone, back, and gone for good.
            (&[3, 1], true, vec![(1, 's'), (9, 's'), (2, 'g'), (3, 'f')]),
            (&[3, 1, 2], true, vec![(1, 's'), (9, 's'), (2, 'f'), (3, 'f')]),
            (&[3, 1], false, vec![(1, 's'), (9, 's'), (2, 'g'), (3, 'f')]),
            (&[3, 1], false, vec![(1, 's'), (9, 's'), (0, '-'), (3, 'f')]),
            // A number that is free is used again.
            (&[3, 1, 4], true, vec![(1, 's'), (9, 's'), (4, 'f'), (3, 'f')]),
            // What was said moves to where nobody is yet, or takes over from one that was found.
            (&[3, 4, 5], true, vec![(5, 's'), (9, 's'), (4, 'f'), (3, 'f')]),
            (&[3, 4], true, vec![(3, 's'), (9, 's'), (4, 'f')]),
            // Nothing is learnt from nothing.
            (&[], true, vec![(3, 's'), (9, 's'), (4, 'f')]),
            (&[6], false, vec![(6, 's'), (9, 's'), (4, 'g')]),
            (&[6], false, vec![(6, 's'), (9, 's')]),
        ] {
            renew(&mut settings, &answer("web", answered), |_| false, |_| busy);
            assert_eq!(lasts(&settings), expected, "{answered:?}");
            let again = renew(&mut settings, &answer("web", answered), |_| false, |_| true);
            assert_eq!(again, <[String; 0]>::default(), "{answered:?}");
        }
    }

    #[test]
    fn a_name_that_is_said_several_times_has_a_server_for_each_address() {
        let web = || server(Some("web"), 1, 80);
        let mut settings = settings(vec![web(), web(), server(Some("web"), 1, 81), web()]);
        renew(&mut settings, &answer("web", &[1, 2]), |_| false, |_| false);
        // The third of port 80 has to share; at port 81 there is one more.
        assert_eq!(lasts(&settings), [(1, 's'), (2, 's'), (1, 's'), (1, 's'), (2, 'f')]);
    }

    #[test]
    fn what_is_said_of_a_server_holds_for_all_its_addresses() {
        let mut settings = settings(vec![server(Some("web"), 1, 80)]);
        settings.emergency = server(Some("web"), 1, 99);
        renew(&mut settings, &answer("web", &[1, 2]), |_| false, |_| false);
        let weight = |settings: &mut RuntimeSettings, weight| {
            settings.servers[0].as_mut().unwrap().weight = weight;
        };
        weight(&mut settings, 7);
        renew(&mut settings, &answer("web", &[2, 1]), |_| false, |_| false);
        assert!(settings.servers.iter().flatten().all(|server| server.weight == 7));
        assert_eq!(settings.emergency, server(Some("web"), 1, 99));
        // Where pen listens itself there is no server.
        let ours = |addr: &SocketAddr| addr.ip() == ip(3);
        renew(&mut settings, &answer("web", &[3, 2]), ours, |_| false);
        assert_eq!(lasts(&settings), [(2, 's')]);
        assert_eq!(settings.emergency, server(Some("web"), 2, 99));
        // With the server that was said its other addresses go.
        renew(&mut settings, &answer("web", &[2, 4]), ours, |_| false);
        settings.servers[0] = server(None, 8, 80);
        renew(&mut settings, &ResolvedNames::new(), ours, |_| true);
        assert_eq!(lasts(&settings), [(8, 's')]);
    }

    proptest! {
        #[test]
        fn each_address_has_one_server_and_what_was_said_stays(
            said in 1_usize..4, rounds in prop::collection::vec((prop::collection::vec(1_u8..9, 0..6), any::<u32>()), 1..8),
        ) {
            let mut settings = settings((0..said).map(|_| server(Some("web"), 1, 80)).collect());
            for (answered, busy) in rounds {
                renew(&mut settings, &answer("web", &answered), |_| false, |slot| busy & 1 << slot != 0);
                let lasts = lasts(&settings);
                prop_assert!(lasts[..said].iter().all(|(_, origin)| *origin == 's'));
                if answered.is_empty() {
                    continue;
                }
                let all: BTreeSet<_> = answered.iter().copied().collect();
                let up: Vec<_> = lasts.iter().filter(|(_, o)| "sf".contains(*o)).map(|(last, _)| *last).collect();
                prop_assert_eq!(up.iter().copied().collect::<BTreeSet<_>>(), all.clone());
                prop_assert_eq!(up.len(), all.len().max(said));
                prop_assert!(lasts.iter().all(|(last, o)| *o != 'g' || !all.contains(last)));
            }
        }
    }
}
