use std::collections::HashSet;
use std::net::{TcpListener, TcpStream};
use std::time::Instant;

use pen_testing::TempFolder;
use pen_testing::wait::wait_for;

use super::*;
use crate::client::{StreamClient, StreamError, StreamSend};
use crate::link::{FramedLink, LinkError, LinkRead};

#[derive(Debug)]
pub(super) struct Known(pub(super) HashSet<Identity>);

impl KnownSenders for Known {
    fn knows(&self, sender: &Identity) -> bool {
        self.0.contains(sender)
    }
}

/// A collector with a key, and the senders' keys that it knows.
fn collector(key: &PrivateKey, known: PublicKey) -> Option<CollectorTls> {
    let known: Arc<dyn KnownSenders> = Arc::new(Known(HashSet::from([Identity::Key(known)])));
    Some(CollectorTls::new(Some(key), None, &known).unwrap())
}

fn sender(key: &PrivateKey, collector: PublicKey) -> Option<SenderTls> {
    Some(SenderTls::with_key(key, collector).unwrap())
}

pub(super) fn key(folder: &TempFolder, name: &str) -> PrivateKey {
    let path = folder.join(name);
    PrivateKey::generate(&path).unwrap();
    PrivateKey::read(&path).unwrap()
}

/// How a collector fared with a sender: what came, and with which key.
pub(super) type Served = Result<(Vec<u8>, Option<Vec<Identity>>), LinkError>;

/// Sends a datagram of 40,000 bytes, and gets a reply.
pub(super) fn talk(
    sender: Option<SenderTls>,
    collector: Option<CollectorTls>,
) -> (Result<Vec<u8>, StreamError>, Served) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut client = StreamClient::new(None, sender);
    client.set_addr(listener.local_addr().unwrap());
    let now = Instant::now();
    assert_eq!(client.send(&[7; 40_000], now).unwrap(), StreamSend::Taken);
    let (socket, _): (TcpStream, _) = listener.accept().unwrap();
    socket.set_nonblocking(true).unwrap();
    let mut served = Some(FramedLink::from_sender(socket, collector.map(Arc::new)));
    let (mut replied, mut result, mut scratch) = (None, None, vec![0; 4_096]);
    wait_for("both ends are done", || {
        if let Some(link) = &mut served {
            let mut datagram = Vec::new();
            let read = link.read(&mut scratch, |_, it| datagram = it.to_vec());
            let flushed = link.flush();
            if !datagram.is_empty() {
                link.queue(b"a reply");
                link.flush().unwrap();
                result = Some(Ok((datagram, link.sender().map(<[_]>::to_vec))));
            }
            match read.and_then(|read| flushed.map(|()| read)) {
                Ok(LinkRead::Nothing | LinkRead::Bytes(_)) => {}
                Ok(LinkRead::End) => served = None,
                Err(error) => {
                    result.get_or_insert(Err(error));
                    served = None;
                }
            }
        }
        match client.receive(now) {
            Ok(None) => {}
            Ok(Some(reply)) => replied = Some(Ok(reply)),
            Err(error) => replied = replied.take().or(Some(Err(error))),
        }
        (replied.is_some() && result.is_some()).then_some(())
    });
    (replied.unwrap(), result.unwrap())
}

#[test]
fn both_ends_know_each_other_by_their_keys() {
    let folder = TempFolder::new();
    let (sends, collects) = (key(&folder, "sender"), key(&folder, "collector"));
    let (replied, served) =
        talk(sender(&sends, collects.public()), collector(&collects, sends.public()));
    assert_eq!(replied.unwrap(), b"a reply");
    assert_eq!(served.unwrap(), (vec![7; 40_000], Some(vec![Identity::Key(sends.public())])));
}

#[test]
fn an_unknown_sender_is_refused_and_both_ends_can_say_so() {
    let folder = TempFolder::new();
    let (sends, collects) = (key(&folder, "sender"), key(&folder, "collector"));
    let (replied, served) =
        talk(sender(&sends, collects.public()), collector(&collects, collects.public()));
    assert_eq!(served.unwrap_err().to_string(), format!("unknown key {}", sends.public()));
    let said = replied.unwrap_err().to_string();
    assert!(said.contains("does not know this program's key"), "{said}");
}

#[test]
fn a_collector_with_another_key_gets_nothing() {
    let folder = TempFolder::new();
    let (sends, collects) = (key(&folder, "sender"), key(&folder, "collector"));
    let (replied, served) =
        talk(sender(&sends, sends.public()), collector(&collects, sends.public()));
    assert!(served.is_err());
    let said = replied.unwrap_err().to_string();
    assert!(said.contains(&collects.public().to_string()), "{said}");
}

#[test]
fn a_collector_without_a_key_gets_nothing() {
    let folder = TempFolder::new();
    let sends = key(&folder, "sender");
    let (replied, served) = talk(sender(&sends, sends.public()), None);
    assert!(matches!(served, Err(LinkError::NoKey)));
    assert!(replied.is_err());
}

#[test]
fn without_keys_the_same_goes_in_the_clear() {
    let (replied, served) = talk(None, None);
    assert_eq!(replied.unwrap(), b"a reply");
    assert_eq!(served.unwrap(), (vec![7; 40_000], None));
}
