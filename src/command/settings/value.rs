//! The values of settings: one type for all, and the conversion from and to the types of the configuration.

use std::ffi::OsStr;
use std::fmt::{self, Display, Formatter};
use std::net::IpAddr;
use std::num::{NonZeroU32, NonZeroUsize};
use std::os::unix::ffi::OsStrExt as _;
use std::path::PathBuf;
use std::time::Duration;

use pen_stream::keys::PublicKey;

use crate::command::words::{DurationText, Quoted};
use crate::config::address::{ListenAddr, LogTargetArg, ServerArg};
use crate::config::checks::HealthCheck;
use crate::config::{
    ClientCertificates, FastClose, ForwardedFor, LogFormat, LogTransport, ProxyVersion, ServerTls,
    TlsVersion, TrustedPeer,
};

/// The value of a setting, as typed. `Display` writes the words after the verb.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SettingValue {
    /// No value.
    Absent,
    /// On or off.
    Switch(bool),
    /// A number.
    Number(usize),
    /// A duration; 0 means forever or never where the setting allows 0.
    Time(Duration),
    /// One of a few words.
    Word(&'static str),
    /// A path as typed.
    Path(PathBuf),
    /// A host name.
    Name(String),
    /// The protocols of ALPN.
    Protocols(Vec<String>),
    /// An address without a port.
    Address(IpAddr),
    /// Networks, or `unix`.
    Peers(Vec<TrustedPeer>),
    /// The treatment of an `X-Forwarded-For` header from the client.
    ForwardedFor(ForwardedFor),
    /// Addresses to listen on.
    Listen(Vec<ListenAddr>),
    /// A server with its limits.
    Server(ServerArg),
    /// Where mapping records go.
    Log(LogTargetArg),
    /// A health check.
    Check(HealthCheck),
    /// A public key.
    Key(PublicKey),
}

impl Display for SettingValue {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Absent | Self::Switch(_) => Ok(()),
            Self::Number(number) => number.fmt(f),
            Self::Time(time) => DurationText(*time).fmt(f),
            Self::Word(word) => f.write_str(word),
            Self::Path(path) | Self::Log(LogTargetArg::File(path)) => {
                Quoted(path.as_os_str()).fmt(f)
            }
            Self::Name(name) => f.write_str(name),
            Self::Protocols(protocols) => list(protocols, f),
            Self::Address(addr) => addr.fmt(f),
            Self::Peers(peers) => list(peers, f),
            Self::ForwardedFor(ForwardedFor::Replace) => f.write_str("replace"),
            Self::ForwardedFor(ForwardedFor::Append) => f.write_str("append"),
            Self::ForwardedFor(ForwardedFor::Keep(peers)) => {
                f.write_str("keep ")?;
                list(peers, f)
            }
            Self::Listen(addrs) => list(addrs, f),
            Self::Server(server) => Quoted(server.to_string().as_ref()).fmt(f),
            Self::Log(LogTargetArg::Collector(host, port)) => {
                ListenAddr::Port(host.clone(), *port).fmt(f)
            }
            Self::Check(check) => check.fmt(f),
            Self::Key(key) => key.fmt(f),
        }
    }
}

fn list<T: Display>(items: &[T], f: &mut Formatter<'_>) -> fmt::Result {
    for (at, item) in items.iter().enumerate() {
        let space = if at == 0 { "" } else { " " };
        write!(f, "{space}{}", Quoted(item.to_string().as_ref()))?;
    }
    Ok(())
}

impl Display for HealthCheck {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let quoted = |f: &mut Formatter<'_>, bytes| Quoted(OsStr::from_bytes(bytes)).fmt(f);
        match self {
            Self::Connect => f.write_str("tcp"),
            Self::Http { method, path, from, to } => {
                write!(f, "http {method} ")?;
                quoted(f, path.as_bytes())?;
                if from == to { write!(f, " {from}") } else { write!(f, " {from}-{to}") }
            }
            Self::Exchange { send, expect } => {
                if !send.is_empty() {
                    f.write_str("send ")?;
                    quoted(f, send)?;
                    f.write_str(" ")?;
                }
                f.write_str("expect ")?;
                quoted(f, expect)
            }
        }
    }
}

/// A type of the configuration that is the value of a setting.
pub(in crate::command) trait SettingType: Sized {
    /// Returns the value.
    fn to_value(&self) -> SettingValue;

    /// Returns the field for a value; `None` for a value of another type.
    fn from_value(value: &SettingValue) -> Option<Self>;
}

/// Implements [`SettingType`] for a type by a pair of patterns.
macro_rules! setting_type {
    ($($type:ty: $field:pat => $value:expr, $typed:pat => $from:expr;)+) => {$(
        impl SettingType for $type {
            fn to_value(&self) -> SettingValue {
                let $field = self;
                $value
            }

            fn from_value(value: &SettingValue) -> Option<Self> {
                if let $typed = value { $from } else { None }
            }
        }
    )+};
}

