//! The checked configuration: splits `SERVER:FILE`, expands file patterns, and rejects wrong arguments.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::net::IpAddr;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use pen_daemon::arguments::privacy;
use pen_daemon::error::{ActionError, Doing as _};
use pen_records::access::Spec;
use pen_records::addr::{ServerAddr, parse_ip};
use pen_records::mapping::third_party_log::ThirdPartySpec;
use pen_records::misfit::ServerList;
use pen_records::privacy::Privacy;
use pen_records::rewrite::RewritePolicy;
use pen_records::server_alias::{ANY_SERVER, KnownAs, ServerAliases};

use crate::cli::{MergeArgs, ReportStyle};
use crate::input::archive;
use crate::input::hosts::HostLines;
use crate::input::third_party::ThirdPartySettings;
use crate::zone::LogZone;

/// All settings of a run, checked.
pub(crate) struct MergeConfig {
    pub(crate) mappings: Vec<InputOrigin>,
    pub(crate) third_party: ThirdPartySettings,
    pub(crate) servers: Vec<ServerInputs>,
    pub(crate) window: Duration,
    pub(crate) output: Option<PathBuf>,
    pub(crate) explain: Option<PathBuf>,
    pub(crate) privacy: Option<Privacy>,
    /// Which clients are written into lines.
    pub(crate) rewrite: RewritePolicy,
    pub(crate) report: ReportStyle,
    /// Whether explanations name the candidates.
    pub(crate) candidates: bool,
    /// Lines to explain in words.
    pub(crate) question: Option<LineQuery>,
    /// The field of `--audit`, which holds the true client.
    pub(crate) audit: Option<String>,
    pub(crate) quiet: bool,
    pub(crate) debug: bool,
    /// Remarks on the command line that do not stop the run.
    pub(crate) remarks: Vec<String>,
}

/// A server of the command line and its logs.
#[derive(Clone, Debug)]
pub(crate) struct ServerInputs {
    /// As it was typed, without brackets.
    pub(crate) name: String,
    /// The server's address; `None` for a name.
    pub(crate) ip: Option<IpAddr>,
    /// The port from `server:port:file`, which tells servers at one address apart; classic mappings have no port.
    pub(crate) port: Option<u16>,
    pub(crate) spec: Spec,
    /// Whether `--format` gave the format.
    pub(crate) has_format: bool,
    /// The zone of times without a zone, if one was asked for.
    pub(crate) zone: Option<LogZone>,
    /// The format with the field of `--audit` in the place of X-Forwarded-For.
    pub(crate) truth: Spec,
    pub(crate) logs: Vec<InputOrigin>,
}

impl ServerInputs {
    /// Whether an option for `name` is meant for this server.
    fn goes_by(&self, name: &str) -> bool {
        let bare = name.strip_prefix('[').and_then(|n| n.strip_suffix(']')).unwrap_or(name);
        let ip = parse_ip(bare.as_bytes());
        self.label() == name || self.name == name || (ip.is_some() && self.ip == ip)
    }

    pub(crate) fn addr(&self) -> ServerAddr<'_> {
        self.ip.map_or_else(|| ServerAddr::Unix(self.name.as_bytes()), ServerAddr::Ip)
    }

    /// Returns the name, with the port if given.
    pub(crate) fn label(&self) -> String {
        match (self.port, self.ip) {
            (Some(port), Some(IpAddr::V6(ip))) => format!("[{ip}]:{port}"),
            (Some(port), _) => format!("{}:{port}", self.name),
            (None, _) => self.name.clone(),
        }
    }
}

/// The lines of `--explain-line`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum LineQuery {
    /// The line with this number in the merged log, from 1.
    Number(u64),
    /// Lines that contain this text.
    Text(Vec<u8>),
}

impl LineQuery {
    fn new(typed: OsString) -> Self {
        let number = typed.to_str().and_then(|text| text.parse().ok());
        number.map_or_else(|| Self::Text(typed.into_vec()), Self::Number)
    }
}

