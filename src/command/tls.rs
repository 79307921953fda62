//! The words about TLS: what they say, how they are written, and what they change.

use std::ffi::OsStr;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use rustls::pki_types::ServerName;

use super::apply::CommandEnv;
use super::words::Quoted;
use super::write::Time;
use crate::config::{ClientCertificates, ServerTls, TlsSettings, TlsVersion};

/// A setting of [`TlsSettings`], and its value.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "each is the field of TlsSettings that its verb names")]
pub enum TlsSetting {
    Certificate(Option<PathBuf>),
    Key(Option<PathBuf>),
    Staple(Option<PathBuf>),
    Names(Option<PathBuf>),
    Clients(ClientCertificates),
    CaFile(Option<PathBuf>),
    CaDir(Option<PathBuf>),
    Revoked(Option<PathBuf>),
    Oldest(TlsVersion),
    Alpn(Vec<String>),
    Look(Option<Duration>),
    Servers(ServerTls),
    ServersCa(Option<PathBuf>),
    ServersName(Option<String>),
}

/// A setting of [`TlsSettings`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "each is the setting of the same name")]
pub enum TlsItem {
    Certificate,
    Key,
    Staple,
    Names,
    Clients,
    CaFile,
    CaDir,
    Revoked,
    Oldest,
    Alpn,
    Look,
    Servers,
    ServersCa,
    ServersName,
}

impl TlsItem {
    /// All of them, in the order in which they are written.
    pub const ALL: [Self; 14] = [
        Self::Certificate,
        Self::Key,
        Self::Staple,
        Self::Names,
        Self::Clients,
        Self::CaFile,
        Self::CaDir,
        Self::Revoked,
        Self::Oldest,
        Self::Alpn,
        Self::Look,
        Self::Servers,
        Self::ServersCa,
        Self::ServersName,
    ];

