//! Reads a mapping log, classic or extended, and sends usable records to the merge in order.

use std::io;
use std::sync::Arc;
use std::thread;

use crossbeam_channel::{Receiver, Sender, bounded, unbounded};
use pen_archive::Archive;
use pen_records::access::carried;
use pen_records::attribution::{BalancerHashes, MappingEvent};
use pen_records::clocks::ClockTrack;
use pen_records::mapping::classic::FileReader;
use pen_records::mapping::{self, Mapping, MappingKind, RequestText};
use pen_records::merge::Reorder;
use pen_records::request::Cut;
use pen_records::time::Timestamp;

use super::{COMPLAINTS, MappingBatch, MappingEnd, ReaderHandle};
use crate::config::InputOrigin;
use crate::input::archive;
use crate::input::lines::{LineReader, TextBlock};
use crate::input::shares::MemoryShares;
use crate::input::third_party::{ThirdPartyLine, ThirdPartyLogReader, ThirdPartySettings};
use crate::servers::{NamedServers, SpellingCache};

/// The settings of a mapping log's reader.
pub(crate) struct MappingJob {
    pub(crate) origin: InputOrigin,
    pub(crate) servers: Arc<NamedServers>,
    pub(crate) third_party: ThirdPartySettings,
    /// Where the log's clock was set back, if it was.
    pub(crate) track: Option<Arc<ClockTrack>>,
    /// The pass: only its servers' records are sent, and the first pass counts lines.
    pub(crate) pass: usize,
    /// Whether lines of our own balancer are expected.
    pub(crate) extended: bool,
    pub(crate) shares: MemoryShares,
}

/// Readers of a log's lines.
struct LineReaders {
    classic: FileReader,
    names: SpellingCache,
    balancers: BalancerHashes,
    third_party: ThirdPartyLogReader,
    /// The text of a line within another.
    text: Vec<u8>,
}

impl LineReaders {
    fn new(third_party: &ThirdPartySettings) -> Self {
        Self {
            classic: FileReader::default(),
            names: SpellingCache::default(),
            balancers: BalancerHashes::default(),
            third_party: ThirdPartyLogReader::new(third_party),
            text: Vec::new(),
        }
    }
}

impl MappingJob {
    pub(crate) fn start(self) -> io::Result<ReaderHandle<MappingBatch, Vec<MappingEvent>>> {
        let progress = (self.pass == 0).then_some(&self.shares.progress);
        let archive = archive::open(&self.origin, self.shares.block(), progress)?;
        let (send, batches) = bounded(self.shares.ahead());
        let (used, reuse) = unbounded();
        thread::Builder::new()
            .name("mappings".to_owned())
            .spawn(move || self.read(archive, &send, &reuse))?;
        Ok(ReaderHandle { batches, used })
    }

    fn read(
        self,
        archive: Archive,
        send: &Sender<MappingBatch>,
        reuse: &Receiver<Vec<MappingEvent>>,
    ) {
        let mut reader = LineReader::new(archive.bytes);
        let mut reorder = Reorder::new(self.shares.window());
        let mut end = Box::new(MappingEnd {
            compression: Some(archive.compression),
            ..MappingEnd::default()
        });
        let mut readers = LineReaders::new(&self.third_party);
        let mut block = TextBlock::default();
        let mut cursor = self.track.as_deref().map(ClockTrack::cursor);
        let mut passed = 0_u64;
        while let Some(next) = reader.next(block, self.shares.block()) {
            reorder.set_bounds(self.shares.window());
            for (start, stop) in next.spans() {
                let line = &next.bytes[start..stop];
                let behind = match &mut cursor {
                    Some(cursor) => -cursor.next(passed + start as u64, Timestamp::MIN).0,
                    None => 0,
                };
                self.any_line(&mut readers, (line, behind), &mut end, &mut reorder);
            }
            passed += next.filled as u64;
            block = next;
            reorder.end_run(reuse.try_recv().unwrap_or_default());
            while let Some(records) = reorder.next_run() {
                if send.send(MappingBatch { records, end: None }).is_err() {
                    return;
                }
            }
        }
        end.fault = reader.into_fault();
        while let Some(records) = reorder.next_held() {
            if send.send(MappingBatch { records, end: None }).is_err() {
                return;
            }
        }
        end.late = reorder.late();
        end.unnamed = readers.third_party.names.unnamed;
        end.options.append(&mut readers.third_party.names.options);
        // The merge may have stopped listening: then nobody wants to know.
        let _ = send.send(MappingBatch { records: Vec::new(), end: Some(end) });
    }

    /// Handles a line of any origin.
    fn any_line(
        &self,
        readers: &mut LineReaders,
        (line, behind): (&[u8], i64),
        end: &mut MappingEnd,
        reorder: &mut Reorder<MappingEvent>,
    ) {
        end.lines += 1;
        let (damaged, complaints) = (end.damaged, end.complaints.len());
        self.line(readers, (line, behind), end, reorder);
        if end.damaged == damaged {
            return;
        }
        // Perhaps a line that another program passed on. If not, what is wrong with the line itself is said.
        let mut text = std::mem::take(&mut readers.text);
        if let Some(carried) = carried(line, &mut text) {
            let (before, said) = (end.damaged, end.complaints.len());
            self.line(readers, (carried, behind), end, reorder);
            end.complaints.truncate(said);
            if end.damaged > before {
                end.damaged = before;
            } else {
                end.damaged = damaged;
                end.complaints.truncate(complaints);
            }
        }
        readers.text = text;
    }