/// The origin of an input's bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum InputOrigin {
    File(PathBuf),
    /// The lines of one server in a central file.
    HostLines(Arc<HostLines>),
    Stdin,
}

impl fmt::Display for InputOrigin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => path.display().fmt(f),
            Self::HostLines(of) => match of.server {
                Some(server) => write!(f, "{} (hosts of {server})", of.path.display()),
                None => write!(f, "{} (other hosts)", of.path.display()),
            },
            Self::Stdin => f.write_str("standard input"),
        }
    }
}

impl MergeConfig {
    pub(crate) fn new(args: MergeArgs) -> Result<Self, ActionError> {
        let mut remarks = remarks_on_unused(&args);
        let names = ServerAliases::new(args.server).doing("use --server")?;
        let mut servers = servers(&args.logs)?;
        join_named_twice(&mut servers, &names);
        let names = Arc::new(names);
        split_central_files(&mut servers, &names)?;
        for server in &mut servers {
            check_server(server, &names, &mut remarks);
        }
        let formats = set_formats(&mut servers, &args.format)?;
        set_zones(&mut servers, &args.zone)?;
        if let Some(field) = &args.audit {
            set_audit_field(&mut servers, &formats, field)?;
        }
        let mut mappings = Vec::new();
        for path in &args.mappings {
            mappings.extend(expand(path.as_os_str())?);
        }
        let third_party = ThirdPartySettings {
            spec: mapping_formats(&args.mapping_format, &names)?,
            zone: args.mapping_zone,
            names,
        };
        let config = Self {
            mappings,
            third_party,
            servers,
            window: args.window,
            output: args.output.filter(|path| path.as_os_str() != "-"),
            explain: args.explain,
            privacy: args.privacy.as_ref().map(privacy).transpose()?,
            rewrite: RewritePolicy { unmatched: args.unmatched, likely: args.likely },
            report: args.report,
            candidates: args.candidates,
            question: args.explain_line.map(LineQuery::new),
            audit: args.audit,
            quiet: args.quiet,
            debug: args.debug > 0,
            remarks,
        };
        config.check_files()?;
        Ok(config)
    }

    /// Rejects inputs that cannot be read twice, and outputs that are inputs as well.
    fn check_files(&self) -> Result<(), ActionError> {
        if let (Some(output), Some(explain)) = (&self.output, &self.explain)
            && output == explain
            && !is_device(output)
        {
            let name = output.display();
            return Err(ActionError::new(format!(
                "{name} is the output and the file of --explain: choose another name for one of them"
            )));
        }
        let origins = || self.mappings.iter().chain(self.servers.iter().flat_map(|s| &s.logs));
        if origins().filter(|origin| **origin == InputOrigin::Stdin).count() > 1 {
            return Err(ActionError::new("standard input (-) can be read only once"));
        }
        for written in self.output.iter().chain(&self.explain) {
            let Ok(written) = written.canonicalize() else { continue };
            // Devices and pipes may be both.
            if !written.is_file() {
                continue;
            }
            for origin in origins() {
                if let InputOrigin::File(read) = origin
                    && read.canonicalize().is_ok_and(|read| read == written)
                {
                    return Err(ActionError::new(format!(
                        "{} is an input and an output: choose another name for the output",
                        read.display()
                    )));
                }
            }
        }
        Ok(())
    }
}

/// Whether a path is that of a device or a pipe.
fn is_device(path: &Path) -> bool {
    path.metadata().is_ok_and(|found| !found.is_file())
}

/// Returns the remarks on options that have no effect.
fn remarks_on_unused(args: &MergeArgs) -> Vec<String> {
    let mut remarks = Vec::new();
    if args.time_offset.is_some() {
        remarks.push(
            "-t is not needed and not used: times are compared in UTC, by each line's own offset"
                .to_owned(),
        );
    }
    if args.no_cache && args.debug > 0 {
        remarks.push("-c is not needed: there is no cache".to_owned());
    }
    remarks
}

