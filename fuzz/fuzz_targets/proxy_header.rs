#![no_main]

use pen::config::ProxyVersion;
use pen::relay::proxy::Header;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let Ok(Some((header, len))) = Header::parse(bytes) else { return };
    assert_eq!(Header::parse(&bytes[..len]), Ok(Some((header, len))));
    assert_eq!(Header::parse(&bytes[..len - 1]), Ok(None));
    for version in [ProxyVersion::V1, ProxyVersion::V2] {
        let mut again = Vec::new();
        header.write(version, &mut again);
        assert_eq!(Header::parse(&again), Ok(Some((header, again.len()))));
    }
});
