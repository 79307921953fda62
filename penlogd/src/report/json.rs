//! The report as JSON: one object on one line.

use serde_json::{Map, Value, json};

use super::{CollectorReport, Equation, ServerReport, StreamCounts};

impl CollectorReport {
    /// Returns the report as one JSON object, without a line feed.
    #[must_use]
    pub fn json(&self) -> String {
        let mut balance = Map::new();
        let mut add = |name: &str, value: Value| balance.insert(name.to_owned(), value);
        add("adds_up", self.adds_up().into());
        for equation in self.equations() {
            add(equation.name, equation.json());
        }
        let (shipments, packets) = (&self.shipments, &self.packets);
        add(
            "lost",
            json!({
                "datagrams_by_kernel": self.kernel_drops,
                "shipments": shipments.lost_shipments,
                "lines_in_them": shipments.lost_lines,
                "lines_by_shippers": shipments.dropped,
                "lines_cut": shipments.cut,
                "records": packets.lost,
                "records_by_balancers": packets.dropped,
                "refused_numbers": shipments.too_far + packets.too_far,
            }),
        );
        add("streams", self.streams.json());
        add("unauthenticated", self.unauthenticated.into());
        add("unauthenticated_lines", self.join.unauthenticated.into());
        add("balancers", packets.origins.into());
        add("not_understood", self.received.not_understood.into());
        add("shipped_before", self.shipments.known_lines.into());
        add("decided_early", (self.join.decided_early + self.queue.decided_early).into());
        add("held_bytes", self.held_bytes.into());
        add(
            "waited",
            json!({
                "mean_us": self.queue.mean(),
                "longest_us": self.queue.longest(),
                "histogram": self.queue.waits,
            }),
        );
        add("delays", json!({ "histogram": self.queue.delays }));
        add("servers", self.servers.iter().map(ServerReport::json).collect());
        Value::from(balance).to_string()
    }
}

impl Equation {
    /// Returns the terms of both sides of an equation as members of one object.
    fn json(&self) -> Value {
        let parts = std::iter::once(&self.left).chain(&self.right);
        parts.map(|(name, count)| (name.replace(' ', "_"), *count)).collect()
    }
}

impl StreamCounts {
    fn json(&self) -> Value {
        let counts = self.named().into_iter().map(|(name, count)| (name.replace(' ', "_"), count));
        counts.collect()
    }
}

impl ServerReport {
    fn json(&self) -> Value {
        let mut server = Map::new();
        let mut add = |name: &str, value: Value| server.insert(name.to_owned(), value);
        add("server", self.key.to_string().into());
        add("format", self.format.as_str().into());
        for (name, count) in self.counts.by_certainty() {
            add(name, count.into());
        }
        add("delay_us", self.delay.into());
        add("clock_ahead_us", self.clock.map(|clock| clock.micros).into());
        add("clock_within_us", self.clock.map(|clock| clock.within).into());
        server.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_part_of_an_equation_is_a_member() {
        let text = CollectorReport::default().json();
        assert!(
            text.starts_with("{\"adds_up\":true,\"datagrams\":{\"received\":0,\"mappings\":0,")
        );
        assert!(text.contains("\"waiting_to_be_written\":0"), "{text}");
        assert!(text.ends_with("\"servers\":[]}"), "{text}");
    }
}
