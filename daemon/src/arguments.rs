//! Values on the command line that several programs take.

use std::error::Error;
use std::fs::File;
use std::io::{self, ErrorKind, Read as _};
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::path::Path;
use std::str::FromStr;

use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};
use clap::error::ContextKind;
use pen_records::privacy::{Privacy, PrivacyMode};

use crate::error::{ActionError, Doing as _};

/// Bytes read of a key file, in case the file never ends.
const LONGEST_KEY: u64 = 4_096;

/// Leaves out clap's tip to write an unknown option, or a negative number, behind `--`: there it would be another
/// argument.
#[must_use]
pub fn without_wrong_tip(mut error: clap::Error) -> clap::Error {
    if error.kind() == clap::error::ErrorKind::UnknownArgument {
        error.remove(ContextKind::Suggested);
    }
    error
}

/// Returns a clap parser for a whole number in `range`, of `things`.
pub fn number(
    things: &'static str,
    range: RangeInclusive<u32>,
) -> impl Fn(&str) -> Result<u32, String> + Clone + Send + Sync + 'static {
    move |text| {
        let number = text.parse().ok().filter(|number| range.contains(number));
        number.ok_or_else(|| {
            format!(
                "expected a number of {things} from {} to {}, without a unit",
                range.start(),
                range.end()
            )
        })
    }
}

/// Parses a UDP port: a number, or the name of a service in `/etc/services`.
///
/// # Errors
/// The text is neither.
pub fn udp_port(text: &str) -> Result<u16, String> {
    if text.bytes().all(|byte| byte.is_ascii_digit()) && !text.is_empty() {
        return text.parse().map_err(|_| "expected a port from 0 to 65535".to_owned());
    }
    service(text, Path::new("/etc/services")).ok_or_else(|| {
        "expected a port from 0 to 65535, or the name of a UDP service in /etc/services".to_owned()
    })
}

/// `line = name blanks port "/" protocol *(blanks alias) ["#" comment]`
fn service(name: &str, file: &Path) -> Option<u16> {
    let text = std::fs::read(file).ok()?;
    String::from_utf8_lossy(&text).lines().find_map(|line| {
        let mut words = line.split('#').next()?.split_whitespace();
        let first = words.next()?;
        let port = words.next()?.strip_suffix("/udp")?;
        (first == name || words.any(|alias| alias == name)).then(|| port.parse().ok()).flatten()
    })
}

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
        .map_err(|error| match error.kind() {
            ErrorKind::NotFound => io::Error::other(format!(
                "{error}: make one with `head -c 32 /dev/urandom | base64 > {path}`"
            )),
            _ => error,
        })
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

    #[test]
    fn a_service_is_found_by_name_and_alias_for_udp_only() {
        let file = std::env::temp_dir().join(format!("services.{}", std::process::id()));
        let text =
            "# comment\nsyslog\t514/udp\t# x\nshell 514/tcp cmd\npenlogd 10000/udp  pl log\n";
        std::fs::write(&file, text).unwrap();
        let found: Vec<_> = ["syslog", "shell", "cmd", "penlogd", "log", "comment"]
            .map(|name| service(name, &file))
            .into_iter()
            .collect();
        let _ = std::fs::remove_file(&file);
        assert_eq!(found, [Some(514), None, None, Some(10_000), Some(10_000), None]);
    }

    #[test]
    fn ports_are_numbers_or_services() {
        for (text, expected) in [("10000", Some(10_000)), ("0", Some(0)), ("65535", Some(65_535))] {
            assert_eq!(udp_port(text).ok(), expected, "{text}");
        }
        for text in ["65536", "99999999999999999999", "-1", "", "no such"] {
            assert!(udp_port(text).unwrap_err().starts_with("expected a port"), "{text}");
        }
    }
}
