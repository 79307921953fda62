//! Lists and whom they let pass.

use proptest::prelude::*;

use super::*;

fn client(text: &str) -> ClientAddr {
    ClientAddr::parse(text.as_bytes()).expect("an address")
}

fn rule(text: &str) -> AclRule {
    let words: Vec<_> = text.split(' ').collect();
    AclRule {
        verdict: AclVerdict::parse(words[0]).expect(text),
        matcher: ClientMatcher::parse(&words[1..]).expect(text),
    }
}

impl AccessList {
    fn permits(&self, client: ClientAddr) -> bool {
        self.judge(client, || None) == AclVerdict::Permit
    }
}

fn list(rules: &[&str]) -> AccessList {
    let mut list = AccessList::default();
    rules.iter().for_each(|text| list.push(rule(text)));
    list
}

#[test]
fn the_first_rule_that_fits_decides_and_else_the_opposite_of_the_last() {
    let cases: &[(&[&str], &str, bool)] = &[
        (&[], "10.0.0.1", true),
        (&["deny 10.0.0.1"], "10.0.0.1", false),
        (&["deny 10.0.0.1"], "10.0.0.2", true),
        (&["deny 10.0.0.1", "permit 10.0.0.2"], "10.0.0.3", false),
        (&["permit ::1"], "10.0.0.1", false),
        (&["permit 10.0.0.0/8", "deny 10.0.0.1"], "10.0.0.1", true),
        (&["deny 10.0.0.1", "permit 10.0.0.0/8"], "10.0.0.1", false),
        (&["permit 10.0.0.0/8"], "::ffff:10.1.1.1", true),
        (&["permit ::ffff:10.0.0.0/104"], "10.1.1.1", true),
        (&["permit 2001:db8::/32"], "2001:db8:1::1", true),
        (&["permit 2001:db8::/32"], "2001:db9::", false),
        (&["deny ::/0"], "::1", false),
        (&["deny 0.0.0.0/0"], "unix:", true),
        (&["deny unix"], "unix:", false),
        (&["deny unix"], "10.0.0.1", true),
    ];
    for (rules, addr, expected) in cases {
        assert_eq!(list(rules).permits(client(addr)), *expected, "{rules:?} {addr}");
    }
}

#[test]
fn bits_outside_of_the_mask_do_not_make_a_rule_dead() {
    for (text, spelt, inside) in [
        ("deny 127.0.0.5 255.255.255.0", "deny 127.0.0.0/24", "127.0.0.9"),
        ("deny 10.1.2.3/8", "deny 10.0.0.0/8", "10.9.9.9"),
        ("deny 2001:db8::7/32", "deny 2001:db8::/32", "2001:db8:ffff::"),
        ("deny 10.1.2.3 255.0.0.255", "deny 10.0.0.3 255.0.0.255", "10.77.88.3"),
    ] {
        assert_eq!(rule(text).to_string(), spelt);
        assert!(!list(&[text]).permits(client(inside)), "{text}");
    }
}

#[test]
fn a_stated_default_holds_for_everybody() {
    let mut list = list(&["permit 10.0.0.1"]);
    list.set_default(Some(AclVerdict::Permit));
    assert!(list.permits(client("192.0.2.1")));
    list.set_default(Some(AclVerdict::Deny));
    assert!(!list.permits(client("192.0.2.1")) && !list.permits(ClientAddr::Unix));
    assert!(list.permits(client("10.0.0.1")));
}

#[test]
fn a_rule_can_be_taken_out_again() {
    let mut list = list(&["deny 10.0.0.1", "deny 10.0.0.2"]);
    assert!(list.remove(rule("deny 10.0.0.1/32")));
    assert!(!list.remove(rule("deny 10.0.0.1")));
    assert!(list.permits(client("10.0.0.1")) && !list.permits(client("10.0.0.2")));
}

