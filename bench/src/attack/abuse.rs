//! Connections that are not what they should be.

use std::ffi::OsString;
use std::io::{Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::process::Stdio;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::Signal;
use pen_records::frames::write_frame;
use socket2::{Domain, Socket, Type};

use super::AttackResult;
use super::forge::{LINE_MARK, line, shipments};
use super::site::{ATTACKER, AttackSite, WEB, certificate_options, key_options, shipper};
use crate::delivery::writer::pause;
use crate::stage::Program;
use crate::{ActionError, Doing as _};

/// Connections at a time.
const SLOW: usize = 2_000;

fn connect(from: Ipv4Addr, to: SocketAddr) -> Result<TcpStream, ActionError> {
    let action = "connect to the collector";
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).doing(action)?;
    socket.bind(&SocketAddr::new(IpAddr::V4(from), 0).into()).doing(action)?;
    socket.connect_timeout(&to.into(), Duration::from_secs(2)).doing(action)?;
    Ok(socket.into())
}

fn framed(datagrams: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for datagram in datagrams {
        // Each has a line of some hundred bytes.
        let _fits = write_frame(datagram, &mut bytes);
    }
    bytes
}

pub(super) fn shipment_by_tcp(site: &mut AttackSite<'_>) -> Result<AttackResult, ActionError> {
    let shipments = shipments(69, 50);
    let bytes = framed(&shipments);
    let mut stream = connect(ATTACKER, site.addr)?;
    // The collector may end the connection first.
    let _written = stream.write_all(&bytes);
    pause(Duration::from_millis(500));
    let tried = shipments.len() as u64;
    Ok(AttackResult { tried, mark: Some(LINE_MARK), ..AttackResult::default() })
}

/// The real `penlog` with a key or a certificate, and forged lines of the web server on its standard input.
fn with_proof(site: &AttackSite<'_>, proof: &[OsString]) -> Result<AttackResult, ActionError> {
    let mut command = shipper(site.addr, ATTACKER, proof)?;
    let mut penlog = Program::start("penlog", command.stdin(Stdio::piped()))?;
    let mut stdin = penlog.take_stdin();
    for _ in 0..50 {
        stdin.write_all(&[&line()[..], b"\n"].concat()).doing("write forged lines")?;
    }
    pause(Duration::from_secs(3));
    drop(stdin);
    // It would try for 10 s.
    penlog.stop(Signal::SIGKILL)?;
    let said = penlog.messages();
    let remark = said.lines().next().unwrap_or_default();
    // Its own name and the collector's address are known.
    let remark = remark.rsplit_once(": ").map_or(remark, |(_, why)| why).to_owned();
    Ok(AttackResult { tried: 50, mark: Some(LINE_MARK), remark })
}

fn with_key(site: &AttackSite<'_>, key: &str) -> Result<AttackResult, ActionError> {
    with_proof(site, &key_options(site.folder, key, &site.public))
}

pub(super) fn unknown_key(site: &mut AttackSite<'_>) -> Result<AttackResult, ActionError> {
    with_key(site, "unknown.key")
}

pub(super) fn others_key(site: &mut AttackSite<'_>) -> Result<AttackResult, ActionError> {
    let result = with_key(site, "other.key")?;
    Ok(AttackResult { remark: String::new(), ..result })
}

/// The certificate has the name of the web server.
pub(super) fn other_authority(site: &mut AttackSite<'_>) -> Result<AttackResult, ActionError> {
    let Some([ours, theirs]) = &site.authorities else { return Ok(AttackResult::default()) };
    with_proof(site, &certificate_options(theirs, "web", ours))
}

pub(super) fn others_certificate(site: &mut AttackSite<'_>) -> Result<AttackResult, ActionError> {
    let Some([ours, _]) = &site.authorities else { return Ok(AttackResult::default()) };
    let result = with_proof(site, &certificate_options(ours, "other", ours))?;
    Ok(AttackResult { remark: String::new(), ..result })
}

pub(super) fn torn_frames(site: &mut AttackSite<'_>) -> Result<AttackResult, ActionError> {
    let frame = framed(&shipments(70, 1));
    let mut tried = 0;
    let ends = (0..frame.len()).step_by(7).map(|end| frame[..end].to_vec());
    let garbage: [Vec<u8>; 6] = [
        vec![0; 4],
        vec![0xFF; 70_000],
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".to_vec(),
        [b"\x16\x03\x01\x40\x00".to_vec(), vec![0; 60_000]].concat(),
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n".to_vec(),
        [&7_u32.to_le_bytes()[..], b"garbage"].concat(),
    ];
    for bytes in ends.chain(garbage) {
        let mut stream = connect(ATTACKER, site.addr)?;
        let _written = stream.write_all(&bytes);
        tried += 1;
    }
    Ok(AttackResult { tried, mark: Some(LINE_MARK), ..AttackResult::default() })
}