    /// Its verb. Those of C pen are as they were, and the others are like them.
    #[must_use]
    pub const fn verb(self) -> &'static str {
        match self {
            Self::Certificate => "ssl_certificate",
            Self::Key => "ssl_key",
            Self::Staple => "ssl_ocsp_response",
            Self::Names => "ssl_sni_path",
            Self::Clients => "ssl_client_certificate",
            Self::CaFile => "ssl_ca_file",
            Self::CaDir => "ssl_ca_path",
            Self::Revoked => "ssl_crl_file",
            Self::Oldest => "ssl_minimum",
            Self::Alpn => "ssl_alpn",
            Self::Look => "ssl_reload",
            Self::Servers => "ssl_servers",
            Self::ServersCa => "ssl_servers_ca",
            Self::ServersName => "ssl_servers_name",
        }
    }

    /// The one with that verb.
    #[must_use]
    pub fn of(verb: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|item| item.verb() == verb)
    }

    /// What is expected behind the verb.
    pub(super) const fn expected(self) -> &'static str {
        match self {
            Self::Certificate
            | Self::Key
            | Self::Staple
            | Self::CaFile
            | Self::Revoked
            | Self::ServersCa => "the name of a file",
            Self::Names | Self::CaDir => "the name of a folder",
            Self::Clients => "none, optional or required",
            Self::Oldest => "1.2 or 1.3",
            Self::Alpn => "protocols, as in h2 http/1.1",
            Self::Look => "seconds, or a number with ms, s, m or h behind it",
            Self::Servers => "off, verified or unverified",
            Self::ServersName => "the name of a host, or an address",
        }
    }

    /// What words behind the verb say; `None` if it is not what is expected there.
    pub(super) fn parse(self, words: &[&OsStr]) -> Option<TlsSetting> {
        if self == Self::Alpn {
            let is_protocol = |word: &&str| {
                (1..=255).contains(&word.len()) && word.bytes().all(|byte| byte.is_ascii_graphic())
            };
            let word = |word: &&OsStr| word.to_str().filter(is_protocol).map(str::to_owned);
            let protocols: Option<Vec<_>> = words.iter().map(word).collect();
            return protocols.filter(|protocols| !protocols.is_empty()).map(TlsSetting::Alpn);
        }
        let [word] = words else { return None };
        let path = || Some(PathBuf::from(word)).filter(|path| !path.as_os_str().is_empty());
        let text = word.to_str();
        Some(match self {
            Self::Certificate => TlsSetting::Certificate(Some(path()?)),
            Self::Key => TlsSetting::Key(Some(path()?)),
            Self::Staple => TlsSetting::Staple(Some(path()?)),
            Self::Names => TlsSetting::Names(Some(path()?)),
            Self::CaFile => TlsSetting::CaFile(Some(path()?)),
            Self::CaDir => TlsSetting::CaDir(Some(path()?)),
            Self::Revoked => TlsSetting::Revoked(Some(path()?)),
            Self::ServersCa => TlsSetting::ServersCa(Some(path()?)),
            Self::Clients => TlsSetting::Clients(match text? {
                "none" => ClientCertificates::None,
                "optional" => ClientCertificates::Optional,
                "required" => ClientCertificates::Required,
                _ => return None,
            }),
            Self::Oldest => TlsSetting::Oldest(match text? {
                "1.2" => TlsVersion::V1_2,
                "1.3" => TlsVersion::V1_3,
                _ => return None,
            }),
            Self::Look => {
                let time = super::duration(text?)?;
                TlsSetting::Look(Some(time).filter(|time| !time.is_zero()))
            }
            Self::Servers => TlsSetting::Servers(match text? {
                "off" => ServerTls::Off,
                "verified" => ServerTls::Verified,
                "unverified" => ServerTls::Unverified,
                _ => return None,
            }),
            Self::ServersName => {
                ServerName::try_from(text?).ok()?;
                TlsSetting::ServersName(Some(text?.to_owned()))
            }
            Self::Alpn => return None,
        })
    }

    /// What `no` in front of the verb says.
    pub(super) const fn none(self) -> TlsSetting {
        match self {
            Self::Certificate => TlsSetting::Certificate(None),
            Self::Key => TlsSetting::Key(None),
            Self::Staple => TlsSetting::Staple(None),
            Self::Names => TlsSetting::Names(None),
            Self::Clients => TlsSetting::Clients(ClientCertificates::None),
            Self::CaFile => TlsSetting::CaFile(None),
            Self::CaDir => TlsSetting::CaDir(None),
            Self::Revoked => TlsSetting::Revoked(None),
            Self::Oldest => TlsSetting::Oldest(TlsVersion::V1_2),
            Self::Alpn => TlsSetting::Alpn(Vec::new()),
            Self::Look => TlsSetting::Look(None),
            Self::Servers => TlsSetting::Servers(ServerTls::Off),
            Self::ServersCa => TlsSetting::ServersCa(None),
            Self::ServersName => TlsSetting::ServersName(None),
        }
    }

    /// The command that would give it the value it has.
    pub(super) fn setting(self, tls: &TlsSettings) -> TlsSetting {
        match self {
            Self::Certificate => TlsSetting::Certificate(tls.certificate.clone()),
            Self::Key => TlsSetting::Key(tls.key.clone()),
            Self::Staple => TlsSetting::Staple(tls.staple.clone()),
            Self::Names => TlsSetting::Names(tls.names.clone()),
            Self::Clients => TlsSetting::Clients(tls.clients),
            Self::CaFile => TlsSetting::CaFile(tls.ca_file.clone()),
            Self::CaDir => TlsSetting::CaDir(tls.ca_dir.clone()),
            Self::Revoked => TlsSetting::Revoked(tls.revoked.clone()),
            Self::Oldest => TlsSetting::Oldest(tls.oldest),
            Self::Alpn => TlsSetting::Alpn(tls.alpn.clone()),
            Self::Look => TlsSetting::Look(tls.look),
            Self::Servers => TlsSetting::Servers(tls.servers),
            Self::ServersCa => TlsSetting::ServersCa(tls.servers_ca.clone()),
            Self::ServersName => TlsSetting::ServersName(tls.servers_name.clone()),
        }
    }
}

