//! What comes out of the join: a client for a line or none, how sure that is, and why.

use crate::addr::ClientAddr;
use crate::attribution::costs;
use crate::attribution::line::ServerIndex;
use crate::attribution::memory::client::RecordedClient;
use crate::time::Timestamp;

/// The outcome of a line.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LineVerdict {
    /// The client; `None` if no mapping explains the line.
    pub client: Option<ClientAddr>,
    /// How sure the client is.
    pub certainty: Certainty,
    /// How many mappings could have explained the line.
    pub candidates: u32,
    /// The basis of the choice.
    pub reason: Reason,
    /// Microseconds from the chosen mapping to the line, by the clocks as they are.
    pub delay: Option<i64>,
    /// Probability of the client, in thousandths.
    pub probability: u16,
    /// Whether the client is named by a record from a sender without a key, or the line came from one, where other
    /// senders have keys.
    pub is_unauthenticated: bool,
}

/// How sure a line's client is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Certainty {
    /// No mapping explains the line.
    Unmatched,
    /// The best of several possible clients.
    Likely,
    /// The only possible client.
    Certain,
    /// The line has a key, and not a guess: the balancer's own port, or the request's id.
    Exact,
}

/// The basis of a choice, or why there was none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reason {
    /// The line names the balancer's own port, and the connection with this port was the client's.
    Port,
    /// The line has the id that the balancer gave the request.
    RequestId,
    /// The only mapping with this request at this server.
    Only,
    /// Several mappings, all of one client.
    SameClient,
    /// The best of several, by order and time.
    Order,
    /// The best of several, by the client's known User-Agent.
    UserAgent,
    /// An exchange in passed-through TLS, by time, size and order.
    Tls,
    /// The only mapping, but the evidence contradicts it.
    Doubtful,
    /// Nothing but the sender is in doubt: the line or its record came without a key, so anyone could have sent it.
    Unauthenticated,
    /// No mapping with this request was known.
    NoMapping,
    /// No mapping with this request was known, as is common at this server, but the line just
    /// before with the same User-Agent had one. The C balancer records only the first of several
    /// requests in one read.
    AgentFallback,
    /// Mappings with this request were known, but suit other lines better.
    NoneFits,
    /// No record has the id of the line's request, or the line has none, though the balancer gives each request one.
    UnknownId,
    /// The line has no readable request.
    NoRequest,
    /// The line came past the balancer: its client field names a host without mappings, and is
    /// right.
    Direct,
    /// The line's client field names another balancer, whose records are missing.
    OtherBalancer,
    /// No difference of clocks puts the server's lines and mappings together.
    Clock,
}

impl Reason {
    /// Returns the word for the reason beside an explained line.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Port => "port",
            Self::RequestId => "request-id",
            Self::Only => "only",
            Self::SameClient => "same-client",
            Self::Order => "order",
            Self::UserAgent => "user-agent",
            Self::Tls => "tls",
            Self::Doubtful => "doubtful",
            Self::Unauthenticated => "unauthenticated",
            Self::NoMapping => "no-mapping",
            Self::AgentFallback => "fallback",
            Self::NoneFits => "none-fits",
            Self::UnknownId => "unknown-id",
            Self::NoRequest => "no-request",
            Self::Direct => "direct",
            Self::OtherBalancer => "other-balancer",
            Self::Clock => "clock",
        }
    }
}

impl Reason {
    /// Returns the meaning of the word of [`Self::as_str`].
    #[must_use]
    pub const fn words(self) -> &'static str {
        match self {
            Self::Port => {
                "the line names a port of the balancer's, and that was this client's connection"
            }
            Self::RequestId => "the line has the id that the balancer gave this client's request",
            Self::Only => "the only mapping with this request at this server",
            Self::SameClient => "all mappings with this request at this server are this client's",
            Self::Order => "the best of several, by order and time",
            Self::UserAgent => "the best of several, by the User-Agent",
            Self::Tls => {
                "an exchange in TLS that passed through, by its time, its size and its turn"
            }
            Self::Doubtful => {
                "the only mapping with this request at this server, but there is doubt"
            }
            Self::Unauthenticated => {
                "no other client fits, but the line or its mapping was let in without a key"
            }
            Self::NoMapping => "no mapping with this request was there",
            Self::AgentFallback => {
                "no mapping with this request was there, but the line just before from this User-Agent had one"
            }
            Self::NoneFits => "all mappings with this request suit other lines better",
            Self::UnknownId => "no record of the balancer has the id of the line's request",
            Self::NoRequest => "the line has no request that could be looked up",
            Self::Direct => "the line came past the balancer and names its client itself",
            Self::OtherBalancer => {
                "the line names another balancer, of whose requests there are no records"
            }
            Self::Clock => {
                "no difference of the clocks puts this server's lines and mappings together"
            }
        }
    }

    /// Returns the reason with this word.
    #[must_use]
    pub fn of_word(word: &str) -> Option<Self> {
        let all = [
            Self::Port,
            Self::RequestId,
            Self::Only,
            Self::SameClient,
            Self::Order,
            Self::UserAgent,
            Self::Tls,
            Self::Doubtful,
            Self::Unauthenticated,
            Self::NoMapping,
            Self::AgentFallback,
            Self::NoneFits,
            Self::UnknownId,
            Self::NoRequest,
            Self::Direct,
            Self::OtherBalancer,
            Self::Clock,
        ];
        all.into_iter().find(|reason| reason.as_str() == word)
    }
}

