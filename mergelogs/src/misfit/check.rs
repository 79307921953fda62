//! What `--check` says about the inputs: what each file is, whether the servers' logs fit their mappings, and how sure
//! clients can be.

use std::fmt;

use pen_records::misfit::ServerList;

use super::facts::{MappingLogFacts, ServerFacts, SurveyFacts};
use super::kinds::LogKind;
use super::{SaidMisfit, ServerCounts};

/// The review of the inputs.
pub(crate) struct InputReview {
    pub(super) facts: SurveyFacts,
    pub(super) misfits: Vec<SaidMisfit>,
    /// Options `--server` without effect so far, and why.
    pub(super) idle: Vec<String>,
}

impl InputReview {
    /// Returns whether the logs fit each other.
    pub(crate) const fn is_good(&self) -> bool {
        self.misfits.is_empty()
    }
}

/// Returns what became of a server's lines as far as the sample tells: a line with a mapping of its request at about the
/// same time would find a client.
pub(super) fn counts(facts: &SurveyFacts) -> Vec<ServerCounts> {
    let counts = facts.servers.iter().enumerate().map(|(index, server)| {
        let fit = facts.exact.fit(index, index);
        let found = server.understood * u64::from(fit.near) / u64::from(fit.lines.max(1));
        let not_understood = server.looked - server.understood;
        // Nothing is sure before the merge.
        ServerCounts { lines: server.looked, direct: 0, not_understood, found, sure: 0 }
    });
    counts.collect()
}

impl fmt::Display for InputReview {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for log in &self.facts.mapping_logs {
            write_mapping_log(f, log)?;
        }
        for (index, server) in self.facts.servers.iter().enumerate() {
            self.write_server(f, index, server)?;
        }
        for misfit in &self.misfits {
            writeln!(f, "problem: {}", misfit.warning())?;
        }
        for option in &self.idle {
            writeln!(f, "remark: {option}, as far as was looked")?;
        }
        let others: Vec<_> = self.facts.others.iter().map(|other| &other.name).collect();
        if !others.is_empty() && !self.facts.servers.is_empty() {
            writeln!(f, "servers of mappings without a log here: {}", ServerList(&others))?;
        }
        let is_pair = !self.facts.mapping_logs.is_empty() && !self.facts.servers.is_empty();
        let has_lines = self.facts.servers.iter().any(|server| server.looked > 0);
        if self.is_good() && is_pair && has_lines {
            writeln!(f, "the logs fit each other")?;
        } else if is_pair && !has_lines {
            writeln!(f, "the access logs have no lines: nothing to compare")?;
        }
        Ok(())
    }
}

impl InputReview {
    fn write_server(
        &self,
        f: &mut fmt::Formatter<'_>,
        index: usize,
        server: &ServerFacts,
    ) -> fmt::Result {
        writeln!(f, "server {}:", server.label)?;
        if server.looked == 0 {
            return writeln!(f, "  no lines to look at");
        }
        for (log, format) in &server.formats {
            writeln!(f, "  {log}: {format}")?;
        }
        writeln!(f, "  lines understood: {} of {}", server.understood, server.looked)?;
        if let Some(bad) = &server.not_understood {
            writeln!(f, "  not understood: {bad}")?;
        }
        if let Some(span) = server.span {
            writeln!(f, "  {span}")?;
        }
        if self.facts.mapping_logs.is_empty() {
            return Ok(());
        }
        let fit = self.facts.exact.fit(index, index);
        writeln!(
            f,
            "  requests with a mapping at about the same time: {} of {}",
            fit.near, fit.lines
        )?;
        if fit.near > 0 {
            writeln!(f, "  to expect: {}", certainty(server))?;
        }
        Ok(())
    }
}

fn write_mapping_log(f: &mut fmt::Formatter<'_>, log: &MappingLogFacts) -> fmt::Result {
    writeln!(f, "mapping log {}:", log.name)?;
    if !log.is_seen {
        return writeln!(f, "  can be read only once, so not looked at");
    }
    let kind = match log.kind {
        _ if log.looked == 0 => "empty",
        LogKind::Unknown => "not known",
        kind => kind.name().unwrap_or("not known"),
    };
    writeln!(f, "  kind: {kind}")?;
    writeln!(f, "  lines understood: {} of {}", log.understood, log.looked)?;
    if let Some(bad) = &log.not_understood {
        writeln!(f, "  not understood: {bad}")?;
    }
    log.span.map_or(Ok(()), |span| writeln!(f, "  {span}"))
}

/// Returns how sure clients can be, and what would make them surer.
fn certainty(server: &ServerFacts) -> &'static str {
    let ports = &server.ports;
    match (ports.mappings.is_empty(), ports.are_logged()) {
        (false, true) if ports.agree() => "exact, by the balancer's port in each line",
        (false, true) => {
            "certain and likely: the numbers that may be the balancer's port are in no mapping; --format says \
             which field is the port"
        }
        (false, false) => {
            "certain and likely; exact if each line ends in the peer's port: add %{remote}p to an Apache \
             LogFormat, $remote_port to an nginx log_format"
        }
        (true, _) => {
            "certain and likely: the mapping log has no ports of the balancer, which the pen of this package \
             and other balancers can log"
        }
    }
}
