//! Headers of the specification, and malformed headers.

use proptest::prelude::*;

use super::*;

fn forwarded(client: &str, to: &str) -> Header {
    Header::Forwarded { client: client.parse().unwrap(), to: to.parse().unwrap() }
}

fn binary_header(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
    let len = u16::try_from(rest.len()).unwrap().to_be_bytes();
    [&SIGNATURE[..], &[command, family], &len, rest].concat()
}

const FOUR: &[u8] = &[192, 0, 2, 1, 198, 51, 100, 7, 0x30, 0x39, 1, 187];

/// The addresses of [`FOUR`].
fn four() -> Header {
    forwarded("192.0.2.1:12345", "198.51.100.7:443")
}

fn with_checksum(sum: impl Fn(u32) -> u32) -> Vec<u8> {
    let fields = [&[4, 0, 1, 9, CRC32C, 0, 4][..], &[0; 4], &[5, 0, 2, 1, 2]].concat();
    let mut header = binary_header(0x21, 0x11, &[FOUR, &fields].concat());
    let sum = sum(checksum::of(&[&header])).to_be_bytes();
    let at = FIXED + 12 + 7;
    header[at..at + 4].copy_from_slice(&sum);
    header
}

#[test]
fn a_checksum_is_that_of_the_standard() {
    // The check value of CRC-32C, and RFC 3720, B.4.
    assert_eq!(checksum::of(&[b"123456789"]), 0xe306_9283);
    assert_eq!(checksum::of(&[&[0; 32]]), 0x8a91_36aa);
}

#[test]
fn a_header_says_who_the_client_is() {
    let six = forwarded("[2001:db8::1]:65535", "[2001:db8::2]:0");
    let mut six_bytes = [0; 36];
    for (at, byte) in [(0, 32), (1, 1), (2, 13), (3, 184), (15, 1)] {
        six_bytes[at] = byte;
        six_bytes[at + 16] = byte;
    }
    six_bytes[31] = 2;
    six_bytes[32..34].copy_from_slice(&[255, 255]);
    let unix = [0; 216];
    let line = |text: &str| text.as_bytes().to_vec();
    for (bytes, expected) in [
        (line("PROXY TCP4 192.0.2.1 198.51.100.7 12345 443\r\n"), four()),
        (line("PROXY TCP6 2001:db8::1 2001:db8::2 65535 0\r\n"), six),
        (
            line("PROXY TCP6 ::ffff:192.0.2.1 ::ffff:198.51.100.7 12345 443\r\n"),
            // As everywhere, it is IPv4.
            four(),
        ),
        (line("PROXY UNKNOWN\r\n"), Header::Own),
        (line("PROXY UNKNOWN ffff:f::f whatever \t\r\n"), Header::Own),
        (binary_header(0x21, 0x11, FOUR), four()),
        (binary_header(0x21, 0x11, &[FOUR, &[4, 0, 2, 0, 0]].concat()), four()),
        (binary_header(0x21, 0x21, &six_bytes), six),
        (with_checksum(|sum| sum), four()),
        // From nowhere, by itself, from a path, and by datagrams.
        (binary_header(0x21, 0x00, b""), Header::Own),
        (binary_header(0x21, 0x00, b"anything"), Header::Own),
        (binary_header(0x20, 0x00, b""), Header::Own),
        (binary_header(0x20, 0x11, b"not twelve"), Header::Own),
        (binary_header(0x21, 0x31, &unix), Header::Own),
        (binary_header(0x21, 0x12, FOUR), Header::Own),
    ] {
        let found = Header::parse(&bytes);
        assert_eq!(found, Ok(Some((expected, bytes.len()))), "{}", bytes.escape_ascii());
    }
}