/// Returns the servers of the arguments `SERVER:FILE`, each with all of its logs, in the order of the command line.
fn servers(args: &[OsString]) -> Result<Vec<ServerInputs>, ActionError> {
    let mut servers: Vec<ServerInputs> = Vec::new();
    for arg in args {
        let (server, file) = split(arg, &|path| path.exists())?;
        let logs = expand(&file)?;
        match servers.iter_mut().find(|s| s.name == server.name && s.port == server.port) {
            Some(known) => known.logs.extend(logs),
            None => servers.push(ServerInputs { logs, ..server }),
        }
    }
    Ok(servers)
}

/// What stands in front of a central file, whose lines name their servers in their syslog envelopes.
const CENTRAL: &str = "@host";

/// Gives each server of an option `--server` its lines in the central files. Lines of other hosts stay by themselves.
fn split_central_files(
    servers: &mut Vec<ServerInputs>,
    names: &Arc<ServerAliases>,
) -> Result<(), ActionError> {
    let Some(central) = servers.iter().position(|it| it.name == CENTRAL) else { return Ok(()) };
    let mut central = servers.remove(central);
    if !names.has_hosts() {
        return Err(ActionError::new(
            "expected --server HOST=ADDR for each host of the central file, as in --server web1=10.0.0.1",
        ));
    }
    let mut paths = Vec::new();
    for origin in &central.logs {
        match origin {
            InputOrigin::File(path) if archive::is_repeatable(origin) => paths.push(path.clone()),
            _ => {
                return Err(ActionError::new(format!(
                    "{origin} can be read only once: expected a file behind {CENTRAL}:"
                )));
            }
        }
    }
    let lines = |server| -> Vec<_> {
        let of =
            |path: &PathBuf| HostLines { path: path.clone(), names: Arc::clone(names), server };
        paths.iter().map(|path| InputOrigin::HostLines(Arc::new(of(path)))).collect()
    };
    let mut done = Vec::new();
    for alias in names.iter().filter(|it| it.may_be_host()) {
        let key = alias.server;
        if done.contains(&key) {
            continue;
        }
        done.push(key);
        let is_it = |it: &&mut ServerInputs| {
            it.ip == Some(key.addr) && (key.port.is_none() || it.port == key.port)
        };
        match servers.iter_mut().find(is_it) {
            Some(server) => server.logs.extend(lines(Some(key))),
            None => servers.push(ServerInputs {
                name: key.addr.to_string(),
                ip: Some(key.addr),
                port: key.port,
                logs: lines(Some(key)),
                ..central.clone()
            }),
        }
    }
    central.logs = lines(None);
    servers.push(central);
    Ok(())
}

/// Gives the logs of both names to one server where an option `--server` says that two servers with logs are one.
fn join_named_twice(servers: &mut Vec<ServerInputs>, names: &ServerAliases) {
    for alias in names.iter() {
        let is_other = |it: &ServerInputs| match &alias.known_as {
            KnownAs::Addr(addr) => it.ip == Some(*addr),
            KnownAs::Path(path) => it.name.as_bytes() == &**path,
            KnownAs::Name(name) => it.name == **name,
        };
        let is_server = |it: &ServerInputs| {
            let port = alias.server.port;
            it.ip == Some(alias.server.addr) && (port.is_none() || it.port == port)
        };
        let Some(other) = servers.iter().position(is_other) else { continue };
        if is_server(&servers[other]) || !servers.iter().any(is_server) {
            continue;
        }
        let other = servers.remove(other);
        if let Some(server) = servers.iter_mut().find(|it| is_server(it)) {
            server.logs.extend(other.logs);
        }
    }
}

