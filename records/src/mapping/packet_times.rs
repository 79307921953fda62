//! Changes the times of records in a packet that is about to be sent.

use super::packet::time_place;
use crate::time::Timestamp;

/// Changes the times of consecutive records, as written by [`super::packet::write_record`]. What is no record is left
/// alone.
pub fn redate_records(mut records: &mut [u8], date: impl Fn(Timestamp) -> Timestamp) {
    while let Some((length, rest)) = records.split_first_chunk_mut::<2>() {
        let length = usize::from(u16::from_le_bytes(*length));
        let Some((record, rest)) = rest.split_at_mut_checked(length) else { return };
        records = rest;
        let Some(at) = time_place(record) else { continue };
        if let Some(time) = record.get_mut(at..).and_then(<[u8]>::first_chunk_mut::<8>) {
            let new = date(Timestamp::from_micros(i64::from_le_bytes(*time)));
            *time = new.as_micros().to_le_bytes();
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::addr::{ClientAddr, ServerAddr};
    use crate::mapping::Mapping;
    use crate::mapping::packet::{PacketRecords, write_record};
    use crate::time::Resolution;

    fn mapping(server: &[u8], time: Option<i64>, number: u64) -> Mapping<'_> {
        let time = time.map(|time| (Timestamp::from_micros(time), Resolution::Microsecond));
        let balancer = number.is_multiple_of(2).then(|| "[2001:db8::1]:80".parse().unwrap());
        let (client_port, connection) = (Some(7), Some(number));
        let client = ClientAddr::Unix;
        Mapping {
            client_port,
            balancer,
            time,
            connection,
            ..Mapping::new(client, ServerAddr::Unix(server))
        }
    }

    proptest! {
        #[test]
        fn all_times_are_changed_and_nothing_else(
            made in proptest::collection::vec(
                (proptest::collection::vec(any::<u8>(), 0..9), any::<Option<u32>>(), any::<u64>()), 0..6,
            ),
        ) {
            let (mut records, mut expected) = (Vec::new(), Vec::new());
            for (server, time, number) in &made {
                let time = time.map(i64::from);
                write_record(&mapping(server, time, *number), &mut records);
                write_record(&mapping(server, time.map(|it| it + 77), *number), &mut expected);
            }
            redate_records(&mut records, |time| time.offset_by(77));
            prop_assert_eq!(&records, &expected);
            prop_assert_eq!(PacketRecords(&records).mappings().count(), made.len());
        }

        #[test]
        fn no_bytes_make_it_panic(mut bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
            redate_records(&mut bytes, |time| time.offset_by(1));
        }
    }
}