    /// Handles a line as it stands.
    fn line(
        &self,
        readers: &mut LineReaders,
        (line, behind): (&[u8], i64),
        end: &mut MappingEnd,
        reorder: &mut Reorder<MappingEvent>,
    ) {
        if readers.third_party.wants_all() && !line.starts_with(mapping::line::START) {
            return self.third_party_line(readers, (line, behind), end, reorder);
        }
        let (damaged, complaints) = (end.damaged, end.complaints.len());
        self.own_line(readers, (line, behind), end, reorder);
        if end.damaged > damaged && readers.third_party.wants(line) {
            // Neither ours nor the C balancer's: perhaps another's.
            end.damaged = damaged;
            end.complaints.truncate(complaints);
            self.third_party_line(readers, (line, behind), end, reorder);
        }
    }

    /// Handles a line that is ours or the C balancer's.
    fn own_line(
        &self,
        LineReaders { classic: reader, names, balancers, .. }: &mut LineReaders,
        (line, behind): (&[u8], i64),
        end: &mut MappingEnd,
        reorder: &mut Reorder<MappingEvent>,
    ) {
        if line.starts_with(mapping::line::START) {
            if let Some(mut record) = self.extended_line(balancers, line, end) {
                record.time = record.time.offset_by(behind);
                reorder.push(record);
            }
            return;
        }
        let mut line = match reader.read(line) {
            Ok(line) => line,
            Err(error) => return self.complain(&error, end),
        };
        let known = match names.find(&line, &self.servers) {
            Ok(Some(known)) => known,
            Ok(None) => {
                end.elsewhere += 1;
                return;
            }
            Err(error) => return self.complain(&error, end),
        };
        if known.pass != self.pass {
            return;
        }
        end.note(known.option);
        let request = if known.lacks_protocol {
            line.request.without_protocol().fingerprint()
        } else {
            line.request.fingerprint()
        };
        let Some(request) = request else {
            end.without_request += 1;
            return;
        };
        line.time = line.time.offset_by(known.ahead).offset_by(behind);
        reorder.push(MappingEvent::of_file_line(&line, known.id, request));
    }

    /// Handles an extended line of our own balancer.
    fn extended_line(
        &self,
        balancers: &mut BalancerHashes,
        line: &[u8],
        end: &mut MappingEnd,
    ) -> Option<MappingEvent> {
        let mut mapping = match Mapping::parse_extended_line(line) {
            Ok(mapping) => mapping,
            Err(error) => {
                self.complain(&error, end);
                return None;
            }
        };
        let is_request = mapping.kind == MappingKind::Request;
        end.events += u64::from(!is_request);
        let Some(known) = self.servers.find(mapping.server) else {
            end.elsewhere += u64::from(is_request);
            return None;
        };
        if known.pass != self.pass {
            return None;
        }
        end.note(known.option);
        mapping.server_port = known.option.and_then(|it| it.port).or(mapping.server_port);
        let (time, resolution) = mapping.time?;
        let time = (time.offset_by(known.ahead), resolution);
        let record = if self.extended {
            MappingEvent::with_exchange(&mapping, known.id, time, balancers)
        } else {
            is_request.then(|| MappingEvent::new(&cut_short(&mapping), known.id, time)).flatten()
        };
        let record = if known.lacks_protocol {
            let text = if self.extended { mapping } else { cut_short(&mapping) };
            record.map(|record| record.ignoring_protocol(&text))
        } else {
            record
        };
        end.without_request += u64::from(record.is_none() && is_request);
        record
    }

    /// Handles a line of a third-party balancer. Such a line is written when the exchange has ended, so its
    /// record of the beginning is late.
    fn third_party_line(
        &self,
        LineReaders { third_party, balancers, .. }: &mut LineReaders,
        (line, behind): (&[u8], i64),
        end: &mut MappingEnd,
        reorder: &mut Reorder<MappingEvent>,
    ) {
        match third_party.read(line, &self.servers, Some(self.pass), balancers) {
            Ok(ThirdPartyLine::Records(known, records)) if known.pass == self.pass => {
                let is_request = records[0].is_some_and(|record| record.is_request());
                end.events += u64::from(!is_request && records[0].is_some());
                end.without_request += u64::from(records[0].is_none());
                for record in records.into_iter().flatten() {
                    let time = record.time.offset_by(behind);
                    reorder.push(MappingEvent { time, ..record });
                }
            }
            Ok(ThirdPartyLine::Records(..) | ThirdPartyLine::Nothing) => {}
            Ok(ThirdPartyLine::Elsewhere) => end.elsewhere += 1,
            Err(error) => self.complain(&error, end),
        }
    }

    fn complain(&self, error: &impl std::fmt::Display, end: &mut MappingEnd) {
        end.damaged += 1;
        if end.complaints.len() < COMPLAINTS {
            end.complaints.push(format!("{}:{}: {error}", self.origin, end.lines));
        }
    }
}

/// Returns the request as a classic line holds it, for logs where only classic lines were expected.
pub(crate) fn cut_short<'a>(mapping: &Mapping<'a>) -> Mapping<'a> {
    let request = mapping.request.map(|request| RequestText { cut: Cut::Short, ..request });
    Mapping { request, whole: None, ..*mapping }
}