/// Removes repeated logs of a server, and adds remarks on them and on a server without an address.
fn check_server(server: &mut ServerInputs, names: &ServerAliases, remarks: &mut Vec<String>) {
    let mut seen = Vec::new();
    server.logs.retain(|log| {
        let new = !seen.contains(log);
        seen.push(log.clone());
        if !new {
            remarks.push(format!("{log} is named twice: read once"));
        }
        new
    });
    if server.ip.is_none()
        && !server.name.contains('/')
        && server.name != CENTRAL
        && names.of_name(server.name.as_bytes()).is_none()
    {
        let name = &server.name;
        remarks.push(format!(
            "{name} is no address, so only mappings of a balancer that logs names can name it: \
             --server {name}=ADDR gives its address"
        ));
    }
}

/// Sets the field of `--audit` in the formats of all servers.
fn set_audit_field(
    servers: &mut [ServerInputs],
    formats: &[&str],
    field: &str,
) -> Result<(), ActionError> {
    for (server, format) in servers.iter_mut().zip(formats) {
        server.truth = Spec::with_truth(format, field).doing(format_args!(
            "audit by {field}, expected a field of the format {format:?} (see --format)"
        ))?;
    }
    Ok(())
}

/// Parses the values of `--mapping-format`.
fn mapping_formats(
    texts: &[String],
    names: &ServerAliases,
) -> Result<Option<ThirdPartySpec>, ActionError> {
    let mut specs = Vec::new();
    for text in texts {
        let spec = ThirdPartySpec::parse(text)
            .doing(format_args!("understand the format {text:?} of a mapping log"))?;
        if spec.lacks_server() && names.of_name(ANY_SERVER).is_none() {
            return Err(ActionError::new(format!(
                "the format {text:?} does not name the server: if all its requests go to one, say --server '*=ADDR'"
            )));
        }
        specs.push(spec);
    }
    Ok((!specs.is_empty()).then(|| ThirdPartySpec::any_of(&specs)))
}

/// Splits `SERVER:FILE`. The classic reading, at the first colon, wins where its file exists.
fn split(
    arg: &OsStr,
    exists: &dyn Fn(&Path) -> bool,
) -> Result<(ServerInputs, OsString), ActionError> {
    let expected = |what| ActionError::new(format!("expected {what} {}", arg.display()));
    let bytes = arg.as_bytes();
    let (name, rest, ip) = if let Some(inside) = bytes.strip_prefix(b"[")
        && let Some(end) = memchr::memchr(b']', inside)
        && let Some(rest) = inside[end + 1..].strip_prefix(b":")
        && let Some(ip) = parse_ip(&inside[..end])
    {
        (&inside[..end], rest, Some(ip))
    } else {
        let Some(colon) = memchr::memchr(b':', bytes) else {
            let file = arg.display();
            return Err(ActionError::new(format!(
                "expected SERVER:FILE, found no colon in {file}: each file needs its server in front, as in 10.0.0.1:{file}"
            )));
        };
        let (name, rest) = (&bytes[..colon], &bytes[colon + 1..]);
        if parse_ip(name).is_none() && begins_with_bare_v6(bytes) && !exists(&path(rest)) {
            return Err(expected(
                "SERVER:FILE with an IPv6 address in brackets, as in [2001:db8::1]:access.log, found",
            ));
        }
        (name, rest, parse_ip(name))
    };
    if name.is_empty() {
        return Err(expected("a server before the colon in"));
    }
    if ip.is_none() && !exists(&path(rest)) {
        check_order(bytes)?;
        // A server may be named by the path of its socket.
        if path(name).is_file() {
            return Err(turned_round(bytes, rest, name));
        }
    }
    let (port, rest) = match port_before(rest) {
        Some((port, file)) if !exists(&path(rest)) => (Some(port), file),
        _ => (None, rest),
    };
    if rest.is_empty() {
        return Err(expected("a file after the colon in"));
    }
    let name = ip.map_or_else(|| String::from_utf8_lossy(name).into_owned(), |ip| ip.to_string());
    let (spec, truth) = (Spec::auto(), Spec::auto());
    let (zone, logs) = (None, Vec::new());
    let has_format = false;
    let server = ServerInputs { name, ip, port, spec, has_format, zone, truth, logs };
    Ok((server, path(rest).into_os_string()))
}

