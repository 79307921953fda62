//! Keeps the TLS settings in force. Files are read at the start, when settings change, on HUP, and when they are found to have
//! changed. If reading fails, the settings in force stay.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use pen_stream::validity::Validity;
use rustls::client::Resumption;
use rustls::client::danger::ServerCertVerifier;
use rustls::crypto::ring::Ticketer;
use rustls::pki_types::ServerName;
use rustls::server::{NoServerSessionStorage, ProducesTickets};
use rustls::sign::CertifiedKey;
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, ServerConfig, SupportedProtocolVersion};
use tracing::{error, info, warn};

use super::certificate::{CertificatePaths, load};
use super::files::{FileMarks, TlsFileReader};
use super::names::{CertificateNames, CertificateResolver};
use super::{CertificateWarning, Tls, TlsError, UpstreamTls, authorities, provider};
use crate::config::{ClientCertificates, ServerTls, TlsSettings, TlsVersion};

/// How often files are checked if the settings do not say.
const FOR_EVER: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// Keeps the TLS settings in force.
#[derive(Debug)]
pub struct TlsKeeper {
    state: Mutex<KeeperState>,
    /// Wakes the thread that watches the files, once it runs.
    waker: Mutex<Option<Sender<KeeperWake>>>,
}

#[derive(Debug)]
struct KeeperState {
    loaded: Arc<LoadedTls>,
    /// State of the files when they were read last.
    seen: FileMarks,
    /// Error of the last attempt to read, and the state of the files then.
    error: Option<(String, FileMarks)>,
}

impl KeeperState {
    fn new(loaded: LoadedTls) -> Self {
        Self { seen: loaded.marks.clone(), loaded: Arc::new(loaded), error: None }
    }
}

/// Settings that were read and are not in force yet.
#[derive(Debug)]
pub struct LoadedTls {
    settings: TlsSettings,
    tls: Arc<Tls>,
    names: CertificateNames,
    marks: FileMarks,
    tickets: Option<SessionTickets>,
    warnings: Vec<CertificateWarning>,
    /// The certificate that expires first, and when.
    expires: Option<(PathBuf, SystemTime)>,
    when: Instant,
}

/// Session tickets and session cache for resumption.
#[derive(Clone)]
struct SessionTickets(Arc<dyn ProducesTickets>);

impl fmt::Debug for SessionTickets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tickets")
    }
}

/// Why the watching thread wakes up.
#[derive(Clone, Copy, Debug)]
enum KeeperWake {
    /// To read all files again.
    Load,
    /// The interval may have changed.
    Rethink,
}

/// State of TLS for the status page.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TlsHealth {
    /// Connections with clients use TLS.
    pub clients: bool,
    /// Connections to servers use TLS.
    pub servers: bool,
    /// Number of certificates, the default one included.
    pub certificates: usize,
    /// The certificate that expires first, and when.
    pub expires: Option<(PathBuf, SystemTime)>,
    /// Time since the files were read.
    pub age: Duration,
    /// Current error, if any.
    pub warning: Option<String>,
}

impl TlsKeeper {
    /// Reads all files that the settings name.
    ///
    /// # Errors
    /// Names the file, and what was expected in it.
    pub fn new(settings: &TlsSettings) -> Result<Self, TlsError> {
        let state = KeeperState::new(LoadedTls::read(settings, None)?);
        Ok(Self { state: Mutex::new(state), waker: Mutex::new(None) })
    }

    fn state(&self) -> MutexGuard<'_, KeeperState> {
        // Replaced as a whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the settings in force.
    #[must_use]
    pub fn tls(&self) -> Arc<Tls> {
        self.state().loaded.tls.clone()
    }

    /// Returns warnings about single files, without effect on other files.
    #[must_use]
    pub fn warnings(&self) -> Vec<CertificateWarning> {
        self.state().loaded.warnings.clone()
    }

    /// Returns the state for the status page.
    #[must_use]
    pub fn health(&self) -> TlsHealth {
        let state = self.state();
        let loaded = &state.loaded;
        let warning = loaded.warnings.first().map(ToString::to_string);
        TlsHealth {
            clients: loaded.tls.clients.is_some(),
            servers: loaded.tls.servers.is_some(),
            certificates: loaded.names.len() + usize::from(loaded.tls.clients.is_some()),
            expires: loaded.expires.clone(),
            age: loaded.when.elapsed(),
            warning: state.error.as_ref().map(|(error, _)| error.clone()).or(warning),
        }
    }

