//! Facts about a mapping's exchange, and whether a line agrees with them.

use std::num::NonZeroU16;

use super::signature::RequestSignature;
use super::slab::Slot;
use crate::attribution::costs;
use crate::attribution::line::HeldLine;
use crate::attribution::record::ResponseSizes;
use crate::request::Fingerprint;
use crate::time::Timestamp;

/// The place of facts.
pub(crate) type FactsSlot = Slot<ExchangeFacts>;

/// What the balancer's records say of a mapping's exchange.
#[derive(Clone, Copy)]
pub(crate) struct ExchangeFacts {
    /// Key by which the mapping is found: see [`super::exchanges::request_key`].
    pub(super) key: u64,
    /// When the request came.
    pub(crate) asked: Timestamp,
    /// The request's first line.
    pub(crate) request: Fingerprint,
    /// What else tells the request from others with this first line.
    pub(crate) signature: RequestSignature,
    /// Status of the response; `None` if unknown.
    pub(crate) status: Option<NonZeroU16>,
    /// Sizes of the response; `None` if unknown.
    pub(crate) bytes: Option<ResponseSizes>,
    /// Whether the response has ended, or the connection without a response.
    pub(crate) ended: bool,
}

impl ExchangeFacts {
    /// Facts about an exchange that has not ended.
    pub(crate) const fn new(
        key: u64,
        asked: Timestamp,
        request: Fingerprint,
        signature: RequestSignature,
    ) -> Self {
        Self { key, asked, request, signature, status: None, bytes: None, ended: false }
    }

    /// Whether the connection ended before a response did. A web server may notice such an end, and log the
    /// request, only when it writes for the next time.
    pub(crate) const fn is_cut(&self) -> bool {
        self.ended && self.status.is_none() && self.bytes.is_none()
    }

    /// Whether the line logs the status that the balancer saw; `None` if either is unknown.
    pub(crate) fn status_agrees(&self, line: &HeldLine) -> Option<bool> {
        Some(self.status? == line.status?)
    }

    /// Whether the line logs one of the sizes that the balancer saw; `None` if either is unknown.
    pub(crate) fn bytes_agree(&self, line: &HeldLine) -> Option<bool> {
        let ResponseSizes { body, framed, all } = self.bytes?;
        let logged = line.bytes?;
        Some([body, framed, all, framed.wrapping_add(costs::CONTINUE_BYTES)].contains(&logged))
    }

    /// Whether status and size agree with the line; `None` if neither can be compared.
    pub(crate) fn agree(&self, line: &HeldLine) -> Option<bool> {
        match (self.status_agrees(line), self.bytes_agree(line)) {
            (None, None) => None,
            (status, bytes) => Some(status != Some(false) && bytes != Some(false)),
        }
    }
}