/// How sure a match is, and what it rests on.
#[derive(Clone, Copy)]
pub(crate) struct MatchConfidence {
    pub(crate) certainty: Certainty,
    pub(crate) reason: Reason,
    /// In thousandths.
    pub(crate) probability: u16,
}

impl MatchConfidence {
    /// The balancer's port names the client.
    pub(crate) const EXACT: Self =
        Self { certainty: Certainty::Exact, reason: Reason::Port, probability: 1_000 };

    pub(crate) const fn certain(reason: Reason) -> Self {
        Self { certainty: Certainty::Certain, reason, probability: 1_000 }
    }

    pub(crate) const fn likely(reason: Reason, probability: u16) -> Self {
        Self { certainty: Certainty::Likely, reason, probability }
    }
}

impl LineVerdict {
    /// No client, for this reason.
    pub(crate) const fn unmatched(reason: Reason) -> Self {
        Self {
            client: None,
            certainty: Certainty::Unmatched,
            candidates: 0,
            reason,
            delay: None,
            probability: 0,
            is_unauthenticated: false,
        }
    }

    /// No client, as the clocks are not known; a line that came past the balancer needs none.
    #[must_use]
    pub fn without_clocks(self) -> Self {
        if self.reason == Reason::Direct { self } else { Self::unmatched(Reason::Clock) }
    }

    /// The same client, but not certain: the times of the lines around are in doubt. What names a port stays.
    #[must_use]
    pub fn in_doubt(self, probability: u16) -> Self {
        match self.certainty {
            Certainty::Unmatched | Certainty::Exact => self,
            Certainty::Certain | Certainty::Likely => {
                let probability = self.probability.min(probability);
                let reason = match self.certainty {
                    Certainty::Certain => Reason::Doubtful,
                    _ => self.reason,
                };
                self.with(MatchConfidence::likely(reason, probability))
            }
        }
    }

    /// This client.
    pub(crate) const fn matched(
        client: RecordedClient,
        confidence: MatchConfidence,
        candidates: u32,
        delay: Option<i64>,
    ) -> Self {
        let MatchConfidence { certainty, reason, probability } = confidence;
        let RecordedClient { addr, is_unauthenticated } = client;
        Self {
            client: Some(addr),
            certainty,
            candidates,
            reason,
            delay,
            probability,
            is_unauthenticated,
        }
    }

    /// The same, but at most likely if the line, or the record of its client, came from a sender without a key. The
    /// probability is that of an honest sender.
    pub(crate) const fn doubting_senders(self, line_is_unauthenticated: bool) -> Self {
        if self.client.is_none() || !(self.is_unauthenticated || line_is_unauthenticated) {
            return self;
        }
        let this = Self { is_unauthenticated: true, ..self };
        match self.certainty {
            Certainty::Unmatched | Certainty::Likely => this,
            Certainty::Certain | Certainty::Exact => this.with(MatchConfidence::likely(
                Reason::Unauthenticated,
                costs::UNAUTHENTICATED_PROBABILITY,
            )),
        }
    }

    /// The same client with another confidence.
    pub(crate) const fn with(self, confidence: MatchConfidence) -> Self {
        let MatchConfidence { certainty, reason, probability } = confidence;
        Self { certainty, reason, probability, ..self }
    }
}

/// A line and its outcome.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct DecidedLine<T> {
    /// The payload that the driver handed in with the line.
    pub payload: T,
    /// The server that logged the line.
    pub server: ServerIndex,
    /// The line's time.
    pub time: Timestamp,
    /// The outcome.
    pub verdict: LineVerdict,
}

/// What an attributor has done. Lines: `lines = exact + certain + likely + unmatched + held`.
/// Mappings: `mappings = used + expired + evicted + outstanding`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct JoinCounts {
    /// Mappings taken.
    pub mappings: u64,
    /// Mappings that explained a line.
    pub used: u64,
    /// Mappings that grew too old.
    pub expired: u64,
    /// Mappings forgotten beyond the bound.
    pub evicted: u64,
    /// Mappings remembered now.
    pub outstanding: u64,
    /// Lines taken.
    pub lines: u64,
    /// Lines with each certainty.
    pub exact: u64,
    /// See [`Certainty::Certain`].
    pub certain: u64,
    /// See [`Certainty::Likely`].
    pub likely: u64,
    /// See [`Certainty::Unmatched`].
    pub unmatched: u64,
    /// Lines with a client by a record, or from a sender, without a key: all of them likely.
    pub unauthenticated: u64,
    /// Lines decided early because too many were held.
    pub decided_early: u64,
    /// Lines held now.
    pub held: u64,
}

/// Lines of one server by certainty.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CertaintyCounts {
    /// See [`Certainty::Exact`].
    pub exact: u64,
    /// See [`Certainty::Certain`].
    pub certain: u64,
    /// See [`Certainty::Likely`].
    pub likely: u64,
    /// See [`Certainty::Unmatched`].
    pub unmatched: u64,
}

impl CertaintyCounts {
    /// Counts one line.
    pub fn add(&mut self, certainty: Certainty) {
        *match certainty {
            Certainty::Exact => &mut self.exact,
            Certainty::Certain => &mut self.certain,
            Certainty::Likely => &mut self.likely,
            Certainty::Unmatched => &mut self.unmatched,
        } += 1;
    }
}