/// Rejects `FILE:SERVER`.
fn check_order(arg: &[u8]) -> Result<(), ActionError> {
    let Some(colon) = memchr::memrchr(b':', arg) else { return Ok(()) };
    let (file, mut server) = (&arg[..colon], &arg[colon + 1..]);
    if parse_ip(server).is_none() {
        // An IPv6 address in brackets has colons of its own.
        let Some(open) = memchr::memrchr(b'[', file).filter(|&open| file[..open].ends_with(b":"))
        else {
            return Ok(());
        };
        server = &arg[open..];
    }
    if parse_ip(server).is_none() {
        return Ok(());
    }
    Err(turned_round(arg, server, &arg[..arg.len() - server.len() - 1]))
}

fn turned_round(arg: &[u8], server: &[u8], file: &[u8]) -> ActionError {
    let [arg, server, file] = [arg, server, file].map(String::from_utf8_lossy);
    ActionError::new(format!(
        "expected SERVER:FILE, found {arg}: {server} looks like the server, so write {server}:{file}"
    ))
}

fn path(bytes: &[u8]) -> PathBuf {
    OsString::from_vec(bytes.to_vec()).into()
}

/// Splits `PORT:FILE`.
fn port_before(rest: &[u8]) -> Option<(u16, &[u8])> {
    let colon = memchr::memchr(b':', rest)?;
    let (digits, file) = (&rest[..colon], &rest[colon + 1..]);
    if digits.is_empty() || file.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    Some((std::str::from_utf8(digits).ok()?.parse().ok()?, file))
}

/// Returns whether the bytes before a colon are an IPv6 address, as in `2001:db8::1:access.log`.
fn begins_with_bare_v6(bytes: &[u8]) -> bool {
    memchr::memchr_iter(b':', bytes)
        .any(|colon| bytes[..colon].contains(&b':') && parse_ip(&bytes[..colon]).is_some())
}

/// Returns a file, standard input, or the files that a pattern matches.
fn expand(file: &OsStr) -> Result<Vec<InputOrigin>, ActionError> {
    if file == "-" {
        return Ok(vec![InputOrigin::Stdin]);
    }
    let path = Path::new(file);
    let is_glob = file.as_bytes().iter().any(|byte| b"*?[".contains(byte));
    let Some(pattern) = file.to_str().filter(|_| is_glob && !path.exists()) else {
        return Ok(vec![InputOrigin::File(path.to_owned())]);
    };
    let found: Vec<_> = glob::glob(pattern)
        .doing(format_args!("understand the pattern {}", path.display()))?
        .filter_map(Result::ok)
        .filter(|path| !path.is_dir())
        .map(InputOrigin::File)
        .collect();
    if found.is_empty() {
        return Err(ActionError::new(format!("no file matches {}", path.display())));
    }
    Ok(found)
}

/// Applies the options `--format`. Returns the format given for each server.
fn set_formats<'a>(
    servers: &mut [ServerInputs],
    options: &'a [String],
) -> Result<Vec<&'a str>, ActionError> {
    let mut formats = vec!["auto"; servers.len()];
    for option in options {
        set_format(servers, &mut formats, option)?;
    }
    Ok(formats)
}

/// Applies `SPEC` to all servers or `SERVER=SPEC` to one. `formats` holds the format given for each.
fn set_format<'a>(
    servers: &mut [ServerInputs],
    formats: &mut [&'a str],
    format: &'a str,
) -> Result<(), ActionError> {
    let parse = |spec: &str| {
        if spec == "auto" {
            return Ok(Spec::auto());
        }
        Spec::parse(spec).doing(format_args!("understand the format {spec:?}"))
    };
    if let Some((name, spec)) = format.split_once('=') {
        let all = servers.iter_mut().zip(formats.iter_mut());
        let mut named = all.filter(|(server, _)| server.goes_by(name)).peekable();
        if named.peek().is_some() {
            let parsed = parse(spec)?;
            for (server, format) in named {
                server.has_format = spec != "auto";
                (server.spec, *format) = (parsed.clone(), spec);
            }
            return Ok(());
        }
    }
    let spec = parse(format).map_err(|error| unknown_server(servers, format).unwrap_or(error))?;
    for server in servers.iter_mut() {
        server.has_format = format != "auto";
        server.spec = spec.clone();
    }
    formats.fill(format);
    Ok(())
}

