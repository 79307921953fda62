//! More connections than a worker reports in one step.

use std::collections::BTreeSet;
use std::num::NonZeroUsize;

use pen::config::PenConfig;
use pen::data::balancer::Bound;
use pen::data::relay::queries::{ask, close};
use pen::data::snapshot::ConnectionFilter;

use crate::support::{Listener, Site, Stream, localhost, over, wait_until};

const CROWD: usize = 1_100;

/// One worker has all of them.
fn crowd() -> (Site, Vec<Stream>, Vec<Stream>) {
    let listener = Listener::tcp();
    let settings = over(&[&listener.endpoint()]);
    let (listen, workers) = (vec![localhost(0)], NonZeroUsize::MIN);
    let config = PenConfig { listen, workers, settings, ..PenConfig::default() };
    let bound = Bound::bind(&config).expect("a port is free");
    let addr = bound.endpoints().next().expect("there is one").clone();
    let site = Site { balancer: Some(bound.start(&config).expect("it starts")), addr };
    let pairs = (0..CROWD).map(|_| (site.connect(), listener.accept()));
    let (clients, servers) = pairs.unzip();
    (site, clients, servers)
}

#[test]
fn each_of_a_crowd_is_listed_found_and_closed_by_its_number() {
    let (site, mut clients, _servers) = crowd();
    let shared = site.balancer().shared();
    wait_until("all are counted", || shared.open() == CROWD);
    let all = ask(shared, ConnectionFilter::First(usize::MAX)).connections;
    let numbers: BTreeSet<_> = all.iter().map(|one| one.number).collect();
    assert_eq!((all.len(), numbers.len()), (CROWD, CROWD));
    assert_eq!(ask(shared, ConnectionFilter::First(7)).connections.len(), 7);
    // By their order in the table: one of the first round, and the last.
    for (at, one) in [(0, &all[0]), (CROWD - 1, &all[CROWD - 1])] {
        let found = ask(shared, ConnectionFilter::Number(one.number)).connections;
        assert_eq!(found.iter().map(|one| one.number).collect::<Vec<_>>(), [one.number]);
        for fd in [one.client_fd, one.server_fd.expect("it has a server")] {
            assert_eq!(
                ask(shared, ConnectionFilter::Descriptor(fd)).connections[0].number,
                one.number
            );
        }
        assert!(close(shared, one.number));
        assert!(clients[at].is_cut());
        assert!(!close(shared, one.number), "it is gone");
        assert!(ask(shared, ConnectionFilter::Number(one.number)).connections.is_empty());
    }
    wait_until("two are gone", || shared.open() == CROWD - 2);
}