#[test]
fn what_is_no_rule_is_refused() {
    for (text, expected) in [
        ("", AclError::Client),
        ("web1", AclError::Client),
        ("10.0.0.1/33", AclError::Bits),
        ("::1/129", AclError::Bits),
        ("10.0.0.1/-1", AclError::Bits),
        ("10.0.0.1 255.0.0", AclError::Client),
        ("::1 ffff::", AclError::Client),
        ("10.0.0.1 255.0.0.0 more", AclError::Client),
        ("country", AclError::Client),
        ("country SWE", AclError::Country),
    ] {
        let words: Vec<_> = text.split_whitespace().collect();
        assert_eq!(ClientMatcher::parse(&words), Err(expected), "{text}");
    }
}

/// Few addresses and masks, so that rules overlap.
fn some_matcher() -> impl Strategy<Value = ClientMatcher> {
    prop_oneof![
        (0_u32..16, prop::sample::select(vec![0_u8, 8, 29, 30, 31, 32])).prop_map(|(a, bits)| {
            ClientMatcher::network(&format!("{}/{bits}", Ipv4Addr::from_bits(a))).unwrap()
        }),
        (0_u32..16, any::<u32>()).prop_map(|(a, mask)| ClientMatcher::v4(
            Ipv4Addr::from_bits(a),
            Ipv4Addr::from_bits(mask)
        )),
        (0_u128..16, 120_u8..=128).prop_map(|(a, bits)| ClientMatcher::v6(
            Ipv6Net::new(Ipv6Addr::from_bits(a), bits).unwrap()
        )),
        Just(ClientMatcher::Unix),
        prop::sample::select(vec!["SE", "DE"])
            .prop_map(|code| ClientMatcher::parse(&["country", code]).unwrap()),
    ]
}

/// Even IPv4 addresses are of one country.
fn country_of(client: ClientAddr) -> Option<Country> {
    let ClientAddr::Ip(IpAddr::V4(ip)) = client else { return None };
    ip.to_bits().is_multiple_of(2).then(|| Country::parse("SE").unwrap())
}

fn some_rule() -> impl Strategy<Value = AclRule> {
    (any::<bool>(), some_matcher()).prop_map(|(permit, matcher)| AclRule {
        verdict: if permit { AclVerdict::Permit } else { AclVerdict::Deny },
        matcher,
    })
}

fn some_client() -> impl Strategy<Value = ClientAddr> {
    prop_oneof![
        (0_u32..16).prop_map(|a| ClientAddr::from(IpAddr::from(Ipv4Addr::from_bits(a)))),
        (0_u128..16).prop_map(|a| ClientAddr::from(IpAddr::from(Ipv6Addr::from_bits(a)))),
        Just(ClientAddr::Unix),
    ]
}

/// The slow twin: one rule after the other.
fn scan(list: &AccessList, client: ClientAddr) -> AclVerdict {
    let found = list.rules.iter().find(|rule| rule.matcher.matches(client, country_of(client)));
    found.map_or_else(|| list.otherwise(client), |rule| rule.verdict)
}

proptest! {
    #[test]
    fn the_index_finds_what_a_scan_finds(
        rules in prop::collection::vec(some_rule(), 0..24),
        out in prop::collection::vec(any::<prop::sample::Index>(), 0..4),
        clients in prop::collection::vec(some_client(), 1..20),
    ) {
        let mut list = AccessList::default();
        rules.iter().for_each(|&rule| list.push(rule));
        for at in out {
            if !rules.is_empty() {
                list.remove(*at.get(&rules));
            }
        }
        for client in clients {
            let country = || country_of(client);
            prop_assert_eq!(list.judge(client, country), scan(&list, client), "{} {:?}", client, list);
        }
    }

    #[test]
    fn a_rule_is_read_as_it_is_written(one in some_rule()) {
        prop_assert_eq!(rule(&one.to_string()), one);
    }

    #[test]
    fn no_words_panic(words in prop::collection::vec("[0-9a-f:./ux-]{0,20}|\\PC{0,8}", 0..4)) {
        let words: Vec<_> = words.iter().map(String::as_str).collect();
        let parsed = ClientMatcher::parse(&words);
        if let Ok(who) = parsed {
            let text = who.to_string();
            prop_assert_eq!(ClientMatcher::parse(&text.split(' ').collect::<Vec<_>>()), Ok(who));
        }
    }
}