impl TlsSetting {
    /// Which one.
    pub(super) const fn item(&self) -> TlsItem {
        match self {
            Self::Certificate(_) => TlsItem::Certificate,
            Self::Key(_) => TlsItem::Key,
            Self::Staple(_) => TlsItem::Staple,
            Self::Names(_) => TlsItem::Names,
            Self::Clients(_) => TlsItem::Clients,
            Self::CaFile(_) => TlsItem::CaFile,
            Self::CaDir(_) => TlsItem::CaDir,
            Self::Revoked(_) => TlsItem::Revoked,
            Self::Oldest(_) => TlsItem::Oldest,
            Self::Alpn(_) => TlsItem::Alpn,
            Self::Look(_) => TlsItem::Look,
            Self::Servers(_) => TlsItem::Servers,
            Self::ServersCa(_) => TlsItem::ServersCa,
            Self::ServersName(_) => TlsItem::ServersName,
        }
    }

    /// Whether it is spelled with a `no`.
    pub(super) const fn is_none(&self) -> bool {
        match self {
            Self::Certificate(path)
            | Self::Key(path)
            | Self::Staple(path)
            | Self::Names(path)
            | Self::CaFile(path)
            | Self::CaDir(path)
            | Self::Revoked(path)
            | Self::ServersCa(path) => path.is_none(),
            Self::ServersName(name) => name.is_none(),
            Self::Alpn(protocols) => protocols.is_empty(),
            Self::Clients(_) | Self::Oldest(_) | Self::Look(_) | Self::Servers(_) => false,
        }
    }

    /// What stands behind the verb; nothing where there is nothing.
    pub(super) fn write_value(&self, f: &mut dyn fmt::Write) -> fmt::Result {
        match self {
            Self::Certificate(path)
            | Self::Key(path)
            | Self::Staple(path)
            | Self::Names(path)
            | Self::CaFile(path)
            | Self::CaDir(path)
            | Self::Revoked(path)
            | Self::ServersCa(path) => {
                let path = path.as_ref().map(|path| Quoted(path.as_os_str()));
                path.map_or(Ok(()), |path| write!(f, "{path}"))
            }
            Self::ServersName(name) => f.write_str(name.as_deref().unwrap_or_default()),
            Self::Alpn(protocols) => {
                for (at, protocol) in protocols.iter().enumerate() {
                    let space = if at == 0 { "" } else { " " };
                    write!(f, "{space}{}", Quoted(OsStr::new(protocol)))?;
                }
                Ok(())
            }
            Self::Clients(clients) => f.write_str(match clients {
                ClientCertificates::None => "none",
                ClientCertificates::Optional => "optional",
                ClientCertificates::Required => "required",
            }),
            Self::Oldest(TlsVersion::V1_2) => f.write_str("1.2"),
            Self::Oldest(TlsVersion::V1_3) => f.write_str("1.3"),
            Self::Look(time) => write!(f, "{}", Time(time.unwrap_or_default())),
            Self::Servers(servers) => f.write_str(match servers {
                ServerTls::Off => "off",
                ServerTls::Verified => "verified",
                ServerTls::Unverified => "unverified",
            }),
        }
    }

    /// Puts it into force.
    pub(super) fn assign(&self, tls: &mut TlsSettings, world: &dyn CommandEnv) {
        let path = |path: &Option<PathBuf>| path.as_deref().map(|path| world.absolute(path));
        match self {
            Self::Certificate(to) => tls.certificate = path(to),
            Self::Key(to) => tls.key = path(to),
            Self::Staple(to) => tls.staple = path(to),
            Self::Names(to) => tls.names = path(to),
            Self::Clients(to) => tls.clients = *to,
            Self::CaFile(to) => tls.ca_file = path(to),
            Self::CaDir(to) => tls.ca_dir = path(to),
            Self::Revoked(to) => tls.revoked = path(to),
            Self::Oldest(to) => tls.oldest = *to,
            Self::Alpn(to) => tls.alpn.clone_from(to),
            Self::Look(to) => tls.look = *to,
            Self::Servers(to) => tls.servers = *to,
            Self::ServersCa(to) => tls.servers_ca = path(to),
            Self::ServersName(to) => tls.servers_name.clone_from(to),
        }
    }
}
