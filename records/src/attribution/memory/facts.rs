//! Facts about a mapping's exchange, and whether a line agrees with them.

use std::num::{NonZeroU16, NonZeroU32};

use super::connections::ConnectionSlot;
use super::signature::RequestSignature;
use super::slab::Slot;
use crate::attribution::costs;
use crate::attribution::line::HeldLine;
use crate::attribution::record::{ExchangeEvent, ResponseSizes};
use crate::mapping::BodyEnd;
use crate::request::Fingerprint;
use crate::time::Timestamp;

/// The end of an exchange that a server's lines follow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DatedBy {
    /// The end of the response or of the request's body, whichever is later.
    LaterEnd,
    /// The end of the response.
    Response,
}

/// When an exchange began and ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ExchangeLife {
    pub(crate) asked: Timestamp,
    pub(crate) ended: Timestamp,
}

/// A time after a request; `None` if unknown. More than an hour is cut.
#[derive(Clone, Copy)]
struct TimeAfterRequest(Option<NonZeroU32>);

impl TimeAfterRequest {
    fn new(asked: Timestamp, time: Timestamp) -> Self {
        let micros = time.micros_since(asked).clamp(0, i64::from(u32::MAX) - 1);
        Self(u32::try_from(micros + 1).ok().and_then(NonZeroU32::new))
    }

    fn after(self, asked: Timestamp) -> Option<Timestamp> {
        self.0.map(|micros| asked.offset_by(i64::from(micros.get()) - 1))
    }
}

/// The place of facts.
pub(crate) type FactsSlot = Slot<ExchangeFacts>;

/// What the balancer's records say of a mapping's exchange.
#[derive(Clone, Copy)]
pub(crate) struct ExchangeFacts {
    /// Key by which the mapping is found: see [`super::exchanges::request_key`].
    pub(super) key: u64,
    /// The connection, and the request's number on it.
    pub(super) place: (ConnectionSlot, u32),
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
    /// When the response ended.
    response: TimeAfterRequest,
    /// When the body of the request ended.
    body: TimeAfterRequest,
    /// Whether the response has ended, or the connection without a response.
    pub(crate) ended: bool,
    /// See [`Self::reached`] and [`Self::turned`], in parts of [`WHOLE`].
    passed: (u16, u16),
}

/// A probability of 1, as it is stored.
const WHOLE: u16 = u16::MAX;

impl ExchangeFacts {
    /// Facts about an exchange that has not ended.
    pub(crate) const fn new(
        key: u64,
        place: (ConnectionSlot, u32),
        asked: Timestamp,
        request: Fingerprint,
        signature: RequestSignature,
    ) -> Self {
        Self {
            key,
            place,
            asked,
            request,
            signature,
            status: None,
            bytes: None,
            response: TimeAfterRequest(None),
            body: TimeAfterRequest(None),
            ended: false,
            passed: (0, 0),
        }
    }

    /// Returns how likely lines of the group have come past the exchange: in order, later lines do not have it.
    pub(crate) fn reached(&self) -> f64 {
        f64::from(self.passed.0) / f64::from(WHOLE)
    }

    /// Returns how likely the last line has the exchange that ended next, and the next line has this one.
    pub(crate) fn turned(&self) -> f64 {
        f64::from(self.passed.1) / f64::from(WHOLE)
    }

    /// Notes both.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a share of 1")]
    pub(crate) fn reach(&mut self, reached: f64, turned: f64) {
        let parts = |share: f64| (share.clamp(0.0, 1.0) * f64::from(WHOLE)) as u16;
        self.passed = (parts(reached), parts(turned));
    }

    /// Takes a record of the end of the response, or of the request's body after it. Returns whether the record
    /// is of the end that the exchange is dated by.
    pub(super) fn end_response(
        &mut self,
        event: &ExchangeEvent,
        time: Timestamp,
        dated_by: DatedBy,
    ) -> bool {
        let is_pending = event.body_end == Some(BodyEnd::Pending);
        if let Some(BodyEnd::Ago(micros)) = event.body_end {
            self.body = TimeAfterRequest::new(self.asked, time.offset_by(-i64::from(micros)));
        }
        // The two records may change their order on the way.
        if is_pending || self.response.0.is_none() {
            self.response = TimeAfterRequest::new(self.asked, time);
        }
        (self.status, self.bytes) = (event.status, event.bytes);
        let is_dated = match dated_by {
            DatedBy::LaterEnd => !is_pending,
            DatedBy::Response => is_pending || !self.ended,
        };
        self.ended |= is_dated;
        is_dated
    }

    /// Whether the response has ended, but not yet the body of the request.
    pub(crate) const fn is_body_pending(&self) -> bool {
        !self.ended && self.response.0.is_some()
    }

    /// Returns the life of an exchange that ended then.
    pub(crate) const fn life(&self, ended: Timestamp) -> ExchangeLife {
        ExchangeLife { asked: self.asked, ended }
    }

    /// Returns when the response ended; `None` if unknown or not yet.
    pub(crate) fn response_ended(&self) -> Option<Timestamp> {
        self.response.after(self.asked)
    }

    /// Returns when the body of the request ended; `None` without a body, if unknown or not yet.
    pub(crate) fn body_ended(&self) -> Option<Timestamp> {
        self.body.after(self.asked)
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
}
