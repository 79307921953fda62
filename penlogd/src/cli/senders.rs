//! The options about senders of lines and mappings. `penlogd` and `pen --collect` share them.

use std::net::{IpAddr, ToSocketAddrs as _};

use indexmap::IndexMap;

use pen_records::access::Spec;
use pen_records::addr::parse_ip;
use pen_records::mapping::third_party_log::ThirdPartySpec;
use pen_records::server_alias::{ANY_SERVER, KnownAs, ServerAlias, ServerAliases, ServerKey};

use crate::allow::FromArg;
use crate::collector::{BalancerSender, LineSender, SenderSettings};

/// The options about senders.
#[derive(Clone, Debug, Default, PartialEq, Eq, clap::Args)]
pub struct SenderArgs {
    /// Format of access lines, of all servers or of one; may be repeated [default: recognized from the
    /// lines]
    #[arg(long, value_name = "[SERVER=]SPEC")]
    pub format: Vec<String>,
    /// Accept mappings, lines, or both from this network only; may be repeated [default: from everywhere]
    #[arg(long, value_name = "[mappings=|lines=]NET")]
    pub from: Vec<FromArg>,
    /// NAME is another name of the server at ADDR: the address or host name of its sender, the name in
    /// its shipments, the host in the envelope of a syslog relay, a second address in mappings, or the
    /// name that HAProxy logs as GROUP/NAME or NAME; may be repeated
    #[arg(long, value_name = "NAME=ADDR[:PORT]")]
    pub server: Vec<String>,
    /// The lines of this sender (address, host name, or the name in its shipments) are the log of a
    /// balancer: `haproxy`, `nginx-stream`, `conntrack`, `traefik`, `caddy`, `elb`, `alb`, `json`, `combined`,
    /// or a format string of HAProxy, Envoy, Traffic Server, nginx or Apache. May be repeated, also for one sender.
    /// HAProxy's own formats are recognized without this
    #[arg(long, value_name = "SENDER=SPEC")]
    pub mapping_format: Vec<String>,
}

impl SenderArgs {
    /// Returns the options that were given, each with its values.
    pub fn given(&self) -> impl Iterator<Item = (&'static str, Vec<String>)> {
        let from = self.from.iter().map(ToString::to_string).collect();
        let options = [
            ("--format", self.format.clone()),
            ("--from", from),
            ("--server", self.server.clone()),
            ("--mapping-format", self.mapping_format.clone()),
        ];
        options.into_iter().filter(|(_, values)| !values.is_empty())
    }

    /// Returns what the options mean.
    ///
    /// # Errors
    /// A text for each option that cannot be used.
    pub fn settings(&self) -> Result<SenderSettings, Vec<String>> {
        let (mut known, mut mistakes) = (SenderSettings::default(), Vec::new());
        for text in &self.format {
            let one =
                text.split_once('=').and_then(|(of, spec)| Some((ServerKey::parse(of)?, spec)));
            let (of, spec) = one.map_or((None, text.as_str()), |(of, spec)| (Some(of), spec));
            match (of, Spec::parse(spec)) {
                (Some(of), Ok(spec)) => known.formats.push((of, spec)),
                (None, Ok(spec)) => known.format = spec,
                (_, Err(error)) => mistakes.push(format!("cannot use --format {text}: {error}")),
            }
        }
        let aliases = self.server.iter().filter_map(|text| {
            let alias = text.parse::<ServerAlias>();
            alias
                .map_err(|error| mistakes.push(format!("cannot use --server {text}: {error}")))
                .ok()
        });
        match ServerAliases::new(aliases.collect()) {
            Ok(aliases) => {
                known.resolved = resolved(&aliases);
                known.servers = aliases;
            }
            Err(error) => mistakes.push(format!("cannot use --server: {error}")),
        }
        let mut formats = IndexMap::<_, Vec<_>>::new();
        for text in &self.mapping_format {
            match mapping_format(text, &known.servers) {
                Ok((name, spec)) => formats.entry(name).or_default().push(spec),
                Err(why) => mistakes.push(format!("cannot use --mapping-format {text}: {why}")),
            }
        }
        for (name, specs) in formats {
            let (name, senders) = (name.into(), senders(name));
            known.balancers.push(BalancerSender {
                name,
                senders,
                spec: ThirdPartySpec::any_of(&specs),
            });
        }
        if mistakes.is_empty() { Ok(known) } else { Err(mistakes) }
    }
}

/// Returns the sender and the format of its log.
fn mapping_format<'a>(
    text: &'a str,
    servers: &ServerAliases,
) -> Result<(&'a str, ThirdPartySpec), String> {
    let (name, spec) = text.split_once('=').ok_or("expected SENDER=SPEC")?;
    let spec = ThirdPartySpec::parse(spec).map_err(|error| error.to_string())?;
    if spec.lacks_server() && servers.of_name(ANY_SERVER).is_none() {
        return Err("the format does not name the server: if all its requests go to one, say --server '*=ADDR'".into());
    }
    Ok((name, spec))
}

/// Returns the addresses of the names among the options, each with the place of its option.
fn resolved(aliases: &ServerAliases) -> Vec<(IpAddr, usize)> {
    let mut resolved = Vec::new();
    for (place, alias) in aliases.iter().enumerate() {
        if let KnownAs::Name(name) = &alias.known_as
            && name.as_bytes() != ANY_SERVER
        {
            resolved.extend(addresses(name).map(|addr| (addr, place)));
        }
    }
    resolved
}

/// Returns the addresses of a host. A name that does not resolve may still be in a shipper's shipments, in a syslog
/// envelope, or a balancer's name for a server. A slash occurs in the last only.
fn addresses(name: &str) -> impl Iterator<Item = IpAddr> {
    let host = (!name.contains('/')).then_some((name, 0));
    let addrs = host.and_then(|host| host.to_socket_addrs().ok());
    addrs.into_iter().flatten().map(|addr| addr.ip().to_canonical())
}

/// Returns a remark for each name that is no host here.
pub(super) fn remarks(known: &SenderSettings) -> Vec<String> {
    let resolved = |place| known.resolved.iter().any(|(_, of)| *of == place);
    let names =
        known.servers.iter().enumerate().filter_map(|(place, alias)| match &alias.known_as {
            KnownAs::Name(name) if name.as_bytes() == ANY_SERVER || name.contains('/') => None,
            KnownAs::Name(name) if !resolved(place) => Some(name),
            _ => None,
        });
    let remark = |name: &str| {
        format!(
            "{name} is no host here: --server {name}=… is about the name in shipments, in syslog envelopes, or in a \
             balancer's log"
        )
    };
    names.map(|name| remark(name)).collect()
}

/// Returns all senders that a name may stand for.
fn senders(name: &str) -> Vec<LineSender> {
    if let Some(addr) = parse_ip(name.as_bytes()) {
        return vec![LineSender::Addr(addr)];
    }
    let name_itself = std::iter::once(LineSender::Name(name.into()));
    name_itself.chain(addresses(name).map(LineSender::Addr)).collect()
}
