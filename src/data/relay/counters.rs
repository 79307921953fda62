//! Counters of the data plane.

use std::sync::atomic::{AtomicU64, Ordering};

use tracing::warn;

use super::http::conversation::EditOutcome;

/// What happened since the start.
#[derive(Debug, Default)]
pub struct RelayCounters {
    /// Clients refused for lack of a server, denied clients aside.
    pub refused: AtomicU64,
    /// Clients that the client access list denied.
    pub denied: AtomicU64,
    /// Clients whose required PROXY header was missing or malformed.
    pub bad_headers: AtomicU64,
    /// Failed attempts to connect to a server.
    pub failed_attempts: AtomicU64,
    /// Connections that another server accepted after the first choice had failed.
    pub failovers: AtomicU64,
    /// Connections that ended with a reset.
    pub resets: AtomicU64,
    /// Connections that ended because of a timeout.
    pub timeouts: AtomicU64,
    /// Datagrams that pen could not forward: no buffer space, or too long.
    pub lost_datagrams: AtomicU64,
    /// Failures to accept a client for lack of file descriptors or memory.
    pub accept_failures: AtomicU64,
    /// Completed TLS handshakes with clients.
    pub handshakes: AtomicU64,
    /// Failed TLS handshakes with clients.
    pub failed_handshakes: AtomicU64,
    /// In HTTP mode: connections with a rejected request.
    pub http_refused: AtomicU64,
    /// In HTTP mode: connections that do not speak HTTP/1.x and pass unchanged.
    pub not_http: AtomicU64,
}

impl RelayCounters {
    /// Counts what HTTP mode did with a connection, and logs the first case of each kind.
    pub(super) fn count_edit(&self, outcome: EditOutcome) {
        match outcome {
            EditOutcome::NotHttp => {
                if self.not_http.fetch_add(1, Ordering::Relaxed) == 0 {
                    warn!(
                        "a client does not speak HTTP/1.x: forwarding unchanged, without \
                         X-Forwarded-For (further cases are only counted)"
                    );
                }
            }
            EditOutcome::Refused(refusal) => {
                if self.http_refused.fetch_add(1, Ordering::Relaxed) == 0 {
                    warn!(
                        status = refusal.status(),
                        "request rejected: {} (further cases are only counted)",
                        refusal.what()
                    );
                }
            }
        }
    }
}