#[test]
fn what_is_no_header_is_known_as_soon_as_it_can_be() {
    let line = |text: &str| text.as_bytes().to_vec();
    let long = format!("PROXY TCP4 {}", "1".repeat(96));
    for (bytes, expected) in [
        (line("G"), HeaderError::Start),
        (line("PROXY\t"), HeaderError::Start),
        (line("\r\n\r\n\0\r\nQUIX"), HeaderError::Start),
        (line(&long), HeaderError::Long),
        (line("PROXY TCP4 192.0.2.1 198.51.100.7 12345 443\n"), HeaderError::Line),
        (line("PROXY TCP4 192.0.2.1 198.51.100.7 12345\r\n"), HeaderError::Line),
        (line("PROXY TCP4 192.0.2.1 198.51.100.7 12345 443 1\r\n"), HeaderError::Line),
        (line("PROXY TCP4 192.0.2.1 198.51.100.7 12345 65536\r\n"), HeaderError::Line),
        (line("PROXY TCP4 192.0.2.1 198.51.100.7 +1 443\r\n"), HeaderError::Line),
        (line("PROXY TCP4 192.0.2.1 198.51.100.7 1 0443\r\n"), HeaderError::Line),
        (line("PROXY TCP4 192.0.2.1  198.51.100.7 1 443\r\n"), HeaderError::Line),
        (line("PROXY TCP4 2001:db8::1 2001:db8::2 1 443\r\n"), HeaderError::Line),
        (line("PROXY TCP6 192.0.2.1 198.51.100.7 1 443\r\n"), HeaderError::Line),
        (line("PROXY UDP4 192.0.2.1 198.51.100.7 1 443\r\n"), HeaderError::Line),
        (line("PROXY TCP4 web1 web2 1 443\r\n"), HeaderError::Line),
        (line("PROXY \r\n"), HeaderError::Line),
        (binary_header(0x11, 0x11, FOUR), HeaderError::Version),
        (binary_header(0x22, 0x11, FOUR), HeaderError::Version),
        (binary_header(0x21, 0x41, FOUR), HeaderError::Family),
        (binary_header(0x21, 0x13, FOUR), HeaderError::Family),
        (binary_header(0x21, 0x11, &FOUR[1..]), HeaderError::Short),
        (binary_header(0x21, 0x21, FOUR), HeaderError::Short),
        (binary_header(0x21, 0x11, &[FOUR, &[4, 0]].concat()), HeaderError::Short),
        (binary_header(0x21, 0x11, &[FOUR, &[4, 0, 2, 0]].concat()), HeaderError::Short),
        (binary_header(0x21, 0x11, &[FOUR, &[CRC32C, 0, 1, 0]].concat()), HeaderError::Checksum),
        (binary_header(0x20, 0x00, &vec![0; MAX]), HeaderError::Long),
        (with_checksum(|sum| sum ^ 1), HeaderError::Checksum),
    ] {
        assert_eq!(Header::parse(&bytes), Err(expected), "{}", bytes.escape_ascii());
    }
    // Before all of it has come.
    assert_eq!(Header::parse(&binary_header(0x21, 0x11, FOUR)[..15]), Ok(None));
    assert_eq!(Header::parse(b"\r\n\r\n\0\r\nQUIT\n\x21\x11\xff\xff"), Err(HeaderError::Long));
}

fn ip() -> impl Strategy<Value = IpAddr> {
    prop_oneof![
        any::<[u8; 4]>().prop_map(IpAddr::from),
        any::<[u8; 16]>().prop_map(IpAddr::from),
        any::<[u8; 4]>().prop_map(|ip| Ipv4Addr::from(ip).to_ipv6_mapped().into()),
    ]
}

fn header() -> impl Strategy<Value = Header> {
    let addr = || (ip(), any::<u16>()).prop_map(SocketAddr::from);
    prop_oneof![
        9 => (addr(), addr()).prop_map(|(client, to)| Header::Forwarded { client, to }),
        1 => Just(Header::Own),
    ]
}

fn version() -> impl Strategy<Value = ProxyVersion> {
    prop_oneof![Just(ProxyVersion::V1), Just(ProxyVersion::V2)]
}

/// The same addresses, whatever family they are spelled in.
fn canonical(header: Header) -> Header {
    let canonical = |addr: SocketAddr| SocketAddr::new(addr.ip().to_canonical(), addr.port());
    match header {
        Header::Forwarded { client, to } => {
            Header::Forwarded { client: canonical(client), to: canonical(to) }
        }
        Header::Own => Header::Own,
    }
}

proptest! {
    #[test]
    fn what_is_written_is_read_whatever_follows_and_however_it_is_cut(
        header in header(), version in version(), rest in prop::collection::vec(any::<u8>(), 0..40),
    ) {
        let mut bytes = Vec::new();
        header.write(version, &mut bytes);
        let len = bytes.len();
        prop_assert!(version == ProxyVersion::V2 || len <= MAX_LINE);
        for cut in 0..len {
            prop_assert_eq!(Header::parse(&bytes[..cut]), Ok(None));
        }
        bytes.extend_from_slice(&rest);
        prop_assert_eq!(Header::parse(&bytes), Ok(Some((canonical(header), len))));
    }

    #[test]
    fn no_bytes_panic_and_a_verdict_is_final(
        header in header(), version in version(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
        tail in prop::collection::vec(any::<u8>(), 0..60),
    ) {
        let mut bytes = Vec::new();
        header.write(version, &mut bytes);
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        bytes.extend_from_slice(&tail);
        let mut verdict = Ok(None);
        for end in 0..=bytes.len() {
            let now = Header::parse(&bytes[..end]);
            if let Ok(Some((_, len))) = now {
                prop_assert!(len <= end);
            }
            prop_assert!(verdict == Ok(None) || verdict == now, "{:?} and then {:?}", verdict, now);
            verdict = now;
        }
    }
}