/// Returns the error for `SERVER=SPEC` with a server that has no logs.
fn unknown_server(servers: &[ServerInputs], format: &str) -> Option<ActionError> {
    let (name, spec) = format.split_once('=')?;
    if spec != "auto" {
        Spec::parse(spec).ok()?;
    }
    let known: Vec<_> = servers.iter().map(ServerInputs::label).collect();
    Some(ActionError::new(format!(
        "cannot use --format {format}: there is no server {name} on the command line, only {}",
        ServerList(&known)
    )))
}

/// Applies `ZONE` to all servers or `SERVER=ZONE` to one.
fn set_zones(servers: &mut [ServerInputs], options: &[String]) -> Result<(), ActionError> {
    for option in options {
        let (name, zone) =
            option.split_once('=').map_or((None, option.as_str()), |(s, z)| (Some(s), z));
        let zone: LogZone = zone
            .parse()
            .map_err(|error: String| ActionError::new(format!("--zone {option}: {error}")))?;
        let mut is_used = false;
        for server in servers.iter_mut().filter(|it| name.is_none_or(|name| it.goes_by(name))) {
            (server.zone, is_used) = (Some(zone), true);
        }
        if !is_used {
            return Err(ActionError::new(format!(
                "--zone {option}: there is no log of that server"
            )));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn server_and_file_are_split() {
        for (arg, label, file) in [
            ("10.0.0.1:access.log", "10.0.0.1", "access.log"),
            ("10.0.0.1:dir/a:b.log", "10.0.0.1", "dir/a:b.log"),
            ("10.0.0.1:8080:access.log", "10.0.0.1:8080", "access.log"),
            ("10.0.0.1:80:there", "10.0.0.1", "80:there"),
            ("10.0.0.1:8080", "10.0.0.1", "8080"),
            ("10.0.0.1:70000:x", "10.0.0.1", "70000:x"),
            ("10.0.0.1:-", "10.0.0.1", "-"),
            ("[2001:db8::1]:a.log", "2001:db8::1", "a.log"),
            ("[2001:DB8:0::1]:443:a.log", "[2001:db8::1]:443", "a.log"),
            ("[::ffff:10.0.0.1]:a.log", "10.0.0.1", "a.log"),
            ("/run/app.sock:a.log", "/run/app.sock", "a.log"),
            ("web1:a.log", "web1", "a.log"),
        ] {
            let (server, path) =
                split(OsStr::new(arg), &|path| path == Path::new("80:there")).expect(arg);
            assert_eq!((server.label().as_str(), path.to_str()), (label, Some(file)), "{arg}");
        }
    }

    #[test]
    fn what_is_no_server_and_file_is_refused() {
        for (arg, expected) in [
            ("access.log", "found no colon"),
            (":access.log", "expected a server"),
            ("10.0.0.1:", "expected a file"),
            ("logs/a.log:10.0.0.1", "so write 10.0.0.1:logs/a.log"),
            ("a.log:[2001:db8::1]", "so write [2001:db8::1]:a.log"),
            ("Cargo.toml:web1", "so write web1:Cargo.toml"),
            ("2001:db8::1:access.log", "in brackets"),
            ("::1:access.log", "in brackets"),
        ] {
            let error = split(OsStr::new(arg), &|_| false).expect_err(arg).to_string();
            assert!(error.contains(expected), "{arg}: {error}");
        }
    }
}