    /// Reads the files of other settings; `None` if the settings are the same.
    ///
    /// # Errors
    /// Names the file, and what was expected in it.
    pub fn prepare(&self, settings: &TlsSettings) -> Result<Option<LoadedTls>, TlsError> {
        // No lock is held while files are read.
        let loaded = self.state().loaded.clone();
        if loaded.settings == *settings {
            return Ok(None);
        }
        LoadedTls::read(settings, Some(&loaded)).map(Some)
    }

    /// Puts settings into force.
    pub fn put(&self, loaded: LoadedTls) {
        loaded.warnings.iter().for_each(|warning| warn!("{warning}"));
        *self.state() = KeeperState::new(loaded);
        self.wake(KeeperWake::Rethink);
    }

    /// Asks the thread to read all files again.
    pub fn reload(&self) {
        self.wake(KeeperWake::Load);
    }

    fn wake(&self, wake: KeeperWake) {
        let waker = self.waker.lock().unwrap_or_else(PoisonError::into_inner);
        // The thread has ended: pen is stopping.
        let _ = waker.as_ref().map(|waker| waker.send(wake));
    }

    /// Returns whether the files have changed and have been stable for a moment: a certificate and its key are hardly ever
    /// written at the same time.
    fn have_settled(&self) -> bool {
        let loaded = self.state().loaded.clone();
        let now = loaded.marks.again();
        let mut state = self.state();
        let failed = state.error.as_ref().map(|(_, marks)| marks);
        let settled = now == state.seen && now != loaded.marks && Some(&now) != failed;
        state.seen = now;
        settled
    }

    /// Reads all files again; returns whether anything is new.
    fn load(&self) -> bool {
        let before = self.state().loaded.clone();
        if before.settings == TlsSettings::default() {
            return false;
        }
        let marks = before.marks.again();
        let read = LoadedTls::read(&before.settings, Some(&before));
        let mut state = self.state();
        if !Arc::ptr_eq(&state.loaded, &before) {
            // Settings changed meanwhile, and with them the files.
            return false;
        }
        match read {
            Ok(loaded) => {
                loaded.warnings.iter().for_each(|warning| warn!("{warning}"));
                info!("certificates read again");
                *state = KeeperState::new(loaded);
                true
            }
            Err(error) => {
                error!(%error, "cannot read certificates; the former ones stay in use");
                state.error = Some((error.to_string(), marks));
                false
            }
        }
    }

    /// Starts a thread that reads files again when they change or when asked to, and then calls `tell`. The thread ends after
    /// [`stop`](Self::stop).
    ///
    /// # Errors
    /// No thread can be started.
    pub fn watch(self: &Arc<Self>, tell: impl Fn() + Send + 'static) -> io::Result<()> {
        let (waker, wakes) = channel();
        *self.waker.lock().unwrap_or_else(PoisonError::into_inner) = Some(waker);
        let keeper = self.clone();
        let look = move || {
            loop {
                let wait = keeper.state().loaded.settings.look.unwrap_or(FOR_EVER);
                let is_due = match wakes.recv_timeout(wait) {
                    Ok(KeeperWake::Load) => true,
                    Ok(KeeperWake::Rethink) => false,
                    Err(RecvTimeoutError::Timeout) => keeper.have_settled(),
                    Err(RecvTimeoutError::Disconnected) => return,
                };
                if is_due && keeper.load() {
                    tell();
                }
            }
        };
        thread::Builder::new().name("certificates".into()).spawn(look).map(drop)
    }

    /// Ends the watching thread.
    pub fn stop(&self) {
        self.waker.lock().unwrap_or_else(PoisonError::into_inner).take();
    }
}

