//! What the tests share: visits that nobody can mix up, and a site that sends its lines somewhere.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use pen_bench::stage::visitors::{self, Visit};
use pen_bench::stage::{
    Collector, LogSpelling, Make, Mappings, Output, Score, Shipper, Site, TempFolder, Truth,
    WebPlan, WebServerKind, free_port,
};
use pen_bench::{ActionError, Doing as _};

/// So many visits, each from another client to another address.
pub(crate) fn distinct_visits(count: usize) -> Vec<Visit> {
    (0..count)
        .map(|nth| {
            let client = visitors::address(nth);
            let request = format!(
                "GET /page/{nth}.html HTTP/1.1\r\nHost: shop.example\r\nUser-Agent: test\r\n\
                 X-Request-Id: r{nth}\r\nX-True-Client: {client}\r\n\r\n"
            );
            visitors::visit(client, &[request.as_bytes()], 1)
        })
        .collect()
}

/// The web server with a number.
pub(crate) fn web(kind: WebServerKind, number: u8, outputs: Vec<Output>) -> WebPlan {
    WebPlan { kind, number, outputs, tls: false, addr: None }
}

/// A collector, a site that reports to it, and what became of it.
pub(crate) struct Road {
    folder: TempFolder,
    collector: Collector,
    addr: SocketAddr,
    shippers: Vec<Shipper>,
}

/// What came out at a road's end.
pub(crate) struct End {
    /// What the web servers know.
    pub(crate) truth: Truth,
    /// What the collector wrote.
    pub(crate) merged: Vec<u8>,
    /// What the collector said.
    pub(crate) said: String,
}

impl End {
    /// Asserts that each line came out once and names its client.
    pub(crate) fn assert_all_right(&self) {
        let score = self.score();
        assert_eq!(
            (score.right, score.lost(), score.doubled + score.strange),
            (score.lines, 0, 0),
            "the log:\n{}\nthe collector:\n{}",
            String::from_utf8_lossy(&self.merged),
            self.said
        );
    }

    /// What the log has right.
    pub(crate) fn score(&self) -> Score {
        self.truth.score(&self.merged, None)
    }
}

impl Road {
    /// Starts the collector.
    pub(crate) fn to(collector: &Path, args: &[&str]) -> Result<Self, ActionError> {
        let folder = TempFolder::new();
        let addr = free_port(Ipv4Addr::LOCALHOST);
        let collector = Collector::start(collector, "penlogd", folder.path(), addr, args)?;
        Ok(Self { folder, collector, addr, shippers: Vec::new() })
    }

    /// Where it listens.
    pub(crate) fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// A way for the lines of the web server with this number: a FIFO that this shipper reads.
    pub(crate) fn ship(&mut self, shipper: &Path, number: u8) -> Result<Output, ActionError> {
        let fifo: PathBuf = self.folder.join(format!("penlog{number}.fifo"));
        let from = Ipv4Addr::new(127, 0, 1, number);
        self.shippers.push(Shipper::start(shipper, "penlog", &fifo, self.addr, from)?);
        Ok(Output::At(fifo, LogSpelling::Combined))
    }

    /// Sends the visits through a `pen` that reports here, to web servers that do.
    pub(crate) fn travel(self, webs: &[WebPlan], visits: &[Visit]) -> Result<End, ActionError> {
        self.travel_behind(Make::C, webs, visits)
    }

    /// The same through either `pen`.
    pub(crate) fn travel_behind(
        self,
        make: Make,
        webs: &[WebPlan],
        visits: &[Visit],
    ) -> Result<End, ActionError> {
        let mappings = Mappings::Collector(self.addr);
        let mut site = Site::start_behind(make, &self.folder, webs, &mappings)?;
        site.send(visits)?;
        let truth = site.stop()?;
        for shipper in self.shippers {
            shipper.finish()?;
        }
        self.collector.settle(truth.lines());
        let log = self.collector.log().to_owned();
        let (_status, said) = self.collector.stop()?;
        let merged = fs::read(&log).doing("read the merged log")?;
        Ok(End { truth, merged, said })
    }
}
