//! Clients: requests from several addresses of this machine.

use std::io::{self, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};

use pen_testing::{ActionError, Doing as _, PATIENCE};
use socket2::{Domain, Socket, Type};

const USER_AGENTS: [&str; 4] = ["Firefox/128.0", "Chrome/130.0", "Firefox/128.0", "curl/8.5"];
const PAGES: [&str; 4] = ["/", "/shoes", "/shoes/7?colour=red", "/cart"];

/// How many requests [`send_all`] sends.
pub(crate) const REQUESTS: usize = USER_AGENTS.len() * PAGES.len();

/// Sends a request for each page from each of four clients, 127.0.9.1 to 127.0.9.4, each on a connection of its own.
pub(crate) fn send_all(balancer: SocketAddr) -> Result<(), ActionError> {
    for page in PAGES {
        for (number, agent) in (1..).zip(USER_AGENTS) {
            let client = Ipv4Addr::new(127, 0, 9, number);
            send(client, balancer, page, agent)
                .doing(format_args!("request {page} from {balancer} as {client}"))?;
        }
    }
    Ok(())
}

fn send(client: Ipv4Addr, to: SocketAddr, page: &str, agent: &str) -> io::Result<()> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    socket.bind(&SocketAddr::from((client, 0)).into())?;
    socket.connect_timeout(&to.into(), PATIENCE)?;
    let mut stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(PATIENCE))?;
    write!(
        stream,
        "GET {page} HTTP/1.1\r\nHost: shop.example\r\nUser-Agent: {agent}\r\nConnection: close\r\n\r\n"
    )?;
    stream.read_to_end(&mut Vec::new()).map(|_len| ())
}
