//! What is known of a mapping's exchange, and whether a line agrees with it.

use crate::attribution::costs;
use crate::attribution::line::HeldLine;
use crate::attribution::memory::signature::RequestSignature;
use crate::attribution::record::ResponseSizes;
use crate::request::Fingerprint;
use crate::time::Timestamp;

/// What is known of a mapping's exchange.
#[derive(Clone, Copy)]
pub(crate) struct ExchangeFacts {
    /// By which the mapping is found.
    pub(crate) key: u64,
    /// When it was asked.
    pub(crate) asked: Timestamp,
    /// What was asked, and how.
    pub(crate) request: Fingerprint,
    pub(crate) manner: RequestSignature,
    pub(crate) status: u16,
    pub(crate) bytes: Option<ResponseSizes>,
    /// Whether its response has ended, or its connection without one.
    pub(crate) ended: bool,
}

impl ExchangeFacts {
    /// Of an exchange that has not ended.
    pub(crate) const fn new(
        key: u64,
        asked: Timestamp,
        request: Fingerprint,
        manner: RequestSignature,
    ) -> Self {
        Self { key, asked, request, manner, status: 0, bytes: None, ended: false }
    }

    /// Whether its connection ended before a response did. A web server may notice that, and log it, only when
    /// it writes for the next time.
    pub(crate) const fn is_cut(&self) -> bool {
        self.ended && self.status == 0 && self.bytes.is_none()
    }

    /// Whether the line logs the status that the balancer saw; `None` if either is not known.
    pub(crate) fn status_agrees(&self, asked: &HeldLine) -> Option<bool> {
        (self.status != 0 && asked.status != 0).then_some(self.status == asked.status)
    }

    /// Whether the line logs one of the sizes that the balancer saw; `None` if either is not known.
    pub(crate) fn bytes_agree(&self, asked: &HeldLine) -> Option<bool> {
        let ResponseSizes { body, framed, all } = self.bytes?;
        let logged = asked.bytes?;
        Some([body, framed, all, framed.wrapping_add(costs::CONTINUE_BYTES)].contains(&logged))
    }
}
