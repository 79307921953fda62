//! The country of an address, from a database in the format of `MaxMind` (`GeoLite2`, `GeoIP2`, DB-IP).

use std::fmt;
use std::io::{self, ErrorKind};
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use maxminddb::{Reader, path};

/// A country's two letters (ISO 3166-1), in capitals.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Country([u8; 2]);

impl Country {
    /// Parses two letters, capitals or not.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let letters: [u8; 2] = text.as_bytes().try_into().ok()?;
        let is_name = letters.iter().all(u8::is_ascii_alphabetic);
        is_name.then(|| Self(letters.map(|letter| letter.to_ascii_uppercase())))
    }
}

impl fmt::Display for Country {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(std::str::from_utf8(&self.0).unwrap_or("??"))
    }
}

/// A country database, held in memory.
pub struct CountryDatabase {
    path: PathBuf,
    reader: Reader<Vec<u8>>,
}

impl CountryDatabase {
    /// Reads a database.
    ///
    /// # Errors
    /// The file cannot be read, or is not a country database.
    pub fn open(path: &Path) -> io::Result<Self> {
        Self::from_bytes(path, std::fs::read(path)?)
    }

    pub(crate) fn from_bytes(path: &Path, bytes: Vec<u8>) -> io::Result<Self> {
        let wrong = |error| io::Error::new(ErrorKind::InvalidData, error);
        let reader = Reader::from_source(bytes).map_err(wrong)?;
        Ok(Self { path: path.to_owned(), reader })
    }

    /// Returns the file that the database was read from.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns the country in which an address is used, or else registered; `None` if the database does not know.
    #[must_use]
    pub fn of(&self, ip: IpAddr) -> Option<Country> {
        // A lookup of IPv6 in a database of IPv4, or in a broken file, is an error: an unknown country.
        let found = self.reader.lookup(ip.to_canonical()).ok()?;
        ["country", "registered_country"].iter().find_map(|&which| {
            let code = found.decode_path::<&str>(&path![which, "iso_code"]).ok()??;
            Country::parse(code)
        })
    }
}

impl PartialEq for CountryDatabase {
    /// Returns whether both are the same edition of the same file.
    fn eq(&self, other: &Self) -> bool {
        let built = |countries: &Self| countries.reader.metadata().build_epoch;
        self.path == other.path && built(self) == built(other)
    }
}

impl Eq for CountryDatabase {}

impl fmt::Debug for CountryDatabase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Countries").field(&self.path).finish()
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    /// A database that knows the country of each of these IPv4 networks; no two may overlap.
    ///
    /// The format: a tree of nodes, each with a record for 0 and one for 1 of 24 bits; 16 zeros; data; the
    /// marker; what is to be known of it all (<https://maxmind.github.io/MaxMind-DB/>).
    pub(crate) fn database(networks: &[(&str, u8, &str)]) -> Vec<u8> {
        let text = |text: &str| {
            let mut bytes = vec![0x40 | u8::try_from(text.len()).unwrap()];
            bytes.extend_from_slice(text.as_bytes());
            bytes
        };
        let number = |kind: u8, number: u16| {
            let [high, low] = number.to_be_bytes();
            vec![kind << 5 | 2, high, low]
        };
        // Records: `Err(data)`, `Ok(node)`, or nothing.
        let mut nodes: Vec<[Option<Result<usize, usize>>; 2]> = vec![[None; 2]];
        let mut data = Vec::new();
        for &(network, bits, country) in networks {
            let at = data.len();
            for bytes in [vec![0xE1], text("country"), vec![0xE1], text("iso_code"), text(country)]
            {
                data.extend_from_slice(&bytes);
            }
            let address = network.parse::<Ipv4Addr>().unwrap().to_bits();
            let mut node = 0;
            for bit in 0..bits {
                let side = usize::from(address << bit >> 31 == 1);
                if bit + 1 == bits {
                    nodes[node][side] = Some(Err(at));
                } else if let Some(Ok(next)) = nodes[node][side] {
                    node = next;
                } else {
                    nodes.push([None; 2]);
                    nodes[node][side] = Some(Ok(nodes.len() - 1));
                    node = nodes.len() - 1;
                }
            }
        }
        let mut bytes = Vec::new();
        for record in nodes.iter().flatten() {
            let value = match *record {
                None => nodes.len(),
                Some(Ok(node)) => node,
                Some(Err(at)) => nodes.len() + 16 + at,
            };
            bytes.extend_from_slice(&u32::try_from(value).unwrap().to_be_bytes()[1..]);
        }
        bytes.extend_from_slice(&[0; 16]);
        bytes.extend_from_slice(&data);
        bytes.extend_from_slice(b"\xAB\xCD\xEFMaxMind.com\xE9");
        let count = u16::try_from(nodes.len()).unwrap();
        for (name, value) in [
            ("node_count", number(6, count)),
            ("record_size", number(5, 24)),
            ("ip_version", number(5, 4)),
            ("binary_format_major_version", number(5, 2)),
            ("binary_format_minor_version", number(5, 0)),
            ("database_type", text("Test")),
            // An array, a number of 64 bits and a map are kinds that take a byte more.
            ("languages", vec![0x00, 0x04]),
            ("build_epoch", vec![0x02, 0x02, 0x30, 0x39]),
            ("description", vec![0xE0]),
        ] {
            bytes.extend_from_slice(&text(name));
            bytes.extend_from_slice(&value);
        }
        bytes
    }

    #[test]
    fn an_address_is_of_the_country_that_the_database_says() {
        let bytes = database(&[("192.0.2.0", 24, "SE"), ("198.51.100.128", 25, "de")]);
        let countries = CountryDatabase::from_bytes(Path::new("test.mmdb"), bytes).unwrap();
        for (ip, expected) in [
            ("192.0.2.7", Some("SE")),
            ("192.0.3.7", None),
            ("198.51.100.200", Some("DE")),
            ("198.51.100.1", None),
            ("::ffff:192.0.2.1", Some("SE")),
            ("2001:db8::1", None),
        ] {
            let found = countries.of(ip.parse().unwrap()).map(|country| country.to_string());
            assert_eq!(found.as_deref(), expected, "{ip}");
        }
    }

    #[test]
    fn what_is_no_database_is_refused() {
        for bytes in [&b""[..], b"GIF89a", b"\xAB\xCD\xEFMaxMind.com"] {
            assert!(CountryDatabase::from_bytes(Path::new("x"), bytes.to_vec()).is_err());
        }
        for text in ["", "S", "SWE", "S1", "\u{e5}"] {
            assert_eq!(Country::parse(text), None, "{text}");
        }
    }
}
