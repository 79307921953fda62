//! What comes out of the join: a client for a line or none, how sure that is, and why.

use crate::addr::ClientAddr;
use crate::attribution::line::ServerIndex;
use crate::time::Timestamp;

/// A line's outcome.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LineVerdict {
    /// Who asked; `None` if no mapping explains the line.
    pub client: Option<ClientAddr>,
    /// How sure that is.
    pub certainty: Certainty,
    /// How many different mappings could have explained the line.
    pub candidates: u32,
    /// What the choice rests on.
    pub reason: Reason,
    /// Microseconds from the chosen mapping to the line, by the clocks as they are.
    pub delay: Option<i64>,
    /// Parts in 1,000 that the client is right, as the evidence has it.
    pub probability: u16,
}

/// How sure a line's client is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Certainty {
    /// No mapping explains the line.
    Unmatched,
    /// The best of several that could.
    Likely,
    /// Only one client could.
    Certain,
    /// The line names the balancer's own port: a key, not a guess.
    Exact,
}

/// What a choice rests on, or why there was none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reason {
    /// The line names the balancer's own port, and that was this client's connection.
    Port,
    /// The only mapping with this request at this server.
    Only,
    /// Several mappings, all of one client.
    SameClient,
    /// The best of several, by order and time.
    Order,
    /// The best of several, by the client's known User-Agent.
    UserAgent,
    /// The line is of an exchange in TLS that passed through, by its time, its size and its turn.
    Tls,
    /// The only mapping, but the evidence casts doubt on it.
    Doubtful,
    /// No mapping with this request was there.
    NoMapping,
    /// No mapping with this request was there, as is common at this server, but the line just before
    /// it from the same User-Agent had one: where the C balancer saw several requests in one read it
    /// noted the first only.
    AgentFallback,
    /// Mappings with this request were there, but all of them suit other lines better.
    NoneFits,
    /// The line has no request that could be looked up.
    NoRequest,
    /// The line did not come through the balancer: its client field names somebody for whom there
    /// are no mappings, and is right as it is.
    Direct,
}

impl Reason {
    /// The word that stands for it beside an explained line.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Port => "port",
            Self::Only => "only",
            Self::SameClient => "same-client",
            Self::Order => "order",
            Self::UserAgent => "user-agent",
            Self::Tls => "tls",
            Self::Doubtful => "doubtful",
            Self::NoMapping => "no-mapping",
            Self::AgentFallback => "neighbour",
            Self::NoneFits => "none-fits",
            Self::NoRequest => "no-request",
            Self::Direct => "direct",
        }
    }
}

impl Reason {
    /// What [`Self::as_str`] stands for, in words.
    #[must_use]
    pub const fn words(self) -> &'static str {
        match self {
            Self::Port => {
                "the line names a port of the balancer's, and that was this client's connection"
            }
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
            Self::NoMapping => "no mapping with this request was there",
            Self::AgentFallback => {
                "no mapping with this request was there, but the line just before from this User-Agent had one"
            }
            Self::NoneFits => "all mappings with this request suit other lines better",
            Self::NoRequest => "the line has no request that could be looked up",
            Self::Direct => "the line came past the balancer and names its client itself",
        }
    }

    /// The one that a word stands for.
    #[must_use]
    pub fn of_word(word: &str) -> Option<Self> {
        let all = [
            Self::Port,
            Self::Only,
            Self::SameClient,
            Self::Order,
            Self::UserAgent,
            Self::Tls,
            Self::Doubtful,
            Self::NoMapping,
            Self::AgentFallback,
            Self::NoneFits,
            Self::NoRequest,
            Self::Direct,
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
        }
    }

    /// This client.
    pub(crate) const fn matched(
        client: ClientAddr,
        confidence: MatchConfidence,
        candidates: u32,
        delay: Option<i64>,
    ) -> Self {
        let MatchConfidence { certainty, reason, probability } = confidence;
        Self { client: Some(client), certainty, candidates, reason, delay, probability }
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
    /// What the driver handed in with the line.
    pub payload: T,
    /// Where it was logged.
    pub server: ServerIndex,
    /// The line's time.
    pub time: Timestamp,
    /// The outcome.
    pub verdict: LineVerdict,
}

/// What an engine has done since it was made. Lines: `lines = exact + certain + likely + unmatched + held`.
/// Mappings: `mappings = used + expired + evicted + outstanding`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct JoinCounts {
    /// Mappings taken.
    pub mappings: u64,
    /// Mappings that explained a line.
    pub used: u64,
    /// Mappings that grew too old.
    pub expired: u64,
    /// Mappings forgotten because there were too many.
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
    /// Lines decided before their time because too many were held.
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