/// As many as there may be in this process; and an honest shipper that has to connect meanwhile.
pub(super) fn slow_connections(site: &mut AttackSite<'_>) -> Result<AttackResult, ActionError> {
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE).doing("look at the limit of files")?;
    // Where that is not permitted there are fewer.
    let _raised = setrlimit(Resource::RLIMIT_NOFILE, most.min(8_192), most);
    let mut open = Vec::new();
    for _ in 0..SLOW {
        let Ok(mut stream) = connect(ATTACKER, site.addr) else { break };
        // The first byte of a handshake, and no more.
        let _written = stream.write_all(b"\x16");
        open.push(stream);
    }
    let penlog = second_shipper(site)?;
    pause(Duration::from_secs(3));
    drop(penlog);
    let tried = open.len() as u64;
    let remark = "a new honest shipper's 50 lines count as got in".to_owned();
    Ok(AttackResult { tried, mark: Some(LATE), remark })
}

/// In the lines of a shipper that came during the attack.
const LATE: &str = "/late";

fn second_shipper(site: &AttackSite<'_>) -> Result<Program, ActionError> {
    let mut command = if site.public.is_empty() {
        shipper(site.addr, WEB, &["--stream".into()])?
    } else {
        shipper(site.addr, WEB, &key_options(site.folder, "web.key", &site.public))?
    };
    let mut penlog = Program::start("penlog", command.stdin(Stdio::piped()))?;
    let mut stdin = penlog.take_stdin();
    let line = String::from_utf8_lossy(&line()).replace("/forged", LATE);
    for _ in 0..50 {
        writeln!(stdin, "{line}").doing("write lines")?;
    }
    Ok(penlog)
}

/// Records what an honest shipper sends by TLS, and sends the same bytes again.
pub(super) fn replay_connection(site: &mut AttackSite<'_>) -> Result<AttackResult, ActionError> {
    let (recorder, to) = record_from(WEB, site.addr)?;
    let penlog = {
        let proof = key_options(site.folder, "web.key", &site.public);
        let mut command = shipper(to, WEB, &proof)?;
        let mut penlog = Program::start("penlog", command.stdin(Stdio::piped()))?;
        let mut stdin = penlog.take_stdin();
        let line = String::from_utf8_lossy(&line()).into_owned();
        writeln!(stdin, "{line}").doing("write lines")?;
        pause(Duration::from_secs(2));
        drop(stdin);
        penlog.stop(Signal::SIGTERM)?;
        penlog
    };
    drop(penlog);
    let bytes = recorder.lock().map(|bytes| bytes.clone()).unwrap_or_default();
    for _ in 0..10 {
        let mut stream = connect(ATTACKER, site.addr)?;
        let _written = stream.write_all(&bytes);
        pause(Duration::from_millis(100));
    }
    let remark = format!("{} bytes, ten times; the one honest line counts as got in", bytes.len());
    Ok(AttackResult { tried: 10, mark: Some(LINE_MARK), remark })
}

type Recorded = Arc<Mutex<Vec<u8>>>;

/// Passes one connection on, and keeps what its client sends.
fn record_from(
    source: Ipv4Addr,
    collector: SocketAddr,
) -> Result<(Recorded, SocketAddr), ActionError> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).doing("listen")?;
    let addr = listener.local_addr().doing("find out where that is")?;
    let recorded = Recorded::default();
    let keep = Arc::clone(&recorded);
    std::thread::spawn(move || -> Option<()> {
        let (mut client, _) = listener.accept().ok()?;
        let mut server = connect(source, collector).ok()?;
        let (mut back, mut from) = (client.try_clone().ok()?, server.try_clone().ok()?);
        std::thread::spawn(move || std::io::copy(&mut from, &mut back).ok());
        let mut buf = [0; 4_096];
        while let Ok(len @ 1..) = client.read(&mut buf) {
            keep.lock().ok()?.extend_from_slice(&buf[..len]);
            server.write_all(&buf[..len]).ok()?;
        }
        server.shutdown(Shutdown::Write).ok()
    });
    Ok((recorded, addr))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_is_recorded_while_it_passes() {
        let server = TcpListener::bind("127.0.0.1:0").unwrap();
        let collector = server.local_addr().unwrap();
        let (recorded, addr) = record_from(Ipv4Addr::LOCALHOST, collector).unwrap();
        TcpStream::connect(addr).unwrap().write_all(b"hello").unwrap();
        let mut heard = Vec::new();
        server.accept().unwrap().0.read_to_end(&mut heard).unwrap();
        assert_eq!(heard, b"hello");
        assert_eq!(*recorded.lock().unwrap(), b"hello");
    }
}
