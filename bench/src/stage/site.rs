//! Web servers with the balancer before them.

use std::net::{Ipv4Addr, SocketAddr};

use super::visitors::{self, Sending, Tally, Visit};
use super::{Balancer, Deadline, Make, Mappings, TempFolder, Truth, Web, WebPlan, free_port};
use crate::ActionError;

/// A running site.
#[derive(Debug)]
pub struct Site {
    /// The web servers, in the order of their numbers.
    pub webs: Vec<Web>,
    balancer: Balancer,
    /// How visits are sent.
    pub sending: Sending,
    answered: usize,
}

impl Site {
    /// Starts the web servers and Debian's `pen`, whose mappings go to `mappings`.
    ///
    /// # Errors
    /// When a program is missing or does not start.
    pub fn start(
        folder: &TempFolder,
        plans: &[WebPlan],
        mappings: &Mappings,
    ) -> Result<Self, ActionError> {
        Self::start_behind(Make::C, folder, plans, mappings)
    }

    /// The same behind either `pen`.
    ///
    /// # Errors
    /// When a program is missing or does not start.
    pub fn start_behind(
        make: Make,
        folder: &TempFolder,
        plans: &[WebPlan],
        mappings: &Mappings,
    ) -> Result<Self, ActionError> {
        let webs = plans
            .iter()
            .map(|plan| Web::start(folder.path(), plan))
            .collect::<Result<Vec<_>, _>>()?;
        let servers: Vec<SocketAddr> = webs.iter().map(Web::addr).collect();
        let addr = free_port(Ipv4Addr::LOCALHOST);
        let balancer = Balancer::start(make, folder.path(), addr, &servers, mappings)?;
        Ok(Self { webs, balancer, sending: Sending::default(), answered: 0 })
    }

    /// The balancer.
    #[must_use]
    pub fn balancer(&self) -> &Balancer {
        &self.balancer
    }

    /// Sends the visits and waits until the web servers have logged what they answered.
    ///
    /// # Errors
    /// When most visits fail or the logs stay behind.
    pub fn send(&mut self, visits: &[Visit]) -> Result<Tally, ActionError> {
        let tally = visitors::send(visits, self.balancer.addr(), self.sending)?;
        self.answered += tally.answered;
        let mut until = Deadline::patience();
        while self.webs.iter().map(Web::logged).sum::<usize>() < self.answered {
            if !until.nap() {
                return Err(ActionError::new("the web servers did not log all that they answered"));
            }
        }
        Ok(tally)
    }

    /// Ends the web servers and the balancer, in this order, and hands back what the servers know.
    ///
    /// # Errors
    /// When one does not end.
    pub fn stop(&mut self) -> Result<Truth, ActionError> {
        self.end()?;
        self.truth()
    }

    /// Ends the web servers and the balancer, in this order.
    ///
    /// # Errors
    /// When one does not end.
    pub fn end(&mut self) -> Result<(), ActionError> {
        self.webs.iter_mut().try_for_each(Web::stop)?;
        self.balancer.stop()
    }

    /// What the servers know.
    ///
    /// # Errors
    /// When that cannot be read.
    pub fn truth(&self) -> Result<Truth, ActionError> {
        let mut truth = Truth::default();
        self.webs.iter().try_for_each(|web| truth.add(&web.truth_log()))?;
        Ok(truth)
    }
}