setting_type! {
    bool: on => SettingValue::Switch(*on), SettingValue::Switch(on) => Some(*on);
    u8: number => SettingValue::Number((*number).into()),
        SettingValue::Number(number) => (*number).try_into().ok();
    usize: number => SettingValue::Number(*number), SettingValue::Number(number) => Some(*number);
    NonZeroU32: number => SettingValue::Number(usize::try_from(number.get()).expect("usize has at least 32 bits")),
        SettingValue::Number(number) => u32::try_from(*number).ok().and_then(Self::new);
    NonZeroUsize: number => SettingValue::Number(number.get()),
        SettingValue::Number(number) => Self::new(*number);
    // No number is written as 0.
    Option<NonZeroUsize>: number => SettingValue::Number(number.map_or(0, NonZeroUsize::get)),
        SettingValue::Number(number) => Some(NonZeroUsize::new(*number));
    Duration: time => SettingValue::Time(*time), SettingValue::Time(time) => Some(*time);
    // No time is written as 0.
    Option<Duration>: time => SettingValue::Time(time.unwrap_or_default()),
        SettingValue::Time(time) => Some(Some(*time).filter(|time| !time.is_zero()));
    PathBuf: path => SettingValue::Path(path.clone()), SettingValue::Path(path) => Some(path.clone());
    String: name => SettingValue::Name(name.clone()), SettingValue::Name(name) => Some(name.clone());
    IpAddr: addr => SettingValue::Address(*addr), SettingValue::Address(addr) => Some(*addr);
    PublicKey: key => SettingValue::Key(*key), SettingValue::Key(key) => Some(*key);
    HealthCheck: check => SettingValue::Check(check.clone()),
        SettingValue::Check(check) => Some(check.clone());
    ForwardedFor: policy => SettingValue::ForwardedFor(policy.clone()),
        SettingValue::ForwardedFor(policy) => Some(policy.clone());
}

/// Implements [`SettingType`] for types whose absence is `no VERB`.
macro_rules! optional_setting_type {
    ($($type:ty),+) => {$(
        impl SettingType for Option<$type> {
            fn to_value(&self) -> SettingValue {
                self.as_ref().map_or(SettingValue::Absent, SettingType::to_value)
            }

            fn from_value(value: &SettingValue) -> Option<Self> {
                match value {
                    SettingValue::Absent => Some(None),
                    value => <$type>::from_value(value).map(Some),
                }
            }
        }
    )+};
}

optional_setting_type!(u8, PathBuf, String, IpAddr, HealthCheck, ProxyVersion, PublicKey);

/// Implements [`SettingType`] for lists; an empty list is `no VERB`.
macro_rules! list_setting_type {
    ($($item:ty => $variant:ident),+) => {$(
        impl SettingType for Vec<$item> {
            fn to_value(&self) -> SettingValue {
                if self.is_empty() { SettingValue::Absent } else { SettingValue::$variant(self.clone()) }
            }

            fn from_value(value: &SettingValue) -> Option<Self> {
                match value {
                    SettingValue::Absent => Some(Self::new()),
                    SettingValue::$variant(items) => Some(items.clone()),
                    _ => None,
                }
            }
        }
    )+};
}

list_setting_type!(String => Protocols, TrustedPeer => Peers);

/// A type whose values are a few words.
pub(in crate::command) trait WordChoice: Copy + PartialEq + 'static {
    /// The words and their meanings.
    const WORDS: &'static [(&'static str, Self)];
    /// The words as an error message lists them.
    const EXPECTED: &'static str;
}

/// Implements [`WordChoice`] and [`SettingType`] for a type.
macro_rules! word_choice {
    ($($type:ident, $expected:literal: $($word:literal => $variant:ident),+;)+) => {$(
        impl WordChoice for $type {
            const WORDS: &'static [(&'static str, Self)] = &[$(($word, Self::$variant)),+];
            const EXPECTED: &'static str = $expected;
        }

        impl SettingType for $type {
            fn to_value(&self) -> SettingValue {
                SettingValue::Word(match self { $(Self::$variant => $word),+ })
            }

            fn from_value(value: &SettingValue) -> Option<Self> {
                let SettingValue::Word(typed) = value else { return None };
                Self::WORDS.iter().find(|(word, _)| word == typed).map(|(_, choice)| *choice)
            }
        }
    )+};
}

word_choice! {
    FastClose, "up, down, both or off": "up" => Server, "down" => Client, "both" => Both, "off" => Off;
    LogTransport, "udp or stream": "udp" => Udp, "stream" => Stream;
    LogFormat, "extended or classic": "extended" => Extended, "classic" => Classic;
    ProxyVersion, "v1 or v2": "v1" => V1, "v2" => V2;
    ClientCertificates, "none, optional or required":
        "none" => None, "optional" => Optional, "required" => Required;
    TlsVersion, "1.2 or 1.3": "1.2" => V1_2, "1.3" => V1_3;
    ServerTls, "off, verified or unverified":
        "off" => Off, "verified" => Verified, "unverified" => Unverified;
}
