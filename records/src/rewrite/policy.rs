//! What replaces a line's client field: the options `--unmatched` and `--likely`.

use std::fmt;
use std::str::FromStr;

use crate::addr::ClientAddr;
use crate::attribution::{Certainty, LineVerdict, Reason};

/// The client to write in a line that no mapping explains (`--unmatched`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum UnmatchedPolicy {
    /// The logged client, which is the balancer's address.
    #[default]
    Keep,
    /// `-`.
    Dash,
    /// The server's name or address, as the C programs write it.
    Server,
}

/// The client to write in a line for which the client is only likely (`--likely`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LikelyPolicy {
    /// The likely client.
    #[default]
    Use,
    /// The logged client, which is the balancer's address.
    Keep,
    /// `-`.
    Dash,
}

/// An unknown word as the value of `--unmatched` or `--likely`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PolicyError;

impl fmt::Display for PolicyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("expected one of the option's words")
    }
}

impl std::error::Error for PolicyError {}

impl UnmatchedPolicy {
    /// The words of the option with help text and policy.
    pub const WORDS: [(&'static str, &'static str, Self); 3] = [
        ("keep", "The address that the server logged", Self::Keep),
        ("dash", "A dash", Self::Dash),
        ("server", "The server's name or address, as the C program writes it", Self::Server),
    ];
}

impl FromStr for UnmatchedPolicy {
    type Err = PolicyError;

    fn from_str(word: &str) -> Result<Self, PolicyError> {
        Self::WORDS.into_iter().find(|row| row.0 == word).map(|row| row.2).ok_or(PolicyError)
    }
}

impl LikelyPolicy {
    /// The words of the option with help text and policy.
    pub const WORDS: [(&'static str, &'static str, Self); 3] = [
        ("use", "The likely client", Self::Use),
        ("keep", "The address that the server logged", Self::Keep),
        ("dash", "A dash", Self::Dash),
    ];
}

impl FromStr for LikelyPolicy {
    type Err = PolicyError;

    fn from_str(word: &str) -> Result<Self, PolicyError> {
        Self::WORDS.into_iter().find(|row| row.0 == word).map(|row| row.2).ok_or(PolicyError)
    }
}

/// The values of `--unmatched` and `--likely`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RewritePolicy {
    /// For unmatched lines.
    pub unmatched: UnmatchedPolicy,
    /// For likely lines.
    pub likely: LikelyPolicy,
}

/// What replaces a client field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ClientChange {
    /// Keep the logged client.
    Keep,
    /// `-`.
    Dash,
    /// The client from the join.
    Client(ClientAddr),
    /// The server's name.
    Server,
}

impl RewritePolicy {
    /// Returns the replacement for the client field of a parsed line.
    ///
    /// A direct line, past the balancer, already has the right client, and keeps this client under every option.
    pub(super) const fn client_change(self, verdict: &LineVerdict) -> ClientChange {
        if matches!(verdict.reason, Reason::Direct) {
            return ClientChange::Keep;
        }
        match (verdict.certainty, verdict.client) {
            (Certainty::Unmatched, _) | (_, None) => match self.unmatched {
                UnmatchedPolicy::Keep => ClientChange::Keep,
                UnmatchedPolicy::Dash => ClientChange::Dash,
                UnmatchedPolicy::Server => ClientChange::Server,
            },
            (Certainty::Likely, Some(client)) => match self.likely {
                LikelyPolicy::Use => ClientChange::Client(client),
                LikelyPolicy::Keep => ClientChange::Keep,
                LikelyPolicy::Dash => ClientChange::Dash,
            },
            (Certainty::Certain | Certainty::Exact, Some(client)) => ClientChange::Client(client),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const UNMATCHED: [UnmatchedPolicy; 3] =
        [UnmatchedPolicy::Keep, UnmatchedPolicy::Dash, UnmatchedPolicy::Server];
    const LIKELY: [LikelyPolicy; 3] = [LikelyPolicy::Use, LikelyPolicy::Keep, LikelyPolicy::Dash];

    fn verdict(certainty: Certainty, reason: Reason, client: Option<ClientAddr>) -> LineVerdict {
        LineVerdict {
            client,
            certainty,
            candidates: 1,
            reason,
            delay: None,
            probability: 0,
            is_unauthenticated: false,
        }
    }

    #[test]
    fn each_option_decides_for_its_own_lines_only() {
        let client = ClientAddr::Ip([203, 0, 113, 7].into());
        let kept = [ClientChange::Keep, ClientChange::Dash, ClientChange::Server];
        let used = [ClientChange::Client(client), ClientChange::Keep, ClientChange::Dash];
        for (unmatched, for_unmatched) in UNMATCHED.into_iter().zip(kept) {
            for (likely, for_likely) in LIKELY.into_iter().zip(used) {
                let policy = RewritePolicy { unmatched, likely };
                let change = |certainty, reason, client| {
                    policy.client_change(&verdict(certainty, reason, client))
                };
                let none = change(Certainty::Unmatched, Reason::NoMapping, None);
                assert_eq!(none, for_unmatched, "{policy:?}");
                let likely = change(Certainty::Likely, Reason::Order, Some(client));
                assert_eq!(likely, for_likely, "{policy:?}");
                for certainty in [Certainty::Certain, Certainty::Exact] {
                    let sure = change(certainty, Reason::Only, Some(client));
                    assert_eq!(sure, ClientChange::Client(client), "{policy:?}");
                }
                let direct = change(Certainty::Unmatched, Reason::Direct, None);
                assert_eq!(direct, ClientChange::Keep, "{policy:?}");
            }
        }
    }

    #[test]
    fn words_and_policies_are_the_same() {
        assert_eq!(UnmatchedPolicy::WORDS.map(|row| row.0.parse()), UNMATCHED.map(Ok));
        assert_eq!(LikelyPolicy::WORDS.map(|row| row.0.parse()), LIKELY.map(Ok));
        assert_eq!("none".parse::<LikelyPolicy>(), Err(PolicyError));
        assert_eq!("use".parse::<UnmatchedPolicy>(), Err(PolicyError));
    }
}
