//! Rights of senders, checked by key before a datagram is taken.

use std::fmt;
use std::net::SocketAddr;

use pen_records::datagram::Datagram;
use pen_records::shipment::Shipment;
use pen_records::time::Timestamp;

use super::Collector;
use crate::authorized::KeyRights;
use crate::warnings::WarningCause;

impl Collector {
    /// Returns whether the owner of a key may send a datagram. Otherwise the datagram is counted as refused.
    pub(crate) fn admits(
        &mut self,
        from: SocketAddr,
        rights: &KeyRights,
        datagram: &[u8],
        now: Timestamp,
    ) -> bool {
        let refused = match Datagram::parse(datagram) {
            Datagram::Packet(_) if rights.may_send_all_records() => return true,
            Datagram::Packet(packet) => {
                let Some(wrong) = packet.mappings().find(|record| !rights.may_send_record(record))
                else {
                    return true;
                };
                format!("records of the server {}", wrong.server)
            }
            Datagram::Shipment(shipment) => match self.wrong_shipment(from, rights, &shipment) {
                None => return true,
                Some(refused) => refused,
            },
            Datagram::Question(_) | Datagram::Broken(_) => return true,
            Datagram::Mapping(_) | Datagram::Lines(_) | Datagram::Answer(_) | Datagram::Empty => {
                "such datagrams by a stream".to_owned()
            }
        };
        self.refuse_datagram(
            from,
            datagram,
            now,
            format_args!("the sender {rights} may not send {refused}; add that to its line in the file of --authorized"),
        );
        false
    }

    /// Returns the forbidden content of a shipment.
    fn wrong_shipment(
        &mut self,
        from: SocketAddr,
        rights: &KeyRights,
        shipment: &Shipment<'_>,
    ) -> Option<String> {
        let sender = from.ip().to_canonical();
        if self.third_party.of_sender(sender, shipment.server.name).is_some() {
            return (!rights.may_send_all_records())
                .then(|| "records of all servers (a balancer's log)".to_owned());
        }
        let server = self.intake.sources.key_of_shipment(sender, &shipment.server).0;
        (!rights.may_send_lines_of(server)).then(|| format!("lines of the server {server}"))
    }

    /// Says that the connections of a sender wait, since it has used up its quota.
    pub(crate) fn say_held(&mut self, from: SocketAddr, rights: &KeyRights, now: Timestamp) {
        let what = format_args!(
            "{rights} sends more than {}, as its line in the file of --authorized says: it has to wait",
            rights.limits
        );
        self.intake.warnings.warn(WarningCause::Quota, from, now, what);
    }

    /// Counts a refused datagram.
    pub(crate) fn refuse_datagram(
        &mut self,
        from: SocketAddr,
        datagram: &[u8],
        now: Timestamp,
        why: impl fmt::Display,
    ) {
        self.intake.received.datagrams += 1;
        self.intake.received.bytes += datagram.len() as u64;
        self.intake.received.refused += 1;
        self.intake.warnings.warn(WarningCause::Refused, from, now, why);
    }
}
