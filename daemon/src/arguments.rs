//! Values on the command line that several programs take.

use std::error::Error;
use std::fs::File;
use std::io::Read as _;
use std::net::SocketAddr;
use std::str::FromStr;

use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};
use pen_records::privacy::{Privacy, PrivacyMode};

use crate::error::{ActionError, Doing as _};

/// Bytes read of a key file, in case the file never ends.
const LONGEST_KEY: u64 = 4_096;

/// Returns a clap parser for the words of a table of word, help text and value. `T` parses the same words.
pub fn words<T, const N: usize>(
    table: [(&'static str, &'static str, T); N],
) -> impl TypedValueParser<Value = T>
where
    T: FromStr<Err: Error + Send + Sync> + Clone + Send + Sync + 'static,
{
    PossibleValuesParser::new(table.map(|(word, help, _)| PossibleValue::new(word).help(help)))
        .try_map(|word| word.parse())
}

/// Parses the value of an option that takes the address and the port of a socket.
///
/// # Errors
/// The text is not an IP address and a port.
pub fn socket_addr(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| {
        let example =
            if text.matches(':').count() > 1 { "[2001:db8::1]:10000" } else { "127.0.0.1:10000" };
        format!("expected ADDRESS:PORT, as in {example} (names are not looked up)")
    })
}

/// Returns the replacement of clients that the option `--privacy` asks for. Reads the key file.
///
/// # Errors
/// The key file cannot be read, or the key is too short.
pub fn privacy(mode: &PrivacyMode) -> Result<Privacy, ActionError> {
    let path = match mode {
        PrivacyMode::Cut { v4, v6 } => return Ok(Privacy::cut(*v4, *v6)),
        PrivacyMode::Key(path) => path,
    };
    let mut key = Vec::new();
    File::open(path)
        .and_then(|file| file.take(LONGEST_KEY).read_to_end(&mut key))
        .doing(format_args!("read the key {path}"))?;
    Privacy::keyed(&key).doing(format_args!("use the key {path}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_socket_address_has_an_address_and_a_port() {
        assert_eq!(socket_addr("127.0.0.1:80"), Ok(([127, 0, 0, 1], 80).into()));
        assert!(socket_addr("[::1]:80").is_ok());
        for (text, example) in [
            ("localhost:80", "127.0.0.1:10000"),
            ("127.0.0.1", "127.0.0.1:10000"),
            ("24913", "127.0.0.1:10000"),
            ("::1:80", "[2001:db8::1]:10000"),
        ] {
            let expected =
                format!("expected ADDRESS:PORT, as in {example} (names are not looked up)");
            assert_eq!(socket_addr(text), Err(expected), "{text}");
        }
    }
}
