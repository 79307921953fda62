//! The balance for programs: one object on one line.

use std::fmt::Write as _;

use super::{Balance, Equation, ServerBalance};

impl Balance {
    /// One JSON object, without a line end.
    #[must_use]
    pub fn json(&self) -> String {
        let mut out = String::new();
        self.write_json(&mut out).expect("writing to a String does not fail");
        out
    }

    fn write_json(&self, out: &mut String) -> std::fmt::Result {
        write!(out, "{{\"adds_up\":{}", self.adds_up())?;
        for equation in self.equations() {
            equation.write_json(out)?;
        }
        let (shipments, packets) = (&self.shipments, &self.packets);
        write!(
            out,
            ",\"lost\":{{\"datagrams_by_kernel\":{},\"shipments\":{},\"lines_in_them\":{},\"lines_by_shippers\":{},\
             \"lines_cut\":{},\"records\":{},\"records_by_balancers\":{}}}",
            self.kernel_drops,
            shipments.lost_shipments,
            shipments.lost_lines,
            shipments.dropped,
            shipments.cut,
            packets.lost,
            packets.dropped,
        )?;
        write!(
            out,
            ",\"balancers\":{},\"not_understood\":{},\"decided_early\":{},\"held_bytes\":{}",
            packets.origins,
            self.received.not_understood,
            self.join.hurried + self.queue.hurried,
            self.held_bytes,
        )?;
        write!(
            out,
            ",\"waited\":{{\"mean_us\":{},\"longest_us\":{},\"histogram\":{}}},\"delays\":{{\"histogram\":{}}}",
            self.queue.mean(),
            self.queue.longest(),
            self.queue.waits.json(),
            self.queue.delays.json(),
        )?;
        let servers: Vec<_> = self.servers.iter().map(ServerBalance::json).collect();
        write!(out, ",\"servers\":[{}]}}", servers.join(","))
    }
}

impl Equation {
    fn write_json(&self, out: &mut String) -> std::fmt::Result {
        write!(out, ",\"{}\":{{", self.name)?;
        for (index, (name, count)) in std::iter::once(&self.left).chain(&self.right).enumerate() {
            let comma = if index == 0 { "" } else { "," };
            write!(out, "{comma}\"{}\":{count}", name.replace(' ', "_"))?;
        }
        out.push('}');
        Ok(())
    }
}

impl ServerBalance {
    fn json(&self) -> String {
        let counts = &self.counts;
        format!(
            "{{\"server\":{},\"format\":{},\"exact\":{},\"certain\":{},\"likely\":{},\"unmatched\":{},\"delay_us\":{},{}}}",
            quoted(&self.key.to_string()),
            quoted(&self.format),
            counts.exact,
            counts.certain,
            counts.likely,
            counts.without_client(),
            self.delay.map_or_else(|| "null".to_owned(), |delay| delay.to_string()),
            self.clock.map_or_else(
                || "\"clock_ahead_us\":null,\"clock_within_us\":null".to_owned(),
                |clock| format!(
                    "\"clock_ahead_us\":{},\"clock_within_us\":{}",
                    clock.micros, clock.within
                ),
            ),
        )
    }
}

/// A JSON string (RFC 8259, section 7).
#[must_use]
pub fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            c if u32::from(c) < 0x20 => {
                write!(out, "\\u{:04x}", u32::from(c)).expect("writing to a String does not fail");
            }
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_strings_are_escaped() {
        assert_eq!(quoted("a\"b\\c\n\u{e9}"), "\"a\\\"b\\\\c\\u000a\u{e9}\"");
    }

    #[test]
    fn each_part_of_an_equation_is_a_member() {
        let text = Balance::default().json();
        assert!(
            text.starts_with("{\"adds_up\":true,\"datagrams\":{\"received\":0,\"mappings\":0,")
        );
        assert!(text.contains("\"waiting_to_be_written\":0"), "{text}");
        assert!(text.ends_with("\"servers\":[]}"), "{text}");
    }
}