impl LoadedTls {
    fn read(settings: &TlsSettings, before: Option<&Self>) -> Result<Self, TlsError> {
        let files = TlsFileReader::default();
        let mut warnings = Vec::new();
        let mut loaded = Self {
            settings: settings.clone(),
            tls: Arc::default(),
            names: CertificateNames::default(),
            marks: FileMarks::default(),
            tickets: None,
            warnings: Vec::new(),
            expires: None,
            when: Instant::now(),
        };
        let clients = match &settings.certificate {
            Some(certificate) => {
                let places = CertificatePaths {
                    certificate,
                    key: settings.key.as_deref(),
                    authorities: None,
                    staple: settings.staple.as_deref(),
                };
                let default = load(&places, &files, &mut warnings)?;
                if let Some(folder) = &settings.names {
                    let before = before.map(|before| (&before.names, &before.marks));
                    loaded.names = CertificateNames::load(folder, before, &files, &mut warnings)?;
                }
                let own = (certificate.clone(), &default);
                loaded.expires = expires(own, settings.names.as_deref(), &loaded.names);
                let chooser =
                    Arc::new(CertificateResolver { default, names: loaded.names.clone() });
                let tickets = tickets(settings, before);
                loaded.tickets.clone_from(&tickets);
                Some(Arc::new(client_facing(settings, chooser, tickets, &files)?))
            }
            None => None,
        };
        let servers = server_facing(settings, &files)?;
        loaded.tls = Arc::new(Tls { clients, servers });
        loaded.marks = files.into_marks();
        loaded.warnings = warnings;
        Ok(loaded)
    }
}

/// Returns the certificate that expires first, and when.
fn expires(
    (path, certificate): (PathBuf, &Arc<CertifiedKey>),
    folder: Option<&Path>,
    names: &CertificateNames,
) -> Option<(PathBuf, SystemTime)> {
    let end = |certificate: &CertifiedKey| Validity::of(certificate.cert.first()?).map(|it| it.end);
    let own = end(certificate).map(|end| (path, end));
    let others = names.iter().filter_map(|(name, certificate)| {
        Some((folder?.join(format!("{name}.crt")), end(certificate)?))
    });
    own.into_iter().chain(others).min_by_key(|(_, end)| *end)
}

/// Keeps sessions resumable after certificates were renewed. With client certificates a full handshake is needed: their
/// authority may no longer be accepted.
fn tickets(settings: &TlsSettings, before: Option<&LoadedTls>) -> Option<SessionTickets> {
    let known = before.and_then(|before| before.tickets.clone());
    match known.filter(|_| settings.clients == ClientCertificates::None) {
        Some(known) => Some(known),
        // Without random numbers there are no tickets, and every connection needs a full handshake.
        None => Ticketer::new().ok().map(SessionTickets),
    }
}

static VERSIONS: [&SupportedProtocolVersion; 2] = [&TLS13, &TLS12];

fn versions(oldest: TlsVersion) -> &'static [&'static SupportedProtocolVersion] {
    match oldest {
        TlsVersion::V1_2 => &VERSIONS,
        TlsVersion::V1_3 => &VERSIONS[..1],
    }
}

fn client_facing(
    settings: &TlsSettings,
    chooser: Arc<CertificateResolver>,
    tickets: Option<SessionTickets>,
    files: &TlsFileReader,
) -> Result<ServerConfig, TlsError> {
    let builder = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(versions(settings.oldest))
        .expect("there are ciphers for each version");
    let builder = match authorities::of_clients(settings, files)? {
        Some(verifier) => builder.with_client_cert_verifier(verifier),
        None => builder.with_no_client_auth(),
    };
    let mut config = builder.with_cert_resolver(chooser);
    config.alpn_protocols = settings.alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
    // The ticket contains the session, so all workers can resume it and no memory is needed.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    if let Some(SessionTickets(tickets)) = tickets {
        config.ticketer = tickets;
    }
    Ok(config)
}

fn server_facing(
    settings: &TlsSettings,
    files: &TlsFileReader,
) -> Result<Option<UpstreamTls>, TlsError> {
    let verifier: Arc<dyn ServerCertVerifier> = match settings.servers {
        ServerTls::Off => return Ok(None),
        ServerTls::Verified => authorities::of_servers(settings, files)?,
        ServerTls::Unverified => Arc::new(authorities::AcceptAnyServer(provider())),
    };
    let mut config = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(versions(settings.oldest))
        .expect("there are ciphers for each version")
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_no_client_auth();
    config.resumption = Resumption::in_memory_sessions(256);
    let with = |protocol: &String| {
        let mut config = config.clone();
        config.alpn_protocols = vec![protocol.as_bytes().to_vec()];
        (protocol.as_bytes().to_vec(), Arc::new(config))
    };
    let by_protocol = settings.alpn.iter().map(with).collect();
    let name = settings.servers_name.clone();
    // Checked when the setting was parsed.
    let name = name.and_then(|name| ServerName::try_from(name).ok());
    Ok(Some(UpstreamTls { config: Arc::new(config), by_protocol, name }))
}
