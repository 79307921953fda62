//! Where the records of a measured balancer go.

use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use pen_records::shipment::{DiscoveryAnswer, DiscoveryQuestion, ReceivedShipments, StreamList};

use crate::{ActionError, Doing};

/// How long the end of a collector may take.
const LOOK: Duration = Duration::from_millis(100);

/// Takes records, at next to no cost for the core that it runs on.
pub(super) enum RecordTaker {
    /// Reads none: the kernel drops the excess.
    Deaf { _socket: UdpSocket },
    /// Confirms all that was sent.
    Answering { is_over: Arc<AtomicBool>, thread: Option<JoinHandle<()>> },
}

impl RecordTaker {
    /// Starts one, and returns its address.
    pub(super) fn start(answers: bool) -> Result<(Self, SocketAddr), ActionError> {
        let socket = UdpSocket::bind("127.0.0.1:0").doing("take records")?;
        let addr = socket.local_addr().doing("take records")?;
        if !answers {
            return Ok((Self::Deaf { _socket: socket }, addr));
        }
        socket.set_read_timeout(Some(LOOK)).doing("take records")?;
        let is_over = Arc::new(AtomicBool::new(false));
        let seen = Arc::clone(&is_over);
        let thread = Some(thread::spawn(move || answer(&socket, &seen)));
        Ok((Self::Answering { is_over, thread }, addr))
    }
}

impl Drop for RecordTaker {
    fn drop(&mut self) {
        if let Self::Answering { is_over, thread } = self {
            is_over.store(true, Ordering::Relaxed);
            // A panic of the thread was printed.
            let _ = thread.take().map(JoinHandle::join);
        }
    }
}

fn answer(socket: &UdpSocket, is_over: &AtomicBool) {
    let (mut buf, mut reply) = ([0; 2_048], Vec::new());
    while !is_over.load(Ordering::Relaxed) {
        let Ok((len, from)) = socket.recv_from(&mut buf) else { continue };
        let Ok(question) = DiscoveryQuestion::parse(&buf[..len]) else { continue };
        let received = Some(ReceivedShipments { from: 0, upto: question.shipments });
        let (nonce, positions) = (question.nonce, StreamList::default());
        reply.clear();
        DiscoveryAnswer { nonce, window: 0, datagram: 0, received, positions }.write(&mut reply);
        // The balancer asks again.
        let _ = socket.send_to(&reply, from);
    }
}
